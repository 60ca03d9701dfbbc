/* cost.c - what it costs to see inside.
 *
 *     cost spawn MODE TASKS ROUNDS   ns for a task that is spawned and run: the least of ROUNDS.
 *                                    MODE: off, trace, stopped (a trace that was), times
 *                                    (config.task_times), watch (config.stall_ns)
 *     cost calls                     what the functions take that look
 *
 * One worker, so that nothing is woken or stolen. With ROUNDS 1 for callgrind, which counts. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCHED_IMPLEMENTATION
#include "../../sched.h"

#define BATCH 200u /* fits into the ring of a core */

static uint64_t tasks, rounds, least = UINT64_MAX;

static void empty(void *arg) { (void)arg; }

static void spawn_all(void *arg) {
    (void)arg;
    for (uint64_t round = 0; round < rounds; round++) {
        uint64_t start = sch_now();
        for (uint64_t n = 0; n < tasks; n += BATCH) {
            for (unsigned i = 0; i < BATCH; i++) (void)sch_go(NULL, empty, NULL);
            (void)sch_yield_now();
        }
        start = sch_now() - start;
        if (start < least) least = start;
    }
}

static void on_stall(const sch_stall *stall, void *user) { (void)stall, (void)user; }

static int spawn(const char *mode) {
    sch_config config;
    sch_runtime *rt;
    memset(&config, 0, sizeof config);
    config.workers = 1;
    config.task_times = strcmp(mode, "times") == 0;
    if (strcmp(mode, "watch") == 0) config.stall_ns = SCH_SECOND, config.on_stall = on_stall;
    rt = sch_runtime_new(&config);
    if (!rt) return EXIT_FAILURE;
    if (strcmp(mode, "trace") == 0 || strcmp(mode, "stopped") == 0) (void)sch_trace_start(rt);
    if (strcmp(mode, "stopped") == 0) (void)sch_trace_stop(rt);
    (void)sch_join(sch_spawn(rt, spawn_all, NULL));
    printf("%.1f\n", (double)least / (double)tasks);
    sch_runtime_free(rt);
    return EXIT_SUCCESS;
}

static uint64_t written;

static int swallow(const char *text, size_t length, void *user) {
    (void)text, (void)user;
    written += length;
    return 0;
}

static void sleep_long(void *arg) {
    (void)arg;
    (void)sch_sleep(SCH_FOREVER);
}

static int walked(const sch_task_info *info, void *user) {
    (void)info;
    ++*(unsigned *)user;
    return 0;
}

/* The least of some calls. */
#define TIME(what, unit, name, call) \
    do { \
        uint64_t best = UINT64_MAX; \
        for (int turn = 0; turn < 20; turn++) { \
            uint64_t start = sch_now(); \
            written = 0; \
            (void)(call); \
            start = sch_now() - start; \
            if (start < best) best = start; \
        } \
        printf("%-52s %8.1f " name, what, (double)best / (unit)); \
        if (written > 0) printf(", %llu bytes", (unsigned long long)written); \
        putchar('\n'); \
    } while (0)

static int calls(void) {
    enum { SLEEPERS = 10000 };
    static sch_metrics_snapshot m;
    sch_config config;
    sch_runtime *rt;
    unsigned n = 0;
    memset(&config, 0, sizeof config);
    config.workers = 2;
    config.task_times = true;
    rt = sch_runtime_new(&config);
    if (!rt) return EXIT_FAILURE;
    TIME("sch_metrics, 2 cores", 1e3, "us", sch_metrics(rt, &m));
    TIME("sch_percentile of all workers", 1e3, "us",
         sch_percentile(rt, SCH_POLL_TIME, SCH_ALL_WORKERS, 99) > 0);
    TIME("sch_metrics_write, with histograms", 1e3, "us",
         sch_metrics_write(rt, SCH_PROMETHEUS, swallow, NULL));
    (void)sch_trace_start(rt);
    rounds = 1, tasks = 40000;
    (void)sch_join(sch_spawn(rt, spawn_all, NULL));
    (void)sch_trace_stop(rt);
    TIME("sch_trace_write, a full ring of 16384 events", 1e6, "ms",
         sch_trace_write(rt, swallow, NULL));
    for (int i = 0; i < SLEEPERS; i++) (void)sch_go(rt, sleep_long, NULL);
    do {
        (void)sch_sleep(SCH_MILLISECOND);
        (void)sch_metrics(rt, &m);
    } while (m.num_waiting_tasks < SLEEPERS);
    TIME("sch_each_task, 10000 tasks that wait on stacks", 1e6, "ms",
         sch_each_task(rt, walked, &n));
    TIME("sch_dump, the same", 1e6, "ms", sch_dump(rt, 0, swallow, NULL));
    sch_runtime_free(rt);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "calls") == 0) return calls();
    if (argc != 5 || strcmp(argv[1], "spawn") != 0) return 2;
    tasks = strtoull(argv[3], NULL, 0), rounds = strtoull(argv[4], NULL, 0);
    tasks = tasks / BATCH * BATCH;
    return tasks > 0 && rounds > 0 ? spawn(argv[2]) : 2;
}
