/* fairness.c - nobody starves, in polls: whatever floods a core, a task from outside, a task at the
 * end of the queue, and maintenance get their turn within a number of polls that the header's
 * constants give. The flood is stopped for the moment in which something is queued, so the numbers
 * are exact, and no time is measured. */
#define _GNU_SOURCE
#define SCHED_IMPLEMENTATION
#include "../../sched.h"

#include "../test.h"

#include <time.h>

#define FAIRNESS_CORES 2u
#define FAIRNESS_MAX 320u
#define FAIRNESS_CROWD 40u

typedef struct fairness {
    sch_runtime *rt;
    unsigned cores;
    unsigned interval;             /* the most polls between two looks at the injector */
    unsigned stop, hold, held;     /* atomic */
    sch_task *task[FAIRNESS_MAX];  /* the flood's; written while it is held */
    unsigned size;
    /* What was queued, and when it ran. */
    uint64_t queued_at[FAIRNESS_CORES], ran_at[FAIRNESS_CORES];
    unsigned want_local;           /* atomic: a held task is to spawn the victim itself */
    uint64_t local_depth;
    unsigned ran, running;         /* atomic */
    unsigned ran_on;               /* the core that the last one ran on */
    bool driven;
} fairness;

typedef struct fairness_member {
    fairness *all;
    unsigned index;
} fairness_member;

#define get(x) __atomic_load_n(&(x), __ATOMIC_SEQ_CST)
#define set(x, v) __atomic_store_n(&(x), (v), __ATOMIC_SEQ_CST)
#define add(x, v) __atomic_add_fetch(&(x), (v), __ATOMIC_SEQ_CST)

/* Whoever waits sleeps: on a busy machine it is then soon awake again. */
static void fairness_nap(void) {
    struct timespec nap = {0, 20000};
    nanosleep(&nap, NULL);
}

static void fairness_polls(fairness *f, uint64_t *out) {
    for (unsigned i = 0; i < f->cores; i++) {
        sch_worker_metrics_snapshot m;
        EXPECT_EQ(sch_worker_metrics(f->rt, i, &m), 0);
        out[i] = m.poll_count;
        if (out == f->queued_at && i == 0) f->local_depth = m.local_queue_depth;
        if (f->driven) f->local_depth += sch_injection_queue_depth(f->rt);
    }
}

/* What has been queued: the last of a crowd counts. */
static void fairness_victim(void *arg) {
    fairness *f = (fairness *)arg;
    fairness_polls(f, f->ran_at);
    f->ran_on = sch_worker_index();
    add(f->ran, 1u);
}

/* Each poll of the flood comes here. false: end. */
static bool fairness_go_on(fairness *f) {
    if (get(f->hold)) {
        if (__atomic_exchange_n(&f->want_local, 0u, __ATOMIC_SEQ_CST)) {
            fairness_polls(f, f->queued_at);
            EXPECT_EQ(sch_go(NULL, fairness_victim, f), 0);
        }
        add(f->held, 1u);
        while (get(f->hold)) fairness_nap();
        add(f->held, -1u);
    }
    return !get(f->stop);
}

/* Floods ----------------------------------------------------------------------------------------*/

static void fairness_yielder(void *arg) {
    fairness *f = ((fairness_member *)arg)->all;
    while (fairness_go_on(f)) EXPECT_EQ(sch_yield_now(), 0);
    add(f->running, -1u);
}

static void fairness_respawner(void *arg) {
    fairness *f = ((fairness_member *)arg)->all;
    if (!fairness_go_on(f) || sch_go(NULL, fairness_respawner, arg) != 0) add(f->running, -1u);
}

/* Two that wake each other: through the LIFO slot. */
static void fairness_player(void *arg) {
    fairness_member *me = (fairness_member *)arg;
    fairness *f = me->all;
    while (fairness_go_on(f)) {
        sch_wake(f->task[me->index ^ 1]);
        EXPECT_EQ(sch_suspend(), 0);
    }
    sch_wake(f->task[me->index ^ 1]);
    add(f->running, -1u);
}

/* Never has to wait. */
static void fairness_rusher(void *arg) {
    fairness *f = ((fairness_member *)arg)->all;
    while (fairness_go_on(f)) {
        sch_wake(sch_self());
        EXPECT_EQ(sch_suspend(), 0);
    }
    add(f->running, -1u);
}

static sch_status fairness_poll_end(fairness *f) {
    add(f->running, -1u);
    return SCH_READY;
}

static sch_status fairness_poll_yielder(sch_task *self, void *state) {
    fairness *f = (*(fairness_member **)state)->all;
    (void)self;
    if (!fairness_go_on(f)) return fairness_poll_end(f);
    EXPECT_EQ(sch_yield_now(), 0);
    return SCH_PENDING;
}

static sch_status fairness_poll_waker(sch_task *self, void *state) {
    fairness *f = (*(fairness_member **)state)->all;
    if (!fairness_go_on(f)) return fairness_poll_end(f);
    sch_wake(self);
    return SCH_PENDING;
}

static sch_status fairness_poll_player(sch_task *self, void *state) {
    fairness_member *me = *(fairness_member **)state;
    bool over = !fairness_go_on(me->all);
    (void)self;
    sch_wake(me->all->task[me->index ^ 1]);
    return over ? fairness_poll_end(me->all) : SCH_PENDING;
}

typedef struct fairness_kind {
    const char *name;
    sch_fn run;
    sch_poll_fn poll;
    unsigned size; /* tasks for each core */
} fairness_kind;

static const fairness_kind fairness_kinds[] = {
    {"players", fairness_player, NULL, 2},
    {"players, more of them", fairness_player, NULL, 40},
    {"poll players", NULL, fairness_poll_player, 2},
    {"one yielder", fairness_yielder, NULL, 1},
    {"yielders", fairness_yielder, NULL, 50},
    {"poll yielders", NULL, fairness_poll_yielder, 50},
    {"poll tasks that wake themselves", NULL, fairness_poll_waker, 3},
    {"respawners", fairness_respawner, NULL, 20},
    {"rushers", fairness_rusher, NULL, 3},
};
#define FAIRNESS_KINDS (sizeof fairness_kinds / sizeof *fairness_kinds)
/* More than a ring holds: the flood itself is in the injector, too. */
static const fairness_kind fairness_overflow = {"more than the ring", fairness_yielder, NULL, 300};

/* Running a flood -------------------------------------------------------------------------------*/

/* Every core is in one of the flood's polls, and stays there. false: the flood keeps fewer cores
 * busy, and the others sleep. */
static bool fairness_hold(fairness *f) {
    unsigned tries = 0;
    while (get(f->held) > 0) fairness_nap();
    set(f->hold, 1u);
    while (get(f->held) < f->cores) {
        sch_metrics_snapshot m;
        fairness_nap();
        EXPECT_EQ(sch_metrics(f->rt, &m), 0);
        if (f->cores > 1 && m.num_idle_workers > 0 && ++tries == 20) return false;
    }
    return true;
}

static void fairness_let_go(fairness *f) { set(f->hold, 0u); }

/* A driven runtime needs somebody in it. */
static void fairness_stay(void *arg) {
    while (get(((fairness *)arg)->running) > 0) EXPECT_EQ(sch_yield_now(), 0);
}

static void *fairness_drive(void *arg) {
    EXPECT_EQ(sch_block_on(((fairness *)arg)->rt, fairness_stay, arg), 0);
    return NULL;
}

static void fairness_flood(fairness *f, const fairness_kind *kind, void (*test)(fairness *f),
                           unsigned cores, unsigned interval) {
    fairness_member member[FAIRNESS_MAX];
    sch_config config;
    pthread_t driver;
    memset(f, 0, sizeof *f);
    memset(&config, 0, sizeof config);
    config.flavor = cores == 0 ? SCH_CURRENT_THREAD : SCH_MULTI_THREAD;
    config.workers = f->cores = cores ? cores : 1;
    config.stack_size = TEST_SANITIZED ? 131072 : 32768;
    config.global_queue_interval = interval;
    f->interval = interval ? interval : 127; /* the most that it is tuned to */
    f->driven = cores == 0;
    f->size = kind->size * f->cores;
    f->hold = 1, f->running = f->size;
    f->rt = sch_runtime_new(&config);
    if (!EXPECT(f->rt != NULL)) return;
    for (unsigned i = 0; i < f->size; i++) {
        fairness_member *pointer = &member[i];
        member[i].all = f, member[i].index = i;
        f->task[i] = kind->poll ? sch_spawn_poll(f->rt, kind->poll, &pointer, sizeof pointer)
                                : sch_spawn(f->rt, kind->run, pointer);
        if (!EXPECT(f->task[i] != NULL)) abort();
    }
    if (cores == 0 && pthread_create(&driver, NULL, fairness_drive, f)) abort();
    fairness_let_go(f);
    test(f);
    set(f->stop, 1u);
    fairness_let_go(f);
    while (get(f->running) > 0) fairness_nap();
    if (cores == 0) pthread_join(driver, NULL);
    for (unsigned i = 0; i < f->size; i++) EXPECT_EQ(sch_join(f->task[i]), 0);
    sch_runtime_free(f->rt);
}

static uint64_t fairness_most; /* polls that somebody had to wait */
static unsigned fairness_samples;

/* The polls of the core that ran it: who has taken a task may itself lose its CPU before running
 * it, and the other cores go on. A driver that comes and goes finds a task by search, uncounted. */
static void fairness_expect(fairness *f, const char *what, uint64_t bound) {
    uint64_t polls = f->ran_at[f->ran_on] - f->queued_at[f->ran_on];
    bound += f->driven;
    if (polls > fairness_most) fairness_most = polls;
    if (polls > bound) {
        test_fail(__FILE__, __LINE__, "%s: %llu polls, bound %llu", what,
                  (unsigned long long)polls, (unsigned long long)bound);
    }
    fairness_samples++;
}

static void fairness_await(fairness *f, unsigned n) {
    while (get(f->ran) < n) fairness_nap();
}

/* The tests -------------------------------------------------------------------------------------*/

/* From outside: the next look at the injector, at the latest `interval` polls from now. */
static void fairness_from_outside(fairness *f) {
    for (unsigned i = 0; i < 25; i++) {
        f->ran = 0;
        if (!fairness_hold(f)) {
            fairness_let_go(f);
            break;
        }
        uint64_t ahead = sch_injection_queue_depth(f->rt);
        fairness_polls(f, f->queued_at);
        EXPECT_EQ(sch_go(f->rt, fairness_victim, f), 0);
        fairness_let_go(f);
        fairness_await(f, 1);
        /* With others ahead of it, one batch for each look; in a batch, behind the ring. */
        fairness_expect(f, "from outside",
                        (ahead + 1) * f->interval +
                            (ahead ? (SCH_RUNQ_CAP + 1) * (SCH_LIFO_CAP + 1) : 0));
    }
}

/* A crowd from outside: taken by one look, then behind what the ring holds, each behind what the
 * LIFO slot may come in between. */
static void fairness_crowd(fairness *f) {
    for (unsigned i = 0; i < 15; i++) {
        f->ran = 0;
        if (!fairness_hold(f)) {
            fairness_let_go(f);
            break;
        }
        fairness_polls(f, f->queued_at);
        for (unsigned k = 0; k < FAIRNESS_CROWD; k++) {
            EXPECT_EQ(sch_go(f->rt, fairness_victim, f), 0);
        }
        fairness_let_go(f);
        fairness_await(f, FAIRNESS_CROWD);
        fairness_expect(f, "a crowd from outside",
                        f->interval + (f->size + FAIRNESS_CROWD) * (SCH_LIFO_CAP + 1));
    }
}

/* At the back of the core's own queue: each one ahead, and itself, has at most the LIFO slot's
 * turns and one look at the injector for each interval before it. A driver that leaves puts what it
 * has not run behind the injector's: nobody overtakes, but its turns are cut. */
static void fairness_from_inside(fairness *f) {
    for (unsigned i = 0; i < 25; i++) {
        f->ran = 0;
        set(f->want_local, 1u);
        (void)fairness_hold(f);
        fairness_let_go(f);
        fairness_await(f, 1);
        uint64_t bound = (f->local_depth + 2) * (SCH_LIFO_CAP + 1) * (f->driven ? 2 : 1);
        fairness_expect(f, "from inside", bound + bound / f->interval + 1);
    }
}

/* Maintenance comes every event_interval polls; by default it may be four times that while polls
 * are short. */
static void fairness_maintenance(fairness *f) {
    for (unsigned i = 0; i < 5; i++) {
        sch_worker_metrics_snapshot before, after;
        (void)fairness_hold(f);
        EXPECT_EQ(sch_worker_metrics(f->rt, 0, &before), 0);
        fairness_let_go(f);
        do {
            fairness_nap();
            EXPECT_EQ(sch_worker_metrics(f->rt, 0, &after), 0);
        } while (after.poll_count < before.poll_count + 10 * SCH_EVENT_INTERVAL);
        (void)fairness_hold(f);
        EXPECT_EQ(sch_worker_metrics(f->rt, 0, &after), 0);
        fairness_let_go(f);
        EXPECT((after.maintenance_count - before.maintenance_count + 1) * 4 * SCH_EVENT_INTERVAL >=
               after.poll_count - before.poll_count);
        fairness_samples++;
    }
}

static void fairness_all(void (*test)(fairness *f), unsigned cores) {
    static const unsigned intervals[] = {0, 1, 31};
    static fairness f;
    fairness_most = 0, fairness_samples = 0;
    for (size_t kind = 0; kind < FAIRNESS_KINDS; kind++) {
        for (unsigned i = 0; i < 3; i++) {
            unsigned failures = test_failures;
            fairness_flood(&f, &fairness_kinds[kind], test, cores, intervals[i]);
            if (test_failures > failures) {
                printf("  in a flood of %s, interval %u\n", fairness_kinds[kind].name,
                       intervals[i]);
            }
        }
    }
    printf("%u samples, at most %llu polls\n", fairness_samples, (unsigned long long)fairness_most);
    EXPECT(fairness_samples > FAIRNESS_KINDS * 3);
}

TEST(fairness_from_outside_1_core) { fairness_all(fairness_from_outside, 1); }
TEST(fairness_from_outside_2_cores) { fairness_all(fairness_from_outside, 2); }
TEST(fairness_from_outside_driven) { fairness_all(fairness_from_outside, 0); }
TEST(fairness_crowd_1_core) { fairness_all(fairness_crowd, 1); }
TEST(fairness_from_inside_1_core) { fairness_all(fairness_from_inside, 1); }
TEST(fairness_from_inside_driven) { fairness_all(fairness_from_inside, 0); }
TEST(fairness_maintenance) { fairness_all(fairness_maintenance, 1); }

TEST(fairness_behind_an_overflow) {
    static fairness f;
    fairness_most = 0;
    fairness_flood(&f, &fairness_overflow, fairness_from_outside, 1, 0);
    fairness_flood(&f, &fairness_overflow, fairness_from_outside, 1, 31);
    printf("at most %llu polls\n", (unsigned long long)fairness_most);
}
