// timers in Go. Question, method and traps: see sched.c.
package main

import (
	"fmt"
	"runtime"
	"schbench"
	"sort"
	"sync/atomic"
	"time"
)

const ringSize = 10000

var armed, done, noted int64
var stopping int32

func cancel(ops int) int {
	pairs := 0
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	for i := 0; i < ops; i++ {
		timer.Reset(time.Second + time.Duration(i%1000)*time.Millisecond)
		if timer.Stop() {
			pairs++
		}
	}
	return pairs
}

func allWait() {
	for atomic.LoadInt64(&armed) < ringSize {
		runtime.Gosched()
	}
}

func completeAll(ring []chan struct{}) {
	allWait()
	atomic.StoreInt64(&armed, 0)
	for _, c := range ring {
		c <- struct{}{}
	}
}

func waitInRing(c <-chan struct{}) {
	timer := time.NewTimer(10 * time.Second)
	for {
		atomic.AddInt64(&armed, 1)
		select {
		case <-c:
		case <-timer.C:
			return
		}
		if atomic.LoadInt32(&stopping) != 0 {
			return
		}
		atomic.AddInt64(&done, 1)
		if !timer.Stop() {
			return
		}
		timer.Reset(10 * time.Second)
	}
}

func ring(ops int, channels []chan struct{}) int {
	atomic.StoreInt64(&done, 0)
	for i := 0; i < ops; i += ringSize {
		completeAll(channels)
	}
	allWait()
	return int(atomic.LoadInt64(&done))
}

// How late each was, in ns; -1: early.
func fire(ops int) []float64 {
	late := make([]float64, ops)
	allRan := make(chan struct{})
	begin := time.Now()
	atomic.StoreInt64(&done, 0)
	atomic.StoreInt64(&noted, 0)
	for i := 0; i < ops; i++ {
		go func(i int) {
			spread := (uint64(i) * 2654435761 & 0xffffffff) * 1000000000 >> 32
			due := begin.Add(time.Second + time.Duration(spread))
			time.Sleep(time.Until(due))
			late[atomic.AddInt64(&noted, 1)-1] = float64(time.Since(due))
			if atomic.AddInt64(&done, 1) == int64(ops) {
				close(allRan)
			}
		}(i)
	}
	<-allRan
	return late
}

func lateness(ops int) []float64 {
	late := make([]float64, ops)
	random := uint32(1)
	for i := range late {
		random = random*1664525 + 1013904223
		due := time.Now().Add(200*time.Microsecond + time.Duration(random%9800000))
		time.Sleep(time.Until(due))
		late[i] = float64(time.Since(due))
	}
	return late
}

func memory(b *schbench.Bench) {
	rss, table := schbench.StatusKiB("VmRSS:"), schbench.StatusKiB("VmPTE:")
	for i := 0; i < b.Ops; i++ {
		go func() {
			atomic.AddInt64(&armed, 1)
			time.Sleep(time.Hour)
		}()
	}
	for atomic.LoadInt64(&armed) < int64(b.Ops) {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond)
	rss, table = schbench.StatusKiB("VmRSS:")-rss, schbench.StatusKiB("VmPTE:")-table
	each := 1024 / float64(b.Ops)
	b.ReportBytes(float64(rss)*each, float64(table)*each)
}

func main() {
	b := schbench.New("timers", 1000000, "cancel", "ring", "fire", "lateness", "memory")
	switch b.Variant {
	case "memory":
		memory(b)
	case "lateness":
		if b.Ops > 200 {
			b.Ops = 200
		}
		late := lateness(b.Ops)
		sort.Float64s(late)
		if late[0] < 0 {
			b.Bad++
		}
		b.ReportLatency(late, nil)
	}
	var channels []chan struct{}
	if b.Variant == "ring" {
		b.Ops -= b.Ops % ringSize
		for i := 0; i < ringSize; i++ {
			c := make(chan struct{}, 1)
			channels = append(channels, c)
			go waitInRing(c)
		}
		allWait()
	}
	var late []float64
	for b.Round() {
		switch b.Variant {
		case "cancel":
			b.Done(cancel(b.Ops))
		case "ring":
			b.Done(ring(b.Ops, channels))
		default:
			late = fire(b.Ops)
			b.Done(int(atomic.LoadInt64(&done)))
		}
	}
	if late != nil {
		sum := 0.0
		for _, ns := range late {
			sum += ns
		}
		sort.Float64s(late)
		if late[0] < 0 {
			b.Bad++
		}
		fmt.Printf("late_mean=%.0f p99=%.0f ", sum/float64(len(late)), schbench.Percentile(late, 99))
	}
	if b.Variant == "ring" {
		atomic.StoreInt32(&stopping, 1)
		completeAll(channels)
	}
	b.Report()
}
