// channel in Go. Question, method and traps: see tokio.rs.
package main

import "schbench"

func roundtrip(ops int) int {
	ask, answer := make(chan int, 1), make(chan int, 1)
	go func() {
		for n := range ask {
			answer <- n + 1
		}
		close(answer)
	}()
	done := 0
	for i := 0; i < ops; i++ {
		ask <- i
		if <-answer == i+1 {
			done++
		}
	}
	close(ask)
	<-answer
	return done
}

func stream(ops int) int {
	messages, result := make(chan int, 128), make(chan int)
	go func() {
		done := 0
		for n := range messages {
			if n == done {
				done++
			}
		}
		result <- done
	}()
	for i := 0; i < ops; i++ {
		messages <- i
	}
	close(messages)
	return <-result
}

func main() {
	b := schbench.New("channel", 1000000, "roundtrip", "stream")
	for b.Round() {
		if b.Variant == "roundtrip" {
			b.Done(roundtrip(b.Ops))
		} else {
			b.Done(stream(b.Ops))
		}
	}
	b.Report()
}
