/* dump.c - [P12] [17]: what is told of tasks and workers, that telling it disturbs nobody, and the
 * watchdog. The trace has its own tests. */
#include "support.h"
#include "waits.h"

/* A walk, kept ----------------------------------------------------------------------------------*/

typedef struct dump_seen {
    sch_task_info info;
    char text[128];
    void *frames[64];
} dump_seen;

#define DUMP_MAX 512
typedef struct dump_walk {
    sch_runtime *rt;
    unsigned num, end_at; /* the callback's result is 5 at that call; 0: never */
    dump_seen seen[DUMP_MAX];
} dump_walk;

static int dump_keep(const sch_task_info *info, void *user) {
    dump_walk *w = (dump_walk *)user;
    dump_seen *s = &w->seen[w->num < DUMP_MAX ? w->num : DUMP_MAX - 1];
    size_t n = info->num_frames < 64 ? info->num_frames : 64;
    EXPECT(w->num < DUMP_MAX);
    EXPECT(info->name && info->file && info->wait_text);
    EXPECT(info->phase_ns <= info->age_ns); /* or neither is known */
    s->info = *info;
    snprintf(s->text, sizeof s->text, "%s", info->wait_text);
    if (n > 0) memcpy(s->frames, info->frames, n * sizeof *s->frames);
    s->info.num_frames = n;
    return ++w->num == w->end_at ? 5 : 0;
}

static dump_walk *dump_walk_new(sch_runtime *rt) {
    dump_walk *w = (dump_walk *)calloc(1, sizeof *w);
    if (!w) abort();
    w->rt = rt;
    return w;
}

static void dump_look(dump_walk *w) {
    w->num = 0;
    EXPECT_EQ(sch_each_task(w->rt, dump_keep, w), 0);
}

/* What was told of a task; it must be there once. */
static const dump_seen *dump_find(const dump_walk *w, uint64_t id) {
    static const dump_seen none;
    const dump_seen *found = NULL;
    for (unsigned i = 0; i < w->num; i++) {
        if (w->seen[i].info.id != id) continue;
        EXPECT(found == NULL);
        found = &w->seen[i];
    }
    return EXPECT(found != NULL) ? found : &none;
}

static void dump_expect(const dump_walk *w, sch_task *task, sch_task_kind kind,
                        sch_task_phase phase, unsigned worker, sch_wait_kind wait,
                        const char *text) {
    const dump_seen *s = dump_find(w, sch_task_id(task));
    EXPECT_EQ(s->info.kind, kind);
    EXPECT_EQ(s->info.phase, phase);
    EXPECT_EQ(s->info.worker, worker);
    EXPECT_EQ(s->info.wait, wait);
    if (!EXPECT(strcmp(s->text, text) == 0)) {
        fprintf(stderr, "task %llu: \"%s\", not \"%s\"\n", (unsigned long long)s->info.id, s->text,
                text);
    }
}

#define DUMP_IDLE SCH_WAIT_KINDS, "" /* it does not wait */

/* Text that is written. */
typedef struct dump_text {
    char *text;
    size_t length, room;
    unsigned calls, fail_at; /* the n-th call returns `answer`; 0: none */
    int answer;
    pthread_mutex_t lock;
} dump_text;

static void dump_text_init(dump_text *t) {
    memset(t, 0, sizeof *t);
    pthread_mutex_init(&t->lock, NULL);
    t->text = (char *)calloc(1, t->room = 4096);
    if (!t->text) abort();
}

static void dump_text_drop(dump_text *t) {
    pthread_mutex_destroy(&t->lock);
    free(t->text);
}

static int dump_take(const char *text, size_t length, void *user) {
    dump_text *t = (dump_text *)user;
    int answer = 0;
    EXPECT(length > 0);
    pthread_mutex_lock(&t->lock);
    EXPECT(!t->fail_at || t->calls < t->fail_at); /* nothing comes after that */
    if (++t->calls == t->fail_at) {
        answer = t->answer;
    } else {
        if (t->length + length + 1 > t->room) {
            t->text = (char *)realloc(t->text, t->room = 2 * (t->length + length + 1));
            if (!t->text) abort();
        }
        memcpy(t->text + t->length, text, length);
        t->length += length;
        t->text[t->length] = 0;
    }
    pthread_mutex_unlock(&t->lock);
    return answer;
}

static bool dump_has(dump_text *t, const char *words) {
    pthread_mutex_lock(&t->lock);
    bool has = strstr(t->text, words) != NULL;
    pthread_mutex_unlock(&t->lock);
    return has;
}

static void dump_text_clear(dump_text *t) {
    pthread_mutex_lock(&t->lock);
    t->length = t->calls = 0;
    t->text[0] = 0;
    pthread_mutex_unlock(&t->lock);
}

/* Kinds, phases, names --------------------------------------------------------------------------*/

typedef struct dump_states {
    sch_runtime *rt;
    dump_walk *walk;
    support_gate gate;
    sch_task *task[10];
    unsigned ran;
    unsigned line;
} dump_states;

static void dump_wait_at_gate(void *arg) { support_gate_wait(&((dump_states *)arg)->gate); }

static void dump_block_at_gate(void *arg) {
    EXPECT_EQ(sch_block_in_place(dump_wait_at_gate, arg), 0);
}

/* Blocking code that waits is a task that waits. */
static void dump_suspend_blocking(void *arg) {
    EXPECT_EQ(sch_block_in_place(waits_joined, arg), 0);
}

static const sch_spawn_desc dump_here = {"spinner", SCH_HERE, 0, NULL};
static const unsigned dump_here_line = __LINE__ - 1;

/* One core, two blocking threads. */
static void dump_all_states(void *arg) {
    dump_states *d = (dump_states *)arg;
    const dump_seen *s;
    const void *fn;
    sch_fn run = dump_all_states;
    d->task[0] = sch_spawn(NULL, waits_suspend, NULL);
    d->task[1] = sch_spawn(NULL, waits_joined, NULL);
    d->task[2] = sch_spawn_blocking(NULL, dump_wait_at_gate, d);
    d->task[3] = sch_spawn_blocking(NULL, waits_suspend, NULL);
    d->task[4] = sch_spawn_blocking(NULL, dump_wait_at_gate, d);
    d->task[5] = sch_spawn(NULL, dump_block_at_gate, d);
    d->task[6] = sch_spawn_poll(NULL, waits_poll, NULL, 100);
    d->task[9] = sch_spawn(NULL, dump_suspend_blocking, NULL);
    YIELD_UNTIL(support_gate_waiters(&d->gate) == 2);
    YIELD_UNTIL(schi_load_seq(&d->task[9]->state) & SCHI_WAIT_WAKE);
    YIELD_UNTIL(schi_load_seq(&d->task[3]->state) & SCHI_WAIT_WAKE);
    d->task[7] = sch_spawn(NULL, support_count, &d->ran);
    d->task[8] = sch_spawn_poll(NULL, waits_poll, NULL, 0);
    sch_wake(d->task[1]); /* to the LIFO slot */
    EXPECT_EQ(sch_cancel(d->task[2]), 0);
    dump_look(d->walk);
    EXPECT_EQ(d->walk->num, 11);
    dump_expect(d->walk, d->task[0], SCH_TASK_STACK, SCH_PHASE_WAITING, UINT_MAX, SCH_WAIT_SUSPEND,
                "sch_suspend");
    dump_expect(d->walk, d->task[1], SCH_TASK_STACK, SCH_PHASE_QUEUED, UINT_MAX, DUMP_IDLE);
    dump_expect(d->walk, d->task[2], SCH_TASK_BLOCKING, SCH_PHASE_RUNNING, UINT_MAX, DUMP_IDLE);
    dump_expect(d->walk, d->task[3], SCH_TASK_BLOCKING, SCH_PHASE_WAITING, UINT_MAX,
                SCH_WAIT_SUSPEND, "sch_suspend");
    dump_expect(d->walk, d->task[4], SCH_TASK_BLOCKING, SCH_PHASE_QUEUED, UINT_MAX, DUMP_IDLE);
    dump_expect(d->walk, d->task[5], SCH_TASK_STACK, SCH_PHASE_BLOCKING, UINT_MAX, DUMP_IDLE);
    dump_expect(d->walk, d->task[6], SCH_TASK_POLL, SCH_PHASE_WAITING, UINT_MAX, SCH_WAIT_POLL_TASK,
                "sch_wake");
    dump_expect(d->walk, d->task[7], SCH_TASK_STACK, SCH_PHASE_QUEUED, UINT_MAX, DUMP_IDLE);
    dump_expect(d->walk, d->task[8], SCH_TASK_POLL, SCH_PHASE_QUEUED, UINT_MAX, DUMP_IDLE);
    dump_expect(d->walk, d->task[9], SCH_TASK_STACK, SCH_PHASE_WAITING, UINT_MAX, SCH_WAIT_SUSPEND,
                "sch_suspend");
    dump_expect(d->walk, sch_self(), SCH_TASK_STACK, SCH_PHASE_RUNNING, 0, DUMP_IDLE);

    s = dump_find(d->walk, sch_task_id(sch_self()));
    EXPECT(strcmp(s->info.name, "spinner") == 0 && strcmp(s->info.file, __FILE__) == 0);
    EXPECT_EQ(s->info.line, dump_here_line);
    memcpy(&fn, &run, sizeof fn);
    EXPECT(s->info.fn == fn);
    EXPECT(!s->info.cancelled);
    EXPECT_EQ(s->info.num_frames, 0); /* it is in use */
    s = dump_find(d->walk, sch_task_id(d->task[2]));
    EXPECT(s->info.name[0] == 0 && s->info.file[0] == 0);
    EXPECT_EQ(s->info.line, 0);
    EXPECT(s->info.cancelled);
    for (int i = 0; i < 9; i++) { /* without config.task_times */
        s = dump_find(d->walk, sch_task_id(d->task[i]));
        EXPECT_EQ(s->info.age_ns, UINT64_MAX);
        EXPECT_EQ(s->info.phase_ns == UINT64_MAX, i != 0);
    }
    support_gate_open(&d->gate);
    sch_wake(d->task[9]);
    for (int i = 0; i < 10; i++) {
        bool cancel = i == 0 || i == 3 || i == 6 || i == 8;
        if (cancel) EXPECT_EQ(sch_cancel(d->task[i]), 0);
        EXPECT_EQ(sch_join(d->task[i]), cancel && i < 6 ? -ECANCELED : 0); /* polls: 0 */
    }
}

TEST(dump_every_kind_and_phase) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    dump_states d = {NULL, NULL, SUPPORT_GATE, {NULL}, 0, 0};
    config.max_blocking_threads = 2;
    d.rt = support_begin(&config);
    d.walk = dump_walk_new(d.rt);
    EXPECT_EQ(sch_join(sch_spawn_with(d.rt, &dump_here, dump_all_states, &d)), 0);
    dump_look(d.walk);
    EXPECT_EQ(d.walk->num, 0);
    free(d.walk);
    support_end(d.rt, &memory);
}

/* What each waits for, in words. */
static void dump_say_waits(void *arg) {
    dump_walk *walk = (dump_walk *)arg;
    sch_task *task[WAITS_CASES];
    char text[WAITS_CASES][64];
    waits w;
    waits_open(&w, walk->rt);
    for (int i = 0; i < WAITS_CASES; i++) {
        task[i] = sch_spawn(NULL, waits_cases[waits_as(&w, i)].fn, &w);
    }
    EXPECT_EQ(sch_yield_now(), 0);
    snprintf(text[WAITS_SUSPEND], 64, "sch_suspend");
    snprintf(text[WAITS_JOIN], 64, "join of task %llu",
             (unsigned long long)sch_task_id(w.joined));
    snprintf(text[WAITS_TIMER], 64, "timer in 3600000 ms"); /* the clock is paused */
    snprintf(text[WAITS_READ], 64, "read of descriptor %d", sch_io_fd(&w.in));
    snprintf(text[WAITS_WRITE], 64, "write of descriptor %d", sch_io_fd(&w.full));
    snprintf(text[WAITS_ACCEPT], 64, "accept of descriptor %d", sch_io_fd(&w.listener));
    snprintf(text[WAITS_CONNECT], 64, "connect of descriptor %d", sch_io_fd(&w.connecting));
    snprintf(text[WAITS_SIGNAL], 64, "signal of descriptor %d", sch_io_fd(&w.signal));
    snprintf(text[WAITS_CHILD], 64, "child of descriptor %d", sch_io_fd(&w.child));
    snprintf(text[WAITS_OPERATION], 64, "rendezvous");
    snprintf(text[WAITS_UNNAMED], 64, "operation");
    snprintf(text[WAITS_SEVERAL], 64, "the first of several: timer in 3600000 ms");
    dump_look(walk);
    EXPECT_EQ(walk->num, WAITS_CASES + 2);
    for (int i = 0; i < WAITS_CASES; i++) {
        waits_case c = waits_as(&w, i);
        dump_expect(walk, task[i], SCH_TASK_STACK, SCH_PHASE_WAITING, UINT_MAX, waits_cases[c].kind,
                    text[c]);
    }
    for (int i = 0; i < WAITS_CASES; i++) {
        EXPECT_EQ(sch_cancel(task[i]), 0);
        EXPECT_EQ(sch_join(task[i]), -ECANCELED);
    }
    waits_close(&w);
}

TEST(dump_says_what_is_waited_for) {
    checked_memory memory;
    sch_config config = support_config(&memory, 0);
    config.paused_clock = true;
    sch_runtime *rt = support_begin(&config);
    dump_walk *walk = dump_walk_new(rt);
    support_run(rt, dump_say_waits, walk);
    free(walk);
    support_end(rt, &memory);
}

/* An operation whose time is over is waited for until who completes it is through: that is what is
 * shown then, not what was waited for before. */
static sch_op_revoked dump_too_late(sch_op *op) {
    (void)op;
    return SCH_OP_BUSY;
}

typedef struct dump_late {
    dump_walk *walk;
    sch_op early, late;
} dump_late;

static void dump_wait_twice(void *arg) {
    dump_late *d = (dump_late *)arg;
    EXPECT_EQ(sch_await(&d->early), 1);
    EXPECT_EQ(sch_await_until(&d->late, 0), 2);
}

static void dump_serve_both(void *arg) {
    dump_late *d = (dump_late *)arg;
    sch_task *task = sch_spawn(NULL, dump_wait_twice, d);
    EXPECT_EQ(sch_yield_now(), 0);
    sch_op_complete(&d->early, 1);
    EXPECT_EQ(sch_yield_now(), 0);
    dump_look(d->walk);
    dump_expect(d->walk, task, SCH_TASK_STACK, SCH_PHASE_WAITING, UINT_MAX, SCH_WAIT_OPERATION,
                "late");
    sch_op_complete(&d->late, 2);
    EXPECT_EQ(sch_join(task), 0);
}

TEST(dump_says_who_is_still_waited_for) {
    static const sch_op_type early = {waits_op_poll, dump_too_late, "early"};
    static const sch_op_type late = {waits_op_poll, dump_too_late, "late"};
    checked_memory memory;
    sch_config config = support_config(&memory, 0);
    sch_runtime *rt = support_begin(&config);
    dump_late d;
    memset(&d, 0, sizeof d);
    d.walk = dump_walk_new(rt);
    d.early.type = &early;
    d.late.type = &late;
    support_run(rt, dump_serve_both, &d);
    free(d.walk);
    support_end(rt, &memory);
}

/* A job that waits says the same; it has no stack of ours to be shown. */
TEST(dump_says_what_a_job_waits_for) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    config.paused_clock = true;
    sch_runtime *rt = support_begin(&config);
    dump_walk *walk = dump_walk_new(rt);
    sch_task *other = sch_spawn_blocking(rt, waits_suspend, NULL);
    waits w = {.rt = rt, .joined = sch_retain(other)};
    sch_task *job = sch_spawn_blocking(rt, waits_join, &w);
    char text[64];
    WAIT_FOR(schi_load_seq(&job->state) & SCHI_WAIT_CANCEL);
    snprintf(text, sizeof text, "join of task %llu", (unsigned long long)sch_task_id(other));
    dump_look(walk);
    dump_expect(walk, job, SCH_TASK_BLOCKING, SCH_PHASE_WAITING, UINT_MAX, SCH_WAIT_JOIN, text);
    EXPECT_EQ(dump_find(walk, sch_task_id(job))->info.num_frames, 0);
    EXPECT_EQ(sch_cancel(job), 0);
    EXPECT_EQ(sch_join(job), -ECANCELED);
    EXPECT_EQ(sch_cancel(other), 0);
    EXPECT_EQ(sch_join(other), -ECANCELED);
    sch_release(other);
    free(walk);
    support_end(rt, &memory);
}

/* A poll task with several operations pending; one that waits for a place. */
typedef struct dump_poll_state {
    waits *w;
    sch_timer timer;
    sch_io_op read;
    char byte;
    bool begun;
} dump_poll_state;

static sch_status dump_poll_two(sch_task *self, void *state) {
    dump_poll_state *s = (dump_poll_state *)state;
    (void)self;
    if (sch_cancelled()) return SCH_READY;
    if (!s->begun) {
        s->timer = sch_timer_after(5 * SCH_SECOND);
        s->read = sch_read_op(&s->w->in, &s->byte, 1);
        s->begun = true;
    }
    (void)sch_op_poll(&s->timer.op);
    (void)sch_op_poll(&s->read.op);
    return SCH_PENDING;
}

/* More than there is room for. */
static sch_status dump_poll_many(sch_task *self, void *state) {
    sch_timer *timer = (sch_timer *)state;
    (void)self;
    if (sch_cancelled()) return SCH_READY;
    for (int i = 0; i < 12; i++) {
        timer[i] = sch_timer_after(5 * SCH_SECOND);
        EXPECT_EQ(sch_op_poll(&timer[i].op), SCH_PENDING);
    }
    return SCH_PENDING;
}

static void dump_say_poll(void *arg) {
    dump_walk *walk = (dump_walk *)arg;
    waits w;
    dump_poll_state state;
    sch_task *task;
    const dump_seen *s;
    char one[64], two[64];
    waits_open(&w, walk->rt);
    memset(&state, 0, sizeof state);
    state.w = &w;
    task = sch_spawn_poll(NULL, dump_poll_two, &state, sizeof state);
    EXPECT_EQ(sch_yield_now(), 0);
    dump_look(walk);
    s = dump_find(walk, sch_task_id(task));
    EXPECT_EQ(s->info.wait, SCH_WAIT_POLL_TASK);
    EXPECT_EQ(s->info.phase, SCH_PHASE_WAITING);
    snprintf(one, sizeof one, "timer in 5000 ms, read of descriptor %d", sch_io_fd(&w.in));
    snprintf(two, sizeof two, "read of descriptor %d, timer in 5000 ms", sch_io_fd(&w.in));
    EXPECT(strcmp(s->text, one) == 0 || strcmp(s->text, two) == 0);
    EXPECT_EQ(s->info.num_frames, 0);
    EXPECT_EQ(sch_cancel(task), 0);
    EXPECT_EQ(sch_join(task), 0);
    task = sch_spawn_poll(NULL, dump_poll_many, NULL, 12 * sizeof(sch_timer));
    EXPECT_EQ(sch_yield_now(), 0);
    dump_look(walk);
    s = dump_find(walk, sch_task_id(task));
    EXPECT(strncmp(s->text, "timer in 5000 ms, timer in 5000 ms, timer in ", 45) == 0);
    EXPECT(strlen(s->text) > 80 && strlen(s->text) < 12 * 18);
    EXPECT_EQ(sch_cancel(task), 0);
    EXPECT_EQ(sch_join(task), 0);
    waits_close(&w);
}

TEST(dump_says_what_a_poll_task_waits_for) {
    checked_memory memory;
    sch_config config = support_config(&memory, 0);
    config.paused_clock = true;
    sch_runtime *rt = support_begin(&config);
    dump_walk *walk = dump_walk_new(rt);
    support_run(rt, dump_say_poll, walk);
    free(walk);
    support_end(rt, &memory);
}

TEST(dump_says_who_waits_for_a_place) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    support_gate gate = SUPPORT_GATE;
    sch_task *task[3];
    config.max_blocking_threads = 1;
    sch_runtime *rt = support_begin(&config);
    dump_walk *walk = dump_walk_new(rt);
    for (unsigned i = 0; i < 3; i++) {
        task[i] = sch_spawn(rt, waits_hold_place, &gate);
        if (i < 2) WAIT_FOR(support_gate_waiters(&gate) == i + 1);
    }
    WAIT_FOR(schi_load_seq(&rt->reserve_waiters) == 1);
    WAIT_FOR(!(schi_load_seq(&task[2]->state) & SCHI_SCHEDULED));
    dump_look(walk);
    for (int i = 0; i < 2; i++) {
        dump_expect(walk, task[i], SCH_TASK_STACK, SCH_PHASE_BLOCKING, UINT_MAX, DUMP_IDLE);
    }
    dump_expect(walk, task[2], SCH_TASK_STACK, SCH_PHASE_WAITING, UINT_MAX, SCH_WAIT_PLACE,
                "a thread for sch_block_in_place");
    support_gate_open(&gate);
    for (int i = 0; i < 3; i++) EXPECT_EQ(sch_join(task[i]), 0);
    free(walk);
    support_end(rt, &memory);
}

/* Identity --------------------------------------------------------------------------------------*/

static int dump_by_id(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void dump_tell_id(void *arg) { *(uint64_t *)arg = sch_task_id(sch_self()); }

static void dump_spawn_inside(void *arg) {
    uint64_t *id = (uint64_t *)arg;
    for (int i = 1; i < 10; i++) EXPECT_EQ(sch_join(sch_spawn(NULL, dump_tell_id, id + i)), 0);
    dump_tell_id(id);
}

/* No two tasks have had the same number, whoever spawned them, also where memory is used again. */
TEST(dump_ids_are_unique) {
    checked_memory memory;
    sch_config config = support_config(&memory, 3);
    sch_runtime *rt = support_begin(&config);
    enum { ROUNDS = 20, WIDTH = 10 };
    static uint64_t id[ROUNDS * WIDTH * 11];
    sch_task *task[WIDTH];
    size_t n = 0;
    EXPECT_EQ(sch_task_id(NULL), 0);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < WIDTH; i++, n += 11) {
            task[i] = i % 2 ? sch_spawn(rt, dump_spawn_inside, id + n)
                            : sch_spawn_blocking(rt, dump_spawn_inside, id + n);
            id[n + 10] = sch_task_id(task[i]);
        }
        for (int i = 0; i < WIDTH; i++) EXPECT_EQ(sch_join(task[i]), 0);
    }
    for (size_t i = 0; i < n; i += 11) EXPECT_EQ(id[i], id[i + 10]); /* as it calls itself */
    for (size_t i = 10; i < n; i += 11) id[i] = 0;
    qsort(id, n, sizeof *id, dump_by_id);
    EXPECT_EQ(id[n / 11 - 1], 0);
    for (size_t i = n / 11; i < n; i++) EXPECT(id[i] > 0 && id[i] != id[i - 1]);
    support_end(rt, &memory);
}

/* Each live task once, however many slabs and sizes there are. */
TEST(dump_shows_each_task_once) {
    for (unsigned workers = 0; workers < 3; workers += 2) {
        checked_memory memory;
        sch_config config = support_config(&memory, workers);
        sch_runtime *rt = support_begin(&config);
        dump_walk *walk = dump_walk_new(rt);
        enum { N = 300 };
        sch_task *task[N];
        for (int i = 0; i < N; i++) {
            task[i] = i % 3 ? sch_spawn(rt, waits_suspend, NULL)
                            : sch_spawn_poll(rt, waits_poll, NULL, (size_t)(test_random() % 4000));
        }
        for (int round = 0; round < 2; round++) {
            dump_look(walk);
            EXPECT_EQ(walk->num, N);
            for (int i = 0; i < N; i++) {
                const dump_seen *s = dump_find(walk, sch_task_id(task[i]));
                EXPECT_EQ(s->info.kind, i % 3 ? SCH_TASK_STACK : SCH_TASK_POLL);
                EXPECT(s->info.phase == SCH_PHASE_QUEUED || workers > 0);
            }
            if (workers == 0) break;
            WAIT_FOR(support_metrics(rt).num_idle_workers == workers);
        }
        for (int i = 0; i < N; i++) {
            EXPECT_EQ(sch_cancel(task[i]), 0);
            (void)sch_join(task[i]);
        }
        free(walk);
        support_end(rt, &memory);
    }
}

/* Times -----------------------------------------------------------------------------------------*/

typedef struct dump_spins {
    unsigned began, stop; /* atomic */
} dump_spins;

static void dump_spin_until(void *arg) {
    dump_spins *spins = (dump_spins *)arg;
    support_add(&spins->began, 1);
    while (!support_get(&spins->stop)) continue;
}

static void dump_suspend_twice(void *arg) {
    EXPECT_EQ(sch_suspend(), 0);
    support_count(arg);
    EXPECT_EQ(sch_suspend(), -ECANCELED);
}

static uint64_t dump_wall(struct timespec since) {
    return (uint64_t)(test_seconds_since(since) * 1e9) + SCH_MILLISECOND; /* another clock */
}

TEST(dump_ages) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    const uint64_t nap = 20 * SCH_MILLISECOND, short_nap = nap - SCH_MILLISECOND;
    dump_spins spins = {0, 0};
    unsigned count = 0;
    const dump_seen *s;
    config.task_times = true;
    sch_runtime *rt = support_begin(&config);
    dump_walk *walk = dump_walk_new(rt);
    struct timespec start = test_clock();
    sch_task *waiter = sch_spawn(rt, dump_suspend_twice, &count), *runner, *queued;
    sch_task *job = sch_spawn_blocking(rt, dump_spin_until, &spins);
    WAIT_FOR(schi_load_seq(&waiter->state) & SCHI_WAIT_WAKE);
    support_nap(20000);
    struct timespec later = test_clock();
    runner = sch_spawn(rt, dump_spin_until, &spins);
    queued = sch_spawn(rt, support_count, &count);
    WAIT_FOR(support_get(&spins.began) == 2);
    dump_look(walk);
    s = dump_find(walk, sch_task_id(waiter));
    EXPECT(s->info.age_ns >= short_nap && s->info.age_ns <= dump_wall(start));
    EXPECT(s->info.phase_ns >= short_nap && s->info.phase_ns <= s->info.age_ns);
    s = dump_find(walk, sch_task_id(job));
    EXPECT(s->info.age_ns >= short_nap && s->info.age_ns <= dump_wall(start));
    EXPECT(s->info.phase_ns <= s->info.age_ns);
    s = dump_find(walk, sch_task_id(runner));
    EXPECT_EQ(s->info.phase, SCH_PHASE_RUNNING);
    EXPECT(s->info.age_ns <= dump_wall(later) && s->info.phase_ns <= s->info.age_ns);
    s = dump_find(walk, sch_task_id(queued));
    EXPECT_EQ(s->info.phase, SCH_PHASE_QUEUED);
    EXPECT(s->info.age_ns <= dump_wall(later) && s->info.phase_ns <= s->info.age_ns);
    support_nap(20000);
    dump_look(walk);
    s = dump_find(walk, sch_task_id(runner));
    EXPECT(s->info.phase_ns >= short_nap);
    s = dump_find(walk, sch_task_id(queued));
    EXPECT(s->info.phase_ns >= short_nap && s->info.phase_ns <= dump_wall(later));
    s = dump_find(walk, sch_task_id(waiter));
    EXPECT(s->info.phase_ns >= 2 * short_nap);
    support_set(&spins.stop, 1);
    EXPECT_EQ(sch_join(runner), 0);
    sch_wake(waiter); /* it goes on, and waits anew: that is younger than the task */
    WAIT_FOR(support_metrics(rt).num_waiting_tasks == 1 && support_get(&count) == 2);
    dump_look(walk);
    s = dump_find(walk, sch_task_id(waiter));
    EXPECT(s->info.age_ns >= 2 * short_nap && s->info.phase_ns + 2 * short_nap <= s->info.age_ns);
    EXPECT_EQ(sch_cancel(waiter), 0);
    EXPECT_EQ(sch_join(waiter), -ECANCELED);
    EXPECT_EQ(sch_join(queued), 0);
    EXPECT_EQ(sch_join(job), 0);
    free(walk);
    support_end(rt, &memory);
}

/* After blocking code it runs anew; what has just changed its phase may not be stamped yet. */
typedef struct dump_returns {
    dump_spins spins;
    support_gate gate;
} dump_returns;

static void dump_return_and_spin(void *arg) {
    dump_returns *r = (dump_returns *)arg;
    EXPECT_EQ(sch_block_in_place(support_gate_wait, &r->gate), 0);
    dump_spin_until(&r->spins);
}

TEST(dump_ages_on_the_way) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    dump_returns r = {{0, 0}, SUPPORT_GATE};
    const dump_seen *s;
    config.task_times = true;
    sch_runtime *rt = support_begin(&config);
    dump_walk *walk = dump_walk_new(rt);
    sch_task *runner = sch_spawn(rt, dump_return_and_spin, &r), *queued;
    WAIT_FOR(support_gate_waiters(&r.gate) == 1);
    support_nap(20000);
    dump_look(walk);
    s = dump_find(walk, sch_task_id(runner));
    EXPECT_EQ(s->info.phase, SCH_PHASE_BLOCKING);
    EXPECT(s->info.phase_ns >= 19 * SCH_MILLISECOND);
    support_gate_open(&r.gate);
    WAIT_FOR(support_get(&r.spins.began) == 1);
    queued = sch_spawn(rt, waits_suspend, NULL);
    support_nap(20000);
    dump_look(walk);
    s = dump_find(walk, sch_task_id(runner));
    EXPECT_EQ(s->info.phase, SCH_PHASE_RUNNING);
    EXPECT(s->info.phase_ns >= 19 * SCH_MILLISECOND);
    EXPECT(s->info.phase_ns + 19 * SCH_MILLISECOND <= s->info.age_ns);
    schi_stamp(&schi_times_of(runner)->begun, 1); /* of an earlier poll */
    schi_stamp(&schi_times_of(queued)->queued, 1);
    schi_stamp(&schi_times_of(queued)->let_go, 2);
    dump_look(walk);
    EXPECT_EQ(dump_find(walk, sch_task_id(runner))->info.phase_ns, 0);
    EXPECT_EQ(dump_find(walk, sch_task_id(queued))->info.phase_ns, 0);
    support_set(&r.spins.stop, 1);
    EXPECT_EQ(sch_join(runner), 0);
    EXPECT_EQ(sch_cancel(queued), 0);
    (void)sch_join(queued);
    free(walk);
    support_end(rt, &memory);
}

/* A job is stamped before anybody can see that it waits: here it gets no further. */
static void dump_spin_and_suspend(void *arg) {
    dump_spin_until((dump_spins *)arg);
    EXPECT_EQ(sch_suspend(), 0);
}

TEST(dump_ages_of_a_job) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    dump_spins spins = {0, 0};
    config.task_times = config.paused_clock = true;
    sch_runtime *rt = support_begin(&config);
    sch_task *job = sch_spawn_blocking(rt, dump_spin_and_suspend, &spins);
    schi_times *times = schi_times_of(job);
    WAIT_FOR(support_get(&spins.began) == 1);
    schi_lock(&rt->idle.lock); /* it wants that to have the clock looked at */
    support_set(&spins.stop, 1);
    WAIT_FOR(schi_load_seq(&job->state) & SCHI_WAIT_WAKE);
    EXPECT(schi_counted(&times->let_go) >= schi_counted(&times->begun));
    schi_unlock(&rt->idle.lock);
    sch_wake(job);
    EXPECT_EQ(sch_join(job), 0);
    support_end(rt, &memory);
}

static void dump_do_nothing(void *arg) { (void)arg; }

/* A task is not shown with the times of the one that had its block before. */
typedef struct dump_births {
    uint64_t since; /* nothing that lives is older; atomic */
    unsigned stop;  /* atomic */
    sch_runtime *rt;
} dump_births;

static int dump_young(const sch_task_info *info, void *since) {
    EXPECT(info->age_ns <= schi_now_ns() - *(uint64_t *)since);
    return 0;
}

static void dump_look_at_the_young(void *arg) {
    dump_births *b = (dump_births *)arg;
    while (!support_get(&b->stop)) {
        uint64_t since = __atomic_load_n(&b->since, __ATOMIC_SEQ_CST);
        EXPECT_EQ(sch_each_task(b->rt, dump_young, &since), 0);
    }
}

TEST(dump_ages_of_new_tasks) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    support_thread walker;
    dump_births b = {0, 0, NULL};
    config.task_times = true;
    b.rt = support_begin(&config);
    b.since = schi_now_ns();
    support_thread_start(&walker, dump_look_at_the_young, &b);
    for (size_t i = 0; i < test_scale(3000) + 10; i++) {
        EXPECT_EQ(sch_join(sch_spawn(b.rt, dump_do_nothing, NULL)), 0);
        __atomic_store_n(&b.since, schi_now_ns(), __ATOMIC_SEQ_CST);
    }
    support_set(&b.stop, 1);
    support_thread_join(&walker);
    support_end(b.rt, &memory);
}

/* Without task_times those that wait on a stack know it by the turn in which they began. */
TEST(dump_ages_of_waiting_stacks) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    sch_runtime *rt = support_begin(&config);
    dump_walk *walk = dump_walk_new(rt);
    struct timespec start = test_clock();
    sch_task *waiter = sch_spawn(rt, waits_suspend, NULL);
    WAIT_FOR(schi_load_seq(&waiter->state) & SCHI_WAIT_WAKE);
    support_nap(20000);
    dump_look(walk);
    const dump_seen *s = dump_find(walk, sch_task_id(waiter));
    EXPECT(s->info.phase_ns >= 19 * SCH_MILLISECOND && s->info.phase_ns <= dump_wall(start));
    EXPECT_EQ(s->info.age_ns, UINT64_MAX);
    EXPECT_EQ(sch_cancel(waiter), 0);
    EXPECT_EQ(sch_join(waiter), -ECANCELED);
    free(walk);
    support_end(rt, &memory);
}

/* Frames ----------------------------------------------------------------------------------------*/

/* Does this libc tell backtraces, and this build look at stacks? */
static bool dump_tells_frames(void) {
#if SCHI_UCONTEXT
    return false;
#else
    void *frames[4];
    return schi_backtrace(frames, 4) > 0;
#endif
}

/* Where two of the test's functions will go on. */
typedef struct dump_depth {
    void *to_middle, *to_outer;
    unsigned spare;
} dump_depth;

static SCHI_NOINLINE void dump_inner(dump_depth *d) {
    d->to_middle = __builtin_return_address(0);
    EXPECT_EQ(sch_suspend(), -ECANCELED);
    d->spare++; /* not a tail call */
}

static SCHI_NOINLINE void dump_middle(dump_depth *d) {
    d->to_outer = __builtin_return_address(0);
    dump_inner(d);
    d->spare++;
}

static SCHI_NOINLINE void dump_outer(void *arg) {
    dump_depth *d = (dump_depth *)arg;
    dump_middle(d);
    d->spare++;
}

/* The same where less of the stack is left than a look takes. */
static SCHI_NOINLINE void dump_full(void *arg) {
    dump_depth *d = (dump_depth *)arg;
    volatile char bytes[256];
    bytes[0] = bytes[sizeof bytes - 1] = 1;
    if ((size_t)((char *)__builtin_frame_address(0) - schi_self()->stack->mapping) <
        SCHI_SHOW_ROOM) {
        dump_middle(d);
    } else {
        dump_full(arg);
    }
    d->spare += (unsigned)bytes[0];
}

static size_t dump_frame_at(const dump_seen *s, void *address) {
    size_t i = 0;
    while (i < s->info.num_frames && s->frames[i] != address) i++;
    return i;
}

/* Call it from a place; ops_run() gives five of them, a poll task is one more. */
typedef struct dump_call {
    sch_fn fn;
    void *arg;
} dump_call;

static sch_status dump_poll_call(sch_task *self, void *state) {
    dump_call *c = (dump_call *)state;
    (void)self;
    c->fn(c->arg);
    return SCH_READY;
}

#define DUMP_PLACES (OPS_PLACES + 1)
static void dump_run(sch_runtime *rt, int place, sch_fn fn, void *arg) {
    dump_call c = {fn, arg};
    if (place < OPS_PLACES) {
        ops_run(rt, place, fn, arg);
    } else {
        EXPECT_EQ(sch_join(sch_spawn_poll(rt, dump_poll_call, &c, sizeof c)), 0);
    }
}

static void dump_look_from(void *arg) { dump_look((dump_walk *)arg); }

TEST(dump_frames_from_everywhere) {
    static const sch_spawn_desc small = {"small", SCH_HERE, 32768, NULL};
    if (!dump_tells_frames()) SKIP("no backtraces here");
    for (unsigned workers = 0; workers < 3; workers++) {
        checked_memory memory;
        sch_config config = support_config(&memory, workers);
        sch_runtime *rt = support_begin(&config);
        dump_walk *walk = dump_walk_new(rt);
        dump_depth depth[3];
        sch_task *task[3];
        memset(depth, 0, sizeof depth);
        task[0] = sch_spawn(rt, dump_outer, &depth[0]);
        task[1] = sch_spawn(rt, dump_outer, &depth[1]);
        task[2] = sch_spawn_with(rt, &small, dump_full, &depth[2]);
        for (int round = 0; round < 2; round++) {
            for (int place = 0; place < DUMP_PLACES; place++) {
                if (workers > 0) {
                    for (int i = 0; i < 3; i++) {
                        WAIT_FOR(schi_load_seq(&task[i]->state) & SCHI_WAIT_WAKE);
                    }
                }
                dump_run(rt, place, dump_look_from, walk);
                for (int i = 0; i < 3; i++) {
                    const dump_seen *s = dump_find(walk, sch_task_id(task[i]));
                    size_t middle = dump_frame_at(s, depth[i].to_middle);
                    size_t outer = dump_frame_at(s, depth[i].to_outer);
                    EXPECT(s->info.phase == SCH_PHASE_WAITING || workers == 0);
                    if (s->info.phase != SCH_PHASE_WAITING) continue; /* nobody has driven yet */
                    if (i == 2) { /* there is no room for a look */
                        EXPECT_EQ(s->info.num_frames, 0);
                    } else {
                        EXPECT(middle < outer && outer < s->info.num_frames);
                    }
                }
            }
        }
        for (int i = 0; i < 3; i++) {
            EXPECT_EQ(sch_cancel(task[i]), 0);
            EXPECT_EQ(sch_join(task[i]), -ECANCELED);
            EXPECT(depth[i].spare >= 2);
        }
        free(walk);
        support_end(rt, &memory);
    }
}

/* A task of one runtime looks at another runtime's; that one's are not in use by its own. */
typedef struct dump_two {
    dump_walk *walk;
    sch_task *task;
} dump_two;

static void dump_look_across(void *arg) {
    dump_two *d = (dump_two *)arg;
    dump_look(d->walk);
    dump_expect(d->walk, d->task, SCH_TASK_STACK, SCH_PHASE_WAITING, UINT_MAX, SCH_WAIT_SUSPEND,
                "sch_suspend");
    EXPECT_EQ(sch_yield_now(), 0); /* we are still where we were */
    EXPECT(sch_worker_index() == 0);
}

TEST(dump_of_another_runtime) {
    checked_memory memory[2];
    sch_config config[2] = {support_config(&memory[0], 1), support_config(&memory[1], 1)};
    sch_runtime *rt[2] = {support_begin(&config[0]), support_begin(&config[1])};
    dump_two d = {dump_walk_new(rt[1]), sch_spawn(rt[1], waits_suspend, NULL)};
    WAIT_FOR(schi_load_seq(&d.task->state) & SCHI_WAIT_WAKE);
    support_run(rt[0], dump_look_across, &d);
    EXPECT_EQ(sch_cancel(d.task), 0);
    EXPECT_EQ(sch_join(d.task), -ECANCELED);
    free(d.walk);
    support_end(rt[0], &memory[0]);
    support_end(rt[1], &memory[1]);
}

/* Who may look ----------------------------------------------------------------------------------*/

static int dump_ignore(const sch_task_info *info, void *user) {
    (void)user;
    EXPECT(info->phase_ns <= info->age_ns); /* or neither is known */
    return 0;
}

typedef struct dump_rules {
    sch_runtime *rt;
    dump_text text;
    unsigned calls, refused;
} dump_rules;

static int dump_look_again(const sch_task_info *info, void *user) {
    dump_rules *r = (dump_rules *)user;
    (void)info;
    r->calls++;
    EXPECT_EQ(sch_each_task(r->rt, dump_ignore, NULL), -EBUSY);
    EXPECT_EQ(sch_dump(r->rt, 0, dump_take, &r->text), -EBUSY);
    return 0;
}

static int dump_write_again(const char *text, size_t length, void *user) {
    dump_rules *r = (dump_rules *)user;
    (void)text, (void)length;
    EXPECT_EQ(sch_each_task(r->rt, dump_ignore, NULL), -EBUSY);
    EXPECT_EQ(sch_dump(r->rt, 0, dump_take, &r->text), -EBUSY);
    r->calls++;
    return 0;
}

static void dump_refused_here(dump_rules *r) {
    EXPECT_EQ(sch_each_task(r->rt, dump_ignore, NULL), -EPERM);
    EXPECT_EQ(sch_dump(r->rt, 0, dump_take, &r->text), -EPERM);
    support_add(&r->refused, 1);
}

static void dump_drop_looks(void *arg) { dump_refused_here((dump_rules *)arg); }

static void dump_hook_looks(void *user, sch_task *task) {
    dump_rules *r = (dump_rules *)user;
    if (r->rt && sch_task_name(task)[0] == 'h') dump_refused_here(r);
}

TEST(dump_who_may_look) {
    static const sch_spawn_desc drop = {"dropped", SCH_HERE, 0, dump_drop_looks};
    static const sch_spawn_desc hooked = {"hooked", SCH_HERE, 0, NULL};
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    dump_rules r;
    dump_walk *walk;
    memset(&r, 0, sizeof r);
    dump_text_init(&r.text);
    config.hooks.on_task_spawn = config.hooks.on_task_poll_start = dump_hook_looks;
    config.hooks.on_task_poll_end = config.hooks.on_task_terminate = dump_hook_looks;
    config.hooks.user = &r;
    r.rt = support_begin(&config);
    EXPECT_EQ(sch_each_task(NULL, dump_ignore, NULL), -EINVAL);
    EXPECT_EQ(sch_each_task(r.rt, NULL, NULL), -EINVAL);
    EXPECT_EQ(sch_dump(NULL, 0, dump_take, &r.text), -EINVAL);
    EXPECT_EQ(sch_dump(r.rt, 0, NULL, &r.text), -EINVAL);
    EXPECT_EQ(sch_join(sch_spawn_with(r.rt, &drop, dump_do_nothing, &r)), 0);
    EXPECT_EQ(r.refused, 1);
    EXPECT_EQ(sch_join(sch_spawn_with(r.rt, &hooked, support_count, &r.calls)), 0);
    EXPECT_EQ(r.refused, 5);
    EXPECT_EQ(r.text.calls, 0);

    sch_task *task[2];
    for (int i = 0; i < 2; i++) task[i] = sch_spawn(r.rt, waits_suspend, NULL);
    r.calls = 0;
    EXPECT_EQ(sch_each_task(r.rt, dump_look_again, &r), 0);
    EXPECT_EQ(r.calls, 2);
    r.calls = 0;
    EXPECT_EQ(sch_dump(r.rt, 0, dump_write_again, &r), 0);
    EXPECT(r.calls > 0);
    EXPECT_EQ(r.text.calls, 0);
    walk = dump_walk_new(r.rt);
    walk->end_at = 1; /* what it returns ends the walk, and is returned */
    EXPECT_EQ(sch_each_task(r.rt, dump_keep, walk), 5);
    EXPECT_EQ(walk->num, 1);
    walk->end_at = 0;
    dump_look(walk);
    EXPECT_EQ(walk->num, 2);
    for (int i = 0; i < 2; i++) {
        EXPECT_EQ(sch_cancel(task[i]), 0);
        EXPECT_EQ(sch_join(task[i]), -ECANCELED);
    }
    free(walk);
    support_end(r.rt, &memory);
    dump_text_drop(&r.text);
}

/* What is called may wait, where the caller may, and so come back on another thread. */
static void dump_yields_forever(void *arg) { YIELD_UNTIL(support_get((unsigned *)arg)); }

typedef struct dump_waiting {
    sch_runtime *rt;
    unsigned calls, ran, moved;
} dump_waiting;

static int dump_wait_in_callback(const sch_task_info *info, void *user) {
    dump_waiting *w = (dump_waiting *)user;
    uint64_t id = info->id;
    const unsigned before = sch_worker_index();
    EXPECT_EQ(sch_yield_now(), 0);
    EXPECT_EQ(sch_sleep(200 * SCH_MICROSECOND), 0);
    EXPECT_EQ(sch_join(sch_spawn(w->rt, support_count, &w->ran)), 0);
    EXPECT_EQ(info->id, id); /* valid until we return */
    w->calls++;
    w->moved += sch_worker_index() != before;
    return 0;
}

static void dump_look_and_wait(void *arg) {
    dump_waiting *w = (dump_waiting *)arg;
    EXPECT_EQ(sch_each_task(w->rt, dump_wait_in_callback, w), 0);
}

TEST(dump_callback_may_wait) {
    for (unsigned workers = 0; workers < 3; workers += 2) {
        checked_memory memory;
        sch_config config = support_config(&memory, workers);
        dump_waiting w;
        sch_task *task[6];
        unsigned stop = 0;
        memset(&w, 0, sizeof w);
        w.rt = support_begin(&config);
        for (int i = 0; i < 6; i++) {
            task[i] = sch_spawn(w.rt, i ? waits_joined : dump_yields_forever, &stop);
        }
        for (int place = 0; place < OPS_PLACES; place++) {
            unsigned before = w.calls;
            ops_run(w.rt, place, dump_look_and_wait, &w);
            EXPECT(w.calls - before >= 6);
        }
        support_set(&stop, 1);
        for (int i = 0; i < 6; i++) {
            sch_wake(task[i]);
            EXPECT_EQ(sch_join(task[i]), 0);
        }
        support_end(w.rt, &memory);
    }
}

/* Nothing is lost -------------------------------------------------------------------------------
 * A task is held borrowed, as a look does, while what it waits for happens. It stays where it is,
 * and goes on when it is given back. */

typedef struct dump_loan {
    sch_runtime *rt;
    sch_task *task, *child;
    ops_hand hand;
    sch_io io;
    int end;
    unsigned go, ran; /* atomic */
    int result;       /* of its wait */
} dump_loan;

static void dump_loan_suspend(void *arg) {
    dump_loan *l = (dump_loan *)arg;
    l->result = sch_suspend();
    support_add(&l->ran, 1);
}

static void dump_loan_child(void *arg) {
    while (!support_get(&((dump_loan *)arg)->go)) EXPECT_EQ(sch_sleep(100 * SCH_MICROSECOND), 0);
}

static void dump_loan_join(void *arg) {
    dump_loan *l = (dump_loan *)arg;
    l->result = sch_join(l->child);
    support_add(&l->ran, 1);
}

static void dump_loan_sleep(void *arg) {
    dump_loan *l = (dump_loan *)arg;
    l->result = sch_sleep(10 * SCH_MILLISECOND);
    support_add(&l->ran, 1);
}

static void dump_loan_await(void *arg) {
    dump_loan *l = (dump_loan *)arg;
    l->result = (int)sch_await(&l->hand.op);
    support_add(&l->ran, 1);
}

static void dump_loan_read(void *arg) {
    dump_loan *l = (dump_loan *)arg;
    char byte;
    l->result = (int)sch_read(&l->io, &byte, 1);
    support_add(&l->ran, 1);
}

/* A shield that ends while it waits; the task was cancelled before. */
static void dump_loan_shield(void *arg) {
    dump_loan *l = (dump_loan *)arg;
    EXPECT_EQ(sch_cancel(sch_self()), 0);
    EXPECT_EQ(sch_shield_begin(sch_now() + 10 * SCH_MILLISECOND), 0);
    l->result = sch_suspend();
    sch_shield_end();
    support_add(&l->ran, 1);
}

static sch_status dump_loan_poll(sch_task *self, void *state) {
    dump_loan *l = *(dump_loan **)state;
    (void)self;
    return support_add(&l->ran, 1) == 2 ? SCH_READY : SCH_PENDING;
}

static sch_status dump_loan_poll_op(sch_task *self, void *state) {
    dump_loan *l = *(dump_loan **)state;
    (void)self;
    if (sch_op_poll(&l->hand.op) == SCH_PENDING) return SCH_PENDING;
    l->result = (int)l->hand.op.result;
    support_add(&l->ran, 1);
    return SCH_READY;
}

enum dump_event { DUMP_WAKE, DUMP_CANCEL, DUMP_GRANT, DUMP_TIME, DUMP_COMPLETE, DUMP_RETRY,
                  DUMP_BYTE, DUMP_NOTHING };

static const struct dump_loan_case {
    sch_fn fn;
    sch_poll_fn poll; /* instead */
    bool job;
    enum dump_event event;
    int result, join;
    unsigned ran;     /* polls of a poll task */
} dump_loans[] = {
    {dump_loan_suspend, NULL, false, DUMP_WAKE, 0, 0, 1},
    {dump_loan_suspend, NULL, false, DUMP_CANCEL, -ECANCELED, -ECANCELED, 1},
    {dump_loan_suspend, NULL, false, DUMP_NOTHING, 0, 0, 1},
    {dump_loan_join, NULL, false, DUMP_GRANT, 0, 0, 1},
    {dump_loan_sleep, NULL, false, DUMP_TIME, 0, 0, 1},
    {dump_loan_await, NULL, false, DUMP_COMPLETE, 11, 0, 1},
    {dump_loan_await, NULL, false, DUMP_CANCEL, -ECANCELED, -ECANCELED, 1},
    {dump_loan_read, NULL, false, DUMP_BYTE, 1, 0, 1},
    {dump_loan_read, NULL, false, DUMP_CANCEL, -ECANCELED, -ECANCELED, 1},
    {dump_loan_shield, NULL, false, DUMP_TIME, -ECANCELED, -ECANCELED, 1},
    {dump_loan_suspend, NULL, true, DUMP_WAKE, 0, 0, 1},
    {dump_loan_suspend, NULL, true, DUMP_CANCEL, -ECANCELED, -ECANCELED, 1},
    {dump_loan_suspend, NULL, true, DUMP_NOTHING, 0, 0, 1},
    {dump_loan_await, NULL, true, DUMP_COMPLETE, 11, 0, 1},
    {dump_loan_join, NULL, true, DUMP_GRANT, 0, 0, 1},
    {NULL, dump_loan_poll, false, DUMP_WAKE, 0, 0, 2},
    {NULL, dump_loan_poll, false, DUMP_CANCEL, 0, 0, 2},
    {NULL, dump_loan_poll, false, DUMP_NOTHING, 0, 0, 2},
    {NULL, dump_loan_poll_op, false, DUMP_COMPLETE, 11, 0, 1},
};

static void dump_loan_happen(dump_loan *l, enum dump_event event) {
    switch (event) {
    case DUMP_WAKE: sch_wake(l->task); break;
    case DUMP_CANCEL: EXPECT_EQ(sch_cancel(l->task), 0); break;
    case DUMP_GRANT:
        support_set(&l->go, 1);
        WAIT_FOR(sch_is_done(l->child));
        break;
    case DUMP_TIME: support_nap(20000); break;
    case DUMP_COMPLETE:
    case DUMP_RETRY: sch_op_complete(&l->hand.op, 11); break;
    case DUMP_BYTE: EXPECT_EQ(write(l->end, "x", 1), 1); break;
    case DUMP_NOTHING: break;
    }
}

static void dump_loan_try(unsigned workers, const struct dump_loan_case *c, bool early) {
    checked_memory memory;
    sch_config config = support_config(&memory, workers);
    dump_loan loan, *l = &loan;
    int fd[2];
    unsigned before = 0;
    SCHI_STATE wait = 0;
    bool borrowed = false;
    memset(l, 0, sizeof *l);
    l->hand = ops_by_hand(false);
    l->rt = support_begin(&config);
    if (pipe(fd)) abort();
    l->end = fd[1];
    EXPECT_EQ(sch_io_open(&l->io, l->rt, fd[0]), 0);
    if (c->event == DUMP_GRANT) l->child = sch_retain(sch_spawn(l->rt, dump_loan_child, l));
    l->task = c->poll  ? sch_spawn_poll(l->rt, c->poll, &l, sizeof l)
              : c->job ? sch_spawn_blocking(l->rt, c->fn, l)
                       : sch_spawn(l->rt, c->fn, l);
    /* On a slow machine its time may be over before we come. */
    WAIT_FOR((borrowed = schi_task_borrow(l->task, &wait)) || sch_is_done(l->task));
    EXPECT(borrowed || c->event == DUMP_TIME);
    if (borrowed) {
        before = support_get(&l->ran);
        if (early) dump_loan_happen(l, c->event);
        support_nap(2000);
        EXPECT_EQ(support_get(&l->ran), before); /* it does not run while it is ours */
        if (!schi_task_idle(l->task, wait)) schi_schedule(schi_self(), l->task);
        if (!early) dump_loan_happen(l, c->event);
    }
    if (c->event == DUMP_NOTHING) {
        support_nap(1000);
        EXPECT_EQ(support_get(&l->ran), before);
        EXPECT(!(schi_load_seq(&l->task->state) & SCHI_SCHEDULED));
        sch_wake(l->task);
    }
    EXPECT_EQ(sch_join(l->task), c->join);
    EXPECT_EQ(l->result, c->result);
    EXPECT_EQ(l->ran, c->ran);
    sch_release(l->child);
    EXPECT_EQ(sch_io_close(&l->io), 0);
    close(fd[1]);
    support_end(l->rt, &memory);
}

TEST(dump_loses_nothing) {
    for (unsigned workers = 1; workers < 3; workers++) {
        for (size_t i = 0; i < sizeof dump_loans / sizeof *dump_loans; i++) {
            dump_loan_try(workers, &dump_loans[i], true);
            dump_loan_try(workers, &dump_loans[i], false);
        }
    }
}

/* Time that is paused goes on after a look. */
static void dump_sleep_often(void *arg) {
    for (int i = 0; i < 50; i++) EXPECT_EQ(sch_sleep(SCH_SECOND), 0);
    support_count(arg);
}

TEST(dump_on_a_paused_clock) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    unsigned done = 0;
    config.paused_clock = true;
    sch_runtime *rt = support_begin(&config);
    dump_walk *walk = dump_walk_new(rt);
    for (int i = 0; i < 3; i++) EXPECT_EQ(sch_go(rt, dump_sleep_often, &done), 0);
    struct timespec start = test_clock();
    while (support_get(&done) < 3 && test_seconds_since(start) < 30) dump_look(walk);
    EXPECT_EQ(support_get(&done), 3);
    free(walk);
    support_end(rt, &memory);
}

/* It stands still exactly while a task is borrowed: that one may be what runs next. */
static void dump_sleep_and_count(void *arg) {
    EXPECT_EQ(sch_sleep(2 * SCH_MILLISECOND), 0);
    support_count(arg);
}

TEST(dump_holds_a_paused_clock) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    unsigned count = 0;
    config.paused_clock = true;
    sch_runtime *rt = support_begin(&config);
    EXPECT_EQ(schi_walk_begin(rt), 0);
    schi_walk_says(rt, (uint32_t)SCHI_WALK_BORROWS);
    sch_task *task = sch_spawn(rt, dump_sleep_and_count, &count);
    WAIT_FOR(support_metrics(rt).num_waiting_tasks == 1);
    WAIT_FOR(support_metrics(rt).num_idle_workers == 1);
    support_nap(10000);
    EXPECT_EQ(support_get(&count), 0);
    schi_walk_says(rt, (uint32_t)SCHI_WALK_BETWEEN);
    WAIT_FOR(support_get(&count) == 1);
    schi_walk_end(rt);
    EXPECT_EQ(sch_join(task), 0);
    support_end(rt, &memory);
}

/* As text ---------------------------------------------------------------------------------------*/

/* One that stays in its poll is reported, and not waited for. */
TEST(dump_of_a_busy_worker) {
    static const sch_spawn_desc busy = {"stuck", "stuck.c", 12, 0, NULL};
    static const sch_spawn_desc lazy = {"lazy", "lazy.c", 34, 0, NULL};
    checked_memory memory;
    sch_config config = support_config(&memory, 2);
    support_gate gate = SUPPORT_GATE;
    char words[128];
    dump_text text;
    sch_runtime *rt = support_begin(&config);
    dump_text_init(&text);
    sch_task *stuck = sch_spawn_with(rt, &busy, support_gate_wait, &gate);
    sch_task *lazybones = sch_spawn_with(rt, &lazy, waits_suspend, NULL);
    WAIT_FOR(support_gate_waiters(&gate) == 1);
    WAIT_FOR(schi_load_seq(&lazybones->state) & SCHI_WAIT_WAKE);
    WAIT_FOR(support_metrics(rt).num_idle_workers == 1);
    EXPECT_EQ(sch_dump(rt, 20 * SCH_MILLISECOND, dump_take, &text), 0); /* the gate is closed */
    EXPECT(strncmp(text.text, "tasks 2, workers 2, in the injector 0\n", 38) == 0);
    snprintf(words, sizeof words, ": busy with task %llu \"stuck\" stuck.c:12, the same poll for",
             (unsigned long long)sch_task_id(stuck));
    EXPECT(dump_has(&text, words));
    EXPECT(dump_has(&text, ": parked, 0 queued\n"));
    snprintf(words, sizeof words, "\ntask %llu \"stuck\" stuck.c:12, stack, running on worker ",
             (unsigned long long)sch_task_id(stuck));
    EXPECT(dump_has(&text, words));
    snprintf(words, sizeof words, "\ntask %llu \"lazy\" lazy.c:34, stack, waiting for ",
             (unsigned long long)sch_task_id(lazybones));
    EXPECT(dump_has(&text, words));
    EXPECT(dump_has(&text, ": sch_suspend\n"));
    support_gate_open(&gate);
    EXPECT_EQ(sch_join(stuck), 0);
    EXPECT_EQ(sch_cancel(lazybones), 0);
    EXPECT_EQ(sch_join(lazybones), -ECANCELED);
    WAIT_FOR(metrics_all_sleep(rt));
    dump_text_clear(&text);
    EXPECT_EQ(sch_dump(rt, 0, dump_take, &text), 0);
    EXPECT(strcmp(text.text, "tasks 0, workers 2, in the injector 0\n"
                             "worker 0: parked, 0 queued\n"
                             "worker 1: parked, 0 queued\n") == 0);
    dump_text_drop(&text);
    support_end(rt, &memory);
}

/* From everywhere; the caller's own worker is not waited for. */
typedef struct dump_from {
    sch_runtime *rt;
    dump_text text;
} dump_from;

static void dump_write_from(void *arg) {
    dump_from *f = (dump_from *)arg;
    EXPECT_EQ(sch_dump(f->rt, 10 * SCH_SECOND, dump_take, &f->text), 0);
}

TEST(dump_from_everywhere) {
    for (unsigned workers = 0; workers < 3; workers++) {
        checked_memory memory;
        sch_config config = support_config(&memory, workers);
        dump_from f;
        f.rt = support_begin(&config);
        dump_text_init(&f.text);
        sch_task *task = sch_spawn(f.rt, waits_suspend, NULL);
        if (workers > 0) WAIT_FOR(schi_load_seq(&task->state) & SCHI_WAIT_WAKE);
        for (int place = 0; place < DUMP_PLACES; place++) {
            struct timespec start = test_clock();
            dump_text_clear(&f.text);
            dump_run(f.rt, place, dump_write_from, &f);
            EXPECT(test_seconds_since(start) < 9);
            EXPECT(dump_has(&f.text, "worker 0"));
            EXPECT(dump_has(&f.text, workers > 0 || place > 0 ? ": sch_suspend\n" : "\ntask "));
        }
        EXPECT_EQ(sch_cancel(task), 0);
        EXPECT_EQ(sch_join(task), -ECANCELED);
        dump_text_drop(&f.text);
        support_end(f.rt, &memory);
    }
}

TEST(dump_writer_fails) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    sch_runtime *rt = support_begin(&config);
    sch_task *task[40];
    dump_text text;
    dump_text_init(&text);
    for (int i = 0; i < 40; i++) task[i] = sch_spawn(rt, waits_suspend, NULL);
    WAIT_FOR(support_metrics(rt).num_waiting_tasks == 40);
    EXPECT_EQ(sch_dump(rt, 0, dump_take, &text), 0);
    /* Times in the text differ from dump to dump, and with them the number of pieces. */
    for (unsigned calls = text.calls, i = 1; i < calls; i++) {
        dump_text_clear(&text);
        text.fail_at = i;
        text.answer = i % 2 ? -EPIPE : 3;
        EXPECT_EQ(sch_dump(rt, 0, dump_take, &text), text.answer);
        EXPECT_EQ(text.calls, i);
    }
    text.fail_at = 0;
    dump_text_clear(&text);
    EXPECT_EQ(sch_dump(rt, 0, dump_take, &text), 0); /* it is not busy for ever */
    for (int i = 0; i < 40; i++) {
        EXPECT_EQ(sch_cancel(task[i]), 0);
        EXPECT_EQ(sch_join(task[i]), -ECANCELED);
    }
    dump_text_drop(&text);
    support_end(rt, &memory);
}

TEST(dump_symbol) {
    char text[256], small[8];
    const void *at;
    int (*known)(const char *) = puts;
    size_t n;
    memcpy(&at, &known, sizeof at);
    n = sch_symbol((const char *)at + 1, text, sizeof text);
    EXPECT(n > 2 && n < sizeof text && strlen(text) == n);
    EXPECT(strncmp(text, "0x", 2) == 0 || strchr(text, '+') != NULL);
    memset(small, 'z', sizeof small);
    n = sch_symbol(at, small, sizeof small);
    EXPECT_EQ(n, 7);
    EXPECT_EQ(small[7], 0);
    EXPECT(strncmp(small, text, 3) == 0);
    EXPECT_EQ(sch_symbol(at, small, 1), 0);
    EXPECT_EQ(small[0], 0);
    EXPECT_EQ(sch_symbol(at, NULL, 0), 0);
    n = sch_symbol((const void *)(uintptr_t)8, text, sizeof text);
    EXPECT(n >= 3 && strncmp(text, "0x8", 3) == 0);
}

/* Scheduling goes on as before ------------------------------------------------------------------*/

/* Tokio's issue 8372: after dumps, those who slept were counted wrongly and nobody woke them. */
TEST(dump_leaves_idle_workers_alone) {
    checked_memory memory;
    sch_config config = support_config(&memory, 4);
    sch_runtime *rt = support_begin(&config);
    dump_walk *walk = dump_walk_new(rt);
    dump_text text;
    sch_task *waiter[20];
    unsigned count = 0;
    sch_metrics_snapshot before, after;
    dump_text_init(&text);
    for (int i = 0; i < 20; i++) waiter[i] = sch_spawn(rt, waits_joined, NULL);
    WAIT_FOR(support_metrics(rt).num_waiting_tasks == 20);
    for (int round = 0; round < 3; round++) {
        WAIT_FOR(metrics_all_sleep(rt));
        support_nap(15000); /* the standby's last look */
        before = support_metrics(rt);
        for (size_t i = 0; i < test_scale(100) + 3; i++) {
            dump_look(walk);
            EXPECT_EQ(walk->num, 20);
            dump_text_clear(&text);
            EXPECT_EQ(sch_dump(rt, 0, dump_take, &text), 0);
        }
        after = support_metrics(rt);
        EXPECT_EQ(after.num_idle_workers, 4);
        EXPECT_EQ(after.num_waiting_tasks, 20);
        EXPECT_EQ(after.total.park_unpark_count, before.total.park_unpark_count);
        EXPECT_EQ(after.total.poll_count, before.total.poll_count);
        EXPECT_EQ(after.remote_schedule_count, before.remote_schedule_count);
        schi_lock(&rt->idle.lock);
        schi_idle_check(&rt->idle);
        schi_unlock(&rt->idle.lock);
        support_set(&count, 0); /* from outside, and by timers: they all come */
        for (int i = 0; i < 50; i++) {
            EXPECT_EQ(sch_go(rt, i % 2 ? dump_sleep_and_count : support_count, &count), 0);
        }
        WAIT_FOR(support_get(&count) == 50);
    }
    for (int i = 0; i < 20; i++) {
        sch_wake(waiter[i]);
        EXPECT_EQ(sch_join(waiter[i]), 0);
    }
    dump_text_drop(&text);
    free(walk);
    support_end(rt, &memory);
}

/* Under load ------------------------------------------------------------------------------------*/

typedef struct dump_load {
    sch_runtime *rt;
    unsigned stop, spawned, ended, walks, stalls; /* atomic */
    bool all;                                     /* watchdog, stacks of running polls, trace */
} dump_load;

static void dump_load_stall(const sch_stall *stall, void *user) {
    EXPECT(stall->ns >= SCH_MILLISECOND && stall->num_frames <= 64);
    support_add(&((dump_load *)user)->stalls, 1);
}

static void dump_load_drop(void *arg) { support_add(&((dump_load *)arg)->ended, 1); }

static const sch_spawn_desc dump_load_desc = {"load", SCH_HERE, 0, dump_load_drop};

static void dump_load_leaf(void *arg) {
    (void)arg;
    if (test_random() % 2) (void)sch_yield_now();
    if (test_random() % 4 == 0) (void)sch_sleep(test_random() % 300000);
}

static void dump_load_suspend(void *arg) {
    (void)arg;
    (void)sch_suspend();
}

static sch_status dump_load_poll(sch_task *self, void *state) {
    unsigned *polls = (unsigned *)state;
    if (++*polls == 3 || sch_cancelled()) return SCH_READY;
    if (*polls == 1) {
        (void)sch_yield_now();
    } else {
        sch_wake(self);
    }
    return SCH_PENDING;
}

static void dump_load_parent(void *arg) {
    dump_load *l = (dump_load *)arg;
    sch_task *child[4];
    for (int i = 0; i < 4; i++) {
        child[i] = i == 3 ? sch_spawn_poll(NULL, dump_load_poll, NULL, sizeof(unsigned))
                   : i == 2 ? sch_spawn_blocking(NULL, dump_load_leaf, NULL)
                            : sch_spawn(NULL, i ? dump_load_suspend : dump_load_leaf, NULL);
    }
    if (l->all && test_random() % 16 == 0) support_spin(3 * SCH_MILLISECOND);
    if (child[1] && test_random() % 2) (void)sch_yield_now();
    if (test_random() % 4 == 0) (void)sch_block_in_place(dump_load_leaf, NULL);
    for (int i = 0; i < 4; i++) {
        if (!child[i]) continue; /* shutdown */
        sch_wake(child[i]);
        if (test_random() % 4 == 0) (void)sch_cancel(child[i]);
        if (sch_join(child[i]) == -EINTR) sch_detach(child[i]);
    }
}

static void dump_load_walker(void *arg) {
    dump_load *l = (dump_load *)arg;
    dump_text text;
    dump_text_init(&text);
    while (!support_get(&l->stop)) {
        int result = support_get(&l->walks) % 4 == 0
                         ? sch_dump(l->rt, SCH_MILLISECOND, dump_take, &text)
                         : sch_each_task(l->rt, dump_ignore, NULL);
        EXPECT(result == 0 || result == -EBUSY);
        dump_text_clear(&text);
        support_add(&l->walks, 1);
        support_nap((long)(test_random() % 200)); /* others need the CPUs, too */
    }
    dump_text_drop(&text);
}

static void dump_under_load(unsigned workers, bool times, bool all) {
    checked_memory memory;
    sch_config config = support_config(&memory, workers);
    support_thread walker[2];
    dump_load l;
    const size_t rounds = test_scale(120) + 5;
    config.task_times = times;
    memset(&l, 0, sizeof l);
    l.all = all;
    if (all) {
        config.stall_ns = SCH_MILLISECOND;
        config.on_stall = dump_load_stall;
        config.stack_signal = SIGRTMIN + 3;
        config.watch_user = &l;
    }
    l.rt = support_begin(&config);
    if (all) EXPECT_EQ(sch_trace_start(l.rt), 0);
    for (int i = 0; i < 2; i++) support_thread_start(&walker[i], dump_load_walker, &l);
    for (size_t round = 0; round < rounds || support_get(&l.walks) == 0; round++) {
        sch_task *task[8];
        for (int i = 0; i < 8; i++) {
            task[i] = sch_spawn_with(l.rt, &dump_load_desc, dump_load_parent, &l);
            support_add(&l.spawned, 1);
        }
        for (int i = 0; i < 8; i++) {
            if (i == 7 && test_random() % 2) {
                EXPECT(sch_cancel(task[i]) <= 0);
                sch_detach(task[i]);
            } else {
                EXPECT_EQ(sch_join(task[i]), 0);
            }
        }
    }
    (void)sch_runtime_shutdown(l.rt, SCH_FOREVER);
    support_set(&l.stop, 1);
    for (int i = 0; i < 2; i++) support_thread_join(&walker[i]);
    EXPECT_EQ(l.ended, l.spawned);
    support_end(l.rt, &memory);
}

TEST(dump_under_load_1) { dump_under_load(1, false, false); }
TEST(dump_under_load_2) { dump_under_load(2, true, true); }
TEST(dump_under_load_4) { dump_under_load(4, false, true); }

/* Shutdown comes while tasks wait and somebody looks at them all the time: each ends once. */
static void dump_wait_somehow(void *arg) {
    sch_task *child;
    (void)arg;
    switch (test_random() % 3) {
    case 0: (void)sch_suspend(); break;
    case 1: (void)sch_sleep(SCH_SECOND); break;
    default:
        child = sch_spawn(NULL, dump_load_suspend, NULL);
        if (child && sch_join(child) == -EINTR) sch_detach(child);
    }
}

TEST(dump_during_shutdown) {
    for (unsigned workers = 1; workers < 3; workers++) {
        for (size_t round = 0; round < test_scale(40) + 2; round++) {
            checked_memory memory;
            sch_config config = support_config(&memory, workers);
            support_thread walker;
            dump_load l;
            memset(&l, 0, sizeof l);
            l.rt = support_begin(&config);
            for (int i = 0; i < 30; i++, l.spawned++) {
                EXPECT_EQ(sch_go_with(l.rt, &dump_load_desc, dump_wait_somehow, &l), 0);
            }
            support_thread_start(&walker, dump_load_walker, &l);
            WAIT_FOR(support_get(&l.walks) > (unsigned)(test_random() % 4));
            EXPECT_EQ(sch_runtime_shutdown(l.rt, SCH_FOREVER), 0);
            support_set(&l.stop, 1);
            support_thread_join(&walker);
            EXPECT_EQ(l.ended, l.spawned);
            EXPECT_EQ(sch_each_task(l.rt, dump_ignore, NULL), 0); /* afterwards, too */
            support_end(l.rt, &memory);
        }
    }
}

/* Who looks is waited for before the runtime goes. */
typedef struct dump_free {
    sch_runtime *rt;
    support_gate gate;
    unsigned freed, looked; /* atomic */
} dump_free;

static int dump_look_at_gate(const sch_task_info *info, void *user) {
    dump_free *f = (dump_free *)user;
    (void)info;
    support_gate_wait(&f->gate);
    EXPECT_EQ(support_get(&f->freed), 0);
    return 0;
}

static void dump_look_slowly(void *arg) {
    dump_free *f = (dump_free *)arg;
    EXPECT_EQ(sch_each_task(f->rt, dump_look_at_gate, f), 0);
    support_add(&f->looked, 1);
}

static void dump_free_runtime(void *arg) {
    dump_free *f = (dump_free *)arg;
    sch_runtime_free(f->rt);
    support_add(&f->freed, 1);
}

TEST(dump_is_waited_for_by_free) {
    for (unsigned workers = 0; workers < 3; workers++) {
        checked_memory memory;
        sch_config config = support_config(&memory, workers);
        support_thread looker, freer;
        dump_free f = {NULL, SUPPORT_GATE, 0, 0};
        f.rt = support_begin(&config);
        for (int i = 0; i < 3; i++) EXPECT_EQ(sch_go(f.rt, dump_load_suspend, NULL), 0);
        support_thread_start(&looker, dump_look_slowly, &f);
        WAIT_FOR(support_gate_waiters(&f.gate) == 1);
        support_thread_start(&freer, dump_free_runtime, &f);
        support_nap(5000);
        EXPECT_EQ(support_get(&f.freed), 0);
        support_gate_open(&f.gate);
        support_thread_join(&looker);
        support_thread_join(&freer);
        EXPECT_EQ(f.freed + f.looked, 2);
        checked_end(&memory);
    }
}

/* The dump signal -------------------------------------------------------------------------------*/

TEST(dump_at_a_signal) {
    static const sch_spawn_desc lazy = {"lazy", "lazy.c", 34, 0, NULL};
    for (unsigned workers = 0; workers < 2; workers++) {
        checked_memory memory;
        sch_config config = support_config(&memory, workers);
        char words[64];
        dump_text text;
        dump_text_init(&text);
        config.dump_signal = SIGUSR2; /* which signals.c has blocked everywhere */
        config.dump_write = dump_take;
        config.watch_user = &text;
        sch_runtime *rt = support_begin(&config);
        sch_task *task = sch_spawn_with(rt, &lazy, waits_suspend, NULL);
        snprintf(words, sizeof words, "\ntask %llu \"lazy\" lazy.c:34, stack, ",
                 (unsigned long long)sch_task_id(task));
        if (workers > 0) WAIT_FOR(schi_load_seq(&task->state) & SCHI_WAIT_WAKE);
        WAIT_FOR(support_metrics(rt).num_idle_workers == 1);
        for (int i = 0; i < 2; i++) {
            EXPECT_EQ(kill(getpid(), SIGUSR2), 0);
            WAIT_FOR(dump_has(&text, words));
            WAIT_FOR(schi_load_seq(&rt->walking) == SCHI_WALK_NONE);
            EXPECT(dump_has(&text, "tasks 1, workers 1, "));
            EXPECT(dump_has(&text, "worker 0: parked"));
            dump_text_clear(&text);
        }
        EXPECT_EQ(sch_cancel(task), 0);
        EXPECT_EQ(sch_join(task), -ECANCELED);
        support_end(rt, &memory);
        dump_text_drop(&text);
    }
}

/* It comes while somebody looks: the dump follows. */
static int dump_hold_walk(const sch_task_info *info, void *user) {
    dump_text *text = (dump_text *)user;
    (void)info;
    EXPECT_EQ(kill(getpid(), SIGUSR2), 0);
    support_nap(3000);
    EXPECT(!dump_has(text, "tasks"));
    return 1;
}

TEST(dump_signal_is_not_lost) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    dump_text text;
    dump_text_init(&text);
    config.dump_signal = SIGUSR2;
    config.dump_write = dump_take;
    config.watch_user = &text;
    sch_runtime *rt = support_begin(&config);
    sch_task *task = sch_spawn(rt, waits_suspend, NULL);
    WAIT_FOR(schi_load_seq(&task->state) & SCHI_WAIT_WAKE);
    EXPECT_EQ(sch_each_task(rt, dump_hold_walk, &text), 1);
    WAIT_FOR(dump_has(&text, ": sch_suspend\n"));
    EXPECT_EQ(sch_cancel(task), 0);
    EXPECT_EQ(sch_join(task), -ECANCELED);
    support_end(rt, &memory);
    dump_text_drop(&text);
}

/* In a process that has done nothing about the signal it ends nothing. */
static void dump_signal_alone(void *arg) {
    sch_config config;
    dump_text text;
    sch_runtime *rt;
    (void)arg;
    dump_text_init(&text);
    memset(&config, 0, sizeof config);
    config.workers = 1;
    config.dump_signal = SIGUSR1;
    config.dump_write = dump_take;
    config.watch_user = &text;
    rt = sch_runtime_new(&config);
    if (!rt || kill(getpid(), SIGUSR1) != 0) abort();
    while (!dump_has(&text, "worker 0: ")) support_nap(100);
    sch_runtime_free(rt);
    dump_text_drop(&text);
}

TEST(dump_signal_ends_nothing) { EXPECT_EQ(support_signal_of(dump_signal_alone, NULL), 0); }

/* In the child of a fork the runtime is not there. */
static void dump_in_child(void *runtime) {
    sch_runtime *rt = (sch_runtime *)runtime;
    uint64_t count;
    dump_text text;
    dump_text_init(&text);
    if (sch_each_task(rt, dump_ignore, NULL) != -EOWNERDEAD) abort();
    if (sch_dump(rt, 0, dump_take, &text) != -EOWNERDEAD) abort();
    if (sch_metrics_write(rt, SCH_PROMETHEUS, dump_take, &text) != -EOWNERDEAD) abort();
    if (sch_histogram_read(rt, SCH_POLL_TIME, 0, &count, 1) != -EOWNERDEAD) abort();
    if (sch_percentile(rt, SCH_POLL_TIME, 0, 50) != 0 || sch_histogram_limit(rt, 3) != 0) abort();
    dump_text_drop(&text);
}

TEST(dump_in_the_child_of_a_fork) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    config.task_times = true;
    sch_runtime *rt = support_begin(&config);
    EXPECT_EQ(sch_histogram_limit(rt, 3), 3);
    EXPECT_EQ(support_signal_of(dump_in_child, rt), 0);
    support_end(rt, &memory);
}

/* The watchdog ----------------------------------------------------------------------------------*/

typedef struct dump_stalls {
    sch_runtime *rt;
    unsigned num;    /* atomic: reports */
    unsigned enough; /* the hog goes on until there are so many */
    unsigned ran, ran_before_report, worker;
    sch_task *hog;   /* atomic where `dump` is set */
    sch_stall last;  /* of the last report */
    void *frames[64];
    dump_depth depth;
    dump_text text;
    bool dump;       /* from on_stall */
} dump_stalls;

static void dump_on_stall(const sch_stall *stall, void *user) {
    dump_stalls *s = (dump_stalls *)user;
    size_t n = stall->num_frames < 64 ? stall->num_frames : 64;
    s->last = *stall;
    s->ran_before_report = support_get(&s->ran);
    if (n > 0) memcpy(s->frames, stall->frames, n * sizeof *s->frames);
    s->last.num_frames = n;
    if (s->dump) { /* it may do anything: look at everything, end the task */
        sch_task *hog;
        EXPECT_EQ(sch_dump(s->rt, SCH_MILLISECOND, dump_take, &s->text), 0);
        while (!(hog = __atomic_load_n(&s->hog, __ATOMIC_SEQ_CST))) support_nap(50);
        EXPECT_EQ(sch_cancel(hog), 0);
    }
    support_add(&s->num, 1);
}

static sch_config dump_stall_config(checked_memory *memory, unsigned workers, dump_stalls *s,
                                    uint64_t stall_ns) {
    sch_config config = support_config(memory, workers);
    memset(s, 0, sizeof *s);
    s->enough = 1;
    config.stall_ns = stall_ns;
    config.on_stall = dump_on_stall;
    config.watch_user = s;
    return config;
}

/* A poll that lasts until it has been reported, and then ten times as long as a report takes. */
static SCHI_NOINLINE void dump_hog_inner(dump_stalls *s) {
    uint64_t stall_ns = s->rt->config.stall_ns;
    s->depth.to_middle = __builtin_return_address(0);
    s->worker = sch_worker_index();
    while (support_get(&s->num) < s->enough) support_nap(100);
    support_nap((long)(3 * stall_ns / 1000));
}

static SCHI_NOINLINE void dump_hog_middle(dump_stalls *s) {
    s->depth.to_outer = __builtin_return_address(0);
    dump_hog_inner(s);
    s->depth.spare++;
}

static void dump_hog(void *arg) {
    dump_hog_middle((dump_stalls *)arg);
    ((dump_stalls *)arg)->depth.spare++;
}

static sch_status dump_hog_poll(sch_task *self, void *state) {
    (void)self;
    dump_hog(*(dump_stalls **)state);
    return SCH_READY;
}

TEST(dump_stall_is_told_once) {
    static const sch_spawn_desc desc = {"hog", SCH_HERE, 0, NULL};
    const unsigned line = __LINE__ - 1;
    const uint64_t stall_ns = 4 * SCH_MILLISECOND;
    for (unsigned workers = 0; workers < 3; workers++) {
        for (int poll = 0; poll < 2; poll++) {
            checked_memory memory;
            dump_stalls s, *state = &s;
            sch_config config = dump_stall_config(&memory, workers, &s, stall_ns);
            sch_fn hog = dump_hog;
            sch_poll_fn hog_poll = dump_hog_poll;
            sch_metrics_snapshot m;
            const void *fn;
            uint64_t id, wall;
            if (poll) {
                memcpy(&fn, &hog_poll, sizeof fn);
            } else {
                memcpy(&fn, &hog, sizeof fn);
            }
            s.rt = support_begin(&config);
            struct timespec start = test_clock();
            s.hog = poll ? sch_spawn_poll_with(s.rt, &desc, dump_hog_poll, &state, sizeof state)
                         : sch_spawn_with(s.rt, &desc, dump_hog, &s);
            id = sch_task_id(s.hog);
            EXPECT_EQ(sch_join(s.hog), 0);
            wall = dump_wall(start);
            EXPECT_EQ(s.num, 1);
            EXPECT_EQ(s.last.worker, s.worker);
            EXPECT_EQ(s.last.task, id);
            EXPECT(strcmp(s.last.name, "hog") == 0 && strcmp(s.last.file, __FILE__) == 0);
            EXPECT_EQ(s.last.line, line);
            EXPECT(s.last.fn == fn);
            EXPECT(s.last.ns >= stall_ns && s.last.ns <= wall);
            EXPECT_EQ(s.last.queued, 0);
            EXPECT_EQ(s.last.left, 0);
            EXPECT_EQ(s.last.num_frames, 0); /* no stack_signal */
            m = support_metrics(s.rt);
            EXPECT_EQ(m.stall_count, 1);
            EXPECT(m.stall_ns >= s.last.ns && m.stall_ns <= dump_wall(start));
            support_end(s.rt, &memory);
        }
    }
}

/* The next poll of the same task is another stall. */
static void dump_hog_twice(void *arg) {
    dump_stalls *s = (dump_stalls *)arg;
    dump_hog(s);
    EXPECT_EQ(sch_yield_now(), 0);
    s->enough = 2;
    dump_hog(s);
}

TEST(dump_stall_each_poll) {
    checked_memory memory;
    dump_stalls s;
    sch_config config = dump_stall_config(&memory, 1, &s, 2 * SCH_MILLISECOND);
    s.rt = support_begin(&config);
    support_run(s.rt, dump_hog_twice, &s);
    EXPECT_EQ(s.num, 2);
    EXPECT_EQ(support_metrics(s.rt).stall_count, 2);
    support_end(s.rt, &memory);
}

/* With a signal for it, where the poll is: in one try of ten, the machine may stop it on its way
 * there, or have no time for its answer. */
static bool dump_stall_shows(unsigned workers, bool poll) {
    for (int i = 0; i < 10; i++) {
        checked_memory memory;
        dump_stalls s, *state = &s;
        sch_config config = dump_stall_config(&memory, workers, &s, 4 * SCH_MILLISECOND);
        size_t middle = 0, outer = 0;
        config.stack_signal = SIGRTMIN + 3;
        s.rt = support_begin(&config);
        EXPECT_EQ(sch_join(poll ? sch_spawn_poll(s.rt, dump_hog_poll, &state, sizeof state)
                                : sch_spawn(s.rt, dump_hog, &s)), 0);
        while (middle < s.last.num_frames && s.frames[middle] != s.depth.to_middle) middle++;
        while (outer < s.last.num_frames && s.frames[outer] != s.depth.to_outer) outer++;
        EXPECT_EQ(s.num, 1);
        support_end(s.rt, &memory);
        if (middle < outer && outer < s.last.num_frames) return true;
    }
    return false;
}

TEST(dump_stall_shows_the_stack) {
    if (!dump_tells_frames()) SKIP("no backtraces here");
    for (unsigned workers = 0; workers < 3; workers++) {
        EXPECT(dump_stall_shows(workers, false));
        EXPECT(dump_stall_shows(workers, true));
    }
}

/* Whoever is told may look around and end it. */
static void dump_until_cancelled(void *arg) {
    (void)arg;
    while (!sch_cancelled()) continue;
}

TEST(dump_stall_is_mended_by_the_callback) {
    for (unsigned workers = 0; workers < 3; workers++) {
        checked_memory memory;
        dump_stalls s;
        sch_config config = dump_stall_config(&memory, workers, &s, 5 * SCH_MILLISECOND);
        dump_text_init(&s.text);
        s.dump = true;
        s.rt = support_begin(&config);
        sch_task *hog = sch_spawn(s.rt, dump_until_cancelled, NULL), *same = sch_retain(hog);
        __atomic_store_n(&s.hog, hog, __ATOMIC_SEQ_CST);
        EXPECT_EQ(sch_join(same), 0);
        WAIT_FOR(support_get(&s.num) == 1);
        EXPECT(dump_has(&s.text, ": busy with task "));
        sch_release(hog);
        support_end(s.rt, &memory);
        dump_text_drop(&s.text);
    }
}

/* What is queued behind it is taken by the other worker: nothing is left when it is told. */
static void dump_hog_with_children(void *arg) {
    dump_stalls *s = (dump_stalls *)arg;
    for (int i = 0; i < 8; i++) EXPECT_EQ(sch_go(NULL, support_count, &s->ran), 0);
    dump_hog(s);
}

/* They are there before it begins. */
static void dump_hog_before_children(void *arg) {
    dump_stalls *s = (dump_stalls *)arg;
    sch_task *hog = sch_spawn(NULL, dump_hog, s);
    for (int i = 0; i < 8; i++) EXPECT_EQ(sch_go(NULL, support_count, &s->ran), 0);
    EXPECT_EQ(sch_join(hog), 0);
}

TEST(dump_stall_neighbours_are_stolen) {
    unsigned seen = 0;
    for (int i = 0; i < 10 && !seen; i++) { /* the machine may have no time for the other worker */
        checked_memory memory;
        dump_stalls s;
        sch_config config = dump_stall_config(&memory, 2, &s, 200 * SCH_MILLISECOND);
        config.standby_period_ns = SCH_MILLISECOND;
        s.rt = support_begin(&config);
        support_run(s.rt, dump_hog_with_children, &s);
        EXPECT(s.last.left <= s.last.queued && s.last.queued <= 8);
        if (s.num == 1 && s.last.left == 0 && s.ran_before_report == 8) seen++;
        support_end(s.rt, &memory);
    }
    EXPECT_EQ(seen, 1);
    for (unsigned workers = 0; workers < 2; workers++) { /* nobody is there to take them */
        checked_memory memory;
        dump_stalls s;
        sch_config config = dump_stall_config(&memory, workers, &s, 40 * SCH_MILLISECOND);
        s.rt = support_begin(&config);
        support_run(s.rt, dump_hog_before_children, &s);
        EXPECT_EQ(s.last.left, 8);
        EXPECT_EQ(s.last.queued, 8);
        EXPECT_EQ(s.ran_before_report, 0);
        WAIT_FOR(support_get(&s.ran) == 8 || workers == 0);
        support_end(s.rt, &memory);
    }
}

/* The same looks, made by hand: the runtime's own watchdog rests. The clock of a machine that has
 * just started does not reach back for long. */
#define DUMP_LONG (60 * SCH_SECOND)

typedef struct dump_watch {
    metrics m;
    dump_stalls s;
    schi_watchdog w;
    schi_stall_look looks[2];
} dump_watch;

static void dump_look_later(dump_watch *d) {
    d->looks[sch_worker_index()].since -= DUMP_LONG;
    schi_stall_look_at(&d->w, sch_worker_index());
}

static void dump_watch_by_hand(void *arg) {
    dump_watch *d = (dump_watch *)arg;
    metrics *m = &d->m;
    sch_task *sleeper;
    d->w.rt = m->rt, d->w.looks = d->looks;
    sleeper = sch_spawn(NULL, waits_joined, NULL);
    YIELD_UNTIL(schi_load_seq(&sleeper->state) & SCHI_WAIT_WAKE);
    metrics_hold_others(m);
    metrics_worth(m, UINT32_MAX, UINT32_MAX);
    for (int i = 0; i < 8; i++) EXPECT_EQ(sch_go(NULL, support_count, &m->ran), 0);
    sch_wake(sleeper);
    schi_stall_look_at(&d->w, sch_worker_index()); /* it sees the poll and nine behind it */
    EXPECT_EQ(d->s.num, 0);
    EXPECT_EQ(sch_go(NULL, support_count, &m->ran), 0); /* later ones do not count */
    EXPECT(schi_wake_one(m->rt, true, true));           /* the other takes half of the ring */
    while (support_get(&m->ran) < 5) support_nap(50);
    metrics_hold_others(m);
    dump_look_later(d);
    EXPECT_EQ(d->s.num, 1);
    EXPECT_EQ(d->s.last.queued, 9);
    EXPECT_EQ(d->s.last.left, 9 - 5);
    EXPECT(d->s.last.ns >= DUMP_LONG && d->s.last.ns < DUMP_LONG + 50 * SCH_SECOND);
    uint64_t stalled = support_metrics(m->rt).stall_ns;
    EXPECT_EQ(stalled, d->s.last.ns);
    support_nap(2000);
    dump_look_later(d); /* not again; but it lasts */
    EXPECT_EQ(d->s.num, 1);
    EXPECT(support_metrics(m->rt).stall_ns >= stalled + 2 * SCH_MILLISECOND);
    EXPECT_EQ(sch_yield_now(), 0);
    dump_look_later(d); /* another poll */
    EXPECT_EQ(d->s.num, 1);
    dump_look_later(d);
    EXPECT_EQ(d->s.num, 2);
    EXPECT_EQ(sch_join(sleeper), 0);
    YIELD_UNTIL(support_get(&m->ran) == 9);
}

TEST(dump_stall_by_hand) {
    dump_watch d;
    if (sch_now() < 2 * DUMP_LONG) SKIP("this machine has just started");
    memset(&d, 0, sizeof d);
    metrics_config(&d.m, 2);
    d.m.config.stall_ns = DUMP_LONG;
    d.m.config.on_stall = dump_on_stall;
    d.m.config.watch_user = &d.s;
    metrics_run(&d.m, dump_watch_by_hand);
    EXPECT_EQ(d.s.num, 2);
}

/* Who blocks as it should, or waits, is no stall, however long it is. */
static void dump_block_long(void *arg) {
    dump_stalls *s = (dump_stalls *)arg;
    support_nap((long)(8 * s->rt->config.stall_ns / 1000));
}

static void dump_block_in_place(void *arg) {
    EXPECT_EQ(sch_block_in_place(dump_block_long, arg), 0);
    EXPECT_EQ(sch_sleep(5 * SCH_MILLISECOND), 0);
}

TEST(dump_no_stall) {
    bool clean = false;
    for (int i = 0; i < 10 && !clean; i++) { /* the machine may stop a worker in a short poll */
        checked_memory memory;
        dump_stalls s;
        sch_config config = dump_stall_config(&memory, 1, &s, 5 * SCH_MILLISECOND);
        s.rt = support_begin(&config);
        sch_task *job = sch_spawn_blocking(s.rt, dump_block_long, &s);
        support_run(s.rt, dump_block_in_place, &s);
        EXPECT_EQ(sch_join(job), 0);
        clean = support_metrics(s.rt).stall_count == 0;
        support_end(s.rt, &memory);
        clean = clean && s.num == 0; /* the watchdog has ended */
    }
    EXPECT(clean);
}

/* The runtime ends while a poll stalls, and is told of. */
TEST(dump_stall_during_shutdown) {
    for (int i = 0; i < 3; i++) {
        checked_memory memory;
        dump_stalls s;
        sch_config config = dump_stall_config(&memory, 2, &s, 2 * SCH_MILLISECOND);
        config.stack_signal = i > 0 ? SIGRTMIN + 3 : 0;
        s.rt = support_begin(&config);
        sch_task *task = sch_spawn(s.rt, dump_hog, &s);
        WAIT_FOR(schi_load_seq(&task->state) & SCHI_SCHEDULED);
        support_nap(i * 1000);
        (void)sch_runtime_shutdown(s.rt, SCH_FOREVER);
        (void)sch_join(task);
        support_end(s.rt, &memory);
    }
}

/* There must be a thread for it. */
static unsigned dump_threads_left; /* atomic */

static int dump_refuse_thread(void) {
    return support_add(&dump_threads_left, UINT_MAX) == UINT_MAX ? EAGAIN : 0;
}

TEST(dump_watchdog_without_a_thread) {
    checked_memory memory;
    dump_stalls s;
    unsigned refused = 0;
    for (unsigned n = 0; n < 3; n++) {
        sch_config config = dump_stall_config(&memory, 1, &s, SCH_SECOND);
        support_set(&dump_threads_left, n);
        fault_threads(dump_refuse_thread);
        s.rt = sch_runtime_new(&config);
        fault_threads(NULL);
        if (!s.rt) {
            EXPECT_EQ(errno, EAGAIN);
            refused++;
        }
        sch_runtime_free(s.rt);
        checked_end(&memory);
    }
    EXPECT_EQ(refused, 2); /* the worker's, and the watchdog's; a third there is not */
}

static void dump_ignore_stall(const sch_stall *stall, void *user) { (void)stall, (void)user; }

/* A child of a fork keeps copies of the watchdog's descriptors; the watchdog ends all the same. */
TEST(dump_watchdog_ends_beside_a_forked_child) {
    checked_memory memory;
    dump_text text;
    dump_text_init(&text);
    sch_config config = support_config(&memory, 1);
    int hold[2], status;
    char end;
    config.dump_signal = SIGUSR2; /* and no stall_ns: it sleeps without a limit */
    config.dump_write = dump_take;
    config.watch_user = &text;
    sch_runtime *rt = support_begin(&config);
    EXPECT_EQ(pipe(hold), 0);
    pid_t child = fork();
    if (child == 0) {
        (void)close(hold[1]);
        _exit(read(hold[0], &end, 1) == 0 ? 0 : 1); /* until the parent has freed its runtime */
    }
    EXPECT(child > 0);
    support_end(rt, &memory);
    (void)close(hold[1]);
    (void)close(hold[0]);
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    dump_text_drop(&text);
}

static void dump_handle(int number) { (void)number; }

/* A stack signal that somebody else handles, or that is ignored, is left as it was. */
TEST(dump_stack_signal_of_somebody_else) {
    void (*const theirs[])(int) = {dump_handle, SIG_IGN};
    for (int i = 0; i < 2; i++) {
        checked_memory memory;
        sch_config config = support_config(&memory, 1);
        struct sigaction action, now;
        memset(&action, 0, sizeof action);
        action.sa_handler = theirs[i];
        EXPECT_EQ(sigaction(SIGRTMIN + 4, &action, NULL), 0);
        config.stall_ns = SCH_SECOND;
        config.on_stall = dump_ignore_stall;
        config.stack_signal = SIGRTMIN + 4;
        errno = 0;
        EXPECT(sch_runtime_new(&config) == NULL);
        EXPECT_EQ(errno, EBUSY);
        EXPECT_EQ(sigaction(SIGRTMIN + 4, NULL, &now), 0);
        EXPECT(now.sa_handler == theirs[i]);
        action.sa_handler = SIG_DFL;
        EXPECT_EQ(sigaction(SIGRTMIN + 4, &action, NULL), 0);
        checked_end(&memory);
    }
}
