/* standby.c - [11.5]: the standby rescues what is queued behind a long poll if a core is free. */
#include "support.h"

typedef struct standby_case {
    sch_runtime *rt;
    sch_task *sleeper;       /* waits in sch_suspend until the parent wakes it */
    unsigned ran;            /* the task in question has run */
    unsigned other;          /* so has the sleeper, if that is another one */
    unsigned seen;           /* before the parent had finished computing */
    uint64_t compute_ns;     /* how long the parent computes */
    uint64_t took_ns;        /* from then until it saw the task run */
    void (*queue)(struct standby_case *c);
    bool kept;               /* the parent's core keeps its ring to itself */
} standby_case;

static void standby_sleeper(void *arg) {
    EXPECT_EQ(sch_suspend(), 0);
    support_count(arg);
}

/* The other worker has taken its last look and sleeps, so that nobody but the standby can come. */
static bool standby_sleeps(sch_runtime *rt) {
    schi_lock(&rt->idle.lock);
    bool listed = schi_idle_seated(&rt->idle, SCHI_WATCH) != NULL;
    schi_unlock(&rt->idle.lock);
    return listed && schi_load_seq(&rt->seats[SCHI_WATCH].parker.state) == SCHI_PARKER_ALARM;
}

static void standby_spawn(standby_case *c) {
    EXPECT_EQ(sch_go(NULL, support_count, &c->ran), 0);
}

static void standby_wake(standby_case *c) { sch_wake(c->sleeper); }

/* As a push to the injector whose pusher tells nobody. */
static void standby_inject(standby_case *c) {
    if (EXPECT(schi_task_wake(c->sleeper))) {
        EXPECT(schi_inject_push(&c->rt->inject, &c->sleeper->node));
    }
}

/* Queues something and computes on. */
static void standby_parent(void *arg) {
    standby_case *c = (standby_case *)arg;
    YIELD_UNTIL(standby_sleeps(c->rt));
    uint64_t start = sch_now();
    schi_core *core = schi_self()->core;
    /* rlx: as the core does itself once it has learnt that a task is not worth a wake. */
    schi_store_rlx(&core->wake_len, 1000u);
    if (c->kept && schi_load_seq(&c->rt->has_barrier)) schi_runq_keep(&core->q, true);
    c->queue(c);
    while (!support_get(&c->ran) && sch_now() - start < c->compute_ns) continue;
    c->took_ns = sch_now() - start;
    c->seen = support_get(&c->ran);
    if (c->queue != standby_inject && c->seen) {
        /* whoever came has revoked it */
        EXPECT_EQ(schi_load_seq(&core->q.bias.state), SCHI_SHARED);
        if (c->kept) {
            bool had = schi_load_seq(&c->rt->has_barrier) != 0;
            EXPECT_EQ(support_metrics(c->rt).total.queue_revoke_count > 0, had);
        }
    }
}

static void standby_try(standby_case *c, bool no_standby) {
    checked_memory memory;
    sch_config config = support_config(&memory, 2);
    config.no_standby = no_standby;
    c->rt = support_begin(&config);
    c->ran = c->seen = 0;
    c->sleeper = sch_spawn(c->rt, standby_sleeper, c->queue == standby_spawn ? &c->other : &c->ran);
    WAIT_FOR(schi_load_seq(&c->sleeper->state) & SCHI_WAIT_WAKE);
    uint64_t rescues = support_metrics(c->rt).standby_rescue_count;
    support_run(c->rt, standby_parent, c);
    if (no_standby || c->seen > 0) { /* else whoever came may have come too late, and counted */
        EXPECT_EQ(support_metrics(c->rt).standby_rescue_count > rescues, !no_standby);
        if (c->queue == standby_wake) {
            EXPECT_EQ(support_metrics(c->rt).total.lifo_steal_count, c->seen);
        }
    }
    sch_wake(c->sleeper);
    EXPECT_EQ(sch_join(c->sleeper), 0);
    support_end(c->rt, &memory);
}

/* It starts long before the 400 ms are over: two periods of 5 ms and a wake, on a machine that has
 * time for us; one of ten tries is enough to show it. */
static void standby_rescues(void (*queue)(standby_case *c), bool kept) {
    standby_case c;
    memset(&c, 0, sizeof c);
    c.queue = queue;
    c.kept = kept;
    c.compute_ns = 400 * SCH_MILLISECOND;
    for (int i = 0; i < 10; i++) {
        standby_try(&c, false);
        if (c.seen && c.took_ns < 200 * SCH_MILLISECOND) break;
    }
    EXPECT_EQ(c.seen, 1);
    EXPECT(c.took_ns < 200 * SCH_MILLISECOND);
}

TEST(standby_child_behind_a_long_poll) { standby_rescues(standby_spawn, false); }
TEST(standby_lifo_behind_a_long_poll) { standby_rescues(standby_wake, false); }
TEST(standby_injector_behind_a_long_poll) { standby_rescues(standby_inject, false); }
TEST(standby_child_in_a_kept_ring) { standby_rescues(standby_spawn, true); }
TEST(standby_lifo_that_is_kept) { standby_rescues(standby_wake, true); }

/* A core whose tasks are short keeps its ring, and does its maintenance less often; one whose tasks
 * are not so short any more ends that with the next batch. */
static void standby_batch(schi_core *core, uint64_t poll_ns) {
    core->batch_start_polls = schi_counted(&core->m.polls) - 1000;
    core->sample_ns = core->sample_polls = 0;
    schi_core_measure(core, 1000 * poll_ns);
}

static void standby_learn(void *arg) {
    schi_core *core = schi_self()->core;
    sch_runtime *rt = (sch_runtime *)arg;
    const uint32_t best = schi_load_seq(&rt->has_barrier) ? SCHI_PRIVATE : SCHI_SHARED;
    for (int i = 0; i < 100; i++) standby_batch(core, 10);
    EXPECT_EQ(schi_load_seq(&core->q.bias.state), best);
    EXPECT_EQ(core->event_interval, 4 * SCH_EVENT_INTERVAL);
    standby_batch(core, 100000);
    EXPECT_EQ(core->event_interval, SCH_EVENT_INTERVAL);
    standby_batch(core, 100000);
    EXPECT_EQ(schi_load_seq(&core->q.bias.state), SCHI_SHARED);
    for (int i = 0; i < 100; i++) standby_batch(core, 10);
    EXPECT_EQ(schi_load_seq(&core->q.bias.state), best);
    EXPECT_EQ(schi_runq_visit(&core->q), 0);
    standby_batch(core, 10);
    EXPECT_EQ(schi_load_seq(&core->q.bias.state), SCHI_SHARED); /* not while somebody is there */
    schi_runq_part(&core->q);
    schi_store_seq(&rt->has_barrier, 0u); /* the system has refused one meanwhile */
    standby_batch(core, 10);
    EXPECT_EQ(schi_load_seq(&core->q.bias.state), SCHI_SHARED);
}

TEST(standby_cores_keep_rings_of_short_tasks) {
    for (int off = 0; off < 2; off++) {
        checked_memory memory;
        sch_config config = support_config(&memory, 2);
        config.no_standby = off != 0;
        sch_runtime *rt = support_begin(&config);
        /* Without a standby nobody would take it back. */
        EXPECT_EQ(schi_load_seq(&rt->has_barrier), !off && schi_barrier_open());
        support_run(rt, standby_learn, rt);
        support_end(rt, &memory);
    }
}

/* Who says how often maintenance is to come is obeyed. */
static void standby_obey(void *arg) {
    schi_core *core = schi_self()->core;
    (void)arg;
    for (int i = 0; i < 100; i++) standby_batch(core, 10);
    EXPECT_EQ(core->event_interval, 17);
}

TEST(standby_event_interval_of_the_user) {
    checked_memory memory;
    sch_config config = support_config(&memory, 2);
    config.event_interval = 17;
    sch_runtime *rt = support_begin(&config);
    support_run(rt, standby_obey, NULL);
    support_end(rt, &memory);
}

TEST(standby_off) { /* the three above can fail */
    void (*const queue[])(standby_case *c) = {standby_spawn, standby_wake, standby_inject};
    standby_case c;
    memset(&c, 0, sizeof c);
    c.compute_ns = 50 * SCH_MILLISECOND;
    for (int i = 0; i < 3; i++) {
        c.queue = queue[i];
        standby_try(&c, true);
        EXPECT_EQ(c.seen, 0);
    }
}

/* A ring that overflows leaves half of itself in the injector; all of it starts elsewhere. */
static void standby_flood(void *arg) {
    unsigned *ran = (unsigned *)arg;
    for (int i = 0; i < 600; i++) EXPECT_EQ(sch_go(NULL, support_count, ran), 0);
    while (support_get(ran) < 600) continue;
}

TEST(standby_overflow_behind_a_long_poll) {
    checked_memory memory;
    sch_config config = support_config(&memory, 2);
    sch_runtime *rt = support_begin(&config);
    unsigned ran = 0;
    support_run(rt, standby_flood, &ran);
    support_end(rt, &memory);
}

/* Both workers have lain down. */
static bool standby_has_seats(sch_runtime *rt) {
    schi_lock(&rt->idle.lock);
    bool both = schi_idle_seated(&rt->idle, SCHI_WATCH) &&
                schi_idle_seated(&rt->idle, SCHI_STANDBY);
    schi_unlock(&rt->idle.lock);
    return both && support_metrics(rt).num_idle_workers == 2;
}

/* While nothing runs its alarm is not set. */
TEST(standby_rests_when_all_is_idle) {
    checked_memory memory;
    sch_config config = support_config(&memory, 2);
    config.standby_period_ns = SCH_MILLISECOND;
    sch_runtime *rt = support_begin(&config);
    unsigned count = 0;
    for (int round = 0; round < 2; round++) {
        sch_metrics_snapshot before, after;
        support_run(rt, support_count, &count);
        WAIT_FOR(standby_has_seats(rt));
        before = support_metrics(rt);
        support_nap(100000);
        after = support_metrics(rt);
        EXPECT(after.standby_look_count - before.standby_look_count <= 2);
        EXPECT(after.standby_alarm_count - before.standby_alarm_count <= 2);
    }
    EXPECT(support_metrics(rt).standby_alarm_count > 0);
    support_end(rt, &memory);
}

/* One look of the standby sends a thread for each task that is late, as far as cores are free. */
typedef struct standby_crowd {
    SCHI_ATOMIC(unsigned) started;
    uint64_t looks;
} standby_crowd;

static void standby_crowd_child(void *arg) {
    standby_crowd *c = (standby_crowd *)arg;
    schi_add_seq(&c->started, 1u);
    while (schi_load_seq(&c->started) < 3)
        usleep(1000); /* keeps its core busy until all are there */
}

static void standby_crowd_parent(void *arg) {
    standby_crowd *c = (standby_crowd *)arg;
    sch_metrics_snapshot m;
    sch_task *child[3];
    EXPECT_EQ(sch_metrics(schi_self()->rt, &m), 0);
    c->looks = m.standby_look_count;
    for (int i = 0; i < 3; i++) child[i] = sch_spawn(NULL, standby_crowd_child, c);
    while (schi_load_seq(&c->started) < 3) usleep(1000); /* one long poll */
    EXPECT_EQ(sch_metrics(schi_self()->rt, &m), 0);
    c->looks = m.standby_look_count - c->looks;
    for (int i = 0; i < 3; i++) EXPECT_EQ(sch_join(child[i]), 0);
}

static void standby_crowd_nothing(void *arg) { (void)arg; }

/* The number of its looks, 0: no runtime. */
static uint64_t standby_crowd_try(void) {
    standby_crowd c;
    sch_config config;
    sch_runtime *rt;
    memset(&c, 0, sizeof c);
    memset(&config, 0, sizeof config);
    config.workers = 4;
    config.standby_period_ns = 400 * SCH_MILLISECOND;
    rt = sch_runtime_new(&config);
    if (!EXPECT(rt != NULL)) return 0;
    /* Teach the cores that tasks are short, so that no push is worth a wake. */
    for (unsigned i = 0; i < 4; i++) {
        schi_store_rlx(&rt->cores[i]->wake_len, UINT32_MAX); /* rlx: a hint */
    }
    EXPECT_EQ(sch_join(sch_spawn(rt, standby_crowd_nothing, NULL)), 0);
    for (unsigned i = 0; i < 4; i++) {
        schi_store_rlx(&rt->cores[i]->wake_len, UINT32_MAX); /* rlx: a hint */
    }
    EXPECT_EQ(sch_join(sch_spawn(rt, standby_crowd_parent, &c)), 0);
    sch_runtime_free(rt);
    return c.looks;
}

TEST(standby_rescues_all_that_is_late) {
    uint64_t looks = 4;
    for (int i = 0; i < 5 && looks > 3; i++) looks = standby_crowd_try();
    EXPECT(looks <= 3); /* one to see them, one to find them late, one for a slow machine */
}
