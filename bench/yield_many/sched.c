/* yield_many: what does it cost to let somebody else run?
 *
 * Method   200 tasks yield in turn until all of them together yielded `ops` times, 1000 each by
 *          default (Tokio's yield_many). An operation is one yield.
 *            stackful  sch_yield_now in an ordinary task: a switch of stacks
 *            poll      a poll task that asks to be polled again and returns
 * Checked  Every task writes how often it came back.
 * Misleads All 200 stacks stay in the cache here; a server's thousands do not. With two workers the
 *          tasks are split between them only if somebody steals, see `cpus`.
 */
#include "bench_sched.h"

#define TASKS 200u

typedef struct yielder {
    uint64_t want;
    uint64_t done;
    uint64_t *result; /* poll: the state is a copy, this is where the count goes */
} yielder;

static void yield_stackful(void *arg) {
    yielder *y = arg;
    uint64_t done = 0;
    while (done < y->want) {
        if (sch_yield_now() != 0) bench_die("sch_yield_now failed");
        done++;
    }
    y->done = done;
}

static sch_status yield_poll(sch_task *self, void *arg) {
    yielder *y = arg;
    (void)self;
    if (y->done == y->want) {
        *y->result = y->done;
        return SCH_READY;
    }
    y->done++;
    if (sch_yield_now() != 0) bench_die("sch_yield_now failed");
    return SCH_PENDING;
}

static void root(void *arg) {
    static yielder y[TASKS];
    static sch_task *tasks[TASKS];
    bench *b = arg;
    bool is_poll = bench_is(b, "poll");
    while (bench_round(b)) {
        uint64_t done = 0;
        for (unsigned i = 0; i < TASKS; i++) {
            y[i].want = b->ops / TASKS + (i < b->ops % TASKS);
            y[i].done = 0;
            y[i].result = &y[i].done;
            tasks[i] = is_poll ? sch_spawn_poll(NULL, yield_poll, &y[i], sizeof y[i])
                               : sch_spawn(NULL, yield_stackful, &y[i]);
            if (tasks[i] == NULL) bench_die("spawn failed");
        }
        for (unsigned i = 0; i < TASKS; i++) {
            if (sch_join(tasks[i]) != 0) bench_die("sch_join failed");
            done += y[i].done;
        }
        bench_done(b, done);
    }
}

int main(int argc, char **argv) {
    static bench b;
    bench_init(&b, argc, argv, "yield_many", "sched.h", 200000, "stackful poll");
    bench_in_task(bench_runtime(&b), root, &b);
    return bench_report(&b);
}
