/* misuse.c - [18] and what it calls: preconditions whose breach is not an error code but an
 * assertion (SCH_DEBUG 1), or has no effect. Bad arguments are in badinput.c, waits where none is
 * allowed in hooks.c. What no check can find is listed in docs/reliability.md. */
#include "support.h"

static void misuse_nothing(void *arg) { (void)arg; }

static void misuse_suspend(void *arg) {
    (void)arg;
    while (sch_suspend() == 0) continue;
}

/* Assertions ------------------------------------------------------------------------------------
 * Each breach happens in a process of its own, in a runtime without threads. With threads, for
 * jobs: tests/process/exit.c. */

typedef enum misuse_kind {
    MISUSE_NONE, /* the same without the breach comes to its end */
    MISUSE_RELEASE_TWICE,
    MISUSE_RELEASE_AFTER_JOIN,
    MISUSE_DETACH_AFTER_RELEASE,
    MISUSE_SHIELD_END,
    MISUSE_SHIELD_LEFT,
    MISUSE_RETAIN_RELEASED,
    MISUSE_WAKE_RELEASED,
    MISUSE_WAKE_SIGNAL_RELEASED,
    MISUSE_CANCEL_RELEASED,
    MISUSE_JOIN_RELEASED,
    MISUSE_ASK_RELEASED,
    MISUSE_STATE_RELEASED,
    MISUSE_NAME_RELEASED,
    MISUSE_POLL_RESULT,
    MISUSE_ALLOC_ALIGNMENT,
    MISUSE_MAP_ALIGNMENT,
    MISUSE_FORK_IN_HOOK,
    MISUSE_FORK_IN_DROP,
    MISUSE_KINDS
} misuse_kind;

static void misuse_shield_end(void *arg) {
    (void)arg;
    EXPECT_EQ(sch_shield_begin(SCH_FOREVER), 0);
    sch_shield_end();
    sch_shield_end();
}

static void misuse_shield_left(void *arg) {
    (void)arg;
    EXPECT_EQ(sch_shield_begin(SCH_FOREVER), 0);
}

static sch_status misuse_poll(sch_task *self, void *state) {
    (void)self;
    return *(bool *)state ? (sch_status)2 : SCH_READY;
}

/* Memory that is not aligned as it should be, though it is when it matters to the libc. */
static void *misuse_alloc(size_t size, size_t align, void *user) {
    char *memory = (char *)schi_libc_alloc(size + align, align, user);
    return memory && align > 16 ? memory + align / 2 : memory;
}

static void misuse_free(void *memory, size_t size, size_t align, void *user) {
    (void)memory, (void)size, (void)align, (void)user; /* the process ends soon */
}

static void *misuse_map(size_t size, void *user) {
    char *memory = (char *)schi_map_pages(size + schi_page_size(), user);
    return memory ? memory + 64 : NULL;
}

static void misuse_unmap(void *memory, size_t size, void *user) {
    (void)memory, (void)size, (void)user;
}

/* In a hook, or as a drop function. The child goes on; the parent ends as it does. */
static void misuse_fork(void *arg) {
    int status = 0;
    pid_t child;
    (void)arg;
    child = fork();
    if (child == 0) return;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    if (WIFSIGNALED(status)) raise(WTERMSIG(status));
    _exit(WEXITSTATUS(status));
}

static void misuse_fork_hook(void *user, sch_task *task) {
    (void)task;
    misuse_fork(user);
}

static void misuse_released(misuse_kind kind, sch_task *task) {
    switch (kind) {
    case MISUSE_RELEASE_TWICE: sch_release(task); break;
    case MISUSE_DETACH_AFTER_RELEASE: sch_detach(task); break;
    case MISUSE_RETAIN_RELEASED: (void)sch_retain(task); break;
    case MISUSE_WAKE_RELEASED: sch_wake(task); break;
    case MISUSE_WAKE_SIGNAL_RELEASED: sch_wake_signal(task); break;
    case MISUSE_CANCEL_RELEASED: (void)sch_cancel(task); break;
    case MISUSE_JOIN_RELEASED: (void)sch_join(task); break;
    case MISUSE_ASK_RELEASED: (void)sch_is_done(task); break;
    case MISUSE_STATE_RELEASED: (void)sch_task_state(task); break;
    case MISUSE_NAME_RELEASED: (void)sch_task_name(task); break;
    default: break;
    }
}

static void misuse_do(void *arg) {
    static const sch_spawn_desc fork_desc = {"forks", NULL, 0, 0, misuse_fork};
    const misuse_kind kind = *(misuse_kind *)arg;
    bool wrong = kind == MISUSE_POLL_RESULT;
    sch_config config;
    sch_runtime *rt;
    sch_task *task, *poll;
    alarm(10); /* a breach that is not noticed may hang */
    memset(&config, 0, sizeof config);
    config.flavor = SCH_CURRENT_THREAD;
    if (kind == MISUSE_ALLOC_ALIGNMENT) {
        config.allocator.alloc = misuse_alloc, config.allocator.free = misuse_free;
    }
    if (kind == MISUSE_MAP_ALIGNMENT) {
        config.allocator.map_pages = misuse_map, config.allocator.unmap_pages = misuse_unmap;
    }
    if (kind == MISUSE_FORK_IN_HOOK) config.hooks.on_task_spawn = misuse_fork_hook;
    rt = sch_runtime_new(&config);
    if (!rt) _exit(1);
    task = sch_spawn(rt, misuse_nothing, NULL);
    poll = sch_spawn_poll(rt, misuse_poll, &wrong, sizeof wrong);
    if (sch_join(poll) != 0 || !sch_is_done(task)) _exit(1);
    if (kind == MISUSE_RELEASE_AFTER_JOIN) {
        if (sch_join(task) != 0) _exit(1);
        sch_release(task);
    } else {
        sch_release(task); /* the last reference */
        misuse_released(kind, task);
    }
    if (kind == MISUSE_SHIELD_END) (void)sch_join(sch_spawn(rt, misuse_shield_end, NULL));
    if (kind == MISUSE_SHIELD_LEFT) (void)sch_join(sch_spawn(rt, misuse_shield_left, NULL));
    if (kind == MISUSE_FORK_IN_DROP) {
        (void)sch_join(sch_spawn_with(rt, &fork_desc, misuse_nothing, NULL));
    }
    sch_runtime_free(rt);
}

static void misuse_asserts(misuse_kind from, misuse_kind to) {
    for (int kind = (int)from; kind <= (int)to; kind++) {
        misuse_kind one = (misuse_kind)kind;
        int number = support_signal_of(misuse_do, &one);
        if (!EXPECT_EQ(number, kind == MISUSE_NONE ? 0 : SIGABRT)) {
            fprintf(stderr, "  kind %d\n", kind);
        }
    }
}

TEST(misuse_of_references_asserts) { misuse_asserts(MISUSE_NONE, MISUSE_DETACH_AFTER_RELEASE); }
TEST(misuse_of_shields_asserts) { misuse_asserts(MISUSE_SHIELD_END, MISUSE_SHIELD_LEFT); }
TEST(misuse_of_released_handles_asserts) {
    misuse_asserts(MISUSE_RETAIN_RELEASED, MISUSE_NAME_RELEASED);
}
TEST(misuse_of_callbacks_asserts) { misuse_asserts(MISUSE_POLL_RESULT, MISUSE_FORK_IN_DROP); }

/* A shield's end where there is no task does nothing. */
static void misuse_shield_nowhere(void *arg) {
    (void)arg;
    EXPECT_EQ(sch_shield_begin(SCH_FOREVER), -EPERM);
    sch_shield_end();
}

TEST(misuse_shield_end_outside) {
    sch_runtime *rt = support_begin(NULL);
    sch_shield_end();
    EXPECT_EQ(sch_block_on(rt, misuse_shield_nowhere, NULL), 0);
    sch_runtime_free(rt);
}

/* A runtime that was freed ----------------------------------------------------------------------
 * As long as its memory is still there, whatever is asked of it is refused. */

typedef struct misuse_hoard {
    char *blocks[256]; /* freed by the test's end; of one thread, the runtime has no other */
    unsigned n;
} misuse_hoard;

static void *misuse_hoard_alloc(size_t size, size_t align, void *user) {
    (void)user;
    return aligned_alloc(align < 16 ? 16 : align, schi_round_up(size, align < 16 ? 16 : align));
}

static void misuse_hoard_free(void *memory, size_t size, size_t align, void *user) {
    misuse_hoard *h = (misuse_hoard *)user;
    (void)size, (void)align;
    if (EXPECT(h->n < 256)) h->blocks[h->n++] = (char *)memory;
}

TEST(misuse_of_a_freed_runtime) {
    misuse_hoard hoard;
    sch_config config;
    sch_runtime *rt;
    sch_metrics_snapshot m;
    unsigned n = 0;
    memset(&hoard, 0, sizeof hoard);
    memset(&config, 0, sizeof config);
    config.flavor = SCH_CURRENT_THREAD;
    config.allocator.alloc = misuse_hoard_alloc, config.allocator.free = misuse_hoard_free;
    config.allocator.user = &hoard;
    rt = support_begin(&config);
    support_run(rt, support_count, &n);
    sch_runtime_free(rt);
    n = hoard.n;
    sch_runtime_free(rt);
    sch_runtime_free(rt);
    EXPECT_EQ(hoard.n, n); /* not once more */
    EXPECT_EQ(sch_runtime_shutdown(rt, SCH_FOREVER), -EINVAL);
    EXPECT_EQ(sch_block_on(rt, misuse_nothing, NULL), -EINVAL);
    EXPECT_EQ(sch_go(rt, misuse_nothing, NULL), -EINVAL);
    EXPECT(sch_spawn(rt, misuse_nothing, NULL) == NULL);
    EXPECT_EQ(errno, EINVAL);
    EXPECT_EQ(sch_metrics(rt, &m), -EINVAL);
    EXPECT_EQ(sch_num_workers(rt) + sch_num_alive_tasks(rt) + sch_stragglers(rt, NULL, 0), 0);
    for (unsigned i = 0; i < hoard.n; i++) free(hoard.blocks[i]);
}

/* Freed from the inside -------------------------------------------------------------------------
 * Wherever that is, it only begins the shutdown; the thread outside finds everything in order. */

typedef struct misuse_inside {
    sch_runtime *rt;
    unsigned armed, freed; /* atomic */
} misuse_inside;

static void misuse_free_inside(void *arg) {
    misuse_inside *m = (misuse_inside *)arg;
    sch_runtime_free(m->rt);
    EXPECT_EQ(sch_runtime_shutdown(m->rt, SCH_FOREVER), -EINPROGRESS);
    support_add(&m->freed, 1);
}

static void misuse_free_in_block_on(void *arg) {
    misuse_inside *m = (misuse_inside *)arg;
    sch_runtime_free(m->rt);
    EXPECT(sch_num_workers(m->rt) > 0);
    support_add(&m->freed, 1);
}

static void misuse_free_in_place(void *arg) {
    EXPECT_EQ(sch_block_in_place(misuse_free_inside, arg), 0);
}

static sch_status misuse_free_in_poll(sch_task *self, void *state) {
    (void)self;
    misuse_free_inside(*(misuse_inside **)state);
    return SCH_READY;
}

static void misuse_free_in_hook(void *user, unsigned thread) {
    misuse_inside *m = (misuse_inside *)user;
    (void)thread;
    if (support_get(&m->armed)) misuse_free_inside(m);
}

static void misuse_free_in_task_hook(void *user, sch_task *task) {
    (void)task;
    misuse_free_in_hook(user, 0);
}

#define MISUSE_PLACES 13

static void misuse_free_at(unsigned place, unsigned workers) {
    static const sch_spawn_desc desc = {"frees", NULL, 0, 0, misuse_free_inside};
    checked_memory memory;
    sch_config config = support_config(&memory, workers);
    misuse_inside m, *pointer = &m;
    sch_task *task = NULL;
    memset(&m, 0, sizeof m);
    config.hooks.user = &m;
    switch (place) {
    case 0: config.hooks.on_thread_start = misuse_free_in_hook; break;
    case 1: config.hooks.on_thread_stop = misuse_free_in_hook; break;
    case 2: config.hooks.on_thread_park = misuse_free_in_hook; break;
    case 3: config.hooks.on_thread_unpark = misuse_free_in_hook; break;
    case 4: config.hooks.on_task_spawn = misuse_free_in_task_hook; break;
    case 5: config.hooks.on_task_poll_start = misuse_free_in_task_hook; break;
    case 6: config.hooks.on_task_poll_end = misuse_free_in_task_hook; break;
    case 7: config.hooks.on_task_terminate = misuse_free_in_task_hook; break;
    default: break;
    }
    m.rt = support_begin(&config);
    EXPECT_EQ(sch_go(m.rt, misuse_suspend, NULL), 0);
    support_set(&m.armed, 1);
    switch (place) {
    case 8: EXPECT_EQ(sch_block_on(m.rt, misuse_free_in_block_on, &m), 0); break;
    case 9: task = sch_spawn(m.rt, misuse_free_in_place, &m); break;
    case 10: task = sch_spawn_with(m.rt, &desc, misuse_nothing, &m); break;
    case 11: task = sch_spawn_poll(m.rt, misuse_free_in_poll, &pointer, sizeof pointer); break;
    case 12: task = sch_spawn_blocking(m.rt, misuse_free_inside, &m); break;
    default: /* something for the hooks */
        task = sch_spawn_blocking(m.rt, misuse_nothing, NULL);
        if (task) (void)sch_join(task);
        task = sch_spawn(m.rt, misuse_nothing, NULL);
    }
    if (task) (void)sch_join(task);
    EXPECT_EQ(sch_runtime_shutdown(m.rt, SCH_FOREVER), 0);
    support_end(m.rt, &memory);
    EXPECT(m.freed > 0 || ((place == 2 || place == 3) && workers == 0));
}

TEST(misuse_free_from_inside) {
    for (unsigned place = 0; place < MISUSE_PLACES; place++) {
        for (unsigned workers = 0; workers <= 2; workers++) misuse_free_at(place, workers);
    }
}

/* Too many visitors -----------------------------------------------------------------------------*/

#define MISUSE_VISITORS 72
typedef struct misuse_visit {
    sch_runtime *rt;
    sch_task *task;
    support_gate gate;
    unsigned inside, refused; /* atomic */
    bool joins;
} misuse_visit;

static void misuse_stay(void *arg) {
    misuse_visit *v = (misuse_visit *)arg;
    support_add(&v->inside, 1);
    support_gate_wait(&v->gate);
}

static void misuse_visitor(void *arg) {
    misuse_visit *v = (misuse_visit *)arg;
    int result = sch_block_on(v->rt, misuse_stay, v);
    EXPECT(result == 0 || result == -EAGAIN);
    if (result) support_add(&v->refused, 1);
}

TEST(misuse_too_many_visitors) {
    for (unsigned workers = 0; workers <= 1; workers++) {
        checked_memory memory;
        sch_config config = support_config(&memory, workers);
        support_thread threads[MISUSE_VISITORS];
        support_gate gate = SUPPORT_GATE;
        misuse_visit v;
        memset(&v, 0, sizeof v);
        v.gate = gate;
        config.max_blocking_threads = 1;
        v.rt = support_begin(&config);
        v.task = sch_spawn(v.rt, misuse_nothing, NULL);
        if (workers > 0) WAIT_FOR(sch_is_done(v.task));
        for (int i = 0; i < MISUSE_VISITORS; i++) {
            support_thread_start(&threads[i], misuse_visitor, &v);
        }
        WAIT_FOR(support_get(&v.inside) + support_get(&v.refused) == MISUSE_VISITORS);
        EXPECT(support_get(&v.inside) >= 64);
        EXPECT(support_get(&v.refused) > 0);
        EXPECT_EQ(sch_block_on(v.rt, misuse_nothing, NULL), -EAGAIN);
        if (workers == 0) { /* what would have to drive is refused, and changes nothing */
            EXPECT_EQ(sch_join(v.task), -EAGAIN);
            EXPECT_EQ(sch_join(v.task), -EAGAIN); /* the handle is still ours */
            EXPECT(!sch_is_done(v.task));
        }
        support_gate_open(&v.gate);
        for (int i = 0; i < MISUSE_VISITORS; i++) support_thread_join(&threads[i]);
        EXPECT_EQ(sch_join(v.task), 0);
        support_run(v.rt, misuse_nothing, NULL);
        EXPECT_EQ(sch_block_on(v.rt, misuse_nothing, NULL), 0);
        support_end(v.rt, &memory);
    }
}

static void misuse_shutdown_visitor(void *arg) {
    misuse_visit *v = (misuse_visit *)arg;
    EXPECT_EQ(sch_block_on(v->rt, misuse_stay, v), 0);
}

TEST(misuse_shutdown_with_too_many_visitors) {
    checked_memory memory;
    sch_config config = support_config(&memory, 0);
    support_thread threads[MISUSE_VISITORS];
    support_gate gate = SUPPORT_GATE;
    misuse_visit v;
    unsigned n = 0;
    memset(&v, 0, sizeof v);
    v.gate = gate;
    config.max_blocking_threads = 1;
    v.rt = support_begin(&config);
    EXPECT_EQ(sch_go(v.rt, misuse_suspend, NULL), 0);
    for (; n < MISUSE_VISITORS && sch_block_on(v.rt, misuse_nothing, NULL) == 0; n++) {
        support_thread_start(&threads[n], misuse_shutdown_visitor, &v);
        WAIT_FOR(support_get(&v.inside) == n + 1);
    }
    EXPECT(n >= 64 && n < MISUSE_VISITORS);
    EXPECT_EQ(sch_runtime_shutdown(v.rt, SCH_FOREVER), -EAGAIN);
    support_gate_open(&v.gate);
    for (unsigned i = 0; i < n; i++) support_thread_join(&threads[i]);
    EXPECT_EQ(sch_runtime_shutdown(v.rt, SCH_FOREVER), 0);
    support_end(v.rt, &memory);
}

/* Settings that do not apply --------------------------------------------------------------------*/

static sch_status misuse_ready(sch_task *self, void *state) {
    (void)self;
    EXPECT(schi_self()->stack != NULL); /* a common one */
    support_count(*(unsigned **)state);
    return SCH_READY;
}

/* A stack size for what has no stack of its own is ignored. */
TEST(misuse_stack_size_of_polls_and_jobs) {
    static const sch_spawn_desc desc = {"big", NULL, 0, (size_t)1 << 30, NULL};
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    unsigned count = 0, *pointer = &count;
    memory.limit = (size_t)64 << 20;
    sch_runtime *rt = support_begin(&config);
    EXPECT_EQ(sch_join(sch_spawn_poll_with(rt, &desc, misuse_ready, &pointer, sizeof pointer)), 0);
    EXPECT_EQ(sch_join(sch_spawn_blocking_with(rt, &desc, support_count, &count)), 0);
    EXPECT_EQ(sch_join(sch_spawn_with(rt, &desc, support_count, &count)), -ENOMEM);
    EXPECT_EQ(count, 2);
    support_end(rt, &memory);
}
