// spawn_local in Go. Question, method and traps: see sched.c. A goroutine cannot be joined, so
// there is no joined variant.
package main

import (
	"schbench"
	"sync/atomic"
)

var left int32
var allRan = make(chan struct{}, 1)

func leaf() {
	if atomic.AddInt32(&left, -1) == 0 {
		allRan <- struct{}{}
	}
}

func main() {
	b := schbench.New("spawn_local", 1000000, "detached", "detached_10k")
	batch := 200
	if b.Variant == "detached_10k" {
		batch = 10000
	}
	for b.Round() {
		done := 0
		for begun := 0; begun < b.Ops; {
			n := b.Ops - begun
			if n > batch {
				n = batch
			}
			atomic.StoreInt32(&left, int32(n))
			for i := 0; i < n; i++ {
				go leaf()
			}
			<-allRan
			done += n - int(atomic.LoadInt32(&left))
			begun += n
		}
		b.Done(done)
	}
	b.Report()
}
