/* hooks.c - [11] [12] [13]: every hook is called as often as it must be, in the right order, and
 * what it may not do is refused there. */
#include "support.h"

#define HOOKS_THREADS 256
#define HOOKS_TASKS 512

enum hooks_thread_state { HOOKS_GONE, HOOKS_AWAKE, HOOKS_PARKED };

typedef struct hooks_record {
    sch_runtime *rt;
    pthread_mutex_t lock;
    enum hooks_thread_state threads[HOOKS_THREADS]; /* under lock, by number */
    sch_task *tasks[HOOKS_TASKS];                   /* under lock: spawned, not terminated */
    unsigned starts, stops, parks, spawns, ends, poll_starts, poll_ends; /* under lock */
    unsigned workers;                               /* fixed */
    /* Tried from each hook until it has been done once. */
    sch_task *pending;      /* a task that has not ended, to be joined in vain */
    unsigned try_waits;     /* atomic */
    unsigned tried_waits[8], in_waits;
} hooks_record;

static __thread sch_task *hooks_polled;   /* the task that this thread is told to run */
static __thread unsigned hooks_number;    /* of this thread, plus 1 */

/* Hooks are called, not inlined, and read these anew: the addresses do not outlive a wait. */
static SCHI_NOINLINE sch_task **hooks_polled_here(void) { return &hooks_polled; }
static SCHI_NOINLINE unsigned *hooks_number_here(void) { return &hooks_number; }

static void hooks_nothing(void *arg) { (void)arg; }

/* Whatever would wait is refused in a hook. */
static void hooks_try_waits(hooks_record *r, int which) {
    if (!support_get(&r->try_waits)) return;
    support_set(&r->tried_waits[which], 1);
    if (!EXPECT_EQ(sch_yield_now(), -EPERM)) return; /* and the join would wait for ever */
    EXPECT_EQ(sch_suspend(), -EPERM);
    EXPECT_EQ(sch_shield_begin(SCH_FOREVER), -EPERM);
    EXPECT_EQ(sch_block_in_place(hooks_nothing, NULL), -EPERM);
    EXPECT_EQ(sch_block_on(r->rt, hooks_nothing, NULL), -EPERM);
    if (r->pending && sch_self() != r->pending) EXPECT_EQ(sch_join(r->pending), -EPERM);
}

static void hooks_waits(hooks_record *r, int which) {
    support_add(&r->in_waits, 1);
    hooks_try_waits(r, which);
    support_add(&r->in_waits, UINT_MAX);
}

static void hooks_step(hooks_record *r, unsigned thread, enum hooks_thread_state from,
                       enum hooks_thread_state to, unsigned *count) {
    EXPECT(*hooks_polled_here() == NULL);
    pthread_mutex_lock(&r->lock);
    if (EXPECT(thread < HOOKS_THREADS)) {
        EXPECT_EQ(r->threads[thread], from);
        r->threads[thread] = to;
    }
    if (count) ++*count;
    pthread_mutex_unlock(&r->lock);
}

static void hooks_start(void *user, unsigned thread) {
    hooks_record *r = (hooks_record *)user;
    hooks_step(r, thread, HOOKS_GONE, HOOKS_AWAKE, &r->starts);
    EXPECT_EQ(*hooks_number_here(), 0);
    *hooks_number_here() = thread + 1;
}

static void hooks_stop(void *user, unsigned thread) {
    hooks_record *r = (hooks_record *)user;
    hooks_step(r, thread, HOOKS_AWAKE, HOOKS_GONE, &r->stops);
    EXPECT_EQ(*hooks_number_here(), thread + 1);
}

/* In SCH_CURRENT_THREAD the thread that parks is the caller's: it neither starts nor stops. */
static bool hooks_is_ours(const hooks_record *r, unsigned thread) {
    return r->workers > 0 || *hooks_number_here() == thread + 1;
}

static void hooks_park(void *user, unsigned thread) {
    hooks_record *r = (hooks_record *)user;
    bool ours = hooks_is_ours(r, thread);
    hooks_step(r, thread, ours ? HOOKS_AWAKE : HOOKS_GONE, HOOKS_PARKED, &r->parks);
    EXPECT_EQ(*hooks_number_here(), ours ? thread + 1 : 0);
    hooks_waits(r, 0);
}

static void hooks_unpark(void *user, unsigned thread) {
    hooks_record *r = (hooks_record *)user;
    hooks_step(r, thread, HOOKS_PARKED, hooks_is_ours(r, thread) ? HOOKS_AWAKE : HOOKS_GONE, NULL);
    hooks_waits(r, 1);
}

/* The place of a task in the table, of NULL: a free place. Under the lock. */
static sch_task **hooks_find(hooks_record *r, const sch_task *task) {
    for (int i = 0; i < HOOKS_TASKS; i++) {
        if (r->tasks[i] == task) return &r->tasks[i];
    }
    return NULL;
}

static void hooks_spawn(void *user, sch_task *task) {
    hooks_record *r = (hooks_record *)user;
    pthread_mutex_lock(&r->lock);
    sch_task **place = hooks_find(r, NULL);
    EXPECT(hooks_find(r, task) == NULL);
    if (EXPECT(place != NULL)) *place = task;
    r->spawns++;
    pthread_mutex_unlock(&r->lock);
    EXPECT(!sch_is_done(task));
    hooks_waits(r, 2);
}

static void hooks_terminate(void *user, sch_task *task) {
    hooks_record *r = (hooks_record *)user;
    pthread_mutex_lock(&r->lock);
    sch_task **place = hooks_find(r, task);
    if (EXPECT(place != NULL)) *place = NULL;
    r->ends++;
    pthread_mutex_unlock(&r->lock);
    EXPECT(*hooks_polled_here() == NULL);
    EXPECT(!sch_is_done(task)); /* before joins */
    hooks_waits(r, 3);
}

static void hooks_poll_start(void *user, sch_task *task) {
    hooks_record *r = (hooks_record *)user;
    pthread_mutex_lock(&r->lock);
    EXPECT(hooks_find(r, task) != NULL);
    r->poll_starts++;
    pthread_mutex_unlock(&r->lock);
    EXPECT(*hooks_polled_here() == NULL);
    *hooks_polled_here() = task;
    EXPECT(sch_self() == task);
    hooks_waits(r, 4);
}

static void hooks_poll_end(void *user, sch_task *task) {
    hooks_record *r = (hooks_record *)user;
    pthread_mutex_lock(&r->lock);
    EXPECT(hooks_find(r, task) != NULL);
    r->poll_ends++;
    pthread_mutex_unlock(&r->lock);
    EXPECT(*hooks_polled_here() == task);
    *hooks_polled_here() = NULL;
    EXPECT(sch_self() == task);
    hooks_waits(r, 5);
}

static void hooks_begin(hooks_record *r, sch_config *config) {
    memset(r, 0, sizeof *r);
    pthread_mutex_init(&r->lock, NULL);
    r->workers = config->workers;
    config->hooks.on_thread_start = hooks_start;
    config->hooks.on_thread_stop = hooks_stop;
    config->hooks.on_thread_park = hooks_park;
    config->hooks.on_thread_unpark = hooks_unpark;
    config->hooks.on_task_spawn = hooks_spawn;
    config->hooks.on_task_terminate = hooks_terminate;
    config->hooks.on_task_poll_start = hooks_poll_start;
    config->hooks.on_task_poll_end = hooks_poll_end;
    config->hooks.user = r;
    r->rt = support_begin(config);
}

static void hooks_end(hooks_record *r, checked_memory *memory) {
    support_end(r->rt, memory);
    for (int i = 0; i < HOOKS_THREADS; i++) EXPECT_EQ(r->threads[i], HOOKS_GONE);
    for (int i = 0; i < HOOKS_TASKS; i++) EXPECT(r->tasks[i] == NULL);
    EXPECT_EQ(r->starts, r->stops);
    EXPECT_EQ(r->poll_starts, r->poll_ends);
    EXPECT_EQ(r->spawns, r->ends);
    pthread_mutex_destroy(&r->lock);
}

/* Balance ---------------------------------------------------------------------------------------*/

static void hooks_inside(void *arg) {
    EXPECT_EQ(sch_join(sch_spawn(NULL, support_count, arg)), 0);
    EXPECT_EQ(sch_yield_now(), 0);
}

/* A task that does a little of everything that begins or ends a poll. */
static void hooks_worker(void *arg) {
    const sch_spawn_desc big = {"big", NULL, 0, 131072, NULL};
    sch_task *cancelled = sch_spawn(NULL, support_count, arg);
    sch_task *waiter = sch_spawn(NULL, hooks_inside, arg);
    (void)sch_cancel(cancelled); /* it may have been stolen and have run */
    for (int i = 0; i < 3; i++) EXPECT_EQ(sch_yield_now(), 0);
    EXPECT_EQ(sch_join(sch_spawn_with(NULL, &big, hooks_inside, arg)), 0);
    EXPECT_EQ(sch_block_in_place(hooks_inside, arg), 0);
    sch_wake(sch_self());
    EXPECT_EQ(sch_suspend(), 0);
    EXPECT_EQ(sch_join(sch_spawn_blocking(NULL, hooks_inside, arg)), 0);
    (void)sch_join(cancelled);
    EXPECT_EQ(sch_join(waiter), 0);
}

static sch_status hooks_poll(sch_task *self, void *state) {
    unsigned *polls = (unsigned *)state;
    if (++*polls == 3) return SCH_READY;
    if (*polls == 1) {
        EXPECT_EQ(sch_yield_now(), 0);
    } else {
        sch_wake(self);
    }
    return SCH_PENDING;
}

static void hooks_suspend(void *arg) {
    (void)arg;
    EXPECT_EQ(sch_suspend(), -ECANCELED);
}

static void hooks_load(hooks_record *r, unsigned *count) {
    sch_task *task[12], *poll[4];
    unsigned zero = 0;
    for (int i = 0; i < 12; i++) task[i] = sch_spawn(r->rt, hooks_worker, count);
    for (int i = 0; i < 4; i++) poll[i] = sch_spawn_poll(r->rt, hooks_poll, &zero, sizeof zero);
    for (int i = 0; i < 4; i++) EXPECT_EQ(sch_join(poll[i]), 0);
    for (int i = 0; i < 12; i++) EXPECT_EQ(sch_join(task[i]), 0);
}

TEST(hooks_balance) {
    for (unsigned workers = 0; workers <= 3; workers++) {
        checked_memory memory;
        sch_config config = support_config(&memory, workers);
        hooks_record r;
        unsigned count = 0;
        config.keep_alive_ns = SCH_MILLISECOND; /* threads come and go */
        hooks_begin(&r, &config);
        for (size_t i = 0; i < test_scale(20) + 2; i++) hooks_load(&r, &count);
        for (int i = 0; i < 5; i++) EXPECT_EQ(sch_go(r.rt, hooks_suspend, NULL), 0);
        hooks_load(&r, &count);
        pthread_mutex_lock(&r.lock);
        EXPECT(r.spawns > 100);
        if (workers > 0) EXPECT(r.parks > 0);
        pthread_mutex_unlock(&r.lock);
        hooks_end(&r, &memory); /* the last five are cancelled by the shutdown */
    }
}

/* A job for which no thread can be made is spawned and terminated for the hooks as well. */
static int hooks_no_thread(void) { return EAGAIN; }

TEST(hooks_balance_without_threads) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    hooks_record r;
    hooks_begin(&r, &config);
    fault_threads(hooks_no_thread);
    EXPECT(sch_spawn_blocking(r.rt, hooks_nothing, NULL) == NULL);
    EXPECT_EQ(errno, EAGAIN);
    fault_threads(NULL);
    EXPECT_EQ(r.spawns, 1);
    EXPECT_EQ(r.poll_starts, 0);
    hooks_end(&r, &memory);
}

/* Waits -----------------------------------------------------------------------------------------*/

static void hooks_wait_for_wake(void *arg) {
    (void)arg;
    EXPECT_EQ(sch_suspend(), 0);
}

TEST(hooks_must_not_wait) {
    for (unsigned workers = 0; workers <= 2; workers++) {
        checked_memory memory;
        sch_config config = support_config(&memory, workers);
        hooks_record r;
        unsigned count = 0;
        hooks_begin(&r, &config);
        r.pending = sch_spawn(r.rt, hooks_wait_for_wake, NULL);
        if (workers > 0) WAIT_FOR(schi_load_seq(&r.pending->state) & SCHI_WAIT_WAKE);
        support_set(&r.try_waits, 1);
        hooks_load(&r, &count);
        if (workers > 0) WAIT_FOR(support_metrics(r.rt).num_idle_workers == workers);
        hooks_load(&r, &count);
        support_set(&r.try_waits, 0);
        WAIT_FOR(support_get(&r.in_waits) == 0); /* nobody uses the handle */
        for (int i = 0; i < 6; i++) EXPECT(support_get(&r.tried_waits[i]));
        sch_wake(r.pending);
        EXPECT_EQ(sch_join(r.pending), 0);
        hooks_end(&r, &memory);
    }
}

static sch_runtime *hooks_drop_rt;

static void hooks_waiting_drop(void *arg) {
    EXPECT_EQ(sch_yield_now(), -EPERM);
    EXPECT_EQ(sch_suspend(), -EPERM);
    EXPECT_EQ(sch_shield_begin(SCH_FOREVER), -EPERM);
    EXPECT_EQ(sch_block_in_place(hooks_nothing, NULL), -EPERM);
    EXPECT_EQ(sch_block_on(hooks_drop_rt, hooks_nothing, NULL), -EPERM);
    support_count(arg);
}

TEST(hooks_drop_must_not_wait) {
    static const sch_spawn_desc desc = {"drop", NULL, 0, 0, hooks_waiting_drop};
    checked_memory memory;
    sch_config config = support_config(&memory, 2);
    sch_runtime *rt = hooks_drop_rt = support_begin(&config);
    unsigned dropped = 0;
    EXPECT_EQ(sch_join(sch_spawn_with(rt, &desc, hooks_nothing, &dropped)), 0);
    EXPECT_EQ(sch_join(sch_spawn_blocking_with(rt, &desc, hooks_nothing, &dropped)), 0);
    EXPECT(sch_spawn_with(rt, &desc, NULL, &dropped) == NULL); /* here, on a plain thread */
    EXPECT_EQ(dropped, 3);
    support_end(rt, &memory);
}

/* Spawning, waking and cancelling ---------------------------------------------------------------*/

typedef struct hooks_actor {
    sch_task *sleeper;        /* suspends again and again */
    unsigned wakes, spawned, ran, dropped; /* atomic */
    unsigned limit;           /* how often hooks may act: their own tasks call them as well */
    unsigned acted[8];
    unsigned stop;
    pthread_mutex_t lock;
} hooks_actor;

static void hooks_actor_child(void *arg) { support_add(&((hooks_actor *)arg)->ran, 1); }
static void hooks_actor_drop(void *arg) { support_add(&((hooks_actor *)arg)->dropped, 1); }
static const sch_spawn_desc hooks_actor_desc = {"child", NULL, 0, 0, hooks_actor_drop};

static void hooks_victim(void *arg) { EXPECT(arg == NULL); }
static const sch_spawn_desc hooks_victim_desc = {"child", NULL, 0, 0, NULL};

/* In any hook: a spawn, a wake, a cancelled task. */
static void hooks_act(hooks_actor *a, int which) {
    sch_task *task;
    int result;
    if (support_get(&a->acted[which]) >= a->limit) return;
    support_add(&a->acted[which], 1);
    support_add(&a->spawned, 1);
    result = sch_go_with(NULL, &hooks_actor_desc, hooks_actor_child, a);
    EXPECT(result == 0 || result == -ESHUTDOWN);
    task = sch_spawn_with(NULL, &hooks_victim_desc, hooks_victim, NULL);
    if (task) {
        (void)sch_cancel(task); /* it may have ended */
        sch_release(task);
    }
    pthread_mutex_lock(&a->lock);
    if (a->sleeper) sch_wake(a->sleeper);
    pthread_mutex_unlock(&a->lock);
}

static void hooks_act_start(void *user, unsigned n) { (void)n, hooks_act((hooks_actor *)user, 0); }
static void hooks_act_park(void *user, unsigned n) { (void)n, hooks_act((hooks_actor *)user, 1); }
static void hooks_act_unpark(void *user, unsigned n) { (void)n, hooks_act((hooks_actor *)user, 2); }
static void hooks_act_spawn(void *user, sch_task *t) {
    if (strcmp(sch_task_name(t), "child") == 0) return; /* or it would call itself on and on */
    hooks_act((hooks_actor *)user, 3);
}
static void hooks_act_start_poll(void *user, sch_task *t) {
    (void)t, hooks_act((hooks_actor *)user, 4);
}
static void hooks_act_end_poll(void *user, sch_task *t) {
    (void)t, hooks_act((hooks_actor *)user, 5);
}
static void hooks_act_terminate(void *user, sch_task *t) {
    (void)t, hooks_act((hooks_actor *)user, 6);
}
static void hooks_act_stop(void *user, unsigned n) { (void)n, hooks_act((hooks_actor *)user, 7); }

static void hooks_sleeper(void *arg) {
    hooks_actor *a = (hooks_actor *)arg;
    while (!support_get(&a->stop)) {
        EXPECT_EQ(sch_suspend(), 0);
        support_add(&a->wakes, 1);
    }
}

/* What hooks queue is not lost, also in the hook just before a worker sleeps, with nobody to come
 * to its rescue. */
TEST(hooks_may_spawn_wake_and_cancel) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        checked_memory memory;
        sch_config config = support_config(&memory, workers);
        hooks_actor a;
        unsigned count = 0;
        memset(&a, 0, sizeof a);
        pthread_mutex_init(&a.lock, NULL);
        a.limit = 50;
        config.no_standby = true;
        config.keep_alive_ns = SCH_MILLISECOND;
        config.hooks.on_thread_start = hooks_act_start;
        config.hooks.on_thread_stop = hooks_act_stop;
        config.hooks.on_thread_park = hooks_act_park;
        config.hooks.on_thread_unpark = hooks_act_unpark;
        config.hooks.on_task_spawn = hooks_act_spawn;
        config.hooks.on_task_poll_start = hooks_act_start_poll;
        config.hooks.on_task_poll_end = hooks_act_end_poll;
        config.hooks.on_task_terminate = hooks_act_terminate;
        config.hooks.user = &a;
        sch_runtime *rt = support_begin(&config);
        sch_task *sleeper = sch_spawn(rt, hooks_sleeper, &a);
        pthread_mutex_lock(&a.lock);
        a.sleeper = sleeper;
        pthread_mutex_unlock(&a.lock);
        for (int i = 0; i < 20; i++) support_run(rt, hooks_worker, &count);
        WAIT_FOR(support_get(&a.ran) == support_get(&a.spawned) && sch_num_alive_tasks(rt) == 1);
        WAIT_FOR(support_get(&a.wakes) > 0);
        for (int i = 0; i < 8; i++) EXPECT(support_get(&a.acted[i]) > 0 || i == 0 || i == 7);
        pthread_mutex_lock(&a.lock);
        a.sleeper = NULL;
        pthread_mutex_unlock(&a.lock);
        support_set(&a.stop, 1);
        sch_wake(sleeper);
        EXPECT_EQ(sch_join(sleeper), 0);
        support_end(rt, &memory);
        EXPECT(a.acted[0] > 0 && a.acted[7] > 0);
        EXPECT(a.ran <= a.spawned); /* a few come with the shutdown */
        EXPECT_EQ(a.dropped, a.spawned);
        pthread_mutex_destroy(&a.lock);
    }
}

typedef struct hooks_last_act {
    sch_task *sleeper;
    unsigned armed, ran, woken; /* armed: what the next park queues; 1 a task, 2 a wake */
} hooks_last_act;

static void hooks_last_sleeper(void *arg) {
    for (;;) {
        if (sch_suspend() != 0) return;
        support_count(arg);
    }
}

static void hooks_last_park(void *user, unsigned thread) {
    hooks_last_act *a = (hooks_last_act *)user;
    unsigned what = support_get(&a->armed);
    (void)thread;
    if (what == 0 || !__atomic_compare_exchange_n(&a->armed, &what, 0, false, __ATOMIC_SEQ_CST,
                                                  __ATOMIC_SEQ_CST)) {
        return;
    }
    if (what == 1) EXPECT_EQ(sch_go(NULL, support_count, &a->ran), 0);
    if (what == 2) sch_wake(a->sleeper);
}

static void hooks_cheap(void *arg) {
    (void)arg;
    schi_store_rlx(&schi_self()->core->wake_len, 1000u); /* rlx: a task is not worth a wake */
}

/* The last thing that happens before all is idle is a spawn, or a wake, from the park hook. */
TEST(hooks_act_just_before_sleep) {
    for (unsigned workers = 1; workers <= 2; workers++) {
        checked_memory memory;
        sch_config config = support_config(&memory, workers);
        hooks_last_act a;
        memset(&a, 0, sizeof a);
        config.no_standby = true;
        config.hooks.on_thread_park = hooks_last_park;
        config.hooks.user = &a;
        sch_runtime *rt = support_begin(&config);
        a.sleeper = sch_spawn(rt, hooks_last_sleeper, &a.woken);
        for (unsigned i = 1; i <= 50; i++) {
            support_set(&a.armed, i % 2 + 1);
            support_run(rt, hooks_cheap, NULL);
            WAIT_FOR(support_get(&a.ran) + support_get(&a.woken) == i);
            if (support_get(&a.ran) + support_get(&a.woken) != i) break;
        }
        EXPECT_EQ(sch_cancel(a.sleeper), 0);
        EXPECT_EQ(sch_join(a.sleeper), -ECANCELED);
        support_end(rt, &memory);
    }
}

/* park_unpark_count and thread ------------------------------------------------------------------*/

/* On a core: it is not parked, and held by this very thread. */
static void hooks_look(void) {
    hooks_record *r = (hooks_record *)schi_self()->rt->config.hooks.user;
    sch_worker_metrics_snapshot m;
    EXPECT_EQ(sch_worker_metrics(r->rt, sch_worker_index(), &m), 0);
    EXPECT_EQ(m.park_unpark_count % 2, 0);
    EXPECT_EQ(m.thread + 1, *hooks_number_here());
}

typedef struct hooks_follow {
    sch_runtime *rt;
    support_gate gate;
    unsigned core, first, second; /* numbers of threads, plus 1 */
} hooks_follow;

/* Runs while the other one blocks: its core is the same, its thread is not. */
static void hooks_take_over(void *arg) {
    hooks_follow *f = (hooks_follow *)arg;
    EXPECT_EQ(sch_worker_index(), f->core);
    f->second = *hooks_number_here();
    hooks_look();
    support_gate_open(&f->gate);
}

/* Nobody can take an idle core while we hold the lock. */
static void hooks_idle_is_odd(sch_runtime *rt) {
    schi_lock(&rt->idle.lock);
    for (unsigned i = 0; i < rt->num_cores; i++) {
        if (!(rt->idle.idle[i / 64] >> i % 64 & 1)) continue;
        EXPECT_EQ(schi_counted(&rt->cores[i]->m.park_unparks) % 2, 1);
    }
    schi_unlock(&rt->idle.lock);
}

/* At the first call the thread that shall take over is only just being made, and the core idle. */
static void hooks_blocked(void *arg) {
    hooks_follow *f = (hooks_follow *)arg;
    hooks_idle_is_odd(f->rt);
    support_gate_wait(&f->gate);
}

static void hooks_handed(void *arg) {
    hooks_follow *f = (hooks_follow *)arg;
    hooks_look();
    f->core = sch_worker_index();
    f->first = *hooks_number_here();
    EXPECT_EQ(sch_go(NULL, hooks_take_over, f), 0);
    EXPECT_EQ(sch_block_in_place(hooks_blocked, f), 0);
    hooks_look();
    EXPECT(f->first != f->second);
}

static void hooks_looker(void *arg) {
    (void)arg;
    for (int i = 0; i < 10; i++) {
        hooks_look();
        EXPECT_EQ(sch_yield_now(), 0);
    }
}

static bool hooks_all_parked(sch_runtime *rt, unsigned workers) {
    for (unsigned i = 0; i < workers; i++) {
        sch_worker_metrics_snapshot m;
        if (sch_worker_metrics(rt, i, &m) != 0) return false;
        if (m.park_unpark_count % 2 == 0 || m.thread != UINT64_MAX) return false;
    }
    return true;
}

TEST(hooks_park_count_is_odd_while_parked) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        checked_memory memory;
        sch_config config = support_config(&memory, workers);
        hooks_record r;
        hooks_begin(&r, &config);
        for (int round = 0; round < 10; round++) {
            sch_task *task[8];
            WAIT_FOR(hooks_all_parked(r.rt, workers));
            for (int i = 0; i < 8; i++) task[i] = sch_spawn(r.rt, hooks_looker, NULL);
            for (int i = 0; i < 8; i++) EXPECT_EQ(sch_join(task[i]), 0);
            if (workers == 1) {
                hooks_follow follow = {r.rt, SUPPORT_GATE, 0, 0, 0};
                support_run(r.rt, hooks_handed, &follow);
            }
        }
        WAIT_FOR(hooks_all_parked(r.rt, workers));
        hooks_end(&r, &memory);
    }
}

/* In SCH_CURRENT_THREAD the core is parked while nobody drives it. */
TEST(hooks_park_count_of_a_driven_core) {
    checked_memory memory;
    sch_config config = support_config(&memory, 0);
    sch_runtime *rt = support_begin(&config);
    unsigned count = 0;
    EXPECT(hooks_all_parked(rt, 1));
    for (int i = 0; i < 3; i++) {
        support_run(rt, support_count, &count);
        EXPECT(hooks_all_parked(rt, 1));
    }
    support_end(rt, &memory);
}

/* A hook runs on whatever thread spawns, also on another runtime's; a shutdown that waited there
 * would wait for the very task that is being spawned. */
typedef struct hooks_foreign {
    sch_runtime *rt;
    int result;
} hooks_foreign;

static void hooks_foreign_spawned(void *user, sch_task *task) {
    hooks_foreign *f = (hooks_foreign *)user;
    (void)task;
    f->result = sch_runtime_shutdown(f->rt, SCH_FOREVER);
}

static void hooks_foreign_nothing(void *arg) { (void)arg; }

static void hooks_foreign_spawner(void *arg) {
    hooks_foreign *f = (hooks_foreign *)arg;
    EXPECT_EQ(sch_go(f->rt, hooks_foreign_nothing, NULL), 0);
}

TEST(hooks_shutdown_in_a_hook_on_another_runtimes_thread) {
    hooks_foreign f = {NULL, 1};
    sch_config config = {0};
    config.workers = 1;
    sch_runtime *other = sch_runtime_new(&config);
    config.hooks.user = &f;
    config.hooks.on_task_spawn = hooks_foreign_spawned;
    f.rt = sch_runtime_new(&config);
    EXPECT_EQ(sch_join(sch_spawn(other, hooks_foreign_spawner, &f)), 0);
    EXPECT_EQ(f.result, -EINPROGRESS);
    sch_runtime_free(f.rt);
    sch_runtime_free(other);
}
