/* server_process.h - what the clients of echo and http share: they start the contender as a process
 * of its own, on a listening socket that they made, and read that process's CPU clock. So only the
 * server is measured, and every contender gets the same client, the same backlog, the same port.
 *
 *     client-c SERVER [ARGUMENTS OF THE SERVER ALONE] -- [ARGUMENTS OF bench.h FOR BOTH]
 *
 * The server finds the listening socket as descriptor 3, serves until it is killed, and exits with
 * 77 if it has not got the variant.
 */
#ifndef BENCH_SERVER_PROCESS_H
#define BENCH_SERVER_PROCESS_H

#include "bench.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define SERVER_LISTENER 3

typedef struct server {
    pid_t pid;
    clockid_t clock;
    struct sockaddr_in address;
} server;

/* Split the arguments. The result is the server's command, NULL at its end; *argc and *argv become
 * those for bench_init. */
static inline char **server_command(int *argc, char ***argv) {
    int split = 1;
    while (split < *argc && strcmp((*argv)[split], "--") != 0) split++;
    if (split < 2 || split >= *argc) bench_die("usage: client-c SERVER [ARGUMENTS] -- ARGUMENTS");
    char **command = malloc((size_t)*argc * sizeof *command);
    if (command == NULL) bench_die("no memory");
    int n = 0;
    for (int i = 1; i < *argc; i++) {
        if (i != split) command[n++] = (*argv)[i];
    }
    command[n] = NULL;
    *argc -= split;
    *argv += split;
    return command;
}

/* The server has ended although it should serve, or does not serve. */
static inline void server_lost(server *s) {
    int status = 0;
    bench_sleep(100000000);
    kill(s->pid, SIGKILL);
    bool skip = waitpid(s->pid, &status, 0) == s->pid && WIFEXITED(status) &&
                WEXITSTATUS(status) == BENCH_SKIP;
    if (!skip) fprintf(stderr, "bench: the server ended with status %d\n", status);
    exit(skip ? BENCH_SKIP : 2);
}

/* A server that makes its listening socket itself may need a moment. */
static inline int server_connect(server *s) {
    for (unsigned i = 0; i < 500; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0) bench_die("no socket");
        if (connect(fd, (struct sockaddr *)&s->address, sizeof s->address) == 0) return fd;
        close(fd);
        siginfo_t end = {0};
        if (waitid(P_PID, (id_t)s->pid, &end, WEXITED | WNOHANG | WNOWAIT) != 0 || end.si_pid) {
            break;
        }
        bench_sleep(10000000);
    }
    server_lost(s);
    return -1;
}

/* With one worker the server, whatever threads it has, gets the first CPU and the client the next:
 * else the kernel decides in each round anew whether the two share one. Variant free: it may. */
static inline void server_start(server *s, const bench *b, char **command) {
    socklen_t len = sizeof s->address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memset(s, 0, sizeof *s);
    s->address.sin_family = AF_INET;
    s->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)&s->address, sizeof s->address) != 0 ||
        listen(fd, 4096) != 0 || getsockname(fd, (struct sockaddr *)&s->address, &len) != 0) {
        bench_die("no listening socket");
    }
    bool apart = b->workers == 1 && !bench_is(b, "free");
    s->pid = fork();
    if (s->pid < 0) bench_die("fork failed");
    if (s->pid == 0) {
        char port[16];
        snprintf(port, sizeof port, "%u", (unsigned)ntohs(s->address.sin_port));
        setenv("BENCH_PORT", port, 1); /* for a server that insists on knowing it */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (apart) bench_pin_self(0);
        if (fd == SERVER_LISTENER ? fcntl(fd, F_SETFD, 0) != 0 : dup2(fd, SERVER_LISTENER) < 0) {
            bench_die("dup2 failed");
        }
        execv(command[0], command);
        bench_die("the server cannot be run");
    }
    close(fd);
    if (apart) bench_pin_self(1);
    if (clock_getcpuclockid(s->pid, &s->clock) != 0) bench_die("no CPU clock of the server");
}

/* bench_done, with the server's CPU time in place of ours. */
static inline void server_done(bench *b, server *s, uint64_t cpu_begin, uint64_t done) {
    uint64_t cpu = bench_clock(s->clock) - cpu_begin;
    unsigned count = b->count;
    bench_done(b, done);
    if (b->count > count) b->cpu[count] = (double)cpu / (double)b->ops;
}

static inline long server_stop(server *s) {
    char path[64];
    char line[256];
    long kib = -1;
    snprintf(path, sizeof path, "/proc/%ld/status", (long)s->pid);
    FILE *f = fopen(path, "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, "VmHWM:", 6) == 0) kib = strtol(line + 6, NULL, 10);
    }
    if (f != NULL) fclose(f);
    kill(s->pid, SIGKILL);
    waitpid(s->pid, NULL, 0);
    return kib;
}

/* bench_report, with latencies in ns before it. server_rss_kib counts, rss_kib is the client's. */
static inline int server_report(bench *b, server *s, double p50, double p99) {
    b->extra_name = "server_rss_kib";
    b->extra = (double)server_stop(s);
    printf("p50=%.0f p99=%.0f ", p50, p99);
    return bench_report(b);
}

#endif /* BENCH_SERVER_PROCESS_H */
