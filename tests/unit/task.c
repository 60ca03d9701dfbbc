/* task.c - [6]: the task's state word. Slabs are in slab.c. */
#include "support.h"

/* The table: what each transition makes of a state, and what it says ----------------------------*/

enum task_step {
    TASK_WAKE,
    TASK_GRANT,
    TASK_CANCEL,
    TASK_CANCEL_AGAIN,
    TASK_IDLE, /* argument: what may resume it */
    TASK_COMPLETE, /* argument: how */
    TASK_JOIN,
    TASK_JOIN_WAIT,
    TASK_JOIN_CANCEL,
    TASK_CLEAR, /* argument: which bits */
};

typedef struct task_row {
    int line;
    enum task_step step;
    SCHI_STATE argument, before, after;
    int result; /* bool, int; 0 where the result is the state before */
} task_row;

#define TASK_S SCHI_SCHEDULED
#define TASK_W SCHI_WOKEN
#define TASK_G SCHI_GRANTED
#define TASK_C SCHI_CANCELLED
#define TASK_BY SCHI_BY_CANCEL
#define TASK_WW SCHI_WAIT_WAKE
#define TASK_WC SCHI_WAIT_CANCEL
#define TASK_P SCHI_POLL
#define TASK_DONE SCHI_COMPLETE
#define TASK_J SCHI_JOINED
#define TASK_JW SCHI_JOIN_WAITER
#define TASK_REFS(n) ((SCHI_STATE)(n) * SCHI_REF)
#define ROW(step, argument, before, after, result) \
    { __LINE__, step, argument, before, after, result }

static const task_row task_table[] = {
    /* A wake schedules what waits for one, and is kept otherwise. */
    ROW(TASK_WAKE, 0, TASK_WW | TASK_WC, TASK_S, 1),
    ROW(TASK_WAKE, 0, TASK_WW, TASK_S, 1),
    ROW(TASK_WAKE, 0, TASK_WW | TASK_P | TASK_C, TASK_S | TASK_P | TASK_C, 1),
    ROW(TASK_WAKE, 0, TASK_WC, TASK_WC | TASK_W, 0), /* another kind of wait: not cut short */
    ROW(TASK_WAKE, 0, 0, TASK_W, 0),
    ROW(TASK_WAKE, 0, TASK_S, TASK_S | TASK_W, 0),
    ROW(TASK_WAKE, 0, TASK_S | TASK_W, TASK_S | TASK_W, 0), /* several are one */
    ROW(TASK_WAKE, 0, TASK_S | SCHI_NEW, TASK_S | SCHI_NEW | TASK_W, 0),
    ROW(TASK_WAKE, 0, TASK_DONE, TASK_DONE, 0),

    /* A grant schedules what waits, whatever else may. */
    ROW(TASK_GRANT, 0, 0, TASK_S, 1),
    ROW(TASK_GRANT, 0, TASK_WC, TASK_S, 1),
    ROW(TASK_GRANT, 0, TASK_WC | TASK_W | TASK_C, TASK_S | TASK_W | TASK_C, 1),
    ROW(TASK_GRANT, 0, TASK_S, TASK_S | TASK_G, 0),
    ROW(TASK_GRANT, 0, TASK_S | TASK_BY, TASK_S | TASK_BY | TASK_G, 0),

    /* A cancel is remembered, and schedules what may be cancelled; a poll task is polled. */
    ROW(TASK_CANCEL, 0, TASK_WW | TASK_WC, TASK_S | TASK_C | TASK_BY, 1),
    ROW(TASK_CANCEL, 0, TASK_WC, TASK_S | TASK_C | TASK_BY, 1),
    ROW(TASK_CANCEL, 0, TASK_WW, TASK_WW | TASK_C, 0), /* shielded */
    ROW(TASK_CANCEL, 0, 0, TASK_C, 0),
    ROW(TASK_CANCEL, 0, TASK_S, TASK_S | TASK_C, 0),
    ROW(TASK_CANCEL, 0, TASK_S | SCHI_NEW, TASK_S | SCHI_NEW | TASK_C, 0),
    ROW(TASK_CANCEL, 0, TASK_WC | TASK_C, TASK_WC | TASK_C, 0), /* only once */
    ROW(TASK_CANCEL, 0, TASK_P | TASK_WW | TASK_WC, TASK_P | TASK_S | TASK_C, 1),
    ROW(TASK_CANCEL, 0, TASK_P | TASK_WW | TASK_WC | TASK_C,
        TASK_P | TASK_WW | TASK_WC | TASK_C, 0),
    ROW(TASK_CANCEL, 0, TASK_P | TASK_S, TASK_P | TASK_S | TASK_C | TASK_W, 0),
    ROW(TASK_CANCEL, 0, TASK_P | TASK_S | TASK_C, TASK_P | TASK_S | TASK_C, 0),
    ROW(TASK_CANCEL, 0, TASK_DONE, TASK_DONE, -ESRCH),
    ROW(TASK_CANCEL_AGAIN, 0, TASK_WC | TASK_C, TASK_S | TASK_C | TASK_BY, 1),
    ROW(TASK_CANCEL_AGAIN, 0, TASK_P | TASK_WW | TASK_WC | TASK_C, TASK_P | TASK_S | TASK_C, 1),
    ROW(TASK_CANCEL_AGAIN, 0, TASK_WW | TASK_C, TASK_WW | TASK_C, 0),
    ROW(TASK_CANCEL_AGAIN, 0, TASK_P | TASK_S | TASK_C, TASK_P | TASK_S | TASK_C | TASK_W, 0),
    ROW(TASK_CANCEL_AGAIN, 0, TASK_S, TASK_S | TASK_C, 0),
    ROW(TASK_CANCEL_AGAIN, 0, TASK_DONE | TASK_C, TASK_DONE | TASK_C, -ESRCH),

    /* Idle: refused if what it would wait for has come. */
    ROW(TASK_IDLE, TASK_WW | TASK_WC, TASK_S, TASK_WW | TASK_WC, 1),
    ROW(TASK_IDLE, TASK_WC, TASK_S | SCHI_NEW, TASK_WC, 1),
    ROW(TASK_IDLE, 0, TASK_S, 0, 1),
    ROW(TASK_IDLE, TASK_WW, TASK_S | TASK_W, TASK_S | TASK_W, 0),
    ROW(TASK_IDLE, TASK_WW, TASK_S | TASK_W | TASK_P | SCHI_NEW, TASK_S | TASK_P, 0),
    ROW(TASK_IDLE, TASK_WC, TASK_S | TASK_W, TASK_WC | TASK_W, 1), /* a wake is for later */
    ROW(TASK_IDLE, TASK_WC, TASK_S | TASK_G, TASK_S | TASK_G, 0),
    ROW(TASK_IDLE, 0, TASK_S | TASK_G | TASK_C, TASK_S | TASK_G | TASK_C, 0),
    ROW(TASK_IDLE, TASK_WC, TASK_S | TASK_G | TASK_C, TASK_S | TASK_G | TASK_C, 0), /* it wins */
    ROW(TASK_IDLE, TASK_WW | TASK_WC, TASK_S | TASK_W | TASK_C, TASK_S | TASK_W | TASK_C, 0),
    ROW(TASK_IDLE, TASK_WC, TASK_S | TASK_C, TASK_S | TASK_C | TASK_BY, 0),
    ROW(TASK_IDLE, TASK_WW, TASK_S | TASK_C, TASK_WW | TASK_C, 1), /* shielded */
    ROW(TASK_IDLE, 0, TASK_S | TASK_C, TASK_C, 1),
    ROW(TASK_IDLE, TASK_WW | TASK_WC, TASK_S | TASK_C | TASK_P,
        TASK_WW | TASK_WC | TASK_C | TASK_P, 1),

    /* Complete: the scheduler's reference goes, unless a joiner must be granted first. */
    ROW(TASK_COMPLETE, 0, TASK_S | TASK_REFS(1), TASK_DONE, 0),
    ROW(TASK_COMPLETE, 0, TASK_S | TASK_W | TASK_REFS(3), TASK_DONE | TASK_W | TASK_REFS(2), 0),
    ROW(TASK_COMPLETE, 0, TASK_S | TASK_J | TASK_REFS(2), TASK_DONE | TASK_J | TASK_REFS(1), 0),
    ROW(TASK_COMPLETE, 0, TASK_S | TASK_J | TASK_JW | TASK_REFS(2),
        TASK_DONE | TASK_J | TASK_JW | TASK_REFS(2), 0),
    ROW(TASK_COMPLETE, SCHI_DROPPED, TASK_S | SCHI_NEW | TASK_C | TASK_REFS(2),
        TASK_DONE | SCHI_DROPPED | SCHI_NEW | TASK_C | TASK_REFS(1), 0),
    ROW(TASK_COMPLETE, SCHI_DROPPED | SCHI_NO_STACK, TASK_S | TASK_REFS(2),
        TASK_DONE | SCHI_DROPPED | SCHI_NO_STACK | TASK_REFS(1), 0),

    /* Join: one at a time; of an ended task it takes the handle's reference at once. */
    ROW(TASK_JOIN, 0, TASK_S | TASK_REFS(2), TASK_S | TASK_J | TASK_REFS(2), SCHI_JOIN_CLAIMED),
    ROW(TASK_JOIN, 0, TASK_WC | TASK_REFS(2), TASK_WC | TASK_J | TASK_REFS(2), SCHI_JOIN_CLAIMED),
    ROW(TASK_JOIN, 0, TASK_DONE | TASK_REFS(1), TASK_DONE | TASK_J, SCHI_JOIN_DONE),
    ROW(TASK_JOIN, 0, TASK_S | TASK_J | TASK_REFS(3), TASK_S | TASK_J | TASK_REFS(3), -EBUSY),
    ROW(TASK_JOIN, 0, TASK_DONE | TASK_J | TASK_REFS(2),
        TASK_DONE | TASK_J | TASK_REFS(2), -EINVAL),
    ROW(TASK_JOIN_WAIT, 0, TASK_S | TASK_J, TASK_S | TASK_J | TASK_JW, 1),
    ROW(TASK_JOIN_WAIT, 0, TASK_DONE | TASK_J, TASK_DONE | TASK_J, 0),
    ROW(TASK_JOIN_CANCEL, 0, TASK_S | TASK_J | TASK_JW, TASK_S, 1),
    ROW(TASK_JOIN_CANCEL, 0, TASK_WC | TASK_J, TASK_WC, 1),
    ROW(TASK_JOIN_CANCEL, 0, TASK_DONE | TASK_J | TASK_JW, TASK_DONE | TASK_J | TASK_JW, 0),

    ROW(TASK_CLEAR, TASK_W | TASK_BY, TASK_S | TASK_W | TASK_BY | TASK_C, TASK_S | TASK_C, 0),
};
#undef ROW

static int task_do(sch_task *task, const task_row *row, SCHI_STATE *seen) {
    switch (row->step) {
    case TASK_WAKE: return schi_task_wake(task);
    case TASK_GRANT: return schi_task_grant(task);
    case TASK_CANCEL: return schi_task_cancel(task, false);
    case TASK_CANCEL_AGAIN: return schi_task_cancel(task, true);
    case TASK_IDLE: return schi_task_idle(task, row->argument);
    case TASK_COMPLETE: *seen = schi_task_complete(task, row->argument); return 0;
    case TASK_JOIN: return schi_task_join(task, seen);
    case TASK_JOIN_WAIT: return schi_task_join_wait(task);
    case TASK_JOIN_CANCEL: return schi_task_join_cancel(task);
    case TASK_CLEAR: *seen = schi_task_clear(task, row->argument); return 0;
    default: return -1;
    }
}

TEST(task_table) {
    /* What has nothing to do with a transition stays as it is. */
    const SCHI_STATE others[] = {0, SCHI_TOLD, SCHI_JOB, SCHI_TOLD | TASK_REFS(0x1000)};
    for (size_t i = 0; i < sizeof task_table / sizeof task_table[0]; i++) {
        const task_row *row = &task_table[i];
        for (int k = 0; k < 4; k++) {
            const SCHI_STATE before = row->before + others[k], after = row->after + others[k];
            SCHI_STATE seen = before;
            sch_task task;
            int result;
            memset(&task, 0, sizeof task);
            schi_store_seq(&task.state, before);
            result = task_do(&task, row, &seen);
            bool good = EXPECT_EQ(schi_load_seq(&task.state), after);
            good = EXPECT_EQ(result, row->result) && good;
            if (result >= 0) good = EXPECT_EQ(seen, before) && good;
            if (!good) fprintf(stderr, "  row in line %d, with others %d\n", row->line, k);
        }
    }
}

static void task_break_rule(void *arg) {
    const task_row *row = (const task_row *)arg;
    SCHI_STATE seen;
    sch_task task;
    memset(&task, 0, sizeof task);
    schi_store_seq(&task.state, row->before);
    (void)task_do(&task, row, &seen);
}

/* What only our own bug can do ends in an assertion, at the level that the tests run at. */
TEST(task_invariants) {
    static const task_row broken[] = {
        {__LINE__, TASK_GRANT, 0, TASK_DONE, 0, 0},        /* K4: granted after its end */
        {__LINE__, TASK_GRANT, 0, TASK_S | TASK_G, 0, 0},  /* K4: granted twice */
        {__LINE__, TASK_IDLE, TASK_WC, TASK_WC, 0, 0},     /* K1: was not ours */
        {__LINE__, TASK_IDLE, TASK_WC, TASK_S | TASK_WW, 0, 0}, /* K3 */
        {__LINE__, TASK_COMPLETE, 0, TASK_WW, 0, 0},       /* K1 */
        {__LINE__, TASK_COMPLETE, 0, TASK_S | TASK_DONE, 0, 0},
    };
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        task_row row = broken[i];
        if (!EXPECT_EQ(support_signal_of(task_break_rule, &row), SIGABRT))
            fprintf(stderr, "  row in line %d\n", row.line);
    }
}

/* Many at once ----------------------------------------------------------------------------------*/

/* Wakers against runners: whoever is told that the task is his to queue puts it into a mailbox, and
 * no two are. Every wake is followed by a run that sees what was done before the wake. */
#define TASK_WAKERS 2
#define TASK_RUNNERS 2
typedef struct task_wakes {
    sch_task task;
    size_t each;       /* wakes of a waker */
    size_t mail;       /* atomic: 1: the task is queued */
    size_t work;       /* atomic: what wakers have done and runners have not seen */
    size_t seen;       /* plain, of the task's owner */
    size_t runs, kept; /* plain, of the task's owner; kept: an idle was refused */
    bool over;         /* atomic */
} task_wakes;

static void task_queue(task_wakes *w) {
    EXPECT_EQ(__atomic_fetch_add(&w->mail, (size_t)1, __ATOMIC_RELEASE), 0);
}

static void task_runner(task_wakes *w, schi_rng *rng) {
    while (!__atomic_load_n(&w->over, __ATOMIC_RELAXED)) {
        size_t one = 1;
        if (!__atomic_compare_exchange_n(&w->mail, &one, (size_t)0, false, __ATOMIC_ACQUIRE,
                                         __ATOMIC_RELAXED)) {
            sched_yield();
            continue;
        }
        do { /* the task is ours until idle lets it go */
            (void)schi_task_clear(&w->task, SCHI_WOKEN);
            w->seen += __atomic_exchange_n(&w->work, (size_t)0, __ATOMIC_RELAXED);
            w->runs++;
            for (uint32_t n = schi_rng_below(rng, 30); n > 0; n--) schi_cpu_relax();
            if (w->seen == TASK_WAKERS * w->each) {
                __atomic_store_n(&w->over, true, __ATOMIC_RELAXED);
                return;
            }
            w->kept++;
        } while (!schi_task_idle(&w->task, SCHI_WAIT_WAKE | SCHI_WAIT_CANCEL));
    }
}

static void task_wakes_work(void *arg, unsigned me) {
    task_wakes *w = (task_wakes *)arg;
    schi_rng rng;
    schi_rng_init(&rng, test_seed() + me);
    if (me >= TASK_WAKERS) {
        task_runner(w, &rng);
        return;
    }
    for (size_t i = 0; i < w->each; i++) {
        __atomic_fetch_add(&w->work, (size_t)1, __ATOMIC_RELAXED); /* the wake orders it */
        if (schi_task_wake(&w->task)) task_queue(w);
        for (uint32_t n = schi_rng_below(&rng, 60); n > 0; n--) schi_cpu_relax();
        if (schi_rng_below(&rng, 64) == 0) sched_yield();
        while (i % 512 == 511 && __atomic_load_n(&w->work, __ATOMIC_RELAXED)) sched_yield();
    }
}

TEST(task_wakes) {
    task_wakes w;
    memset(&w, 0, sizeof w);
    w.each = test_scale(100000);
    schi_store_seq(&w.task.state, SCHI_REF | SCHI_WAIT_WAKE);
    crew_run(TASK_WAKERS + TASK_RUNNERS, task_wakes_work, &w);
    EXPECT_EQ(w.seen, TASK_WAKERS * w.each);
    EXPECT_EQ(w.mail, 0);
    EXPECT_EQ(schi_load_seq(&w.task.state) & ~SCHI_WOKEN, SCHI_REF | SCHI_SCHEDULED);
    if (test_slowdown == 1) EXPECT(w.runs > 100);
}

/* One wait after the other, each granted once, while a waker and a canceller interfere: a wake cuts
 * none short; a cancel does, once, and the grant that is still on its way is waited for. */
typedef struct task_waits {
    sch_task task;
    size_t rounds, cancel_from; /* the wait from which on it may be cancelled */
    size_t open, granted; /* atomic: numbers of the wait begun, the wait granted */
    size_t mail;          /* atomic: 1: the task is queued */
    bool over;            /* atomic */
    size_t cancels;       /* canceller: cancels that scheduled the task */
    size_t told;          /* task: waits that a cancel cut short */
    size_t granted_too;   /* task: a cancel ended them, and the grant had come, too: it wins */
} task_waits;

/* The task waits until it is scheduled. */
static SCHI_STATE task_wait(task_waits *w, SCHI_STATE wait) {
    SCHI_STATE state;
    if (schi_task_idle(&w->task, wait)) {
        while (!__atomic_exchange_n(&w->mail, (size_t)0, __ATOMIC_ACQUIRE)) sched_yield();
    }
    state = schi_task_clear(&w->task, SCHI_GRANTED | SCHI_BY_CANCEL);
    EXPECT_EQ(state & (SCHI_SCHEDULED | SCHI_WAIT_BITS), SCHI_SCHEDULED);
    return state;
}

static void task_waiter(task_waits *w) {
    for (size_t i = 1; i <= w->rounds; i++) {
        SCHI_STATE state;
        __atomic_store_n(&w->open, i, __ATOMIC_RELEASE);
        state = task_wait(w, w->told ? 0 : SCHI_WAIT_CANCEL);
        if ((state & SCHI_BY_CANCEL) && !(state & SCHI_GRANTED)) {
            w->told++;
            (void)task_wait(w, 0); /* the granter is at it, and not done */
        } else if (state & SCHI_BY_CANCEL) {
            w->granted_too++;
        }
        if (!EXPECT_EQ(__atomic_load_n(&w->granted, __ATOMIC_RELAXED), i)) break;
    }
    __atomic_store_n(&w->over, true, __ATOMIC_RELEASE);
}

static void task_waits_work(void *arg, unsigned me) {
    task_waits *w = (task_waits *)arg;
    schi_rng rng;
    size_t done = 0;
    bool mine;
    schi_rng_init(&rng, test_seed() + me);
    if (me == 0) {
        task_waiter(w);
        return;
    }
    while (!__atomic_load_n(&w->over, __ATOMIC_ACQUIRE)) {
        mine = false;
        for (uint32_t n = schi_rng_below(&rng, 100); n > 0; n--) schi_cpu_relax();
        if (me == 1) {
            if (__atomic_load_n(&w->open, __ATOMIC_ACQUIRE) == done) {
                sched_yield();
                continue;
            }
            __atomic_store_n(&w->granted, ++done, __ATOMIC_RELAXED); /* the grant orders it */
            mine = schi_task_grant(&w->task);
        } else if (me == 2 || __atomic_load_n(&w->open, __ATOMIC_RELAXED) < w->cancel_from) {
            mine = schi_task_wake(&w->task);
            sched_yield();
        } else {
            int result = schi_task_cancel(&w->task, false);
            EXPECT(result == 0 || (result == 1 && w->cancels == 0));
            mine = result == 1;
            w->cancels += mine;
            sched_yield();
        }
        if (mine) EXPECT_EQ(__atomic_fetch_add(&w->mail, (size_t)1, __ATOMIC_RELEASE), 0);
    }
}

TEST(task_waits) {
    for (size_t n = test_scale(40); n > 0; n--) {
        task_waits w;
        memset(&w, 0, sizeof w);
        w.rounds = 400;
        w.cancel_from = n % 2 ? 200 : 400; /* in the middle, and in the last one */
        schi_store_seq(&w.task.state, SCHI_REF | SCHI_SCHEDULED);
        crew_run(4, task_waits_work, &w);
        EXPECT_EQ(w.granted, w.rounds);
        EXPECT_EQ(w.mail, 0);
        EXPECT(w.cancels <= w.told + w.granted_too && w.told <= 1);
        EXPECT_EQ(schi_load_seq(&w.task.state) & ~(SCHI_WOKEN | SCHI_CANCELLED),
                  SCHI_REF | SCHI_SCHEDULED);
    }
}

/* A task ends while two would join it, each with a reference of his own. Exactly one may at a time;
 * its record is seen by the one who ends the task, or it learns that the end has come; the
 * references come out even. */
typedef struct task_end {
    sch_task task;
    int *waiter;        /* the place of the record: a joiner fills it, the end reads it */
    size_t claimed, done, refused, granted, given_up, frees; /* atomic */
    bool may_give_up;
} task_end;

static void task_count(size_t *counter) {
    __atomic_fetch_add(counter, (size_t)1, __ATOMIC_RELAXED);
}

/* As schi_task_release, but for the memory. */
static void task_let_go(task_end *t) {
    if (schi_task_refs(schi_sub_acqrel(&t->task.state, SCHI_REF)) == 1) task_count(&t->frees);
}

static void task_joiner(task_end *t, schi_rng *rng) {
    SCHI_STATE before = 0;
    int record = 42; /* each joiner's own: the next one may claim while this one takes its leave */
    int result = schi_task_join(&t->task, &before);
    if (result < 0) {
        EXPECT(result == -EBUSY || result == -EINVAL);
        task_count(&t->refused);
        task_let_go(t);
        return;
    }
    if (result == SCHI_JOIN_DONE) {
        EXPECT(before & SCHI_COMPLETE);
        if (schi_task_refs(before) == 1) task_count(&t->frees);
        task_count(&t->done);
        return;
    }
    EXPECT_EQ(result, SCHI_JOIN_CLAIMED);
    task_count(&t->claimed);
    t->waiter = &record;
    if (schi_task_join_wait(&t->task)) {
        for (uint32_t n = schi_rng_below(rng, 60); n > 0; n--) schi_cpu_relax();
        if (t->may_give_up && schi_task_join_cancel(&t->task)) {
            record = 0; /* nobody looks at it any more */
            task_count(&t->given_up);
            task_let_go(t);
            return;
        }
        while (!__atomic_load_n(&t->granted, __ATOMIC_ACQUIRE)) sched_yield();
    }
    EXPECT(schi_load_acq(&t->task.state) & SCHI_COMPLETE);
    task_let_go(t);
}

static void task_end_work(void *arg, unsigned me) {
    task_end *t = (task_end *)arg;
    SCHI_STATE old;
    schi_rng rng;
    schi_rng_init(&rng, test_random());
    for (uint32_t n = schi_rng_below(&rng, 200); n > 0; n--) schi_cpu_relax();
    if (me > 0) {
        task_joiner(t, &rng);
        return;
    }
    old = schi_task_complete(&t->task, 0);
    if (old & SCHI_JOIN_WAITER) {
        EXPECT_EQ(*t->waiter, 42);
        __atomic_store_n(&t->granted, (size_t)1, __ATOMIC_RELEASE);
        task_let_go(t);
    } else if (schi_task_refs(old) == 1) {
        task_count(&t->frees);
    }
}

TEST(task_joins) {
    for (size_t round = test_scale(1500); round > 0; round--) {
        task_end t;
        size_t joined;
        memset(&t, 0, sizeof t);
        t.may_give_up = round & 1;
        schi_store_seq(&t.task.state, TASK_REFS(3) | SCHI_SCHEDULED);
        crew_run(3, task_end_work, &t);
        joined = t.claimed + t.done;
        EXPECT_EQ(joined + t.refused, 2);
        EXPECT_EQ(joined, 1 + (t.given_up && joined == 2));
        EXPECT_EQ(t.frees, 1);
        if (!EXPECT_EQ(schi_task_refs(schi_load_seq(&t.task.state)), 0)) break;
    }
}

/* The same in a runtime: a job cancels the task that waits for it, and ends. The grant may come
 * just when the task, resumed by the cancel, looks why it was resumed. */
typedef struct task_pair {
    sch_task *joiner;  /* atomic */
    uint32_t delay;    /* between the cancel and the end */
    bool over;         /* atomic: of all */
} task_pair;

static void task_cancel_joiner(void *arg) {
    task_pair *pair = (task_pair *)arg;
    sch_task *joiner;
    while (!(joiner = __atomic_load_n(&pair->joiner, __ATOMIC_ACQUIRE))) sched_yield();
    while (!(schi_load_seq(&joiner->state) & SCHI_WAIT_CANCEL)) sched_yield();
    EXPECT_EQ(sch_cancel(joiner), 0);
    for (uint32_t n = pair->delay; n > 0; n--) schi_cpu_relax();
}

static void task_join_or_not(void *arg) {
    sch_task *job = (sch_task *)arg;
    int result = sch_join(job);
    EXPECT(result == 0 || result == -EINTR);
    if (result != 0) sch_detach(job);
}

static void task_keep_awake(void *arg) { /* a worker that sleeps resumes nobody soon */
    for (unsigned n = 1; !__atomic_load_n(&((task_pair *)arg)->over, __ATOMIC_RELAXED); n++) {
        if (n % 32 == 0) sched_yield();
        (void)sch_yield_now();
    }
}

TEST(task_join_cancel_race) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    sch_runtime *rt = support_begin(&config);
    task_pair pair;
    memset(&pair, 0, sizeof pair);
    sch_task *busy = sch_spawn(rt, task_keep_awake, &pair);
    for (size_t i = test_scale(6000); i > 0; i--) {
        pair.delay = (uint32_t)(test_random() % 100);
        sch_task *job = sch_spawn_blocking(rt, task_cancel_joiner, &pair);
        sch_task *joiner = job ? sch_spawn(rt, task_join_or_not, sch_retain(job)) : NULL;
        if (!EXPECT(joiner != NULL)) break;
        __atomic_store_n(&pair.joiner, joiner, __ATOMIC_RELEASE);
        while (!sch_is_done(job)) sched_yield(); /* it looks at the joiner until then */
        __atomic_store_n(&pair.joiner, NULL, __ATOMIC_RELAXED);
        int result = sch_join(joiner);
        EXPECT(result == 0 || result == -ECANCELED);
        sch_release(job);
    }
    __atomic_store_n(&pair.over, true, __ATOMIC_RELAXED);
    EXPECT_EQ(sch_join(busy), 0);
    support_end(rt, &memory);
}
