/* waits.h - a task for each thing that a task can wait for: metrics.c counts them, dump.c asks what
 * they wait for, turn.c takes an operation. After io.c and signals.c, whose helpers it uses. */
#ifndef UNIT_WAITS_H
#define UNIT_WAITS_H

#include "support.h"

typedef struct waits {
    sch_runtime *rt;
    sch_io in, full, listener, connecting, signal, child;
    int other[4];        /* ends and sockets that must stay open */
    unsigned num_others;
    pid_t pid;
    int no_child;        /* -ENOSYS: this system cannot wait for it (Linux before 5.3, valgrind) */
    sch_task *joined;    /* waits for a wake that comes at the end */
    support_gate gate;   /* of those who hold the places of blocking calls */
    uint64_t place_ns;
} waits;

static void waits_keep(waits *w, int fd) { w->other[w->num_others++] = fd; }

/* Each returns when its task is cancelled. */
static void waits_suspend(void *arg) {
    (void)arg;
    EXPECT_EQ(sch_suspend(), -ECANCELED);
}

static void waits_joined(void *arg) {
    (void)arg;
    EXPECT_EQ(sch_suspend(), 0);
}

static void waits_join(void *arg) { EXPECT_EQ(sch_join(((waits *)arg)->joined), -EINTR); }

static void waits_sleep(void *arg) {
    (void)arg;
    EXPECT_EQ(sch_sleep(3600 * SCH_SECOND), -ECANCELED);
}

static void waits_read(void *arg) {
    char byte;
    EXPECT_EQ(sch_read(&((waits *)arg)->in, &byte, 1), -ECANCELED);
}

static void waits_write(void *arg) {
    EXPECT_EQ(sch_write(&((waits *)arg)->full, "x", 1), -ECANCELED);
}

static void waits_accept(void *arg) {
    sch_io got;
    EXPECT_EQ(sch_accept(&((waits *)arg)->listener, &got), -ECANCELED);
}

static void waits_connect(void *arg) {
    sch_io_op op = sch_connect_op(&((waits *)arg)->connecting);
    EXPECT_EQ(sch_await(&op.op), -ECANCELED);
}

static void waits_signal(void *arg) {
    EXPECT_EQ(sch_signal_wait(&((waits *)arg)->signal), -ECANCELED);
}

static void waits_child(void *arg) {
    EXPECT_EQ(sch_child_wait(&((waits *)arg)->child, NULL), -ECANCELED);
}

static sch_status waits_op_poll(sch_op *op) {
    (void)op;
    return SCH_PENDING;
}

static sch_op_revoked waits_op_cancel(sch_op *op) {
    (void)op;
    return SCH_OP_REMOVED;
}

static const sch_op_type waits_op_type = {waits_op_poll, waits_op_cancel, "rendezvous"};
static const sch_op_type waits_op_unnamed = {waits_op_poll, waits_op_cancel, NULL};

static void waits_operation(void *arg) {
    sch_op op;
    (void)arg;
    memset(&op, 0, sizeof op);
    op.type = &waits_op_type;
    EXPECT_EQ(sch_await(&op), -ECANCELED);
}

static void waits_unnamed(void *arg) {
    sch_op op;
    (void)arg;
    memset(&op, 0, sizeof op);
    op.type = &waits_op_unnamed;
    EXPECT_EQ(sch_await(&op), -ECANCELED);
}

static void waits_several(void *arg) {
    waits *w = (waits *)arg;
    char byte;
    sch_io_op in = sch_read_op(&w->in, &byte, 1);
    sch_timer timer = sch_timer_after(3600 * SCH_SECOND);
    sch_op *const ops[2] = {&timer.op, &in.op};
    EXPECT_EQ(sch_await_any(ops, 2, SCH_FOREVER), -ECANCELED);
}

/* What they are, in this order; metrics.c and dump.c say what they expect of each. */
typedef enum waits_case {
    WAITS_SUSPEND, WAITS_JOIN, WAITS_TIMER, WAITS_READ, WAITS_WRITE, WAITS_ACCEPT, WAITS_CONNECT,
    WAITS_SIGNAL, WAITS_CHILD, WAITS_OPERATION, WAITS_UNNAMED, WAITS_SEVERAL, WAITS_CASES
} waits_case;

static const struct {
    sch_fn fn;
    sch_wait_kind kind;
} waits_cases[WAITS_CASES] = {
    {waits_suspend, SCH_WAIT_SUSPEND},     {waits_join, SCH_WAIT_JOIN},
    {waits_sleep, SCH_WAIT_TIMER},         {waits_read, SCH_WAIT_READ},
    {waits_write, SCH_WAIT_WRITE},         {waits_accept, SCH_WAIT_ACCEPT},
    {waits_connect, SCH_WAIT_CONNECT},     {waits_signal, SCH_WAIT_SIGNAL},
    {waits_child, SCH_WAIT_CHILD},         {waits_operation, SCH_WAIT_OPERATION},
    {waits_unnamed, SCH_WAIT_OPERATION},   {waits_several, SCH_WAIT_OPERATION},
};

/* A socket that is being connected for as long as this lasts: the listener's queue is full. */
static void waits_open_connecting(waits *w) {
    io_address at;
    int listener = io_listen(AF_INET, 0, &at), filler = socket(AF_INET, SOCK_STREAM, 0);
    waits_keep(w, listener);
    waits_keep(w, filler);
    io_connect(filler, &at);
    EXPECT_EQ(sch_connect_start(&w->connecting, w->rt, &at.as.any, at.len), 0);
}

static void waits_open(waits *w, sch_runtime *rt) {
    static const int number = SIGUSR2;
    char page[4096];
    io_address at;
    int fd[2];
    memset(w, 0, sizeof *w);
    memset(page, 0, sizeof page);
    w->rt = rt;
    if (pipe(fd)) abort();
    EXPECT_EQ(sch_io_open(&w->in, rt, fd[0]), 0);
    waits_keep(w, fd[1]);
    if (pipe(fd)) abort();
    EXPECT_EQ(sch_io_open(&w->full, rt, fd[1]), 0);
    while (write(fd[1], page, sizeof page) > 0) continue; /* it does not block now */
    waits_keep(w, fd[0]);
    io_local(AF_INET, &at);
    EXPECT_EQ(sch_listen(&w->listener, rt, &at.as.any, at.len, 0), 0);
    waits_open_connecting(w);
    EXPECT_EQ(sch_signals_open(&w->signal, rt, &number, 1), 0);
    w->pid = fork();
    if (w->pid == 0) {
        alarm(60); /* should nobody end it */
        for (;;) pause();
    }
    w->no_child = sch_child_open(&w->child, rt, w->pid);
    EXPECT(w->no_child == 0 || w->no_child == -ENOSYS);
    w->joined = sch_spawn(rt, waits_joined, NULL);
}

/* Without one for children, that case waits as the first does. */
static waits_case waits_as(const waits *w, int i) {
    return i == WAITS_CHILD && w->no_child ? WAITS_SUSPEND : (waits_case)i;
}

static void waits_close(waits *w) {
    sch_io *const all[] = {&w->in, &w->full, &w->listener, &w->connecting, &w->signal, &w->child};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (all[i] != &w->child || !w->no_child) EXPECT_EQ(sch_io_close(all[i]), 0);
    }
    for (unsigned i = 0; i < w->num_others; i++) close(w->other[i]);
    kill(w->pid, SIGKILL);
    waitpid(w->pid, NULL, 0);
    sch_wake(w->joined);
    EXPECT_EQ(sch_join(w->joined), 0);
}

/* Places: with one core and one blocking thread two calls may be under way; a third waits. */
static void waits_hold_place(void *gate) {
    EXPECT_EQ(sch_block_in_place(support_gate_wait, gate), 0);
}

/* A poll task that waits until it is cancelled. */
static sch_status waits_poll(sch_task *self, void *state) {
    (void)self, (void)state;
    return sch_cancelled() ? SCH_READY : SCH_PENDING;
}

#endif /* UNIT_WAITS_H */
