/* badinput.c - [13] [18]: whatever a caller can get wrong gives the documented error, has no effect
 * and prints nothing. What only asserts can find (a handle released too often) is not here. */
#include "support.h"

static unsigned badinput_ran, badinput_dropped;

static void badinput_run(void *arg) {
    (void)arg;
    support_add(&badinput_ran, 1);
}

static void badinput_drop(void *arg) {
    (void)arg;
    support_add(&badinput_dropped, 1);
}

static sch_status badinput_poll(sch_task *self, void *state) {
    (void)self, (void)state;
    support_add(&badinput_ran, 1);
    return SCH_READY;
}

/* Configuration ---------------------------------------------------------------------------------*/

static void *badinput_alloc(size_t size, size_t align, void *user) {
    (void)size, (void)align, (void)user;
    return NULL;
}

static void badinput_free(void *memory, size_t size, size_t align, void *user) {
    (void)memory, (void)size, (void)align, (void)user;
}

static void *badinput_map(size_t size, void *user) {
    (void)size, (void)user;
    return NULL;
}

static void badinput_unmap(void *memory, size_t size, void *user) {
    (void)memory, (void)size, (void)user;
}

/* This configuration is refused because of that field. */
static void badinput_config(const sch_config *config, const char *field) {
    const char *named = sch_config_error(config);
    errno = 0;
    EXPECT(sch_runtime_new(config) == NULL);
    EXPECT_EQ(errno, EINVAL);
    if (EXPECT(named != NULL) && strcmp(named, field) != 0) {
        test_fail(__FILE__, __LINE__, "sch_config_error names %s instead of %s", named, field);
    }
}

/* Refused with `bad`; good enough for sch_config_error with `good`. */
#define BADINPUT_FIELD(field, bad, good)      \
    do {                                      \
        memset(&c, 0, sizeof c);              \
        c.field = (bad);                      \
        badinput_config(&c, #field);          \
        c.field = (good);                     \
        EXPECT(sch_config_error(&c) == NULL); \
    } while (0)

static void badinput_test_config_fields(void) {
    static const unsigned cpus[] = {0};
    const size_t giga = (size_t)1 << 30;
    sch_config c;
    EXPECT(sch_config_error(NULL) == NULL);
    BADINPUT_FIELD(canary_begin, 1, 0);
    BADINPUT_FIELD(canary_end, UINT32_MAX, 0);
    BADINPUT_FIELD(flavor, (sch_flavor)2, SCH_CURRENT_THREAD);
    BADINPUT_FIELD(workers, SCH_MAX_WORKERS + 1, SCH_MAX_WORKERS);
    BADINPUT_FIELD(workers, UINT_MAX, 1);
    BADINPUT_FIELD(max_blocking_threads, 65536, 65535);
    BADINPUT_FIELD(max_blocking_threads, UINT_MAX, 1);
    BADINPUT_FIELD(stack_size, 16383, 16384);
    BADINPUT_FIELD(stack_size, giga + 1, giga);
    BADINPUT_FIELD(stack_size, 1, 0);
    BADINPUT_FIELD(stack_size, SIZE_MAX, 0);
    BADINPUT_FIELD(global_queue_interval, 65536, 65535);
    BADINPUT_FIELD(event_interval, 65536, 65535);
    BADINPUT_FIELD(standby_period_ns, 99 * SCH_MICROSECOND, 100 * SCH_MICROSECOND);
    BADINPUT_FIELD(standby_period_ns, 10 * SCH_SECOND + 1, 10 * SCH_SECOND);
    BADINPUT_FIELD(thread_stack_size, 65535, 65536);
    BADINPUT_FIELD(thread_stack_size, SIZE_MAX, 0);

    /* Fields that belong together. */
    memset(&c, 0, sizeof c);
    c.flavor = SCH_CURRENT_THREAD, c.workers = 2;
    badinput_config(&c, "workers");
    memset(&c, 0, sizeof c);
    c.num_cpus = 1;
    badinput_config(&c, "cpus");
    memset(&c, 0, sizeof c);
    c.cpus = cpus;
    badinput_config(&c, "num_cpus");
    c.num_cpus = 65536;
    badinput_config(&c, "num_cpus");
    memset(&c, 0, sizeof c);
    c.allocator.alloc = badinput_alloc;
    badinput_config(&c, "allocator");
    memset(&c, 0, sizeof c);
    c.allocator.free = badinput_free;
    badinput_config(&c, "allocator");
    memset(&c, 0, sizeof c);
    c.allocator.map_pages = badinput_map;
    badinput_config(&c, "allocator");
    memset(&c, 0, sizeof c);
    c.allocator.unmap_pages = badinput_unmap;
    badinput_config(&c, "allocator");
}

/* An uninitialised structure, another version of the header, memory that is refused. */
static void badinput_test_runtime_new(void) {
    sch_config c;
    sch_runtime *rt;
    memset(&c, 0xa5, sizeof c);
    badinput_config(&c, "canary_begin");

    memset(&c, 0, sizeof c);
    c.workers = 1;
    const size_t sizes[] = {0, 1, sizeof c - 1, sizeof c + 1, SIZE_MAX};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        errno = 0;
        EXPECT(sch_runtime_new_sized(&c, sizes[i], SCH_VERSION) == NULL);
        EXPECT_EQ(errno, EINVAL);
        errno = 0;
        EXPECT(sch_runtime_new_sized(NULL, sizes[i], SCH_VERSION) == NULL);
        EXPECT_EQ(errno, EINVAL);
    }
    const unsigned versions[] = {SCH_VERSION + 10000u, UINT_MAX};
    for (unsigned i = 0; i < sizeof versions / sizeof *versions; i++) {
        errno = 0;
        EXPECT(sch_runtime_new_sized(&c, sizeof c, versions[i]) == NULL);
        EXPECT_EQ(errno, EINVAL);
    }
    c.allocator.alloc = badinput_alloc, c.allocator.free = badinput_free;
    errno = 0;
    EXPECT(sch_runtime_new(&c) == NULL);
    EXPECT_EQ(errno, ENOMEM);

    /* A CPU that is not there. */
    const unsigned no_cpu[] = {4095};
    memset(&c, 0, sizeof c);
    c.workers = 1, c.pin_workers = true, c.cpus = no_cpu, c.num_cpus = 1;
    errno = 0;
    EXPECT(sch_runtime_new(&c) == NULL);
    EXPECT(errno == EINVAL || errno == ENOTSUP);

    rt = sch_runtime_new_sized(NULL, sizeof c, SCH_VERSION);
    EXPECT(rt != NULL);
    sch_runtime_free(rt);
    sch_runtime_free(NULL);
}

/* Every function: NULL, and something that is no runtime ----------------------------------------*/

/* May pass for the record of a runtime that was freed. */
static uint64_t badinput_zeros[64] __attribute__((aligned(128)));

static void badinput_runtime(sch_runtime *rt) {
    sch_metrics_snapshot m;
    sch_worker_metrics_snapshot w;
    sch_straggler s[1];
    EXPECT_EQ(sch_runtime_shutdown(rt, 0), -EINVAL);
    EXPECT_EQ(sch_runtime_shutdown(rt, SCH_FOREVER), -EINVAL);
    sch_runtime_free(rt);
    EXPECT_EQ(sch_stragglers(rt, NULL, 0), 0);
    EXPECT_EQ(sch_stragglers(rt, s, 1), 0);
    EXPECT_EQ(sch_block_on(rt, badinput_run, NULL), -EINVAL);
    EXPECT_EQ(sch_num_workers(rt), 0);
    EXPECT_EQ(sch_metrics(rt, &m), -EINVAL);
    EXPECT_EQ(sch_worker_metrics(rt, 0, &w), -EINVAL);
    EXPECT_EQ(sch_num_alive_tasks(rt), 0);
    EXPECT_EQ(sch_injection_queue_depth(rt), 0);
}

/* A spawn that is refused: the argument is dropped all the same, once. */
static void badinput_refused(const sch_task *task, int error, bool drops) {
    EXPECT(task == NULL);
    EXPECT_EQ(sch_errno(), error);
    EXPECT_EQ(support_get(&badinput_dropped), drops);
    support_set(&badinput_dropped, 0);
    errno = 0;
}

static void badinput_spawns(sch_runtime *rt, int error, sch_fn fn, sch_poll_fn poll, size_t stack,
                            size_t size) {
    const sch_spawn_desc desc = {"bad", SCH_HERE, stack, badinput_drop};
    static char state[SCH_TASK_STATE_MAX + 1];
    errno = 0;
    if (stack == 0) {
        badinput_refused(sch_spawn(rt, fn, NULL), error, false);
        badinput_refused(sch_spawn_blocking(rt, fn, NULL), error, false);
        EXPECT_EQ(sch_go(rt, fn, NULL), -error);
        badinput_refused(sch_spawn_poll(rt, poll, state, size), error, false);
    }
    badinput_refused(sch_spawn_with(rt, &desc, fn, NULL), error, true);
    badinput_refused(sch_spawn_blocking_with(rt, &desc, fn, NULL), error, true);
    badinput_refused(sch_spawn_poll_with(rt, &desc, poll, state, size), error, true);
    EXPECT_EQ(sch_go_with(rt, &desc, fn, NULL), -error);
    EXPECT_EQ(support_get(&badinput_dropped), 1);
    support_set(&badinput_dropped, 0);
}

static void badinput_test_no_runtime(void) {
    badinput_ran = badinput_dropped = 0;
    badinput_runtime(NULL);
    badinput_runtime((sch_runtime *)(void *)badinput_zeros);
    badinput_spawns(NULL, EINVAL, badinput_run, badinput_poll, 0, 8);
    badinput_spawns((sch_runtime *)(void *)badinput_zeros, EINVAL, badinput_run, badinput_poll, 0,
                    8);
    EXPECT_EQ(badinput_ran, 0);
}

static void badinput_test_no_task(void) {
    EXPECT_EQ(sch_join(NULL), -EINVAL);
    EXPECT_EQ(sch_cancel(NULL), -EINVAL);
    EXPECT(sch_is_done(NULL));
    EXPECT(sch_retain(NULL) == NULL);
    EXPECT(sch_task_state(NULL) == NULL);
    EXPECT_EQ(strcmp(sch_task_name(NULL), ""), 0);
    sch_release(NULL);
    sch_detach(NULL);
    sch_wake(NULL);
    sch_wake_signal(NULL);
}

/* On a plain thread, outside of everything. */
static void badinput_test_outside_of_a_task(void) {
    badinput_ran = 0;
    EXPECT(sch_self() == NULL);
    EXPECT_EQ(sch_worker_index(), UINT_MAX);
    EXPECT(!sch_cancelled());
    EXPECT_EQ(sch_suspend(), -EPERM);
    EXPECT_EQ(sch_shield_begin(SCH_FOREVER), -EPERM);
    sch_shield_end();
    EXPECT_EQ(sch_yield_now(), 0);
    EXPECT_EQ(sch_block_in_place(NULL, NULL), -EINVAL);
    EXPECT_EQ(sch_block_in_place(badinput_run, NULL), 0); /* only a call here */
    EXPECT_EQ(badinput_ran, 1);
}

/* With a runtime that is all right --------------------------------------------------------------*/

static void badinput_in_task(void *arg) {
    sch_task *other = (sch_task *)arg;
    EXPECT_EQ(sch_shield_begin(0), 0); /* a time that has passed: no shield */
    sch_shield_end();
    EXPECT_EQ(sch_block_in_place(NULL, NULL), -EINVAL);
    EXPECT(sch_task_state(sch_self()) == NULL); /* no poll task */
    EXPECT_EQ(sch_join(sch_self()), -EDEADLK);
    EXPECT_EQ(sch_join(NULL), -EINVAL);
    EXPECT_EQ(sch_spawn(NULL, NULL, NULL) == NULL ? sch_errno() : 0, EINVAL);
    EXPECT(!sch_is_done(other));
}

static sch_status badinput_in_poll(sch_task *self, void *state) {
    sch_task *other = *(sch_task **)state;
    EXPECT_EQ(sch_suspend(), -EPERM);
    EXPECT_EQ(sch_shield_begin(SCH_FOREVER), -EPERM);
    EXPECT_EQ(sch_join(other), -EPERM);
    EXPECT_EQ(sch_join(self), -EDEADLK);
    EXPECT(sch_task_state(self) == state);
    EXPECT(!sch_cancelled());
    return SCH_READY;
}

static void badinput_wait(void *arg) {
    (void)arg;
    EXPECT_EQ(sch_suspend(), 0);
}

static void badinput_test_good_runtime(void) {
    for (unsigned workers = 0; workers <= 2; workers += 2) {
        checked_memory memory;
        sch_config config = support_config(&memory, workers);
            sch_worker_metrics_snapshot w;
        sch_task *waiting, *poll;
        badinput_ran = badinput_dropped = 0;
        sch_runtime *rt = support_begin(&config);
        const unsigned cores = (unsigned)sch_num_workers(rt);
        badinput_spawns(rt, EINVAL, NULL, NULL, 0, 8);
        badinput_spawns(rt, EINVAL, badinput_run, badinput_poll, 16383, 8);
        badinput_spawns(rt, EINVAL, badinput_run, badinput_poll, ((size_t)1 << 30) + 1, 8);
        errno = 0;
        badinput_refused(sch_spawn_poll(rt, badinput_poll, NULL, SCH_TASK_STATE_MAX + 1), EINVAL,
                         false);
        badinput_refused(sch_spawn_poll(rt, badinput_poll, NULL, SIZE_MAX), EINVAL, false);
        EXPECT_EQ(sch_block_on(rt, NULL, NULL), -EINVAL);
        EXPECT_EQ(sch_metrics(rt, NULL), -EINVAL);
        EXPECT_EQ(sch_worker_metrics(rt, 0, NULL), -EINVAL);
        EXPECT_EQ(sch_worker_metrics(rt, cores, &w), -EINVAL);
        EXPECT_EQ(sch_worker_metrics(rt, UINT_MAX, &w), -EINVAL);
        EXPECT_EQ(sch_worker_metrics(rt, cores - 1, &w), 0);
        EXPECT_EQ(sch_stragglers(rt, NULL, 5), 0);
        EXPECT_EQ(badinput_ran, 0);
        EXPECT_EQ(sch_num_alive_tasks(rt), 0);

        waiting = sch_spawn(rt, badinput_wait, NULL);
        support_run(rt, badinput_in_task, waiting);
        EXPECT_EQ(sch_join(sch_spawn_blocking(rt, badinput_in_task, waiting)), 0);
        EXPECT_EQ(sch_join(sch_spawn_poll(rt, badinput_in_poll, &waiting, sizeof waiting)), 0);
        EXPECT(sch_task_state(waiting) == NULL);
        EXPECT_EQ(strcmp(sch_task_name(waiting), ""), 0);
        sch_wake(waiting);
        EXPECT_EQ(sch_join(waiting), 0);
        poll = sch_spawn_poll(rt, badinput_poll, NULL, 0); /* no state is a state */
        EXPECT(sch_task_state(poll) != NULL);
        EXPECT_EQ(sch_join(poll), 0);
        poll = sch_spawn_poll(rt, badinput_poll, NULL, SCH_TASK_STATE_MAX);
        EXPECT_EQ(sch_join(poll), 0);
        EXPECT_EQ(badinput_ran, 2);
        support_end(rt, &memory);
    }
}

/* What sch_strerror says: something for everything that is documented, and for anything else. */
static void badinput_test_strerror(void) {
    const int errors[] = {EPERM, EINTR, EAGAIN, ENOMEM, EBUSY, EINVAL, ENFILE, EMFILE, EDEADLK,
                          ETIMEDOUT, ENOTSUP, ESRCH, ECANCELED, EINPROGRESS, ESHUTDOWN};
    const char *unknown = sch_strerror(-100000);
    EXPECT(unknown != NULL && *unknown);
    for (unsigned i = 0; i < sizeof errors / sizeof *errors; i++) {
        const char *text = sch_strerror(-errors[i]);
        EXPECT(text == sch_strerror(errors[i]));
        EXPECT(strcmp(text, unknown) != 0);
        for (unsigned j = 0; j < i; j++) EXPECT(strcmp(text, sch_strerror(errors[j])) != 0);
    }
    EXPECT(strcmp(sch_strerror(0), unknown) != 0);
    EXPECT(sch_strerror(INT_MIN) != NULL);
}

TEST(badinput_config_fields) { badinput_test_config_fields(); }
TEST(badinput_runtime_new) { badinput_test_runtime_new(); }
TEST(badinput_no_runtime) { badinput_test_no_runtime(); }
TEST(badinput_no_task) { badinput_test_no_task(); }
TEST(badinput_outside_of_a_task) { badinput_test_outside_of_a_task(); }
TEST(badinput_good_runtime) { badinput_test_good_runtime(); }
TEST(badinput_strerror) { badinput_test_strerror(); }

/* All of it once more, while both streams go to a file. */
TEST(badinput_prints_nothing) {
    void (*const tests[])(void) = {
        badinput_test_config_fields, badinput_test_runtime_new, badinput_test_no_runtime,
        badinput_test_no_task, badinput_test_outside_of_a_task, badinput_test_good_runtime,
        badinput_test_strerror,
    };
    FILE *file = tmpfile();
    char text[256];
    int streams[2];
    size_t n;
    if (!file) SKIP("no temporary file");
    fflush(stdout);
    for (int i = 0; i < 2; i++) {
        streams[i] = dup(i + 1);
        dup2(fileno(file), i + 1);
    }
    for (unsigned i = 0; i < sizeof tests / sizeof *tests; i++) tests[i]();
    fflush(stdout);
    for (int i = 0; i < 2; i++) {
        dup2(streams[i], i + 1);
        close(streams[i]);
    }
    rewind(file);
    n = fread(text, 1, sizeof text - 1, file);
    text[n] = 0;
    if (!EXPECT_EQ(n, 0)) fputs(text, stderr); /* also the failures in between */
    fclose(file);
}
