/* header.h - sched.h as the fault tests compile it, in one of the variants.
 *   SCH_NO_ASM      stacks are switched by ucontext
 *   FAULT_CONDVAR   no futex, no timerfd: condition variables, the alarm of other systems
 *   FAULT_POSIX     the islands for a system that is neither Linux nor a BSD
 * Libc's headers come first, so that what is undefined here stays so. */
#ifndef FAULT_HEADER_H
#define FAULT_HEADER_H

#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(FAULT_CONDVAR)
enum { FAULT_SYS_FUTEX = SYS_futex, FAULT_SYS_TIMERFD = SYS_timerfd_settime };
#undef SYS_futex
#undef SYS_timerfd_settime
#elif defined(FAULT_POSIX)
#undef __linux__
#endif

#define SCH_DEBUG 3
#define SCH_SLAB_SIZE 16384 /* so that a tour needs several */
#define SCH_RUNQ_CAP 16
#define SCH_STACK_CACHE 8
#define SCH_EVENT_INTERVAL 7
#define SCHI_LIBC_CALLS /* recv and send by functions that can be wrapped */
#define SCHED_IMPLEMENTATION
#include "../../sched.h"
#if defined(FAULT_CONDVAR)
#define SYS_futex FAULT_SYS_FUTEX
#define SYS_timerfd_settime FAULT_SYS_TIMERFD
#endif

#if defined(FAULT_CONDVAR) || defined(FAULT_POSIX)
#define FAULT_HAS_IO false
#else
#define FAULT_HAS_IO true
#endif
#if defined(FAULT_POSIX)
#define FAULT_CAN_PIN false
#else
#define FAULT_CAN_PIN true
#endif

#endif /* FAULT_HEADER_H */
