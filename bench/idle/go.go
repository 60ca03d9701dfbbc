// idle in Go. The main goroutine sleeps by a bare system call. Question and method: see sched.c.
package main

import (
	"fmt"
	"runtime"
	"schbench"
	"syscall"
	"time"
)

func switches() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return int64(u.Nvcsw)
}

func main() {
	b := schbench.New("idle", 1, "second")
	b.Ops = 1
	wake, woken := make(chan int), make(chan int)
	go func() { woken <- <-wake }()
	time.Sleep(200 * time.Millisecond)
	runtime.LockOSThread()
	wakes := int64(0)
	for b.Round() {
		before := switches()
		t := syscall.NsecToTimespec(int64(time.Second))
		syscall.Nanosleep(&t, nil)
		wakes = switches() - before - 1
		b.Done(1)
	}
	wake <- 1
	b.Bad += <-woken - 1
	fmt.Printf("wakes_per_op=%d ", wakes)
	b.Report()
}
