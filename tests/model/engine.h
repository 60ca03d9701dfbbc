/* engine.h - the explorer: coroutines, the choices, weak memory, the heap, the search.
 *
 *   Choices     Everything that is not determined goes through model_pick_thread and
 *               model_pick_value. Each asks in turn: the search (a stack of {alternatives, taken},
 *               alternative 0 = go on), a random strategy, or a recorded list of what differed from
 *               the default. That list names the place by a count of choices that depends on
 *               nothing but the execution, so it replays under any option and can be shortened.
 *   Memory      Each atomic keeps its last MODEL_HISTORY stores with the release clock and when
 *               each thread saw it first. A load may read any store from the newest that the thread
 *               knows of (it happened before, or what happened before saw it) to the newest.
 *               seq: not older than the newest seq store, nor than what a seq load has read. An
 *               RMW reads the newest and continues the release sequence; a plain store by the same
 *               thread does not (C++20: weaker than C11).
 *               A barrier on all threads forgets the old stores.
 *   Limits      Modification order is the order of execution; so no load buffering, no store
 *               that takes effect before one that ran earlier. A failing strong compare-and-swap
 *               reads the newest value. An old value is read at most twice in a row.
 *   Reduction   An operation on what no other thread has touched, in any execution so far, or a
 *               load of what no other thread writes, is no place to branch. When a new one touches
 *               it, the search of that bound starts again. What a thread does before there is
 *               another, or after it has joined all others, does not count; if they have merely
 *               ended, it does: they might not have. --no-reduce turns it off.
 */
#ifndef MODEL_ENGINE_H
#define MODEL_ENGINE_H

#include "model.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

#define MODEL_UNUSED __attribute__((unused))
#define MODEL_NOINLINE __attribute__((noinline))
#define MODEL_LIKELY(c) __builtin_expect(!!(c), 1)
#define MODEL_UNLIKELY(c) __builtin_expect(!!(c), 0)

#define MODEL_STACK_SIZE ((size_t)256 << 10)
#define MODEL_ARENA_SIZE ((size_t)256 << 20)
#define MODEL_ARENA_BASE ((uintptr_t)0x510000000000u) /* fixed, so that addresses replay */
#define MODEL_OBJECTS 8192u
#define MODEL_SLOTS 32768u /* of the table of objects; a power of two */
#define MODEL_BLOCKS 65536u
#define MODEL_LIVE 1024u
#define MODEL_LOG 65536u
#define MODEL_DEPTH 65536u
#define MODEL_TRACE 64u
#define MODEL_CHANGES 8u /* change points of a random execution, at most */
#define MODEL_TIME_PASSES 99u /* a choice of thread: let time pass to the first time-out */
#define MODEL_RUN_MAX 1000u   /* operations in a row before others get a turn */
#define MODEL_NS_PER_LOOK 50u /* the clock moves by so much when it is read */

typedef struct model_clock {
    uint32_t of[MODEL_THREADS];
} model_clock;

typedef struct model_stored {
    uint64_t value;
    model_clock release; /* what an acquiring load gets; all 0: nothing */
    model_clock seen;    /* a thread's time when it first saw it, minus 1; UINT32_MAX: never */
    bool seq;            /* by a seq store, or read by a seq load */
} model_stored;

enum { MODEL_ATOMIC, MODEL_PLAIN, MODEL_MUTEX };

/* Shadow of an atomic, a cell, a mutex: what the engine knows about an address. */
typedef struct model_object {
    uintptr_t address;
    uint32_t readers, writers; /* threads, in all executions so far of this client */
    uint32_t epoch;            /* of the execution that the rest belongs to */
    uint32_t block;            /* index + 1 of the heap block; 0: not in the heap */
    uint8_t kind, size;
    uint8_t old_reads[MODEL_THREADS]; /* in a row */
    uint32_t num_stores;
    union {
        model_stored stores[MODEL_HISTORY]; /* the n-th is at n % MODEL_HISTORY */
        struct {
            model_clock reads;
            uint32_t write_time;
            unsigned writer;
            const model_site *read_site[MODEL_THREADS], *write_site;
        } plain;
        model_clock release; /* mutex */
    } as;
} model_object;

typedef struct model_block {
    uintptr_t address;
    size_t size;
    const model_site *site; /* where its thread was last before */
    uint8_t thread;
    bool freed, pages, engines;
} model_block;

typedef struct model_live {
    const void *address;
    const char *what;
    uint8_t thread;
} model_live;

enum { MODEL_READY, MODEL_ON_MUTEX, MODEL_ON_WORD, MODEL_ON_ALARM, MODEL_ON_THREAD, MODEL_DONE };

typedef struct model_thread {
    void *sp;
    int state;
    model_clock clock;
    const model_site *at;
    const void *waits_on;
    uint64_t deadline; /* UINT64_MAX: none */
    void *(*run)(void *);
    void *arg;
    void *record; /* the thread-local */
    int64_t priority;
    bool joined;
    uint32_t has_joined; /* bits: threads all of which comes before what this one does now */
    char *stack;
} model_thread;

enum { MODEL_FIRST, MODEL_SEARCH, MODEL_RANDOM, MODEL_REPLAY };
enum { MODEL_AT_POINT, MODEL_AT_YIELD, MODEL_AT_BLOCK };
enum { MODEL_OF_CLIENT, MODEL_OF_LOAD, MODEL_OF_WEAK, MODEL_OF_WAKE, MODEL_OF_FAULT,
       MODEL_OF_ENTROPY };

typedef struct model_taken {
    uint32_t point;
    uint16_t taken;
    bool is_thread;
} model_taken;

typedef struct model_alternatives {
    uint8_t n, taken;
} model_alternatives;

typedef struct model_step {
    const model_site *site;
    uintptr_t address;
    uint64_t value;
    uint32_t step;
    uint8_t thread, age, order;
    bool failed;
} model_step;

static struct model_engine {
    /* the execution */
    int mode;
    unsigned current, num_threads;
    uint32_t ready, timed, done; /* bits: threads that can run, wait with a deadline, have ended */
    uint32_t epoch;
    uint64_t now;
    uint32_t steps, point, run_length;
    unsigned time_jumps, time_passes, faults_done;
    int preemptions, old_reads, spurious, faults;
    bool woken; /* random: somebody became ready, look at the priorities */
    bool truncated; /* the search left something out because of a bound */
    bool grown; /* an object has got a new user: the search must start again */
    bool failed;
    char message[512];
    char *bump;
    unsigned num_blocks, num_live;
    model_thread threads[MODEL_THREADS];
    void *home;
    /* the client */
    const model_client *client;
    model_options options;
    unsigned num_objects;
    uint64_t seen_outcomes;
    /* the search */
    int bound;
    unsigned depth, num_alternatives;
    /* random */
    uint64_t random_state;
    int64_t lowest;
    uint32_t next_change, length; /* PCT: step of the next change point; steps of an execution */
    uint32_t changes[MODEL_CHANGES + 1];
    unsigned next_change_index, walk; /* walk: switch in one of so many operations; 0: PCT */
    bool after;                       /* PCT: the change comes after an operation, not before */
    /* replay */
    const model_taken *script;
    unsigned script_length, script_next;
    bool tracing;
    unsigned log_length;
    uint64_t trace_length;
    /* totals of the client */
    uint64_t executions, all_steps;
    volatile uint64_t heartbeat;
    bool reduce, in_execution;
    model_alternatives alternatives[MODEL_DEPTH];
    model_taken log[MODEL_LOG];
    model_block blocks[MODEL_BLOCKS];
    model_live live[MODEL_LIVE];
    model_step trace[MODEL_TRACE];
    uint16_t slots[MODEL_SLOTS]; /* index + 1 of an object */
    model_object *objects;
} E;

/* The linker's names for the ends of the two sections. */
extern model_site *model_sites_begin[] __asm__("__start_model_sites");
extern model_site *model_sites_end[] __asm__("__stop_model_sites");
extern const model_client *model_clients_begin[] __asm__("__start_model_clients");
extern const model_client *model_clients_end[] __asm__("__stop_model_clients");

/* Leaving one stack for another ------------------------------------------------------------------
 * What is saved is the current stack pointer: a model thread may stand on a task's stack. */
#if defined(__x86_64__) && !defined(__ILP32__) && !defined(SCH_NO_ASM)
__attribute__((naked, noinline)) static void model_swap(void **save MODEL_UNUSED,
                                                        void *to MODEL_UNUSED) {
    __asm__ volatile(
        "pushq %rbp\n\tpushq %rbx\n\tpushq %r12\n\tpushq %r13\n\tpushq %r14\n\tpushq %r15\n\t"
        "movq %rsp, (%rdi)\n\tmovq %rsi, %rsp\n\t"
        "popq %r15\n\tpopq %r14\n\tpopq %r13\n\tpopq %r12\n\tpopq %rbx\n\tpopq %rbp\n\tret\n\t");
}

static void *model_fresh(char *stack, void (*entry)(void)) {
    uint64_t *sp = (uint64_t *)(void *)(stack + MODEL_STACK_SIZE);
    *--sp = 0;
    *--sp = (uint64_t)(uintptr_t)entry;
    for (int i = 0; i < 6; i++) *--sp = 0;
    return sp;
}
#else
#include <ucontext.h>
/* The contexts stand at fixed places: one for each thread, one for the engine. */
static ucontext_t model_contexts[MODEL_THREADS + 1];

static void model_swap(void **save, void *to) {
    ucontext_t *from = &model_contexts[MODEL_THREADS]; /* the engine's own */
    for (unsigned i = 0; i < MODEL_THREADS; i++) {
        if (save == &E.threads[i].sp) from = &model_contexts[i];
    }
    *save = from;
    if (swapcontext(from, (ucontext_t *)to) != 0) abort();
}

static ucontext_t *model_context_of(const char *stack) {
    unsigned i = 0;
    while (E.threads[i].stack != stack) i++;
    return &model_contexts[i];
}

static void *model_fresh(char *stack, void (*entry)(void)) {
    if (getcontext(model_context_of(stack)) != 0) abort();
    model_context_of(stack)->uc_stack.ss_sp = stack;
    model_context_of(stack)->uc_stack.ss_size = MODEL_STACK_SIZE;
    model_context_of(stack)->uc_link = NULL;
    makecontext(model_context_of(stack), entry, 0);
    return model_context_of(stack);
}
#endif

/* Failing ---------------------------------------------------------------------------------------*/

static const char *model_base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* The execution is abandoned where it stands: all that it has made is in the arena. */
__attribute__((noreturn)) static void model_give_up(void) {
    E.failed = true;
    model_swap(&E.threads[E.current].sp, E.home);
    abort();
}

__attribute__((noreturn, format(printf, 1, 2))) static void model_fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(E.message, sizeof E.message, format, arguments);
    va_end(arguments);
    model_give_up();
}

__attribute__((noreturn)) static void model_fail_at(const char *file, int line, const char *text) {
    model_fail("%s:%d: %s", model_base_name(file), line, text);
}

static const char *model_where(const model_site *site) {
    static char text[4][160];
    static unsigned next;
    char *out = text[next++ % 4];
    if (!site) return "its start";
    (void)snprintf(out, sizeof text[0], "%s:%d %s()", model_base_name(site->file), site->line,
                   site->func);
    return out;
}

/* Clocks ----------------------------------------------------------------------------------------*/

static inline void model_clock_join(model_clock *to, const model_clock *from) {
    for (int i = 0; i < MODEL_THREADS; i++) {
        if (to->of[i] < from->of[i]) to->of[i] = from->of[i];
    }
}

static inline model_thread *model_self(void) { return &E.threads[E.current]; }

static inline void model_tick(void) { model_self()->clock.of[E.current]++; }

/* Random numbers --------------------------------------------------------------------------------*/

static uint64_t model_random(void) {
    uint64_t x = E.random_state;
    x ^= x >> 12, x ^= x << 25, x ^= x >> 27;
    E.random_state = x;
    return x * UINT64_C(0x2545f4914f6cdd1d);
}

static uint32_t model_random_below(uint32_t n) {
    return (uint32_t)((model_random() >> 32) * n >> 32);
}

static void model_random_seed(uint64_t seed) {
    uint64_t x = seed + UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    E.random_state = (x ^ (x >> 31)) | 1;
}

/* Choices ---------------------------------------------------------------------------------------*/

static void model_log(bool is_thread, unsigned taken) {
    if (E.log_length == MODEL_LOG) model_fail("engine: the log of choices is full");
    E.log[E.log_length].point = E.point;
    E.log[E.log_length].taken = (uint16_t)taken;
    E.log[E.log_length++].is_thread = is_thread;
}

/* The depth-first search: replays the prefix, then takes 0. */
static unsigned model_search_choose(unsigned n) {
    model_alternatives *a;
    if (n <= 1) return 0;
    if (E.depth == MODEL_DEPTH) model_fail("engine: the stack of choices is full");
    a = &E.alternatives[E.depth++];
    if (E.depth > E.num_alternatives) {
        E.num_alternatives = E.depth;
        a->n = (uint8_t)n;
        a->taken = 0;
    } else if (a->n != n && !E.grown) {
        model_fail("engine: the client is not deterministic (%u alternatives, before %u)", n, a->n);
    }
    return a->taken < n ? a->taken : 0;
}

static unsigned model_scripted(bool is_thread, unsigned otherwise) {
    while (E.script_next < E.script_length && E.script[E.script_next].point < E.point) {
        E.script_next++;
    }
    if (E.script_next < E.script_length && E.script[E.script_next].point == E.point &&
        E.script[E.script_next].is_thread == is_thread) {
        return E.script[E.script_next++].taken;
    }
    return otherwise;
}

/* One of n values, 0 the dull one. limited: the search may not branch here. */
static unsigned model_pick_value(unsigned n, int why, bool limited) {
    unsigned taken = 0;
    E.point++;
    if (E.mode == MODEL_SEARCH) {
        if (limited) E.truncated = true;
        taken = model_search_choose(limited ? 1 : n);
    } else if (E.mode == MODEL_REPLAY) {
        taken = model_scripted(false, 0);
        if (taken >= n) taken = 0;
    } else {
        switch (why) {
        case MODEL_OF_CLIENT:
        case MODEL_OF_WAKE:
        case MODEL_OF_ENTROPY: taken = model_random_below(n); break;
        case MODEL_OF_LOAD: taken = model_random_below(4) == 0 ? model_random_below(n) : 0; break;
        case MODEL_OF_WEAK: taken = model_random_below(8) == 0; break;
        default: taken = model_random_below(16) == 0; break;
        }
    }
    if (taken != 0) model_log(false, taken);
    return taken;
}

static void model_wake_thread(unsigned t) {
    E.threads[t].state = MODEL_READY;
    E.ready |= 1u << t;
    E.timed &= ~(1u << t);
    E.woken = true;
}

/* Time goes on to the first time-out. */
static unsigned model_pass_time(void) {
    uint64_t first = UINT64_MAX;
    unsigned who = 0;
    for (unsigned t = 0; t < E.num_threads; t++) {
        if ((E.timed >> t & 1) && E.threads[t].deadline < first) {
            first = E.threads[t].deadline;
            who = t;
        }
    }
    if (first > E.now) E.now = first;
    for (unsigned t = 0; t < E.num_threads; t++) {
        if ((E.timed >> t & 1) && E.threads[t].deadline <= E.now) model_wake_thread(t);
    }
    return who;
}

static const char *model_state_name(int state) {
    static const char *const names[] = {"can run",          "waits for a lock", "sleeps on a word",
                                        "sleeps in an alarm", "joins a thread",   "has ended"};
    return names[state];
}

__attribute__((noreturn)) static void model_deadlock(void) {
    char text[400];
    size_t used = 0;
    text[0] = 0;
    for (unsigned t = 0; t < E.num_threads; t++) {
        if (E.threads[t].state == MODEL_DONE) continue;
        used += (size_t)snprintf(text + used, sizeof text - used, "; T%u %s at %s", t,
                                 model_state_name(E.threads[t].state),
                                 model_where(E.threads[t].at));
        if (used >= sizeof text) break;
    }
    model_fail("deadlock or lost wake-up%s", text);
}

static void model_switch_to(unsigned t) {
    unsigned from = E.current;
    if (t == from) return;
    E.current = t;
    E.run_length = 0;
    model_swap(&E.threads[from].sp, E.threads[t].sp);
}

/* Random strategy: which of the candidates? PCT: the one of highest priority, but at a change point
 * the current one falls behind all others. Walk: any, now and then. */
static unsigned model_random_thread(const unsigned *candidates, unsigned n, int kind) {
    unsigned best = 0;
    bool change = E.steps >= E.next_change;
    if (E.walk) {
        if (kind == MODEL_AT_POINT && model_random_below(E.walk) != 0) return 0;
        if (E.timed && model_random_below(16) == 0) return n;
        return model_random_below(n);
    }
    E.woken = false;
    while (E.steps >= E.next_change) E.next_change = E.changes[++E.next_change_index];
    if (change) E.after = model_random() >> 63;
    if (change || kind == MODEL_AT_YIELD) {
        E.threads[E.current].priority = --E.lowest;
        if (E.timed && model_random_below(8) == 0) return n;
    }
    for (unsigned i = 1; i < n; i++) {
        if (E.threads[candidates[i]].priority > E.threads[candidates[best]].priority) best = i;
    }
    return best;
}

/* Who runs next? Returns when the calling thread is chosen again. */
static MODEL_NOINLINE void model_dispatch(int kind) {
    unsigned candidates[MODEL_THREADS], n = 0, self = E.current, taken = 0, chosen;
    bool may_time;
    if (kind == MODEL_AT_BLOCK) {
        while (E.ready == 0) {
            if (E.timed == 0) model_deadlock();
            E.time_jumps++;
            if (++E.steps > E.options.steps) model_fail("livelock: only time-outs for ever");
            (void)model_pass_time();
        }
    }
    if (kind == MODEL_AT_POINT) candidates[n++] = self;
    for (unsigned i = 1; i <= E.num_threads; i++) {
        unsigned t = (self + i) % E.num_threads;
        if ((E.ready >> t & 1) && (t != self || (kind == MODEL_AT_YIELD ? n == 0 :
                                                 kind == MODEL_AT_BLOCK))) {
            candidates[n++] = t;
        }
    }
    may_time = E.timed != 0;
    if (E.mode == MODEL_SEARCH) {
        unsigned free_ones = kind == MODEL_AT_BLOCK ? n : 1;
        if (E.preemptions >= E.bound && n + may_time > free_ones) E.truncated = true;
        taken = model_search_choose(E.preemptions < E.bound ? n + may_time : free_ones);
        if (taken >= free_ones) E.preemptions++;
    } else if (E.mode == MODEL_RANDOM) {
        taken = model_random_thread(candidates, n, kind);
    } else {
        chosen = model_scripted(true, candidates[0]);
        taken = chosen == MODEL_TIME_PASSES && may_time ? n : 0;
        for (unsigned i = 0; i < n; i++) {
            if (candidates[i] == chosen) taken = i;
        }
    }
    if (taken != 0) model_log(true, taken == n ? MODEL_TIME_PASSES : candidates[taken]);
    if (taken == n) E.time_passes++;
    chosen = taken == n ? model_pass_time() : candidates[taken];
    model_switch_to(chosen);
}

/* Before an operation. conflict: another thread may touch the same thing. */
static inline void model_point(const model_site *site, bool conflict) {
    model_self()->at = site;
    E.point++;
    if (MODEL_UNLIKELY(++E.steps > E.options.steps)) model_fail("livelock: too many steps");
    if ((E.ready & (E.ready - 1)) == 0 && E.timed == 0) return; /* nobody else */
    if (MODEL_UNLIKELY(++E.run_length > MODEL_RUN_MAX)) {
        E.run_length = 0;
        model_dispatch(MODEL_AT_YIELD);
        return;
    }
    if (E.mode == MODEL_SEARCH) {
        if (!conflict) return;
        if (E.preemptions >= E.bound) {
            E.truncated = true;
            return;
        }
    } else if (E.mode == MODEL_RANDOM) {
        if (!E.walk && (E.after || E.steps < E.next_change) && !E.woken) return;
    } else if (E.script_next >= E.script_length || E.script[E.script_next].point > E.point) {
        return;
    }
    model_dispatch(MODEL_AT_POINT);
}

/* After the effect of an operation that others see: the plain code up to the next operation may
 * come late. Not in the search: there the points before operations must do. */
static inline void model_after(void) {
    E.point++;
    if (E.mode == MODEL_SEARCH || ((E.ready & (E.ready - 1)) == 0 && E.timed == 0)) return;
    if (E.mode == MODEL_RANDOM) {
        if (!E.walk && (!E.after || E.steps < E.next_change)) return;
    } else if (E.script_next >= E.script_length || E.script[E.script_next].point > E.point) {
        return;
    }
    model_dispatch(MODEL_AT_POINT);
}

/* The calling thread cannot go on before somebody wakes it or its deadline. */
static void model_wait_until(int state, const void *on, uint64_t deadline) {
    model_thread *self = model_self();
    self->state = state;
    self->waits_on = on;
    self->deadline = deadline;
    E.ready &= ~(1u << E.current);
    if (deadline != UINT64_MAX) E.timed |= 1u << E.current;
    E.point++;
    model_dispatch(MODEL_AT_BLOCK);
    self->waits_on = NULL;
}

static void model_yield(model_site *site, int unused) {
    (void)unused;
    site->hits++;
    model_self()->at = site;
    E.point++;
    if (++E.steps > E.options.steps) model_fail("livelock: too many steps");
    if ((E.ready & (E.ready - 1)) == 0) { /* alone: only time can help */
        if (E.timed) E.time_passes++, (void)model_pass_time();
        if ((E.ready & (E.ready - 1)) == 0) return;
    }
    model_dispatch(MODEL_AT_YIELD);
}

static unsigned model_choose(unsigned n) {
    if (n <= 1) return 0;
    return model_pick_value(n, MODEL_OF_CLIENT, false);
}

/* Objects ---------------------------------------------------------------------------------------*/

/* The block that an address lies in: index + 1, or 0. Blocks are in the order of addresses. */
static uint32_t model_block_of(uintptr_t address) {
    unsigned low = 0, high = E.num_blocks;
    if (address < MODEL_ARENA_BASE || address >= MODEL_ARENA_BASE + MODEL_ARENA_SIZE) return 0;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (E.blocks[middle].address <= address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == 0 || address >= E.blocks[low - 1].address + E.blocks[low - 1].size) return 0;
    return low;
}

static uint64_t model_peek(uintptr_t address, unsigned size) {
    switch (size) {
    case 1: return *(uint8_t *)address;
    case 2: return *(uint16_t *)address;
    case 4: return *(uint32_t *)address;
    default: return *(uint64_t *)address;
    }
}

static void model_poke(uintptr_t address, unsigned size, uint64_t value) {
    switch (size) {
    case 1: *(uint8_t *)address = (uint8_t)value; break;
    case 2: *(uint16_t *)address = (uint16_t)value; break;
    case 4: *(uint32_t *)address = (uint32_t)value; break;
    default: *(uint64_t *)address = value; break;
    }
}

/* The history begins with what is in memory now; everybody knows of it. */
static void model_atomic_restart(model_object *o, uint64_t value) {
    o->num_stores = 1;
    memset(&o->as.stores[0].release, 0, sizeof(model_clock));
    memset(&o->as.stores[0].seen, 0xff, sizeof(model_clock));
    o->as.stores[0].value = value;
    o->as.stores[0].seq = false;
    memset(o->old_reads, 0, sizeof o->old_reads);
}

static MODEL_NOINLINE void model_object_begin(model_object *o, int kind, unsigned size) {
    o->epoch = E.epoch;
    o->block = model_block_of(o->address);
    o->kind = (uint8_t)kind;
    o->size = (uint8_t)size;
    if (kind == MODEL_ATOMIC) {
        model_atomic_restart(o, model_peek(o->address, size));
    } else if (kind == MODEL_PLAIN) {
        memset(&o->as.plain.reads, 0, sizeof(model_clock));
        o->as.plain.write_time = 0;
        o->as.plain.writer = 0;
    } else {
        memset(&o->as.release, 0, sizeof(model_clock));
    }
}

static inline model_object *model_find(const void *where, int kind, unsigned size) {
    uintptr_t address = (uintptr_t)where;
    unsigned i = (unsigned)(((uint64_t)address * UINT64_C(0x9e3779b97f4a7c15)) >> 49);
    model_object *o;
    for (;; i = (i + 1) & (MODEL_SLOTS - 1)) {
        if (E.slots[i] == 0) {
            if (E.num_objects == MODEL_OBJECTS) model_fail("engine: too many objects");
            o = &E.objects[E.num_objects++];
            E.slots[i] = (uint16_t)E.num_objects;
            o->address = address;
            o->readers = o->writers = 0;
            o->epoch = E.epoch - 1;
            break;
        }
        o = &E.objects[E.slots[i] - 1];
        if (o->address == address) break;
    }
    if (MODEL_UNLIKELY(o->epoch != E.epoch || o->kind != kind || o->size != size)) {
        model_object_begin(o, kind, size);
    }
    return o;
}

/* Record the access; says whether another thread may be in conflict with it. */
static inline bool model_touch(model_object *o, bool writes) {
    uint32_t bit = 1u << E.current, others;
    uint32_t *mask = writes ? &o->writers : &o->readers;
    if (!(*mask & bit) &&
        (((1u << E.num_threads) - 1) & ~bit & ~E.threads[E.current].has_joined) != 0) {
        *mask |= bit;
        E.grown = true;
    }
    others = writes ? o->readers | o->writers : o->writers;
    return !E.reduce || (others & ~bit & ~E.done) != 0;
}

static inline void model_check_alive(const model_object *o, const model_site *site) {
    if (MODEL_UNLIKELY(o->block != 0 && E.blocks[o->block - 1].freed)) {
        model_fail("use after free: %s in %s", site->what, model_where(site));
    }
}

static MODEL_NOINLINE void model_note(const model_site *site, const void *address, uint64_t value,
                                      unsigned age, bool failed) {
    model_step *s = &E.trace[E.trace_length++ % MODEL_TRACE];
    s->site = site;
    s->address = (uintptr_t)address;
    s->value = value;
    s->step = E.steps;
    s->thread = (uint8_t)E.current;
    s->age = (uint8_t)age;
    s->order = site->order;
    s->failed = failed;
}

static inline void model_trace(const model_site *site, const void *address, uint64_t value,
                               unsigned age, bool failed) {
    if (MODEL_UNLIKELY(E.tracing)) model_note(site, address, value, age, failed);
}

/* Atomics ---------------------------------------------------------------------------------------*/

static inline bool model_acquires(unsigned order) {
    return order == MODEL_ACQ || order >= MODEL_ACQREL;
}
static inline bool model_releases(unsigned order) { return order >= MODEL_REL; }

/* Does the calling thread know of this store? */
static inline bool model_knows(const model_stored *s, const model_clock *clock) {
    uint32_t known = 0;
    for (int i = 0; i < MODEL_THREADS; i++) known |= s->seen.of[i] < clock->of[i];
    return known != 0;
}

static inline void model_see(model_stored *s, unsigned order) {
    model_thread *self = model_self();
    if (s->seen.of[E.current] == UINT32_MAX) {
        s->seen.of[E.current] = self->clock.of[E.current] - 1;
    }
    if (model_acquires(order)) model_clock_join(&self->clock, &s->release);
}

static inline model_object *model_atomic(const void *address, unsigned size, model_site *site,
                                         bool writes) {
    model_object *o = model_find(address, MODEL_ATOMIC, size);
    site->hits++;
    model_point(site, model_touch(o, writes));
    if (MODEL_UNLIKELY(o->kind != MODEL_ATOMIC || o->size != size)) { /* reused meanwhile */
        o = model_find(address, MODEL_ATOMIC, size);
    }
    model_check_alive(o, site);
    model_tick();
    if (MODEL_UNLIKELY(o->as.stores[(o->num_stores - 1) % MODEL_HISTORY].value !=
                       model_peek(o->address, size))) {
        model_atomic_restart(o, model_peek(o->address, size)); /* memset, or a new object here */
    }
    return o;
}

static inline model_stored *model_newest(model_object *o) {
    return &o->as.stores[(o->num_stores - 1) % MODEL_HISTORY];
}

/* Append a store; `before`: an RMW continues its release sequence. */
static inline void model_append(model_object *o, uint64_t value, unsigned order,
                                const model_stored *before) {
    model_thread *self = model_self();
    model_stored *s = &o->as.stores[o->num_stores % MODEL_HISTORY];
    model_clock release;
    if (before) {
        release = before->release;
        if (model_releases(order)) model_clock_join(&release, &self->clock);
    } else if (model_releases(order)) {
        release = self->clock;
    } else {
        memset(&release, 0, sizeof release);
    }
    s->release = release;
    memset(&s->seen, 0xff, sizeof s->seen);
    s->seen.of[E.current] = self->clock.of[E.current] - 1;
    s->value = value;
    s->seq = order == MODEL_SEQ;
    o->num_stores++;
    o->old_reads[E.current] = 0;
    model_poke(o->address, o->size, value);
}

static uint64_t model_load(const void *address, unsigned size, model_site *site) {
    model_object *o = model_atomic(address, size, site, false);
    unsigned order = site->order, n = 1, age = 0;
    const model_clock *clock = &model_self()->clock;
    model_stored *s = model_newest(o);
    while (n < MODEL_HISTORY && n < o->num_stores) {
        if ((order == MODEL_SEQ && s->seq) || model_knows(s, clock)) break;
        s = &o->as.stores[(o->num_stores - 1 - n) % MODEL_HISTORY];
        n++;
    }
    if (n > 1 && o->old_reads[E.current] < 2) {
        age = model_pick_value(n, MODEL_OF_LOAD, E.old_reads >= E.options.stale);
    }
    if (age > 0) {
        o->old_reads[E.current]++;
        E.old_reads++;
    } else {
        o->old_reads[E.current] = 0;
    }
    s = &o->as.stores[(o->num_stores - 1 - age) % MODEL_HISTORY];
    if (order == MODEL_SEQ) s->seq = true;
    model_see(s, order);
    model_trace(site, address, s->value, age, false);
    return s->value;
}

static void model_store(void *address, unsigned size, uint64_t value, model_site *site) {
    model_object *o = model_atomic(address, size, site, true);
    if (size < 8) value &= (UINT64_C(1) << (8 * size)) - 1;
    model_append(o, value, site->order, NULL);
    model_trace(site, address, value, 0, false);
    model_after();
}

/* Exchange, add, subtract, or, and: returns the value before. */
static uint64_t model_rmw(void *address, unsigned size, uint64_t operand, model_site *site) {
    model_object *o = model_atomic(address, size, site, true);
    model_stored *s = model_newest(o), before;
    uint64_t value = s->value;
    switch (site->op) {
    case MODEL_ADD: value += operand; break;
    case MODEL_SUB: value -= operand; break;
    case MODEL_OR: value |= operand; break;
    case MODEL_AND: value &= operand; break;
    default: value = operand; break;
    }
    if (size < 8) value &= (UINT64_C(1) << (8 * size)) - 1;
    model_see(s, site->order);
    before = *s;
    model_append(o, value, site->order, &before);
    model_trace(site, address, value, 0, false);
    model_after();
    return before.value;
}

static bool model_cas(void *address, unsigned size, void *expected, uint64_t value,
                      model_site *site) {
    model_object *o = model_atomic(address, size, site, true);
    model_stored *s = model_newest(o), before;
    unsigned order = site->order;
    bool fails = s->value != model_peek((uintptr_t)expected, size);
    if (!fails && site->op == MODEL_CAS_WEAK && E.spurious > 0 &&
        model_pick_value(2, MODEL_OF_WEAK, false) != 0) {
        E.spurious--;
        fails = true;
    }
    if (fails) { /* a load: rel becomes rlx, acqrel becomes acq */
        order = order == MODEL_ACQREL ? MODEL_ACQ : order == MODEL_REL ? MODEL_RLX : order;
        if (order == MODEL_SEQ) s->seq = true;
        model_see(s, order);
        o->old_reads[E.current] = 0;
        model_poke((uintptr_t)expected, size, s->value);
        model_trace(site, address, s->value, 0, true);
        return false;
    }
    if (size < 8) value &= (UINT64_C(1) << (8 * size)) - 1;
    model_see(s, order);
    before = *s;
    model_append(o, value, order, &before);
    model_trace(site, address, value, 0, false);
    model_after();
    return true;
}

/* Cells -----------------------------------------------------------------------------------------
 * Races are a matter of clocks, so that no branching is needed here. An access belongs to the time
 * after the thread's last operation: what that released does not cover it. */

static inline void *model_cell(void *address, unsigned size, model_site *site, bool writes) {
    model_object *o = model_find(address, MODEL_PLAIN, size > 255 ? 255 : size);
    const model_clock *clock = &model_self()->clock;
    uint32_t now = clock->of[E.current] + 1;
    site->hits++;
    model_self()->at = site;
    model_check_alive(o, site);
    if (o->as.plain.writer != E.current &&
        o->as.plain.write_time > clock->of[o->as.plain.writer]) {
        model_fail("data race: %s in %s, written by T%u in %s", site->what, model_where(site),
                   o->as.plain.writer, model_where(o->as.plain.write_site));
    }
    if (writes) {
        for (unsigned t = 0; t < MODEL_THREADS; t++) {
            if (t != E.current && o->as.plain.reads.of[t] > clock->of[t]) {
                model_fail("data race: %s written in %s, read by T%u in %s", site->what,
                           model_where(site), t, model_where(o->as.plain.read_site[t]));
            }
        }
        o->as.plain.writer = E.current;
        o->as.plain.write_time = now;
        o->as.plain.write_site = site;
    } else {
        o->as.plain.reads.of[E.current] = now;
        o->as.plain.read_site[E.current] = site;
    }
    model_trace(site, address, size <= 8 ? model_peek((uintptr_t)address, size) : 0, 0, false);
    return address;
}

/* What must be dropped again --------------------------------------------------------------------*/

static void model_live_add(const void *address, const char *what) {
    if (E.num_live == MODEL_LIVE) model_fail("engine: too many live objects");
    E.live[E.num_live].address = address;
    E.live[E.num_live].what = what;
    E.live[E.num_live++].thread = (uint8_t)E.current;
}

static void model_live_remove(const void *address, const char *what) {
    for (unsigned i = E.num_live; i-- > 0;) {
        if (E.live[i].address == address && E.live[i].what == what) {
            E.live[i] = E.live[--E.num_live];
            return;
        }
    }
    model_fail("%s dropped that was not made", what);
}

/* Threads ---------------------------------------------------------------------------------------*/

static void model_end_checks(void);

static void model_thread_entry(void) {
    unsigned t = E.current;
    model_thread *self = &E.threads[t];
    if (t == 0) {
        E.client->body();
        model_end_checks();
        model_swap(&self->sp, E.home);
        abort();
    }
    (void)self->run(self->arg);
    model_tick();
    self->state = MODEL_DONE;
    E.ready &= ~(1u << t);
    E.done |= 1u << t;
    for (unsigned i = 0; i < E.num_threads; i++) {
        if (E.threads[i].state == MODEL_ON_THREAD && E.threads[i].waits_on == self) {
            model_wake_thread(i);
        }
    }
    E.point++;
    model_dispatch(MODEL_AT_BLOCK);
    abort();
}

static unsigned model_thread_begin(void *(*run)(void *), void *arg, const model_site *site) {
    unsigned t = E.num_threads;
    model_thread *thread = &E.threads[t];
    char *stack = thread->stack;
    if (t == MODEL_THREADS) model_fail("engine: too many threads in %s", model_where(site));
    memset(thread, 0, sizeof *thread);
    thread->stack = stack;
    thread->run = run;
    thread->arg = arg;
    if (t > 0) {
        model_tick();
        thread->clock = model_self()->clock;
    }
    thread->clock.of[t] = 1;
    thread->sp = model_fresh(stack, model_thread_entry);
    if (E.mode == MODEL_RANDOM) thread->priority = (int64_t)(model_random() >> 2);
    E.num_threads++;
    model_wake_thread(t);
    return t;
}

/* A fault, if one is to happen here. */
static bool model_fault(void) {
    if (E.faults <= 0) return false;
    if (model_pick_value(2, MODEL_OF_FAULT, false) == 0) return false;
    E.faults--;
    E.faults_done++;
    return true;
}

static unsigned model_faults(void) { return E.faults_done; }

static int model_thread_start(model_site *site, unsigned *out, void *(*run)(void *), void *arg) {
    site->hits++;
    model_point(site, false);
    if (model_fault()) return -11; /* EAGAIN */
    *out = model_thread_begin(run, arg, site);
    model_trace(site, out, *out, 0, false);
    return 0;
}

static void model_thread_join(model_site *site, unsigned t) {
    site->hits++;
    model_point(site, false);
    if (t >= E.num_threads || E.threads[t].joined) {
        model_fail("thread %u joined twice, or not a thread, in %s", t, model_where(site));
    }
    while (E.threads[t].state != MODEL_DONE) {
        model_wait_until(MODEL_ON_THREAD, &E.threads[t], UINT64_MAX);
    }
    E.threads[t].joined = true;
    model_self()->has_joined |= 1u << t | E.threads[t].has_joined;
    model_clock_join(&model_self()->clock, &E.threads[t].clock);
    model_tick();
    model_trace(site, NULL, t, 0, false);
}

/* Locks, waits, alarms --------------------------------------------------------------------------*/

typedef struct model_mutex {
    uint32_t made;
    uint32_t owner; /* thread + 1 */
} model_mutex;

static int model_mutex_init(model_mutex *m, const char *what) {
    if (model_fault()) return -12; /* ENOMEM */
    m->made = 1;
    m->owner = 0;
    model_live_add(m, what);
    return 0;
}

static void model_mutex_drop(model_mutex *m, const char *what) {
    if (m->owner != 0) model_fail("%s dropped while T%u holds it", what, m->owner - 1);
    m->made = 0;
    model_live_remove(m, what);
}

static model_object *model_mutex_touch(model_mutex *m, model_site *site) {
    model_object *o = model_find(m, MODEL_MUTEX, 0);
    site->hits++;
    model_point(site, model_touch(o, true));
    model_check_alive(o, site);
    if (!m->made) model_fail("a lock that is not there: %s in %s", site->what, model_where(site));
    return o;
}

static void model_mutex_take(model_mutex *m, model_object *o, const model_site *site) {
    if (m->owner == E.current + 1) model_fail("locked twice in %s", model_where(site));
    while (m->owner != 0) model_wait_until(MODEL_ON_MUTEX, m, UINT64_MAX);
    model_check_alive(o, site);
    if (!m->made) model_fail("a lock dropped while T%u waited for it", E.current);
    m->owner = E.current + 1;
    model_clock_join(&model_self()->clock, &o->as.release);
    model_tick();
}

static void model_lock(model_site *site, model_mutex *m) {
    model_object *o = model_mutex_touch(m, site);
    model_mutex_take(m, o, site);
    model_trace(site, m, 0, 0, false);
}

static void model_mutex_release(model_mutex *m, model_object *o, const model_site *site) {
    if (m->owner != E.current + 1) model_fail("unlocked by another: %s", model_where(site));
    model_tick();
    o->as.release = model_self()->clock;
    m->owner = 0;
    for (unsigned t = 0; t < E.num_threads; t++) {
        if (E.threads[t].state == MODEL_ON_MUTEX && E.threads[t].waits_on == m) {
            model_wake_thread(t);
        }
    }
}

static void model_unlock(model_site *site, model_mutex *m) {
    model_object *o = model_mutex_touch(m, site);
    model_mutex_release(m, o, site);
    model_trace(site, m, 0, 0, false);
    model_after();
}

/* place: NULL, or held from the comparison to the sleep, as a condition variable's. */
static void model_word_wait(model_site *site, void *word, model_mutex *place, uint32_t value,
                            uint64_t deadline) {
    model_object *o = model_find(word, MODEL_ATOMIC, 4);
    site->hits++;
    if (place) {
        model_lock(site, place);
    } else {
        (void)model_touch(o, true);
        model_point(site, true);
    }
    o = model_find(word, MODEL_ATOMIC, 4);
    model_check_alive(o, site);
    model_trace(site, word, value, 0, false);
    if (*(uint32_t *)word == value && deadline > E.now &&
        !(E.spurious > 0 && model_pick_value(2, MODEL_OF_WEAK, false) != 0 && E.spurious-- > 0)) {
        if (place) model_mutex_release(place, model_find(place, MODEL_MUTEX, 0), site);
        model_wait_until(MODEL_ON_WORD, word, deadline);
        if (place) model_mutex_take(place, model_find(place, MODEL_MUTEX, 0), site);
    }
    if (place) model_unlock(site, place);
}

/* Touches no more than the address: the word may be gone. */
static void model_word_wake(model_site *site, const void *word, bool all) {
    unsigned waiters[MODEL_THREADS], n = 0;
    site->hits++;
    model_point(site, true);
    for (unsigned t = 0; t < E.num_threads; t++) {
        if (E.threads[t].state == MODEL_ON_WORD && E.threads[t].waits_on == word) waiters[n++] = t;
    }
    model_trace(site, word, n, 0, false);
    if (all) {
        while (n > 0) model_wake_thread(waiters[--n]);
    } else if (n > 0) {
        model_wake_thread(waiters[n == 1 ? 0 : model_pick_value(n, MODEL_OF_WAKE, false)]);
    }
    model_after();
}

typedef struct model_alarm {
    uint32_t made;
    bool now;
    uint64_t ring_at;
    uint64_t deadline; /* of whoever sleeps in it */
    void *poller;      /* whose waits it ends, too */
} model_alarm;

static int model_alarm_init(model_alarm *a) {
    if (model_fault()) return -24; /* EMFILE */
    a->made = 1;
    a->now = false;
    a->ring_at = UINT64_MAX;
    a->poller = NULL;
    model_live_add(a, "alarm");
    return 0;
}

static void model_alarm_drop(model_alarm *a) {
    a->made = 0;
    model_live_remove(a, "alarm");
}

static void model_alarm_check(const model_alarm *a, const model_site *site) {
    uint32_t block = model_block_of((uintptr_t)a);
    if (!a->made || (block && E.blocks[block - 1].freed)) {
        model_fail("an alarm that is gone: %s in %s", site->what, model_where(site));
    }
}

/* The last setting counts: ringing now takes the place of a later ring that was set before, but is
 * not undone by one that is set after it. */
static void model_alarm_set(model_site *site, model_alarm *a, uint64_t ns) {
    site->hits++;
    model_point(site, true);
    model_alarm_check(a, site);
    model_trace(site, a, ns, 0, false);
    if (ns == 0) {
        a->now = true;
        a->ring_at = UINT64_MAX;
    } else if (!a->now) {
        a->ring_at = E.now + ns < ns ? UINT64_MAX : E.now + ns;
    }
    for (unsigned t = 0; t < E.num_threads; t++) {
        if (E.threads[t].state != MODEL_ON_ALARM ||
            (E.threads[t].waits_on != a && (!a->poller || E.threads[t].waits_on != a->poller))) {
            continue;
        }
        if (a->now) {
            model_wake_thread(t);
        } else {
            E.threads[t].deadline = a->ring_at < a->deadline ? a->ring_at : a->deadline;
            E.timed |= 1u << t;
        }
    }
    model_after();
}

static void model_alarm_wait(model_site *site, model_alarm *a, uint64_t deadline) {
    site->hits++;
    model_point(site, true);
    model_alarm_check(a, site);
    model_trace(site, a, a->ring_at, 0, false);
    for (unsigned t = 0; t < E.num_threads; t++) {
        if (E.threads[t].state == MODEL_ON_ALARM && E.threads[t].waits_on == a) {
            model_fail("two threads in one alarm: %s", model_where(site));
        }
    }
    if (!a->now && a->ring_at > E.now && deadline > E.now &&
        !(E.spurious > 0 && model_pick_value(2, MODEL_OF_WEAK, false) != 0 && E.spurious-- > 0)) {
        a->deadline = deadline;
        model_wait_until(MODEL_ON_ALARM, a, a->ring_at < deadline ? a->ring_at : deadline);
        model_alarm_check(a, site);
    }
    a->now = false;
    if (a->ring_at <= E.now) a->ring_at = UINT64_MAX;
}

/* Poller: a kernel's list of descriptors whose changes it tells once, to whoever waits. Events come
 * from clients, by model_poller_event. */
#define MODEL_POLLED 8

typedef struct model_poller {
    uint32_t made, num; /* num: descriptors */
    int fd;             /* its own; there is none */
    int fds[MODEL_POLLED];
    uint64_t token[MODEL_POLLED];
    uint32_t bits[MODEL_POLLED]; /* not told yet */
    model_alarm *alarm;          /* ends a wait, too */
    model_clock added;           /* what came before an add comes before what is told of it */
} model_poller;

static int model_poller_init(model_poller *p) {
    if (model_fault()) return -24; /* EMFILE */
    memset(p, 0, sizeof *p);
    p->made = 1;
    p->fd = -1;
    model_live_add(p, "poller");
    return 0;
}

static void model_poller_drop(model_poller *p) {
    p->made = 0;
    model_live_remove(p, "poller");
}

static void model_poller_check(const model_poller *p, const model_site *site) {
    uint32_t block = model_block_of((uintptr_t)p);
    if (!p->made || (block && E.blocks[block - 1].freed)) {
        model_fail("a poller that is gone: %s in %s", site->what, model_where(site));
    }
}

/* Level at the beginning: what is ready already is told. */
MODEL_UNUSED static int model_poller_add(model_site *site, model_poller *p, int fd, uint64_t token,
                                         uint32_t bits) {
    site->hits++;
    model_point(site, true);
    model_poller_check(p, site);
    if (model_fault()) return -28; /* ENOSPC */
    for (uint32_t i = 0; i < p->num; i++) {
        if (p->fds[i] == fd) return -17; /* EEXIST */
    }
    if (p->num == MODEL_POLLED) model_fail("engine: too many descriptors");
    p->fds[p->num] = fd, p->token[p->num] = token;
    p->bits[p->num++] = bits;
    model_tick();
    model_clock_join(&p->added, &model_self()->clock);
    model_trace(site, p, (uint64_t)fd, 0, false);
    if (bits) {
        for (unsigned t = 0; t < E.num_threads; t++) {
            if (E.threads[t].state == MODEL_ON_ALARM && E.threads[t].waits_on == p) {
                model_wake_thread(t);
            }
        }
    }
    return 0;
}

MODEL_UNUSED static void model_poller_remove(model_site *site, model_poller *p, int fd) {
    site->hits++;
    model_point(site, true);
    model_poller_check(p, site);
    for (uint32_t i = 0; i < p->num; i++) {
        if (p->fds[i] != fd) continue;
        p->num--;
        p->fds[i] = p->fds[p->num], p->token[i] = p->token[p->num], p->bits[i] = p->bits[p->num];
        break;
    }
    model_trace(site, p, (uint64_t)fd, 0, false);
}

/* The system finds that a descriptor has become ready. It may not be there (any more). */
MODEL_UNUSED static void model_poller_event(model_site *site, model_poller *p, int fd,
                                            uint32_t bits) {
    site->hits++;
    model_trace(site, p, bits, 0, false);
    for (uint32_t i = 0; i < p->num; i++) {
        if (p->fds[i] == fd) p->bits[i] |= bits;
    }
    for (unsigned t = 0; t < E.num_threads; t++) {
        if (E.threads[t].state == MODEL_ON_ALARM && E.threads[t].waits_on == p) {
            model_wake_thread(t);
        }
    }
}

static bool model_poller_is_ready(const model_poller *p) {
    const model_alarm *a = p->alarm;
    for (uint32_t i = 0; i < p->num; i++) {
        if (p->bits[i]) return true;
    }
    return a && (a->now || a->ring_at <= E.now);
}

/* mine: take this alarm's ring. */
static unsigned model_poller_wait(model_site *site, model_poller *p, model_alarm *mine,
                                  uint64_t deadline, uint64_t *tokens, uint32_t *bits,
                                  unsigned max) {
    unsigned n = 0;
    site->hits++;
    model_point(site, true);
    model_poller_check(p, site);
    model_trace(site, p, deadline, 0, false);
    /* Who is woken looks again: another may have taken the ring. */
    while (!model_poller_is_ready(p) && deadline > E.now &&
           !(E.spurious > 0 && model_pick_value(2, MODEL_OF_WEAK, false) != 0 &&
             E.spurious-- > 0)) {
        uint64_t until = deadline;
        if (p->alarm) {
            p->alarm->deadline = deadline;
            if (p->alarm->ring_at < until) until = p->alarm->ring_at;
        }
        model_wait_until(MODEL_ON_ALARM, p, until);
        model_poller_check(p, site);
    }
    if (mine) {
        mine->now = false;
        if (mine->ring_at <= E.now) mine->ring_at = UINT64_MAX;
    }
    model_clock_join(&model_self()->clock, &p->added);
    model_tick();
    for (uint32_t i = 0; i < p->num && n < max; i++) {
        if (!p->bits[i]) continue;
        tokens[n] = p->token[i];
        bits[n++] = p->bits[i];
        p->bits[i] = 0;
    }
    return n;
}

/* Heap ------------------------------------------------------------------------------------------
 * Addresses are given once in an execution, so that whoever comes late finds a freed block. */

static void *model_allocate(size_t size, size_t align, bool pages, bool engines) {
    uintptr_t address = ((uintptr_t)E.bump + align - 1) & ~(uintptr_t)(align - 1);
    model_block *b;
    if (E.num_blocks == MODEL_BLOCKS ||
        address + size + 64 > MODEL_ARENA_BASE + MODEL_ARENA_SIZE) {
        model_fail("engine: the arena is full");
    }
    b = &E.blocks[E.num_blocks++];
    b->address = address;
    b->size = size;
    b->site = model_self()->at;
    b->thread = (uint8_t)E.current;
    b->freed = false;
    b->pages = pages;
    b->engines = engines;
    /* 16 bytes stay between blocks. What is in the memory must not depend on former executions; of
     * large blocks only the beginning is filled. */
    E.bump = (char *)(address + ((size + 15) & ~(size_t)15) + 16);
    if (!pages) memset((void *)address, engines ? 0 : 0xa5, engines || size <= 4096 ? size : 1024);
    return (void *)address;
}

/* Nobody may stand on what is freed. */
static void model_check_stacks(const model_block *b) {
    for (unsigned t = 0; t < E.num_threads; t++) {
        uintptr_t sp = t == E.current ? (uintptr_t)__builtin_frame_address(0)
                                      : (uintptr_t)E.threads[t].sp;
        if (!(E.done >> t & 1) && sp - b->address < b->size) {
            model_fail("freed the stack that T%u stands on", t);
        }
    }
}

static void model_release(void *memory, size_t size, bool pages) {
    uint32_t index = model_block_of((uintptr_t)memory);
    model_block *b = index ? &E.blocks[index - 1] : NULL;
    if (!b || b->address != (uintptr_t)memory || b->engines || b->pages != pages) {
        model_fail("freed what was not allocated: %p", memory);
    }
    if (b->freed) model_fail("freed twice: %p, %zu bytes", memory, size);
    if (b->size != size) model_fail("freed with size %zu instead of %zu", size, b->size);
    model_check_stacks(b);
    b->freed = true;
    memset(memory, 0xdb, size <= 4096 ? size : 1024); /* a pointer from it faults */
}

/* The contents are lost: whoever thought otherwise sees it. */
static void model_discard(model_site *site, void *memory, size_t size) {
    site->hits++;
    model_point(site, true);
    model_trace(site, memory, size, 0, false);
    memset(memory, 0, size);
}

enum { MODEL_BARRIER_WORKS, MODEL_BARRIER_MAY_FAIL, MODEL_BARRIER_FAILS };
static int model_barrier_mood; /* a client's wish */

/* A barrier on all threads: whoever loads from now on sees at least the newest store of each
 * atomic. It orders, but gives nobody the right to read plain data. */
static bool model_barrier(model_site *site, bool by_time) {
    site->hits++;
    model_point(site, true);
    model_trace(site, NULL, 0, 0, false);
    if (!by_time && model_barrier_mood == MODEL_BARRIER_FAILS) return false;
    if (!by_time && model_barrier_mood == MODEL_BARRIER_MAY_FAIL && model_choose(2)) return false;
    for (unsigned i = 0; i < E.num_objects; i++) {
        model_object *o = &E.objects[i];
        if (o->epoch != E.epoch || o->kind != MODEL_ATOMIC || o->num_stores < 2) continue;
        o->as.stores[0] = *model_newest(o);
        o->num_stores = 1;
        memset(o->old_reads, 0, sizeof o->old_reads);
    }
    return true;
}

static void *model_new(size_t size) { return model_allocate(size, 64, false, true); }

static void model_outcome(unsigned number) { E.seen_outcomes |= UINT64_C(1) << number; }

static unsigned model_time_jumps(void) { return E.time_jumps; }

static unsigned model_time_passes(void) { return E.time_passes; }

/* One execution ---------------------------------------------------------------------------------*/

static void model_end_checks(void) {
    for (unsigned t = 1; t < E.num_threads; t++) {
        if (!E.threads[t].joined) {
            model_fail("T%u was not joined; it %s at %s", t,
                       model_state_name(E.threads[t].state), model_where(E.threads[t].at));
        }
    }
    for (unsigned i = 0; i < E.num_live; i++) {
        model_fail("%s made by T%u is still there", E.live[i].what, E.live[i].thread);
    }
    for (unsigned i = 0; i < E.num_blocks; i++) {
        model_block *b = &E.blocks[i];
        if (!b->freed && !b->engines) {
            model_fail("leak: %zu bytes%s of T%u, allocated after %s", b->size,
                       b->pages ? " of pages" : "", b->thread, model_where(b->site));
        }
    }
}

static void model_run(int mode) {
    E.mode = mode;
    E.current = E.num_threads = 0;
    E.ready = E.timed = E.done = 0;
    E.epoch++;
    E.now = 1000000;
    E.steps = E.point = E.run_length = 0;
    E.time_jumps = E.time_passes = E.faults_done = 0;
    E.preemptions = E.old_reads = 0;
    E.spurious = E.options.spurious;
    E.faults = E.options.faults;
    E.woken = E.grown = E.failed = false;
    E.bump = (char *)MODEL_ARENA_BASE;
    E.num_blocks = E.num_live = 0;
    E.depth = 0;
    E.script_next = 0;
    E.log_length = 0;
    E.trace_length = 0;
    (void)model_thread_begin(NULL, NULL, NULL);
    E.in_execution = true;
    model_swap(&E.home, E.threads[0].sp);
    E.in_execution = false;
    E.executions++;
    E.all_steps += E.steps;
    E.heartbeat++;
}

#endif
