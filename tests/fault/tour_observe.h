/* tour_observe.h - the part of tour.h that looks on: a runtime with times, a trace and a watchdog
 * that is asked for everything that can be seen of it. Whatever fails is repeated without faults;
 * what a write function returns comes back. */
#ifndef FAULT_TOUR_OBSERVE_H
#define FAULT_TOUR_OBSERVE_H

/* Of those that do nothing where nobody handles them, so that one too late does no harm. */
#define TOUR_DUMP_SIGNAL SIGURG
#define TOUR_STACK_SIGNAL SIGWINCH
#define TOUR_FULL 77 /* what a write function returns that has had enough */

static int tour_text(const char *text, size_t length, void *user) {
    (void)__atomic_add_fetch((size_t *)user, length, __ATOMIC_SEQ_CST);
    return text != NULL && length > 0 ? 0 : -EINVAL;
}

static int tour_no_more_text(const char *text, size_t length, void *user) {
    (void)text, (void)length, (void)user;
    return TOUR_FULL;
}

static int tour_dumped(const char *text, size_t length, void *user) {
    return tour_text(text, length, &((tour *)user)->dumped);
}

static void tour_stalled(const sch_stall *stall, void *user) {
    EXPECT(stall->ns >= SCH_MILLISECOND);
    (void)tour_add(&((tour *)user)->stalls);
}

static int tour_shown(const sch_task_info *info, void *user) {
    if (info->phase == SCH_PHASE_WAITING) (void)tour_add((unsigned *)user);
    return 0;
}

static void tour_observe_config(tour *t, sch_config *c) {
    c->task_times = true;
    c->trace_events = 128;
    c->stall_ns = SCH_MILLISECOND;
    c->on_stall = tour_stalled;
    c->stack_signal = TOUR_STACK_SIGNAL;
    if (FAULT_HAS_IO) c->dump_signal = TOUR_DUMP_SIGNAL, c->dump_write = tour_dumped;
    c->watch_user = t;
}

/* All of it as text. A full writer is told of, unless there was no memory to begin. */
static void tour_writes_all(tour *t) {
    size_t length = 0;
    int result;
    TOUR_CALL(t, sch_metrics_write(t->rt, SCH_OPENMETRICS, tour_text, &length));
    EXPECT_EQ(sch_metrics_write(t->rt, SCH_PROMETHEUS, tour_no_more_text, NULL), TOUR_FULL);
    TOUR_CALL(t, sch_dump(t->rt, SCH_MILLISECOND, tour_text, &length));
    result = sch_dump(t->rt, SCH_MILLISECOND, tour_no_more_text, NULL);
    EXPECT(result == TOUR_FULL || (result == -ENOMEM && fault_excuses(ENOMEM)));
    TOUR_CALL(t, sch_trace_write(t->rt, tour_text, &length));
    result = sch_trace_write(t->rt, tour_no_more_text, NULL);
    EXPECT(result == TOUR_FULL || (result == -ENOMEM && fault_excuses(ENOMEM)));
    EXPECT(length > 0);
}

static void tour_observes(void *arg) {
    tour *t = ((probe *)arg)->tour;
    unsigned waiting = 0, stalls;
    sch_task *task;
    probe *p;
    EXPECT_EQ(sch_trace_write(t->rt, tour_no_more_text, NULL), -EINVAL); /* never started */
    TOUR_CALL(t, sch_trace_start(t->rt));
    task = tour_spawn(t, TOUR_PLAIN, tour_waits, &p);
    TOUR_UNTIL(tour_waiting(task, p));
    for (int i = 0; i < 2; i++) EXPECT_EQ(sch_yield_now(), 0); /* it waits now */
    EXPECT_EQ(sch_each_task(t->rt, tour_shown, &waiting), 0);
    if (t->setup->flavor == SCH_CURRENT_THREAD) EXPECT_EQ(waiting, tour_get(&p->ran));
    tour_writes_all(t);
    EXPECT_EQ(sch_trace_stop(t->rt), 0);
    tour_branches(arg);
    tour_wake(t, task, p);
    EXPECT(sch_percentile(t->rt, SCH_POLL_TIME, UINT_MAX, 100) > 0);
    stalls = tour_get(&t->stalls);
    while (tour_get(&t->stalls) == stalls) { /* computes until somebody tells: once for a poll */
        uint64_t start = sch_now();
        while (tour_get(&t->stalls) == stalls && sch_now() - start < SCH_SECOND) continue;
        EXPECT_EQ(sch_yield_now(), 0);
    }
}

static void tour_observe_of(tour *t) {
    probe *p;
    sch_task *task = tour_spawn(t, TOUR_PLAIN, tour_observes, &p);
    tour_finish(t, task, p, TOUR_PLAIN);
    TOUR_CALL(t, sch_trace_start(t->rt));
    tour_writes_all(t);
    if (!FAULT_HAS_IO) return;
    /* A dump by signal; without memory it is left out. The end of the runtime may come in it. */
    while (__atomic_load_n(&t->dumped, __ATOMIC_SEQ_CST) == 0 && !fault_excuses(ENOMEM)) {
        if (kill(getpid(), TOUR_DUMP_SIGNAL) != 0) abort();
        tour_nap();
    }
}

#endif /* FAULT_TOUR_OBSERVE_H */
