/* sys/event.h - kqueue on Linux, for tests: what FreeBSD declares, as far as kqueue.c goes;
 * EVFILT_EXCEPT is macOS's. Numbers are FreeBSD's.
 *
 * Programs must be compiled with -Dclose=kqueue_close: closing a descriptor removes its filters. */
#ifndef KQUEUE_SYS_EVENT_H
#define KQUEUE_SYS_EVENT_H

#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define EVFILT_READ (-1)
#define EVFILT_WRITE (-2)
#define EVFILT_PROC (-5)
#define EVFILT_SIGNAL (-6)
#define EVFILT_TIMER (-7)
#define EVFILT_USER (-11)
#define EVFILT_EXCEPT (-15)

struct kevent {
    uintptr_t ident;
    short filter;
    unsigned short flags;
    unsigned int fflags;
    int64_t data;
    void *udata;
};

#define EV_SET(kevp, a, b, c, d, e, f)             \
    do {                                           \
        struct kevent *ev_set_kevp = (kevp);       \
        ev_set_kevp->ident = (uintptr_t)(a);       \
        ev_set_kevp->filter = (short)(b);          \
        ev_set_kevp->flags = (unsigned short)(c);  \
        ev_set_kevp->fflags = (unsigned int)(d);   \
        ev_set_kevp->data = (int64_t)(e);          \
        ev_set_kevp->udata = (void *)(f);          \
    } while (0)

/* actions */
#define EV_ADD 0x0001
#define EV_DELETE 0x0002
#define EV_ENABLE 0x0004
#define EV_DISABLE 0x0008
/* flags */
#define EV_ONESHOT 0x0010
#define EV_CLEAR 0x0020
#define EV_RECEIPT 0x0040
#define EV_DISPATCH 0x0080
/* returned */
#define EV_ERROR 0x4000
#define EV_EOF 0x8000

/* EVFILT_USER */
#define NOTE_FFNOP 0x00000000u
#define NOTE_FFAND 0x40000000u
#define NOTE_FFOR 0x80000000u
#define NOTE_FFCOPY 0xc0000000u
#define NOTE_FFCTRLMASK 0xc0000000u
#define NOTE_FFLAGSMASK 0x00ffffffu
#define NOTE_TRIGGER 0x01000000u
/* EVFILT_EXCEPT */
#define NOTE_OOB 0x00000002u
/* EVFILT_PROC */
#define NOTE_EXIT 0x80000000u
/* EVFILT_TIMER; none of the first four: milliseconds */
#define NOTE_SECONDS 0x00000001u
#define NOTE_MSECONDS 0x00000002u
#define NOTE_USECONDS 0x00000004u
#define NOTE_NSECONDS 0x00000008u

#ifdef __cplusplus
extern "C" {
#endif
int kqueue(void);
int kevent(int kq, const struct kevent *changes, int num_changes, struct kevent *events,
           int num_events, const struct timespec *timeout);
int kqueue_close(int fd);
#ifdef __cplusplus
}
#endif

#endif /* KQUEUE_SYS_EVENT_H */
