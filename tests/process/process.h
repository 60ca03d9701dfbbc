/* process.h - a harness for tests that fork, exec and end a process in every way. A test program is
 * one unit, C11 or C++17, that includes this file once; main() is here.
 *
 *     CASE(name, status, output) { CHECK(cond); ... }
 *
 * Each case runs in a process of its own: the program starts itself again with the case's name. It
 * passes if that process ends in time with this exit status (DIED_OF(signal) for a signal), having
 * written exactly this to its standard output, and leaves no process behind. CHECK may be used by
 * any thread and any child: a failure is printed and ends that process with status 99.
 *
 * Without arguments all cases run, with words those whose names hold one of them. Environment:
 * TIMEOUT=s for each case (default 30). The last line is "N passed, N failed, N skipped". */
#ifndef PROCESS_H
#define PROCESS_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/prctl.h>
#endif

#if defined(__has_feature)
#define PROCESS_HAS(feature) __has_feature(feature)
#else
#define PROCESS_HAS(feature) 0
#endif
#if defined(__SANITIZE_THREAD__) || PROCESS_HAS(thread_sanitizer)
#define PROCESS_TSAN 1
#else
#define PROCESS_TSAN 0
#endif
#define PROCESS_UNUSED __attribute__((unused))

#define DIED_OF(number) (256 + (number))
#define FAILED 99
#define SKIPPED 77

/* The case cannot be had here. */
#define SKIP(reason)               \
    do {                           \
        process_say(reason "\n");  \
        _exit(SKIPPED);            \
    } while (0)

typedef struct process_case {
    const char *name;
    void (*run)(void);
    int status;
    const char *output;
    struct process_case *next;
} process_case;

static process_case *process_first, **process_last = &process_first;
static const char *process_self; /* how this program was called */

#define CASE(name, status, output)                                                      \
    static void case_##name(void);                                                      \
    __attribute__((constructor)) static void case_add_##name(void) {                    \
        static process_case entry = {#name, case_##name, status, output, NULL};         \
        *process_last = &entry;                                                         \
        process_last = &entry.next;                                                     \
    }                                                                                   \
    static void case_##name(void)

#define CHECK(cond) process_check((cond) ? true : false, #cond, __FILE__, __LINE__)
#define CHECK_EQ(a, b) \
    process_check_equal((long long)(a), (long long)(b), #a " == " #b, __FILE__, __LINE__)

static void process_check(bool ok, const char *what, const char *file, int line) {
    if (ok) return;
    fprintf(stderr, "%s:%d: process %d: %s does not hold\n", file, line, (int)getpid(), what);
    _exit(FAILED);
}

PROCESS_UNUSED static void process_check_equal(long long a, long long b, const char *what,
                                               const char *file, int line) {
    if (a == b) return;
    fprintf(stderr, "%s:%d: process %d: %s does not hold: %lld, %lld\n", file, line, (int)getpid(),
            what, a, b);
    _exit(FAILED);
}

/* What a case shows: without the buffers of stdio, which a fork would double. */
PROCESS_UNUSED static void process_say(const char *text) {
    CHECK_EQ(write(1, text, strlen(text)), strlen(text));
}

/* How a child ended: its exit status, or DIED_OF its signal. */
PROCESS_UNUSED static int process_wait(pid_t child) {
    int status = 0;
    pid_t ended;
    do ended = waitpid(child, &status, 0); while (ended < 0 && errno == EINTR);
    CHECK_EQ(ended, child);
    return WIFSIGNALED(status) ? DIED_OF(WTERMSIG(status)) : WEXITSTATUS(status);
}

PROCESS_UNUSED static void process_nap(long milliseconds) {
    struct timespec nap;
    nap.tv_sec = milliseconds / 1000, nap.tv_nsec = milliseconds % 1000 * 1000000;
    (void)nanosleep(&nap, NULL);
}

/* Counters and flags that any thread or task may touch. */
PROCESS_UNUSED static unsigned process_get(const unsigned *n) {
    return __atomic_load_n(n, __ATOMIC_SEQ_CST);
}

PROCESS_UNUSED static void process_set(unsigned *n, unsigned value) {
    __atomic_store_n(n, value, __ATOMIC_SEQ_CST);
}

PROCESS_UNUSED static unsigned process_add(unsigned *n, unsigned value) {
    return __atomic_add_fetch(n, value, __ATOMIC_SEQ_CST);
}

PROCESS_UNUSED static void process_await(const unsigned *n, unsigned value) {
    while (process_get(n) != value) process_nap(1);
}

/* The runner ------------------------------------------------------------------------------------*/

static double process_seconds(void) {
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Read what the case writes until everybody has closed the pipe, or the deadline. */
static bool process_read(int from, char *text, size_t size, double deadline) {
    size_t length = 0;
    for (;;) {
        struct pollfd fd = {from, POLLIN, 0};
        double left = deadline - process_seconds();
        int ready = left > 0 ? poll(&fd, 1, (int)(left * 1e3) + 1) : 0;
        ssize_t n = 0;
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) return false;
        n = read(from, text + length, size - 1 - length);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return true;
        length += (size_t)n;
        text[length] = 0;
        if (length == size - 1) return true;
    }
}

/* Nobody of the group is left; a child that nobody has waited for may take a moment. */
static bool process_group_is_gone(pid_t group) {
    for (int i = 0; i < 2000; i++) {
        while (waitpid(-group, NULL, WNOHANG) > 0) continue;
        if (kill(-group, 0) < 0 && errno == ESRCH) return true;
        process_nap(1);
    }
    return false;
}

/* 0: it passed, SKIPPED, else FAILED; why says why. */
static int process_run(process_case *c, double seconds, char *why, size_t size) {
    const double deadline = process_seconds() + seconds;
    char output[4096] = "";
    int ends[2], status = 0;
    bool in_time, gone;
    pid_t child;
    CHECK_EQ(pipe(ends), 0);
    child = fork();
    if (child == 0) {
        setpgid(0, 0);
        dup2(ends[1], 1);
        close(ends[0]), close(ends[1]);
        execlp(process_self, process_self, "--case", c->name, (char *)NULL);
        _exit(FAILED);
    }
    setpgid(child, child); /* whoever comes first */
    close(ends[1]);
    in_time = child > 0 && process_read(ends[0], output, sizeof output, deadline);
    close(ends[0]);
    if (!in_time && child > 0) kill(-child, SIGKILL);
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    status = WIFSIGNALED(status) ? DIED_OF(WTERMSIG(status)) : WEXITSTATUS(status);
    gone = child > 0 && process_group_is_gone(child);
    if (!gone && child > 0) kill(-child, SIGKILL);
    if (child < 0) {
        snprintf(why, size, "fork: %s", strerror(errno));
    } else if (!in_time) {
        snprintf(why, size, "did not end within %.0f s", seconds);
    } else if (status == SKIPPED) {
        snprintf(why, size, "%.*s", (int)strcspn(output, "\n"), output);
        return SKIPPED;
    } else if (status != c->status) {
        snprintf(why, size, "ended with status %d instead of %d", status, c->status);
    } else if (strcmp(output, c->output) != 0) {
        snprintf(why, size, "wrote \"%.100s\" instead of \"%.100s\"", output, c->output);
    } else if (!gone) {
        snprintf(why, size, "left a process behind");
    } else {
        return 0;
    }
    return FAILED;
}

static bool process_wanted(const char *name, int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (strstr(name, argv[i])) return true;
    return argc < 2;
}

int main(int argc, char **argv) {
    const char *timeout = getenv("TIMEOUT");
    unsigned passed = 0, failed = 0, skipped = 0;
    process_self = argv[0];
    if (argc == 3 && strcmp(argv[1], "--case") == 0) {
        for (process_case *c = process_first; c; c = c->next) {
            if (strcmp(c->name, argv[2]) != 0) continue;
            c->run();
            return 0;
        }
        return FAILED;
    }
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
#if defined(PR_SET_CHILD_SUBREAPER) /* whoever is orphaned comes to us, and no zombie stays */
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
#endif
    for (process_case *c = process_first; c; c = c->next) {
        char why[512] = "";
        double start = process_seconds();
        if (!process_wanted(c->name, argc, argv)) continue;
        int result = process_run(c, timeout ? atof(timeout) : 30, why, sizeof why);
        double ms = (process_seconds() - start) * 1e3;
        printf("%s %s (%.0f ms)%s%s\n", result == 0 ? "ok  " : result == SKIPPED ? "skip" : "FAIL",
               c->name, ms, *why ? ": " : "", why);
        passed += result == 0, failed += result == FAILED, skipped += result == SKIPPED;
    }
    printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
    return failed > 0 || passed + skipped == 0;
}

#endif /* PROCESS_H */
