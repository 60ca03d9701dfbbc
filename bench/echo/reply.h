/* reply.h - what the servers in C send back.
 *   echo                      what they got
 *   http (BENCH_HTTP)         one fixed answer for each empty line, where a request without a body
 *                             ends
 *   wake_socket (BENCH_WAKE)  the time, 8 bytes
 */
#ifndef BENCH_REPLY_H
#define BENCH_REPLY_H

#include "echo/server_process.h"

#define REPLY_BUFFER 16384u /* bytes that a server reads at once */

#ifdef BENCH_HTTP
#define REPLY_CASE "http"
#define REPLY_VARIANTS "c64 c256"
#define REPLY_ANSWER \
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello, World!\n"
#define REPLY_MOST (REPLY_BUFFER / 4u)

static char reply_answers[REPLY_MOST * (sizeof REPLY_ANSWER - 1)];

static inline void reply_init(void) {
    size_t len = sizeof REPLY_ANSWER - 1;
    for (size_t i = 0; i < REPLY_MOST; i++) memcpy(reply_answers + i * len, REPLY_ANSWER, len);
}

/* state: how much of an empty line was seen, 0 at first. */
static inline size_t reply(unsigned *state, const char *in, size_t n, const char **out) {
    size_t requests = 0;
    unsigned seen = *state;
    for (size_t i = 0; i < n; i++) {
        if (in[i] == (seen % 2 == 0 ? '\r' : '\n')) {
            seen++;
        } else {
            seen = in[i] == '\r';
        }
        if (seen == 4) {
            seen = 0;
            requests++;
        }
    }
    *state = seen;
    *out = reply_answers;
    return requests * (sizeof REPLY_ANSWER - 1);
}
#elif defined BENCH_WAKE
#define REPLY_CASE "wake_socket"
#define REPLY_VARIANTS "cross free"

static inline void reply_init(void) {
}

/* state: bytes of an unfinished message. */
static inline size_t reply(unsigned *state, const char *in, size_t n, const char **out) {
    static uint64_t now; /* one connection */
    now = bench_now();
    (void)in;
    *state += (unsigned)n;
    *out = (const char *)&now;
    if (*state < sizeof now) return 0;
    *state = 0;
    return sizeof now;
}
#else
#define BENCH_ECHO
#define REPLY_CASE "echo"
#define REPLY_VARIANTS "c64 c1 c1000 big self"

static inline void reply_init(void) {
}

static inline size_t reply(unsigned *state, const char *in, size_t n, const char **out) {
    (void)state;
    *out = in;
    return n;
}
#endif

#endif /* BENCH_REPLY_H */
