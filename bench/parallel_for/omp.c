/* parallel_for in OpenMP, by gcc and by clang. Question, method and traps: see loop.h. */
#include "parallel_for/loop.h"

static int workers;

static void run(uint32_t *out, size_t n, uint64_t seed) {
#pragma omp parallel for num_threads(workers)
    for (size_t i = 0; i < n; i++) out[i] = loop_element(i, seed);
}

int main(int argc, char **argv) {
    static bench b;
    loop_init(&b, argc, argv, "omp");
    workers = (int)b.workers;
    return loop_main(&b, run);
}
