/* echo: what does the server pay for one message there and back?
 *
 * Method   This client starts the contender's server (server_process.h) and holds N connections
 *          over loopback in one epoll loop; on each there is one message under way. ns_per_op is
 *          wall time a message, cpu_ns_per_op the CPU time of the *server's* process a message, p99
 *          what a message took from send to receive.
 *            c64    64 connections, 64 bytes
 *            c1     one connection: each message finds the server asleep
 *            c1000  1000 connections
 *            big    64 connections, 16 KiB
 *            self   servers and clients in one runtime, 64 connections, no process apart: this
 *                   program only becomes the contender; CPU time is that of both sides
 * Checked  Every byte that comes back, and that each message comes back exactly once.
 * Misleads Most of it is the kernel's TCP: epoll.c beside it is the floor. A slow server gets
 *          larger batches from epoll, and so looks cheaper than it is at the same rate. With one
 *          worker server and client have a CPU each; with two they share both.
 */
#include "echo/server_process.h"
#include <sys/epoll.h>

#define SIZE_MAX_BYTES 16384u
#define CONNECTIONS_MAX 1000u

typedef struct connection {
    int fd;
    size_t got;
    uint64_t sent_at;
    unsigned char message[SIZE_MAX_BYTES];
} connection;

static connection connections[CONNECTIONS_MAX];
static server the_server;
static unsigned num_connections = 64;
static size_t size = 64;
static double *latency;
static size_t num_latencies;
static size_t max_latencies;
static int poller;

static void send_next(connection *c, uint64_t number) {
    memcpy(c->message, &number, sizeof number);
    c->got = 0;
    c->sent_at = bench_now();
    if (send(c->fd, c->message, size, MSG_NOSIGNAL) != (ssize_t)size) server_lost(&the_server);
}

/* true: the whole message is back. */
static bool receive(connection *c) {
    static unsigned char back[SIZE_MAX_BYTES];
    ssize_t n = recv(c->fd, back, size - c->got, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return false;
    if (n <= 0) server_lost(&the_server);
    if (memcmp(back, c->message + c->got, (size_t)n) != 0) bench_die("other bytes came back");
    c->got += (size_t)n;
    return c->got == size;
}

static uint64_t run(uint64_t ops) {
    struct epoll_event events[256];
    uint64_t sent = 0;
    uint64_t done = 0;
    while (sent < num_connections && sent < ops) {
        send_next(&connections[sent], sent);
        sent++;
    }
    while (done < sent) {
        int n = epoll_wait(poller, events, 256, 20000);
        if (n == 0) bench_die("nothing came back for 20 s");
        for (int i = 0; i < n; i++) {
            connection *c = events[i].data.ptr;
            if (!receive(c)) continue;
            done++;
            if (num_latencies < max_latencies) {
                latency[num_latencies++] = (double)(bench_now() - c->sent_at);
            }
            if (sent < ops) send_next(c, sent++);
        }
    }
    return done;
}

int main(int argc, char **argv) {
    static bench b;
    char **command = server_command(&argc, &argv);
    bench_init(&b, argc, argv, "echo", "client", 50000, "c64 c1 c1000 big self");
    if (bench_is(&b, "self")) {
        execv(command[0], command);
        bench_die("the contender cannot be run");
    }
    if (bench_is(&b, "c1")) {
        num_connections = 1;
        if (b.ops > 5000) b.ops = 5000;
    }
    if (bench_is(&b, "c1000")) num_connections = 1000;
    if (bench_is(&b, "big")) {
        size = SIZE_MAX_BYTES;
        if (b.ops > 20000) b.ops = 20000;
    }
    max_latencies = (size_t)b.ops * b.rounds;
    latency = malloc(max_latencies * sizeof *latency);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (latency == NULL || poller < 0) bench_die("no memory");
    server_start(&the_server, &b, command);
    for (unsigned i = 0; i < num_connections; i++) {
        connection *c = &connections[i];
        struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = c}};
        c->fd = server_connect(&the_server);
        for (size_t k = 0; k < size; k++) c->message[k] = (unsigned char)(i * 7u + k * 13u);
        if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event) != 0) bench_die("epoll_ctl failed");
    }
    while (bench_round(&b)) {
        if (b.round <= b.warmup + 1) num_latencies = 0;
        uint64_t cpu = bench_clock(the_server.clock);
        server_done(&b, &the_server, cpu, run(b.ops));
    }
    double p50 = bench_percentile(latency, num_latencies, 50.0);
    double p99 = bench_percentile(latency, num_latencies, 99.0);
    return server_report(&b, &the_server, p50, p99);
}
