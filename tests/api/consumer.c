/* consumer.c - a user's unit in C: it sees declarations only and is linked to implementation.c. */
#include "../../sched.h"

#include "../test.h"
#include <errno.h>
#include <limits.h>

enum { TASKS = 100 };

static void count(void *arg) { __atomic_fetch_add((unsigned *)arg, 1u, __ATOMIC_RELAXED); }

TEST(version) {
    EXPECT_EQ(SCH_VERSION, SCH_VERSION_MAJOR * 10000 + SCH_VERSION_MINOR * 100 + SCH_VERSION_PATCH);
}

TEST(spawn_join) {
    sch_config config = {0};
    sch_task *tasks[TASKS];
    unsigned counter = 0;
    config.workers = 2;
    sch_runtime *rt = sch_runtime_new(&config);
    if (!EXPECT(rt != NULL)) return;
    EXPECT_EQ(sch_num_workers(rt), 2);
    for (int i = 0; i < TASKS; i++) EXPECT((tasks[i] = sch_spawn(rt, count, &counter)) != NULL);
    for (int i = 0; i < TASKS; i++) EXPECT_EQ(sch_join(tasks[i]), 0);
    EXPECT_EQ(counter, TASKS);
    sch_runtime_free(rt);
}

static void spawn_and_join(void *arg) {
    sch_task *child = sch_spawn(NULL, count, arg);
    EXPECT(sch_self() != NULL);
    EXPECT(child != NULL);
    EXPECT_EQ(sch_join(child), 0);
}

TEST(join_in_a_task) {
    unsigned counter = 0;
    sch_runtime *rt = sch_runtime_new(NULL);
    if (!EXPECT(rt != NULL)) return;
    EXPECT_EQ(sch_join(sch_spawn(rt, spawn_and_join, &counter)), 0);
    EXPECT_EQ(counter, 1);
    sch_runtime_free(rt);
}

TEST(outside_of_a_runtime) {
    unsigned counter = 0;
    errno = 0;
    EXPECT(sch_spawn(NULL, count, &counter) == NULL);
    EXPECT_EQ(errno, EINVAL);
    EXPECT(sch_self() == NULL);
    EXPECT_EQ(sch_worker_index(), UINT_MAX);
    sch_runtime_free(NULL);
}

/* Another layout of the configuration, or another version, than the implementation's. */
TEST(mismatch_is_refused) {
    sch_config config = {0};
    errno = 0;
    EXPECT(sch_runtime_new_sized(&config, sizeof config - 8, SCH_VERSION) == NULL);
    EXPECT_EQ(errno, EINVAL);
}
