/* embed.c - [P10]: a runtime inside a loop that is not ours. tests/embed/ has a real one. */
#include "support.h"

#include <poll.h>

typedef struct embed_loop {
    sch_runtime *rt;
    uint64_t budget;
    bool more;
    unsigned rounds;
} embed_loop;

static embed_loop embed_begin(sch_runtime *rt, uint64_t budget) {
    embed_loop l = {rt, budget, false, 0};
    EXPECT(sch_poll_fd(rt) >= 0);
    return l;
}

/* What a foreign loop does: run; then wait as the interface says. */
static bool embed_run(embed_loop *l) {
    int more = sch_run_some(l->rt, l->budget);
    l->more = more == 1;
    l->rounds++;
    return EXPECT(more == 0 || more == 1);
}

static bool embed_wait(embed_loop *l) { /* false: in vain */
    struct pollfd fd = {sch_poll_fd(l->rt), POLLIN, 0};
    uint64_t due = sch_next_deadline(l->rt), now = sch_now(), ms = 20000;
    int ready;
    if (l->more) EXPECT_EQ(due, 0);
    if (l->more || due <= now) return true;
    if (due != SCH_FOREVER && due - now < IO_LONG) ms = (due - now) / SCH_MILLISECOND + 1;
    do {
        ready = poll(&fd, 1, (int)ms);
    } while (ready < 0 && errno == EINTR);
    return due != SCH_FOREVER || EXPECT(ready > 0);
}

#define EMBED_UNTIL(l, cond) \
    while (embed_run(l) && !(cond) && embed_wait(l)) continue

/* With nothing to do the descriptor comes to rest: a loop must not spin. It may ring late once. */
static void embed_rests(embed_loop *l) {
    struct pollfd fd = {sch_poll_fd(l->rt), POLLIN, 0};
    int quiet = 0;
    for (int turns = 0; turns < 20 && quiet < 4; turns++) {
        quiet = sch_run_some(l->rt, SCH_SECOND) == 0 && poll(&fd, 1, 1) == 0 ? quiet + 1 : 0;
    }
    EXPECT_EQ(quiet, 4);
    EXPECT_EQ(sch_next_deadline(l->rt), SCH_FOREVER);
}

static sch_runtime *embed_runtime(checked_memory *memory) {
    sch_config config = support_config(memory, 0);
    return support_begin(&config);
}

/* Work ------------------------------------------------------------------------------------------*/

/* Tasks that sleep, are woken and talk over sockets, and another thread that spawns and wakes. */
typedef struct embed_work {
    sch_runtime *rt;
    unsigned done, posted;
    sch_task *suspended;
    sch_io end[2];
} embed_work;

static void embed_sleeper(void *arg) {
    const uint64_t until = sch_now() + test_random() % (5 * SCH_MILLISECOND);
    EXPECT_EQ(sch_sleep_until(until), 0);
    EXPECT(sch_now() >= until);
    support_count(&((embed_work *)arg)->done);
}

static void embed_suspended(void *arg) {
    EXPECT_EQ(sch_suspend(), 0);
    support_count(&((embed_work *)arg)->done);
}

static void embed_talker(void *arg) {
    embed_work *w = (embed_work *)arg;
    char byte;
    for (int i = 0; i < 50; i++) {
        EXPECT_EQ(sch_write(&w->end[0], "x", 1), 1);
        EXPECT_EQ(sch_read(&w->end[0], &byte, 1), 1);
    }
    EXPECT_EQ(sch_io_shutdown(&w->end[0], SHUT_WR), 0);
    support_count(&w->done);
}

static void embed_poster(void *arg) {
    embed_work *w = (embed_work *)arg;
    for (int i = 0; i < 40; i++) {
        support_nap((long)(test_random() % 1000));
        if (i % 2) {
            EXPECT_EQ(sch_go(w->rt, embed_sleeper, w), 0);
        } else {
            EXPECT_EQ(sch_go(w->rt, support_count, &w->done), 0);
        }
    }
    support_nap(1000);
    sch_wake(w->suspended);
    support_set(&w->posted, 1);
}

TEST(embed_in_a_poll_loop) {
    const uint64_t budgets[] = {0, SCH_MILLISECOND, SCH_FOREVER};
    for (int b = 0; b < 3; b++) {
        checked_memory memory;
        embed_work w;
        support_thread poster;
        memset(&w, 0, sizeof w);
        w.rt = embed_runtime(&memory);
        embed_loop l = embed_begin(w.rt, budgets[b]);
        embed_rests(&l);
        for (int i = 0; i < 20; i++) EXPECT_EQ(sch_go(w.rt, embed_sleeper, &w), 0);
        EMBED_UNTIL(&l, support_get(&w.done) == 20);
        embed_rests(&l);

        w.suspended = sch_spawn(w.rt, embed_suspended, &w);
        support_thread_start(&poster, embed_poster, &w);
        EMBED_UNTIL(&l, support_get(&w.done) == 61);
        support_thread_join(&poster);
        EXPECT_EQ(sch_join(w.suspended), 0);
        embed_rests(&l);

        if (!io_open_pair(w.rt, IO_TCP, w.end)) return;
        sch_task *echo = io_machine_start(w.rt, w.end[1]);
        EXPECT_EQ(sch_go(w.rt, embed_talker, &w), 0);
        EMBED_UNTIL(&l, support_get(&w.done) == 62 && sch_is_done(echo));
        EXPECT_EQ(sch_join(echo), 0);
        embed_rests(&l);

        EXPECT_EQ(sch_io_close(&w.end[0]), 0);
        EXPECT_EQ(sch_block_on(w.rt, embed_sleeper, &w), 0); /* the other ways go on beside it */
        support_run(w.rt, embed_sleeper, &w);
        EXPECT_EQ(w.done, 64);
        embed_rests(&l);
        support_end(w.rt, &memory);
    }
}

/* The budget: those that yield for ever do not keep the loop. */
typedef struct embed_yielder {
    unsigned turns, over;
} embed_yielder;

static void embed_yield(void *arg) {
    embed_yielder *y = (embed_yielder *)arg;
    while (support_get(&y->over) == 0) {
        (void)support_add(&y->turns, 1);
        EXPECT_EQ(sch_yield_now(), 0);
    }
}

TEST(embed_budget) {
    enum { TASKS = 10 };
    checked_memory memory;
    sch_runtime *rt = embed_runtime(&memory);
    embed_yielder y[TASKS];
    memset(y, 0, sizeof y);
    for (int i = 0; i < TASKS; i++) EXPECT_EQ(sch_go(rt, embed_yield, &y[i]), 0);
    for (int round = 0; round < 50; round++) EXPECT_EQ(sch_run_some(rt, 0), 1);
    for (int i = 0; i < TASKS; i++) EXPECT(support_get(&y[i].turns) > 0);
    EXPECT_EQ(sch_next_deadline(rt), 0);

    const uint64_t start = sch_now();
    const unsigned before = support_get(&y[0].turns);
    EXPECT_EQ(sch_run_some(rt, 2 * SCH_MILLISECOND), 1);
    EXPECT(sch_now() - start >= 2 * SCH_MILLISECOND); /* it is used while there is work */
    EXPECT(support_get(&y[0].turns) > before);

    for (int i = 0; i < TASKS; i++) support_set(&y[i].over, 1);
    EXPECT_EQ(sch_run_some(rt, SCH_FOREVER), 0); /* and not waited out when there is none */
    EXPECT_EQ(sch_num_alive_tasks(rt), 0);
    EXPECT_EQ(sch_next_deadline(rt), SCH_FOREVER);
    support_end(rt, &memory);
}

static void embed_inside_task(void *arg) {
    EXPECT_EQ(sch_run_some((sch_runtime *)arg, 0), -EDEADLK);
}

static void embed_inside_block_on(void *arg) {
    EXPECT_EQ(sch_run_some((sch_runtime *)arg, 0), 0);
}

static void embed_busy(void *arg) {
    embed_yielder *y = (embed_yielder *)arg;
    support_set(&y->turns, 1);
    while (support_get(&y->over) == 0) support_nap(100);
}

static void embed_drive(void *arg) { EXPECT_EQ(sch_run_some((sch_runtime *)arg, SCH_SECOND), 0); }

/* One thread joins, and so has the watch; another one runs some. Whoever ends what is joined rings
 * the first, and the second must not take that away. */
typedef struct embed_beside {
    sch_runtime *rt;
    unsigned over; /* atomic */
} embed_beside;

static void embed_nothing(void *arg) { (void)arg; }

static void embed_beside_work(void *arg, unsigned me) {
    embed_beside *b = (embed_beside *)arg;
    while (me == 1 && !support_get(&b->over)) {
        const int more = sch_run_some(b->rt, 0);
        EXPECT(more == 0 || more == 1 || more == -EBUSY);
    }
    for (size_t n = me == 0 ? test_scale(20000) : 0; n > 0; n--) {
        EXPECT_EQ(sch_join(sch_spawn_blocking(b->rt, embed_nothing, NULL)), 0);
    }
    if (me == 0) __atomic_store_n(&b->over, 1u, __ATOMIC_RELEASE);
}

TEST(embed_beside_a_join) {
    embed_beside b;
    checked_memory memory;
    sch_config config = support_config(&memory, 0);
    memset(&b, 0, sizeof b);
    b.rt = support_begin(&config);
    EXPECT(sch_poll_fd(b.rt) >= 0);
    crew_run(2, embed_beside_work, &b);
    support_end(b.rt, &memory);
}

TEST(embed_bad_input) {
    checked_memory memory;
    sch_config config = support_config(&memory, 2);
    sch_runtime *rt = support_begin(&config);
    support_thread other;
    embed_yielder y = {0, 0};
    EXPECT_EQ(sch_run_some(NULL, 0), -EINVAL);
    EXPECT_EQ(sch_poll_fd(NULL), -EINVAL);
    EXPECT_EQ(sch_next_deadline(NULL), SCH_FOREVER);
    EXPECT_EQ(sch_run_some(rt, 0), -EINVAL);
    EXPECT_EQ(sch_poll_fd(rt), -EINVAL);
    support_end(rt, &memory);

    rt = embed_runtime(&memory);
    EXPECT(sch_poll_fd(rt) >= 0);
    support_run(rt, embed_inside_task, rt);
    EXPECT_EQ(sch_block_on(rt, embed_inside_block_on, rt), 0);
    EXPECT_EQ(sch_go(rt, embed_busy, &y), 0);
    support_thread_start(&other, embed_drive, rt);
    WAIT_FOR(support_get(&y.turns) == 1);
    EXPECT_EQ(sch_run_some(rt, 0), -EBUSY); /* another thread runs its tasks */
    support_set(&y.over, 1);
    support_thread_join(&other);
    EXPECT_EQ(sch_run_some(rt, 0), 0);
    EXPECT_EQ(sch_runtime_shutdown(rt, SCH_FOREVER), 0);
    EXPECT_EQ(sch_run_some(rt, 0), 0); /* nothing is left */
    support_end(rt, &memory);

    config = support_config(&memory, 0);
    config.no_io = true;
    rt = support_begin(&config);
    embed_work w;
    memset(&w, 0, sizeof w);
    EXPECT_EQ(sch_poll_fd(rt), -ENOTSUP);
    EXPECT_EQ(sch_go(rt, embed_sleeper, &w), 0);
    while (w.done == 0) (void)sch_run_some(rt, 0); /* works all the same */
    support_end(rt, &memory);
}

/* Freed while tasks wait: they are run to their end by whoever frees it. */
TEST(embed_freed_with_waiters) {
    checked_memory memory;
    embed_work w;
    char byte;
    memset(&w, 0, sizeof w);
    w.rt = embed_runtime(&memory);
    embed_loop l = embed_begin(w.rt, SCH_MILLISECOND);
    sch_io io;
    int peer = io_half(w.rt, IO_SOCKETPAIR, &io);
    sch_task *task = io_machine_start(w.rt, io);
    io_put(peer, "x", 1);
    EXPECT_EQ(fcntl(peer, F_SETFL, O_NONBLOCK), 0);
    EMBED_UNTIL(&l, read(peer, &byte, 1) == 1);
    sch_runtime_free(w.rt);
    EXPECT_EQ(sch_join(task), -ECANCELED);
    checked_end(&memory);
    close(peer);
}
