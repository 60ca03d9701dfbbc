/* gaps.c - clients for what the others left out, as mutate.py found. Uses all of them. */

/* What a thief has just stolen is stolen from it: its release of tail publishes the slots. */
static void gap_relay(void *shared, unsigned me) {
    unsigned next = 0;
    if (me > 0) ring_steal((ring_case *)shared, me - 1, me, &next);
}

MODEL(gap_relay, .bound = 3, .spurious = 1) {
    ring_case *r = ring_new("", 0);
    for (; r->sent < SCH_RUNQ_CAP; r->sent++) {
        (void)schi_runq_push(&r->q[0], parcel_send(&r->all, r->sent));
    }
    crew_run(3, gap_relay, r);
    ring_end(r);
}

/* Taking half out is a release of head: who reads the length sees no tail from before it, and so
 * never an empty ring. */
static void gap_half(void *shared, unsigned me) {
    ring_case *r = (ring_case *)shared;
    schi_node *first = NULL, *last = NULL;
    if (me > 0) {
        for (int i = 0; i < 3; i++) {
            SCHI_INDEX len = schi_runq_len(&r->q[0]);
            MODEL_EXPECT(len >= 1 && len <= 3);
        }
        return;
    }
    for (int i = 0; i < 2; i++) {
        (void)schi_runq_push(&r->q[0], parcel_send(&r->all, r->sent++));
        if (schi_runq_take_half(&r->q[0], &first, &last) == 1) (void)parcel_take(first);
    }
}

MODEL(gap_half, .bound = 3, .stale = 4) {
    ring_case *r = ring_new("", 0);
    for (int i = 0; i < 2; i++) {
        (void)schi_runq_push(&r->q[0], parcel_send(&r->all, r->sent++));
        MODEL_EXPECT(i == 0 || parcel_take(schi_runq_pop(&r->q[0])) == 0);
    }
    crew_run(2, gap_half, r);
    ring_end(r);
}

/* Two tasks that only yield: their worker never runs out of work, and must see the shutdown. They
 * are spawned there, so that nobody else cancels them. */
static void do_yield_until_cancelled(item *me) {
    while (!sch_cancelled()) MODEL_EXPECT(sch_yield_now() == 0);
    (void)me;
}

static void do_spawn_two_yielders(item *me) {
    for (int i = 0; i < 2; i++) {
        if (!item_spawn(item_new(me->in, ITEM_TASK, do_yield_until_cancelled, NULL))) return;
    }
}

MODEL(gap_yield_vs_shutdown, WORLD_SEARCH, .bound = 1) {
    world *w = world_begin(1);
    MODEL_EXPECT(item_join(item_start(w, ITEM_TASK, do_spawn_two_yielders, NULL)) == 0);
    world_end(w);
}

/* A call that was refused for want of a thread leaves no place taken: as many refusals as there are
 * places, and the next call works. */
static void do_call_refused_often(item *me) {
    for (int refused = 0;; refused++) {
        int result = sch_block_in_place(call_nothing, me);
        if (result == 0) break;
        MODEL_EXPECT(result == -EAGAIN && refused < 2);
    }
}

MODEL(gap_refused_places, WORLD_SEARCH, .bound = 1, .faults = 2) {
    world *w = world_new(1);
    item *it;
    w->config.max_blocking_threads = 1;
    while (!world_try(w)) MODEL_EXPECT(model_faults() > 0);
    it = item_new(w, ITEM_TASK, do_call_refused_often, NULL);
    if (item_spawn(it)) MODEL_EXPECT(item_join(it) == 0 || model_faults() > 0);
    world_end(w);
}
