/* story_unbalanced - two workers, and one of them does most of the work. docs/observe.md tells the
 * story.
 *
 *     cc -std=c11 -O2 -g docs/examples/story_unbalanced.c -o build/story_unbalanced -pthread
 *     build/story_unbalanced [--fixed] [TRACE.json]
 *
 * Bills are made for 16 customers. One of them has 320 of the 440 items. At first there is a task
 * for each customer; --fixed: a task for every eight items, whoever's they are.
 */
#define SCHED_IMPLEMENTATION
#include "../../sched.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CUSTOMERS 16
#define PIECE 8u

static const sch_spawn_desc bills_desc = {"bills", SCH_HERE, 0, NULL};
static const sch_spawn_desc customer_desc = {"customer", SCH_HERE, 0, NULL};
static const sch_spawn_desc piece_desc = {"piece", SCH_HERE, 0, NULL};
static bool fixed;
static unsigned items_by_worker[2]; /* atomic */

static double ms(uint64_t ns) { return (double)ns / 1e6; }

/* An item: half a millisecond of computing. */
static void make_items(void *count) {
    for (unsigned i = 0; i < *(unsigned *)count; i++) {
        uint64_t until = sch_now() + 500 * SCH_MICROSECOND;
        while (sch_now() < until) continue;
        __atomic_fetch_add(&items_by_worker[sch_worker_index()], 1, __ATOMIC_RELAXED);
    }
}

static void make_bills(void *arg) {
    static unsigned counts[CUSTOMERS], eight = PIECE;
    sch_task *tasks[64];
    unsigned n = 0;
    (void)arg;
    for (unsigned i = 0; i < CUSTOMERS; i++) {
        counts[i] = i == 0 ? 320 : PIECE;
        if (fixed) {
            for (unsigned done = 0; done < counts[i]; done += PIECE) {
                tasks[n++] = sch_spawn_with(NULL, &piece_desc, make_items, &eight);
            }
        } else {
            tasks[n++] = sch_spawn_with(NULL, &customer_desc, make_items, &counts[i]);
        }
    }
    for (unsigned i = 0; i < n; i++) (void)sch_join(tasks[i]);
}

static int print(const char *text, size_t length, void *file) {
    return fwrite(text, 1, length, (FILE *)file) == length ? 0 : -EIO;
}

static void write_trace(sch_runtime *rt, const char *path) {
    FILE *file = fopen(path, "w");
    if (file && sch_trace_write(rt, print, file) == 0) printf("trace: %s\n", path);
    if (file) fclose(file);
}

int main(int argc, char **argv) {
    sch_config config;
    sch_runtime *rt;
    uint64_t start;
    unsigned all;
    fixed = argc > 1 && strcmp(argv[1], "--fixed") == 0;
    memset(&config, 0, sizeof config);
    config.workers = 2;
    config.task_times = true; /* for the percentiles */
    rt = sch_runtime_new(&config);
    if (!rt || sch_trace_start(rt) != 0) return EXIT_FAILURE;

    start = sch_now();
    (void)sch_join(sch_spawn_with(rt, &bills_desc, make_bills, NULL));
    printf("all bills after %.0f ms\n", ms(sch_now() - start));
    (void)sch_trace_stop(rt);
    (void)sch_runtime_shutdown(rt, SCH_FOREVER); /* then no counter lags */

    all = items_by_worker[0] + items_by_worker[1];
    for (unsigned i = 0; i < 2; i++) {
        sch_worker_metrics_snapshot w;
        (void)sch_worker_metrics(rt, i, &w);
        printf("worker %u: %2u%% of the items, %2llu polls, busy %3.0f ms, stole %2llu\n", i,
               items_by_worker[i] * 100 / all, (unsigned long long)w.poll_count, ms(w.busy_ns),
               (unsigned long long)w.steal_count);
    }
    printf("poll time: half up to %.1f ms, 99%% up to %.1f ms\n",
           ms(sch_percentile(rt, SCH_POLL_TIME, SCH_ALL_WORKERS, 50)),
           ms(sch_percentile(rt, SCH_POLL_TIME, SCH_ALL_WORKERS, 99)));
    if (argc > 1 + fixed) write_trace(rt, argv[1 + fixed]);
    sch_runtime_free(rt);
    return EXIT_SUCCESS;
}
