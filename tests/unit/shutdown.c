/* shutdown.c - [13]: shutdown from anywhere, with tasks in every state; nothing is left behind. */
#include "support.h"

static const unsigned shutdown_workers[] = {0, 1, 2, 3};
#define SHUTDOWN_SIZES 4
#define SHUTDOWN_TASKS 64

/* What every task here has as its argument, or in its state. */
typedef struct shutdown_item {
    struct shutdown_case *all;
    unsigned started, cleaned, dropped; /* atomic */
    sch_task *task;                     /* a handle, NULL: detached */
    struct shutdown_item *partner;
} shutdown_item;

typedef struct shutdown_case {
    sch_runtime *rt;
    shutdown_item item[SHUTDOWN_TASKS];
    unsigned num_items;
    support_gate gate;
    unsigned release;   /* atomic: tasks that compute may end */
    bool spawn_failed;
} shutdown_case;

static void shutdown_drop(void *arg) { support_add(&((shutdown_item *)arg)->dropped, 1); }
static void shutdown_drop_state(void *state) { shutdown_drop(*(shutdown_item **)state); }

static const sch_spawn_desc shutdown_desc = {"item", NULL, 0, 0, shutdown_drop};
static const sch_spawn_desc shutdown_stuck_desc = {"stuck", "shutdown.c", 77, 0, shutdown_drop};
static const sch_spawn_desc shutdown_own_stack = {"own stack", NULL, 0, 98304, shutdown_drop};
static const sch_spawn_desc shutdown_poll_desc = {"poll", NULL, 0, 0, shutdown_drop_state};

static shutdown_item *shutdown_add(shutdown_case *c) {
    shutdown_item *item = &c->item[c->num_items++];
    item->all = c;
    return item;
}

static shutdown_item *shutdown_spawn(shutdown_case *c, const sch_spawn_desc *desc, sch_fn fn) {
    shutdown_item *item = shutdown_add(c);
    item->task = sch_spawn_with(c->rt, desc, fn, item);
    EXPECT(item->task != NULL);
    return item;
}

static shutdown_item *shutdown_spawn_poll(shutdown_case *c, sch_poll_fn poll) {
    shutdown_item *item = shutdown_add(c);
    item->task = sch_spawn_poll_with(c->rt, &shutdown_poll_desc, poll, &item, sizeof item);
    EXPECT(item->task != NULL);
    return item;
}

static shutdown_item *shutdown_spawn_job(shutdown_case *c, sch_fn fn) {
    shutdown_item *item = shutdown_add(c);
    item->task = sch_spawn_blocking_with(c->rt, &shutdown_desc, fn, item);
    EXPECT(item->task != NULL);
    return item;
}

/* Every item has ended and was dropped once. */
static void shutdown_check(shutdown_case *c) {
    for (unsigned i = 0; i < c->num_items; i++) {
        EXPECT_EQ(c->item[i].dropped, 1);
        if (!c->item[i].task) continue;
        EXPECT(sch_is_done(c->item[i].task));
        sch_release(c->item[i].task);
    }
}

/* Tasks in every state --------------------------------------------------------------------------*/

static void shutdown_suspend(void *arg) {
    support_add(&((shutdown_item *)arg)->started, 1);
    EXPECT_EQ(sch_suspend(), -ECANCELED);
    support_add(&((shutdown_item *)arg)->cleaned, 1);
}

static void shutdown_join_partner(void *arg) {
    shutdown_item *item = (shutdown_item *)arg;
    support_add(&item->started, 1);
    int result = sch_join(sch_retain(item->partner->task)); /* either may be told first */
    EXPECT(result == -EINTR || result == -ECANCELED);
    if (result == -EINTR) sch_release(item->partner->task);
    support_add(&item->cleaned, 1);
}

static void shutdown_yield(void *arg) {
    shutdown_item *item = (shutdown_item *)arg;
    support_add(&item->started, 1);
    YIELD_UNTIL(sch_cancelled());
    support_add(&item->cleaned, 1);
}

/* Runs on until it is asked, and does not wait. */
static void shutdown_compute(void *arg) {
    shutdown_item *item = (shutdown_item *)arg;
    support_add(&item->started, 1);
    while (!sch_cancelled()) continue;
    EXPECT_EQ(sch_suspend(), -ECANCELED);
    support_add(&item->cleaned, 1);
}

static void shutdown_gate(void *arg) {
    shutdown_item *item = (shutdown_item *)arg;
    support_gate_wait(&item->all->gate);
}

static void shutdown_block(void *arg) {
    shutdown_item *item = (shutdown_item *)arg;
    support_add(&item->started, 1);
    EXPECT_EQ(sch_block_in_place(shutdown_gate, item), 0);
    EXPECT_EQ(sch_suspend(), -ECANCELED);
    support_add(&item->cleaned, 1);
}

static void shutdown_block_and_suspend(void *arg) {
    EXPECT_EQ(sch_block_in_place(shutdown_suspend, arg), 0);
}

static void shutdown_job_runs(void *arg) {
    support_add(&((shutdown_item *)arg)->started, 1);
    shutdown_gate(arg);
}

static sch_status shutdown_poll_waits(sch_task *self, void *state) {
    support_add(&(*(shutdown_item **)state)->started, 1);
    (void)self;
    return SCH_PENDING;
}

static sch_status shutdown_poll_again(sch_task *self, void *state) {
    support_add(&(*(shutdown_item **)state)->started, 1);
    (void)self;
    EXPECT_EQ(sch_yield_now(), 0);
    return SCH_PENDING; /* for ever, if nobody stops it */
}

static void shutdown_never(void *arg) { support_add(&((shutdown_item *)arg)->cleaned, 1); }

/* A task that spawns as long as it can: some are new, some queued when the end comes. */
static void shutdown_spawner(void *arg) {
    shutdown_item *item = (shutdown_item *)arg;
    support_add(&item->started, 1);
    while (sch_go(NULL, support_count, &item->partner->started) == 0) {
        support_add(&item->cleaned, 1);
        EXPECT_EQ(sch_yield_now(), 0);
    }
    while (sch_suspend() == 0) continue;
}

/* Two of each. */
static void shutdown_populate(shutdown_case *c) {
    shutdown_item *spawner;
    for (int i = 0; i < 2; i++) {
        shutdown_item *waiting = shutdown_spawn(c, &shutdown_desc, shutdown_suspend);
        shutdown_item *joiner = shutdown_add(c);
        joiner->partner = waiting;
        joiner->task = sch_spawn_with(c->rt, &shutdown_desc, shutdown_join_partner, joiner);
        (void)shutdown_spawn(c, &shutdown_own_stack, shutdown_suspend);
        (void)shutdown_spawn(c, &shutdown_desc, shutdown_yield);
        (void)shutdown_spawn(c, &shutdown_desc, shutdown_block_and_suspend);
        (void)shutdown_spawn_poll(c, shutdown_poll_waits);
        (void)shutdown_spawn_poll(c, shutdown_poll_again);
        (void)shutdown_spawn_job(c, shutdown_job_runs);
        (void)shutdown_spawn_job(c, shutdown_suspend);
        if (c->rt->config.flavor == SCH_MULTI_THREAD) {
            (void)shutdown_spawn(c, &shutdown_desc, shutdown_block);
        }
    }
    spawner = shutdown_add(c);
    spawner->partner = shutdown_add(c); /* no task: what it spawns counts there */
    spawner->partner->dropped = 1;
    spawner->task = sch_spawn_with(c->rt, &shutdown_desc, shutdown_spawner, spawner);
}

static bool shutdown_all_started(shutdown_case *c) {
    for (unsigned i = 0; i < c->num_items; i++) {
        if (c->item[i].task && support_get(&c->item[i].started) == 0) return false;
    }
    return true;
}

/* In SCH_CURRENT_THREAD somebody has to run them first. */
static void shutdown_drive(void *arg) { YIELD_UNTIL(shutdown_all_started((shutdown_case *)arg)); }

/* All cores but one compute; last, because what is queued behind them then may never start: not
 * another of them either, while the core that is left has work. So one after the other. */
static void shutdown_populate_more(shutdown_case *c, bool settle) {
    if (settle) EXPECT_EQ(sch_block_on(c->rt, shutdown_drive, c), 0);
    for (unsigned i = 1; i < sch_num_workers(c->rt); i++) {
        (void)shutdown_spawn(c, &shutdown_desc, shutdown_compute);
        if (settle) EXPECT_EQ(sch_block_on(c->rt, shutdown_drive, c), 0);
    }
}

static void shutdown_open_gate(void *arg) {
    support_nap((long)(test_random() % 3000));
    support_gate_open(&((shutdown_case *)arg)->gate);
}

static void shutdown_of_every_state(unsigned workers, bool settle) {
    checked_memory memory;
    sch_config config = support_config(&memory, workers);
    shutdown_case c;
    support_gate gate = SUPPORT_GATE;
    support_thread opener;
    memset(&c, 0, sizeof c);
    c.gate = gate;
    config.max_blocking_threads = 5; /* one thread is left for the jobs that come last */
    c.rt = support_begin(&config);
    shutdown_populate(&c);
    shutdown_populate_more(&c, settle);
    for (int i = 0; i < 3; i++) (void)shutdown_spawn_job(&c, shutdown_job_runs); /* some queued */
    support_thread_start(&opener, shutdown_open_gate, &c);
    EXPECT_EQ(sch_runtime_shutdown(c.rt, SCH_FOREVER), 0);
    EXPECT_EQ(sch_runtime_shutdown(c.rt, 0), 0);
    EXPECT_EQ(sch_num_alive_tasks(c.rt), 0);
    EXPECT_EQ(sch_stragglers(c.rt, NULL, 0), 0);
    EXPECT(sch_spawn_with(c.rt, &shutdown_desc, shutdown_never, shutdown_add(&c)) == NULL);
    EXPECT_EQ(errno, ESHUTDOWN);
    support_thread_join(&opener);
    sch_runtime_free(c.rt);
    shutdown_check(&c);
    checked_end(&memory);
}

TEST(shutdown_with_tasks_in_every_state) {
    for (size_t round = 0; round < test_scale(10) + 1; round++) {
        for (int i = 0; i < SHUTDOWN_SIZES; i++) {
            shutdown_of_every_state(shutdown_workers[i], true);
            shutdown_of_every_state(shutdown_workers[i], false);
        }
    }
}

/* Clean-up that waits ---------------------------------------------------------------------------*/

/* Under a shield each wakes its partner, waits for the partner's wake, and then the first joins the
 * second; none of it can be had without running other tasks. */
static void shutdown_clean_up(void *arg) {
    shutdown_item *item = (shutdown_item *)arg;
    bool first = item < item->partner;
    support_add(&item->started, 1);
    while (sch_suspend() == 0) continue; /* the partner may have been told before */
    EXPECT_EQ(sch_shield_begin(SCH_FOREVER), 0);
    EXPECT_EQ(sch_yield_now(), 0);
    support_add(&item->cleaned, 1);
    sch_wake(item->partner->task);
    while (support_get(&item->partner->cleaned) == 0) EXPECT_EQ(sch_suspend(), 0);
    EXPECT(sch_go(NULL, shutdown_never, item) == -ESHUTDOWN);
    if (first) EXPECT_EQ(sch_join(sch_retain(item->partner->task)), -ECANCELED);
    EXPECT_EQ(sch_block_in_place(shutdown_never, item), 0);
    sch_shield_end();
    while (sch_suspend() == 0) continue; /* the partner's wake may be left */
    support_add(&item->cleaned, 1);
}

TEST(shutdown_runs_clean_up_that_waits) {
    for (int i = 0; i < SHUTDOWN_SIZES; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, shutdown_workers[i]);
        shutdown_case c;
        memset(&c, 0, sizeof c);
        c.rt = support_begin(&config);
        for (unsigned j = 0; j < 20; j++) c.item[j].partner = &c.item[j ^ 1];
        for (unsigned j = 0; j < 20; j++) (void)shutdown_add(&c);
        for (unsigned j = 0; j < 20; j++) {
            shutdown_item *item = &c.item[j];
            item->task = sch_spawn_with(c.rt, &shutdown_desc, shutdown_clean_up, item);
        }
        EXPECT_EQ(sch_block_on(c.rt, shutdown_drive, &c), 0);
        sch_runtime_free(c.rt);
        for (unsigned j = 0; j < 20; j++) EXPECT_EQ(c.item[j].cleaned, 3);
        shutdown_check(&c);
        checked_end(&memory);
    }
}

/* A deadline ------------------------------------------------------------------------------------*/

/* Foreign code that knows nothing of being cancelled. */
static void shutdown_spin(void *arg) {
    shutdown_item *item = (shutdown_item *)arg;
    support_add(&item->started, 1);
    while (!support_get(&item->all->release)) sched_yield();
}

/* In SCH_CURRENT_THREAD a task that computes holds up the caller as well, but one that waits under
 * a shield does not. */
static void shutdown_shielded(void *arg) {
    shutdown_item *item = (shutdown_item *)arg;
    EXPECT_EQ(sch_shield_begin(SCH_FOREVER), 0);
    support_add(&item->started, 1);
    while (!support_get(&item->all->release)) EXPECT_EQ(sch_suspend(), 0);
    sch_shield_end();
}

static void shutdown_by_deadline(unsigned workers, sch_fn stuck, bool blocking) {
    checked_memory memory;
    sch_config config = support_config(&memory, workers);
    sch_straggler names[4];
    shutdown_case c;
    shutdown_item *item;
    memset(&c, 0, sizeof c);
    c.rt = support_begin(&config);
    (void)shutdown_spawn(&c, &shutdown_desc, shutdown_suspend);
    (void)shutdown_spawn_poll(&c, shutdown_poll_waits);
    item = shutdown_add(&c);
    item->task = blocking ? sch_spawn_blocking_with(c.rt, &shutdown_stuck_desc, stuck, item)
                          : sch_spawn_with(c.rt, &shutdown_stuck_desc, stuck, item);
    EXPECT_EQ(sch_block_on(c.rt, shutdown_drive, &c), 0);
    if (stuck == shutdown_shielded && workers > 0) {
        WAIT_FOR(schi_load_seq(&item->task->state) & SCHI_WAIT_WAKE);
    }
    EXPECT_EQ(sch_stragglers(c.rt, names, 4), 3);
    uint64_t start = sch_now();
    EXPECT_EQ(sch_runtime_shutdown(c.rt, 20 * SCH_MILLISECOND), -ETIMEDOUT);
    EXPECT(sch_now() - start >= 20 * SCH_MILLISECOND);
    memset(names, 0, sizeof names);
    WAIT_FOR(sch_stragglers(c.rt, names, 4) == 1); /* with one worker the others wait for it, too */
    if (sch_stragglers(c.rt, names, 4) == 1) {
        EXPECT_EQ(strcmp(names[0].name, "stuck"), 0);
        EXPECT_EQ(strcmp(names[0].file, "shutdown.c"), 0);
        EXPECT_EQ(names[0].line, 77);
        if (stuck == shutdown_spin && !blocking) EXPECT(names[0].worker < workers);
        if (stuck != shutdown_spin || blocking) EXPECT_EQ(names[0].worker, UINT_MAX);
    }
    EXPECT_EQ(sch_runtime_shutdown(c.rt, 0), -ETIMEDOUT);
    EXPECT_EQ(item->dropped, 0);
    support_set(&c.release, 1);
    sch_wake(item->task);
    EXPECT_EQ(sch_runtime_shutdown(c.rt, SCH_FOREVER), 0);
    EXPECT_EQ(sch_stragglers(c.rt, names, 4), 0);
    sch_runtime_free(c.rt);
    shutdown_check(&c);
    checked_end(&memory);
}

TEST(shutdown_deadline_names_what_is_stuck) {
    for (unsigned workers = 0; workers <= 3; workers++) {
        shutdown_by_deadline(workers, shutdown_shielded, false);
        if (workers > 1) shutdown_by_deadline(workers, shutdown_spin, false);
        if (workers > 0) shutdown_by_deadline(workers, shutdown_spin, true);
    }
}

/* With one worker what is stuck holds up the rest; all are named. */
TEST(shutdown_deadline_with_one_worker) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    sch_straggler names[8];
    shutdown_case c;
    size_t n;
    bool found = false;
    memset(&c, 0, sizeof c);
    c.rt = support_begin(&config);
    (void)shutdown_spawn(&c, &shutdown_desc, shutdown_suspend);
    (void)shutdown_spawn(&c, &shutdown_stuck_desc, shutdown_spin);
    WAIT_FOR(shutdown_all_started(&c));
    (void)shutdown_spawn(&c, &shutdown_desc, shutdown_never);
    EXPECT_EQ(sch_runtime_shutdown(c.rt, SCH_MILLISECOND), -ETIMEDOUT);
    n = sch_stragglers(c.rt, names, 8);
    EXPECT_EQ(n, 3);
    EXPECT_EQ(sch_stragglers(c.rt, names, 1), 3); /* more than there is room for */
    n = sch_stragglers(c.rt, names, 8);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(names[i].name, "stuck") != 0) continue;
        EXPECT_EQ(names[i].worker, 0);
        found = true;
    }
    EXPECT(found);
    support_set(&c.release, 1);
    EXPECT_EQ(sch_runtime_shutdown(c.rt, SCH_FOREVER), 0);
    EXPECT_EQ(c.item[2].cleaned, 0); /* it never started */
    sch_runtime_free(c.rt);
    shutdown_check(&c);
    checked_end(&memory);
}

/* From inside -----------------------------------------------------------------------------------*/

static void shutdown_from_inside(void *arg) {
    shutdown_item *item = (shutdown_item *)arg;
    EXPECT_EQ(sch_runtime_shutdown(item->all->rt, SCH_FOREVER), -EINPROGRESS);
    sch_runtime_free(item->all->rt); /* only begins it, too */
    EXPECT_EQ(sch_runtime_shutdown(item->all->rt, 0), -EINPROGRESS);
    EXPECT_EQ(sch_go(NULL, shutdown_never, item), -ESHUTDOWN);
    EXPECT_EQ(sch_suspend(), -ECANCELED);
    support_add(&item->started, 1);
}

static void shutdown_from_blocking(void *arg) {
    EXPECT_EQ(sch_block_in_place(shutdown_from_inside, arg), 0);
}

static sch_runtime *shutdown_hook_rt;
static unsigned shutdown_hooked;

static void shutdown_from_hook(void *user, sch_task *task) {
    (void)user, (void)task;
    if (!shutdown_hook_rt) return;
    EXPECT_EQ(sch_runtime_shutdown(shutdown_hook_rt, SCH_FOREVER), -EINPROGRESS);
    support_add(&shutdown_hooked, 1);
}

static void shutdown_starter(unsigned workers, int how) {
    checked_memory memory;
    sch_config config = support_config(&memory, workers);
    shutdown_case c;
    support_gate gate = SUPPORT_GATE;
    shutdown_item *item;
    memset(&c, 0, sizeof c);
    c.gate = gate;
    shutdown_hook_rt = NULL;
    shutdown_hooked = 0;
    if (how == 3) config.hooks.on_task_terminate = shutdown_from_hook;
    c.rt = support_begin(&config);
    (void)shutdown_spawn(&c, &shutdown_desc, shutdown_suspend);
    (void)shutdown_spawn(&c, &shutdown_desc, shutdown_yield);
    (void)shutdown_spawn_poll(&c, shutdown_poll_waits);
    EXPECT_EQ(sch_block_on(c.rt, shutdown_drive, &c), 0);
    item = shutdown_add(&c);
    switch (how) {
    case 0: item->task = sch_spawn_with(c.rt, &shutdown_desc, shutdown_from_inside, item); break;
    case 1: item->task = sch_spawn_with(c.rt, &shutdown_desc, shutdown_from_blocking, item); break;
    case 2:
        item->task = sch_spawn_blocking_with(c.rt, &shutdown_desc, shutdown_from_inside, item);
        break;
    default:
        shutdown_hook_rt = c.rt;
        item->task = sch_spawn_with(c.rt, &shutdown_desc, shutdown_never, item);
    }
    EXPECT_EQ(sch_join(sch_retain(item->task)), how == 3 ? 0 : -ECANCELED);
    EXPECT_EQ(sch_runtime_shutdown(c.rt, SCH_FOREVER), 0);
    EXPECT(how == 3 ? shutdown_hooked > 0 : item->started == 1);
    shutdown_hook_rt = NULL;
    sch_runtime_free(c.rt);
    shutdown_check(&c);
    checked_end(&memory);
}

TEST(shutdown_from_inside) {
    for (int i = 0; i < SHUTDOWN_SIZES; i++) {
        for (int how = 0; how < 4; how++) shutdown_starter(shutdown_workers[i], how);
    }
}

/* Two threads at once, one of them with a deadline that it may miss. */
static void shutdown_crew(void *arg, unsigned index) {
    shutdown_case *c = (shutdown_case *)arg;
    int result = sch_runtime_shutdown(c->rt, index == 2 ? 100 * SCH_MICROSECOND : SCH_FOREVER);
    EXPECT(result == 0 || (index == 2 && result == -ETIMEDOUT));
    if (result == 0) EXPECT_EQ(sch_num_alive_tasks(c->rt), 0);
}

TEST(shutdown_by_several_threads) {
    for (size_t round = 0; round < test_scale(40) + SHUTDOWN_SIZES; round++) {
        checked_memory memory;
        sch_config config = support_config(&memory, shutdown_workers[round % SHUTDOWN_SIZES]);
        shutdown_case c;
        support_gate gate = SUPPORT_GATE;
        memset(&c, 0, sizeof c);
        c.gate = gate;
        c.rt = support_begin(&config);
        shutdown_populate(&c);
        support_gate_open(&c.gate);
        shutdown_populate_more(&c, round % 2 == 0);
        crew_run(3, shutdown_crew, &c);
        sch_runtime_free(c.rt);
        shutdown_check(&c);
        checked_end(&memory);
    }
}

/* Again and again -------------------------------------------------------------------------------*/

static void shutdown_child(void *arg) {
    if (test_random() % 2) EXPECT_EQ(sch_yield_now(), 0);
    support_add(&((shutdown_item *)arg)->cleaned, 1);
}

static void shutdown_family(void *arg) {
    sch_task *child[4];
    for (int i = 0; i < 4; i++) child[i] = sch_spawn(NULL, shutdown_child, arg);
    for (int i = 0; i < 4; i++) {
        int result = child[i] ? sch_join(child[i]) : 0;
        EXPECT(result == 0 || result == -ECANCELED || result == -EINTR);
        if (result == -EINTR) sch_release(child[i]);
    }
}

TEST(shutdown_cycles_with_tasks_in_flight) {
    for (size_t i = 0; i < test_scale(1000) + 10; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, shutdown_workers[i % SHUTDOWN_SIZES]);
        shutdown_case c;
        memset(&c, 0, sizeof c);
        config.stack_size = 16384 + (TEST_SANITIZED ? 49152 : 0);
        config.max_blocking_threads = 2;
        c.rt = support_begin(&config);
        for (int j = 0; j < 4; j++) {
            (void)shutdown_spawn(&c, &shutdown_desc, shutdown_family);
            (void)shutdown_spawn_poll(&c, shutdown_poll_again);
            if (i % 8 == 0) (void)shutdown_spawn_job(&c, shutdown_child);
        }
        if (i % 3) support_spin(test_random() % 100000);
        sch_runtime_free(c.rt);
        shutdown_check(&c);
        checked_end(&memory);
    }
}

/* Two begin a shutdown at once: the second one may return while the first is on its way to close
 * the shared heaps. Spawning fails all the same. */
TEST(shutdown_refuses_from_the_first_moment) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    sch_runtime *rt = support_begin(&config);
    unsigned ran = 0;
    schi_store_seq(&rt->closing, 1u); /* where the first caller has got to */
    EXPECT_EQ(sch_runtime_shutdown(rt, 0), -ETIMEDOUT);
    errno = 0;
    EXPECT(sch_spawn(rt, support_count, &ran) == NULL);
    EXPECT_EQ(sch_errno(), ESHUTDOWN);
    EXPECT_EQ(sch_go(rt, support_count, &ran), -ESHUTDOWN);
    schi_store_seq(&rt->closing, 0u);
    EXPECT_EQ(ran, 0);
    support_end(rt, &memory);
}
