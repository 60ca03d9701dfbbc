// memory in Go: goroutines that wait on a channel of their own. Question, method and traps: see
// sched.c. The channels are made before, they stand for the handles.
package main

import (
	"schbench"
	"sync/atomic"
	"time"
)

func main() {
	b := schbench.New("memory", 1000000, "stackful")
	if b.Ops == 1000000 {
		b.Ops = 100000
	}
	var waiting, done int64
	wake := make([]chan struct{}, b.Ops)
	for i := range wake {
		wake[i] = make(chan struct{}, 1)
	}
	rss, table := schbench.StatusKiB("VmRSS:"), schbench.StatusKiB("VmPTE:")
	ended := make(chan struct{}, 1)
	for i := range wake {
		c := wake[i]
		go func() {
			atomic.AddInt64(&waiting, 1)
			<-c
			if int(atomic.AddInt64(&done, 1)) == b.Ops {
				ended <- struct{}{}
			}
		}()
	}
	for int(atomic.LoadInt64(&waiting)) < b.Ops {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond)
	rss, table = schbench.StatusKiB("VmRSS:")-rss, schbench.StatusKiB("VmPTE:")-table
	for i := range wake {
		wake[i] <- struct{}{}
	}
	<-ended
	b.Bad = b.Ops - int(done)
	b.ReportBytes(float64(rss)*1024/float64(b.Ops), float64(table)*1024/float64(b.Ops))
}
