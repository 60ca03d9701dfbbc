/* spawn_blocking in libuv: uv_queue_work from the loop's thread; the pool has 4 threads. Question,
 * method and traps: see sched.c. */
#include "bench.h"
#include <uv.h>

#define BATCH 10000u

static uv_work_t jobs[BATCH];
static uint32_t cells[BATCH];
static uint64_t done;

static void run(uv_work_t *job) {
    cells[job - jobs] += 1u;
}

static void join(uv_work_t *job, int status) {
    if (status == 0) done += cells[job - jobs];
}

int main(int argc, char **argv) {
    static bench b;
    uv_loop_t loop;
    bench_init(&b, argc, argv, "spawn_blocking", "libuv", 20000, "burst burst4 roundtrip");
    if (b.workers != 1) return BENCH_SKIP;
    if (uv_loop_init(&loop) != 0) bench_die("no loop");
    unsigned batch = bench_is(&b, "roundtrip") ? 1 : BATCH;
    while (bench_round(&b)) {
        done = 0;
        for (uint64_t begun = 0; begun < b.ops;) {
            unsigned n = b.ops - begun < batch ? (unsigned)(b.ops - begun) : batch;
            for (unsigned i = 0; i < n; i++) {
                cells[i] = 0;
                if (uv_queue_work(&loop, &jobs[i], run, join) != 0) bench_die("no job");
            }
            uv_run(&loop, UV_RUN_DEFAULT);
            begun += n;
        }
        bench_done(&b, done);
    }
    return bench_report(&b);
}
