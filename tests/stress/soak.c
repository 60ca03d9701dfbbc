/* soak.c - random mixes of everything that the header offers, for a given time.
 *
 *     soak [--seconds N] [--workers N] [--tickets N] [--limit N]
 *
 * --seconds  how long (default: environment BUDGET, else 10)
 * --workers  the most of a runtime (default 8); with 9 and more every runtime has 1..N
 * --tickets  the most tasks with a record of their own in a runtime (default 16384)
 * --limit    seconds without any progress that count as a hang (default 60)
 * SEED=n repeats the random choices, as far as threads let it.
 *
 * A round starts "directors", each of which makes runtimes one after the other, fills them with
 * random tasks, ends them in a random way and checks them; "wakers", which wake tasks on request,
 * also from a signal handler; and "pokers", which do to other people's tasks and runtimes what the
 * header allows. At the end of a round everything must be gone.
 *
 * What is checked. For each task: it ran at most once, on one thread at a time, its drop ran once,
 * what its joiner was told agrees with what it went through, its stack and state kept their
 * contents. For each runtime: spawned = completed + cancelled exactly, by the runtime's own
 * counters too; hooks balance; counters never go back; all memory of its allocator is back. Sleeps
 * are never short, also those that a shield with a time cuts off; the bytes that arrive are those
 * that were sent, in order, whatever was cut off, and all of them where nobody was cancelled; as
 * many descriptors are open as were not closed. For each round: descriptors and threads are as many
 * as before. For the whole run: resident memory and mappings do not grow after the warm-up. Nothing
 * lost: whoever waits has somebody who will wake it, so a lost wake is a hang, and a hang prints
 * the runtimes and aborts. */
#define _GNU_SOURCE
#define SCHED_IMPLEMENTATION
#include "../../sched.h"

#include "proc.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/socket.h>

#define SOAK_SITES 3      /* directors at most, each with one runtime at a time */
#define SOAK_TICKETS 16384u
#define SOAK_BOARD 32u
#define SOAK_WAKERS 2
#define SOAK_POKERS 2
#define SOAK_DEPTH 4

#define add(counter, n) __atomic_add_fetch(&(counter), (n), __ATOMIC_RELAXED)
#define get(counter) __atomic_load_n(&(counter), __ATOMIC_ACQUIRE)
#define set(counter, n) __atomic_store_n(&(counter), (n), __ATOMIC_RELEASE)

/* Failures --------------------------------------------------------------------------------------*/

static unsigned soak_failures; /* any, atomic */
static uint64_t soak_seed;

#define EXPECT(cond) soak_check((cond) ? true : false, #cond, __LINE__)
#define EXPECT_EQ(a, b) soak_check_equal((long long)(a), (long long)(b), #a, #b, __LINE__)

__attribute__((format(printf, 2, 3))) static void soak_fail(int line, const char *format, ...) {
    va_list args;
    char text[400];
    if (add(soak_failures, 1u) > 20) return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fprintf(stderr, "soak.c:%d: %s (SEED=%llu)\n", line, text, (unsigned long long)soak_seed);
}

static bool soak_check(bool ok, const char *what, int line) {
    if (!ok) soak_fail(line, "EXPECT(%s) failed", what);
    return ok;
}

static bool soak_check_equal(long long a, long long b, const char *a_text, const char *b_text,
                             int line) {
    if (a != b) soak_fail(line, "EXPECT_EQ(%s, %s) failed: %lld, %lld", a_text, b_text, a, b);
    return a == b;
}

/* Random numbers: splitmix64 over a state that somebody owns. */
static uint64_t soak_random(uint64_t *state) {
    uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static unsigned below(uint64_t *state, unsigned n) { return (unsigned)(soak_random(state) % n); }
static bool one_in(uint64_t *state, unsigned n) { return below(state, n) == 0; }

/* What there is ---------------------------------------------------------------------------------*/

typedef struct soak_site soak_site;

/* Somebody promised to wake a task. Freed by the last of the two who hold it. */
typedef struct soak_call {
    unsigned refs;          /* atomic */
    unsigned fired;         /* atomic */
    sch_task *task;         /* retained for the waker */
    struct soak_call *next; /* in the wakers' queue: under its lock */
} soak_call;

typedef enum soak_kind {
    SOAK_NAKED,   /* without a descriptor */
    SOAK_NAMED,
    SOAK_OWN_STACK,
    SOAK_POLL,
    SOAK_JOB,
    SOAK_KINDS
} soak_kind;

/* The record of one task. What has no note is written by the task, or before it is spawned, and
 * read after its end: that must be ordered by the library, which ThreadSanitizer checks. */
typedef struct soak_ticket {
    soak_site *site;
    uint64_t rng;
    soak_call *call;   /* fired by the drop function */
    soak_kind kind;
    unsigned depth;
    unsigned polls_left;
    unsigned ends;     /* ran to its end */
    bool told;         /* a wait said that it was cancelled */
    bool no_place;     /* whoever waits for it holds a place or a pool thread: must not need one */
    bool refused;      /* the spawn failed */
    unsigned runs;     /* atomic: first polls */
    unsigned drops;    /* atomic */
    unsigned on_cpu;   /* atomic: it is being run, by one thread */
    unsigned doing;    /* atomic: what of soak_act, for the watchdog */
    unsigned result;   /* its joiner: 1 completed, 2 cancelled */
} soak_ticket;

struct soak_site {
    sch_runtime *rt;         /* atomic: NULL while there is none */
    unsigned pins;           /* atomic: SOAK_OPEN + how many use rt from outside */
    unsigned generation;     /* written while closed and not pinned */
    bool driven;             /* SCH_CURRENT_THREAD */
    bool hooked, counted, paused, timed;
    unsigned ending;         /* atomic: pokers may shut it down too */
    uint64_t seed;
    unsigned calm;           /* how seldom its tasks lose time */
    unsigned limit;          /* tickets */
    unsigned used;           /* atomic; may pass the limit */
    uint64_t spawned;        /* atomic: tasks that the runtime took, with a ticket */
    uint64_t refused_jobs;   /* atomic: of EAGAIN; they count as spawned and cancelled there */
    uint64_t io_opened, io_closed; /* atomic */
    uint64_t plain_spawned, plain_done; /* atomic: tasks without a ticket, of sch_go */
    uint64_t hook_thread[4], hook_task[4]; /* atomic: calls */
    uint64_t bytes, blocks;  /* atomic: of the counting allocator, across runtimes */
    soak_ticket tickets[SOAK_TICKETS];
};

#define SOAK_OPEN 0x80000000u

static soak_site soak_sites[SOAK_SITES];

static uint64_t soak_round_ends; /* when directors stop making runtimes; atomic */
static unsigned soak_late; /* atomic: the round should end, nobody makes more work */
static unsigned soak_max_workers = 8, soak_max_tickets = SOAK_TICKETS, soak_hang_seconds = 60;

/* Totals of the run; atomic. */
static struct {
    uint64_t progress; /* steps of tasks and directors: what the watchdog looks at */
    uint64_t tasks, completed, cancelled, refused, joins, waits, wakes, signals, pokes, migrations;
    uint64_t jobs, polls, blocks, cross, runtimes, driven, time_outs, stragglers;
    uint64_t steals, lifo_steals, handoffs, lends, lends_taken, overflows, parks, rescues;
    uint64_t forced_yields, injected, capped;
    uint64_t sleeps, cut_sleeps, limits, ticks, streams, bytes, events, slices, paused;
    uint64_t walks, shown, dumps, traces, written, busy, stalls;
} soak_total;

static void soak_progress(void) { (void)add(soak_total.progress, UINT64_C(1)); }

/* Use a runtime from outside: it is not freed meanwhile. */
static bool soak_pin(soak_site *s, unsigned generation) {
    unsigned old = get(s->pins);
    do {
        if (!(old & SOAK_OPEN)) return false;
    } while (!__atomic_compare_exchange_n(&s->pins, &old, old + 1, true, __ATOMIC_ACQ_REL,
                                          __ATOMIC_ACQUIRE));
    if (generation == UINT32_MAX || s->generation == generation) return true;
    __atomic_fetch_sub(&s->pins, 1u, __ATOMIC_ACQ_REL);
    return false;
}

static void soak_unpin(soak_site *s) { __atomic_fetch_sub(&s->pins, 1u, __ATOMIC_ACQ_REL); }

/* Lose time of the real clock, seldom much: one time in about nine times `calm`. */
static void soak_stall(uint64_t *rng, unsigned calm) {
    unsigned kind = below(rng, 256 * calm);
    if (kind < 8) {
        sched_yield();
    } else if (kind < 24) {
        uint64_t end = schi_now_ns() + 1000 + below(rng, 50000);
        while (schi_now_ns() < end) continue;
    } else if (kind < 28) {
        usleep(50 + below(rng, 400));
    } else if (kind == 28) {
        uint64_t end = schi_now_ns() + SCH_MILLISECOND * (1 + below(rng, 4));
        while (schi_now_ns() < end) continue;
    }
}

/* Calls -----------------------------------------------------------------------------------------*/

static soak_call *soak_call_new(void) {
    soak_call *call = (soak_call *)calloc(1, sizeof *call);
    if (!call) abort();
    call->refs = 2;
    call->task = sch_retain(sch_self());
    return call;
}

static void soak_call_drop(soak_call *call) {
    if (__atomic_sub_fetch(&call->refs, 1u, __ATOMIC_ACQ_REL) == 0) free(call);
}

/* The promise is kept; twice in a row and before the wait is allowed, too. */
static void soak_call_fire(soak_call *call, bool twice) {
    sch_task *task = call->task;
    set(call->fired, 1u);
    sch_wake(task);
    if (twice) sch_wake(task);
    sch_release(task);
    soak_call_drop(call);
    (void)add(soak_total.wakes, UINT64_C(1));
}

/* The wakers' queue, and one cell a waker in which the others leave what its signal handler is to
 * fire. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    soak_call *first; /* under lock */
    bool over;        /* under lock */
} soak_queue = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL, false};

typedef struct soak_cell {
    soak_call *call; /* atomic */
    pthread_t thread;
    bool ready; /* under the queue's lock */
} soak_cell;

static soak_cell soak_cells[SOAK_WAKERS + SOAK_POKERS];
static __thread soak_cell *soak_my_cell;

static void soak_on_signal(int number) {
    soak_call *call =
        soak_my_cell ? __atomic_exchange_n(&soak_my_cell->call, NULL, __ATOMIC_ACQ_REL) : NULL;
    (void)number;
    if (!call) return;
    set(call->fired, 1u);
    sch_wake_signal(call->task);
    set(call->fired, 2u); /* the waker that sent the signal cleans up */
}

static void soak_ask_wakers(soak_call *call) {
    pthread_mutex_lock(&soak_queue.lock);
    call->next = soak_queue.first;
    soak_queue.first = call;
    pthread_cond_signal(&soak_queue.changed);
    pthread_mutex_unlock(&soak_queue.lock);
}

/* Fire a call in the signal handler of a thread; false: that thread is not there, or has one. */
static bool soak_signal(soak_call *call, soak_cell *cell) {
    soak_call *none = NULL;
    bool sent = false;
    pthread_mutex_lock(&soak_queue.lock);
    if (cell->ready && __atomic_compare_exchange_n(&cell->call, &none, call, false,
                                                   __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        sent = pthread_kill(cell->thread, SIGUSR1) == 0;
        if (!sent) set(cell->call, NULL);
    }
    pthread_mutex_unlock(&soak_queue.lock);
    return sent;
}

/* A thread's cell while it lives. */
static void soak_cell_open(soak_cell *cell) {
    pthread_mutex_lock(&soak_queue.lock);
    cell->thread = pthread_self();
    cell->call = NULL;
    soak_my_cell = cell;
    cell->ready = true;
    pthread_mutex_unlock(&soak_queue.lock);
}

static void soak_cell_close(soak_cell *cell) {
    pthread_mutex_lock(&soak_queue.lock);
    cell->ready = false;
    pthread_mutex_unlock(&soak_queue.lock);
    while (get(cell->call)) sched_yield(); /* the signal is on its way */
}

static void *soak_waker(void *cell) {
    uint64_t rng = soak_seed ^ (uintptr_t)cell;
    soak_cell_open((soak_cell *)cell);
    for (;;) {
        soak_call *call;
        soak_cell *target;
        pthread_mutex_lock(&soak_queue.lock);
        while (!soak_queue.first && !soak_queue.over) {
            pthread_cond_wait(&soak_queue.changed, &soak_queue.lock);
        }
        call = soak_queue.first;
        if (call) soak_queue.first = call->next;
        pthread_mutex_unlock(&soak_queue.lock);
        if (!call) break;
        soak_stall(&rng, 1);
        /* ThreadSanitizer holds signals back from a thread that sits in a system call. */
        target = PROC_TSAN ? soak_my_cell : &soak_cells[below(&rng, SOAK_WAKERS + SOAK_POKERS)];
        if (one_in(&rng, 2) && soak_signal(call, target)) {
            while (get(call->fired) != 2) sched_yield();
            sch_release(call->task);
            soak_call_drop(call);
            (void)add(soak_total.signals, UINT64_C(1));
        } else {
            soak_call_fire(call, one_in(&rng, 4));
        }
    }
    soak_cell_close((soak_cell *)cell);
    return NULL;
}

/* The board: handles that anybody may use -------------------------------------------------------*/

typedef struct soak_note {
    pthread_mutex_t lock;
    sch_task *task;       /* a reference */
    soak_ticket *ticket;  /* its record; valid while the site is pinned */
    soak_site *site;
    unsigned generation;
    bool owned;           /* it is the handle: who takes it may join */
} soak_note;

static soak_note soak_board[SOAK_BOARD];

static void soak_post(uint64_t *rng, soak_site *s, soak_ticket *ticket, sch_task *task,
                      bool owned) {
    soak_note *note = &soak_board[below(rng, SOAK_BOARD)];
    sch_task *old;
    pthread_mutex_lock(&note->lock);
    old = note->task;
    note->task = task, note->ticket = ticket, note->site = s, note->owned = owned;
    note->generation = s->generation;
    pthread_mutex_unlock(&note->lock);
    sch_detach(old);
}

static bool soak_was_cancelled(const soak_ticket *t) {
    return t->kind == SOAK_POLL ? t->ends == 0 : get(t->runs) == 0 || t->told;
}

/* A join has returned and released the handle. */
static void soak_joined(soak_ticket *t, int result) {
    (void)add(soak_total.joins, UINT64_C(1));
    if (result != 0 && result != -ECANCELED) {
        EXPECT_EQ(result, 0);
        return;
    }
    EXPECT_EQ(get(t->drops), t->kind != SOAK_NAKED);
    EXPECT_EQ(result == -ECANCELED, soak_was_cancelled(t));
    EXPECT_EQ(t->result, 0);
    t->result = result == 0 ? 1 : 2;
}

static void soak_leave(soak_ticket *t) {
    EXPECT_EQ(__atomic_exchange_n(&t->on_cpu, 0u, __ATOMIC_ACQ_REL), 1);
}

static void soak_land(soak_ticket *t) {
    EXPECT_EQ(__atomic_exchange_n(&t->on_cpu, 1u, __ATOMIC_ACQ_REL), 0);
}

/* Join, as a task (me) or as a plain thread (NULL), and check the result. */
static void soak_join(soak_ticket *me, uint64_t *rng, sch_task *task, soak_ticket *t) {
    int result;
    if (me) soak_leave(me);
    result = sch_join(task);
    if (me) soak_land(me);
    if (me && result == -EINTR) {
        me->told = true;
        if (one_in(rng, 2)) {
            sch_detach(task);
            return;
        }
        EXPECT_EQ(sch_shield_begin(SCH_FOREVER), 0);
        EXPECT(!sch_cancelled());
        soak_leave(me);
        result = sch_join(task);
        soak_land(me);
        sch_shield_end();
    }
    soak_joined(t, result);
}

/* Somebody's task, taken from the board: join it if that is possible here. */
static void soak_take(soak_ticket *me, uint64_t *rng, soak_note *note) {
    sch_task *task = note->task;
    soak_site *s = note->site;
    soak_ticket *t = note->ticket;
    unsigned generation = note->generation;
    bool owned = note->owned, pinned;
    note->task = NULL;
    pthread_mutex_unlock(&note->lock);
    if (!task) return;
    pinned = owned && soak_pin(s, generation);
    if (pinned) {
        if (me) { /* two that wait for each other would wait for ever */
            if (sch_is_done(task)) {
                soak_join(me, rng, task, t);
            } else {
                sch_detach(task);
            }
        } else {
            soak_join(NULL, rng, task, t);
        }
        soak_unpin(s);
    } else {
        sch_release(task);
    }
}

/* Do something to a task on the board. me: the calling task; NULL: see may_join. */
static void soak_poke(soak_ticket *me, uint64_t *rng, bool may_join) {
    soak_note *note = &soak_board[below(rng, SOAK_BOARD)];
    if (pthread_mutex_trylock(&note->lock)) return;
    (void)add(soak_total.pokes, UINT64_C(1));
    switch (below(rng, 12)) {
    case 0: case 1:
        if (may_join) {
            soak_take(me, rng, note);
            return; /* it has unlocked */
        } /* fallthrough */
    case 2: {
        int result = note->task ? sch_cancel(note->task) : 0;
        EXPECT(result == 0 || result == -ESRCH);
        break;
    }
    case 3: EXPECT(!note->task || sch_task_name(note->task) != NULL); break;
    case 4: {
        sch_task *task = sch_retain(note->task);
        EXPECT(task == note->task);
        sch_release(task);
        break;
    }
    case 5: (void)sch_is_done(note->task); break;
    default: sch_wake(note->task); break;
    }
    pthread_mutex_unlock(&note->lock);
}

/* Tasks -----------------------------------------------------------------------------------------*/

static soak_ticket *soak_ticket_new(soak_site *s, uint64_t *rng, unsigned depth) {
    unsigned index = add(s->used, 1u) - 1;
    soak_ticket *t;
    if (index >= s->limit) return NULL;
    t = &s->tickets[index];
    memset(t, 0, sizeof *t);
    t->site = s;
    t->rng = soak_random(rng);
    t->depth = depth;
    t->kind = (soak_kind)below(rng, SOAK_KINDS);
    t->polls_left = below(rng, 6);
    return t;
}

static void soak_drop(void *arg) {
    soak_ticket *t = (soak_ticket *)arg;
    soak_call *call = t->call;
    EXPECT_EQ(add(t->drops, 1u), 1);
    EXPECT_EQ(get(t->on_cpu), 0);
    EXPECT_EQ(sch_suspend(), -EPERM);
    if (call) {
        t->call = NULL;
        soak_call_fire(call, false);
    }
}

/* What a poll task keeps: its ticket, and filler up to one of the sizes below. */
typedef struct soak_state {
    soak_ticket *ticket;
    unsigned size;
    unsigned char fill[4032 - 16];
} soak_state;

static const unsigned soak_state_sizes[] = {16, 24, 40, 100, 250, 1000, 2000, 4032};

static void soak_drop_state(void *state) { soak_drop(((soak_state *)state)->ticket); }

static const sch_spawn_desc soak_descs[] = {
    {"stackful", SCH_HERE, 0, soak_drop},
    {"own stack", SCH_HERE, PROC_SANITIZED ? 65536 : 20480, soak_drop},
    {"own stack", SCH_HERE, 131072, soak_drop},
    {"own stack", SCH_HERE, 1048576, soak_drop},
    {"poll", SCH_HERE, 0, soak_drop_state},
    {"job", SCH_HERE, 0, soak_drop},
};

static const sch_spawn_desc *soak_desc(const soak_ticket *t) {
    switch (t->kind) {
    case SOAK_NAMED: return &soak_descs[0];
    case SOAK_OWN_STACK: return &soak_descs[1 + t->rng % 3];
    case SOAK_POLL: return &soak_descs[4];
    case SOAK_JOB: return &soak_descs[5];
    case SOAK_NAKED: case SOAK_KINDS: break;
    }
    return NULL;
}

static void soak_act(soak_ticket *t, unsigned steps, bool inside);

/* Looking on: what is shown of others' tasks must make sense, and costs them nothing. -----------*/

typedef struct soak_reader {
    unsigned enough; /* after so many it has seen enough; 0: never */
    unsigned n;
} soak_reader;

static int soak_shown(const sch_task_info *info, void *user) {
    soak_reader *me = (soak_reader *)user;
    bool waits = info->phase == SCH_PHASE_WAITING;
    EXPECT(info->id != 0 && info->name && info->file && info->fn);
    EXPECT(waits == (info->wait < SCH_WAIT_KINDS) && waits == (info->wait_text[0] != 0));
    EXPECT(info->num_frames == 0 || (waits && info->kind == SCH_TASK_STACK));
    EXPECT(info->phase == SCH_PHASE_RUNNING || info->worker == UINT_MAX);
    if (me->n % 64 == 0) soak_progress();
    return ++me->n == me->enough ? 1 : 0;
}

static int soak_written(const char *text, size_t length, void *user) {
    soak_reader *me = (soak_reader *)user;
    EXPECT(text && length > 0);
    soak_progress();
    (void)add(soak_total.written, (uint64_t)length);
    return ++me->n == me->enough ? 1 : 0;
}

/* By anybody; the runtime is not freed meanwhile. */
static void soak_see(sch_runtime *rt, uint64_t *rng) {
    soak_reader me = {one_in(rng, 3) ? 1 + below(rng, 50) : 0, 0};
    int result = 0;
    switch (below(rng, 8)) {
    case 0: case 1: case 2:
        result = sch_each_task(rt, soak_shown, &me);
        (void)add(soak_total.walks, UINT64_C(1));
        (void)add(soak_total.shown, (uint64_t)me.n);
        break;
    case 3:
        result = sch_dump(rt, 1 + below(rng, 300000), soak_written, &me);
        (void)add(soak_total.dumps, UINT64_C(1));
        break;
    case 4: result = sch_trace_start(rt); break;
    case 5: result = sch_trace_stop(rt); break;
    case 6:
        result = sch_trace_write(rt, soak_written, &me);
        if (result == -EINVAL) result = 0; /* none was started */
        (void)add(soak_total.traces, UINT64_C(1));
        break;
    default: result = sch_metrics_write(rt, (sch_metrics_format)below(rng, 2), soak_written, &me);
    }
    if (result == -EBUSY) (void)add(soak_total.busy, UINT64_C(1));
    EXPECT(result == 0 || result == -EBUSY || (result == 1 && me.n == me.enough));
}

static void soak_body(void *arg) {
    soak_ticket *t = (soak_ticket *)arg;
    const sch_spawn_desc *desc = soak_desc(t);
    EXPECT_EQ(add(t->runs, 1u), 1);
    soak_land(t);
    EXPECT(strcmp(sch_task_name(sch_self()), desc ? desc->name : "") == 0);
    EXPECT_EQ((sch_worker_index() == UINT_MAX), t->kind == SOAK_JOB);
    soak_act(t, below(&t->rng, 9), t->kind == SOAK_JOB);
    EXPECT_EQ(get(t->drops), 0);
    t->ends++;
    soak_leave(t);
}

static sch_status soak_poll(sch_task *self, void *state);

static int soak_spawn_failed(soak_ticket *t, int error) {
    EXPECT(error == ESHUTDOWN || (error == EAGAIN && t->kind == SOAK_JOB));
    if (error == EAGAIN) (void)add(t->site->refused_jobs, UINT64_C(1));
    (void)add(soak_total.refused, UINT64_C(1));
    t->refused = true;
    EXPECT_EQ(get(t->runs), 0);
    if (t->kind != SOAK_NAKED) EXPECT_EQ(get(t->drops), 1);
    return error;
}

/* Spawn the ticket's task. detached: no handle is wanted (the result: was it taken?). */
static bool soak_spawn(soak_ticket *t, uint64_t *rng, bool detached, sch_task **out) {
    soak_site *s = t->site;
    const sch_spawn_desc *desc = soak_desc(t);
    sch_runtime *rt = get(s->rt);
    sch_task *task = NULL;
    int error = 0;
    soak_state state;
    if (t->kind == SOAK_NAKED) {
        if (detached && one_in(rng, 2)) {
            error = -sch_go(rt, soak_body, t);
        } else if (!(task = sch_spawn(rt, soak_body, t))) {
            error = sch_errno();
        }
    } else if (t->kind == SOAK_POLL) {
        state.ticket = t;
        state.size = soak_state_sizes[below(rng, t->site->timed ? 7 : 8)];
        memset(state.fill, (int)(t->rng & 0xff), sizeof state.fill);
        task = sch_spawn_poll_with(rt, desc, soak_poll, &state, state.size);
        if (!task) error = sch_errno();
    } else if (t->kind == SOAK_JOB) {
        task = sch_spawn_blocking_with(rt, desc, soak_body, t);
        if (!task) error = sch_errno();
        (void)add(soak_total.jobs, UINT64_C(1));
    } else if (detached && one_in(rng, 2)) {
        error = -sch_go_with(rt, desc, soak_body, t);
    } else if (!(task = sch_spawn_with(rt, desc, soak_body, t))) {
        error = sch_errno();
    }
    if (error) return soak_spawn_failed(t, error) == 0;
    (void)add(s->spawned, UINT64_C(1));
    if (detached) {
        sch_detach(task);
    } else {
        *out = task;
    }
    return true;
}

static void soak_plain(void *site) {
    (void)add(((soak_site *)site)->plain_done, UINT64_C(1));
    soak_progress();
}

/* Spawn tasks without records. From a hook the runtime may not be known yet: then rt is NULL. */
static void soak_flood(soak_site *s, sch_runtime *rt, unsigned n) {
    for (unsigned i = 0; i < n && !get(soak_late); i++) {
        int error = sch_go(rt, soak_plain, s);
        if (error) {
            EXPECT_EQ(error, -ESHUTDOWN);
            return;
        }
        (void)add(s->plain_spawned, UINT64_C(1));
    }
}

/* A child of the running task. It may be in another runtime. NULL: none is to be had. */
static soak_ticket *soak_child(soak_ticket *me, bool inside, soak_site *s) {
    soak_ticket *t = NULL;
    if (me->depth < SOAK_DEPTH && !get(soak_late)) t = soak_ticket_new(s, &me->rng, me->depth + 1);
    if (!t) return NULL;
    t->no_place = me->no_place || inside;
    if (t->no_place && t->kind == SOAK_JOB) t->kind = SOAK_NAMED;
    return t;
}

/* Wait for a call. shielded: a cancel cannot end it. */
static void soak_await(soak_ticket *me, soak_call *call, bool shielded) {
    if (shielded) EXPECT_EQ(sch_shield_begin(SCH_FOREVER), 0);
    while (!get(call->fired)) {
        int result;
        soak_leave(me);
        result = sch_suspend();
        soak_land(me);
        if (result == -ECANCELED) {
            EXPECT(!shielded);
            me->told = true;
            break;
        }
        EXPECT_EQ(result, 0);
    }
    if (shielded) sch_shield_end();
    soak_call_drop(call);
    (void)add(soak_total.waits, UINT64_C(1));
}

static soak_site *soak_any_site(uint64_t *rng) { return &soak_sites[below(rng, SOAK_SITES)]; }

/* Wait for a child's end by its drop function; now and then the child is in another runtime. */
static void soak_await_child(soak_ticket *me, bool inside) {
    soak_site *s = one_in(&me->rng, 3) ? soak_any_site(&me->rng) : me->site;
    bool away = s != me->site;
    soak_ticket *t;
    soak_call *call;
    if (away && !soak_pin(s, UINT32_MAX)) return;
    t = soak_child(me, inside, s);
    if (t) {
        if (t->kind == SOAK_NAKED) t->kind = SOAK_NAMED; /* the drop function is needed */
        call = t->call = soak_call_new();
        if (away) (void)add(soak_total.cross, UINT64_C(1));
        (void)soak_spawn(t, &me->rng, true, NULL); /* if it fails, the drop function was called */
        if (away) soak_unpin(s);
        soak_await(me, call, one_in(&me->rng, 4));
    } else if (away) {
        soak_unpin(s);
    }
}

/* Some children at once, all joined, some cancelled before. */
static void soak_fan(soak_ticket *me, bool inside) {
    soak_ticket *t[8];
    sch_task *task[8];
    unsigned n = 1 + below(&me->rng, 8), made = 0;
    for (unsigned i = 0; i < n; i++) {
        t[made] = soak_child(me, inside, me->site);
        if (t[made] && soak_spawn(t[made], &me->rng, false, &task[made])) made++;
    }
    for (unsigned i = 0; i < made; i++) {
        if (one_in(&me->rng, 6)) {
            int result = sch_cancel(task[i]);
            EXPECT(result == 0 || result == -ESRCH);
        }
    }
    for (unsigned i = made; i > 0; i--) {
        unsigned k = below(&me->rng, i); /* in any order */
        soak_join(me, &me->rng, task[k], t[k]);
        t[k] = t[i - 1], task[k] = task[i - 1];
    }
}

/* A child that goes its own way: detached, or for others to join, wake, cancel. */
static void soak_orphan(soak_ticket *me, bool inside) {
    soak_ticket *t = soak_child(me, inside, me->site);
    sch_task *task = NULL;
    if (!t) return;
    if (one_in(&me->rng, 2)) {
        (void)soak_spawn(t, &me->rng, true, NULL);
    } else if (soak_spawn(t, &me->rng, false, &task)) {
        soak_post(&me->rng, me->site, t, task, true);
    }
}

/* A frame that must be whole after a wait, perhaps on another thread. */
__attribute__((noinline)) static void soak_deep(soak_ticket *me, unsigned levels) {
    volatile unsigned char frame[512];
    unsigned char mark = (unsigned char)(me->rng + levels);
    memset((void *)(uintptr_t)frame, mark, sizeof frame);
    if (levels > 0) {
        soak_deep(me, levels - 1);
    } else {
        unsigned before = sch_worker_index();
        soak_leave(me);
        EXPECT_EQ(sch_yield_now(), 0);
        soak_land(me);
        if (sch_worker_index() != before) (void)add(soak_total.migrations, UINT64_C(1));
    }
    for (unsigned i = 0; i < sizeof frame; i += 37) {
        if (frame[i] != mark) {
            EXPECT_EQ(frame[i], mark);
            break;
        }
    }
}

/* Two tasks that wake each other by turns. Neither can be told that it was cancelled, and the one
 * that never starts says so by its drop function. */
typedef struct soak_duel {
    sch_task *parent;
    soak_site *site;
    unsigned rounds, turn, over; /* turn, over: atomic */
} soak_duel;

static void soak_duel_drop(void *arg) {
    soak_duel *d = (soak_duel *)arg;
    set(d->over, 1u);
    sch_wake(d->parent);
}

static void soak_duel_child(void *arg) {
    soak_duel *d = (soak_duel *)arg;
    EXPECT_EQ(sch_shield_begin(SCH_FOREVER), 0);
    for (unsigned i = 0; i < d->rounds; i++) {
        while (get(d->turn) != 1) EXPECT_EQ(sch_suspend(), 0);
        set(d->turn, 0u);
        sch_wake(d->parent);
    }
    sch_shield_end();
    (void)add(d->site->plain_done, UINT64_C(1));
}

static void soak_fight(soak_ticket *me) {
    static const sch_spawn_desc desc = {"duellist", SCH_HERE, 0, soak_duel_drop};
    soak_duel d = {sch_self(), me->site, 1 + below(&me->rng, 300), 0, 0};
    sch_task *child = sch_spawn_with(NULL, &desc, soak_duel_child, &d);
    int result;
    if (!child) return;
    (void)add(me->site->plain_spawned, UINT64_C(1));
    soak_leave(me);
    EXPECT_EQ(sch_shield_begin(SCH_FOREVER), 0);
    for (unsigned i = 0; i < d.rounds; i++) {
        while (get(d.turn) != 0 && !get(d.over)) EXPECT_EQ(sch_suspend(), 0);
        soak_progress();
        set(d.turn, 1u);
        sch_wake(child);
    }
    result = sch_join(child);
    sch_shield_end();
    soak_land(me);
    EXPECT(get(d.over));
    EXPECT(result == (get(d.turn) == 0 ? 0 : -ECANCELED)); /* its last turn was taken, or none */
}

/* Waits that need not wait: the budget makes the task yield. */
static void soak_rush(soak_ticket *me) {
    soak_leave(me);
    for (unsigned i = below(&me->rng, 3 * SCH_BUDGET); i > 0; i--) {
        sch_wake(sch_self());
        EXPECT_EQ(sch_suspend(), 0);
    }
    soak_land(me);
}

/* Block the thread until a child has ended: its core must run the child meanwhile. Not where time
 * stands still meanwhile. */
static void soak_sit(soak_ticket *me) {
    soak_ticket *t = me->site->driven || me->site->paused ? NULL : soak_child(me, true, me->site);
    soak_call *call;
    if (!t) return;
    if (t->kind == SOAK_NAKED) t->kind = SOAK_NAMED; /* the drop function is needed */
    call = t->call = soak_call_new();
    (void)soak_spawn(t, &me->rng, true, NULL);
    while (!get(call->fired)) usleep(20);
    soak_call_drop(call);
}

static void soak_blocked(void *arg) {
    soak_ticket *me = (soak_ticket *)arg;
    soak_land(me);
    EXPECT_EQ((sch_worker_index() == UINT_MAX), !me->site->driven || me->kind == SOAK_JOB);
    if (one_in(&me->rng, 4)) soak_sit(me);
    soak_act(me, below(&me->rng, 4), true);
    soak_leave(me);
}

static void soak_block(soak_ticket *me) {
    int result;
    soak_leave(me);
    result = sch_block_in_place(soak_blocked, me);
    soak_land(me);
    EXPECT(result == 0 || result == -EAGAIN);
    (void)add(soak_total.blocks, UINT64_C(1));
}

/* Time ------------------------------------------------------------------------------------------*/

/* What a wait has said: told, if it was cut off by a cancel. */
static bool soak_told(soak_ticket *me, int64_t result) {
    if (result == -ECANCELED) me->told = true;
    return result == -ECANCELED;
}

static void soak_sleep(soak_ticket *me) {
    uint64_t start = sch_now(), ns = below(&me->rng, 3) ? below(&me->rng, 100000)
                                                        : below(&me->rng, 5000000);
    int result;
    soak_leave(me);
    result = sch_sleep(ns);
    soak_land(me);
    (void)add(soak_total.sleeps, UINT64_C(1));
    if (soak_told(me, result)) return;
    EXPECT_EQ(result, 0);
    EXPECT(sch_now() >= start + ns);
}

/* Under a shield with a time a wait is cut off then, and no earlier; one without a cancel never. */
static void soak_shielded_sleep(soak_ticket *me) {
    uint64_t now = sch_now(), shield = now + below(&me->rng, 2000000),
             end = now + below(&me->rng, 3000000);
    int result;
    EXPECT_EQ(sch_shield_begin(shield), 0);
    if (one_in(&me->rng, 4)) { /* the latest counts */
        EXPECT_EQ(sch_shield_begin(shield / 2), 0);
        sch_shield_end();
    }
    soak_leave(me);
    result = sch_sleep_until(end);
    soak_land(me);
    now = sch_now();
    sch_shield_end();
    if (soak_told(me, result)) {
        (void)add(soak_total.cut_sleeps, UINT64_C(1));
        EXPECT(now >= shield);
    } else {
        EXPECT_EQ(result, 0);
        EXPECT(now >= end);
    }
}

static void soak_ticks(soak_ticket *me) {
    sch_interval tick;
    uint64_t first = sch_now();
    int result = 0;
    tick.period = 1 + below(&me->rng, 500000), tick.next = 0;
    tick.missed = (sch_missed)below(&me->rng, 3);
    for (unsigned i = 0; i < 4 && result == 0; i++) {
        soak_leave(me);
        result = sch_interval_wait(&tick);
        soak_land(me);
        if (soak_told(me, result)) break;
        EXPECT_EQ(result, 0);
        EXPECT(sch_now() >= first + i * tick.period);
        (void)add(soak_total.ticks, UINT64_C(1));
    }
}

/* The first of several timers, and a limit for all. */
static void soak_race(soak_ticket *me) {
    sch_timer timers[4];
    sch_op *ops[4];
    uint64_t now = sch_now(), limit = now + below(&me->rng, 2000000);
    unsigned n = 1 + below(&me->rng, 4);
    int result;
    for (unsigned i = 0; i < n; i++) {
        timers[i] = sch_timer_at(now + below(&me->rng, 2000000));
        ops[i] = &timers[i].op;
    }
    soak_leave(me);
    result = sch_await_any(ops, n, limit);
    soak_land(me);
    now = sch_now();
    (void)add(soak_total.limits, UINT64_C(1));
    for (unsigned i = 0; i < n; i++) {
        if (sch_op_is_done(ops[i])) EXPECT(now >= timers[i].until);
    }
    if (soak_told(me, result)) return;
    if (result == -ETIMEDOUT) {
        EXPECT(now >= limit);
        for (unsigned i = 0; i < n; i++) EXPECT(!sch_op_is_done(ops[i]));
    } else if (EXPECT(result >= 0 && (unsigned)result < n)) {
        EXPECT(sch_op_is_done(ops[result]));
        for (int i = 0; i < result; i++) EXPECT(!sch_op_is_done(ops[i]));
    }
}

/* Descriptors -----------------------------------------------------------------------------------*/

#define SOAK_STREAMS 60u /* at once: the process has a limit, and others need some */
static unsigned soak_streams; /* atomic */

typedef struct soak_stream {
    sch_io near, far;
    soak_site *site;
    uint64_t rng;
    uint64_t sent, received, echoed, returned; /* bytes */
    bool ran, ended, pipe; /* ended: the child has seen the end of its input */
} soak_stream;

static unsigned char soak_byte(uint64_t at) { return (unsigned char)(at * 11 + at / 255); }

/* One read, in one of several ways; the bytes must go on where those before ended. limited: not
 * longer than a moment. */
static int64_t soak_read(uint64_t *rng, sch_io *io, bool limited, uint64_t *total) {
    unsigned char bytes[600];
    size_t size = 1 + below(rng, sizeof bytes);
    sch_io_op op = sch_read_op(io, bytes, size);
    sch_timer timer = sch_timer_after(below(rng, 300000));
    sch_op *both[2] = {&op.op, &timer.op};
    int64_t n;
    switch (below(rng, limited ? 2 : 4)) {
    case 0: n = sch_timeout(&op.op, below(rng, 300000)); break;
    case 1:
        n = sch_await_any(both, 2, SCH_FOREVER);
        if (n >= 0) n = sch_op_is_done(&op.op) ? op.op.result : -ETIMEDOUT;
        break;
    case 2:
        n = sch_readable(io);
        if (n == 0) n = sch_read(io, bytes, size);
        break;
    default: n = sch_read(io, bytes, size); break;
    }
    for (int64_t i = 0; i < n; i++) {
        if (bytes[i] == soak_byte(*total + (uint64_t)i)) continue;
        EXPECT_EQ(bytes[i], soak_byte(*total + (uint64_t)i));
        break;
    }
    if (n > 0) *total += (uint64_t)n;
    return n;
}

/* Write some, at most so long. */
static int64_t soak_write(uint64_t *rng, sch_io *io, size_t size, uint64_t *total) {
    unsigned char bytes[3000];
    size_t written = 0;
    int64_t n;
    if (size > sizeof bytes) size = sizeof bytes;
    for (size_t i = 0; i < size; i++) bytes[i] = soak_byte(*total + i);
    if (one_in(rng, 3)) {
        n = sch_write(io, bytes, size);
        if (n > 0) written = (size_t)n;
    } else {
        n = sch_write_all_until(io, bytes, size,
                                one_in(rng, 2) ? SCH_FOREVER : sch_now() + below(rng, 500000),
                                &written);
        EXPECT(n < 0 || written == size);
    }
    *total += written;
    return n;
}

/* Reads to the end, and sends all back unless it is a pipe. */
static void soak_echo(void *arg) {
    soak_stream *st = (soak_stream *)arg;
    int64_t n = 1;
    st->ran = true;
    while (n > 0 || n == -ETIMEDOUT) {
        n = soak_read(&st->rng, &st->far, false, &st->received);
        while (!st->pipe && n != -ECANCELED && st->echoed < st->received) {
            int64_t w = soak_write(&st->rng, &st->far, (size_t)(st->received - st->echoed),
                                   &st->echoed);
            if (w < 0 && w != -ETIMEDOUT) n = w;
            if (w < 0 && w != -ETIMEDOUT) break;
        }
        soak_progress();
    }
    EXPECT(n == 0 || n == -ECANCELED || n == -EPIPE || n == -ECONNRESET || n == -EBADF);
    st->ended = n == 0;
}

static bool soak_open_stream(soak_stream *st) {
    int fds[2];
    st->pipe = one_in(&st->rng, 3);
    if ((st->pipe ? pipe(fds) : socketpair(AF_UNIX, SOCK_STREAM, 0, fds)) != 0) {
        soak_fail(__LINE__, "no descriptors: %d", errno);
        return false;
    }
    if (!EXPECT_EQ(sch_io_open(&st->far, NULL, fds[0]), 0)) return false;
    if (!EXPECT_EQ(sch_io_open(&st->near, NULL, fds[1]), 0)) return false;
    (void)add(st->site->io_opened, UINT64_C(2));
    return true;
}

static void soak_close(soak_site *s, sch_io *io) {
    EXPECT_EQ(sch_io_close(io), 0);
    EXPECT_EQ(sch_io_close(io), -EBADF);
    (void)add(s->io_closed, UINT64_C(1));
}

/* Talk to the echo while it lives. Returns false if we were cancelled. */
static bool soak_converse(soak_ticket *me, soak_stream *st) {
    for (unsigned i = below(&me->rng, 12); i > 0; i--) {
        int64_t n = 0;
        soak_leave(me);
        if (one_in(&me->rng, 2) || st->pipe) {
            n = soak_write(&me->rng, &st->near, below(&me->rng, 3000), &st->sent);
        } else if (st->returned < st->sent) {
            n = soak_read(&me->rng, &st->near, true, &st->returned);
        }
        soak_land(me);
        if (soak_told(me, n)) return false;
        EXPECT(n >= 0 || n == -ETIMEDOUT || n == -EPIPE || n == -ECONNRESET);
        if (n < 0 && n != -ETIMEDOUT) break; /* the echo was cancelled */
    }
    return true;
}

/* Bytes to a task and back; in the end one of both closes, or neither. A member of the family that
 * is cancelled ends with its end closed. */
static void soak_talk(soak_ticket *me) {
    static const sch_spawn_desc desc = {"echo", SCH_HERE, 0, NULL};
    soak_stream *st;
    sch_task *child = NULL;
    bool whole;
    int result = 0;
    if (add(soak_streams, 1u) > SOAK_STREAMS || !(st = (soak_stream *)calloc(1, sizeof *st))) {
        (void)add(soak_streams, -1u);
        return;
    }
    st->site = me->site, st->rng = soak_random(&me->rng);
    if (soak_open_stream(st)) child = sch_spawn_with(NULL, &desc, soak_echo, st);
    if (child) (void)add(me->site->plain_spawned, UINT64_C(1));
    whole = child && soak_converse(me, st);
    if (child) {
        if (one_in(&me->rng, 8)) {
            result = sch_cancel(child);
            EXPECT(result == 0 || result == -ESRCH);
        }
        if (!st->pipe && one_in(&me->rng, 2)) { /* to the end of what comes back */
            int64_t n = whole ? 1 : 0;
            EXPECT_EQ(sch_io_shutdown(&st->near, SHUT_WR), 0);
            while (n > 0 || n == -ETIMEDOUT) {
                soak_leave(me);
                n = soak_read(&me->rng, &st->near, true, &st->returned);
                soak_land(me);
                /* a child that is told leaves its end open, so it is looked at */
                if (n == -ETIMEDOUT && sch_is_done(child)) n = 0;
                if (soak_told(me, n)) whole = false;
                if (n == -ETIMEDOUT || n > 0) continue;
            }
        }
        if (one_in(&me->rng, 6)) soak_close(me->site, &st->far); /* under its hands */
        soak_close(me->site, &st->near);
        EXPECT_EQ(sch_shield_begin(SCH_FOREVER), 0);
        soak_leave(me);
        result = sch_join(child);
        soak_land(me);
        sch_shield_end();
        EXPECT(result == 0 || result == -ECANCELED);
        if (result == 0) (void)add(me->site->plain_done, UINT64_C(1));
        if (result == 0) EXPECT(st->ran);
        if (sch_io_fd(&st->far) >= 0) soak_close(me->site, &st->far);
        EXPECT(st->received <= st->sent && st->echoed <= st->received);
        EXPECT(st->returned <= st->echoed);
        if (st->ended) EXPECT_EQ(st->received, st->sent);
        (void)add(soak_total.streams, UINT64_C(1));
        (void)add(soak_total.bytes, st->received);
    } else if (sch_io_fd(&st->far) >= 0) {
        soak_close(me->site, &st->far);
        if (one_in(&me->rng, 2)) { /* else it stays open until the runtime is freed */
            soak_close(me->site, &st->near);
        }
    }
    free(st);
    (void)add(soak_streams, -1u);
}

/* The life of a task. inside: in a blocking job or blocking call. */
static void soak_act(soak_ticket *t, unsigned steps, bool inside) {
    uint64_t *rng = &t->rng;
    for (unsigned i = 0; i < steps; i++) {
        soak_progress();
        soak_stall(rng, t->site->calm);
        set(t->doing, below(rng, 31));
        switch (get(t->doing)) {
        case 0: case 1: case 2:
            soak_leave(t);
            EXPECT_EQ(sch_yield_now(), 0);
            soak_land(t);
            break;
        case 3: case 4: case 5: soak_fan(t, inside); break;
        case 6: case 7: soak_orphan(t, inside); break;
        case 8: case 9: soak_await_child(t, inside); break;
        case 10: case 11: {
            soak_call *call = soak_call_new();
            soak_ask_wakers(call);
            soak_await(t, call, one_in(rng, 8));
            break;
        }
        case 12: { /* a wake before the wait counts */
            int result;
            sch_wake(sch_self());
            soak_leave(t);
            result = sch_suspend();
            soak_land(t);
            EXPECT_EQ(result, 0);
            break;
        }
        case 13: case 14:
            if (!t->no_place && !inside) soak_block(t);
            if (inside && one_in(rng, 2)) soak_block(t); /* only a call there */
            if (inside) soak_sit(t);
            break;
        case 15: case 16: soak_poke(t, rng, true); break;
        case 17: soak_deep(t, below(rng, PROC_SANITIZED ? 4 : 12)); break;
        case 18: soak_post(rng, t->site, t, sch_retain(sch_self()), false); break;
        case 19: soak_flood(t->site, NULL, 1 + below(rng, one_in(rng, 8) ? 20000 : 50)); break;
        case 20: soak_fight(t); break;
        case 21: soak_rush(t); break;
        case 23: soak_sleep(t); break;
        case 24: soak_shielded_sleep(t); break;
        case 25: soak_ticks(t); break;
        case 26: case 27: soak_race(t); break;
        case 28: case 29: soak_talk(t); break;
        case 30:
            if (one_in(rng, 16)) soak_see(get(t->site->rt), rng);
            break;
        case 22: {
            sch_metrics_snapshot m;
            EXPECT_EQ(sch_metrics(get(t->site->rt), &m), 0);
            EXPECT(m.num_alive_tasks > 0);
            break;
        }
        default:
            EXPECT_EQ(sch_join(sch_self()), -EDEADLK);
            (void)sch_cancelled();
            break;
        }
    }
}

static void soak_nap(void *rng) { soak_stall((uint64_t *)rng, 1); }

/* A poll task's life: as long as polls are left, something that gets it polled again. */
static sch_status soak_poll(sch_task *self, void *memory) {
    soak_state *state = (soak_state *)memory;
    soak_ticket *t = state->ticket, *child;
    soak_call *call;
    unsigned filled = state->size - 16 < 4 ? 0 : state->size - 16;
    soak_land(t);
    soak_progress();
    (void)add(soak_total.polls, UINT64_C(1));
    if (get(t->runs) == 0) EXPECT_EQ(add(t->runs, 1u), 1);
    EXPECT(sch_task_state(self) == memory && sch_self() == self);
    for (unsigned i = 0; i < filled; i += 97) EXPECT_EQ(state->fill[i], state->fill[0]);
    soak_stall(&t->rng, t->site->calm);
    if (t->polls_left == 0 || (sch_cancelled() && one_in(&t->rng, 2))) {
        t->ends++;
        soak_leave(t);
        return SCH_READY;
    }
    t->polls_left--;
    switch (below(&t->rng, 8)) {
    case 0:
        EXPECT_EQ(sch_suspend(), -EPERM);
        EXPECT_EQ(sch_yield_now(), 0);
        break;
    case 1: sch_wake(self); break;
    case 2: case 3:
        call = soak_call_new();
        soak_call_drop(call); /* nobody waits for it to be fired */
        soak_ask_wakers(call);
        break;
    case 4: case 5:
        child = soak_child(t, false, t->site);
        if (child) {
            if (child->kind == SOAK_NAKED) child->kind = SOAK_NAMED;
            child->call = call = soak_call_new();
            soak_call_drop(call);
            (void)soak_spawn(child, &t->rng, true, NULL);
            break;
        } /* fallthrough */
    case 6: {
        int result = sch_block_in_place(soak_nap, &t->rng);
        EXPECT(result == 0 || result == -EAGAIN);
        soak_poke(NULL, &t->rng, false);
        sch_wake(self);
        break;
    }
    default:
        soak_post(&t->rng, t->site, t, sch_retain(self), false);
        EXPECT_EQ(sch_yield_now(), 0);
        break;
    }
    soak_leave(t);
    return SCH_PENDING;
}

/* Runtimes --------------------------------------------------------------------------------------*/

static void *soak_alloc(size_t size, size_t align, void *site) {
    void *memory = schi_libc_alloc(size, align, NULL);
    if (memory)
        (void)add(((soak_site *)site)->bytes, size), (void)add(((soak_site *)site)->blocks, 1u);
    return memory;
}

static void soak_free(void *memory, size_t size, size_t align, void *site) {
    (void)add(((soak_site *)site)->bytes, -(uint64_t)size);
    (void)add(((soak_site *)site)->blocks, -UINT64_C(1));
    schi_libc_free(memory, size, align, NULL);
}

static void *soak_map(size_t size, void *site) {
    void *memory = schi_map_pages(size, NULL);
    if (memory)
        (void)add(((soak_site *)site)->bytes, size), (void)add(((soak_site *)site)->blocks, 1u);
    return memory;
}

static void soak_unmap(void *memory, size_t size, void *site) {
    (void)add(((soak_site *)site)->bytes, -(uint64_t)size);
    (void)add(((soak_site *)site)->blocks, -UINT64_C(1));
    schi_unmap_pages(memory, size, NULL);
}

#define SOAK_HOOK(name, kind, index, type, extra)         \
    static void soak_hook_##name(void *site, type what) { \
        soak_site *s = (soak_site *)site;                 \
        (void)what;                                       \
        uint64_t n = add(s->hook_##kind[index], UINT64_C(1)); \
        (void)n;                                          \
        extra;                                            \
    }
SOAK_HOOK(start, thread, 0, unsigned, (void)0)
SOAK_HOOK(stop, thread, 1, unsigned, (void)0)
SOAK_HOOK(park, thread, 2, unsigned, if (n % 64 == 0) soak_flood(s, NULL, 1))
SOAK_HOOK(unpark, thread, 3, unsigned, (void)0)
SOAK_HOOK(spawned, task, 0, sch_task *, EXPECT_EQ(sch_yield_now(), -EPERM))
SOAK_HOOK(poll_start, task, 1, sch_task *, (void)0)
SOAK_HOOK(poll_end, task, 2, sch_task *, (void)0)
SOAK_HOOK(terminated, task, 3, sch_task *, n *= s->seed;
          if (n % 16 == 0) soak_poke(NULL, &n, false))

static void soak_stalled(const sch_stall *stall, void *user) {
    EXPECT(stall->ns >= SCH_MILLISECOND && stall->left <= stall->queued && stall->name);
    (void)user;
    (void)add(soak_total.stalls, UINT64_C(1));
}

static sch_config soak_config(soak_site *s, uint64_t *rng) {
    sch_config c;
    memset(&c, 0, sizeof c);
    s->driven = one_in(rng, 5);
    s->hooked = one_in(rng, 3), s->counted = one_in(rng, 2);
    c.flavor = s->driven ? SCH_CURRENT_THREAD : SCH_MULTI_THREAD;
    c.workers = s->driven ? 1 : 1 + below(rng, soak_max_workers);
    c.max_blocking_threads = 1 + below(rng, 16);
    c.keep_alive_ns = SCH_MICROSECOND * (100 + below(rng, 20000));
    c.stack_size = PROC_SANITIZED ? 131072 : 32768u << below(rng, 3);
    if (one_in(rng, 2)) c.global_queue_interval = 1 + below(rng, 64);
    if (one_in(rng, 2)) c.event_interval = 1 + below(rng, 61);
    c.no_lifo = one_in(rng, 4);
    c.no_standby = one_in(rng, 4);
    c.pin_workers = one_in(rng, 8);
    c.paused_clock = s->paused = one_in(rng, 6);
    if (c.paused_clock) (void)add(soak_total.paused, UINT64_C(1));
    c.task_times = s->timed = one_in(rng, 3);
    c.trace_events = 64u << below(rng, 8);
    if (one_in(rng, 4)) {
        c.stall_ns = SCH_MILLISECOND * (1 + below(rng, 5));
        c.on_stall = soak_stalled;
        /* the sanitizers' own work may be interrupted, too */
        if (!PROC_SANITIZED) c.stack_signal = SIGURG;
    }
    c.seed = soak_random(rng);
    c.thread_name = "soak";
    c.standby_period_ns = SCH_MICROSECOND * (100 + below(rng, 5000));
    c.thread_stack_size = 262144;
    if (s->counted) {
        c.allocator.alloc = soak_alloc, c.allocator.free = soak_free;
        c.allocator.map_pages = soak_map, c.allocator.unmap_pages = soak_unmap;
        c.allocator.user = s;
    }
    if (s->hooked) {
        c.hooks.on_thread_start = soak_hook_start, c.hooks.on_thread_stop = soak_hook_stop;
        c.hooks.on_thread_park = soak_hook_park, c.hooks.on_thread_unpark = soak_hook_unpark;
        c.hooks.on_task_spawn = soak_hook_spawned, c.hooks.on_task_terminate = soak_hook_terminated;
        c.hooks.on_task_poll_start = soak_hook_poll_start;
        c.hooks.on_task_poll_end = soak_hook_poll_end;
        c.hooks.user = s;
    }
    return c;
}

/* Counters that never go back, as numbers. */
#define SOAK_COUNTERS 26
static void soak_counters(const sch_metrics_snapshot *m, uint64_t *out) {
    const sch_worker_metrics_snapshot *w = &m->total;
    const uint64_t all[SOAK_COUNTERS] = {
        w->poll_count, w->lifo_poll_count, w->lifo_capped_count, w->local_schedule_count,
        w->overflow_count, w->steal_operations, w->steal_count, w->lifo_steal_count,
        w->injector_count, w->park_count, w->park_unpark_count, w->noop_count, w->lend_count,
        w->lend_taken_count, w->handoff_count, w->wake_count, w->forced_yield_count,
        w->maintenance_count, w->ended_count, w->busy_ns, m->spawned_tasks_count,
        m->cancelled_tasks_count, m->remote_schedule_count, m->remote_wake_count,
        m->standby_alarm_count, m->standby_rescue_count};
    memcpy(out, all, sizeof all);
}

static void soak_look(sch_runtime *rt, uint64_t *seen) {
    sch_metrics_snapshot m;
    uint64_t now[SOAK_COUNTERS];
    EXPECT_EQ(sch_metrics(rt, &m), 0);
    soak_counters(&m, now);
    for (int i = 0; i < SOAK_COUNTERS; i++) {
        if (now[i] < seen[i]) soak_fail(__LINE__, "counter %d went back by %llu", i,
                                        (unsigned long long)(seen[i] - now[i]));
        seen[i] = now[i];
    }
    EXPECT(m.num_idle_workers <= m.num_workers && m.num_searching <= m.num_workers);
    EXPECT(m.stack_free_count <= m.stack_count);
}

/* Everything of this runtime has ended: the books must balance. */
static void soak_audit_metrics(soak_site *s, sch_runtime *rt, uint64_t cancelled) {
    sch_metrics_snapshot m;
    EXPECT_EQ(sch_metrics(rt, &m), 0);
    EXPECT_EQ(m.spawned_tasks_count,
              get(s->spawned) + get(s->refused_jobs) + get(s->plain_spawned));
    EXPECT_EQ(m.cancelled_tasks_count, cancelled + get(s->refused_jobs));
    EXPECT_EQ(m.num_alive_tasks, 0);
    EXPECT_EQ(m.injection_queue_depth, 0);
    EXPECT_EQ(m.blocking_queue_depth, 0);
    EXPECT_EQ(m.num_blocking_threads, 0);
    EXPECT_EQ(m.num_idle_workers, m.num_workers);
    EXPECT_EQ(m.num_searching, 0);
    EXPECT_EQ(m.timer_count, 0);
    EXPECT_EQ(m.io_opened_count, get(s->io_opened));
    EXPECT_EQ(m.io_closed_count, get(s->io_closed));
    EXPECT_EQ(m.total.local_queue_depth, 0);
    EXPECT(m.total.lifo_poll_count <= m.total.poll_count);
    EXPECT(m.total.steal_operations <= m.total.steal_count);
    EXPECT(m.total.lifo_steal_count <= m.total.steal_count);
    EXPECT(m.total.lend_taken_count <= m.total.lend_count);
    EXPECT_EQ(sch_stragglers(rt, NULL, 0), 0);
    (void)add(soak_total.steals, m.total.steal_count);
    (void)add(soak_total.lifo_steals, m.total.lifo_steal_count);
    (void)add(soak_total.handoffs, m.total.handoff_count);
    (void)add(soak_total.lends, m.total.lend_count);
    (void)add(soak_total.lends_taken, m.total.lend_taken_count);
    (void)add(soak_total.overflows, m.total.overflow_count);
    (void)add(soak_total.parks, m.total.park_count);
    (void)add(soak_total.rescues, m.standby_rescue_count);
    (void)add(soak_total.forced_yields, m.total.forced_yield_count);
    (void)add(soak_total.injected, m.total.injector_count);
    (void)add(soak_total.capped, m.total.lifo_capped_count);
    (void)add(soak_total.events, m.io_event_count);
}

/* Each ticket by itself. Returns how many tasks were cancelled. */
static uint64_t soak_audit_tickets(soak_site *s) {
    unsigned n = get(s->used) < s->limit ? s->used : s->limit;
    uint64_t cancelled = get(s->plain_spawned) - get(s->plain_done), spawned = 0;
    EXPECT(get(s->plain_done) <= get(s->plain_spawned));
    for (unsigned i = 0; i < n; i++) {
        soak_ticket *t = &s->tickets[i];
        unsigned runs = get(t->runs);
        EXPECT_EQ(get(t->drops), t->kind != SOAK_NAKED);
        EXPECT_EQ(get(t->on_cpu), 0);
        EXPECT(runs <= 1 && t->ends <= runs);
        if (t->kind != SOAK_POLL) EXPECT_EQ(t->ends, runs);
        EXPECT(!t->call);
        if (t->refused) {
            EXPECT(runs == 0 && t->result == 0);
            continue;
        }
        spawned++;
        if (t->result) EXPECT_EQ(t->result == 2, soak_was_cancelled(t));
        if (soak_was_cancelled(t)) cancelled++;
    }
    EXPECT_EQ(spawned, get(s->spawned));
    return cancelled;
}

static void soak_audit(soak_site *s, sch_runtime *rt) {
    uint64_t cancelled = soak_audit_tickets(s), all = s->spawned + s->plain_spawned;
    if (rt) soak_audit_metrics(s, rt, cancelled);
    (void)add(soak_total.tasks, all);
    (void)add(soak_total.cancelled, cancelled);
    (void)add(soak_total.completed, all - cancelled);
}

static void soak_audit_hooks(soak_site *s) {
    const uint64_t *thread = s->hook_thread, *task = s->hook_task;
    uint64_t all = s->spawned + s->refused_jobs + s->plain_spawned;
    EXPECT_EQ(get(thread[0]), get(thread[1]));
    EXPECT_EQ(get(thread[2]), get(thread[3]));
    EXPECT_EQ(get(task[0]), s->hooked ? all : 0);
    EXPECT_EQ(get(task[3]), s->hooked ? all : 0);
    EXPECT_EQ(get(task[1]), get(task[2]));
}

/* A task from outside: joined at once or later by somebody. */
static void soak_root(soak_site *s, uint64_t *rng) {
    soak_ticket *t = soak_ticket_new(s, rng, below(rng, 3));
    sch_task *task = NULL;
    if (!t || !soak_spawn(t, rng, false, &task)) return;
    if (one_in(rng, 8)) {
        soak_join(NULL, rng, task, t);
    } else {
        soak_post(rng, s, t, task, true);
    }
}

typedef struct soak_visit {
    soak_site *site;
    uint64_t rng;
} soak_visit;

/* In sch_block_on. */
static void soak_visitor(void *arg) {
    soak_visit *v = (soak_visit *)arg;
    for (unsigned i = below(&v->rng, 6); i > 0; i--) {
        soak_progress();
        if (!v->site->paused && one_in(&v->rng, 4)) { /* after a shutdown nobody moves that time */
            uint64_t end = sch_now() + below(&v->rng, 1000000);
            EXPECT_EQ(sch_sleep_until(end), 0);
            EXPECT(sch_now() >= end);
        } else if (one_in(&v->rng, 3)) {
            soak_root(v->site, &v->rng);
        } else {
            EXPECT_EQ(sch_yield_now(), 0);
        }
    }
}

static void soak_visit_site(soak_site *s, uint64_t *rng) {
    soak_visit v = {s, soak_random(rng)};
    int result = sch_block_on(get(s->rt), soak_visitor, &v);
    EXPECT(result == 0 || result == -ESHUTDOWN || result == -EAGAIN);
}

/* As a foreign loop does, but that it does not wait. */
static void soak_slice(soak_site *s, uint64_t *rng) {
    sch_runtime *rt = get(s->rt);
    int result;
    if (one_in(rng, 4)) EXPECT(sch_poll_fd(rt) >= 0);
    result = sch_run_some(rt, below(rng, 200000));
    EXPECT(result == 0 || result == 1 || result == -EBUSY || result == -EAGAIN ||
           result == -ESHUTDOWN);
    (void)sch_next_deadline(rt);
    (void)add(soak_total.slices, UINT64_C(1));
}

static void soak_end_from_inside(void *site) {
    soak_site *s = (soak_site *)site;
    sch_runtime *rt = get(s->rt);
    (void)add(s->plain_done, UINT64_C(1));
    if (s->seed % 2) {
        EXPECT_EQ(sch_runtime_shutdown(rt, SCH_FOREVER), -EINPROGRESS);
    } else {
        sch_runtime_free(rt); /* only begins */
    }
}

static void soak_drain(void *site) {
    soak_site *s = (soak_site *)site;
    while (sch_num_alive_tasks(get(s->rt)) > 0) {
        /* while somebody runs, time that was paused stands still */
        if (s->paused || s->seed % 4 == 1) {
            EXPECT_EQ(sch_sleep(SCH_MILLISECOND), 0);
        } else {
            EXPECT_EQ(sch_yield_now(), 0);
        }
    }
}

/* Begin the end in one of several ways; sch_runtime_shutdown or _free is to follow. */
static void soak_shut_down(soak_site *s, sch_runtime *rt, uint64_t *rng) {
    unsigned way = below(rng, 5);
    int result;
    if (way == 0) { /* all tasks end by themselves */
        if (s->driven) {
            EXPECT_EQ(sch_block_on(rt, soak_drain, s), 0);
        } else {
            while (sch_num_alive_tasks(rt) > 0) usleep(100);
        }
    } else if (way == 1) {
        if (sch_go(rt, soak_end_from_inside, s) == 0) (void)add(s->plain_spawned, UINT64_C(1));
    }
    if (one_in(rng, 2)) set(s->ending, 1u);
    if (way >= 2) {
        sch_straggler stragglers[8];
        for (unsigned i = below(rng, 8); i > 0; i--) {
            result =
                sch_runtime_shutdown(rt, below(rng, 2) ? 0 : SCH_MICROSECOND * below(rng, 500));
            EXPECT(result == 0 || result == -ETIMEDOUT);
            if (result == 0) break;
            (void)add(soak_total.time_outs, UINT64_C(1));
            (void)add(soak_total.stragglers, sch_stragglers(rt, stragglers, 8));
        }
    }
}

/* One runtime from its making to its end. */
static void soak_runtime(soak_site *s, uint64_t seed) {
    uint64_t rng = seed, seen[SOAK_COUNTERS] = {0}, end;
    sch_config config;
    sch_runtime *rt;
    unsigned size = below(&rng, 4);
    s->seed = seed | 1;
    s->generation++;
    s->limit = size == 0 ? 20 : size == 1 ? 300 : size == 2 ? 3000 : soak_max_tickets;
    if (s->limit > soak_max_tickets) s->limit = soak_max_tickets;
    s->calm = 1u << (below(&rng, 3) * 5);
    s->used = 0, s->ending = 0;
    s->spawned = s->refused_jobs = s->plain_spawned = s->plain_done = 0;
    s->io_opened = s->io_closed = 0;
    memset(s->hook_thread, 0, sizeof s->hook_thread);
    memset(s->hook_task, 0, sizeof s->hook_task);
    config = soak_config(s, &rng);
    EXPECT(sch_config_error(&config) == NULL);
    rt = sch_runtime_new(&config);
    if (!rt) {
        EXPECT_EQ(errno, EAGAIN);
        return;
    }
    EXPECT_EQ(sch_num_workers(rt), config.workers);
    set(s->rt, rt);
    set(s->pins, SOAK_OPEN);
    end = sch_now() + SCH_MICROSECOND * (below(&rng, 4) ? below(&rng, 60000) : below(&rng, 2000));
    do {
        soak_progress();
        switch (below(&rng, s->driven ? 9 : 7)) {
        case 7: case 8: soak_slice(s, &rng); break;
        case 6: soak_see(rt, &rng); break;
        case 0: case 1:
            for (unsigned i = below(&rng, 20); i > 0; i--) soak_root(s, &rng);
            break;
        case 2: soak_visit_site(s, &rng); break;
        case 3: soak_flood(s, rt, 1 + below(&rng, 2000)); break;
        case 4: soak_look(rt, seen); break;
        default: soak_stall(&rng, 1); break;
        }
    } while (sch_now() < end && get(s->used) < s->limit && !get(soak_late));
    __atomic_fetch_and(&s->pins, ~SOAK_OPEN, __ATOMIC_ACQ_REL);
    soak_shut_down(s, rt, &rng);
    if (one_in(&rng, 4)) { /* freed with everything in flight, but for visits, which must be over */
        while (s->driven && get(s->pins) > 0) usleep(50);
        if (get(s->pins) == 0) {
            sch_runtime_free(rt);
            set(s->rt, NULL);
            soak_audit(s, NULL);
            rt = NULL;
        }
    }
    if (rt) {
        EXPECT_EQ(sch_runtime_shutdown(rt, SCH_FOREVER), 0);
        while (get(s->pins) > 0) usleep(50);
        soak_look(rt, seen);
        soak_audit(s, rt);
        EXPECT_EQ(sch_runtime_shutdown(rt, 0), 0);
        EXPECT_EQ(sch_go(rt, soak_plain, s), -ESHUTDOWN);
        sch_runtime_free(rt);
        set(s->rt, NULL);
    }
    soak_audit_hooks(s);
    (void)add(soak_total.runtimes, UINT64_C(1));
    if (s->driven) (void)add(soak_total.driven, UINT64_C(1));
}

/* Rounds ----------------------------------------------------------------------------------------*/

static unsigned soak_over; /* atomic: the directors are done */

static void *soak_director(void *argument) {
    soak_visit *v = (soak_visit *)argument;
    do {
        soak_runtime(v->site, soak_random(&v->rng));
    } while (sch_now() < get(soak_round_ends));
    return NULL;
}

/* From outside: whatever may be done to a runtime that is not ours. */
static void *soak_poker(void *cell) {
    uint64_t rng = soak_seed * 3 + (uintptr_t)cell;
    soak_cell_open((soak_cell *)cell);
    while (!get(soak_over)) {
        soak_site *s = soak_any_site(&rng);
        soak_stall(&rng, 1);
        if (get(soak_late)) { /* what hangs must be quiet */
            usleep(1000);
            continue;
        }
        if (one_in(&rng, 3)) usleep(below(&rng, 300));
        if (one_in(&rng, 2)) {
            soak_poke(NULL, &rng, true);
            continue;
        }
        if (!soak_pin(s, UINT32_MAX)) continue;
        switch (below(&rng, 7)) {
        case 5: case 6: soak_see(get(s->rt), &rng); break;
        case 0: soak_root(s, &rng); break;
        case 1: soak_visit_site(s, &rng); break;
        case 2: soak_flood(s, get(s->rt), 1 + below(&rng, 100)); break;
        case 3: (void)sch_stragglers(get(s->rt), NULL, 0); break;
        default: {
            uint64_t seen[SOAK_COUNTERS] = {0};
            soak_look(get(s->rt), seen);
            break;
        }
        }
        while (get(s->ending) && one_in(&rng, 2)) {
            int result = sch_runtime_shutdown(get(s->rt), SCH_MICROSECOND * below(&rng, 300));
            EXPECT(result == 0 || result == -ETIMEDOUT || result == -EAGAIN);
        }
        soak_unpin(s);
    }
    soak_cell_close((soak_cell *)cell);
    return NULL;
}

static pthread_t soak_thread(void *(*run)(void *), void *arg) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, arg)) abort();
    return thread;
}

static void soak_round(uint64_t *rng, uint64_t ns) {
    const unsigned n = 1 + below(rng, SOAK_SITES);
    pthread_t directors[SOAK_SITES], wakers[SOAK_WAKERS], pokers[SOAK_POKERS];
    soak_visit visits[SOAK_SITES];
    soak_queue.over = false, soak_over = 0;
    set(soak_round_ends, sch_now() + ns);
    set(soak_late, 0u);
    for (int i = 0; i < SOAK_WAKERS; i++) wakers[i] = soak_thread(soak_waker, &soak_cells[i]);
    for (int i = 0; i < SOAK_POKERS; i++) {
        pokers[i] = soak_thread(soak_poker, &soak_cells[SOAK_WAKERS + i]);
    }
    for (unsigned i = 0; i < n; i++) {
        visits[i].site = &soak_sites[i], visits[i].rng = soak_random(rng);
        directors[i] = soak_thread(soak_director, &visits[i]);
    }
    for (unsigned i = 0; i < n; i++) pthread_join(directors[i], NULL);
    set(soak_over, 1u);
    for (int i = 0; i < SOAK_POKERS; i++) pthread_join(pokers[i], NULL);
    pthread_mutex_lock(&soak_queue.lock);
    soak_queue.over = true;
    pthread_cond_broadcast(&soak_queue.changed);
    pthread_mutex_unlock(&soak_queue.lock);
    for (int i = 0; i < SOAK_WAKERS; i++) pthread_join(wakers[i], NULL);
    for (unsigned i = 0; i < SOAK_BOARD; i++) {
        sch_release(soak_board[i].task);
        soak_board[i].task = NULL;
    }
    for (unsigned i = 0; i < SOAK_SITES; i++) {
        EXPECT_EQ(get(soak_sites[i].bytes), 0);
        EXPECT_EQ(get(soak_sites[i].blocks), 0);
        soak_sites[i].bytes = soak_sites[i].blocks = 0;
    }
}

/* The watchdog ----------------------------------------------------------------------------------*/

static void soak_dump(void) {
    fprintf(stderr, "hang: nothing has happened for %u seconds (SEED=%llu)\n", soak_hang_seconds,
            (unsigned long long)soak_seed);
    for (unsigned i = 0; i < SOAK_SITES; i++) {
        soak_site *s = &soak_sites[i];
        sch_runtime *rt = get(s->rt);
        sch_metrics_snapshot m;
        sch_straggler who[20];
        size_t n;
        fprintf(stderr,
                "site %u: runtime %p, pins %x, driven %d, paused %d, tickets %u, "
                "spawned %llu+%llu\n",
                i, (void *)rt, get(s->pins), s->driven, s->paused, get(s->used),
                (unsigned long long)get(s->spawned), (unsigned long long)get(s->plain_spawned));
        if (!rt || sch_metrics(rt, &m) != 0) continue;
        fprintf(stderr,
                "  alive %zu, workers %zu (idle %zu, searching %zu), injector %zu, queued %zu\n"
                "  timers %llu, descriptors %llu\n"
                "  worker threads %zu, pool %zu (idle %zu, queued %zu), polls %llu, parks %llu\n",
                m.num_alive_tasks, m.num_workers, m.num_idle_workers, m.num_searching,
                m.injection_queue_depth, m.total.local_queue_depth,
                (unsigned long long)m.timer_count,
                (unsigned long long)(m.io_opened_count - m.io_closed_count), m.num_worker_threads,
                m.num_blocking_threads, m.num_idle_blocking_threads, m.blocking_queue_depth,
                (unsigned long long)m.total.poll_count, (unsigned long long)m.total.park_count);
        for (unsigned w = 0; w < m.num_workers; w++) {
            sch_worker_metrics_snapshot one;
            if (sch_worker_metrics(rt, w, &one) != 0) continue;
            fprintf(stderr, "  worker %u: thread %lld, polls %llu, queued %zu, park_unpark %llu\n",
                    w, (long long)one.thread, (unsigned long long)one.poll_count,
                    one.local_queue_depth, (unsigned long long)one.park_unpark_count);
        }
        for (unsigned k = 0; k < get(s->used) && k < s->limit; k++) {
            const soak_ticket *t = &s->tickets[k];
            if (get(t->runs) == t->ends) continue;
            fprintf(stderr, "  ticket %u: kind %d, does %u, running %u\n", k, (int)t->kind,
                    get(t->doing), get(t->on_cpu));
        }
        n = sch_stragglers(rt, who, 20);
        for (size_t k = 0; k < n && k < 20; k++) {
            fprintf(stderr, "  straggler \"%s\", worker %d\n", who[k].name, (int)who[k].worker);
        }
    }
}

static unsigned soak_stop_watching; /* atomic */

/* Counts its own seconds: those in which the whole process was stopped do not. */
static void *soak_watchdog(void *unused) {
    uint64_t last = 0;
    unsigned still = 0;
    while (!get(soak_stop_watching)) {
        uint64_t now = get(soak_total.progress);
        still = now == last ? still + 1 : 0;
        last = now;
        if (still >= soak_hang_seconds * 50) {
            soak_dump();
            abort();
        }
        if (sch_now() > get(soak_round_ends) + 50 * SCH_MILLISECOND) set(soak_late, 1u);
        usleep(20000);
    }
    return unused;
}

/* Growth ----------------------------------------------------------------------------------------*/

static int soak_compare(const void *a, const void *b) {
    long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}

static long soak_median(const long *values, size_t n) {
    long copy[4096], middle;
    n = n < 4096 ? n : 4096;
    memcpy(copy, values, n * sizeof *copy);
    qsort(copy, n, sizeof *copy, soak_compare);
    middle = copy[n / 2];
    return middle;
}

/* After the first quarter, the warm-up, compare the medians of the first and the last third. */
static void soak_growth(const char *what, const long *values, size_t n, long per_cent, long slack) {
    const size_t warm = n / 4, third = (n - warm) / 3;
    long first, last;
    if (n < 12) {
        printf("%s: %zu rounds are too few to speak of growth\n", what, n);
        return;
    }
    first = soak_median(values + warm, third);
    last = soak_median(values + n - third, third);
    printf("%s: %ld after the warm-up, %ld at the end (%zu rounds)\n", what, first, last, n);
    if (last > first + first * per_cent / 100 + slack) {
        soak_fail(__LINE__, "%s has grown from %ld to %ld", what, first, last);
    }
}

#define SOAK_SAMPLES 100000
static long soak_rss[SOAK_SAMPLES], soak_mappings[SOAK_SAMPLES];

static void soak_report(uint64_t seconds_ns, size_t rounds) {
#define n(name) (unsigned long long)soak_total.name
    printf("%zu rounds, %.1f s; runtimes %llu (%llu driven by their callers)\n", rounds,
           (double)seconds_ns * 1e-9, n(runtimes), n(driven));
    printf("tasks %llu = %llu completed + %llu cancelled; refused %llu; jobs %llu; polls %llu\n",
           n(tasks), n(completed), n(cancelled), n(refused), n(jobs), n(polls));
    printf("joins %llu, waits %llu, wakes %llu, by signal %llu, pokes %llu, across runtimes %llu\n",
           n(joins), n(waits), n(wakes), n(signals), n(pokes), n(cross));
    printf("steals %llu (lifo %llu), overflows %llu, injected %llu, rescues %llu, parks %llu\n",
           n(steals), n(lifo_steals), n(overflows), n(injected), n(rescues), n(parks));
    printf("blocking calls %llu: handoffs %llu, lends %llu (taken %llu)\n", n(blocks), n(handoffs),
           n(lends), n(lends_taken));
    printf("sleeps %llu (cut off by a shield's end %llu), races %llu, ticks %llu, paused %llu\n",
           n(sleeps), n(cut_sleeps), n(limits), n(ticks), n(paused));
    printf("streams %llu, bytes %llu, events %llu, slices of foreign loops %llu\n", n(streams),
           n(bytes), n(events), n(slices));
    printf("looks: walks %llu (tasks shown %llu), dumps %llu, traces %llu, bytes %llu; met another "
           "walk %llu; stalls %llu\n",
           n(walks), n(shown), n(dumps), n(traces), n(written), n(busy), n(stalls));
    printf("migrations seen %llu, forced yields %llu, lifo capped %llu, shutdowns timed out %llu\n",
           n(migrations), n(forced_yields), n(capped), n(time_outs));
#undef n
    EXPECT_EQ(soak_total.tasks, soak_total.completed + soak_total.cancelled);
}

static unsigned soak_number(const char *text, unsigned instead) {
    return text && *text ? (unsigned)strtoul(text, NULL, 0) : instead;
}

int main(int argc, char **argv) {
    unsigned seconds = soak_number(getenv("BUDGET"), 10);
    const char *seed = getenv("SEED");
    uint64_t start = sch_now(), rng, end;
    size_t rounds = 0;
    pthread_t watchdog;
    proc_usage before, now;
    struct sigaction action;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seconds") == 0) seconds = soak_number(argv[i + 1], seconds);
        if (strcmp(argv[i], "--workers") == 0) soak_max_workers = soak_number(argv[i + 1], 8);
        if (strcmp(argv[i], "--tickets") == 0) soak_max_tickets = soak_number(argv[i + 1], 1000);
        if (strcmp(argv[i], "--limit") == 0) soak_hang_seconds = soak_number(argv[i + 1], 60);
    }
    if (soak_max_tickets > SOAK_TICKETS) soak_max_tickets = SOAK_TICKETS;
    soak_seed = seed && *seed ? strtoull(seed, NULL, 0) : schi_entropy();
    rng = soak_seed;
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    printf("SEED=%llu, %u seconds\n", (unsigned long long)soak_seed, seconds);
    for (unsigned i = 0; i < SOAK_BOARD; i++) pthread_mutex_init(&soak_board[i].lock, NULL);
    memset(soak_sites, 0, sizeof soak_sites);
    memset(soak_rss, 0, sizeof soak_rss), memset(soak_mappings, 0, sizeof soak_mappings);
    memset(&action, 0, sizeof action);
    action.sa_handler = soak_on_signal;
    sigaction(SIGUSR1, &action, NULL);
    watchdog = soak_thread(soak_watchdog, NULL);
    before = proc_now();
    end = start + seconds * SCH_SECOND;
    do {
        soak_round(&rng, SCH_MILLISECOND * (20 + below(&rng, seconds < 30 ? 150 : 300)));
        now = proc_settled(before.threads);
        EXPECT_EQ(now.fds, before.fds);
        EXPECT_EQ(now.threads, before.threads);
        if (rounds < SOAK_SAMPLES) {
            soak_rss[rounds] = now.rss_kb, soak_mappings[rounds] = now.mappings;
        }
        rounds++;
    } while (sch_now() < end && get(soak_failures) == 0);
    set(soak_stop_watching, 1u);
    pthread_join(watchdog, NULL);
    soak_report(sch_now() - start, rounds);
    if (!PROC_SANITIZED) {
        soak_growth("resident KiB", soak_rss, rounds, 1, 1024);
        soak_growth("mappings", soak_mappings, rounds, 0, 8);
    }
    printf("descriptors %d, threads %d, as at the start\n", now.fds, now.threads);
    printf("%s soak: %llu tasks in %llu runtimes, %u failures\n", soak_failures ? "FAIL" : "ok",
           (unsigned long long)soak_total.tasks, (unsigned long long)soak_total.runtimes,
           soak_failures);
    return soak_failures ? 1 : 0;
}
