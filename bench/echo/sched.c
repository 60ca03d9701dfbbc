/* echo by sched.h: one task a connection, straight-line code. Method: client.c. */
#include "echo/drivers_sched.h"
#include "echo/reply.h"

typedef struct connection {
    sch_io io;
} connection;

static void serve(void *arg) {
    connection *c = arg;
    sch_io io = c->io;
    unsigned state = 0;
    char in[REPLY_BUFFER];
    const char *out;
    ssize_t n;
    free(c);
    while ((n = sch_read(&io, in, sizeof in)) > 0) {
        size_t len = reply(&state, in, (size_t)n, &out);
        if (len > 0 && sch_write_all(&io, out, len, NULL) != 0) break;
    }
    (void)sch_io_close(&io);
}

static void accept_all(void *arg) {
    sch_io listener = *(sch_io *)arg;
    for (;;) {
        connection *c = malloc(sizeof *c);
        if (c == NULL) bench_die("no memory");
        int error = sch_accept(&listener, &c->io);
        if (error == -ECANCELED) {
            free(c);
            return;
        }
        if (error != 0 || sch_go(NULL, serve, c) != 0) bench_die("accept failed");
    }
}

static void open_listener(sch_io *listener, sch_runtime *rt, int fd) {
    if (sch_io_open(listener, rt, fd) != 0) bench_die("sch_io_open failed");
}

#ifdef BENCH_ECHO
#define PAIRS 64u
#define SELF_SIZE 64u

typedef struct client {
    sch_io io;
    uint64_t ops;
    uint64_t done;
} client;

static struct sockaddr_in address;
static client clients[PAIRS];
static bench *the_bench;

static void ask(void *arg) {
    client *c = arg;
    char message[SELF_SIZE];
    char back[SELF_SIZE];
    memset(message, 'a', sizeof message);
    for (uint64_t i = 0; i < c->ops; i++) {
        size_t got = 0;
        memcpy(message, &i, sizeof i);
        if (sch_write_all(&c->io, message, sizeof message, NULL) != 0) bench_die("no write");
        while (got < sizeof back) {
            ssize_t n = sch_read(&c->io, back + got, sizeof back - got);
            if (n <= 0) bench_die("no read");
            got += (size_t)n;
        }
        if (memcmp(message, back, sizeof back) != 0) bench_die("other bytes came back");
        c->done++;
    }
}

static void self(void *arg) {
    sch_io listener = *(sch_io *)arg;
    sch_task *task[PAIRS];
    bench *b = the_bench;
    if (sch_go(NULL, accept_all, &listener) != 0) bench_die("no acceptor");
    for (unsigned i = 0; i < PAIRS; i++) {
        if (sch_connect(&clients[i].io, NULL, (struct sockaddr *)&address, sizeof address) != 0) {
            bench_die("no connection");
        }
    }
    while (bench_round(b)) {
        uint64_t done = 0;
        for (unsigned i = 0; i < PAIRS; i++) {
            clients[i].ops = b->ops / PAIRS + (i < b->ops % PAIRS);
            clients[i].done = 0;
            task[i] = sch_spawn(NULL, ask, &clients[i]);
            if (task[i] == NULL) bench_die("no client");
        }
        for (unsigned i = 0; i < PAIRS; i++) {
            if (sch_join(task[i]) != 0) bench_die("a client was lost");
            done += clients[i].done;
        }
        bench_done(b, done);
    }
}

static int main_self(bench *b, sch_runtime *rt) {
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sch_io listener;
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(fd, PAIRS) != 0 || getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
        bench_die("no listening socket");
    }
    open_listener(&listener, rt, fd);
    the_bench = b;
    bench_in_task(rt, self, &listener);
    return bench_report(b);
}
#endif

int main(int argc, char **argv) {
    static bench b;
    driver_options options = driver_arguments(&argc, argv);
    bench_init(&b, argc, argv, REPLY_CASE, "sched.h", 50000, REPLY_VARIANTS);
    reply_init();
    sch_runtime *rt = driver_runtime(&b, options);
#ifdef BENCH_ECHO
    if (bench_is(&b, "self")) return main_self(&b, rt);
#endif
    sch_io listener;
    open_listener(&listener, rt, SERVER_LISTENER);
    sch_task *acceptor = sch_spawn(rt, accept_all, &listener);
    if (acceptor == NULL || sch_join(acceptor) != 0) bench_die("the acceptor was lost");
    return 0;
}
