/* platform.h - stands for sections [2] and [3] of sched.h: every operation goes to the explorer.
 * The contract is docs/porting.md. */
#ifndef MODEL_PLATFORM_H
#define MODEL_PLATFORM_H

#include "engine.h"

#include <poll.h>

/* Atomics and cells. Each use is a site of its own; the number keeps nested ones apart. */
#define SCHI_ATOMIC(T) struct { T atomic_value __attribute__((aligned(sizeof(T)))); }
#define SCHI_CELL(T) struct { T cell_value; }

typedef SCHI_ATOMIC(uint64_t) schi_counter;

#define MODEL_WORD(v) ((uint64_t)(uintptr_t)(v))
#define MODEL_TYPE(a) __typeof__(__atomic_load_n(&(a)->atomic_value, __ATOMIC_RELAXED))

#define MODEL_DO_LOAD(a, order, id)                                                                \
    (__extension__({                                                                               \
        MODEL_SITE(id, MODEL_LOAD, order, #a);                                                     \
        (MODEL_TYPE(a))(uintptr_t)model_load(&(a)->atomic_value, sizeof((a)->atomic_value),        \
                                             &model_site_##id);                                    \
    }))
#define MODEL_DO_STORE(a, v, order, id)                                                            \
    (__extension__({                                                                               \
        MODEL_SITE(id, MODEL_STORE, order, #a);                                                    \
        model_store(&(a)->atomic_value, sizeof((a)->atomic_value), MODEL_WORD(v),                  \
                    &model_site_##id);                                                             \
    }))
#define MODEL_DO_RMW(op, a, v, order, id)                                                          \
    (__extension__({                                                                               \
        MODEL_SITE(id, op, order, #a);                                                             \
        (MODEL_TYPE(a))(uintptr_t)model_rmw(&(a)->atomic_value, sizeof((a)->atomic_value),         \
                                            MODEL_WORD(v), &model_site_##id);                      \
    }))
#define MODEL_DO_CAS(op, a, e, v, order, id)                                                       \
    (__extension__({                                                                               \
        MODEL_SITE(id, op, order, #a);                                                             \
        model_cas(&(a)->atomic_value, sizeof((a)->atomic_value), (e), MODEL_WORD(v),               \
                  &model_site_##id);                                                               \
    }))
#define MODEL_DO_CELL(op, c, writes, id)                                                           \
    (__extension__({                                                                               \
        MODEL_SITE(id, op, MODEL_RLX, #c);                                                         \
        (__typeof__(&(c)->cell_value))model_cell((void *)(uintptr_t)&(c)->cell_value,              \
                                                 sizeof((c)->cell_value), &model_site_##id,        \
                                                 writes);                                          \
    }))
#define MODEL_DO_CALL(op, text, id, function, ...)                                                 \
    (__extension__({                                                                               \
        MODEL_SITE(id, op, MODEL_RLX, text);                                                       \
        function(&model_site_##id, __VA_ARGS__);                                                   \
    }))

/* One more level, so that __COUNTER__ is a number before it is pasted. */
#define MODEL_LOAD_(...) MODEL_DO_LOAD(__VA_ARGS__)
#define MODEL_STORE_(...) MODEL_DO_STORE(__VA_ARGS__)
#define MODEL_RMW_(...) MODEL_DO_RMW(__VA_ARGS__)
#define MODEL_CAS_(...) MODEL_DO_CAS(__VA_ARGS__)
#define MODEL_CELL_(...) MODEL_DO_CELL(__VA_ARGS__)
#define MODEL_CALL_(...) MODEL_DO_CALL(__VA_ARGS__)

#define schi_rd(c) (*MODEL_CELL_(MODEL_RD, c, false, __COUNTER__))
#define schi_wr(c, v) ((void)(*MODEL_CELL_(MODEL_WR, c, true, __COUNTER__) = (v)))

#define schi_load_rlx(a) MODEL_LOAD_(a, MODEL_RLX, __COUNTER__)
#define schi_load_acq(a) MODEL_LOAD_(a, MODEL_ACQ, __COUNTER__)
#define schi_load_seq(a) MODEL_LOAD_(a, MODEL_SEQ, __COUNTER__)
#define schi_store_rlx(a, v) MODEL_STORE_(a, v, MODEL_RLX, __COUNTER__)
#define schi_store_rel(a, v) MODEL_STORE_(a, v, MODEL_REL, __COUNTER__)
#define schi_store_seq(a, v) MODEL_STORE_(a, v, MODEL_SEQ, __COUNTER__)
#define schi_xchg_acq(a, v) MODEL_RMW_(MODEL_XCHG, a, v, MODEL_ACQ, __COUNTER__)
#define schi_xchg_rel(a, v) MODEL_RMW_(MODEL_XCHG, a, v, MODEL_REL, __COUNTER__)
#define schi_xchg_acqrel(a, v) MODEL_RMW_(MODEL_XCHG, a, v, MODEL_ACQREL, __COUNTER__)
#define schi_xchg_seq(a, v) MODEL_RMW_(MODEL_XCHG, a, v, MODEL_SEQ, __COUNTER__)
#define schi_add_rlx(a, v) MODEL_RMW_(MODEL_ADD, a, v, MODEL_RLX, __COUNTER__)
#define schi_add_acqrel(a, v) MODEL_RMW_(MODEL_ADD, a, v, MODEL_ACQREL, __COUNTER__)
#define schi_add_seq(a, v) MODEL_RMW_(MODEL_ADD, a, v, MODEL_SEQ, __COUNTER__)
#define schi_sub_rlx(a, v) MODEL_RMW_(MODEL_SUB, a, v, MODEL_RLX, __COUNTER__)
#define schi_sub_acqrel(a, v) MODEL_RMW_(MODEL_SUB, a, v, MODEL_ACQREL, __COUNTER__)
#define schi_sub_seq(a, v) MODEL_RMW_(MODEL_SUB, a, v, MODEL_SEQ, __COUNTER__)
#define schi_or_acqrel(a, v) MODEL_RMW_(MODEL_OR, a, v, MODEL_ACQREL, __COUNTER__)
#define schi_or_seq(a, v) MODEL_RMW_(MODEL_OR, a, v, MODEL_SEQ, __COUNTER__)
#define schi_and_acqrel(a, v) MODEL_RMW_(MODEL_AND, a, v, MODEL_ACQREL, __COUNTER__)
#define schi_and_seq(a, v) MODEL_RMW_(MODEL_AND, a, v, MODEL_SEQ, __COUNTER__)
#define schi_cas_weak_rel(a, e, v) MODEL_CAS_(MODEL_CAS_WEAK, a, e, v, MODEL_REL, __COUNTER__)
#define schi_cas_weak_acqrel(a, e, v) MODEL_CAS_(MODEL_CAS_WEAK, a, e, v, MODEL_ACQREL, __COUNTER__)
#define schi_cas_weak_seq(a, e, v) MODEL_CAS_(MODEL_CAS_WEAK, a, e, v, MODEL_SEQ, __COUNTER__)
#define schi_cas_acq(a, e, v) MODEL_CAS_(MODEL_CAS, a, e, v, MODEL_ACQ, __COUNTER__)
#define schi_cas_acqrel(a, e, v) MODEL_CAS_(MODEL_CAS, a, e, v, MODEL_ACQREL, __COUNTER__)

#define schi_cpu_relax() MODEL_CALL_(MODEL_PAUSE, "pause", __COUNTER__, model_yield, 0)
#define schi_compiler_barrier() ((void)0)

/* Time, random numbers, memory ------------------------------------------------------------------*/

static inline uint64_t schi_saturating_add(uint64_t a, uint64_t b) {
    return a + b < a ? UINT64_MAX : a + b;
}

static uint64_t schi_now_ns(void) { return E.now += MODEL_NS_PER_LOOK; }

/* The search takes one value, random executions several. */
static uint64_t schi_entropy(void) {
    return UINT64_C(0x5eed) + model_pick_value(8, MODEL_OF_ENTROPY, true);
}

static void *schi_libc_alloc(size_t size, size_t align, void *user) {
    (void)user;
    if (model_fault()) return NULL;
    return model_allocate(size, align < 16 ? 16 : align, false, false);
}

static void schi_libc_free(void *memory, size_t size, size_t align, void *user) {
    (void)align, (void)user;
    model_release(memory, size, false);
}

static size_t schi_page_size(void) { return 4096; }

static void *schi_map_pages(size_t size, void *user) {
    (void)user;
    if (model_fault()) return NULL;
    return model_allocate(size, 4096, true, false);
}

static void schi_unmap_pages(void *memory, size_t size, void *user) {
    (void)user;
    model_release(memory, size, true);
}

/* Stacks have canaries here: no system call in an execution. */
static int schi_guard_pages(void *memory, size_t size) {
    (void)memory, (void)size;
    return 0;
}

static void schi_unguard_pages(void *memory, size_t size, int kind) {
    (void)memory, (void)size, (void)kind;
}

#define schi_discard_pages(memory, size)                                                           \
    MODEL_CALL_(MODEL_OTHER, "discard", __COUNTER__, model_discard, memory, size)

static bool schi_barrier_open(void) { return true; }
#define schi_barrier_all()                                                                         \
    MODEL_CALL_(MODEL_OTHER, "barrier", __COUNTER__, model_barrier, false)
#define schi_barrier_by_time()                                                                     \
    ((void)MODEL_CALL_(MODEL_OTHER, "barrier by time", __COUNTER__, model_barrier, true))

/* Nothing forks here. */
static uint32_t schi_process(void) { return 0; }
static int schi_fork_watch(bool (*is_ours)(void *record)) {
    (void)is_ours;
    return 0;
}

/* CPUs ------------------------------------------------------------------------------------------*/
#define SCHI_CAN_PIN 0

static size_t schi_cpu_list(unsigned *out, size_t max) {
    for (unsigned i = 0; i < 2 && i < max; i++) out[i] = i;
    return 2;
}

static unsigned schi_cpu_count(void) { return 2; }

static int schi_pin_thread(unsigned cpu) {
    (void)cpu;
    return -ENOSYS;
}

/* Locks, waiting on a word ----------------------------------------------------------------------*/
typedef model_mutex schi_mutex;

static int schi_mutex_init(schi_mutex *m) { return model_mutex_init(m, "lock"); }
static void schi_mutex_drop(schi_mutex *m) { model_mutex_drop(m, "lock"); }
#define schi_lock(m) MODEL_CALL_(MODEL_LOCK, #m, __COUNTER__, model_lock, m)
#define schi_unlock(m) MODEL_CALL_(MODEL_UNLOCK, #m, __COUNTER__, model_unlock, m)

typedef SCHI_ATOMIC(uint32_t) schi_word;
typedef model_mutex schi_waitplace;

#ifdef MODEL_LOCKED_PLACES /* as on systems with condition variables */
static int schi_waitplace_init(schi_waitplace *p) { return model_mutex_init(p, "waitplace"); }
static void schi_waitplace_drop(schi_waitplace *p) {
    MODEL_CALL_(MODEL_LOCK, "place", __COUNTER__, model_lock, p);
    MODEL_CALL_(MODEL_UNLOCK, "place", __COUNTER__, model_unlock, p);
    model_mutex_drop(p, "waitplace");
}
#define schi_waitplace_lock(p) MODEL_CALL_(MODEL_LOCK, #p, __COUNTER__, model_lock, p)
#define schi_waitplace_unlock(p) MODEL_CALL_(MODEL_UNLOCK, #p, __COUNTER__, model_unlock, p)
#define MODEL_PLACE(p) (p)
#else /* as with futexes: there is nothing but the word's address */
static int schi_waitplace_init(schi_waitplace *p) { return model_mutex_init(p, "waitplace"); }
static void schi_waitplace_drop(schi_waitplace *p) { model_mutex_drop(p, "waitplace"); }
#define schi_waitplace_lock(p) ((void)(p))
#define schi_waitplace_unlock(p) ((void)(p))
#define MODEL_PLACE(p) ((void)(p), (model_mutex *)NULL)
#endif

#define schi_word_wait(w, p, value, deadline)                                                      \
    MODEL_CALL_(MODEL_WAIT, #w, __COUNTER__, model_word_wait, w, MODEL_PLACE(p), value, deadline)
#define schi_word_wake(w, p, all)                                                                  \
    ((void)(p), MODEL_CALL_(MODEL_WAKE, #w, __COUNTER__, model_word_wake, w, all))

/* Alarm -----------------------------------------------------------------------------------------*/
typedef model_alarm schi_alarm;

static int schi_alarm_init(schi_alarm *a) { return model_alarm_init(a); }
static void schi_alarm_drop(schi_alarm *a) { model_alarm_drop(a); }
#define schi_alarm_set(a, ns) MODEL_CALL_(MODEL_ALARM_SET, #a, __COUNTER__, model_alarm_set, a, ns)
#define schi_alarm_wait(a, deadline)                                                               \
    MODEL_CALL_(MODEL_ALARM_WAIT, #a, __COUNTER__, model_alarm_wait, a, deadline)

/* Poller ----------------------------------------------------------------------------------------*/
#define SCHI_READABLE 1u
#define SCHI_WRITABLE 2u
#define SCHI_PRIORITY 4u
#define SCHI_READ_END 8u
#define SCHI_TOKEN_NONE UINT64_MAX
#define SCHI_TOKEN_TIMER (UINT64_MAX - 1)
#define SCHI_POLL_BATCH MODEL_POLLED

typedef struct schi_ready {
    uint64_t token;
    uint32_t bits;
} schi_ready;

typedef model_poller schi_poller;

MODEL_UNUSED static int schi_poller_init(schi_poller *p) { return model_poller_init(p); }
MODEL_UNUSED static void schi_poller_drop(schi_poller *p) { model_poller_drop(p); }

/* What a descriptor is ready for when it is added: they are the system's. */
MODEL_UNUSED static uint32_t model_ready_at_first(int fd) {
    struct pollfd p = {fd, POLLIN | POLLOUT, 0};
    if (poll(&p, 1, 0) <= 0) return 0;
    return (p.revents & POLLIN ? SCHI_READABLE : 0u) | (p.revents & POLLOUT ? SCHI_WRITABLE : 0u) |
           (p.revents & POLLHUP ? SCHI_READABLE | SCHI_READ_END : 0u);
}

#define schi_poller_add(p, fd, token)                                                              \
    MODEL_CALL_(MODEL_OTHER, "poller_add", __COUNTER__, model_poller_add, p, fd, token,            \
                model_ready_at_first(fd))
#define schi_poller_remove(p, fd)                                                                  \
    MODEL_CALL_(MODEL_OTHER, "poller_remove", __COUNTER__, model_poller_remove, p, fd)

MODEL_UNUSED static int schi_poller_alarm(schi_poller *p, schi_alarm *a) {
    p->alarm = a;
    a->poller = p;
    return 0;
}

MODEL_UNUSED static unsigned schi_poller_wait(schi_poller *p, schi_alarm *mine, uint64_t deadline,
                                              schi_ready *out, unsigned max) {
    uint64_t tokens[MODEL_POLLED];
    uint32_t bits[MODEL_POLLED];
    unsigned n = MODEL_CALL_(MODEL_ALARM_WAIT, "poller", __COUNTER__, model_poller_wait, p, mine,
                             deadline, tokens, bits, max);
    for (unsigned i = 0; i < n; i++) out[i].token = tokens[i], out[i].bits = bits[i];
    return n;
}

/* Threads ---------------------------------------------------------------------------------------*/
typedef unsigned schi_os_thread;

#define schi_thread_start(thread, run, arg, stack)                                                 \
    ((void)(stack),                                                                                \
     MODEL_CALL_(MODEL_START, #run, __COUNTER__, model_thread_start, thread, run, arg))
#define schi_thread_join(thread)                                                                   \
    MODEL_CALL_(MODEL_JOIN, #thread, __COUNTER__, model_thread_join, thread)

static void schi_thread_name(const char *name) { (void)name; }
static schi_os_thread schi_os_self(void) { return E.current; }
#define schi_os_yield() MODEL_CALL_(MODEL_PAUSE, "yield", __COUNTER__, model_yield, 0)

static SCHI_NOINLINE void *schi_tls_get(void) {
    __asm__ volatile("" ::: "memory");
    return E.threads[E.current].record;
}

static SCHI_NOINLINE void schi_tls_set(void *record) {
    E.threads[E.current].record = record;
    __asm__ volatile("" ::: "memory");
}

#endif
