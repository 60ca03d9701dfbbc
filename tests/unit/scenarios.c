/* scenarios.c - failures that other schedulers have had, each as a test that names the original.
 * What other tests cover already is not here: docs/reliability.md has the whole list. */
#include "support.h"

static void known_nothing(void *arg) { (void)arg; }

static void known_suspend(void *arg) {
    (void)arg;
    while (sch_suspend() == 0) continue;
}

static bool known_waits(sch_task *task) {
    return (schi_load_seq(&task->state) & SCHI_WAIT_BITS) != 0;
}

/* Queues ----------------------------------------------------------------------------------------*/

/* tokio#5041, #5042: a thief sat between its load of the head and its swap while 2^16 tasks passed,
 * and the 16-bit head was the same again. stdexec#1967: the same with blocks of a queue. */
TEST(known_tokio_5041_head_comes_round) {
    schi_runq q;
    schi_node nodes[3];
    SCHI_HEAD seen;
    unsigned same = 0;
    schi_runq_init(&q, (SCHI_INDEX)test_random());
    for (int i = 0; i < 2; i++) EXPECT(schi_runq_push(&q, &nodes[i]) > 0);
    seen = schi_load_seq(&q.head); /* the thief goes to sleep here */
    for (unsigned i = 0; i < 3u * 65536; i++) {
        EXPECT(schi_runq_push(&q, &nodes[2]) > 0);
        EXPECT(schi_runq_pop(&q) != NULL);
        same += schi_load_seq(&q.head) == seen;
    }
    EXPECT_EQ(same, 0);
}

/* tokio#5686, #5712: two tasks that wake each other go through the LIFO slot for ever, and nothing
 * else on their core runs. */
typedef struct known_players {
    sch_runtime *rt;
    sch_task *task[2];
    unsigned rounds, limit; /* atomic: on one core, but for the test's own thread */
    unsigned queued_at, ran_at;
} known_players;

static void known_bystander(void *arg) {
    known_players *p = (known_players *)arg;
    support_set(&p->ran_at, support_get(&p->rounds));
}

static void known_play(known_players *p, sch_task *other) {
    while (support_get(&p->ran_at) == 0 && support_get(&p->rounds) < support_get(&p->limit)) {
        if (support_add(&p->rounds, 1) == p->queued_at) {
            EXPECT_EQ(sch_go(NULL, known_bystander, p), 0);
        }
        sch_wake(other);
        EXPECT_EQ(sch_suspend(), 0);
    }
    sch_wake(other);
}

/* Each begins by waiting until it is known to the other. */
static void known_player_0(void *arg) {
    EXPECT_EQ(sch_suspend(), 0);
    known_play((known_players *)arg, ((known_players *)arg)->task[1]);
}
static void known_player_1(void *arg) {
    EXPECT_EQ(sch_suspend(), 0);
    known_play((known_players *)arg, ((known_players *)arg)->task[0]);
}

static void known_begin_play(known_players *p, const sch_config *config) {
    p->rt = support_begin(config);
    p->task[0] = sch_retain(sch_spawn(p->rt, known_player_0, p));
    p->task[1] = sch_retain(sch_spawn(p->rt, known_player_1, p));
    sch_wake(p->task[0]);
}

static void known_end_play(known_players *p, checked_memory *memory) {
    for (int i = 0; i < 2; i++) EXPECT_EQ(sch_join(p->task[i]), 0);
    for (int i = 0; i < 2; i++) sch_release(p->task[i]); /* a late wake may still have used it */
    support_end(p->rt, memory);
}

TEST(known_tokio_5686_lifo_ping_pong_starves) {
    for (int injected = 0; injected < 2; injected++) {
        checked_memory memory;
        sch_config config = support_config(&memory, 1);
        known_players p;
        memset(&p, 0, sizeof p);
        p.limit = injected ? UINT_MAX : 2000000, p.queued_at = injected ? 0 : 1000;
        known_begin_play(&p, &config);
        if (injected) {
            EXPECT_EQ(sch_go(p.rt, known_bystander, &p), 0);
            support_set(&p.limit, support_get(&p.rounds) + 2000000);
        }
        known_end_play(&p, &memory);
        EXPECT(p.ran_at > 0 && p.rounds < p.limit);
        if (!injected) EXPECT(p.ran_at - p.queued_at <= 2 * SCH_LIFO_CAP);
    }
}

/* tokio#7431, #8065, #8100: that others could steal from the LIFO slot made each push to it wake
 * somebody, and message passing a third slower. Here nobody is woken for the slot (and the standby
 * looks after it: standby_lifo_behind_a_long_poll). */
TEST(known_tokio_8065_lifo_push_wakes_nobody) {
    checked_memory memory;
    sch_config config = support_config(&memory, 2);
    sch_metrics_snapshot m;
    known_players p;
    memset(&p, 0, sizeof p);
    config.no_standby = true;
    p.limit = (unsigned)test_scale(400000);
    known_begin_play(&p, &config);
    WAIT_FOR(sch_num_alive_tasks(p.rt) == 0);
    m = support_metrics(p.rt);
    EXPECT(m.total.lifo_poll_count > p.limit / 4);
    EXPECT(m.total.wake_count + m.remote_wake_count < 20); /* to start, and by chance */
    known_end_play(&p, &memory);
}

/* Sleeping --------------------------------------------------------------------------------------*/

/* tokio#8372: a task dump unparked workers behind the back of the idle accounting; they were listed
 * twice, a count ran below zero, and no worker was ever woken again. */
typedef struct known_shaken {
    sch_runtime *rt;
    unsigned over, shakes;
} known_shaken;

static void known_shake(known_shaken *s) {
    schi_idle *d = &s->rt->idle;
    while (!support_get(&s->over)) {
        schi_lock(&d->lock);
        for (schi_sleeper *one = d->sleepers; one; one = one->next) schi_unpark(&one->parker, NULL);
        for (int i = SCHI_WATCH; i < SCHI_SEATS; i++) {
            if (d->seated[i]) schi_unpark_sleeper(s->rt, d->seated[i]);
        }
        schi_unlock(&d->lock);
        support_add(&s->shakes, 1);
        support_spin(test_random() % 20000);
        sched_yield();
    }
}

static void known_shaken_work(void *arg, unsigned index) {
    known_shaken *s = (known_shaken *)arg;
    unsigned count = 0;
    if (index == 0) {
        known_shake(s);
        return;
    }
    for (size_t i = 0; i < test_scale(2000) + 50; i++) {
        EXPECT_EQ(sch_join(sch_spawn(s->rt, support_count, &count)), 0);
        if (i % 4 == 0) support_spin(test_random() % 30000);
    }
    support_set(&s->over, 1);
}

/* Everybody sleeps, is listed once, and is counted as that. */
static unsigned known_listed(schi_idle *d) {
    unsigned n = 0;
    for (int i = SCHI_WATCH; i < SCHI_SEATS; i++) n += schi_idle_seated(d, (schi_seat)i) != NULL;
    for (schi_sleeper *one = d->sleepers; one && n < 100; one = one->next) n++;
    return n;
}

static bool known_all_asleep(sch_runtime *rt, unsigned workers) {
    bool all;
    schi_lock(&rt->idle.lock);
    schi_idle_check(&rt->idle);
    all = known_listed(&rt->idle) == workers &&
          schi_idle_running(schi_load_seq(&rt->idle.word)) == 0 &&
          schi_idle_searching(schi_load_seq(&rt->idle.word)) == 0;
    schi_unlock(&rt->idle.lock);
    return all;
}

TEST(known_tokio_8372_unparked_behind_the_accounting) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        checked_memory memory;
        sch_config config = support_config(&memory, workers);
        known_shaken s;
        unsigned count = 0;
        memset(&s, 0, sizeof s);
        config.no_standby = true;
        s.rt = support_begin(&config);
        crew_run(2, known_shaken_work, &s);
        WAIT_FOR(known_all_asleep(s.rt, workers));
        support_run(s.rt, support_count, &count);
        EXPECT_EQ(count, 1);
        support_end(s.rt, &memory);
    }
}

/* Blocking in place -----------------------------------------------------------------------------*/

/* tokio#5239, #5837: block_in_place in block_on in block_in_place found a core that was not its
 * own, and later there was one too many. */
typedef struct known_nest {
    sch_runtime *rt;
    unsigned innermost;
} known_nest;

static void known_nest_innermost(void *arg) {
    known_nest *n = (known_nest *)arg;
    EXPECT_EQ(sch_worker_index(), UINT_MAX);
    EXPECT_EQ(sch_join(sch_spawn(NULL, support_count, &n->innermost)), 0);
    EXPECT_EQ(sch_yield_now(), 0);
    EXPECT_EQ(sch_worker_index(), UINT_MAX);
}

static void known_nest_block(void *arg) {
    EXPECT_EQ(sch_block_in_place(known_nest_innermost, arg), 0);
    EXPECT_EQ(sch_worker_index(), UINT_MAX);
}

static void known_nest_visit(void *arg) {
    known_nest *n = (known_nest *)arg;
    EXPECT_EQ(sch_block_on(n->rt, known_nest_block, n), 0);
    EXPECT_EQ(sch_worker_index(), UINT_MAX);
    EXPECT_EQ(sch_block_in_place(known_nest_block, n), 0);
    EXPECT_EQ(sch_worker_index(), UINT_MAX);
}

static void known_nest_task(void *arg) {
    for (int i = 0; i < 20; i++) {
        EXPECT_EQ(sch_block_in_place(known_nest_visit, arg), 0);
        EXPECT(sch_worker_index() != UINT_MAX);
        if (i % 3 == 0) EXPECT_EQ(sch_yield_now(), 0);
    }
}

TEST(known_tokio_5239_block_in_place_nested_with_block_on) {
    for (unsigned workers = 1; workers <= 3; workers++) {
        checked_memory memory;
        sch_config config = support_config(&memory, workers);
        sch_task *task[5];
        known_nest n;
        memset(&n, 0, sizeof n);
        n.rt = support_begin(&config);
        for (int i = 0; i < 5; i++) task[i] = sch_spawn(n.rt, known_nest_task, &n);
        for (int i = 0; i < 5; i++) EXPECT_EQ(sch_join(task[i]), 0);
        EXPECT_EQ(n.innermost, 5 * 20 * 2);
        WAIT_FOR(support_metrics(n.rt).num_idle_workers == workers);
        support_end(n.rt, &memory);
    }
}

/* tokio#6596: block_in_place handed its core to a thread that was not there, and the task in the
 * LIFO slot stayed in it. Here the thread is only just being made: the slot must be emptied. */
typedef struct known_lifo {
    support_gate gate;
    sch_task *opener;
} known_lifo;

static void known_opener(void *arg) {
    EXPECT_EQ(sch_suspend(), 0);
    support_gate_open(&((known_lifo *)arg)->gate);
}

static void known_lifo_blocker(void *arg) {
    known_lifo *k = (known_lifo *)arg;
    k->opener = sch_spawn(NULL, known_opener, k);
    YIELD_UNTIL(known_waits(k->opener));
    sch_wake(k->opener); /* to the slot */
    EXPECT(!schi_lifo_is_empty(&schi_self()->core->q));
    EXPECT_EQ(sch_block_in_place(support_gate_wait, &k->gate), 0);
    EXPECT_EQ(sch_join(k->opener), 0);
}

TEST(known_tokio_6596_lifo_task_behind_block_in_place) {
    for (size_t i = 0; i < test_scale(100) + 10; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, 1);
        known_lifo k[2] = {{SUPPORT_GATE, NULL}, {SUPPORT_GATE, NULL}};
        config.no_standby = true;
        sch_runtime *rt = support_begin(&config);
        support_run(rt, known_lifo_blocker, &k[0]); /* its thread is new */
        support_run(rt, known_lifo_blocker, &k[1]); /* and kept */
        support_end(rt, &memory);
    }
}

/* Shutdown --------------------------------------------------------------------------------------*/

/* tokio#2119: a core on its way into or out of block_in_place while the runtime shuts down: nobody
 * waits for it, or everybody. */
static void known_in_and_out(void *arg) {
    (void)arg;
    while (!sch_cancelled()) {
        EXPECT_EQ(sch_block_in_place(known_nothing, NULL), 0);
        if (test_random() % 4 == 0) EXPECT_EQ(sch_yield_now(), 0);
    }
    EXPECT_EQ(sch_block_in_place(known_nothing, NULL), 0); /* and once more in the midst of it */
}

TEST(known_tokio_2119_shutdown_races_block_in_place) {
    for (size_t i = 0; i < test_scale(400) + 20; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, 1 + (unsigned)(i % 3));
        sch_runtime *rt = support_begin(&config);
        for (size_t j = 0; j <= i % 5; j++) EXPECT_EQ(sch_go(rt, known_in_and_out, NULL), 0);
        if (i % 4) support_spin(test_random() % 200000);
        support_end(rt, &memory);
    }
}

/* The worst moment, made to come: shutdown has begun, everybody else has closed what there was and
 * sleeps, and only then a core is lent, by one who waits for a task of this core to be dropped. */
typedef struct known_lender {
    sch_runtime *rt;
    support_gate gate;
    unsigned ready;
} known_lender;

static void known_gate_drop(void *arg) { support_gate_open(arg); }

static const sch_spawn_desc known_gate_desc = {"opens the gate", NULL, 0, 0, known_gate_drop};

static void known_lend_late(void *arg) {
    known_lender *l = (known_lender *)arg;
    sch_task *child = sch_spawn_with(NULL, &known_gate_desc, known_suspend, &l->gate);
    unsigned asleep = 0;
    YIELD_UNTIL(known_waits(child) || sch_is_done(child));
    sch_release(child);
    EXPECT_EQ(sch_block_in_place(known_nothing, NULL), 0); /* the thread for it is there from now */
    support_set(&l->ready, 1);
    while (!schi_is_closing(l->rt)) sched_yield();
    while (asleep < l->rt->num_cores) { /* all but us, and that thread */
        schi_lock(&l->rt->idle.lock);
        asleep = known_listed(&l->rt->idle);
        schi_unlock(&l->rt->idle.lock);
    }
    EXPECT_EQ(sch_block_in_place(support_gate_wait, &l->gate), 0);
}

TEST(known_tokio_2119_core_lent_after_shutdown_began) {
    for (unsigned round = 0; round < 30; round++) {
        checked_memory memory;
        sch_config config = support_config(&memory, 1 + round % 3);
        known_lender l = {NULL, SUPPORT_GATE, 0};
        l.rt = support_begin(&config);
        EXPECT_EQ(sch_go(l.rt, known_lend_late, &l), 0);
        WAIT_FOR(support_get(&l.ready));
        support_end(l.rt, &memory);
    }
}

/* tokio#2082: the scheduler held a lock while it dropped tasks at shutdown, and a drop function
 * woke another task. */
#define KNOWN_RING 24
typedef struct known_ring {
    sch_runtime *rt;
    sch_task *task[KNOWN_RING];
    unsigned dropped;
    pthread_mutex_t lock;
} known_ring;

static void known_ring_drop(void *arg) {
    known_ring *r = *(known_ring **)arg;
    unsigned turn = support_add(&r->dropped, 1);
    for (unsigned i = 0; i < KNOWN_RING; i += 1 + turn % 3) {
        sch_wake(r->task[i]);
        (void)sch_cancel(r->task[i]);
        (void)sch_is_done(r->task[i]);
    }
    EXPECT_EQ(sch_go(r->rt, known_nothing, NULL), -ESHUTDOWN);
    EXPECT_EQ(sch_metrics(r->rt, &(sch_metrics_snapshot){0}), 0);
}

/* The same drop function takes a lock. */
static void known_ring_lock(void *arg) {
    known_ring *r = *(known_ring **)arg;
    support_add(&r->dropped, 1);
    pthread_mutex_lock(&r->lock);
    pthread_mutex_unlock(&r->lock);
}

static sch_status known_ring_poll(sch_task *self, void *state) {
    (void)self, (void)state;
    return SCH_PENDING;
}

/* Tasks that wait, poll tasks, and more than can have started. */
static void known_ring_begin(known_ring *r, const sch_config *config, known_ring **pointer,
                             const sch_spawn_desc *desc) {
    memset(r, 0, sizeof *r);
    pthread_mutex_init(&r->lock, NULL);
    *pointer = r;
    r->rt = support_begin(config);
    for (int i = 0; i < KNOWN_RING; i++) {
        r->task[i] = i % 2 ? sch_spawn_with(r->rt, desc, known_suspend, pointer)
                           : sch_spawn_poll_with(r->rt, desc, known_ring_poll, pointer,
                                                 sizeof *pointer);
    }
}

static void known_ring_end(known_ring *r) {
    EXPECT_EQ(r->dropped, KNOWN_RING);
    for (int i = 0; i < KNOWN_RING; i++) sch_release(r->task[i]);
    pthread_mutex_destroy(&r->lock);
}

TEST(known_tokio_2082_drop_functions_wake_at_shutdown) {
    static const sch_spawn_desc desc = {"ring", NULL, 0, 0, known_ring_drop};
    for (size_t i = 0; i < test_scale(60) + 8; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, (unsigned)(i % 4));
        known_ring r, *pointer;
        known_ring_begin(&r, &config, &pointer, &desc);
        if (i % 3) support_spin(test_random() % 100000);
        sch_runtime_free(r.rt);
        known_ring_end(&r);
        checked_end(&memory);
    }
}

/* tokio#1972, #3869: during the shutdown a wake dropped the task that it woke, there and then; the
 * drop function wanted a lock that the waker held. */
static void known_ring_free(void *arg) { sch_runtime_free(((known_ring *)arg)->rt); }

TEST(known_tokio_3869_wake_under_a_lock_at_shutdown) {
    static const sch_spawn_desc desc = {"ring", NULL, 0, 0, known_ring_lock};
    for (size_t i = 0; i < test_scale(60) + 8; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, (unsigned)(i % 4));
        known_ring r, *pointer;
        support_thread thread;
        known_ring_begin(&r, &config, &pointer, &desc);
        /* Held from before the shutdown: no drop can end until we have woken all of them. */
        pthread_mutex_lock(&r.lock);
        support_thread_start(&thread, known_ring_free, &r);
        WAIT_FOR(schi_is_closing(r.rt));
        for (int j = 0; j < KNOWN_RING; j++) {
            sch_wake(r.task[j]);
            (void)sch_cancel(r.task[j]);
        }
        pthread_mutex_unlock(&r.lock);
        support_thread_join(&thread);
        known_ring_end(&r);
        checked_end(&memory);
    }
}

/* tokio#3228: the cores were shut down one after the other, and one waited, in block_in_place, for
 * a task of a later one to be dropped. The worst case: a task of the very core that is lent. */
static void known_wait_for_a_drop(void *arg) {
    sch_task *child = sch_spawn_with(NULL, &known_gate_desc, known_suspend, arg);
    YIELD_UNTIL(known_waits(child));
    sch_release(child);
    EXPECT_EQ(sch_block_in_place(support_gate_wait, arg), 0);
}

TEST(known_tokio_3228_blocked_until_a_task_is_dropped) {
    for (unsigned round = 0; round < 20; round++) {
        checked_memory memory;
        sch_config config = support_config(&memory, 1 + round % 3);
        support_gate gate[3] = {SUPPORT_GATE, SUPPORT_GATE, SUPPORT_GATE};
        sch_runtime *rt = support_begin(&config);
        for (int i = 0; i < 3; i++) EXPECT_EQ(sch_go(rt, known_wait_for_a_drop, &gate[i]), 0);
        for (int i = 0; i < 3; i++) WAIT_FOR(support_gate_waiters(&gate[i]) == 1);
        support_end(rt, &memory);
    }
}

/* tokio#6634, #6612, #5710 (timers; here what has a time today): a very long time was added to now
 * and came out in the past. */
static void known_late(void *arg) {
    support_nap(5000);
    support_count(arg);
}

TEST(known_tokio_6634_times_that_overflow) {
    const uint64_t times[] = {SCH_FOREVER, SCH_FOREVER - 1, UINT64_MAX / 2 + 1, INT64_MAX};
    for (unsigned i = 0; i < sizeof times / sizeof *times; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, 1);
        unsigned count = 0;
        config.keep_alive_ns = times[i];
        sch_runtime *rt = support_begin(&config);
        support_run(rt, known_nothing, NULL);
        EXPECT_EQ(sch_join(sch_spawn_blocking(rt, known_nothing, NULL)), 0);
        WAIT_FOR(support_metrics(rt).num_idle_blocking_threads == 1);
        support_nap(1000);
        EXPECT_EQ(support_metrics(rt).num_blocking_threads, 1); /* it is kept */
        sch_task *job = sch_spawn_blocking(rt, known_late, &count);
        WAIT_FOR(support_metrics(rt).num_idle_blocking_threads == 0);
        EXPECT_EQ(sch_runtime_shutdown(rt, times[i]), 0);
        EXPECT_EQ(sch_join(job), count ? 0 : -ECANCELED);
        support_end(rt, &memory);
    }
}

/* The blocking pool -----------------------------------------------------------------------------*/

/* tokio#8056, #8057: two jobs came at once, both counted on the one idle thread, and the second one
 * hung as long as the first. Each of the two here ends only if the other runs. */
typedef struct known_pair {
    sch_runtime *rt;
    unsigned inside;
} known_pair;

static void known_meet(void *arg) {
    known_pair *p = (known_pair *)arg;
    support_add(&p->inside, 1);
    while (support_get(&p->inside) % 2) sched_yield();
}

static void known_submit(void *arg, unsigned index) {
    known_pair *p = (known_pair *)arg;
    (void)index;
    EXPECT_EQ(sch_join(sch_spawn_blocking(p->rt, known_meet, p)), 0);
}

TEST(known_tokio_8056_two_jobs_need_two_threads) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    known_pair p;
    memset(&p, 0, sizeof p);
    config.max_blocking_threads = 2;
    config.keep_alive_ns = 100 * SCH_MICROSECOND;
    p.rt = support_begin(&config);
    for (size_t i = 0; i < test_scale(1000) + 20; i++) {
        crew_run(2, known_submit, &p);
        if (i % 2) support_nap((long)(test_random() % 150));
    }
    support_end(p.rt, &memory);
}

/* tokio#6439, #7910: the shutdown counted idle threads of the pool twice. #7922: a job that came at
 * the same moment had counted the thread off already. */
static void known_submit_on(void *arg, unsigned index) {
    known_pair *p = (known_pair *)arg;
    if (index == 0) {
        support_spin(test_random() % 50000);
        EXPECT_EQ(sch_runtime_shutdown(p->rt, SCH_FOREVER), 0);
        return;
    }
    for (;;) {
        sch_task *job = sch_spawn_blocking(p->rt, support_count, &p->inside);
        if (!job) break;
        sch_release(job);
    }
}

TEST(known_tokio_7910_pool_counts_after_shutdown) {
    for (size_t i = 0; i < test_scale(200) + 10; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, 1);
        sch_metrics_snapshot m;
        support_gate gate = SUPPORT_GATE;
        sch_task *job[3];
        known_pair p;
        memset(&p, 0, sizeof p);
        config.max_blocking_threads = 3;
        p.rt = support_begin(&config);
        for (int j = 0; j < 3; j++) job[j] = sch_spawn_blocking(p.rt, support_gate_wait, &gate);
        support_gate_open(&gate);
        for (int j = 0; j < 3; j++) EXPECT_EQ(sch_join(job[j]), 0);
        crew_run(2, known_submit_on, &p);
        m = support_metrics(p.rt);
        EXPECT_EQ(m.num_blocking_threads, 0);
        EXPECT_EQ(m.num_idle_blocking_threads, 0);
        EXPECT_EQ(m.blocking_queue_depth, 0);
        EXPECT_EQ(m.num_alive_tasks, 0);
        support_end(p.rt, &memory);
    }
}

/* Tasks -----------------------------------------------------------------------------------------*/

/* tokio#7622, #7632: a wake of a task that had been woken already changed nothing, and so released
 * nothing: the task ran for the first wake and did not see what came before the second. Only a
 * weaker machine, the model and ThreadSanitizer can tell: to the latter `data` is then a race. */
typedef struct known_second {
    sch_task task;
    unsigned data;       /* plain: before the second wake, after the run that is for it */
    unsigned sent, back; /* atomic; sent: relaxed, it must not be what orders data */
    unsigned rounds;
} known_second;

static void known_second_wake(void *arg, unsigned me) {
    known_second *s = (known_second *)arg;
    for (unsigned i = 1; i <= s->rounds; i++) {
        if (me == 0) {
            while (__atomic_load_n(&s->back, __ATOMIC_ACQUIRE) != i - 1) sched_yield();
            s->data = i;
            EXPECT(!schi_task_wake(&s->task)); /* the second one */
            __atomic_store_n(&s->sent, i, __ATOMIC_RELAXED);
        } else {
            while (__atomic_load_n(&s->sent, __ATOMIC_RELAXED) != i) sched_yield();
            EXPECT(schi_task_clear(&s->task, SCHI_WOKEN) & SCHI_WOKEN);
            EXPECT_EQ(s->data, i);
            EXPECT(!schi_task_wake(&s->task)); /* the first one, for the next round */
            __atomic_store_n(&s->back, i, __ATOMIC_RELEASE);
        }
    }
}

TEST(known_tokio_7622_second_wake_releases) {
    known_second s;
    memset(&s, 0, sizeof s);
    s.rounds = (unsigned)test_scale(20000) + 10;
    schi_store_seq(&s.task.state, SCHI_REF | SCHI_SCHEDULED | SCHI_WOKEN);
    crew_run(2, known_second_wake, &s);
}

/* tokio#4724, #6505, #6986: two tasks that join each other kept each other's memory for ever. */
typedef struct known_couple {
    sch_task *task[2];
    unsigned ended;
} known_couple;

static void known_join_other(known_couple *c, int other) {
    sch_task *task = sch_retain(c->task[other]);
    int result = sch_join(task);
    EXPECT(result == -EINTR || result == -ECANCELED);
    if (result == -EINTR) sch_release(task);
    support_add(&c->ended, 1);
}

static void known_join_0(void *arg) { known_join_other((known_couple *)arg, 0); }
static void known_join_1(void *arg) { known_join_other((known_couple *)arg, 1); }

/* Started by one who suspends first, so that both handles are there. */
static void known_couple_begin(void *arg) {
    known_couple *c = (known_couple *)arg;
    if (sch_suspend() == 0) known_join_1(c);
}

TEST(known_tokio_4724_tasks_that_join_each_other) {
    for (unsigned i = 0; i < 16; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, 1 + i % 3);
        known_couple c;
        sch_runtime *rt = support_begin(&config);
        memset(&c, 0, sizeof c);
        c.task[0] = sch_spawn(rt, known_couple_begin, &c);
        c.task[1] = sch_spawn(rt, known_join_0, &c);
        sch_wake(c.task[0]);
        for (int j = 0; j < 2; j++) {
            WAIT_FOR(schi_load_seq(&c.task[j]->state) & SCHI_JOIN_WAITER);
        }
        if (i % 2) EXPECT_EQ(sch_cancel(c.task[i / 2 % 2]), 0); /* else the shutdown ends both */
        if (i % 2) WAIT_FOR(support_get(&c.ended) == 2);
        for (int j = 0; j < 2; j++) sch_release(c.task[j]);
        support_end(rt, &memory);
        EXPECT_EQ(c.ended, 2);
    }
}

/* glommio#379: a waker was dropped right after it had woken the task, which had no other reference:
 * it was freed while it was queued. */
typedef struct known_waker {
    sch_task *task;
    unsigned *dropped;
} known_waker;

static sch_status known_ready_later(sch_task *self, void *state) {
    (void)self;
    return (*(unsigned **)state)[1]++ % 2 ? SCH_READY : SCH_PENDING;
}

static void known_drop_count(void *state) { support_count(*(unsigned **)state); }

static void known_wake_and_release(void *arg, unsigned index) {
    known_waker *w = (known_waker *)arg;
    if (index == 0) sch_wake(w->task);
    sch_release(w->task);
}

TEST(known_glommio_379_wake_then_release) {
    static const sch_spawn_desc desc = {"last reference", NULL, 0, 0, known_drop_count};
    checked_memory memory;
    sch_config config = support_config(&memory, 2);
    unsigned counts[2] = {0, 0}, *pointer = counts; /* dropped, polled */
    sch_runtime *rt = support_begin(&config);
    for (unsigned i = 1; i <= test_scale(1500) + 20; i++) {
        known_waker w;
        w.task = sch_spawn_poll_with(rt, &desc, known_ready_later, &pointer, sizeof pointer);
        WAIT_FOR(known_waits(w.task));
        (void)sch_retain(w.task); /* one for each */
        crew_run(2, known_wake_and_release, &w);
        WAIT_FOR(support_get(&counts[0]) == i);
        if (support_get(&counts[0]) != i) break;
    }
    WAIT_FOR(sch_num_alive_tasks(rt) == 0);
    EXPECT_EQ(counts[1], 2 * counts[0]);
    support_end(rt, &memory);
}

/* Stacks ----------------------------------------------------------------------------------------*/

/* eloqdoc#422: a coroutine unmapped the stack that it stood on. Here the memory of a stack of a
 * task's own is overwritten as soon as it is given back. */
typedef struct known_stacks {
    sch_task *task;
    unsigned rounds, sum;
} known_stacks;

static void known_on_own_stack(void *arg) {
    known_stacks *k = (known_stacks *)arg;
    volatile unsigned mine = 0;
    for (unsigned i = 0; i < k->rounds; i++) {
        EXPECT_EQ(sch_suspend(), 0);
        mine = mine + 1;
    }
    support_add(&k->sum, mine);
}

TEST(known_eloqdoc_422_stack_that_one_stands_on) {
    static const sch_spawn_desc desc = {"own stack", NULL, 0, 98304, NULL};
    for (unsigned workers = 1; workers <= 3; workers++) {
        checked_memory memory;
        sch_config config = support_config(&memory, workers);
        known_stacks k[4];
        sch_runtime *rt = support_begin(&config);
        memset(k, 0, sizeof k);
        for (size_t i = 0; i < test_scale(200) + 10; i++) {
            unsigned open = 0, sum = 0;
            for (unsigned j = 0; j < 4; j++) {
                k[j].rounds = j * 2;
                k[j].task = sch_spawn_with(rt, &desc, known_on_own_stack, &k[j]);
            }
            do { /* wake all of them, all the time */
                open = 0;
                for (int j = 0; j < 4; j++) {
                    sch_wake(k[j].task);
                    open += !sch_is_done(k[j].task);
                }
            } while (open > 0);
            for (int j = 0; j < 4; j++) {
                EXPECT_EQ(sch_join(k[j].task), 0);
                sum += k[j].sum;
            }
            EXPECT_EQ(sum, (i + 1) * (0 + 2 + 4 + 6));
        }
        support_end(rt, &memory);
    }
}

/* ruby#18354: after the switch away from a coroutine something was still written to it. What we may
 * not do: let another thread have the task before its context is saved. Two tasks on two threads
 * wake a third all the time, each to run it next. */
typedef struct known_saved {
    sch_task *task;
    unsigned inside, rounds, over; /* atomic */
} known_saved;

static void known_saved_waker(void *arg) {
    known_saved *k = (known_saved *)arg;
    support_add(&k->inside, 1);
    while (support_get(&k->inside) < 2) continue; /* one long poll: the other one runs elsewhere */
    while (!support_get(&k->over)) {
        sch_wake(k->task);
        EXPECT_EQ(sch_yield_now(), 0);
    }
    sch_wake(k->task);
}

static void known_saved_sleeper(void *arg) {
    known_saved *k = (known_saved *)arg;
    volatile unsigned mine = 0;
    for (unsigned i = 0; i < k->rounds; i++) {
        EXPECT_EQ(sch_suspend(), 0);
        mine = mine + 1;
    }
    EXPECT_EQ(mine, k->rounds);
    support_set(&k->over, 1);
}

TEST(known_ruby_18354_resumed_before_it_is_saved) {
    checked_memory memory;
    sch_config config = support_config(&memory, 2);
    sch_runtime *rt = support_begin(&config);
    sch_task *waker[2];
    known_saved k;
    memset(&k, 0, sizeof k);
    k.rounds = (unsigned)test_scale(300000);
    k.task = sch_spawn(rt, known_saved_sleeper, &k);
    for (int i = 0; i < 2; i++) waker[i] = sch_spawn(rt, known_saved_waker, &k);
    for (int i = 0; i < 2; i++) EXPECT_EQ(sch_join(waker[i]), 0);
    EXPECT_EQ(sch_join(k.task), 0);
    support_end(rt, &memory);
}

/* Memory ----------------------------------------------------------------------------------------*/

/* tokio#3564, #3477, #3550: each runtime that was made and dropped left some memory behind. */
static size_t known_resident(void) {
    unsigned long total = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    int n = file ? fscanf(file, "%lu %lu", &total, &resident) : 0;
    if (file) fclose(file);
    return n == 2 ? (size_t)resident * schi_page_size() : 0;
}

static void known_family(void *arg) {
    sch_task *task[8];
    for (int i = 0; i < 8; i++) task[i] = sch_spawn(NULL, known_suspend, NULL);
    EXPECT_EQ(sch_block_in_place(known_nothing, arg), 0);
    for (int i = 0; i < 8; i++) sch_release(task[i]);
}

static void known_cycles(size_t n) {
    for (size_t i = 0; i < n; i++) {
        sch_config config;
        memset(&config, 0, sizeof config);
        config.workers = 2;
        sch_runtime *rt = support_begin(&config);
        support_run(rt, known_family, NULL);
        EXPECT_EQ(sch_join(sch_spawn_blocking(rt, known_nothing, NULL)), 0);
        sch_runtime_free(rt);
    }
}

TEST(known_tokio_3564_memory_of_many_runtimes) {
    if (TEST_SANITIZED || test_slowdown > 1) SKIP("measures memory that tools keep");
    if (known_resident() == 0) SKIP("the system does not tell");
    known_cycles(100);
    size_t before = known_resident();
    known_cycles(1000);
    size_t after = known_resident();
    EXPECT(after < before + ((size_t)1 << 20)); /* a page that stays is four times that */
}
