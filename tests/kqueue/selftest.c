/* selftest.c - does kqueue.c keep what a kqueue promises? */
#include <sys/event.h>

#include "../test.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { LONG_MS = 30000 }; /* for what comes; the harness ends a test in which it does not */

static uint64_t now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static bool strict(void) {
    const char *flavour = getenv("KQUEUE_FLAVOUR");
    return flavour && strcmp(flavour, "strict") == 0;
}

static int change(int kq, uintptr_t ident, int filter, int flags, unsigned fflags, int64_t data,
                  void *udata) {
    struct kevent event;
    EV_SET(&event, ident, filter, flags, fflags, data, udata);
    return kevent(kq, &event, 1, NULL, 0, NULL) == 0 ? 0 : -errno;
}

static int add(int kq, int fd, int filter, int flags) {
    return change(kq, (uintptr_t)fd, filter, EV_ADD | flags, 0, 0, NULL);
}

static int wait_ms(int kq, struct kevent *events, int room, int ms) {
    struct timespec wait = {ms / 1000, ms % 1000 * 1000000};
    return kevent(kq, NULL, 0, events, room, &wait);
}

/* Is one event there, of this filter and ident? It is given back. */
static struct kevent expect_one(int kq, int filter, uintptr_t ident, int ms) {
    struct kevent event[2];
    memset(event, 0, sizeof event);
    if (EXPECT_EQ(wait_ms(kq, event, 2, ms), 1)) {
        EXPECT_EQ(event[0].filter, filter);
        EXPECT_EQ(event[0].ident, ident);
    }
    return event[0];
}

static void expect_none(int kq) {
    struct kevent event;
    EXPECT_EQ(wait_ms(kq, &event, 1, 0), 0);
}

static void make_pair(int pair[2]) {
    if (!EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0)) abort();
}

static void close_pair(const int pair[2]) {
    close(pair[0]);
    close(pair[1]);
}

TEST(clear_is_an_edge) {
    int kq = kqueue(), pair[2], mark;
    char bytes[8] = {0};
    make_pair(pair);
    EXPECT_EQ(change(kq, (uintptr_t)pair[0], EVFILT_READ, EV_ADD | EV_CLEAR, 0, 0, &mark), 0);
    expect_none(kq);
    EXPECT_EQ(write(pair[1], bytes, 3), 3);
    struct kevent event = expect_one(kq, EVFILT_READ, (uintptr_t)pair[0], LONG_MS);
    EXPECT_EQ(event.data, 3);
    EXPECT(event.udata == &mark);
    EXPECT(!(event.flags & EV_EOF));
    expect_none(kq); /* though the bytes are there */
    EXPECT_EQ(write(pair[1], bytes, 1), 1);
    EXPECT_EQ(expect_one(kq, EVFILT_READ, (uintptr_t)pair[0], LONG_MS).data, 4);
    /* EV_ADD once more looks again. */
    EXPECT_EQ(add(kq, pair[0], EVFILT_READ, EV_CLEAR), 0);
    EXPECT(expect_one(kq, EVFILT_READ, (uintptr_t)pair[0], LONG_MS).udata == NULL);
    expect_none(kq);
    close_pair(pair);
    close(kq);
}

TEST(without_clear_it_is_a_level) {
    int kq = kqueue(), pair[2];
    make_pair(pair);
    EXPECT_EQ(add(kq, pair[0], EVFILT_READ, 0), 0);
    EXPECT_EQ(write(pair[1], "x", 1), 1);
    for (int i = 0; i < 3; i++) expect_one(kq, EVFILT_READ, (uintptr_t)pair[0], LONG_MS);
    EXPECT_EQ(read(pair[0], (char[1]){0}, 1), 1);
    expect_none(kq);
    close_pair(pair);
    close(kq);
}

/* Filters of one descriptor are independent: an edge of one is none of the other, and deleting one
 * leaves the other. */
TEST(read_and_write_are_apart) {
    int kq = kqueue(), pair[2];
    static char block[65536];
    make_pair(pair);
    EXPECT_EQ(add(kq, pair[0], EVFILT_READ, EV_CLEAR), 0);
    EXPECT_EQ(add(kq, pair[0], EVFILT_WRITE, EV_CLEAR), 0);
    EXPECT(expect_one(kq, EVFILT_WRITE, (uintptr_t)pair[0], LONG_MS).data > 0);
    EXPECT_EQ(write(pair[1], "x", 1), 1);
    expect_one(kq, EVFILT_READ, (uintptr_t)pair[0], LONG_MS);
    while (write(pair[0], block, sizeof block) > 0) continue;
    EXPECT_EQ(errno, EAGAIN);
    expect_none(kq);
    while (read(pair[1], block, sizeof block) > 0) continue;
    expect_one(kq, EVFILT_WRITE, (uintptr_t)pair[0], LONG_MS);
    expect_none(kq);
    EXPECT_EQ(change(kq, (uintptr_t)pair[0], EVFILT_WRITE, EV_DELETE, 0, 0, NULL), 0);
    EXPECT_EQ(change(kq, (uintptr_t)pair[0], EVFILT_WRITE, EV_DELETE, 0, 0, NULL), -ENOENT);
    EXPECT_EQ(write(pair[1], "x", 1), 1);
    expect_one(kq, EVFILT_READ, (uintptr_t)pair[0], LONG_MS);
    close_pair(pair);
    close(kq);
}

TEST(end_of_file) {
    int kq = kqueue(), pair[2];
    make_pair(pair);
    EXPECT_EQ(add(kq, pair[0], EVFILT_READ, EV_CLEAR), 0);
    EXPECT_EQ(write(pair[1], "x", 1), 1);
    EXPECT_EQ(shutdown(pair[1], SHUT_WR), 0);
    struct kevent event = expect_one(kq, EVFILT_READ, (uintptr_t)pair[0], LONG_MS);
    EXPECT(event.flags & EV_EOF);
    EXPECT_EQ(event.data, 1);
    close_pair(pair);

    EXPECT_EQ(pipe(pair), 0);
    EXPECT_EQ(add(kq, pair[1], EVFILT_WRITE, EV_CLEAR), 0);
    EXPECT(!(expect_one(kq, EVFILT_WRITE, (uintptr_t)pair[1], LONG_MS).flags & EV_EOF));
    close(pair[0]);
    EXPECT(expect_one(kq, EVFILT_WRITE, (uintptr_t)pair[1], LONG_MS).flags & EV_EOF);
    close(pair[1]);
    close(kq);
}

/* A connection that is refused: EV_EOF, and the error is still there to be had. */
TEST(refused) {
    struct sockaddr_in to;
    socklen_t size = sizeof to;
    int kq = kqueue(), listener = socket(AF_INET, SOCK_STREAM, 0), error = 0;
    memset(&to, 0, sizeof to);
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(listener, (struct sockaddr *)&to, sizeof to), 0);
    EXPECT_EQ(getsockname(listener, (struct sockaddr *)&to, &size), 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0 && errno == EINPROGRESS) {
        EXPECT_EQ(add(kq, fd, EVFILT_WRITE, EV_CLEAR), 0);
        EXPECT(expect_one(kq, EVFILT_WRITE, (uintptr_t)fd, LONG_MS).flags & EV_EOF);
        size = sizeof error;
        EXPECT_EQ(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size), 0);
        EXPECT_EQ(error, ECONNREFUSED);
    }
    close(fd);
    close(listener);
    close(kq);
}

TEST(listening) {
    struct sockaddr_in to;
    socklen_t size = sizeof to;
    int kq = kqueue(), listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    memset(&to, 0, sizeof to);
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(listener, (struct sockaddr *)&to, sizeof to), 0);
    EXPECT_EQ(getsockname(listener, (struct sockaddr *)&to, &size), 0);
    EXPECT_EQ(listen(listener, 5), 0);
    EXPECT_EQ(add(kq, listener, EVFILT_READ, EV_CLEAR), 0);
    expect_none(kq);
    EXPECT_EQ(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    struct kevent event = expect_one(kq, EVFILT_READ, (uintptr_t)listener, LONG_MS);
    EXPECT_EQ(event.data, 1);
    EXPECT(!(event.flags & EV_EOF));
    close(fd);
    close(listener);
    close(kq);
}

TEST(out_of_band) {
    struct sockaddr_in to;
    socklen_t size = sizeof to;
    int kq = kqueue(), listener = socket(AF_INET, SOCK_STREAM, 0);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    memset(&to, 0, sizeof to);
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(listener, (struct sockaddr *)&to, sizeof to), 0);
    EXPECT_EQ(getsockname(listener, (struct sockaddr *)&to, &size), 0);
    EXPECT_EQ(listen(listener, 5), 0);
    EXPECT_EQ(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    int peer = accept(listener, NULL, NULL);
    EXPECT_EQ(change(kq, (uintptr_t)fd, EVFILT_EXCEPT, EV_ADD | EV_CLEAR, NOTE_OOB, 0, NULL), 0);
    EXPECT_EQ(send(peer, "x", 1, 0), 1);
    expect_none(kq);
    EXPECT_EQ(send(peer, "x", 1, MSG_OOB), 1);
    EXPECT_EQ(expect_one(kq, EVFILT_EXCEPT, (uintptr_t)fd, LONG_MS).fflags, NOTE_OOB);
    close(peer);
    close(fd);
    close(listener);
    close(kq);
}

TEST(oneshot_and_dispatch) {
    int kq = kqueue(), pair[2];
    make_pair(pair);
    EXPECT_EQ(write(pair[1], "x", 1), 1);
    EXPECT_EQ(add(kq, pair[0], EVFILT_READ, EV_ONESHOT), 0);
    expect_one(kq, EVFILT_READ, (uintptr_t)pair[0], LONG_MS);
    expect_none(kq);
    EXPECT_EQ(change(kq, (uintptr_t)pair[0], EVFILT_READ, EV_ENABLE, 0, 0, NULL), -ENOENT);
    EXPECT_EQ(add(kq, pair[0], EVFILT_READ, EV_DISPATCH), 0);
    expect_one(kq, EVFILT_READ, (uintptr_t)pair[0], LONG_MS);
    expect_none(kq);
    EXPECT_EQ(change(kq, (uintptr_t)pair[0], EVFILT_READ, EV_ENABLE, 0, 0, NULL), 0);
    expect_one(kq, EVFILT_READ, (uintptr_t)pair[0], LONG_MS);
    close_pair(pair);
    close(kq);
}

TEST(disable_and_enable) {
    int kq = kqueue(), pair[2];
    make_pair(pair);
    EXPECT_EQ(add(kq, pair[0], EVFILT_READ, EV_CLEAR | EV_DISABLE), 0);
    EXPECT_EQ(change(kq, 1, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, NULL), 0);
    EXPECT_EQ(change(kq, 1, EVFILT_USER, EV_DISABLE, NOTE_TRIGGER, 0, NULL), 0);
    EXPECT_EQ(write(pair[1], "x", 1), 1);
    expect_none(kq);
    EXPECT_EQ(change(kq, 1, EVFILT_USER, EV_ENABLE, 0, 0, NULL), 0);
    expect_one(kq, EVFILT_USER, 1, LONG_MS);
    EXPECT_EQ(change(kq, (uintptr_t)pair[0], EVFILT_READ, EV_ENABLE, 0, 0, NULL), 0);
    expect_one(kq, EVFILT_READ, (uintptr_t)pair[0], LONG_MS);
    close_pair(pair);
    close(kq);
}

/* close() takes the filters along, though another descriptor keeps the file open; and the number's
 * next owner has none of them. */
TEST(close_removes_filters) {
    int kq = kqueue(), pair[2], mark;
    struct kevent event;
    make_pair(pair);
    EXPECT_EQ(change(kq, (uintptr_t)pair[0], EVFILT_READ, EV_ADD | EV_CLEAR, 0, 0, &mark), 0);
    EXPECT_EQ(add(kq, pair[0], EVFILT_WRITE, 0), 0);
    int other = dup(pair[0]), number = pair[0];
    close(pair[0]);
    EXPECT_EQ(write(pair[1], "x", 1), 1);
    expect_none(kq);
    EXPECT_EQ(change(kq, (uintptr_t)number, EVFILT_READ, EV_DELETE, 0, 0, NULL), -EBADF);
    EXPECT_EQ(dup2(other, number), number);
    EXPECT_EQ(change(kq, (uintptr_t)number, EVFILT_READ, EV_DELETE, 0, 0, NULL), -ENOENT);
    EXPECT_EQ(add(kq, number, EVFILT_READ, EV_CLEAR), 0);
    event = expect_one(kq, EVFILT_READ, (uintptr_t)number, LONG_MS);
    EXPECT(event.udata == NULL);
    close(number);
    close(other);
    close(pair[1]);
    close(kq);
}

/* Closed by what kqueue.c does not see: the registration is the new file's. */
TEST(number_reused_unseen) {
    int kq = kqueue(), old[2], pair[2], mark;
    make_pair(old);
    make_pair(pair);
    EXPECT_EQ(change(kq, (uintptr_t)old[0], EVFILT_READ, EV_ADD | EV_CLEAR, 0, 0, &mark), 0);
    EXPECT_EQ(dup2(pair[0], old[0]), old[0]);
    EXPECT_EQ(change(kq, (uintptr_t)old[0], EVFILT_READ, EV_DELETE, 0, 0, NULL), -ENOENT);
    EXPECT_EQ(add(kq, old[0], EVFILT_READ, 0), 0);
    EXPECT_EQ(write(pair[1], "x", 1), 1);
    EXPECT(expect_one(kq, EVFILT_READ, (uintptr_t)old[0], LONG_MS).udata == NULL);
    close_pair(old);
    close_pair(pair);
    close(kq);
}

TEST(regular_files) {
    char path[] = "/tmp/kqueue-selftest-XXXXXX";
    int kq = kqueue(), fd = mkstemp(path);
    unlink(path);
    EXPECT_EQ(write(fd, "abc", 3), 3);
    EXPECT_EQ(add(kq, fd, EVFILT_READ, 0), 0);
    expect_none(kq); /* at its end */
    EXPECT_EQ(lseek(fd, 1, SEEK_SET), 1);
    EXPECT_EQ(add(kq, fd, EVFILT_READ, 0), 0);
    EXPECT_EQ(expect_one(kq, EVFILT_READ, (uintptr_t)fd, LONG_MS).data, 2);
    EXPECT_EQ(lseek(fd, 3, SEEK_SET), 3);
    expect_none(kq);
    close(fd);
    close(kq);
}

TEST(user_events) {
    int kq = kqueue(), mark;
    struct kevent event;
    EXPECT_EQ(change(kq, 7, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL), -ENOENT);
    EXPECT_EQ(change(kq, 7, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, &mark), 0);
    expect_none(kq);
    /* Triggers before it is seen are one; a change replaces udata. */
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(change(kq, 7, EVFILT_USER, 0, NOTE_TRIGGER | NOTE_FFOR | 1u << i, 9, &mark), 0);
    }
    event = expect_one(kq, EVFILT_USER, 7, LONG_MS);
    EXPECT_EQ(event.fflags, 7);
    EXPECT_EQ(event.data, 9);
    EXPECT(event.udata == &mark);
    expect_none(kq);
    EXPECT_EQ(change(kq, 7, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL), 0);
    EXPECT(expect_one(kq, EVFILT_USER, 7, LONG_MS).udata == NULL);
    EXPECT_EQ(change(kq, 7, EVFILT_USER, EV_CLEAR, NOTE_TRIGGER, 0, NULL), 0);
    expect_none(kq); /* FreeBSD: EV_CLEAR here forgets it */
    /* Without EV_CLEAR it stays. */
    EXPECT_EQ(change(kq, 8, EVFILT_USER, EV_ADD, NOTE_TRIGGER, 0, NULL), 0);
    for (int i = 0; i < 3; i++) expect_one(kq, EVFILT_USER, 8, LONG_MS);
    EXPECT_EQ(change(kq, 8, EVFILT_USER, EV_DELETE, 0, 0, NULL), 0);
    expect_none(kq);
    close(kq);
}

TEST(timers) {
    int kq = kqueue();
    uint64_t start = now_ns();
    EXPECT_EQ(change(kq, 1, EVFILT_TIMER, EV_ADD | EV_ONESHOT, 0, 20, NULL), 0);
    EXPECT_EQ(expect_one(kq, EVFILT_TIMER, 1, LONG_MS).data, 1);
    EXPECT(now_ns() - start >= 20000000);
    EXPECT_EQ(change(kq, 1, EVFILT_TIMER, EV_DELETE, 0, 0, NULL), -ENOENT);
    /* A later EV_ADD counts; in the other flavour the first one does. */
    EXPECT_EQ(change(kq, 1, EVFILT_TIMER, EV_ADD | EV_ONESHOT, 0, strict() ? 1 : 3600000, NULL), 0);
    EXPECT_EQ(change(kq, 1, EVFILT_TIMER, EV_ADD | EV_ONESHOT, 0, strict() ? 3600000 : 1, NULL), 0);
    expect_one(kq, EVFILT_TIMER, 1, LONG_MS);
    /* Periods that were not taken are counted. */
    EXPECT_EQ(change(kq, 2, EVFILT_TIMER, EV_ADD, 0, 1, NULL), 0);
    usleep(20000);
    EXPECT(expect_one(kq, EVFILT_TIMER, 2, LONG_MS).data >= 20);
    EXPECT_EQ(change(kq, 2, EVFILT_TIMER, EV_DELETE, 0, 0, NULL), 0);
    expect_none(kq);
    /* The earliest of several rings first. */
    EXPECT_EQ(change(kq, 3, EVFILT_TIMER, EV_ADD | EV_ONESHOT, 0, 3600000, NULL), 0);
    EXPECT_EQ(change(kq, 4, EVFILT_TIMER, EV_ADD | EV_ONESHOT, 0, 1, NULL), 0);
    expect_one(kq, EVFILT_TIMER, 4, LONG_MS);
    EXPECT_EQ(change(kq, 5, EVFILT_TIMER, EV_ADD, 0, -1, NULL), -EINVAL);
    EXPECT_EQ(change(kq, 5, EVFILT_TIMER, EV_ADD, 64, 1, NULL), -EINVAL);
    if (strict()) {
        EXPECT_EQ(change(kq, 5, EVFILT_TIMER, EV_ADD, NOTE_USECONDS, 1, NULL), -EINVAL);
    } else {
        start = now_ns();
        EXPECT_EQ(change(kq, 5, EVFILT_TIMER, EV_ADD | EV_ONESHOT, NOTE_USECONDS, 3000, NULL), 0);
        expect_one(kq, EVFILT_TIMER, 5, LONG_MS);
        EXPECT(now_ns() - start >= 3000000);
        start = now_ns();
        EXPECT_EQ(change(kq, 6, EVFILT_TIMER, EV_ADD | EV_ONESHOT, NOTE_NSECONDS, 3000000, NULL),
                  0);
        expect_one(kq, EVFILT_TIMER, 6, LONG_MS);
        EXPECT(now_ns() - start >= 3000000);
    }
    close(kq);
}

TEST(time_outs) {
    int kq = kqueue();
    struct kevent event;
    struct timespec wrong = {0, 1000000000};
    uint64_t start = now_ns();
    EXPECT_EQ(wait_ms(kq, &event, 1, 20), 0);
    EXPECT(now_ns() - start >= 20000000);
    EXPECT_EQ(kevent(kq, NULL, 0, NULL, 0, NULL), 0); /* no room: does not wait */
    EXPECT(kevent(kq, NULL, 0, &event, 1, &wrong) == -1 && errno == EINVAL);
    close(kq);
}

static unsigned handled;
static void handler(int number) {
    (void)number;
    __atomic_add_fetch(&handled, 1, __ATOMIC_SEQ_CST);
}

TEST(signals) {
    int kq = kqueue();
    sigset_t mask, old;
    struct sigaction action, before;
    memset(&action, 0, sizeof action);
    memset(&before, 0, sizeof before);
    /* ignored */
    signal(SIGUSR1, SIG_IGN);
    EXPECT_EQ(change(kq, SIGUSR1, EVFILT_SIGNAL, EV_ADD, 0, 0, NULL), 0);
    expect_none(kq);
    for (int i = 0; i < 3; i++) EXPECT_EQ(raise(SIGUSR1), 0);
    EXPECT_EQ(expect_one(kq, EVFILT_SIGNAL, SIGUSR1, LONG_MS).data, 3);
    expect_none(kq);
    EXPECT_EQ(change(kq, SIGUSR1, EVFILT_SIGNAL, EV_DELETE, 0, 0, NULL), 0);
    EXPECT_EQ(sigaction(SIGUSR1, NULL, &before), 0);
    EXPECT(before.sa_handler == SIG_IGN);
    /* with a handler, which runs as well */
    action.sa_handler = handler;
    EXPECT_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    EXPECT_EQ(change(kq, SIGUSR1, EVFILT_SIGNAL, EV_ADD, 0, 0, NULL), 0);
    EXPECT_EQ(raise(SIGUSR1), 0);
    EXPECT_EQ(expect_one(kq, EVFILT_SIGNAL, SIGUSR1, LONG_MS).data, 1);
    EXPECT_EQ(__atomic_load_n(&handled, __ATOMIC_SEQ_CST), 1);
    /* by default ignored */
    EXPECT_EQ(change(kq, SIGCHLD, EVFILT_SIGNAL, EV_ADD, 0, 0, NULL), 0);
    EXPECT_EQ(raise(SIGCHLD), 0);
    expect_one(kq, EVFILT_SIGNAL, SIGCHLD, LONG_MS);
    /* blocked */
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &mask, &old);
    EXPECT_EQ(change(kq, SIGUSR2, EVFILT_SIGNAL, EV_ADD, 0, 0, NULL), 0);
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(raise(SIGUSR2), 0); /* for this thread: others may not block it */
        EXPECT_EQ(expect_one(kq, EVFILT_SIGNAL, SIGUSR2, LONG_MS).data, 1);
    }
    EXPECT_EQ(change(kq, 0, EVFILT_SIGNAL, EV_ADD, 0, 0, NULL), -EINVAL);
    close(kq); /* deletes the rest */
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    EXPECT_EQ(sigaction(SIGUSR1, NULL, &before), 0);
    EXPECT(before.sa_handler == handler);
    signal(SIGUSR1, SIG_DFL);
}

TEST(children) {
    int kq = kqueue(), status = 0, gate[2];
    EXPECT_EQ(pipe(gate), 0);
    pid_t child = fork();
    if (child == 0) {
        char byte;
        close(gate[1]);
        _exit(read(gate[0], &byte, 1) == 0 ? 42 : 0);
    }
    EXPECT_EQ(change(kq, (uintptr_t)child, EVFILT_PROC, EV_ADD, NOTE_EXIT, 0, NULL), 0);
    expect_none(kq);
    close_pair(gate);
    struct kevent event = expect_one(kq, EVFILT_PROC, (uintptr_t)child, LONG_MS);
    EXPECT(event.flags & EV_EOF);
    EXPECT(event.fflags & NOTE_EXIT);
    EXPECT_EQ(WEXITSTATUS((int)event.data), 42);
    expect_none(kq);
    EXPECT_EQ(change(kq, (uintptr_t)child, EVFILT_PROC, EV_DELETE, 0, 0, NULL), -ENOENT);
    /* ended, but not reaped */
    int late = change(kq, (uintptr_t)child, EVFILT_PROC, EV_ADD, NOTE_EXIT, 0, NULL);
    EXPECT_EQ(late, strict() ? -ESRCH : 0);
    if (late == 0) expect_one(kq, EVFILT_PROC, (uintptr_t)child, LONG_MS);
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(change(kq, (uintptr_t)child, EVFILT_PROC, EV_ADD, NOTE_EXIT, 0, NULL), -ESRCH);
    close(kq);
}

TEST(errors) {
    int kq = kqueue(), pair[2];
    struct kevent in[3], out[3];
    make_pair(pair);
    EXPECT_EQ(kevent(pair[0], NULL, 0, out, 1, NULL), -1);
    EXPECT_EQ(errno, EBADF);
    EXPECT_EQ(change(-1, 1, EVFILT_USER, EV_ADD, 0, 0, NULL), -EBADF);
    EXPECT_EQ(add(kq, 1000000, EVFILT_READ, 0), -EBADF);
    EXPECT_EQ(change(kq, 1, EVFILT_USER, EV_DELETE, 0, 0, NULL), -ENOENT);
    EXPECT_EQ(change(kq, 1, -100, EV_ADD, 0, 0, NULL), -EINVAL);
    /* With room the errors are events, and what follows is done; receipts are errors of 0. */
    EV_SET(&in[0], 1, EVFILT_USER, EV_DELETE, 0, 0, 0);
    EV_SET(&in[1], 2, EVFILT_USER, EV_ADD | EV_CLEAR | EV_RECEIPT, NOTE_TRIGGER, 0, 0);
    EV_SET(&in[2], pair[0], EVFILT_READ, EV_ADD, 0, 0, 0);
    EXPECT_EQ(kevent(kq, in, 3, out, 3, NULL), 2);
    EXPECT(out[0].flags & EV_ERROR);
    EXPECT_EQ(out[0].data, ENOENT);
    EXPECT_EQ(out[0].ident, 1);
    EXPECT_EQ(out[0].flags & EV_DELETE, strict() ? EV_DELETE : 0);
    EXPECT(out[1].flags & EV_ERROR);
    EXPECT_EQ(out[1].data, 0);
    expect_one(kq, EVFILT_USER, 2, LONG_MS);
    EXPECT_EQ(change(kq, (uintptr_t)pair[0], EVFILT_READ, EV_DELETE, 0, 0, NULL), 0);
    /* Without room the first error ends the call. */
    in[1].flags = EV_ADD | EV_CLEAR;
    in[1].ident = 3;
    EXPECT_EQ(kevent(kq, in, 2, NULL, 0, NULL), -1);
    EXPECT_EQ(errno, ENOENT);
    expect_none(kq);
    close_pair(pair);
    close(kq);
}

/* Little room: nothing is lost, nobody starves. */
TEST(few_at_a_time) {
    enum { PAIRS = 150 };
    static int pairs[PAIRS][2];
    unsigned seen[PAIRS] = {0}, user = 0;
    int kq = kqueue();
    struct kevent event;
    EXPECT_EQ(change(kq, 1, EVFILT_USER, EV_ADD, NOTE_TRIGGER, 0, NULL), 0);
    for (int i = 0; i < PAIRS; i++) {
        make_pair(pairs[i]);
        EXPECT_EQ(change(kq, (uintptr_t)pairs[i][0], EVFILT_READ, EV_ADD | EV_CLEAR, 0, 0,
                         &seen[i]), 0);
        EXPECT_EQ(write(pairs[i][1], "x", 1), 1);
    }
    for (unsigned reads = 0; reads < PAIRS;) {
        EXPECT_EQ(wait_ms(kq, &event, 1, 0), 1);
        if (event.filter == EVFILT_USER) {
            user++;
        } else {
            reads++;
            ++*(unsigned *)event.udata;
        }
    }
    for (int i = 0; i < PAIRS; i++) {
        EXPECT_EQ(seen[i], 1);
        close_pair(pairs[i]);
    }
    EXPECT(user > 0);
    close(kq);
}

/* A kqueue is a descriptor that can be waited for, by poll() and by another kqueue. */
TEST(kqueue_in_kqueue) {
    int outer = kqueue(), kq = kqueue();
    struct pollfd fd = {kq, POLLIN, 0};
    EXPECT_EQ(change(kq, 1, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, NULL), 0);
    EXPECT_EQ(add(outer, kq, EVFILT_READ, EV_CLEAR), 0);
    EXPECT_EQ(poll(&fd, 1, 0), 0);
    expect_none(outer);
    EXPECT_EQ(change(kq, 1, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL), 0);
    EXPECT_EQ(poll(&fd, 1, 0), 1);
    expect_one(outer, EVFILT_READ, (uintptr_t)kq, LONG_MS);
    EXPECT_EQ(add(outer, kq, EVFILT_WRITE, EV_CLEAR), -EINVAL);
    expect_one(kq, EVFILT_USER, 1, LONG_MS);
    EXPECT_EQ(poll(&fd, 1, 0), 0);
    close(kq);
    expect_none(outer);
    close(outer);
}

/* Threads: some wait, others change what is waited for. -----------------------------------------*/

typedef struct crowd {
    int kq, pair[2];
    unsigned users, reads, ended;
} crowd;

static void *crowd_waiter(void *arg) {
    crowd *c = (crowd *)arg;
    struct kevent events[4];
    for (;;) {
        int n = kevent(c->kq, NULL, 0, events, 4, NULL);
        if (n < 0) {
            if (errno == EINTR) continue;
            EXPECT_EQ(errno, EBADF);
            break;
        }
        for (int i = 0; i < n; i++) {
            char byte;
            if (events[i].filter == EVFILT_USER) {
                __atomic_add_fetch(&c->users, 1, __ATOMIC_SEQ_CST);
            } else {
                while (read(c->pair[0], &byte, 1) == 1) {
                    __atomic_add_fetch(&c->reads, 1, __ATOMIC_SEQ_CST);
                }
            }
        }
    }
    __atomic_add_fetch(&c->ended, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

/* Every trigger and every byte arrives, while filters come and go; close(kq) ends the waits. */
TEST(threads) {
    enum { WAITERS = 3 };
    const unsigned rounds = (unsigned)test_scale(3000);
    pthread_t waiters[WAITERS];
    crowd c;
    memset(&c, 0, sizeof c);
    c.kq = kqueue();
    make_pair(c.pair);
    EXPECT_EQ(change(c.kq, 1, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, NULL), 0);
    EXPECT_EQ(add(c.kq, c.pair[0], EVFILT_READ, EV_CLEAR), 0);
    for (int i = 0; i < WAITERS; i++) pthread_create(&waiters[i], NULL, crowd_waiter, &c);
    for (unsigned i = 0; i < rounds; i++) {
        unsigned users = __atomic_load_n(&c.users, __ATOMIC_SEQ_CST);
        EXPECT_EQ(change(c.kq, 1, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL), 0);
        EXPECT_EQ(change(c.kq, 2, EVFILT_TIMER, EV_ADD, 0, 3600000, NULL), 0);
        EXPECT_EQ(add(c.kq, c.pair[1], EVFILT_READ, 0), 0);
        EXPECT_EQ(change(c.kq, (uintptr_t)c.pair[1], EVFILT_READ, EV_DELETE, 0, 0, NULL), 0);
        EXPECT_EQ(write(c.pair[1], "x", 1), 1);
        while (__atomic_load_n(&c.users, __ATOMIC_SEQ_CST) == users) sched_yield();
        while (__atomic_load_n(&c.reads, __ATOMIC_SEQ_CST) < i + 1) sched_yield();
    }
    EXPECT_EQ(c.users, rounds);
    EXPECT_EQ(close(c.kq), 0);
    for (int i = 0; i < WAITERS; i++) pthread_join(waiters[i], NULL);
    EXPECT_EQ(c.ended, WAITERS);
    close_pair(c.pair);
}

static int signal_kq;
static void trigger_handler(int number) {
    struct kevent event;
    (void)number;
    EV_SET(&event, 1, EVFILT_USER, 0, NOTE_TRIGGER, 0, 0);
    if (kevent(signal_kq, &event, 1, NULL, 0, NULL) != 0) abort();
}

static void *pester(void *arg) {
    pthread_t *victim = (pthread_t *)arg;
    for (unsigned i = 0, n = (unsigned)test_scale(2000); i < n; i++) {
        pthread_kill(*victim, SIGUSR1);
        sched_yield();
    }
    return NULL;
}

/* kevent is a system call: a handler may trigger, whatever it interrupts. */
TEST(from_signal_handlers) {
    pthread_t self = pthread_self(), thread;
    int pair[2];
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = trigger_handler;
    signal_kq = kqueue();
    make_pair(pair);
    EXPECT_EQ(change(signal_kq, 1, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, NULL), 0);
    EXPECT_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    pthread_create(&thread, NULL, pester, &self);
    for (unsigned i = 0, n = (unsigned)test_scale(5000); i < n; i++) {
        EXPECT_EQ(add(signal_kq, pair[0], EVFILT_WRITE, EV_CLEAR), 0);
        EXPECT_EQ(change(signal_kq, (uintptr_t)pair[0], EVFILT_WRITE, EV_DELETE, 0, 0, NULL), 0);
    }
    pthread_join(thread, NULL);
    raise(SIGUSR1);
    expect_one(signal_kq, EVFILT_USER, 1, LONG_MS);
    signal(SIGUSR1, SIG_DFL);
    close_pair(pair);
    close(signal_kq);
}

/* A child of fork has no kqueues, the parent keeps its own. */
TEST(forks) {
    int kq = kqueue(), pair[2], status = 0;
    make_pair(pair);
    EXPECT_EQ(add(kq, pair[0], EVFILT_READ, EV_CLEAR), 0);
    pid_t child = fork();
    if (child == 0) {
        struct kevent event;
        bool gone = fcntl(kq, F_GETFD) == -1 && kevent(kq, NULL, 0, &event, 1, NULL) == -1 &&
                    errno == EBADF;
        close_pair(pair);
        _exit(gone ? 42 : 0);
    }
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 42);
    EXPECT_EQ(write(pair[1], "x", 1), 1);
    expect_one(kq, EVFILT_READ, (uintptr_t)pair[0], LONG_MS);
    close_pair(pair);
    close(kq);
}
