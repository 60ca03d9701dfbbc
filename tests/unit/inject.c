/* inject.c - [5.2]: the queue for tasks from outside. */
#include "support.h"

typedef struct inject_item {
    schi_node node;            /* first */
    unsigned producer, number; /* written by the pusher, read by whoever gets it */
    unsigned seen;             /* atomic: how often it came out */
} inject_item;

static inject_item *inject_of(schi_node *node) { return (inject_item *)(void *)node; }

static inject_item *inject_items(size_t n) {
    inject_item *items = (inject_item *)calloc(n, sizeof *items);
    if (!items) abort();
    return items;
}

/* Link n items in order. */
static void inject_link(inject_item *items, size_t n) {
    for (size_t i = 0; i < n; i++) {
        schi_wr(&items[i].node.next, i + 1 < n ? &items[i + 1].node : (schi_node *)NULL);
    }
}

/* One is pushed, more are appended. */
static bool inject_put(schi_inject *q, inject_item *items, size_t n) {
    inject_link(items, n);
    if (n == 1) return schi_inject_push(q, &items->node);
    return schi_inject_append(q, &items->node, &items[n - 1].node, n);
}

#define INJECT_MAX SCH_RUNQ_CAP /* of what a pop can bring: the first, and a ring of others */

/* Pop into an empty ring and out of it: all[] gets what came, in order; returns how many. */
static uint64_t inject_pop(schi_inject *q, uint64_t parts, uint64_t max, schi_node **all) {
    schi_runq *ring = (schi_runq *)aligned_alloc(SCH_CACHELINE, sizeof *ring);
    SCHI_INDEX n = 0;
    uint64_t i = 0;
    if (!ring) abort();
    schi_runq_init(ring, (SCHI_INDEX)test_random());
    all[0] = schi_inject_pop(q, parts, max, ring, &n);
    EXPECT_EQ(all[0] != NULL, n > 0);
    EXPECT_EQ(schi_runq_len(ring), 0); /* ours alone so far */
    if (n > 1) schi_runq_extend(ring, (SCHI_INDEX)(n - 1));
    while (all[i] && ++i <= INJECT_MAX) all[i] = schi_runq_pop(ring);
    EXPECT_EQ(i, n);
    free(ring);
    return n;
}

/* Pushes of one and of many, pops of few and of more than there are: first in, first out. */
TEST(inject_fifo) {
    const size_t total = test_scale(200000);
    inject_item *items = inject_items(total);
    schi_inject q;
    size_t in = 0, out = 0;
    EXPECT_EQ(schi_inject_init(&q), 0);
    EXPECT(schi_inject_is_empty(&q));
    while (out < total) {
        const uint64_t dice = test_random();
        if ((dice & 1) && in < total) {
            size_t n = (dice & 2) ? 1 : 1 + (dice >> 8) % 20;
            if (n > total - in) n = total - in;
            EXPECT(inject_put(&q, items + in, n));
            in += n;
        } else {
            schi_node *all[INJECT_MAX + 2];
            uint64_t max = (dice & 2) ? 1 : 1 + (dice >> 8) % 30;
            uint64_t n = inject_pop(&q, 1, max, all);
            if (!EXPECT(n <= max && n <= in - out && (n > 0 || in == out))) break;
            for (uint64_t i = 0; i < n; i++, out++) EXPECT(all[i] == &items[out].node);
        }
        if (!EXPECT_EQ(schi_inject_len(&q, NULL), in - out)) break;
        if (!EXPECT_EQ(schi_inject_is_empty(&q), in == out)) break;
    }
    schi_inject_drop(&q);
    free(items);
}

/* A part of what is inside, pushed and appended, rounded up; and never more than max. */
TEST(inject_parts) {
    inject_item *items = inject_items(20);
    schi_node *all[INJECT_MAX + 2];
    schi_inject q;
    uint64_t total = 0;
    EXPECT_EQ(schi_inject_init(&q), 0);
    EXPECT_EQ(inject_pop(&q, 3, 100, all), 0);
    EXPECT(inject_put(&q, items, 4));
    for (int i = 4; i < 11; i++) EXPECT(inject_put(&q, items + i, 1));
    EXPECT_EQ(inject_pop(&q, 3, 100, all), 4); /* 11 / 3 + 1 */
    EXPECT(all[0] == &items[0].node && all[3] == &items[3].node);
    EXPECT_EQ(inject_pop(&q, 3, 2, all), 2);
    EXPECT(all[0] == &items[4].node);
    EXPECT_EQ(schi_inject_len(&q, &total), 5);
    EXPECT_EQ(total, 11);
    EXPECT_EQ(inject_pop(&q, 8, 100, all), 1);
    for (int i = 11; i < 17; i++) EXPECT(inject_put(&q, items + i, 1));
    EXPECT_EQ(inject_pop(&q, 1, 5, all), 5); /* those below the stack, then of the stack */
    EXPECT_EQ(inject_pop(&q, 1, 5, all), 5);
    EXPECT(all[0] == &items[12].node && all[4] == &items[16].node);
    schi_inject_drop(&q);
    free(items);
}

/* No more than fit into the ring behind the first, however full it is; what is there stays. */
TEST(inject_into_full) {
    const size_t total = 3 * SCH_RUNQ_CAP;
    inject_item *items = inject_items(2 * total), *before = items + total;
    schi_runq *ring = (schi_runq *)aligned_alloc(SCH_CACHELINE, sizeof *ring);
    if (!ring) abort();
    for (unsigned full = 0; full <= SCH_RUNQ_CAP; full += SCH_RUNQ_CAP / 8) {
        schi_inject q;
        SCHI_INDEX n = 0;
        EXPECT_EQ(schi_inject_init(&q), 0);
        EXPECT(inject_put(&q, items, total));
        schi_runq_init(ring, (SCHI_INDEX)test_random());
        for (unsigned i = 0; i < full; i++) EXPECT(schi_runq_push(ring, &before[i].node) > 0);
        EXPECT(schi_inject_pop(&q, 1, total, ring, &n) == &items[0].node);
        EXPECT_EQ(n, SCH_RUNQ_CAP - full + 1);
        for (SCHI_INDEX i = 0; i + 1 < n; i++) {
            EXPECT(schi_runq_unseen(ring, i) == &items[i + 1].node);
        }
        if (n > 1) schi_runq_extend(ring, n - 1);
        EXPECT_EQ(schi_inject_len(&q, NULL), total - n);
        schi_runq_check(ring);
        for (unsigned i = 0; i < full; i++) EXPECT(schi_runq_pop(ring) == &before[i].node);
        for (uint64_t i = 1; i < n; i++) EXPECT(schi_runq_pop(ring) == &items[i].node);
        EXPECT(schi_runq_pop(ring) == NULL);
        schi_inject_drop(&q);
    }
    free(ring);
    free(items);
}

TEST(inject_close) {
    inject_item *items = inject_items(8);
    schi_node *all[INJECT_MAX + 2];
    schi_inject q;
    for (int used = 0; used < 2; used++) { /* also when part of it has been turned already */
        EXPECT_EQ(schi_inject_init(&q), 0);
        EXPECT(inject_put(&q, items, 4));
        if (used) EXPECT_EQ(inject_pop(&q, 1, 1, all), 1);
        EXPECT(inject_put(&q, items + 4, 1));
        schi_inject_close(&q);
        schi_inject_close(&q);
        EXPECT(!inject_put(&q, items + 7, 1));
        EXPECT(!inject_put(&q, items + 5, 2));
        EXPECT_EQ(schi_inject_len(&q, NULL), 5 - used);
        EXPECT(!schi_inject_is_empty(&q));
        EXPECT_EQ(inject_pop(&q, 1, 100, all), 5 - used); /* what was inside, in order */
        for (int i = used; i < 5; i++) EXPECT(all[i - used] == &items[i].node);
        EXPECT(schi_inject_is_empty(&q));
        EXPECT_EQ(schi_inject_len(&q, NULL), 0);
        EXPECT_EQ(inject_pop(&q, 1, 1, all), 0);
        schi_inject_drop(&q);
    }
    free(items);
}

/* Producers and consumers at once; maybe somebody closes the queue in the middle. */
#define INJECT_PRODUCERS 4

typedef struct inject_stress {
    schi_inject q;
    inject_item *items[INJECT_PRODUCERS];
    size_t each;                       /* items of a producer */
    size_t close_at;                   /* closed when so many have come out; 0: never */
    size_t pushed[INJECT_PRODUCERS];   /* accepted, at the end */
    size_t begun, accepted, out, done; /* atomic: pushes begun, done; items out; producers done */
    unsigned consumers;
} inject_stress;

static size_t inject_count(size_t *counter) { return __atomic_load_n(counter, __ATOMIC_SEQ_CST); }

static void inject_produce(inject_stress *s, unsigned me, schi_rng *rng) {
    inject_item *items = s->items[me];
    size_t n, i;
    for (i = 0; i < s->each; i += n) {
        n = schi_rng_below(rng, 2) ? 1 : 1 + schi_rng_below(rng, 9);
        if (n > s->each - i) n = s->each - i;
        for (size_t k = 0; k < n; k++) {
            items[i + k].producer = me, items[i + k].number = (unsigned)(i + k);
        }
        __atomic_fetch_add(&s->begun, n, __ATOMIC_SEQ_CST);
        if (!inject_put(&s->q, items + i, n)) break;
        __atomic_fetch_add(&s->accepted, n, __ATOMIC_SEQ_CST);
        if (schi_rng_below(rng, 512) == 0) sched_yield(); /* one CPU: others have a turn */
    }
    s->pushed[me] = i;
    __atomic_fetch_add(&s->done, (size_t)1, __ATOMIC_SEQ_CST);
}

static void inject_consume(inject_stress *s, schi_rng *rng) {
    size_t last[INJECT_PRODUCERS] = {0}, mine = 0;
    for (;;) {
        bool over = inject_count(&s->done) == INJECT_PRODUCERS;
        size_t accepted = inject_count(&s->accepted), n;
        schi_node *all[INJECT_MAX + 2];
        if (s->consumers == 1) { /* then it is known what has come out */
            size_t len = (size_t)schi_inject_len(&s->q, NULL);
            EXPECT(len + mine >= accepted);
            EXPECT(len + mine <= inject_count(&s->begun));
            if (accepted > mine) EXPECT(!schi_inject_is_empty(&s->q));
        }
        n = (size_t)inject_pop(&s->q, 1, 1 + schi_rng_below(rng, 60), all);
        mine += n;
        __atomic_fetch_add(&s->out, n, __ATOMIC_SEQ_CST);
        if (over && n == 0 && inject_count(&s->out) == inject_count(&s->accepted)) return;
        for (size_t i = 0; i < n; i++) {
            inject_item *item = inject_of(all[i]);
            if (!EXPECT(item == &s->items[item->producer][item->number])) return;
            EXPECT_EQ(__atomic_fetch_add(&item->seen, 1u, __ATOMIC_RELAXED), 0);
            EXPECT(item->number + 1u > last[item->producer]); /* in the producer's order */
            last[item->producer] = item->number + 1u;
        }
        if (s->close_at && inject_count(&s->out) >= s->close_at) schi_inject_close(&s->q);
        if (!over) sched_yield();
    }
}

static void inject_work(void *arg, unsigned me) {
    inject_stress *s = (inject_stress *)arg;
    schi_rng rng;
    schi_rng_init(&rng, test_seed() + me);
    if (me < INJECT_PRODUCERS) {
        inject_produce(s, me, &rng);
    } else {
        inject_consume(s, &rng);
    }
}

static void inject_run(size_t each, unsigned consumers, size_t close_at) {
    inject_stress *s = (inject_stress *)aligned_alloc(SCH_CACHELINE, sizeof *s);
    size_t pushed = 0;
    if (!s) abort();
    memset(s, 0, sizeof *s);
    s->each = each, s->consumers = consumers, s->close_at = close_at;
    EXPECT_EQ(schi_inject_init(&s->q), 0);
    for (int i = 0; i < INJECT_PRODUCERS; i++) s->items[i] = inject_items(each);
    crew_run(INJECT_PRODUCERS + consumers, inject_work, s);
    for (int i = 0; i < INJECT_PRODUCERS; i++) {
        pushed += s->pushed[i];
        for (size_t k = 0; k < each; k++) {
            if (!EXPECT_EQ(s->items[i][k].seen, k < s->pushed[i])) break;
        }
        free(s->items[i]);
    }
    EXPECT_EQ(s->out, pushed);
    EXPECT(close_at ? pushed >= close_at : pushed == INJECT_PRODUCERS * each);
    EXPECT_EQ(schi_inject_len(&s->q, NULL), 0);
    EXPECT(schi_inject_is_empty(&s->q));
    schi_inject_drop(&s->q);
    free(s);
}

TEST(inject_stress_two_consumers) { inject_run(test_scale(100000), 2, 0); }
TEST(inject_stress_one_consumer) { inject_run(test_scale(100000), 1, 0); }

TEST(inject_close_race) {
    for (size_t round = test_scale(100); round > 0; round--) {
        inject_run(4000, 1 + round % 2, 1 + (size_t)(test_random() % 8000));
    }
}
