/* signals.c - [P9]: signals and the end of children as operations. */
#include "support.h"

/* No thread of this program, the harness's included, may have them delivered in the usual way, as
 * if they had been opened in main before it made threads. */
static const int signals_used[2] = {SIGUSR2, SIGVTALRM};

__attribute__((constructor)) static void signals_block(void) {
    sigset_t set;
    sigemptyset(&set);
    for (int i = 0; i < 2; i++) sigaddset(&set, signals_used[i]);
    if (pthread_sigmask(SIG_BLOCK, &set, NULL)) abort();
}

static bool signals_blocked(int number) {
    sigset_t now;
    return EXPECT_EQ(pthread_sigmask(SIG_SETMASK, NULL, &now), 0) && sigismember(&now, number);
}

static void signals_send(int number) { EXPECT_EQ(kill(getpid(), number), 0); }

static void *signals_send_later(void *number) {
    support_nap((long)(test_random() % 2000));
    signals_send(*(const int *)number);
    return NULL;
}

static void signals_body(sch_runtime *rt) {
    sch_io io;
    pthread_t later;
    int number;
    EXPECT_EQ(sch_signals_open(&io, rt, signals_used, 2), 0);
    for (int i = 0; i < 5; i++) signals_send(SIGUSR2); /* those of one number count as one */
    EXPECT_EQ(sch_signal_wait(&io), SIGUSR2);
    sch_io_op op = sch_signal_op(&io);
    EXPECT_EQ(sch_timeout(&op.op, SCH_MILLISECOND), -ETIMEDOUT);
    for (int i = 0; i < 2; i++) signals_send(signals_used[i]);
    EXPECT_EQ(sch_signal_wait(&io) + sch_signal_wait(&io), SIGUSR2 + SIGVTALRM);
    for (int i = 0; i < 4; i++) { /* one that comes while it is waited for, beside a timer */
        sch_timer timer = sch_timer_after(IO_LONG), soon = sch_timer_after(SCH_MILLISECOND);
        sch_op *const ops[2] = {&timer.op, &op.op};
        number = signals_used[i % 2];
        if (pthread_create(&later, NULL, signals_send_later, &number)) abort();
        if (i < 2) {
            EXPECT_EQ(sch_await_any(ops, 2, SCH_FOREVER), 1);
        } else { /* a wait that gave up takes none */
            sch_op *const either[2] = {&soon.op, &op.op};
            int first = sch_await_any(either, 2, SCH_FOREVER);
            EXPECT(first >= 0);
            if (!sch_op_is_done(&op.op)) EXPECT_EQ(sch_await(&op.op), number);
        }
        EXPECT_EQ(op.op.result, number);
        pthread_join(later, NULL);
    }
    sch_io_op none = sch_signal_op(&io);
    EXPECT_EQ(sch_timeout(&none.op, SCH_MILLISECOND), -ETIMEDOUT);
    EXPECT_EQ(sch_io_close(&io), 0);
    EXPECT_EQ(sch_await(&none.op), -EBADF);
    EXPECT_EQ(sch_await(&op.op), -EBADF); /* it has waited, but that is over */
}

TEST(signals_everywhere) { io_everywhere(signals_body); }

/* Two who wait: each signal is told once. */
typedef struct signals_pair {
    sch_io io;
    unsigned sum;
} signals_pair;

static void signals_waiter(void *arg) {
    signals_pair *p = (signals_pair *)arg;
    int number = sch_signal_wait(&p->io);
    if (EXPECT(number > 0)) (void)support_add(&p->sum, (unsigned)number);
}

static void signals_pair_body(sch_runtime *rt) {
    for (size_t i = 0; i < test_scale(200); i++) {
        signals_pair p;
        sch_task *tasks[2];
        p.sum = 0;
        EXPECT_EQ(sch_signals_open(&p.io, rt, signals_used, 2), 0);
        for (int k = 0; k < 2; k++) tasks[k] = sch_spawn(rt, signals_waiter, &p);
        for (int k = 0; k < 2; k++) {
            if (test_random() % 2) (void)sch_yield_now();
            signals_send(signals_used[k]);
        }
        for (int k = 0; k < 2; k++) EXPECT_EQ(sch_join(tasks[k]), 0);
        EXPECT_EQ(p.sum, SIGUSR2 + SIGVTALRM);
        EXPECT_EQ(sch_io_close(&p.io), 0);
    }
}

TEST(signals_two_who_wait) { io_in_each_runtime(signals_pair_body); }

TEST(signals_mask_and_bad_input) {
    checked_memory memory;
    sch_config config = support_config(&memory, 2);
    sch_runtime *rt = support_begin(&config);
    sch_io io = {NULL, 0};
    sigset_t both, old;
    const int bad[2] = {SIGUSR2, 1000}, none = 0;
    char byte;
    sigemptyset(&both);
    for (int i = 0; i < 2; i++) sigaddset(&both, signals_used[i]);
    EXPECT_EQ(pthread_sigmask(SIG_UNBLOCK, &both, &old), 0);
    EXPECT_EQ(sch_signals_open(&io, rt, bad, 2), -EINVAL);
    EXPECT_EQ(sch_signals_open(&io, rt, &none, 1), -EINVAL);
    EXPECT_EQ(sch_signals_open(&io, rt, bad, 0), -EINVAL);
    EXPECT_EQ(sch_signals_open(&io, rt, NULL, 1), -EINVAL);
    EXPECT_EQ(sch_signals_open(NULL, rt, bad, 1), -EINVAL);
    EXPECT_EQ(sch_signals_open(&io, NULL, bad, 1), -EINVAL);
    EXPECT(!signals_blocked(SIGUSR2));
    EXPECT_EQ(sch_signals_open(&io, rt, bad, 1), 0);
    EXPECT(signals_blocked(SIGUSR2) && !signals_blocked(SIGVTALRM));
    EXPECT_EQ(sch_io_close(&io), 0);
    EXPECT_EQ(pthread_sigmask(SIG_SETMASK, &old, NULL), 0);

    int peer = io_half(rt, IO_SOCKETPAIR, &io); /* what is no such thing */
    io_put(peer, "x", 1);
    EXPECT_EQ(sch_signal_wait(&io), -EINVAL);
    EXPECT_EQ(sch_child_wait(&io, NULL), -EINVAL);
    EXPECT_EQ(sch_read(&io, &byte, 1), 1);
    close(peer);
    EXPECT_EQ(sch_child_open(&io, rt, 0), -EINVAL);
    EXPECT_EQ(sch_child_open(&io, rt, -1), -EINVAL);
    EXPECT_EQ(sch_child_open(NULL, rt, getpid()), -EINVAL);
    support_end(rt, &memory);
}

/* Children --------------------------------------------------------------------------------------*/

/* A child that ends with this status when the pipe is closed; -1: is killed by itself. */
static pid_t signals_child(int status, int hold[2]) {
    pid_t pid;
    if (hold && pipe(hold)) abort();
    pid = fork();
    if (pid == 0) {
        char byte;
        if (hold) close(hold[1]);
        while (hold && read(hold[0], &byte, 1) < 0 && errno == EINTR) continue;
        if (status < 0) (void)kill(getpid(), SIGKILL);
        _exit(status);
    }
    if (hold) close(hold[0]);
    EXPECT(pid > 0);
    return pid;
}

static bool signals_can_watch(sch_runtime *rt) {
    sch_io io;
    pid_t pid = signals_child(0, NULL);
    int result = sch_child_open(&io, rt, pid);
    if (result == 0) {
        EXPECT_EQ(sch_child_wait(&io, NULL), 0);
        EXPECT_EQ(sch_io_close(&io), 0);
        EXPECT_EQ(waitpid(pid, NULL, 0), -1);
        return true;
    }
    EXPECT_EQ(result, -ENOSYS);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) continue;
    return false;
}

static void signals_children_body(sch_runtime *rt) {
    sch_io io;
    int hold[2], status = 0;
    if (!signals_can_watch(rt)) return;
    for (int how = 0; how < 2; how++) { /* it ends by itself; it is killed */
        pid_t pid = signals_child(how ? -1 : 7, hold);
        EXPECT_EQ(sch_child_open(&io, rt, pid), 0);
        sch_io_op op = sch_child_op(&io, &status);
        sch_timer timer = sch_timer_after(SCH_MILLISECOND);
        sch_op *const ops[2] = {&op.op, &timer.op};
        EXPECT_EQ(sch_await_any(ops, 2, SCH_FOREVER), 1);
        close(hold[1]);
        EXPECT_EQ(sch_child_wait(&io, &status), 0);
        EXPECT(how ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL
                   : WIFEXITED(status) && WEXITSTATUS(status) == 7);
        EXPECT_EQ(sch_child_wait(&io, &status), -ECHILD);
        EXPECT_EQ(waitpid(pid, NULL, WNOHANG), -1);
        EXPECT_EQ(sch_io_close(&io), 0);
    }

    pid_t pid = signals_child(3, NULL); /* dead before it is looked for */
    siginfo_t info;
    EXPECT_EQ(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    EXPECT_EQ(sch_child_open(&io, rt, pid), 0);
    EXPECT_EQ(sch_child_wait(&io, &status), 0);
    EXPECT_EQ(WEXITSTATUS(status), 3);
    EXPECT_EQ(sch_io_close(&io), 0);

    pid = signals_child(4, hold); /* reaped by somebody else */
    EXPECT_EQ(sch_child_open(&io, rt, pid), 0);
    close(hold[1]);
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_EQ(sch_child_wait(&io, &status), -ECHILD);
    EXPECT_EQ(sch_io_close(&io), 0);
    EXPECT(sch_child_open(&io, rt, pid) < 0); /* it is gone */

    if (sch_child_open(&io, rt, getpid()) == 0) { /* no child of ours */
        EXPECT_EQ(sch_child_wait(&io, &status), -ECHILD);
        EXPECT_EQ(sch_io_close(&io), 0);
    }
}

TEST(signals_children_everywhere) { io_everywhere(signals_children_body); }

/* Many at once, each with a task; some tasks are cancelled, and then somebody else can wait. */
typedef struct signals_many {
    sch_io io;
    pid_t pid;
    unsigned number, *ended;
} signals_many;

static void signals_many_task(void *arg) {
    signals_many *m = (signals_many *)arg;
    int status = 0;
    int result = sch_child_wait(&m->io, &status);
    if (result == 0) {
        EXPECT(WIFEXITED(status) && (unsigned)WEXITSTATUS(status) == m->number);
        (void)support_add(m->ended, 1);
    } else {
        EXPECT_EQ(result, -ECANCELED);
    }
}

static void signals_many_body(sch_runtime *rt) {
    enum { MANY = 12 };
    signals_many m[MANY];
    sch_task *tasks[MANY];
    unsigned ended = 0, cancelled = 0;
    int hold[2];
    if (!signals_can_watch(rt)) return;
    if (pipe(hold)) abort();
    for (unsigned i = 0; i < MANY; i++) {
        m[i].number = i, m[i].ended = &ended;
        m[i].pid = fork();
        if (m[i].pid == 0) {
            char byte;
            close(hold[1]);
            while (read(hold[0], &byte, 1) < 0 && errno == EINTR) continue;
            _exit((int)i);
        }
        EXPECT_EQ(sch_child_open(&m[i].io, rt, m[i].pid), 0);
        tasks[i] = sch_spawn(rt, signals_many_task, &m[i]);
    }
    (void)sch_sleep(SCH_MILLISECOND);
    close(hold[0]);
    close(hold[1]); /* all end */
    for (unsigned i = 0; i < MANY; i += 3) (void)sch_cancel(tasks[i]);
    for (unsigned i = 0; i < MANY; i++) {
        if (sch_join(tasks[i]) == 0) continue;
        cancelled++;
        signals_many_task(&m[i]);
    }
    EXPECT(cancelled <= (MANY + 2) / 3);
    EXPECT_EQ(ended, MANY);
    for (unsigned i = 0; i < MANY; i++) EXPECT_EQ(sch_io_close(&m[i].io), 0);
}

TEST(signals_many_children) { io_in_each_runtime(signals_many_body); }
