/* waiting_scenarios.c - [8] [9] [14]: what went wrong in others' timers and drivers. Each test is
 * named after an issue; docs/reliability.md has the list, and how each fails when the mistake is
 * made here. After wheel.c, hooks.c, ops.c and io.c. */
#include "support.h"

/* Every core is idle: somebody sleeps in the watch's seat, or is about to. */
static void waiting_all_asleep(sch_runtime *rt) {
    WAIT_FOR(support_metrics(rt).num_idle_workers == sch_num_workers(rt));
    support_nap(2000);
}

/* A descriptor that nothing ever comes from, so that the watch sleeps in the driver. */
static int waiting_start_driver(sch_runtime *rt, sch_io *io) { return io_half(rt, IO_PIPE, io); }

static void waiting_stop_driver(sch_io *io, int peer) {
    EXPECT_EQ(sch_io_close(io), 0);
    close(peer);
}

/* Timers and whoever sleeps ---------------------------------------------------------------------*/

static void waiting_short_nap(void *arg) {
    const uint64_t start = sch_now();
    EXPECT_EQ(sch_sleep(3 * SCH_MILLISECOND), 0);
    EXPECT(sch_now() - start < IO_LONG);
    support_count(arg);
}

static void waiting_long_nap(void *arg) {
    (void)arg;
    EXPECT_EQ(sch_sleep(3600 * SCH_SECOND), -ECANCELED);
}

/* tokio#3190: the driver sleeps for a late timer and is not told of an earlier one. Armed by a
 * thread without a core, which wakes nobody else. */
TEST(known_tokio_3190_earlier_timer_reaches_the_sleeper) {
    for (unsigned how = 0; how < 8; how++) {
        checked_memory memory;
        sch_config config = support_config(&memory, how & 1 ? 3 : 1);
        config.no_standby = (how & 2) != 0;
        sch_runtime *rt = support_begin(&config);
        unsigned naps = 0;
        int peer = -1;
        sch_io io;
        if (how & 4) peer = waiting_start_driver(rt, &io);
        sch_task *late = sch_spawn(rt, waiting_long_nap, NULL);
        for (unsigned i = 0; i < 3; i++) {
            waiting_all_asleep(rt);
            EXPECT_EQ(sch_join(sch_spawn_blocking(rt, waiting_short_nap, &naps)), 0);
            waiting_all_asleep(rt);
            support_run(rt, waiting_short_nap, &naps);
        }
        EXPECT_EQ(naps, 6);
        EXPECT_EQ(sch_cancel(late), 0);
        EXPECT_EQ(sch_join(late), -ECANCELED);
        if (how & 4) waiting_stop_driver(&io, peer);
        support_end(rt, &memory);
    }
}

/* go#42237: the same as a race: a deadline is set while the sleeper makes up its mind how long to
 * sleep. Once it is set nobody comes by again: what is forgotten stays so. */
static void waiting_nap(void *arg) {
    const uint64_t until = sch_now() + test_random() % (2 * SCH_MILLISECOND);
    (void)arg;
    EXPECT_EQ(sch_sleep_until(until), 0);
    EXPECT(sch_now() >= until && sch_now() - until < IO_LONG);
}

TEST(known_go_42237_sleeps_past_a_new_deadline) {
    for (unsigned how = 0; how < 6; how++) {
        checked_memory memory;
        sch_config config = support_config(&memory, 1 + how % 3);
        unsigned ran = 0;
        int peer = -1;
        sch_io io;
        config.no_standby = true; /* who comes round every 5 ms would hide it */
        sch_runtime *rt = support_begin(&config);
        if (how >= 3) peer = waiting_start_driver(rt, &io);
        for (size_t n = test_scale(100); n > 0; n--) {
            const unsigned who = 1 + (unsigned)(test_random() % 3); /* a task, a job, both */
            sch_task *naps[2] = {NULL, NULL};
            if (who & 1) naps[0] = sch_spawn(rt, waiting_nap, NULL);
            if (who & 2) naps[1] = sch_spawn_blocking(rt, waiting_nap, NULL);
            support_nap((long)(test_random() % 50));
            support_run(rt, support_count, &ran); /* makes it get up, and lie down again */
            for (unsigned i = 0; i < 2; i++) {
                if (naps[i]) EXPECT_EQ(sch_join(naps[i]), 0);
            }
        }
        if (how >= 3) waiting_stop_driver(&io, peer);
        support_end(rt, &memory);
    }
}

/* go#42515: whoever asks the poller without waiting takes the ring that was to end the sleep of
 * another. Here an alarm's ring stays until the one who sleeps in it takes it. */
TEST(known_go_42515_ring_taken_by_another) {
    checked_memory memory;
    sch_config config = support_config(&memory, 0); /* nobody sleeps there but this thread */
    sch_runtime *rt = support_begin(&config);
    sch_io io;
    int peer = waiting_start_driver(rt, &io);
    schi_alarm *alarm = &rt->seats[SCHI_WATCH].alarm;
    schi_ready events[SCHI_POLL_BATCH];
    (void)schi_poller_wait(&rt->driver.poller, alarm, 0, events, SCHI_POLL_BATCH);
    for (uint64_t in = 0; in < 2; in++) {
        const uint64_t start = schi_now_ns(), until = start + IO_LONG;
        schi_alarm_set(alarm, in); /* now, and a nanosecond later */
        if (in) support_nap(2000);
        for (int i = 0; i < 3; i++) {
            (void)schi_poller_wait(&rt->driver.poller, NULL, 0, events, SCHI_POLL_BATCH);
        }
        (void)schi_poller_wait(&rt->driver.poller, alarm, until, events, SCHI_POLL_BATCH);
        EXPECT(schi_now_ns() - start < IO_LONG / 2);
        (void)schi_poller_wait(&rt->driver.poller, alarm, schi_now_ns() + 1, events,
                               SCHI_POLL_BATCH); /* taken */
    }
    waiting_stop_driver(&io, peer);
    support_end(rt, &memory);
}

/* tokio#8334, #5536, #2473: the slot of the highest level wraps round; a level that is not there;
 * a timer for the very tick that is over. On every level, from just before the end of a slot. */
TEST(known_tokio_8334_ends_of_each_level) {
    for (unsigned level = 0; level < SCHI_WHEEL_LEVELS; level++) {
        const uint64_t slot = UINT64_C(1) << (6 * level), most = SCH_FOREVER >> SCHI_TICK_SHIFT;
        for (uint64_t k = 1; k <= 64 && k * slot < most; k += k < 2 ? 1 : 31) {
            wheel_case *c = wheel_new((k * slot - 1) << SCHI_TICK_SHIFT);
            const uint64_t after[] = {1, 2, slot, 2 * slot - 1, 63 * slot, 64 * slot, 65 * slot};
            size_t armed = 0;
            for (size_t i = 0; i < sizeof after / sizeof after[0]; i++) {
                const uint64_t tick = k * slot - 1 + after[i];
                if (after[i] == 0 || tick >= most) continue;
                wheel_arm(c, armed++, tick << SCHI_TICK_SHIFT);
                wheel_arm(c, armed++, (tick << SCHI_TICK_SHIFT) + 1);
            }
            wheel_check(c);
            wheel_arm(c, armed++, c->now + 1); /* in the tick that is over but for this */
            for (unsigned looks = 0; c->fired < armed && looks < 1000; looks++) {
                wheel_advance(c, schi_load_seq(&c->w->next));
                wheel_check(c);
            }
            EXPECT_EQ(c->fired, armed);
            wheel_free(c);
        }
    }
}

/* tokio#6634, #6612, #5710: times near the end of time overflow, or are taken for a marker. */
static void waiting_endless(void *arg) {
    const uint64_t year = 365 * 24 * 3600 * SCH_SECOND;
    const uint64_t times[] = {500 * year, SCH_FOREVER >> 1, SCH_FOREVER - (UINT64_C(4) << 20),
                              SCH_FOREVER - (UINT64_C(2) << 20), SCH_FOREVER - 2, SCH_FOREVER - 1,
                              SCH_FOREVER};
    (void)arg;
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        sch_timer after = sch_timer_after(times[i]), at = sch_timer_at(times[i]);
        sch_timer soon = sch_timer_after(SCH_MILLISECOND);
        sch_op *ops[3] = {&after.op, &at.op, &soon.op};
        EXPECT_EQ(sch_await_any(ops, 3, times[i]), 2);
        EXPECT(!sch_op_is_done(&after.op) && !sch_op_is_done(&at.op));
        EXPECT_EQ(sch_await_until(&soon.op, times[i]), 0);
        soon = sch_timer_after(SCH_MILLISECOND);
        EXPECT_EQ(sch_timeout(&soon.op, times[i]), 0);
    }
}

static void waiting_sleep_for_ever(void *arg) {
    EXPECT_EQ(sch_sleep_until(*(uint64_t *)arg), -ECANCELED);
}

TEST(known_tokio_6634_deadlines_at_the_end_of_time) {
    uint64_t times[] = {SCH_FOREVER, SCH_FOREVER - 1, SCH_FOREVER - (UINT64_C(1) << 20),
                        SCH_FOREVER - (UINT64_C(3) << 20), SCH_FOREVER >> 1};
    for (unsigned workers = 0; workers <= 2; workers++) {
        checked_memory memory;
        sch_config config = support_config(&memory, workers);
        sch_runtime *rt = support_begin(&config);
        for (int place = 0; place < OPS_PLACES - (workers == 0); place++) {
            ops_run(rt, place, waiting_endless, NULL);
        }
        for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
            sch_task *task = sch_spawn(rt, waiting_sleep_for_ever, &times[i]);
            if (workers > 0) support_nap(2000);
            if (workers == 0) {
                EXPECT_EQ(sch_run_some(rt, 0), 0);
                EXPECT(sch_next_deadline(rt) >= SCH_FOREVER >> 2); /* nobody need look up before */
            }
            EXPECT(!sch_is_done(task));
            (void)sch_cancel(task);
            EXPECT_EQ(sch_join(task), -ECANCELED);
        }
        support_end(rt, &memory);
    }
}

/* Readiness -------------------------------------------------------------------------------------*/

static schi_ready waiting_event(const sch_io *io) {
    schi_ready event;
    event.token = schi_io_token((schi_io *)io->record);
    event.bits = SCHI_READABLE;
    return event;
}

/* tokio#6133: an event that comes between a system call which finds nothing and the note of that
 * is lost, since one count served every descriptor. Each has its own: its events count, and no
 * other's. */
TEST(known_tokio_6133_event_while_a_call_finds_nothing) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    sch_runtime *rt = support_begin(&config);
    sch_io io[2];
    int peer[2];
    for (int i = 0; i < 2; i++) peer[i] = io_half(rt, IO_PIPE, &io[i]);
    waiting_all_asleep(rt);
    schi_io *one = (schi_io *)io[0].record;
    for (int other = 0; other < 2; other++) {
        schi_ready event = waiting_event(&io[other]);
        schi_expired due;
        due.num = 0;
        uint32_t seen = schi_load_seq(&one->ready);
        EXPECT(seen & SCHI_READABLE); /* then a call looks, and finds nothing */
        EXPECT(schi_io_event(&rt->driver, &event, &due));
        schi_io_clear(one, seen, SCHI_READABLE);
        EXPECT_EQ((schi_load_seq(&one->ready) & SCHI_READABLE) != 0, other == 0);
        EXPECT_EQ(due.num, 0);
    }
    for (int i = 0; i < 2; i++) waiting_stop_driver(&io[i], peer[i]);
    support_end(rt, &memory);
}

/* tokio#3019, libxev#234, #239: an event that was fetched before its descriptor was closed is given
 * to whoever has the record now. */
static void waiting_read_one(void *arg) {
    char byte;
    EXPECT_EQ(sch_read((sch_io *)arg, &byte, 1), 1);
}

TEST(known_tokio_3019_event_of_a_closed_descriptor) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    sch_runtime *rt = support_begin(&config);
    sch_io old, io;
    int gone = io_half(rt, IO_PIPE, &old);
    schi_ready stale = waiting_event(&old), event;
    waiting_stop_driver(&old, gone);
    int peer = io_half(rt, IO_PIPE, &io);
    schi_io *record = (schi_io *)io.record;
    EXPECT(record == (schi_io *)old.record); /* else this says nothing */
    sch_task *reader = sch_spawn(rt, waiting_read_one, &io);
    WAIT_FOR(!(schi_load_seq(&reader->state) & (SCHI_NEW | SCHI_SCHEDULED)));
    waiting_all_asleep(rt);
    for (int now = 0; now < 2; now++) {
        uint32_t before = schi_load_seq(&record->ready);
        schi_expired due;
        due.num = 0;
        event = now ? waiting_event(&io) : stale;
        EXPECT(schi_io_event(&rt->driver, &event, &due));
        EXPECT_EQ(due.num, now);
        EXPECT_EQ(schi_load_seq(&record->ready) != before, now);
        schi_grant_expired(NULL, &due); /* looks again, in vain */
    }
    waiting_all_asleep(rt);
    EXPECT(!sch_is_done(reader));
    io_put(peer, "x", 1);
    EXPECT_EQ(sch_join(reader), 0);
    waiting_stop_driver(&io, peer);
    support_end(rt, &memory);
}

/* tokio#6329: what could not be registered was kept for ever. (#2728, #2903, #6067:
 * io_freed_with_waiting_connections, io_freed_with_a_poll_task.) */
TEST(known_tokio_6329_failed_registration) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    sch_runtime *rt = support_begin(&config);
    sch_io io, other;
    int peer = io_half(rt, IO_SOCKETPAIR, &io);
    const uint32_t records = rt->driver.num_records;
    for (int i = 0; i < 500; i++) {
        EXPECT_EQ(sch_io_open(&other, rt, sch_io_fd(&io)), -EEXIST);
#if SCHI_LINUX /* epoll refuses itself, with a record made for it */
        EXPECT_EQ(sch_io_open(&other, rt, rt->driver.poller.fd), -EINVAL);
#endif
    }
    EXPECT(rt->driver.num_records <= records + 1);
    EXPECT_EQ(support_metrics(rt).io_opened_count, 1);
    io_put(peer, "x", 1);
    support_run(rt, waiting_read_one, &io);
    waiting_stop_driver(&io, peer);
    EXPECT_EQ(support_metrics(rt).io_closed_count, 1);
    support_end(rt, &memory);
}

/* tokio#8222, #7835: what the hook before the park queues is slept over, now in the driver. */
TEST(known_tokio_8222_hook_before_the_park_in_the_driver) {
    for (unsigned workers = 1; workers <= 2; workers++) {
        checked_memory memory;
        sch_config config = support_config(&memory, workers);
        hooks_last_act a;
        sch_io io;
        memset(&a, 0, sizeof a);
        config.no_standby = true;
        config.hooks.on_thread_park = hooks_last_park;
        config.hooks.user = &a;
        sch_runtime *rt = support_begin(&config);
        int peer = waiting_start_driver(rt, &io);
        a.sleeper = sch_spawn(rt, hooks_last_sleeper, &a.woken);
        for (unsigned i = 1; i <= 50; i++) {
            support_set(&a.armed, i % 2 + 1);
            support_run(rt, hooks_cheap, NULL);
            WAIT_FOR(support_get(&a.ran) + support_get(&a.woken) == i);
            if (support_get(&a.ran) + support_get(&a.woken) != i) break;
        }
        EXPECT_EQ(sch_cancel(a.sleeper), 0);
        EXPECT_EQ(sch_join(a.sleeper), -ECANCELED);
        waiting_stop_driver(&io, peer);
        support_end(rt, &memory);
    }
}

/* libevent#636, nng#575: without EPOLLET, or EV_CLEAR, what nobody reads is told over and over. */
TEST(known_nng_575_input_that_nobody_reads) {
    for (int kind = IO_PIPE; kind <= IO_TCP; kind++) {
        for (int end = 0; end < 2; end++) {
            checked_memory memory;
            sch_config config = support_config(&memory, 2);
            sch_runtime *rt = support_begin(&config);
            sch_io io;
            int peer = io_half(rt, (enum io_kind)kind, &io);
            io_put(peer, "x", 1);
            if (end) close(peer);
            waiting_all_asleep(rt);
            const uint64_t told = support_metrics(rt).io_event_count;
            support_nap(20000);
            EXPECT(support_metrics(rt).io_event_count <= told + 2);
            support_run(rt, waiting_read_one, &io); /* and is still there */
            EXPECT_EQ(sch_io_close(&io), 0);
            if (!end) close(peer);
            support_end(rt, &memory);
        }
    }
}
