/* metrics.c - [P11] [10]: every number of a snapshot, on scenarios in which it can only be one.
 *
 * A scenario is a task that takes a snapshot, does something, and takes another. It has the only
 * core (SCH_CURRENT_THREAD, or one worker), or the other worker is held back: it sleeps, and what
 * is queued is not worth a wake. Polls between maintenance and looks at the injector are fixed.
 *
 *   a worker's                         test
 *   thread                             metrics_block_in_place; hooks_park_count_*
 *   poll_count spawned_count ended_count local_schedule_count        metrics_spawn_and_join
 *   cancelled_count                    metrics_cancelled; lifecycle.c
 *   lifo_poll_count lifo_schedule_count lifo_capped_count            metrics_lifo
 *   child_poll_count                   metrics_children
 *   overflow_count injector_count injector_batch_count local_queue_depth      metrics_overflow
 *   injector_turn_count maintenance_count                            metrics_intervals
 *   no_local_work_count search_count search_spin_count               metrics_park, metrics_noop
 *   park_count park_unpark_count       metrics_park; hooks_park_count_*
 *   noop_count                         metrics_noop
 *   timer_armed_count timer_fired_count timer_cancelled_count        metrics_timers
 *   wheel_revoke_count                 metrics_wheel_revoke
 *   queue_revoke_count                 standby_*_kept*
 *   steal_operations steal_count       metrics_steal
 *   lifo_steal_count                   metrics_steal_lifo; standby_lifo_behind_a_long_poll
 *   relay_count                        metrics_relay
 *   notify_count wake_count            metrics_notify, metrics_notify_nobody
 *   lend_count lend_taken_count handoff_count                        metrics_block_in_place
 *   forced_yield_count                 metrics_forced_yield
 *   busy_ns mean_poll_ns               metrics_times, metrics_mean_poll
 *   wait_count                         metrics_waits_*
 *   the runtime's
 *   num_workers total                  metrics_total_is_the_sum
 *   num_alive_tasks num_running_tasks num_queued_tasks num_waiting_tasks
 *                                      metrics_states, metrics_states_undriven
 *   injection_queue_depth              metrics_remote; current_runs_only_while_driven
 *   num_worker_threads                 blocking.c, threads.c; current_*
 *   num_idle_workers num_searching     metrics_searching
 *   num_blocking_threads num_idle_blocking_threads blocking_queue_depth
 *                                      metrics_states; pool.c, threads.c
 *   blocking_spin_count blocking_spin_hit_count                      metrics_pool_spins
 *   spawned_tasks_count                metrics_spawned_everywhere
 *   cancelled_tasks_count              metrics_cancelled; lifecycle.c
 *   remote_schedule_count remote_wake_count                          metrics_remote
 *   notify_no_core_count               metrics_notify_no_core
 *   standby_alarm_count standby_look_count standby_rescue_count      metrics_standby
 *   stack_count stack_free_count       metrics_stacks
 *   timer_count                        metrics_timers
 *   io_opened_count io_closed_count io_event_count                   metrics_descriptors
 *   stall_count stall_ns               dump.c: dump_stall_*
 *   all counters                       metrics_never_go_back
 *   histograms, percentiles            metrics_histogram_*
 *   sch_metrics_write                  metrics_text_*; tests/observe
 */
#include "support.h"
#include "waits.h"

typedef struct metrics {
    checked_memory memory;
    sch_config config;
    sch_runtime *rt;
    sch_metrics_snapshot a, b;
    sch_task *task[8];
    support_gate gate;
    unsigned ran, stop; /* atomic */
    size_t depth;
} metrics;

static void metrics_config(metrics *m, unsigned workers) {
    const support_gate gate = SUPPORT_GATE;
    memset(m, 0, sizeof *m);
    m->gate = gate;
    m->config = support_config(&m->memory, workers);
    m->config.event_interval = m->config.global_queue_interval = 60000;
    m->config.no_standby = true;
    m->config.paused_clock = workers == 0;
}

static void metrics_run(metrics *m, sch_fn scenario) {
    m->rt = support_begin(&m->config);
    support_run(m->rt, scenario, m);
    support_end(m->rt, &m->memory);
}

static void metrics_try(metrics *m, unsigned workers, sch_fn scenario) {
    metrics_config(m, workers);
    metrics_run(m, scenario);
}

#define METRICS_MORE(m, field) ((m)->b.field - (m)->a.field)
#define EXPECT_MORE(m, field, n) EXPECT_EQ(METRICS_MORE(m, field), n)

/* Queues ----------------------------------------------------------------------------------------*/

static void metrics_spawn_five(void *arg) {
    metrics *m = (metrics *)arg;
    m->a = support_metrics(m->rt);
    for (int i = 0; i < 5; i++) m->task[i] = sch_spawn(NULL, support_count, &m->ran);
    for (int i = 0; i < 5; i++) EXPECT_EQ(sch_join(m->task[i]), 0);
    m->b = support_metrics(m->rt);
}

TEST(metrics_spawn_and_join) {
    metrics m;
    for (unsigned workers = 0; workers < 2; workers++) {
        metrics_try(&m, workers, metrics_spawn_five);
        EXPECT_MORE(&m, total.spawned_count, 5);
        EXPECT_MORE(&m, total.ended_count, 5);
        EXPECT_MORE(&m, total.poll_count, 5 + 1);           /* the first join waits for all */
        EXPECT_MORE(&m, total.local_schedule_count, 5 + 1); /* and its end queues the joiner */
        EXPECT_MORE(&m, total.lifo_schedule_count, 0);
        EXPECT_MORE(&m, total.lifo_poll_count, 0);
        EXPECT_MORE(&m, total.wait_count[SCH_WAIT_JOIN], 1);
        EXPECT_MORE(&m, total.cancelled_count, 0);
        EXPECT_MORE(&m, total.injector_count, 0);
        EXPECT_MORE(&m, remote_schedule_count, 0);
    }
}

/* Two tasks wake each other eleven times. */
typedef struct metrics_player {
    metrics *m;
    unsigned other;
} metrics_player;

static void metrics_play(void *arg) {
    metrics_player *p = (metrics_player *)arg;
    for (;;) {
        EXPECT_EQ(sch_suspend(), 0);
        if (support_get(&p->m->stop) || support_add(&p->m->ran, 1) == 11) return;
        sch_wake(p->m->task[p->other]);
    }
}

static void metrics_ping_pong(void *arg) {
    metrics *m = (metrics *)arg;
    metrics_player player[2] = {{m, 1}, {m, 0}};
    for (int i = 0; i < 2; i++) m->task[i] = sch_spawn(NULL, metrics_play, &player[i]);
    EXPECT_EQ(sch_yield_now(), 0); /* they suspend */
    m->a = support_metrics(m->rt);
    sch_wake(m->task[0]);
    YIELD_UNTIL(support_get(&m->ran) == 11);
    m->b = support_metrics(m->rt);
    support_set(&m->stop, 1);
    for (int i = 0; i < 2; i++) {
        sch_wake(m->task[i]);
        EXPECT_EQ(sch_join(m->task[i]), 0);
    }
}

/* Turns by the slot: 3, then the yielding task has its turn and the next player comes by the queue;
 * so 3, 1 + 3, 1 + 3. */
TEST(metrics_lifo) {
    metrics m;
    if (SCH_LIFO_CAP != 3) SKIP("counted for SCH_LIFO_CAP 3");
    metrics_try(&m, 0, metrics_ping_pong);
    EXPECT_MORE(&m, total.lifo_schedule_count, 11);
    EXPECT_MORE(&m, total.local_schedule_count, 11);
    EXPECT_MORE(&m, total.lifo_poll_count, 9);
    EXPECT_MORE(&m, total.lifo_capped_count, 2);
    EXPECT_MORE(&m, total.poll_count, 11 + 3);
    EXPECT_MORE(&m, total.wait_count[SCH_WAIT_SUSPEND], 10);
    EXPECT_MORE(&m, total.wait_count[SCH_WAIT_YIELD], 3);
    EXPECT_MORE(&m, total.ended_count, 1);

    metrics_config(&m, 0);
    m.config.no_lifo = true;
    metrics_run(&m, metrics_ping_pong);
    EXPECT_MORE(&m, total.lifo_schedule_count, 0);
    EXPECT_MORE(&m, total.local_schedule_count, 11);
    EXPECT_MORE(&m, total.lifo_poll_count, 0);
    EXPECT_MORE(&m, total.lifo_capped_count, 0);
}

/* A child that comes next, twice, beside one that does not. */
static void metrics_have_children(void *arg) {
    metrics *m = (metrics *)arg;
    m->a = support_metrics(m->rt);
    for (int n = 1; n <= 4; n *= 2) {
        for (int i = 0; i < n; i++) m->task[i] = sch_spawn(NULL, support_count, &m->ran);
        for (int i = 0; i < n; i++) EXPECT_EQ(sch_join(m->task[i]), 0);
    }
    EXPECT_EQ(sch_join(sch_spawn(NULL, support_count, &m->ran)), 0);
    m->b = support_metrics(m->rt);
}

TEST(metrics_children) {
    metrics m;
    metrics_try(&m, 0, metrics_have_children);
    EXPECT_MORE(&m, total.child_poll_count, 2);
    EXPECT_MORE(&m, total.lifo_poll_count, 0);
    EXPECT_MORE(&m, total.spawned_count, 8);
    EXPECT_MORE(&m, total.poll_count, 8 + 4);
}

/* The 257th task moves 128 and itself to the injector, then each 129th. */
static void metrics_spawn_600(void *arg) {
    metrics *m = (metrics *)arg;
    m->a = support_metrics(m->rt);
    for (int i = 0; i < 600; i++) EXPECT_EQ(sch_go(NULL, support_count, &m->ran), 0);
    m->b = support_metrics(m->rt);
    EXPECT_EQ(m->b.total.local_queue_depth, 600 - 3 * 129);
    EXPECT_EQ(m->b.injection_queue_depth, 3 * 129);
    EXPECT_EQ(m->b.num_queued_tasks, 600);
    YIELD_UNTIL(support_get(&m->ran) == 600);
    m->b = support_metrics(m->rt);
}

TEST(metrics_overflow) {
    metrics m;
    if (SCH_RUNQ_CAP != 256) SKIP("counted for SCH_RUNQ_CAP 256");
    metrics_try(&m, 0, metrics_spawn_600);
    EXPECT_MORE(&m, total.overflow_count, 3);
    EXPECT_MORE(&m, total.local_schedule_count, 600);
    EXPECT_MORE(&m, total.injector_count, 3 * 129);
    EXPECT_MORE(&m, total.injector_batch_count, 4); /* of half a ring at most: 128 * 3 + 3 */
    EXPECT_MORE(&m, total.injector_turn_count, 0);
    EXPECT_MORE(&m, remote_schedule_count, 0); /* overflow is not from outside */
    EXPECT_MORE(&m, injection_queue_depth, 0);
    EXPECT_MORE(&m, total.local_queue_depth, 0);
}

/* Two tasks yield in turn: each yield is two polls. */
static void metrics_yield_until_stop(void *arg) {
    YIELD_UNTIL(support_get(&((metrics *)arg)->stop));
}

static void metrics_yield_60(void *arg) {
    metrics *m = (metrics *)arg;
    m->task[0] = sch_spawn(NULL, metrics_yield_until_stop, m);
    EXPECT_EQ(sch_yield_now(), 0);
    m->a = support_metrics(m->rt);
    for (int i = 0; i < 60; i++) EXPECT_EQ(sch_yield_now(), 0);
    m->b = support_metrics(m->rt);
    support_set(&m->stop, 1);
    EXPECT_EQ(sch_join(m->task[0]), 0);
}

TEST(metrics_intervals) {
    metrics m;
    metrics_config(&m, 0);
    m.config.event_interval = 5;
    m.config.global_queue_interval = 4;
    metrics_run(&m, metrics_yield_60);
    EXPECT_MORE(&m, total.poll_count, 120);
    EXPECT_MORE(&m, total.wait_count[SCH_WAIT_YIELD], 120);
    EXPECT_MORE(&m, total.maintenance_count, 120 / 5);
    EXPECT_MORE(&m, total.injector_turn_count, 120 / 4);
    EXPECT_MORE(&m, total.injector_batch_count, 0);
    EXPECT_MORE(&m, total.local_schedule_count, 0); /* it is a yield */
    EXPECT_MORE(&m, total.no_local_work_count, 0);
    EXPECT_MORE(&m, total.park_count, 0);
}

static void metrics_ready_ops(void *arg) {
    metrics *m = (metrics *)arg;
    ops_hand hand = ops_by_hand(true);
    EXPECT_EQ(sch_yield_now(), 0); /* a budget of its own */
    m->a = support_metrics(m->rt);
    for (int i = 0; i < 3 * SCH_BUDGET; i++) EXPECT_EQ(sch_await(&hand.op), 7);
    m->b = support_metrics(m->rt);
}

TEST(metrics_forced_yield) {
    metrics m;
    metrics_try(&m, 0, metrics_ready_ops);
    EXPECT_MORE(&m, total.forced_yield_count, 3);
    EXPECT_MORE(&m, total.wait_count[SCH_WAIT_YIELD], 3);
    EXPECT_MORE(&m, total.wait_count[SCH_WAIT_OPERATION], 0); /* they did not have to wait */
    EXPECT_MORE(&m, total.poll_count, 3);
}

/* Sleep -----------------------------------------------------------------------------------------*/

static void metrics_sleep_thrice(void *arg) {
    metrics *m = (metrics *)arg;
    m->a = support_metrics(m->rt);
    for (int i = 0; i < 3; i++) EXPECT_EQ(sch_sleep(SCH_SECOND), 0);
    m->b = support_metrics(m->rt);
}

TEST(metrics_park) {
    metrics m;
    metrics_try(&m, 0, metrics_sleep_thrice);
    EXPECT_MORE(&m, total.park_count, 3);
    EXPECT_MORE(&m, total.park_unpark_count, 6);
    EXPECT_EQ(m.a.total.park_unpark_count % 2, 0);
    EXPECT_MORE(&m, total.noop_count, 0);
    EXPECT_MORE(&m, total.poll_count, 3);
    EXPECT_MORE(&m, total.no_local_work_count, 3);
    EXPECT_MORE(&m, total.search_count, 3);
    EXPECT_MORE(&m, total.search_spin_count, 3 * SCH_SPIN_ROUNDS);
    EXPECT_MORE(&m, total.wait_count[SCH_WAIT_TIMER], 3);
    EXPECT_MORE(&m, total.local_schedule_count, 3);
    EXPECT_MORE(&m, total.lifo_schedule_count, 0);
    EXPECT_MORE(&m, remote_wake_count, 0);
}

/* Of three timers one fires, one is not needed in the end, one sleeper is cancelled. */
static void metrics_sleep_for_ever(void *arg) {
    (void)arg;
    EXPECT_EQ(sch_sleep(3600 * SCH_SECOND), -ECANCELED);
}

static void metrics_complete(void *arg) {
    sch_op_complete(&((ops_hand *)arg)->op, 9);
}

static void metrics_three_timers(void *arg) {
    metrics *m = (metrics *)arg;
    ops_hand hand = ops_by_hand(false);
    m->a = support_metrics(m->rt);
    m->task[0] = sch_spawn(NULL, metrics_sleep_for_ever, NULL);
    EXPECT_EQ(sch_sleep(SCH_SECOND), 0);
    EXPECT_EQ(sch_go(NULL, metrics_complete, &hand), 0);
    EXPECT_EQ(sch_timeout(&hand.op, SCH_SECOND), 9);
    m->b = support_metrics(m->rt);
    EXPECT_MORE(m, timer_count, 1);
    EXPECT_EQ(sch_cancel(m->task[0]), 0);
    EXPECT_EQ(sch_join(m->task[0]), -ECANCELED);
    m->b = support_metrics(m->rt);
}

TEST(metrics_timers) {
    metrics m;
    metrics_try(&m, 0, metrics_three_timers);
    EXPECT_MORE(&m, timer_count, 0);
    EXPECT_MORE(&m, total.timer_armed_count, 3);
    EXPECT_MORE(&m, total.timer_fired_count, 1);
    EXPECT_MORE(&m, total.timer_cancelled_count, 2);
    EXPECT_MORE(&m, total.cancelled_count, 1);
}

/* A task that arms and gives up timers all the time; then another thread looks into its wheel. */
static void metrics_keep_wheel(void *arg) {
    metrics *m = (metrics *)arg;
    schi_biased_lock *lock = &schi_self()->core->wheel.lock;
    sch_timer timer = sch_timer_at(sch_now() + 3600 * SCH_SECOND);
    while (schi_load_seq(&lock->bias.state) == SCHI_SHARED) {
        schi_timer_arm(schi_self(), &timer);
        EXPECT(schi_timer_disarm(schi_self(), &timer));
    }
    __atomic_store_n(&m->ran, 1u, __ATOMIC_SEQ_CST);
    while (!support_get(&m->stop)) continue;
}

TEST(metrics_wheel_revoke) {
    metrics m;
    schi_wheel *wheel;
    if (!schi_barrier_open()) SKIP("no barrier on all threads here");
    metrics_config(&m, 1);
    m.ran = m.stop = 0;
    m.rt = support_begin(&m.config);
    wheel = &m.rt->cores[0]->wheel;
    m.task[0] = sch_spawn(m.rt, metrics_keep_wheel, &m);
    WAIT_FOR(support_get(&m.ran));
    m.a = support_metrics(m.rt);
    for (int i = 0; i < 2; i++) schi_wheel_unlock(wheel, schi_wheel_lock(wheel, NULL));
    m.b = support_metrics(m.rt);
    EXPECT_EQ(m.a.total.wheel_revoke_count, 0);
    EXPECT_MORE(&m, total.wheel_revoke_count, 1); /* the second time it is free */
    EXPECT_MORE(&m, total.queue_revoke_count, 0);
    __atomic_store_n(&m.stop, 1u, __ATOMIC_SEQ_CST);
    EXPECT_EQ(sch_join(m.task[0]), 0);
    support_end(m.rt, &m.memory);
}

/* A thread of the pool looks for its next job for a while; if none comes, it sleeps. */
static void metrics_no_job(void *arg) { (void)arg; }

TEST(metrics_pool_spins) {
    metrics m;
    metrics_config(&m, 1);
    m.rt = support_begin(&m.config);
    if (!m.rt->pool.may_spin) {
        support_end(m.rt, &m.memory);
        SKIP("one CPU: the pool does not spin");
    }
    EXPECT_EQ(support_metrics(m.rt).blocking_spin_count, 0);
    EXPECT_EQ(sch_join(sch_spawn_blocking(m.rt, metrics_no_job, NULL)), 0);
    WAIT_FOR(support_metrics(m.rt).blocking_spin_count == 1);
    EXPECT_EQ(support_metrics(m.rt).blocking_spin_hit_count, 0);
    do { /* a job that comes while the thread looks, or, by bad luck, after that */
        schi_pool *pool = &m.rt->pool;
        bool spins = false;
        schi_lock(&pool->lock);
        pool->spin_wait = pool->spin_pause = 0;
        schi_unlock(&pool->lock);
        m.task[0] = sch_spawn_blocking(m.rt, metrics_no_job, NULL);
        while (!spins && !schi_counted(&pool->idle_threads)) {
            schi_lock(&pool->lock);
            spins = pool->spinning;
            schi_unlock(&pool->lock);
        }
        EXPECT_EQ(sch_join(sch_spawn_blocking(m.rt, metrics_no_job, NULL)), 0);
        EXPECT_EQ(sch_join(m.task[0]), 0);
        m.b = support_metrics(m.rt);
        EXPECT(m.b.blocking_spin_hit_count <= m.b.blocking_spin_count);
    } while (m.b.blocking_spin_hit_count == 0);
    support_end(m.rt, &m.memory);
}

static bool metrics_is_asleep(sch_runtime *rt, schi_thread *th) {
    uint32_t state = schi_load_seq(&schi_parker_of(rt, &th->sleeper)->state);
    return th->sleeper.listed && (state == SCHI_PARKER_PARKED || state == SCHI_PARKER_ALARM);
}

/* No worker does anything by itself any more, and who queued something from outside has left. */
static bool metrics_all_sleep(sch_runtime *rt) {
    bool all = true;
    schi_lock(&rt->idle.lock);
    for (unsigned i = 0; i < rt->top_thread; i++) {
        schi_thread *th = rt->threads[i];
        if (th && th->kind == SCHI_WORKER) all = all && metrics_is_asleep(rt, th);
    }
    schi_unlock(&rt->idle.lock);
    return all && schi_outside_left(rt) && support_metrics(rt).num_idle_workers == rt->num_cores;
}

/* Cores that are not ours: a worker's counters while it rests. */
static void metrics_rested(metrics *m, sch_metrics_snapshot *out, uint64_t parks) {
    WAIT_FOR(support_metrics(m->rt).total.park_count >= parks && metrics_all_sleep(m->rt));
    *out = support_metrics(m->rt);
    EXPECT_EQ(out->total.park_count, parks);
    EXPECT_EQ(out->num_idle_workers, out->num_workers);
}

/* Woken for nothing, it searches and goes to sleep again. */
TEST(metrics_noop) {
    metrics m;
    metrics_config(&m, 1);
    m.rt = support_begin(&m.config);
    metrics_rested(&m, &m.a, 1);
    EXPECT(schi_wake_one(m.rt, false, false));
    metrics_rested(&m, &m.b, 2);
    EXPECT_MORE(&m, total.noop_count, 1);
    EXPECT_MORE(&m, total.park_unpark_count, 2);
    EXPECT_EQ(m.b.total.park_unpark_count % 2, 1);
    EXPECT_MORE(&m, total.poll_count, 0);
    EXPECT_MORE(&m, total.no_local_work_count, 1);
    EXPECT_MORE(&m, total.search_count, 1);
    EXPECT_MORE(&m, total.search_spin_count, SCH_SPIN_ROUNDS);
    support_run(m.rt, support_count, &m.ran);
    m.a = m.b;
    metrics_rested(&m, &m.b, 3);
    EXPECT_MORE(&m, total.noop_count, 0);
    EXPECT_MORE(&m, total.poll_count, 1);
    support_end(m.rt, &m.memory);
}

/* Held in a hook, a worker that was woken to search is counted so. */
static void metrics_hold_unpark(void *user, unsigned thread) {
    metrics *m = (metrics *)user;
    (void)thread;
    if (support_get(&m->stop)) support_gate_wait(&m->gate);
}

TEST(metrics_searching) {
    metrics m;
    metrics_config(&m, 2);
    m.config.hooks.on_thread_unpark = metrics_hold_unpark;
    m.config.hooks.user = &m;
    m.rt = support_begin(&m.config);
    metrics_rested(&m, &m.a, 2);
    EXPECT_EQ(m.a.num_searching, 0);
    support_set(&m.stop, 1);
    WAIT_FOR(schi_wake_one(m.rt, true, false));
    WAIT_FOR(support_gate_waiters(&m.gate) == 1);
    m.b = support_metrics(m.rt);
    EXPECT_EQ(m.b.num_searching, 1);
    EXPECT_EQ(m.b.num_idle_workers, 1);
    support_gate_open(&m.gate);
    WAIT_FOR(metrics_all_sleep(m.rt));
    EXPECT_EQ(support_metrics(m.rt).num_searching, 0);
    support_end(m.rt, &m.memory);
}

/* Stealing and waking ---------------------------------------------------------------------------*/

/* What is queued is worth a wake from so many tasks on; on all cores but ours from `others` on. */
static void metrics_worth(metrics *m, uint32_t ours, uint32_t others) {
    for (unsigned i = 0; i < m->rt->num_cores; i++) {
        /* rlx: a hint */
        schi_store_rlx(&m->rt->cores[i]->wake_len, i == sch_worker_index() ? ours : others);
    }
}

/* Every other worker has taken its last look and sleeps; who queued us from outside has left. */
static bool metrics_others_sleep(metrics *m) {
    sch_runtime *rt = m->rt;
    unsigned asleep = 0;
    schi_lock(&rt->idle.lock);
    for (unsigned i = 0; i < rt->max_threads; i++) {
        if (rt->threads[i]) asleep += metrics_is_asleep(rt, rt->threads[i]);
    }
    schi_unlock(&rt->idle.lock);
    return schi_outside_left(rt) && asleep == rt->num_cores - 1 &&
           support_metrics(rt).num_idle_workers == rt->num_cores - 1;
}

/* Alone with the only core in use, for one long poll. */
static void metrics_hold_others(metrics *m) {
    do {
        while (!metrics_others_sleep(m)) support_nap(50);
        support_nap(1000); /* nobody is on his way to a better seat */
    } while (!metrics_others_sleep(m));
}

/* Who queued us from outside might still wake somebody. */
static void metrics_be_left_alone(metrics *m) {
    while (!schi_outside_left(m->rt)) support_nap(50);
}

static void metrics_be_robbed(void *arg) {
    metrics *m = (metrics *)arg;
    metrics_hold_others(m);
    metrics_worth(m, UINT32_MAX, UINT32_MAX);
    m->a = support_metrics(m->rt);
    for (int i = 0; i < 4; i++) EXPECT_EQ(sch_go(NULL, support_count, &m->ran), 0);
    EXPECT(schi_wake_one(m->rt, true, true));
    while (support_get(&m->ran) < 2) support_nap(50); /* half of four */
    metrics_hold_others(m);
    m->b = support_metrics(m->rt);
}

TEST(metrics_steal) {
    metrics m;
    metrics_try(&m, 2, metrics_be_robbed);
    EXPECT_MORE(&m, total.steal_operations, 1);
    EXPECT_MORE(&m, total.steal_count, 2);
    EXPECT_MORE(&m, total.lifo_steal_count, 0);
    EXPECT_MORE(&m, total.poll_count, 2);
    EXPECT_MORE(&m, total.local_queue_depth, 2);
    EXPECT_MORE(&m, total.search_count, 2); /* one more before it sleeps */
    EXPECT_MORE(&m, total.search_spin_count, SCH_SPIN_ROUNDS);
    EXPECT_MORE(&m, total.relay_count, 0);
    EXPECT_MORE(&m, total.notify_count, 0);
    EXPECT_MORE(&m, total.wake_count, 0);
    EXPECT_MORE(&m, num_idle_workers, 0);
}

static void metrics_suspend_and_count(void *arg) {
    EXPECT_EQ(sch_suspend(), 0);
    support_count(arg);
}

static void metrics_be_robbed_of_lifo(void *arg) {
    metrics *m = (metrics *)arg;
    m->task[0] = sch_spawn(NULL, metrics_suspend_and_count, &m->ran);
    YIELD_UNTIL(schi_load_seq(&m->task[0]->state) & SCHI_WAIT_WAKE);
    metrics_hold_others(m);
    metrics_worth(m, UINT32_MAX, UINT32_MAX);
    m->a = support_metrics(m->rt);
    sch_wake(m->task[0]);
    EXPECT(schi_wake_one(m->rt, true, true));
    while (support_get(&m->ran) < 1) support_nap(50);
    metrics_hold_others(m);
    m->b = support_metrics(m->rt);
    EXPECT_EQ(sch_join(m->task[0]), 0);
}

TEST(metrics_steal_lifo) {
    metrics m;
    metrics_try(&m, 2, metrics_be_robbed_of_lifo);
    EXPECT_MORE(&m, total.steal_operations, 1);
    EXPECT_MORE(&m, total.steal_count, 1);
    EXPECT_MORE(&m, total.lifo_steal_count, 1);
    EXPECT_MORE(&m, total.lifo_schedule_count, 1);
    EXPECT_MORE(&m, total.lifo_poll_count, 0); /* it came by a search */
    EXPECT_MORE(&m, total.poll_count, 1);
}

/* The only searcher finds two tasks and wakes a third worker for the one that it cannot run yet. */
static void metrics_wait_for_two(void *arg) {
    metrics *m = (metrics *)arg;
    support_add(&m->ran, 1);
    while (support_get(&m->ran) < 2) support_nap(50);
}

static void metrics_be_robbed_by_two(void *arg) {
    metrics *m = (metrics *)arg;
    metrics_hold_others(m);
    metrics_worth(m, UINT32_MAX, 1);
    m->a = support_metrics(m->rt);
    for (int i = 0; i < 4; i++) EXPECT_EQ(sch_go(NULL, metrics_wait_for_two, m), 0);
    EXPECT(schi_wake_one(m->rt, true, true));
    while (support_get(&m->ran) < 2) support_nap(50);
    metrics_hold_others(m);
    m->b = support_metrics(m->rt);
}

TEST(metrics_relay) {
    metrics m;
    metrics_try(&m, 3, metrics_be_robbed_by_two);
    EXPECT_MORE(&m, total.relay_count, 1);
    EXPECT_MORE(&m, total.notify_count, 1);
    EXPECT_MORE(&m, total.wake_count, 1);
    EXPECT_MORE(&m, total.steal_operations, 2);
    EXPECT_MORE(&m, total.steal_count, 3);
    EXPECT_MORE(&m, remote_wake_count, 0);
}

/* The third task makes the queue worth a wake. */
static void metrics_wake_at_three(void *arg) {
    metrics *m = (metrics *)arg;
    metrics_hold_others(m);
    metrics_worth(m, 3, UINT32_MAX);
    m->a = support_metrics(m->rt);
    for (int i = 0; i < 3; i++) EXPECT_EQ(sch_go(NULL, support_count, &m->ran), 0);
    while (support_get(&m->ran) < 2) support_nap(50); /* half of three, rounded up */
    metrics_hold_others(m);
    m->b = support_metrics(m->rt);
}

TEST(metrics_notify) {
    metrics m;
    metrics_try(&m, 2, metrics_wake_at_three);
    EXPECT_MORE(&m, total.notify_count, 1);
    EXPECT_MORE(&m, total.wake_count, 1);
    EXPECT_MORE(&m, total.steal_operations, 1);
    EXPECT_MORE(&m, total.steal_count, 2);
    EXPECT_MORE(&m, remote_wake_count, 0);
}

/* The same while the other worker is busy: three of five pushes find the queue worth a wake. */
static void metrics_block_thread(void *arg) { support_gate_wait(&((metrics *)arg)->gate); }

static void metrics_notify_in_vain(void *arg) {
    metrics *m = (metrics *)arg;
    metrics_hold_others(m);
    metrics_worth(m, 1, UINT32_MAX);
    EXPECT_EQ(sch_go(NULL, metrics_block_thread, m), 0); /* wakes the other, who takes it */
    while (support_gate_waiters(&m->gate) == 0) support_nap(50);
    metrics_worth(m, 3, UINT32_MAX);
    m->a = support_metrics(m->rt);
    for (int i = 0; i < 5; i++) EXPECT_EQ(sch_go(NULL, support_count, &m->ran), 0);
    m->b = support_metrics(m->rt);
    support_gate_open(&m->gate);
}

TEST(metrics_notify_nobody) {
    metrics m;
    metrics_try(&m, 2, metrics_notify_in_vain);
    EXPECT_MORE(&m, total.notify_count, 3);
    EXPECT_MORE(&m, total.wake_count, 0);
    EXPECT_EQ(m.b.num_idle_workers, 0);
}

/* From outside: a task in the injector, and a worker woken for it. */
TEST(metrics_remote) {
    metrics m;
    metrics_config(&m, 1);
    m.rt = support_begin(&m.config);
    metrics_rested(&m, &m.a, 1);
    for (uint64_t i = 1; i <= 3; i++) {
        support_run(m.rt, support_count, &m.ran);
        metrics_rested(&m, &m.b, 1 + i);
        EXPECT_MORE(&m, remote_schedule_count, i);
        EXPECT_MORE(&m, remote_wake_count, i);
        EXPECT_MORE(&m, total.injector_count, i);
        EXPECT_MORE(&m, total.injector_batch_count, i);
        EXPECT_MORE(&m, total.local_schedule_count, 0);
        EXPECT_MORE(&m, total.wake_count, 0);
    }
    support_end(m.rt, &m.memory);

    metrics_config(&m, 0); /* with nobody there to be woken; then all in one batch */
    m.rt = support_begin(&m.config);
    for (int i = 0; i < 3; i++) EXPECT_EQ(sch_go(m.rt, support_count, &m.ran), 0);
    EXPECT_EQ(support_metrics(m.rt).injection_queue_depth, 3);
    support_run(m.rt, support_count, &m.ran);
    m.b = support_metrics(m.rt);
    EXPECT_EQ(m.b.injection_queue_depth, 0);
    EXPECT_EQ(m.b.remote_schedule_count, 4);
    EXPECT_EQ(m.b.remote_wake_count, 0);
    EXPECT_EQ(m.b.total.injector_count, 4);
    EXPECT_EQ(m.b.total.injector_batch_count, 1);
    support_end(m.rt, &m.memory);
}

/* Blocking --------------------------------------------------------------------------------------*/

typedef struct metrics_place {
    metrics *m;
    uint64_t before, inside, after; /* who holds the core */
} metrics_place;

static uint64_t metrics_holder(metrics *m) {
    sch_worker_metrics_snapshot w;
    EXPECT_EQ(sch_worker_metrics(m->rt, 0, &w), 0);
    return w.thread;
}

static void metrics_in_place_nothing(void *arg) {
    metrics_place *p = (metrics_place *)arg;
    p->inside = metrics_holder(p->m);
}

static void metrics_tell_holder(void *arg) {
    metrics_place *p = (metrics_place *)arg;
    p->inside = metrics_holder(p->m);
    EXPECT_EQ(p->inside, schi_self()->number);
    support_gate_open(&p->m->gate);
}

static void metrics_in_place_spawn(void *arg) {
    metrics_place *p = (metrics_place *)arg;
    EXPECT_EQ(sch_go(NULL, metrics_tell_holder, p), 0); /* goes to the injector */
    support_gate_wait(&p->m->gate);
}

static void metrics_in_place_wait(void *arg) {
    metrics_place *p = (metrics_place *)arg;
    support_gate_wait(&p->m->gate);
}

static void metrics_in_place(metrics *m, sch_fn fn, bool queue, uint64_t expected[3]) {
    metrics_place p = {m, 0, 0, 0};
    m->gate.open = false;
    p.before = metrics_holder(m);
    EXPECT_EQ(p.before, schi_self()->number);
    m->a = support_metrics(m->rt);
    if (queue) EXPECT_EQ(sch_go(NULL, metrics_tell_holder, &p), 0);
    EXPECT_EQ(sch_block_in_place(fn, &p), 0);
    m->b = support_metrics(m->rt);
    p.after = metrics_holder(m);
    EXPECT_EQ(p.after, schi_self()->number);
    EXPECT_MORE(m, total.lend_count, expected[0]);
    EXPECT_MORE(m, total.lend_taken_count, expected[1]);
    EXPECT_MORE(m, total.handoff_count, expected[2]);
    EXPECT_EQ(p.inside == p.before, expected[1] + expected[2] == 0);
}

static void metrics_three_calls(void *arg) {
    metrics *m = (metrics *)arg;
    uint64_t lent[3] = {1, 0, 0}, taken[3] = {1, 1, 0}, handed[3] = {0, 0, 1};
    metrics_be_left_alone(m);
    metrics_in_place(m, metrics_in_place_nothing, false, lent);
    metrics_in_place(m, metrics_in_place_spawn, false, taken);
    metrics_in_place(m, metrics_in_place_wait, true, handed);
}

TEST(metrics_block_in_place) {
    metrics m;
    metrics_try(&m, 1, metrics_three_calls);
}

/* Somebody is to be woken, but the only core is in use. */
static bool metrics_has_sleeper(metrics *m) {
    schi_lock(&m->rt->idle.lock);
    bool sleeps = schi_idle_has_sleeper(&m->rt->idle);
    schi_unlock(&m->rt->idle.lock);
    return sleeps;
}

static void metrics_look_for_core(void *arg) {
    metrics *m = (metrics *)arg;
    metrics_be_left_alone(m);
    EXPECT_EQ(sch_block_in_place(metrics_block_thread, m), 0); /* now there is a second thread */
    while (!metrics_has_sleeper(m)) support_nap(50);
    m->a = support_metrics(m->rt);
    EXPECT(!schi_wake_one(m->rt, false, false));
    m->b = support_metrics(m->rt);
}

TEST(metrics_notify_no_core) {
    metrics m;
    metrics_config(&m, 1);
    m.gate.open = true;
    metrics_run(&m, metrics_look_for_core);
    EXPECT_MORE(&m, notify_no_core_count, 1);

    /* No thread is there to be woken, but the core is free. */
    metrics_config(&m, 0);
    m.rt = support_begin(&m.config);
    for (int i = 0; i < 3; i++) EXPECT_EQ(sch_go(m.rt, support_count, &m.ran), 0);
    EXPECT_EQ(support_metrics(m.rt).notify_no_core_count, 0);
    support_end(m.rt, &m.memory);
}

/* States ----------------------------------------------------------------------------------------*/

static void metrics_job(void *arg) { support_gate_wait(&((metrics *)arg)->gate); }

static void metrics_job_spawns(void *arg) {
    metrics *m = (metrics *)arg;
    while (!support_get(&m->ran)) support_nap(50);
    EXPECT_EQ(sch_go(NULL, support_count, &m->stop), 0); /* to the injector */
    support_add(&m->ran, 1);
    metrics_job(m);
}

static void metrics_block_here(void *arg) {
    metrics_be_left_alone((metrics *)arg);
    EXPECT_EQ(sch_block_in_place(metrics_block_thread, arg), 0);
}

/* One core, two blocking threads. */
static void metrics_all_states(void *arg) {
    metrics *m = (metrics *)arg;
    m->task[0] = sch_spawn(NULL, waits_suspend, NULL);
    m->task[1] = sch_spawn(NULL, waits_joined, NULL);
    m->task[2] = sch_spawn(NULL, waits_sleep, NULL);
    m->task[3] = sch_spawn_blocking(NULL, metrics_job_spawns, m);
    m->task[4] = sch_spawn_blocking(NULL, waits_suspend, NULL);
    m->task[5] = sch_spawn_blocking(NULL, metrics_job, m);
    m->task[6] = sch_spawn(NULL, metrics_block_here, m);
    YIELD_UNTIL(support_gate_waiters(&m->gate) == 1);
    YIELD_UNTIL(schi_load_seq(&m->task[4]->state) & SCHI_WAIT_WAKE);
    YIELD_UNTIL(schi_load_seq(&m->rt->pool.waiting) == 1);
    for (int i = 0; i < 3; i++) EXPECT_EQ(sch_go(NULL, support_count, &m->stop), 0);
    sch_wake(m->task[1]);
    support_set(&m->ran, 1);
    while (support_get(&m->ran) < 2) support_nap(50);
    while (support_metrics(m->rt).injection_queue_depth == 0) support_nap(50);
    m->b = support_metrics(m->rt);
    support_gate_open(&m->gate);
    for (int i = 0; i < 7; i++) {
        int cancelled = i == 0 || i == 2 || i == 4;
        if (cancelled) EXPECT_EQ(sch_cancel(m->task[i]), 0);
        EXPECT_EQ(sch_join(m->task[i]), cancelled ? -ECANCELED : 0);
    }
    YIELD_UNTIL(support_get(&m->stop) == 4);
}

TEST(metrics_states) {
    metrics m;
    metrics_config(&m, 1);
    m.config.max_blocking_threads = 2;
    metrics_run(&m, metrics_all_states);
    EXPECT_EQ(m.b.num_alive_tasks, 12);
    EXPECT_EQ(m.b.num_running_tasks, 3); /* it, a job, one in a blocking call */
    EXPECT_EQ(m.b.num_queued_tasks, 6);  /* three, one in the LIFO slot, a job, one injected */
    EXPECT_EQ(m.b.num_waiting_tasks, 3); /* suspended, asleep, a suspended job */
    EXPECT_EQ(m.b.injection_queue_depth, 1);
    EXPECT_EQ(m.b.total.local_queue_depth, 3);
    EXPECT_EQ(m.b.blocking_queue_depth, 1);
    EXPECT_EQ(m.b.num_blocking_threads, 2);
    EXPECT_EQ(m.b.num_idle_blocking_threads, 0);
    EXPECT_EQ(m.b.num_worker_threads, 2);
}

TEST(metrics_states_undriven) {
    metrics m;
    metrics_config(&m, 0);
    m.rt = support_begin(&m.config);
    for (int i = 0; i < 5; i++) EXPECT_EQ(sch_go(m.rt, support_count, &m.ran), 0);
    m.b = support_metrics(m.rt);
    EXPECT_EQ(m.b.num_alive_tasks, 5);
    EXPECT_EQ(m.b.num_queued_tasks, 5);
    EXPECT_EQ(m.b.num_running_tasks, 0);
    EXPECT_EQ(m.b.num_waiting_tasks, 0);
    EXPECT_EQ(m.b.num_idle_workers, 1);
    support_end(m.rt, &m.memory);
}

/* One that never started, one whose wait was refused, and one that did not look. */
static void metrics_cancel_three(void *arg) {
    metrics *m = (metrics *)arg;
    sch_fn fn[3] = {waits_suspend, support_count, waits_suspend};
    m->a = support_metrics(m->rt);
    m->task[0] = sch_spawn(NULL, fn[0], NULL);
    EXPECT_EQ(sch_yield_now(), 0);
    m->task[1] = sch_spawn(NULL, fn[1], &m->ran);
    m->task[2] = sch_spawn(NULL, support_count, &m->stop);
    EXPECT_EQ(sch_cancel(m->task[0]), 0);
    EXPECT_EQ(sch_cancel(m->task[1]), 0);
    for (int i = 0; i < 3; i++) EXPECT_EQ(sch_join(m->task[i]), i < 2 ? -ECANCELED : 0);
    m->b = support_metrics(m->rt);
}

TEST(metrics_cancelled) {
    metrics m;
    sch_task *job;
    metrics_try(&m, 0, metrics_cancel_three);
    EXPECT_EQ(m.ran, 0);
    EXPECT_MORE(&m, total.cancelled_count, 2);
    EXPECT_MORE(&m, total.ended_count, 3);
    EXPECT_MORE(&m, cancelled_tasks_count, 2);

    metrics_config(&m, 1); /* on a thread without a core */
    m.rt = support_begin(&m.config);
    job = sch_spawn_blocking(m.rt, waits_suspend, NULL);
    WAIT_FOR(schi_load_seq(&job->state) & SCHI_WAIT_WAKE);
    WAIT_FOR(support_metrics(m.rt).num_waiting_tasks == 1);
    EXPECT_EQ(support_metrics(m.rt).num_running_tasks, 0);
    EXPECT_EQ(sch_cancel(job), 0);
    EXPECT_EQ(sch_join(job), -ECANCELED);
    m.b = support_metrics(m.rt);
    EXPECT_EQ(m.b.cancelled_tasks_count, 1);
    EXPECT_EQ(m.b.total.cancelled_count, 0);
    support_end(m.rt, &m.memory);
}

static sch_status metrics_poll_once(sch_task *self, void *state) {
    (void)self, (void)state;
    return SCH_READY;
}

static void metrics_spawn_each_kind(void *arg) {
    metrics *m = (metrics *)arg;
    EXPECT_EQ(sch_join(sch_spawn(NULL, support_count, &m->ran)), 0);
    EXPECT_EQ(sch_join(sch_spawn_poll(NULL, metrics_poll_once, NULL, 0)), 0);
    EXPECT_EQ(sch_join(sch_spawn_blocking(NULL, support_count, &m->ran)), 0);
}

TEST(metrics_spawned_everywhere) {
    metrics m;
    for (unsigned workers = 0; workers < 2; workers++) {
        metrics_config(&m, workers);
        m.rt = support_begin(&m.config);
        support_run(m.rt, metrics_spawn_each_kind, &m); /* itself, and three */
        EXPECT_EQ(sch_block_on(m.rt, metrics_spawn_each_kind, &m), 0);
        m.b = support_metrics(m.rt);
        EXPECT_EQ(m.b.spawned_tasks_count, 7);
        EXPECT_EQ(m.b.total.spawned_count, 3);
        EXPECT_EQ(m.b.num_alive_tasks, 0);
        EXPECT_EQ(m.b.cancelled_tasks_count, 0);
        support_end(m.rt, &m.memory);
    }
}

/* A stack for each task that waits, and one for who runs. */
static void metrics_three_wait(void *arg) {
    metrics *m = (metrics *)arg;
    for (int i = 0; i < 3; i++) m->task[i] = sch_spawn(NULL, waits_joined, NULL);
    EXPECT_EQ(sch_yield_now(), 0);
    m->a = support_metrics(m->rt);
    for (int i = 0; i < 3; i++) {
        sch_wake(m->task[i]);
        EXPECT_EQ(sch_join(m->task[i]), 0);
    }
    m->b = support_metrics(m->rt);
}

TEST(metrics_stacks) {
    metrics m;
    metrics_try(&m, 0, metrics_three_wait);
    EXPECT_EQ(m.a.stack_count - m.a.stack_free_count, 4);
    EXPECT_MORE(&m, stack_count, 0);
    EXPECT_MORE(&m, stack_free_count, 0); /* the core keeps them */
}

static void metrics_write_byte(void *arg) {
    EXPECT_EQ(write(*(int *)arg, "x", 1), 1);
}

static void metrics_use_pipe(void *arg) {
    metrics *m = (metrics *)arg;
    char byte;
    int fd[2];
    sch_io io;
    m->a = support_metrics(m->rt);
    if (pipe(fd)) abort();
    EXPECT_EQ(sch_io_open(&io, NULL, fd[0]), 0);
    m->b = support_metrics(m->rt);
    EXPECT_MORE(m, io_opened_count, 1);
    for (uint64_t i = 1; i <= 3; i++) {
        EXPECT_EQ(sch_go(NULL, metrics_write_byte, &fd[1]), 0);
        EXPECT_EQ(sch_read(&io, &byte, 1), 1);
        m->b = support_metrics(m->rt);
        EXPECT_MORE(m, io_event_count, i);
        EXPECT_MORE(m, total.wait_count[SCH_WAIT_READ], i);
    }
    EXPECT_MORE(m, io_closed_count, 0);
    EXPECT_EQ(sch_io_close(&io), 0);
    EXPECT_EQ(close(fd[1]), 0);
    m->b = support_metrics(m->rt);
}

TEST(metrics_descriptors) {
    metrics m;
    metrics_try(&m, 0, metrics_use_pipe);
    EXPECT_MORE(&m, io_opened_count, 1);
    EXPECT_MORE(&m, io_closed_count, 1);
    EXPECT_MORE(&m, io_event_count, 3);
}

/* The standby is rung by hand: its own period is ten seconds. It notes what is queued, and the next
 * time finds it still there. */
static void metrics_ring_standby(metrics *m) {
    sch_runtime *rt = m->rt;
    uint64_t looks = support_metrics(rt).standby_look_count;
    schi_lock(&rt->idle.lock);
    rt->look_at = 0;
    schi_watch_by(rt, 0);
    schi_unlock(&rt->idle.lock);
    while (support_metrics(rt).standby_look_count == looks) support_nap(50);
}

static void metrics_be_late(void *arg) {
    metrics *m = (metrics *)arg;
    metrics_hold_others(m);
    metrics_worth(m, UINT32_MAX, UINT32_MAX);
    EXPECT_EQ(sch_go(NULL, support_count, &m->ran), 0);
    m->a = support_metrics(m->rt);
    metrics_ring_standby(m);
    m->b = support_metrics(m->rt);
    EXPECT_MORE(m, standby_look_count, 1);
    EXPECT_MORE(m, standby_alarm_count, 1); /* a core still runs: it is set again */
    EXPECT_MORE(m, standby_rescue_count, 0);
    metrics_ring_standby(m);
    while (support_get(&m->ran) < 1) support_nap(50);
    metrics_hold_others(m);
    m->b = support_metrics(m->rt);
}

TEST(metrics_standby) {
    metrics m;
    metrics_config(&m, 2);
    m.config.no_standby = false;
    m.config.standby_period_ns = 10 * SCH_SECOND;
    metrics_run(&m, metrics_be_late);
    EXPECT_MORE(&m, standby_look_count, 2);
    EXPECT_MORE(&m, standby_rescue_count, 1);
    EXPECT_MORE(&m, total.steal_count, 1);
}

/* Waits by kind ---------------------------------------------------------------------------------*/

static void metrics_wait_each(void *arg) {
    metrics *m = (metrics *)arg;
    waits w;
    waits_open(&w, m->rt);
    EXPECT_EQ(sch_yield_now(), 0);
    for (int i = 0; i < WAITS_CASES; i++) {
        waits_case c = waits_as(&w, i);
        sch_task *task = sch_spawn(NULL, waits_cases[c].fn, &w);
        m->a = support_metrics(m->rt);
        EXPECT_EQ(sch_yield_now(), 0); /* it waits now */
        m->b = support_metrics(m->rt);
        for (int kind = 0; kind < SCH_WAIT_KINDS; kind++) {
            int n = (kind == (int)waits_cases[c].kind) + (kind == SCH_WAIT_YIELD);
            EXPECT_MORE(m, total.wait_count[kind], n);
        }
        EXPECT_EQ(sch_cancel(task), 0);
        EXPECT_EQ(sch_join(task), -ECANCELED);
    }
    waits_close(&w);
}

TEST(metrics_waits_by_kind) {
    metrics m;
    metrics_try(&m, 0, metrics_wait_each);
}

/* Poll tasks: one that yields, then is pending, then has an operation pending. */
typedef struct metrics_poll_state {
    unsigned turn;
    sch_timer timer;
} metrics_poll_state;

static sch_status metrics_poll_waits(sch_task *self, void *state) {
    metrics_poll_state *s = (metrics_poll_state *)state;
    (void)self;
    switch (s->turn++) {
    case 0: EXPECT_EQ(sch_yield_now(), 0); return SCH_PENDING;
    case 1: return SCH_PENDING;
    case 2: s->timer = sch_timer_after(SCH_SECOND); break;
    default: break;
    }
    return sch_op_poll(&s->timer.op);
}

static void metrics_run_poll_task(void *arg) {
    metrics *m = (metrics *)arg;
    m->task[0] = sch_spawn_poll(NULL, metrics_poll_waits, NULL, sizeof(metrics_poll_state));
    m->a = support_metrics(m->rt);
    EXPECT_EQ(sch_yield_now(), 0);
    EXPECT_EQ(sch_yield_now(), 0);
    sch_wake(m->task[0]);
    EXPECT_EQ(sch_join(m->task[0]), 0);
    m->b = support_metrics(m->rt);
}

TEST(metrics_waits_of_poll_tasks) {
    metrics m;
    metrics_try(&m, 0, metrics_run_poll_task);
    EXPECT_MORE(&m, total.wait_count[SCH_WAIT_YIELD], 2 + 1);
    EXPECT_MORE(&m, total.wait_count[SCH_WAIT_POLL_TASK], 2);
    EXPECT_MORE(&m, total.wait_count[SCH_WAIT_TIMER], 0);
    EXPECT_MORE(&m, total.timer_fired_count, 1);
    EXPECT_MORE(&m, total.wait_count[SCH_WAIT_JOIN], 1);
}

/* The third call finds no place until another is over. */
static void metrics_wait_for_place(void *arg) {
    metrics *m = (metrics *)arg;
    for (unsigned i = 0; i < 3; i++) {
        m->task[i] = sch_spawn(NULL, waits_hold_place, &m->gate);
        m->a = support_metrics(m->rt);
        if (i < 2) YIELD_UNTIL(support_gate_waiters(&m->gate) == i + 1);
    }
    EXPECT_EQ(sch_yield_now(), 0);
    m->b = support_metrics(m->rt);
    support_gate_open(&m->gate);
    for (int i = 0; i < 3; i++) EXPECT_EQ(sch_join(m->task[i]), 0);
}

TEST(metrics_waits_for_a_place) {
    metrics m;
    metrics_config(&m, 1);
    m.config.max_blocking_threads = 1;
    metrics_run(&m, metrics_wait_for_place);
    EXPECT_MORE(&m, total.wait_count[SCH_WAIT_PLACE], 1);
    EXPECT_EQ(m.gate.waiters, 3);
}

/* What does not have to wait is not counted. */
static void metrics_wait_for_nothing(void *arg) {
    metrics *m = (metrics *)arg;
    ops_hand hand = ops_by_hand(true);
    sch_task *child = sch_spawn(NULL, support_count, &m->ran);
    char bytes[3];
    int fd[2];
    sch_io io;
    if (pipe(fd)) abort();
    EXPECT_EQ(sch_io_open(&io, NULL, fd[0]), 0);
    EXPECT_EQ(write(fd[1], "xy", 2), 2);
    EXPECT_EQ(sch_yield_now(), 0);
    m->a = support_metrics(m->rt);
    EXPECT_EQ(sch_join(child), 0);
    EXPECT_EQ(sch_read(&io, bytes, 2), 2);
    EXPECT_EQ(sch_await(&hand.op), 7);
    EXPECT_EQ(sch_sleep(0), 0);
    sch_wake(sch_self());
    EXPECT_EQ(sch_suspend(), 0);
    m->b = support_metrics(m->rt);
    EXPECT_EQ(sch_io_close(&io), 0);
    EXPECT_EQ(close(fd[1]), 0);
}

TEST(metrics_no_wait) {
    metrics m;
    metrics_try(&m, 0, metrics_wait_for_nothing);
    for (int kind = 0; kind < SCH_WAIT_KINDS; kind++) EXPECT_MORE(&m, total.wait_count[kind], 0);
}

TEST(metrics_wait_names) {
    static const char *const names[SCH_WAIT_KINDS] = {
        "yield", "suspend", "join", "timer", "read", "write", "accept", "connect",
        "signal", "child", "operation", "place", "poll_task"};
    for (int i = 0; i < SCH_WAIT_KINDS; i++) {
        EXPECT(strcmp(sch_wait_name((sch_wait_kind)i), names[i]) == 0);
    }
    EXPECT(strcmp(sch_wait_name(SCH_WAIT_KINDS), "") == 0);
    EXPECT(strcmp(sch_wait_name((sch_wait_kind)-1), "") == 0);
}

/* Times -----------------------------------------------------------------------------------------*/

static void metrics_compute(void *arg) {
    struct timespec start = test_clock(); /* the runtime's clock may be paused */
    (void)arg;
    while (test_seconds_since(start) < 0.003) continue;
}

/* The time of the polls counts, sleeping does not. */
TEST(metrics_times) {
    for (unsigned workers = 0; workers < 2; workers++) {
        metrics m;
        struct timespec start;
        uint64_t wall;
        metrics_config(&m, workers);
        m.rt = support_begin(&m.config);
        start = test_clock();
        for (int i = 0; i < 3; i++) support_run(m.rt, metrics_compute, NULL);
        WAIT_FOR(support_metrics(m.rt).num_idle_workers == 1);
        wall = (uint64_t)(test_seconds_since(start) * 1e9);
        m.b = support_metrics(m.rt);
        EXPECT(m.b.total.busy_ns >= 9 * SCH_MILLISECOND - SCH_MILLISECOND / 2);
        EXPECT(m.b.total.busy_ns <= wall + SCH_MILLISECOND);
        EXPECT_EQ(m.b.total.mean_poll_ns, 0);
        support_nap(50000);
        m.a = m.b;
        m.b = support_metrics(m.rt);
        EXPECT_MORE(&m, total.busy_ns, 0);
        support_end(m.rt, &m.memory);
    }
}

/* A moving average that tends to the time of a poll; one long batch does not count. */
TEST(metrics_mean_poll) {
    metrics m;
    sch_worker_metrics_snapshot w;
    schi_core *core;
    uint64_t busy = 0;
    metrics_config(&m, 0);
    m.rt = support_begin(&m.config);
    core = m.rt->cores[0];
    for (int i = 0; i < 100; i++) {
        uint64_t ns = i == 90 ? 100 * 1000000 : 100 * 1000;
        core->batch_start_polls = schi_counted(&core->m.polls) - 100;
        schi_core_measure(core, ns);
        busy += ns;
        EXPECT_EQ(sch_worker_metrics(m.rt, 0, &w), 0);
        if (i >= 50) EXPECT(w.mean_poll_ns >= 997 && w.mean_poll_ns <= 1003);
    }
    EXPECT_EQ(w.busy_ns, busy);
    for (int i = 0; i < 60; i++) {
        core->batch_start_polls = schi_counted(&core->m.polls) - 100;
        schi_core_measure(core, 100 * 400);
    }
    EXPECT_EQ(sch_worker_metrics(m.rt, 0, &w), 0);
    EXPECT(w.mean_poll_ns >= 400 && w.mean_poll_ns <= 403);
    support_end(m.rt, &m.memory);
}

/* Sums ------------------------------------------------------------------------------------------*/

static void metrics_mixed(void *arg) {
    unsigned *ran = (unsigned *)arg;
    for (int i = 0; i < 20; i++) {
        if (test_random() % 2) EXPECT_EQ(sch_yield_now(), 0);
        EXPECT_EQ(sch_join(sch_spawn(NULL, support_count, ran)), 0);
        if (test_random() % 4 == 0) EXPECT_EQ(sch_sleep(test_random() % 200000), 0);
        if (test_random() % 4 == 0) EXPECT_EQ(sch_block_in_place(support_count, ran), 0);
    }
}

#define METRICS_WORKER_FIELDS (sizeof(sch_worker_metrics_snapshot) / sizeof(uint64_t))
SCHI_STATIC_ASSERT(sizeof(sch_worker_metrics_snapshot) % sizeof(uint64_t) == 0, "all are 64 bits");

/* What a scraper takes for a counter never goes back, for a thread that reads all the time. */
static void metrics_watch_counters(void *arg) {
    metrics *m = (metrics *)arg;
    sch_metrics_snapshot old, now;
    const uint64_t *before = (const uint64_t *)(const void *)&old;
    const uint64_t *after = (const uint64_t *)(const void *)&now;
    const size_t total = offsetof(sch_metrics_snapshot, total) / sizeof(uint64_t);
    old = support_metrics(m->rt);
    for (; !support_get(&m->stop); old = now) {
        now = support_metrics(m->rt);
        for (size_t f = 0; f < sizeof now / sizeof(uint64_t); f++) {
            size_t w = f - total, known = sizeof schi_worker_metrics / sizeof *schi_worker_metrics;
            schi_metric_kind kind = f < total   ? schi_runtime_metrics[f].kind
                                    : w < known ? schi_worker_metrics[w].kind
                                                : SCHI_COUNTER;
            if (kind != SCHI_COUNTER && kind != SCHI_COUNTER_NS) continue;
            if (!EXPECT(after[f] >= before[f])) {
                fprintf(stderr, "number %zu: %llu, then %llu\n", f, (unsigned long long)before[f],
                        (unsigned long long)after[f]);
            }
        }
    }
}

static void metrics_wake_and_spawn(void *arg) {
    metrics *m = (metrics *)arg;
    for (size_t i = 0; i < test_scale(3000) + 20; i++) {
        sch_task *sleeper = sch_spawn(NULL, waits_joined, NULL);
        if (i % 8 == 0) EXPECT_EQ(sch_join(sch_spawn_blocking(NULL, support_count, &m->ran)), 0);
        sch_wake(sleeper);
        EXPECT_EQ(sch_join(sleeper), 0);
    }
}

TEST(metrics_never_go_back) {
    metrics m;
    support_thread reader;
    sch_task *task[4];
    metrics_config(&m, 2);
    m.config.max_blocking_threads = 2;
    m.rt = support_begin(&m.config);
    support_thread_start(&reader, metrics_watch_counters, &m);
    for (int i = 0; i < 4; i++) task[i] = sch_spawn(m.rt, metrics_wake_and_spawn, &m);
    for (int i = 0; i < 4; i++) EXPECT_EQ(sch_join(task[i]), 0);
    support_set(&m.stop, 1);
    support_thread_join(&reader);
    support_end(m.rt, &m.memory);
}

/* total is the sum of the cores, field by field. */
TEST(metrics_total_is_the_sum) {
    metrics m;
    sch_task *task[24];
    metrics_config(&m, 3);
    m.config.event_interval = 7;
    m.config.global_queue_interval = 5;
    m.rt = support_begin(&m.config);
    for (int i = 0; i < 24; i++) task[i] = sch_spawn(m.rt, metrics_mixed, &m.ran);
    for (int i = 0; i < 24; i++) EXPECT_EQ(sch_join(task[i]), 0);
    WAIT_FOR(metrics_all_sleep(m.rt));
    m.b = support_metrics(m.rt);
    EXPECT_EQ(m.b.num_workers, 3);
    for (size_t f = 0; f < METRICS_WORKER_FIELDS; f++) {
        uint64_t sum = 0;
        for (unsigned i = 0; i < 3; i++) {
            sch_worker_metrics_snapshot w;
            EXPECT_EQ(sch_worker_metrics(m.rt, i, &w), 0);
            if (f != offsetof(sch_worker_metrics_snapshot, thread) / 8 &&
                f != offsetof(sch_worker_metrics_snapshot, mean_poll_ns) / 8) {
                sum += ((const uint64_t *)(const void *)&w)[f];
            }
        }
        if (!EXPECT_EQ(((const uint64_t *)(const void *)&m.b.total)[f], sum)) {
            fprintf(stderr, "field %zu\n", f);
        }
    }
    EXPECT_EQ(m.b.total.park_unpark_count % 2, 1); /* three that are parked */
    EXPECT(m.b.total.park_unpark_count >= 2 * m.b.total.park_count + 3); /* and were at first */
    support_end(m.rt, &m.memory);
}

/* Histograms ------------------------------------------------------------------------------------*/

/* The buckets of every precision: no gap, no overlap, and as narrow as promised. */
TEST(metrics_histogram_buckets) {
    for (unsigned bits = 1; bits <= 6; bits++) {
        metrics m;
        uint64_t low = 0, limit = 0, last;
        int n;
        metrics_config(&m, 0);
        m.config.task_times = true;
        m.config.histogram_bits = bits;
        m.rt = support_begin(&m.config);
        n = sch_histogram_read(m.rt, SCH_POLL_TIME, SCH_ALL_WORKERS, NULL, 0);
        EXPECT_EQ(n, (int)((37 - bits + 1) << bits));
        for (int i = 0; i < n; i++, low = limit + 1) {
            limit = sch_histogram_limit(m.rt, (size_t)i);
            EXPECT(limit >= low);
            EXPECT_EQ(schi_histogram_bucket(bits, low), i);
            EXPECT_EQ(schi_histogram_bucket(bits, limit), i);
            if (i + 1 < n) EXPECT((limit - low) << bits <= low); /* a value is known to a part */
        }
        EXPECT_EQ(limit, UINT64_MAX);
        last = sch_histogram_limit(m.rt, (size_t)n - 2);
        EXPECT_EQ(last + 1, (UINT64_C(1) << 37) - (UINT64_C(1) << (36 - bits)));
        EXPECT_EQ(sch_histogram_limit(m.rt, (size_t)n), 0);
        EXPECT_EQ(sch_histogram_limit(m.rt, SIZE_MAX), 0);
        for (int i = 0; i < 2000; i++) {
            uint64_t value = test_random() >> (test_random() % 64);
            unsigned b = schi_histogram_bucket(bits, value);
            EXPECT(value <= sch_histogram_limit(m.rt, b));
            if (b > 0) EXPECT(value > sch_histogram_limit(m.rt, b - 1));
        }
        support_end(m.rt, &m.memory);
    }
}

static uint64_t metrics_hist_sum(metrics *m, sch_histogram which, unsigned worker) {
    uint64_t counts[2048], sum = 0;
    int n = sch_histogram_read(m->rt, which, worker, counts, 2048);
    EXPECT(n > 0 && n <= 2048);
    for (int i = 0; i < n; i++) sum += counts[i];
    return sum;
}

/* Every poll is in both, whatever the task; what blocks is not a poll. */
static void metrics_polls_of_all_kinds(void *arg) {
    metrics *m = (metrics *)arg;
    metrics_spawn_each_kind(m);
    for (int i = 0; i < 3; i++) EXPECT_EQ(sch_yield_now(), 0);
    EXPECT_EQ(sch_sleep(SCH_MILLISECOND), 0);
}

TEST(metrics_histogram_counts_polls) {
    for (unsigned workers = 0; workers < 3; workers++) {
        metrics m;
        metrics_config(&m, workers);
        m.config.task_times = true;
        m.gate.open = true;
        m.rt = support_begin(&m.config);
        for (int i = 0; i < 5; i++) support_run(m.rt, metrics_polls_of_all_kinds, &m);
        m.b = support_metrics(m.rt);
        for (int which = 0; which < SCH_HISTOGRAMS; which++) {
            uint64_t sum = 0;
            sch_histogram h = (sch_histogram)which;
            for (unsigned i = 0; i < m.b.num_workers; i++) sum += metrics_hist_sum(&m, h, i);
            EXPECT_EQ(metrics_hist_sum(&m, h, SCH_ALL_WORKERS), m.b.total.poll_count);
            EXPECT_EQ(sum, m.b.total.poll_count);
        }
        if (workers == 1) { /* on the way to blocking code a task lets go of its core */
            support_run(m.rt, metrics_block_here, &m);
            m.b = support_metrics(m.rt);
            EXPECT_EQ(metrics_hist_sum(&m, SCH_POLL_TIME, 0), m.b.total.poll_count + 1);
            EXPECT_EQ(metrics_hist_sum(&m, SCH_SCHEDULE_LATENCY, 0), m.b.total.poll_count);
        }
        support_end(m.rt, &m.memory);
    }
}

/* Each in its own: a long poll, with a task queued behind it. */
static void metrics_wait_behind(void *arg) {
    metrics *m = (metrics *)arg;
    EXPECT_EQ(sch_go(NULL, support_count, &m->ran), 0);
    metrics_compute(NULL);
}

TEST(metrics_histogram_tells_apart) {
    metrics m;
    const uint64_t long_ns = 3 * SCH_MILLISECOND - SCH_MILLISECOND / 4;
    metrics_config(&m, 0);
    m.config.task_times = true;
    m.rt = support_begin(&m.config);
    support_run(m.rt, metrics_wait_behind, &m);
    for (int i = 0; i < 20; i++) support_run(m.rt, support_count, &m.ran); /* not all are stopped */
    EXPECT(sch_percentile(m.rt, SCH_POLL_TIME, SCH_ALL_WORKERS, 100) >= long_ns);
    EXPECT(sch_percentile(m.rt, SCH_SCHEDULE_LATENCY, 0, 100) >= long_ns);
    EXPECT(sch_percentile(m.rt, SCH_POLL_TIME, 0, 10) < long_ns);
    EXPECT(sch_percentile(m.rt, SCH_POLL_TIME, 0, 10) > 0);
    support_end(m.rt, &m.memory);
}

/* Values put in by hand against the sorted list of them. */
TEST(metrics_histogram_percentiles) {
    const size_t n = 1000;
    static uint64_t value[1000];
    const double percents[] = {0, 0.01, 1, 10, 25, 50, 75, 90, 99, 99.9, 100};
    for (unsigned bits = 1; bits <= 6; bits += 5) {
        metrics m;
        metrics_config(&m, 3);
        m.config.task_times = true;
        m.config.histogram_bits = bits;
        m.rt = support_begin(&m.config);
        EXPECT_EQ(sch_percentile(m.rt, SCH_POLL_TIME, SCH_ALL_WORKERS, 50), 0); /* none yet */
        for (size_t i = 0; i < n; i++) {
            uint64_t v = test_random() >> (30 + test_random() % 34);
            size_t at = i;
            schi_histogram_add(&m.rt->cores[i % 3]->histograms[SCH_POLL_TIME], bits, v);
            for (; at > 0 && value[at - 1] > v; at--) value[at] = value[at - 1];
            value[at] = v;
        }
        for (size_t i = 0; i < sizeof percents / sizeof *percents; i++) {
            /* The first value that at least this part of all do not exceed. */
            size_t rank = (size_t)(percents[i] * (double)n / 100 + 0.999999);
            uint64_t exact = value[rank > 0 ? rank - 1 : 0];
            uint64_t got = sch_percentile(m.rt, SCH_POLL_TIME, SCH_ALL_WORKERS, percents[i]);
            EXPECT_EQ(got, schi_histogram_limit(bits, schi_histogram_bucket(bits, exact)));
        }
        EXPECT(sch_percentile(m.rt, SCH_POLL_TIME, 1, 50) > 0);
        EXPECT_EQ(sch_percentile(m.rt, SCH_SCHEDULE_LATENCY, 1, 50), 0); /* that is another */
        support_end(m.rt, &m.memory);
    }
}

/* Text ------------------------------------------------------------------------------------------*/

typedef struct metrics_text {
    char *text;
    size_t length, room;
    unsigned calls, fail_at; /* the n-th call returns `answer`; 0: none */
    int answer;
} metrics_text;

static int metrics_take_text(const char *text, size_t length, void *user) {
    metrics_text *t = (metrics_text *)user;
    EXPECT(length > 0);
    if (++t->calls == t->fail_at) return t->answer;
    EXPECT(!t->fail_at || t->calls < t->fail_at); /* nothing comes after that */
    if (t->length + length + 1 > t->room) {
        t->room = 2 * (t->length + length + 1);
        t->text = (char *)realloc(t->text, t->room);
        if (!t->text) abort();
    }
    memcpy(t->text + t->length, text, length);
    t->length += length;
    t->text[t->length] = 0;
    return 0;
}

TEST(metrics_text_formats) {
    metrics m;
    metrics_config(&m, 1);
    m.config.task_times = true;
    m.rt = support_begin(&m.config);
    support_run(m.rt, metrics_polls_of_all_kinds, &m);
    for (int format = SCH_PROMETHEUS; format <= SCH_OPENMETRICS; format++) {
        metrics_text t;
        memset(&t, 0, sizeof t);
        EXPECT_EQ(sch_metrics_write(m.rt, (sch_metrics_format)format, metrics_take_text, &t), 0);
        EXPECT(t.length > 1000 && t.text[t.length - 1] == '\n');
        EXPECT_EQ(t.length > 6 && strcmp(t.text + t.length - 6, "# EOF\n") == 0,
                  format == SCH_OPENMETRICS);
        EXPECT(strstr(t.text, "\nsch_tasks_spawned_total 4\n") != NULL);
        EXPECT(strstr(t.text, "\nsch_worker_ended_tasks_total{worker=\"0\"} 3\n") != NULL);
        EXPECT(strstr(t.text, "\nsch_worker_waits_total{worker=\"0\",for=\"join\"} ") != NULL);
        EXPECT(strstr(t.text, "\nsch_poll_time_seconds_count ") != NULL);
        free(t.text);
    }
    support_end(m.rt, &m.memory);
}

/* The writer may fail at any call, and says how. */
TEST(metrics_text_writer_fails) {
    metrics m;
    metrics_text t;
    metrics_config(&m, 2);
    m.rt = support_begin(&m.config);
    memset(&t, 0, sizeof t);
    EXPECT_EQ(sch_metrics_write(m.rt, SCH_PROMETHEUS, metrics_take_text, &t), 0);
    for (unsigned calls = t.calls, i = 1; i <= calls; i++) {
        free(t.text);
        memset(&t, 0, sizeof t);
        t.fail_at = i;
        t.answer = i % 2 ? -ENOSPC : 77;
        EXPECT_EQ(sch_metrics_write(m.rt, SCH_PROMETHEUS, metrics_take_text, &t), t.answer);
        EXPECT_EQ(t.calls, i);
    }
    free(t.text);
    support_end(m.rt, &m.memory);
}

/* Bad input -------------------------------------------------------------------------------------*/

TEST(metrics_bad_input) {
    metrics m;
    uint64_t counts[4] = {7, 7, 7, 7};
    metrics_text t;
    memset(&t, 0, sizeof t);
    metrics_config(&m, 2);
    m.rt = support_begin(&m.config); /* without task_times */
    EXPECT_EQ(sch_histogram_read(m.rt, SCH_POLL_TIME, 0, counts, 4), -ENOTSUP);
    EXPECT_EQ(sch_percentile(m.rt, SCH_POLL_TIME, 0, 50), 0);
    support_end(m.rt, &m.memory);

    metrics_config(&m, 2);
    m.config.task_times = true;
    m.rt = support_begin(&m.config);
    EXPECT_EQ(sch_histogram_read(NULL, SCH_POLL_TIME, 0, counts, 4), -EINVAL);
    EXPECT_EQ(sch_histogram_read(m.rt, SCH_HISTOGRAMS, 0, counts, 4), -EINVAL);
    EXPECT_EQ(sch_histogram_read(m.rt, (sch_histogram)-1, 0, counts, 4), -EINVAL);
    EXPECT_EQ(sch_histogram_read(m.rt, SCH_POLL_TIME, 2, counts, 4), -EINVAL);
    EXPECT_EQ(sch_histogram_read(m.rt, SCH_POLL_TIME, 0, NULL, 4), -EINVAL);
    for (int i = 0; i < 4; i++) EXPECT_EQ(counts[i], 7); /* untouched */
    EXPECT(sch_histogram_read(m.rt, SCH_POLL_TIME, 1, counts, 2) > 2);
    EXPECT_EQ(counts[1], 0);
    EXPECT_EQ(counts[2], 7); /* no more than there is room for */
    EXPECT_EQ(sch_histogram_limit(NULL, 0), 0);
    EXPECT_EQ(sch_percentile(NULL, SCH_POLL_TIME, 0, 50), 0);
    EXPECT_EQ(sch_percentile(m.rt, SCH_HISTOGRAMS, 0, 50), 0);
    EXPECT_EQ(sch_percentile(m.rt, SCH_POLL_TIME, 2, 50), 0);
    schi_histogram_add(&m.rt->cores[0]->histograms[SCH_POLL_TIME], 3, 5);
    EXPECT_EQ(sch_percentile(m.rt, SCH_POLL_TIME, 0, 0), 5);
    EXPECT_EQ(sch_percentile(m.rt, SCH_POLL_TIME, 0, 100), 5);
    EXPECT_EQ(sch_percentile(m.rt, SCH_POLL_TIME, 0, -1e-9), 0);
    EXPECT_EQ(sch_percentile(m.rt, SCH_POLL_TIME, 0, 100.001), 0);
    EXPECT_EQ(sch_percentile(m.rt, SCH_POLL_TIME, 0, strtod("nan", NULL)), 0);
    EXPECT_EQ(sch_metrics_write(NULL, SCH_PROMETHEUS, metrics_take_text, &t), -EINVAL);
    EXPECT_EQ(sch_metrics_write(m.rt, SCH_PROMETHEUS, NULL, &t), -EINVAL);
    EXPECT_EQ(sch_metrics_write(m.rt, (sch_metrics_format)2, metrics_take_text, &t), -EINVAL);
    EXPECT_EQ(t.calls, 0);
    support_end(m.rt, &m.memory);
}

/* Settings: what is out of range is named. */
static void metrics_ignore_stall(const struct sch_stall *stall, void *user) {
    (void)stall, (void)user;
}

TEST(metrics_config_bounds) {
    sch_config c;
#define METRICS_BAD(field, value, name)                            \
    do {                                                           \
        const char *bad_;                                          \
        memset(&c, 0, sizeof c);                                   \
        c.field = value;                                           \
        bad_ = sch_config_error(&c);                               \
        EXPECT(bad_ && strcmp(bad_, name) == 0);                   \
    } while (0)
    METRICS_BAD(histogram_bits, 7, "histogram_bits");
    METRICS_BAD(trace_events, ((size_t)1 << 26) + 1, "trace_events");
    METRICS_BAD(stall_ns, SCH_MILLISECOND - 1, "stall_ns");
    METRICS_BAD(stall_ns, 3600 * SCH_SECOND + 1, "stall_ns");
    METRICS_BAD(stall_ns, SCH_SECOND, "on_stall"); /* who is to be told? */
    METRICS_BAD(on_stall, metrics_ignore_stall, "on_stall");
    METRICS_BAD(dump_signal, SIGUSR2, "dump_write");
    METRICS_BAD(dump_write, metrics_take_text, "dump_write");
    METRICS_BAD(stack_signal, SIGUSR2, "stack_signal");
#undef METRICS_BAD
    memset(&c, 0, sizeof c);
    c.stall_ns = SCH_MILLISECOND, c.on_stall = metrics_ignore_stall;
    c.dump_signal = SIGUSR2, c.dump_write = metrics_take_text;
    c.histogram_bits = 6, c.trace_events = (size_t)1 << 26;
    EXPECT(sch_config_error(&c) == NULL);
    c.stack_signal = SIGUSR2;
    EXPECT(sch_config_error(&c) != NULL); /* one signal for two purposes */
    c.stack_signal = SIGVTALRM;
    EXPECT(sch_config_error(&c) == NULL);
}
