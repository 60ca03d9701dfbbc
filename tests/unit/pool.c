/* pool.c - [12]: threads on demand for jobs that block, through the public interface. */
#include "support.h"

/* A runtime with so many blocking threads, which end after keep_alive without a job. */
static sch_runtime *pool_runtime(unsigned max, uint64_t keep_alive_ns) {
    sch_config config;
    memset(&config, 0, sizeof config);
    config.workers = 1;
    config.max_blocking_threads = max;
    config.keep_alive_ns = keep_alive_ns;
    return support_begin(&config);
}

/* Jobs that meet at a gate, and are counted while they run. */
typedef struct pool_jobs {
    support_gate gate;
    unsigned running, most; /* jobs that run, and at most so many at once */
    unsigned ran, dropped;
} pool_jobs;
#define POOL_JOBS {SUPPORT_GATE, 0, 0, 0, 0}

static void pool_job(void *arg) {
    pool_jobs *j = (pool_jobs *)arg;
    unsigned running = support_add(&j->running, 1), most = support_get(&j->most);
    EXPECT_EQ(sch_worker_index(), UINT_MAX);
    EXPECT(sch_self() != NULL);
    while (running > most && !__atomic_compare_exchange_n(&j->most, &most, running, false,
                                                          __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
        continue;
    }
    support_gate_wait(&j->gate);
    support_add(&j->running, 0u - 1);
    support_add(&j->ran, 1);
}

static void pool_dropped(void *arg) { support_count(&((pool_jobs *)arg)->dropped); }

static const sch_spawn_desc pool_desc = {"pool job", NULL, 0, 0, pool_dropped};

static sch_task *pool_spawn(sch_runtime *rt, pool_jobs *j) {
    sch_task *job = sch_spawn_blocking_with(rt, &pool_desc, pool_job, j);
    if (!EXPECT(job != NULL)) abort();
    return job;
}

/* Who may spin before it sleeps: one at a time, and more rarely each time that it was in vain. */
TEST(pool_spins) {
    static const unsigned pauses[] = {1, 3, 7, 15, 31, 63, 63, 63};
    schi_pool p;
    memset(&p, 0, sizeof p);
    EXPECT(!schi_pool_spins(&p)); /* one CPU */
    p.may_spin = true;
    for (unsigned i = 0; i < sizeof pauses / sizeof pauses[0]; i++) {
        EXPECT(schi_pool_spins(&p));
        p.spinning = true;
        EXPECT(!schi_pool_spins(&p));
        schi_pool_spun(&p, false);
        EXPECT(!p.spinning);
        for (unsigned n = 0; n < pauses[i]; n++) EXPECT(!schi_pool_spins(&p));
    }
    EXPECT(schi_pool_spins(&p));
    schi_pool_spun(&p, true);
    EXPECT(schi_pool_spins(&p));
}

/* The list of the idle: the last one first, but not before one that spins. */
TEST(pool_spinner_first) {
    schi_thread *th = (schi_thread *)calloc(4, sizeof *th);
    schi_pool p;
    if (!th) abort();
    memset(&p, 0, sizeof p);
    for (int i = 0; i < 2; i++) schi_pool_list(&p, &th[i]);
    EXPECT(p.idle == &th[1] && p.idle->idle_next == &th[0]);
    p.spinning = true; /* th[1] */
    for (int i = 2; i < 4; i++) schi_pool_list(&p, &th[i]);
    EXPECT_EQ(schi_counted(&p.idle_threads), 4);
    static const int order[] = {1, 3, 2, 0};
    for (int i = 0; i < 4; i++) {
        EXPECT(p.idle == &th[order[i]] && p.idle->idle_prev == NULL);
        schi_pool_unlist(&p, p.idle);
    }
    EXPECT(p.idle == NULL);
    schi_pool_list(&p, &th[0]); /* the one who spins has been taken, and nobody else is there */
    EXPECT(p.idle == &th[0] && p.idle->idle_next == NULL);
    free(th);
}

/* Never more than so many threads; what comes on top waits its turn, and every job runs. */
TEST(pool_limit) {
    enum { MAX = 3, COUNT = 12 };
    sch_runtime *rt = pool_runtime(MAX, SCH_FOREVER);
    pool_jobs j = POOL_JOBS;
    sch_task *jobs[COUNT];
    for (int i = 0; i < COUNT; i++) jobs[i] = pool_spawn(rt, &j);
    WAIT_FOR(support_get(&j.running) == MAX);
    sch_metrics_snapshot m = support_metrics(rt);
    EXPECT_EQ(m.num_blocking_threads, MAX);
    EXPECT_EQ(m.num_idle_blocking_threads, 0);
    EXPECT_EQ(m.blocking_queue_depth, COUNT - MAX);
    EXPECT_EQ(m.num_worker_threads, 1); /* the pool's threads are not counted there */
    EXPECT_EQ(m.num_alive_tasks, COUNT);
    EXPECT_EQ(strcmp(sch_task_name(jobs[0]), "pool job"), 0);
    support_gate_open(&j.gate);
    for (int i = 0; i < COUNT; i++) EXPECT_EQ(sch_join(jobs[i]), 0);
    EXPECT_EQ(j.most, MAX);
    EXPECT_EQ(j.ran, COUNT);
    EXPECT_EQ(j.dropped, COUNT);
    m = support_metrics(rt);
    EXPECT_EQ(m.blocking_queue_depth, 0);
    EXPECT_EQ(m.num_alive_tasks, 0);
    WAIT_FOR(support_metrics(rt).num_idle_blocking_threads == MAX);
    sch_runtime_free(rt);
}

/* A job that finds an idle thread takes it; without a job threads end, and later there are new
 * ones. */
TEST(pool_keep_alive) {
    sch_runtime *rt = pool_runtime(4, SCH_FOREVER);
    pool_jobs j = POOL_JOBS;
    support_gate_open(&j.gate);
    for (int i = 0; i < 20; i++) {
        EXPECT_EQ(sch_join(pool_spawn(rt, &j)), 0);
        WAIT_FOR(support_metrics(rt).num_idle_blocking_threads == 1);
        EXPECT_EQ(support_metrics(rt).num_blocking_threads, 1);
    }
    sch_runtime_free(rt);

    rt = pool_runtime(4, 20 * SCH_MILLISECOND);
    for (int i = 0; i < 3; i++) {
        pool_jobs k = POOL_JOBS;
        sch_task *jobs[4];
        for (int n = 0; n < 4; n++) jobs[n] = pool_spawn(rt, &k);
        WAIT_FOR(support_get(&k.running) == 4);
        support_gate_open(&k.gate);
        for (int n = 0; n < 4; n++) EXPECT_EQ(sch_join(jobs[n]), 0);
        WAIT_FOR(support_metrics(rt).num_blocking_threads == 0);
        EXPECT_EQ(support_metrics(rt).num_idle_blocking_threads, 0);
        EXPECT_EQ(support_metrics(rt).num_worker_threads, 1);
    }
    sch_runtime_free(rt);
}

/* Jobs that come just when their thread gives up waiting. */
TEST(pool_expiry_race) {
    sch_runtime *rt = pool_runtime(2, 50 * SCH_MICROSECOND);
    pool_jobs j = POOL_JOBS;
    const unsigned count = (unsigned)test_scale(4000);
    support_gate_open(&j.gate);
    for (unsigned i = 0; i < count; i++) {
        sch_task *job = pool_spawn(rt, &j);
        if (i % 2) {
            EXPECT_EQ(sch_join(job), 0);
            support_nap((long)(test_random() % 60)); /* about as long as a thread waits */
        } else {
            sch_detach(job);
        }
    }
    WAIT_FOR(sch_num_alive_tasks(rt) == 0);
    EXPECT_EQ(j.ran, count);
    EXPECT_EQ(j.dropped, count);
    EXPECT(j.most <= 2);
    WAIT_FOR(support_metrics(rt).num_blocking_threads == 0);
    EXPECT_EQ(support_metrics(rt).num_idle_blocking_threads, 0);
    EXPECT_EQ(support_metrics(rt).blocking_queue_depth, 0);
    sch_runtime_free(rt);
}

/* A job is a task: cancelled before it starts it never does; in its waits it is told; woken it goes
 * on; it is dropped once in any case. */
static void pool_suspend_twice(void *arg) {
    int *results = (int *)arg;
    results[0] = sch_suspend();
    results[1] = sch_suspend();
    results[2] = sch_cancelled();
}

static void pool_join_child(void *arg) {
    unsigned *ran = (unsigned *)arg;
    EXPECT_EQ(sch_join(sch_spawn(NULL, support_count, ran)), 0); /* of the runtime that it is in */
    EXPECT_EQ(support_add(ran, 1), 2);
}

TEST(pool_jobs_are_tasks) {
    sch_runtime *rt = pool_runtime(1, SCH_FOREVER);
    pool_jobs j = POOL_JOBS;
    sch_task *first = pool_spawn(rt, &j), *second = pool_spawn(rt, &j);
    WAIT_FOR(support_get(&j.running) == 1);
    EXPECT_EQ(sch_cancel(second), 0);
    EXPECT_EQ(sch_cancel(first), 0); /* it runs: it does not ask, and does not wait */
    support_gate_open(&j.gate);
    EXPECT_EQ(sch_join(second), -ECANCELED);
    EXPECT_EQ(sch_join(first), 0);
    EXPECT_EQ(j.ran, 1);
    EXPECT_EQ(j.dropped, 2);

    for (size_t i = test_scale(2000); i > 0; i--) {
        int results[3] = {-1, -1, -1}, joined = -1;
        sch_task *job = sch_spawn_blocking(rt, pool_suspend_twice, results);
        if (!EXPECT(job != NULL)) break;
        sch_wake(job); /* maybe before it has begun: kept */
        if (i % 2) {
            while (!(schi_load_seq(&job->state) & SCHI_WAIT_CANCEL)) sched_yield();
        }
        EXPECT_EQ(sch_cancel(job), 0);
        joined = sch_join(job);
        EXPECT_EQ(joined, -ECANCELED);
        if (results[0] == -1) continue; /* cancelled before it started */
        EXPECT_EQ(results[0], 0);
        EXPECT_EQ(results[1], -ECANCELED);
        EXPECT_EQ(results[2], true);
    }
    unsigned ran = 0;
    EXPECT_EQ(sch_join(sch_spawn_blocking(rt, pool_join_child, &ran)), 0);
    EXPECT_EQ(ran, 2);
    sch_runtime_free(rt);
}

/* Jobs from several threads at once, each run and dropped once. */
typedef struct pool_crowd {
    sch_runtime *rt;
    pool_jobs jobs;
} pool_crowd;

static void pool_submit_many(void *arg, unsigned me) {
    pool_crowd *c = (pool_crowd *)arg;
    for (int i = 0; i < 250; i++) {
        sch_task *job = pool_spawn(c->rt, &c->jobs);
        if ((i + (int)me) % 3 == 0) {
            EXPECT_EQ(sch_join(job), 0);
        } else {
            sch_detach(job);
        }
    }
}

TEST(pool_crowd) {
    for (size_t round = test_scale(5); round > 0; round--) {
        checked_memory memory;
        sch_config config = support_config(&memory, 1);
        pool_crowd c = {NULL, POOL_JOBS};
        config.max_blocking_threads = 4;
        config.keep_alive_ns = SCH_MILLISECOND;
        c.rt = support_begin(&config);
        support_gate_open(&c.jobs.gate);
        crew_run(4, pool_submit_many, &c);
        WAIT_FOR(sch_num_alive_tasks(c.rt) == 0);
        EXPECT_EQ(c.jobs.ran, 1000);
        EXPECT_EQ(c.jobs.dropped, 1000);
        EXPECT(c.jobs.most <= 4);
        support_end(c.rt, &memory);
    }
}

/* Shutdown drops the jobs that wait for a thread, and waits for the one that runs. */
TEST(pool_shutdown) {
    enum { COUNT = 6 };
    sch_runtime *rt = pool_runtime(1, SCH_FOREVER);
    pool_jobs j = POOL_JOBS;
    sch_task *jobs[COUNT];
    for (int i = 0; i < COUNT; i++) jobs[i] = pool_spawn(rt, &j);
    WAIT_FOR(support_get(&j.running) == 1);
    EXPECT_EQ(sch_runtime_shutdown(rt, 0), -ETIMEDOUT);
    EXPECT(sch_spawn_blocking_with(rt, &pool_desc, pool_job, &j) == NULL);
    EXPECT_EQ(errno, ESHUTDOWN);
    support_gate_open(&j.gate);
    EXPECT_EQ(sch_runtime_shutdown(rt, SCH_FOREVER), 0);
    for (int i = 0; i < COUNT; i++) EXPECT_EQ(sch_join(jobs[i]), i == 0 ? 0 : -ECANCELED);
    EXPECT_EQ(j.ran, 1);
    EXPECT_EQ(j.dropped, COUNT + 1); /* also the argument of the refused one */
    sch_runtime_free(rt);
}
