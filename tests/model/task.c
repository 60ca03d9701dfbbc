/* task.c - clients of the task [6]: its state word as polls, wakes, cancels, joins and the last
 * handle's drop meet in it, and the slabs that tasks live in. Threads hold a core each and run what
 * comes into its queue where they stand, by the header's own schi_run. */
#include "crew.h"

#define TASK_THREADS 3
typedef struct task_case task_case;
struct task_case {
    bare *b;
    sch_task *task;   /* fixed before the threads start */
    sch_task *joined; /* the same: what the task joins */
    void (*role[TASK_THREADS])(task_case *c);
    bool outside[TASK_THREADS]; /* fixed: this thread is none of the runtime's */
    /* Of the task, whoever runs it: a cell, so that two owners are a race. */
    SCHI_CELL(unsigned) polls;
    SCHI_CELL(unsigned) result;
    SCHI_ATOMIC(uint32_t) work[2]; /* relaxed: the wake orders it */
    unsigned needed[2];            /* fixed: the task is ready when so much work is seen */
    bool until_cancelled;          /* fixed: ... or when it is cancelled */
    bool yields;                   /* fixed: its first poll yields */
    SCHI_ATOMIC(uint32_t) drops, told, won, refused;
};

static task_case *task_new(void) {
    task_case *c = (task_case *)model_new(sizeof *c);
    c->b = bare_new(TASK_THREADS, TASK_THREADS, false);
    bare_no_wakes(c->b);
    bare_hold_cores(c->b, TASK_THREADS);
    return c;
}

static void task_drop_run(void *arg) { (void)schi_add_rlx(&((task_case *)arg)->drops, 1u); }
static void task_drop_poll(void *state) { task_drop_run(*(task_case **)state); }

static const sch_spawn_desc task_desc = {"run", SCH_HERE, 0, task_drop_run};
static const sch_spawn_desc task_poll_desc = {"poll", SCH_HERE, 0, task_drop_poll};

static sch_status task_poll(sch_task *self, void *state) {
    task_case *c = *(task_case **)state;
    unsigned polls = schi_rd(&c->polls);
    bool ready = !c->until_cancelled;
    MODEL_EXPECT(sch_task_state(self) == state);
    schi_wr(&c->polls, polls + 1);
    if (c->until_cancelled) ready = sch_cancelled();
    for (int i = 0; i < 2 && !c->until_cancelled; i++) {
        ready = schi_load_rlx(&c->work[i]) >= c->needed[i] && ready;
    }
    if (polls == 0 && c->yields) MODEL_EXPECT(sch_yield_now() == 0);
    if (ready) schi_wr(&c->result, 42u);
    return ready ? SCH_READY : SCH_PENDING;
}

/* Run what this thread's core has. */
static void task_run_all(schi_thread *th) {
    for (sch_task *task; (task = schi_next(th, th->core)) != NULL;) schi_run(th, task);
}

static void task_work(void *shared, unsigned me) {
    task_case *c = (task_case *)shared;
    schi_thread *th = c->b->thread[me];
    if (!c->outside[me]) schi_tls_set(th);
    if (c->role[me]) c->role[me](c);
    if (!c->outside[me]) task_run_all(th);
    schi_tls_set(NULL);
}

/* Spawned on thread 0, which will run it; with so many handles. */
static void task_spawn(task_case *c, sch_fn run, unsigned handles) {
    schi_tls_set(c->b->thread[0]);
    if (run) {
        c->task = sch_spawn_with(NULL, &task_desc, run, c);
    } else {
        c->task = sch_spawn_poll_with(NULL, &task_poll_desc, task_poll, &c, sizeof c);
    }
    schi_tls_set(NULL);
    MODEL_EXPECT(c->task != NULL);
    if (handles == 0) sch_release(c->task);
    for (; handles > 1; handles--) (void)sch_retain(c->task);
}

/* The blocks of a heap: all are free, each in one place. */
static void heap_end(schi_heap *heap) {
    uint32_t used = 0, unused = 0;
    if (!heap) return;
    for (schi_slab *s = schi_load_acq(&heap->slabs); s; s = s->next) {
        used += schi_load_acq(&s->used);
    }
    for (int i = 0; i < 2; i++) {
        schi_node *node = i ? heap->local : schi_load_acq(&heap->remote);
        for (; node && unused <= used; node = schi_rd(&node->next)) {
            MODEL_EXPECT(schi_task_refs(schi_load_acq(&schi_task_of(node)->state)) == 0);
            unused++;
        }
    }
    MODEL_EXPECT(used == unused);
}

/* All handles are gone: the task ended once, its drop ran once, its memory is free. */
static void task_end(task_case *c) {
    sch_runtime *rt = c->b->rt;
    MODEL_EXPECT(sch_num_alive_tasks(rt) == 0 && schi_load_seq(&c->drops) == 1);
    for (int k = 0; k < SCHI_HEAP_CLASSES; k++) {
        heap_end(rt->shared_heaps[k]);
        for (unsigned i = 0; i < rt->num_cores; i++) {
            heap_end(schi_load_acq(&rt->cores[i]->heaps[k]));
        }
    }
    bare_free(c->b);
}

/* The same with one handle left. */
static void task_join_and_end(task_case *c) {
    MODEL_EXPECT(sch_is_done(c->task) && sch_join(c->task) == 0);
    MODEL_EXPECT(schi_rd(&c->result) == 42);
    task_end(c);
}

/* Wakes -----------------------------------------------------------------------------------------*/

static void task_wake_as(task_case *c, unsigned who) {
    schi_store_rlx(&c->work[who], schi_load_rlx(&c->work[who]) + 1);
    sch_wake(c->task);
}
static void task_wake_0(task_case *c) { task_wake_as(c, 0); }
static void task_wake_1(task_case *c) { task_wake_as(c, 1); }
static void task_wake_0_twice(task_case *c) { task_wake_as(c, 0), task_wake_as(c, 0); }

/* Each wake is followed by a poll that sees what was done before it, and there is no poll without
 * a reason. */
static void task_run_wakes(unsigned of_0, unsigned of_1, bool yields) {
    task_case *c = task_new();
    c->role[1] = of_0 == 2 ? task_wake_0_twice : task_wake_0;
    c->role[2] = of_1 ? task_wake_1 : NULL;
    c->needed[0] = of_0, c->needed[1] = of_1, c->yields = yields;
    task_spawn(c, NULL, 1);
    crew_run(of_1 ? 3 : 2, task_work, c);
    MODEL_EXPECT(schi_rd(&c->polls) <= 1 + of_0 + of_1 + yields);
    task_join_and_end(c);
}

MODEL(task_one_wake, .bound = 6, .stale = 6, .spurious = 1) { task_run_wakes(1, 0, false); }
MODEL(task_wake_twice, .bound = 4, .stale = 4, .spurious = 1) { task_run_wakes(2, 0, false); }
MODEL(task_two_wakers, .bound = 3, .spurious = 1) { task_run_wakes(1, 1, false); }
MODEL(task_yield_vs_wake, .bound = 4, .spurious = 1) { task_run_wakes(1, 0, true); }

/* A task that yields and is stolen while it is woken. */
static void task_steal(task_case *c) {
    schi_thread *th = c->b->thread[2];
    sch_task *task;
    th->rescue = true;
    task = schi_steal(th);
    if (task) schi_run(th, task);
}

MODEL(task_steal_vs_wake, .bound = 3) {
    task_case *c = task_new();
    c->role[1] = task_wake_0, c->role[2] = task_steal;
    c->needed[0] = 1, c->yields = true;
    task_spawn(c, NULL, 1);
    crew_run(3, task_work, c);
    MODEL_EXPECT(schi_rd(&c->polls) <= 3);
    task_join_and_end(c);
}

/* The last handles go, one right after a wake, while the task ends: freed once, by one of three. */
static void task_wake_and_release(task_case *c) {
    sch_wake(c->task);
    sch_release(c->task);
}
static void task_release(task_case *c) { sch_release(c->task); }

MODEL(task_end_vs_wake_vs_release, .bound = 4, .spurious = 1) {
    task_case *c = task_new();
    c->role[1] = task_wake_and_release, c->role[2] = task_release;
    task_spawn(c, NULL, 2);
    crew_run(3, task_work, c);
    MODEL_EXPECT(schi_rd(&c->polls) == 1 && schi_rd(&c->result) == 42);
    task_end(c);
}

MODEL(task_end_vs_two_wakes, .bound = 3, .spurious = 1) {
    task_case *c = task_new();
    c->role[1] = c->role[2] = task_wake_and_release;
    task_spawn(c, NULL, 2);
    crew_run(3, task_work, c);
    MODEL_EXPECT(schi_rd(&c->polls) == 1 && schi_rd(&c->result) == 42);
    task_end(c);
}

/* Cancels ---------------------------------------------------------------------------------------*/

static void task_cancel(task_case *c) { MODEL_EXPECT(sch_cancel(c->task) == 0); }

static void task_try_cancel(task_case *c) {
    int result = sch_cancel(c->task);
    MODEL_EXPECT(result == 0 || result == -ESRCH);
    (void)schi_add_rlx(result == 0 ? &c->won : &c->refused, 1u);
    sch_release(c->task);
}

/* A poll task is polled once more after a cancel, and not for ever. */
MODEL(task_poll_vs_wake_vs_cancel, .bound = 3, .spurious = 1) {
    task_case *c = task_new();
    c->role[1] = task_wake_0, c->role[2] = task_cancel;
    c->until_cancelled = true;
    task_spawn(c, NULL, 1);
    crew_run(3, task_work, c);
    MODEL_EXPECT(schi_rd(&c->polls) <= 3 && sch_is_done(c->task));
    MODEL_EXPECT(sch_join(c->task) == (schi_rd(&c->polls) == 0 ? -ECANCELED : 0));
    task_end(c);
}

MODEL(task_two_cancels, .bound = 3) {
    task_case *c = task_new();
    c->role[1] = c->role[2] = task_try_cancel;
    c->until_cancelled = true;
    task_spawn(c, NULL, 3);
    crew_run(3, task_work, c);
    MODEL_EXPECT(schi_load_seq(&c->won) >= 1);
    MODEL_EXPECT(schi_rd(&c->polls) <= 2 && sch_is_done(c->task));
    MODEL_EXPECT(sch_join(c->task) == (schi_rd(&c->polls) == 0 ? -ECANCELED : 0));
    task_end(c);
}

/* A task that is cancelled before it runs does not run; a joiner learns which it was. */
static void task_run_once(void *arg) {
    task_case *c = (task_case *)arg;
    schi_wr(&c->polls, schi_rd(&c->polls) + 1);
    schi_wr(&c->result, 42u);
}

static void task_join_either(task_case *c) {
    int result = sch_join(c->task);
    MODEL_EXPECT(result == 0 || result == -ECANCELED);
    MODEL_EXPECT(schi_rd(&c->polls) == (result == 0));
    model_outcome(result == 0);
}

MODEL(task_first_run_vs_cancel_vs_join, .bound = 3, .outcomes = 3) {
    task_case *c = task_new();
    c->role[1] = task_try_cancel, c->role[2] = task_join_either;
    c->outside[1] = c->outside[2] = true;
    task_spawn(c, task_run_once, 2);
    crew_run(3, task_work, c);
    task_end(c);
}

/* Joins -----------------------------------------------------------------------------------------*/

static void task_try_join(task_case *c) {
    int result = sch_join(c->task);
    if (result == 0) {
        MODEL_EXPECT(schi_rd(&c->result) == 42);
        (void)schi_add_rlx(&c->won, 1u);
    } else {
        MODEL_EXPECT(result == -EBUSY || result == -EINVAL);
        (void)schi_add_rlx(&c->refused, 1u);
        sch_release(c->task);
    }
}

/* One joins, the other is refused. */
MODEL(task_end_vs_two_joins, .bound = 3) {
    task_case *c = task_new();
    c->role[1] = c->role[2] = task_try_join;
    c->outside[1] = c->outside[2] = true;
    task_spawn(c, task_run_once, 2);
    crew_run(3, task_work, c);
    MODEL_EXPECT(schi_load_seq(&c->won) == 1 && schi_load_seq(&c->refused) == 1);
    task_end(c);
}

MODEL(task_end_vs_join_vs_release, .bound = 3, .spurious = 1) {
    task_case *c = task_new();
    c->role[1] = task_try_join, c->role[2] = task_release;
    c->outside[1] = true;
    task_spawn(c, task_run_once, 2);
    crew_run(3, task_work, c);
    MODEL_EXPECT(schi_load_seq(&c->won) == 1);
    task_end(c);
}

/* Blocking jobs wait by parking their thread: waits without stacks. -----------------------------*/

/* A job that this thread runs. Thread 1 has no core then. */
static sch_task *job_new(task_case *c, sch_fn run) {
    int error = 0;
    schi_thread *th = c->b->thread[1];
    sch_task *task = schi_task_new_shared(c->b->rt, 0, true, &error);
    MODEL_EXPECT(task != NULL);
    task->on.thread = c->b->thread[1], schi_store_rlx(&task->desc, (const sch_spawn_desc *)NULL);
    schi_store_rlx(&task->fn, run), task->arg = c;
    schi_store_rel(&task->state, SCHI_SCHEDULED | SCHI_NEW | SCHI_JOB | 2 * SCHI_REF);
    schi_core_give_up(th);
    th->kind = SCHI_BLOCKING, th->stack = NULL;
    c->outside[1] = true;
    return task;
}

static void job_run_here(task_case *c, sch_task *job) {
    schi_tls_set(c->b->thread[1]);
    schi_job_run(c->b->thread[1], job);
}

/* The job joins a task that ends, and is cancelled itself. If that cuts the wait short the handle
 * is still good; a grant that is on its way by then is waited for. */
static void job_join(void *arg) {
    task_case *c = (task_case *)arg;
    int result = sch_join(c->joined);
    if (result == -EINTR) {
        (void)schi_add_rlx(&c->told, 1u);
        MODEL_EXPECT(sch_cancelled() && sch_shield_begin(SCH_FOREVER) == 0);
        result = sch_join(c->joined);
        sch_shield_end();
    }
    MODEL_EXPECT(result == 0 && schi_rd(&c->result) == 42);
    (void)schi_add_rlx(&c->won, 1u);
}

static void job_role(task_case *c) { job_run_here(c, c->task); }

static void task_cancel_or_late(task_case *c) {
    int result = sch_cancel(c->task);
    MODEL_EXPECT(result == 0 || result == -ESRCH);
}

/* Outcomes: 0 it joined, 1 it was told and joined later, 2 it did not run. */
MODEL(job_join_vs_end_vs_cancel, .bound = 3, .outcomes = 7) {
    task_case *c = task_new();
    bool told, ran;
    int result;
    task_spawn(c, task_run_once, 1);
    c->joined = c->task;
    c->task = job_new(c, job_join);
    c->role[1] = job_role, c->role[2] = task_cancel_or_late;
    c->outside[2] = true;
    crew_run(3, task_work, c);
    told = schi_load_seq(&c->told) > 0, ran = schi_load_seq(&c->won) > 0;
    result = sch_join(c->task);
    MODEL_EXPECT(result == (told || !ran ? -ECANCELED : 0));
    model_outcome(!ran ? 2 : told);
    if (!ran) MODEL_EXPECT(sch_join(c->joined) == 0);
    task_end(c);
}

/* The job suspends itself until it sees the work, or nothing but a cancel comes; that is told once,
 * and then shielded from. */
static void job_suspend(void *arg) {
    task_case *c = (task_case *)arg;
    unsigned waits = 0;
    schi_wr(&c->polls, 1u);
    while (schi_load_rlx(&c->work[0]) == 0) {
        int result = sch_suspend();
        MODEL_EXPECT(result == 0 || result == -ECANCELED);
        MODEL_EXPECT(++waits <= 2);
        if (result == 0) continue;
        (void)schi_add_rlx(&c->told, 1u);
        if (c->until_cancelled) return;
        MODEL_EXPECT(sch_shield_begin(SCH_FOREVER) == 0);
    }
    if (schi_load_rlx(&c->told) > 0) sch_shield_end();
}

static void job_run_suspend(bool wake, bool cancel) {
    task_case *c = task_new();
    int result;
    c->task = job_new(c, job_suspend);
    c->until_cancelled = !wake;
    schi_store_seq(&c->drops, 1u); /* it has none */
    if (wake) c->role[0] = task_wake_0;
    c->role[1] = job_role, c->role[2] = task_cancel_or_late;
    c->outside[2] = true;
    crew_run(cancel ? 3 : 2, task_work, c);
    result = sch_join(c->task);
    MODEL_EXPECT(result == (schi_load_seq(&c->told) || !schi_rd(&c->polls) ? -ECANCELED : 0));
    MODEL_EXPECT((cancel || result == 0) && (wake || result == -ECANCELED));
    task_end(c);
}

MODEL(job_suspend_vs_wake, .bound = 6, .stale = 6, .spurious = 1) { job_run_suspend(true, false); }
MODEL(job_suspend_vs_cancel, .bound = 4, .spurious = 1) { job_run_suspend(false, true); }
MODEL(job_suspend_vs_wake_vs_cancel, .bound = 3, .spurious = 1) { job_run_suspend(true, true); }

/* From outside, to a worker that may sleep ------------------------------------------------------*/

static void remote_worker(schi_thread *th) {
    schi_tls_set(th);
    while (schi_sleep(th, NULL)) {
        for (sch_task *task; th->core && (task = bare_next(th)) != NULL;) schi_run(th, task);
    }
    schi_tls_set(NULL);
}

static void remote_work(void *shared, unsigned me) {
    task_case *c = (task_case *)shared;
    if (me == 1) {
        remote_worker(c->b->thread[0]);
        return;
    }
    c->task = sch_spawn_poll_with(c->b->rt, &task_poll_desc, task_poll, &c, sizeof c);
    MODEL_EXPECT(c->task != NULL);
    if (c->until_cancelled) {
        task_cancel(c);
    } else {
        task_wake_as(c, 0);
    }
    MODEL_EXPECT(sch_join(c->task) == (schi_rd(&c->polls) > 0 ? 0 : -ECANCELED));
    schi_finish(c->b->rt);
}

static void remote_run(bool cancel) {
    task_case *c = (task_case *)model_new(sizeof *c);
    c->b = bare_new(1, 1, false);
    c->b->rt->cores[0]->alone = true;
    bare_no_wakes(c->b);
    c->needed[0] = 1, c->until_cancelled = cancel;
    crew_run(2, remote_work, c);
    MODEL_EXPECT(cancel || schi_rd(&c->result) == 42);
    MODEL_EXPECT(model_time_jumps() == 0);
    task_end(c);
}

MODEL(remote_wake, .bound = 3) { remote_run(false); }
MODEL(remote_cancel, .bound = 3) { remote_run(true); }

/* Slabs -----------------------------------------------------------------------------------------*/

#define SLAB_TASKS 5
typedef struct slab_case {
    schi_heap *heap;
    sch_task *task[SLAB_TASKS];
    char core; /* only its address counts */
    unsigned visits;
} slab_case;

static struct schi_core *slab_core(slab_case *c) { return (struct schi_core *)(void *)&c->core; }

static slab_case *slab_new(void) {
    slab_case *c = (slab_case *)model_new(sizeof *c);
    sch_config config;
    memset(&config, 0, sizeof config);
    schi_config_defaults(&config);
    c->heap = schi_heap_new(&config.allocator, NULL, slab_core(c), 0, false);
    MODEL_EXPECT(c->heap != NULL);
    return c;
}

/* A block as a spawned task that has ended and has one handle. The joiner's cell stands for all
 * that its owner does with it. */
static void slab_take(slab_case *c, unsigned i) {
    sch_task *task = schi_heap_alloc(c->heap);
    MODEL_EXPECT(task != NULL);
    MODEL_EXPECT(schi_task_refs(schi_load_rlx(&task->state)) == 0);
    for (unsigned k = 0; k < SLAB_TASKS; k++) MODEL_EXPECT(c->task[k] != task || k >= i);
    schi_wr(&task->joiner, (struct schi_waiter *)NULL);
    schi_store_rel(&task->state, SCHI_COMPLETE | SCHI_REF);
    c->task[i] = task;
}

static void slab_give(struct schi_core *core, sch_task *task) {
    schi_wr(&task->joiner, (struct schi_waiter *)NULL);
    schi_task_release(core, task);
}

/* Two threads free what the owner has made, which makes more meanwhile. */
static void slab_work(void *shared, unsigned me) {
    slab_case *c = (slab_case *)shared;
    if (me > 0) {
        slab_give(NULL, c->task[me - 1]);
        return;
    }
    slab_give(slab_core(c), c->task[2]);
    c->task[2] = NULL;
    for (unsigned i = 0; i < 3; i++) { /* one local block, and remote ones if they are there */
        sch_task *task = schi_heap_alloc(c->heap);
        MODEL_EXPECT(task != NULL && task != c->task[3] && task != c->task[4]);
        schi_wr(&task->joiner, (struct schi_waiter *)NULL);
        schi_store_rel(&task->state, SCHI_COMPLETE | SCHI_REF);
        c->task[2 + i] = task;
    }
}

MODEL(slab_remote_frees, .bound = 4, .spurious = 1) {
    slab_case *c = slab_new();
    for (unsigned i = 0; i < 3; i++) slab_take(c, i);
    crew_run(3, slab_work, c);
    MODEL_EXPECT(c->task[2] != c->task[3] && c->task[3] != c->task[4] && c->task[2] != c->task[4]);
    for (unsigned i = 2; i < 5; i++) slab_give(slab_core(c), c->task[i]);
    heap_end(c->heap);
    schi_heap_orphan(c->heap);
}

/* Handles outlive the runtime: the last of three frees slabs and heap. */
static void slab_outlive(void *shared, unsigned me) {
    slab_case *c = (slab_case *)shared;
    if (me == 0) {
        schi_heap_orphan(c->heap);
    } else {
        slab_give(NULL, c->task[me - 1]);
    }
}

MODEL(slab_orphan, .bound = 4, .stale = 4, .spurious = 1) {
    slab_case *c = slab_new();
    for (unsigned i = 0; i < 3; i++) slab_take(c, i);
    slab_give(slab_core(c), c->task[2]);
    crew_run(3, slab_outlive, c);
}

/* Shutdown's walk over the slabs, while tasks in them begin, end and begin again: every task that
 * was there before the walk and has not ended is cancelled. */
static void walk_do_nothing(void *arg) { (void)arg; }

static void walk_spawn(task_case *c) {
    schi_thread *th = c->b->thread[0];
    task_run_all(th);
    for (int i = 0; i < 2; i++) {
        sch_task *task = sch_spawn(NULL, walk_do_nothing, c);
        int result;
        MODEL_EXPECT(task != NULL);
        task_run_all(th);
        result = sch_join(task);
        MODEL_EXPECT(result == 0 || result == -ECANCELED);
    }
}

static void walk_cancel(task_case *c) {
    schi_thread *th = c->b->thread[1];
    for (int k = 0; k < SCHI_HEAP_CLASSES; k++) {
        schi_heap_cancel_all(th, schi_load_acq(&c->b->rt->cores[0]->heaps[k]));
    }
}

MODEL(slab_walk, .bound = 3) {
    task_case *c = task_new();
    c->role[0] = walk_spawn, c->role[1] = walk_cancel;
    c->until_cancelled = true;
    task_spawn(c, NULL, 1);
    crew_run(2, task_work, c);
    MODEL_EXPECT(sch_is_done(c->task));
    MODEL_EXPECT(sch_join(c->task) == (schi_rd(&c->polls) == 0 ? -ECANCELED : 0));
    task_end(c);
}

/* Stacks: two threads take and give back, a third gives the pages of unused ones to the system. -*/

typedef struct stack_case {
    schi_stack_pool pool;
    sch_allocator allocator;
    SCHI_ATOMIC(uint32_t) out; /* stacks that are out */
} stack_case;

static uint64_t *stack_low(stack_case *c, schi_stack *s) {
    return (uint64_t *)(void *)(s->mapping + c->pool.page);
}

static void stack_work(void *shared, unsigned me) {
    stack_case *c = (stack_case *)shared;
    if (me == 2) {
        (void)schi_stack_pool_trim(&c->pool, 0);
        return;
    }
    for (int i = 0; i < 2; i++) {
        schi_stack *s = schi_stack_pool_get(&c->pool);
        MODEL_EXPECT(s != NULL);
        schi_stack_check(s);
        *stack_low(c, s) = 0xabcdef00u + me; /* its pages stay while it is out, and are ours */
        MODEL_EXPECT(schi_add_rlx(&c->out, 1u) < 2);
        (void)schi_sub_rlx(&c->out, 1u);
        MODEL_EXPECT(*stack_low(c, s) == 0xabcdef00u + me);
        schi_stack_pool_put(&c->pool, s);
    }
}

MODEL(stack_pool, .bound = 3) {
    stack_case *c = (stack_case *)model_new(sizeof *c);
    sch_config config;
    uint64_t num_free = 0;
    memset(&config, 0, sizeof config);
    schi_config_defaults(&config);
    c->allocator = config.allocator;
    MODEL_EXPECT(schi_stack_pool_init(&c->pool, &c->allocator, config.stack_size) == 0);
    schi_stack_pool_put(&c->pool, schi_stack_pool_get(&c->pool)); /* one that can be trimmed */
    crew_run(3, stack_work, c);
    MODEL_EXPECT(schi_counted(&c->pool.num_free) == schi_counted(&c->pool.num_stacks));
    for (schi_stack *s = c->pool.dirty; s; s = s->next) num_free++;
    MODEL_EXPECT(num_free == schi_counted(&c->pool.num_dirty));
    for (schi_stack *s = c->pool.clean; s; s = s->next) num_free++;
    MODEL_EXPECT(num_free + c->pool.chunks->unplaced == schi_counted(&c->pool.num_stacks));
    schi_stack_pool_drop(&c->pool);
}
