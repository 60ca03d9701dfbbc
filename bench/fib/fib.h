/* fib: what does it cost to fork at every node of a recursion, and to join?
 *
 * Method   fib(n) = fib(n - 1) + fib(n - 2), one side forked, the other called, then joined; no
 *          cut-off. An operation is a fork: fib(n + 1) - 1 of them, n as large as `ops` allows.
 * Checked  The result, against a loop.
 * Misleads There is no work but the forks, so with two workers it is the price of sharing that is
 *          seen. serial is the function call; a compiler that inlines some levels of it lowers the
 *          price of one.
 */
#ifndef BENCH_FIB_H
#define BENCH_FIB_H

#include "bench.h"

static inline uint64_t fib_of(unsigned n) {
    uint64_t a = 0;
    uint64_t b = 1;
    for (; n > 0; n--) {
        uint64_t next = a + b;
        a = b;
        b = next;
    }
    return a;
}

/* The largest n whose forks are at most b->ops, which becomes their number. */
static inline unsigned fib_fit(bench *b) {
    unsigned n = 2;
    while (fib_of(n + 2) - 1 <= b->ops) n++;
    b->ops = fib_of(n + 1) - 1;
    return n;
}

static inline void fib_done(bench *b, unsigned n, uint64_t result) {
    bench_done(b, result == fib_of(n) ? b->ops : 0);
}

#endif /* BENCH_FIB_H */
