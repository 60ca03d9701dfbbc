/* tour_waits.h - the part of tour.h that waits: for times, bytes, connections, signals, children,
 * others' operations. Whatever fails is repeated without faults; then every byte that was written
 * is read, in order, no sleep is too short, and every descriptor is closed. */
#ifndef FAULT_TOUR_WAITS_H
#define FAULT_TOUR_WAITS_H

#include <netinet/in.h>

/* A call that returns a number or a negative errno, with one retry; the result into n. */
#define TOUR_COUNT(t, n, call)                             \
    do {                                                   \
        (n) = (call);                                      \
        if ((n) < 0) {                                     \
            tour_retry(t, (int)-(n), #call, __LINE__);     \
            (n) = (call);                                  \
            tour_retried((n) >= 0, #call, __LINE__);       \
        }                                                  \
    } while (0)

/* Times -----------------------------------------------------------------------------------------*/

static void tour_sleeps(tour *t, uint64_t ns) {
    const uint64_t start = sch_now();
    TOUR_CALL(t, sch_sleep(ns));
    EXPECT(sch_now() >= start + ns);
}

static void tour_times(tour *t) {
    sch_interval tick = {30 * SCH_MICROSECOND, 0, SCH_SKIP};
    sch_timer timer[2];
    sch_op *ops[2] = {&timer[0].op, &timer[1].op};
    uint64_t start;
    int64_t result;
    int first;
    tour_sleeps(t, 1);
        for (int i = 0; i < 2; i++) TOUR_CALL(t, sch_interval_wait(&tick));
    start = sch_now();
    timer[0] = sch_timer_after(SCH_SECOND * 3600);
    result = sch_timeout(&timer[0].op, 100 * SCH_MICROSECOND);
    if (result != -ETIMEDOUT) {
        tour_retry(t, (int)-result, "sch_timeout", __LINE__);
        tour_retried(sch_timeout(&timer[0].op, 1) == -ETIMEDOUT, "sch_timeout", __LINE__);
    }
    timer[1] = sch_timer_after(150 * SCH_MICROSECOND);
    TOUR_COUNT(t, first, sch_await_any(ops, 2, SCH_FOREVER));
    EXPECT_EQ(first, 1);
    EXPECT(!sch_op_is_done(ops[0]) && sch_op_is_done(ops[1]));
    EXPECT(sch_now() >= timer[1].until && sch_now() >= start);
}

/* Helpers ---------------------------------------------------------------------------------------*/

/* Spawn one that surely runs: where it got no stack, another one in its place. */
static sch_task *tour_start(tour *t, sch_fn body, probe **p, void *arg) {
    sch_task *task = tour_spawn_for(t, body, p, arg);
    TOUR_UNTIL(tour_get(&(*p)->ran) || sch_is_done(task));
    if (tour_get(&(*p)->ran)) return task;
    EXPECT_EQ(tour_join(t, task), -ENOMEM);
    tour_retry(t, ENOMEM, "a task", __LINE__);
    do {
        task = tour_spawn_for(t, body, p, arg);
        TOUR_UNTIL(tour_get(&(*p)->ran) || sch_is_done(task));
        if (!tour_get(&(*p)->ran)) EXPECT_EQ(sch_join(task), -ENOMEM);
    } while (!tour_get(&(*p)->ran) && fault.real && !fault.lift);
    tour_retried(tour_get(&(*p)->ran) == 1, "a task", __LINE__);
    return task;
}

/* It ran: so it ends well. */
static void tour_end(tour *t, sch_task *task, const probe *p) {
    EXPECT_EQ(tour_join(t, task), 0);
    EXPECT_EQ(tour_get(&p->drops), 1);
}

static void tour_open(tour *t, sch_io *io, int fd) {
    TOUR_CALL(t, sch_io_open(io, t->rt, fd));
    EXPECT_EQ(sch_io_fd(io), fd);
}

static void tour_close(sch_io *io) {
    EXPECT_EQ(sch_io_close(io), 0);
    EXPECT_EQ(sch_io_close(io), -EBADF);
}

/* Bytes -----------------------------------------------------------------------------------------*/

enum { TOUR_BYTES = 9000, TOUR_ROOM = 4096 };

typedef struct tour_stream {
    sch_io from, to;
    unsigned way; /* of reading and of writing */
} tour_stream;

static unsigned char tour_byte(size_t at) { return (unsigned char)(at * 7 + at / 251); }

static void tour_writes(void *arg) {
    probe *p = (probe *)arg;
    tour_stream *s = (tour_stream *)p->arg;
    unsigned char bytes[1500];
    for (size_t at = 0; at < TOUR_BYTES;) {
        size_t size = TOUR_BYTES - at < sizeof bytes ? TOUR_BYTES - at : sizeof bytes, done = 0;
        ssize_t n = 0;
        int error;
        for (size_t i = 0; i < size; i++) bytes[i] = tour_byte(at + i);
        switch (s->way++ % 4) {
        case 0: TOUR_COUNT(p->tour, n, sch_write(&s->to, bytes, size)); break;
        case 1: {
            struct iovec part[2] = {{bytes, size / 3}, {bytes + size / 3, size - size / 3}};
            TOUR_COUNT(p->tour, n, sch_writev(&s->to, part, 2));
            break;
        }
        case 2:
            error = sch_write_all(&s->to, bytes, size, &done);
            n = (ssize_t)done;
            if (!error) break;
            tour_retry(p->tour, -error, "sch_write_all", __LINE__);
            error = sch_write_all(&s->to, bytes + done, size - done, NULL);
            tour_retried(error == 0, "sch_write_all", __LINE__);
            n = (ssize_t)size;
            break;
        default:
            TOUR_CALL(p->tour, sch_writable(&s->to));
            break;
        }
        EXPECT(n >= 0 && (size_t)n <= size);
        at += (size_t)n;
    }
    tour_close(&s->to);
}

static ssize_t tour_read_once(tour *t, tour_stream *s, unsigned char *bytes, size_t size,
                              unsigned way) {
    struct iovec part[2] = {{bytes, size / 2}, {bytes + size / 2, size - size / 2}};
    sch_io_op op = sch_read_op(&s->from, bytes, size);
    ssize_t n = 0;
    switch (way % 8) {
    case 0: case 4: case 6: TOUR_COUNT(t, n, sch_read(&s->from, bytes, size)); break;
    case 1: case 5: TOUR_COUNT(t, n, sch_readv(&s->from, part, 2)); break;
    case 2: case 7:
        TOUR_CALL(t, sch_readable(&s->from));
        TOUR_COUNT(t, n, sch_read(&s->from, bytes, size));
        break;
    default: /* whatever the limit does, no byte is lost */
        n = (ssize_t)sch_timeout(&op.op, way * SCH_MICROSECOND);
        if (n == -ETIMEDOUT) TOUR_COUNT(t, n, sch_read(&s->from, bytes, size));
        if (n < 0) {
            tour_retry(t, (int)-n, "sch_timeout", __LINE__);
            n = sch_read(&s->from, bytes, size);
            tour_retried(n >= 0, "sch_read", __LINE__);
        }
    }
    return n;
}

/* A writer in a task of its own; read to the end, all is there and right. */
static void tour_pass(tour *t, tour_stream *s) {
    unsigned char bytes[900];
    size_t at = 0;
    ssize_t n = 1;
    probe *p;
    sch_task *task = tour_start(t, tour_writes, &p, s);
    for (unsigned way = 0; n > 0; way++) {
        n = tour_read_once(t, s, bytes, 100 + way % 800, way);
        for (ssize_t i = 0; i < n && bytes[i] == tour_byte(at); i++) at++;
    }
    EXPECT_EQ(at, TOUR_BYTES);
    tour_end(t, task, p);
    tour_close(&s->from);
}

static void tour_socket_pair(int type, int *pair) {
    fault_pause();
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair) != 0) abort();
    for (int i = 0, size = TOUR_ROOM; i < 2; i++) {
        (void)setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    }
    fault_resume();
}

static void tour_pipe(int *ends) {
    fault_pause();
    if (pipe2(ends, O_CLOEXEC) != 0) abort();
    (void)real_fcntl(ends[1], F_SETPIPE_SZ, TOUR_ROOM);
    fault_resume();
}

static void tour_local_streams(tour *t) {
    tour_stream s;
    int fds[2];
    memset(&s, 0, sizeof s);
    tour_socket_pair(SOCK_STREAM, fds);
    tour_open(t, &s.from, fds[0]);
    tour_open(t, &s.to, fds[1]);
    tour_pass(t, &s);
    memset(&s, 0, sizeof s);
    tour_pipe(fds);
    tour_open(t, &s.from, fds[0]);
    tour_open(t, &s.to, fds[1]);
    tour_pass(t, &s);
}

typedef struct tour_server {
    sch_io listener;
    struct sockaddr_in address;
} tour_server;

static bool tour_is_broken(ssize_t n) { return n == -ECONNRESET || n == -EPIPE; }

/* As TOUR_COUNT, but the other side may be gone. */
#define TOUR_TALK(t, n, call)                                                   \
    do {                                                                        \
        (n) = (call);                                                           \
        if ((n) < 0 && !tour_is_broken(n)) {                                    \
            tour_retry(t, (int)-(n), #call, __LINE__);                          \
            (n) = (call);                                                       \
            tour_retried((n) >= 0 || tour_is_broken(n), #call, __LINE__);       \
        }                                                                       \
    } while (0)

/* Only then a connection breaks: it was made or taken, but could not be watched or asked about. */
static bool tour_may_break(void) {
    return fault.real || fault_injected(FAULT_EPOLL_ADD) || fault_injected(FAULT_FCNTL) ||
           fault_injected(FAULT_FSTAT) || fault_injected(FAULT_CONNECTED) || fault_excuses(ENOMEM);
}

/* Connect, send all, be answered. false: the connection broke. */
static bool tour_talk(tour *t, const tour_server *server) {
    unsigned char bytes[1500], answer = 0;
    ssize_t n = 0;
    sch_io io;
    TOUR_CALL(t, sch_connect(&io, t->rt, (const struct sockaddr *)&server->address,
                             sizeof server->address));
    for (size_t at = 0; at < TOUR_BYTES && n >= 0; at += n > 0 ? (size_t)n : 0) {
        size_t size = TOUR_BYTES - at < sizeof bytes ? TOUR_BYTES - at : sizeof bytes;
        for (size_t i = 0; i < size; i++) bytes[i] = tour_byte(at + i);
        TOUR_TALK(t, n, sch_write(&io, bytes, size));
    }
    if (n >= 0 && sch_io_shutdown(&io, SHUT_WR) == 0) TOUR_TALK(t, n, sch_read(&io, &answer, 1));
    tour_close(&io);
    return answer == 'k';
}

static void tour_connects(void *arg) {
    probe *p = (probe *)arg;
    if (tour_talk(p->tour, (const tour_server *)p->arg)) return;
    EXPECT(tour_may_break());
    (void)tour_add(&p->tour->refused);
    fault_pause();
    EXPECT(tour_talk(p->tour, (const tour_server *)p->arg));
    fault_resume();
}

/* false: nobody is there. */
static bool tour_serve(tour *t, sch_io *io) {
    tour_stream s;
    unsigned char bytes[700];
    size_t at = 0;
    ssize_t n = 1;
    memset(&s, 0, sizeof s);
    s.from = *io;
    for (unsigned way = 0; n > 0; way++) {
        n = tour_read_once(t, &s, bytes, sizeof bytes, way % 3);
        for (ssize_t i = 0; i < n && bytes[i] == tour_byte(at); i++) at++;
    }
    if (at > 0 || !tour_may_break()) EXPECT_EQ(at, TOUR_BYTES);
    if (at > 0) TOUR_COUNT(t, n, sch_write(io, "k", 1));
    tour_close(io);
    return at > 0;
}

static void tour_tcp(tour *t) {
    tour_server server;
    sch_io io;
    socklen_t length = sizeof server.address;
    sch_task *task;
    probe *p;
    memset(&server, 0, sizeof server);
    server.address.sin_family = AF_INET;
    server.address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    TOUR_CALL(t, sch_listen(&server.listener, t->rt, (struct sockaddr *)&server.address,
                            sizeof server.address, 0));
    if (real_getsockname(sch_io_fd(&server.listener), (struct sockaddr *)&server.address,
                         &length) != 0) abort();
    task = tour_start(t, tour_connects, &p, &server);
    do { /* also one that was connected, and then could not be watched */
        TOUR_CALL(t, sch_accept(&server.listener, &io));
    } while (!tour_serve(t, &io));
    tour_end(t, task, p);
    tour_close(&server.listener);
}

static void tour_datagrams(tour *t) {
    sch_io io[2];
    char text[32] = "datagram", back[32];
    int fds[2];
    ssize_t n;
    tour_socket_pair(SOCK_DGRAM, fds);
    for (int i = 0; i < 2; i++) tour_open(t, &io[i], fds[i]);
    for (int i = 0; i < 4; i++) {
        TOUR_COUNT(t, n, sch_sendto(&io[i % 2], text, sizeof text, 0, NULL, 0));
        EXPECT_EQ(n, sizeof text);
        TOUR_COUNT(t, n, sch_recvfrom(&io[1 - i % 2], back, sizeof back, 0, NULL, NULL));
        EXPECT_EQ(n, sizeof back);
        EXPECT(memcmp(text, back, sizeof text) == 0);
    }
    for (int i = 0; i < 2; i++) tour_close(&io[i]);
}

/* Being closed, being cancelled -----------------------------------------------------------------*/

static void tour_reads(void *arg) {
    probe *p = (probe *)arg;
    char byte;
    p->result = (int)sch_read((sch_io *)p->arg, &byte, 1);
    /* Closed while it waited, or just before; else it could not wait. */
    if (p->result < 0 && p->result != -ECANCELED && p->result != -EBADF) {
        tour_retry(p->tour, -p->result, "sch_read", __LINE__);
        p->result = (int)sch_read((sch_io *)p->arg, &byte, 1);
        tour_retried(p->result == -ECANCELED || p->result == -EBADF, "sch_read", __LINE__);
    }
}

static void tour_cuts(tour *t) {
    sch_io io[2], *given = &io[0];
    sch_task *task[2];
    probe *p[2];
    int fds[2], result;
    tour_socket_pair(SOCK_STREAM, fds);
    for (int i = 0; i < 2; i++) tour_open(t, &io[i], fds[i]);
    for (int i = 0; i < 2; i++) task[i] = tour_start(t, tour_reads, &p[i], given);
    for (int i = 0; i < 3; i++) EXPECT_EQ(sch_yield_now(), 0);
    EXPECT_EQ(sch_cancel(task[0]), 0);
    EXPECT_EQ(tour_join(t, task[0]), -ECANCELED);
    EXPECT_EQ(p[0]->result, -ECANCELED);
    tour_close(&io[0]);
    result = tour_join(t, task[1]);
    EXPECT_EQ(result, 0); /* not it was cancelled, but what it waited for */
    EXPECT(p[1]->result == -ECANCELED || p[1]->result == -EBADF);
    TOUR_COUNT(t, result, sch_readable(&io[1])); /* the end */
    result = (int)sch_write(&io[1], "x", 1);
    if (result != -EPIPE) {
        tour_retry(t, -result, "sch_write", __LINE__);
        tour_retried(sch_write(&io[1], "x", 1) == -EPIPE, "sch_write", __LINE__);
    }
    tour_close(&io[1]);
}

/* The system may stop us until the shield is over. */
static int tour_sleep_before(uint64_t until) {
    const int result = sch_sleep(1);
    return result == -ECANCELED && sch_now() >= until ? 0 : result;
}

/* Clean-up that waits under a shield with a time. */
static void tour_cleans(void *arg) {
    probe *p = (probe *)arg;
    uint64_t until;
    p->result = sch_sleep_until(SCH_FOREVER);
    EXPECT_EQ(p->result, -ECANCELED);
    until = sch_now() + 300 * SCH_MICROSECOND;
    EXPECT_EQ(sch_shield_begin(until), 0);
    TOUR_CALL(p->tour, tour_sleep_before(until));
    EXPECT_EQ(sch_sleep(SCH_SECOND * 3600), -ECANCELED);
    EXPECT(sch_now() >= until);
    sch_shield_end();
}

static void tour_shields(tour *t) {
    probe *p;
    sch_task *task = tour_start(t, tour_cleans, &p, NULL);
    EXPECT_EQ(sch_cancel(task), 0);
    EXPECT_EQ(tour_join(t, task), -ECANCELED);
    EXPECT_EQ(tour_get(&p->drops), 1);
}

/* Signals, children -----------------------------------------------------------------------------*/

__attribute__((constructor)) static void tour_block_signal(void) { /* before any thread */
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0) abort();
}

static void tour_signals(tour *t) {
    const int numbers[1] = {SIGUSR1};
    sch_io io;
    int got;
    TOUR_CALL(t, sch_signals_open(&io, t->rt, numbers, 1));
    for (int i = 0; i < 2; i++) {
        if (kill(getpid(), SIGUSR1) != 0) abort();
        TOUR_COUNT(t, got, sch_signal_wait(&io));
        EXPECT_EQ(got, SIGUSR1);
    }
    tour_close(&io);
}

static void tour_children(tour *t) {
    int status = 0;
    sch_io io;
    pid_t child = vfork(); /* of a process with threads: it does nothing but end */
    if (child == 0) _exit(5);
    if (child < 0) { /* RLIMIT_NPROC */
        EXPECT(fault.real);
        return;
    }
    TOUR_CALL(t, sch_child_open(&io, t->rt, child));
    TOUR_CALL(t, sch_child_wait(&io, &status));
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 5);
    tour_close(&io);
}

/* In a poll task --------------------------------------------------------------------------------*/

typedef struct tour_line {
    probe *mine;
    tour *t;
    sch_timer timer;
    unsigned line;
} tour_line;

static void tour_drop_line(void *state) { (void)tour_add(&((tour_line *)state)->mine->drops); }

static sch_status tour_poll_line(sch_task *self, void *state) {
    tour_line *l = (tour_line *)state;
    (void)self;
    SCH_BEGIN(l->line);
    l->timer = sch_timer_after(100 * SCH_MICROSECOND);
    SCH_AWAIT(l->line, &l->timer.op);
    EXPECT_EQ(l->timer.op.result, 0);
    EXPECT(sch_now() >= l->timer.until);
    (void)tour_add(&l->mine->ran);
    SCH_END();
}

static void tour_line_by_line(tour *t) {
    static const sch_spawn_desc desc = {"line", SCH_HERE, 0, tour_drop_line};
    tour_line l;
    sch_task *task;
    memset(&l, 0, sizeof l);
    l.mine = tour_probe(t, NULL), l.t = t;
    task = sch_spawn_poll_with(t->rt, &desc, tour_poll_line, &l, sizeof l);
    if (!task) {
        tour_retry(t, sch_errno(), "sch_spawn_poll_with", __LINE__);
        l.mine = tour_probe(t, NULL);
        task = sch_spawn_poll_with(t->rt, &desc, tour_poll_line, &l, sizeof l);
        tour_retried(task != NULL, "sch_spawn_poll_with", __LINE__);
    }
    EXPECT_EQ(tour_join(t, task), 0);
    EXPECT_EQ(tour_get(&l.mine->ran), 1);
}

/* All of it -------------------------------------------------------------------------------------*/

static void tour_waits_in_task(void *arg) {
    tour *t = ((probe *)arg)->tour;
    tour_times(t);
    tour_shields(t);
    tour_line_by_line(t);
    if (!FAULT_HAS_IO) return;
    tour_local_streams(t);
    tour_tcp(t);
    tour_datagrams(t);
    tour_cuts(t);
    tour_signals(t);
    tour_children(t);
}

/* On a thread that visits: the same waits park it, or drive. */
static void tour_waits_visiting(void *arg) {
    tour *t = (tour *)arg;
    tour_times(t);
    if (!FAULT_HAS_IO) return;
    tour_local_streams(t);
    tour_datagrams(t);
}

static void tour_sleeps_briefly(void *arg) { tour_sleeps(((probe *)arg)->tour, SCH_MICROSECOND); }

/* A foreign loop, with a real poll. */
static void tour_embedded(tour *t) {
    struct pollfd watched;
    sch_task *task;
    probe *p;
    memset(&watched, 0, sizeof watched);
    watched.events = POLLIN;
    TOUR_COUNT(t, watched.fd, sch_poll_fd(t->rt));
    task = tour_spawn(t, TOUR_PLAIN, tour_sleeps_briefly, &p);
    while (!sch_is_done(task)) {
        uint64_t next, now;
        int more;
        TOUR_COUNT(t, more, sch_run_some(t->rt, SCH_MILLISECOND));
        if (more || sch_is_done(task)) continue;
        next = sch_next_deadline(t->rt), now = sch_now();
        (void)real_poll(&watched, 1, next <= now ? 0
                        : next - now > SCH_SECOND ? 1000
                                                  : (int)((next - now) / SCH_MILLISECOND + 1));
    }
    tour_finish(t, task, p, TOUR_PLAIN);
}

static void tour_naps_for_ever(void *arg) {
    EXPECT_EQ(sch_sleep_until(SCH_FOREVER - 1), -ECANCELED);
    EXPECT_EQ(sch_sleep(SCH_SECOND), -ECANCELED);
    (void)arg;
}

static void tour_waits_of(tour *t) {
    probe *p;
    sch_task *task = tour_spawn(t, TOUR_PLAIN, tour_waits_in_task, &p);
    tour_finish(t, task, p, TOUR_PLAIN);
    TOUR_CALL(t, sch_block_on(t->rt, tour_waits_visiting, t));
    if (FAULT_HAS_IO && t->setup->flavor == SCH_CURRENT_THREAD) tour_embedded(t);
    for (int i = 0; i < 2; i++) sch_detach(tour_spawn(t, TOUR_PLAIN, tour_naps_for_ever, &p));
    if (FAULT_HAS_IO) { /* left open, for the end of the runtime */
        int fds[2];
        tour_pipe(fds);
        for (int i = 0; i < 2; i++) tour_open(t, &t->left[i], fds[i]);
        sch_detach(tour_spawn_for(t, tour_reads, &p, &t->left[0]));
    }
}

#endif /* FAULT_TOUR_WAITS_H */
