/* static.cpp - a C++ object with static storage holds a runtime: it is freed while the program
 * ends, by whoever ends it. Compiled as C++ with the implementation. */
#define SCH_DEBUG 3
#define SCHED_IMPLEMENTATION
#include "../../sched.h"

#include "process.h"

namespace {

struct holder {
    sch_runtime *rt = nullptr;
    const char *name;
    explicit holder(const char *n) : name(n) {}
    void begin(unsigned workers) {
        sch_config config = {};
        config.workers = workers;
        config.flavor = workers ? SCH_MULTI_THREAD : SCH_CURRENT_THREAD;
        rt = sch_runtime_new(&config);
        CHECK(rt != nullptr);
    }
    ~holder() {
        if (!rt) return;
        sch_runtime_free(rt);
        process_say(name);
    }
};

holder first("first\n"), second("second\n");

holder &local() { /* made when it is first used, so destroyed before the others */
    static holder object("local\n");
    return object;
}

unsigned waiting;

void wait_for_ever(void *) {
    process_add(&waiting, 1);
    while (sch_suspend() == 0) continue;
}

void populate(sch_runtime *rt, unsigned n) {
    for (unsigned i = 0; i < n; i++) CHECK_EQ(sch_go(rt, wait_for_ever, nullptr), 0);
    sch_detach(sch_spawn_blocking(rt, wait_for_ever, nullptr));
}

void begin() {
    first.begin(2);
    second.begin(0);
    local().begin(1);
    populate(first.rt, 20);
    populate(second.rt, 20);
    populate(local().rt, 20);
    process_await(&waiting, 20 + 1 + 1 + 20 + 1); /* nobody drives the second one's tasks */
}

void end_here(void *) { exit(3); }

/* An exception is in flight on one task's stack while the process ends on another's. */
void throw_and_wait(void *) {
    try {
        throw 7;
    } catch (int caught) {
        while (sch_suspend() == 0) continue;
        CHECK_EQ(caught, 7);
        if (caught != 7) throw;
    }
}

void end_in_catch(void *) {
    try {
        throw 8;
    } catch (int) {
        CHECK_EQ(sch_yield_now(), 0);
        exit(3);
    }
}

/* What lives on the stack of whoever calls exit is not destroyed. */
struct noisy {
    ~noisy() { process_say("unwound\n"); }
};

void end_with_objects(void *) {
    noisy object;
    exit(3);
}

} // namespace

CASE(static_main_returns, 0, "local\nsecond\nfirst\n") { begin(); }

CASE(static_main_exits, 3, "local\nsecond\nfirst\n") {
    begin();
    exit(3);
}

CASE(static_task_exits, 3, "local\nsecond\nfirst\n") {
    begin();
    (void)sch_join(sch_spawn(first.rt, end_here, nullptr));
    process_nap(60000);
}

CASE(static_job_exits, 3, "local\nsecond\nfirst\n") {
    begin();
    (void)sch_join(sch_spawn_blocking(local().rt, end_here, nullptr));
    process_nap(60000);
}

CASE(static_driven_task_exits, 3, "local\nsecond\nfirst\n") {
    begin();
    (void)sch_join(sch_spawn(second.rt, end_here, nullptr));
    process_nap(60000);
}

CASE(static_exit_amid_exceptions, 3, "local\nsecond\nfirst\n") {
    begin();
    for (int i = 0; i < 10; i++) CHECK_EQ(sch_go(first.rt, throw_and_wait, nullptr), 0);
    (void)sch_join(sch_spawn(first.rt, end_in_catch, nullptr));
    process_nap(60000);
}

CASE(static_exit_does_not_unwind, 3, "local\nsecond\nfirst\n") {
    begin();
    (void)sch_join(sch_spawn(local().rt, end_with_objects, nullptr));
    process_nap(60000);
}

/* In the child of a fork the destructors run as well, and leave the parent's runtimes alone. */
CASE(static_child_of_fork_returns, 0, "local\nsecond\nfirst\nlocal\nsecond\nfirst\n") {
    begin();
    pid_t child = fork();
    if (child == 0) return;
    CHECK_EQ(process_wait(child), 0);
}
