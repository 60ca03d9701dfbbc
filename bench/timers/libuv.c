/* timers in libuv, on one loop and without tasks. Its unit is a millisecond, and a timer set for n
 * of them may fire up to one early: the times are rounded up here. Method: sched.c. */
#include "bench.h"
#include <uv.h>

#define RING 10000u
#define LATENESS_MAX 200u

static bench b;
static uv_loop_t loop;
static uint64_t fired;
static uint64_t begin;
static double *late;

typedef struct sleeper {
    uv_timer_t timer;
    uint64_t due;
} sleeper;

static void on_never(uv_timer_t *timer) {
    (void)timer;
    b.bad++;
}

static void start_at(sleeper *s, uint64_t due, uv_timer_cb fn) {
    s->due = due;
    uint64_t ms = (due + 999999u) / 1000000u;
    if (uv_timer_start(&s->timer, fn, ms > uv_now(&loop) ? ms - uv_now(&loop) : 0, 0) != 0) {
        bench_die("uv_timer_start failed");
    }
}

static void on_fired(uv_timer_t *timer) {
    const sleeper *s = (const sleeper *)(const void *)timer;
    uint64_t now = bench_now();
    if (now < s->due) b.bad++;
    late[fired++] = (double)now - (double)s->due;
}

static uint64_t round_cancel(uint64_t ops) {
    uv_timer_t timer;
    uint64_t pairs = 0;
    uv_timer_init(&loop, &timer);
    for (uint64_t i = 0; i < ops; i++) {
        bool good = uv_timer_start(&timer, on_never, 1000 + i % 1000u, 0) == 0;
        pairs += good && uv_is_active((uv_handle_t *)&timer) && uv_timer_stop(&timer) == 0;
    }
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    return pairs;
}

static uint64_t round_ring(uint64_t ops) {
    static uv_timer_t ring[RING];
    uint64_t pairs = 0;
    for (unsigned i = 0; i < RING; i++) uv_timer_init(&loop, &ring[i]);
    for (uint64_t i = 0; i < ops; i++) {
        if (i % 256u == 0) uv_update_time(&loop);
        pairs += uv_timer_start(&ring[i % RING], on_never, 10000, 0) == 0;
    }
    for (unsigned i = 0; i < RING; i++) uv_close((uv_handle_t *)&ring[i], NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    return pairs;
}

static void on_closed(uv_handle_t *handle) {
    free(handle);
}

static uint64_t round_fire(uint64_t ops, sleeper **all) {
    fired = 0;
    begin = bench_now();
    uv_update_time(&loop);
    for (uint64_t i = 0; i < ops; i++) {
        uint64_t due = begin + 1000000000u +
                       ((i * 2654435761u & UINT32_MAX) * 1000000000u >> 32);
        all[i] = malloc(sizeof *all[i]);
        if (all[i] == NULL) bench_die("no memory");
        uv_timer_init(&loop, &all[i]->timer);
        start_at(all[i], due, on_fired);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    for (uint64_t i = 0; i < ops; i++) uv_close((uv_handle_t *)&all[i]->timer, on_closed);
    uv_run(&loop, UV_RUN_DEFAULT);
    return fired;
}

static int main_lateness(void) {
    static sleeper s;
    uint32_t random = 1;
    if (b.ops > LATENESS_MAX) b.ops = LATENESS_MAX;
    uv_timer_init(&loop, &s.timer);
    for (uint64_t i = 0; i < b.ops; i++) {
        random = random * 1664525u + 1013904223u;
        uv_update_time(&loop);
        start_at(&s, bench_now() + 200000u + random % 9800000u, on_fired);
        uv_run(&loop, UV_RUN_DEFAULT);
    }
    b.bad += b.ops - fired;
    return bench_report_latency(&b, late, (size_t)b.ops);
}

static int main_memory(sleeper **all) {
    long rss = bench_status_kib("VmRSS:");
    long table = bench_status_kib("VmPTE:");
    if (rss < 0) return BENCH_SKIP;
    for (uint64_t i = 0; i < b.ops; i++) {
        all[i] = malloc(sizeof *all[i]);
        if (all[i] == NULL) bench_die("no memory");
        uv_timer_init(&loop, &all[i]->timer);
        if (uv_timer_start(&all[i]->timer, on_never, 3600000, 0) != 0) b.bad++;
    }
    rss = bench_status_kib("VmRSS:") - rss;
    table = bench_status_kib("VmPTE:") - table;
    for (uint64_t i = 0; i < b.ops; i++) b.bad += !uv_is_active((uv_handle_t *)&all[i]->timer);
    return bench_report_bytes(&b, (double)rss * 1024.0 / (double)b.ops,
                              (double)table * 1024.0 / (double)b.ops);
}

int main(int argc, char **argv) {
    bench_init(&b, argc, argv, "timers", "libuv", 1000000, "cancel ring fire lateness memory");
    if (b.workers != 1) return BENCH_SKIP;
    late = calloc((size_t)b.ops, sizeof *late);
    sleeper **all = calloc((size_t)b.ops, sizeof *all);
    if (late == NULL || all == NULL || uv_loop_init(&loop) != 0) bench_die("no memory");
    for (uint64_t i = 0; i < b.ops; i++) {
        sleeper *volatile *touch = &all[i];
        *touch = NULL;
    }
    if (bench_is(&b, "lateness")) return main_lateness();
    if (bench_is(&b, "memory")) return main_memory(all);
    while (bench_round(&b)) {
        bench_done(&b, bench_is(&b, "cancel") ? round_cancel(b.ops)
                       : bench_is(&b, "ring") ? round_ring(b.ops)
                                              : round_fire(b.ops, all));
    }
    if (bench_is(&b, "fire")) {
        double sum = 0.0;
        for (uint64_t i = 0; i < b.ops; i++) sum += late[i];
        printf("late_mean=%.0f ", sum / (double)b.ops);
        printf("p99=%.0f ", bench_percentile(late, (size_t)b.ops, 99.0));
    }
    return bench_report(&b);
}
