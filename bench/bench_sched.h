/* bench_sched.h - what the programs that measure sched.h share. Holds its implementation. */
#ifndef BENCH_SCHED_H
#define BENCH_SCHED_H

#include "bench.h"
#include <stdatomic.h>

#ifdef BENCH_COUNT
#define SCH_PLATFORM_HEADER "contention/count.h"
#endif
#define SCHED_IMPLEMENTATION
#include "sched.h"

#ifdef BENCH_COUNT
static sch_runtime *bench_counted;
#include "contention/report.h"
#endif

static inline sch_runtime *bench_runtime(const bench *b) {
    sch_config config = {0};
    config.workers = b->workers;
    config.no_lifo = b->no_lifo;
    config.no_io = true; /* the peers run without their drivers too */
    config.pin_workers = b->pin;
    sch_runtime *rt = sch_runtime_new(&config);
    if (rt == NULL) bench_die("no runtime");
    if (sch_num_workers(rt) != b->workers) bench_die("fewer workers than asked for");
#ifdef BENCH_COUNT
    bench_counted = rt;
#endif
    return rt;
}

/* Run the whole benchmark inside one task, so that it spawns on a busy worker. The handle is
 * released after the runtime is gone: a task that woke the root may still be inside sch_wake when
 * the root has ended. */
static inline void bench_in_task(sch_runtime *rt, sch_fn fn, void *arg) {
    sch_task *root = sch_spawn(rt, fn, arg);
    if (root == NULL) bench_die("no root task");
    sch_retain(root);
    if (sch_join(root) != 0) bench_die("the root task was lost");
    sch_runtime_free(rt);
    sch_release(root);
}

#endif /* BENCH_SCHED_H */
