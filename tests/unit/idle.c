/* idle.c - [5.3] and [5.4]: the idle set, and the slot through which a core changes hands. */
#include "support.h"

static schi_idle *idle_new(unsigned num_cores) {
    schi_idle *d = (schi_idle *)aligned_alloc(SCH_CACHELINE, sizeof *d);
    schi_loan *lent = (schi_loan *)calloc(num_cores, sizeof *lent);
    if (!d || !lent || schi_idle_init(d, lent)) abort();
    schi_idle_set_cores(d, num_cores, true);
    return d;
}

static void idle_free(schi_idle *d) {
    schi_idle_drop(d);
    free(d->lent);
    free(d);
}

static void idle_expect_word(schi_idle *d, unsigned running, unsigned searching) {
    uint32_t word = schi_idle_handshake(d);
    EXPECT_EQ(schi_idle_running(word), running);
    EXPECT_EQ(schi_idle_searching(word), searching);
    schi_idle_check(d); /* J1 */
}

/* Cores -----------------------------------------------------------------------------------------*/

/* Every core once, whatever the number: full and broken chunks of the bitmap. */
TEST(idle_cores) {
    const unsigned numbers[] = {1, 2, 63, 64, 65, 130, SCH_MAX_WORKERS};
    for (unsigned k = 0; k < sizeof numbers / sizeof numbers[0]; k++) {
        static unsigned taken[SCH_MAX_WORKERS];
        bool held[SCH_MAX_WORKERS] = {false};
        const unsigned n = numbers[k];
        unsigned searching = 0, core;
        schi_idle *d = idle_new(n);
        idle_expect_word(d, 0, 0);
        schi_lock(&d->lock);
        for (unsigned i = 0; i < n; i++) {
            bool search = test_random() & 1;
            core = schi_idle_acquire(d, search);
            if (!EXPECT(core < n && !held[core])) break;
            held[core] = true, taken[i] = core, searching += search;
            idle_expect_word(d, i + 1, searching);
        }
        EXPECT_EQ(schi_idle_acquire(d, true), SCHI_NO_CORE);
        idle_expect_word(d, n, searching);
        for (unsigned left = n; left > 0; left--) { /* back in any order */
            unsigned i = (unsigned)(test_random() % left);
            bool search = searching > 0;
            schi_idle_release(d, taken[i], search);
            searching -= search;
            idle_expect_word(d, left - 1, searching);
            core = schi_idle_acquire(d, false); /* what was given back can be had at once */
            EXPECT_EQ(left == n ? core : taken[i], taken[i]);
            schi_idle_release(d, core, false);
            taken[i] = taken[left - 1];
        }
        schi_unlock(&d->lock);
        idle_free(d);
    }
}

TEST(idle_word) {
    schi_idle *d = idle_new(2);
    schi_biased_lock own;
    bool plain;
    uint32_t before;
    schi_biased_init(&own);
    schi_lock(&d->lock);
    EXPECT(schi_idle_may_wake(d, schi_idle_handshake(d))); /* idle cores */
    EXPECT_EQ(schi_idle_acquire(d, true), 0);
    EXPECT(!schi_idle_may_wake(d, schi_idle_handshake(d))); /* somebody searches */
    (void)schi_or_seq(&d->word, SCHI_IDLE_ARMED);
    EXPECT_EQ(schi_idle_acquire(d, true), 1);
    EXPECT(!schi_idle_stop_search(d)); /* not the last one */
    EXPECT(!schi_idle_may_wake(d, schi_idle_handshake(d)));
    EXPECT(schi_idle_stop_search(d));
    idle_expect_word(d, 2, 0);
    EXPECT(!schi_idle_may_wake(d, schi_idle_handshake(d))); /* all run */
    schi_add_seq(&d->places, 1u); /* without a place nobody lends */
    EXPECT(!schi_idle_may_wake(d, schi_idle_handshake(d)));
    schi_idle_lend(d, 1, &own);
    EXPECT_EQ(schi_idle_num_lent(d, 2), 1);
    EXPECT(schi_idle_is_lent(d, 1) && !schi_idle_is_lent(d, 0));
    EXPECT(schi_idle_somebody_runs(d));                     /* on the other core */
    EXPECT(schi_idle_may_wake(d, schi_idle_handshake(d))); /* a lent core */
    EXPECT(schi_idle_take_back(d, 1, &own));
    EXPECT(!schi_idle_take_back(d, 1, &own));
    EXPECT(!schi_idle_may_wake(d, schi_idle_handshake(d)));
    schi_idle_lend(d, 0, &own);
    schi_idle_lend(d, 1, &own);
    EXPECT(!schi_idle_somebody_runs(d));
    EXPECT_EQ(schi_idle_acquire_lent(d, false), 0);
    EXPECT(schi_idle_somebody_runs(d));
    EXPECT(!schi_idle_take_back(d, 0, &own));
    EXPECT(schi_idle_take_back(d, 1, &own));
    EXPECT_EQ(schi_idle_acquire_lent(d, false), SCHI_NO_CORE);
    schi_idle_lend(d, 1, &own);
    plain = schi_biased_lock_by(&own, &own); /* as if stopped in take_back: nobody waits */
    EXPECT_EQ(schi_idle_acquire_lent(d, false), SCHI_NO_CORE);
    schi_biased_unlock(&own, plain);
    EXPECT(schi_idle_take_back(d, 1, &own));
    schi_idle_release(d, 0, false);
    EXPECT(schi_idle_may_wake(d, schi_idle_handshake(d)));
    before = schi_load_seq(&d->word);
    EXPECT(before & SCHI_IDLE_ARMED); /* no count runs over into it, and it into none */
    EXPECT_EQ(schi_idle_handshake(d), before);
    EXPECT_EQ(schi_load_seq(&d->word), before);
    idle_expect_word(d, 1, 0);
    schi_unlock(&d->lock);
    idle_free(d);
}

/* At most half of the running cores search, also when all try at once. */
typedef struct idle_searchers {
    schi_idle *d;
    unsigned limit, now; /* now: atomic: those that search */
    size_t tries, begun; /* begun: atomic */
} idle_searchers;

static void idle_search(void *arg, unsigned me) {
    idle_searchers *s = (idle_searchers *)arg;
    (void)me;
    for (size_t i = 0; i < s->tries; i++) {
        if (!schi_idle_try_search(s->d)) continue;
        EXPECT(support_add(&s->now, 1) <= s->limit);
        __atomic_fetch_add(&s->begun, (size_t)1, __ATOMIC_RELAXED);
        if (i % 64 == 0) sched_yield();
        support_add(&s->now, 0u - 1);
        (void)schi_idle_stop_search(s->d);
    }
}

TEST(idle_half_search) {
    for (unsigned running = 0; running <= 9; running++) {
        idle_searchers s;
        unsigned searching = 0;
        memset(&s, 0, sizeof s);
        s.d = idle_new(9);
        s.limit = (running + 1) / 2;
        schi_lock(&s.d->lock);
        for (unsigned i = 0; i < running; i++) (void)schi_idle_acquire(s.d, false);
        schi_unlock(&s.d->lock);
        while (schi_idle_try_search(s.d)) searching++;
        EXPECT_EQ(searching, s.limit);
        idle_expect_word(s.d, running, searching);
        for (; searching > 0; searching--) EXPECT_EQ(schi_idle_stop_search(s.d), searching == 1);
        s.tries = running <= 6 ? test_scale(150000) : 0; /* four threads */
        crew_run(4, idle_search, &s);
        EXPECT_EQ(s.begun > 0, running > 0 && s.tries > 0);
        idle_expect_word(s.d, running, 0);
        idle_free(s.d);
    }
}

/* Sleepers --------------------------------------------------------------------------------------*/

TEST(idle_order) {
    schi_idle *d = idle_new(4);
    schi_sleeper s[6];
    memset(s, 0, sizeof s);
    schi_lock(&d->lock);
    EXPECT(!schi_idle_has_sleeper(d));
    EXPECT(schi_idle_choose(d) == NULL);
    for (int i = 0; i < 6; i++) {
        schi_idle_list(d, &s[i]);
        EXPECT_EQ(s[i].seat, i == 0 ? SCHI_WATCH : i == 1 ? SCHI_STANDBY : SCHI_NO_SEAT);
    }
    EXPECT_EQ(schi_load_seq(&d->watched), 1u);
    EXPECT(schi_idle_unlist(d, &s[3])); /* from the middle */
    EXPECT(!schi_idle_unlist(d, &s[3]));
    EXPECT(schi_idle_choose(d) == &s[5]); /* newest first */
    EXPECT(schi_idle_choose(d) == &s[4]);
    EXPECT(schi_idle_choose(d) == &s[2]);
    EXPECT(schi_idle_has_sleeper(d));
    EXPECT(schi_idle_choose(d) == &s[1]); /* the standby */
    EXPECT(schi_idle_has_sleeper(d));
    EXPECT(schi_idle_choose(d) == &s[0]); /* the watch last */
    EXPECT(!schi_idle_has_sleeper(d));
    EXPECT(schi_idle_choose(d) == NULL);

    EXPECT_EQ(s[1].seat, SCHI_STANDBY); /* chosen, but it has not left the seat yet */
    schi_idle_list(d, &s[2]);
    EXPECT_EQ(s[2].seat, SCHI_NO_SEAT);
    EXPECT(!schi_idle_may_move_up(d, &s[2]));
    EXPECT(schi_idle_vacate(d, &s[0]) == NULL); /* the watch: the standby will see to it */
    EXPECT_EQ(schi_load_seq(&d->watched), 0u);
    EXPECT(schi_idle_may_move_up(d, &s[2]));
    EXPECT(schi_idle_vacate(d, &s[1]) == &s[2]); /* who may move up */
    EXPECT(schi_idle_vacate(d, &s[1]) == NULL);  /* it has no seat any more */
    schi_idle_list(d, &s[1]);
    EXPECT_EQ(s[1].seat, SCHI_WATCH);
    EXPECT(schi_idle_may_move_up(d, &s[2])); /* to be the standby */
    EXPECT(!schi_idle_may_move_up(d, &s[1]));
    schi_unlock(&d->lock);
    idle_free(d);
}

/* With one core, or where the standby is not wanted, there is only the watch. */
TEST(idle_order_without_standby) {
    schi_idle *d = idle_new(1);
    schi_sleeper s[3];
    memset(s, 0, sizeof s);
    schi_lock(&d->lock);
    for (int i = 0; i < 3; i++) {
        schi_idle_list(d, &s[i]);
        EXPECT_EQ(s[i].seat, i == 0 ? SCHI_WATCH : SCHI_NO_SEAT);
    }
    EXPECT(schi_idle_unlist(d, &s[0]));
    EXPECT(schi_idle_vacate(d, &s[0]) == &s[2]);
    EXPECT(schi_idle_may_move_up(d, &s[1]));
    schi_unlock(&d->lock);
    idle_free(d);
}

/* The same at random against a plain array, oldest first. */
#define IDLE_SLEEPERS 7

typedef struct idle_model {
    int listed[IDLE_SLEEPERS], num_listed; /* without seats */
    int seated[SCHI_SEATS];                /* -1: nobody */
    bool seated_listed[SCHI_SEATS];
} idle_model;

static int idle_model_find(const idle_model *m, int who) {
    for (int i = 0; i < m->num_listed; i++)
        if (m->listed[i] == who) return i;
    return -1;
}

static int idle_model_seat(const idle_model *m, int who) {
    for (int i = SCHI_WATCH; i < SCHI_SEATS; i++)
        if (m->seated[i] == who) return i;
    return SCHI_NO_SEAT;
}

static bool idle_model_is_listed(const idle_model *m, int who) {
    const int seat = idle_model_seat(m, who);
    return seat == SCHI_NO_SEAT ? idle_model_find(m, who) >= 0 : m->seated_listed[seat];
}

static bool idle_model_remove(idle_model *m, int who) {
    const int seat = idle_model_seat(m, who);
    int at = idle_model_find(m, who);
    if (!idle_model_is_listed(m, who)) return false;
    if (seat != SCHI_NO_SEAT) {
        m->seated_listed[seat] = false;
        return true;
    }
    for (m->num_listed--; at < m->num_listed; at++) m->listed[at] = m->listed[at + 1];
    return true;
}

static int idle_model_choose(const idle_model *m) {
    if (m->num_listed > 0) return m->listed[m->num_listed - 1];
    if (m->seated_listed[SCHI_STANDBY]) return m->seated[SCHI_STANDBY];
    return m->seated_listed[SCHI_WATCH] ? m->seated[SCHI_WATCH] : -1;
}

static void idle_model_list(idle_model *m, int who) {
    for (int i = SCHI_WATCH; i < SCHI_SEATS; i++) {
        if (m->seated[i] >= 0) continue;
        m->seated[i] = who, m->seated_listed[i] = true;
        return;
    }
    m->listed[m->num_listed++] = who;
}

TEST(idle_random_sleepers) {
    schi_idle *d = idle_new(4);
    schi_sleeper s[IDLE_SLEEPERS];
    idle_model m;
    memset(s, 0, sizeof s);
    memset(&m, 0, sizeof m);
    for (int i = 0; i < IDLE_SLEEPERS; i++) s[i].seat = SCHI_NO_SEAT;
    m.seated[SCHI_WATCH] = m.seated[SCHI_STANDBY] = -1;
    schi_lock(&d->lock);
    for (size_t i = test_scale(100000); i > 0; i--) {
        const uint64_t dice = test_random();
        const int who = (int)(dice % IDLE_SLEEPERS), chosen = idle_model_choose(&m);
        const int seat = idle_model_seat(&m, who);
        const bool listed = idle_model_is_listed(&m, who);
        switch (dice >> 16 & 3) {
        case 0: /* a thread lies down; it has left its seat before it does so again */
            if (listed || seat != SCHI_NO_SEAT) break;
            schi_idle_list(d, &s[who]);
            idle_model_list(&m, who);
            break;
        case 1: EXPECT_EQ(schi_idle_unlist(d, &s[who]), idle_model_remove(&m, who)); break;
        case 2:
            EXPECT(schi_idle_choose(d) == (chosen < 0 ? NULL : &s[chosen]));
            if (chosen >= 0) (void)idle_model_remove(&m, chosen);
            break;
        default:
            if (listed) break;
            if (seat != SCHI_NO_SEAT) m.seated[seat] = -1;
            schi_sleeper *heir = seat != SCHI_NO_SEAT && m.seated[SCHI_STANDBY] < 0 && m.num_listed
                                     ? &s[m.listed[m.num_listed - 1]]
                                     : NULL;
            EXPECT(schi_idle_vacate(d, &s[who]) == heir);
        }
        EXPECT_EQ(schi_idle_has_sleeper(d), idle_model_choose(&m) >= 0);
        EXPECT_EQ(schi_load_seq(&d->watched), m.seated[SCHI_WATCH] >= 0);
        if (!EXPECT_EQ((int)s[who].seat, idle_model_seat(&m, who))) break;
    }
    schi_unlock(&d->lock);
    idle_free(d);
}

/* Lending ---------------------------------------------------------------------------------------*/

/* Two holders lend their core and take it back; two wakers claim lent cores and give them back
 * through the slot. Whoever has a core counts in plain memory. */
#define IDLE_HOLDERS 2
typedef struct idle_loan {
    schi_idle *d;
    schi_slot slots[IDLE_HOLDERS];
    size_t uses[IDLE_HOLDERS];         /* whoever has the core */
    size_t rounds, done[IDLE_HOLDERS]; /* at least, and so many it were: holder */
    size_t lost[IDLE_HOLDERS];         /* holder: loans that somebody claimed */
    size_t claims;                     /* atomic */
    unsigned holding;                  /* atomic: holders not done yet */
    schi_biased_lock own[IDLE_HOLDERS];
    bool kept;                  /* fixed: give a holder the time to keep his lock */
    size_t round[IDLE_HOLDERS]; /* atomic */
    size_t kept_claims;         /* atomic: of those, of a lock that was kept */
} idle_loan;

static const unsigned idle_loan_core[IDLE_HOLDERS] = {3, 129};

static bool idle_loans_go_on(idle_loan *l, size_t i) {
    return i < l->rounds || __atomic_load_n(&l->claims, __ATOMIC_RELAXED) == 0 ||
           (l->kept && __atomic_load_n(&l->kept_claims, __ATOMIC_RELAXED) == 0);
}

static void idle_hold(idle_loan *l, unsigned me, schi_rng *rng) {
    size_t i = 0;
    for (; idle_loans_go_on(l, i); i++) {
        l->uses[me]++;
        schi_idle_lend(l->d, idle_loan_core[me], &l->own[me]);
        __atomic_store_n(&l->round[me], i, __ATOMIC_RELAXED);
        if (schi_rng_below(rng, 16) == 0) {
            sched_yield();
        } else {
            for (uint32_t n = schi_rng_below(rng, 50); n > 0; n--) schi_cpu_relax();
        }
        if (schi_idle_take_back(l->d, idle_loan_core[me], &l->own[me])) continue;
        l->lost[me]++;
        size_t *mine = NULL;
        while (!(mine = (size_t *)schi_slot_take(&l->slots[me]))) sched_yield();
        EXPECT(mine == &l->uses[me]);
        EXPECT(schi_slot_take(&l->slots[me]) == NULL);
    }
    l->done[me] = i;
    __atomic_fetch_sub(&l->holding, 1u, __ATOMIC_RELEASE);
}

static void idle_loan_work(void *arg, unsigned me) {
    idle_loan *l = (idle_loan *)arg;
    schi_rng rng;
    schi_rng_init(&rng, test_seed() + me);
    if (me < IDLE_HOLDERS) {
        idle_hold(l, me, &rng);
        return;
    }
    while (__atomic_load_n(&l->holding, __ATOMIC_ACQUIRE) > 0) {
        uint64_t revoked[IDLE_HOLDERS];
        schi_lock(&l->d->lock);
        for (unsigned i = 0; i < IDLE_HOLDERS; i++) {
            revoked[i] = schi_counted(&l->own[i].bias.num_revoked);
        }
        unsigned core = schi_idle_acquire_lent(l->d, true);
        for (unsigned i = 0; i < IDLE_HOLDERS; i++) {
            if (core != idle_loan_core[i]) continue;
            if (schi_counted(&l->own[i].bias.num_revoked) == revoked[i]) continue;
            __atomic_fetch_add(&l->kept_claims, (size_t)1, __ATOMIC_RELAXED);
        }
        schi_unlock(&l->d->lock);
        for (unsigned i = 0; i < IDLE_HOLDERS; i++) {
            if (core != idle_loan_core[i]) continue;
            l->uses[i]++;
            __atomic_fetch_add(&l->claims, (size_t)1, __ATOMIC_RELAXED);
            (void)schi_idle_stop_search(l->d);
            schi_slot_give(&l->slots[i], &l->uses[i]);
            core = SCHI_NO_CORE;
        }
        EXPECT_EQ(core, SCHI_NO_CORE); /* nothing was claimed that was not lent */
        if (schi_rng_below(&rng, 8) == 0) sched_yield();
        if (!l->kept) continue;
        const size_t from = __atomic_load_n(&l->round[me - IDLE_HOLDERS], __ATOMIC_RELAXED);
        while (__atomic_load_n(&l->round[me - IDLE_HOLDERS], __ATOMIC_RELAXED) - from <
                   3 * SCHI_BIAS_ROW &&
               __atomic_load_n(&l->holding, __ATOMIC_ACQUIRE) == IDLE_HOLDERS) {
            sched_yield();
        }
    }
}

static void idle_loans_run(bool kept) {
    idle_loan l;
    memset(&l, 0, sizeof l);
    l.d = idle_new(130);
    l.rounds = test_scale(200000);
    l.kept = kept;
    for (unsigned i = 0; i < IDLE_HOLDERS; i++) {
        schi_biased_init(&l.own[i]);
        if (kept) schi_biased_may_keep(&l.own[i]);
    }
    schi_add_seq(&l.d->places, (uint32_t)IDLE_HOLDERS);
    l.holding = IDLE_HOLDERS;
    schi_lock(&l.d->lock);
    while (schi_idle_acquire(l.d, false) != SCHI_NO_CORE) continue;
    schi_unlock(&l.d->lock);
    crew_run(IDLE_HOLDERS + 2, idle_loan_work, &l);
    for (unsigned i = 0; i < IDLE_HOLDERS; i++) EXPECT_EQ(l.uses[i], l.done[i] + l.lost[i]);
    EXPECT_EQ(l.claims, l.lost[0] + l.lost[1]);
    EXPECT(l.claims <= l.done[0] + l.done[1]);
    EXPECT_EQ(l.kept_claims > 0, kept);
    EXPECT_EQ(schi_idle_num_lent(l.d, 1), 0);
    idle_expect_word(l.d, 130, 0); /* a lent core counts as running throughout */
    idle_free(l.d);
}

TEST(idle_loans) { idle_loans_run(false); }

/* The same with holders who take theirs back by plain stores until somebody claims it. */
TEST(idle_loans_kept) {
    if (!schi_barrier_open()) SKIP("no barrier on all threads here");
    idle_loans_run(true);
}

#ifdef SCHI_WORD_MUTEX
/* Who takes a loan was stopped with it: the lender waits asleep, so that he can run on its CPU. */
typedef struct idle_stopped {
    schi_idle *d;
    schi_biased_lock own;
    bool back; /* the lender had it again: it should not */
} idle_stopped;

static void idle_stopped_work(void *arg, unsigned me) {
    idle_stopped *s = (idle_stopped *)arg;
    if (me > 0) {
        s->back = schi_idle_take_back(s->d, 1, &s->own);
        return;
    }
    WAIT_FOR(schi_load_seq(&s->d->lock.word) == 2); /* somebody sleeps */
    schi_store_seq(&s->d->lent[1], (schi_biased_lock *)NULL);
    schi_biased_unlock(&s->own, false);
    schi_unlock(&s->d->lock);
}

TEST(idle_lender_sleeps_while_its_core_is_taken) {
    idle_stopped s;
    memset(&s, 0, sizeof s);
    schi_biased_init(&s.own);
    s.d = idle_new(2);
    schi_idle_lend(s.d, 1, &s.own);
    schi_lock(&s.d->lock);
    EXPECT(schi_biased_try_owned(&s.own, true));
    s.back = true;
    crew_run(2, idle_stopped_work, &s);
    EXPECT(!s.back);
    idle_free(s.d);
}
#endif

/* Waking ----------------------------------------------------------------------------------------*/

/* Case 1 of the argument above [5.3]: a pusher that leaves because somebody searches is seen by
 * that searcher's last look. Both go once in each round. */
typedef struct idle_dance {
    schi_idle *d;
    schi_inject inject;
    schi_runq ring; /* thread 0's */
    schi_node node;
    size_t rounds;
    size_t arrived;            /* atomic: both count up to meet */
    bool relied, seen;         /* one thread each, read by the other after they have met */
    size_t times_relied, times_seen;
} idle_dance;

static void idle_meet(idle_dance *x, size_t meeting) {
    __atomic_fetch_add(&x->arrived, (size_t)1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&x->arrived, __ATOMIC_ACQUIRE) < 2 * meeting) sched_yield();
}

static void idle_dance_work(void *arg, unsigned me) {
    idle_dance *x = (idle_dance *)arg;
    SCHI_INDEX n;
    schi_rng rng;
    schi_rng_init(&rng, test_seed() + me);
    for (size_t i = 0; i < x->rounds; i++) {
        if (me == 0) EXPECT(schi_idle_try_search(x->d));
        idle_meet(x, 3 * i + 1);
        for (uint32_t n = schi_rng_below(&rng, 40); n > 0; n--) schi_cpu_relax();
        if (me == 0) {
            (void)schi_idle_stop_search(x->d);
            x->seen = !schi_inject_is_empty(&x->inject);
            x->times_seen += x->seen;
        } else {
            EXPECT(schi_inject_push(&x->inject, &x->node));
            x->relied = !schi_idle_may_wake(x->d, schi_idle_handshake(x->d));
            x->times_relied += x->relied;
        }
        idle_meet(x, 3 * i + 2);
        EXPECT(x->seen || !x->relied);
        idle_meet(x, 3 * i + 3);
        if (me == 0) EXPECT(schi_inject_pop(&x->inject, 1, 1, &x->ring, &n) == &x->node);
    }
}

TEST(idle_handshake) {
    idle_dance *x = (idle_dance *)aligned_alloc(SCH_CACHELINE, sizeof *x);
    if (!x) abort();
    memset(x, 0, sizeof *x);
    x->d = idle_new(2);
    x->rounds = test_scale(30000);
    EXPECT_EQ(schi_inject_init(&x->inject), 0);
    schi_runq_init(&x->ring, 0);
    schi_lock(&x->d->lock);
    EXPECT_EQ(schi_idle_acquire(x->d, false), 0);
    schi_unlock(&x->d->lock);
    crew_run(2, idle_dance_work, x);
    idle_expect_word(x->d, 1, 0);
    EXPECT(x->times_relied <= x->times_seen);
    schi_inject_drop(&x->inject);
    idle_free(x->d);
    free(x);
}
