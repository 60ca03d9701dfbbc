/* observe.c - a runtime with everything on, for tests/observe/check.py.
 *
 *     observe write DIR   does some of everything, and when all rests writes the metrics as text in
 *                         both formats, and the same numbers as they are in memory:
 *                         metrics.prom, metrics.om, raw.json
 *     observe serve       prints a port of 127.0.0.1, serves /prometheus and /openmetrics there,
 *                         and works on, until its input ends */
#define SCHED_IMPLEMENTATION
#include "../../sched.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what) {
    fprintf(stderr, "observe: %s failed\n", what);
    exit(1);
}

static void must(int result, const char *what) {
    if (result < 0) {
        fprintf(stderr, "%s\n", sch_strerror(result));
        fail(what);
    }
}

/* Some of everything ----------------------------------------------------------------------------*/

static unsigned stalls; /* atomic */

static void on_stall(const struct sch_stall *stall, void *user) {
    (void)stall, (void)user;
    __atomic_fetch_add(&stalls, 1u, __ATOMIC_SEQ_CST);
}

static void nothing(void *arg) { (void)arg; }

static void yields(void *arg) {
    (void)arg;
    for (int i = 0; i < 3; i++) must(sch_yield_now(), "sch_yield_now");
}

static void sleeps(void *arg) {
    (void)arg;
    must(sch_sleep(SCH_MILLISECOND), "sch_sleep");
}

static void suspends(void *arg) {
    (void)arg;
    (void)sch_suspend();
}

static void writes(void *arg) { must((int)sch_write((sch_io *)arg, "x", 1), "sch_write"); }

/* A poll that lasts until the watchdog has told of it. */
static void stall(void *arg) {
    unsigned before = *(unsigned *)arg;
    struct timespec nap = {0, 100000};
    while (__atomic_load_n(&stalls, __ATOMIC_SEQ_CST) == before) (void)nanosleep(&nap, NULL);
}

static sch_status polls(sch_task *self, void *state) {
    (void)self;
    if (++*(unsigned *)state == 3) return SCH_READY;
    (void)sch_yield_now();
    return SCH_PENDING;
}

static void everything(void *arg) {
    sch_io in, out;
    sch_task *child;
    char byte;
    int fd[2];
    (void)arg;
    for (int i = 0; i < 20; i++) must(sch_go(NULL, i % 2 ? yields : sleeps, NULL), "sch_go");
    must(sch_join(sch_spawn_poll(NULL, polls, NULL, sizeof(unsigned))), "poll task");
    must(sch_join(sch_spawn_blocking(NULL, sleeps, NULL)), "blocking job");
    must(sch_block_in_place(nothing, NULL), "sch_block_in_place");
    must(sch_go(NULL, nothing, NULL), "sch_go");
    must(sch_block_in_place(sleeps, NULL), "sch_block_in_place");
    child = sch_spawn(NULL, suspends, NULL);
    must(sch_yield_now(), "sch_yield_now");
    must(sch_cancel(child), "sch_cancel");
    if (sch_join(child) != -ECANCELED) fail("a cancellation");
    if (pipe(fd) != 0) fail("pipe");
    must(sch_io_open(&in, NULL, fd[0]), "sch_io_open");
    must(sch_io_open(&out, NULL, fd[1]), "sch_io_open");
    must(sch_go(NULL, writes, &out), "sch_go");
    must((int)sch_read(&in, &byte, 1), "sch_read");
    must(sch_sleep(2 * SCH_MILLISECOND), "sch_sleep"); /* the writer has left */
    must(sch_io_close(&in), "sch_io_close");
    must(sch_io_close(&out), "sch_io_close");
}

static sch_runtime *begin(void) {
    sch_config config;
    sch_runtime *rt;
    memset(&config, 0, sizeof config);
    config.workers = 2;
    config.task_times = true;
    config.event_interval = config.global_queue_interval = 7;
    config.stall_ns = 20 * SCH_MILLISECOND;
    config.on_stall = on_stall;
    rt = sch_runtime_new(&config);
    if (!rt) fail("sch_runtime_new");
    return rt;
}

/* Write -----------------------------------------------------------------------------------------*/

static int to_file(const char *text, size_t length, void *file) {
    return fwrite(text, 1, length, (FILE *)file) == length ? 0 : -EIO;
}

static FILE *create(const char *dir, const char *name) {
    char path[512];
    FILE *file;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    file = fopen(path, "w");
    if (!file) fail(path);
    return file;
}

static void put_numbers(FILE *f, const char *name, const void *snapshot, size_t size) {
    const uint64_t *n = (const uint64_t *)snapshot;
    fprintf(f, "\"%s\": [", name);
    for (size_t i = 0; i < size / sizeof *n; i++) fprintf(f, "%s%" PRIu64, i ? ", " : "", n[i]);
    fprintf(f, "],\n");
}

static void put_histogram(FILE *f, const char *name, sch_runtime *rt, sch_histogram which) {
    static uint64_t counts[4096];
    int n = sch_histogram_read(rt, which, SCH_ALL_WORKERS, counts, 4096);
    must(n, "sch_histogram_read");
    fprintf(f, "\"%s\": [", name);
    for (int i = 0; i < n; i++) {
        fprintf(f, "%s[%" PRIu64 ", %" PRIu64 "]", i ? ", " : "",
                sch_histogram_limit(rt, (size_t)i), counts[i]);
    }
    fprintf(f, "],\n");
}

/* The numbers of the runtime and its workers, at rest. */
typedef struct numbers {
    sch_metrics_snapshot all;
    sch_worker_metrics_snapshot worker[2];
} numbers;

static void read_numbers(sch_runtime *rt, numbers *n) {
    memset(n, 0, sizeof *n);
    must(sch_metrics(rt, &n->all), "sch_metrics");
    for (unsigned i = 0; i < 2; i++) must(sch_worker_metrics(rt, i, &n->worker[i]), "worker");
}

static void write_all(sch_runtime *rt, const char *dir) {
    static const char *const names[] = {"metrics.prom", "metrics.om"};
    numbers before, after;
    FILE *f;
    for (int tries = 0;; tries++) {
        struct timespec nap = {0, 20 * 1000000};
        if (tries == 500) fail("coming to rest");
        (void)nanosleep(&nap, NULL);
        read_numbers(rt, &before);
        for (int i = 0; i < 2; i++) {
            f = create(dir, names[i]);
            must(sch_metrics_write(rt, (sch_metrics_format)i, to_file, f), "sch_metrics_write");
            if (fclose(f) != 0) fail("fclose");
        }
        read_numbers(rt, &after);
        if (memcmp(&before, &after, sizeof before) == 0 && before.all.num_alive_tasks == 0) break;
    }
    f = create(dir, "raw.json");
    fprintf(f, "{\n");
    put_numbers(f, "runtime", &before.all, offsetof(sch_metrics_snapshot, total));
    put_numbers(f, "worker0", &before.worker[0], sizeof before.worker[0]);
    put_numbers(f, "worker1", &before.worker[1], sizeof before.worker[1]);
    put_histogram(f, "poll_time", rt, SCH_POLL_TIME);
    put_histogram(f, "schedule_latency", rt, SCH_SCHEDULE_LATENCY);
    fprintf(f, "\"waits\": [");
    for (int i = 0; i < SCH_WAIT_KINDS; i++) {
        fprintf(f, "%s\"%s\"", i ? ", " : "", sch_wait_name((sch_wait_kind)i));
    }
    fprintf(f, "]\n}\n");
    if (fclose(f) != 0) fail("fclose");
}

/* Serve -----------------------------------------------------------------------------------------*/

/* A text as it grows; sch_metrics_write calls this. */
typedef struct body {
    char *text;
    size_t length, room;
} body;

static int to_body(const char *text, size_t length, void *user) {
    body *b = (body *)user;
    if (b->length + length > b->room) {
        size_t room = 2 * (b->length + length);
        char *more = (char *)realloc(b->text, room);
        if (!more) return -ENOMEM;
        b->text = more, b->room = room;
    }
    memcpy(b->text + b->length, text, length);
    b->length += length;
    return 0;
}

typedef struct client {
    sch_io io;
    sch_runtime *rt;
} client;

static void answer(void *arg) {
    static const char *const types[] = {"text/plain; version=0.0.4; charset=utf-8",
                                        "application/openmetrics-text; version=1.0.0"};
    client *c = (client *)arg;
    char head[4096];
    body b = {NULL, 0, 0};
    ssize_t got = 0, n = 1;
    int format;
    while (n > 0 && got + 1 < (ssize_t)sizeof head) {
        n = sch_read(&c->io, head + got, sizeof head - 1 - (size_t)got);
        if (n > 0) got += n;
        head[got] = 0;
        if (strstr(head, "\r\n\r\n")) break;
    }
    format = strncmp(head, "GET /openmetrics", 16) == 0;
    if (n > 0 && sch_metrics_write(c->rt, (sch_metrics_format)format, to_body, &b) == 0) {
        int length = snprintf(head, sizeof head,
                              "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                              "Connection: close\r\n\r\n",
                              types[format], b.length);
        if (sch_write_all(&c->io, head, (size_t)length, NULL) == 0) {
            (void)sch_write_all(&c->io, b.text, b.length, NULL);
        }
    }
    free(b.text);
    (void)sch_io_close(&c->io);
    free(c);
}

typedef struct server {
    sch_io listener;
    sch_runtime *rt;
} server;

static void serve(void *arg) {
    server *s = (server *)arg;
    for (;;) {
        client *c = (client *)malloc(sizeof *c);
        if (!c) fail("malloc");
        c->rt = s->rt;
        if (sch_accept(&s->listener, &c->io) != 0 || sch_go(NULL, answer, c) != 0) {
            free(c);
            return; /* the runtime ends */
        }
    }
}

static void work(void *arg) {
    (void)arg;
    for (;;) {
        sch_task *task = sch_spawn(NULL, yields, NULL);
        if (!task || sch_join(task) != 0) return;
        if (sch_sleep(SCH_MILLISECOND) != 0) return;
    }
}

static void serve_until_told(sch_runtime *rt) {
    server s;
    struct sockaddr_in at;
    socklen_t length = sizeof at;
    char byte;
    memset(&at, 0, sizeof at);
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    s.rt = rt;
    must(sch_listen(&s.listener, rt, (struct sockaddr *)&at, sizeof at, 0), "sch_listen");
    if (getsockname(sch_io_fd(&s.listener), (struct sockaddr *)&at, &length)) fail("getsockname");
    must(sch_go(rt, serve, &s), "sch_go");
    must(sch_go(rt, work, NULL), "sch_go");
    printf("%u\n", (unsigned)ntohs(at.sin_port));
    fflush(stdout);
    while (read(0, &byte, 1) > 0) continue;
    must(sch_runtime_shutdown(rt, SCH_FOREVER), "sch_runtime_shutdown");
}

int main(int argc, char **argv) {
    bool writing = argc == 3 && strcmp(argv[1], "write") == 0;
    sch_runtime *rt;
    unsigned none = 0;
    if (!writing && !(argc == 2 && strcmp(argv[1], "serve") == 0)) fail("the command line");
    rt = begin();
    for (int i = 0; i < 10; i++) must(sch_join(sch_spawn(rt, everything, NULL)), "everything");
    must(sch_join(sch_spawn(rt, stall, &none)), "a stall");
    if (writing) write_all(rt, argv[2]);
    else serve_until_told(rt);
    sch_runtime_free(rt);
    return 0;
}
