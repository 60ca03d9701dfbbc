/* dlopen.c - a shared object that holds the implementation comes and goes: nothing of it may stay
 * behind that runs later (a thread, a handler for forks). PLUGIN names it; LOADS=n sets how often
 * (default 100). It is not linked to the implementation itself. */
#define _GNU_SOURCE
#include "process.h"

#include <dirent.h>
#include <dlfcn.h>

typedef struct plugin {
    void *object;
    int (*begin)(unsigned workers);
    unsigned (*work)(void);
    void (*end)(void);
    int (*shutdown)(void);
    bool (*migrate)(unsigned rounds);
} plugin;

static void *plugin_symbol(void *object, const char *name) {
    void *symbol = dlsym(object, name);
    CHECK(symbol != NULL);
    return symbol;
}

static void plugin_load(plugin *p) {
    const char *path = getenv("PLUGIN");
    CHECK(path != NULL);
    p->object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!p->object) fprintf(stderr, "%s\n", dlerror());
    CHECK(p->object != NULL);
    *(void **)&p->begin = plugin_symbol(p->object, "plugin_begin");
    *(void **)&p->work = plugin_symbol(p->object, "plugin_work");
    *(void **)&p->end = plugin_symbol(p->object, "plugin_end");
    *(void **)&p->shutdown = plugin_symbol(p->object, "plugin_shutdown");
    *(void **)&p->migrate = plugin_symbol(p->object, "plugin_migrate");
}

/* Where a libc unloads at all (musl does not), it is gone. */
static void plugin_unload(plugin *p) {
    CHECK_EQ(dlclose(p->object), 0);
#if defined(__GLIBC__)
    CHECK(dlopen(getenv("PLUGIN"), RTLD_NOW | RTLD_NOLOAD) == NULL);
#endif
}

static int plugin_entries(const char *path) {
    int n = 0;
    DIR *dir = opendir(path);
    for (; dir && readdir(dir); n++) continue;
    if (dir) closedir(dir);
    return n;
}

static unsigned plugin_loads(void) {
    const char *text = getenv("LOADS");
    return text && *text ? (unsigned)strtoul(text, NULL, 0) : 100;
}

/* A child of ours, in which nothing of the unloaded object may be called. */
static void plugin_fork(void) {
    pid_t child = fork();
    if (child == 0) _exit(7);
    CHECK_EQ(process_wait(child), 7);
}

typedef enum plugin_way { PLUGIN_FREES, PLUGIN_SHUTS_DOWN, PLUGIN_DESTRUCTS } plugin_way;

static void plugin_cycle(unsigned i, plugin_way way) {
    plugin p;
    plugin_load(&p);
    CHECK_EQ(p.begin(i % 4), 0);
    CHECK_EQ(p.work(), 12);
    if (i % 10 == 0) plugin_fork();
    if (way == PLUGIN_FREES) p.end();
    if (way == PLUGIN_SHUTS_DOWN) CHECK_EQ(p.shutdown(), 0);
    plugin_unload(&p);
    if (i % 10 == 0) plugin_fork();
}

static void plugin_cycles(plugin_way way) {
    int fds = plugin_entries("/dev/fd"), threads = plugin_entries("/proc/self/task");
    for (unsigned i = 0; i < plugin_loads(); i++) plugin_cycle(i, way);
    CHECK_EQ(plugin_entries("/dev/fd"), fds);
    for (int i = 0; i < 10000 && plugin_entries("/proc/self/task") > threads; i++) process_nap(1);
    CHECK_EQ(plugin_entries("/proc/self/task"), threads);
}

CASE(dlopen_run_free_dlclose, 0, "") { plugin_cycles(PLUGIN_FREES); }
CASE(dlopen_shut_down_dlclose, 0, "") { plugin_cycles(PLUGIN_SHUTS_DOWN); }
CASE(dlopen_destructor_frees, 0, "") { plugin_cycles(PLUGIN_DESTRUCTS); }

/* On a thread that ends before or after the object is gone: what it keeps for the thread goes. */
static void *plugin_thread(void *arg) {
    plugin_cycle(*(unsigned *)arg, PLUGIN_FREES);
    return NULL;
}

CASE(dlopen_on_other_threads, 0, "") {
    for (unsigned i = 0; i < plugin_loads(); i++) {
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, plugin_thread, &i), 0);
        pthread_join(thread, NULL);
    }
}

/* The process ends while it is loaded and runs: its destructor frees. */
CASE(dlopen_process_ends, 3, "") {
    plugin p;
    plugin_load(&p);
    CHECK_EQ(p.begin(3), 0);
    CHECK_EQ(p.work(), 12);
    exit(3);
}

/* A child unloads what its parent's threads ran in: the destructor must not wait for them. */
CASE(dlopen_child_unloads, 0, "") {
    for (unsigned i = 0; i < 4; i++) {
        plugin p;
        pid_t child;
        plugin_load(&p);
        CHECK_EQ(p.begin(i), 0);
        CHECK_EQ(p.work(), 12);
        child = fork();
        if (child == 0) {
            CHECK_EQ(p.shutdown(), -EOWNERDEAD);
            plugin_unload(&p);
            if (!PROCESS_TSAN) plugin_cycle(i, PLUGIN_FREES);
            _exit(7);
        }
        CHECK_EQ(process_wait(child), 7);
        CHECK_EQ(p.work(), 24);
        p.end();
        plugin_unload(&p);
    }
}

/* ClickHouse silk#66, orly#555, jemalloc#2944, llvm#47179: the address of a thread-local was kept
 * while a fiber moved to another thread. */
CASE(dlopen_tasks_change_threads, 0, "") {
    for (unsigned workers = 1; workers <= 3; workers++) {
        plugin p;
        plugin_load(&p);
        CHECK_EQ(p.begin(workers), 0);
        CHECK(p.migrate(2000));
        p.end();
        plugin_unload(&p);
    }
}

/* One runtime after the other in the same object. */
CASE(dlopen_twice_a_runtime, 0, "") {
    plugin p;
    plugin_load(&p);
    for (unsigned i = 1; i <= 3; i++) {
        CHECK_EQ(p.begin(i - 1), 0);
        CHECK_EQ(p.work(), 12 * i);
        p.end();
    }
    plugin_unload(&p);
}
