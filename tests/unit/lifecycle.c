/* lifecycle.c - [6] [11.4] [18]: how a task begins, waits, is told to end and ends; its handle. */
#include "support.h"

static const unsigned lifecycle_workers[] = {0, 1, 2, 3};
#define LIFECYCLE_SIZES 4

typedef struct lifecycle {
    sch_runtime *rt;
    unsigned a, b, c, stop; /* counters of the test at hand */
    sch_task *task;
} lifecycle;

static void lifecycle_each(void (*test)(lifecycle *t)) {
    for (int i = 0; i < LIFECYCLE_SIZES; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, lifecycle_workers[i]);
        lifecycle t;
        memset(&t, 0, sizeof t);
        t.rt = support_begin(&config);
        test(&t);
        support_end(t.rt, &memory);
    }
}

/* The same, but the test itself is a task. */
static void (*lifecycle_body)(lifecycle *t);

static void lifecycle_in_task(void *arg) { lifecycle_body((lifecycle *)arg); }

static void lifecycle_run(lifecycle *t) { support_run(t->rt, lifecycle_in_task, t); }

static void lifecycle_each_in_task(void (*test)(lifecycle *t)) {
    lifecycle_body = test;
    lifecycle_each(lifecycle_run);
}

static void lifecycle_nothing(void *arg) { (void)arg; }

/* Yield until the task waits; it cannot be seen otherwise. */
static void lifecycle_settle(sch_task *task) {
    YIELD_UNTIL(sch_is_done(task) || (schi_load_seq(&task->state) & SCHI_WAIT_BITS));
}

/* Spawn -----------------------------------------------------------------------------------------*/

static void lifecycle_spawner(void *arg, unsigned index) {
    lifecycle *t = (lifecycle *)arg;
    unsigned *counter = &t->a;
    for (size_t i = 0; i < test_scale(300) + 3; i++) {
        switch ((i + index) % 3) {
        case 0: EXPECT_EQ(sch_join(sch_spawn(t->rt, support_count, counter)), 0); break;
        case 1: EXPECT_EQ(sch_join(sch_spawn_blocking(t->rt, support_count, counter)), 0); break;
        default: EXPECT_EQ(sch_go(t->rt, support_count, counter), 0); break;
        }
    }
}

static void lifecycle_from_threads(lifecycle *t) {
    crew_run(4, lifecycle_spawner, t);
    while (sch_num_alive_tasks(t->rt) > 0) { /* somebody has to drive a SCH_CURRENT_THREAD one */
        EXPECT_EQ(sch_join(sch_spawn(t->rt, lifecycle_nothing, NULL)), 0);
    }
    EXPECT_EQ(support_get(&t->a), 4 * (test_scale(300) + 3));
}

TEST(lifecycle_spawn_from_foreign_threads) { lifecycle_each(lifecycle_from_threads); }

/* Wake ------------------------------------------------------------------------------------------*/

static void lifecycle_suspend_twice(void *arg) {
    lifecycle *t = (lifecycle *)arg;
    EXPECT_EQ(sch_suspend(), 0);
    support_add(&t->a, 1);
    YIELD_UNTIL(support_get(&t->stop)); /* woken meanwhile, while it runs */
    EXPECT_EQ(sch_suspend(), 0);
    support_add(&t->a, 1);
    EXPECT_EQ(sch_suspend(), -ECANCELED);
}

static void lifecycle_wakes(lifecycle *t) {
    sch_task *task = sch_spawn(t->rt, lifecycle_suspend_twice, t);
    for (int i = 0; i < 3; i++) sch_wake(task); /* before it waits: they count, as one */
    YIELD_UNTIL(support_get(&t->a) == 1);
    for (int i = 0; i < 3; i++) sch_wake(task);
    support_set(&t->stop, 1);
    YIELD_UNTIL(support_get(&t->a) == 2);
    lifecycle_settle(task);
    for (int i = 0; i < 10; i++) EXPECT_EQ(sch_yield_now(), 0);
    EXPECT(!sch_is_done(task)); /* no wake was left over */
    EXPECT_EQ(sch_cancel(task), 0);
    YIELD_UNTIL(sch_is_done(task));
    sch_wake(task); /* it has ended: nothing happens */
    sch_wake_signal(task);
    EXPECT_EQ(sch_cancel(task), -ESRCH);
    EXPECT_EQ(sch_join(task), -ECANCELED);
}

TEST(lifecycle_wake_early_twice_and_late) { lifecycle_each_in_task(lifecycle_wakes); }

static void lifecycle_sleep(void *arg) {
    (void)arg;
    EXPECT_EQ(sch_suspend(), 0);
}

static void lifecycle_joiner(void *arg) {
    lifecycle *t = (lifecycle *)arg;
    EXPECT_EQ(sch_join(t->task), 0);
    support_add(&t->a, 1);
    EXPECT_EQ(sch_suspend(), 0); /* the wake that came during the join was kept */
}

/* A wake does not cut another kind of wait short. */
static void lifecycle_wake_in_join(lifecycle *t) {
    sch_task *joiner;
    t->task = sch_spawn(t->rt, lifecycle_sleep, NULL);
    joiner = sch_spawn(t->rt, lifecycle_joiner, t);
    lifecycle_settle(joiner);
    sch_wake(joiner);
    for (int i = 0; i < 10; i++) EXPECT_EQ(sch_yield_now(), 0);
    EXPECT_EQ(support_get(&t->a), 0);
    EXPECT(!sch_is_done(joiner));
    sch_wake(t->task);
    EXPECT_EQ(sch_join(joiner), 0);
}

TEST(lifecycle_wake_in_another_wait) { lifecycle_each_in_task(lifecycle_wake_in_join); }

/* Join ------------------------------------------------------------------------------------------*/

static void lifecycle_join_self(void *arg) {
    EXPECT(sch_self() != NULL);
    EXPECT_EQ(sch_join(sch_self()), -EDEADLK);
    support_count(arg);
}

static sch_status lifecycle_join_self_poll(sch_task *self, void *state) {
    EXPECT_EQ(sch_join(self), -EDEADLK);
    support_count(*(unsigned **)state);
    return SCH_READY;
}

static void lifecycle_join_first(void *arg) { EXPECT_EQ(sch_join((sch_task *)arg), 0); }

static void lifecycle_joins(lifecycle *t) {
    unsigned *count = &t->a;
    sch_task *task, *first;
    EXPECT_EQ(sch_join(sch_spawn(t->rt, lifecycle_join_self, count)), 0);
    EXPECT_EQ(sch_join(sch_spawn_blocking(t->rt, lifecycle_join_self, count)), 0);
    EXPECT_EQ(sch_join(sch_spawn_poll(t->rt, lifecycle_join_self_poll, &count, sizeof count)), 0);
    EXPECT_EQ(t->a, 3);

    /* A second joiner is refused while the first waits, and afterwards. */
    task = sch_spawn(t->rt, lifecycle_sleep, NULL);
    (void)sch_retain(task);
    first = sch_spawn(t->rt, lifecycle_join_first, task);
    lifecycle_settle(first);
    EXPECT_EQ(sch_join(task), -EBUSY);
    sch_wake(task);
    EXPECT_EQ(sch_join(first), 0);
    EXPECT(sch_is_done(task));
    EXPECT_EQ(sch_join(task), -EINVAL);
    sch_release(task);

    /* The same if it had ended before anybody joined it. */
    task = sch_retain(sch_spawn(t->rt, lifecycle_nothing, NULL));
    YIELD_UNTIL(sch_is_done(task));
    EXPECT_EQ(sch_join(task), 0);
    EXPECT_EQ(sch_join(task), -EINVAL);
    sch_release(task);
}

TEST(lifecycle_join_refused) { lifecycle_each_in_task(lifecycle_joins); }

/* Cancel ----------------------------------------------------------------------------------------*/

static const sch_spawn_desc lifecycle_counted = {"counted", NULL, 0, 0, support_count};

static void lifecycle_fail_to_run(void *arg) { (void)EXPECT(arg == NULL); }

static sch_status lifecycle_fail_to_poll(sch_task *self, void *state) {
    (void)self;
    (void)EXPECT(state == NULL);
    return SCH_READY;
}

static void lifecycle_drop_state(void *state) { support_count(*(unsigned **)state); }

/* On one core nobody else can have started it. */
static void lifecycle_cancel_new(lifecycle *t) {
    static const sch_spawn_desc poll_desc = {"poll", NULL, 0, 0, lifecycle_drop_state};
    unsigned *dropped = &t->a;
    sch_task *task = sch_spawn_with(t->rt, &lifecycle_counted, lifecycle_fail_to_run, dropped);
    sch_task *poll = sch_spawn_poll_with(t->rt, &poll_desc, lifecycle_fail_to_poll, &dropped,
                                         sizeof dropped);
    EXPECT_EQ(sch_cancel(task), 0);
    EXPECT_EQ(sch_cancel(task), 0); /* again */
    EXPECT_EQ(sch_cancel(poll), 0);
    EXPECT_EQ(sch_join(task), -ECANCELED);
    EXPECT_EQ(sch_join(poll), -ECANCELED);
    EXPECT_EQ(t->a, 2);
}

TEST(lifecycle_cancel_before_first_run) {
    for (unsigned workers = 0; workers < 2; workers++) {
        checked_memory memory;
        sch_config config = support_config(&memory, workers);
        support_gate gate = SUPPORT_GATE;
        sch_task *busy, *job;
        lifecycle t;
        unsigned dropped = 0;
        memset(&t, 0, sizeof t);
        config.max_blocking_threads = 1;
        t.rt = support_begin(&config);
        lifecycle_body = lifecycle_cancel_new;
        support_run(t.rt, lifecycle_in_task, &t);
        /* A job behind another one. */
        busy = sch_spawn_blocking(t.rt, support_gate_wait, &gate);
        job = sch_spawn_blocking_with(t.rt, &lifecycle_counted, lifecycle_fail_to_run, &dropped);
        EXPECT_EQ(sch_cancel(job), 0);
        support_gate_open(&gate);
        EXPECT_EQ(sch_join(busy), 0);
        EXPECT_EQ(sch_join(job), -ECANCELED);
        EXPECT_EQ(dropped, 1);
        EXPECT_EQ(support_metrics(t.rt).cancelled_tasks_count, 3);
        support_end(t.rt, &memory);
    }
}

/* Cancelled in a wait; from then on every wait says so, but under a shield. */
static void lifecycle_told(void *arg) {
    lifecycle *t = (lifecycle *)arg;
    EXPECT(!sch_cancelled());
    EXPECT_EQ(sch_suspend(), -ECANCELED);
    EXPECT(sch_cancelled());
    EXPECT_EQ(sch_suspend(), -ECANCELED);
    EXPECT_EQ(sch_join(t->task), -EINTR); /* it has not ended, and is still ours */
    EXPECT_EQ(sch_shield_begin(SCH_FOREVER), 0);
    EXPECT_EQ(sch_shield_begin(SCH_FOREVER), 0);
    EXPECT(!sch_cancelled());
    sch_shield_end();
    EXPECT(!sch_cancelled());
    support_add(&t->a, 1);
    EXPECT_EQ(sch_suspend(), 0);
    support_add(&t->a, 1);
    EXPECT_EQ(sch_join(t->task), 0);
    sch_shield_end();
    EXPECT(sch_cancelled());
    EXPECT_EQ(sch_suspend(), -ECANCELED);
    EXPECT_EQ(sch_yield_now(), 0); /* no wait for anything */
}

static void lifecycle_sticky(lifecycle *t, sch_task *(*spawn)(sch_runtime *, sch_fn, void *)) {
    sch_task *task;
    support_set(&t->a, 0);
    t->task = sch_spawn(t->rt, lifecycle_sleep, NULL);
    task = spawn(t->rt, lifecycle_told, t);
    lifecycle_settle(task);
    EXPECT_EQ(sch_cancel(task), 0);
    YIELD_UNTIL(support_get(&t->a) == 1);
    lifecycle_settle(task);
    EXPECT_EQ(sch_cancel(task), 0);
    for (int i = 0; i < 10; i++) EXPECT_EQ(sch_yield_now(), 0);
    EXPECT_EQ(support_get(&t->a), 1); /* the shield holds */
    sch_wake(task);
    YIELD_UNTIL(schi_load_seq(&t->task->state) & SCHI_JOIN_WAITER);
    EXPECT_EQ(sch_cancel(task), 0);
    for (int i = 0; i < 10; i++) EXPECT_EQ(sch_yield_now(), 0);
    EXPECT(!sch_is_done(task));
    sch_wake(t->task);
    EXPECT_EQ(sch_join(task), -ECANCELED);
}

static void lifecycle_sticky_both(lifecycle *t) {
    lifecycle_sticky(t, sch_spawn);
    lifecycle_sticky(t, sch_spawn_blocking);
}

TEST(lifecycle_cancel_is_sticky_but_for_shields) { lifecycle_each_in_task(lifecycle_sticky_both); }

static void lifecycle_results(void *arg) {
    lifecycle *t = (lifecycle *)arg;
    sch_task *ended = sch_spawn(t->rt, lifecycle_nothing, NULL);
    support_set(&t->a, 1);
    YIELD_UNTIL(sch_is_done(ended) && support_get(&t->stop));
    EXPECT(sch_cancelled());
    EXPECT_EQ(sch_suspend(), 0);   /* the wake that was there */
    EXPECT_EQ(sch_join(ended), 0); /* and the end */
}

/* A result that is there wins over a cancellation; a task that was never told has completed. */
static void lifecycle_results_win(lifecycle *t) {
    sch_task *task = sch_spawn(t->rt, lifecycle_results, t);
    YIELD_UNTIL(support_get(&t->a));
    sch_wake(task);
    EXPECT_EQ(sch_cancel(task), 0);
    support_set(&t->stop, 1);
    EXPECT_EQ(sch_join(task), 0);
}

TEST(lifecycle_results_win) { lifecycle_each_in_task(lifecycle_results_win); }

static sch_status lifecycle_cancelled_poll(sch_task *self, void *state) {
    lifecycle *t = *(lifecycle **)state;
    switch (support_add(&t->a, 1)) {
    case 1: return SCH_PENDING;
    case 2:
        EXPECT(sch_cancelled());
        EXPECT_EQ(sch_suspend(), -EPERM);
        return SCH_PENDING;
    default: EXPECT_EQ(sch_cancel(self), 0); return SCH_READY; /* during the poll */
    }
}

/* Polled once more for a cancellation, not for the next; then again for a wake. */
static void lifecycle_cancel_poll(lifecycle *t) {
    sch_task *task = sch_spawn_poll(t->rt, lifecycle_cancelled_poll, &t, sizeof t);
    for (unsigned polls = 1; polls <= 3; polls++) {
        YIELD_UNTIL(support_get(&t->a) == polls);
        if (polls < 3) lifecycle_settle(task);
        if (polls == 1) EXPECT_EQ(sch_cancel(task), 0);
        if (polls == 2) {
            EXPECT_EQ(sch_cancel(task), 0);
            for (int i = 0; i < 10; i++) EXPECT_EQ(sch_yield_now(), 0);
            EXPECT_EQ(support_get(&t->a), 2);
            sch_wake(task);
        }
    }
    EXPECT_EQ(sch_join(task), 0); /* it has ended by itself */
}

TEST(lifecycle_cancel_a_poll_task) { lifecycle_each_in_task(lifecycle_cancel_poll); }

static sch_status lifecycle_self_cancel(sch_task *self, void *state) {
    if (++*(unsigned *)state == 2) return SCH_READY;
    EXPECT_EQ(sch_cancel(self), 0); /* it is polled once more for that */
    return SCH_PENDING;
}

static void lifecycle_cancel_in_poll(lifecycle *t) {
    unsigned zero = 0;
    EXPECT_EQ(sch_join(sch_spawn_poll(t->rt, lifecycle_self_cancel, &zero, sizeof zero)), 0);
}

TEST(lifecycle_cancel_during_a_poll) { lifecycle_each_in_task(lifecycle_cancel_in_poll); }

/* Handles ---------------------------------------------------------------------------------------*/

static void lifecycle_wait_forever(void *arg) {
    (void)arg;
    EXPECT_EQ(sch_suspend(), -ECANCELED);
}

static sch_status lifecycle_poll_once(sch_task *self, void *state) {
    (void)self;
    return *(unsigned *)state == 7 ? SCH_READY : SCH_PENDING;
}

TEST(lifecycle_handles_outlive_the_runtime) {
    for (int i = 0; i < LIFECYCLE_SIZES; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, lifecycle_workers[i]);
        sch_runtime *rt = support_begin(&config);
        const unsigned seven = 7, eight = 8;
        sch_task *task[5];
        const int results[5] = {0, -ECANCELED, 0, -ECANCELED, 0};
        task[0] = sch_spawn(rt, lifecycle_nothing, NULL);
        task[1] = sch_spawn(rt, lifecycle_wait_forever, NULL);
        task[2] = sch_spawn_poll(rt, lifecycle_poll_once, &seven, sizeof seven);
        task[3] = sch_spawn_poll(rt, lifecycle_poll_once, &eight, sizeof eight);
        task[4] = sch_spawn_blocking(rt, lifecycle_nothing, NULL);
        support_run(rt, lifecycle_nothing, NULL);
        while (!sch_is_done(task[0]) || !sch_is_done(task[2]) || !sch_is_done(task[4]) ||
               (schi_load_seq(&task[1]->state) & SCHI_WAIT_BITS) == 0) {
            support_run(rt, lifecycle_nothing, NULL);
        }
        sch_runtime_free(rt);
        EXPECT(checked_live(&memory) > 0);
        for (int j = 0; j < 5; j++) {
            EXPECT(sch_is_done(task[j]));
            sch_wake(task[j]);
            sch_wake_signal(task[j]);
            EXPECT_EQ(sch_cancel(task[j]), -ESRCH);
            EXPECT(sch_retain(task[j]) == task[j]);
            EXPECT_EQ(sch_join(task[j]), results[j]);
            EXPECT_EQ(sch_join(task[j]), -EINVAL);
            if (j == 2) EXPECT_EQ(*(unsigned *)sch_task_state(task[j]), 7);
            sch_release(task[j]);
        }
        checked_end(&memory);
    }
}

static void lifecycle_refer(void *arg, unsigned index) {
    lifecycle *t = (lifecycle *)arg;
    for (size_t i = 0; i < test_scale(20000) + 10; i++) {
        EXPECT(sch_retain(t->task) == t->task);
        if ((i + index) % 5 == 0) sch_wake(t->task);
        sch_release(t->task);
    }
    sch_release(t->task); /* one for each thread */
}

static void lifecycle_until_stop(void *arg) {
    lifecycle *t = (lifecycle *)arg;
    while (!support_get(&t->stop)) EXPECT_EQ(sch_suspend(), 0);
}

static void lifecycle_references(lifecycle *t) {
    t->task = sch_spawn(t->rt, lifecycle_until_stop, t);
    for (int i = 0; i < 4; i++) (void)sch_retain(t->task);
    crew_run(4, lifecycle_refer, t);
    EXPECT(!sch_is_done(t->task));
    support_set(&t->stop, 1);
    sch_wake(t->task);
    EXPECT_EQ(sch_join(t->task), 0);
    EXPECT_EQ(sch_num_alive_tasks(t->rt), 0);
}

TEST(lifecycle_references_from_many_threads) { lifecycle_each(lifecycle_references); }

/* A foreign thread is still inside sch_wake or sch_cancel, which may be what lets the last task
 * end, while the runtime is freed. */
typedef struct lifecycle_race {
    sch_task *task[2];
    unsigned go;
} lifecycle_race;

static void lifecycle_racer(void *arg) {
    lifecycle_race *r = (lifecycle_race *)arg;
    while (!support_get(&r->go)) continue;
    for (int i = 0; i < 3; i++) {
        support_spin(test_random() % 3000);
        sch_wake(r->task[i % 2]);
        if (i == 1) (void)sch_cancel(r->task[0]);
        if (i == 2) sch_wake_signal(r->task[1]);
    }
    for (int i = 0; i < 2; i++) sch_release(r->task[i]);
}

static void lifecycle_two_wakes(void *arg) {
    (void)arg;
    if (sch_suspend() == 0) (void)sch_suspend();
}

TEST(lifecycle_waker_outlives_the_runtime) {
    for (size_t i = 0; i < test_scale(400) + 20; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, lifecycle_workers[i % LIFECYCLE_SIZES]);
        sch_runtime *rt = support_begin(&config);
        support_thread thread;
        lifecycle_race race;
        race.go = 0;
        for (int j = 0; j < 2; j++) race.task[j] = sch_spawn(rt, lifecycle_two_wakes, NULL);
        support_thread_start(&thread, lifecycle_racer, &race);
        if (config.workers > 0) {
            for (int j = 0; j < 2; j++) {
                WAIT_FOR(schi_load_seq(&race.task[j]->state) & SCHI_WAIT_BITS);
            }
        }
        support_set(&race.go, 1);
        support_spin(test_random() % 5000);
        sch_runtime_free(rt);
        support_thread_join(&thread);
        checked_end(&memory);
    }
}

static void lifecycle_free(void *arg) {
    lifecycle *t = (lifecycle *)arg;
    sch_runtime_free(t->rt);
    support_set(&t->a, 1);
}

/* What lets that be: the runtime is there until the last such thread has left it. */
static void lifecycle_guest_comes(sch_runtime *rt, int kind) {
    switch (kind) {
    case 0: schi_add_seq(&rt->guests, 1u); break;
    case 1: schi_add_seq(&rt->wakers_came, (uint64_t)1); break;
    default: schi_sub_seq(&rt->spawners_left, (uint64_t)1); break;
    }
}

static void lifecycle_guest_leaves(sch_runtime *rt, int kind) {
    switch (kind) {
    case 0: schi_sub_seq(&rt->guests, 1u); break;
    case 1: schi_add_seq(&rt->wakers_left, (uint64_t)1); break;
    default: schi_spawner_leaves(rt); break;
    }
}

TEST(lifecycle_free_waits_for_guests) {
    for (int i = 0; i < LIFECYCLE_SIZES * 3; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, lifecycle_workers[i / 3]);
        support_thread thread;
        lifecycle t;
        memset(&t, 0, sizeof t);
        t.rt = support_begin(&config);
        lifecycle_guest_comes(t.rt, i % 3);
        support_thread_start(&thread, lifecycle_free, &t);
        WAIT_FOR(schi_event_is_set(&t.rt->done));
        support_nap(1000);
        EXPECT_EQ(support_get(&t.a), 0);
        EXPECT(checked_live(&memory) > 0);
        lifecycle_guest_leaves(t.rt, i % 3);
        support_thread_join(&thread);
        checked_end(&memory);
    }
}

/* Spawning during and after shutdown ------------------------------------------------------------*/

typedef struct lifecycle_late {
    sch_runtime *rt;
    unsigned spawned, refused, dropped, ran; /* atomic */
} lifecycle_late;

typedef struct lifecycle_big {
    lifecycle_late *late;
    char fill[600];
} lifecycle_big;

static void lifecycle_late_drop(void *arg) { support_add(&((lifecycle_late *)arg)->dropped, 1); }

static void lifecycle_late_drop_state(void *state) {
    support_add(&((lifecycle_big *)state)->late->dropped, 1);
}

static void lifecycle_late_run(void *arg) { support_add(&((lifecycle_late *)arg)->ran, 1); }

static sch_status lifecycle_late_poll(sch_task *self, void *state) {
    (void)self;
    support_add(&((lifecycle_big *)state)->late->ran, 1);
    return SCH_READY;
}

static const sch_spawn_desc lifecycle_late_desc = {"late", NULL, 0, 0, lifecycle_late_drop};
static const sch_spawn_desc lifecycle_late_poll_desc = {"late", NULL, 0, 0,
                                                        lifecycle_late_drop_state};

/* Spawns one of each kind; says whether it was too late for one. */
static bool lifecycle_late_spawn(lifecycle_late *l, unsigned random) {
    lifecycle_big big;
    sch_task *task;
    memset(&big, 0, sizeof big);
    big.late = l;
    errno = 0;
    switch (random % 4) {
    case 0: task = sch_spawn_with(l->rt, &lifecycle_late_desc, lifecycle_late_run, l); break;
    case 1:
        task = sch_spawn_blocking_with(l->rt, &lifecycle_late_desc, lifecycle_late_run, l);
        break;
    default: /* states of many sizes, so that there are slabs still to be made */
        task = sch_spawn_poll_with(l->rt, &lifecycle_late_poll_desc, lifecycle_late_poll, &big,
                                   sizeof l + random / 4 % 590);
    }
    support_add(&l->spawned, 1);
    if (task) {
        sch_release(task);
        return false;
    }
    support_add(&l->refused, 1);
    EXPECT_EQ(sch_errno(), ESHUTDOWN);
    return true;
}

static void lifecycle_late_thread(void *arg, unsigned index) {
    lifecycle_late *l = (lifecycle_late *)arg;
    if (index == 0) {
        support_spin(test_random() % 100000);
        EXPECT_EQ(sch_runtime_shutdown(l->rt, SCH_FOREVER), 0);
        return;
    }
    while (!lifecycle_late_spawn(l, (unsigned)(test_random() >> 40))) continue;
    EXPECT(lifecycle_late_spawn(l, (unsigned)(test_random() >> 40)));
}

static void lifecycle_late_task(void *arg) {
    while (!lifecycle_late_spawn((lifecycle_late *)arg, (unsigned)(test_random() >> 40))) {
        EXPECT_EQ(sch_yield_now(), 0);
    }
}

TEST(lifecycle_spawn_during_and_after_shutdown) {
    for (size_t i = 0; i < test_scale(60) + LIFECYCLE_SIZES; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, lifecycle_workers[i % LIFECYCLE_SIZES]);
        lifecycle_late late;
        memset(&late, 0, sizeof late);
        config.max_blocking_threads = 2;
        late.rt = support_begin(&config);
        EXPECT_EQ(sch_go(late.rt, lifecycle_late_task, &late), 0);
        crew_run(3, lifecycle_late_thread, &late);
        for (unsigned kind = 0; kind < 4; kind++) EXPECT(lifecycle_late_spawn(&late, kind));
        EXPECT_EQ(sch_go(late.rt, lifecycle_nothing, NULL), -ESHUTDOWN);
        EXPECT_EQ(sch_block_on(late.rt, lifecycle_nothing, NULL), -ESHUTDOWN);
        support_end(late.rt, &memory);
        EXPECT_EQ(late.dropped, late.spawned); /* each once, whatever became of it */
        EXPECT(late.ran <= late.spawned - late.refused);
    }
}

/* A process whose memory was short for a moment is not refused for ever. */
TEST(lifecycle_fork_watch_is_tried_again) {
    sch_runtime *rt;
    schi_store_seq(&schi_fork_watched, false);
    __atomic_store_n(&fault_atforks, 1, __ATOMIC_SEQ_CST);
    errno = 0;
    rt = sch_runtime_new(NULL);
    EXPECT(rt == NULL);
    EXPECT_EQ(errno, ENOMEM);
    EXPECT_EQ(__atomic_load_n(&fault_atforks, __ATOMIC_SEQ_CST), 0);
    EXPECT(!schi_load_seq(&schi_fork_watched));
    rt = sch_runtime_new(NULL);
    EXPECT(rt != NULL);
    EXPECT(schi_load_seq(&schi_fork_watched));
    sch_runtime_free(rt);
}
