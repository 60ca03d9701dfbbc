/* wake_parked in libuv: uv_async_send to a loop that sleeps. Method and traps: see sched.c. */
#include "bench.h"
#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#define SAMPLES_MAX 100000u

static _Atomic uint64_t sent;
static _Atomic uint64_t number;
static double latency[SAMPLES_MAX];
static double sending[SAMPLES_MAX];
static bench b;
static uv_loop_t loop;
static uv_async_t async;

static void on_wake(uv_async_t *handle) {
    uint64_t i = atomic_load(&number);
    latency[i] = (double)(bench_now() - atomic_load(&sent));
    atomic_store(&number, i + 1);
    if (i + 1 == b.ops) uv_close((uv_handle_t *)handle, NULL);
}

static void *run(void *arg) {
    (void)arg;
    if (b.pin) bench_pin_self(0);
    uv_run(&loop, UV_RUN_DEFAULT);
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t thread;
    bench_init(&b, argc, argv, "wake_parked", "libuv", 2000, "cross free");
    b.pin = bench_is(&b, "cross");
    if (b.workers != 1) return BENCH_SKIP;
    if (b.ops > SAMPLES_MAX) b.ops = SAMPLES_MAX;
    if (uv_loop_init(&loop) != 0 || uv_async_init(&loop, &async, on_wake) != 0) {
        bench_die("no loop");
    }
    if (pthread_create(&thread, NULL, run, NULL) != 0) bench_die("pthread_create failed");
    if (b.pin) bench_pin_self(b.workers);
    bench_sleep(20000000);
    for (uint64_t i = 0; i < b.ops; i++) {
        bench_sleep(300000);
        uint64_t begin = bench_now();
        atomic_store(&sent, begin);
        if (uv_async_send(&async) != 0) bench_die("uv_async_send failed");
        sending[i] = (double)(bench_now() - begin);
        while (atomic_load(&number) != i + 1) bench_sleep(100000);
    }
    pthread_join(thread, NULL);
    b.extra_name = "send_ns";
    b.extra = bench_percentile(sending, (size_t)b.ops, 50.0);
    return bench_report_latency(&b, latency, (size_t)b.ops);
}
