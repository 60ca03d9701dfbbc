/* spawn_local: what does it cost to spawn an empty task on a busy worker and to have it run?
 *
 * Method   One task spawns a batch, waits until all of it ran, and starts again. Everything from
 *          the first spawn to the end of the wait counts, divided by the tasks.
 *            detached      sch_go, batches of 200, which fit in the ring of 256
 *            detached_10k  batches of 10,000, which overflow it (Tokio's own spawn_many_local)
 *            joined        sch_spawn, then sch_join each, batches of 200
 *            joined_10k    the same with batches of 10,000
 * Checked  detached: every task takes one from a common count, the last wakes the spawner. joined:
 *          every task writes its own cell.
 * Misleads The detached task is not quite empty: the count is an atomic decrement, 5 ns on one
 *          worker and 15 when two fight for it, in every contender alike. With two workers it is
 *          wall time that counts, and `cpus` tells whether the second one worked at all: a
 *          scheduler that keeps such small tasks on one worker is right to do so.
 */
#include "bench_sched.h"

#define BATCH_MAX 10000u

typedef struct state {
    bench *b;
    sch_task *root;
    atomic_uint left;
    uint32_t cells[BATCH_MAX];
    sch_task *tasks[BATCH_MAX];
} state;

static void leaf_detached(void *arg) {
    state *s = arg;
    if (atomic_fetch_sub_explicit(&s->left, 1u, memory_order_acq_rel) == 1u) sch_wake(s->root);
}

static void leaf_joined(void *arg) {
    *(uint32_t *)arg += 1u;
}

static uint64_t round_detached(state *s, unsigned batch) {
    uint64_t done = 0;
    for (uint64_t begun = 0; begun < s->b->ops;) {
        unsigned n = s->b->ops - begun < batch ? (unsigned)(s->b->ops - begun) : batch;
        atomic_store_explicit(&s->left, n, memory_order_relaxed);
        for (unsigned i = 0; i < n; i++) {
            if (sch_go(NULL, leaf_detached, s) != 0) bench_die("sch_go failed");
        }
        if (sch_suspend() != 0) bench_die("sch_suspend failed");
        done += n - atomic_load_explicit(&s->left, memory_order_acquire);
        begun += n;
    }
    return done;
}

static uint64_t round_joined(state *s, unsigned batch) {
    uint64_t done = 0;
    for (uint64_t begun = 0; begun < s->b->ops;) {
        unsigned n = s->b->ops - begun < batch ? (unsigned)(s->b->ops - begun) : batch;
        for (unsigned i = 0; i < n; i++) {
            s->cells[i] = 0;
            s->tasks[i] = sch_spawn(NULL, leaf_joined, &s->cells[i]);
            if (s->tasks[i] == NULL) bench_die("sch_spawn failed");
        }
        for (unsigned i = 0; i < n; i++) {
            if (sch_join(s->tasks[i]) != 0) bench_die("sch_join failed");
            done += s->cells[i];
        }
        begun += n;
    }
    return done;
}

static void root(void *arg) {
    state *s = arg;
    bool joined = strncmp(s->b->variant, "joined", 6) == 0;
    unsigned batch = strstr(s->b->variant, "10k") != NULL ? BATCH_MAX : 200u;
    s->root = sch_self();
    while (bench_round(s->b)) {
        bench_done(s->b, joined ? round_joined(s, batch) : round_detached(s, batch));
    }
}

int main(int argc, char **argv) {
    static bench b;
    static state s;
    bench_init(&b, argc, argv, "spawn_local", "sched.h", 1000000,
               "detached detached_10k joined joined_10k");
    s.b = &b;
    bench_in_task(bench_runtime(&b), root, &s);
    return bench_report(&b);
}
