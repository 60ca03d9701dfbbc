/* slab.c - [6]: the memory that tasks live in. */
#include "support.h"

/* A heap's owner is only compared, so any address stands for a core. */
static char slab_owner_byte;
#define SLAB_OWNER ((struct schi_core *)(void *)&slab_owner_byte)

/* A block as a spawned task: one reference. */
static sch_task *slab_new(schi_heap *heap) {
    sch_task *task = schi_heap_alloc(heap);
    if (!EXPECT(task != NULL)) abort();
    EXPECT_EQ(schi_load_seq(&task->state), 0);
    schi_store_rel(&task->state, SCHI_SCHEDULED | SCHI_REF);
    return task;
}

/* End it, as a task does, and drop its last reference. */
static void slab_free(struct schi_core *core, sch_task *task) {
    (void)schi_and_acqrel(&task->state, SCHI_REF * (SCHI_STATE)0xffff);
    schi_task_release(core, task);
}

static size_t slab_used(schi_heap *heap) {
    size_t used = 0;
    for (schi_slab *s = schi_load_acq(&heap->slabs); s; s = s->next) {
        used += schi_load_acq(&s->used);
    }
    return used;
}

TEST(slab_classes) {
    for (size_t size = 0; size <= SCH_TASK_STATE_MAX; size++) {
        unsigned c = schi_heap_class(size);
        if (!EXPECT(c < SCHI_HEAP_CLASSES && schi_heap_sizes[c] >= 64 + size)) break;
        if (!EXPECT(c == 0 || schi_heap_sizes[c - 1] < 64 + size)) break; /* the smallest */
    }
    EXPECT_EQ(schi_heap_sizes[schi_heap_class(0)], 64);
    EXPECT_EQ(schi_heap_sizes[schi_heap_class(32)], 96);
    EXPECT_EQ(schi_heap_sizes[schi_heap_class(SCH_TASK_STATE_MAX)], 64 + SCH_TASK_STATE_MAX);
}

TEST(slab_blocks) {
    for (unsigned c = 0; c < SCHI_HEAP_CLASSES; c++) {
        checked_memory memory;
        sch_allocator a = checked_begin(&memory, false);
        sch_runtime *rt = (sch_runtime *)(void *)&memory; /* only handed through */
        schi_heap *heap = schi_heap_new(&a, rt, SLAB_OWNER, c, false);
        if (!EXPECT(heap != NULL)) return;
        const size_t size = schi_heap_sizes[c], n = 2 * (size_t)heap->per_slab + 3;
        sch_task **tasks = (sch_task **)calloc(n, sizeof *tasks);
        if (!tasks) abort();
        for (size_t i = 0; i < n; i++) {
            tasks[i] = slab_new(heap);
            char *block = (char *)tasks[i], *slab = (char *)schi_slab_of(tasks[i]);
            EXPECT_EQ((uintptr_t)block % 16, 0);
            EXPECT_EQ((uintptr_t)schi_task_state(tasks[i]) % 16, 0);
            EXPECT(block >= slab + sizeof(schi_slab) && block + size <= slab + SCH_SLAB_SIZE);
            EXPECT(schi_slab_of(tasks[i])->heap == heap);
            EXPECT(schi_task_runtime(tasks[i]) == rt);
            tasks[i]->arg = tasks[i];
            memset(schi_task_state(tasks[i]), (int)(i % 251), size - 64);
        }
        EXPECT_EQ(checked_live(&memory), 1 + 3); /* the heap and three slabs */
        for (size_t i = 0; i < n; i++) { /* no two share a byte */
            const unsigned char *state = (const unsigned char *)schi_task_state(tasks[i]);
            bool good = tasks[i]->arg == tasks[i];
            for (size_t k = 0; k < size - 64; k++) good = good && state[k] == i % 251;
            if (!EXPECT(good)) break;
        }
        for (size_t i = 0; i < n; i++) slab_free(SLAB_OWNER, tasks[i]);
        for (size_t i = n; i-- > 0;) EXPECT(slab_new(heap) == tasks[i]); /* last in, first out */
        EXPECT_EQ(checked_live(&memory), 1 + 3);
        for (size_t i = 0; i < n; i++) slab_free(SLAB_OWNER, tasks[i]);
        schi_heap_orphan(heap);
        checked_end(&memory);
        free(tasks);
    }
}

TEST(slab_out_of_memory) {
    checked_memory memory;
    sch_allocator a = checked_begin(&memory, false);
    memory.limit = 0;
    EXPECT(schi_heap_new(&a, NULL, SLAB_OWNER, 0, false) == NULL);
    memory.limit = SCH_SLAB_SIZE - 1; /* the heap, but no slab */
    schi_heap *heap = schi_heap_new(&a, NULL, SLAB_OWNER, 3, false);
    if (!EXPECT(heap != NULL)) return;
    EXPECT(schi_heap_alloc(heap) == NULL);
    EXPECT(schi_heap_alloc(heap) == NULL);
    memory.limit = SIZE_MAX;
    slab_free(SLAB_OWNER, slab_new(heap)); /* it was not for ever */
    memory.limit = 0;
    for (uint32_t i = heap->per_slab; i > 0; i--) (void)slab_new(heap);
    EXPECT(schi_heap_alloc(heap) == NULL);
    slab_free(SLAB_OWNER, schi_slab_block(schi_load_acq(&heap->slabs), 0));
    (void)slab_new(heap); /* a free block needs no memory */
    for (uint32_t i = 0; i < heap->per_slab; i++) {
        slab_free(SLAB_OWNER, schi_slab_block(schi_load_acq(&heap->slabs), i));
    }
    schi_heap_orphan(heap);
    checked_end(&memory);
}

/* References: only the last one frees, and a free block has none to copy. */
TEST(slab_references) {
    checked_memory memory;
    sch_allocator a = checked_begin(&memory, false);
    schi_heap *heap = schi_heap_new(&a, NULL, SLAB_OWNER, 0, false);
    if (!EXPECT(heap != NULL)) return;
    sch_task *task = schi_heap_alloc(heap);
    schi_sight sight;
    EXPECT(!schi_task_sight(task, &sight)); /* not spawned yet */
    schi_store_rel(&task->state, SCHI_SCHEDULED | SCHI_REF);
    EXPECT(schi_task_sight(task, &sight));
    schi_task_retain(task);
    schi_task_retain(task);
    EXPECT_EQ(schi_task_refs(schi_load_seq(&task->state)), 3);
    schi_task_release(SLAB_OWNER, task);
    schi_task_release(NULL, task);
    EXPECT(heap->local == NULL && schi_load_seq(&heap->remote) == NULL);
    slab_free(NULL, task); /* without a core, and with another: both are remote */
    EXPECT(heap->local == NULL && schi_load_seq(&heap->remote) == &task->node);
    EXPECT(!schi_task_sight(task, &sight));
    EXPECT(slab_new(heap) == task); /* it comes back before new memory is used */
    slab_free((struct schi_core *)(void *)&memory, task);
    EXPECT(heap->local == NULL && schi_load_seq(&heap->remote) == &task->node);
    EXPECT(slab_new(heap) == task);
    slab_free(SLAB_OWNER, task);
    EXPECT(heap->local == &task->node);
    EXPECT_EQ(slab_used(heap), 1);
    schi_heap_orphan(heap);
    checked_end(&memory);
}

/* Many at once ----------------------------------------------------------------------------------*/

/* An owner gives tasks to other threads, which free them; a walker looks at them meanwhile. */
#define SLAB_WINDOW 64
typedef struct slab_traffic {
    schi_heap *heap;
    sch_task *window[SLAB_WINDOW]; /* atomic; NULL: empty place */
    size_t each;                   /* at least; then so many it were */
    bool over;                     /* atomic: the owner has handed out everything */
    size_t freed, visits;          /* atomic */
} slab_traffic;

static void slab_hand_out(slab_traffic *t) {
    size_t i = 0;
    while (i < t->each || __atomic_load_n(&t->visits, __ATOMIC_RELAXED) == 0) {
        size_t place = i % SLAB_WINDOW;
        if (__atomic_load_n(&t->window[place], __ATOMIC_ACQUIRE)) {
            sched_yield();
            continue;
        }
        sch_task *task = schi_heap_alloc(t->heap);
        if (!EXPECT(task != NULL)) abort();
        /* A walker must see these as one task's. As in spawn, in this order. */
        schi_task_set_id(task, i + 1);
        schi_store_rel(&task->desc, (const sch_spawn_desc *)(uintptr_t)(64 * (i + 1)));
        schi_store_rel(&task->state, SCHI_SCHEDULED | SCHI_REF);
        __atomic_store_n(&t->window[place], task, __ATOMIC_RELEASE);
        i++;
    }
    t->each = i;
    __atomic_store_n(&t->over, true, __ATOMIC_RELEASE);
}

static bool slab_take_one(slab_traffic *t, size_t place) {
    sch_task *task = __atomic_load_n(&t->window[place], __ATOMIC_ACQUIRE);
    if (!task || !__atomic_compare_exchange_n(&t->window[place], &task, (sch_task *)NULL, false,
                                              __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        return false;
    }
    slab_free(NULL, task);
    __atomic_fetch_add(&t->freed, (size_t)1, __ATOMIC_RELAXED);
    return true;
}

static void slab_walk(slab_traffic *t) {
    for (schi_slab *s = schi_load_acq(&t->heap->slabs); s; s = s->next) {
        uint32_t used = schi_load_acq(&s->used);
        for (uint32_t i = 0; i < used; i++) {
            schi_sight sight;
            if (!schi_task_sight(schi_slab_block(s, i), &sight)) continue;
            EXPECT_EQ((uintptr_t)sight.desc, 64 * sight.id);
            __atomic_fetch_add(&t->visits, (size_t)1, __ATOMIC_RELAXED);
        }
    }
}

static void slab_traffic_work(void *arg, unsigned me) {
    slab_traffic *t = (slab_traffic *)arg;
    if (me == 0) {
        slab_hand_out(t);
        return;
    }
    schi_rng rng;
    schi_rng_init(&rng, test_seed() + me);
    while (!__atomic_load_n(&t->over, __ATOMIC_ACQUIRE)) {
        for (size_t i = 0; me < 3 && i < SLAB_WINDOW; i++) { /* leave some to the walker */
            if (schi_rng_below(&rng, 2)) (void)slab_take_one(t, i);
        }
        if (me == 3) slab_walk(t);
        sched_yield();
    }
}

TEST(slab_traffic) {
    checked_memory memory;
    sch_allocator a = checked_begin(&memory, false);
    slab_traffic t;
    size_t n = 0;
    memset(&t, 0, sizeof t);
    t.heap = schi_heap_new(&a, NULL, SLAB_OWNER, 1, false);
    t.each = test_scale(200000);
    if (!EXPECT(t.heap != NULL)) return;
    crew_run(4, slab_traffic_work, &t);
    for (size_t i = 0; i < SLAB_WINDOW; i++) (void)slab_take_one(&t, i);
    EXPECT_EQ(t.freed, t.each);
    /* Never more were out at once, with those in the hands of three; all are free now, once. */
    size_t used = slab_used(t.heap);
    EXPECT(used <= SLAB_WINDOW + 3);
    for (; n <= used && slab_used(t.heap) == used; n++) (void)slab_new(t.heap);
    EXPECT_EQ(n, used + 1);
    for (size_t i = 0; i < n; i++) {
        slab_free(SLAB_OWNER, schi_slab_block(schi_load_acq(&t.heap->slabs), (uint32_t)i));
    }
    schi_heap_orphan(t.heap);
    checked_end(&memory);
}

/* The runtime's end: handles that are released before, at the same time, and after. */
#define SLAB_HANDLES 60
typedef struct slab_end {
    schi_heap *heap;
    sch_task *tasks[SLAB_HANDLES];
    unsigned first; /* released at once with the orphaning: from this one on */
} slab_end;

static void slab_end_work(void *arg, unsigned me) {
    slab_end *e = (slab_end *)arg;
    for (uint64_t n = test_random() % 300; n > 0; n--) schi_cpu_relax();
    if (me == 0) schi_heap_orphan(e->heap);
    for (unsigned i = e->first + me - 1; me > 0 && i < SLAB_HANDLES; i += 2) {
        slab_free(NULL, e->tasks[i]);
    }
}

TEST(slab_orphans) {
    for (size_t round = test_scale(1000); round > 0; round--) {
        checked_memory memory;
        sch_allocator a = checked_begin(&memory, false);
        slab_end e;
        unsigned before = (unsigned)(test_random() % SLAB_HANDLES), after;
        e.heap = schi_heap_new(&a, NULL, SLAB_OWNER, 6, false);
        if (!EXPECT(e.heap != NULL)) return;
        for (unsigned i = 0; i < SLAB_HANDLES; i++) e.tasks[i] = slab_new(e.heap);
        for (unsigned i = 0; i < before; i++) slab_free(i % 2 ? NULL : SLAB_OWNER, e.tasks[i]);
        after = before + (unsigned)(test_random() % (SLAB_HANDLES - before));
        e.first = after;
        if (round % 2) { /* all at once */
            e.first = before;
            crew_run(3, slab_end_work, &e);
        } else { /* some of them afterwards */
            for (unsigned i = before; i < after; i++) schi_task_retain(e.tasks[i]);
            for (unsigned i = before; i < after; i++) schi_task_release(NULL, e.tasks[i]);
            crew_run(3, slab_end_work, &e);
            for (unsigned i = before; i < after; i++) {
                EXPECT(checked_live(&memory) > 0);
                EXPECT(schi_task_runtime(e.tasks[i]) == NULL); /* still readable */
                slab_free(NULL, e.tasks[i]);
            }
        }
        checked_end(&memory); /* the last release freed slabs and heap */
    }
}

/* The same for a whole runtime: its handles outlive it, and whoever releases the last one frees. */
static void slab_release_part(void *arg, unsigned me) {
    sch_task **tasks = (sch_task **)arg;
    for (unsigned i = me; i < SLAB_HANDLES; i += 3) sch_release(tasks[i]);
}

TEST(slab_outlives_runtime) {
    for (size_t round = test_scale(40); round > 0; round--) {
        checked_memory memory;
        sch_task *tasks[SLAB_HANDLES];
        sch_config config = support_config(&memory, 2);
        sch_runtime *rt = support_begin(&config);
        unsigned ran = 0;
        for (unsigned i = 0; i < SLAB_HANDLES; i++) tasks[i] = sch_spawn(rt, support_count, &ran);
        sch_runtime_free(rt);
        EXPECT(checked_live(&memory) > 0);
        for (unsigned i = 0; i < SLAB_HANDLES; i++) EXPECT(sch_is_done(tasks[i]));
        crew_run(3, slab_release_part, tasks);
        checked_end(&memory);
    }
}

/* What the README says of a core's size, where lines have 64 bytes. */
TEST(slab_size_of_a_core) {
    if (SCH_CACHELINE != 64 || sizeof(void *) != 8) SKIP("other sizes here");
    EXPECT(sizeof(schi_core) > 34u * 1024 && sizeof(schi_core) < 36u * 1024);
    EXPECT(sizeof(schi_wheel) > 32u * 1024 && sizeof(schi_wheel) < 33u * 1024);
}
