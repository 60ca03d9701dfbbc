/* crew.h - what structures.c and task.c share: threads that work together, parcels whose delivery
 * is counted, and a runtime that has everything but threads and stacks. */
#ifndef MODEL_CREW_H
#define MODEL_CREW_H

/* Crew: work(shared, 0 .. n-1) at once; 0 is the calling thread. --------------------------------*/

#define CREW_MAX 5
typedef void (*crew_work)(void *shared, unsigned index);

typedef struct crew_member {
    crew_work work;
    void *shared;
    unsigned index;
    schi_os_thread os;
} crew_member;

static void *crew_main(void *argument) {
    crew_member *me = (crew_member *)argument;
    me->work(me->shared, me->index);
    return NULL;
}

static void crew_run(unsigned n, crew_work work, void *shared) {
    crew_member *members = (crew_member *)model_new(CREW_MAX * sizeof *members);
    MODEL_EXPECT(n <= CREW_MAX);
    for (unsigned i = 0; i < n; i++) {
        members[i].work = work, members[i].shared = shared, members[i].index = i;
        if (i > 0) {
            MODEL_EXPECT(schi_thread_start(&members[i].os, crew_main, &members[i], 65536) == 0);
        }
    }
    work(shared, 0);
    for (unsigned i = 1; i < n; i++) schi_thread_join(members[i].os);
}

/* Parcels: what goes through queues. The stage is a cell, so a delivery that the sender's writing
 * does not come before, or a second one at the same time, is a race. ----------------------------*/

#define PARCELS 8
enum { PARCEL_NEW, PARCEL_SENT, PARCEL_TAKEN };

typedef struct parcel {
    sch_task task; /* first: queues link it */
    unsigned id;   /* fixed */
    SCHI_CELL(unsigned) stage;
} parcel;

typedef struct parcels {
    parcel at[PARCELS];
} parcels;

static parcel *parcel_of(schi_node *node) { return (parcel *)(void *)node; }

static schi_node *parcel_send(parcels *all, unsigned id) {
    parcel *p = &all->at[id];
    p->id = id;
    MODEL_EXPECT(schi_rd(&p->stage) == PARCEL_NEW);
    schi_wr(&p->stage, PARCEL_SENT);
    return &p->task.node;
}

static unsigned parcel_take(schi_node *node) {
    parcel *p = parcel_of(node);
    MODEL_EXPECT(schi_rd(&p->stage) == PARCEL_SENT);
    schi_wr(&p->stage, PARCEL_TAKEN);
    return p->id;
}

/* The same where order is promised: ids rise from *next on. */
static void parcel_take_in_order(schi_node *node, unsigned *next) {
    unsigned id = parcel_take(node);
    MODEL_EXPECT(id >= *next);
    *next = id + 1;
}

/* Exactly the first n have been sent, and each was taken once. */
static void parcels_end(parcels *all, unsigned n) {
    for (unsigned i = 0; i < PARCELS; i++) {
        MODEL_EXPECT(schi_rd(&all->at[i].stage) == (i < n ? PARCEL_TAKEN : PARCEL_NEW));
    }
}

/* Bare runtime: all that schi_runtime_make makes. Its threads are the client's, and run tasks where
 * they stand: no stack is switched, so a task must not wait. ------------------------------------*/

#define BARE_PERIOD SCH_MILLISECOND /* of the standby */

typedef struct bare {
    sch_runtime *rt;
    schi_thread *thread[CREW_MAX];
    schi_stack *stack[CREW_MAX]; /* only for their frames */
    unsigned num_threads;
} bare;

/* Threads get numbers from 0 on, and no core. */
static bare *bare_new(unsigned cores, unsigned threads, bool standby) {
    bare *b = (bare *)model_new(sizeof *b);
    sch_runtime *rt;
    sch_config c;
    int stage = 0;
    memset(&c, 0, sizeof c);
    c.workers = cores, c.max_blocking_threads = 1, c.seed = 1;
    c.event_interval = c.global_queue_interval = 60000;
    c.no_standby = !standby, c.standby_period_ns = BARE_PERIOD;
    c.keep_alive_ns = UINT64_MAX; /* no thread leaves */
    schi_config_defaults(&c);
    MODEL_EXPECT(schi_config_copy(&c) == 0);
    b->rt = rt = (sch_runtime *)schi_alloc_zeroed(&c.allocator, sizeof *rt, SCH_CACHELINE);
    rt->config = c;
    rt->magic = schi_magic();
    MODEL_EXPECT(schi_runtime_make(rt, &stage) == 0);
    rt->num_cores = cores;
    rt->num_threads = rt->num_workers = b->num_threads = threads;
    schi_store_seq(&rt->live, SCHI_NOT_IN * ((int64_t)cores + 1));
    schi_idle_set_cores(&rt->idle, cores, standby);
    for (unsigned i = 0; i < threads; i++) {
        schi_thread *th = (schi_thread *)model_new(sizeof *th);
        b->thread[i] = th, b->stack[i] = (schi_stack *)model_new(sizeof *b->stack[i]);
        th->rt = rt, th->kind = SCHI_WORKER, th->stack = b->stack[i];
        MODEL_EXPECT(schi_parker_init(&th->sleeper.parker) == 0);
        MODEL_EXPECT(schi_thread_number(th) == 0);
    }
    return b;
}

/* Nothing on this core is worth a wake. */
static void bare_no_wakes(bare *b) {
    for (unsigned i = 0; i < b->rt->num_cores; i++) {
        schi_store_rlx(&b->rt->cores[i]->wake_len, UINT32_MAX);
    }
}

/* Each of the first n threads holds a core. */
static void bare_hold_cores(bare *b, unsigned n) {
    schi_lock(&b->rt->idle.lock);
    for (unsigned i = 0; i < n; i++) {
        unsigned core = schi_idle_acquire(&b->rt->idle, false);
        MODEL_EXPECT(core == i);
        schi_core_taken(b->thread[i], b->rt->cores[core], false);
    }
    schi_unlock(&b->rt->idle.lock);
}

/* Its owner has kept this lock. */
static void bare_keep(schi_biased_lock *l) {
    schi_biased_may_keep(l);
    for (unsigned i = 0; i <= SCHI_BIAS_ROW; i++) schi_biased_unlock(l, schi_biased_lock_by(l, l));
    MODEL_EXPECT(schi_load_seq(&l->bias.state) == SCHI_PRIVATE);
}

/* All threads are out: J1, J2; nobody runs, searches or is listed; nothing is queued. */
static void bare_free(bare *b) {
    sch_runtime *rt = b->rt;
    schi_idle *d = &rt->idle;
    for (unsigned i = 0; i < b->num_threads; i++) {
        schi_core_give_up(b->thread[i]);
        MODEL_EXPECT(!b->thread[i]->sleeper.listed);
        MODEL_EXPECT(b->thread[i]->sleeper.seat == SCHI_NO_SEAT);
        MODEL_EXPECT(schi_slot_take(&b->thread[i]->slot) == NULL);
        schi_parker_drop(&b->thread[i]->sleeper.parker);
    }
    schi_lock(&d->lock);
    schi_idle_check(d);
    MODEL_EXPECT(!d->sleepers && !d->seated[SCHI_WATCH] && !d->seated[SCHI_STANDBY]);
    MODEL_EXPECT(schi_idle_num_lent(d, 1) == 0);
    MODEL_EXPECT((schi_load_seq(&d->word) & ~SCHI_IDLE_ARMED) == 0);
    schi_unlock(&d->lock);
    for (unsigned i = 0; i < rt->num_cores; i++) {
        MODEL_EXPECT(schi_core_is_empty(rt->cores[i]) && !rt->cores[i]->next);
        schi_runq_check(&rt->cores[i]->q);
    }
    MODEL_EXPECT(schi_inject_is_empty(&rt->inject) && schi_inject_len(&rt->inject, NULL) == 0);
    schi_runtime_unmake(rt, SCHI_MADE);
}

/* The next task of a thread with a core, as in schi_turn; NULL: it should sleep. */
static sch_task *bare_next(schi_thread *th) {
    sch_task *task = schi_next(th, th->core);
    if (!task) task = schi_search(th, false);
    if (task && th->searching) schi_stop_search(th);
    return task;
}

#endif /* MODEL_CREW_H */
