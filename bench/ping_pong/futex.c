/* ping_pong, bare: two threads wake each other through a futex, on one CPU (one worker) or on two.
 * Question and traps: see sched.c. */
#include "bench.h"
#include <pthread.h>
#include <stdatomic.h>
#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>

static _Atomic uint32_t turn; /* whose */
static uint64_t answers;
static bench b;

/* Wait until the turn is mine, then make it the other's. */
static void step(uint32_t mine) {
    while (atomic_load(&turn) != mine) {
        syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, 1u - mine, NULL, NULL, 0);
    }
    atomic_store(&turn, 1u - mine);
    syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void *answer(void *arg) {
    (void)arg;
    bench_pin_self(b.workers - 1);
    uint64_t want = (b.warmup + b.rounds) * b.ops;
    for (uint64_t i = 0; i < want; i++) {
        step(1);
        answers++;
    }
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t thread;
    bench_init(&b, argc, argv, "ping_pong", "futex", 10000, "roundtrip");
    if (b.workers > 2) return BENCH_SKIP;
    if (b.ops > 10000) b.ops = 10000;
    if (pthread_create(&thread, NULL, answer, NULL) != 0) bench_die("pthread_create failed");
    bench_pin_self(0); /* not before: the thread would inherit it */
    while (bench_round(&b)) {
        uint64_t done = 0;
        for (; done < b.ops; done++) step(0);
        bench_done(&b, done);
    }
    pthread_join(thread, NULL);
    b.bad += answers != (b.warmup + b.rounds) * b.ops;
    return bench_report(&b);
}
#else
int main(void) {
    return BENCH_SKIP;
}
#endif
