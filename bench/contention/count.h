/* count.h - how often the runtime does what costs time when CPUs share it: sched.h with [2] and [3]
 * replaced by the same text, in which every atomic operation goes through the macros below
 * (build.sh makes that file, platform.h; docs/porting.md: SCH_PLATFORM_HEADER). Any case's sched.c
 * that is compiled with -DBENCH_COUNT counts, over all recorded rounds. The program's own atomics
 * are not counted.
 *
 *   rmw_per_op       atomic read-modify-writes, failed ones among them
 *   failed_per_op    compare-and-swaps that failed
 *   barriers_per_op  seq_cst stores, which are as dear as a read-modify-write
 *   locks_per_op     mutexes taken
 *   wakes_per_op     system calls that wake a worker's thread
 *   steals_per_op    tasks that were stolen
 *
 * Each thread counts for itself, so that counting adds no sharing; it makes everything slower.
 */
#ifndef BENCH_COUNT_H
#define BENCH_COUNT_H

#define COUNT_THREADS_MAX 256u

typedef enum count_kind {
    COUNT_RMW,
    COUNT_FAILED,
    COUNT_BARRIER,
    COUNT_LOCK,
    COUNT_KINDS
} count_kind;

/* One thread's; only it writes, anybody reads. Lines of its own. */
typedef struct count_record {
    uint64_t counts[COUNT_KINDS];
    char pad[128];
} count_record;

static count_record count_records[COUNT_THREADS_MAX];
static unsigned count_threads;
static _Thread_local count_record *count_mine;

/* Not inlined: a task may go on on another thread, and must not keep the first one's address. */
static __attribute__((noinline)) void count(count_kind kind) {
    if (count_mine == NULL) {
        unsigned index = __atomic_fetch_add(&count_threads, 1u, __ATOMIC_RELAXED);
        if (index >= COUNT_THREADS_MAX) bench_die("too many threads");
        count_mine = &count_records[index];
    }
    uint64_t *c = &count_mine->counts[kind];
    __atomic_store_n(c, *c + 1u, __ATOMIC_RELAXED);
}

static inline bool count_cas(bool done) {
    count(COUNT_RMW);
    if (!done) count(COUNT_FAILED);
    return done;
}

static inline void count_store(int order) {
    if (order == __ATOMIC_SEQ_CST) count(COUNT_BARRIER);
}

static inline int count_mutex_lock(pthread_mutex_t *mutex) {
    count(COUNT_LOCK);
    return pthread_mutex_lock(mutex);
}

#define count_load_n(...) __atomic_load_n(__VA_ARGS__)
#define count_store_n(a, v, order) (count_store(order), __atomic_store_n(a, v, order))
#define count_exchange_n(...) (count(COUNT_RMW), __atomic_exchange_n(__VA_ARGS__))
#define count_fetch_add(...) (count(COUNT_RMW), __atomic_fetch_add(__VA_ARGS__))
#define count_fetch_sub(...) (count(COUNT_RMW), __atomic_fetch_sub(__VA_ARGS__))
#define count_fetch_or(...) (count(COUNT_RMW), __atomic_fetch_or(__VA_ARGS__))
#define count_fetch_and(...) (count(COUNT_RMW), __atomic_fetch_and(__VA_ARGS__))
#define count_compare_exchange_n(...) count_cas(__atomic_compare_exchange_n(__VA_ARGS__))

#include "platform.h"

#endif /* BENCH_COUNT_H */
