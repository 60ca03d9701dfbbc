/* fork.c - fork, exec and their like while runtimes run, from every place where that can happen.
 * What the parent made answers -EOWNERDEAD in the child; the child may have runtimes of its own;
 * the parent notices nothing. FORKS=n sets how often the storms fork (default 40). */
#define _GNU_SOURCE
#define SCH_DEBUG 3
#define SCHED_IMPLEMENTATION
#include "../../sched.h"

#include "process.h"

#include <spawn.h>
#include <sys/socket.h>
#include <sys/uio.h>

extern char **environ;

/* A parent with tasks in every state ------------------------------------------------------------*/

typedef struct fork_world {
    sch_runtime *rt;
    sch_task *ended, *waiting, *running, *poll, *job, *joiner, *echo, *sleeper;
    sch_io near, far; /* a pair of sockets: echo reads and writes the far one */
    unsigned started, stop, over, slept; /* atomic */
    pid_t parent;
    void (*in_child)(struct fork_world *w);
    int ends_with; /* how the child must end */
    bool child_returns; /* the child leaves its fork as the parent does */
} fork_world;

static void fork_count(void *n) { (void)process_add((unsigned *)n, 1); }

static void fork_wait(void *arg) {
    fork_world *w = (fork_world *)arg;
    process_add(&w->started, 1);
    while (!process_get(&w->stop)) CHECK_EQ(sch_suspend(), 0);
    CHECK_EQ(getpid(), w->parent);
}

/* Keeps a core busy with spawns, joins and yields: somebody holds a lock at any moment. */
static void fork_run(void *arg) {
    fork_world *w = (fork_world *)arg;
    unsigned n = 0;
    process_add(&w->started, 1);
    while (!process_get(&w->stop)) {
        free(malloc(100));
        CHECK_EQ(sch_join(sch_spawn(w->rt, fork_count, &n)), 0);
        CHECK_EQ(sch_yield_now(), 0);
        CHECK_EQ(getpid(), w->parent); /* nothing of the parent's goes on in a child */
    }
}

static void fork_join(void *arg) {
    fork_world *w = (fork_world *)arg;
    process_add(&w->started, 1);
    CHECK_EQ(sch_join(sch_retain(w->waiting)), 0);
}

static sch_status fork_poll(sch_task *self, void *state) {
    fork_world *w = *(fork_world **)state;
    (void)self;
    if (process_get(&w->stop)) return SCH_READY;
    process_add(&w->started, 1);
    return SCH_PENDING;
}

/* What is written to the near end comes back. The driver is on, and a reader waits. */
static void fork_echo(void *arg) {
    fork_world *w = (fork_world *)arg;
    char buffer[64];
    ssize_t n;
    process_add(&w->started, 1);
    while ((n = sch_read(&w->far, buffer, sizeof buffer)) > 0) {
        CHECK_EQ(getpid(), w->parent);
        CHECK_EQ(sch_write_all(&w->far, buffer, (size_t)n, NULL), 0);
    }
    CHECK_EQ(n, 0);
}

/* A timer is always armed. */
static void fork_sleep(void *arg) {
    fork_world *w = (fork_world *)arg;
    process_add(&w->started, 1);
    while (!process_get(&w->stop)) {
        CHECK_EQ(sch_sleep(2 * SCH_MILLISECOND), 0);
        CHECK_EQ(getpid(), w->parent);
        process_add(&w->slept, 1);
    }
}

/* Inside the parent's runtime: sockets and timers do what they did before. */
static void fork_talk(void *arg) {
    fork_world *w = (fork_world *)arg;
    const unsigned slept = process_get(&w->slept);
    char text[] = "ping", buffer[4];
    CHECK_EQ(sch_write_all(&w->near, text, sizeof buffer, NULL), 0);
    for (size_t got = 0; got < sizeof buffer;) {
        ssize_t n = sch_read(&w->near, buffer + got, sizeof buffer - got);
        CHECK(n > 0);
        got += (size_t)n;
    }
    CHECK(memcmp(buffer, text, sizeof buffer) == 0);
    while (process_get(&w->slept) < slept + 2) CHECK_EQ(sch_sleep(SCH_MILLISECOND), 0);
}

/* Somebody looks on: a trace is written, a watchdog runs, and asks by a signal. */
#define FORK_DUMP SIGWINCH
#define FORK_STACK SIGURG

static int fork_text(const char *text, size_t length, void *user) {
    CHECK(length > 0 && text != NULL);
    (void)user;
    return 0;
}

static int fork_shown(const sch_task_info *info, void *user) {
    process_add((unsigned *)user, info->id != 0);
    return 0;
}

static void fork_stalled(const sch_stall *stall, void *user) {
    CHECK(stall->ns > 0);
    (void)user;
}

static void fork_watch(sch_config *config) {
    config->task_times = true;
    config->trace_events = 256;
    config->stall_ns = 2 * SCH_MILLISECOND;
    config->on_stall = fork_stalled;
    config->dump_signal = FORK_DUMP;
    config->dump_write = fork_text;
    if (!PROCESS_TSAN) config->stack_signal = FORK_STACK;
}

/* All that can be seen, from outside. A dump by signal may be under way. */
static void fork_see(sch_runtime *rt, unsigned least) {
    unsigned shown = 0;
    int result;
    CHECK_EQ(kill(getpid(), FORK_DUMP), 0);
    while ((result = sch_each_task(rt, fork_shown, &shown)) == -EBUSY) process_nap(1);
    CHECK_EQ(result, 0);
    CHECK(shown >= least);
    while ((result = sch_dump(rt, SCH_MILLISECOND, fork_text, NULL)) == -EBUSY) process_nap(1);
    CHECK_EQ(result, 0);
    CHECK_EQ(sch_trace_write(rt, fork_text, NULL), 0);
    CHECK_EQ(sch_metrics_write(rt, SCH_PROMETHEUS, fork_text, NULL), 0);
}

/* In SCH_CURRENT_THREAD they start when somebody drives. */
static void fork_begin(fork_world *w, unsigned workers) {
    sch_config config;
    unsigned n = 0;
    int pair[2];
    memset(w, 0, sizeof *w);
    memset(&config, 0, sizeof config);
    config.workers = workers;
    config.flavor = workers ? SCH_MULTI_THREAD : SCH_CURRENT_THREAD;
    config.stack_size = 65536;
    fork_watch(&config);
    w->parent = getpid();
    w->rt = sch_runtime_new(&config);
    CHECK(w->rt != NULL);
    CHECK_EQ(sch_trace_start(w->rt), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    CHECK_EQ(sch_io_open(&w->near, w->rt, pair[0]), 0);
    CHECK_EQ(sch_io_open(&w->far, w->rt, pair[1]), 0);
    w->ended = sch_spawn(w->rt, fork_count, &n);
    CHECK(w->ended != NULL);
    w->waiting = sch_spawn(w->rt, fork_wait, w);
    w->joiner = sch_spawn(w->rt, fork_join, w);
    w->poll = sch_spawn_poll(w->rt, fork_poll, &w, sizeof w);
    w->job = sch_spawn_blocking(w->rt, fork_wait, w);
    w->echo = sch_spawn(w->rt, fork_echo, w);
    w->sleeper = sch_spawn(w->rt, fork_sleep, w);
    if (workers > 1) w->running = sch_spawn(w->rt, fork_run, w);
    if (workers > 0) {
        process_await(&w->started, workers > 1 ? 7 : 6);
    } else {
        CHECK_EQ(sch_join(sch_spawn(w->rt, fork_count, &n)), 0);
    }
    while (!sch_is_done(w->ended)) process_nap(1);
}

/* The parent is undisturbed: everything still works. */
static void fork_settle(fork_world *w) {
    sch_task *task[6] = {w->ended, w->waiting, w->joiner, w->poll, w->job, w->running};
    unsigned n = 0;
    CHECK_EQ(getpid(), w->parent);
    fork_see(w->rt, 5);
    for (int i = 0; i < 200; i++) {
        CHECK_EQ(sch_join(sch_spawn(w->rt, fork_count, &n)), 0);
        if (i % 20 == 0) CHECK_EQ(sch_join(sch_spawn_blocking(w->rt, fork_count, &n)), 0);
    }
    CHECK_EQ(n, 210);
    CHECK_EQ(sch_block_on(w->rt, fork_talk, w), 0);
    CHECK_EQ(sch_io_close(&w->near), 0);
    process_set(&w->stop, 1);
    for (int i = 0; i < 6; i++) sch_wake(task[i]);
    CHECK_EQ(sch_join(w->echo), 0);
    CHECK_EQ(sch_join(w->sleeper), 0);
    for (int i = 0; i < 6; i++)
        if (task[i] && i != 1) CHECK_EQ(sch_join(task[i]), 0);
    CHECK(sch_is_done(w->waiting)); /* the joiner has come back */
    sch_release(w->waiting);
}

/* And the books are balanced. */
static void fork_end(fork_world *w) {
    sch_metrics_snapshot m;
    fork_settle(w);
    CHECK_EQ(sch_runtime_shutdown(w->rt, SCH_FOREVER), 0);
    CHECK_EQ(sch_metrics(w->rt, &m), 0);
    CHECK_EQ(m.num_alive_tasks, 0);
    CHECK_EQ(m.cancelled_tasks_count, 0);
    sch_runtime_free(w->rt);
}

/* What a child may expect -----------------------------------------------------------------------*/

static unsigned fork_dropped;
static void fork_drop(void *arg) { (void)arg, fork_dropped++; }
static void fork_never(void *arg) { CHECK(arg == &fork_dropped); /* never so */ }
static sch_status fork_never_poll(sch_task *self, void *state) {
    CHECK(self == state);
    return SCH_READY;
}

static void fork_refused(const sch_task *task) {
    CHECK(task == NULL);
    CHECK_EQ(errno, EOWNERDEAD);
    errno = 0;
}

/* Every call on the parent's runtime. */
static void fork_check_runtime(sch_runtime *rt) {
    static const sch_spawn_desc desc = {"dead", SCH_HERE, 0, fork_drop};
    sch_metrics_snapshot m;
    sch_worker_metrics_snapshot wm;
    sch_straggler s[4];
    fork_dropped = 0;
    CHECK_EQ(sch_runtime_shutdown(rt, 0), -EOWNERDEAD);
    CHECK_EQ(sch_runtime_shutdown(rt, SCH_FOREVER), -EOWNERDEAD);
    sch_runtime_free(rt);
    CHECK_EQ(sch_stragglers(rt, s, 4), 0);
    CHECK_EQ(sch_block_on(rt, fork_never, NULL), -EOWNERDEAD);
    CHECK_EQ(sch_num_workers(rt), 0);
    CHECK_EQ(sch_metrics(rt, &m), -EOWNERDEAD);
    CHECK_EQ(sch_worker_metrics(rt, 0, &wm), -EOWNERDEAD);
    CHECK_EQ(sch_metrics_write(rt, SCH_PROMETHEUS, fork_text, NULL), -EOWNERDEAD);
    CHECK_EQ(sch_histogram_read(rt, SCH_POLL_TIME, 0, NULL, 0), -EOWNERDEAD);
    CHECK_EQ(sch_percentile(rt, SCH_POLL_TIME, 0, 50), 0);
    CHECK_EQ(sch_each_task(rt, fork_shown, &fork_dropped), -EOWNERDEAD);
    CHECK_EQ(sch_dump(rt, 0, fork_text, NULL), -EOWNERDEAD);
    CHECK_EQ(sch_trace_start(rt), -EOWNERDEAD);
    CHECK_EQ(sch_trace_stop(rt), -EOWNERDEAD);
    CHECK_EQ(sch_trace_write(rt, fork_text, NULL), -EOWNERDEAD);
    CHECK_EQ(sch_num_alive_tasks(rt), 0);
    CHECK_EQ(sch_injection_queue_depth(rt), 0);
    errno = 0;
    fork_refused(sch_spawn(rt, fork_never, NULL));
    fork_refused(sch_spawn_with(rt, &desc, fork_never, NULL));
    fork_refused(sch_spawn_poll(rt, fork_never_poll, NULL, 8));
    fork_refused(sch_spawn_poll_with(rt, &desc, fork_never_poll, NULL, 8));
    fork_refused(sch_spawn_blocking(rt, fork_never, NULL));
    fork_refused(sch_spawn_blocking_with(rt, &desc, fork_never, NULL));
    CHECK_EQ(sch_go(rt, fork_never, NULL), -EOWNERDEAD);
    CHECK_EQ(sch_go_with(rt, &desc, fork_never, NULL), -EOWNERDEAD);
    CHECK_EQ(fork_dropped, 4); /* as after any spawn that fails */
}

/* Every call on one of the parent's tasks; none may change it, so each may be repeated. */
static void fork_check_task(sch_task *task) {
    SCHI_STATE before;
    if (!task) return;
    before = schi_load_seq(&task->state);
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(sch_join(task), -EOWNERDEAD);
        CHECK_EQ(sch_cancel(task), -EOWNERDEAD);
        CHECK(sch_retain(task) == task || errno == EOWNERDEAD);
        sch_wake(task);
        sch_wake_signal(task);
        sch_release(task);
        sch_detach(task);
        (void)sch_is_done(task);
        CHECK(sch_task_name(task) != NULL);
    }
    CHECK_EQ(schi_load_seq(&task->state), before);
}

static void fork_refused_op(sch_op *op) {
    CHECK_EQ(sch_await(op), -EOWNERDEAD);
    CHECK_EQ(sch_timeout(op, SCH_MILLISECOND), -EOWNERDEAD);
}

/* Every call on one of the parent's descriptors: refused, and nothing is taken from the parent; the
 * epoll instance is the same here, so that a call that changed it would change the parent's. */
static void fork_check_io(sch_runtime *rt, sch_io *io) {
    const sch_io before = *io;
    char buffer[8] = "stolen";
    struct iovec part;
    sch_io other;
    sch_io_op op;
    int status;
    part.iov_base = buffer, part.iov_len = sizeof buffer;
    CHECK_EQ(sch_io_fd(io), -EOWNERDEAD);
    CHECK_EQ(sch_io_shutdown(io, SHUT_RDWR), -EOWNERDEAD);
    CHECK_EQ(sch_read(io, buffer, sizeof buffer), -EOWNERDEAD);
    CHECK_EQ(sch_write(io, buffer, sizeof buffer), -EOWNERDEAD);
    CHECK_EQ(sch_readv(io, &part, 1), -EOWNERDEAD);
    CHECK_EQ(sch_writev(io, &part, 1), -EOWNERDEAD);
    CHECK_EQ(sch_write_all(io, buffer, sizeof buffer, NULL), -EOWNERDEAD);
    CHECK_EQ(sch_recvfrom(io, buffer, sizeof buffer, 0, NULL, NULL), -EOWNERDEAD);
    CHECK_EQ(sch_sendto(io, buffer, sizeof buffer, 0, NULL, 0), -EOWNERDEAD);
    CHECK_EQ(sch_accept(io, &other), -EOWNERDEAD);
    CHECK_EQ(sch_readable(io), -EOWNERDEAD);
    CHECK_EQ(sch_writable(io), -EOWNERDEAD);
    CHECK_EQ(sch_signal_wait(io), -EOWNERDEAD);
    CHECK_EQ(sch_child_wait(io, &status), -EOWNERDEAD);
    op = sch_read_op(io, buffer, sizeof buffer);
    fork_refused_op(&op.op);
    op = sch_ready_op(io, SCH_IO_READABLE);
    fork_refused_op(&op.op);
    CHECK_EQ(sch_io_close(io), -EOWNERDEAD);
    CHECK_EQ(sch_io_close(io), -EOWNERDEAD); /* none of the calls has changed it */
    CHECK(memcmp(&before, io, sizeof before) == 0);
    CHECK_EQ(sch_io_open(&other, rt, 0), -EOWNERDEAD);
    CHECK_EQ(sch_poll_fd(rt), -EOWNERDEAD);
    CHECK_EQ(sch_run_some(rt, 0), -EOWNERDEAD);
    CHECK(sch_next_deadline(rt) == SCH_FOREVER);
}

/* The caller is a plain thread, wherever the parent forked. */
static void fork_check_thread(void) {
    uint64_t before = sch_now();
    unsigned n = 0;
    CHECK_EQ(sch_sleep(SCH_MILLISECOND), 0);
    CHECK(sch_now() >= before + SCH_MILLISECOND);
    CHECK(sch_self() == NULL);
    CHECK_EQ(sch_worker_index(), UINT_MAX);
    CHECK(!sch_cancelled());
    CHECK_EQ(sch_yield_now(), 0);
    CHECK_EQ(raise(FORK_STACK), 0); /* a handler that has nothing to do here */
    CHECK_EQ(kill(getpid(), FORK_DUMP), 0);
    CHECK_EQ(sch_suspend(), -EPERM);
    CHECK_EQ(sch_shield_begin(SCH_FOREVER), -EPERM);
    sch_shield_end();
    CHECK_EQ(sch_block_in_place(fork_count, &n), 0);
    CHECK_EQ(n, 1);
    CHECK(sch_spawn(NULL, fork_never, NULL) == NULL);
    CHECK_EQ(errno, EINVAL); /* in no runtime */
    CHECK(strcmp(sch_strerror(-EOWNERDEAD), sch_strerror(-100000)) != 0);
}

static void fork_family(void *n) {
    sch_task *task[20];
    for (int i = 0; i < 20; i++) task[i] = sch_spawn(NULL, fork_count, n);
    CHECK_EQ(sch_yield_now(), 0);
    CHECK_EQ(sch_block_in_place(fork_count, n), 0);
    for (int i = 0; i < 20; i++) CHECK_EQ(sch_join(task[i]), 0);
}

typedef struct fork_pipe {
    sch_io read_end, write_end;
} fork_pipe;

static void fork_write_late(void *arg) {
    CHECK_EQ(sch_sleep(SCH_MILLISECOND), 0);
    CHECK_EQ(sch_write(&((fork_pipe *)arg)->write_end, "late", 4), 4);
}

/* A driver of the process's own: timers, a wait for bytes, a time limit. */
static void fork_waits(void *arg) {
    fork_pipe *p = (fork_pipe *)arg;
    char buffer[4];
    int ends[2];
    sch_io_op op;
    sch_task *task;
    CHECK_EQ(pipe(ends), 0);
    CHECK_EQ(sch_io_open(&p->read_end, NULL, ends[0]), 0);
    CHECK_EQ(sch_io_open(&p->write_end, NULL, ends[1]), 0);
    op = sch_read_op(&p->read_end, buffer, sizeof buffer);
    CHECK_EQ(sch_timeout(&op.op, SCH_MILLISECOND), -ETIMEDOUT);
    task = sch_spawn(NULL, fork_write_late, p);
    CHECK_EQ(sch_await(&op.op), 4);
    CHECK(memcmp(buffer, "late", 4) == 0);
    CHECK_EQ(sch_join(task), 0);
    CHECK_EQ(sch_io_close(&p->read_end), 0);
    CHECK_EQ(sch_read(&p->read_end, buffer, 1), -EBADF);
}

/* A runtime of the process's own, with everything. */
static sch_runtime *fork_own_runtime(unsigned workers) {
    sch_config config;
    memset(&config, 0, sizeof config);
    config.workers = workers;
    config.flavor = workers ? SCH_MULTI_THREAD : SCH_CURRENT_THREAD;
    fork_watch(&config);
    return sch_runtime_new(&config);
}

static void fork_check_own(unsigned workers) {
    sch_runtime *rt = fork_own_runtime(workers);
    unsigned n = 0;
    fork_pipe p;
    sch_task *task;
    CHECK(rt != NULL);
    memset(&p, 0, sizeof p);
    CHECK_EQ(sch_join(sch_spawn(rt, fork_waits, &p)), 0);
    CHECK_EQ(sch_num_workers(rt), workers ? workers : 1);
    CHECK_EQ(sch_join(sch_spawn(rt, fork_family, &n)), 0);
    CHECK_EQ(sch_join(sch_spawn_blocking(rt, fork_count, &n)), 0);
    CHECK_EQ(sch_block_on(rt, fork_family, &n), 0);
    CHECK_EQ(n, 43);
    task = sch_spawn(rt, fork_count, &n);
    sch_runtime_free(rt);
    CHECK(sch_is_done(task));
    sch_release(task);
}

static void fork_check_world(fork_world *w) {
    sch_task *task[6] = {w->ended, w->waiting, w->joiner, w->poll, w->job, w->running};
    fork_check_thread();
    fork_check_runtime(w->rt);
    for (int i = 0; i < 6; i++) fork_check_task(task[i]);
    fork_check_io(w->rt, &w->near);
    fork_check_io(w->rt, &w->far);
}

/* All of it, with and without a runtime of the child's own around. */
static void fork_check_all(fork_world *w) {
    sch_runtime *own;
    CHECK(getpid() != w->parent);
    fork_check_world(w);
    if (PROCESS_TSAN) return; /* it cannot start threads after the fork of several */
    fork_check_own(0);
    fork_check_own(2);
    own = fork_own_runtime(1);
    fork_check_world(w);
    sch_runtime_free(own);
}

/* Fork here. The child checks what there is to check and ends, or returns from here. */
static void fork_here(fork_world *w) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        w->in_child(w);
        if (w->child_returns) return;
        _exit(w->ends_with);
    }
    CHECK_EQ(process_wait(child), w->ends_with);
}

static void fork_here_task(void *arg) { fork_here((fork_world *)arg); }

static void fork_in_blocking(void *arg) {
    fork_world *w = (fork_world *)arg;
    int result = sch_block_in_place(fork_here_task, w);
    CHECK_EQ(result, getpid() == w->parent ? 0 : -EOWNERDEAD);
}

/* Only in the parent, whose task ends with it. */
static void fork_in_block_on(void *arg) {
    fork_world *w = (fork_world *)arg;
    int result = sch_block_on(w->rt, fork_here_task, w);
    CHECK_EQ(result, getpid() == w->parent ? 0 : -EOWNERDEAD);
}

static sch_status fork_here_poll(sch_task *self, void *state) {
    fork_world *w = *(fork_world **)state;
    (void)self;
    fork_here(w);
    return getpid() == w->parent ? SCH_READY : SCH_PENDING;
}

static sch_status fork_blocking_poll(sch_task *self, void *state) {
    (void)self;
    fork_in_blocking(*(fork_world **)state);
    return SCH_READY;
}

typedef enum fork_place {
    FORK_THREAD, FORK_BLOCK_ON, FORK_TASK, FORK_BLOCK_IN_PLACE, FORK_JOB, FORK_POLL,
    FORK_POLL_BLOCKS, FORK_PLACES
} fork_place;

static void fork_at(fork_world *w, fork_place place) {
    sch_task *task = NULL;
    switch (place) {
    case FORK_THREAD: fork_here(w); break;
    case FORK_BLOCK_ON: fork_in_block_on(w); break;
    case FORK_TASK: task = sch_spawn(w->rt, fork_here_task, w); break;
    case FORK_BLOCK_IN_PLACE: task = sch_spawn(w->rt, fork_in_blocking, w); break;
    case FORK_JOB: task = sch_spawn_blocking(w->rt, fork_here_task, w); break;
    case FORK_POLL: task = sch_spawn_poll(w->rt, fork_here_poll, &w, sizeof w); break;
    default: task = sch_spawn_poll(w->rt, fork_blocking_poll, &w, sizeof w);
    }
    if (task) CHECK_EQ(sch_join(task), 0);
}

/* The contract, from one place with one number of workers. */
static void fork_from(fork_place place) {
    for (unsigned workers = 0; workers <= 3; workers++) {
        fork_world w;
        if (workers == 0 && (place == FORK_BLOCK_IN_PLACE || place == FORK_POLL_BLOCKS)) continue;
        fork_begin(&w, workers);
        w.in_child = fork_check_all;
        w.ends_with = 7;
        for (int i = 0; i < 3; i++) fork_at(&w, place);
        fork_end(&w);
    }
}

CASE(fork_from_a_thread, 0, "") { fork_from(FORK_THREAD); }
CASE(fork_from_block_on, 0, "") { fork_from(FORK_BLOCK_ON); }
CASE(fork_from_a_task, 0, "") { fork_from(FORK_TASK); }
CASE(fork_from_block_in_place, 0, "") { fork_from(FORK_BLOCK_IN_PLACE); }
CASE(fork_from_a_job, 0, "") { fork_from(FORK_JOB); }
CASE(fork_from_a_poll_function, 0, "") { fork_from(FORK_POLL); }
CASE(fork_from_a_poll_function_that_blocks, 0, "") { fork_from(FORK_POLL_BLOCKS); }

/* Returning in the child ------------------------------------------------------------------------*/

static pid_t fork_parent;
static sch_runtime *fork_static_rt;

static void fork_goodbye(void) {
    process_say(getpid() == fork_parent ? "parent\n" : "child\n");
    sch_runtime_free(fork_static_rt); /* does nothing in the child; libuv#4443 aborts there */
}

static void fork_only_in_parent(void *arg) {
    fork_world *w = (fork_world *)arg;
    CHECK_EQ(getpid(), w->parent);
}

static void fork_nothing(fork_world *w) {
    /* What the parent has queued stays the parent's: there is somebody to run it here in vain. */
    fork_check_runtime(w->rt);
}

/* From one place: the child returns, ends as by exit(0), and runs none of what is queued. */
static void fork_returns(fork_place place, unsigned workers) {
    static fork_world w;
    sch_task *task = NULL;
    fork_begin(&w, workers);
    w.in_child = fork_nothing;
    w.child_returns = true;
    fork_parent = getpid();
    fork_static_rt = w.rt;
    CHECK_EQ(atexit(fork_goodbye), 0);
    for (int i = 0; i < 100; i++) {
        if (i == 50 && place == FORK_TASK) task = sch_spawn(w.rt, fork_here_task, &w);
        if (i == 50 && place == FORK_BLOCK_IN_PLACE) task = sch_spawn(w.rt, fork_in_blocking, &w);
        if (i == 50 && place == FORK_JOB) task = sch_spawn_blocking(w.rt, fork_here_task, &w);
        if (i == 50 && place == FORK_POLL) {
            fork_world *pointer = &w;
            task = sch_spawn_poll(w.rt, fork_here_poll, &pointer, sizeof pointer);
        }
        CHECK_EQ(sch_go(w.rt, fork_only_in_parent, &w), 0);
    }
    CHECK_EQ(sch_join(task), 0);
    CHECK_EQ(getpid(), w.parent); /* nobody comes back from here in the child */
    fork_settle(&w);
}

CASE(fork_child_of_a_task_returns, 0, "child\nparent\n") { fork_returns(FORK_TASK, 1); }
CASE(fork_child_of_a_task_of_many_returns, 0, "child\nparent\n") { fork_returns(FORK_TASK, 3); }
CASE(fork_child_of_a_driven_task_returns, 0, "child\nparent\n") { fork_returns(FORK_TASK, 0); }
CASE(fork_child_of_a_blocking_task_returns, 0, "child\nparent\n") {
    fork_returns(FORK_BLOCK_IN_PLACE, 2);
}
CASE(fork_child_of_a_job_returns, 0, "child\nparent\n") { fork_returns(FORK_JOB, 2); }
CASE(fork_child_of_a_poll_function_returns, 0, "child\nparent\n") { fork_returns(FORK_POLL, 2); }

/* A plain thread's child goes on behind block_on, and returns from main. */
CASE(fork_child_of_block_on_returns, 0, "child\nparent\n") {
    static fork_world w;
    fork_begin(&w, 2);
    w.in_child = fork_nothing;
    w.child_returns = true;
    fork_parent = getpid();
    fork_static_rt = w.rt;
    CHECK_EQ(atexit(fork_goodbye), 0);
    fork_in_block_on(&w);
    if (getpid() != w.parent) {
        if (!PROCESS_TSAN) fork_check_all(&w);
        return;
    }
    fork_settle(&w);
}

static void fork_exit_in_child(fork_world *w) {
    (void)w;
    exit(5);
}

CASE(fork_child_exits, 0, "child\nparent\n") {
    static fork_world w;
    fork_begin(&w, 2);
    w.in_child = fork_exit_in_child;
    w.ends_with = 5;
    fork_parent = getpid();
    fork_static_rt = NULL;
    CHECK_EQ(atexit(fork_goodbye), 0);
    fork_at(&w, FORK_TASK);
    fork_end(&w);
}

/* Signals ---------------------------------------------------------------------------------------
 * Our threads block them; a child of one gets the mask of who made the first runtime, so that it
 * can be ended as the program can. A plain thread's child keeps that thread's. */
static bool fork_blocks(int number) {
    sigset_t mask;
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
    return sigismember(&mask, number) == 1;
}

static void fork_check_signals(fork_world *w) {
    (void)w;
    CHECK(!fork_blocks(SIGTERM) && !fork_blocks(SIGINT) && !fork_blocks(SIGCHLD));
    CHECK(fork_blocks(SIGUSR1)); /* as the maker has it */
    raise(SIGTERM);
    _exit(FAILED);
}

static void fork_block(int number) {
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, number);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, &mask, NULL), 0);
}

static void fork_check_own_mask(fork_world *w) {
    CHECK(fork_blocks(SIGUSR2));
    fork_check_signals(w);
}

CASE(fork_child_can_be_terminated, 0, "") {
    fork_block(SIGUSR1);
    for (unsigned workers = 0; workers <= 2; workers++) {
        fork_world w;
        fork_begin(&w, workers);
        w.in_child = fork_check_signals;
        w.ends_with = DIED_OF(SIGTERM);
        for (int i = 0; i < FORK_PLACES; i++) fork_at(&w, (fork_place)i);
        fork_end(&w);
    }
    fork_world w;
    fork_begin(&w, 2);
    fork_block(SIGUSR2); /* after the first runtime: only this thread's */
    w.in_child = fork_check_own_mask;
    w.ends_with = DIED_OF(SIGTERM);
    fork_at(&w, FORK_THREAD);
    fork_at(&w, FORK_BLOCK_ON);
    fork_end(&w);
}

/* Generations, several runtimes -----------------------------------------------------------------*/

static void fork_generation(fork_world *w);

/* In the child, and in its child: all that the ancestors made is dead, what is made here works. */
static void fork_generation(fork_world *grandparents) {
    static unsigned depth;
    fork_world w;
    fork_check_world(grandparents);
    if (depth++ == 2) return;
    fork_begin(&w, 2);
    w.in_child = fork_generation;
    w.ends_with = 7;
    fork_at(&w, depth % 2 ? FORK_TASK : FORK_JOB);
    fork_at(&w, FORK_THREAD);
    fork_check_world(grandparents);
    fork_end(&w);
}

CASE(fork_grandchildren, 0, "") {
    fork_world w;
    if (PROCESS_TSAN) SKIP("ThreadSanitizer starts no threads in a child");
    fork_begin(&w, 2);
    w.in_child = fork_generation;
    w.ends_with = 7;
    fork_at(&w, FORK_TASK);
    fork_end(&w);
}

static fork_world fork_worlds[3];

static void fork_check_worlds(fork_world *w) {
    for (int i = 0; i < 3; i++) fork_check_world(&fork_worlds[i]);
    fork_check_all(w);
    for (int i = 0; i < 3; i++) fork_check_world(&fork_worlds[i]);
}

CASE(fork_with_several_runtimes, 0, "") {
    for (unsigned i = 0; i < 3; i++) fork_begin(&fork_worlds[i], i);
    for (int i = 0; i < 3; i++) {
        fork_worlds[i].in_child = fork_check_worlds;
        fork_worlds[i].ends_with = 3;
        fork_at(&fork_worlds[i], i == 1 ? FORK_JOB : FORK_TASK);
    }
    for (int i = 0; i < 3; i++) fork_end(&fork_worlds[i]);
}

/* A visit to one runtime from a task of another, and the fork inside. */
static void fork_visit_inner(void *arg) { fork_here((fork_world *)arg); }

static void fork_visit(void *arg) {
    fork_world *w = (fork_world *)arg;
    int result = sch_block_on(fork_worlds[1].rt, fork_visit_inner, w);
    CHECK_EQ(result, getpid() == w->parent ? 0 : -EOWNERDEAD);
}

static void fork_visit_in_blocking(void *arg) {
    fork_world *w = (fork_world *)arg;
    int result = sch_block_in_place(fork_visit, w);
    CHECK_EQ(result, getpid() == w->parent ? 0 : -EOWNERDEAD);
}

CASE(fork_in_a_visit_to_another_runtime, 0, "") {
    for (unsigned i = 0; i < 2; i++) fork_begin(&fork_worlds[i], 2);
    fork_worlds[0].in_child = fork_check_all;
    fork_worlds[0].child_returns = true;
    CHECK_EQ(sch_join(sch_spawn(fork_worlds[0].rt, fork_visit_in_blocking, fork_worlds)), 0);
    for (unsigned i = 0; i < 2; i++) fork_end(&fork_worlds[i]);
}

/* Handles of a runtime that the parent had freed before. */
CASE(fork_with_handles_of_a_freed_runtime, 0, "") {
    sch_runtime *rt = fork_own_runtime(2);
    unsigned n = 0;
    sch_task *task = sch_spawn(rt, fork_count, &n);
    pid_t child;
    while (!sch_is_done(task)) process_nap(1);
    sch_runtime_free(rt);
    child = fork();
    if (child == 0) {
        fork_check_task(task);
        _exit(7);
    }
    CHECK_EQ(process_wait(child), 7);
    CHECK_EQ(sch_join(task), 0);
}

/* There was no runtime yet: parent and child each make their own. */
CASE(fork_before_the_first_runtime, 0, "") {
    pid_t child = fork();
    for (int i = 0; i < 2; i++) fork_check_own(2);
    if (child == 0) {
        fork_world w;
        fork_begin(&w, 2);
        w.in_child = fork_check_all;
        w.ends_with = 7;
        if (!PROCESS_TSAN) fork_at(&w, FORK_TASK);
        fork_end(&w);
        _exit(7);
    }
    CHECK_EQ(process_wait(child), 7);
}

/* Storms ----------------------------------------------------------------------------------------*/

static unsigned fork_storm_size(void) {
    const char *text = getenv("FORKS");
    return text && *text ? (unsigned)strtoul(text, NULL, 0) : 40;
}

/* Each child must be able to work whatever its siblings' threads were doing. */
static void fork_storm_child(fork_world *w) {
    fork_check_runtime(w->rt);
    fork_check_task(w->waiting);
    if (!PROCESS_TSAN) fork_check_own(process_get(&w->started) % 3);
}

static void *fork_storm_thread(void *arg) {
    fork_world *w = (fork_world *)arg;
    for (unsigned i = 0; i < fork_storm_size() / 2; i++) {
        process_add(&w->started, 1);
        fork_here(w);
    }
    return NULL;
}

static void fork_storm_task(void *arg) {
    for (unsigned i = 0; i < fork_storm_size() / 2; i++) {
        fork_in_blocking(arg);
        CHECK_EQ(sch_yield_now(), 0);
    }
}

/* Runtimes come and go meanwhile. */
static void *fork_storm_cycles(void *arg) {
    fork_world *w = (fork_world *)arg;
    while (!process_get(&w->over)) fork_check_own(process_add(&w->started, 1) % 3);
    return NULL;
}

CASE(fork_storm, 0, "") {
    fork_world w;
    pthread_t forker, cycles;
    sch_task *task;
    fork_begin(&w, 4);
    w.in_child = fork_storm_child;
    w.ends_with = 7;
    task = sch_spawn(w.rt, fork_storm_task, &w);
    CHECK_EQ(pthread_create(&forker, NULL, fork_storm_thread, &w), 0);
    CHECK_EQ(pthread_create(&cycles, NULL, fork_storm_cycles, &w), 0);
    CHECK_EQ(sch_join(task), 0);
    pthread_join(forker, NULL);
    process_set(&w.over, 1);
    pthread_join(cycles, NULL);
    fork_end(&w);
}

/* Somebody shuts down just when the fork happens. */
static void *fork_shutdown_thread(void *arg) {
    fork_world *w = (fork_world *)arg;
    process_add(&w->started, 1);
    sch_runtime_free(w->rt);
    return NULL;
}

static void fork_forever(void *arg) {
    (void)arg;
    while (sch_suspend() == 0) continue;
}

CASE(fork_during_shutdown, 0, "") {
    for (unsigned i = 0; i < fork_storm_size(); i++) {
        sch_task *task[8];
        pthread_t thread;
        fork_world w;
        pid_t child;
        memset(&w, 0, sizeof w);
        w.rt = fork_own_runtime(2);
        for (int j = 0; j < 8; j++) task[j] = sch_spawn(w.rt, fork_forever, NULL);
        CHECK_EQ(pthread_create(&thread, NULL, fork_shutdown_thread, &w), 0);
        while (process_get(&w.started) == 0) continue;
        child = fork();
        if (child == 0) {
            for (int j = 0; j < 8; j++) fork_check_task(task[j]);
            _exit(7);
        }
        CHECK_EQ(process_wait(child), 7);
        pthread_join(thread, NULL);
        for (int j = 0; j < 8; j++) CHECK_EQ(sch_join(task[j]), -ECANCELED);
    }
}

/* exec, posix_spawn, system ---------------------------------------------------------------------*/

static const char *const fork_shell = "/bin/sh";

static void fork_exec(void *text) {
    execl(fork_shell, fork_shell, "-c", (const char *)text, (char *)NULL);
    _exit(FAILED);
}

static void fork_exec_in_child(fork_world *w) {
    (void)w;
    fork_exec((void *)(uintptr_t) "exit 9");
}

/* The whole process becomes another. */
static void fork_replace(bool job, unsigned workers) {
    static fork_world w;
    static char command[] = "echo gone; ls /dev/fd >/dev/null; exit 6";
    fork_begin(&w, workers);
    if (job) {
        (void)sch_join(sch_spawn_blocking(w.rt, fork_exec, command));
    } else {
        (void)sch_join(sch_spawn(w.rt, fork_exec, command));
    }
    _exit(FAILED);
}

CASE(fork_exec_from_a_task, 6, "gone\n") { fork_replace(false, 3); }
CASE(fork_exec_from_a_driven_task, 6, "gone\n") { fork_replace(false, 0); }
CASE(fork_exec_from_a_job, 6, "gone\n") { fork_replace(true, 2); }

CASE(fork_exec_in_the_child, 0, "") {
    fork_world w;
    fork_begin(&w, 2);
    w.in_child = fork_exec_in_child;
    w.ends_with = 9;
    for (int i = 0; i < FORK_PLACES; i++) fork_at(&w, (fork_place)i);
    fork_end(&w);
}

/* No descriptor of ours reaches another program. */
static void fork_count_descriptors(fork_world *w) {
    static char command[] =
        "n=0; for fd in /proc/self/fd/*; do [ -e \"$fd\" ] && n=$((n + 1)); done; exit $n";
    (void)w;
    fork_exec(command);
}

CASE(fork_descriptors_are_closed_on_exec, 0, "") {
    fork_world w, empty;
    pid_t child;
    if (access("/proc/self/fd", R_OK) != 0) return;
    memset(&empty, 0, sizeof empty);
    child = fork();
    if (child == 0) fork_count_descriptors(&empty);
    empty.ends_with = process_wait(child);
    CHECK(empty.ends_with >= 3 && empty.ends_with < 60);
    fork_begin(&w, 2);
    w.in_child = fork_count_descriptors;
    w.ends_with = empty.ends_with;
    fork_at(&w, FORK_TASK);
    fork_at(&w, FORK_JOB);
    fork_end(&w);
}

static void fork_spawn(void *arg) {
    static char shell[] = "/bin/sh", option[] = "-c", command[] = "exit 4";
    char *const argv[] = {shell, option, command, NULL};
    pid_t child = 0;
    (void)arg;
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(posix_spawn(&child, fork_shell, NULL, NULL, argv, environ), 0);
        CHECK_EQ(process_wait(child), 4);
        int status = system("exit 11");
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 11);
    }
}

static void fork_spawn_blocking(void *arg) { CHECK_EQ(sch_block_in_place(fork_spawn, arg), 0); }

CASE(fork_posix_spawn_and_system, 0, "") {
    for (unsigned workers = 0; workers <= 2; workers++) {
        fork_world w;
        sch_task *task[4];
        fork_begin(&w, workers);
        task[0] = sch_spawn(w.rt, fork_spawn, NULL);
        task[1] = sch_spawn(w.rt, fork_spawn_blocking, NULL);
        task[2] = sch_spawn_blocking(w.rt, fork_spawn, NULL);
        task[3] = sch_spawn(w.rt, fork_spawn_blocking, NULL);
        for (int i = 0; i < 4; i++) CHECK_EQ(sch_join(task[i]), 0);
        fork_end(&w);
    }
}
