/* wake_socket by libuv: the server of echo that answers with the time. Method: client.c. */
#define BENCH_WAKE
#include "echo/libuv.c"
