/* blocking.c - [11.3] [12]: blocking calls lend or hand over the core, and get one back. */
#include "support.h"

static const unsigned blocking_workers[] = {1, 2, 3};
#define BLOCKING_SIZES 3

/* Around spawn + join, nested, with yields ------------------------------------------------------*/

static void blocking_leaf(void *arg) {
    EXPECT(sch_worker_index() != UINT_MAX);
    EXPECT_EQ(sch_yield_now(), 0);
    support_count(arg);
}

static void blocking_nested(void *arg) {
    EXPECT_EQ(sch_worker_index(), UINT_MAX);
    EXPECT_EQ(sch_join(sch_spawn(NULL, blocking_leaf, arg)), 0);
    support_count(arg);
}

static void blocking_child(void *arg) {
    EXPECT_EQ(sch_block_in_place(blocking_nested, arg), 0);
    EXPECT(sch_worker_index() != UINT_MAX);
}

static void blocking_outer(void *arg) {
    sch_task *child[8], *me = sch_self();
    EXPECT(me != NULL);
    EXPECT_EQ(sch_worker_index(), UINT_MAX);
    for (int i = 0; i < 8; i++) child[i] = sch_spawn(NULL, blocking_child, arg);
    EXPECT_EQ(sch_block_in_place(blocking_nested, arg), 0);
    EXPECT_EQ(sch_worker_index(), UINT_MAX); /* the nested call was only a call */
    for (int i = 0; i < 8; i++) EXPECT_EQ(sch_join(child[i]), 0);
    EXPECT(sch_self() == me);
}

static void blocking_parent(void *arg) {
    for (int i = 0; i < 5; i++) {
        EXPECT_EQ(sch_block_in_place(blocking_outer, arg), 0);
        EXPECT(sch_worker_index() < 3);
    }
}

TEST(blocking_around_spawn_and_join) {
    for (int i = 0; i < BLOCKING_SIZES; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, blocking_workers[i]);
        sch_runtime *rt = support_begin(&config);
        sch_task *task[4];
        unsigned count = 0;
        for (int j = 0; j < 4; j++) task[j] = sch_spawn(rt, blocking_parent, &count);
        for (int j = 0; j < 4; j++) EXPECT_EQ(sch_join(task[j]), 0);
        EXPECT_EQ(count, 4 * 5 * (8 * 2 + 2));
        support_end(rt, &memory);
    }
}

/* Others go on ------------------------------------------------------------------------------------
 * Each of these ends only if some other task runs while the call blocks its thread. */

static void blocking_wait_for_own_child(void *arg) {
    EXPECT_EQ(sch_go(NULL, support_gate_open, arg), 0); /* queued: the core is handed over */
    EXPECT_EQ(sch_block_in_place(support_gate_wait, arg), 0);
}

static void blocking_wait(void *arg) {
    EXPECT_EQ(sch_block_in_place(support_gate_wait, arg), 0);
    EXPECT(sch_worker_index() != UINT_MAX);
}

TEST(blocking_queued_tasks_go_on) {
    for (int i = 0; i < BLOCKING_SIZES; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, blocking_workers[i]);
        sch_runtime *rt = support_begin(&config);
        support_gate gate = SUPPORT_GATE;
        support_run(rt, blocking_wait_for_own_child, &gate);
        if (i == 0) EXPECT(support_metrics(rt).total.handoff_count >= 1); /* nobody to steal it */
        support_end(rt, &memory);
    }
}

/* Tasks that wait at the gate, one after the other. */
static void blocking_fill(sch_runtime *rt, sch_fn fn, support_gate *gate, sch_task **task,
                          unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        task[i] = sch_spawn(rt, fn, gate);
        WAIT_FOR(support_gate_waiters(gate) == i + 1);
    }
}

/* All workers block with nothing queued, so their cores are lent; what comes from outside then
 * takes one of them. */
TEST(blocking_lent_core_is_taken) {
    for (int i = 0; i < BLOCKING_SIZES; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, blocking_workers[i]);
        sch_runtime *rt = support_begin(&config);
        support_gate gate = SUPPORT_GATE;
        sch_task *task[6];
        blocking_fill(rt, blocking_wait, &gate, task, 6);
        EXPECT(support_metrics(rt).total.lend_count >= 1);
        EXPECT(support_metrics(rt).num_worker_threads <= config.workers + 6);
        EXPECT_EQ(support_metrics(rt).num_blocking_threads, 0); /* workers are not counted there */
        support_run(rt, support_gate_open, &gate);
        for (int j = 0; j < 6; j++) EXPECT_EQ(sch_join(task[j]), 0);
        EXPECT(support_metrics(rt).total.lend_taken_count >= 1);
        support_end(rt, &memory);
    }
}

static void blocking_nothing(void *arg) { (void)arg; }

/* The same when each of them has taken its core back by plain stores for long. */
static void blocking_keeps_loan(void *gate) {
    while (schi_self()->loan.may_keep &&
           schi_load_seq(&schi_self()->loan.bias.state) != SCHI_PRIVATE) {
        EXPECT_EQ(sch_block_in_place(blocking_nothing, NULL), 0); /* maybe on another thread then */
    }
    for (int i = 0; i < 10; i++) EXPECT_EQ(sch_block_in_place(blocking_nothing, NULL), 0);
    EXPECT_EQ(sch_block_in_place(support_gate_wait, gate), 0);
}

static uint64_t blocking_loans_revoked(sch_runtime *rt) {
    uint64_t n = 0;
    schi_lock(&rt->idle.lock);
    for (unsigned i = 0; i < rt->top_thread; i++) {
        if (rt->threads[i]) n += schi_counted(&rt->threads[i]->loan.bias.num_revoked);
    }
    schi_unlock(&rt->idle.lock);
    return n;
}

TEST(blocking_lent_core_is_taken_from_who_kept_it) {
    for (int i = 0; i < BLOCKING_SIZES; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, blocking_workers[i]);
        sch_runtime *rt = support_begin(&config);
        support_gate gate = SUPPORT_GATE;
        sch_task *task[4];
        blocking_fill(rt, blocking_keeps_loan, &gate, task, 4);
        support_run(rt, support_gate_open, &gate);
        EXPECT_EQ(blocking_loans_revoked(rt) > 0, schi_barrier_open());
        for (int j = 0; j < 4; j++) EXPECT_EQ(sch_join(task[j]), 0);
        support_end(rt, &memory);
    }
}

typedef struct blocking_yielders {
    support_gate gate;
    unsigned ready, done, stop;
} blocking_yielders;

/* Opens the gate when each of the yielding tasks has been on a thread a few times more. */
static void blocking_yielder(void *arg) {
    blocking_yielders *y = (blocking_yielders *)arg;
    support_add(&y->ready, 1);
    while (support_gate_waiters(&y->gate) == 0) EXPECT_EQ(sch_yield_now(), 0);
    for (int i = 0; i < 5; i++) EXPECT_EQ(sch_yield_now(), 0);
    if (support_add(&y->done, 1) == 20) support_gate_open(&y->gate);
    YIELD_UNTIL(support_get(&y->stop));
}

static void blocking_amid_yielders(void *arg) {
    blocking_yielders *y = (blocking_yielders *)arg;
    for (int i = 0; i < 20; i++) EXPECT_EQ(sch_go(NULL, blocking_yielder, arg), 0);
    YIELD_UNTIL(support_get(&y->ready) == 20);
    EXPECT_EQ(sch_block_in_place(support_gate_wait, &y->gate), 0);
    support_set(&y->stop, 1);
}

TEST(blocking_yielded_tasks_are_not_stranded) {
    for (int i = 0; i < BLOCKING_SIZES; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, blocking_workers[i]);
        blocking_yielders y = {SUPPORT_GATE, 0, 0, 0};
        config.no_standby = true; /* nobody comes to their rescue */
        sch_runtime *rt = support_begin(&config);
        support_run(rt, blocking_amid_yielders, &y);
        WAIT_FOR(sch_num_alive_tasks(rt) == 0);
        support_end(rt, &memory);
    }
}

/* In a poll task --------------------------------------------------------------------------------*/

typedef struct blocking_poll_state {
    support_gate *gate;
    sch_task *never;  /* a task that does not end meanwhile */
    unsigned polls;
} blocking_poll_state;

static void blocking_in_poll(void *arg) {
    blocking_poll_state *s = (blocking_poll_state *)arg;
    EXPECT_EQ(sch_worker_index(), UINT_MAX);
    EXPECT_EQ(sch_suspend(), -EPERM);
    EXPECT_EQ(sch_join(s->never), -EPERM);
    support_gate_wait(s->gate);
}

static sch_status blocking_poll(sch_task *self, void *state) {
    blocking_poll_state *s = (blocking_poll_state *)state;
    EXPECT_EQ(sch_block_in_place(blocking_in_poll, s), 0);
    EXPECT(sch_worker_index() != UINT_MAX);
    EXPECT(sch_self() == self);
    if (++s->polls == 3) return SCH_READY;
    if (s->polls == 1) {
        EXPECT_EQ(sch_yield_now(), 0);
    } else {
        sch_wake(self);
    }
    return SCH_PENDING;
}

static void blocking_suspend(void *arg) {
    (void)arg;
    EXPECT_EQ(sch_suspend(), 0);
}

TEST(blocking_in_a_poll_task) {
    for (int i = 0; i < BLOCKING_SIZES; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, blocking_workers[i]);
        sch_runtime *rt = support_begin(&config);
        support_gate gate = SUPPORT_GATE;
        blocking_poll_state state = {&gate, sch_spawn(rt, blocking_suspend, NULL), 0};
        sch_task *poll = sch_spawn_poll(rt, blocking_poll, &state, sizeof state);
        WAIT_FOR(support_gate_waiters(&gate) == 1);
        support_run(rt, support_gate_open, &gate);
        WAIT_FOR(sch_is_done(poll));
        EXPECT_EQ(((blocking_poll_state *)sch_task_state(poll))->polls, 3);
        EXPECT_EQ(sch_join(poll), 0);
        sch_wake(state.never);
        EXPECT_EQ(sch_join(state.never), 0);
        support_end(rt, &memory);
    }
}

/* Waits inside ----------------------------------------------------------------------------------*/

typedef struct blocking_pair {
    sch_task *player[2];
    unsigned turn, moved, stop;
} blocking_pair;

static SCHI_NOINLINE uintptr_t blocking_thread(void) { return (uintptr_t)schi_self(); }

/* Two tasks wake each other from inside their calls until one has come back on another thread. */
static void blocking_play(blocking_pair *p, unsigned me) {
    unsigned rounds = 0;
    bool stop = false;
    while (!stop) {
        uintptr_t before = blocking_thread();
        while (support_get(&p->turn) != me) EXPECT_EQ(sch_suspend(), 0);
        if (blocking_thread() != before) support_add(&p->moved, 1);
        EXPECT_EQ(sch_worker_index(), UINT_MAX);
        EXPECT(sch_self() == p->player[me]);
        stop = support_get(&p->stop) != 0;
        if (++rounds >= 50 && support_get(&p->moved) > 0) {
            support_set(&p->stop, 1);
            stop = true;
        }
        support_set(&p->turn, 1 - me);
        sch_wake(p->player[1 - me]);
        if (rounds % 3 == 0) EXPECT_EQ(sch_yield_now(), 0);
        EXPECT_EQ(sch_worker_index(), UINT_MAX);
    }
}

static void blocking_play_0(void *arg) { blocking_play((blocking_pair *)arg, 0); }
static void blocking_play_1(void *arg) { blocking_play((blocking_pair *)arg, 1); }

static void blocking_player_0(void *arg) {
    EXPECT_EQ(sch_block_in_place(blocking_play_0, arg), 0);
    EXPECT(sch_worker_index() != UINT_MAX);
}

static void blocking_player_1(void *arg) {
    EXPECT_EQ(sch_block_in_place(blocking_play_1, arg), 0);
    EXPECT(sch_worker_index() != UINT_MAX);
}

TEST(blocking_waits_inside_change_threads) {
    for (int i = 0; i < BLOCKING_SIZES; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, blocking_workers[i]);
        sch_runtime *rt = support_begin(&config);
        blocking_pair p = {{NULL, NULL}, 2, 0, 0};
        p.player[0] = sch_retain(sch_spawn(rt, blocking_player_0, &p));
        p.player[1] = sch_retain(sch_spawn(rt, blocking_player_1, &p));
        support_set(&p.turn, 0);
        sch_wake(p.player[0]);
        for (int j = 0; j < 2; j++) EXPECT_EQ(sch_join(p.player[j]), 0);
        for (int j = 0; j < 2; j++) sch_release(p.player[j]); /* the one may still wake the other */
        EXPECT(p.moved > 0);
        support_end(rt, &memory);
    }
}

/* block_on inside -------------------------------------------------------------------------------*/

typedef struct blocking_other {
    sch_runtime *mine, *other;
    unsigned count;
} blocking_other;

static void blocking_in_other(void *arg) {
    blocking_other *o = (blocking_other *)arg;
    EXPECT(sch_self() == NULL);
    EXPECT_EQ(sch_join(sch_spawn(NULL, support_count, &o->count)), 0); /* there */
    EXPECT_EQ(sch_join(sch_spawn(o->mine, support_count, &o->count)), 0);
    EXPECT_EQ(sch_yield_now(), 0);
}

static void blocking_in_same(void *arg) {
    EXPECT(sch_self() != NULL);
    support_count(arg);
}

static void blocking_on_both(void *arg) {
    blocking_other *o = (blocking_other *)arg;
    sch_task *me = sch_self();
    EXPECT_EQ(sch_block_on(o->mine, blocking_in_same, &o->count), 0);
    EXPECT_EQ(sch_block_on(o->other, blocking_in_other, arg), 0);
    EXPECT(sch_self() == me);
    EXPECT_EQ(sch_yield_now(), 0);
}

static void blocking_on_task(void *arg) {
    blocking_other *o = (blocking_other *)arg;
    EXPECT_EQ(sch_block_on(o->mine, blocking_in_same, &o->count), 0);
    EXPECT_EQ(sch_block_on(o->other, blocking_in_other, arg), -EDEADLK);
    for (int i = 0; i < 3; i++) EXPECT_EQ(sch_block_in_place(blocking_on_both, arg), 0);
    EXPECT_EQ(sch_block_on(o->other, blocking_in_other, arg), -EDEADLK);
}

static void blocking_block_on(unsigned workers, unsigned other_workers) {
    checked_memory memory, other_memory;
    sch_config config = support_config(&memory, workers);
    sch_config other = support_config(&other_memory, other_workers);
    blocking_other o = {support_begin(&config), support_begin(&other), 0};
    support_run(o.mine, blocking_on_task, &o);
    EXPECT_EQ(o.count, 1 + 3 * 3);
    EXPECT_EQ(sch_join(sch_spawn_blocking(o.mine, blocking_on_both, &o)), 0);
    EXPECT_EQ(o.count, 1 + 3 * 3 + 3);
    support_end(o.mine, &memory);
    support_end(o.other, &other_memory);
}

TEST(blocking_block_on_inside) {
    for (int i = 0; i < BLOCKING_SIZES; i++) {
        blocking_block_on(blocking_workers[i], 1);
        blocking_block_on(blocking_workers[i], 0);
    }
}

/* Places ----------------------------------------------------------------------------------------*/

typedef struct blocking_crowd {
    unsigned inside, most, calls;
} blocking_crowd;

static void blocking_crowd_call(void *arg) {
    blocking_crowd *c = (blocking_crowd *)arg;
    unsigned inside = support_add(&c->inside, 1), most = support_get(&c->most);
    while (inside > most) {
        if (__atomic_compare_exchange_n(&c->most, &most, inside, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST)) {
            break;
        }
    }
    if (support_add(&c->calls, 1) % 3 == 0) EXPECT_EQ(sch_yield_now(), 0); /* keeps its place */
    support_nap((long)(test_random() % 50));
    support_add(&c->inside, 0u - 1u);
}

static void blocking_crowd_task(void *arg) {
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(sch_block_in_place(blocking_crowd_call, arg), 0);
        if (i == 1) EXPECT_EQ(sch_yield_now(), 0);
    }
}

/* A few calls at once (threads may keep a place after a call, so there is one more for each core);
 * all others wait their turn, and the threads for them go in the end. */
TEST(blocking_places_are_limited) {
    for (int i = 0; i < BLOCKING_SIZES; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, blocking_workers[i]);
        blocking_crowd crowd = {0, 0, 0};
        sch_task *task[50];
        config.max_blocking_threads = 2;
        config.keep_alive_ns = 20 * SCH_MILLISECOND;
        sch_runtime *rt = support_begin(&config);
        for (int round = 0; round < 3; round++) {
            for (int j = 0; j < 50; j++) task[j] = sch_spawn(rt, blocking_crowd_task, &crowd);
            EXPECT(support_metrics(rt).num_worker_threads <= 2 * config.workers + 2);
            for (int j = 0; j < 50; j++) EXPECT_EQ(sch_join(task[j]), 0);
            EXPECT(support_metrics(rt).num_worker_threads <= 2 * config.workers + 2);
        }
        EXPECT_EQ(crowd.calls, 3 * 50 * 3);
        EXPECT(crowd.most >= 2 && crowd.most <= config.workers + 2);
        WAIT_FOR(support_metrics(rt).num_worker_threads == config.workers);
        support_run(rt, blocking_crowd_task, &crowd);
        support_end(rt, &memory);
    }
}

static sch_status blocking_refused(sch_task *self, void *state) {
    (void)self;
    EXPECT_EQ(sch_block_in_place(support_count, *(unsigned **)state), -EAGAIN);
    return SCH_READY;
}

/* Without a place a poll task, which cannot wait for one, is refused; a task waits even when it is
 * cancelled, since its function is promised to run. */
TEST(blocking_without_a_place) {
    checked_memory memory;
    sch_config config = support_config(&memory, 2);
    support_gate gate = SUPPORT_GATE;
    unsigned calls = 0, *pointer = &calls;
    sch_task *holder[4], *waiting;
    config.max_blocking_threads = 2;
    sch_runtime *rt = support_begin(&config);
    for (int i = 0; i < 4; i++) holder[i] = sch_spawn(rt, blocking_wait, &gate);
    WAIT_FOR(support_gate_waiters(&gate) == 4);
    EXPECT_EQ(sch_join(sch_spawn_poll(rt, blocking_refused, &pointer, sizeof pointer)), 0);
    EXPECT_EQ(calls, 0);
    waiting = sch_spawn(rt, blocking_wait, &gate);
    WAIT_FOR(schi_load_seq(&rt->reserve_waiters) == 1);
    EXPECT_EQ(sch_cancel(waiting), 0);
    EXPECT_EQ(support_gate_waiters(&gate), 4);
    EXPECT(!sch_is_done(waiting));
    support_gate_open(&gate);
    EXPECT_EQ(sch_join(waiting), 0);
    EXPECT_EQ(support_gate_waiters(&gate), 5);
    for (int i = 0; i < 4; i++) EXPECT_EQ(sch_join(holder[i]), 0);
    support_end(rt, &memory);
}

/* Threads that were needed for a while end after keep_alive, workers' replacements and those of the
 * pool; what comes later works as before. */
TEST(blocking_spare_threads_end) {
    checked_memory memory;
    sch_config config = support_config(&memory, 2);
    sch_task *task[8], *job[8];
    config.keep_alive_ns = 20 * SCH_MILLISECOND;
    sch_runtime *rt = support_begin(&config);
    const int threads = test_count("/proc/self/task");
    for (int round = 0; round < 2; round++) {
        support_gate gate = SUPPORT_GATE;
        for (int i = 0; i < 8; i++) {
            task[i] = sch_spawn(rt, blocking_wait, &gate);
            job[i] = sch_spawn_blocking(rt, support_gate_wait, &gate);
        }
        WAIT_FOR(support_gate_waiters(&gate) == 16);
        EXPECT_EQ(support_metrics(rt).num_blocking_threads, 8);
        EXPECT(support_metrics(rt).num_worker_threads >= 8);
        EXPECT(support_metrics(rt).num_worker_threads <= 2 + 8);
        support_gate_open(&gate);
        for (int i = 0; i < 8; i++) {
            EXPECT_EQ(sch_join(task[i]), 0);
            EXPECT_EQ(sch_join(job[i]), 0);
        }
        WAIT_FOR(support_metrics(rt).num_worker_threads == 2);
        WAIT_FOR(support_metrics(rt).num_blocking_threads == 0);
        EXPECT_EQ(support_metrics(rt).num_idle_blocking_threads, 0);
        WAIT_FOR(test_count("/proc/self/task") <= threads);
    }
    support_end(rt, &memory);
}
