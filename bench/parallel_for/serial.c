/* parallel_for without workers. Question, method and traps: see loop.h. */
#include "parallel_for/loop.h"

static void run(uint32_t *out, size_t n, uint64_t seed) {
    for (size_t i = 0; i < n; i++) out[i] = loop_element(i, seed);
}

int main(int argc, char **argv) {
    static bench b;
    loop_init(&b, argc, argv, "serial");
    return loop_main(&b, run);
}
