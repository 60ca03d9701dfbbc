/* echo by epoll alone: the floor. Worker i is a thread with an epoll set of its own, connections go
 * to them in turn. `self` has both ends of 64 connections in one set, one thread. Method: client.c.
 */
#include "echo/reply.h"
#include <pthread.h>
#include <sys/epoll.h>

#define WORKERS_MAX 64u

typedef struct connection {
    int fd;
    unsigned state;
} connection;

static int pollers[WORKERS_MAX];
static bool pin;

static void watch(int poller, int fd, void *data) {
    struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = data}};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) != 0) bench_die("epoll_ctl failed");
}

static void send_all(int fd, const char *out, size_t n) {
    while (n > 0) {
        ssize_t sent = send(fd, out, n, MSG_NOSIGNAL);
        if (sent <= 0) return;
        out += sent;
        n -= (size_t)sent;
    }
}

static void *work(void *arg) {
    struct epoll_event events[256];
    char in[REPLY_BUFFER];
    unsigned worker = *(unsigned *)arg;
    if (pin) bench_pin_self(worker);
    for (;;) {
        int n = epoll_wait(pollers[worker], events, 256, -1);
        for (int i = 0; i < n; i++) {
            connection *c = events[i].data.ptr;
            const char *out;
            ssize_t got = recv(c->fd, in, sizeof in, MSG_DONTWAIT);
            if (got < 0 && errno == EAGAIN) continue;
            if (got <= 0) {
                close(c->fd);
                free(c);
                continue;
            }
            size_t len = reply(&c->state, in, (size_t)got, &out);
            send_all(c->fd, out, len);
        }
    }
    return NULL;
}

static void serve(const bench *b) {
    static unsigned number[WORKERS_MAX];
    unsigned workers = b->workers < WORKERS_MAX ? b->workers : WORKERS_MAX;
    pin = b->pin;
    for (unsigned i = 0; i < workers; i++) {
        pthread_t thread;
        number[i] = i;
        pollers[i] = epoll_create1(EPOLL_CLOEXEC);
        if (pollers[i] < 0 || pthread_create(&thread, NULL, work, &number[i]) != 0) {
            bench_die("no worker");
        }
    }
    for (unsigned next = 0;; next++) {
        connection *c = calloc(1, sizeof *c);
        if (c == NULL) bench_die("no memory");
        c->fd = accept4(SERVER_LISTENER, NULL, NULL, SOCK_CLOEXEC);
        if (c->fd < 0) bench_die("accept failed");
        watch(pollers[next % workers], c->fd, c);
    }
}

#ifdef BENCH_ECHO
#define PAIRS 64u
#define SELF_SIZE 64u

typedef struct end {
    int fd;
    bool client;
    char message[SELF_SIZE];
} end;

/* Both ends of a loopback connection. */
static void connect_pair(int listener, int fds[2]) {
    struct sockaddr_in address;
    socklen_t len = sizeof address;
    fds[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fds[1] < 0 || getsockname(listener, (struct sockaddr *)&address, &len) != 0 ||
        connect(fds[1], (struct sockaddr *)&address, len) != 0 ||
        (fds[0] = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0) {
        bench_die("no connection");
    }
}

static uint64_t run_self(int poller, end *ends, uint64_t ops) {
    struct epoll_event events[2 * PAIRS];
    char in[REPLY_BUFFER];
    uint64_t sent = 0;
    uint64_t done = 0;
    for (unsigned i = 0; i < PAIRS && sent < ops; i++, sent++) {
        send_all(ends[2 * i + 1].fd, ends[2 * i + 1].message, SELF_SIZE);
    }
    while (done < sent) {
        int n = epoll_wait(poller, events, 2 * PAIRS, -1);
        for (int i = 0; i < n; i++) {
            end *e = events[i].data.ptr;
            if (recv(e->fd, in, sizeof in, MSG_DONTWAIT) != (ssize_t)SELF_SIZE) {
                bench_die("not one whole message");
            }
            if (!e->client) {
                send_all(e->fd, in, SELF_SIZE);
                continue;
            }
            if (memcmp(in, e->message, SELF_SIZE) != 0) bench_die("other bytes came back");
            done++;
            if (sent < ops) {
                memcpy(e->message, &sent, sizeof sent);
                send_all(e->fd, e->message, SELF_SIZE);
                sent++;
            }
        }
    }
    return done;
}

static int self(bench *b) {
    static end ends[2 * PAIRS];
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int poller = epoll_create1(EPOLL_CLOEXEC);
    if (b->workers != 1) return BENCH_SKIP;
    if (listener < 0 || poller < 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, PAIRS) != 0) {
        bench_die("no listening socket");
    }
    for (unsigned i = 0; i < 2 * PAIRS; i += 2) {
        int fds[2];
        connect_pair(listener, fds);
        for (unsigned k = 0; k < 2; k++) {
            ends[i + k].fd = fds[k];
            ends[i + k].client = k == 1;
            watch(poller, fds[k], &ends[i + k]);
        }
    }
    while (bench_round(b)) bench_done(b, run_self(poller, ends, b->ops));
    return bench_report(b);
}
#endif

int main(int argc, char **argv) {
    static bench b;
    bench_init(&b, argc, argv, REPLY_CASE, "epoll", 50000, REPLY_VARIANTS);
    reply_init();
#ifdef BENCH_ECHO
    if (bench_is(&b, "self")) return self(&b);
#endif
    serve(&b);
    return 0;
}
