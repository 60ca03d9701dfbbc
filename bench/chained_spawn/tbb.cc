// chained_spawn in oneTBB (task_group). Question, method and traps: see sched.c.
#include "bench.h"
#include <tbb/global_control.h>
#include <tbb/task_arena.h>
#include <tbb/task_group.h>

static tbb::task_group *group;
static uint64_t ran;

static void link_next(uint64_t left) {
    ran++;
    if (left > 1) group->run([left] { link_next(left - 1); });
}

int main(int argc, char **argv) {
    static bench b;
    bench_init(&b, argc, argv, "chained_spawn", "tbb", 1000000, "chain");
    tbb::global_control limit(tbb::global_control::max_allowed_parallelism, b.workers);
    tbb::task_arena arena(static_cast<int>(b.workers));
    arena.execute([&] {
        tbb::task_group chain;
        group = &chain;
        while (bench_round(&b)) {
            ran = 0;
            for (uint64_t begun = 0; begun < b.ops; begun += 1000) {
                uint64_t n = b.ops - begun < 1000 ? b.ops - begun : 1000;
                chain.run([n] { link_next(n); });
                chain.wait();
            }
            bench_done(&b, ran);
        }
    });
    return bench_report(&b);
}
