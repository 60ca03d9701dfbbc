/* limits.c - what the kernel itself refuses: descriptors, address space, threads, whole system
 * calls; and signals that interrupt every sleep. Each in a child process, where a tour is made
 * under a limit that grows until nothing is refused any more; a retry has the limit lifted. */
#include "header.h"

#include "../test.h"
#include "tour.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static const tour_setup setups[] = {
    {"multi", SCH_MULTI_THREAD, 2, TOUR_LIBC, false, false, false, false, false, false},
    {"multi, shut down first", SCH_MULTI_THREAD, 2, TOUR_LIBC, true, true, false, false, false,
     false},
    {"current", SCH_CURRENT_THREAD, 0, TOUR_LIBC, false, false, false, false, false, false},
    {"multi, waits", SCH_MULTI_THREAD, 2, TOUR_LIBC, false, false, false, false, true, false},
    {"current, waits", SCH_CURRENT_THREAD, 0, TOUR_LIBC, false, false, false, false, true, false},
    {"multi, observed", SCH_MULTI_THREAD, 2, TOUR_LIBC, false, true, false, false, false, true},
};
#define NUM_SETUPS (sizeof setups / sizeof setups[0])

/* What children tell their parent. */
typedef struct report {
    unsigned refused, tours, interrupted;
    bool skipped;
} report;
static report *told;

static struct {
    unsigned resource; /* as libc has it: an enum */
    rlim_t value; /* the limit, when it is not lifted */
} limited;

static void limit_lift(bool lifted) {
    struct rlimit limit;
    if (getrlimit(limited.resource, &limit) != 0) abort();
    limit.rlim_cur = lifted || limited.value > limit.rlim_max ? limit.rlim_max : limited.value;
    if (setrlimit(limited.resource, &limit) != 0) abort();
}

static void in_child(void (*body)(const void *arg), const void *arg) {
    int status = 0;
    if (!told) {
        told = (report *)real_mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE,
                                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (!EXPECT(told != MAP_FAILED)) abort();
    }
    memset(told, 0, sizeof *told);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        prepare();
        run.limit = 0; /* the harness's watchdog is not here */
        alarm((unsigned)test_env("TIMEOUT", 60));
        fault.real = true;
        body(arg);
        told->tours = (unsigned)run.tours, told->refused = (unsigned)run.refused;
        fflush(stdout);
        _exit(__atomic_load_n(&test_failures, __ATOMIC_SEQ_CST) ? 1 : 0);
    }
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    if (!EXPECT(child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
        fprintf(stderr, "  child: status %#x\n", status);
    }
}

static void limited_tour(const void *setup) {
    volatile char room[65536]; /* the main stack cannot grow once address space is short */
    for (size_t i = 0; i < sizeof room; i += 4096) room[i] = 1;
    fault.lift = limit_lift;
    limit_lift(false);
    (void)tour_once((const tour_setup *)setup);
}

/* Tours under a limit of first, first + step, ... until three in a row were refused nothing. */
static void grow(const char *what, unsigned resource, rlim_t first, rlim_t step, unsigned max_steps,
                 void (*body)(const void *)) {
    unsigned refused = 0, tours = 0;
    limited.resource = resource;
    for (unsigned s = 0; s < NUM_SETUPS; s++) {
        unsigned clean = 0;
        for (unsigned i = 0; i < max_steps && clean < 3; i++) {
            limited.value = first + i * step;
            /* poll(2) watches no more than may be open: the watchdog's two */
            if (resource == RLIMIT_NOFILE && setups[s].observes) limited.value += 1;
            in_child(body, &setups[s]);
            if (told->skipped) SKIP("not permitted here");
            if (__atomic_load_n(&test_failures, __ATOMIC_SEQ_CST)) {
                fprintf(stderr, "  limit of %s: %llu\n", what, (unsigned long long)limited.value);
                return;
            }
            refused += told->refused, tours += told->tours;
            clean = told->refused ? 0 : clean + 1;
        }
        EXPECT_EQ(clean, 3);
    }
    EXPECT(refused > 0);
    printf("%s: %u calls refused and repeated in %u tours\n", what, refused, tours);
}

TEST(descriptors) { grow("RLIMIT_NOFILE", RLIMIT_NOFILE, 1, 1, 100, limited_tour); }

static rlim_t address_space(void) {
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%llu", &pages) != 1) abort();
    fclose(file);
    return (rlim_t)pages * 4096;
}

static void spacious_tour(const void *setup) {
    limited.value += address_space();
    limited_tour(setup);
}

TEST(space) {
    if (TEST_SANITIZED) SKIP("the sanitizers need terabytes");
    grow("RLIMIT_AS", RLIMIT_AS, 0, 160 << 10, 400, spacious_tour);
}

static void common_tour(const void *setup) {
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) { /* root has no limit */
        told->skipped = true;
        return;
    }
    (void)prctl(PR_SET_DUMPABLE, 1); /* /proc/self is ours again */
    limited_tour(setup);
}

TEST(threads) { grow("RLIMIT_NPROC", RLIMIT_NPROC, 1, 1, 200, common_tour); }

/* Signals interrupt every thread's sleep: the library's threads block all but those of faults, so
 * SIGTRAP it is. The handler is not restarting. */
static void count_signal(int number) {
    (void)number;
    __atomic_add_fetch(&told->interrupted, 1u, __ATOMIC_RELAXED);
}

typedef struct storm {
    DIR *tasks;
    bool over; /* atomic */
} storm;

static void *storm_main(void *argument) {
    storm *s = (storm *)argument;
    long self = real_syscall(SYS_gettid);
    while (!__atomic_load_n(&s->over, __ATOMIC_SEQ_CST)) {
        struct dirent *entry;
        rewinddir(s->tasks);
        while ((entry = readdir(s->tasks)) != NULL) {
            long thread = atol(entry->d_name);
            if (thread > 0 && thread != self)
                real_syscall(SYS_tgkill, (long)getpid(), thread, SIGTRAP);
        }
        tour_nap();
    }
    return NULL;
}

static void stormy_tours(const void *unused) {
    struct sigaction action;
    pthread_t thread;
    storm s = {opendir("/proc/self/task"), false};
    const struct timespec start = test_clock();
    const double budget = (double)test_env("BUDGET", 10) / 2;
    (void)unused;
    memset(&action, 0, sizeof action);
    action.sa_handler = count_signal;
    if (!s.tasks || sigaction(SIGTRAP, &action, NULL) != 0) abort();
    if (real_pthread_create(&thread, NULL, storm_main, &s) != 0) abort();
    do {
        (void)tour_once(&setups[run.tours % NUM_SETUPS]);
    } while (test_seconds_since(start) < budget);
    __atomic_store_n(&s.over, true, __ATOMIC_SEQ_CST);
    pthread_join(thread, NULL);
    closedir(s.tasks);
    EXPECT_EQ(run.refused, 0);
}

TEST(signals) {
    in_child(stormy_tours, NULL);
    EXPECT(told->interrupted > 0);
    printf("signals: %u in %u tours\n", told->interrupted, told->tours);
}

/* A system call that this system does not know or allow at all. create: what sch_runtime_new then
 * fails with; 0: nothing is refused to a caller. */
typedef struct denial {
    const char *name;
    long number;
    int error, create;
} denial;

static const denial denials[] = {
    {"getrandom", SYS_getrandom, ENOSYS, 0},
    {"sched_getaffinity", SYS_sched_getaffinity, EPERM, 0},
    {"madvise", SYS_madvise, ENOSYS, 0},
    {"timerfd_settime", SYS_timerfd_settime, EPERM, EPERM},
    {"rt_sigprocmask", SYS_rt_sigprocmask, EPERM, 0},
    {"clone3", SYS_clone3, ENOSYS, 0}, /* libc has another */
    {"clone", SYS_clone3, EAGAIN, EAGAIN},
    {"timerfd_create", SYS_timerfd_create, ENOSYS, ENOSYS},
    {"eventfd2", SYS_eventfd2, ENFILE, ENFILE},
};

static bool deny(const denial *d) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)d->number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)d->error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return false;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static void denied_tours(const void *argument) {
    const denial *d = (const denial *)argument;
    sch_config config;
    char text[256];
    if (!deny(d)) {
        told->skipped = true;
        return;
    }
    if (d->create == 0) {
        for (unsigned i = 0; i < NUM_SETUPS; i++) {
            bool signals = setups[i].waits || setups[i].observes;
            if (signals && d->number == SYS_rt_sigprocmask) continue;
            (void)tour_once(&setups[i]);
        }
        EXPECT_EQ(run.refused, 0);
        return;
    }
    int fds = test_count("/proc/self/fd");
    tour_state.setup = &setups[0];
    config = tour_config(&tour_state);
    EXPECT(sch_runtime_new(&config) == NULL);
    EXPECT_EQ(errno, d->create);
    EXPECT_EQ(test_count("/proc/self/fd"), fds);
    if (!EXPECT(fault_balance(text, sizeof text)[0] == 0)) fprintf(stderr, "  left:%s\n", text);
}

TEST(denied) {
    unsigned tours = 0;
    for (size_t i = 0; i < sizeof denials / sizeof denials[0]; i++) {
        in_child(denied_tours, &denials[i]);
        if (told->skipped) SKIP("no seccomp here");
        if (__atomic_load_n(&test_failures, __ATOMIC_SEQ_CST)) {
            fprintf(stderr, "  denied: %s\n", denials[i].name);
            return;
        }
        tours += told->tours;
    }
    printf("denied: %zu system calls, %u tours\n", sizeof denials / sizeof denials[0], tours);
}

/* A sandbox that is entered later refuses the barrier: who waits in a blocking call, and has kept
 * his loan, is waiting for a task that needs his core. */
typedef struct denied_wait {
    schi_biased_lock *loan; /* atomic; NULL: not kept yet */
    unsigned over;          /* atomic */
} denied_wait;

static void denied_nothing(void *arg) { (void)arg; }

static void denied_long(void *arg) {
    denied_wait *w = (denied_wait *)arg;
    while (!__atomic_load_n(&w->over, __ATOMIC_SEQ_CST)) usleep(100);
}

static void denied_blocks(void *arg) {
    denied_wait *w = (denied_wait *)arg;
    while (schi_self()->loan.may_keep &&
           schi_load_seq(&schi_self()->loan.bias.state) != SCHI_PRIVATE) {
        EXPECT_EQ(sch_block_in_place(denied_nothing, NULL), 0);
    }
    __atomic_store_n(&w->loan, &schi_self()->loan, __ATOMIC_SEQ_CST);
    EXPECT_EQ(sch_block_in_place(denied_long, w), 0);
}

static void denied_ends_it(void *arg) {
    denied_wait *w = (denied_wait *)arg;
    __atomic_store_n(&w->over, 1u, __ATOMIC_SEQ_CST);
}

static void denied_barrier(const void *argument) {
    static const denial barrier = {"membarrier", SYS_membarrier, EPERM, 0};
    denied_wait w = {NULL, 0};
    schi_biased_lock *loan;
    sch_config config;
    sch_runtime *rt;
    sch_task *blocks;
    (void)argument;
    memset(&config, 0, sizeof config);
    config.workers = 1;
    rt = sch_runtime_new(&config);
    if (!EXPECT(rt != NULL)) return;
    blocks = sch_spawn(rt, denied_blocks, &w);
    while (!(loan = __atomic_load_n(&w.loan, __ATOMIC_SEQ_CST))) usleep(100);
    for (bool ready = false; !ready; usleep(100)) { /* nobody but us is to take the core */
        schi_lock(&rt->idle.lock);
        ready = schi_idle_is_lent(&rt->idle, 0) && schi_idle_has_sleeper(&rt->idle);
        schi_unlock(&rt->idle.lock);
    }
    if (loan->may_keep && deny(&barrier)) {
        EXPECT(!schi_barrier_all());
        EXPECT_EQ(schi_load_seq(&loan->bias.state), SCHI_PRIVATE);
        EXPECT_EQ(sch_join(sch_spawn(rt, denied_ends_it, &w)), 0);
        EXPECT_EQ(schi_load_seq(&loan->bias.state), SCHI_SHARED);
        EXPECT(!loan->may_keep);
    } else {
        told->skipped = true;
        denied_ends_it(&w);
    }
    EXPECT_EQ(sch_join(blocks), 0);
    sch_runtime_free(rt);
}

TEST(denied_barrier_later) {
    in_child(denied_barrier, NULL);
    if (told->skipped) SKIP("no seccomp here, or no barrier");
}

/* For strace, which makes a call fail here or there: run.sh looks at the figures. */
TEST(traced) {
    prepare();
    fault.real = true;
    for (unsigned i = 0; i < NUM_SETUPS; i++) (void)tour_once(&setups[i]);
    printf("traced: %llu calls refused and repeated\n", (unsigned long long)run.refused);
    fault.real = false;
}
