/* spawn_remote in libuv: jobs for its thread pool, whose ends come back to the loop's thread. There
 * is no other way to have work done by another thread. Question, method and traps: see sched.c. */
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
    char threads[16];
    uv_loop_t loop;
    bench_init(&b, argc, argv, "spawn_remote", "libuv", 100000, "idle");
    snprintf(threads, sizeof threads, "%u", b.workers);
    setenv("UV_THREADPOOL_SIZE", threads, 1);
    if (uv_loop_init(&loop) != 0) bench_die("no loop");
    while (bench_round(&b)) {
        done = 0;
        for (uint64_t begun = 0; begun < b.ops;) {
            unsigned n = b.ops - begun < BATCH ? (unsigned)(b.ops - begun) : BATCH;
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
