/* runtime.c - the explorer's clients of whole runtimes, from sch_runtime_new to sch_runtime_free,
 * with one or two workers. Each client names the client of the design list or the bug of another
 * scheduler that it comes from. tests/model/blocking.c uses what stands in the first part.
 *
 * A world is one runtime and the items that were spawned in it. At its end each item must have
 * been dropped exactly once, after it returned or without ever having run; its join must have told
 * the truth; and the runtime's own counts must agree. The engine adds: no data race, no deadlock,
 * no assertion of the header at SCH_DEBUG 3, no memory or thread left. */

#define WORLD_ITEMS 8
#define WORLD_VALUE 4711
#define WORLD_STACK 32768u
#define WORLD_PERIOD SCH_MILLISECOND /* of the standby, and keep-alive times */

/* One preemption anywhere, all reads new: whole executions have some hundred steps. Old values are
 * read, and more preemptions made, in the random ones; what can be old is the matter of
 * structures.c and task.c. */
#define WORLD_SEARCH .bound = 1, .stale = 0, .random = 10000

typedef struct world world;
typedef struct item item;
typedef void (*item_fn)(item *me);

typedef enum item_kind { ITEM_TASK, ITEM_OWN_STACK, ITEM_POLL, ITEM_JOB } item_kind;

struct item {
    world *in;
    item_fn fn;
    item_kind kind;
    item *peer;            /* whom fn works with */
    sch_task *task;        /* the handle; NULL: not spawned, joined or released */
    sch_task *self;        /* the same, set by itself before it does anything */
    int refused;           /* why the spawn failed, errno */
    SCHI_CELL(int) value;  /* its result: the item before its end, then who joined it */
    sch_timer timer;       /* of waiting.c: what it waits for */
    void *more;
    unsigned began, returned, told, dropped, calls; /* item_note */
};

struct world {
    sch_runtime *rt;
    sch_config config;
    schi_event gate[2];     /* opened once */
    SCHI_CELL(int) mail[2]; /* written before a wake, read after it */
    SCHI_ATOMIC(uint32_t) arrived;
    unsigned num_items;     /* item_note */
    item items[WORLD_ITEMS];
    unsigned hooks[8];      /* item_note: calls of each */
    unsigned choice;        /* of the client; fixed before anything is spawned */
    bool time_passes;       /* the client waits for time-outs: else none may be needed */
    unsigned since;         /* time jumps before something was queued */
};

/* The clients' own book-keeping is no scheduling point and orders nothing: it must not hide a
 * missing order in the header. */
static unsigned item_note(unsigned *n) { return __atomic_fetch_add(n, 1u, __ATOMIC_RELAXED); }
static unsigned item_noted(unsigned *n) { return __atomic_load_n(n, __ATOMIC_RELAXED); }

static void world_open(world *w, unsigned gate) { schi_event_set(&w->gate[gate]); }
static void world_await(world *w, unsigned gate) {
    (void)schi_event_wait(&w->gate[gate], UINT64_MAX); /* blocks the thread, as long code would */
}

/* Until some time has passed: others may run meanwhile, or have time-outs then, too. */
static void world_pass(world *w, uint64_t ns) {
    (void)schi_event_wait(&w->gate[1], schi_now_ns() + ns);
}

/* Items -----------------------------------------------------------------------------------------*/

static void item_drop(void *arg) {
    item *me = (item *)arg;
    /* Only a poll item may be dropped half-way. */
    MODEL_EXPECT(me->kind == ITEM_POLL || item_noted(&me->began) == item_noted(&me->returned));
    (void)item_note(&me->dropped);
}

static void item_drop_state(void *state) { item_drop(*(item **)state); }

static const sch_spawn_desc item_desc = {"item", SCH_HERE, 0, item_drop};
static const sch_spawn_desc item_own_desc = {"own stack", SCH_HERE, WORLD_STACK, item_drop};
static const sch_spawn_desc item_poll_desc = {"poll", SCH_HERE, 0, item_drop_state};

static void item_run(void *arg) {
    item *me = (item *)arg;
    MODEL_EXPECT(item_note(&me->began) == 0);
    me->self = sch_self();
    me->fn(me);
    schi_wr(&me->value, WORLD_VALUE);
    (void)item_note(&me->returned);
}

/* A poll item is ready when its fn has called item_ready. */
static void item_ready(item *me) {
    schi_wr(&me->value, WORLD_VALUE);
    (void)item_note(&me->returned);
}

static sch_status item_poll(sch_task *self, void *state) {
    item *me = *(item **)state;
    MODEL_EXPECT(self == sch_self());
    if (!item_noted(&me->began)) (void)item_note(&me->began);
    MODEL_EXPECT(!item_noted(&me->returned));
    me->fn(me);
    return item_noted(&me->returned) ? SCH_READY : SCH_PENDING;
}

static item *item_new(world *w, item_kind kind, item_fn fn, item *peer) {
    unsigned index = item_note(&w->num_items);
    item *me = &w->items[index];
    MODEL_EXPECT(index < WORLD_ITEMS);
    me->in = w;
    me->kind = kind;
    me->fn = fn;
    me->peer = peer;
    return me;
}

/* Spawn it; false: refused, item->refused says why. */
static bool item_spawn(item *me) {
    sch_runtime *rt = me->in->rt;
    switch (me->kind) {
    case ITEM_TASK: me->task = sch_spawn_with(rt, &item_desc, item_run, me); break;
    case ITEM_OWN_STACK: me->task = sch_spawn_with(rt, &item_own_desc, item_run, me); break;
    case ITEM_POLL:
        me->task = sch_spawn_poll_with(rt, &item_poll_desc, item_poll, &me, sizeof me);
        break;
    case ITEM_JOB: me->task = sch_spawn_blocking_with(rt, &item_desc, item_run, me); break;
    }
    me->refused = me->task ? 0 : sch_errno();
    return me->task != NULL;
}

static item *item_start(world *w, item_kind kind, item_fn fn, item *peer) {
    item *me = item_new(w, kind, fn, peer);
    MODEL_EXPECT(item_spawn(me));
    return me;
}

/* What a join said must be what happened; a result of 0 gives the right to read the value. */
static void item_joined(item *me, int result) {
    me->task = NULL;
    MODEL_EXPECT(item_noted(&me->dropped) == 1);
    MODEL_EXPECT(result == 0 || result == -ECANCELED || result == -ENOMEM);
    if (result == 0) {
        MODEL_EXPECT(item_noted(&me->returned) == 1 && item_noted(&me->told) == 0);
        MODEL_EXPECT(schi_rd(&me->value) == WORLD_VALUE);
    } else if (result == -ECANCELED) {
        MODEL_EXPECT(item_noted(&me->returned) == 0 || item_noted(&me->told) > 0);
    } else {
        MODEL_EXPECT(item_noted(&me->began) == 0);
    }
}

/* Join it, by whoever has the handle. -EAGAIN: the join itself lacked memory, once (faults). */
static int item_join(item *me) {
    int result = sch_join(me->task);
    while (result == -EAGAIN && model_faults() > 0) result = sch_join(me->task);
    item_joined(me, result);
    return result;
}

/* The same for a caller that may be cancelled: then the handle is released. */
static int item_join_or_release(item *caller, item *me) {
    int result = sch_join(me->task);
    if (result != -EINTR) {
        item_joined(me, result);
        return result;
    }
    (void)item_note(&caller->told);
    sch_release(me->task);
    me->task = NULL;
    return result;
}

static int item_suspend(item *me) {
    int result = sch_suspend();
    if (result == -ECANCELED) (void)item_note(&me->told);
    MODEL_EXPECT(result == 0 || result == -ECANCELED);
    return result;
}

/* Worlds ----------------------------------------------------------------------------------------*/

static world *world_new(unsigned workers) {
    world *w = (world *)model_new(sizeof *w);
    w->config.workers = workers;
    w->config.stack_size = WORLD_STACK;
    w->config.thread_stack_size = 65536;
    w->config.max_blocking_threads = 2;
    w->config.standby_period_ns = WORLD_PERIOD;
    w->config.keep_alive_ns = WORLD_PERIOD;
    w->config.seed = 1;
    for (int i = 0; i < 2; i++) {
        while (schi_event_init(&w->gate[i]) != 0) MODEL_EXPECT(model_faults() > 0);
    }
    return w;
}

/* false: the runtime could not be made. */
static bool world_try(world *w) {
    w->rt = sch_runtime_new(&w->config);
    return w->rt != NULL;
}

static world *world_start(world *w) {
    bool made = world_try(w);
    MODEL_EXPECT(made);
    return w;
}

static world *world_begin(unsigned workers) { return world_start(world_new(workers)); }

/* The runtime's counts against ours, once nothing runs any more. */
static void world_count(world *w) {
    sch_metrics_snapshot m;
    unsigned spawned = 0, cancelled = 0;
    for (unsigned i = 0; i < w->num_items; i++) {
        item *it = &w->items[i];
        if (it->refused && !(it->kind == ITEM_JOB && it->refused == EAGAIN)) continue;
        spawned++;
        cancelled += it->refused || !it->returned || it->told;
    }
    MODEL_EXPECT(sch_metrics(w->rt, &m) == 0);
    MODEL_EXPECT(m.num_alive_tasks == 0);
    MODEL_EXPECT(m.spawned_tasks_count == spawned);
    MODEL_EXPECT(m.cancelled_tasks_count == cancelled);
    MODEL_EXPECT(m.injection_queue_depth == 0 && m.blocking_queue_depth == 0);
    MODEL_EXPECT(m.num_blocking_threads == 0 && m.num_idle_blocking_threads == 0);
    MODEL_EXPECT(schi_load_seq(&w->rt->idle.places) == 0 && !w->rt->reserve_first);
    MODEL_EXPECT(m.num_searching == 0 && m.num_idle_workers == m.num_workers);
}

static void world_free(world *w) {
    MODEL_EXPECT(sch_runtime_shutdown(w->rt, SCH_FOREVER) == 0);
    world_count(w);
    sch_runtime_free(w->rt);
    MODEL_EXPECT(w->time_passes || model_time_jumps() == 0); /* no time-out saved anybody */
}

/* After the free, and when no other thread uses an item any more. */
static void world_check(world *w) {
    for (unsigned i = 0; i < w->num_items; i++) {
        item *it = &w->items[i];
        MODEL_EXPECT(it->dropped == 1);
        MODEL_EXPECT(it->began <= 1 && (it->returned == it->began || it->kind == ITEM_POLL));
        MODEL_EXPECT(!it->refused || it->began == 0);
        sch_release(it->task); /* a handle that outlived the runtime */
    }
    schi_event_drop(&w->gate[0]);
    schi_event_drop(&w->gate[1]);
}

static void world_end(world *w) {
    world_free(w);
    world_check(w);
}

/* Another thread of the program. */
typedef struct aside {
    schi_os_thread os;
    sch_fn fn;
    void *arg;
} aside;

static void *aside_main(void *argument) {
    aside *me = (aside *)argument;
    me->fn(me->arg);
    return NULL;
}

static aside *aside_start(sch_fn fn, void *arg) {
    aside *me = (aside *)model_new(sizeof *me);
    me->fn = fn;
    me->arg = arg;
    while (schi_thread_start(&me->os, aside_main, me, 65536) != 0) continue; /* a fault; no more */
    return me;
}

static void aside_end(aside *me) { schi_thread_join(me->os); }

/* What items and threads do ---------------------------------------------------------------------*/

static void do_nothing(item *me) {
    if (me->kind == ITEM_POLL) item_ready(me);
}

static void do_yield(item *me) {
    MODEL_EXPECT(sch_yield_now() == 0);
    (void)me;
}

static void do_suspend(item *me) { (void)item_suspend(me); }
static void do_suspend_for_ever(item *me) { MODEL_EXPECT(item_suspend(me) == -ECANCELED); }

/* A pattern in the caller's frame, checked when the caller has waited. */
#define FRAME_SIZE 16
static void frame_fill(volatile uintptr_t *frame, item *me) {
    for (unsigned i = 0; i < FRAME_SIZE; i++) frame[i] = (uintptr_t)me + i;
}

static void frame_check(volatile uintptr_t *frame, item *me) {
    for (unsigned i = 0; i < FRAME_SIZE; i++) MODEL_EXPECT(frame[i] == (uintptr_t)me + i);
}

static void do_read_mail(item *me) {
    volatile uintptr_t frame[FRAME_SIZE];
    frame_fill(frame, me);
    MODEL_EXPECT(item_suspend(me) == 0);
    MODEL_EXPECT(schi_rd(&me->in->mail[0]) == WORLD_VALUE);
    frame_check(frame, me);
}

static void do_open_0(item *me) { world_open(me->in, 0); }
static void do_open_1(item *me) { world_open(me->in, 1); }

/* Say that it runs, then be long code until the other gate opens. */
static void do_hold(item *me) {
    world_open(me->in, 0);
    world_await(me->in, 1);
}

static void do_join_peer(item *me) { (void)item_join_or_release(me, me->peer); }

static void by_spawning(void *arg) { (void)item_spawn((item *)arg); }

static void by_joining(void *arg) { (void)item_join((item *)arg); }

static void by_spawning_and_joining(void *arg) {
    MODEL_EXPECT(item_spawn((item *)arg));
    (void)item_join((item *)arg);
}

static void by_waking(void *task) { sch_wake((sch_task *)task); }

static void by_cancelling(void *task) {
    int result = sch_cancel((sch_task *)task);
    MODEL_EXPECT(result == 0 || result == -ESRCH);
}

static void by_waking_and_releasing(void *task) {
    sch_wake((sch_task *)task);
    sch_release((sch_task *)task);
}

/* MARK: - Start and end */

/* Client 24: freed as soon as it is made; its workers may be on their way to their first sleep. */
MODEL(runtime_new_free, WORLD_SEARCH, .bound = 2) {
    world_end(world_begin(1 + model_choose(2)));
}

/* Client 24, with the n-th allocation, mapping or thread refused: an error or a smaller runtime,
 * and the same again works. */
MODEL(runtime_new_faults, WORLD_SEARCH, .faults = 1) {
    world *w = world_new(1 + model_choose(2));
    if (!world_try(w)) {
        MODEL_EXPECT(errno == ENOMEM || errno == EAGAIN || errno == EMFILE);
        world_start(w);
    }
    item *it = item_new(w, (item_kind)model_choose(3), do_nothing, NULL);
    if (item_spawn(it)) {
        (void)item_join(it);
    } else {
        MODEL_EXPECT(it->refused == ENOMEM);
    }
    world_end(w);
}

/* Client 13 [join_output]: a plain thread joins one item of any kind and reads its result. */
MODEL(runtime_spawn_join, WORLD_SEARCH) {
    world *w = world_begin(2);
    item *it = item_start(w, (item_kind)model_choose(4), do_nothing, NULL);
    MODEL_EXPECT(item_join(it) == 0);
    world_end(w);
}

/* Client 17 [pool_multi_spawn]: two threads of the program spawn and join. Without the standby only
 * the handshake of [5.3] brings a worker. */
MODEL(runtime_two_spawners, WORLD_SEARCH) {
    world *w = world_new(2);
    w->config.no_standby = true;
    world_start(w);
    item *a = item_new(w, ITEM_TASK, do_nothing, NULL);
    item *b = item_new(w, ITEM_POLL, do_nothing, NULL);
    aside *other = aside_start(by_spawning_and_joining, a);
    by_spawning_and_joining(b);
    aside_end(other);
    world_end(w);
}

/* Clients 2 and 17: more children than the ring holds, stolen from at the same time. */
static void do_spawn_and_join_six(item *me) {
    item *child[6];
    for (int i = 0; i < 6; i++) child[i] = item_start(me->in, ITEM_TASK, do_nothing, NULL);
    for (int i = 0; i < 6; i++) MODEL_EXPECT(item_join(child[i]) == 0);
}

MODEL(runtime_overflow, WORLD_SEARCH) {
    world *w = world_begin(2);
    item *parent = item_start(w, ITEM_TASK, do_spawn_and_join_six, NULL);
    MODEL_EXPECT(item_join(parent) == 0);
    world_end(w);
}

/* A task without a description ends after its core has learnt of the shutdown. */
static void by_yielding(void *arg) {
    world *w = (world *)arg;
    world_open(w, 0);
    for (int i = 0; i < 3; i++) MODEL_EXPECT(sch_yield_now() == 0);
}

MODEL(runtime_plain_end_vs_shutdown, WORLD_SEARCH) {
    world *w = world_begin(1 + model_choose(2));
    MODEL_EXPECT(sch_go(w->rt, by_yielding, w) == 0);
    world_await(w, 0);
    MODEL_EXPECT(sch_runtime_shutdown(w->rt, SCH_FOREVER) == 0);
    sch_runtime_free(w->rt);
    world_check(w);
}

/* MARK: - Work conservation, fairness, the standby */

/* go#45867 (scenario 38): one worker sits in long code, the other sleeps or is about to; what comes
 * from outside must be run by it. No standby: the hard rule alone. */
MODEL(runtime_busy_worker, WORLD_SEARCH, .bound = 2) {
    world *w = world_new(2);
    w->config.no_standby = true;
    world_start(w);
    item *a = item_start(w, ITEM_TASK, do_hold, NULL);
    world_await(w, 0);
    item *b = item_start(w, ITEM_TASK, do_open_1, NULL);
    MODEL_EXPECT(item_join(a) == 0);
    MODEL_EXPECT(item_join(b) == 0);
    world_end(w);
}

/* Make tasks look too short to be worth a wake: then only the standby comes for them. */
static void world_only_standby(world *w) {
    for (unsigned i = 0; i < w->rt->num_cores; i++) {
        schi_store_rlx(&w->rt->cores[i]->wake_len, UINT32_MAX); /* rlx: a hint, as in [11.5] */
    }
}

/* Two looks of the standby are enough; but an alarm that was set for somebody else may ring once in
 * each seat, and the explorer lets it read old values at two more looks. Time
 * itself cannot be held to a bound: it may pass while whoever was woken is not run. */
static void do_open_1_in_time(item *me) {
    MODEL_EXPECT(model_time_jumps() - me->in->since <= 6);
    world_open(me->in, 1);
}

static void do_spawn_and_block(item *me) {
    item *child = item_new(me->in, ITEM_TASK, do_open_1_in_time, NULL);
    me->in->since = model_time_jumps();
    MODEL_EXPECT(item_spawn(child));
    world_await(me->in, 1); /* which the child opens, so elsewhere */
}

/* The standby rescues a task in the ring behind long code. */
MODEL(runtime_standby_ring, WORLD_SEARCH) {
    world *w = world_new(2);
    w->time_passes = true;
    world_start(w);
    world_only_standby(w);
    MODEL_EXPECT(item_join(item_start(w, ITEM_TASK, do_spawn_and_block, NULL)) == 0);
    world_end(w);
}

static void do_suspend_then_open_1_in_time(item *me) {
    world_open(me->in, 0);
    MODEL_EXPECT(item_suspend(me) == 0);
    do_open_1_in_time(me);
}

static void do_wake_and_block(item *me) {
    me->in->since = model_time_jumps();
    sch_wake(me->peer->task);
    world_await(me->in, 1);
}

/* Client 6: the standby rescues a task in the LIFO slot, or the wake came before the suspend. */
MODEL(runtime_standby_lifo, WORLD_SEARCH) {
    world *w = world_new(2);
    w->time_passes = true;
    world_start(w);
    item *woken = item_start(w, ITEM_TASK, do_suspend_then_open_1_in_time, NULL);
    world_await(w, 0);
    item *waker = item_start(w, ITEM_TASK, do_wake_and_block, woken);
    MODEL_EXPECT(item_join(waker) == 0);
    MODEL_EXPECT(item_join(woken) == 0);
    world_end(w);
}

/* tokio#5686, #5712 (scenario 7), client 6: two tasks that wake each other through the LIFO slot
 * must let a third run. */
static void do_ping(item *me) {
    item *third = &me->in->items[3];
    unsigned turns = 0;
    while (!item_noted(&third->began)) {
        MODEL_EXPECT(++turns < 8);
        sch_wake(me->peer->task);
        (void)item_suspend(me);
    }
    sch_wake(me->peer->task);
}

static void do_spawn_pingers(item *me) {
    item *a = item_new(me->in, ITEM_TASK, do_ping, NULL);
    item *b = item_new(me->in, ITEM_TASK, do_ping, a);
    item *third = item_new(me->in, ITEM_TASK, do_nothing, NULL);
    a->peer = b;
    MODEL_EXPECT(item_spawn(a) && item_spawn(b) && item_spawn(third));
    MODEL_EXPECT(item_join(third) == 0);
}

MODEL(runtime_lifo_cap, WORLD_SEARCH, .bound = 2) {
    world *w = world_begin(1);
    MODEL_EXPECT(item_join(item_start(w, ITEM_TASK, do_spawn_pingers, NULL)) == 0);
    world_end(w);
}

/* Client 6: two wakes in a row; the second task takes the slot from the first. */
static void do_wake_two(item *me) {
    item *a = item_start(me->in, ITEM_TASK, do_read_mail, NULL);
    item *b = item_start(me->in, ITEM_TASK, do_read_mail, NULL);
    do_yield(me); /* they suspend meanwhile, unless they were stolen */
    schi_wr(&me->in->mail[0], WORLD_VALUE);
    sch_wake(a->task);
    sch_wake(b->task);
    MODEL_EXPECT(item_join(a) == 0);
    MODEL_EXPECT(item_join(b) == 0);
}

MODEL(runtime_lifo_swap, WORLD_SEARCH) {
    world *w = world_begin(1 + model_choose(2));
    MODEL_EXPECT(item_join(item_start(w, ITEM_TASK, do_wake_two, NULL)) == 0);
    world_end(w);
}

/* Client 11 [yield_now x2]: two tasks that only yield, so that the ring is never empty, let in what
 * comes from outside, soon. */
static void do_yield_until_peer(item *me) {
    for (unsigned yields = 0; !item_noted(&me->peer->returned); yields++) {
        MODEL_EXPECT(yields < 8);
        MODEL_EXPECT(sch_yield_now() == 0);
    }
}

static void do_hold_then_yield(item *me) {
    do_hold(me);
    (void)item_start(me->in, ITEM_TASK, do_yield_until_peer, me->peer);
    do_yield_until_peer(me);
}

MODEL(runtime_yield_fair, WORLD_SEARCH, .bound = 2) {
    world *w = world_new(1);
    w->config.global_queue_interval = 2;
    world_start(w);
    item *b = item_new(w, ITEM_TASK, do_nothing, NULL);
    item *a = item_start(w, ITEM_TASK, do_hold_then_yield, b);
    world_await(w, 0);
    MODEL_EXPECT(item_spawn(b));
    world_open(w, 1);
    MODEL_EXPECT(item_join(b) == 0);
    MODEL_EXPECT(item_join(a) == 0);
    world_end(w);
}

/* MARK: - Waking, stacks */

/* Client 23: a wake while the task is just leaving its stack; another worker must not resume it
 * before its context is saved, and it sees what the waker wrote. */
MODEL(runtime_wake_vs_suspend, WORLD_SEARCH) {
    world *w = world_begin(2);
    item_kind kind = model_choose(2) ? ITEM_OWN_STACK : ITEM_TASK;
    item *it = item_start(w, kind, do_read_mail, NULL);
    schi_wr(&w->mail[0], WORLD_VALUE);
    sch_wake(it->task);
    MODEL_EXPECT(item_join(it) == 0);
    world_end(w);
}

/* The same by what a signal handler may call: it takes no lock, the standby does the rest, also
 * where it watches over nothing. */
static void by_waking_as_a_signal(void *task) { sch_wake_signal((sch_task *)task); }

MODEL(runtime_wake_signal, WORLD_SEARCH) {
    world *w = world_new(1 + model_choose(2));
    w->config.no_standby = model_choose(2);
    world_start(w);
    item *it = item_start(w, model_choose(2) ? ITEM_TASK : ITEM_JOB, do_suspend, NULL);
    aside *handler = aside_start(by_waking_as_a_signal, it->task);
    aside_end(handler);
    MODEL_EXPECT(item_join(it) == 0);
    world_end(w);
}

/* Client 12 [pool_multi_notify, assert_at_most_num_polls]: two wakers; each wake is followed by a
 * poll that sees what was written before it, and there are no more polls than wakes. */
typedef struct letter {
    world *in;
    sch_task *to; /* a reference of the sender's own */
    unsigned number;
} letter;

static void by_mail(void *arg) {
    letter *l = (letter *)arg;
    schi_wr(&l->in->mail[l->number], WORLD_VALUE);
    (void)schi_add_acqrel(&l->in->arrived, 1u); /* acqrel: the mail before the reader's load */
    by_waking_and_releasing(l->to);
}

static bool all_mail_is_there(item *me) {
    if (schi_load_acq(&me->in->arrived) < 2) return false; /* acq: pairs with by_mail */
    MODEL_EXPECT(schi_rd(&me->in->mail[0]) == WORLD_VALUE);
    MODEL_EXPECT(schi_rd(&me->in->mail[1]) == WORLD_VALUE);
    return true;
}

static void do_collect_mail(item *me) {
    unsigned waits = 0;
    if (me->kind == ITEM_POLL) {
        MODEL_EXPECT(item_note(&me->in->hooks[0]) < 3); /* polls: the first, and one a wake */
        if (all_mail_is_there(me)) item_ready(me);
        return;
    }
    while (!all_mail_is_there(me)) {
        MODEL_EXPECT(waits++ < 2);
        MODEL_EXPECT(item_suspend(me) == 0);
    }
}

MODEL(runtime_two_wakers, WORLD_SEARCH) {
    world *w = world_begin(1 + model_choose(2));
    item_kind kind = model_choose(2) ? ITEM_POLL : ITEM_TASK;
    item *it = item_start(w, kind, do_collect_mail, NULL);
    letter mine = {w, sch_retain(it->task), 0};
    letter theirs = {w, sch_retain(it->task), 1};
    aside *other = aside_start(by_mail, &theirs);
    by_mail(&mine);
    MODEL_EXPECT(item_join(it) == 0);
    aside_end(other);
    world_end(w);
}

static void do_call(item *me) {
    volatile uintptr_t frame[FRAME_SIZE];
    frame_fill(frame, me);
    for (int turn = 0; turn < 2; turn++) {
        sch_wake(me->peer->task);
        MODEL_EXPECT(item_suspend(me) == 0);
    }
    frame_check(frame, me);
}

static void do_answer(item *me) {
    volatile uintptr_t frame[FRAME_SIZE];
    frame_fill(frame, me);
    for (int turn = 0; turn < 2; turn++) {
        MODEL_EXPECT(item_suspend(me) == 0);
        sch_wake(me->in->items[1].self); /* it wrote that before it woke us */
    }
    frame_check(frame, me);
}

static void do_yield_twice(item *me) {
    volatile uintptr_t frame[FRAME_SIZE];
    frame_fill(frame, me);
    for (int turn = 0; turn < 2; turn++) MODEL_EXPECT(sch_yield_now() == 0);
    frame_check(frame, me);
}

/* Client 23, ruby#18354 (scenario 34): tasks hand themselves to and fro between two workers, end,
 * and their stacks are used again; nobody's frame is touched by another. */
MODEL(runtime_stack_reuse, WORLD_SEARCH) {
    world *w = world_begin(2);
    item *answer = item_start(w, ITEM_TASK, do_answer, NULL);
    item *call = item_start(w, ITEM_TASK, do_call, answer);
    item *own = item_start(w, ITEM_OWN_STACK, do_yield_twice, NULL);
    MODEL_EXPECT(item_join(call) == 0);
    item *again = item_start(w, ITEM_TASK, do_yield_twice, NULL);
    MODEL_EXPECT(item_join(own) == 0);
    MODEL_EXPECT(item_join(again) == 0);
    MODEL_EXPECT(item_join(answer) == 0);
    world_end(w);
}

/* MARK: - Joining, cancelling, releasing */

/* Client 14: cancelled before its first run, while it runs, or after its end. */
MODEL(runtime_cancel_vs_run, WORLD_SEARCH) {
    world *w = world_begin(2);
    item *it = item_start(w, (item_kind)model_choose(4), do_nothing, NULL);
    by_cancelling(it->task);
    (void)item_join(it); /* item_joined says whether it may be 0 or -ECANCELED */
    world_end(w);
}

/* Clients 12 and 14: a wake and a cancel at the same time. Of three waits at most one is ended by
 * the wake, and none waits for ever. */
static void do_suspend_until_cancelled(item *me) {
    unsigned woken = 0;
    for (int wait = 0; wait < 3; wait++) woken += item_suspend(me) == 0;
    MODEL_EXPECT(woken <= 1);
    MODEL_EXPECT(sch_cancelled());
}

MODEL(runtime_cancel_vs_wake, WORLD_SEARCH) {
    world *w = world_begin(2);
    item *it = item_start(w, model_choose(2) ? ITEM_TASK : ITEM_JOB, do_suspend_until_cancelled,
                          NULL);
    aside *other = aside_start(by_waking, it->task);
    by_cancelling(it->task);
    aside_end(other);
    MODEL_EXPECT(item_join(it) == -ECANCELED);
    world_end(w);
}

/* Cancelled twice at once, and a join on top: one end, one drop. */
MODEL(runtime_double_cancel, WORLD_SEARCH) {
    world *w = world_begin(2);
    item_kind kind = model_choose(2) ? ITEM_TASK : ITEM_OWN_STACK;
    item *it = item_start(w, kind, do_suspend, NULL);
    aside *other = aside_start(by_cancelling, sch_retain(it->task));
    by_cancelling(it->task);
    sch_task *kept = it->task;
    MODEL_EXPECT(item_join(it) == -ECANCELED);
    aside_end(other);
    MODEL_EXPECT(sch_cancel(kept) == -ESRCH);
    sch_release(kept);
    world_end(w);
}

/* Client 15 [loom_join_set]: a parent cancels all its children, some of which are ending. */
static void do_cancel_children(item *me) {
    item *waits = item_start(me->in, ITEM_TASK, do_suspend, NULL);
    item *ends = item_start(me->in, ITEM_TASK, do_yield, NULL);
    item *polls = item_start(me->in, ITEM_POLL, do_nothing, NULL);
    by_cancelling(waits->task);
    by_cancelling(ends->task);
    by_cancelling(polls->task);
    MODEL_EXPECT(item_join(waits) == -ECANCELED);
    (void)item_join(ends);
    (void)item_join(polls);
}

MODEL(runtime_cancel_children, WORLD_SEARCH) {
    world *w = world_begin(2);
    MODEL_EXPECT(item_join(item_start(w, ITEM_TASK, do_cancel_children, NULL)) == 0);
    world_end(w);
}

/* Client 13 [join_output], tokio#3672 (scenario 31): the joiner is cancelled by another thread
 * while what it joins completes. The handle is the joiner's exactly if it says -EINTR. */
MODEL(runtime_join_cancelled, WORLD_SEARCH) {
    world *w = world_begin(2);
    item *target = item_start(w, ITEM_TASK, do_yield, NULL);
    item_kind kind = model_choose(2) ? ITEM_TASK : ITEM_JOB;
    item *joiner = item_start(w, kind, do_join_peer, target);
    by_cancelling(joiner->task);
    (void)item_join(joiner); /* if it never ran, world_end releases the target */
    world_end(w);
}

/* Client 13: two join the same task; one gets the result, the other keeps its reference. */
static void by_joining_a_copy(void *arg) {
    item *it = (item *)arg;
    int result = sch_join(it->self);
    MODEL_EXPECT(result == 0 || result == -EBUSY || result == -EINVAL);
    if (result == 0) {
        MODEL_EXPECT(item_note(&it->in->hooks[0]) == 0);
        MODEL_EXPECT(schi_rd(&it->value) == WORLD_VALUE && item_noted(&it->dropped) == 1);
    } else {
        sch_release(it->self);
    }
}

MODEL(runtime_two_joiners, WORLD_SEARCH, .bound = 2) {
    world *w = world_begin(1);
    item *it = item_start(w, ITEM_POLL, do_nothing, NULL); /* which does not set self */
    it->self = sch_retain(it->task);
    it->task = NULL;
    aside *other = aside_start(by_joining_a_copy, it);
    by_joining_a_copy(it);
    aside_end(other);
    MODEL_EXPECT(w->hooks[0] == 1);
    world_end(w);
}

/* Client 13 [poll_drop_handle_then_drop, drop_jh_during_schedule], monoio#292, glommio#379
 * (scenario 33): the handle goes and the last waker's reference too, while the wake schedules the
 * task and it ends. */
static void do_suspend_then_open_0(item *me) {
    MODEL_EXPECT(item_suspend(me) == 0);
    do_open_0(me);
}

MODEL(runtime_release_vs_wake, WORLD_SEARCH) {
    world *w = world_begin(2);
    item *it = item_start(w, ITEM_TASK, do_suspend_then_open_0, NULL);
    aside *other = aside_start(by_waking_and_releasing, sch_retain(it->task));
    sch_detach(it->task);
    it->task = NULL;
    world_await(w, 0);
    aside_end(other);
    world_end(w);
}

/* tokio#4724, #6505, #6986 (scenario 32): tasks that join each other wait until the shutdown, which
 * ends them and leaks nothing. */
static void do_join_peer_late(item *me) {
    world_await(me->in, 0); /* until both have been spawned */
    do_join_peer(me);
}

MODEL(runtime_join_cycle, WORLD_SEARCH) {
    world *w = world_begin(2);
    item *a = item_new(w, ITEM_TASK, do_join_peer_late, NULL);
    item *b = item_new(w, ITEM_TASK, do_join_peer_late, a);
    a->peer = b;
    MODEL_EXPECT(item_spawn(a) && item_spawn(b));
    world_open(w, 0);
    world_end(w);
}

/* A shield: the cancel is not seen by the wait under it, and is by the next. */
static void do_shielded_wait(item *me) {
    if (sch_shield_begin(SCH_FOREVER)) MODEL_EXPECT(false);
    world_open(me->in, 1);
    MODEL_EXPECT(item_suspend(me) == 0);
    MODEL_EXPECT(!sch_cancelled());
    MODEL_EXPECT(schi_rd(&me->in->mail[0]) == WORLD_VALUE);
    sch_shield_end();
    if (sch_cancelled()) MODEL_EXPECT(item_suspend(me) == -ECANCELED);
    world_open(me->in, 0);
}

MODEL(runtime_shield, WORLD_SEARCH) {
    world *w = world_begin(2);
    item *it = item_start(w, model_choose(2) ? ITEM_TASK : ITEM_JOB, do_shielded_wait, NULL);
    aside *other = aside_start(by_cancelling, it->task);
    schi_wr(&w->mail[0], WORLD_VALUE);
    sch_wake(it->task);
    aside_end(other);
    (void)item_join(it);
    world_end(w);
}

/* MARK: - Shutdown */

/* Client 16 [racy_shutdown], tokio#2119 (scenario 12): a spawn from outside against the shutdown is
 * refused, or the task ends once. */
MODEL(runtime_spawn_vs_shutdown, WORLD_SEARCH) {
    world *w = world_begin(1);
    item_kind kind = (item_kind)model_choose(4);
    MODEL_EXPECT(item_join(item_start(w, kind, do_nothing, NULL)) == 0); /* its heap is there */
    item *it = item_new(w, kind, do_nothing, NULL);
    aside *other = aside_start(by_spawning, it);
    MODEL_EXPECT(sch_runtime_shutdown(w->rt, SCH_FOREVER) == 0);
    aside_end(other);
    MODEL_EXPECT(it->refused == 0 || it->refused == ESHUTDOWN);
    world_end(w);
}

/* tokio#3869, #3870 (scenario 14): tasks spawned just before, and by tasks during the shutdown, are
 * neither lost nor run twice. */
static void do_spawn_and_join(item *me) {
    item *child = item_new(me->in, ITEM_TASK, do_suspend_for_ever, NULL);
    if (item_spawn(child)) {
        (void)item_join_or_release(me, child);
    } else {
        MODEL_EXPECT(child->refused == ESHUTDOWN);
    }
}

MODEL(runtime_child_vs_shutdown, WORLD_SEARCH) {
    world *w = world_begin(2);
    item *parent = item_start(w, ITEM_TASK, do_spawn_and_join, NULL);
    (void)item_start(w, ITEM_TASK, do_suspend, NULL);
    sch_detach(parent->task);
    parent->task = NULL;
    world_end(w);
}

/* Client 16 [wake_during_shutdown], scenario 31: a wake by a thread that belongs to no runtime,
 * while the runtime is shut down and freed; its handle is good until it is released. */
MODEL(runtime_wake_vs_free, WORLD_SEARCH) {
    world *w = world_begin(2);
    item_kind kind = model_choose(2) ? ITEM_TASK : ITEM_JOB;
    item *it = item_start(w, kind, do_suspend, NULL);
    aside *other = aside_start(by_waking_and_releasing, it->task);
    it->task = NULL;
    world_free(w);
    aside_end(other);
    world_check(w);
}

/* Client 16 [join_handle_cancel_on_shutdown]: a plain thread's join is over when the shutdown
 * ended the task, and touches nothing that was freed. */
static void by_joining_cancelled(void *arg) {
    MODEL_EXPECT(item_join((item *)arg) == -ECANCELED);
}

MODEL(runtime_join_vs_free, WORLD_SEARCH) {
    world *w = world_begin(1 + model_choose(2));
    item *it = item_start(w, ITEM_TASK, do_suspend_for_ever, NULL);
    aside *other = aside_start(by_joining_cancelled, it);
    world_free(w);
    aside_end(other);
    world_check(w);
}

/* Client 16 [pool_shutdown, shutdown_with_notification]: two threads shut down, one without
 * patience; a shielded task still waits for a wake that comes in the middle. */
static void by_shutting_down(void *arg) {
    int result = sch_runtime_shutdown(((world *)arg)->rt, model_choose(2) ? WORLD_PERIOD : 0);
    MODEL_EXPECT(result == 0 || result == -ETIMEDOUT);
}

static void by_mail_and_shutdown(void *arg) {
    item *it = (item *)arg;
    by_shutting_down(it->in);
    schi_wr(&it->in->mail[0], WORLD_VALUE);
    sch_wake(it->task);
}

MODEL(runtime_two_shutdowns, WORLD_SEARCH) {
    world *w = world_new(2);
    w->time_passes = true; /* the impatient one's */
    world_start(w);
    item *it = item_start(w, ITEM_TASK, do_shielded_wait, NULL);
    world_await(w, 1); /* it is inside its shield */
    aside *other = aside_start(by_mail_and_shutdown, it);
    MODEL_EXPECT(sch_runtime_shutdown(w->rt, SCH_FOREVER) == 0);
    aside_end(other);
    MODEL_EXPECT(schi_event_is_set(&w->gate[0]));
    world_end(w);
}

/* tokio#3228 (scenario 13): a task whose clean-up waits for one on another core; the shutdown must
 * reach both. */
static void do_clean_up(item *me) {
    item *child = item_new(me->in, ITEM_TASK, do_suspend_for_ever, NULL);
    if (sch_shield_begin(SCH_FOREVER)) MODEL_EXPECT(false);
    if (item_spawn(child)) MODEL_EXPECT(item_join(child) == -ECANCELED);
    sch_shield_end();
}

MODEL(runtime_shutdown_chain, WORLD_SEARCH) {
    world *w = world_begin(2);
    (void)item_start(w, ITEM_TASK, do_clean_up, NULL);
    world_end(w);
}

/* Shut down from a task, and by the thread that made it, at the same time. */
static void do_shut_down(item *me) {
    MODEL_EXPECT(sch_runtime_shutdown(me->in->rt, SCH_FOREVER) == -EINPROGRESS);
    sch_runtime_free(me->in->rt); /* begins it, and that is all it may do here */
}

MODEL(runtime_shutdown_inside, WORLD_SEARCH) {
    world *w = world_begin(1 + model_choose(2));
    item *it = item_start(w, model_choose(2) ? ITEM_TASK : ITEM_JOB, do_shut_down, NULL);
    if (model_choose(2)) (void)item_join(it);
    world_end(w);
}

/* Client 17 [complete_block_on_under_load]: a visit waits for a task; the shutdown may come before
 * or during the visit, and the free waits for its end. */
static void visit_and_join(void *arg) {
    item *it = (item *)arg;
    world_open(it->in, (unsigned)(it - it->in->items));
    (void)item_join(it);
}

static void by_visiting(void *arg) {
    item *it = (item *)arg;
    int result = sch_block_on(it->in->rt, visit_and_join, it);
    MODEL_EXPECT(result == 0 || result == -ESHUTDOWN);
    world_open(it->in, (unsigned)(it - it->in->items));
}

MODEL(runtime_visit, WORLD_SEARCH) {
    world *w = world_begin(2);
    item *a = item_start(w, ITEM_TASK, do_yield, NULL);
    item *b = item_start(w, ITEM_TASK, do_yield, NULL);
    aside *other = aside_start(by_visiting, a);
    if (model_choose(2)) {
        by_visiting(b);
    } else {
        MODEL_EXPECT(sch_runtime_shutdown(w->rt, SCH_FOREVER) == 0);
    }
    world_await(w, 0); /* the other's visit has begun, or is refused */
    world_free(w);
    aside_end(other);
    world_check(w);
}

/* MARK: - Hooks */

enum { HOOK_START, HOOK_STOP, HOOK_PARK, HOOK_UNPARK, HOOK_SPAWN, HOOK_RUN, HOOK_REST, HOOK_END };

static void hook_start(void *user, unsigned n) {
    (void)n, (void)item_note(&((world *)user)->hooks[HOOK_START]);
}
static void hook_stop(void *user, unsigned n) {
    (void)n, (void)item_note(&((world *)user)->hooks[HOOK_STOP]);
}
static void hook_park(void *user, unsigned n) {
    (void)n, (void)item_note(&((world *)user)->hooks[HOOK_PARK]);
}
static void hook_unpark(void *user, unsigned n) {
    (void)n, (void)item_note(&((world *)user)->hooks[HOOK_UNPARK]);
}
static void hook_spawn(void *user, sch_task *task) {
    (void)task, (void)item_note(&((world *)user)->hooks[HOOK_SPAWN]);
}
static void hook_run(void *user, sch_task *task) {
    MODEL_EXPECT(sch_self() == task && sch_suspend() == -EPERM);
    (void)item_note(&((world *)user)->hooks[HOOK_RUN]);
}
static void hook_rest(void *user, sch_task *task) {
    (void)task, (void)item_note(&((world *)user)->hooks[HOOK_REST]);
}
static void hook_end(void *user, sch_task *task) {
    MODEL_EXPECT(!sch_is_done(task));
    (void)item_note(&((world *)user)->hooks[HOOK_END]);
}

/* Every hook is called as often as its opposite. */
MODEL(runtime_hooks, WORLD_SEARCH) {
    world *w = world_new(2);
    sch_hooks hooks = {hook_start, hook_stop, hook_park, hook_unpark, hook_spawn,
                       hook_run,   hook_rest, hook_end,  w};
    w->config.hooks = hooks;
    world_start(w);
    item *a = item_start(w, ITEM_TASK, do_yield, NULL);
    item *b = item_start(w, ITEM_POLL, do_nothing, NULL);
    item *c = item_start(w, ITEM_JOB, do_nothing, NULL);
    (void)item_start(w, ITEM_TASK, do_suspend, NULL); /* it waits, or the shutdown comes before */
    MODEL_EXPECT(item_join(a) == 0 && item_join(b) == 0 && item_join(c) == 0);
    world_end(w);
    MODEL_EXPECT(w->hooks[HOOK_START] >= 2 && w->hooks[HOOK_START] == w->hooks[HOOK_STOP]);
    MODEL_EXPECT(w->hooks[HOOK_PARK] == w->hooks[HOOK_UNPARK]);
    MODEL_EXPECT(w->hooks[HOOK_SPAWN] == 4 && w->hooks[HOOK_END] == 4);
    MODEL_EXPECT(w->hooks[HOOK_RUN] == w->hooks[HOOK_REST] && w->hooks[HOOK_RUN] >= 4);
}

/* tokio#8222, #7835 (scenario 28): what a hook schedules on the way to sleep is run before, or
 * instead of, the sleep. */
static void hook_park_spawns(void *user, unsigned n) {
    world *w = (world *)user;
    (void)n;
    if (item_note(&w->hooks[HOOK_PARK]) != w->hooks[HOOK_SPAWN]) return;
    MODEL_EXPECT(sch_go_with(NULL, &item_desc, item_run, &w->items[0]) == 0);
}

MODEL(runtime_park_hook, WORLD_SEARCH) {
    world *w = world_new(1 + model_choose(2));
    (void)item_new(w, ITEM_TASK, do_open_0, NULL); /* what the hook spawns */
    w->config.hooks.user = w;
    w->config.hooks.on_thread_park = hook_park_spawns;
    w->config.no_standby = true;
    w->hooks[HOOK_SPAWN] = model_choose(2); /* at the first or the second park */
    world_start(w);
    MODEL_EXPECT(item_join(item_start(w, ITEM_TASK, do_nothing, NULL)) == 0);
    world_await(w, 0);
    world_end(w);
}

/* MARK: - Looking inside */

/* A walk over the tasks while they are spawned, end, and their memory is used again. */
static void do_spawn_two_in_turn(item *me) {
    for (int i = 0; i < 2; i++) {
        MODEL_EXPECT(item_join(item_start(me->in, ITEM_TASK, do_yield, NULL)) == 0);
    }
}

MODEL(runtime_stragglers, WORLD_SEARCH, .bound = 2) {
    world *w = world_begin(1);
    item *it = item_start(w, ITEM_TASK, do_spawn_two_in_turn, NULL);
    sch_straggler out[WORLD_ITEMS];
    size_t n = sch_stragglers(w->rt, out, WORLD_ITEMS);
    MODEL_EXPECT(n <= 3 && sch_num_alive_tasks(w->rt) <= 3); /* two at once, and one between */
    for (size_t i = 0; i < n; i++) {
        MODEL_EXPECT(out[i].name == item_desc.name);
        MODEL_EXPECT(out[i].worker == 0 || out[i].worker == UINT_MAX);
    }
    MODEL_EXPECT(item_join(it) == 0);
    world_end(w);
}

/* MARK: - SCH_CURRENT_THREAD */

static world *world_begin_current(void) {
    world *w = world_new(1);
    w->config.flavor = SCH_CURRENT_THREAD;
    return world_start(w);
}

/* Clients 16, 17 [block_on_num_polls]: the thread that runs the tasks sleeps, because all of them
 * wait; a wake from outside wakes it. */
MODEL(current_wake, WORLD_SEARCH, .bound = 2) {
    world *w = world_begin_current();
    item *it = item_start(w, model_choose(2) ? ITEM_TASK : ITEM_POLL, do_collect_mail, NULL);
    letter mine = {w, sch_retain(it->task), 0};
    letter theirs = {w, sch_retain(it->task), 1};
    aside *other = aside_start(by_mail, &theirs);
    by_mail(&mine);
    by_visiting(it);
    aside_end(other);
    world_end(w);
}

/* Two threads wait for tasks: one drives, then the other has to take over with what is queued. A
 * third may spawn from outside meanwhile. */
MODEL(current_two_drivers, WORLD_SEARCH, .bound = 2) {
    world *w = world_begin_current();
    item *a = item_start(w, ITEM_TASK, do_yield, NULL);
    item *b = item_start(w, ITEM_TASK, do_yield_twice, NULL); /* still queued when a ends */
    aside *other = aside_start(by_joining, a), *third = NULL;
    if (model_choose(2)) {
        third = aside_start(by_spawning_and_joining, item_new(w, ITEM_TASK, do_nothing, NULL));
    }
    MODEL_EXPECT(item_join(b) == 0);
    aside_end(other);
    if (third) aside_end(third);
    world_end(w);
}

/* A driver's join against the shutdown by another thread; time-outs in between. */
MODEL(current_shutdown, WORLD_SEARCH, .bound = 2) {
    world *w = world_begin_current();
    item *it = item_start(w, ITEM_TASK, do_suspend, NULL);
    aside *joins = aside_start(by_joining, it);
    if (model_choose(2)) by_shutting_down(w);
    MODEL_EXPECT(sch_runtime_shutdown(w->rt, SCH_FOREVER) == 0);
    aside_end(joins);
    world_end(w);
}

/* A job of such a runtime ends on a thread of the pool, and wakes the driver: as the one that the
 * driver joins, or that a task joins which the driver runs. */
static void do_join_a_job(item *me) {
    MODEL_EXPECT(item_join(item_start(me->in, ITEM_JOB, do_yield, NULL)) == 0);
}

MODEL(current_job, WORLD_SEARCH, .bound = 2) {
    world *w = world_begin_current();
    item_kind kind = model_choose(2) ? ITEM_TASK : ITEM_JOB;
    item *it = item_start(w, kind, kind == ITEM_JOB ? do_yield : do_join_a_job, NULL);
    MODEL_EXPECT(item_join(it) == 0);
    world_end(w);
}
