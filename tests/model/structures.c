/* structures.c - clients of the parker, the event, the run queue with its LIFO slot, the injector,
 * the idle set, the core slot and the standby: [4] [5.1]-[5.4] [11.1] [11.2] [11.4] [11.5]. */
#include "crew.h"

/* Parker, event ---------------------------------------------------------------------------------*/

#define SLEEP_WAKERS 2
typedef struct sleep_case {
    schi_parker parker;
    schi_alarm alarm;
    schi_event event;
    SCHI_ATOMIC(uint32_t) work[SLEEP_WAKERS]; /* relaxed: the wake orders it */
    SCHI_CELL(unsigned) result;               /* the same, and checked for races */
    uint64_t deadline;
} sleep_case;

static sleep_case *sleep_new(void) {
    sleep_case *s = (sleep_case *)model_new(sizeof *s);
    MODEL_EXPECT(schi_parker_init(&s->parker) == 0);
    MODEL_EXPECT(schi_event_init(&s->event) == 0);
    MODEL_EXPECT(schi_alarm_init(&s->alarm) == 0);
    return s;
}

static void sleep_free(sleep_case *s) {
    schi_alarm_drop(&s->alarm);
    schi_event_drop(&s->event);
    schi_parker_drop(&s->parker);
}

static bool sleep_has_all(sleep_case *s) {
    bool all = true;
    for (int i = 0; i < SLEEP_WAKERS; i++) all = schi_load_rlx(&s->work[i]) != 0 && all;
    return all;
}

/* Several wakes may be one, but what was done before each is seen after it. */
static void park_until_all(void *shared, unsigned me) {
    sleep_case *s = (sleep_case *)shared;
    if (me > 0) {
        schi_store_rlx(&s->work[me - 1], 1u);
        schi_unpark(&s->parker, NULL);
        return;
    }
    while (!sleep_has_all(s)) (void)schi_park(&s->parker, UINT64_MAX);
}

MODEL(parker_two_wakers, .bound = 3, .stale = 3, .spurious = 1) {
    sleep_case *s = sleep_new();
    crew_run(1 + SLEEP_WAKERS, park_until_all, s);
    sleep_free(s);
}

/* A wake that just misses the deadline is kept; there is one, so it is taken once. */
static void park_with_deadline(void *shared, unsigned me) {
    sleep_case *s = (sleep_case *)shared;
    if (me > 0) {
        schi_wr(&s->result, 42u);
        schi_unpark(&s->parker, NULL);
        return;
    }
    if (schi_park(&s->parker, s->deadline)) {
        model_outcome(0);
    } else {
        MODEL_EXPECT(schi_now_ns() >= s->deadline);
        model_outcome(1);
        while (!schi_park(&s->parker, UINT64_MAX)) continue;
    }
    MODEL_EXPECT(schi_rd(&s->result) == 42);
    MODEL_EXPECT(!schi_park(&s->parker, schi_now_ns()));
}

MODEL(parker_deadline, .bound = 4, .stale = 3, .spurious = 1, .outcomes = 3) {
    sleep_case *s = sleep_new();
    s->deadline = schi_now_ns() + model_choose(2) * 1000; /* over already, or not */
    crew_run(2, park_with_deadline, s);
    sleep_free(s);
}

/* The alarm rings for another reason, too. */
static void park_in_alarm(void *shared, unsigned me) {
    sleep_case *s = (sleep_case *)shared;
    if (me == 1) {
        schi_wr(&s->result, 42u);
        schi_unpark(&s->parker, &s->alarm);
    } else if (me == 2) {
        schi_alarm_set(&s->alarm, 1000);
    } else {
        while (!schi_park_alarm(&s->parker, &s->alarm, UINT64_MAX)) continue;
        MODEL_EXPECT(schi_rd(&s->result) == 42);
        MODEL_EXPECT(!schi_park(&s->parker, schi_now_ns()));
    }
}

MODEL(parker_alarm, .bound = 3, .stale = 3, .spurious = 1) {
    sleep_case *s = sleep_new();
    crew_run(3, park_in_alarm, s);
    sleep_free(s);
}

/* The lock on a word, as with futexes: two or three take it again and again. */
typedef struct word_lock {
    schi_word word;
    schi_waitplace place;
    SCHI_CELL(unsigned) sum;
} word_lock;

static word_lock *word_lock_new(void) {
    word_lock *l = model_new(sizeof *l);
    schi_store_rlx(&l->word, 0u);
    MODEL_EXPECT(schi_waitplace_init(&l->place) == 0);
    return l;
}

static void word_lock_work(void *shared, unsigned me) {
    word_lock *l = (word_lock *)shared;
    for (unsigned i = 0; i < (me < 2 ? 2u : 1u); i++) {
        schi_word_lock(&l->word, &l->place);
        schi_wr(&l->sum, schi_rd(&l->sum) + 1);
        schi_word_unlock(&l->word, &l->place);
    }
}

static void word_lock_run(unsigned threads, unsigned sum) {
    word_lock *l = word_lock_new();
    crew_run(threads, word_lock_work, l);
    MODEL_EXPECT(schi_rd(&l->sum) == sum && schi_load_rlx(&l->word) == 0);
    schi_waitplace_drop(&l->place);
}

MODEL(word_lock_two, .bound = 4, .stale = 3, .spurious = 1) { word_lock_run(2, 4); }
MODEL(word_lock_three, .bound = 3, .stale = 2) { word_lock_run(3, 5); }

/* The owner frees the parker as soon as it has been woken (schi_join_as_thread does). */
static void park_and_free(void *shared, unsigned me) {
    schi_parker *p = (schi_parker *)shared;
    if (me > 0) {
        schi_unpark(p, NULL);
        return;
    }
    while (!schi_park(p, UINT64_MAX)) continue;
    schi_parker_drop(p);
    schi_libc_free(p, sizeof *p, SCH_CACHELINE, NULL);
}

MODEL(parker_free, .bound = 4, .stale = 3, .spurious = 1) {
    schi_parker *p = (schi_parker *)schi_libc_alloc(sizeof *p, SCH_CACHELINE, NULL);
    MODEL_EXPECT(p && schi_parker_init(p) == 0);
    crew_run(2, park_and_free, p);
}

static void event_work(void *shared, unsigned me) {
    sleep_case *s = (sleep_case *)shared;
    if (me == 0) {
        schi_wr(&s->result, 42u);
        schi_event_set(&s->event);
        return;
    }
    if (me == 2 && !schi_event_wait(&s->event, s->deadline)) {
        MODEL_EXPECT(schi_now_ns() >= s->deadline);
        MODEL_EXPECT(schi_event_wait(&s->event, UINT64_MAX));
    }
    if (me == 1) MODEL_EXPECT(schi_event_wait(&s->event, UINT64_MAX));
    MODEL_EXPECT(schi_rd(&s->result) == 42);
    MODEL_EXPECT(schi_event_is_set(&s->event));
}

MODEL(event_two_waiters, .bound = 3, .stale = 3, .spurious = 1) {
    sleep_case *s = sleep_new();
    s->deadline = schi_now_ns() + 1000;
    crew_run(3, event_work, s);
    MODEL_EXPECT(schi_event_wait(&s->event, 0));
    sleep_free(s);
}

/* Run queue -------------------------------------------------------------------------------------*/

#define RING_THIEVES 3
typedef struct ring_case {
    schi_runq q[1 + RING_THIEVES]; /* 0: the owner's */
    parcels all;
    const char *script; /* of the owner. +: push the next, -: pop */
    unsigned steals;    /* of each thief */
    unsigned sent;      /* owner */
} ring_case;

/* Indices that begin at 0, and such that wrap on the way. */
static ring_case *ring_new(const char *script, unsigned steals) {
    ring_case *r = (ring_case *)model_new(sizeof *r);
    SCHI_INDEX start = model_choose(2) ? (SCHI_INDEX)(0 - 2) : 0;
    for (unsigned i = 0; i <= RING_THIEVES; i++) schi_runq_init(&r->q[i], start);
    r->script = script, r->steals = steals;
    return r;
}

static void ring_drain(schi_runq *q, unsigned *next) {
    for (schi_node *node; (node = schi_runq_pop(q)) != NULL;) parcel_take_in_order(node, next);
}

static void ring_own(ring_case *r) {
    schi_node *node;
    unsigned next = 0;
    for (const char *op = r->script; *op; op++) {
        if (*op == '-') {
            node = schi_runq_pop(&r->q[0]);
            if (node) parcel_take_in_order(node, &next);
            continue;
        }
        node = parcel_send(&r->all, r->sent++);
        if (schi_runq_push(&r->q[0], node) == 0) (void)parcel_take(node); /* full */
    }
}

static void ring_steal(ring_case *r, unsigned from, unsigned me, unsigned *next) {
    SCHI_INDEX count = 0, half = SCH_RUNQ_CAP / 2;
    schi_node *node = schi_runq_steal(&r->q[from], &r->q[me], &count);
    if (count > 1) schi_runq_extend(&r->q[me], (SCHI_INDEX)(count - 1));
    MODEL_EXPECT((node != NULL) == (count > 0) && count <= half);
    if (node) parcel_take_in_order(node, next);
}

static void ring_work(void *shared, unsigned me) {
    ring_case *r = (ring_case *)shared;
    unsigned next = 0;
    if (me == 0) {
        ring_own(r);
        return;
    }
    for (unsigned i = 0; i < r->steals; i++) {
        ring_steal(r, 0, me, &next);
        ring_drain(&r->q[me], &next);
    }
}

static void ring_end(ring_case *r) {
    for (unsigned i = 0; i <= RING_THIEVES; i++) {
        unsigned next = 0;
        SCHI_HEAD head;
        ring_drain(&r->q[i], &next);
        schi_runq_check(&r->q[i]);
        head = schi_load_seq(&r->q[i].head);
        MODEL_EXPECT(schi_runq_steal_of(head) == schi_runq_real_of(head)); /* I2 */
        MODEL_EXPECT(schi_runq_len(&r->q[i]) == 0);
    }
    parcels_end(&r->all, r->sent);
}

static void ring_run(unsigned thieves, unsigned steals, const char *script) {
    ring_case *r = ring_new(script, steals);
    crew_run(1 + thieves, ring_work, r);
    ring_end(r);
}

MODEL(ring_one_thief, .bound = 3, .spurious = 1) { ring_run(1, 2, "++-+-"); }
/* Full while a thief reads: the owner must not write what is being read. */
MODEL(ring_full, .bound = 3, .spurious = 1) { ring_run(1, 2, "+++++-+"); }
MODEL(ring_two_thieves, .bound = 3) { ring_run(2, 2, "+++-+-"); }
MODEL(ring_three_thieves, .bound = 2) { ring_run(3, 1, "+++-+-"); }

/* A thief of a ring that is being filled by a steal: the slots that the second thief has claimed
 * and not read yet count as occupied. */
static void ring_chain(void *shared, unsigned me) {
    ring_case *r = (ring_case *)shared;
    unsigned next = 0;
    if (me == 0) {
        ring_own(r);
    } else if (me == 1) {
        ring_steal(r, 0, 1, &next);
        next = 0;
        ring_drain(&r->q[1], &next);
    } else {
        ring_steal(r, 1, 2, &next);
        ring_drain(&r->q[2], &next);
    }
}

MODEL(ring_chain, .bound = 3, .spurious = 1) {
    ring_case *r = ring_new("-+", 0);
    unsigned last = SCH_RUNQ_CAP + 3;
    for (unsigned i = 0; i < last; i++) { /* the first ones to the ring that is full then */
        (void)schi_runq_push(&r->q[i < SCH_RUNQ_CAP], parcel_send(&r->all, i));
    }
    r->sent = last;
    crew_run(3, ring_chain, r);
    ring_end(r);
}

/* A ring that always holds something never looks empty. */
static void ring_watch(void *shared, unsigned me) {
    ring_case *r = (ring_case *)shared;
    if (me == 0) {
        ring_own(r);
        return;
    }
    for (int i = 0; i < 3; i++) {
        SCHI_INDEX len = schi_runq_len(&r->q[0]);
        MODEL_EXPECT(len >= 1 && len <= 3);
    }
}

MODEL(ring_len, .bound = 3, .stale = 4) {
    ring_case *r = ring_new("+-+-", 0);
    (void)schi_runq_push(&r->q[0], parcel_send(&r->all, r->sent++));
    crew_run(2, ring_watch, r);
    ring_end(r);
}

/* A ring that its owner keeps to himself, for a while (k) or no more (s): he takes from it (-) and
 * from the slot (l fills it, t takes) by plain stores, until a thief has revoked that. */
static void kept_own(ring_case *r) {
    schi_runq *q = &r->q[0];
    schi_node *node;
    unsigned next = 0;
    for (const char *op = r->script; *op; op++) {
        switch (*op) {
        case 'k':
        case 's': schi_runq_keep(q, *op == 'k'); break;
        case 't':
            node = schi_lifo_take_own(q);
            if (node) (void)parcel_take(node);
            break;
        case '-':
            node = schi_runq_take(q);
            if (node) parcel_take_in_order(node, &next);
            break;
        default:
            node = parcel_send(&r->all, r->sent++);
            if (*op == 'l') {
                node = schi_lifo_put(q, node);
                if (node) (void)parcel_take(node);
            } else {
                MODEL_EXPECT(schi_runq_push(q, node) > 0);
            }
        }
    }
}

static void kept_work(void *shared, unsigned me) {
    ring_case *r = (ring_case *)shared;
    unsigned next = 0;
    if (me == 0) {
        kept_own(r);
        return;
    }
    for (unsigned i = 0; i < r->steals; i++) {
        schi_node *node;
        if (schi_runq_visit(&r->q[0]) != 0) continue;
        ring_steal(r, 0, me, &next);
        node = schi_lifo_take(&r->q[0]);
        if (node) (void)parcel_take(node);
        schi_runq_part(&r->q[0]);
        ring_drain(&r->q[me], &next);
    }
}

static void kept_run(unsigned thieves, unsigned steals, const char *script) {
    ring_case *r = ring_new(script, steals);
    crew_run(1 + thieves, kept_work, r);
    MODEL_EXPECT(schi_load_seq(&r->q[0].visitors) == 0 && schi_load_seq(&r->q[0].bias.inside) == 0);
    ring_end(r);
}

MODEL(kept_ring, .bound = 3, .spurious = 1) { kept_run(1, 1, "k++--"); }
MODEL(kept_again, .bound = 3) { kept_run(1, 2, "k+k-+-"); }
MODEL(kept_no_more, .bound = 3) { kept_run(1, 1, "k+-s+-"); }
/* The thief has begun before the owner keeps the ring. */
MODEL(kept_while_stolen, .bound = 3, .stale = 4) { kept_run(1, 1, "++k--"); }
MODEL(kept_two_thieves, .bound = 2) { kept_run(2, 1, "k++--"); }
MODEL(kept_slot, .bound = 3) { kept_run(1, 1, "klt+lt"); }
MODEL(kept_no_barrier, .bound = 3) {
    model_barrier_mood = MODEL_BARRIER_MAY_FAIL;
    kept_run(1, 2, "k++--");
    model_barrier_mood = MODEL_BARRIER_WORKS;
}
/* One steals, the owner begins to keep the ring, the other one's barrier fails. */
MODEL(kept_no_barrier_beside_thief, .bound = 2) {
    model_barrier_mood = MODEL_BARRIER_MAY_FAIL;
    kept_run(2, 1, "++k--");
    model_barrier_mood = MODEL_BARRIER_WORKS;
}

/* Biased locks: thread 0 owns the first, the one behind it the second; who has a lock is alone with
 * its cell. Script of each: l takes the lock of its own, x the other one; an owner may share it (s)
 * and hand its role over (h), which the next thread waits for (w). */
typedef struct biased_case {
    schi_biased_lock lock[2];
    SCHI_CELL(unsigned) times[2]; /* under lock */
    SCHI_ATOMIC(uint32_t) handed;
    const char *script[3]; /* fixed */
    int own[3];            /* fixed: -1: none */
    unsigned num_plain; /* of one owner */
} biased_case;

static void biased_take(biased_case *c, unsigned me, int which) {
    schi_biased_lock *own = c->own[me] < 0 ? NULL : &c->lock[c->own[me]];
    bool plain = schi_biased_lock_by(&c->lock[which], own);
    schi_wr(&c->times[which], schi_rd(&c->times[which]) + 1);
    if (plain) c->num_plain++;
    schi_biased_unlock(&c->lock[which], plain);
}

static void biased_work(void *shared, unsigned me) {
    biased_case *c = (biased_case *)shared;
    int own = c->own[me];
    for (const char *op = c->script[me]; *op; op++) {
        switch (*op) {
        case 'l': biased_take(c, me, own); break;
        case 'x': biased_take(c, me, own == 0); break;
        case 's': schi_biased_share(&c->lock[own]); break;
        case 'h':
            schi_store_rel(&c->handed, 1u);
            own = -1;
            break;
        default:
            while (!schi_load_acq(&c->handed)) schi_cpu_relax();
        }
    }
    if (own >= 0) schi_biased_share(&c->lock[own]); /* B5 */
}

/* scripts: of each thread, its lock in front (- : none). */
static void biased_run(unsigned threads, const char *first, const char *second,
                       const char *third) {
    const char *scripts[3] = {first, second, third};
    biased_case *c = (biased_case *)model_new(sizeof *c);
    unsigned total = 0;
    for (unsigned i = 0; i < threads; i++) {
        c->own[i] = scripts[i][0] == '-' ? -1 : scripts[i][0] - '0';
        c->script[i] = scripts[i] + 1;
        for (const char *op = c->script[i]; *op; op++) total += *op == 'l' || *op == 'x';
    }
    for (int i = 0; i < 2; i++) {
        schi_biased_init(&c->lock[i]);
        schi_biased_may_keep(&c->lock[i]);
    }
    crew_run(threads, biased_work, c);
    MODEL_EXPECT(schi_rd(&c->times[0]) + schi_rd(&c->times[1]) == total);
    model_outcome(c->num_plain);
    for (int i = 0; i < 2; i++) {
        MODEL_EXPECT(schi_load_seq(&c->lock[i].bias.inside) == 0);
        MODEL_EXPECT(schi_load_seq(&c->lock[i].bias.state) == SCHI_SHARED);
        MODEL_EXPECT(schi_load_seq(&c->lock[i].spin.taken) == 0);
    }
}

MODEL(biased_lock, .bound = 3, .spurious = 1, .outcomes = 7) {
    biased_run(2, "0llll", "-x", NULL);
}
MODEL(biased_again, .bound = 2) { biased_run(2, "0lllll", "-xx", NULL); }
MODEL(biased_two_others, .bound = 2) { biased_run(3, "0llll", "-x", "-x"); }
MODEL(biased_shared, .bound = 3) { biased_run(2, "0lllsl", "-x", NULL); }
MODEL(biased_handed_on, .bound = 2) { biased_run(3, "0lllsh", "0wll", "-x"); }
MODEL(biased_two_owners, .bound = 2) { biased_run(2, "0lllx", "1lllx", NULL); }
/* Without a barrier one waits for the owner to share it, and not with a lock in his hands. */
static void biased_refused(int mood, const char *first, const char *second) {
    model_barrier_mood = mood;
    biased_run(2, first, second, NULL);
    model_barrier_mood = MODEL_BARRIER_WORKS;
}
MODEL(biased_no_barrier, .bound = 2) { biased_refused(MODEL_BARRIER_FAILS, "0llll", "-x"); }
MODEL(biased_barrier_at_times, .bound = 2) {
    biased_refused(MODEL_BARRIER_MAY_FAIL, "0llll", "-xx");
}
MODEL(biased_two_owners_no_barrier, .bound = 2) {
    biased_refused(MODEL_BARRIER_FAILS, "0lllx", "1lllx");
}

/* The owner of a ring without thieves, and somebody who reads its length. */
static void ring_alone(void *shared, unsigned me) {
    ring_case *r = (ring_case *)shared;
    unsigned next = 0;
    if (me > 0) {
        for (int i = 0; i < 3; i++) {
            SCHI_INDEX len = schi_runq_len(&r->q[0]);
            MODEL_EXPECT(len >= 1 && len <= 3);
        }
        return;
    }
    for (int i = 0; i < 2; i++) {
        (void)schi_runq_push(&r->q[0], parcel_send(&r->all, r->sent++));
        parcel_take_in_order(schi_runq_pop_alone(&r->q[0]), &next);
    }
}

MODEL(ring_alone, .bound = 3, .stale = 4) {
    ring_case *r = ring_new("", 0);
    (void)schi_runq_push(&r->q[0], parcel_send(&r->all, r->sent++));
    crew_run(2, ring_alone, r);
    MODEL_EXPECT(parcel_take(schi_runq_pop_alone(&r->q[0])) == 2);
    MODEL_EXPECT(schi_runq_pop_alone(&r->q[0]) == NULL);
    ring_end(r);
}

/* A negative control. With indices of 8 bits a thief can sleep while 256 tasks pass, and then takes
 * what is not there any more: the reason why they have 32. */
/* Blocks its caller for a moment: who runs without end is made to let others run. */
static void ring_pause(void *shared, unsigned me) { (void)shared, (void)me; }

static void ring_come_round(void *shared, unsigned me) {
    ring_case *r = (ring_case *)shared;
    schi_node *node;
    unsigned next = 0;
    if (me == 0) {
        ring_steal(r, 0, 1, &next);
        ring_drain(&r->q[1], &next);
        return;
    }
    for (unsigned i = 0; i < 254 && (node = schi_runq_pop(&r->q[0])) != NULL; i++) {
        (void)schi_runq_push(&r->q[0], node); /* the same ones again and again */
        if (i == 127) crew_run(2, ring_pause, NULL);
    }
    while ((node = schi_runq_pop(&r->q[0])) != NULL) (void)parcel_take(node);
}

MODEL(control_ring_comes_round, .bound = 1, .random = 0, .fails = "PARCEL_SENT") {
    ring_case *r = ring_new("", 0);
    for (unsigned i = 0; i < 2; i++) (void)schi_runq_push(&r->q[0], parcel_send(&r->all, i));
    crew_run(2, ring_come_round, r);
}

/* Overflow into the injector while a thief steals and takes from the injector. ------------------*/

typedef struct core_case {
    bare *b;
    parcels all;
    unsigned sent;
    bool outside; /* fixed: where a task is put that must not starve; is there one more? */
    schi_event pushed;
} core_case;

static core_case *core_new(void) {
    core_case *c = (core_case *)model_new(sizeof *c);
    c->b = bare_new(2, 2, false);
    bare_no_wakes(c->b);
    bare_hold_cores(c->b, 2);
    MODEL_EXPECT(schi_event_init(&c->pushed) == 0);
    return c;
}

/* Everything that a core has, in the order in which it takes it. */
static void core_drain(schi_thread *th) {
    for (sch_task *task; (task = schi_next(th, th->core)) != NULL;) (void)parcel_take(&task->node);
}

static void core_end(core_case *c) {
    for (unsigned i = 0; i < c->b->num_threads; i++) core_drain(c->b->thread[i]);
    parcels_end(&c->all, c->sent);
    schi_event_drop(&c->pushed);
    bare_free(c->b);
}

static void overflow_work(void *shared, unsigned me) {
    core_case *c = (core_case *)shared;
    schi_core *core = c->b->rt->cores[me];
    schi_thread *th = c->b->thread[me];
    sch_task *task;
    if (me == 0) {
        for (unsigned i = 0; i < 6; i++) {
            schi_push_back(th, core, schi_task_of(parcel_send(&c->all, c->sent++)));
        }
        task = schi_next(th, core);
        if (task) (void)parcel_take(&task->node);
        return;
    }
    th->rescue = true; /* it takes what is not worth a wake */
    task = schi_steal(th);
    if (task) (void)parcel_take(&task->node);
    task = schi_take_injected(core, 1, 2);
    if (task) (void)parcel_take(&task->node);
    core_drain(th);
}

MODEL(ring_overflow, .bound = 3, .spurious = 1) {
    core_case *c = core_new();
    crew_run(2, overflow_work, c);
    core_end(c);
}

/* LIFO slot -------------------------------------------------------------------------------------*/

/* As schi_schedule does. */
static void lifo_put(schi_thread *th, schi_node *node) {
    schi_node *old = schi_lifo_put(&th->core->q, node);
    if (old) schi_push_back(th, th->core, schi_task_of(old));
}

static void lifo_work(void *shared, unsigned me) {
    core_case *c = (core_case *)shared;
    schi_thread *th = c->b->thread[me];
    sch_task *task;
    if (me == 0) {
        for (unsigned i = 0; i < 3; i++) lifo_put(th, parcel_send(&c->all, c->sent++));
        core_drain(th);
        return;
    }
    for (int i = 0; i < 2; i++) {
        th->rescue = true;
        task = schi_steal(th);
        if (task) (void)parcel_take(&task->node);
        core_drain(th);
    }
}

MODEL(lifo_swap, .bound = 3, .spurious = 1) {
    core_case *c = core_new();
    crew_run(2, lifo_work, c);
    core_end(c);
}

/* As the standby's searcher. */
static void core_rescue(schi_thread *th) {
    sch_task *task;
    th->rescue = true;
    task = schi_steal(th);
    if (task) (void)parcel_take(&task->node);
    core_drain(th);
}

/* The same while the owner keeps them to himself, in the ring or in the slot. */
static void kept_core_work(void *shared, unsigned me) {
    core_case *c = (core_case *)shared;
    schi_thread *th = c->b->thread[me];
    sch_task *task;
    if (me > 0) {
        core_rescue(th);
        return;
    }
    schi_runq_keep(&th->core->q, true);
    schi_push_back(th, th->core, schi_task_of(parcel_send(&c->all, c->sent++)));
    lifo_put(th, parcel_send(&c->all, c->sent++));
    while ((task = schi_next(th, th->core)) != NULL) (void)parcel_take(&task->node);
}

MODEL(kept_core, .bound = 3) {
    core_case *c = core_new();
    crew_run(2, kept_core_work, c);
    MODEL_EXPECT(schi_load_seq(&c->b->rt->cores[0]->q.visitors) == 0);
    core_end(c);
}

/* A task that waits takes the newest of a kept ring, if it has spawned that. */
static void kept_child_work(void *shared, unsigned me) {
    core_case *c = (core_case *)shared;
    schi_thread *th = c->b->thread[me];
    sch_task *task = NULL;
    if (me > 0) {
        core_rescue(th);
        return;
    }
    schi_runq_keep(&th->core->q, true);
    if (c->outside) schi_push_back(th, th->core, schi_task_of(parcel_send(&c->all, c->sent++)));
    task = schi_task_of(parcel_send(&c->all, c->sent++));
    schi_task_set_id(task, th->core->last_id += SCHI_ID_STEP);
    schi_push_back(th, th->core, task);
    task = schi_next_child(th->core, true);
    if (task) MODEL_EXPECT(parcel_take(&task->node) == c->sent - 1);
    schi_push_back(th, th->core, schi_task_of(parcel_send(&c->all, c->sent++)));
    core_drain(th);
}

MODEL(kept_child, .bound = 3) {
    core_case *c = core_new();
    c->outside = model_choose(2) == 1; /* is an older task there? */
    crew_run(2, kept_child_work, c);
    core_end(c);
}

/* Two tasks that wake each other through the slot let others have their turn after SCH_LIFO_CAP
 * polls, wherever those wait, and while a thief takes from the slot. */
static void lifo_ping(void *shared, unsigned me) {
    core_case *c = (core_case *)shared;
    schi_thread *th = c->b->thread[me];
    bool other = false;
    if (me > 0) {
        schi_node *node = schi_lifo_take(&c->b->rt->cores[0]->q);
        if (node) (void)parcel_take(node);
        return;
    }
    lifo_put(th, parcel_send(&c->all, c->sent++));
    for (unsigned i = 0; i <= SCH_LIFO_CAP && !other; i++) {
        sch_task *task = schi_next(th, th->core);
        other = !task || parcel_take(&task->node) == 0;
        if (!other) lifo_put(th, parcel_send(&c->all, c->sent++)); /* it wakes the next one */
    }
    MODEL_EXPECT(other);
}

MODEL(lifo_cap, .bound = 4, .spurious = 1) {
    core_case *c = core_new();
    schi_node *node = parcel_send(&c->all, c->sent++);
    if (model_choose(2)) {
        schi_push_inject(NULL, c->b->rt, schi_task_of(node));
    } else {
        schi_push_back(c->b->thread[0], c->b->rt->cores[0], schi_task_of(node));
    }
    crew_run(2, lifo_ping, c);
    core_end(c);
}

/* A task that yields for ever does not keep out one that comes from outside. */
#define TURN_INTERVAL 2u
static void turn_work(void *shared, unsigned me) {
    core_case *c = (core_case *)shared;
    schi_thread *th = c->b->thread[0];
    unsigned turns = 0, late = 0;
    if (me > 0) {
        schi_push_inject(NULL, c->b->rt, schi_task_of(parcel_send(&c->all, 1)));
        schi_event_set(&c->pushed);
        return;
    }
    for (bool seen = false; !seen; turns++) {
        sch_task *task;
        if (turns == 4) schi_event_wait(&c->pushed, UINT64_MAX);
        if (schi_event_is_set(&c->pushed)) late++;
        task = schi_next(th, th->core);
        MODEL_EXPECT(task && late <= TURN_INTERVAL + 1);
        seen = parcel_of(&task->node)->id == 1;
        if (seen) {
            (void)parcel_take(&task->node);
        } else {
            schi_requeue(th, task);
        }
    }
}

MODEL(turn_injector, .bound = 4, .spurious = 1) {
    core_case *c = core_new();
    schi_core *core = c->b->rt->cores[0];
    core->inject_interval = TURN_INTERVAL;
    schi_core_settle(core);
    core->inject_left = TURN_INTERVAL;
    schi_core_settle(core);
    schi_push_back(c->b->thread[0], core, schi_task_of(parcel_send(&c->all, 0)));
    crew_run(2, turn_work, c);
    c->sent = 2;
    core_end(c);
}

/* Injector --------------------------------------------------------------------------------------*/

typedef struct post_case {
    schi_inject q;
    schi_runq ring[3]; /* the consumers' */
    parcels all;
    unsigned sent; /* fixed */
    bool accepted[2];
} post_case;

static post_case *post_new(unsigned sent) {
    post_case *p = (post_case *)model_new(sizeof *p);
    MODEL_EXPECT(schi_inject_init(&p->q) == 0);
    for (int i = 0; i < 3; i++) schi_runq_init(&p->ring[i], 0);
    p->sent = sent;
    return p;
}

static bool post_one(post_case *p, unsigned id) {
    schi_node *node = parcel_send(&p->all, id);
    return schi_inject_push(&p->q, node);
}

static bool post_two(post_case *p, unsigned id) {
    schi_node *first = parcel_send(&p->all, id), *second = parcel_send(&p->all, id + 1);
    schi_wr(&first->next, second);
    return schi_inject_append(&p->q, first, second, 2);
}

/* Consumer `me` pops up to max. Ids below `batch` come from one producer in order, the others are
 * of another. */
static uint64_t post_pop(post_case *p, unsigned me, uint64_t max, unsigned batch,
                         unsigned next[2]) {
    schi_node *node;
    SCHI_INDEX n;
    uint64_t seen = 0;
    MODEL_EXPECT(schi_inject_len(&p->q, NULL) <= p->sent);
    node = schi_inject_pop(&p->q, 1, max, &p->ring[me], &n);
    if (n > 1) schi_runq_extend(&p->ring[me], (SCHI_INDEX)(n - 1));
    MODEL_EXPECT(n <= max);
    for (; node; node = schi_runq_pop(&p->ring[me]), seen++) {
        parcel_take_in_order(node, &next[parcel_of(node)->id >= batch]);
    }
    MODEL_EXPECT(n == seen);
    return n;
}

static void post_end(post_case *p, unsigned batch) {
    unsigned next[2] = {0, 0};
    while (post_pop(p, 0, 3, batch, next) > 0) continue;
    MODEL_EXPECT(schi_inject_is_empty(&p->q) && schi_inject_len(&p->q, NULL) == 0);
    parcels_end(&p->all, p->sent);
    schi_inject_drop(&p->q);
}

/* Two producers, one with a batch; the only consumer also watches the counts. */
static void post_work(void *shared, unsigned me) {
    post_case *p = (post_case *)shared;
    unsigned next[2] = {0, 0};
    if (me == 1) {
        MODEL_EXPECT(post_one(p, 0) && post_one(p, 1));
    } else if (me == 2) {
        MODEL_EXPECT(post_two(p, 2));
    } else {
        for (int i = 0; i < 2; i++) {
            if (!schi_inject_is_empty(&p->q)) MODEL_EXPECT(schi_inject_len(&p->q, NULL) >= 1);
            (void)post_pop(p, me, 2, 2, next);
        }
    }
}

MODEL(inject_two_producers, .bound = 3, .spurious = 1) {
    post_case *p = post_new(4);
    crew_run(3, post_work, p);
    post_end(p, 2);
}

/* Nobody pops: what was pushed or appended is never out of sight, while others count. */
static void post_and_count(void *shared, unsigned me) {
    post_case *p = (post_case *)shared;
    if (me == 1) {
        MODEL_EXPECT(schi_inject_len(&p->q, NULL) <= 3);
    } else if (me == 2) {
        MODEL_EXPECT(post_two(p, 1));
    } else {
        MODEL_EXPECT(post_one(p, 0));
        for (int i = 0; i < 3; i++) MODEL_EXPECT(!schi_inject_is_empty(&p->q));
        MODEL_EXPECT(schi_inject_len(&p->q, NULL) >= 1);
    }
}

MODEL(inject_in_sight, .bound = 4, .stale = 2) {
    post_case *p = post_new(3);
    crew_run(3, post_and_count, p);
    post_end(p, 1);
}

static void post_to_two(void *shared, unsigned me) {
    post_case *p = (post_case *)shared;
    unsigned next[2] = {0, 0};
    if (me == 0) {
        MODEL_EXPECT(post_two(p, 0) && post_one(p, 2));
    } else {
        (void)post_pop(p, me, 1, PARCELS, next);
        (void)post_pop(p, me, 2, PARCELS, next);
    }
}

MODEL(inject_two_consumers, .bound = 3) {
    post_case *p = post_new(3);
    crew_run(3, post_to_two, p);
    post_end(p, PARCELS);
}

/* The consumer's ring is being stolen from: what the thief has claimed counts as occupied. */
typedef struct post_ring {
    ring_case ring;
    schi_inject q;
} post_ring;

static void post_into_stolen(void *shared, unsigned me) {
    post_ring *p = (post_ring *)shared;
    ring_case *r = &p->ring;
    unsigned next = 0;
    SCHI_INDEX n;
    if (me > 0) {
        ring_steal(r, 0, me, &next);
        ring_drain(&r->q[me], &next);
        return;
    }
    parcel_take_in_order(schi_inject_pop(&p->q, 1, 1 + SCH_RUNQ_CAP, &r->q[0], &n), &next);
    if (n > 1) schi_runq_extend(&r->q[0], (SCHI_INDEX)(n - 1));
}

MODEL(inject_into_stolen, .bound = 3) {
    post_ring *p = (post_ring *)model_new(sizeof *p);
    ring_case *r = &p->ring;
    unsigned next = 0;
    SCHI_INDEX n;
    schi_node *node = NULL;
    for (unsigned i = 0; i <= RING_THIEVES; i++) schi_runq_init(&r->q[i], 0);
    MODEL_EXPECT(schi_inject_init(&p->q) == 0);
    for (; r->sent < SCH_RUNQ_CAP; r->sent++) {
        (void)schi_runq_push(&r->q[0], parcel_send(&r->all, r->sent));
    }
    for (; r->sent < SCH_RUNQ_CAP + 3; r->sent++) {
        MODEL_EXPECT(schi_inject_push(&p->q, parcel_send(&r->all, r->sent)));
    }
    crew_run(2, post_into_stolen, p);
    ring_drain(&r->q[0], &next);
    node = schi_inject_pop(&p->q, 1, 1 + SCH_RUNQ_CAP, &r->q[0], &n);
    if (node) parcel_take_in_order(node, &next);
    if (n > 1) schi_runq_extend(&r->q[0], (SCHI_INDEX)(n - 1));
    schi_inject_drop(&p->q);
    ring_end(r);
}

/* What a push says it took comes out, although the injector is closed; what it refused does not. */
static void post_and_close(void *shared, unsigned me) {
    post_case *p = (post_case *)shared;
    unsigned next[2] = {0, 0};
    if (me == 1) {
        p->accepted[0] = post_two(p, 0);
        p->accepted[1] = post_one(p, 2);
    } else if (me == 2) {
        schi_inject_close(&p->q);
    } else {
        (void)post_pop(p, me, 2, PARCELS, next);
    }
}

MODEL(inject_close, .bound = 3, .spurious = 1, .outcomes = 7) {
    post_case *p = post_new(3);
    crew_run(3, post_and_close, p);
    MODEL_EXPECT(p->accepted[0] || !p->accepted[1]);
    MODEL_EXPECT(!post_one(p, 3));
    schi_wr(&p->all.at[3].stage, (unsigned)PARCEL_NEW);
    p->sent = p->accepted[1] ? 3 : p->accepted[0] ? 2 : 0;
    for (unsigned i = p->sent; i < 3; i++) {
        MODEL_EXPECT(schi_rd(&p->all.at[i].stage) == PARCEL_SENT);
        schi_wr(&p->all.at[i].stage, (unsigned)PARCEL_NEW);
    }
    model_outcome(p->sent ? p->sent - 1 : 0);
    schi_inject_close(&p->q);
    post_end(p, PARCELS);
}

/* Idle set: the argument above [5.3] in small ---------------------------------------------------*/

typedef struct dance_case {
    bare *b;
    parcels all;
    schi_node *node;
    bool relied, seen; /* read after both threads have ended */
    void (*leave)(struct dance_case *x); /* how the other side stops, before it looks again */
} dance_case;

static void dance_work(void *shared, unsigned me) {
    dance_case *x = (dance_case *)shared;
    schi_idle *d = &x->b->rt->idle;
    if (me > 0) {
        x->leave(x);
        x->seen = !schi_inject_is_empty(&x->b->rt->inject);
        return;
    }
    MODEL_EXPECT(schi_inject_push(&x->b->rt->inject, x->node));
    x->relied = !schi_idle_may_wake(d, schi_idle_handshake(d));
}

/* Whoever leaves because somebody else will come is right. */
static void dance_run(void (*leave)(dance_case *x), unsigned cores, bool searching) {
    dance_case *x = (dance_case *)model_new(sizeof *x);
    SCHI_INDEX n;
    x->b = bare_new(cores, 1, false);
    bare_hold_cores(x->b, 1);
    if (searching) MODEL_EXPECT(schi_idle_try_search(&x->b->rt->idle));
    x->leave = leave;
    x->node = parcel_send(&x->all, 0);
    crew_run(2, dance_work, x);
    MODEL_EXPECT(x->seen || !x->relied);
    model_outcome((x->seen ? 1u : 0u) + (x->relied ? 2u : 0u));
    (void)schi_idle_take_back(&x->b->rt->idle, 0, &x->b->thread[0]->loan);
    MODEL_EXPECT(schi_inject_pop(&x->b->rt->inject, 1, 2, &x->b->rt->cores[0]->q, &n) == x->node);
    MODEL_EXPECT(n == 1 && parcel_take(x->node) == 0);
    bare_free(x->b);
}

static void dance_stop_search(dance_case *x) {
    MODEL_EXPECT(schi_idle_stop_search(&x->b->rt->idle));
}

static void dance_release(dance_case *x) {
    schi_idle *d = &x->b->rt->idle;
    schi_lock(&d->lock);
    schi_idle_release(d, 0, false);
    x->b->thread[0]->core = NULL;
    schi_unlock(&d->lock);
}

/* The first that lends; before, nobody had a place. */
static void dance_lend(dance_case *x) {
    schi_add_seq(&x->b->rt->idle.places, 1u);
    schi_idle_lend(&x->b->rt->idle, 0, &x->b->thread[0]->loan);
}

/* Outcomes: seen 1, relied 2. */
MODEL(idle_case_1_searcher, .bound = 8, .stale = 8, .outcomes = 1 << 0 | 1 << 1 | 1 << 3) {
    dance_run(dance_stop_search, 2, true);
}
MODEL(idle_case_2_all_run, .bound = 8, .stale = 8, .outcomes = 1 << 0 | 1 << 1 | 1 << 3) {
    dance_run(dance_release, 1, false);
}
MODEL(idle_case_2_lent, .bound = 8, .stale = 8, .outcomes = 1 << 0 | 1 << 1 | 1 << 3) {
    dance_run(dance_lend, 1, false);
}

/* Counts and bitmaps ----------------------------------------------------------------------------*/

typedef struct count_case {
    schi_idle d;
    schi_loan lent[4];
    schi_biased_lock own; /* of who lends */
    unsigned loans;       /* fixed: times in a row, unless the core is gone */
    schi_slot slot;
    schi_parker parker;
    SCHI_ATOMIC(uint32_t) now, lasts;
    SCHI_CELL(unsigned) core; /* whoever has the core */
    unsigned claims[CREW_MAX];
} count_case;

/* Of three running cores at most two search; who is told that he was the last was. */
static void search_work(void *shared, unsigned me) {
    count_case *c = (count_case *)shared;
    (void)me;
    if (!schi_idle_try_search(&c->d)) return;
    MODEL_EXPECT(schi_add_rlx(&c->now, 1u) < 2);
    (void)schi_sub_rlx(&c->now, 1u);
    if (schi_idle_stop_search(&c->d)) (void)schi_add_rlx(&c->lasts, 1u);
}

MODEL(idle_half_search, .bound = 4, .spurious = 2) {
    count_case *c = (count_case *)model_new(sizeof *c);
    MODEL_EXPECT(schi_idle_init(&c->d, c->lent) == 0);
    schi_idle_set_cores(&c->d, 4, true);
    schi_lock(&c->d.lock);
    for (unsigned i = 0; i < 3; i++) MODEL_EXPECT(schi_idle_acquire(&c->d, false) == i);
    schi_unlock(&c->d.lock);
    crew_run(3, search_work, c);
    MODEL_EXPECT(schi_load_seq(&c->lasts) >= 1 && schi_load_seq(&c->now) == 0);
    MODEL_EXPECT(schi_load_seq(&c->d.word) == 3 * SCHI_IDLE_RUNNING);
    schi_idle_drop(&c->d);
}

/* A core that is lent: taken back, or claimed by one of two and given through the slot. */
static void loan_lend(count_case *c) {
    for (unsigned i = 0; i < c->loans; i++) {
        schi_wr(&c->core, schi_rd(&c->core) + 1);
        schi_idle_lend(&c->d, 2, &c->own);
        if (schi_idle_take_back(&c->d, 2, &c->own)) continue;
        while (schi_slot_take(&c->slot) != (void *)c) (void)schi_park(&c->parker, UINT64_MAX);
    }
    schi_wr(&c->core, schi_rd(&c->core) + 1);
}

static void loan_work(void *shared, unsigned me) {
    count_case *c = (count_case *)shared;
    unsigned core;
    if (me == 0) {
        loan_lend(c);
        return;
    }
    schi_lock(&c->d.lock);
    core = schi_idle_acquire_lent(&c->d, true);
    schi_unlock(&c->d.lock);
    if (core == SCHI_NO_CORE) return;
    MODEL_EXPECT(core == 2);
    c->claims[me]++;
    schi_wr(&c->core, schi_rd(&c->core) + 1);
    (void)schi_idle_stop_search(&c->d);
    schi_slot_give(&c->slot, c);
    schi_unpark(&c->parker, NULL);
}

static void loan_run(bool kept, unsigned loans, int mood) {
    count_case *c = (count_case *)model_new(sizeof *c);
    unsigned claims;
    MODEL_EXPECT(schi_idle_init(&c->d, c->lent) == 0 && schi_parker_init(&c->parker) == 0);
    schi_idle_set_cores(&c->d, 3, true);
    schi_biased_init(&c->own);
    if (kept) bare_keep(&c->own);
    schi_store_seq(&c->d.places, 1u);
    schi_wr(&c->core, 0u);
    c->loans = loans;
    model_barrier_mood = mood;
    schi_lock(&c->d.lock);
    for (unsigned i = 0; i < 3; i++) MODEL_EXPECT(schi_idle_acquire(&c->d, false) == i);
    schi_unlock(&c->d.lock);
    crew_run(3, loan_work, c);
    model_barrier_mood = MODEL_BARRIER_WORKS;
    claims = c->claims[1] + c->claims[2];
    model_outcome(claims);
    MODEL_EXPECT(claims <= loans && schi_rd(&c->core) == loans + 1 + claims);
    MODEL_EXPECT(schi_idle_num_lent(&c->d, 1) == 0);
    MODEL_EXPECT(schi_load_seq(&c->d.word) == 3 * SCHI_IDLE_RUNNING);
    MODEL_EXPECT(schi_slot_take(&c->slot) == NULL);
    schi_parker_drop(&c->parker);
    schi_idle_drop(&c->d);
}

MODEL(idle_loan, .bound = 3, .spurious = 1, .outcomes = 3) {
    loan_run(false, 1, MODEL_BARRIER_WORKS);
}
MODEL(idle_loan_kept, .bound = 3, .outcomes = 3) { loan_run(true, 1, MODEL_BARRIER_WORKS); }
MODEL(idle_loans_kept, .bound = 2, .outcomes = 7) { loan_run(true, 3, MODEL_BARRIER_WORKS); }
/* Nobody is left without a core because the system has come to refuse barriers. */
MODEL(idle_loan_no_barrier, .bound = 3, .outcomes = 3) {
    loan_run(true, 1, MODEL_BARRIER_MAY_FAIL);
}

/* Workers that search, sleep and wake, by the header's own code; only the tasks are parcels. ----*/

typedef struct office_case office_case;
struct office_case {
    bare *b;
    parcels all;
    unsigned workers;           /* fixed: threads below are workers, the others producers */
    unsigned each, total;       /* fixed: of each producer, in all */
    SCHI_ATOMIC(uint32_t) done; /* relaxed: it must order nothing */
    SCHI_ATOMIC(uint32_t) next; /* ids of parcels sent by workers */
    void (*run)(office_case *o, schi_thread *th, sch_task *task);
    schi_event ran;
    unsigned jumps;             /* of time, when the parcel was sent; written before it is */
    unsigned max_jumps;         /* until it is taken */
    bool in_ring, kept;
    void *more;                 /* of waiting.c */
};

static void office_done(office_case *o) {
    if (schi_add_rlx(&o->done, 1u) + 1 == o->total) schi_finish(o->b->rt);
}

static void office_take(office_case *o, schi_thread *th, sch_task *task) {
    (void)th;
    (void)parcel_take(&task->node);
    office_done(o);
}

static office_case *office_new(unsigned cores, unsigned workers, bool standby, unsigned total) {
    office_case *o = (office_case *)model_new(sizeof *o);
    o->b = bare_new(cores, workers, standby);
    o->workers = workers, o->each = 1, o->total = total, o->run = office_take;
    MODEL_EXPECT(schi_event_init(&o->ran) == 0);
    if (cores == 1) o->b->rt->cores[0]->alone = true;
    if (cores == 1 || standby) bare_no_wakes(o->b);
    return o;
}

static void office_worker(office_case *o, schi_thread *th) {
    schi_tls_set(th);
    while (schi_sleep(th, NULL)) {
        for (sch_task *task; th->core && (task = bare_next(th)) != NULL;) o->run(o, th, task);
    }
    schi_tls_set(NULL);
}

static void office_work(void *shared, unsigned me) {
    office_case *o = (office_case *)shared;
    if (me < o->workers) {
        office_worker(o, o->b->thread[me]);
        return;
    }
    for (unsigned i = 0; i < o->each; i++) {
        unsigned id = (me - o->workers) * o->each + i;
        schi_push_inject(NULL, o->b->rt, schi_task_of(parcel_send(&o->all, id)));
    }
}

static void office_end(office_case *o) {
    MODEL_EXPECT(schi_load_seq(&o->done) == o->total);
    parcels_end(&o->all, o->total);
    schi_event_drop(&o->ran);
    bare_free(o->b);
}

/* Nothing but the protocol wakes anybody here: no standby, no time-out. */
static void office_run(unsigned workers, unsigned producers, unsigned each) {
    office_case *o = office_new(workers, workers, false, producers * each);
    o->each = each;
    crew_run(workers + producers, office_work, o);
    MODEL_EXPECT(model_time_jumps() == 0);
    office_end(o);
}

MODEL(idle_1_worker_2_jobs, .bound = 3, .spurious = 1) { office_run(1, 1, 2); }
MODEL(idle_1_worker_2_producers, .bound = 3) { office_run(1, 2, 1); }
MODEL(idle_2_workers_1_producer, .bound = 2) { office_run(2, 1, 1); }
MODEL(idle_2_workers_2_jobs, .bound = 2) { office_run(2, 1, 2); }
MODEL(idle_2_workers_2_producers, .bound = 1) { office_run(2, 2, 1); }

/* A worker sends parcels of its own while the other worker is anywhere between search and sleep. */
static void office_fan_out(office_case *o, schi_thread *th, sch_task *task) {
    unsigned id = parcel_take(&task->node);
    for (unsigned i = 1; id == 0 && i < o->total; i++) {
        schi_push_back(th, th->core, schi_task_of(parcel_send(&o->all, i)));
    }
    office_done(o);
}

MODEL(idle_fan_out, .bound = 2) {
    office_case *o = office_new(2, 2, false, 3);
    o->run = office_fan_out;
    crew_run(3, office_work, o);
    office_end(o);
}

/* Wakes outside of the idle set's accounts: a thread that is listed must stay listed once. */
static void office_stray(void *shared, unsigned me) {
    office_case *o = (office_case *)shared;
    sch_runtime *rt = o->b->rt;
    if (me < 2) {
        office_work(o, me);
        return;
    }
    for (int i = 0; i < 2; i++) {
        schi_lock(&rt->idle.lock);
        schi_unpark_sleeper(rt, &o->b->thread[0]->sleeper);
        schi_unlock(&rt->idle.lock);
    }
}

MODEL(idle_stray_wakes, .bound = 2, .spurious = 1) {
    office_case *o = office_new(1, 1, false, 1);
    crew_run(3, office_stray, o);
    office_end(o);
}

/* Lending: a task's blocking call lasts until another task has run. A core is there for that one,
 * and threads are: whoever pushed it saw the loan, or the lender saw the push. */
static void office_block(office_case *o, schi_thread *th, sch_task *task) {
    unsigned id = parcel_take(&task->node);
    if (id == 0) {
        MODEL_EXPECT(schi_reserve(th, false) == 0);
        th->reserved = true;
        schi_core_leave(th);
        schi_event_wait(&o->ran, UINT64_MAX);
        if (!schi_core_return(th)) { /* the task goes on elsewhere, as in schi_block_in_place */
            schi_push_inject(th, th->rt, schi_task_of(parcel_send(&o->all, 2)));
            return;
        }
    } else if (id == 1) {
        schi_event_set(&o->ran);
    }
    if (id == 0) (void)parcel_take(parcel_send(&o->all, 2));
    office_done(o);
}

static void lend_run(bool kept, int mood) {
    office_case *o = office_new(1, 2, false, 2);
    o->run = office_block, o->each = 2;
    for (unsigned i = 0; kept && i < 2; i++) bare_keep(&o->b->thread[i]->loan);
    model_barrier_mood = mood;
    crew_run(3, office_work, o);
    model_barrier_mood = MODEL_BARRIER_WORKS;
    parcels_end(&o->all, 3);
    schi_wr(&o->all.at[2].stage, (unsigned)PARCEL_NEW);
    office_end(o);
}

MODEL(idle_lend, .bound = 2) { lend_run(false, MODEL_BARRIER_WORKS); }
MODEL(idle_lend_kept, .bound = 2) { lend_run(true, MODEL_BARRIER_WORKS); }
MODEL(idle_lend_no_barrier, .bound = 1) { lend_run(true, MODEL_BARRIER_FAILS); }

/* Work conservation. While a worker is busy with one task there is another in its ring, or in its
 * slot, that is not worth a wake: the standby has it run elsewhere within two periods. One of the
 * two threads has just run something when the other is in a seat, or comes to it:
 * which one is woken, and whether the other has moved up by then, is open. */
static void office_hog(office_case *o, schi_thread *th, sch_task *task) {
    if (parcel_take(&task->node) == 0) {
        schi_node *node = parcel_send(&o->all, 1);
        o->jumps = model_time_jumps();
        schi_runq_keep(&th->core->q, o->kept);
        if (o->in_ring) {
            schi_push_back(th, th->core, schi_task_of(node));
        } else {
            lifo_put(th, node);
        }
        schi_event_wait(&o->ran, UINT64_MAX);
    } else {
        MODEL_EXPECT(model_time_jumps() - o->jumps <= o->max_jumps);
        schi_event_set(&o->ran);
    }
    office_done(o);
}

static void rescue_run(bool in_ring, bool kept, unsigned max_jumps) {
    office_case *o = office_new(2, 2, true, 2);
    o->run = office_hog, o->max_jumps = max_jumps;
    o->in_ring = in_ring;
    o->kept = kept;
    bare_hold_cores(o->b, 1);
    crew_run(3, office_work, o);
    office_end(o);
}

MODEL(standby_rescues_ring, .bound = 2) { rescue_run(true, false, 10); }
MODEL(standby_rescues_lifo, .bound = 2) { rescue_run(false, false, 10); }
MODEL(standby_rescues_kept_ring, .bound = 2) { rescue_run(true, true, 10); }
MODEL(standby_rescues_kept_lifo, .bound = 2) { rescue_run(false, true, 10); }
/* Two looks, and an alarm that was set for somebody else may ring once in each seat. Without old
 * values, which no ring of an alarm sees really. */
MODEL(standby_in_time, .bound = 1, .stale = 0, .random = 0) {
    rescue_run(model_choose(2), false, 4);
}

/* Three workers: one leaves the place and is busy, the second is sent into the place and gets a
 * core on its way, with which it is busy, too: then the third must be sent. */
static void office_block_all(office_case *o, schi_thread *th, sch_task *task) {
    unsigned id = parcel_take(&task->node);
    if (id == 0) schi_push_back(th, th->core, schi_task_of(parcel_send(&o->all, 2)));
    if (id < 2) {
        schi_event_wait(&o->ran, UINT64_MAX);
    } else {
        schi_event_set(&o->ran);
    }
    office_done(o);
}

MODEL(standby_place_is_refilled, .bound = 0, .random = 20000) {
    office_case *o = office_new(3, 3, true, 3);
    o->run = office_block_all, o->each = 2;
    bare_hold_cores(o->b, 2);
    crew_run(4, office_work, o);
    office_end(o);
}

/* Four: two leave the seats, the third is sent there and gets a core on its way: the fourth. */
static void office_block_three(office_case *o, schi_thread *th, sch_task *task) {
    unsigned id = parcel_take(&task->node);
    if (id == 0) schi_push_back(th, th->core, schi_task_of(parcel_send(&o->all, 3)));
    if (id < 3) {
        schi_event_wait(&o->ran, UINT64_MAX);
    } else {
        schi_event_set(&o->ran);
    }
    office_done(o);
}

MODEL(standby_seats_are_refilled, .bound = 0, .random = 20000) {
    office_case *o = office_new(4, 4, true, 4);
    o->run = office_block_three, o->each = 3;
    bare_hold_cores(o->b, 2);
    crew_run(5, office_work, o);
    office_end(o);
}

/* The standby's last look before it stops its alarm, while a holder takes its lent core back: one
 * of the two sets the alarm again. */
static void standby_work(void *shared, unsigned me) {
    bare *b = (bare *)shared;
    if (me == 0) {
        MODEL_EXPECT(schi_core_return(b->thread[0]));
    } else {
        schi_standby_look(b->thread[1]);
    }
}

static void standby_return(bool kept) {
    bare *b = bare_new(2, 2, true);
    schi_idle *d = &b->rt->idle;
    schi_sleeper *s = &b->thread[1]->sleeper;
    bare_no_wakes(b);
    bare_hold_cores(b, 1);
    schi_lock(&d->lock);
    schi_idle_list(d, s);
    schi_standby_arm(b->rt);
    schi_unlock(&d->lock);
    b->thread[0]->reserved = true;
    schi_add_seq(&b->rt->idle.places, 1u);
    if (kept) bare_keep(&b->thread[0]->loan);
    b->rt->look_at = 0; /* it is time */
    schi_core_leave(b->thread[0]);
    MODEL_EXPECT(b->thread[0]->lent == b->rt->cores[0]);
    crew_run(2, standby_work, b);
    MODEL_EXPECT(schi_load_seq(&d->word) & SCHI_IDLE_ARMED);
    schi_lock(&d->lock);
    MODEL_EXPECT(schi_idle_unlist(d, s) && schi_idle_vacate(d, s) == NULL);
    schi_unlock(&d->lock);
    bare_free(b);
}

MODEL(standby_vs_return, .bound = 8, .stale = 8) { standby_return(false); }
MODEL(standby_vs_return_kept, .bound = 8, .stale = 8) { standby_return(true); }
