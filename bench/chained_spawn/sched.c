/* chained_spawn: what does a task cost that spawns the next one and ends?
 *
 * Method   Chains of 1000 tasks, only one of them alive at a time (Tokio's chained_spawn); the last
 *          of a chain wakes the task that started it. An operation is one task.
 * Checked  A count that every link raises.
 * Misleads There is never anything to steal, so with two workers the only question is how much the
 *          second one disturbs: any wake it gets is wasted.
 */
#include "bench_sched.h"

#define CHAIN 1000u

typedef struct chain {
    bench *b;
    sch_task *root;
    uint64_t left; /* one link at a time: the spawn hands it on */
    uint64_t ran;
} chain;

static void link_next(void *arg) {
    chain *c = arg;
    c->ran++;
    if (--c->left == 0) {
        sch_wake(c->root);
    } else if (sch_go(NULL, link_next, c) != 0) {
        bench_die("sch_go failed");
    }
}

static void root(void *arg) {
    chain *c = arg;
    c->root = sch_self();
    while (bench_round(c->b)) {
        c->ran = 0;
        for (uint64_t begun = 0; begun < c->b->ops; begun += CHAIN) {
            c->left = c->b->ops - begun < CHAIN ? c->b->ops - begun : CHAIN;
            if (sch_go(NULL, link_next, c) != 0) bench_die("sch_go failed");
            if (sch_suspend() != 0) bench_die("sch_suspend failed");
        }
        bench_done(c->b, c->ran);
    }
}

int main(int argc, char **argv) {
    static bench b;
    static chain c;
    bench_init(&b, argc, argv, "chained_spawn", "sched.h", 1000000, "chain");
    c.b = &b;
    bench_in_task(bench_runtime(&b), root, &c);
    return bench_report(&b);
}
