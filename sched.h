/* sched.h - very many tasks on all cores, from plain C. One header; public domain or MIT.
 *
 * MARK: - [0] Pass-through
 *   This file shares its name with a POSIX header that <pthread.h> and others include as <sched.h>.
 *   Where our folder is on the include path (-I, -isystem) they find this file instead. So, outside
 *   of every guard, we first pass on to the system's <sched.h>; the nested pass is marked as a
 *   system header because gcc's -Wpedantic objects to #include_next.
 */
#ifdef SCHI_PASS_THROUGH
#pragma GCC system_header
#if defined(__has_include_next)
#if __has_include_next(<sched.h>)
#include_next <sched.h>
#endif
#endif
#else /* the whole rest of the file */

#ifndef SCH_NO_SYSTEM_SCHED
#define SCHI_PASS_THROUGH
#include "sched.h"
#undef SCHI_PASS_THROUGH
#endif

/* Inside <pthread.h> (its guard is set, its contents are not there yet) that is all we may do. */
#undef SCHI_INSIDE_PTHREAD_H
#if (defined(_PTHREAD_H) || defined(_PTHREAD_H_) || defined(_LIB_PTHREAD_H)) && \
    !defined(PTHREAD_CREATE_JOINABLE)
#define SCHI_INSIDE_PTHREAD_H
#endif

#if !defined(SCH_INCLUDED) && !defined(SCHI_INSIDE_PTHREAD_H)
#define SCH_INCLUDED

/*==================================================================================================
 * MARK: - Manual
 *
 * WHAT IT IS
 *   A scheduler that runs very many cheap tasks on all cores by work stealing. A task is an
 *   ordinary C function that may wait anywhere - for another task, a time, a socket - in
 *   straight-line code. While it waits, its thread runs other tasks. What blocks the thread itself
 *   (a file, a foreign library) goes through sch_block_in_place() or sch_spawn_blocking(). No
 *   dependency but libc and threads, no global state: a program may hold several runtimes, and they
 *   share nothing. What it does can be seen while it runs: counters, histograms, a dump of all
 *   tasks, a trace, a watchdog [P11] [P12].
 *
 * A PROGRAM
 *     #define SCHED_IMPLEMENTATION
 *     #include "sched.h"
 *     #include <stdio.h>
 *
 *     static void hello(void *arg) {
 *         printf("task %d on worker %u\n", *(int *)arg, sch_worker_index());
 *     }
 *
 *     int main(void) {
 *         sch_runtime *rt = sch_runtime_new(NULL);
 *         int n[8]; sch_task *task[8];
 *         for (int i = 0; i < 8; i++) { n[i] = i; task[i] = sch_spawn(rt, hello, &n[i]); }
 *         for (int i = 0; i < 8; i++) sch_join(task[i]);
 *         sch_runtime_free(rt);
 *     }
 *
 * BUILD
 *   Copy sched.h into your project and include it as "sched.h" (its folder may also be on -iquote;
 *   -I and -isystem work too). In exactly one C or C++ file define SCHED_IMPLEMENTATION first.
 *     cc -std=c11 -O2 program.c -pthread
 *   C11 or later, C++17 or later; gcc 8+, clang 9+. Linux (glibc, musl), macOS, the BSDs.
 *
 * COMPILE-TIME OPTIONS (define before including; the same in every file)
 *   SCH_STATIC            -          everything static: several independent copies in one program
 *   SCH_API               extern     put before every public declaration (a DLL's export macro)
 *   SCH_ASSERT(c)         assert(c)  what SCH_DEBUG levels call; a broken invariant ends here
 *   SCH_DEBUG             1          0 none, 1 caller's mistakes, 2 invariants, 3 whole structures
 *   SCH_RUNQ_CAP          256        tasks in a core's ring; a power of two
 *   SCH_STACK_SIZE        262144     default bytes of a task's stack; only touched pages count
 *   SCH_CACHELINE         64 / 128   alignment that keeps two owners' data apart
 *   SCH_MAX_WORKERS       1024       upper limit of config.workers
 *   SCH_LIFO_CAP          3          polls in a row of a task just woken, or just spawned, before
 *                                    the queue has its turn
 *   SCH_BUDGET            128        waits that did not have to wait before a task yields by itself
 *   SCH_WAKE_COST_NS      30000      what waking a thread costs the waker, the woken, and in time
 *                                    until it runs; work worth less wakes nobody
 *   SCH_MOVE_COST_NS      150        cost of moving a task to another core; shorter ones stay
 *   SCH_SPIN_ROUNDS       4          rounds of searching before a worker parks
 *   SCH_POOL_SPIN_NS      50000      how long an idle thread of the blocking pool looks for a job
 *                                    before it sleeps, if that has paid of late; 0: not at all
 *   SCH_EVENT_INTERVAL    61         default of config.event_interval
 *   SCH_MAX_BLOCKING      512        default of config.max_blocking_threads
 *   SCH_KEEP_ALIVE_NS     10 s       default of config.keep_alive_ns
 *   SCH_STANDBY_NS        5 ms       default of config.standby_period_ns
 *   SCH_THREAD_STACK_SIZE 1 MiB      default of config.thread_stack_size
 *   SCH_SLAB_SIZE         65536      bytes that task memory grows by; a power of two
 *   SCH_STACK_CACHE       64         free stacks that a core keeps, and that keep their pages
 *   SCH_VALGRIND          -          tell valgrind of task stacks (needs its header)
 *   SCH_NO_ASM            -          no assembly: stacks are switched by ucontext, and sockets and
 *                                    epoll are asked through libc (Linux)
 *   SCH_NO_SYSTEM_SCHED   -          do not pass on to the system's <sched.h>
 *   SCH_PLATFORM_HEADER   -          a file that replaces [2] and [3] whole (docs/porting.md)
 *
 * GUARANTEES
 *   Threads    Unless a function says otherwise it may be called from any thread and any task.
 *   Waiting    sch_join, sch_suspend and sch_yield_now suspend the task that calls them; in a
 *              blocking job they park its thread, and so does sch_join on a plain thread. Poll
 *              functions, hooks and drop functions must not wait: -EPERM.
 *   Spawning   never runs the new task inline, never blocks on a running task.
 *   Fairness   The injector and maintenance get their turn whatever the local tasks do; a task that
 *              never has to wait yields after SCH_BUDGET operations. A task that computes is not
 *              preempted: while a core is free, tasks queued behind it, due timers and ready
 *              descriptors are served elsewhere within two standby periods (5 ms each) and a wake.
 *   Time       Never early; in ticks of 2^20 ns.
 *   Results    A wait that says -ETIMEDOUT or -ECANCELED has taken nothing: no byte is lost.
 *   Memory     All of it comes from config.allocator, task stacks through its page callbacks; the
 *              system adds what its threads and locks take, and the threads' own stacks. Out
 *              of memory is an error to the caller of whatever needed it; nothing is lost or
 *              leaked. A task that cannot get a stack when its turn comes ends with -ENOMEM from
 *              sch_join; a poll task needs none.
 *   Shutdown   Every task ends exactly once, completed or cancelled; its drop runs exactly once.
 *   Errors     0 or a negative errno; pointers are NULL with errno set. In a task read errno
 *              through sch_errno(): the task may have changed threads, and compilers cache errno's
 *              address.
 *   Quiet      Nothing prints, exits or aborts, but SCH_ASSERT on a broken invariant.
 *   Seeing     Nothing in [P11] [P12] stops or delays tasks, but for a look of some microseconds at
 *              one that waits. What is off costs a branch. docs/observe.md shows how to read it.
 *   TLS        A task may continue on another thread after any wait. Do not keep the address of a
 *              thread-local across one, nor hold a pthread mutex, nor call pthread_exit.
 *   Signals    Our threads block all signals but faults (and config.stack_signal, whose handler is
 *              the process's and stays), and a program that a task starts inherits that: set the
 *              mask in the child, or by POSIX_SPAWN_SETSIGMASK. SIGPIPE never shows.
 *              sch_signals_open() makes signals input.
 *   fork       In the child what the parent made answers -EOWNERDEAD; functions without a result do
 *              nothing. The thread that forked is a plain thread there: it may make new runtimes. A
 *              task that returns in the child ends it as exit(0) does. Hooks, drop functions and
 *              what [P11] and [P12] call must not fork. Not noticed after _Fork, vfork or clone:
 *              exec, then.
 *
 * INDEX (search for the tag)
 *   [0]    Pass-through
 *   [P1]   Version, linkage (public)
 *   [P2]   Results (public)
 *   [P3]   Configuration (public)
 *   [P4]   Runtime (public)
 *   [P5]   Tasks (public)
 *   [P6]   Operations (public)
 *   [P7]   Time (public)
 *   [P8]   Blocking (public)
 *   [P9]   Descriptors (public)
 *   [P10]  Embedding (public)
 *   [P11]  Metrics (public)
 *   [P12]  Dump, trace, watchdog (public)
 *   [1]    Compiler, system, asserts (private)
 *   [2]    Atomics (private)
 *   [3]    OS calls (private)
 *   [3.1]  Descriptor calls (private)
 *   [4]    Kit (private)
 *   [5.1]  Run queue (private)
 *   [5.2]  Injector (private)
 *   [5.3]  Idle set (private)
 *   [5.4]  Core slot (private)
 *   [S]    Seams (private)
 *   [6]    Task (private)
 *   [7]    Context switch, stacks (private)
 *   [8]    Timer wheel (private)
 *   [9]    Driver (private)
 *   [10]   Metrics (private)
 *   [11.1] Worker: records, waking (private)
 *   [11.2] Worker: the turn (private)
 *   [11.3] Worker: lending, hand-off (private)
 *   [11.4] Worker: waiting (private)
 *   [11.5] Worker: home, the standby (private)
 *   [12]   Blocking pool (private)
 *   [13]   Runtime, shutdown (private)
 *   [14]   Operations (private)
 *   [14.1] Operations on descriptors (private)
 *   [17.1] Metrics, read (private)
 *   [17.2] Looking at tasks (private)
 *   [17.3] Trace, written (private)
 *   [17.4] Watchdog (private)
 *   [18]   Public functions (private)
 *================================================================================================*/

#if defined(_WIN32) || defined(__wasi__)
#error "sched.h needs POSIX: Linux, macOS or a BSD"
#endif

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

struct iovec;

/*==================================================================================================
 * MARK: - [P1] Version, linkage (public)
 *================================================================================================*/
#define SCH_VERSION_MAJOR 0
#define SCH_VERSION_MINOR 1
#define SCH_VERSION_PATCH 0
#define SCH_VERSION (SCH_VERSION_MAJOR * 10000u + SCH_VERSION_MINOR * 100u + SCH_VERSION_PATCH)

#ifndef SCH_API
#ifdef SCH_STATIC
#if defined(__GNUC__)
#define SCH_API __attribute__((unused)) static
#else
#define SCH_API static
#endif
#else
#define SCH_API extern
#endif
#endif

#if defined(__GNUC__)
#define SCH_NODISCARD __attribute__((warn_unused_result))
#else
#define SCH_NODISCARD
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sch_runtime sch_runtime;
typedef struct sch_task sch_task; /* a reference-counted handle */

typedef void (*sch_fn)(void *arg);

/*==================================================================================================
 * MARK: - [P2] Results (public)
 *================================================================================================*/

/* Times are nanoseconds. SCH_FOREVER as a time-out means no limit. */
#define SCH_MICROSECOND UINT64_C(1000)
#define SCH_MILLISECOND UINT64_C(1000000)
#define SCH_SECOND UINT64_C(1000000000)
#define SCH_FOREVER UINT64_MAX

/* A sentence about a result of this library.
 *   error    0 or a negative errno as returned here; a positive errno is taken as well.
 * Returns  a constant string that says what it means here, or what the common errors of sockets and
 *          files mean; never NULL.
 */
SCH_API const char *sch_strerror(int error);

/* The calling thread's errno, safe in a task.
 *   A compiler may keep errno's address across a call in which the task moved to another thread;
 *   this function is never inlined, so it always reads the current thread's.
 */
SCH_API int sch_errno(void);

/*==================================================================================================
 * MARK: - [P3] Configuration (public)
 *================================================================================================*/

typedef enum sch_flavor {
    SCH_MULTI_THREAD = 0, /* worker threads run the tasks */
    SCH_CURRENT_THREAD    /* tasks run on threads that wait in sch_block_on, sch_join, shutdown */
} sch_flavor;

/* Where all memory comes from. All zero: malloc and anonymous mappings.
 *   alloc      returns `size` bytes aligned to `align` (a power of two), or NULL.
 *   free       gets back the same size and align.
 *   map_pages  returns `size` bytes (whole pages, page-aligned) for task stacks, or NULL; untouched
 *              pages should cost nothing. NULL while alloc is set: stacks come from alloc.
 *   unmap_pages gets back the same size.
 *   Threads  called from any thread, also from two at once.
 */
typedef struct sch_allocator {
    void *(*alloc)(size_t size, size_t align, void *user);
    void (*free)(void *memory, size_t size, size_t align, void *user);
    void *(*map_pages)(size_t size, void *user);
    void (*unmap_pages)(void *memory, size_t size, void *user);
    void *user;
} sch_allocator;

/* Callbacks, each may be NULL. They must not wait (-EPERM) and must not free the runtime; spawning,
 * waking and cancelling are allowed. Start/stop and park/unpark are always balanced.
 *   thread   a number that no other thread of this runtime has at the same time.
 */
typedef struct sch_hooks {
    void (*on_thread_start)(void *user, unsigned thread);   /* a worker or blocking thread began */
    void (*on_thread_stop)(void *user, unsigned thread);    /* it is about to end */
    void (*on_thread_park)(void *user, unsigned thread);    /* one that runs tasks goes to sleep */
    void (*on_thread_unpark)(void *user, unsigned thread);  /* it is awake again */
    void (*on_task_spawn)(void *user, sch_task *task);      /* on the spawner, not queued yet */
    void (*on_task_poll_start)(void *user, sch_task *task); /* it is given a thread */
    void (*on_task_poll_end)(void *user, sch_task *task);  /* it waits (not a job), yields, ended */
    void (*on_task_terminate)(void *user, sch_task *task);  /* its drop ran; before joins return */
    void *user;
} sch_hooks;

/* Takes a piece of text; it may wait if the caller may. Anything but 0 ends the writing, and what
 * writes returns it. */
typedef int (*sch_write_fn)(const char *text, size_t length, void *user);

struct sch_stall;

/* Settings of a runtime. All zero means the defaults: sch_config config = {0}; (C++: {}). */
typedef struct sch_config {
    uint32_t canary_begin; /* leave 0; catches a config left uninitialised */
    sch_flavor flavor;     /* who runs the tasks (default: SCH_MULTI_THREAD) */
    unsigned workers;      /* cores = threads that run tasks at once (default: CPUs we may use by
                              affinity and cgroup quota); 1 for SCH_CURRENT_THREAD */
    unsigned max_blocking_threads;  /* threads for blocking jobs, at most 65535; and calls of
                                       sch_block_in_place at once, not counting one for each core
                                       (default: 512) */
    uint64_t keep_alive_ns;         /* idle blocking threads, and spare workers, end (def.: 10 s) */
    size_t stack_size;              /* of a task's stack: 16 KiB to 1 GiB (default: 256 KiB) */
    unsigned global_queue_interval; /* local polls between looks at the injector, at most 65535
                                       (default: self-tuned to about 200 us) */
    unsigned event_interval;        /* ticks between maintenance, at most 65535 (default: 61, and
                                       four times that while polls take less than 150 ns) */
    bool no_lifo;              /* true: a woken task always goes to the back of the queue, and a
                                  new one waits there for its turn */
    bool no_io;                /* true: no descriptors (sch_io_open: -ENOTSUP) */
    uint64_t seed;             /* of every random choice (default: the system's) */
    const char *thread_name;   /* threads are named "<this>-<n>", cut to 15 (default: "sch") */
    sch_allocator allocator;
    sch_hooks hooks;
    bool no_standby;           /* true: queued work behind a long poll is not rescued */
    bool paused_clock;         /* true: time stands still while anything runs, and jumps to the next
                                  timer when nothing does; for tests of programs that wait */
    bool pin_workers;          /* true: thread i runs only on cpus[i % num_cpus] */
    const unsigned *cpus;      /* CPU numbers for pin_workers (default: those we may run on) */
    size_t num_cpus;           /* entries of cpus */
    uint64_t standby_period_ns; /* 100 us to 10 s (default: 5 ms) */
    size_t thread_stack_size;  /* bytes of the threads' own stacks, 64 KiB to 1 GiB (default:
                                  1 MiB); pooled task stacks are apart */
    bool task_times;           /* true: each task knows when it was spawned, queued, begun and let
                                  go, at 32 bytes, and three looks at the clock a poll; for the
                                  histograms and exact times in dumps [P12] */
    unsigned histogram_bits;   /* buckets are within 2^-bits of their values, 1 to 6 (default: 3) */
    size_t trace_events;       /* that a core's trace keeps, up to 2^26 (default: 16384) */
    uint64_t stall_ns;         /* a poll that lasts longer is reported to on_stall; 1 ms to 1 h;
                                  0: never. This and dump_signal start a thread that looks */
    void (*on_stall)(const struct sch_stall *stall, void *user); /* see sch_stall */
    int dump_signal;           /* the signal at which dump_write gets a sch_dump(); blocked in the
                                  thread that makes the runtime, as by sch_signals_open; 0: none */
    sch_write_fn dump_write;   /* on the watchdog's thread, as on_stall */
    int stack_signal;          /* a signal that nobody else uses, by which a thread is asked for the
                                  stack of a poll that stalls: on the task's own stack, and a call
                                  like nanosleep() there ends with EINTR; 0: no such backtraces */
    void *watch_user;          /* for on_stall and dump_write */
    uint32_t canary_end;       /* leave 0 */
} sch_config;

/* The first field of a configuration that cannot be used.
 *   config   may be NULL.
 * Returns  the field's name, a constant string; NULL if all are good.
 */
SCH_API const char *sch_config_error(const sch_config *config);

/*==================================================================================================
 * MARK: - [P4] Runtime (public)
 *================================================================================================*/

/* What sch_runtime_new calls, with the caller's idea of the structure and the version. */
SCH_API sch_runtime *sch_runtime_new_sized(const sch_config *config, size_t size, unsigned version);

/* Start a runtime and its workers.
 *   config   settings; NULL or all zero means every default. Copied.
 * Returns  the runtime; NULL with errno
 *            EINVAL   a setting is out of range: sch_config_error(config) names it. Or a worker
 *                     could not be bound to its CPU; or the header differs from the one that was
 *                     compiled with SCHED_IMPLEMENTATION.
 *            ENOTSUP  pin_workers or dump_signal on a system that cannot
 *            ENOMEM, EMFILE, ENFILE   the system's own
 *            EAGAIN   not one thread could be made, or none for the watchdog. If some can be made
 *                     and others not, the runtime starts with fewer workers: see sch_num_workers().
 *            EBUSY    stack_signal is handled by somebody else
 * Threads  any thread or task.    Blocks  until every worker has started.
 * Pairs    sch_runtime_free().
 */
static inline sch_runtime *sch_runtime_new(const sch_config *config) {
    return sch_runtime_new_sized(config, sizeof(sch_config), SCH_VERSION);
}

/* Stop: cancel every task, wait until all of them have ended, end all threads.
 *   Tasks that never started are dropped, poll tasks are polled no more and dropped, all others are
 *   resumed with -ECANCELED from their wait (once a shield ends) and run to their end. Blocking
 *   jobs that have not started are dropped. Spawning fails with ESHUTDOWN from the first moment.
 *   timeout  nanoseconds; 0 looks and returns at once, SCH_FOREVER has no limit.
 * Returns  0        everything has ended (also if an earlier call did it)
 *          -ETIMEDOUT   something still runs: sch_stragglers() names it. Call again to wait on.
 *          -EINPROGRESS called from a task or blocking job of this runtime, or from a hook or drop
 *                       function of any: shutdown has begun, the rest needs a call from outside
 *          -EINVAL  rt is NULL or not a runtime
 *          -EAGAIN, -ENOMEM  SCH_CURRENT_THREAD: as for sch_block_on
 * Threads  any; several may wait at once. In SCH_CURRENT_THREAD the caller runs the tasks.
 */
SCH_API int sch_runtime_shutdown(sch_runtime *rt, uint64_t timeout);

/* Shut down without a limit of time, then free the runtime.
 *   rt       NULL does nothing. Handles of its tasks stay valid and must still be released.
 * Threads  any thread outside of this runtime; called from inside it, or from a hook or drop
 *          function of any, it only begins the shutdown, and must be called again from outside.
 */
SCH_API void sch_runtime_free(sch_runtime *rt);

/* A task that keeps sch_runtime_shutdown() from finishing. */
typedef struct sch_straggler {
    const char *name; /* from its descriptor; "" without one */
    const char *file; /* where it was spawned, or "" */
    unsigned line;
    unsigned
        worker; /* the core it runs on, UINT_MAX if none (it waits, or sits in blocking code) */
} sch_straggler;

/* The tasks that are alive now, for the message after -ETIMEDOUT.
 *   out      receives at most max of them; may be NULL if max is 0.
 * Returns  how many there are, which may be more than max; 0 if rt is NULL.
 * Threads  any. A picture, not a lock: tasks may end meanwhile.
 */
SCH_API size_t sch_stragglers(const sch_runtime *rt, sch_straggler *out, size_t max);

/* Run a function on the calling thread, inside the runtime: rt may be NULL in what it calls.
 *   In SCH_CURRENT_THREAD its waits run the runtime's tasks on this thread; in SCH_MULTI_THREAD
 *   they park the thread. Within a task or block_on of the same runtime, fn is simply called.
 * Returns  0; -EINVAL bad argument; -ESHUTDOWN the runtime is shut down (fn did not run);
 *          -EDEADLK called in a task of another runtime outside of sch_block_in_place (it would
 *          block that runtime's worker); -EPERM in a hook or drop function; -EAGAIN more
 *          than 64 threads are inside at once; -ENOMEM.
 */
SCH_API int sch_block_on(sch_runtime *rt, sch_fn fn, void *arg);

/* How many cores, that is tasks that can run at the same time; 0 if rt is NULL. Threads: any. */
SCH_API size_t sch_num_workers(const sch_runtime *rt);

/*==================================================================================================
 * MARK: - [P5] Tasks (public)
 *================================================================================================*/

/* What is the same for many tasks. The structure and its strings must outlive every task that was
 * spawned with it, and every dump, watchdog or trace that saw one, so make it static const. All
 * zero is valid. */
typedef struct sch_spawn_desc {
    const char *name;        /* for sch_stragglers and tools */
    const char *file;        /* where it is spawned: SCH_HERE fills in these two */
    unsigned line;
    size_t stack_size; /* bytes, 16 KiB to 1 GiB; 0: the runtime's. Poll tasks, jobs: ignored */
    void (*drop)(void *arg); /* called exactly once, when the task has ended however it ended, or if
                                the spawn fails; gets arg, or the poll task's state (if the spawn
                                fails, the caller's). Must not wait */
} sch_spawn_desc;

#define SCH_HERE __FILE__, __LINE__

/* Start a task that runs fn(arg). It may wait anywhere.
 *   rt       NULL: the runtime that the caller is in.
 * Returns  its handle, to be given to sch_join, sch_detach or sch_release; NULL with errno
 *            EINVAL (fn is NULL; rt is NULL outside of a runtime; rt is no runtime), ENOMEM,
 *            ESHUTDOWN.
 * Source   Order of queues after Go's scheduler (Vyukov, "Scalable Go Scheduler Design", 2012) and
 *          Tokio's. A spawned task goes to the back of the local queue, a woken one to the LIFO
 *          slot. If a task with a stack spawned just one since it last waited, and waits, that one
 *          may come next.
 */
SCH_API SCH_NODISCARD sch_task *sch_spawn(sch_runtime *rt, sch_fn fn, void *arg);

/* The same with a descriptor (NULL: none). EINVAL also for a stack size out of range. */
SCH_API SCH_NODISCARD sch_task *sch_spawn_with(sch_runtime *rt, const sch_spawn_desc *desc,
                                               sch_fn fn, void *arg);

/* Spawn and detach. Returns 0 or the negative errno of sch_spawn. The cheapest way to start one. */
SCH_API int sch_go(sch_runtime *rt, sch_fn fn, void *arg);
SCH_API int sch_go_with(sch_runtime *rt, const sch_spawn_desc *desc, sch_fn fn, void *arg);

typedef enum sch_status { SCH_PENDING = 0, SCH_READY = 1 } sch_status;
typedef sch_status (*sch_poll_fn)(sch_task *self, void *state);

#define SCH_TASK_STATE_MAX 4032u /* bytes of state in a poll task; larger: keep a pointer there */

/* Start a task without a stack: poll is called first soon, then after each wake, until it returns
 * SCH_READY. It must not wait. To be polled again it keeps self (sch_retain) for whoever will call
 * sch_wake, or calls sch_yield_now() before it returns SCH_PENDING.
 *   state    size bytes, copied in, aligned as for any type up to 16 bytes; NULL: zeroed. size may
 *            be 0, at most SCH_TASK_STATE_MAX; 32 less with config.task_times.
 * Returns  as sch_spawn. A waiting poll task takes 64 bytes and its state, rounded up to 64, 80,
 *          96, 128, 192, 256, 384, 512, 1024, 2048 or 4096.
 */
SCH_API SCH_NODISCARD sch_task *sch_spawn_poll(sch_runtime *rt, sch_poll_fn poll, const void *state,
                                               size_t size);
SCH_API SCH_NODISCARD sch_task *sch_spawn_poll_with(sch_runtime *rt, const sch_spawn_desc *desc,
                                                    sch_poll_fn poll, const void *state,
                                                    size_t size);

/* A poll task's state; NULL for other tasks. Valid while the handle is held. */
SCH_API void *sch_task_state(sch_task *task);

/* The name of a task's descriptor, "" if it has none. */
SCH_API const char *sch_task_name(const sch_task *task);

/* A number that no other task of its runtime has or had; 0 for NULL. Dumps and traces name it. */
SCH_API uint64_t sch_task_id(const sch_task *task);

/* Wait until a task has ended, then release the handle.
 * Returns  0        it completed; handle released
 *          -ECANCELED   it ended by cancellation: it never started, was dropped, or one of its
 *                   waits told it so; handle released
 *          -ENOMEM  there was no memory for its stack (a blocking job: no thread could be made
 *                   after all); it never ran; handle released
 *        The handle is still yours after
 *          -EINTR   you were cancelled while waiting
 *          -EDEADLK the task is yourself
 *          -EBUSY   somebody else joins it already;  -EINVAL  NULL, or joined before
 *          -EPERM   in a poll task, hook or drop function, if it would have to wait
 *          -EAGAIN  a plain thread cannot wait: out of memory, or more than 64 visitors at once
 * Threads  any. A plain thread parks; for a SCH_CURRENT_THREAD runtime, which must then outlive the
 *          call, it runs the tasks meanwhile.
 */
SCH_API int sch_join(sch_task *task);

/* Release the handle, the task goes on. NULL does nothing. */
SCH_API void sch_detach(sch_task *task);

/* One more reference to a task, and one less. Every reference must be released, joined or detached;
 * the runtime may be freed before. Returns task; NULL for NULL. */
SCH_API sch_task *sch_retain(sch_task *task);
SCH_API void sch_release(sch_task *task);

/* Ask a task to end. If it has not started it never will; a wait returns -ECANCELED, now and later
 * (sticky), unless the wait's result is there or a shield is up; a poll task is polled, and may ask
 * sch_cancelled(). A task that does not wait and does not ask runs on.
 * Returns  0, also if it was asked before; -EINVAL for NULL; -ESRCH it has ended.
 * Threads  any.
 */
SCH_API int sch_cancel(sch_task *task);

/* Has it ended? Threads: any. NULL: true. */
SCH_API bool sch_is_done(const sch_task *task);

/* The running task, borrowed: valid while it runs, sch_retain() keeps it. NULL outside a task. */
SCH_API sch_task *sch_self(void);

/* Let others run. In a poll task: be polled again after others, once it returns SCH_PENDING.
 * Returns  0; -EPERM in a hook or drop function. On a plain thread it yields to other threads.
 */
SCH_API int sch_yield_now(void);

/* Wait for sch_wake() on this task. A wake that came before counts; several count as one.
 * Returns  0; -ECANCELED; -EPERM outside of a task, in a poll task, hook or drop function.
 */
SCH_API int sch_suspend(void);

/* Wake a task that waits in sch_suspend, or have a poll task polled. A wake while it runs counts
 * for its next sch_suspend or poll; after its end it does nothing. Never cuts another kind of wait
 * short.
 *   task     a handle that is held; NULL does nothing.
 * Threads  any thread. sch_wake_signal: also in a signal handler (async-signal-safe on Linux; on
 *          other systems only for tasks that are no blocking jobs, and only where kqueue exists).
 */
SCH_API void sch_wake(sch_task *task);
SCH_API void sch_wake_signal(sch_task *task);

/* Make waits ordinary although the task was cancelled, for clean-up that has to wait. They nest.
 *   deadline a time of sch_now(), or SCH_FOREVER: from then on waits are refused again, and one
 *            that is under way ends with -ECANCELED. Of nested shields the latest counts.
 * Returns  0; -EPERM outside of a task or in a poll task.
 */
SCH_API int sch_shield_begin(uint64_t deadline);
SCH_API void sch_shield_end(void);

/* Was the running task asked to end, and is no shield up? false outside of a task. */
SCH_API bool sch_cancelled(void);

/* The index of the core that runs the caller; it may change across a wait. UINT_MAX without a core:
 * on plain threads, in sch_block_on, in blocking jobs and inside sch_block_in_place (but in
 * SCH_CURRENT_THREAD that only calls). */
SCH_API unsigned sch_worker_index(void);

/*==================================================================================================
 * MARK: - [P6] Operations (public)
 *   An operation is something that will be ready: a time, a task's end, your own. One way to wait
 *   serves all of them, in tasks, blocking jobs, on plain threads and in sch_block_on; poll tasks
 *   use SCH_AWAIT. It lives in the caller's frame (or a poll task's state) and allocates nothing.
 *================================================================================================*/
typedef struct sch_op sch_op;

typedef enum sch_op_revoked {
    SCH_OP_REMOVED, /* it will not be completed: nobody knows of it any more */
    SCH_OP_DONE,    /* sch_op_complete has returned: the result stands */
    SCH_OP_BUSY     /* it is being completed, or will be: wait for that */
} sch_op_revoked;

/* What an operation of your own does. To wrap a library that calls back from its own thread: poll
 * starts the request, the callback calls sch_op_complete, cancel asks the library to forget it.
 *   poll    begins. SCH_READY: op->result is set, nothing else will happen. SCH_PENDING: somebody
 *           calls sch_op_complete or sch_op_retry once, from any thread, even before poll returns.
 *   cancel  called only while pending, by the waiter. SCH_OP_REMOVED: neither has been called nor
 *           will be. SCH_OP_BUSY: one of them is being called or will be (or was: right then too);
 *           the waiter waits for it, and so it must come soon. The result then stands.
 *   Neither waits, not even in sch_block_in_place() for a thread: that says -EAGAIN then. Both are
 *   called by the task or thread that waits.
 */
typedef struct sch_op_type {
    sch_status (*poll)(sch_op *op);
    sch_op_revoked (*cancel)(sch_op *op);
    const char *name; /* for sch_dump; may be NULL */
} sch_op_type;

/* An operation. Set type, zero the rest; may be used again when it is done. Put it first in a
 * struct of your own for what poll and cancel need. */
struct sch_op {
    const sch_op_type *type;
    int64_t result;       /* when it is done: 0 or more, or a negative errno */
    struct sch_op *link;  /* private: operations of a poll task */
    void *waiter;         /* private */
    uint32_t state;       /* private */
    bool in_poll_task;    /* private */
    uint8_t kind;         /* private */
    uint16_t wheel;       /* private: of a timer */
};

/* Wait until the operation is done.
 * Returns  its result; or -ECANCELED: the task was cancelled and op would have had to wait. It is
 *          not pending then. A result is never lost: an operation that can complete, completes.
 *          -EPERM in a poll task, hook or drop function; -EINVAL; -EAGAIN, -ENOMEM: a plain thread
 *          cannot wait.
 * Threads  any.
 */
SCH_API int64_t sch_await(sch_op *op);

/* The same until a time of sch_now(): -ETIMEDOUT if it is not done by then. SCH_FOREVER: no limit;
 * a time that has passed: only what is ready at once. */
SCH_API int64_t sch_await_until(sch_op *op, uint64_t deadline);

/* Wait until one of n operations is done, up to a time.
 * Returns  the index of the first that is; the others are not pending, but some may be done, too:
 *          sch_op_is_done() tells, and their results stand. Else as sch_await_until.
 */
SCH_API int sch_await_any(sch_op *const *ops, size_t n, uint64_t deadline);

/* Has it completed since it was last awaited? For the operations of sch_await_any. */
SCH_API bool sch_op_is_done(const sch_op *op);

/* It is done with this result; or: it should be polled again. The operation may be gone when the
 * call returns. Exactly one of the two, once for each poll that returned SCH_PENDING.
 * Threads  any; not async-signal-safe.
 */
SCH_API void sch_op_complete(sch_op *op, int64_t result);
SCH_API void sch_op_retry(sch_op *op);

/* In a poll function: is it done? SCH_PENDING: the task is polled again when it is. After a cancel
 * SCH_READY with -ECANCELED, unless it was done. The operation lives in the task's state; pending
 * ones are revoked if the task is dropped. SCH_AWAIT below puts it in a line of its own.
 */
SCH_API sch_status sch_op_poll(sch_op *op);

/* A poll function that reads from top to bottom. What must survive a wait belongs in the state.
 *     static sch_status greet(sch_task *self, void *state) {
 *         greeting *g = state;
 *         SCH_BEGIN(g->line);
 *         g->op = sch_sleep_op(SCH_SECOND);
 *         SCH_AWAIT(g->line, &g->op.op);
 *         puts("hello");
 *         SCH_END();
 *     }
 *   line  an unsigned of the state, 0 at first. Not inside a switch of your own. */
#define SCH_BEGIN(line) \
    switch (line) { \
    case 0:
#define SCH_AWAIT(line, op) \
    do { \
        (line) = __LINE__; /* fallthrough */ \
    case __LINE__: \
        if (sch_op_poll(op) == SCH_PENDING) return SCH_PENDING; \
    } while (0)
#define SCH_END() \
    } \
    return SCH_READY

/*==================================================================================================
 * MARK: - [P7] Time (public)
 *================================================================================================*/

/* Nanoseconds of the monotonic clock; in a task of a runtime with paused_clock, of that. */
SCH_API uint64_t sch_now(void);

/* Wait this long; not shorter, and on an idle machine about a millisecond longer at most.
 * Returns  0; -ECANCELED; the errors of sch_await.
 */
SCH_API int sch_sleep(uint64_t ns);
SCH_API int sch_sleep_until(uint64_t time);

/* The same as an operation, for sch_await_any and SCH_AWAIT: its result is 0. */
typedef struct sch_timer {
    sch_op op;
    uint64_t until;        /* sch_now() */
    int64_t *armed;        /* private */
} sch_timer;

SCH_API sch_timer sch_timer_after(uint64_t ns);
SCH_API sch_timer sch_timer_at(uint64_t time);

/* At most this long for an operation: sch_await_until(op, now + ns). */
SCH_API int64_t sch_timeout(sch_op *op, uint64_t ns);

/* What an interval does when a tick was missed: */
typedef enum sch_missed {
    SCH_BURST = 0, /* the missed ones follow at once, until it has caught up */
    SCH_DELAY,     /* the next is a period after the late one */
    SCH_SKIP       /* the next is the first in the future that is a multiple of the period */
} sch_missed;

typedef struct sch_interval {
    uint64_t period; /* nanoseconds, not 0 */
    uint64_t next;   /* when the next tick is due; 0: now */
    sch_missed missed;
} sch_interval;

/* Wait for the next tick; the first is at once, or at interval.next if that is set.
 * Returns  0; -ECANCELED (the tick is not lost); -EINVAL; the errors of sch_await. */
SCH_API int sch_interval_wait(sch_interval *interval);

/*==================================================================================================
 * MARK: - [P8] Blocking (public)
 *================================================================================================*/

/* Run fn(arg) here although it may block the thread: the core goes on with other tasks meanwhile.
 *   A short call with nothing queued only lends the core and costs some nanoseconds. Inside fn
 *   there is no core, but everything may be called, waits included; nested calls just call fn. In a
 *   poll task too, but not waits. Outside of a worker's task fn is simply called.
 * Returns  0; -EINVAL fn is NULL; -EPERM in a hook or drop function;
 *          -EAGAIN no thread could be made to take the worker's place: fn did not run.
 *          With max_blocking_threads calls under way, and one for each core, it waits for an end
 *          (a poll task, which cannot wait, gets -EAGAIN; so does a call of an operation's).
 * Source   Core hand-off after Go's entersyscall/handoffp and Tokio's block_in_place.
 */
SCH_API int sch_block_in_place(sch_fn fn, void *arg);

/* Run fn(arg) on a thread of the blocking pool. It is a task: sch_self, sch_join and sch_cancel
 * work (before it starts, and in its waits); its waits park the thread.
 * Returns  as sch_spawn; EAGAIN if the pool has no thread and none can be made.
 */
SCH_API SCH_NODISCARD sch_task *sch_spawn_blocking(sch_runtime *rt, sch_fn fn, void *arg);
SCH_API SCH_NODISCARD sch_task *sch_spawn_blocking_with(sch_runtime *rt, const sch_spawn_desc *desc,
                                                        sch_fn fn, void *arg);

/*==================================================================================================
 * MARK: - [P9] Descriptors (public)
 *   Sockets, pipes, terminals and whatever else epoll or kqueue can watch. A call does what it can
 *   at once, and else waits until it can; nothing polls in between. Any number of tasks and threads
 *   may use one descriptor at the same time, reads and writes are apart. EINTR never shows, SIGPIPE
 *   is never raised.
 *   Regular files (and what else cannot be watched, such as /dev/null) are always ready for the
 *   system, but may make it wait for a disk: their reads and writes run as in
 *   sch_block_in_place(), so that other tasks go on.
 *================================================================================================*/

/* Names a descriptor that was given to the runtime. Copies name the same one, in any thread; after
 * its close (by whichever copy) they name nothing (-EBADF). {0} names nothing. Not to be used after
 * the runtime has been freed. */
typedef struct sch_io {
    void *record;        /* private */
    uint64_t generation; /* private */
} sch_io;

/* Give a descriptor to a runtime: it becomes non-blocking (so does every other descriptor of the
 * same open file: a shell's, if it is its standard input), and sch_io_close() closes it.
 *   rt       NULL: the current one. The first descriptor of a runtime starts its driver.
 * Returns  0; on error fd stays the caller's: -EBADF, -EINVAL; -EEXIST it was given before and not
 *          closed by sch_io_close();
 *          -ENOTSUP config.no_io, or a system without a driver; -ENOMEM, -EMFILE, -ENFILE,
 *          -ENOSPC: the system's limits.
 */
SCH_API int sch_io_open(sch_io *io, sch_runtime *rt, int fd);

/* Close it. Who waits for it gets -ECANCELED (also a plain thread when the runtime has shut down),
 * later calls -EBADF. The descriptor itself is closed, and its number free, when the last call that
 * is under way has left.
 * Returns  0; -EBADF. What was not closed is when the runtime is freed. */
SCH_API int sch_io_close(sch_io *io);

/* The descriptor itself, for setsockopt() and the like, until it is closed; or -EBADF. */
SCH_API int sch_io_fd(const sch_io *io);

/* shutdown(2): SHUT_RD, SHUT_WR, SHUT_RDWR. Returns 0 or a negative errno. */
SCH_API int sch_io_shutdown(sch_io *io, int how);

/* As read(2), write(2), readv(2) and writev(2): a write may be partial.
 * Returns  bytes, 0 at the end of the input; -ECANCELED the task was cancelled and would have to
 *          wait, or the descriptor was closed meanwhile; -EBADF; the system's errors; the errors of
 *          sch_await() if it has to wait. What was read or written is always told. */
SCH_API ssize_t sch_read(sch_io *io, void *buf, size_t len);
SCH_API ssize_t sch_write(sch_io *io, const void *buf, size_t len);
SCH_API ssize_t sch_readv(sch_io *io, const struct iovec *parts, int n);
SCH_API ssize_t sch_writev(sch_io *io, const struct iovec *parts, int n);

/* Write all of it; the second not longer than up to a time: -ETIMEDOUT. Returns 0 or a negative
 * errno; *written (unless NULL) says how much it was. */
SCH_API int sch_write_all(sch_io *io, const void *buf, size_t len, size_t *written);
SCH_API int sch_write_all_until(sch_io *io, const void *buf, size_t len, uint64_t deadline,
                                size_t *written);

/* As recvfrom(2) and sendto(2); from, from_len and to may be NULL. */
SCH_API ssize_t sch_recvfrom(sch_io *io, void *buf, size_t len, int flags, struct sockaddr *from,
                             socklen_t *from_len);
SCH_API ssize_t sch_sendto(sch_io *io, const void *buf, size_t len, int flags,
                           const struct sockaddr *to, socklen_t to_len);

/* A stream socket that is bound to an address and listens, TCP (SO_REUSEADDR) or UNIX; port 0: any,
 * see sch_io_fd() and getsockname(). backlog 0: as many as the system allows.
 * Returns  0; -EADDRINUSE and so on; the errors of sch_io_open(), and then nothing is open. */
SCH_API int sch_listen(sch_io *out, sch_runtime *rt, const struct sockaddr *addr, socklen_t len,
                       int backlog);

/* Take the next connection of a listening socket; it belongs to the listener's runtime and is
 * closed on exec.
 * Returns  0; as sch_read(); -EMFILE, -ENFILE, -ENOBUFS, -ENOMEM, -ENOSPC after a pause of 10 ms,
 *          so that a loop that tries again does not spin: the connection still waits. Connections
 *          that were aborted in the queue are passed over. */
SCH_API int sch_accept(sch_io *listener, sch_io *out);

/* Connect a new stream socket of the address's family, TCP or UNIX.
 * Returns  0; -ECONNREFUSED, -ETIMEDOUT and so on; -ECANCELED; the errors of sch_io_open(). Unless
 *          it is 0 nothing is open. */
SCH_API int sch_connect(sch_io *out, sch_runtime *rt, const struct sockaddr *addr, socklen_t len);

/* The same in two steps, for a time limit or a choice: start, await sch_connect_op(), and close the
 * socket if that fails. Returns 0, or a negative errno and nothing is open. */
SCH_API int sch_connect_start(sch_io *out, sch_runtime *rt, const struct sockaddr *addr,
                              socklen_t len);

/* Wait until a read (write, out-of-band read) would not have to, or fails. Returns 0 or as
 * sch_read(). What is ready may be gone when it is looked for, if others use the descriptor. */
enum { SCH_IO_READABLE = 1, SCH_IO_WRITABLE = 2, SCH_IO_PRIORITY = 4 };
SCH_API int sch_readable(sch_io *io);
SCH_API int sch_writable(sch_io *io);
SCH_API int sch_priority(sch_io *io); /* kqueue: -ENOTSUP */

/* Signals as input: each read of one takes a signal that has come.
 *   open     blocks the signals in the calling thread. A runtime's threads have them blocked; call
 *            it before you make threads of your own, or those get the signal the usual way.
 *   wait     returns the number of the next signal, or a negative errno. */
SCH_API int sch_signals_open(sch_io *io, sch_runtime *rt, const int *signals, size_t n);
SCH_API int sch_signal_wait(sch_io *io);

/* A child process: wait for its end and reap it.
 *   wait     returns 0 and the status as waitpid(2) gives it; status may be NULL. -ECHILD: it is
 *            not ours, or was reaped by somebody else.
 *   open     -ENOSYS: Linux before 5.3. */
SCH_API int sch_child_open(sch_io *io, sch_runtime *rt, pid_t pid);
SCH_API int sch_child_wait(sch_io *io, int *status);

/* The same as operations, for sch_await_any(), sch_timeout() and SCH_AWAIT. The result is what the
 * call above returns. An operation that was not done has taken nothing: no byte and no connection
 * is lost. sch_io and buffers must stay while it is awaited. */
typedef struct sch_io_call {
    struct sch_io_op *next, *prev;
    void *buffer, *address, *address_len;
    size_t length;
    uint32_t kind, flags, more, want;
    bool linked, waited;
} sch_io_call;

typedef struct sch_io_op {
    sch_op op;
    sch_io io;
    sch_io_call call; /* private */
} sch_io_op;

SCH_API sch_io_op sch_read_op(const sch_io *io, void *buf, size_t len);
SCH_API sch_io_op sch_write_op(const sch_io *io, const void *buf, size_t len);
SCH_API sch_io_op sch_recvfrom_op(const sch_io *io, void *buf, size_t len, int flags,
                                  struct sockaddr *from, socklen_t *from_len);
SCH_API sch_io_op sch_sendto_op(const sch_io *io, const void *buf, size_t len, int flags,
                                const struct sockaddr *to, socklen_t to_len);
SCH_API sch_io_op sch_accept_op(const sch_io *listener, sch_io *out); /* without the pause */
SCH_API sch_io_op sch_connect_op(const sch_io *io);
SCH_API sch_io_op sch_ready_op(const sch_io *io, unsigned bits); /* any of SCH_IO_READABLE, ... */
SCH_API sch_io_op sch_signal_op(const sch_io *io);
SCH_API sch_io_op sch_child_op(const sch_io *io, int *status);

/*==================================================================================================
 * MARK: - [P10] Embedding (public)
 *   A SCH_CURRENT_THREAD runtime inside somebody's own loop: a game's frame, a GUI, libuv. Watch
 *   sch_poll_fd() for reading, wake at sch_next_deadline(), and then call sch_run_some().
 *================================================================================================*/

/* Run what is ready, for about this long: the budget is looked at between tasks. 0: one round.
 * Returns  1: there is more to do at once; 0: nothing until the descriptor is readable or the
 *          deadline has come; -EINVAL not a SCH_CURRENT_THREAD runtime; -EBUSY another thread runs
 *          its tasks at the moment; -EDEADLK called in one of its tasks; -EPERM in a hook or drop
 *          function; -EAGAIN, -ENOMEM as sch_block_on(). */
SCH_API int sch_run_some(sch_runtime *rt, uint64_t budget_ns);

/* A descriptor that is readable when there is something to run that is not a timer; now and then it
 * is so for nothing. Only to be watched.
 * Returns  it, or a negative errno: -EINVAL; -ENOTSUP as sch_io_open(), the system's. */
SCH_API int sch_poll_fd(sch_runtime *rt);

/* When the first timer is due (sch_now()); 0: now, there is work queued; SCH_FOREVER: none. */
SCH_API uint64_t sch_next_deadline(sch_runtime *rt);

/*==================================================================================================
 * MARK: - [P11] Metrics (public)
 *   Counters are written by the owner with plain stores and read by anybody at any time, without
 *   stopping anyone; a reader may see some of them a moment earlier than others. They never go
 *   back. busy_ns and mean_poll_ns lag by a batch: the polls between two maintenances.
 *================================================================================================*/

/* What a task can wait for, to count the waits that really had to wait. */
typedef enum sch_wait_kind {
    SCH_WAIT_YIELD = 0, /* sch_yield_now, and a budget that was used up */
    SCH_WAIT_SUSPEND,   /* sch_suspend */
    SCH_WAIT_JOIN,      /* sch_join */
    SCH_WAIT_TIMER,     /* sch_sleep, intervals, a sch_timer */
    SCH_WAIT_READ,      /* descriptors: read, recvfrom, readable, priority */
    SCH_WAIT_WRITE,     /* write, sendto, writable */
    SCH_WAIT_ACCEPT,
    SCH_WAIT_CONNECT,
    SCH_WAIT_SIGNAL,
    SCH_WAIT_CHILD,
    SCH_WAIT_OPERATION, /* operations of your own, and several at once */
    SCH_WAIT_PLACE,     /* for a thread to be free for sch_block_in_place */
    SCH_WAIT_POLL_TASK, /* a poll task that returned SCH_PENDING */
    SCH_WAIT_KINDS
} sch_wait_kind;

/* "yield", "suspend", ...; "" if there is no such kind. */
SCH_API const char *sch_wait_name(sch_wait_kind kind);

/* One core. It is named worker here, as everywhere in the field; see sch_worker_index(). */
typedef struct sch_worker_metrics_snapshot {
    uint64_t thread;            /* number of the thread that holds the core (hooks: thread);
                                   UINT64_MAX while none does */
    uint64_t poll_count;        /* times a task was given the core, those from the LIFO slot too */
    uint64_t lifo_poll_count;   /* of these, from the LIFO slot */
    uint64_t child_poll_count;  /* of these, the only child of the one before, which waits: taken
                                   from the end of the queue */
    uint64_t lifo_schedule_count; /* tasks put into the LIFO slot */
    uint64_t lifo_capped_count; /* times the LIFO slot had to give way to the queue */
    uint64_t local_schedule_count; /* tasks spawned and woken on this core for itself */
    uint64_t overflow_count;    /* times a full ring made tasks go to the injector */
    uint64_t steal_operations;  /* times this core stole something */
    uint64_t steal_count;       /* tasks that it stole */
    uint64_t lifo_steal_count;  /* of these, from a LIFO slot behind a long poll */
    uint64_t injector_count;    /* tasks taken from the injector */
    uint64_t injector_batch_count; /* in so many batches */
    uint64_t injector_turn_count; /* times global_queue_interval was over */
    uint64_t no_local_work_count; /* times nothing was queued here or in the injector */
    uint64_t search_count;      /* times it searched at the others */
    uint64_t search_spin_count; /* rounds of searching that found nothing */
    uint64_t relay_count;       /* it found work as the last that searched, and woke another */
    uint64_t park_count;        /* times the core was given up for want of work */
    uint64_t park_unpark_count; /* odd exactly while it is parked */
    uint64_t noop_count;        /* times it was parked again without a poll */
    uint64_t lend_count;        /* sch_block_in_place: core lent, nothing queued */
    uint64_t lend_taken_count;  /*   of these, taken over before the call was back */
    uint64_t handoff_count;     /* sch_block_in_place: core handed to another thread */
    uint64_t notify_count;      /* times its queue was worth a wake */
    uint64_t wake_count;        /* threads woken by this core's pushes */
    uint64_t forced_yield_count; /* a task used up its budget */
    uint64_t maintenance_count; /* once in event_interval ticks */
    uint64_t spawned_count;     /* tasks spawned on this core */
    uint64_t ended_count;       /* tasks that ended on it */
    uint64_t cancelled_count;   /* of these, by cancellation */
    uint64_t timer_armed_count;
    uint64_t timer_fired_count;
    uint64_t timer_cancelled_count; /* disarmed before their time */
    uint64_t queue_revoke_count; /* times another had all threads pass a barrier for its queue... */
    uint64_t wheel_revoke_count; /* ... or for its timers, which it had kept to itself */
    uint64_t busy_ns; /* time between leaving and reaching home, search and park excluded */
    uint64_t mean_poll_ns;      /* moving average of the time of a poll */
    uint64_t local_queue_depth; /* tasks in the ring now, without the LIFO slot */
    uint64_t wait_count[SCH_WAIT_KINDS]; /* waits begun on this core, by what for */
} sch_worker_metrics_snapshot;

typedef struct sch_metrics_snapshot {
    uint64_t num_workers;
    uint64_t num_alive_tasks;
    uint64_t num_running_tasks;       /* have a core, or run blocking code, or a blocking thread */
    uint64_t num_queued_tasks;        /* ready and not running, blocking jobs too; LIFO slots
                                         included */
    uint64_t num_waiting_tasks;       /* the others */
    uint64_t injection_queue_depth;
    uint64_t num_worker_threads;      /* ours that run tasks, and those in sch_block_in_place */
    uint64_t num_idle_workers;        /* cores that nobody holds */
    uint64_t num_searching;           /* cores that look for work */
    uint64_t num_blocking_threads;    /* of the blocking pool; workers are not counted */
    uint64_t num_idle_blocking_threads;
    uint64_t blocking_queue_depth;
    uint64_t blocking_spin_count;     /* times an idle thread of the pool looked before it slept */
    uint64_t blocking_spin_hit_count; /* of these, times a job came */
    uint64_t spawned_tasks_count;
    uint64_t cancelled_tasks_count;   /* ended by cancellation */
    uint64_t remote_schedule_count;   /* tasks queued from outside, overflow not counted; each time
                                         it was asked whom to wake */
    uint64_t remote_wake_count;       /* threads woken from outside */
    uint64_t notify_no_core_count;    /* a thread was to be woken for a core that others took */
    uint64_t standby_alarm_count;     /* times the standby's alarm was set */
    uint64_t standby_look_count;      /* times it rang */
    uint64_t standby_rescue_count;    /* times it found something late and woke a thread */
    uint64_t stack_count;             /* task stacks of the common size that exist */
    uint64_t stack_free_count;        /* of these, in the common pool */
    uint64_t timer_count;             /* armed now */
    uint64_t io_opened_count;         /* descriptors given to the runtime */
    uint64_t io_closed_count;
    uint64_t io_event_count;          /* what the driver was told of them */
    uint64_t stall_count;             /* polls reported to on_stall */
    uint64_t stall_ns;                /* how long these have lasted */
    sch_worker_metrics_snapshot total; /* sum of all cores; thread and mean_poll_ns are 0 */
} sch_metrics_snapshot;

/* Read the whole runtime's counters, and one core's.
 * Returns  0; -EINVAL a NULL, or worker is not below sch_num_workers().    Threads  any.
 */
SCH_API int sch_metrics(const sch_runtime *rt, sch_metrics_snapshot *out);
SCH_API int sch_worker_metrics(const sch_runtime *rt, unsigned worker,
                               sch_worker_metrics_snapshot *out);

/* Histograms, with config.task_times. Buckets are log-linear: 2^histogram_bits of them for each
 * power of two nanoseconds, so that a value is known to a part of itself, whatever its size.
 * Source   HdrHistogram (Tene); the base-2 form of Tokio's H2 histograms.
 */
typedef enum sch_histogram {
    SCH_POLL_TIME = 0,    /* how long tasks had a core in one go */
    SCH_SCHEDULE_LATENCY, /* how long they were ready before: spawn, wake or yield to poll */
    SCH_HISTOGRAMS
} sch_histogram;

#define SCH_ALL_WORKERS (~0u)

/* Read the counts of all buckets of one core, or of all.
 *   counts   receives at most n of them; may be NULL if n is 0.
 * Returns  how many buckets there are; -ENOTSUP without config.task_times; -EINVAL.  Threads any.
 */
SCH_API int sch_histogram_read(const sch_runtime *rt, sch_histogram which, unsigned worker,
                               uint64_t *counts, size_t n);

/* The largest value of a bucket, in nanoseconds; 0 if there is no such bucket. The last bucket
 * takes all that is longer, and says UINT64_MAX. */
SCH_API uint64_t sch_histogram_limit(const sch_runtime *rt, size_t bucket);

/* The value that this percentage (0 to 100) of all recorded ones do not exceed: the upper limit of
 * its bucket. 0 if nothing was recorded. */
SCH_API uint64_t sch_percentile(const sch_runtime *rt, sch_histogram which, unsigned worker,
                                double percent);

/* Write all metrics for a scraper: Prometheus' text format 0.0.4, or OpenMetrics 1.0 (which ends
 * with "# EOF"). Times are in seconds; cores have the label worker, waits the label for.
 * Returns  0; -EINVAL; what `write` returned, if not 0.    Threads  any.
 */
typedef enum sch_metrics_format { SCH_PROMETHEUS = 0, SCH_OPENMETRICS } sch_metrics_format;
SCH_API int sch_metrics_write(const sch_runtime *rt, sch_metrics_format format, sch_write_fn write,
                              void *user);

/* Tasks spawned and not ended; tasks in the injector. May lag a little. 0 if rt is NULL. */
SCH_API size_t sch_num_alive_tasks(const sch_runtime *rt);
SCH_API size_t sch_injection_queue_depth(const sch_runtime *rt);

/*==================================================================================================
 * MARK: - [P12] Dump, trace, watchdog (public)
 *   Nothing here stops the program: waiting tasks are borrowed one at a time, running ones are told
 *   of as they are found.
 *================================================================================================*/

typedef enum sch_task_kind {
    SCH_TASK_STACK = 0, /* sch_spawn */
    SCH_TASK_POLL,      /* sch_spawn_poll */
    SCH_TASK_BLOCKING   /* sch_spawn_blocking */
} sch_task_kind;

typedef enum sch_task_phase {
    SCH_PHASE_QUEUED = 0, /* ready, not running; not yet begun, too */
    SCH_PHASE_RUNNING,    /* has a core (worker), or is a job that runs on its thread */
    SCH_PHASE_BLOCKING,   /* inside sch_block_in_place */
    SCH_PHASE_WAITING
} sch_task_phase;

/* What is known of a task. Valid during the callback. */
typedef struct sch_task_info {
    uint64_t id;
    const char *name;      /* of its descriptor, or "" */
    const char *file;      /* where it was spawned, or "" */
    unsigned line;
    const void *fn;        /* what it runs, for addr2line where it has no name */
    sch_task_kind kind;
    sch_task_phase phase;
    bool cancelled;        /* it was asked to end */
    unsigned worker;       /* running: its core; UINT_MAX otherwise */
    uint64_t phase_ns;     /* how long it has been so; UINT64_MAX: unknown. Exact with
                              config.task_times; else up to a batch of polls too much, and known
                              only of what waits on a stack */
    uint64_t age_ns;       /* since its spawn; UINT64_MAX without config.task_times */
    sch_wait_kind wait;    /* waiting: what for; SCH_WAIT_KINDS if it does not wait */
    const char *wait_text; /* the same in words: "read of descriptor 7", "join of task 12" */
    void *const *frames;   /* waiting on a stack: return addresses, innermost first */
    size_t num_frames;     /* 0: its stack is too full to look at, SCH_NO_ASM, or the libc has no
                              backtrace() (glibc linked statically: -Wl,-u,backtrace) */
} sch_task_info;

typedef int (*sch_task_fn)(const sch_task_info *info, void *user);

/* Call fn for every live task; it may wait if the caller may. Anything but 0 from it ends the walk.
 *   A task that waits is borrowed for the look: what happens to it meanwhile is kept, and follows
 *   at once. Tasks that are spawned during the walk may be missed, those that end be shown.
 * Returns  0; what fn returned; -EINVAL; -EBUSY another walk or dump is under way; -EPERM in a hook
 *          or drop function.    Threads  any.
 */
SCH_API int sch_each_task(sch_runtime *rt, sch_task_fn fn, void *user);

/* Write every live task, and what each worker does, as text.
 *   timeout  how long a worker is given to come to the end of a poll (0: 250 ms). One that does not
 *            is reported as busy with its task, never waited for. Workers are not held up.
 * Returns  as sch_each_task(); -ENOMEM; what `write` returned, if not 0.
 */
SCH_API int sch_dump(sch_runtime *rt, uint64_t timeout, sch_write_fn write, void *user);

/* Write an address as "0x1234 function+0x10 in program(+0x234)", as far as the linker knows it.
 * Returns  characters written, without the final 0; at most size - 1. */
SCH_API size_t sch_symbol(const void *address, char *text, size_t size);

/* A poll that lasts longer than config.stall_ns; told once for each, about a quarter of that late,
 * on a thread of its own, where on_stall may do everything but wait for the runtime's end. */
typedef struct sch_stall {
    unsigned worker;
    uint64_t task;        /* id */
    const char *name, *file;
    unsigned line;
    const void *fn;
    uint64_t ns;          /* how long it has lasted, at least */
    size_t queued;        /* tasks that were queued behind it when it was first seen ... */
    size_t left;          /* ... and of those, still there: the others were stolen */
    void *const *frames;  /* with config.stack_signal: where it is */
    size_t num_frames;
} sch_stall;

/* Trace: a ring of the last events for each core. Starting and stopping are cheap; a stopped trace
 * can be written until the next start.
 *   start    -ENOMEM; -EINVAL.    stop  0, -EINVAL.    Threads  any.
 *   write    the trace as JSON for ui.perfetto.dev and chrome://tracing: a track for each core with
 *            its polls, parked and searching times, one for each thread with what it does without a
 *            core (blocking code, jobs), arrows from each spawn and wake to the poll that follows
 *            (but for sch_wake_signal, which writes nothing down). -ENOMEM;
 *            -EINVAL, also if it was never started; what `write` returned. May run while the trace
 *            goes on. Times are real ones, also with config.paused_clock.
 */
SCH_API int sch_trace_start(sch_runtime *rt);
SCH_API int sch_trace_stop(sch_runtime *rt);
SCH_API int sch_trace_write(sch_runtime *rt, sch_write_fn write, void *user);

#ifdef __cplusplus
}
#endif
#endif /* SCH_INCLUDED */

/*==================================================================================================
 *                                       IMPLEMENTATION
 *================================================================================================*/
#if defined(SCHED_IMPLEMENTATION) && !defined(SCH_IMPLEMENTED) && !defined(SCHI_INSIDE_PTHREAD_H)
#define SCH_IMPLEMENTED

/*==================================================================================================
 * MARK: - [1] Compiler, system, asserts (private)
 *   What differs between compilers and systems, decided once. Uses nothing.
 *================================================================================================*/
#if !defined(__GNUC__)
#error "sched.h needs gcc or clang (or a compiler that speaks their builtins)"
#endif

#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if defined(__linux__) && !defined(SCH_USE_KQUEUE) /* with a kqueue in user space: tests/kqueue */
#define SCHI_LINUX 1
#elif defined(__APPLE__) || defined(__FreeBSD__) || defined(__NetBSD__) || defined(__OpenBSD__) || \
    defined(__DragonFly__) || defined(SCH_USE_KQUEUE)
#define SCHI_KQUEUE 1
#endif

#if SCHI_LINUX
#include <sys/syscall.h>
/* An alias of libc's symbol under our own name: it may or may not be declared in this unit. */
extern long schi_libc_syscall(long number, ...) __asm__("syscall");
#define SCHI_SYS(...) schi_libc_syscall(__VA_ARGS__)
#endif

/* How stacks are switched [7], and sockets are read and written [3.1]. */
#if !defined(SCH_NO_ASM) && defined(__x86_64__) && !defined(__ILP32__)
#define SCHI_ASM_X86_64 1
#elif !defined(SCH_NO_ASM) && defined(__aarch64__)
#define SCHI_ASM_AARCH64 1
#else
#define SCHI_UCONTEXT 1
#include <ucontext.h>
#if defined(__linux__) && !defined(__GLIBC__) && !defined(__UCLIBC__)
#error "this libc has no swapcontext: sched.h needs x86-64 or AArch64 here, without SCH_NO_ASM"
#endif
#endif

#ifndef SCH_DEBUG
#define SCH_DEBUG 1
#endif
#ifndef SCH_ASSERT
#include <assert.h>
#define SCH_ASSERT(c) assert(c)
#endif
#ifndef SCH_CACHELINE
#if defined(__aarch64__) || defined(__powerpc64__)
#define SCH_CACHELINE 128
#else
#define SCH_CACHELINE 64
#endif
#endif
#ifndef SCH_RUNQ_CAP
#define SCH_RUNQ_CAP 256
#endif
#ifndef SCH_STACK_SIZE
#define SCH_STACK_SIZE 262144
#endif
#ifndef SCH_MAX_WORKERS
#define SCH_MAX_WORKERS 1024
#endif
#ifndef SCH_LIFO_CAP
#define SCH_LIFO_CAP 3
#endif
#ifndef SCH_BUDGET
#define SCH_BUDGET 128
#endif
#ifndef SCH_WAKE_COST_NS
#define SCH_WAKE_COST_NS 30000
#endif
#ifndef SCH_MOVE_COST_NS
#define SCH_MOVE_COST_NS 150
#endif
#ifndef SCH_SPIN_ROUNDS
#define SCH_SPIN_ROUNDS 4
#endif
#ifndef SCH_POOL_SPIN_NS
#define SCH_POOL_SPIN_NS 50000
#endif
#ifndef SCH_EVENT_INTERVAL
#define SCH_EVENT_INTERVAL 61
#endif
#ifndef SCH_MAX_BLOCKING
#define SCH_MAX_BLOCKING 512
#endif
#ifndef SCH_KEEP_ALIVE_NS
#define SCH_KEEP_ALIVE_NS (10 * SCH_SECOND)
#endif
#ifndef SCH_STANDBY_NS
#define SCH_STANDBY_NS (5 * SCH_MILLISECOND)
#endif
#ifndef SCH_SLAB_SIZE
#define SCH_SLAB_SIZE 65536
#endif
#ifndef SCH_STACK_CACHE
#define SCH_STACK_CACHE 64 /* free stacks that a core keeps before it gives half of them back */
#endif
#ifndef SCH_THREAD_STACK_SIZE
#define SCH_THREAD_STACK_SIZE (1024u * 1024u)
#endif

#ifdef __cplusplus
#define SCHI_STATIC_ASSERT(c, text) static_assert(c, text)
#else
#define SCHI_STATIC_ASSERT(c, text) _Static_assert(c, text)
#endif
#define SCHI_NOINLINE __attribute__((noinline))
#define SCHI_INLINE inline __attribute__((always_inline)) /* constants must fold, or calls cost */
#define SCHI_UNUSED __attribute__((unused))
#define SCHI_LIKELY(c) __builtin_expect(!!(c), 1)
#define SCHI_UNLIKELY(c) __builtin_expect(!!(c), 0)
#define SCHI_ALIGNED(n) __attribute__((aligned(n)))
#define schi_prefetch(address) __builtin_prefetch((address), 1) /* to be written soon */

/* The lines of so many bytes. Always inline: gcc drops calls of a function that does nothing but
 * prefetch. */
static SCHI_INLINE void schi_fetch(const char *at, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) schi_prefetch(at + i);
}

/* Which sanitizer watches, and functions that none may touch. */
#if defined(__SANITIZE_THREAD__)
#define SCHI_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SCHI_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define SCHI_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SCHI_ASAN 1
#endif
#endif
#if defined(__has_feature)
#if __has_feature(memory_sanitizer)
#define SCHI_MSAN 1
#endif
#endif
#if defined(__clang__) && (SCHI_TSAN || SCHI_ASAN) && __clang_major__ >= 14
#define SCHI_UNINSTRUMENTED \
    __attribute__((disable_sanitizer_instrumentation, no_sanitize("address"))) /* one ignores it */
#elif SCHI_TSAN || SCHI_ASAN
#define SCHI_UNINSTRUMENTED __attribute__((no_sanitize("thread", "address", "undefined")))
#else
#define SCHI_UNINSTRUMENTED
#endif

/* USAGE: only the caller's bug causes it.  ASSERT: only ours can.  CHECK: walks a structure. */
#if SCH_DEBUG >= 1
#define SCHI_USAGE(c) SCH_ASSERT(c)
#else
#define SCHI_USAGE(c) ((void)0)
#endif
#if SCH_DEBUG >= 2
#define SCHI_ASSERT(c) SCH_ASSERT(c)
#else
#define SCHI_ASSERT(c) ((void)0)
#endif
#if SCH_DEBUG >= 3
#define SCHI_CHECK(call) call
#else
#define SCHI_CHECK(call) ((void)0)
#endif

SCHI_STATIC_ASSERT((SCH_RUNQ_CAP & (SCH_RUNQ_CAP - 1)) == 0 && SCH_RUNQ_CAP >= 2,
                   "SCH_RUNQ_CAP must be a power of two");
SCHI_STATIC_ASSERT(SCH_MAX_WORKERS >= 1 && SCH_MAX_WORKERS <= 32767, "SCH_MAX_WORKERS: 1..32767");
SCHI_STATIC_ASSERT((SCH_SLAB_SIZE & (SCH_SLAB_SIZE - 1)) == 0 && SCH_SLAB_SIZE >= 16384,
                   "SCH_SLAB_SIZE must be a power of two");
SCHI_STATIC_ASSERT(SCH_LIFO_CAP >= 1 && SCH_BUDGET >= 1, "SCH_LIFO_CAP, SCH_BUDGET: at least 1");
SCHI_STATIC_ASSERT(SCH_SPIN_ROUNDS >= 1 && SCH_STACK_CACHE >= 1,
                   "SCH_SPIN_ROUNDS, SCH_STACK_CACHE: at least 1");
SCHI_STATIC_ASSERT((SCH_CACHELINE & (SCH_CACHELINE - 1)) == 0, "SCH_CACHELINE: a power of two");
/* The same limits as sch_config's. */
SCHI_STATIC_ASSERT(SCH_STACK_SIZE >= 16384 && SCH_STACK_SIZE <= 1024 * 1024 * 1024,
                   "SCH_STACK_SIZE: 16 KiB to 1 GiB");
SCHI_STATIC_ASSERT(SCH_THREAD_STACK_SIZE >= 65536 && SCH_THREAD_STACK_SIZE <= 1024 * 1024 * 1024,
                   "SCH_THREAD_STACK_SIZE: 64 KiB to 1 GiB");
SCHI_STATIC_ASSERT(SCH_STANDBY_NS >= 100 * SCH_MICROSECOND && SCH_STANDBY_NS <= 10 * SCH_SECOND,
                   "SCH_STANDBY_NS: 100 us to 10 s");
SCHI_STATIC_ASSERT(SCH_EVENT_INTERVAL >= 1 && SCH_EVENT_INTERVAL <= 65535 &&
                       SCH_MAX_BLOCKING >= 1 && SCH_MAX_BLOCKING <= 65535,
                   "SCH_EVENT_INTERVAL, SCH_MAX_BLOCKING: 1 to 65535");

#ifdef SCH_PLATFORM_HEADER
#include SCH_PLATFORM_HEADER
#else

/*==================================================================================================
 * MARK: - [2] Atomics (private)
 *   Order-named operations on wrapped cells, so that a bare access does not compile. Together with
 *   [3] this is a seam: SCH_PLATFORM_HEADER replaces both (a model checker, a simulated clock).
 *   Uses [1].  Used by everything.
 *
 *   There are no fences (ThreadSanitizer does not model them): where two sides publish and then
 *   look at each other, both do a read-modify-write on one word, or seq_cst operations on both; or,
 *   where one side does it all the time and the other hardly ever, the one keeps the compiler from
 *   reordering, and the other has all threads pass a barrier (schi_barrier_all) [3].
 *   SCHI_CELL marks plain data that is shared under a protocol; a checker watches it for races.
 *================================================================================================*/
#define SCHI_ATOMIC(T) struct { T atomic_value __attribute__((aligned(sizeof(T)))); }
#define SCHI_CELL(T) struct { T cell_value; }

typedef SCHI_ATOMIC(uint64_t) schi_counter; /* a statistic */

#define schi_rd(c) ((c)->cell_value)
#define schi_wr(c, v) ((void)((c)->cell_value = (v)))

#define schi_load_rlx(a) __atomic_load_n(&(a)->atomic_value, __ATOMIC_RELAXED)
#define schi_load_acq(a) __atomic_load_n(&(a)->atomic_value, __ATOMIC_ACQUIRE)
#define schi_load_seq(a) __atomic_load_n(&(a)->atomic_value, __ATOMIC_SEQ_CST)
#define schi_store_rlx(a, v) __atomic_store_n(&(a)->atomic_value, (v), __ATOMIC_RELAXED)
#define schi_store_rel(a, v) __atomic_store_n(&(a)->atomic_value, (v), __ATOMIC_RELEASE)
#define schi_store_seq(a, v) __atomic_store_n(&(a)->atomic_value, (v), __ATOMIC_SEQ_CST)
#define schi_xchg_acq(a, v) __atomic_exchange_n(&(a)->atomic_value, (v), __ATOMIC_ACQUIRE)
#define schi_xchg_rel(a, v) __atomic_exchange_n(&(a)->atomic_value, (v), __ATOMIC_RELEASE)
#define schi_xchg_acqrel(a, v) __atomic_exchange_n(&(a)->atomic_value, (v), __ATOMIC_ACQ_REL)
#define schi_xchg_seq(a, v) __atomic_exchange_n(&(a)->atomic_value, (v), __ATOMIC_SEQ_CST)
#define schi_add_rlx(a, v) __atomic_fetch_add(&(a)->atomic_value, (v), __ATOMIC_RELAXED)
#define schi_add_acqrel(a, v) __atomic_fetch_add(&(a)->atomic_value, (v), __ATOMIC_ACQ_REL)
#define schi_add_seq(a, v) __atomic_fetch_add(&(a)->atomic_value, (v), __ATOMIC_SEQ_CST)
#define schi_sub_rlx(a, v) __atomic_fetch_sub(&(a)->atomic_value, (v), __ATOMIC_RELAXED)
#define schi_sub_acqrel(a, v) __atomic_fetch_sub(&(a)->atomic_value, (v), __ATOMIC_ACQ_REL)
#define schi_sub_seq(a, v) __atomic_fetch_sub(&(a)->atomic_value, (v), __ATOMIC_SEQ_CST)
#define schi_or_acqrel(a, v) __atomic_fetch_or(&(a)->atomic_value, (v), __ATOMIC_ACQ_REL)
#define schi_or_seq(a, v) __atomic_fetch_or(&(a)->atomic_value, (v), __ATOMIC_SEQ_CST)
#define schi_and_acqrel(a, v) __atomic_fetch_and(&(a)->atomic_value, (v), __ATOMIC_ACQ_REL)
#define schi_and_seq(a, v) __atomic_fetch_and(&(a)->atomic_value, (v), __ATOMIC_SEQ_CST)

/* Compare and swap: *expected (a plain local) is reloaded on failure; a failure acquires nothing
 * (rlx) or what it read (acq). Weak: may fail for no reason, so only in loops. */
#define schi_cas_weak_rel(a, expected, v)                                                          \
    __atomic_compare_exchange_n(&(a)->atomic_value, expected, v, true, __ATOMIC_RELEASE,           \
                                __ATOMIC_RELAXED)
#define schi_cas_weak_acqrel(a, expected, v)                                                       \
    __atomic_compare_exchange_n(&(a)->atomic_value, expected, v, true, __ATOMIC_ACQ_REL,           \
                                __ATOMIC_ACQUIRE)
#define schi_cas_weak_seq(a, expected, v)                                                          \
    __atomic_compare_exchange_n(&(a)->atomic_value, expected, v, true, __ATOMIC_SEQ_CST,           \
                                __ATOMIC_SEQ_CST)
#define schi_cas_acq(a, expected, v)                                                               \
    __atomic_compare_exchange_n(&(a)->atomic_value, expected, v, false, __ATOMIC_ACQUIRE,          \
                                __ATOMIC_RELAXED)
#define schi_cas_acqrel(a, expected, v)                                                            \
    __atomic_compare_exchange_n(&(a)->atomic_value, expected, v, false, __ATOMIC_ACQ_REL,          \
                                __ATOMIC_ACQUIRE)

/* The compiler moves no access across it. */
static inline void schi_compiler_barrier(void) { __asm__ volatile("" ::: "memory"); }

static inline void schi_cpu_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#else
    __asm__ volatile("" ::: "memory");
#endif
}

/*==================================================================================================
 * MARK: - [3] OS calls (private)
 *   Everything the runtime asks of the system, and nothing else: clock, pages, random, CPUs, a
 *   barrier on all threads, locks, one-shot event, parker, alarm, threads, the current thread's
 *   record. The contract of each stands above it; docs/porting.md has them together. Functions that
 *   can fail return 0 or a negative errno.
 *   Uses [1] [2].  Used by everything above.  Tests: tests/unit/os.c
 *
 *   A unit may have included libc's headers with a strict -std=c11 before us, which hides what is
 *   not ISO C; on Linux we therefore go by system call numbers, which are always visible.
 *================================================================================================*/
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/types.h>
#if SCHI_KQUEUE
#include <signal.h>
#include <sys/event.h>
#include <sys/time.h>
#else
#include <signal.h>
#endif
#ifndef MAP_ANONYMOUS
#ifdef MAP_ANON
#define SCHI_MAP_ANON MAP_ANON
#else
#define SCHI_MAP_ANON 0x20 /* Linux; hidden by -std=c11 */
#endif
#else
#define SCHI_MAP_ANON MAP_ANONYMOUS
#endif
#ifdef MAP_NORESERVE
#define SCHI_MAP_NORESERVE MAP_NORESERVE
#elif SCHI_LINUX && !defined(__mips__) && !defined(__sparc__) && !defined(__powerpc__)
#define SCHI_MAP_NORESERVE 0x4000
#else
#define SCHI_MAP_NORESERVE 0
#endif

/* System calls on a descriptor that are made often: the result or a negative errno. A call leaves
 * nothing of what the processor knew about returns, so each function around it that ends costs a
 * wrong guess, and libc's are cancellation points, too, some 60 instructions: so it is made in
 * place. A sanitizer wants to see libc's. */
#if SCHI_LINUX && (SCHI_ASM_X86_64 || SCHI_ASM_AARCH64) && !defined(SCHI_LIBC_CALLS) && \
    !defined(__ARM_FEATURE_SVE) && /* its registers do not survive a system call */ \
    !SCHI_TSAN && !SCHI_ASAN && !SCHI_MSAN
#define SCHI_CALLS_IN_PLACE 1
static SCHI_INLINE int64_t schi_call_io(long call, int fd, void *data, size_t len, int more) {
#if SCHI_ASM_X86_64
    __asm__ volatile("movl %4, %%r10d\n\t"
                     "xorl %%r8d, %%r8d\n\t" /* no address, no mask */
                     "xorl %%r9d, %%r9d\n\t"
                     "syscall"
                     : "+a"(call)
                     : "D"((long)fd), "S"(data), "d"(len), "ri"(more)
                     : "rcx", "r8", "r9", "r10", "r11", "memory");
#else
    __asm__ volatile("mov x8, %0\n\t"
                     "mov x0, %1\n\t"
                     "mov x1, %2\n\t"
                     "mov x2, %3\n\t"
                     "mov x3, %4\n\t"
                     "mov x4, xzr\n\t" /* no address, no mask */
                     "mov x5, xzr\n\t"
                     "svc #0\n\t"
                     "mov %0, x0"
                     : "+r"(call)
                     : "r"((long)fd), "r"(data), "r"(len), "r"((long)more)
                     : "x0", "x1", "x2", "x3", "x4", "x5", "x8", "memory");
#endif
    return call;
}
#endif

static inline uint64_t schi_saturating_add(uint64_t a, uint64_t b) {
    return a + b < a ? UINT64_MAX : a + b;
}

/* Clock: nanoseconds that never go back; the start is arbitrary. Any thread. */
#if defined(CLOCK_MONOTONIC)
static uint64_t schi_now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}
#else /* Linux with a strict -std: the function is there, its declaration is not */
extern int schi_libc_clock_gettime(int clock, struct timespec *ts) __asm__("clock_gettime");
static uint64_t schi_now_ns(void) {
    struct timespec ts;
    schi_libc_clock_gettime(1, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}
#endif

/* Random 64 bits that differ from process to process. Any thread; never fails. */
static uint64_t schi_entropy(void) {
    uint64_t value = 0;
#if SCHI_LINUX && defined(SYS_getrandom)
    if (SCHI_SYS(SYS_getrandom, &value, sizeof value, 1 /* do not block */) == sizeof value)
        return value;
#elif SCHI_KQUEUE
    arc4random_buf(&value, sizeof value);
    return value;
#endif
    return schi_now_ns() ^ (uint64_t)(uintptr_t)&value;
}

/* Default memory: size and align as in sch_allocator. Slabs, which are aligned to their size, are
 * mapped: libc would spend up to as much again on their alignment. */
#define SCHI_ALIGN_MAPPED 16384u

static void *schi_map_aligned(size_t size, size_t align) {
    char *memory = (char *)mmap(NULL, size + align, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | SCHI_MAP_ANON | SCHI_MAP_NORESERVE, -1, 0);
    size_t before;
    if (memory == MAP_FAILED) return NULL;
    before = (align - ((uintptr_t)memory & (align - 1))) & (align - 1);
    if (before > 0) munmap(memory, before);
    if (align > before) munmap(memory + before + size, align - before);
    return memory + before;
}

static void *schi_libc_alloc(size_t size, size_t align, void *user) {
    (void)user;
    if (align <= sizeof(void *) * 2) return malloc(size);
    if (align >= SCHI_ALIGN_MAPPED) return schi_map_aligned(size, align);
    return aligned_alloc(align, (size + align - 1) & ~(align - 1));
}

static void schi_libc_free(void *memory, size_t size, size_t align, void *user) {
    (void)user;
    if (align >= SCHI_ALIGN_MAPPED) {
        munmap(memory, size);
    } else {
        free(memory);
    }
}

static size_t schi_page_size(void) {
    long size = sysconf(_SC_PAGESIZE);
    return size > 0 ? (size_t)size : 4096;
}

/* Anonymous zero pages, not backed before they are touched. libc's mmap: sanitizers see it. */
static void *schi_map_pages(size_t size, void *user) {
    (void)user;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | SCHI_MAP_ANON | SCHI_MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return NULL;
#if SCHI_LINUX
    SCHI_SYS(SYS_madvise, memory, size,
             15 /* MADV_NOHUGEPAGE: one touched page must not cost 2 MiB */);
#endif
    return memory;
}

static void schi_unmap_pages(void *memory, size_t size, void *user) {
    (void)user;
    munmap(memory, size);
}

/* Make pages inaccessible, best first: a guard that does not split the mapping (Linux 6.13), or
 * page protection. Returns which it was (0: neither is to be had), for schi_unguard_pages. */
static int schi_guard_pages(void *memory, size_t size) {
#if SCHI_LINUX
    if (SCHI_SYS(SYS_madvise, memory, size, 102 /* MADV_GUARD_INSTALL */) == 0) return 1;
#endif
    return mprotect(memory, size, PROT_NONE) == 0 ? 2 : 0;
}

static void schi_unguard_pages(void *memory, size_t size, int kind) {
#if SCHI_LINUX
    if (kind == 1) SCHI_SYS(SYS_madvise, memory, size, 103 /* MADV_GUARD_REMOVE */);
#endif
    if (kind == 2) (void)mprotect(memory, size, PROT_READ | PROT_WRITE);
}

/* Give pages back to the system; they read as zero or as before when they are touched again. */
static void schi_discard_pages(void *memory, size_t size) {
#if SCHI_LINUX
    SCHI_SYS(SYS_madvise, memory, size, 4 /* MADV_DONTNEED */);
#elif defined(MADV_FREE)
    (void)madvise(memory, size, MADV_FREE);
#else
    (void)memory, (void)size;
#endif
}

/* Barrier on all threads ------------------------------------------------------------------------*/

/* Each running thread of this process passes a full memory barrier between call and return: what it
 * did before its barrier is seen after the call, and what was done before the call it sees behind
 * its barrier. Costs microseconds, on all CPUs that run us. open: can it be had? Asked once, before
 * the first use; it may take milliseconds where threads run already. Any thread. */
#if SCHI_LINUX && defined(SYS_membarrier)
/* false: not this time. */
static bool schi_barrier_all(void) {
    return SCHI_SYS(SYS_membarrier, 8 /* private expedited */, 0, 0) == 0;
}

static bool schi_barrier_open(void) {
    if (SCHI_SYS(SYS_membarrier, 16 /* register private expedited */, 0, 0) != 0) return false;
    return schi_barrier_all(); /* a filter may let only the one pass */
}
#else
static bool schi_barrier_open(void) { return false; }
static bool schi_barrier_all(void) { return false; }
#endif

/* For who cannot do without it when the system comes to refuse it, as a filter may that a program
 * sets later: no processor keeps a store back, or a load ahead, for a millisecond. */
static void schi_barrier_by_time(void) {
    uint64_t from = schi_now_ns();
    while (schi_now_ns() - from < SCH_MILLISECOND) (void)sched_yield();
}

/* CPUs ------------------------------------------------------------------------------------------*/

#if SCHI_LINUX
#define SCHI_CPU_WORDS (4096 / (8 * sizeof(unsigned long)))

/* Read a small file whole; returns its length, 0 if it is not there. */
static size_t schi_read_file(const char *path, char *text, size_t size) {
    int fd = open(path, O_RDONLY);
    size_t used = 0;
    if (fd < 0) return 0;
    while (used + 1 < size) {
        ssize_t n = read(fd, text + used, size - 1 - used);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        used += (size_t)n;
    }
    close(fd);
    text[used] = 0;
    return used;
}

/* CPUs' worth of quota of one cgroup folder, 0 if it has none. Version 2 has "quota period" in one
 * file, version 1 two files. */
static unsigned schi_cgroup_quota(char *path, size_t length, size_t size, bool version2) {
    char text[64], *end;
    long long quota, period;
    if (length + 24 > size) return 0;
    strcpy(path + length, version2 ? "/cpu.max" : "/cpu.cfs_quota_us");
    if (schi_read_file(path, text, sizeof text) == 0 || text[0] == 'm') return 0;
    quota = strtoll(text, &end, 10);
    period = version2 ? strtoll(end, NULL, 10) : 100000;
    if (!version2) {
        strcpy(path + length, "/cpu.cfs_period_us");
        if (schi_read_file(path, text, sizeof text) > 0) period = strtoll(text, NULL, 10);
    }
    if (quota <= 0 || period <= 0) return 0;
    return (unsigned)((quota + period - 1) / period > 65535 ? 65535
                                                            : (quota + period - 1) / period);
}

/* The smallest quota of our cgroup and its ancestors, 0 for none. /proc/self/cgroup has a line
 * "id:controllers:path" for each hierarchy; version 2 is the one with id 0. */
static unsigned schi_cgroup_cpus(void) {
    char text[4096], path[1200];
    unsigned least = 0;
    if (schi_read_file("/proc/self/cgroup", text, sizeof text) == 0) return 0;
    for (char *line = text, *next; line && *line; line = next) {
        char *controllers, *group;
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        controllers = strchr(line, ':');
        group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group) continue;
        *group++ = 0, controllers++;
        bool version2 = *controllers == 0;
        if (!version2 && !strstr(controllers, "cpu")) continue;
        const char *root = version2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu";
        size_t root_length = strlen(root), length = root_length + strlen(group);
        if (length + 1 > sizeof path) continue;
        strcpy(path, root);
        strcpy(path + root_length, group);
        for (;;) { /* from our group up to the root */
            unsigned cpus = schi_cgroup_quota(path, length, sizeof path, version2);
            if (cpus && (!least || cpus < least)) least = cpus;
            if (length <= root_length) break;
            while (length > root_length && path[length - 1] != '/') length--;
            while (length > root_length && path[length - 1] == '/') length--;
        }
    }
    return least;
}

/* CPU numbers that this thread may use, at most max into out; returns how many there are. */
static size_t schi_cpu_list(unsigned *out, size_t max) {
    unsigned long mask[SCHI_CPU_WORDS];
    size_t count = 0;
    long bytes = SCHI_SYS(SYS_sched_getaffinity, 0, sizeof mask, mask);
    for (size_t i = 0; bytes > 0 && i < (size_t)bytes * 8; i++) {
        if (!(mask[i / (8 * sizeof mask[0])] >> (i % (8 * sizeof mask[0])) & 1)) continue;
        if (count < max) out[count] = (unsigned)i;
        count++;
    }
    return count;
}

/* CPUs that this process may use: affinity, and the quota of its cgroups; at least 1. */
static unsigned schi_cpu_count(void) {
    size_t cpus = schi_cpu_list(NULL, 0);
    unsigned quota = schi_cgroup_cpus();
    if (cpus == 0) cpus = 1;
    return quota && quota < cpus ? quota : (unsigned)cpus;
}

/* Bind the calling thread to one CPU. */
static int schi_pin_thread(unsigned cpu) {
    unsigned long mask[SCHI_CPU_WORDS];
    if (cpu >= sizeof mask * 8) return -EINVAL;
    memset(mask, 0, sizeof mask);
    mask[cpu / (8 * sizeof mask[0])] = 1ul << (cpu % (8 * sizeof mask[0]));
    return SCHI_SYS(SYS_sched_setaffinity, 0, sizeof mask, mask) < 0 ? -errno : 0;
}
#define SCHI_CAN_PIN 1
#else
static size_t schi_cpu_list(unsigned *out, size_t max) {
    (void)out, (void)max;
    return 0;
}

static unsigned schi_cpu_count(void) {
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    return cpus > 0 ? (unsigned)cpus : 1;
}

static int schi_pin_thread(unsigned cpu) {
    (void)cpu;
    return -ENOTSUP;
}
#define SCHI_CAN_PIN 0
#endif

/* Waiting on a word -------------------------------------------------------------------------------
 * schi_word_wait returns when the word may no longer be `value`, or at the deadline (schi_now_ns
 * time, UINT64_MAX: none), or for no reason. Who changes the word does so between
 * schi_waitplace_lock and _unlock, and calls schi_word_wake there, for one waiter or all. A waiter
 * may see the change and go at once: schi_waitplace_drop waits until the waker has left the place
 * (with futexes there is nothing to leave: a wake touches only the word's address). */

typedef SCHI_ATOMIC(uint32_t) schi_word;

#if SCHI_LINUX && (defined(SYS_futex) || defined(SYS_futex_time64))
#if !defined(SYS_futex) || (defined(__x86_64__) && defined(__ILP32__))
typedef int64_t schi_kernel_time; /* of seconds and nanoseconds in what the kernel takes */
#else
typedef long schi_kernel_time;
#endif
#if !defined(SYS_futex)
#define SYS_futex SYS_futex_time64
#endif
#define SCHI_WORD_MUTEX /* locks are words: see [4] */
typedef struct schi_waitplace {
    char none;
} schi_waitplace;
static int schi_waitplace_init(schi_waitplace *p) {
    p->none = 0;
    return 0;
}
static void schi_waitplace_drop(schi_waitplace *p) { (void)p; }
static void schi_waitplace_lock(schi_waitplace *p) { (void)p; }
static void schi_waitplace_unlock(schi_waitplace *p) { (void)p; }

static void schi_word_wait(schi_word *word, schi_waitplace *p, uint32_t value, uint64_t deadline) {
    (void)p;
    schi_kernel_time until[2] = {0, 0};
    if (deadline != UINT64_MAX) {
        uint64_t seconds = deadline / SCH_SECOND;
        until[0] = (schi_kernel_time)(seconds > INT32_MAX ? INT32_MAX : seconds);
        until[1] = (schi_kernel_time)(deadline % SCH_SECOND);
    }
    /* FUTEX_WAIT_BITSET, private: an absolute time of the monotonic clock */
    SCHI_SYS(SYS_futex, &word->atomic_value, 9 | 128, value, deadline == UINT64_MAX ? NULL : until,
             NULL, 0xffffffffu);
}

static void schi_word_wake(schi_word *word, schi_waitplace *p, bool all) {
    (void)p;
    SCHI_SYS(SYS_futex, &word->atomic_value, 1 | 128 /* FUTEX_WAKE, private */, all ? INT_MAX : 1,
             NULL, NULL, 0);
}
#else
/* A condition variable for each word. A single waiter, or all are woken: some systems lose a signal
 * among several waiters (glibc before 2.41). */
typedef struct schi_waitplace {
    pthread_mutex_t lock;
    pthread_cond_t changed;
} schi_waitplace;

static int schi_waitplace_init(schi_waitplace *p) {
    int error = pthread_mutex_init(&p->lock, NULL);
    if (error) return -error;
#if defined(__APPLE__)
    error = pthread_cond_init(&p->changed, NULL);
#else
    pthread_condattr_t attributes;
    error = pthread_condattr_init(&attributes);
    if (!error) {
        error = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        if (!error) error = pthread_cond_init(&p->changed, &attributes);
        (void)pthread_condattr_destroy(&attributes);
    }
#endif
    if (error) (void)pthread_mutex_destroy(&p->lock);
    return -error;
}

static void schi_waitplace_lock(schi_waitplace *p) { (void)pthread_mutex_lock(&p->lock); }
static void schi_waitplace_unlock(schi_waitplace *p) { (void)pthread_mutex_unlock(&p->lock); }

static void schi_waitplace_drop(schi_waitplace *p) {
    schi_waitplace_lock(p); /* until the waker whose change we saw has left */
    schi_waitplace_unlock(p);
    (void)pthread_cond_destroy(&p->changed);
    (void)pthread_mutex_destroy(&p->lock);
}

static void schi_word_wait(schi_word *word, schi_waitplace *p, uint32_t value, uint64_t deadline) {
    (void)pthread_mutex_lock(&p->lock);
    if (schi_load_seq(word) == value) {
        if (deadline == UINT64_MAX) {
            (void)pthread_cond_wait(&p->changed, &p->lock);
        } else {
            struct timespec ts;
#if defined(__APPLE__)
            uint64_t now = schi_now_ns(), left = deadline > now ? deadline - now : 0;
            ts.tv_sec = (time_t)(left / SCH_SECOND), ts.tv_nsec = (long)(left % SCH_SECOND);
            (void)pthread_cond_timedwait_relative_np(&p->changed, &p->lock, &ts);
#else
            ts.tv_sec = (time_t)(deadline / SCH_SECOND), ts.tv_nsec = (long)(deadline % SCH_SECOND);
            (void)pthread_cond_timedwait(&p->changed, &p->lock, &ts);
#endif
        }
    }
    (void)pthread_mutex_unlock(&p->lock);
}

static void schi_word_wake(schi_word *word, schi_waitplace *p, bool all) {
    (void)word;
    if (all) {
        (void)pthread_cond_broadcast(&p->changed);
    } else {
        (void)pthread_cond_signal(&p->changed);
    }
}
#endif

/* Lock: mutual exclusion, not recursive; the holder does not wait for tasks. --------------------*/

#ifndef SCHI_WORD_MUTEX
typedef struct schi_mutex {
    pthread_mutex_t os;
} schi_mutex;

static int schi_mutex_init(schi_mutex *m) { return -pthread_mutex_init(&m->os, NULL); }
static void schi_mutex_drop(schi_mutex *m) { (void)pthread_mutex_destroy(&m->os); }
static void schi_lock(schi_mutex *m) { (void)pthread_mutex_lock(&m->os); }
static void schi_unlock(schi_mutex *m) { (void)pthread_mutex_unlock(&m->os); }
#endif

/* Alarm: a place where one thread sleeps until it is rung, now or at a time, by any thread. -------
 *   schi_alarm_set(a, ns)  ring in ns nanoseconds; the last such call counts. 0: now, too. Async-
 *                          signal-safe where it is a system call (Linux, kqueue).
 *   schi_alarm_wait(a, t)  sleep until it rings or the time t (schi_now_ns, UINT64_MAX: none); may
 *                          return early for no reason. One thread.
 * The point: a sleeping thread's time-out can be set without waking it. */

#if SCHI_LINUX && (defined(SYS_timerfd_settime) || defined(SYS_timerfd_settime64))
#ifdef O_CLOEXEC
#define SCHI_CLOEXEC O_CLOEXEC
#define SCHI_NONBLOCK O_NONBLOCK
#else /* hidden by -std=c11 */
#define SCHI_CLOEXEC 02000000
#define SCHI_NONBLOCK 04000
#endif
#include <poll.h>
#if defined(SYS_ppoll) && !(defined(__x86_64__) && defined(__ILP32__))
#define SCHI_SYS_PPOLL SYS_ppoll
#else
#define SCHI_SYS_PPOLL SYS_ppoll_time64
#endif
typedef struct schi_alarm {
    int timer, event; /* descriptors: one rings later, one at once (a timer costs more) */
} schi_alarm;

static long schi_alarm_arm(schi_alarm *a, uint64_t ns) { /* 0: never */
#if defined(SYS_timerfd_settime)
    long when[4] = {0, 0, (long)(ns / SCH_SECOND), (long)(ns % SCH_SECOND)};
    return SCHI_SYS(SYS_timerfd_settime, a->timer, 0, when, NULL);
#else
    int64_t when[4] = {0, 0, (int64_t)(ns / SCH_SECOND), (int64_t)(ns % SCH_SECOND)};
    return SCHI_SYS(SYS_timerfd_settime64, a->timer, 0, when, NULL);
#endif
}

static void schi_alarm_drop(schi_alarm *a) {
    if (a->timer >= 0) close(a->timer);
    if (a->event >= 0) close(a->event);
}

/* Fails also where a filter (seccomp) denies to set it: timers would never fire. */
static int schi_alarm_init(schi_alarm *a) {
    int error;
    a->event = -1;
    a->timer = (int)SCHI_SYS(SYS_timerfd_create, 1 /* CLOCK_MONOTONIC */,
                             SCHI_CLOEXEC | SCHI_NONBLOCK);
    if (a->timer >= 0) a->event = (int)SCHI_SYS(SYS_eventfd2, 0, SCHI_CLOEXEC | SCHI_NONBLOCK);
    if (a->event >= 0 && schi_alarm_arm(a, 0) == 0) return 0;
    error = errno;
    schi_alarm_drop(a);
    return -error;
}

static void schi_alarm_set(schi_alarm *a, uint64_t ns) {
    uint64_t one = 1;
    if (ns > 0) {
        (void)schi_alarm_arm(a, ns);
    } else {
        SCHI_SYS(SYS_write, a->event, &one, sizeof one);
    }
}

static void schi_alarm_wait(schi_alarm *a, uint64_t deadline) {
    struct pollfd fds[2];
    uint64_t rings, now = deadline == UINT64_MAX ? 0 : schi_now_ns();
    uint64_t left = deadline > now ? deadline - now : 0;
    schi_kernel_time wait[2];
    fds[0].fd = a->timer, fds[0].events = POLLIN, fds[0].revents = 0;
    fds[1].fd = a->event, fds[1].events = POLLIN, fds[1].revents = 0;
    wait[0] = (schi_kernel_time)(left / SCH_SECOND > INT32_MAX ? INT32_MAX : left / SCH_SECOND);
    wait[1] = (schi_kernel_time)(left % SCH_SECOND);
    SCHI_SYS(SCHI_SYS_PPOLL, fds, 2, deadline == UINT64_MAX ? NULL : wait, NULL, 8);
    for (int i = 0; i < 2; i++) {
        if (fds[i].revents) SCHI_SYS(SYS_read, fds[i].fd, &rings, sizeof rings);
    }
}
#elif SCHI_KQUEUE
typedef struct schi_alarm {
    int fd;
} schi_alarm;

static int schi_alarm_init(schi_alarm *a) {
    struct kevent event;
    a->fd = kqueue();
    if (a->fd < 0) return -errno;
    EV_SET(&event, 1, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, 0);
    if (kevent(a->fd, &event, 1, NULL, 0, NULL) < 0) {
        int error = errno;
        close(a->fd);
        return -error;
    }
    return 0;
}

static void schi_alarm_drop(schi_alarm *a) { close(a->fd); }

static void schi_alarm_set(schi_alarm *a, uint64_t ns) {
    struct kevent event[2], told[2];
    uint64_t ms = ns / 1000000 + (ns % 1000000 != 0); /* what every BSD knows */
    if (ns == 0) {
        EV_SET(&event[0], 1, EVFILT_USER, 0, NOTE_TRIGGER, 0, 0);
        (void)kevent(a->fd, event, 1, NULL, 0, NULL);
        return;
    }
    /* Deleted first: DragonFly does not move one that is set. With receipts kevent takes nothing
     * out and goes on after an error (there may be none to delete). */
    EV_SET(&event[0], 2, EVFILT_TIMER, EV_DELETE | EV_RECEIPT, 0, 0, 0);
    EV_SET(&event[1], 2, EVFILT_TIMER, EV_ADD | EV_ONESHOT | EV_RECEIPT, 0,
           (intptr_t)(ms < INT32_MAX ? ms : INT32_MAX), 0);
    (void)kevent(a->fd, event, 2, told, 2, NULL);
}

static void schi_alarm_wait(schi_alarm *a, uint64_t deadline) {
    struct kevent event;
    struct timespec wait;
    uint64_t now = deadline == UINT64_MAX ? 0 : schi_now_ns();
    uint64_t left = deadline > now ? deadline - now : 0;
    wait.tv_sec = (time_t)(left / SCH_SECOND > INT32_MAX ? INT32_MAX : left / SCH_SECOND);
    wait.tv_nsec = (long)(left % SCH_SECOND);
    (void)kevent(a->fd, NULL, 0, &event, 1, deadline == UINT64_MAX ? NULL : &wait);
}
#else
typedef struct schi_alarm {
    schi_waitplace place;
    schi_word changes;            /* counts schi_alarm_set */
    SCHI_ATOMIC(uint64_t) ring_at; /* UINT64_MAX: not set */
} schi_alarm;

static int schi_alarm_init(schi_alarm *a) {
    schi_store_rlx(&a->changes, 0u); /* rlx: published with the runtime */
    schi_store_rlx(&a->ring_at, UINT64_MAX); /* rlx: the same */
    return schi_waitplace_init(&a->place);
}

static void schi_alarm_drop(schi_alarm *a) { schi_waitplace_drop(&a->place); }

static void schi_alarm_set(schi_alarm *a, uint64_t ns) {
    schi_waitplace_lock(&a->place);
    if (ns == 0) { /* now: not undone by a later ring */
        schi_store_seq(&a->ring_at, UINT64_C(0));
    } else if (schi_load_seq(&a->ring_at) != 0) {
        schi_store_seq(&a->ring_at, schi_saturating_add(schi_now_ns(), ns));
    }
    schi_add_seq(&a->changes, 1u);
    schi_word_wake(&a->changes, &a->place, true);
    schi_waitplace_unlock(&a->place);
}

static void schi_alarm_wait(schi_alarm *a, uint64_t deadline) {
    for (;;) {
        uint32_t changes = schi_load_seq(&a->changes);
        uint64_t ring_at = schi_load_seq(&a->ring_at);
        if (ring_at <= schi_now_ns()) {
            schi_waitplace_lock(&a->place);
            schi_store_seq(&a->ring_at, UINT64_MAX);
            schi_waitplace_unlock(&a->place);
            return;
        }
        if (deadline <= schi_now_ns()) return;
        schi_word_wait(&a->changes, &a->place, changes, ring_at < deadline ? ring_at : deadline);
    }
}
#endif

/* Poller: which descriptors are ready. ------------------------------------------------------------
 *   schi_poller_init(p)      0; -ENOTSUP: the system has none; its own errors
 *   schi_poller_add(p,f,t)   tell of each change of descriptor f (edge) under the token t. 0;
 *                            -EPERM: always ready; -EEXIST, -EBADF, the system's own
 *   schi_poller_remove(p,f)  no more
 *   schi_poller_alarm(p, a)  wait also ends when this alarm rings, until its ring is taken. As add.
 *   schi_poller_wait(p,a,t,out,max)  until something is ready, or the time t (0: at once): how many
 *                            of out[] are filled, at most max of SCHI_POLL_BATCH, those first that
 *                            came first. a: take this alarm's ring; NULL: no.
 *   Any thread, at the same time, too: each change is told once, to one of them. */
#define SCHI_READABLE 1u
#define SCHI_WRITABLE 2u
#define SCHI_PRIORITY 4u
#define SCHI_READ_END 8u /* sticky: all that will ever be read is there */
#define SCHI_TOKEN_NONE UINT64_MAX
#define SCHI_TOKEN_TIMER (UINT64_MAX - 1)
#ifndef SCHI_POLL_BATCH
#define SCHI_POLL_BATCH 64
#endif

typedef struct schi_ready {
    uint64_t token;
    uint32_t bits;
} schi_ready;

#if SCHI_LINUX && (defined(SYS_timerfd_settime) || defined(SYS_timerfd_settime64))
#include <sys/epoll.h>
typedef struct schi_poller {
    int fd;
    schi_word coarse; /* any: the kernel's epoll knows milliseconds only */
} schi_poller;

static int schi_poller_init(schi_poller *p) {
    p->fd = epoll_create1(SCHI_CLOEXEC);
    schi_store_rlx(&p->coarse, 0u); /* rlx: published with the driver */
    return p->fd < 0 ? -errno : 0;
}

static void schi_poller_drop(schi_poller *p) { close(p->fd); }

static int schi_poller_watch(schi_poller *p, int fd, uint32_t events, uint64_t token) {
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    event.events = events;
    event.data.u64 = token;
    return epoll_ctl(p->fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int schi_poller_add(schi_poller *p, int fd, uint64_t token) {
    return schi_poller_watch(
        p, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | (uint32_t)EPOLLET, token);
}

static void schi_poller_remove(schi_poller *p, int fd) {
    struct epoll_event event; /* old kernels want one */
    memset(&event, 0, sizeof event);
    (void)epoll_ctl(p->fd, EPOLL_CTL_DEL, fd, &event);
}

static int schi_poller_alarm(schi_poller *p, schi_alarm *a) {
    int error = schi_poller_watch(p, a->event, EPOLLIN, SCHI_TOKEN_NONE);
    return error ? error : schi_poller_watch(p, a->timer, EPOLLIN, SCHI_TOKEN_TIMER);
}

static uint32_t schi_poller_bits(uint32_t events) {
    uint32_t bits = 0;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) bits |= SCHI_READABLE;
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) bits |= SCHI_WRITABLE;
    if (events & (EPOLLPRI | EPOLLHUP | EPOLLERR)) bits |= SCHI_PRIORITY;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) bits |= SCHI_READ_END;
    return bits;
}

/* milliseconds: -1, for ever. */
static SCHI_INLINE int schi_poller_ask(schi_poller *p, struct epoll_event *events, int max,
                                       int milliseconds) {
#if SCHI_CALLS_IN_PLACE
    return (int)schi_call_io(SYS_epoll_pwait, p->fd, events, (size_t)max, milliseconds);
#else
    return epoll_wait(p->fd, events, max, milliseconds);
#endif
}

static int schi_poller_sleep(schi_poller *p, struct epoll_event *events, int max,
                             uint64_t deadline) {
    uint64_t now, left;
    if (deadline == 0) return schi_poller_ask(p, events, max, 0);
    if (deadline == UINT64_MAX) return schi_poller_ask(p, events, max, -1);
    now = schi_now_ns();
    left = deadline > now ? deadline - now : 0;
#if defined(SYS_epoll_pwait2)
    if (!schi_load_rlx(&p->coarse)) { /* rlx: found out by whoever asks first */
        schi_kernel_time wait[2];
        int n;
        wait[0] = (schi_kernel_time)(left / SCH_SECOND > INT32_MAX ? INT32_MAX : left / SCH_SECOND);
        wait[1] = (schi_kernel_time)(left % SCH_SECOND);
        n = (int)SCHI_SYS(SYS_epoll_pwait2, p->fd, events, max, wait, NULL, 8);
        if (n >= 0 || errno == EINTR) return n;
        schi_store_rlx(&p->coarse, 1u); /* rlx: as above */
    }
#endif
    left = left / SCH_MILLISECOND + (left % SCH_MILLISECOND != 0);
    return schi_poller_ask(p, events, max, left > INT32_MAX ? INT32_MAX : (int)left);
}

static unsigned schi_poller_wait(schi_poller *p, schi_alarm *mine, uint64_t deadline,
                                 schi_ready *out, unsigned max) {
    struct epoll_event events[SCHI_POLL_BATCH];
    unsigned num = 0;
    int n = schi_poller_sleep(p, events, (int)max, deadline);
    for (int i = 0; i < n; i++) {
        uint64_t token = events[i].data.u64, rings;
        if (token < SCHI_TOKEN_TIMER) {
            out[num].token = token;
            out[num++].bits = schi_poller_bits(events[i].events);
        } else if (mine) {
            SCHI_SYS(SYS_read, token == SCHI_TOKEN_TIMER ? mine->timer : mine->event, &rings,
                     sizeof rings);
        }
    }
    return num;
}
#elif SCHI_KQUEUE && UINTPTR_MAX > UINT32_MAX /* a token must fit into a pointer */
#if defined(__NetBSD__)
typedef size_t schi_num_events;
#else
typedef int schi_num_events;
#endif
typedef struct schi_poller {
    int fd;
} schi_poller;

static int schi_poller_init(schi_poller *p) {
    p->fd = kqueue();
    return p->fd < 0 ? -errno : 0;
}

static void schi_poller_drop(schi_poller *p) { close(p->fd); }

static int schi_poller_watch(schi_poller *p, int fd, int filter, unsigned flags, uint64_t token) {
    struct kevent event;
    EV_SET(&event, (uintptr_t)fd, filter, (unsigned short)(EV_ADD | flags), 0, 0,
           (void *)(uintptr_t)token);
    return kevent(p->fd, &event, 1, NULL, 0, NULL) < 0 ? -errno : 0;
}

/* What has only one direction refuses the other. */
static int schi_poller_add(schi_poller *p, int fd, uint64_t token) {
    int read = schi_poller_watch(p, fd, EVFILT_READ, EV_CLEAR, token);
    int write = schi_poller_watch(p, fd, EVFILT_WRITE, EV_CLEAR, token);
    if (!read || !write) return 0;
    return read == -EINVAL || read == -ENODEV ? -EPERM : read;
}

static void schi_poller_remove(schi_poller *p, int fd) {
    struct kevent event;
    EV_SET(&event, (uintptr_t)fd, EVFILT_READ, EV_DELETE, 0, 0, NULL);
    (void)kevent(p->fd, &event, 1, NULL, 0, NULL);
    EV_SET(&event, (uintptr_t)fd, EVFILT_WRITE, EV_DELETE, 0, 0, NULL);
    (void)kevent(p->fd, &event, 1, NULL, 0, NULL);
}

static int schi_poller_alarm(schi_poller *p, schi_alarm *a) {
    return schi_poller_watch(p, a->fd, EVFILT_READ, 0, SCHI_TOKEN_NONE);
}

static unsigned schi_poller_wait(schi_poller *p, schi_alarm *mine, uint64_t deadline,
                                 schi_ready *out, unsigned max) {
    struct kevent events[SCHI_POLL_BATCH];
    struct timespec wait;
    uint64_t now = deadline == 0 || deadline == UINT64_MAX ? 0 : schi_now_ns();
    uint64_t left = deadline > now ? deadline - now : 0;
    unsigned num = 0;
    int n;
    wait.tv_sec = (time_t)(left / SCH_SECOND > INT32_MAX ? INT32_MAX : left / SCH_SECOND);
    wait.tv_nsec = (long)(left % SCH_SECOND);
    n = kevent(p->fd, NULL, 0, events, (schi_num_events)max, deadline == UINT64_MAX ? NULL : &wait);
    for (int i = 0; i < n; i++) {
        uint64_t token = (uint64_t)(uintptr_t)events[i].udata;
        bool end = (events[i].flags & EV_EOF) != 0;
        if (token == SCHI_TOKEN_NONE) {
            if (mine) schi_alarm_wait(mine, 0);
            continue;
        }
        out[num].token = token;
        out[num++].bits = events[i].filter == EVFILT_READ
                              ? SCHI_READABLE | (end ? SCHI_READ_END : 0u)
                              : SCHI_WRITABLE;
    }
    return num;
}
#else
typedef struct schi_poller {
    int fd;
} schi_poller;

static int schi_poller_init(schi_poller *p) {
    p->fd = -1;
    return -ENOTSUP;
}
static void schi_poller_drop(schi_poller *p) { (void)p; }
static int schi_poller_add(schi_poller *p, int fd, uint64_t token) {
    (void)p, (void)fd, (void)token;
    return -ENOTSUP;
}
static void schi_poller_remove(schi_poller *p, int fd) { (void)p, (void)fd; }
static int schi_poller_alarm(schi_poller *p, schi_alarm *a) {
    (void)p, (void)a;
    return -ENOTSUP;
}
static unsigned schi_poller_wait(schi_poller *p, schi_alarm *mine, uint64_t deadline,
                                 schi_ready *out, unsigned max) {
    (void)p, (void)mine, (void)deadline, (void)out, (void)max;
    return 0;
}
#endif

/* Threads ---------------------------------------------------------------------------------------*/

typedef pthread_t schi_os_thread;

/* Set the calling thread's signal mask (NULL: leave it), and tell what it was (NULL: do not). False
 * if the system refuses (seccomp). */
#if SCHI_LINUX
typedef struct schi_signals {
    uint64_t bits[2];
} schi_signals;

static bool schi_signal_mask(const schi_signals *mask, schi_signals *old) {
#if defined(__mips__)
    size_t size = 16;
#else
    size_t size = 8;
#endif
    return SCHI_SYS(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, mask, old, size) == 0;
}
#else
typedef sigset_t schi_signals;
static bool schi_signal_mask(const schi_signals *mask, schi_signals *old) {
    return pthread_sigmask(SIG_SETMASK, mask, old) == 0;
}
#endif

/* Start a thread with every signal blocked that is not its own fault, so that the process's
 * handlers run on the threads which the program made. Returns 0, -EAGAIN, -ENOMEM, -EINVAL. */
static int schi_thread_start(schi_os_thread *thread, void *(*run)(void *), void *arg,
                             size_t stack) {
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);
    if (error) return -error;
#if defined(_SC_THREAD_STACK_MIN)
    long least = sysconf(_SC_THREAD_STACK_MIN);
    if (least > 0 && stack < (size_t)least) stack = (size_t)least;
#endif
    error = pthread_attr_setstacksize(&attributes, stack);
#if SCHI_LINUX
    /* SIGILL 4, SIGTRAP 5, SIGBUS 7, SIGFPE 8, SIGSEGV 11 stay open, and libc's own 32 to 34. */
    schi_signals blocked = {{~(UINT64_C(1) << 3 | UINT64_C(1) << 4 | UINT64_C(1) << 6 |
                               UINT64_C(1) << 7 | UINT64_C(1) << 10 | UINT64_C(7) << 31),
                             0}};
#else
    schi_signals blocked;
    sigfillset(&blocked);
    sigdelset(&blocked, SIGILL), sigdelset(&blocked, SIGTRAP), sigdelset(&blocked, SIGBUS);
    sigdelset(&blocked, SIGFPE), sigdelset(&blocked, SIGSEGV);
#endif
    schi_signals old;
    bool masked = schi_signal_mask(&blocked, &old);
    if (!error) error = pthread_create(thread, &attributes, run, arg);
    if (masked) (void)schi_signal_mask(&old, NULL);
    (void)pthread_attr_destroy(&attributes);
    return -error;
}

static void schi_thread_join(schi_os_thread thread) { (void)pthread_join(thread, NULL); }

/* Name the calling thread, for debuggers; cut to what the system takes. */
static void schi_thread_name(const char *name) {
#if SCHI_LINUX
    SCHI_SYS(SYS_prctl, 15 /* PR_SET_NAME */, name, 0, 0, 0);
#elif defined(__APPLE__)
    (void)pthread_setname_np(name);
#else
    (void)name;
#endif
}

static schi_os_thread schi_os_self(void) { return pthread_self(); }

static void schi_os_yield(void) { (void)sched_yield(); }

/* The current thread's record. Compilers cache the address of a thread-local across a call in which
 * a task moved to another thread (gcc, clang: -fPIC, AArch64), so it is read and written only here,
 * never inlined, behind a barrier. */
static __thread void *schi_tls_record;

static SCHI_NOINLINE void *schi_tls_get(void) {
    __asm__ volatile("" ::: "memory");
    return schi_tls_record;
}

static SCHI_NOINLINE void schi_tls_set(void *record) {
    schi_tls_record = record;
    __asm__ volatile("" ::: "memory");
}

/* Forks: a process's number, different in each process that a chain of fork() made. A fork's child
 * has only the thread that forked, which becomes a plain thread there: its record is the parent's,
 * and if it was one of ours it gets back the signal mask that the first runtime's maker had. Not
 * noticed where libc's handlers do not run: _Fork, clone, vfork. */
typedef bool (*schi_is_ours)(void *record);
static SCHI_ATOMIC(uint32_t) schi_num_forks;      /* a child's only thread writes it */
static SCHI_ATOMIC(schi_is_ours) schi_fork_is_ours; /* always the same */
static SCHI_ATOMIC(bool) schi_fork_watched;         /* atfork has taken our handler */
static schi_signals schi_fork_mask;                 /* once */

static uint32_t schi_process(void) {
    return schi_load_rlx(&schi_num_forks); /* rlx: changes only while there is one thread */
}

static void schi_fork_child(void) {
    void *record = schi_tls_get();
    schi_store_rlx(&schi_num_forks, schi_process() + 1); /* rlx: the only thread */
    if (record && schi_load_seq(&schi_fork_is_ours)(record)) {
        (void)schi_signal_mask(&schi_fork_mask, NULL);
    }
    schi_tls_set(NULL);
}

static void schi_fork_watch_once(void) {
    if (!schi_signal_mask(NULL, &schi_fork_mask)) memset(&schi_fork_mask, 0, sizeof schi_fork_mask);
}

/* Have forks noticed from now on. is_ours: of a thread's record, did schi_thread_start make that
 * thread? Returns 0 or -ENOMEM; then the next call tries again. Without a lock, which a fork could
 * leave taken: two at once may both register, and a child then counts twice, which is as good. */
static int schi_fork_watch(schi_is_ours is_ours) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    schi_store_seq(&schi_fork_is_ours, is_ours);
    (void)pthread_once(&once, schi_fork_watch_once);
    if (schi_load_seq(&schi_fork_watched)) return 0;
    if (pthread_atfork(NULL, NULL, schi_fork_child) != 0) return -ENOMEM;
    schi_store_seq(&schi_fork_watched, true);
    return 0;
}

#endif /* SCH_PLATFORM_HEADER */

/* Must threads with seats sleep in alarms only, so that a signal handler can wake them without a
 * lock? */
#if defined(SCH_PLATFORM_HEADER) || !SCHI_KQUEUE
#define SCHI_SEATS_IN_ALARMS 0
#else
#define SCHI_SEATS_IN_ALARMS 1
#endif

/*==================================================================================================
 * MARK: - [3.1] Descriptor calls (private)
 *   One system call on a descriptor, without waiting: bytes, a descriptor, or a negative errno.
 *   A platform header leaves these as they are.
 *   Uses [1] [3].  Used by [9].  Tests: tests/unit/io.c
 *================================================================================================*/
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#if SCHI_KQUEUE
#include <sys/event.h>
#endif
#ifdef MSG_NOSIGNAL
#define SCHI_MSG_NOSIGNAL MSG_NOSIGNAL
#else
#define SCHI_MSG_NOSIGNAL 0 /* there the socket has SO_NOSIGPIPE */
#endif

enum { /* sch_io_call.kind */
    SCHI_CALL_READ, SCHI_CALL_WRITE, SCHI_CALL_READV, SCHI_CALL_WRITEV, SCHI_CALL_RECVFROM,
    SCHI_CALL_SENDTO, SCHI_CALL_ACCEPT, SCHI_CALL_CONNECT, SCHI_CALL_READY, SCHI_CALL_SIGNAL,
    SCHI_CALL_CHILD,
    SCHI_CALL_NEWS /* nothing: the caller will try */
};

#if SCHI_LINUX
#define SCHI_HAS_PRIORITY 1
#else
#define SCHI_HAS_PRIORITY 0 /* kqueue tells of out-of-band data in ways of their own, if at all */
#endif

enum { /* what a descriptor is */
    SCHI_FD_SOCKET = 1,
    SCHI_FD_STREAM = 2, /* less than asked for means that there is no more, or no room */
    SCHI_FD_FILE = 4,   /* cannot be watched: always ready, and may block */
    SCHI_FD_SIGNALS = 8,
    SCHI_FD_CHILD = 16,
    SCHI_FD_OWN_THREAD = 32 /* of a call: a runtime's thread makes it */
};

/* Make it non-blocking. Its traits, or a negative errno. */
static int schi_fd_adopt(int fd) {
    struct stat info;
    struct sockaddr_storage address;
    socklen_t len = sizeof(int);
    int type = 0, flags = fcntl(fd, F_GETFL), traits = 0;
    if (flags < 0 || fstat(fd, &info) < 0) return -errno;
    if (!(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) return -errno;
    if (S_ISREG(info.st_mode) || S_ISDIR(info.st_mode)) traits = SCHI_FD_FILE;
#if SCHI_KQUEUE /* which takes devices that epoll refuses */
    if (S_ISCHR(info.st_mode) && !isatty(fd)) traits = SCHI_FD_FILE;
#endif
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0) {
        traits = SCHI_FD_SOCKET;
        len = sizeof address;
        /* Not UNIX streams, which are read up to a message that carries descriptors, nor pipes:
         * that one was made with O_DIRECT, and has packets, does not show at its reading end. */
        if (type == SOCK_STREAM &&
            getsockname(fd, (struct sockaddr *)(void *)&address, &len) == 0 &&
            (address.ss_family == AF_INET || address.ss_family == AF_INET6)) {
            traits |= SCHI_FD_STREAM;
        }
#ifdef SO_NOSIGPIPE
        type = 1;
        (void)setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &type, sizeof type);
#endif
    }
    return traits;
}

/* Sets of signals; libc's are hidden by a strict -std=c11. Numbers from 1 to 64. */
#if SCHI_LINUX
typedef struct schi_sigset {
    uint64_t bits[2]; /* the second: mips */
} schi_sigset;
#define SCHI_SIGSET_SIZE (SCHI_SYS_MIPS ? 16 : 8)
#if defined(__mips__)
#define SCHI_SYS_MIPS 1
#else
#define SCHI_SYS_MIPS 0
#endif

static bool schi_sigset_add(schi_sigset *set, int number) {
    if (number < 1 || number > 64) return false;
    set->bits[0] |= UINT64_C(1) << (number - 1);
    return true;
}

static bool schi_sigset_has(const schi_sigset *set, int number) {
    return (set->bits[0] >> (number - 1) & 1) != 0;
}

static void schi_sigset_remove(schi_sigset *set, int number) {
    set->bits[0] &= ~(UINT64_C(1) << (number - 1));
}

static bool schi_signals_block(const schi_sigset *set, schi_sigset *before) {
    return SCHI_SYS(SYS_rt_sigprocmask, SCHI_SYS_MIPS /* SIG_BLOCK */, set, before,
                    SCHI_SIGSET_SIZE) == 0;
}

/* SIG_SETMASK. */
static void schi_signals_set(const schi_sigset *set, schi_sigset *before) {
    SCHI_SYS(SYS_rt_sigprocmask, 2 + SCHI_SYS_MIPS, set, before, SCHI_SIGSET_SIZE);
}

static void schi_signals_pending(schi_sigset *set) {
    SCHI_SYS(SYS_rt_sigpending, set, SCHI_SIGSET_SIZE);
}

static void schi_signals_take(const schi_sigset *set) { /* one that is pending */
    long none[4] = {0, 0, 0, 0};
#if defined(SYS_rt_sigtimedwait)
    SCHI_SYS(SYS_rt_sigtimedwait, set, NULL, none, SCHI_SIGSET_SIZE);
#else
    SCHI_SYS(SYS_rt_sigtimedwait_time64, set, NULL, none, SCHI_SIGSET_SIZE);
#endif
}
#else
typedef sigset_t schi_sigset;
static bool schi_sigset_add(schi_sigset *set, int number) { return sigaddset(set, number) == 0; }
static bool schi_sigset_has(const schi_sigset *set, int number) {
    return sigismember(set, number) == 1;
}
static void schi_sigset_remove(schi_sigset *set, int number) { (void)sigdelset(set, number); }
static bool schi_signals_block(const schi_sigset *set, schi_sigset *before) {
    return pthread_sigmask(SIG_BLOCK, set, before) == 0;
}
static void schi_signals_set(const schi_sigset *set, schi_sigset *before) {
    (void)pthread_sigmask(SIG_SETMASK, set, before);
}
static void schi_signals_pending(schi_sigset *set) { (void)sigpending(set); }
static void schi_signals_take(const schi_sigset *set) {
    int taken;
    (void)sigwait(set, &taken);
}
#endif

static void schi_sigset_clear(schi_sigset *set) { memset(set, 0, sizeof *set); }

/* Let this signal come to the calling thread. */
static void schi_signal_open(int number) {
    schi_sigset set, before;
    schi_sigset_clear(&set);
    schi_sigset_clear(&before);
    if (!schi_sigset_add(&set, number) || !schi_signals_block(&set, &before)) return;
    schi_sigset_remove(&before, number);
    schi_signals_set(&before, NULL);
}

/* libc's own, that a strict -std=c11 hides. The symbol signal is BSD's everywhere: the handler
 * stays, and calls are restarted; what the name stands for in the header may be another. */
#if defined(__APPLE__)
extern int schi_libc_pthread_kill(pthread_t thread, int number) __asm__("_pthread_kill");
extern void (*schi_libc_signal(int number, void (*handler)(int)))(int) __asm__("_signal");
#else
extern int schi_libc_pthread_kill(pthread_t thread, int number) __asm__("pthread_kill");
extern void (*schi_libc_signal(int number, void (*handler)(int)))(int) __asm__("signal");
#endif

static int schi_thread_signal(schi_os_thread thread, int number) { /* 0 or an errno */
    return schi_libc_pthread_kill(thread, number);
}

/* Have a handler for a signal that nobody else handles; it stays. */
static int schi_signal_handle(int number, void (*handler)(int)) {
    void (*before)(int) = schi_libc_signal(number, handler);
    if (before == (void (*)(int))-1) return -EINVAL; /* SIG_ERR */
    if (before == NULL || before == handler) return 0; /* SIG_DFL, or another runtime's */
    (void)schi_libc_signal(number, before);
    return -EBUSY;
}

/* A pipe that is closed on exec; as pipe(2). */
static int schi_fd_pipe(int *ends) {
    if (pipe(ends) < 0) return -1;
    (void)fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    (void)fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    return 0;
}

/* write(2) to what is no socket raises SIGPIPE in this thread; it is taken back before anybody sees
 * it. A runtime's threads have it blocked. */
static ssize_t schi_fd_write_pipe(int fd, int traits, const struct iovec *parts, int n) {
    bool own = (traits & SCHI_FD_OWN_THREAD) != 0, changed;
    schi_sigset pipe_only, before, pending;
    ssize_t written;
    int error;
    schi_sigset_clear(&pipe_only);
    (void)schi_sigset_add(&pipe_only, SIGPIPE);
    schi_sigset_clear(&pending);
    changed = !own && schi_signals_block(&pipe_only, &before);
    if (!changed || schi_sigset_has(&before, SIGPIPE)) schi_signals_pending(&pending);
    written = writev(fd, parts, n);
    error = errno;
    if (written < 0 && error == EPIPE && !schi_sigset_has(&pending, SIGPIPE)) {
        schi_signals_pending(&pending);
        if (schi_sigset_has(&pending, SIGPIPE)) schi_signals_take(&pipe_only);
    }
    if (changed) schi_signals_set(&before, NULL);
    errno = error;
    return written;
}

/* recv and send on a socket: bytes or a negative errno. */
#if SCHI_CALLS_IN_PLACE
static SCHI_INLINE int64_t schi_fd_recv(int fd, void *data, size_t len) {
    return schi_call_io(SYS_recvfrom, fd, data, len, 0);
}
static SCHI_INLINE int64_t schi_fd_send(int fd, void *data, size_t len) {
    return schi_call_io(SYS_sendto, fd, data, len, SCHI_MSG_NOSIGNAL);
}
#else
static int64_t schi_fd_result(int64_t n) {
    if (n >= 0) return n;
    return errno == EWOULDBLOCK ? -EAGAIN : -errno;
}

/* Never inlined: no address of errno is kept across a wait. */
static SCHI_NOINLINE int64_t schi_fd_recv(int fd, void *data, size_t len) {
    return schi_fd_result(recv(fd, data, len, 0));
}
static SCHI_NOINLINE int64_t schi_fd_send(int fd, void *data, size_t len) {
    return schi_fd_result(send(fd, data, len, SCHI_MSG_NOSIGNAL));
}
#endif

static ssize_t schi_fd_write(int fd, int traits, const struct iovec *parts, int n) {
    struct msghdr message;
    if (!(traits & SCHI_FD_SOCKET)) return schi_fd_write_pipe(fd, traits, parts, n);
    memset(&message, 0, sizeof message);
    message.msg_iov = (struct iovec *)(uintptr_t)parts;
    message.msg_iovlen = (__typeof__(message.msg_iovlen))n; /* its type differs */
    return sendmsg(fd, &message, SCHI_MSG_NOSIGNAL);
}

static int schi_fd_socket(int family) {
#ifdef SOCK_CLOEXEC
    return socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
#else
    int fd = socket(family, SOCK_STREAM, 0);
    if (fd >= 0) (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    return fd;
#endif
}

/* A listening socket, or a negative errno. */
static int schi_fd_listen(const struct sockaddr *addr, socklen_t len, int backlog) {
    int fd = schi_fd_socket(addr->sa_family), one = 1, error;
    if (fd < 0) return -errno;
    if (addr->sa_family != AF_UNIX) {
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    }
    if (bind(fd, addr, len) == 0 && listen(fd, backlog > 0 ? backlog : SOMAXCONN) == 0) return fd;
    error = errno;
    close(fd);
    return -error;
}

/* Is an accepted socket non-blocking and closed on exec already? */
#if SCHI_LINUX && defined(SYS_accept4)
#define SCHI_ACCEPTS_READY 1
#else
#define SCHI_ACCEPTS_READY 0
#endif

static int schi_fd_accept(int fd) {
#if SCHI_ACCEPTS_READY
    return (int)SCHI_SYS(SYS_accept4, fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
#else
    int got = accept(fd, NULL, NULL);
    if (got >= 0) (void)fcntl(got, F_SETFD, FD_CLOEXEC);
    return got;
#endif
}

/* A connection that died in the queue, or an error of its network, which Linux tells here. */
static bool schi_fd_accept_again(int error) {
    return error == ECONNABORTED || error == ENETDOWN || error == ENETUNREACH ||
           error == EHOSTUNREACH || error == EPROTO || error == ENOPROTOOPT;
}

/* A new stream socket that connects; -1: *error says why not. */
static int schi_fd_connect(const struct sockaddr *addr, socklen_t len, int *traits, int *error) {
    int fd = schi_fd_socket(addr->sa_family), done;
    *error = fd < 0 ? -errno : 0;
    if (fd < 0) return -1;
    *traits = schi_fd_adopt(fd);
    done = *traits < 0 ? -1 : connect(fd, addr, len);
    if (done == 0 || (*traits >= 0 && (errno == EINPROGRESS || errno == EINTR))) return fd;
    *error = *traits < 0 ? *traits : -errno;
    close(fd);
    return -1;
}

/* How is a connect? The error that it ended with; EAGAIN while it goes on. */
static int schi_fd_connected(int fd) {
    struct sockaddr_storage peer;
    socklen_t len = sizeof(int);
    int error = 0;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0) return -1;
    if (error == 0) {
        len = sizeof peer;
        if (getpeername(fd, (struct sockaddr *)(void *)&peer, &len) == 0) return 0;
        error = errno == ENOTCONN ? EAGAIN : errno;
    }
    errno = error;
    return -1;
}

/* A descriptor that has signals to read, which the thread has blocked. */
static int schi_fd_signals(const int *signals, size_t n) {
    schi_sigset set;
    int fd;
    schi_sigset_clear(&set);
    for (size_t i = 0; i < n; i++) {
        if (!schi_sigset_add(&set, signals[i])) return -EINVAL;
    }
#if SCHI_LINUX
    fd = (int)SCHI_SYS(SYS_signalfd4, -1, &set, SCHI_SIGSET_SIZE, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return -errno;
#elif SCHI_KQUEUE
    fd = kqueue();
    if (fd < 0) return -errno;
    for (size_t i = 0; i < n; i++) {
        struct kevent event;
        int error;
        EV_SET(&event, (uintptr_t)signals[i], EVFILT_SIGNAL, EV_ADD, 0, 0, NULL);
        if (kevent(fd, &event, 1, NULL, 0, NULL) == 0) continue;
        error = errno;
        close(fd);
        return -error;
    }
#else
    fd = -ENOTSUP;
#endif
    if (fd >= 0 && !schi_signals_block(&set, NULL)) {
        close(fd);
        fd = -EPERM;
    }
    return fd;
}

static int schi_fd_signal(int fd) {
#if SCHI_LINUX
    uint32_t info[32]; /* struct signalfd_siginfo begins with the number */
    return read(fd, info, sizeof info) < 0 ? -1 : (int)info[0];
#elif SCHI_KQUEUE
    static pthread_mutex_t taking = PTHREAD_MUTEX_INITIALIZER;
    struct timespec none = {0, 0};
    struct kevent event;
    int n = kevent(fd, NULL, 0, &event, 1, &none);
    schi_sigset it, pending;
    if (n == 0) errno = EAGAIN;
    if (n <= 0) return -1;
    /* kqueue only counts: what is pending would be delivered when somebody unblocks it. */
    schi_sigset_clear(&it);
    (void)schi_sigset_add(&it, (int)event.ident);
    (void)pthread_mutex_lock(&taking);
    schi_signals_pending(&pending);
    if (schi_sigset_has(&pending, (int)event.ident)) schi_signals_take(&it);
    (void)pthread_mutex_unlock(&taking);
    return (int)event.ident;
#else
    (void)fd, errno = ENOTSUP;
    return -1;
#endif
}

/* A descriptor that is readable when a child has ended. */
static int schi_fd_child(pid_t pid) {
#if SCHI_LINUX && defined(SYS_pidfd_open)
    int fd = (int)SCHI_SYS(SYS_pidfd_open, pid, 0);
    return fd < 0 ? -errno : fd;
#elif SCHI_KQUEUE
    struct kevent event;
    siginfo_t info;
    int fd = kqueue(), error;
    if (fd < 0) return -errno;
    EV_SET(&event, (uintptr_t)pid, EVFILT_PROC, EV_ADD, NOTE_EXIT, 0, NULL);
    if (kevent(fd, &event, 1, NULL, 0, NULL) == 0) return fd;
    error = errno;
    /* It has ended, or is just about to, which is waited for here: the first try will reap it. */
    if (error == ESRCH && waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0) return fd;
    close(fd);
    return -error;
#else
    (void)pid;
    return -ENOSYS;
#endif
}

static int schi_fd_reap(pid_t pid, int *status) {
    int unused;
    pid_t got = waitpid(pid, status ? status : &unused, WNOHANG);
    if (got == 0) errno = EAGAIN;
    return got > 0 ? 0 : -1;
}

/* Is any of these bits set now? */
static int schi_fd_poll(int fd, uint32_t bits) {
    struct pollfd p;
    int n;
    p.fd = fd;
    p.events = (short)((bits & SCHI_READABLE ? POLLIN : 0) | (bits & SCHI_WRITABLE ? POLLOUT : 0) |
                       (bits & SCHI_PRIORITY ? POLLPRI : 0));
    n = poll(&p, 1, 0);
    if (n == 0) errno = EAGAIN;
    return n > 0 ? 0 : -1;
}

static void schi_fd_nap(void) { (void)poll(NULL, 0, 1); } /* a millisecond */

/* All but a socket's recv and send. Never inlined: as those by libc. */
static SCHI_NOINLINE int64_t schi_fd_try(int fd, int traits, pid_t pid, const sch_io_call *c) {
    struct iovec part;
    int64_t n = 0;
    part.iov_base = c->buffer;
    part.iov_len = c->length;
    do {
        switch (c->kind) {
        case SCHI_CALL_READ: n = read(fd, c->buffer, c->length); break;
        case SCHI_CALL_WRITE: n = schi_fd_write(fd, traits, &part, 1); break;
        case SCHI_CALL_READV:
            n = readv(fd, (const struct iovec *)c->buffer, (int)c->length);
            break;
        case SCHI_CALL_WRITEV:
            n = schi_fd_write(fd, traits, (const struct iovec *)c->buffer, (int)c->length);
            break;
        case SCHI_CALL_RECVFROM:
            n = recvfrom(fd, c->buffer, c->length, (int)c->flags, (struct sockaddr *)c->address,
                         (socklen_t *)c->address_len);
            break;
        case SCHI_CALL_SENDTO:
            n = sendto(fd, c->buffer, c->length, (int)c->flags | SCHI_MSG_NOSIGNAL,
                       (const struct sockaddr *)c->address, (socklen_t)c->more);
            break;
        case SCHI_CALL_ACCEPT: n = schi_fd_accept(fd); break;
        case SCHI_CALL_CONNECT: n = schi_fd_connected(fd); break;
        case SCHI_CALL_SIGNAL: n = schi_fd_signal(fd); break;
        case SCHI_CALL_CHILD: n = schi_fd_reap(pid, (int *)c->buffer); break;
        default: n = schi_fd_poll(fd, c->want); break; /* READY */
        }
    } while (n < 0 && (errno == EINTR || (c->kind == SCHI_CALL_ACCEPT &&
                                          schi_fd_accept_again(errno))));
    if (n >= 0) return n;
    return errno == EWOULDBLOCK ? -EAGAIN : -errno;
}

static size_t schi_fd_asked(const sch_io_call *c) {
    const struct iovec *parts = (const struct iovec *)c->buffer;
    size_t sum = 0;
    if (c->kind == SCHI_CALL_READ || c->kind == SCHI_CALL_WRITE) return c->length;
    for (size_t i = 0; i < c->length; i++) sum += parts[i].iov_len;
    return sum;
}

/*==================================================================================================
 * MARK: - [4] Kit (private)
 *   Memory through the user's allocator, bits, random numbers, locks, parker, one-shot event.
 *   Uses [2] [3].  Used by everything above.  Tests: tests/unit/kit.c
 *================================================================================================*/

/* The members' names may be macros in the user's unit, hence the parentheses around them. */
static void *schi_alloc(const sch_allocator *a, size_t size, size_t align) {
    void *memory = (a->alloc)(size, align, a->user);
    SCHI_USAGE(((uintptr_t)memory & (align - 1)) == 0);
    return memory;
}

static void schi_free(const sch_allocator *a, void *memory, size_t size, size_t align) {
    if (memory) (a->free)(memory, size, align, a->user);
}

static void *schi_alloc_zeroed(const sch_allocator *a, size_t size, size_t align) {
    void *memory = schi_alloc(a, size, align);
    if (memory) memset(memory, 0, size);
    return memory;
}

static size_t schi_round_up(size_t value, size_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

static unsigned schi_bit_count(uint64_t word) { return (unsigned)__builtin_popcountll(word); }
static unsigned schi_lowest_bit(uint64_t word) { return (unsigned)__builtin_ctzll(word); }

/* Counters: statistics. With one writer (at a time) no read-modify-write is needed. */
static inline void schi_count(schi_counter *counter, uint64_t n) {
    schi_store_rlx(counter, schi_load_rlx(counter) + n); /* rlx: a statistic, one writer */
}

/* Several writers. */
static inline void schi_count_shared(schi_counter *counter, uint64_t n) {
    schi_add_rlx(counter, n); /* rlx: a statistic */
}

static inline uint64_t schi_counted(const schi_counter *counter) {
    return schi_load_rlx(counter); /* rlx: a statistic, may lag */
}

/* Random numbers: xorshift64*, seeded by splitmix64 so that neighbouring seeds differ.
 *   Source  Vigna, "An experimental exploration of Marsaglia's xorshift generators", 2016. */
typedef struct schi_rng {
    uint64_t state; /* never 0 */
} schi_rng;

static uint64_t schi_mix(uint64_t x) {
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static void schi_rng_init(schi_rng *rng, uint64_t seed) {
    rng->state = schi_mix(seed);
    if (rng->state == 0) rng->state = 1;
}

/* A number below n, n > 0, by multiplication instead of division. */
static uint32_t schi_rng_below(schi_rng *rng, uint32_t n) {
    uint64_t x = rng->state;
    x ^= x >> 12, x ^= x << 25, x ^= x >> 27;
    rng->state = x;
    return (uint32_t)(((x * UINT64_C(0x2545f4914f6cdd1d)) >> 32) * n >> 32);
}

/* Spinlock: for a few instructions without a system call in between (but see biased locks). */
typedef struct schi_spinlock {
    SCHI_ATOMIC(uint32_t) taken;
} schi_spinlock;

static SCHI_NOINLINE void schi_spin_wait(schi_spinlock *l) {
    /* rlx: the exchange decides */
    for (unsigned tries = 0; schi_load_rlx(&l->taken) != 0; tries++) {
        if (tries < 64) {
            schi_cpu_relax();
        } else {
            schi_os_yield(); /* its holder was preempted */
        }
    }
}

static inline void schi_spin_lock(schi_spinlock *l) {
    while (schi_xchg_acq(&l->taken, 1u) != 0) schi_spin_wait(l); /* acq: pairs with unlock */
}

static bool schi_spin_try_lock(schi_spinlock *l) {
    return schi_xchg_acq(&l->taken, 1u) == 0; /* acq: pairs with unlock */
}

static inline void schi_spin_unlock(schi_spinlock *l) {
    schi_store_rel(&l->taken, 0u); /* rel: pairs with lock */
}

/* Bias: an owner uses something all the time, others hardly ever. So the owner does it by plain
 * stores, and who else wants it takes that right away first.
 *   Source      Dice, Moir and Scherer, "Quickly Reacquirable Locks", 2003: the owner's side of
 *               Dekker's handshake without a fence. The owner is a role, handed from thread to
 *               thread with all that the last one did.
 *   State       state: SHARED; PRIVATE, by the owner alone; REVOKED, somebody has said that it must
 *               not be.  inside: the owner is at it by plain stores just now.
 *   Invariants  B1  the owner is inside only while state is PRIVATE, which it looks at after it has
 *                   set inside
 *               B2  who revokes says so, has all threads pass a barrier, and then sees a time when
 *                   the owner was not inside
 *   The owner sets inside, then looks at state; between the two things that a revoker does all
 *   threads pass a barrier: one of the two sees the other. How it becomes PRIVATE again is for the
 *   user to see to: never beside somebody who revoked it and is not done. */
typedef struct schi_bias {
    SCHI_ATOMIC(uint32_t) inside; /* owner writes, a revoker waits */
    SCHI_ATOMIC(uint32_t) state;  /* owner; a revoker */
    schi_counter num_revoked;     /* revokers; read by any */
} schi_bias;

enum { SCHI_SHARED, SCHI_PRIVATE, SCHI_REVOKED };
#ifndef SCHI_INSIDE_YIELDS
#define SCHI_INSIDE_YIELDS 64 /* that a revoker waits for an owner who was preempted inside */
#endif

static void schi_bias_init(schi_bias *b) {
    schi_store_rlx(&b->inside, 0u);                   /* rlx: published with what it guards */
    schi_store_rlx(&b->state, (uint32_t)SCHI_SHARED); /* rlx: the same */
    schi_store_rlx(&b->num_revoked, (uint64_t)0);     /* rlx: the same */
}

/* By plain loads and stores until leave. false: as everybody. Owner; waits for nothing inside. */
static inline bool schi_bias_enter(schi_bias *b) {
    if (schi_load_rlx(&b->state) != SCHI_PRIVATE) return false; /* rlx: looked at again below */
    schi_store_rlx(&b->inside, 1u); /* rlx: the revoker's barrier comes behind it, or... */
    schi_compiler_barrier();
    /* rlx: ... before this. Only we made it PRIVATE: what was there then is known. */
    if (SCHI_LIKELY(schi_load_rlx(&b->state) == SCHI_PRIVATE)) return true;
    schi_store_rel(&b->inside, 0u); /* rel: as in leave */
    return false;
}

static inline void schi_bias_leave(schi_bias *b) {
    schi_store_rel(&b->inside, 0u); /* rel: pairs with revoke: what was done is seen */
}

/* Is the owner inside, or was so just now? Any thread. */
static bool schi_bias_is_inside(schi_bias *b) {
    return schi_load_acq(&b->inside) != 0; /* acq: pairs with leave */
}

/* All threads have passed a barrier since it became REVOKED: wait for the owner to come out. 0 or
 * -EBUSY. */
static int schi_bias_await(schi_bias *b, unsigned yields) {
    for (unsigned i = 0; schi_bias_is_inside(b); i++) {
        if (i == yields) return -EBUSY;
        schi_os_yield();
    }
    /* Who sees SHARED goes on behind the owner's last plain store. seq: by the letter of C11 a seq
     * load may read an older store that is not (PRIVATE came after this one). */
    schi_store_seq(&b->state, (uint32_t)SCHI_SHARED);
    return 0;
}

/* Not the owner's alone any more. 0; -EBUSY: the owner was inside and did not come out while we
 * yielded so many times; -ENOSYS: the system refuses the barrier. After an error it stays REVOKED
 * until the owner or the next revoker changes that. Any thread; not the owner's inside. */
static int schi_bias_revoke(schi_bias *b, unsigned yields) {
    uint32_t state = schi_load_seq(&b->state);
    while (state == SCHI_PRIVATE) { /* by exchange: the owner may have just made it SHARED */
        if (schi_cas_weak_seq(&b->state, &state, (uint32_t)SCHI_REVOKED)) break;
    }
    if (state == SCHI_SHARED) return 0;
    schi_count_shared(&b->num_revoked, 1);
    return schi_barrier_all() ? schi_bias_await(b, yields) : -ENOSYS;
}

/* Biased lock: a spinlock that its owner takes by plain stores while nobody else wants it.
 *   Invariants  B3  who holds it holds the spinlock, or is the owner and inside
 *               B4  bias becomes PRIVATE only by the owner who holds the spinlock
 *               B5  while there is no owner it is not PRIVATE
 *   Anybody else takes the spinlock, so that it cannot become PRIVATE meanwhile (B4), and then
 *   revokes. If that does not succeed he lets go of the spinlock, shares the lock of his own, and
 *   tries again: no two wait for each other.
 *   It becomes PRIVATE when nobody else has had it ROW times in a row: so many swaps cost as much
 *   as a barrier. */
#ifndef SCHI_BIAS_ROW
#define SCHI_BIAS_ROW 4096
#endif

typedef struct schi_biased_lock {
    schi_bias bias;
    schi_spinlock spin;
    uint32_t row;  /* under spin: times in a row that the owner had it */
    bool may_keep; /* under spin: it may become PRIVATE */
} schi_biased_lock;

/* Before anybody uses it. */
static void schi_biased_init(schi_biased_lock *l) {
    memset(l, 0, sizeof *l);
    schi_bias_init(&l->bias);
}

/* A barrier can be had. Before anybody uses it. */
static void schi_biased_may_keep(schi_biased_lock *l) { l->may_keep = true; }

/* Not by plain stores until it is next taken: the role of the owner ends, or may last long without
 * that. Owner, who is not inside and therefore need not revoke. */
static inline void schi_biased_share(schi_biased_lock *l) {
    if (schi_load_rlx(&l->bias.state) == SCHI_SHARED) return; /* rlx: asked for again */
    schi_store_rel(&l->bias.state, (uint32_t)SCHI_SHARED); /* rel: pairs with revoke */
}

static bool schi_biased_try_own(schi_biased_lock *l) {
    schi_biased_share(l);
    if (!schi_spin_try_lock(&l->spin)) return false;
    if (!l->may_keep || l->row < SCHI_BIAS_ROW) {
        l->row++;
    } else {
        schi_store_rlx(&l->bias.state, (uint32_t)SCHI_PRIVATE); /* rlx: under the spinlock */
    }
    return true;
}

static SCHI_NOINLINE void schi_biased_take_own(schi_biased_lock *l) {
    while (!schi_biased_try_own(l)) schi_spin_wait(&l->spin);
}

/* Not the owner's any more, or false, and the spinlock is free. insist: a barrier that the system
 * refuses is made up for by time, a millisecond; once, for it is kept no more then. Under the
 * spinlock. */
static bool schi_biased_revoke(schi_biased_lock *l, unsigned yields, bool insist) {
    int error = schi_bias_revoke(&l->bias, yields);
    l->row = 0;
    if (error == -ENOSYS) {
        l->may_keep = false;
        if (insist) {
            schi_barrier_by_time();
            error = schi_bias_await(&l->bias, yields);
        }
    }
    if (SCHI_LIKELY(!error)) return true;
    schi_spin_unlock(&l->spin);
    return false;
}

/* By anybody but the owner. false: it could not be revoked just now, as in schi_bias_revoke. */
static bool schi_biased_try_other(schi_biased_lock *l) {
    schi_spin_lock(&l->spin);
    return schi_biased_revoke(l, SCHI_INSIDE_YIELDS, false);
}

/* The same where nobody but the owner and the caller can have it: the owner is not waited for, who
 * may have been stopped with it. The owner may call it when he has not. */
static bool schi_biased_try_owned(schi_biased_lock *l, bool insist) {
    if (schi_bias_is_inside(&l->bias) || !schi_spin_try_lock(&l->spin)) return false;
    return schi_biased_revoke(l, 0, insist);
}

/* own: the caller's own lock, of the same kind; NULL: none. */
static SCHI_NOINLINE void schi_biased_take_other(schi_biased_lock *l, schi_biased_lock *own) {
    while (!schi_biased_try_other(l)) {
        if (own) schi_biased_share(own);
        schi_os_yield();
    }
}

/* Take it. own: as above; l itself if the caller is its owner. Returns whether by plain stores,
 * which is for schi_biased_unlock. */
static inline bool schi_biased_lock_by(schi_biased_lock *l, schi_biased_lock *own) {
    if (SCHI_UNLIKELY(l != own)) {
        schi_biased_take_other(l, own);
    } else if (SCHI_LIKELY(schi_bias_enter(&l->bias))) {
        return true;
    } else {
        schi_biased_take_own(l);
    }
    return false;
}

static inline void schi_biased_unlock(schi_biased_lock *l, bool plain) {
    if (SCHI_LIKELY(plain)) {
        schi_bias_leave(&l->bias);
    } else {
        schi_spin_unlock(&l->spin);
    }
}

/* Lock: who does not get it sleeps. Not recursive; the holder does not wait for tasks.
 *   Source  Drepper, "Futexes Are Tricky", 2011, his third mutex.
 *   State   0 free, 1 held, 2 held and somebody may sleep
 *   Why no unlock is missed: who sleeps has put 2 there, and sleeps only while it is there; who
 *   unlocks takes it away by exchange and wakes one, who puts 2 there again for the others. The
 *   unlocker touches the lock no more after the exchange (but for its address). */
SCHI_UNUSED static SCHI_NOINLINE void schi_word_lock_wait(schi_word *w, schi_waitplace *p) {
    /* acq: pairs with unlock */
    while (schi_xchg_acq(w, 2u) != 0) schi_word_wait(w, p, 2, UINT64_MAX);
}

SCHI_UNUSED static inline void schi_word_lock(schi_word *w, schi_waitplace *p) {
    uint32_t is_free = 0;
    /* acq: pairs with unlock */
    if (SCHI_UNLIKELY(!schi_cas_acq(w, &is_free, 1u))) schi_word_lock_wait(w, p);
}

SCHI_UNUSED static inline void schi_word_unlock(schi_word *w, schi_waitplace *p) {
    schi_waitplace_lock(p);
    /* rel: pairs with lock */
    if (SCHI_UNLIKELY(schi_xchg_rel(w, 0u) == 2)) schi_word_wake(w, p, false);
    schi_waitplace_unlock(p);
}

#ifdef SCHI_WORD_MUTEX
typedef struct schi_mutex {
    schi_word word;
} schi_mutex;

static int schi_mutex_init(schi_mutex *m) {
    schi_store_rlx(&m->word, 0u); /* rlx: published with what it guards */
    return 0;
}
static void schi_mutex_drop(schi_mutex *m) { (void)m; }
static inline void schi_lock(schi_mutex *m) { schi_word_lock(&m->word, NULL); }
static inline void schi_unlock(schi_mutex *m) { schi_word_unlock(&m->word, NULL); }
#endif

/* Event: happens once, everybody waits for it. */
typedef struct schi_event {
    schi_word happened; /* 0, then 1 for ever */
    schi_waitplace place;
} schi_event;

static int schi_event_init(schi_event *e) {
    schi_store_rlx(&e->happened, 0u); /* rlx: published with the runtime */
    return schi_waitplace_init(&e->place);
}

static void schi_event_drop(schi_event *e) { schi_waitplace_drop(&e->place); }

static bool schi_event_is_set(schi_event *e) {
    return schi_load_acq(&e->happened) != 0; /* acq: pairs with the set; all that was before it */
}

static void schi_event_set(schi_event *e) {
    schi_waitplace_lock(&e->place);
    schi_store_seq(&e->happened, 1u);
    schi_word_wake(&e->happened, &e->place, true);
    schi_waitplace_unlock(&e->place);
}

/* Wait until it happened or the deadline came; says which. */
static bool schi_event_wait(schi_event *e, uint64_t deadline) {
    while (!schi_event_is_set(e)) {
        if (deadline != UINT64_MAX && schi_now_ns() >= deadline) return false;
        schi_word_wait(&e->happened, &e->place, 0, deadline);
    }
    return true;
}

/* Parker: one thread sleeps, any thread wakes it; a wake that comes first is kept, several are one.
 *   State   EMPTY    nobody sleeps, no wake is kept
 *           PARKED   the owner sleeps on the word
 *           ALARM    the owner sleeps in the alarm that it was given
 *           TOKEN    a wake is kept
 *   Who     unpark: any thread, stores TOKEN by exchange; park: the owner, takes TOKEN by exchange.
 *   Why no wake is lost: the owner sleeps only while the word still holds what it put there by
 *   compare-and-swap from EMPTY; an unpark that comes between finds PARKED or ALARM and wakes it.
 *   The unparker touches the parker no more after the word (but for the address). */
enum { SCHI_PARKER_EMPTY, SCHI_PARKER_PARKED, SCHI_PARKER_ALARM, SCHI_PARKER_TOKEN };

typedef struct schi_parker {
    schi_word state;
    schi_waitplace place;
} schi_parker;

static int schi_parker_init(schi_parker *p) {
    schi_store_rlx(&p->state, (uint32_t)SCHI_PARKER_EMPTY); /* rlx: published with its owner */
    return schi_waitplace_init(&p->place);
}

static void schi_parker_drop(schi_parker *p) { schi_waitplace_drop(&p->place); }

/* alarm: where the owner sleeps if it sleeps in one. Signal handlers come here for those who have
 * one: where that is the only place that they sleep in, there is no lock. */
static void schi_unpark(schi_parker *p, schi_alarm *alarm) {
    const bool locks = !SCHI_SEATS_IN_ALARMS || !alarm;
    uint32_t old;
    if (locks) schi_waitplace_lock(&p->place);
    /* acqrel: pairs with the exchange in park; what we did is visible to the one woken. */
    old = schi_xchg_acqrel(&p->state, (uint32_t)SCHI_PARKER_TOKEN);
    if (old == SCHI_PARKER_PARKED) schi_word_wake(&p->state, &p->place, false);
    if (locks) schi_waitplace_unlock(&p->place);
    if (old == SCHI_PARKER_ALARM) schi_alarm_set(alarm, 0);
}

/* Look for a wake without sleeping, so long. true: it has come, and schi_park takes it. Owner
 * only. */
static bool schi_parker_spin(schi_parker *p, uint64_t ns) {
    const uint64_t begin = schi_now_ns();
    while (schi_load_rlx(&p->state) == SCHI_PARKER_EMPTY) { /* rlx: a hint, park decides */
        if (schi_now_ns() - begin >= ns) return false;
        for (unsigned i = 0; i < 32; i++) schi_cpu_relax();
    }
    return true;
}

/* Sleep until woken (true) or the deadline (false). Owner only. */
static bool schi_park(schi_parker *p, uint64_t deadline) {
    uint32_t state = SCHI_PARKER_EMPTY;
    /* acqrel: acquires from unpark when it fails because of a TOKEN. */
    if (schi_cas_acqrel(&p->state, &state, (uint32_t)SCHI_PARKER_PARKED)) {
        for (;;) {
            schi_word_wait(&p->state, &p->place, SCHI_PARKER_PARKED, deadline);
            /* acq: pairs with unpark. */
            if (schi_load_acq(&p->state) == SCHI_PARKER_TOKEN) break;
            if (deadline != UINT64_MAX && schi_now_ns() >= deadline) break;
        }
    }
    /* acqrel: acquires from an unpark, also from one that just beat the deadline. */
    return schi_xchg_acqrel(&p->state, (uint32_t)SCHI_PARKER_EMPTY) == SCHI_PARKER_TOKEN;
}

/* Sleep in the alarm until woken (true), or until it rang for another reason or the deadline came
 * (false). Owner only. */
static bool schi_park_alarm(schi_parker *p, schi_alarm *alarm, uint64_t deadline) {
    uint32_t state = SCHI_PARKER_EMPTY;
    /* acqrel: as in schi_park. */
    if (schi_cas_acqrel(&p->state, &state, (uint32_t)SCHI_PARKER_ALARM)) {
        schi_alarm_wait(alarm, deadline);
    }
    /* acqrel: acquires from unpark. */
    return schi_xchg_acqrel(&p->state, (uint32_t)SCHI_PARKER_EMPTY) == SCHI_PARKER_TOKEN;
}

/* The same in a poller that knows the alarm. Returns how many events there are; -1: the wake was
 * there before, and nobody has been asked. */
static int schi_park_poller(schi_parker *p, schi_alarm *alarm, schi_poller *poller,
                            uint64_t deadline, schi_ready *events) {
    uint32_t state = SCHI_PARKER_EMPTY;
    int n = -1;
    /* acqrel: as in schi_park. */
    if (schi_cas_acqrel(&p->state, &state, (uint32_t)SCHI_PARKER_ALARM)) {
        n = (int)schi_poller_wait(poller, alarm, deadline, events, SCHI_POLL_BATCH);
    }
    (void)schi_xchg_acqrel(&p->state, (uint32_t)SCHI_PARKER_EMPTY); /* acqrel: as above */
    return n;
}

/*==================================================================================================
 * MARK: - [5.1] Run queue (private)
 *   Bounded ring: the owner pushes and pops, any worker steals half; and a slot in front of it.
 *   Uses [2] [3].  Used by [11].  Tests: tests/unit/runq.c
 *================================================================================================*/

/* What queues link: the first member of a task. */
typedef struct schi_node {
    SCHI_CELL(struct schi_node *) next; /* whoever holds the node */
} schi_node;

#ifndef SCHI_INDEX
#define SCHI_INDEX uint32_t    /* a model checker takes narrow ones, so that they wrap soon */
#define SCHI_HEAD uint64_t     /* two indices */
#define SCHI_INDEX_BITS 32
#endif
#define SCHI_RUNQ_MASK ((SCHI_INDEX)(SCH_RUNQ_CAP - 1))

/* Run queue: bounded ring, one owner, many thieves.
 *   Source      Go's runtime runq (Vyukov, 2012); head split into steal and real after Tokio's
 *               multi_thread queue.
 *   State       head = steal | real << 32,  tail,  slots[CAP].  Indices wrap.
 *   Invariants  I1  steal <= real <= tail,  tail - steal <= CAP   (mod 2^32)
 *               I2  steal != real  <=>  exactly one thief is between steal_begin and steal_end
 *               I3  the owner never writes a slot in [steal, tail)
 *   Who         push pop take_half: owner.  steal: any worker but the owner.  len: anyone, a hint.
 *   Progress    push wait-free; pop lock-free; a steal gives up while another is active, or when
 *               the owner was preempted inside.
 *   Full        push says so; the owner then takes half out and overflows into the injector [5.2].
 *   Why nothing is lost or run twice: while a thief may be at work (I6) real moves only by
 *   compare-and-swap on the whole head, and whoever moves it over an index has that slot for
 *   himself. 32-bit indices: for the same head to come round, 2^32 tasks must pass while a thief
 *   sits between its load and its swap.
 *
 *   Kept      A ring whose tasks are too short to be worth a thief's while [11.5] its owner keeps
 *   to himself, and takes from it, and from the slot, by plain loads and stores. Who must steal all
 *   the same (the standby's searcher) takes that right away first.
 *   State       bias, as in [4].  visitors: thieves here.
 *   Invariants  I4  the owner takes by plain stores only inside (B1)
 *               I5  when the owner has made it PRIVATE he leaves it so only if there is no visitor
 *               I6  a thief at work has seen SHARED, or has revoked it (B2)
 *   Why they exclude each other: a thief counts itself, then looks at bias; the owner makes it
 *   PRIVATE, then looks at the count, all seq_cst: so no thief that saw SHARED is at work when the
 *   owner goes on. Who revokes has B2.
 *
 *   The LIFO slot holds one woken task that runs before the ring. Only the owner fills it, so an
 *   empty one by a store; owner and thief take from it by exchange (or see Kept), so a task is
 *   always one's or the other's. No push to it wakes anybody; the standby [11] watches over it.
 */
typedef struct schi_runq {
    SCHI_ATOMIC(SCHI_HEAD) head SCHI_ALIGNED(SCH_CACHELINE); /* owner and thieves */
    SCHI_ATOMIC(uint32_t) visitors;                          /* thieves; the owner looks */
    SCHI_ATOMIC(SCHI_INDEX) tail SCHI_ALIGNED(SCH_CACHELINE); /* owner writes, thieves read */
    schi_bias bias;                                          /* owner; a thief in need */
    SCHI_ATOMIC(schi_node *) lifo;                           /* owner; a thief in need */
    SCHI_CELL(schi_node *) slots[SCH_RUNQ_CAP]; /* owner outside [steal, tail), thief in */
} schi_runq;

static SCHI_INDEX schi_runq_steal_of(SCHI_HEAD head) { return (SCHI_INDEX)head; }
static SCHI_INDEX schi_runq_real_of(SCHI_HEAD head) {
    return (SCHI_INDEX)(head >> SCHI_INDEX_BITS);
}

static SCHI_HEAD schi_runq_head(SCHI_INDEX steal, SCHI_INDEX real) {
    return (SCHI_HEAD)((SCHI_HEAD)real << SCHI_INDEX_BITS | (SCHI_HEAD)steal);
}

static void schi_runq_init(schi_runq *q, SCHI_INDEX start) {
    schi_store_rlx(&q->head, schi_runq_head(start, start)); /* rlx: published with the core */
    schi_store_rlx(&q->tail, start);                        /* rlx: the same */
    schi_store_rlx(&q->lifo, (schi_node *)NULL);            /* rlx: the same */
    schi_store_rlx(&q->visitors, 0u);                       /* rlx: the same */
    schi_bias_init(&q->bias);
}

/* Tasks in the ring, without the slot. Exact for the owner while nobody steals. */
static SCHI_INDEX schi_runq_len(schi_runq *q) {
    SCHI_HEAD head = schi_load_acq(&q->head); /* acq: tail below is then not older than head */
    SCHI_INDEX tail = schi_load_acq(&q->tail); /* acq: a thief that goes on reads it again */
    SCHI_INDEX len = (SCHI_INDEX)(tail - schi_runq_real_of(head));
    return len > SCH_RUNQ_CAP ? 0 : len; /* head moved on between the two loads */
}

SCHI_UNUSED static void schi_runq_check(schi_runq *q) {
    SCHI_HEAD head = schi_load_acq(&q->head);  /* acq: as in len */
    SCHI_INDEX tail = schi_load_rlx(&q->tail); /* rlx: the owner calls, only it writes */
    SCHI_INDEX steal = schi_runq_steal_of(head), real = schi_runq_real_of(head);
    SCHI_ASSERT((SCHI_INDEX)(tail - steal) <= SCH_RUNQ_CAP);                    /* I1 */
    SCHI_ASSERT((SCHI_INDEX)(real - steal) <= (SCHI_INDEX)(tail - steal));      /* I1 */
    (void)steal, (void)real, (void)tail;
}

/* Free slots. Owner: nobody else makes it less. */
static SCHI_INDEX schi_runq_room(schi_runq *q) {
    SCHI_INDEX tail = schi_load_rlx(&q->tail); /* rlx: only we write it */
    /* acq: pairs with rel in steal_end; the thief's slot reads come before we reuse its slots. */
    SCHI_INDEX steal = schi_runq_steal_of(schi_load_acq(&q->head));
    SCHI_ASSERT((SCHI_INDEX)(tail - steal) <= SCH_RUNQ_CAP); /* I1 */
    return (SCHI_INDEX)(SCH_RUNQ_CAP - (SCHI_INDEX)(tail - steal));
}

/* Many pushes at once: set the slots behind the last, i < room, then extend by so many. What is set
 * and not yet extended to is the owner's alone. Owner. */
static void schi_runq_set(schi_runq *q, SCHI_INDEX i, schi_node *node) {
    SCHI_INDEX tail = schi_load_rlx(&q->tail); /* rlx: only we write it */
    schi_wr(&q->slots[(SCHI_INDEX)(tail + i) & SCHI_RUNQ_MASK], node); /* ours alone, by I3 */
}

static schi_node *schi_runq_unseen(schi_runq *q, SCHI_INDEX i) {
    SCHI_INDEX tail = schi_load_rlx(&q->tail); /* rlx: only we write it */
    return schi_rd(&q->slots[(SCHI_INDEX)(tail + i) & SCHI_RUNQ_MASK]); /* as in set */
}

static void schi_runq_extend(schi_runq *q, SCHI_INDEX n) {
    SCHI_INDEX tail = schi_load_rlx(&q->tail); /* rlx: only we write it */
    schi_store_rel(&q->tail, (SCHI_INDEX)(tail + n)); /* rel: as in push */
}

/* Returns how many are in the ring now, 0 if it is full and nothing was pushed. */
static SCHI_INDEX schi_runq_push(schi_runq *q, schi_node *node) {
    SCHI_INDEX tail = schi_load_rlx(&q->tail); /* rlx: only we write it */
    /* acq: pairs with rel in steal_end; the thief's slot reads come before we reuse its slots. */
    SCHI_HEAD head = schi_load_acq(&q->head);
    SCHI_INDEX steal = schi_runq_steal_of(head);

    SCHI_ASSERT((SCHI_INDEX)(tail - steal) <= SCH_RUNQ_CAP); /* I1 */
    if ((SCHI_INDEX)(tail - steal) == SCH_RUNQ_CAP) return 0;

    schi_wr(&q->slots[tail & SCHI_RUNQ_MASK], node); /* ours alone, by I3 */
    /* rel: pairs with acq of tail in steal; publishes the slot and the task behind it. */
    schi_store_rel(&q->tail, (SCHI_INDEX)(tail + 1));
    return (SCHI_INDEX)(tail + 1 - schi_runq_real_of(head));
}

static schi_node *schi_runq_pop(schi_runq *q) {
    SCHI_HEAD head = schi_load_acq(&q->head); /* acq: as the exchange below when it fails */
    for (;;) {
        SCHI_INDEX steal = schi_runq_steal_of(head), real = schi_runq_real_of(head);
        SCHI_INDEX after = (SCHI_INDEX)(real + 1);
        if (real == schi_load_rlx(&q->tail)) return NULL; /* rlx: only we write it */
        /* While a thief works (I2) its steal mark stays; otherwise both move together.
         * acqrel: pairs with the swaps of thieves; the slot is ours after it. */
        if (schi_cas_weak_acqrel(&q->head, &head,
                                 schi_runq_head(steal == real ? after : steal, after))) {
            return schi_rd(&q->slots[real & SCHI_RUNQ_MASK]);
        }
    }
}

/* The same while no thief can be at work: no read-modify-write. */
static schi_node *schi_runq_pop_alone(schi_runq *q) {
    SCHI_INDEX real = schi_runq_real_of(schi_load_rlx(&q->head)); /* rlx: only we write it */
    SCHI_INDEX after = (SCHI_INDEX)(real + 1);
    if (real == schi_load_rlx(&q->tail)) return NULL; /* rlx: only we write it */
    /* rel: readers of len see no older tail */
    schi_store_rel(&q->head, schi_runq_head(after, after));
    return schi_rd(&q->slots[real & SCHI_RUNQ_MASK]);
}

/* The newest of the ring, and to take that one, while no thief can be at work. Owner. So tail may
 * go back: who compares two looks at it asks core->m.child_polls, too. */
static schi_node *schi_runq_newest_alone(schi_runq *q) {
    SCHI_INDEX tail = schi_load_rlx(&q->tail);                    /* rlx: only we write it */
    SCHI_INDEX real = schi_runq_real_of(schi_load_rlx(&q->head)); /* rlx: the same */
    return tail == real ? NULL : schi_rd(&q->slots[(SCHI_INDEX)(tail - 1) & SCHI_RUNQ_MASK]);
}

static void schi_runq_pop_newest_alone(schi_runq *q) {
    SCHI_INDEX tail = schi_load_rlx(&q->tail); /* rlx: only we write it */
    schi_store_rlx(&q->tail, (SCHI_INDEX)(tail - 1)); /* rlx: thieves come after a revoke or keep */
}

/* Take the older half out of a full ring, linked in order, first to *first and last to *last.
 * Returns how many; 0 if a thief is at work (then there is room soon). Owner. */
static SCHI_INDEX schi_runq_take_half(schi_runq *q, schi_node **first, schi_node **last) {
    SCHI_HEAD head = schi_load_acq(&q->head);  /* acq: as in pop */
    SCHI_INDEX tail = schi_load_rlx(&q->tail); /* rlx: only we write it */
    SCHI_INDEX real = schi_runq_real_of(head), half = (SCHI_INDEX)(tail - real) / 2;
    schi_node *node;
    if (schi_runq_steal_of(head) != real || half == 0) return 0;
    /* acqrel: as in pop; [real, real + half) is ours after it. */
    if (!schi_cas_acqrel(&q->head, &head,
                         schi_runq_head((SCHI_INDEX)(real + half), (SCHI_INDEX)(real + half)))) {
        return 0;
    }
    *first = node = schi_rd(&q->slots[real & SCHI_RUNQ_MASK]);
    for (SCHI_INDEX i = 1; i < half; i++) {
        schi_node *next = schi_rd(&q->slots[(SCHI_INDEX)(real + i) & SCHI_RUNQ_MASK]);
        schi_wr(&node->next, next);
        node = next;
    }
    schi_wr(&node->next, (schi_node *)NULL);
    *last = node;
    return half;
}

/* First half of a steal: claim the older half of the victim's tasks, rounded up.
 * Returns how many; they stand from *from on. 0: nothing there, or another thief is at work. */
static SCHI_INDEX schi_runq_steal_begin(schi_runq *victim, SCHI_INDEX max, SCHI_INDEX *from) {
    SCHI_HEAD head =
        schi_load_acq(&victim->head); /* acq: pairs with the owner's and thieves' swaps */
    for (;;) {
        SCHI_INDEX steal = schi_runq_steal_of(head), real = schi_runq_real_of(head);
        /* acq: pairs with rel in push; the slots below tail are written. */
        SCHI_INDEX tail = schi_load_acq(&victim->tail);
        SCHI_INDEX len = (SCHI_INDEX)(tail - real), n = (SCHI_INDEX)(len - len / 2);
        if (steal != real || len == 0) return 0;
        if (len > SCH_RUNQ_CAP) { /* tail is newer than head: look again */
            head = schi_load_acq(&victim->head); /* acq: as above */
            continue;
        }
        if (n > max) n = max;
        /* acqrel: makes [real, real + n) ours, and steal stays behind to say so (I2). */
        if (schi_cas_weak_acqrel(&victim->head, &head,
                                 schi_runq_head(steal, (SCHI_INDEX)(real + n)))) {
            *from = real;
            return n;
        }
    }
}

/* Second half: the slots are read, the owner may use them again. */
static void schi_runq_steal_end(schi_runq *victim) {
    SCHI_HEAD head = schi_load_acq(&victim->head); /* acq: only real may have moved meanwhile */
    for (;;) {
        SCHI_INDEX real = schi_runq_real_of(head);
        SCHI_ASSERT(schi_runq_steal_of(head) != real); /* I2 */
        /* acqrel: the release half pairs with acq of head in push, our slot reads come before. */
        if (schi_cas_weak_acqrel(&victim->head, &head, schi_runq_head(real, real))) return;
    }
}

/* Take half of the victim's tasks: the first is returned, or NULL, the others are set in our ring,
 * not extended. *count: how many with it. Owner of `to`, which must be at most half full. */
static schi_node *schi_runq_steal(schi_runq *victim, schi_runq *to, SCHI_INDEX *count) {
    SCHI_INDEX from = 0, n;
    schi_node *first;
    *count = 0;
    if (schi_runq_room(to) < SCH_RUNQ_CAP / 2) return NULL;
    n = schi_runq_steal_begin(victim, SCH_RUNQ_CAP / 2, &from);
    if (n == 0) return NULL;
    first = schi_rd(&victim->slots[from & SCHI_RUNQ_MASK]);
    for (SCHI_INDEX i = 1; i < n; i++) {
        schi_runq_set(to, (SCHI_INDEX)(i - 1),
                      schi_rd(&victim->slots[(SCHI_INDEX)(from + i) & SCHI_RUNQ_MASK]));
    }
    schi_runq_steal_end(victim);
    *count = n;
    return first;
}

static bool schi_lifo_is_empty(schi_runq *q) {
    return schi_load_rlx(&q->lifo) == NULL; /* rlx: a hint, the exchange decides */
}

/* Take what is in the LIFO slot. Owner and thieves. */
static schi_node *schi_lifo_take(schi_runq *q) {
    /* acqrel: a thief gets the task with all that its owner did. */
    return schi_xchg_acqrel(&q->lifo, (schi_node *)NULL);
}

/* The same while no thief can be at work: no read-modify-write. */
static schi_node *schi_lifo_take_alone(schi_runq *q) {
    schi_node *node = schi_load_rlx(&q->lifo); /* rlx: only we write it */
    schi_store_rlx(&q->lifo, (schi_node *)NULL); /* rlx: others only look whether it is empty */
    return node;
}

/* Put a node into the LIFO slot; returns what was there. Owner. */
static schi_node *schi_lifo_put(schi_runq *q, schi_node *node) {
    if (schi_lifo_is_empty(q)) { /* it stays so: thieves only empty it */
        schi_store_rel(&q->lifo, node); /* rel: pairs with take */
        return NULL;
    }
    return schi_xchg_acqrel(&q->lifo, node); /* acqrel: as above; a thief has it or we do */
}

/* The next task of the ring, of the slot. Owner. */
static inline schi_node *schi_runq_take(schi_runq *q) {
    schi_node *node;
    if (!schi_bias_enter(&q->bias)) return schi_runq_pop(q);
    node = schi_runq_pop_alone(q);
    schi_bias_leave(&q->bias);
    return node;
}

static inline schi_node *schi_lifo_take_own(schi_runq *q) {
    schi_node *node;
    if (!schi_bias_enter(&q->bias)) return schi_lifo_take(q);
    node = schi_lifo_take_alone(q);
    schi_bias_leave(&q->bias);
    return node;
}

/* Keep the ring and the slot to ourselves from now on, or no more. Owner, outside of enter and
 * leave: so SHARED is right at any time. */
static void schi_runq_keep(schi_runq *q, bool keep) {
    uint32_t state = schi_load_acq(&q->bias.state); /* acq: pairs with revoke */
    if (state == (keep ? SCHI_PRIVATE : SCHI_SHARED)) return;
    if (keep) {
        schi_store_seq(&q->bias.state, (uint32_t)SCHI_PRIVATE);
        if (schi_load_seq(&q->visitors) == 0) return; /* pairs with part, too */
    }
    schi_store_seq(&q->bias.state, (uint32_t)SCHI_SHARED); /* as in revoke */
}

static void schi_runq_part(schi_runq *q) {
    schi_sub_acqrel(&q->visitors, 1u); /* acqrel: pairs with keep, what we took is gone */
}

/* Before a steal from this ring or its slot: the owner takes by swaps until part. 0; -EBUSY: the
 * owner was preempted just inside; -ENOSYS: the system refuses the barrier. Any worker but the
 * owner. */
static int schi_runq_visit(schi_runq *q) {
    int error;
    schi_add_seq(&q->visitors, 1u);
    error = schi_bias_revoke(&q->bias, SCHI_INSIDE_YIELDS);
    if (error) schi_runq_part(q);
    return error;
}

/*==================================================================================================
 * MARK: - [5.2] Injector (private)
 *   The queue for tasks from outside and for overflow: any thread pushes, workers pop in batches.
 *   Uses [2] [3] [5.1].  Used by [11].  Tests: tests/unit/inject.c
 *================================================================================================*/

/* Injector: a stack that producers push to, and a list that consumers turn it into.
 *   Source      Treiber, "Coping with Parallelism", 1986, for the stack; consumers only take all of
 *               it, so there is no ABA. The turned list keeps first-in first-out.
 *   State       top: newest pushed, or CLOSED.  first..last: older ones, in order, turned - popped
 *               of them.
 *   Who         push, is_empty: any thread, also in a signal handler.  append, pop, len, close: any
 *               thread; they exclude each other by the lock.
 *   Progress    push lock-free and O(1), no producer waits for another or for a consumer. Append,
 *               pop and len turn the stack: O(1) for each task over time. A worker's overflow is
 *               appended, so that it is not turned: it may be longer than any cache.
 *   Handshake   push is seq_cst on top, is_empty loads top seq_cst: see [5.3]. Append has none: its
 *               worker comes back to it. What is inside is never out of sight: a turn sets first
 *               before it takes the stack, whoever does it, a reader of len included.
 */
typedef struct schi_inject {
    SCHI_ATOMIC(schi_node *) top SCHI_ALIGNED(SCH_CACHELINE); /* any */
    schi_mutex lock SCHI_ALIGNED(SCH_CACHELINE);
    SCHI_ATOMIC(schi_node *) first; /* written under lock, read by any */
    schi_node *last;                /* under lock; valid while first is not NULL */
    uint64_t turned, popped;        /* under lock */
} schi_inject;

/* Never followed: top of a closed injector, and first while the stack is being turned. */
#define SCHI_INJECT_CLOSED ((schi_node *)(uintptr_t)1)
#define SCHI_INJECT_TURNING ((schi_node *)(uintptr_t)2)

static int schi_inject_init(schi_inject *q) {
    schi_store_rlx(&q->top, (schi_node *)NULL);   /* rlx: published with the runtime */
    schi_store_rlx(&q->first, (schi_node *)NULL); /* rlx: the same */
    q->last = NULL;
    q->turned = q->popped = 0;
    return schi_mutex_init(&q->lock);
}

static void schi_inject_drop(schi_inject *q) { schi_mutex_drop(&q->lock); }

/* false: closed, it was not pushed. */
static bool schi_inject_push(schi_inject *q, schi_node *node) {
    schi_node *top = schi_load_seq(&q->top);
    do {
        if (top == SCHI_INJECT_CLOSED) return false;
        schi_wr(&node->next, top);
    } while (!schi_cas_weak_seq(&q->top, &top, node));
    return true;
}

static bool schi_inject_is_empty(schi_inject *q) {
    schi_node *top = schi_load_seq(&q->top);
    if (top != NULL && top != SCHI_INJECT_CLOSED) return false;
    /* acq: first is set before a turn makes top NULL, and is NULL again when all is popped. */
    return schi_load_acq(&q->first) == NULL;
}

/* n nodes, linked in order, to the end of the list. Under the lock. */
static void schi_inject_list(schi_inject *q, schi_node *first, schi_node *last, uint64_t n) {
    schi_node *head = schi_load_rlx(&q->first); /* rlx: under the lock */
    if (head == NULL || head == SCHI_INJECT_TURNING) {
        schi_store_rel(&q->first, first); /* rel: pairs with acq in is_empty */
    } else {
        schi_wr(&q->last->next, first);
    }
    q->last = last;
    q->turned += n;
}

/* Take the whole stack and list it, turned. Under the lock. */
static void schi_inject_turn(schi_inject *q) {
    schi_node *top = schi_load_seq(&q->top), *list = NULL, *newest;
    uint64_t n = 0;
    if (top == NULL || top == SCHI_INJECT_CLOSED) return;
    /* Whoever finds top NULL must not take the injector for empty. */
    if (schi_load_rlx(&q->first) == NULL) { /* rlx: under the lock */
        schi_store_rlx(&q->first, SCHI_INJECT_TURNING); /* rlx: the swap of top publishes it */
    }
    while (!schi_cas_weak_seq(&q->top, &top, (schi_node *)NULL)) continue;
    newest = top;
    for (schi_node *next; top != NULL; top = next, n++) {
        next = schi_rd(&top->next);
        schi_wr(&top->next, list);
        list = top;
    }
    schi_inject_list(q, list, newest, n);
}

/* Push n nodes, linked in order, the last one's next NULL. false: closed, nothing was pushed. */
static bool schi_inject_append(schi_inject *q, schi_node *first, schi_node *last, uint64_t n) {
    bool open;
    schi_lock(&q->lock);
    schi_inject_turn(q); /* those were pushed before */
    open = schi_load_seq(&q->top) != SCHI_INJECT_CLOSED;
    if (open) schi_inject_list(q, first, last, n);
    schi_unlock(&q->lock);
    return open;
}

/* Tasks inside. total: that ever were, if it is not NULL. */
static uint64_t schi_inject_len(schi_inject *q, uint64_t *total) {
    uint64_t len;
    schi_lock(&q->lock);
    schi_inject_turn(q);
    len = q->turned - q->popped;
    if (total) *total = q->turned;
    schi_unlock(&q->lock);
    return len;
}

/* Take one part of so many of what is known to be inside, at most max tasks: the first is returned,
 * the others, no more than `to` has room for, are set in it in order, not extended. *count: how
 * many with the first. Owner of `to`. */
static schi_node *schi_inject_pop(schi_inject *q, uint64_t parts, uint64_t max, schi_runq *to,
                                  SCHI_INDEX *count) {
    uint64_t share, room = (uint64_t)schi_runq_room(to) + 1;
    SCHI_INDEX n = 0;
    schi_node *first, *node;
    *count = 0;
    if (schi_inject_is_empty(q)) return NULL;
    if (max > room) max = room;
    schi_lock(&q->lock);
    if (q->turned - q->popped < max) schi_inject_turn(q);
    share = (q->turned - q->popped) / parts + 1;
    if (max > share) max = share;
    first = node = schi_load_rlx(&q->first); /* rlx: under the lock */
    while (node != NULL && n < max) {
        if (n > 0) schi_runq_set(to, (SCHI_INDEX)(n - 1), node);
        node = schi_rd(&node->next);
        n++;
    }
    if (n > 0) {
        schi_store_rel(&q->first, node); /* rel: pairs with acq in is_empty */
        q->popped += n;
    }
    schi_unlock(&q->lock);
    *count = n;
    return first;
}

/* No more pushes; what is inside can still be popped. */
static void schi_inject_close(schi_inject *q) {
    schi_node *top = NULL;
    schi_lock(&q->lock);
    for (;;) {
        schi_inject_turn(q);
        top = schi_load_seq(&q->top);
        if (top == SCHI_INJECT_CLOSED) break;
        if (top == NULL && schi_cas_weak_seq(&q->top, &top, SCHI_INJECT_CLOSED)) break;
    }
    schi_unlock(&q->lock);
}

/*==================================================================================================
 * MARK: - [5.3] Idle set (private)
 *   Who runs, who searches, who sleeps, which cores are free: every decision to wake goes through
 *   it. Uses [2] [3] [4]. Used by [11] [12]. Tests: tests/unit/idle.c
 *================================================================================================*/

/* Idle set.
 *   Source    Tokio's multi_thread Idle (packed word) and multi_thread_alt Idle (bitmap of cores,
 *             pairing a sleeper with a core); Go's sched.nmspinning and its "delicate dance".
 *   State     word      searching:15 | running:15 | ARMED. running counts the cores that a thread
 *                       holds or has lent, searching those of them that look for work.
 *             idle      bitmap of cores that nobody holds. A claim is a read-modify-write of a bit.
 *             lent      of each core whose holder is inside sch_block_in_place: the lock of that
 *                       thread, under which it takes the core back, or somebody else takes it who
 *                       found no idle core; NULL: not lent. Biased: most calls are short, and the
 *                       core is still there.
 *             places    threads promised to blocking calls: who lends a core has one.
 *             sleepers  threads without a core that sleep, newest first; two of them may have seats
 *                       (below) and are chosen last.
 *   Who       word: any thread, atomic.  lent: set by who holds the core, cleared by who takes it,
 *             read by any.  The rest, transitions of idle too: under lock.
 *   Invariants
 *     J1  popcount(idle) = cores - running, whenever the lock is free.
 *     J2  an idle or lent core has an empty ring and LIFO slot.
 *     J3  threads that are not inside a blocking call >= cores ([12] sees to it before it lets a
 *         core go). So while a core is idle or lent, a thread sleeps, or is on its way to the lock.
 *
 * Why no wake-up is lost. Work is visible after a push to the injector (seq_cst on its top); the
 * pusher then looks at word (schi_idle_handshake, seq_cst). All who change word do so by seq_cst
 * read-modify-writes, and all looks at the injector's top are seq_cst loads. So these four are in
 * one order: a pusher that did not see a change of word looked before it, and whoever made the
 * change and looks at the injector after it sees the push.
 *   1  "searcher".  The pusher sees searching > 0 and leaves. The searcher ends its search by a
 *      change of word, later than the pusher's look. If it found nothing it stops running by the
 *      same operation, and looks at every queue again before it sleeps ("a searcher looks again");
 *      if it found work it runs, and comes back to the injector by itself (case 2).
 *   2  "all run".   The pusher sees every core running and none lent, and leaves. A core stops
 *      running by a change of word, again later than the pusher's look, and its thread looks again
 *      before it sleeps. For a lent core lent takes the place of word, and places before it, which
 *      was counted before the core was lent.
 *   3  "nobody sleeps". The pusher finds a free core under the lock, but no sleeper. By J3 a thread
 *      without a core is on its way to the lock; there it takes the idle core and searches, or it
 *      is listed as a sleeper and then looks again; the lock orders that after the push.
 *   4  Otherwise the pusher takes a sleeper and a core under the lock, and counts it as searching
 *      before it lets the lock go: a second pusher is in case 1.
 * An acquire load instead of the handshake is not enough (Tokio's issue 1768). A local push by a
 * running worker needs none of this: its own thread comes back to its ring.
 *
 * Seats. Who lies down takes the watch if it is free, else the standby's seat, else none.
 *   The watch sleeps until the first timer of any core is due. It runs what it finds if a core is
 *   free, and then its seat is empty: sending another would cost more than most of what it runs.
 *   The standby sleeps in an alarm that is set while cores run; it looks for what has waited too
 *   long, and takes the watch if that is empty. A watch without a standby does its work as well.
 *   Why no timer is forgotten: its core's holder serves it while it runs. Who lets a core go tells
 *   the watch how long it may sleep at most, under the lock. While nobody has the watch either a
 *   core runs whose holder armed the standby and will lie down, or somebody has been sent to take
 *   it.
 *
 * To lose the lock: sleepers become a bitmap of threads, claimed like cores; case 3 then needs the
 * order "list myself, release the core, look again", which sleep already has.
 */
#define SCHI_IDLE_SEARCHING 1u
#define SCHI_IDLE_RUNNING (1u << 15)
#define SCHI_IDLE_ARMED (1u << 30)
#define SCHI_IDLE_MAX 0x7fffu
#define SCHI_CHUNKS ((SCH_MAX_WORKERS + 63) / 64)
#define SCHI_NO_CORE UINT_MAX

typedef enum schi_seat { SCHI_NO_SEAT, SCHI_WATCH, SCHI_STANDBY, SCHI_SEATS } schi_seat;

typedef struct schi_sleeper {
    struct schi_sleeper *next, *prev; /* under lock */
    bool listed;                      /* under lock: may be chosen */
    bool timed;                       /* under lock: a spare worker that will end by itself */
    schi_seat seat;                   /* under lock */
    bool searching, rescue;           /* giver, under lock: how the core that it got is counted, and
                                         whether to search as the standby does */
    schi_parker parker;
} schi_sleeper;

typedef SCHI_ATOMIC(schi_biased_lock *) schi_loan;

typedef struct schi_idle {
    SCHI_ATOMIC(uint32_t) word SCHI_ALIGNED(SCH_CACHELINE); /* any */
    SCHI_ATOMIC(uint32_t) places;            /* changed under lock, read by any */
    schi_loan *lent;                         /* fixed; of each core, see above */
    schi_mutex lock SCHI_ALIGNED(SCH_CACHELINE);
    uint64_t idle[SCHI_CHUNKS];       /* under lock: a bit of each core */
    schi_sleeper *sleepers;           /* under lock: those without a seat */
    schi_sleeper *seated[SCHI_SEATS]; /* under lock */
    SCHI_ATOMIC(uint32_t) watched;    /* under lock, read by any: somebody has the watch */
    bool has_standby;                 /* fixed after start: there is such a seat, and it is rung */
    unsigned num_cores;     /* fixed after start */
    unsigned num_chunks;    /* fixed after start */
} schi_idle;

static unsigned schi_idle_searching(uint32_t word) { return word & SCHI_IDLE_MAX; }
static unsigned schi_idle_running(uint32_t word) { return word >> 15 & SCHI_IDLE_MAX; }

/* lent: zeroed, one of each core. */
static int schi_idle_init(schi_idle *d, schi_loan *lent) {
    memset(d, 0, sizeof *d);
    d->lent = lent;
    return schi_mutex_init(&d->lock);
}

/* So many cores, all idle. Before any thread uses the set. */
static void schi_idle_set_cores(schi_idle *d, unsigned num_cores, bool standby) {
    d->has_standby = standby && num_cores > 1;
    d->num_cores = num_cores;
    d->num_chunks = (num_cores + 63) / 64;
    for (unsigned i = 0; i < num_cores; i++) {
        d->idle[i / 64] |= UINT64_C(1) << (i % 64);
    }
}

static void schi_idle_drop(schi_idle *d) { schi_mutex_drop(&d->lock); }

/* The pusher's half of the argument above; the push was seq_cst, too. */
static uint32_t schi_idle_handshake(schi_idle *d) {
    return schi_load_seq(&d->word);
}

static bool schi_idle_is_lent(schi_idle *d, unsigned core) {
    return schi_load_seq(&d->lent[core]) != NULL;
}

/* Those that are just being taken back may count. No more than `most`. */
static unsigned schi_idle_num_lent(schi_idle *d, unsigned most) {
    unsigned n = 0;
    if (schi_load_seq(&d->places) == 0) return 0;
    for (unsigned i = 0; i < d->num_cores && n < most; i++) n += schi_idle_is_lent(d, i);
    return n;
}

SCHI_UNUSED static void schi_idle_check(schi_idle *d) { /* under the lock */
    unsigned n = 0;
    for (unsigned i = 0; i < d->num_chunks; i++) n += schi_bit_count(d->idle[i]);
    SCHI_ASSERT(n + schi_idle_running(schi_load_seq(&d->word)) == d->num_cores); /* J1 */
    (void)n;
}

/* Is it worth taking the lock? The word is from a handshake. */
static bool schi_idle_may_wake(schi_idle *d, uint32_t word) {
    if (schi_idle_searching(word) > 0) return false;         /* case 1 */
    if (schi_idle_running(word) < d->num_cores) return true; /* an idle core */
    return schi_idle_num_lent(d, 1) > 0;                     /* case 2 */
}

/* Take an idle core and count it in. Under the lock. */
static unsigned schi_idle_acquire(schi_idle *d, bool searching) {
    for (unsigned i = 0; i < d->num_chunks; i++) {
        uint64_t word = d->idle[i], bit = word & (~word + 1);
        if (word == 0) continue;
        d->idle[i] = word ^ bit;
        schi_add_seq(&d->word, SCHI_IDLE_RUNNING + (searching ? SCHI_IDLE_SEARCHING : 0u));
        SCHI_CHECK(schi_idle_check(d));
        return i * 64 + schi_lowest_bit(bit);
    }
    return SCHI_NO_CORE;
}

/* Is this core lent, for sure? Then take it, or leave it. Not one that its holder takes back just
 * now: only he and we, who have the lock, take loans. The lender's record stays: it comes to our
 * lock before it goes. Under the lock. */
static bool schi_idle_see_lent(schi_idle *d, unsigned core, bool take) {
    schi_biased_lock *lender = schi_load_seq(&d->lent[core]);
    bool lent;
    if (!lender || !schi_biased_try_owned(lender, take)) return false;
    lent = schi_load_acq(&d->lent[core]) == lender; /* acq: pairs with lend, maybe a later one */
    if (lent && take) schi_store_seq(&d->lent[core], (schi_biased_lock *)NULL);
    schi_biased_unlock(lender, false);
    return lent;
}

/* Take a core that is lent; it counts as running already. Under the lock. */
static unsigned schi_idle_acquire_lent(schi_idle *d, bool searching) {
    for (unsigned i = 0; i < d->num_cores; i++) {
        if (!schi_idle_see_lent(d, i, true)) continue;
        if (searching) schi_add_seq(&d->word, SCHI_IDLE_SEARCHING);
        return i;
    }
    return SCHI_NO_CORE;
}

/* Does a core run that is not lent? Who is just taking his back will look at what we did before, or
 * is seen: his lock orders the two. In doubt: yes. Under the lock. */
static bool schi_idle_somebody_runs(schi_idle *d) {
    unsigned running = schi_idle_running(schi_load_seq(&d->word)), lent = 0;
    if (running > schi_idle_num_lent(d, running)) return true;
    for (unsigned i = 0; running > 0 && i < d->num_cores; i++) {
        lent += schi_idle_see_lent(d, i, false);
    }
    return running > lent;
}

/* Count a core out and make it idle. Its ring and slot are empty (J2). Under the lock. */
static void schi_idle_release(schi_idle *d, unsigned core, bool searching) {
    d->idle[core / 64] |= UINT64_C(1) << (core % 64);
    schi_sub_seq(&d->word, SCHI_IDLE_RUNNING + (searching ? SCHI_IDLE_SEARCHING : 0u));
    SCHI_CHECK(schi_idle_check(d));
}

static void schi_idle_sit(schi_idle *d, schi_sleeper *s, schi_seat seat) {
    s->seat = seat;
    d->seated[seat] = s;
    if (seat == SCHI_WATCH) schi_store_seq(&d->watched, 1u);
}

/* List a thread that is about to sleep; it takes the best seat that is free. Under the lock. */
static void schi_idle_list(schi_idle *d, schi_sleeper *s) {
    SCHI_ASSERT(!s->listed);
    s->listed = true;
    s->seat = SCHI_NO_SEAT;
    if (!d->seated[SCHI_WATCH]) {
        schi_idle_sit(d, s, SCHI_WATCH);
    } else if (d->has_standby && !d->seated[SCHI_STANDBY]) {
        schi_idle_sit(d, s, SCHI_STANDBY);
    } else {
        s->prev = NULL;
        s->next = d->sleepers;
        if (s->next) s->next->prev = s;
        d->sleepers = s;
    }
}

/* Take a thread off the list; false if somebody chose it before. It keeps its seat until it leaves
 * it: a second thread in the same alarm could take the ring that is for the first. Under the
 * lock. */
static bool schi_idle_unlist(schi_idle *d, schi_sleeper *s) {
    if (!s->listed) return false;
    s->listed = false;
    if (s->seat != SCHI_NO_SEAT) return true;
    if (s->prev) {
        s->prev->next = s->next;
    } else {
        d->sleepers = s->next;
    }
    if (s->next) s->next->prev = s->prev;
    return true;
}

/* The listed thread in this seat, NULL: none. Under the lock. */
static schi_sleeper *schi_idle_seated(schi_idle *d, schi_seat seat) {
    return d->seated[seat] && d->seated[seat]->listed ? d->seated[seat] : NULL;
}

/* Choose a sleeper, the standby and then the watch last; off the list then. NULL: nobody sleeps.
 * Under the lock. */
static schi_sleeper *schi_idle_choose(schi_idle *d) {
    schi_sleeper *s = d->sleepers;
    if (!s) s = schi_idle_seated(d, SCHI_STANDBY);
    if (!s) s = schi_idle_seated(d, SCHI_WATCH);
    if (s) (void)schi_idle_unlist(d, s);
    return s;
}

static bool schi_idle_has_sleeper(schi_idle *d) {
    return d->sleepers || schi_idle_seated(d, SCHI_STANDBY) || schi_idle_seated(d, SCHI_WATCH);
}

/* Is there a better seat than this thread has? Under the lock. */
static bool schi_idle_may_move_up(schi_idle *d, const schi_sleeper *s) {
    return (s->seat != SCHI_WATCH && !d->seated[SCHI_WATCH]) ||
           (s->seat == SCHI_NO_SEAT && d->has_standby && !d->seated[SCHI_STANDBY]);
}

/* Who should come to take the seat that was left: nobody for the watch while there is a standby,
 * which will find it empty. Under the lock. */
static schi_sleeper *schi_idle_heir(schi_idle *d) {
    if (d->has_standby && d->seated[SCHI_STANDBY]) return NULL;
    if (d->has_standby || !d->seated[SCHI_WATCH]) return d->sleepers;
    return NULL;
}

/* The owner leaves its seat, if it has one. Returns a sleeper to be unparked, so that it takes a
 * seat; NULL: none. Under the lock. */
static schi_sleeper *schi_idle_vacate(schi_idle *d, schi_sleeper *s) {
    SCHI_ASSERT(!s->listed);
    if (s->seat == SCHI_NO_SEAT) return NULL;
    d->seated[s->seat] = NULL;
    if (s->seat == SCHI_WATCH) schi_store_seq(&d->watched, 0u);
    /* Its ring may have been heard: set it anew. A standby's is not the watch's. */
    if (d->has_standby && (s->seat == SCHI_STANDBY || !d->seated[SCHI_STANDBY])) {
        (void)schi_and_seq(&d->word, ~SCHI_IDLE_ARMED);
    }
    s->seat = SCHI_NO_SEAT;
    return schi_idle_heir(d);
}

/* Become a searcher unless half of the running cores search already. Counts us in. */
static bool schi_idle_try_search(schi_idle *d) {
    uint32_t word = schi_load_seq(&d->word);
    do {
        if (2 * schi_idle_searching(word) >= schi_idle_running(word)) return false;
    } while (!schi_cas_weak_seq(&d->word, &word, word + SCHI_IDLE_SEARCHING));
    return true;
}

/* Stop searching because work was found. Returns whether we were the last who searched. */
static bool schi_idle_stop_search(schi_idle *d) {
    return schi_idle_searching(schi_sub_seq(&d->word, SCHI_IDLE_SEARCHING)) == 1;
}

/* Lend a core; its ring and slot are empty (J2). Afterwards look at the injector (case 2). */
static inline void schi_idle_lend(schi_idle *d, unsigned core, schi_biased_lock *own) {
    schi_store_seq(&d->lent[core], own);
}

/* Whoever else has a thread's loan holds the lock of the idle set: wait for him there, asleep. */
static SCHI_NOINLINE void schi_idle_lock_own(schi_idle *d, schi_biased_lock *own) {
    while (!schi_biased_try_own(own)) {
        schi_lock(&d->lock);
        schi_unlock(&d->lock);
    }
}

/* Take a lent core back: true if it is ours again, false if somebody has it. */
static inline bool schi_idle_take_back(schi_idle *d, unsigned core, schi_biased_lock *own) {
    bool plain = schi_bias_enter(&own->bias);
    if (SCHI_UNLIKELY(!plain)) schi_idle_lock_own(d, own);
    bool ours = schi_load_rlx(&d->lent[core]) == own; /* rlx: only we put it there */
    if (SCHI_LIKELY(ours)) {
        schi_store_rlx(&d->lent[core], (schi_biased_lock *)NULL); /* rlx: under own */
    }
    schi_biased_unlock(own, plain);
    return ours;
}

/*==================================================================================================
 * MARK: - [5.4] Core slot (private)
 *   Hand-off of a core from thread to thread: the giver leaves it, then wakes the taker.
 *   Uses [2].  Used by [11] [12].  Tests: tests/unit/idle.c
 *================================================================================================*/

/* Slot: at most one core on its way to one thread.
 *   Invariant  who took the thread off the idle set's list is the only giver; who is listed is the
 *              only taker, and finds the slot filled when it is off the list and has been woken.
 */
typedef struct schi_slot {
    SCHI_ATOMIC(void *) core; /* giver stores, taker loads and clears */
} schi_slot;

static void schi_slot_give(schi_slot *slot, void *core) {
    schi_store_rel(&slot->core, core); /* rel: pairs with take; the core's contents go with it */
}

static void *schi_slot_take(schi_slot *slot) {
    void *core = schi_load_acq(&slot->core); /* acq: pairs with give */
    if (core) schi_store_rlx(&slot->core, (void *)NULL); /* rlx: the next giver comes by the list */
    return core;
}

/*==================================================================================================
 * MARK: - [S] Seams (private)
 *   The few calls that must point upward.
 *================================================================================================*/
struct schi_thread;
struct schi_ctx;
static struct schi_ctx *schi_loop(void *th); /* a fresh stack runs the worker's loop [11.5] */
static void *schi_worker_main(void *thread); /* a blocking call makes a worker [11.5] */
static void *schi_blocking_main(void *thread); /* a thread of the pool makes another [12] */
static void schi_core_close(struct schi_thread *th);      /* a worker learns of the shutdown [13] */
static void schi_live_sub(sch_runtime *rt, int64_t n);    /* the last task ends the shutdown [13] */

/*==================================================================================================
 * MARK: - [6] Task (private)
 *   The state word and its transitions; the memory that tasks live in.
 *   Uses [2] [3] [4] [5].  Used by [11]-[13] [18].  Tests: tests/unit/task.c, tests/unit/slab.c
 *================================================================================================*/

/* Task state: one word.
 *   Source     Tokio's task state; here a task stays SCHEDULED from the moment it is queued until
 *              its poll ends, so that starting, yielding and resuming change nothing.
 *
 *   bit          set by                      cleared by            meaning
 *   SCHEDULED    spawn; whoever wakes it     idle, complete        queued or running: one owner
 *   WOKEN        sch_wake while SCHEDULED    the task              a wake is kept
 *   GRANTED      an operation, while SCHED.  the task              what it waits for has happened
 *   CANCELLED    cancel                      -                     asked to end; sticky
 *   BY_CANCEL    cancel that scheduled it; the task resumed although nothing happened idle that a
 *                cancel stopped
 *   WAIT_WAKE    idle                        whoever schedules it  sch_wake may schedule it
 *   WAIT_CANCEL  idle                        whoever schedules it  cancel may schedule it
 *   NEW          spawn first idle, first run has not run yet (may lag: a fn that runs need not
 *                                                                  clear it)
 *   POLL, JOB    spawn                       -                     kind: poll task, blocking job
 *   COMPLETE     complete                    -                     it ended
 *   TOLD         the task                    -                     a wait returned -ECANCELED
 *   DROPPED      complete - ended without running (to an end)
 *   NO_STACK     complete                    -                     ... for want of memory
 *   JOINED       join                        join given up         somebody joins or has joined
 *   JOIN_WAITER  join                        join given up         task->joiner is to be granted
 *   references   the rest; the scheduler's own counts until COMPLETE
 *
 *   Invariants  K1  a task is in a queue or runs  <=>  SCHEDULED; so it is in one place at most
 *               K2  only the owner of a SCHEDULED task touches its node, stack and fn
 *               K3  WAIT_WAKE and WAIT_CANCEL only while not SCHEDULED
 *               K4  a wait is granted once, and the granter touches neither the waiter's record nor
 *                   the task after the transition, unless that made it SCHEDULED
 */
#ifndef SCHI_STATE
#define SCHI_STATE uint64_t
#endif
#define SCHI_SCHEDULED ((SCHI_STATE)1 << 0)
#define SCHI_WOKEN ((SCHI_STATE)1 << 1)
#define SCHI_GRANTED ((SCHI_STATE)1 << 2)
#define SCHI_CANCELLED ((SCHI_STATE)1 << 3)
#define SCHI_BY_CANCEL ((SCHI_STATE)1 << 4)
#define SCHI_WAIT_WAKE ((SCHI_STATE)1 << 5)
#define SCHI_WAIT_CANCEL ((SCHI_STATE)1 << 6)
#define SCHI_NEW ((SCHI_STATE)1 << 7)
#define SCHI_POLL ((SCHI_STATE)1 << 8)
#define SCHI_JOB ((SCHI_STATE)1 << 9)
#define SCHI_COMPLETE ((SCHI_STATE)1 << 10)
#define SCHI_TOLD ((SCHI_STATE)1 << 11)
#define SCHI_DROPPED ((SCHI_STATE)1 << 12)
#define SCHI_NO_STACK ((SCHI_STATE)1 << 13)
#define SCHI_JOINED ((SCHI_STATE)1 << 14)
#define SCHI_JOIN_WAITER ((SCHI_STATE)1 << 15)
#define SCHI_REF ((SCHI_STATE)1 << 16)
#define SCHI_WAIT_BITS (SCHI_WAIT_WAKE | SCHI_WAIT_CANCEL)

struct schi_waiter;
struct schi_stack;
struct schi_thread;
struct schi_core;

/* One hot line. The state of a poll task follows in the same block. */
struct sch_task {
    schi_node node;                 /* owner (K2); the heap while it is free */
    SCHI_ATOMIC(SCHI_STATE) state;  /* any */
    SCHI_ATOMIC(sch_fn) fn;         /* fixed after spawn; a poll task's is a sch_poll_fn */
    void *arg;                      /* fixed after spawn */
    union {
        struct schi_stack *stack;   /* owner: the suspended context, NULL: none */
        struct schi_thread *thread; /* owner: a blocking job's thread, NULL: none yet */
    } on;
    SCHI_CELL(struct schi_waiter *) joiner; /* the joiner until JOIN_WAITER, then complete */
    SCHI_ATOMIC(uint64_t) id;       /* fixed after spawn */
    SCHI_ATOMIC(const sch_spawn_desc *) desc; /* fixed after spawn; may be NULL */
};

SCHI_STATIC_ASSERT(sizeof(sch_task) <= 64, "a task is one cache line");
SCHI_STATIC_ASSERT(offsetof(sch_task, node) == 0, "queues link the first member");

/* What is fixed while the task lives, for who knows that it does. */
static uint64_t schi_task_id(const sch_task *task) {
    return schi_load_rlx(&task->id); /* rlx: fixed */
}
static const sch_spawn_desc *schi_task_desc(const sch_task *task) {
    return schi_load_rlx(&task->desc); /* rlx: fixed */
}
static sch_fn schi_task_fn(const sch_task *task) {
    return schi_load_rlx(&task->fn); /* rlx: fixed */
}

static sch_task *schi_task_of(schi_node *node) { return (sch_task *)(void *)node; }
static SCHI_STATE schi_task_refs(SCHI_STATE state) { return state / SCHI_REF; }

static void schi_task_set_id(sch_task *task, uint64_t id) {
    schi_store_rel(&task->id, id); /* rel: pairs with acq in schi_task_sight */
}

/* Each core counts in steps from its index + 1, those without one from 0: no number comes twice. */
#define SCHI_ID_STEP (SCH_MAX_WORKERS < 2048 ? UINT64_C(2048) : UINT64_C(65536))

/* What sch_wake does to the state. true: the task is ours now, queue it. */
static bool schi_task_wake(sch_task *task) {
    SCHI_STATE old = schi_load_rlx(&task->state), now; /* rlx: the swap decides */
    do {
        if (old & SCHI_COMPLETE) return false;
        if (!(old & SCHI_SCHEDULED) && (old & SCHI_WAIT_WAKE)) {
            now = (old | SCHI_SCHEDULED) & ~SCHI_WAIT_BITS;
        } else {
            now = old | SCHI_WOKEN;
        }
        /* acqrel: what we did before the wake is seen by the task, even if WOKEN was set before. */
    } while (!schi_cas_weak_acqrel(&task->state, &old, now));
    return !(old & SCHI_SCHEDULED) && (old & SCHI_WAIT_WAKE);
}

/* The operation that the task waits for has happened. true: queue it. (K4) */
static bool schi_task_grant(sch_task *task) {
    SCHI_STATE old = schi_load_rlx(&task->state), now; /* rlx: the swap decides */
    do {
        SCHI_ASSERT(!(old & (SCHI_COMPLETE | SCHI_GRANTED)));
        now = old & SCHI_SCHEDULED ? old | SCHI_GRANTED : (old | SCHI_SCHEDULED) & ~SCHI_WAIT_BITS;
        /* acqrel: what happened is seen by the waiter. */
    } while (!schi_cas_weak_acqrel(&task->state, &old, now));
    return !(old & SCHI_SCHEDULED);
}

/* Ask it to end. 1: queue it; 0: it will see; -ESRCH: it has ended. A poll task is polled once
 * more; again: also if it was asked before (shutdown: it will be dropped). */
static int schi_task_cancel(sch_task *task, bool again) {
    SCHI_STATE old = schi_load_rlx(&task->state), now; /* rlx: the swap decides */
    bool mine;
    do {
        if (old & SCHI_COMPLETE) return -ESRCH;
        mine = !(old & SCHI_SCHEDULED) && (old & SCHI_WAIT_CANCEL) &&
               (again || !(old & SCHI_CANCELLED));
        now = old | SCHI_CANCELLED;
        if (mine) {
            now = (now | SCHI_SCHEDULED) & ~SCHI_WAIT_BITS;
            if (!(old & SCHI_POLL)) now |= SCHI_BY_CANCEL;
        } else if ((old & SCHI_POLL) && (again || !(old & SCHI_CANCELLED))) {
            now |= SCHI_WOKEN;
        }
        /* acqrel: as in wake. */
    } while (!schi_cas_weak_acqrel(&task->state, &old, now));
    return mine ? 1 : 0;
}

/* Its shield is over, and it is in a wait. 1: it was cancelled before: queue it; 0: a cancel may
 * resume it from now on; -EAGAIN: it does not wait yet, or no more. */
static int schi_task_unshield(sch_task *task) {
    SCHI_STATE old = schi_load_rlx(&task->state), now; /* rlx: the swap decides */
    do {
        if (old & SCHI_SCHEDULED) return -EAGAIN;
        now = old | SCHI_WAIT_CANCEL;
        if (old & SCHI_CANCELLED) now = (old & ~SCHI_WAIT_BITS) | SCHI_SCHEDULED | SCHI_BY_CANCEL;
        /* acqrel: as in wake. */
    } while (!schi_cas_weak_acqrel(&task->state, &old, now));
    return (old & SCHI_CANCELLED) != 0;
}

/* Has it happened already what this wait is for? Then *now is the state to go on with. */
static bool schi_task_stays(SCHI_STATE old, SCHI_STATE wait, SCHI_STATE *now) {
    if ((old & SCHI_WOKEN) && (wait & SCHI_WAIT_WAKE)) {
        if (old & SCHI_POLL) *now &= ~SCHI_WOKEN; /* the poll that follows is for it */
        return true;
    }
    if (old & SCHI_GRANTED) {
        SCHI_ASSERT(!(old & SCHI_POLL));
        return true;
    }
    if (!(old & SCHI_CANCELLED) || !(wait & SCHI_WAIT_CANCEL) || (old & SCHI_POLL)) return false;
    *now |= SCHI_BY_CANCEL;
    return true;
}

/* The owner lets a waiting task go, after its context is saved. `wait` says what may resume it
 * besides a grant. false: something has happened already, it stays SCHEDULED and ours: queue it
 * again. */
static bool schi_task_idle(sch_task *task, SCHI_STATE wait) {
    SCHI_STATE old = schi_load_rlx(&task->state), now; /* rlx: the swap decides */
    bool stay;
    do {
        SCHI_ASSERT((old & SCHI_SCHEDULED) &&
                    !(old & (SCHI_WAIT_BITS | SCHI_COMPLETE))); /* K1 K3 */
        now = old & ~SCHI_NEW;
        stay = SCHI_UNLIKELY(old & (SCHI_WOKEN | SCHI_GRANTED | SCHI_CANCELLED)) &&
               schi_task_stays(old, wait, &now);
        if (!stay) now = (now & ~SCHI_SCHEDULED) | wait;
        /* acqrel: gives the saved context to whoever schedules it; takes what a waker did. */
    } while (!schi_cas_weak_acqrel(&task->state, &old, now));
    return !stay;
}

/* Borrow a task that waits, to look at it: it is ours as if it had been scheduled. What happens to
 * it meanwhile is kept, as for any task that is SCHEDULED; schi_task_idle(task, *wait) gives it
 * back, and if that says no it is to be queued. false: it does not wait. */
static bool schi_task_borrow(sch_task *task, SCHI_STATE *wait) {
    SCHI_STATE old = schi_load_rlx(&task->state); /* rlx: the swap decides */
    do {
        if ((old & (SCHI_SCHEDULED | SCHI_COMPLETE)) || schi_task_refs(old) == 0) return false;
        *wait = old & SCHI_WAIT_BITS;
        /* acqrel: pairs with idle; its saved context is ours to read. */
    } while (!schi_cas_weak_acqrel(&task->state, &old, (old | SCHI_SCHEDULED) & ~SCHI_WAIT_BITS));
    return true;
}

/* The task has ended. Drops the scheduler's reference unless a joiner must be granted first: then
 * (JOIN_WAITER in the result) the caller grants it and releases. Returns the state before.
 * Without a handle nobody counts on the state any more: what a late wake or a shutdown's cancel
 * sets means nothing, walkers take no references; so it goes by a plain store. */
static SCHI_STATE schi_task_complete(sch_task *task, SCHI_STATE how) {
    SCHI_STATE old = schi_load_acq(&task->state), now; /* acq: the release of the last handle */
    if (schi_task_refs(old) == 1) {
        SCHI_ASSERT((old & SCHI_SCHEDULED) && !(old & (SCHI_COMPLETE | SCHI_JOIN_WAITER)));
        now = ((old & ~SCHI_SCHEDULED) | SCHI_COMPLETE | how) - SCHI_REF;
        schi_store_rel(&task->state, now); /* rel: pairs with acq of the id in schi_task_sight */
        return old;
    }
    do {
        SCHI_ASSERT((old & SCHI_SCHEDULED) && !(old & SCHI_COMPLETE)); /* K1 */
        now = (old & ~SCHI_SCHEDULED) | SCHI_COMPLETE | how;
        if (!(old & SCHI_JOIN_WAITER)) now -= SCHI_REF;
        /* acqrel: what the task did is seen by joiners; takes the joiner's record. */
    } while (!schi_cas_weak_acqrel(&task->state, &old, now));
    return old;
}

/* Clear bits that only the task itself clears; returns the state before. */
static SCHI_STATE schi_task_clear(sch_task *task, SCHI_STATE bits) {
    return schi_and_acqrel(&task->state, ~bits); /* acqrel: takes what the setter did */
}

/* It has ended, and the reference that the caller holds is the only one: nobody else writes its
 * state any more (walkers leave alone what has ended), so that one goes by a plain store. The state
 * was loaded with acquire: pairs with complete, and with the releases before. */
static bool schi_task_is_last(SCHI_STATE state) {
    return (state & SCHI_COMPLETE) && schi_task_refs(state) == 1;
}

enum { SCHI_JOIN_DONE = 1, SCHI_JOIN_CLAIMED };

/* Begin to join: DONE (it has ended and the reference is dropped), CLAIMED (we are its joiner),
 * -EBUSY, -EINVAL. *before gets the state. */
static int schi_task_join(sch_task *task, SCHI_STATE *before) {
    SCHI_STATE old = schi_load_acq(&task->state), now; /* acq: as in last */
    *before = 0;
    if (schi_task_is_last(old) && !(old & SCHI_JOINED)) {
        schi_store_rlx(&task->state, (old | SCHI_JOINED) - SCHI_REF); /* rlx: ours alone */
        *before = old;
        return SCHI_JOIN_DONE;
    }
    do {
        if (old & SCHI_JOINED) return old & SCHI_COMPLETE ? -EINVAL : -EBUSY;
        now = old | SCHI_JOINED;
        if (old & SCHI_COMPLETE) now -= SCHI_REF;
        /* acqrel: takes what the task did; gives our uses of the handle to whoever frees it. */
    } while (!schi_cas_weak_acqrel(&task->state, &old, now));
    *before = old;
    return old & SCHI_COMPLETE ? SCHI_JOIN_DONE : SCHI_JOIN_CLAIMED;
}

/* The joiner's record is in place: let complete see it. false: the task has ended meanwhile. */
static bool schi_task_join_wait(sch_task *task) {
    SCHI_STATE old = schi_load_rlx(&task->state); /* rlx: the swap decides */
    do {
        if (old & SCHI_COMPLETE) return false;
        /* acqrel: gives the record to complete. */
    } while (!schi_cas_weak_acqrel(&task->state, &old, old | SCHI_JOIN_WAITER));
    return true;
}

/* Give up joining. false: it has ended, and the grant has come or is on its way. */
static bool schi_task_join_cancel(sch_task *task) {
    SCHI_STATE old = schi_load_rlx(&task->state); /* rlx: the swap decides */
    do {
        if (old & SCHI_COMPLETE) return false;
        /* acqrel: the record is ours again. */
    } while (!schi_cas_weak_acqrel(&task->state, &old, old & ~(SCHI_JOINED | SCHI_JOIN_WAITER)));
    return true;
}

/* Slabs: blocks of one size, by core.
 *   Source      Per-owner free lists with a remote list after mimalloc (Leijen et al., 2019).
 *   State       heap: one size of one core, or of nobody (then under a lock). local: free blocks,
 *               for the owner. remote: blocks freed by others, a stack that the owner takes whole.
 *               slab: SCH_SLAB_SIZE bytes aligned to that, so that a task finds its own.
 *   Invariants  L1  a block's memory stays a task until the runtime ends: state is always readable,
 *                   its reference count 0 while the block is free
 *               L2  a block is referenced, or in exactly one of local, remote, beyond slab->used
 *   Walkers     read slabs, used and states at any time, and what a task is by schi_task_sight.
 *               They take no references: a waiting task they borrow. Slabs are only added.
 *   Afterwards  handles may outlive the runtime. It orphans each heap: remote becomes ORPHANED,
 *               what is still referenced is counted, and the last release frees slabs and heap.
 */
#define SCHI_HEAP_CLASSES 11
#define SCHI_ORPHANED ((schi_node *)(uintptr_t)1)

struct schi_heap;

typedef struct schi_slab {
    struct schi_heap *heap;      /* fixed */
    bool driven;                 /* fixed: of a SCH_CURRENT_THREAD runtime */
    sch_runtime *rt;             /* fixed; not to be followed after the runtime's end */
    struct schi_slab *next;      /* fixed before the slab is published */
    SCHI_ATOMIC(uint32_t) used;  /* owner writes: blocks ever handed out */
    uint32_t outstanding;        /* while orphaning */
    uint32_t process;            /* fixed: the schi_process that its runtime lives in */
} schi_slab;

typedef struct schi_heap {
    sch_allocator allocator;      /* fixed: a copy, it outlives the runtime */
    sch_runtime *rt;              /* fixed */
    SCHI_ATOMIC(struct schi_core *) core; /* the owner; NULL: shared under a lock, or orphaned */
    bool driven;                  /* fixed: see the slab */
    uint32_t block, per_slab;     /* fixed: bytes of a block, blocks in a slab */
    schi_node *local;             /* owner */
    SCHI_ATOMIC(schi_slab *) slabs; /* owner pushes, any reads */
    SCHI_ATOMIC(schi_node *) remote SCHI_ALIGNED(SCH_CACHELINE); /* any pushes, owner takes all */
    SCHI_ATOMIC(intptr_t) orphans; /* referenced blocks, once orphaned */
} schi_heap;

#define SCHI_SLAB_HEADER ((sizeof(schi_slab) + 63) / 64 * 64)

static const uint16_t schi_heap_sizes[SCHI_HEAP_CLASSES] = {64,  80,  96,  128,  192, 256,
                                                            384, 512, 1024, 2048, 4096};
SCHI_STATIC_ASSERT(SCH_TASK_STATE_MAX == 4096 - 64, "the largest class");

static unsigned schi_heap_class(size_t state_size) {
    size_t size = 64 + state_size;
    unsigned c = 0;
    while (schi_heap_sizes[c] < size) c++;
    return c;
}

static schi_slab *schi_slab_of(const sch_task *task) {
    return (schi_slab *)((uintptr_t)task & ~(uintptr_t)(SCH_SLAB_SIZE - 1));
}

static sch_runtime *schi_task_runtime(const sch_task *task) { return schi_slab_of(task)->rt; }

/* A handle that was released, joined or detached is nobody's: a free block's count is 0 (L1). */
static void schi_task_used(const sch_task *task) {
    SCHI_USAGE(schi_task_refs(schi_load_rlx(&task->state)) > 0); /* rlx: ours, if it is right */
    (void)task;
}

/* A task of the process that forked us: its locks and queues may be in any state here. */
static bool schi_task_is_foreign(const sch_task *task) {
    uint32_t process = schi_process();
    return SCHI_UNLIKELY(process != 0) && schi_slab_of(task)->process != process;
}

static sch_task *schi_slab_block(schi_slab *slab, uint32_t index) {
    return (sch_task *)(void *)((char *)slab + SCHI_SLAB_HEADER +
                                (size_t)index * slab->heap->block);
}

/* A poll task's state, behind the task. */
static void *schi_task_state(sch_task *task) { return (char *)task + 64; }

/* With config.task_times, at the end of the block. The owner of a SCHEDULED task writes (K2). */
typedef struct schi_times {
    schi_counter spawned, queued, begun, let_go; /* schi_now_ns(), read by any */
} schi_times;

static schi_times *schi_times_of(sch_task *task) {
    return (schi_times *)(void *)((char *)task + schi_slab_of(task)->heap->block) - 1;
}

static schi_heap *schi_heap_new(const sch_allocator *a, sch_runtime *rt, struct schi_core *core,
                                unsigned size_class, bool driven) {
    schi_heap *heap = (schi_heap *)schi_alloc_zeroed(a, sizeof *heap, SCH_CACHELINE);
    if (!heap) return NULL;
    heap->allocator = *a;
    heap->rt = rt;
    heap->driven = driven;
    schi_store_rlx(&heap->core, core); /* rlx: published with the heap */
    heap->block = schi_heap_sizes[size_class];
    heap->per_slab = (uint32_t)((SCH_SLAB_SIZE - SCHI_SLAB_HEADER) / heap->block);
    return heap;
}

static bool schi_heap_grow(schi_heap *heap) {
    schi_slab *slab = (schi_slab *)schi_alloc(&heap->allocator, SCH_SLAB_SIZE, SCH_SLAB_SIZE);
    if (!slab) return false;
    slab->heap = heap;
    slab->rt = heap->rt;
    slab->driven = heap->driven;
    slab->next = schi_load_rlx(&heap->slabs); /* rlx: only the owner writes it */
    slab->outstanding = 0;
    slab->process = schi_process();
    schi_store_rlx(&slab->used, 0u); /* rlx: published by the next store */
    schi_store_rel(&heap->slabs, slab); /* rel: pairs with acq in walkers */
    return true;
}

/* A block from beyond a slab's used part, or from a new slab. */
static SCHI_NOINLINE sch_task *schi_heap_alloc_slow(schi_heap *heap) {
    schi_slab *slab;
    sch_task *task;
    uint32_t used;
    schi_node *list = schi_load_rlx(&heap->remote); /* rlx: a hint, the exchange decides */
    /* acqrel: pairs with the pushes of remote frees; their last uses come before ours. */
    if (list != NULL) list = schi_xchg_acqrel(&heap->remote, (schi_node *)NULL);
    if (list != NULL) {
        heap->local = schi_rd(&list->next);
        return schi_task_of(list);
    }
    slab = schi_load_rlx(&heap->slabs); /* rlx: only the owner writes it */
    used = slab ? schi_load_rlx(&slab->used) : 0; /* rlx: only the owner writes it */
    if (!slab || used == heap->per_slab) {
        if (!schi_heap_grow(heap)) return NULL;
        slab = schi_load_rlx(&heap->slabs); /* rlx: as above */
        used = 0;
    }
    task = schi_slab_block(slab, used);
    schi_store_rlx(&task->state, (SCHI_STATE)0); /* rlx: published by the next store */
    schi_store_rel(&slab->used, used + 1);       /* rel: pairs with acq in walkers (L1) */
    return task;
}

/* A free block, its state 0. Owner, or under the lock. NULL: out of memory. */
static sch_task *schi_heap_alloc(schi_heap *heap) {
    schi_node *node = heap->local;
    if (SCHI_UNLIKELY(node == NULL)) return schi_heap_alloc_slow(heap);
    heap->local = schi_rd(&node->next);
    return schi_task_of(node);
}

static void schi_heap_destroy(schi_heap *heap) {
    sch_allocator a = heap->allocator;
    /* acq: pairs with grow; whoever comes here is alone, ordered by the last count. */
    schi_slab *slab = schi_load_acq(&heap->slabs), *next;
    for (; slab; slab = next) {
        next = slab->next;
        schi_free(&a, slab, SCH_SLAB_SIZE, SCH_SLAB_SIZE);
    }
    schi_free(&a, heap, sizeof *heap, SCH_CACHELINE);
}

/* A block nobody references any more goes back. core: the caller's, NULL without one. */
static void schi_heap_free(struct schi_core *core, sch_task *task) {
    schi_heap *heap = schi_slab_of(task)->heap;
    schi_node *top;
    /* rlx: only its owner finds itself here, and nobody once it is orphaned */
    if (SCHI_LIKELY(core != NULL && schi_load_rlx(&heap->core) == core)) {
        schi_wr(&task->node.next, heap->local);
        heap->local = &task->node;
        return;
    }
    top = schi_load_rlx(&heap->remote); /* rlx: the swap decides */
    do {
        if (top == SCHI_ORPHANED) {
            /* acqrel: every release comes before the free; 1: we were the last. */
            if (schi_sub_acqrel(&heap->orphans, (intptr_t)1) == 1) schi_heap_destroy(heap);
            return;
        }
        schi_wr(&task->node.next, top);
        /* acqrel: pairs with the owner's exchange; our last use comes before its reuse. */
    } while (!schi_cas_weak_acqrel(&heap->remote, &top, &task->node));
}

/* The runtime ends: free the heap, or leave it to the last of the handles still out. */
static void schi_heap_orphan(schi_heap *heap) {
    intptr_t outstanding = 0;
    schi_node *lists[2];
    /* rlx: a later runtime's core may have the same address */
    schi_store_rlx(&heap->core, (struct schi_core *)NULL);
    lists[0] = heap->local;
    lists[1] =
        schi_xchg_acqrel(&heap->remote, SCHI_ORPHANED); /* acqrel: as in alloc; later frees count */
    for (schi_slab *s = schi_load_acq(&heap->slabs); s; s = s->next) { /* acq: as in walkers */
        outstanding += (intptr_t)schi_load_acq(&s->used);             /* acq: as in walkers */
    }
    for (int i = 0; i < 2; i++) {
        for (schi_node *node = lists[i]; node; node = schi_rd(&node->next)) outstanding--;
    }
    /* acqrel: as in free; releases since the exchange have counted below 0. */
    if (schi_add_acqrel(&heap->orphans, outstanding) + outstanding == 0) schi_heap_destroy(heap);
}

/* What a task is, for walkers, who have no reference: it may end and its block be used again at any
 * moment. */
typedef struct schi_sight {
    uint64_t id;
    SCHI_STATE state;
    const sch_spawn_desc *desc;
    sch_fn fn;
} schi_sight;

/* false: there is no task that lives. Of what spawn stores, id comes first, then desc and fn, then
 * the state, each with release. So who loads with acquire sees with a new desc or fn also the new
 * id, and with a new id also that the state before is over: with one id before and after, and a
 * state between that says "alive", all is one task's. */
static bool schi_task_sight(sch_task *task, schi_sight *s) {
    for (;;) {
        s->id = schi_load_acq(&task->id);       /* acq: see above */
        s->state = schi_load_acq(&task->state); /* acq: see above */
        if (schi_task_refs(s->state) == 0 || (s->state & SCHI_COMPLETE)) return false;
        s->desc = schi_load_acq(&task->desc);               /* acq: see above */
        s->fn = schi_load_acq(&task->fn);                   /* acq: see above */
        if (schi_load_rlx(&task->id) == s->id) return true; /* rlx: they brought a new one */
    }
}

static void schi_task_retain(sch_task *task) {
    schi_add_rlx(&task->state, SCHI_REF); /* rlx: the caller has a reference already */
}

/* Drop a reference. core: the caller's, NULL without one. */
static void schi_task_release(struct schi_core *core, sch_task *task) {
    SCHI_STATE old = schi_load_acq(&task->state); /* acq: see schi_task_is_last */
    if (schi_task_is_last(old)) {
        schi_store_rlx(&task->state, old - SCHI_REF); /* rlx: ours alone */
    } else {
        old = schi_sub_acqrel(&task->state, SCHI_REF); /* acqrel: every use comes before the free */
    }
    SCHI_USAGE(schi_task_refs(old) > 0);
    if (schi_task_refs(old) == 1) schi_heap_free(core, task);
}

/*==================================================================================================
 * MARK: - [7] Context switch, stacks (private)
 *   Leaving one stack for another, and where task stacks come from.
 *   Uses [1] [3] [4].  Used by [11].  Tests: tests/unit/stack.c
 *================================================================================================*/

/* What sanitizers and C++ need to know of a context besides its stack pointer. */
typedef struct schi_ctx {
    void *sp;               /* saved stack pointer; with ucontext unused */
    void *exception_state[2]; /* C++: caught exceptions, number of uncaught ones */
#if SCHI_TSAN
    void *tsan_fiber;
#endif
#if SCHI_ASAN
    void *asan_fake_stack;
    const void *asan_bottom;
    size_t asan_size;
#endif
#if SCHI_UCONTEXT
    ucontext_t uc;
#endif
} schi_ctx;

#if SCHI_TSAN
#ifdef __cplusplus
extern "C" {
#endif
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
#ifdef __cplusplus
}
#endif
#endif
#if SCHI_ASAN
#ifdef __cplusplus
extern "C" {
#endif
void __sanitizer_start_switch_fiber(void **fake, const void *bottom, size_t size);
void __sanitizer_finish_switch_fiber(void *fake, const void **bottom, size_t *size);
#ifdef __cplusplus
}
#endif
#endif
#ifdef SCH_VALGRIND /* say -DSCH_VALGRIND where valgrind is to know our stacks */
#include <valgrind/memcheck.h>
#endif

/* The C++ runtime keeps a thread's caught exceptions in two words; they belong to the stack. */
#if defined(__APPLE__) && defined(__cplusplus)
extern void *schi_cxa_globals(void) __asm__("___cxa_get_globals");
#elif defined(__APPLE__) /* a C program has no such symbol there, and a weak one does not link */
#define schi_cxa_globals ((void *(*)(void))0)
#else
extern void *schi_cxa_globals(void) __asm__("__cxa_get_globals") __attribute__((weak));
#endif

/* schi_ctx_swap(save, to, record): keep the callee-saved registers on this stack and its pointer in
 * *save, take those of `to`. Also kept: the control words of the floating-point units, not their
 * flags. Returns the record of whoever switches back, which thread that may be. A fresh context
 * starts in a function that gets it and never returns; its return address is 0.
 *   Prediction  The processor expects each return to be to behind the latest call that has not
 *               returned. So a switch to a context that was left is a return, as all were left by
 *               the same call; a fresh one is jumped to, and left by a return (schi_ctx_go, never a
 *               call): what ran on it is, to the processor, a function that the switch called. */
#if SCHI_ASM_X86_64
#define SCHI_CTX_TAKE(r) /* the registers that stand at the stack pointer */ \
    "ldmxcsr (" r "rsp)\n\tfldcw 4(" r "rsp)\n\taddq $8, " r "rsp\n\t" \
    "popq " r "r15\n\tpopq " r "r14\n\tpopq " r "r13\n\tpopq " r "r12\n\t" \
    "popq " r "rbx\n\tpopq " r "rbp\n\t"

__attribute__((naked, noinline)) static void *schi_ctx_swap(void **save SCHI_UNUSED,
                                                           void *to SCHI_UNUSED,
                                                           void *record SCHI_UNUSED) {
    __asm__ volatile(
        "pushq %rbp\n\tpushq %rbx\n\tpushq %r12\n\tpushq %r13\n\tpushq %r14\n\tpushq %r15\n\t"
        "subq $8, %rsp\n\tstmxcsr (%rsp)\n\tfnstcw 4(%rsp)\n\t"
        "movq %rsp, (%rdi)\n\t"
        "movq %rsi, %rsp\n\t" SCHI_CTX_TAKE("%")
        "movq %rdx, %rax\n\tcmpq $0, (%rsp)\n\tje 1f\n\tret\n"
        "1:\tmovq %rdx, %rdi\n\tjmp *%rbx\n\t");
}

static SCHI_INLINE void schi_ctx_go(void *to, void *record) {
    __asm__ volatile("movq %0, %%rsp\n\t" SCHI_CTX_TAKE("%%") "ret"
                     :
                     : "r"(to), "a"(record)
                     : "memory");
    __builtin_unreachable();
}

static void *schi_ctx_fresh(char *top, void (*entry)(void *)) {
    uint64_t *sp = (uint64_t *)(void *)top;
    uint32_t control[2] = {0, 0};
    __asm__ volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(control[0]), "=m"(control[1]));
    *--sp = 0;                          /* where entry would return to: ends backtraces */
    *--sp = 0;                          /* rbp */
    *--sp = (uint64_t)(uintptr_t)entry; /* rbx */
    for (int i = 0; i < 4; i++) *--sp = 0;
    *--sp = (uint64_t)control[1] << 32 | control[0];
    return sp;
}
#elif SCHI_ASM_AARCH64
/* gcc has no naked functions here. The symbol is weak and hidden: several units may carry it. */
#if defined(__APPLE__)
#define SCHI_SYMBOL(name) "_" #name
#define SCHI_SYMBOL_BEGIN ".private_extern _schi_ctx_swap\n\t.globl _schi_ctx_swap\n\t" \
                          ".weak_definition _schi_ctx_swap\n\t"
#else
#define SCHI_SYMBOL(name) #name
#define SCHI_SYMBOL_BEGIN ".weak schi_ctx_swap\n\t.hidden schi_ctx_swap\n\t" \
                          ".type schi_ctx_swap, %function\n\t"
#endif
#define SCHI_CTX_TAKE /* the registers that stand at the stack pointer; x10: where to go on */ \
    "ldp x19, x20, [sp]\n\tldp x21, x22, [sp, #16]\n\tldp x23, x24, [sp, #32]\n\t" \
    "ldp x25, x26, [sp, #48]\n\tldp x27, x28, [sp, #64]\n\tldp x29, x30, [sp, #80]\n\t" \
    "ldp d8, d9, [sp, #96]\n\tldp d10, d11, [sp, #112]\n\tldp d12, d13, [sp, #128]\n\t" \
    "ldp d14, d15, [sp, #144]\n\tldp x9, x10, [sp, #160]\n\tmsr fpcr, x9\n\t" \
    "add sp, sp, #176\n\t"

__asm__(".text\n\t.p2align 4\n\t" SCHI_SYMBOL_BEGIN
        SCHI_SYMBOL(schi_ctx_swap) ":\n\t"
        "hint #34\n\t" /* bti c */
        "sub sp, sp, #176\n\t"
        "stp x19, x20, [sp]\n\tstp x21, x22, [sp, #16]\n\tstp x23, x24, [sp, #32]\n\t"
        "stp x25, x26, [sp, #48]\n\tstp x27, x28, [sp, #64]\n\tstp x29, x30, [sp, #80]\n\t"
        "stp d8, d9, [sp, #96]\n\tstp d10, d11, [sp, #112]\n\tstp d12, d13, [sp, #128]\n\t"
        "stp d14, d15, [sp, #144]\n\tmrs x9, fpcr\n\tstp x9, x30, [sp, #160]\n\t"
        "mov x10, sp\n\tstr x10, [x0]\n\tmov sp, x1\n\t" SCHI_CTX_TAKE
        "mov x0, x2\n\tcbz x10, 1f\n\tret x10\n"
        "1:\tmov x16, x19\n\tbr x16\n\t"); /* by x16: may go to `bti c` */
#ifdef __cplusplus
extern "C"
#endif
void *schi_ctx_swap(void **save, void *to, void *record) __attribute__((visibility("hidden")));

static SCHI_INLINE void schi_ctx_go(void *to, void *record) {
    register void *x0 __asm__("x0") = record;
    __asm__ volatile("mov sp, %0\n\t" SCHI_CTX_TAKE "ret x10" : : "r"(to), "r"(x0) : "memory");
    __builtin_unreachable();
}

static void *schi_ctx_fresh(char *top, void (*entry)(void *)) {
    uint64_t *sp = (uint64_t *)(void *)(top - 176), fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    memset(sp, 0, 176); /* x29, x30 too: ends backtraces */
    sp[0] = (uint64_t)(uintptr_t)entry; /* x19 */
    sp[20] = fpcr;
    return sp;
}
#endif

static void schi_ctx_exceptions(schi_ctx *from, schi_ctx *to) {
    void *(*globals)(void) = schi_cxa_globals; /* Apple's is never NULL, and clang says so */
    void **words;
    if (!globals) return;
    words = (void **)globals();
    from->exception_state[0] = words[0], from->exception_state[1] = words[1];
    words[0] = to->exception_state[0], words[1] = to->exception_state[1];
}

/* The native stack of the calling thread becomes a context that can be left and come back to. */
static void schi_ctx_home(schi_ctx *home) {
    memset(home, 0, sizeof *home);
#if SCHI_TSAN
    home->tsan_fiber = __tsan_get_current_fiber();
#endif
}

/* Leave one context for another; `record` is this thread's. Returns when somebody switches back,
 * with the record of whoever does, maybe on another thread; then call schi_ctx_landed first. */
static inline void *schi_ctx_switch(schi_ctx *from, schi_ctx *to, void *record) {
    schi_ctx_exceptions(from, to);
#if SCHI_ASAN
    __sanitizer_start_switch_fiber(&from->asan_fake_stack, to->asan_bottom, to->asan_size);
#endif
#if SCHI_TSAN
    __tsan_switch_to_fiber(to->tsan_fiber, 0);
#endif
#if SCHI_UCONTEXT
    swapcontext(&from->uc, &to->uc);
    (void)record;
    return schi_tls_get();
#else
    return schi_ctx_swap(&from->sp, to->sp, record);
#endif
}

/* Leave a context for ever, for one that was left. Not instrumented: no sanitizer counts a call
 * that never returns. */
SCHI_UNINSTRUMENTED static SCHI_INLINE void schi_ctx_leave(schi_ctx *to) {
    schi_ctx dead;
    schi_ctx_exceptions(&dead, to);
#if SCHI_ASAN
    __sanitizer_start_switch_fiber(NULL, to->asan_bottom, to->asan_size);
#endif
#if SCHI_TSAN
    __tsan_switch_to_fiber(to->tsan_fiber, 0);
#endif
#if SCHI_UCONTEXT
    setcontext(&to->uc);
#else
    schi_ctx_go(to->sp, schi_tls_get());
#endif
}

/* We are on `self` again, or for the first time; `before` is the context that was left. */
static inline void schi_ctx_landed(schi_ctx *self, schi_ctx *before) {
#if SCHI_ASAN
    const void *bottom = NULL;
    size_t size = 0;
    __sanitizer_finish_switch_fiber(self->asan_fake_stack, &bottom, &size);
    if (before) before->asan_bottom = bottom, before->asan_size = size;
#else
    (void)self, (void)before;
#endif
}

/* The return addresses on this stack, innermost first. glibc and Apple's libc have backtrace(); it
 * is named without its header, which is not everywhere, and may be missing. */
#if defined(__GLIBC__)
extern int schi_libc_backtrace(void **frames, int max) __asm__("backtrace") __attribute__((weak));
#elif defined(__APPLE__)
extern int schi_libc_backtrace(void **frames, int max) __asm__("_backtrace");
#else
#define schi_libc_backtrace ((int (*)(void **, int))0)
#endif

static unsigned schi_backtrace(void **frames, unsigned max) {
    int (*take)(void **, int) = schi_libc_backtrace; /* Apple's is never NULL, and clang says so */
    int n = take ? take(frames, (int)max) : 0;
    return n > 0 ? (unsigned)n : 0;
}

/* Stacks.
 *   State       A stack is a slice of a mapping; its record stands at its upper end, so that one
 *               touched page holds the record and the first frames. Below the lower end: a guard.
 *               clean: never used or given back to the system; dirty: it still has its pages, and
 *               is taken first.  Each core caches some of its own.
 *   Who         pool: under its lock.  A stack: the core that caches it, or the task or loop on it.
 *   Invariant   A stack in a cache or the pool holds no live frame.
 */
typedef struct schi_frame { /* what a context that may wait keeps apart from its task */
    unsigned in_blocking;  /* depth of sch_block_in_place */
    unsigned shields;      /* depth of sch_shield_begin */
    uint64_t shield_until; /* of all of them */
    unsigned blocks_thread; /* the same where it only calls */
    bool poll_again;       /* sch_yield_now in a poll task */
    bool in_await;         /* operations are awaited, which know the waiter: wait for no place */
    bool many;             /* wait_for is the first of several */
    sch_wait_kind wait;    /* what it waits for, for dumps and counters */
    const void *wait_for;  /* a sch_task, a sch_op */
    uint64_t since;        /* when it was let go, at the earliest; 0: unknown */
} schi_frame;

typedef struct schi_stack { /* what a switch touches comes first, in one line                     */
    schi_ctx ctx;
    schi_frame frame;
    int guard;  /* kind of guard; 0: a canary                                         */
    bool ready; /* guard and fiber are made                                           */
    struct schi_stack
        *next;     /* cache or pool                                                      */
    char *mapping; /* lower end, guard included                                          */
    size_t size;   /* bytes of the slice, guard and record included                      */
    size_t mapped; /* own mapping of this size (a task's own stack size); 0: slice       */
#ifdef SCH_VALGRIND
    unsigned valgrind_id;
#endif
} schi_stack;

typedef struct schi_stack_chunk {
    struct schi_stack_chunk *next;
    char *memory;
    size_t size;
    unsigned
        unplaced; /* stacks at the lower end that nobody has taken yet; their pages are untouched */
} schi_stack_chunk;

typedef struct schi_stack_pool {
    schi_mutex lock;
    schi_stack *dirty;      /* under lock: used, all their pages are still there                 */
    schi_counter num_dirty; /* under lock, read by any                                          */
    schi_stack *clean;         /* under lock */
    schi_stack_chunk *chunks;  /* under lock */
    unsigned next_chunk;       /* under lock: stacks in the next mapping */
    schi_counter num_stacks, num_free; /* written under lock, read by any */
    size_t stack_size;         /* fixed */
    size_t page;               /* fixed */
    const sch_allocator *allocator;
} schi_stack_pool;

#define SCHI_STACK_CANARY UINT64_C(0x5bd1e995a7c15f4b)
#define SCHI_STACK_MIN 16384u
#define SCHI_STACK_MAX (UINT64_C(1) << 30)
#define SCHI_STACK_CHUNK_MAX 64u

static int schi_stack_pool_init(schi_stack_pool *p, const sch_allocator *a, size_t stack_size) {
    memset(p, 0, sizeof *p);
    p->page = schi_page_size();
    p->stack_size = schi_round_up(stack_size, p->page) + p->page;
    p->next_chunk = 4;
    p->allocator = a;
    return schi_mutex_init(&p->lock);
}

static char *schi_stack_map(const sch_allocator *a, size_t size, size_t page) {
    if (a->map_pages) {
        char *memory = (char *)(a->map_pages)(size, a->user);
        SCHI_USAGE(((uintptr_t)memory & (schi_page_size() - 1)) == 0);
        return memory;
    }
    return (char *)schi_alloc(a, size, page);
}

static void schi_stack_unmap(const sch_allocator *a, void *memory, size_t size, size_t page) {
#ifdef SCH_VALGRIND
    VALGRIND_MAKE_MEM_UNDEFINED(memory, size); /* what is below a stack pointer is out of bounds */
#endif
    if (a->map_pages) {
        (a->unmap_pages)(memory, size, a->user);
    } else {
        schi_free(a, memory, size, page);
    }
}

/* The record at the upper end of a slice; touches its last page. Slices lie a multiple of the page
 * size apart: without `color` the hot lines of all stacks would fall into the same few sets of the
 * cache. */
static schi_stack *schi_stack_place(char *memory, size_t size, size_t mapped) {
    size_t color = (uintptr_t)memory / size % 16 * 128;
    schi_stack *s =
        (schi_stack *)(void *)(memory + size - schi_round_up(sizeof(schi_stack), 64) - color);
    memset(s, 0, sizeof *s);
    s->mapping = memory;
    s->size = size;
    s->mapped = mapped;
    return s;
}

static uint64_t *schi_stack_canary(schi_stack *s) { return (uint64_t *)(void *)s->mapping; }

/* Guard it and tell the tools, before the first use. */
static void schi_stack_prepare(schi_stack *s, size_t page) {
    s->guard = schi_guard_pages(s->mapping, page);
    if (s->guard == 0) *schi_stack_canary(s) = SCHI_STACK_CANARY;
#if SCHI_TSAN
    s->ctx.tsan_fiber = __tsan_create_fiber(0);
#endif
#if SCHI_ASAN
    s->ctx.asan_bottom = s->mapping + page;
    s->ctx.asan_size = (size_t)((char *)s - s->mapping) - page;
#endif
#ifdef SCH_VALGRIND
    s->valgrind_id = VALGRIND_STACK_REGISTER(s->mapping, s);
#endif
    s->ready = true;
}

/* Undo schi_stack_prepare, before the memory goes back to where it came from. */
static void schi_stack_retire(schi_stack *s, size_t page) {
    if (!s->ready) return;
    schi_unguard_pages(s->mapping, page, s->guard);
#if SCHI_TSAN
    __tsan_destroy_fiber(s->ctx.tsan_fiber);
#endif
#ifdef SCH_VALGRIND
    VALGRIND_STACK_DEREGISTER(s->valgrind_id);
#endif
    s->ready = false;
}

/* What a switch to this stack touches: the begin of its record, and the frames below it. */
#define SCHI_STACK_HOT 128

static SCHI_INLINE void schi_stack_prefetch(const schi_stack *s) {
    if (s) schi_fetch((const char *)s - 192, 192 + SCHI_STACK_HOT);
}

/* The same for one of many, which have left the cache. First the record, and when that is there,
 * what is on the stack, or as much of it as the way back to the task's function may need. */
#define SCHI_STACK_FETCH 640

static SCHI_INLINE void schi_stack_fetch_record(const schi_stack *s) {
    schi_fetch((const char *)s, SCHI_STACK_HOT);
}

static SCHI_INLINE void schi_stack_fetch_frames(const schi_stack *s) {
#if !SCHI_UCONTEXT
    const char *sp = (const char *)s->ctx.sp;
    size_t used = (size_t)((const char *)s - sp);
    schi_fetch(sp, used < SCHI_STACK_FETCH ? used : SCHI_STACK_FETCH);
#else
    (void)s;
#endif
}

static void schi_stack_check(schi_stack *s) {
    /* Without a guard the canary is all that tells of an overflow; what it overwrote is unknown. */
    if (s->guard == 0) SCH_ASSERT(*schi_stack_canary(s) == SCHI_STACK_CANARY);
}

/* Map more stacks. Under the lock. */
static bool schi_stack_pool_grow(schi_stack_pool *p) {
    unsigned n = p->next_chunk;
    schi_stack_chunk *chunk =
        (schi_stack_chunk *)schi_alloc(p->allocator, sizeof *chunk, sizeof(void *));
    if (!chunk) return false;
    for (;;) { /* with little address space, one stack is better than none */
        chunk->size = n * p->stack_size;
        chunk->memory = chunk->size / n == p->stack_size /* no wrap */
                            ? schi_stack_map(p->allocator, chunk->size, p->page)
                            : NULL;
        if (chunk->memory || n == 1) break;
        n /= 2;
    }
    if (!chunk->memory) {
        schi_free(p->allocator, chunk, sizeof *chunk, sizeof(void *));
        return false;
    }
    chunk->next = p->chunks;
    p->chunks = chunk;
    chunk->unplaced = n;
    schi_count(&p->num_stacks, n);
    schi_count(&p->num_free, n);
    if (p->next_chunk < SCHI_STACK_CHUNK_MAX) p->next_chunk *= 2;
    return true;
}

/* A stack of the common size; NULL: out of memory. May map pages: at home only. */
static schi_stack *schi_stack_pool_get(schi_stack_pool *p) {
    schi_stack *s = NULL;
    schi_lock(&p->lock);
    if (p->dirty) {
        s = p->dirty;
        p->dirty = s->next;
        schi_count(&p->num_dirty, (uint64_t)-1);
    } else if (p->clean) {
        s = p->clean;
        p->clean = s->next;
    } else if ((p->chunks && p->chunks->unplaced > 0) || schi_stack_pool_grow(p)) {
        char *memory = p->chunks->memory + --p->chunks->unplaced * p->stack_size;
        s = schi_stack_place(memory, p->stack_size, 0);
    }
    if (s) {
        schi_count(&p->num_free, (uint64_t)-1);
    }
    schi_unlock(&p->lock);
    if (s && !s->ready) schi_stack_prepare(s, p->page);
    return s;
}

/* Used stacks, up to max, linked; returns how many. Under one lock: a core with many tasks that
 * wait asks often. */
static unsigned schi_stack_pool_take(schi_stack_pool *p, schi_stack **first, unsigned max) {
    unsigned n = 0;
    schi_stack **end = first;
    schi_lock(&p->lock);
    for (*first = p->dirty; *end && n < max; n++) end = &(*end)->next;
    p->dirty = *end;
    *end = NULL;
    schi_count(&p->num_dirty, 0 - (uint64_t)n);
    schi_count(&p->num_free, 0 - (uint64_t)n);
    schi_unlock(&p->lock);
    return n;
}

/* Give n linked stacks back, n > 0. At home only. */
static void schi_stack_pool_put_all(schi_stack_pool *p, schi_stack *first, schi_stack *last,
                                    unsigned n) {
    schi_lock(&p->lock);
    last->next = p->dirty;
    p->dirty = first;
    schi_count(&p->num_dirty, n);
    schi_count(&p->num_free, n);
    schi_unlock(&p->lock);
}

/* Give a stack back. At home only. */
static void schi_stack_pool_put(schi_stack_pool *p, schi_stack *s) {
    schi_stack_pool_put_all(p, s, s, 1);
}

/* Give the pages of some unused stacks, all but each one's last, back to the system; `keep` stacks
 * stay as they are. Returns whether there are more. At home only, with nothing better to do. */
static bool schi_stack_pool_trim(schi_stack_pool *p, uint64_t keep) {
    schi_stack *list = NULL, *s;
    if (schi_counted(&p->num_dirty) <= keep) return false;
    schi_lock(&p->lock);
    for (int i = 0; i < 32 && schi_counted(&p->num_dirty) > keep; i++) {
        s = p->dirty;
        p->dirty = s->next;
        s->next = list;
        list = s;
        schi_count(&p->num_dirty, (uint64_t)-1);
        schi_count(&p->num_free, (uint64_t)-1);
    }
    schi_unlock(&p->lock);
    while ((s = list) != NULL) {
        char *low = s->mapping + p->page, *high = (char *)((uintptr_t)s / p->page * p->page);
        list = s->next;
        if (high > low) schi_discard_pages(low, (size_t)(high - low));
        schi_lock(&p->lock);
        s->next = p->clean;
        p->clean = s;
        schi_count(&p->num_free, 1);
        schi_unlock(&p->lock);
    }
    return schi_counted(&p->num_dirty) > keep;
}

/* A stack of its own size; NULL: out of memory. At home only. */
static schi_stack *schi_stack_own_new(schi_stack_pool *p, size_t size) {
    size_t mapped = schi_round_up(size, p->page) + p->page;
    char *memory = schi_stack_map(p->allocator, mapped, p->page);
    schi_stack *s;
    if (!memory) return NULL;
    s = schi_stack_place(memory, mapped, mapped);
    schi_stack_prepare(s, p->page);
    return s;
}

static void schi_stack_own_free(schi_stack_pool *p, schi_stack *s) {
    size_t mapped = s->mapped;
    char *memory = s->mapping;
    schi_stack_retire(s, p->page);
    schi_stack_unmap(p->allocator, memory, mapped, p->page);
}

/* The runtime ends; every stack is back. */
static void schi_stack_pool_drop(schi_stack_pool *p) {
    for (schi_stack *s = p->dirty; s; s = s->next) schi_stack_retire(s, p->page);
    for (schi_stack *s = p->clean; s; s = s->next) schi_stack_retire(s, p->page);
    for (schi_stack_chunk *chunk = p->chunks, *next; chunk; chunk = next) {
        next = chunk->next;
        schi_stack_unmap(p->allocator, chunk->memory, chunk->size, p->page);
        schi_free(p->allocator, chunk, sizeof *chunk, sizeof(void *));
    }
    schi_mutex_drop(&p->lock);
}

/* Where a fresh stack starts, and the last thing that runs on it. The loop leaves a stack only by
 * returning here, so no instrumented frame is ever abandoned on one. */
SCHI_UNINSTRUMENTED SCHI_NOINLINE static void schi_stack_entry(void *record) {
    schi_ctx_leave(schi_loop(record));
    __builtin_unreachable();
}

#if SCHI_UCONTEXT
SCHI_UNINSTRUMENTED static void schi_stack_entry_uc(void) { schi_stack_entry(schi_tls_get()); }
#endif

/* Make a stack start from the beginning when it is next switched to. */
static void schi_stack_fresh(schi_stack *s) {
    memset(&s->frame, 0, sizeof s->frame);
    s->ctx.exception_state[0] = s->ctx.exception_state[1] = NULL;
#if SCHI_ASAN
    s->ctx.asan_fake_stack = NULL;
#endif
#if SCHI_UCONTEXT
    getcontext(&s->ctx.uc);
    s->ctx.uc.uc_stack.ss_sp = s->mapping;
    s->ctx.uc.uc_stack.ss_size = (size_t)((char *)s - s->mapping);
    s->ctx.uc.uc_link = NULL;
    makecontext(&s->ctx.uc, schi_stack_entry_uc, 0);
#else
    s->ctx.sp = schi_ctx_fresh((char *)s, schi_stack_entry);
#endif
}

/*==================================================================================================
 * MARK: - [8] Timer wheel (private)
 *   What is due when: insert, remove and expire in constant time.
 *   Uses [2] [4].  Used by [11] [14].  Tests: tests/unit/wheel.c, tests/model/waiting.c
 *================================================================================================*/

/* Timer wheel: hierarchical, one for each core.
 *   Source      Varghese and Lauck, "Hashed and hierarchical timing wheels"; the level from the
 *               highest bit in which two ticks differ, as in Tokio's time wheel.
 *   State       elapsed, the last tick that is over; LEVELS x 64 slots of timers, a bit for each
 *               in which something was put. A tick is 2^20 ns; level l has slots of 64^l ticks. A
 *               slot's timers are in WAYS lists, in turn: who goes through them follows all at
 *               once, so that the processor waits for memory once where it would wait WAYS times.
 *   Invariants  W1  a timer's tick >= elapsed, equal only while it is being expired
 *               W2  a timer is at the level of the highest group of 6 bits in which its tick and
 *                   elapsed differ, in the slot that this group of its tick names, which has its
 *                   bit
 *               W3  next <= the time of the first expiry; SCH_FOREVER if there is no timer
 *   By W2 all slots before elapsed's own are empty on each level, and the lowest level that is not
 *   empty has the earliest timers: the earliest are found by two count-zeros. Who takes a timer out
 *   leaves the bit of its slot; who looks for the earliest clears those of empty slots on his way.
 *   Who         all under the wheel's lock, by any thread: a task arms on one core and may be
 *               cancelled on another, and the timers of a core that is stuck still fire. next: any
 *               thread reads it.
 *   Never early: a deadline is rounded up to a tick, the present down.
 */
#define SCHI_TICK_SHIFT 20
#define SCHI_WHEEL_LEVELS 8 /* 64^8 ticks of 2^20 ns are more than 2^64 ns */
#define SCHI_WHEEL_SLOTS 64
#define SCHI_WHEEL_WAYS 8u /* a multiple of 4 */
#define SCHI_TICK_NEVER UINT64_MAX

/* What is linked is the sch_timer itself. It is small, so that a poll task with one fits into 128
 * bytes: while it is armed op.result is the address of the next in its list (0: the last), and
 * `armed` that of the result, or of the slot, which points to it; NULL: not armed. Both are under
 * the wheel's lock. Its tick is found again by `until` when it comes down a level. op.type is NULL
 * for a shield's; op.wheel says on which core it was armed last, 0: on none. */
typedef int64_t schi_timer_link;

SCHI_STATIC_ASSERT(sizeof(void *) <= sizeof(schi_timer_link), "a result takes a pointer");

static sch_timer *schi_timer_at(schi_timer_link link) { return (sch_timer *)(uintptr_t)link; }

static schi_timer_link schi_timer_link_to(sch_timer *t) {
    return (schi_timer_link)(uintptr_t)t;
}

typedef struct schi_wheel {
    schi_biased_lock lock SCHI_ALIGNED(SCH_CACHELINE); /* owner: who holds the core */
    SCHI_ATOMIC(uint64_t) next; /* ns; written under lock, read by any (W3) */
    uint64_t elapsed;           /* under lock */
    schi_counter armed, fired, cancelled; /* ever; written under lock, read by any */
    uint64_t occupied[SCHI_WHEEL_LEVELS]; /* under lock */
    unsigned way;               /* under lock: the list whose turn it is */
    /* Under lock: doubly linked. */
    schi_timer_link slots[SCHI_WHEEL_LEVELS][SCHI_WHEEL_SLOTS][SCHI_WHEEL_WAYS];
} schi_wheel;

static void schi_wheel_init(schi_wheel *w, uint64_t now) {
    memset(w, 0, sizeof *w);
    schi_biased_init(&w->lock);
    w->elapsed = now >> SCHI_TICK_SHIFT;
    schi_store_rlx(&w->next, SCH_FOREVER); /* rlx: published with the core */
}

/* own: the wheel of the caller's core, NULL: none. As schi_biased_lock_by. */
static inline bool schi_wheel_lock(schi_wheel *w, schi_wheel *own) {
    return schi_biased_lock_by(&w->lock, own ? &own->lock : NULL);
}

static inline void schi_wheel_unlock(schi_wheel *w, bool plain) {
    schi_biased_unlock(&w->lock, plain);
}

static unsigned schi_wheel_level(const schi_wheel *w, uint64_t tick) {
    return (unsigned)(63 - __builtin_clzll((tick ^ w->elapsed) | 1)) / 6;
}

static inline void schi_wheel_link(schi_wheel *w, sch_timer *t, uint64_t tick) {
    unsigned level = schi_wheel_level(w, tick), slot = tick >> (6 * level) & 63;
    schi_timer_link *head = &w->slots[level][slot][w->way++ % SCHI_WHEEL_WAYS];
    t->op.result = *head;
    t->armed = head;
    if (*head) schi_timer_at(*head)->armed = &t->op.result;
    *head = schi_timer_link_to(t);
    w->occupied[level] |= UINT64_C(1) << slot;
}

static bool schi_wheel_slot_is_empty(const schi_timer_link *lists) {
    schi_timer_link any = 0;
    for (unsigned way = 0; way < SCHI_WHEEL_WAYS; way += 4) {
        any |= lists[way] | lists[way + 1] | lists[way + 2] | lists[way + 3];
    }
    return any == 0;
}

static void schi_timer_unlink(sch_timer *t) {
    *t->armed = t->op.result;
    if (t->op.result) schi_timer_at(t->op.result)->armed = t->armed;
    t->armed = NULL;
    t->op.result = 0;
}

/* The tick at which something is to be done: the earliest timers expire, or come down a level. */
static uint64_t schi_wheel_next_tick(schi_wheel *w) {
    for (unsigned level = 0; level < SCHI_WHEEL_LEVELS; level++) {
        while (w->occupied[level]) {
            unsigned shift = 6 * level + 6;
            uint64_t slot = schi_lowest_bit(w->occupied[level]);
            if (!schi_wheel_slot_is_empty(w->slots[level][slot])) {
                return (w->elapsed >> shift << shift) | slot << (shift - 6);
            }
            w->occupied[level] &= ~(UINT64_C(1) << slot);
        }
    }
    return SCHI_TICK_NEVER;
}

static void schi_wheel_publish(schi_wheel *w) {
    uint64_t tick = schi_wheel_next_tick(w);
    /* seq: before a look at who watches [5.3] */
    schi_store_seq(&w->next, tick == SCHI_TICK_NEVER ? SCH_FOREVER : tick << SCHI_TICK_SHIFT);
}

static void schi_wheel_insert_locked(schi_wheel *w, sch_timer *t, uint64_t tick) {
    schi_wheel_link(w, t, tick);
    schi_count(&w->armed, 1);
}

/* The first tick at which it is due. */
static uint64_t schi_timer_tick(const sch_timer *t) {
    return ((t->until - 1) >> SCHI_TICK_SHIFT) + 1;
}

/* Arm a timer. until: not past, not SCH_FOREVER. Returns when the wheel must be looked at. own: as
 * in lock. */
static uint64_t schi_wheel_insert(schi_wheel *w, schi_wheel *own, sch_timer *t) {
    uint64_t tick = schi_timer_tick(t), next;
    bool plain = schi_wheel_lock(w, own);
    if (tick <= w->elapsed) tick = w->elapsed + 1; /* W1 */
    schi_wheel_insert_locked(w, t, tick);
    next = schi_load_rlx(&w->next); /* rlx: under the lock */
    if (tick << SCHI_TICK_SHIFT < next) {
        schi_wheel_publish(w);
        next = schi_load_rlx(&w->next); /* rlx: under the lock */
    }
    schi_wheel_unlock(w, plain);
    return next;
}

/* Disarm it. false: it has expired, and whoever expired it is done with it. */
static bool schi_wheel_remove(schi_wheel *w, schi_wheel *own, sch_timer *t) {
    bool plain = schi_wheel_lock(w, own);
    bool armed = t->armed != NULL;
    if (armed) {
        schi_timer_unlink(t); /* next stays, a lower bound (W3): most are armed and given up */
        schi_count(&w->cancelled, 1);
    }
    schi_wheel_unlock(w, plain);
    return armed;
}

/* Bring next, a bound, to what is there. */
static void schi_wheel_refresh(schi_wheel *w) {
    bool plain = schi_wheel_lock(w, NULL);
    schi_wheel_publish(w);
    schi_wheel_unlock(w, plain);
}

/* Timers ever armed, and what became of those that are no more. Without the lock: what was armed
 * last may be missing, but not if its end is there. Any thread. */
static void schi_wheel_totals(const schi_wheel *w, uint64_t *armed, uint64_t *fired,
                              uint64_t *cancelled) {
    *fired = schi_counted(&w->fired);
    *cancelled = schi_counted(&w->cancelled);
    *armed = schi_counted(&w->armed);
    if (*armed < *fired + *cancelled) *armed = *fired + *cancelled;
}

static uint64_t schi_wheel_len(const schi_wheel *w) {
    uint64_t armed, fired, cancelled;
    schi_wheel_totals(w, &armed, &fired, &cancelled);
    return armed - fired - cancelled;
}

/* Bring the timers of the next slot down to where they belong. Under the lock. */
static void schi_wheel_cascade(schi_wheel *w, uint64_t tick) {
    unsigned level = 1, slot;
    schi_timer_link lists[SCHI_WHEEL_WAYS];
    while (!w->occupied[level]) level++;
    slot = schi_lowest_bit(w->occupied[level]);
    memcpy(lists, w->slots[level][slot], sizeof lists);
    memset(w->slots[level][slot], 0, sizeof lists);
    w->occupied[level] &= ~(UINT64_C(1) << slot);
    w->elapsed = tick;
    while (!schi_wheel_slot_is_empty(lists)) {
        for (unsigned way = 0; way < SCHI_WHEEL_WAYS; way++) {
            sch_timer *t = schi_timer_at(lists[way]);
            uint64_t due;
            if (!t) continue;
            due = schi_timer_tick(t); /* before, if it was armed when it was due already */
            lists[way] = t->op.result;
            schi_wheel_link(w, t, due > tick ? due : tick);
        }
    }
}

/* Take a timer out of this slot of the lowest level, from the list whose turn it is. NULL: none. */
static sch_timer *schi_wheel_take(schi_wheel *w, unsigned slot) {
    for (unsigned i = 0; i < SCHI_WHEEL_WAYS; i++) {
        sch_timer *t = schi_timer_at(w->slots[0][slot][w->way++ % SCHI_WHEEL_WAYS]);
        if (!t) continue;
        schi_timer_unlink(t);
        schi_count(&w->fired, 1);
        return t;
    }
    return NULL;
}

/* Take out one timer that is due at `now`, disarmed; NULL: no more. Under the lock. */
static sch_timer *schi_wheel_expire(schi_wheel *w, uint64_t now) {
    uint64_t until = now >> SCHI_TICK_SHIFT, tick;
    for (;;) {
        if (w->occupied[0]) {
            unsigned slot = schi_lowest_bit(w->occupied[0]);
            sch_timer *t;
            if (((w->elapsed >> 6 << 6) | slot) > until) break;
            t = schi_wheel_take(w, slot);
            if (t) return t;
            w->occupied[0] &= w->occupied[0] - 1;
        } else {
            tick = schi_wheel_next_tick(w);
            if (tick > until) break;
            schi_wheel_cascade(w, tick);
        }
    }
    if (until > w->elapsed) w->elapsed = until;
    schi_wheel_publish(w);
    return NULL;
}

/*==================================================================================================
 * MARK: - [9] Driver (private)
 *   The descriptors of a runtime: which are ready, who waits for them, which are gone.
 *   Uses [2]-[4].  Used by [11] [14].  Tests: tests/unit/io.c, tests/model/descriptors.c
 *================================================================================================*/

/* Driver.
 *   Source      Tokio's I/O driver: readiness is kept apart from the waiters, and what a call found
 *               not ready is cleared only if no event has come since the call began.
 *   State       of a descriptor (schi_io):
 *               word     generation:32 | CLOSING | calls under way:31
 *               ready    count of events:24 | bits: what is ready, as far as is known
 *               waiting  the calls that wait; under lock, and so is every new bit in ready
 *   Invariants  D1  a call is linked only while none of the bits that it wants is set
 *               D2  a bit is cleared by who was told EAGAIN (or got less than it asked for of a
 *                   stream), and only if the count is the same as before its system call
 *               D3  a record keeps its type until the runtime is freed; its generation changes when
 *                   the descriptor is closed: a stale event or handle finds nobody
 *               D4  the descriptor is closed by the last call that leaves after CLOSING was set
 *   Why no readiness is lost: the system tells each change once. It sets a bit, and whoever wants
 *   that is taken from the list under the same lock (D1). The bit stays until a call that began
 *   after the event has found nothing (D2); what changes later comes as a new event.
 *   Who         events: whoever has the watch, or any worker in its place; all else: any thread.
 */
#define SCHI_IO_CLOSING (UINT64_C(1) << 31)
#define SCHI_IO_CALLS (SCHI_IO_CLOSING - 1)
#define SCHI_IO_EVENT 256u /* one event in ready */
#define SCHI_IO_BITS 255u
#define SCHI_IO_UNTOLD 128u /* in ready, for good: the system tells nothing of it */
#define SCHI_IO_CHUNKS 20 /* of 64, 128, 256, ... records */

typedef struct schi_io {
    SCHI_ATOMIC(uint64_t) word;  /* any */
    SCHI_ATOMIC(uint32_t) ready; /* any clears, under lock sets */
    schi_spinlock lock;
    SCHI_ATOMIC(sch_io_op *) waiting; /* written under lock */
    sch_runtime *rt;             /* fixed */
    uint32_t index;              /* fixed */
    uint32_t process;            /* fixed: schi_process() */
    int fd, traits;              /* fixed while open; see [3.1] */
    pid_t pid;                   /* fixed while open: of a child */
    SCHI_ATOMIC(uint32_t) spare; /* any: 1 more than a connection that was taken in vain; 0: none */
    struct schi_io *next_free;   /* under the driver's lock */
} schi_io;

typedef struct schi_driver {
    schi_word on;       /* any: somebody uses descriptors */
    schi_word stopped;  /* any: the runtime's threads are about to end */
    schi_poller poller; /* fixed once on */
    schi_mutex lock;
    SCHI_ATOMIC(schi_io *) chunks[SCHI_IO_CHUNKS]; /* under lock, read by any */
    schi_io *free;                                 /* under lock */
    uint32_t num_records;                          /* under lock */
    uint64_t *numbers;                             /* under lock: bitmap of the descriptors */
    size_t num_words;                              /* under lock: of numbers */
    schi_counter opened, closed, events;           /* any, atomic */
} schi_driver;

static unsigned schi_io_chunk(uint32_t index) {
    return 31u - (unsigned)__builtin_clz(index / 64 + 1);
}

static schi_io *schi_io_at(schi_driver *d, uint32_t index) {
    unsigned k = schi_io_chunk(index);
    schi_io *chunk;
    if (k >= SCHI_IO_CHUNKS) return NULL;
    chunk = schi_load_acq(&d->chunks[k]); /* acq: pairs with grow */
    return chunk ? &chunk[index - 64 * ((1u << k) - 1)] : NULL;
}

static uint64_t schi_io_token(const schi_io *io) {
    return (schi_load_rlx(&io->word) >> 32) << 32 | io->index; /* rlx: fixed while open */
}

/* Note that this number is watched. 0, -EEXIST (kqueue would not tell), -ENOMEM. Under lock. */
static int schi_io_take_number(schi_driver *d, const sch_allocator *a, int fd) {
    size_t word = (size_t)fd / 64, n = d->num_words;
    uint64_t bit = UINT64_C(1) << (fd % 64), *grown;
    if (word >= n) {
        n = word < 2 * n ? 2 * n : word + 1;
        grown = (uint64_t *)schi_alloc_zeroed(a, n * sizeof *grown, sizeof *grown);
        if (!grown) return -ENOMEM;
        if (d->numbers) memcpy(grown, d->numbers, d->num_words * sizeof *grown);
        schi_free(a, d->numbers, d->num_words * sizeof *grown, sizeof *grown);
        d->numbers = grown;
        d->num_words = n;
    }
    if (d->numbers[word] & bit) return -EEXIST;
    d->numbers[word] |= bit;
    return 0;
}

/* A record that was never used. Under lock. NULL: no memory. */
static schi_io *schi_io_grow(schi_driver *d, sch_runtime *rt, const sch_allocator *a) {
    unsigned k = schi_io_chunk(d->num_records);
    schi_io *chunk, *io;
    if (k >= SCHI_IO_CHUNKS) return NULL;
    if (!schi_io_at(d, d->num_records)) {
        chunk = (schi_io *)schi_alloc_zeroed(a, (sizeof *io << 6) << k, SCH_CACHELINE);
        if (!chunk) return NULL;
        schi_store_rel(&d->chunks[k], chunk); /* rel: pairs with acq in at */
    }
    io = schi_io_at(d, d->num_records);
    io->index = d->num_records++;
    io->rt = rt;
    io->process = schi_process();
    schi_store_rlx(&io->word, UINT64_C(1) << 32); /* rlx: nobody knows it yet */
    return io;
}

/* A record for a descriptor. NULL: *error says why not. */
static schi_io *schi_io_new(schi_driver *d, sch_runtime *rt, const sch_allocator *a, int fd,
                            int *error) {
    schi_io *io;
    schi_lock(&d->lock);
    io = d->free;
    if (io) {
        d->free = io->next_free;
    } else {
        io = schi_io_grow(d, rt, a);
    }
    *error = io ? schi_io_take_number(d, a, fd) : -ENOMEM;
    if (io) io->fd = *error ? -1 : fd;
    if (*error && io) {
        io->next_free = d->free;
        d->free = io;
        io = NULL;
    }
    schi_unlock(&d->lock);
    return io;
}

/* It is not open any more, or never was. Its number may come again at once. */
static void schi_io_free(schi_driver *d, schi_io *io) {
    uint64_t next = (schi_load_rlx(&io->word) >> 32) + 1; /* rlx: nobody uses it */
    schi_lock(&d->lock);
    d->numbers[io->fd / 64] &= ~(UINT64_C(1) << (io->fd % 64));
    io->fd = -1;
    /* rel: pairs with acqrel in enter; D3 */
    schi_store_rel(&io->word, (next & UINT32_MAX ? next & UINT32_MAX : 1) << 32);
    io->next_free = d->free;
    d->free = io;
    schi_unlock(&d->lock);
}

/* Of the process that forked us: its locks may be in any state here. */
static bool schi_io_is_foreign(const schi_io *io) {
    return SCHI_UNLIKELY(schi_process() != 0) && io->process != schi_process();
}

/* Why a handle names nothing. */
static SCHI_NOINLINE int schi_io_error(const sch_io *handle) {
    const schi_io *io = (const schi_io *)(handle ? handle->record : NULL);
    return io && schi_io_is_foreign(io) ? -EOWNERDEAD : -EBADF;
}

/* The record that a handle names, with a call counted; NULL: closed. */
static inline schi_io *schi_io_enter(const sch_io *handle) {
    schi_io *io = (schi_io *)handle->record;
    uint64_t word;
    if (!io || schi_io_is_foreign(io)) return NULL;
    word = schi_load_rlx(&io->word); /* rlx: the exchange decides */
    do {
        if (word >> 32 != handle->generation || (word & SCHI_IO_CLOSING)) return NULL;
        /* acqrel: pairs with free; the record is as open left it. */
    } while (!schi_cas_weak_acqrel(&io->word, &word, word + 1));
    return io;
}

static void schi_io_drop_spare(schi_io *io) {
    uint32_t spare = schi_xchg_seq(&io->spare, 0u);
    if (spare) close((int)spare - 1);
}

/* The last call has left after a close (D4). */
static SCHI_NOINLINE void schi_io_left(schi_driver *d, schi_io *io) {
    int fd = io->fd;
    schi_io_drop_spare(io);
    schi_count_shared(&d->closed, 1);
    schi_io_free(d, io); /* before the close: who gets the number next may give it at once */
    close(fd);
}

/* The call leaves. */
static inline void schi_io_leave(schi_driver *d, schi_io *io) {
    /* acqrel: other calls' uses of the descriptor come before its close. */
    uint64_t word = schi_sub_acqrel(&io->word, UINT64_C(1));
    if (SCHI_LIKELY((word & (SCHI_IO_CLOSING | SCHI_IO_CALLS)) != (SCHI_IO_CLOSING | 1))) return;
    schi_io_left(d, io);
}

/* A call that saw `seen` in ready found these not ready (D2). */
static void schi_io_clear(schi_io *io, uint32_t seen, uint32_t bits) {
    uint32_t now = seen;
    /* acqrel: a later event's bit is not overwritten; read again when it fails. */
    while (!schi_cas_acqrel(&io->ready, &now, now & ~bits)) {
        if ((now ^ seen) / SCHI_IO_EVENT) return;
    }
}

/* Under lock. */
static void schi_io_unlink(schi_io *io, sch_io_op *op) {
    sch_io_op *next = op->call.next, *prev = op->call.prev;
    if (next) next->call.prev = prev;
    if (prev) {
        prev->call.next = next;
    } else {
        schi_store_rlx(&io->waiting, next); /* rlx: under the lock */
    }
    op->call.linked = false;
}

/* Wait for an event. false: what it wants is ready, or the descriptor is closing or closed. */
static bool schi_io_link(schi_driver *d, schi_io *io, sch_io_op *op) {
    sch_io_op *first;
    uint64_t word;
    bool may;
    schi_spin_lock(&io->lock);
    word = schi_load_rlx(&io->word); /* rlx: who closes takes the lock after it has said so */
    may = !(schi_load_rlx(&io->ready) & op->call.want) && /* rlx: under lock */
          word >> 32 == op->io.generation && !(word & SCHI_IO_CLOSING) &&
          !schi_load_seq(&d->stopped);
    if (may) {
        first = schi_load_rlx(&io->waiting); /* rlx: under the lock */
        op->call.next = first;
        op->call.prev = NULL;
        if (first) first->call.prev = op;
        schi_store_rlx(&io->waiting, op); /* rlx: under the lock */
        op->call.linked = true;
    }
    schi_spin_unlock(&io->lock);
    return may;
}

/* A call that saw `seen` in ready has this result. asked: bytes; 0: not of bytes. */
static SCHI_INLINE int64_t schi_io_tried(schi_io *io, uint32_t seen, uint32_t want, size_t asked,
                                         int64_t result) {
    bool less = result > 0 && (uint64_t)result < asked && (io->traits & SCHI_FD_STREAM) &&
                (SCHI_HAS_PRIORITY || want == SCHI_WRITABLE) && /* or short at an urgent byte */
                !(seen & (SCHI_READ_END | SCHI_PRIORITY));
    if (less || result == -EAGAIN) schi_io_clear(io, seen, want);
    return result;
}

/* schi_io_try for recv and send on a socket, in place: see schi_call_io. */
static SCHI_INLINE int64_t schi_io_transfer(schi_io *io, bool writes, void *data, size_t len) {
    uint32_t want = writes ? SCHI_WRITABLE : SCHI_READABLE;
    uint32_t seen = schi_load_acq(&io->ready); /* acq: before the system call (D2) */
    int64_t n;
    if (!(seen & want)) return -EAGAIN;
    do {
        n = writes ? schi_fd_send(io->fd, data, len) : schi_fd_recv(io->fd, data, len);
    } while (SCHI_UNLIKELY(n == -EINTR));
    return schi_io_tried(io, seen, want, len, n);
}

/* Do it now if it can be done. -EAGAIN: it cannot. Counted in. */
static int64_t schi_io_try(schi_io *io, const sch_io_call *c, int own_thread) {
    uint32_t seen;
    int64_t result;
    if ((io->traits & SCHI_FD_SOCKET) && c->kind <= SCHI_CALL_WRITE) {
        return schi_io_transfer(io, c->kind == SCHI_CALL_WRITE, c->buffer, c->length);
    }
    seen = schi_load_acq(&io->ready); /* acq: as in transfer */
    if (c->kind == SCHI_CALL_SIGNAL && !(io->traits & SCHI_FD_SIGNALS)) return -EINVAL;
    if (c->kind == SCHI_CALL_CHILD && !(io->traits & SCHI_FD_CHILD)) return -EINVAL;
    if (!(seen & c->want)) return -EAGAIN;
    result = schi_fd_try(io->fd, io->traits | own_thread, io->pid, c);
    return schi_io_tried(io, seen, c->want, c->kind <= SCHI_CALL_WRITEV ? schi_fd_asked(c) : 0,
                         result);
}

/* Close what is open, at the runtime's end: nobody uses it any more. */
static void schi_driver_drop(schi_driver *d, const sch_allocator *a) {
    for (unsigned k = 0; k < SCHI_IO_CHUNKS; k++) {
        schi_io *chunk = schi_load_acq(&d->chunks[k]); /* acq: as in at */
        for (uint32_t i = 0; chunk && i < 64u << k; i++) {
            if (!chunk[i].rt || chunk[i].fd < 0) continue;
            schi_io_drop_spare(&chunk[i]);
            close(chunk[i].fd);
        }
        schi_free(a, chunk, (sizeof *chunk << 6) << k, SCH_CACHELINE);
    }
    schi_free(a, d->numbers, d->num_words * sizeof *d->numbers, sizeof *d->numbers);
    if (schi_load_seq(&d->on)) schi_poller_drop(&d->poller);
    schi_mutex_drop(&d->lock);
}

/*==================================================================================================
 * MARK: - [10] Metrics (private)
 *   Per-core counters, histograms and the ring of a trace: plain stores by whoever holds the core,
 *   read by anybody.
 *   Uses [2] [4].  Used by [11]-[13] [17] [18].  Tests: tests/unit/metrics.c, tests/unit/trace.c
 *================================================================================================*/
typedef struct schi_core_metrics {
    schi_counter thread, polls, lifo_polls, child_polls, lifo_capped, lifo_schedules,
        back_schedules, overflows, steal_operations, steals, lifo_steals, injected, inject_batches,
        inject_turns, no_local_work, searches, search_spins, relays, parks, park_unparks, noops,
        lends, lends_taken, handoffs, notifies, wakes, forced_yields, maintenances, spawned, jobs,
        ended, cancelled, busy_ns, mean_poll_ns;
    schi_counter waits[SCH_WAIT_KINDS];
} schi_core_metrics;

/* Histogram: log-linear. Values below 2^bits have a bucket each; above, each power of two has
 * 2^bits. The last bucket ends at 2^SCHI_HISTOGRAM_TOP ns, what is longer goes there.
 *   Who   the holder of the core writes, any reads. */
#define SCHI_HISTOGRAM_TOP 37u /* 2^37 ns: more than two minutes */

typedef struct schi_histogram {
    schi_counter *counts;
    schi_counter sum; /* of all values, ns */
} schi_histogram;

static unsigned schi_histogram_buckets(unsigned bits) {
    return (SCHI_HISTOGRAM_TOP - bits + 1) << bits;
}

static unsigned schi_histogram_bucket(unsigned bits, uint64_t value) {
    unsigned exponent = 63u - (unsigned)__builtin_clzll(value | 1);
    if (exponent < bits) return (unsigned)value;
    if (exponent >= SCHI_HISTOGRAM_TOP) return schi_histogram_buckets(bits) - 1;
    return ((exponent - bits) << bits) + (unsigned)(value >> (exponent - bits));
}

/* The largest value in a bucket. */
static uint64_t schi_histogram_limit(unsigned bits, unsigned bucket) {
    unsigned shift;
    if (bucket + 1 == schi_histogram_buckets(bits)) return UINT64_MAX;
    if (bucket >> bits == 0) return bucket;
    shift = (bucket >> bits) - 1;
    return ((uint64_t)(bucket - (shift << bits)) + 1) * (UINT64_C(1) << shift) - 1;
}

static void schi_histogram_add(schi_histogram *h, unsigned bits, uint64_t value) {
    schi_count(&h->counts[schi_histogram_bucket(bits, value)], 1);
    schi_count(&h->sum, value);
}

static bool schi_histogram_init(schi_histogram *h, const sch_allocator *a, unsigned buckets) {
    h->counts = (schi_counter *)schi_alloc_zeroed(a, buckets * sizeof *h->counts, 8);
    return h->counts != NULL;
}

static void schi_histogram_drop(schi_histogram *h, const sch_allocator *a, unsigned buckets) {
    schi_free(a, h->counts, buckets * sizeof *h->counts, 8);
}

/* Trace: a ring of the last events of a core, one writer (at a time), any readers.
 *   State       head: events ever written; event i is in marks[i mod size] until event i + size
 *               begins to be written, which is after head has become i + size.
 *   Reading     copy the marks from head - size on, then look at head again: of what was copied,
 *               those before (new head) - size + 1 may have been overwritten meanwhile.
 *   Orders      a mark's words are written rel and read acq: who has read a word of event i + size
 *               then reads a head of at least i + size, and so throws event i away.
 *               head is written rel and read acq: the events below it are whole.
 */
typedef enum schi_trace_kind {
    SCHI_TRACE_SPAWN = 1, /* task, by */
    SCHI_TRACE_WAKE,      /* task, by */
    SCHI_TRACE_BEGIN,     /* task, its descriptor or function (aux: 1 descriptor) */
    SCHI_TRACE_END,       /* task; aux: schi_end */
    SCHI_TRACE_LEAVE,     /* as BEGIN: into blocking code */
    SCHI_TRACE_RETURN,    /* as BEGIN: back from there, with a core */
    SCHI_TRACE_STEAL,     /* aux: victim << 16 | tasks */
    SCHI_TRACE_SEARCH,
    SCHI_TRACE_PARK,
    SCHI_TRACE_UNPARK,
    SCHI_TRACE_DRIVER,    /* aux: how many events it told */
    SCHI_TRACE_TIMERS     /* aux: how many expired */
} schi_trace_kind;

typedef enum schi_end { SCHI_END_WAITS, SCHI_END_YIELDS, SCHI_END_OVER } schi_end;

#define SCHI_NO_THREAD 0xffffffu /* of the user's, without a record */

typedef struct schi_mark { /* time; kind:8 thread:24 aux:32; task; by, descriptor or function */
    SCHI_ATOMIC(uint64_t) word[4];
} schi_mark;

typedef struct schi_trace {
    SCHI_ATOMIC(uint64_t) head;
    uint64_t size; /* fixed: a power of two */
    schi_mark *marks;
} schi_trace;

/* A ring of at least n; NULL: out of memory. */
static schi_trace *schi_trace_new(const sch_allocator *a, size_t n) {
    size_t size = 2;
    schi_trace *t;
    while (size < n) size *= 2;
    t = (schi_trace *)schi_alloc_zeroed(a, sizeof *t + size * sizeof(schi_mark), 8);
    if (!t) return NULL;
    t->size = size;
    t->marks = (schi_mark *)(void *)(t + 1);
    return t;
}

static void schi_trace_free(schi_trace *t, const sch_allocator *a) {
    if (t) schi_free(a, t, sizeof *t + t->size * sizeof(schi_mark), 8);
}

static void schi_trace_put(schi_trace *t, uint64_t what, uint64_t task, uint64_t other) {
    uint64_t head = schi_load_rlx(&t->head); /* rlx: one writer */
    schi_mark *m = &t->marks[head & (t->size - 1)];
    /* rel, each: pairs with acq in copy, see above. */
    schi_store_rel(&m->word[0], schi_now_ns());
    schi_store_rel(&m->word[1], what);  /* rel: as above */
    schi_store_rel(&m->word[2], task);  /* rel: as above */
    schi_store_rel(&m->word[3], other); /* rel: as above */
    schi_store_rel(&t->head, head + 1); /* rel: pairs with acq in copy */
}

/* What was read of a trace. */
typedef struct schi_trace_entry {
    uint64_t time, what, task, other;
} schi_trace_entry;

/* Copy the ring, oldest first; out has room for its size. Returns how many there are. */
static uint64_t schi_trace_copy(schi_trace *t, schi_trace_entry *out) {
    uint64_t head = schi_load_acq(&t->head); /* acq: pairs with rel in put */
    uint64_t first = head > t->size ? head - t->size : 0, lost, n = head - first;
    for (uint64_t i = 0; i < n; i++) {
        schi_mark *m = &t->marks[(first + i) & (t->size - 1)];
        out[i].time = schi_load_acq(&m->word[0]); /* acq: pairs with rel in put */
        out[i].what = schi_load_acq(&m->word[1]); /* acq: as above */
        out[i].task = schi_load_acq(&m->word[2]); /* acq: as above */
        out[i].other = schi_load_acq(&m->word[3]); /* acq: as above */
    }
    head = schi_load_acq(&t->head); /* acq: not older than the words above */
    lost = head + 1 > t->size + first ? head + 1 - t->size - first : 0;
    if (lost >= n) return 0;
    memmove(out, out + lost, (size_t)(n - lost) * sizeof *out);
    return n - lost;
}

/*==================================================================================================
 * MARK: - [11.1] Worker: records, waking (private)
 *   Cores, threads and the runtime they belong to; how a ready task gets to a worker.
 *   Uses [5] [6] [7] [10].  Used by all that follow.  Tests: tests/unit/wakeups.c
 *================================================================================================*/
typedef struct schi_core {
    sch_runtime *rt;          /* fixed */
    unsigned index;           /* fixed */
    /* The rest belongs to whoever holds the core. */
    unsigned countdown;    /* 1 more than the polls until one of the two below is due            */
    unsigned counted_from; /* the same polls when both were last brought up to date              */
    unsigned ticks_left;      /* until maintenance */
    unsigned event_interval;  /* ticks from one maintenance to the next */
    unsigned inject_left;     /* until a look at the injector */
    unsigned inject_interval;
    unsigned lifo_polls;      /* in a row, of woken tasks and of children */
    unsigned num_stacks;      /* in the cache */
    schi_stack *stacks;       /* cache of free stacks */
    sch_task *next;           /* chosen by a task that waits, for the loop that it switches to */
    SCHI_ATOMIC(uint32_t) wake_len; /* queued tasks that are worth a wake; thieves read it */
    uint64_t batch_start_polls;
    uint64_t park_polls;      /* polls at the last park */
    uint64_t sample_ns, sample_polls; /* being measured */
    uint64_t mean_poll_ns, last_sample_ns;
    uint64_t turn_ns;         /* when the present visit to the tasks began */
    uint64_t asked_at;        /* polls when the driver was last asked */
    uint64_t served_at;       /* and the wheel */
    uint64_t gathered_at;     /* polls when a batch of the injector was last taken, ring empty */
    uint64_t turn_end_ns;     /* when the one just before it ended; 0: there was none */
    uint64_t last_id;         /* of the tasks spawned here */
    uint64_t last_id_seen;    /* the same when a task last ended, or one with a stack waited */
    bool alone;               /* fixed after start: the only core, nobody steals or is woken */
    bool closed;              /* shutdown has come to this core */
    schi_rng rng;
    schi_wheel wheel; /* any thread: it has a lock */
    SCHI_ATOMIC(schi_heap *) heaps[SCHI_HEAP_CLASSES]; /* walkers read */
    schi_core_metrics m;
    schi_histogram histograms[SCH_HISTOGRAMS]; /* with config.task_times */
    SCHI_ATOMIC(schi_trace *) trace; /* NULL until one was started */
    schi_runq q;              /* thieves too */
} schi_core;

typedef enum schi_thread_kind {
    SCHI_WORKER,   /* runs tasks, or replaces a thread that does not */
    SCHI_BLOCKING, /* of the blocking pool */
    SCHI_VISITOR   /* somebody's thread inside sch_block_on */
} schi_thread_kind;

/* What must be done about the context that was left, by the side that was switched to: before that
 * its registers are not saved and its stack is stood on. */
typedef enum schi_commit_kind {
    SCHI_COMMIT_NONE,
    SCHI_COMMIT_REQUEUE,   /* a yield, or its core is lost: back of the queue */
    SCHI_COMMIT_IDLE,      /* a wait: SCHEDULED -> idle */
    SCHI_COMMIT_OWN_STACK, /* free a stack of a task's own size */
    SCHI_COMMIT_LOOK       /* nothing was left: who is switched to shows its stack, and goes back */
} schi_commit_kind;

/* A look at a suspended stack: who looks, and what it sees. In its frame. */
#define SCHI_FRAMES 48
typedef struct schi_look_at {
    schi_ctx *back;
    unsigned num;
    void *frames[SCHI_FRAMES];
} schi_look_at;

/* A thread's record. Its own thread uses it, but for sleeper, slot, and job (the pool's lock). */
typedef struct schi_thread {
    sch_runtime *rt;        /* fixed */
    schi_thread_kind kind;  /* fixed */
    schi_core *core;        /* held; NULL: none */
    schi_core *lent;        /* lent in sch_block_in_place, maybe gone */
    schi_biased_lock loan;  /* its; who takes what is lent has it */
    SCHI_ATOMIC(sch_task *) running; /* its task, NULL: none; others may look */
    schi_stack *stack;      /* pooled stack we are on; NULL: at home */
    schi_ctx home;          /* the native stack */
    schi_ctx *left;         /* context we just came from, for the sanitizers */
    schi_look_at *look;     /* with SCHI_COMMIT_LOOK */
    schi_commit_kind commit;
    sch_task *commit_task;
    schi_stack *commit_stack;
    SCHI_STATE commit_wait;
    uint64_t begun;         /* when its poll began, with config.task_times */
    unsigned budget;        /* operations left in this poll */
    unsigned no_wait;       /* depth of hooks and drop functions */
    bool searching;
    bool rescue;            /* search as the standby does */
    bool reserved;          /* a thread is kept in our place for blocking calls [12] */
    bool failed;            /* could not do what the configuration asks */
    schi_frame frame;       /* of blocking jobs */
    schi_sleeper sleeper;
    schi_slot slot;
    unsigned number;        /* fixed: index in rt->threads */
    schi_os_thread os;      /* set before it holds a core */
    struct schi_thread *outer; /* record to go back to when a visit ends */
    /* blocking pool */
    struct schi_thread *idle_next, *idle_prev;
    bool idle;
    sch_task *job;
} schi_thread;

/* Who waits. Lives in the waiter's frame, until it has been granted: only one of those who could do
 * it does, the one that claims it. The waiter claims it itself when it gives up. */
typedef struct schi_waiter {
    SCHI_ATOMIC(uint32_t) claimed; /* any */
    bool alone;          /* fixed: one operation; its completion grants without a claim */
    sch_task *task;      /* a task: granted */
    schi_thread *driver; /* a visitor that runs tasks meanwhile: done, under its idle lock */
    bool done;           /* under that lock */
    uint64_t deadline;   /* of a driver; UINT64_MAX: none */
    schi_parker parker;  /* a plain thread */
} schi_waiter;

typedef struct schi_pool {
    schi_mutex lock;
    schi_node *first, *last; /* queued jobs */
    schi_thread *idle;
    schi_counter queued, threads, idle_threads; /* under lock, read by any */
    schi_counter spins, spin_hits;              /* the same */
    schi_counter waiting;    /* jobs that wait; less by whoever ends a wait */
    unsigned live, starting; /* threads that have not ended; of these, not known to be made */
    unsigned max;            /* fixed */
    bool coming;             /* a thread was given a job and has not begun it */
    bool closed;
    bool may_spin;           /* fixed: there are CPUs enough */
    bool spinning;           /* an idle thread that does not sleep yet */
    uint8_t spin_pause;      /* times to go to sleep at once after the last spin that was in vain */
    uint8_t spin_wait;       /* of those, still to come */
} schi_pool;

enum { SCHI_WALK_NONE, SCHI_WALK_BETWEEN, SCHI_WALK_BORROWS };

/* What the standby saw of a core when it last looked. */
typedef struct schi_look {
    uint64_t polls, children;
    SCHI_INDEX tail;
    bool queued, lifo;
} schi_look;

#define SCHI_MAGIC UINT32_C(0x73636872)
/* A shutdown's balance starts here for each core and the shared heaps that have not come in yet. */
#define SCHI_NOT_IN ((int64_t)1 << 40)

struct sch_runtime {
    uint32_t magic;              /* fixed; 0 when freed; see schi_magic */
    sch_config config;           /* fixed: resolved, but for the intervals that tune themselves */
    schi_core **cores;           /* fixed */
    unsigned num_cores;          /* fixed after start */
    unsigned made_cores;         /* fixed after start */
    unsigned histogram_len;      /* fixed: buckets of each */
    SCHI_ATOMIC(uint32_t) has_barrier; /* cores may keep their rings: schi_barrier_all works */
    SCHI_ATOMIC(uint32_t) seen;  /* SCHI_SEE_...: what somebody wants to know of; rarely written */
    SCHI_ATOMIC(uint32_t) closing; /* shutdown has begun */
    schi_idle idle;
    schi_inject inject;
    struct {
        schi_parker parker;
        schi_alarm alarm; /* see schi_has_alarms */
    } seats[SCHI_SEATS];  /* where those with seats sleep */
    uint64_t watch_until; /* under idle.lock: when the watch wakes at the latest */
    SCHI_ATOMIC(uint64_t) paused_at; /* config.paused_clock: the time */
    uint64_t look_at;     /* under idle.lock: when the look is due that ARMED says is coming */
    schi_driver driver;
    SCHI_ATOMIC(uint32_t) ring; /* for sch_poll_fd: 1 pushes from outside ring the alarm, 2 did */
    schi_stack_pool stacks;
    schi_pool pool;
    /* Threads; under idle.lock. */
    schi_thread **threads;
    unsigned max_threads;        /* fixed */
    unsigned num_threads;        /* records of threads that we made */
    unsigned top_thread;         /* 1 more than the highest number that any has had */
    unsigned num_workers;        /* worker threads, coming ones included: >= cores + idle.places */
    sch_task *reserve_first, *reserve_last; /* tasks that wait for a place */
    SCHI_ATOMIC(uint32_t) reserve_waiters;  /* how many; read without the lock */
    bool finished;               /* no task lives, everybody leaves */
    schi_os_thread last_exited;  /* joined by the next one */
    bool has_exited;
    /* Looks of the standby: whoever has its place. */
    schi_look *looks;
    uint64_t look_pushed;
    /* Tasks spawned and ended without a core; under shared_lock. */
    schi_mutex shared_lock SCHI_ALIGNED(SCH_CACHELINE);
    schi_heap *shared_heaps[SCHI_HEAP_CLASSES]; /* walkers take the lock */
    schi_counter shared_spawned, shared_jobs, shared_ended, shared_cancelled;
    bool shared_closed;
    /* Who pushes a task from outside may find the runtime freed as soon as that is done: see
     * schi_outside_left. */
    SCHI_ATOMIC(uint64_t) spawners_left; /* of shared_spawned: queued, and the spawner has left */
    SCHI_ATOMIC(uint64_t) wakers_came, wakers_left;
    SCHI_ATOMIC(uint32_t) guests SCHI_ALIGNED(SCH_CACHELINE); /* visits, and who looks at tasks */
    schi_counter remote_wakes, alarms, looks_done, rescues;
    SCHI_ATOMIC(uint64_t) seeds; /* of the cores' generators */
    SCHI_ATOMIC(schi_trace *) trace; /* of threads without a core, under trace_lock */
    schi_spinlock trace_lock;
    SCHI_ATOMIC(uint64_t) trace_from;  /* earlier events are of a trace before */
    SCHI_ATOMIC(uint64_t) trace_until; /* when it was stopped; 0: it goes on */
    schi_counter no_cores;       /* under idle.lock: nobody was woken for want of a core */
    schi_counter stalls, stall_ns; /* the watchdog */
    SCHI_ATOMIC(uint32_t) walking; /* SCHI_WALK_...: somebody looks at tasks [17.2] */
    struct schi_watchdog *watchdog; /* fixed after start; NULL: none */
    SCHI_ATOMIC(uint32_t) signalled; /* sch_wake_signal pushed something */
    SCHI_ATOMIC(int64_t) live;   /* during shutdown: tasks alive, plus SCHI_NOT_IN for each open */
    schi_event start;            /* the number of cores is settled */
    schi_event started;          /* every worker has called on_thread_start */
    SCHI_ATOMIC(uint32_t) num_started;
    schi_event done;             /* shutdown is over */
    schi_mutex control;          /* one shutdown joins the threads */
    bool joined;                 /* under control */
    schi_thread last_visitor;    /* sch_runtime_free: its parker is made with the runtime */
};

static schi_thread *schi_self(void) { return (schi_thread *)schi_tls_get(); }

static sch_task *schi_current(schi_thread *th) {
    return schi_load_rlx(&th->running); /* rlx: our own; others only compare it */
}

static void schi_set_current(schi_thread *th, sch_task *task) {
    schi_store_rlx(&th->running, task); /* rlx: as above */
}

/* A runtime's magic number tells what it is and which process made it. */
static uint32_t schi_magic(void) { return SCHI_MAGIC ^ schi_process(); }

static bool schi_is_runtime(const sch_runtime *rt) { return rt && rt->magic == schi_magic(); }

/* Why it is not one that can be used: EOWNERDEAD if the process that forked us made it. */
static SCHI_NOINLINE int schi_runtime_error(const sch_runtime *rt) {
    for (uint32_t process = schi_process(); rt && process > 0;) {
        if (rt->magic == (SCHI_MAGIC ^ --process)) return EOWNERDEAD;
    }
    return EINVAL;
}

/* Is this the record of a thread that we made? Visitors put theirs before it. */
static bool schi_is_own_thread(void *record) {
    schi_thread *th = (schi_thread *)record;
    while (th->outer) th = th->outer;
    return th->kind != SCHI_VISITOR;
}

/* A function of the user's returned in the child of a fork; its worker does not exist here. As when
 * the last thread of a process returns. */
static SCHI_NOINLINE __attribute__((noreturn)) void schi_child_end(void) { exit(0); }

static bool schi_is_closing(sch_runtime *rt) { return schi_load_seq(&rt->closing) != 0; }

/* Hooks must not wait: th->no_wait says so to whatever they call. */
static void schi_hook_thread(schi_thread *th, void (*hook)(void *, unsigned)) {
    if (!hook) return;
    th->no_wait++;
    hook(th->rt->config.hooks.user, th->number);
    SCHI_USAGE(schi_self() == th); /* hooks must not fork */
    th->no_wait--;
}

/* Hooks and drop functions must not wait: no_wait of the thread's record says so to what they call.
 * A plain thread gets a record for the time. */
static schi_thread *schi_no_wait_begin(schi_thread *th, schi_thread *spare, sch_runtime *rt) {
    if (!th) {
        memset(spare, 0, sizeof *spare);
        spare->rt = rt;
        spare->kind = SCHI_VISITOR;
        schi_tls_set(th = spare);
    }
    th->no_wait++;
    return th;
}

static void schi_no_wait_end(schi_thread *th, schi_thread *spare) {
    SCHI_USAGE(schi_self() == th); /* hooks and drop functions must not fork */
    th->no_wait--;
    if (th == spare) schi_tls_set(NULL);
}

static SCHI_NOINLINE void schi_hook_task(schi_thread *th, sch_runtime *rt,
                                         void (*hook)(void *, sch_task *), sch_task *task) {
    schi_thread spare;
    th = schi_no_wait_begin(th, &spare, rt);
    hook(rt->config.hooks.user, task);
    schi_no_wait_end(th, &spare);
}

/* Seeing ----------------------------------------------------------------------------------------*/

/* What somebody wants to know of: one word, so that where nobody does it costs one branch. */
enum { SCHI_SEE_HOOKS = 1, SCHI_SEE_TIMES = 2, SCHI_SEE_TRACE = 4 };

static uint32_t schi_seen_by_config(const sch_config *c) {
    const sch_hooks *h = &c->hooks;
    uint32_t seen = c->task_times ? SCHI_SEE_TIMES : 0;
    if (h->on_task_spawn || h->on_task_poll_start || h->on_task_poll_end || h->on_task_terminate) {
        seen |= SCHI_SEE_HOOKS;
    }
    return seen;
}

/* rlx: who misses the start of a trace misses an event */
static uint32_t schi_seen(sch_runtime *rt) { return schi_load_rlx(&rt->seen); }

/* Write down an event: on the ring of the core that the thread holds, else on the common one. */
static SCHI_NOINLINE void schi_trace_event(schi_thread *th, sch_runtime *rt, schi_trace_kind kind,
                                           uint64_t aux, uint64_t task, uint64_t other) {
    uint64_t number = th && th->rt == rt ? th->number : SCHI_NO_THREAD;
    uint64_t what = (uint64_t)kind << 56 | number << 32 | (uint32_t)aux;
    schi_trace *t;
    if (th && th->core && th->core->rt == rt) {
        t = schi_load_acq(&th->core->trace); /* acq: pairs with start */
        if (t) schi_trace_put(t, what, task, other);
        return;
    }
    t = schi_load_acq(&rt->trace); /* acq: as above */
    if (!t) return;
    schi_spin_lock(&rt->trace_lock);
    schi_trace_put(t, what, task, other);
    schi_spin_unlock(&rt->trace_lock);
}

/* The same for what is no task's. */
static inline void schi_see(schi_thread *th, sch_runtime *rt, schi_trace_kind kind, uint64_t aux) {
    if (SCHI_LIKELY(!(schi_seen(rt) & SCHI_SEE_TRACE))) return;
    schi_trace_event(th, rt, kind, aux, 0, 0);
}

/* How a trace names a task: its descriptor, or else its function. */
static void schi_trace_task(schi_thread *th, sch_runtime *rt, schi_trace_kind kind,
                            const sch_task *task) {
    bool described = schi_task_desc(task) != NULL;
    schi_trace_event(th, rt, kind, described, schi_task_id(task),
                     described ? (uint64_t)(uintptr_t)schi_task_desc(task)
                               : (uint64_t)(uintptr_t)schi_task_fn(task));
}

/* A task's time is a statistic that any may read. */
static void schi_stamp(schi_counter *time, uint64_t now) {
    schi_store_rlx(time, now); /* rlx: a statistic */
}

/* It is about to be queued, and not by itself. */
static void schi_see_wake(schi_thread *th, sch_runtime *rt, sch_task *task) {
    uint32_t seen = schi_seen(rt);
    sch_task *by = th && th->rt == rt ? schi_current(th) : NULL;
    if (seen & SCHI_SEE_TIMES) schi_stamp(&schi_times_of(task)->queued, schi_now_ns());
    if (seen & SCHI_SEE_TRACE) {
        schi_trace_event(th, rt, SCHI_TRACE_WAKE, 0, schi_task_id(task), by ? schi_task_id(by) : 0);
    }
}

/* Before its state shows it to walkers: they must not see the times of the block's last task. */
static SCHI_NOINLINE void schi_see_birth(sch_task *task) {
    schi_times *times = schi_times_of(task);
    uint64_t now = schi_now_ns();
    schi_stamp(&times->spawned, now);
    schi_stamp(&times->queued, now);
    schi_stamp(&times->begun, 0);
    schi_stamp(&times->let_go, 0);
}

static SCHI_NOINLINE void schi_see_spawn(schi_thread *th, sch_runtime *rt, sch_task *task) {
    uint32_t seen = schi_seen(rt);
    sch_task *by = th && th->rt == rt ? schi_current(th) : NULL;
    if (seen & SCHI_SEE_TRACE) {
        schi_trace_event(th, rt, SCHI_TRACE_SPAWN, 0, schi_task_id(task),
                         by ? schi_task_id(by) : 0);
    }
    if (rt->config.hooks.on_task_spawn) {
        schi_hook_task(th, rt, rt->config.hooks.on_task_spawn, task);
    }
}

/* It is given a thread. */
static SCHI_NOINLINE void schi_see_begin(schi_thread *th, sch_runtime *rt, sch_task *task) {
    uint32_t seen = schi_seen(rt);
    if (seen & SCHI_SEE_TIMES) {
        schi_times *times = schi_times_of(task);
        uint64_t now = schi_now_ns(), queued = schi_counted(&times->queued);
        if (th->core) {
            schi_histogram_add(&th->core->histograms[SCH_SCHEDULE_LATENCY],
                               rt->config.histogram_bits, now > queued ? now - queued : 0);
        }
        schi_stamp(&times->begun, now);
        th->begun = now;
    }
    if (seen & SCHI_SEE_TRACE) schi_trace_task(th, rt, SCHI_TRACE_BEGIN, task);
    if (rt->config.hooks.on_task_poll_start) {
        schi_hook_task(th, rt, rt->config.hooks.on_task_poll_start, task);
    }
}

/* The time of the poll that ends, or is interrupted, counts. */
static void schi_see_polled(schi_thread *th, sch_runtime *rt, sch_task *task) {
    schi_times *times = schi_times_of(task);
    uint64_t now = schi_now_ns();
    if (th->core) {
        schi_histogram_add(&th->core->histograms[SCH_POLL_TIME], rt->config.histogram_bits,
                           now > th->begun ? now - th->begun : 0);
    }
    schi_stamp(&times->let_go, now);
    schi_stamp(&times->queued, now); /* if it is queued again at once */
}

/* It is let go, its end included. */
static SCHI_NOINLINE void schi_see_end(schi_thread *th, sch_runtime *rt, sch_task *task,
                                       schi_end how) {
    uint32_t seen = schi_seen(rt);
    if (rt->config.hooks.on_task_poll_end) {
        schi_hook_task(th, rt, rt->config.hooks.on_task_poll_end, task);
    }
    if (seen & SCHI_SEE_TIMES) schi_see_polled(th, rt, task);
    if (seen & SCHI_SEE_TRACE) {
        schi_trace_event(th, rt, SCHI_TRACE_END, (uint64_t)how, schi_task_id(task), 0);
    }
}

/* A blocking job is about to wait, or goes on. */
static SCHI_NOINLINE void schi_see_job(sch_task *task, bool waits) {
    schi_times *times = schi_times_of(task);
    schi_stamp(waits ? &times->let_go : &times->begun, schi_now_ns());
}

/* It goes into blocking code, and leaves the core that it still has; and it comes back. */
static SCHI_NOINLINE void schi_see_leave(schi_thread *th, sch_runtime *rt) {
    uint32_t seen = schi_seen(rt);
    if (seen & SCHI_SEE_TIMES) schi_see_polled(th, rt, schi_current(th));
    if (seen & SCHI_SEE_TRACE) schi_trace_task(th, rt, SCHI_TRACE_LEAVE, schi_current(th));
}

static SCHI_NOINLINE void schi_see_return(schi_thread *th, sch_runtime *rt) {
    uint32_t seen = schi_seen(rt);
    if (seen & SCHI_SEE_TIMES) {
        th->begun = schi_now_ns();
        schi_stamp(&schi_times_of(schi_current(th))->begun, th->begun);
    }
    if (seen & SCHI_SEE_TRACE) schi_trace_task(th, rt, SCHI_TRACE_RETURN, schi_current(th));
}

/* Time: the system's, or with config.paused_clock one that stands still while anything runs. */
static uint64_t schi_clock(sch_runtime *rt) {
    if (SCHI_UNLIKELY(rt->config.paused_clock)) return schi_load_seq(&rt->paused_at);
    return schi_now_ns();
}

static uint64_t schi_now_of(schi_thread *th) {
    return th && th->rt ? schi_clock(th->rt) : schi_now_ns();
}

/* When the system's clock will show this time of the runtime's. If that is paused: never, unless it
 * has come; not all that was due when the clock jumped need have been taken from its wheel. */
static uint64_t schi_real_time(sch_runtime *rt, uint64_t time) {
    if (SCHI_LIKELY(!rt->config.paused_clock)) return time;
    return time != SCH_FOREVER && time <= schi_load_seq(&rt->paused_at) ? 0 : SCH_FOREVER;
}

/* Do those with seats sleep in alarms? With one worker only the watch is there, and has its own
 * parker until there is a driver. */
static bool schi_has_alarms(sch_runtime *rt) {
    return rt->config.workers > 1 || SCHI_SEATS_IN_ALARMS;
}

/* Waking ----------------------------------------------------------------------------------------*/

/* Without the lock, too: who had this seat may have left it, and another, or nobody, is rung in
 * vain. */
static void schi_ring_seat(sch_runtime *rt, schi_seat seat) {
    if (seat != SCHI_NO_SEAT) schi_unpark(&rt->seats[seat].parker, &rt->seats[seat].alarm);
}

/* The watch shall wake at this time or before. If nobody has it: who takes it will look at
 * everything. Under idle.lock. */
static void schi_watch_by(sch_runtime *rt, uint64_t time) {
    uint64_t now;
    if (!rt->idle.seated[SCHI_WATCH] || time >= rt->watch_until) return;
    rt->watch_until = time;
    if (!schi_has_alarms(rt)) {
        schi_ring_seat(rt, SCHI_WATCH);
    } else {
        now = schi_now_ns();
        schi_alarm_set(&rt->seats[SCHI_WATCH].alarm, time > now ? time - now : 1);
    }
}

/* Set the alarm of the standby, or of the watch if there is none, unless it is set, or nobody is
 * there to hear it: who takes the seat sets it then. Under idle.lock. */
static void schi_standby_arm(sch_runtime *rt) {
    schi_idle *d = &rt->idle;
    bool standby = schi_idle_seated(d, SCHI_STANDBY) != NULL;
    if (!d->has_standby || (!standby && !schi_idle_seated(d, SCHI_WATCH))) return;
    if (schi_or_seq(&d->word, SCHI_IDLE_ARMED) & SCHI_IDLE_ARMED) return;
    schi_count_shared(&rt->alarms, 1);
    rt->look_at = schi_saturating_add(schi_now_ns(), rt->config.standby_period_ns);
    if (standby) {
        schi_alarm_set(&rt->seats[SCHI_STANDBY].alarm, rt->config.standby_period_ns);
    } else {
        schi_watch_by(rt, rt->look_at);
    }
}

/* The same unless no core runs, or only such as are lent. Under idle.lock. */
static void schi_standby_arm_if_running(sch_runtime *rt) {
    schi_idle *d = &rt->idle;
    if (!d->has_standby || (schi_load_seq(&d->word) & SCHI_IDLE_ARMED)) return;
    if (schi_idle_somebody_runs(d)) schi_standby_arm(rt);
}

/* Somebody has lain down: a new standby takes over the look that the watch was to do. Under
 * idle.lock. */
static void schi_seat_taken(sch_runtime *rt, const schi_sleeper *s) {
    uint64_t now;
    if (s->seat == SCHI_STANDBY && (schi_load_seq(&rt->idle.word) & SCHI_IDLE_ARMED)) {
        now = schi_now_ns();
        schi_alarm_set(&rt->seats[SCHI_STANDBY].alarm, rt->look_at > now ? rt->look_at - now : 1);
    } else {
        schi_standby_arm_if_running(rt);
    }
}

/* The same for a thread that begins to run with a core: it has learnt the word from its own RMW. */
static void schi_standby_arm_if_clear(sch_runtime *rt, uint32_t word) {
    if ((word & SCHI_IDLE_ARMED) || !rt->idle.has_standby) return;
    schi_lock(&rt->idle.lock);
    schi_standby_arm(rt);
    schi_unlock(&rt->idle.lock);
}

static schi_thread *schi_thread_of(schi_sleeper *s) {
    return (schi_thread *)(void *)((char *)s - offsetof(schi_thread, sleeper));
}

/* Where a sleeper sleeps: seats have parkers of their own, which live as long as the runtime, so
 * that a signal handler can use them without the lock. Under idle.lock. */
static schi_parker *schi_parker_of(sch_runtime *rt, schi_sleeper *s) {
    return s->seat == SCHI_NO_SEAT ? &s->parker : &rt->seats[s->seat].parker;
}

static void schi_unpark_sleeper(sch_runtime *rt, schi_sleeper *s) {
    schi_unpark(schi_parker_of(rt, s),
                s->seat == SCHI_NO_SEAT ? NULL : &rt->seats[s->seat].alarm);
}

/* Leave a core with a sleeper and wake it. Under idle.lock; afterwards ring the seat that is
 * returned. Who has none is woken here: a thread takes the lock before its record goes, so the
 * record outlives the unpark. It does not need the lock to run; who has a seat does, and on a CPU
 * that both share would run at once, wait for the lock, and have us run again first. */
static schi_seat schi_give_core(sch_runtime *rt, schi_core *core, bool searching, bool rescue) {
    schi_sleeper *s = schi_idle_choose(&rt->idle);
    schi_seat seat;
    SCHI_ASSERT(s != NULL);
    seat = s->seat;
    s->searching = searching;
    s->rescue = rescue;
    schi_slot_give(&schi_thread_of(s)->slot, core);
    if (seat == SCHI_NO_SEAT) schi_unpark_sleeper(rt, s);
    /* It may have been on its way into an empty seat: send another. */
    s = schi_idle_heir(&rt->idle);
    if (s) schi_unpark_sleeper(rt, s);
    return seat;
}

/* Pair a sleeper with a core that nobody uses and wake it as a searcher. only_if_none: not while
 * somebody searches. false: no pair, or somebody searches. */
static bool schi_wake_one(sch_runtime *rt, bool only_if_none, bool rescue) {
    schi_idle *d = &rt->idle;
    unsigned core = SCHI_NO_CORE;
    schi_seat seat = SCHI_NO_SEAT;
    schi_lock(&d->lock);
    if (!(only_if_none && schi_idle_searching(schi_load_seq(&d->word)) > 0) &&
        schi_idle_has_sleeper(d)) {
        core = schi_idle_acquire(d, true);
        if (core == SCHI_NO_CORE) {
            core = schi_idle_acquire_lent(d, true);
            if (core != SCHI_NO_CORE) schi_count(&rt->cores[core]->m.lends_taken, 1);
        }
        if (core == SCHI_NO_CORE) schi_count(&rt->no_cores, 1);
    }
    if (core != SCHI_NO_CORE) seat = schi_give_core(rt, rt->cores[core], true, rescue);
    schi_unlock(&d->lock);
    schi_ring_seat(rt, seat);
    return core != SCHI_NO_CORE;
}

static void schi_count_wake(schi_thread *th, sch_runtime *rt) {
    if (th && th->core && th->rt == rt) {
        schi_count(&th->core->m.wakes, 1);
    } else {
        schi_count_shared(&rt->remote_wakes, 1);
    }
}

/* The loop around sch_run_some has something to do. The push comes before this look at ring, and
 * sch_run_some sets ring anew before it looks at the queues: one of the two sees the other. */
static SCHI_NOINLINE void schi_ring_loop(sch_runtime *rt) {
    if (schi_xchg_seq(&rt->ring, 2u) == 1) schi_alarm_set(&rt->seats[SCHI_WATCH].alarm, 0);
}

/* Hard rule: after a push to the injector from outside somebody must come. See [5.3]. */
static void schi_notify(schi_thread *th, sch_runtime *rt) {
    if (SCHI_UNLIKELY(schi_load_seq(&rt->ring) != 0)) schi_ring_loop(rt);
    if (!schi_idle_may_wake(&rt->idle, schi_idle_handshake(&rt->idle))) return;
    if (schi_wake_one(rt, true, false)) schi_count_wake(th, rt);
}

/* Soft rule: a running worker has more queued than a wake costs. Nothing depends on it: no RMW. */
static SCHI_NOINLINE void schi_notify_soft(schi_thread *th, sch_runtime *rt) {
    uint32_t word = schi_load_rlx(&rt->idle.word); /* rlx: a hint, see above */
    schi_count(&th->core->m.notifies, 1);
    if (!schi_idle_may_wake(&rt->idle, word)) return;
    if (schi_wake_one(rt, true, false)) schi_count_wake(th, rt);
}

/* Is so much queued on this core that a wake is worth it? Thieves ask, too. */
static bool schi_core_worth(schi_core *core, SCHI_INDEX len) {
    return len >= schi_load_rlx(&core->wake_len); /* rlx: a hint */
}

/* Is there work that somebody without work should take? The last look before sleep. */
static bool schi_work_visible(sch_runtime *rt) {
    if (!schi_inject_is_empty(&rt->inject)) return true;
    for (unsigned i = 0; i < rt->num_cores; i++) {
        SCHI_INDEX len = schi_runq_len(&rt->cores[i]->q);
        if (len > 0 && schi_core_worth(rt->cores[i], len)) return true;
    }
    return false;
}

/* Queueing --------------------------------------------------------------------------------------*/

static void schi_push_inject(schi_thread *th, sch_runtime *rt, sch_task *task) {
    bool pushed = schi_inject_push(&rt->inject, &task->node);
    SCHI_ASSERT(pushed); /* closed only when no task lives */
    (void)pushed;
    schi_notify(th, rt);
}

/* The ring is full: half of it and the task go to the injector, one batch. */
static void schi_push_overflow(schi_core *core, sch_task *task) {
    schi_node *first = NULL, *last = NULL;
    SCHI_INDEX n = schi_runq_take_half(&core->q, &first, &last);
    schi_wr(&task->node.next, (schi_node *)NULL);
    if (n == 0) { /* a thief is at work: this one alone */
        first = &task->node;
    } else {
        schi_wr(&last->next, &task->node);
    }
    schi_count(&core->m.overflows, 1);
    (void)schi_inject_append(&core->rt->inject, first, &task->node, (uint64_t)n + 1);
}

/* So many are queued now, 0: the ring is full. */
static SCHI_NOINLINE void schi_push_back_more(schi_thread *th, schi_core *core, sch_task *task,
                                              SCHI_INDEX len) {
    if (len == 0) {
        schi_push_overflow(core, task);
        len = SCH_RUNQ_CAP;
    }
    if (schi_core_worth(core, len)) schi_notify_soft(th, core->rt);
}

/* To the back of this core's queue. */
static inline void schi_push_back(schi_thread *th, schi_core *core, sch_task *task) {
    SCHI_INDEX len = schi_runq_push(&core->q, &task->node);
    SCHI_CHECK(schi_runq_check(&core->q));
    if (SCHI_UNLIKELY(len == 0 || schi_core_worth(core, len))) {
        schi_push_back_more(th, core, task, len);
    }
}

/* Queue a task from a thread that has no core of this runtime. As soon as that is done the task may
 * run and end, and somebody may free the runtime, which waits until we say that we have left. Until
 * it is done the task, and so the runtime, cannot end: that is when to come. */
static SCHI_NOINLINE void schi_push_remote(schi_thread *th, sch_runtime *rt, sch_task *task) {
    schi_add_seq(&rt->wakers_came, (uint64_t)1);
    schi_push_inject(th, rt, task);
    schi_add_seq(&rt->wakers_left, (uint64_t)1);
}

/* Who spawned a task of the shared heaps, and was counted there, is done with the runtime. */
static void schi_spawner_leaves(sch_runtime *rt) {
    schi_add_seq(&rt->spawners_left, (uint64_t)1);
}

/* No task lives, so that nobody comes any more: has everybody left who queued one from outside? */
static bool schi_outside_left(sch_runtime *rt) {
    return schi_load_seq(&rt->spawners_left) == schi_counted(&rt->shared_spawned) &&
           schi_load_seq(&rt->wakers_left) == schi_load_seq(&rt->wakers_came);
}

/* Its thread waits for just this. A jump of a paused clock that is decided is waited for: from then
 * on the job runs, and the clock stands. */
static SCHI_NOINLINE void schi_schedule_job(sch_runtime *rt, sch_task *task) {
    schi_sub_seq(&rt->pool.waiting, (uint64_t)1);
    if (rt->config.paused_clock) {
        schi_lock(&rt->idle.lock);
        schi_unlock(&rt->idle.lock);
    }
    schi_unpark(&task->on.thread->sleeper.parker, NULL);
}

/* A task has become SCHEDULED and is ours to queue: to the LIFO slot of our core, or to the back of
 * its queue; without one outside. */
static inline void schi_schedule_unseen(schi_thread *th, sch_runtime *rt, sch_task *task,
                                        bool back) {
    schi_core *core = th ? th->core : NULL;
    if (SCHI_UNLIKELY(schi_load_rlx(&task->state) & SCHI_JOB)) { /* rlx: fixed bit */
        schi_schedule_job(rt, task);
        return;
    }
    if (SCHI_UNLIKELY(core == NULL || core->rt != rt)) {
        schi_push_remote(th, rt, task);
        return;
    }
    if (back || rt->config.no_lifo) {
        schi_count(&core->m.back_schedules, 1);
    } else {
        const schi_stack *stack = task->on.stack; /* ours until it is in the slot (K2) */
        schi_node *old = schi_lifo_put(&core->q, &task->node);
        schi_count(&core->m.lifo_schedules, 1);
        schi_stack_prefetch(stack); /* it runs soon */
        if (old == NULL) return;
        task = schi_task_of(old);
    }
    schi_push_back(th, core, task);
}

/* The same while somebody wants to know of it; apart, so that it costs the other nothing. */
static SCHI_NOINLINE void schi_schedule_seen(schi_thread *th, sch_runtime *rt, sch_task *task,
                                             bool back) {
    schi_see_wake(th, rt, task);
    schi_schedule_unseen(th, rt, task, back);
}

static void schi_schedule_at(schi_thread *th, sch_task *task, bool back) {
    sch_runtime *rt = schi_task_runtime(task);
    if (SCHI_UNLIKELY(schi_seen(rt) != 0)) {
        schi_schedule_seen(th, rt, task, back);
    } else {
        schi_schedule_unseen(th, rt, task, back);
    }
}

static void schi_schedule(schi_thread *th, sch_task *task) { schi_schedule_at(th, task, false); }

static void schi_wake(schi_thread *th, sch_task *task) {
    if (schi_task_wake(task)) schi_schedule(th, task);
}

/* The end of a task -----------------------------------------------------------------------------*/

/* What sch_join waits for has happened. A joiner goes to the back of the queue, not to the LIFO
 * slot: who waits for many tasks would else be resumed once for each of them. */
static void schi_waiter_grant(schi_thread *th, schi_waiter *w) {
    if (w->task) {
        sch_task *task = w->task;
        if (schi_task_grant(task)) schi_schedule_at(th, task, true); /* w is gone now (K4) */
    } else if (w->driver) {
        schi_thread *driver = w->driver;
        sch_runtime *rt = driver->rt;
        schi_lock(
            &rt->idle.lock); /* the driver takes this lock before it leaves: nothing dangles */
        w->done = true;
        schi_unpark_sleeper(rt, &driver->sleeper);
        schi_unlock(&rt->idle.lock);
    } else {
        schi_unpark(&w->parker, NULL);
    }
}

/* Timers ----------------------------------------------------------------------------------------*/

/* Is it ours to grant this waiter? Everybody who might asks, and one is told yes. */
static bool schi_waiter_claim(schi_waiter *w) {
    if (w->alone) return true;
    return schi_xchg_acqrel(&w->claimed, 1u) == 0; /* acqrel: the loser sees what the winner did */
}

/* The state of an operation, see [14]. */
enum { SCHI_OP_IDLE, SCHI_OP_PENDING, SCHI_OP_DONE, SCHI_OP_RETRY, SCHI_OP_LISTEN = 16 };

static schi_word *schi_op_state(const sch_op *op) { return (schi_word *)(uintptr_t)&op->state; }

/* acq: pairs with completion; the result is there. */
static uint32_t schi_op_get(const sch_op *op) { return schi_load_acq(schi_op_state(op)); }

static void schi_op_set(sch_op *op, uint32_t state) {
    schi_store_rlx(schi_op_state(op), state); /* rlx: the waiter's alone at this moment */
}

/* Revoke what a poll task that ends has pending. */
static SCHI_NOINLINE void schi_task_revoke_ops(sch_task *task) {
    sch_op *op = (sch_op *)task->arg, *next;
    for (task->arg = NULL; op; op = next) {
        next = op->link;
        if (schi_op_get(op) != SCHI_OP_PENDING) continue;
        if (op->type->cancel(op) != SCH_OP_BUSY) continue;
        while (schi_op_get(op) == SCHI_OP_PENDING) schi_os_yield(); /* it is about to be done */
    }
}

#define SCHI_EXPIRE_BATCH 32

/* Waiters whose time has come, to be granted without a lock: each is claimed, and so stays. */
typedef struct schi_expired {
    unsigned num;
    struct {
        schi_waiter *waiter; /* NULL: a task */
        sch_task *task;
        bool wake; /* a poll task that runs, of which we hold a reference; else to be queued */
    } list[SCHI_EXPIRE_BATCH];
} schi_expired;

/* A poll task's operation is about to be done. true: the task waited, and is ours to queue; else it
 * is to be woken, and we hold a reference. */
static bool schi_poll_task_claim(sch_task *task) {
    SCHI_STATE wait;
    if (SCHI_LIKELY(schi_task_borrow(task, &wait))) return true; /* to keep */
    schi_task_retain(task);
    return false;
}

/* Who waits for this will be claimed, granted and run, one line after the other: fetch them at
 * once. What waits on a stack does so in a frame of an await, near both ends of what is used. */
#define SCHI_WAIT_BELOW 320
#define SCHI_WAIT_ABOVE 384

static SCHI_INLINE void schi_waiter_fetch(const sch_op *op) {
    if (op->in_poll_task || !op->type) { /* a task: also of a shield */
        schi_prefetch(op->waiter);
    } else {
        schi_fetch((const char *)op->waiter - SCHI_WAIT_BELOW, SCHI_WAIT_BELOW + SCHI_WAIT_ABOVE);
    }
}

/* Have one granted, if that is ours to do. Whoever it is, what its operation is in may be gone as
 * soon as the operation's state says that it is done; a waiter that was claimed before, or a task
 * that is ours or that we refer to, is not. */
static void schi_expire(schi_expired *out, void *waiter, bool for_poll) {
    if (for_poll) {
        out->list[out->num].waiter = NULL;
        out->list[out->num].wake = !schi_poll_task_claim((sch_task *)waiter);
        out->list[out->num++].task = (sch_task *)waiter;
    } else if (schi_waiter_claim((schi_waiter *)waiter)) {
        out->list[out->num++].waiter = (schi_waiter *)waiter;
    }
}

/* A task's shield ends while it waits. Under the wheel's lock: it takes that before it leaves the
 * wait, and so it is this wait. */
static void schi_shield_over(schi_wheel *w, sch_timer *t, uint64_t now, schi_expired *out) {
    sch_task *task = (sch_task *)t->op.waiter;
    int state = schi_task_unshield(task);
    if (state > 0) {
        out->list[out->num].waiter = NULL;
        out->list[out->num].wake = false;
        out->list[out->num++].task = task;
    } else if (state < 0) { /* a moment too early */
        schi_wheel_insert_locked(w, t, (now >> SCHI_TICK_SHIFT) + 1);
        schi_wheel_publish(w);
    }
}

/* One that has been taken out: have its waiter granted. Under the lock. */
static void schi_wheel_fire(schi_wheel *w, sch_timer *t, uint64_t now, schi_expired *out) {
    if (!t->op.type) {
        schi_shield_over(w, t, now, out);
        return;
    }
    schi_expire(out, t->op.waiter, t->op.in_poll_task);
    /* rel: pairs with acq in get. */
    schi_store_rel(schi_op_state(&t->op), (uint32_t)SCHI_OP_DONE);
}

/* Expire until nothing is due, or there is no room: not every timer has somebody to be granted. A
 * batch is taken out first and then claimed: that is an exchange, behind which the processor would
 * not fetch the next timer. own: as in lock. false: it is another core's, which keeps it and cannot
 * be made to share it just now; to be tried again. */
static bool schi_wheel_collect(schi_wheel *w, schi_wheel *own, uint64_t now,
                               schi_expired *out) {
    sch_timer *due[SCHI_EXPIRE_BATCH];
    unsigned n, room;
    bool plain = false;
    if (schi_load_acq(&w->next) > now) return true; /* acq: a hint, the lock decides */
    if (w == own) {
        plain = schi_wheel_lock(w, own);
    } else if (!schi_biased_try_other(&w->lock)) {
        return false;
    }
    do {
        room = SCHI_EXPIRE_BATCH - out->num;
        for (n = 0; n < room && (due[n] = schi_wheel_expire(w, now)) != NULL; n++) {
            schi_waiter_fetch(&due[n]->op);
        }
        for (unsigned i = 0; i < n; i++) schi_wheel_fire(w, due[i], now, out);
    } while (n == room && n > 0);
    schi_wheel_unlock(w, plain);
    return true;
}

static void schi_grant_expired(schi_thread *th, schi_expired *e) {
    for (unsigned i = 0; i < e->num; i++) {
        if (e->list[i].waiter) {
            schi_waiter_grant(th, e->list[i].waiter);
        } else if (!e->list[i].wake) {
            schi_schedule(th, e->list[i].task);
        } else {
            schi_wake(th, e->list[i].task);
            schi_task_release(th ? th->core : NULL, e->list[i].task);
        }
    }
}

static schi_wheel *schi_own_wheel(schi_thread *th) {
    return th->core ? &th->core->wheel : NULL;
}

/* Wake those on our core whose time has come, and on every core while nobody has the watch. In
 * batches, until a quarter of the ring is full; if it is full of others, a quarter of the polls
 * since the last time. What would run over into the injector is better left in the wheel, in order,
 * and run when it has just been fetched. */
static void schi_timers_serve(schi_thread *th) {
    sch_runtime *rt = th->rt;
    uint64_t polls = schi_counted(&th->core->m.polls), share = (polls - th->core->served_at) / 4;
    uint64_t now = SCH_FOREVER, taken = 0;
    schi_expired e;
    th->core->served_at = polls;
    for (unsigned i = 0; i < rt->num_cores; i++) {
        schi_core *core = rt->cores[i];
        if (core != th->core && schi_load_rlx(&rt->idle.watched)) continue; /* rlx: a hint */
        if (schi_load_rlx(&core->wheel.next) == SCH_FOREVER) continue;     /* rlx: a hint */
        if (now == SCH_FOREVER) now = schi_clock(rt);
        do {
            e.num = 0;
            (void)schi_wheel_collect(&core->wheel, schi_own_wheel(th), now, &e);
            if (e.num > 0) schi_see(th, rt, SCHI_TRACE_TIMERS, e.num);
            schi_grant_expired(th, &e);
            taken += e.num;
        } while (e.num == SCHI_EXPIRE_BATCH &&
                 (taken < share || schi_runq_len(&th->core->q) < SCH_RUNQ_CAP / 4));
    }
}

/* Take those off a descriptor's list that wait for one of these bits. false: there are more than
 * fit. Under its lock. */
static bool schi_io_take(schi_io *io, uint32_t bits, bool closed, schi_expired *out) {
    sch_io_op *op = schi_load_rlx(&io->waiting), *next; /* rlx: under the lock */
    bool done;
    for (; op; op = next) {
        next = op->call.next;
        if (!(op->call.want & bits)) continue;
        if (out->num == SCHI_EXPIRE_BATCH) return false;
        schi_io_unlink(io, op);
        if (closed) {
            op->op.result = -ECANCELED;
            op->call.waited = false;
        }
        done = closed || op->call.kind == SCHI_CALL_NEWS;
        schi_waiter_fetch(&op->op);
        schi_expire(out, op->op.waiter, op->op.in_poll_task);
        /* rel: pairs with acq in get. */
        schi_store_rel(schi_op_state(&op->op), (uint32_t)(done ? SCHI_OP_DONE : SCHI_OP_RETRY));
    }
    return true;
}

/* Something about a descriptor has changed. false: as above, come again. */
static bool schi_io_event(schi_driver *d, const schi_ready *event, schi_expired *out) {
    schi_io *io = schi_io_at(d, (uint32_t)event->token);
    bool all = true;
    if (!io) return true;
    schi_spin_lock(&io->lock);
    /* rlx: a generation that is gone by now does no harm */
    if (schi_load_rlx(&io->word) >> 32 == event->token >> 32) {
        uint32_t ready = schi_load_rlx(&io->ready); /* rlx: the exchange decides */
        /* acqrel: what the system told us of comes before the calls that go by it. */
        while (!schi_cas_weak_acqrel(&io->ready, &ready, (ready + SCHI_IO_EVENT) | event->bits)) {
        }
        all = schi_io_take(io, event->bits, false, out);
    }
    schi_spin_unlock(&io->lock);
    return all;
}

/* These are served next. Descriptors that have been quiet are out of cache, and so is who waits for
 * them: fetch the records of all, then the operations. */
static void schi_io_fetch(schi_driver *d, const schi_ready *events, unsigned n) {
    for (unsigned i = 0; i < n; i++) schi_prefetch(schi_io_at(d, (uint32_t)events[i].token));
    for (unsigned i = 0; i < n; i++) {
        schi_io *io = schi_io_at(d, (uint32_t)events[i].token);
        sch_io_op *op = io ? schi_load_rlx(&io->waiting) : NULL; /* rlx: it is not followed */
        if (op) schi_fetch((const char *)op, sizeof *op);
    }
}

/* The same for many; those who waited are granted. */
static void schi_io_serve(schi_thread *th, const schi_ready *events, unsigned n) {
    schi_expired due;
    schi_io_fetch(&th->rt->driver, events, n);
    for (unsigned i = 0; i < n;) {
        due.num = 0;
        while (i < n && schi_io_event(&th->rt->driver, &events[i], &due)) i++;
        schi_grant_expired(th, &due);
    }
}

/* How many events to take: as many as fill a quarter of the ring, and if others are there, a
 * quarter of the polls since the last time. The system keeps the rest in order. Taken faster than
 * they are polled they would run over into the injector, and later ones pass them by. */
static unsigned schi_io_wanted(schi_core *core) {
    uint64_t most = SCH_RUNQ_CAP / 4 < SCHI_POLL_BATCH ? SCH_RUNQ_CAP / 4 : SCHI_POLL_BATCH;
    uint64_t polls = schi_counted(&core->m.polls), n = (polls - core->asked_at) / 4;
    uint64_t len = schi_runq_len(&core->q);
    core->asked_at = polls;
    if (len + n < most) n = most - len;
    return n == 0 ? 1 : n < most ? (unsigned)n : (unsigned)most;
}

/* Ask the driver without waiting. mine: with the watch's alarm. With a core. */
static void schi_io_poll_driver(schi_thread *th, schi_alarm *mine) {
    schi_ready events[SCHI_POLL_BATCH];
    unsigned max = schi_io_wanted(th->core);
    unsigned n = schi_poller_wait(&th->rt->driver.poller, mine, 0, events, max);
    schi_count_shared(&th->rt->driver.events, n);
    if (n > 0) schi_see(th, th->rt, SCHI_TRACE_DRIVER, n);
    schi_io_serve(th, events, n);
}

/* When the first timer of all is due, or before: those that were given up may count. A paused clock
 * must not jump to those. */
static uint64_t schi_timers_next(sch_runtime *rt) {
    uint64_t next = SCH_FOREVER;
    for (unsigned i = 0; i < rt->num_cores; i++) {
        if (SCHI_UNLIKELY(rt->config.paused_clock)) schi_wheel_refresh(&rt->cores[i]->wheel);
        uint64_t t = schi_load_seq(&rt->cores[i]->wheel.next);
        if (t < next) next = t;
    }
    return next;
}

/* With a paused clock: nothing may run any more, then the watch shall let time jump. Under
 * idle.lock. */
static void schi_clock_may_jump(sch_runtime *rt) {
    if (!rt->config.paused_clock) return;
    if (schi_idle_running(schi_load_seq(&rt->idle.word)) == 0) schi_watch_by(rt, 0);
}

/* A core is let go: the watch sees to its timers. Under idle.lock. */
static void schi_core_watched(schi_core *core) {
    uint64_t next = schi_load_seq(&core->wheel.next);
    if (next != SCH_FOREVER) schi_watch_by(core->rt, schi_real_time(core->rt, next));
    schi_clock_may_jump(core->rt);
}

/* What few tasks have at their end: a drop function, a hook. */
static SCHI_NOINLINE void schi_task_drop(schi_thread *th, sch_runtime *rt, sch_task *task) {
    SCHI_STATE state = schi_load_rlx(&task->state); /* rlx: POLL is a fixed bit */
    const sch_spawn_desc *desc = schi_task_desc(task);
    if (desc && desc->drop) {
        schi_thread spare, *me = schi_no_wait_begin(th, &spare, rt);
        desc->drop(state & SCHI_POLL ? schi_task_state(task) : task->arg);
        schi_no_wait_end(me, &spare);
    }
    if (rt->config.hooks.on_task_terminate) {
        schi_hook_task(th, rt, rt->config.hooks.on_task_terminate, task);
    }
}

/* The end of a task that a joiner waits for; the scheduler's reference is still there. */
static SCHI_NOINLINE void schi_task_grant_joiner(schi_thread *th, schi_core *core, sch_task *task) {
    schi_waiter_grant(th, schi_rd(&task->joiner));
    schi_task_release(core, task);
}

/* Count the end of a task that has no core. Has shutdown closed the shared heaps? */
static SCHI_NOINLINE bool schi_count_shared_end(sch_runtime *rt, bool cancelled) {
    bool closed;
    schi_lock(&rt->shared_lock);
    closed = rt->shared_closed;
    schi_count(&rt->shared_ended, 1);
    if (cancelled) schi_count(&rt->shared_cancelled, 1);
    schi_unlock(&rt->shared_lock);
    return closed;
}

/* The end that most tasks have: nothing to drop, to tell or to take part in. */
static inline void schi_task_end_plain(schi_thread *th, schi_core *core, sch_task *task) {
    SCHI_STATE old;
    schi_count(&core->m.ended, 1);
    old = schi_task_complete(task, 0);
    if (SCHI_UNLIKELY(old & SCHI_JOIN_WAITER)) {
        schi_task_grant_joiner(th, core, task);
    } else if (schi_task_refs(old) == 1) {
        schi_heap_free(core, task);
    }
}

/* A task has ended, or never ran (how: DROPPED, NO_STACK). core: ours, NULL without one. */
static SCHI_NOINLINE void schi_task_end_at(schi_thread *th, sch_runtime *rt, schi_core *core,
                                           sch_task *task, SCHI_STATE how) {
    SCHI_STATE old = schi_load_rlx(&task->state); /* rlx: TOLD is ours */
    bool cancelled = (how & SCHI_DROPPED) || (old & SCHI_TOLD), closed;
    if (SCHI_UNLIKELY(schi_task_desc(task) || rt->config.hooks.on_task_terminate)) {
        schi_task_drop(th, rt, task);
    }
    if (SCHI_LIKELY(core != NULL)) {
        closed = core->closed;
        schi_count(&core->m.ended, 1);
        if (SCHI_UNLIKELY(cancelled)) schi_count(&core->m.cancelled, 1);
    } else {
        closed = schi_count_shared_end(rt, cancelled);
    }
    old = schi_task_complete(task, how);
    if (SCHI_UNLIKELY(old & SCHI_JOIN_WAITER)) {
        schi_task_grant_joiner(th, core, task);
    } else if (schi_task_refs(old) == 1) {
        schi_heap_free(core, task);
    }
    if (SCHI_UNLIKELY(closed)) schi_live_sub(rt, 1);
}

/* The same on any thread; th may be NULL. */
static void schi_task_end(schi_thread *th, sch_task *task, SCHI_STATE how) {
    sch_runtime *rt = schi_task_runtime(task);
    schi_core *core = th && th->core && th->core->rt == rt ? th->core : NULL;
    schi_task_end_at(th, rt, core, task, how);
}

/* This core's heap of a size, made when it is first needed. */
static SCHI_NOINLINE schi_heap *schi_core_heap(schi_core *core, unsigned size_class) {
    bool driven = core->rt->config.flavor == SCH_CURRENT_THREAD;
    const sch_allocator *a = &core->rt->config.allocator;
    schi_heap *heap = schi_heap_new(a, core->rt, core, size_class, driven);
    if (heap) schi_store_rel(&core->heaps[size_class], heap); /* rel: pairs with acq in walkers */
    return heap;
}

/* A block from the shared heaps, for a caller without a core; schi_spawner_leaves is to follow. */
static SCHI_NOINLINE sch_task *schi_task_new_shared(sch_runtime *rt, unsigned size_class, bool job,
                                                    int *error) {
    sch_task *task = NULL;
    schi_heap *heap;
    bool closed;
    schi_lock(&rt->shared_lock);
    /* closing is the first to say no, also while whoever set it is on the way to this lock. */
    closed = rt->shared_closed || schi_is_closing(rt);
    heap = rt->shared_heaps[size_class];
    if (!heap && !closed) { /* once closed, they are read without the lock */
        bool driven = rt->config.flavor == SCH_CURRENT_THREAD;
        heap = schi_heap_new(&rt->config.allocator, rt, NULL, size_class, driven);
        rt->shared_heaps[size_class] = heap;
    }
    if (heap && !closed) task = schi_heap_alloc(heap);
    if (task) {
        schi_count(&rt->shared_spawned, 1);
        if (job) schi_count(&rt->shared_jobs, 1);
        schi_task_set_id(task, schi_counted(&rt->shared_spawned) * SCHI_ID_STEP);
    }
    *error = closed ? ESHUTDOWN : ENOMEM;
    schi_unlock(&rt->shared_lock);
    return task;
}

/* Tasks of every kind that were spawned on this core. */
static uint64_t schi_core_spawned(const schi_core *core) {
    return schi_counted(&core->m.spawned) + schi_counted(&core->m.jobs);
}

/* A block for a new task; the caller stores its state last, which shows it to walkers. core: ours,
 * NULL without one. NULL: errno in *error; drop has not been called. */
static SCHI_INLINE sch_task *schi_task_new(sch_runtime *rt, schi_core *core, size_t state_size,
                                           bool job, int *error) {
    unsigned size_class;
    schi_heap *heap;
    sch_task *task;
    size_class = state_size == 0 ? 0 : schi_heap_class(state_size);
    if (SCHI_UNLIKELY(rt->config.task_times)) {
        size_class = schi_heap_class(state_size + sizeof(schi_times));
    }
    if (SCHI_UNLIKELY(core == NULL)) return schi_task_new_shared(rt, size_class, job, error);
    *error = ESHUTDOWN;
    /* rlx: the first to say no; core->closed is what shutdown counts on, and comes later. */
    if (SCHI_UNLIKELY(schi_load_rlx(&rt->closing) != 0)) return NULL;
    *error = ENOMEM;
    heap = schi_load_rlx(&core->heaps[size_class]); /* rlx: only the owner writes it */
    if (SCHI_UNLIKELY(!heap) && !(heap = schi_core_heap(core, size_class))) return NULL;
    task = schi_heap_alloc(heap);
    if (SCHI_LIKELY(task != NULL)) {
        schi_count(job ? &core->m.jobs : &core->m.spawned, 1);
        schi_task_set_id(task, core->last_id += SCHI_ID_STEP);
    }
    return task;
}

/*==================================================================================================
 * MARK: - [11.2] Worker: the turn (private)
 *   Which task is next, without leaving the pooled stack.
 *   Uses [11.1].  Used by [11.4] [11.5].  Tests: tests/unit/turn.c
 *================================================================================================*/

#ifndef SCHI_GATHER_PAUSES
#define SCHI_GATHER_PAUSES 4 /* a model checker takes none */
#endif

/* The next of the ring: by plain stores where there is no thief, or none may come. */
static inline schi_node *schi_core_take(schi_core *core) {
    return core->alone ? schi_runq_pop_alone(&core->q) : schi_runq_take(&core->q);
}

static inline schi_node *schi_core_take_lifo(schi_core *core) {
    return core->alone ? schi_lifo_take_alone(&core->q) : schi_lifo_take_own(&core->q);
}

static const schi_stack *schi_stack_of(schi_node *node) { return schi_task_of(node)->on.stack; }

/* Of many tasks that come together most have been out of cache for long, or are in another's, and
 * each switch would wait for one line of the stack after the other. So fetch all at once of those n
 * that are set in our ring and not yet shown: what thieves may take we must not read (K2). They are
 * mostly of a kind, as the first is. */
static void schi_core_fetch(schi_core *core, SCHI_INDEX n) {
    if (!schi_stack_of(schi_runq_unseen(&core->q, 0))) return;
    for (SCHI_INDEX i = 0; i < n; i++) {
        const schi_stack *stack = schi_stack_of(schi_runq_unseen(&core->q, i));
        if (stack) schi_stack_fetch_record(stack);
    }
    for (SCHI_INDEX i = 0; i < n; i++) {
        const schi_stack *stack = schi_stack_of(schi_runq_unseen(&core->q, i));
        if (stack) schi_stack_fetch_frames(stack);
    }
}

/* A batch of count tasks is ours: the first, and others that are set in our ring; show those. */
static void schi_core_receive(schi_core *core, SCHI_INDEX count) {
    if (count < 2) return;
    schi_core_fetch(core, (SCHI_INDEX)(count - 1));
    schi_runq_extend(&core->q, (SCHI_INDEX)(count - 1));
}

/* Take a part of the injector, at most max tasks: one is returned, the others go to our ring. */
static sch_task *schi_take_injected(schi_core *core, uint64_t parts, uint64_t max) {
    SCHI_INDEX n;
    schi_node *node = schi_inject_pop(&core->rt->inject, parts, max, &core->q, &n);
    if (!node) return NULL;
    schi_core_receive(core, n);
    SCHI_CHECK(schi_runq_check(&core->q));
    schi_count(&core->m.injected, n);
    schi_count(&core->m.inject_batches, 1);
    return schi_task_of(node);
}

/* This core's share of the injector, so that one batch does not take what others wait for, nor fill
 * the ring so far that it overflows at once. */
static sch_task *schi_take_share(schi_core *core, SCHI_INDEX len) {
    uint64_t room = (SCHI_INDEX)(SCH_RUNQ_CAP - len) / 2u;
    return schi_take_injected(core, core->rt->num_cores, room > 0 ? room : 1);
}

/* The injector's turn although tasks are queued here. While it holds more, it has one batch for
 * each round of the ring; else it is looked at once in a while. */
static SCHI_NOINLINE sch_task *schi_next_injected(schi_core *core) {
    SCHI_INDEX len;
    sch_task *task;
    core->inject_left = core->inject_interval;
    schi_count(&core->m.inject_turns, 1);
    if (schi_inject_is_empty(&core->rt->inject)) return NULL;
    len = schi_runq_len(&core->q);
    task = schi_take_share(core, len);
    len = schi_runq_len(&core->q) + 1;
    if (len < core->inject_left && !schi_inject_is_empty(&core->rt->inject)) {
        core->inject_left = len;
    }
    return task;
}

/* The LIFO slot's task, unless it has had its turns and somebody else waits. NULL: the slot is
 * empty after all. */
static SCHI_NOINLINE sch_task *schi_next_lifo(schi_thread *th, schi_core *core) {
    schi_node *node;
    sch_task *other;
    if (core->lifo_polls >=
        SCH_LIFO_CAP) { /* two tasks that wake each other must not starve the rest */
        core->lifo_polls = 0;
        node = schi_core_take(core);
        other = node ? schi_task_of(node) : schi_take_injected(core, 1, 1);
        if (other) {
            node = schi_core_take_lifo(core);
            if (node) schi_push_back(th, core, schi_task_of(node));
            schi_count(&core->m.lifo_capped, 1);
            schi_count(&core->m.polls, 1);
            return other;
        }
    }
    node = schi_core_take_lifo(core);
    if (!node) return NULL; /* the standby took it */
    core->lifo_polls++;
    schi_count(&core->m.lifo_polls, 1);
    schi_count(&core->m.polls, 1);
    return schi_task_of(node);
}

/* Count the polls since the last time off what is due: one counter a poll instead of two. */
static void schi_core_settle(schi_core *core) {
    unsigned polls = core->counted_from + 1 - core->countdown;
    core->ticks_left -= polls;
    core->inject_left -= polls;
    core->counted_from =
        core->ticks_left < core->inject_left ? core->ticks_left : core->inject_left;
    core->countdown = core->counted_from + 1;
}

/* Something is due before this poll. true: maintenance, go home; *task: one from the injector. */
static bool schi_core_due(schi_core *core, sch_task **task) {
    core->countdown = 1;
    schi_core_settle(core);
    if (core->ticks_left == 0) return true;
    if (core->inject_left == 0) *task = schi_next_injected(core);
    schi_core_settle(core);
    core->countdown--; /* this poll */
    return false;
}

/* A batch so soon after the last one, which then was small: somebody pushes as fast as we pop, and
 * either waits for the other's cache line most of the time. Let a few gather, 50 to 200 ns. */
static void schi_gather(schi_core *core) {
    uint64_t polls = schi_counted(&core->m.polls);
    bool soon = polls - core->gathered_at < 8;
    core->gathered_at = polls;
    for (int i = 0; soon && i < SCHI_GATHER_PAUSES; i++) schi_cpu_relax();
}

static SCHI_NOINLINE sch_task *schi_next_from_injector(schi_core *core) {
    sch_task *task = NULL;
    if (!schi_inject_is_empty(&core->rt->inject)) {
        schi_gather(core);
        task = schi_take_share(core, 0);
    }
    if (task) schi_count(&core->m.polls, 1);
    return task;
}

/* The next of what is queued, whatever is due. */
static inline sch_task *schi_next_queued(schi_thread *th, schi_core *core) {
    schi_node *node;
    if (!schi_lifo_is_empty(&core->q)) {
        sch_task *task = schi_next_lifo(th, core);
        if (SCHI_LIKELY(task != NULL)) return task;
    }
    core->lifo_polls = 0;
    node = schi_core_take(core);
    if (SCHI_UNLIKELY(!node)) return schi_next_from_injector(core);
    schi_count(&core->m.polls, 1);
    return schi_task_of(node);
}

static SCHI_NOINLINE sch_task *schi_next_due(schi_thread *th, schi_core *core) {
    sch_task *task = NULL;
    if (schi_core_due(core, &task)) return NULL;
    if (!task) return schi_next_queued(th, core);
    schi_count(&core->m.polls, 1);
    return task;
}

/* The next task. NULL: go home, because nothing is queued or maintenance is due. */
static sch_task *schi_next(schi_thread *th, schi_core *core) {
    if (SCHI_UNLIKELY(--core->countdown == 0)) return schi_next_due(th, core);
    return schi_next_queued(th, core);
}

/* Whom the task that has run spawned is nobody's only child any more. */
static inline void schi_forget_child(schi_core *core) { core->last_id_seen = core->last_id; }

/* The task that waits spawned one task and no more: most often it waits for that one now, and what
 * either needs is in cache. So that comes next, if it is still the newest here and the ring is ours
 * alone; as a turn of the slot, so that the queue does not starve. NULL: as always. */
static SCHI_NOINLINE sch_task *schi_next_child(schi_core *core, bool waits) {
    bool one = core->last_id - core->last_id_seen == SCHI_ID_STEP;
    schi_node *node;
    schi_forget_child(core);
    if (!waits || !one || core->lifo_polls >= SCH_LIFO_CAP || core->rt->config.no_lifo ||
        core->countdown == 1 || !schi_lifo_is_empty(&core->q)) {
        return NULL;
    }
    if (!core->alone && !schi_bias_enter(&core->q.bias)) return NULL;
    node = schi_runq_newest_alone(&core->q);
    if (node && schi_task_id(schi_task_of(node)) != core->last_id) node = NULL;
    if (node) schi_runq_pop_newest_alone(&core->q);
    if (!core->alone) schi_bias_leave(&core->q.bias);
    if (!node) return NULL;
    SCHI_CHECK(schi_runq_check(&core->q));
    core->countdown--;
    core->lifo_polls++;
    schi_count(&core->m.child_polls, 1);
    schi_count(&core->m.polls, 1);
    return schi_task_of(node);
}

/* Does it start on a stack of its own size? */
static bool schi_wants_own_stack(const sch_task *task) {
    const sch_spawn_desc *desc = schi_task_desc(task);
    return desc && desc->stack_size != 0 &&
           !(schi_load_rlx(&task->state) & SCHI_POLL); /* rlx: fixed bit */
}

static schi_stack *schi_stack_cached(schi_core *core) {
    schi_stack *s = core->stacks;
    if (s) {
        core->stacks = s->next;
        core->num_stacks--;
    }
    return s;
}

/*==================================================================================================
 * MARK: - [11.3] Worker: lending, hand-off (private)
 *   Leaving the core for a blocking call, and getting one back.
 *   Uses [5.3] [5.4] [11.1].  Used by [11.4] [18].  Tests: tests/unit/blocking.c
 *
 *   A call that may block keeps a place (reserves): num_workers >= cores + places, under idle.lock,
 *   so that J3 of [5.3] holds: whenever a core is lent or handed over, a thread is there for it. A
 *   place is made by starting a worker; the call is refused if that fails. It belongs to the thread
 *   inside the call, or to the suspended task if that waits inside; a thread keeps it after the
 *   call until it sleeps or somebody waits for one, so that the next call costs nothing.
 *================================================================================================*/

/* Give a record a number that no other has. Under idle.lock. */
static int schi_thread_number(schi_thread *th) {
    sch_runtime *rt = th->rt;
    unsigned n = 0;
    while (n < rt->max_threads && rt->threads[n]) n++;
    if (n == rt->max_threads) return -EAGAIN;
    if (n >= rt->top_thread) rt->top_thread = n + 1;
    rt->threads[n] = th;
    th->number = n;
    return 0;
}

/* Make the record of a thread and start it. 0 or a negative errno. */
static int schi_thread_new(sch_runtime *rt, schi_thread_kind kind, sch_task *job,
                           void *(*run)(void *)) {
    schi_os_thread os;
    schi_thread *th;
    int error;
    th = (schi_thread *)schi_alloc_zeroed(&rt->config.allocator, sizeof *th, SCH_CACHELINE);
    if (!th) return -ENOMEM;
    th->rt = rt;
    th->kind = kind;
    th->job = job;
    schi_biased_init(&th->loan);
    if (kind == SCHI_WORKER && schi_barrier_all()) schi_biased_may_keep(&th->loan);
    error = schi_parker_init(&th->sleeper.parker);
    if (error) goto fail_parker;
    schi_lock(&rt->idle.lock);
    error = schi_thread_number(th);
    if (!error) rt->num_threads++;
    schi_unlock(&rt->idle.lock);
    if (error) goto fail_number;
    error = schi_thread_start(&os, run, th, rt->config.thread_stack_size);
    if (!error) return 0; /* from here on the record is the thread's */
    schi_lock(&rt->idle.lock);
    rt->threads[th->number] = NULL;
    rt->num_threads--;
    schi_unlock(&rt->idle.lock);
fail_number:
    schi_parker_drop(&th->sleeper.parker);
fail_parker:
    schi_free(&rt->config.allocator, th, sizeof *th, SCH_CACHELINE);
    return error;
}

/* Give a place up. Under idle.lock; returns a task that waits for one, to be granted after it: it
 * will try again. */
static sch_task *schi_unreserve_locked(sch_runtime *rt) {
    sch_task *task = rt->reserve_first;
    schi_sub_seq(&rt->idle.places, 1u);
    if (!task) return NULL;
    rt->reserve_first = schi_task_of(schi_rd(&task->node.next));
    schi_sub_seq(&rt->reserve_waiters, 1u);
    return task;
}

static void schi_unreserve(schi_thread *th, sch_runtime *rt) {
    sch_task *task;
    schi_lock(&rt->idle.lock);
    task = schi_unreserve_locked(rt);
    schi_unlock(&rt->idle.lock);
    if (task && schi_task_grant(task)) schi_schedule(th, task);
}

/* Keep a place for a blocking call. 0; -EAGAIN: no thread can be made; -EBUSY: all places are
 * taken, and the task is listed to get one by a grant if `wait`. */
static int schi_reserve(schi_thread *th, bool wait) {
    sch_runtime *rt = th->rt;
    sch_task *task;
    unsigned places;
    schi_lock(&rt->idle.lock);
    places = schi_load_seq(&rt->idle.places);
    if (places >= rt->config.max_blocking_threads + rt->num_cores) { /* some are kept */
        if (wait) { /* its node is free while it runs and while it waits (K2) */
            schi_wr(&schi_current(th)->node.next, (schi_node *)NULL);
            if (rt->reserve_first) {
                schi_wr(&rt->reserve_last->node.next, &schi_current(th)->node);
            } else {
                rt->reserve_first = schi_current(th);
            }
            rt->reserve_last = schi_current(th);
            schi_add_seq(&rt->reserve_waiters, 1u);
        }
        schi_unlock(&rt->idle.lock);
        return -EBUSY;
    }
    schi_add_seq(&rt->idle.places, 1u);
    if (rt->num_workers > rt->num_cores + places) {
        schi_unlock(&rt->idle.lock);
        return 0;
    }
    rt->num_workers++;
    schi_unlock(&rt->idle.lock);
    if (schi_thread_new(rt, SCHI_WORKER, NULL, schi_worker_main) == 0) return 0;
    schi_lock(&rt->idle.lock);
    rt->num_workers--;
    task = schi_unreserve_locked(rt);
    schi_unlock(&rt->idle.lock);
    if (task && schi_task_grant(task)) schi_schedule(th, task);
    return -EAGAIN;
}

/* We hold this core now. It was counted by whoever claimed it. */
static void schi_core_taken(schi_thread *th, schi_core *core, bool searching) {
    th->core = core;
    th->searching = searching;
    core->turn_end_ns = 0;
    schi_store_rlx(&core->m.thread, (uint64_t)th->number); /* rlx: a statistic */
    if (!(schi_counted(&core->m.park_unparks) & 1)) return;
    schi_count(&core->m.park_unparks, 1);
    schi_see(th, core->rt, SCHI_TRACE_UNPARK, 0);
}

/* Move everything that this core has queued to the injector, so that it can be given up (J2). */
static void schi_core_drain(schi_core *core) {
    schi_node *node = core->next ? &core->next->node : schi_lifo_take(&core->q);
    core->next = NULL;
    while (node || (node = schi_lifo_take(&core->q)) || (node = schi_runq_pop(&core->q))) {
        (void)schi_inject_push(&core->rt->inject, node);
        node = NULL;
    }
}

static bool schi_core_is_empty(schi_core *core) {
    return schi_lifo_is_empty(&core->q) && schi_runq_len(&core->q) == 0;
}

/* Hand our core, which is running, to a thread that sleeps; if none does yet, make it idle. */
static void schi_core_hand_off(schi_thread *th, schi_core *core) {
    sch_runtime *rt = th->rt;
    schi_idle *d = &rt->idle;
    th->core = NULL;
    schi_count(&core->m.handoffs, 1);
    schi_store_rlx(&core->m.thread, UINT64_MAX); /* rlx: a statistic */
    for (;;) {
        schi_lock(&d->lock);
        if (schi_idle_has_sleeper(d)) {
            schi_seat seat = schi_give_core(rt, core, false, false);
            schi_unlock(&d->lock);
            schi_ring_seat(rt, seat);
            return;
        }
        if (schi_core_is_empty(core)) break;
        schi_unlock(&d->lock);
        schi_core_drain(core);
    }
    schi_count(&core->m.park_unparks, 1); /* parked: odd */
    schi_idle_release(d, core->index, false);
    schi_core_watched(core);
    schi_unlock(&d->lock);
    schi_notify(th, rt); /* what was drained was pushed before this handshake */
}

/* Go on without a core. The place is reserved. Nothing queued: lend it, else hand it over. */
static SCHI_INLINE void schi_core_leave(schi_thread *th) {
    sch_runtime *rt = th->rt;
    schi_core *core = th->core;
    SCHI_ASSERT(core && !core->next && !th->searching);
    if (SCHI_UNLIKELY(schi_seen(rt) != 0)) schi_see_leave(th, rt);
    schi_biased_share(&core->wheel.lock);
    if (!schi_core_is_empty(core) || !schi_inject_is_empty(&rt->inject)) {
        schi_core_hand_off(th, core);
        return;
    }
    schi_count(&core->m.lends, 1);
    th->core = NULL;
    th->lent = core;
    schi_idle_lend(&rt->idle, core->index, &th->loan);
    if (SCHI_UNLIKELY(schi_load_seq(&core->wheel.next) != SCH_FOREVER)) {
        schi_lock(&rt->idle.lock);
        schi_core_watched(core);
        schi_unlock(&rt->idle.lock);
    }
    /* "all run", case 2 of [5.3]: a pusher that missed it is seen here. So is a shutdown. */
    if (schi_inject_is_empty(&rt->inject) && !schi_is_closing(rt)) return;
    if (!schi_idle_take_back(&rt->idle, core->index, &th->loan)) return;
    th->lent = NULL;
    schi_core_hand_off(th, core);
}

/* Have a core again: the one that was lent, or an idle one. false: neither is to be had. */
static SCHI_INLINE bool schi_core_return(schi_thread *th) {
    sch_runtime *rt = th->rt;
    schi_core *core = th->lent;
    unsigned index;
    th->lent = NULL;
    if (SCHI_LIKELY(core && schi_idle_take_back(&rt->idle, core->index, &th->loan))) {
        th->core = core;
        schi_store_rlx(&core->m.thread, (uint64_t)th->number); /* rlx: another may have lent it */
    } else {
        schi_lock(&rt->idle.lock);
        index = schi_idle_acquire(&rt->idle, false);
        schi_unlock(&rt->idle.lock);
        if (index == SCHI_NO_CORE) return false;
        schi_core_taken(th, rt->cores[index], false);
    }
    /* While the core was away the standby may have stopped its alarm: it clears ARMED and then
     * looks at what is lent under our lock; we took the core back under it, and then look. */
    schi_standby_arm_if_clear(rt, schi_load_seq(&rt->idle.word));
    if (SCHI_UNLIKELY(schi_seen(rt) != 0)) schi_see_return(th, rt);
    return true;
}

/*==================================================================================================
 * MARK: - [11.4] Worker: waiting (private)
 *   How a task, a blocking job or a plain thread waits until it is granted, woken or cancelled.
 *   Uses [7] [11.2] [11.3].  Used by [11.5] [12] [13] [18].
 *   Tests: tests/unit/lifecycle.c, tests/unit/turn.c
 *
 *   A task that waits chooses its successor itself. If that is suspended, it switches straight to
 *   it; otherwise it leaves it in core->next and switches to a fresh loop on a cached stack, or
 *   home; one that yields may find nobody, and goes on. What publishes the waiting task is done
 *   after the switch by the side switched to (schi_commit): nobody can resume a context that is not
 *   saved yet, or free a stack that is still stood on.
 *================================================================================================*/
static void schi_requeue(schi_thread *th, sch_task *task) {
    if (th->core) {
        schi_push_back(th, th->core, task);
    } else {
        schi_push_inject(th, schi_task_runtime(task), task);
    }
}

static SCHI_NOINLINE void schi_commit_other(schi_thread *th, schi_commit_kind kind) {
    sch_task *task = th->commit_task;
    switch (kind) {
    case SCHI_COMMIT_NONE: break;
    case SCHI_COMMIT_REQUEUE: schi_requeue(th, task); break;
    case SCHI_COMMIT_IDLE:
        /* It happened before the task was let go; who did it could not queue it. */
        if (SCHI_UNLIKELY(schi_seen(th->rt) != 0)) schi_see_wake(th, th->rt, task);
        schi_requeue(th, task);
        break;
    case SCHI_COMMIT_OWN_STACK: schi_stack_own_free(&th->rt->stacks, th->commit_stack); break;
    case SCHI_COMMIT_LOOK: SCHI_ASSERT(false); break; /* see schi_land */
    }
}

/* First thing on a context that was switched to. */
static inline void schi_commit(schi_thread *th) {
    schi_commit_kind kind = th->commit;
    th->commit = SCHI_COMMIT_NONE;
    if (SCHI_UNLIKELY(kind != SCHI_COMMIT_IDLE) ||
        SCHI_UNLIKELY(!schi_task_idle(th->commit_task, th->commit_wait))) {
        schi_commit_other(th, kind);
    }
}

/* Somebody looks at this suspended stack: it tells what is on it, and goes back. */
static SCHI_NOINLINE schi_thread *schi_stack_show(schi_thread *th, schi_stack *stack) {
    schi_look_at *look = th->look;
    th->commit = SCHI_COMMIT_NONE;
    look->num = schi_backtrace(look->frames, SCHI_FRAMES);
    th->left = &stack->ctx;
    return (schi_thread *)schi_ctx_switch(&stack->ctx, look->back, th);
}

/* We are on a task's stack again: to go on, or to be looked at before that. */
static inline schi_thread *schi_land(schi_thread *th, schi_stack *stack) {
    for (;;) {
        schi_ctx_landed(&stack->ctx, th->left);
        if (SCHI_LIKELY(th->commit != SCHI_COMMIT_LOOK)) return th;
        th = schi_stack_show(th, stack);
    }
}

/* Does a task that yields go on at once, since nobody else is queued? A way round by home would
 * lead back here, unless something is due there. But home is also where a shutdown, the end of a
 * visit and long polls are noticed: so 6 times in a row, while polls are short. */
static inline bool schi_yields_to_itself(const schi_core *core) {
    return core->countdown % 8 > 1 && core->mean_poll_ns < SCH_MICROSECOND &&
           core->last_sample_ns < SCH_MICROSECOND;
}

/* Where a task that waits or yields goes; th->stack is set for a fresh loop. NULL: nowhere. */
static inline schi_ctx *schi_successor(schi_thread *th) {
    schi_core *core = th->core;
    sch_task *next = NULL;
    schi_stack *s;
    th->stack = NULL;
    if (!core) return &th->home;
    if (SCHI_UNLIKELY(core->last_id != core->last_id_seen)) {
        next = schi_next_child(core, th->commit == SCHI_COMMIT_IDLE);
    }
    if (!next) next = schi_next(th, core);
    if (!next) {
        bool stays = th->commit == SCHI_COMMIT_REQUEUE && schi_yields_to_itself(core);
        return stays ? NULL : &th->home;
    }
    if (next->on.stack) return &next->on.stack->ctx;
    core->next = next;
    if (schi_wants_own_stack(next)) return &th->home;
    s = schi_stack_cached(core);
    if (!s) return &th->home;
    schi_stack_fresh(s);
    th->stack = s;
    return &s->ctx;
}

static inline void schi_count_wait(schi_core *core, sch_wait_kind kind) {
    if (SCHI_LIKELY(core != NULL)) schi_count(&core->m.waits[kind], 1);
}

/* Leave the running task's context and come back when it is resumed, maybe on another thread. */
static schi_thread *schi_switch_away(schi_thread *th, schi_commit_kind kind, SCHI_STATE wait) {
    sch_task *task = schi_current(th);
    schi_stack *stack = th->stack;
    sch_runtime *rt = th->rt;
    schi_ctx *to;
    SCHI_ASSERT(task && stack && th->commit == SCHI_COMMIT_NONE);
    schi_stack_check(stack);
    schi_count_wait(th->core, kind == SCHI_COMMIT_REQUEUE ? SCH_WAIT_YIELD : stack->frame.wait);
    stack->frame.since = SCHI_LIKELY(th->core != NULL) ? th->core->turn_ns : 0;
    if (SCHI_UNLIKELY(schi_seen(rt) != 0)) {
        schi_see_end(th, rt, task, kind == SCHI_COMMIT_REQUEUE ? SCHI_END_YIELDS : SCHI_END_WAITS);
    }
    task->on.stack = stack;
    schi_set_current(th, NULL);
    th->commit = kind;
    th->commit_task = task;
    th->commit_wait = wait;
    th->left = &stack->ctx;
    to = schi_successor(th);
    if (SCHI_LIKELY(to != NULL)) {
        /* the thread that resumes us */
        th = schi_land((schi_thread *)schi_ctx_switch(&stack->ctx, to, th), stack);
        schi_commit(th);
    } else {
        th->commit = SCHI_COMMIT_NONE;
        schi_count(&th->core->m.polls, 1);
    }
    task->on.stack = NULL;
    schi_set_current(th, task);
    th->stack = stack;
    th->budget = SCH_BUDGET;
    if (SCHI_UNLIKELY(schi_seen(rt) != 0)) schi_see_begin(th, rt, task);
    return th;
}

/* The same also inside sch_block_in_place: there the thread serves meanwhile, the place stays with
 * the task, and whoever resumes it leaves its core before it goes on in the blocking code. */
static inline schi_thread *schi_suspend_task(schi_thread *th, schi_commit_kind kind,
                                             SCHI_STATE wait) {
    schi_stack *stack = th->stack;
    if (SCHI_LIKELY(stack->frame.in_blocking == 0)) return schi_switch_away(th, kind, wait);
    SCHI_ASSERT(th->reserved);
    th->reserved = false;
    (void)schi_core_return(th);
    th = schi_switch_away(th, kind, wait);
    if (th->reserved) schi_unreserve(th, th->rt); /* ours takes its place */
    th->reserved = true;
    schi_core_leave(th);
    return th;
}

static schi_frame *schi_frame_of(schi_thread *th) {
    return th->stack ? &th->stack->frame : &th->frame;
}

/* The running task is about to wait for this. */
static void schi_waits_for(schi_thread *th, sch_wait_kind kind, const void *what) {
    schi_frame *f = schi_frame_of(th);
    f->wait = kind;
    f->wait_for = what;
    f->many = false;
}

/* Is the caller a task that can wait by itself? A poll task cannot, a plain thread is none. */
static bool schi_in_task(schi_thread *th) { return th && schi_current(th); }

/* 0, or -EPERM where nothing may wait. */
static inline int schi_may_wait(schi_thread *th) {
    if (!th) return 0;
    if (th->no_wait > 0) return -EPERM;
    /* rlx: POLL is a fixed bit */
    if (schi_current(th) && (schi_load_rlx(&schi_current(th)->state) & SCHI_POLL)) return -EPERM;
    return 0;
}

/* Without a core: on any wheel, which is then looked after. */
static SCHI_NOINLINE void schi_timer_arm_away(schi_thread *th, sch_timer *t) {
    sch_runtime *rt = th->rt;
    uint64_t next;
    t->op.wheel = 1;
    next = schi_wheel_insert(&rt->cores[0]->wheel, NULL, t);
    schi_lock(&rt->idle.lock);
    schi_watch_by(rt, schi_real_time(rt, next));
    schi_clock_may_jump(rt);
    schi_unlock(&rt->idle.lock);
    if (SCHI_UNLIKELY(schi_load_seq(&rt->ring) != 0)) schi_ring_loop(rt);
}

/* Arm in a task: on its core's wheel, which who holds the core looks after. */
static void schi_timer_arm(schi_thread *th, sch_timer *t) {
    schi_core *core = th->core;
    if (SCHI_UNLIKELY(!core)) {
        schi_timer_arm_away(th, t);
        return;
    }
    t->op.wheel = (uint16_t)(core->index + 1); /* at most SCH_MAX_WORKERS */
    (void)schi_wheel_insert(&core->wheel, &core->wheel, t);
}

/* Disarm it, by whoever waits: it was armed in the same runtime. false: it has expired. */
static bool schi_timer_disarm(schi_thread *th, sch_timer *t) {
    schi_wheel *wheel = &th->rt->cores[t->op.wheel - 1u]->wheel;
    return schi_wheel_remove(wheel, schi_own_wheel(th), t);
}

/* Do shields keep a cancellation off? */
static inline bool schi_is_shielded(schi_thread *th) {
    const schi_frame *f = schi_frame_of(th);
    return SCHI_UNLIKELY(f->shields > 0) &&
           (f->shield_until == SCH_FOREVER || schi_clock(th->rt) < f->shield_until);
}

/* Would a wait be refused because the task was cancelled? */
static inline bool schi_is_cancelled(schi_thread *th) {
    if (!schi_in_task(th) || schi_is_shielded(th)) return false;
    /* acq: pairs with cancel */
    return (schi_load_acq(&schi_current(th)->state) & SCHI_CANCELLED) != 0;
}

/* A wait tells its task that it was cancelled. */
static int schi_tell_cancelled(schi_thread *th, int result) {
    (void)schi_or_acqrel(&schi_current(th)->state, SCHI_TOLD); /* acqrel: only the bit counts */
    return result;
}

enum { SCHI_BY_GRANT, SCHI_BY_WAKE, SCHI_BY_CANCELLATION };

/* A blocking job's thread parks; schi_schedule unparks it. */
static SCHI_NOINLINE void schi_wait_as_job(schi_thread *th, sch_task *task, SCHI_STATE wait) {
    bool times = (schi_seen(th->rt) & SCHI_SEE_TIMES) != 0, waits;
    if (times) schi_see_job(task, true);
    waits = schi_task_idle(task, wait);
    if (waits) {
        schi_add_seq(&th->rt->pool.waiting, (uint64_t)1); /* whoever ends it may come first */
        if (SCHI_UNLIKELY(th->rt->config.paused_clock)) {
            schi_lock(&th->rt->idle.lock);
            schi_clock_may_jump(th->rt);
            schi_unlock(&th->rt->idle.lock);
        }
        (void)schi_park(&th->sleeper.parker, UINT64_MAX);
    }
    if (times) schi_see_job(task, false);
}

/* The running task waits for a grant, or a wake if `wait` has WAIT_WAKE, or a cancel if it has
 * WAIT_CANCEL. Says which it was; a grant or wake wins. */
static inline int schi_wait_for(schi_thread **thp, SCHI_STATE wait) {
    schi_thread *th = *thp;
    sch_task *task = schi_current(th);
    SCHI_STATE kept = wait & SCHI_WAIT_WAKE ? SCHI_WOKEN : SCHI_GRANTED, state;
    if (SCHI_UNLIKELY(th->kind == SCHI_BLOCKING)) {
        schi_wait_as_job(th, task, wait);
    } else {
        th = *thp = schi_suspend_task(th, SCHI_COMMIT_IDLE, wait);
    }
    state = schi_load_acq(&task->state); /* acq: pairs with whoever scheduled us */
    if (state & (kept | SCHI_BY_CANCEL)) {
        state = schi_task_clear(task, kept | SCHI_BY_CANCEL); /* what came since then counts, too */
        if (!(state & kept)) return SCHI_BY_CANCELLATION;
    }
    return wait & SCHI_WAIT_WAKE ? SCHI_BY_WAKE : SCHI_BY_GRANT;
}

/* The same under a shield, which may have an end. */
static SCHI_NOINLINE int schi_wait_shielded(schi_thread **thp, SCHI_STATE wait) {
    const schi_frame *f = schi_frame_of(*thp);
    sch_timer timer;
    int why;
    wait &= ~SCHI_WAIT_CANCEL;
    if (f->shield_until == SCH_FOREVER) return schi_wait_for(thp, wait);
    memset(&timer, 0, sizeof timer);
    timer.op.waiter = schi_current(*thp);
    timer.until = f->shield_until;
    schi_timer_arm(*thp, &timer);
    why = schi_wait_for(thp, wait);
    (void)schi_timer_disarm(*thp, &timer);
    return why;
}

/* The same; a cancel counts unless a shield is up, and as soon as its time is over. */
static inline int schi_wait(schi_thread **thp, SCHI_STATE wait) {
    if (SCHI_UNLIKELY((wait & SCHI_WAIT_CANCEL) && schi_is_shielded(*thp))) {
        return schi_wait_shielded(thp, wait);
    }
    return schi_wait_for(thp, wait);
}

/* Go to the back of the queue. */
static inline void schi_yield(schi_thread *th) {
    if (th->kind == SCHI_BLOCKING) {
        schi_os_yield();
    } else {
        (void)schi_suspend_task(th, SCHI_COMMIT_REQUEUE, 0);
    }
}

/* The budget is used up: the running task, if there is one, yields. */
static SCHI_NOINLINE void schi_budget_spent(schi_thread *th) {
    th->budget = SCH_BUDGET;
    if (!schi_in_task(th) || !th->stack || schi_may_wait(th) != 0) return;
    if (th->core) schi_count(&th->core->m.forced_yields, 1);
    schi_yield(th);
}

/* Count an operation that did not have to wait. */
static inline void schi_use_budget(schi_thread *th) {
    if (th && SCHI_UNLIKELY(--th->budget == 0)) schi_budget_spent(th);
}

/* Wait for a task's end, as a task. -EINTR: cancelled, the handle is still the caller's. */
static int schi_join_as_task(schi_thread *th, sch_task *task) {
    schi_waiter w;
    memset(&w, 0, sizeof w);
    w.task = schi_current(th);
    schi_wr(&task->joiner, &w);
    if (schi_is_cancelled(th)) {
        if (schi_task_join_cancel(task)) return schi_tell_cancelled(th, -EINTR);
        return 0;
    }
    if (!schi_task_join_wait(task)) return 0;
    schi_waits_for(th, SCH_WAIT_JOIN, task);
    if (schi_wait(&th, SCHI_WAIT_CANCEL) == SCHI_BY_CANCELLATION) {
        if (schi_task_join_cancel(task)) return schi_tell_cancelled(th, -EINTR);
        (void)schi_wait(&th, 0); /* BUSY: the grant is on its way, and touches w until then */
    }
    return 0;
}

/*==================================================================================================
 * MARK: - [11.5] Worker: home, the standby (private)
 *   On the native stack: maintenance, long search, sleep, and into the tasks.
 *   Uses [11.1]-[11.4].  Used by [12] [13].  Tests: tests/unit/current.c, tests/unit/standby.c
 *================================================================================================*/

/* Put a stack that nothing lives on into the core's cache. */
static void schi_stack_cache(schi_core *core, schi_stack *s) {
    schi_stack_check(s);
    s->next = core->stacks;
    core->stacks = s;
    core->num_stacks++;
}

static sch_poll_fn schi_task_poll_fn(const sch_task *task) {
    union {
        sch_fn run;
        sch_poll_fn poll;
    } fn;
    fn.run = schi_task_fn(task);
    return fn.poll;
}

/* One poll of a poll task. Returns the thread that we are on then. */
static schi_thread *schi_run_poll(schi_thread *th, sch_task *task, SCHI_STATE state) {
    sch_runtime *rt = th->rt;
    sch_status status;
    bool again;
    schi_set_current(th, task);
    th->budget = SCH_BUDGET;
    if (SCHI_UNLIKELY(schi_seen(rt) != 0)) schi_see_begin(th, rt, task);
    if (SCHI_UNLIKELY(state & SCHI_WOKEN)) {
        (void)schi_task_clear(task, SCHI_WOKEN); /* the poll that follows is for it */
    }
    status = schi_task_poll_fn(task)(task, schi_task_state(task));
    th = schi_self(); /* it may have come back elsewhere from a blocking call */
    if (SCHI_UNLIKELY(!th)) schi_child_end();
    SCHI_USAGE(status == SCH_READY || status == SCH_PENDING);
    again = schi_frame_of(th)->poll_again;
    schi_frame_of(th)->poll_again = false;
    if (SCHI_UNLIKELY(schi_seen(rt) != 0)) {
        schi_end how = again ? SCHI_END_YIELDS : SCHI_END_WAITS;
        schi_see_end(th, rt, task, status == SCH_READY ? SCHI_END_OVER : how);
    }
    schi_set_current(th, NULL);
    if (th->core) schi_forget_child(th->core);
    if (status == SCH_READY) {
        if (SCHI_UNLIKELY(task->arg != NULL)) schi_task_revoke_ops(task);
        schi_task_end_at(th, rt, th->core, task, 0);
        return th;
    }
    schi_count_wait(th->core, again ? SCH_WAIT_YIELD : SCH_WAIT_POLL_TASK);
    if (again) {
        if (state & SCHI_NEW) (void)schi_task_clear(task, SCHI_NEW);
        schi_push_back(th, th->core, task);
    } else if (!schi_task_idle(task, SCHI_WAIT_WAKE | SCHI_WAIT_CANCEL)) {
        if (SCHI_UNLIKELY(schi_seen(rt) != 0)) schi_see_wake(th, rt, task); /* as in commit */
        schi_push_back(th, th->core, task);
    }
    return th;
}

/* A poll task, or one that was cancelled before it ran. */
static SCHI_NOINLINE schi_thread *schi_run_other(schi_thread *th, sch_task *task,
                                                 SCHI_STATE state) {
    bool poll = (state & SCHI_POLL) != 0;
    if ((state & SCHI_CANCELLED) && (!poll || (state & SCHI_NEW) || schi_is_closing(th->rt))) {
        if (poll && task->arg) schi_task_revoke_ops(task);
        schi_task_end(th, task, SCHI_DROPPED);
        return th;
    }
    return schi_run_poll(th, task, state);
}

/* The task that ran has something to drop, or somebody wants to know of its end. */
static SCHI_NOINLINE void schi_run_end(schi_thread *th, sch_task *task) {
    if (schi_seen(th->rt) != 0) schi_see_end(th, th->rt, task, SCHI_END_OVER);
    schi_set_current(th, NULL);
    if (th->core) schi_forget_child(th->core);
    schi_task_end_at(th, th->rt, th->core, task, 0);
}

/* Run one task on this stack, which has no other frame. Returns the thread that we are on then. */
static schi_thread *schi_run(schi_thread *th, sch_task *task) {
    SCHI_STATE state = schi_load_acq(&task->state); /* acq: pairs with cancel and wake */
    schi_core *core;
    if (SCHI_UNLIKELY(state & (SCHI_POLL | SCHI_CANCELLED))) return schi_run_other(th, task, state);
    schi_set_current(th, task);
    th->budget = SCH_BUDGET;
    if (SCHI_UNLIKELY(schi_seen(th->rt) != 0)) schi_see_begin(th, th->rt, task);
    schi_task_fn(task)(task->arg);
    th = schi_self(); /* it may have waited and come back elsewhere */
    if (SCHI_UNLIKELY(!th)) schi_child_end();
    SCHI_USAGE(th->stack->frame.shields == 0);
    th->stack->frame.shields = 0;
    core = th->core;
    state = schi_load_rlx(&task->state); /* rlx: TOLD is ours */
    if (SCHI_UNLIKELY(schi_task_desc(task) || !core || core->closed || (state & SCHI_TOLD) ||
                      schi_seen(th->rt) != 0)) {
        schi_run_end(th, task);
        return th;
    }
    schi_set_current(th, NULL);
    schi_forget_child(core);
    schi_task_end_plain(th, core, task);
    return th;
}

/* What a pooled stack runs. It keeps nothing in locals across a task but the stack itself: the
 * frame below a task that waited continues on whichever worker resumed it. */
static schi_ctx *schi_loop(void *record) {
    schi_thread *th = (schi_thread *)record;
    schi_stack *stack = th->stack;
    schi_ctx *to = NULL;
    sch_task *task;
    schi_ctx_landed(&stack->ctx, th->left);
    schi_commit(th);
    task = th->core->next;
    th->core->next = NULL;
    while (!to) {
        if (!task) task = schi_next(th, th->core);
        if (!task) {
            to = &th->home;
        } else if (task->on.stack) {
            to = &task->on.stack->ctx;
        } else if (schi_wants_own_stack(task) && !stack->mapped) {
            th->core->next = task;
            to = &th->home;
        } else {
            th = schi_run(th, task);
            task = NULL;
            if (stack->mapped) to = &th->home;
        }
    }
    if (stack->mapped) {
        th->commit = SCHI_COMMIT_OWN_STACK;
        th->commit_stack = stack;
    } else {
        schi_stack_cache(th->core, stack); /* ours alone until after the switch */
    }
    th->stack = NULL;
    th->left = NULL;
    return to;
}

/* From home into a task; back when there is nothing quick to do or maintenance is due. */
static void schi_enter(schi_thread *th, sch_task *task) {
    schi_core *core = th->core;
    schi_ctx *to;
    if (task->on.stack) {
        to = &task->on.stack->ctx;
    } else {
        schi_stack *s = NULL;
        if (schi_wants_own_stack(task)) {
            s = schi_stack_own_new(&th->rt->stacks, schi_task_desc(task)->stack_size);
        } else {
            /* Half of the cache: what comes free has room, too. */
            if (!core->stacks && schi_counted(&th->rt->stacks.num_dirty) > 0) {
                core->num_stacks = schi_stack_pool_take(&th->rt->stacks, &core->stacks,
                                                        (SCH_STACK_CACHE + 1) / 2);
            }
            s = schi_stack_cached(core);
            if (!s) s = schi_stack_pool_get(&th->rt->stacks);
        }
        if (!s && (schi_load_rlx(&task->state) & SCHI_POLL)) { /* rlx: fixed bit */
            (void)schi_run(th, task); /* it does not wait: it may run here, where it can block */
            return;
        }
        if (!s) {
            schi_task_end(th, task, SCHI_DROPPED | SCHI_NO_STACK);
            return;
        }
        schi_stack_fresh(s);
        th->stack = s;
        core->next = task;
        to = &s->ctx;
    }
    th->left = &th->home;
    (void)schi_ctx_switch(&th->home, to, th);
    schi_ctx_landed(&th->home, th->left);
    th->stack = NULL;
    schi_set_current(th, NULL);
    schi_commit(th);
}

/* Ticks from one maintenance to the next. It costs as much as some ten short polls: while they are
 * short it comes less often, unless the user has said how often. */
static unsigned schi_event_interval(const sch_runtime *rt, uint64_t poll_ns) {
    if (rt->config.event_interval != 0) return rt->config.event_interval;
    return poll_ns < SCH_MOVE_COST_NS ? 4 * SCH_EVENT_INTERVAL : SCH_EVENT_INTERVAL;
}

/* Learn from the time of the last batch how much a queued task is worth, and how often to look at
 * the injector: about every 200 us. */
static void schi_core_measure(schi_core *core, uint64_t elapsed_ns) {
    uint64_t polls = schi_counted(&core->m.polls) - core->batch_start_polls, sample, mean, interval;
    schi_count(&core->m.busy_ns, elapsed_ns);
    core->sample_ns += elapsed_ns;
    core->sample_polls += polls;
    if (core->sample_polls == 0) return;
    if (core->sample_polls < SCH_EVENT_INTERVAL && core->sample_ns < SCH_MILLISECOND) return;
    sample = core->sample_ns / core->sample_polls;
    core->sample_ns = core->sample_polls = 0;
    /* One long poll among short ones, or a preemption, says nothing of what is queued: the smaller
     * of two samples in a row counts. */
    mean = sample < core->last_sample_ns ? sample : core->last_sample_ns;
    core->last_sample_ns = sample;
    mean = core->mean_poll_ns - core->mean_poll_ns / 4 + mean / 4;
    if (mean == 0) mean = 1;
    core->mean_poll_ns = mean;
    schi_store_rlx(&core->m.mean_poll_ns, mean); /* rlx: a statistic */
    core->event_interval = schi_event_interval(core->rt, mean > sample ? mean : sample);
    if (!core->alone) {
        bool stay = mean < SCH_MOVE_COST_NS && !core->rt->config.no_standby;
        uint64_t tasks = (SCH_WAKE_COST_NS + mean - 1) / mean;
        uint32_t len = stay ? UINT32_MAX : (uint32_t)tasks;
        schi_store_rlx(&core->wake_len, len); /* rlx: a hint */
        schi_runq_keep(&core->q, stay && schi_load_rlx(&core->rt->has_barrier)); /* rlx: a hint */
    }
    interval = core->rt->config.global_queue_interval;
    if (interval == 0) {
        interval = 200 * SCH_MICROSECOND / mean;
        interval = interval < 2 ? 2 : interval > 127 ? 127 : interval;
    }
    core->inject_interval = (unsigned)interval;
    schi_core_settle(core);
    if (core->inject_left > core->inject_interval) core->inject_left = core->inject_interval;
    if (core->ticks_left > core->event_interval) core->ticks_left = core->event_interval;
    schi_core_settle(core);
}

/* Once in event_interval ticks, and when shutdown has begun. At home. */
static void schi_core_maintain(schi_thread *th) {
    schi_core *core = th->core;
    SCHI_INDEX len = schi_runq_len(&core->q);
    core->ticks_left = core->event_interval;
    schi_core_settle(core);
    schi_count(&core->m.maintenances, 1);
    schi_biased_share(&core->wheel.lock);
    if (schi_load_rlx(&core->wheel.next) != SCH_FOREVER) core->turn_end_ns = 0; /* rlx: a hint */
    schi_timers_serve(th);
    /* acq: pairs with start; the poller is there. rlx: a hint, who takes the watch asks, too. */
    if (schi_load_acq(&th->rt->driver.on) && !schi_load_rlx(&th->rt->idle.watched)) {
        schi_io_poll_driver(th, NULL);
        core->turn_end_ns = 0; /* it may have taken long: that is not the next batch's time */
    }
    if (SCHI_UNLIKELY(schi_is_closing(th->rt)) && !core->closed) schi_core_close(th);
    if (core->num_stacks > SCH_STACK_CACHE) {
        unsigned n = core->num_stacks - SCH_STACK_CACHE / 2;
        schi_stack *first = core->stacks, *last = first;
        for (unsigned i = 1; i < n; i++) last = last->next;
        core->stacks = last->next;
        core->num_stacks -= n;
        schi_stack_pool_put_all(&th->rt->stacks, first, last, n);
    }
    if (len > 1 && schi_core_worth(core, len)) schi_notify_soft(th, th->rt);
}

static sch_task *schi_stolen(schi_thread *th, schi_core *victim, schi_node *node, uint64_t count) {
    schi_count(&th->core->m.steal_operations, 1);
    schi_count(&th->core->m.steals, count);
    schi_see(th, th->rt, SCHI_TRACE_STEAL, (uint64_t)victim->index << 16 | count);
    return schi_task_of(node);
}

/* The standby's searcher also takes what is worth less than a wake, and what sits in the LIFO slot
 * behind a poll that has lasted since the last look. */
static sch_task *schi_steal_from(schi_thread *th, schi_core *victim) {
    SCHI_INDEX len = schi_runq_len(&victim->q), count = 0;
    bool ring = len > 0 && (th->rescue || schi_core_worth(victim, len));
    bool slot = th->rescue && !schi_lifo_is_empty(&victim->q);
    sch_task *task = NULL;
    schi_node *node;
    int error;
    if (!ring && !slot) return NULL;
    error = schi_runq_visit(&victim->q);
    if (error == -ENOSYS) schi_store_rlx(&th->rt->has_barrier, 0u); /* rlx: a hint: keep no more */
    if (error) return NULL;
    node = ring ? schi_runq_steal(&victim->q, &th->core->q, &count) : NULL;
    if (node) {
        task = schi_stolen(th, victim, node, count);
    } else if (slot && (node = schi_lifo_take(&victim->q)) != NULL) {
        schi_count(&th->core->m.lifo_steals, 1);
        task = schi_stolen(th, victim, node, 1);
    }
    schi_runq_part(&victim->q);
    schi_core_receive(th->core, count);
    return task;
}

/* Steal from somebody, beginning anywhere. */
static sch_task *schi_steal(schi_thread *th) {
    sch_runtime *rt = th->rt;
    uint32_t n = rt->num_cores, start = schi_rng_below(&th->core->rng, n);
    for (uint32_t i = 0; i < n; i++) {
        schi_core *victim = rt->cores[start + i < n ? start + i : start + i - n];
        sch_task *task = victim != th->core ? schi_steal_from(th, victim) : NULL;
        if (task) return task;
    }
    return NULL;
}

/* Look everywhere, for a short while. once: timers of our own are due, which come next. NULL:
 * nothing, and we may still be counted as searching. */
static sch_task *schi_search(schi_thread *th, bool once) {
    schi_core *core = th->core;
    unsigned rounds = SCH_SPIN_ROUNDS;
    sch_task *task = NULL;
    /* Who will sleep in the driver need not spin: most of what comes does come from there. */
    /* rlx: hints. */
    if (schi_load_rlx(&th->rt->driver.on) && !schi_load_rlx(&th->rt->idle.watched)) rounds = 1;
    if (once) rounds = 1;
    if (core->alone && rounds == 1 && !th->searching) return NULL; /* the injector was looked at */
    if (!th->searching) {
        if (!schi_idle_try_search(&th->rt->idle)) return NULL;
        th->searching = true;
    }
    schi_count(&core->m.searches, 1);
    schi_see(th, th->rt, SCHI_TRACE_SEARCH, 0);
    for (unsigned round = 0; round < rounds && !task; round++) {
        for (unsigned i = 0; round > 0 && i < 8u << round; i++) schi_cpu_relax();
        task = schi_take_share(core, 0);
        if (!task) task = schi_steal(th);
        if (!task) schi_count(&core->m.search_spins, 1);
    }
    th->rescue = false;
    if (task) schi_count(&core->m.polls, 1);
    return task;
}

/* Work was found. "A searcher looks again": whoever relied on us may have pushed more; it is ours
 * to come back to, and worth a wake or not. */
static void schi_stop_search(schi_thread *th) {
    schi_core *core = th->core;
    bool last = schi_idle_stop_search(&th->rt->idle);
    uint64_t queued;
    th->searching = false;
    if (!last) return;
    queued = schi_runq_len(&core->q);
    if (!schi_inject_is_empty(&th->rt->inject)) queued += schi_inject_len(&th->rt->inject, NULL);
    /* rlx: a hint */
    if (queued > 0 && queued >= schi_load_rlx(&core->wake_len)) {
        schi_count(&core->m.relays, 1);
        schi_notify_soft(th, th->rt);
    }
}

/* How many of the tasks that were queued on this core at the last look are still there? At least:
 * each child that was taken from the newer end since then may be one that was not. */
static unsigned schi_look_at_core(schi_core *core, schi_look *look) {
    uint64_t polls = schi_counted(&core->m.polls), children = schi_counted(&core->m.child_polls);
    uint64_t taken = children - look->children;
    SCHI_HEAD head = schi_load_acq(&core->q.head); /* acq: tail below is then not older */
    SCHI_INDEX real = schi_runq_real_of(head);
    SCHI_INDEX tail = schi_load_acq(&core->q.tail);     /* acq: only compared */
    SCHI_INDEX ahead = (SCHI_INDEX)(look->tail - real); /* of the last look's tasks, those left */
    bool lifo = !schi_lifo_is_empty(&core->q);
    unsigned late = look->queued && ahead <= SCH_RUNQ_CAP ? (unsigned)ahead : 0;
    late = taken < late ? late - (unsigned)taken : 0;
    if (look->lifo && lifo && look->polls == polls) late++; /* behind one and the same poll */
    look->polls = polls;
    look->children = children;
    look->tail = tail;
    look->queued = tail != real;
    look->lifo = lifo;
    return late;
}

static unsigned schi_look_at_injector(sch_runtime *rt) {
    uint64_t pushed, len = schi_inject_len(&rt->inject, &pushed), popped = pushed - len;
    uint64_t late = popped < rt->look_pushed ? rt->look_pushed - popped : 0;
    rt->look_pushed = pushed;
    return late < rt->num_cores ? (unsigned)late : rt->num_cores;
}

/* sch_wake_signal has pushed something, and could not take the lock. */
static void schi_heed_signal(schi_thread *th, sch_runtime *rt) {
    if (schi_load_seq(&rt->signalled) && schi_xchg_seq(&rt->signalled, 0u)) schi_notify(th, rt);
}

/* The standby has been rung: what has waited since the last look although a core is free? */
static void schi_standby_look(schi_thread *th) {
    sch_runtime *rt = th->rt;
    schi_idle *d = &rt->idle;
    uint64_t now;
    unsigned late = 0;
    schi_heed_signal(th, rt);
    if (!d->has_standby) return;
    (void)schi_inject_len(&rt->inject, NULL); /* turns it, which may take long, before the lock */
    schi_lock(&d->lock); /* the looks belong to the seat */
    if (!th->sleeper.listed) goto out;
    now = schi_now_ns();
    if (now < rt->look_at) { /* rung for a timer, or for whoever had the seat before */
        /* A ring at once may hide one that was set for later [3]: set that again. */
        if (th->sleeper.seat == SCHI_STANDBY && (schi_load_seq(&d->word) & SCHI_IDLE_ARMED)) {
            schi_alarm_set(&rt->seats[SCHI_STANDBY].alarm, rt->look_at - now);
        }
        goto out;
    }
    /* Clear ARMED before looking: who begins to run later sets the alarm again. */
    if (!(schi_and_seq(&d->word, ~SCHI_IDLE_ARMED) & SCHI_IDLE_ARMED)) goto out;
    schi_count_shared(&rt->looks_done, 1);
    for (unsigned i = 0; i < rt->num_cores; i++) {
        schi_core *core = rt->cores[i];
        if (rt->looks[i].polls == schi_counted(&core->m.polls)) { /* in one poll since then */
            schi_watch_by(rt, schi_real_time(rt, schi_load_seq(&core->wheel.next)));
        }
        late += schi_look_at_core(core, &rt->looks[i]);
    }
    late += schi_look_at_injector(rt);
    /* Arm again while a core runs; see schi_core_return for one that is lent. */
    schi_standby_arm_if_running(rt);
out:
    schi_unlock(&d->lock);
    /* As many as are late: the thieves themselves may not think what they find worth a wake. */
    for (; late > 0 && schi_wake_one(rt, false, true); late--) schi_count_shared(&rt->rescues, 1);
}

/* A core that shutdown has not come to, and that nobody holds. Under idle.lock. */
static schi_core *schi_unclosed_core(sch_runtime *rt) {
    schi_idle *d = &rt->idle;
    unsigned index;
    for (unsigned i = 0; i < rt->num_cores; i++) {
        uint64_t bit = UINT64_C(1) << (i % 64);
        if (!(d->idle[i / 64] & bit) || rt->cores[i]->closed) continue;
        d->idle[i / 64] ^= bit;
        schi_add_seq(&d->word, SCHI_IDLE_RUNNING);
        return rt->cores[i];
    }
    index = schi_idle_acquire_lent(d, false);
    return index == SCHI_NO_CORE ? NULL : rt->cores[index];
}

/* Give our core up and get on the list. Under idle.lock. Returns a core that we should have at once
 * instead (counted; *searching says how), NULL: sleep. *place: a task that waits for a place
 * [11.3]. */
static schi_core *schi_lie_down(schi_thread *th, bool *searching,
                                sch_task **place) {
    sch_runtime *rt = th->rt;
    schi_idle *d = &rt->idle;
    schi_core *core = th->core, *other = NULL;
    if (core) {
        SCHI_ASSERT(!core->next && schi_core_is_empty(core)); /* J2 */
        schi_see(th, rt, SCHI_TRACE_PARK, 0);
        schi_count(&core->m.parks, 1);
        schi_count(&core->m.park_unparks, 1);
        if (core->park_polls == schi_counted(&core->m.polls)) schi_count(&core->m.noops, 1);
        core->park_polls = schi_counted(&core->m.polls);
        schi_store_rlx(&core->m.thread, UINT64_MAX); /* rlx: a statistic */
        schi_biased_share(&core->wheel.lock);
        schi_idle_release(d, core->index, th->searching);
        schi_core_watched(core);
        th->core = NULL;
        th->searching = false;
    }
    if (th->reserved) {
        *place = schi_unreserve_locked(rt);
        th->reserved = false;
    }
    if (rt->finished) return NULL;
    *searching = !core;
    if (!core) { /* without a core and one is idle: take it (case 3 of [5.3]) */
        unsigned index = schi_idle_acquire(d, true);
        if (index != SCHI_NO_CORE) return rt->cores[index];
    }
    *searching = false;
    if (schi_is_closing(rt)) other = schi_unclosed_core(rt);
    if (!other) {
        schi_idle_list(d, &th->sleeper);
        schi_seat_taken(rt, &th->sleeper);
    }
    return other;
}

/* Is what a visitor waits for there? Under idle.lock, which the granter holds. */
static bool schi_is_over(sch_runtime *rt, schi_waiter *until) {
    return rt->finished || (until && (until->done || schi_now_ns() >= until->deadline));
}

/* Does no blocking job run? */
static bool schi_pool_is_idle(schi_pool *p) {
    bool idle;
    schi_lock(&p->lock);
    idle = schi_counted(&p->idle_threads) + schi_load_seq(&p->waiting) ==
           schi_counted(&p->threads); /* jobs may be queued behind those that wait */
    schi_unlock(&p->lock);
    return idle;
}

/* What is slept through: how long, and what came of it. */
typedef struct schi_nap {
    schi_waiter *until;  /* of a visitor; NULL: none */
    schi_core *core;     /* got at once, or given */
    bool searching;      /* how it is counted */
    bool given;          /* by another thread */
    bool over;           /* leave instead */
    uint64_t deadline;   /* of a spare worker or a visitor */
    uint64_t wake;       /* the next time to look up */
    bool quiet;          /* the driver had nothing when it was asked last */
    bool skipped;        /* a wheel could not be looked into */
    unsigned num_events, served; /* what the driver told; of that, used */
    schi_ready events[SCHI_POLL_BATCH];
    schi_expired due;    /* to be granted, best with a core */
} schi_nap;

/* How long the watch may sleep: until the first timer, or the look that is its own to do. With a
 * paused clock, the first timer's time comes when nothing runs. Under idle.lock. */
static void schi_watch_prepare(sch_runtime *rt, schi_nap *nap) {
    schi_idle *d = &rt->idle;
    uint64_t next = schi_timers_next(rt);
    uint32_t word = schi_load_seq(&d->word);
    nap->wake = 0;
    if (SCHI_UNLIKELY(rt->config.paused_clock) && next != SCH_FOREVER &&
        schi_load_seq(&rt->walking) != SCHI_WALK_BORROWS &&
        schi_idle_running(word) == 0 && !schi_work_visible(rt) && schi_pool_is_idle(&rt->pool)) {
        if (!nap->quiet && schi_load_seq(&rt->driver.on)) return; /* ask the driver before that */
        if (next > schi_load_seq(&rt->paused_at)) schi_store_seq(&rt->paused_at, next);
        return;
    }
    next = schi_real_time(rt, next);
    nap->wake = next < nap->deadline ? next : nap->deadline;
    if ((word & SCHI_IDLE_ARMED) && !schi_idle_seated(d, SCHI_STANDBY) && rt->look_at < nap->wake) {
        nap->wake = rt->look_at;
    }
    if (SCHI_UNLIKELY(nap->skipped)) { /* a wheel whose time has come: not at once again */
        uint64_t later = schi_now_ns() + SCH_MILLISECOND;
        if (nap->wake < later) nap->wake = later;
        nap->skipped = false;
    }
    rt->watch_until = nap->wake;
}

/* Until woken, rung or the deadline; with the watch in the driver, if there is one. */
static void schi_rest(schi_thread *th, schi_nap *nap) {
    sch_runtime *rt = th->rt;
    schi_seat seat = th->sleeper.seat;
    nap->num_events = 0;
    if (seat == SCHI_NO_SEAT) {
        (void)schi_park(&th->sleeper.parker, nap->wake);
    } else if (seat == SCHI_WATCH && schi_load_seq(&rt->driver.on)) {
        int n = schi_park_poller(&rt->seats[seat].parker, &rt->seats[seat].alarm,
                                 &rt->driver.poller, nap->wake, nap->events);
        nap->quiet = n == 0;
        nap->num_events = n > 0 ? (unsigned)n : 0;
        schi_count_shared(&rt->driver.events, nap->num_events);
    } else if (!schi_has_alarms(rt)) {
        (void)schi_park(&rt->seats[seat].parker, nap->wake);
    } else {
        (void)schi_park_alarm(&rt->seats[seat].parker, &rt->seats[seat].alarm, nap->wake);
    }
}

/* May a spare worker go? Under idle.lock. */
static bool schi_is_spare(schi_thread *th) {
    sch_runtime *rt = th->rt;
    return th->kind == SCHI_WORKER && th->sleeper.seat == SCHI_NO_SEAT &&
           rt->num_workers > rt->num_cores + schi_load_seq(&rt->idle.places);
}

/* A spare worker that was needed when it lay down, since others had places that they gave up later,
 * shall end as well: it looks again. Under idle.lock. */
static void schi_spare_remind(sch_runtime *rt) {
    schi_sleeper *s = rt->idle.sleepers;
    if (rt->num_workers <= rt->num_cores + schi_load_seq(&rt->idle.places)) return;
    while (s && s->timed) s = s->next;
    if (s) schi_unpark_sleeper(rt, s);
}

/* It is spare, and will end. Under idle.lock. */
static void schi_spare_time(schi_thread *th, schi_nap *nap) {
    nap->deadline = schi_saturating_add(schi_now_ns(), th->rt->config.keep_alive_ns);
    th->sleeper.timed = true;
}

/* Get on the list, or find out why not to. Returns a task that waits for a place [11.3]. */
static sch_task *schi_nap_begin(schi_thread *th, schi_nap *nap) {
    sch_runtime *rt = th->rt;
    sch_task *place = NULL;
    schi_lock(&rt->idle.lock);
    th->sleeper.timed = false;
    nap->core = schi_lie_down(th, &nap->searching, &place);
    if (!nap->core && schi_is_over(rt, nap->until)) {
        if (schi_idle_unlist(&rt->idle, &th->sleeper)) {
            schi_sleeper *up = schi_idle_vacate(&rt->idle, &th->sleeper);
            if (up) schi_unpark_sleeper(rt, up);
        }
        nap->over = true;
    } else if (!nap->core && schi_is_spare(th)) {
        schi_spare_time(th, nap);
    } else if (!nap->core) {
        schi_spare_remind(rt);
    }
    nap->wake = nap->deadline;
    if (th->sleeper.seat == SCHI_WATCH) schi_watch_prepare(rt, nap);
    schi_unlock(&rt->idle.lock);
    return place;
}

/* Something woke us, or it is time: what now? Under idle.lock. Returns a sleeper to be unparked. */
static schi_sleeper *schi_nap_judge(schi_thread *th, schi_nap *nap) {
    sch_runtime *rt = th->rt;
    schi_idle *d = &rt->idle;
    schi_sleeper *me = &th->sleeper;
    if (!me->listed) {
        if (!nap->core) nap->core = (schi_core *)schi_slot_take(&th->slot);
        nap->given = true;
        return schi_idle_vacate(d, me);
    }
    if (schi_is_over(rt, nap->until)) {
        nap->over = true;
    } else if (nap->due.num > 0) {
        unsigned core = schi_idle_acquire(d, false);
        if (core != SCHI_NO_CORE) nap->core = rt->cores[core];
    } else if (!nap->until && nap->deadline != UINT64_MAX && schi_now_ns() >= nap->deadline) {
        nap->over = schi_is_spare(th);
        if (nap->over) rt->num_workers--;
        nap->wake = nap->deadline = UINT64_MAX; /* else: another has left, or it is needed */
        me->timed = false;
    } else if (!nap->until && nap->deadline == UINT64_MAX && schi_is_spare(th)) {
        schi_spare_time(th, nap);
        nap->wake = nap->deadline;
    }
    if (nap->over || nap->core) {
        (void)schi_idle_unlist(d, me);
        if (nap->over) schi_spare_remind(rt);
        return schi_idle_vacate(d, me);
    }
    if (schi_idle_may_move_up(d, me)) {
        schi_sleeper *up;
        (void)schi_idle_unlist(d, me);
        up = schi_idle_vacate(d, me);
        schi_idle_list(d, me);
        schi_seat_taken(rt, me);
        nap->wake = nap->deadline = nap->until ? nap->until->deadline : UINT64_MAX; /* it stays */
        me->timed = false;
        if (up && schi_idle_heir(d) != up) up = NULL;
        if (me->seat == SCHI_WATCH) schi_watch_prepare(rt, nap);
        return up;
    }
    if (me->seat == SCHI_WATCH) schi_watch_prepare(rt, nap);
    return NULL;
}

/* The watch: who waited for what has come? As many as fit, to be granted with a core. */
static void schi_nap_collect(schi_thread *th, schi_nap *nap) {
    sch_runtime *rt = th->rt;
    uint64_t now = SCH_FOREVER;
    unsigned woken;
    schi_io_fetch(&rt->driver, nap->events, nap->num_events);
    while (nap->served < nap->num_events &&
           schi_io_event(&rt->driver, &nap->events[nap->served], &nap->due)) {
        nap->served++;
    }
    if (nap->num_events > 0) schi_see(th, rt, SCHI_TRACE_DRIVER, nap->num_events);
    woken = nap->due.num;
    for (unsigned i = 0; i < rt->num_cores && !nap->core; i++) {
        schi_wheel *wheel = &rt->cores[i]->wheel;
        if (schi_load_rlx(&wheel->next) == SCH_FOREVER) continue; /* rlx: a hint */
        if (now == SCH_FOREVER) now = schi_clock(rt);
        if (!schi_wheel_collect(wheel, NULL, now, &nap->due)) nap->skipped = true;
    }
    if (nap->due.num > woken) schi_see(th, rt, SCHI_TRACE_TIMERS, nap->due.num - woken);
}

/* They and the rest are granted. */
static void schi_nap_grant(schi_thread *th, schi_nap *nap) {
    schi_grant_expired(th, &nap->due);
    nap->due.num = 0;
    schi_io_serve(th, nap->events + nap->served, nap->num_events - nap->served);
    nap->served = nap->num_events = 0;
}

/* Sleep until we have a core. false: leave instead - all is over, or `until` is done, or a spare
 * worker was not needed for a while. */
static bool schi_sleep(schi_thread *th, schi_waiter *until) {
    sch_runtime *rt = th->rt;
    schi_idle *d = &rt->idle;
    schi_core *core = th->core;
    schi_nap nap;
    sch_task *place;
    memset(&nap, 0, offsetof(schi_nap, events));
    nap.until = until;
    nap.deadline = until ? until->deadline : UINT64_MAX;
    nap.due.num = 0;
    th->core = NULL; /* what the hook queues goes to the injector, which is looked at below */
    schi_hook_thread(th, rt->config.hooks.on_thread_park);
    th->core = core;
    place = schi_nap_begin(th, &nap);
    if (place && schi_task_grant(place)) schi_schedule(th, place);
    if (!nap.core && !nap.over && schi_work_visible(rt)) {
        schi_notify(th, rt); /* "list, look again": cases 1 to 3 of [5.3] */
    }
    while (!nap.core && !nap.over) {
        schi_sleeper *up;
        schi_seat seat = th->sleeper.seat;
        schi_rest(th, &nap);
        nap.core = (schi_core *)schi_slot_take(&th->slot); /* as a rule, and without the lock */
        nap.given = nap.core != NULL;
        if (nap.core && seat == SCHI_NO_SEAT) break;
        if (seat == SCHI_WATCH) schi_nap_collect(th, &nap);
        schi_lock(&d->lock);
        up = schi_nap_judge(th, &nap);
        if (up) schi_unpark_sleeper(rt, up); /* under the lock: it cannot leave meanwhile */
        schi_unlock(&d->lock);
        if (nap.core || nap.over) break;
        schi_nap_grant(th, &nap); /* every core runs, or is about to be taken */
        if (th->sleeper.seat != SCHI_NO_SEAT) schi_standby_look(th);
    }
    schi_hook_thread(th, rt->config.hooks.on_thread_unpark);
    if (nap.given) nap.searching = th->sleeper.searching, th->rescue = th->sleeper.rescue;
    if (nap.core) schi_core_taken(th, nap.core, nap.searching);
    schi_nap_grant(th, &nap);
    if (!nap.core) return false;
    schi_standby_arm_if_clear(rt, schi_load_seq(&d->word));
    schi_heed_signal(th, rt); /* its wake and ours may have been one */
    return true;
}

/* Give our core up without sleeping: a visitor leaves. What it has queued goes to the injector. */
static void schi_core_give_up(schi_thread *th) {
    sch_runtime *rt = th->rt;
    schi_core *core = th->core;
    bool open;
    if (!core) return;
    schi_core_drain(core);
    open = !core->closed;
    schi_see(th, rt, SCHI_TRACE_PARK, 0);
    schi_lock(&rt->idle.lock);
    schi_count(&core->m.parks, 1);
    schi_count(&core->m.park_unparks, 1);
    schi_store_rlx(&core->m.thread, UINT64_MAX); /* rlx: a statistic */
    schi_biased_share(&core->wheel.lock);
    schi_idle_release(&rt->idle, core->index, th->searching);
    schi_core_watched(core);
    th->core = NULL;
    th->searching = false;
    schi_unlock(&rt->idle.lock);
    /* For another visitor: work, or a core that shutdown has not come to. Who sleeps in it lay down
     * while we held the core, after closing was set: we see that. */
    if (schi_work_visible(rt) || (open && schi_is_closing(rt))) schi_notify(th, rt);
}

/* One visit to the tasks with our core: until nothing quick is left, or maintenance is due. false:
 * nothing was found. */
static bool schi_turn(schi_thread *th) {
    schi_core *core = th->core;
    sch_task *task = core->next;
    uint64_t start, end;
    core->next = NULL;
    do {
        if (core->ticks_left == 0 || (schi_is_closing(th->rt) && !core->closed)) {
            schi_core_maintain(th);
        }
        if (!task) task = schi_next(th, core);
    } while (!task &&
             core->ticks_left == 0); /* not empty-handed, but because maintenance was due */
    end = core->turn_end_ns;
    start = task ? end : 0; /* one look at the clock for an end and a beginning */
    core->turn_end_ns = 0;
    if (!task) schi_count(&core->m.no_local_work, 1);
    /* rlx: our own arming */
    if (!task) task = schi_search(th, schi_load_rlx(&core->wheel.next) <= end);
    if (!task && schi_load_rlx(&core->wheel.next) != SCH_FOREVER) { /* rlx: our own arming */
        schi_timers_serve(th);
        if (!schi_core_is_empty(core)) return true;
    }
    if (!task) return false;
    if (th->searching) schi_stop_search(th);
    if (start == 0) start = schi_now_ns();
    core->turn_ns = start;
    core->batch_start_polls = schi_counted(&core->m.polls) - 1;
    schi_enter(th, task);
    if (th->core == core) {
        core->turn_end_ns = schi_now_ns();
        schi_core_measure(core, core->turn_end_ns - start);
    }
    return true;
}

/* Run tasks until all is over, or until `until` is done. */
static void schi_home(schi_thread *th, schi_waiter *until) {
    for (;;) {
        if (!th->core && !schi_sleep(th, until)) break;
        if (until) {
            bool over;
            schi_lock(&th->rt->idle.lock);
            over = schi_is_over(th->rt, until);
            schi_unlock(&th->rt->idle.lock);
            if (over) break;
        }
        if (schi_turn(th)) continue;
        if (schi_stack_pool_trim(&th->rt->stacks, SCH_STACK_CACHE)) continue; /* and look again */
        if (!schi_sleep(th, until)) break;
    }
    schi_core_give_up(th);
}

/* The current thread becomes one of the runtime's, under this record. */
static void schi_thread_enter(schi_thread *th) {
    schi_ctx_home(&th->home);
    th->os = schi_os_self();
    if (SCHI_UNLIKELY(th->rt && th->rt->config.stack_signal) && th->kind != SCHI_VISITOR) {
        schi_signal_open(th->rt->config.stack_signal);
    }
    th->outer = schi_self();
    schi_tls_set(th);
}

static void schi_thread_leave(schi_thread *th) { schi_tls_set(th->outer); }

/* Name "<thread_name>-<number>", cut to 15 characters. */
static void schi_thread_set_name(schi_thread *th) {
    char name[16], digits[12];
    size_t n = 0, length = 0;
    const char *prefix = th->rt->config.thread_name;
    unsigned number = th->number;
    do digits[n++] = (char)('0' + number % 10), number /= 10; while (number);
    while (prefix[length] && length + n + 2 < sizeof name) name[length] = prefix[length], length++;
    name[length++] = '-';
    while (n) name[length++] = digits[--n];
    name[length] = 0;
    schi_thread_name(name);
}

/* A thread of ours ends: joined by the next one that does, the last one by the shutdown. */
static void schi_thread_exit(schi_thread *th) {
    sch_runtime *rt = th->rt;
    schi_os_thread previous;
    bool join, last;
    schi_thread_leave(th);
    schi_lock(&rt->idle.lock);
    rt->threads[th->number] = NULL;
    last = --rt->num_threads == 0 && rt->finished;
    join = rt->has_exited;
    previous = rt->last_exited;
    rt->last_exited = schi_os_self();
    rt->has_exited = true;
    schi_unlock(&rt->idle.lock);
    schi_parker_drop(&th->sleeper.parker);
    schi_free(&rt->config.allocator, th, sizeof *th, SCH_CACHELINE);
    if (join) schi_thread_join(previous);
    if (last) schi_event_set(&rt->done); /* rt lives until this thread has been joined */
}

static void *schi_worker_main(void *thread) {
    schi_thread *th = (schi_thread *)thread;
    sch_runtime *rt = th->rt;
    schi_event_wait(&rt->start, UINT64_MAX); /* the number of cores is settled */
    schi_thread_enter(th);
    schi_thread_set_name(th);
    if (rt->config.pin_workers &&
        schi_pin_thread(rt->config.cpus[th->number % rt->config.num_cpus]) < 0) {
        th->failed = true;
    }
    schi_hook_thread(th, rt->config.hooks.on_thread_start);
    if (schi_add_seq(&rt->num_started, 1u) + 1 == rt->num_cores) schi_event_set(&rt->started);
    schi_home(th, NULL);
    schi_hook_thread(th, rt->config.hooks.on_thread_stop);
    schi_thread_exit(th);
    return NULL;
}

/*==================================================================================================
 * MARK: - [12] Blocking pool (private)
 *   Threads on demand for jobs that block.
 *   Uses [6] [11].  Used by [13] [18].  Tests: tests/unit/pool.c
 *
 *   A job is given to an idle thread directly, under the lock: an idle thread is either on the list
 *   or has its job, so no count can go wrong between a push, an expiry and the shutdown. A thread
 *   that was given a job always gets exactly one unpark for it, and waits for it. With all threads
 *   busy the job is queued if there is a thread that will come for it (live: really made), else
 *   refused.
 *   One thread at a time is on its way (coming): jobs that are submitted meanwhile are queued, so
 *   that a burst of short ones does not wake or make a thread each. Whoever arrives calls the next
 *   one for what is queued, before its own job, which may block. So jobs are queued only while
 *   somebody is coming, or all threads that may be made have a job, or none could be made.
 *
 *   A wake costs its sender some 8 us and takes more than 10 to arrive. So one idle thread looks
 *   for a job for a few times as long before it sleeps; each time that was in vain it does so more
 *   rarely, once in 64 times at last: who has few jobs does not pay for it.
 *================================================================================================*/
static int schi_pool_init(schi_pool *p, unsigned max) {
    memset(p, 0, sizeof *p);
    p->max = max;
    p->may_spin = SCH_POOL_SPIN_NS > 0 && schi_cpu_count() > 1;
    return schi_mutex_init(&p->lock);
}

static void schi_pool_unlist(schi_pool *p, schi_thread *th) {
    if (th->idle_prev) {
        th->idle_prev->idle_next = th->idle_next;
    } else {
        p->idle = th->idle_next;
    }
    if (th->idle_next) th->idle_next->idle_prev = th->idle_prev;
    th->idle = false;
    schi_count(&p->idle_threads, (uint64_t)-1);
}

/* Whoever was idle last gets the next job; before all others the one who spins. */
static void schi_pool_list(schi_pool *p, schi_thread *th) {
    schi_thread *before = p->spinning ? p->idle : NULL;
    th->idle_prev = before;
    th->idle_next = before ? before->idle_next : p->idle;
    if (th->idle_next) th->idle_next->idle_prev = th;
    if (before) {
        before->idle_next = th;
    } else {
        p->idle = th;
    }
    th->idle = true;
    schi_count(&p->idle_threads, 1);
}

static void schi_pool_enqueue(schi_pool *p, sch_task *task) {
    schi_wr(&task->node.next, (schi_node *)NULL);
    if (p->first) {
        schi_wr(&p->last->next, &task->node);
    } else {
        p->first = &task->node;
    }
    p->last = &task->node;
    schi_count(&p->queued, 1);
}

static sch_task *schi_pool_dequeue(schi_pool *p) {
    sch_task *task = schi_task_of(p->first);
    p->first = schi_rd(&p->first->next);
    schi_count(&p->queued, (uint64_t)-1);
    return task;
}

/* Give a job to an idle thread. Under the lock; returns it, to be unparked. NULL: none is idle. */
static schi_thread *schi_pool_give(schi_pool *p, sch_task *task) {
    schi_thread *th = p->idle;
    if (!th) return NULL;
    schi_pool_unlist(p, th);
    th->job = task;
    p->coming = true;
    return th;
}

/* Have a thread come with this job: an idle one, or NULL: make one. Under the lock. */
static schi_thread *schi_pool_call(schi_pool *p, sch_task *task) {
    schi_thread *th = schi_pool_give(p, task);
    if (th) return th;
    schi_count(&p->threads, 1);
    p->live++; /* before it can end; taken back if it cannot be made */
    p->starting++;
    p->coming = true;
    return NULL;
}

/* No thread could be made for this job. True: another will run it after all. *stranded: jobs of
 * those who relied on us, and whom nobody comes for. */
static bool schi_pool_refused(schi_pool *p, sch_task *task, schi_node **stranded) {
    schi_thread *th;
    bool queued = false;
    schi_lock(&p->lock);
    p->starting--;
    p->live--;
    p->coming = false;
    schi_count(&p->threads, (uint64_t)-1);
    th = schi_pool_give(p, task); /* one may have become idle meanwhile */
    if (!th && p->live > p->starting) { /* somebody who was really made will come for it */
        schi_pool_enqueue(p, task);
        queued = true;
    } else if (!th && p->starting == 0) {
        *stranded = p->first;
        p->first = NULL;
        schi_count(&p->queued, 0 - schi_counted(&p->queued));
    }
    schi_unlock(&p->lock);
    if (th) schi_unpark(&th->sleeper.parker, NULL);
    return th || queued;
}

/* The thread that was called is unparked, or made. 0; -EAGAIN: it cannot, the job is still ours. */
static int schi_pool_send(schi_thread *self, sch_runtime *rt, schi_thread *th, sch_task *task) {
    schi_node *stranded = NULL;
    if (th) {
        schi_unpark(&th->sleeper.parker, NULL);
        return 0;
    }
    if (schi_thread_new(rt, SCHI_BLOCKING, task, schi_blocking_main) == 0) return 0;
    if (schi_pool_refused(&rt->pool, task, &stranded)) return 0;
    while (stranded) {
        schi_node *next = schi_rd(&stranded->next);
        schi_task_end(self, schi_task_of(stranded), SCHI_DROPPED | SCHI_NO_STACK);
        stranded = next;
    }
    return -EAGAIN;
}

/* We are here with a job: call a thread for the next one. */
static void schi_pool_arrive(schi_thread *self) {
    sch_runtime *rt = self->rt;
    schi_pool *p = &rt->pool;
    sch_task *task = NULL;
    schi_thread *th = NULL;
    schi_lock(&p->lock);
    p->coming = false;
    if (p->first && (p->idle || schi_counted(&p->threads) < p->max)) {
        task = schi_pool_dequeue(p);
        th = schi_pool_call(p, task);
    }
    schi_unlock(&p->lock);
    if (task) (void)schi_pool_send(self, rt, th, task); /* we live: the job stays queued */
}

static void schi_job_run(schi_thread *th, sch_task *task) {
    sch_runtime *rt = th->rt;
    SCHI_STATE state = schi_load_acq(&task->state); /* acq: pairs with cancel */
    if (state & SCHI_CANCELLED) { /* before it ran */
        schi_task_end(th, task, SCHI_DROPPED);
        return;
    }
    task->on.thread = th;
    schi_set_current(th, task);
    memset(&th->frame, 0, sizeof th->frame);
    schi_see_begin(th, rt, task);
    schi_task_fn(task)(task->arg);
    if (SCHI_UNLIKELY(!schi_self())) schi_child_end();
    schi_see_end(th, rt, task, SCHI_END_OVER);
    SCHI_USAGE(th->frame.shields == 0);
    schi_set_current(th, NULL);
    schi_task_end(th, task, 0);
}

/* Shall this thread, which is about to be listed, spin before it sleeps? Under the lock. */
static bool schi_pool_spins(schi_pool *p) {
    if (!p->may_spin || p->spinning) return false;
    if (p->spin_wait > 0) {
        p->spin_wait--;
        return false;
    }
    return true;
}

/* It did, and got a job or did not. Under the lock. */
static void schi_pool_spun(schi_pool *p, bool paid) {
    p->spinning = false;
    schi_count(&p->spins, 1);
    if (paid) schi_count(&p->spin_hits, 1);
    p->spin_pause = paid ? 0 : p->spin_pause < 32 ? (uint8_t)(2 * p->spin_pause + 1) : 63;
    p->spin_wait = p->spin_pause;
}

/* Wait for a job, which is in th->job then. false: none came, it shall end. Under the lock,
 * which is let go meanwhile. */
static bool schi_pool_rest(schi_thread *th) {
    sch_runtime *rt = th->rt;
    schi_pool *p = &rt->pool;
    bool spins = schi_pool_spins(p), paid, woken;
    schi_pool_list(p, th);
    p->spinning |= spins;
    schi_unlock(&p->lock);
    if (SCHI_UNLIKELY(rt->config.paused_clock)) {
        schi_lock(&rt->idle.lock);
        schi_clock_may_jump(rt);
        schi_unlock(&rt->idle.lock);
    }
    if (spins) {
        paid = schi_parker_spin(&th->sleeper.parker, SCH_POOL_SPIN_NS);
        schi_lock(&p->lock);
        schi_pool_spun(p, paid);
        schi_unlock(&p->lock);
    }
    woken = schi_park(&th->sleeper.parker,
                      schi_saturating_add(schi_now_ns(), rt->config.keep_alive_ns));
    schi_lock(&p->lock);
    if (th->idle) { /* nobody gave us a job */
        schi_pool_unlist(p, th);
        return woken && !p->closed;
    }
    if (!woken) { /* its unpark is on the way */
        schi_unlock(&p->lock);
        (void)schi_park(&th->sleeper.parker, UINT64_MAX);
        schi_lock(&p->lock);
    }
    return true;
}

/* The next job of a thread of the pool; NULL: it shall end, and is no longer counted. */
static sch_task *schi_pool_next(schi_thread *th) {
    schi_pool *p = &th->rt->pool;
    sch_task *task = th->job;
    th->job = NULL;
    while (!task) {
        schi_lock(&p->lock);
        if (p->first) {
            task = schi_pool_dequeue(p);
            schi_unlock(&p->lock);
            return task;
        }
        if (p->closed || !schi_pool_rest(th)) {
            p->live--;
            schi_count(&p->threads, (uint64_t)-1);
            schi_unlock(&p->lock);
            return NULL;
        }
        task = th->job;
        th->job = NULL;
        schi_unlock(&p->lock);
    }
    schi_pool_arrive(th);
    return task;
}

static void *schi_blocking_main(void *thread) {
    schi_thread *th = (schi_thread *)thread;
    sch_runtime *rt = th->rt;
    sch_task *task;
    schi_lock(&rt->pool.lock);
    rt->pool.starting--; /* said by the thread itself: what is live and not starting really runs */
    schi_unlock(&rt->pool.lock);
    schi_thread_enter(th);
    schi_thread_set_name(th);
    schi_hook_thread(th, rt->config.hooks.on_thread_start);
    while ((task = schi_pool_next(th)) != NULL) schi_job_run(th, task);
    schi_hook_thread(th, rt->config.hooks.on_thread_stop);
    schi_thread_exit(th);
    return NULL;
}

/* Have a job run. 0; -EAGAIN: there is no thread and none can be made, the job is still ours. */
static int schi_pool_submit(schi_thread *self, sch_runtime *rt, sch_task *task) {
    schi_pool *p = &rt->pool;
    schi_thread *th;
    schi_lock(&p->lock);
    if (p->coming || (!p->idle && schi_counted(&p->threads) >= p->max)) {
        schi_pool_enqueue(p, task); /* whoever is coming calls a thread for it, or is refused */
        schi_unlock(&p->lock);
        return 0;
    }
    th = schi_pool_call(p, task);
    schi_unlock(&p->lock);
    return schi_pool_send(self, rt, th, task);
}

/* No task lives: everybody goes. */
static void schi_pool_close(schi_pool *p) {
    schi_lock(&p->lock);
    p->closed = true;
    for (schi_thread *th = p->idle; th; th = th->idle_next) schi_unpark(&th->sleeper.parker, NULL);
    schi_unlock(&p->lock);
}

/*==================================================================================================
 * MARK: - [13] Runtime, shutdown (private)
 *   Making a runtime, visiting it, ending it.
 *   Uses [11] [12].  Used by [18].  Tests: tests/unit/threads.c, tests/unit/shutdown.c
 *
 *   Shutdown.  (1) closing is set and everybody woken. (2) Each core's holder, once it sees
 *   closing, closes the core - it spawns no more - and cancels every task in the core's slabs; idle
 *   and lent cores are claimed for that by those who would go to sleep; the shared slabs are closed
 *   by the caller under their lock. Tasks then run to their end as ever. (3) `live` counts down to
 *   0 and whoever ends the last task lets all threads go. live starts at SCHI_NOT_IN for each core
 *   and the shared slabs; closing one adds its own balance (spawned - ended there) and takes
 *   SCHI_NOT_IN away, and from then on each end there counts 1 down. A task may end on another core
 *   than it was spawned on: the balances add up over all. So live is 0 exactly when all are closed
 *   and no task lives, and only once.
 *================================================================================================*/

/* Cancel every task of a heap. */
static void schi_heap_cancel_all(schi_thread *th, schi_heap *heap) {
    if (!heap) return;
    for (schi_slab *s = schi_load_acq(&heap->slabs); s; s = s->next) { /* acq: pairs with grow */
        uint32_t used = schi_load_acq(&s->used);                      /* acq: pairs with alloc */
        for (uint32_t i = 0; i < used; i++) {
            sch_task *task = schi_slab_block(s, i);
            /* acq: pairs with spawn's store. No reference: what ends meanwhile is left alone, and
             * what is ours to queue cannot. */
            if (schi_task_refs(schi_load_acq(&task->state)) == 0) continue;
            if (schi_task_cancel(task, true) == 1) schi_schedule(th, task);
        }
    }
}

/* Nobody will serve the descriptors and the timers any more: plain threads that wait for them, and
 * tasks of other runtimes, shall not do so for ever. */
static void schi_stop_serving(sch_runtime *rt) {
    schi_driver *d = &rt->driver;
    schi_expired due;
    uint32_t n;
    schi_store_seq(&d->stopped, 1u);
    schi_lock(&d->lock);
    n = d->num_records;
    schi_unlock(&d->lock);
    for (uint32_t i = 0; i < n;) {
        schi_io *io = schi_io_at(d, i);
        due.num = 0;
        schi_spin_lock(&io->lock);
        if (schi_io_take(io, SCHI_IO_BITS, true, &due)) i++;
        schi_spin_unlock(&io->lock);
        schi_grant_expired(schi_self(), &due);
    }
    if (rt->config.paused_clock) schi_store_seq(&rt->paused_at, SCH_FOREVER); /* time is over */
    for (unsigned i = 0; i < rt->num_cores && rt->config.paused_clock;) {
        due.num = 0;
        (void)schi_wheel_collect(&rt->cores[i]->wheel, NULL, SCH_FOREVER, &due); /* never kept */
        if (due.num < SCHI_EXPIRE_BATCH) i++;
        schi_grant_expired(schi_self(), &due);
    }
}

/* No task lives and everything is closed: let everybody go. */
static void schi_finish(sch_runtime *rt) {
    schi_idle *d = &rt->idle;
    bool alone;
    schi_inject_close(&rt->inject);
    schi_pool_close(&rt->pool);
    schi_stop_serving(rt);
    schi_lock(&d->lock);
    rt->finished = true;
    alone = rt->num_threads == 0;
    for (schi_sleeper *s = d->sleepers; s; s = s->next) schi_unpark_sleeper(rt, s);
    for (int i = SCHI_WATCH; i < SCHI_SEATS; i++) {
        if (d->seated[i]) schi_unpark_sleeper(rt, d->seated[i]);
    }
    if (alone) schi_event_set(&rt->done);
    schi_unlock(&d->lock);
}

static void schi_live_sub(sch_runtime *rt, int64_t n) {
    if (schi_sub_seq(&rt->live, n) == n) schi_finish(rt);
}

static void schi_core_close(schi_thread *th) {
    schi_core *core = th->core;
    core->closed = true;
    for (int i = 0; i < SCHI_HEAP_CLASSES; i++) {
        schi_heap_cancel_all(th, schi_load_rlx(&core->heaps[i])); /* rlx: we own the core */
    }
    schi_live_sub(th->rt, SCHI_NOT_IN + (int64_t)schi_counted(&core->m.ended) -
                              (int64_t)schi_core_spawned(core));
}

/* Begin; later calls do nothing. */
static void schi_shutdown_begin(schi_thread *th, sch_runtime *rt) {
    int64_t balance;
    if (schi_xchg_seq(&rt->closing, 1u)) return;
    schi_lock(&rt->shared_lock);
    rt->shared_closed = true;
    balance = (int64_t)schi_counted(&rt->shared_spawned) - (int64_t)schi_counted(&rt->shared_ended);
    schi_unlock(&rt->shared_lock);
    for (int i = 0; i < SCHI_HEAP_CLASSES; i++) schi_heap_cancel_all(th, rt->shared_heaps[i]);
    schi_live_sub(rt, SCHI_NOT_IN - balance);
    /* Cores that are left over are claimed by those who would lie down again. */
    for (unsigned i = 0; i < rt->num_cores && schi_wake_one(rt, false, false); i++) continue;
}

/* Is the caller a task, job or hook of this runtime, maybe with visits elsewhere in between? */
static bool schi_is_inside(schi_thread *th, sch_runtime *rt) {
    for (; th; th = th->outer) {
        if (th->rt == rt && (schi_current(th) || th->no_wait > 0)) return true;
    }
    return false;
}

/* Is the caller in a visit to this runtime, or one of its threads? */
static bool schi_is_within(schi_thread *th, sch_runtime *rt) {
    while (th && th->rt != rt) th = th->outer;
    return th != NULL;
}

/* A visit: the calling thread gets a record for the time of a call. */
static int schi_visit_begin(schi_thread *th, sch_runtime *rt) {
    int error;
    memset(th, 0, sizeof *th);
    th->rt = rt;
    th->kind = SCHI_VISITOR;
    error = schi_parker_init(&th->sleeper.parker);
    if (error) return error;
    schi_lock(&rt->idle.lock);
    error = schi_thread_number(th);
    schi_unlock(&rt->idle.lock);
    if (error) {
        schi_parker_drop(&th->sleeper.parker);
        return error;
    }
    schi_add_seq(&rt->guests, 1u); /* sch_runtime_free waits for visits */
    schi_thread_enter(th);
    return 0;
}

/* The visit of sch_runtime_free, which must not fail: its record was made with the runtime. */
static schi_thread *schi_last_visit_begin(sch_runtime *rt) {
    schi_thread *th = &rt->last_visitor;
    th->rt = rt;
    th->kind = SCHI_VISITOR;
    schi_lock(&rt->idle.lock);
    if (schi_thread_number(th) != 0) { /* threads[] has one place more for it */
        th->number = rt->max_threads;
        rt->threads[th->number] = th;
        rt->top_thread = rt->max_threads + 1;
    }
    schi_unlock(&rt->idle.lock);
    schi_thread_enter(th);
    return th;
}

static void schi_visit_end(schi_thread *th) {
    schi_thread_leave(th);
    schi_lock(&th->rt->idle.lock);
    th->rt->threads[th->number] = NULL;
    schi_unlock(&th->rt->idle.lock);
    schi_parker_drop(&th->sleeper.parker);
    schi_sub_seq(&th->rt->guests, 1u);
}

/* A visitor of a SCH_CURRENT_THREAD runtime runs its tasks until the waiter is done. */
static void schi_drive(schi_thread *th, schi_waiter *w) {
    for (;;) {
        bool done;
        schi_home(th, w);
        schi_lock(&th->rt->idle.lock); /* the granter has left this lock */
        done = w->done || (w->deadline != UINT64_MAX && schi_now_ns() >= w->deadline);
        schi_unlock(&th->rt->idle.lock);
        if (done) return;
        (void)schi_park(&th->sleeper.parker,
                        w->deadline); /* the runtime is over, the waiter is not */
    }
}

/* Wait for a task's end on a thread that is no task. */
static int schi_join_as_thread(schi_thread *th, sch_task *task) {
    sch_runtime *rt = schi_task_runtime(task); /* may be gone, but for a driven one */
    schi_thread visitor;
    schi_waiter w;
    int error = 0;
    memset(&w, 0, sizeof w);
    w.deadline = UINT64_MAX;
    visitor.rt = NULL;
    if (schi_slab_of(task)->driven && !(th && th->kind == SCHI_VISITOR && th->rt == rt)) {
        error = schi_visit_begin(&visitor, rt);
        th = &visitor;
    }
    if (!error && th && th->kind == SCHI_VISITOR && th->rt->config.flavor == SCH_CURRENT_THREAD) {
        w.driver = th;
        schi_wr(&task->joiner, &w);
        if (schi_task_join_wait(task)) schi_drive(th, &w);
    } else if (!error) {
        error = schi_parker_init(&w.parker);
        if (!error) {
            schi_wr(&task->joiner, &w);
            if (schi_task_join_wait(task)) {
                while (!schi_park(&w.parker, UINT64_MAX)) continue;
            }
            schi_parker_drop(&w.parker);
        }
    }
    if (visitor.rt && th == &visitor && !error) schi_visit_end(&visitor);
    if (error && !schi_task_join_cancel(task)) error = 0; /* it has ended by itself */
    return error ? -EAGAIN : 0; /* -ENOMEM would say that the task had no stack */
}

/* Configuration ---------------------------------------------------------------------------------*/

static const char *schi_config_bad(const sch_config *c) {
    if (c->canary_begin != 0) return "canary_begin";
    if (c->canary_end != 0) return "canary_end";
    if (c->flavor != SCH_MULTI_THREAD && c->flavor != SCH_CURRENT_THREAD) return "flavor";
    if (c->workers > SCH_MAX_WORKERS) return "workers";
    if (c->flavor == SCH_CURRENT_THREAD && c->workers > 1) return "workers";
    if (c->max_blocking_threads > 65535) return "max_blocking_threads";
    if (c->stack_size && (c->stack_size < SCHI_STACK_MIN || c->stack_size > SCHI_STACK_MAX)) {
        return "stack_size";
    }
    if (c->global_queue_interval > 65535) return "global_queue_interval";
    if (c->event_interval > 65535) return "event_interval";
    if (!c->allocator.alloc != !c->allocator.free) return "allocator";
    if (!c->allocator.map_pages != !c->allocator.unmap_pages) return "allocator";
    if (c->num_cpus > 0 && !c->cpus) return "cpus";
    if (c->cpus && (c->num_cpus == 0 || c->num_cpus > 65535)) return "num_cpus";
    if (c->standby_period_ns &&
        (c->standby_period_ns < 100 * SCH_MICROSECOND || c->standby_period_ns > 10 * SCH_SECOND)) {
        return "standby_period_ns";
    }
    if (c->histogram_bits > 6) return "histogram_bits";
    if (c->trace_events > (size_t)1 << 26) return "trace_events";
    if (c->stall_ns && (c->stall_ns < SCH_MILLISECOND || c->stall_ns > 3600 * SCH_SECOND)) {
        return "stall_ns";
    }
    if (!c->stall_ns != !c->on_stall) return "on_stall";
    if (!c->dump_signal != !c->dump_write) return "dump_write";
    if (c->dump_signal < 0 || c->dump_signal > 64) return "dump_signal";
    if (c->stack_signal < 0 || c->stack_signal > 64 ||
        (c->stack_signal && (!c->stall_ns || c->stack_signal == c->dump_signal))) {
        return "stack_signal";
    }
    if (c->thread_stack_size &&
        (c->thread_stack_size < 65536 || c->thread_stack_size > SCHI_STACK_MAX)) {
        return "thread_stack_size";
    }
    return NULL;
}

/* Zeros into values. The cpus are copied apart. */
static void schi_config_defaults(sch_config *c) {
    if (c->workers == 0) c->workers = c->flavor == SCH_CURRENT_THREAD ? 1 : schi_cpu_count();
    if (c->workers > SCH_MAX_WORKERS) c->workers = SCH_MAX_WORKERS;
    if (c->max_blocking_threads == 0) c->max_blocking_threads = SCH_MAX_BLOCKING;
    if (c->keep_alive_ns == 0) c->keep_alive_ns = SCH_KEEP_ALIVE_NS;
    if (c->stack_size == 0) c->stack_size = SCH_STACK_SIZE;
    if (c->seed == 0) c->seed = schi_entropy();
    if (!c->thread_name) c->thread_name = "sch";
    if (!c->allocator.alloc) {
        c->allocator.alloc = schi_libc_alloc;
        c->allocator.free = schi_libc_free;
        if (!c->allocator.map_pages) {
            c->allocator.map_pages = schi_map_pages;
            c->allocator.unmap_pages = schi_unmap_pages;
        }
    }
    if (c->standby_period_ns == 0) c->standby_period_ns = SCH_STANDBY_NS;
    if (c->thread_stack_size == 0) c->thread_stack_size = SCH_THREAD_STACK_SIZE;
    if (c->histogram_bits == 0) c->histogram_bits = 3;
    if (c->trace_events == 0) c->trace_events = 16384;
}

static void schi_config_drop(sch_config *c) {
    const sch_allocator a = c->allocator;
    schi_free(&a, (void *)(uintptr_t)c->cpus, c->num_cpus * sizeof *c->cpus, sizeof *c->cpus);
    schi_free(&a, (void *)(uintptr_t)c->thread_name, strlen(c->thread_name) + 1, 1);
}

/* A private copy of what the configuration points to; undone by schi_config_drop. */
static int schi_config_copy(sch_config *c) {
    const unsigned *cpus = c->cpus;
    unsigned *copy;
    size_t length = strlen(c->thread_name) + 1, n = cpus ? c->num_cpus : 0;
    char *name = (char *)schi_alloc(&c->allocator, length, 1);
    c->cpus = NULL;
    c->num_cpus = 0;
    if (!name) return -ENOMEM;
    memcpy(name, c->thread_name, length);
    c->thread_name = name;
    if (!c->pin_workers) return 0;
    if (!cpus) n = schi_cpu_list(NULL, 0);
    if (n == 0) n = 1;
    copy = (unsigned *)schi_alloc_zeroed(&c->allocator, n * sizeof *copy, sizeof *copy);
    if (!copy) {
        schi_config_drop(c);
        return -ENOMEM;
    }
    if (cpus) {
        memcpy(copy, cpus, n * sizeof *copy);
    } else {
        (void)schi_cpu_list(copy, n);
    }
    c->cpus = copy;
    c->num_cpus = n;
    return 0;
}

/* Making and freeing ----------------------------------------------------------------------------*/

static void schi_core_histograms_drop(sch_runtime *rt, schi_core *core) {
    for (int i = 0; i < SCH_HISTOGRAMS; i++) {
        schi_histogram_drop(&core->histograms[i], &rt->config.allocator, rt->histogram_len);
    }
}

static schi_core *schi_core_new(sch_runtime *rt, unsigned index) {
    schi_core *core =
        (schi_core *)schi_alloc_zeroed(&rt->config.allocator, sizeof *core, SCH_CACHELINE);
    if (!core) return NULL;
    for (int i = 0; i < SCH_HISTOGRAMS && rt->config.task_times; i++) {
        if (!schi_histogram_init(&core->histograms[i], &rt->config.allocator, rt->histogram_len)) {
            schi_core_histograms_drop(rt, core);
            schi_free(&rt->config.allocator, core, sizeof *core, SCH_CACHELINE);
            return NULL;
        }
    }
    core->rt = rt;
    core->index = index;
    core->last_id = core->last_id_seen = index + 1;
    core->event_interval = core->ticks_left = schi_event_interval(rt, SCH_WAKE_COST_NS);
    core->inject_interval =
        rt->config.global_queue_interval ? rt->config.global_queue_interval : 61;
    core->inject_left = core->inject_interval;
    core->countdown = 1;
    schi_core_settle(core);
    core->last_sample_ns = UINT64_MAX;
    core->mean_poll_ns = SCH_WAKE_COST_NS; /* until it is known, a task is worth a wake */
    schi_store_rlx(&core->wake_len, 1u);   /* rlx: published with the runtime */
    schi_rng_init(&core->rng,
                  schi_mix(schi_add_rlx(&rt->seeds, UINT64_C(1)))); /* rlx: one thread yet */
    schi_runq_init(&core->q, 0);
    schi_wheel_init(&core->wheel, schi_clock(rt));
    schi_count(&core->m.park_unparks, 1); /* parked, until a worker takes it */
    schi_store_rlx(&core->m.thread, UINT64_MAX); /* rlx: published with the runtime */
    return core;
}

static void schi_core_free(schi_core *core) {
    sch_runtime *rt = core->rt;
    schi_stack *s;
    while ((s = schi_stack_cached(core)) != NULL) schi_stack_pool_put(&rt->stacks, s);
    for (int i = 0; i < SCHI_HEAP_CLASSES; i++) {
        schi_heap *heap = schi_load_acq(&core->heaps[i]); /* acq: its last owner is joined */
        if (heap) schi_heap_orphan(heap);
    }
    schi_core_histograms_drop(rt, core);
    /* acq: pairs with start of a trace */
    schi_trace_free(schi_load_acq(&core->trace), &rt->config.allocator);
    schi_free(&rt->config.allocator, core, sizeof *core, SCH_CACHELINE);
}

/* Free the first n seats. */
static void schi_seats_drop(sch_runtime *rt, int n) {
    while (--n >= SCHI_WATCH) {
        if (schi_has_alarms(rt) || (n == SCHI_WATCH && schi_load_seq(&rt->driver.on))) {
            schi_alarm_drop(&rt->seats[n].alarm);
        }
        schi_parker_drop(&rt->seats[n].parker);
    }
}

static int schi_seats_init(sch_runtime *rt) {
    for (int i = SCHI_WATCH; i < SCHI_SEATS; i++) {
        int error = schi_parker_init(&rt->seats[i].parker);
        if (!error && schi_has_alarms(rt)) {
            error = schi_alarm_init(&rt->seats[i].alarm);
            if (error) schi_parker_drop(&rt->seats[i].parker);
        }
        if (error) {
            schi_seats_drop(rt, i);
            return error;
        }
    }
    return 0;
}

#define SCHI_MADE 13 /* the last stage of schi_runtime_make */

/* Free what schi_runtime_make made, also half of it. No thread is left. */
static void schi_runtime_unmake(sch_runtime *rt, int stage) {
    sch_config c = rt->config;
    const sch_allocator *a = &c.allocator;
    for (unsigned i = 0; rt->cores && i < rt->made_cores; i++) schi_core_free(rt->cores[i]);
    for (int i = 0; i < SCHI_HEAP_CLASSES; i++) {
        if (rt->shared_heaps[i]) schi_heap_orphan(rt->shared_heaps[i]);
    }
    switch (stage) { /* in reverse, from where it got to */
    case SCHI_MADE: schi_parker_drop(&rt->last_visitor.sleeper.parker); /* fallthrough */
    case 12: schi_mutex_drop(&rt->control); /* fallthrough */
    case 11: schi_event_drop(&rt->done); /* fallthrough */
    case 10: schi_event_drop(&rt->started); /* fallthrough */
    case 9: schi_event_drop(&rt->start); /* fallthrough */
    case 8: schi_mutex_drop(&rt->shared_lock); /* fallthrough */
    case 7: schi_mutex_drop(&rt->pool.lock); /* fallthrough */
    case 6: schi_stack_pool_drop(&rt->stacks); /* fallthrough */
    case 5: schi_seats_drop(rt, SCHI_SEATS); /* fallthrough */
    case 4: schi_driver_drop(&rt->driver, a); /* fallthrough */
    case 3: schi_inject_drop(&rt->inject); /* fallthrough */
    case 2: schi_idle_drop(&rt->idle); /* fallthrough */
    default: break;
    }
    schi_trace_free(schi_load_acq(&rt->trace), a); /* acq: as for cores */
    schi_free(a, rt->looks, c.workers * sizeof *rt->looks, sizeof(uint64_t));
    schi_free(a, rt->threads, (rt->max_threads + 1) * sizeof *rt->threads, sizeof(void *));
    schi_free(a, rt->idle.lent, c.workers * sizeof *rt->idle.lent, SCH_CACHELINE);
    schi_free(a, rt->cores, c.workers * sizeof *rt->cores, sizeof(void *));
    rt->magic = 0;
    schi_free(a, rt, sizeof *rt, SCH_CACHELINE);
    schi_config_drop(&c);
}

/* Everything but the threads. The record is zeroed and has its resolved configuration. */
static int schi_runtime_make(sch_runtime *rt, int *stage) {
    const sch_allocator *a = &rt->config.allocator;
    unsigned n = rt->config.workers;
    int error;
    *stage = 1;
    schi_store_rlx(&rt->paused_at, schi_now_ns()); /* rlx: one thread yet */
    rt->histogram_len = schi_histogram_buckets(rt->config.histogram_bits);
    schi_store_rlx(&rt->seen, schi_seen_by_config(&rt->config)); /* rlx: one thread yet */
    if ((error = schi_fork_watch(schi_is_own_thread)) != 0) return error;
    rt->max_threads = 2 * n + 2 * rt->config.max_blocking_threads + 64; /* 64 visitors at once */
    rt->cores = (schi_core **)schi_alloc_zeroed(a, n * sizeof *rt->cores, sizeof(void *));
    rt->idle.lent = (schi_loan *)schi_alloc_zeroed(a, n * sizeof *rt->idle.lent, SCH_CACHELINE);
    rt->threads = (schi_thread **)schi_alloc_zeroed(
        a, (rt->max_threads + 1) * sizeof *rt->threads, sizeof(void *)); /* and the last visitor */
    rt->looks = (schi_look *)schi_alloc_zeroed(a, n * sizeof *rt->looks, sizeof(uint64_t));
    if (!rt->cores || !rt->idle.lent || !rt->threads || !rt->looks) return -ENOMEM;
    schi_store_rlx(&rt->seeds, rt->config.seed); /* rlx: one thread yet */
    if ((error = schi_idle_init(&rt->idle, rt->idle.lent)) != 0) return error;
    *stage = 2;
    if ((error = schi_inject_init(&rt->inject)) != 0) return error;
    *stage = 3;
    if ((error = schi_mutex_init(&rt->driver.lock)) != 0) return error;
    *stage = 4;
    if ((error = schi_seats_init(rt)) != 0) return error;
    *stage = 5;
    if ((error = schi_stack_pool_init(&rt->stacks, a, rt->config.stack_size)) != 0) return error;
    *stage = 6;
    if ((error = schi_pool_init(&rt->pool, rt->config.max_blocking_threads)) != 0) return error;
    *stage = 7;
    if ((error = schi_mutex_init(&rt->shared_lock)) != 0) return error;
    *stage = 8;
    if ((error = schi_event_init(&rt->start)) != 0) return error;
    *stage = 9;
    if ((error = schi_event_init(&rt->started)) != 0) return error;
    *stage = 10;
    if ((error = schi_event_init(&rt->done)) != 0) return error;
    *stage = 11;
    if ((error = schi_mutex_init(&rt->control)) != 0) return error;
    *stage = 12;
    if ((error = schi_parker_init(&rt->last_visitor.sleeper.parker)) != 0) return error;
    *stage = SCHI_MADE;
    for (; rt->made_cores < n; rt->made_cores++) {
        rt->cores[rt->made_cores] = schi_core_new(rt, rt->made_cores);
        if (!rt->cores[rt->made_cores]) return -ENOMEM;
    }
    return 0;
}

/* Join what is left after `done`. Several may call. */
static void schi_runtime_join(sch_runtime *rt) {
    schi_lock(&rt->control);
    if (!rt->joined && rt->has_exited) schi_thread_join(rt->last_exited);
    rt->joined = true;
    schi_unlock(&rt->control);
}

/* Start the workers; with fewer threads than asked, fewer cores. */
static int schi_runtime_start(sch_runtime *rt) {
    int error = 0;
    unsigned n = rt->config.workers;
    if (rt->config.flavor == SCH_MULTI_THREAD) {
        if (schi_barrier_open()) { /* before there are threads: it takes less long */
            for (unsigned i = 0; i < n && !rt->config.paused_clock; i++) {
                schi_biased_may_keep(&rt->cores[i]->wheel.lock);
            }
            /* rlx: a hint. Nobody could steal without a standby. */
            if (n > 1 && !rt->config.no_standby) schi_store_rlx(&rt->has_barrier, 1u);
        }
        for (rt->num_workers = 0; rt->num_workers < n; rt->num_workers++) {
            error = schi_thread_new(rt, SCHI_WORKER, NULL, schi_worker_main);
            if (error) break;
        }
        n = rt->num_workers;
    }
    rt->num_cores = n;
    schi_store_seq(&rt->live, SCHI_NOT_IN * ((int64_t)n + 1));
    if (n == 0) return error;
    schi_idle_set_cores(&rt->idle, n, !rt->config.no_standby);
    if (n == 1) {
        rt->cores[0]->alone = true;
        schi_store_rlx(&rt->cores[0]->wake_len, UINT32_MAX); /* rlx: published by start */
    }
    schi_event_set(&rt->start);
    if (rt->config.flavor == SCH_MULTI_THREAD) schi_event_wait(&rt->started, UINT64_MAX);
    return 0;
}

/* sch_yield_now outside of a task: for SCH_CURRENT_THREAD a turn of its tasks. */
static void schi_visitor_yield(schi_thread *th) {
    unsigned core;
    if (th->kind != SCHI_VISITOR || th->rt->config.flavor != SCH_CURRENT_THREAD) {
        schi_os_yield();
        return;
    }
    schi_lock(&th->rt->idle.lock);
    core = schi_idle_acquire(&th->rt->idle, true);
    schi_unlock(&th->rt->idle.lock);
    if (core == SCHI_NO_CORE) return; /* another visitor runs them */
    schi_core_taken(th, th->rt->cores[core], true);
    (void)schi_turn(th);
    schi_core_give_up(th);
}

/* Ask the driver, and silence the watch's alarm, so that the foreign loop's descriptor is quiet.
 * Not if somebody has the watch, whom that alarm is to wake; who takes the watch meanwhile, and is
 * rung before we have read that, says so (seq_cst) before he can be rung: ring again. */
static void schi_run_driver(schi_thread *th) {
    sch_runtime *rt = th->rt;
    schi_alarm *alarm = &rt->seats[SCHI_WATCH].alarm;
    if (schi_load_seq(&rt->idle.watched)) {
        schi_io_poll_driver(th, NULL);
        return;
    }
    schi_io_poll_driver(th, alarm);
    if (schi_load_seq(&rt->idle.watched)) schi_alarm_set(alarm, 0);
}

/* Turns of a SCH_CURRENT_THREAD runtime's tasks, until the time or while there is work. Is there
 * more? */
static int schi_run_slice(schi_thread *th, uint64_t until) {
    sch_runtime *rt = th->rt;
    schi_core *core;
    unsigned index;
    uint64_t next;
    bool more;
    schi_lock(&rt->idle.lock);
    index = schi_idle_acquire(&rt->idle, false);
    schi_unlock(&rt->idle.lock);
    if (index == SCHI_NO_CORE) return -EBUSY;
    core = rt->cores[index];
    schi_core_taken(th, core, false);
    if (schi_load_seq(&rt->ring)) schi_store_seq(&rt->ring, 1u);
    if (schi_load_seq(&rt->driver.on)) schi_run_driver(th);
    schi_timers_serve(th);
    do {
        schi_core_settle(core);
        core->ticks_left = 1; /* back after each task */
        schi_core_settle(core);
        more = schi_turn(th);
    } while (more && schi_now_ns() < until);
    more = !schi_core_is_empty(core) || core->next;
    if (!more && SCHI_UNLIKELY(rt->config.paused_clock) && schi_load_seq(&rt->driver.on)) {
        schi_run_driver(th); /* the clock must not jump past what is ready by now */
        more = !schi_core_is_empty(core);
    }
    schi_core_give_up(th);
    more = more || !schi_inject_is_empty(&rt->inject);
    next = schi_timers_next(rt);
    if (!more && SCHI_UNLIKELY(rt->config.paused_clock) && next != SCH_FOREVER) {
        schi_lock(&rt->idle.lock); /* as in schi_watch_prepare; a borrowed task comes back soon */
        if (schi_load_seq(&rt->walking) != SCHI_WALK_BORROWS && schi_inject_is_empty(&rt->inject) &&
            next > schi_clock(rt)) {
            schi_store_seq(&rt->paused_at, next); /* the clock jumps */
        }
        schi_unlock(&rt->idle.lock);
        more = true;
    }
    return more;
}

/* Shut down -------------------------------------------------------------------------------------*/

static int schi_shutdown(schi_thread *th, sch_runtime *rt, uint64_t timeout, bool last) {
    uint64_t deadline = schi_saturating_add(schi_now_ns(), timeout);
    schi_shutdown_begin(th, rt);
    if (schi_is_inside(th, rt) || (th && th->no_wait > 0)) return -EINPROGRESS;
    if (rt->config.flavor == SCH_CURRENT_THREAD && !schi_event_is_set(&rt->done)) {
        schi_thread visitor;
        schi_waiter w;
        bool guest = !(th && th->kind == SCHI_VISITOR && th->rt == rt);
        memset(&w, 0, sizeof w);
        w.deadline = deadline;
        if (guest && last) {
            th = schi_last_visit_begin(rt);
        } else if (guest) {
            int error = schi_visit_begin(&visitor, rt);
            if (error) return error;
            th = &visitor;
        }
        schi_home(th, &w);
        if (guest && last) {
            schi_thread_leave(th);
        } else if (guest) {
            schi_visit_end(&visitor);
        }
    }
    if (!schi_event_wait(&rt->done, deadline)) return -ETIMEDOUT;
    schi_runtime_join(rt);
    return 0;
}

/*==================================================================================================
 * MARK: - [14] Operations (private)
 *   One way to wait for all that will be ready.
 *   Uses [8] [11] [13].  Used by [18].  Tests: tests/unit/ops.c, tests/model/waiting.c
 *================================================================================================*/

/* Operations.
 *   State       of an operation: IDLE -> PENDING when it is polled -> DONE or RETRY by completion,
 *               or IDLE again when it is removed. LISTEN: the waiter waits for this completion.
 *   Waiter      a record in the frame that waits (schi_waiter). Who completes claims it *before*
 *               its operation becomes DONE: until then the waiter cannot leave. Who claims it
 *               grants it, after that, and touches neither afterwards.
 *   Leaving     the waiter revokes every operation that is pending. Unless all are removed somebody
 *               may have claimed it, and it waits for that grant; or it claims itself. An operation
 *               that is pending even then is BUSY, about to become DONE: with LISTEN set it grants
 *               once more. Who waits for one operation alone is granted by it if it cannot be
 *               removed: nobody need claim.
 *   So each grant is waited for exactly once, no operation is known to anybody once the wait has
 *   returned, and a result that came is in op->result.
 *   Poll tasks have no frame: a completion takes the task if it waits, so that it cannot end before
 *   it is queued; one that runs it wakes, holding a reference. The task's pending
 *   operations are linked from task->arg, so that they can be revoked when it is dropped.
 */
/* It happened. The operation may be gone at once after its state is set. */
static void schi_op_finish(sch_op *op, uint32_t state) {
    schi_thread *th = schi_self();
    if (op->in_poll_task) {
        sch_task *task = (sch_task *)op->waiter;
        bool ours = schi_poll_task_claim(task);
        schi_store_rel(schi_op_state(op), state); /* rel: pairs with acq in get */
        if (SCHI_LIKELY(ours)) {
            schi_schedule(th, task);
            return;
        }
        schi_wake(th, task);
        schi_task_release(th ? th->core : NULL, task);
    } else {
        schi_waiter *w = (schi_waiter *)op->waiter;
        bool first = schi_waiter_claim(w), listens = false;
        if (w->alone) {
            schi_store_rel(schi_op_state(op), state); /* rel: pairs with acq in get */
        } else {
            /* acqrel: pairs with acq in get, and with LISTEN. */
            listens = (schi_xchg_acqrel(schi_op_state(op), state) & SCHI_OP_LISTEN) != 0;
        }
        if (first || listens) schi_waiter_grant(th, w);
    }
}

/* Begin an operation. true: it is done. */
static bool schi_op_begin(sch_op *op, void *waiter, bool in_poll_task) {
    op->waiter = waiter;
    op->in_poll_task = in_poll_task;
    schi_store_rel(schi_op_state(op), (uint32_t)SCHI_OP_PENDING); /* rel: poll publishes op */
    if (op->type->poll(op) == SCH_PENDING) return false;
    schi_op_set(op, SCHI_OP_DONE);
    return true;
}

/* Timers ----------------------------------------------------------------------------------------*/

/* Does this waiter's time come by a wheel? A thread's by itself, unless its clock is paused. */
static bool schi_waits_by_wheel(schi_thread *th, const schi_waiter *w) {
    return w->task || (th && th->rt->config.paused_clock);
}

#define SCHI_TIMER_FAR (64u << SCHI_TICK_SHIFT)

/* Has its time come? The clock costs as much as all the rest of arming: it is not asked for a time
 * that was far away when this core last asked it. If it has come all the same, after a very long
 * poll, the timer is armed for the next tick and found due when the wheel is next looked at. */
static bool schi_timer_is_over(schi_thread *th, uint64_t until) {
    schi_core *core = th ? th->core : NULL;
    bool far_away = core && until > schi_saturating_add(core->turn_ns, SCHI_TIMER_FAR);
    if (far_away && !th->rt->config.paused_clock) return false;
    return schi_now_of(th) >= until;
}

static sch_status schi_timer_poll(sch_op *op) {
    sch_timer *timer = (sch_timer *)(void *)op;
    schi_thread *th = schi_self();
    schi_waiter *w = op->in_poll_task ? NULL : (schi_waiter *)op->waiter;
    op->result = 0;
    op->wheel = 0;
    if (schi_timer_is_over(th, timer->until)) return SCH_READY;
    if (timer->until > SCH_FOREVER - ((uint64_t)2 << SCHI_TICK_SHIFT)) return SCH_PENDING;
    if (w && !schi_waits_by_wheel(th, w)) { /* a thread: it wakes by itself and asks again */
        if (timer->until < w->deadline) w->deadline = timer->until;
        return SCH_PENDING;
    }
    schi_timer_arm(th, timer);
    return SCH_PENDING;
}

static sch_op_revoked schi_timer_cancel(sch_op *op) {
    sch_timer *timer = (sch_timer *)(void *)op;
    if (op->wheel == 0 || schi_timer_disarm(schi_self(), timer)) return SCH_OP_REMOVED;
    return SCH_OP_DONE;
}

static const sch_op_type schi_timer_type = {schi_timer_poll, schi_timer_cancel, "timer"};

/* Waiting in a frame ----------------------------------------------------------------------------*/

/* What waits: a task, a plain thread, or a visitor that drives. */
typedef struct schi_await {
    schi_waiter w;
    schi_thread *th;     /* the caller's; a task may have changed it */
    bool waited;         /* it has let others run */
} schi_await;

static SCHI_INLINE int schi_await_init(schi_await *a) {
    int error;
    a->th = schi_self();
    error = schi_may_wait(a->th);
    if (error) return error;
    memset(&a->w, 0, sizeof a->w);
    a->waited = false;
    a->w.deadline = SCH_FOREVER;
    if (schi_in_task(a->th)) {
        a->w.task = schi_current(a->th);
        return 0;
    }
    if (a->th && a->th->kind == SCHI_VISITOR && a->th->rt->config.flavor == SCH_CURRENT_THREAD) {
        a->w.driver = a->th;
        return 0;
    }
    return schi_parker_init(&a->w.parker);
}

static void schi_await_drop(schi_await *a) {
    if (!a->w.task && !a->w.driver) schi_parker_drop(&a->w.parker);
}

/* Wait for a grant as a visitor that drives or as a plain thread; deadline: or a time. */
static SCHI_NOINLINE bool schi_await_grant_thread(schi_await *a, uint64_t deadline) {
    if (a->w.driver) {
        bool done;
        a->w.deadline = deadline;
        schi_drive(a->th, &a->w);
        schi_lock(&a->th->rt->idle.lock);
        done = a->w.done;
        a->w.done = false;
        schi_unlock(&a->th->rt->idle.lock);
        return done;
    }
    while (!schi_park(&a->w.parker, deadline)) {
        if (deadline != SCH_FOREVER && schi_now_ns() >= deadline) return false;
    }
    return true;
}

/* Wait for a grant. cancel: or a cancellation; deadline: or a time (tasks have timers instead).
 * true: granted. */
static inline bool schi_await_grant(schi_await *a, bool cancel, uint64_t deadline) {
    if (SCHI_UNLIKELY(!a->w.task)) return schi_await_grant_thread(a, deadline);
    return schi_wait(&a->th, cancel ? SCHI_WAIT_CANCEL : 0) == SCHI_BY_GRANT;
}

/* What a task is about to wait for. */
static void schi_waits_for_ops(schi_thread *th, sch_op *const *ops, size_t n) {
    bool one = n == 1 && ops[0]->kind != 0;
    schi_waits_for(th, one ? (sch_wait_kind)ops[0]->kind : SCH_WAIT_OPERATION, ops[0]);
    schi_frame_of(th)->many = n > 1;
}

/* What we called of an operation may have blocked, and moved the task; a timer's does not. */
static inline void schi_await_called(schi_await *a, const sch_op *op) {
    if (op->type != &schi_timer_type && a->w.task) a->th = schi_self();
}

/* Some operations were not removed: wait for whoever completes them. */
static void schi_await_settle(schi_await *a, bool settled, sch_op *const *ops, size_t n) {
    if (!settled && (a->w.alone || !schi_waiter_claim(&a->w))) {
        if (a->w.task) schi_waits_for_ops(a->th, ops, n);
        (void)schi_await_grant(a, false, SCH_FOREVER);
    }
    for (size_t i = 0; i < n; i++) {
        if (schi_op_get(ops[i]) != SCHI_OP_PENDING) continue; /* else it is BUSY */
        /* acqrel: pairs with the exchange in finish. */
        if (schi_or_acqrel(schi_op_state(ops[i]), (uint32_t)SCHI_OP_LISTEN) == SCHI_OP_PENDING) {
            if (a->w.task) schi_waits_for_ops(a->th, &ops[i], 1);
            (void)schi_await_grant(a, false, SCH_FOREVER);
        }
        schi_op_set(ops[i], schi_op_get(ops[i]) & ~(uint32_t)SCHI_OP_LISTEN);
    }
}

/* Leave: afterwards nobody knows of a pending operation. settled: the waiter has been granted or
 * claimed. Returns whether it is then: not if each operation was removed before anybody claimed. */
static inline bool schi_await_leave(schi_await *a, bool settled, sch_op *const *ops, size_t n) {
    bool removed = true, busy = false;
    for (size_t i = 0; i < n; i++) {
        sch_op_revoked how = SCH_OP_DONE;
        if (schi_op_get(ops[i]) == SCHI_OP_PENDING) {
            how = ops[i]->type->cancel(ops[i]);
            schi_await_called(a, ops[i]);
            busy |= how != SCH_OP_REMOVED;
        }
        if (how == SCH_OP_REMOVED) {
            schi_op_set(ops[i], SCHI_OP_IDLE);
        } else {
            removed = false;
        }
    }
    if (removed) return settled;
    if (busy || !settled) schi_await_settle(a, settled, ops, n);
    return true;
}

/* The first operation that is done, n: none. */
static SCHI_INLINE size_t schi_ops_done(sch_op *const *ops, size_t n) {
    size_t i = 0;
    while (i < n && schi_op_get(ops[i]) != SCHI_OP_DONE) i++;
    return i;
}

/* One round: begin all, wait, leave. Returns the first that is done, n: none, poll them again; or
 * why not. limit: a task's timer for the deadline, NULL: none. */
static SCHI_INLINE int schi_await_round(schi_await *a, sch_op *const *ops, size_t n,
                                        uint64_t deadline, sch_op *limit) {
    bool granted = false, over = deadline == 0, cancelled;
    size_t first;
    schi_store_rlx(&a->w.claimed, 0u); /* rlx: nobody knows us */
    a->w.deadline = limit ? SCH_FOREVER : deadline;
    for (size_t i = 0; i < n; i++) {
        bool done = schi_op_begin(ops[i], &a->w, false);
        schi_await_called(a, ops[i]);
        if (!done) continue;
        for (size_t j = i + 1; j < n; j++) schi_op_set(ops[j], SCHI_OP_IDLE); /* not even begun */
        /* Before the first nobody knows the waiter; or each is removed, and none is done. */
        if (i == 0 || !schi_await_leave(a, false, ops, i)) return (int)i;
        return (int)schi_ops_done(ops, n);
    }
    cancelled = schi_is_cancelled(a->th);
    if (limit && !cancelled) over = schi_op_begin(limit, &a->w, false);
    if (!cancelled && !over) {
        if (a->w.task) schi_waits_for_ops(a->th, ops, n);
        a->waited = true;
        granted = schi_await_grant(a, true, a->w.deadline);
        if (!granted && a->w.task) cancelled = true;
    }
    granted = schi_await_leave(a, granted, ops, n);
    if (limit) (void)schi_await_leave(a, granted, &limit, 1);
    first = schi_ops_done(ops, n);
    if (first < n) return (int)first;
    if (cancelled) return -ECANCELED;
    if (over || (limit && schi_op_get(limit) == SCHI_OP_DONE)) return -ETIMEDOUT;
    if (a->w.task || deadline == SCH_FOREVER) return (int)n;
    return schi_now_of(a->th) >= deadline ? -ETIMEDOUT : (int)n;
}

/* The whole wait, in this memory. Inline, so that one for a single operation has no loops. */
static SCHI_INLINE int schi_await_in(schi_await *a, sch_timer *limit, sch_op *const *ops, size_t n,
                                     uint64_t deadline) {
    sch_op *by_wheel = NULL;
    schi_frame *frame = NULL; /* it moves with the task */
    int result = schi_await_init(a);
    if (result) return result;
    /* A call of an operation's may block its thread, but not wait for a place: the grant could be
     * meant for this wait, if another one knows of it already. Unless it is marked further out. */
    if (a->w.task && (n > 1 || ops[0]->kind == 0)) frame = schi_frame_of(a->th);
    if (frame && frame->in_await) frame = NULL;
    if (frame) frame->in_await = true;
    if (deadline != SCH_FOREVER && schi_waits_by_wheel(a->th, &a->w)) {
        *limit = sch_timer_at(deadline);
        by_wheel = &limit->op;
    }
    a->w.alone = n == 1 && !by_wheel;
    do {
        result = schi_await_round(a, ops, n, deadline, by_wheel);
    } while (result == (int)n);
    if (frame) frame->in_await = false;
    schi_await_drop(a);
    if (result == -ECANCELED) result = schi_tell_cancelled(a->th, result);
    if (!a->waited && a->w.task) schi_use_budget(a->th);
    return result;
}

static SCHI_INLINE int schi_await_any(sch_op *const *ops, size_t n, uint64_t deadline) {
    schi_await a;
    sch_timer limit;
    return schi_await_in(&a, &limit, ops, n, deadline);
}

/*==================================================================================================
 * MARK: - [14.1] Operations on descriptors (private)
 *   Try; if it would have to wait, until an event says that it is worth another try.
 *   Uses [9] [13] [14].  Used by [18].  Tests: tests/unit/io.c, tests/unit/signals.c
 *================================================================================================*/

/* The first descriptor of a runtime: from now on the watch sleeps in the driver. */
static SCHI_NOINLINE int schi_driver_start(sch_runtime *rt) {
    schi_alarm *alarm = &rt->seats[SCHI_WATCH].alarm;
    bool own = !schi_has_alarms(rt); /* it had none */
    int error = 0;
    schi_lock(&rt->driver.lock); /* one starts it */
    if (schi_load_seq(&rt->driver.on)) goto out;
    error = schi_poller_init(&rt->driver.poller);
    if (error) goto out;
    if (own) error = schi_alarm_init(alarm);
    if (!error) {
        error = schi_poller_alarm(&rt->driver.poller, alarm);
        if (error && own) schi_alarm_drop(alarm);
    }
    if (error) {
        schi_poller_drop(&rt->driver.poller);
        goto out;
    }
    schi_lock(&rt->idle.lock);
    schi_store_seq(&rt->driver.on, 1u);
    if (schi_idle_seated(&rt->idle, SCHI_WATCH)) { /* move over */
        schi_unpark(&rt->seats[SCHI_WATCH].parker, alarm);
    }
    schi_unlock(&rt->idle.lock);
out:
    schi_unlock(&rt->driver.lock);
    return error;
}

/* The runtime that a call names, or the caller's; 0 or a negative errno. */
static int schi_io_runtime(sch_runtime **rt) {
    schi_thread *th = schi_self();
    if (!*rt) *rt = th ? th->rt : NULL;
    if (!schi_is_runtime(*rt)) return -schi_runtime_error(*rt);
    if ((*rt)->config.no_io) return -ENOTSUP;
    return schi_load_seq(&(*rt)->driver.on) ? 0 : schi_driver_start(*rt);
}

/* Watch a descriptor that has been adopted. On error it stays the caller's. */
static int schi_io_add(sch_io *out, sch_runtime *rt, int fd, int traits, pid_t pid) {
    int error;
    schi_io *io = schi_io_new(&rt->driver, rt, &rt->config.allocator, fd, &error);
    if (!io) return error;
    io->traits = traits;
    io->pid = pid;
    /* rlx: published with the handle and the token. Ready as far as we know: a call will tell. */
    schi_store_rlx(&io->ready, SCHI_READABLE | SCHI_WRITABLE);
    if (!(traits & SCHI_FD_FILE)) {
        error = schi_poller_add(&rt->driver.poller, fd, schi_io_token(io));
        if (error == -EPERM) io->traits |= SCHI_FD_FILE, error = 0;
    }
    if (error) {
        schi_io_free(&rt->driver, io);
        return error;
    }
    if (io->traits & SCHI_FD_FILE) {
        /* rlx: as above */
        schi_store_rlx(&io->ready, SCHI_READABLE | SCHI_WRITABLE | SCHI_IO_UNTOLD);
    }
    out->record = io;
    out->generation = schi_load_rlx(&io->word) >> 32; /* rlx: fixed while open */
    schi_count_shared(&rt->driver.opened, 1);
    return 0;
}

/* A descriptor of our own making: closed if it cannot be watched. */
static int schi_io_add_own(sch_io *out, sch_runtime *rt, int fd, int traits, pid_t pid) {
    int error = schi_io_add(out, rt, fd, traits, pid);
    if (error) close(fd);
    return error;
}

typedef struct schi_file_call {
    schi_io *io;
    const sch_io_call *call;
    int64_t result;
    bool done;
} schi_file_call;

static void schi_file_try(void *arg) {
    schi_file_call *f = (schi_file_call *)arg;
    /* One that says EAGAIN all the same (FUSE) cannot be watched: ask it again. */
    while ((f->result = schi_fd_try(f->io->fd, f->io->traits, 0, f->call)) == -EAGAIN) {
        schi_fd_nap();
    }
    f->done = true;
}

/* What cannot be watched may block: off the core, as long as there is a thread for that. */
static SCHI_NOINLINE int64_t schi_io_try_file(schi_io *io, const sch_io_call *c) {
    schi_file_call f;
    f.io = io;
    f.call = c;
    f.done = false;
    (void)sch_block_in_place(schi_file_try, &f);
    if (!f.done) schi_file_try(&f); /* no thread, or a hook or drop function, where nothing waits */
    return f.result;
}

/* Take a connection; it is of its listener's kind. One that cannot be watched for want of memory is
 * kept for the next call: it is not lost. */
static int64_t schi_io_accept(schi_io *listener, const sch_io_call *c) {
    int64_t fd = (int64_t)schi_xchg_seq(&listener->spare, 0u) - 1;
    int traits = listener->traits, error;
    if (fd < 0) fd = schi_io_try(listener, c, 0);
    if (fd < 0) return fd;
    if (!SCHI_ACCEPTS_READY) traits = schi_fd_adopt((int)fd);
    error = traits < 0 ? traits
                       : schi_io_add((sch_io *)c->buffer, listener->rt, (int)fd, traits, 0);
    if (error) {
        uint32_t other = schi_xchg_seq(&listener->spare, (uint32_t)fd + 1);
        if (other) close((int)other - 1); /* two at once: one has to go */
    }
    return error;
}

/* Do it if that can be done at once; else -EAGAIN. Counted in. */
static int64_t schi_io_step(schi_io *io, const sch_io_call *c) {
    schi_thread *th;
    if (SCHI_LIKELY(io->traits & SCHI_FD_SOCKET)) {
        return c->kind == SCHI_CALL_ACCEPT ? schi_io_accept(io, c) : schi_io_try(io, c, 0);
    }
    if (SCHI_UNLIKELY(io->traits & SCHI_FD_FILE) && c->kind <= SCHI_CALL_WRITEV) {
        return schi_io_try_file(io, c);
    }
    th = schi_self();
    return schi_io_try(io, c, th && th->kind != SCHI_VISITOR ? SCHI_FD_OWN_THREAD : 0);
}

static sch_status schi_io_poll(sch_op *base) {
    sch_io_op *op = (sch_io_op *)(void *)base;
    schi_io *io = schi_io_enter(&op->io);
    sch_status status = SCH_READY;
    if (!io) {
        base->result = op->call.waited ? -ECANCELED : schi_io_error(&op->io);
        op->call.waited = false;
        return SCH_READY;
    }
    do {
        base->result = schi_io_step(io, &op->call);
        if (base->result != -EAGAIN) break;
        op->call.waited = true;
        if (schi_io_link(&io->rt->driver, io, op)) {
            status = SCH_PENDING; /* it may be done and gone now, unless it is our own */
            break;
        }
        /* Closing, or nobody would tell; else something has come, and it is tried again. */
        base->result = -ECANCELED;
        /* rlx: set before link said no */
    } while (!(schi_load_rlx(&io->word) & SCHI_IO_CLOSING) &&
             !schi_load_seq(&io->rt->driver.stopped));
    if (status == SCH_READY) op->call.waited = false;
    schi_io_leave(&io->rt->driver, io);
    return status;
}

static sch_op_revoked schi_io_cancel(sch_op *base) {
    sch_io_op *op = (sch_io_op *)(void *)base;
    schi_io *io = (schi_io *)op->io.record;
    bool linked;
    schi_spin_lock(&io->lock);
    linked = op->call.linked;
    if (linked) {
        schi_io_unlink(io, op);
        op->call.waited = false;
    }
    schi_spin_unlock(&io->lock);
    return linked ? SCH_OP_REMOVED : SCH_OP_DONE;
}

static const sch_op_type schi_io_type = {schi_io_poll, schi_io_cancel, "descriptor"};

/* Done when it is worth a try. */
static sch_status schi_io_poll_news(sch_op *base) {
    sch_io_op *op = (sch_io_op *)(void *)base;
    schi_io *io = (schi_io *)op->io.record;
    if (schi_io_link(&io->rt->driver, io, op)) return SCH_PENDING;
    base->result = schi_load_seq(&io->rt->driver.stopped) ? -ECANCELED : 0;
    return SCH_READY;
}

static const sch_op_type schi_io_news_type = {schi_io_poll_news, schi_io_cancel, "descriptor"};

/* What it counts as when it has to wait. */
static sch_wait_kind schi_io_kind(uint32_t kind, uint32_t want) {
    switch (kind) {
    case SCHI_CALL_ACCEPT: return SCH_WAIT_ACCEPT;
    case SCHI_CALL_CONNECT: return SCH_WAIT_CONNECT;
    case SCHI_CALL_SIGNAL: return SCH_WAIT_SIGNAL;
    case SCHI_CALL_CHILD: return SCH_WAIT_CHILD;
    default: return want & SCHI_WRITABLE ? SCH_WAIT_WRITE : SCH_WAIT_READ;
    }
}

static inline sch_io schi_io_copy(const sch_io *io) {
    sch_io own;
    own.record = io ? io->record : NULL;
    own.generation = io ? io->generation : 0;
    return own;
}

/* Member by member: a memset of so much is one slow instruction. */
static SCHI_INLINE sch_io_call schi_io_call(uint32_t kind, uint32_t want) {
    sch_io_call c;
    c.next = c.prev = NULL;
    c.buffer = c.address = c.address_len = NULL;
    c.length = 0;
    c.kind = kind;
    c.flags = c.more = 0;
    c.want = want;
    c.linked = c.waited = false;
    return c;
}

static inline sch_io_op schi_io_op(const sch_io *io, uint32_t kind, uint32_t want) {
    sch_io_op op;
    op.op.type = &schi_io_type;
    op.op.result = 0;
    op.op.link = NULL;
    op.op.waiter = NULL;
    op.op.state = SCHI_OP_IDLE;
    op.op.in_poll_task = false;
    op.op.kind = (uint8_t)schi_io_kind(kind, want);
    op.op.wheel = 0;
    op.io = schi_io_copy(io);
    op.call = schi_io_call(kind, want);
    return op;
}

static inline sch_io_op schi_io_data_op(const sch_io *io, uint32_t kind, const void *data,
                                        size_t len) {
    bool writes = kind == SCHI_CALL_WRITE || kind == SCHI_CALL_WRITEV || kind == SCHI_CALL_SENDTO;
    sch_io_op op = schi_io_op(io, kind, writes ? SCHI_WRITABLE : SCHI_READABLE);
    op.call.buffer = (void *)(uintptr_t)data;
    op.call.length = len;
    return op;
}

/* Wait until this call is worth a try: 0, or why not. */
static SCHI_INLINE int64_t schi_io_wait_in(const sch_io *handle, uint32_t kind, uint32_t want,
                                           uint64_t deadline) {
    sch_io_op op = schi_io_op(handle, kind, want);
    sch_op *base = &op.op;
    int error;
    op.op.type = &schi_io_news_type;
    op.call.kind = SCHI_CALL_NEWS;
    error = schi_await_any(&base, 1, deadline);
    return error ? error : base->result;
}

static SCHI_NOINLINE int64_t schi_io_wait_until(const sch_io *handle, uint32_t kind, uint32_t want,
                                                uint64_t deadline) {
    return schi_io_wait_in(handle, kind, want, deadline);
}

/* Without a deadline: no timer, so a third of the stack less. */
static SCHI_NOINLINE int64_t schi_io_wait(const sch_io *handle, uint32_t kind, uint32_t want) {
    return schi_io_wait_in(handle, kind, want, SCH_FOREVER);
}

/* Open and not ready, as far as is known without being counted in: link will know. */
static inline bool schi_io_is_quiet(const sch_io *handle, uint32_t want) {
    const schi_io *io = (const schi_io *)handle->record;
    uint64_t word;
    if (!io || schi_io_is_foreign(io)) return false;
    word = schi_load_rlx(&io->word); /* rlx: a hint */
    return word >> 32 == handle->generation && !(word & SCHI_IO_CLOSING) &&
           !(schi_load_rlx(&io->ready) & (want | SCHI_IO_UNTOLD)); /* rlx: a hint */
}

/* A plain read or write of what is no socket. Its own call: the caller's stays in registers. */
static SCHI_NOINLINE int64_t schi_io_step_plain(schi_io *io, uint32_t kind, void *data,
                                                size_t len) {
    sch_io_call c = schi_io_call(kind, kind == SCHI_CALL_READ ? SCHI_READABLE : SCHI_WRITABLE);
    c.buffer = data;
    c.length = len;
    return schi_io_step(io, &c);
}

/* Try. again: it was open a moment ago, but not ready. in_place: see schi_call_io. */
static SCHI_INLINE int64_t schi_io_attempt(const sch_io *handle, const sch_io_call *c,
                                           bool in_place, bool again) {
    schi_io *io = schi_io_enter(handle);
    int64_t result;
    if (SCHI_UNLIKELY(!io)) return again ? -ECANCELED : schi_io_error(handle);
    if (!in_place) {
        result = schi_io_step(io, c);
    } else if (SCHI_LIKELY(io->traits & SCHI_FD_SOCKET)) {
        result = schi_io_transfer(io, c->kind == SCHI_CALL_WRITE, c->buffer, c->length);
    } else {
        result = schi_io_step_plain(io, c->kind, c->buffer, c->length);
    }
    schi_io_leave(&io->rt->driver, io);
    return result;
}

/* Do it, waiting if need be. As an operation would, but the system calls are made out here. The
 * handle is the caller's own copy: the program's may be gone when it has waited. */
static SCHI_INLINE int64_t schi_io_do_in(const sch_io *handle, const sch_io_call *c, bool in_place,
                                         uint64_t deadline) {
    bool ask = !in_place || !schi_io_is_quiet(handle, c->want), again = false;
    int64_t result;
    for (;; ask = again = true) {
        int64_t error;
        result = ask ? schi_io_attempt(handle, c, in_place, again) : -EAGAIN;
        if (result != -EAGAIN) break;
        error = deadline == SCH_FOREVER ? schi_io_wait(handle, c->kind, c->want)
                                        : schi_io_wait_until(handle, c->kind, c->want, deadline);
        if (error) return error;
    }
    if (!again) schi_use_budget(schi_self());
    return result;
}

static int64_t schi_io_do(const sch_io_op *op) {
    return schi_io_do_in(&op->io, &op->call, false, SCH_FOREVER);
}

/* The same for plain reads and writes, mostly of sockets. */
static SCHI_INLINE int64_t schi_io_move(const sch_io *own, bool writes, void *data, size_t len,
                                        uint64_t deadline) {
    sch_io_call c = schi_io_call(writes ? SCHI_CALL_WRITE : SCHI_CALL_READ,
                                 writes ? SCHI_WRITABLE : SCHI_READABLE);
    c.buffer = data;
    c.length = len;
    return schi_io_do_in(own, &c, true, deadline);
}

/* As if the system had told of these bits. Counted in. */
static void schi_io_tell(schi_io *io, uint32_t bits) {
    schi_ready event;
    schi_expired due;
    bool all;
    event.token = schi_io_token(io);
    event.bits = bits;
    do {
        due.num = 0;
        all = schi_io_event(&io->rt->driver, &event, &due);
        schi_grant_expired(schi_self(), &due);
    } while (!all);
}

/* Nobody waits for it or uses it any more, once the last call has left. */
static int schi_io_close(schi_io *io) {
    sch_runtime *rt = io->rt;
    schi_driver *d = &rt->driver;
    schi_expired due;
    bool all;
    uint64_t word = schi_or_acqrel(&io->word, SCHI_IO_CLOSING); /* acqrel: D4 */
    if (word & SCHI_IO_CLOSING) { /* another was quicker */
        schi_io_leave(d, io);
        return -EBADF;
    }
    if (!(io->traits & SCHI_FD_FILE)) schi_poller_remove(&d->poller, io->fd);
    do {
        due.num = 0;
        schi_spin_lock(&io->lock);
        all = schi_io_take(io, SCHI_IO_BITS, true, &due);
        schi_spin_unlock(&io->lock);
        schi_grant_expired(schi_self(), &due);
    } while (!all);
    schi_io_leave(d, io);
    return 0;
}

/*==================================================================================================
 * MARK: - [17.1] Metrics, read (private)
 *   Snapshots, their sums, and both as text for a scraper.
 *   Uses [10] [13].  Used by [17.2]-[17.4] [18].  Tests: tests/unit/metrics.c, tests/observe
 *================================================================================================*/

/* Text on its way to the user's function, a buffer at a time; after an error nothing more. The
 * function may wait, so no caller keeps its thread's record across a put. */
typedef struct schi_text {
    sch_write_fn write;
    void *user;
    int result;
    size_t length;
    char buffer[1024];
} schi_text;

static void schi_text_init(schi_text *t, sch_write_fn write, void *user) {
    t->write = write;
    t->user = user;
    t->result = 0;
    t->length = 0;
}

static int schi_text_flush(schi_text *t) {
    if (t->result == 0 && t->length > 0) t->result = t->write(t->buffer, t->length, t->user);
    t->length = 0;
    return t->result;
}

static void schi_put_char(schi_text *t, char c) {
    if (t->length == sizeof t->buffer) (void)schi_text_flush(t);
    t->buffer[t->length++] = c;
}

static void schi_put(schi_text *t, const char *text) {
    while (*text) schi_put_char(t, *text++);
}

static void schi_put_uint(schi_text *t, uint64_t n) {
    char digits[20];
    unsigned i = 0;
    do digits[i++] = (char)('0' + n % 10), n /= 10; while (n);
    while (i) schi_put_char(t, digits[--i]);
}

/* n / 10^digits, as a decimal fraction without zeros at its end. */
static void schi_put_fraction(schi_text *t, uint64_t n, unsigned digits) {
    uint64_t unit = 1;
    for (unsigned i = 0; i < digits; i++) unit *= 10;
    schi_put_uint(t, n / unit);
    n %= unit;
    if (n) schi_put_char(t, '.');
    for (; n; n %= unit) {
        unit /= 10;
        schi_put_char(t, (char)('0' + n / unit));
    }
}

/* A time for people: three digits or a few more. */
static void schi_put_time(schi_text *t, uint64_t ns) {
    if (ns == UINT64_MAX) {
        schi_put(t, "an unknown time");
    } else if (ns < 10 * SCH_MICROSECOND) {
        schi_put_uint(t, ns), schi_put(t, " ns");
    } else if (ns < 10 * SCH_MILLISECOND) {
        schi_put_uint(t, ns / SCH_MICROSECOND), schi_put(t, " us");
    } else if (ns < 10 * SCH_SECOND) {
        schi_put_uint(t, ns / SCH_MILLISECOND), schi_put(t, " ms");
    } else {
        schi_put_uint(t, ns / SCH_SECOND), schi_put(t, " s");
    }
}

/* Readers take the runtime as const; counters and queues are read without changing them. */
static sch_runtime *schi_unconst(const sch_runtime *rt) { return (sch_runtime *)(uintptr_t)rt; }

static void schi_worker_snapshot(schi_core *core, sch_worker_metrics_snapshot *out) {
    schi_core_metrics *m = &core->m;
    schi_wheel_totals(&core->wheel, &out->timer_armed_count, &out->timer_fired_count,
                      &out->timer_cancelled_count);
    out->queue_revoke_count = schi_counted(&core->q.bias.num_revoked);
    out->wheel_revoke_count = schi_counted(&core->wheel.lock.bias.num_revoked);
    out->thread = schi_counted(&m->thread);
    out->lifo_poll_count = schi_counted(&m->lifo_polls); /* first: not more than polls, but one */
    out->child_poll_count = schi_counted(&m->child_polls); /* the same */
    out->poll_count = schi_counted(&m->polls);
    out->lifo_schedule_count = schi_counted(&m->lifo_schedules);
    out->lifo_capped_count = schi_counted(&m->lifo_capped);
    out->local_schedule_count = out->lifo_schedule_count + schi_counted(&m->back_schedules) +
                                schi_counted(&m->spawned); /* a new task, not a job */
    out->overflow_count = schi_counted(&m->overflows);
    out->steal_operations = schi_counted(&m->steal_operations);
    out->steal_count = schi_counted(&m->steals);
    out->lifo_steal_count = schi_counted(&m->lifo_steals);
    out->injector_count = schi_counted(&m->injected);
    out->injector_batch_count = schi_counted(&m->inject_batches);
    out->injector_turn_count = schi_counted(&m->inject_turns);
    out->no_local_work_count = schi_counted(&m->no_local_work);
    out->search_count = schi_counted(&m->searches);
    out->search_spin_count = schi_counted(&m->search_spins);
    out->relay_count = schi_counted(&m->relays);
    out->park_count = schi_counted(&m->parks);
    out->park_unpark_count = schi_counted(&m->park_unparks);
    out->noop_count = schi_counted(&m->noops);
    out->lend_count = schi_counted(&m->lends);
    out->lend_taken_count = schi_counted(&m->lends_taken);
    out->handoff_count = schi_counted(&m->handoffs);
    out->notify_count = schi_counted(&m->notifies);
    out->wake_count = schi_counted(&m->wakes);
    out->forced_yield_count = schi_counted(&m->forced_yields);
    out->maintenance_count = schi_counted(&m->maintenances);
    out->spawned_count = schi_core_spawned(core);
    out->ended_count = schi_counted(&m->ended);
    out->cancelled_count = schi_counted(&m->cancelled);
    out->busy_ns = schi_counted(&m->busy_ns);
    out->mean_poll_ns = schi_counted(&m->mean_poll_ns);
    out->local_queue_depth = schi_runq_len(&core->q);
    for (int i = 0; i < SCH_WAIT_KINDS; i++) out->wait_count[i] = schi_counted(&m->waits[i]);
}

SCHI_STATIC_ASSERT(sizeof(sch_worker_metrics_snapshot) % sizeof(uint64_t) == 0 &&
                       sizeof(sch_metrics_snapshot) % sizeof(uint64_t) == 0,
                   "snapshots are whole numbers only");

/* Add a snapshot to a sum, number by number. */
static void schi_worker_add(sch_worker_metrics_snapshot *sum,
                            const sch_worker_metrics_snapshot *w) {
    uint64_t *to = (uint64_t *)(void *)sum;
    const uint64_t *from = (const uint64_t *)(const void *)w;
    for (size_t i = 0; i < sizeof *sum / sizeof *to; i++) to[i] += from[i];
    sum->thread = sum->mean_poll_ns = 0;
}

/* Tasks that have a thread. */
static uint64_t schi_num_running(sch_runtime *rt) {
    uint64_t n = 0, waiting = schi_load_seq(&rt->pool.waiting); /* jobs; -1 for a moment */
    schi_lock(&rt->idle.lock); /* records of threads stay while we look */
    for (unsigned i = 0; i < rt->top_thread; i++) {
        if (rt->threads[i] && schi_current(rt->threads[i])) n++;
    }
    schi_unlock(&rt->idle.lock);
    return waiting <= n ? n - waiting : n;
}

static uint64_t schi_num_alive(sch_runtime *rt) {
    uint64_t ended = schi_counted(&rt->shared_ended), spawned;
    for (unsigned i = 0; i < rt->num_cores; i++) ended += schi_counted(&rt->cores[i]->m.ended);
    spawned = schi_counted(&rt->shared_spawned); /* after ended: the difference is not too small */
    for (unsigned i = 0; i < rt->num_cores; i++) spawned += schi_core_spawned(rt->cores[i]);
    return spawned > ended ? spawned - ended : 0;
}

static void schi_snapshot(sch_runtime *rt, sch_metrics_snapshot *out) {
    uint32_t word = schi_load_seq(&rt->idle.word);
    uint64_t busy;
    memset(out, 0, sizeof *out);
    out->num_workers = rt->num_cores;
    out->num_alive_tasks = schi_num_alive(rt);
    out->num_running_tasks = schi_num_running(rt);
    out->injection_queue_depth = schi_inject_len(&rt->inject, NULL);
    schi_lock(&rt->shared_lock);
    out->remote_schedule_count =
        schi_counted(&rt->shared_spawned) - schi_counted(&rt->shared_jobs);
    schi_unlock(&rt->shared_lock);
    out->remote_schedule_count += schi_load_seq(&rt->wakers_came);
    out->num_idle_workers = rt->num_cores - schi_idle_running(word);
    out->num_searching = schi_idle_searching(word);
    schi_lock(&rt->idle.lock);
    out->num_worker_threads = rt->num_workers;
    schi_unlock(&rt->idle.lock);
    out->num_blocking_threads = schi_counted(&rt->pool.threads);
    out->num_idle_blocking_threads = schi_counted(&rt->pool.idle_threads);
    out->blocking_queue_depth = schi_counted(&rt->pool.queued);
    out->blocking_spin_hit_count = schi_counted(&rt->pool.spin_hits);
    out->blocking_spin_count = schi_counted(&rt->pool.spins);
    out->remote_wake_count = schi_counted(&rt->remote_wakes);
    out->notify_no_core_count = schi_counted(&rt->no_cores);
    out->standby_alarm_count = schi_counted(&rt->alarms);
    out->standby_look_count = schi_counted(&rt->looks_done);
    out->standby_rescue_count = schi_counted(&rt->rescues);
    out->stack_free_count = schi_counted(&rt->stacks.num_free); /* first: not more than all */
    out->stack_count = schi_counted(&rt->stacks.num_stacks);
    out->io_opened_count = schi_counted(&rt->driver.opened);
    out->io_closed_count = schi_counted(&rt->driver.closed);
    out->io_event_count = schi_counted(&rt->driver.events);
    out->stall_count = schi_counted(&rt->stalls);
    out->stall_ns = schi_counted(&rt->stall_ns);
    out->num_queued_tasks = out->injection_queue_depth + out->blocking_queue_depth;
    for (unsigned i = 0; i < rt->num_cores; i++) {
        sch_worker_metrics_snapshot w;
        schi_worker_snapshot(rt->cores[i], &w);
        schi_worker_add(&out->total, &w);
        out->num_queued_tasks += w.local_queue_depth + !schi_lifo_is_empty(&rt->cores[i]->q);
        out->timer_count += schi_wheel_len(&rt->cores[i]->wheel);
    }
    out->cancelled_tasks_count = out->total.cancelled_count + schi_counted(&rt->shared_cancelled);
    out->spawned_tasks_count = out->total.spawned_count + schi_counted(&rt->shared_spawned);
    busy = out->num_running_tasks + out->num_queued_tasks;
    out->num_waiting_tasks = out->num_alive_tasks > busy ? out->num_alive_tasks - busy : 0;
}

/* The count of a bucket, of one core or of all. */
static uint64_t schi_histogram_count(sch_runtime *rt, sch_histogram which, unsigned worker,
                                     unsigned bucket) {
    uint64_t n = 0;
    for (unsigned i = 0; i < rt->num_cores; i++) {
        if (worker != SCH_ALL_WORKERS && worker != i) continue;
        n += schi_counted(&rt->cores[i]->histograms[which].counts[bucket]);
    }
    return n;
}

/* Text for a scraper ----------------------------------------------------------------------------*/

static const char *const schi_wait_names[SCH_WAIT_KINDS] = {
    "yield", "suspend", "join", "timer", "read", "write", "accept", "connect",
    "signal", "child", "operation", "place", "poll_task"};

typedef enum schi_metric_kind {
    SCHI_COUNTER, SCHI_GAUGE,
    SCHI_COUNTER_NS, SCHI_GAUGE_NS, /* nanoseconds, written as seconds */
    SCHI_UNWRITTEN                  /* of no use to a scraper */
} schi_metric_kind;

/* A number of a snapshot: in the order of its structure, so that its place is its index. */
typedef struct schi_metric {
    schi_metric_kind kind;
    const char *name, *help;
} schi_metric;

static const schi_metric schi_worker_metrics[] = {
    {SCHI_UNWRITTEN, "thread", ""},
    {SCHI_COUNTER, "polls", "Times a task was given the core."},
    {SCHI_COUNTER, "lifo_polls", "Polls of tasks from the LIFO slot."},
    {SCHI_COUNTER, "child_polls", "Polls of a new task right after the one that spawned it."},
    {SCHI_COUNTER, "lifo_schedules", "Tasks put into the LIFO slot."},
    {SCHI_COUNTER, "lifo_capped", "Times the LIFO slot gave way to the queue."},
    {SCHI_COUNTER, "local_schedules", "Tasks spawned and woken on the core for itself."},
    {SCHI_COUNTER, "overflows", "Times a full queue moved tasks to the injector."},
    {SCHI_COUNTER, "steal_operations", "Times the core stole tasks."},
    {SCHI_COUNTER, "steals", "Tasks that the core stole."},
    {SCHI_COUNTER, "lifo_steals", "Tasks stolen from a LIFO slot behind a long poll."},
    {SCHI_COUNTER, "injector_tasks", "Tasks taken from the injector."},
    {SCHI_COUNTER, "injector_batches", "Batches taken from the injector."},
    {SCHI_COUNTER, "injector_turns", "Times the injector had its turn before local tasks."},
    {SCHI_COUNTER, "no_local_work", "Times nothing was queued locally or in the injector."},
    {SCHI_COUNTER, "searches", "Times the core searched the others' queues."},
    {SCHI_COUNTER, "search_spins", "Rounds of searching that found nothing."},
    {SCHI_COUNTER, "relays", "Times the last searcher found work and woke another."},
    {SCHI_COUNTER, "parks", "Times the core was given up for want of work."},
    {SCHI_COUNTER, "park_unparks", "Parks and unparks: odd while the core is parked."},
    {SCHI_COUNTER, "noops", "Times the core was parked again without a poll."},
    {SCHI_COUNTER, "lends", "Blocking calls that lent the core."},
    {SCHI_COUNTER, "lends_taken", "Lent cores that were taken before the call was back."},
    {SCHI_COUNTER, "handoffs", "Blocking calls that handed the core to another thread."},
    {SCHI_COUNTER, "notifies", "Times the queue was worth waking another worker."},
    {SCHI_COUNTER, "wakes", "Threads woken by the core."},
    {SCHI_COUNTER, "forced_yields", "Tasks that used up their budget."},
    {SCHI_COUNTER, "maintenances", "Rounds of maintenance."},
    {SCHI_COUNTER, "spawned_tasks", "Tasks spawned on the core."},
    {SCHI_COUNTER, "ended_tasks", "Tasks that ended on the core."},
    {SCHI_COUNTER, "cancelled_tasks", "Tasks that ended on the core by cancellation."},
    {SCHI_COUNTER, "timers_armed", "Timers armed."},
    {SCHI_COUNTER, "timers_fired", "Timers whose time has come."},
    {SCHI_COUNTER, "timers_cancelled", "Timers disarmed before their time."},
    {SCHI_COUNTER, "queue_revokes", "Barriers on all threads, for its queue."},
    {SCHI_COUNTER, "wheel_revokes", "Barriers on all threads, for its timers."},
    {SCHI_COUNTER_NS, "busy_seconds", "Time spent on batches of tasks."},
    {SCHI_GAUGE_NS, "mean_poll_seconds", "Moving average of the time of a poll."},
    {SCHI_GAUGE, "queue_depth", "Tasks in the local queue, without the LIFO slot."},
};

static const schi_metric schi_runtime_metrics[] = {
    {SCHI_GAUGE, "workers", "Cores: tasks that can run at the same time."},
    {SCHI_GAUGE, "alive_tasks", "Tasks spawned and not ended."},
    {SCHI_GAUGE, "running_tasks", "Tasks that have a thread."},
    {SCHI_GAUGE, "queued_tasks", "Tasks that are ready and not running."},
    {SCHI_GAUGE, "waiting_tasks", "Tasks that wait."},
    {SCHI_GAUGE, "injector_depth", "Tasks in the injector."},
    {SCHI_GAUGE, "worker_threads", "Threads that run tasks or are in sch_block_in_place."},
    {SCHI_GAUGE, "idle_workers", "Cores that nobody holds."},
    {SCHI_GAUGE, "searching_workers", "Cores that look for work."},
    {SCHI_GAUGE, "blocking_threads", "Threads of the blocking pool."},
    {SCHI_GAUGE, "idle_blocking_threads", "Threads of the blocking pool without a job."},
    {SCHI_GAUGE, "blocking_queue_depth", "Blocking jobs that wait for a thread."},
    {SCHI_COUNTER, "blocking_spins", "Times an idle blocking thread looked before it slept."},
    {SCHI_COUNTER, "blocking_spin_hits", "Of these, times a job came."},
    {SCHI_COUNTER, "tasks_spawned", "Tasks spawned, also from outside."},
    {SCHI_COUNTER, "tasks_cancelled", "Tasks ended by cancellation, also outside."},
    {SCHI_COUNTER, "remote_schedules", "Tasks queued from outside."},
    {SCHI_COUNTER, "remote_wakes", "Threads woken from outside."},
    {SCHI_COUNTER, "notifies_without_core", "Times nobody was woken for want of a free core."},
    {SCHI_COUNTER, "standby_alarms", "Times the standby's alarm was set."},
    {SCHI_COUNTER, "standby_looks", "Times the standby's alarm rang."},
    {SCHI_COUNTER, "standby_rescues", "Threads woken by the standby for late tasks."},
    {SCHI_GAUGE, "stacks", "Task stacks of the common size."},
    {SCHI_GAUGE, "free_stacks", "Of these, in the common pool."},
    {SCHI_GAUGE, "armed_timers", "Timers armed now."},
    {SCHI_COUNTER, "descriptors_opened", "Descriptors given to the runtime."},
    {SCHI_COUNTER, "descriptors_closed", "Descriptors closed."},
    {SCHI_COUNTER, "descriptor_events", "Events of descriptors."},
    {SCHI_COUNTER, "stalls", "Polls that the watchdog reported."},
    {SCHI_COUNTER_NS, "stall_seconds", "How long these have lasted."},
};

SCHI_STATIC_ASSERT(sizeof schi_worker_metrics / sizeof *schi_worker_metrics * sizeof(uint64_t) ==
                       offsetof(sch_worker_metrics_snapshot, wait_count),
                   "every number of a worker's snapshot is in the table");
SCHI_STATIC_ASSERT(sizeof schi_runtime_metrics / sizeof *schi_runtime_metrics * sizeof(uint64_t) ==
                       offsetof(sch_metrics_snapshot, total),
                   "every number of a runtime's snapshot is in the table");

/* Name and type of a family. */
static void schi_put_family(schi_text *t, sch_metrics_format format, const char *prefix,
                            const char *name, const char *type, const char *help) {
    const char *total = strcmp(type, "counter") == 0 && format == SCH_PROMETHEUS ? "_total" : "";
    size_t n = strlen(name);
    schi_put(t, "# HELP "), schi_put(t, prefix), schi_put(t, name), schi_put(t, total);
    schi_put_char(t, ' '), schi_put(t, help);
    schi_put(t, "\n# TYPE "), schi_put(t, prefix), schi_put(t, name), schi_put(t, total);
    schi_put_char(t, ' '), schi_put(t, type), schi_put_char(t, '\n');
    if (format == SCH_OPENMETRICS && n > 8 && strcmp(name + n - 8, "_seconds") == 0) {
        schi_put(t, "# UNIT "), schi_put(t, prefix), schi_put(t, name), schi_put(t, " seconds\n");
    }
}

static void schi_put_value(schi_text *t, schi_metric_kind kind, uint64_t value) {
    schi_put_char(t, ' ');
    schi_put_fraction(t, value, kind == SCHI_COUNTER_NS || kind == SCHI_GAUGE_NS ? 9 : 0);
    schi_put_char(t, '\n');
}

static bool schi_metric_counts(const schi_metric *m) {
    return m->kind == SCHI_COUNTER || m->kind == SCHI_COUNTER_NS;
}

static void schi_put_runtime_metric(schi_text *t, sch_metrics_format format,
                                    const sch_metrics_snapshot *s, size_t i) {
    const schi_metric *m = &schi_runtime_metrics[i];
    bool counts = schi_metric_counts(m);
    schi_put_family(t, format, "sch_", m->name, counts ? "counter" : "gauge", m->help);
    schi_put(t, "sch_"), schi_put(t, m->name), schi_put(t, counts ? "_total" : "");
    schi_put_value(t, m->kind, ((const uint64_t *)(const void *)s)[i]);
}

static void schi_put_worker_metric(schi_text *t, sch_metrics_format format, sch_runtime *rt,
                                   size_t i) {
    const schi_metric *m = &schi_worker_metrics[i];
    bool counts = schi_metric_counts(m);
    if (m->kind == SCHI_UNWRITTEN) return;
    schi_put_family(t, format, "sch_worker_", m->name, counts ? "counter" : "gauge", m->help);
    for (unsigned c = 0; c < rt->num_cores; c++) {
        sch_worker_metrics_snapshot w;
        schi_worker_snapshot(rt->cores[c], &w);
        schi_put(t, "sch_worker_"), schi_put(t, m->name), schi_put(t, counts ? "_total" : "");
        schi_put(t, "{worker=\""), schi_put_uint(t, c), schi_put(t, "\"}");
        schi_put_value(t, m->kind, ((const uint64_t *)(const void *)&w)[i]);
    }
}

static void schi_put_waits(schi_text *t, sch_metrics_format format, sch_runtime *rt) {
    schi_put_family(t, format, "sch_worker_", "waits", "counter", "Waits begun, by what for.");
    for (unsigned c = 0; c < rt->num_cores; c++) {
        for (int i = 0; i < SCH_WAIT_KINDS; i++) {
            schi_put(t, "sch_worker_waits_total{worker=\""), schi_put_uint(t, c);
            schi_put(t, "\",for=\""), schi_put(t, schi_wait_names[i]), schi_put(t, "\"}");
            schi_put_value(t, SCHI_COUNTER, schi_counted(&rt->cores[c]->m.waits[i]));
        }
    }
}

/* A histogram of all cores; of its buckets those that end at a power of two from 2^10 ns on. */
static void schi_put_histogram(schi_text *t, sch_metrics_format format, sch_runtime *rt,
                               sch_histogram which, const char *name, const char *help) {
    uint64_t below = 0, sum = 0;
    unsigned bucket = 0, last = rt->histogram_len - 1;
    schi_put_family(t, format, "sch_", name, "histogram", help);
    for (unsigned power = 10; power < SCHI_HISTOGRAM_TOP; power++) {
        uint64_t limit = (UINT64_C(1) << power) - 1;
        for (; bucket < last && schi_histogram_limit(rt->config.histogram_bits, bucket) <= limit;
             bucket++) {
            below += schi_histogram_count(rt, which, SCH_ALL_WORKERS, bucket);
        }
        schi_put(t, "sch_"), schi_put(t, name), schi_put(t, "_bucket{le=\"");
        schi_put_fraction(t, limit, 9), schi_put(t, "\"}");
        schi_put_value(t, SCHI_COUNTER, below);
    }
    for (; bucket <= last; bucket++) {
        below += schi_histogram_count(rt, which, SCH_ALL_WORKERS, bucket);
    }
    for (unsigned i = 0; i < rt->num_cores; i++) {
        sum += schi_counted(&rt->cores[i]->histograms[which].sum);
    }
    schi_put(t, "sch_"), schi_put(t, name), schi_put(t, "_bucket{le=\"+Inf\"}");
    schi_put_value(t, SCHI_COUNTER, below);
    schi_put(t, "sch_"), schi_put(t, name), schi_put(t, "_sum");
    schi_put_value(t, SCHI_COUNTER_NS, sum);
    schi_put(t, "sch_"), schi_put(t, name), schi_put(t, "_count");
    schi_put_value(t, SCHI_COUNTER, below);
}

static void schi_put_metrics(schi_text *t, sch_metrics_format format, sch_runtime *rt) {
    sch_metrics_snapshot s;
    schi_snapshot(rt, &s);
    for (size_t i = 0; i < sizeof schi_runtime_metrics / sizeof *schi_runtime_metrics; i++) {
        schi_put_runtime_metric(t, format, &s, i);
    }
    for (size_t i = 0; i < sizeof schi_worker_metrics / sizeof *schi_worker_metrics; i++) {
        schi_put_worker_metric(t, format, rt, i);
    }
    schi_put_waits(t, format, rt);
    if (rt->config.task_times) {
        schi_put_histogram(t, format, rt, SCH_POLL_TIME, "poll_time_seconds",
                           "How long tasks had a core in one go.");
        schi_put_histogram(t, format, rt, SCH_SCHEDULE_LATENCY, "schedule_latency_seconds",
                           "How long tasks were ready before they had a core.");
    }
    if (format == SCH_OPENMETRICS) schi_put(t, "# EOF\n");
}

/*==================================================================================================
 * MARK: - [17.2] Looking at tasks (private)
 *   Every live task, with what it waits for and where; what each worker does.
 *   Uses [6] [7] [13] [14.1] [17.1].  Used by [17.4] [18].
 *   Tests: tests/unit/dump.c, tests/model/observe.c
 *
 *   Nothing is stopped. A task that waits is borrowed (schi_task_borrow): it becomes SCHEDULED, as
 *   if it were about to run, so nobody else touches its stack, and a wake, grant or cancel that
 *   comes meanwhile leaves its bit in the state, as it does at any task that is SCHEDULED. To give
 *   it back is what the worker does whose task waits: idle, or if something has come, the queue. So
 *   a look can lose nothing that a running task could not lose, and idle workers are woken for what
 *   it queues as for any other push.
 *   A borrowed stack tells its backtrace itself: the looker switches to it with SCHI_COMMIT_LOOK,
 *   schi_land calls schi_stack_show there, which switches back.
 *   One walk at a time: a second could not tell borrowed from queued.
 *================================================================================================*/
#define SCHI_SHOW_ROOM 8192u /* bytes of stack that a backtrace may take */

/* What was seen of a task. */
typedef struct schi_seen_task {
    sch_task_info info;
    schi_sight is;
    char text[96];
    size_t length;
    schi_look_at look;
} schi_seen_task;

static void schi_say(schi_seen_task *s, const char *text) {
    while (*text && s->length + 1 < sizeof s->text) s->text[s->length++] = *text++;
    s->text[s->length] = 0;
}

static void schi_say_uint(schi_seen_task *s, uint64_t n) {
    char digits[21];
    unsigned i = sizeof digits - 1;
    digits[i] = 0;
    do digits[--i] = (char)('0' + n % 10), n /= 10; while (n);
    schi_say(s, digits + i);
}

/* An operation, in words. Whoever completes it meanwhile leaves what is read here alone. */
static void schi_say_op(schi_seen_task *s, const sch_op *op, uint64_t now) {
    if (op->kind == 0) {
        schi_say(s, op->type->name ? op->type->name : "operation");
    } else if (op->kind == SCH_WAIT_TIMER) {
        uint64_t until = ((const sch_timer *)(const void *)op)->until;
        schi_say(s, "timer in "), schi_say_uint(s, until > now ? (until - now) / 1000000 : 0);
        schi_say(s, " ms");
    } else {
        int fd = sch_io_fd(&((const sch_io_op *)(const void *)op)->io);
        schi_say(s, schi_wait_names[op->kind]);
        if (fd < 0) {
            schi_say(s, " of a closed descriptor");
        } else {
            schi_say(s, " of descriptor "), schi_say_uint(s, (uint64_t)fd);
        }
    }
}

/* What a borrowed task on a stack, or a job, waits for. */
static void schi_say_frame(schi_seen_task *s, const schi_frame *f, uint64_t now) {
    s->info.wait = f->wait;
    switch (f->wait) {
    case SCH_WAIT_SUSPEND: schi_say(s, "sch_suspend"); break;
    case SCH_WAIT_PLACE: schi_say(s, "a thread for sch_block_in_place"); break;
    case SCH_WAIT_JOIN:
        schi_say(s, "join of task ");
        schi_say_uint(s, schi_task_id((const sch_task *)f->wait_for));
        break;
    default:
        if (f->many) schi_say(s, "the first of several: ");
        schi_say_op(s, (const sch_op *)f->wait_for, now);
    }
}

/* What a borrowed poll task waits for: its pending operations, else somebody's sch_wake. */
static void schi_say_poll(schi_seen_task *s, const sch_task *task, uint64_t now) {
    const sch_op *op = (const sch_op *)task->arg;
    s->info.wait = SCH_WAIT_POLL_TASK;
    if (!op) schi_say(s, "sch_wake");
    for (; op; op = op->link) {
        schi_say_op(s, op, now);
        if (op->link) schi_say(s, ", ");
    }
}

/* Have a borrowed stack show its backtrace. */
static void schi_stack_look(schi_stack *stack, schi_look_at *look) {
    schi_thread *th = schi_self(), spare;
    schi_ctx *me;
#if SCHI_UCONTEXT
    size_t room = 0; /* unknown: it might overflow */
#else
    size_t room = (size_t)((char *)stack->ctx.sp - stack->mapping);
#endif
    if (room < SCHI_SHOW_ROOM + schi_page_size()) return;
    (void)schi_backtrace(look->frames, 1); /* the first call may load a library: on our stack */
    if (!th) { /* a plain thread needs a record to switch */
        memset(&spare, 0, sizeof spare);
        spare.kind = SCHI_VISITOR;
        schi_thread_enter(th = &spare);
    }
    me = th->stack ? &th->stack->ctx : &th->home;
    SCHI_ASSERT(th->commit == SCHI_COMMIT_NONE);
    look->back = me;
    th->look = look;
    th->commit = SCHI_COMMIT_LOOK;
    th->left = me;
    (void)schi_ctx_switch(me, &stack->ctx, th);
    schi_ctx_landed(me, th->left);
    if (th == &spare) schi_thread_leave(th);
}

/* With a paused clock, whoever decides whether it jumps sees who borrows: both under idle.lock. */
static void schi_walk_says(sch_runtime *rt, uint32_t what) {
    if (SCHI_LIKELY(!rt->config.paused_clock)) return;
    schi_lock(&rt->idle.lock);
    schi_store_seq(&rt->walking, what);
    if (what == SCHI_WALK_BETWEEN) schi_clock_may_jump(rt);
    schi_unlock(&rt->idle.lock);
}

static uint64_t schi_since(uint64_t now, uint64_t then) { return now > then ? now - then : 0; }

/* A phase that is older than the one before it has just begun: its stamp is on the way. */
static void schi_look_at_times(sch_task *task, sch_task_info *info) {
    schi_times *times = schi_times_of(task);
    uint64_t queued = schi_counted(&times->queued), begun = schi_counted(&times->begun);
    uint64_t let_go = schi_counted(&times->let_go), now = schi_now_ns(), then = let_go;
    if (info->phase == SCH_PHASE_QUEUED) then = queued >= let_go ? queued : now;
    if (info->phase == SCH_PHASE_RUNNING) then = begun >= queued && begun >= let_go ? begun : now;
    info->age_ns = schi_since(now, schi_counted(&times->spawned));
    info->phase_ns = schi_since(now, then);
}

/* Take a task that waits and look at it. false: it does not wait. */
static bool schi_look_waiting(sch_runtime *rt, sch_task *task, schi_seen_task *s) {
    SCHI_STATE wait, kind;
    uint64_t now;
    schi_walk_says(rt, (uint32_t)SCHI_WALK_BORROWS);
    if (!schi_task_borrow(task, &wait)) {
        schi_walk_says(rt, (uint32_t)SCHI_WALK_BETWEEN);
        return false;
    }
    (void)schi_task_sight(task, &s->is); /* it is ours now */
    now = schi_clock(rt);
    kind = s->is.state & (SCHI_POLL | SCHI_JOB);
    s->info.phase = SCH_PHASE_WAITING;
    if (kind == SCHI_POLL) {
        schi_say_poll(s, task, now);
    } else if (kind == SCHI_JOB) {
        schi_say_frame(s, &task->on.thread->frame, now);
    } else {
        const schi_frame *f = &task->on.stack->frame;
        schi_say_frame(s, f, now);
        if (f->since && !rt->config.task_times) s->info.phase_ns = schi_now_ns() - f->since;
        schi_stack_look(task->on.stack, &s->look);
    }
    if (rt->config.task_times) schi_look_at_times(task, &s->info);
    if (!schi_task_idle(task, wait)) schi_schedule(schi_self(), task);
    schi_walk_says(rt, (uint32_t)SCHI_WALK_BETWEEN);
    return true;
}

/* The core that a thread holds, SCHI_NO_CORE: none. Under idle.lock. */
static unsigned schi_core_of(sch_runtime *rt, unsigned thread) {
    for (unsigned i = 0; i < rt->num_cores; i++) {
        if (schi_counted(&rt->cores[i]->m.thread) != thread) continue;
        if (!schi_idle_is_lent(&rt->idle, i)) return i;
    }
    return SCHI_NO_CORE;
}

/* A task that does not wait: does it run? */
static void schi_look_running(sch_runtime *rt, sch_task *task, schi_seen_task *s) {
    schi_lock(&rt->idle.lock); /* records of threads stay while we look */
    for (unsigned i = 0; i < rt->top_thread; i++) {
        if (!rt->threads[i] || schi_current(rt->threads[i]) != task) continue;
        s->info.worker = schi_core_of(rt, i);
        s->info.phase = s->info.worker != SCHI_NO_CORE || rt->threads[i]->kind == SCHI_BLOCKING
                            ? SCH_PHASE_RUNNING
                            : SCH_PHASE_BLOCKING;
    }
    schi_unlock(&rt->idle.lock);
}

/* Everything about the task in this block. false: there is none, or it has just ended. */
static bool schi_look_at_task(sch_runtime *rt, sch_task *task, schi_seen_task *s) {
    const sch_spawn_desc *desc;
    sch_task_info *info = &s->info;
    memset(info, 0, sizeof *info);
    s->length = 0;
    s->text[0] = 0;
    s->look.num = 0;
    info->worker = UINT_MAX;
    info->phase_ns = info->age_ns = UINT64_MAX;
    info->wait = SCH_WAIT_KINDS;
    if (!schi_look_waiting(rt, task, s)) {
        schi_sight after;
        if (!schi_task_sight(task, &s->is)) return false;
        schi_look_running(rt, task, s);
        if (rt->config.task_times) schi_look_at_times(task, info);
        if (!schi_task_sight(task, &after) || after.id != s->is.id) return false;
    }
    desc = s->is.desc;
    info->id = s->is.id;
    info->name = desc && desc->name ? desc->name : "";
    info->file = desc && desc->file ? desc->file : "";
    info->line = desc ? desc->line : 0;
    memcpy(&info->fn, &s->is.fn, sizeof info->fn);
    info->kind = s->is.state & SCHI_POLL  ? SCH_TASK_POLL
                 : s->is.state & SCHI_JOB ? SCH_TASK_BLOCKING
                                          : SCH_TASK_STACK;
    info->cancelled = (s->is.state & SCHI_CANCELLED) != 0;
    info->wait_text = s->text;
    info->frames = s->look.frames;
    info->num_frames = s->look.num;
    return true;
}

/* One walk over all slabs. */
typedef struct schi_walk {
    sch_runtime *rt;
    sch_task_fn fn;
    void *user;
    schi_seen_task seen;
} schi_walk;

static int schi_walk_heap(schi_walk *w, schi_heap *heap) {
    schi_slab *s = heap ? schi_load_acq(&heap->slabs) : NULL; /* acq: pairs with grow */
    for (; s; s = s->next) {
        uint32_t used = schi_load_acq(&s->used); /* acq: pairs with alloc */
        for (uint32_t i = 0; i < used; i++) {
            int result;
            if (!schi_look_at_task(w->rt, schi_slab_block(s, i), &w->seen)) continue;
            result = w->fn(&w->seen.info, w->user);
            if (result) return result;
        }
    }
    return 0;
}

static int schi_walk_tasks(sch_runtime *rt, sch_task_fn fn, void *user) {
    schi_walk w;
    int result = 0;
    w.rt = rt;
    w.fn = fn;
    w.user = user;
    for (unsigned c = 0; c <= rt->num_cores; c++) {
        for (unsigned i = 0; i < SCHI_HEAP_CLASSES && !result; i++) {
            schi_heap *heap;
            if (c < rt->num_cores) {
                /* acq: pairs with rel in core_heap */
                heap = schi_load_acq(&rt->cores[c]->heaps[i]);
            } else {
                schi_lock(&rt->shared_lock);
                heap = rt->shared_heaps[i];
                schi_unlock(&rt->shared_lock);
            }
            result = schi_walk_heap(&w, heap);
        }
    }
    return result;
}

/* Be the only one who walks. 0, or a negative errno. */
static int schi_walk_begin(sch_runtime *rt) {
    schi_thread *th = schi_self();
    uint32_t none = SCHI_WALK_NONE;
    if (th && th->no_wait > 0) return -EPERM;
    schi_add_seq(&rt->guests, 1u); /* sch_runtime_free waits */
    /* acqrel: what the walk before left is ours. */
    if (schi_cas_acqrel(&rt->walking, &none, (uint32_t)SCHI_WALK_BETWEEN)) return 0;
    schi_sub_seq(&rt->guests, 1u);
    return -EBUSY;
}

static void schi_walk_end(sch_runtime *rt) {
    schi_store_seq(&rt->walking, (uint32_t)SCHI_WALK_NONE);
    schi_sub_seq(&rt->guests, 1u);
}

/* Dump as text ----------------------------------------------------------------------------------*/

/* What the dynamic linker knows of an address; dladdr is not in every libc's strict headers. */
typedef struct schi_symbol {
    const char *file;
    void *base;
    const char *name;
    void *address;
} schi_symbol;

#if defined(__APPLE__)
extern int schi_libc_dladdr(const void *address, schi_symbol *out) __asm__("_dladdr");
#else
extern int schi_libc_dladdr(const void *address, schi_symbol *out) __asm__("dladdr")
    __attribute__((weak));
#endif

static bool schi_symbol_of(const void *address, schi_symbol *out) {
    int (*find)(const void *, schi_symbol *) = schi_libc_dladdr;
    memset(out, 0, sizeof *out);
    return find && find(address, out) != 0;
}

static void schi_put_hex(schi_text *t, uint64_t n) {
    char digits[16];
    unsigned i = 0;
    do digits[i++] = "0123456789abcdef"[n & 15], n >>= 4; while (n);
    schi_put(t, "0x");
    while (i) schi_put_char(t, digits[--i]);
}

/* An address: in function+0x12 in program(+0x1234), as far as that is known. */
static void schi_put_address(schi_text *t, const void *address) {
    uint64_t at = (uint64_t)(uintptr_t)address;
    schi_symbol symbol;
    schi_put_hex(t, at);
    if (!schi_symbol_of(address, &symbol)) return;
    if (symbol.name) {
        schi_put(t, " "), schi_put(t, symbol.name);
        schi_put(t, "+"), schi_put_hex(t, at - (uint64_t)(uintptr_t)symbol.address);
    }
    if (symbol.file) {
        schi_put(t, " in "), schi_put(t, symbol.file);
        schi_put(t, "(+"), schi_put_hex(t, at - (uint64_t)(uintptr_t)symbol.base), schi_put(t, ")");
    }
}

static void schi_put_frames(schi_text *t, void *const *frames, size_t n) {
    for (size_t i = 0; i < n; i++) {
        schi_put(t, "    "), schi_put_address(t, frames[i]), schi_put(t, "\n");
    }
}

/* task 2049 "reader" server.c:120 */
static void schi_put_task(schi_text *t, uint64_t id, const char *name, const char *file,
                          unsigned line, const void *fn) {
    schi_put(t, "task "), schi_put_uint(t, id);
    if (*name) {
        schi_put(t, " \""), schi_put(t, name), schi_put(t, "\"");
    } else if (!*file) {
        schi_put(t, " "), schi_put_address(t, fn);
    }
    if (*file) schi_put(t, " "), schi_put(t, file), schi_put(t, ":"), schi_put_uint(t, line);
}

static int schi_dump_task(const sch_task_info *i, void *text) {
    static const char *const kinds[] = {"stack", "poll", "blocking"};
    static const char *const phases[] = {"queued", "running", "in blocking code", "waiting"};
    schi_text *t = (schi_text *)text;
    schi_put(t, "\n");
    schi_put_task(t, i->id, i->name, i->file, i->line, i->fn);
    schi_put(t, ", "), schi_put(t, kinds[i->kind]), schi_put(t, i->cancelled ? ", cancelled" : "");
    schi_put(t, ", "), schi_put(t, phases[i->phase]);
    if (i->worker != UINT_MAX) schi_put(t, " on worker "), schi_put_uint(t, i->worker);
    if (i->phase_ns != UINT64_MAX) schi_put(t, " for "), schi_put_time(t, i->phase_ns);
    if (*i->wait_text) schi_put(t, ": "), schi_put(t, i->wait_text);
    if (i->age_ns != UINT64_MAX) {
        schi_put(t, ", spawned "), schi_put_time(t, i->age_ns), schi_put(t, " ago");
    }
    schi_put(t, "\n");
    schi_put_frames(t, i->frames, i->num_frames);
    return t->result;
}

/* What a core does at this moment. */
typedef struct schi_core_sight {
    bool idle, lent;
    uint64_t polls;
    uint64_t thread; /* UINT64_MAX: none */
    sch_task *task;  /* only to be compared; NULL: between two polls, or searching */
    schi_sight is;   /* what it is */
} schi_core_sight;

static void schi_core_see(sch_runtime *rt, unsigned i, schi_core_sight *s) {
    uint64_t bit = UINT64_C(1) << (i % 64);
    sch_task *task = NULL;
    schi_lock(&rt->idle.lock); /* records of threads stay while we look */
    s->idle = (rt->idle.idle[i / 64] & bit) != 0;
    s->lent = schi_idle_is_lent(&rt->idle, i);
    s->polls = schi_counted(&rt->cores[i]->m.polls);
    s->thread = schi_counted(&rt->cores[i]->m.thread);
    if (!s->idle && !s->lent && s->thread < rt->top_thread && rt->threads[s->thread]) {
        task = schi_current(rt->threads[s->thread]);
        /* It may end at any moment: then it is not running there. */
        if (task && !schi_task_sight(task, &s->is)) task = NULL;
        if (task && schi_current(rt->threads[s->thread]) != task) task = NULL;
    }
    s->task = task;
    schi_unlock(&rt->idle.lock);
}

/* Let a moment pass. false: the caller cannot wait. */
static bool schi_moment(sch_runtime *rt) {
    schi_thread *th = schi_self();
    bool slept;
    if (schi_may_wait(th) != 0 || rt->config.paused_clock) return false;
    if (!schi_in_task(th)) {
        schi_fd_nap();
        return true;
    }
    if (sch_shield_begin(SCH_FOREVER) != 0) return false; /* a cancel is for the caller to see */
    slept = sch_sleep(SCH_MILLISECOND) == 0;
    sch_shield_end();
    return slept;
}

/* What one worker does. polls: its counter when the dump began; it has until the deadline to come
 * to the end of a poll that it was in then. */
static void schi_dump_worker(schi_text *t, sch_runtime *rt, unsigned i, uint64_t polls,
                             uint64_t start, uint64_t deadline) {
    schi_core_sight s;
    bool busy;
    for (;;) {
        schi_core_see(rt, i, &s);
        busy = s.task && s.polls == polls && s.task != sch_self();
        if (!busy || schi_now_ns() >= deadline || !schi_moment(rt)) break;
    }
    schi_put(t, "worker "), schi_put_uint(t, i);
    if (s.task) {
        const sch_spawn_desc *desc = s.is.desc;
        const void *fn;
        memcpy(&fn, &s.is.fn, sizeof fn);
        schi_put(t, busy ? ": busy with " : ": runs ");
        schi_put_task(t, s.is.id, desc && desc->name ? desc->name : "",
                      desc && desc->file ? desc->file : "", desc ? desc->line : 0, fn);
        if (busy) {
            schi_put(t, ", the same poll for at least ");
            schi_put_time(t, schi_since(schi_now_ns(), start));
        }
    } else {
        schi_put(t, s.idle ? ": parked" : s.lent ? ": lent to blocking code" : ": between polls");
    }
    schi_put(t, ", "), schi_put_uint(t, schi_runq_len(&rt->cores[i]->q)), schi_put(t, " queued\n");
}

static int schi_dump(sch_runtime *rt, uint64_t timeout, sch_write_fn write, void *user) {
    const sch_allocator *a = &rt->config.allocator;
    size_t size = rt->num_cores * sizeof(uint64_t);
    uint64_t *polls = (uint64_t *)schi_alloc(a, size, sizeof(uint64_t)), start = schi_now_ns();
    uint64_t deadline = schi_saturating_add(start, timeout ? timeout : 250 * SCH_MILLISECOND);
    schi_text t;
    int result;
    if (!polls) return -ENOMEM;
    for (unsigned i = 0; i < rt->num_cores; i++) polls[i] = schi_counted(&rt->cores[i]->m.polls);
    schi_text_init(&t, write, user);
    schi_put(&t, "tasks "), schi_put_uint(&t, schi_num_alive(rt));
    schi_put(&t, ", workers "), schi_put_uint(&t, rt->num_cores);
    schi_put(&t, ", in the injector "), schi_put_uint(&t, schi_inject_len(&rt->inject, NULL));
    schi_put(&t, "\n");
    for (unsigned i = 0; i < rt->num_cores && t.result == 0; i++) {
        schi_dump_worker(&t, rt, i, polls[i], start, deadline);
    }
    schi_free(a, polls, size, sizeof(uint64_t));
    result = t.result ? t.result : schi_walk_tasks(rt, schi_dump_task, &t);
    return schi_text_flush(&t) ? t.result : result;
}

/*==================================================================================================
 * MARK: - [17.3] Trace, written (private)
 *   The rings of all cores as one timeline in the JSON of Chrome's trace viewer and Perfetto.
 *   Uses [10] [17.1] [17.2].  Used by [18].  Tests: tests/trace, tests/unit/trace.c
 *
 *   The rings are copied and merged by time. A first pass finds where each slice ends, since the
 *   format wants lengths; the second writes. A track has one slice at a time: the polls of a core,
 *   or what a thread does without one. An arrow leaves inside a slice: a wake from outside of any
 *   gets a short slice of its own.
 *   Source  "Trace Event Format" (Chromium), and what Perfetto's importer makes of it.
 *================================================================================================*/

/* A place on the timeline. */
typedef struct schi_moment_of {
    schi_trace_entry e;
    uint64_t end;     /* of the slice that begins here */
    unsigned ring;    /* the core's; num_cores: the common one */
    unsigned track;
    schi_end how;     /* BEGIN: how it ended */
    bool open;        /* SPAWN, WAKE: inside a slice. Others: a slice begins here */
} schi_moment_of;

typedef struct schi_arrow { /* the last wake of a task */
    uint64_t task, number;
} schi_arrow;

typedef struct schi_timeline {
    sch_runtime *rt;
    schi_moment_of *all;  /* in the order of time */
    uint64_t num, room;
    schi_moment_of **last; /* by track: the slice that is open, NULL: none */
    unsigned num_tracks;
    schi_arrow *arrows;   /* by a hash of the task */
    uint64_t arrow_mask, num_arrows, from, until;
} schi_timeline;

static schi_trace_kind schi_entry_kind(const schi_trace_entry *e) {
    return (schi_trace_kind)(e->what >> 56);
}

static uint32_t schi_entry_thread(const schi_trace_entry *e) {
    return (uint32_t)(e->what >> 32) & SCHI_NO_THREAD;
}

static uint32_t schi_entry_aux(const schi_trace_entry *e) { return (uint32_t)e->what; }

static bool schi_is_arrow(const schi_trace_entry *e) {
    return schi_entry_kind(e) == SCHI_TRACE_SPAWN || schi_entry_kind(e) == SCHI_TRACE_WAKE;
}

/* Tracks: the cores, then the threads by number, then everybody else. */
static unsigned schi_thread_track(const schi_timeline *t, const schi_trace_entry *e) {
    unsigned number = schi_entry_thread(e), last = t->num_tracks - 1;
    return number < last - t->rt->num_cores ? t->rt->num_cores + number : last;
}

/* Close the slice that is open on a track. */
static void schi_track_close(schi_timeline *t, unsigned track, const schi_trace_entry *e) {
    schi_moment_of *begun = t->last[track];
    if (!begun) return;
    begun->end = e->time;
    if (schi_entry_kind(e) == SCHI_TRACE_END) begun->how = (schi_end)schi_entry_aux(e);
    t->last[track] = NULL;
}

static void schi_track_open(schi_timeline *t, unsigned track, schi_moment_of *m) {
    schi_track_close(t, track, &m->e);
    m->track = track;
    m->open = true;
    m->end = UINT64_MAX; /* as long as nothing ends it */
    t->last[track] = m;
}

/* First pass: what begins and ends where. */
static void schi_timeline_place(schi_timeline *t, schi_moment_of *m) {
    unsigned own = m->ring < t->rt->num_cores ? m->ring : schi_thread_track(t, &m->e);
    m->track = own;
    switch (schi_entry_kind(&m->e)) {
    case SCHI_TRACE_BEGIN:
    case SCHI_TRACE_PARK:
    case SCHI_TRACE_SEARCH: schi_track_open(t, own, m); break;
    case SCHI_TRACE_END:
    case SCHI_TRACE_UNPARK: schi_track_close(t, own, &m->e); break;
    case SCHI_TRACE_LEAVE:
        schi_track_close(t, own, &m->e);
        schi_track_open(t, schi_thread_track(t, &m->e), m);
        break;
    case SCHI_TRACE_RETURN:
        schi_track_close(t, schi_thread_track(t, &m->e), &m->e);
        schi_track_open(t, own, m);
        break;
    case SCHI_TRACE_SPAWN:
    case SCHI_TRACE_WAKE: m->open = t->last[own] != NULL; break;
    case SCHI_TRACE_STEAL: /* the search is over */
    case SCHI_TRACE_DRIVER:
    case SCHI_TRACE_TIMERS: break;
    }
}

/* Copy all rings and merge them by time; a wake goes before a poll at the same time. */
static void schi_timeline_merge(schi_timeline *t, schi_trace_entry *copy, uint64_t *next,
                                uint64_t *end) {
    unsigned rings = t->rt->num_cores + 1;
    for (;;) {
        schi_trace_entry *first = NULL;
        unsigned from = 0;
        for (unsigned i = 0; i < rings; i++) {
            schi_trace_entry *e = &copy[next[i]];
            if (next[i] == end[i]) continue;
            if (first && (e->time > first->time ||
                          (e->time == first->time && !schi_is_arrow(e)))) continue;
            first = e;
            from = i;
        }
        if (!first) return;
        next[from]++;
        if (first->time > t->until) return; /* the rings were not copied at the same time */
        if (first->time < t->from) continue; /* of a trace before */
        memset(&t->all[t->num], 0, sizeof *t->all);
        t->all[t->num].e = *first;
        t->all[t->num].ring = from;
        schi_timeline_place(t, &t->all[t->num++]);
    }
}

static uint64_t schi_arrow_place(const schi_timeline *t, uint64_t task) {
    uint64_t i = schi_mix(task) & t->arrow_mask;
    while (t->arrows[i].task != 0 && t->arrows[i].task != task) i = (i + 1) & t->arrow_mask;
    return i;
}

static void schi_put_json(schi_text *t, const char *text) {
    schi_put_char(t, '"');
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') schi_put_char(t, '\\');
        if (c >= 32) {
            schi_put_char(t, (char)c);
        } else {
            schi_put(t, "\\u00");
            schi_put_char(t, (char)('0' + (c >> 4)));
            schi_put_char(t, "0123456789abcdef"[c & 15]);
        }
    }
    schi_put_char(t, '"');
}

/* Microseconds, with decimals. */
static void schi_put_us(schi_text *t, uint64_t ns) { schi_put_fraction(t, ns, 3); }

/* What all events have. */
static void schi_put_event(schi_text *t, const schi_timeline *line, const char *phase,
                           unsigned track, uint64_t time) {
    schi_put(t, ",\n{\"ph\":\""), schi_put(t, phase), schi_put(t, "\",\"pid\":1,\"tid\":");
    schi_put_uint(t, track + 1), schi_put(t, ",\"ts\":"), schi_put_us(t, time - line->from);
}

/* The name of the task of a BEGIN, LEAVE or RETURN, and where it was spawned. */
static const char *schi_entry_name(const schi_trace_entry *e, const sch_spawn_desc **desc) {
    schi_symbol symbol;
    *desc = NULL;
    if (schi_entry_aux(e) & 1) *desc = (const sch_spawn_desc *)(uintptr_t)e->other;
    if (*desc) return (*desc)->name && *(*desc)->name ? (*desc)->name : "task";
    if (schi_symbol_of((const void *)(uintptr_t)e->other, &symbol) && symbol.name) {
        return symbol.name;
    }
    return "task";
}

/* A slice of a task: its poll, or its blocking code. */
static void schi_put_task_slice(schi_text *t, const schi_timeline *line, const schi_moment_of *m,
                                const char *category, uint64_t end) {
    static const char *const ends[] = {"waits", "yields", "over"};
    const sch_spawn_desc *desc;
    const char *name = schi_entry_name(&m->e, &desc);
    schi_put_event(t, line, "X", m->track, m->e.time);
    schi_put(t, ",\"dur\":"), schi_put_us(t, end - m->e.time);
    schi_put(t, ",\"cat\":\""), schi_put(t, category), schi_put(t, "\",\"name\":");
    schi_put_json(t, name);
    schi_put(t, ",\"args\":{\"task\":"), schi_put_uint(t, m->e.task);
    if (desc && desc->file) {
        schi_put(t, ",\"at\":");
        schi_put_json(t, desc->file);
        t->length--; /* the closing quote comes after the line */
        schi_put_char(t, ':'), schi_put_uint(t, desc->line), schi_put_char(t, '"');
    }
    if (schi_entry_kind(&m->e) == SCHI_TRACE_RETURN) schi_put(t, ",\"resumed\":true");
    if (m->end != UINT64_MAX && schi_entry_kind(&m->e) != SCHI_TRACE_LEAVE) {
        schi_put(t, ",\"end\":\""), schi_put(t, ends[m->how]), schi_put(t, "\"");
    }
    schi_put(t, "}}");
}

static void schi_put_slice(schi_text *t, const schi_timeline *line, const schi_moment_of *m,
                           const char *name, uint64_t end) {
    schi_put_event(t, line, "X", m->track, m->e.time);
    schi_put(t, ",\"dur\":"), schi_put_us(t, end - m->e.time);
    schi_put(t, ",\"cat\":\"sched\",\"name\":\""), schi_put(t, name), schi_put(t, "\"}");
}

static void schi_put_instant(schi_text *t, const schi_timeline *line, const schi_moment_of *m,
                             const char *name, const char *what, uint64_t n) {
    schi_put_event(t, line, "i", m->track, m->e.time);
    schi_put(t, ",\"s\":\"t\",\"cat\":\"sched\",\"name\":\""), schi_put(t, name);
    schi_put(t, "\",\"args\":{\""), schi_put(t, what), schi_put(t, "\":");
    schi_put_uint(t, n), schi_put(t, "}}");
}

/* One end of an arrow. */
static void schi_put_arrow(schi_text *t, const schi_timeline *line, const schi_moment_of *m,
                           bool start, uint64_t number) {
    const char *name = number & 1 ? "spawn" : "wake";
    schi_put_event(t, line, start ? "s" : "f", m->track, m->e.time);
    schi_put(t, start ? ",\"id\":" : ",\"bp\":\"e\",\"id\":"), schi_put_uint(t, number >> 1);
    schi_put(t, ",\"cat\":\""), schi_put(t, name);
    schi_put(t, "\",\"name\":\""), schi_put(t, name), schi_put(t, "\"");
    schi_put(t, ",\"args\":{\"task\":"), schi_put_uint(t, m->e.task), schi_put(t, "}}");
}

/* A spawn or wake: an arrow begins. next: the time of what follows on its ring. */
static void schi_put_arrow_start(schi_text *t, schi_timeline *line, const schi_moment_of *m,
                                 uint64_t next) {
    bool spawn = schi_entry_kind(&m->e) == SCHI_TRACE_SPAWN;
    uint64_t place = schi_arrow_place(line, m->e.task);
    if (!m->open) {
        uint64_t end = m->e.time + SCH_MICROSECOND;
        schi_put_slice(t, line, m, spawn ? "spawn" : "wake", end < next ? end : next);
    }
    line->arrows[place].task = m->e.task;
    line->arrows[place].number = ++line->num_arrows << 1 | spawn;
    schi_put_arrow(t, line, m, true, line->arrows[place].number);
}

/* A poll begins; the arrow of what made it ready ends here. */
static void schi_put_poll(schi_text *t, schi_timeline *line, const schi_moment_of *m,
                          uint64_t end) {
    uint64_t place = schi_arrow_place(line, m->e.task);
    schi_put_task_slice(t, line, m, "poll", end);
    if (line->arrows[place].task == 0 || line->arrows[place].number == 0) return;
    schi_put_arrow(t, line, m, false, line->arrows[place].number);
    line->arrows[place].number = 0;
}

/* Second pass: write one moment. next: the time of the next on its ring. */
static void schi_put_moment(schi_text *t, schi_timeline *line, const schi_moment_of *m,
                            uint64_t next, uint64_t last) {
    uint64_t end = m->end == UINT64_MAX ? last : m->end;
    uint32_t aux = schi_entry_aux(&m->e);
    switch (schi_entry_kind(&m->e)) {
    case SCHI_TRACE_SPAWN:
    case SCHI_TRACE_WAKE: schi_put_arrow_start(t, line, m, next); break;
    case SCHI_TRACE_BEGIN: schi_put_poll(t, line, m, end); break;
    case SCHI_TRACE_RETURN: schi_put_task_slice(t, line, m, "poll", end); break;
    case SCHI_TRACE_LEAVE: schi_put_task_slice(t, line, m, "blocking", end); break;
    case SCHI_TRACE_PARK: schi_put_slice(t, line, m, "parked", end); break;
    case SCHI_TRACE_SEARCH: schi_put_slice(t, line, m, "searching", end); break;
    case SCHI_TRACE_STEAL: schi_put_instant(t, line, m, "steal", "tasks", aux & 0xffff); break;
    case SCHI_TRACE_DRIVER: schi_put_instant(t, line, m, "driver", "events", aux); break;
    case SCHI_TRACE_TIMERS: schi_put_instant(t, line, m, "timers", "expired", aux); break;
    case SCHI_TRACE_END:
    case SCHI_TRACE_UNPARK: break;
    }
}

/* Names of the tracks that have something. */
static void schi_put_tracks(schi_text *t, const schi_timeline *line, const bool *used) {
    unsigned cores = line->rt->num_cores;
    schi_put(t, "{\"ph\":\"M\",\"pid\":1,\"tid\":0,\"ts\":0,\"name\":\"process_name\",");
    schi_put(t, "\"args\":{\"name\":");
    schi_put_json(t, line->rt->config.thread_name), schi_put(t, "}}");
    for (unsigned i = 0; i < line->num_tracks; i++) {
        if (!used[i]) continue;
        schi_put_event(t, line, "M", i, line->from);
        schi_put(t, ",\"name\":\"thread_name\",\"args\":{\"name\":\"");
        if (i < cores) {
            schi_put(t, "worker "), schi_put_uint(t, i);
        } else if (i + 1 < line->num_tracks) {
            schi_put(t, "thread "), schi_put_uint(t, i - cores), schi_put(t, " without a core");
        } else {
            schi_put(t, "other threads");
        }
        schi_put(t, "\"}}");
        schi_put_event(t, line, "M", i, line->from);
        schi_put(t, ",\"name\":\"thread_sort_index\",\"args\":{\"sort_index\":");
        schi_put_uint(t, i), schi_put(t, "}}");
    }
}

static void schi_put_timeline(schi_text *t, schi_timeline *line, bool *used, uint64_t *next) {
    uint64_t last = line->num ? line->all[line->num - 1].e.time : 0;
    if (line->until > last) last = line->until; /* what is open has lasted until then */
    for (uint64_t i = 0; i < line->num; i++) used[line->all[i].track] = true;
    schi_put(t, "{\"traceEvents\":[\n");
    schi_put_tracks(t, line, used);
    /* From the end: the time of what follows on the same ring, kept where `end` is of no use. */
    for (unsigned i = 0; i <= line->rt->num_cores; i++) next[i] = UINT64_MAX;
    for (uint64_t i = line->num; i-- > 0;) {
        schi_moment_of *m = &line->all[i];
        if (schi_is_arrow(&m->e)) m->end = next[m->ring];
        next[m->ring] = m->e.time;
    }
    for (uint64_t i = 0; i < line->num && t->result == 0; i++) {
        schi_moment_of *m = &line->all[i];
        schi_put_moment(t, line, m, m->end, last);
    }
    schi_put(t, "\n]}\n");
}

/* All memory that writing takes, in one piece. */
typedef struct schi_timeline_memory {
    uint64_t room, arrows, rings;
    size_t size;
    char *at;
} schi_timeline_memory;

static void *schi_timeline_take(schi_timeline_memory *m, uint64_t n, size_t size) {
    void *place = m->at ? m->at + m->size : NULL;
    m->size += schi_round_up((size_t)n * size, 16);
    return place;
}

/* Lay out the arrays; with m->at NULL only their size. */
static void schi_timeline_layout(schi_timeline *t, schi_timeline_memory *m, schi_trace_entry **copy,
                                 uint64_t **next, uint64_t **end, bool **used) {
    m->size = 0;
    t->all = (schi_moment_of *)schi_timeline_take(m, m->room, sizeof *t->all);
    *copy = (schi_trace_entry *)schi_timeline_take(m, m->room, sizeof **copy);
    t->arrows = (schi_arrow *)schi_timeline_take(m, m->arrows, sizeof *t->arrows);
    t->last = (schi_moment_of **)schi_timeline_take(m, t->num_tracks, sizeof *t->last);
    *next = (uint64_t *)schi_timeline_take(m, m->rings, sizeof **next);
    *end = (uint64_t *)schi_timeline_take(m, m->rings, sizeof **end);
    *used = (bool *)schi_timeline_take(m, t->num_tracks, sizeof **used);
}

static schi_trace *schi_trace_of(sch_runtime *rt, unsigned ring) {
    /* acq, both: pairs with start */
    if (ring < rt->num_cores) return schi_load_acq(&rt->cores[ring]->trace);
    return schi_load_acq(&rt->trace); /* acq: as above */
}

static int schi_trace_write(sch_runtime *rt, schi_text *text) {
    const sch_allocator *a = &rt->config.allocator;
    schi_timeline t;
    schi_timeline_memory m;
    schi_trace_entry *copy;
    uint64_t *next, *end, at = 0;
    bool *used, lapped = false;
    memset(&t, 0, sizeof t);
    memset(&m, 0, sizeof m);
    t.rt = rt;
    t.from = schi_load_seq(&rt->trace_from);
    t.until = schi_load_seq(&rt->trace_until);
    m.rings = rt->num_cores + 1;
    for (unsigned i = 0; i < m.rings; i++) m.room += schi_trace_of(rt, i)->size;
    for (m.arrows = 2; m.arrows < 2 * m.room;) m.arrows *= 2;
    schi_lock(&rt->idle.lock);
    t.num_tracks = rt->num_cores + rt->top_thread + 1;
    schi_unlock(&rt->idle.lock);
    schi_timeline_layout(&t, &m, &copy, &next, &end, &used);
    m.at = (char *)schi_alloc_zeroed(a, m.size, 16);
    if (!m.at) return -ENOMEM;
    schi_timeline_layout(&t, &m, &copy, &next, &end, &used);
    t.arrow_mask = m.arrows - 1;
    if (t.until == 0) t.until = schi_now_ns();
    for (unsigned i = 0; i < m.rings; i++) {
        schi_trace *ring = schi_trace_of(rt, i);
        next[i] = at;
        end[i] = at + schi_trace_copy(ring, copy + at);
        if (next[i] < end[i] && copy[at].time > t.until) { /* we were held up: is more gone? */
            lapped |= schi_load_acq(&ring->head) > ring->size; /* acq: as in copy */
        }
        at += ring->size;
    }
    if (lapped) t.until = schi_now_ns();
    schi_timeline_merge(&t, copy, next, end);
    schi_put_timeline(text, &t, used, next);
    schi_free(a, m.at, m.size, 16);
    return schi_text_flush(text);
}

/* Make the rings, once. Two that start at the same time make each ring once, too. */
static int schi_trace_make(sch_runtime *rt) {
    const sch_allocator *a = &rt->config.allocator;
    int error = 0;
    schi_lock(&rt->shared_lock);
    for (unsigned i = 0; i <= rt->num_cores && !error; i++) {
        schi_trace *t = schi_trace_of(rt, i);
        if (t) continue;
        t = schi_trace_new(a, rt->config.trace_events);
        if (!t) error = -ENOMEM;
        /* rel: pairs with acq in trace_event and trace_of. */
        if (i < rt->num_cores) schi_store_rel(&rt->cores[i]->trace, t);
        else schi_store_rel(&rt->trace, t); /* rel: as above */
    }
    schi_unlock(&rt->shared_lock);
    return error;
}

/*==================================================================================================
 * MARK: - [17.4] Watchdog (private)
 *   A thread that tells of polls that last too long, and dumps at a signal.
 *   Uses [3.1] [13] [17.2].  Used by [18].  Tests: tests/unit/dump.c
 *
 *   With config.stall_ns it looks four times in that time, at most each millisecond: a core that is
 *   in the same poll of the same task as at the look before has been so since then at least. It has
 *   a thread of its own because all workers may be stuck, and a current-thread runtime has none. It
 *   takes no part in scheduling.
 *   The stack of a running poll: its thread is sent config.stack_signal, and the handler writes
 *   down where it is. `shot` is handed over by its state: NONE -> ASKED (the watchdog has filled in
 *   whose) -> TAKING (the handler, by compare-and-swap) -> DONE; the watchdog may take back what is
 *   only ASKED. Shots are numbered: a handler that comes too late finds another one.
 *================================================================================================*/
typedef struct schi_stall_look {
    uint64_t polls, task; /* of the poll that was seen last; task 0: none */
    uint64_t since;       /* when it was first seen */
    uint64_t counted;     /* reported: up to when its time is counted; 0: not reported */
    SCHI_INDEX tail;      /* of the queue then */
    size_t queued;
    bool lifo;
} schi_stall_look;

enum { SCHI_SHOT_NONE, SCHI_SHOT_ASKED, SCHI_SHOT_TAKING, SCHI_SHOT_DONE };

typedef struct schi_watchdog {
    sch_runtime *rt;
    schi_os_thread thread;
    int stop[2];     /* a pipe: a byte wakes it ... */
    schi_word over;  /* ... to stop */
    int signals;     /* config.dump_signal comes here; -1: none */
    struct {
        schi_word state;               /* SCHI_SHOT_..., and 4 times the number of the shot */
        SCHI_ATOMIC(schi_thread *) of; /* whom it is asked of */
        uint32_t number;               /* 4 times */
        unsigned num;
        void *frames[SCHI_FRAMES];
    } shot;
    schi_stall_look *looks; /* by core */
} schi_watchdog;

/* The handler of config.stack_signal: where is this thread? Async-signal-safe but for backtrace(),
 * which the watchdog has called before, so that it loads nothing here. */
static void schi_shot_take(int number) {
    schi_thread *th = schi_self();
    schi_watchdog *w = th && th->rt ? th->rt->watchdog : NULL;
    uint32_t asked = w ? schi_load_acq(&w->shot.state) : 0; /* acq: pairs with rel in ask */
    int saved = errno;
    char here;
    /* rlx: of this shot, or a later one, and then the swap fails */
    bool ours = asked % 4 == SCHI_SHOT_ASKED && schi_load_rlx(&w->shot.of) == th;
    /* acqrel: taken, or taken back meanwhile */
    if (ours && schi_cas_acqrel(&w->shot.state, &asked, asked + 1)) {
        schi_stack *s = th->stack;
        if (!s || (size_t)(&here - s->mapping) > SCHI_SHOW_ROOM + schi_page_size()) {
            w->shot.num = schi_backtrace(w->shot.frames, SCHI_FRAMES);
        }
        schi_store_rel(&w->shot.state, asked + 2); /* rel: DONE, pairs with acq in ask */
    }
    (void)number;
    errno = saved;
}

/* Ask the thread that runs this task for its stack. */
static void schi_shot_ask(schi_watchdog *w, uint64_t thread, const sch_task *task) {
    sch_runtime *rt = w->rt;
    uint32_t asked = (w->shot.number += 4) + SCHI_SHOT_ASKED, back = asked;
    bool sent = false;
    w->shot.num = 0;
    if (!rt->config.stack_signal) return;
    (void)schi_backtrace(w->shot.frames, 1); /* loads what it needs */
    schi_lock(&rt->idle.lock); /* while it is listed the thread is there */
    if (thread < rt->top_thread && rt->threads[thread] &&
        schi_current(rt->threads[thread]) == task) {
        schi_store_rlx(&w->shot.of, rt->threads[thread]); /* rlx: published by the next store */
        schi_store_rel(&w->shot.state, asked); /* rel: pairs with acq in the handler */
        sent = schi_thread_signal(rt->threads[thread]->os, rt->config.stack_signal) == 0;
    }
    schi_unlock(&rt->idle.lock);
    /* acq: pairs with rel in the handler */
    for (int i = 0; i < 100 && sent && schi_load_acq(&w->shot.state) != asked + 2; i++) {
        schi_fd_nap();
    }
    /* acqrel: taken back; it was never asked; or the handler has taken it */
    if (schi_cas_acqrel(&w->shot.state, &back, w->shot.number)) return;
    if (back / 4 != asked / 4) return;
    while (schi_load_acq(&w->shot.state) != asked + 2) schi_fd_nap(); /* acq: as above */
}

static void schi_stall_report(schi_watchdog *w, unsigned i, schi_stall_look *look,
                              const schi_core_sight *sight, uint64_t now) {
    sch_runtime *rt = w->rt;
    schi_runq *q = &rt->cores[i]->q;
    const sch_spawn_desc *desc = sight->is.desc;
    SCHI_INDEX real = schi_runq_real_of(schi_load_acq(&q->head)); /* acq: only compared */
    SCHI_INDEX left = (SCHI_INDEX)(look->tail - real);
    sch_stall stall;
    memset(&stall, 0, sizeof stall);
    stall.worker = i;
    stall.task = sight->is.id;
    stall.name = desc && desc->name ? desc->name : "";
    stall.file = desc && desc->file ? desc->file : "";
    stall.line = desc ? desc->line : 0;
    memcpy(&stall.fn, &sight->is.fn, sizeof stall.fn);
    stall.ns = schi_since(now, look->since);
    stall.queued = look->queued;
    stall.left = (left <= SCH_RUNQ_CAP ? (size_t)left : 0) + (look->lifo && !schi_lifo_is_empty(q));
    if (stall.left > stall.queued) stall.left = stall.queued; /* its head went on meanwhile */
    schi_shot_ask(w, sight->thread, sight->task);
    stall.frames = w->shot.frames;
    stall.num_frames = w->shot.num;
    schi_count(&rt->stalls, 1);
    schi_count(&rt->stall_ns, stall.ns);
    look->counted = now;
    rt->config.on_stall(&stall, rt->config.watch_user);
}

static void schi_stall_look_at(schi_watchdog *w, unsigned i) {
    schi_core *core = w->rt->cores[i];
    schi_stall_look *look = &w->looks[i];
    schi_core_sight sight;
    uint64_t now;
    schi_core_see(w->rt, i, &sight);
    now = schi_now_ns();
    if (!sight.task || sight.polls != look->polls || sight.is.id != look->task) {
        look->polls = sight.polls;
        look->task = sight.task ? sight.is.id : 0;
        look->since = now;
        look->counted = 0;
        look->tail = schi_load_acq(&core->q.tail); /* acq: only compared */
        look->queued = schi_runq_len(&core->q);
        look->lifo = !schi_lifo_is_empty(&core->q);
        look->queued += look->lifo;
    } else if (look->counted) {
        schi_count(&w->rt->stall_ns, schi_since(now, look->counted));
        look->counted = now;
    } else if (now - look->since >= w->rt->config.stall_ns) {
        schi_stall_report(w, i, look, &sight, now);
    }
}

/* How long it sleeps between two looks, in ms; -1: until something comes. */
static int schi_watchdog_period(const sch_config *c) {
    uint64_t ms = c->stall_ns / 4 / SCH_MILLISECOND;
    if (c->stall_ns == 0) return -1;
    return ms == 0 ? 1 : ms > 1000 ? 1000 : (int)ms;
}

static void *schi_watchdog_main(void *arg) {
    schi_watchdog *w = (schi_watchdog *)arg;
    sch_runtime *rt = w->rt;
    struct pollfd p[2];
    bool asked = false; /* for a dump */
    schi_thread_name("sch-watchdog");
    p[0].fd = w->stop[0];
    p[1].fd = w->signals; /* poll(2) passes over -1 */
    p[0].events = p[1].events = POLLIN;
    for (;;) {
        p[0].revents = p[1].revents = 0;
        /* It fails only where the process may have less than two descriptors: look now and then. */
        if (poll(p, 2, asked ? 1 : schi_watchdog_period(&rt->config)) < 0) schi_fd_nap();
        if (schi_load_seq(&w->over)) return NULL;
        if (p[1].revents && schi_fd_signal(w->signals) > 0) asked = true;
        if (asked && schi_walk_begin(rt) == 0) { /* else later: somebody walks */
            uint64_t limit = rt->config.stall_ns / 4; /* not to miss a stall meanwhile */
            (void)schi_dump(rt, limit, rt->config.dump_write, rt->config.watch_user);
            schi_walk_end(rt);
            asked = false;
        }
        for (unsigned i = 0; i < rt->num_cores && rt->config.stall_ns; i++) {
            schi_stall_look_at(w, i);
        }
    }
}

static void schi_watchdog_free(schi_watchdog *w) {
    sch_runtime *rt = w->rt;
    const sch_allocator *a = &rt->config.allocator;
    for (int i = 0; i < 2; i++) {
        if (w->stop[i] >= 0) close(w->stop[i]);
    }
    if (w->signals >= 0) close(w->signals);
    schi_free(a, w->looks, rt->num_cores * sizeof *w->looks, sizeof(uint64_t));
    schi_free(a, w, sizeof *w, SCH_CACHELINE);
}

/* Start it, if the configuration asks for it. 0 or a negative errno. */
static int schi_watchdog_start(sch_runtime *rt) {
    const sch_config *c = &rt->config;
    schi_watchdog *w;
    int error = 0;
    if (!c->stall_ns && !c->dump_signal) return 0;
    w = (schi_watchdog *)schi_alloc_zeroed(&c->allocator, sizeof *w, SCH_CACHELINE);
    if (!w) return -ENOMEM;
    w->rt = rt;
    w->stop[0] = w->stop[1] = w->signals = -1;
    w->looks = (schi_stall_look *)schi_alloc_zeroed(
        &c->allocator, rt->num_cores * sizeof *w->looks, sizeof(uint64_t));
    if (!w->looks) error = -ENOMEM;
    if (!error && schi_fd_pipe(w->stop) < 0) error = -errno;
    if (!error && c->dump_signal) {
        w->signals = schi_fd_signals(&c->dump_signal, 1);
        if (w->signals < 0) error = w->signals;
    }
    rt->watchdog = w; /* before the thread can ask for a shot */
    if (!error && c->stack_signal) error = schi_signal_handle(c->stack_signal, schi_shot_take);
    if (!error) {
        error = schi_thread_start(&w->thread, schi_watchdog_main, w, c->thread_stack_size);
    }
    if (error) {
        rt->watchdog = NULL;
        schi_watchdog_free(w);
    }
    return error;
}

/* Everything has ended; called by one, once. */
static void schi_watchdog_stop(sch_runtime *rt) {
    schi_watchdog *w = rt->watchdog;
    if (!w) return;
    schi_store_seq(&w->over, 1u);
    /* A byte, and not the end of the pipe: the child of a fork may have that, too. */
    while (write(w->stop[1], "", 1) < 0 && errno == EINTR) continue;
    schi_thread_join(w->thread);
    rt->watchdog = NULL;
    schi_watchdog_free(w);
}

/*==================================================================================================
 * MARK: - [18] Public functions (private)
 *   Check the arguments, call one thing, return.
 *   Uses everything.  Tests: tests/unit/badinput.c, tests/api/
 *================================================================================================*/
#ifdef __cplusplus
extern "C" {
#endif

/* The system's errors that descriptors bring; strerror() is not for several threads. */
static const char *schi_strerror(int error) {
    switch (error) {
    case ENOENT: return "no such file or address";
    case EIO: return "input or output error";
    case EBADF: return "the descriptor is closed, or none";
    case EACCES: return "permission denied";
    case EEXIST: return "it exists or was given already";
    case ECHILD: return "not a child of this process, or reaped already";
    case ENOTDIR: return "not a folder";
    case EISDIR: return "a folder";
    case ENOSPC: return "no space left, or fs.epoll.max_user_watches is reached";
    case EPIPE: return "the other side has closed";
    case EFAULT: return "bad address in memory";
    case ENOSYS: return "this kernel does not have it";
    case ENOTSOCK: return "not a socket";
    case EDESTADDRREQ: return "it needs a destination";
    case EMSGSIZE: return "the message is too long";
    case EPROTONOSUPPORT: return "the protocol is not supported";
    case EAFNOSUPPORT: return "the address family is not supported";
    case EADDRINUSE: return "the address is in use";
    case EADDRNOTAVAIL: return "not an address of this machine";
    case ENETUNREACH: return "the network cannot be reached";
    case EHOSTUNREACH: return "the host cannot be reached";
    case ECONNABORTED: return "the connection was aborted";
    case ECONNRESET: return "the other side has reset the connection";
    case ENOBUFS: return "no memory for buffers";
    case EISCONN: return "connected already";
    case ENOTCONN: return "not connected";
    case ECONNREFUSED: return "nobody listens there";
    case EOPNOTSUPP: return "not possible on this kind of socket";
    default: return "an error of the system; see errno(3)";
    }
}

SCH_API const char *sch_strerror(int error) {
    if (error < -INT_MAX) return "unknown error";
    switch (error < 0 ? -error : error) {
    case 0: return "success";
    case EPERM: return "waiting is not allowed here (poll task, hook, drop function, or no task)";
    case EINTR: return "the waiting task was cancelled; what it waited for is unchanged";
    case EAGAIN: return "no thread could be made; see the limits of the user and the container";
    case ENOMEM: return "out of memory";
    case EBUSY: return "somebody does it already: joins, looks at all tasks, handles that signal";
    case EINVAL: return "invalid argument; for a configuration see sch_config_error()";
    case ENFILE: return "the system has no file descriptor left";
    case EMFILE: return "the process has no file descriptor left; see ulimit -n";
    case EDEADLK: return "this would wait for itself, or block the worker of another runtime";
    case ETIMEDOUT: return "not finished by the deadline";
    case ENOTSUP: return "not supported on this system or by this version";
    case ESRCH: return "the task has ended already";
    case ECANCELED: return "cancelled";
    case EOWNERDEAD: return "made by the process that forked this one; make a new runtime here";
    case EINPROGRESS: return "begun; call again from outside of the runtime to wait for the end";
    case ESHUTDOWN: return "the runtime is shutting down or shut down";
    default: return schi_strerror(error < 0 ? -error : error);
    }
}

SCHI_NOINLINE SCH_API int sch_errno(void) {
    __asm__ volatile("" ::: "memory");
    return errno;
}

SCH_API const char *sch_config_error(const sch_config *config) {
    return config ? schi_config_bad(config) : NULL;
}

SCH_API uint64_t sch_now(void) { return schi_now_of(schi_self()); }

/* Runtime ---------------------------------------------------------------------------------------*/

SCH_API sch_runtime *sch_runtime_new_sized(const sch_config *config, size_t size,
                                           unsigned version) {
    sch_config c;
    sch_runtime *rt;
    int error, stage = 0;
    bool pinned = true;
    memset(&c, 0, sizeof c);
    if (size != sizeof c || version / 10000 != SCH_VERSION_MAJOR ||
        (config && schi_config_bad(config))) {
        errno = EINVAL;
        return NULL;
    }
    if (config) c = *config;
    if (c.pin_workers && !SCHI_CAN_PIN) {
        errno = ENOTSUP;
        return NULL;
    }
    schi_config_defaults(&c);
    if (schi_config_copy(&c) != 0) {
        errno = ENOMEM;
        return NULL;
    }
    rt = (sch_runtime *)schi_alloc_zeroed(&c.allocator, sizeof *rt, SCH_CACHELINE);
    if (!rt) {
        schi_config_drop(&c);
        errno = ENOMEM;
        return NULL;
    }
    rt->config = c;
    rt->magic = schi_magic();
    error = schi_runtime_make(rt, &stage);
    if (!error) error = schi_runtime_start(rt);
    if (error) {
        schi_runtime_unmake(rt, stage);
        errno = -error;
        return NULL;
    }
    schi_lock(&rt->idle.lock);
    for (unsigned i = 0; i < rt->num_workers; i++) {
        if (rt->threads[i] && rt->threads[i]->failed) pinned = false;
    }
    schi_unlock(&rt->idle.lock);
    error = pinned ? schi_watchdog_start(rt) : -EINVAL;
    if (error) {
        sch_runtime_free(rt);
        errno = -error;
        return NULL;
    }
    return rt;
}

/* Shut down; when all has ended, the watchdog does, too. */
static int schi_shutdown_watched(sch_runtime *rt, uint64_t timeout, bool last) {
    int error = schi_shutdown(schi_self(), rt, timeout, last);
    if (error) return error;
    schi_lock(&rt->control); /* several may call */
    schi_watchdog_stop(rt);
    schi_unlock(&rt->control);
    return 0;
}

SCH_API int sch_runtime_shutdown(sch_runtime *rt, uint64_t timeout) {
    if (!schi_is_runtime(rt)) return -schi_runtime_error(rt);
    return schi_shutdown_watched(rt, timeout, false);
}

SCH_API void sch_runtime_free(sch_runtime *rt) {
    schi_thread *th = schi_self();
    if (!schi_is_runtime(rt)) return;
    /* It would free what it stands on, or wait in a hook, maybe for the task which that is for. */
    if (schi_is_within(th, rt) || (th && th->no_wait > 0)) {
        schi_shutdown_begin(th, rt);
        return;
    }
    if (schi_shutdown_watched(rt, SCH_FOREVER, true) != 0) return;
    while (schi_load_seq(&rt->guests) > 0 || !schi_outside_left(rt)) schi_os_yield();
    schi_runtime_unmake(rt, SCHI_MADE);
}

SCH_API int sch_block_on(sch_runtime *rt, sch_fn fn, void *arg) {
    schi_thread *th = schi_self(), visitor;
    int error;
    if (!schi_is_runtime(rt)) return -schi_runtime_error(rt);
    if (!fn) return -EINVAL;
    if (th && th->no_wait > 0) return -EPERM;
    if (th && th->rt == rt && (schi_current(th) || th->kind == SCHI_VISITOR)) {
        fn(arg);
        return 0;
    }
    if (th && schi_current(th) && th->kind != SCHI_BLOCKING &&
        schi_frame_of(th)->in_blocking == 0 && schi_frame_of(th)->blocks_thread == 0) {
        return -EDEADLK;
    }
    if (schi_is_closing(rt)) return -ESHUTDOWN;
    error = schi_visit_begin(&visitor, rt);
    if (error) return error;
    fn(arg);
    if (SCHI_UNLIKELY(!schi_self())) return -EOWNERDEAD; /* fn forked, and we are the child */
    schi_visit_end(&visitor);
    return 0;
}

/* Spawning --------------------------------------------------------------------------------------*/

static bool schi_desc_is_good(const sch_spawn_desc *desc) {
    return !desc || desc->stack_size == 0 ||
           (desc->stack_size >= SCHI_STACK_MIN && desc->stack_size <= SCHI_STACK_MAX);
}

static size_t schi_state_max(const sch_runtime *rt) {
    return SCH_TASK_STATE_MAX - (rt->config.task_times ? sizeof(schi_times) : 0);
}

/* A spawn has failed: the argument is dropped all the same. */
static SCHI_NOINLINE int schi_spawn_failed(schi_thread *th, const sch_spawn_desc *desc, void *arg,
                                           int error) {
    if (desc && desc->drop) {
        schi_thread spare, *me = schi_no_wait_begin(th, &spare, NULL);
        desc->drop(arg);
        schi_no_wait_end(me, &spare);
    }
    return error;
}

/* Have a new blocking job run. 0, or a positive errno: it has been dropped. */
static SCHI_NOINLINE int schi_spawn_job(schi_thread *th, sch_runtime *rt, schi_core *core,
                                        sch_task *task) {
    int error = schi_pool_submit(th, rt, task);
    if (error) {
        schi_task_release(core, task); /* the handle */
        schi_task_end(th, task, SCHI_DROPPED);
    }
    return -error;
}

/* What a spawn is asked for. */
typedef struct schi_request {
    const sch_spawn_desc *desc;
    SCHI_STATE kind;
    sch_fn run; /* or */
    sch_poll_fn poll;
    void *arg;
    size_t size;
    bool handle;
} schi_request;

static SCHI_INLINE void schi_task_fill(sch_task *task, const schi_request *q) {
    union {
        sch_fn run;
        sch_poll_fn poll;
    } fn;
    task->on.stack = NULL;
    schi_store_rel(&task->desc, q->desc); /* rel: after the id, pairs with acq in schi_task_sight */
    if (q->kind & SCHI_POLL) {
        fn.poll = q->poll;
        task->arg = NULL; /* operations that it has pending */
        if (q->size && q->arg) memcpy(schi_task_state(task), q->arg, q->size);
        if (q->size && !q->arg) memset(schi_task_state(task), 0, q->size);
    } else {
        fn.run = q->run;
        task->arg = q->arg;
    }
    schi_store_rel(&task->fn, fn.run); /* rel: as above */
    /* rel: after all that, as above; a walker sees the task whole. */
    schi_store_rel(&task->state,
                   SCHI_SCHEDULED | SCHI_NEW | q->kind | SCHI_REF * (q->handle ? 2u : 1u));
}

/* Spawn a task of any kind from anywhere. 0 with the task in *out, or a positive errno. */
static SCHI_NOINLINE int schi_spawn_any(schi_thread *th, sch_runtime *rt, const schi_request *q,
                                        sch_task **out) {
    schi_core *core = th ? th->core : NULL;
    sch_task *task;
    int error = 0;
    if (!rt && th) rt = th->rt;
    if (!schi_is_runtime(rt)) {
        return schi_spawn_failed(th, q->desc, q->arg, schi_runtime_error(rt));
    }
    if ((!q->run && !q->poll) || !schi_desc_is_good(q->desc) || q->size > schi_state_max(rt)) {
        return schi_spawn_failed(th, q->desc, q->arg, EINVAL);
    }
    if (core && core->rt != rt) core = NULL;
    task = schi_task_new(rt, core, q->size, (q->kind & SCHI_JOB) != 0, &error);
    if (!task) return schi_spawn_failed(th, q->desc, q->arg, error);
    if (SCHI_UNLIKELY(rt->config.task_times)) schi_see_birth(task);
    schi_task_fill(task, q);
    *out = task;
    if (SCHI_UNLIKELY(schi_seen(rt) != 0)) schi_see_spawn(th, rt, task);
    error = 0;
    if (q->kind & SCHI_JOB) {
        error = schi_spawn_job(th, rt, core, task);
    } else if (core) {
        schi_push_back(th, core, task);
    } else {
        schi_push_inject(th, rt, task);
    }
    if (!core) schi_spawner_leaves(rt);
    return error;
}

/* The same. What most spawns are is done here: on a core of this runtime, which has a block ready,
 * and nobody looks. */
static SCHI_INLINE int schi_spawn(sch_runtime *rt, const schi_request *q, sch_task **out) {
    schi_thread *th = schi_self();
    schi_core *core = th ? th->core : NULL;
    if (SCHI_LIKELY(core && (!rt || rt == core->rt)) && !(q->kind & SCHI_JOB) &&
        (q->run || q->poll) && schi_desc_is_good(q->desc) && q->size <= SCH_TASK_STATE_MAX) {
        unsigned size_class = q->size == 0 ? 0 : schi_heap_class(q->size);
        schi_heap *heap = schi_load_rlx(&core->heaps[size_class]); /* rlx: only we write it */
        /* rlx: closing is the first to say no; core->closed is what shutdown counts on */
        bool open = schi_load_rlx(&core->rt->closing) == 0;
        if (SCHI_LIKELY(heap && heap->local && open && schi_seen(core->rt) == 0)) {
            sch_task *task = schi_task_of(heap->local);
            heap->local = schi_rd(&task->node.next);
            schi_count(&core->m.spawned, 1);
            schi_task_set_id(task, core->last_id += SCHI_ID_STEP);
            schi_task_fill(task, q);
            *out = task;
            schi_push_back(th, core, task);
            return 0;
        }
    }
    return schi_spawn_any(th, rt, q, out);
}

/* With a handle: NULL and errno. */
static SCHI_INLINE sch_task *schi_spawn_handle(sch_runtime *rt, const sch_spawn_desc *desc,
                                               SCHI_STATE kind, sch_fn run, sch_poll_fn poll,
                                               void *arg, size_t size) {
    const schi_request q = {desc, kind, run, poll, arg, size, true};
    sch_task *task = NULL;
    int error = schi_spawn(rt, &q, &task);
    if (SCHI_LIKELY(error == 0)) return task;
    errno = error;
    return NULL;
}

SCH_API sch_task *sch_spawn(sch_runtime *rt, sch_fn fn, void *arg) {
    return schi_spawn_handle(rt, NULL, 0, fn, NULL, arg, 0);
}

SCH_API sch_task *sch_spawn_with(sch_runtime *rt, const sch_spawn_desc *desc, sch_fn fn,
                                 void *arg) {
    return schi_spawn_handle(rt, desc, 0, fn, NULL, arg, 0);
}

SCH_API int sch_go(sch_runtime *rt, sch_fn fn, void *arg) {
    const schi_request q = {NULL, 0, fn, NULL, arg, 0, false};
    sch_task *task;
    return -schi_spawn(rt, &q, &task);
}

SCH_API int sch_go_with(sch_runtime *rt, const sch_spawn_desc *desc, sch_fn fn, void *arg) {
    const schi_request q = {desc, 0, fn, NULL, arg, 0, false};
    sch_task *task;
    return -schi_spawn(rt, &q, &task);
}

SCH_API sch_task *sch_spawn_poll(sch_runtime *rt, sch_poll_fn poll, const void *state,
                                 size_t size) {
    return sch_spawn_poll_with(rt, NULL, poll, state, size);
}

SCH_API sch_task *sch_spawn_poll_with(sch_runtime *rt, const sch_spawn_desc *desc, sch_poll_fn poll,
                                      const void *state, size_t size) {
    void *copy_from = (void *)(uintptr_t)state; /* only read, but for a drop that may change it */
    return schi_spawn_handle(rt, desc, SCHI_POLL, NULL, poll, copy_from, size);
}

SCH_API sch_task *sch_spawn_blocking(sch_runtime *rt, sch_fn fn, void *arg) {
    return sch_spawn_blocking_with(rt, NULL, fn, arg);
}

SCH_API sch_task *sch_spawn_blocking_with(sch_runtime *rt, const sch_spawn_desc *desc, sch_fn fn,
                                          void *arg) {
    return schi_spawn_handle(rt, desc, SCHI_JOB, fn, NULL, arg, 0);
}

/* Tasks -----------------------------------------------------------------------------------------*/

static schi_core *schi_core_of_caller(void) {
    schi_thread *th = schi_self();
    return th ? th->core : NULL;
}

SCH_API void *sch_task_state(sch_task *task) {
    if (!task) return NULL;
    schi_task_used(task);
    if (!(schi_load_rlx(&task->state) & SCHI_POLL)) return NULL; /* rlx: fixed bit */
    return schi_task_state(task);
}

SCH_API uint64_t sch_task_id(const sch_task *task) {
    if (task) schi_task_used(task);
    return task ? schi_task_id(task) : 0;
}

SCH_API const char *sch_task_name(const sch_task *task) {
    const sch_spawn_desc *desc;
    if (!task) return "";
    schi_task_used(task);
    desc = schi_task_desc(task);
    return desc && desc->name ? desc->name : "";
}

static int schi_join_reason(SCHI_STATE state) {
    if (state & SCHI_NO_STACK) return -ENOMEM;
    return state & (SCHI_DROPPED | SCHI_TOLD) ? -ECANCELED : 0;
}

/* Join a task that had not ended a moment ago. */
static SCHI_NOINLINE int schi_join_wait(schi_thread *th, sch_task *task) {
    SCHI_STATE state;
    int result = schi_may_wait(th);
    if (th && schi_current(th) == task) return -EDEADLK;
    if (result) return result;
    result = schi_task_join(task, &state);
    if (result < 0) return result;
    if (result == SCHI_JOIN_CLAIMED) {
        result = schi_in_task(th) ? schi_join_as_task(th, task) : schi_join_as_thread(th, task);
        if (result) return result;
        th = schi_self();
        state = schi_load_acq(&task->state); /* acq: pairs with complete */
        schi_task_release(th ? th->core : NULL, task);
    } else if (schi_task_refs(state) == 1) {
        schi_heap_free(th ? th->core : NULL, task);
    }
    return schi_join_reason(state);
}

SCH_API int sch_join(sch_task *task) {
    schi_thread *th = schi_self();
    SCHI_STATE state;
    int result;
    if (!task) return -EINVAL;
    if (schi_task_is_foreign(task)) return -EOWNERDEAD;
    if (SCHI_UNLIKELY(!sch_is_done(task))) return schi_join_wait(th, task);
    result = schi_task_join(task, &state);
    if (SCHI_UNLIKELY(result < 0)) return result;
    if (schi_task_refs(state) == 1) schi_heap_free(th ? th->core : NULL, task);
    schi_use_budget(th);
    return schi_join_reason(state);
}

SCH_API void sch_detach(sch_task *task) { sch_release(task); }

SCH_API sch_task *sch_retain(sch_task *task) {
    if (task && !schi_task_is_foreign(task)) {
        schi_task_used(task);
        schi_task_retain(task);
    }
    return task;
}

SCH_API void sch_release(sch_task *task) {
    if (task && !schi_task_is_foreign(task)) schi_task_release(schi_core_of_caller(), task);
}

SCH_API int sch_cancel(sch_task *task) {
    int result;
    if (!task) return -EINVAL;
    if (schi_task_is_foreign(task)) return -EOWNERDEAD;
    schi_task_used(task);
    result = schi_task_cancel(task, false);
    if (result == 1) schi_schedule(schi_self(), task);
    return result < 0 ? result : 0;
}

SCH_API bool sch_is_done(const sch_task *task) {
    if (!task) return true;
    schi_task_used(task);
    /* acq: pairs with complete; what the task did is visible. */
    return (schi_load_acq(&task->state) & SCHI_COMPLETE) != 0;
}

SCH_API sch_task *sch_self(void) {
    schi_thread *th = schi_self();
    return th ? schi_current(th) : NULL;
}

SCH_API int sch_yield_now(void) {
    schi_thread *th = schi_self();
    if (!th) {
        schi_os_yield();
        return 0;
    }
    if (th->no_wait > 0) return -EPERM;
    if (!schi_current(th)) {
        schi_visitor_yield(th);
    } else if (schi_load_rlx(&schi_current(th)->state) & SCHI_POLL) { /* rlx: fixed bit */
        schi_frame_of(th)->poll_again = true;
    } else {
        schi_yield(th);
    }
    return 0;
}

/* Where sch_suspend does not wait, its result; -EAGAIN: it does. */
static int schi_suspend_at_once(schi_thread *th, SCHI_STATE state) {
    if (state & SCHI_POLL) return -EPERM;
    if (state & SCHI_WOKEN) {
        (void)schi_task_clear(schi_current(th), SCHI_WOKEN);
        schi_use_budget(th);
        return 0;
    }
    if (schi_is_shielded(th)) return -EAGAIN;
    (void)schi_tell_cancelled(th, 0);
    schi_use_budget(th);
    return -ECANCELED;
}

SCH_API int sch_suspend(void) {
    schi_thread *th = schi_self();
    SCHI_STATE state;
    if (!schi_in_task(th) || th->no_wait > 0) return -EPERM;
    /* acq: pairs with wake and cancel. One load: who sees a cancel sees a wake that came before. */
    state = schi_load_acq(&schi_current(th)->state);
    if (SCHI_UNLIKELY(state & (SCHI_POLL | SCHI_WOKEN | SCHI_CANCELLED))) {
        int result = schi_suspend_at_once(th, state);
        if (result != -EAGAIN) return result;
    }
    schi_waits_for(th, SCH_WAIT_SUSPEND, NULL);
    if (schi_wait(&th, SCHI_WAIT_WAKE | SCHI_WAIT_CANCEL) == SCHI_BY_WAKE) return 0;
    return schi_tell_cancelled(th, -ECANCELED);
}

SCH_API void sch_wake(sch_task *task) {
    if (!task || schi_task_is_foreign(task)) return;
    schi_task_used(task);
    schi_wake(schi_self(), task);
}

SCH_API void sch_wake_signal(sch_task *task) {
    sch_runtime *rt;
    int saved = errno; /* the interrupted code's */
    if (!task || schi_task_is_foreign(task)) return;
    schi_task_used(task);
    if (!schi_task_wake(task)) return;
    rt = schi_task_runtime(task);
    if (schi_load_rlx(&task->state) & SCHI_JOB) { /* rlx: fixed bit */
        schi_sub_seq(&rt->pool.waiting, (uint64_t)1);
        schi_unpark(&task->on.thread->sleeper.parker, NULL);
        goto out;
    }
    if (schi_seen(rt) & SCHI_SEE_TIMES) schi_stamp(&schi_times_of(task)->queued, schi_now_ns());
    schi_add_seq(&rt->wakers_came, (uint64_t)1); /* as in schi_push_remote */
    (void)schi_inject_push(&rt->inject, &task->node);
    schi_store_seq(&rt->signalled, 1u);
    for (int i = SCHI_WATCH; i <= (rt->idle.has_standby ? SCHI_STANDBY : SCHI_WATCH); i++) {
        /* Who has a seat, or takes it next, looks and notifies; who runs comes by cases 1, 2. */
        schi_ring_seat(rt, (schi_seat)i);
    }
    if (schi_load_seq(&rt->ring) != 0) schi_ring_loop(rt);
    schi_add_seq(&rt->wakers_left, (uint64_t)1);
out:
    errno = saved;
}

SCH_API int sch_shield_begin(uint64_t deadline) {
    schi_thread *th = schi_self();
    schi_frame *f;
    if (!schi_in_task(th) || schi_may_wait(th) != 0) return -EPERM;
    f = schi_frame_of(th);
    if (f->shields++ == 0 || deadline > f->shield_until) f->shield_until = deadline;
    return 0;
}

SCH_API void sch_shield_end(void) {
    schi_thread *th = schi_self();
    if (!schi_in_task(th)) return;
    SCHI_USAGE(schi_frame_of(th)->shields > 0);
    if (schi_frame_of(th)->shields > 0) schi_frame_of(th)->shields--;
}

SCH_API bool sch_cancelled(void) { return schi_is_cancelled(schi_self()); }

SCH_API unsigned sch_worker_index(void) {
    schi_thread *th = schi_self();
    return th && th->core ? th->core->index : UINT_MAX;
}

/* Operations, time ------------------------------------------------------------------------------*/

SCH_API int sch_await_any(sch_op *const *ops, size_t n, uint64_t deadline) {
    if (!ops || n == 0 || n > INT_MAX) return -EINVAL;
    for (size_t i = 0; i < n; i++) {
        if (!ops[i] || !ops[i]->type) return -EINVAL;
    }
    return schi_await_any(ops, n, deadline);
}

SCH_API int64_t sch_await_until(sch_op *op, uint64_t deadline) {
    int error = op && op->type ? schi_await_any(&op, 1, deadline) : -EINVAL;
    return error ? error : op->result;
}

SCH_API int64_t sch_await(sch_op *op) { return sch_await_until(op, SCH_FOREVER); }

SCH_API bool sch_op_is_done(const sch_op *op) { return op && schi_op_get(op) == SCHI_OP_DONE; }

SCH_API void sch_op_complete(sch_op *op, int64_t result) {
    if (!op) return;
    SCHI_USAGE((schi_op_get(op) & ~(uint32_t)SCHI_OP_LISTEN) == SCHI_OP_PENDING);
    op->result = result;
    schi_op_finish(op, SCHI_OP_DONE);
}

SCH_API void sch_op_retry(sch_op *op) {
    if (!op) return;
    SCHI_USAGE((schi_op_get(op) & ~(uint32_t)SCHI_OP_LISTEN) == SCHI_OP_PENDING);
    schi_op_finish(op, SCHI_OP_RETRY);
}

/* The poll task that runs here, NULL: none. */
static sch_task *schi_poll_task(schi_thread *th) {
    if (!th || th->no_wait > 0 || !schi_current(th)) return NULL;
    /* rlx: fixed bit */
    return schi_load_rlx(&schi_current(th)->state) & SCHI_POLL ? schi_current(th) : NULL;
}

static void schi_op_unlink(sch_task *task, sch_op *op) {
    sch_op **at = (sch_op **)(void *)&task->arg;
    while (*at && *at != op) at = &(*at)->link;
    if (*at) *at = op->link;
}

/* Cancelled while it is pending. */
static sch_status schi_op_poll_cancelled(sch_op *op) {
    switch (op->type->cancel(op)) {
    case SCH_OP_BUSY: return SCH_PENDING;
    case SCH_OP_DONE: break;
    case SCH_OP_REMOVED: op->result = schi_tell_cancelled(schi_self(), -ECANCELED); break;
    }
    return SCH_READY;
}

SCH_API sch_status sch_op_poll(sch_op *op) {
    schi_thread *th = schi_self();
    sch_task *task = schi_poll_task(th);
    uint32_t state;
    if (!op) return SCH_READY;
    if (!task || !op->type) {
        op->result = task ? -EINVAL : -EPERM;
        return SCH_READY;
    }
    while ((state = schi_op_get(op)) != SCHI_OP_DONE) {
        if (state != SCHI_OP_PENDING) {
            schi_op_unlink(task, op);
            if (schi_op_begin(op, task, true)) break;
            th = schi_self(); /* it may have blocked, and moved the task */
            op->link = (sch_op *)task->arg;
            task->arg = op;
        }
        if (!schi_is_cancelled(th)) {
            if (schi_op_get(op) == SCHI_OP_PENDING) return SCH_PENDING;
        } else if (schi_op_get(op) == SCHI_OP_PENDING) {
            if (schi_op_poll_cancelled(op) == SCH_PENDING) return SCH_PENDING;
            break;
        }
    }
    schi_op_unlink(task, op);
    schi_op_set(op, SCHI_OP_IDLE);
    return SCH_READY;
}

SCH_API sch_timer sch_timer_at(uint64_t time) {
    sch_timer timer;
    memset(&timer, 0, sizeof timer);
    timer.op.type = &schi_timer_type;
    timer.op.kind = SCH_WAIT_TIMER;
    timer.until = time;
    return timer;
}

SCH_API sch_timer sch_timer_after(uint64_t ns) {
    return sch_timer_at(schi_saturating_add(sch_now(), ns));
}

SCH_API int sch_sleep_until(uint64_t time) {
    sch_timer timer = sch_timer_at(time);
    return (int)sch_await(&timer.op);
}

SCH_API int sch_sleep(uint64_t ns) {
    return sch_sleep_until(schi_saturating_add(sch_now(), ns));
}

SCH_API int64_t sch_timeout(sch_op *op, uint64_t ns) {
    return sch_await_until(op, schi_saturating_add(sch_now(), ns));
}

SCH_API int sch_interval_wait(sch_interval *interval) {
    uint64_t now = sch_now(), late;
    int error;
    if (!interval || interval->period == 0 || (unsigned)interval->missed > SCH_SKIP) return -EINVAL;
    if (interval->next == 0) interval->next = now;
    error = sch_sleep_until(interval->next);
    if (error) return error;
    now = sch_now();
    late = now > interval->next ? now - interval->next : 0;
    switch (interval->missed) {
    case SCH_BURST: break;
    case SCH_DELAY: interval->next = now; break;
    case SCH_SKIP: interval->next += late / interval->period * interval->period; break;
    }
    interval->next = schi_saturating_add(interval->next, interval->period);
    return 0;
}

/* Blocking --------------------------------------------------------------------------------------*/

/* Keep a place for this thread; a task that can waits for one. 0, or -EAGAIN: none is to be had. */
static SCHI_NOINLINE int schi_take_place(schi_thread **thp) {
    schi_thread *th = *thp;
    bool can_wait = schi_may_wait(th) == 0 && !th->stack->frame.in_await;
    while (!th->reserved) {
        int error = schi_reserve(th, can_wait);
        if (error == 0) {
            th->reserved = true;
        } else if (error == -EBUSY && can_wait) {
            schi_waits_for(th, SCH_WAIT_PLACE, NULL);
            (void)schi_wait(&th, 0); /* granted when a place is free; not cancelled */
            if (th->reserved) {      /* this thread keeps one: pass it on, and try again */
                th->reserved = false;
                schi_unreserve(th, th->rt);
            }
        } else {
            return -EAGAIN;
        }
    }
    *thp = th;
    return 0;
}

/* A worker's task leaves its core, runs fn, and has a core again. */
static int schi_block_in_place(schi_thread *th, sch_fn fn, void *arg) {
    sch_task *task = schi_current(th);
    schi_frame *frame = &th->stack->frame;
    if (SCHI_UNLIKELY(!th->reserved) && schi_take_place(&th) != 0) return -EAGAIN;
    schi_core_leave(th);
    frame->in_blocking = 1;
    fn(arg);
    frame->in_blocking = 0;
    th = schi_self();
    if (SCHI_UNLIKELY(!th)) return -EOWNERDEAD; /* fn forked, and we are the child */
    if (SCHI_UNLIKELY(!schi_core_return(th))) {
        /* No core for us here: queue the task, this thread sleeps. */
        th = schi_switch_away(th, SCHI_COMMIT_REQUEUE, 0);
        SCHI_ASSERT(th->core && schi_current(th) == task);
    } else if (SCHI_UNLIKELY(schi_load_seq(&th->rt->reserve_waiters) > 0)) {
        th->reserved = false;
        schi_unreserve(th, th->rt);
    }
    (void)task;
    return 0;
}

SCH_API int sch_block_in_place(sch_fn fn, void *arg) {
    schi_thread *th = schi_self();
    if (!fn) return -EINVAL;
    if (th && th->no_wait > 0) return -EPERM;
    if (!th || !schi_current(th) || schi_frame_of(th)->in_blocking > 0) {
        fn(arg);
        return 0;
    }
    /* A job, and a poll for which there was no stack, keep the thread, too. */
    if (!th->stack || th->rt->config.flavor == SCH_CURRENT_THREAD) {
        schi_frame *frame = schi_frame_of(th);
        frame->blocks_thread++;
        fn(arg);
        frame->blocks_thread--;
        return SCHI_LIKELY(schi_self() != NULL) ? 0 : -EOWNERDEAD; /* fn forked: the child */
    }
    return schi_block_in_place(th, fn, arg);
}

/* Descriptors -----------------------------------------------------------------------------------*/

SCH_API int sch_io_open(sch_io *io, sch_runtime *rt, int fd) {
    int error, traits;
    if (!io) return -EINVAL;
    error = schi_io_runtime(&rt);
    if (error) return error;
    traits = schi_fd_adopt(fd);
    return traits < 0 ? traits : schi_io_add(io, rt, fd, traits, 0);
}

SCH_API int sch_io_close(sch_io *io) {
    schi_io *record = io ? schi_io_enter(io) : NULL;
    return record ? schi_io_close(record) : schi_io_error(io);
}

SCH_API int sch_io_fd(const sch_io *io) {
    schi_io *record = io ? schi_io_enter(io) : NULL;
    int fd;
    if (!record) return schi_io_error(io);
    fd = record->fd;
    schi_io_leave(&record->rt->driver, record);
    return fd;
}

SCH_API int sch_io_shutdown(sch_io *io, int how) {
    schi_io *record = io ? schi_io_enter(io) : NULL;
    int error;
    if (!record) return schi_io_error(io);
    error = shutdown(record->fd, how) < 0 ? -errno : 0;
    /* Not every system tells of it: who waits shall try again. */
    if (!error && how != SHUT_WR) schi_io_tell(record, SCHI_READABLE | SCHI_READ_END);
    if (!error && how != SHUT_RD) schi_io_tell(record, SCHI_WRITABLE);
    schi_io_leave(&record->rt->driver, record);
    return error;
}

SCH_API sch_io_op sch_read_op(const sch_io *io, void *buf, size_t len) {
    return schi_io_data_op(io, SCHI_CALL_READ, buf, len);
}

SCH_API sch_io_op sch_write_op(const sch_io *io, const void *buf, size_t len) {
    return schi_io_data_op(io, SCHI_CALL_WRITE, buf, len);
}

SCH_API ssize_t sch_read(sch_io *io, void *buf, size_t len) {
    const sch_io own = schi_io_copy(io);
    return (ssize_t)schi_io_move(&own, false, buf, len, SCH_FOREVER);
}

SCH_API ssize_t sch_write(sch_io *io, const void *buf, size_t len) {
    const sch_io own = schi_io_copy(io);
    return (ssize_t)schi_io_move(&own, true, (void *)(uintptr_t)buf, len, SCH_FOREVER);
}

SCH_API ssize_t sch_readv(sch_io *io, const struct iovec *parts, int n) {
    sch_io_op op = schi_io_data_op(io, SCHI_CALL_READV, parts, (size_t)n);
    return n < 0 || !parts ? -EINVAL : (ssize_t)schi_io_do(&op);
}

SCH_API ssize_t sch_writev(sch_io *io, const struct iovec *parts, int n) {
    sch_io_op op = schi_io_data_op(io, SCHI_CALL_WRITEV, parts, (size_t)n);
    return n < 0 || !parts ? -EINVAL : (ssize_t)schi_io_do(&op);
}

SCH_API int sch_write_all_until(sch_io *io, const void *buf, size_t len, uint64_t deadline,
                                size_t *written) {
    const sch_io own = schi_io_copy(io);
    char *next = (char *)(uintptr_t)buf; /* only read */
    int64_t n = 0;
    while (len > 0) {
        n = schi_io_move(&own, true, next, len, deadline);
        if (n < 0) break;
        next += n;
        len -= (size_t)n;
    }
    if (written) *written = (size_t)(next - (const char *)buf);
    return n < 0 ? (int)n : 0;
}

SCH_API int sch_write_all(sch_io *io, const void *buf, size_t len, size_t *written) {
    return sch_write_all_until(io, buf, len, SCH_FOREVER, written);
}

SCH_API sch_io_op sch_recvfrom_op(const sch_io *io, void *buf, size_t len, int flags,
                                  struct sockaddr *from, socklen_t *from_len) {
    sch_io_op op = schi_io_data_op(io, SCHI_CALL_RECVFROM, buf, len);
    op.call.flags = (uint32_t)flags;
    op.call.address = from;
    op.call.address_len = from_len;
    if (flags & MSG_OOB) op.call.want = SCHI_PRIORITY;
    return op;
}

SCH_API sch_io_op sch_sendto_op(const sch_io *io, const void *buf, size_t len, int flags,
                                const struct sockaddr *to, socklen_t to_len) {
    sch_io_op op = schi_io_data_op(io, SCHI_CALL_SENDTO, buf, len);
    op.call.flags = (uint32_t)flags;
    op.call.address = (void *)(uintptr_t)to;
    op.call.more = (uint32_t)to_len;
    return op;
}

SCH_API ssize_t sch_recvfrom(sch_io *io, void *buf, size_t len, int flags, struct sockaddr *from,
                             socklen_t *from_len) {
    sch_io_op op = sch_recvfrom_op(io, buf, len, flags, from, from_len);
    return (ssize_t)schi_io_do(&op);
}

SCH_API ssize_t sch_sendto(sch_io *io, const void *buf, size_t len, int flags,
                           const struct sockaddr *to, socklen_t to_len) {
    sch_io_op op = sch_sendto_op(io, buf, len, flags, to, to_len);
    return (ssize_t)schi_io_do(&op);
}

SCH_API int sch_listen(sch_io *out, sch_runtime *rt, const struct sockaddr *addr, socklen_t len,
                       int backlog) {
    int error, fd, traits;
    if (!out || !addr) return -EINVAL;
    memset(out, 0, sizeof *out);
    error = schi_io_runtime(&rt);
    if (error) return error;
    fd = schi_fd_listen(addr, len, backlog);
    if (fd < 0) return fd;
    traits = schi_fd_adopt(fd);
    if (traits < 0) close(fd);
    return traits < 0 ? traits : schi_io_add_own(out, rt, fd, traits, 0);
}

SCH_API sch_io_op sch_accept_op(const sch_io *listener, sch_io *out) {
    sch_io_op op = schi_io_op(listener, SCHI_CALL_ACCEPT, SCHI_READABLE);
    op.call.buffer = out;
    return op;
}

SCH_API int sch_accept(sch_io *listener, sch_io *out) {
    sch_io_op op = sch_accept_op(listener, out);
    int error = out ? (int)schi_io_do(&op) : -EINVAL;
    if (error && out) memset(out, 0, sizeof *out);
    if (error == -EMFILE || error == -ENFILE || error == -ENOBUFS || error == -ENOMEM ||
        error == -ENOSPC) { /* ENOSPC: of what epoll may watch; the connection is kept */
        (void)sch_sleep(10 * SCH_MILLISECOND);
    }
    return error;
}

SCH_API int sch_connect_start(sch_io *out, sch_runtime *rt, const struct sockaddr *addr,
                              socklen_t len) {
    int error, fd, traits;
    if (!out || !addr) return -EINVAL;
    memset(out, 0, sizeof *out);
    error = schi_io_runtime(&rt);
    if (error) return error;
    fd = schi_fd_connect(addr, len, &traits, &error);
    return fd < 0 ? error : schi_io_add_own(out, rt, fd, traits, 0);
}

SCH_API sch_io_op sch_connect_op(const sch_io *io) {
    return schi_io_op(io, SCHI_CALL_CONNECT, SCHI_WRITABLE);
}

SCH_API int sch_connect(sch_io *out, sch_runtime *rt, const struct sockaddr *addr, socklen_t len) {
    uint64_t pause = SCH_MILLISECOND;
    sch_io_op op;
    int error;
    while ((error = sch_connect_start(out, rt, addr, len)) == -EAGAIN) { /* UNIX: backlog full */
        error = sch_sleep(pause);
        if (error) return error;
        if (pause < 100 * SCH_MILLISECOND) pause *= 2;
    }
    if (error) return error;
    op = sch_connect_op(out);
    error = (int)schi_io_do(&op);
    if (error) (void)sch_io_close(out);
    return error;
}

SCH_API sch_io_op sch_ready_op(const sch_io *io, unsigned bits) {
    return schi_io_op(io, SCHI_CALL_READY, bits & 7u);
}

static int schi_io_await_ready(const sch_io *io, unsigned bits) {
    sch_io_op op = sch_ready_op(io, bits);
    return (int)schi_io_do(&op);
}

SCH_API int sch_readable(sch_io *io) { return schi_io_await_ready(io, SCH_IO_READABLE); }
SCH_API int sch_writable(sch_io *io) { return schi_io_await_ready(io, SCH_IO_WRITABLE); }

SCH_API int sch_priority(sch_io *io) {
    if (!SCHI_HAS_PRIORITY && sch_io_fd(io) >= 0) return -ENOTSUP;
    return schi_io_await_ready(io, SCH_IO_PRIORITY);
}

SCH_API int sch_signals_open(sch_io *io, sch_runtime *rt, const int *signals, size_t n) {
    int error, fd;
    if (!io || !signals || n == 0) return -EINVAL;
    error = schi_io_runtime(&rt);
    if (error) return error;
    fd = schi_fd_signals(signals, n);
    return fd < 0 ? fd : schi_io_add_own(io, rt, fd, SCHI_FD_SIGNALS, 0);
}

SCH_API sch_io_op sch_signal_op(const sch_io *io) {
    return schi_io_op(io, SCHI_CALL_SIGNAL, SCHI_READABLE);
}

SCH_API int sch_signal_wait(sch_io *io) {
    sch_io_op op = sch_signal_op(io);
    return (int)schi_io_do(&op);
}

SCH_API int sch_child_open(sch_io *io, sch_runtime *rt, pid_t pid) {
    int error, fd;
    if (!io || pid <= 0) return -EINVAL;
    error = schi_io_runtime(&rt);
    if (error) return error;
    fd = schi_fd_child(pid);
    return fd < 0 ? fd : schi_io_add_own(io, rt, fd, SCHI_FD_CHILD, pid);
}

SCH_API sch_io_op sch_child_op(const sch_io *io, int *status) {
    return schi_io_data_op(io, SCHI_CALL_CHILD, status, 0);
}

SCH_API int sch_child_wait(sch_io *io, int *status) {
    sch_io_op op = sch_child_op(io, status);
    return (int)schi_io_do(&op);
}

/* Embedding -------------------------------------------------------------------------------------*/

static int schi_is_embeddable(const sch_runtime *rt) {
    if (!schi_is_runtime(rt)) return -schi_runtime_error(rt);
    return rt->config.flavor == SCH_CURRENT_THREAD ? 0 : -EINVAL;
}

SCH_API int sch_run_some(sch_runtime *rt, uint64_t budget_ns) {
    schi_thread *th = schi_self(), visitor;
    uint64_t until = schi_saturating_add(schi_now_ns(), budget_ns);
    int error = schi_is_embeddable(rt), more;
    if (error) return error;
    if (th && th->no_wait > 0) return -EPERM;
    if (schi_is_inside(th, rt)) return -EDEADLK;
    if (th && th->rt == rt) return schi_run_slice(th, until); /* within sch_block_on */
    error = schi_visit_begin(&visitor, rt);
    if (error) return error;
    more = schi_run_slice(&visitor, until);
    schi_visit_end(&visitor);
    return more;
}

SCH_API int sch_poll_fd(sch_runtime *rt) {
    int error = schi_is_embeddable(rt);
    if (!error) error = schi_io_runtime(&rt);
    if (error) return error;
    if (!schi_load_seq(&rt->ring)) {
        schi_store_seq(&rt->ring, 1u);
        schi_ring_loop(rt); /* for what is queued already */
    }
    return rt->driver.poller.fd;
}

SCH_API uint64_t sch_next_deadline(sch_runtime *rt) {
    uint64_t next;
    if (schi_is_embeddable(rt) != 0) return SCH_FOREVER;
    if (!schi_inject_is_empty(&rt->inject)) return 0;
    next = schi_timers_next(rt);
    return next != SCH_FOREVER && rt->config.paused_clock ? 0 : next;
}

/* Looking inside --------------------------------------------------------------------------------*/

SCH_API size_t sch_num_workers(const sch_runtime *rt) {
    return schi_is_runtime(rt) ? rt->num_cores : 0;
}

SCH_API size_t sch_num_alive_tasks(const sch_runtime *rt) {
    return schi_is_runtime(rt) ? (size_t)schi_num_alive(schi_unconst(rt)) : 0;
}

SCH_API size_t sch_injection_queue_depth(const sch_runtime *rt) {
    return schi_is_runtime(rt) ? (size_t)schi_inject_len(&schi_unconst(rt)->inject, NULL) : 0;
}

SCH_API int sch_worker_metrics(const sch_runtime *rt, unsigned worker,
                               sch_worker_metrics_snapshot *out) {
    if (!schi_is_runtime(rt)) return -schi_runtime_error(rt);
    if (!out || worker >= rt->num_cores) return -EINVAL;
    schi_worker_snapshot(rt->cores[worker], out);
    return 0;
}

SCH_API int sch_metrics(const sch_runtime *rt, sch_metrics_snapshot *out) {
    if (!schi_is_runtime(rt)) return -schi_runtime_error(rt);
    if (!out) return -EINVAL;
    schi_snapshot(schi_unconst(rt), out);
    return 0;
}

SCH_API const char *sch_wait_name(sch_wait_kind kind) {
    return (unsigned)kind < SCH_WAIT_KINDS ? schi_wait_names[kind] : "";
}

SCH_API int sch_metrics_write(const sch_runtime *rt, sch_metrics_format format, sch_write_fn write,
                              void *user) {
    schi_text text;
    if (!schi_is_runtime(rt)) return -schi_runtime_error(rt);
    if (!write || (unsigned)format > SCH_OPENMETRICS) return -EINVAL;
    schi_text_init(&text, write, user);
    schi_put_metrics(&text, format, schi_unconst(rt));
    return schi_text_flush(&text);
}

/* 0, or why these histograms cannot be read. */
static int schi_histogram_error(const sch_runtime *rt, sch_histogram which, unsigned worker) {
    if (!schi_is_runtime(rt)) return -schi_runtime_error(rt);
    if ((unsigned)which >= SCH_HISTOGRAMS) return -EINVAL;
    if (worker != SCH_ALL_WORKERS && worker >= rt->num_cores) return -EINVAL;
    return rt->config.task_times ? 0 : -ENOTSUP;
}

SCH_API int sch_histogram_read(const sch_runtime *rt, sch_histogram which, unsigned worker,
                               uint64_t *counts, size_t n) {
    int error = schi_histogram_error(rt, which, worker);
    if (error) return error;
    if (!counts && n > 0) return -EINVAL;
    for (unsigned i = 0; i < rt->histogram_len && i < n; i++) {
        counts[i] = schi_histogram_count(schi_unconst(rt), which, worker, i);
    }
    return (int)rt->histogram_len;
}

SCH_API uint64_t sch_histogram_limit(const sch_runtime *rt, size_t bucket) {
    if (!schi_is_runtime(rt) || bucket >= rt->histogram_len) return 0;
    return schi_histogram_limit(rt->config.histogram_bits, (unsigned)bucket);
}

SCH_API uint64_t sch_percentile(const sch_runtime *rt, sch_histogram which, unsigned worker,
                                double percent) {
    uint64_t total = 0, below = 0;
    if (schi_histogram_error(rt, which, worker) != 0 || !(percent >= 0 && percent <= 100)) return 0;
    for (unsigned i = 0; i < rt->histogram_len; i++) {
        total += schi_histogram_count(schi_unconst(rt), which, worker, i);
    }
    for (unsigned i = 0; i < rt->histogram_len && total > 0; i++) {
        below += schi_histogram_count(schi_unconst(rt), which, worker, i);
        if (below > 0 && (double)below * 100 >= percent * (double)total) {
            return schi_histogram_limit(rt->config.histogram_bits, i);
        }
    }
    return 0;
}

SCH_API int sch_each_task(sch_runtime *rt, sch_task_fn fn, void *user) {
    int result;
    if (!schi_is_runtime(rt)) return -schi_runtime_error(rt);
    if (!fn) return -EINVAL;
    result = schi_walk_begin(rt);
    if (result) return result;
    result = schi_walk_tasks(rt, fn, user);
    schi_walk_end(rt);
    return result;
}

SCH_API int sch_dump(sch_runtime *rt, uint64_t timeout, sch_write_fn write, void *user) {
    int result;
    if (!schi_is_runtime(rt)) return -schi_runtime_error(rt);
    if (!write) return -EINVAL;
    result = schi_walk_begin(rt);
    if (result) return result;
    result = schi_dump(rt, timeout, write, user);
    schi_walk_end(rt);
    return result;
}

SCH_API int sch_trace_start(sch_runtime *rt) {
    int error;
    if (!schi_is_runtime(rt)) return -schi_runtime_error(rt);
    error = schi_trace_make(rt);
    if (error) return error;
    schi_store_seq(&rt->trace_from, schi_now_ns());
    schi_store_seq(&rt->trace_until, UINT64_C(0));
    schi_or_seq(&rt->seen, (uint32_t)SCHI_SEE_TRACE);
    return 0;
}

SCH_API int sch_trace_stop(sch_runtime *rt) {
    if (!schi_is_runtime(rt)) return -schi_runtime_error(rt);
    if (schi_and_seq(&rt->seen, ~(uint32_t)SCHI_SEE_TRACE) & SCHI_SEE_TRACE) {
        schi_store_seq(&rt->trace_until, schi_now_ns());
    }
    return 0;
}

SCH_API int sch_trace_write(sch_runtime *rt, sch_write_fn write, void *user) {
    schi_text text;
    int result;
    if (!schi_is_runtime(rt)) return -schi_runtime_error(rt);
    if (!write || schi_load_seq(&rt->trace_from) == 0) return -EINVAL;
    schi_add_seq(&rt->guests, 1u); /* sch_runtime_free waits */
    schi_text_init(&text, write, user);
    result = schi_trace_write(rt, &text);
    schi_sub_seq(&rt->guests, 1u);
    return result;
}

typedef struct schi_piece { /* text for a buffer of the user's */
    char *to;
    size_t room, length;
} schi_piece;

static int schi_piece_write(const char *text, size_t length, void *user) {
    schi_piece *p = (schi_piece *)user;
    if (length > p->room - p->length) length = p->room - p->length;
    memcpy(p->to + p->length, text, length);
    p->length += length;
    return 0;
}

SCH_API size_t sch_symbol(const void *address, char *text, size_t size) {
    schi_piece piece;
    schi_text t;
    if (!text || size == 0) return 0;
    piece.to = text;
    piece.room = size - 1;
    piece.length = 0;
    schi_text_init(&t, schi_piece_write, &piece);
    schi_put_address(&t, address);
    (void)schi_text_flush(&t);
    text[piece.length] = 0;
    return piece.length;
}

/* The core whose thread runs a task now, SCHI_NO_CORE if none. A look from outside. */
static unsigned schi_running_on(sch_runtime *rt, sch_task *task) {
    unsigned core = SCHI_NO_CORE;
    schi_lock(&rt->idle.lock); /* records of threads stay while we look */
    for (unsigned i = 0; i < rt->num_cores && core == SCHI_NO_CORE; i++) {
        uint64_t number = schi_counted(&rt->cores[i]->m.thread);
        if (number > rt->max_threads || !rt->threads[number]) continue;
        if (schi_current(rt->threads[number]) == task) core = i;
    }
    schi_unlock(&rt->idle.lock);
    return core;
}

/* Add a heap's live tasks to the list; returns how many there are. */
static size_t schi_stragglers_of(sch_runtime *rt, schi_heap *heap, sch_straggler *out, size_t max) {
    size_t n = 0;
    for (schi_slab *s = schi_load_acq(&heap->slabs); s; s = s->next) { /* acq: pairs with grow */
        uint32_t used = schi_load_acq(&s->used);                      /* acq: pairs with alloc */
        for (uint32_t i = 0; i < used; i++) {
            sch_task *task = schi_slab_block(s, i);
            schi_sight is;
            if (!schi_task_sight(task, &is)) continue;
            if (n < max) {
                out[n].name = is.desc && is.desc->name ? is.desc->name : "";
                out[n].file = is.desc && is.desc->file ? is.desc->file : "";
                out[n].line = is.desc ? is.desc->line : 0;
                out[n].worker = schi_running_on(rt, task);
            }
            n++;
        }
    }
    return n;
}

SCH_API size_t sch_stragglers(const sch_runtime *rt, sch_straggler *out, size_t max) {
    sch_runtime *r = schi_unconst(rt);
    size_t n = 0;
    if (!schi_is_runtime(rt) || (!out && max > 0)) return 0;
    for (unsigned c = 0; c <= r->num_cores; c++) {
        for (unsigned i = 0; i < SCHI_HEAP_CLASSES; i++) {
            schi_heap *heap;
            if (c < r->num_cores) {
                heap = schi_load_acq(&r->cores[c]->heaps[i]); /* acq: pairs with rel in task_new */
            } else {
                schi_lock(&r->shared_lock);
                heap = r->shared_heaps[i];
                schi_unlock(&r->shared_lock);
            }
            if (heap)
                n += schi_stragglers_of(r, heap, out ? out + (n < max ? n : max) : NULL,
                                        n < max ? max - n : 0);
        }
    }
    return n;
}

#ifdef __cplusplus
}
#endif

#endif /* SCHED_IMPLEMENTATION */

#endif /* SCHI_PASS_THROUGH */

/*
 * MARK: - License
 *   This software is available under two licenses; choose whichever you prefer.
 *
 * ALTERNATIVE A - MIT License
 *   Copyright (c) 2026 the sched.h authors
 *   Permission is hereby granted, free of charge, to any person obtaining a copy of this software
 *   and associated documentation files (the "Software"), to deal in the Software without
 *   restriction, including without limitation the rights to use, copy, modify, merge, publish,
 *   distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the
 *   Software is furnished to do so, subject to the following conditions: The above copyright notice
 *   and this permission notice shall be included in all copies or substantial portions of the
 *   Software. THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED,
 *   INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR
 *   PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR
 *   ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE,
 *   ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
 *   SOFTWARE.
 *
 * ALTERNATIVE B - Public Domain (www.unlicense.org)
 *   This is free and unencumbered software released into the public domain.
 *   Anyone is free to copy, modify, publish, use, compile, sell, or distribute this software,
 *   either in source code form or as a compiled binary, for any purpose, commercial or
 *   non-commercial, and by any means. In jurisdictions that recognize copyright laws, the author or
 *   authors of this software dedicate any and all copyright interest in the software to the public
 *   domain. We make this dedication for the benefit of the public at large and to the detriment of
 *   our heirs and successors. We intend this dedication to be an overt act of relinquishment in
 *   perpetuity of all present and future rights to this software under copyright law. THE SOFTWARE
 *   IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT
 *   LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
 *   NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
 *   LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
 *   CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
 */
