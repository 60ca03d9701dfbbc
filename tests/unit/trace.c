/* Trace [10]: the ring of a core, and when events are put there. What becomes of them is checked by
 * tests/trace. */
#include "support.h"

/* A ring on checked memory. */
static schi_trace *trace_ring(checked_memory *memory, sch_allocator *a, size_t n) {
    schi_trace *t;
    *a = checked_begin(memory, false);
    t = schi_trace_new(a, n);
    if (!EXPECT(t != NULL)) abort();
    return t;
}

/* Event i has these words: any two of different events put together are found out. */
static void trace_put_number(schi_trace *t, uint64_t i) {
    schi_trace_put(t, i, i * 3 + 1, ~i * 7);
}

/* Are these n entries the events `first` and following, whole and in order of time? */
static bool trace_is_run(const schi_trace_entry *e, uint64_t n, uint64_t first) {
    for (uint64_t i = 0; i < n; i++) {
        uint64_t number = first + i;
        if (!EXPECT_EQ(e[i].what, number) || !EXPECT_EQ(e[i].task, number * 3 + 1) ||
            !EXPECT_EQ(e[i].other, ~number * 7)) {
            return false;
        }
        if (i > 0 && !EXPECT(e[i].time >= e[i - 1].time)) return false;
    }
    return true;
}

TEST(trace_ring_keeps_the_last_events) {
    const size_t asked[] = {0, 1, 2, 3, 8, 9, 100}, size[] = {2, 2, 2, 4, 8, 16, 128};
    for (unsigned k = 0; k < 7; k++) {
        checked_memory memory;
        sch_allocator a;
        schi_trace *t = trace_ring(&memory, &a, asked[k]);
        schi_trace_entry *out = (schi_trace_entry *)calloc(t->size, sizeof *out);
        uint64_t written = 0, n;
        EXPECT_EQ(t->size, size[k]);
        EXPECT_EQ(schi_trace_copy(t, out), 0);
        while (written < 3 * size[k] + 3) {
            trace_put_number(t, written++);
            n = schi_trace_copy(t, out);
            /* All of them, until the ring is full; then all but one, whose place is next. */
            EXPECT_EQ(n, written < size[k] ? written : size[k] - 1);
            if (!trace_is_run(out, n, written - n)) break;
        }
        free(out);
        schi_trace_free(t, &a);
        checked_end(&memory);
    }
}

typedef struct trace_race {
    schi_trace *ring;
    uint64_t events;      /* to be written */
    unsigned written_all; /* atomic */
    uint64_t copies;      /* the reader's */
} trace_race;

static void trace_race_member(void *arg, unsigned index) {
    trace_race *r = (trace_race *)arg;
    schi_trace_entry *out;
    uint64_t last = 0, n;
    bool over = false;
    if (index == 0) {
        for (uint64_t i = 0; i < r->events; i++) trace_put_number(r->ring, i);
        support_set(&r->written_all, 1);
        return;
    }
    out = (schi_trace_entry *)calloc(r->ring->size, sizeof *out);
    while (!over) { /* once more after the last event */
        over = support_get(&r->written_all) != 0;
        n = schi_trace_copy(r->ring, out);
        if (n > 0) {
            if (!trace_is_run(out, n, out[0].what) || !EXPECT(out[n - 1].what >= last)) break;
            last = out[n - 1].what;
        }
        r->copies++;
    }
    EXPECT_EQ(last, r->events - 1);
    free(out);
}

/* A writer that laps the reader again and again: what the reader keeps is whole, without gaps. */
TEST(trace_reader_beside_a_writer) {
    for (size_t size = 2; size <= 4096; size *= 8) {
        checked_memory memory;
        sch_allocator a;
        trace_race r;
        memset(&r, 0, sizeof r);
        r.ring = trace_ring(&memory, &a, size);
        r.events = test_scale(400000);
        crew_run(2, trace_race_member, &r);
        EXPECT(r.copies > 0);
        schi_trace_free(r.ring, &a);
        checked_end(&memory);
    }
}

/* A runtime: what is recorded, and when */

static uint64_t trace_events_of(const schi_trace *t) {
    return t ? schi_load_acq(&t->head) : 0; /* acq: as schi_trace_copy */
}

static uint64_t trace_events_written(sch_runtime *rt) {
    uint64_t sum = trace_events_of(schi_load_acq(&rt->trace)); /* acq: as schi_trace_event */
    for (unsigned i = 0; i < rt->num_cores; i++) {
        sum += trace_events_of(schi_load_acq(&rt->cores[i]->trace)); /* acq: the same */
    }
    return sum;
}

static void trace_some_work(void *arg) {
    unsigned n = 0;
    (void)arg;
    for (unsigned i = 0; i < 10; i++) {
        EXPECT_EQ(sch_go(NULL, support_count, &n), 0);
        EXPECT_EQ(sch_yield_now(), 0);
    }
    YIELD_UNTIL(support_get(&n) == 10);
    EXPECT_EQ(sch_sleep(SCH_MILLISECOND), 0);
}

/* A text that grows. */
typedef struct trace_text {
    char *text;
    size_t length, calls;
    size_t fail_at; /* the call that says -EIO; 0: none */
} trace_text;

static int trace_take(const char *text, size_t length, void *user) {
    trace_text *t = (trace_text *)user;
    t->calls++;
    if (t->fail_at > 0 && t->calls >= t->fail_at) return -EIO;
    t->text = (char *)realloc(t->text, t->length + length + 1);
    if (!t->text) abort();
    memcpy(t->text + t->length, text, length);
    t->length += length;
    t->text[t->length] = 0;
    return 0;
}

static trace_text trace_write(sch_runtime *rt) {
    trace_text t;
    memset(&t, 0, sizeof t);
    EXPECT_EQ(sch_trace_write(rt, trace_take, &t), 0);
    EXPECT(t.length > 0);
    return t;
}

static size_t trace_times(const trace_text *t, const char *what) {
    size_t n = 0;
    for (const char *at = t->text; at && (at = strstr(at, what)) != NULL; at++) n++;
    return n;
}

/* Nothing is allocated or written down before a trace is started, or after it was stopped. */
TEST(trace_is_off_until_started) {
    for (unsigned workers = 0; workers <= 2; workers++) {
        checked_memory memory;
        sch_config config = support_config(&memory, workers);
        sch_runtime *rt = support_begin(&config);
        uint64_t written;
        support_run(rt, trace_some_work, NULL);
        EXPECT((schi_seen(rt) & SCHI_SEE_TRACE) == 0);
        EXPECT(schi_load_acq(&rt->trace) == NULL); /* acq: as schi_trace_event */
        for (unsigned i = 0; i < rt->num_cores; i++) {
            EXPECT(schi_load_acq(&rt->cores[i]->trace) == NULL); /* acq: as schi_trace_event */
        }
        EXPECT_EQ(sch_trace_stop(rt), 0); /* there is none: nothing to do */
        EXPECT_EQ(sch_trace_start(rt), 0);
        EXPECT(trace_events_written(rt) <= 4 * workers); /* they may go to sleep only now */
        support_run(rt, trace_some_work, NULL);
        EXPECT(trace_events_written(rt) >= 40); /* 11 spawned, each begun and ended, and more */
        EXPECT_EQ(sch_trace_stop(rt), 0);
        /* A worker that was about to write down something still does; then it gives up its core. */
        if (workers > 0) WAIT_FOR(support_metrics(rt).num_idle_workers == workers);
        written = trace_events_written(rt);
        for (int i = 0; i < 10; i++) support_run(rt, trace_some_work, NULL);
        EXPECT_EQ(trace_events_written(rt), written);
        support_end(rt, &memory);
    }
}

static const sch_spawn_desc trace_first = {"first", SCH_HERE, 0, NULL};
static const sch_spawn_desc trace_second = {"second", SCH_HERE, 0, NULL};

/* A new start forgets the trace before, a stop keeps it. */
TEST(trace_restart_forgets) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    sch_runtime *rt = support_begin(&config);
    unsigned n = 0;
    trace_text t;
    EXPECT_EQ(sch_trace_start(rt), 0);
    EXPECT_EQ(sch_join(sch_spawn_with(rt, &trace_first, support_count, &n)), 0);
    EXPECT_EQ(sch_trace_stop(rt), 0);
    EXPECT_EQ(sch_join(sch_spawn_with(rt, &trace_second, support_count, &n)), 0);
    for (int again = 0; again < 2; again++) { /* it may be written more than once */
        t = trace_write(rt);
        EXPECT(trace_times(&t, "\"first\"") > 0);
        EXPECT_EQ(trace_times(&t, "second"), 0);
        free(t.text);
    }
    EXPECT_EQ(sch_trace_start(rt), 0);
    EXPECT_EQ(sch_trace_start(rt), 0); /* of one that goes on: begins anew */
    EXPECT_EQ(sch_join(sch_spawn_with(rt, &trace_second, support_count, &n)), 0);
    t = trace_write(rt);
    EXPECT(trace_times(&t, "\"second\"") > 0);
    EXPECT_EQ(trace_times(&t, "first"), 0);
    free(t.text);
    support_end(rt, &memory); /* with a trace that was not stopped */
}

TEST(trace_bad_input) {
    checked_memory memory;
    sch_config config = support_config(&memory, 1);
    sch_runtime *rt;
    trace_text t;
    memset(&t, 0, sizeof t);
    config.trace_events = ((size_t)1 << 26) + 1;
    EXPECT(sch_config_error(&config) && strcmp(sch_config_error(&config), "trace_events") == 0);
    errno = 0;
    EXPECT(sch_runtime_new(&config) == NULL);
    EXPECT_EQ(errno, EINVAL);
    config.trace_events = 1;
    EXPECT(sch_config_error(&config) == NULL);
    rt = support_begin(&config);

    EXPECT_EQ(sch_trace_start(NULL), -EINVAL);
    EXPECT_EQ(sch_trace_stop(NULL), -EINVAL);
    EXPECT_EQ(sch_trace_write(NULL, trace_take, &t), -EINVAL);
    EXPECT_EQ(sch_trace_write(rt, trace_take, &t), -EINVAL); /* never started */
    EXPECT_EQ(sch_trace_start(rt), 0);
    EXPECT_EQ(sch_trace_write(rt, NULL, &t), -EINVAL);
    EXPECT_EQ(t.calls, 0);
    support_end(rt, &memory);
}

/* What the callback says ends the writing at once and is returned, whichever call says it. */
TEST(trace_write_that_fails) {
    checked_memory memory;
    sch_config config = support_config(&memory, 2);
    sch_runtime *rt = support_begin(&config);
    trace_text whole;
    EXPECT_EQ(sch_trace_start(rt), 0);
    for (int i = 0; i < 30; i++) support_run(rt, trace_some_work, NULL);
    EXPECT_EQ(sch_trace_stop(rt), 0);
    whole = trace_write(rt);
    for (size_t n = 1; n <= whole.calls; n = n < 5 ? n + 1 : n * 2) {
        trace_text t;
        memset(&t, 0, sizeof t);
        t.fail_at = n;
        EXPECT_EQ(sch_trace_write(rt, trace_take, &t), -EIO);
        EXPECT_EQ(t.calls, n);
        free(t.text);
    }
    free(whole.text);
    support_end(rt, &memory);
}

/* Without memory: -ENOMEM, nothing is lost, nothing recorded, and later it works. */
TEST(trace_without_memory) {
    checked_memory memory;
    sch_config config = support_config(&memory, 2);
    sch_runtime *rt;
    trace_text t;
    size_t live;
    memset(&t, 0, sizeof t);
    config.trace_events = 1000;
    rt = support_begin(&config);
    memory.limit = 1000 * sizeof(schi_mark) - 1; /* no ring fits */
    EXPECT_EQ(sch_trace_start(rt), -ENOMEM);
    memory.limit = SIZE_MAX;
    support_run(rt, trace_some_work, NULL);
    EXPECT_EQ(trace_events_written(rt), 0);
    EXPECT_EQ(sch_trace_write(rt, trace_take, &t), -EINVAL);

    EXPECT_EQ(sch_trace_start(rt), 0);
    support_run(rt, trace_some_work, NULL);
    EXPECT(trace_events_written(rt) >= 40);
    live = checked_live(&memory);
    memory.limit = 64; /* not even a copy of one event and its like */
    EXPECT_EQ(sch_trace_write(rt, trace_take, &t), -ENOMEM);
    EXPECT_EQ(checked_live(&memory), live);
    memory.limit = SIZE_MAX;
    t = trace_write(rt);
    EXPECT_EQ(checked_live(&memory), live);
    free(t.text);
    support_end(rt, &memory);
}

/* Start, stop and write from one thread while two cores run tasks: nobody is disturbed. */
typedef struct trace_storm {
    sch_runtime *rt;
    unsigned stop; /* atomic */
} trace_storm;

static void trace_storm_task(void *arg) {
    trace_storm *s = (trace_storm *)arg;
    while (!support_get(&s->stop)) trace_some_work(NULL);
}

TEST(trace_started_and_stopped_while_tasks_run) {
    checked_memory memory;
    sch_config config = support_config(&memory, 2);
    trace_storm s;
    sch_task *tasks[3];
    memset(&s, 0, sizeof s);
    config.trace_events = 256;
    s.rt = support_begin(&config);
    for (int i = 0; i < 3; i++) tasks[i] = sch_spawn(s.rt, trace_storm_task, &s);
    for (size_t i = 0; i < test_scale(200); i++) {
        trace_text t;
        switch (test_random() % 3) {
        case 0: EXPECT_EQ(sch_trace_stop(s.rt), 0); break;
        case 1: EXPECT_EQ(sch_trace_start(s.rt), 0); break;
        default:
            EXPECT_EQ(sch_trace_start(s.rt), 0);
            support_nap((long)(test_random() % 500));
            t = trace_write(s.rt);
            EXPECT(t.text && t.text[0] == '{' && strrchr(t.text, '}') != NULL);
            free(t.text);
        }
    }
    support_set(&s.stop, 1);
    for (int i = 0; i < 3; i++) EXPECT_EQ(sch_join(tasks[i]), 0);
    support_end(s.rt, &memory);
}
