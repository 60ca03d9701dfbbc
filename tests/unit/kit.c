/* kit.c - [4]: arithmetic, random numbers, biased lock, parker, event. */
#include "support.h"

TEST(kit_arithmetic) {
    const uint64_t max = UINT64_MAX, half = UINT64_C(1) << 63;
    EXPECT(schi_saturating_add(5, 6) == 11);
    EXPECT(schi_saturating_add(max - 1, 1) == max);
    EXPECT(schi_saturating_add(max, 1) == max);
    EXPECT(schi_saturating_add(1, max) == max);
    EXPECT(schi_saturating_add(max, max) == max);
    EXPECT(schi_saturating_add(half, half) == max);
    EXPECT(schi_saturating_add(half, half - 1) == max);
    EXPECT_EQ(schi_round_up(0, 64), 0);
    EXPECT_EQ(schi_round_up(1, 64), 64);
    EXPECT_EQ(schi_round_up(64, 64), 64);
    EXPECT_EQ(schi_round_up(65, 48), 96);
    EXPECT_EQ(schi_bit_count(max), 64);
    EXPECT_EQ(schi_lowest_bit(half), 63);
    EXPECT_EQ(schi_lowest_bit(max), 0);
}

TEST(kit_rng) {
    const uint32_t limits[] = {1, 2, 3, 7, 1000, UINT32_C(1) << 31, UINT32_MAX};
    const uint64_t seed = test_random();
    unsigned seen[7] = {0}, same = 0;
    schi_rng a, b, c;

    schi_rng_init(&a, seed), schi_rng_init(&b, seed), schi_rng_init(&c, seed + 1);
    for (int i = 0; i < 10000; i++) {
        uint32_t limit = limits[i % 7], x = schi_rng_below(&a, limit);
        if (!EXPECT(x < limit)) return;
        if (!EXPECT_EQ(x, schi_rng_below(&b, limit))) return; /* the seed decides */
        same += schi_rng_below(&c, limit) == x && limit >= 1000;
    }
    EXPECT(same < 100); /* a neighbouring seed goes another way */
    for (int i = 0; i < 70000; i++) seen[schi_rng_below(&a, 7)]++;
    for (int i = 0; i < 7; i++) EXPECT(seen[i] > 9000 && seen[i] < 11000);

    /* The one seed that is mixed to 0, from which the generator would never come away. */
    schi_rng_init(&a, 0 - UINT64_C(0x9e3779b97f4a7c15));
    EXPECT(schi_mix(0 - UINT64_C(0x9e3779b97f4a7c15)) == 0);
    same = 0;
    for (int i = 0; i < 100; i++) same += schi_rng_below(&a, 1000) == 0;
    EXPECT(same < 20);
}

/* Parker ----------------------------------------------------------------------------------------*/

/* One that its owner takes all the time, and three others now and then: who has it is alone. */
typedef struct kit_biased {
    schi_biased_lock lock;
    SCHI_CELL(unsigned) first, second; /* under lock: the same */
    SCHI_ATOMIC(uint32_t) rounds; /* of the owner */
    unsigned left;                /* atomic */
    size_t times;                 /* fixed: of each of the others */
    size_t plain, torn;           /* the owner's; torn: atomic */
} kit_biased;

static bool kit_biased_take(kit_biased *k, schi_biased_lock *own) {
    const bool plain = schi_biased_lock_by(&k->lock, own);
    if (schi_rd(&k->first) != schi_rd(&k->second)) {
        __atomic_add_fetch(&k->torn, 1, __ATOMIC_RELAXED);
    }
    schi_wr(&k->first, schi_rd(&k->first) + 1);
    schi_compiler_barrier();
    schi_wr(&k->second, schi_rd(&k->second) + 1);
    schi_biased_unlock(&k->lock, plain);
    return plain;
}

static void kit_biased_work(void *arg, unsigned me) {
    kit_biased *k = (kit_biased *)arg;
    while (me == 0 && __atomic_load_n(&k->left, __ATOMIC_ACQUIRE) > 0) {
        const uint32_t round = schi_load_rlx(&k->rounds);
        k->plain += kit_biased_take(k, &k->lock);
        if (round % 50000 == 0) schi_biased_share(&k->lock);
        schi_store_rlx(&k->rounds, round + 1);
    }
    for (size_t i = 0; me > 0 && i < k->times; i++) {
        const uint32_t round = schi_load_rlx(&k->rounds);
        (void)kit_biased_take(k, NULL);
        while (schi_load_rlx(&k->rounds) - round < SCHI_BIAS_ROW * me) schi_os_yield();
    }
    if (me > 0) __atomic_sub_fetch(&k->left, 1, __ATOMIC_RELEASE);
}

static void kit_biased_run(bool may_keep) {
    kit_biased k;
    memset(&k, 0, sizeof k);
    schi_biased_init(&k.lock);
    if (may_keep) schi_biased_may_keep(&k.lock);
    k.left = 3;
    k.times = test_scale(300);
    crew_run(4, kit_biased_work, &k);
    EXPECT_EQ(k.torn, 0);
    EXPECT_EQ(schi_rd(&k.first), schi_load_rlx(&k.rounds) + 3 * k.times);
    EXPECT_EQ(schi_rd(&k.second), schi_rd(&k.first));
    EXPECT_EQ(k.plain > 0, may_keep);
}

/* An owner who was stopped in the middle: whoever else comes is told so, and nothing is taken. */
TEST(kit_bias_owner_stopped_inside) {
    schi_biased_lock l;
    bool plain;
    if (!schi_barrier_open()) SKIP("no barrier on all threads here");
    schi_biased_init(&l);
    schi_biased_may_keep(&l);
    for (int i = 0; i <= SCHI_BIAS_ROW; i++) schi_biased_unlock(&l, schi_biased_lock_by(&l, &l));
    plain = schi_biased_lock_by(&l, &l);
    EXPECT(plain);
    EXPECT_EQ(schi_bias_revoke(&l.bias, SCHI_INSIDE_YIELDS), -EBUSY);
    EXPECT(!schi_biased_try_other(&l));
    EXPECT_EQ(schi_load_seq(&l.bias.state), SCHI_REVOKED);
    EXPECT_EQ(schi_load_seq(&l.spin.taken), 0); /* he could go on meanwhile */
    schi_biased_unlock(&l, plain);
    EXPECT(!schi_bias_enter(&l.bias)); /* not before he has shared it */
    EXPECT(schi_biased_try_other(&l));
    EXPECT_EQ(schi_load_seq(&l.bias.state), SCHI_SHARED);
    schi_biased_unlock(&l, false);
    EXPECT_EQ(schi_counted(&l.bias.num_revoked), 3);
}

/* The same where the owner may not be waited for, wherever he was stopped: there is not even a
 * barrier, and he keeps it. */
TEST(kit_biased_lock_owner_is_not_waited_for) {
    schi_biased_lock l;
    bool plain;
    schi_biased_init(&l);
    if (schi_barrier_open()) schi_biased_may_keep(&l);
    for (int round = 0; round < 2; round++) { /* by the spinlock; by plain stores, if he can */
        plain = schi_biased_lock_by(&l, &l);
        EXPECT_EQ(plain, round > 0 && l.may_keep);
        for (int i = 0; i < 3; i++) EXPECT(!schi_biased_try_owned(&l, i > 0));
        EXPECT_EQ(schi_counted(&l.bias.num_revoked), 0);
        schi_biased_unlock(&l, plain);
        for (int i = 0; i <= SCHI_BIAS_ROW; i++) {
            schi_biased_unlock(&l, schi_biased_lock_by(&l, &l));
        }
    }
    EXPECT(schi_biased_try_owned(&l, false));
    EXPECT_EQ(schi_counted(&l.bias.num_revoked), l.may_keep);
    EXPECT(!schi_biased_try_owned(&l, true));
    schi_biased_unlock(&l, false);
    EXPECT_EQ(schi_load_seq(&l.bias.state), SCHI_SHARED);
}

/* When it is kept, and when no more: who was disturbed has to have it ROW times alone again. */
TEST(kit_biased_lock_row) {
    schi_biased_lock l;
    if (!schi_barrier_open()) SKIP("no barrier on all threads here");
    schi_biased_init(&l);
    schi_biased_may_keep(&l);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i <= SCHI_BIAS_ROW; i++) {
            const bool plain = schi_biased_lock_by(&l, &l);
            EXPECT(!plain);
            schi_biased_unlock(&l, plain);
        }
        for (int i = 0; i < 3; i++) {
            const bool plain = schi_biased_lock_by(&l, &l);
            EXPECT_EQ(plain, i != 1);
            schi_biased_unlock(&l, plain);
            if (i == 0) schi_biased_share(&l); /* the next time by the spinlock, and kept again */
        }
        schi_biased_unlock(&l, schi_biased_lock_by(&l, NULL)); /* somebody else */
        EXPECT_EQ(schi_load_seq(&l.bias.state), SCHI_SHARED);
        EXPECT_EQ(schi_counted(&l.bias.num_revoked), (uint64_t)round + 1);
    }
}

TEST(kit_biased_lock) {
    kit_biased_run(false);
    if (!schi_barrier_open()) SKIP("no barrier on all threads here");
    kit_biased_run(true);
}

TEST(kit_parker_token) {
    schi_parker p;
    EXPECT_EQ(schi_parker_init(&p), 0);
    for (int i = 0; i < 3; i++) schi_unpark(&p, NULL); /* many are one, and are kept */
    EXPECT(schi_park(&p, UINT64_MAX));
    EXPECT(!schi_park(&p, 0));
    schi_unpark(&p, NULL);
    EXPECT(schi_park(&p, 0)); /* a wake wins over a deadline that has passed */

    uint64_t deadline = schi_now_ns() + 20 * SCH_MILLISECOND;
    EXPECT(!schi_park(&p, deadline));
    EXPECT(schi_now_ns() >= deadline);
    EXPECT_EQ(schi_load_seq(&p.state), SCHI_PARKER_EMPTY);
    schi_parker_drop(&p);
}

typedef struct kit_spin {
    schi_parker parker;
    unsigned spins; /* atomic: begun */
} kit_spin;

static void kit_wake_who_spins(void *arg, unsigned me) {
    kit_spin *s = (kit_spin *)arg;
    if (me == 0) {
        support_count(&s->spins);
        EXPECT(schi_parker_spin(&s->parker, UINT64_MAX));
    } else {
        WAIT_FOR(support_get(&s->spins) > 0);
        schi_unpark(&s->parker, NULL);
    }
}

/* A spin ends by a wake, which it leaves to park, or when its time is over. */
TEST(kit_parker_spin) {
    kit_spin s;
    EXPECT_EQ(schi_parker_init(&s.parker), 0);
    EXPECT(!schi_parker_spin(&s.parker, 0));
    uint64_t begin = schi_now_ns();
    EXPECT(!schi_parker_spin(&s.parker, 20000));
    EXPECT(schi_now_ns() - begin >= 20000);
    s.spins = 0;
    crew_run(2, kit_wake_who_spins, &s);
    EXPECT(schi_parker_spin(&s.parker, 0));
    EXPECT(schi_park(&s.parker, UINT64_MAX));
    EXPECT(!schi_parker_spin(&s.parker, 0));
    schi_parker_drop(&s.parker);
}

/* Two threads hand a plain counter to and fro. */
typedef struct kit_table {
    schi_parker parkers[2];
    schi_alarm alarms[2];
    bool in_alarm;
    size_t rounds, counter; /* counter: whoever was unparked last */
} kit_table;

static void kit_player(void *arg, unsigned me) {
    kit_table *t = (kit_table *)arg;
    for (size_t i = 0; i < t->rounds; i++) {
        if (t->in_alarm) {
            while (!schi_park_alarm(&t->parkers[me], &t->alarms[me], UINT64_MAX)) continue;
        } else if (!EXPECT(schi_park(&t->parkers[me], UINT64_MAX))) {
            return;
        }
        if (!EXPECT_EQ(t->counter, 2 * i + me)) return;
        t->counter++;
        schi_unpark(&t->parkers[!me], t->in_alarm ? &t->alarms[!me] : NULL);
    }
}

static void kit_ping_pong(bool in_alarm, size_t rounds) {
    kit_table t;
    memset(&t, 0, sizeof t);
    t.rounds = rounds, t.in_alarm = in_alarm;
    for (int i = 0; i < 2; i++) {
        EXPECT_EQ(schi_parker_init(&t.parkers[i]), 0);
        EXPECT_EQ(schi_alarm_init(&t.alarms[i]), 0);
    }
    schi_unpark(&t.parkers[0], in_alarm ? &t.alarms[0] : NULL);
    crew_run(2, kit_player, &t);
    EXPECT_EQ(t.counter, 2 * rounds);
    for (int i = 0; i < 2; i++) schi_parker_drop(&t.parkers[i]), schi_alarm_drop(&t.alarms[i]);
}

TEST(kit_parker_ping_pong) { kit_ping_pong(false, test_scale(100000)); }
TEST(kit_parker_alarm_ping_pong) { kit_ping_pong(true, test_scale(40000)); }

/* Wakes that come about when the sleeper's time is up: each counts once, none is lost. */
typedef struct kit_race {
    schi_parker parker;
    size_t wakes, sent, taken; /* sent, taken: atomic */
    uint64_t deadline;         /* atomic: of the sleep that is under way */
    uint32_t late;             /* atomic: how late the sleeper woke the last time */
} kit_race;

static void kit_race_sleep(kit_race *r, schi_rng *rng) {
    for (size_t n = 0; n < r->wakes;) {
        uint64_t deadline = schi_now_ns() + schi_rng_below(rng, 20000);
        __atomic_store_n(&r->deadline, deadline, __ATOMIC_RELAXED);
        if (!schi_park(&r->parker, deadline)) {
            __atomic_store_n(&r->late, (uint32_t)(schi_now_ns() - deadline), __ATOMIC_RELAXED);
            continue;
        }
        if (!EXPECT_EQ(__atomic_load_n(&r->sent, __ATOMIC_RELAXED), ++n)) return;
        __atomic_store_n(&r->taken, n, __ATOMIC_RELEASE);
    }
}

static void kit_race_wake(kit_race *r, schi_rng *rng) {
    for (size_t n = 0; n < r->wakes;) {
        if (__atomic_load_n(&r->taken, __ATOMIC_ACQUIRE) < n) { /* the last one is on its way */
            sched_yield();
            continue;
        }
        uint64_t when = __atomic_load_n(&r->deadline, __ATOMIC_RELAXED);
        uint32_t late = __atomic_load_n(&r->late, __ATOMIC_RELAXED);
        late = (late > 100000 ? 100000 : late) + schi_rng_below(rng, 8000);
        when += late > 4000 ? late - 4000 : 0;
        for (unsigned i = 1; schi_now_ns() < when; i++) {
            if (i % 500 == 0) sched_yield();
        }
        __atomic_store_n(&r->sent, ++n, __ATOMIC_RELAXED);
        schi_unpark(&r->parker, NULL);
    }
}

static void kit_racer(void *arg, unsigned me) {
    kit_race *r = (kit_race *)arg;
    schi_rng rng;
    schi_rng_init(&rng, test_seed() + me);
#if SCHI_LINUX
    SCHI_SYS(SYS_prctl, 29 /* PR_SET_TIMERSLACK */, 1, 0, 0, 0); /* time-outs when they are due */
#endif
    if (me == 0) {
        kit_race_sleep(r, &rng);
    } else {
        kit_race_wake(r, &rng);
    }
}

TEST(kit_parker_deadline_race) {
    kit_race r;
    memset(&r, 0, sizeof r);
    r.wakes = test_scale(4000);
    EXPECT_EQ(schi_parker_init(&r.parker), 0);
    crew_run(2, kit_racer, &r);
    EXPECT(!schi_park(&r.parker, 0)); /* no wake came twice */
    schi_parker_drop(&r.parker);
}

/* A signal handler that runs meanwhile ends no sleep. */
typedef struct kit_nap {
    schi_parker parker;
    bool over; /* atomic */
    pthread_t sleeper;
    int begun; /* atomic: 1 the naps, 2 the sleep */
} kit_nap;

static void kit_handler(int number) { (void)number; }

static void kit_disturb(void *arg, unsigned me) {
    kit_nap *nap = (kit_nap *)arg;
    if (me == 0) {
        uint64_t deadline;
        nap->sleeper = pthread_self();
        __atomic_store_n(&nap->begun, 1, __ATOMIC_RELEASE);
        for (int i = 0; i < 10; i++) {
            deadline = schi_now_ns() + SCH_MILLISECOND;
            EXPECT(!schi_park(&nap->parker, deadline));
            EXPECT(schi_now_ns() >= deadline);
        }
        __atomic_store_n(&nap->begun, 2, __ATOMIC_RELEASE);
        EXPECT(schi_park(&nap->parker, UINT64_MAX));
        __atomic_store_n(&nap->over, true, __ATOMIC_RELEASE);
        return;
    }
    while (!__atomic_load_n(&nap->begun, __ATOMIC_ACQUIRE)) sched_yield();
    for (int i = 0; i < 200 || __atomic_load_n(&nap->begun, __ATOMIC_ACQUIRE) != 2; i++) {
        pthread_kill(nap->sleeper, SIGUSR1);
        support_nap(100);
    }
    EXPECT(!__atomic_load_n(&nap->over, __ATOMIC_ACQUIRE));
    schi_unpark(&nap->parker, NULL);
}

TEST(kit_parker_signals) {
    struct sigaction action, before;
    kit_nap nap;
    memset(&nap, 0, sizeof nap);
    memset(&action, 0, sizeof action);
    action.sa_handler = kit_handler; /* without SA_RESTART: system calls are cut short */
    EXPECT_EQ(sigaction(SIGUSR1, &action, &before), 0);
    EXPECT_EQ(schi_parker_init(&nap.parker), 0);
    crew_run(2, kit_disturb, &nap);
    schi_parker_drop(&nap.parker);
    EXPECT_EQ(sigaction(SIGUSR1, &before, NULL), 0);
}

TEST(kit_parker_alarm) {
    schi_parker p;
    schi_alarm a;
    EXPECT_EQ(schi_parker_init(&p), 0);
    EXPECT_EQ(schi_alarm_init(&a), 0);
    schi_unpark(&p, &a);
    EXPECT(schi_park_alarm(&p, &a, UINT64_MAX)); /* kept, without the alarm */
    schi_alarm_set(&a, SCH_MILLISECOND);
    EXPECT(!schi_park_alarm(&p, &a, UINT64_MAX)); /* it rang: no wake */
    EXPECT_EQ(schi_load_seq(&p.state), SCHI_PARKER_EMPTY);
    schi_alarm_drop(&a);
    schi_parker_drop(&p);
}

/* Event -----------------------------------------------------------------------------------------*/

typedef struct kit_occasion {
    schi_event event;
    int before; /* written before the event, read after it */
} kit_occasion;

static void kit_witness(void *arg, unsigned me) {
    kit_occasion *o = (kit_occasion *)arg;
    if (me == 0) {
        o->before = 42;
        schi_event_set(&o->event);
    } else {
        EXPECT(schi_event_wait(&o->event, UINT64_MAX));
        EXPECT_EQ(o->before, 42);
    }
}

TEST(kit_event) {
    for (size_t round = test_scale(200); round > 0; round--) {
        kit_occasion o;
        memset(&o, 0, sizeof o);
        EXPECT_EQ(schi_event_init(&o.event), 0);
        EXPECT(!schi_event_is_set(&o.event));
        EXPECT(!schi_event_wait(&o.event, 0));
        crew_run(4, kit_witness, &o);
        EXPECT(schi_event_is_set(&o.event));
        EXPECT(schi_event_wait(&o.event, 0)); /* for ever */
        schi_event_drop(&o.event);
    }
    kit_occasion o;
    EXPECT_EQ(schi_event_init(&o.event), 0);
    uint64_t deadline = schi_now_ns() + 10 * SCH_MILLISECOND;
    EXPECT(!schi_event_wait(&o.event, deadline));
    EXPECT(schi_now_ns() >= deadline);
    schi_event_drop(&o.event);
}
