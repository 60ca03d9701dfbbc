/* coverage.c - [5.1] [11] [13] [18]: what other tests reach by coincidence only: here it is
 * arranged. */
#include "support.h"

/* Operations that do not have to wait use a task's turn up, so that others have theirs. ---------*/

static void coverage_spend(void *other) {
    EXPECT_EQ(sch_go(NULL, support_count, other), 0);
    for (int i = 0; i < 2 * SCH_BUDGET; i++) {
        sch_wake(sch_self());
        EXPECT_EQ(sch_suspend(), 0);
    }
}

/* There is one core: who does not yield runs alone. */
static void coverage_spend_in_task(void *other) {
    coverage_spend(other);
    EXPECT_EQ(support_get((unsigned *)other), 1);
}

static void coverage_join_ended(void *arg) {
    sch_task *task[2 * SCH_BUDGET];
    unsigned done = 0, other = 0;
    (void)arg;
    for (int i = 0; i < 2 * SCH_BUDGET; i++) task[i] = sch_spawn(NULL, support_count, &done);
    YIELD_UNTIL(support_get(&done) == 2 * SCH_BUDGET);
    EXPECT_EQ(sch_go(NULL, support_count, &other), 0);
    for (int i = 0; i < 2 * SCH_BUDGET; i++) EXPECT_EQ(sch_join(task[i]), 0);
    EXPECT_EQ(support_get(&other), 1);
}

TEST(coverage_budget) {
    checked_memory memory;
    sch_config config = support_config(&memory, 0);
    sch_runtime *rt = support_begin(&config);
    unsigned other = 0;
    uint64_t yields;
    support_run(rt, coverage_spend_in_task, &other);
    support_run(rt, coverage_join_ended, NULL);
    yields = support_metrics(rt).total.forced_yield_count;
    EXPECT(yields >= 2);
    other = 0; /* a job has a thread of its own and just goes on */
    EXPECT_EQ(sch_join(sch_spawn_blocking(rt, coverage_spend, &other)), 0);
    EXPECT_EQ(support_metrics(rt).total.forced_yield_count, yields);
    support_end(rt, &memory);
}

/* A ring overflows while a thief is between the halves of its steal: nothing can be taken out of
 * the ring then, and the one task goes to the injector. */
static void coverage_overflow(void *done) {
    schi_core *core = schi_self()->core;
    uint64_t overflows = schi_counted(&core->m.overflows);
    SCHI_INDEX from = 0;
    schi_node *stolen;
    for (int i = 0; i < SCH_RUNQ_CAP; i++) EXPECT_EQ(sch_go(NULL, support_count, done), 0);
    EXPECT_EQ(schi_runq_steal_begin(&core->q, 1, &from), 1);
    stolen = schi_rd(&core->q.slots[from & SCHI_RUNQ_MASK]);
    EXPECT_EQ(sch_injection_queue_depth(core->rt), 0);
    EXPECT_EQ(sch_go(NULL, support_count, done), 0);
    EXPECT_EQ(sch_injection_queue_depth(core->rt), 1);
    EXPECT_EQ(schi_counted(&core->m.overflows), overflows + 1);
    schi_runq_steal_end(&core->q);
    schi_push_back(schi_self(), core, schi_task_of(stolen));
    EXPECT_EQ(sch_injection_queue_depth(core->rt), 1); /* there was room again */
    YIELD_UNTIL(support_get((unsigned *)done) == SCH_RUNQ_CAP + 1);
}

TEST(coverage_overflow_beside_a_thief) {
    checked_memory memory;
    sch_config config = support_config(&memory, 0);
    sch_runtime *rt = support_begin(&config);
    unsigned done = 0;
    support_run(rt, coverage_overflow, &done);
    EXPECT_EQ(done, SCH_RUNQ_CAP + 1);
    support_end(rt, &memory);
}

/* A task ends after its joiner has claimed it and before the joiner waits; the joiner may have been
 * cancelled meanwhile: the result is there, so it counts. */
static void coverage_ended_meanwhile(void *cancelled) {
    unsigned done = 0;
    SCHI_STATE before;
    sch_task *task = sch_spawn(NULL, support_count, &done);
    EXPECT_EQ(schi_task_join(task, &before), SCHI_JOIN_CLAIMED);
    if (cancelled) EXPECT_EQ(sch_cancel(sch_self()), 0);
    YIELD_UNTIL(sch_is_done(task));
    EXPECT_EQ(schi_join_as_task(schi_self(), task), 0);
    EXPECT_EQ(done, 1);
    sch_release(task);
    EXPECT(sch_cancelled() == (cancelled != NULL));
}

/* The same between sch_join's first look and its claim; ours is the last reference. */
static void coverage_ended_before(void *arg) {
    unsigned done = 0;
    sch_task *task = sch_spawn(NULL, support_count, &done);
    (void)arg;
    YIELD_UNTIL(sch_is_done(task));
    EXPECT_EQ(schi_join_wait(schi_self(), task), 0);
    EXPECT_EQ(done, 1);
}

TEST(coverage_join_ended_meanwhile) {
    checked_memory memory;
    sch_config config = support_config(&memory, 0);
    sch_runtime *rt = support_begin(&config);
    support_run(rt, coverage_ended_meanwhile, NULL);
    support_run(rt, coverage_ended_meanwhile, rt); /* no wait told it so: it completes */
    support_run(rt, coverage_ended_before, NULL);
    EXPECT_EQ(support_metrics(rt).cancelled_tasks_count, 0);
    support_end(rt, &memory);
}

/* A visitor that drives one runtime waits for a task of another; the one it drives is shut down
 * meanwhile, and there is nothing left to drive. */
typedef struct coverage_visit {
    sch_runtime *driven;
    sch_task *task; /* of the other runtime */
    unsigned woken; /* atomic */
} coverage_visit;

static void coverage_suspend(void *arg) {
    (void)arg;
    EXPECT_EQ(sch_suspend(), 0);
}

static void coverage_wait_there(void *arg) {
    coverage_visit *v = (coverage_visit *)arg;
    EXPECT_EQ(sch_join(v->task), 0);
    EXPECT_EQ(support_get(&v->woken), 1);
}

static void coverage_end_visited(void *arg) {
    coverage_visit *v = (coverage_visit *)arg;
    WAIT_FOR(schi_load_seq(&v->task->state) & SCHI_JOIN_WAITER);
    EXPECT_EQ(sch_runtime_shutdown(v->driven, SCH_FOREVER), 0);
    support_nap(2000); /* time for the visitor to come out of it, right or wrong */
    support_set(&v->woken, 1);
    sch_wake(v->task);
}

TEST(coverage_visitor_outlives_runtime) {
    checked_memory driven_memory, other_memory;
    sch_config driven = support_config(&driven_memory, 0);
    sch_config other = support_config(&other_memory, 1);
    sch_runtime *rt = support_begin(&other);
    coverage_visit v;
    support_thread thread;
    v.driven = support_begin(&driven);
    v.task = sch_retain(sch_spawn(rt, coverage_suspend, NULL));
    v.woken = 0;
    support_thread_start(&thread, coverage_end_visited, &v);
    EXPECT_EQ(sch_block_on(v.driven, coverage_wait_there, &v), 0);
    support_thread_join(&thread);
    sch_release(v.task);
    support_end(v.driven, &driven_memory);
    support_end(rt, &other_memory);
}

/* All places for visitors are taken: one more is refused, but sch_runtime_free must get in. */
typedef struct coverage_nest {
    sch_runtime *rt[2];
    unsigned depth, dropped; /* dropped: atomic */
    support_thread freeing;
} coverage_nest;

static void coverage_free(void *rt) { sch_runtime_free((sch_runtime *)rt); }

static void coverage_nested(void *arg) {
    coverage_nest *n = (coverage_nest *)arg;
    static const sch_spawn_desc desc = {"left over", SCH_HERE, 0, support_count};
    int result;
    n->depth++;
    result = sch_block_on(n->rt[n->depth % 2], coverage_nested, n);
    if (result == 0) return;
    EXPECT_EQ(result, -EAGAIN);
    EXPECT(n->depth > 2 * 64);
    EXPECT_EQ(n->depth % 2, 0); /* the one to be freed is the one that is full */
    EXPECT_EQ(sch_go_with(n->rt[0], &desc, coverage_suspend, &n->dropped), 0);
    support_thread_start(&n->freeing, coverage_free, n->rt[0]);
    WAIT_FOR(support_get(&n->dropped) == 1); /* it ran our task to its end meanwhile */
}

TEST(coverage_last_visit_without_a_place) {
    checked_memory memory[2];
    coverage_nest n;
    memset(&n, 0, sizeof n);
    for (int i = 0; i < 2; i++) {
        sch_config config = support_config(&memory[i], 0);
        config.max_blocking_threads = 1 + (unsigned)i; /* the second has more room */
        n.rt[i] = support_begin(&config);
    }
    EXPECT_EQ(sch_block_on(n.rt[0], coverage_nested, &n), 0);
    support_thread_join(&n.freeing);
    checked_end(&memory[0]);
    support_end(n.rt[1], &memory[1]);
}

TEST(coverage_strerror) {
    EXPECT(strcmp(sch_strerror(-EOWNERDEAD), sch_strerror(-100000)) != 0);
}
