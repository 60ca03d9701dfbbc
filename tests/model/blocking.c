/* blocking.c - the explorer's clients of sch_block_in_place [11.3] and of the blocking pool [12].
 * Worlds and items are those of runtime.c, which comes first. */

/* MARK: - In place: the core is lent, handed over, taken back */

/* Run a blocking call as the item; it must run fn once. */
static void item_block(item *me, sch_fn fn) {
    MODEL_EXPECT(sch_block_in_place(fn, me) == 0);
    MODEL_EXPECT(item_noted(&me->calls) == 1);
    item_note(&me->calls); /* a second run would be seen */
    MODEL_EXPECT(sch_worker_index() < me->in->config.workers);
}

static void call_nothing(void *arg) {
    MODEL_EXPECT(item_note(&((item *)arg)->calls) == 0);
    MODEL_EXPECT(sch_worker_index() == UINT_MAX);
}

static void call_await_1(void *arg) {
    call_nothing(arg);
    world_await(((item *)arg)->in, 1);
}

static void do_call_nothing(item *me) {
    item_block(me, call_nothing);
    if (me->kind == ITEM_POLL) item_ready(me);
}

static void do_call_await_1(item *me) { item_block(me, call_await_1); }

/* Client 18 [blocking_and_regular]: the core is lent and comes back, or a worker that comes for a
 * task from outside takes it first. Each of them must notice. */
MODEL(blocking_lend_vs_spawn, WORLD_SEARCH) {
    world *w = world_new(1);
    w->config.no_standby = true;
    world_start(w);
    item *a = item_start(w, model_choose(2) ? ITEM_TASK : ITEM_POLL, do_call_nothing, NULL);
    item *b = item_start(w, ITEM_TASK, do_nothing, NULL);
    MODEL_EXPECT(item_join(a) == 0);
    MODEL_EXPECT(item_join(b) == 0);
    world_end(w);
}

/* Client 18 [only_blocking]: the call cannot end before a task from outside has run. */
MODEL(blocking_call_needs_outside, WORLD_SEARCH) {
    world *w = world_new(1 + model_choose(2));
    w->config.no_standby = true;
    world_start(w);
    item *a = item_start(w, ITEM_TASK, do_call_await_1, NULL);
    item *b = item_start(w, ITEM_TASK, do_open_1, NULL);
    MODEL_EXPECT(item_join(a) == 0);
    MODEL_EXPECT(item_join(b) == 0);
    world_end(w);
}

/* Client 18 [vs LIFO, vs deferred yields]; tokio#6596 (scenario 10) and tokio#7209, #7210, #7216,
 * #6999, #7879 (scenario 11): what the caller has queued - in the ring, in the LIFO slot, after a
 * yield - must run while it blocks. */
static void do_yield_then_open_1(item *me) {
    do_yield(me);
    do_open_1(me);
}

static void do_suspend_then_open_1(item *me) {
    MODEL_EXPECT(item_suspend(me) == 0);
    do_open_1(me);
}

static void do_call_with_queued(item *me) {
    const item_fn work[3] = {do_open_1, do_suspend_then_open_1, do_yield_then_open_1};
    item *child = item_start(me->in, ITEM_TASK, work[me->in->choice], NULL);
    if (me->in->choice > 0) do_yield(me); /* it suspends, or yields, unless it was stolen */
    if (me->in->choice == 1) sch_wake(child->task);
    item_block(me, call_await_1);
    MODEL_EXPECT(item_join(child) == 0);
}

MODEL(blocking_call_needs_queued, WORLD_SEARCH) {
    world *w = world_new(1 + model_choose(2));
    w->choice = model_choose(3);
    world_start(w);
    MODEL_EXPECT(item_join(item_start(w, ITEM_TASK, do_call_with_queued, NULL)) == 0);
    world_end(w);
}

/* tokio#6596 (scenario 10) with the thread refused: the call fails, or runs, and in both cases what
 * is queued is run and the next call works. */
static void do_call_refused(item *me) {
    item *child = item_new(me->in, ITEM_TASK, do_nothing, NULL);
    bool spawned = item_spawn(child);
    int result = sch_block_in_place(call_nothing, me);
    MODEL_EXPECT(result == 0 || (result == -EAGAIN && model_faults() > 0));
    MODEL_EXPECT(item_noted(&me->calls) == (result == 0));
    if (result) item_block(me, call_nothing);
    if (spawned) MODEL_EXPECT(item_join(child) == 0 || model_faults() > 0);
}

MODEL(blocking_no_thread, WORLD_SEARCH, .faults = 1) {
    world *w = world_new(1);
    if (!world_try(w)) world_start(w);
    item *it = item_new(w, ITEM_TASK, do_call_refused, NULL);
    if (item_spawn(it)) MODEL_EXPECT(item_join(it) == 0 || model_faults() > 0);
    world_end(w);
}

/* tokio#5239, #5837 (scenario 9), client 18: calls in calls, block_on in them, and waits in them:
 * the task may go on elsewhere, without a core. */
static void visit_nothing(void *arg) { (void)item_note(&((item *)arg)->in->hooks[0]); }

static void call_inner(void *arg) {
    item *me = (item *)arg;
    MODEL_EXPECT(sch_worker_index() == UINT_MAX);
    MODEL_EXPECT(sch_block_on(me->in->rt, visit_nothing, me) == 0);
    MODEL_EXPECT(item_join(me->peer) == 0);
    MODEL_EXPECT(sch_worker_index() == UINT_MAX);
}

static void call_outer(void *arg) {
    item *me = (item *)arg;
    call_nothing(me);
    MODEL_EXPECT(sch_yield_now() == 0);
    MODEL_EXPECT(sch_block_in_place(call_inner, me) == 0);
    MODEL_EXPECT(sch_worker_index() == UINT_MAX);
}

static void do_call_nested(item *me) {
    volatile uintptr_t frame[FRAME_SIZE];
    frame_fill(frame, me);
    item_block(me, call_outer);
    frame_check(frame, me);
}

MODEL(blocking_nested, WORLD_SEARCH) {
    world *w = world_begin(1 + model_choose(2));
    item *b = item_start(w, ITEM_TASK, do_yield, NULL);
    item *a = item_start(w, ITEM_TASK, do_call_nested, b);
    MODEL_EXPECT(item_join(a) == 0);
    MODEL_EXPECT(w->hooks[0] == 1);
    world_end(w);
}

/* More calls than places: the third waits for an end, and only a task without a place can bring the
 * first two to theirs. */
MODEL(blocking_places, WORLD_SEARCH) {
    world *w = world_new(1);
    w->config.max_blocking_threads = 1;
    world_start(w);
    item *call[3], *opens;
    for (int i = 0; i < 3; i++) call[i] = item_start(w, ITEM_TASK, do_call_await_1, NULL);
    opens = item_start(w, ITEM_TASK, do_open_1, NULL);
    for (int i = 0; i < 3; i++) MODEL_EXPECT(item_join(call[i]) == 0);
    MODEL_EXPECT(item_join(opens) == 0);
    world_end(w);
}

/* tokio#2119, #2082 (scenario 12), client 18 [hand-off vs shutdown]: the shutdown meets a core that
 * is lent, handed over or just coming back. */
static void by_opening_1(void *arg) { world_open((world *)arg, 1); }

MODEL(blocking_vs_shutdown, WORLD_SEARCH) {
    world *w = world_begin(1 + model_choose(2));
    (void)item_start(w, ITEM_TASK, do_call_await_1, NULL);
    (void)item_start(w, ITEM_TASK, do_suspend_for_ever, NULL);
    aside *other = aside_start(by_opening_1, w);
    world_free(w);
    aside_end(other);
    world_check(w);
}

/* The same where the call cannot end before the shutdown has come to the core that was left: there
 * a task waits that only it can cancel. */
static void do_suspend_for_ever_then_open_1(item *me) {
    do_suspend_for_ever(me);
    do_open_1(me);
}

static void do_call_needs_shutdown(item *me) {
    item *child = item_new(me->in, ITEM_TASK, do_suspend_for_ever_then_open_1, NULL);
    if (!item_spawn(child)) return;
    do_yield(me);
    if (item_noted(&child->began)) item_block(me, call_await_1); /* else it is dropped */
}

MODEL(blocking_needs_shutdown, WORLD_SEARCH, .bound = 2) {
    world *w = world_begin(1);
    (void)item_start(w, ITEM_TASK, do_call_needs_shutdown, NULL);
    world_end(w);
}

/* A wait inside a call is cancelled by the shutdown, or by hand. */
static void call_suspend(void *arg) {
    call_nothing(arg);
    MODEL_EXPECT(item_suspend((item *)arg) == -ECANCELED);
}

static void do_call_suspend(item *me) { item_block(me, call_suspend); }

MODEL(blocking_wait_cancelled, WORLD_SEARCH) {
    world *w = world_begin(1 + model_choose(2));
    item *it = item_start(w, ITEM_TASK, do_call_suspend, NULL);
    if (model_choose(2)) {
        by_cancelling(it->task);
        MODEL_EXPECT(item_join(it) == -ECANCELED);
    }
    world_end(w);
}

/* The spare worker that a call left behind ends after its time, just when the next call wants one;
 * or when the shutdown comes. */
static void do_call_then_open_0(item *me) {
    (void)item_start(me->in, ITEM_TASK, do_nothing, NULL); /* hand-off: a second thread is used */
    item_block(me, call_nothing);
    do_open_0(me);
}

MODEL(blocking_spare_expires, WORLD_SEARCH) {
    world *w = world_new(1);
    w->time_passes = true;
    world_start(w);
    (void)item_start(w, ITEM_TASK, do_call_then_open_0, NULL);
    world_await(w, 0);
    world_pass(w, WORLD_PERIOD);
    if (model_choose(2)) {
        (void)item_start(w, ITEM_TASK, do_call_await_1, NULL);
        item *opens = item_start(w, ITEM_TASK, do_open_1, NULL);
        MODEL_EXPECT(item_join(opens) == 0);
    }
    world_end(w);
}

/* While its core was lent the standby found nothing running and stopped its alarm: with the core
 * back it must be set again, for what is queued behind long code then. */
static void call_pass_time(void *arg) {
    call_nothing(arg);
    world_pass(((item *)arg)->in, 3 * WORLD_PERIOD);
}

static void do_call_then_spawn_and_block(item *me) {
    item_block(me, call_pass_time);
    do_spawn_and_block(me);
}

MODEL(blocking_return_arms_standby, WORLD_SEARCH) {
    world *w = world_new(2);
    w->time_passes = true;
    world_start(w);
    world_only_standby(w);
    MODEL_EXPECT(item_join(item_start(w, ITEM_TASK, do_call_then_spawn_and_block, NULL)) == 0);
    world_end(w);
}

/* MARK: - The pool of threads for jobs */

static void job_count(item *me) { /* never more at once than there may be threads */
    world *w = me->in;
    MODEL_EXPECT(__atomic_add_fetch(&w->hooks[0], 1u, __ATOMIC_RELAXED) <=
                 w->config.max_blocking_threads);
    MODEL_EXPECT(sch_worker_index() == UINT_MAX && sch_self() != NULL);
    MODEL_EXPECT(sch_yield_now() == 0);
    (void)__atomic_sub_fetch(&w->hooks[0], 1u, __ATOMIC_RELAXED);
}

static void by_running_a_job(void *arg) {
    item *it = item_start((world *)arg, ITEM_JOB, job_count, NULL);
    MODEL_EXPECT(item_join(it) == 0);
}

/* Client 19 [at cap], tokio#8056 (scenario 15): two threads submit jobs for one thread, which may
 * be new, busy, or idle. */
MODEL(pool_at_cap, WORLD_SEARCH) {
    world *w = world_new(1);
    w->config.max_blocking_threads = 1;
    world_start(w);
    aside *other = aside_start(by_running_a_job, w);
    by_running_a_job(w);
    by_running_a_job(w);
    aside_end(other);
    world_end(w);
}

/* tokio#8056 (scenario 15): the second job comes while the first one's thread is on its way, and
 * the first cannot end without it. */
MODEL(pool_two_at_once, WORLD_SEARCH) {
    world *w = world_begin(1);
    item *a = item_start(w, ITEM_JOB, do_hold, NULL);
    item *b = item_start(w, ITEM_JOB, do_open_1, NULL);
    MODEL_EXPECT(item_join(a) == 0);
    MODEL_EXPECT(item_join(b) == 0);
    world_end(w);
}

/* Cancelled while it is queued, a job does not begin. */
MODEL(pool_cancel_queued, WORLD_SEARCH) {
    world *w = world_new(1);
    w->config.max_blocking_threads = 1;
    world_start(w);
    item *a = item_start(w, ITEM_JOB, do_hold, NULL);
    world_await(w, 0);
    item *b = item_start(w, ITEM_JOB, do_nothing, NULL);
    MODEL_EXPECT(sch_cancel(b->task) == 0);
    world_open(w, 1);
    MODEL_EXPECT(item_join(b) == -ECANCELED && item_noted(&b->began) == 0);
    MODEL_EXPECT(item_join(a) == 0);
    world_end(w);
}

/* Client 19 [keep-alive expiry vs push], tokio#7910 (scenario 17): the idle thread's time is over
 * just when the next jobs come; or when the shutdown comes. One of them waits for a wake: an unpark
 * that was meant for the thread's hand-over must not end that. */
MODEL(pool_expiry, WORLD_SEARCH) {
    world *w = world_new(1);
    w->time_passes = true;
    world_start(w);
    by_running_a_job(w);
    world_pass(w, WORLD_PERIOD);
    if (model_choose(2)) {
        item *waits = item_start(w, ITEM_JOB, do_read_mail, NULL);
        aside *other = aside_start(by_running_a_job, w);
        schi_wr(&w->mail[0], WORLD_VALUE);
        sch_wake(waits->task);
        MODEL_EXPECT(item_join(waits) == 0);
        aside_end(other);
    }
    world_end(w);
}

/* Client 19 [shutdown vs push], tokio#7910 (scenario 17): an idle thread, a job from another thread
 * and the shutdown at once. */
MODEL(pool_vs_shutdown, WORLD_SEARCH) {
    world *w = world_begin(1);
    by_running_a_job(w);
    item *it = item_new(w, ITEM_JOB, do_nothing, NULL);
    aside *other = aside_start(by_spawning, it);
    MODEL_EXPECT(sch_runtime_shutdown(w->rt, SCH_FOREVER) == 0);
    aside_end(other);
    MODEL_EXPECT(it->refused == 0 || it->refused == ESHUTDOWN);
    world_end(w);
}

/* Client 19 [EAGAIN with no pool thread], tokio#8406, #8408 (scenario 16): a thread is refused to
 * one of two who submit, or to both; no job may wait for a thread that never comes. */
static void by_submitting(void *arg) {
    item *it = (item *)arg;
    if (item_spawn(it)) {
        int result = item_join(it);
        MODEL_EXPECT(result == 0 || (result == -ENOMEM && model_faults() > 0));
    } else {
        MODEL_EXPECT((it->refused == EAGAIN || it->refused == ENOMEM) && model_faults() > 0);
    }
}

static void pool_with_refusals(void) {
    world *w = world_new(1);
    w->config.max_blocking_threads = 1 + model_choose(2);
    while (!world_try(w)) MODEL_EXPECT(model_faults() > 0);
    item *a = item_new(w, ITEM_JOB, do_nothing, NULL);
    item *b = item_new(w, ITEM_JOB, do_nothing, NULL);
    item *c = item_new(w, ITEM_JOB, do_nothing, NULL);
    aside *other = aside_start(by_submitting, a);
    by_submitting(b);
    by_submitting(c);
    aside_end(other);
    world_end(w);
}

MODEL(pool_no_thread, WORLD_SEARCH, .faults = 1) { pool_with_refusals(); }
MODEL(pool_no_two_threads, WORLD_SEARCH, .bound = 0, .faults = 2) { pool_with_refusals(); }

/* Jobs and tasks that spawn and join each other. */
static void do_job_then_join(item *me) {
    item *child = item_start(me->in, me->kind == ITEM_JOB ? ITEM_TASK : ITEM_JOB, do_yield, NULL);
    MODEL_EXPECT(item_join(child) == 0);
}

MODEL(pool_tasks_and_jobs, WORLD_SEARCH) {
    world *w = world_begin(1);
    item *task = item_start(w, ITEM_TASK, do_job_then_join, NULL);
    item *job = item_start(w, ITEM_JOB, do_job_then_join, NULL);
    MODEL_EXPECT(item_join(task) == 0);
    MODEL_EXPECT(item_join(job) == 0);
    world_end(w);
}
