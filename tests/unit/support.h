/* support.h - what several unit tests share. */
#ifndef UNIT_SUPPORT_H
#define UNIT_SUPPORT_H

#include <errno.h>
#include <sys/wait.h>

TEST_UNUSED static void support_nap(long microseconds) {
    struct timespec nap;
    nap.tv_sec = 0, nap.tv_nsec = microseconds * 1000;
    (void)nanosleep(&nap, NULL);
}

/* Wait for what other threads do sooner or later; the test fails if it takes 30 s. */
#define WAIT_FOR(cond) /* once true is enough: it may change again */                \
    do {                                                                             \
        struct timespec wait_start = test_clock();                                   \
        bool wait_over = false;                                                      \
        while (!wait_over && test_seconds_since(wait_start) < 30) {                  \
            wait_over = (cond) ? true : false;                                       \
            if (!wait_over) support_nap(50);                                         \
        }                                                                            \
        test_check(wait_over, #cond, __FILE__, __LINE__);                            \
    } while (0)

/* Crew: run work(arg, 0..n-1) on n threads that begin together, and wait for them. */
#define CREW_MAX 16
typedef struct crew {
    void (*work)(void *arg, unsigned index);
    void *arg;
    unsigned missing; /* atomic: threads that have not arrived */
} crew;

typedef struct crew_member {
    crew *all;
    unsigned index;
    pthread_t thread;
} crew_member;

static void *crew_main(void *argument) {
    crew_member *me = (crew_member *)argument;
    __atomic_sub_fetch(&me->all->missing, 1u, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&me->all->missing, __ATOMIC_ACQUIRE) > 0) sched_yield();
    me->all->work(me->all->arg, me->index);
    return NULL;
}

TEST_UNUSED static void crew_run(unsigned n, void (*work)(void *arg, unsigned index), void *arg) {
    crew_member members[CREW_MAX];
    crew all;
    all.work = work, all.arg = arg, all.missing = n;
    for (unsigned i = 0; i < n; i++) {
        members[i].all = &all, members[i].index = i;
        if (pthread_create(&members[i].thread, NULL, crew_main, &members[i])) abort();
    }
    for (unsigned i = 0; i < n; i++) pthread_join(members[i].thread, NULL);
}

/* Run a function in a child process. Returns the signal that ended it, 0 if it came to its end. */
TEST_UNUSED static int support_signal_of(void (*run)(void *arg), void *arg) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        const int signals[] = {SIGABRT, SIGSEGV, SIGBUS};
        for (int i = 0; i < 3; i++) signal(signals[i], SIG_DFL);
        close(2); /* an assertion is expected to fail, or not to: the parent says so */
        run(arg);
        _exit(0);
    }
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    return child > 0 && WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void support_write(void *address) { *(volatile char *)address = 1; }

/* Does a write to this address end the process? */
TEST_UNUSED static bool support_faults(char *address) {
    int number = support_signal_of(support_write, address);
    return number == SIGSEGV || number == SIGBUS;
}

/* Some emulators accept any advice and do nothing: there a guard cannot be had that way. */
TEST_UNUSED static bool support_advice_is_real(char *page, size_t size) {
#if SCHI_LINUX
    return SCHI_SYS(SYS_madvise, page, size, 9999) != 0;
#else
    (void)page, (void)size;
    return true;
#endif
}

/* Checked memory: an allocator for the library that expects every block to come back once, with
 * the size and alignment that it was asked for. Fresh and freed memory is overwritten. */
typedef struct checked_block {
    struct checked_block *next;
    char *memory;
    size_t size, align; /* align 0: pages */
} checked_block;

typedef struct checked_memory {
    pthread_mutex_t lock;
    checked_block *blocks; /* under lock */
    size_t live;           /* under lock: blocks that are out */
    size_t made;           /* under lock: blocks ever given */
    size_t limit;          /* under lock: larger requests fail */
} checked_memory;

static char *checked_add(checked_memory *m, size_t size, size_t align) {
    const size_t unit = align == 0 ? schi_page_size() : align < 16 ? 16 : align;
    checked_block *block = NULL;
    pthread_mutex_lock(&m->lock);
    if (size <= m->limit) block = (checked_block *)malloc(sizeof *block);
    if (block) {
        block->memory = (char *)aligned_alloc(unit, (size + unit - 1) / unit * unit);
        if (!block->memory) abort();
        block->size = size, block->align = align, block->next = m->blocks;
        m->blocks = block;
        m->live++, m->made++;
    }
    pthread_mutex_unlock(&m->lock);
    if (block) memset(block->memory, align == 0 ? 0 : 0xa5, size);
    return block ? block->memory : NULL;
}

static void checked_remove(checked_memory *m, void *memory, size_t size, size_t align) {
    checked_block **at, *block;
    pthread_mutex_lock(&m->lock);
    for (at = &m->blocks; *at && (*at)->memory != memory; at = &(*at)->next) continue;
    block = *at;
    if (EXPECT(block != NULL)) {
        *at = block->next;
        m->live--;
    }
    pthread_mutex_unlock(&m->lock);
    if (!block) return;
    EXPECT_EQ(block->size, size);
    EXPECT_EQ(block->align, align);
    memset(memory, 0xdd, block->size); /* also faults if it is still guarded */
    __asm__ volatile("" : : "r"(memory) : "memory"); /* or the compiler drops the memset */
    free(memory);
    free(block);
}

static void *checked_alloc(size_t size, size_t align, void *user) {
    return checked_add((checked_memory *)user, size, align);
}

static void checked_free(void *memory, size_t size, size_t align, void *user) {
    checked_remove((checked_memory *)user, memory, size, align);
}

static void *checked_map(size_t size, void *user) {
    EXPECT_EQ(size % schi_page_size(), 0);
    return checked_add((checked_memory *)user, size, 0);
}

static void checked_unmap(void *memory, size_t size, void *user) {
    checked_remove((checked_memory *)user, memory, size, 0);
}

TEST_UNUSED static sch_allocator checked_begin(checked_memory *m, bool pages) {
    sch_allocator a;
    memset(m, 0, sizeof *m);
    memset(&a, 0, sizeof a);
    pthread_mutex_init(&m->lock, NULL);
    m->limit = SIZE_MAX;
    a.alloc = checked_alloc, a.free = checked_free, a.user = m;
    if (pages) a.map_pages = checked_map, a.unmap_pages = checked_unmap;
    return a;
}

TEST_UNUSED static size_t checked_live(checked_memory *m) {
    pthread_mutex_lock(&m->lock);
    size_t live = m->live;
    pthread_mutex_unlock(&m->lock);
    return live;
}

/* Everything must have come back. */
TEST_UNUSED static void checked_end(checked_memory *m) {
    EXPECT_EQ(checked_live(m), 0);
    pthread_mutex_destroy(&m->lock);
}

/* Counters that any thread or task may touch; support_add returns the new value. */
TEST_UNUSED static unsigned support_get(const unsigned *n) {
    return __atomic_load_n(n, __ATOMIC_SEQ_CST);
}

TEST_UNUSED static void support_set(unsigned *n, unsigned value) {
    __atomic_store_n(n, value, __ATOMIC_SEQ_CST);
}

TEST_UNUSED static unsigned support_add(unsigned *n, unsigned value) {
    return __atomic_add_fetch(n, value, __ATOMIC_SEQ_CST);
}

/* As a task, a job or a drop function. */
TEST_UNUSED static void support_count(void *counter) { (void)support_add((unsigned *)counter, 1); }

/* Let other tasks run until it is true; the harness ends a test in which it never is. */
#define YIELD_UNTIL(cond) \
    while (!(cond)) EXPECT_EQ(sch_yield_now(), 0)

/* Compute. */
TEST_UNUSED static void support_spin(uint64_t ns) {
    uint64_t start = sch_now();
    while (sch_now() - start < ns) continue;
}

/* Gate: waiting for it blocks the thread, without the library's knowledge. Both are sch_fn. */
typedef struct support_gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool open;        /* under lock */
    unsigned waiters; /* under lock: have ever come */
} support_gate;
#define SUPPORT_GATE {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0}

TEST_UNUSED static void support_gate_wait(void *gate) {
    support_gate *g = (support_gate *)gate;
    pthread_mutex_lock(&g->lock);
    g->waiters++;
    while (!g->open) pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

TEST_UNUSED static void support_gate_open(void *gate) {
    support_gate *g = (support_gate *)gate;
    pthread_mutex_lock(&g->lock);
    g->open = true;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

TEST_UNUSED static unsigned support_gate_waiters(support_gate *g) {
    pthread_mutex_lock(&g->lock);
    unsigned waiters = g->waiters;
    pthread_mutex_unlock(&g->lock);
    return waiters;
}

/* A thread of the test's own. */
typedef struct support_thread {
    sch_fn fn;
    void *arg;
    pthread_t os;
} support_thread;

static void *support_thread_main(void *thread) {
    support_thread *t = (support_thread *)thread;
    t->fn(t->arg);
    return NULL;
}

TEST_UNUSED static void support_thread_start(support_thread *t, sch_fn fn, void *arg) {
    t->fn = fn, t->arg = arg;
    if (pthread_create(&t->os, NULL, support_thread_main, t)) abort();
}

TEST_UNUSED static void support_thread_join(support_thread *t) { pthread_join(t->os, NULL); }

/* A configuration on checked memory (support_end checks it); no workers: SCH_CURRENT_THREAD. */
TEST_UNUSED static sch_config support_config(checked_memory *memory, unsigned workers) {
    sch_config config;
    memset(&config, 0, sizeof config);
    config.flavor = workers == 0 ? SCH_CURRENT_THREAD : SCH_MULTI_THREAD;
    config.workers = workers;
    config.stack_size = 65536;
    config.seed = test_random();
    config.allocator = checked_begin(memory, test_random() % 2 == 0);
    return config;
}

TEST_UNUSED static sch_runtime *support_begin(const sch_config *config) {
    sch_runtime *rt = sch_runtime_new(config);
    if (!EXPECT(rt != NULL)) abort();
    return rt;
}

TEST_UNUSED static void support_end(sch_runtime *rt, checked_memory *memory) {
    sch_runtime_free(rt);
    checked_end(memory);
}

/* Run a task and expect it to complete. */
TEST_UNUSED static void support_run(sch_runtime *rt, sch_fn fn, void *arg) {
    EXPECT_EQ(sch_join(sch_spawn(rt, fn, arg)), 0);
}

TEST_UNUSED static sch_metrics_snapshot support_metrics(const sch_runtime *rt) {
    sch_metrics_snapshot m;
    EXPECT_EQ(sch_metrics(rt, &m), 0);
    return m;
}

#endif /* UNIT_SUPPORT_H */
