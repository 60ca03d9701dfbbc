/* tour.h - a tour through the public interface on which anything may fail.
 *
 * tour_run(setup) makes a runtime, uses all that it offers, frees it, and expects: every error is
 * one that is documented and that something injected explains (fault_excuses); the same call
 * without faults succeeds; every task ends once, with one call of its drop; all memory, mappings,
 * descriptors, threads and locks come back. */
#ifndef FAULT_TOUR_H
#define FAULT_TOUR_H

#include "libc.h"

#include <signal.h>

typedef struct tour_setup {
    const char *name;
    sch_flavor flavor;
    unsigned workers; /* 0: the default */
    enum { TOUR_LIBC, TOUR_CALLBACKS, TOUR_ALLOC_ONLY } memory;
    bool old_kernel; /* guards by mprotect */
    bool shut_down;  /* before the free */
    bool pin;
    bool brief; /* only make it, one task, free it */
    bool waits; /* the tour of times and descriptors, instead of the other */
    bool observes; /* that of dumps, traces, the watchdog */
} tour_setup;

#define TOUR_PROBES 1024

/* One attempt to spawn something. */
typedef struct probe {
    struct tour *tour;
    sch_fn body;
    void *arg;           /* for its body */
    unsigned ran, drops; /* any, atomic */
    unsigned shared;     /* for its body */
    int result;          /* of its wait */
} probe;

typedef struct tour {
    const tour_setup *setup;
    sch_runtime *rt;
    probe probes[TOUR_PROBES];
    unsigned num_probes;             /* any, atomic: all below */
    unsigned task_begins, task_ends; /* hooks */
    unsigned starts, stops, parks, unparks;
    unsigned refused; /* calls that failed, and then did not */
    unsigned gate;    /* blocking code waits until it is 1 */
    unsigned inside;  /* how many do */
    sch_io left[2];   /* open at the end */
    unsigned stalls;  /* reported */
    size_t dumped;    /* bytes */
} tour;

typedef enum tour_how {
    TOUR_PLAIN,
    TOUR_OWN_STACK,
    TOUR_SMALL_POLL,
    TOUR_BIG_POLL,
    TOUR_JOB
} tour_how;

static unsigned tour_add(unsigned *n) { return __atomic_add_fetch(n, 1u, __ATOMIC_SEQ_CST); }
static unsigned tour_get(const unsigned *n) { return __atomic_load_n(n, __ATOMIC_SEQ_CST); }

static void tour_nap(void) {
    struct timespec nap = {0, 50000};
    (void)nanosleep(&nap, NULL);
}

/* A call has failed with this error (positive): it must be excused. Until tour_retried nothing is
 * made to fail. */
static void tour_retry(tour *t, int error, const char *what, int line) {
    if (!fault_excuses(error)) {
        test_fail(__FILE__, line, "%s gave %d, which nothing explains", what, error);
    }
    (void)tour_add(&t->refused);
    fault_pause();
}

static void tour_retried(bool ok, const char *what, int line) {
    fault_resume();
    if (!ok) {
        test_fail(__FILE__, line, "%s failed again although nothing was made to fail", what);
        abort();
    }
}

/* A call that returns 0 or a negative errno, with one retry. */
#define TOUR_CALL(t, call)                                  \
    do {                                                    \
        int tour_error = (call);                            \
        if (tour_error) {                                   \
            tour_retry(t, -tour_error, #call, __LINE__);    \
            tour_error = (call);                            \
            tour_retried(tour_error == 0, #call, __LINE__); \
        }                                                   \
    } while (0)

/* Spawning --------------------------------------------------------------------------------------*/

typedef struct tour_poll_state {
    probe *mine;
    unsigned left; /* polls to come */
    char rest[4000];
} tour_poll_state;

static void tour_drop_probe(void *arg) { (void)tour_add(&((probe *)arg)->drops); }

static void tour_drop_state(void *state) {
    (void)tour_add(&((tour_poll_state *)state)->mine->drops);
}

static void tour_body(void *arg) {
    probe *p = (probe *)arg;
    (void)tour_add(&p->ran);
    if (p->body) p->body(p);
}

/* Polled again at once, then waits for a wake, then ready. */
static sch_status tour_poll(sch_task *self, void *state) {
    tour_poll_state *s = (tour_poll_state *)state;
    (void)self;
    if (s->left == 2) (void)sch_yield_now();
    if (s->left == 1) (void)tour_add(&s->mine->ran);
    return s->left-- == 0 || sch_cancelled() ? SCH_READY : SCH_PENDING;
}

static const sch_spawn_desc tour_plain_desc = {"tour", SCH_HERE, 0, tour_drop_probe};
static const sch_spawn_desc tour_stack_desc = {"own stack", SCH_HERE, 32768, tour_drop_probe};
static const sch_spawn_desc tour_poll_desc = {"poll", SCH_HERE, 0, tour_drop_state};

static probe *tour_probe(tour *t, sch_fn body) {
    unsigned n = tour_add(&t->num_probes) - 1;
    if (n >= TOUR_PROBES) abort();
    t->probes[n].tour = t, t->probes[n].body = body;
    return &t->probes[n];
}

static sch_task *tour_try_spawn_for(tour *t, tour_how how, sch_fn body, probe **out, void *arg) {
    probe *p = *out = tour_probe(t, body);
    p->arg = arg;
    if (how == TOUR_JOB) return sch_spawn_blocking_with(t->rt, &tour_plain_desc, tour_body, p);
    if (how == TOUR_PLAIN) return sch_spawn_with(t->rt, &tour_plain_desc, tour_body, p);
    if (how == TOUR_OWN_STACK) return sch_spawn_with(t->rt, &tour_stack_desc, tour_body, p);
    tour_poll_state state;
    memset(&state, 0, sizeof state);
    state.mine = p, state.left = 2;
    size_t size = how == TOUR_SMALL_POLL ? offsetof(tour_poll_state, rest) : sizeof state;
    return sch_spawn_poll_with(t->rt, &tour_poll_desc, tour_poll, &state, size);
}

static sch_task *tour_try_spawn(tour *t, tour_how how, sch_fn body, probe **out) {
    return tour_try_spawn_for(t, how, body, out, NULL);
}

static sch_task *tour_spawn_how(tour *t, tour_how how, sch_fn body, probe **out, void *arg) {
    sch_task *task = tour_try_spawn_for(t, how, body, out, arg);
    if (task) return task;
    EXPECT_EQ(tour_get(&(*out)->drops), 1);
    EXPECT_EQ(tour_get(&(*out)->ran), 0);
    tour_retry(t, sch_errno(), "spawn", __LINE__);
    task = tour_try_spawn_for(t, how, body, out, arg);
    tour_retried(task != NULL, "spawn", __LINE__);
    return task;
}

static sch_task *tour_spawn(tour *t, tour_how how, sch_fn body, probe **out) {
    return tour_spawn_how(t, how, body, out, NULL);
}

static sch_task *tour_spawn_for(tour *t, sch_fn body, probe **out, void *arg) {
    return tour_spawn_how(t, TOUR_PLAIN, body, out, arg);
}

/* Spawn without a handle; done when its drop ran. */
static probe *tour_go(tour *t, sch_fn body) {
    probe *p = tour_probe(t, body);
    int error = sch_go_with(t->rt, &tour_plain_desc, tour_body, p);
    if (!error) return p;
    EXPECT_EQ(tour_get(&p->drops), 1);
    tour_retry(t, -error, "sch_go_with", __LINE__);
    p = tour_probe(t, body);
    error = sch_go_with(t->rt, &tour_plain_desc, tour_body, p);
    tour_retried(error == 0, "sch_go_with", __LINE__);
    return p;
}

/* Join, with a retry where the join itself failed. Returns why the task ended. */
static int tour_join(tour *t, sch_task *task) {
    sch_task *kept = sch_retain(task); /* to see whether it has ended */
    int result = sch_join(task);
    /* -EAGAIN: it could not wait, whatever the task has done since */
    if (result == -EAGAIN || (result != 0 && result != -ECANCELED && !sch_is_done(kept))) {
        EXPECT(result != -ENOMEM); /* that says: the task has ended, the handle is released */
        tour_retry(t, -result, "sch_join", __LINE__);
        result = sch_join(task);
        tour_retried(result == 0 || result == -ECANCELED || sch_is_done(kept), "sch_join",
                     __LINE__);
    }
    EXPECT(sch_is_done(kept));
    sch_release(kept);
    return result;
}

/* The end of a task that was left to itself: it ran, or there was no stack or thread for it, and
 * then another one runs in its place. */
static void tour_finish(tour *t, sch_task *task, probe *p, tour_how how) {
    int result = tour_join(t, task);
    EXPECT_EQ(tour_get(&p->drops), 1);
    EXPECT_EQ(tour_get(&p->ran), result == 0);
    if (result == 0) return;
    EXPECT_EQ(result, -ENOMEM);
    tour_retry(t, -result, "a task", __LINE__);
    do { /* what cannot be lifted may hit once more, on another thread */
        task = tour_try_spawn(t, how, p->body, &p);
        while (task && (how == TOUR_SMALL_POLL || how == TOUR_BIG_POLL) && !sch_is_done(task)) {
            sch_wake(task);
            (void)sch_yield_now();
        }
        result = task ? sch_join(task) : -sch_errno();
    } while (result == -ENOMEM && fault.real && !fault.lift);
    tour_retried(result == 0 && tour_get(&p->ran) == 1, "a task", __LINE__);
}

/* What tasks do ---------------------------------------------------------------------------------*/

/* Waits until it is woken; its spawner wakes it. */
static void tour_waits(void *arg) {
    probe *p = (probe *)arg;
    (void)tour_add(&p->shared);
    p->result = sch_suspend();
    if (p->result == -ECANCELED) { /* clean-up that waits */
        EXPECT_EQ(sch_shield_begin(SCH_FOREVER), 0);
        EXPECT_EQ(sch_yield_now(), 0);
        sch_shield_end();
    }
}

static void tour_yields(void *arg) {
    (void)arg;
    for (int i = 0; i < 3; i++) EXPECT_EQ(sch_yield_now(), 0);
}

static void tour_branches(void *arg) {
    tour *t = ((probe *)arg)->tour;
    sch_task *child[3];
    probe *p[3];
    for (int i = 0; i < 3; i++) child[i] = tour_spawn(t, TOUR_PLAIN, tour_yields, &p[i]);
    for (int i = 0; i < 3; i++) tour_finish(t, child[i], p[i], TOUR_PLAIN);
}

/* In blocking code: block, and use the runtime all the same. */
static void tour_in_blocking(void *arg) {
    probe *p = (probe *)arg;
    (void)tour_add(&p->shared);
    tour_nap();
    tour_branches(p);
    if (p->tour->setup->flavor == SCH_CURRENT_THREAD) return; /* nobody else could open it */
    (void)tour_add(&p->tour->inside);
    while (!tour_get(&p->tour->gate)) tour_nap();
}

static void tour_blocks(void *arg) {
    probe *p = (probe *)arg;
    int error = sch_block_in_place(tour_in_blocking, p);
    EXPECT_EQ(tour_get(&p->shared), error == 0);
    if (error) {
        EXPECT_EQ(error, -EAGAIN);
        tour_retry(p->tour, -error, "sch_block_in_place", __LINE__);
        /* As long as it blocks nothing is made to fail: the retry is the whole call. */
        error = sch_block_in_place(tour_in_blocking, p);
        tour_retried(error == 0, "sch_block_in_place", __LINE__);
        EXPECT_EQ(tour_get(&p->shared), 1);
    }
}

static void tour_job(void *arg) {
    probe *p = (probe *)arg;
    (void)tour_add(&p->tour->inside);
    while (!tour_get(&p->tour->gate)) tour_nap();
    tour_branches(p);
}

/* Let others run until it is true, in a task or on a thread that visits. */
#define TOUR_UNTIL(cond) \
    while (!(cond)) EXPECT_EQ(sch_yield_now(), 0)

static bool tour_waiting(sch_task *task, probe *p) {
    return tour_get(&p->shared) || sch_is_done(task);
}

/* Wake what waits, to its end. What had no stack has ended: in its place nobody waits. */
static void tour_wake(tour *t, sch_task *task, probe *p) {
    if (!tour_get(&p->ran)) {
        EXPECT_EQ(tour_join(t, task), -ENOMEM);
        EXPECT(fault_excuses(ENOMEM));
        return;
    }
    sch_wake(task);
    tour_finish(t, task, p, TOUR_PLAIN);
    EXPECT_EQ(p->result, 0);
}

enum { TOUR_WAITERS = 24, TOUR_POLLS = 8, TOUR_OTHERS = 6, TOUR_JOBS = 3 };

static void tour_wakes(tour *t) {
    sch_task *task[TOUR_WAITERS];
    probe *p[TOUR_WAITERS];
    for (int i = 0; i < TOUR_WAITERS; i++) task[i] = tour_spawn(t, TOUR_PLAIN, tour_waits, &p[i]);
    for (int i = 0; i < TOUR_WAITERS; i++) TOUR_UNTIL(tour_waiting(task[i], p[i]));
    EXPECT(sch_stragglers(t->rt, NULL, 0) > 0);
    for (int i = 0; i < TOUR_WAITERS; i++) {
        if (i % 4 == 0) { /* it may have ended for want of a stack */
            int error = sch_cancel(task[i]), result;
            EXPECT(error == 0 || error == -ESRCH);
            result = tour_join(t, task[i]);
            EXPECT_EQ(result, tour_get(&p[i]->ran) ? -ECANCELED : -ENOMEM);
            if (result == -ENOMEM) EXPECT(fault_excuses(ENOMEM));
            EXPECT_EQ(tour_get(&p[i]->drops), 1);
        } else {
            tour_wake(t, task[i], p[i]);
        }
    }
}

static void tour_polls(tour *t) {
    sch_task *task[TOUR_POLLS];
    probe *p[TOUR_POLLS];
    for (int i = 0; i < TOUR_POLLS; i++) {
        task[i] = tour_spawn(t, i % 2 ? TOUR_SMALL_POLL : TOUR_BIG_POLL, NULL, &p[i]);
    }
    for (int i = 0; i < TOUR_POLLS; i++) {
        tour_how how = i % 2 ? TOUR_SMALL_POLL : TOUR_BIG_POLL;
        TOUR_UNTIL(tour_get(&p[i]->ran) || sch_is_done(task[i]));
        sch_wake(task[i]);
        tour_finish(t, task[i], p[i], how);
    }
}

/* Some with stacks of their own, some detached, some cancelled before they start. */
static void tour_others(tour *t) {
    sch_task *task[TOUR_OTHERS];
    probe *p[TOUR_OTHERS], *detached[TOUR_OTHERS];
    for (int i = 0; i < TOUR_OTHERS; i++) {
        detached[i] = tour_go(t, i % 2 ? tour_yields : NULL);
        task[i] = tour_spawn(t, i % 2 ? TOUR_OWN_STACK : TOUR_PLAIN,
                             i == 1 ? tour_branches : tour_yields, &p[i]);
    }
    for (int i = 0; i < TOUR_OTHERS; i++) {
        if (i % 3 == 2) {
            int result = sch_cancel(task[i]);
            EXPECT(result == 0 || result == -ESRCH);
            result = tour_join(t, task[i]);
            EXPECT(result == 0 || result == -ECANCELED ||
                   (result == -ENOMEM && fault_excuses(ENOMEM)));
        } else {
            tour_finish(t, task[i], p[i], i % 2 ? TOUR_OWN_STACK : TOUR_PLAIN);
        }
        TOUR_UNTIL(tour_get(&detached[i]->drops));
        EXPECT(tour_get(&detached[i]->ran) || fault_excuses(ENOMEM));
    }
}

/* Two tasks in blocking code and three jobs, until all are inside: each has a thread of its own. */
static void tour_blocking(tour *t) {
    bool multi = t->setup->flavor == SCH_MULTI_THREAD;
    sch_task *task[2], *job[TOUR_JOBS], *waiting;
    probe *p[2], *q[TOUR_JOBS], *w;
    unsigned all = 0;
    t->gate = t->inside = 0;
    for (int i = 0; i < TOUR_JOBS; i++) job[i] = tour_spawn(t, TOUR_JOB, tour_job, &q[i]);
    for (int i = 0; i < 2; i++) task[i] = tour_spawn(t, TOUR_PLAIN, tour_blocks, &p[i]);
    do { /* those that had no stack have ended; without a thread a job waits for those inside */
        EXPECT_EQ(sch_yield_now(), 0);
        all = 0;
        for (int i = 0; i < TOUR_JOBS; i++) all += !sch_is_done(job[i]);
        for (int i = 0; i < 2; i++) all += multi && !sch_is_done(task[i]);
    } while (tour_get(&t->inside) < all && !fault_excuses(EAGAIN));
    __atomic_store_n(&t->gate, 1u, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 2; i++) tour_finish(t, task[i], p[i], TOUR_PLAIN);
    for (int i = 0; i < TOUR_JOBS; i++) tour_finish(t, job[i], q[i], TOUR_JOB);

    waiting = tour_spawn(t, TOUR_JOB, tour_waits, &w);
    TOUR_UNTIL(tour_waiting(waiting, w));
    if (tour_get(&w->ran)) {
        EXPECT_EQ(sch_cancel(waiting), 0);
        EXPECT_EQ(tour_join(t, waiting), -ECANCELED);
    } else {
        EXPECT_EQ(tour_join(t, waiting), -ENOMEM);
    }
}

static void tour_root(void *arg) {
    tour *t = ((probe *)arg)->tour;
    tour_wakes(t);
    tour_polls(t);
    tour_others(t);
    tour_blocking(t);
}

static void tour_visit(void *arg) {
    tour *t = (tour *)arg;
    sch_task *task;
    probe *p;
    task = tour_spawn(t, TOUR_PLAIN, tour_branches, &p);
    EXPECT_EQ(sch_yield_now(), 0);
    tour_finish(t, task, p, TOUR_PLAIN);
}

/* Tasks that are there when the runtime ends: waiting, new, in blocking code. */
static void tour_leave_some(tour *t) {
    sch_task *task;
    probe *p;
    for (int i = 0; i < 3; i++) sch_detach(tour_spawn(t, TOUR_PLAIN, tour_waits, &p));
    for (int i = 0; i < 2; i++) sch_detach(tour_spawn(t, TOUR_SMALL_POLL, NULL, &p));
    task = tour_spawn(t, TOUR_JOB, tour_waits, &p);
    if (t->setup->flavor == SCH_MULTI_THREAD) {
        while (!tour_waiting(task, p)) tour_nap();
    }
    sch_detach(task);
    for (int i = 0; i < 4; i++) (void)tour_go(t, i % 2 ? tour_yields : NULL);
}

#include "tour_waits.h"
#include "tour_observe.h"

/* The runtime -----------------------------------------------------------------------------------*/

static void tour_on_spawn(void *user, sch_task *task) {
    (void)task;
    (void)tour_add(&((tour *)user)->task_begins);
}
static void tour_on_end(void *user, sch_task *task) {
    (void)task;
    (void)tour_add(&((tour *)user)->task_ends);
}
static void tour_on_start(void *user, unsigned thread) {
    (void)thread;
    (void)tour_add(&((tour *)user)->starts);
}
static void tour_on_stop(void *user, unsigned thread) {
    (void)thread;
    (void)tour_add(&((tour *)user)->stops);
}
static void tour_on_park(void *user, unsigned thread) {
    (void)thread;
    (void)tour_add(&((tour *)user)->parks);
}
static void tour_on_unpark(void *user, unsigned thread) {
    (void)thread;
    (void)tour_add(&((tour *)user)->unparks);
}

static sch_config tour_config(tour *t) {
    const tour_setup *s = t->setup;
    sch_config c;
    memset(&c, 0, sizeof c);
    c.flavor = s->flavor;
    c.workers = s->workers;
    c.stack_size = 65536;
    c.thread_stack_size = 262144;
    c.pin_workers = s->pin;
    c.hooks.on_task_spawn = tour_on_spawn, c.hooks.on_task_terminate = tour_on_end;
    c.hooks.on_thread_start = tour_on_start, c.hooks.on_thread_stop = tour_on_stop;
    c.hooks.on_thread_park = tour_on_park, c.hooks.on_thread_unpark = tour_on_unpark;
    c.hooks.user = t;
    if (s->memory != TOUR_LIBC)
        c.allocator.alloc = fault_alloc, c.allocator.free = fault_free_block;
    if (s->memory == TOUR_CALLBACKS) {
        c.allocator.map_pages = fault_map_pages, c.allocator.unmap_pages = fault_unmap_pages;
    }
    if (s->observes) tour_observe_config(t, &c);
    return c;
}

static void tour_inside(tour *t) {
    sch_metrics_snapshot m;
    sch_task *task[TOUR_OTHERS];
    probe *p[TOUR_OTHERS];
    for (int i = 0; i < TOUR_OTHERS; i++) {
        task[i] = tour_spawn(t, i % 2 ? TOUR_OWN_STACK : TOUR_PLAIN, tour_yields, &p[i]);
    }
    for (int i = 0; i < TOUR_OTHERS; i++) {
        tour_finish(t, task[i], p[i], i % 2 ? TOUR_OWN_STACK : TOUR_PLAIN);
    }
    if (t->setup->brief) return;
    if (t->setup->waits) {
        tour_waits_of(t);
        return;
    }
    if (t->setup->observes) {
        tour_observe_of(t);
        return;
    }
    task[0] = tour_spawn(t, TOUR_PLAIN, tour_root, &p[0]);
    tour_finish(t, task[0], p[0], TOUR_PLAIN);
    TOUR_CALL(t, sch_block_on(t->rt, tour_visit, t));
    EXPECT_EQ(sch_metrics(t->rt, &m), 0);
    tour_leave_some(t);
}

static void tour_shut_down(tour *t) {
    int error = sch_runtime_shutdown(t->rt, 0);
    probe *p;
    if (error != 0 && error != -ETIMEDOUT) {
        tour_retry(t, -error, "sch_runtime_shutdown", __LINE__);
        tour_retried(true, "", 0);
    }
    EXPECT(tour_try_spawn(t, TOUR_PLAIN, NULL, &p) == NULL);
    EXPECT_EQ(errno, ESHUTDOWN);
    TOUR_CALL(t, sch_runtime_shutdown(t->rt, SCH_FOREVER));
    EXPECT_EQ(sch_num_alive_tasks(t->rt), 0);
}

static int tour_count_dir(const char *path) {
    int count;
    fault_pause();
    while ((count = test_count(path)) == 0) continue; /* somebody makes opendir fail */
    fault_resume();
    return count;
}

static tour tour_state;

/* One whole run. Returns how many calls were refused. */
static unsigned tour_run(const tour_setup *setup) {
    tour *t = &tour_state;
    int fds = tour_count_dir("/proc/self/fd"), threads = tour_count_dir("/proc/self/task");
    sch_config config;
    sch_task *kept;
    probe *p;
    sigset_t before, after;
    char text[256];
    memset(t, 0, sizeof *t);
    memset(&before, 0, sizeof before), memset(&after, 0, sizeof after);
    sigemptyset(&before);
    sigaddset(&before, SIGUSR2);
    const bool masked = pthread_sigmask(SIG_BLOCK, &before, NULL) == 0 &&
                        pthread_sigmask(SIG_SETMASK, NULL, &before) == 0;
    t->setup = setup;
    fault.old_kernel = setup->old_kernel;
    fault.waits = setup->waits;
    config = tour_config(t);

    t->rt = sch_runtime_new(&config);
    if (!t->rt) {
        tour_retry(t, errno, "sch_runtime_new", __LINE__);
        t->rt = sch_runtime_new(&config);
        tour_retried(t->rt != NULL, "sch_runtime_new", __LINE__);
    }
    if (setup->workers > sch_num_workers(t->rt)) EXPECT(fault_excuses(EAGAIN));
    tour_inside(t);
    kept = tour_spawn(t, TOUR_PLAIN, tour_yields, &p);
    if (setup->shut_down) tour_shut_down(t);
    sch_runtime_free(t->rt);
    EXPECT(sch_is_done(kept));
    sch_release(kept);
    if (masked && setup->observes) (void)pthread_sigmask(SIG_SETMASK, &before, NULL);

    EXPECT_EQ(t->task_ends, t->task_begins);
    EXPECT_EQ(t->stops, t->starts);
    EXPECT_EQ(t->unparks, t->parks);
    for (unsigned i = 0; i < t->num_probes; i++) EXPECT_EQ(t->probes[i].drops, 1);
    if (!test_check(fault_balance(text, sizeof text)[0] == 0, "all is given back", __FILE__,
                    __LINE__)) {
        fprintf(stderr, "  left:%s\n", text);
        memset(&fault_out, 0, sizeof fault_out);
    }
    if (masked) {
        EXPECT_EQ(pthread_sigmask(SIG_SETMASK, NULL, &after), 0);
        EXPECT(memcmp(&before, &after, sizeof before) == 0);
    }
    EXPECT_EQ(tour_count_dir("/proc/self/fd"), fds);
    for (int i = 0; i < 50000 && tour_count_dir("/proc/self/task") > threads; i++) tour_nap();
    EXPECT_EQ(tour_count_dir("/proc/self/task"), threads);
    return t->refused;
}

/* Looking back ----------------------------------------------------------------------------------*/

static struct {
    const tour_setup *setup; /* of the tour that runs */
    fault_mode mode;
    uint64_t tours, refused;
    unsigned long limit; /* seconds for one tour */
} run;

/* What a tour that hangs or crashed looked like. No lock is taken: somebody may hold it. */
static void say_where(void) {
    const char *const modes[] = {"the system's faults", "once", "from then on", "at random"};
    fprintf(stderr, "in a tour: %s; %s, %s, nth %llu, errno %d; SEED=%llu, round %llu; failed:",
            run.setup ? run.setup->name : "none", modes[run.mode],
            fault.kind < FAULT_KINDS ? fault_kinds[fault.kind].name : "all kinds",
            (unsigned long long)fault.nth, fault.error, (unsigned long long)test_seed(),
            (unsigned long long)run.tours);
    for (unsigned kind = 0; kind < FAULT_KINDS; kind++) {
        if (fault_injected(kind) == 0) continue;
        fprintf(stderr, " %s %llu/%llu", fault_kinds[kind].name,
                (unsigned long long)fault_injected(kind), (unsigned long long)fault.calls[kind]);
    }
    fputc('\n', stderr);
}

static void dump_threads(void) {
    DIR *dir = opendir("/proc/self/task");
    for (struct dirent *entry; dir && (entry = readdir(dir)) != NULL;) {
        char path[300], text[128];
        const char *const files[] = {"comm", "syscall"};
        if (entry->d_name[0] == '.') continue;
        fprintf(stderr, "  thread %s", entry->d_name);
        for (int i = 0; i < 2; i++) {
            snprintf(path, sizeof path, "/proc/self/task/%s/%s", entry->d_name, files[i]);
            FILE *file = fopen(path, "r");
            if (file && fgets(text, sizeof text, file)) {
                text[strcspn(text, "\n")] = 0;
                fprintf(stderr, " %s", text);
            }
            if (file) fclose(file);
        }
        fputc('\n', stderr);
    }
    if (dir) closedir(dir);
}

static void dump_runtime(const tour *t) {
    const sch_runtime *rt = t->rt;
    fprintf(stderr, "  tour: %u attempts, hooks: %u tasks begun, %u ended; %u inside, gate %u\n",
            t->num_probes, t->task_begins, t->task_ends, t->inside, t->gate);
    if (!rt || rt->magic != SCHI_MAGIC) return;
    fprintf(stderr,
            "  runtime: idle word %#x, injector %llu, closing %u, finished %d, live %lld, "
            "threads %u, workers %u, places %u, guests %u\n",
            schi_load_rlx(&rt->idle.word), (unsigned long long)sch_injection_queue_depth(rt),
            schi_load_rlx(&rt->closing), rt->finished, (long long)schi_load_rlx(&rt->live),
            rt->num_threads, rt->num_workers, schi_load_rlx(&rt->idle.places),
            schi_load_rlx(&rt->guests));
    for (unsigned i = 0; i < rt->num_cores; i++) {
        const schi_core *core = rt->cores[i];
        fprintf(stderr, "  core %u: queued %u, lifo %d, polls %llu, thread %lld, closed %d\n", i,
                (unsigned)schi_runq_len(&rt->cores[i]->q), !schi_lifo_is_empty(&rt->cores[i]->q),
                (unsigned long long)schi_counted(&core->m.polls),
                (long long)schi_counted(&core->m.thread), core->closed);
    }
}

static void crashed(int number) {
    signal(number, SIG_DFL);
    alarm(10); /* the dump may hang or fail itself */
    say_where();
    dump_threads();
    if (run.setup) dump_runtime(&tour_state);
    test_crashed(number);
}

/* One tour under what fault_arm has set. false: something was wrong, and it has been said where. */
static bool tour_once(const tour_setup *setup) {
    unsigned failures = __atomic_load_n(&test_failures, __ATOMIC_SEQ_CST);
    run.setup = setup, run.mode = fault.mode;
    if (run.limit) test_watch_set(TEST_WATCH, run.limit);
    run.refused += tour_run(setup);
    fault_off();
    run.setup = NULL;
    run.tours++;
    if (__atomic_load_n(&test_failures, __ATOMIC_SEQ_CST) == failures) return true;
    run.setup = setup;
    say_where();
    run.setup = NULL;
    return false;
}

static void prepare(void) {
    const int crashes[] = {SIGABRT, SIGALRM, SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    for (int i = 0; i < (TEST_SANITIZED ? 2 : 6); i++) signal(crashes[i], crashed);
    run.limit = test_env("TIMEOUT", 60);
}

#endif /* FAULT_TOUR_H */
