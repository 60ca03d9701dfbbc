/* drivers_sched.h - runtimes with their drivers, for the programs that wait for descriptors.
 *   --no-standby        config.no_standby: what the standby costs
 *   --event-interval N  config.event_interval: what it costs that a busy core polls the driver
 */
#ifndef BENCH_DRIVERS_SCHED_H
#define BENCH_DRIVERS_SCHED_H

#include "bench_sched.h"

typedef struct driver_options {
    bool no_standby;
    unsigned event_interval;
} driver_options;

/* Takes them out of the arguments that bench_init sees. */
static inline driver_options driver_arguments(int *argc, char **argv) {
    driver_options options = {false, 0};
    int n = 1;
    for (int i = 1; i < *argc; i++) {
        if (strcmp(argv[i], "--no-standby") == 0) {
            options.no_standby = true;
        } else if (strcmp(argv[i], "--event-interval") == 0 && i + 1 < *argc) {
            options.event_interval = (unsigned)bench_number(argv[i], argv[i + 1]);
            i++;
        } else {
            argv[n++] = argv[i];
        }
    }
    *argc = n;
    return options;
}

static inline sch_runtime *driver_runtime(const bench *b, driver_options options) {
    sch_config config = {0};
    config.workers = b->workers;
    config.pin_workers = b->pin;
    config.no_standby = options.no_standby;
    config.event_interval = options.event_interval;
    sch_runtime *rt = sch_runtime_new(&config);
    if (rt == NULL) bench_die("no runtime");
    if (sch_num_workers(rt) != b->workers) bench_die("fewer workers than asked for");
    return rt;
}

#endif /* BENCH_DRIVERS_SCHED_H */
