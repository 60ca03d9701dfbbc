// wake_parked in Go: a goroutine that is bound to a thread of its own, and sleeps by a bare system
// call so that it keeps its processor, wakes another one through a channel. It needs a processor
// beside the workers'. Go cannot pin: only `free`. Question, method and traps: see sched.c.
package main

import (
	"runtime"
	"schbench"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

var number int64

func sleep(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	syscall.RawSyscall(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&t)), 0, 0)
}

func main() {
	b := schbench.New("wake_parked", 2000, "free")
	runtime.GOMAXPROCS(b.Workers + 1)
	runtime.LockOSThread()
	latency := make([]float64, b.Ops)
	sending := make([]float64, b.Ops)
	wake := make(chan time.Time, 1)
	go func() {
		for i := range latency {
			sent := <-wake
			latency[i] = float64(time.Since(sent).Nanoseconds())
			atomic.StoreInt64(&number, int64(i+1))
		}
	}()
	time.Sleep(20 * time.Millisecond)
	for i := range sending {
		sleep(300 * time.Microsecond)
		begin := time.Now()
		wake <- begin
		sending[i] = float64(time.Since(begin).Nanoseconds())
		for atomic.LoadInt64(&number) != int64(i+1) {
			sleep(100 * time.Microsecond)
		}
	}
	b.ReportLatency(latency, sending)
}
