/* test.h - a small test harness. A test program is one unit, C11 or C++17, that includes this file
 * once; main() is here.
 *
 *     TEST(name) { if (no_luck) SKIP("why"); EXPECT(cond); EXPECT_EQ(a, b); }
 *
 * EXPECT* may be called by any thread or task, return whether they held, and do not end the test.
 * The program takes words: `build/test runq idle` runs the tests whose names hold one of them.
 * Environment: SEED=n (default random, printed), REPEAT=n rounds, TIMEOUT=s for each test (default
 * 60; 0: none), SLOWDOWN=n divides what test_scale() gives (default 1; 20 under a sanitizer).
 * Every test must leave as many descriptors and threads behind as it found.
 * Exit status: 0 all passed, 1 some failed or there was none to run, 77 all were skipped. The last
 * line is "N passed, N failed, N skipped". */
#ifndef TEST_H
#define TEST_H

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if defined(__has_feature)
#define TEST_HAS(feature) __has_feature(feature)
#else
#define TEST_HAS(feature) 0
#endif
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__) || TEST_HAS(thread_sanitizer) || \
    TEST_HAS(address_sanitizer) || TEST_HAS(memory_sanitizer)
#define TEST_SANITIZED 1
#else
#define TEST_SANITIZED 0
#endif
#define TEST_UNUSED __attribute__((unused))

#define TEST(name)                                                       \
    static void testcase_##name(void);                                   \
    __attribute__((constructor)) static void testcase_add_##name(void) { \
        static test_case entry = {#name, testcase_##name, NULL};         \
        *test_last = &entry;                                             \
        test_last = &entry.next;                                         \
    }                                                                    \
    static void testcase_##name(void)

#define EXPECT(cond) test_check((cond) ? true : false, #cond, __FILE__, __LINE__)
#define EXPECT_EQ(a, b) /* integers, enums, pointers */ \
    test_check_equal((long long)(a), (long long)(b), #a, #b, __FILE__, __LINE__)
#define SKIP(reason)             \
    do {                         \
        test_skipped = (reason); \
        return;                  \
    } while (0)

typedef struct test_case {
    const char *name;
    void (*run)(void);
    struct test_case *next;
} test_case;

TEST_UNUSED static test_case *test_first, **test_last = &test_first;
static unsigned test_failures;        /* in the running test; any thread, atomic */
static const char *test_skipped;      /* why, if the running test was skipped */
static uint64_t test_start_seed;
static uint64_t test_random_state;    /* any thread, atomic */
static unsigned long test_slowdown = TEST_SANITIZED ? 20 : 1;
static unsigned test_counts[3];       /* passed, failed, skipped */
static char test_where[256];          /* what a crash says about itself */

TEST_UNUSED static uint64_t test_seed(void) { return test_start_seed; }

/* A random number, repeatable by the seed as long as one thread asks. Any thread. (splitmix64) */
TEST_UNUSED static uint64_t test_random(void) {
    const uint64_t step = UINT64_C(0x9e3779b97f4a7c15);
    uint64_t x = __atomic_fetch_add(&test_random_state, step, __ATOMIC_RELAXED) + step;
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* A number of repetitions, cut where all is slow (sanitizers, valgrind); at least 1. */
TEST_UNUSED static size_t test_scale(size_t count) {
    return count / test_slowdown ? count / test_slowdown : 1;
}

__attribute__((format(printf, 3, 4))) static void test_fail(const char *file, int line,
                                                            const char *format, ...) {
    va_list args;
    char text[512];
    /* A failing check in a hot loop is not printed a million times. */
    if (__atomic_fetch_add(&test_failures, 1u, __ATOMIC_RELAXED) >= 20) return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fprintf(stderr, "%s:%d: %s\n", file, line, text);
}

TEST_UNUSED static bool test_check(bool ok, const char *what, const char *file, int line) {
    if (!ok) test_fail(file, line, "EXPECT(%s) failed", what);
    return ok;
}

TEST_UNUSED static bool test_check_equal(long long a, long long b, const char *a_text,
                                         const char *b_text, const char *file, int line) {
    if (a != b) test_fail(file, line, "EXPECT_EQ(%s, %s) failed: %lld, %lld", a_text, b_text, a, b);
    return a == b;
}

static struct timespec test_clock(void) {
    struct timespec now;
    timespec_get(&now, TIME_UTC); /* ISO C, so it is there under a strict -std too */
    return now;
}

static double test_seconds_since(struct timespec start) {
    struct timespec now = test_clock();
    return (double)(now.tv_sec - start.tv_sec) + (double)(now.tv_nsec - start.tv_nsec) * 1e-9;
}

/* The watchdog is a thread, because ThreadSanitizer holds signals back from a thread that sits in a
 * system call. It sleeps until the deadline, so that tests may measure an idle process. */
enum test_watch_mode { TEST_REST, TEST_WATCH, TEST_STOP };
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum test_watch_mode mode;
    struct timespec deadline;
} test_watch = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, TEST_REST, {0, 0}};

static void *test_watchdog(void *unused) {
    pthread_mutex_lock(&test_watch.lock);
    while (test_watch.mode != TEST_STOP) {
        if (test_watch.mode == TEST_REST) {
            pthread_cond_wait(&test_watch.changed, &test_watch.lock);
        } else if (test_seconds_since(test_watch.deadline) >= 0) {
            fprintf(stderr, "time-out: ");
            abort();
        } else {
            pthread_cond_timedwait(&test_watch.changed, &test_watch.lock, &test_watch.deadline);
        }
    }
    pthread_mutex_unlock(&test_watch.lock);
    return unused;
}

static void test_watch_set(enum test_watch_mode mode, unsigned long seconds) {
    pthread_mutex_lock(&test_watch.lock);
    test_watch.mode = mode;
    test_watch.deadline = test_clock();
    test_watch.deadline.tv_sec += (time_t)seconds;
    pthread_cond_signal(&test_watch.changed);
    pthread_mutex_unlock(&test_watch.lock);
}

static void test_crashed(int number) {
    if (write(2, test_where, strlen(test_where)) < 0) _exit(1);
    signal(number, SIG_DFL);
    raise(number);
}

/* Entries of a directory, of this process's descriptors or threads; 0 where there is none. */
static int test_count(const char *path) {
    int count = 0;
    DIR *dir = opendir(path);
    for (; dir && readdir(dir); count++) continue;
    if (dir) closedir(dir);
    return count;
}

static void test_run(test_case *test, unsigned long time_out) {
    const char *const words[3] = {"ok  ", "FAIL", "skip"};
    struct timespec start = test_clock();
    int fds = test_count("/dev/fd"), threads = test_count("/proc/self/task"), fds_now, threads_now;

    snprintf(test_where, sizeof test_where, "stopped in test %s (SEED=%llu)\n", test->name,
             (unsigned long long)test_start_seed);
    test_failures = 0;
    test_skipped = NULL;
    test_random_state = test_start_seed;
    test_watch_set(time_out ? TEST_WATCH : TEST_REST, time_out);
    test->run();
    test_watch_set(TEST_REST, 0);

    double seconds = test_seconds_since(start);
    start = test_clock();
    do { /* a thread that was joined may be listed for a moment longer */
        fds_now = test_count("/dev/fd"), threads_now = test_count("/proc/self/task");
    } while (threads_now > threads && test_seconds_since(start) < 2 && sched_yield() == 0);
    if (fds_now != fds) test_fail(test->name, 0, "%+d descriptors after the test", fds_now - fds);
    if (threads_now > threads) test_fail(test->name, 0, "%d threads left", threads_now - threads);

    unsigned failures = __atomic_load_n(&test_failures, __ATOMIC_RELAXED);
    unsigned result = failures ? 1 : test_skipped ? 2 : 0;
    test_counts[result]++;
    printf("%s %s (%.0f ms)%s%s\n", words[result], test->name, seconds * 1e3,
           result == 2 ? ": " : "", result == 2 ? test_skipped : "");
}

static unsigned long test_env(const char *name, unsigned long value) {
    const char *text = getenv(name);
    return text && *text ? strtoul(text, NULL, 0) : value;
}

static bool test_wanted(const char *name, int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (strstr(name, argv[i])) return true;
    return argc < 2;
}

int main(int argc, char **argv) {
    const unsigned long time_out = test_env("TIMEOUT", 60), repeat = test_env("REPEAT", 1);
    const int crashes[] = {SIGABRT, SIGSEGV, SIGILL, SIGFPE};
    const char *seed = getenv("SEED");
    struct timespec now = test_clock();
    pthread_t watchdog;

    test_start_seed = (uint64_t)now.tv_sec * 1000003u ^ (uint64_t)now.tv_nsec;
    test_start_seed ^= (uint64_t)getpid() << 32;
    if (seed && *seed) test_start_seed = strtoull(seed, NULL, 0);
    test_slowdown = test_env("SLOWDOWN", test_slowdown);
    if (test_slowdown == 0) test_slowdown = 1;
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    /* Sanitizers report all but SIGABRT themselves. */
    for (int i = 0; i < (TEST_SANITIZED ? 1 : 4); i++) signal(crashes[i], test_crashed);
    if (pthread_create(&watchdog, NULL, test_watchdog, NULL)) return 1;

    for (unsigned long round = 0; round < repeat; round++, test_start_seed++) {
        printf("SEED=%llu\n", (unsigned long long)test_start_seed);
        for (test_case *test = test_first; test; test = test->next)
            if (test_wanted(test->name, argc, argv)) test_run(test, time_out);
    }
    test_watch_set(TEST_STOP, 0);
    pthread_join(watchdog, NULL);

    const unsigned none = test_counts[0] + test_counts[1] + test_counts[2] == 0;
    if (none) fprintf(stderr, "no test to run\n");
    test_counts[1] += none;
    printf("%u passed, %u failed, %u skipped\n", test_counts[0], test_counts[1], test_counts[2]);
    if (test_counts[1]) return 1;
    return test_counts[0] ? 0 : 77;
}

#endif /* TEST_H */
