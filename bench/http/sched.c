/* http by sched.h: the server of echo with a fixed answer. Method: client.c. */
#define BENCH_HTTP
#include "echo/sched.c"
