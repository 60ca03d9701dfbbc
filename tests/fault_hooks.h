/* fault_hooks.h - included before the header under test: makes the system refuse it a thread.
 *
 *   fault_threads(ask)    from now on `ask` is called before each thread that the library makes, by
 *                         the thread that makes it; it returns 0 or the error of pthread_create.
 *                         NULL: no more.
 *   fault_atforks         how many calls of pthread_atfork are yet to be refused. */
#ifndef FAULT_HOOKS_H
#define FAULT_HOOKS_H

#include <errno.h>
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

static int fault_atforks; /* any, atomic */

static int fault_pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void)) {
    int left = __atomic_load_n(&fault_atforks, __ATOMIC_SEQ_CST);
    if (left == 0) return pthread_atfork(prepare, parent, child);
    __atomic_store_n(&fault_atforks, left - 1, __ATOMIC_SEQ_CST);
    return ENOMEM;
}

#define pthread_atfork fault_pthread_atfork /* both until all.c undefines them */
#define pthread_create fault_pthread_create

#endif /* FAULT_HOOKS_H */
