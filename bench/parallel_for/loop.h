/* parallel_for: what does a loop over several workers give, and what does one call of it cost?
 *
 * Method   Each element is 1.5 ns of arithmetic that no compiler turns into vector instructions,
 *          and 4 bytes that are written.
 *            large   one call over `ops` elements (10,000,000); an operation is an element
 *            tiny    `ops` calls over 1000 elements, one after the other; an operation is a call
 *            rested  the same with a millisecond between them: the workers may be asleep. The
 *                    figure is the p50 of a call
 * Checked  large: every element, after each call. tiny, rested: one element after each call, every
 *          element at the end. The elements depend on the number of the call.
 * Misleads In `tiny` the others still spin from the call before; a program that has something to do
 *          in between sees `rested`, but whoever spins longer than that looks good there, too, at
 *          the expense of other processes: see CPU time.
 */
#ifndef BENCH_LOOP_H
#define BENCH_LOOP_H

#include "bench.h"

#define LOOP_TINY 1000u
#define LOOP_SAMPLES_MAX 10000u

/* The contender's own: out[i] = loop_element(i, seed) for all i < n. */
typedef void (*loop_fn)(uint32_t *out, size_t n, uint64_t seed);

__extension__ typedef unsigned __int128 loop_wide;

static inline uint64_t loop_mix(uint64_t x) {
    loop_wide product = (loop_wide)x * UINT64_C(0x9e3779b97f4a7c15);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint32_t loop_element(size_t i, uint64_t seed) {
    return (uint32_t)loop_mix(loop_mix(loop_mix(loop_mix(loop_mix(loop_mix(i + seed))))));
}

static inline uint64_t loop_wrong(const uint32_t *out, size_t n, uint64_t seed) {
    uint64_t wrong = 0;
    for (size_t i = 0; i < n; i++) wrong += out[i] != loop_element(i, seed);
    return wrong;
}

static inline bool loop_one_right(const uint32_t *out, uint64_t seed) {
    return out[seed % LOOP_TINY] == loop_element(seed % LOOP_TINY, seed);
}

static inline void loop_init(bench *b, int argc, char **argv, const char *contender) {
    bench_init(b, argc, argv, "parallel_for", contender, 10000000, "large tiny rested");
    if (bench_is(b, "rested") && b->ops > LOOP_SAMPLES_MAX) b->ops = LOOP_SAMPLES_MAX;
}

static inline void loop_large(bench *b, loop_fn run) {
    size_t n = (size_t)b->ops;
    uint32_t *out = (uint32_t *)malloc(n * sizeof *out);
    if (out == NULL) bench_die("no memory");
    for (uint64_t seed = 1; bench_round(b); seed++) {
        run(out, n, seed);
        bench_done(b, b->ops);
        b->bad += loop_wrong(out, n, seed);
    }
    free(out);
}

static inline void loop_tiny(bench *b, loop_fn run) {
    static uint32_t out[LOOP_TINY];
    uint64_t seed = 1;
    while (bench_round(b)) {
        uint64_t done = 0;
        for (uint64_t i = 0; i < b->ops; i++) {
            run(out, LOOP_TINY, ++seed);
            done += loop_one_right(out, seed);
        }
        bench_done(b, done);
        b->bad += loop_wrong(out, LOOP_TINY, seed);
    }
}

static inline int loop_rested(bench *b, loop_fn run) {
    static uint32_t out[LOOP_TINY];
    static double latency[LOOP_SAMPLES_MAX];
    uint64_t seed = 1;
    for (uint64_t i = 0; i < b->ops; i++) {
        bench_sleep(1000000);
        uint64_t begin = bench_now();
        run(out, LOOP_TINY, ++seed);
        latency[i] = (double)(bench_now() - begin);
        b->bad += !loop_one_right(out, seed);
    }
    b->bad += loop_wrong(out, LOOP_TINY, seed);
    return bench_report_latency(b, latency, (size_t)b->ops);
}

/* The rest of main, and its status. */
static inline int loop_main(bench *b, loop_fn run) {
    if (bench_is(b, "rested")) return loop_rested(b, run);
    if (bench_is(b, "large")) {
        loop_large(b, run);
    } else {
        loop_tiny(b, run);
    }
    return bench_report(b);
}

#endif /* BENCH_LOOP_H */
