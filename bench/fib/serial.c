/* fib without forks. Question, method and traps: see fib.h. */
#include "fib/fib.h"

static uint64_t fib(unsigned n) {
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

int main(int argc, char **argv) {
    static bench b;
    bench_init(&b, argc, argv, "fib", "serial", 4000000, "fork");
    if (b.workers != 1) return BENCH_SKIP;
    volatile unsigned n = fib_fit(&b);
    while (bench_round(&b)) fib_done(&b, n, fib(n));
    return bench_report(&b);
}
