/* kqueue.c - kqueue(2) on Linux, so that sched.h's kqueue back end runs where it is developed.
 *
 * A kqueue is an epoll descriptor (so poll() and another kqueue take it) that watches: one epoll
 * for each of EVFILT_READ, EVFILT_WRITE and EVFILT_EXCEPT, so that an edge of one is no edge of
 * another; an eventfd, readable while a filter without a descriptor is active; a timerfd set to the
 * earliest timer; a signalfd; a pidfd for each EVFILT_PROC. One lock guards everything, and whoever
 * holds it blocks all signals: so signal handlers may call kevent() and close(), as they may the
 * system calls. A wait holds no lock.
 *
 * As the real ones do: any thread may change, trigger and wait at once; close(fd) removes the
 * filters of fd, and close(kq) ends the waits with EBADF; a fork's child has no kqueues, and what
 * has their number may be something else; EV_ADD on what is there changes it and looks again; any
 * change replaces udata (FreeBSD); EV_RECEIPT; errors go to the event list if there is room.
 *
 * KQUEUE_FLAVOUR=strict in the environment: where real ones differ, the one that is harder to use.
 *   - EV_ADD on an armed timer does not move it (DragonFly, FreeBSD before 12)
 *   - EVFILT_PROC on a child that has ended but was not reaped: ESRCH (macOS)
 *   - timers are in milliseconds, other units are EINVAL
 *   - EV_ERROR is added to the change's flags instead of replacing them (macOS)
 *
 * What real ones do and this does not
 *   - fflags of EVFILT_READ and EVFILT_WRITE hold the socket's error: here 0 (Linux cannot tell it
 *     without clearing it). NOTE_LOWAT, EVFILT_VNODE, EVFILT_FS, EVFILT_AIO, NOTE_FORK, NOTE_EXEC,
 *     NOTE_ABSTIME, EV_UDATA_SPECIFIC, kevent64: none.
 *   - EVFILT_WRITE with EV_CLEAR: real ones fire each time the peer takes something; Linux fires
 *     once after a write had been refused. Fewer events: harder on the user.
 *   - A socket's change of state (FIN, reset) may fire EVFILT_WRITE once more than it should, and a
 *     socket that was never connected reports EV_EOF at once. EV_EOF is not set on EVFILT_WRITE by
 *     the program's own shutdown(SHUT_WR).
 *   - data of EVFILT_READ on a listening socket is 1, not the backlog's length; of EVFILT_WRITE an
 *     estimate.
 *   - EVFILT_READ on a regular file fires once if it is not at its end (the real ones: also when it
 *     grows).
 *   - EVFILT_SIGNAL: a signal that is ignored, by SIG_IGN or by default, or that has a handler, is
 *     counted by a handler installed in its place at EV_ADD (restored at EV_DELETE): do not change
 *     the disposition in between. One that all threads block is taken from the pending ones; the
 *     real ones leave it there, to be delivered when it is no longer blocked.
 *   - EVFILT_PROC: data is the exit status only for a child that nobody reaped before.
 *   - dup2() over a registered descriptor, and closes inside of libc: its filters stay until the
 *     number is added again.
 */
#define _GNU_SOURCE
#include <sys/event.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BUCKETS = 1024, BATCH = 64, SECOND_NS = 1000000000, NUM_SIDES = 3 };

/* What an event of the kqueue's own epoll means: tag << 32 | detail. */
enum { TAG_SIDE, TAG_WAKE, TAG_TIMER, TAG_SIGNAL, TAG_PROC };

typedef struct knote {
    struct knote *next;                    /* in its bucket, or in the list of free ones */
    struct knote *active_next, *active_prev; /* while queued */
    struct kevent event;                   /* ident, filter, flags, fflags, data, udata */
    uint64_t due, period;                  /* of a timer */
    uint32_t generation;                   /* of a descriptor's registration */
    int pidfd;                             /* of EVFILT_PROC, or -1 */
    bool queued;                           /* in the active list */
    bool active, disabled;                 /* active while disabled: queued when enabled */
    bool no_epoll;                         /* a file: always ready, or at its end */
    bool is_socket;
    bool armed;                            /* the timer runs */
} knote;

typedef struct kqueue_state {
    struct kqueue_state *next;
    int fd, sides[NUM_SIDES], wake, timer, signal;
    unsigned waiters; /* in kevent */
    unsigned turn;    /* who is asked first next time */
    bool closing;
    uint64_t timer_set; /* what the timerfd is set to; 0: nothing */
    sigset_t signals;   /* of EVFILT_SIGNAL */
    knote *active_first, *active_last;
    knote *buckets[BUCKETS];
} kqueue_state;

typedef struct kept_action {
    unsigned users; /* knotes */
    struct sigaction before;
} kept_action;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* all that follows */
static kqueue_state *all;
static unsigned num_all; /* read without the lock */
static knote *free_knotes;
static uint32_t last_generation;
static kept_action kept[NSIG];
static bool strict;
static sigset_t fork_mask;

static void lock_take(sigset_t *mask) {
    sigset_t every;
    sigfillset(&every);
    pthread_sigmask(SIG_BLOCK, &every, mask);
    pthread_mutex_lock(&lock);
}

static void lock_give(const sigset_t *mask) {
    pthread_mutex_unlock(&lock);
    pthread_sigmask(SIG_SETMASK, mask, NULL);
}

static uint64_t now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * SECOND_NS + (uint64_t)ts.tv_nsec;
}

static struct timespec to_timespec(uint64_t ns) {
    struct timespec ts;
    ts.tv_sec = (time_t)(ns / SECOND_NS), ts.tv_nsec = (long)(ns % SECOND_NS);
    return ts;
}

static kqueue_state *find_kqueue(int fd) {
    kqueue_state *q = all;
    while (q && q->fd != fd) q = q->next;
    return q;
}

/* Knotes. They come from mmap, since kevent() may be called by signal handlers. -----------------*/

static knote **bucket_of(kqueue_state *q, int filter, uintptr_t ident) {
    return &q->buckets[(ident * 16 + (uintptr_t)-filter) % BUCKETS];
}

static knote *find_knote(kqueue_state *q, int filter, uintptr_t ident) {
    knote *k = *bucket_of(q, filter, ident);
    while (k && (k->event.filter != filter || k->event.ident != ident)) k = k->next;
    return k;
}

static knote *new_knote(kqueue_state *q, const struct kevent *change) {
    if (!free_knotes) {
        const size_t size = 65536;
        knote *more = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (more == MAP_FAILED) return NULL;
        for (size_t i = 0; i < size / sizeof *more; i++) {
            more[i].next = free_knotes;
            free_knotes = &more[i];
        }
    }
    knote *k = free_knotes, **bucket = bucket_of(q, change->filter, change->ident);
    free_knotes = k->next;
    memset(k, 0, sizeof *k);
    k->event = *change;
    k->event.flags &= EV_CLEAR | EV_ONESHOT | EV_DISPATCH;
    k->pidfd = -1;
    k->next = *bucket;
    *bucket = k;
    return k;
}

static void wake_set(kqueue_state *q, bool on) {
    uint64_t count = 1;
    ssize_t done = on ? write(q->wake, &count, sizeof count) : read(q->wake, &count, sizeof count);
    (void)done;
}

static void unqueue(kqueue_state *q, knote *k) {
    if (!k->queued) return;
    if (k->active_prev) {
        k->active_prev->active_next = k->active_next;
    } else {
        q->active_first = k->active_next;
    }
    if (k->active_next) {
        k->active_next->active_prev = k->active_prev;
    } else {
        q->active_last = k->active_prev;
    }
    k->queued = false;
    if (!q->active_first) wake_set(q, false);
}

static void queue(kqueue_state *q, knote *k) {
    if (k->queued) return;
    if (!q->active_first) wake_set(q, true);
    k->active_prev = q->active_last, k->active_next = NULL;
    if (q->active_last) {
        q->active_last->active_next = k;
    } else {
        q->active_first = k;
    }
    q->active_last = k;
    k->queued = true;
}

/* For the filters that are not epoll's. */
static void activate(kqueue_state *q, knote *k) {
    k->active = true;
    if (!k->disabled) queue(q, k);
}

static void deactivate(kqueue_state *q, knote *k) {
    k->active = false;
    unqueue(q, k);
}

/* Timers ----------------------------------------------------------------------------------------*/

static void set_timer(kqueue_state *q) {
    uint64_t first = 0;
    for (int i = 0; i < BUCKETS; i++) {
        for (knote *k = q->buckets[i]; k; k = k->next) {
            if (k->armed && (first == 0 || k->due < first)) first = k->due;
        }
    }
    if (first == q->timer_set) return;
    struct itimerspec when = {{0, 0}, to_timespec(first)};
    timerfd_settime(q->timer, TFD_TIMER_ABSTIME, &when, NULL);
    q->timer_set = first;
}

static void expire_timers(kqueue_state *q) {
    uint64_t now = now_ns(), count;
    for (int i = 0; i < BUCKETS; i++) {
        for (knote *k = q->buckets[i]; k; k = k->next) {
            if (!k->armed || k->due > now) continue;
            count = k->event.flags & EV_ONESHOT ? 1 : (now - k->due) / k->period + 1;
            k->armed = !(k->event.flags & EV_ONESHOT);
            k->due += count * k->period;
            k->event.data += (int64_t)count;
            activate(q, k);
        }
    }
    if (read(q->timer, &count, sizeof count) == sizeof count) q->timer_set = 0;
    set_timer(q);
}

/* Nanoseconds of a timer's change; 0: it is not valid. */
static uint64_t timer_period(const struct kevent *change) {
    uint64_t unit, value = (uint64_t)change->data;
    switch (change->fflags) {
    case NOTE_SECONDS: unit = SECOND_NS; break;
    case 0: case NOTE_MSECONDS: unit = 1000000; break;
    case NOTE_USECONDS: unit = 1000; break;
    case NOTE_NSECONDS: unit = 1; break;
    default: return 0;
    }
    if (change->data < 0 || (strict && change->fflags != 0)) return 0;
    if (value == 0) return 1;
    return value > INT64_MAX / 2 / unit ? INT64_MAX / 2 : value * unit;
}

static int start_timer(kqueue_state *q, knote *k, const struct kevent *change) {
    uint64_t period = timer_period(change);
    if (period == 0) return EINVAL;
    if (strict && k->armed) return 0;
    deactivate(q, k);
    k->event.flags |= EV_CLEAR;
    k->event.data = 0;
    k->period = period;
    k->due = now_ns() + period;
    k->armed = true;
    set_timer(q);
    return 0;
}

/* Signals ---------------------------------------------------------------------------------------*/

static void count_signal(int number) {
    for (kqueue_state *q = all; q; q = q->next) {
        knote *k = find_knote(q, EVFILT_SIGNAL, (uintptr_t)number);
        if (!k) continue;
        k->event.data++;
        activate(q, k);
    }
}

static void on_signal(int number, siginfo_t *info, void *context) {
    int error = errno;
    sigset_t mask;
    lock_take(&mask);
    struct sigaction before = kept[number].before;
    count_signal(number);
    lock_give(&mask);
    if (before.sa_flags & SA_SIGINFO) {
        before.sa_sigaction(number, info, context);
    } else if (before.sa_handler != SIG_IGN && before.sa_handler != SIG_DFL) {
        before.sa_handler(number);
    }
    errno = error;
}

static void add_signal(kqueue_state *q, int number) {
    struct sigaction action;
    if (number != SIGKILL && number != SIGSTOP && kept[number].users++ == 0) {
        sigaction(number, NULL, &action);
        kept[number].before = action;
        bool harmless = number == SIGCHLD || number == SIGURG || number == SIGWINCH ||
                        number == SIGCONT;
        if ((action.sa_flags & SA_SIGINFO) || action.sa_handler != SIG_DFL || harmless) {
            if (number == SIGCHLD && action.sa_handler == SIG_IGN) action.sa_flags |= SA_NOCLDWAIT;
            action.sa_sigaction = on_signal;
            action.sa_flags = (action.sa_flags & ~(int)SA_RESETHAND) | SA_SIGINFO | SA_RESTART;
            sigaction(number, &action, NULL);
        }
    }
    sigaddset(&q->signals, number);
    signalfd(q->signal, &q->signals, 0);
}

static void remove_signal(kqueue_state *q, int number) {
    struct sigaction action;
    if (number != SIGKILL && number != SIGSTOP && --kept[number].users == 0) {
        sigaction(number, NULL, &action);
        if ((action.sa_flags & SA_SIGINFO) && action.sa_sigaction == on_signal) {
            sigaction(number, &kept[number].before, NULL);
        }
    }
    sigdelset(&q->signals, number);
    signalfd(q->signal, &q->signals, 0);
}

/* Processes -------------------------------------------------------------------------------------*/

/* The wait status of what has ended, or 0 if the system does not tell us. */
static int exit_status(int pidfd, bool *ended) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    struct pollfd fd = {pidfd, POLLIN, 0};
    *ended = poll(&fd, 1, 0) > 0;
    if (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOWAIT | WNOHANG) != 0) return 0;
    if (info.si_code == CLD_EXITED) return (info.si_status & 255) << 8;
    return info.si_status | (info.si_code == CLD_DUMPED ? 128 : 0);
}

static void process_ended(kqueue_state *q, knote *k) {
    bool ended;
    k->event.data = exit_status(k->pidfd, &ended);
    close(k->pidfd); /* leaves the epoll, too */
    k->pidfd = -1;
    if (!(k->event.fflags & NOTE_EXIT)) return;
    k->event.flags |= EV_EOF | EV_ONESHOT;
    k->event.fflags = NOTE_EXIT;
    activate(q, k);
}

static int add_process(kqueue_state *q, knote *k) {
    struct epoll_event event = {EPOLLIN, {.u64 = (uint64_t)TAG_PROC << 32 | k->event.ident}};
    bool ended;
    k->event.flags |= EV_CLEAR;
    k->event.data = 0;
    k->pidfd = (int)syscall(SYS_pidfd_open, (pid_t)k->event.ident, 0);
    if (k->pidfd < 0) return errno;
    exit_status(k->pidfd, &ended);
    if ((ended && strict) || epoll_ctl(q->fd, EPOLL_CTL_ADD, k->pidfd, &event) != 0) {
        int error = ended ? ESRCH : errno;
        close(k->pidfd);
        k->pidfd = -1;
        return error;
    }
    return 0;
}

/* Descriptors -----------------------------------------------------------------------------------*/

static int side_of(int filter) {
    if (filter == EVFILT_READ) return 0;
    return filter == EVFILT_WRITE ? 1 : filter == EVFILT_EXCEPT ? 2 : -1;
}

static const short side_filter[NUM_SIDES] = {EVFILT_READ, EVFILT_WRITE, EVFILT_EXCEPT};
static const uint32_t side_events[NUM_SIDES] = {EPOLLIN | EPOLLRDHUP, EPOLLOUT, EPOLLPRI};

/* How far a file is from its end; any other thing that epoll does not take is always ready. */
static int64_t file_left(int fd) {
    struct stat file;
    off_t at = lseek(fd, 0, SEEK_CUR);
    if (fstat(fd, &file) != 0 || !S_ISREG(file.st_mode) || at < 0) return 1;
    return file.st_size > at ? file.st_size - at : 0;
}

static bool file_ready(const knote *k) {
    return k->event.filter == EVFILT_WRITE ||
           (k->event.filter == EVFILT_READ && file_left((int)k->event.ident) > 0);
}

/* Watch it, or look again; EPOLL_CTL_MOD reports what is ready now as an edge. */
static int watch(kqueue_state *q, knote *k) {
    int side = side_of(k->event.filter), fd = (int)k->event.ident, type;
    socklen_t size = sizeof type;
    struct epoll_event event = {side_events[side], {.u64 = 0}};
    if (k->generation == 0) k->generation = ++last_generation;
    event.data.u64 = (uint64_t)k->generation << 32 | (uint32_t)fd;
    if (k->event.flags & EV_CLEAR) event.events |= EPOLLET;
    if (k->event.flags & (EV_ONESHOT | EV_DISPATCH)) event.events |= EPOLLONESHOT;
    k->is_socket = getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0;
    int result = epoll_ctl(q->sides[side], EPOLL_CTL_MOD, fd, &event);
    if (result != 0 && errno == ENOENT) {
        result = epoll_ctl(q->sides[side], EPOLL_CTL_ADD, fd, &event);
    }
    k->no_epoll = result != 0 && errno == EPERM;
    if (k->no_epoll) {
        if (file_ready(k)) activate(q, k);
        return 0;
    }
    return result == 0 ? 0 : errno == ENOSPC ? ENOMEM : errno;
}

static void unwatch(kqueue_state *q, knote *k) {
    if (!k->no_epoll) {
        epoll_ctl(q->sides[side_of(k->event.filter)], EPOLL_CTL_DEL, (int)k->event.ident, NULL);
    }
}

/* What is there to read, or room to write. */
static int64_t amount(const knote *k, uint32_t events) {
    int fd = (int)k->event.ident, n = 0;
    if (k->no_epoll) return k->event.filter == EVFILT_READ ? file_left(fd) : 0;
    if (k->event.filter == EVFILT_READ) {
        if (ioctl(fd, FIONREAD, &n) == 0) return n;
        return events & EPOLLIN ? 1 : 0; /* a listening socket, a kqueue */
    }
    int size = 4096;
    socklen_t length = sizeof size;
    if (k->is_socket && getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, &length) == 0 &&
        ioctl(fd, TIOCOUTQ, &n) == 0 && n < size) {
        return size - n;
    }
    return k->is_socket ? 1 : size;
}

/* Changes ---------------------------------------------------------------------------------------*/

static void remove_knote(kqueue_state *q, knote *k) {
    knote **at = bucket_of(q, k->event.filter, k->event.ident);
    while (*at != k) at = &(*at)->next;
    *at = k->next;
    unqueue(q, k);
    if (side_of(k->event.filter) >= 0) unwatch(q, k);
    if (k->event.filter == EVFILT_SIGNAL) remove_signal(q, (int)k->event.ident);
    if (k->pidfd >= 0) close(k->pidfd);
    k->next = free_knotes;
    free_knotes = k;
    if (k->armed) set_timer(q);
}

static int add_knote(kqueue_state *q, const struct kevent *change) {
    int error = 0;
    if (change->filter == EVFILT_TIMER && timer_period(change) == 0) return EINVAL;
    if (change->filter == EVFILT_SIGNAL && (change->ident < 1 || change->ident >= NSIG)) {
        return EINVAL;
    }
    knote *k = new_knote(q, change);
    if (!k) return ENOMEM;
    k->disabled = (change->flags & EV_DISABLE) != 0;
    switch (change->filter) {
    case EVFILT_TIMER: error = start_timer(q, k, change); break;
    case EVFILT_SIGNAL:
        k->event.flags |= EV_CLEAR;
        k->event.data = 0;
        add_signal(q, (int)change->ident);
        break;
    case EVFILT_PROC: error = add_process(q, k); break;
    case EVFILT_USER:
        k->event.fflags &= NOTE_FFLAGSMASK;
        if (change->fflags & NOTE_TRIGGER) activate(q, k);
        break;
    default:
        k->event.fflags = 0;
        if (!k->disabled) error = watch(q, k);
    }
    if (error) remove_knote(q, k);
    return error;
}

static void touch_user(kqueue_state *q, knote *k, const struct kevent *change) {
    uint32_t flags = change->fflags & NOTE_FFLAGSMASK;
    switch (change->fflags & NOTE_FFCTRLMASK) {
    case NOTE_FFAND: k->event.fflags &= flags; break;
    case NOTE_FFOR: k->event.fflags |= flags; break;
    case NOTE_FFCOPY: k->event.fflags = flags; break;
    default: break;
    }
    k->event.data = change->data;
    if (change->flags & EV_CLEAR) { /* FreeBSD: forgets a trigger, even this one */
        deactivate(q, k);
    } else if (change->fflags & NOTE_TRIGGER) {
        activate(q, k);
    }
}

static void set_disabled(kqueue_state *q, knote *k, bool disabled) {
    k->disabled = disabled;
    if (disabled) {
        unqueue(q, k);
        if (side_of(k->event.filter) >= 0) unwatch(q, k);
    } else if (k->active) {
        queue(q, k);
    }
}

static int apply(kqueue_state *q, const struct kevent *change) {
    const int filter = change->filter, side = side_of(filter);
    if (side < 0 && filter != EVFILT_USER && filter != EVFILT_TIMER && filter != EVFILT_SIGNAL &&
        filter != EVFILT_PROC) {
        return EINVAL;
    }
    if (side >= 0 && (change->ident > INT32_MAX || fcntl((int)change->ident, F_GETFD) < 0)) {
        return EBADF;
    }
    if (side > 0 && find_kqueue((int)change->ident)) return EINVAL; /* a kqueue can only be read */
    knote *k = find_knote(q, filter, change->ident);
    if (k && side >= 0 && !k->no_epoll && !k->disabled) { /* is it of a descriptor that is gone? */
        struct epoll_event none = {EPOLLET | EPOLLONESHOT, {.u64 = 0}};
        int fd = (int)change->ident;
        if (epoll_ctl(q->sides[side], EPOLL_CTL_MOD, fd, &none) != 0 && errno == ENOENT) {
            remove_knote(q, k);
            k = NULL;
        } else if (!(change->flags & EV_DELETE)) {
            watch(q, k);
        }
    }
    if (!k) return change->flags & EV_ADD ? add_knote(q, change) : ENOENT;
    if (change->flags & EV_DELETE) {
        remove_knote(q, k);
        return 0;
    }
    int error = 0;
    k->event.udata = change->udata;
    if (change->flags & EV_DISABLE) set_disabled(q, k, true);
    if (change->flags & EV_ENABLE) set_disabled(q, k, false);
    if (filter == EVFILT_USER) touch_user(q, k, change);
    if (filter == EVFILT_TIMER && (change->flags & EV_ADD)) error = start_timer(q, k, change);
    if (side >= 0 && !k->disabled) error = watch(q, k);
    return error;
}

/* Waiting ---------------------------------------------------------------------------------------*/

/* Tell it, and do what its flags say. */
static void deliver(kqueue_state *q, knote *k, struct kevent *to) {
    *to = k->event;
    if (k->event.flags & EV_ONESHOT) {
        remove_knote(q, k);
        return;
    }
    if (k->event.flags & EV_DISPATCH) {
        k->disabled = true;
        unqueue(q, k);
    }
    if (k->event.flags & EV_CLEAR) {
        deactivate(q, k);
        k->event.fflags = 0, k->event.data = 0;
    } else if (k->queued) { /* the others first, next time */
        unqueue(q, k);
        queue(q, k);
    }
}

static int collect_active(kqueue_state *q, struct kevent *events, int room) {
    int n = 0;
    knote *last = q->active_last, *k, *next;
    for (k = q->active_first; k && n < room; k = next) {
        bool end = k == last;
        next = k->active_next;
        if (k->no_epoll) {
            if (!file_ready(k)) {
                deactivate(q, k);
                if (end) break;
                continue;
            }
            k->event.data = amount(k, 0);
        }
        deliver(q, k, &events[n++]);
        if (end) break;
    }
    return n;
}

static int collect_side(kqueue_state *q, int side, struct kevent *events, int room) {
    struct epoll_event ready[BATCH];
    int n = 0, got = epoll_wait(q->sides[side], ready, room < BATCH ? room : BATCH, 0);
    for (int i = 0; i < got; i++) {
        const uint32_t seen = ready[i].events;
        knote *k = find_knote(q, side_filter[side], (uint32_t)ready[i].data.u64);
        if (!k || k->generation != ready[i].data.u64 >> 32 || k->disabled) continue;
        k->event.data = amount(k, seen);
        k->event.flags &= (unsigned short)~EV_EOF;
        if (side == 0 && (seen & (EPOLLRDHUP | EPOLLHUP))) k->event.flags |= EV_EOF;
        if (side == 1 && ((seen & EPOLLHUP) || ((seen & EPOLLERR) && !k->is_socket))) {
            k->event.flags |= EV_EOF;
        }
        if (side == 2) {
            if (!(seen & EPOLLPRI)) continue; /* an error or the end is not our filter's */
            k->event.fflags = NOTE_OOB;
        }
        deliver(q, k, &events[n++]);
    }
    return n;
}

static void take_signals(kqueue_state *q) {
    struct signalfd_siginfo info;
    while (read(q->signal, &info, sizeof info) == sizeof info) count_signal((int)info.ssi_signo);
}

/* What is ready now, without waiting. */
static int collect(kqueue_state *q, struct kevent *events, int room) {
    struct epoll_event ready[BATCH];
    bool sides[NUM_SIDES] = {false, false, false};
    int n = 0, got = epoll_wait(q->fd, ready, BATCH, 0);
    for (int i = 0; i < got; i++) {
        const uint32_t detail = (uint32_t)ready[i].data.u64;
        knote *k;
        switch (ready[i].data.u64 >> 32) {
        case TAG_SIDE: sides[detail] = true; break;
        case TAG_TIMER: expire_timers(q); break;
        case TAG_SIGNAL: take_signals(q); break;
        case TAG_PROC:
            k = find_knote(q, EVFILT_PROC, detail);
            if (k && k->pidfd >= 0) process_ended(q, k);
            break;
        default: break;
        }
    }
    for (int i = 0; i <= NUM_SIDES; i++) { /* each is first at times: nobody starves */
        const int side = (int)((q->turn + (unsigned)i) % (NUM_SIDES + 1));
        if (side == NUM_SIDES) n += collect_active(q, events + n, room - n);
        while (side < NUM_SIDES && sides[side] && n < room) {
            got = collect_side(q, side, events + n, room - n);
            n += got;
            if (got < BATCH) break;
        }
    }
    q->turn++;
    return n;
}

static void close_all(const kqueue_state *q) {
    for (int i = 0; i < NUM_SIDES; i++) close(q->sides[i]);
    close(q->wake);
    close(q->timer);
    close(q->signal);
}

static void drop(kqueue_state *q) {
    close_all(q);
    free(q);
}

/* Sleep until something may be ready: 0, or an errno. The lock is not held meanwhile. */
static int sleep_on(kqueue_state *q, uint64_t deadline, sigset_t *mask) {
    struct pollfd fd = {q->fd, POLLIN, 0};
    uint64_t now = deadline == UINT64_MAX ? 0 : now_ns();
    struct timespec left = to_timespec(deadline > now ? deadline - now : 0);
    int result, error;
    lock_give(mask);
    result = ppoll(&fd, 1, deadline == UINT64_MAX ? NULL : &left, NULL);
    error = result < 0 ? errno : 0;
    lock_take(mask);
    return q->closing ? EBADF : error;
}

static int wait_for(kqueue_state *q, struct kevent *events, int room, uint64_t deadline,
                    sigset_t *mask) {
    int n = 0, error = 0;
    q->waiters++;
    for (;;) {
        n = collect(q, events, room);
        if (n > 0 || (deadline != UINT64_MAX && now_ns() >= deadline)) break;
        error = sleep_on(q, deadline, mask);
        if (error) break;
    }
    if (--q->waiters == 0 && q->closing) {
        close(q->fd);
        drop(q);
    }
    errno = error;
    return error ? -1 : n;
}

/* The functions ---------------------------------------------------------------------------------*/

static void fork_prepare(void) {
    sigset_t mask;
    lock_take(&mask);
    fork_mask = mask;
}

static void fork_parent(void) {
    sigset_t mask = fork_mask;
    lock_give(&mask);
}

static void fork_child(void) {
    static kqueue_state *lost; /* not freed: another thread may have held malloc's lock */
    while (all) {
        kqueue_state *q = all;
        all = q->next, q->next = lost, lost = q;
        for (int i = 0; i < BUCKETS; i++) {
            for (knote *k = q->buckets[i]; k; k = k->next) {
                if (k->pidfd >= 0) close(k->pidfd);
            }
        }
        close(q->fd);
        close_all(q);
    }
    __atomic_store_n(&num_all, 0, __ATOMIC_SEQ_CST);
    fork_parent();
}

static void start(void) {
    const char *flavour = getenv("KQUEUE_FLAVOUR");
    strict = flavour && strcmp(flavour, "strict") == 0;
    pthread_atfork(fork_prepare, fork_parent, fork_child);
}

static int add_inner(const kqueue_state *q, int fd, uint64_t tag, uint64_t detail) {
    struct epoll_event event = {EPOLLIN, {.u64 = tag << 32 | detail}};
    return fd < 0 ? -1 : epoll_ctl(q->fd, EPOLL_CTL_ADD, fd, &event);
}

int kqueue(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start);
    kqueue_state *q = calloc(1, sizeof *q);
    if (!q) return -1;
    sigemptyset(&q->signals);
    q->fd = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < NUM_SIDES; i++) q->sides[i] = epoll_create1(EPOLL_CLOEXEC);
    q->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    q->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    q->signal = signalfd(-1, &q->signals, SFD_CLOEXEC | SFD_NONBLOCK);
    bool failed = q->fd < 0;
    for (unsigned i = 0; i < NUM_SIDES; i++) {
        failed = failed || add_inner(q, q->sides[i], TAG_SIDE, i) != 0;
    }
    if (failed || add_inner(q, q->wake, TAG_WAKE, 0) != 0 ||
        add_inner(q, q->timer, TAG_TIMER, 0) != 0 || add_inner(q, q->signal, TAG_SIGNAL, 0) != 0) {
        int error = errno;
        close(q->fd);
        drop(q);
        errno = error;
        return -1;
    }
    sigset_t mask;
    int fd = q->fd;
    lock_take(&mask);
    q->next = all;
    all = q;
    __atomic_add_fetch(&num_all, 1, __ATOMIC_SEQ_CST);
    lock_give(&mask);
    return fd;
}

/* The changes: how many errors and receipts went to events, or -1. *stop: nothing else is done. */
static int change_all(kqueue_state *q, const struct kevent *changes, int num_changes,
                      struct kevent *events, int num_events, bool *stop) {
    int told = 0;
    for (int i = 0; i < num_changes; i++) {
        struct kevent change = changes[i];
        int error = apply(q, &change);
        if (!error && !(change.flags & EV_RECEIPT)) continue;
        if (told == num_events) {
            *stop = true;
            errno = error;
            return error ? -1 : told;
        }
        change.flags = (unsigned short)(strict ? change.flags | EV_ERROR : EV_ERROR);
        change.data = error;
        events[told++] = change;
    }
    *stop = told > 0 || num_events == 0;
    return told;
}

int kevent(int kq, const struct kevent *changes, int num_changes, struct kevent *events,
           int num_events, const struct timespec *timeout) {
    uint64_t deadline = UINT64_MAX;
    bool stop = true;
    int result = -1;
    sigset_t mask;
    if (timeout) {
        if (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec >= SECOND_NS) {
            errno = EINVAL;
            return -1;
        }
        uint64_t seconds = (uint64_t)timeout->tv_sec;
        deadline = seconds > INT32_MAX ? INT32_MAX : seconds;
        deadline = now_ns() + deadline * SECOND_NS + (uint64_t)timeout->tv_nsec;
    }
    lock_take(&mask);
    kqueue_state *q = find_kqueue(kq);
    if (!q) {
        errno = EBADF;
    } else {
        result = change_all(q, changes, num_changes, events, num_events, &stop);
        if (!stop) result = wait_for(q, events, num_events, deadline, &mask);
    }
    int error = errno;
    lock_give(&mask);
    errno = error;
    return result;
}

static void remove_kqueue(kqueue_state *q) {
    kqueue_state **at = &all;
    while (*at != q) at = &(*at)->next;
    *at = q->next;
    __atomic_sub_fetch(&num_all, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < BUCKETS; i++) {
        while (q->buckets[i]) remove_knote(q, q->buckets[i]);
    }
}

/* close() for the programs: removes the descriptor's filters, or ends a kqueue. */
int kqueue_close(int fd) {
    sigset_t mask;
    int error = errno;
    if (__atomic_load_n(&num_all, __ATOMIC_SEQ_CST) == 0) return close(fd);
    lock_take(&mask);
    for (kqueue_state *q = all; q; q = q->next) {
        for (int side = 0; side < NUM_SIDES; side++) {
            knote *k = find_knote(q, side_filter[side], (uintptr_t)fd);
            if (k) remove_knote(q, k);
        }
    }
    kqueue_state *ours = find_kqueue(fd);
    if (ours) {
        remove_kqueue(ours);
        ours->closing = true;
        if (ours->waiters == 0) {
            drop(ours);
        } else { /* the last waiter closes it, so that its number is not anything else's before */
            wake_set(ours, true);
            fd = -1;
        }
    }
    lock_give(&mask);
    errno = error;
    return ours && fd < 0 ? 0 : close(fd);
}
