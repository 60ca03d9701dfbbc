/* current.c - [11.5] [13]: SCH_CURRENT_THREAD. Tasks run while somebody waits in the runtime. */
#include "support.h"

typedef struct current {
    sch_runtime *rt;
    unsigned a, b, jobs, stop; /* atomic */
    pthread_t thread;
    sch_task *task;
} current;

static void current_begin(current *c, checked_memory *memory) {
    sch_config config = support_config(memory, 0);
    memset(c, 0, sizeof *c);
    c->rt = support_begin(&config);
    c->thread = pthread_self();
    EXPECT_EQ(sch_num_workers(c->rt), 1);
    EXPECT_EQ(support_metrics(c->rt).num_worker_threads, 0);
}

/* Counts, on the thread that drives and no other. */
static void current_here(void *arg) {
    current *c = (current *)arg;
    EXPECT(pthread_equal(pthread_self(), c->thread));
    EXPECT_EQ(sch_worker_index(), 0);
    support_add(&c->a, 1);
}

TEST(current_runs_only_while_driven) {
    checked_memory memory;
    current c;
    current_begin(&c, &memory);
    for (int i = 0; i < 5; i++) EXPECT_EQ(sch_go(c.rt, current_here, &c), 0);
    support_nap(2000);
    EXPECT_EQ(support_get(&c.a), 0);
    EXPECT_EQ(sch_injection_queue_depth(c.rt), 5);
    EXPECT_EQ(sch_num_alive_tasks(c.rt), 5);
    support_run(c.rt, current_here, &c); /* the join drives, in order */
    EXPECT_EQ(c.a, 6);
    EXPECT_EQ(sch_num_alive_tasks(c.rt), 0);
    support_end(c.rt, &memory);
}

/* fn of block_on is no task: its waits drive, on this thread. */
static void current_inside(void *arg) {
    current *c = (current *)arg;
    unsigned before = c->a;
    EXPECT(sch_self() == NULL);
    EXPECT_EQ(sch_worker_index(), UINT_MAX);
    EXPECT_EQ(sch_suspend(), -EPERM);
    EXPECT_EQ(sch_go(NULL, current_here, c), 0);
    EXPECT_EQ(support_get(&c->a), before);
    EXPECT_EQ(sch_yield_now(), 0); /* a turn of the tasks */
    EXPECT_EQ(support_get(&c->a), before + 1);
    EXPECT_EQ(sch_join(sch_spawn(NULL, current_here, c)), 0);
    EXPECT_EQ(support_get(&c->a), before + 2);
    EXPECT_EQ(sch_join(sch_spawn_blocking(NULL, support_count, &c->b)), 0);
    EXPECT_EQ(sch_runtime_shutdown(NULL, 0), -EINVAL);
}

static void current_nested(void *arg) {
    current *c = (current *)arg;
    EXPECT_EQ(sch_block_on(c->rt, current_inside, c), 0); /* here it is only a call */
    current_inside(arg);
}

static void current_in_task(void *arg) {
    EXPECT(sch_self() != NULL);
    support_add(&((current *)arg)->b, 1);
}

static void current_task_blocks_on(void *arg) {
    EXPECT_EQ(sch_block_on(((current *)arg)->rt, current_in_task, arg), 0);
}

TEST(current_block_on) {
    checked_memory memory;
    current c;
    current_begin(&c, &memory);
    EXPECT_EQ(sch_block_on(c.rt, current_nested, &c), 0);
    EXPECT_EQ(c.a, 4);
    EXPECT_EQ(c.b, 2);
    support_run(c.rt, current_task_blocks_on, &c);
    EXPECT_EQ(c.b, 3);
    support_end(c.rt, &memory);
}

static void current_suspend_until_stop(void *arg) {
    current *c = (current *)arg;
    while (!support_get(&c->stop)) {
        EXPECT_EQ(sch_suspend(), 0);
        support_add(&c->b, 1);
    }
}

/* The driver sleeps, and wakes for what others spawn, wake and cancel, and for jobs that end. */
static void current_others(void *arg) {
    current *c = (current *)arg;
    for (unsigned i = 1; i <= 100; i++) {
        support_spin(test_random() % 50000);
        if (i % 3 == 0) support_nap(100);
        EXPECT_EQ(sch_go(c->rt, support_count, &c->a), 0);
        while (support_get(&c->a) < i) sched_yield();
        if (i % 2) {
            sch_wake(c->task);
        } else {
            sch_wake_signal(c->task);
        }
        while (support_get(&c->b) < i) sched_yield();
        EXPECT_EQ(sch_join(sch_spawn_blocking(c->rt, support_count, &c->jobs)), 0);
    }
    support_set(&c->stop, 1);
    sch_wake(c->task);
}

TEST(current_driver_is_woken) {
    checked_memory memory;
    current c;
    support_thread thread;
    current_begin(&c, &memory);
    c.task = sch_retain(sch_spawn(c.rt, current_suspend_until_stop, &c));
    support_thread_start(&thread, current_others, &c);
    EXPECT_EQ(sch_join(c.task), 0);
    support_thread_join(&thread);
    sch_release(c.task);
    EXPECT_EQ(c.a, 100);
    EXPECT_EQ(c.jobs, 100);
    support_end(c.rt, &memory);
}

/* Several threads wait at once, each for what only running tasks can bring; one drives at a time,
 * and when it leaves another takes over. */
static void current_yielder(void *arg) {
    for (int i = 0; i < 3; i++) EXPECT_EQ(sch_yield_now(), 0);
    support_count(arg);
}

static void current_visit(void *arg) {
    current *c = (current *)arg;
    for (int i = 0; i < 5; i++) {
        sch_task *task = sch_spawn(NULL, current_yielder, &c->a);
        if (i % 2) EXPECT_EQ(sch_yield_now(), 0);
        EXPECT_EQ(sch_join(task), 0);
    }
}

static void current_visitor(void *arg, unsigned index) {
    current *c = (current *)arg;
    for (size_t i = 0; i < test_scale(100) + 2; i++) {
        if ((index + i) % 2) {
            EXPECT_EQ(sch_block_on(c->rt, current_visit, c), 0);
        } else {
            for (int j = 0; j < 5; j++) {
                EXPECT_EQ(sch_join(sch_spawn(c->rt, current_yielder, &c->a)), 0);
            }
        }
    }
}

TEST(current_many_drivers) {
    for (unsigned threads = 2; threads <= 4; threads++) {
        checked_memory memory;
        current c;
        current_begin(&c, &memory);
        crew_run(threads, current_visitor, &c);
        EXPECT_EQ(c.a, threads * (test_scale(100) + 2) * 5);
        EXPECT_EQ(sch_num_alive_tasks(c.rt), 0);
        support_end(c.rt, &memory);
    }
}

/* One thread waits for a long time and drives; what another one waits for ends meanwhile, and the
 * other way round: the driver leaves, the one that stays must drive on. */
static void current_wait_for_task(void *arg) { EXPECT_EQ(sch_join((sch_task *)arg), 0); }

TEST(current_driver_hands_over) {
    for (size_t i = 0; i < test_scale(100) + 5; i++) {
        checked_memory memory;
        support_thread thread;
        current first, second;
        sch_task *task[2];
        current_begin(&first, &memory);
        memset(&second, 0, sizeof second);
        task[0] = sch_retain(sch_spawn(first.rt, current_suspend_until_stop, &first));
        task[1] = sch_retain(sch_spawn(first.rt, current_suspend_until_stop, &second));
        support_thread_start(&thread, current_wait_for_task, task[0]);
        if (i % 2) support_nap((long)(test_random() % 200));
        support_set(&first.stop, 1);
        sch_wake(task[0]);
        support_set(&second.stop, i % 3 == 0);
        if (i % 3 == 0) {
            sch_wake(task[1]);
            EXPECT_EQ(sch_join(task[1]), 0);
        }
        support_thread_join(&thread);
        if (i % 3) {
            support_set(&second.stop, 1);
            sch_wake(task[1]);
            EXPECT_EQ(sch_join(task[1]), 0);
        }
        sch_release(task[0]);
        sch_release(task[1]);
        support_end(first.rt, &memory);
    }
}

/* What the first thread waits for ends in the midst of a flood of tasks; the second one, asleep
 * till then, must run the rest, or it waits for ever. */
typedef struct current_flood {
    sch_task *first, *second; /* each joined by one thread; the second suspends */
    unsigned count;
} current_flood;

static void current_drop_in_flood(void *arg) {
    current_flood *f = (current_flood *)arg;
    if (support_add(&f->count, 1) == 200) sch_wake(f->second);
}

static void current_end_in_flood(void *arg) {
    EXPECT_EQ(sch_suspend(), 0);
    for (int i = 0; i < 200; i++) EXPECT_EQ(sch_go(NULL, current_drop_in_flood, arg), 0);
}

static void current_suspend(void *arg) {
    (void)arg;
    EXPECT_EQ(sch_suspend(), 0);
}

TEST(current_driver_leaves_in_a_flood) {
    for (unsigned i = 0; i < 20; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, 0);
        support_thread thread[2];
        sch_task *task[2];
        current_flood f;
        config.event_interval = 5; /* it looks up soon */
        sch_runtime *rt = support_begin(&config);
        f.count = 0;
        f.first = sch_retain(sch_spawn(rt, current_end_in_flood, &f));
        f.second = sch_retain(sch_spawn(rt, current_suspend, NULL));
        /* Either order, because it decides which of the two is woken to drive. */
        task[0] = i % 2 ? f.first : f.second;
        task[1] = i % 2 ? f.second : f.first;
        for (int j = 0; j < 2; j++) {
            support_thread_start(&thread[j], current_wait_for_task, task[j]);
            WAIT_FOR(schi_load_seq(&task[j]->state) & SCHI_JOIN_WAITER);
            WAIT_FOR(schi_load_seq(&f.second->state) & SCHI_WAIT_WAKE);
        }
        support_nap(500); /* most times both sleep then */
        sch_wake(f.first);
        for (int j = 0; j < 2; j++) support_thread_join(&thread[j]);
        EXPECT_EQ(f.count, 200);
        sch_release(f.first);
        sch_release(f.second);
        support_end(rt, &memory);
    }
}

/* Tasks of two runtimes join each other's; each runtime has its driver. */
static void current_join_task(void *arg) {
    current *c = (current *)arg;
    EXPECT_EQ(sch_join(c->task), 0);
    support_add(&c->a, 1);
}

TEST(current_joins_across_runtimes) {
    for (unsigned workers = 0; workers <= 1; workers++) {
        checked_memory memory[2];
        sch_config config[2];
        current here, there;
        sch_task *joiner[2], *last;
        support_thread thread;
        memset(&here, 0, sizeof here);
        memset(&there, 0, sizeof there);
        config[0] = support_config(&memory[0], 0);
        config[1] = support_config(&memory[1], workers);
        here.rt = support_begin(&config[0]);
        there.rt = support_begin(&config[1]);
        /* last (there) <- joiner 0 (here) <- joiner 1 (there), which we join */
        last = sch_spawn(there.rt, current_suspend_until_stop, &there);
        here.task = last;
        joiner[0] = sch_spawn(here.rt, current_join_task, &here);
        there.task = sch_retain(joiner[0]);
        joiner[1] = sch_spawn(there.rt, current_join_task, &there);
        (void)sch_retain(last);
        sch_release(joiner[0]);
        support_thread_start(&thread, current_wait_for_task, joiner[1]); /* drives there */
        support_set(&there.stop, 1);
        sch_wake(last);
        while (support_get(&here.a) == 0) support_run(here.rt, current_yielder, &here.b);
        support_thread_join(&thread);
        EXPECT_EQ(there.a, 1);
        EXPECT_EQ(here.a, 1);
        sch_release(last);
        support_end(here.rt, &memory[0]);
        support_end(there.rt, &memory[1]);
    }
}

/* Shutdown drives, with a deadline or without; clean-up runs on the caller's thread. */
static void current_clean_up(void *arg) {
    current *c = (current *)arg;
    EXPECT_EQ(sch_suspend(), -ECANCELED);
    EXPECT(pthread_equal(pthread_self(), c->thread));
    EXPECT_EQ(sch_shield_begin(SCH_FOREVER), 0);
    for (int i = 0; i < 100; i++) EXPECT_EQ(sch_yield_now(), 0);
    while (!support_get(&c->stop)) EXPECT_EQ(sch_suspend(), 0);
    sch_shield_end();
    support_add(&c->a, 1);
}

TEST(current_shutdown_drives) {
    checked_memory memory;
    current c;
    current_begin(&c, &memory);
    c.task = sch_spawn(c.rt, current_clean_up, &c);
    support_run(c.rt, current_yielder, &c.b);
    EXPECT_EQ(sch_go(c.rt, current_here, &c), 0); /* never runs */
    EXPECT_EQ(sch_runtime_shutdown(c.rt, 0), -ETIMEDOUT);
    do { /* 5 ms may be over before the first turn */
        EXPECT_EQ(sch_runtime_shutdown(c.rt, 5 * SCH_MILLISECOND), -ETIMEDOUT);
    } while (sch_num_alive_tasks(c.rt) > 1);
    EXPECT_EQ(sch_num_alive_tasks(c.rt), 1);
    support_set(&c.stop, 1);
    sch_wake(c.task);
    EXPECT_EQ(sch_runtime_shutdown(c.rt, SCH_FOREVER), 0);
    EXPECT_EQ(c.a, 1);
    EXPECT_EQ(sch_join(c.task), -ECANCELED);
    support_end(c.rt, &memory);
}

/* A block_on that ends with tasks left: they stay, and the next one runs them. */
static void current_leave_some(void *arg) {
    for (int i = 0; i < 300; i++) EXPECT_EQ(sch_go(NULL, current_yielder, arg), 0);
    EXPECT_EQ(sch_yield_now(), 0);
}

TEST(current_tasks_are_left_for_the_next_driver) {
    checked_memory memory;
    current c;
    current_begin(&c, &memory);
    EXPECT_EQ(sch_block_on(c.rt, current_leave_some, &c.a), 0);
    EXPECT(sch_num_alive_tasks(c.rt) > 0);
    while (sch_num_alive_tasks(c.rt) > 0) support_run(c.rt, current_yielder, &c.b);
    EXPECT_EQ(c.a, 300);
    support_end(c.rt, &memory);
}

/* In a task of another runtime block_on would hold up its thread. */
static void current_nothing(void *arg) { (void)arg; }

static void current_block_on_other(void *arg) {
    EXPECT_EQ(sch_block_on((sch_runtime *)arg, current_nothing, NULL), -EDEADLK);
}

static void current_block_on_in_place(void *arg) {
    EXPECT_EQ(sch_block_on((sch_runtime *)arg, current_nothing, NULL), 0);
}

static void current_blocks_thread(void *arg) {
    current_block_on_other(arg);
    EXPECT_EQ(sch_block_in_place(current_block_on_in_place, arg), 0);
    current_block_on_other(arg);
}

TEST(current_block_on_from_another_runtime) {
    checked_memory memory[2];
    sch_config config = support_config(&memory[1], 1);
    current c;
    current_begin(&c, &memory[0]);
    sch_runtime *other = support_begin(&config);
    support_run(c.rt, current_blocks_thread, other);
    support_run(other, current_blocks_thread, c.rt);
    support_end(other, &memory[1]);
    support_end(c.rt, &memory[0]);
}
