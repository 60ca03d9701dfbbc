/* plugin.c - a shared object that holds the implementation, for dlopen.c. */
#define SCH_STATIC
#define SCH_DEBUG 3
#define SCHED_IMPLEMENTATION
#include "../../sched.h"

#define PLUGIN __attribute__((visibility("default")))

static sch_runtime *plugin_rt;
static unsigned plugin_count; /* atomic */

static void plugin_add(void *arg) {
    (void)arg;
    __atomic_fetch_add(&plugin_count, 1u, __ATOMIC_SEQ_CST);
}

static void plugin_family(void *arg) {
    sch_task *task[10];
    for (int i = 0; i < 10; i++) task[i] = sch_spawn(NULL, plugin_add, arg);
    (void)sch_yield_now();
    (void)sch_block_in_place(plugin_add, arg);
    for (int i = 0; i < 10; i++) (void)sch_join(task[i]);
}

static void plugin_wait(void *arg) {
    (void)arg;
    while (sch_suspend() == 0) continue;
}

PLUGIN int plugin_begin(unsigned workers) {
    sch_config config;
    memset(&config, 0, sizeof config);
    config.workers = workers;
    config.flavor = workers ? SCH_MULTI_THREAD : SCH_CURRENT_THREAD;
    plugin_rt = sch_runtime_new(&config);
    return plugin_rt ? 0 : -errno;
}

/* Returns how many functions have run. */
PLUGIN unsigned plugin_work(void) {
    sch_task *task = sch_spawn(plugin_rt, plugin_family, NULL);
    sch_task *job = sch_spawn_blocking(plugin_rt, plugin_add, NULL);
    (void)sch_join(task);
    (void)sch_join(job);
    (void)sch_go(plugin_rt, plugin_wait, NULL); /* waits until the end */
    return __atomic_load_n(&plugin_count, __ATOMIC_SEQ_CST);
}

/* Two tasks wake each other from inside of blocking calls, and so come back on other threads: what
 * belongs to a thread must be found anew after each wait. In a shared object compilers keep the
 * address of a thread-local across a call. */
typedef struct plugin_pair {
    sch_task *task[2];
    unsigned turn, moved, wrong, stop; /* atomic */
    unsigned rounds;
} plugin_pair;

static unsigned plugin_get(unsigned *n) { return __atomic_load_n(n, __ATOMIC_SEQ_CST); }

static void plugin_play(plugin_pair *p, unsigned me) {
    bool stop = false;
    for (unsigned i = 0; !stop; i++) { /* until one has come back on another thread */
        const schi_thread *before = schi_self();
        while (plugin_get(&p->turn) != me) (void)sch_suspend();
        stop = plugin_get(&p->stop) || (i >= p->rounds && plugin_get(&p->moved) > 0);
        if (stop) __atomic_store_n(&p->stop, 1, __ATOMIC_SEQ_CST);
        if (schi_self() != before) __atomic_fetch_add(&p->moved, 1u, __ATOMIC_SEQ_CST);
        if (sch_self() != p->task[me]) __atomic_fetch_add(&p->wrong, 1u, __ATOMIC_SEQ_CST);
        if (sch_worker_index() != UINT_MAX) __atomic_fetch_add(&p->wrong, 1u, __ATOMIC_SEQ_CST);
        __atomic_store_n(&p->turn, 1 - me, __ATOMIC_SEQ_CST);
        sch_wake(p->task[1 - me]);
        if (i % 3 == 0) (void)sch_yield_now();
    }
}

static void plugin_play_0(void *arg) { plugin_play((plugin_pair *)arg, 0); }
static void plugin_play_1(void *arg) { plugin_play((plugin_pair *)arg, 1); }
static void plugin_player_0(void *arg) { (void)sch_block_in_place(plugin_play_0, arg); }
static void plugin_player_1(void *arg) { (void)sch_block_in_place(plugin_play_1, arg); }

/* Returns whether the tasks were never wrong about themselves. */
PLUGIN bool plugin_migrate(unsigned rounds) {
    static plugin_pair p;
    memset(&p, 0, sizeof p);
    p.rounds = rounds;
    p.turn = 2;
    p.task[0] = sch_retain(sch_spawn(plugin_rt, plugin_player_0, &p));
    p.task[1] = sch_retain(sch_spawn(plugin_rt, plugin_player_1, &p));
    __atomic_store_n(&p.turn, 0, __ATOMIC_SEQ_CST);
    sch_wake(p.task[0]);
    for (int i = 0; i < 2; i++) (void)sch_join(p.task[i]);
    for (int i = 0; i < 2; i++) sch_release(p.task[i]); /* the last wake has used it */
    return p.wrong == 0;
}

PLUGIN void plugin_end(void) {
    sch_runtime_free(plugin_rt);
    plugin_rt = NULL;
}

PLUGIN int plugin_shutdown(void) { return sch_runtime_shutdown(plugin_rt, SCH_FOREVER); }

/* Unloaded, or at the end of the process: whatever plugin_end has not freed. */
__attribute__((destructor)) static void plugin_destructor(void) {
    if (plugin_rt) plugin_end();
}
