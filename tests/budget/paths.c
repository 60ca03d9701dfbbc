/* paths: the hot paths, each done so often that start and end do not count, for run.sh to have
 * their instructions counted by callgrind and their atomic operations by the program itself.
 *
 *     paths [NAME...]    prints for each path "path NAME OPERATIONS RMWS STORES"
 *
 * RMWS are atomic read-modify-writes, STORES sequentially consistent stores (which cost the same on
 * x86-64); both are 0 unless it was built with a header that run.sh has changed to count them.
 * Built with BUDGET_CALLGRIND it has callgrind write a file for each path.
 *
 * Counts repeat exactly because nothing depends on time or on other threads: the clock is a counter
 * of our own, random choices have a seed, and where a runtime has a second worker, so that its
 * queues are shared as usual, a task keeps that one from looking for anything. */
#include "sched.h"
#include "paths.h"
#include <netinet/in.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef BUDGET_CALLGRIND
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_ZERO_STATS ((void)0)
#define CALLGRIND_DUMP_STATS_AT(name) ((void)(name))
#endif

#define OPERATIONS 12800u
#define BATCH 64u

/* In place of libc's: time goes on by being looked at. It starts so late that who sleeps until some
 * time of it really sleeps until woken. */
int clock_gettime(clockid_t clock, struct timespec *now) {
    static uint64_t time = UINT64_C(1) << 60;
    (void)clock;
    time += 100;
    now->tv_sec = (time_t)(time / 1000000000u);
    now->tv_nsec = (long)(time % 1000000000u);
    return 0;
}

void budget_die(const char *what) {
    fprintf(stderr, "paths: %s\n", what);
    exit(1);
}

static uint64_t ran; /* what tasks count; one runs at a time */
static sch_runtime *runtime;

/* Spawning --------------------------------------------------------------------------------------*/

static void count(void *arg) {
    (void)arg;
    ran++;
}

static sch_status poll_count(sch_task *self, void *state) {
    (void)self, (void)state;
    ran++;
    return SCH_READY;
}

static void yield(void) { MUST(sch_yield_now() == 0); }

/* A yield lets all that is queued run once. */
static void spawn_go(unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        MUST(sch_go(NULL, count, NULL) == 0);
        if (i % BATCH == BATCH - 1) yield();
    }
}

static void spawn_detach(unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        sch_detach(sch_spawn(NULL, count, NULL));
        if (i % BATCH == BATCH - 1) yield();
    }
}

static void spawn_join(unsigned n) {
    sch_task *tasks[BATCH];
    for (unsigned i = 0; i < n; i += BATCH) {
        for (unsigned k = 0; k < BATCH; k++) tasks[k] = sch_spawn(NULL, count, NULL);
        for (unsigned k = 0; k < BATCH; k++) MUST(sch_join(tasks[k]) == 0);
    }
}

/* Each join has to wait. */
static void spawn_join_one(unsigned n) {
    for (unsigned i = 0; i < n; i++) MUST(sch_join(sch_spawn(NULL, count, NULL)) == 0);
}

/* More than the ring holds: what overflows takes the way through the injector. */
static void spawn_overflow(unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        MUST(sch_go(NULL, count, NULL) == 0);
        if (i % (BATCH * 20) == BATCH * 20 - 1) {
            for (uint64_t before = ran; ran < before + BATCH * 20;) yield();
        }
    }
}

static void spawn_poll(unsigned n) {
    const uint64_t state[4] = {0};
    for (unsigned i = 0; i < n; i++) {
        sch_detach(sch_spawn_poll(NULL, poll_count, state, sizeof state));
        if (i % BATCH == BATCH - 1) yield();
    }
}

/* From a plain thread; the tasks run while it joins one that comes after them. */
static void run_queued(void) { MUST(sch_join(sch_spawn(runtime, count, NULL)) == 0); }

static void spawn_remote(unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        MUST(sch_go(runtime, count, NULL) == 0);
        if (i % BATCH == BATCH - 1) run_queued();
    }
}

/* Yielding --------------------------------------------------------------------------------------*/

static unsigned share; /* of each of BATCH tasks */

static void yield_often(void *arg) {
    for (unsigned i = 0; i < share; i++) yield();
    count(arg);
}

static sch_status poll_often(sch_task *self, void *state) {
    unsigned *left = state;
    if ((*left)-- == 0) return poll_count(self, state);
    yield();
    return SCH_PENDING;
}

static void yield_stackful(unsigned n) {
    share = n / BATCH;
    for (unsigned k = 0; k < BATCH; k++) MUST(sch_go(NULL, yield_often, NULL) == 0);
    for (uint64_t before = ran; ran < before + BATCH;) yield();
}

static void yield_poll(unsigned n) {
    share = n / BATCH;
    for (unsigned k = 0; k < BATCH; k++) {
        sch_detach(sch_spawn_poll(NULL, poll_often, &share, sizeof share));
    }
    for (uint64_t before = ran; ran < before + BATCH;) yield();
}

/* Nobody else is there: a full turn at home. */
static void yield_alone(unsigned n) {
    for (unsigned i = 0; i < n; i++) yield();
}

/* Waking ----------------------------------------------------------------------------------------*/

static sch_task *partner;
static bool over;

static void answer(void *root) {
    sch_task *asking = root;
    while (sch_suspend() == 0 && !over) sch_wake(asking);
    count(NULL);
}

/* There and back: two wakes, two waits, two switches, through the LIFO slot. */
static void wake_suspend(unsigned n) {
    over = false;
    partner = sch_spawn(NULL, answer, sch_self());
    for (unsigned i = 0; i < n; i++) {
        sch_wake(partner);
        MUST(sch_suspend() == 0);
    }
    over = true;
    sch_wake(partner);
    MUST(sch_join(partner) == 0);
}

/* A wake that comes first is kept. */
static void wake_kept(unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        sch_wake(sch_self());
        MUST(sch_suspend() == 0);
    }
}

static sch_status poll_answer(sch_task *self, void *state) {
    sch_task *asking = *(sch_task **)state;
    if (over) return poll_count(self, state);
    sch_wake(asking);
    return SCH_PENDING;
}

/* The same there and back with a poll task. */
static void wake_poll(unsigned n) {
    sch_task *me = sch_self();
    over = false;
    partner = sch_spawn_poll(NULL, poll_answer, &me, sizeof me);
    MUST(sch_suspend() == 0);
    for (unsigned i = 0; i < n; i++) {
        sch_wake(partner);
        MUST(sch_suspend() == 0);
    }
    over = true;
    sch_wake(partner);
    MUST(sch_join(partner) == 0);
}

static void suspend_often(void *arg) {
    while (sch_suspend() == 0 && !over) ran++;
    count(arg);
}

/* From a plain thread. */
static void wake_remote(unsigned n) {
    sch_task *tasks[BATCH];
    over = false;
    for (unsigned k = 0; k < BATCH; k++) tasks[k] = sch_spawn(runtime, suspend_often, NULL);
    run_queued();
    for (unsigned i = 0; i < n; i += BATCH) {
        for (unsigned k = 0; k < BATCH; k++) sch_wake(tasks[k]);
        run_queued();
    }
    over = true;
    for (unsigned k = 0; k < BATCH; k++) sch_wake(tasks[k]);
    run_queued();
    for (unsigned k = 0; k < BATCH; k++) MUST(sch_join(tasks[k]) == 0);
}

/* Cancelling ------------------------------------------------------------------------------------*/

static void wait_for_ever(void *arg) {
    MUST(sch_suspend() == -ECANCELED);
    count(arg);
}

/* A task that waits: spawned, cancelled, joined. */
static void cancel_waiting(unsigned n) {
    sch_task *tasks[BATCH];
    for (unsigned i = 0; i < n; i += BATCH) {
        for (unsigned k = 0; k < BATCH; k++) tasks[k] = sch_spawn(NULL, wait_for_ever, NULL);
        yield();
        for (unsigned k = 0; k < BATCH; k++) MUST(sch_cancel(tasks[k]) == 0);
        for (unsigned k = 0; k < BATCH; k++) MUST(sch_join(tasks[k]) == -ECANCELED);
    }
}

/* One that never started. */
static void cancel_new(unsigned n) {
    sch_task *tasks[BATCH];
    for (unsigned i = 0; i < n; i += BATCH) {
        for (unsigned k = 0; k < BATCH; k++) tasks[k] = sch_spawn(NULL, wait_for_ever, NULL);
        for (unsigned k = 0; k < BATCH; k++) MUST(sch_cancel(tasks[k]) == 0);
        for (unsigned k = 0; k < BATCH; k++) MUST(sch_join(tasks[k]) == -ECANCELED);
    }
}

/* Operations, timers ----------------------------------------------------------------------------*/

static sch_status poll_there(sch_op *op) {
    op->result = 0;
    return SCH_READY;
}

static sch_status poll_pending(sch_op *op) {
    (void)op;
    return SCH_PENDING;
}

static sch_op_revoked cancel_removed(sch_op *op) {
    (void)op;
    return SCH_OP_REMOVED;
}

static const sch_op_type there_type = {.poll = poll_there, .cancel = cancel_removed};
static const sch_op_type pending_type = {.poll = poll_pending, .cancel = cancel_removed};

static void await_ready(unsigned n) {
    sch_op op = {.type = &there_type};
    for (unsigned i = 0; i < n; i++) MUST(sch_await(&op) == 0);
}

static sch_op promise;

static void complete_often(void *arg) {
    while (!over) {
        sch_op_complete(&promise, 0);
        yield();
    }
    count(arg);
}

static void begin_promise(void) {
    over = false;
    promise.type = &pending_type;
    partner = sch_spawn(NULL, complete_often, NULL);
}

static void end_promise(void) {
    over = true;
    MUST(sch_join(partner) == 0);
}

/* Another task completes it. The joiner's place at the back of the queue is that of any who waits
 * for an operation, so each of the two runs once. */
static void await_complete(unsigned n) {
    begin_promise();
    for (unsigned i = 0; i < n; i++) MUST(sch_await(&promise) == 0);
    end_promise();
}

/* The same with a time limit: a timer is armed and given up. */
static void await_timeout(unsigned n) {
    begin_promise();
    for (unsigned i = 0; i < n; i++) MUST(sch_timeout(&promise, 3600 * SCH_SECOND) == 0);
    end_promise();
}

/* Armed and given up at once, for what was awaited with it is there. */
static void timer_cancel(unsigned n) {
    const uint64_t hour = sch_now() + 3600 * SCH_SECOND;
    sch_op there = {.type = &there_type};
    sch_timer timer;
    sch_op *both[2] = {&timer.op, &there};
    for (unsigned i = 0; i < n; i++) {
        timer = sch_timer_at(hour + i % 1000u * SCH_MILLISECOND);
        MUST(sch_await_any(both, 2, SCH_FOREVER) == 1);
    }
}

static void sleep_often(void *arg) {
    for (unsigned i = 0; i < share; i++) MUST(sch_sleep(10 * SCH_MILLISECOND) == 0);
    count(arg);
}

/* Slept through. The clock stands while anything runs, and so all of them wake at once. */
static void timer_fire(unsigned n) {
    sch_task *tasks[BATCH];
    share = n / BATCH;
    for (unsigned k = 0; k < BATCH; k++) tasks[k] = sch_spawn(NULL, sleep_often, NULL);
    for (unsigned k = 0; k < BATCH; k++) MUST(sch_join(tasks[k]) == 0);
}

typedef struct poll_sleeper {
    unsigned line, left;
    sch_timer timer;
} poll_sleeper;

static sch_status poll_sleep_often(sch_task *self, void *state) {
    poll_sleeper *s = state;
    SCH_BEGIN(s->line);
    while (s->left-- > 0) {
        s->timer = sch_timer_after(10 * SCH_MILLISECOND);
        SCH_AWAIT(s->line, &s->timer.op);
    }
    poll_count(self, state);
    SCH_END();
}

static void timer_fire_poll(unsigned n) {
    poll_sleeper start = {0};
    sch_task *tasks[BATCH];
    start.left = n / BATCH;
    for (unsigned k = 0; k < BATCH; k++) {
        tasks[k] = sch_spawn_poll(NULL, poll_sleep_often, &start, sizeof start);
    }
    for (unsigned k = 0; k < BATCH; k++) MUST(sch_join(tasks[k]) == 0);
}

/* Blocking, descriptors -------------------------------------------------------------------------*/

static void block_in_place(unsigned n) {
    for (unsigned i = 0; i < n; i++) MUST(sch_block_in_place(count, NULL) == 0);
}

/* A byte through a pair of sockets, nobody has to wait. */
static void io_ready(unsigned n) {
    sch_io ends[2];
    int fds[2];
    char byte = 0;
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    for (int i = 0; i < 2; i++) MUST(sch_io_open(&ends[i], NULL, fds[i]) == 0);
    for (unsigned i = 0; i < n; i++) {
        MUST(sch_write(&ends[0], &byte, 1) == 1);
        MUST(sch_read(&ends[1], &byte, 1) == 1);
    }
    for (int i = 0; i < 2; i++) MUST(sch_io_close(&ends[i]) == 0);
}

/* A message to one of some connections and back: its task waits for it, and so does sometimes who
 * waits for the answer. */
#define CONNECTIONS 32u

static void connected(int fds[2]) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    MUST(bind(listener, (struct sockaddr *)&at, sizeof at) == 0 && listen(listener, 1) == 0);
    MUST(getsockname(listener, (struct sockaddr *)&at, &len) == 0);
    fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    MUST(connect(fds[0], (struct sockaddr *)&at, sizeof at) == 0);
    fds[1] = accept(listener, NULL, NULL);
    MUST(fds[1] >= 0 && close(listener) == 0);
}

static void send_back(void *arg) {
    sch_io *io = arg;
    char bytes[16];
    ssize_t n;
    while ((n = sch_read(io, bytes, sizeof bytes)) > 0) {
        MUST(sch_write_all(io, bytes, (size_t)n, NULL) == 0);
    }
    MUST(sch_io_close(io) == 0);
}

static void io_echo(unsigned n) {
    sch_io ends[CONNECTIONS][2];
    sch_task *tasks[CONNECTIONS];
    char bytes[16] = {0};
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        int fds[2];
        connected(fds);
        for (int k = 0; k < 2; k++) MUST(sch_io_open(&ends[i][k], NULL, fds[k]) == 0);
        tasks[i] = sch_spawn(NULL, send_back, &ends[i][1]);
    }
    for (unsigned done = 0; done < n; done += CONNECTIONS) {
        for (unsigned i = 0; i < CONNECTIONS; i++) MUST(sch_write(&ends[i][0], bytes, 1) == 1);
        for (unsigned i = 0; i < CONNECTIONS; i++) {
            MUST(sch_read(&ends[i][0], bytes, sizeof bytes) == 1);
        }
    }
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        MUST(sch_io_close(&ends[i][0]) == 0);
        MUST(sch_join(tasks[i]) == 0);
    }
}

/*------------------------------------------------------------------------------------------------*/

typedef enum place {
    SHARED,  /* in a task, two workers: the queue may have thieves */
    ALONE,   /* in a task, one worker */
    DRIVEN,  /* in a task of a SCH_CURRENT_THREAD runtime */
    OUTSIDE  /* on a plain thread, with one of those */
} place;

typedef struct path {
    const char *name;
    void (*run)(unsigned n);
    place place;
    bool paused, io;
} path;

static const path paths[] = {
    {"spawn_go", spawn_go, SHARED, false, false},
    {"spawn_go_alone", spawn_go, ALONE, false, false},
    {"spawn_detach", spawn_detach, SHARED, false, false},
    {"spawn_join", spawn_join, SHARED, false, false},
    {"spawn_join_one", spawn_join_one, SHARED, false, false},
    {"spawn_overflow", spawn_overflow, SHARED, false, false},
    {"spawn_poll", spawn_poll, SHARED, false, false},
    {"spawn_remote", spawn_remote, OUTSIDE, false, false},
    {"yield_stackful", yield_stackful, SHARED, false, false},
    {"yield_stackful_alone", yield_stackful, ALONE, false, false},
    {"yield_poll", yield_poll, SHARED, false, false},
    {"yield_alone", yield_alone, ALONE, false, false},
    {"wake_suspend", wake_suspend, SHARED, false, false},
    {"wake_kept", wake_kept, SHARED, false, false},
    {"wake_poll", wake_poll, SHARED, false, false},
    {"wake_remote", wake_remote, OUTSIDE, false, false},
    {"park_unpark", park_unpark, OUTSIDE, false, false},
    {"cancel_waiting", cancel_waiting, SHARED, false, false},
    {"cancel_new", cancel_new, SHARED, false, false},
    {"await_ready", await_ready, SHARED, false, false},
    {"await_complete", await_complete, SHARED, false, false},
    {"await_timeout", await_timeout, SHARED, false, false},
    {"timer_cancel", timer_cancel, SHARED, false, false},
    {"timer_fire", timer_fire, DRIVEN, true, false},
    {"timer_fire_poll", timer_fire_poll, DRIVEN, true, false},
    {"block_in_place", block_in_place, ALONE, false, false},
    {"io_ready", io_ready, DRIVEN, false, true},
    {"io_echo", io_echo, DRIVEN, false, true},
};

/* Once to make what the first time makes, then measured. */
static void measure(void *arg) {
    const path *p = arg;
    unsigned long long rmws, stores;
    p->run(OPERATIONS);
    rmws = budget_rmws, stores = budget_stores;
    CALLGRIND_ZERO_STATS;
    p->run(OPERATIONS);
    CALLGRIND_DUMP_STATS_AT(p->name);
    printf("path %s %u %llu %llu\n", p->name, OPERATIONS, budget_rmws - rmws,
           budget_stores - stores);
}

static sem_t busy, free_again;

/* Keeps a worker as a long computation does. */
static void keep(void *arg) {
    (void)arg;
    sem_post(&busy);
    while (sem_wait(&free_again) != 0) continue;
}

static void run_path(const path *p) {
    sch_config config = {0};
    size_t workers = p->place == SHARED ? 2 : 1;
    config.flavor = p->place < DRIVEN ? SCH_MULTI_THREAD : SCH_CURRENT_THREAD;
    config.workers = (unsigned)workers;
    config.no_standby = true;
    config.no_io = !p->io;
    config.paused_clock = p->paused;
    config.global_queue_interval = 61; /* it is tuned by the clock otherwise */
    config.seed = 1;
    runtime = sch_runtime_new(&config);
    MUST(runtime && sch_num_workers(runtime) == workers);
    if (p->place == SHARED) {
        sch_detach(sch_spawn(runtime, keep, NULL));
        while (sem_wait(&busy) != 0) continue;
    }
    if (p->place == OUTSIDE) {
        measure((void *)(uintptr_t)p);
    } else {
        MUST(sch_join(sch_spawn(runtime, measure, (void *)(uintptr_t)p)) == 0);
    }
    if (p->place == SHARED) sem_post(&free_again);
    sch_runtime_free(runtime);
}

int main(int argc, char **argv) {
    MUST(sem_init(&busy, 0, 0) == 0 && sem_init(&free_again, 0, 0) == 0);
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        bool chosen = argc < 2;
        for (int k = 1; k < argc; k++) chosen = chosen || strcmp(argv[k], paths[i].name) == 0;
        if (chosen) run_path(&paths[i]);
    }
    return 0;
}
