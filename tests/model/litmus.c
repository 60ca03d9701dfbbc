/* litmus.c - the explorer's own test: small programs whose outcomes under C11 are known exactly,
 * and planted bugs that it must find. */

typedef SCHI_ATOMIC(uint32_t) litmus_word;

typedef struct litmus {
    litmus_word x, y, z;
    SCHI_CELL(unsigned) plain;
    unsigned r[8]; /* one thread each */
    schi_os_thread threads[4];
    unsigned num_threads;
} litmus;

static void litmus_start(litmus *l, void *(*run)(void *)) {
    int error = schi_thread_start(&l->threads[l->num_threads++], run, l, 65536);
    MODEL_EXPECT(error == 0);
}

static void litmus_join(litmus *l) {
    for (unsigned i = 0; i < l->num_threads; i++) schi_thread_join(l->threads[i]);
}

#define LITMUS_THREAD(name, ...)                                                                   \
    static void *name(void *arg) {                                                                 \
        litmus *l = (litmus *)arg;                                                                 \
        __VA_ARGS__;                                                                               \
        return NULL;                                                                               \
    }
#define LITMUS_ALL .bound = 99, .stale = 99, .random = 0

/* Store buffering: without seq both may read 0; with seq on all four they may not. */
LITMUS_THREAD(sb_1, schi_store_rel(&l->x, 1u); l->r[0] = schi_load_acq(&l->y))
LITMUS_THREAD(sb_2, schi_store_rel(&l->y, 1u); l->r[1] = schi_load_acq(&l->x))
MODEL(litmus_sb, LITMUS_ALL, .outcomes = 0xf) {
    litmus *l = model_new(sizeof *l);
    litmus_start(l, sb_1), litmus_start(l, sb_2);
    litmus_join(l);
    model_outcome(l->r[0] << 1 | l->r[1]);
}

LITMUS_THREAD(sb_seq_1, schi_store_seq(&l->x, 1u); l->r[0] = schi_load_seq(&l->y))
LITMUS_THREAD(sb_seq_2, schi_store_seq(&l->y, 1u); l->r[1] = schi_load_seq(&l->x))
MODEL(litmus_sb_seq, LITMUS_ALL, .outcomes = 0xe) {
    litmus *l = model_new(sizeof *l);
    litmus_start(l, sb_seq_1), litmus_start(l, sb_seq_2);
    litmus_join(l);
    model_outcome(l->r[0] << 1 | l->r[1]);
}

MODEL(litmus_sb_half_seq, LITMUS_ALL, .outcomes = 0xf) { /* one side is not enough */
    litmus *l = model_new(sizeof *l);
    litmus_start(l, sb_seq_1), litmus_start(l, sb_2);
    litmus_join(l);
    model_outcome(l->r[0] << 1 | l->r[1]);
}

/* Publish, then an RMW on one common word, then look: the handshake of [5.3]. Who comes second in
 * the order of that word sees what the first published. */
LITMUS_THREAD(sb_rmw_1, schi_store_rlx(&l->x, 1u); (void)schi_add_acqrel(&l->z, 0u);
              l->r[0] = schi_load_rlx(&l->y))
LITMUS_THREAD(sb_rmw_2, schi_store_rlx(&l->y, 1u); (void)schi_add_acqrel(&l->z, 0u);
              l->r[1] = schi_load_rlx(&l->x))
MODEL(litmus_sb_rmw, LITMUS_ALL, .outcomes = 0xe) {
    litmus *l = model_new(sizeof *l);
    litmus_start(l, sb_rmw_1), litmus_start(l, sb_rmw_2);
    litmus_join(l);
    model_outcome(l->r[0] << 1 | l->r[1]);
}

/* RMWs on different words do not help, unless they are seq. */
LITMUS_THREAD(sb_xchg_1, (void)schi_xchg_acqrel(&l->x, 1u); l->r[0] = schi_load_acq(&l->y))
LITMUS_THREAD(sb_xchg_2, (void)schi_xchg_acqrel(&l->y, 1u); l->r[1] = schi_load_acq(&l->x))
MODEL(litmus_sb_two_rmws, LITMUS_ALL, .outcomes = 0xf) {
    litmus *l = model_new(sizeof *l);
    litmus_start(l, sb_xchg_1), litmus_start(l, sb_xchg_2);
    litmus_join(l);
    model_outcome(l->r[0] << 1 | l->r[1]);
}

/* Message passing. Outcome: 3 flag and data seen, 1 data without flag, 2 flag without data. */
LITMUS_THREAD(mp_write, schi_store_rlx(&l->x, 1u); schi_store_rel(&l->y, 1u))
LITMUS_THREAD(mp_write_rlx, schi_store_rlx(&l->x, 1u); schi_store_rlx(&l->y, 1u))
LITMUS_THREAD(mp_read, l->r[0] = schi_load_acq(&l->y); l->r[1] = schi_load_rlx(&l->x))
LITMUS_THREAD(mp_read_rlx, l->r[0] = schi_load_rlx(&l->y); l->r[1] = schi_load_rlx(&l->x))

static void litmus_mp(void *(*write)(void *), void *(*read)(void *)) {
    litmus *l = model_new(sizeof *l);
    litmus_start(l, write), litmus_start(l, read);
    litmus_join(l);
    model_outcome(l->r[0] << 1 | l->r[1]);
}

MODEL(litmus_mp, LITMUS_ALL, .outcomes = 0xb) { litmus_mp(mp_write, mp_read); }
MODEL(litmus_mp_no_release, LITMUS_ALL, .outcomes = 0xf) { litmus_mp(mp_write_rlx, mp_read); }
MODEL(litmus_mp_no_acquire, LITMUS_ALL, .outcomes = 0xf) { litmus_mp(mp_write, mp_read_rlx); }

/* Load buffering: not with any order here (RC11 forbids it for data that depends, we always do). */
LITMUS_THREAD(lb_1, l->r[0] = schi_load_rlx(&l->x); schi_store_rlx(&l->y, 1u))
LITMUS_THREAD(lb_2, l->r[1] = schi_load_rlx(&l->y); schi_store_rlx(&l->x, 1u))
MODEL(litmus_lb, LITMUS_ALL, .outcomes = 0x7) {
    litmus *l = model_new(sizeof *l);
    litmus_start(l, lb_1), litmus_start(l, lb_2);
    litmus_join(l);
    model_outcome(l->r[0] << 1 | l->r[1]);
}

/* Independent reads of independent writes: may two readers see two stores in different orders? */
LITMUS_THREAD(iriw_x, schi_store_rel(&l->x, 1u))
LITMUS_THREAD(iriw_y, schi_store_rel(&l->y, 1u))
LITMUS_THREAD(iriw_x_seq, schi_store_seq(&l->x, 1u))
LITMUS_THREAD(iriw_y_seq, schi_store_seq(&l->y, 1u))
LITMUS_THREAD(iriw_xy, l->r[0] = schi_load_acq(&l->x); l->r[1] = schi_load_acq(&l->y))
LITMUS_THREAD(iriw_yx, l->r[2] = schi_load_acq(&l->y); l->r[3] = schi_load_acq(&l->x))
LITMUS_THREAD(iriw_xy_seq, l->r[0] = schi_load_seq(&l->x); l->r[1] = schi_load_seq(&l->y))
LITMUS_THREAD(iriw_yx_seq, l->r[2] = schi_load_seq(&l->y); l->r[3] = schi_load_seq(&l->x))

static unsigned litmus_iriw(void *(*x)(void *), void *(*y)(void *), void *(*xy)(void *),
                            void *(*yx)(void *)) {
    litmus *l = model_new(sizeof *l);
    litmus_start(l, x), litmus_start(l, y), litmus_start(l, xy), litmus_start(l, yx);
    litmus_join(l);
    return l->r[0] << 3 | l->r[1] << 2 | l->r[2] << 1 | l->r[3];
}

MODEL(litmus_iriw, LITMUS_ALL, .outcomes = 0xffff) {
    model_outcome(litmus_iriw(iriw_x, iriw_y, iriw_xy, iriw_yx));
}
MODEL(litmus_iriw_seq, LITMUS_ALL, .outcomes = 0xfbff) { /* not 1 0 1 0 */
    model_outcome(litmus_iriw(iriw_x_seq, iriw_y_seq, iriw_xy_seq, iriw_yx_seq));
}

/* Two writers on two words. C11 allows x = y = 1 (each second store first in the order of its word)
 * but not here: modification order is the order of execution, a declared limit. */
LITMUS_THREAD(ww_1, schi_store_rlx(&l->x, 1u); schi_store_rlx(&l->y, 2u))
LITMUS_THREAD(ww_2, schi_store_rlx(&l->y, 1u); schi_store_rlx(&l->x, 2u))
MODEL(litmus_2_2w, LITMUS_ALL, .outcomes = 0xe) {
    litmus *l = model_new(sizeof *l);
    litmus_start(l, ww_1), litmus_start(l, ww_2);
    litmus_join(l);
    model_outcome((schi_load_rlx(&l->x) - 1) << 1 | (schi_load_rlx(&l->y) - 1));
}

/* Coherence of one word: two reads never go back, also not with the help of a third thread. */
LITMUS_THREAD(co_write, schi_store_rlx(&l->x, 1u); schi_store_rlx(&l->x, 2u))
LITMUS_THREAD(co_read, l->r[0] = schi_load_rlx(&l->x); l->r[1] = schi_load_rlx(&l->x))
MODEL(litmus_corr, LITMUS_ALL, .outcomes = 0x137) {
    litmus *l = model_new(sizeof *l);
    litmus_start(l, co_write), litmus_start(l, co_read);
    litmus_join(l);
    model_outcome(l->r[0] * 3 + l->r[1]);
}

LITMUS_THREAD(co_relay, l->r[0] = schi_load_rlx(&l->x); schi_store_rel(&l->y, 1u))
LITMUS_THREAD(co_after, l->r[1] = schi_load_acq(&l->y); l->r[2] = schi_load_rlx(&l->x))
LITMUS_THREAD(co_once, schi_store_rlx(&l->x, 1u))
MODEL(litmus_corr_relayed, LITMUS_ALL, .outcomes = 0xbf) { /* not r0 = 1, r1 = 1, r2 = 0 */
    litmus *l = model_new(sizeof *l);
    litmus_start(l, co_once), litmus_start(l, co_relay), litmus_start(l, co_after);
    litmus_join(l);
    model_outcome(l->r[0] << 2 | l->r[1] << 1 | l->r[2]);
}

/* A relaxed RMW between continues the release sequence; a relaxed store ends it. */
LITMUS_THREAD(rs_add, (void)schi_add_rlx(&l->y, 1u))
LITMUS_THREAD(rs_store, schi_store_rlx(&l->y, 2u))
LITMUS_THREAD(rs_read, l->r[0] = schi_load_acq(&l->y); l->r[1] = schi_load_rlx(&l->x))

MODEL(litmus_rmw_chain, LITMUS_ALL, .outcomes = 0x2f) { /* y = 2: after the release, x is 1 */
    litmus *l = model_new(sizeof *l);
    litmus_start(l, mp_write), litmus_start(l, rs_add), litmus_start(l, rs_read);
    litmus_join(l);
    if (l->r[0] == 1) { /* either of the two: tells nothing */
        model_outcome(2 + l->r[1]);
    } else {
        model_outcome(l->r[0] * 2 + l->r[1]);
    }
}

MODEL(litmus_broken_chain, LITMUS_ALL, .outcomes = 0x3b) {
    litmus *l = model_new(sizeof *l);
    litmus_start(l, mp_write), litmus_start(l, rs_store), litmus_start(l, rs_read);
    litmus_join(l);
    model_outcome(l->r[0] * 2 + l->r[1]);
}

/* Locks order what is plain. */
typedef struct litmus_locked {
    schi_mutex lock;
    SCHI_CELL(int) sum;
    schi_os_thread threads[3];
} litmus_locked;

static void *litmus_add(void *arg) {
    litmus_locked *l = (litmus_locked *)arg;
    schi_lock(&l->lock);
    schi_wr(&l->sum, schi_rd(&l->sum) + 1);
    schi_unlock(&l->lock);
    return NULL;
}

MODEL(litmus_lock, LITMUS_ALL, .outcomes = 1 << 3) {
    litmus_locked *l = model_new(sizeof *l);
    MODEL_EXPECT(schi_mutex_init(&l->lock) == 0);
    for (int i = 0; i < 3; i++) {
        MODEL_EXPECT(schi_thread_start(&l->threads[i], litmus_add, l, 65536) == 0);
    }
    for (int i = 0; i < 3; i++) schi_thread_join(l->threads[i]);
    schi_mutex_drop(&l->lock);
    model_outcome((unsigned)schi_rd(&l->sum));
}

/* In the first execution the writer waits until the reader has ended. That they may meet all the
 * same is what the search must find out: what it leaves out goes by who has touched what. */
LITMUS_THREAD(late_reader, schi_store_seq(&l->y, 1u); l->r[0] = schi_load_seq(&l->x))
MODEL(litmus_after_the_other_ended, LITMUS_ALL, .outcomes = 0x3) {
    litmus *l = model_new(sizeof *l);
    litmus_start(l, late_reader);
    while (schi_load_seq(&l->y) == 0) schi_cpu_relax();
    schi_store_seq(&l->x, 1u);
    litmus_join(l);
    model_outcome(l->r[0]);
}

/* Planted bugs ----------------------------------------------------------------------------------*/

LITMUS_THREAD(race_write, schi_wr(&l->plain, 1u); schi_store_rlx(&l->y, 1u))
LITMUS_THREAD(race_read, if (schi_load_acq(&l->y) == 1) l->r[0] = schi_rd(&l->plain))
MODEL(planted_race, .bound = 2, .fails = "data race") {
    litmus *l = model_new(sizeof *l);
    litmus_start(l, race_write), litmus_start(l, race_read);
    litmus_join(l);
}

/* What comes after a release is not published by it; nor by the start of a thread. */
LITMUS_THREAD(late_write, schi_store_rel(&l->y, 1u); schi_wr(&l->plain, 1u))
LITMUS_THREAD(late_read, if (schi_load_acq(&l->y) == 1) l->r[0] = schi_rd(&l->plain))
MODEL(planted_race_after_release, .bound = 2, .fails = "data race") {
    litmus *l = model_new(sizeof *l);
    litmus_start(l, late_write), litmus_start(l, late_read);
    litmus_join(l);
}

LITMUS_THREAD(plain_write, schi_wr(&l->plain, schi_rd(&l->plain) + 1))
MODEL(litmus_start_join, LITMUS_ALL, .outcomes = 1 << 2) { /* both order plain data */
    litmus *l = model_new(sizeof *l);
    schi_wr(&l->plain, 1u);
    litmus_start(l, plain_write);
    litmus_join(l);
    model_outcome(schi_rd(&l->plain));
}

LITMUS_THREAD(plain_read, l->r[0] = schi_rd(&l->plain))
MODEL(planted_race_after_start, .bound = 2, .fails = "data race") {
    litmus *l = model_new(sizeof *l);
    litmus_start(l, plain_read);
    schi_wr(&l->plain, 1u);
    litmus_join(l);
}

LITMUS_THREAD(read_then_release, l->r[0] = schi_rd(&l->plain); schi_store_rel(&l->y, 1u))
LITMUS_THREAD(release_then_read, schi_store_rel(&l->y, 1u); l->r[0] = schi_rd(&l->plain))
LITMUS_THREAD(write_if_seen, if (schi_load_acq(&l->y) == 1) schi_wr(&l->plain, 1u))
MODEL(litmus_read_before_write, LITMUS_ALL) {
    litmus *l = model_new(sizeof *l);
    litmus_start(l, read_then_release), litmus_start(l, write_if_seen);
    litmus_join(l);
}
MODEL(planted_write_over_read, .bound = 2, .fails = "data race") {
    litmus *l = model_new(sizeof *l);
    litmus_start(l, release_then_read), litmus_start(l, write_if_seen);
    litmus_join(l);
}

/* tokio#1768: the pusher looks at the state with a seq load instead of an RMW, the sleeper's look
 * is not seq. */
typedef struct litmus_sleep {
    litmus_word work, awake;
    schi_word token;
    schi_waitplace place;
    schi_os_thread threads[2];
} litmus_sleep;

static void litmus_sleep_wake(litmus_sleep *l) {
    schi_store_seq(&l->token, 1u);
    schi_word_wake(&l->token, &l->place, false);
}

static void *litmus_sleeper(void *arg) {
    litmus_sleep *l = (litmus_sleep *)arg;
    (void)schi_sub_seq(&l->awake, 1u);
    if (schi_load_acq(&l->work) == 0) { /* look again before the sleep */
        while (schi_load_acq(&l->token) == 0) {
            schi_word_wait(&l->token, &l->place, 0, UINT64_MAX);
        }
    }
    return NULL;
}

static void *litmus_pusher_load(void *arg) {
    litmus_sleep *l = (litmus_sleep *)arg;
    schi_store_rel(&l->work, 1u);
    if (schi_load_seq(&l->awake) == 0) litmus_sleep_wake(l);
    return NULL;
}

static void *litmus_pusher_rmw(void *arg) {
    litmus_sleep *l = (litmus_sleep *)arg;
    schi_store_rel(&l->work, 1u);
    if (schi_add_seq(&l->awake, 0u) == 0) litmus_sleep_wake(l);
    return NULL;
}

static void litmus_sleep_run(void *(*pusher)(void *)) {
    litmus_sleep *l = model_new(sizeof *l);
    MODEL_EXPECT(schi_waitplace_init(&l->place) == 0);
    schi_store_rlx(&l->awake, 1u);
    MODEL_EXPECT(schi_thread_start(&l->threads[0], litmus_sleeper, l, 65536) == 0);
    MODEL_EXPECT(schi_thread_start(&l->threads[1], pusher, l, 65536) == 0);
    for (int i = 0; i < 2; i++) schi_thread_join(l->threads[i]);
    schi_waitplace_drop(&l->place);
}

MODEL(planted_load_instead_of_rmw, .bound = 2, .fails = "deadlock") {
    litmus_sleep_run(litmus_pusher_load);
}
MODEL(litmus_rmw_handshake, LITMUS_ALL, .spurious = 1) { litmus_sleep_run(litmus_pusher_rmw); }

/* tokio#5041: an index so narrow that it comes round while a thief sits between its load and its
 * compare-and-swap. Head and tail have one bit more than the ring of two needs. */
typedef struct litmus_ring {
    litmus_word head, tail;
    litmus_word slots[2];
    unsigned bits;
    unsigned taken[16]; /* how often each item was taken; one thread at a time counts */
    schi_os_thread thief;
} litmus_ring;

static unsigned litmus_ring_take(litmus_ring *l) {
    uint32_t mask = (1u << l->bits) - 1, head = schi_load_acq(&l->head), item;
    if (head == schi_load_acq(&l->tail)) return 0;
    item = schi_load_rlx(&l->slots[head & 1]);
    return schi_cas_acqrel(&l->head, &head, (head + 1) & mask) ? item : 0;
}

static void *litmus_ring_thief(void *arg) {
    litmus_ring *l = (litmus_ring *)arg;
    l->taken[litmus_ring_take(l)]++;
    return NULL;
}

static void litmus_ring_run(unsigned bits) {
    litmus_ring *l = model_new(sizeof *l);
    l->bits = bits;
    MODEL_EXPECT(schi_thread_start(&l->thief, litmus_ring_thief, l, 65536) == 0);
    for (uint32_t item = 1, tail = 0; item <= 6; item++) {
        schi_store_rlx(&l->slots[tail & 1], item);
        tail = (tail + 1) & ((1u << bits) - 1);
        schi_store_rel(&l->tail, tail);
        if (item < 6) l->taken[litmus_ring_take(l)]++;
    }
    schi_thread_join(l->thief);
    for (;;) {
        unsigned item = litmus_ring_take(l);
        if (item == 0) break;
        l->taken[item]++;
    }
    for (unsigned item = 1; item <= 6; item++) MODEL_EXPECT(l->taken[item] == 1);
}

MODEL(planted_narrow_index, .bound = 2, .fails = "taken[item] == 1") { litmus_ring_run(2); }
MODEL(litmus_wide_index, .bound = 3) { litmus_ring_run(8); }

/* The engine's other findings. */
MODEL(planted_leak, .bound = 0, .fails = "leak: 24 bytes") {
    (void)schi_libc_alloc(24, 8, NULL);
}

MODEL(planted_unjoined, .bound = 0, .fails = "not joined") {
    litmus *l = model_new(sizeof *l);
    litmus_start(l, iriw_x);
}

static void *litmus_touch(void *arg) {
    schi_store_rel((litmus_word *)arg, 1u);
    return NULL;
}

MODEL(planted_use_after_free, .bound = 1, .fails = "use after free") {
    litmus_word *w = (litmus_word *)schi_libc_alloc(sizeof *w, 8, NULL);
    schi_os_thread thread;
    schi_store_rlx(w, 0u);
    MODEL_EXPECT(schi_thread_start(&thread, litmus_touch, w, 65536) == 0);
    while (schi_load_acq(w) == 0) {
        if (model_choose(2)) break; /* gives up: then it is too early */
        schi_os_yield();
    }
    schi_libc_free(w, sizeof *w, 8, NULL);
    schi_thread_join(thread);
}

static void *litmus_lock_twice(void *arg) {
    schi_mutex *m = (schi_mutex *)arg;
    schi_lock(&m[1]);
    schi_lock(&m[0]);
    schi_unlock(&m[0]);
    schi_unlock(&m[1]);
    return NULL;
}

MODEL(planted_lock_order, .bound = 1, .fails = "waits for a lock") {
    schi_mutex *m = model_new(2 * sizeof *m);
    schi_os_thread thread;
    MODEL_EXPECT(schi_mutex_init(&m[0]) == 0 && schi_mutex_init(&m[1]) == 0);
    MODEL_EXPECT(schi_thread_start(&thread, litmus_lock_twice, m, 65536) == 0);
    schi_lock(&m[0]);
    schi_lock(&m[1]);
    schi_unlock(&m[1]);
    schi_unlock(&m[0]);
    schi_thread_join(thread);
    schi_mutex_drop(&m[0]), schi_mutex_drop(&m[1]);
}

MODEL(planted_livelock, .bound = 0, .fails = "livelock") {
    litmus *l = model_new(sizeof *l);
    while (schi_load_acq(&l->x) == 0) schi_cpu_relax();
}

MODEL(planted_crash, .bound = 0, .fails = "crash") {
    litmus **l = (litmus **)schi_libc_alloc(sizeof *l, 8, NULL);
    *l = NULL;
    schi_libc_free(l, sizeof *l, 8, NULL);
    schi_store_rlx(&(*l)->x, 1u); /* poisoned */
}
