/* api_fuzz.c - bytes -> calls of the public interface -> an oracle.
 *
 * An input is a program for the calling thread: which runtimes it wants, what their hooks do, then
 * operations. Tasks, blocking jobs, drop functions, blocking calls and further threads have their
 * programs too: slices of the bytes of whoever starts them, so that an input makes the same calls
 * each time, whatever the interleaving, and ends. Every public function is called from every kind
 * of context, but those for sockets with names, signals and children.
 *
 * The oracle knows at each call which results the interface allows there; that each task runs at
 * most once and ends once, and its drop runs once and after it; that nothing waits without a cause
 * to, nor sleeps on after one; that no sleep is short; that every byte written is read, in order;
 * that counts come out even; that all memory comes back. How waits are
 * kept finite without hiding a lost wake-up: when a program has been run, or before a wait that
 * nothing could interrupt, each task concerned is told to stop and is woken exactly once. Waits
 * that no cancellation reaches are for younger tasks only, so they make no circle. What hangs then
 * is the library's fault, and the watchdog prints the decoded program.
 *
 * Runtimes are kept from input to input unless the input ends them.
 *
 * Builds (run.sh): FUZZ_LIBFUZZER: a libFuzzer target; otherwise a program of its own, which
 * replays files and makes up programs from SEED. FUZZ_MISUSE: SCH_DEBUG 0, and shields are left
 * unbalanced, which only asserts would find. */
#define _GNU_SOURCE
#ifndef SCH_DEBUG
#ifdef FUZZ_MISUSE
#define SCH_DEBUG 0
#else
#define SCH_DEBUG 3
#endif
#endif
#define SCHED_IMPLEMENTATION
#include "../../sched.h"

#include <dirent.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define MAX_BYTES 600
#define MAX_TASKS 256
#define MAX_DEPTH 6
#define MAX_RUNTIMES 16
#define MAX_ZEROED 16
#define MAX_THREADS 3
#define NUM_HANDLES 32
#define NUM_PLACES 3
#define NUM_CONFIGS 9

#if defined(__has_feature)
#define FUZZ_HAS(feature) __has_feature(feature)
#else
#define FUZZ_HAS(feature) 0
#endif
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__) || FUZZ_HAS(thread_sanitizer) || \
    FUZZ_HAS(address_sanitizer)
#define FUZZ_TIME_OUT 60
#else
#define FUZZ_TIME_OUT 30
#endif

/* Calls are counted by function. ----------------------------------------------------------------*/

#define FUNCTIONS(F)                                                                           \
    F(strerror) F(errno) F(config_error) F(runtime_new_sized) F(runtime_new)                   \
    F(runtime_shutdown) F(runtime_free) F(stragglers) F(block_on) F(num_workers) F(spawn)      \
    F(spawn_with) F(go) F(go_with) F(spawn_poll) F(spawn_poll_with) F(task_state) F(task_name) \
    F(join) F(detach) F(retain) F(release) F(cancel) F(is_done) F(self) F(yield_now)           \
    F(suspend) F(wake) F(wake_signal) F(shield_begin) F(shield_end) F(cancelled)               \
    F(worker_index) F(now) F(block_in_place) F(spawn_blocking) F(spawn_blocking_with)          \
    F(metrics) F(worker_metrics) F(num_alive_tasks) F(injection_queue_depth) F(await)          \
    F(await_until) F(await_any) F(op_is_done) F(op_complete) F(op_retry) F(op_poll) F(sleep)   \
    F(sleep_until) F(timer_after) F(timer_at) F(timeout) F(interval_wait) F(io_open)           \
    F(io_close) F(io_fd) F(io_shutdown) F(read) F(write) F(readv) F(writev) F(write_all_until) \
    F(recvfrom_op) F(sendto_op) F(read_op) F(write_op) F(ready_op) F(run_some) F(poll_fd)      \
    F(next_deadline) F(each_task) F(dump) F(trace_start) F(trace_stop) F(trace_write)          \
    F(metrics_write) F(histogram_read) F(histogram_limit) F(percentile) F(symbol)

#define FUNCTION_NUMBER(name) CALLED_##name,
#define FUNCTION_NAME(name) "sch_" #name,
enum { FUNCTIONS(FUNCTION_NUMBER) NUM_FUNCTIONS };
static const char *const function_names[] = {FUNCTIONS(FUNCTION_NAME)};
static uint64_t num_calls[NUM_FUNCTIONS], num_inputs; /* atomic */

#define CALL(name, ...) (count_call(CALLED_##name), sch_##name(__VA_ARGS__))
#define CALL0(name) (count_call(CALLED_##name), sch_##name())

static void count_call(int function) {
    __atomic_fetch_add(&num_calls[function], 1u, __ATOMIC_RELAXED);
}

/* Numbers that several threads touch. */
static unsigned get(const unsigned *n) { return __atomic_load_n(n, __ATOMIC_SEQ_CST); }
static void set(unsigned *n, unsigned value) { __atomic_store_n(n, value, __ATOMIC_SEQ_CST); }
static unsigned add(unsigned *n) { return __atomic_fetch_add(n, 1u, __ATOMIC_SEQ_CST); }
static unsigned sub(unsigned *n) { return __atomic_fetch_sub(n, 1u, __ATOMIC_SEQ_CST); }
static unsigned swap(unsigned *n, unsigned value) {
    return __atomic_exchange_n(n, value, __ATOMIC_SEQ_CST);
}

static void nap(void) {
    struct timespec time = {0, 20000};
    (void)nanosleep(&time, NULL);
}

/* Programs --------------------------------------------------------------------------------------*/

typedef struct slice {
    const uint8_t *bytes;
    size_t size;
} slice;

typedef enum code {
    OP_SPAWN, OP_JOIN, OP_RELEASE, OP_CANCEL, OP_WAKE, OP_DUP, OP_SUSPEND, OP_YIELD, OP_IN_PLACE,
    OP_BLOCK_ON, OP_SHIELD, OP_LOOK, OP_METRICS, OP_SHUTDOWN, OP_FREE, OP_NEW, OP_FLOOD, OP_BAD,
    OP_THREAD, OP_WORK, OP_FAULT, OP_REPEAT, OP_MISUSE, OP_SLEEP, OP_CUT, OP_TICK, OP_RACE, OP_TALK,
    OP_RUN_SOME, NUM_OPS
} code;

static const struct {
    const char *name;
    unsigned args, slices;
} op_forms[NUM_OPS] = {
    {"spawn", 3, 2}, {"join", 1, 0}, {"release", 1, 0}, {"cancel", 1, 0}, {"wake", 1, 0},
    {"dup", 2, 0}, {"suspend", 0, 0}, {"yield", 0, 0}, {"block_in_place", 0, 1},
    {"block_on", 1, 1}, {"shield", 0, 1}, {"look", 1, 0}, {"metrics", 2, 0}, {"shutdown", 2, 0},
    {"free", 1, 0}, {"new", 2, 0}, {"flood", 2, 0}, {"bad", 2, 0}, {"thread", 0, 1},
    {"work", 1, 0}, {"fault", 2, 0}, {"repeat", 1, 1}, {"misuse", 1, 0}, {"sleep", 1, 0},
    {"shielded sleep", 2, 0}, {"ticks", 2, 0}, {"race", 3, 0}, {"talk", 2, 1}, {"run_some", 2, 0},
};

typedef struct op {
    code code;
    uint8_t arg[3];
    slice part[2];
} op;

static uint8_t next_byte(slice program, size_t *at) {
    return *at < program.size ? program.bytes[(*at)++] : 0;
}

static slice next_slice(slice program, size_t *at) {
    size_t size = next_byte(program, at);
    slice s = {program.bytes + *at, size < program.size - *at ? size : program.size - *at};
    *at += s.size;
    return s;
}

static op next_op(slice program, size_t *at) {
    op o;
    memset(&o, 0, sizeof o);
    o.code = (code)(next_byte(program, at) % NUM_OPS);
    for (unsigned i = 0; i < op_forms[o.code].args; i++) o.arg[i] = next_byte(program, at);
    for (unsigned i = 0; i < op_forms[o.code].slices; i++) o.part[i] = next_slice(program, at);
    return o;
}

static void print_program(slice program, unsigned indent) {
    for (size_t at = 0; at < program.size;) {
        op o = next_op(program, &at);
        fprintf(stderr, "%*s%s", (int)indent, "", op_forms[o.code].name);
        for (unsigned i = 0; i < op_forms[o.code].args; i++) fprintf(stderr, " %u", o.arg[i]);
        fputc('\n', stderr);
        for (unsigned i = 0; i < op_forms[o.code].slices; i++) {
            if (i > 0 && o.part[i].size > 0)
                fprintf(stderr, "%*s  at its drop:\n", (int)indent, "");
            if (indent < 60) print_program(o.part[i], indent + 4);
        }
    }
}

/* What an input begins with. */
typedef struct header {
    uint8_t configs[NUM_PLACES], flags;
    slice hooks, program;
} header;

enum { CANCEL_ALL = 1, JOIN_ALL = 2 }; /* header.flags: how an input is brought to its end */

static header read_header(slice input) {
    header h;
    size_t at = 0;
    for (int i = 0; i < NUM_PLACES; i++) h.configs[i] = next_byte(input, &at) % (NUM_CONFIGS + 1);
    h.flags = next_byte(input, &at);
    h.hooks = next_slice(input, &at);
    h.program.bytes = input.bytes + at;
    h.program.size = input.size - at;
    return h;
}

static void print_input(slice input) {
    header h = read_header(input);
    fprintf(stderr, "runtimes %u %u %u, flags %u\nhooks:\n", h.configs[0], h.configs[1],
            h.configs[2], h.flags);
    print_program(h.hooks, 4);
    fprintf(stderr, "program:\n");
    print_program(h.program, 4);
}

/* The oracle's knowledge ------------------------------------------------------------------------*/

/* What a runtime's allocator has given. The total of the sizes finds a block freed with another. */
typedef struct memory {
    unsigned blocks, failing; /* atomic; failing: the n-th request from now fails, 0: none */
    size_t bytes;             /* atomic */
    bool used;
} memory;

typedef struct runtime {
    sch_runtime *rt;   /* fixed while somebody may use it */
    unsigned config, index;
    bool used, kept;   /* by this input; for others */
    bool paused;       /* its clock stands still while anything runs */
    bool driven, capped; /* capped: few blocking threads, so jobs must not wait */
    memory *memory;
    unsigned users;    /* atomic: calls under way from outside of it */
    unsigned doomed;   /* atomic: no new users */
    unsigned closing, closed; /* atomic: before and after a call that shuts it down */
    unsigned stop;     /* atomic: its tasks shall not wait any more */
    unsigned faulty;   /* atomic: memory was refused to it by this input */
    unsigned spawned;  /* atomic: tasks that this input spawned */
    unsigned flood_tried, flood_failed, flood_ran, flood_dropped; /* atomic */
    unsigned num_zeroed; /* atomic */
    sch_task *zeroed[MAX_ZEROED]; /* poll tasks without a state of ours */
    unsigned hooks[8]; /* atomic: how often each was called */
    uint64_t base_spawned, base_cancelled; /* before this input */
} runtime;

typedef enum kind { TASK, POLL, JOB } kind;

/* A task. Plain fields are passed on by the library's own synchronisation: a sanitizer watches. */
typedef struct task {
    unsigned id;        /* 1 and up in order of spawning; 0 is no task */
    kind kind;
    runtime *home;
    slice body, drop;
    bool loner;         /* keeps no handle for being woken: does not wait where it would need one */
    bool has_drop;      /* else `held` is there to see its end */
    const sch_spawn_desc *desc;
    size_t state_size;
    size_t at;          /* of a poll task: where in its program it is */
    sch_timer timer;    /* of a poll task */
    bool timer_on;      /* it waits for that */
    unsigned seen;      /* wakes that its last wait may have used up */
    unsigned value;     /* 1: spawned, 2: ran to its end, 3: dropped */
    pthread_mutex_t lock;
    sch_task *self;     /* under lock: a handle of its own while it runs */
    sch_task *held;     /* fixed after spawn */
    /* The rest is atomic. */
    unsigned spawned, failed;  /* the spawn has returned; with an error */
    unsigned started, finished;
    unsigned told;             /* a wait was refused because it is cancelled */
    unsigned gone;             /* 2: its drop runs, 1: has run */
    unsigned polling, polls, yields;
    unsigned cancels, cancelled; /* counted before, and after, a call of sch_cancel */
    unsigned wakes, woken;     /* counted before, and after, a call of sch_wake */
    unsigned wakeups;          /* waits that a wake has ended */
    unsigned sure;             /* a wake is kept for it: it must go on although nobody helps */
    unsigned stop;             /* it shall not wait any more */
    unsigned joining;          /* it may be in a join that only a cancellation can end */
    unsigned shielded;         /* it may be in a wait that only a wake can end */
    unsigned joins, joins_over, joined; /* calls of sch_join on it; one has the result */
    unsigned doing;            /* code of its last operation, for the watchdog */
} task;

typedef struct handle {
    sch_task *handle;
    task *task;
} handle;

typedef enum where { PLAIN, IN_TASK, IN_POLL, IN_JOB, IN_HOOK, IN_DROP } where;

/* Who runs a program. */
typedef struct context {
    where where;       /* PLAIN also in a visit */
    task *self;        /* the innermost task around it; NULL: none */
    runtime *home;     /* where a spawn without a runtime goes; NULL: nowhere, or unknown */
    unsigned home_known;
    unsigned inside;   /* bits: runtimes whose task or hook we are in */
    unsigned within;   /* and those that we visit */
    unsigned depth, shields;
    bool in_place;     /* in sch_block_in_place of an IN_TASK or IN_POLL */
    bool blocks_driver; /* a wait of this thread would keep a driven runtime from running */
    bool capped;       /* must not wait in here: see runtime.capped */
    bool repeated;
    bool main;         /* the input's own program, outside of any call */
} context;

static uint8_t input_bytes[MAX_BYTES];
static slice input_now;
static header header_now;
static memory memories[4 * MAX_RUNTIMES];
static runtime runtimes[MAX_RUNTIMES]; /* the first are kept, by configuration */
static runtime *places[NUM_PLACES];    /* atomic */
static task tasks[MAX_TASKS];
static unsigned num_tasks;             /* atomic */
static unsigned stopping = 1;          /* atomic: the input comes to its end, or none runs */
static handle handles[NUM_HANDLES];
static pthread_mutex_t handles_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_t threads[MAX_THREADS];
static context thread_contexts[MAX_THREADS];
static slice thread_programs[MAX_THREADS];
static unsigned num_threads;           /* of the main context alone */
static size_t hooks_at;                /* under hooks_lock */
static pthread_mutex_t hooks_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned hooks_running;         /* atomic */
static sch_task *volatile signal_target;
static const char *replaying;          /* file or seed, for messages */

static void print_tasks(void) {
    for (unsigned i = 0; i < num_tasks && i < MAX_TASKS; i++) {
        task *t = &tasks[i];
        if (!t->home || get(&t->gone) == 1) continue;
        fprintf(stderr,
                "task %u (%s of runtime %u): started %u finished %u gone %u polls %u stop %u "
                "joining %u wakes %u of %u cancels %u told %u, last operation %s\n",
                t->id, t->kind == TASK ? "task" : t->kind == POLL ? "poll" : "job", t->home->config,
                get(&t->started), get(&t->finished), get(&t->gone), get(&t->polls), get(&t->stop),
                get(&t->joining), get(&t->wakeups), get(&t->wakes), get(&t->cancels),
                get(&t->told), op_forms[get(&t->doing) % NUM_OPS].name);
    }
}

__attribute__((format(printf, 2, 3), noreturn)) static void die(int line, const char *format, ...) {
    static unsigned dying;
    static char text[300];
    va_list args;
    if (swap(&dying, 1) != 0) {
        for (;;) (void)pause();
    }
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fprintf(stderr, "\nin %s (%zu bytes)\n", replaying, input_now.size);
    print_input(input_now);
    print_tasks();
    fputs("bytes:", stderr);
    for (size_t i = 0; i < input_now.size; i++) fprintf(stderr, " %02x", input_now.bytes[i]);
    fprintf(stderr, "\napi_fuzz.c:%d: %s\n", line, text);
    abort();
}

#define MUST(cond) ((cond) ? (void)0 : die(__LINE__, "%s does not hold", #cond))
#define MUST_BE(value, cond) /* an int, and what it must be like */ \
    ((cond) ? (void)0 : die(__LINE__, "%s: it was %d (%s)", #cond, (value), sch_strerror(value)))

/* Memory ----------------------------------------------------------------------------------------*/

static bool memory_refuses(memory *m) {
    unsigned n = get(&m->failing);
    while (n > 0) {
        if (__atomic_compare_exchange_n(&m->failing, &n, n - 1, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST))
            return n == 1;
    }
    return false;
}

static void *memory_count(memory *m, void *block, size_t size) {
    if (block) {
        add(&m->blocks);
        __atomic_fetch_add(&m->bytes, size, __ATOMIC_SEQ_CST);
    }
    return block;
}

static void memory_uncount(memory *m, size_t size) {
    MUST(sub(&m->blocks) > 0);
    __atomic_fetch_sub(&m->bytes, size, __ATOMIC_SEQ_CST);
}

static void *memory_alloc(size_t size, size_t align, void *user) {
    memory *m = (memory *)user;
    size_t unit = align < sizeof(void *) ? sizeof(void *) : align;
    if (memory_refuses(m)) return NULL;
    return memory_count(m, aligned_alloc(unit, (size + unit - 1) / unit * unit), size);
}

static void memory_free(void *block, size_t size, size_t align, void *user) {
    (void)align;
    memory_uncount((memory *)user, size);
    free(block);
}

static void *memory_map(size_t size, void *user) {
    memory *m = (memory *)user;
    return memory_refuses(m) ? NULL : memory_count(m, schi_map_pages(size, NULL), size);
}

static void memory_unmap(void *block, size_t size, void *user) {
    memory_uncount((memory *)user, size);
    schi_unmap_pages(block, size, NULL);
}

static memory *memory_new(void) {
    for (unsigned i = 0; i < sizeof memories / sizeof *memories; i++) {
        if (memories[i].used) continue;
        memset(&memories[i], 0, sizeof memories[i]);
        memories[i].used = true;
        return &memories[i];
    }
    die(__LINE__, "no record for an allocator left");
}

/* Handles: each place in the table owns one reference -------------------------------------------*/

static handle take_handle(unsigned n) {
    handle *place = &handles[n % NUM_HANDLES], h;
    pthread_mutex_lock(&handles_lock);
    h = *place;
    place->handle = NULL, place->task = NULL;
    pthread_mutex_unlock(&handles_lock);
    return h;
}

/* A reference more to what is there. */
static handle borrow_handle(unsigned n) {
    handle *place = &handles[n % NUM_HANDLES], h;
    pthread_mutex_lock(&handles_lock);
    h = *place;
    if (h.handle) MUST(CALL(retain, h.handle) == h.handle);
    pthread_mutex_unlock(&handles_lock);
    return h;
}

static void put_handle(unsigned n, handle h) {
    handle *place = &handles[n % NUM_HANDLES], old;
    pthread_mutex_lock(&handles_lock);
    old = *place;
    *place = h;
    pthread_mutex_unlock(&handles_lock);
    if (old.handle) CALL(release, old.handle);
}

/* Stopping tasks --------------------------------------------------------------------------------*/

static bool must_stop(const task *t) {
    return get(&stopping) || get(&t->stop) || get(&t->home->stop);
}

static void wake(task *t, sch_task *h, unsigned how) {
    add(&t->wakes);
    if (how % 4 == 1) {
        CALL(wake_signal, h);
    } else {
        CALL(wake, h);
    }
    add(&t->woken);
}

static int cancel(task *t, sch_task *h) {
    bool done = CALL(is_done, h);
    int result;
    add(&t->cancels);
    result = CALL(cancel, h);
    MUST_BE(result, result == 0 || (result == -ESRCH && CALL(is_done, h)));
    MUST_BE(result, !done || result == -ESRCH);
    if (result == 0) add(&t->cancelled);
    return result;
}

/* Whoever has this handle may wait for the task now: its waits end, and nothing new begins. */
static void make_finite(handle h) {
    set(&h.task->stop, 1);
    (void)cancel(h.task, h.handle);
    if (!get(&h.task->sure)) wake(h.task, h.handle, 0);
}

/* `stop` of this runtime (NULL: of all) is set. Wake each task once, but none that has a wake
 * coming already; and a runtime that is shut down must do it itself, except where shields are up.
 * Tasks that are not reached, because they register later, see `stop` before they wait. */
static void stop_tasks(const runtime *home, bool cancel_all) {
    unsigned n = get(&num_tasks);
    for (unsigned i = 0; i < n && i < MAX_TASKS; i++) {
        task *t = &tasks[i];
        sch_task *h;
        if (home && __atomic_load_n(&t->home, __ATOMIC_SEQ_CST) != home) continue;
        if (get(&t->sure) || (home && !get(&t->shielded))) continue;
        pthread_mutex_lock(&t->lock);
        h = CALL(retain, t->self);
        pthread_mutex_unlock(&t->lock);
        if (!h) continue;
        if (!home && (cancel_all || get(&t->joining))) (void)cancel(t, h);
        wake(t, h, i);
        CALL(release, h);
    }
}

static bool is_gone(const task *t) {
    if (!get(&t->spawned)) return false;
    if (get(&t->failed)) return true;
    return t->has_drop ? get(&t->gone) == 1 : CALL(is_done, t->held);
}

/* After the end of a runtime, or of all: nothing is left. */
static void must_be_gone(const runtime *home) {
    unsigned n = get(&num_tasks);
    for (unsigned i = 0; i < n && i < MAX_TASKS; i++) {
        task *t = &tasks[i];
        if (__atomic_load_n(&t->home, __ATOMIC_SEQ_CST) == home && get(&t->spawned)) {
            MUST(is_gone(t));
        }
    }
}

/* Runtimes --------------------------------------------------------------------------------------*/

static void run_program(context *c, slice program);
static bool run_op(context *c, const op *o);

/* A hook runs one operation of the input's hook program. What it starts calls hooks again, on the
 * same stack: a few levels fit on a task's under a sanitizer. Hooks never wait, so they stay on
 * their thread. */
static _Thread_local unsigned hook_levels;

static void in_hook(runtime *r, unsigned which) {
    context c;
    op o;
    bool any;
    add(&r->hooks[which]);
    add(&hooks_running);
    pthread_mutex_lock(&hooks_lock);
    any = !get(&stopping) && hook_levels < 3 && hooks_at < header_now.hooks.size;
    if (any) o = next_op(header_now.hooks, &hooks_at);
    pthread_mutex_unlock(&hooks_lock);
    if (any) {
        memset(&c, 0, sizeof c);
        c.where = IN_HOOK;
        c.inside = c.within = 1u << r->index;
        c.depth = MAX_DEPTH - 2;
        hook_levels++;
        (void)run_op(&c, &o);
        hook_levels--;
    }
    sub(&hooks_running);
}

#define HOOK(number, name, type)                                        \
    static void on_##name(void *user, type what) {                      \
        (void)what;                                                     \
        in_hook((runtime *)user, number);                               \
    }
HOOK(0, thread_start, unsigned)
HOOK(1, thread_stop, unsigned)
HOOK(2, thread_park, unsigned)
HOOK(3, thread_unpark, unsigned)
HOOK(4, task_spawn, sch_task *)
HOOK(5, task_terminate, sch_task *)
HOOK(6, task_poll_start, sch_task *)
HOOK(7, task_poll_end, sch_task *)

static bool has_times(const runtime *r) { return r->config % 2 == 1; }

/* A task of ours, or of a flood, computes for long. */
static void on_stall(const sch_stall *stall, void *user) {
    (void)user;
    MUST(stall->worker < 2 && stall->name && stall->file && stall->ns >= SCH_MILLISECOND);
    MUST(stall->left <= stall->queued && (stall->frames || stall->num_frames == 0));
}

static sch_config make_config(runtime *r, unsigned number) {
    sch_config c;
    memset(&c, 0, sizeof c);
    c.workers = number == 4 ? 3 : number == 2 || number == 1 || number == 5 || number == 9 ? 1 : 2;
    c.flavor = number == 1 || number == 5 || number == 9 ? SCH_CURRENT_THREAD : SCH_MULTI_THREAD;
    c.seed = number;
    c.stack_size = 65536;
    c.allocator.alloc = memory_alloc, c.allocator.free = memory_free;
    c.allocator.map_pages = memory_map, c.allocator.unmap_pages = memory_unmap;
    c.allocator.user = r->memory;
    if (number == 4 || number == 5 || number == 7) {
        c.hooks.on_thread_start = on_thread_start, c.hooks.on_thread_stop = on_thread_stop;
        c.hooks.on_thread_park = on_thread_park, c.hooks.on_thread_unpark = on_thread_unpark;
        c.hooks.on_task_spawn = on_task_spawn, c.hooks.on_task_terminate = on_task_terminate;
        c.hooks.on_task_poll_start = on_task_poll_start;
        c.hooks.on_task_poll_end = on_task_poll_end;
        c.hooks.user = r;
    }
    if (number == 5) c.no_lifo = true;
    c.paused_clock = number >= 8;
    c.task_times = has_times(r);
    c.trace_events = 8u << number;
    if (number == 3) {
        c.stall_ns = SCH_MILLISECOND;
        c.on_stall = on_stall;
        c.stack_signal = SIGURG;
    }
    if (number == 6) {
        c.max_blocking_threads = 1;
        c.keep_alive_ns = SCH_MILLISECOND;
        c.no_standby = c.no_lifo = true;
        c.global_queue_interval = c.event_interval = 1;
    }
    if (number == 7) {
        c.allocator.map_pages = NULL, c.allocator.unmap_pages = NULL;
        c.standby_period_ns = 100 * SCH_MICROSECOND;
        c.keep_alive_ns = 100 * SCH_MICROSECOND;
        c.thread_name = "a name that is far too long for a thread";
        c.pin_workers = SCHI_CAN_PIN;
        c.event_interval = 2;
    }
    return c;
}

/* The record is free. */
static void make_runtime(runtime *r, unsigned number) {
    sch_config c;
    unsigned index = (unsigned)(r - runtimes);
    memset(r, 0, sizeof *r);
    r->index = index;
    r->config = number;
    r->memory = memory_new();
    c = make_config(r, number);
    r->driven = c.flavor == SCH_CURRENT_THREAD;
    r->paused = c.paused_clock;
    r->capped = c.max_blocking_threads == 1;
    MUST(CALL(config_error, &c) == NULL);
    r->rt = CALL(runtime_new, &c);
    if (!r->rt) die(__LINE__, "sch_runtime_new failed: %s", sch_strerror(CALL0(errno)));
    MUST(CALL(num_workers, r->rt) == c.workers);
}

/* A runtime for an input: the one kept, or a new one. */
static runtime *find_runtime(unsigned number) {
    runtime *r = &runtimes[number];
    if (!r->rt) {
        make_runtime(r, number);
        r->kept = true;
    }
    for (unsigned i = 0; i < NUM_PLACES; i++) {
        if (__atomic_load_n(&places[i], __ATOMIC_SEQ_CST) == r) r = NULL;
        if (!r) break;
    }
    for (unsigned i = NUM_CONFIGS + 1; !r && i < MAX_RUNTIMES; i++) {
        if (!runtimes[i].rt && !runtimes[i].config) make_runtime(r = &runtimes[i], number);
    }
    return r;
}

/* What input before this one did is no concern of ours. */
static void begin_runtime(runtime *r) {
    sch_metrics_snapshot m;
    r->used = true;
    r->users = r->doomed = r->closing = r->closed = r->stop = r->faulty = r->spawned = 0;
    r->flood_tried = r->flood_failed = r->flood_ran = r->flood_dropped = r->num_zeroed = 0;
    memset(r->zeroed, 0, sizeof r->zeroed);
    MUST(CALL(metrics, r->rt, &m) == 0);
    r->base_spawned = m.spawned_tasks_count;
    r->base_cancelled = m.cancelled_tasks_count;
}

static bool is_within(const context *c, const runtime *r) { return c->within >> r->index & 1; }
static bool is_inside(const context *c, const runtime *r) { return c->inside >> r->index & 1; }

/* A place's runtime, which is not freed before it is given back. Whoever is within it needs no such
 * promise, and must not ask for it: the free waits for those who did. */
static runtime *use_runtime(const context *c, unsigned place) {
    runtime *r = __atomic_load_n(&places[place % NUM_PLACES], __ATOMIC_SEQ_CST);
    if (!r || is_within(c, r)) return r;
    add(&r->users);
    if (get(&r->doomed)) {
        sub(&r->users);
        return NULL;
    }
    return r;
}

static void leave_runtime(const context *c, runtime *r) {
    if (r && !is_within(c, r)) sub(&r->users);
}

/* From the main program: free it, with whatever runs there. */
static void free_runtime(runtime *r, bool counted) {
    set(&r->doomed, 1);
    set(&r->stop, 1);
    if (counted) stop_tasks(r, false);
    while (get(&r->users) > 0) nap();
    set(&r->closing, 1);
    CALL(runtime_free, r->rt);
    set(&r->closed, 1);
    if (counted) must_be_gone(r);
    MUST(get(&r->flood_dropped) == get(&r->flood_tried));
    MUST(get(&r->hooks[0]) == get(&r->hooks[1]));
    MUST(get(&r->hooks[2]) == get(&r->hooks[3]));
    MUST(get(&r->hooks[4]) == get(&r->hooks[5]));
    MUST(get(&r->hooks[6]) == get(&r->hooks[7]));
}

/* Tasks -----------------------------------------------------------------------------------------*/

static void task_begin(task *t, context *c, where in) {
    memset(c, 0, sizeof *c);
    c->where = in;
    c->self = t;
    c->home = t->home;
    c->home_known = 1;
    c->inside = c->within = 1u << t->home->index;
    c->capped = in == IN_JOB && t->home->capped;
}

static void register_self(task *t) {
    sch_task *self = CALL0(self);
    MUST(self != NULL);
    if (t->loner) return;
    pthread_mutex_lock(&t->lock);
    t->self = CALL(retain, self);
    pthread_mutex_unlock(&t->lock);
}

static void unregister_self(task *t) {
    sch_task *self;
    pthread_mutex_lock(&t->lock);
    self = t->self;
    t->self = NULL;
    pthread_mutex_unlock(&t->lock);
    CALL(release, self);
}

static void task_run(void *arg) {
    task *t = (task *)arg;
    context c;
    MUST(swap(&t->started, 1) == 0);
    MUST(t->value == 1);
    task_begin(t, &c, t->kind == JOB ? IN_JOB : IN_TASK);
    register_self(t);
    run_program(&c, t->body);
    t->value = 2;
    set(&t->finished, 1);
    unregister_self(t);
}

/* The state of a poll task: its record, then a pattern as far as it goes. */
typedef struct poll_state {
    task *task;
    uint8_t pattern[SCH_TASK_STATE_MAX - sizeof(task *)];
} poll_state;

static const size_t poll_sizes[8] = {sizeof(task *), 32, 33, 64, 200, 1000, 2000,
                                     SCH_TASK_STATE_MAX};

static void check_state(const poll_state *s, const task *t) {
    MUST(s->task == t);
    for (size_t i = 0; i < t->state_size - sizeof(task *); i += 1 + i / 4) {
        MUST(s->pattern[i] == (uint8_t)(t->id + i));
    }
}

static bool poll_timer(context *c);

static sch_status task_poll(sch_task *self, void *state) {
    task *t = ((poll_state *)state)->task;
    context c;
    bool over = false;
    MUST(swap(&t->polling, 1) == 0);
    check_state((poll_state *)state, t);
    MUST(CALL0(self) == self);
    MUST(CALL(task_state, self) == state);
    MUST(!get(&t->finished) && !get(&t->gone));
    set(&t->sure, 0);
    t->seen = get(&t->wakes);
    if (add(&t->polls) == 0) register_self(t);
    set(&t->started, 1);
    MUST(get(&t->polls) <= 1 + get(&t->wakes) + get(&t->yields) + get(&t->cancels) +
                               get(&t->home->closing));
    task_begin(t, &c, IN_POLL);
    if (t->timer_on) over = !poll_timer(&c);
    while (t->at < t->body.size && !over) {
        op o = next_op(t->body, &t->at);
        over = !run_op(&c, &o);
        if (over && o.code == OP_SUSPEND && must_stop(t)) over = false;
    }
    if (!over) {
        t->value = 2;
        set(&t->finished, 1);
    } else {
        set(&t->sure, get(&t->woken) > t->seen);
    }
    set(&t->polling, 0);
    if (!over) unregister_self(t);
    return over ? SCH_PENDING : SCH_READY;
}

static void dropped(task *t) {
    context c;
    MUST(swap(&t->gone, 2) == 0);
    MUST(get(&t->polling) == 0);
    if (t->kind == POLL) {
        MUST(t->value == 1 || t->value == 2);
        MUST(get(&t->finished) == (t->value == 2));
    } else {
        MUST(get(&t->started) == get(&t->finished));
        MUST(t->value == 1 + get(&t->finished));
    }
    t->value = 3;
    memset(&c, 0, sizeof c);
    c.where = IN_DROP;
    c.depth = MAX_DEPTH - 2;
    run_program(&c, t->drop);
    unregister_self(t); /* a poll task that was cut off */
    set(&t->gone, 1);
}

static void task_drop(void *arg) { dropped((task *)arg); }

static void task_poll_drop(void *state) {
    task *t = ((poll_state *)state)->task;
    check_state((poll_state *)state, t);
    dropped(t);
}

#define NUM_STACKS 4
#define DESCS(drop)                                          \
    {                                                        \
        {"plain", SCH_HERE, 0, drop}, {NULL, NULL, 0, 0, drop}, \
        {"large", SCH_HERE, 1u << 20, drop}, {"small", SCH_HERE, 49152, drop} \
    }
static const sch_spawn_desc descs[2][NUM_STACKS] = {DESCS(task_drop), DESCS(NULL)};
static const sch_spawn_desc poll_descs[2][2] = {
    {{"poll", SCH_HERE, 0, task_poll_drop}, {NULL, NULL, 0, 0, task_poll_drop}},
    {{"poll", SCH_HERE, 0, NULL}, {NULL, NULL, 0, 0, NULL}}};

/* How to spawn: bits of the first argument. */
enum { HOW_GO = 4, HOW_LONER = 8, HOW_NO_DROP = 16, HOW_HERE = 32 };

static sch_task *call_spawn(task *t, sch_runtime *rt, bool go, int *error) {
    sch_task *h = NULL;
    const sch_spawn_desc *desc = t->desc;
    *error = 0;
    if (t->kind == POLL) {
        poll_state state;
        state.task = t;
        for (size_t i = 0; i < sizeof state.pattern; i++) state.pattern[i] = (uint8_t)(t->id + i);
        h = desc ? CALL(spawn_poll_with, rt, desc, task_poll, &state, t->state_size)
                 : CALL(spawn_poll, rt, task_poll, &state, t->state_size);
    } else if (t->kind == JOB) {
        h = desc ? CALL(spawn_blocking_with, rt, desc, task_run, t)
                 : CALL(spawn_blocking, rt, task_run, t);
    } else if (go) {
        *error = desc ? CALL(go_with, rt, desc, task_run, t) : CALL(go, rt, task_run, t);
        return NULL;
    } else {
        h = desc ? CALL(spawn_with, rt, desc, task_run, t) : CALL(spawn, rt, task_run, t);
    }
    if (!h) *error = -CALL0(errno);
    return h;
}

/* May a spawn in r have failed with this? closed_before: was it shut down before the call? */
static void check_spawn_error(const runtime *r, int error, unsigned closed_before) {
    if (closed_before) {
        MUST_BE(error, error == -ESHUTDOWN || (error == -ENOMEM && get(&r->faulty)));
    } else if (error == -ESHUTDOWN) {
        MUST_BE(error, get(&r->closing));
    } else if (error) {
        MUST_BE(error, (error == -ENOMEM || error == -EAGAIN) && get(&r->faulty));
    }
}

/* The runtime of an operation. *null: the caller's own, by saying none. */
static runtime *spawn_runtime(const context *c, unsigned how, bool *null) {
    *null = (how & HOW_HERE) && c->home_known && c->home;
    return *null ? c->home : use_runtime(c, how >> 6);
}

static void op_spawn(context *c, const op *o) {
    unsigned how = o->arg[0], n, closed;
    bool null, go;
    int error;
    handle h;
    task *t;
    runtime *r;
    if (get(&stopping)) return;
    r = spawn_runtime(c, how, &null);
    if (!r) return;
    n = add(&num_tasks);
    if (n >= MAX_TASKS) {
        if (!null) leave_runtime(c, r);
        return;
    }
    t = &tasks[n];
    t->id = n + 1;
    t->kind = (how & 3) == 2 ? POLL : (how & 3) == 3 ? JOB : TASK;
    t->body = o->part[0], t->drop = o->part[1];
    t->loner = (how & HOW_LONER) != 0;
    go = t->kind == TASK && (how & HOW_GO);
    t->has_drop = go || !(how & HOW_NO_DROP);
    if (t->kind == POLL) {
        t->state_size = poll_sizes[o->arg[1] >> 4 & 7];
        if (has_times(r) && t->state_size == SCH_TASK_STATE_MAX) t->state_size -= 32;
        t->desc = &poll_descs[!t->has_drop][o->arg[1] & 1];
    } else {
        t->desc = &descs[!t->has_drop][t->kind == JOB ? o->arg[1] % 2 : o->arg[1] % NUM_STACKS];
    }
    if (!t->has_drop && (o->arg[1] & 8)) t->desc = NULL;
    t->value = 1;
    __atomic_store_n(&t->home, r, __ATOMIC_SEQ_CST);
    closed = get(&r->closed);
    h.task = t;
    h.handle = call_spawn(t, null ? NULL : r->rt, go, &error);
    MUST((h.handle != NULL) == (error == 0 && !go));
    check_spawn_error(r, error, closed);
    MUST(!closed || error);
    if (error) {
        MUST(!t->has_drop || (get(&t->gone) == 1 && t->value == 3));
        MUST(!get(&t->started));
        set(&t->failed, 1);
    } else {
        add(&r->spawned);
        if (!t->has_drop) t->held = CALL(retain, h.handle);
    }
    set(&t->spawned, 1);
    if (h.handle) put_handle(o->arg[2], h);
    if (!null) leave_runtime(c, r);
}

/* Many small tasks at once. */
static void flood_run(void *arg) { add(&((runtime *)arg)->flood_ran); }
static void flood_drop(void *arg) { add(&((runtime *)arg)->flood_dropped); }
static sch_status flood_poll(sch_task *self, void *state) {
    (void)self;
    flood_run(*(runtime **)state);
    return SCH_READY;
}
static void flood_poll_drop(void *state) { flood_drop(*(runtime **)state); }

/* Its state is given as NULL: it must be zeros. */
static sch_status zeroed_poll(sch_task *self, void *state) {
    for (unsigned i = 0; i < 40; i++) MUST(((uint8_t *)state)[i] == 0);
    MUST(CALL(task_state, self) == state);
    return SCH_READY;
}

static void op_flood(context *c, const op *o) {
    static const sch_spawn_desc desc = {"flood", SCH_HERE, 0, flood_drop};
    static const sch_spawn_desc poll_desc = {"flood", SCH_HERE, 0, flood_poll_drop};
    unsigned shape = o->arg[0] & 3, n = shape == 0 ? o->arg[1] * 3u : o->arg[1] % 16u + 1;
    bool null;
    runtime *r;
    if (get(&stopping)) return;
    r = spawn_runtime(c, o->arg[0], &null);
    if (!r) return;
    for (unsigned i = 0; i < n; i++) {
        sch_runtime *rt = null ? NULL : r->rt;
        unsigned closed = get(&r->closed);
        sch_task *h = NULL;
        int error = 0;
        if (shape == 3) {
            unsigned place = add(&r->num_zeroed);
            if (place >= MAX_ZEROED) break;
            h = CALL(spawn_poll, rt, zeroed_poll, NULL, 40 + i);
            if (!h) error = -CALL0(errno);
            r->zeroed[place] = h;
        } else {
            add(&r->flood_tried);
            if (shape == 0) error = CALL(go_with, rt, &desc, flood_run, r);
            if (shape == 1) h = CALL(spawn_poll_with, rt, &poll_desc, flood_poll, &r, sizeof r);
            if (shape == 2) h = CALL(spawn_blocking_with, rt, &desc, flood_run, r);
            if (shape > 0 && !h) error = -CALL0(errno);
            CALL(detach, h);
            if (error) add(&r->flood_failed);
        }
        check_spawn_error(r, error, closed);
        MUST(!closed || error);
        if (!error) add(&r->spawned);
    }
    if (!null) leave_runtime(c, r);
}

/* Waiting ---------------------------------------------------------------------------------------*/

static bool in_a_task(const context *c) { return c->where == IN_TASK || c->where == IN_JOB; }
static bool may_not_wait(const context *c) {
    return c->where == IN_POLL || c->where == IN_HOOK || c->where == IN_DROP;
}

/* A wait of the task itself was refused. */
static void was_told(context *c) {
    MUST(c->shields == 0);
    MUST(get(&c->self->cancels) > 0 || get(&c->self->home->closing));
    set(&c->self->told, 1);
}

static void op_suspend(context *c) {
    int result;
    if (in_a_task(c)) {
        bool at_once = c->shields == 0 && CALL0(cancelled), told = get(&c->self->told);
        MUST(at_once || !told || c->shields > 0); /* it is sticky */
        set(&c->self->shielded, c->shields > 0);  /* before the look at stop; see stop_tasks */
        if (!at_once && (c->capped || c->self->loner || must_stop(c->self))) return;
        set(&c->self->sure, get(&c->self->woken) > c->self->seen);
        result = CALL0(suspend);
        MUST_BE(result, result == 0 || !get(&c->self->sure));
        set(&c->self->sure, 0);
        set(&c->self->shielded, 0);
        MUST_BE(result, result == 0 || result == -ECANCELED);
        MUST_BE(result, result != -ECANCELED || c->shields == 0);
        if (result == 0) {
            c->self->seen = get(&c->self->wakes);
            add(&c->self->wakeups);
            MUST(get(&c->self->wakeups) <= get(&c->self->wakes));
        } else {
            was_told(c);
        }
    } else {
        result = CALL0(suspend);
        MUST_BE(result, result == -EPERM);
    }
}

/* What a join that took the handle says, against what we know of the task. */
static void check_joined(const task *t, int result) {
    bool never = !get(&t->started), cut = t->kind == POLL && !get(&t->finished);
    MUST(swap((unsigned *)(uintptr_t)&t->joined, 1) == 0);
    MUST(is_gone(t));
    if (t->has_drop) MUST(t->value == 3);
    if (result == -ENOMEM) {
        MUST(never && get(&t->home->faulty));
    } else if (result == -ECANCELED) {
        MUST(never || cut || get(&t->told));
        MUST(get(&t->cancels) || get(&t->home->closing));
    } else {
        MUST(!never && !cut && !get(&t->told) && get(&t->finished));
        if (!t->has_drop) MUST(t->value == 2);
    }
}

/* Call sch_join. true: the handle is gone. */
static bool call_join(context *c, handle h) {
    task *t = h.task;
    bool done = CALL(is_done, h.handle);
    unsigned before = add(&t->joins), over = get(&t->joins_over);
    int result = CALL(join, h.handle);
    bool others = before > over || get(&t->joins) > before + 1;
    switch (result) {
    case 0:
    case -ECANCELED:
    case -ENOMEM: check_joined(t, result); break;
    case -EINTR:
        MUST(in_a_task(c));
        was_told(c);
        break;
    case -EDEADLK: MUST(c->where == IN_HOOK || c->where == IN_DROP || c->self == t); break;
    case -EBUSY: MUST(others); break;
    case -EINVAL: MUST(others || get(&t->joined)); break;
    case -EPERM: MUST(may_not_wait(c)); break;
    default: die(__LINE__, "sch_join: %d (%s)", result, sch_strerror(result));
    }
    if (done) MUST_BE(result, result == 0 || result == -ECANCELED || result == -ENOMEM ||
                              result == -EINVAL);
    if (c->self == t && c->where != PLAIN && c->where != IN_HOOK && c->where != IN_DROP) {
        MUST_BE(result, result == -EDEADLK);
    }
    add(&t->joins_over);
    return result == 0 || result == -ECANCELED || result == -ENOMEM;
}

/* A join that nothing interrupts: if it comes to an end by itself. true: the handle is gone. */
static bool join_to_the_end(context *c, handle h) {
    task *t = h.task;
    bool gone, hold = false;
    if (c->capped || (c->self && c->self->id >= t->id)) return false;
    /* For want of a thread of its own it may be queued behind a job that waits. */
    if (t->kind == JOB && get(&t->home->faulty)) return false;
    if (in_a_task(c)) {
        if (t->home->driven && t->home != c->self->home) return false; /* who would run it? */
    } else if (c->blocks_driver) {
        return false;
    } else if (t->home->driven && !is_within(c, t->home)) { /* it must outlive the call */
        hold = true;
        add(&t->home->users);
        if (get(&t->home->doomed)) {
            sub(&t->home->users);
            return false;
        }
    }
    make_finite(h);
    gone = call_join(c, h);
    if (hold) sub(&t->home->users);
    return gone;
}

static void op_join(context *c, const op *o) {
    handle h = take_handle(o->arg[0]);
    bool gone;
    if (!h.handle) {
        MUST(CALL(join, NULL) == -EINVAL);
        return;
    }
    if (CALL(is_done, h.handle) || may_not_wait(c) || (in_a_task(c) && c->self == h.task)) {
        gone = call_join(c, h);
    } else if (in_a_task(c) && c->shields == 0 && !c->self->loner && !c->capped) {
        set(&c->self->joining, 1); /* before the look at stop; see stop_tasks */
        gone = must_stop(c->self) ? join_to_the_end(c, h) : call_join(c, h);
        set(&c->self->joining, 0);
    } else {
        gone = join_to_the_end(c, h);
    }
    if (gone) return;
    put_handle(o->arg[0], h);
}

static bool op_yield(context *c) {
    int result;
    if (c->where == IN_POLL) add(&c->self->yields);
    result = CALL0(yield_now);
    if (c->where == IN_HOOK || c->where == IN_DROP) {
        MUST_BE(result, result == -EPERM);
    } else {
        MUST_BE(result, result == 0);
    }
    return result == 0;
}

/* Time, operations ------------------------------------------------------------------------------*/

/* What a wait that ends by itself may say. */
static void check_wait(context *c, int64_t result, bool timed) {
    int n = result < 0 ? (int)result : 0;
    if (n == -ECANCELED) {
        MUST(in_a_task(c));
        was_told(c);
    } else if (n == -EPERM) {
        MUST(may_not_wait(c));
    } else {
        MUST_BE(n, n == 0 || (timed && n == -ETIMEDOUT) ||
                       ((n == -ENOMEM || n == -EAGAIN) && c->home && get(&c->home->faulty)));
    }
}

/* On a thread that visits a runtime with a paused clock nobody may be there to move it. */
static bool may_be_stuck(const context *c) {
    return c->where == PLAIN && c->within != 0;
}

static uint64_t short_time(unsigned arg) {
    return (arg & 128) ? (arg & 127) * UINT64_C(20000) : (arg & 127) * UINT64_C(100);
}

/* false: still pending. */
static bool poll_timer(context *c) {
    task *t = c->self;
    if (CALL(op_poll, &t->timer.op) == SCH_PENDING) {
        t->timer_on = true;
        add(&t->yields); /* it may be polled again for that */
        return false;
    }
    t->timer_on = false;
    MUST_BE((int)t->timer.op.result, t->timer.op.result == 0 || t->timer.op.result == -ECANCELED);
    if (t->timer.op.result) {
        was_told(c);
    } else {
        MUST(CALL0(now) >= t->timer.until);
    }
    return true;
}

/* true but in a poll task that has to wait for it. */
static bool op_sleep(context *c, const op *o) {
    uint64_t ns = short_time(o->arg[0]), start = CALL0(now);
    int result;
    if (may_be_stuck(c)) return true;
    if (c->where == IN_POLL && c->depth == 0 && !c->in_place && !c->self->loner) {
        c->self->timer = CALL(timer_after, ns);
        return poll_timer(c);
    }
    result = o->arg[0] & 64 ? CALL(sleep_until, start + ns) : CALL(sleep, ns);
    check_wait(c, result, false);
    if (result == 0) MUST(CALL0(now) >= start + ns);
    return true;
}

/* Under a shield with a time; another around it may have none. */
static void op_cut(context *c, const op *o) {
    uint64_t start = CALL0(now), until = start + short_time(o->arg[0]);
    int result = CALL(shield_begin, until);
    if (!in_a_task(c)) {
        MUST_BE(result, result == -EPERM);
        return;
    }
    MUST_BE(result, result == 0);
    result = CALL(sleep_until, start + short_time(o->arg[1]));
    CALL0(shield_end);
    MUST_BE(result, result == 0 || result == -ECANCELED);
    if (result) {
        MUST(CALL0(now) >= until);
        was_told(c);
    } else {
        MUST(CALL0(now) >= start + short_time(o->arg[1]));
    }
}

static void op_tick(context *c, const op *o) {
    sch_interval interval = {1 + short_time(o->arg[0]) / 4, 0, SCH_BURST};
    const int missed = o->arg[1] % 4;
    uint64_t start = CALL0(now);
    int result = 0;
    interval.missed = (sch_missed)missed;
    if (may_be_stuck(c)) return;
    for (unsigned i = 0; i < 3 && result == 0; i++) {
        result = CALL(interval_wait, &interval);
        if (missed > SCH_SKIP) {
            MUST_BE(result, result == -EINVAL);
            return;
        }
        check_wait(c, result, false);
        if (result == 0) MUST(CALL0(now) >= start + i * interval.period);
    }
}

/* Operations by hand: completed by a clerk, a thread, one after the other. */
typedef struct hand {
    sch_op op;
    struct hand *next;  /* under clerk_lock */
    bool queued;        /* under clerk_lock */
    unsigned how, polls;
} hand;

static pthread_mutex_t clerk_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t clerk_called = PTHREAD_COND_INITIALIZER;
static hand *clerk_first, *clerk_busy; /* under clerk_lock */

enum { HAND_READY, HAND_AT_ONCE, HAND_CLERK, HAND_RETRY, HAND_NEVER, NUM_HANDS };
#define HAND_RESULT 4711

static sch_status hand_poll(sch_op *base) {
    hand *h = (hand *)(void *)base;
    unsigned how = h->how;
    if (how == HAND_RETRY && h->polls++ > 0) how = HAND_READY;
    switch (how) {
    case HAND_READY: base->result = HAND_RESULT; return SCH_READY;
    case HAND_AT_ONCE: CALL(op_complete, base, HAND_RESULT); break;
    case HAND_NEVER: break;
    default:
        pthread_mutex_lock(&clerk_lock);
        h->queued = true;
        h->next = clerk_first;
        clerk_first = h;
        pthread_cond_signal(&clerk_called);
        pthread_mutex_unlock(&clerk_lock);
    }
    return SCH_PENDING;
}

static sch_op_revoked hand_cancel(sch_op *base) {
    hand *h = (hand *)(void *)base;
    sch_op_revoked answer = SCH_OP_DONE;
    if (h->how == HAND_NEVER) return SCH_OP_REMOVED;
    pthread_mutex_lock(&clerk_lock);
    for (hand **at = &clerk_first; h->queued && *at; at = &(*at)->next) {
        if (*at != h) continue;
        *at = h->next;
        h->queued = false;
        answer = SCH_OP_REMOVED;
        break;
    }
    /* Not if it was in the queue: the clerk is behind, with one that lay where this one lies. */
    if (answer == SCH_OP_DONE && clerk_busy == h) answer = SCH_OP_BUSY;
    pthread_mutex_unlock(&clerk_lock);
    return answer;
}

static const sch_op_type hand_type = {hand_poll, hand_cancel, "hand"};

static void *clerk(void *unused) {
    pthread_mutex_lock(&clerk_lock);
    for (unsigned n = 0;; n++) {
        while (!clerk_first) pthread_cond_wait(&clerk_called, &clerk_lock);
        hand *h = clerk_busy = clerk_first;
        clerk_first = h->next;
        h->queued = false;
        pthread_mutex_unlock(&clerk_lock);
        if (n % 3 == 0) nap();
        if (h->how == HAND_RETRY) {
            CALL(op_retry, &h->op);
        } else {
            CALL(op_complete, &h->op, HAND_RESULT);
        }
        pthread_mutex_lock(&clerk_lock);
        clerk_busy = NULL;
    }
    return unused;
}

/* Several at once, with a limit. */
static void op_race(context *c, const op *o) {
    hand hands[3];
    sch_timer timer;
    sch_op *ops[4];
    unsigned n = o->arg[0] % 4u, done = 0;
    bool never = o->arg[0] & 64, limited = o->arg[0] & 4;
    uint64_t start = CALL0(now), limit = limited ? start + short_time(o->arg[2]) : SCH_FOREVER;
    int64_t result;
    if (may_be_stuck(c)) return;
    memset(hands, 0, sizeof hands);
    timer = CALL(timer_at, start + short_time(o->arg[1]));
    for (unsigned i = 0; i < n; i++) {
        hands[i].op.type = &hand_type;
        hands[i].how = (unsigned)o->arg[1] >> i * 2;
        hands[i].how %= never ? NUM_HANDS : HAND_NEVER;
        ops[i] = &hands[i].op;
    }
    ops[n++] = &timer.op; /* so that it ends */
    if (n == 2 && hands[0].how != HAND_NEVER && (o->arg[0] & 8)) {
        if (!limited) {
            result = CALL(await, ops[0]);
        } else if (o->arg[0] & 16) {
            result = CALL(timeout, ops[0], limit - start);
        } else {
            result = CALL(await_until, ops[0], limit);
        }
        if (result >= 0) MUST(result == HAND_RESULT && CALL(op_is_done, ops[0]));
        check_wait(c, result, limited);
        return;
    }
    result = CALL(await_any, ops, n, limit);
    check_wait(c, result, limited);
    MUST(result < (int)n);
    for (unsigned i = 0; i + 1 < n && result != -EPERM; i++) {
        if (!CALL(op_is_done, ops[i])) continue;
        MUST(ops[i]->result == HAND_RESULT);
        done++;
    }
    if (result == -EPERM) return;
    if (CALL(op_is_done, &timer.op)) MUST(++done && CALL0(now) >= timer.until);
    MUST(result >= 0 ? CALL(op_is_done, ops[result]) : done == 0);
    for (int i = 0; i < result; i++) MUST(!CALL(op_is_done, ops[i]));
    if (result == -ETIMEDOUT) MUST(CALL0(now) >= limit);
}

/* Descriptors -----------------------------------------------------------------------------------*/

/* A pair, used by one context: all that comes of it is known. Bytes are numbered per direction. */
typedef struct talk {
    sch_io io[2];
    unsigned sent[2], got[2]; /* by end: what it has written, and read */
    bool closed[2], shut[2], pipe;
    bool missed; /* a call has found nothing: what comes then must be told */
    bool served; /* by threads of the runtime */
    runtime *home;
} talk;

static void check_bytes(talk *k, unsigned end, const uint8_t *bytes, int64_t n, size_t asked) {
    unsigned there = k->sent[1 - end] - k->got[end];
    bool over = k->closed[1 - end] || k->shut[1 - end];
    if (n == 0) MUST(there == 0 && (over || asked == 0));
    if (n <= 0) return;
    MUST((uint64_t)n == (there < asked ? there : asked));
    for (int64_t i = 0; i < n; i++) MUST(bytes[i] == (uint8_t)(k->got[end] + (unsigned)i));
    k->got[end] += (unsigned)n;
}

/* As check_wait. Also the end of the descriptor's runtime ends a wait; whoever was cancelled, too,
 * makes sure that it was told. */
static void talk_wait(context *c, const talk *k, int64_t n) {
    if (n != -ECANCELED || !get(&k->home->closing) || (in_a_task(c) && c->home == k->home)) {
        check_wait(c, n, true);
    } else if (in_a_task(c) && CALL0(cancelled)) {
        MUST(CALL(sleep, 3600 * SCH_SECOND) == -ECANCELED);
        was_told(c);
    }
}

static void talk_read(context *c, talk *k, unsigned end, unsigned arg) {
    uint8_t bytes[64];
    size_t size = arg % 60 + 2;
    struct iovec parts[2] = {{bytes, size / 2}, {bytes + size / 2, size - size / 2}};
    sch_io_op call = !k->pipe && arg % 2
                         ? CALL(recvfrom_op, &k->io[end], bytes, size, 0, NULL, NULL)
                         : CALL(read_op, &k->io[end], bytes, size);
    bool waits = k->sent[1 - end] == k->got[end] && !k->closed[1 - end] && !k->shut[1 - end];
    int64_t n;
    if (waits) k->missed = true;
    if (waits || k->closed[end] || arg % 3 == 0 || (k->missed && !k->served)) {
        n = CALL(timeout, &call.op, short_time(arg & 63));
    } else {
        n = arg % 3 == 1 ? CALL(read, &k->io[end], bytes, size)
                         : CALL(readv, &k->io[end], parts, 2);
    }
    /* What has just come may not have been told yet; in a moment it is, where somebody listens. */
    if (n == -ETIMEDOUT && !waits && k->served && in_a_task(c)) {
        n = CALL(timeout, &call.op, 10 * SCH_SECOND);
        MUST_BE((int)n, n != -ETIMEDOUT);
    }
    if (k->closed[end]) {
        MUST_BE((int)n, n == -EBADF || (n == -EPERM && may_not_wait(c)));
        return;
    }
    if (n == -ECONNRESET) { /* closed with bytes that it had not read */
        MUST(!k->pipe && k->closed[1 - end] && k->sent[end] > k->got[1 - end]);
        return;
    }
    MUST(!waits || n < 0);
    if (n < 0) talk_wait(c, k, n);
    check_bytes(k, end, bytes, n, size);
}

static void talk_write(context *c, talk *k, unsigned end, unsigned arg) {
    uint8_t bytes[64];
    size_t size = arg % 60 + 1, written = 0;
    struct iovec parts[2] = {{bytes, size / 2}, {bytes + size / 2, size - size / 2}};
    sch_io_op call;
    int64_t n;
    if (k->sent[end] > 3000) return; /* it always fits */
    for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)(k->sent[end] + i);
    call = !k->pipe && (arg & 64) ? CALL(sendto_op, &k->io[end], bytes, size, 0, NULL, 0)
                                  : CALL(write_op, &k->io[end], bytes, size);
    switch (arg % 4) {
    case 0: n = CALL(write, &k->io[end], bytes, size); break;
    case 1: n = CALL(writev, &k->io[end], parts, 2); break;
    case 2:
        n = CALL(write_all_until, &k->io[end], bytes, size, SCH_FOREVER, &written);
        if (n == 0) n = (int64_t)written;
        break;
    default: n = CALL(await, &call.op); break;
    }
    if (n == -EPERM && may_not_wait(c)) return;
    if ((n == -ENOMEM || n == -EAGAIN) && c->home && get(&c->home->faulty)) return;
    if (k->closed[end]) {
        MUST_BE((int)n, n == -EBADF);
    } else if (k->closed[1 - end] || k->shut[end]) {
        MUST_BE((int)n, n == -EPIPE || n == -ECONNRESET);
    } else {
        MUST(n == (int64_t)size);
        k->sent[end] += (unsigned)size;
    }
}

static void talk_ready(context *c, talk *k, unsigned end) {
    bool reads = k->pipe ? end == 0 : true;
    sch_io_op call = CALL(ready_op, &k->io[end], reads ? SCH_IO_READABLE : SCH_IO_WRITABLE);
    bool now = !reads || k->sent[1 - end] > k->got[end] || k->closed[1 - end] || k->shut[1 - end];
    int64_t n = CALL(timeout, &call.op, 20000);
    if (!now) k->missed = true;
    if (k->closed[end]) {
        MUST_BE((int)n, n == -EBADF || (n == -EPERM && may_not_wait(c)));
        return;
    }
    MUST(n != 0 || now);
    if (n != 0) talk_wait(c, k, n);
    if (n == -ETIMEDOUT && now && k->served && in_a_task(c)) {
        n = CALL(timeout, &call.op, 10 * SCH_SECOND);
        MUST_BE((int)n, n != -ETIMEDOUT);
        if (n != 0) talk_wait(c, k, n);
    }
}

static void talk_close(talk *k, unsigned end) {
    int result = CALL(io_close, &k->io[end]);
    MUST_BE(result, result == (k->closed[end] ? -EBADF : 0));
    result = CALL(io_fd, &k->io[end]);
    MUST_BE(result, result == -EBADF);
    k->closed[end] = true;
}

static bool talk_open(runtime *r, talk *k, unsigned arg) {
    int fds[2], error;
    memset(k, 0, sizeof *k);
    k->home = r;
    k->pipe = arg & 4;
    if ((k->pipe ? pipe(fds) : socketpair(AF_UNIX, SOCK_STREAM, 0, fds)) != 0) return false;
    for (int i = 0; i < 2; i++) {
        error = CALL(io_open, &k->io[i], r->rt, fds[i]);
        MUST_BE(error, error == 0 || (error == -ENOMEM && get(&r->faulty)) ||
                           (error == -ESHUTDOWN && get(&r->closing)));
        if (error == 0) continue;
        for (int j = i; j < 2; j++) close(fds[j]);
        if (i == 1) MUST(CALL(io_close, &k->io[0]) == 0);
        return false;
    }
    return true;
}

static void op_talk(context *c, const op *o) {
    runtime *r = may_be_stuck(c) ? NULL : use_runtime(c, o->arg[0]);
    talk k;
    if (!r) return;
    /* Who uses another's keeps that from being freed: not if nobody might move our own time. */
    if (c->home && c->home != r && (c->home->driven || c->home->paused)) {
        leave_runtime(c, r);
        return;
    }
    if (talk_open(r, &k, o->arg[1])) {
        k.served = !r->driven && c->home == r;
        for (size_t i = 0; i + 1 < o->part[0].size && i < 24; i += 2) {
            unsigned what = o->part[0].bytes[i], arg = o->part[0].bytes[i + 1], end = what >> 7;
            if (k.pipe) end = what % 8 < 3; /* one end reads, one writes */
            switch (what % 8) {
            case 0: case 1: case 2: talk_write(c, &k, end, arg); break;
            case 3: case 4: talk_read(c, &k, end, arg); break;
            case 5: talk_ready(c, &k, end); break;
            case 6:
                if (arg % 4 == 0) talk_close(&k, arg >> 7);
                break;
            default:
                if (k.pipe || k.closed[end]) break;
                (void)CALL(io_shutdown, &k.io[end], SHUT_WR);
                k.shut[end] = true;
            }
        }
        for (unsigned i = 0; i < 2; i++) {
            /* what was left open is closed by the runtime's end; now and then */
            if (!k.closed[i] && (r->kept || o->arg[1] % 8)) talk_close(&k, i);
        }
    }
    leave_runtime(c, r);
}

/* As a foreign loop would. */
static void op_run_some(context *c, const op *o) {
    runtime *r = use_runtime(c, o->arg[0]);
    int result;
    if (!r) return;
    result = CALL(run_some, r->rt, short_time(o->arg[1]));
    if (!r->driven) {
        MUST_BE(result, result == -EINVAL);
        MUST_BE(result, CALL(poll_fd, r->rt) == -EINVAL);
        MUST(CALL(next_deadline, r->rt) == SCH_FOREVER);
    } else {
        int fd = o->arg[1] & 1 ? CALL(poll_fd, r->rt) : 0;
        MUST_BE(result, result == 0 || result == 1 || result == -EBUSY || result == -EAGAIN ||
                            (result == -EPERM && (c->where == IN_HOOK || c->where == IN_DROP)) ||
                            (result == -EDEADLK && (c->where != PLAIN || c->self)) ||
                            (result == -ESHUTDOWN && get(&r->closing)) ||
                            (result == -ENOMEM && get(&r->faulty)));
        MUST_BE(fd, fd >= 0 || (fd == -ENOMEM && get(&r->faulty)));
        (void)CALL(next_deadline, r->rt);
    }
    leave_runtime(c, r);
}

/* Calls that run a function ---------------------------------------------------------------------*/

typedef struct call {
    context context;
    slice program;
    unsigned ran;
} call;

static void run_call(void *arg) {
    call *k = (call *)arg;
    MUST(k->ran++ == 0);
    run_program(&k->context, k->program);
}

static void op_in_place(context *c, const op *o) {
    call k = {*c, o->part[0], 0};
    bool real = (c->where == IN_TASK || c->where == IN_POLL) && !c->in_place;
    int result;
    k.context.main = false;
    k.context.depth++;
    if (real) {
        k.context.in_place = true;
        k.context.capped = c->capped || c->self->home->capped;
    }
    result = CALL(block_in_place, run_call, &k);
    MUST((result == 0) == (k.ran == 1));
    if (c->where == IN_HOOK || c->where == IN_DROP) {
        MUST_BE(result, result == -EPERM);
    } else if (result == -EAGAIN) {
        MUST(real && !c->self->home->driven);
        MUST(get(&c->self->home->faulty) || (c->where == IN_POLL && c->self->home->capped));
    } else {
        MUST_BE(result, result == 0);
    }
    c->shields = k.context.shields; /* misuse leaves some up */
}

/* What sch_block_on must say; 1: both 0 and -ESHUTDOWN may be. */
static int block_on_result(const context *c, const runtime *r, bool closing, bool closed) {
    if (c->where == IN_HOOK || c->where == IN_DROP) return -EPERM;
    if (c->home == r) return 0;
    if ((c->where == IN_TASK || c->where == IN_POLL) && !c->in_place) return -EDEADLK;
    return closed ? -ESHUTDOWN : closing ? 1 : 0;
}

static void op_block_on(context *c, const op *o) {
    runtime *r = use_runtime(c, o->arg[0]);
    call k = {*c, o->part[0], 0};
    bool closed, simple;
    int result, expected;
    if (!r) return;
    simple = c->home == r && c->home_known;
    k.context.main = false;
    k.context.depth++;
    if (!simple) {
        bool driver = c->where == IN_TASK || c->where == IN_POLL;
        k.context.where = PLAIN;
        k.context.home = r;
        k.context.home_known = 1;
        k.context.shields = 0;
        k.context.in_place = false;
        k.context.blocks_driver = c->blocks_driver || (driver && c->self->home->driven);
    }
    k.context.within |= 1u << r->index;
    closed = get(&r->closed);
    result = CALL(block_on, r->rt, run_call, &k);
    MUST((result == 0) == (k.ran == 1));
    expected = block_on_result(c, r, get(&r->closing), closed);
    if (expected == 1) {
        MUST_BE(result, result == 0 || result == -ESHUTDOWN);
    } else {
        MUST_BE(result, result == expected);
    }
    if (simple) c->shields = k.context.shields;
    leave_runtime(c, r);
}

static void op_shield(context *c, const op *o) {
    int result = CALL(shield_begin, SCH_FOREVER);
    context inner = *c;
    if (!in_a_task(c)) {
        MUST_BE(result, result == -EPERM);
        if (c->where == PLAIN) CALL0(shield_end); /* does nothing there */
        return;
    }
    MUST_BE(result, result == 0);
    MUST(!CALL0(cancelled));
    inner.shields++;
    inner.depth++;
    inner.main = false;
    run_program(&inner, o->part[0]);
    CALL0(shield_end);
    c->shields = inner.shields > 0 ? inner.shields - 1 : 0; /* 0: misuse */
}

static void op_repeat(context *c, const op *o) {
    context inner = *c;
    unsigned n = c->repeated ? 1 : o->arg[0] % 8 + 1;
    inner.repeated = true;
    inner.depth++;
    for (unsigned i = 0; i < n; i++) run_program(&inner, o->part[0]);
    c->shields = inner.shields;
}

static void *thread_main(void *arg) {
    unsigned n = *(unsigned *)arg;
    run_program(&thread_contexts[n], thread_programs[n]);
    return NULL;
}

static void op_thread(context *c, const op *o) {
    static unsigned numbers[MAX_THREADS] = {0, 1, 2};
    unsigned n;
    if (!c->main || num_threads == MAX_THREADS) return;
    n = num_threads++;
    memset(&thread_contexts[n], 0, sizeof thread_contexts[n]);
    thread_contexts[n].depth = 1;
    thread_contexts[n].home_known = 1;
    thread_programs[n] = o->part[0];
    if (pthread_create(&threads[n], NULL, thread_main, &numbers[n])) die(__LINE__, "no thread");
}

/* Handles, looking ------------------------------------------------------------------------------*/

static void op_release(const op *o) {
    handle h = take_handle(o->arg[0]);
    if (o->arg[0] & 128) {
        CALL(detach, h.handle);
    } else {
        CALL(release, h.handle);
    }
}

static void op_dup(const op *o) {
    handle h = borrow_handle(o->arg[0]);
    if (h.handle) put_handle(o->arg[1], h);
}

static void op_cancel(const op *o) {
    handle h = borrow_handle(o->arg[0]);
    if (!h.handle) {
        MUST(CALL(cancel, NULL) == -EINVAL);
        return;
    }
    (void)cancel(h.task, h.handle);
    CALL(release, h.handle);
}

static void on_signal(int number) {
    (void)number;
    CALL(wake_signal, signal_target);
}

static void op_wake(const context *c, const op *o) {
    handle h = borrow_handle(o->arg[0]);
    unsigned how = o->arg[0] >> 6;
    if (!h.handle) {
        CALL(wake, NULL);
        CALL(wake_signal, NULL);
        return;
    }
    if (how == 2 && c->main) {
        add(&h.task->wakes);
        signal_target = h.handle;
        (void)raise(SIGUSR1);
        add(&h.task->woken);
    } else {
        wake(h.task, h.handle, how);
    }
    CALL(release, h.handle);
}

static void check_worker_index(const context *c) {
    unsigned index = CALL0(worker_index);
    if (c->where == IN_HOOK || c->where == IN_DROP) return;
    if (c->in_place && get(&c->self->home->faulty)) return; /* a poll without a stack keeps it */
    if (c->where == PLAIN || c->where == IN_JOB || (c->in_place && !c->self->home->driven)) {
        MUST(index == UINT_MAX);
    } else {
        MUST(index < CALL(num_workers, c->self->home->rt));
    }
}

static void check_cancelled(const context *c) {
    unsigned cancelled, closed;
    bool is;
    if (c->where == IN_HOOK || c->where == IN_DROP) {
        (void)CALL0(cancelled);
        return;
    }
    if (c->where == PLAIN) {
        MUST(!CALL0(cancelled));
        return;
    }
    cancelled = get(&c->self->cancelled), closed = get(&c->self->told);
    is = CALL0(cancelled);
    if (c->shields > 0) {
        MUST(!is);
    } else {
        MUST(is || (!cancelled && !closed));
        MUST(!is || get(&c->self->cancels) || get(&c->self->home->closing));
    }
}

static void op_look(const context *c, const op *o) {
    handle h = borrow_handle(o->arg[0]);
    uint64_t now = CALL0(now);
    sch_task *self = CALL0(self);
    if (c->where != IN_HOOK && c->where != IN_DROP) MUST((self != NULL) == (c->where != PLAIN));
    if (h.handle) {
        const task *t = h.task;
        const char *name = t->desc && t->desc->name ? t->desc->name : "";
        poll_state *state = (poll_state *)CALL(task_state, h.handle);
        MUST(strcmp(CALL(task_name, h.handle), name) == 0);
        MUST((state != NULL) == (t->kind == POLL));
        if (state) MUST(state->task == t);
        if (CALL(is_done, h.handle)) MUST(is_gone(t));
        if (self == h.handle && c->self && c->where != IN_HOOK && c->where != IN_DROP) {
            MUST(c->self == t);
        }
        CALL(release, h.handle);
    }
    check_worker_index(c);
    check_cancelled(c);
    MUST(CALL0(now) >= now);
}

static void check_core(const sch_worker_metrics_snapshot *w) {
    MUST(w->lifo_poll_count <= w->poll_count + 1);
    MUST(w->local_queue_depth <= SCH_RUNQ_CAP);
}

/* What is to be seen of a runtime. A reader of ours has enough after some pieces, or tasks. */
enum { ENOUGH = 55 };

typedef struct reader {
    sch_runtime *rt;
    unsigned left;
    bool had_enough;
} reader;

static int read_text(const char *text, size_t length, void *user) {
    reader *me = (reader *)user;
    MUST(!me->had_enough && length > 0 && text[length - 1] != 0);
    me->had_enough = me->left-- == 0;
    return me->had_enough ? ENOUGH : 0;
}

static int read_task(const sch_task_info *info, void *user) {
    reader *me = (reader *)user;
    bool waits = info->phase == SCH_PHASE_WAITING;
    MUST(info->id != 0 && info->name && info->file && info->fn);
    MUST(waits == (info->wait < SCH_WAIT_KINDS) && waits == (info->wait_text[0] != 0));
    MUST(info->num_frames == 0 || (waits && info->kind == SCH_TASK_STACK));
    MUST(info->phase == SCH_PHASE_RUNNING || info->worker == UINT_MAX);
    MUST(CALL(each_task, me->rt, read_task, me) == -EBUSY);
    return read_text("task", 4, user);
}

/* Counts only grow, and so do their buckets' limits and what a percentage does not exceed. */
static void read_histogram(const runtime *r, sch_histogram which, unsigned worker) {
    uint64_t counts[300], below = 0;
    int n = CALL(histogram_read, r->rt, which, worker, counts, 300);
    MUST_BE(n, has_times(r) ? n > 0 : n == -ENOTSUP);
    if (n < 0) return;
    MUST(n <= 300);
    for (int i = 1; i < n; i++) {
        MUST(CALL(histogram_limit, r->rt, (size_t)i) > CALL(histogram_limit, r->rt, (size_t)i - 1));
    }
    for (unsigned percent = 0; percent <= 100 && which == SCH_POLL_TIME; percent += 50) {
        uint64_t value = CALL(percentile, r->rt, which, worker, percent);
        MUST(value == 0 || value != CALL(histogram_limit, r->rt, (size_t)n));
        below = value > below ? value : below;
    }
}

static void see(const context *c, runtime *r, unsigned value) {
    reader me = {r->rt, value / 8 % 8, false};
    bool refused = c->where == IN_HOOK || c->where == IN_DROP;
    int result = 0;
    char text[100];
    switch (value % 8) {
    case 0:
        result = CALL(each_task, r->rt, read_task, &me);
        if (refused) MUST_BE(result, result == -EPERM);
        break;
    case 1:
        result = CALL(dump, r->rt, 100 * SCH_MICROSECOND, read_text, &me);
        if (refused) MUST_BE(result, result == -EPERM);
        break;
    case 2: result = CALL(trace_start, r->rt); break;
    case 3: MUST(CALL(trace_stop, r->rt) == 0); break;
    case 4:
        result = CALL(trace_write, r->rt, read_text, &me);
        if (result == -EINVAL) result = 0; /* it was never started */
        break;
    case 5:
        result = CALL(metrics_write, r->rt, value & 64 ? SCH_OPENMETRICS : SCH_PROMETHEUS,
                      read_text, &me);
        break;
    case 6:
        read_histogram(r, value & 8 ? SCH_POLL_TIME : SCH_SCHEDULE_LATENCY,
                       value & 16 ? SCH_ALL_WORKERS : 0);
        break;
    default:
        result = (int)CALL(symbol, (void *)(uintptr_t)&op_forms, text, value % 100);
        MUST_BE(result, value % 100 == 0 ? result == 0 : (size_t)result == strlen(text));
        return;
    }
    if (me.had_enough) MUST_BE(result, result == ENOUGH);
    MUST_BE(result, result == 0 || (result == ENOUGH && me.had_enough) ||
                        (value % 8 < 2 && (result == -EBUSY || (refused && result == -EPERM))) ||
                        (result == -ENOMEM && get(&r->faulty)));
}

static void op_metrics(const context *c, const op *o) {
    runtime *r = use_runtime(c, o->arg[0]);
    sch_metrics_snapshot m;
    sch_worker_metrics_snapshot w;
    sch_straggler list[4];
    size_t n;
    if (!r) return;
    if (o->arg[1] >= 128) {
        see(c, r, o->arg[1] - 128u);
        leave_runtime(c, r);
        return;
    }
    n = CALL(num_workers, r->rt);
    MUST(CALL(metrics, r->rt, &m) == 0);
    MUST(m.num_workers == n && m.num_idle_workers <= n && m.num_searching <= n);
    MUST((CALL(worker_metrics, r->rt, o->arg[1], &w) == 0) == (o->arg[1] < n));
    if (o->arg[1] < n) check_core(&w);
    (void)CALL(num_alive_tasks, r->rt);
    (void)CALL(injection_queue_depth, r->rt);
    if (c->where != IN_HOOK && c->where != IN_DROP) {
        size_t found = CALL(stragglers, r->rt, list, o->arg[1] % 5);
        for (size_t i = 0; i < found && i < o->arg[1] % 5; i++) {
            MUST(list[i].name && list[i].file);
            MUST(list[i].worker < n || list[i].worker == UINT_MAX);
        }
    }
    leave_runtime(c, r);
}

/* The life of runtimes --------------------------------------------------------------------------*/

static void op_shutdown(context *c, const op *o) {
    runtime *r = use_runtime(c, o->arg[0]);
    uint64_t timeout = o->arg[1] % 3 == 0 ? 0 : 100 * SCH_MICROSECOND;
    int result;
    if (!r) return;
    if ((c->where == IN_HOOK || c->where == IN_DROP) && !is_inside(c, r)) {
        leave_runtime(c, r);
        return;
    }
    if (is_inside(c, r)) {
        set(&r->closing, 1);
        result = CALL(runtime_shutdown, r->rt, o->arg[1] % 3 == 2 ? SCH_FOREVER : timeout);
        MUST_BE(result, result == -EINPROGRESS);
    } else {
        if (c->main && o->arg[1] % 3 == 2) {
            timeout = SCH_FOREVER;
            set(&r->stop, 1);
        }
        set(&r->closing, 1);
        if (timeout == SCH_FOREVER) stop_tasks(r, false);
        result = CALL(runtime_shutdown, r->rt, timeout);
        /* A driven task's thread may be anybody's: also one that a task of r called us from. */
        MUST_BE(result, result == 0 || (result == -ETIMEDOUT && timeout != SCH_FOREVER) ||
                            (result == -EINPROGRESS && c->self && c->self->home->driven));
        if (result == 0) must_be_gone(r);
        if (result == 0) MUST(CALL(num_alive_tasks, r->rt) == 0);
    }
    set(&r->closed, 1);
    leave_runtime(c, r);
}

static void op_free(context *c, const op *o) {
    runtime *r = __atomic_load_n(&places[o->arg[0] % NUM_PLACES], __ATOMIC_SEQ_CST);
    if (!r || c->where == IN_HOOK || c->where == IN_DROP) return;
    if (c->main) {
        free_runtime(r, true);
        __atomic_store_n(&places[o->arg[0] % NUM_PLACES], NULL, __ATOMIC_SEQ_CST);
    } else if (is_within(c, r)) { /* from inside it only begins */
        set(&r->closing, 1);
        CALL(runtime_free, r->rt);
        set(&r->closed, 1);
    }
}

static void op_new(context *c, const op *o) {
    runtime **place = &places[o->arg[0] % NUM_PLACES], *r;
    unsigned number = o->arg[1] % NUM_CONFIGS + 1;
    if (!c->main || *place) return;
    for (unsigned i = NUM_CONFIGS + 1; i < MAX_RUNTIMES; i++) {
        if (runtimes[i].config) continue; /* used in this input */
        make_runtime(r = &runtimes[i], number);
        begin_runtime(r);
        __atomic_store_n(place, r, __ATOMIC_SEQ_CST);
        return;
    }
}

static void op_fault(context *c, const op *o) {
    runtime *r = use_runtime(c, o->arg[0]);
    if (!r) return;
    set(&r->faulty, 1);
    set(&r->memory->failing, o->arg[1] % 32 + 1u);
    leave_runtime(c, r);
}

/* What a caller can get wrong -------------------------------------------------------------------*/

static void bad_run(void *arg) {
    (void)arg;
    die(__LINE__, "a function ran that was to be refused");
}

static sch_status bad_poll(sch_task *self, void *state) {
    (void)self;
    bad_run(state);
    return SCH_READY;
}

static void bad_drop(void *arg) { ++*(unsigned *)arg; }

static uint64_t no_runtime[64] __attribute__((aligned(128)));

/* One of the spawns, refused with EINVAL; the argument is dropped once. */
static void bad_spawn(sch_runtime *rt, unsigned which, sch_fn fn, sch_poll_fn poll, size_t stack,
                      size_t size) {
    static const char state[SCH_TASK_STATE_MAX + 1];
    unsigned drops = 0, expected = which >= 4;
    sch_spawn_desc desc = {"bad", SCH_HERE, stack, bad_drop};
    sch_task *h = NULL;
    int error = 1;
    errno = 0;
    switch (which) {
    case 0: h = CALL(spawn, rt, fn, &drops); break;
    case 1: h = CALL(spawn_blocking, rt, fn, &drops); break;
    case 2: h = CALL(spawn_poll, rt, poll, state, size); break;
    case 3: error = CALL(go, rt, fn, &drops); break;
    case 4: h = CALL(spawn_with, rt, &desc, fn, &drops); break;
    case 5: h = CALL(spawn_blocking_with, rt, &desc, fn, &drops); break;
    case 6: h = CALL(spawn_poll_with, rt, &desc, poll, &drops, size); break;
    default: error = CALL(go_with, rt, &desc, fn, &drops); break;
    }
    MUST(h == NULL);
    if (error == 1) error = -CALL0(errno);
    MUST_BE(error, error == -EINVAL);
    MUST(drops == expected);
}

static void bad_runtime(sch_runtime *rt) {
    sch_metrics_snapshot m;
    sch_worker_metrics_snapshot w;
    sch_straggler s[1];
    MUST(CALL(runtime_shutdown, rt, SCH_FOREVER) == -EINVAL);
    CALL(runtime_free, rt);
    MUST(CALL(stragglers, rt, s, 1) == 0);
    MUST(CALL(block_on, rt, bad_run, NULL) == -EINVAL);
    MUST(CALL(num_workers, rt) == 0);
    MUST(CALL(metrics, rt, &m) == -EINVAL);
    MUST(CALL(worker_metrics, rt, 0, &w) == -EINVAL);
    MUST(CALL(num_alive_tasks, rt) == 0);
    MUST(CALL(injection_queue_depth, rt) == 0);
}

static void bad_task(void) {
    MUST(CALL(join, NULL) == -EINVAL);
    MUST(CALL(cancel, NULL) == -EINVAL);
    MUST(CALL(is_done, NULL));
    MUST(CALL(retain, NULL) == NULL);
    MUST(CALL(task_state, NULL) == NULL);
    MUST(*CALL(task_name, NULL) == 0);
    CALL(release, NULL);
    CALL(detach, NULL);
    CALL(wake, NULL);
    CALL(wake_signal, NULL);
}

/* A configuration with one field changed to something that may be good or bad; it is never good
 * for more than a look at it. */
static void bad_config(unsigned which, unsigned value) {
    static const uint64_t values[] = {0, 1, 2, 255, 16383, 16384, 65535, 65536, 1u << 30,
                                      (1u << 30) + 1, UINT32_MAX, UINT64_C(10000000001), SIZE_MAX};
    uint64_t v = values[value % (sizeof values / sizeof *values)];
    sch_runtime *rt;
    const char *field;
    sch_config c;
    memset(&c, 0, sizeof c);
    switch (which % 13) {
    case 0: c.canary_begin = (uint32_t)v; break;
    case 1: c.canary_end = (uint32_t)v; break;
    case 2: c.flavor = (sch_flavor)(v & 0x7fffffff); break;
    case 3: c.workers = (unsigned)v; break;
    case 4: c.max_blocking_threads = (unsigned)v; break;
    case 5: c.stack_size = (size_t)v; break;
    case 6: c.global_queue_interval = (unsigned)v; break;
    case 7: c.event_interval = (unsigned)v; break;
    case 8: c.standby_period_ns = v; break;
    case 9: c.thread_stack_size = (size_t)v; break;
    case 10: c.num_cpus = (size_t)v; break;
    case 11: c.allocator.alloc = memory_alloc; break;
    default: c.allocator.unmap_pages = memory_unmap; break;
    }
    if (which % 13 != 2 && (which & 16)) c.flavor = SCH_CURRENT_THREAD;
    field = CALL(config_error, &c);
    if (!field) return;
    errno = 0;
    rt = CALL(runtime_new, &c);
    MUST(rt == NULL && CALL0(errno) == EINVAL && *field);
}

static void bad_version(unsigned value) {
    sch_config c;
    memset(&c, 0, sizeof c);
    errno = 0;
    if (value & 1) {
        size_t size = value & 2 ? sizeof c + value : value % sizeof c;
        MUST(CALL(runtime_new_sized, &c, size, SCH_VERSION) == NULL);
    } else {
        MUST(CALL(runtime_new_sized, &c, sizeof c, SCH_VERSION + 10000u * (value + 1)) == NULL);
    }
    MUST(CALL0(errno) == EINVAL);
}

static void op_bad(context *c, const op *o) {
    runtime *r = use_runtime(c, o->arg[1] >> 6);
    unsigned value = o->arg[1];
    sch_worker_metrics_snapshot w;
    bool refused = c->where == IN_HOOK || c->where == IN_DROP;
    int result;
    switch (o->arg[0] % 12) {
    case 0: bad_runtime(NULL); break;
    case 1: bad_runtime((sch_runtime *)(void *)no_runtime); break;
    case 2: bad_task(); break;
    case 3: bad_spawn((sch_runtime *)(void *)no_runtime, value % 8, bad_run, bad_poll, 0, 8); break;
    case 4: /* outside of a runtime */
        if (c->where == PLAIN && c->home_known && !c->home)
            bad_spawn(NULL, value % 8, bad_run, bad_poll, 0, 8);
        break;
    case 5:
        if (r) bad_spawn(r->rt, value % 8, NULL, NULL, 0, 8);
        break;
    case 6:
        if (!r) break;
        bad_spawn(r->rt, value % 4 + 4, bad_run, bad_poll,
                  value & 8 ? 16383 : value & 16 ? SIZE_MAX : ((size_t)1 << 30) + 1, 8);
        bad_spawn(r->rt, value & 8 ? 2 : 6, NULL, bad_poll, 0,
                  value & 16 ? SIZE_MAX : SCH_TASK_STATE_MAX + 1);
        break;
    case 7:
        result = CALL(shield_begin, value * SCH_MILLISECOND);
        MUST_BE(result, result == (in_a_task(c) ? 0 : -EPERM));
        if (result == 0) CALL0(shield_end);
        if (r) MUST(CALL(io_open, NULL, r->rt, 0) == -EINVAL);
        if (r && !refused) MUST(CALL(await_any, NULL, 1, 0) == -EINVAL);
        MUST(CALL(block_in_place, NULL, NULL) == -EINVAL);
        if (r) MUST(CALL(block_on, r->rt, NULL, NULL) == -EINVAL);
        break;
    case 8:
        MUST(CALL(symbol, NULL, NULL, value) == 0);
        MUST(CALL(each_task, NULL, read_task, NULL) == -EINVAL);
        MUST(CALL(trace_start, NULL) == -EINVAL && CALL(trace_stop, NULL) == -EINVAL);
        if (!r) break;
        MUST(CALL(each_task, r->rt, NULL, NULL) == -EINVAL);
        MUST(CALL(dump, r->rt, 0, NULL, NULL) == -EINVAL);
        MUST(CALL(trace_write, r->rt, NULL, NULL) == -EINVAL);
        MUST(CALL(metrics_write, r->rt, SCH_PROMETHEUS, NULL, NULL) == -EINVAL);
        MUST(CALL(histogram_read, r->rt, SCH_HISTOGRAMS, 0, NULL, 0) < 0);
        MUST(CALL(percentile, r->rt, SCH_POLL_TIME, 0, 101) == 0);
        MUST(CALL(histogram_limit, r->rt, SIZE_MAX) == 0);
        MUST(CALL(metrics, r->rt, NULL) == -EINVAL);
        MUST(CALL(worker_metrics, r->rt, 0, NULL) == -EINVAL);
        MUST(CALL(worker_metrics, r->rt, value + 3, &w) == -EINVAL);
        if (!refused) MUST(CALL(stragglers, r->rt, NULL, value + 1) == 0);
        break;
    case 9: bad_version(value); break;
    case 10: bad_config(value, value >> 4); break;
    default:
        MUST(*CALL(strerror, (int)value - 128));
        MUST(*CALL(strerror, value & 1 ? INT_MIN : INT_MAX));
        break;
    }
    leave_runtime(c, r);
}

/* What asserts forbid and SCH_DEBUG 0 must survive. */
static void op_misuse(context *c, const op *o) {
#ifdef FUZZ_MISUSE
    if (c->where == IN_HOOK || c->where == IN_DROP) return;
    if (o->arg[0] & 1) {
        CALL0(shield_end);
        if (in_a_task(c) && c->shields > 0) c->shields--;
    } else if (CALL(shield_begin, SCH_FOREVER) == 0) {
        MUST(in_a_task(c));
        c->shields++;
    }
#else
    (void)c, (void)o;
#endif
}

/* The interpreter -------------------------------------------------------------------------------*/

static void op_work(const op *o) {
    /* not sch_now(): that may stand still as long as we run */
    uint64_t start = schi_now_ns(), span = (o->arg[0] & 127) * UINT64_C(800);
    if (o->arg[0] & 128) {
        nap();
    } else {
        while (schi_now_ns() - start < span) schi_cpu_relax();
    }
}

/* false: a poll task that returns SCH_PENDING now. */
static bool run_op(context *c, const op *o) {
    bool polled = c->where == IN_POLL && c->depth == 0;
    if (c->self) set(&c->self->doing, o->code);
    switch (o->code) {
    case OP_SPAWN: op_spawn(c, o); break;
    case OP_JOIN: op_join(c, o); break;
    case OP_RELEASE: op_release(o); break;
    case OP_CANCEL: op_cancel(o); break;
    case OP_WAKE: op_wake(c, o); break;
    case OP_DUP: op_dup(o); break;
    case OP_SUSPEND:
        op_suspend(c);
        return !polled || c->self->loner;
    case OP_YIELD: return !op_yield(c) || !polled;
    case OP_IN_PLACE:
        if (c->depth < MAX_DEPTH) op_in_place(c, o);
        break;
    case OP_BLOCK_ON:
        if (c->depth < MAX_DEPTH) op_block_on(c, o);
        break;
    case OP_SHIELD:
        if (c->depth < MAX_DEPTH) op_shield(c, o);
        break;
    case OP_LOOK: op_look(c, o); break;
    case OP_METRICS: op_metrics(c, o); break;
    case OP_SHUTDOWN: op_shutdown(c, o); break;
    case OP_FREE: op_free(c, o); break;
    case OP_NEW: op_new(c, o); break;
    case OP_FLOOD: op_flood(c, o); break;
    case OP_BAD: op_bad(c, o); break;
    case OP_THREAD: op_thread(c, o); break;
    case OP_WORK: op_work(o); break;
    case OP_FAULT: op_fault(c, o); break;
    case OP_REPEAT:
        if (c->depth < MAX_DEPTH) op_repeat(c, o);
        break;
    case OP_MISUSE: op_misuse(c, o); break;
    case OP_SLEEP: return op_sleep(c, o);
    case OP_CUT: op_cut(c, o); break;
    case OP_TICK: op_tick(c, o); break;
    case OP_RACE: op_race(c, o); break;
    case OP_TALK: op_talk(c, o); break;
    case OP_RUN_SOME: op_run_some(c, o); break;
    case NUM_OPS: break;
    }
    return true;
}

static void run_program(context *c, slice program) {
    for (size_t at = 0; at < program.size;) {
        op o = next_op(program, &at);
        (void)run_op(c, &o);
    }
}

/* One input -------------------------------------------------------------------------------------*/

static struct timespec watch_start; /* under watch_lock; tv_sec 0: nothing to watch */
static pthread_mutex_t watch_lock = PTHREAD_MUTEX_INITIALIZER;

static void watch(bool on) {
    pthread_mutex_lock(&watch_lock);
    watch_start.tv_sec = 0;
    if (on) clock_gettime(CLOCK_MONOTONIC, &watch_start);
    pthread_mutex_unlock(&watch_lock);
}

static void *watchdog(void *unused) {
    const char *text = getenv("TIMEOUT");
    long limit = text && *text ? atol(text) : FUZZ_TIME_OUT;
    for (;;) {
        struct timespec now, rest = {0, 250000000};
        bool late;
        (void)nanosleep(&rest, NULL);
        clock_gettime(CLOCK_MONOTONIC, &now);
        pthread_mutex_lock(&watch_lock);
        late = watch_start.tv_sec > 0 && now.tv_sec - watch_start.tv_sec > limit;
        pthread_mutex_unlock(&watch_lock);
        if (late && limit > 0) die(__LINE__, "time-out: something waits for ever");
    }
    return unused;
}

/* Is anything left, of this runtime or (NULL) of all? */
static bool is_left(const runtime *home) {
    unsigned n = get(&num_tasks);
    for (unsigned i = 0; i < n && i < MAX_TASKS; i++) {
        const runtime *r = __atomic_load_n(&tasks[i].home, __ATOMIC_SEQ_CST);
        if ((!home || r == home) && !is_gone(&tasks[i])) return true;
    }
    for (unsigned i = 0; i < MAX_RUNTIMES; i++) {
        runtime *r = &runtimes[i];
        if (home && home != r) continue;
        if (get(&r->flood_dropped) < get(&r->flood_tried)) return true;
    }
    return false;
}

/* Have the tasks of a runtime without threads run until they have ended. */
static void drive(void *arg) {
    for (unsigned rounds = 1; is_left((runtime *)arg); rounds++) {
        (void)CALL0(yield_now);
        if (rounds % 16 == 0) nap(); /* it may wait for a blocking thread */
        if (rounds % 16 == 0 && ((runtime *)arg)->paused) (void)CALL(sleep, SCH_MILLISECOND);
    }
}

/* The same by joining those whose handles are there: that parks. */
static void drive_by_join(const runtime *r) {
    context c;
    memset(&c, 0, sizeof c);
    for (unsigned i = 0; i < NUM_HANDLES; i++) {
        handle h = take_handle(i);
        if (!h.handle) continue;
        if (h.task->home != r || !call_join(&c, h)) put_handle(i, h);
    }
}

/* Again while something is left: who spawns just now was not stopped from that. */
static void wait_for_tasks(void) {
    while (is_left(NULL)) {
        for (unsigned i = 0; i < MAX_RUNTIMES; i++) {
            runtime *r = &runtimes[i];
            if (!r->used || !r->driven || get(&r->doomed) || !is_left(r)) continue;
            if (header_now.flags & JOIN_ALL) drive_by_join(r);
            if (CALL(block_on, r->rt, drive, r) == 0) continue;
            MUST(get(&r->closing));
            MUST(CALL(runtime_shutdown, r->rt, SCH_FOREVER) == 0);
        }
        nap();
    }
}

static void end_handles(void) {
    context c;
    memset(&c, 0, sizeof c);
    for (unsigned i = 0; i < NUM_HANDLES; i++) {
        handle h = take_handle(i);
        if (!h.handle) continue;
        if (!(header_now.flags & JOIN_ALL) || !call_join(&c, h)) CALL(release, h.handle);
    }
}

static unsigned end_tasks(const runtime *r) {
    unsigned n = get(&num_tasks), cancelled = 0;
    for (unsigned i = 0; i < n && i < MAX_TASKS; i++) {
        task *t = &tasks[i];
        bool whole = get(&t->finished);
        if (t->home != r || get(&t->failed)) continue;
        MUST(t->value == (t->has_drop ? 3u : whole ? 2u : 1u));
        MUST(whole == get(&t->started) || t->kind == POLL);
        if (!whole || get(&t->told)) cancelled++;
        if (!t->held) continue;
        MUST(CALL(is_done, t->held));
        if (!whole) unregister_self(t);
        CALL(release, t->held);
        t->held = NULL;
    }
    return cancelled;
}

/* The counts of a runtime that is still there. Ends are counted a moment later. */
static void check_counts(const runtime *r, uint64_t cancelled) {
    uint64_t spawned = get(&r->spawned), counted_spawned, counted;
    sch_metrics_snapshot m;
    cancelled += get(&r->flood_tried) - get(&r->flood_failed) - get(&r->flood_ran);
    for (;;) {
        MUST(CALL(metrics, r->rt, &m) == 0);
        counted_spawned = m.spawned_tasks_count - r->base_spawned;
        counted = m.cancelled_tasks_count - r->base_cancelled;
        if (m.num_alive_tasks == 0 && (counted >= cancelled || get(&r->faulty))) break;
        nap();
    }
    if (get(&r->faulty)) return; /* a refused job was spawned and has ended */
    if (counted_spawned == spawned && counted == cancelled) return;
    die(__LINE__, "runtime %u: %llu spawned, counted %llu; %llu cancelled, counted %llu",
        r->config, (unsigned long long)spawned, (unsigned long long)counted_spawned,
        (unsigned long long)cancelled, (unsigned long long)counted);
}

static uint64_t end_zeroed(runtime *r) {
    uint64_t cancelled = 0;
    for (unsigned i = 0; i < get(&r->num_zeroed) && i < MAX_ZEROED; i++) {
        int result = r->zeroed[i] ? CALL(join, r->zeroed[i]) : 0;
        MUST_BE(result, result == 0 || (result == -ECANCELED && get(&r->closing)) ||
                        (result == -ENOMEM && get(&r->faulty)));
        if (result) cancelled++;
        r->zeroed[i] = NULL;
    }
    return cancelled;
}

static void forget_runtime(runtime *r) {
    memory *m = r->memory;
    MUST(get(&m->blocks) == 0);
    MUST(__atomic_load_n(&m->bytes, __ATOMIC_SEQ_CST) == 0);
    m->used = false;
    memset(r, 0, sizeof *r);
    r->index = (unsigned)(r - runtimes);
}

/* Bring the input to its end: everything must end by itself now. */
static void finish_input(void) {
    set(&stopping, 1);
    while (get(&hooks_running) > 0) nap();
    for (unsigned i = 0; i < num_threads; i++) pthread_join(threads[i], NULL);
    num_threads = 0;
    stop_tasks(NULL, header_now.flags & CANCEL_ALL);
    wait_for_tasks();
    end_handles();
    for (unsigned i = 0; i < MAX_RUNTIMES; i++) {
        runtime *r = &runtimes[i];
        uint64_t cancelled;
        if (!r->used) continue;
        MUST(get(&r->users) == 0);
        set(&r->memory->failing, 0);
        cancelled = end_zeroed(r) + end_tasks(r);
        if (get(&r->doomed)) continue;
        check_counts(r, cancelled);
        if (get(&r->closing) || get(&r->faulty) || !r->kept) free_runtime(r, true);
        r->used = false;
    }
    for (unsigned i = 0; i < MAX_RUNTIMES; i++) {
        if (runtimes[i].config && get(&runtimes[i].doomed)) forget_runtime(&runtimes[i]);
    }
    for (unsigned i = 0; i < num_tasks && i < MAX_TASKS; i++) {
        MUST(tasks[i].self == NULL);
        pthread_mutex_destroy(&tasks[i].lock);
    }
}

static void run_input(const uint8_t *bytes, size_t size) {
    context c;
    input_now.size = size < MAX_BYTES ? size : MAX_BYTES;
    memcpy(input_bytes, bytes, input_now.size);
    input_now.bytes = input_bytes;
    header_now = read_header(input_now);
    __atomic_fetch_add(&num_inputs, 1u, __ATOMIC_RELAXED);
    watch(true);
    memset(tasks, 0, sizeof tasks);
    for (unsigned i = 0; i < MAX_TASKS; i++) pthread_mutex_init(&tasks[i].lock, NULL);
    num_tasks = 0;
    hooks_at = 0;
    for (unsigned i = 0; i < NUM_PLACES; i++) places[i] = NULL;
    for (unsigned i = 0; i < NUM_PLACES; i++) {
        runtime *r = header_now.configs[i] ? find_runtime(header_now.configs[i]) : NULL;
        if (r) begin_runtime(r);
        __atomic_store_n(&places[i], r, __ATOMIC_SEQ_CST);
    }
    memset(&c, 0, sizeof c);
    c.main = true;
    c.home_known = 1;
    set(&stopping, 0);
    run_program(&c, header_now.program);
    finish_input();
    watch(false);
}

static void free_kept(void) {
    for (unsigned i = 0; i < MAX_RUNTIMES; i++) {
        runtime *r = &runtimes[i];
        if (!r->config) continue;
        free_runtime(r, false);
        forget_runtime(r);
    }
}

static void begin(void) {
    pthread_t thread;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    (void)sigaction(SIGUSR1, &action, NULL);
    for (unsigned i = 0; i < MAX_RUNTIMES; i++) runtimes[i].index = i;
    if (pthread_create(&thread, NULL, watchdog, NULL)) abort();
    pthread_detach(thread);
    if (pthread_create(&thread, NULL, clerk, NULL)) abort();
    pthread_detach(thread);
}

/* Frees what is kept; prints what was done. The number of functions that were never called. */
static unsigned finish(void) {
    uint64_t calls = 0;
    unsigned never = 0;
    free_kept();
    for (int i = 0; i < NUM_FUNCTIONS; i++) {
        calls += num_calls[i];
        if (num_calls[i] == 0) {
            printf("never called: %s\n", function_names[i]);
            never++;
        }
    }
    printf("%llu inputs, %llu calls of %d functions\n", (unsigned long long)num_inputs,
           (unsigned long long)calls, NUM_FUNCTIONS - (int)never);
    return never;
}

/* Making programs up ----------------------------------------------------------------------------*/

static uint64_t random_state;

static unsigned random_below(unsigned n) { /* splitmix64 */
    uint64_t x = random_state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (unsigned)((x ^ (x >> 31)) % n);
}

/* Append operations with programs of their own, at most `room` bytes. Returns how many. */
static size_t make_program(uint8_t *out, size_t room, unsigned ops, unsigned depth) {
    size_t used = 0;
    for (unsigned i = 0; i < ops && used + 12 < room; i++) {
        unsigned form = random_below(3) ? random_below(OP_LOOK) : random_below(NUM_OPS);
        if (form == OP_FAULT && random_below(4)) continue; /* they loosen what is checked */
        out[used++] = (uint8_t)form;
        for (unsigned a = 0; a < op_forms[form].args; a++) {
            /* Few handles, so that programs meet. */
            bool is_handle = form != OP_SPAWN || a == 2;
            out[used++] = (uint8_t)(is_handle && random_below(2) ? random_below(6)
                                                                 : random_below(256));
        }
        for (unsigned s = 0; s < op_forms[form].slices; s++) {
            uint8_t *size = &out[used++];
            size_t limit = room - used < 255 ? room - used : 255;
            *size = 0;
            if (depth > 4 || (s > 0 && random_below(4))) continue;
            *size = (uint8_t)make_program(out + used, limit, random_below(6), depth + 1);
            used += *size;
        }
    }
    return used;
}

static size_t make_input(uint8_t *out, size_t room) {
    size_t used = 0, size;
    for (int i = 0; i < NUM_PLACES; i++) out[used++] = (uint8_t)random_below(NUM_CONFIGS + 1);
    out[used++] = (uint8_t)random_below(256);
    size = random_below(3) ? 0 : make_program(out + used + 1, 60, 1 + random_below(8), 3);
    out[used++] = (uint8_t)size;
    used += size;
    return used + make_program(out + used, room - used, 1 + random_below(30), 0);
}

#ifdef FUZZ_LIBFUZZER

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

static void at_exit(void) { (void)finish(); }

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    replaying = "an input of libFuzzer";
    begin();
    (void)atexit(at_exit);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    run_input(data, size);
    return 0;
}

/* Half of the time whole operations are put between others, or an input is made up. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    uint8_t added[160];
    size_t more, at;
    slice program;
    random_state = seed;
    if (random_below(2)) return LLVMFuzzerMutate(data, size, max_size);
    if (size < 6 || random_below(16) == 0) return max_size > 64 ? make_input(data, max_size) : size;
    program = read_header((slice){data, size}).program;
    for (at = 0; at < program.size && random_below(4);) (void)next_op(program, &at);
    at += size - program.size;
    more = make_program(added, sizeof added, 1 + random_below(3), 1);
    if (size + more > max_size) return LLVMFuzzerMutate(data, size, max_size);
    memmove(data + at + more, data + at, size - at);
    memcpy(data + at, added, more);
    return size + more;
}

#else

static bool decode_only;

static bool run_file(const char *path) {
    uint8_t bytes[MAX_BYTES];
    FILE *file = fopen(path, "rb");
    size_t size;
    if (!file) return false;
    size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    replaying = path;
    if (decode_only) {
        print_input((slice){bytes, size});
    } else {
        run_input(bytes, size);
    }
    return true;
}

/* A file, or every file of a folder. */
static bool run_path(const char *path) {
    struct stat status;
    struct dirent *entry;
    bool good = true;
    DIR *dir;
    if (stat(path, &status) != 0) return false;
    if (!S_ISDIR(status.st_mode)) return run_file(path);
    if (!(dir = opendir(path))) return false;
    while ((entry = readdir(dir)) != NULL) {
        char name[1024];
        int length = snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (entry->d_name[0] == '.') continue;
        good = length > 0 && (size_t)length < sizeof name && run_file(name) && good;
    }
    closedir(dir);
    return good;
}

/* Made-up inputs for so long; SEED of the first one is the environment's. */
static void run_random(double seconds) {
    struct timespec start, now;
    static char name[64]; /* also for messages of the end */
    const char *text = getenv("SEED");
    uint64_t seed = text && *text ? strtoull(text, NULL, 0) : schi_entropy() >> 16;
    clock_gettime(CLOCK_MONOTONIC, &start);
    printf("SEED=%llu\n", (unsigned long long)seed);
    do {
        uint8_t bytes[MAX_BYTES];
        size_t size;
        random_state = seed;
        size = make_input(bytes, sizeof bytes);
        snprintf(name, sizeof name, "the input of SEED=%llu", (unsigned long long)seed++);
        replaying = name;
        if (decode_only) print_input((slice){bytes, size});
        if (decode_only) break;
        run_input(bytes, size);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((double)(now.tv_sec - start.tv_sec) + (double)(now.tv_nsec - start.tv_nsec) * 1e-9 <
             seconds);
}

/* [-d] [-n TIMES] [-r SECONDS] [FILE|FOLDER...]: -d decodes and runs nothing, -n replays so often,
 * -r makes inputs up; the last line but for failures is the figures. Exit status 0: nothing failed,
 * and every function was called if a folder was replayed. */
int main(int argc, char **argv) {
    double seconds = 0;
    long times = 1;
    bool good = true, folder = false;
    int option;
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    while ((option = getopt(argc, argv, "dn:r:")) != -1) {
        if (option == 'd') decode_only = true;
        if (option == 'n') times = atol(optarg);
        if (option == 'r') seconds = atof(optarg);
        if (option == '?') return 2;
    }
    begin();
    for (; times > 0; times--) {
        for (int i = optind; i < argc; i++) {
            struct stat status;
            folder = folder || (stat(argv[i], &status) == 0 && S_ISDIR(status.st_mode));
            if (!run_path(argv[i])) {
                fprintf(stderr, "cannot read %s\n", argv[i]);
                good = false;
            }
        }
    }
    if (seconds > 0) run_random(seconds);
    if (decode_only) return 0;
    return (finish() == 0 || !folder) && good ? 0 : 1;
}

#endif
