/* wake_parked, bare: one thread sleeps in a futex (elsewhere than Linux: on a condition variable),
 * another wakes it. The floor of every scheduler's wake. Method and traps: see sched.c. */
#include "bench.h"
#include <pthread.h>
#include <stdatomic.h>
#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#endif

#define SAMPLES_MAX 100000u

static _Atomic uint64_t sent;
static _Atomic uint64_t number;
static double latency[SAMPLES_MAX];
static double sending[SAMPLES_MAX];
static bench b;

#ifdef __linux__
static _Atomic uint32_t word;

static void park(void) {
    while (atomic_load(&word) == 0) syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    atomic_store(&word, 0);
}

static void unpark(void) {
    atomic_store(&word, 1);
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}
#else
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int word;

static void park(void) {
    pthread_mutex_lock(&mutex);
    while (word == 0) pthread_cond_wait(&cond, &mutex);
    word = 0;
    pthread_mutex_unlock(&mutex);
}

static void unpark(void) {
    pthread_mutex_lock(&mutex);
    word = 1;
    pthread_cond_signal(&cond);
    pthread_mutex_unlock(&mutex);
}
#endif

static void *sleeper(void *arg) {
    (void)arg;
    if (b.pin) bench_pin_self(0);
    for (uint64_t i = 0; i < b.ops; i++) {
        park();
        latency[i] = (double)(bench_now() - atomic_load(&sent));
        atomic_store(&number, i + 1);
    }
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t thread;
    bench_init(&b, argc, argv, "wake_parked", "futex", 2000, "cross free");
    b.pin = bench_is(&b, "cross");
    if (b.ops > SAMPLES_MAX) b.ops = SAMPLES_MAX;
    if (pthread_create(&thread, NULL, sleeper, NULL) != 0) bench_die("pthread_create failed");
    if (b.pin) bench_pin_self(b.workers);
    bench_sleep(20000000);
    for (uint64_t i = 0; i < b.ops; i++) {
        bench_sleep(300000);
        uint64_t begin = bench_now();
        atomic_store(&sent, begin);
        unpark();
        sending[i] = (double)(bench_now() - begin);
        while (atomic_load(&number) != i + 1) bench_sleep(100000);
    }
    pthread_join(thread, NULL);
    b.extra_name = "send_ns";
    b.extra = bench_percentile(sending, (size_t)b.ops, 50.0);
    return bench_report_latency(&b, latency, (size_t)b.ops);
}
