/* timers, lateness alone: what the kernel adds to a sleep. Method: sched.c. */
#include "bench.h"

#define LATENESS_MAX 200u

int main(int argc, char **argv) {
    static bench b;
    static double late[LATENESS_MAX];
    uint32_t random = 1;
    bench_init(&b, argc, argv, "timers", "nanosleep", LATENESS_MAX, "lateness");
    if (b.ops > LATENESS_MAX) b.ops = LATENESS_MAX;
    for (uint64_t i = 0; i < b.ops; i++) {
        random = random * 1664525u + 1013904223u;
        uint64_t due = bench_now() + 200000u + random % 9800000u;
        struct timespec t = {(time_t)(due / 1000000000u), (long)(due % 1000000000u)};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) {
        }
        uint64_t now = bench_now();
        b.bad += now < due;
        late[i] = (double)now - (double)due;
    }
    return bench_report_latency(&b, late, (size_t)b.ops);
}
