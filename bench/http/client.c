/* http: what does the server pay for one small request over a kept connection?
 *
 * Method   This client starts the contender's server (server_process.h) and lets wrk load it for a
 *          second a round. Each server answers every empty line with the same fixed response, so
 *          that only the way to it and back differs, not a parser. ns_per_op is wall time a
 *          request, cpu_ns_per_op the CPU time of the *server's* process a request, p99 what wrk
 *          saw.
 *            c64   64 connections
 *            c256  256 connections
 * Checked  Status and body of one answer, before and after; wrk reports no socket error and no
 *          status but 200.
 * Misleads wrk's own CPU is the other half of the machine; with two workers it competes with the
 *          server. See echo for the rest. --ops is ignored.
 */
#include "echo/server_process.h"

static server the_server;

/* Is the answer right? nginx adds lines to its head; the status and the body are the same. false:
 * the connection was lost, which it is while nginx makes its own listening socket. */
static bool check_answer(void) {
    static const char request[] = "GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n";
    static const char body[] = "\r\n\r\nHello, World!\n";
    const size_t len = sizeof body - 1;
    char back[1024];
    size_t got = 0;
    int fd = server_connect(&the_server);
    struct timeval limit = {10, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    bool lost = send(fd, request, sizeof request - 1, MSG_NOSIGNAL) < 0;
    while (!lost && (got < len || memcmp(back + got - len, body, len) != 0)) {
        ssize_t n = recv(fd, back + got, sizeof back - got, 0);
        if (n < 0 && errno == EAGAIN) bench_die("no answer within 10 s, or not the right one");
        lost = n <= 0;
        if (!lost) got += (size_t)n;
    }
    close(fd);
    if (!lost && memcmp(back, "HTTP/1.1 200 OK\r\n", 17) != 0) bench_die("the answer is not 200");
    return !lost;
}

/* Latencies of wrk: "1.23ms". */
static double in_ns(const char *text) {
    char *unit = NULL;
    double value = strtod(text, &unit);
    if (strncmp(unit, "us", 2) == 0) return value * 1e3;
    if (strncmp(unit, "ms", 2) == 0) return value * 1e6;
    return value * 1e9;
}

/* Requests that wrk made. */
static uint64_t run_wrk(unsigned connections, double *p50, double *p99) {
    char line[256];
    uint64_t done = 0;
    snprintf(line, sizeof line, "wrk -t1 -c%u -d1s --latency http://127.0.0.1:%u/ 2>&1",
             connections, (unsigned)ntohs(the_server.address.sin_port));
    FILE *f = popen(line, "r");
    if (f == NULL) bench_die("popen failed");
    while (fgets(line, sizeof line, f) != NULL) {
        if (strstr(line, " requests in ") != NULL) done = strtoull(line, NULL, 10);
        if (strstr(line, " 50% ") != NULL) *p50 = in_ns(strstr(line, "50% ") + 4);
        if (strstr(line, " 99% ") != NULL) *p99 = in_ns(strstr(line, "99% ") + 4);
        if (strstr(line, "Socket errors") != NULL || strstr(line, "Non-2xx") != NULL) {
            fprintf(stderr, "bench: wrk: %s", line);
            exit(1);
        }
    }
    if (pclose(f) != 0 || done == 0) bench_die("wrk failed (Debian: wrk)");
    return done;
}

int main(int argc, char **argv) {
    static bench b;
    static double p50[BENCH_ROUNDS_MAX];
    static double p99[BENCH_ROUNDS_MAX];
    char **command = server_command(&argc, &argv);
    bench_init(&b, argc, argv, "http", "client", 1, "c64 c256");
    unsigned connections = bench_is(&b, "c64") ? 64 : 256;
    server_start(&the_server, &b, command);
    unsigned tries = 0;
    while (!check_answer()) {
        if (++tries == 500) server_lost(&the_server);
        bench_sleep(10000000);
    }
    while (bench_round(&b)) {
        uint64_t cpu = bench_clock(the_server.clock);
        b.ops = run_wrk(connections, &p50[b.count], &p99[b.count]);
        server_done(&b, &the_server, cpu, b.ops);
    }
    if (!check_answer()) server_lost(&the_server);
    return server_report(&b, &the_server, bench_percentile(p50, b.count, 50.0),
                         bench_percentile(p99, b.count, 50.0));
}
