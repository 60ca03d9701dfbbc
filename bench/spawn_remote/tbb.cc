// spawn_remote in oneTBB (task_arena::enqueue). Question, method and traps: see sched.c. A task that
// was enqueued cannot be joined: a common count tells when all have run, and their cells are read.
#include "bench.h"
#include <atomic>
#include <semaphore.h>
#include <tbb/global_control.h>
#include <tbb/task_arena.h>

static const unsigned batch = 10000;
static uint32_t cells[batch];
static std::atomic<unsigned> left;
static sem_t all_ran;

int main(int argc, char **argv) {
    static bench b;
    bench_init(&b, argc, argv, "spawn_remote", "tbb", 100000, "idle");
    // Its limit counts the main thread, which takes no part.
    tbb::global_control limit(tbb::global_control::max_allowed_parallelism, b.workers + 1);
    tbb::task_arena arena(static_cast<int>(b.workers), 0);
    sem_init(&all_ran, 0, 0);
    while (bench_round(&b)) {
        uint64_t done = 0;
        for (uint64_t begun = 0; begun < b.ops;) {
            unsigned n = b.ops - begun < batch ? static_cast<unsigned>(b.ops - begun) : batch;
            left.store(n, std::memory_order_relaxed);
            for (unsigned i = 0; i < n; i++) {
                cells[i] = 0;
                arena.enqueue([i] {
                    cells[i] += 1;
                    if (left.fetch_sub(1, std::memory_order_acq_rel) == 1) sem_post(&all_ran);
                });
            }
            while (sem_wait(&all_ran) != 0) continue;
            for (unsigned i = 0; i < n; i++) done += cells[i];
            begun += n;
        }
        bench_done(&b, done);
    }
    return bench_report(&b);
}
