/* story_stuck - a worker that is stuck in a long computation. docs/observe.md tells the story.
 *
 *     cc -std=c11 -O2 -g docs/examples/story_stuck.c -o build/story_stuck -pthread
 *     build/story_stuck            # the report computes in its task
 *     build/story_stuck --fixed    # it does so in sch_block_in_place()
 *
 * A client asks for a report. That starts ten small lookups, then adds up for 300 ms without a
 * wait; the lookups are queued behind it. The other worker is in a thumbnail for 80 ms.
 */
#define SCHED_IMPLEMENTATION
#include "../../sched.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOKUPS 10

static const sch_spawn_desc client_desc = {"client", SCH_HERE, 0, NULL};
static const sch_spawn_desc thumbnail_desc = {"thumbnail", SCH_HERE, 0, NULL};
static const sch_spawn_desc report_desc = {"report", SCH_HERE, 0, NULL};
static const sch_spawn_desc lookup_desc = {"lookup", SCH_HERE, 0, NULL};
static bool fixed;

typedef struct lookup {
    uint64_t asked, begun;
} lookup;

static double ms(uint64_t ns) { return (double)ns / 1e6; }

static void look_up(void *arg) { ((lookup *)arg)->begun = sch_now(); }

static void compute(void *ns) {
    uint64_t until = sch_now() + *(const uint64_t *)ns;
    while (sch_now() < until) continue;
}

/* What takes so long: in the task itself, or beside it. */
static void long_work(uint64_t ns) {
    if (fixed) {
        (void)sch_block_in_place(compute, &ns); /* the core is another thread's meanwhile */
    } else {
        compute(&ns);
    }
}

static void thumbnail(void *arg) {
    (void)arg;
    long_work(80 * SCH_MILLISECOND);
}

static void report(void *arg) {
    lookup lookups[LOOKUPS];
    sch_task *tasks[LOOKUPS];
    uint64_t worst = 0;
    (void)arg;
    for (int i = 0; i < LOOKUPS; i++) {
        lookups[i].asked = sch_now();
        tasks[i] = sch_spawn_with(NULL, &lookup_desc, look_up, &lookups[i]);
    }
    long_work(300 * SCH_MILLISECOND);
    for (int i = 0; i < LOOKUPS; i++) {
        uint64_t late;
        (void)sch_join(tasks[i]);
        late = lookups[i].begun - lookups[i].asked;
        if (late > worst) worst = late;
    }
    printf("the last lookup began %.2f ms after it was asked for\n", ms(worst));
}

static void client(void *arg) {
    (void)arg;
    if (sch_join(sch_spawn_with(NULL, &report_desc, report, NULL)) != 0) puts("no report");
}

static void on_stall(const sch_stall *s, void *user) {
    (void)user;
    printf("stall: worker %u is in task %llu \"%s\" (%s:%u) for %.0f ms\n", s->worker,
           (unsigned long long)s->task, s->name, s->file, s->line, ms(s->ns));
    printf("    queued behind it: %zu, of these still there: %zu\n", s->queued, s->left);
    for (size_t i = 0; i < s->num_frames; i++) {
        char text[200];
        sch_symbol(s->frames[i], text, sizeof text);
        printf("    #%zu %s\n", i, text);
    }
}

static int print(const char *text, size_t length, void *user) {
    (void)user;
    return fwrite(text, 1, length, stdout) == length ? 0 : -EIO;
}

int main(int argc, char **argv) {
    sch_config config;
    sch_metrics_snapshot m;
    sch_runtime *rt;
    sch_task *first, *second;
    fixed = argc > 1 && strcmp(argv[1], "--fixed") == 0;
    memset(&config, 0, sizeof config);
    config.workers = 2;
    config.stall_ns = 100 * SCH_MILLISECOND;
    config.on_stall = on_stall;
    config.stack_signal = SIGUSR2;
    rt = sch_runtime_new(&config);
    if (!rt) return EXIT_FAILURE;

    first = sch_spawn_with(rt, &thumbnail_desc, thumbnail, NULL);
    (void)sch_sleep(5 * SCH_MILLISECOND);
    second = sch_spawn_with(rt, &client_desc, client, NULL);
    (void)sch_sleep(200 * SCH_MILLISECOND);
    puts("a dump:");
    (void)sch_dump(rt, 20 * SCH_MILLISECOND, print, NULL);
    (void)sch_join(first);
    (void)sch_join(second);

    (void)sch_metrics(rt, &m);
    printf("stalls: %llu, %.0f ms\n", (unsigned long long)m.stall_count, ms(m.stall_ns));
    printf("tasks stolen: %llu, found by the standby: %llu, cores handed over: %llu\n",
           (unsigned long long)m.total.steal_count, (unsigned long long)m.standby_rescue_count,
           (unsigned long long)m.total.handoff_count);
    sch_runtime_free(rt);
    return EXIT_SUCCESS;
}
