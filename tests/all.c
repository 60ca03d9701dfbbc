/* all.c - the amalgamated build: the header with its implementation and every unit test in one
 * unit, so that the tests can call what is private. `make unit` builds and runs it. */
#define _GNU_SOURCE /* for the tests; the header does without (tests/include/matrix.sh) */
#include "fault_hooks.h"

#define SCH_DEBUG 3
#define SCHED_IMPLEMENTATION
#include "../sched.h"
#undef pthread_atfork
#undef pthread_create

#include "test.h"
#include "unit/kit.c"
#include "unit/os.c"
#include "unit/runq.c"
#include "unit/inject.c"
#include "unit/idle.c"
#include "unit/wheel.c"
#include "unit/task.c"
#include "unit/slab.c"
#include "unit/stack.c"
#include "unit/pool.c"
#include "unit/mix.c"
#include "unit/many.c"
#include "unit/blocking.c"
#include "unit/standby.c"
#include "unit/threads.c"
#include "unit/hooks.c"
#include "unit/wakeups.c"
#include "unit/lifecycle.c"
#include "unit/shutdown.c"
#include "unit/badinput.c"
#include "unit/current.c"
#include "unit/ops.c"
#include "unit/io.c"
#include "unit/signals.c"
#include "unit/embed.c"
#include "unit/metrics.c"
#include "unit/turn.c"
#include "unit/dump.c"
#include "unit/trace.c"
#include "unit/waiting_scenarios.c"
#include "unit/scenarios.c"
#include "unit/misuse.c"
#include "unit/coverage.c"
