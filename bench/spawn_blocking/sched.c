/* spawn_blocking: what does it cost to have a function run by the blocking pool, and to join it?
 *
 * Method   From inside a task.
 *            burst      10,000 jobs are spawned, then joined one by one; the pool as large as the
 *                       contender makes it by default
 *            burst4     the same with at most 4 threads, which is what libuv has by default
 *            roundtrip  one job, joined, again and again. An operation is a job
 * Checked  Every job writes its own cell.
 * Misleads The jobs are empty: whoever starts threads for them pays for nothing. With jobs that
 *          block, more threads are what one wants.
 */
#include "bench_sched.h"

#define BATCH 10000u

static uint32_t cells[BATCH];
static sch_task *jobs[BATCH];

static void job(void *arg) {
    *(uint32_t *)arg += 1u;
}

static void root(void *arg) {
    bench *b = arg;
    unsigned batch = bench_is(b, "roundtrip") ? 1 : BATCH;
    while (bench_round(b)) {
        uint64_t done = 0;
        for (uint64_t begun = 0; begun < b->ops;) {
            unsigned n = b->ops - begun < batch ? (unsigned)(b->ops - begun) : batch;
            for (unsigned i = 0; i < n; i++) {
                cells[i] = 0;
                jobs[i] = sch_spawn_blocking(NULL, job, &cells[i]);
                if (jobs[i] == NULL) bench_die("sch_spawn_blocking failed");
            }
            for (unsigned i = 0; i < n; i++) {
                if (sch_join(jobs[i]) != 0) bench_die("sch_join failed");
                done += cells[i];
            }
            begun += n;
        }
        bench_done(b, done);
    }
}

int main(int argc, char **argv) {
    static bench b;
    sch_config config = {0};
    bench_init(&b, argc, argv, "spawn_blocking", "sched.h", 20000, "burst burst4 roundtrip");
    config.workers = b.workers;
    config.no_io = true;
    config.pin_workers = b.pin;
    config.max_blocking_threads = bench_is(&b, "burst4") ? 4 : 0;
    sch_runtime *rt = sch_runtime_new(&config);
    if (rt == NULL) bench_die("no runtime");
    bench_in_task(rt, root, &b);
    return bench_report(&b);
}
