// consumer_cxx.cpp - a user's unit in C++, linked to the implementation compiled as C and as C++.
#include "../../sched.h"

#include "../test.h"
#include <atomic>
#include <thread>
#include <vector>

static void count(void *arg) { static_cast<std::atomic<int> *>(arg)->fetch_add(1); }

static void spawn_and_join(void *arg) {
    EXPECT_EQ(sch_join(sch_spawn(nullptr, count, arg)), 0);
}

TEST(cxx_spawn_join) {
    sch_config config = {};
    config.workers = 2;
    sch_runtime *rt = sch_runtime_new(&config);
    if (!EXPECT(rt != nullptr)) return;
    std::atomic<int> counter{0};
    std::vector<sch_task *> tasks;
    for (int i = 0; i < 100; i++) tasks.push_back(sch_spawn(rt, count, &counter));
    for (sch_task *task : tasks) EXPECT_EQ(sch_join(task), 0);
    EXPECT_EQ(sch_join(sch_spawn(rt, spawn_and_join, &counter)), 0);
    EXPECT_EQ(counter.load(), 101);
    sch_runtime_free(rt);
}

TEST(cxx_spawn_from_a_thread) {
    sch_runtime *rt = sch_runtime_new(nullptr);
    if (!EXPECT(rt != nullptr)) return;
    std::atomic<int> counter{0};
    std::thread thread([&] {
        for (int i = 0; i < 100; i++) EXPECT_EQ(sch_join(sch_spawn(rt, count, &counter)), 0);
    });
    thread.join();
    EXPECT_EQ(counter.load(), 100);
    sch_runtime_free(rt);
}

static void catches(void *arg) {
    try {
        throw 7;
    } catch (int value) {
        *static_cast<int *>(arg) = value;
    }
}

TEST(cxx_exception_inside_a_task) {
    sch_runtime *rt = sch_runtime_new(nullptr);
    if (!EXPECT(rt != nullptr)) return;
    int value = 0;
    EXPECT_EQ(sch_join(sch_spawn(rt, catches, &value)), 0);
    EXPECT_EQ(value, 7);
    sch_runtime_free(rt);
}
