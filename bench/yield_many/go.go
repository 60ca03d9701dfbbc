// yield_many in Go. Question, method and traps: see sched.c.
package main

import (
	"runtime"
	"schbench"
)

const tasks = 200

func main() {
	b := schbench.New("yield_many", 200000, "stackful")
	results := make(chan int, tasks)
	for b.Round() {
		for i := 0; i < tasks; i++ {
			want := b.Ops / tasks
			if i < b.Ops%tasks {
				want++
			}
			go func() {
				done := 0
				for done < want {
					runtime.Gosched()
					done++
				}
				results <- done
			}()
		}
		done := 0
		for i := 0; i < tasks; i++ {
			done += <-results
		}
		b.Done(done)
	}
	b.Report()
}
