/* uv.c - a runtime inside libuv's loop, as [P10] says: a uv_poll on sch_poll_fd(), a uv_timer
 * for sch_next_deadline(). libuv's own timers and sockets and ours take turns on one thread. */
#define _GNU_SOURCE
#define SCH_DEBUG 3
#define SCHED_IMPLEMENTATION
#include "../../sched.h"

#include "../test.h"

#include <errno.h>
#include <sys/socket.h>
#include <uv.h>

/* The first loop makes descriptors that libuv keeps. */
__attribute__((constructor)) static void embed_first_loop(void) {
    uv_loop_t loop;
    if (uv_loop_init(&loop) || uv_loop_close(&loop)) abort();
}

typedef struct embed_host {
    uv_loop_t loop;
    uv_poll_t poll;
    uv_timer_t timer, guard;
    uv_idle_t again; /* there is more to do at once */
    sch_runtime *rt;
    uint64_t budget;
    unsigned runs;
    bool over;
} embed_host;

static void embed_host_turn(embed_host *h);

static void embed_host_readable(uv_poll_t *poll, int status, int events) {
    EXPECT_EQ(status, 0);
    EXPECT_EQ(events, UV_READABLE);
    embed_host_turn((embed_host *)poll->data);
}

static void embed_host_due(uv_timer_t *timer) { embed_host_turn((embed_host *)timer->data); }

static void embed_host_again(uv_idle_t *idle) { embed_host_turn((embed_host *)idle->data); }

static void embed_host_turn(embed_host *h) {
    const int more = sch_run_some(h->rt, h->budget);
    const uint64_t due = sch_next_deadline(h->rt), now = sch_now();
    EXPECT(more == 0 || more == 1);
    h->runs++;
    uv_idle_stop(&h->again);
    uv_timer_stop(&h->timer);
    if (more == 1 || due <= now) {
        uv_idle_start(&h->again, embed_host_again);
    } else if (due != SCH_FOREVER) {
        uv_update_time(&h->loop);
        uv_timer_start(&h->timer, embed_host_due, (due - now) / SCH_MILLISECOND + 1, 0);
    }
}

static void embed_host_lost(uv_timer_t *guard) {
    const bool lost = true; /* nothing has happened for 20 s */
    EXPECT(!lost);
    uv_stop(guard->loop);
}

static void embed_host_begin(embed_host *h, uint64_t budget) {
    sch_config config = {0};
    memset(h, 0, sizeof *h);
    config.flavor = SCH_CURRENT_THREAD;
    h->rt = sch_runtime_new(&config);
    h->budget = budget;
    if (!EXPECT(h->rt != NULL) || !EXPECT_EQ(uv_loop_init(&h->loop), 0)) abort();
    EXPECT_EQ(uv_poll_init(&h->loop, &h->poll, sch_poll_fd(h->rt)), 0);
    EXPECT_EQ(uv_timer_init(&h->loop, &h->timer), 0);
    EXPECT_EQ(uv_timer_init(&h->loop, &h->guard), 0);
    EXPECT_EQ(uv_idle_init(&h->loop, &h->again), 0);
    h->poll.data = h->timer.data = h->again.data = h;
    EXPECT_EQ(uv_poll_start(&h->poll, UV_READABLE, embed_host_readable), 0);
    EXPECT_EQ(uv_timer_start(&h->guard, embed_host_lost, 20000, 0), 0);
}

static void embed_host_end(embed_host *h) {
    uv_close((uv_handle_t *)&h->poll, NULL);
    uv_close((uv_handle_t *)&h->timer, NULL);
    uv_close((uv_handle_t *)&h->guard, NULL);
    uv_close((uv_handle_t *)&h->again, NULL);
    EXPECT_EQ(uv_run(&h->loop, UV_RUN_DEFAULT), 0);
    EXPECT_EQ(uv_loop_close(&h->loop), 0);
    sch_runtime_free(h->rt);
}

/* A conversation: a libuv stream that echoes, and a task that talks to it, sleeps, and is posted to
 * by another thread. */
enum { EMBED_ROUNDS = 50, EMBED_POSTS = 30 };

typedef struct embed_talk {
    embed_host h;
    uv_pipe_t stream;
    uv_timer_t ticker;
    sch_io io;
    unsigned ticks, echoed, posted; /* posted: any thread, atomic */
    char buffer[256];
} embed_talk;

static void embed_talk_alloc(uv_handle_t *handle, size_t wanted, uv_buf_t *out) {
    embed_talk *t = (embed_talk *)handle->data;
    (void)wanted;
    *out = uv_buf_init(t->buffer, sizeof t->buffer);
}

static void embed_talk_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *got) {
    embed_talk *t = (embed_talk *)stream->data;
    if (n > 0) {
        uv_buf_t back = uv_buf_init(got->base, (unsigned)n);
        EXPECT_EQ(uv_try_write(stream, &back, 1), n);
        t->echoed += (unsigned)n;
    } else if (EXPECT_EQ(n, UV_EOF)) {
        uv_stop(stream->loop);
    }
}

static void embed_talk_tick(uv_timer_t *timer) { ((embed_talk *)timer->data)->ticks++; }

static void embed_talk_task(void *arg) {
    embed_talk *t = (embed_talk *)arg;
    for (int i = 0; i < EMBED_ROUNDS; i++) {
        char out[64], in[64];
        const size_t len = 1 + test_random() % sizeof out;
        memset(out, i, len);
        EXPECT_EQ(sch_write_all(&t->io, out, len, NULL), 0);
        for (size_t got = 0; got < len;) {
            sch_io_op op = sch_read_op(&t->io, in + got, len - got);
            const int64_t n = sch_timeout(&op.op, 10 * SCH_SECOND);
            if (!EXPECT(n > 0)) return;
            got += (size_t)n;
        }
        EXPECT(memcmp(in, out, len) == 0);
        if (i % 5 == 0) {
            const uint64_t until = sch_now() + 3 * SCH_MILLISECOND;
            EXPECT_EQ(sch_sleep_until(until), 0);
            EXPECT(sch_now() >= until);
        }
        if (i % 7 == 0) EXPECT_EQ(sch_yield_now(), 0);
    }
    while (__atomic_load_n(&t->posted, __ATOMIC_SEQ_CST) < EMBED_POSTS) {
        if (!EXPECT_EQ(sch_sleep(SCH_MILLISECOND), 0)) break;
    }
    EXPECT_EQ(sch_io_close(&t->io), 0);
}

static void embed_talk_posted(void *arg) {
    __atomic_add_fetch(&((embed_talk *)arg)->posted, 1u, __ATOMIC_SEQ_CST);
}

static void *embed_talk_poster(void *arg) {
    embed_talk *t = (embed_talk *)arg;
    for (int i = 0; i < EMBED_POSTS; i++) {
        const struct timespec nap = {0, (long)(test_random() % 2000000)};
        nanosleep(&nap, NULL);
        EXPECT_EQ(sch_go(t->h.rt, embed_talk_posted, t), 0);
    }
    return NULL;
}

TEST(embed_uv_loop) {
    const uint64_t budgets[] = {0, SCH_MILLISECOND, SCH_FOREVER};
    for (int b = 0; b < 3; b++) {
        static embed_talk t;
        pthread_t poster;
        int fd[2];
        memset(&t, 0, sizeof t);
        embed_host_begin(&t.h, budgets[b]);
        EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
        EXPECT_EQ(sch_io_open(&t.io, t.h.rt, fd[0]), 0);
        EXPECT_EQ(uv_pipe_init(&t.h.loop, &t.stream, 0), 0);
        EXPECT_EQ(uv_pipe_open(&t.stream, fd[1]), 0);
        EXPECT_EQ(uv_timer_init(&t.h.loop, &t.ticker), 0);
        t.stream.data = t.ticker.data = &t;
        EXPECT_EQ(uv_read_start((uv_stream_t *)&t.stream, embed_talk_alloc, embed_talk_read), 0);
        EXPECT_EQ(uv_timer_start(&t.ticker, embed_talk_tick, 1, 1), 0);
        sch_task *task = sch_spawn(t.h.rt, embed_talk_task, &t);
        if (pthread_create(&poster, NULL, embed_talk_poster, &t)) abort();
        uv_run(&t.h.loop, UV_RUN_DEFAULT); /* until the stream's end */
        pthread_join(poster, NULL);
        EXPECT_EQ(sch_join(task), 0);
        EXPECT_EQ(t.posted, EMBED_POSTS);
        EXPECT(t.echoed >= EMBED_ROUNDS);
        EXPECT(t.ticks > 0); /* libuv's own timers went on */
        uv_close((uv_handle_t *)&t.stream, NULL);
        uv_close((uv_handle_t *)&t.ticker, NULL);
        embed_host_end(&t.h);
    }
}

/* With nothing to do the loop sleeps: it is not called again and again. */
static void embed_rest_stop(uv_timer_t *timer) { uv_stop(timer->loop); }

static void embed_rest_task(void *arg) {
    EXPECT_EQ(sch_suspend(), 0);
    (void)arg;
}

TEST(embed_uv_rests) {
    embed_host h;
    uv_timer_t stop;
    embed_host_begin(&h, SCH_MILLISECOND);
    sch_task *task = sch_spawn(h.rt, embed_rest_task, NULL);
    EXPECT_EQ(uv_timer_init(&h.loop, &stop), 0);
    EXPECT_EQ(uv_timer_start(&stop, embed_rest_stop, 100, 0), 0);
    uv_run(&h.loop, UV_RUN_DEFAULT);
    EXPECT(h.runs >= 1 && h.runs <= 10);
    sch_wake(task);
    EXPECT_EQ(uv_timer_start(&stop, embed_rest_stop, 20000, 0), 0);
    for (int i = 0; i < 100 && !sch_is_done(task); i++) uv_run(&h.loop, UV_RUN_ONCE);
    EXPECT(sch_is_done(task));
    EXPECT_EQ(sch_join(task), 0);
    uv_close((uv_handle_t *)&stop, NULL);
    embed_host_end(&h);
}
