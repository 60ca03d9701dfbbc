/* exit.c - the ways in which a process ends while a runtime has tasks in every state: from each
 * place in it and around it. It must neither hang nor crash, and what was registered with atexit,
 * and destructors, run once. The runtime is left alone, or freed there: from inside that only
 * begins its shutdown, from outside it is complete. */
#define _GNU_SOURCE
#define SCH_DEBUG 3
#define SCHED_IMPLEMENTATION
#include "../../sched.h"

#include "process.h"

typedef struct exit_world {
    sch_runtime *rt;
    unsigned started; /* atomic */
    unsigned fired;   /* atomic: whoever comes first ends the process */
    unsigned armed;   /* atomic: hooks may fire */
} exit_world;

/* Static: threads go on after main has returned. */
static exit_world exit_all;
static bool exit_frees; /* the handlers free the runtime */

static void exit_handler(void) {
    process_say("handler\n");
    if (exit_frees) sch_runtime_free(exit_all.rt);
}

static void exit_quick_handler(void) {
    process_say("quick\n");
    if (exit_frees) sch_runtime_free(exit_all.rt);
}

/* Runs after the handlers, in every case. */
__attribute__((destructor)) static void exit_destructor(void) {
    if (exit_all.rt) process_say("destructor\n");
}

static void exit_nothing(void *arg) { (void)arg; }

/* Tasks that wait, yield, compute, block, poll; all end when they are cancelled. */
static void exit_wait(void *arg) {
    process_add(&((exit_world *)arg)->started, 1);
    while (sch_suspend() == 0) continue;
}

static void exit_yield(void *arg) {
    process_add(&((exit_world *)arg)->started, 1);
    while (!sch_cancelled()) CHECK_EQ(sch_yield_now(), 0);
}

static void exit_spawn(void *arg) {
    process_add(&((exit_world *)arg)->started, 1);
    while (sch_go(NULL, exit_nothing, NULL) == 0) CHECK_EQ(sch_yield_now(), 0);
}

static void exit_block(void *arg) { CHECK_EQ(sch_block_in_place(exit_wait, arg), 0); }

static sch_status exit_poll(sch_task *self, void *state) {
    unsigned *polls = (unsigned *)state;
    (void)self;
    if ((*polls)++ == 0) process_add(&exit_all.started, 1);
    CHECK_EQ(sch_yield_now(), 0);
    return SCH_PENDING;
}

static void exit_now(void *arg) {
    (void)arg;
    if (process_add(&exit_all.fired, 1) == 1) exit(3);
}

static void exit_hook(void *user, unsigned thread) {
    (void)thread;
    if (process_get(&((exit_world *)user)->armed)) exit_now(NULL);
}

static void exit_task_hook(void *user, sch_task *task) {
    (void)task;
    if (process_get(&((exit_world *)user)->armed)) exit_now(NULL);
}

static sch_config exit_config(unsigned workers) {
    sch_config config;
    memset(&config, 0, sizeof config);
    config.workers = workers;
    config.flavor = workers ? SCH_MULTI_THREAD : SCH_CURRENT_THREAD;
    config.stack_size = 65536;
    config.hooks.user = &exit_all;
    return config;
}

static void exit_begin_with(const sch_config *config) {
    unsigned zero = 0;
    CHECK_EQ(atexit(exit_handler), 0);
    exit_all.rt = sch_runtime_new(config);
    CHECK(exit_all.rt != NULL);
    CHECK_EQ(sch_go(exit_all.rt, exit_wait, &exit_all), 0);
    CHECK_EQ(sch_go(exit_all.rt, exit_yield, &exit_all), 0);
    CHECK_EQ(sch_go(exit_all.rt, exit_spawn, &exit_all), 0);
    CHECK_EQ(sch_go(exit_all.rt, exit_block, &exit_all), 0);
    sch_detach(sch_spawn_poll(exit_all.rt, exit_poll, &zero, sizeof zero));
    sch_detach(sch_spawn_blocking(exit_all.rt, exit_wait, &exit_all));
    if (config->flavor == SCH_MULTI_THREAD) process_await(&exit_all.started, 6);
}

static void exit_begin(unsigned workers) {
    sch_config config = exit_config(workers);
    exit_begin_with(&config);
}

#define EXITED "handler\ndestructor\n"

/* exit from the inside --------------------------------------------------------------------------*/

static void exit_in_block_in_place(void *arg) { CHECK_EQ(sch_block_in_place(exit_now, arg), 0); }

static sch_status exit_in_poll(sch_task *self, void *state) {
    (void)self;
    exit_now(state);
    return SCH_READY;
}

static void exit_join(sch_task *task) {
    (void)sch_join(task);
    process_nap(60000); /* the process ends meanwhile */
    _exit(FAILED);
}

static void exit_from_task(unsigned workers, bool frees, sch_fn fn) {
    exit_frees = frees;
    exit_begin(workers);
    exit_join(sch_spawn(exit_all.rt, fn, NULL));
}

CASE(exit_from_a_task, 3, EXITED) { exit_from_task(3, false, exit_now); }
CASE(exit_from_a_task_frees, 3, EXITED) { exit_from_task(3, true, exit_now); }
CASE(exit_from_a_task_on_one_worker_frees, 3, EXITED) { exit_from_task(1, true, exit_now); }
CASE(exit_from_a_driven_task, 3, EXITED) { exit_from_task(0, false, exit_now); }
CASE(exit_from_a_driven_task_frees, 3, EXITED) { exit_from_task(0, true, exit_now); }
CASE(exit_from_block_in_place, 3, EXITED) { exit_from_task(2, false, exit_in_block_in_place); }
CASE(exit_from_block_in_place_frees, 3, EXITED) { exit_from_task(2, true, exit_in_block_in_place); }

CASE(exit_from_a_job, 3, EXITED) {
    exit_begin(2);
    exit_join(sch_spawn_blocking(exit_all.rt, exit_now, NULL));
}

CASE(exit_from_a_job_frees, 3, EXITED) {
    exit_frees = true;
    exit_begin(2);
    exit_join(sch_spawn_blocking(exit_all.rt, exit_now, NULL));
}

CASE(exit_from_a_poll_function, 3, EXITED) {
    exit_frees = true;
    exit_begin(2);
    exit_join(sch_spawn_poll(exit_all.rt, exit_in_poll, NULL, 0));
}

static void exit_drop(void *arg) { exit_now(arg); }

CASE(exit_from_a_drop_function, 3, EXITED) {
    static const sch_spawn_desc desc = {"drop", NULL, 0, 0, exit_drop};
    exit_frees = true;
    exit_begin(2);
    exit_join(sch_spawn_with(exit_all.rt, &desc, exit_nothing, NULL));
}

CASE(exit_in_block_on, 3, EXITED) {
    exit_frees = true;
    exit_begin(2);
    (void)sch_block_on(exit_all.rt, exit_now, NULL);
    _exit(FAILED);
}

CASE(exit_in_driven_block_on, 3, EXITED) {
    exit_frees = true;
    exit_begin(0);
    (void)sch_block_on(exit_all.rt, exit_now, NULL);
    _exit(FAILED);
}

/* From each hook, with and without a handler that frees. */
static void exit_from_hook(const sch_config *config, bool frees, bool busy) {
    exit_frees = frees;
    if (busy) {
        exit_begin_with(config);
    } else { /* threads park only if there is nothing to do */
        CHECK_EQ(atexit(exit_handler), 0);
        exit_all.rt = sch_runtime_new(config);
    }
    process_set(&exit_all.armed, 1);
    for (int i = 0; i < 20; i++) { /* more threads, parks, tasks */
        sch_detach(sch_spawn(exit_all.rt, exit_nothing, NULL));
        sch_detach(sch_spawn_blocking(exit_all.rt, exit_nothing, NULL));
        process_nap(1);
    }
    sch_runtime_free(exit_all.rt); /* then threads stop */
    process_nap(60000);
    _exit(FAILED);
}

#define EXIT_HOOK(hook, function, busy)                \
    CASE(exit_from_##hook, 3, EXITED) {                \
        sch_config config = exit_config(2);            \
        config.hooks.hook = function;                  \
        exit_from_hook(&config, false, busy);          \
    }                                                  \
    CASE(exit_from_##hook##_frees, 3, EXITED) {        \
        sch_config config = exit_config(2);            \
        config.hooks.hook = function;                  \
        exit_from_hook(&config, true, busy);           \
    }

EXIT_HOOK(on_thread_start, exit_hook, true)
EXIT_HOOK(on_thread_stop, exit_hook, true)
EXIT_HOOK(on_thread_park, exit_hook, false)
EXIT_HOOK(on_thread_unpark, exit_hook, false)
EXIT_HOOK(on_task_spawn, exit_task_hook, true)
EXIT_HOOK(on_task_poll_start, exit_task_hook, true)
EXIT_HOOK(on_task_poll_end, exit_task_hook, true)
EXIT_HOOK(on_task_terminate, exit_task_hook, true)

/* exit from the outside -------------------------------------------------------------------------*/

CASE(exit_main_returns, 0, EXITED) { exit_begin(3); }

CASE(exit_main_returns_driven, 0, EXITED) { exit_begin(0); }

CASE(exit_main_exits, 3, EXITED) {
    exit_begin(3);
    exit(3);
}

CASE(exit_main_exits_and_frees, 3, EXITED) {
    exit_frees = true;
    exit_begin(3);
    exit(3);
}

CASE(exit_main_exits_and_frees_driven, 3, EXITED) {
    exit_frees = true;
    exit_begin(0);
    exit(3);
}

/* Freed by the user, and what is left of it freed again in the handler would be a mistake: the
 * program forgets it. */
CASE(exit_after_free, 3, "handler\n") {
    exit_begin(2);
    sch_runtime_free(exit_all.rt);
    exit_all.rt = NULL;
    exit_frees = true; /* NULL does nothing */
    exit(3);
}

static void *exit_thread(void *arg) {
    process_nap(20);
    exit_now(arg);
    return NULL;
}

static void exit_start_thread(void) {
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, exit_thread, NULL), 0);
}

/* Another thread ends it while main is inside of the library. */
CASE(exit_while_main_joins, 3, EXITED) {
    exit_frees = true; /* main's join then comes back */
    exit_begin(2);
    sch_task *task = sch_spawn(exit_all.rt, exit_wait, &exit_all);
    exit_start_thread();
    exit_join(task);
}

CASE(exit_while_main_drives, 3, EXITED) {
    exit_begin(0);
    exit_start_thread();
    exit_join(sch_spawn(exit_all.rt, exit_wait, &exit_all));
}

static void exit_stubborn(void *arg) {
    CHECK_EQ(sch_shield_begin(SCH_FOREVER), 0);
    exit_wait(arg);
}

CASE(exit_while_main_frees, 3, EXITED) {
    exit_begin(2);
    CHECK_EQ(sch_go(exit_all.rt, exit_stubborn, &exit_all), 0);
    process_await(&exit_all.started, 7);
    exit_start_thread();
    sch_runtime_free(exit_all.rt); /* waits for ever */
    _exit(FAILED);
}

/* Main is gone, the rest goes on: a task ends the process. */
static void exit_later(void *arg) {
    for (int i = 0; i < 100; i++) CHECK_EQ(sch_yield_now(), 0);
    exit_now(arg);
}

CASE(exit_after_main_thread_ended, 3, EXITED) {
    exit_begin(2);
    CHECK_EQ(sch_go(exit_all.rt, exit_later, NULL), 0);
    pthread_exit(NULL);
}

/* The last thread of all ends: as by exit(0). */
static void *exit_last_thread(void *arg) {
    (void)arg;
    process_nap(20); /* main is on its way */
    sch_runtime_free(exit_all.rt);
    return NULL;
}

CASE(exit_with_the_last_thread, 0, EXITED) {
    pthread_t thread;
    if (PROCESS_TSAN) SKIP("ThreadSanitizer has a thread of its own that stays");
    exit_begin(2);
    CHECK_EQ(pthread_create(&thread, NULL, exit_last_thread, NULL), 0);
    pthread_exit(NULL);
}

/* Without handlers ------------------------------------------------------------------------------*/

static void exit_at_once(void *arg) {
    (void)arg;
    _exit(4);
}

CASE(exit_at_once_from_a_task, 4, "") {
    exit_begin(3);
    exit_join(sch_spawn(exit_all.rt, exit_at_once, NULL));
}

CASE(exit_at_once_from_main, 4, "") {
    exit_begin(3);
    _exit(4);
}

#if !defined(__APPLE__)
static void exit_quickly(void *arg) {
    (void)arg;
    quick_exit(5);
}

CASE(exit_quick_from_a_task, 5, "quick\n") {
    CHECK_EQ(at_quick_exit(exit_quick_handler), 0);
    exit_frees = true;
    exit_begin(3);
    exit_join(sch_spawn(exit_all.rt, exit_quickly, NULL));
}

CASE(exit_quick_from_main, 5, "quick\n") {
    CHECK_EQ(at_quick_exit(exit_quick_handler), 0);
    exit_frees = true;
    exit_begin(3);
    quick_exit(5);
}
#endif

static void exit_abort(void *arg) {
    (void)arg;
    signal(SIGABRT, SIG_DFL);
    abort();
}

CASE(exit_abort_from_a_task, DIED_OF(SIGABRT), "") {
    exit_begin(3);
    exit_join(sch_spawn(exit_all.rt, exit_abort, NULL));
}

/* A signal for the process is taken by a thread of the program's, never by one of ours. */
static pthread_t exit_main_thread;

static void exit_on_signal(int number) {
    (void)number;
    process_say(pthread_equal(pthread_self(), exit_main_thread) ? "main\n" : "ours\n");
    _exit(6);
}

CASE(exit_by_a_signal, 6, "main\n") {
    struct sigaction action;
    sigset_t mask;
    memset(&action, 0, sizeof action);
    action.sa_handler = exit_on_signal;
    exit_main_thread = pthread_self();
    exit_begin(3);
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, &mask, NULL), 0); /* ours were made before */
    CHECK_EQ(sigaction(SIGTERM, &action, NULL), 0);
    CHECK_EQ(kill(getpid(), SIGTERM), 0);
    process_nap(30);
    CHECK_EQ(pthread_sigmask(SIG_UNBLOCK, &mask, NULL), 0);
    exit_join(sch_spawn(exit_all.rt, exit_wait, &exit_all));
}

CASE(exit_terminated, DIED_OF(SIGTERM), "") {
    exit_begin(3);
    CHECK_EQ(kill(getpid(), SIGTERM), 0);
    exit_join(sch_spawn(exit_all.rt, exit_wait, &exit_all));
}

/* Destructors -----------------------------------------------------------------------------------*/

static sch_runtime *exit_late_rt;

__attribute__((destructor(101))) static void exit_late_destructor(void) {
    if (!exit_late_rt) return;
    sch_runtime_free(exit_late_rt);
    process_say("late\n");
}

/* One is freed in a handler, the other in the last destructor of all. */
CASE(exit_frees_in_a_destructor, 3, EXITED "late\n") {
    sch_config config = exit_config(2);
    exit_late_rt = sch_runtime_new(&config);
    CHECK_EQ(sch_go(exit_late_rt, exit_wait, &exit_all), 0);
    exit_frees = true;
    process_await(&exit_all.started, 1);
    process_set(&exit_all.started, 0);
    exit_begin(2);
    exit(3);
}

/* A handler makes a runtime, uses it and frees it. */
static void exit_new_in_handler(void) {
    sch_config config = exit_config(2);
    sch_runtime *rt = sch_runtime_new(&config);
    CHECK(rt != NULL);
    CHECK_EQ(sch_join(sch_spawn(rt, exit_nothing, NULL)), 0);
    CHECK_EQ(sch_join(sch_spawn_blocking(rt, exit_nothing, NULL)), 0);
    sch_runtime_free(rt);
    process_say("new\n");
}

CASE(exit_makes_a_runtime_in_a_handler, 3, "new\n" EXITED) {
    exit_begin(2);
    CHECK_EQ(atexit(exit_new_in_handler), 0);
    exit(3);
}

/* The same on a task's stack, inside of a runtime. */
CASE(exit_makes_a_runtime_in_a_tasks_handler, 3, "new\n" EXITED) {
    exit_begin(2);
    CHECK_EQ(atexit(exit_new_in_handler), 0);
    exit_join(sch_spawn_blocking(exit_all.rt, exit_now, NULL));
}

/* Assertions ------------------------------------------------------------------------------------
 * A job's mistake ends the process, on the job's thread. */
static void exit_shield_end(void *arg) {
    (void)arg;
    CHECK_EQ(sch_shield_begin(SCH_FOREVER), 0);
    sch_shield_end();
    sch_shield_end();
}

static void exit_shield_left(void *arg) {
    (void)arg;
    CHECK_EQ(sch_shield_begin(SCH_FOREVER), 0);
}

static void exit_asserts(sch_fn mistake) {
    close(2); /* what assert has to say */
    signal(SIGABRT, SIG_DFL);
    exit_begin(2);
    (void)sch_join(sch_spawn_blocking(exit_all.rt, mistake, NULL));
    _exit(FAILED);
}

CASE(exit_shield_ended_twice_in_a_job, DIED_OF(SIGABRT), "") { exit_asserts(exit_shield_end); }
CASE(exit_shield_left_in_a_job, DIED_OF(SIGABRT), "") { exit_asserts(exit_shield_left); }
