/* spawn_local, a thread a task: what the operating system's own unit costs. See sched.c.
 *
 * Misleads The kernel spreads the threads over all CPUs; --workers only labels the line.
 */
#include "bench.h"
#include <pthread.h>

static void *leaf(void *arg) {
    *(uint32_t *)arg += 1u;
    return NULL;
}

int main(int argc, char **argv) {
    static bench b;
    static uint32_t cells[200];
    static pthread_t threads[200];
    pthread_attr_t attr;
    bench_init(&b, argc, argv, "spawn_local", "pthread", 2000, "joined");
    if (b.ops > 2000) b.ops = 2000; /* a thread costs a thousand tasks */
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 64 * 1024);
    while (bench_round(&b)) {
        uint64_t done = 0;
        for (uint64_t begun = 0; begun < b.ops;) {
            unsigned n = b.ops - begun < 200u ? (unsigned)(b.ops - begun) : 200u;
            for (unsigned i = 0; i < n; i++) {
                cells[i] = 0;
                if (pthread_create(&threads[i], &attr, leaf, &cells[i]) != 0) {
                    bench_die("pthread_create failed");
                }
            }
            for (unsigned i = 0; i < n; i++) {
                pthread_join(threads[i], NULL);
                done += cells[i];
            }
            begun += n;
        }
        bench_done(&b, done);
    }
    pthread_attr_destroy(&attr);
    return bench_report(&b);
}
