// parallel_for in oneTBB. Question, method and traps: see loop.h.
#include "parallel_for/loop.h"
#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

static void run(uint32_t *out, size_t n, uint64_t seed) {
    tbb::parallel_for(tbb::blocked_range<size_t>(0, n),
                      [=](const tbb::blocked_range<size_t> &part) {
                          for (size_t i = part.begin(); i < part.end(); i++) {
                              out[i] = loop_element(i, seed);
                          }
                      });
}

int main(int argc, char **argv) {
    static bench b;
    loop_init(&b, argc, argv, "tbb");
    tbb::global_control limit(tbb::global_control::max_allowed_parallelism, b.workers);
    tbb::task_arena arena(static_cast<int>(b.workers));
    return arena.execute([&] { return loop_main(&b, run); });
}
