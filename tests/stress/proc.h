/* proc.h - what this process holds of the system, from /proc/self, and how to make that repeatable.
 * Included before main() is defined; Linux. Elsewhere every number is 0. */
#ifndef STRESS_PROC_H
#define STRESS_PROC_H

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#if defined(__has_feature)
#define PROC_HAS(feature) __has_feature(feature)
#else
#define PROC_HAS(feature) 0
#endif
#if defined(__SANITIZE_THREAD__) || PROC_HAS(thread_sanitizer)
#define PROC_TSAN 1
#else
#define PROC_TSAN 0
#endif
#if defined(__SANITIZE_ADDRESS__) || PROC_HAS(address_sanitizer)
#define PROC_ASAN 1
#else
#define PROC_ASAN 0
#endif
#define PROC_SANITIZED (PROC_TSAN || PROC_ASAN)

typedef struct proc_usage {
    long rss_kb;
    int fds, threads, mappings;
} proc_usage;

static int proc_entries(const char *path) {
    int count = 0;
    DIR *dir = opendir(path);
    for (; dir && readdir(dir); count++) continue;
    if (dir) closedir(dir);
    return count;
}

static int proc_lines(const char *path) {
    int count = 0, c;
    FILE *file = fopen(path, "r");
    while (file && (c = getc(file)) != EOF) count += c == '\n';
    if (file) fclose(file);
    return count;
}

/* With malloc's free memory given back first, where libc can. */
__attribute__((unused)) static proc_usage proc_now(void) {
    proc_usage u = {0, 0, 0, 0};
    long pages = 0, resident = 0;
    FILE *file;
#ifdef __GLIBC__
    if (!PROC_SANITIZED) malloc_trim(0);
#endif
    file = fopen("/proc/self/statm", "r");
    if (file) {
        if (fscanf(file, "%ld %ld", &pages, &resident) != 2) resident = 0;
        fclose(file);
    }
    u.rss_kb = resident * (sysconf(_SC_PAGESIZE) / 1024);
    u.fds = proc_entries("/proc/self/fd");
    u.threads = proc_entries("/proc/self/task");
    u.mappings = proc_lines("/proc/self/maps");
    return u;
}

/* The same once the threads that were joined are no longer listed, or after two seconds. */
__attribute__((unused)) static proc_usage proc_settled(int threads) {
    for (int i = 0; i < 2000 && proc_entries("/proc/self/task") > threads; i++) usleep(1000);
    return proc_now();
}

/* glibc keeps the stacks of ended threads, and a heap for each thread that ever met another in
 * malloc: up to a limit, but what it keeps hides what somebody else leaks. Both are turned off, one
 * by a variable that is read before main(), so the program starts itself again. */
#if defined(__linux__) && defined(__GLIBC__)
__attribute__((constructor)) static void proc_tame(void) {
    const char tunables[] = "glibc.pthread.stack_cache_size=0:glibc.malloc.arena_max=1";
    const char *set = getenv("GLIBC_TUNABLES");
    static char line[4096], *words[64];
    size_t length, count = 0;
    FILE *file;
    if (PROC_SANITIZED || (set && strcmp(set, tunables) == 0)) return;
    file = fopen("/proc/self/cmdline", "r");
    if (!file) return;
    length = fread(line, 1, sizeof line - 1, file);
    fclose(file);
    for (char *at = line; at < line + length && count < 63; at += strlen(at) + 1)
        words[count++] = at;
    setenv("GLIBC_TUNABLES", tunables, 1);
    execv("/proc/self/exe", words); /* if that fails, we go on as we are */
}
#endif

#endif /* STRESS_PROC_H */
