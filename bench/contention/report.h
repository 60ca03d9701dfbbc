/* report.h - what a program with -DBENCH_COUNT prints, see count.h. */
#ifndef BENCH_COUNT_REPORT_H
#define BENCH_COUNT_REPORT_H

typedef struct count_total {
    uint64_t counts[COUNT_KINDS];
    uint64_t wakes;
    uint64_t steals;
} count_total;

static count_total count_begin;
static count_total count_end;

static count_total count_now(void) {
    count_total total = {{0}, 0, 0};
    sch_metrics_snapshot m;
    for (unsigned i = 0; i < COUNT_THREADS_MAX; i++) {
        for (unsigned k = 0; k < COUNT_KINDS; k++) {
            total.counts[k] += __atomic_load_n(&count_records[i].counts[k], __ATOMIC_RELAXED);
        }
    }
    if (sch_metrics(bench_counted, &m) != 0) bench_die("sch_metrics failed");
    total.wakes = m.total.wake_count + m.remote_wake_count;
    total.steals = m.total.steal_count;
    return total;
}

static void bench_count_begin(void) {
    count_begin = count_now();
}

static void bench_count_end(void) {
    count_end = count_now();
}

static void bench_count_print(double ops) {
    static const char *const names[COUNT_KINDS] = {"rmw", "failed", "barriers", "locks"};
    for (unsigned k = 0; k < COUNT_KINDS; k++) {
        uint64_t n = count_end.counts[k] - count_begin.counts[k];
        printf(" %s_per_op=%.4f", names[k], (double)n / ops);
    }
    printf(" wakes_per_op=%.4f steals_per_op=%.4f",
           (double)(count_end.wakes - count_begin.wakes) / ops,
           (double)(count_end.steals - count_begin.steals) / ops);
}

#endif /* BENCH_COUNT_REPORT_H */
