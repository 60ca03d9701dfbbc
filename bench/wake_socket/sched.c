/* wake_socket by sched.h: the server of echo that answers with the time. Method: client.c. */
#define BENCH_WAKE
#include "echo/sched.c"
