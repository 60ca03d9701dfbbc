/* idle: what does a runtime do when there is nothing to do?
 *
 * Method   A runtime with its drivers, and one task that waits. After 200 ms the main thread sleeps
 *          a second. cpu_ns_per_op is the CPU time that the process used in it, wakes_per_op how
 *          often one of its threads was woken (voluntary context switches, without the main
 *          thread's own).
 * Checked  The task is woken at the end and has to run.
 */
#include "bench_sched.h"

static void waiter(void *arg) {
    if (sch_suspend() != 0) bench_die("sch_suspend failed");
    *(uint64_t *)arg += 1u;
}

static long switches(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_nvcsw;
}

int main(int argc, char **argv) {
    static bench b;
    sch_config config = {0};
    uint64_t woken = 0;
    long wakes = 0;
    bench_init(&b, argc, argv, "idle", "sched.h", 1, "second");
    b.ops = 1;
    config.workers = b.workers;
    sch_runtime *rt = sch_runtime_new(&config);
    if (rt == NULL) bench_die("no runtime");
    sch_task *task = sch_spawn(rt, waiter, &woken);
    if (task == NULL) bench_die("sch_spawn failed");
    bench_sleep(200000000);
    while (bench_round(&b)) {
        long before = switches();
        bench_sleep(1000000000);
        wakes = switches() - before - 1;
        bench_done(&b, 1);
    }
    sch_wake(task);
    if (sch_join(task) != 0) bench_die("sch_join failed");
    sch_runtime_free(rt);
    b.bad += woken != 1;
    printf("wakes_per_op=%ld ", wakes);
    return bench_report(&b);
}
