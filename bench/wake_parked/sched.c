/* wake_parked: how long until a task runs that a plain thread wakes, when all workers sleep?
 *
 * Method   The main thread sleeps 300 us, long enough for the worker to park, notes the time, wakes
 *          the one task there is and sleeps again. The task notes when it runs. ns_per_op is the
 *          median of these latencies, send_ns the median time that sch_wake took its caller.
 *            cross  the worker is pinned to one CPU, the sender to the next
 *            free   the kernel places both
 * Checked  Every sample must have arrived before the next is taken.
 * Misleads Left free, sender and sleeper often share a CPU, which is several times quicker than a
 *          wake across CPUs and says nothing about one; the figure jumps between the two. futex.c
 *          beside it is the floor: the same with nothing but a futex. In a virtual machine the
 *          wake across CPUs is mostly the host's.
 */
#include "bench_sched.h"

#define SAMPLES_MAX 100000u

static _Atomic uint64_t sent;   /* when the wake began */
static _Atomic uint64_t number; /* samples that arrived */
static double latency[SAMPLES_MAX];
static double sending[SAMPLES_MAX];

static void sleeper(void *arg) {
    uint64_t samples = *(uint64_t *)arg;
    for (uint64_t i = 0; i < samples; i++) {
        if (sch_suspend() != 0) bench_die("sch_suspend failed");
        latency[i] = (double)(bench_now() - atomic_load(&sent));
        atomic_store(&number, i + 1);
    }
}

int main(int argc, char **argv) {
    static bench b;
    bench_init(&b, argc, argv, "wake_parked", "sched.h", 2000, "cross free");
    b.pin = bench_is(&b, "cross");
    if (b.ops > SAMPLES_MAX) b.ops = SAMPLES_MAX;
    sch_runtime *rt = bench_runtime(&b);
    if (b.pin) bench_pin_self(b.workers); /* the CPU after the last worker's */
    sch_task *task = sch_spawn(rt, sleeper, &b.ops);
    if (task == NULL) bench_die("sch_spawn failed");
    bench_sleep(20000000);
    for (uint64_t i = 0; i < b.ops; i++) {
        bench_sleep(300000);
        uint64_t begin = bench_now();
        atomic_store(&sent, begin);
        sch_wake(task);
        sending[i] = (double)(bench_now() - begin);
        while (atomic_load(&number) != i + 1) bench_sleep(100000);
    }
    if (sch_join(task) != 0) bench_die("sch_join failed");
    sch_runtime_free(rt);
    b.extra_name = "send_ns";
    b.extra = bench_percentile(sending, (size_t)b.ops, 50.0);
    return bench_report_latency(&b, latency, (size_t)b.ops);
}
