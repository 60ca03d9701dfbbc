/* observe.c - clients of what looks on: borrowed tasks [6] and walks [17.2], the ring of a trace
 * [10], the watchdog's shot [17.4]. Uses task.c, waiting.c and runtime.c. */

/* Looks at one task ------------------------------------------------------------------------------
 * A look is what a walk does when it comes to a heap, by the header's own schi_walk_heap. Whatever
 * happens to the task meanwhile must follow as if nobody had looked: the clients are those of
 * task.c and waiting.c, with a looker beside them and the same expectations. */

/* What is shown of the only task of a heap must be true of it. */
static int look_shown(const sch_task_info *info, void *user) {
    task_case *c = (task_case *)user;
    bool waits = info->phase == SCH_PHASE_WAITING;
    MODEL_EXPECT(info->id == schi_task_id(c->task));
    MODEL_EXPECT(waits == (info->wait != SCH_WAIT_KINDS));
    MODEL_EXPECT(waits == (info->wait_text[0] != 0));
    return 0;
}

static void look_once(task_case *c) {
    schi_walk w;
    MODEL_EXPECT(schi_walk_begin(c->b->rt) == 0);
    w.rt = c->b->rt, w.fn = look_shown, w.user = c;
    MODEL_EXPECT(schi_walk_heap(&w, schi_slab_of(c->task)->heap) == 0);
    schi_walk_end(c->b->rt);
}

static void look_at_waiter(wait_case *c) { look_once(c->tasks); }

/* By the worker that has run its first poll. */
static void look_at_home(task_case *c) {
    task_run_all(schi_self());
    look_once(c);
}

/* One wake, two in a row, two at once; and how often it is polled. */
static void look_run_wakes(unsigned of_0, unsigned of_1, bool yields) {
    task_case *c = task_new();
    bool home = of_1 > 0 || model_choose(2);
    c->role[0] = home ? look_at_home : NULL;
    c->role[1] = of_0 == 2 ? task_wake_0_twice : task_wake_0;
    c->role[2] = of_1 ? task_wake_1 : home ? NULL : look_once;
    c->needed[0] = of_0, c->needed[1] = of_1, c->yields = yields;
    task_spawn(c, NULL, 1);
    crew_run(of_1 || !home ? 3 : 2, task_work, c);
    MODEL_EXPECT(schi_rd(&c->polls) <= 1 + of_0 + of_1 + yields);
    task_join_and_end(c);
}

MODEL(look_vs_wake, .bound = 3, .spurious = 1) { look_run_wakes(1, 0, false); }
MODEL(look_vs_wake_twice, .bound = 3, .spurious = 1) { look_run_wakes(2, 0, false); }
MODEL(look_vs_two_wakers, .bound = 2, .spurious = 1) { look_run_wakes(1, 1, false); }
MODEL(look_vs_yield_vs_wake, .bound = 3) { look_run_wakes(1, 0, true); }

/* Nobody wakes it: it is polled once, and waits as before. */
MODEL(look_at_rest, .bound = 3, .spurious = 1) {
    task_case *c = task_new();
    c->role[0] = look_at_home, c->needed[0] = 1;
    task_spawn(c, NULL, 1);
    for (int i = 0; i < 2; i++) {
        crew_run(1, task_work, c);
        MODEL_EXPECT(schi_rd(&c->polls) == 1);
    }
    c->role[0] = task_wake_0;
    crew_run(1, task_work, c);
    MODEL_EXPECT(schi_rd(&c->polls) == 2);
    task_join_and_end(c);
}

MODEL(look_vs_wake_vs_cancel, .bound = 2, .spurious = 1) {
    task_case *c = task_new();
    c->role[0] = look_at_home, c->role[1] = task_wake_0, c->role[2] = task_cancel;
    c->until_cancelled = true;
    task_spawn(c, NULL, 1);
    crew_run(3, task_work, c);
    MODEL_EXPECT(schi_rd(&c->polls) <= 3 && sch_is_done(c->task));
    MODEL_EXPECT(sch_join(c->task) == (schi_rd(&c->polls) == 0 ? -ECANCELED : 0));
    task_end(c);
}

/* It ends, and its last handles go, while the looker has or takes its reference. */
MODEL(look_vs_end_vs_release, .bound = 3, .spurious = 1) {
    task_case *c = task_new();
    c->role[1] = task_wake_and_release;
    c->role[2] = look_once, c->outside[2] = model_choose(2);
    task_spawn(c, NULL, 1);
    crew_run(3, task_work, c);
    MODEL_EXPECT(schi_rd(&c->polls) == 1 && schi_rd(&c->result) == 42);
    task_end(c);
}

/* Its block is used again, by a task that waits, as it never did. What is shown is one of them,
 * whole; and once they have ended, nothing is. */
typedef struct reuse_case {
    task_case *c;
    uint64_t id[2];
    unsigned shown;
    bool never_runs; /* fixed: the first */
} reuse_case;

static sch_status reuse_first(sch_task *self, void *state) {
    (void)self, (void)state;
    return SCH_READY;
}

static sch_status reuse_second(sch_task *self, void *state) {
    (void)self, (void)state;
    return sch_cancelled() ? SCH_READY : SCH_PENDING;
}

static const sch_spawn_desc reuse_desc[2] = {{"first", SCH_HERE, 0, NULL},
                                             {"second", SCH_HERE, 0, NULL}};

static int reuse_shown(const sch_task_info *info, void *user) {
    reuse_case *r = (reuse_case *)user;
    sch_poll_fn second_fn = reuse_second;
    bool second = memcmp(&info->fn, &second_fn, sizeof info->fn) == 0;
    MODEL_EXPECT(strcmp(info->name, reuse_desc[second].name) == 0);
    MODEL_EXPECT(second || info->phase != SCH_PHASE_WAITING);
    MODEL_EXPECT(second || !r->never_runs || info->phase != SCH_PHASE_RUNNING);
    MODEL_EXPECT(r->id[second] == 0 || r->id[second] == info->id);
    MODEL_EXPECT(r->id[!second] != info->id);
    r->id[second] = info->id;
    r->shown++;
    return 0;
}

static void reuse_walk(reuse_case *r) {
    sch_runtime *rt = r->c->b->rt;
    schi_walk w;
    w.rt = rt, w.fn = reuse_shown, w.user = r;
    for (unsigned k = 0; k < SCHI_HEAP_CLASSES; k++) {
        schi_heap *heap = schi_load_acq(&rt->cores[0]->heaps[k]);
        MODEL_EXPECT(schi_walk_heap(&w, heap) == 0);
    }
}

static void reuse_work(void *shared, unsigned me) {
    reuse_case *r = (reuse_case *)shared;
    schi_thread *th = r->c->b->thread[0];
    sch_task *task[2];
    if (me > 0) {
        for (int i = 0; i < 2; i++) reuse_walk(r);
        return;
    }
    schi_tls_set(th);
    for (int i = 0; i < 2; i++) {
        task[i] = sch_spawn_poll_with(NULL, &reuse_desc[i], i ? reuse_second : reuse_first, "", 1);
        MODEL_EXPECT(task[i] != NULL);
        if (i == 0 && r->never_runs) MODEL_EXPECT(sch_cancel(task[0]) == 0);
        if (i == 0) sch_release(task[0]);
        task_run_all(th);
    }
    MODEL_EXPECT(sch_cancel(task[1]) == 0);
    while (!sch_is_done(task[1])) { /* the walker may have to give it back */
        task_run_all(th);
        schi_cpu_relax();
    }
    r->shown = 0;
    if (r->c->until_cancelled) { /* alone: an ended task is not shown, although it is referenced */
        reuse_walk(r);
        MODEL_EXPECT(r->shown == 0);
    }
    MODEL_EXPECT(sch_join(task[1]) == 0);
    schi_tls_set(NULL);
}

static void reuse_run(unsigned walkers) {
    reuse_case *r = (reuse_case *)model_new(sizeof *r);
    r->c = task_new();
    r->c->until_cancelled = walkers == 0;
    r->never_runs = model_choose(2);
    schi_store_seq(&r->c->drops, 1u); /* they have none */
    crew_run(1 + walkers, reuse_work, r);
    task_end(r->c);
}

MODEL(look_vs_reuse, .bound = 3, .stale = 2) { reuse_run(1); }
MODEL(look_not_at_the_ended, .bound = 0) { reuse_run(0); }

/* The same without what a look does besides: the sight of a block is one task's. */
static void sight_first(void *arg) { (void)arg; }
static void sight_second(void *arg) { (void)arg; }

static void sight_work(void *shared, unsigned me) {
    static const schi_request request[2] = {
        {&reuse_desc[0], 0, sight_first, NULL, NULL, 0, false},
        {&reuse_desc[1], 0, sight_second, NULL, NULL, 0, false},
    };
    sch_task *block = (sch_task *)shared;
    schi_sight s;
    for (unsigned i = 0; me == 0 && i < 2; i++) {
        schi_task_set_id(block, 1 + i);
        schi_task_fill(block, &request[i]);
        (void)schi_task_complete(block, 0);
    }
    if (me == 0 || !schi_task_sight(block, &s)) return;
    model_outcome((unsigned)s.id);
    MODEL_EXPECT(s.id == 1 || s.id == 2);
    MODEL_EXPECT(s.desc == request[s.id - 1].desc && s.fn == request[s.id - 1].run);
}

MODEL(look_sees_one, .bound = 3, .stale = 3, .outcomes = 6) {
    crew_run(2, sight_work, model_new(sizeof(sch_task)));
}

/* Slabs come while a walk goes on: what was there before is shown, and once. */
#define GROW_TASKS (SCH_SLAB_SIZE / 4096 + 1)
typedef struct grow_case {
    task_case *c;
    sch_task *task[GROW_TASKS];
    SCHI_ATOMIC(uint32_t) spawned;
    unsigned shown[GROW_TASKS];
} grow_case;

static const char grow_state[SCH_TASK_STATE_MAX];
static sch_status grow_poll(sch_task *self, void *state) {
    (void)self, (void)state;
    return SCH_READY;
}

static int grow_shown(const sch_task_info *info, void *user) {
    grow_case *g = (grow_case *)user;
    uint64_t n = (info->id - schi_task_id(g->task[0])) / SCHI_ID_STEP;
    MODEL_EXPECT(n < GROW_TASKS && info->kind == SCH_TASK_POLL);
    MODEL_EXPECT(g->shown[n]++ == 0);
    return 0;
}

static void grow_work(void *shared, unsigned me) {
    grow_case *g = (grow_case *)shared;
    schi_thread *th = g->c->b->thread[0];
    unsigned k = schi_heap_class(SCH_TASK_STATE_MAX);
    if (me > 0) {
        schi_walk w;
        unsigned spawned = schi_load_acq(&g->spawned);
        w.rt = th->rt, w.fn = grow_shown, w.user = g;
        MODEL_EXPECT(schi_walk_heap(&w, schi_load_acq(&th->rt->cores[0]->heaps[k])) == 0);
        for (unsigned i = 0; i < spawned; i++) MODEL_EXPECT(g->shown[i] == 1);
        return;
    }
    schi_tls_set(th);
    for (unsigned i = 1; i < GROW_TASKS; i++) {
        g->task[i] = sch_spawn_poll(NULL, grow_poll, grow_state, sizeof grow_state);
        MODEL_EXPECT(g->task[i] != NULL);
        schi_store_rel(&g->spawned, i + 1);
    }
    schi_tls_set(NULL);
}

MODEL(look_vs_growth, .bound = 3) {
    grow_case *g = (grow_case *)model_new(sizeof *g);
    schi_thread *th;
    g->c = task_new();
    th = g->c->b->thread[0];
    schi_tls_set(th);
    g->task[0] = sch_spawn_poll(NULL, grow_poll, grow_state, sizeof grow_state);
    MODEL_EXPECT(g->task[0] != NULL);
    schi_store_rel(&g->spawned, 1u);
    schi_tls_set(NULL);
    crew_run(2, grow_work, g);
    schi_tls_set(th);
    task_run_all(th);
    schi_tls_set(NULL);
    for (unsigned i = 0; i < GROW_TASKS; i++) MODEL_EXPECT(sch_join(g->task[i]) == 0);
    schi_store_seq(&g->c->drops, 1u); /* they have none */
    task_end(g->c);
}

/* Operations of a poll task, by a looker with a core or without. */
MODEL(look_vs_complete, .bound = 2, .spurious = 1) {
    wait_case *c = poll_new(1);
    c->retries = model_choose(2);
    unsigned polls = poll_run(c, 0, serve_0, look_at_waiter, model_choose(2) ? 2 : 0);
    MODEL_EXPECT(c->index == 0 && c->result[0] == HAND_RESULT);
    MODEL_EXPECT(polls <= 2 + c->retries);
}

MODEL(look_vs_poll_timer, .bound = 2, .spurious = 1) {
    wait_case *c = poll_new(0);
    poll_time(c);
    unsigned polls = poll_run(c, 0, wait_expire, look_at_waiter, model_choose(2) ? 2 : 0);
    MODEL_EXPECT(c->index == 0 && c->result[1] == 0);
    MODEL_EXPECT(polls <= 2);
}

static void look_and_cancel(wait_case *c) {
    if (model_choose(2)) {
        look_at_waiter(c);
        cancel_waiter(c);
    } else {
        cancel_waiter(c);
        look_at_waiter(c);
    }
}

MODEL(look_vs_poll_cancel, .bound = 2, .spurious = 1) {
    wait_case *c = poll_new(1);
    c->busy = model_choose(2);
    unsigned polls = poll_run(c, 0, serve_0, look_and_cancel, 0);
    bool completed = schi_load_rlx(&c->completed[0]) > 0;
    if (polls > 0) MODEL_EXPECT(c->result[0] == (completed ? HAND_RESULT : -ECANCELED));
    MODEL_EXPECT(polls <= 3);
}

static void look_and_serve(wait_case *c) {
    look_at_waiter(c);
    hand_serve(c, 0);
}

/* Shutdown drops it while it is looked at. */
MODEL(look_vs_poll_shutdown, .bound = 2, .spurious = 1) {
    wait_case *c = poll_new(1);
    c->busy = model_choose(2);
    (void)poll_run(c, 0, poll_shutdown, look_and_serve, 2);
}

/* Jobs: completed, retried, expired, cancelled, their shield over. */
MODEL(look_vs_op, .bound = 2, .spurious = 1) {
    wait_case *c = wait_new(true, 1);
    c->retries = model_choose(2);
    wait_run(c, serve_0, look_at_waiter);
    MODEL_EXPECT(c->index == 0 && schi_load_rlx(&c->polls[0]) == 1 + c->retries);
}

MODEL(look_vs_timer, .bound = 2, .spurious = 1) {
    wait_case *c = wait_new(true, 0);
    c->with_timer = true;
    wait_time(c);
    wait_run(c, wait_expire, look_at_waiter);
    MODEL_EXPECT(c->index == 0);
}

MODEL(look_vs_op_vs_cancel, .bound = 2, .spurious = 1, .outcomes = 7) {
    wait_case *c = wait_new(true, 1);
    c->busy = model_choose(2);
    wait_run(c, serve_0, look_and_cancel);
    MODEL_EXPECT(c->index == 0 || c->index == -ECANCELED || c->index == INT_MIN);
    model_outcome(c->index == 0 ? 0 : c->index == -ECANCELED ? 1 : 2);
}

MODEL(look_vs_timer_vs_cancel, .bound = 2, .spurious = 1, .outcomes = 7) {
    wait_case *c = wait_new(true, 0);
    c->with_timer = true;
    wait_time(c);
    wait_run(c, wait_expire, look_and_cancel);
    MODEL_EXPECT(c->index == 0 || c->index == -ECANCELED || c->index == INT_MIN);
    model_outcome(c->index == 0 ? 0 : c->index == -ECANCELED ? 1 : 2);
}

static void look_shield_cancel(wait_case *c) {
    look_and_cancel(c);
    if (model_choose(2)) hand_serve(c, 0);
}

MODEL(look_vs_shield, .bound = 2, .outcomes = 7) {
    wait_case *c = wait_new(true, 1);
    schi_store_rlx(&c->tasks->task->fn, shield_in_job);
    wait_time(c);
    wait_run(c, shield_expire, look_shield_cancel);
    MODEL_EXPECT(c->index == 0 || c->index == -ECANCELED || c->index == INT_MIN);
    model_outcome(c->index == 0 ? 0 : c->index == -ECANCELED ? 1 : 2);
}

static void look_at_job_of(task_case *c) {
    unsigned order = model_choose(3);
    if (order == 1) task_cancel_or_late(c);
    look_once(c);
    if (order == 2) task_cancel_or_late(c);
}

/* A job that joins a task which ends, and may be cancelled. */
MODEL(look_vs_join, .bound = 2, .outcomes = 7) {
    task_case *c = task_new();
    bool told, ran;
    task_spawn(c, task_run_once, 1);
    c->joined = c->task;
    c->task = job_new(c, job_join);
    c->role[1] = job_role, c->role[2] = look_at_job_of;
    c->outside[2] = true;
    crew_run(3, task_work, c);
    told = schi_load_seq(&c->told) > 0, ran = schi_load_seq(&c->won) > 0;
    MODEL_EXPECT(sch_join(c->task) == (told || !ran ? -ECANCELED : 0));
    model_outcome(!ran ? 2 : told);
    if (!ran) MODEL_EXPECT(sch_join(c->joined) == 0);
    task_end(c);
}

/* A job that suspends itself, woken and cancelled. */
MODEL(look_vs_suspend, .bound = 2, .spurious = 1) {
    task_case *c = task_new();
    bool cancel = model_choose(2);
    int result;
    c->task = job_new(c, job_suspend);
    schi_store_seq(&c->drops, 1u); /* it has none */
    c->role[0] = task_wake_0, c->role[1] = job_role;
    c->role[2] = cancel ? look_at_job_of : look_once;
    c->outside[2] = true;
    crew_run(3, task_work, c);
    result = sch_join(c->task);
    MODEL_EXPECT(result == (schi_load_seq(&c->told) || !schi_rd(&c->polls) ? -ECANCELED : 0));
    MODEL_EXPECT(cancel || result == 0);
    task_end(c);
}

/* One walk at a time: who is in it is alone, and has what the one before left. */
typedef struct walkers {
    bare *b;
    SCHI_CELL(unsigned) inside;
    SCHI_ATOMIC(uint32_t) refused;
} walkers;

static void walkers_work(void *shared, unsigned me) {
    walkers *w = (walkers *)shared;
    int result = schi_walk_begin(w->b->rt);
    (void)me;
    MODEL_EXPECT(result == 0 || result == -EBUSY);
    if (result != 0) {
        (void)schi_add_rlx(&w->refused, 1u);
        return;
    }
    schi_wr(&w->inside, schi_rd(&w->inside) + 1);
    schi_walk_end(w->b->rt);
}

MODEL(look_two_walkers, .bound = 4, .outcomes = 7) {
    walkers *w = (walkers *)model_new(sizeof *w);
    unsigned refused;
    w->b = bare_new(1, 1, false);
    crew_run(3, walkers_work, w);
    refused = schi_load_seq(&w->refused);
    MODEL_EXPECT(schi_rd(&w->inside) + refused == 3);
    MODEL_EXPECT(schi_load_seq(&w->b->rt->guests) == 0);
    model_outcome(refused);
    bare_free(w->b);
}

/* Trace ------------------------------------------------------------------------------------------
 * Event n says n in each of its words. Two writers hold the core one after the other. */

#define TRACE_EVENTS 5u
typedef struct trace_case {
    schi_trace *t;
    SCHI_ATOMIC(uint32_t) handed;  /* the core, to the second writer */
    SCHI_ATOMIC(uint32_t) written; /* so many events, at least; each written by one */
    unsigned writers;              /* fixed, as is the next */
    uint64_t start;                /* event n has the time start + n */
} trace_case;

static void trace_write_some(trace_case *c, uint32_t from, uint32_t to) {
    for (uint32_t i = from; i < to; i++) {
        E.now = c->start + i - MODEL_NS_PER_LOOK; /* a look at the clock takes so long */
        schi_trace_put(c->t, i, i, i);
        schi_store_rel(&c->written, i + 1);
    }
}

/* Whole, in order, and of the last `size` that were there when it began or came later. What is lost
 * is lost to what was written meanwhile, and to the one that may just be written. */
static void trace_check(trace_case *c, uint64_t least, uint64_t most, const schi_trace_entry *e,
                        uint64_t n) {
    uint64_t oldest = most + 1 > c->t->size ? most + 1 - c->t->size : 0;
    MODEL_EXPECT(n <= c->t->size);
    for (uint64_t i = 0; i < n; i++) {
        MODEL_EXPECT(e[i].what == e[i].task && e[i].task == e[i].other);
        MODEL_EXPECT(e[i].time == c->start + e[i].what);
        MODEL_EXPECT(e[i].what == e[0].what + i && e[i].what < most);
    }
    if (least > oldest) MODEL_EXPECT(n > 0 && e[0].what <= oldest && e[n - 1].what + 1 >= least);
    if (n > 0 && least > c->t->size) MODEL_EXPECT(e[0].what >= least - c->t->size);
}

static void trace_work(void *shared, unsigned me) {
    trace_case *c = (trace_case *)shared;
    schi_trace_entry out[4];
    uint32_t least, half = TRACE_EVENTS / 2;
    uint64_t n;
    switch (me) {
    case 0:
        trace_write_some(c, 0, c->writers == 2 ? half : TRACE_EVENTS);
        schi_store_rel(&c->handed, 1u);
        break;
    case 1:
        least = schi_load_acq(&c->written);
        n = schi_trace_copy(c->t, out);
        trace_check(c, least, TRACE_EVENTS, out, n);
        model_outcome((unsigned)n);
        break;
    default:
        while (!schi_load_acq(&c->handed)) schi_cpu_relax();
        trace_write_some(c, half, TRACE_EVENTS);
    }
}

static void trace_run(unsigned writers, size_t size) {
    sch_config config;
    trace_case *c = (trace_case *)model_new(sizeof *c);
    memset(&config, 0, sizeof config);
    schi_config_defaults(&config);
    c->writers = writers;
    c->start = schi_now_ns();
    c->t = schi_trace_new(&config.allocator, size);
    MODEL_EXPECT(c->t != NULL && c->t->size == size);
    crew_run(1 + writers, trace_work, c);
    schi_trace_free(c->t, &config.allocator);
}

MODEL(trace_ring, .bound = 3, .stale = 4, .outcomes = 3) { trace_run(1, 2); }
MODEL(trace_ring_4, .bound = 3, .stale = 3, .outcomes = 15) { trace_run(1, 4); }
MODEL(trace_hand_over, .bound = 3, .stale = 3) { trace_run(2, 2); }

/* Started, maybe twice at once, while a core and others without one write; copied at once. */
typedef struct start_case {
    bare *b;
    bool twice; /* fixed: thread 3 starts it, too, else it writes without a core */
} start_case;

static void start_work(void *shared, unsigned me) {
    start_case *c = (start_case *)shared;
    bare *b = c->b;
    bool starts = me == 2 || (me == 3 && c->twice);
    schi_trace_entry out[2];
    schi_trace *t;
    uint64_t n;
    for (uint64_t i = 1; i <= 2 && !starts; i++) {
        schi_trace_event(me ? NULL : b->thread[0], b->rt, SCHI_TRACE_WAKE, 0, 8 * me + i,
                         8 * me + i);
    }
    if (!starts) return;
    MODEL_EXPECT(sch_trace_start(b->rt) == 0);
    for (unsigned i = 0; i < 2; i++) {
        t = schi_trace_of(b->rt, i);
        MODEL_EXPECT(t != NULL && t->size == 2);
        n = schi_trace_copy(t, out);
        for (uint64_t k = 0; k < n; k++) {
            uint32_t by = schi_entry_thread(&out[k]);
            MODEL_EXPECT(schi_entry_kind(&out[k]) == SCHI_TRACE_WAKE);
            MODEL_EXPECT(by == (i == 0 ? b->thread[0]->number : SCHI_NO_THREAD));
            MODEL_EXPECT(out[k].task > 0 && out[k].task == out[k].other);
        }
    }
    MODEL_EXPECT(sch_trace_stop(b->rt) == 0);
}

MODEL(trace_start, .bound = 3) {
    start_case *c = (start_case *)model_new(sizeof *c);
    unsigned threads = 3 + model_choose(2);
    c->b = bare_new(1, 1, false);
    c->twice = threads > 3 && model_choose(2);
    c->b->rt->config.trace_events = 2;
    bare_hold_cores(c->b, 1);
    crew_run(threads, start_work, c);
    bare_free(c->b);
}

/* Watchdog ---------------------------------------------------------------------------------------
 * The shot: two tasks compute on two threads, and the watchdog asks for one's stack, then for the
 * other's. A handler is a thread here, and a signal the permission to begin; it comes as late as
 * may be. The handler's own stack is what it finds, so its frames tell who wrote them. */

typedef struct shot_case {
    bare *b;
    schi_watchdog *w;
    sch_task task[2];
    bool hurries; /* fixed */
    SCHI_ATOMIC(uint32_t) sent[2], over;
    SCHI_CELL(unsigned) frames; /* stands for them: the watchdog's, or the handler's that took it */
} shot_case;

static shot_case *shot_now; /* of the execution that runs */

/* Instead of the system's; schi_thread_signal calls it. */
int pthread_kill(pthread_t thread, int number) {
    (void)number;
    for (unsigned i = 0; i < 2; i++) {
        if (shot_now && shot_now->b->thread[i]->os == thread) {
            schi_store_rel(&shot_now->sent[i], 1u);
            return 0;
        }
    }
    return ESRCH;
}

/* A moment passes; but for who hurries, and waits for a handler that has not begun, the time is
 * over at once. */
int poll(struct pollfd *fds, nfds_t n, int timeout) {
    struct timespec time = {timeout / 1000, timeout % 1000 * 1000000L};
    if (n > 0) return ppoll(fds, n, timeout < 0 ? NULL : &time, NULL);
    if (!shot_now || !shot_now->hurries ||
        shot_now->w->shot.state.atomic_value % 4 == SCHI_SHOT_TAKING) {
        schi_os_yield();
    }
    return 0;
}

/* What a client does while a stack is borrowed, once. */
static void (*look_meanwhile)(void);

/* One frame, that says on which stack and by which thread it was asked for. */
int backtrace(void **frames, int max) {
    void (*act)(void) = look_meanwhile;
    if (max > 1) look_meanwhile = NULL;
    if (max > 1 && act) act();
    if (max > 1 && shot_now) schi_wr(&shot_now->frames, E.current);
    frames[0] = __builtin_frame_address(0);
    if (max > 1) frames[1] = (void *)(uintptr_t)E.current;
    return max > 1 ? 2 : 1;
}

static bool shot_is_over(schi_watchdog *w) {
    uint32_t stage = schi_load_seq(&w->shot.state) % 4;
    return stage == SCHI_SHOT_NONE || stage == SCHI_SHOT_DONE;
}

static void shot_work(void *shared, unsigned me) {
    shot_case *c = (shot_case *)shared;
    unsigned taken = 0;
    if (me > 0) {
        while (!schi_load_acq(&c->sent[me - 1])) {
            if (schi_load_rlx(&c->over)) return;
            schi_cpu_relax();
        }
        schi_tls_set(c->b->thread[me - 1]);
        schi_shot_take(1);
        schi_tls_set(NULL);
        return;
    }
    for (unsigned i = 0; i < 2; i++) {
        schi_wr(&c->frames, 0u);
        schi_shot_ask(c->w, i, &c->task[i]);
        MODEL_EXPECT(shot_is_over(c->w));
        MODEL_EXPECT((schi_rd(&c->frames) != 0) == (c->w->shot.num > 0));
        if (c->w->shot.num == 0) continue;
        MODEL_EXPECT(c->w->shot.num == 2);
        /* the crew's threads are numbered as they were started */
        MODEL_EXPECT((uintptr_t)c->w->shot.frames[1] == E.current + 1 + i);
        taken |= 1u << i;
    }
    model_outcome(taken);
    schi_store_rlx(&c->over, 1u);
}

static void shot_run(bool other_task) {
    shot_case *c = (shot_case *)model_new(sizeof *c);
    c->b = bare_new(2, 2, false);
    c->hurries = model_choose(2);
    c->b->rt->config.stack_signal = 1;
    c->w = (schi_watchdog *)model_new(sizeof *c->w);
    c->w->rt = c->b->rt;
    c->b->rt->watchdog = c->w;
    for (unsigned i = 0; i < 2; i++) {
        c->b->thread[i]->os = 1000 + i;
        schi_set_current(c->b->thread[i], &c->task[other_task ? !i : i]);
    }
    shot_now = c;
    crew_run(3, shot_work, c);
    shot_now = NULL;
    if (other_task) MODEL_EXPECT(!schi_load_rlx(&c->sent[0]) && !schi_load_rlx(&c->sent[1]));
    for (unsigned i = 0; i < 2; i++) schi_set_current(c->b->thread[i], NULL);
    bare_free(c->b);
}

MODEL(watch_shot, .bound = 3, .outcomes = 15) { shot_run(false); }
MODEL(watch_shot_too_late, .bound = 2, .outcomes = 1) { shot_run(true); }

/* What a core runs, while its task ends and the block is used again, by one that does not run. */
static void see_work(void *shared, unsigned me) {
    task_case *c = (task_case *)shared;
    schi_thread *th = c->b->thread[0];
    if (me == 0) {
        schi_tls_set(th);
        for (int i = 0; i < 2; i++) {
            sch_task *task = sch_spawn_with(NULL, &reuse_desc[i], walk_do_nothing, c);
            MODEL_EXPECT(task != NULL);
            sch_release(task);
            while (i == 1 && !schi_load_rlx(&c->won)) schi_cpu_relax();
            task_run_all(th);
        }
        schi_tls_set(NULL);
        return;
    }
    for (int i = 0; i < 2; i++) {
        schi_core_sight s;
        schi_core_see(th->rt, 0, &s);
        MODEL_EXPECT(!s.idle && !s.lent && s.thread == th->number && s.polls <= 1);
        if (s.task) {
            MODEL_EXPECT(s.is.desc == &reuse_desc[0]);
        }
        model_outcome(s.task != NULL);
    }
    schi_store_rlx(&c->won, 1u);
}

MODEL(watch_sight, .bound = 3, .outcomes = 3) {
    task_case *c = task_new();
    schi_store_seq(&c->drops, 1u); /* they have none */
    crew_run(2, see_work, c);
    task_end(c);
}

/* Whole runtimes ---------------------------------------------------------------------------------
 * Walks beside everything else. A suspended stack is switched to for its backtrace: the pattern in
 * its frame must be there afterwards. */

typedef struct walked {
    uint64_t id;
    uintptr_t frame; /* an address in it */
    sch_task *kept;  /* the waker's handle */
} walked;

static int walk_shown(const sch_task_info *info, void *user) {
    world *w = (world *)user;
    sch_task *self = sch_self();
    bool waits = info->phase == SCH_PHASE_WAITING;
    MODEL_EXPECT(waits == (info->wait != SCH_WAIT_KINDS));
    MODEL_EXPECT(waits == (info->wait_text[0] != 0));
    MODEL_EXPECT(info->line > 0 && info->name[0] != 0);
    if (self && info->id == schi_task_id(self)) MODEL_EXPECT(!waits);
    MODEL_EXPECT(info->num_frames == (waits && info->kind == SCH_TASK_STACK ? 2 : 0));
    for (unsigned i = 0; i < w->num_items && info->num_frames > 0; i++) {
        walked *it = (walked *)w->items[i].more;
        uintptr_t at = (uintptr_t)info->frames[0];
        if (it && it->id == info->id) MODEL_EXPECT(at < it->frame && it->frame - at < WORLD_STACK);
    }
    return 0;
}

static void walk_world(world *w) {
    MODEL_EXPECT(sch_each_task(w->rt, walk_shown, w) == 0);
    MODEL_EXPECT(!schi_self() || schi_self()->commit == SCHI_COMMIT_NONE);
}

static void by_walking(void *arg) { walk_world((world *)arg); }
static void do_walk(item *me) { walk_world(me->in); }

/* Waits for mail, once, and in a poll task without a poll too many. */
static void call_wait_for_mail(void *arg) { MODEL_EXPECT(item_suspend((item *)arg) == 0); }

static void do_wait_for_mail(item *me) {
    walked *it = (walked *)me->more;
    volatile uintptr_t frame[FRAME_SIZE];
    if (me->kind == ITEM_POLL) {
        unsigned calls = item_note(&me->calls);
        MODEL_EXPECT(calls < 2);
        if (calls == 0 && !schi_load_acq(&me->in->arrived)) return; /* else only the wake orders */
        MODEL_EXPECT(schi_rd(&me->in->mail[0]) == WORLD_VALUE);
        item_ready(me);
        return;
    }
    it->frame = (uintptr_t)frame, it->id = schi_task_id(sch_self());
    frame_fill(frame, me);
    if (me->in->choice == 1) {
        MODEL_EXPECT(sch_block_in_place(call_wait_for_mail, me) == 0);
    } else {
        call_wait_for_mail(me);
    }
    MODEL_EXPECT(schi_rd(&me->in->mail[0]) == WORLD_VALUE);
    frame_check(frame, me);
}

static void by_mailing(void *arg) {
    item *it = (item *)arg;
    schi_wr(&it->in->mail[0], WORLD_VALUE);
    schi_store_rel(&it->in->arrived, 1u);
    by_waking_and_releasing(((walked *)it->more)->kept);
}

static aside *mail_start(item *it) {
    ((walked *)it->more)->kept = sch_retain(it->task);
    return aside_start(by_mailing, it);
}

/* Somebody walks: a thread of the program, or a task. */
typedef struct walker {
    aside *out;
    item *in;
} walker;

static walker walk_start(world *w, bool as_task) {
    walker me = {NULL, NULL};
    if (as_task) {
        me.in = item_start(w, ITEM_TASK, do_walk, NULL);
    } else {
        me.out = aside_start(by_walking, w);
    }
    return me;
}

static void walk_end(walker me) {
    if (me.out) aside_end(me.out);
    if (me.in) MODEL_EXPECT(item_join(me.in) == 0);
}

static item *walk_item(world *w, item_kind kind, item_fn fn) {
    item *it = item_new(w, kind, fn, NULL);
    it->more = model_new(sizeof(walked));
    MODEL_EXPECT(item_spawn(it));
    return it;
}

/* One of each kind is woken while a walk comes by. */
MODEL(walk_vs_wake, WORLD_SEARCH) {
    world *w = nap_world(false);
    item *it;
    walker walks;
    aside *other;
    w->choice = model_choose(2); /* in blocking code? */
    it = walk_item(w, (item_kind)model_choose(4), do_wait_for_mail);
    walks = walk_start(w, model_choose(2));
    other = mail_start(it);
    MODEL_EXPECT(item_join(it) == 0);
    aside_end(other);
    walk_end(walks);
    world_end(w);
}

/* Two that wait, two workers, and a waker for one; the other is woken at last. */
MODEL(walk_vs_two, WORLD_SEARCH) {
    world *w = world_begin(2);
    item *a = walk_item(w, ITEM_TASK, do_wait_for_mail);
    item *b = walk_item(w, ITEM_TASK, do_suspend_for_ever);
    walker walks = walk_start(w, model_choose(2));
    aside *other = mail_start(a);
    MODEL_EXPECT(item_join(a) == 0);
    aside_end(other);
    MODEL_EXPECT(sch_cancel(b->task) == 0);
    MODEL_EXPECT(item_join(b) == -ECANCELED);
    walk_end(walks);
    world_end(w);
}

/* Timers fire beside it, in time. */
MODEL(walk_vs_nap, WORLD_SEARCH) {
    world *w = nap_world(false);
    item *it = item_start(w, nap_kind(), do_nap, NULL);
    walker walks = walk_start(w, model_choose(2));
    MODEL_EXPECT(item_join(it) == 0);
    walk_end(walks);
    world_end(w);
}

/* What it waits for ends, and it is cancelled, maybe. */
MODEL(walk_vs_join, WORLD_SEARCH) {
    world *w = world_begin(1 + model_choose(2));
    item *child = item_start(w, (item_kind)model_choose(4), do_nothing, NULL);
    item *parent = item_start(w, ITEM_TASK, do_join_peer, child);
    walker walks = walk_start(w, model_choose(2));
    if (model_choose(2)) by_cancelling(parent->task);
    (void)item_join(parent);
    if (child->task) (void)item_join(child); /* the parent was cancelled before it ran */
    walk_end(walks);
    world_end(w);
}

static void do_suspend_to_the_end(item *me) {
    if (me->kind != ITEM_POLL) do_suspend_for_ever(me); /* a poll task is dropped */
}

/* The end of the runtime cancels what is looked at; the walk has ended before it is freed. */
MODEL(walk_vs_shutdown, WORLD_SEARCH) {
    world *w = nap_world(false);
    aside *other;
    (void)item_start(w, (item_kind)model_choose(4), do_suspend_to_the_end, NULL);
    other = aside_start(by_walking, w);
    MODEL_EXPECT(sch_runtime_shutdown(w->rt, SCH_FOREVER) == 0);
    aside_end(other);
    world_end(w);
}

/* A walk that has begun is waited for by the free. */
static int walk_shown_first(const sch_task_info *info, void *user) {
    world *w = (world *)user;
    world_open(w, 0);
    return walk_shown(info, user);
}

static void by_walking_into_the_end(void *arg) {
    world *w = (world *)arg;
    MODEL_EXPECT(sch_each_task(w->rt, walk_shown_first, w) == 0);
}

MODEL(walk_vs_free, WORLD_SEARCH) {
    world *w = nap_world(false);
    aside *other;
    (void)item_start(w, (item_kind)model_choose(4), do_suspend_to_the_end, NULL);
    other = aside_start(by_walking_into_the_end, w);
    world_await(w, 0);
    world_free(w);
    aside_end(other);
    world_check(w);
}

/* A paused clock does not pass a task that was woken while it was looked at, and goes on after the
 * look. */
static void do_wait_and_read_clock(item *me) {
    if (me->kind == ITEM_POLL) {
        if (!schi_load_rlx(&me->in->arrived)) return;
    } else {
        MODEL_EXPECT(item_suspend(me) == 0);
    }
    *(uint64_t *)me->more = sch_now();
    do_nothing(me);
}

MODEL(walk_paused_wake, WORLD_SEARCH) {
    world *w = nap_world(true);
    item *a = item_start(w, ITEM_TASK, do_long_nap, NULL);
    item *b = item_new(w, nap_kind(), do_wait_and_read_clock, NULL);
    uint64_t *seen = (uint64_t *)model_new(sizeof *seen), woken;
    walker walks;
    b->more = NULL;
    MODEL_EXPECT(item_spawn(b));
    b->more = seen;
    walks = walk_start(w, false);
    schi_store_rlx(&w->arrived, 1u);
    sch_wake(b->task);
    woken = schi_load_seq(&w->rt->paused_at);
    MODEL_EXPECT(item_join(b) == 0);
    MODEL_EXPECT(*seen <= woken);
    MODEL_EXPECT(item_join(a) == 0);
    walk_end(walks);
    world_end(w);
}

/* The wake comes while it is borrowed, for sure: from the looker's own thread. */
static item *walk_borrowed;
static uint64_t walk_woken;

static void wake_borrowed(void) {
    sch_wake(walk_borrowed->task);
    walk_woken = schi_load_seq(&walk_borrowed->in->rt->paused_at);
}

MODEL(walk_paused_within, WORLD_SEARCH) {
    world *w = nap_world(true);
    item *a = item_start(w, ITEM_POLL, do_long_nap, NULL);
    item *b = item_new(w, ITEM_TASK, do_wait_and_read_clock, NULL);
    uint64_t *seen = (uint64_t *)model_new(sizeof *seen);
    walker walks;
    MODEL_EXPECT(item_spawn(b));
    b->more = seen;
    walk_borrowed = b, walk_woken = 0, look_meanwhile = wake_borrowed;
    walks = walk_start(w, false);
    MODEL_EXPECT(item_join(a) == 0);
    walk_end(walks);
    if (look_meanwhile) wake_borrowed(); /* it did not wait yet */
    look_meanwhile = NULL;
    MODEL_EXPECT(item_join(b) == 0);
    MODEL_EXPECT(*seen <= walk_woken);
    world_end(w);
}

MODEL(walk_paused_naps, WORLD_SEARCH) {
    world *w = nap_world(true);
    item *a = item_start(w, nap_kind(), do_long_nap, NULL);
    item *b = item_start(w, nap_kind(), do_nap, NULL);
    walker walks = walk_start(w, model_choose(2));
    MODEL_EXPECT(item_join(b) == 0);
    MODEL_EXPECT(item_join(a) == 0);
    walk_end(walks);
    world_end(w);
}

/* The same in a loop of the user's. */
MODEL(walk_paused_loop, WORLD_SEARCH) {
    world *w = world_new(1);
    item *a, *b;
    walker walks;
    w->config.flavor = SCH_CURRENT_THREAD, w->config.paused_clock = w->time_passes = true;
    world_start(w);
    a = item_start(w, nap_kind(), do_long_nap, NULL);
    b = item_start(w, ITEM_TASK, do_nap, NULL);
    walks = walk_start(w, false);
    while (!sch_is_done(a->task) || !sch_is_done(b->task)) {
        int more = sch_run_some(w->rt, 0);
        MODEL_EXPECT(more >= 0);
        schi_cpu_relax();
    }
    MODEL_EXPECT(item_join(b) == 0);
    MODEL_EXPECT(item_join(a) == 0);
    walk_end(walks);
    world_end(w);
}

/* The same loop without a look: somebody outside wakes a task while time is about to jump. */
static void by_waking_and_reading(void *arg) {
    item *b = (item *)arg;
    uint64_t *seen = (uint64_t *)b->more;
    sch_wake(b->task);
    seen[1] = schi_load_seq(&b->in->rt->paused_at);
}

MODEL(paused_loop_vs_wake, .bound = 2, .stale = 0, .random = 10000) {
    world *w = world_new(1);
    uint64_t *seen = (uint64_t *)model_new(2 * sizeof *seen); /* by the task; when it was woken */
    item *a, *b;
    aside *other;
    w->config.flavor = SCH_CURRENT_THREAD, w->config.paused_clock = w->time_passes = true;
    world_start(w);
    a = item_start(w, ITEM_TASK, do_long_nap, NULL);
    b = item_new(w, ITEM_TASK, do_wait_and_read_clock, NULL);
    b->more = seen;
    MODEL_EXPECT(item_spawn(b));
    for (int i = 0; i < 2; i++) MODEL_EXPECT(sch_run_some(w->rt, 0) == 1); /* both wait */
    other = aside_start(by_waking_and_reading, b);
    while (!sch_is_done(a->task) || !sch_is_done(b->task)) {
        int more = sch_run_some(w->rt, 0);
        MODEL_EXPECT(more >= 0);
        schi_cpu_relax();
    }
    aside_end(other);
    MODEL_EXPECT(seen[0] <= seen[1]);
    MODEL_EXPECT(item_join(b) == 0);
    MODEL_EXPECT(item_join(a) == 0);
    world_end(w);
}
