/* descriptors.c - clients of the driver [9] and of waiting for descriptors [14.1]. The pipes are
 * real, and their calls are made where they stand; what the system tells of them, and when, is the
 * explorer's. Uses waiting.c. */

#include <fcntl.h>
#include <unistd.h>

/* Pipes of executions that failed are closed by the next one. */
#define WIRES 2
static int wire_left[2 * WIRES] = {-1, -1, -1, -1};

typedef struct wire {
    world *in;
    int end[2];     /* end[0] is the runtime's while it is open */
    sch_io io;
    SCHI_ATOMIC(uint32_t) taken; /* relaxed: bytes read by tasks */
} wire;

static wire *wire_new(world *w, unsigned number) {
    wire *x = (wire *)model_new(sizeof *x);
    for (unsigned i = 0; i < 2; i++) {
        int *left = &wire_left[2 * number + i];
        if (*left >= 0) close(*left);
        *left = -1;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    MODEL_EXPECT(pipe(x->end) == 0);
    MODEL_EXPECT(fcntl(x->end[1], F_SETFL, O_NONBLOCK) == 0);
    wire_left[2 * number] = x->end[0], wire_left[2 * number + 1] = x->end[1];
    x->in = w;
    MODEL_EXPECT(sch_io_open(&x->io, w->rt, x->end[0]) == 0);
    wire_left[2 * number] = -1; /* the runtime closes it */
    return x;
}

/* A byte is written, and at once the system tells the poller; or the other end is closed. Its
 * number may be another's by then, which is told for nothing. */
static void wire_put_at(model_site *site, wire *x) {
    model_point(site, true);
    MODEL_EXPECT(write(x->end[1], "x", 1) == 1 || errno == EPIPE);
    model_poller_event(site, &x->in->rt->driver.poller, x->end[0], SCHI_READABLE);
}

static void wire_put(wire *x) { MODEL_CALL_(MODEL_OTHER, "put", __COUNTER__, wire_put_at, x); }

static void by_putting(void *arg) { wire_put((wire *)arg); }
static void by_closing_io(void *arg) { MODEL_EXPECT(sch_io_close(&((wire *)arg)->io) == 0); }

/* The runtime is over. */
static void wire_end(wire *x, unsigned number) {
    close(x->end[1]);
    wire_left[2 * number + 1] = -1;
}

/* Read one byte: by a call, which waits for news and tries again itself, or as an operation, which
 * is tried again by who awaits it. */
static int64_t wire_read(wire *x) {
    char byte = 0;
    sch_io_op reads = sch_read_op(&x->io, &byte, 1);
    int64_t got = model_choose(2) ? sch_await(&reads.op) : sch_read(&x->io, &byte, 1);
    if (got == 1) {
        MODEL_EXPECT(byte == 'x');
        (void)schi_add_rlx(&x->taken, 1u);
    }
    return got;
}

static void do_read(item *me) {
    int64_t got = wire_read((wire *)me->more);
    if (got == -ECANCELED && sch_cancelled()) {
        (void)item_note(&me->told);
    } else {
        MODEL_EXPECT(got == 1 || got == -ECANCELED || got == -EBADF); /* closed */
    }
}

static item *wire_reader(wire *x) {
    item *it = item_new(x->in, model_choose(2) ? ITEM_TASK : ITEM_JOB, do_read, NULL);
    it->more = x;
    MODEL_EXPECT(item_spawn(it));
    return it;
}

/* Client 21: ready against register; whoever sleeps is in the driver, or is sent there. */
MODEL(io_read, WORLD_SEARCH) {
    world *w = nap_world(false);
    wire *x = wire_new(w, 0);
    item *it = wire_reader(x);
    aside *other = aside_start(by_putting, x);
    MODEL_EXPECT(item_join(it) == 0);
    MODEL_EXPECT(schi_load_rlx(&x->taken) == 1);
    aside_end(other);
    world_end(w);
    wire_end(x, 0);
}

/* Two wait for one descriptor: each gets a byte. */
MODEL(io_two_readers, WORLD_SEARCH) {
    world *w = nap_world(false);
    wire *x = wire_new(w, 0);
    item *a = wire_reader(x), *b = wire_reader(x);
    aside *other = aside_start(by_putting, x);
    wire_put(x);
    MODEL_EXPECT(item_join(a) == 0 && item_join(b) == 0);
    MODEL_EXPECT(schi_load_rlx(&x->taken) == 2);
    aside_end(other);
    world_end(w);
    wire_end(x, 0);
}

/* A reader is cancelled while its byte comes: it took it, or it is still there. */
MODEL(io_vs_cancel, WORLD_SEARCH) {
    world *w = nap_world(false);
    wire *x = wire_new(w, 0);
    item *it = wire_reader(x);
    aside *other = aside_start(by_putting, x);
    char byte;
    by_cancelling(it->task);
    (void)item_join(it);
    aside_end(other);
    if (schi_load_rlx(&x->taken) == 0) {
        MODEL_EXPECT(read(x->end[0], &byte, 1) == 1);
    } else {
        MODEL_EXPECT(read(x->end[0], &byte, 1) == -1);
    }
    world_end(w);
    wire_end(x, 0);
}

/* Closed while somebody waits, and while its byte comes; then its record is used again: what the
 * system told of the old one is nobody's. */
MODEL(io_vs_close, WORLD_SEARCH) {
    world *w = nap_world(false);
    wire *x = wire_new(w, 0), *y;
    item *it = wire_reader(x), *again;
    bool put = model_choose(2);
    aside *closes = aside_start(by_closing_io, x);
    if (put) wire_put(x);
    y = wire_new(w, 1);
    again = wire_reader(y);
    (void)item_join(it);
    aside_end(closes);
    MODEL_EXPECT(schi_load_rlx(&x->taken) <= put);
    wire_put(y);
    MODEL_EXPECT(item_join(again) == 0);
    MODEL_EXPECT(schi_load_rlx(&y->taken) == 1);
    world_end(w);
    wire_end(x, 0);
    wire_end(y, 1);
}

/* A shutdown ends the wait; the runtime closes what is open. */
MODEL(io_vs_shutdown, WORLD_SEARCH) {
    world *w = nap_world(false);
    wire *x = wire_new(w, 0);
    (void)wire_reader(x);
    aside *other = model_choose(2) ? aside_start(by_putting, x) : NULL;
    MODEL_EXPECT(sch_runtime_shutdown(w->rt, SCH_FOREVER) == 0);
    if (other) aside_end(other);
    world_end(w);
    wire_end(x, 0);
}

/* A thread that is nobody's reads while the runtime's threads end: then nobody would tell it. */
static void by_reading(void *arg) {
    int64_t got = wire_read((wire *)arg);
    MODEL_EXPECT(got == 1 || got == -ECANCELED);
}

MODEL(io_thread_vs_shutdown, WORLD_SEARCH) {
    world *w = nap_world(false);
    wire *x = wire_new(w, 0);
    aside *reads = aside_start(by_reading, x);
    bool put = model_choose(2);
    if (put) wire_put(x);
    MODEL_EXPECT(sch_runtime_shutdown(w->rt, SCH_FOREVER) == 0);
    aside_end(reads);
    MODEL_EXPECT(schi_load_rlx(&x->taken) <= put);
    world_end(w);
    wire_end(x, 0);
}

/* A timer beside a descriptor: the watch sleeps in the driver until the first is due. */
static void do_read_or_nap(item *me) {
    wire *x = (wire *)me->more;
    char byte = 0;
    sch_io_op reads = sch_read_op(&x->io, &byte, 1);
    sch_timer timer = sch_timer_after(NAP);
    sch_op *const ops[2] = {&reads.op, &timer.op};
    unsigned passes = model_time_passes();
    int index = sch_await_any(ops, 2, SCH_FOREVER);
    MODEL_EXPECT(index == 0 || index == 1);
    if (index == 1) nap_is_over(timer.until, passes);
    MODEL_EXPECT(sch_op_is_done(&reads.op) == (byte == 'x'));
    if (byte == 'x') (void)schi_add_rlx(&x->taken, 1u);
}

MODEL(io_vs_timer, WORLD_SEARCH) {
    world *w = nap_world(false);
    wire *x = wire_new(w, 0);
    item *it = item_new(w, model_choose(2) ? ITEM_TASK : ITEM_JOB, do_read_or_nap, NULL);
    aside *other = NULL;
    char byte;
    it->more = x;
    MODEL_EXPECT(item_spawn(it));
    if (model_choose(2)) other = aside_start(by_putting, x);
    MODEL_EXPECT(item_join(it) == 0);
    if (other) aside_end(other);
    MODEL_EXPECT((read(x->end[0], &byte, 1) == 1) ==
                 (other != NULL && schi_load_rlx(&x->taken) == 0));
    world_end(w);
    wire_end(x, 0);
}

/* One thread joins, and so has the watch; another runs some, and silences the foreign loop's alarm:
 * not the one that is to wake the first. */
MODEL(io_loop_beside_join, WORLD_SEARCH) {
    world *w = world_new(1);
    wire *x;
    item *it;
    aside *joins;
    int more;
    w->config.flavor = SCH_CURRENT_THREAD;
    world_start(w);
    x = wire_new(w, 0); /* the driver is on */
    it = item_start(w, model_choose(2) ? ITEM_TASK : ITEM_JOB, do_nothing, NULL);
    joins = aside_start(by_joining, it);
    more = sch_run_some(w->rt, 0);
    MODEL_EXPECT(more == 0 || more == 1 || more == -EBUSY);
    aside_end(joins);
    world_end(w);
    wire_end(x, 0);
}

/* A foreign loop: what is pushed while it runs some is run, or rings for it afterwards. */
MODEL(io_loop_is_rung, .bound = 3, .stale = 4) {
    world *w = world_new(1);
    item *it;
    aside *other;
    int more;
    w->config.flavor = SCH_CURRENT_THREAD;
    world_start(w);
    (void)sch_poll_fd(w->rt); /* the poller has no descriptor here */
    MODEL_EXPECT(sch_run_some(w->rt, 0) == 0 && schi_load_seq(&w->rt->ring) == 1);
    it = item_new(w, ITEM_TASK, do_nothing, NULL);
    other = aside_start(by_spawning, it);
    more = sch_run_some(w->rt, 0);
    MODEL_EXPECT(more == 0 || more == 1);
    aside_end(other);
    MODEL_EXPECT(more == 1 || sch_is_done(it->task) || schi_load_seq(&w->rt->ring) == 2);
    MODEL_EXPECT(item_join(it) == 0);
    world_end(w);
}
