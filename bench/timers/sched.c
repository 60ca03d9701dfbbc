/* timers: what does a timer cost, armed and cancelled, armed and fired, kept; and how late is it?
 *
 * Method   cancel    a timer of a second or two is armed and given up at once, because what was
 *                    awaited together with it was there already. An operation is such a pair.
 *          ring      10,000 tasks wait with a time limit of 10 s, each for a wake of its own, and
 *                    are woken in turn, before their time, again and again. An operation is one
 *                    such wait: two switches, a wake, a timer armed and cancelled. libuv has no
 *                    tasks: there it is a timer of a ring started anew.
 *          fire      1,000,000 tasks sleep; their times are spread over a second in no order. The
 *                    figure is CPU time for spawning, arming, firing and ending one; late_mean
 *                    and p99 say how late they ran. Who wakes notes that in the next cell, not in
 *                    its own: a write to a random place of 8 MB would cost more than the timer.
 *          lateness  one task sleeps 0.2 to 10 ms on an idle machine, 200 times: how late it runs
 *          memory    bytes of resident memory for a task that sleeps an hour; 1,000,000 of them
 * Checked  Every operation is counted by whoever it was done for; nobody wakes early.
 * Misleads The deadlines of cancel are computed before: in a program a clock is read first, 20 to
 *          40 ns everywhere. fire begins a second after the first spawn: a contender that needs
 *          longer to spawn them all starts late, and its lateness says so. nanosleep.c is the
 *          kernel's own lateness; a wheel of 1 ms adds half a tick to its mean.
 */
#include "bench_sched.h"

#define RING 10000u
#define LATENESS_MAX 200u

typedef struct pledge { /* an operation that somebody completes */
    sch_op op;
} pledge;

typedef struct sleeper {
    unsigned line;
    uint32_t index;
    sch_timer timer;
} sleeper;

static bench b;
static _Atomic uint64_t armed;
static _Atomic uint64_t done;
static _Atomic uint64_t early;
static _Atomic uint64_t noted;
static sch_task *waiting_root;
static double *late;
static uint64_t begin;
static atomic_bool stopping;

/* cancel */

static sch_status there_poll(sch_op *op) {
    op->result = 0;
    return SCH_READY;
}

static sch_status pledge_poll(sch_op *op) {
    (void)op;
    atomic_fetch_add(&armed, 1u);
    return SCH_PENDING;
}

/* Only if a wait is over its time, which the count shows. */
static sch_op_revoked pledge_cancel(sch_op *op) {
    (void)op;
    return SCH_OP_REMOVED;
}

static const sch_op_type there_type = {there_poll, pledge_cancel, "there"};
static const sch_op_type pledge_type = {pledge_poll, pledge_cancel, "pledge"};

static uint64_t round_cancel(uint64_t ops) {
    sch_timer timer;
    sch_op there = {&there_type, 0, NULL, NULL, 0, false};
    sch_op *both[2] = {&timer.op, &there};
    uint64_t first = bench_now() + SCH_SECOND;
    uint64_t pairs = 0;
    for (uint64_t i = 0; i < ops; i++) {
        timer = sch_timer_at(first + i % 1000u * SCH_MILLISECOND);
        pairs += sch_await_any(both, 2, SCH_FOREVER) == 1;
    }
    return pairs;
}

/* ring */

static pledge pledges[RING];

static void wait_in_ring(void *arg) {
    pledge *p = arg;
    p->op.type = &pledge_type;
    while (sch_timeout(&p->op, 10 * SCH_SECOND) == 0 && !atomic_load(&stopping)) {
        atomic_fetch_add_explicit(&done, 1u, memory_order_relaxed);
    }
}

static void all_wait(void) {
    while (atomic_load(&armed) < RING) sch_yield_now();
}

static void complete_all(void) {
    all_wait();
    atomic_store(&armed, 0u);
    for (unsigned i = 0; i < RING; i++) sch_op_complete(&pledges[i].op, 0);
}

static uint64_t round_ring(uint64_t ops) {
    atomic_store(&done, 0u);
    for (uint64_t i = 0; i < ops; i += RING) complete_all();
    all_wait();
    return atomic_load(&done);
}

/* fire */

static sch_status sleep_once(sch_task *self, void *state) {
    sleeper *s = state;
    uint64_t now;
    uint64_t due;
    (void)self;
    SCH_BEGIN(s->line);
    due = begin + SCH_SECOND + (s->index * UINT64_C(2654435761) & UINT32_MAX) * SCH_SECOND /
                                   (UINT64_C(1) << 32);
    s->timer = sch_timer_at(due);
    SCH_AWAIT(s->line, &s->timer.op);
    now = bench_now();
    if (now < s->timer.until) {
        atomic_fetch_add(&early, 1u);
    } else {
        late[atomic_fetch_add(&noted, 1u)] = (double)(now - s->timer.until);
    }
    if (atomic_fetch_add(&done, 1u) + 1u == b.ops) sch_wake(waiting_root);
    SCH_END();
}

static uint64_t round_fire(uint64_t ops) {
    sleeper s = {0};
    atomic_store(&done, 0u);
    atomic_store(&noted, 0u);
    waiting_root = sch_self();
    begin = bench_now();
    for (uint32_t i = 0; i < ops; i++) {
        s.index = i;
        sch_detach(sch_spawn_poll(NULL, sleep_once, &s, sizeof s));
    }
    if (sch_suspend() != 0) bench_die("sch_suspend failed");
    return atomic_load(&done) - atomic_load(&early);
}

/* lateness */

static void sleep_often(void *arg) {
    uint32_t random = 1;
    (void)arg;
    for (uint64_t i = 0; i < b.ops; i++) {
        random = random * 1664525u + 1013904223u;
        uint64_t due = bench_now() + 200000u + random % 9800000u;
        if (sch_sleep_until(due) != 0) bench_die("sch_sleep_until failed");
        uint64_t now = bench_now();
        b.bad += now < due;
        late[i] = (double)now - (double)due;
    }
}

/* memory */

static sch_status sleep_an_hour(sch_task *self, void *state) {
    sleeper *s = state;
    (void)self;
    SCH_BEGIN(s->line);
    s->timer = sch_timer_after(3600 * SCH_SECOND);
    atomic_fetch_add(&armed, 1u);
    SCH_AWAIT(s->line, &s->timer.op);
    SCH_END();
}

static void count_drop(void *arg) {
    (void)arg;
    atomic_fetch_add(&done, 1u);
}

static int main_memory(sch_runtime *rt) {
    static const sch_spawn_desc desc = {.drop = count_drop};
    sleeper s = {0};
    if (bench_status_kib("VmRSS:") < 0) return BENCH_SKIP;
    long rss = bench_status_kib("VmRSS:");
    long table = bench_status_kib("VmPTE:");
    for (uint64_t i = 0; i < b.ops; i++) {
        sch_detach(sch_spawn_poll_with(rt, &desc, sleep_an_hour, &s, sizeof s));
    }
    for (unsigned i = 0; atomic_load(&armed) < b.ops && i < 60000; i++) bench_sleep(1000000);
    bench_sleep(20000000); /* the last ones counted themselves just before they wait */
    rss = bench_status_kib("VmRSS:") - rss;
    table = bench_status_kib("VmPTE:") - table;
    b.bad += b.ops - atomic_load(&armed);
    b.bad += atomic_load(&done);
    sch_runtime_free(rt);
    b.bad += b.ops - atomic_load(&done);
    return bench_report_bytes(&b, (double)rss * 1024.0 / (double)b.ops,
                              (double)table * 1024.0 / (double)b.ops);
}

static void run(void *arg) {
    (void)arg;
    if (bench_is(&b, "ring")) {
        b.ops -= b.ops % RING;
        if (b.ops == 0) bench_die("ring: 10000 operations at least");
        for (unsigned i = 0; i < RING; i++) {
            if (sch_go(NULL, wait_in_ring, &pledges[i]) != 0) bench_die("sch_go failed");
        }
        all_wait();
    }
    while (bench_round(&b)) {
        bench_done(&b, bench_is(&b, "cancel") ? round_cancel(b.ops)
                       : bench_is(&b, "ring") ? round_ring(b.ops)
                                              : round_fire(b.ops));
    }
    if (bench_is(&b, "ring")) {
        atomic_store(&stopping, true);
        complete_all();
    }
}

int main(int argc, char **argv) {
    bench_init(&b, argc, argv, "timers", "sched.h", 1000000, "cancel ring fire lateness memory");
    sch_runtime *rt = bench_runtime(&b);
    if (bench_is(&b, "memory")) return main_memory(rt);
    bool lateness = bench_is(&b, "lateness");
    if (lateness && b.ops > LATENESS_MAX) b.ops = LATENESS_MAX;
    late = calloc((size_t)b.ops, sizeof *late);
    if (late == NULL) bench_die("no memory");
    bench_in_task(rt, lateness ? sleep_often : run, NULL);
    if (lateness) return bench_report_latency(&b, late, (size_t)b.ops);
    if (bench_is(&b, "fire")) {
        double sum = 0.0;
        for (uint64_t i = 0; i < b.ops; i++) sum += late[i];
        printf("late_mean=%.0f ", sum / (double)b.ops);
        printf("p99=%.0f ", bench_percentile(late, (size_t)b.ops, 99.0));
    }
    return bench_report(&b);
}
