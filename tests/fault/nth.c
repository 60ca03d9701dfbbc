/* nth.c - each call that can fail fails: the first of its kind, then the second, and so on until a
 * tour comes to its end without a fault; alone (once), and with all later ones (from). Then all
 * kinds at random.
 *
 * Environment, besides that of test.h: BUDGET=s for the random test; FAULT_SPARSE=n: after the n-th
 * place fewer and fewer are tried (0: all), FAULT_SPARSE_WAITS the same for the tours of times,
 * descriptors and looks; of the first two FAULT_WAITS=n are made (0 to 3); FAULT_ERRORS=n: of each
 * kind, at most so many errors. */
#include "header.h"

#include "../test.h"
#include "tour.h"

/* Does this build call it at all? */
static bool fault_is_reached(unsigned kind) {
    if (kind >= FAULT_EPOLL_CREATE && !FAULT_HAS_IO) return false;
#if defined(FAULT_CONDVAR) || defined(FAULT_POSIX)
    if (kind == FAULT_FUTEX_WAIT || kind == FAULT_TIMERFD || kind == FAULT_TIMER_SET) return false;
    if (kind == FAULT_EVENTFD || kind == FAULT_EVENT_WRITE || kind == FAULT_ALARM_READ)
        return false;
    if (kind == FAULT_POLL) return false;
#else
    if (kind == FAULT_COND || kind == FAULT_COND_WAIT || kind == FAULT_MUTEX) return false;
    if (kind == FAULT_CONDATTR || kind == FAULT_CONDATTR_CLOCK) return false;
#endif
#if defined(FAULT_POSIX)
    if (kind == FAULT_OPEN || kind == FAULT_READ || kind == FAULT_CLOSE) return false;
    if (kind == FAULT_AFFINITY || kind == FAULT_PIN || kind == FAULT_RANDOM_BYTES) return false;
    if (kind == FAULT_SIGMASK || kind == FAULT_PRCTL || kind == FAULT_BARRIER) return false;
#endif
    return true;
}

static const tour_setup setups[] = {
    {"multi", SCH_MULTI_THREAD, 2, TOUR_LIBC, false, false, false, false, false, false},
    {"multi, shut down first", SCH_MULTI_THREAD, 3, TOUR_CALLBACKS, false, true, false, false,
     false, false},
    {"multi, alloc only", SCH_MULTI_THREAD, 1, TOUR_ALLOC_ONLY, false, false, false, false, false,
     false},
    {"multi, old kernel", SCH_MULTI_THREAD, 2, TOUR_ALLOC_ONLY, true, true, false, false, false,
     false},
    {"current", SCH_CURRENT_THREAD, 0, TOUR_LIBC, false, false, false, false, false, false},
    {"current, shut down first", SCH_CURRENT_THREAD, 0, TOUR_CALLBACKS, true, true, false, false,
     false, false},
    {"defaults, pinned", SCH_MULTI_THREAD, 0, TOUR_LIBC, false, false, FAULT_CAN_PIN, true,
     false, false},
    {"multi, waits", SCH_MULTI_THREAD, 2, TOUR_LIBC, false, false, false, false, true, false},
    {"multi, waits, shut down first", SCH_MULTI_THREAD, 3, TOUR_CALLBACKS, false, true, false,
     false, true, false},
    {"current, waits", SCH_CURRENT_THREAD, 0, TOUR_CALLBACKS, false, false, false, false, true,
     false},
    {"multi, observed", SCH_MULTI_THREAD, 2, TOUR_CALLBACKS, false, false, false, false, false,
     true},
    {"current, observed", SCH_CURRENT_THREAD, 0, TOUR_LIBC, false, true, false, false, false, true},
};
#define NUM_SETUPS (sizeof setups / sizeof setups[0])

/* Kinds that happen again and again while somebody waits: failing for ever is a storm. */
static bool is_wait(unsigned kind) {
    return kind == FAULT_FUTEX_WAIT || kind == FAULT_COND_WAIT || kind == FAULT_POLL ||
           kind == FAULT_ALARM_READ || kind == FAULT_EVENT_WRITE || kind == FAULT_EPOLL_WAIT;
}

/* And those that may be in vain, or give little, nearly every time. */
static bool is_stormy(unsigned kind) {
    return is_wait(kind) || kind == FAULT_EPOLL_PWAIT2 || kind == FAULT_IO_READ ||
           kind == FAULT_IO_WRITE || kind == FAULT_SHORT_READ || kind == FAULT_SHORT_WRITE ||
           kind == FAULT_ACCEPT || kind == FAULT_REAP || kind == FAULT_READY;
}

/* A tour meets its own kinds. */
static bool is_met(const tour_setup *setup, unsigned kind) {
    if (kind == FAULT_PIPE) return setup->observes;
    if (kind == FAULT_SIGNALFD && setup->observes) return FAULT_HAS_IO;
    if (kind >= FAULT_EPOLL_CREATE) return setup->waits && FAULT_HAS_IO;
    return (!setup->waits && !setup->observes) || kind == FAULT_ALLOC || kind == FAULT_MAP_PAGES ||
           kind == FAULT_ALIGNED_ALLOC || kind == FAULT_THREAD || kind == FAULT_EVENTFD ||
           kind == FAULT_TIMERFD || kind == FAULT_MUTEX || kind == FAULT_COND ||
           kind == FAULT_CLOSE || kind == FAULT_FUTEX_WAIT;
}

/* Without it there is no runtime: somebody must have been told. */
static bool must_show(unsigned kind) {
    return kind == FAULT_TIMERFD || kind == FAULT_EVENTFD || kind == FAULT_PIN ||
           kind == FAULT_EPOLL_CREATE || kind == FAULT_EPOLL_ADD || kind == FAULT_FCNTL ||
           kind == FAULT_FSTAT || kind == FAULT_SOCKET || kind == FAULT_BIND ||
           kind == FAULT_LISTEN || kind == FAULT_SIGNALFD || kind == FAULT_PIDFD ||
           kind == FAULT_PIPE;
}

static void sweep_error(const tour_setup *setup, fault_mode mode, unsigned kind, int error) {
    const bool slow = setup->waits || setup->observes;
    const uint64_t sparse = test_env(slow ? "FAULT_SPARSE_WAITS" : "FAULT_SPARSE", 0);
    unsigned clean = 0;
    for (uint64_t nth = 1; clean < 2; nth += 1 + (sparse ? nth / sparse : 0)) {
        const uint64_t refused = run.refused;
        fault_arm(mode, kind, nth, error);
        if (!tour_once(setup)) return;
        if (fault_injected(kind) && must_show(kind)) EXPECT(run.refused > refused);
        clean = fault_injected(kind) ? 0 : clean + 1; /* threads: the next may have one more */
    }
}

static bool fault_again(unsigned kind, int error) {
    return error == EINTR || (kind >= FAULT_EPOLL_CREATE && fault_is_soft(error));
}

static void sweep(const tour_setup *setup) {
    prepare();
    for (unsigned kind = 0; kind < FAULT_KINDS; kind++) {
        for (unsigned i = 0; i < fault_num_errors(kind) && i < test_env("FAULT_ERRORS", 9); i++) {
            int error = fault_kinds[kind].errors[i];
            if (!is_met(setup, kind)) continue;
            sweep_error(setup, FAULT_ONCE, kind, error);
            /* Who is interrupted tries again, for ever. */
            if (!is_wait(kind) && !fault_again(kind, error)) {
                sweep_error(setup, FAULT_FROM, kind, error);
            }
        }
    }
    fault_arm(FAULT_NONE, 0, 0, 0);
    EXPECT_EQ(tour_run(setup), 0);
}

TEST(no_fault) {
    prepare();
    for (unsigned i = 0; i < 3 * NUM_SETUPS; i++) {
        fault_arm(FAULT_NONE, 0, 0, 0);
        (void)tour_once(&setups[i % NUM_SETUPS]);
    }
    EXPECT_EQ(run.refused, 0);
}

TEST(nth_multi) { sweep(&setups[0]); }
TEST(nth_multi_shutdown) { sweep(&setups[1]); }
TEST(nth_multi_alloc) { sweep(&setups[2]); }
TEST(nth_multi_old_kernel) { sweep(&setups[3]); }
TEST(nth_current) { sweep(&setups[4]); }
TEST(nth_current_shutdown) { sweep(&setups[5]); }
TEST(nth_defaults) { sweep(&setups[6]); }

static void sweep_waits(unsigned n) {
    if (n >= test_env("FAULT_WAITS", 3)) SKIP("not at this level");
    sweep(&setups[7 + n]);
}

TEST(nth_waits) { sweep_waits(0); }
TEST(nth_waits_current) { sweep_waits(2); }
TEST(nth_waits_shutdown) { sweep_waits(1); }

TEST(nth_observed) { sweep(&setups[10]); }
TEST(nth_observed_current) { sweep(&setups[11]); }

/* A signal that somebody handles is not taken from him, and nothing is left of the try. */
static void signal_of_others(int number) { (void)number; }

TEST(stack_signal_in_use) {
    sch_config config;
    char text[256];
    void (*before)(int) = signal(SIGVTALRM, signal_of_others);
    memset(&config, 0, sizeof config);
    fault_arm(FAULT_NONE, 0, 0, 0);
    int fds = tour_count_dir("/proc/self/fd");
    config.workers = 1;
    config.stall_ns = SCH_MILLISECOND, config.on_stall = tour_stalled;
    config.stack_signal = SIGVTALRM;
    EXPECT(sch_runtime_new(&config) == NULL);
    EXPECT_EQ(errno, EBUSY);
    EXPECT(signal(SIGVTALRM, before) == signal_of_others);
    EXPECT_EQ(tour_count_dir("/proc/self/fd"), fds);
    EXPECT(fault_balance(text, sizeof text)[0] == 0);
}

/* Threads are refused again and again: no count goes wrong for what comes later. */
typedef struct often {
    unsigned inside, open;
} often;

static void often_gate(void *arg) {
    often *o = (often *)arg;
    (void)tour_add(&o->inside);
    while (!tour_get(&o->open)) tour_nap();
}

static void often_block(void *arg) {
    for (int i = 0; i < 200; i++) EXPECT_EQ(sch_block_in_place(often_gate, arg), -EAGAIN);
    fault_pause();
    EXPECT_EQ(sch_block_in_place(often_gate, arg), 0);
    fault_resume();
}

TEST(refused_often) {
    often gate = {0, 0};
    sch_metrics_snapshot m;
    sch_task *job[2];
    sch_config config;
    memset(&config, 0, sizeof config);
    config.workers = 2;
    config.max_blocking_threads = 4;
    fault_arm(FAULT_NONE, 0, 0, 0);
    sch_runtime *rt = sch_runtime_new(&config);
    if (!EXPECT(rt != NULL)) return;
    fault_arm(FAULT_FROM, FAULT_THREAD, 1, EAGAIN);
    for (int i = 0; i < 200; i++) {
        EXPECT(sch_spawn_blocking(rt, often_gate, &gate) == NULL);
        EXPECT_EQ(errno, EAGAIN);
    }
    EXPECT_EQ(sch_metrics(rt, &m), 0);
    EXPECT_EQ(m.num_blocking_threads, 0);
    EXPECT_EQ(m.num_worker_threads, 2);

    fault_pause();
    job[0] = sch_spawn_blocking(rt, often_gate, &gate);
    fault_resume();
    while (job[0] && !tour_get(&gate.inside)) tour_nap();
    job[1] =
        sch_spawn_blocking(rt, often_gate, &gate); /* there is a thread that will come for it */
    if (!EXPECT(job[0] && job[1])) abort();
    __atomic_store_n(&gate.open, 1u, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 2; i++) EXPECT_EQ(sch_join(job[i]), 0);

    EXPECT_EQ(sch_join(sch_spawn(rt, often_block, &gate)), 0);
    EXPECT_EQ(gate.inside, 3);
    EXPECT_EQ(sch_num_alive_tasks(rt), 0);
    sch_runtime_free(rt);
    fault_off();
}

/* A job that relied on a thread which then cannot be made: it is told, too. */
static struct {
    sch_runtime *rt;
    sch_task *task;
    unsigned drops;
} relied;

static void relied_drop(void *arg) { (void)tour_add((unsigned *)arg); }

static const sch_spawn_desc relied_desc = {"relied", SCH_HERE, 0, relied_drop};

static void relied_spawn(void) {
    relied.task = sch_spawn_blocking_with(relied.rt, &relied_desc, often_gate, &relied.drops);
}

TEST(relied_on_another) {
    sch_config config;
    memset(&config, 0, sizeof config);
    config.workers = 1;
    config.max_blocking_threads = 1;
    relied.rt = sch_runtime_new(&config);
    if (!EXPECT(relied.rt != NULL)) return;
    fault.refusing = relied_spawn;
    fault_arm(FAULT_ONCE, FAULT_THREAD, 1, EAGAIN);
    EXPECT(sch_spawn_blocking(relied.rt, often_gate, NULL) == NULL);
    EXPECT_EQ(errno, EAGAIN);
    fault_off();
    fault.refusing = NULL;
    if (EXPECT(relied.task != NULL)) EXPECT_EQ(sch_join(relied.task), -ENOMEM);
    EXPECT_EQ(relied.drops, 1);
    EXPECT_EQ(sch_num_alive_tasks(relied.rt), 0);
    sch_runtime_free(relied.rt);
}

/* Every wait is interrupted, or ends for no reason, nearly every time. */
TEST(storm) {
    prepare();
    for (unsigned kind = 0; kind < FAULT_KINDS; kind++) {
        for (unsigned i = 0; is_stormy(kind) && i < NUM_SETUPS; i++) {
            if (!is_met(&setups[i], kind)) continue;
            fault_arm(FAULT_RANDOM, kind, 60000, 0);
            (void)tour_once(&setups[i]);
        }
    }
}

/* Everything may fail, seldom or often, until the budget is used up. */
TEST(random) {
    const struct timespec start = test_clock();
    const double budget = (double)test_env("BUDGET", 10);
    unsigned rounds = 0;
    prepare();
    do {
        const uint64_t dice = test_random();
        fault.random = test_random();
        fault_arm(FAULT_RANDOM, FAULT_KINDS, UINT64_C(16384) >> dice % 10, 0);
        if (!tour_once(&setups[dice / 16 % NUM_SETUPS])) return;
        rounds++;
    } while (test_seconds_since(start) < budget);
    printf("random: %u tours\n", rounds);
}

/* What was injected by all tests before; in a whole run every kind that this build has. */
TEST(zz_figures) {
    uint64_t sum = 0;
    printf("injected:");
    for (unsigned kind = 0; kind < FAULT_KINDS; kind++) {
        if (fault.total[kind] == 0) continue;
        sum += fault.total[kind];
        printf(" %s %llu,", fault_kinds[kind].name, (unsigned long long)fault.total[kind]);
    }
    printf(" together %llu in %llu tours; %llu calls refused and repeated\n",
           (unsigned long long)sum, (unsigned long long)run.tours, (unsigned long long)run.refused);
    if (test_counts[0] + test_counts[1] + test_counts[2] < 13) SKIP("only some tests were run");
    for (unsigned kind = 0; kind < FAULT_KINDS; kind++) {
        if (!test_check(fault.total[kind] > 0 || !fault_is_reached(kind), "it was injected",
                        fault_kinds[kind].name, 0)) {
            fprintf(stderr, "  %s was never injected\n", fault_kinds[kind].name);
        }
    }
}
