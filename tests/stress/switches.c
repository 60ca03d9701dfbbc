/* switches.c - what a task must find as it left it after each of very many waits, most of them on
 * another thread: callee-saved registers, control words of the floating-point units, stack
 * alignment, its own thread record, errno; and what an overflow of its stack may not touch.
 * run.sh builds it with every compiler and the options that move code around.
 * Environment: MIGRATIONS=n (default 20000; all tests that count together). */
#define _GNU_SOURCE
/* Queued work is always worth a thief, and the ring is small: tasks move as often as can be. */
#define SCH_WAKE_COST_NS 1
#define SCH_MOVE_COST_NS 1
#define SCH_RUNQ_CAP 8
#define SCHED_IMPLEMENTATION
#include "../../sched.h"

#include "../test.h"
#include "proc.h"

#include <sys/mman.h>
#include <sys/wait.h>

#define SWITCHES_TASKS 64u
#define SWITCHES_WORKERS 4u
#define SWITCHES_THREADS 64u

/* The thread that really runs us, whatever the compiler believes. */
static inline uintptr_t switches_thread(void) {
    uintptr_t pointer;
#if defined(__x86_64__)
    __asm__ volatile("movq %%fs:0, %0" : "=r"(pointer));
#elif defined(__aarch64__)
    __asm__ volatile("mrs %0, tpidr_el0" : "=r"(pointer));
#else
    pointer = (uintptr_t)SCHI_SYS(SYS_gettid);
#endif
    return pointer;
}

/* Shared by the tasks of one test. */
typedef struct switches_case {
    uintptr_t thread_of[SWITCHES_THREADS]; /* by the runtime's number; each written by itself */
    uint64_t goal;
    uint64_t migrations, switches; /* atomic */
    sch_task *waiting[8];          /* atomic: retained; whoever takes one out wakes it */
    unsigned failed;               /* atomic */
    void (*check)(struct switches_case *c, uint64_t *rng, void (*wait)(void *));
    unsigned mode; /* of the next task */
} switches_case;

static void switches_start(void *user, unsigned thread) {
    if (thread < SWITCHES_THREADS) ((switches_case *)user)->thread_of[thread] = switches_thread();
}

static uint64_t switches_random(uint64_t *state) {
    *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return *state >> 33;
}

static void switches_fail(switches_case *c, const char *what) {
    if (__atomic_fetch_add(&c->failed, 1u, __ATOMIC_RELAXED) == 0)
        test_fail(__FILE__, 0, "%s", what);
}

/* Ways to wait ----------------------------------------------------------------------------------*/

static void switches_yield(void *arg) {
    (void)arg;
    (void)sch_yield_now();
}

static void switches_take_out(sch_task *task) {
    sch_wake(task);
    sch_release(task);
}

/* Change places with somebody who waits: it goes on on our worker, we on that of who wakes us. Who
 * finds nobody does not wait, so that at most eight do. */
static void switches_trade(void *arg) {
    switches_case *c = (switches_case *)arg;
    uint64_t turn = __atomic_load_n(&c->switches, __ATOMIC_RELAXED);
    sch_task **place = &c->waiting[turn % 8];
    sch_task *other = __atomic_exchange_n(place, sch_retain(sch_self()), __ATOMIC_ACQ_REL);
    if (other) {
        switches_take_out(other);
        (void)sch_suspend();
    } else {
        (void)sch_yield_now();
    }
}

static void switches_inside(void *arg) {
    (void)arg;
    (void)sch_yield_now();
}

static void switches_block(void *arg) { (void)sch_block_in_place(switches_inside, arg); }

static void switches_nothing(void *arg) { (void)arg; }

static void switches_join(void *arg) {
    sch_task *task = sch_spawn(NULL, switches_nothing, arg);
    (void)sch_join(task);
}

static void switches_task(void *arg) {
    switches_case *c = (switches_case *)arg;
    uint64_t rng = (uintptr_t)sch_self();
    while (__atomic_load_n(&c->migrations, __ATOMIC_RELAXED) < c->goal) {
        uint64_t kind = switches_random(&rng) % 64;
        void (*wait)(void *) = kind < 40   ? switches_yield
                               : kind < 60 ? switches_trade
                               : kind < 62 ? switches_join
                                           : switches_block;
        uintptr_t before = switches_thread();
        c->check(c, &rng, wait);
        if (switches_thread() != before) __atomic_fetch_add(&c->migrations, 1u, __ATOMIC_RELAXED);
        __atomic_fetch_add(&c->switches, 1u, __ATOMIC_RELAXED);
    }
    for (int i = 0; i < 8; i++) { /* the last ones must not wait for ever */
        switches_take_out(__atomic_exchange_n(&c->waiting[i], NULL, __ATOMIC_ACQ_REL));
    }
}

static uint64_t switches_goal(void) {
    const char *text = getenv("MIGRATIONS");
    uint64_t goal = text && *text ? strtoull(text, NULL, 0) : 20000;
    return goal / 3 + 1;
}

static void switches_run(void (*check)(switches_case *c, uint64_t *rng, void (*wait)(void *))) {
    switches_case c;
    sch_config config;
    sch_task *task[SWITCHES_TASKS];
    sch_runtime *rt;
    memset(&c, 0, sizeof c);
    memset(&config, 0, sizeof config);
    c.check = check, c.goal = switches_goal();
    config.workers = SWITCHES_WORKERS;
    config.stack_size = 65536;
    config.max_blocking_threads = 8;
    config.hooks.on_thread_start = switches_start, config.hooks.user = &c;
    rt = sch_runtime_new(&config);
    if (!EXPECT(rt != NULL)) return;
    for (unsigned i = 0; i < SWITCHES_TASKS; i++) task[i] = sch_spawn(rt, switches_task, &c);
    for (unsigned i = 0; i < SWITCHES_TASKS; i++) EXPECT_EQ(sch_join(task[i]), 0);
    for (unsigned i = 0; i < 8; i++) EXPECT(c.waiting[i] == NULL);
    sch_runtime_free(rt);
    EXPECT_EQ(c.failed, 0);
    EXPECT(c.migrations >= c.goal);
    printf("%llu waits, %llu of them ended on another thread\n", (unsigned long long)c.switches,
           (unsigned long long)c.migrations);
}

/* The thread's record ---------------------------------------------------------------------------*/

static SCHI_NOINLINE void switches_set_errno(int value) {
    __asm__ volatile("" ::: "memory");
    errno = value;
}

/* The looks before and after the wait stand in one function without a branch in between, so that a
 * compiler may keep an address that it worked out before. */
static void switches_check_thread(switches_case *c, uint64_t *rng, void (*wait)(void *)) {
    const int value = (int)(switches_random(rng) % 1000000 + 1);
    int error_before, error_after;
    uintptr_t thread_before = switches_thread(), thread_after;
    schi_thread *before, *after;
    sch_task *self_before, *self_after;
    unsigned core_after, index_after;
    switches_set_errno(value);
    error_before = sch_errno();
    self_before = sch_self();
    before = schi_self();
    wait(c);
    after = schi_self();
    self_after = sch_self();
    thread_after = switches_thread();
    switches_set_errno(-value);
    error_after = sch_errno();
    core_after = after->core ? after->core->index : UINT_MAX - 1;
    index_after = sch_worker_index();
    if (c->thread_of[before->number] != thread_before) switches_fail(c, "wrong record before");
    if (c->thread_of[after->number] != thread_after) switches_fail(c, "wrong record after a wait");
    if (self_before != self_after) switches_fail(c, "sch_self() is another task");
    if (core_after != index_after) switches_fail(c, "wrong core");
    if (error_before != value) switches_fail(c, "sch_errno() is wrong before a wait");
    if (error_after != -value) switches_fail(c, "sch_errno() reads another thread's errno");
}

TEST(switches_thread_record) { switches_run(switches_check_thread); }

/* Registers -------------------------------------------------------------------------------------*/

#if defined(__x86_64__) && !defined(__ILP32__) && !TEST_SANITIZED
#define SWITCHES_X86_64 1
/* switches_probe(in, out, fn, arg): fill each register that a callee must keep, call, read them. */
__asm__(".text\n\t.p2align 4\n\t.globl switches_probe\n\t.hidden switches_probe\n\t"
        ".type switches_probe, @function\nswitches_probe:\n\t"
        "pushq %rbp\n\tpushq %rbx\n\tpushq %r12\n\tpushq %r13\n\tpushq %r14\n\tpushq %r15\n\t"
        "pushq %rsi\n\t"
        "movq (%rdi), %rbx\n\tmovq 8(%rdi), %rbp\n\tmovq 16(%rdi), %r12\n\t"
        "movq 24(%rdi), %r13\n\tmovq 32(%rdi), %r14\n\tmovq 40(%rdi), %r15\n\t"
        "movq %rcx, %rdi\n\tcall *%rdx\n\t"
        "popq %rsi\n\t"
        "movq %rbx, (%rsi)\n\tmovq %rbp, 8(%rsi)\n\tmovq %r12, 16(%rsi)\n\t"
        "movq %r13, 24(%rsi)\n\tmovq %r14, 32(%rsi)\n\tmovq %r15, 40(%rsi)\n\t"
        "popq %r15\n\tpopq %r14\n\tpopq %r13\n\tpopq %r12\n\tpopq %rbx\n\tpopq %rbp\n\tret\n\t"
        ".size switches_probe, .-switches_probe\n");
extern void switches_probe(const uint64_t *in, uint64_t *out, void (*fn)(void *), void *arg)
    __attribute__((visibility("hidden")));

static void switches_check_registers(switches_case *c, uint64_t *rng, void (*wait)(void *)) {
    uint64_t in[6], out[6];
    for (int i = 0; i < 6; i++)
        in[i] = switches_random(rng) << 32 | switches_random(rng), out[i] = 0;
    switches_probe(in, out, wait, c);
    if (memcmp(in, out, sizeof in) != 0) switches_fail(c, "a callee-saved register has changed");
}

TEST(switches_registers) { switches_run(switches_check_registers); }

/* Rounding and masks of SSE and x87; the flags are not kept. Each wait with other words, so that a
 * leak from one task to the next, or from a worker, is seen. */
static void switches_check_control(switches_case *c, uint64_t *rng, void (*wait)(void *)) {
    uint32_t sse_old, sse, sse_now;
    uint16_t x87_old, x87, x87_now;
    volatile double third;
    __asm__ volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(sse_old), "=m"(x87_old));
    sse = (sse_old & ~UINT32_C(0xe03f)) | (uint32_t)(switches_random(rng) % 4) << 13 |
          (uint32_t)(switches_random(rng) % 2) << 15;
    x87 = (uint16_t)((x87_old & ~0xf00) | (uint16_t)(switches_random(rng) % 4) << 10 |
                     (switches_random(rng) % 2 ? 0x300 : 0x200));
    __asm__ volatile("ldmxcsr %0\n\tfldcw %1" : : "m"(sse), "m"(x87));
    third = 1.0;
    third = third / 3.0;
    wait(c);
    __asm__ volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(sse_now), "=m"(x87_now));
    __asm__ volatile("ldmxcsr %0\n\tfldcw %1" : : "m"(sse_old), "m"(x87_old));
    if ((sse_now & ~UINT32_C(0x3f)) != sse) switches_fail(c, "MXCSR has changed");
    if (x87_now != x87) switches_fail(c, "the x87 control word has changed");
    if (third < 0.333 || third > 0.334) switches_fail(c, "a sum is wrong");
}

TEST(switches_control_words) { switches_run(switches_check_control); }

/* At the entry of a function the stack pointer is 8 below a multiple of 16: read before the
 * compiler does anything, in a task, a poll task, a hook and a drop function. */
__asm__(".text\n\t.p2align 4\n\t.globl switches_aligned\n\t.hidden switches_aligned\n\t"
        ".type switches_aligned, @function\nswitches_aligned:\n\t"
        "leaq 8(%rsp), %rax\n\tandq $15, %rax\n\torq %rax, switches_misaligned(%rip)\n\t"
        "lock incq switches_entries(%rip)\n\tmovl $1, %eax\n\tret\n\t"
        ".size switches_aligned, .-switches_aligned\n");
extern uint64_t switches_misaligned __attribute__((visibility("hidden")));
extern uint64_t switches_entries __attribute__((visibility("hidden")));
uint64_t switches_misaligned, switches_entries;
extern void switches_aligned(void) __attribute__((visibility("hidden")));

TEST(switches_alignment) {
    union { /* one function, as each of the kinds that the library calls */
        void (*any)(void);
        sch_fn run;
        sch_poll_fn poll; /* returns 1: ready */
        void (*on_task)(void *user, sch_task *task);
    } f = {switches_aligned};
    const sch_spawn_desc desc = {"aligned", SCH_HERE, 0, f.run},
                         own = {"own", SCH_HERE, 40000, f.run};
    sch_config config;
    sch_runtime *rt;
    memset(&config, 0, sizeof config);
    config.workers = 2;
    config.hooks.on_task_spawn = config.hooks.on_task_terminate = f.on_task;
    config.hooks.on_task_poll_start = config.hooks.on_task_poll_end = f.on_task;
    rt = sch_runtime_new(&config);
    if (!EXPECT(rt != NULL)) return;
    switches_misaligned = switches_entries = 0;
    for (int i = 0; i < 200; i++) {
        EXPECT_EQ(sch_join(sch_spawn_with(rt, &desc, f.run, NULL)), 0);
        EXPECT_EQ(sch_join(sch_spawn_with(rt, &own, f.run, NULL)), 0);
        EXPECT_EQ(sch_join(sch_spawn_poll_with(rt, &desc, f.poll, NULL, 8)), 0);
        EXPECT_EQ(sch_join(sch_spawn_blocking_with(rt, &desc, f.run, NULL)), 0);
    }
    sch_runtime_free(rt);
    EXPECT_EQ(switches_misaligned, 0);
    EXPECT_EQ(switches_entries, 200 * 4 * 6); /* the function, drop, four hooks */
}
#else
#define SWITCHES_NO_PROBE \
    "the probe is for x86-64, without sanitizers (tests/unit/stack.c has others)"
TEST(switches_registers) { SKIP(SWITCHES_NO_PROBE); }
TEST(switches_control_words) { SKIP(SWITCHES_NO_PROBE); }
TEST(switches_alignment) { SKIP(SWITCHES_NO_PROBE); }
#endif

/* Overflow --------------------------------------------------------------------------------------*/

#define SWITCHES_NEIGHBOURS 24u
#define SWITCHES_FRAME 4000u
#define SWITCHES_GUARDED 40 /* the child's exit status when all was as it should be */

static struct {
    volatile unsigned char *frame[SWITCHES_NEIGHBOURS]; /* of tasks that wait, around the victim */
    char *low, *high; /* the victim's guard */
    bool own_stack;
} switches_guard;

static void switches_neighbour(void *arg) {
    volatile unsigned char frame[SWITCHES_FRAME];
    unsigned index = (unsigned)(uintptr_t)arg;
    for (unsigned i = 0; i < SWITCHES_FRAME; i++) frame[i] = (unsigned char)(i * 7 + index);
    switches_guard.frame[index] = frame;
    (void)sch_suspend();
    frame[0] = frame[1];
}

/* The fault must be in the guard, and nobody's frame touched. */
static void switches_faulted(int number, siginfo_t *info, void *context) {
    char *address = (char *)info->si_addr;
    (void)context;
    if (number != SIGSEGV && number != SIGBUS) _exit(41);
    if (address < switches_guard.low || address >= switches_guard.high) _exit(42);
    for (unsigned k = 0; k < SWITCHES_NEIGHBOURS; k++) {
        for (unsigned i = 0; i < SWITCHES_FRAME; i++) {
            if (switches_guard.frame[k][i] != (unsigned char)(i * 7 + k)) _exit(43);
        }
    }
    _exit(SWITCHES_GUARDED);
}

static void switches_signal_stack(void *user, unsigned thread) {
    stack_t stack;
    (void)thread;
    memset(&stack, 0, sizeof stack);
    stack.ss_sp = user, stack.ss_size = 65536;
    (void)sigaltstack(&stack, NULL);
}

SCHI_NOINLINE static unsigned switches_deeper(unsigned left) {
    volatile unsigned char frame[200];
    frame[left % 200] = (unsigned char)left;
    if (left == 0) return frame[0];
    return switches_deeper(left - 1) + frame[left % 200];
}

static void switches_victim(void *arg) {
    (void)arg;
    switches_guard.low = schi_self()->stack->mapping;
    switches_guard.high = switches_guard.low + schi_page_size();
    (void)switches_deeper(1000000);
}

static int switches_overflow(void) {
    static const sch_spawn_desc own = {"victim", SCH_HERE, 32768, NULL};
    const int signals[] = {SIGSEGV, SIGBUS};
    struct sigaction action;
    sch_config config;
    sch_runtime *rt;
    memset(&config, 0, sizeof config);
    memset(&action, 0, sizeof action);
    config.workers = 1;
    config.stack_size = 32768;
    config.hooks.on_thread_start = switches_signal_stack;
    config.hooks.user =
        mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    action.sa_sigaction = switches_faulted;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int i = 0; i < 2; i++) sigaction(signals[i], &action, NULL);
    rt = sch_runtime_new(&config);
    if (!rt) return 44;
    for (unsigned i = 0; i < SWITCHES_NEIGHBOURS; i++) {
        /* Stacks are handed out downwards: half of the neighbours will be below the victim. */
        if (sch_go(rt, switches_neighbour, (void *)(uintptr_t)i) != 0) return 45;
        if (i == SWITCHES_NEIGHBOURS / 2) {
            while (sch_num_alive_tasks(rt) > 0 && !switches_guard.frame[i]) sched_yield();
        }
    }
    for (unsigned i = 0; i < SWITCHES_NEIGHBOURS; i++) {
        while (!*(volatile unsigned char *volatile *)&switches_guard.frame[i]) sched_yield();
    }
    usleep(1000);
    if (sch_go_with(rt, switches_guard.own_stack ? &own : NULL, switches_victim, NULL)) return 46;
    sleep(20);
    return 47;
}

static void switches_expect_guarded(bool own_stack) {
    int status = 0;
    pid_t child;
    fflush(stdout);
    child = fork();
    if (child == 0) {
        switches_guard.own_stack = own_stack;
        _exit(switches_overflow());
    }
    if (!EXPECT(child > 0)) return;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    EXPECT(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), SWITCHES_GUARDED);
}

TEST(switches_overflow_faults) {
    if (TEST_SANITIZED) SKIP("a sanitizer has its own handler");
    switches_expect_guarded(false);
    switches_expect_guarded(true);
}
