/* stack.c - [7]: leaving one stack for another, and where stacks come from. */
#include "support.h"

/* Strand: a function that runs on a stack of its own until it pauses or ends. */
typedef struct stack_strand {
    schi_stack *stack;
    schi_ctx *home; /* whoever resumed it */
    void (*body)(struct stack_strand *me);
    void *arg;
    void *record; /* that it was started with */
    bool over;
} stack_strand;

static stack_strand *stack_entering; /* one thread starts strands */

static schi_ctx *stack_run(void *record) {
    stack_strand *me = stack_entering;
    me->record = record;
    schi_ctx_landed(&me->stack->ctx, me->home);
    EXPECT_EQ((uintptr_t)__builtin_frame_address(0) % 16, 0);
    me->body(me);
    me->over = true;
    return me->home;
}

SCHI_UNINSTRUMENTED SCHI_NOINLINE static void stack_begin(void *record) {
    schi_ctx_leave(stack_run(record));
    __builtin_unreachable();
}

#if SCHI_UCONTEXT
SCHI_UNINSTRUMENTED static void stack_begin_uc(void) { stack_begin(schi_tls_get()); }
#endif

/* Made ready as the library does it, but to run a body instead of the scheduler's loop. */
static void stack_start(stack_strand *me, schi_stack *s, void (*body)(stack_strand *), void *arg) {
    me->stack = s, me->body = body, me->arg = arg, me->over = false;
    schi_stack_fresh(s);
#if SCHI_UCONTEXT
    makecontext(&s->ctx.uc, stack_begin_uc, 0);
#else
    s->ctx.sp = schi_ctx_fresh((char *)s, stack_begin);
#endif
    stack_entering = me;
}

static void stack_resume(stack_strand *me, schi_ctx *home) {
    void *record = schi_tls_get();
    me->home = home;
    EXPECT(schi_ctx_switch(home, &me->stack->ctx, record) == record);
    schi_ctx_landed(home, NULL);
}

/* Returns the record of the thread that resumed it. */
static void *stack_pause(stack_strand *me) {
    schi_ctx *self = &me->stack->ctx;
    void *record = schi_ctx_switch(self, me->home, schi_tls_get());
    schi_ctx_landed(self, me->home);
    return record;
}

/* Pools -----------------------------------------------------------------------------------------*/

static sch_allocator stack_memory(void) {
    sch_allocator a;
    memset(&a, 0, sizeof a);
    a.alloc = schi_libc_alloc, a.free = schi_libc_free;
    a.map_pages = schi_map_pages, a.unmap_pages = schi_unmap_pages;
    return a;
}

static size_t stack_num(schi_stack_pool *p) { return (size_t)schi_counted(&p->num_stacks); }
static size_t stack_num_free(schi_stack_pool *p) { return (size_t)schi_counted(&p->num_free); }

static char *stack_low(schi_stack_pool *p, schi_stack *s) { return s->mapping + p->page; }

/* All of it belongs to whoever has it, below there is a guard, and nobody else's is near. */
static void stack_expect_whole(schi_stack_pool *p, schi_stack *s, size_t size) {
    EXPECT_EQ((uintptr_t)s->mapping % p->page, 0);
    EXPECT_EQ((uintptr_t)s % 16, 0);
    EXPECT((char *)s + sizeof *s <= s->mapping + s->size);
    EXPECT((size_t)((char *)s - stack_low(p, s)) + p->page >= size);
    EXPECT(s->ready);
}

/* Is any of its pages, but the one with the record, not as the system gives it? */
static bool stack_is_used(schi_stack_pool *p, schi_stack *s) {
    char *end = (char *)((uintptr_t)s / p->page * p->page);
    for (char *at = stack_low(p, s); at < end; at++) {
        if (*at != 0) return true;
    }
    return false;
}

TEST(stack_pool) {
    enum { COUNT = 150, KEEP = 10 };
    sch_allocator a = stack_memory();
    schi_stack_pool pool;
    schi_stack *stacks[COUNT];
    EXPECT_EQ(schi_stack_pool_init(&pool, &a, 20000), 0); /* not a whole number of pages */
    EXPECT_EQ(stack_num(&pool), 0);
    for (size_t i = 0; i < COUNT; i++) {
        schi_stack *s = stacks[i] = schi_stack_pool_get(&pool);
        if (!EXPECT(s != NULL)) return;
        stack_expect_whole(&pool, s, 20000);
        EXPECT_EQ(stack_num(&pool) - stack_num_free(&pool), i + 1);
        memset(stack_low(&pool, s), (int)i + 1, (size_t)((char *)s - stack_low(&pool, s)));
    }
    size_t made = stack_num(&pool);
    EXPECT(made >= COUNT && made <= 2 * COUNT);
    for (size_t i = 0; i < COUNT; i++) { /* no two share a byte */
        bool good = true;
        for (char *at = stack_low(&pool, stacks[i]); at < (char *)stacks[i]; at++) {
            good = good && *at == (char)(i + 1);
        }
        if (!EXPECT(good)) break;
    }
    for (size_t i = 0; i < COUNT; i++) schi_stack_pool_put(&pool, stacks[i]);
    EXPECT_EQ(stack_num_free(&pool), made);
    for (size_t i = COUNT; i-- > 0;) EXPECT(schi_stack_pool_get(&pool) == stacks[i]);
    EXPECT_EQ(stack_num(&pool), made); /* the ones that were there, newest first */
    for (size_t i = 0; i < COUNT; i++) schi_stack_pool_put(&pool, stacks[i]);

    size_t dirty = COUNT;
    SCHI_UNUSED size_t used = 0; /* counted where the system tells */
    EXPECT(!schi_stack_pool_trim(&pool, COUNT)); /* so many may stay as they are */
    for (bool more = true; more;) {
        more = schi_stack_pool_trim(&pool, KEEP);
        EXPECT(schi_counted(&pool.num_dirty) < dirty); /* it gets on, in portions */
        dirty = (size_t)schi_counted(&pool.num_dirty);
        EXPECT_EQ(more, dirty > KEEP);
    }
    EXPECT_EQ(dirty, KEEP);
    EXPECT_EQ(stack_num_free(&pool), made);
    for (size_t i = 0; i < COUNT; i++) used += stack_is_used(&pool, stacks[i]);
#if SCHI_LINUX
    EXPECT_EQ(used, KEEP); /* of all others the pages went back to the system */
#endif
    for (size_t i = 0; i < COUNT; i++) { /* the used ones first */
        schi_stack *s = schi_stack_pool_get(&pool);
        stack_expect_whole(&pool, s, 20000);
#if SCHI_LINUX
        EXPECT_EQ(stack_is_used(&pool, s), i < KEEP);
#endif
    }
    EXPECT_EQ(stack_num(&pool), made);
    for (size_t i = 0; i < COUNT; i++) schi_stack_pool_put(&pool, stacks[i]);
    schi_stack_pool_drop(&pool);
}

TEST(stack_guard) {
    sch_allocator a = stack_memory();
    schi_stack_pool pool;
    EXPECT_EQ(schi_stack_pool_init(&pool, &a, SCHI_STACK_MIN), 0);
    for (int own = 0; own < 2; own++) {
        schi_stack *s = own ? schi_stack_own_new(&pool, 50000) : schi_stack_pool_get(&pool);
        if (!EXPECT(s != NULL)) return;
        stack_expect_whole(&pool, s, own ? 50000 : SCHI_STACK_MIN);
        if (!support_advice_is_real(stack_low(&pool, s), pool.page)) {
            test_skipped = "this system accepts every advice about pages and does nothing";
        } else {
            EXPECT(s->guard != 0);
            EXPECT(support_faults(stack_low(&pool, s) - 1));
            EXPECT(support_faults(s->mapping));
        }
        EXPECT(!support_faults(stack_low(&pool, s)));
        schi_stack_check(s);
        if (own) {
            char *low = s->mapping;
            schi_stack_own_free(&pool, s);
            EXPECT(support_faults(low + pool.page));
        } else {
            schi_stack_pool_put(&pool, s);
        }
    }
    schi_stack_pool_drop(&pool);
}

/* Memory from callbacks: pages through theirs, or all through alloc; all goes back, unguarded, with
 * the size that it came with. Little address space: as many as there are, then none, then again. */
TEST(stack_callbacks) {
    for (int pages = 0; pages < 2; pages++) {
        checked_memory memory;
        sch_allocator a = checked_begin(&memory, pages);
        schi_stack_pool pool;
        schi_stack *stacks[9];
        EXPECT_EQ(schi_stack_pool_init(&pool, &a, 65536), 0);
        memory.limit = 0;
        EXPECT(schi_stack_pool_get(&pool) == NULL);
        EXPECT(schi_stack_own_new(&pool, 65536) == NULL);
        memory.limit = pool.stack_size - 1; /* what is small can be had */
        EXPECT(schi_stack_pool_get(&pool) == NULL);
        EXPECT(schi_stack_own_new(&pool, 65536) == NULL);
        EXPECT_EQ(checked_live(&memory), 0);
        EXPECT_EQ(stack_num(&pool), 0);
        memory.limit = pool.stack_size; /* one at a time */
        for (int i = 0; i < 3; i++) {
            EXPECT((stacks[i] = schi_stack_pool_get(&pool)) != NULL);
            EXPECT_EQ(stack_num(&pool), i + 1);
        }
        memory.limit = SIZE_MAX;
        for (int i = 3; i < 8; i++) EXPECT((stacks[i] = schi_stack_pool_get(&pool)) != NULL);
        EXPECT((stacks[8] = schi_stack_own_new(&pool, SCHI_STACK_MIN + 1)) != NULL);
        EXPECT_EQ(stacks[8]->mapped % pool.page, 0);
        EXPECT(stacks[8]->mapped >= SCHI_STACK_MIN + 1 + pool.page);
        for (int i = 0; i < 9; i++) support_write(stack_low(&pool, stacks[i]));
        for (int i = 0; i < 8; i++) schi_stack_pool_put(&pool, stacks[i]);
        schi_stack_own_free(&pool, stacks[8]);
        EXPECT_EQ(stack_num_free(&pool), stack_num(&pool));
        schi_stack_pool_drop(&pool);
        checked_end(&memory);
    }
}

/* Where no guard can be had, a canary tells of an overflow. A filter refuses both kinds of guard in
 * a child. */
#if SCHI_LINUX && defined(__has_include)
#if __has_include(<linux/seccomp.h>) && __has_include(<linux/filter.h>)
#include <linux/filter.h>
#include <linux/seccomp.h>
#define STACK_FILTER 1
#endif
#endif

#if STACK_FILTER
static void stack_use_canary(void *overflow) {
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0 /* the call's number */),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOMEM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof rules / sizeof rules[0], rules};
    sch_allocator a = stack_memory();
    schi_stack_pool pool;
    schi_stack *s[2];
    if (SCHI_SYS(SYS_prctl, 38 /* PR_SET_NO_NEW_PRIVS */, 1, 0, 0, 0) != 0 ||
        SCHI_SYS(SYS_prctl, 22 /* PR_SET_SECCOMP */, 2 /* filter */, &filter) != 0) {
        signal(SIGUSR1, SIG_DFL);
        raise(SIGUSR1);
    }
    (void)schi_stack_pool_init(&pool, &a, SCHI_STACK_MIN);
    s[0] = schi_stack_pool_get(&pool), s[1] = schi_stack_own_new(&pool, 2 * SCHI_STACK_MIN);
    for (int i = 0; i < 2; i++) {
        if (!s[i] || s[i]->guard != 0) raise(SIGKILL);
        memset(stack_low(&pool, s[i]), 1, 100); /* up to the end, not over it */
        schi_stack_check(s[i]);
    }
    if (overflow) {
        memset(stack_low(&pool, s[*(int *)overflow]) - pool.page, 1, pool.page);
        schi_stack_check(s[*(int *)overflow]);
    }
    schi_stack_own_free(&pool, s[1]);
    schi_stack_pool_put(&pool, s[0]);
    while (schi_stack_pool_trim(&pool, 0)) continue;
    if (schi_stack_pool_get(&pool) != s[0]) raise(SIGKILL);
    schi_stack_check(s[0]); /* the pages given back were not the canary's */
    schi_stack_pool_put(&pool, s[0]);
    schi_stack_pool_drop(&pool);
}

TEST(stack_canary) {
    int which[2] = {0, 1}, number;
    if (TEST_SANITIZED) SKIP("the sanitizer needs the calls that would be refused");
    number = support_signal_of(stack_use_canary, NULL);
    if (number == SIGUSR1) SKIP("no system call filter here");
    EXPECT_EQ(number, 0);
    for (int i = 0; i < 2; i++) {
        EXPECT_EQ(support_signal_of(stack_use_canary, &which[i]), SIGABRT);
    }
}
#endif

/* Switching -------------------------------------------------------------------------------------*/

/* Calls itself with the stack full of its own data, and pauses at the bottom. */
__attribute__((noinline)) static uint64_t stack_descend(stack_strand *me, unsigned depth) {
    volatile uint64_t frame[16];
    uint64_t sum = 0;
    for (unsigned i = 0; i < 16; i++) frame[i] = depth * 16u + i;
    if (depth > 0) {
        sum = stack_descend(me, depth - 1);
    } else {
        stack_pause(me);
    }
    for (unsigned i = 0; i < 16; i++) sum += frame[i];
    return sum;
}

static void stack_count_up(stack_strand *me) {
    size_t *count = (size_t *)me->arg;
    char text[32];
    snprintf(text, sizeof text, "%.3f", 1.5); /* calls that rely on the alignment */
    EXPECT_EQ(strcmp(text, "1.500"), 0);
    EXPECT_EQ(stack_descend(me, 20), 336 * 335 / 2);
    for (;;) {
        if (*count == 0) return;
        --*count;
        stack_pause(me);
    }
}

/* Two strands on pooled stacks and one on its own, in turn, again and again on the same stacks. */
TEST(stack_switch) {
    sch_allocator a = stack_memory();
    schi_stack_pool pool;
    schi_stack *stacks[3];
    schi_ctx home;
    EXPECT_EQ(schi_stack_pool_init(&pool, &a, 65536), 0);
    schi_ctx_home(&home);
    stacks[0] = schi_stack_pool_get(&pool), stacks[1] = schi_stack_pool_get(&pool);
    stacks[2] = schi_stack_own_new(&pool, 100000);
    for (size_t round = test_scale(400); round > 0; round--) {
        stack_strand strands[3];
        size_t counts[3], switches = 0, expected = 0;
        for (int i = 0; i < 3; i++) {
            counts[i] = (size_t)(test_random() % 100);
            expected += counts[i] + 2;
            stack_start(&strands[i], stacks[i], stack_count_up, &counts[i]);
            stack_resume(&strands[i], &home);
            switches++;
        }
        for (unsigned over = 0; over != 7;) {
            for (int i = 0; i < 3; i++) {
                if (strands[i].over) {
                    over |= 1u << i;
                    continue;
                }
                stack_resume(&strands[i], &home);
                switches++;
            }
        }
        EXPECT_EQ(switches, expected);
        for (int i = 0; i < 3; i++) schi_stack_check(stacks[i]);
    }
    schi_stack_pool_put(&pool, stacks[0]), schi_stack_pool_put(&pool, stacks[1]);
    schi_stack_own_free(&pool, stacks[2]);
    schi_stack_pool_drop(&pool);
}

/* Rounding modes belong to the stack: each side sets its own and finds it again; a fresh context
 * begins with that of whoever made it. */
#if defined(__x86_64__)
#define STACK_ROUNDING 1
static unsigned stack_rounding(void) { /* of both floating-point units */
    uint32_t mxcsr = 0;
    uint16_t control = 0;
    __asm__ volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(mxcsr), "=m"(control));
    return (mxcsr >> 13 & 3u) | (control >> 10 & 3u) << 2;
}
static void stack_set_rounding(unsigned mode) {
    uint32_t mxcsr = 0;
    uint16_t control = 0;
    __asm__ volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(mxcsr), "=m"(control));
    mxcsr = (mxcsr & ~(3u << 13)) | (mode & 3u) << 13;
    control = (uint16_t)((control & ~(3u << 10)) | (mode >> 2 & 3u) << 10);
    __asm__ volatile("ldmxcsr %0\n\tfldcw %1" : : "m"(mxcsr), "m"(control));
}
#elif defined(__aarch64__)
#define STACK_ROUNDING 1
static unsigned stack_rounding(void) {
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    return (unsigned)(fpcr >> 22 & 3);
}
static void stack_set_rounding(unsigned mode) {
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    __asm__ volatile("msr fpcr, %0" : : "r"((fpcr & ~(UINT64_C(3) << 22)) | (mode & 3ull) << 22));
}
#endif

#if STACK_ROUNDING
static void stack_round(stack_strand *me) {
    unsigned *mode = (unsigned *)me->arg;
    EXPECT_EQ(stack_rounding(), *mode);
    for (int i = 0; i < 16; i++) {
        unsigned mine = *mode = (unsigned)i;
        stack_set_rounding(mine);
        mine = stack_rounding();
        stack_pause(me);
        EXPECT_EQ(stack_rounding(), mine);
    }
}

TEST(stack_rounding) {
    sch_allocator a = stack_memory();
    const unsigned before = stack_rounding();
    schi_stack_pool pool;
    stack_strand strand;
    schi_ctx home;
    EXPECT_EQ(schi_stack_pool_init(&pool, &a, 65536), 0);
    schi_ctx_home(&home);
    schi_stack *s = schi_stack_pool_get(&pool);
    for (unsigned i = 0; i < 16; i++) {
        unsigned mode;
        stack_set_rounding(i);
        mode = stack_rounding();
        stack_start(&strand, s, stack_round, &mode);
        for (unsigned k = 0; !strand.over; k++) {
            stack_set_rounding(i + k);
            if (k == 0) stack_set_rounding(i), mode = stack_rounding();
            unsigned mine = stack_rounding();
            stack_resume(&strand, &home);
            EXPECT_EQ(stack_rounding(), mine);
        }
    }
    stack_set_rounding(before);
    schi_stack_pool_put(&pool, s);
    schi_stack_pool_drop(&pool);
}
#endif

/* Registers: a probe fills every one that a callee must keep, calls the switch, and reads them. */
#if SCHI_LINUX && (SCHI_ASM_X86_64 || SCHI_ASM_AARCH64) && !TEST_SANITIZED
#define STACK_PROBE 1
#if SCHI_ASM_X86_64
#define STACK_REGISTERS 6
__asm__(".text\n\t.p2align 4\n\t.type stack_probe, @function\nstack_probe:\n\t"
        "pushq %rbp\n\tpushq %rbx\n\tpushq %r12\n\tpushq %r13\n\tpushq %r14\n\tpushq %r15\n\t"
        "pushq %rcx\n\t"
        "movq (%rdx), %rbx\n\tmovq 8(%rdx), %rbp\n\tmovq 16(%rdx), %r12\n\t"
        "movq 24(%rdx), %r13\n\tmovq 32(%rdx), %r14\n\tmovq 40(%rdx), %r15\n\t"
        "call *%r8\n\t"
        "popq %rcx\n\t"
        "movq %rbx, (%rcx)\n\tmovq %rbp, 8(%rcx)\n\tmovq %r12, 16(%rcx)\n\t"
        "movq %r13, 24(%rcx)\n\tmovq %r14, 32(%rcx)\n\tmovq %r15, 40(%rcx)\n\t"
        "popq %r15\n\tpopq %r14\n\tpopq %r13\n\tpopq %r12\n\tpopq %rbx\n\tpopq %rbp\n\tret\n\t"
        ".size stack_probe, .-stack_probe\n");
#else
#define STACK_REGISTERS 19
__asm__(".text\n\t.p2align 4\n\t.type stack_probe, %function\nstack_probe:\n\t"
        "sub sp, sp, #176\n\t"
        "stp x19, x20, [sp]\n\tstp x21, x22, [sp, #16]\n\tstp x23, x24, [sp, #32]\n\t"
        "stp x25, x26, [sp, #48]\n\tstp x27, x28, [sp, #64]\n\tstp x29, x30, [sp, #80]\n\t"
        "stp d8, d9, [sp, #96]\n\tstp d10, d11, [sp, #112]\n\tstp d12, d13, [sp, #128]\n\t"
        "stp d14, d15, [sp, #144]\n\tstr x3, [sp, #160]\n\t"
        "ldp x19, x20, [x2]\n\tldp x21, x22, [x2, #16]\n\tldp x23, x24, [x2, #32]\n\t"
        "ldp x25, x26, [x2, #48]\n\tldp x27, x28, [x2, #64]\n\tldr x29, [x2, #80]\n\t"
        "ldp d8, d9, [x2, #88]\n\tldp d10, d11, [x2, #104]\n\tldp d12, d13, [x2, #120]\n\t"
        "ldp d14, d15, [x2, #136]\n\t"
        "blr x4\n\t"
        "ldr x3, [sp, #160]\n\t"
        "stp x19, x20, [x3]\n\tstp x21, x22, [x3, #16]\n\tstp x23, x24, [x3, #32]\n\t"
        "stp x25, x26, [x3, #48]\n\tstp x27, x28, [x3, #64]\n\tstr x29, [x3, #80]\n\t"
        "stp d8, d9, [x3, #88]\n\tstp d10, d11, [x3, #104]\n\tstp d12, d13, [x3, #120]\n\t"
        "stp d14, d15, [x3, #136]\n\t"
        "ldp x19, x20, [sp]\n\tldp x21, x22, [sp, #16]\n\tldp x23, x24, [sp, #32]\n\t"
        "ldp x25, x26, [sp, #48]\n\tldp x27, x28, [sp, #64]\n\tldp x29, x30, [sp, #80]\n\t"
        "ldp d8, d9, [sp, #96]\n\tldp d10, d11, [sp, #112]\n\tldp d12, d13, [sp, #128]\n\t"
        "ldp d14, d15, [sp, #144]\n\tadd sp, sp, #176\n\tret\n\t"
        ".size stack_probe, .-stack_probe\n");
#endif
extern void stack_probe(void **save, void *to, const uint64_t *in, uint64_t *out,
                        void *(*swap)(void **, void *, void *)) __asm__("stack_probe");

static void stack_expect_registers(void **save, void *const *to) {
    uint64_t in[STACK_REGISTERS], out[STACK_REGISTERS];
    for (int i = 0; i < STACK_REGISTERS; i++) in[i] = test_random(), out[i] = 0;
    stack_probe(save, *to, in, out, schi_ctx_swap);
    for (int i = 0; i < STACK_REGISTERS; i++) EXPECT(out[i] == in[i]);
}

static void stack_fill_registers(stack_strand *me) {
    for (size_t i = *(size_t *)me->arg; i > 0; i--) {
        stack_expect_registers(&me->stack->ctx.sp, &me->home->sp);
    }
}

TEST(stack_registers) {
    sch_allocator a = stack_memory();
    size_t rounds = test_scale(100000);
    schi_stack_pool pool;
    stack_strand strand;
    schi_ctx home;
    EXPECT_EQ(schi_stack_pool_init(&pool, &a, 65536), 0);
    schi_ctx_home(&home);
    schi_stack *s = schi_stack_pool_get(&pool);
    stack_start(&strand, s, stack_fill_registers, &rounds);
    strand.home = &home;
    while (!strand.over) stack_expect_registers(&home.sp, &s->ctx.sp);
    schi_stack_pool_put(&pool, s);
    schi_stack_pool_drop(&pool);
}
#endif

/* A strand goes on by turns on two threads, and finds the record of the one it is on. */
typedef struct stack_trip {
    stack_strand strand;
    schi_parker parkers[2];
    void *record; /* of the thread that resumes it; whoever has the strand */
    size_t left;  /* whoever has the strand */
} stack_trip;

static void stack_travel(stack_strand *me) {
    stack_trip *t = (stack_trip *)me->arg;
    volatile size_t visits = 0; /* on the stack that travels */
    const size_t all = t->left;
    EXPECT(me->record == t->record);
    for (; t->left > 0; t->left--, visits = visits + 1) {
        EXPECT(stack_pause(me) == t->record);
        EXPECT(schi_tls_get() == t->record);
    }
    EXPECT_EQ(visits, all);
}

static void stack_carrier(void *arg, unsigned me) {
    stack_trip *t = (stack_trip *)arg;
    schi_ctx home;
    bool over;
    schi_ctx_home(&home);
    schi_tls_set(&home);
    do {
        (void)schi_park(&t->parkers[me], UINT64_MAX);
        if (!t->strand.over) {
            t->record = &home;
            stack_resume(&t->strand, &home);
        }
        over = t->strand.over;
        schi_unpark(&t->parkers[!me], NULL);
    } while (!over);
    schi_tls_set(NULL);
}

TEST(stack_migrate) {
    sch_allocator a = stack_memory();
    schi_stack_pool pool;
    stack_trip t;
    memset(&t, 0, sizeof t);
    t.left = test_scale(20000);
    EXPECT_EQ(schi_stack_pool_init(&pool, &a, 65536), 0);
    schi_stack *s = schi_stack_pool_get(&pool);
    for (int i = 0; i < 2; i++) EXPECT_EQ(schi_parker_init(&t.parkers[i]), 0);
    stack_start(&t.strand, s, stack_travel, &t);
    schi_unpark(&t.parkers[0], NULL);
    crew_run(2, stack_carrier, &t);
    EXPECT_EQ(t.left, 0);
    for (int i = 0; i < 2; i++) schi_parker_drop(&t.parkers[i]);
    schi_stack_pool_put(&pool, s);
    schi_stack_pool_drop(&pool);
}
