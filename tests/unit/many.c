/* many.c - a million tasks at once, counted in the allocator's bytes, and a flood through the
 * ring's overflow with thieves around. */

static SCHI_ATOMIC(uint64_t) many_polled;

static sch_status many_wait(sch_task *self, void *state) {
    (void)self, (void)state;
    schi_add_seq(&many_polled, UINT64_C(1));
    return SCH_PENDING; /* until the runtime drops it */
}

static void many_never(void *arg) { (void)arg; }

typedef struct many_bytes {
    SCHI_ATOMIC(uint64_t) now, mapped;
} many_bytes;

static void *many_alloc(size_t size, size_t align, void *user) {
    void *memory = schi_libc_alloc(size, align, NULL);
    if (memory) schi_add_seq(&((many_bytes *)user)->now, (uint64_t)size);
    return memory;
}

static void many_free(void *memory, size_t size, size_t align, void *user) {
    schi_sub_seq(&((many_bytes *)user)->now, (uint64_t)size);
    schi_libc_free(memory, size, align, NULL);
}

static void *many_map(size_t size, void *user) {
    schi_add_seq(&((many_bytes *)user)->mapped, (uint64_t)size);
    return schi_map_pages(size, NULL);
}

static void many_unmap(void *memory, size_t size, void *user) {
    schi_sub_seq(&((many_bytes *)user)->mapped, (uint64_t)size);
    schi_unmap_pages(memory, size, NULL);
}

/* Spawn n tasks that stay, and give the bytes that each took. */
static double many_bytes_each(sch_config *config, size_t n, size_t state_size, bool poll) {
    many_bytes bytes;
    sch_runtime *rt;
    sch_metrics_snapshot m;
    char state[64] = {0};
    uint64_t before, after;
    memset(&bytes, 0, sizeof bytes);
    schi_store_seq(&many_polled, UINT64_C(0));
    config->allocator.alloc = many_alloc, config->allocator.free = many_free;
    config->allocator.map_pages = many_map, config->allocator.unmap_pages = many_unmap;
    config->allocator.user = &bytes;
    rt = sch_runtime_new(config);
    if (!EXPECT(rt != NULL)) return 0;
    before = schi_load_seq(&bytes.now);
    for (size_t i = 0; i < n; i++) {
        if (poll) {
            sch_task *task = sch_spawn_poll(rt, many_wait, state, state_size);
            if (!EXPECT(task != NULL)) break;
            sch_detach(task);
        } else if (!EXPECT_EQ(sch_go(rt, many_never, NULL), 0)) {
            break;
        }
    }
    if (poll) {
        while (schi_load_seq(&many_polled) < n) sch_yield_now();
    }
    EXPECT_EQ(sch_num_alive_tasks(rt), n);
    after = schi_load_seq(&bytes.now);
    EXPECT_EQ(sch_metrics(rt, &m), 0);
    if (!poll) EXPECT_EQ(m.stack_count, 0); /* no stack before it runs */
    sch_runtime_free(rt);
    EXPECT_EQ(schi_load_seq(&bytes.now), 0);
    EXPECT_EQ(schi_load_seq(&bytes.mapped), 0);
    return (double)(after - before) / (double)n;
}

TEST(many_poll_tasks_wait) {
    sch_config config;
    double each;
    size_t n = test_scale(1000000);
    memset(&config, 0, sizeof config);
    config.workers = 2;
    each = many_bytes_each(&config, n, 0, true);
    if (n >= 100000) EXPECT(each < 64 * 1.01 + 1);
    memset(&config, 0, sizeof config);
    config.workers = 2;
    each = many_bytes_each(&config, n, 32, true);
    if (n >= 100000) EXPECT(each < 96 * 1.01 + 1);
}

TEST(many_tasks_never_started) {
    sch_config config;
    double each;
    size_t n = test_scale(1000000);
    memset(&config, 0, sizeof config);
    config.flavor = SCH_CURRENT_THREAD; /* nobody runs them */
    each = many_bytes_each(&config, n, 0, false);
    if (n >= 100000) EXPECT(each < 64 * 1.01 + 1);
}

/* Every task of a flood runs exactly once, whatever way it takes: ring, overflow, theft. */
static unsigned char *many_runs;

static void many_mark(void *arg) {
    __atomic_fetch_add((unsigned char *)arg, 1, __ATOMIC_RELAXED);
}

static void many_flood(void *arg) {
    for (size_t i = 0; i < *(size_t *)arg; i++)
        EXPECT_EQ(sch_go(NULL, many_mark, many_runs + i), 0);
}

TEST(many_overflow_with_thieves) {
    for (unsigned workers = 1; workers <= 8; workers *= 2) {
        size_t n = test_scale(200000) + 1000, wrong = 0;
        sch_config config;
        sch_metrics_snapshot m;
        sch_runtime *rt;
        memset(&config, 0, sizeof config);
        config.workers = workers;
        config.seed = test_random();
        many_runs = (unsigned char *)calloc(n, 1);
        rt = sch_runtime_new(&config);
        if (!EXPECT(rt != NULL && many_runs != NULL)) return;
        EXPECT_EQ(sch_join(sch_spawn(rt, many_flood, &n)), 0);
        while (sch_num_alive_tasks(rt) > 0) sch_yield_now();
        for (size_t i = 0; i < n; i++) {
            wrong += __atomic_load_n(many_runs + i, __ATOMIC_RELAXED) != 1;
        }
        EXPECT_EQ(wrong, 0);
        EXPECT_EQ(sch_metrics(rt, &m), 0);
        if (workers == 1) EXPECT(m.total.overflow_count > 0); /* thieves may keep up with it */
        EXPECT_EQ(m.total.poll_count, n + 1);
        sch_runtime_free(rt);
        free(many_runs);
    }
}
