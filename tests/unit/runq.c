/* runq.c - [5.1]: the ring and the LIFO slot in front of it. */
#include "support.h"

#define RUNQ_CAP ((unsigned)SCH_RUNQ_CAP)

typedef struct runq_item {
    schi_node node; /* first */
    unsigned id;    /* written by the pusher, read by whoever gets it */
    unsigned seen;  /* atomic: how often it came out */
} runq_item;

/* The id of a node that came out; -1 for none. */
static long runq_id(schi_node *node) { return node ? (long)((runq_item *)(void *)node)->id : -1; }

static runq_item *runq_items(size_t n) {
    runq_item *items = (runq_item *)calloc(n, sizeof *items);
    if (!items) abort();
    for (size_t i = 0; i < n; i++) {
        items[i].id = (unsigned)i;
        schi_wr(&items[i].node.next, &items[0].node); /* nothing to rely on */
    }
    return items;
}

static SCHI_INDEX runq_near_wrap(void) {
    return (SCHI_INDEX)(0 - test_random() % (2 * SCH_RUNQ_CAP));
}

/* The queue holds n items, ids from `first` on, and nobody steals. */
static void runq_fill(schi_runq *q, runq_item *items, unsigned first, unsigned n) {
    schi_runq_init(q, runq_near_wrap());
    for (unsigned i = 0; i < n; i++) {
        if (!EXPECT_EQ(schi_runq_push(q, &items[first + i].node), i + 1)) return;
    }
}

static void runq_expect_pops(schi_runq *q, unsigned first, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        if (!EXPECT_EQ(runq_id(schi_runq_pop(q)), first + i)) return;
    }
    EXPECT(schi_runq_pop(q) == NULL);
    EXPECT_EQ(schi_runq_len(q), 0);
}

/* The first of them; the others are in the ring. */
static schi_node *runq_steal(schi_runq *victim, schi_runq *to, SCHI_INDEX *count) {
    schi_node *first = schi_runq_steal(victim, to, count);
    if (*count > 1) schi_runq_extend(to, (SCHI_INDEX)(*count - 1));
    return first;
}

TEST(runq_full) {
    runq_item *items = runq_items(RUNQ_CAP + 1);
    schi_runq q;
    runq_fill(&q, items, 0, RUNQ_CAP);
    EXPECT_EQ(schi_runq_len(&q), RUNQ_CAP);
    EXPECT_EQ(schi_runq_push(&q, &items[RUNQ_CAP].node), 0);
    EXPECT_EQ(runq_id(schi_runq_pop(&q)), 0);
    EXPECT_EQ(schi_runq_push(&q, &items[RUNQ_CAP].node), RUNQ_CAP);
    EXPECT_EQ(schi_runq_push(&q, &items[0].node), 0);
    schi_runq_check(&q);
    runq_expect_pops(&q, 1, RUNQ_CAP);
    free(items);
}

TEST(runq_take_half) {
    runq_item *items = runq_items(RUNQ_CAP);
    for (unsigned n = 0; n <= RUNQ_CAP; n++) {
        schi_runq q;
        schi_node *first = NULL, *last = NULL;
        unsigned half = n / 2;
        runq_fill(&q, items, 0, n);
        EXPECT_EQ(schi_runq_take_half(&q, &first, &last), half);
        schi_runq_check(&q);
        for (unsigned i = 0; i < half; i++) { /* the older half, in order, ended by NULL */
            if (!EXPECT_EQ(runq_id(first), i)) break;
            if (i + 1 == half) EXPECT(first == last);
            first = schi_rd(&first->next);
        }
        EXPECT(first == NULL);
        runq_expect_pops(&q, half, n - half);
    }
    free(items);
}

TEST(runq_steal_half) {
    runq_item *items = runq_items(RUNQ_CAP);
    for (unsigned n = 0; n <= RUNQ_CAP; n++) {
        schi_runq victim, thief;
        SCHI_INDEX count = 77;
        unsigned half = (n + 1) / 2;
        runq_fill(&victim, items, 0, n);
        runq_fill(&thief, items, 0, 0);
        EXPECT_EQ(runq_id(runq_steal(&victim, &thief, &count)), n ? 0 : -1);
        EXPECT_EQ(count, half);
        schi_runq_check(&victim), schi_runq_check(&thief);
        EXPECT_EQ(schi_runq_len(&thief), half ? half - 1 : 0);
        runq_expect_pops(&thief, 1, half ? half - 1 : 0); /* the older half, in order */
        runq_expect_pops(&victim, half, n - half);
    }
    free(items);
}

TEST(runq_steal_into_full) {
    runq_item *items = runq_items(2 * RUNQ_CAP);
    for (unsigned n = RUNQ_CAP / 2 - 1; n <= RUNQ_CAP / 2 + 1; n++) {
        schi_runq victim, thief;
        SCHI_INDEX count = 77;
        unsigned half = n <= RUNQ_CAP / 2 ? RUNQ_CAP / 2 : 0;
        runq_fill(&thief, items, 0, n);
        runq_fill(&victim, items, RUNQ_CAP, RUNQ_CAP);
        EXPECT_EQ(runq_id(runq_steal(&victim, &thief, &count)), half ? RUNQ_CAP : -1L);
        EXPECT_EQ(count, half);
        EXPECT_EQ(schi_runq_len(&victim), RUNQ_CAP - half);
        EXPECT_EQ(schi_runq_len(&thief), n + (half ? half - 1 : 0));
        schi_runq_check(&thief);
    }
    free(items);
}

/* Between the two halves of a steal: the claimed slots stay as they are, whatever the owner does,
 * and no second thief and no overflow gets in. */
TEST(runq_steal_in_two_steps) {
    runq_item *items = runq_items(3 * RUNQ_CAP);
    for (unsigned n = 1; n <= RUNQ_CAP; n += 1 + (unsigned)(test_random() % 5)) {
        schi_runq q, other;
        schi_node *first = NULL, *last = NULL;
        SCHI_INDEX from = 0, count = 0;
        unsigned half = (n + 1) / 2, next = n;
        runq_fill(&q, items, 0, n);
        runq_fill(&other, items, 0, 0);
        if (!EXPECT_EQ(schi_runq_steal_begin(&q, RUNQ_CAP, &from), half)) break;
        EXPECT_EQ(schi_runq_len(&q), n - half);
        EXPECT(runq_steal(&q, &other, &count) == NULL);
        EXPECT_EQ(count, 0);
        EXPECT_EQ(schi_runq_take_half(&q, &first, &last), 0);
        while (schi_runq_push(&q, &items[next].node)) next++; /* CAP, less what is claimed */
        EXPECT_EQ(next, RUNQ_CAP);
        for (unsigned i = half; i < next; i++) EXPECT_EQ(runq_id(schi_runq_pop(&q)), i);
        EXPECT(schi_runq_pop(&q) == NULL);
        EXPECT_EQ(schi_runq_push(&q, &items[next].node), 0); /* popping makes no room meanwhile */
        /* Into a ring that is being stolen from: what is claimed counts as occupied. */
        runq_fill(&other, items, 0, 2);
        EXPECT(runq_steal(&other, &q, &count) == NULL);
        for (unsigned i = 0; i < half; i++) {
            EXPECT_EQ(runq_id(schi_rd(&q.slots[(SCHI_INDEX)(from + i) & SCHI_RUNQ_MASK])), i);
        }
        schi_runq_check(&q);
        schi_runq_steal_end(&q);
        schi_runq_check(&q);
        for (unsigned i = 0; i < RUNQ_CAP; i++) {
            EXPECT_EQ(schi_runq_push(&q, &items[next + i].node), i + 1);
        }
        runq_expect_pops(&q, next, RUNQ_CAP);
    }
    schi_runq q;
    SCHI_INDEX from = 0;
    runq_fill(&q, items, 0, RUNQ_CAP);
    EXPECT_EQ(schi_runq_steal_begin(&q, 1, &from), 1); /* at most so many */
    schi_runq_steal_end(&q);
    runq_expect_pops(&q, 1, RUNQ_CAP - 1);
    free(items);
}

/* Two rings and a list beside them, at random: what comes out is what the rules say. */
typedef struct runq_model {
    unsigned ids[2 * SCH_RUNQ_CAP], begin, end;
} runq_model;

static long runq_model_pop(runq_model *m) {
    return m->begin < m->end ? (long)m->ids[m->begin++] : -1;
}

static void runq_model_push(runq_model *m, long id) {
    if (m->end == 2 * RUNQ_CAP) {
        memmove(m->ids, m->ids + m->begin, (m->end - m->begin) * sizeof m->ids[0]);
        m->end -= m->begin, m->begin = 0;
    }
    m->ids[m->end++] = (unsigned)id;
}

TEST(runq_random) {
    const size_t steps = test_scale(400000);
    runq_item *items = runq_items(2 * RUNQ_CAP);
    schi_node *idle = NULL; /* items that are in no ring */
    runq_model models[2];
    schi_runq rings[2];
    memset(models, 0, sizeof models);
    for (unsigned i = 0; i < 2 * RUNQ_CAP; i++) {
        schi_wr(&items[i].node.next, idle), idle = &items[i].node;
    }
    schi_runq_init(&rings[0], runq_near_wrap()), schi_runq_init(&rings[1], runq_near_wrap());

    for (size_t i = 0; i < steps; i++) {
        const uint64_t dice = test_random();
        const unsigned me = dice & 1, phase = i / 2000 % 2; /* fill up, empty, fill up, ... */
        runq_model *mine = &models[me], *theirs = &models[!me];
        schi_node *node = NULL, *last = NULL;
        SCHI_INDEX n = 0;
        unsigned kind = (unsigned)(dice >> 8) % 16, length = mine->end - mine->begin;
        if (kind < (phase ? 10u : 4u)) {
            if (!idle) continue;
            n = schi_runq_push(&rings[me], node = idle);
            if (!EXPECT_EQ(n, length < RUNQ_CAP ? length + 1 : 0)) break;
            if (n == 0) continue;
            idle = schi_rd(&node->next);
            runq_model_push(mine, runq_id(node));
        } else if (kind < 14) {
            node = schi_runq_pop(&rings[me]);
            if (!EXPECT_EQ(runq_id(node), runq_model_pop(mine))) break;
            if (node) schi_wr(&node->next, idle), idle = node;
        } else if (kind == 14) {
            n = schi_runq_take_half(&rings[me], &node, &last);
            if (!EXPECT_EQ(n, length / 2)) break;
            for (schi_node *next; n > 0; n--, node = next) {
                next = schi_rd(&node->next);
                EXPECT_EQ(runq_id(node), runq_model_pop(mine));
                schi_wr(&node->next, idle), idle = node;
            }
        } else {
            unsigned half = (theirs->end - theirs->begin + 1) / 2;
            if (length > RUNQ_CAP / 2) half = 0;
            node = runq_steal(&rings[!me], &rings[me], &n);
            if (!EXPECT_EQ(n, half) || !EXPECT_EQ(node != NULL, half > 0)) break;
            if (half == 0) continue;
            EXPECT_EQ(runq_id(node), runq_model_pop(theirs));
            while (--half > 0) runq_model_push(mine, runq_model_pop(theirs));
            schi_wr(&node->next, idle), idle = node;
        }
        schi_runq_check(&rings[0]), schi_runq_check(&rings[1]);
        if (!EXPECT_EQ(schi_runq_len(&rings[me]), mine->end - mine->begin)) break;
    }
    free(items);
}

TEST(runq_lifo) {
    runq_item *items = runq_items(2);
    schi_runq q;
    runq_fill(&q, items, 0, 0);
    EXPECT(schi_lifo_is_empty(&q));
    EXPECT(schi_lifo_take(&q) == NULL);
    EXPECT(schi_lifo_put(&q, &items[0].node) == NULL);
    EXPECT(!schi_lifo_is_empty(&q));
    EXPECT_EQ(schi_runq_len(&q), 0); /* the slot is not the ring */
    EXPECT_EQ(runq_id(schi_lifo_put(&q, &items[1].node)), 0);
    EXPECT_EQ(runq_id(schi_lifo_take(&q)), 1);
    EXPECT(schi_lifo_is_empty(&q));
    free(items);
}

/* One producer and three thieves, who also steal from each other. Overflow goes to an injector. The
 * producer keeps its ring to itself now and then, where the system has a barrier on all threads. */
typedef struct runq_stress {
    schi_runq rings[4];
    schi_inject inject;
    runq_item *items;
    size_t num_items, out; /* out: atomic */
    size_t steals, overflows, lifo_steals; /* atomic */
    bool has_barrier;
    size_t taken_back; /* atomic: visits to a ring that was kept just before */
} runq_stress;

static void runq_take(runq_stress *s, schi_node *node) {
    runq_item *item = (runq_item *)(void *)node;
    EXPECT_EQ(item->id, item - s->items);
    EXPECT_EQ(__atomic_fetch_add(&item->seen, 1u, __ATOMIC_RELAXED), 0);
    __atomic_fetch_add(&s->out, (size_t)1, __ATOMIC_RELAXED);
}

static void runq_put(runq_stress *s, unsigned me, schi_node *node) {
    schi_node *first = NULL, *last = NULL;
    SCHI_INDEX n;
    if (schi_runq_push(&s->rings[me], node)) return;
    n = schi_runq_take_half(&s->rings[me], &first, &last);
    if (n == 0) {
        first = node;
    } else {
        schi_wr(&last->next, node);
    }
    schi_wr(&node->next, (schi_node *)NULL);
    EXPECT(schi_inject_append(&s->inject, first, node, (uint64_t)n + 1));
    __atomic_fetch_add(&s->overflows, (size_t)1, __ATOMIC_RELAXED);
}

static void runq_produce(runq_stress *s, schi_rng *rng) {
    for (size_t i = 0; i < s->num_items; i++) {
        schi_node *node = &s->items[i].node;
        const uint32_t lean = i / 10000 % 2; /* a full ring and a nearly empty one, by turns */
        s->items[i].id = (unsigned)i;
        if (schi_rng_below(rng, 4) == 0) node = schi_lifo_put(&s->rings[0], node);
        if (node) runq_put(s, 0, node);
        schi_runq_check(&s->rings[0]);
        if (schi_rng_below(rng, 256) == 0) sched_yield(); /* one CPU: let thieves have a turn */
        if (s->has_barrier && schi_rng_below(rng, 64) == 0) {
            schi_runq_keep(&s->rings[0], schi_rng_below(rng, 8) > 0);
        }
        while (schi_rng_below(rng, 8) < (lean ? 5 : 2) &&
               (node = schi_runq_take(&s->rings[0])) != NULL) {
            runq_take(s, node);
        }
    }
}

static void runq_steal_some(runq_stress *s, unsigned me, schi_rng *rng) {
    schi_node *node;
    SCHI_INDEX n = 0;
    SCHI_INDEX from_inject;
    bool kept;
    unsigned other = (me + 1 + schi_rng_below(rng, 3)) % 4; /* the producer's, another thief's */
    kept = schi_load_rlx(&s->rings[other].bias.state) == SCHI_PRIVATE;
    if (schi_runq_visit(&s->rings[other]) == 0) {
        __atomic_fetch_add(&s->taken_back, (size_t)kept, __ATOMIC_RELAXED);
        node = runq_steal(&s->rings[other], &s->rings[me], &n);
        EXPECT_EQ(node != NULL, n > 0);
        if (node) runq_take(s, node);
        if (n > 1) __atomic_fetch_add(&s->steals, (size_t)1, __ATOMIC_RELAXED);
        schi_runq_check(&s->rings[me]);
        if (schi_rng_below(rng, 8) == 0 && (node = schi_lifo_take(&s->rings[other])) != NULL) {
            runq_take(s, node);
            __atomic_fetch_add(&s->lifo_steals, (size_t)1, __ATOMIC_RELAXED);
        }
        schi_runq_part(&s->rings[other]);
    }
    node = schi_inject_pop(&s->inject, 1, 1 + schi_rng_below(rng, 40), &s->rings[me], &from_inject);
    if (from_inject > 1) schi_runq_extend(&s->rings[me], (SCHI_INDEX)(from_inject - 1));
    if (node) runq_put(s, me, node);
}

static void runq_stress_work(void *arg, unsigned me) {
    runq_stress *s = (runq_stress *)arg;
    schi_rng rng;
    schi_rng_init(&rng, test_seed() + me);
    if (me == 0) runq_produce(s, &rng);
    while (__atomic_load_n(&s->out, __ATOMIC_RELAXED) < s->num_items) {
        schi_node *node;
        if (me == 0 && (node = schi_lifo_take_own(&s->rings[0])) != NULL) runq_take(s, node);
        if (me > 0) runq_steal_some(s, me, &rng);
        /* Thieves leave some in their rings for others to steal. */
        for (uint32_t n = me == 0 ? UINT32_MAX : schi_rng_below(&rng, RUNQ_CAP); n > 0; n--) {
            if (!(node = schi_runq_pop(&s->rings[me]))) break;
            runq_take(s, node);
        }
        sched_yield();
    }
}

static void runq_stress_round(runq_stress *s) {
    s->out = 0;
    s->items = runq_items(s->num_items);
    EXPECT_EQ(schi_inject_init(&s->inject), 0);
    for (int i = 0; i < 4; i++) schi_runq_init(&s->rings[i], runq_near_wrap());
    crew_run(4, runq_stress_work, s);
    EXPECT_EQ(s->out, s->num_items);
    for (size_t i = 0; i < s->num_items; i++) {
        if (!EXPECT_EQ(s->items[i].seen, 1)) break;
    }
    EXPECT(schi_inject_is_empty(&s->inject));
    schi_inject_drop(&s->inject);
    free(s->items);
}

/* Rounds until every way was taken: what the system lets run beside what is not in our hands. */
TEST(runq_stress) {
    runq_stress *s = (runq_stress *)aligned_alloc(SCH_CACHELINE, sizeof *s);
    bool every_way = false;
    if (!s) abort();
    memset(s, 0, sizeof *s);
    s->num_items = test_scale(1000000);
    s->has_barrier = schi_barrier_open();
    for (int round = 0; round < 100 && !every_way; round++) {
        runq_stress_round(s);
        every_way = (s->steals > 0 && s->overflows > 0 && s->lifo_steals > 0 &&
                     (s->taken_back > 0 || !s->has_barrier)) ||
                    test_slowdown > 1;
    }
    EXPECT(every_way);
    free(s);
}
