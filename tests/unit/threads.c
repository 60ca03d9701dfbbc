/* threads.c - [11.3] [12] [13]: the system refuses to make a thread, at any point. */
#include "support.h"

/* The n-th thread from now cannot be made, nor any after it if `ever`. */
static unsigned threads_asked, threads_fail_at, threads_refused;
static bool threads_ever;

static int threads_fail(void) {
    unsigned n = support_add(&threads_asked, 1);
    if (n != threads_fail_at && !(threads_ever && n > threads_fail_at)) return 0;
    support_add(&threads_refused, 1);
    return EAGAIN;
}

static void threads_fail_from(unsigned n, bool ever) {
    threads_fail_at = n;
    threads_ever = ever;
    support_set(&threads_asked, 0);
    support_set(&threads_refused, 0);
    fault_threads(threads_fail);
}

/* A job or call, with what has become of it. */
typedef struct threads_call {
    support_gate *gate; /* it waits there; NULL: it does not */
    unsigned ran, dropped;
    int result;
} threads_call;

static void threads_run(void *arg) {
    threads_call *c = (threads_call *)arg;
    if (c->gate) support_gate_wait(c->gate);
    support_add(&c->ran, 1);
}

static void threads_drop(void *arg) { support_add(&((threads_call *)arg)->dropped, 1); }

static const sch_spawn_desc threads_desc = {"call", NULL, 0, 0, threads_drop};

static void threads_block(void *arg) {
    threads_call *c = (threads_call *)arg;
    c->result = sch_block_in_place(threads_run, c);
    EXPECT(sch_worker_index() != UINT_MAX);
}

#define THREADS_CALLS 6

/* Jobs and blocking calls at once; each runs or says that it cannot. A call that waits for another
 * thread here would be caught by the time-out. */
static void threads_workload(sch_runtime *rt) {
    threads_call job[THREADS_CALLS], call[THREADS_CALLS];
    sch_task *job_task[THREADS_CALLS], *call_task[THREADS_CALLS];
    memset(job, 0, sizeof job);
    memset(call, 0, sizeof call);
    for (int i = 0; i < THREADS_CALLS; i++) {
        job_task[i] = sch_spawn_blocking_with(rt, &threads_desc, threads_run, &job[i]);
        if (!job_task[i]) job[i].result = -sch_errno();
        call_task[i] = sch_spawn_with(rt, &threads_desc, threads_block, &call[i]);
    }
    for (int i = 0; i < THREADS_CALLS; i++) {
        if (job_task[i]) {
            job[i].result = sch_join(job_task[i]);
            EXPECT(job[i].result == 0 || job[i].result == -ENOMEM);
        } else {
            EXPECT_EQ(job[i].result, -EAGAIN);
        }
        EXPECT_EQ(sch_join(call_task[i]), 0);
        EXPECT(call[i].result == 0 || call[i].result == -EAGAIN);
        EXPECT_EQ(job[i].ran, job[i].result == 0);
        EXPECT_EQ(call[i].ran, call[i].result == 0);
        EXPECT_EQ(job[i].dropped, 1);
        EXPECT_EQ(call[i].dropped, 1);
        if (support_get(&threads_refused) == 0) EXPECT_EQ(job[i].result | call[i].result, 0);
    }
    EXPECT_EQ(sch_num_alive_tasks(rt), 0);
}

/* For every n: the n-th thread cannot be made. Says whether there was an n-th. */
static bool threads_nth(unsigned n, unsigned workers, bool ever) {
    checked_memory memory;
    sch_config config = support_config(&memory, workers);
    unsigned count = 0;
    bool refused;
    config.max_blocking_threads = 3;
    threads_fail_from(n, ever);
    errno = 0;
    sch_runtime *rt = sch_runtime_new(&config);
    if (!rt) {
        EXPECT_EQ(errno, EAGAIN);
        EXPECT_EQ(n, 1);
        fault_threads(NULL);
        checked_end(&memory);
        return true;
    }
    EXPECT_EQ(sch_num_workers(rt), n <= workers ? n - 1 : workers);
    EXPECT_EQ(support_metrics(rt).num_worker_threads, sch_num_workers(rt));
    threads_workload(rt);
    refused = support_get(&threads_refused) > 0;
    fault_threads(NULL);
    threads_workload(rt); /* it has recovered */
    for (int i = 0; i < 100; i++) support_run(rt, support_count, &count);
    EXPECT_EQ(count, 100);
    support_end(rt, &memory);
    return refused;
}

TEST(threads_nth_cannot_be_made) {
    for (int ever = 0; ever < 2; ever++) {
        for (unsigned workers = 1; workers <= 4; workers += 3) {
            unsigned n = 1;
            while (threads_nth(n, workers, ever != 0)) n++;
            EXPECT(n > workers + 1); /* something else was refused, too */
        }
    }
}

static void threads_refused_call(void *arg) {
    threads_call *c = (threads_call *)arg;
    for (int i = 0; i < 3; i++) {
        c->result = sch_block_in_place(threads_run, c);
        EXPECT_EQ(c->result, -EAGAIN);
        EXPECT_EQ(sch_yield_now(), 0);
    }
}

/* With no thread but the workers, what needs another one is refused at once and has no effect. */
TEST(threads_none_but_workers) {
    for (unsigned workers = 1; workers <= 2; workers++) {
        checked_memory memory;
        sch_config config = support_config(&memory, workers);
        threads_call job = {NULL, 0, 0, 0}, call = {NULL, 0, 0, 0};
        threads_fail_from(workers + 1, true);
        sch_runtime *rt = support_begin(&config);
        for (int i = 0; i < 3; i++) {
            errno = 0;
            EXPECT(sch_spawn_blocking_with(rt, &threads_desc, threads_run, &job) == NULL);
            EXPECT_EQ(errno, EAGAIN);
        }
        EXPECT_EQ(job.ran, 0);
        EXPECT_EQ(job.dropped, 3);
        support_run(rt, threads_refused_call, &call);
        EXPECT_EQ(call.ran, 0);
        EXPECT_EQ(support_metrics(rt).num_blocking_threads, 0);
        EXPECT_EQ(support_metrics(rt).num_worker_threads, workers);
        fault_threads(NULL);
        support_end(rt, &memory);
    }
}

/* A job that cannot have a thread of its own waits for one that is busy. */
TEST(threads_job_waits_for_a_busy_one) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    support_gate gate = SUPPORT_GATE;
    threads_call first = {&gate, 0, 0, 0}, second = {NULL, 0, 0, 0};
    sch_runtime *rt = support_begin(&config);
    sch_task *a = sch_spawn_blocking_with(rt, &threads_desc, threads_run, &first), *b;
    WAIT_FOR(support_gate_waiters(&gate) == 1);
    threads_fail_from(1, true);
    b = sch_spawn_blocking_with(rt, &threads_desc, threads_run, &second);
    EXPECT(b != NULL);
    EXPECT_EQ(support_metrics(rt).blocking_queue_depth, 1);
    EXPECT_EQ(support_metrics(rt).num_blocking_threads, 1);
    support_gate_open(&gate);
    EXPECT_EQ(sch_join(a), 0);
    EXPECT_EQ(sch_join(b), 0);
    EXPECT_EQ(first.dropped + second.dropped, 2);
    fault_threads(NULL);
    support_end(rt, &memory);
}

/* One thread is being made when two more jobs come, which wait for it. Then it cannot be made after
 * all: the first job is refused and the others end with -ENOMEM; no one is left behind. */
static support_gate *threads_gate;

static int threads_fail_late(void) {
    support_gate_wait(threads_gate);
    return EAGAIN;
}

typedef struct threads_submit {
    sch_runtime *rt;
    threads_call call;
    bool refused;
} threads_submit;

static void threads_submit_job(void *arg) {
    threads_submit *s = (threads_submit *)arg;
    s->refused = sch_spawn_blocking_with(s->rt, &threads_desc, threads_run, &s->call) == NULL;
    if (s->refused) EXPECT_EQ(errno, EAGAIN);
}

TEST(threads_jobs_that_relied_on_another) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    support_gate gate = SUPPORT_GATE;
    support_thread thread;
    threads_submit submit;
    threads_call late[2];
    sch_task *task[2];
    memset(late, 0, sizeof late);
    memset(&submit, 0, sizeof submit);
    config.max_blocking_threads = 1;
    submit.rt = support_begin(&config);
    threads_gate = &gate;
    fault_threads(threads_fail_late);
    support_thread_start(&thread, threads_submit_job, &submit);
    WAIT_FOR(support_gate_waiters(&gate) == 1);
    for (int i = 0; i < 2; i++) {
        task[i] = sch_spawn_blocking_with(submit.rt, &threads_desc, threads_run, &late[i]);
        EXPECT(task[i] != NULL);
    }
    support_gate_open(&gate);
    support_thread_join(&thread);
    EXPECT(submit.refused);
    EXPECT_EQ(submit.call.ran, 0);
    EXPECT_EQ(submit.call.dropped, 1);
    for (int i = 0; i < 2; i++) {
        EXPECT_EQ(sch_join(task[i]), -ENOMEM);
        EXPECT_EQ(late[i].ran, 0);
        EXPECT_EQ(late[i].dropped, 1);
    }
    EXPECT_EQ(support_metrics(submit.rt).num_blocking_threads, 0);
    EXPECT_EQ(support_metrics(submit.rt).blocking_queue_depth, 0);
    fault_threads(NULL);
    EXPECT_EQ(sch_join(sch_spawn_blocking(submit.rt, threads_run, &late[0])), 0);
    EXPECT_EQ(late[0].ran, 1);
    support_end(submit.rt, &memory);
}

/* Calls that wait for a place when the thread for theirs cannot be made: all come back. */
TEST(threads_places_that_wait) {
    for (unsigned n = 1; n <= 4; n++) {
        checked_memory memory;
        sch_config config = support_config(&memory, 2);
        threads_call call[20];
        sch_task *task[20];
        memset(call, 0, sizeof call);
        config.max_blocking_threads = 2;
        fault_threads(NULL);
        sch_runtime *rt = support_begin(&config);
        threads_fail_from(n, n % 2 == 0);
        for (int i = 0; i < 20; i++) task[i] = sch_spawn(rt, threads_block, &call[i]);
        for (int i = 0; i < 20; i++) {
            EXPECT_EQ(sch_join(task[i]), 0);
            EXPECT(call[i].result == 0 || call[i].result == -EAGAIN);
            EXPECT_EQ(call[i].ran, call[i].result == 0);
        }
        EXPECT_EQ(schi_load_seq(&rt->reserve_waiters), 0);
        fault_threads(NULL);
        support_end(rt, &memory);
    }
}
