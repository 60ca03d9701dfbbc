/* ops.c - [14]: operations, awaited in every place where one can wait; timers. */
#include "support.h"

/* An operation of the user's: completed by hand, from anywhere. */
typedef struct ops_hand {
    sch_op op;
    sch_op_revoked answer; /* to a cancel */
    bool ready;            /* at once */
    SCHI_ATOMIC(unsigned) begun, cancelled;
} ops_hand;

static sch_status ops_hand_poll(sch_op *op) {
    ops_hand *h = (ops_hand *)(void *)op;
    op->result = 7;
    schi_add_seq(&h->begun, 1u);
    return h->ready ? SCH_READY : SCH_PENDING;
}

static sch_op_revoked ops_hand_cancel(sch_op *op) {
    ops_hand *h = (ops_hand *)(void *)op;
    schi_add_seq(&h->cancelled, 1u);
    return h->answer;
}

static const sch_op_type ops_hand_type = {ops_hand_poll, ops_hand_cancel, NULL};

static ops_hand ops_by_hand(bool ready) {
    ops_hand h;
    memset(&h, 0, sizeof h);
    h.op.type = &ops_hand_type;
    h.ready = ready;
    return h;
}

/* The places ------------------------------------------------------------------------------------*/

typedef struct ops_place {
    sch_runtime *rt;
    void (*body)(void *arg);
    void *arg;
} ops_place;

static void ops_in_place(void *arg) {
    ops_place *p = (ops_place *)arg;
    EXPECT_EQ(sch_block_in_place(p->body, p->arg), 0);
}

/* Run the body in a task, in a blocking job, inside block_in_place, in block_on, on this thread. */
#define OPS_PLACES 5
static void ops_run(sch_runtime *rt, int place, void (*body)(void *arg), void *arg) {
    ops_place p = {rt, body, arg};
    switch (place) {
    case 0: EXPECT_EQ(sch_join(sch_spawn(rt, body, arg)), 0); break;
    case 1: EXPECT_EQ(sch_join(sch_spawn_blocking(rt, body, arg)), 0); break;
    case 2: EXPECT_EQ(sch_join(sch_spawn(rt, ops_in_place, &p)), 0); break;
    case 3: EXPECT_EQ(sch_block_on(rt, body, arg), 0); break;
    default: body(arg);
    }
}

static void ops_everywhere(void (*body)(void *arg), void *arg) {
    for (int flavor = 0; flavor < 3; flavor++) {
        checked_memory memory;
        sch_config config = support_config(&memory, flavor == 2 ? 3 : 1);
        config.flavor = flavor == 0 ? SCH_CURRENT_THREAD : SCH_MULTI_THREAD;
        sch_runtime *rt = support_begin(&config);
        for (int place = 0; place < OPS_PLACES; place++) ops_run(rt, place, body, arg);
        support_end(rt, &memory);
    }
}

static void *ops_complete_later(void *arg) {
    ops_hand *h = (ops_hand *)arg;
    while (schi_load_seq(&h->begun) == 0) sched_yield();
    support_nap((long)(test_random() % 300));
    sch_op_complete(&h->op, 11);
    return NULL;
}

static void ops_body(void *arg) {
    pthread_t other;
    ops_hand h = ops_by_hand(true), g = ops_by_hand(false);
    (void)arg;
    EXPECT_EQ(sch_await(&h.op), 7); /* ready at once */
    EXPECT_EQ(schi_load_seq(&h.cancelled), 0u);

    if (pthread_create(&other, NULL, ops_complete_later, &g)) abort();
    EXPECT_EQ(sch_await(&g.op), 11); /* completed by another thread */
    EXPECT_EQ(schi_load_seq(&g.cancelled), 0u);
    pthread_join(other, NULL);

    h = ops_by_hand(false); /* nobody completes it */
    EXPECT_EQ(sch_await_until(&h.op, 0), -ETIMEDOUT);
    EXPECT_EQ(schi_load_seq(&h.cancelled), 1u);
    EXPECT_EQ(sch_timeout(&h.op, SCH_MILLISECOND), -ETIMEDOUT);
    EXPECT_EQ(schi_load_seq(&h.cancelled), 2u);

    sch_timer late = sch_timer_after(100 * SCH_SECOND), soon = sch_timer_after(SCH_MILLISECOND);
    sch_op *const any[3] = {&h.op, &late.op, &soon.op};
    EXPECT_EQ(sch_await_any(any, 3, SCH_FOREVER), 2);
    EXPECT(!sch_op_is_done(&h.op) && !sch_op_is_done(&late.op) && sch_op_is_done(&soon.op));
    EXPECT(sch_now() >= soon.until);

    const uint64_t start = sch_now();
    EXPECT_EQ(sch_sleep(2 * SCH_MILLISECOND), 0);
    EXPECT(sch_now() - start >= 2 * SCH_MILLISECOND);
    EXPECT_EQ(sch_sleep(0), 0);
    EXPECT_EQ(sch_sleep_until(1), 0);
}

TEST(ops_everywhere_that_can_wait) { ops_everywhere(ops_body, NULL); }

/* Bad input -------------------------------------------------------------------------------------*/

static sch_status ops_poll_must_not_wait(sch_task *self, void *state) {
    (void)self, (void)state;
    EXPECT_EQ(sch_sleep(1), -EPERM);
    return SCH_READY;
}

TEST(ops_bad_input) {
    ops_hand h = ops_by_hand(true);
    sch_op none;
    sch_op *const hole[2] = {&h.op, NULL};
    sch_interval interval = {0, 0, SCH_BURST};
    memset(&none, 0, sizeof none);
    EXPECT_EQ(sch_await(NULL), -EINVAL);
    EXPECT_EQ(sch_await(&none), -EINVAL);
    EXPECT_EQ(sch_await_any(NULL, 1, 0), -EINVAL);
    EXPECT_EQ(sch_await_any(hole, 0, 0), -EINVAL);
    EXPECT_EQ(sch_await_any(hole, 2, 0), -EINVAL);
    EXPECT_EQ(schi_load_seq(&h.begun), 0u);
    EXPECT_EQ(sch_interval_wait(NULL), -EINVAL);
    EXPECT_EQ(sch_interval_wait(&interval), -EINVAL);
    EXPECT(!sch_op_is_done(NULL));
    EXPECT_EQ(sch_op_poll(NULL), SCH_READY);
    EXPECT_EQ(sch_op_poll(&h.op), SCH_READY); /* not in a poll task */
    EXPECT_EQ(h.op.result, -EPERM);
    sch_op_complete(NULL, 0);
    sch_op_retry(NULL);
    sch_runtime *rt = sch_runtime_new(NULL);
    EXPECT_EQ(sch_join(sch_spawn_poll(rt, ops_poll_must_not_wait, NULL, 0)), 0);
    sch_runtime_free(rt);
}

/* Of several only those that are done look done; what was not begun does not, from last time. */
static void ops_marks(void *arg) {
    ops_hand never = ops_by_hand(false), first = ops_by_hand(true), second = ops_by_hand(true);
    sch_op *const three[3] = {&never.op, &first.op, &second.op};
    sch_op *const two[2] = {&second.op, &first.op};
    (void)arg;
    EXPECT_EQ(sch_await_any(three, 3, SCH_FOREVER), 1);
    EXPECT(!sch_op_is_done(&never.op) && sch_op_is_done(&first.op) && !sch_op_is_done(&second.op));
    EXPECT_EQ(schi_load_seq(&second.begun), 0u);
    EXPECT_EQ(sch_await_any(two, 2, SCH_FOREVER), 0);
    EXPECT(sch_op_is_done(&second.op) && !sch_op_is_done(&first.op));
}

TEST(ops_marks_of_several) { ops_everywhere(ops_marks, NULL); }

/* A cancel that blocks its thread, loses the core meanwhile, and then has to be waited for: the
 * task has moved to another thread. */
typedef struct ops_blocker {
    ops_hand h, first;
    SCHI_ATOMIC(unsigned) stage; /* 1 blocks, 2 its core is busy, 3 it is waited for */
    SCHI_ATOMIC(unsigned) blocked;
    sch_runtime *only; /* fixed: it has one worker; else NULL */
} ops_blocker;

static void ops_block_until_busy(void *arg) {
    ops_blocker *b = (ops_blocker *)arg;
    schi_store_seq(&b->stage, 1u);
    WAIT_FOR(schi_load_seq(&b->stage) == 2);
}

static sch_op_revoked ops_blocking_cancel(sch_op *op) {
    EXPECT_EQ(sch_block_in_place(ops_block_until_busy, op), 0);
    schi_store_seq(&((ops_blocker *)(void *)op)->stage, 3u);
    return SCH_OP_BUSY;
}

static const sch_op_type ops_blocking_type = {ops_hand_poll, ops_blocking_cancel, NULL};

static void ops_await_blocker(void *arg) {
    ops_blocker *b = (ops_blocker *)arg;
    ops_hand ready = ops_by_hand(true);
    sch_op *const two[2] = {&b->h.op, &ready.op};
    EXPECT_EQ(sch_await_any(two, 2, SCH_FOREVER), 0);
    EXPECT_EQ(b->h.op.result, 5);
    EXPECT(sch_op_is_done(&ready.op));
    sch_yield_now();
}

static void ops_keep_busy(void *arg) {
    ops_blocker *b = (ops_blocker *)arg;
    schi_store_seq(&b->stage, 2u);
    if (!b->only) {
        support_nap(3000);
    } else { /* until the blocked task is back, without a core */
        WAIT_FOR(!schi_inject_is_empty(&b->only->inject));
    }
}

TEST(ops_cancel_that_blocks) {
    for (int workers = 1; workers <= 2; workers++) {
        ops_blocker b;
        checked_memory memory;
        sch_config config = support_config(&memory, (unsigned)workers);
        sch_runtime *rt = support_begin(&config);
        memset(&b, 0, sizeof b);
        b.h = ops_by_hand(false);
        b.h.op.type = &ops_blocking_type;
        b.only = workers == 1 ? rt : NULL;
        sch_task *task = sch_spawn(rt, ops_await_blocker, &b);
        WAIT_FOR(schi_load_seq(&b.stage) == 1);
        sch_go(rt, ops_keep_busy, &b);
        WAIT_FOR(schi_load_seq(&b.stage) == 3);
        support_nap(500);
        sch_op_complete(&b.h.op, 5);
        EXPECT_EQ(sch_join(task), 0);
        support_end(rt, &memory);
    }
}

/* The same in a poll task, by its poll: it was cancelled before, and hears of it there. */
typedef struct ops_mover {
    unsigned line; /* of the task's state */
    ops_blocker *b;
} ops_mover;

static sch_status ops_blocking_poll(sch_op *op) {
    EXPECT_EQ(sch_block_in_place(ops_block_until_busy, op), 0);
    schi_store_seq(&((ops_blocker *)(void *)op)->stage, 3u);
    return SCH_PENDING;
}

static const sch_op_type ops_moving_type = {ops_blocking_poll, ops_hand_cancel, NULL};

static sch_status ops_await_mover(sch_task *self, void *state) {
    ops_mover *m = (ops_mover *)state;
    ops_blocker *b = m->b;
    (void)self;
    SCH_BEGIN(m->line);
    SCH_AWAIT(m->line, &b->first.op);
    EXPECT_EQ(b->first.op.result, -ECANCELED);
    SCH_AWAIT(m->line, &b->h.op);
    EXPECT_EQ(b->h.op.result, -ECANCELED);
    SCH_END();
}

TEST(ops_poll_that_blocks) {
    for (int workers = 1; workers <= 2; workers++) {
        ops_blocker b;
        ops_mover m = {0, &b};
        checked_memory memory;
        sch_config config = support_config(&memory, (unsigned)workers);
        sch_runtime *rt = support_begin(&config);
        memset(&b, 0, sizeof b);
        b.first = b.h = ops_by_hand(false);
        b.h.op.type = &ops_moving_type;
        b.only = workers == 1 ? rt : NULL;
        sch_task *task = sch_spawn_poll(rt, ops_await_mover, &m, sizeof m);
        WAIT_FOR(schi_load_seq(&b.first.begun) == 1);
        EXPECT_EQ(sch_cancel(task), 0);
        WAIT_FOR(schi_load_seq(&b.stage) == 1);
        sch_go(rt, ops_keep_busy, &b);
        EXPECT_EQ(sch_join(task), -ECANCELED); /* its waits told it */
        EXPECT_EQ(schi_load_seq(&b.h.cancelled), 1u);
        support_end(rt, &memory);
    }
}

/* A poll or cancel that wants to block while no thread is to be had is told so at once: to wait for
 * one it would have to be granted, and so it might be by another of those operations. */
static void ops_blocks(void *arg) {
    ops_blocker *b = (ops_blocker *)arg;
    schi_add_seq(&b->blocked, 1u);
    WAIT_FOR(schi_load_seq(&b->stage) == 9);
}

static void ops_takes_a_place(void *arg) { EXPECT_EQ(sch_block_in_place(ops_blocks, arg), 0); }
static void ops_never(void *arg) { (void)arg, EXPECT(false); }

static sch_status ops_refused_poll(sch_op *op) {
    schi_add_seq(&((ops_hand *)(void *)op)->begun, 1u);
    EXPECT_EQ(sch_block_in_place(ops_never, op), -EAGAIN);
    return SCH_PENDING;
}

static sch_op_revoked ops_refused_cancel(sch_op *op) {
    EXPECT_EQ(sch_block_in_place(ops_never, op), -EAGAIN);
    return SCH_OP_REMOVED;
}

static const sch_op_type ops_refused_type = {ops_refused_poll, ops_refused_cancel, NULL};

static void ops_await_refused(void *arg) {
    ops_blocker *b = (ops_blocker *)arg;
    sch_op *const two[2] = {&b->first.op, &b->h.op};
    EXPECT_EQ(sch_await_any(two, 2, SCH_FOREVER), 0);
    EXPECT_EQ(b->first.op.result, 6);
    EXPECT_EQ(sch_timeout(&b->h.op, SCH_MILLISECOND), -ETIMEDOUT);
    schi_store_seq(&b->stage, 9u);
    EXPECT_EQ(sch_block_in_place(ops_takes_a_place, b), 0); /* may wait again */
}

TEST(ops_no_place_in_a_poll) {
    ops_blocker b;
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    config.max_blocking_threads = 1;
    sch_runtime *rt = support_begin(&config);
    memset(&b, 0, sizeof b);
    b.first = b.h = ops_by_hand(false);
    b.h.op.type = &ops_refused_type;
    for (int i = 0; i < 2; i++) sch_go(rt, ops_takes_a_place, &b); /* a core's and the pool's */
    WAIT_FOR(schi_load_seq(&b.blocked) == 2);
    sch_task *task = sch_spawn(rt, ops_await_refused, &b);
    WAIT_FOR(schi_load_seq(&b.h.begun) == 1);
    sch_op_complete(&b.first.op, 6);
    EXPECT_EQ(sch_join(task), 0);
    support_end(rt, &memory);
}

/* Cancellation ----------------------------------------------------------------------------------*/

typedef struct ops_cancel {
    ops_hand h;
    SCHI_ATOMIC(unsigned) stage;
    int64_t result;
    bool shield;
} ops_cancel;

static void ops_cancel_task(void *arg) {
    ops_cancel *c = (ops_cancel *)arg;
    if (c->shield) EXPECT_EQ(sch_shield_begin(SCH_FOREVER), 0);
    c->result = sch_await(&c->h.op);
    if (c->shield) sch_shield_end();
    schi_store_seq(&c->stage, 1u);
}

/* removed: the wait says so. busy: it goes on until the operation is done, whose result wins. */
TEST(ops_cancel_removed_busy_shielded) {
    for (int workers = 1; workers <= 2; workers++) {
        for (int how = 0; how < 3; how++) {
            ops_cancel c;
            checked_memory memory;
            sch_config config = support_config(&memory, (unsigned)workers);
            sch_runtime *rt = support_begin(&config);
            memset(&c, 0, sizeof c);
            c.h = ops_by_hand(false);
            c.h.answer = how == 1 ? SCH_OP_BUSY : SCH_OP_REMOVED;
            c.shield = how == 2;
            sch_task *task = sch_spawn(rt, ops_cancel_task, &c);
            WAIT_FOR(schi_load_seq(&c.h.begun) == 1);
            EXPECT_EQ(sch_cancel(task), 0);
            if (how == 0) {
                EXPECT_EQ(sch_join(task), -ECANCELED);
                EXPECT_EQ(c.result, -ECANCELED);
            } else {
                if (how == 1) WAIT_FOR(schi_load_seq(&c.h.cancelled) == 1);
                support_nap(500);
                EXPECT_EQ(schi_load_seq(&c.stage), 0u);
                sch_op_complete(&c.h.op, 13);
                EXPECT_EQ(sch_join(task), 0); /* no wait told it: it is not cancelled */
                EXPECT_EQ(c.result, 13);
            }
            EXPECT_EQ(schi_load_seq(&c.h.cancelled), how == 2 ? 0u : 1u);
            support_end(rt, &memory);
        }
    }
}

/* Cancelled before it waits: what is ready at once still counts. */
static void ops_cancelled_before(void *arg) {
    ops_hand ready = ops_by_hand(true), never = ops_by_hand(false);
    (void)arg;
    EXPECT_EQ(sch_cancel(sch_self()), 0);
    EXPECT_EQ(sch_await(&ready.op), 7);
    EXPECT_EQ(sch_await(&never.op), -ECANCELED);
    EXPECT_EQ(sch_await_until(&never.op, sch_now() + SCH_SECOND), -ECANCELED);
    EXPECT_EQ(sch_sleep(SCH_SECOND), -ECANCELED);
}

TEST(ops_cancelled_before_the_wait) {
    sch_runtime *rt = sch_runtime_new(NULL);
    EXPECT_EQ(sch_join(sch_spawn(rt, ops_cancelled_before, NULL)), -ECANCELED);
    sch_runtime_free(rt);
}

/* A storm: each wait ends by completion, time or cancel, all at about the same time. */
typedef struct ops_storm {
    sch_runtime *rt;
    size_t rounds, done, timed_out, cancelled; /* of one task */
    SCHI_ATOMIC(sch_op *) pending;
    SCHI_ATOMIC(unsigned) over;
} ops_storm;

typedef struct ops_storm_op {
    sch_op op;
    ops_storm *s;
} ops_storm_op;

static sch_status ops_storm_poll(sch_op *op) {
    ops_storm_op *o = (ops_storm_op *)(void *)op;
    schi_store_seq(&o->s->pending, op);
    return SCH_PENDING;
}

static sch_op_revoked ops_storm_cancel(sch_op *op) {
    ops_storm_op *o = (ops_storm_op *)(void *)op;
    return schi_xchg_seq(&o->s->pending, (sch_op *)NULL) == op ? SCH_OP_REMOVED : SCH_OP_BUSY;
}

static const sch_op_type ops_storm_type = {ops_storm_poll, ops_storm_cancel, NULL};

static void ops_storm_task(void *arg) {
    ops_storm *s = (ops_storm *)arg;
    for (size_t i = 0; i < s->rounds; i++) {
        ops_storm_op o;
        memset(&o, 0, sizeof o);
        o.op.type = &ops_storm_type;
        o.s = s;
        switch (sch_timeout(&o.op, test_random() % 3 * (SCH_MILLISECOND / 2))) {
        case 42: s->done++; break;
        case -ETIMEDOUT: s->timed_out++; break;
        case -ECANCELED: s->cancelled++; break;
        default: EXPECT(false);
        }
        EXPECT(schi_load_seq(&s->pending) == NULL);
    }
    schi_store_seq(&s->over, 1u);
}

static void ops_storm_crew(void *arg, unsigned me) {
    ops_storm *s = (ops_storm *)arg;
    (void)me;
    while (schi_load_seq(&s->over) == 0) {
        sch_op *op = schi_xchg_seq(&s->pending, (sch_op *)NULL);
        if (op && test_random() % 8) {
            sch_op_complete(op, 42);
        } else if (op) {
            sch_op_retry(op);
        }
        if (test_random() % 2) sched_yield();
        if (test_random() % 64 == 0) support_nap(700);
    }
}

TEST(ops_storm) {
    for (int place = 0; place < OPS_PLACES; place++) {
        ops_storm s;
        checked_memory memory;
        sch_config config = support_config(&memory, 2);
        memset(&s, 0, sizeof s);
        s.rt = support_begin(&config);
        s.rounds = test_scale(1000);
        if (place == 0) {
            sch_task *task = sch_spawn(s.rt, ops_storm_task, &s);
            crew_run(2, ops_storm_crew, &s);
            EXPECT_EQ(sch_join(task), 0);
        } else if (place == 1) {
            sch_task *task = sch_spawn_blocking(s.rt, ops_storm_task, &s);
            crew_run(2, ops_storm_crew, &s);
            EXPECT_EQ(sch_join(task), 0);
        }
        if (place < 2) EXPECT_EQ(s.done + s.timed_out + s.cancelled, s.rounds);
        support_end(s.rt, &memory);
    }
}

/* Poll tasks ------------------------------------------------------------------------------------*/

typedef struct ops_machine {
    unsigned line;
    sch_timer timer;
    ops_hand *h;
    int64_t *result;
    int i;
} ops_machine;

static sch_status ops_machine_poll(sch_task *self, void *state) {
    ops_machine *m = (ops_machine *)state;
    (void)self;
    SCH_BEGIN(m->line);
    for (m->i = 0; m->i < 3; m->i++) {
        m->timer = sch_timer_after(SCH_MILLISECOND);
        SCH_AWAIT(m->line, &m->timer.op);
        if (m->timer.op.result < 0) break;
        EXPECT(sch_now() >= m->timer.until);
    }
    SCH_AWAIT(m->line, &m->h->op);
    *m->result = m->h->op.result;
    SCH_END();
}

TEST(ops_in_poll_tasks) {
    for (int how = 0; how < 4; how++) { /* completed, cancelled, dropped by shutdown, in a timer */
        checked_memory memory;
        sch_config config = support_config(&memory, 2);
        sch_runtime *rt = support_begin(&config);
        ops_hand h = ops_by_hand(false);
        int64_t result = 1;
        ops_machine m;
        memset(&m, 0, sizeof m);
        m.h = &h, m.result = &result;
        sch_task *task = sch_spawn_poll(rt, ops_machine_poll, &m, sizeof m);
        if (how < 3) WAIT_FOR(schi_load_seq(&h.begun) == 1);
        sch_wake(task); /* a poll too many changes nothing */
        if (how == 0) {
            support_nap(200);
            sch_op_complete(&h.op, 5);
            EXPECT_EQ(sch_join(task), 0);
            EXPECT_EQ(result, 5);
        } else if (how == 1) {
            EXPECT_EQ(sch_cancel(task), 0);
            EXPECT_EQ(sch_join(task), -ECANCELED);
            EXPECT_EQ(result, -ECANCELED);
        } else {
            if (how == 2) WAIT_FOR(schi_load_seq(&task->state) & SCHI_WAIT_WAKE); /* no poll */
            EXPECT_EQ(sch_runtime_shutdown(rt, SCH_FOREVER), 0);
            EXPECT_EQ(sch_join(task), -ECANCELED);
            EXPECT(result == 1 || (how == 3 && result == -ECANCELED)); /* told in its poll */
        }
        if (how < 3) EXPECT_EQ(schi_load_seq(&h.cancelled), how == 0 ? 0u : 1u);
        support_end(rt, &memory);
    }
}

/* Intervals, paused clock -----------------------------------------------------------------------*/

static void ops_hours(void *arg) {
    uint64_t start = sch_now();
    const uint64_t hour = 3600 * SCH_SECOND;
    sch_interval burst = {hour, 0, SCH_BURST}, delay = {hour, 0, SCH_DELAY},
                 skip = {hour, 0, SCH_SKIP};
    (void)arg;
    EXPECT_EQ(sch_interval_wait(&burst), 0); /* the first is at once */
    EXPECT_EQ(sch_interval_wait(&delay), 0);
    EXPECT_EQ(sch_interval_wait(&skip), 0);
    EXPECT(sch_now() - start < hour);
    EXPECT_EQ(sch_sleep_until(start + hour * 7 / 2), 0); /* three are missed */
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(sch_interval_wait(&burst), 0);
        EXPECT(sch_now() < start + 4 * hour);
    }
    EXPECT_EQ(sch_interval_wait(&skip), 0);
    EXPECT(sch_now() < start + 4 * hour);
    EXPECT_EQ(sch_interval_wait(&delay), 0);
    EXPECT(sch_now() < start + 4 * hour);
    EXPECT_EQ(sch_interval_wait(&burst), 0);
    EXPECT(sch_now() >= start + 4 * hour && sch_now() < start + 4 * hour + SCH_SECOND);
    EXPECT_EQ(sch_interval_wait(&skip), 0);
    EXPECT(sch_now() >= start + 4 * hour && sch_now() < start + 4 * hour + SCH_SECOND);
    EXPECT_EQ(sch_interval_wait(&delay), 0);
    EXPECT(sch_now() >= start + 4 * hour + hour / 2 - SCH_SECOND);
    EXPECT_EQ(sch_sleep(SCH_SECOND * 86400 * 365 * 100), 0); /* a hundred years */
    EXPECT(sch_now() - start > SCH_SECOND * 86400 * 365 * 100);
}

static void ops_forever(void *arg) {
    (void)arg;
    EXPECT_EQ(sch_sleep(SCH_FOREVER), -ECANCELED);
}

TEST(ops_paused_clock) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        checked_memory memory;
        sch_config config = support_config(&memory, workers);
        config.paused_clock = true;
        sch_runtime *rt = support_begin(&config);
        sch_task *forever = sch_spawn(rt, ops_forever, NULL), *tasks[20];
        for (int i = 0; i < 20; i++) tasks[i] = sch_spawn(rt, ops_hours, NULL);
        for (int i = 0; i < 20; i++) EXPECT_EQ(sch_join(tasks[i]), 0);
        EXPECT(!sch_is_done(forever));
        EXPECT_EQ(sch_cancel(forever), 0);
        EXPECT_EQ(sch_join(forever), -ECANCELED);
        support_end(rt, &memory);
    }
}

/* Many ------------------------------------------------------------------------------------------*/

typedef struct ops_many {
    SCHI_ATOMIC(unsigned) woken, cancelled;
} ops_many;

static void ops_many_task(void *arg) {
    ops_many *m = (ops_many *)arg;
    const uint64_t ns = test_random() % (30 * SCH_MILLISECOND), until = sch_now() + ns;
    switch (sch_sleep_until(until)) {
    case 0:
        EXPECT(sch_now() >= until);
        schi_add_seq(&m->woken, 1u);
        break;
    case -ECANCELED: schi_add_seq(&m->cancelled, 1u); break;
    default: EXPECT(false);
    }
}

TEST(ops_many_sleepers_some_cancelled) {
    for (unsigned workers = 1; workers <= 4; workers *= 2) {
        checked_memory memory;
        sch_config config = support_config(&memory, workers);
        sch_runtime *rt = support_begin(&config);
        const unsigned n = (unsigned)test_scale(3000);
        sch_task **tasks = (sch_task **)malloc(n * sizeof(sch_task *));
        ops_many m;
        unsigned dropped = 0;
        memset(&m, 0, sizeof m);
        if (!tasks) abort();
        for (unsigned i = 0; i < n; i++) tasks[i] = sch_spawn(rt, ops_many_task, &m);
        for (unsigned i = 0; i < n; i += 3) (void)sch_cancel(tasks[i]);
        for (unsigned i = 0; i < n; i++) {
            if (sch_join(tasks[i]) != 0) dropped++;
        }
        EXPECT_EQ(schi_load_seq(&m.woken) + dropped, n);
        EXPECT(schi_load_seq(&m.cancelled) <= dropped); /* the others never started */
        for (unsigned i = 0; i < n; i++) EXPECT_EQ(sch_go(rt, ops_forever, NULL), 0);
        free(tasks);
        support_end(rt, &memory); /* with sleepers left */
    }
}

/* Many whose time is the same -------------------------------------------------------------------*/

#define OPS_CROWD 2000
#define OPS_BLOCKED 80 /* more than the watch takes, 32 */

typedef struct ops_crowd {
    sch_runtime *rt;
    uint64_t until, polls; /* polls: from the first that woke to the last */
    unsigned woken, yielders;
    unsigned blocked; /* atomic */
    uint64_t overflows; /* of the ring, when they were awake */
} ops_crowd;

static void ops_crowd_sleeper(void *arg) {
    ops_crowd *c = (ops_crowd *)arg;
    EXPECT_EQ(sch_sleep_until(c->until), 0);
    c->woken++;
    if (c->woken == 1) c->polls = support_metrics(c->rt).total.poll_count;
    if (c->woken == OPS_CROWD) c->polls = support_metrics(c->rt).total.poll_count - c->polls;
}

static void ops_crowd_yielder(void *arg) {
    ops_crowd *c = (ops_crowd *)arg;
    while (c->woken < OPS_CROWD) sch_yield_now();
}

static void ops_crowd_body(void *arg) {
    ops_crowd *c = (ops_crowd *)arg;
    static sch_task *tasks[OPS_CROWD];
    uint64_t overflows;
    c->until = sch_now() + SCH_SECOND + 100 * SCH_MILLISECOND;
    for (unsigned i = 0; i < OPS_CROWD; i++) tasks[i] = sch_spawn(NULL, ops_crowd_sleeper, c);
    EXPECT_EQ(sch_sleep_until(c->until - SCH_SECOND), 0); /* all sleep */
    for (unsigned i = 0; i < c->yielders; i++) EXPECT_EQ(sch_go(NULL, ops_crowd_yielder, c), 0);
    overflows = support_metrics(c->rt).total.overflow_count;
    for (unsigned i = 0; i < OPS_CROWD; i++) EXPECT_EQ(sch_join(tasks[i]), 0);
    c->overflows = support_metrics(c->rt).total.overflow_count - overflows;
}

/* They are taken from the wheel as the ring has room for them, and do not push others out of it.
 * With a clock that waits for all of them to sleep: who is late would fill the ring. */
TEST(ops_crowd_stays_in_the_wheel) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    ops_crowd c;
    memset(&c, 0, sizeof c);
    config.paused_clock = true;
    c.rt = support_begin(&config);
    support_run(c.rt, ops_crowd_body, &c);
    EXPECT_EQ(c.overflows, 0);
    support_end(c.rt, &memory);
}

/* Each blocks its thread until all are there. */
static void ops_crowd_meets(void *arg) {
    ops_crowd *c = (ops_crowd *)arg;
    support_add(&c->blocked, 1);
    while (support_get(&c->blocked) < OPS_BLOCKED) support_nap(100);
}

static void ops_crowd_blocker(void *arg) {
    ops_crowd *c = (ops_crowd *)arg;
    EXPECT_EQ(sch_sleep_until(c->until), 0);
    EXPECT_EQ(sch_block_in_place(ops_crowd_meets, c), 0);
}

static void ops_crowd_blocks(void *arg) {
    ops_crowd *c = (ops_crowd *)arg;
    sch_task *tasks[OPS_BLOCKED];
    c->until = sch_now() + SCH_SECOND;
    for (unsigned i = 0; i < OPS_BLOCKED; i++) tasks[i] = sch_spawn(NULL, ops_crowd_blocker, c);
    for (unsigned i = 0; i < OPS_BLOCKED; i++) EXPECT_EQ(sch_join(tasks[i]), 0);
}

/* None is left in the wheel of a core that is lent, whether the clock goes on or not. */
TEST(ops_crowd_of_a_lent_core) {
    for (int paused = 0; paused < 2; paused++) {
        checked_memory memory;
        sch_config config = support_config(&memory, 1);
        ops_crowd c;
        memset(&c, 0, sizeof c);
        config.paused_clock = paused != 0;
        c.rt = support_begin(&config);
        support_run(c.rt, ops_crowd_blocks, &c);
        support_end(c.rt, &memory);
    }
}

/* But they get their turn if the ring is always full, however seldom it comes. */
TEST(ops_crowd_beside_a_full_ring) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    ops_crowd c;
    memset(&c, 0, sizeof c);
    config.event_interval = 4096;
    c.yielders = SCH_RUNQ_CAP * 3 / 4;
    c.rt = support_begin(&config);
    support_run(c.rt, ops_crowd_body, &c);
    EXPECT(c.polls < 60000);
    support_end(c.rt, &memory);
}

/* A timer beside a task that computes: a free core serves it within two periods and a wake. */
typedef struct ops_beside {
    uint64_t late;
    SCHI_ATOMIC(unsigned) done;
} ops_beside;

static void ops_beside_sleeper(void *arg) {
    ops_beside *b = (ops_beside *)arg;
    const uint64_t until = sch_now() + 20 * SCH_MILLISECOND;
    EXPECT_EQ(sch_sleep_until(until), 0);
    b->late = sch_now() - until;
    schi_store_seq(&b->done, 1u);
}

static void ops_beside_computer(void *arg) {
    ops_beside *b = (ops_beside *)arg;
    const uint64_t start = sch_now();
    EXPECT_EQ(sch_go(NULL, ops_beside_sleeper, b), 0);
    EXPECT_EQ(sch_yield_now(), 0); /* it goes to sleep on this core */
    while (!schi_load_seq(&b->done) && sch_now() - start < 20 * SCH_SECOND) continue;
}

TEST(ops_timer_of_a_core_that_computes) {
    sch_config config;
    ops_beside b;
    memset(&config, 0, sizeof config);
    memset(&b, 0, sizeof b);
    config.workers = 2;
    sch_runtime *rt = sch_runtime_new(&config);
    EXPECT_EQ(sch_join(sch_spawn(rt, ops_beside_computer, &b)), 0);
    EXPECT(schi_load_seq(&b.done)); /* though the core never got to it */
    EXPECT(b.late < 10 * SCH_SECOND);
    sch_runtime_free(rt);
}

/* The same beside a worker that the system has stopped in the middle of its own wheel, in which a
 * timer is due: the other's come in time, and that one when the worker goes on. */
typedef struct ops_stopped {
    SCHI_ATOMIC(unsigned) stopped, woken, own_woken, inside;
} ops_stopped;

static void ops_own_sleeper(void *arg) {
    EXPECT_EQ(sch_sleep(5 * SCH_MILLISECOND), 0);
    schi_store_seq(&((ops_stopped *)arg)->own_woken, 1u);
}

static void ops_other_sleeper(void *arg) {
    ops_stopped *s = (ops_stopped *)arg;
    WAIT_FOR(schi_load_seq(&s->stopped));          /* on the other core, then */
    EXPECT_EQ(sch_sleep(20 * SCH_MILLISECOND), 0); /* until when both are due */
    schi_store_seq(&s->woken, 1u);
}

static void ops_stop_inside(void *arg) {
    ops_stopped *s = (ops_stopped *)arg;
    sch_timer timer = sch_timer_at(sch_now() + 3600 * SCH_SECOND);
    schi_wheel *wheel;
    schi_thread *th;
    bool plain;
    EXPECT_EQ(sch_go(NULL, ops_own_sleeper, s), 0);
    EXPECT_EQ(sch_yield_now(), 0); /* it goes to sleep */
    th = schi_self();
    wheel = &th->core->wheel;
    /* at most a second, if others come again and again */
    while (schi_load_seq(&wheel->lock.bias.state) != SCHI_PRIVATE &&
           sch_now() < timer.until - 3599 * SCH_SECOND) {
        schi_timer_arm(th, &timer);
        EXPECT(schi_timer_disarm(th, &timer));
    }
    plain = schi_wheel_lock(wheel, wheel);
    schi_store_seq(&s->stopped, 1u);
    if (plain) WAIT_FOR(schi_load_seq(&s->woken));
    schi_wheel_unlock(wheel, plain);
    schi_store_seq(&s->inside, (unsigned)plain);
}

TEST(ops_timers_beside_a_stopped_worker) {
    unsigned inside = 0;                      /* rounds in which nobody had come just before */
    for (int round = 0; round < 4; round++) { /* on either core */
        ops_stopped s;
        checked_memory memory;
        sch_config config = support_config(&memory, 2);
        if (!schi_barrier_open()) SKIP("no barrier on all threads here");
        sch_runtime *rt = support_begin(&config);
        memset(&s, 0, sizeof s);
        sch_task *other = sch_spawn(rt, ops_other_sleeper, &s);
        EXPECT_EQ(sch_join(sch_spawn(rt, ops_stop_inside, &s)), 0);
        EXPECT_EQ(sch_join(other), 0);
        WAIT_FOR(schi_load_seq(&s.own_woken));
        inside += schi_load_seq(&s.inside);
        support_end(rt, &memory);
    }
    EXPECT(inside > 0);
}

/* Shields with a time ---------------------------------------------------------------------------*/

typedef struct ops_shield {
    sch_runtime *rt;
    sch_task *other; /* waits until it is cancelled */
    SCHI_ATOMIC(unsigned) waits;
} ops_shield;

static void ops_wait_for_ever(void *arg) {
    (void)arg;
    EXPECT_EQ(sch_suspend(), -ECANCELED);
}

/* Each kind of wait is ordinary up to the time, and is refused, or ends, from then on. */
static void ops_shielded_waits(void *arg) {
    ops_shield *s = (ops_shield *)arg;
    uint64_t until = sch_now() + 5 * SCH_MILLISECOND;
    ops_hand h = ops_by_hand(false), r = ops_by_hand(true);
    int slept;
    EXPECT_EQ(sch_cancel(sch_self()), 0);
    EXPECT_EQ(sch_sleep(SCH_MILLISECOND), -ECANCELED);
    EXPECT_EQ(sch_shield_begin(until), 0);
    EXPECT(!sch_cancelled() || sch_now() >= until);
    slept = sch_sleep(SCH_MILLISECOND);
    EXPECT(slept == 0 || sch_now() >= until); /* the system stopped us for so long */
    EXPECT_EQ(sch_await(&r.op), 7);
    EXPECT_EQ(sch_await(&h.op), -ECANCELED);
    EXPECT(sch_now() >= until);
    EXPECT_EQ(schi_load_seq(&h.cancelled), 1);
    EXPECT(sch_cancelled());
    EXPECT_EQ(sch_suspend(), -ECANCELED);
    sch_shield_end();

    until = sch_now() + 3 * SCH_MILLISECOND;
    EXPECT_EQ(sch_shield_begin(until), 0);
    EXPECT_EQ(sch_suspend(), -ECANCELED);
    EXPECT(sch_now() >= until);
    sch_shield_end();

    until = sch_now() + 3 * SCH_MILLISECOND;
    EXPECT_EQ(sch_shield_begin(until), 0);
    EXPECT_EQ(sch_shield_begin(until - SCH_MILLISECOND), 0); /* the latest counts */
    EXPECT_EQ(sch_join(s->other), -EINTR);
    EXPECT(sch_now() >= until);
    sch_shield_end();
    EXPECT(sch_cancelled());
    sch_shield_end();
    EXPECT_EQ(sch_shield_begin(SCH_FOREVER), 0);
    EXPECT_EQ(sch_cancel(s->other), 0);
    EXPECT_EQ(sch_join(s->other), -ECANCELED); /* a result wins, and it is not refused */
    sch_shield_end();
}

/* Cancelled when the shield of the wait that it is in is over already. */
static void ops_outlives_shield(void *arg) {
    ops_shield *s = (ops_shield *)arg;
    uint64_t until = sch_now() + 2 * SCH_MILLISECOND;
    EXPECT_EQ(sch_shield_begin(until), 0);
    schi_store_seq(&s->waits, 1u);
    EXPECT_EQ(sch_suspend(), -ECANCELED);
    sch_shield_end();
}

static void ops_shields(bool paused, sch_flavor flavor) {
    sch_config config;
    ops_shield s;
    sch_task *task;
    memset(&config, 0, sizeof config);
    config.flavor = flavor;
    config.paused_clock = paused;
    s.rt = sch_runtime_new(&config);
    schi_store_seq(&s.waits, 0u);
    if (!EXPECT(s.rt != NULL)) return;
    for (int i = 0; i < 3; i++) {
        s.other = sch_spawn(s.rt, ops_wait_for_ever, NULL);
        EXPECT_EQ(sch_join(sch_spawn(s.rt, ops_shielded_waits, &s)), -ECANCELED);
        s.other = sch_spawn(s.rt, ops_wait_for_ever, NULL);
        EXPECT_EQ(sch_join(sch_spawn_blocking(s.rt, ops_shielded_waits, &s)), -ECANCELED);
    }
    if (flavor == SCH_MULTI_THREAD) {
        task = sch_spawn(s.rt, ops_outlives_shield, &s);
        while (!schi_load_seq(&s.waits)) sch_yield_now();
        EXPECT_EQ(sch_sleep(10 * SCH_MILLISECOND), 0);
        EXPECT_EQ(sch_cancel(task), 0);
        EXPECT_EQ(sch_join(task), -ECANCELED);
    }
    sch_runtime_free(s.rt);
}

TEST(ops_shields_with_a_time) {
    ops_shields(false, SCH_MULTI_THREAD);
    ops_shields(true, SCH_MULTI_THREAD);
    ops_shields(false, SCH_CURRENT_THREAD);
    ops_shields(true, SCH_CURRENT_THREAD);
}

/* On a paused clock: jobs queued behind jobs that sleep; a visitor's sleep after the shutdown. */
static void ops_short_sleep(void *arg) {
    (void)arg;
    EXPECT_EQ(sch_sleep(SCH_MILLISECOND), 0);
}

static void ops_sleep_after_the_end(void *arg) {
    EXPECT_EQ(sch_runtime_shutdown((sch_runtime *)arg, SCH_FOREVER), 0);
    (void)sch_sleep(SCH_SECOND); /* it ends */
}

TEST(ops_paused_clock_at_its_limits) {
    sch_config config;
    sch_runtime *rt;
    sch_task *job[3];
    memset(&config, 0, sizeof config);
    config.paused_clock = true;
    config.max_blocking_threads = 1;
    config.workers = 2;
    rt = sch_runtime_new(&config);
    if (!EXPECT(rt != NULL)) return;
    for (int i = 0; i < 3; i++) job[i] = sch_spawn_blocking(rt, ops_short_sleep, NULL);
    for (int i = 0; i < 3; i++) EXPECT_EQ(sch_join(job[i]), 0);
    EXPECT_EQ(sch_block_on(rt, ops_sleep_after_the_end, rt), 0);
    sch_runtime_free(rt);
}
