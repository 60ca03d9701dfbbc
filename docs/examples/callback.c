/* callback - an operation of your own: a C library that calls back from a thread of its own becomes
 * something that a task waits for, with a time limit, or together with others.
 *
 *     cc -std=c11 -O2 -I. docs/examples/callback.c -o build/callback -pthread
 *
 * The library is the first part; it knows nothing of tasks. The operation is the second part: two
 * functions of some lines. The rest uses it.
 *
 * What cancel answers is what the library knows of the request:
 *   still queued      it forgets it, and will not call back:        SCH_OP_REMOVED
 *   working on it     it cannot stop, and will call back soon:      SCH_OP_BUSY
 *   has called back   while cancel was on its way to ask:           SCH_OP_DONE
 * A library that cannot tell the last two apart is wrapped with SCH_OP_BUSY for both. So is one
 * that can forget nothing; then a time limit does not cut the wait short. If that takes too long,
 * the request is allocated: cancel marks it as given up, under the lock that the callback takes,
 * too, and says SCH_OP_REMOVED; the callback finds the mark and frees it.
 */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L /* nanosleep() in spite of -std=c11 */
#endif

#define SCHED_IMPLEMENTATION
#include "../../sched.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A library that squares numbers, one after the other, in its own thread ------------------------*/

typedef enum squares_state { SQUARES_QUEUED, SQUARES_BEGUN, SQUARES_ANSWERED } squares_state;

typedef struct squares_request {
    struct squares_request *next; /* under lock */
    squares_state state;          /* under lock */
    long number;
    uint64_t work_ns; /* what this one costs */
    void (*answer)(struct squares_request *request, long square);
} squares_request;

typedef struct squares {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    squares_request *first; /* under lock, and these two */
    bool stop;
    unsigned long answers;
    pthread_t thread;
} squares;

static void squares_work(uint64_t ns) {
    uint64_t end = sch_now() + ns;
    struct timespec nap;
    nap.tv_sec = 0;
    nap.tv_nsec = (long)ns;
    if (ns >= SCH_MILLISECOND) (void)nanosleep(&nap, NULL);
    while (sch_now() < end) continue;
}

static void *squares_main(void *library) {
    squares *s = (squares *)library;
    (void)pthread_mutex_lock(&s->lock);
    for (;;) {
        squares_request *r = s->first;
        if (!r && s->stop) break;
        if (!r) {
            (void)pthread_cond_wait(&s->changed, &s->lock);
            continue;
        }
        s->first = r->next;
        r->state = SQUARES_BEGUN;
        (void)pthread_mutex_unlock(&s->lock);
        squares_work(r->work_ns);
        (void)pthread_mutex_lock(&s->lock);
        s->answers++;
        r->state = SQUARES_ANSWERED; /* before the answer: then the request may be gone */
        r->answer(r, r->number * r->number); /* with the lock: who asks next finds it answered */
    }
    (void)pthread_mutex_unlock(&s->lock);
    return NULL;
}

static void squares_ask(squares *s, squares_request *r) {
    squares_request **at = &s->first;
    (void)pthread_mutex_lock(&s->lock);
    r->state = SQUARES_QUEUED;
    r->next = NULL;
    while (*at) at = &(*at)->next;
    *at = r;
    (void)pthread_cond_signal(&s->changed);
    (void)pthread_mutex_unlock(&s->lock);
}

/* Forget a request that has not begun. Returns what it was. */
static squares_state squares_forget(squares *s, squares_request *r) {
    squares_request **at = &s->first;
    squares_state state;
    (void)pthread_mutex_lock(&s->lock);
    state = r->state;
    if (state == SQUARES_QUEUED) {
        while (*at != r) at = &(*at)->next;
        *at = r->next;
    }
    (void)pthread_mutex_unlock(&s->lock);
    return state;
}

static bool squares_start(squares *s) {
    memset(s, 0, sizeof *s);
    (void)pthread_mutex_init(&s->lock, NULL);
    (void)pthread_cond_init(&s->changed, NULL);
    return pthread_create(&s->thread, NULL, squares_main, s) == 0;
}

static void squares_stop(squares *s) {
    (void)pthread_mutex_lock(&s->lock);
    s->stop = true;
    (void)pthread_cond_signal(&s->changed);
    (void)pthread_mutex_unlock(&s->lock);
    (void)pthread_join(s->thread, NULL);
    (void)pthread_cond_destroy(&s->changed);
    (void)pthread_mutex_destroy(&s->lock);
}

/* The operation: a square ----------------------------------------------------------------------*/

typedef struct square {
    sch_op op; /* first, so that the one can be had from the other */
    squares *library;
    squares_request request;
} square;

static unsigned long answered[3]; /* by cancel; one task asks it */

/* In the library's thread. The waiter may go on, and the operation be gone, before this returns. No
 * task runs in it, so the library's lock may be held. */
static void square_answer(squares_request *request, long number) {
    square *s = (square *)(void *)((char *)request - offsetof(square, request));
    sch_op_complete(&s->op, number);
}

static sch_status square_poll(sch_op *op) {
    square *s = (square *)(void *)op;
    squares_ask(s->library, &s->request); /* the answer may have come before this returns */
    return SCH_PENDING;
}

static sch_op_revoked square_cancel(sch_op *op) {
    square *s = (square *)(void *)op;
    sch_op_revoked answer = SCH_OP_BUSY;
    switch (squares_forget(s->library, &s->request)) {
    case SQUARES_QUEUED: answer = SCH_OP_REMOVED; break;
    case SQUARES_BEGUN: answer = SCH_OP_BUSY; break;
    case SQUARES_ANSWERED: answer = SCH_OP_DONE; break;
    }
    answered[answer]++;
    return answer;
}

static const sch_op_type square_type = {square_poll, square_cancel, "square"};

static square square_op(squares *library, long number, uint64_t work_ns) {
    square s;
    memset(&s, 0, sizeof s);
    s.op.type = &square_type;
    s.library = library;
    s.request.number = number;
    s.request.work_ns = work_ns;
    s.request.answer = square_answer;
    return s;
}

/* Use -------------------------------------------------------------------------------------------*/

static const char *shown(int64_t result) {
    static char text[32];
    if (result < 0) return sch_strerror((int)result);
    snprintf(text, sizeof text, "%lld", (long long)result);
    return text;
}

/* Whoever answers first, many times, until cancel has met the library in each of its states. */
static bool race(squares *library) {
    uint64_t seed = 1, until = sch_now() + 20 * SCH_SECOND;
    unsigned long rounds = 0, results = 0, before = library->answers;
    bool good = true;
    for (; rounds < 2000 || !answered[SCH_OP_REMOVED] || !answered[SCH_OP_BUSY] ||
           !answered[SCH_OP_DONE];
         rounds++) {
        square a, b;
        sch_op *both[2];
        int first;
        if (sch_now() > until) break;
        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
        a = square_op(library, 3, seed >> 40 & 0x3fff);
        b = square_op(library, 4, seed >> 24 & 0x3fff);
        both[0] = &a.op, both[1] = &b.op;
        first = sch_await_any(both, 2, SCH_FOREVER);
        if (first < 0) return false;
        if (sch_op_is_done(&a.op)) results++, good = good && a.op.result == 9;
        if (sch_op_is_done(&b.op)) results++, good = good && b.op.result == 16;
    }
    (void)pthread_mutex_lock(&library->lock);
    before = library->answers - before;
    (void)pthread_mutex_unlock(&library->lock);
    printf("%lu races of two: every answer had, none twice: %s\n", rounds,
           good && results == before ? "yes" : "no");
    return good && results == before;
}

static bool all_good;

static void occupy(void *arg) {
    square s = square_op((squares *)arg, 43, 100 * SCH_MILLISECOND);
    (void)sch_await(&s.op);
}

static void demo(void *arg) {
    squares *library = (squares *)arg;
    square a = square_op(library, 41, SCH_MILLISECOND);
    sch_task *other;

    printf("alone: %s\n", shown(sch_await(&a.op)));

    /* The library is at it when the time is over: it comes late, but is not lost. */
    a = square_op(library, 42, 50 * SCH_MILLISECOND);
    printf("5 ms for what takes 50: %s\n", shown(sch_timeout(&a.op, 5 * SCH_MILLISECOND)));

    /* Behind another's it is still queued when the time is over, and is forgotten. */
    other = sch_spawn(NULL, occupy, library);
    (void)sch_sleep(5 * SCH_MILLISECOND);
    a = square_op(library, 44, 0);
    printf("5 ms for one in a queue: %s\n", shown(sch_timeout(&a.op, 5 * SCH_MILLISECOND)));
    (void)sch_join(other);

    all_good = race(library);
    printf("cancel answered: removed %lu, busy %lu, done %lu\n", answered[SCH_OP_REMOVED],
           answered[SCH_OP_BUSY], answered[SCH_OP_DONE]);
}

int main(void) {
    sch_runtime *rt = sch_runtime_new(NULL);
    squares library;
    int error;
    if (!rt || !squares_start(&library)) {
        fprintf(stderr, "callback: no thread can be made\n");
        return EXIT_FAILURE;
    }
    error = sch_join(sch_spawn(rt, demo, &library));
    squares_stop(&library);
    sch_runtime_free(rt);
    return error == 0 && all_good ? EXIT_SUCCESS : EXIT_FAILURE;
}
