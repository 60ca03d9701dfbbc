/* turn.c - [11.2] [11.4]: which task is next, and when a task that yields goes on at once. */
#include "support.h"
#include "waits.h"

/* The order in which tasks have their turns: a letter each, in lower case when they come back. */
typedef struct turn turn;

typedef struct turn_task {
    turn *t;
    char name;
    unsigned chain; /* so many more: each spawns the next and waits */
} turn_task;

struct turn {
    checked_memory memory;
    sch_config config;
    sch_fn parent;
    bool keep; /* with two workers: the ring is kept */
    support_gate began, gate; /* of what keeps the second worker busy: there are no thieves */
    char log[32];
    unsigned num;
    sch_task *root, *waiting;
    sch_op op; /* that root awaits */
    turn_task tasks[8];
};

static void turn_say(turn *t, char name) {
    schi_core *core = schi_self()->core;
    if (!core->alone) schi_runq_keep(&core->q, t->keep); /* home may have thought otherwise */
    if (EXPECT(t->num + 1 < sizeof t->log)) t->log[t->num++] = name;
}

static void turn_plain(void *arg) {
    turn_task *me = (turn_task *)arg;
    turn_say(me->t, me->name);
}

static turn_task *turn_task_of(turn *t, unsigned i, char name, unsigned chain) {
    t->tasks[i].t = t, t->tasks[i].name = name, t->tasks[i].chain = chain;
    return &t->tasks[i];
}

static sch_task *turn_spawn(turn *t, unsigned i, char name, sch_fn fn) {
    return sch_spawn(NULL, fn, turn_task_of(t, i, name, 0));
}

/* Parents: P spawns C, and... */
static turn *turn_begin(void *arg) {
    turn *t = (turn *)arg;
    turn_say(t, 'P');
    sch_detach(turn_spawn(t, 0, 'C', turn_plain));
    return t;
}

/* Until root wakes it. */
static void turn_wait(turn *t) {
    t->waiting = sch_self();
    EXPECT_EQ(sch_suspend(), 0);
    turn_say(t, 'p');
}

static void turn_suspends(void *arg) { turn_wait(turn_begin(arg)); }

static void turn_joins(void *arg) {
    turn *t = (turn *)arg;
    turn_say(t, 'P');
    EXPECT_EQ(sch_join(turn_spawn(t, 0, 'C', turn_plain)), 0);
    turn_say(t, 'p');
}

static void turn_yields(void *arg) {
    turn *t = turn_begin(arg);
    EXPECT_EQ(sch_yield_now(), 0);
    turn_say(t, 'p');
}

static void turn_has_two(void *arg) {
    turn *t = turn_begin(arg);
    sch_detach(turn_spawn(t, 1, 'D', turn_plain));
    turn_wait(t);
}

/* Whom it wakes has waited for longer than its child. */
static void turn_wakes_root(void *arg) {
    turn *t = turn_begin(arg);
    sch_wake(t->root);
    turn_wait(t);
}

/* Who waited for an operation comes to the back of the queue, behind the child. */
static void turn_completes(void *arg) {
    turn *t = turn_begin(arg);
    sch_op_complete(&t->op, 0);
    turn_wait(t);
}

/* P spawns Q, which leaves a child behind and ends; who waits then has none. */
static void turn_leaves_child(void *arg) {
    turn_task *me = (turn_task *)arg;
    turn_say(me->t, me->name);
    sch_detach(turn_spawn(me->t, 0, 'C', turn_plain));
}

static void turn_waits(void *arg) {
    turn *t = (turn *)arg;
    t->waiting = sch_self();
    EXPECT_EQ(sch_suspend(), 0);
    turn_say(t, 'w');
}

static void turn_has_orphan(void *arg) {
    turn *t = (turn *)arg;
    turn_say(t, 'P');
    sch_detach(turn_spawn(t, 1, 'Q', turn_leaves_child));
    sch_detach(sch_spawn(NULL, turn_waits, t));
    sch_detach(turn_spawn(t, 2, 'R', turn_plain));
    EXPECT_EQ(sch_yield_now(), 0);
    turn_say(t, 'p');
}

/* P spawns 1, which spawns 2, ...; each waits for its child's end. */
static void turn_chain(void *arg) {
    turn_task *me = (turn_task *)arg;
    turn_say(me->t, me->name);
    if (me->chain == 0) return;
    unsigned i = me->chain - 1;
    turn_task *child = turn_task_of(me->t, i, (char)('9' - i), i);
    EXPECT_EQ(sch_join(sch_spawn(NULL, turn_chain, child)), 0);
}

static void turn_chain_of_five(void *arg) {
    turn *t = (turn *)arg;
    turn_chain(turn_task_of(t, 5, 'P', 5));
}

/* Queued at once: P, F, G. */
static void turn_root(void *arg) {
    turn *t = (turn *)arg;
    turn_task f = {t, 'F', 0}, g = {t, 'G', 0};
    sch_task *parent, *others[2];
    t->root = sch_self();
    parent = sch_spawn(NULL, t->parent, t);
    others[0] = sch_spawn(NULL, turn_plain, &f);
    others[1] = sch_spawn(NULL, turn_plain, &g);
    if (t->parent == turn_wakes_root) {
        EXPECT_EQ(sch_suspend(), 0);
        turn_say(t, 'r');
    }
    if (t->parent == turn_completes) {
        t->op.type = &waits_op_type;
        EXPECT_EQ(sch_await(&t->op), 0);
        turn_say(t, 'r');
    }
    for (int i = 0; i < 2; i++) EXPECT_EQ(sch_join(others[i]), 0);
    while (t->num > 0 && !memchr(t->log, 'C', t->num) && !memchr(t->log, '9', t->num)) {
        EXPECT_EQ(sch_yield_now(), 0);
    }
    if (t->waiting) sch_wake(t->waiting);
    EXPECT_EQ(sch_join(parent), 0);
}

static void turn_hold(void *arg) {
    turn *t = (turn *)arg;
    support_gate_open(&t->began);
    support_gate_wait(&t->gate);
}

static void turn_try(turn *t, unsigned workers, sch_fn parent, bool keep, bool no_lifo) {
    const support_gate gate = SUPPORT_GATE;
    memset(t, 0, sizeof *t);
    t->began = t->gate = gate;
    t->config = support_config(&t->memory, workers);
    t->config.event_interval = t->config.global_queue_interval = 60000;
    t->config.no_standby = true;
    t->config.no_lifo = no_lifo;
    t->parent = parent;
    t->keep = keep;
    sch_runtime *rt = support_begin(&t->config);
    if (workers == 2) {
        EXPECT_EQ(sch_go(rt, turn_hold, t), 0);
        support_gate_wait(&t->began);
    }
    support_run(rt, turn_root, t);
    support_gate_open(&t->gate);
    support_end(rt, &t->memory);
}

static void turn_expect_order(const turn *t, const char *order) {
    if (!EXPECT(strcmp(t->log, order) == 0)) printf("%s instead of %s\n", t->log, order);
}

/* With two cores the ring must be kept. */
static void turn_expect(sch_fn parent, const char *order) {
    turn t;
    for (unsigned workers = 0; workers <= 2; workers++) {
        turn_try(&t, workers, parent, true, false);
        turn_expect_order(&t, order);
    }
}

TEST(turn_only_child_is_next) {
    turn_expect(turn_suspends, "PCFGp");
    turn_expect(turn_joins, "PCFGp");
}

TEST(turn_of_others_before_a_child) {
    turn t;
    turn_expect(turn_yields, "PFGCp");
    turn_expect(turn_has_two, "PFGCDp");
    turn_expect(turn_wakes_root, "PrFGCp");
    turn_expect(turn_completes, "PFGCrp");
    turn_expect(turn_has_orphan, "PFGQRpCw");
    turn_try(&t, 1, turn_suspends, false, true); /* no_lifo */
    turn_expect_order(&t, "PFGCp");
    turn_try(&t, 2, turn_suspends, false, false); /* a thief may come at any time */
    turn_expect_order(&t, "PFGCp");
}

TEST(turn_chain_of_children_starves_nobody) {
    if (SCH_LIFO_CAP != 3) SKIP("counted for SCH_LIFO_CAP 3");
    turn_expect(turn_chain_of_five, "P567FG89");
}

/* A child that is taken from the end of the ring is not there when the standby looks again. */
typedef struct turn_look {
    schi_look look;
    unsigned late;
} turn_look;

static void turn_looks(void *arg) {
    turn_look *l = (turn_look *)arg;
    l->late = schi_look_at_core(schi_self()->core, &l->look);
}

static void turn_looks_and_joins(void *arg) {
    turn_look *l = (turn_look *)arg;
    sch_task *child = sch_spawn(NULL, turn_looks, l);
    turn_looks(l);
    l->late = 99;
    EXPECT_EQ(sch_join(child), 0);
    EXPECT_EQ(l->late, 0);
    EXPECT_EQ(sch_go(NULL, turn_looks, l), 0);
    turn_looks(l);
    turn_looks(l);
    EXPECT_EQ(l->late, 1); /* that one does not run yet */
}

TEST(turn_child_is_not_late) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    turn_look l;
    memset(&l, 0, sizeof l);
    config.event_interval = config.global_queue_interval = 60000;
    config.no_standby = true;
    sch_runtime *rt = support_begin(&config);
    support_run(rt, turn_looks_and_joins, &l);
    support_end(rt, &memory);
}

/* Alone -----------------------------------------------------------------------------------------*/

typedef struct turn_alone {
    sch_runtime *rt;
    unsigned stop;         /* atomic */
    uint64_t mean_ns, sample_ns; /* what the core takes a poll to last */
    unsigned visits;       /* to home */
    sch_metrics_snapshot before, after;
} turn_alone;

/* A visit to home begins a batch of polls. */
static void turn_yield_counted(void *arg) {
    turn_alone *a = (turn_alone *)arg;
    schi_core *core = schi_self()->core;
    uint64_t batch = core->batch_start_polls;
    a->before = support_metrics(a->rt);
    for (int i = 0; i < 140; i++) {
        core->mean_poll_ns = a->mean_ns;
        core->last_sample_ns = a->sample_ns;
        EXPECT_EQ(sch_yield_now(), 0);
        a->visits += core->batch_start_polls != batch;
        batch = core->batch_start_polls;
    }
    a->after = support_metrics(a->rt);
}

/* What is alone goes on at once, but for each 7th time, or if polls are long. It counts all the
 * same. */
TEST(turn_yield_when_alone) {
    static const uint64_t lengths[] = {1, SCH_MICROSECOND - 1, SCH_MICROSECOND, SCH_SECOND};
    for (size_t i = 0; i < 4 * 4 * 2; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, (unsigned)(i % 2));
        turn_alone a;
        memset(&a, 0, sizeof a);
        a.mean_ns = lengths[i / 2 % 4], a.sample_ns = lengths[i / 8];
        config.event_interval = config.global_queue_interval = 60000;
        config.no_standby = true;
        a.rt = support_begin(&config);
        support_run(a.rt, turn_yield_counted, &a);
        EXPECT_EQ(a.visits, i / 2 % 4 < 2 && i / 8 < 2 ? 20 : 140);
        EXPECT_EQ(a.after.total.poll_count - a.before.total.poll_count, 140);
        EXPECT_EQ(a.after.total.wait_count[SCH_WAIT_YIELD] -
                      a.before.total.wait_count[SCH_WAIT_YIELD],
                  140);
        support_end(a.rt, &memory);
    }
}

/* Whatever comes next is a tick: there is maintenance once in event_interval polls. */
static void turn_spawn_and_join(void *arg) {
    turn_alone *a = (turn_alone *)arg;
    unsigned ran = 0;
    a->before = support_metrics(a->rt);
    for (int i = 0; i < 200; i++) {
        EXPECT_EQ(sch_join(sch_spawn(NULL, support_count, &ran)), 0);
    }
    a->after = support_metrics(a->rt);
}

TEST(turn_children_are_ticks) {
    for (unsigned interval = 1; interval <= 64; interval += interval < 8 ? 1 : 8) {
        checked_memory memory;
        sch_config config = support_config(&memory, 1);
        turn_alone a;
        uint64_t polls, ticks;
        memset(&a, 0, sizeof a);
        config.event_interval = interval;
        config.no_standby = true;
        a.rt = support_begin(&config);
        support_run(a.rt, turn_spawn_and_join, &a);
        polls = a.after.total.poll_count - a.before.total.poll_count;
        ticks = interval * (a.after.total.maintenance_count - a.before.total.maintenance_count);
        EXPECT(polls < ticks + interval + 1 && ticks < polls + interval + 1);
        EXPECT(interval < 8 ||
               a.after.total.child_poll_count - a.before.total.child_poll_count > 50);
        support_end(a.rt, &memory);
    }
}

static void turn_yield_on(void *arg) {
    turn_alone *a = (turn_alone *)arg;
    while (!support_get(&a->stop) && !sch_cancelled()) EXPECT_EQ(sch_yield_now(), 0);
}

static void turn_stop(void *arg) { support_set(&((turn_alone *)arg)->stop, 1); }

static void turn_stop_soon(void *arg) {
    EXPECT_EQ(sch_sleep(SCH_MILLISECOND), 0);
    turn_stop(arg);
}

/* Who yields alone again and again keeps off neither timers, nor tasks from outside, nor the end of
 * a visit, nor a shutdown. */
TEST(turn_yields_keep_nobody_off) {
    for (unsigned workers = 0; workers < 2; workers++) {
        for (int how = 0; how < 4; how++) {
            checked_memory memory;
            sch_config config = support_config(&memory, workers);
            turn_alone a;
            sch_task *yields;
            unsigned ran = 0;
            memset(&a, 0, sizeof a);
            config.no_standby = true;
            a.rt = support_begin(&config);
            yields = sch_spawn(a.rt, turn_yield_on, &a);
            switch (how) {
            case 0: EXPECT_EQ(sch_go(a.rt, turn_stop_soon, &a), 0); break;
            case 1: support_run(a.rt, turn_stop, &a); break;
            default:
                support_run(a.rt, support_count, &ran); /* the other one goes on */
                if (how == 2) support_set(&a.stop, 1);
                if (how == 3) EXPECT_EQ(sch_runtime_shutdown(a.rt, SCH_FOREVER), 0);
            }
            EXPECT_EQ(sch_join(yields), 0);
            support_end(a.rt, &memory);
        }
    }
}
