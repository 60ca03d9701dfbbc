/* io.c - [9], [P9]: descriptors, by the public interface (but for the rules of readiness), so that
 * it serves every back end. What waits is run in each place that can wait (ops_run), on 1, 2 and 4
 * workers and on none. */
#include "support.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#define IO_LONG (20 * SCH_SECOND) /* what has not come by then is lost */

/* Addresses, pairs ------------------------------------------------------------------------------*/

typedef struct io_address {
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    } as;
    socklen_t len;
} io_address;

/* An address of this machine; the system chooses the port. */
static void io_local(int family, io_address *at) {
    static unsigned names;
    const char *dir = getenv("TMPDIR");
    memset(at, 0, sizeof *at);
    at->as.any.sa_family = (sa_family_t)family;
    if (family == AF_INET) {
        at->as.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        at->len = sizeof at->as.in;
    } else if (family == AF_INET6) {
        at->as.in6.sin6_addr = in6addr_loopback;
        at->len = sizeof at->as.in6;
    } else {
        snprintf(at->as.un.sun_path, sizeof at->as.un.sun_path, "%.60s/sch-io-%ld-%u",
                 dir && *dir ? dir : "/tmp", (long)getpid(), support_add(&names, 1));
        at->len = sizeof at->as.un;
    }
}

/* A socket there; -1: there are no such addresses. */
static int io_bound(int family, int type, io_address *at) {
    int fd = socket(family, type, 0);
    io_local(family, at);
    if (fd >= 0 && (bind(fd, &at->as.any, at->len) || getsockname(fd, &at->as.any, &at->len))) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static void io_forget(const io_address *at) {
    if (at->as.any.sa_family == AF_UNIX) unlink(at->as.un.sun_path);
}

static int io_listen(int family, int backlog, io_address *at) {
    int fd = io_bound(family, SOCK_STREAM, at);
    if (fd >= 0) EXPECT_EQ(listen(fd, backlog), 0);
    return fd;
}

/* Interrupted, it goes on by itself. */
static void io_connect(int fd, const io_address *at) {
    int result;
    do {
        result = connect(fd, &at->as.any, at->len);
    } while (result < 0 && (errno == EINTR || errno == EALREADY));
    EXPECT(result == 0 || errno == EISCONN);
}

enum io_kind { IO_PIPE, IO_SOCKETPAIR, IO_UNIX, IO_TCP, IO_TCP6, IO_KINDS };

/* Two connected descriptors, fd[1] writes to fd[0] (sockets: both ways). */
static bool io_pair(enum io_kind kind, int fd[2]) {
    const int family = kind == IO_UNIX ? AF_UNIX : kind == IO_TCP ? AF_INET : AF_INET6;
    io_address at;
    if (kind == IO_PIPE) return EXPECT_EQ(pipe(fd), 0);
    if (kind == IO_SOCKETPAIR) return EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    int listener = io_listen(family, 8, &at);
    if (listener < 0) return !EXPECT_EQ(family, AF_INET6);
    fd[1] = socket(family, SOCK_STREAM, 0);
    io_connect(fd[1], &at);
    do {
        fd[0] = accept(listener, NULL, NULL);
    } while (fd[0] < 0 && errno == EINTR);
    close(listener);
    io_forget(&at);
    return EXPECT(fd[0] >= 0);
}

static bool io_open_pair(sch_runtime *rt, enum io_kind kind, sch_io end[2]) {
    int fd[2];
    if (kind == IO_TCP6) {
        io_address at;
        int probe = io_bound(AF_INET6, SOCK_STREAM, &at);
        if (probe < 0) return false;
        close(probe);
    }
    if (!io_pair(kind, fd)) return false;
    EXPECT_EQ(sch_io_open(&end[0], rt, fd[0]), 0);
    EXPECT_EQ(sch_io_open(&end[1], rt, fd[1]), 0);
    return true;
}

static void io_close_pair(sch_io end[2]) {
    EXPECT_EQ(sch_io_close(&end[0]), 0);
    EXPECT_EQ(sch_io_close(&end[1]), 0);
}

/* One end in the runtime, the other one in the test's hands (blocking). */
static int io_half(sch_runtime *rt, enum io_kind kind, sch_io *io) {
    int fd[2];
    if (!io_pair(kind, fd)) abort();
    EXPECT_EQ(sch_io_open(io, rt, fd[0]), 0);
    return fd[1];
}

static void io_put(int fd, const void *bytes, size_t len) {
    EXPECT_EQ(write(fd, bytes, len), (ssize_t)len);
}

static bool io_is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

/* Write until it would have to wait. */
static void io_fill(int fd) {
    static const char zeros[4096];
    const int flags = fcntl(fd, F_GETFL), least = 1;
    EXPECT_EQ(fcntl(fd, F_SETFL, flags | O_NONBLOCK), 0);
    while (write(fd, zeros, sizeof zeros) > 0) continue;
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof least); /* TCP may yet send some */
    while (write(fd, zeros, 1) > 0) continue;
    EXPECT_EQ(fcntl(fd, F_SETFL, flags), 0);
}

/* The places ------------------------------------------------------------------------------------*/

typedef struct io_place {
    sch_runtime *rt;
    void (*body)(sch_runtime *rt);
} io_place;

static void io_in_place(void *arg) {
    io_place *p = (io_place *)arg;
    p->body(p->rt);
}

static const unsigned io_workers[] = {0, 1, 2, 4};
#define IO_RUNTIMES 4

/* All but a plain thread beside a runtime of the current thread, whose driver nobody would run. */
static void io_everywhere(void (*body)(sch_runtime *rt)) {
    for (int i = 0; i < IO_RUNTIMES; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, io_workers[i]);
        io_place p = {support_begin(&config), body};
        for (int place = 0; place < OPS_PLACES - (i == 0); place++) {
            ops_run(p.rt, place, io_in_place, &p);
        }
        support_end(p.rt, &memory);
    }
}

/* Each runtime, in a task. */
static void io_in_each_runtime(void (*body)(sch_runtime *rt)) {
    for (int i = 0; i < IO_RUNTIMES; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, io_workers[i]);
        io_place p = {support_begin(&config), body};
        support_run(p.rt, io_in_place, &p);
        support_end(p.rt, &memory);
    }
}

/* Streams ---------------------------------------------------------------------------------------*/

typedef struct io_flow {
    sch_io *io;
    size_t total, moved; /* bytes */
    unsigned key;        /* of what they are */
    ssize_t end;         /* the last result */
    bool hang_up;        /* then the sender shuts its side down, the receiver closes */
} io_flow;

static unsigned char io_byte(unsigned key, size_t at) {
    return (unsigned char)(key + at * 131 + (at >> 8) * 7);
}

static int io_split(struct iovec parts[3], unsigned char *bytes, size_t len) {
    size_t a = test_random() % (len + 1), b = a + test_random() % (len - a + 1);
    parts[0].iov_base = bytes, parts[0].iov_len = a;
    parts[1].iov_base = bytes + a, parts[1].iov_len = b - a;
    parts[2].iov_base = bytes + b, parts[2].iov_len = len - b;
    return 3;
}

static void io_send(void *arg) {
    io_flow *f = (io_flow *)arg;
    unsigned char piece[9000];
    struct iovec parts[3];
    for (f->end = 1; f->moved < f->total && f->end > 0;) {
        size_t len = 1 + test_random() % sizeof piece, written = 0;
        if (len > f->total - f->moved) len = f->total - f->moved;
        for (size_t i = 0; i < len; i++) piece[i] = io_byte(f->key, f->moved + i);
        switch (test_random() % 4) {
        case 0: f->end = sch_write(f->io, piece, len); break;
        case 1: f->end = sch_writev(f->io, parts, io_split(parts, piece, len)); break;
        default:
            f->end = sch_write_all(f->io, piece, len, &written);
            f->moved += written;
            EXPECT(f->end != 0 || written == len);
            if (f->end == 0) f->end = 1;
            continue;
        }
        EXPECT(f->end != 0);
        if (f->end > 0) f->moved += (size_t)f->end;
    }
    if (f->hang_up && sch_io_shutdown(f->io, SHUT_WR) == -ENOTSOCK) {
        EXPECT_EQ(sch_io_close(f->io), 0); /* a pipe */
    }
}

/* Up to the end of the input, or of total if that is not 0. */
static void io_receive(void *arg) {
    io_flow *f = (io_flow *)arg;
    unsigned char piece[9000];
    struct iovec parts[3];
    for (f->end = 1; f->end > 0 && (f->total == 0 || f->moved < f->total);) {
        size_t len = 1 + test_random() % (test_random() % 2 ? 100 : sizeof piece);
        if (f->total > 0 && len > f->total - f->moved) len = f->total - f->moved;
        f->end = test_random() % 2 ? sch_read(f->io, piece, len)
                                   : sch_readv(f->io, parts, io_split(parts, piece, len));
        for (ssize_t i = 0; i < f->end; i++, f->moved++) {
            if (piece[i] != io_byte(f->key, f->moved)) {
                EXPECT_EQ(piece[i], io_byte(f->key, f->moved));
                return;
            }
        }
    }
    if (f->hang_up) EXPECT_EQ(sch_io_close(f->io), 0);
}

static io_flow io_flow_of(sch_io *io, size_t total, unsigned key) {
    io_flow f;
    memset(&f, 0, sizeof f);
    f.io = io, f.total = total, f.key = key;
    return f;
}

/* Each direction is used and closed by itself; the one that is left still works. */
static void io_streams_body(sch_runtime *rt) {
    for (int kind = 0; kind < IO_KINDS; kind++) {
        const size_t total = test_scale(100000);
        sch_io end[2];
        if (!io_open_pair(rt, (enum io_kind)kind, end)) continue;
        io_flow there = io_flow_of(&end[1], total, 1), here = io_flow_of(&end[0], 0, 1);
        there.hang_up = true;
        sch_task *sender = sch_spawn(rt, io_send, &there);
        io_receive(&here);
        EXPECT_EQ(sch_join(sender), 0);
        EXPECT_EQ(here.end, 0);
        EXPECT_EQ(here.moved, total);
        if (kind != IO_PIPE) {
            io_flow back = io_flow_of(&end[0], total, 2), get = io_flow_of(&end[1], 0, 2);
            back.hang_up = true;
            sch_task *receiver = sch_spawn(rt, io_receive, &get);
            io_send(&back);
            EXPECT_EQ(sch_join(receiver), 0);
            EXPECT_EQ(get.end, 0);
            EXPECT_EQ(get.moved, total);
            EXPECT_EQ(sch_write(&end[0], "x", 1), -EPIPE);
            EXPECT_EQ(sch_io_close(&end[1]), 0);
        }
        EXPECT_EQ(sch_io_close(&end[0]), 0);
    }
}

TEST(io_streams_everywhere) { io_everywhere(io_streams_body); }

/* One reader and one writer at once on each end; the pair is full in both directions at times. */
static void io_duplex_body(sch_runtime *rt) {
    for (int kind = IO_SOCKETPAIR; kind < IO_KINDS; kind++) {
        const size_t total = test_scale(300000);
        sch_io end[2];
        sch_task *tasks[3];
        if (!io_open_pair(rt, (enum io_kind)kind, end)) continue;
        io_flow out[2], in[2];
        for (unsigned i = 0; i < 2; i++) {
            out[i] = io_flow_of(&end[i], total, i), in[i] = io_flow_of(&end[1 - i], total, i);
        }
        tasks[0] = sch_spawn(rt, io_receive, &in[0]);
        tasks[1] = sch_spawn(rt, io_receive, &in[1]);
        tasks[2] = sch_spawn(rt, io_send, &out[0]);
        io_send(&out[1]);
        for (int i = 0; i < 3; i++) EXPECT_EQ(sch_join(tasks[i]), 0);
        for (int i = 0; i < 2; i++) EXPECT(out[i].moved == total && in[i].moved == total);
        io_close_pair(end);
    }
}

TEST(io_reader_and_writer_at_once) { io_everywhere(io_duplex_body); }

/* A slow reader: write_all goes on to the end. One that hangs up: it says how much was written. */
static void io_slow_body(sch_runtime *rt) {
    static unsigned char bytes[1000000];
    for (int kind = 0; kind < IO_KINDS; kind++) {
        for (size_t wanted = sizeof bytes; wanted > 0; wanted -= sizeof bytes / 2) {
            const int small = 16384;
            size_t written = 0;
            sch_io end[2];
            if (!io_open_pair(rt, (enum io_kind)kind, end)) continue;
            (void)setsockopt(sch_io_fd(&end[0]), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
            (void)setsockopt(sch_io_fd(&end[1]), SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
            for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = io_byte(3, i);
            io_flow in = io_flow_of(&end[0], wanted, 3);
            in.hang_up = true;
            sch_task *reader = sch_spawn(rt, io_receive, &in);
            int result = sch_write_all(&end[1], bytes, sizeof bytes, &written);
            EXPECT_EQ(sch_join(reader), 0);
            EXPECT_EQ(in.moved, wanted);
            if (wanted == sizeof bytes) {
                EXPECT_EQ(result, 0);
                EXPECT_EQ(written, wanted);
                EXPECT_EQ(sch_write_all(&end[1], bytes, 0, NULL), 0);
            } else {
                EXPECT(result == -EPIPE || result == -ECONNRESET);
                EXPECT(written >= wanted && written < sizeof bytes);
            }
            EXPECT_EQ(sch_io_close(&end[1]), 0);
        }
    }
}

/* A reader that does not come: what was written until then is told. */
static void io_never_read_body(sch_runtime *rt) {
    static char bytes[1000000];
    for (int kind = 0; kind < IO_KINDS; kind++) {
        const uint64_t until = sch_now() + 2 * SCH_MILLISECOND;
        size_t written = 0, got = 0;
        sch_io end[2];
        if (!io_open_pair(rt, (enum io_kind)kind, end)) continue;
        int result = sch_write_all_until(&end[1], bytes, sizeof bytes, until, &written);
        EXPECT(result == 0 ? written == sizeof bytes : written < sizeof bytes);
        EXPECT(result == 0 || (result == -ETIMEDOUT && sch_now() >= until));
        EXPECT(written > 0 && (result != 0 || kind >= IO_TCP)); /* whose buffers may take it all */
        EXPECT_EQ(sch_io_close(&end[1]), 0);
        for (ssize_t n; (n = sch_read(&end[0], bytes, sizeof bytes)) > 0;) got += (size_t)n;
        EXPECT_EQ(got, written);
        EXPECT_EQ(sch_io_close(&end[0]), 0);
    }
}

TEST(io_write_with_a_time_limit) { io_everywhere(io_never_read_body); }

TEST(io_slow_reader_that_hangs_up) { io_in_each_runtime(io_slow_body); }

/* Several readers and writers on one pipe: each record arrives exactly once, each reader sees the
 * end. Records are as long as the readers' pieces, so that none is cut. */
typedef struct io_shared {
    sch_io end[2];
    unsigned next, records, read, ended, *seen;
} io_shared;

static void io_shared_reader(void *arg) {
    io_shared *s = (io_shared *)arg;
    uint32_t got[16];
    ssize_t n;
    while ((n = sch_read(&s->end[0], got, 4 * (1 + test_random() % 16))) > 0) {
        EXPECT_EQ(n % 4, 0);
        for (ssize_t i = 0; i < n / 4; i++) {
            if (EXPECT(got[i] < s->records)) (void)support_add(&s->seen[got[i]], 1);
            (void)support_add(&s->read, 1);
        }
        if (test_random() % 8 == 0) (void)sch_yield_now();
    }
    EXPECT_EQ(n, 0);
    (void)support_add(&s->ended, 1);
}

static void io_shared_writer(void *arg) {
    io_shared *s = (io_shared *)arg;
    uint32_t number;
    while ((number = support_add(&s->next, 1) - 1) < s->records) {
        EXPECT_EQ(sch_write(&s->end[1], &number, 4), 4);
        if (test_random() % 64 == 0) (void)sch_sleep(test_random() % 300 * SCH_MICROSECOND);
    }
}

static void io_shared_body(sch_runtime *rt) {
    enum { READERS = 5, WRITERS = 3 };
    io_shared s;
    sch_task *readers[READERS], *writers[WRITERS];
    memset(&s, 0, sizeof s);
    s.records = (unsigned)test_scale(20000);
    s.seen = (unsigned *)calloc(s.records, sizeof(unsigned));
    if (!s.seen || !io_open_pair(rt, IO_PIPE, s.end)) abort();
    for (int i = 0; i < READERS; i++) readers[i] = sch_spawn(rt, io_shared_reader, &s);
    for (int i = 0; i < WRITERS; i++) writers[i] = sch_spawn(rt, io_shared_writer, &s);
    for (int i = 0; i < WRITERS; i++) EXPECT_EQ(sch_join(writers[i]), 0);
    EXPECT_EQ(sch_io_close(&s.end[1]), 0);
    io_shared_reader(&s);
    for (int i = 0; i < READERS; i++) EXPECT_EQ(sch_join(readers[i]), 0);
    EXPECT_EQ(s.ended, READERS + 1);
    EXPECT_EQ(s.read, s.records);
    for (unsigned i = 0; i < s.records; i++)
        if (!EXPECT_EQ(s.seen[i], 1)) break;
    free(s.seen);
    EXPECT_EQ(sch_io_close(&s.end[0]), 0);
}

TEST(io_many_readers_of_one_pipe) { io_in_each_runtime(io_shared_body); }

/* Datagrams: boundaries, addresses, an empty one, one that is cut. */
static void io_datagrams_body(sch_runtime *rt) {
    const int families[] = {AF_INET, AF_INET6, AF_UNIX};
    for (int f = 0; f < 3; f++) {
        io_address at[2], from;
        sch_io end[2];
        char text[16];
        int fd[2];
        for (int i = 0; i < 2; i++) fd[i] = io_bound(families[f], SOCK_DGRAM, &at[i]);
        if (fd[0] < 0 && !EXPECT(families[f] != AF_INET)) return;
        if (fd[0] < 0) continue;
        for (int i = 0; i < 2; i++) EXPECT_EQ(sch_io_open(&end[i], rt, fd[i]), 0);
        sch_io_op early = sch_recvfrom_op(&end[0], text, sizeof text, 0, NULL, NULL);
        EXPECT_EQ(sch_timeout(&early.op, SCH_MILLISECOND), -ETIMEDOUT);
        EXPECT_EQ(sch_sendto(&end[1], "hello", 5, 0, &at[0].as.any, at[0].len), 5);
        EXPECT_EQ(sch_sendto(&end[1], NULL, 0, 0, &at[0].as.any, at[0].len), 0);
        EXPECT_EQ(sch_sendto(&end[1], "longer", 6, 0, &at[0].as.any, at[0].len), 6);
        from.len = sizeof from.as;
        EXPECT_EQ(sch_recvfrom(&end[0], text, sizeof text, 0, &from.as.any, &from.len), 5);
        EXPECT(memcmp(text, "hello", 5) == 0);
        EXPECT(from.len > 0 && memcmp(&from.as, &at[1].as, from.len) == 0);
        EXPECT_EQ(sch_recvfrom(&end[0], text, sizeof text, 0, NULL, NULL), 0);
        EXPECT_EQ(sch_recvfrom(&end[0], text, 4, 0, NULL, NULL), 4);
        sch_io_op late = sch_recvfrom_op(&end[0], text, sizeof text, 0, NULL, NULL);
        EXPECT_EQ(sch_timeout(&late.op, SCH_MILLISECOND), -ETIMEDOUT); /* the rest is gone */
        if (families[f] != AF_UNIX) { /* read and write serve a connected one */
            EXPECT_EQ(connect(fd[1], &at[0].as.any, at[0].len), 0);
            EXPECT_EQ(sch_write(&end[1], "w", 1), 1);
            EXPECT_EQ(sch_read(&end[0], text, sizeof text), 1);
        }
        io_close_pair(end);
        for (int i = 0; i < 2; i++) io_forget(&at[i]);
    }
}

TEST(io_datagrams) { io_everywhere(io_datagrams_body); }

/* Out-of-band data: a wait of its own; a read that stops at the mark does not lose what follows. */
static void io_priority_waiter(void *arg) {
    sch_io *io = (sch_io *)arg;
    char byte = 0;
    if (!SCHI_HAS_PRIORITY) {
        EXPECT_EQ(sch_priority(io), -ENOTSUP);
        return;
    }
    if (test_random() % 2) EXPECT_EQ(sch_priority(io), 0); /* else the read waits */
    EXPECT_EQ(sch_recvfrom(io, &byte, 1, MSG_OOB, NULL, NULL), 1);
    EXPECT_EQ(byte, '!');
}

static void io_priority_body(sch_runtime *rt) {
    for (int round = 0; round < 12; round++) { /* it is waited for by a task, here, or ignored */
        sch_io io;
        char text[100];
        size_t moved = 0;
        int peer = io_half(rt, IO_TCP, &io);
        sch_task *waiter = round % 3 == 0 ? sch_spawn(rt, io_priority_waiter, &io) : NULL;
        if (round % 2) (void)sch_sleep(SCH_MILLISECOND);
        io_put(peer, "abc", 3);
        EXPECT_EQ(send(peer, "!", 1, MSG_OOB), 1);
        if (round % 3 == 1) io_priority_waiter(&io);
        io_put(peer, "defg", 4);
        if (round % 4 < 2) (void)sch_sleep(SCH_MILLISECOND);
        while (moved < 7) {
            sch_io_op op = sch_read_op(&io, text + moved, sizeof text - moved);
            int64_t n = sch_timeout(&op.op, IO_LONG);
            if (!EXPECT(n > 0)) break;
            moved += (size_t)n;
            if (waiter) EXPECT_EQ(sch_join(waiter), 0); /* who reads past the mark has lost it */
            waiter = NULL;
        }
        EXPECT(memcmp(text, "abcdefg", 7) == 0);
        EXPECT_EQ(sch_io_close(&io), 0);
        close(peer);
    }
}

TEST(io_out_of_band) { io_everywhere(io_priority_body); }

/* Reads that are short although more is there: a descriptor in the way (SCM_RIGHTS), the packets of
 * a pipe (O_DIRECT), the lines of a terminal. What follows must not wait for the next event. */
static void io_send_with_descriptor(int fd, const char *text) {
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {(void *)(uintptr_t)text, strlen(text)};
    struct msghdr message;
    memset(&message, 0, sizeof message);
    memset(&control, 0, sizeof control);
    message.msg_iov = &part, message.msg_iovlen = 1;
    message.msg_control = control.room, message.msg_controllen = sizeof control.room;
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    EXPECT_EQ(sendmsg(fd, &message, 0), (ssize_t)part.iov_len);
}

static void io_read_in_pieces(sch_runtime *rt, int fd, int peer, const char *text) {
    const size_t len = strlen(text);
    char got[64];
    size_t moved = 0;
    sch_io io;
    EXPECT_EQ(sch_io_open(&io, rt, fd), 0);
    (void)sch_sleep(SCH_MILLISECOND); /* the events have come, too */
    while (moved < len) {
        sch_io_op op = sch_read_op(&io, got + moved, sizeof got - moved);
        int64_t n = sch_timeout(&op.op, IO_LONG);
        if (!EXPECT(n > 0)) break;
        moved += (size_t)n;
    }
    EXPECT(moved == len && memcmp(got, text, len) == 0);
    EXPECT_EQ(sch_io_close(&io), 0);
    close(peer);
}

static void io_short_body(sch_runtime *rt) {
    int fd[2];
    if (!io_pair(IO_SOCKETPAIR, fd)) return;
    io_put(fd[1], "ab", 2);
    io_send_with_descriptor(fd[1], "cd");
    io_put(fd[1], "ef", 2);
    io_read_in_pieces(rt, fd[0], fd[1], "abcdef");
#ifdef O_DIRECT
    if (pipe2(fd, O_DIRECT) == 0) {
        io_put(fd[1], "ab", 2);
        io_put(fd[1], "cd", 2);
        io_read_in_pieces(rt, fd[0], fd[1], "abcd");
    }
#endif
    fd[1] = posix_openpt(O_RDWR | O_NOCTTY);
    if (fd[1] >= 0 && grantpt(fd[1]) == 0 && unlockpt(fd[1]) == 0) {
        fd[0] = open(ptsname(fd[1]), O_RDWR | O_NOCTTY);
        io_put(fd[1], "ab\ncd\n", 6);
        io_read_in_pieces(rt, fd[0], fd[1], "ab\ncd\n");
    }
}

TEST(io_short_reads_with_more_behind) { io_in_each_runtime(io_short_body); }

/* Own calls beside the library's: what was ready may be gone. */
static void io_readiness_body(sch_runtime *rt) {
    for (int kind = IO_PIPE; kind <= IO_TCP; kind++) {
        sch_io io;
        char byte[8];
        int peer = io_half(rt, (enum io_kind)kind, &io);
        for (int i = 0; i < 3; i++) {
            sch_io_op ready = sch_ready_op(&io, SCH_IO_READABLE | SCH_IO_PRIORITY);
            EXPECT_EQ(sch_timeout(&ready.op, SCH_MILLISECOND), -ETIMEDOUT);
            io_put(peer, "xy", 2);
            EXPECT_EQ(sch_readable(&io), 0);
            EXPECT_EQ(sch_readable(&io), 0); /* it still is */
            EXPECT_EQ(read(sch_io_fd(&io), byte, 2), 2);
            EXPECT_EQ(read(sch_io_fd(&io), byte, 1), -1);
        }
        if (kind != IO_PIPE) {
            EXPECT_EQ(sch_writable(&io), 0);
            io_fill(sch_io_fd(&io));
            sch_io_op ready = sch_ready_op(&io, SCH_IO_WRITABLE);
            EXPECT_EQ(sch_timeout(&ready.op, SCH_MILLISECOND), -ETIMEDOUT);
        }
        close(peer);
        sch_io_op last = sch_ready_op(&io, SCH_IO_READABLE);
        EXPECT_EQ(sch_timeout(&last.op, IO_LONG), 0); /* the end of the input can be read */
        EXPECT_EQ(sch_io_close(&io), 0);
    }
}

TEST(io_readiness_and_own_calls) { io_everywhere(io_readiness_body); }

/* Connections -----------------------------------------------------------------------------------*/

typedef struct io_server {
    sch_runtime *rt;
    sch_io listener;
    io_address at;
    unsigned clients, accepted, served; /* any, atomic */
} io_server;

static bool io_serve(io_server *s, sch_runtime *rt, int family, int backlog) {
    memset(s, 0, sizeof *s);
    s->rt = rt;
    io_local(family, &s->at);
    if (sch_listen(&s->listener, rt, &s->at.as.any, s->at.len, backlog) != 0) {
        EXPECT_EQ(family, AF_INET6); /* the one that may be missing */
        return false;
    }
    return EXPECT_EQ(getsockname(sch_io_fd(&s->listener), &s->at.as.any, &s->at.len), 0);
}

static void io_serve_end(io_server *s) {
    EXPECT_EQ(sch_io_close(&s->listener), 0);
    io_forget(&s->at);
}

static void io_acceptor(void *arg) { /* until the listener is closed */
    io_server *s = (io_server *)arg;
    sch_io io;
    int result;
    while ((result = sch_accept(&s->listener, &io)) == 0) {
        const unsigned number = support_add(&s->accepted, 1);
        EXPECT(fcntl(sch_io_fd(&io), F_GETFD) & FD_CLOEXEC);
        EXPECT(fcntl(sch_io_fd(&io), F_GETFL) & O_NONBLOCK);
        EXPECT_EQ(sch_write(&io, &number, sizeof number), sizeof number);
        EXPECT_EQ(sch_io_close(&io), 0);
    }
    EXPECT(result == -ECANCELED || result == -EBADF);
}

static void io_client(void *arg) {
    io_server *s = (io_server *)arg;
    unsigned number = 0;
    sch_io io;
    if (!EXPECT_EQ(sch_connect(&io, s->rt, &s->at.as.any, s->at.len), 0)) return;
    EXPECT(fcntl(sch_io_fd(&io), F_GETFD) & FD_CLOEXEC);
    EXPECT_EQ(sch_read(&io, &number, sizeof number), sizeof number);
    EXPECT_EQ(sch_read(&io, &number, sizeof number), 0);
    EXPECT(number > 0 && number <= s->clients);
    EXPECT_EQ(sch_io_close(&io), 0);
    (void)support_add(&s->served, 1);
}

/* Several acceptors; more clients than a backlog of one holds, which a UNIX socket tells by EAGAIN
 * and TCP by silence. */
static void io_connections_body(sch_runtime *rt) {
    enum { ACCEPTORS = 3, CLIENTS = 12 };
    const int families[] = {AF_INET, AF_INET6, AF_UNIX};
    for (int f = 0; f < 3; f++) {
        const int backlog = families[f] == AF_UNIX ? 1 : CLIENTS;
        sch_task *acceptors[ACCEPTORS], *clients[CLIENTS];
        io_server s;
        if (!io_serve(&s, rt, families[f], backlog)) continue;
        s.clients = CLIENTS + 1;
        for (int i = 0; i < CLIENTS; i++) clients[i] = sch_spawn(rt, io_client, &s);
        if (f != 1) (void)sch_sleep(SCH_MILLISECOND); /* they fill the backlog */
        for (int i = 0; i < ACCEPTORS; i++) acceptors[i] = sch_spawn(rt, io_acceptor, &s);
        io_client(&s);
        for (int i = 0; i < CLIENTS; i++) EXPECT_EQ(sch_join(clients[i]), 0);
        EXPECT_EQ(s.served, CLIENTS + 1);
        EXPECT_EQ(s.accepted, CLIENTS + 1);
        io_serve_end(&s);
        for (int i = 0; i < ACCEPTORS; i++) EXPECT_EQ(sch_join(acceptors[i]), 0);
    }
}

TEST(io_connections) { io_everywhere(io_connections_body); }

/* Nobody there; a time limit on a connect that gets no answer; a reset. */
static void io_refused_body(sch_runtime *rt) {
    const struct linger reset = {1, 0};
    const int families[] = {AF_INET, AF_INET6, AF_UNIX};
    sch_io io = {NULL, 0};
    char byte;
    for (int f = 0; f < 3; f++) {
        io_address at;
        int fd = io_bound(families[f], SOCK_STREAM, &at); /* bound, not listening */
        if (fd < 0) continue;
        EXPECT_EQ(sch_connect(&io, rt, &at.as.any, at.len), -ECONNREFUSED);
        EXPECT_EQ(sch_io_close(&io), -EBADF);
        int result = sch_connect_start(&io, rt, &at.as.any, at.len);
        if (result == 0) {
            sch_io_op op = sch_connect_op(&io);
            result = (int)sch_timeout(&op.op, IO_LONG);
            EXPECT_EQ(sch_io_close(&io), 0);
        }
        EXPECT_EQ(result, -ECONNREFUSED);
        close(fd);
        io_forget(&at);
        if (families[f] == AF_UNIX) EXPECT_EQ(sch_connect(&io, rt, &at.as.any, at.len), -ENOENT);
    }

    int peer = io_half(rt, IO_TCP, &io);
    EXPECT_EQ(setsockopt(peer, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
    sch_io_op wait = sch_read_op(&io, &byte, 1);
    EXPECT_EQ(sch_timeout(&wait.op, SCH_MILLISECOND), -ETIMEDOUT);
    close(peer);
    EXPECT_EQ(sch_read(&io, &byte, 1), -ECONNRESET);
    EXPECT_EQ(sch_read(&io, &byte, 1), 0); /* an error is told once, as by read(2) */
    EXPECT_EQ(sch_write(&io, "x", 1), -EPIPE);
    EXPECT_EQ(sch_io_close(&io), 0);

    peer = io_half(rt, IO_TCP, &io); /* while it waits to write */
    EXPECT_EQ(setsockopt(peer, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
    io_fill(sch_io_fd(&io));
    wait = sch_write_op(&io, "x", 1);
    EXPECT_EQ(sch_timeout(&wait.op, SCH_MILLISECOND), -ETIMEDOUT);
    close(peer);
    EXPECT_EQ(sch_await(&wait.op), -ECONNRESET);
    EXPECT_EQ(sch_io_close(&io), 0);
}

TEST(io_refused_and_reset) { io_everywhere(io_refused_body); }

/* The reader goes away while somebody waits to write to it. */
static void io_reader_gone_body(sch_runtime *rt) {
    for (int kind = 0; kind < IO_KINDS; kind++) {
        sch_io end[2];
        if (!io_open_pair(rt, (enum io_kind)kind, end)) continue;
        io_fill(sch_io_fd(&end[1]));
        sch_io_op op = sch_write_op(&end[1], "x", 1);
        EXPECT_EQ(sch_timeout(&op.op, SCH_MILLISECOND), -ETIMEDOUT);
        EXPECT_EQ(sch_io_close(&end[0]), 0);
        int64_t result = sch_timeout(&op.op, IO_LONG);
        EXPECT(result == -EPIPE || (kind != IO_PIPE && result == -ECONNRESET));
        EXPECT_EQ(sch_write(&end[1], "x", 1), -EPIPE);
        EXPECT_EQ(sch_io_close(&end[1]), 0);
    }
}

TEST(io_reader_gone) { io_everywhere(io_reader_gone_body); }

/* A listener that is full of connections nobody takes: TCP does not answer, UNIX says EAGAIN. */
static void io_full_body(sch_runtime *rt) {
    const int families[] = {AF_INET, AF_UNIX};
    for (int f = 0; f < 2; f++) {
        sch_io io[8];
        io_server s;
        int open = 0, result = 0;
        if (!EXPECT(io_serve(&s, rt, families[f], 1))) return;
        for (; open < 8; open++) {
            result = sch_connect_start(&io[open], rt, &s.at.as.any, s.at.len);
            if (result == 0) {
                sch_io_op op = sch_connect_op(&io[open]);
                result = (int)sch_timeout(&op.op, 20 * SCH_MILLISECOND);
                if (result != 0) EXPECT_EQ(sch_io_close(&io[open]), 0);
            }
            if (result != 0) break;
        }
        EXPECT(open > 0 && open < 8);
        EXPECT(result == -ETIMEDOUT || result == -EAGAIN);
        for (int i = 0; i < open; i++) EXPECT_EQ(sch_io_close(&io[i]), 0);
        io_serve_end(&s);
    }
}

TEST(io_full_backlog) { io_everywhere(io_full_body); }

/* Out of descriptors: accept says so after a pause, and the connection still waits. */
static void io_emfile_body(sch_runtime *rt) {
    struct rlimit limit, none;
    io_server s;
    sch_io io = {NULL, 0};
    if (!EXPECT(io_serve(&s, rt, AF_INET, 8))) return;
    int peer = socket(AF_INET, SOCK_STREAM, 0);
    io_connect(peer, &s.at);
    EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    int free_fd = dup(peer); /* the lowest that is free, so that no lower one is */
    close(free_fd);
    none = limit;
    none.rlim_cur = (rlim_t)free_fd;
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    for (int i = 0; i < 3; i++) {
        const uint64_t start = sch_now();
        EXPECT_EQ(sch_accept(&s.listener, &io), -EMFILE);
        EXPECT(sch_now() - start >= 10 * SCH_MILLISECOND);
        EXPECT_EQ(sch_io_close(&io), -EBADF);
    }
    sch_io_op op = sch_accept_op(&s.listener, &io);
    EXPECT_EQ(sch_await(&op.op), -EMFILE);
    EXPECT_EQ(sch_connect(&io, rt, &s.at.as.any, s.at.len), -EMFILE);
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    op = sch_accept_op(&s.listener, &io);
    if (EXPECT_EQ(sch_timeout(&op.op, IO_LONG), 0)) {
        EXPECT_EQ(sch_write(&io, "x", 1), 1);
        EXPECT_EQ(sch_io_close(&io), 0);
    }
    close(peer);
    io_serve_end(&s);
}

TEST(io_out_of_descriptors) { io_everywhere(io_emfile_body); }

/* Closing ---------------------------------------------------------------------------------------*/

enum io_call {
    IO_READ, IO_READV, IO_RECVFROM, IO_READABLE, IO_PRIORITY, IO_WRITE, IO_WRITEV, IO_WRITE_ALL,
    IO_SENDTO, IO_WRITABLE, IO_ACCEPT, IO_CALLS
};

static int64_t io_do(enum io_call call, sch_io *io) {
    static char bytes[100000];
    struct iovec part = {bytes, 10};
    sch_io out;
    char byte;
    switch (call) {
    case IO_READ: return sch_read(io, &byte, 1);
    case IO_READV: return sch_readv(io, &part, 1);
    case IO_RECVFROM: return sch_recvfrom(io, &byte, 1, 0, NULL, NULL);
    case IO_READABLE: return sch_readable(io);
    case IO_PRIORITY: return sch_priority(io);
    case IO_WRITE: return sch_write(io, "x", 1);
    case IO_WRITEV: return sch_writev(io, &part, 1);
    case IO_WRITE_ALL: return sch_write_all(io, bytes, sizeof bytes, NULL);
    case IO_SENDTO: return sch_sendto(io, "x", 1, 0, NULL, 0);
    case IO_WRITABLE: return sch_writable(io);
    default: return sch_accept(io, &out);
    }
}

typedef struct io_waiter {
    enum io_call call;
    sch_io *io;
    unsigned *begun;
    int64_t result;
} io_waiter;

static void io_wait(void *arg) {
    io_waiter *w = (io_waiter *)arg;
    (void)support_add(w->begun, 1);
    w->result = io_do(w->call, w->io);
    EXPECT(!sch_cancelled()); /* the descriptor was closed, not the task cancelled */
    EXPECT_EQ(io_do(w->call, w->io), -EBADF);
}

static void io_stuck(void *arg) {
    io_waiter *w = (io_waiter *)arg;
    (void)support_add(w->begun, 1);
    w->result = io_do(w->call, w->io);
}

/* Each kind of call waits, twice in tasks and once on a plain thread, when the descriptor is closed
 * from here. With one thread that runs tasks, those that have begun wait. */
static void io_closing_body(sch_runtime *rt) {
    enum { EACH = 3 };
    for (int kind = IO_READ; kind < IO_CALLS; kind++) {
        if (kind == IO_PRIORITY && !SCHI_HAS_PRIORITY) continue;
        const bool several = sch_num_workers(rt) > 1, plain = several && kind != IO_PRIORITY;
        io_waiter w[EACH];
        support_thread thread;
        sch_task *tasks[EACH - 1];
        sch_io io, copy;
        io_server s;
        unsigned begun = 0;
        int peer = -1, fd;
        if (kind == IO_ACCEPT) {
            if (!EXPECT(io_serve(&s, rt, AF_INET, 1))) return;
            io = s.listener;
        } else {
            peer = io_half(rt, IO_TCP, &io);
        }
        fd = sch_io_fd(&io);
        if (kind >= IO_WRITE && kind <= IO_WRITABLE) io_fill(fd);
        copy = io;
        for (int i = 0; i < EACH; i++) {
            w[i].call = (enum io_call)kind, w[i].io = i ? &copy : &io, w[i].begun = &begun;
            if (i > 0) tasks[i - 1] = sch_spawn(rt, io_wait, &w[i]);
        }
        if (plain) support_thread_start(&thread, io_wait, &w[0]);
        while (support_get(&begun) < EACH - 1u + plain) (void)sch_sleep(SCH_MICROSECOND * 50);
        if (several) (void)sch_sleep(SCH_MILLISECOND);
        EXPECT_EQ(sch_io_close(&copy), 0);
        if (plain) support_thread_join(&thread);
        for (int i = 0; i < EACH - 1; i++) EXPECT_EQ(sch_join(tasks[i]), 0);
        for (int i = plain ? 0 : 1; i < EACH; i++) {
            EXPECT(w[i].result == -ECANCELED || (several && w[i].result == -EBADF));
        }
        EXPECT(!io_is_open(fd));
        EXPECT_EQ(sch_io_close(&io), -EBADF);
        EXPECT_EQ(sch_io_fd(&io), -EBADF);
        EXPECT_EQ(sch_io_shutdown(&io, SHUT_RD), -EBADF);
        if (peer >= 0) close(peer);
        if (kind == IO_ACCEPT) io_forget(&s.at);
    }
}

TEST(io_closing_while_someone_waits) { io_in_each_runtime(io_closing_body); }

/* More that wait for one descriptor than are woken in one go; they are told of its end by an event,
 * by its close, by a cancel, or by the end of the runtime. */
static void io_crowd_reader(void *arg) {
    io_waiter *w = (io_waiter *)arg;
    char byte;
    (void)support_add(w->begun, 1);
    EXPECT_EQ(sch_read(w->io, &byte, 1), w->result);
}

static int io_crowd_count(const sch_task_info *info, void *waiting) {
    if (info->phase == SCH_PHASE_WAITING && info->wait == SCH_WAIT_READ) ++*(unsigned *)waiting;
    return 0;
}

/* How many wait, not only are about to: what is closed before that is told -EBADF. */
static unsigned io_crowd_waiting(sch_runtime *rt) {
    unsigned waiting = 0;
    EXPECT_EQ(sch_each_task(rt, io_crowd_count, &waiting), 0);
    return waiting;
}

static void io_crowd_begun(void *arg) { /* it comes after all the others */
    (void)arg;
    EXPECT_EQ(sch_yield_now(), 0);
}

TEST(io_crowd_at_one_descriptor) {
    enum { CROWD = 300 };
    for (int how = 0; how < 4 * IO_RUNTIMES; how++) {
        const unsigned n = (unsigned)test_scale(CROWD) + 70;
        const int end = how / IO_RUNTIMES, joined = end == 0 || end == 1 ? 0 : -ECANCELED;
        checked_memory memory;
        sch_config config = support_config(&memory, io_workers[how % IO_RUNTIMES]);
        sch_runtime *rt = support_begin(&config);
        static sch_task *tasks[CROWD + 70];
        unsigned begun = 0;
        sch_io io;
        int peer = io_half(rt, IO_SOCKETPAIR, &io);
        io_waiter w = {IO_READ, &io, &begun, end == 0 ? 0 : -ECANCELED};
        for (unsigned i = 0; i < n; i++) tasks[i] = sch_spawn(rt, io_crowd_reader, &w);
        if (config.workers == 0) support_run(rt, io_crowd_begun, &w); /* somebody must run them */
        WAIT_FOR(support_get(&begun) == n);
        WAIT_FOR(io_crowd_waiting(rt) == n);
        if (end == 0) close(peer);
        if (end == 1) EXPECT_EQ(sch_io_close(&io), 0);
        for (unsigned i = 0; i < n && end == 2; i++) EXPECT_EQ(sch_cancel(tasks[i]), 0);
        if (end == 3) EXPECT_EQ(sch_runtime_shutdown(rt, SCH_FOREVER), 0);
        for (unsigned i = 0; i < n; i++) EXPECT_EQ(sch_join(tasks[i]), joined);
        if (end != 0) close(peer);
        support_end(rt, &memory);
    }
}

/* A task alone with a core that others want, too; it gets the runtime. */
static void io_with_one_core(sch_fn body) {
    checked_memory memory;
    sch_config config = support_config(&memory, 0);
    sch_runtime *rt = support_begin(&config);
    support_run(rt, body, rt);
    support_end(rt, &memory);
}

/* Closed after its reader was told of data, and before it runs, which after a wait is -ECANCELED
 * and not -EBADF; and the variable names another descriptor by then, whose data are not the
 * reader's. There is one core, so the reader stays queued while its closer runs. */
typedef struct io_told {
    sch_io io;
    ssize_t result;
} io_told;

static void io_told_reader(void *arg) {
    io_told *t = (io_told *)arg;
    char byte;
    t->result = sch_read(&t->io, &byte, 1);
}

static int io_told_look(const sch_task_info *info, void *queued) {
    *(bool *)queued |= info->phase == SCH_PHASE_QUEUED;
    return 0;
}

static void io_told_body(void *arg) {
    sch_runtime *rt = (sch_runtime *)arg;
    bool queued;
    do {
        io_told t = {{NULL, 0}, 0};
        int peer = io_half(rt, IO_SOCKETPAIR, &t.io);
        sch_task *reader = sch_spawn(NULL, io_told_reader, &t);
        while (io_crowd_waiting(rt) == 0) EXPECT_EQ(sch_yield_now(), 0);
        EXPECT_EQ(write(peer, "x", 1), 1);
        for (queued = false; !queued && t.result == 0;) {
            EXPECT_EQ(sch_yield_now(), 0); /* the driver is asked at some of them */
            EXPECT_EQ(sch_each_task(rt, io_told_look, &queued), 0);
        }
        EXPECT_EQ(sch_io_close(&t.io), 0);
        int other = io_half(rt, IO_SOCKETPAIR, &t.io);
        EXPECT_EQ(write(other, "N", 1), 1);
        EXPECT_EQ(sch_join(reader), 0);
        EXPECT_EQ(t.result, queued ? -ECANCELED : 1);
        EXPECT_EQ(sch_io_close(&t.io), 0);
        close(peer);
        close(other);
    } while (!queued);
}

TEST(io_closed_between_news_and_read) { io_with_one_core(io_told_body); }

/* A file that said once that it is not ready (/proc/kmsg does) is read all the same: nobody would
 * tell of a change. */
static void io_untold_body(void *arg) {
    char byte = 0;
    FILE *file = tmpfile();
    sch_io io;
    if (!EXPECT(file && fputs("file", file) >= 0 && fflush(file) == 0)) return;
    EXPECT_EQ(sch_io_open(&io, (sch_runtime *)arg, dup(fileno(file))), 0);
    EXPECT_EQ(lseek(sch_io_fd(&io), 0, SEEK_SET), 0);
    schi_io *record = (schi_io *)io.record;
    schi_io_clear(record, schi_load_acq(&record->ready), SCHI_READABLE | SCHI_WRITABLE);
    EXPECT_EQ(sch_read(&io, &byte, 1), 1);
    EXPECT_EQ(byte, 'f');
    EXPECT_EQ(sch_write(&io, "I", 1), 1);
    EXPECT_EQ(sch_io_close(&io), 0);
    fclose(file);
}

TEST(io_file_that_was_not_ready) { io_with_one_core(io_untold_body); }

/* Reads and writes that need not wait use up the budget: others run meanwhile. */
static void io_greedy_body(void *arg) {
    char bytes[4 * SCH_BUDGET] = {0};
    unsigned others = 0;
    sch_io io;
    int peer = io_half((sch_runtime *)arg, IO_SOCKETPAIR, &io);
    EXPECT_EQ(write(peer, bytes, sizeof bytes), (ssize_t)sizeof bytes);
    EXPECT_EQ(sch_go(NULL, support_count, &others), 0);
    for (int i = 0; i < 2 * SCH_BUDGET; i++) EXPECT_EQ(sch_read(&io, bytes, 1), 1);
    EXPECT_EQ(support_get(&others), 1);
    EXPECT_EQ(sch_go(NULL, support_count, &others), 0);
    for (int i = 0; i < 2 * SCH_BUDGET; i++) EXPECT_EQ(sch_write(&io, "x", 1), 1);
    EXPECT_EQ(support_get(&others), 2);
    EXPECT_EQ(sch_io_close(&io), 0);
    close(peer);
}

TEST(io_that_is_ready_uses_budget) { io_with_one_core(io_greedy_body); }

/* Shut down while someone waits: the reader sees the end, the writer an error. */
static void io_shut_body(sch_runtime *rt) {
    for (int kind = IO_SOCKETPAIR; kind < IO_KINDS; kind++) {
        for (int how = 0; how < 3; how++) { /* SHUT_RD, SHUT_WR, SHUT_RDWR */
            static const int all[3] = {SHUT_RD, SHUT_WR, SHUT_RDWR};
            unsigned begun = 0;
            sch_io end[2];
            if (!io_open_pair(rt, (enum io_kind)kind, end)) continue;
            io_fill(sch_io_fd(&end[0]));
            io_waiter r = {IO_READ, &end[0], &begun, 1}, w = {IO_WRITE, &end[0], &begun, 1};
            sch_task *reader = how != 1 ? sch_spawn(rt, io_stuck, &r) : NULL;
            sch_task *writer = how != 0 ? sch_spawn(rt, io_stuck, &w) : NULL;
            (void)sch_sleep(test_random() % 2 * SCH_MILLISECOND);
            EXPECT_EQ(sch_io_shutdown(&end[0], all[how]), 0);
            if (reader) EXPECT_EQ(sch_join(reader), 0);
            if (writer) EXPECT_EQ(sch_join(writer), 0);
            if (reader) EXPECT_EQ(r.result, 0);
            if (writer) EXPECT_EQ(w.result, -EPIPE);
            io_close_pair(end);
        }
    }
}

TEST(io_shutdown_while_someone_waits) { io_in_each_runtime(io_shut_body); }

static void io_interrupted(int number) { (void)number; }

/* SIGUSR1 interrupts system calls. */
static struct sigaction io_interrupts(void) {
    struct sigaction action, old;
    memset(&action, 0, sizeof action);
    action.sa_handler = io_interrupted; /* no SA_RESTART */
    EXPECT_EQ(sigaction(SIGUSR1, &action, &old), 0);
    return old;
}

/* Closed while a call is inside the system: the number must not be free before the call is out. The
 * test makes the pipe blocking behind the library's back, to hold the call there. */
TEST(io_close_waits_for_calls_under_way) {
    const struct sigaction old = io_interrupts();
    for (int place = 0; place < 2; place++) {
        checked_memory memory;
        sch_config config = support_config(&memory, 2);
        sch_runtime *rt = support_begin(&config);
        sch_task *task = NULL;
        support_thread thread;
        unsigned begun = 0;
        sch_io io, copy;
        int peer = io_half(rt, IO_PIPE, &io), fd = sch_io_fd(&io);
        io_waiter w = {IO_READ, &copy, &begun, 0};
        copy = io;
        io_put(peer, "x", 1);
        EXPECT_EQ(sch_read(&io, &begun, 1), 1); /* exactly what there was: still taken as ready */
        begun = 0;
        EXPECT_EQ(fcntl(fd, F_SETFL, 0), 0);
        if (place == 0) {
            task = sch_spawn(rt, io_stuck, &w);
        } else {
            support_thread_start(&thread, io_stuck, &w);
        }
        WAIT_FOR((schi_load_seq(&((schi_io *)io.record)->word) & SCHI_IO_CALLS) == 1);
        support_nap(20000);
        EXPECT_EQ(sch_io_close(&io), 0);
        EXPECT(io_is_open(fd));
        EXPECT_EQ(io_do(IO_READ, &io), -EBADF);
        EXPECT_EQ(sch_io_close(&io), -EBADF);
        if (place == 1) EXPECT_EQ(pthread_kill(thread.os, SIGUSR1), 0); /* EINTR is no answer */
        support_nap(1000);
        EXPECT(io_is_open(fd));
        io_put(peer, "y", 1);
        if (place == 0) {
            EXPECT_EQ(sch_join(task), 0);
        } else {
            support_thread_join(&thread);
        }
        EXPECT_EQ(w.result, 1);
        WAIT_FOR(!io_is_open(fd));
        close(peer);
        support_end(rt, &memory);
    }
    EXPECT_EQ(sigaction(SIGUSR1, &old, NULL), 0);
}

/* Numbers that are used again at once. Each owner opens pairs that carry nothing but its own mark,
 * others use what copies they saw, late: they get that mark or an error, never another's. */
typedef struct io_reuse {
    sch_runtime *rt;
    pthread_mutex_t lock;
    struct io_marked {
        sch_io io;
        uint32_t mark;
    } seen[8]; /* under lock */
    unsigned marks, over, stale, read, missed, owners;
    size_t rounds;
} io_reuse;

static void io_reuse_owner(void *arg) {
    io_reuse *u = (io_reuse *)arg;
    for (size_t i = 0; i < u->rounds; i++) {
        const uint32_t mark = support_add(&u->marks, 1);
        unsigned records = 1 + (unsigned)(test_random() % 4);
        uint32_t got;
        sch_io end[2];
        if (!io_open_pair(u->rt, i % 2 ? IO_SOCKETPAIR : IO_PIPE, end)) return;
        pthread_mutex_lock(&u->lock);
        struct io_marked *slot = &u->seen[test_random() % 8];
        slot->io = end[0], slot->mark = mark;
        pthread_mutex_unlock(&u->lock);
        for (unsigned k = 0; k < records; k++) EXPECT_EQ(sch_write(&end[1], &mark, 4), 4);
        if (test_random() % 2) (void)sch_yield_now();
        EXPECT_EQ(sch_io_close(&end[1]), 0);
        for (ssize_t n; (n = sch_read(&end[0], &got, 4)) != 0; records--) {
            if (!EXPECT_EQ(n, 4) || !EXPECT_EQ(got, mark)) break;
        }
        (void)support_add(&u->missed, records); /* others have read those */
        EXPECT_EQ(sch_io_close(&end[0]), 0);
    }
    if (support_add(&u->over, 1) == u->owners) support_set(&u->over, 1000);
}

static void io_reuse_stale(void *arg) {
    io_reuse *u = (io_reuse *)arg;
    while (support_get(&u->over) < 1000) {
        pthread_mutex_lock(&u->lock);
        struct io_marked m = u->seen[test_random() % 8];
        pthread_mutex_unlock(&u->lock);
        uint32_t got = 0;
        if (test_random() % 2) (void)sch_yield_now();
        sch_io_op op = sch_read_op(&m.io, &got, 4);
        switch (sch_timeout(&op.op, test_random() % 4 * 50 * SCH_MICROSECOND)) {
        case 4:
            EXPECT_EQ(got, m.mark);
            (void)support_add(&u->read, 1);
            break;
        case -EBADF: (void)support_add(&u->stale, 1); break;
        case 0: case -ETIMEDOUT: case -ECANCELED: break;
        default: EXPECT_EQ(op.op.result, 4);
        }
        if (test_random() % 8 == 0) {
            int result = sch_io_shutdown(&m.io, 100); /* is refused, but by its own socket */
            EXPECT(result == -EBADF || result == -EINVAL || result == -ENOTSOCK);
        }
        (void)sch_yield_now();
    }
}

TEST(io_numbers_used_again_at_once) {
    for (int i = 0; i < IO_RUNTIMES; i++) {
        enum { OWNERS = 4, OTHERS = 3 };
        checked_memory memory;
        sch_config config = support_config(&memory, io_workers[i]);
        sch_task *tasks[OWNERS + OTHERS];
        support_thread thread;
        io_reuse u;
        memset(&u, 0, sizeof u);
        pthread_mutex_init(&u.lock, NULL);
        u.rt = support_begin(&config), u.rounds = test_scale(1000), u.owners = OWNERS;
        for (int t = 0; t < OWNERS + OTHERS; t++) {
            tasks[t] = sch_spawn(u.rt, t < OWNERS ? io_reuse_owner : io_reuse_stale, &u);
        }
        if (i > 0) support_thread_start(&thread, io_reuse_stale, &u);
        for (int t = 0; t < OWNERS + OTHERS; t++) EXPECT_EQ(sch_join(tasks[t]), 0);
        if (i > 0) support_thread_join(&thread);
        EXPECT_EQ(u.read, u.missed);
        support_end(u.rt, &memory);
        pthread_mutex_destroy(&u.lock);
    }
}

/* A copy of the descriptor (dup) keeps the pipe alive after the close; what happens to it is no
 * business of whoever gets the record or the number next. */
static void io_dup_body(sch_runtime *rt) {
    for (int kind = IO_PIPE; kind <= IO_TCP; kind++) {
        sch_io io, next;
        char byte = 0;
        int peer = io_half(rt, (enum io_kind)kind, &io), fd = sch_io_fd(&io), copy = dup(fd);
        EXPECT_EQ(sch_io_close(&io), 0);
        EXPECT_EQ(dup2(copy, fd), fd); /* the same again, under the same number */
        EXPECT_EQ(sch_io_open(&io, rt, fd), 0);
        EXPECT_EQ(sch_io_close(&io), 0);
        int other = io_half(rt, (enum io_kind)kind, &next);
        io_put(peer, "a", 1);
        sch_io_op op = sch_read_op(&next, &byte, 1);
        EXPECT_EQ(sch_timeout(&op.op, SCH_MILLISECOND), -ETIMEDOUT);
        EXPECT_EQ(sch_io_open(&io, rt, copy), 0);
        EXPECT_EQ(sch_read(&io, &byte, 1), 1);
        EXPECT_EQ(byte, 'a');
        op = sch_read_op(&io, &byte, 1);
        EXPECT_EQ(sch_timeout(&op.op, SCH_MILLISECOND), -ETIMEDOUT);
        io_put(other, "b", 1);
        io_put(peer, "c", 1);
        EXPECT_EQ(sch_await(&op.op), 1);
        EXPECT_EQ(byte, 'c');
        EXPECT_EQ(sch_read(&next, &byte, 1), 1);
        EXPECT_EQ(byte, 'b');
        EXPECT_EQ(sch_io_close(&io), 0);
        EXPECT_EQ(sch_io_close(&next), 0);
        close(peer);
        close(other);
    }
}

TEST(io_closed_with_a_dup_left) { io_everywhere(io_dup_body); }

/* Cancel, time, choice --------------------------------------------------------------------------*/

/* Cancel against a byte that arrives at the same time, and against a second reader: each byte is
 * read once, by whom does not matter, and a reader that goes hands the wake on. */
typedef struct io_race {
    sch_io io;
    unsigned char byte, want; /* of the one that took it: byte is want */
    unsigned taken, begun;
} io_race;

static void io_race_reader(void *arg) {
    io_race *r = (io_race *)arg;
    unsigned char byte;
    (void)support_add(&r->begun, 1);
    ssize_t n = sch_read(&r->io, &byte, 1);
    if (n == 1) {
        EXPECT_EQ(byte, r->want);
        (void)support_add(&r->taken, 1);
    } else if (EXPECT_EQ(n, -ECANCELED)) {
        EXPECT(sch_cancelled());
        if (test_random() % 4 == 0) EXPECT_EQ(sch_sleep(SCH_SECOND), -ECANCELED); /* sticky */
    }
}

static void io_race_run(sch_runtime *rt, enum io_kind kind, int readers) {
    io_race r;
    memset(&r, 0, sizeof r);
    int peer = io_half(rt, kind, &r.io);
    for (size_t round = 0; round < test_scale(200); round++) {
        sch_task *task[2] = {NULL, NULL};
        unsigned ended = 0;
        r.want = (unsigned char)round, r.taken = r.begun = 0;
        for (int i = 0; i < readers; i++) task[i] = sch_spawn(rt, io_race_reader, &r);
        if (test_random() % 4) YIELD_UNTIL(support_get(&r.begun) == (unsigned)readers);
        if (test_random() % 2) (void)sch_sleep(test_random() % 100 * SCH_MICROSECOND);
        const bool cancel_first = test_random() % 2;
        if (cancel_first) (void)sch_cancel(task[0]);
        io_put(peer, &r.want, 1);
        if (!cancel_first) (void)sch_cancel(task[0]);
        for (int i = 0; i < readers; i++) {
            if (i > 0 && support_get(&r.taken) > 0) (void)sch_cancel(task[i]);
            ended += sch_join(task[i]) == 0;
        }
        EXPECT_EQ(ended, r.taken);
        if (readers > 1) EXPECT_EQ(r.taken, 1);
        if (r.taken == 0) {
            unsigned char byte = 0;
            sch_io_op op = sch_read_op(&r.io, &byte, 1);
            EXPECT_EQ(sch_timeout(&op.op, IO_LONG), 1);
            EXPECT_EQ(byte, r.want);
        }
        if (!EXPECT(r.taken <= 1)) break;
    }
    EXPECT_EQ(sch_io_close(&r.io), 0);
    close(peer);
}

static void io_race_body(sch_runtime *rt) {
    for (int readers = 1; readers <= 2; readers++) {
        io_race_run(rt, IO_PIPE, readers);
        io_race_run(rt, IO_TCP, readers);
    }
}

TEST(io_cancel_against_data) { io_in_each_runtime(io_race_body); }

/* The moments between a look that found nothing and the wait: what comes just then, data or a
 * close, must not be missed. Plain threads, so that a sleeper sees to the driver all the time. */
typedef struct io_moment {
    sch_runtime *rt;
    sch_io io;
    int peer;
    unsigned rounds, asked, answered; /* atomic */
    bool closes;
} io_moment;

static void io_moment_spin(void) { support_spin(test_random() % (30 * SCH_MICROSECOND)); }

static void io_moment_crew(void *arg, unsigned me) {
    io_moment *m = (io_moment *)arg;
    for (unsigned i = 1; i <= m->rounds; i++) {
        char byte;
        if (me == 0) { /* reads what the other sends, or what it closes */
            if (m->closes) m->peer = io_half(m->rt, IO_SOCKETPAIR, &m->io);
            support_set(&m->asked, i);
            io_moment_spin();
            const ssize_t n = sch_read(&m->io, &byte, 1);
            EXPECT(m->closes ? n == -ECANCELED || n == -EBADF : n == 1);
            if (m->closes) close(m->peer);
            while (support_get(&m->answered) != i) sched_yield();
        } else {
            while (support_get(&m->asked) != i) sched_yield();
            io_moment_spin();
            if (m->closes) {
                EXPECT_EQ(sch_io_close(&m->io), 0);
            } else {
                io_put(m->peer, "x", 1);
            }
            support_set(&m->answered, i);
        }
    }
}

TEST(io_at_the_wrong_moment) {
    for (int closes = 0; closes < 2; closes++) {
        checked_memory memory;
        sch_config config = support_config(&memory, 2);
        io_moment m;
        memset(&m, 0, sizeof m);
        m.rt = support_begin(&config), m.closes = closes, m.rounds = (unsigned)test_scale(5000);
        if (!closes) m.peer = io_half(m.rt, IO_SOCKETPAIR, &m.io);
        crew_run(2, io_moment_crew, &m);
        if (!closes) EXPECT_EQ(sch_io_close(&m.io), 0);
        if (!closes) close(m.peer);
        support_end(m.rt, &memory);
    }
}

/* The same moments, made by hand. */
TEST(io_rules_of_readiness) {
    checked_memory memory;
    sch_config config = support_config(&memory, 0);
    sch_runtime *rt = support_begin(&config);
    sch_io io;
    int peer = io_half(rt, IO_SOCKETPAIR, &io);
    schi_io *record = (schi_io *)io.record;
    sch_io_op op = sch_read_op(&io, &peer, 1);
    schi_expired none;
    schi_ready event = {schi_io_token(record), SCHI_READABLE};
    none.num = 0;
    uint32_t seen = schi_load_seq(&record->ready);
    EXPECT(seen & SCHI_READABLE); /* as far as is known */
    EXPECT(!schi_io_link(&rt->driver, record, &op));
    EXPECT(schi_io_event(&rt->driver, &event, &none)); /* after we looked */
    schi_io_clear(record, seen, SCHI_READABLE);
    EXPECT(schi_load_seq(&record->ready) & SCHI_READABLE);
    seen = schi_load_seq(&record->ready);
    schi_io_clear(record, seen, SCHI_READABLE);
    EXPECT(!(schi_load_seq(&record->ready) & SCHI_READABLE));
    EXPECT(schi_load_seq(&record->ready) & SCHI_WRITABLE);
    event.token ^= UINT64_C(1) << 32; /* of another generation */
    EXPECT(schi_io_event(&rt->driver, &event, &none));
    EXPECT(!(schi_load_seq(&record->ready) & SCHI_READABLE));
    EXPECT(schi_io_link(&rt->driver, record, &op));
    EXPECT_EQ(schi_io_cancel(&op.op), SCH_OP_REMOVED);
    EXPECT(schi_load_rlx(&record->waiting) == NULL);
    schi_or_acqrel(&record->word, SCHI_IO_CLOSING);
    EXPECT(!schi_io_link(&rt->driver, record, &op));
    schi_and_acqrel(&record->word, ~SCHI_IO_CLOSING);
    EXPECT_EQ(none.num, 0);
    EXPECT_EQ(sch_io_close(&io), 0);
    close(peer);
    support_end(rt, &memory);
}

/* Cancelled writers: what was written is told to the byte. A shield lets it be ended. */
typedef struct io_cut {
    sch_io io;
    size_t written;
    unsigned begun;
    int result;
    bool shield;
} io_cut;

static void io_cut_writer(void *arg) {
    static const unsigned char bytes[500000];
    io_cut *c = (io_cut *)arg;
    if (c->shield) EXPECT_EQ(sch_shield_begin(SCH_FOREVER), 0);
    (void)support_add(&c->begun, 1);
    c->result = sch_write_all(&c->io, bytes, sizeof bytes, &c->written);
    if (c->shield) sch_shield_end();
    EXPECT_EQ(sch_io_close(&c->io), 0);
}

static void io_cut_body(sch_runtime *rt) {
    for (int round = 0; round < 8; round++) {
        io_cut c;
        static char buffer[65536];
        size_t got = 0;
        sch_io end[2];
        memset(&c, 0, sizeof c);
        c.shield = round % 2;
        if (!io_open_pair(rt, round < 4 ? IO_PIPE : IO_SOCKETPAIR, end)) return;
        c.io = end[1];
        sch_task *task = sch_spawn(rt, io_cut_writer, &c);
        while (got < 100000) {
            ssize_t n = sch_read(&end[0], buffer, 1 + test_random() % sizeof buffer);
            if (!EXPECT(n > 0)) return;
            got += (size_t)n;
        }
        EXPECT_EQ(sch_cancel(task), 0);
        for (ssize_t n; (n = sch_read(&end[0], buffer, sizeof buffer)) != 0; got += (size_t)n) {
            if (!EXPECT(n > 0)) return;
        }
        EXPECT_EQ(sch_join(task), c.result);
        EXPECT_EQ(c.written, got);
        EXPECT(c.result == (got == 500000 ? 0 : -ECANCELED));
        if (c.shield) EXPECT_EQ(c.result, 0);
        EXPECT_EQ(sch_io_close(&end[0]), 0);
    }
}

TEST(io_cancelled_write_tells_how_much) { io_in_each_runtime(io_cut_body); }

/* Bytes that come at random, for readers that give up at random: by a time limit, or because one
 * of several operations was done. Each byte is read once and in its order. */
typedef struct io_drip {
    int fd[2];
    size_t bytes; /* to each */
} io_drip;

static void io_drip_main(void *arg) {
    io_drip *d = (io_drip *)arg;
    for (size_t sent[2] = {0, 0}; sent[0] + sent[1] < 2 * d->bytes;) {
        unsigned i = (unsigned)(test_random() % 2);
        if (sent[i] == d->bytes) i = 1 - i;
        const unsigned char byte = io_byte(i, sent[i]++);
        io_put(d->fd[i], &byte, 1);
        if (test_random() % 4 == 0) support_nap((long)(test_random() % 400));
    }
}

static void io_any_body(sch_runtime *rt) {
    sch_io io[2];
    io_drip d;
    support_thread thread;
    unsigned char buffer[2][3];
    size_t got[2] = {0, 0};
    sch_io_op op[2];
    unsigned errors = 0;
    for (int i = 0; i < 2; i++) {
        d.fd[i] = io_half(rt, i ? IO_TCP : IO_PIPE, &io[i]);
        op[i] = sch_read_op(&io[i], buffer[i], sizeof buffer[i]);
    }
    d.bytes = test_scale(500);
    support_thread_start(&thread, io_drip_main, &d);
    while (got[0] + got[1] < 2 * d.bytes && errors == 0) {
        sch_timer timer = sch_timer_after(test_random() % 300 * SCH_MICROSECOND);
        sch_op *ops[3] = {&op[0].op, &op[1].op, &timer.op};
        const bool both = test_random() % 4;
        if (!both) { /* one, with a time limit */
            const unsigned i = (unsigned)(test_random() % 2);
            ops[0] = &op[i].op, op[1 - i] = sch_read_op(&io[1 - i], buffer[1 - i], 3);
            int64_t n = sch_await_until(ops[0], timer.until);
            errors += !EXPECT(n > 0 || n == -ETIMEDOUT);
        } else {
            int first = sch_await_any(ops, 2 + test_random() % 2, sch_now() + SCH_MILLISECOND);
            errors += !EXPECT(first == -ETIMEDOUT || (first >= 0 && sch_op_is_done(ops[first])));
        }
        for (int i = 0; i < 2; i++) {
            if (!sch_op_is_done(&op[i].op)) continue;
            for (int64_t k = 0; k < op[i].op.result; k++, got[i]++) {
                errors += !EXPECT_EQ(buffer[i][k], io_byte((unsigned)i, got[i]));
            }
            errors += !EXPECT(op[i].op.result > 0 && got[i] <= d.bytes);
            op[i] = sch_read_op(&io[i], buffer[i], 1 + test_random() % 3);
        }
    }
    support_thread_join(&thread);
    for (int i = 0; i < 2; i++) {
        EXPECT_EQ(got[i], d.bytes);
        EXPECT_EQ(sch_io_close(&io[i]), 0);
        close(d.fd[i]);
    }
}

TEST(io_one_of_several) { io_everywhere(io_any_body); }

/* The same for connections: none is lost by an accept that gave up. */
static void io_late_clients(void *arg) {
    io_server *s = (io_server *)arg;
    for (unsigned i = 0; i < s->clients; i++) {
        int fd = socket(s->at.as.any.sa_family, SOCK_STREAM, 0);
        io_connect(fd, &s->at);
        if (i % 4) support_nap((long)(test_random() % 500));
        close(fd);
    }
}

static void io_accept_body(sch_runtime *rt) {
    support_thread thread;
    io_server s;
    if (!EXPECT(io_serve(&s, rt, AF_UNIX, 100))) return;
    s.clients = (unsigned)test_scale(200);
    support_thread_start(&thread, io_late_clients, &s);
    while (s.accepted < s.clients) {
        sch_io io;
        sch_io_op op = sch_accept_op(&s.listener, &io);
        int64_t result = sch_timeout(&op.op, test_random() % 400 * SCH_MICROSECOND);
        if (result == 0) EXPECT_EQ(sch_io_close(&io), 0);
        if (result == 0) s.accepted++;
        if (!EXPECT(result == 0 || result == -ETIMEDOUT)) break;
    }
    support_thread_join(&thread);
    sch_io_op op = sch_accept_op(&s.listener, &s.listener);
    EXPECT_EQ(sch_timeout(&op.op, SCH_MILLISECOND), -ETIMEDOUT);
    io_serve_end(&s);
}

TEST(io_accept_with_a_time_limit) { io_everywhere(io_accept_body); }

/* Poll tasks ------------------------------------------------------------------------------------*/

typedef struct io_machine {
    unsigned line;
    sch_io io;
    sch_io_op op;
    char bytes[200];
    size_t len, sent;
} io_machine;

static sch_status io_machine_poll(sch_task *self, void *state) { /* sends back what it gets */
    io_machine *m = (io_machine *)state;
    (void)self;
    SCH_BEGIN(m->line);
    for (;;) {
        m->op = sch_read_op(&m->io, m->bytes, sizeof m->bytes);
        SCH_AWAIT(m->line, &m->op.op);
        if (m->op.op.result <= 0) break;
        m->len = (size_t)m->op.op.result;
        for (m->sent = 0; m->sent < m->len; m->sent += (size_t)m->op.op.result) {
            m->op = sch_write_op(&m->io, m->bytes + m->sent, m->len - m->sent);
            SCH_AWAIT(m->line, &m->op.op);
            if (m->op.op.result <= 0) break;
        }
        if (m->op.op.result <= 0) break;
    }
    SCH_END();
}

static sch_task *io_machine_start(sch_runtime *rt, sch_io io) {
    io_machine m;
    memset(&m, 0, sizeof m);
    m.io = io;
    return sch_spawn_poll(rt, io_machine_poll, &m, sizeof m);
}

static void io_machine_body(sch_runtime *rt) {
    sch_io end[2];
    char byte = 0;
    if (!io_open_pair(rt, IO_TCP, end)) return;
    const size_t total = test_scale(300000);
    io_flow out = io_flow_of(&end[1], total, 5), in = io_flow_of(&end[1], 0, 5);
    sch_task *echo = io_machine_start(rt, end[0]), *sender = sch_spawn(rt, io_send, &out);
    in.total = total;
    io_receive(&in);
    EXPECT_EQ(sch_join(sender), 0);
    EXPECT_EQ(in.moved, total);

    if (test_random() % 2) (void)sch_sleep(SCH_MILLISECOND);
    EXPECT_EQ(sch_cancel(echo), 0); /* in its read, which takes nothing any more */
    EXPECT_EQ(sch_join(echo), -ECANCELED);
    EXPECT_EQ(sch_write(&end[1], "q", 1), 1);
    EXPECT_EQ(sch_read(&end[0], &byte, 1), 1);
    EXPECT_EQ(byte, 'q');
    echo = io_machine_start(rt, end[0]);
    EXPECT_EQ(sch_io_shutdown(&end[1], SHUT_WR), 0);
    EXPECT_EQ(sch_join(echo), 0);
    io_close_pair(end);
}

TEST(io_in_poll_tasks) { io_in_each_runtime(io_machine_body); }

/* Where it was not opened: a descriptor of one runtime in a task of another, on plain threads. */
static void io_read_some(void *arg) {
    io_flow *f = (io_flow *)arg;
    io_receive(f);
    EXPECT_EQ(f->moved, f->total);
}

TEST(io_used_by_strangers) {
    for (int i = 1; i < IO_RUNTIMES; i++) {
        for (int k = 0; k < IO_RUNTIMES; k++) {
            checked_memory memory[2];
            sch_config config = support_config(&memory[0], io_workers[i]);
            sch_runtime *rt = support_begin(&config), *other;
            config = support_config(&memory[1], io_workers[k]);
            other = support_begin(&config);
            const size_t total = test_scale(50000);
            for (int place = 0; place < OPS_PLACES; place++) {
                sch_io end[2];
                if (!io_open_pair(rt, place % 2 ? IO_PIPE : IO_TCP, end)) return;
                io_flow out = io_flow_of(&end[1], total, 9), in = io_flow_of(&end[0], total, 9);
                sch_task *sender = sch_spawn(rt, io_send, &out);
                ops_run(other, place, io_read_some, &in);
                EXPECT_EQ(sch_join(sender), 0);
                io_close_pair(end);
            }
            support_end(other, &memory[1]);
            support_end(rt, &memory[0]);
        }
    }
}

/* Files -----------------------------------------------------------------------------------------*/

typedef struct io_beside {
    unsigned ticks, over;
} io_beside;

static void io_ticker(void *arg) {
    io_beside *b = (io_beside *)arg;
    while (support_get(&b->over) == 0) {
        (void)support_add(&b->ticks, 1);
        (void)sch_yield_now();
    }
}

static void io_files_body(sch_runtime *rt) {
    static const char *const odd[] = {"/dev/null", "/dev/zero"};
    const size_t total = test_scale(500000) + 10000;
    char name[] = "/tmp/sch-io-XXXXXX", some[100];
    io_beside b = {0, 0};
    sch_task *ticker = sch_spawn(rt, io_ticker, &b);
    sch_io io, twice;
    int fd = mkstemp(name);
    if (!EXPECT(fd >= 0)) return;
    EXPECT_EQ(sch_io_open(&io, rt, fd), 0);
    io_flow out = io_flow_of(&io, total, 7), in = io_flow_of(&io, 0, 7);
    io_send(&out);
    EXPECT_EQ(out.moved, total);
    EXPECT_EQ(sch_read(&io, some, 1), 0);
    EXPECT_EQ(lseek(fd, 0, SEEK_SET), 0);
    io_receive(&in);
    EXPECT(in.end == 0 && in.moved == total);
    EXPECT_EQ(lseek(fd, 5, SEEK_SET), 5);
    sch_io_op op = sch_read_op(&io, some, 1);
    EXPECT_EQ(sch_timeout(&op.op, IO_LONG), 1);
    EXPECT_EQ((unsigned char)some[0], io_byte(7, 5));
    EXPECT_EQ(sch_readable(&io), 0);
    EXPECT_EQ(sch_writable(&io), 0);
    EXPECT_EQ(sch_recvfrom(&io, some, 1, 0, NULL, NULL), -ENOTSOCK);
    EXPECT_EQ(sch_io_open(&twice, rt, fd), -EEXIST);
    EXPECT_EQ(sch_io_close(&io), 0);
    EXPECT(!io_is_open(fd));
    unlink(name);
    for (int i = 0; i < 2; i++) {
        memset(some, 1, sizeof some);
        EXPECT_EQ(sch_io_open(&io, rt, open(odd[i], O_RDWR)), 0);
        EXPECT_EQ(sch_write(&io, some, sizeof some), sizeof some);
        EXPECT_EQ(sch_read(&io, some, sizeof some), i ? sizeof some : 0);
        EXPECT_EQ(some[0], i ? 0 : 1);
        EXPECT_EQ(sch_io_close(&io), 0);
    }
    support_set(&b.over, 1);
    EXPECT_EQ(sch_join(ticker), 0);
}

TEST(io_files_and_odd_devices) { io_everywhere(io_files_body); }

/* A read from a file that takes long is not in the way of the other tasks, on one worker. */
static void io_long_read(void *arg) {
    io_beside *b = (io_beside *)arg;
    const size_t size = (size_t)64 << 20;
    char *memory = (char *)malloc(size);
    unsigned before, most = 0;
    sch_io io;
    if (!memory) abort();
    EXPECT_EQ(sch_io_open(&io, NULL, open("/dev/zero", O_RDONLY)), 0);
    const uint64_t start = sch_now();
    while (most < 2 && sch_now() - start < IO_LONG) { /* one that takes long enough */
        before = support_get(&b->ticks);
        const ssize_t n = sch_read(&io, memory, size);
        EXPECT(n > 0);
        if (n != (ssize_t)size) continue; /* the process was stopped meanwhile: does not count */
        before = support_get(&b->ticks) - before;
        if (before > most) most = before;
    }
    EXPECT(most >= 2); /* in a read of all */
    EXPECT_EQ(sch_io_close(&io), 0);
    free(memory);
    support_set(&b->over, 1);
}

TEST(io_long_read_of_a_file) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    sch_runtime *rt = support_begin(&config);
    io_beside b = {0, 0};
    sch_task *ticker = sch_spawn(rt, io_ticker, &b);
    support_run(rt, io_long_read, &b);
    EXPECT_EQ(sch_join(ticker), 0);
    support_end(rt, &memory);
}

/* Bad input -------------------------------------------------------------------------------------*/

TEST(io_bad_input) {
    checked_memory memory[2];
    sch_config config = support_config(&memory[0], 1);
    sch_runtime *rt = support_begin(&config), *without;
    sch_io none, io, twice, *const bad[2] = {&none, NULL};
    struct iovec part = {NULL, 0};
    int fd[2], status;
    io_address at;
    config = support_config(&memory[1], 2);
    config.no_io = true;
    without = support_begin(&config);
    memset(&none, 0, sizeof none);
    if (!io_pair(IO_PIPE, fd)) return;
    for (int i = 0; i < 2; i++) { /* names nothing; no handle at all */
        for (int call = 0; call < IO_CALLS; call++) {
            EXPECT_EQ(io_do((enum io_call)call, bad[i]), -EBADF);
        }
        EXPECT_EQ(sch_io_close(bad[i]), -EBADF);
        EXPECT_EQ(sch_io_fd(bad[i]), -EBADF);
        EXPECT_EQ(sch_io_shutdown(bad[i], SHUT_RD), -EBADF);
        EXPECT_EQ(sch_signal_wait(bad[i]), -EBADF);
        EXPECT_EQ(sch_child_wait(bad[i], &status), -EBADF);
        sch_io_op ops[] = {
            sch_read_op(bad[i], &status, 1), sch_write_op(bad[i], &status, 1),
            sch_recvfrom_op(bad[i], &status, 1, 0, NULL, NULL),
            sch_sendto_op(bad[i], &status, 1, 0, NULL, 0), sch_accept_op(bad[i], &io),
            sch_connect_op(bad[i]), sch_ready_op(bad[i], SCH_IO_READABLE), sch_signal_op(bad[i]),
            sch_child_op(bad[i], NULL)};
        for (size_t k = 0; k < sizeof ops / sizeof ops[0]; k++) {
            EXPECT_EQ(sch_await(&ops[k].op), -EBADF);
        }
    }
    EXPECT_EQ(sch_io_open(NULL, rt, fd[0]), -EINVAL);
    EXPECT_EQ(sch_io_open(&io, NULL, fd[0]), -EINVAL);
    EXPECT_EQ(sch_io_open(&io, rt, -1), -EBADF);
    EXPECT_EQ(sch_io_open(&io, rt, 12345), -EBADF);
    EXPECT_EQ(sch_io_open(&io, without, fd[0]), -ENOTSUP);
    EXPECT_EQ(sch_connect(&io, rt, NULL, 0), -EINVAL);
    EXPECT_EQ(sch_connect(NULL, rt, &at.as.any, 1), -EINVAL);
    memset(&at, 0, sizeof at);
    at.as.any.sa_family = 255;
    EXPECT_EQ(sch_connect(&io, rt, &at.as.any, sizeof at.as), -EAFNOSUPPORT);
    EXPECT(io_is_open(fd[0]));

    EXPECT_EQ(sch_io_open(&io, rt, fd[0]), 0);
    EXPECT_EQ(sch_io_open(&twice, rt, fd[0]), -EEXIST);
    EXPECT_EQ(sch_io_fd(&io), fd[0]);
    EXPECT_EQ(sch_accept(&io, &twice), -ENOTSOCK);
    EXPECT_EQ(sch_io_shutdown(&io, SHUT_RD), -ENOTSOCK);
    EXPECT_EQ(sch_write(&io, "x", 1), -EBADF); /* the reading end */
    EXPECT_EQ(sch_read(&io, NULL, 0), 0);
    EXPECT_EQ(sch_readv(&io, &part, -1), -EINVAL);
    EXPECT_EQ(sch_readv(&io, NULL, 1), -EINVAL);
    io_put(fd[1], "x", 1);
    EXPECT_EQ(sch_read(&io, NULL, 1), -EFAULT);
    EXPECT_EQ(sch_io_close(&io), 0);
    close(fd[1]);
    support_end(without, &memory[1]);
    support_end(rt, &memory[0]);
}

static sch_status io_poll_must_not_wait(sch_task *self, void *state) {
    sch_io *io = *(sch_io **)state;
    char byte;
    (void)self;
    EXPECT_EQ(sch_read(io, &byte, 1), 1); /* what is there needs no wait */
    EXPECT_EQ(sch_read(io, &byte, 1), -EPERM);
    return SCH_READY;
}

TEST(io_poll_functions_must_not_wait) {
    checked_memory memory;
    sch_config config = support_config(&memory, 2);
    sch_runtime *rt = support_begin(&config);
    sch_io io, *at = &io;
    int peer = io_half(rt, IO_PIPE, &io);
    io_put(peer, "x", 1);
    EXPECT_EQ(sch_join(sch_spawn_poll(rt, io_poll_must_not_wait, &at, sizeof at)), 0);
    close(peer);
    support_end(rt, &memory);
}

/* Signals that must not come, and those that do -------------------------------------------------*/

static void io_sigpipe_body(sch_runtime *rt) {
    sigset_t before, after, pending, only;
    const struct iovec part = {&before, 1};
    sigemptyset(&only);
    sigaddset(&only, SIGPIPE);
    EXPECT_EQ(pthread_sigmask(SIG_SETMASK, NULL, &before), 0);
    for (int kind = IO_PIPE; kind <= IO_TCP; kind++) {
        sch_io io, *const w = &io;
        int fd[2], patience = 1000;
        if (!io_pair((enum io_kind)kind, fd)) return;
        EXPECT_EQ(sch_io_open(&io, rt, fd[1]), 0);
        close(fd[0]);
        if (kind == IO_TCP) { /* its peer has to say so first */
            while (sch_write(w, "x", 1) == 1 && patience-- > 0) (void)sch_sleep(SCH_MILLISECOND);
        }
        EXPECT_EQ(sch_write(w, "x", 1), -EPIPE);
        EXPECT_EQ(sch_writev(w, &part, 1), -EPIPE);
        EXPECT_EQ(sch_write_all(w, "xy", 2, NULL), -EPIPE);
        if (kind != IO_PIPE) EXPECT_EQ(sch_sendto(w, "x", 1, 0, NULL, 0), -EPIPE);
        sch_io_op op = sch_write_op(w, "x", 1);
        EXPECT_EQ(sch_await(&op.op), -EPIPE);
        EXPECT_EQ(sch_io_close(&io), 0);
    }
    EXPECT_EQ(pthread_sigmask(SIG_SETMASK, NULL, &after), 0);
    EXPECT_EQ(sigismember(&after, SIGPIPE), sigismember(&before, SIGPIPE));
    EXPECT_EQ(sigpending(&pending), 0);
    EXPECT_EQ(sigismember(&pending, SIGPIPE), 0);
}

static void io_sigpipe_kept(sch_runtime *rt) { /* one that was there before is the program's */
    sigset_t only, old, pending;
    const struct timespec now = {0, 0};
    sch_io io;
    int fd[2];
    sigemptyset(&only);
    sigaddset(&only, SIGPIPE);
    EXPECT_EQ(pthread_sigmask(SIG_BLOCK, &only, &old), 0);
    if (!io_pair(IO_PIPE, fd)) return;
    EXPECT_EQ(sch_io_open(&io, rt, fd[1]), 0);
    close(fd[0]);
    EXPECT_EQ(pthread_kill(pthread_self(), SIGPIPE), 0);
    EXPECT_EQ(sch_write(&io, "x", 1), -EPIPE);
    EXPECT_EQ(sigpending(&pending), 0);
    EXPECT_EQ(sigismember(&pending, SIGPIPE), 1);
    EXPECT_EQ(sigtimedwait(&only, NULL, &now), SIGPIPE);
    EXPECT_EQ(pthread_sigmask(SIG_SETMASK, &old, NULL), 0);
    EXPECT_EQ(sch_io_close(&io), 0);
}

TEST(io_never_sigpipe) {
    struct sigaction standard, old, now;
    memset(&standard, 0, sizeof standard);
    standard.sa_handler = SIG_DFL; /* a SIGPIPE would end this process */
    EXPECT_EQ(sigaction(SIGPIPE, &standard, &old), 0);
    io_everywhere(io_sigpipe_body);
    io_everywhere(io_sigpipe_kept);
    EXPECT_EQ(sigaction(SIGPIPE, &old, &now), 0);
    EXPECT(now.sa_handler == SIG_DFL);
}

typedef struct io_storm {
    pthread_t target;
    unsigned over, hits;
} io_storm;

static void io_storm_main(void *arg) {
    io_storm *s = (io_storm *)arg;
    while (support_get(&s->over) == 0) {
        EXPECT_EQ(pthread_kill(s->target, SIGUSR1), 0);
        support_nap((long)(test_random() % 100));
        s->hits++;
    }
}

/* Every call that the thread makes is interrupted now and then; the runtime's own block signals. */
static void io_storm_body(sch_runtime *rt) {
    io_storm s;
    support_thread thread;
    memset(&s, 0, sizeof s);
    s.target = pthread_self();
    support_thread_start(&thread, io_storm_main, &s);
    for (int i = 0; i < 3 || s.hits == 0; i++) {
        io_connections_body(rt);
        io_any_body(rt);
    }
    support_set(&s.over, 1);
    support_thread_join(&thread);
    EXPECT(s.hits > 0);
}

TEST(io_storm_of_signals) {
    const struct sigaction old = io_interrupts();
    for (int i = 0; i < IO_RUNTIMES; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, io_workers[i]);
        io_place p = {support_begin(&config), io_storm_body};
        ops_run(p.rt, 3, io_in_place, &p); /* block_on */
        if (i > 0) io_storm_body(p.rt);
        support_end(p.rt, &memory);
    }
    EXPECT_EQ(sigaction(SIGUSR1, &old, NULL), 0);
}

/* The end of a runtime --------------------------------------------------------------------------*/

typedef struct io_last {
    sch_io *io;
    unsigned *begun, *told;
} io_last;

static void io_last_reader(void *arg) {
    io_last *l = (io_last *)arg;
    char byte;
    (void)support_add(l->begun, 1);
    EXPECT_EQ(sch_read(l->io, &byte, 1), -ECANCELED);
    EXPECT_EQ(sch_read(l->io, &byte, 1), -ECANCELED);
    (void)support_add(l->told, 1);
}

/* A thousand connections, each with a task that waits; the runtime ends them and closes all. */
TEST(io_freed_with_waiting_connections) {
    for (int i = 0; i < IO_RUNTIMES; i++) {
        enum { MOST = 1000, OPEN = 5 };
        static sch_io io[MOST];
        static io_last last[MOST];
        static int peer[MOST], fd[MOST];
        const unsigned n = (unsigned)test_scale(MOST - OPEN) + OPEN;
        checked_memory memory;
        sch_config config = support_config(&memory, io_workers[i]);
        sch_runtime *rt = support_begin(&config);
        unsigned begun = 0, told = 0, dropped = 0;
        struct rlimit limit;
        EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
        if (limit.rlim_cur < 2 * MOST + 100) {
            support_end(rt, &memory);
            SKIP("too few descriptors are allowed");
        }
        for (unsigned k = 0; k < n; k++) {
            peer[k] = io_half(rt, k % 8 ? IO_SOCKETPAIR : IO_TCP, &io[k]);
            fd[k] = sch_io_fd(&io[k]);
            last[k].io = &io[k], last[k].begun = &begun, last[k].told = &told;
            if (k < n - OPEN) EXPECT_EQ(sch_go(rt, io_last_reader, &last[k]), 0);
        }
        if (i == 0) { /* somebody has to run them */
            EXPECT_EQ(sch_runtime_shutdown(rt, 0), -ETIMEDOUT);
            dropped = n - OPEN - support_get(&begun);
        } else {
            WAIT_FOR(support_get(&begun) == n - OPEN);
            if (test_random() % 2) support_nap(2000);
        }
        support_end(rt, &memory);
        EXPECT_EQ(told + dropped, n - OPEN);
        for (unsigned k = 0; k < n; k++) {
            char byte;
            EXPECT(!io_is_open(fd[k]));
            EXPECT_EQ(read(peer[k], &byte, 1), 0);
            close(peer[k]);
        }
    }
}

/* A poll task that is dropped with a read pending. */
TEST(io_freed_with_a_poll_task) {
    for (int i = 0; i < IO_RUNTIMES; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, io_workers[i]);
        sch_runtime *rt = support_begin(&config);
        sch_io io;
        char byte;
        int peer = io_half(rt, IO_SOCKETPAIR, &io);
        sch_task *task = io_machine_start(rt, io);
        io_put(peer, "x", 1);
        if (i > 0) EXPECT_EQ(read(peer, &byte, 1), 1); /* it runs */
        if (i > 0) support_nap(1000);
        sch_runtime_free(rt);
        EXPECT_EQ(sch_join(task), -ECANCELED);
        checked_end(&memory);
        EXPECT(read(peer, &byte, 1) <= 0);
        close(peer);
    }
}

/* Many at once, and again: records are used anew. */
static void io_echo_once(void *arg) {
    sch_io *end = (sch_io *)arg;
    unsigned text = 0;
    EXPECT_EQ(sch_read(&end[0], &text, sizeof text), sizeof text);
    EXPECT_EQ(text, 77);
}

TEST(io_ten_thousand_pipes) {
    struct rlimit limit, more;
    sch_config config;
    EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    more = limit;
    more.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &more)) more = limit;
    size_t n = test_scale(10000), most = more.rlim_cur > 200 ? (more.rlim_cur - 200) / 2 : 10;
    if (n > most) n = most;
    sch_io(*ends)[2] = (sch_io(*)[2])malloc(n * sizeof *ends);
    sch_task **tasks = (sch_task **)malloc(n * sizeof *tasks);
    if (!ends || !tasks) abort();
    memset(&config, 0, sizeof config);
    config.workers = 2, config.stack_size = 16384;
    sch_runtime *rt = support_begin(&config);
    for (int round = 0; round < 2; round++) {
        const unsigned text = 77;
        for (size_t i = 0; i < n; i++) {
            EXPECT(io_open_pair(rt, IO_PIPE, ends[i]));
            tasks[i] = sch_spawn(rt, io_echo_once, ends[i]);
        }
        for (size_t i = 0; i < n; i++) {
            const size_t k = i * 7919 % n; /* in another order, if n is not a multiple of it */
            EXPECT_EQ(sch_write(&ends[k][1], &text, sizeof text), sizeof text);
        }
        for (size_t i = 0; i < n; i++) EXPECT_EQ(sch_join(tasks[i]), 0);
        for (size_t i = 0; i < n; i++) io_close_pair(ends[i]);
    }
    sch_runtime_free(rt);
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    free(ends);
    free(tasks);
}

/* More descriptors with news than a ring holds, all the time: who is served writes to the one
 * before, which waits by then (one worker). So all but one are always ready, and come in turn. */
typedef struct io_round {
    struct io_guest *last;
    unsigned left, over;
} io_round;

typedef struct io_guest {
    io_round *round;
    sch_task *task;
    sch_io io;
    int peer;
    unsigned served;
} io_guest;

static void io_be_served(void *arg) {
    io_guest *g = (io_guest *)arg;
    char byte;
    while (EXPECT_EQ(sch_read(&g->io, &byte, 1), 1) && g->round->left > 0) {
        g->served++;
        if (g->round->last) io_put(g->round->last->peer, "x", 1);
        g->round->last = g;
        if (--g->round->left == 0) support_set(&g->round->over, 1);
    }
}

#define IO_GUESTS 400u

static void io_invite(void *arg) {
    io_guest *guests = (io_guest *)arg;
    for (unsigned i = 0; i < IO_GUESTS; i++) {
        guests[i].task = sch_spawn(NULL, io_be_served, &guests[i]);
    }
}

static void io_serve_crowd(unsigned event_interval) {
    io_guest *guests = (io_guest *)calloc(IO_GUESTS, sizeof *guests);
    io_round round = {NULL, IO_GUESTS * 20, 0};
    sch_config config;
    if (!guests) abort();
    memset(&config, 0, sizeof config);
    config.workers = 1, config.stack_size = 16384, config.event_interval = event_interval;
    sch_runtime *rt = support_begin(&config);
    for (unsigned i = 0; i < IO_GUESTS; i++) {
        guests[i].round = &round;
        guests[i].peer = io_half(rt, IO_PIPE, &guests[i].io);
        io_put(guests[i].peer, "x", 1);
    }
    EXPECT_EQ(sch_join(sch_spawn(rt, io_invite, guests)), 0);
    WAIT_FOR(support_get(&round.over) == 1);
    for (unsigned i = 0; i < IO_GUESTS; i++) io_put(guests[i].peer, "x", 1);
    for (unsigned i = 0; i < IO_GUESTS; i++) {
        EXPECT_EQ(sch_join(guests[i].task), 0);
        EXPECT(guests[i].served >= 12 && guests[i].served <= 30);
        EXPECT_EQ(sch_io_close(&guests[i].io), 0);
        close(guests[i].peer);
    }
    sch_runtime_free(rt);
    free(guests);
}

TEST(io_served_in_turn) {
    struct rlimit limit, more;
    if (SCH_RUNQ_CAP != 256) SKIP("counted for SCH_RUNQ_CAP 256");
    EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    more = limit;
    if (more.rlim_cur < 4 * IO_GUESTS) more.rlim_cur = 4 * IO_GUESTS;
    if (more.rlim_cur > more.rlim_max) more.rlim_cur = more.rlim_max;
    if (more.rlim_cur < 3 * IO_GUESTS) SKIP("too few descriptors");
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &more), 0);
    io_serve_crowd(0);
    io_serve_crowd(7);
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* The driver's promises -------------------------------------------------------------------------*/

typedef struct io_promise {
    sch_io io;
    unsigned computing, read, slept;
} io_promise;

static void io_promise_reader(void *arg) {
    io_promise *p = (io_promise *)arg;
    char byte;
    EXPECT_EQ(sch_read(&p->io, &byte, 1), 1);
    support_set(&p->read, 1);
}

static void io_promise_sleeper(void *arg) {
    io_promise *p = (io_promise *)arg;
    EXPECT_EQ(sch_sleep(50 * SCH_MILLISECOND), 0);
    support_set(&p->slept, 1);
}

static void io_promise_computer(void *arg) {
    io_promise *p = (io_promise *)arg;
    const uint64_t start = sch_now();
    support_set(&p->computing, 1);
    while (!(support_get(&p->read) && support_get(&p->slept)) && sch_now() - start < IO_LONG) {
        support_spin(SCH_MILLISECOND);
    }
    EXPECT(support_get(&p->read) == 1);
    EXPECT(support_get(&p->slept) == 1);
}

/* A socket and a timer are served while a task computes, which ends only when it sees that. */
TEST(io_served_beside_a_long_poll) {
    checked_memory memory;
    sch_config config = support_config(&memory, 2);
    sch_runtime *rt = support_begin(&config);
    for (size_t round = 0; round < test_scale(10); round++) {
        io_promise p;
        memset(&p, 0, sizeof p);
        int peer = io_half(rt, round % 2 ? IO_TCP : IO_PIPE, &p.io);
        sch_task *tasks[3];
        tasks[0] = sch_spawn(rt, io_promise_reader, &p);
        tasks[1] = sch_spawn(rt, io_promise_sleeper, &p);
        if (round % 3) support_nap(10000);
        tasks[2] = sch_spawn(rt, io_promise_computer, &p);
        WAIT_FOR(support_get(&p.computing));
        support_nap((long)(test_random() % 20000));
        io_put(peer, "x", 1);
        for (int i = 0; i < 3; i++) EXPECT_EQ(sch_join(tasks[i]), 0);
        EXPECT_EQ(sch_io_close(&p.io), 0);
        close(peer);
    }
    support_end(rt, &memory);
}

/* One core that never runs dry still looks at its descriptors. */
static void io_busy_body(sch_runtime *rt) {
    io_beside b = {0, 0};
    io_promise p;
    sch_io io;
    memset(&p, 0, sizeof p);
    int peer = io_half(rt, IO_SOCKETPAIR, &io), other = io_half(rt, IO_PIPE, &p.io);
    sch_task *ticker = sch_spawn(rt, io_ticker, &b), *echo = io_machine_start(rt, io);
    sch_task *reader = sch_spawn(rt, io_promise_reader, &p);
    EXPECT_EQ(fcntl(peer, F_SETFL, O_NONBLOCK), 0);
    for (char i = 0, byte = 0; i < 20; i++) {
        io_put(peer, &i, 1);
        YIELD_UNTIL(read(peer, &byte, 1) == 1); /* never waits */
        EXPECT_EQ(byte, i);
    }
    io_put(other, "x", 1);
    YIELD_UNTIL(support_get(&p.read) == 1);
    support_set(&b.over, 1);
    close(peer);
    close(other);
    EXPECT_EQ(sch_join(ticker), 0);
    EXPECT_EQ(sch_join(reader), 0);
    EXPECT_EQ(sch_join(echo), 0);
    EXPECT_EQ(sch_io_close(&io), 0);
    EXPECT_EQ(sch_io_close(&p.io), 0);
}

TEST(io_served_by_busy_workers) { io_in_each_runtime(io_busy_body); }

/* A paused clock jumps over hours, and descriptors work beside it. */
static void io_paused_writer(void *arg) {
    sch_io *io = (sch_io *)arg;
    EXPECT_EQ(sch_sleep(3600 * SCH_SECOND), 0);
    EXPECT_EQ(sch_write(io, "x", 1), 1);
}

static void io_paused_body(void *arg) {
    sch_io *end = (sch_io *)arg;
    const uint64_t start = sch_now();
    char byte;
    sch_task *writer = sch_spawn(NULL, io_paused_writer, &end[1]);
    sch_io_op op = sch_read_op(&end[0], &byte, 1);
    EXPECT_EQ(sch_timeout(&op.op, 1800 * SCH_SECOND), -ETIMEDOUT);
    EXPECT(sch_now() - start >= 1800 * SCH_SECOND && sch_now() - start < 3600 * SCH_SECOND);
    EXPECT_EQ(sch_read(&end[0], &byte, 1), 1);
    EXPECT(sch_now() - start >= 3600 * SCH_SECOND);
    EXPECT_EQ(sch_join(writer), 0);
}

TEST(io_paused_clock) {
    for (int i = 0; i < IO_RUNTIMES; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, io_workers[i]);
        sch_io end[2];
        config.paused_clock = true;
        sch_runtime *rt = support_begin(&config);
        if (!io_open_pair(rt, IO_SOCKETPAIR, end)) return;
        support_run(rt, io_paused_body, end);
        io_close_pair(end);
        support_end(rt, &memory);
    }
}

/* What becomes ready in a turn is served before the clock jumps. */
static void io_paused_reader(void *arg) {
    sch_io *io = (sch_io *)arg;
    const uint64_t start = sch_now();
    char byte;
    sch_io_op op = sch_read_op(io, &byte, 1);
    EXPECT_EQ(sch_timeout(&op.op, 1800 * SCH_SECOND), 1);
    EXPECT(sch_now() - start < 900 * SCH_SECOND);
}

static void io_paused_late_writer(void *arg) {
    sch_yield_now(); /* who reads waits */
    io_put(*(int *)arg, "x", 1);
}

TEST(io_paused_clock_in_slices) {
    checked_memory memory;
    sch_config config = support_config(&memory, 0);
    sch_io io;
    config.paused_clock = true;
    sch_runtime *rt = support_begin(&config);
    int peer = io_half(rt, IO_PIPE, &io);
    sch_task *tasks[2];
    tasks[0] = sch_spawn(rt, io_paused_reader, &io);
    tasks[1] = sch_spawn(rt, io_paused_late_writer, &peer);
    while (!sch_is_done(tasks[0])) EXPECT(sch_run_some(rt, SCH_MILLISECOND) >= 0);
    for (int i = 0; i < 2; i++) EXPECT_EQ(sch_join(tasks[i]), 0);
    EXPECT_EQ(sch_io_close(&io), 0);
    close(peer);
    support_end(rt, &memory);
}

/* Who had the seat was rung when he had left it: whoever lies down next does not sleep, and so
 * has not asked the driver, either. */
static void io_paused_ringing_writer(void *arg) {
    sch_runtime *rt = schi_self()->rt;
    io_paused_late_writer(arg);
    schi_ring_seat(rt, SCHI_WATCH);
}

typedef struct io_stale_ring {
    sch_io io;
    int peer;
} io_stale_ring;

static void io_stale_ring_body(void *arg) { /* both are there before the clock may jump */
    io_stale_ring *s = (io_stale_ring *)arg;
    sch_task *reader = sch_spawn(NULL, io_paused_reader, &s->io);
    sch_task *writer = sch_spawn(NULL, io_paused_ringing_writer, &s->peer);
    EXPECT_EQ(sch_join(reader), 0);
    EXPECT_EQ(sch_join(writer), 0);
}

TEST(io_paused_clock_after_a_stale_ring) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    io_stale_ring s;
    config.paused_clock = true;
    sch_runtime *rt = support_begin(&config);
    s.peer = io_half(rt, IO_SOCKETPAIR, &s.io);
    support_run(rt, io_stale_ring_body, &s);
    EXPECT_EQ(sch_io_close(&s.io), 0);
    close(s.peer);
    support_end(rt, &memory);
}

/* Everything at random --------------------------------------------------------------------------*/

typedef struct io_mix {
    io_server s;
    unsigned opened, served, cuts;                /* the server's connections */
    unsigned connected, whole, cut, cancelled;    /* the clients' */
    uint64_t bytes;                               /* of whole ones, atomic */
} io_mix;

typedef struct io_mix_side {
    io_mix *m;
    sch_io io;
} io_mix_side;

static void io_mix_serve(void *arg) { /* sends back what comes; sometimes hangs up */
    io_mix_side *c = (io_mix_side *)arg;
    char buffer[4096];
    for (ssize_t n; (n = sch_read(&c->io, buffer, 1 + test_random() % sizeof buffer)) > 0;) {
        if (test_random() % 256 == 0) {
            (void)support_add(&c->m->cuts, 1);
            break;
        }
        if (test_random() % 16 == 0) (void)sch_sleep(test_random() % 500 * SCH_MICROSECOND);
        if (sch_write_all(&c->io, buffer, (size_t)n, NULL) < 0) break;
    }
    (void)support_add(&c->m->served, 1);
    EXPECT_EQ(sch_io_close(&c->io), 0);
    free(c);
}

static void io_mix_acceptor(void *arg) {
    io_mix *m = (io_mix *)arg;
    for (;;) {
        io_mix_side *c = (io_mix_side *)calloc(1, sizeof *c);
        if (!c) abort();
        c->m = m;
        int result = sch_accept(&m->s.listener, &c->io);
        if (result != 0) {
            EXPECT(result == -ECANCELED || result == -EBADF);
            free(c);
            return;
        }
        (void)support_add(&m->opened, 1);
        EXPECT_EQ(sch_go(NULL, io_mix_serve, c), 0);
    }
}

static void io_mix_client(void *arg) {
    io_mix *m = (io_mix *)arg;
    const unsigned key = (unsigned)(test_random() % 256);
    const size_t total = 1 + test_random() % 30000;
    sch_io io;
    int result = sch_connect(&io, m->s.rt, &m->s.at.as.any, m->s.at.len);
    if (result < 0) {
        EXPECT_EQ(result, -ECANCELED);
        (void)support_add(&m->cancelled, 1);
        return;
    }
    (void)support_add(&m->connected, 1);
    io_flow out = io_flow_of(&io, total, key), in = io_flow_of(&io, total, key);
    sch_task *sender = sch_spawn(NULL, io_send, &out); /* reader and writer at once */
    while (in.moved < total) {
        unsigned char buffer[700];
        const size_t left = total - in.moved;
        sch_io_op op = sch_read_op(&io, buffer, left < sizeof buffer ? left : sizeof buffer);
        const uint64_t limit = test_random() % 2 ? SCH_FOREVER : test_random() % SCH_MILLISECOND;
        in.end = (ssize_t)sch_timeout(&op.op, limit);
        if (in.end == -ETIMEDOUT) continue;
        if (in.end <= 0) break;
        for (ssize_t i = 0; i < in.end; i++, in.moved++) {
            EXPECT_EQ(buffer[i], io_byte(key, in.moved));
        }
    }
    if (in.moved == total) {
        __atomic_fetch_add(&m->bytes, total, __ATOMIC_SEQ_CST);
        (void)support_add(&m->whole, 1);
    } else if (in.end == -ECANCELED) {
        (void)support_add(&m->cancelled, 1);
    } else {
        EXPECT(in.end == 0 || in.end == -ECONNRESET || in.end == -EPIPE);
        (void)support_add(&m->cut, 1);
    }
    EXPECT_EQ(sch_shield_begin(SCH_FOREVER), 0);
    EXPECT_EQ(sch_io_close(&io), 0);
    EXPECT_EQ(sch_join(sender), 0);
    if (in.moved == total) EXPECT_EQ(out.moved, total);
    sch_shield_end();
}

static void io_mix_body(sch_runtime *rt) {
    enum { CLIENTS = 100 };
    for (size_t round = 0; round < test_scale(2); round++) {
        sch_task *clients[CLIENTS], *acceptors[2];
        unsigned unborn = 0, ended[2] = {0, 0};
        io_mix m;
        memset(&m, 0, sizeof m);
        if (!EXPECT(io_serve(&m.s, rt, round % 2 ? AF_UNIX : AF_INET, 50))) return;
        for (int i = 0; i < 2; i++) acceptors[i] = sch_spawn(rt, io_mix_acceptor, &m);
        for (int i = 0; i < CLIENTS; i++) clients[i] = sch_spawn(rt, io_mix_client, &m);
        for (int i = 0; i < CLIENTS / 4; i++) {
            if (test_random() % 2) (void)sch_sleep(test_random() % 1000 * SCH_MICROSECOND);
            (void)sch_cancel(clients[test_random() % CLIENTS]);
        }
        for (int i = 0; i < CLIENTS; i++) ended[sch_join(clients[i]) != 0]++;
        unborn = CLIENTS - m.whole - m.cut - m.cancelled; /* cancelled before they began */
        EXPECT(unborn + m.cancelled <= ended[1]); /* a task may be told late, and have it all */
        while (support_get(&m.opened) < m.connected || support_get(&m.served) < m.opened) {
            if (sch_sleep(SCH_MILLISECOND) != 0) break;
        }
        io_serve_end(&m.s);
        for (int i = 0; i < 2; i++) EXPECT_EQ(sch_join(acceptors[i]), 0);
        while (support_get(&m.served) < m.opened) { /* whom they took last */
            if (sch_sleep(SCH_MILLISECOND) != 0) break;
        }
        EXPECT(m.opened >= m.connected); /* a cancelled connect may have been accepted */
        EXPECT_EQ(m.served, m.opened);
        EXPECT(m.cut <= m.cuts);
        EXPECT(m.whole > 0 && m.bytes >= m.whole);
    }
}

TEST(io_mix) { io_in_each_runtime(io_mix_body); }

/* Where nothing may wait, and after the end -----------------------------------------------------*/

static void io_no_work(void *arg) { (void)arg; }

static sch_io io_dropped_file;

static void io_drop_reads(void *arg) {
    char got[8];
    (void)arg;
    EXPECT(sch_now() > 0);
    if (!io_dropped_file.record) return;
    EXPECT_EQ(sch_read(&io_dropped_file, got, sizeof got), 5); /* a file blocks: here it may */
    EXPECT_EQ(sch_sleep(SCH_SECOND), -EPERM);
}

TEST(io_in_drop_functions) {
    static const sch_spawn_desc desc = {"dropped", SCH_HERE, 0, io_drop_reads};
    checked_memory memory;
    sch_config config = support_config(&memory, 2);
    sch_runtime *rt = support_begin(&config);
    char name[] = "/tmp/sched-h-XXXXXX";
    int fd = mkstemp(name);
    if (!EXPECT(fd >= 0)) return;
    EXPECT_EQ(unlink(name), 0);
    EXPECT_EQ(pwrite(fd, "12345", 5, 0), 5);
    memset(&io_dropped_file, 0, sizeof io_dropped_file);
    EXPECT(sch_spawn_with(NULL, &desc, io_no_work, NULL) == NULL); /* no runtime: dropped */
    EXPECT_EQ(sch_io_open(&io_dropped_file, rt, fd), 0);
    EXPECT_EQ(sch_join(sch_spawn_with(rt, &desc, io_no_work, NULL)), 0);
    EXPECT_EQ(sch_io_close(&io_dropped_file), 0);
    support_end(rt, &memory);
}

/* Shutdown ends what plain threads wait for through the runtime. */
typedef struct io_left_behind {
    sch_io io;
    SCHI_ATOMIC(unsigned) waits;
} io_left_behind;

static void io_stay_behind(void *arg, unsigned me) {
    io_left_behind *l = (io_left_behind *)arg;
    sch_runtime *rt = (sch_runtime *)((schi_io *)l->io.record)->rt;
    char byte;
    if (me == 0) {
        while (!schi_load_seq(&l->waits)) sched_yield();
        support_nap(2000); /* most likely it waits by now */
        EXPECT_EQ(sch_runtime_shutdown(rt, SCH_FOREVER), 0);
        return;
    }
    schi_store_seq(&l->waits, 1u);
    EXPECT_EQ(sch_read(&l->io, &byte, 1), -ECANCELED);
    EXPECT_EQ(sch_read(&l->io, &byte, 1), -ECANCELED); /* and from then on */
}

TEST(io_plain_threads_after_the_shutdown) {
    for (int i = 0; i < 4; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, 2);
        sch_runtime *rt = support_begin(&config);
        io_left_behind l;
        int peer = io_half(rt, IO_TCP, &l.io);
        schi_store_seq(&l.waits, 0u);
        crew_run(2, io_stay_behind, &l);
        close(peer);
        support_end(rt, &memory);
    }
}
