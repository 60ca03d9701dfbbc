/* chaos.c - run another program under adverse conditions and pass its result on.
 *
 *     chaos MODE PROGRAM ARGUMENT...
 *
 * stop     the whole process is stopped and continued all the time (SIGSTOP, SIGCONT)
 * stall    it and its children stand still seldom, but long, as on a machine short of memory
 * threads  one of its threads after the other is halted for a while, the others go on (ptrace)
 * one-cpu  it may use only one CPU
 * batch    SCHED_BATCH and the least priority
 * quota    a tenth of one CPU (cgroup, version 1 or 2)
 *
 * Exit status: the program's; 77 if the system does not let us do this; 1 if a signal ended it.
 * SEED=n repeats the lengths of the stops. Linux. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t chaos_state;
static unsigned long chaos_stops, chaos_stopped_us;
static char chaos_group[200]; /* our cgroup's folder, "" for none */
static volatile pid_t chaos_child;

static unsigned chaos_below(unsigned n) {
    chaos_state = chaos_state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (unsigned)(chaos_state >> 33) % n;
}

static void chaos_nap(unsigned us) {
    struct timespec nap = {0, (long)us * 1000};
    nanosleep(&nap, NULL);
}

/* For how long something is stopped: as a rule about a time slice, at times ten times that. */
static void chaos_pause(void) {
    unsigned us = chaos_below(8) ? chaos_below(5000) : chaos_below(50000);
    chaos_nap(us);
    chaos_stops++, chaos_stopped_us += us;
}

static bool chaos_ended(pid_t child, int *status) {
    return waitpid(child, status, WNOHANG) == child;
}

static void chaos_stop(pid_t child, int *status) {
    while (!chaos_ended(child, status)) {
        kill(child, SIGSTOP);
        chaos_pause();
        kill(child, SIGCONT);
        chaos_nap(200 + chaos_below(5000));
    }
}

static void chaos_stall(pid_t child, int *status) {
    static const unsigned milliseconds[4] = {20, 100, 300, 1200};
    while (!chaos_ended(child, status)) {
        unsigned tens = milliseconds[chaos_below(4)] / 10;
        kill(-child, SIGSTOP);
        for (unsigned i = 0; i < tens; i++) chaos_nap(10000);
        kill(-child, SIGCONT);
        chaos_stops++, chaos_stopped_us += tens * 10000;
        chaos_nap(10000 + chaos_below(600000));
    }
}

/* A thread of the process, at random; 0: none. */
static pid_t chaos_any_thread(pid_t child) {
    char path[64];
    pid_t chosen = 0;
    unsigned seen = 0;
    struct dirent *entry;
    DIR *dir;
    snprintf(path, sizeof path, "/proc/%ld/task", (long)child);
    dir = opendir(path);
    while (dir && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.' && chaos_below(++seen) == 0) {
            chosen = (pid_t)strtol(entry->d_name, NULL, 10);
        }
    }
    if (dir) closedir(dir);
    return chosen;
}

/* Halt one thread. A signal that was on its way is passed on. Returns whether the process ended. */
static bool chaos_halt(pid_t child, pid_t thread, int *status) {
    int stop = 0;
    if (ptrace(PTRACE_SEIZE, thread, NULL, NULL) != 0) return false; /* it has just ended */
    if (ptrace(PTRACE_INTERRUPT, thread, NULL, NULL) != 0 && errno != ESRCH) return false;
    if (waitpid(thread, &stop, __WALL) != thread) return false;
    if (!WIFSTOPPED(stop)) { /* it ended instead */
        *status = stop;
        return thread == child;
    }
    chaos_pause();
    ptrace(PTRACE_DETACH, thread, NULL,
           (void *)(intptr_t)(stop >> 16 == PTRACE_EVENT_STOP ? 0 : WSTOPSIG(stop)));
    return false;
}

static void chaos_threads(pid_t child, int *status) {
    while (!chaos_ended(child, status)) {
        pid_t thread = chaos_any_thread(child);
        if (thread && chaos_halt(child, thread, status)) return;
        chaos_nap(chaos_below(1000));
    }
}

static bool chaos_write(const char *folder, const char *name, const char *text) {
    char path[300];
    int fd;
    bool ok;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    fd = open(path, O_WRONLY);
    if (fd < 0) return false;
    ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    close(fd);
    return ok;
}

/* Make a group with a quota of 10 ms in 100 ms. */
static bool chaos_make_group(const char *root, const char *name, const char *quota) {
    snprintf(chaos_group, sizeof chaos_group, "%s/sched-stress-%ld", root, (long)getpid());
    if (mkdir(chaos_group, 0755) == 0) {
        if (chaos_write(chaos_group, name, quota)) return true;
        rmdir(chaos_group);
    }
    chaos_group[0] = 0;
    return false;
}

/* In the child, before the program. false: this cannot be done here. */
static bool chaos_prepare(const char *mode) {
    if (strcmp(mode, "one-cpu") == 0) {
        cpu_set_t cpus;
        CPU_ZERO(&cpus);
        CPU_SET((unsigned)sched_getcpu(), &cpus);
        return sched_setaffinity(0, sizeof cpus, &cpus) == 0;
    }
    if (strcmp(mode, "batch") == 0) {
        struct sched_param none;
        memset(&none, 0, sizeof none);
        return setpriority(PRIO_PROCESS, 0, 19) == 0 &&
               sched_setscheduler(0, SCHED_BATCH, &none) == 0;
    }
    if (strcmp(mode, "stall") == 0) return setpgid(0, 0) == 0;
    if (strcmp(mode, "quota") == 0) return chaos_write(chaos_group, "cgroup.procs", "0");
    return true;
}

static void chaos_terminated(int number) {
    (void)number;
    kill(-chaos_child, SIGKILL); /* if it has a group */
    kill(chaos_child, SIGKILL);  /* we then end by ourselves, and tidy up */
}

/* An ended process may be counted for a moment longer. */
static void chaos_drop_group(void) {
    for (int i = 0; i < 100 && chaos_group[0] && rmdir(chaos_group) != 0; i++) chaos_nap(10000);
}

int main(int argc, char **argv) {
    const char *mode = argc > 2 ? argv[1] : "", *seed = getenv("SEED");
    int status = 0;
    pid_t child;
    if (argc < 3) {
        fprintf(stderr, "usage: chaos MODE PROGRAM ARGUMENT...; MODE is stop, stall, threads, "
                        "one-cpu, batch or quota\n");
        return 2;
    }
    chaos_state = (unsigned)getpid();
    if (seed && *seed) chaos_state = strtoull(seed, NULL, 0);
    if (strcmp(mode, "quota") == 0 &&
        !chaos_make_group("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "10000") &&
        !chaos_make_group("/sys/fs/cgroup", "cpu.max", "10000 100000")) {
        printf("no cgroup with a CPU quota can be made here\n");
        return 77;
    }
    child = fork();
    if (child == 0) {
        if (!chaos_prepare(mode)) _exit(77);
        execv(argv[2], argv + 2);
        _exit(127);
    }
    if (child < 0) return 1;
    chaos_child = child;
    signal(SIGTERM, chaos_terminated);
    signal(SIGINT, chaos_terminated);
    if (strcmp(mode, "stop") == 0) {
        chaos_stop(child, &status);
    } else if (strcmp(mode, "stall") == 0) {
        chaos_stall(child, &status);
    } else if (strcmp(mode, "threads") == 0) {
        chaos_threads(child, &status);
    } else {
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    }
    chaos_drop_group();
    if (chaos_stops) {
        printf("stopped %lu times, %.1f s in all\n", chaos_stops, (double)chaos_stopped_us * 1e-6);
    }
    if (strcmp(mode, "threads") == 0 && !chaos_stops && WIFEXITED(status) && !WEXITSTATUS(status)) {
        printf("no thread could be halted: ptrace is not allowed here\n");
        return 77;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
