/* bench.h - what every benchmark program in C shares: arguments, clocks, rounds, the result line.
 *
 * A program does all its work in rounds of `ops` operations:
 *
 *     bench b;
 *     bench_init(&b, argc, argv, "case", "contender", 1000000, "variant_a variant_b");
 *     while (bench_round(&b)) {              (starts the clocks; warm-up rounds come first)
 *         uint64_t done = ...;               (do b.ops operations, count those that really ran)
 *         bench_done(&b, done);              (stops the clocks; a wrong count spoils the result)
 *     }
 *     return bench_report(&b);
 *
 * One line is printed, `key=value` pairs that bench/run.sh reads:
 *   ns_per_op      median of the rounds' wall time per operation; min, max beside it
 *   cpu_ns_per_op  median of the process's CPU time per operation, all threads
 *   cpus           CPU time / wall time; with two workers and under 1.8 it is not a result for two.
 *                  A thread on another CPU is charged a tick (up to 4 ms) late: in rounds shorter
 *                  than 20 ms the two CPU figures wander
 *   rss_kib        peak resident memory of the process
 *   check          ok, or BAD: operations were lost or ran twice; the exit status is 1 then
 *
 * Arguments: --workers N --ops N --rounds N --warmup N --variant NAME --contender NAME --no-lifo
 * --pin. Of an argument that is given twice the last counts. Exit 77: this program has not got that
 * variant.
 */
#ifndef BENCH_H
#define BENCH_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define BENCH_ROUNDS_MAX 1000u
#define BENCH_SKIP 77

typedef struct bench {
    const char *name;
    const char *contender;
    const char *variant;
    unsigned workers;
    uint64_t ops;     /* operations in a round */
    unsigned rounds;  /* that are recorded */
    unsigned warmup;  /* rounds before them */
    bool no_lifo;     /* sched.h only */
    bool pin;         /* worker i on the i-th CPU */
    unsigned round;   /* those begun */
    unsigned count;   /* those recorded */
    uint64_t wall_begin;
    uint64_t cpu_begin;
    uint64_t bad;     /* operations that were lost or ran twice, in any round */
    double wall[BENCH_ROUNDS_MAX]; /* ns per operation */
    double cpu[BENCH_ROUNDS_MAX];
    double extra;           /* a figure of the case's own, printed if it has a name */
    const char *extra_name;
} bench;

static inline uint64_t bench_clock(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static inline uint64_t bench_now(void) {
    return bench_clock(CLOCK_MONOTONIC);
}

static inline uint64_t bench_cpu(void) {
    return bench_clock(CLOCK_PROCESS_CPUTIME_ID);
}

static inline void bench_sleep(uint64_t ns) {
    struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    nanosleep(&t, NULL);
}

static inline long bench_peak_rss_kib(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
#ifdef __APPLE__
    return usage.ru_maxrss / 1024;
#else
    return usage.ru_maxrss;
#endif
}

/* A line of /proc/self/status in KiB, for instance "VmRSS:"; -1 where there is none. */
static inline long bench_status_kib(const char *key) {
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    long kib = -1;
    if (f == NULL) return -1;
    while (fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, key, strlen(key)) == 0) {
            kib = strtol(line + strlen(key), NULL, 10);
            break;
        }
    }
    fclose(f);
    return kib;
}

/* Keep the calling thread on one CPU, counted among those that the process may use. */
static inline void bench_pin_self(unsigned index) {
#ifdef __linux__
    cpu_set_t all;
    cpu_set_t one;
    if (sched_getaffinity(0, sizeof all, &all) != 0) return;
    index %= (unsigned)CPU_COUNT(&all);
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &all)) continue;
        if (index-- > 0) continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        sched_setaffinity(0, sizeof one, &one);
        return;
    }
#else
    (void)index;
#endif
}

static inline bool bench_is(const bench *b, const char *variant) {
    return strcmp(b->variant, variant) == 0;
}

static inline void bench_die(const char *what) {
    fprintf(stderr, "bench: %s\n", what);
    exit(2);
}

static inline uint64_t bench_number(const char *option, const char *text) {
    char *end = NULL;
    errno = 0;
    uint64_t n = text != NULL ? strtoull(text, &end, 10) : 0;
    if (text == NULL || errno != 0 || end == text || *end != '\0') {
        fprintf(stderr, "bench: %s wants a number\n", option);
        exit(2);
    }
    return n;
}

/* variants: names with one space between, the first is the default. */
static inline void bench_init(bench *b, int argc, char **argv, const char *name,
                              const char *contender, uint64_t ops, const char *variants) {
    static char first[64];
    size_t len = strcspn(variants, " ");
    if (len >= sizeof first) bench_die("variant name too long");
    memcpy(first, variants, len);
    memset(b, 0, sizeof *b);
    b->name = name;
    b->contender = contender;
    b->variant = first;
    b->workers = 1;
    b->ops = ops;
    b->rounds = 5;
    b->warmup = 1;
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        const char *next = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(arg, "--no-lifo") == 0) {
            b->no_lifo = true;
            continue;
        }
        if (strcmp(arg, "--pin") == 0) {
            b->pin = true;
            continue;
        }
        i++;
        if (strcmp(arg, "--workers") == 0) {
            b->workers = (unsigned)bench_number(arg, next);
        } else if (strcmp(arg, "--ops") == 0) {
            b->ops = bench_number(arg, next);
        } else if (strcmp(arg, "--rounds") == 0) {
            b->rounds = (unsigned)bench_number(arg, next);
        } else if (strcmp(arg, "--warmup") == 0) {
            b->warmup = (unsigned)bench_number(arg, next);
        } else if (strcmp(arg, "--variant") == 0 && next != NULL) {
            b->variant = next;
        } else if (strcmp(arg, "--contender") == 0 && next != NULL) {
            b->contender = next;
        } else {
            bench_die("arguments: --workers N --ops N --rounds N --warmup N --variant NAME "
                      "--contender NAME --no-lifo --pin");
        }
    }
    if (b->ops == 0 || b->workers == 0 || b->rounds == 0 || b->rounds > BENCH_ROUNDS_MAX) {
        bench_die("--ops, --workers and --rounds must be at least 1, --rounds at most 1000");
    }
    for (const char *v = variants; *v != '\0';) {
        len = strcspn(v, " ");
        if (strlen(b->variant) == len && memcmp(v, b->variant, len) == 0) return;
        v += len + (v[len] == ' ');
    }
    exit(BENCH_SKIP);
}

#ifdef BENCH_COUNT /* contention/report.h has them */
static void bench_count_begin(void);
static void bench_count_end(void);
static void bench_count_print(double ops);
#endif

static inline bool bench_round(bench *b) {
    if (b->round == b->warmup + b->rounds) return false;
    b->round++;
#ifdef BENCH_COUNT
    if (b->round == b->warmup + 1) bench_count_begin();
#endif
    b->cpu_begin = bench_cpu();
    b->wall_begin = bench_now();
    return true;
}

static inline void bench_done(bench *b, uint64_t done) {
    uint64_t wall = bench_now() - b->wall_begin;
    uint64_t cpu = bench_cpu() - b->cpu_begin;
    b->bad += done > b->ops ? done - b->ops : b->ops - done;
#ifdef BENCH_COUNT
    bench_count_end();
#endif
    if (b->round <= b->warmup) return;
    b->wall[b->count] = (double)wall / (double)b->ops;
    b->cpu[b->count] = (double)cpu / (double)b->ops;
    b->count++;
}

static inline int bench_compare(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts. p in percent. */
static inline double bench_percentile(double *v, size_t n, double p) {
    qsort(v, n, sizeof v[0], bench_compare);
    if (n == 0) return 0.0;
    if (p == 50.0 && n % 2 == 0) return (v[n / 2 - 1] + v[n / 2]) / 2.0;
    return v[(size_t)(p / 100.0 * (double)(n - 1) + 0.5)];
}

static inline void bench_print_head(const bench *b) {
    printf("case=%s variant=%s contender=%s workers=%u ops=%" PRIu64, b->name, b->variant,
           b->contender, b->workers, b->ops);
}

static inline int bench_print_tail(const bench *b) {
    if (b->extra_name != NULL) printf(" %s=%.1f", b->extra_name, b->extra);
#ifdef BENCH_COUNT
    bench_count_print((double)b->ops * b->rounds);
#endif
    printf(" rss_kib=%ld check=%s\n", bench_peak_rss_kib(), b->bad == 0 ? "ok" : "BAD");
    if (b->bad != 0) fprintf(stderr, "bench: %" PRIu64 " operations lost or doubled\n", b->bad);
    return b->bad == 0 ? 0 : 1;
}

static inline int bench_report(bench *b) {
    double cpus = 0.0;
    for (unsigned i = 0; i < b->count; i++) cpus += b->cpu[i] / b->wall[i] / (double)b->count;
    double wall = bench_percentile(b->wall, b->count, 50.0);
    double cpu = bench_percentile(b->cpu, b->count, 50.0);
    bench_print_head(b);
    printf(" rounds=%u ns_per_op=%.2f min=%.2f max=%.2f cpu_ns_per_op=%.2f cpus=%.2f", b->count,
           wall, b->wall[0], b->wall[b->count - 1], cpu, cpus);
    return bench_print_tail(b);
}

/* For latencies: one value an operation instead of a mean over a round. Sorts. */
static inline int bench_report_latency(bench *b, double *ns, size_t n) {
    double p50 = bench_percentile(ns, n, 50.0);
    bench_print_head(b);
    printf(" rounds=1 ns_per_op=%.0f min=%.0f max=%.0f p90=%.0f p99=%.0f", p50, ns[0], ns[n - 1],
           bench_percentile(ns, n, 90.0), bench_percentile(ns, n, 99.0));
    return bench_print_tail(b);
}

/* For memory: bytes instead of nanoseconds. */
static inline int bench_report_bytes(bench *b, double bytes, double table_bytes) {
    bench_print_head(b);
    printf(" rounds=1 bytes_per_op=%.1f table_bytes_per_op=%.1f", bytes, table_bytes);
    return bench_print_tail(b);
}

#endif /* BENCH_H */
