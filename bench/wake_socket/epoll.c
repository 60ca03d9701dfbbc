/* wake_socket by epoll alone: the server of echo that answers with the time. Method: client.c. */
#define BENCH_WAKE
#include "echo/epoll.c"
