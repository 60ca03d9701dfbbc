// Package schbench is what every Go contender shares; the same arguments, rounds and result line as
// bench.h.
package schbench

import (
	"fmt"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const skip = 77

type Bench struct {
	Name, Contender, Variant string
	Workers                  int
	Ops                      int
	Bad                      int
	rounds, warmup, round    int
	wallBegin                time.Time
	cpuBegin                 int64
	wall, cpu                []float64
}

func usage() syscall.Rusage {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return u
}

// CPU time of the process in nanoseconds; microseconds is what the system call gives.
func cpuNow() int64 {
	u := usage()
	return u.Utime.Nano() + u.Stime.Nano()
}

// StatusKiB reads a line of /proc/self/status, for instance "VmRSS:"; -1 where there is none.
func StatusKiB(key string) int {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return -1
	}
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, key) {
			n, err := strconv.Atoi(strings.Fields(line[len(key):])[0])
			if err == nil {
				return n
			}
		}
	}
	return -1
}

// New takes the variants' names, the first is the default. Go cannot pin its workers: --pin is
// accepted and does nothing.
func New(name string, ops int, variants ...string) *Bench {
	b := &Bench{Name: name, Contender: "go", Variant: variants[0], Workers: 1, Ops: ops,
		rounds: 5, warmup: 1}
	for i := 1; i < len(os.Args); i++ {
		arg := os.Args[i]
		if arg == "--pin" {
			continue
		}
		i++
		value := os.Args[i]
		var number *int
		switch arg {
		case "--workers":
			number = &b.Workers
		case "--ops":
			number = &b.Ops
		case "--rounds":
			number = &b.rounds
		case "--warmup":
			number = &b.warmup
		case "--variant":
			b.Variant = value
		case "--contender":
			b.Contender = value
		default:
			panic("unknown argument " + arg)
		}
		if number != nil {
			n, err := strconv.Atoi(value)
			if err != nil {
				panic(arg + " wants a number")
			}
			*number = n
		}
	}
	known := false
	for _, v := range variants {
		known = known || v == b.Variant
	}
	if !known {
		os.Exit(skip)
	}
	runtime.GOMAXPROCS(b.Workers)
	return b
}

func (b *Bench) Round() bool {
	if b.round == b.warmup+b.rounds {
		return false
	}
	b.round++
	b.cpuBegin = cpuNow()
	b.wallBegin = time.Now()
	return true
}

func (b *Bench) Done(done int) {
	wall := float64(time.Since(b.wallBegin).Nanoseconds())
	cpu := float64(cpuNow() - b.cpuBegin)
	if done != b.Ops {
		b.Bad++
	}
	if b.round > b.warmup {
		b.wall = append(b.wall, wall/float64(b.Ops))
		b.cpu = append(b.cpu, cpu/float64(b.Ops))
	}
}

func median(v []float64) float64 {
	sort.Float64s(v)
	n := len(v)
	if n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[n/2]
}

func (b *Bench) head() {
	fmt.Printf("case=%s variant=%s contender=%s workers=%d ops=%d", b.Name, b.Variant, b.Contender,
		b.Workers, b.Ops)
}

func (b *Bench) finish() {
	check, status := "ok", 0
	if b.Bad != 0 {
		check, status = "BAD", 1
	}
	fmt.Printf(" rss_kib=%d check=%s\n", usage().Maxrss, check)
	os.Exit(status)
}

func (b *Bench) Report() {
	cpus := 0.0
	for i := range b.wall {
		cpus += b.cpu[i] / b.wall[i] / float64(len(b.wall))
	}
	wall, cpu := median(b.wall), median(b.cpu)
	b.head()
	fmt.Printf(" rounds=%d ns_per_op=%.2f min=%.2f max=%.2f cpu_ns_per_op=%.2f cpus=%.2f",
		len(b.wall), wall, b.wall[0], b.wall[len(b.wall)-1], cpu, cpus)
	b.finish()
}

// Percentile of what is sorted; p in percent.
func Percentile(v []float64, p float64) float64 {
	return v[int(p/100*float64(len(v)-1)+0.5)]
}

// ReportLatency is for latencies: one value an operation instead of a mean over a round. Sorts.
// sending may be nil.
func (b *Bench) ReportLatency(ns, sending []float64) {
	p50 := median(ns)
	b.head()
	fmt.Printf(" rounds=1 ns_per_op=%.0f min=%.0f max=%.0f p90=%.0f p99=%.0f", p50, ns[0],
		ns[len(ns)-1], Percentile(ns, 90), Percentile(ns, 99))
	if len(sending) > 0 {
		fmt.Printf(" send_ns=%.1f", median(sending))
	}
	b.finish()
}

// ReportBytes is for memory: bytes instead of nanoseconds.
func (b *Bench) ReportBytes(bytes, tableBytes float64) {
	b.head()
	fmt.Printf(" rounds=1 bytes_per_op=%.1f table_bytes_per_op=%.1f", bytes, tableBytes)
	b.finish()
}
