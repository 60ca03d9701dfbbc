/* header.c: sched.h, its atomic operations counted if run.sh has changed them into these, and what
 * needs its private names. */
#include "paths.h"

unsigned long long budget_rmws, budget_stores;

#define BUDGET_COUNT(n) ((void)__atomic_fetch_add(&(n), 1ull, __ATOMIC_RELAXED))
#define budget_exchange_n(...) (BUDGET_COUNT(budget_rmws), __atomic_exchange_n(__VA_ARGS__))
#define budget_compare_exchange_n(...) \
    (BUDGET_COUNT(budget_rmws), __atomic_compare_exchange_n(__VA_ARGS__))
#define budget_fetch_add(...) (BUDGET_COUNT(budget_rmws), __atomic_fetch_add(__VA_ARGS__))
#define budget_fetch_sub(...) (BUDGET_COUNT(budget_rmws), __atomic_fetch_sub(__VA_ARGS__))
#define budget_fetch_or(...) (BUDGET_COUNT(budget_rmws), __atomic_fetch_or(__VA_ARGS__))
#define budget_fetch_and(...) (BUDGET_COUNT(budget_rmws), __atomic_fetch_and(__VA_ARGS__))
#define budget_store_n(at, value, order)                                   \
    (((order) == __ATOMIC_SEQ_CST ? BUDGET_COUNT(budget_stores) : (void)0), \
     __atomic_store_n(at, value, order))

#define SCHED_IMPLEMENTATION
#include "sched.h"

/* Threads: the wake comes first, nobody sleeps. */
void park_unpark(unsigned n) {
    schi_parker parker;
    MUST(schi_parker_init(&parker) == 0);
    for (unsigned i = 0; i < n; i++) {
        schi_unpark(&parker, NULL);
        MUST(schi_park(&parker, UINT64_MAX));
    }
    schi_parker_drop(&parker);
}
