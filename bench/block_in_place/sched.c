/* block_in_place: what does it cost to say that a call may block, when it does not?
 *
 * Method   One task calls an empty function through sch_block_in_place, again and again.
 *            alone  nothing else
 *            yield  each call is followed by a yield: the core has to be there again. Tokio gives
 *                   the core away for good and queues the task for another thread.
 * Checked  The function counts its calls.
 * Misleads Nothing is queued here, so the core is only lent. A call that really blocks, or one made
 *          with work queued, costs a thread's wake-up.
 */
#include "bench_sched.h"

static void empty(void *arg) {
    *(uint64_t *)arg += 1u;
}

static void root(void *arg) {
    bench *b = arg;
    bool yield = bench_is(b, "yield");
    while (bench_round(b)) {
        uint64_t done = 0;
        for (uint64_t i = 0; i < b->ops; i++) {
            if (sch_block_in_place(empty, &done) != 0) bench_die("sch_block_in_place failed");
            if (yield && sch_yield_now() != 0) bench_die("sch_yield_now failed");
        }
        bench_done(b, done);
    }
}

int main(int argc, char **argv) {
    static bench b;
    bench_init(&b, argc, argv, "block_in_place", "sched.h", 1000000, "alone yield");
    if (bench_is(&b, "yield") && b.ops > 20000) b.ops = 20000; /* the peers need 10 us each */
    bench_in_task(bench_runtime(&b), root, &b);
    return bench_report(&b);
}
