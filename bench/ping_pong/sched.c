/* ping_pong: what does it cost when two tasks wake each other?
 *
 * Method     pair       1000 tasks at a time each spawn a partner, wake it and wait for its answer
 *                       (Tokio's ping_pong). An operation is a pair: two spawns, one round trip.
 *            roundtrip  100 pairs live on and wake each other in turn. An operation is one round
 *                       trip: two wakes, two waits, two switches. This is where the LIFO slot earns
 *                       or costs: run it with --no-lifo as well.
 *            pair_poll, roundtrip_poll  the same with poll tasks, which are what Tokio's tasks are:
 *                       a state machine, no stack to leave and to come back to.
 * Checked    A turn flag in each pair: whoever comes back from a wait out of turn spoils the run.
 * Misleads   On one worker a partner never waits for a CPU. With two workers a pair may be torn
 *            apart by stealing, and each wake then crosses between CPUs: look at `cpus`, and at the
 *            spread. In `pair` the partner often finds its ping waiting already, in all contenders.
 */
#include "bench_sched.h"

#define BATCH 1000u
#define PAIRS 100u

typedef struct state state;

typedef struct pair {
    state *s;
    sch_task *a;
    sch_task *b;
    atomic_int turn;  /* 1: b may go, 0: a may go */
    bool held;        /* b releases a */
    uint64_t want;
    uint64_t a_done;
    uint64_t wrong;   /* b's; a's are missing in a_done */
} pair;

struct state {
    bench *b;
    sch_task *root;
    atomic_uint left;
    bool poll;
    pair pairs[BATCH];
};

static void wait_turn(pair *p, int mine, uint64_t *wrong) {
    if (sch_suspend() != 0) bench_die("sch_suspend failed");
    if (atomic_load_explicit(&p->turn, memory_order_acquire) != mine) *wrong += 1;
}

/* Reads nothing of the pair after its last wake: the pair may be in use again by then. */
static void answer(void *arg) {
    pair *p = arg;
    sch_task *a = NULL;
    uint64_t want = p->want;
    bool held = p->held;
    for (uint64_t i = 0; i < want; i++) {
        wait_turn(p, 1, &p->wrong);
        a = p->a; /* known once it woke us */
        atomic_store_explicit(&p->turn, 0, memory_order_release);
        sch_wake(a);
    }
    if (held) sch_release(a);
}

static void ask(pair *p) {
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < p->want; i++) {
        atomic_store_explicit(&p->turn, 1, memory_order_release);
        sch_wake(p->b);
        wait_turn(p, 0, &wrong);
    }
    p->a_done = p->want - wrong;
}

static void ask_new_partner(void *arg) {
    pair *p = arg;
    p->a = sch_retain(sch_self()); /* for the partner: it may be in sch_wake when we have ended */
    p->b = sch_spawn(NULL, answer, p);
    if (p->b == NULL) bench_die("sch_spawn failed");
    ask(p);
    sch_release(p->b);
    if (atomic_fetch_sub_explicit(&p->s->left, 1u, memory_order_acq_rel) == 1u) {
        sch_wake(p->s->root);
    }
}

static void ask_partner(void *arg) {
    pair *p = arg;
    p->a = sch_self();
    ask(p);
}

/* The same as poll tasks: a poll before one's turn waits on. */

typedef struct asking {
    pair *p;
    uint64_t asked;
} asking;

static sch_status answer_poll(sch_task *self, void *st) {
    asking *k = st;
    pair *p = k->p;
    sch_task *a = NULL;
    bool held = p->held;
    (void)self;
    if (atomic_load_explicit(&p->turn, memory_order_acquire) != 1) return SCH_PENDING;
    bool last = ++k->asked == p->want;
    a = p->a;
    atomic_store_explicit(&p->turn, 0, memory_order_release);
    sch_wake(a); /* the pair may be in use again from here on */
    if (!last) return SCH_PENDING;
    if (held) sch_release(a);
    return SCH_READY;
}

/* true: there was an answer to the last question, too. */
static bool ask_next(asking *k) {
    pair *p = k->p;
    if (k->asked > 0) {
        if (atomic_load_explicit(&p->turn, memory_order_acquire) != 0) return false;
        p->a_done++;
    }
    if (k->asked++ == p->want) return true;
    atomic_store_explicit(&p->turn, 1, memory_order_release);
    sch_wake(p->b);
    return false;
}

static sch_status ask_new_partner_poll(sch_task *self, void *st) {
    asking *k = st;
    pair *p = k->p;
    if (k->asked == 0) {
        asking partner = {p, 0};
        p->a = sch_retain(self);
        p->b = sch_spawn_poll(NULL, answer_poll, &partner, sizeof partner);
        if (p->b == NULL) bench_die("sch_spawn_poll failed");
    }
    if (!ask_next(k)) return SCH_PENDING;
    sch_release(p->b);
    if (atomic_fetch_sub_explicit(&p->s->left, 1u, memory_order_acq_rel) == 1u) {
        sch_wake(p->s->root);
    }
    return SCH_READY;
}

static sch_status ask_partner_poll(sch_task *self, void *st) {
    asking *k = st;
    if (k->asked == 0) k->p->a = self;
    return ask_next(k) ? SCH_READY : SCH_PENDING;
}

static sch_task *spawn(state *s, sch_fn fn, sch_poll_fn poll, pair *p) {
    asking k = {p, 0};
    sch_task *task =
        s->poll ? sch_spawn_poll(NULL, poll, &k, sizeof k) : sch_spawn(NULL, fn, p);
    if (task == NULL) bench_die("sch_spawn failed");
    return task;
}

static uint64_t round_pair(state *s) {
    uint64_t done = 0;
    for (uint64_t begun = 0; begun < s->b->ops;) {
        unsigned n = s->b->ops - begun < BATCH ? (unsigned)(s->b->ops - begun) : BATCH;
        atomic_store_explicit(&s->left, n, memory_order_relaxed);
        for (unsigned i = 0; i < n; i++) {
            pair *p = &s->pairs[i];
            p->s = s;
            p->want = 1;
            p->held = true;
            p->a_done = 0;
            p->wrong = 0;
            if (s->poll) {
                asking k = {p, 0};
                sch_detach(sch_spawn_poll(NULL, ask_new_partner_poll, &k, sizeof k));
            } else if (sch_go(NULL, ask_new_partner, p) != 0) {
                bench_die("sch_go failed");
            }
        }
        if (sch_suspend() != 0) bench_die("sch_suspend failed");
        for (unsigned i = 0; i < n; i++) done += s->pairs[i].a_done - s->pairs[i].wrong;
        begun += n;
    }
    return done;
}

static uint64_t round_roundtrip(state *s) {
    uint64_t done = 0;
    for (unsigned i = 0; i < PAIRS; i++) {
        pair *p = &s->pairs[i];
        p->want = s->b->ops / PAIRS + (i < s->b->ops % PAIRS);
        p->held = false;
        p->a_done = 0;
        p->wrong = 0;
        p->b = spawn(s, answer, answer_poll, p);
    }
    static sch_task *tasks[PAIRS]; /* p->a is the task's own to write */
    for (unsigned i = 0; i < PAIRS; i++) {
        tasks[i] = spawn(s, ask_partner, ask_partner_poll, &s->pairs[i]);
    }
    for (unsigned i = 0; i < PAIRS; i++) {
        /* b first: while it may still be inside sch_wake(a), a's handle must be held. */
        if (sch_join(s->pairs[i].b) != 0) bench_die("sch_join failed");
        if (sch_join(tasks[i]) != 0) bench_die("sch_join failed");
        done += s->pairs[i].a_done - s->pairs[i].wrong;
    }
    return done;
}

static void root(void *arg) {
    state *s = arg;
    s->root = sch_self();
    s->poll = strstr(s->b->variant, "poll") != NULL;
    while (bench_round(s->b)) {
        bool pairs = strncmp(s->b->variant, "pair", 4) == 0;
        bench_done(s->b, pairs ? round_pair(s) : round_roundtrip(s));
    }
}

int main(int argc, char **argv) {
    static bench b;
    static state s;
    bench_init(&b, argc, argv, "ping_pong", "sched.h", 100000,
               "pair roundtrip pair_poll roundtrip_poll");
    s.b = &b;
    bench_in_task(bench_runtime(&b), root, &s);
    return bench_report(&b);
}
