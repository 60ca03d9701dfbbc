// chained_spawn in Go. Question, method and traps: see sched.c.
package main

import "schbench"

var ran int
var allRan = make(chan struct{}, 1)

func link(left int) {
	ran++
	if left == 1 {
		allRan <- struct{}{}
	} else {
		go link(left - 1)
	}
}

func main() {
	b := schbench.New("chained_spawn", 1000000, "chain")
	for b.Round() {
		ran = 0
		for begun := 0; begun < b.Ops; {
			n := b.Ops - begun
			if n > 1000 {
				n = 1000
			}
			go link(n)
			<-allRan
			begun += n
		}
		b.Done(ran)
	}
	b.Report()
}
