/* work.c - what is traced.
 *
 *     work SCENARIO DIRECTORY
 *
 * Writes traces to DIRECTORY, and for each prints a line of JSON with what must be in it: the file,
 * what the metrics counted meanwhile, the names, lines and numbers of the tasks. check.py compares.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SCHED_IMPLEMENTATION
#include "../../sched.h"

static const char *directory;
static uint64_t random_state;

static void must(bool ok, const char *what, int line) {
    if (ok) return;
    fprintf(stderr, "work.c:%d: %s failed, errno %d\n", line, what, errno);
    exit(2);
}
#define MUST(c) must((c) ? true : false, #c, __LINE__)

static uint32_t dice(uint32_t sides) {
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(random_state >> 33) % sides;
}

static void nap(uint64_t ns) {
    struct timespec t;
    t.tv_sec = (time_t)(ns / SCH_SECOND), t.tv_nsec = (long)(ns % SCH_SECOND);
    (void)nanosleep(&t, NULL);
}

static void nap_for(void *ns) { nap(*(uint64_t *)ns); }

static void compute(uint64_t ns) {
    uint64_t until = sch_now() + ns;
    while (sch_now() < until) continue;
}

static unsigned get(const unsigned *n) { return __atomic_load_n(n, __ATOMIC_SEQ_CST); }
static unsigned add(unsigned *n) { return __atomic_add_fetch(n, 1, __ATOMIC_SEQ_CST); }

/* Tasks by name: how many of each were spawned, for the line that is printed. */
enum {
    ROOT, CHILD, PING, PONG, MACHINE, SLEEPER, READER, WRITER, LENDER, BLOCKER, JOB, LOST, WORKER,
    STUCK, TASK_KINDS
};
static const sch_spawn_desc kinds[TASK_KINDS] = {
    {"root", SCH_HERE, 0, NULL},
    {"child \"1\"\\\n\t\x01", SCH_HERE, 0, NULL}, /* what JSON must escape */
    {"ping", SCH_HERE, 0, NULL},
    {"pong", SCH_HERE, 0, NULL},
    {"machine", SCH_HERE, 0, NULL},
    {"sleeper", SCH_HERE, 0, NULL},
    {"reader", SCH_HERE, 0, NULL},
    {"writer", SCH_HERE, 0, NULL},
    {"lender", SCH_HERE, 0, NULL},
    {"blocker", SCH_HERE, 0, NULL},
    {"job", SCH_HERE, 0, NULL},
    {"lost", SCH_HERE, 0, NULL},
    {"worker", SCH_HERE, 0, NULL},
    {"stuck", SCH_HERE, 0, NULL},
};
static unsigned spawned[TASK_KINDS];

static sch_task *start(int kind, sch_fn fn, void *arg) {
    sch_task *task;
    (void)add(&spawned[kind]);
    task = kind == JOB ? sch_spawn_blocking_with(NULL, &kinds[kind], fn, arg)
                       : sch_spawn_with(NULL, &kinds[kind], fn, arg);
    MUST(task != NULL);
    return task;
}

/* One trace: the runtime at rest, metrics, start ... at rest, metrics, stop, write. */
typedef struct traced {
    sch_runtime *rt;
    sch_metrics_snapshot before;
} traced;

static void settle(sch_runtime *rt) {
    sch_metrics_snapshot m;
    do {
        nap(2 * SCH_MILLISECOND);
        MUST(sch_metrics(rt, &m) == 0);
        /* Each has lain down at least once: else it will still look round first. */
    } while (m.num_alive_tasks > 0 || m.num_idle_workers < m.num_workers || m.num_searching > 0 ||
             m.total.park_count < m.num_workers);
}

static traced begin(const sch_config *config) {
    traced t;
    memset(spawned, 0, sizeof spawned);
    t.rt = sch_runtime_new(config);
    MUST(t.rt != NULL);
    if (config->flavor == SCH_MULTI_THREAD) settle(t.rt);
    MUST(sch_metrics(t.rt, &t.before) == 0);
    MUST(sch_trace_start(t.rt) == 0);
    return t;
}

static int put(const char *text, size_t length, void *file) {
    return fwrite(text, 1, length, (FILE *)file) == length ? 0 : -EIO;
}

static void write_trace(sch_runtime *rt, const char *name) {
    char path[512];
    FILE *file;
    snprintf(path, sizeof path, "%s/%s.json", directory, name);
    file = fopen(path, "w");
    MUST(file != NULL);
    MUST(sch_trace_write(rt, put, file) == 0);
    MUST(fclose(file) == 0);
}

static void print_string(const char *s) {
    putchar('"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\') putchar('\\');
        if ((unsigned char)*s < ' ') printf("\\u%04x", (unsigned)(unsigned char)*s);
        else putchar(*s);
    }
    putchar('"');
}

/* whole      the ring did not wrap, and all that began and ended must be there
 * running_ns a poll has been under way for so long, at least; 0: none is */
static void describe(const char *name, const sch_runtime *rt, bool whole, uint64_t running_ns,
                     const sch_metrics_snapshot *from, const sch_metrics_snapshot *to) {
    const sch_worker_metrics_snapshot *a = &from->total, *b = &to->total;
    printf("{\"file\": \"%s/%s.json\", \"whole\": %s, \"workers\": %u, \"events\": %u", directory,
           name, whole ? "true" : "false", (unsigned)sch_num_workers(rt),
           rt->config.trace_events ? (unsigned)rt->config.trace_events : 0);
#define COUNT(label, field) \
    printf(", \"%s\": %llu", label, (unsigned long long)(b->field - a->field))
    COUNT("polls", poll_count);
    COUNT("steal_operations", steal_operations);
    COUNT("steals", steal_count);
    COUNT("parks", park_count);
    COUNT("lends", lend_count);
    COUNT("handoffs", handoff_count);
    COUNT("timers", timer_fired_count);
    COUNT("yields", wait_count[SCH_WAIT_YIELD]);
#undef COUNT
    printf(", \"running_ns\": %llu", (unsigned long long)running_ns);
    printf(", \"io_events\": %llu, \"spawned\": %llu, \"current\": %s, \"tasks\": {",
           (unsigned long long)(to->io_event_count - from->io_event_count),
           (unsigned long long)(to->spawned_tasks_count - from->spawned_tasks_count),
           rt->config.flavor == SCH_CURRENT_THREAD ? "true" : "false");
    for (int i = 0, n = 0; i < TASK_KINDS; i++) {
        if (get(&spawned[i]) == 0) continue;
        printf("%s", n++ ? ", " : "");
        print_string(kinds[i].name);
        printf(": {\"count\": %u, \"file\": \"%s\", \"line\": %u}", get(&spawned[i]),
               kinds[i].file, kinds[i].line);
    }
    puts("}}");
}

static void end(traced *t, const char *name, bool whole) {
    sch_metrics_snapshot after;
    settle(t->rt);
    MUST(sch_metrics(t->rt, &after) == 0);
    MUST(sch_trace_stop(t->rt) == 0);
    write_trace(t->rt, name);
    describe(name, t->rt, whole, 0, &t->before, &after);
    sch_runtime_free(t->rt);
}

/* Everything at once ----------------------------------------------------------------------------*/

static void child(void *arg) {
    (void)arg;
    MUST(sch_yield_now() == 0);
    compute(20 * SCH_MICROSECOND);
    MUST(sch_yield_now() == 0);
}

typedef struct match {
    sch_task *player[2];
    unsigned here, rounds;
} match;

static void play(match *m, int me) {
    (void)add(&m->here);
    while (get(&m->here) < 3) MUST(sch_yield_now() == 0); /* the handles are there */
    for (unsigned i = 0; i < m->rounds; i++) {
        if (me == 0) sch_wake(m->player[1]);
        MUST(sch_suspend() == 0);
        if (me == 1) sch_wake(m->player[0]);
    }
}
static void ping(void *arg) { play((match *)arg, 0); }
static void pong(void *arg) { play((match *)arg, 1); }

typedef struct machine {
    unsigned line, i;
    sch_timer timer;
} machine;

static sch_status machine_poll(sch_task *self, void *state) {
    machine *m = (machine *)state;
    (void)self;
    SCH_BEGIN(m->line);
    m->timer = sch_timer_after(SCH_MILLISECOND);
    SCH_AWAIT(m->line, &m->timer.op);
    if (m->i++ < 3) {
        MUST(sch_yield_now() == 0); /* polled again, from the timer, which is done */
        return SCH_PENDING;
    }
    SCH_END();
}

static void sleeper(void *ms) {
    (void)sch_sleep(*(const unsigned *)ms * SCH_MILLISECOND);
}

#define MESSAGES 10
static void reader(void *io) {
    char c;
    for (int i = 0; i < MESSAGES; i++) MUST(sch_read((sch_io *)io, &c, 1) == 1);
    MUST(sch_io_close((sch_io *)io) == 0);
}

static void writer(void *io) {
    for (int i = 0; i < MESSAGES; i++) {
        MUST(sch_write((sch_io *)io, "x", 1) == 1);
        MUST(sch_sleep(100 * SCH_MICROSECOND) == 0);
    }
    MUST(sch_io_close((sch_io *)io) == 0);
}

static void lender(void *arg) {
    uint64_t ns = 300 * SCH_MICROSECOND;
    (void)arg;
    MUST(sch_block_in_place(nap_for, &ns) == 0);
    compute(10 * SCH_MICROSECOND);
}

/* With something queued behind it the core goes to another thread. */
static void blocker(void *arg) {
    uint64_t ns = 2 * SCH_MILLISECOND;
    sch_task *behind[4];
    (void)arg;
    for (int i = 0; i < 4; i++) behind[i] = start(CHILD, child, NULL);
    MUST(sch_block_in_place(nap_for, &ns) == 0);
    for (int i = 0; i < 4; i++) MUST(sch_join(behind[i]) == 0);
}

static void sleeper_for_ever(void *here) {
    (void)add((unsigned *)here);
    (void)sch_sleep(SCH_FOREVER);
}

static void job(void *arg) {
    (void)arg;
    nap(500 * SCH_MICROSECOND);
}

static void root(void *arg) {
    static const unsigned ms[] = {1, 2, 3};
    static const sch_spawn_desc *const machine_desc = &kinds[MACHINE];
    sch_task *t[64], *lost;
    sch_io ends[2];
    match m;
    machine states[3];
    int n = 0, pair[2];
    unsigned here = 0;
    (void)arg;
    memset(&m, 0, sizeof m);
    memset(states, 0, sizeof states);
    for (int i = 0; i < 20; i++) t[n++] = start(CHILD, child, NULL);
    m.rounds = 10;
    m.player[0] = t[n++] = start(PING, ping, &m);
    m.player[1] = t[n++] = start(PONG, pong, &m);
    (void)add(&m.here);
    for (int i = 0; i < 3; i++) {
        (void)add(&spawned[MACHINE]);
        t[n] = sch_spawn_poll_with(NULL, machine_desc, machine_poll, &states[i], sizeof states[i]);
        MUST(t[n++] != NULL);
        t[n++] = start(SLEEPER, sleeper, (void *)(uintptr_t)&ms[i]);
        t[n++] = start(JOB, job, NULL);
    }
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    for (int i = 0; i < 2; i++) MUST(sch_io_open(&ends[i], NULL, pair[i]) == 0);
    t[n++] = start(READER, reader, &ends[0]);
    t[n++] = start(WRITER, writer, &ends[1]);
    t[n++] = start(LENDER, lender, NULL);
    t[n++] = start(BLOCKER, blocker, NULL);
    lost = start(LOST, sleeper_for_ever, &here);
    do { /* or it would never begin */
        MUST(sch_sleep(3 * SCH_MILLISECOND) == 0);
    } while (!get(&here));
    MUST(sch_cancel(lost) == 0);
    (void)sch_join(lost);
    for (int i = 0; i < n; i++) MUST(sch_join(t[i]) == 0);
    t[0] = start(LENDER, lender, NULL); /* alone: nothing is queued */
    MUST(sch_join(t[0]) == 0);
}

static void from_outside(traced *t, sch_fn fn, void *arg) {
    (void)add(&spawned[ROOT]);
    MUST(sch_join(sch_spawn_with(t->rt, &kinds[ROOT], fn, arg)) == 0);
}

static void mix(const char *name, unsigned workers) {
    sch_config config;
    traced t;
    memset(&config, 0, sizeof config);
    config.workers = workers;
    config.flavor = workers > 0 ? SCH_MULTI_THREAD : SCH_CURRENT_THREAD;
    config.seed = dice(1000) + 1;
    t = begin(&config);
    from_outside(&t, root, NULL);
    end(&t, name, true);
}

/* Steals: many tasks from one, on more workers than CPUs ----------------------------------------*/

static void worker(void *us) { compute(*(const unsigned *)us * SCH_MICROSECOND); }

static void fan_out(void *arg) {
    sch_task *t[200];
    unsigned us[200];
    (void)arg;
    for (int i = 0; i < 200; i++) {
        us[i] = 50 + dice(100);
        t[i] = start(WORKER, worker, &us[i]);
    }
    for (int i = 0; i < 200; i++) MUST(sch_join(t[i]) == 0);
}

static void steals(void) {
    sch_config config;
    traced t;
    memset(&config, 0, sizeof config);
    config.workers = 4;
    t = begin(&config);
    from_outside(&t, fan_out, NULL);
    end(&t, "steals", true);
}

/* The ring wraps: the last events are there, and still make sense -------------------------------*/

static void spin_and_spawn(void *arg) {
    (void)arg;
    for (int i = 0; i < 300; i++) {
        sch_task *t = start(CHILD, child, NULL);
        MUST(sch_join(t) == 0);
        if (i % 50 == 0) MUST(sch_sleep(SCH_MILLISECOND) == 0);
    }
}

static void wraps(void) {
    const size_t sizes[] = {2, 16, 100, 1000};
    for (int i = 0; i < 4; i++) {
        sch_config config;
        char name[32];
        traced t;
        memset(&config, 0, sizeof config);
        config.workers = 2;
        config.trace_events = sizes[i];
        snprintf(name, sizeof name, "wraps-%u", (unsigned)sizes[i]);
        t = begin(&config);
        from_outside(&t, spin_and_spawn, NULL);
        end(&t, name, false);
    }
}

/* Written while it goes on, stopped, started again, by a thread beside it -----------------------*/

static unsigned stop_all; /* atomic */

static void busy(void *arg) {
    unsigned n = 0;
    (void)arg;
    while (!get(&stop_all)) {
        sch_task *t[4];
        for (int i = 0; i < 3; i++) t[i] = start(CHILD, child, NULL);
        t[3] = start(LENDER, lender, NULL);
        for (int i = 0; i < 4; i++) MUST(sch_join(t[i]) == 0);
        if (++n % 4 == 0) MUST(sch_sleep(SCH_MILLISECOND) == 0);
    }
}

static void live(unsigned rounds) {
    sch_config config;
    sch_task *t[3];
    traced tr;
    memset(&config, 0, sizeof config);
    config.workers = 3;
    config.trace_events = 2048;
    tr = begin(&config);
    __atomic_store_n(&stop_all, 0, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 3; i++) {
        (void)add(&spawned[WORKER]);
        t[i] = sch_spawn_with(tr.rt, &kinds[WORKER], busy, NULL);
        MUST(t[i] != NULL);
    }
    for (unsigned i = 0; i < rounds; i++) {
        char name[32];
        sch_metrics_snapshot m;
        snprintf(name, sizeof name, "live-%u", i);
        if (i % 4 == 1) MUST(sch_trace_stop(tr.rt) == 0);
        if (i % 4 != 2) MUST(sch_trace_start(tr.rt) == 0); /* a stopped or a running one */
        MUST(sch_metrics(tr.rt, &m) == 0);
        for (uint64_t polls = m.total.poll_count; m.total.poll_count < polls + 50 + dice(1000);) {
            nap(SCH_MILLISECOND);
            MUST(sch_metrics(tr.rt, &m) == 0);
        }
        if (i % 4 == 3) MUST(sch_trace_stop(tr.rt) == 0);
        write_trace(tr.rt, name);
        MUST(sch_metrics(tr.rt, &m) == 0);
        describe(name, tr.rt, false, 0, &tr.before, &m);
    }
    __atomic_store_n(&stop_all, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 3; i++) MUST(sch_join(t[i]) == 0);
    sch_runtime_free(tr.rt);
}

/* Two runtimes: each trace has its own tasks only, but a wake from the other's task -------------*/

static void wait_for_wake(void *arg) {
    (void)add((unsigned *)arg);
    MUST(sch_suspend() == 0);
}

static void wake_it(void *task) { sch_wake((sch_task *)task); }

static void two(void) {
    sch_config config;
    traced a, b;
    sch_task *sleepy, *other;
    unsigned here = 0, of_a;
    sch_metrics_snapshot after;
    memset(&config, 0, sizeof config);
    config.workers = 1;
    b = begin(&config);
    a = begin(&config);
    (void)add(&spawned[PING]);
    sleepy = sch_spawn_with(a.rt, &kinds[PING], wait_for_wake, &here);
    while (!get(&here)) nap(SCH_MILLISECOND);
    do { /* it waits, and is not about to */
        MUST(sch_metrics(a.rt, &after) == 0);
    } while (after.num_idle_workers < 1);
    other = sch_spawn_with(b.rt, &kinds[PONG], wake_it, sleepy);
    MUST(sch_join(other) == 0);
    MUST(sch_join(sleepy) == 0);
    of_a = spawned[PING];
    end(&a, "two-a", true);
    spawned[PING] = 0, spawned[PONG] = of_a;
    end(&b, "two-b", true);
}

/* A poll that goes on while the trace is written, and one that began before it ------------------*/

static void stuck(void *arg) {
    (void)add((unsigned *)arg);
    while (!get(&stop_all)) continue;
}

static void open_ends(void) {
    sch_config config;
    traced t;
    sch_task *long_one, *second;
    unsigned here = 0;
    sch_metrics_snapshot m;
    memset(&config, 0, sizeof config);
    config.workers = 2;
    __atomic_store_n(&stop_all, 0, __ATOMIC_SEQ_CST);
    t = begin(&config);
    (void)add(&spawned[STUCK]);
    long_one = sch_spawn_with(t.rt, &kinds[STUCK], stuck, &here);
    while (get(&here) < 1) nap(SCH_MILLISECOND);
    nap(5 * SCH_MILLISECOND);
    write_trace(t.rt, "open-end"); /* as long as it is by now */
    MUST(sch_metrics(t.rt, &m) == 0);
    describe("open-end", t.rt, true, 5 * SCH_MILLISECOND, &t.before, &m);
    MUST(sch_trace_stop(t.rt) == 0);
    nap(20 * SCH_MILLISECOND);
    write_trace(t.rt, "open-stopped"); /* as long as it was when the trace was stopped */
    describe("open-stopped", t.rt, true, 5 * SCH_MILLISECOND, &t.before, &m);
    MUST(sch_trace_start(t.rt) == 0); /* forgets where it began */
    (void)add(&spawned[STUCK]);
    second = sch_spawn_with(t.rt, &kinds[STUCK], stuck, &here);
    while (get(&here) < 2) nap(SCH_MILLISECOND);
    __atomic_store_n(&stop_all, 1, __ATOMIC_SEQ_CST);
    MUST(sch_join(long_one) == 0);
    MUST(sch_join(second) == 0);
    end(&t, "open-begin", false);
}

/* For the picture: two workers, requests that wait for a lookup in a pool of blocking threads, one
 * that computes, and timers: what a small server does in some milliseconds. ---------------------*/

static void lookup(void *arg) {
    (void)arg;
    nap(400 * SCH_MICROSECOND);
}

static const sch_spawn_desc part_desc = {"render part", SCH_HERE, 0, NULL};
static const sch_spawn_desc lookup_desc = {"lookup", SCH_HERE, 0, NULL};
static const sch_spawn_desc request_desc = {"request", SCH_HERE, 0, NULL};
static const sch_spawn_desc server_desc = {"server", SCH_HERE, 0, NULL};

static void part(void *arg) {
    (void)arg;
    compute(120 * SCH_MICROSECOND);
}

static void request(void *arg) {
    sch_task *parts[4];
    (void)arg;
    compute(60 * SCH_MICROSECOND);
    MUST(sch_join(sch_spawn_blocking_with(NULL, &lookup_desc, lookup, NULL)) == 0);
    for (int i = 0; i < 4; i++) parts[i] = sch_spawn_with(NULL, &part_desc, part, NULL);
    for (int i = 0; i < 4; i++) MUST(sch_join(parts[i]) == 0);
    compute(40 * SCH_MICROSECOND);
}

static void server(void *arg) {
    sch_task *requests[4];
    (void)arg;
    for (int i = 0; i < 4; i++) {
        requests[i] = sch_spawn_with(NULL, &request_desc, request, NULL);
        MUST(sch_sleep((i == 2 ? 3 : 1) * SCH_MILLISECOND) == 0);
    }
    for (int i = 0; i < 4; i++) MUST(sch_join(requests[i]) == 0);
}

static void picture(void) {
    sch_config config;
    traced t;
    memset(&config, 0, sizeof config);
    config.workers = 2;
    t = begin(&config);
    MUST(sch_join(sch_spawn_with(t.rt, &server_desc, server, NULL)) == 0);
    end(&t, "picture", true);
}

int main(int argc, char **argv) {
    const char *scenario = argc > 1 ? argv[1] : "", *seed = getenv("SEED");
    if (argc != 3) return 2;
    directory = argv[2];
    random_state = seed && *seed ? strtoull(seed, NULL, 0) : 1;
    if (!strcmp(scenario, "mix")) mix("mix", 2);
    else if (!strcmp(scenario, "alone")) mix("alone", 1);
    else if (!strcmp(scenario, "current")) mix("current", 0);
    else if (!strcmp(scenario, "steals")) steals();
    else if (!strcmp(scenario, "wraps")) wraps();
    else if (!strcmp(scenario, "live")) live(8);
    else if (!strcmp(scenario, "two")) two();
    else if (!strcmp(scenario, "open")) open_ends();
    else if (!strcmp(scenario, "picture")) picture();
    else return 2;
    return 0;
}
