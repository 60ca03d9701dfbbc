/* story_storm - each item wakes all that wait, and only one of them gets it. docs/observe.md tells
 * the story.
 *
 *     cc -std=c11 -O2 -g docs/examples/story_storm.c -o build/story_storm -pthread
 *     build/story_storm [--fixed] [TRACE.json]
 *
 * 100 consumers wait for items, a producer brings 200. At first it wakes every consumer for each
 * item; --fixed: one that waits.
 */
#define SCHED_IMPLEMENTATION
#include "../../sched.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONSUMERS 100
#define ITEMS 200

static const sch_spawn_desc consumer_desc = {"consumer", SCH_HERE, 0, NULL};
static const sch_spawn_desc producer_desc = {"producer", SCH_HERE, 0, NULL};
static bool fixed;

/* What waits and what is there; the lock is never held across a wait of a task. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static sch_task *waiting[CONSUMERS];
static unsigned num_waiting, items, taken;
static bool closed;

static void consume(void *arg) {
    (void)arg;
    for (;;) {
        bool got, over;
        pthread_mutex_lock(&lock);
        got = items > 0;
        over = closed && !got;
        if (got) items--, taken++;
        if (!got && !over) waiting[num_waiting++] = sch_retain(sch_self());
        pthread_mutex_unlock(&lock);
        if (over) return;
        if (!got) (void)sch_suspend();
    }
}

/* Wake up to so many of those that wait, the longest first. */
static void wake(unsigned count) {
    sch_task *woken[CONSUMERS];
    unsigned n;
    pthread_mutex_lock(&lock);
    n = count < num_waiting ? count : num_waiting;
    memcpy(woken, waiting, n * sizeof *woken);
    memmove(waiting, waiting + n, (num_waiting - n) * sizeof *waiting);
    num_waiting -= n;
    pthread_mutex_unlock(&lock);
    for (unsigned i = 0; i < n; i++) {
        sch_wake(woken[i]);
        sch_release(woken[i]);
    }
}

static void produce(void *arg) {
    (void)arg;
    for (unsigned i = 0; i < ITEMS; i++) {
        (void)sch_sleep(SCH_MILLISECOND);
        pthread_mutex_lock(&lock);
        items++;
        pthread_mutex_unlock(&lock);
        wake(fixed ? 1 : CONSUMERS);
    }
    pthread_mutex_lock(&lock);
    closed = true;
    pthread_mutex_unlock(&lock);
    wake(CONSUMERS);
}

static int print(const char *text, size_t length, void *file) {
    return fwrite(text, 1, length, (FILE *)file) == length ? 0 : -EIO;
}

int main(int argc, char **argv) {
    sch_config config;
    sch_metrics_snapshot m;
    sch_task *consumers[CONSUMERS], *producer;
    sch_runtime *rt;
    FILE *file;
    fixed = argc > 1 && strcmp(argv[1], "--fixed") == 0;
    memset(&config, 0, sizeof config);
    config.workers = 2;
    rt = sch_runtime_new(&config);
    if (!rt || sch_trace_start(rt) != 0) return EXIT_FAILURE;
    for (int i = 0; i < CONSUMERS; i++) {
        consumers[i] = sch_spawn_with(rt, &consumer_desc, consume, NULL);
    }
    producer = sch_spawn_with(rt, &producer_desc, produce, NULL);
    (void)sch_join(producer);
    for (int i = 0; i < CONSUMERS; i++) (void)sch_join(consumers[i]);
    (void)sch_trace_stop(rt);

    (void)sch_metrics(rt, &m);
    printf("%u items taken by %d consumers\n", taken, CONSUMERS);
    printf("polls: %llu, for each item %.1f\n", (unsigned long long)m.total.poll_count,
           (double)m.total.poll_count / ITEMS);
    printf("waits in sch_suspend: %llu, in sch_sleep: %llu\n",
           (unsigned long long)m.total.wait_count[SCH_WAIT_SUSPEND],
           (unsigned long long)m.total.wait_count[SCH_WAIT_TIMER]);
    printf("busy: %.1f ms\n", (double)m.total.busy_ns / 1e6);
    file = argc > 1 + fixed ? fopen(argv[1 + fixed], "w") : NULL;
    if (file && sch_trace_write(rt, print, file) == 0) printf("trace: %s\n", argv[1 + fixed]);
    if (file) fclose(file);
    sch_runtime_free(rt);
    return EXIT_SUCCESS;
}
