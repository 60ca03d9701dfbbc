/* fault_hooks.h - included before the header under test: makes the system refuse it a thread.
 *
 *   fault_threads(ask)    from now on `ask` is called before each thread that the library makes, by
 *                         the thread that makes it; it returns 0 or the error of pthread_create.
 *                         NULL: no more. */
#ifndef FAULT_HOOKS_H
#define FAULT_HOOKS_H

#include <pthread.h>

typedef int (*fault_thread_fn)(void);
static fault_thread_fn fault_thread_ask; /* any, atomic */

__attribute__((unused)) static void fault_threads(fault_thread_fn ask) {
    __atomic_store_n(&fault_thread_ask, ask, __ATOMIC_SEQ_CST);
}

static int fault_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                                void *(*run)(void *), void *arg) {
    fault_thread_fn ask = __atomic_load_n(&fault_thread_ask, __ATOMIC_SEQ_CST);
    int error = ask ? ask() : 0;
    return error ? error : pthread_create(thread, attributes, run, arg);
}

#define pthread_create fault_pthread_create /* until all.c undefines it */

#endif /* FAULT_HOOKS_H */
