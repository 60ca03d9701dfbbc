/* os.c - [3]: clock, memory, CPUs, threads, alarm. */
#include "support.h"

TEST(os_clock) {
    uint64_t last = schi_now_ns(), first = last, now;
    for (size_t i = test_scale(100000); i > 0; i--, last = now) {
        now = schi_now_ns();
        if (!EXPECT(now >= last)) return;
    }
    support_nap(2000);
    EXPECT(schi_now_ns() - first >= 2000000); /* in nanoseconds */
    EXPECT(schi_entropy() != schi_entropy());
}

TEST(os_libc_alloc) {
    for (size_t align = 1; align <= 65536; align *= 2) {
        size_t size = (size_t)(test_random() % 5000 + 1);
        char *memory = (char *)schi_libc_alloc(size, align, NULL);
        if (!EXPECT(memory != NULL)) return;
        EXPECT_EQ((uintptr_t)memory % align, 0);
        memset(memory, 1, size);
        schi_libc_free(memory, size, align, NULL);
    }
}

/* What one thread does all the time without a fence, and another after a barrier on all: Dekker. */
typedef struct os_dekker {
    SCHI_ATOMIC(uint32_t) often, seldom;
    SCHI_CELL(unsigned) inside; /* of who is alone there */
    size_t rounds, both;
    unsigned over; /* atomic */
} os_dekker;

static void os_dekker_work(void *arg, unsigned me) {
    os_dekker *d = (os_dekker *)arg;
    while (me == 0 && !__atomic_load_n(&d->over, __ATOMIC_ACQUIRE)) {
        schi_store_rlx(&d->often, 1u);
        schi_compiler_barrier();
        if (schi_load_acq(&d->seldom) == 0) schi_wr(&d->inside, schi_rd(&d->inside) + 1);
        schi_store_rel(&d->often, 0u);
    }
    for (size_t i = 0; me == 1 && i < d->rounds; i++) {
        unsigned before;
        schi_store_rlx(&d->seldom, 1u);
        EXPECT(schi_barrier_all());
        while (schi_load_acq(&d->often) != 0) schi_os_yield();
        before = schi_rd(&d->inside);
        for (int k = 0; k < 100; k++) schi_cpu_relax();
        d->both += schi_rd(&d->inside) != before;
        schi_store_rel(&d->seldom, 0u);
    }
    if (me == 1) __atomic_store_n(&d->over, 1u, __ATOMIC_RELEASE);
}

TEST(os_barrier) {
    os_dekker d;
    memset(&d, 0, sizeof d);
    d.rounds = test_scale(20000);
    if (!schi_barrier_open()) SKIP("no barrier on all threads here");
    EXPECT(schi_barrier_open()); /* again: at once */
    crew_run(2, os_dekker_work, &d);
    EXPECT_EQ(d.both, 0);
}

/* Pages -----------------------------------------------------------------------------------------*/

static bool os_all_are(const char *memory, size_t size, char value) {
    for (size_t i = 0; i < size; i++)
        if (memory[i] != value) return false;
    return true;
}

TEST(os_pages) {
    const size_t page = schi_page_size(), size = 8 * page;
    char *memory = (char *)schi_map_pages(size, NULL);
    if (!EXPECT(memory != NULL)) return;
    EXPECT_EQ((uintptr_t)memory % page, 0);
    EXPECT(os_all_are(memory, size, 0));
    memset(memory, 7, size);
    schi_discard_pages(memory + 2 * page, 3 * page);
    EXPECT(os_all_are(memory, 2 * page, 7));
    EXPECT(os_all_are(memory + 5 * page, 3 * page, 7));
#if SCHI_LINUX
    EXPECT(os_all_are(memory + 2 * page, 3 * page, 0));
#endif
    schi_unmap_pages(memory, size, NULL);
    EXPECT(support_faults(memory));
}

TEST(os_guard) {
    const size_t page = schi_page_size();
    char *memory = (char *)schi_map_pages(4 * page, NULL);
    if (!EXPECT(memory != NULL)) return;
    if (!support_advice_is_real(memory, page)) {
        schi_unmap_pages(memory, 4 * page, NULL);
        SKIP("this system accepts every advice about pages and does nothing");
    }
    for (int round = 0; round < 2; round++) { /* by whatever is best, and by page protection */
        int kind = 2;
        if (round == 0) {
            kind = schi_guard_pages(memory + page, page);
        } else {
            EXPECT_EQ(mprotect(memory + page, page, PROT_NONE), 0);
        }
        EXPECT(kind == 1 || kind == 2);
        EXPECT(support_faults(memory + page));
        EXPECT(support_faults(memory + 2 * page - 1));
        EXPECT(!support_faults(memory + page - 1));
        EXPECT(!support_faults(memory + 2 * page));
        schi_unguard_pages(memory + page, page, kind);
        EXPECT(!support_faults(memory + page));
        memset(memory, round, 4 * page);
    }
    schi_unmap_pages(memory, 4 * page, NULL);
}

/* CPUs ------------------------------------------------------------------------------------------*/
#if SCHI_LINUX

/* Affinity belongs to the thread, so a thread of its own narrows it. */
static void os_narrow(void *arg, unsigned index) {
    cpu_set_t all, one;
    unsigned cpus[4] = {0, 0, 0, 0};
    (void)index, (void)arg;
    if (!EXPECT_EQ(sched_getaffinity(0, sizeof all, &all), 0)) return;
    EXPECT_EQ(schi_cpu_list(NULL, 0), CPU_COUNT(&all));
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &all)) continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        EXPECT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
        EXPECT_EQ(schi_cpu_list(cpus, 4), 1);
        EXPECT_EQ(cpus[0], cpu);
        EXPECT_EQ(schi_cpu_count(), 1);
        EXPECT_EQ(sched_setaffinity(0, sizeof all, &all), 0);

        EXPECT_EQ(schi_pin_thread(cpu), 0);
        EXPECT_EQ(sched_getaffinity(0, sizeof one, &one), 0);
        EXPECT(CPU_COUNT(&one) == 1 && CPU_ISSET(cpu, &one));
        EXPECT_EQ(sched_setaffinity(0, sizeof all, &all), 0);
    }
    EXPECT(schi_pin_thread(4095) < 0); /* not there */
    EXPECT_EQ(schi_pin_thread(4096), -EINVAL);
    EXPECT_EQ(schi_pin_thread(UINT_MAX), -EINVAL);
    EXPECT_EQ(schi_cpu_list(NULL, 0), CPU_COUNT(&all)); /* a refusal changes nothing */
}

TEST(os_cpus) {
    unsigned count = schi_cpu_count(), quota = schi_cgroup_cpus();
    size_t listed = schi_cpu_list(NULL, 0);
    EXPECT(listed >= 1);
    EXPECT_EQ(count, quota && quota < listed ? quota : listed);
    crew_run(1, os_narrow, NULL);
}

static void os_write_file(const char *folder, const char *name, const char *text) {
    char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    if (!EXPECT(file != NULL)) return;
    fputs(text, file);
    fclose(file);
}

static unsigned os_quota(const char *folder, bool version2) {
    char path[200];
    snprintf(path, sizeof path, "%s", folder);
    return schi_cgroup_quota(path, strlen(path), sizeof path, version2);
}

TEST(os_cgroup_quota) {
    static const struct {
        const char *text;
        unsigned cpus;
    } version2[] = {{"max 100000\n", 0},    {"100000 100000\n", 1},       {"100001 100000\n", 2},
                    {"50000 100000\n", 1},  {"250000 50000\n", 5},        {"100000 0\n", 0},
                    {"-1 100000\n", 0},     {"9000000000000 100000", 65535}, {"\n", 0}},
      version1[] = {{"-1\n", 0}, {"0\n", 0}, {"150000\n", 2}};
    char folder[] = "/tmp/sched-cgroup-XXXXXX", path[200];
    if (!mkdtemp(folder)) SKIP("no folder can be made in /tmp");
    EXPECT_EQ(os_quota(folder, true), 0); /* no such file: no quota */
    EXPECT_EQ(os_quota(folder, false), 0);
    for (size_t i = 0; i < sizeof version2 / sizeof version2[0]; i++) {
        os_write_file(folder, "cpu.max", version2[i].text);
        if (!EXPECT_EQ(os_quota(folder, true), version2[i].cpus)) fputs(version2[i].text, stderr);
    }
    for (size_t i = 0; i < sizeof version1 / sizeof version1[0]; i++) {
        os_write_file(folder, "cpu.cfs_quota_us", version1[i].text);
        EXPECT_EQ(os_quota(folder, false), version1[i].cpus); /* period by default 100 ms */
    }
    os_write_file(folder, "cpu.cfs_period_us", "10000\n");
    EXPECT_EQ(os_quota(folder, false), 15);
    snprintf(path, sizeof path, "%s", folder); /* a path that leaves no room for the name */
    EXPECT_EQ(schi_cgroup_quota(path, strlen(path), strlen(path) + 20, true), 0);
    EXPECT_EQ(strlen(path), strlen(folder));

    const char *const names[] = {"/cpu.max", "/cpu.cfs_quota_us", "/cpu.cfs_period_us", ""};
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s%s", folder, names[i]);
        EXPECT_EQ(remove(path), 0);
    }
}

TEST(os_read_file) {
    char path[] = "/tmp/sched-file-XXXXXX", text[8];
    int fd = mkstemp(path);
    if (fd < 0) SKIP("no file can be made in /tmp");
    EXPECT_EQ(write(fd, "0123456789", 10), 10);
    close(fd);
    EXPECT_EQ(schi_read_file(path, text, sizeof text), 7); /* cut, and ended */
    EXPECT_EQ(strcmp(text, "0123456"), 0);
    EXPECT_EQ(remove(path), 0);
    EXPECT_EQ(schi_read_file(path, text, sizeof text), 0);
}
#endif

/* Threads ---------------------------------------------------------------------------------------*/

typedef struct os_probe {
    sigset_t mask;
    void *record;
    char name[16];
} os_probe;

static void *os_probe_main(void *arg) {
    os_probe *probe = (os_probe *)arg;
    pthread_sigmask(SIG_BLOCK, NULL, &probe->mask);
    EXPECT(schi_tls_get() == NULL);
    schi_tls_set(probe);
    probe->record = schi_tls_get();
#if SCHI_LINUX
    schi_thread_name("probe-1");
    SCHI_SYS(SYS_prctl, 16 /* PR_GET_NAME */, probe->name, 0, 0, 0);
#endif
    return arg;
}

TEST(os_thread) {
    const int own_fault[] = {SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV};
    sigset_t before, after;
    schi_os_thread thread;
    os_probe probe;
    memset(&probe, 0, sizeof probe);
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    if (!EXPECT_EQ(schi_thread_start(&thread, os_probe_main, &probe, 256 * 1024), 0)) return;
    schi_thread_join(thread);
    for (int i = 1; i < 32; i++) {
        bool blocked = i != SIGKILL && i != SIGSTOP;
        for (int k = 0; k < 5; k++) blocked = blocked && i != own_fault[k];
        if (!EXPECT_EQ(sigismember(&probe.mask, i) == 1, blocked)) {
            fprintf(stderr, "  signal %d\n", i);
        }
    }
    EXPECT(probe.record == &probe);
    EXPECT(schi_tls_get() == NULL); /* theirs is not ours */
#if SCHI_LINUX
    EXPECT_EQ(strcmp(probe.name, "probe-1"), 0);
#endif
    /* A stack below the system's least is raised to it. */
    if (!EXPECT_EQ(schi_thread_start(&thread, os_probe_main, &probe, 1), 0)) return;
    schi_thread_join(thread);
    /* This thread's signals are as they were. */
    pthread_sigmask(SIG_BLOCK, NULL, &after);
    for (int i = 1; i < 32; i++) EXPECT_EQ(sigismember(&before, i), sigismember(&after, i));
}

/* Alarm -----------------------------------------------------------------------------------------*/

static void os_ring(void *arg, unsigned me) {
    schi_alarm *a = (schi_alarm *)arg;
    if (me == 0) schi_alarm_wait(a, UINT64_MAX); /* the test times out if it never rings */
    if (me == 1) schi_alarm_set(a, 0);
}

TEST(os_alarm) {
    schi_alarm a;
    int early = 0;
    EXPECT_EQ(schi_alarm_init(&a), 0);
    schi_alarm_set(&a, 0); /* a ring is kept */
    schi_alarm_wait(&a, UINT64_MAX);
    for (size_t i = test_scale(300); i > 0; i--) crew_run(2, os_ring, &a);

    schi_alarm_set(&a, 3600 * SCH_SECOND); /* the last call counts */
    schi_alarm_set(&a, SCH_MILLISECOND);
    schi_alarm_wait(&a, UINT64_MAX);
    for (int i = 0; i < 3; i++) { /* it may return early for no reason, but not always */
        uint64_t start = schi_now_ns();
        schi_alarm_set(&a, 10 * SCH_MILLISECOND);
        schi_alarm_wait(&a, UINT64_MAX);
        early += schi_now_ns() - start < 10 * SCH_MILLISECOND;
    }
    EXPECT(early < 3);
    schi_alarm_drop(&a);
}
