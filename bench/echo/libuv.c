/* echo by libuv. Worker i is a thread with a loop of its own; the main thread accepts and hands the
 * connections to them in turn. Written with uv_try_write, uv_write only for what is left. Method:
 * client.c. */
#include "echo/reply.h"
#include <uv.h>

#define WORKERS_MAX 64u

typedef struct connection {
    uv_tcp_t tcp;
    struct connection *next;
    int fd;
    unsigned state;
} connection;

typedef struct rest {
    uv_write_t write;
    char bytes[];
} rest;

typedef struct worker {
    uv_loop_t loop;
    uv_async_t new_connection;
    uv_mutex_t lock;
    connection *first;
    unsigned index;
    bool pin;
    char in[REPLY_BUFFER];
} worker;

static worker workers[WORKERS_MAX];

static void on_closed(uv_handle_t *handle) {
    free(handle->data);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    worker *w = handle->loop->data;
    (void)suggested;
    *buf = uv_buf_init(w->in, sizeof w->in);
}

static void on_written(uv_write_t *request, int status) {
    (void)status;
    free(request);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *in) {
    connection *c = stream->data;
    const char *out;
    if (n == 0) return;
    if (n < 0) {
        uv_close((uv_handle_t *)stream, on_closed);
        return;
    }
    size_t len = reply(&c->state, in->base, (size_t)n, &out);
    if (len == 0) return;
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)out, (unsigned)len);
    int done = uv_try_write(stream, &buf, 1);
    size_t written = done > 0 ? (size_t)done : 0;
    if (written == len || (done < 0 && done != UV_EAGAIN)) return;
    rest *r = malloc(sizeof *r + len - written);
    if (r == NULL) bench_die("no memory");
    memcpy(r->bytes, out + written, len - written);
    buf = uv_buf_init(r->bytes, (unsigned)(len - written));
    if (uv_write(&r->write, stream, &buf, 1, on_written) != 0) free(r);
}

static void on_new_connection(uv_async_t *async) {
    worker *w = async->data;
    uv_mutex_lock(&w->lock);
    connection *c = w->first;
    w->first = NULL;
    uv_mutex_unlock(&w->lock);
    while (c != NULL) {
        connection *next = c->next;
        c->tcp.data = c;
        if (uv_tcp_init(&w->loop, &c->tcp) != 0 || uv_tcp_open(&c->tcp, c->fd) != 0 ||
            uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read) != 0) {
            bench_die("no connection");
        }
        c = next;
    }
}

static void work(void *arg) {
    worker *w = arg;
    if (w->pin) bench_pin_self(w->index);
    uv_run(&w->loop, UV_RUN_DEFAULT);
}

int main(int argc, char **argv) {
    static bench b;
    bench_init(&b, argc, argv, REPLY_CASE, "libuv", 50000, REPLY_VARIANTS);
    if (bench_is(&b, "self") || b.workers > WORKERS_MAX) return BENCH_SKIP;
    reply_init();
    for (unsigned i = 0; i < b.workers; i++) {
        worker *w = &workers[i];
        uv_thread_t thread;
        w->index = i;
        w->pin = b.pin;
        w->new_connection.data = w;
        if (uv_loop_init(&w->loop) != 0 || uv_mutex_init(&w->lock) != 0 ||
            uv_async_init(&w->loop, &w->new_connection, on_new_connection) != 0) {
            bench_die("no loop");
        }
        w->loop.data = w;
        if (uv_thread_create(&thread, work, w) != 0) bench_die("no thread");
    }
    for (unsigned next = 0;; next++) {
        worker *w = &workers[next % b.workers];
        connection *c = calloc(1, sizeof *c);
        if (c == NULL) bench_die("no memory");
        c->fd = accept4(SERVER_LISTENER, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (c->fd < 0) bench_die("accept failed");
        uv_mutex_lock(&w->lock);
        c->next = w->first;
        w->first = c;
        uv_mutex_unlock(&w->lock);
        uv_async_send(&w->new_connection);
    }
}
