/* all.c - the explorer: the header on the explorer's platform, with small constants, and every
 * client, in one program. tests/model/run.sh builds and runs it. */
#define _GNU_SOURCE /* for the engine; the header does without */
#include "engine.h"

#define SCH_ASSERT(c) ((c) ? (void)0 : model_fail_at(__FILE__, __LINE__, "assertion: " #c))
#define SCH_DEBUG 3
#define SCH_RUNQ_CAP 4
#define SCHI_INDEX uint8_t
#define SCHI_HEAD uint16_t
#define SCHI_INDEX_BITS 8
#define SCHI_BIAS_ROW 1
#define SCHI_INSIDE_YIELDS 1
#define SCHI_GATHER_PAUSES 0
#define SCH_LIFO_CAP 2
#define SCH_SPIN_ROUNDS 1
#define SCH_POOL_SPIN_NS 0 /* it only looks, and time stands still meanwhile */
#define SCH_EVENT_INTERVAL 2
#define SCH_STACK_CACHE 2
#define SCH_STACK_SIZE 32768
#define SCH_SLAB_SIZE 16384
#define SCH_MAX_WORKERS 4
#define SCH_BUDGET 8
#define SCH_WAKE_COST_NS 1 /* work is always worth waking somebody */
#define SCH_MOVE_COST_NS 1
#define SCH_PLATFORM_HEADER "platform.h"
#define SCHED_IMPLEMENTATION
#include "sched.h"

#include "litmus.c"
#include "structures.c"
#include "task.c"
#include "runtime.c"
#include "blocking.c" /* after runtime.c */
#include "waiting.c" /* after task.c and runtime.c */
#include "descriptors.c" /* after waiting.c */
#include "observe.c" /* after waiting.c */
#include "gaps.c" /* after all of them */

#include "driver.h"
