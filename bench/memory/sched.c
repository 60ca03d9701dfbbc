/* memory: how many bytes does a task take that waits?
 *
 * Method   Resident memory of the process before the tasks are spawned and when all of them wait,
 *          divided by their number. The array of handles is there, and touched, before.
 *            poll      1,000,000 poll tasks with 8 bytes of state
 *            poll32    the same with 32 bytes of state
 *            stackful  100,000 ordinary tasks in sch_suspend
 *          table_bytes_per_op is what the kernel adds in page tables, which resident memory leaves
 *          out.
 * Checked  Every task counts that it ran, is then woken, and is joined.
 * Misleads Resident memory counts whole pages: a stack costs a page although little of it is used,
 *          and more as soon as a call goes deeper. Each contender keeps what is needed to wake its
 *          tasks later outside of this figure.
 */
#include "bench_sched.h"

typedef struct record {
    _Atomic uint64_t *waiting;
    uint64_t polls;
    uint64_t pad[2];
} record;

static _Atomic uint64_t waiting;

static sch_status poll_small(sch_task *self, void *arg) {
    uint64_t *polls = arg;
    (void)self;
    if ((*polls)++ > 0) return SCH_READY;
    atomic_fetch_add(&waiting, 1u);
    return SCH_PENDING;
}

static sch_status poll_large(sch_task *self, void *arg) {
    record *r = arg;
    (void)self;
    if (r->polls++ > 0) return SCH_READY;
    atomic_fetch_add(r->waiting, 1u);
    return SCH_PENDING;
}

static void stackful(void *arg) {
    _Atomic uint64_t *n = arg;
    atomic_fetch_add(n, 1u);
    if (sch_suspend() != 0) bench_die("sch_suspend failed");
}

static sch_task *spawn(sch_runtime *rt, const bench *b) {
    uint64_t zero = 0;
    record r = {&waiting, 0, {0, 0}};
    if (bench_is(b, "poll")) return sch_spawn_poll(rt, poll_small, &zero, sizeof zero);
    if (bench_is(b, "poll32")) return sch_spawn_poll(rt, poll_large, &r, sizeof r);
    return sch_spawn(rt, stackful, &waiting);
}

int main(int argc, char **argv) {
    static bench b;
    bench_init(&b, argc, argv, "memory", "sched.h", 1000000, "poll poll32 stackful");
    if (bench_is(&b, "stackful") && b.ops == 1000000) b.ops = 100000;
    if (bench_status_kib("VmRSS:") < 0) exit(BENCH_SKIP);
    sch_runtime *rt = bench_runtime(&b);
    size_t n = (size_t)b.ops;
    sch_task **tasks = malloc(n * sizeof *tasks);
    if (tasks == NULL) bench_die("no memory");
    for (size_t i = 0; i < n; i++) {
        sch_task *volatile *touch = &tasks[i];
        *touch = NULL;
    }
    long rss = bench_status_kib("VmRSS:");
    long table = bench_status_kib("VmPTE:");
    for (size_t i = 0; i < n; i++) {
        tasks[i] = spawn(rt, &b);
        if (tasks[i] == NULL) bench_die("spawn failed");
    }
    for (unsigned i = 0; atomic_load(&waiting) < n && i < 60000; i++) bench_sleep(1000000);
    bench_sleep(20000000); /* the last ones counted themselves just before they wait */
    rss = bench_status_kib("VmRSS:") - rss;
    table = bench_status_kib("VmPTE:") - table;
    b.bad = n - atomic_load(&waiting);
    for (size_t i = 0; i < n; i++) sch_wake(tasks[i]);
    for (size_t i = 0; i < n; i++) {
        if (sch_join(tasks[i]) != 0) b.bad++;
    }
    sch_runtime_free(rt);
    free(tasks);
    return bench_report_bytes(&b, (double)rss * 1024.0 / (double)n,
                              (double)table * 1024.0 / (double)n);
}
