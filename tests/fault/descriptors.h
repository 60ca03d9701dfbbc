/* descriptors.h - the part of libc.h about epoll, sockets and pipes.
 *
 * A read that fails with EAGAIN although there is something, or that gives less than there is, is
 * as if the rest had come right after it: so the kernel is asked to tell of the descriptor once
 * more, as it would then. Likewise writes and accept4. */
#ifndef FAULT_DESCRIPTORS_H
#define FAULT_DESCRIPTORS_H

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>

/* What is watched by an epoll instance of the library. */
#define FAULT_FDS 1024
static struct {
    pthread_mutex_t lock;
    struct {
        int epoll;
        struct epoll_event event;
    } fds[FAULT_FDS]; /* under lock; no events: it is not watched */
} fault_watched = {PTHREAD_MUTEX_INITIALIZER, {{0, {0, {0}}}}};

FAULT_WRAP(int, epoll_create1, (int flags)) {
    return fault_hits(FAULT_EPOLL_CREATE) ? -1 : real_epoll_create1(flags);
}

FAULT_WRAP(int, epoll_ctl, (int epoll, int what, int fd, struct epoll_event *event)) {
    int result;
    if (what == EPOLL_CTL_ADD && fault_hits(FAULT_EPOLL_ADD)) return -1;
    pthread_mutex_lock(&fault_watched.lock);
    result = real_epoll_ctl(epoll, what, fd, event);
    if (result == 0 && fd < FAULT_FDS) {
        fault_watched.fds[fd].epoll = epoll;
        fault_watched.fds[fd].event.events = 0;
        if (what == EPOLL_CTL_ADD) fault_watched.fds[fd].event = *event;
    }
    pthread_mutex_unlock(&fault_watched.lock);
    return result;
}

FAULT_WRAP(int, epoll_wait, (int epoll, struct epoll_event *events, int n, int time_out)) {
    return fault_hits(FAULT_EPOLL_WAIT) ? -1 : real_epoll_wait(epoll, events, n, time_out);
}

static bool fault_is_watched(int fd) {
    bool is;
    pthread_mutex_lock(&fault_watched.lock);
    is = fd >= 0 && fd < FAULT_FDS && fault_watched.fds[fd].event.events != 0;
    pthread_mutex_unlock(&fault_watched.lock);
    return is;
}

static void fault_forget(int fd) {
    pthread_mutex_lock(&fault_watched.lock);
    if (fd >= 0 && fd < FAULT_FDS) fault_watched.fds[fd].event.events = 0;
    pthread_mutex_unlock(&fault_watched.lock);
}

/* The kernel tells again what it knows. Keeps errno. */
static void fault_tell_again(int fd) {
    int error = errno;
    pthread_mutex_lock(&fault_watched.lock);
    if (fd >= 0 && fd < FAULT_FDS && fault_watched.fds[fd].event.events != 0) {
        (void)real_epoll_ctl(fault_watched.fds[fd].epoll, EPOLL_CTL_MOD, fd,
                             &fault_watched.fds[fd].event);
    }
    pthread_mutex_unlock(&fault_watched.lock);
    errno = error;
}

/* Moving bytes ----------------------------------------------------------------------------------*/

/* Does this call fail? With errno set. */
static bool fault_io_hits(unsigned kind, int fd) {
    if (!fault_hits(kind)) return false;
    if (errno == EAGAIN) fault_tell_again(fd);
    return true;
}

/* At most so much; and after it the rest. */
static size_t fault_short(unsigned kind, size_t size) {
    return size > 1 && fault_ask(kind) ? 1 + size / 5 : size;
}

extern ssize_t real_read_some(int fd, void *buffer, size_t size) __asm__("__real_read");

static ssize_t fault_input(int fd, void *buffer, size_t size,
                           ssize_t (*real)(int fd, void *buffer, size_t size)) {
    size_t some;
    ssize_t n;
    if (fault_io_hits(FAULT_IO_READ, fd)) return -1;
    some = size == 128 ? size : fault_short(FAULT_SHORT_READ, size); /* 128: a signal, whole */
    n = real(fd, buffer, some);
    if (some < size) fault_tell_again(fd);
    return n;
}

extern ssize_t real_recv(int fd, void *buffer, size_t size, int flags) __asm__("__real_recv");
static ssize_t fault_recv_some(int fd, void *buffer, size_t size) {
    return real_recv(fd, buffer, size, 0);
}

ssize_t fault_recv(int fd, void *buffer, size_t size, int flags) __asm__("__wrap_recv");
ssize_t fault_recv(int fd, void *buffer, size_t size, int flags) {
    if (flags) return real_recv(fd, buffer, size, flags);
    return fault_input(fd, buffer, size, fault_recv_some);
}

FAULT_WRAP(ssize_t, recvfrom, (int fd, void *buffer, size_t size, int flags,
                               struct sockaddr *from, socklen_t *length)) {
    if (fault_io_hits(FAULT_IO_READ, fd)) return -1; /* never short: the rest would be lost */
    return real_recvfrom(fd, buffer, size, flags, from, length);
}

FAULT_WRAP(ssize_t, readv, (int fd, const struct iovec *parts, int n)) {
    int some = n;
    ssize_t result;
    if (fault_io_hits(FAULT_IO_READ, fd)) return -1;
    if (n > 1 && fault_ask(FAULT_SHORT_READ)) some = 1;
    result = real_readv(fd, parts, some);
    if (some < n) fault_tell_again(fd);
    return result;
}

FAULT_WRAP(ssize_t, send, (int fd, const void *buffer, size_t size, int flags)) {
    size_t some;
    ssize_t n;
    if (fault_io_hits(FAULT_IO_WRITE, fd)) return -1;
    some = fault_short(FAULT_SHORT_WRITE, size);
    n = real_send(fd, buffer, some, flags);
    if (some < size) fault_tell_again(fd);
    return n;
}

FAULT_WRAP(ssize_t, sendto, (int fd, const void *buffer, size_t size, int flags,
                             const struct sockaddr *to, socklen_t length)) {
    if (fault_io_hits(FAULT_IO_WRITE, fd)) return -1;
    return real_sendto(fd, buffer, size, flags, to, length);
}

FAULT_WRAP(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags)) {
    struct msghdr some = *message;
    ssize_t n;
    if (fault_io_hits(FAULT_IO_WRITE, fd)) return -1;
    if (some.msg_iovlen > 1 && fault_ask(FAULT_SHORT_WRITE)) some.msg_iovlen = 1;
    n = real_sendmsg(fd, &some, flags);
    if (some.msg_iovlen < message->msg_iovlen) fault_tell_again(fd);
    return n;
}

FAULT_WRAP(ssize_t, writev, (int fd, const struct iovec *parts, int n)) {
    struct iovec part = parts[0];
    ssize_t result;
    if (fault_io_hits(FAULT_IO_WRITE, fd)) return -1;
    part.iov_len = fault_short(FAULT_SHORT_WRITE, part.iov_len);
    if (part.iov_len == parts[0].iov_len) return real_writev(fd, parts, n);
    result = real_writev(fd, &part, 1);
    fault_tell_again(fd);
    return result;
}

/* Sockets ---------------------------------------------------------------------------------------*/

FAULT_WRAP(int, socket, (int family, int type, int protocol)) {
    return fault_hits(FAULT_SOCKET) ? -1 : real_socket(family, type, protocol);
}

FAULT_WRAP(int, bind, (int fd, const struct sockaddr *address, socklen_t length)) {
    return fault_hits(FAULT_BIND) ? -1 : real_bind(fd, address, length);
}

FAULT_WRAP(int, listen, (int fd, int backlog)) {
    return fault_hits(FAULT_LISTEN) ? -1 : real_listen(fd, backlog);
}

/* What is under way goes on by itself. */
FAULT_WRAP(int, connect, (int fd, const struct sockaddr *address, socklen_t length)) {
    int error = fault_ask(FAULT_CONNECT), result = 0;
    if (error == 0 || error == EINTR || error == EINPROGRESS) {
        result = real_connect(fd, address, length);
        if (result < 0) return result;
    }
    if (error) errno = error;
    return error ? -1 : result;
}

static bool fault_refuses_accept(int fd) { return fault_io_hits(FAULT_ACCEPT, fd); }

FAULT_WRAP(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *length)) {
    if (name == SO_ERROR && fault_hits(FAULT_CONNECTED)) return -1;
    return real_getsockopt(fd, level, name, value, length);
}

FAULT_WRAP(int, getsockname, (int fd, struct sockaddr *address, socklen_t *length)) {
    return fault_hits(FAULT_SOCKET_NAME) ? -1 : real_getsockname(fd, address, length);
}

FAULT_WRAP(int, getpeername, (int fd, struct sockaddr *address, socklen_t *length)) {
    return fault_hits(FAULT_CONNECTED) ? -1 : real_getpeername(fd, address, length);
}

/* Others ----------------------------------------------------------------------------------------*/

FAULT_WRAP(int, fcntl, (int fd, int what, ...)) {
    va_list arguments;
    int value;
    va_start(arguments, what);
    value = what == F_GETFL ? 0 : va_arg(arguments, int);
    va_end(arguments);
    if ((what == F_GETFL || what == F_SETFL) && fault_hits(FAULT_FCNTL)) return -1;
    return real_fcntl(fd, what, value);
}

FAULT_WRAP(int, fstat, (int fd, struct stat *out)) {
    return fault_hits(FAULT_FSTAT) ? -1 : real_fstat(fd, out);
}

FAULT_WRAP(pid_t, waitpid, (pid_t pid, int *status, int options)) {
    if (options == WNOHANG && fault_hits(FAULT_REAP)) return -1;
    return real_waitpid(pid, status, options);
}

#endif /* FAULT_DESCRIPTORS_H */
