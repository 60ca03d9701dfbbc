/* model.h - the explorer's interface: what clients, platform.h and the engine share.
 *
 * The explorer runs a client again and again, each time with another interleaving of its threads
 * and another choice of what weak memory may show. Threads are coroutines on one OS thread; every
 * operation of the platform (sections [2] and [3] of sched.h) calls the engine first.
 *
 *     MODEL(two_pushes, .bound = 2, .random = 2000) {
 *         struct state *s = model_new(sizeof *s);
 *         ...
 *         MODEL_EXPECT(sum == 2);
 *     }
 *
 * The body is thread 0 of every execution. Statics are not reset between executions: state lives
 * in locals and in model_new(). When the body returns, every thread that was started must have been
 * joined and all memory freed.
 */
#ifndef MODEL_H
#define MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_THREADS 12 /* in one execution; numbers are not used again */
#define MODEL_HISTORY 8  /* stores of one atomic that a load may still read */

typedef struct model_options {
    int bound;            /* preemptions in the depth-first search; -1: no such search */
    int stale;            /* old stores read in one execution of the depth-first search */
    long random;          /* random executions after it, at level ci */
    int spurious;         /* weak compare-and-swaps and waits that fail for no reason, each run */
    int faults;           /* allocations and thread starts that fail, each run */
    long steps;           /* more operations than this: livelock */
    uint64_t outcomes;    /* exactly these model_outcome() numbers must be seen; 0: any */
    const char *fails;    /* a planted bug: the client must fail with this in the message */
} model_options;

typedef struct model_client {
    const char *name;
    void (*body)(void);
    int number; /* order in the source */
    model_options options;
} model_client;

/* At least one option must be given. */
#define MODEL(client_name, ...)                                                                    \
    static void model_body_##client_name(void);                                                    \
    _Pragma("GCC diagnostic push") MODEL_OVERRIDE_OK static const model_client                     \
        model_client_##client_name = {                                                             \
            #client_name, model_body_##client_name, __COUNTER__,                                   \
            {.bound = 2, .stale = 2, .random = 10000, .steps = 20000, __VA_ARGS__}};               \
    _Pragma("GCC diagnostic pop") static const model_client *const model_entry_##client_name       \
        __attribute__((section("model_clients"), used)) = &model_client_##client_name;             \
    static void model_body_##client_name(void)

#if defined(__clang__)
#define MODEL_OVERRIDE_OK _Pragma("GCC diagnostic ignored \"-Winitializer-overrides\"")
#else
#define MODEL_OVERRIDE_OK _Pragma("GCC diagnostic ignored \"-Woverride-init\"")
#endif

/* A place in the source that calls the engine. The pointers to all of them are in one section of
 * the binary, so they can be listed, and weakened, before they run. */
enum { MODEL_RLX, MODEL_ACQ, MODEL_REL, MODEL_ACQREL, MODEL_SEQ };
enum { MODEL_LOAD, MODEL_STORE, MODEL_XCHG, MODEL_ADD, MODEL_SUB, MODEL_OR, MODEL_AND, MODEL_CAS,
       MODEL_CAS_WEAK, MODEL_RD, MODEL_WR, MODEL_LOCK, MODEL_UNLOCK, MODEL_WAIT, MODEL_WAKE,
       MODEL_ALARM_SET, MODEL_ALARM_WAIT, MODEL_START, MODEL_JOIN, MODEL_PAUSE, MODEL_OTHER };

typedef struct model_site {
    const char *file, *func, *what; /* what: the operand as written */
    int line, number;               /* number: order in the source */
    unsigned char op;
    unsigned char order; /* as weakened */
    bool is_client;      /* not in sched.h */
    uint64_t hits;
} model_site;

#define MODEL_SITE(id, op, order, text)                                                            \
    static model_site model_site_##id = {__FILE__, __func__, text,  __LINE__,                      \
                                         id,       op,       order, false,    0};                  \
    static model_site *model_at_##id __attribute__((section("model_sites"), used)) =               \
        &model_site_##id

/* For clients -----------------------------------------------------------------------------------*/

#define MODEL_EXPECT(c) ((c) ? (void)0 : model_fail_at(__FILE__, __LINE__, "expected: " #c))

/* A choice that the explorer makes: 0 .. n-1. */
__attribute__((unused)) static unsigned model_choose(unsigned n);

/* Zeroed memory for the client's own state; the engine frees it. */
__attribute__((unused)) static void *model_new(size_t size);

/* Reports how an execution ended; see the option outcomes. Below 64. */
__attribute__((unused)) static void model_outcome(unsigned number);

/* How often nothing could run and time had to pass so far in this execution: 0 means that no thread
 * was saved by a time-out. */
__attribute__((unused)) static unsigned model_time_jumps(void);

/* How often time has passed although somebody could run, by choice: 0 means that whoever was late
 * was so by itself. */
__attribute__((unused)) static unsigned model_time_passes(void);

/* How often something has been refused in this execution so far (option faults). */
__attribute__((unused)) static unsigned model_faults(void);

__attribute__((noreturn)) static void model_fail_at(const char *file, int line, const char *text);

#endif
