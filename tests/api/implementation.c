/* implementation.c - the one unit of these programs that holds the implementation. */
#define SCHED_IMPLEMENTATION
#include "../../sched.h"
