// spawn_local in oneTBB (task_group). Question, method and traps: see sched.c. A task_group waits
// for all of its tasks at once; the common count is there to check them, as in the others.
#include "bench.h"
#include <atomic>
#include <tbb/global_control.h>
#include <tbb/task_arena.h>
#include <tbb/task_group.h>

static std::atomic<unsigned> left;

int main(int argc, char **argv) {
    static bench b;
    bench_init(&b, argc, argv, "spawn_local", "tbb", 1000000, "detached detached_10k");
    tbb::global_control limit(tbb::global_control::max_allowed_parallelism, b.workers);
    tbb::task_arena arena(static_cast<int>(b.workers));
    unsigned batch = bench_is(&b, "detached_10k") ? 10000u : 200u;
    arena.execute([&] {
        while (bench_round(&b)) {
            uint64_t done = 0;
            for (uint64_t begun = 0; begun < b.ops;) {
                unsigned n = b.ops - begun < batch ? static_cast<unsigned>(b.ops - begun) : batch;
                tbb::task_group group;
                left.store(n, std::memory_order_relaxed);
                for (unsigned i = 0; i < n; i++) {
                    group.run([] { left.fetch_sub(1, std::memory_order_acq_rel); });
                }
                group.wait();
                done += n - left.load(std::memory_order_acquire);
                begun += n;
            }
            bench_done(&b, done);
        }
    });
    return bench_report(&b);
}
