/* waiting.c - clients of what waits: operations [14], timer wheels [8], seats [5.3], and whole
 * runtimes that sleep. Uses task.c and runtime.c. */

/* Operations ------------------------------------------------------------------------------------
 * A hand is an operation of the user's. Its poll offers it; whoever takes it from there completes
 * it or has it polled again, and its cancel takes it back or finds that it is being completed. All
 * that the waiter has - the hands, its record, its timer - is freed as soon as it does not wait. */

#define TICK ((uint64_t)1 << SCHI_TICK_SHIFT)
#define HANDS 2
#define HAND_RESULT 40 /* + its index */

typedef struct wait_case wait_case;
typedef struct hand {
    sch_op op;
    wait_case *of;
    unsigned index;
    SCHI_CELL(unsigned) parcel; /* whoever completes it, before; then the waiter */
} hand;

/* What the waiter has in its frame. */
typedef struct wait_frame {
    schi_await await;
    sch_timer limit, timer;
    hand hands[HANDS];
} wait_frame;

struct wait_case {
    task_case *tasks;              /* NULL: the waiter is a plain thread */
    wait_frame *frame;             /* the waiter's */
    SCHI_ATOMIC(hand *) offer[HANDS];
    SCHI_ATOMIC(uint32_t) over;    /* relaxed: the waiter has left */
    SCHI_ATOMIC(uint32_t) polls[HANDS], completed[HANDS], retried[HANDS]; /* relaxed */
    SCHI_ATOMIC(uint32_t) finished[HANDS];
    SCHI_ATOMIC(uint32_t) told, drops;
    unsigned num;                  /* fixed, as is all below: hands that are awaited */
    unsigned ready;                /* bits: hands that are ready at once */
    unsigned retries;              /* of hand 0 */
    bool busy;                     /* cancel always says so: it will be completed */
    bool with_timer, with_limit;
    uint64_t until;                /* of the timer or the limit */
    hand kept;                     /* of a poll task in a whole runtime */
    int index;                     /* the waiter's result */
    int64_t result[HANDS];
    bool done[HANDS], timer_done;
};

static sch_status hand_poll(sch_op *op) {
    hand *h = (hand *)(void *)op;
    wait_case *c = h->of;
    (void)schi_add_rlx(&c->polls[h->index], 1u);
    if (c->ready >> h->index & 1) {
        h->op.result = HAND_RESULT + (int64_t)h->index;
        schi_wr(&h->parcel, 1u);
        return SCH_READY;
    }
    schi_store_rel(&c->offer[h->index], h);
    return SCH_PENDING;
}

static sch_op_revoked hand_cancel(sch_op *op) {
    hand *h = (hand *)(void *)op;
    wait_case *c = h->of;
    if (c->busy) return SCH_OP_BUSY;
    if (schi_xchg_acq(&c->offer[h->index], (hand *)NULL)) return SCH_OP_REMOVED;
    return schi_load_acq(&c->finished[h->index]) ? SCH_OP_DONE : SCH_OP_BUSY;
}

static const sch_op_type hand_type = {hand_poll, hand_cancel, "hand"};

static void hand_init(hand *h, wait_case *c, unsigned index) {
    memset(h, 0, sizeof *h);
    h->op.type = &hand_type;
    h->of = c, h->index = index;
}

/* Between two tries; whoever has a core runs what has come to it. */
static void wait_pause(void) {
    if (schi_self() && schi_self()->core) task_run_all(schi_self());
    schi_cpu_relax();
}

/* Complete a hand as soon as it is offered. */
static void hand_serve(wait_case *c, unsigned index) {
    unsigned retries = index == 0 ? c->retries : 0;
    while (!schi_load_rlx(&c->over)) {
        hand *h = schi_xchg_acq(&c->offer[index], (hand *)NULL);
        if (!h) {
            wait_pause();
        } else if (retries > 0) {
            retries--;
            (void)schi_add_rlx(&c->retried[index], 1u);
            sch_op_retry(&h->op);
        } else {
            schi_wr(&h->parcel, 1u);
            (void)schi_add_rlx(&c->completed[index], 1u);
            sch_op_complete(&h->op, HAND_RESULT + (int64_t)index);
            schi_store_rel(&c->finished[index], 1u); /* what is this op's is gone, maybe */
            return;
        }
    }
}

/* As schi_await_any, in memory that is freed right after. */
static int wait_any(wait_case *c) {
    wait_frame *f = c->frame;
    sch_op *ops[HANDS + 1];
    size_t n = 0;
    uint64_t deadline = c->with_limit ? c->until : SCH_FOREVER;
    for (; n < c->num; n++) ops[n] = &f->hands[n].op;
    if (c->with_timer) ops[n++] = &f->timer.op;
    return schi_await_in(&f->await, &f->limit, ops, n, deadline);
}

/* What the waiter found, and then nothing is left of it. */
static void wait_leave(wait_case *c, int index) {
    wait_frame *f = c->frame;
    c->index = index;
    for (unsigned i = 0; i < c->num; i++) {
        c->done[i] = sch_op_is_done(&f->hands[i].op);
        c->result[i] = f->hands[i].op.result;
        if (c->done[i]) MODEL_EXPECT(schi_rd(&f->hands[i].parcel) == 1);
    }
    c->timer_done = c->with_timer && sch_op_is_done(&f->timer.op);
    c->frame = NULL;
    schi_libc_free(f, sizeof *f, 64, NULL);
    schi_store_rlx(&c->over, 1u);
}

static void wait_here(wait_case *c) {
    int index = wait_any(c);
    if (index == -ECANCELED) {
        (void)schi_add_rlx(&c->told, 1u);
        MODEL_EXPECT(sch_cancelled());
    }
    wait_leave(c, index);
}

static void wait_in_job(void *arg) { wait_here((wait_case *)arg); }

static wait_case *wait_new(bool job, unsigned num) {
    wait_case *c = (wait_case *)model_new(sizeof *c);
    wait_frame *f = (wait_frame *)schi_libc_alloc(sizeof *f, 64, NULL);
    MODEL_EXPECT(f != NULL);
    memset(f, 0, sizeof *f);
    c->frame = f, c->num = num, c->index = INT_MIN;
    for (unsigned i = 0; i < HANDS; i++) hand_init(&f->hands[i], c, i);
    if (job) {
        c->tasks = task_new();
        c->tasks->task = job_new(c->tasks, wait_in_job);
        c->tasks->task->arg = c;
        schi_store_seq(&c->tasks->drops, 1u); /* it has none */
    }
    return c;
}

/* The time of the timer that is awaited, or of the limit; some ticks from now. */
static void wait_time(wait_case *c) {
    c->until = schi_now_ns() + 3 * TICK;
    c->frame->timer = sch_timer_at(c->until);
    c->frame->limit = sch_timer_at(c->until);
}

/* Let the wheels' timers expire, as who holds a core or has the watch does, until the waiter has
 * left: time is as late as may be. */
static void wait_expire(wait_case *c) {
    schi_thread *th = schi_self() ? schi_self() : c->tasks->b->thread[0];
    uint64_t now = c->until + 2 * TICK;
    schi_expired e;
    while (!schi_load_rlx(&c->over)) {
        e.num = 0;
        for (unsigned i = 0; i < TASK_THREADS; i++) {
            (void)schi_wheel_collect(&th->rt->cores[i]->wheel, schi_own_wheel(th), now, &e);
        }
        schi_grant_expired(th, &e);
        now += 2 * TICK;
        wait_pause();
    }
}

/* Thread 1 waits; what the others do. */
typedef void (*wait_role)(wait_case *c);
typedef struct wait_cast {
    wait_case *c;
    wait_role others[2]; /* of threads 0 and 2; for poll tasks, 1 and 2 */
    unsigned outside;    /* this thread has no core and runs nothing; 0: none */
} wait_cast;

static void wait_work(void *shared, unsigned me) {
    wait_cast *cast = (wait_cast *)shared;
    wait_case *c = cast->c;
    if (me == 1 && !c->tasks) {
        wait_here(c);
    } else if (me == 1) {
        job_role(c->tasks);
        schi_tls_set(NULL);
        schi_store_rlx(&c->over, 1u);
    } else if (cast->others[me / 2]) {
        cast->others[me / 2](c);
    }
}

/* The end of a wait: results are told as they are, and none is lost. */
static void wait_check(wait_case *c) {
    bool any = c->timer_done;
    for (unsigned i = 0; i < c->num; i++) {
        bool ready = (c->ready >> i & 1) && schi_load_rlx(&c->polls[i]) > 0;
        MODEL_EXPECT(c->done[i] == (schi_load_rlx(&c->completed[i]) > 0 || ready));
        if (c->done[i]) MODEL_EXPECT(c->result[i] == HAND_RESULT + (int64_t)i);
        MODEL_EXPECT(schi_load_rlx(&c->polls[i]) <= 1 + schi_load_rlx(&c->retried[0]));
        any = any || c->done[i];
    }
    MODEL_EXPECT((c->index >= 0) == any);
    if (c->index >= 0 && c->index < (int)c->num) MODEL_EXPECT(c->done[c->index]);
    if (c->index == -ETIMEDOUT) MODEL_EXPECT(c->with_limit);
}

static void wait_run(wait_case *c, wait_role first, wait_role second) {
    wait_cast *cast = (wait_cast *)model_new(sizeof *cast);
    cast->c = c, cast->others[0] = first, cast->others[1] = second;
    crew_run(second ? 3 : 2, wait_work, cast);
    if (c->frame) { /* the job was cancelled before it ran */
        MODEL_EXPECT(c->index == INT_MIN);
        schi_libc_free(c->frame, sizeof *c->frame, 64, NULL);
    } else {
        wait_check(c);
    }
    if (!c->tasks) return;
    int result = sch_join(c->tasks->task);
    MODEL_EXPECT(result == (c->index == -ECANCELED || c->index == INT_MIN ? -ECANCELED : 0));
    for (unsigned i = 0; i < TASK_THREADS; i++) {
        MODEL_EXPECT(schi_wheel_len(&c->tasks->b->rt->cores[i]->wheel) == 0);
    }
    task_end(c->tasks);
}

static void serve_0(wait_case *c) { hand_serve(c, 0); }
static void serve_1(wait_case *c) { hand_serve(c, 1); }

static void cancel_waiter(wait_case *c) { task_cancel_or_late(c->tasks); }

/* Completion on another thread, at any moment of the wait. */
static void op_complete(bool job) {
    wait_case *c = wait_new(job, 1);
    c->retries = model_choose(2);
    wait_run(c, serve_0, NULL);
    MODEL_EXPECT(c->index == 0 && schi_load_rlx(&c->polls[0]) == 1 + c->retries);
}

MODEL(op_complete_thread, .bound = 4, .stale = 3, .spurious = 1) { op_complete(false); }
MODEL(op_complete_job, .bound = 3, .stale = 3, .spurious = 1) { op_complete(true); }

/* Completion against the deadline, which cancels: it is REMOVED, or BUSY and then waited for. */
MODEL(op_vs_deadline, .bound = 4, .spurious = 1, .outcomes = 3) {
    wait_case *c = wait_new(false, 1);
    c->with_limit = true;
    c->busy = model_choose(2);
    c->retries = model_choose(2);
    c->until = schi_now_ns() + model_choose(2) * 1000;
    wait_run(c, serve_0, NULL);
    MODEL_EXPECT(c->index == 0 || c->index == -ETIMEDOUT);
    MODEL_EXPECT(c->index == 0 || !c->busy || schi_load_rlx(&c->retried[0]) > 0);
    model_outcome(c->index == 0);
}

/* The same for a task: its deadline is a timer, which somebody fires. */
MODEL(op_vs_limit, .bound = 2, .spurious = 1, .outcomes = 3) {
    wait_case *c = wait_new(true, 1);
    c->with_limit = true;
    c->busy = model_choose(2);
    wait_time(c);
    wait_run(c, wait_expire, serve_0);
    MODEL_EXPECT(c->index == 0 || (c->index == -ETIMEDOUT && !c->busy));
    model_outcome(c->index == 0);
}

/* Nobody completes it; the deadline against a cancellation. Whoever claims the waiter is waited
 * for, also if the operation could be removed. */
MODEL(op_limit_vs_cancel, .bound = 3, .spurious = 1, .outcomes = 7) {
    wait_case *c = wait_new(true, 1);
    c->with_limit = true;
    wait_time(c);
    wait_run(c, wait_expire, cancel_waiter);
    MODEL_EXPECT(c->index == -ETIMEDOUT || c->index == -ECANCELED || c->index == INT_MIN);
    model_outcome(c->index == -ETIMEDOUT ? 0 : c->index == -ECANCELED ? 1 : 2);
}

static void serve_and_cancel(wait_case *c) {
    if (model_choose(2)) {
        serve_0(c);
        cancel_waiter(c);
    } else {
        cancel_waiter(c);
        serve_0(c);
    }
}

/* All three. */
MODEL(op_limit_vs_cancel_and_complete, .bound = 3, .spurious = 1, .outcomes = 15) {
    wait_case *c = wait_new(true, 1);
    c->with_limit = true;
    c->busy = model_choose(2);
    wait_time(c);
    wait_run(c, wait_expire, serve_and_cancel);
    bool left = c->index == -ETIMEDOUT || c->index == -ECANCELED;
    MODEL_EXPECT(c->index == 0 || (left && !c->busy) || c->index == INT_MIN);
    model_outcome(c->index == 0 ? 0 : c->index == -ETIMEDOUT ? 1 : c->index == -ECANCELED ? 2 : 3);
}

/* Completion against a cancellation of the task. */
MODEL(op_vs_cancel, .bound = 3, .spurious = 1, .outcomes = 7) {
    wait_case *c = wait_new(true, 1);
    c->busy = model_choose(2);
    c->retries = model_choose(2);
    wait_run(c, cancel_waiter, serve_0);
    MODEL_EXPECT(c->index == 0 || c->index == -ECANCELED || c->index == INT_MIN);
    model_outcome(c->index == 0 ? 0 : c->index == -ECANCELED ? 1 : 2);
}

/* One of two, and both complete: the waiter leaves with one, and the other is revoked, or BUSY and
 * waited for, or done, too. Outcomes: which, and whether both are done. */
static void op_two(bool job) {
    wait_case *c = wait_new(job, 2);
    c->busy = model_choose(2);
    wait_run(c, serve_0, serve_1);
    MODEL_EXPECT(c->index == 0 || c->index == 1);
    if (c->busy) MODEL_EXPECT(c->done[0] && c->done[1]);
    model_outcome((unsigned)c->index * 2 + (c->done[0] && c->done[1]));
}

MODEL(op_two_thread, .bound = 3, .outcomes = 1 << 0 | 1 << 1 | 1 << 2) { op_two(false); }
MODEL(op_two_job, .bound = 2, .outcomes = 1 << 0 | 1 << 1 | 1 << 2) { op_two(true); }

/* The second is ready at once, while the first is being completed. */
MODEL(op_second_is_ready, .bound = 4, .spurious = 1, .outcomes = 3) {
    wait_case *c = wait_new(model_choose(2), 2);
    c->ready = 1 << 1;
    c->busy = model_choose(2);
    c->retries = model_choose(2);
    wait_run(c, serve_0, NULL);
    MODEL_EXPECT(c->done[1] && c->index == (c->done[0] ? 0 : 1));
    model_outcome(c->done[0]);
}

/* Timers of tasks ------------------------------------------------------------------------------*/

/* A sleep against a cancellation: who expires it and who removes it agree, and once the wait is
 * over nobody touches the timer or the waiter. */
MODEL(timer_vs_cancel, .bound = 3, .spurious = 1, .outcomes = 7) {
    wait_case *c = wait_new(true, 0);
    c->with_timer = true;
    wait_time(c);
    wait_run(c, wait_expire, cancel_waiter);
    MODEL_EXPECT(c->index == 0 || c->index == -ECANCELED || c->index == INT_MIN);
    model_outcome(c->index == 0 ? 0 : c->index == -ECANCELED ? 1 : 2);
}

/* A timer or an operation, whatever is first. */
MODEL(timer_vs_op, .bound = 2, .spurious = 1, .outcomes = 7) {
    wait_case *c = wait_new(true, 1);
    c->with_timer = true;
    c->busy = model_choose(2);
    wait_time(c);
    wait_run(c, wait_expire, serve_0);
    MODEL_EXPECT(c->index >= 0);
    model_outcome(!c->timer_done ? 0 : c->done[0] ? 1 : 2);
}

/* A sleep with a limit of the same time: two timers of one waiter. */
MODEL(timer_vs_limit, .bound = 3, .spurious = 1) {
    wait_case *c = wait_new(true, 0);
    c->with_timer = c->with_limit = true;
    wait_time(c);
    wait_run(c, wait_expire, NULL);
    MODEL_EXPECT(c->index == 0 || c->index == -ETIMEDOUT);
}

/* A shield until a time: before it a cancellation ends no wait, after it it does; and a wake counts
 * always. Time is really over here, as the shield asks the clock. */
static void shield_in_job(void *arg) {
    wait_case *c = (wait_case *)arg;
    int index;
    MODEL_EXPECT(sch_shield_begin(c->until) == 0);
    index = wait_any(c);
    if (index == -ECANCELED) {
        (void)schi_add_rlx(&c->told, 1u);
        MODEL_EXPECT(sch_cancelled() && schi_now_ns() >= c->until);
    }
    sch_shield_end();
    wait_leave(c, index);
}

static void shield_expire(wait_case *c) {
    E.now = c->until + model_choose(2) * 2 * TICK;
    wait_expire(c);
}

static void shield_cancel(wait_case *c) {
    cancel_waiter(c);
    if (model_choose(2)) hand_serve(c, 0);
}

MODEL(shield_vs_cancel, .bound = 2, .spurious = 1, .outcomes = 7) {
    wait_case *c = wait_new(true, 1);
    schi_store_rlx(&c->tasks->task->fn, shield_in_job);
    wait_time(c);
    wait_run(c, shield_expire, shield_cancel);
    MODEL_EXPECT(c->index == 0 || c->index == -ECANCELED || c->index == INT_MIN);
    model_outcome(c->index == 0 ? 0 : c->index == -ECANCELED ? 1 : 2);
}

/* Poll tasks -------------------------------------------------------------------------------------
 * The operation lives in the task's state. When the task has been dropped nobody may touch that:
 * its drop function leaves a mark there. */

#define POLL_MARK 0x77u

typedef struct poll_state {
    wait_case *of;
    unsigned line;
    hand h, second;
    sch_timer timer;
    unsigned leaves; /* so many operations are begun, and the last is not waited for; 0: none */
} poll_state;

static sch_status wait_poll(sch_task *self, void *state) {
    poll_state *p = (poll_state *)state;
    wait_case *c = p->of;
    task_case *t = c->tasks;
    (void)self;
    schi_wr(&t->polls, schi_rd(&t->polls) + 1);
    SCH_BEGIN(p->line);
    if (c->num > 0) {
        hand_init(&p->h, c, 0);
        if (p->leaves == 2) {
            hand_init(&p->second, c, 1);
            (void)sch_op_poll(&p->second.op);
        } else if (p->leaves == 1) {
            (void)sch_op_poll(&p->h.op);
            return SCH_READY;
        }
        SCH_AWAIT(p->line, &p->h.op);
        c->result[0] = p->h.op.result;
        if (c->result[0] >= 0) MODEL_EXPECT(schi_rd(&p->h.parcel) == 1);
        if (p->leaves == 2) hand_init(&p->h, c, 0); /* its memory may be used for something else */
    }
    if (c->with_timer) {
        p->timer = sch_timer_at(c->until);
        SCH_AWAIT(p->line, &p->timer.op);
        c->result[1] = p->timer.op.result;
    }
    c->index = 0;
    SCH_END();
}

static void wait_drop(void *state) {
    poll_state *p = (poll_state *)state;
    schi_store_rlx(schi_op_state(&p->h.op), POLL_MARK);
    schi_store_rlx(schi_op_state(&p->second.op), POLL_MARK);
    schi_store_rlx(schi_op_state(&p->timer.op), POLL_MARK);
    (void)schi_add_rlx(&p->of->drops, 1u);
    schi_store_rlx(&p->of->over, 1u);
}

static const sch_spawn_desc wait_desc = {"wait", SCH_HERE, 0, wait_drop};

/* Thread 0 runs it first; the others what they are told, and then what has come to their queue. */
static void poll_work(void *shared, unsigned me) {
    wait_cast *cast = (wait_cast *)shared;
    schi_thread *th = cast->c->tasks->b->thread[me];
    if (me > 0 && me == cast->outside) {
        cast->others[me - 1](cast->c);
        return;
    }
    schi_tls_set(th);
    if (me > 0 && cast->others[me - 1]) cast->others[me - 1](cast->c);
    task_run_all(th);
    while (me == 0 && cast->outside && !schi_load_rlx(&cast->c->over)) wait_pause();
    schi_tls_set(NULL);
}

/* Returns how often it was polled. */
static unsigned poll_run(wait_case *c, unsigned leaves, wait_role first, wait_role second,
                         unsigned outside) {
    wait_cast *cast = (wait_cast *)model_new(sizeof *cast);
    poll_state state, *p;
    unsigned polls;
    memset(&state, 0, sizeof state);
    state.of = c, state.leaves = leaves;
    cast->c = c, cast->others[0] = first, cast->others[1] = second;
    cast->outside = outside;
    c->tasks = task_new();
    schi_tls_set(c->tasks->b->thread[0]);
    c->tasks->task = sch_spawn_poll_with(NULL, &wait_desc, wait_poll, &state, sizeof state);
    schi_tls_set(NULL);
    p = (poll_state *)sch_task_state(c->tasks->task);
    crew_run(second ? 3 : 2, poll_work, cast);
    polls = schi_rd(&c->tasks->polls);
    MODEL_EXPECT(sch_is_done(c->tasks->task) && schi_load_rlx(&c->drops) == 1);
    MODEL_EXPECT(schi_load_rlx(schi_op_state(&p->h.op)) == POLL_MARK);
    MODEL_EXPECT(schi_load_rlx(schi_op_state(&p->second.op)) == POLL_MARK);
    MODEL_EXPECT(schi_load_rlx(schi_op_state(&p->timer.op)) == POLL_MARK);
    MODEL_EXPECT(!schi_load_rlx(&c->offer[0]) && !schi_load_rlx(&c->offer[1]));
    for (unsigned i = 0; i < TASK_THREADS; i++) {
        MODEL_EXPECT(schi_wheel_len(&c->tasks->b->rt->cores[i]->wheel) == 0);
    }
    (void)sch_join(c->tasks->task);
    schi_store_seq(&c->tasks->drops, 1u); /* ours has counted itself */
    task_end(c->tasks);
    return polls;
}

static wait_case *poll_new(unsigned num) {
    wait_case *c = (wait_case *)model_new(sizeof *c);
    c->num = num, c->index = INT_MIN;
    return c;
}

static void poll_time(wait_case *c) {
    c->with_timer = true;
    c->until = schi_now_ns() + 3 * TICK;
}

/* Completed while it is polled, with a wake too many. */
static void poll_wake(wait_case *c) { sch_wake(c->tasks->task); }

MODEL(poll_vs_complete, .bound = 3, .spurious = 1) {
    wait_case *c = poll_new(1);
    c->retries = model_choose(2);
    unsigned polls = poll_run(c, 0, serve_0, model_choose(2) ? poll_wake : NULL, 0);
    MODEL_EXPECT(c->index == 0 && c->result[0] == HAND_RESULT);
    MODEL_EXPECT(polls <= 3 + c->retries);
}

/* Completed, cancelled: a result that came is not lost, and nothing is pending at the end. */
MODEL(poll_vs_cancel, .bound = 2, .spurious = 1, .outcomes = 7) {
    wait_case *c = poll_new(1);
    c->busy = model_choose(2);
    c->retries = model_choose(2);
    unsigned polls = poll_run(c, 0, serve_0, cancel_waiter, 0);
    bool completed = schi_load_rlx(&c->completed[0]) > 0;
    if (polls == 0) { /* cancelled before it ran */
        MODEL_EXPECT(c->index == INT_MIN && !completed);
    } else {
        MODEL_EXPECT(c->index == 0);
        MODEL_EXPECT(c->result[0] == (completed ? HAND_RESULT : -ECANCELED));
    }
    model_outcome(polls == 0 ? 0 : completed ? 1 : 2);
}

/* Shutdown drops it while its operation is pending, or being completed. */
static void poll_shutdown(wait_case *c) {
    schi_store_seq(&c->tasks->b->rt->closing, 1u);
    walk_cancel(c->tasks);
}

MODEL(poll_vs_shutdown, .bound = 2, .spurious = 1) {
    wait_case *c = poll_new(1);
    c->busy = model_choose(2);
    c->retries = model_choose(2);
    (void)poll_run(c, 0, poll_shutdown, serve_0, 2); /* which must not wait for itself */
}

/* It is ready without waiting for what it began. */
MODEL(poll_leaves, .bound = 3, .spurious = 1) {
    wait_case *c = poll_new(1);
    c->busy = model_choose(2);
    c->retries = model_choose(2);
    MODEL_EXPECT(poll_run(c, 1, serve_0, NULL, 0) == 1);
}

/* It waits for one of two, and leaves the other. */
MODEL(poll_leaves_one, .bound = 2, .spurious = 1) {
    wait_case *c = poll_new(1);
    bool both = model_choose(2);
    c->busy = both && model_choose(2);
    (void)poll_run(c, 2, serve_0, both ? serve_1 : NULL, both ? 2 : 0);
    MODEL_EXPECT(c->result[0] == HAND_RESULT);
}

/* Its timer, and the same three. */
MODEL(poll_timer, .bound = 3, .spurious = 1) {
    wait_case *c = poll_new(0);
    poll_time(c);
    (void)poll_run(c, 0, wait_expire, model_choose(2) ? poll_wake : NULL, 0);
    MODEL_EXPECT(c->index == 0 && c->result[1] == 0);
}

MODEL(poll_timer_vs_cancel, .bound = 2, .spurious = 1, .outcomes = 7) {
    wait_case *c = poll_new(0);
    poll_time(c);
    unsigned polls = poll_run(c, 0, wait_expire, cancel_waiter, 0);
    MODEL_EXPECT(polls == 0 ? c->index == INT_MIN : c->index == 0);
    MODEL_EXPECT(polls == 0 || c->result[1] == 0 || c->result[1] == -ECANCELED);
    model_outcome(polls == 0 ? 0 : c->result[1] == 0 ? 1 : 2);
}

MODEL(poll_timer_vs_shutdown, .bound = 2, .spurious = 1) {
    wait_case *c = poll_new(0);
    poll_time(c);
    (void)poll_run(c, 0, poll_shutdown, wait_expire, 0);
}

/* Whole runtimes that sleep ---------------------------------------------------------------------*/

#define NAP SCH_MILLISECOND
#define LONG_NAP (3600 * SCH_SECOND)
#define LATENESS (6 * SCH_MILLISECOND) /* ticks, standby periods: if no time was let pass */

/* Has the time come, and only just? Lateness is held against the runtime only where time could not
 * pass by choice. */
static void nap_is_over(uint64_t until, unsigned passes) {
    MODEL_EXPECT(sch_now() >= until);
    if (model_time_passes() == passes) MODEL_EXPECT(sch_now() <= until + LATENESS);
}

static void nap_told(item *me, int64_t result) {
    MODEL_EXPECT(result == -ECANCELED && sch_cancelled());
    (void)item_note(&me->told);
}

/* Sleep as a task, job or poll task. */
static void item_sleep(item *me, uint64_t ns) {
    unsigned passes = model_time_passes();
    int64_t result;
    if (me->kind == ITEM_POLL) {
        if (!me->timer.op.type) me->timer = sch_timer_after(ns);
        if (sch_op_poll(&me->timer.op) == SCH_PENDING) return;
        result = me->timer.op.result;
        if (result == 0) MODEL_EXPECT(sch_now() >= me->timer.until);
        if (result != 0) nap_told(me, result);
        item_ready(me);
        return;
    }
    me->timer.until = sch_now() + ns;
    result = sch_sleep_until(me->timer.until);
    if (result == 0) nap_is_over(me->timer.until, passes);
    if (result != 0) nap_told(me, result);
}

static void do_nap(item *me) { item_sleep(me, NAP); }
static void do_nap_longer(item *me) { item_sleep(me, 3 * NAP); }
static void do_long_nap(item *me) { item_sleep(me, LONG_NAP); }

/* One or two workers, or whoever joins. */
static world *nap_world(bool paused) {
    world *w = world_new(1);
    unsigned kind = model_choose(3);
    w->config.flavor = kind == 0 ? SCH_CURRENT_THREAD : SCH_MULTI_THREAD;
    if (kind == 2) w->config.workers = 2;
    w->config.paused_clock = paused;
    w->time_passes = true;
    return world_start(w);
}

static item_kind nap_kind(void) {
    static const item_kind kinds[3] = {ITEM_TASK, ITEM_POLL, ITEM_JOB};
    return kinds[model_choose(3)];
}

MODEL(nap_one, WORLD_SEARCH) {
    world *w = nap_world(false);
    MODEL_EXPECT(item_join(item_start(w, nap_kind(), do_nap, NULL)) == 0);
    world_end(w);
}

/* The later one is armed first, or last. */
MODEL(nap_two, WORLD_SEARCH) {
    world *w = nap_world(false);
    bool swap = model_choose(2);
    item *a = item_start(w, ITEM_TASK, swap ? do_nap : do_nap_longer, NULL);
    item *b = item_start(w, nap_kind(), swap ? do_nap_longer : do_nap, NULL);
    MODEL_EXPECT(item_join(swap ? a : b) == 0);
    MODEL_EXPECT(item_join(swap ? b : a) == 0);
    world_end(w);
}

MODEL(nap_vs_cancel, WORLD_SEARCH) {
    world *w = nap_world(false);
    item *it = item_start(w, nap_kind(), do_nap, NULL);
    aside *other = aside_start(by_cancelling, sch_retain(it->task));
    sch_task *kept = it->task;
    (void)item_join(it);
    aside_end(other);
    sch_release(kept);
    world_end(w);
}

/* A shutdown waits for no timer. */
MODEL(nap_vs_shutdown, WORLD_SEARCH) {
    world *w = nap_world(false);
    uint64_t start = schi_now_ns();
    (void)item_start(w, nap_kind(), do_long_nap, NULL);
    if (model_choose(2)) (void)item_start(w, ITEM_TASK, do_nap, NULL);
    world_end(w);
    if (model_time_passes() == 0) MODEL_EXPECT(schi_now_ns() < start + LONG_NAP);
}

/* The only worker is in a call that blocks, or in one that sleeps itself. */
static void call_nap(void *arg) { item_sleep((item *)arg, NAP); }
static void do_call_nap(item *me) { MODEL_EXPECT(sch_block_in_place(call_nap, me) == 0); }

MODEL(nap_in_place, WORLD_SEARCH) {
    world *w = world_new(1 + model_choose(2));
    w->time_passes = true;
    world_start(w);
    item *a = item_start(w, ITEM_TASK, do_call_nap, NULL);
    item *b = model_choose(2) ? item_start(w, ITEM_TASK, do_nap, NULL) : NULL;
    MODEL_EXPECT(item_join(a) == 0);
    if (b) MODEL_EXPECT(item_join(b) == 0);
    world_end(w);
}

/* A paused clock: hours pass at once, when nothing runs, for jobs, too; and time stands still while
 * something does. */
MODEL(paused_jumps, WORLD_SEARCH) {
    world *w = nap_world(true);
    uint64_t start = schi_now_ns();
    item *a = item_start(w, nap_kind(), do_long_nap, NULL);
    item *b = model_choose(2) ? item_start(w, nap_kind(), do_nap, NULL) : NULL;
    if (b) MODEL_EXPECT(item_join(b) == 0);
    MODEL_EXPECT(item_join(a) == 0);
    if (model_time_passes() == 0) MODEL_EXPECT(schi_now_ns() < start + LONG_NAP);
    world_end(w);
}

/* The last to lie down finds both seats taken, and tells who has the watch. */
MODEL(paused_third, WORLD_SEARCH) {
    world *w = world_new(3);
    item *a, *b;
    w->config.paused_clock = w->time_passes = true;
    world_start(w);
    a = item_start(w, ITEM_TASK, do_long_nap, NULL);
    b = item_start(w, ITEM_TASK, do_nap, NULL);
    MODEL_EXPECT(item_join(b) == 0);
    MODEL_EXPECT(item_join(a) == 0);
    world_end(w);
}

/* What can run stops the clock: from the moment that a spawn has returned. */
static void do_read_clock(item *me) {
    uint64_t now = sch_now();
    *(uint64_t *)me->more = now;
    if (me->kind == ITEM_TASK) MODEL_EXPECT(sch_yield_now() == 0);
    MODEL_EXPECT(sch_now() == now);
    do_nothing(me);
}

MODEL(paused_vs_spawn, WORLD_SEARCH) {
    world *w = nap_world(true);
    item *a = item_start(w, ITEM_TASK, do_long_nap, NULL);
    item *b = item_new(w, nap_kind(), do_read_clock, NULL);
    uint64_t spawned, *seen = (uint64_t *)model_new(sizeof *seen);
    b->more = seen;
    MODEL_EXPECT(item_spawn(b));
    spawned = schi_load_seq(&w->rt->paused_at);
    MODEL_EXPECT(item_join(b) == 0);
    MODEL_EXPECT(*seen <= spawned);
    MODEL_EXPECT(item_join(a) == 0);
    world_end(w);
}

/* The caller of sch_block_on sleeps, by that clock, too. */
static void sleep_on_visit(void *arg) {
    world *w = (world *)arg;
    uint64_t until = sch_now() + w->choice * NAP;
    MODEL_EXPECT(sch_sleep_until(until) == 0);
    MODEL_EXPECT(sch_now() >= until);
}

static void nap_on_visit(world *w, unsigned naps) {
    uint64_t start = schi_now_ns();
    w->choice = naps;
    item *it = model_choose(2) ? item_start(w, ITEM_TASK, do_nap, NULL) : NULL;
    MODEL_EXPECT(sch_block_on(w->rt, sleep_on_visit, w) == 0);
    if (model_time_passes() == 0) MODEL_EXPECT(schi_now_ns() < start + LONG_NAP);
    if (it) MODEL_EXPECT(item_join(it) == 0);
    world_end(w);
}

MODEL(nap_visit, WORLD_SEARCH) { nap_on_visit(nap_world(false), 2); }
MODEL(paused_visit, WORLD_SEARCH) { nap_on_visit(nap_world(true), LONG_NAP / NAP); }

/* A user's operation in every place where one can wait, completed by a thread of the user's; or a
 * timer beside it is first. */
static void await_hand(wait_case *c) {
    hand h;
    sch_timer timer = sch_timer_after(NAP);
    sch_op *const ops[2] = {&h.op, &timer.op};
    int index;
    hand_init(&h, c, 0);
    index = sch_await_any(ops, c->with_timer ? 2 : 1, SCH_FOREVER);
    schi_store_rlx(&c->over, 1u);
    MODEL_EXPECT(index == 0 || (index == 1 && c->with_timer) || index == -ECANCELED);
    MODEL_EXPECT(sch_op_is_done(&h.op) == (schi_load_rlx(&c->completed[0]) > 0));
    if (sch_op_is_done(&h.op)) {
        MODEL_EXPECT(index == 0 && h.op.result == HAND_RESULT && schi_rd(&h.parcel) == 1);
    }
    if (index == 1) MODEL_EXPECT(sch_now() >= timer.until);
    if (index == -ECANCELED) MODEL_EXPECT(sch_cancelled());
    c->index = index;
}

/* As a poll task, dropped by the shutdown or not; its operation in memory that outlives it. */
static void poll_hand(item *me, wait_case *c) {
    hand *h = &c->kept;
    if (!h->op.type) hand_init(h, c, 0);
    if (sch_op_poll(&h->op) == SCH_PENDING) return;
    schi_store_rlx(&c->over, 1u);
    MODEL_EXPECT(schi_load_rlx(&c->completed[0]) > 0 ? h->op.result == HAND_RESULT
                                                      : h->op.result == -ECANCELED);
    if (h->op.result == -ECANCELED) (void)item_note(&me->told);
    item_ready(me);
}

static void do_await(item *me) {
    wait_case *c = (wait_case *)me->more;
    if (me->kind == ITEM_POLL) {
        poll_hand(me, c);
        return;
    }
    await_hand(c);
    if (c->index == -ECANCELED) (void)item_note(&me->told);
}

static void await_on_visit(void *arg) { await_hand((wait_case *)arg); }
static void by_serving(void *arg) { hand_serve((wait_case *)arg, 0); }

static wait_case *await_new(void) {
    wait_case *c = (wait_case *)model_new(sizeof *c);
    c->with_timer = model_choose(2);
    c->busy = model_choose(2);
    c->retries = model_choose(2);
    return c;
}

MODEL(await_everywhere, WORLD_SEARCH) {
    static const item_kind kinds[3] = {ITEM_TASK, ITEM_JOB, ITEM_POLL};
    world *w = nap_world(false);
    wait_case *c = await_new();
    unsigned place = model_choose(5);
    aside *other = aside_start(by_serving, c);
    item *it;
    switch (place) {
    case 0: await_hand(c); break;
    case 1: MODEL_EXPECT(sch_block_on(w->rt, await_on_visit, c) == 0); break;
    default:
        it = item_new(w, kinds[place - 2], do_await, NULL);
        it->more = c;
        MODEL_EXPECT(item_spawn(it) && item_join(it) == 0);
    }
    aside_end(other);
    world_end(w);
}

/* The same against the end of the runtime. */
MODEL(await_vs_shutdown, WORLD_SEARCH) {
    world *w = nap_world(false);
    wait_case *c = await_new();
    aside *other = aside_start(by_serving, c);
    item *it = item_new(w, nap_kind(), do_await, NULL);
    it->more = c;
    MODEL_EXPECT(item_spawn(it));
    world_free(w);
    schi_store_rlx(&c->over, 1u); /* it may not have run */
    aside_end(other);
    world_check(w);
}

/* Wheels, bare -----------------------------------------------------------------------------------
 * Timers of plain waiters; whoever expires one touches neither it nor the waiter after that. */

typedef struct wheel_sleeper {
    sch_timer timer;
    schi_wheel *wheel; /* where it was armed last */
    schi_wheel *own;   /* of the core that its thread holds */
    schi_waiter w;
} wheel_sleeper;

static uint64_t sleeper_arm(wheel_sleeper *s, schi_wheel *wheel, uint64_t until) {
    s->timer.until = until;
    s->wheel = wheel;
    return schi_wheel_insert(wheel, s->own, &s->timer);
}

static wheel_sleeper *sleeper_new(void) {
    wheel_sleeper *s = (wheel_sleeper *)schi_libc_alloc(sizeof *s, 64, NULL);
    MODEL_EXPECT(s != NULL);
    memset(s, 0, sizeof *s);
    MODEL_EXPECT(schi_parker_init(&s->w.parker) == 0);
    s->timer.op.type = &schi_timer_type;
    s->timer.op.waiter = &s->w;
    schi_store_rel(schi_op_state(&s->timer.op), (uint32_t)SCHI_OP_PENDING);
    return s;
}

static void sleeper_free(wheel_sleeper *s) {
    schi_parker_drop(&s->w.parker);
    schi_libc_free(s, sizeof *s, 64, NULL);
}

/* Give up; true: it had expired. The same steps as schi_await_leave. */
static bool sleeper_leave(wheel_sleeper *s) {
    bool expired = false;
    if (!schi_waiter_claim(&s->w)) {
        while (!schi_park(&s->w.parker, UINT64_MAX)) continue;
        expired = true;
    }
    if (schi_op_get(&s->timer.op) != SCHI_OP_PENDING) return true;
    return !schi_wheel_remove(s->wheel, s->own, &s->timer) || expired;
}

typedef struct wheel_case {
    schi_wheel wheel[2];
    wheel_sleeper *s[2];             /* of threads 0 and 1 */
    SCHI_ATOMIC(uint32_t) armed, over;
    bool expired; /* of the one thread that expires */
} wheel_case;

#define WHEEL_START (100 * TICK)

static wheel_case *wheel_new(void) {
    wheel_case *c = (wheel_case *)model_new(sizeof *c);
    for (int i = 0; i < 2; i++) schi_wheel_init(&c->wheel[i], WHEEL_START);
    return c;
}

static void wheel_end(wheel_case *c) {
    for (int i = 0; i < 2; i++) {
        MODEL_EXPECT(schi_wheel_len(&c->wheel[i]) == 0);
        MODEL_EXPECT(schi_wheel_next_tick(&c->wheel[i]) == SCHI_TICK_NEVER);
    }
}

static void wheel_expire(wheel_case *c, unsigned which, schi_wheel *own, uint64_t now) {
    schi_expired e;
    e.num = 0;
    while (!schi_wheel_collect(&c->wheel[which], own, now, &e)) schi_cpu_relax();
    schi_grant_expired(NULL, &e);
}

/* Armed on one core, removed and armed on another, while both expire; freed right after. */
static void wheel_rearm(void *shared, unsigned me) {
    wheel_case *c = (wheel_case *)shared;
    wheel_sleeper *s = c->s[0];
    if (me > 0) {
        wheel_expire(c, me - 1, NULL, WHEEL_START + 10 * TICK);
        wheel_expire(c, me - 1, NULL, WHEEL_START + 20 * TICK);
        return;
    }
    (void)sleeper_arm(s, &c->wheel[0], WHEEL_START + 2 * TICK);
    if (schi_wheel_remove(s->wheel, s->own, &s->timer)) {
        (void)sleeper_arm(s, &c->wheel[1], WHEEL_START + 3 * TICK);
    }
    model_outcome(sleeper_leave(s));
    sleeper_free(s);
}

MODEL(wheel_rearm, .bound = 3, .spurious = 1, .outcomes = 3) {
    wheel_case *c = wheel_new();
    c->s[0] = sleeper_new();
    crew_run(3, wheel_rearm, c);
    wheel_end(c);
}

/* A timer that was given up leaves the bit of its slot; a later one on that level is found all the
 * same. */
MODEL(wheel_two_slots, .bound = 0) {
    wheel_case *c = wheel_new();
    schi_wheel *w = &c->wheel[0];
    for (unsigned i = 0; i < 2; i++) {
        c->s[i] = sleeper_new();
        (void)sleeper_arm(c->s[i], w, WHEEL_START + 70 * (1 + i) * TICK);
    }
    MODEL_EXPECT(schi_wheel_remove(w, NULL, &c->s[0]->timer));
    wheel_expire(c, 0, NULL, WHEEL_START + 75 * TICK);
    MODEL_EXPECT(schi_load_seq(&w->next) <= WHEEL_START + 141 * TICK);
    wheel_expire(c, 0, NULL, WHEEL_START + 150 * TICK);
    MODEL_EXPECT(schi_wheel_len(w) == 0);
    MODEL_EXPECT(sleeper_leave(c->s[1]));
    for (int i = 0; i < 2; i++) sleeper_free(c->s[i]);
    wheel_end(c);
}

/* Two arm on one wheel, one of which gives up; the third sleeps until `next`: that is never later
 * than the first timer. */
static void wheel_share(void *shared, unsigned me) {
    wheel_case *c = (wheel_case *)shared;
    const uint64_t first = WHEEL_START + 2 * TICK;
    if (me == 0) { /* on another level: it comes down first */
        (void)sleeper_arm(c->s[0], &c->wheel[0], WHEEL_START + 70 * TICK);
        (void)sleeper_leave(c->s[0]);
        sleeper_free(c->s[0]);
    } else if (me == 1) {
        uint64_t next = sleeper_arm(c->s[1], &c->wheel[0], first);
        MODEL_EXPECT(next <= first + TICK);
        schi_store_rel(&c->armed, 1u);
        while (!schi_park(&c->s[1]->w.parker, UINT64_MAX)) continue;
        sleeper_free(c->s[1]);
        schi_store_rlx(&c->over, 1u);
    } else {
        while (!schi_load_rlx(&c->over)) {
            bool armed = schi_load_acq(&c->armed) && !schi_load_rlx(&c->over);
            uint64_t next = schi_load_seq(&c->wheel[0].next);
            MODEL_EXPECT(!armed || c->expired || next <= first + TICK);
            if (next != SCH_FOREVER && armed) {
                c->expired = true;
                wheel_expire(c, 0, NULL, next);
            }
            schi_cpu_relax();
        }
    }
}

MODEL(wheel_share, .bound = 3, .spurious = 1) {
    wheel_case *c = wheel_new();
    c->s[0] = sleeper_new();
    c->s[1] = sleeper_new();
    crew_run(3, wheel_share, c);
    wheel_end(c);
}

/* Who holds the core arms and gives up by plain stores; meanwhile its timers expire elsewhere. */
static void wheel_kept(void *shared, unsigned me) {
    wheel_case *c = (wheel_case *)shared;
    wheel_sleeper *s = c->s[0];
    if (me > 0) {
        wheel_expire(c, 0, NULL, WHEEL_START + 10 * TICK);
        return;
    }
    s->own = &c->wheel[0];
    for (int i = 0; i < 2; i++) {
        (void)sleeper_arm(s, &c->wheel[0], WHEEL_START + 2 * TICK);
        if (!schi_wheel_remove(s->wheel, s->own, &s->timer)) break;
    }
    model_outcome(sleeper_leave(s));
    sleeper_free(s);
}

MODEL(wheel_kept, .bound = 3, .spurious = 1, .outcomes = 2) {
    wheel_case *c = wheel_new();
    schi_biased_may_keep(&c->wheel[0].lock);
    c->s[0] = sleeper_new();
    crew_run(2, wheel_kept, c);
    wheel_end(c);
}

/* The wheel of a core whose holder has kept it, and then has much else to do, lends the core, lets
 * it go or lies down: others get at it even without a barrier. Nobody wakes anybody here. */
typedef struct wheel_left {
    bare *b;
    wheel_sleeper *s[2];
    char how; /* fixed: m maintenance, l a blocking call, g gives up */
} wheel_left;

static void left_arm(schi_thread *th, wheel_sleeper *s) {
    s->timer.until = schi_now_ns() + 100 * TICK;
    schi_timer_arm(th, &s->timer);
    MODEL_EXPECT(schi_timer_disarm(th, &s->timer));
}

static void wheel_leave(void *shared, unsigned me) {
    wheel_left *c = (wheel_left *)shared;
    schi_thread *th = c->b->thread[me];
    for (unsigned i = 0; i < 2 - me; i++) left_arm(th, c->s[me]);
    if (me > 0) return;
    switch (c->how) {
    case 'm': schi_core_maintain(th); break;
    case 'g': schi_core_give_up(th); break;
    default:
        MODEL_EXPECT(schi_reserve(th, false) == 0);
        th->reserved = true;
        schi_core_leave(th);
        left_arm(th, c->s[me]);
        MODEL_EXPECT(schi_core_return(th));
        schi_unreserve(th, th->rt);
        th->reserved = false;
        schi_biased_share(&th->core->wheel.lock); /* a turn later */
    }
}

static void left_run(char how) {
    wheel_left *c = (wheel_left *)model_new(sizeof *c);
    c->b = bare_new(1, 2, false);
    bare_hold_cores(c->b, 1);
    schi_biased_may_keep(&c->b->rt->cores[0]->wheel.lock);
    c->how = how;
    for (int i = 0; i < 2; i++) c->s[i] = sleeper_new();
    model_barrier_mood = MODEL_BARRIER_FAILS;
    crew_run(2, wheel_leave, c);
    model_barrier_mood = MODEL_BARRIER_WORKS;
    MODEL_EXPECT(schi_wheel_len(&c->b->rt->cores[0]->wheel) == 0);
    for (int i = 0; i < 2; i++) sleeper_free(c->s[i]);
    bare_free(c->b);
}

MODEL(wheel_kept_no_barrier, .bound = 2) { left_run('m'); }
MODEL(wheel_kept_lent, .bound = 2) { left_run('l'); }
MODEL(wheel_kept_given_up, .bound = 2) { left_run('g'); }

/* A paused clock that is about to jump, since the only job waits, and a thread outside that wakes
 * it: when that is done the clock stands. */
typedef struct clock_case {
    bare *b;
    sch_task *job;
    uint64_t woken; /* time when the wake was done */
} clock_case;

static void clock_work(void *shared, unsigned me) {
    clock_case *c = (clock_case *)shared;
    sch_runtime *rt = c->b->rt;
    schi_nap nap;
    if (me > 0) {
        schi_schedule_unseen(NULL, rt, c->job, false);
        c->woken = schi_load_seq(&rt->paused_at);
        return;
    }
    memset(&nap, 0, sizeof nap);
    nap.quiet = true;
    schi_lock(&rt->idle.lock);
    schi_watch_prepare(rt, &nap);
    schi_unlock(&rt->idle.lock);
}

MODEL(clock_vs_wake_of_job, .bound = 3, .outcomes = 3) {
    clock_case *c = (clock_case *)model_new(sizeof *c);
    wheel_sleeper *s = sleeper_new();
    sch_runtime *rt;
    schi_thread *th;
    uint64_t begin;
    c->b = bare_new(1, 1, false);
    rt = c->b->rt, th = c->b->thread[0];
    rt->config.paused_clock = true;
    begin = schi_load_seq(&rt->paused_at);
    bare_hold_cores(c->b, 1);
    s->timer.until = begin + 100 * TICK;
    schi_timer_arm(th, &s->timer);
    schi_core_give_up(th);
    c->job = (sch_task *)model_new(sizeof *c->job);
    schi_store_seq(&c->job->state, SCHI_JOB | SCHI_SCHEDULED);
    c->job->on.thread = th;
    schi_count(&rt->pool.threads, 1);
    schi_add_seq(&rt->pool.waiting, (uint64_t)1);
    crew_run(2, clock_work, c);
    MODEL_EXPECT(schi_load_seq(&rt->paused_at) == c->woken);
    model_outcome(c->woken > begin);
    schi_store_rlx(&rt->pool.threads, (uint64_t)0);
    MODEL_EXPECT(schi_timer_disarm(th, &s->timer));
    sleeper_free(s);
    bare_free(c->b);
}

/* Without a barrier others leave a kept wheel alone, whatever is due in it, and do not wait. */
MODEL(wheel_kept_skipped, .bound = 0) {
    wheel_case *c = wheel_new();
    schi_wheel *w = &c->wheel[0];
    wheel_sleeper *s = sleeper_new();
    schi_expired e;
    schi_biased_may_keep(&w->lock);
    s->own = w;
    for (int i = 0; i < 2; i++) {
        (void)sleeper_arm(s, w, WHEEL_START + 2 * TICK);
        if (i == 0) MODEL_EXPECT(schi_wheel_remove(w, w, &s->timer));
    }
    MODEL_EXPECT(schi_load_seq(&w->lock.bias.state) == SCHI_PRIVATE);
    e.num = 0;
    model_barrier_mood = MODEL_BARRIER_FAILS;
    MODEL_EXPECT(!schi_wheel_collect(w, NULL, WHEEL_START + 9 * TICK, &e) && e.num == 0);
    model_barrier_mood = MODEL_BARRIER_WORKS;
    wheel_expire(c, 0, w, WHEEL_START + 9 * TICK);
    MODEL_EXPECT(sleeper_leave(s));
    sleeper_free(s);
    wheel_end(c);
}

/* Three on a higher level come down together, and expire in time: alone, step by step. */
MODEL(wheel_levels, .bound = 0) {
    wheel_case *c = wheel_new();
    wheel_sleeper *s[3];
    unsigned fired = 0;
    for (unsigned i = 0; i < 3; i++) {
        s[i] = sleeper_new();
        (void)sleeper_arm(s[i], &c->wheel[0], WHEEL_START + (70 + i) * TICK);
    }
    for (unsigned step = 0; fired < 3; step++) {
        uint64_t now = schi_load_seq(&c->wheel[0].next);
        MODEL_EXPECT(step < 8 && now != SCH_FOREVER);
        wheel_expire(c, 0, NULL, now);
        for (; fired < 3 && schi_op_get(&s[fired]->timer.op) == SCHI_OP_DONE; fired++) {
            MODEL_EXPECT(now >= WHEEL_START + (70 + fired) * TICK);
            MODEL_EXPECT(now <= WHEEL_START + (72 + fired) * TICK);
            MODEL_EXPECT(schi_park(&s[fired]->w.parker, UINT64_MAX));
            sleeper_free(s[fired]);
        }
    }
    wheel_end(c);
}

/* Seats ------------------------------------------------------------------------------------------
 * Workers that sleep, by the header's own code; each parcel arms a timer for the thread that sent
 * it. A timer that nobody fires is a deadlock: nothing else wakes its thread. */

#define SEAT_SENDERS 2
typedef struct seat_case {
    office_case *o;
    wheel_sleeper *s[SEAT_SENDERS];
    uint64_t delay[SEAT_SENDERS];    /* fixed */
    unsigned senders;                /* fixed */
    bool kept;                       /* fixed: the core keeps its wheel */
    bool stuck;                      /* fixed: who has armed computes until all have fired */
    bool coreless;                   /* fixed: the senders arm themselves, without a core */
    bool then_stuck;                 /* fixed: somebody computes once the first has fired */
    unsigned passes[SEAT_SENDERS];   /* of time, by choice, when it was armed */
    SCHI_ATOMIC(uint32_t) fired;
} seat_case;

static void seat_arm(seat_case *c, schi_thread *th, unsigned i) {
    wheel_sleeper *s = c->s[i];
    c->passes[i] = model_time_passes();
    s->timer.until = schi_now_ns() + c->delay[i];
    schi_timer_arm(th, &s->timer);
    for (int again = 0; again < 2 && c->kept; again++) {
        if (schi_timer_disarm(th, &s->timer)) schi_timer_arm(th, &s->timer);
    }
}

static void seat_run_parcel(office_case *o, schi_thread *th, sch_task *task) {
    seat_case *c = (seat_case *)o->more;
    unsigned id = parcel_take(&task->node);
    if (id < c->senders) seat_arm(c, th, id);
    if (c->stuck || id == c->senders) schi_event_wait(&o->ran, UINT64_MAX);
    office_done(o);
}

static void seat_send(seat_case *c, unsigned i) {
    office_case *o = c->o;
    wheel_sleeper *s = c->s[i];
    if (c->coreless) {
        schi_thread *th = (schi_thread *)model_new(sizeof *th);
        th->rt = o->b->rt, th->kind = SCHI_BLOCKING;
        seat_arm(c, th, i);
        (void)parcel_take(parcel_send(&o->all, i));
        office_done(o);
    } else {
        schi_push_inject(NULL, o->b->rt, schi_task_of(parcel_send(&o->all, i)));
    }
    while (!schi_park(&s->w.parker, UINT64_MAX)) continue;
    MODEL_EXPECT(schi_now_ns() >= s->timer.until);
    if (model_time_passes() == c->passes[i]) {
        MODEL_EXPECT(schi_now_ns() <= s->timer.until + LATENESS);
    }
    sleeper_free(s);
    if (c->then_stuck && i == 0) {
        schi_push_inject(NULL, o->b->rt, schi_task_of(parcel_send(&o->all, c->senders)));
    }
    if (schi_add_acqrel(&c->fired, 1u) + 1 == c->senders) schi_event_set(&o->ran);
    office_done(o);
}

static void seat_work(void *shared, unsigned me) {
    office_case *o = (office_case *)shared;
    if (me < o->workers) {
        office_worker(o, o->b->thread[me]);
    } else {
        seat_send((seat_case *)o->more, me - o->workers);
    }
}

static seat_case *seat_new(unsigned cores, bool standby, unsigned senders) {
    seat_case *c = (seat_case *)model_new(sizeof *c);
    c->o = office_new(cores, cores, standby, 2 * senders);
    c->o->run = seat_run_parcel, c->o->more = c;
    c->senders = senders;
    for (unsigned i = 0; i < senders; i++) c->s[i] = sleeper_new(), c->delay[i] = NAP;
    return c;
}

static void seat_run(seat_case *c) {
    office_case *o = c->o;
    crew_run(o->workers + c->senders, seat_work, o);
    for (unsigned i = 0; i < o->b->rt->num_cores; i++) {
        MODEL_EXPECT(schi_wheel_len(&o->b->rt->cores[i]->wheel) == 0);
    }
    MODEL_EXPECT(schi_load_seq(&o->done) == o->total);
    parcels_end(&o->all, c->senders + c->then_stuck);
    schi_event_drop(&o->ran);
    bare_free(o->b);
}

/* A core arms a timer and its thread lies down, while another takes the watch. */
MODEL(seat_1_worker, .bound = 3) { seat_run(seat_new(1, false, 1)); }
/* The worker keeps the wheel, and then lies down. */
MODEL(seat_kept, .bound = 2) {
    seat_case *c = seat_new(1, false, 1);
    c->kept = true;
    schi_biased_may_keep(&c->o->b->rt->cores[0]->wheel.lock);
    model_barrier_mood = MODEL_BARRIER_FAILS;
    seat_run(c);
    model_barrier_mood = MODEL_BARRIER_WORKS;
}
MODEL(seat_2_workers, .bound = 2) { seat_run(seat_new(2, model_choose(2), 1)); }

/* Without a core: on a wheel that nobody may serve, while its core's thread lies down. */
MODEL(seat_coreless, .bound = 3) {
    seat_case *c = seat_new(1 + model_choose(2), true, 1);
    c->coreless = true;
    seat_run(c);
}

/* The watch sleeps for a late timer; an earlier one comes. */
MODEL(seat_earlier, .bound = 2) {
    seat_case *c = seat_new(1 + model_choose(2), true, 2);
    c->coreless = model_choose(2);
    c->delay[0] = 1000 * NAP;
    seat_run(c);
}

/* Whoever armed it computes on: with a core free its timer fires all the same. */
MODEL(seat_stuck, .bound = 2) {
    seat_case *c = seat_new(2 + model_choose(2), true, 1);
    c->stuck = true;
    seat_run(c);
}

/* The watch leaves to run, and computes on: the standby, and then who has no seat, moves up. */
MODEL(seat_heirs, .bound = 1) {
    seat_case *c = seat_new(2 + model_choose(2), true, 2);
    c->stuck = c->o->workers > 2;
    bare_hold_cores(c->o->b, 1);
    seat_run(c);
}

/* The same with a thread more than cores, and no standby: the watch has left to run what its timer
 * was for, and whoever lies there without a seat must come for the next timer. */
MODEL(seat_left, .bound = 2) {
    seat_case *c = seat_new(1, false, 2);
    office_case *o = office_new(1, 2, false, 5);
    schi_event_drop(&c->o->ran);
    bare_free(c->o->b);
    o->run = c->o->run, o->more = c, c->o = o;
    c->coreless = c->then_stuck = true;
    c->delay[1] = 4 * NAP;
    seat_run(c);
}
