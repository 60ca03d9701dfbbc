// ping_pong in Go, over unbuffered channels. The variants with poll tasks are those without.
// Question, method and traps: see sched.c.
package main

import (
	"schbench"
	"strings"
	"sync/atomic"
)

var left int32
var allRan = make(chan struct{}, 1)

func pair() {
	ping, pong := make(chan struct{}), make(chan struct{})
	go func() {
		<-ping
		pong <- struct{}{}
	}()
	ping <- struct{}{}
	<-pong
	if atomic.AddInt32(&left, -1) == 0 {
		allRan <- struct{}{}
	}
}

func roundPair(ops int) int {
	done := 0
	for begun := 0; begun < ops; {
		n := ops - begun
		if n > 1000 {
			n = 1000
		}
		atomic.StoreInt32(&left, int32(n))
		for i := 0; i < n; i++ {
			go pair()
		}
		<-allRan
		done += n - int(atomic.LoadInt32(&left))
		begun += n
	}
	return done
}

func roundRoundtrip(ops int) int {
	results := make(chan int, 100)
	for i := 0; i < 100; i++ {
		want := ops / 100
		if i < ops%100 {
			want++
		}
		ping, pong := make(chan struct{}), make(chan struct{})
		go func() {
			for i := 0; i < want; i++ {
				<-ping
				pong <- struct{}{}
			}
		}()
		go func() {
			done := 0
			for i := 0; i < want; i++ {
				ping <- struct{}{}
				<-pong
				done++
			}
			results <- done
		}()
	}
	done := 0
	for i := 0; i < 100; i++ {
		done += <-results
	}
	return done
}

func main() {
	b := schbench.New("ping_pong", 100000, "pair", "roundtrip", "pair_poll", "roundtrip_poll")
	for b.Round() {
		if strings.HasPrefix(b.Variant, "pair") {
			b.Done(roundPair(b.Ops))
		} else {
			b.Done(roundRoundtrip(b.Ops))
		}
	}
	b.Report()
}
