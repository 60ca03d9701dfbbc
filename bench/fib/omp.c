/* fib in OpenMP, by gcc and by clang. Question, method and traps: see fib.h. */
#include "fib/fib.h"

static uint64_t fib(unsigned n) {
    uint64_t a = 0;
    if (n < 2) return n;
#pragma omp task shared(a) firstprivate(n)
    a = fib(n - 1);
    uint64_t b = fib(n - 2);
#pragma omp taskwait
    return a + b;
}

int main(int argc, char **argv) {
    static bench b;
    bench_init(&b, argc, argv, "fib", "omp", 4000000, "fork");
    if (b.workers > 1 && b.ops > 200000) b.ops = 200000; /* 200 ns each */
    unsigned n = fib_fit(&b);
#pragma omp parallel num_threads((int)b.workers)
#pragma omp single
    while (bench_round(&b)) fib_done(&b, n, fib(n));
    return bench_report(&b);
}
