// fib in oneTBB (task_group). Question, method and traps: see fib.h.
#include "fib/fib.h"
#include <tbb/global_control.h>
#include <tbb/task_arena.h>
#include <tbb/task_group.h>

static uint64_t fib(unsigned n) {
    uint64_t a = 0;
    if (n < 2) return n;
    tbb::task_group group;
    group.run([&a, n] { a = fib(n - 1); });
    uint64_t b = fib(n - 2);
    group.wait();
    return a + b;
}

int main(int argc, char **argv) {
    static bench b;
    bench_init(&b, argc, argv, "fib", "tbb", 4000000, "fork");
    if (b.ops > 1000000) b.ops = 1000000; // a task costs 100 ns
    unsigned n = fib_fit(&b);
    tbb::global_control limit(tbb::global_control::max_allowed_parallelism, b.workers);
    tbb::task_arena arena(static_cast<int>(b.workers));
    arena.execute([&] {
        while (bench_round(&b)) fib_done(&b, n, fib(n));
    });
    return bench_report(&b);
}
