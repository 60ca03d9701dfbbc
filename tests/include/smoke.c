/* smoke.c - one small program of two units, in C and C++, that order.sh and matrix.sh build in many
 * ways. BEFORE and AFTER are system headers included around ours, OURS is how ours is spelled; the
 * unit with SECOND_UNIT has no main. */
#ifdef BEFORE
#include BEFORE
#endif
#include OURS
#ifdef AFTER
#include AFTER
#endif

static void increment(void *arg) { ++*(int *)arg; }

static int smoke(void) {
    struct sched_param parameter; /* POSIX's declarations must be there, whoever came first */
    int count = 0;
    sch_runtime *rt = sch_runtime_new(NULL);
    if (!rt) return 1;
    sch_task *task = sch_spawn(rt, increment, &count);
    int result = task ? sch_join(task) : 1;
    sch_runtime_free(rt);
    parameter.sched_priority = 0;
    return result != 0 || count != 1 || sched_yield() != parameter.sched_priority;
}

int smoke_second_unit(void);

#ifdef SECOND_UNIT
int smoke_second_unit(void) { return smoke(); }
#else
int main(void) { return smoke() || smoke_second_unit(); }
#endif
