/* yield_many, a thread a task: sched_yield(2), among 20 threads only, since 200 would starve what
 * else runs on the machine. See sched.c.
 *
 * Misleads The kernel may let the caller go on: then it is a system call without a switch.
 */
#include "bench.h"
#include <pthread.h>

#define THREADS 20u

typedef struct yielder {
    uint64_t want;
    uint64_t done;
} yielder;

static void *run(void *arg) {
    yielder *y = arg;
    while (y->done < y->want) {
        if (sched_yield() != 0) bench_die("sched_yield failed");
        y->done++;
    }
    return NULL;
}

int main(int argc, char **argv) {
    static bench b;
    static yielder y[THREADS];
    static pthread_t threads[THREADS];
    pthread_attr_t attr;
    bench_init(&b, argc, argv, "yield_many", "pthread", 50000, "stackful");
    if (b.workers > 2) return BENCH_SKIP;
    if (b.ops > 50000) b.ops = 50000;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 64 * 1024);
    if (b.workers == 1) bench_pin_self(0); /* the threads inherit it */
    while (bench_round(&b)) {
        uint64_t done = 0;
        for (unsigned i = 0; i < THREADS; i++) {
            y[i].want = b.ops / THREADS + (i < b.ops % THREADS);
            y[i].done = 0;
            if (pthread_create(&threads[i], &attr, run, &y[i]) != 0) {
                bench_die("pthread_create failed");
            }
        }
        for (unsigned i = 0; i < THREADS; i++) {
            pthread_join(threads[i], NULL);
            done += y[i].done;
        }
        bench_done(&b, done);
    }
    pthread_attr_destroy(&attr);
    return bench_report(&b);
}
