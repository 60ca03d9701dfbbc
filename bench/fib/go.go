// fib in Go: a goroutine for one side, a channel for its result. Question, method and traps: see
// fib.h.
package main

import "schbench"

func fibOf(n int) int {
	a, b := 0, 1
	for ; n > 0; n-- {
		a, b = b, a+b
	}
	return a
}

func fib(n int) int {
	if n < 2 {
		return n
	}
	result := make(chan int, 1)
	go func() { result <- fib(n - 1) }()
	b := fib(n - 2)
	return <-result + b
}

func main() {
	b := schbench.New("fib", 4000000, "fork")
	if b.Ops > 200000 { // a goroutine and its channel cost 700 ns
		b.Ops = 200000
	}
	n := 2
	for fibOf(n+2)-1 <= b.Ops {
		n++
	}
	b.Ops = fibOf(n+1) - 1
	for b.Round() {
		done := 0
		if fib(n) == fibOf(n) {
			done = b.Ops
		}
		b.Done(done)
	}
	b.Report()
}
