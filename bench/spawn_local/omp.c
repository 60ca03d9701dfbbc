/* spawn_local in OpenMP, by gcc and by clang. Question, method and traps: see sched.c. A taskwait
 * waits for all tasks of a batch at once; the common count is there to check them, as in the
 * others. With one worker libgomp runs a task within its spawn. */
#include "bench.h"
#include <stdatomic.h>

static atomic_uint left;

static uint64_t run(uint64_t ops, unsigned batch) {
    uint64_t done = 0;
    for (uint64_t begun = 0; begun < ops;) {
        unsigned n = ops - begun < batch ? (unsigned)(ops - begun) : batch;
        atomic_store_explicit(&left, n, memory_order_relaxed);
        for (unsigned i = 0; i < n; i++) {
#pragma omp task
            atomic_fetch_sub_explicit(&left, 1u, memory_order_acq_rel);
        }
#pragma omp taskwait
        done += n - atomic_load_explicit(&left, memory_order_acquire);
        begun += n;
    }
    return done;
}

int main(int argc, char **argv) {
    static bench b;
    bench_init(&b, argc, argv, "spawn_local", "omp", 1000000, "detached detached_10k");
    uint64_t most = b.workers == 1 ? b.ops : b.workers == 2 ? 100000 : 20000;
    if (b.ops > most) b.ops = most; /* 300 ns each with two, far more with many */
#pragma omp parallel num_threads((int)b.workers)
#pragma omp single
    while (bench_round(&b)) bench_done(&b, run(b.ops, bench_is(&b, "detached") ? 200u : 10000u));
    return bench_report(&b);
}
