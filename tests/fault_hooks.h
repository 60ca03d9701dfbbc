/* fault_hooks.h - included before the header under test: makes the system refuse it a thread.
 *
 *   fault_thread_create   if set, asked before each thread that the library makes; returns 0, or the
 *                         error with which it cannot be made. Atomic; any thread calls it. */
#ifndef FAULT_HOOKS_H
#define FAULT_HOOKS_H

#include <pthread.h>

typedef int (*fault_thread_fn)(void);
static fault_thread_fn fault_thread_create;

static int fault_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                                void *(*run)(void *), void *arg) {
    fault_thread_fn ask = __atomic_load_n(&fault_thread_create, __ATOMIC_SEQ_CST);
    int error = ask ? ask() : 0;
    return error ? error : pthread_create(thread, attributes, run, arg);
}

#define pthread_create fault_pthread_create /* until all.c undefines it */

#endif /* FAULT_HOOKS_H */
