/* wake_socket: how long until a task runs that waits for a socket, when all workers sleep?
 *
 * Method   The client (a process apart, as in echo) sleeps 300 us, long enough for the server to
 *          sleep in its driver, notes the time, sends 8 bytes over loopback TCP and waits for the
 *          answer: the time at which the server had read them. ns_per_op is the median of these
 *          latencies, send_ns the median time that send(2) took.
 *            cross  the server is pinned to one CPU, the client to the next
 *            free   the kernel places both
 * Checked  Every answer is 8 bytes, not before the sending and not after its arrival.
 * Misleads The kernel's TCP and its wake are most of it: epoll.c is the floor. See wake_parked for
 *          what placing and a virtual machine do.
 */
#include "echo/server_process.h"

#define SAMPLES_MAX 100000u

static double latency[SAMPLES_MAX];
static double sending[SAMPLES_MAX];

int main(int argc, char **argv) {
    static bench b;
    static server s;
    char **command = server_command(&argc, &argv);
    bench_init(&b, argc, argv, "wake_socket", "client", 2000, "cross free");
    if (b.ops > SAMPLES_MAX) b.ops = SAMPLES_MAX;
    server_start(&s, &b, command);
    int fd = server_connect(&s);
    struct timeval limit = {10, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    bench_sleep(20000000);
    for (uint64_t i = 0; i < b.ops; i++) {
        uint64_t ran = 0;
        bench_sleep(300000);
        uint64_t begin = bench_now();
        if (send(fd, &begin, sizeof begin, MSG_NOSIGNAL) != sizeof begin) server_lost(&s);
        sending[i] = (double)(bench_now() - begin);
        ssize_t n = recv(fd, &ran, sizeof ran, MSG_WAITALL);
        if (n == 0 || (n < 0 && errno != EAGAIN)) server_lost(&s);
        if (n != sizeof ran || ran < begin || ran > bench_now()) b.bad++;
        latency[i] = (double)ran - (double)begin;
    }
    (void)server_stop(&s);
    b.extra_name = "send_ns";
    b.extra = bench_percentile(sending, (size_t)b.ops, 50.0);
    return bench_report_latency(&b, latency, (size_t)b.ops);
}
