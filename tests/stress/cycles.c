/* cycles.c - runtimes made and freed again and again, a tenth of them with tasks in flight, armed
 * timers and open descriptors.
 * Environment: CYCLES=n (default 2000). Nothing may be left of any of them: descriptors, threads
 * and mappings are counted every so often, and must be as many as before; every drop function has
 * been called once. */
#define _GNU_SOURCE
#define SCHED_IMPLEMENTATION
#include "../../sched.h"

#include "../test.h"
#include "proc.h"

typedef struct cycles_count {
    unsigned taken, refused; /* spawns: atomic, a task may spawn too */
    unsigned drops;          /* atomic */
    unsigned wrong;          /* atomic: results that cannot be */
} cycles_count;

/* Several tests run at once in threads of their own; each has its own random numbers. */
typedef struct cycles_job {
    uint64_t rng;
    size_t cycles;
    size_t in_flight; /* tasks that were spawned */
} cycles_job;

static unsigned cycles_below(uint64_t *state, unsigned n) {
    *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (unsigned)(*state >> 33) % n;
}

static void cycles_drop(void *count) {
    __atomic_fetch_add(&((cycles_count *)count)->drops, 1u, __ATOMIC_SEQ_CST);
}

static void cycles_drop_state(void *state) { cycles_drop(*(cycles_count **)state); }

static void cycles_taken(cycles_count *c, bool ok) {
    __atomic_fetch_add(ok ? &c->taken : &c->refused, 1u, __ATOMIC_SEQ_CST);
}

static const sch_spawn_desc cycles_desc = {"cycles", SCH_HERE, 0, cycles_drop};
static const sch_spawn_desc cycles_own_stack = {"cycles own stack", SCH_HERE, 65536, cycles_drop};
static const sch_spawn_desc cycles_poll_desc = {"cycles poll", SCH_HERE, 0, cycles_drop_state};

static void cycles_expect(cycles_count *c, bool ok) {
    if (!ok) __atomic_fetch_add(&c->wrong, 1u, __ATOMIC_SEQ_CST);
}

static void cycles_nothing(void *arg) { (void)arg; }

static void cycles_yield(void *arg) {
    for (int i = 0; i < 20; i++) cycles_expect((cycles_count *)arg, sch_yield_now() == 0);
}

static void cycles_sleep(void *arg) { /* nobody will wake it */
    cycles_expect((cycles_count *)arg, sch_suspend() == -ECANCELED);
    cycles_expect((cycles_count *)arg, sch_suspend() == -ECANCELED); /* sticky */
}

static void cycles_nap(void *arg) {
    (void)arg;
    usleep(50);
}

static void cycles_block(void *arg) {
    cycles_expect((cycles_count *)arg, sch_block_in_place(cycles_nap, NULL) == 0);
    cycles_expect((cycles_count *)arg, sch_suspend() == -ECANCELED);
}

/* With an armed timer, and with a descriptor that stays open. */
static void cycles_doze(void *arg) {
    cycles_expect((cycles_count *)arg, sch_sleep(3600 * SCH_SECOND) == -ECANCELED);
}

static void cycles_read(void *arg) {
    sch_io io[2];
    char byte;
    int ends[2], result;
    if (pipe(ends) != 0) return;
    for (int i = 0; i < 2; i++) {
        cycles_expect((cycles_count *)arg, sch_io_open(&io[i], NULL, ends[i]) == 0);
    }
    result = (int)sch_read(&io[0], &byte, 1);
    cycles_expect((cycles_count *)arg, result == -ECANCELED);
    if (ends[0] % 4 == 0) cycles_expect((cycles_count *)arg, sch_io_close(&io[0]) == 0);
}

static void cycles_family(void *arg) {
    cycles_count *c = (cycles_count *)arg;
    for (int i = 0; i < 3; i++) {
        sch_task *child = sch_spawn_with(NULL, &cycles_desc, i ? cycles_yield : cycles_sleep, c);
        int result;
        cycles_taken(c, child != NULL);
        if (!child) continue;
        result = sch_join(child);
        cycles_expect(c, result == 0 || result == -ECANCELED || result == -EINTR);
        if (result == -EINTR) sch_release(child);
    }
}

static sch_status cycles_poll(sch_task *self, void *state) {
    (void)self, (void)state;
    (void)sch_yield_now();
    return SCH_PENDING; /* for ever */
}

static void cycles_populate(cycles_job *job, sch_runtime *rt, cycles_count *c) {
    const sch_fn fns[] = {cycles_yield, cycles_sleep, cycles_block, cycles_family, cycles_nothing,
                          cycles_doze, cycles_read};
    for (unsigned i = 1 + cycles_below(&job->rng, 20); i > 0; i--) {
        unsigned kind = cycles_below(&job->rng, 8);
        bool ok;
        if (kind == 0) {
            sch_task *task = sch_spawn_poll_with(rt, &cycles_poll_desc, cycles_poll, &c, sizeof c);
            ok = task != NULL;
            sch_detach(task);
        } else if (kind == 1) {
            sch_task *task = sch_spawn_blocking_with(rt, &cycles_desc, cycles_nap, c);
            ok = task != NULL;
            sch_detach(task);
        } else {
            const sch_spawn_desc *desc = kind == 2 ? &cycles_own_stack : &cycles_desc;
            ok = sch_go_with(rt, desc, fns[cycles_below(&job->rng, 7)], c) == 0;
        }
        cycles_taken(c, ok);
        job->in_flight += ok;
    }
}

static void cycles_one(cycles_job *job, size_t number) {
    cycles_count c;
    sch_config config;
    sch_runtime *rt;
    unsigned size = cycles_below(&job->rng, 8);
    memset(&c, 0, sizeof c);
    memset(&config, 0, sizeof config);
    config.flavor = size == 0 ? SCH_CURRENT_THREAD : SCH_MULTI_THREAD;
    config.workers = size == 0 ? 1 : size < 4 ? 1 : size < 6 ? 2 : size == 6 ? 3 : 8;
    config.max_blocking_threads = 4;
    config.stack_size = TEST_SANITIZED ? 131072 : 32768;
    config.thread_stack_size = 131072;
    config.keep_alive_ns = cycles_below(&job->rng, 2) ? 100 * SCH_MICROSECOND : 0;
    rt = sch_runtime_new(&config);
    if (!EXPECT(rt != NULL)) return;
    if (number % 10 == 0) {
        cycles_populate(job, rt, &c);
        if (size == 0 && cycles_below(&job->rng, 2)) {
            EXPECT_EQ(sch_block_on(rt, cycles_nothing, NULL), 0);
        }
        if (cycles_below(&job->rng, 2)) usleep(cycles_below(&job->rng, 300));
    }
    sch_runtime_free(rt);
    EXPECT_EQ(c.drops, c.taken + c.refused);
    EXPECT_EQ(c.wrong, 0);
}

static void *cycles_main(void *argument) {
    cycles_job *job = (cycles_job *)argument;
    for (size_t i = 0; i < job->cycles; i++) cycles_one(job, i);
    return NULL;
}

/* Does the process hold what it held before? A mapping or two may be cut or joined by chance. */
static void cycles_compare(const proc_usage *before, size_t done) {
    proc_usage now = proc_settled(before->threads);
    bool same = now.fds == before->fds && now.threads == before->threads;
    if (!PROC_SANITIZED) same = same && now.mappings <= before->mappings + 2;
    if (!EXPECT(same)) {
        printf("after %zu cycles: descriptors %d -> %d, threads %d -> %d, mappings %d -> %d\n",
               done, before->fds, now.fds, before->threads, now.threads, before->mappings,
               now.mappings);
    }
}

/* `all` cycles, on `threads` threads at once, and a look at the process from time to time. */
static void cycles_run(size_t all, unsigned threads) {
    cycles_job jobs[4];
    pthread_t thread[4];
    size_t done = 0, part = 500, in_flight = 0;
    const int running = proc_now().threads;
    proc_usage before, after;
    memset(jobs, 0, sizeof jobs);
    for (unsigned i = 0; i < threads; i++) jobs[i].rng = test_random(), jobs[i].cycles = 50;
    for (unsigned i = 0; i < threads; i++) (void)cycles_main(&jobs[i]); /* libc warms up, too */
    before = proc_settled(running);
    while (done < all) {
        for (unsigned i = 0; i < threads; i++) {
            jobs[i].cycles = part / threads;
            done += jobs[i].cycles;
            if (pthread_create(&thread[i], NULL, cycles_main, &jobs[i])) abort();
        }
        for (unsigned i = 0; i < threads; i++) pthread_join(thread[i], NULL);
        cycles_compare(&before, done);
    }
    after = proc_now();
    for (unsigned i = 0; i < threads; i++) in_flight += jobs[i].in_flight;
    printf("%zu cycles on %u threads, %zu tasks in flight; descriptors %d, threads %d, mappings %d "
           "(before: %d), resident %ld KiB (before: %ld)\n", done, threads, in_flight, after.fds,
           after.threads, after.mappings, before.mappings, after.rss_kb, before.rss_kb);
    if (!PROC_SANITIZED) EXPECT(after.rss_kb <= before.rss_kb + before.rss_kb / 100 + 512);
}

static size_t cycles_number(void) {
    const char *text = getenv("CYCLES");
    return text && *text ? (size_t)strtoull(text, NULL, 0) : 2000;
}

TEST(cycles_one_after_the_other) { cycles_run(cycles_number() / 2, 1); }
TEST(cycles_at_the_same_time) { cycles_run(cycles_number() / 2, 4); }
