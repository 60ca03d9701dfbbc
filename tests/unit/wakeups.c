/* wakeups.c - [5.3] [11]: no wake-up is lost, and a runtime without work costs nothing.
 * WAKES=n sets the number of wakes (default 100,000; 10,000,000 takes some minutes). */
#include "support.h"

#include <sys/resource.h>

/* Nothing, some nanoseconds, up to 100 microseconds: where a worker is on its way to sleep. */
static void wakeups_delay(void) {
    static const unsigned limits[] = {1, 300, 3000, 3000, 10000, 10000, 30000, 100000};
    uint64_t random = test_random();
    uint64_t ns = (random >> 8) % limits[random % 8];
    if (ns > 0) support_spin(ns);
}

typedef struct wakeups_target {
    sch_runtime *rt;
    sch_task *task;
    unsigned acks, stop; /* atomic */
    size_t wakes;        /* how many to send */
} wakeups_target;

static void wakeups_sleeper(void *arg) {
    wakeups_target *t = (wakeups_target *)arg;
    for (;;) {
        EXPECT_EQ(sch_suspend(), 0);
        if (support_get(&t->stop)) return;
        support_add(&t->acks, 1);
    }
}

/* Does the same without a stack; its first poll is for no wake. */
static sch_status wakeups_poller(sch_task *self, void *state) {
    wakeups_target *t = *(wakeups_target **)state;
    (void)self;
    if (support_get(&t->stop)) return SCH_READY;
    support_add(&t->acks, 1);
    return SCH_PENDING;
}

/* Each wake is sent to an idle task and must arrive; the time-out finds one that does not. */
static void wakeups_await(wakeups_target *t, unsigned acks) {
    for (unsigned i = 0; support_get(&t->acks) != acks; i++) {
        if (i > 20) sched_yield();
    }
}

static void wakeups_send(wakeups_target *t) {
    unsigned before = support_get(&t->acks);
    for (unsigned i = 1; i <= t->wakes; i++) {
        wakeups_delay();
        sch_wake(t->task);
        wakeups_await(t, before + i);
    }
}

static void wakeups_spawn(wakeups_target *t) {
    for (size_t i = 0; i < t->wakes; i++) {
        unsigned count = 0;
        wakeups_delay();
        EXPECT_EQ(sch_join(sch_spawn(t->rt, support_count, &count)), 0);
        EXPECT_EQ(count, 1);
    }
}

static void wakeups_thread(void *arg, unsigned index) {
    wakeups_target t;
    wakeups_target *pointer = &t;
    memset(&t, 0, sizeof t);
    t.rt = ((wakeups_target *)arg)->rt;
    t.wakes = ((wakeups_target *)arg)->wakes / 3;
    if (index == 1) {
        t.task = sch_spawn_poll(t.rt, wakeups_poller, &pointer, sizeof pointer);
        wakeups_await(&t, 1);
    } else {
        t.task = sch_spawn(t.rt, wakeups_sleeper, &t);
    }
    wakeups_send(&t);
    wakeups_spawn(&t);
    wakeups_send(&t);
    support_set(&t.stop, 1);
    sch_wake(t.task);
    EXPECT_EQ(sch_join(t.task), 0);
}

static size_t wakeups_total(void) {
    return test_env("WAKES", 0) ? test_env("WAKES", 0) : test_scale(100000);
}

static void wakeups_from_threads(bool no_standby) {
    for (unsigned workers = 1; workers <= 4; workers++) {
        for (unsigned threads = 1; threads <= 3; threads++) {
            checked_memory memory;
            sch_config config = support_config(&memory, workers);
            wakeups_target plan;
            memset(&plan, 0, sizeof plan);
            config.no_standby = no_standby;
            plan.rt = support_begin(&config);
            plan.wakes = wakeups_total() / 2 / 12 / threads + 1;
            crew_run(threads, wakeups_thread, &plan);
            support_end(plan.rt, &memory);
        }
    }
}

TEST(wakeups_from_threads) { wakeups_from_threads(false); }
TEST(wakeups_from_threads_no_standby) { wakeups_from_threads(true); }

/* Two tasks of two runtimes wake each other; both runtimes are idle all the time but for that. */
typedef struct wakeups_player {
    sch_task *other;
    unsigned *turn, me;
    size_t rounds;
} wakeups_player;

static void wakeups_play(void *arg) {
    wakeups_player *p = (wakeups_player *)arg;
    for (size_t i = 0; i < p->rounds; i++) {
        while (support_get(p->turn) != p->me) EXPECT_EQ(sch_suspend(), 0);
        wakeups_delay();
        support_set(p->turn, 1 - p->me);
        sch_wake(p->other);
    }
}

TEST(wakeups_between_runtimes) {
    for (unsigned workers = 1; workers <= 2; workers++) {
        for (int no_standby = 0; no_standby < 2; no_standby++) {
            checked_memory memory[2];
            sch_runtime *rt[2];
            wakeups_player player[2];
            sch_task *task[2];
            unsigned turn = 2;
            for (unsigned i = 0; i < 2; i++) {
                sch_config config = support_config(&memory[i], workers);
                config.no_standby = no_standby != 0;
                rt[i] = support_begin(&config);
                player[i].turn = &turn, player[i].me = i;
                player[i].rounds = wakeups_total() / 16 + 1;
            }
            for (int i = 0; i < 2; i++) {
                player[i].other = NULL;
                task[i] = sch_retain(sch_spawn(rt[i], wakeups_play, &player[i]));
            }
            player[0].other = task[1], player[1].other = task[0];
            support_set(&turn, 0);
            sch_wake(task[0]);
            for (int i = 0; i < 2; i++) EXPECT_EQ(sch_join(task[i]), 0);
            for (int i = 0; i < 2; i++) sch_release(task[i]);
            for (int i = 0; i < 2; i++) support_end(rt[i], &memory[i]);
        }
    }
}

/* Idle ------------------------------------------------------------------------------------------*/

/* CPU time of this process in ns, and how often one of its threads has gone to sleep. */
static uint64_t wakeups_usage(long *sleeps) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    *sleeps = u.ru_nvcsw;
    return ((uint64_t)u.ru_utime.tv_sec + (uint64_t)u.ru_stime.tv_sec) * SCH_SECOND +
           ((uint64_t)u.ru_utime.tv_usec + (uint64_t)u.ru_stime.tv_usec) * SCH_MICROSECOND;
}

/* With tasks that wait, idle threads of every kind, and the standby on. One second of eight is
 * enough: what is ours in it comes in each, what is not does not (SIGSTOP has all threads sleep).
 */
TEST(wakeups_idle_costs_nothing) {
    checked_memory memory;
    sch_config config = support_config(&memory, 2);
    wakeups_target t;
    uint64_t used = UINT64_MAX;
    long slept = LONG_MAX;
    if (TEST_SANITIZED || test_slowdown > 1) SKIP("measures time and its own threads");
    memset(&t, 0, sizeof t);
    t.rt = support_begin(&config);
    t.task = sch_spawn(t.rt, wakeups_sleeper, &t);
    EXPECT_EQ(sch_join(sch_spawn_blocking(t.rt, support_count, &t.acks)), 0);
    WAIT_FOR(support_metrics(t.rt).num_idle_workers == 2);
    for (int i = 0; i < 8 && (used >= SCH_MILLISECOND || slept > 10); i++) {
        long sleeps_before, sleeps;
        uint64_t before = wakeups_usage(&sleeps_before);
        support_nap(999999);
        used = wakeups_usage(&sleeps) - before;
        slept = sleeps - sleeps_before;
    }
    EXPECT(used < SCH_MILLISECOND);
    EXPECT(slept <= 10);
    support_set(&t.stop, 1);
    sch_wake(t.task);
    EXPECT_EQ(sch_join(t.task), 0);
    support_end(t.rt, &memory);
}

/* On a CPU that both share the woken runs at once: it must not come upon a lock that its waker has,
 * and sleep again so that the waker can go on. */
#if SCHI_LINUX
typedef struct wakeups_pair {
    wakeups_target t;
    unsigned cpu;
    long sleeps; /* of the worker's thread, between the first wake and the last */
} wakeups_pair;

static long wakeups_own_sleeps(void) {
    struct rusage u;
    memset(&u, 0, sizeof u);
    EXPECT_EQ(SCHI_SYS(SYS_getrusage, 1 /* this thread */, &u), 0);
    return u.ru_nvcsw;
}

static void wakeups_count_sleeps(void *arg) {
    wakeups_pair *p = (wakeups_pair *)arg;
    long before = wakeups_own_sleeps();
    for (size_t i = 0; i < p->t.wakes; i++) {
        EXPECT_EQ(sch_suspend(), 0);
        support_add(&p->t.acks, 1);
    }
    p->sleeps = wakeups_own_sleeps() - before;
}

static void wakeups_send_from(void *arg) {
    wakeups_pair *p = (wakeups_pair *)arg;
    EXPECT_EQ(schi_pin_thread(p->cpu), 0);
    for (unsigned i = 1; i <= p->t.wakes; i++) {
        support_nap(300);
        sch_wake(p->t.task);
        WAIT_FOR(support_get(&p->t.acks) == i);
    }
}

TEST(wakeups_woken_does_not_wait_for_its_waker) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    support_thread thread;
    wakeups_pair p;
    if (TEST_SANITIZED || test_slowdown > 1) SKIP("counts how often its own threads sleep");
    memset(&p, 0, sizeof p);
    p.t.wakes = 100;
    EXPECT(schi_cpu_list(&p.cpu, 1) >= 1);
    config.pin_workers = true, config.cpus = &p.cpu, config.num_cpus = 1;
    p.t.rt = support_begin(&config);
    p.t.task = sch_spawn(p.t.rt, wakeups_count_sleeps, &p);
    support_thread_start(&thread, wakeups_send_from, &p);
    support_thread_join(&thread);
    EXPECT_EQ(sch_join(p.t.task), 0);
    EXPECT(p.sleeps <= 150);
    support_end(p.t.rt, &memory);
}
#endif

/* From signal handlers --------------------------------------------------------------------------*/

static wakeups_target *wakeups_signalled; /* whom the handler wakes; NULL: nobody */
static unsigned wakeups_sent;             /* by the handler */

static void wakeups_handler(int number) {
    wakeups_target *t = __atomic_load_n(&wakeups_signalled, __ATOMIC_SEQ_CST);
    int error = errno;
    (void)number;
    /* One at a time: after one that is lost there is no other to make up for it. */
    if (t && support_get(&t->acks) == support_get(&wakeups_sent)) {
        support_add(&wakeups_sent, 1);
        sch_wake_signal(t->task);
    }
    errno = error;
}

static void wakeups_busy(void *arg) {
    wakeups_target *t = (wakeups_target *)arg;
    YIELD_UNTIL(support_get(&t->stop));
}

/* Another thread sends them, to no other than the test's own thread. */
typedef struct wakeups_shooter {
    pthread_t target;
    unsigned stop;
} wakeups_shooter;

static void wakeups_shoot(void *arg) {
    wakeups_shooter *s = (wakeups_shooter *)arg;
    while (!support_get(&s->stop)) {
        EXPECT_EQ(pthread_kill(s->target, SIGUSR1), 0);
        wakeups_delay();
        sched_yield();
    }
}

static void wakeups_signals(unsigned workers, bool busy, bool poll, bool no_standby) {
    const unsigned goal = (unsigned)test_scale(300) + 10;
    checked_memory memory;
    sch_config config = support_config(&memory, workers);
    struct sigaction action, old;
    wakeups_shooter shooter = {pthread_self(), 0};
    support_thread thread;
    wakeups_target t, *pointer = &t;
    sch_task *spinner = NULL;
    unsigned count = 0;
    memset(&t, 0, sizeof t);
    memset(&action, 0, sizeof action);
    config.no_standby = no_standby;
    config.standby_period_ns = 10 * SCH_SECOND; /* it must not be what brings them */
    t.rt = support_begin(&config);
    if (poll) {
        t.task = sch_spawn_poll(t.rt, wakeups_poller, &pointer, sizeof pointer);
        wakeups_await(&t, 1);
    } else {
        t.task = sch_spawn(t.rt, wakeups_sleeper, &t);
    }
    if (busy) spinner = sch_spawn(t.rt, wakeups_busy, &t);
    support_set(&wakeups_sent, support_get(&t.acks));
    __atomic_store_n(&wakeups_signalled, &t, __ATOMIC_SEQ_CST);
    action.sa_handler = wakeups_handler;
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR1, &action, &old);
    support_thread_start(&thread, wakeups_shoot, &shooter);
    /* The handler interrupts this thread anywhere: in spawn, in join, asleep. */
    while (support_get(&wakeups_sent) < goal && test_failures == 0) {
        EXPECT_EQ(sch_join(sch_spawn(t.rt, support_count, &count)), 0);
        if (count % 3 == 0) support_nap(100);
    }
    support_set(&shooter.stop, 1);
    support_thread_join(&thread);
    WAIT_FOR(support_get(&t.acks) == support_get(&wakeups_sent));
    /* Two more without anything else that could bring them along. */
    for (int i = 0; i < 2; i++) {
        if (!busy) WAIT_FOR(support_metrics(t.rt).num_idle_workers == workers);
        EXPECT_EQ(pthread_kill(pthread_self(), SIGUSR1), 0);
        WAIT_FOR(support_get(&t.acks) == support_get(&wakeups_sent));
    }
    EXPECT(support_get(&t.acks) >= goal);
    __atomic_store_n(&wakeups_signalled, NULL, __ATOMIC_SEQ_CST);
    sigaction(SIGUSR1, &old, NULL);
    support_set(&t.stop, 1);
    sch_wake(t.task);
    EXPECT_EQ(sch_join(t.task), 0);
    if (spinner) EXPECT_EQ(sch_join(spinner), 0);
    support_end(t.rt, &memory);
}

TEST(wakeups_from_a_signal_handler) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        wakeups_signals(workers, false, false, false);
        wakeups_signals(workers, true, true, false);
        wakeups_signals(workers, false, true, true);
        wakeups_signals(workers, true, false, true);
    }
}

/* A blocking job waits in its own thread. */
TEST(wakeups_of_a_job_by_signal) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    wakeups_target t;
    memset(&t, 0, sizeof t);
    t.rt = support_begin(&config);
    t.task = sch_spawn_blocking(t.rt, wakeups_sleeper, &t);
    for (unsigned i = 1; i <= 100; i++) {
        wakeups_delay();
        sch_wake_signal(t.task);
        wakeups_await(&t, i);
    }
    support_set(&t.stop, 1);
    sch_wake_signal(t.task);
    EXPECT_EQ(sch_join(t.task), 0);
    support_end(t.rt, &memory);
}
