/* wheel.c - [8]: the timer wheel against a plain array, in virtual time. */
#include "support.h"

#define WHEEL_TIMERS 512

typedef struct wheel_case {
    schi_wheel *w;
    sch_timer timers[WHEEL_TIMERS];
    uint64_t deadlines[WHEEL_TIMERS]; /* of those that are armed */
    uint64_t now;
    size_t fired, removed;
} wheel_case;

static wheel_case *wheel_new(uint64_t now) {
    wheel_case *c = (wheel_case *)calloc(1, sizeof *c);
    if (!c) abort();
    c->w = (schi_wheel *)aligned_alloc(SCH_CACHELINE, sizeof *c->w);
    if (!c->w) abort();
    schi_wheel_init(c->w, now);
    if (schi_barrier_open()) schi_biased_may_keep(&c->w->lock);
    c->now = now;
    return c;
}

static void wheel_free(wheel_case *c) {
    free(c->w);
    free(c);
}

/* A number of random magnitude. */
static uint64_t wheel_random(unsigned bits) {
    const uint64_t value = test_random();
    return value >> (64 - bits + test_random() % bits);
}

static void wheel_arm(wheel_case *c, size_t i, uint64_t deadline) {
    c->deadlines[i] = c->timers[i].until = deadline;
    EXPECT(schi_wheel_insert(c->w, c->w, &c->timers[i]) <= (deadline | 0xfffff) + 1);
    EXPECT(c->timers[i].armed);
}

/* Time goes on: what fires was due, in the order of ticks; what is left is due later. */
static void wheel_advance(wheel_case *c, uint64_t now) {
    uint64_t last = 0;
    sch_timer *t;
    c->now = now;
    while ((t = schi_wheel_expire(c->w, now)) != NULL) {
        const size_t i = (size_t)(t - c->timers);
        EXPECT(!t->armed);
        EXPECT(c->deadlines[i] <= now); /* never early */
        EXPECT(schi_timer_tick(t) >= last);
        EXPECT_EQ(t->op.result, 0);
        last = schi_timer_tick(t);
        c->fired++;
    }
}

/* Nothing is forgotten, and the wheel knows when to be looked at. */
static void wheel_check(wheel_case *c) {
    uint64_t first = SCH_FOREVER, armed = 0;
    for (size_t i = 0; i < WHEEL_TIMERS; i++) {
        if (!c->timers[i].armed) continue;
        armed++;
        EXPECT(c->deadlines[i] > c->now >> SCHI_TICK_SHIFT << SCHI_TICK_SHIFT);
        if (c->deadlines[i] < first) first = c->deadlines[i];
    }
    EXPECT_EQ(schi_wheel_len(c->w), armed);
    if (armed == 0) EXPECT_EQ(schi_load_seq(&c->w->next), SCH_FOREVER);
    if (armed > 0) EXPECT(schi_load_seq(&c->w->next) <= (first | 0xfffff) + 1);
}

TEST(wheel_random) {
    wheel_case *c = wheel_new(test_random() >> (1 + test_random() % 40));
    for (size_t n = test_scale(400000); n > 0; n--) {
        const size_t i = test_random() % WHEEL_TIMERS;
        switch (test_random() % 5) {
        case 0:
        case 1:
            if (!c->timers[i].armed) wheel_arm(c, i, c->now + 1 + wheel_random(62));
            break;
        case 2:
            if (c->timers[i].armed) {
                EXPECT(schi_wheel_remove(c->w, c->w, &c->timers[i]));
                EXPECT(!c->timers[i].armed);
                EXPECT_EQ(c->timers[i].op.result, 0);
                c->removed++;
            } else {
                /* expired, or removed before; by anybody */
                EXPECT(!schi_wheel_remove(c->w, n % 8 ? c->w : NULL, &c->timers[i]));
            }
            break;
        case 3: wheel_advance(c, c->now + wheel_random(34)); break;
        default: { /* just to where it wants to be looked at, or a little further */
            const uint64_t next = schi_load_seq(&c->w->next);
            if (next == SCH_FOREVER || test_random() % 4) break;
            wheel_advance(c, (next > c->now ? next : c->now) + test_random() % 3000000);
        }
        }
        if (n % 64 == 0) wheel_check(c);
    }
    EXPECT(c->fired > 100 && c->removed > 100);
    wheel_free(c);
}

/* tokio#8334, #5536, #2473, #6634: the ends of each level, and of time. */
TEST(wheel_edges) {
    for (unsigned bits = 0; bits < 44; bits++) {
        for (int before = 0; before < 2; before++) {
            const uint64_t tick = ((uint64_t)1 << bits) - (uint64_t)before;
            wheel_case *c = wheel_new(0);
            if (tick == 0) {
                wheel_free(c);
                continue;
            }
            wheel_arm(c, 0, tick << SCHI_TICK_SHIFT);
            wheel_advance(c, (tick << SCHI_TICK_SHIFT) - 1);
            EXPECT_EQ(c->fired, 0u);
            wheel_check(c);
            wheel_advance(c, tick << SCHI_TICK_SHIFT);
            EXPECT_EQ(c->fired, 1u);
            wheel_check(c);
            wheel_free(c);
        }
    }
}

/* A wheel that sleeps from one hint to the next fires each timer in a bounded number of looks. */
TEST(wheel_hints_lead_to_expiry) {
    for (size_t n = test_scale(2000); n > 0; n--) {
        wheel_case *c = wheel_new(wheel_random(60));
        unsigned looks = 0;
        wheel_arm(c, 0, c->now + 1 + wheel_random(63));
        while (c->timers[0].armed && looks < 100) {
            wheel_advance(c, schi_load_seq(&c->w->next));
            looks++;
        }
        EXPECT_EQ(c->fired, 1u);
        EXPECT(looks <= SCHI_WHEEL_LEVELS);
        EXPECT(c->now - c->deadlines[0] <= 1u << SCHI_TICK_SHIFT);
        wheel_free(c);
    }
}

/* Armed and removed by several threads while another one expires: each timer ends once. Thread 0
 * holds the wheel's core. */
typedef struct wheel_shared {
    schi_wheel *w;
    sch_timer timers[4][8];
    size_t fired[4], removed[4], armed[4]; /* fired: atomic */
    SCHI_ATOMIC(unsigned) left;
    SCHI_ATOMIC(uint64_t) now;
} wheel_shared;

static void wheel_crew(void *arg, unsigned me) {
    wheel_shared *s = (wheel_shared *)arg;
    schi_wheel *own = me == 0 ? s->w : NULL;
    schi_rng rng;
    sch_timer *t;
    schi_rng_init(&rng, test_random());
    if (me == 4) {
        do {
            const uint64_t now = schi_add_seq(&s->now, UINT64_C(1) << 19);
            const bool plain = schi_wheel_lock(s->w, own);
            while ((t = schi_wheel_expire(s->w, now)) != NULL) {
                __atomic_add_fetch(&s->fired[(t - &s->timers[0][0]) / 8], 1, __ATOMIC_RELAXED);
            }
            schi_wheel_unlock(s->w, plain);
            sched_yield();
        } while (schi_load_seq(&s->left) > 0);
        return;
    }
    for (size_t n = test_scale(50000); n > 0; n--) {
        t = &s->timers[me][schi_rng_below(&rng, 8)];
        if (schi_wheel_remove(s->w, own, t)) s->removed[me]++;
        t->until = schi_load_seq(&s->now) + 1 + schi_rng_below(&rng, 200u << 20);
        schi_wheel_insert(s->w, own, t);
        s->armed[me]++;
    }
    for (int i = 0; i < 8; i++) {
        if (schi_wheel_remove(s->w, own, &s->timers[me][i])) s->removed[me]++;
    }
    schi_sub_seq(&s->left, 1u);
}

TEST(wheel_threads) {
    wheel_shared *s = (wheel_shared *)calloc(1, sizeof *s);
    if (!s) abort();
    s->w = (schi_wheel *)aligned_alloc(SCH_CACHELINE, sizeof *s->w);
    if (!s->w) abort();
    schi_wheel_init(s->w, 0);
    if (schi_barrier_open()) schi_biased_may_keep(&s->w->lock);
    schi_store_seq(&s->left, 4u);
    crew_run(5, wheel_crew, s);
    for (int i = 0; i < 4; i++) EXPECT_EQ(s->armed[i], s->removed[i] + s->fired[i]);
    EXPECT_EQ(schi_wheel_len(s->w), 0u);
    free(s->w);
    free(s);
}

/* Very many: a million armed at once fire in the order of their ticks; ten million are armed and
 * given up beside them. */
TEST(wheel_a_million) {
    size_t n = test_scale(1000000), pairs = test_scale(10000000), fired = 0;
    uint64_t start = test_random() >> 2, last = 0, now;
    sch_timer *timers = (sch_timer *)calloc(n + 1, sizeof *timers), *t;
    wheel_case *c = wheel_new(start);
    if (!timers) abort();
    for (size_t i = 0; i < n; i++) {
        timers[i].until = start + 1 + test_random() % (3600 * SCH_SECOND);
        (void)schi_wheel_insert(c->w, c->w, &timers[i]);
    }
    EXPECT_EQ(schi_wheel_len(c->w), n);
    for (size_t i = 0; i < pairs; i++) {
        timers[n].until = start + 1 + test_random() % (9 * SCH_SECOND);
        (void)schi_wheel_insert(c->w, c->w, &timers[n]);
        if (!EXPECT(schi_wheel_remove(c->w, c->w, &timers[n]))) break;
    }
    EXPECT(!schi_wheel_remove(c->w, NULL, &timers[n])); /* once */
    EXPECT_EQ(schi_wheel_len(c->w), n);
    for (now = start; fired < n && now < start + 3602 * SCH_SECOND; now += SCH_SECOND) {
        while ((t = schi_wheel_expire(c->w, now)) != NULL) {
            const uint64_t tick = schi_timer_tick(t);
            if (!EXPECT(tick >= last && tick << SCHI_TICK_SHIFT <= now)) break;
            last = tick;
            fired++;
        }
    }
    EXPECT_EQ(fired, n);
    EXPECT_EQ(schi_wheel_len(c->w), 0);
    wheel_free(c);
    free(timers);
}

/* A batch is full only of those who are granted: of many timers of one waiter the first claims it,
 * and whoever comes after them must not be left behind. */
TEST(wheel_collect_goes_on) {
    wheel_case *c = wheel_new(SCH_SECOND);
    schi_waiter many, late;
    schi_expired due;
    memset(&many, 0, sizeof many);
    memset(&late, 0, sizeof late);
    for (size_t i = 0; i < 3 * SCHI_EXPIRE_BATCH; i++) {
        c->timers[i].op.type = &schi_timer_type;
        c->timers[i].op.waiter = &many;
        wheel_arm(c, i, SCH_SECOND + 5 * SCH_MILLISECOND);
    }
    c->timers[WHEEL_TIMERS - 1].op.type = &schi_timer_type;
    c->timers[WHEEL_TIMERS - 1].op.waiter = &late;
    wheel_arm(c, WHEEL_TIMERS - 1, 2 * SCH_SECOND);
    due.num = 0;
    EXPECT(schi_wheel_collect(c->w, c->w, 3 * SCH_SECOND, &due));
    EXPECT_EQ(due.num, 2);
    EXPECT(due.list[0].waiter == &many && due.list[1].waiter == &late);
    EXPECT_EQ(schi_wheel_len(c->w), 0);
    EXPECT_EQ(schi_load_seq(&c->w->next), SCH_FOREVER);
    for (size_t i = 0; i < 3 * SCHI_EXPIRE_BATCH; i++) EXPECT(sch_op_is_done(&c->timers[i].op));
    wheel_free(c);
}
