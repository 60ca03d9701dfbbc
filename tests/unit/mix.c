/* mix.c - everything at once, on each number of workers: floods, joins, yields, poll tasks,
 * blocking calls that wait inside, blocking jobs, tasks that wake each other. Totals must come out
 * exact. */

typedef SCHI_ATOMIC(long) mix_count;

static mix_count mix_done;
static unsigned mix_inside_index;

static void mix_add(void *arg) {
    (void)arg;
    schi_add_seq(&mix_done, 1L);
}

static void mix_flood(void *arg) {
    for (size_t i = 0; i < *(size_t *)arg; i++) EXPECT_EQ(sch_go(NULL, mix_add, NULL), 0);
}

static void mix_joiner(void *arg) {
    sch_task *task[64];
    for (size_t i = 0; i < *(size_t *)arg; i++) {
        for (int j = 0; j < 64; j++) task[j] = sch_spawn(NULL, mix_add, NULL);
        for (int j = 0; j < 64; j++) EXPECT_EQ(sch_join(task[j]), 0);
    }
}

static void mix_yielder(void *arg) {
    for (size_t i = 0; i < *(size_t *)arg; i++) EXPECT_EQ(sch_yield_now(), 0);
    mix_add(NULL);
}

static sch_status mix_poll(sch_task *self, void *state) {
    int *polls = (int *)state;
    if (++*polls == 10) {
        mix_add(NULL);
        return SCH_READY;
    }
    if (*polls % 2) {
        EXPECT_EQ(sch_yield_now(), 0);
    } else {
        sch_wake(self);
    }
    return SCH_PENDING;
}

/* Inside a blocking call there is no core, but where the call is only a call. */
static void mix_inside(void *arg) {
    sch_task *task = sch_spawn(NULL, mix_add, NULL);
    EXPECT_EQ(sch_worker_index(), *(unsigned *)arg);
    EXPECT_EQ(sch_join(task), 0);
    EXPECT_EQ(sch_yield_now(), 0);
    EXPECT_EQ(sch_worker_index(), *(unsigned *)arg);
}

static void mix_nothing(void *arg) { (void)arg; }

static void mix_blocker(void *arg) {
    for (size_t i = 0; i < *(size_t *)arg; i++) {
        EXPECT_EQ(sch_block_in_place(mix_inside, &mix_inside_index), 0);
        EXPECT_EQ(sch_block_in_place(mix_nothing, NULL), 0);
        EXPECT(sch_worker_index() != UINT_MAX);
        if (i % 7 == 0) EXPECT_EQ(sch_yield_now(), 0);
    }
    mix_add(NULL);
}

typedef struct mix_player {
    sch_task *other;
    mix_count *turn;
    long me;
    size_t rounds;
} mix_player;

static void mix_play(void *arg) {
    mix_player *p = (mix_player *)arg;
    for (size_t i = 0; i < p->rounds; i++) {
        while (schi_load_seq(p->turn) != p->me) EXPECT_EQ(sch_suspend(), 0);
        schi_store_seq(p->turn, 1 - p->me);
        sch_wake(p->other);
    }
}

static void mix_players(void *arg) {
    mix_count turn;
    mix_player a, b;
    memset(&a, 0, sizeof a);
    schi_store_seq(&turn, 2L);
    a.turn = &turn, a.rounds = *(size_t *)arg;
    b = a;
    b.me = 1;
    b.other = sch_spawn(NULL, mix_play, &a);
    a.other = sch_spawn(NULL, mix_play, &b);
    schi_store_seq(&turn, 0L);
    sch_wake(b.other);
    sch_retain(a.other), sch_retain(b.other);
    EXPECT_EQ(sch_join(a.other), 0);
    EXPECT_EQ(sch_join(b.other), 0);
    sch_release(a.other), sch_release(b.other);
    mix_add(NULL);
}

/* n tasks of one kind at the same time; `expected` is what they add. */
static void mix_many(sch_runtime *rt, int n, sch_fn fn, size_t amount, long expected) {
    sch_task *task[64];
    schi_store_seq(&mix_done, 0L);
    for (int i = 0; i < n; i++) task[i] = sch_spawn(rt, fn, &amount);
    for (int i = 0; i < n; i++) EXPECT_EQ(sch_join(task[i]), 0);
    while (schi_load_seq(&mix_done) < expected) sch_yield_now(); /* detached ones */
    EXPECT_EQ(schi_load_seq(&mix_done), expected);
}

static void mix_all(void *arg) {
    sch_runtime *rt = (sch_runtime *)arg;
    size_t n = test_scale(100) + 10;
    sch_task *task[64];
    int zero = 0;
    mix_many(rt, 1, mix_flood, 100 * n, (long)(100 * n));
    mix_many(rt, 4, mix_joiner, n, (long)(4 * 64 * n));
    mix_many(rt, 50, mix_yielder, n, 50);
    mix_many(rt, 20, mix_blocker, n / 2, (long)(20 * (n / 2 + 1)));
    mix_many(rt, 4, mix_players, 5 * n, 4);
    schi_store_seq(&mix_done, 0L);
    for (int i = 0; i < 64; i++) {
        task[i] = i % 2 ? sch_spawn_poll(rt, mix_poll, &zero, sizeof zero)
                        : sch_spawn_blocking(rt, mix_add, NULL);
    }
    for (int i = 0; i < 64; i++) EXPECT_EQ(sch_join(task[i]), 0);
    EXPECT_EQ(schi_load_seq(&mix_done), 64);
    while (sch_num_alive_tasks(rt) > 0) sch_yield_now(); /* who has told may still be ending */
}

static void mix_run(unsigned workers, bool lifo, bool standby) {
    sch_config config;
    sch_runtime *rt;
    memset(&config, 0, sizeof config);
    config.workers = workers;
    config.flavor = workers == 0 ? SCH_CURRENT_THREAD : SCH_MULTI_THREAD;
    config.no_lifo = !lifo;
    config.no_standby = !standby;
    mix_inside_index = workers == 0 ? 0 : UINT_MAX;
    config.seed = test_random();
    rt = sch_runtime_new(&config);
    if (!EXPECT(rt != NULL)) return;
    EXPECT_EQ(sch_block_on(rt, mix_all, rt), 0);
    sch_runtime_free(rt);
}

TEST(mix_current_thread) { mix_run(0, true, true); }
TEST(mix_1_worker) { mix_run(1, true, true); }
TEST(mix_2_workers) { mix_run(2, true, true); }
TEST(mix_3_workers_no_lifo) { mix_run(3, false, true); }
TEST(mix_4_workers_no_standby) { mix_run(4, true, false); }
TEST(mix_9_workers) { mix_run(9, true, true); }
