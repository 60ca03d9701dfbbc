/* libc.h - makes what sched.h asks of libc and the kernel fail on demand. After test.h.
 *
 * Linked with -Wl,--wrap=NAME for each name below (run.sh), so every call that this program makes
 * goes through here, those under the alias schi_libc_syscall included; libc's own calls do not.
 * A kind is one thing that can fail; its errors are those that the system can give.
 *
 *   fault_arm(mode, kind, nth, error)   FAULT_ONCE: the nth call of this kind fails; FAULT_FROM: it
 *                         and all later ones; FAULT_RANDOM: `nth` of 65536 calls of this kind, or
 *                         of all if it is FAULT_KINDS
 *   fault_off()           nothing fails any more
 *   fault_pause(), fault_resume()   the same for the time of a retry; any thread, they nest
 *   fault_injected(kind)  how many failed since fault_arm
 *   fault_excuses(error)  does what has failed since fault_arm explain this error to a caller?
 *   fault_balance(text)   what was taken and not given back, as a text; "" if nothing
 *
 * What is left out, because the kernel cannot fail it for the arguments that the header gives:
 * FUTEX_WAKE, MADV_GUARD_REMOVE, clock_gettime, getcontext, locking a mutex, reading the signal
 * mask, EPOLL_CTL_DEL, SO_TYPE of a socket. A write to the eventfd may report EAGAIN only when the
 * counter is full, so here it does so after it was done. Calls on descriptors: descriptors.h. */
#ifndef FAULT_LIBC_H
#define FAULT_LIBC_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    FAULT_ALLOC, /* config.allocator */
    FAULT_MAP_PAGES,
    FAULT_MALLOC,
    FAULT_ALIGNED_ALLOC,
    FAULT_MMAP,
    FAULT_MUNMAP,
    FAULT_MPROTECT,
    FAULT_MADVISE,
    FAULT_OPEN,
    FAULT_READ,
    FAULT_CLOSE,
    FAULT_POLL,
    FAULT_SYSCONF,
    FAULT_THREAD,
    FAULT_ATTR,
    FAULT_ATTR_STACK,
    FAULT_MUTEX,
    FAULT_COND,
    FAULT_CONDATTR,
    FAULT_CONDATTR_CLOCK,
    FAULT_COND_WAIT,
    FAULT_FUTEX_WAIT,
    FAULT_TIMERFD,
    FAULT_TIMER_SET,
    FAULT_EVENTFD,
    FAULT_EVENT_WRITE,
    FAULT_ALARM_READ,
    FAULT_AFFINITY,
    FAULT_PIN,
    FAULT_RANDOM_BYTES,
    FAULT_SIGMASK,
    FAULT_PRCTL,
    FAULT_BARRIER,
    FAULT_PIPE,
    FAULT_EPOLL_CREATE, /* the first of those on descriptors */
    FAULT_EPOLL_ADD,
    FAULT_EPOLL_WAIT,
    FAULT_EPOLL_PWAIT2,
    FAULT_FCNTL,
    FAULT_FSTAT,
    FAULT_SOCKET_NAME,
    FAULT_CONNECTED,
    FAULT_SOCKET,
    FAULT_BIND,
    FAULT_LISTEN,
    FAULT_CONNECT,
    FAULT_ACCEPT,
    FAULT_IO_READ,
    FAULT_IO_WRITE,
    FAULT_SHORT_READ,
    FAULT_SHORT_WRITE,
    FAULT_SIGNALFD,
    FAULT_PIDFD,
    FAULT_READY,
    FAULT_REAP,
    FAULT_KINDS
};

/* What a caller of the library may be told because of a kind. */
enum {
    SHOWS_NOTHING = 0,
    SHOWS_ITSELF = 1,
    SHOWS_ENOMEM = 2,
    SHOWS_EAGAIN = 4,
    SHOWS_EINVAL = 8,
    SHOWS_HARD = 16 /* itself, but for what means that it is to be tried again */
};

#define FAULT_ERRORS 6
typedef struct fault_kind {
    const char *name;
    unsigned shows;
    int errors[FAULT_ERRORS]; /* 0 ends the list */
} fault_kind;

static const fault_kind fault_kinds[FAULT_KINDS] = {
    [FAULT_ALLOC] = {"allocator.alloc", SHOWS_ENOMEM | SHOWS_EAGAIN, {ENOMEM}},
    [FAULT_MAP_PAGES] = {"allocator.map_pages", SHOWS_ENOMEM, {ENOMEM}},
    [FAULT_MALLOC] = {"malloc", SHOWS_ENOMEM | SHOWS_EAGAIN, {ENOMEM}},
    [FAULT_ALIGNED_ALLOC] = {"aligned_alloc", SHOWS_ENOMEM | SHOWS_EAGAIN, {ENOMEM}},
    [FAULT_MMAP] = {"mmap", SHOWS_ENOMEM, {ENOMEM, EAGAIN}},
    [FAULT_MUNMAP] = {"munmap", SHOWS_NOTHING, {ENOMEM}},
    [FAULT_MPROTECT] = {"mprotect", SHOWS_NOTHING, {ENOMEM}},
    [FAULT_MADVISE] = {"madvise", SHOWS_NOTHING, {EINVAL, ENOMEM, EAGAIN}},
    [FAULT_OPEN] = {"open", SHOWS_NOTHING, {EMFILE, ENFILE, ENOENT, EINTR}},
    [FAULT_READ] = {"read", SHOWS_NOTHING, {EINTR, EIO}},
    [FAULT_CLOSE] = {"close", SHOWS_NOTHING, {EINTR, EIO}},
    [FAULT_POLL] = {"poll, ppoll", SHOWS_NOTHING, {EINTR, ENOMEM}},
    [FAULT_SYSCONF] = {"sysconf", SHOWS_NOTHING, {EINVAL}},
    [FAULT_THREAD] = {"pthread_create", SHOWS_EAGAIN, {EAGAIN}},
    [FAULT_ATTR] = {"pthread_attr_init", SHOWS_ENOMEM | SHOWS_EAGAIN, {ENOMEM}},
    [FAULT_ATTR_STACK] = {"pthread_attr_setstacksize", SHOWS_EINVAL | SHOWS_EAGAIN, {EINVAL}},
    [FAULT_MUTEX] = {"pthread_mutex_init", SHOWS_ITSELF | SHOWS_EAGAIN, {ENOMEM, EAGAIN}},
    [FAULT_COND] = {"pthread_cond_init", SHOWS_ITSELF | SHOWS_EAGAIN, {ENOMEM, EAGAIN}},
    [FAULT_CONDATTR] = {"pthread_condattr_init", SHOWS_ITSELF | SHOWS_EAGAIN, {ENOMEM}},
    [FAULT_CONDATTR_CLOCK] = {"pthread_condattr_setclock", SHOWS_ITSELF | SHOWS_EAGAIN, {EINVAL}},
    [FAULT_COND_WAIT] = {"pthread_cond_wait, spurious", SHOWS_NOTHING, {EINTR}},
    [FAULT_FUTEX_WAIT] = {"futex wait", SHOWS_NOTHING, {EINTR, EAGAIN, ETIMEDOUT}},
    [FAULT_TIMERFD] = {"timerfd_create", SHOWS_ITSELF, {EMFILE, ENFILE, ENODEV, ENOMEM}},
    [FAULT_TIMER_SET] = {"timerfd_settime", SHOWS_ITSELF, {EPERM}}, /* when it is made */
    [FAULT_EVENTFD] = {"eventfd2", SHOWS_ITSELF, {EMFILE, ENFILE, ENODEV, ENOMEM}},
    [FAULT_EVENT_WRITE] = {"eventfd write", SHOWS_NOTHING, {EAGAIN}},
    [FAULT_ALARM_READ] = {"alarm read", SHOWS_NOTHING, {EINTR, EAGAIN}},
    [FAULT_AFFINITY] = {"sched_getaffinity", SHOWS_NOTHING, {EINVAL, ENOSYS}},
    [FAULT_PIN] = {"sched_setaffinity", SHOWS_EINVAL, {EINVAL, EPERM}},
    [FAULT_RANDOM_BYTES] = {"getrandom", SHOWS_NOTHING, {EAGAIN, ENOSYS}},
    [FAULT_SIGMASK] = {"rt_sigprocmask", SHOWS_NOTHING, {EPERM}},
    [FAULT_PRCTL] = {"prctl", SHOWS_NOTHING, {EPERM}},
    [FAULT_BARRIER] = {"membarrier", SHOWS_NOTHING, {ENOSYS, EPERM, ENOMEM}},
    [FAULT_PIPE] = {"pipe", SHOWS_ITSELF, {EMFILE, ENFILE}},
    [FAULT_EPOLL_CREATE] = {"epoll_create1", SHOWS_HARD, {EMFILE, ENFILE, ENOMEM}},
    [FAULT_EPOLL_ADD] = {"epoll_ctl", SHOWS_HARD, {ENOMEM, ENOSPC}},
    [FAULT_EPOLL_WAIT] = {"epoll_wait", SHOWS_NOTHING, {EINTR}},
    [FAULT_EPOLL_PWAIT2] = {"epoll_pwait2", SHOWS_NOTHING, {EINTR, ENOSYS, EPERM}},
    [FAULT_FCNTL] = {"fcntl", SHOWS_HARD, {EPERM}},
    [FAULT_FSTAT] = {"fstat", SHOWS_HARD, {EOVERFLOW, ENOMEM}},
    [FAULT_SOCKET_NAME] = {"getsockname", SHOWS_NOTHING, {ENOBUFS}},
    [FAULT_CONNECTED] = {"getsockopt SO_ERROR, getpeername", SHOWS_HARD, {ENOBUFS}},
    [FAULT_SOCKET] = {"socket", SHOWS_HARD, {EMFILE, ENFILE, ENOBUFS, ENOMEM}},
    [FAULT_BIND] = {"bind", SHOWS_HARD, {EADDRINUSE, ENOMEM}},
    [FAULT_LISTEN] = {"listen", SHOWS_HARD, {EADDRINUSE}},
    [FAULT_CONNECT] = {"connect", SHOWS_HARD, {ECONNREFUSED, EINPROGRESS, EINTR, EAGAIN}},
    [FAULT_ACCEPT] = {"accept4", SHOWS_HARD,
                      {EMFILE, ENFILE, ENOBUFS, EAGAIN, EINTR, ECONNABORTED}},
    [FAULT_IO_READ] = {"read, recv", SHOWS_HARD, {EAGAIN, EINTR, ENOMEM}},
    [FAULT_IO_WRITE] = {"write, send", SHOWS_HARD, {EAGAIN, EINTR, ENOBUFS}},
    [FAULT_SHORT_READ] = {"read, less than there is", SHOWS_NOTHING, {EAGAIN}},
    [FAULT_SHORT_WRITE] = {"write, less than fits", SHOWS_NOTHING, {EAGAIN}},
    [FAULT_SIGNALFD] = {"signalfd4", SHOWS_HARD, {EMFILE, ENFILE, ENODEV, ENOMEM}},
    [FAULT_PIDFD] = {"pidfd_open", SHOWS_HARD, {EMFILE, ENFILE, ENOMEM, ENOSYS}},
    [FAULT_READY] = {"poll for a moment", SHOWS_HARD, {EINTR, ENOMEM}},
    [FAULT_REAP] = {"waitpid", SHOWS_NOTHING, {EINTR}},
};

/* It is to be tried again: at once, or when the system says so. */
static bool fault_is_soft(int error) {
    return error == EAGAIN || error == EINTR || error == ECONNABORTED || error == EINPROGRESS;
}

/* The functions themselves, and ours in their place. Names by asm: ld wants reserved ones. */
#define FAULT_WRAP(result, name, arguments)                        \
    extern result real_##name arguments __asm__("__real_" #name);  \
    extern result fault_##name arguments __asm__("__wrap_" #name); \
    result fault_##name arguments

typedef enum fault_mode { FAULT_NONE, FAULT_ONCE, FAULT_FROM, FAULT_RANDOM } fault_mode;

static struct {
    fault_mode mode; /* all: set by the test, read by any; atomic */
    unsigned kind;
    uint64_t nth;
    int error;
    uint64_t random; /* state of the generator */
    unsigned paused;
    bool waits;                  /* timers and pipes are used: then it is not made up that a timer
                                    cannot be set, nor that signals cannot be blocked */
    bool old_kernel;             /* there is no MADV_GUARD_INSTALL, for good */
    bool real;                   /* somebody else makes things fail; all errors are excused */
    void (*lift)(bool lifted);   /* then: called by pause and resume, may be NULL */
    void (*refusing)(void);      /* called before a thread is refused; may be NULL */
    uint64_t calls[FAULT_KINDS]; /* since fault_arm, while not paused */
    uint64_t failed[FAULT_KINDS];
    unsigned shown[FAULT_KINDS][FAULT_ERRORS]; /* which of its errors */
    uint64_t total[FAULT_KINDS];               /* since the start */
} fault;

/* What is out: numbers, and sums over a hash of what has to come back unchanged. */
static struct {
    int64_t heap, pages, mutexes, conds, condattrs, attrs;
    uint64_t heap_sum, refused_unmaps;
} fault_out;

#define FAULT_ADD(field, n) __atomic_add_fetch(&(field), n, __ATOMIC_SEQ_CST)
#define FAULT_GET(field) __atomic_load_n(&(field), __ATOMIC_SEQ_CST)
#define FAULT_SET(field, value) __atomic_store_n(&(field), value, __ATOMIC_SEQ_CST)

static uint64_t fault_mix(uint64_t x) { /* splitmix64 */
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static unsigned fault_num_errors(unsigned kind) {
    unsigned n = 0;
    while (n < FAULT_ERRORS && fault_kinds[kind].errors[n]) n++;
    return n;
}

/* Shall this call fail? 0, or with which error. Keeps errno. */
static int fault_ask(unsigned kind) {
    fault_mode mode = FAULT_GET(fault.mode);
    unsigned choice = 0;
    if (mode == FAULT_NONE || FAULT_GET(fault.paused) > 0) return 0;
    if (fault.kind != kind && fault.kind != FAULT_KINDS) return 0;
    uint64_t call = FAULT_ADD(fault.calls[kind], 1);
    if (mode == FAULT_RANDOM) {
        uint64_t dice = fault_mix(FAULT_ADD(fault.random, 1));
        if (dice % 65536 >= fault.nth) return 0;
        choice = (unsigned)(dice >> 32) % fault_num_errors(kind);
    } else {
        if (mode == FAULT_ONCE ? call != fault.nth : call < fault.nth) return 0;
        while (fault_kinds[kind].errors[choice] != fault.error) choice++;
    }
    FAULT_ADD(fault.failed[kind], 1);
    FAULT_ADD(fault.total[kind], 1);
    FAULT_SET(fault.shown[kind][choice], 1u);
    return fault_kinds[kind].errors[choice];
}

/* The same, and errno is set. */
static bool fault_hits(unsigned kind) {
    int error = fault_ask(kind);
    if (error) errno = error;
    return error != 0;
}

TEST_UNUSED static void fault_arm(fault_mode mode, unsigned kind, uint64_t nth, int error) {
    memset(fault.calls, 0, sizeof fault.calls);
    memset(fault.failed, 0, sizeof fault.failed);
    memset(fault.shown, 0, sizeof fault.shown);
    fault.kind = kind, fault.nth = nth, fault.error = error;
    FAULT_SET(fault.mode, mode);
}

static void fault_off(void) { FAULT_SET(fault.mode, FAULT_NONE); }

/* Under a lock, so that lift says what holds. */
static void fault_pause_by(unsigned n) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    unsigned paused = FAULT_ADD(fault.paused, n);
    if (fault.lift) fault.lift(paused > 0);
    pthread_mutex_unlock(&lock);
}

static void fault_pause(void) { fault_pause_by(1); }
static void fault_resume(void) { fault_pause_by(~0u); }

static uint64_t fault_injected(unsigned kind) { return FAULT_GET(fault.failed[kind]); }

static bool fault_excuses(int error) {
    if (fault.real) return error == ENOMEM || error == EAGAIN || error == EMFILE || error == ENFILE;
    for (unsigned kind = 0; kind < FAULT_KINDS; kind++) {
        unsigned shows = fault_kinds[kind].shows;
        if (fault_injected(kind) == 0) continue;
        if ((shows & SHOWS_ENOMEM) && error == ENOMEM) return true;
        if ((shows & SHOWS_EAGAIN) && error == EAGAIN) return true;
        if ((shows & SHOWS_EINVAL) && error == EINVAL) return true;
        if ((shows & SHOWS_HARD) && fault_is_soft(error)) continue;
        for (unsigned i = 0; (shows & (SHOWS_ITSELF | SHOWS_HARD)) && i < FAULT_ERRORS; i++) {
            if (FAULT_GET(fault.shown[kind][i]) && fault_kinds[kind].errors[i] == error)
                return true;
        }
    }
    return false;
}

static const char *fault_balance(char *text, size_t size) {
    int length = 0;
    text[0] = 0;
    if (fault_out.heap || fault_out.heap_sum) {
        length = snprintf(text, size, " %lld blocks%s", (long long)fault_out.heap,
                          fault_out.heap_sum ? ", not what was given" : "");
    }
    const struct {
        const char *name;
        int64_t n;
    } rest[] = {{"mapped bytes", fault_out.pages},
                {"mutexes", fault_out.mutexes},
                {"conditions", fault_out.conds},
                {"condition attributes", fault_out.condattrs},
                {"thread attributes", fault_out.attrs}};
    for (size_t i = 0; i < sizeof rest / sizeof rest[0]; i++) {
        if (rest[i].n == 0) continue;
        length += snprintf(text + length, size - (size_t)length, " %lld %s", (long long)rest[i].n,
                           rest[i].name);
    }
    return text;
}

/* Memory ----------------------------------------------------------------------------------------*/

static void fault_took(const void *memory, uint64_t size, uint64_t align) {
    FAULT_ADD(fault_out.heap, 1);
    FAULT_ADD(fault_out.heap_sum, fault_mix((uintptr_t)memory ^ size << 40 ^ align << 20));
}

static void fault_gave(const void *memory, uint64_t size, uint64_t align) {
    FAULT_ADD(fault_out.heap, -1);
    FAULT_ADD(fault_out.heap_sum, 0 - fault_mix((uintptr_t)memory ^ size << 40 ^ align << 20));
}

FAULT_WRAP(void, free, (void *memory)) {
    if (memory) fault_gave(memory, 0, 0);
    real_free(memory);
}

FAULT_WRAP(void *, malloc, (size_t size)) {
    void *memory = fault_hits(FAULT_MALLOC) ? NULL : real_malloc(size);
    if (memory) fault_took(memory, 0, 0);
    return memory;
}

FAULT_WRAP(void *, aligned_alloc, (size_t align, size_t size)) {
    void *memory = fault_hits(FAULT_ALIGNED_ALLOC) ? NULL : real_aligned_alloc(align, size);
    if (memory) fault_took(memory, 0, 0);
    return memory;
}

FAULT_WRAP(void *, mmap, (void *at, size_t size, int protection, int flags, int fd, off_t offset)) {
    void *memory =
        fault_hits(FAULT_MMAP) ? MAP_FAILED : real_mmap(at, size, protection, flags, fd, offset);
    if (memory != MAP_FAILED) FAULT_ADD(fault_out.pages, (int64_t)size);
    return memory;
}

/* A refused munmap leaves the pages to nobody: the caller can do nothing. So that the balance shows
 * only what is the library's fault, they go all the same. */
FAULT_WRAP(int, munmap, (void *memory, size_t size)) {
    int error = fault_ask(FAULT_MUNMAP);
    FAULT_ADD(fault_out.pages, -(int64_t)size);
    if (real_munmap(memory, size) != 0) abort();
    if (error) FAULT_ADD(fault_out.refused_unmaps, 1u), errno = error;
    return error ? -1 : 0;
}

FAULT_WRAP(int, mprotect, (void *memory, size_t size, int protection)) {
    /* Opening pages again merges mappings and needs no memory. */
    if (protection == PROT_NONE && fault_hits(FAULT_MPROTECT)) return -1;
    return real_mprotect(memory, size, protection);
}

FAULT_WRAP(int, madvise, (void *memory, size_t size, int advice)) {
    return fault_hits(FAULT_MADVISE) ? -1 : real_madvise(memory, size, advice);
}

/* config.allocator */
static void *fault_alloc(size_t size, size_t align, void *user) {
    size_t unit = align < sizeof(void *) ? sizeof(void *) : align;
    (void)user;
    if (fault_hits(FAULT_ALLOC)) return NULL;
    void *memory = real_aligned_alloc(unit, (size + unit - 1) / unit * unit);
    if (!memory) return NULL;
    fault_took(memory, size, align);
    memset(memory, 0xa5, size);
    return memory;
}

static void fault_free_block(void *memory, size_t size, size_t align, void *user) {
    (void)user;
    fault_gave(memory, size, align);
    memset(memory, 0xdd, size); /* also faults if some of it is still guarded */
    real_free(memory);
}

static void *fault_map_pages(size_t size, void *user) {
    (void)user;
    if (fault_hits(FAULT_MAP_PAGES)) return NULL;
    void *memory = real_mmap(NULL, size, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return NULL;
    FAULT_ADD(fault_out.pages, (int64_t)size);
    return memory;
}

static void fault_unmap_pages(void *memory, size_t size, void *user) {
    (void)user;
    FAULT_ADD(fault_out.pages, -(int64_t)size);
    if (real_munmap(memory, size) != 0) abort();
}

/* Files -----------------------------------------------------------------------------------------*/

FAULT_WRAP(int, open, (const char *path, int flags, ...)) {
    return fault_hits(FAULT_OPEN) ? -1 : real_open(path, flags);
}

#include "descriptors.h"

FAULT_WRAP(ssize_t, read, (int fd, void *buffer, size_t size)) {
    if (fault_is_watched(fd)) return fault_input(fd, buffer, size, real_read_some);
    return fault_hits(FAULT_READ) ? -1 : real_read(fd, buffer, size);
}

FAULT_WRAP(int, close, (int fd)) { /* the descriptor goes, as on Linux, whatever close says */
    int error = fault_ask(FAULT_CLOSE);
    fault_forget(fd);
    if (real_close(fd) != 0) abort();
    if (error) errno = error;
    return error ? -1 : 0;
}

FAULT_WRAP(int, pipe, (int *ends)) { return fault_hits(FAULT_PIPE) ? -1 : real_pipe(ends); }

FAULT_WRAP(int, poll, (struct pollfd * fds, nfds_t n, int time_out)) {
    unsigned kind = n == 1 && time_out == 0 ? FAULT_READY : FAULT_POLL;
    return fault_hits(kind) ? -1 : real_poll(fds, n, time_out);
}

FAULT_WRAP(long, sysconf, (int name)) {
    bool ours =
        name == _SC_PAGESIZE || name == _SC_THREAD_STACK_MIN || name == _SC_NPROCESSORS_ONLN;
    return ours && fault_hits(FAULT_SYSCONF) ? -1 : real_sysconf(name);
}

/* System calls by number ------------------------------------------------------------------------*/

static bool fault_syscall_hits(long number, const long *a) {
    switch (number) {
    case SYS_madvise:
        if (a[2] == 103 /* MADV_GUARD_REMOVE */) return false;
        if (a[2] == 102 /* MADV_GUARD_INSTALL */ && fault.old_kernel) {
            errno = EINVAL;
            return true;
        }
        return fault_hits(FAULT_MADVISE);
    case SYS_futex:
        return a[1] == (9 | 128) /* FUTEX_WAIT_BITSET */ && fault_hits(FAULT_FUTEX_WAIT);
    case SYS_timerfd_create: return fault_hits(FAULT_TIMERFD);
    case SYS_timerfd_settime: return !fault.waits && fault_hits(FAULT_TIMER_SET);
    case SYS_ppoll: return fault_hits(FAULT_POLL);
    case SYS_eventfd2: return fault_hits(FAULT_EVENTFD);
    case SYS_read: return fault_hits(FAULT_ALARM_READ);
    case SYS_sched_getaffinity: return fault_hits(FAULT_AFFINITY);
    case SYS_sched_setaffinity: return fault_hits(FAULT_PIN);
    case SYS_getrandom: return fault_hits(FAULT_RANDOM_BYTES);
    case SYS_membarrier: return fault_hits(FAULT_BARRIER);
    case SYS_prctl: return fault_hits(FAULT_PRCTL);
    case SYS_rt_sigprocmask:
        /* SIG_SETMASK; not when it is undone, nor when it is only read */
        return a[0] == 2 && a[1] != 0 && a[2] != 0 && !fault.waits && fault_hits(FAULT_SIGMASK);
    case SYS_epoll_pwait2: return fault_hits(FAULT_EPOLL_PWAIT2);
    case SYS_signalfd4: return fault_hits(FAULT_SIGNALFD);
    case SYS_pidfd_open: return fault_hits(FAULT_PIDFD);
    case SYS_accept4: return fault_refuses_accept((int)a[0]);
    default: return false;
    }
}

FAULT_WRAP(long, syscall, (long number, ...)) {
    long a[6], result;
    va_list arguments;
    va_start(arguments, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(arguments, long);
    va_end(arguments);
    if (fault_syscall_hits(number, a)) return -1;
    result = real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    return number == SYS_write && fault_hits(FAULT_EVENT_WRITE) ? -1 : result;
}

/* Threads, locks --------------------------------------------------------------------------------*/

FAULT_WRAP(int, pthread_create,
           (pthread_t * thread, const pthread_attr_t *attributes, void *(*run)(void *),
            void *arg)) {
    int error = fault_ask(FAULT_THREAD);
    if (error && fault.refusing) fault.refusing();
    return error ? error : real_pthread_create(thread, attributes, run, arg);
}

FAULT_WRAP(int, pthread_attr_init, (pthread_attr_t * attributes)) {
    int error = fault_ask(FAULT_ATTR);
    if (!error) error = real_pthread_attr_init(attributes);
    if (!error) FAULT_ADD(fault_out.attrs, 1);
    return error;
}

FAULT_WRAP(int, pthread_attr_destroy, (pthread_attr_t * attributes)) {
    FAULT_ADD(fault_out.attrs, -1);
    return real_pthread_attr_destroy(attributes);
}

FAULT_WRAP(int, pthread_attr_setstacksize, (pthread_attr_t * attributes, size_t size)) {
    int error = fault_ask(FAULT_ATTR_STACK);
    return error ? error : real_pthread_attr_setstacksize(attributes, size);
}

FAULT_WRAP(int, pthread_mutex_init, (pthread_mutex_t * m, const pthread_mutexattr_t *attributes)) {
    int error = fault_ask(FAULT_MUTEX);
    if (!error) error = real_pthread_mutex_init(m, attributes);
    if (!error) FAULT_ADD(fault_out.mutexes, 1);
    return error;
}

FAULT_WRAP(int, pthread_mutex_destroy, (pthread_mutex_t * m)) {
    FAULT_ADD(fault_out.mutexes, -1);
    return real_pthread_mutex_destroy(m);
}

FAULT_WRAP(int, pthread_cond_init, (pthread_cond_t * c, const pthread_condattr_t *attributes)) {
    int error = fault_ask(FAULT_COND);
    if (!error) error = real_pthread_cond_init(c, attributes);
    if (!error) FAULT_ADD(fault_out.conds, 1);
    return error;
}

FAULT_WRAP(int, pthread_cond_destroy, (pthread_cond_t * c)) {
    FAULT_ADD(fault_out.conds, -1);
    return real_pthread_cond_destroy(c);
}

FAULT_WRAP(int, pthread_condattr_init, (pthread_condattr_t * attributes)) {
    int error = fault_ask(FAULT_CONDATTR);
    if (!error) error = real_pthread_condattr_init(attributes);
    if (!error) FAULT_ADD(fault_out.condattrs, 1);
    return error;
}

FAULT_WRAP(int, pthread_condattr_destroy, (pthread_condattr_t * attributes)) {
    FAULT_ADD(fault_out.condattrs, -1);
    return real_pthread_condattr_destroy(attributes);
}

FAULT_WRAP(int, pthread_condattr_setclock, (pthread_condattr_t * attributes, clockid_t clock)) {
    int error = fault_ask(FAULT_CONDATTR_CLOCK);
    return error ? error : real_pthread_condattr_setclock(attributes, clock);
}

/* The harness's watchdog waits by conditions, too. */
static bool fault_spurious(const pthread_cond_t *c) {
    return c != &test_watch.changed && fault_ask(FAULT_COND_WAIT);
}

FAULT_WRAP(int, pthread_cond_wait, (pthread_cond_t * c, pthread_mutex_t *m)) {
    return fault_spurious(c) ? 0 : real_pthread_cond_wait(c, m);
}

FAULT_WRAP(int, pthread_cond_timedwait,
           (pthread_cond_t * c, pthread_mutex_t *m, const struct timespec *until)) {
    return fault_spurious(c) ? 0 : real_pthread_cond_timedwait(c, m, until);
}

#endif /* FAULT_LIBC_H */
