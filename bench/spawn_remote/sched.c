/* spawn_remote: what does it cost to spawn tasks from a plain thread and to join each?
 *
 * Method   The main thread spawns 10,000 empty tasks, then joins them one by one, and starts again
 *          (Tokio's spawn_many_remote).
 *            idle  the workers have nothing else to do
 *            busy  two tasks a worker compute about 1 us and yield, for ever
 * Checked  Every task writes its own cell.
 * Misleads Wall time: spawner and workers overlap, so it is the slower side that is measured, and a
 *          CPU is needed for each. With as many workers as CPUs somebody waits for a CPU. In `busy`
 *          the tasks queue behind the busy ones, so fairness between queues decides, not the spawn.
 */
#include "bench_sched.h"

#define BATCH 10000u

static uint32_t cells[BATCH];
static sch_task *tasks[BATCH];
static atomic_bool stop;

static void leaf(void *arg) {
    *(uint32_t *)arg += 1u;
}

static void busy(void *arg) {
    (void)arg;
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        uint64_t x = 88172645463325252u;
        for (unsigned i = 0; i < 600; i++) { /* a chain of dependent shifts: about 1 us */
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
        }
        volatile uint64_t sink = x;
        (void)sink;
        if (sch_yield_now() != 0) bench_die("sch_yield_now failed");
    }
}

int main(int argc, char **argv) {
    static bench b;
    bench_init(&b, argc, argv, "spawn_remote", "sched.h", 100000, "idle busy");
    sch_runtime *rt = bench_runtime(&b);
    unsigned num_busy = bench_is(&b, "busy") ? 2 * b.workers : 0;
    for (unsigned i = 0; i < num_busy; i++) {
        if (sch_go(rt, busy, NULL) != 0) bench_die("sch_go failed");
    }
    while (bench_round(&b)) {
        uint64_t done = 0;
        for (uint64_t begun = 0; begun < b.ops;) {
            unsigned n = b.ops - begun < BATCH ? (unsigned)(b.ops - begun) : BATCH;
            for (unsigned i = 0; i < n; i++) {
                cells[i] = 0;
                tasks[i] = sch_spawn(rt, leaf, &cells[i]);
                if (tasks[i] == NULL) bench_die("sch_spawn failed");
            }
            for (unsigned i = 0; i < n; i++) {
                if (sch_join(tasks[i]) != 0) bench_die("sch_join failed");
                done += cells[i];
            }
            begun += n;
        }
        bench_done(&b, done);
    }
    atomic_store(&stop, true);
    sch_runtime_free(rt);
    return bench_report(&b);
}
