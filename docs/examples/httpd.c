/* httpd - serves the files of a folder over HTTP/1.1, one task for each connection.
 *
 *     cc -std=c11 -O2 -I. docs/examples/httpd.c -o build/httpd -pthread
 *     build/httpd [-p port] [-a address] [-w workers] [-t seconds] [-q] [-m] [folder]
 *     build/httpd -d [folder]     the demo: fetches every file with 64 clients of its own
 *
 * Where to begin: serve() is the life of a connection, top to bottom. It waits wherever it has to,
 * and while it waits its thread serves others. The rest, in the order of the file:
 *
 *   parser    Bytes in, a struct request out; no waits, no system calls. It is what strangers reach
 *             first, so it is strict, and fuzzed (tests/examples/httpd_fuzz.c).
 *   files     What may wait for a disk runs in sch_block_in_place(), so that a slow disk stops one
 *             connection and not a core.
 *   limits    A head has 8 KiB and so many seconds; so has a client that asks for nothing, and one
 *             that takes in what we send. All are the deadline of one sch_await_until().
 *   live      With -m: what the scheduler does meanwhile, as a page (/sched), for Prometheus
 *             (/metrics), as a dump and as a trace. They are streams, made while they are sent.
 *   stopping  sch_runtime_free() cancels every task. Who waits for a request is told so and ends;
 *             who sends an answer has a shield up, and sends it to its end, within a last deadline.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* memmem(), strptime() and timegm() in spite of -std=c11 */
#endif

#define SCHED_IMPLEMENTATION
#include "../../sched.h"
#include "httpd_page.h" /* the page of -m: sched.html as strings */

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define HEAD_MAX 8192     /* bytes of a request's head                                          */
#define PATH_SIZE 4096    /* of a decoded path, with its NUL                                    */
#define OUT_SIZE 32768    /* sent at a time: a head, and what of the body fits behind it        */
#define LISTING_MAX 10000 /* names in the listing of a directory                                */
#define LINGER SCH_SECOND /* how long we listen after our last word, see say_goodbye()          */
#define CHUNK_HEAD 6      /* "7ff8" and the end of its line, in front of a piece of a stream    */
#define CHUNK_TAIL 8      /* the end of its line, and the last, empty piece: "0", two lines' ends */

/*--- Parser -------------------------------------------------------------------------------------*/

struct text { /* a part of a buffer; no NUL at its end */
    const char *at;
    size_t length;
};

struct request {
    size_t length;                  /* bytes of the head; 0: it has not ended yet               */
    struct text line;               /* the first line, for the log                              */
    struct text query;              /* what follows the first question mark of the target       */
    bool head;                      /* HEAD: as GET, but the body is not sent                   */
    bool keep_alive, must_close;
    unsigned minor, hosts;          /* HTTP/1.minor; Host fields seen                           */
    struct text range, if_range, if_none_match, if_modified_since, accept; /* length 0: none    */
    char path[PATH_SIZE];           /* decoded: "/", or segments that each begin with a slash,
                                       none hidden and none empty but the last                  */
};

static bool equals(struct text text, const char *word) { /* upper or lower case */
    return text.length == strlen(word) && strncasecmp(text.at, word, text.length) == 0;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* What stands before the first `end`, or all. The rest begins after it. */
static struct text take(struct text *rest, const char *end) {
    const char *found = (const char *)memmem(rest->at, rest->length, end, strlen(end));
    struct text taken = {rest->at, found ? (size_t)(found - rest->at) : rest->length};
    size_t used = taken.length + (found ? strlen(end) : 0);
    rest->at += used;
    rest->length -= used;
    return taken;
}

static struct text trim(struct text text) {
    const char *end = text.at + text.length;
    while (text.at < end && (*text.at == ' ' || *text.at == '\t')) text.at++;
    while (text.at < end && (end[-1] == ' ' || end[-1] == '\t')) end--;
    text.length = (size_t)(end - text.at);
    return text;
}

static bool is_token(struct text text) { /* what methods and names of fields are made of */
    for (size_t i = 0; i < text.length; i++) {
        if (text.at[i] <= ' ' || text.at[i] > '~' || strchr("\"(),/:;<=>?@[\\]{}", text.at[i])) {
            return false;
        }
    }
    return text.length > 0;
}

static bool has_word(struct text list, const char *word) { /* "a, b, c" */
    while (list.length > 0) {
        if (equals(trim(take(&list, ",")), word)) return true;
    }
    return false;
}

/* Digits at the beginning; what is too large becomes UINT64_MAX. Returns whether there were any. */
static bool take_number(struct text *rest, uint64_t *number) {
    const char *begin = rest->at;
    *number = 0;
    while (rest->length > 0 && is_digit(*rest->at)) {
        unsigned digit = (unsigned)(*rest->at - '0');
        bool fits = *number <= (UINT64_MAX - digit) / 10;
        *number = fits ? *number * 10 + digit : UINT64_MAX;
        rest->at++, rest->length--;
    }
    return rest->at > begin;
}

static int hex_digit(char c) {
    const char *digits = "0123456789abcdef0123456789ABCDEF", *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) % 16 : -1;
}

/* Percent-decoding comes first, so that every check sees what the file system would. Names that
 * begin with a dot are refused: "." and ".." with them, but .git and .htpasswd too. Slashes in a
 * row become one: "//host" is an address elsewhere when we send it back in a Location. */
static int decode_path(char *path, struct text target) {
    size_t n = 0;
    for (size_t i = 0; i < target.length; i++) {
        int c = (unsigned char)target.at[i];
        if (c <= ' ' || c == 127) return 400;
        if (c == '%') {
            if (target.length - i < 3) return 400;
            int high = hex_digit(target.at[i + 1]), low = hex_digit(target.at[i + 2]);
            c = high * 16 + low;
            if (high < 0 || low < 0 || c == 0) return 400;
            i += 2;
        }
        if (n == 0 && c != '/') return 400;
        if (n + 1 == PATH_SIZE) return 414;
        if (c == '/' && n > 0 && path[n - 1] == '/') continue;
        if (c == '.' && path[n - 1] == '/') return 403;
        path[n++] = (char)c;
    }
    path[n] = '\0';
    return n > 0 ? 200 : 400;
}

/* "GET /a%20file?query HTTP/1.1" */
static int parse_line(struct request *request, struct text line) {
    request->line = line;
    struct text method = take(&line, " "), target = take(&line, " "), version = line;
    if (!is_token(method) || version.length != 8 || memcmp(version.at, "HTTP/", 5) != 0 ||
        !is_digit(version.at[5]) || version.at[6] != '.' || !is_digit(version.at[7])) {
        return 400;
    }
    if (version.at[5] != '1') return 505;
    request->minor = (unsigned)(version.at[7] - '0');
    request->keep_alive = request->minor > 0;

    const char *others = "POST,PUT,DELETE,OPTIONS,PATCH,CONNECT,TRACE";
    struct text list = {others, strlen(others)};
    char name[8] = "";
    if (method.length < sizeof name) memcpy(name, method.at, method.length);
    request->head = strcmp(name, "HEAD") == 0;
    if (!request->head && strcmp(name, "GET") != 0) return has_word(list, name) ? 405 : 501;

    request->query = target;
    target = take(&request->query, "?");
    if (target.length >= 7 && strncasecmp(target.at, "http://", 7) == 0) { /* as proxies get it */
        target.at += 7, target.length -= 7;
        while (target.length > 0 && *target.at != '/') target.at++, target.length--;
        if (target.length == 0) target.at = "/", target.length = 1;
    }
    return decode_path(request->path, target);
}

/* "Name: value". We have no use for a body, and to skip one wrongly would make us read a stranger's
 * bytes as the next request: so whatever announces one is refused, and the connection ends. */
static int parse_field(struct request *request, struct text line) {
    const char *colon = (const char *)memchr(line.at, ':', line.length);
    struct text name = take(&line, ":"), value = trim(line);
    if (!colon || !is_token(name)) return 400; /* a space in front of the colon, or a folded line */
    for (size_t i = 0; i < value.length; i++) {
        unsigned char c = (unsigned char)value.at[i];
        if ((c < ' ' && c != '\t') || c == 127) return 400;
    }
    if (equals(name, "Host")) {
        request->hosts++;
    } else if (equals(name, "Connection")) {
        if (has_word(value, "close")) request->must_close = true;
        if (has_word(value, "keep-alive")) request->keep_alive = true;
    } else if (equals(name, "Content-Length")) {
        uint64_t length;
        if (!take_number(&value, &length) || value.length > 0) return 400;
        if (length > 0) return 413;
    } else if (equals(name, "Transfer-Encoding")) {
        return 501;
    } else if (equals(name, "Range")) {
        request->range = value;
    } else if (equals(name, "If-Range")) {
        request->if_range = value;
    } else if (equals(name, "If-None-Match")) {
        request->if_none_match = value;
    } else if (equals(name, "If-Modified-Since")) {
        request->if_modified_since = value;
    } else if (equals(name, "Accept")) {
        request->accept = value;
    }
    return 200;
}

/* Returns 0 if the head has not ended yet, 200, or the status to refuse it with. */
static int parse_request(struct request *request, const char *data, size_t size) {
    size_t begin = 0; /* empty lines in front of a request are to be overlooked */
    while (size - begin >= 2 && memcmp(data + begin, "\r\n", 2) == 0) begin += 2;
    memset(request, 0, offsetof(struct request, path) + 1);
    request->line.at = data;
    const char *end = (const char *)memmem(data + begin, size - begin, "\r\n\r\n", 4);
    if (!end) return 0;
    request->length = (size_t)(end - data) + 4;

    struct text rest = {data + begin, (size_t)(end - data) + 2 - begin};
    int status = parse_line(request, take(&rest, "\r\n"));
    while (status == 200 && rest.length > 0) status = parse_field(request, take(&rest, "\r\n"));
    if (status == 200 && (request->hosts > 1 || (request->hosts == 0 && request->minor > 0))) {
        status = 400;
    }
    if (status != 200 || request->must_close) request->keep_alive = false;
    return status;
}

/* Which bytes of a file are asked for: 206; 416 if it has none of them. 200, the whole file, also
 * for several ranges and for what we do not understand. */
static int parse_range(struct text range, uint64_t size, uint64_t *first, uint64_t *length) {
    uint64_t from, to;
    *first = 0, *length = size;
    if (range.length < 6 || strncasecmp(range.at, "bytes=", 6) != 0) return 200;
    range.at += 6, range.length -= 6;
    bool has_from = take_number(&range, &from);
    if (range.length == 0 || *range.at != '-') return 200;
    range.at++, range.length--;
    bool has_to = take_number(&range, &to);
    if (range.length > 0 || (!has_from && !has_to) || (has_from && has_to && to < from)) return 200;

    if (!has_from && to > 0 && size == 0) return 200; /* the last bytes of nothing */
    if (has_from ? from >= size : to == 0) return 416;
    if (!has_from) {
        *first = to < size ? size - to : 0;
        *length = size - *first;
    } else {
        *first = from;
        *length = (has_to && to < size ? to + 1 : size) - from;
    }
    return 206;
}

/* "Sun, 06 Nov 1994 08:49:37 GMT". The two forms of last century count as no date. */
static bool parse_date(struct text text, time_t *date) {
    char copy[32];
    struct tm parts;
    if (text.length == 0 || text.length >= sizeof copy) return false;
    memcpy(copy, text.at, text.length);
    copy[text.length] = '\0';
    memset(&parts, 0, sizeof parts);
    const char *end = strptime(copy, "%a, %d %b %Y %H:%M:%S GMT", &parts);
    *date = end ? timegm(&parts) : 0;
    return end && *end == '\0';
}

/*--- Server, connections ------------------------------------------------------------------------*/

struct live;

struct server {
    const char *address, *port, *folder;
    unsigned workers;
    uint64_t timeout;           /* nanoseconds that a client may take for one thing */
    bool quiet;
    struct live *live;          /* NULL without -m */
    int root;                   /* the folder */
    sch_io listener;
    struct sockaddr_storage at; /* where it listens */
    socklen_t at_length;
};

struct reply {
    int status;
    int fd;                /* the file, or -1                                          */
    const char *text;      /* otherwise the body is this                               */
    char *listing;         /* to be freed                                              */
    char note[48];         /* the text that goes with an error                         */
    uint64_t size;         /* of the file                                              */
    uint64_t first, left;  /* bytes that are still to be put into `out`                */
    time_t modified;
    char date[32], etag[40];
    const char *type;
    bool stream;           /* of a length that nobody knows: sent in pieces                    */
    bool broken;           /* a piece could not be sent                                        */
    const char *fields;    /* more of the head, or NULL                                        */
};

struct connection {
    const struct server *server;
    sch_io io;
    uint64_t last;  /* deadline of all that is still to be sent when the server stops */
    struct request request;
    struct reply reply;
    size_t used;    /* bytes in `in`; requests may follow each other                  */
    size_t filled;  /* bytes in `out`                                                 */
    size_t piece;   /* of a stream: where in `out` its text begins                    */
    char in[HEAD_MAX], out[OUT_SIZE];
};

static const char *reason(int status) {
    switch (status) {
    case 200: return "OK";
    case 206: return "Partial Content";
    case 301: return "Moved Permanently";
    case 304: return "Not Modified";
    case 400: return "Bad Request";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 416: return "Range Not Satisfiable";
    case 431: return "Request Header Fields Too Large";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    case 505: return "HTTP Version Not Supported";
    default: return "Internal Server Error";
    }
}

static const char *type_of(const char *path) {
    static const char *const types[][2] = {
        {"html", "text/html; charset=utf-8"}, {"css", "text/css; charset=utf-8"},
        {"js", "text/javascript"},            {"json", "application/json"},
        {"txt", "text/plain; charset=utf-8"}, {"md", "text/markdown; charset=utf-8"},
        {"c", "text/plain; charset=utf-8"},   {"h", "text/plain; charset=utf-8"},
        {"svg", "image/svg+xml"},             {"png", "image/png"},
        {"jpg", "image/jpeg"},                {"gif", "image/gif"},
        {"webp", "image/webp"},               {"ico", "image/x-icon"},
        {"pdf", "application/pdf"},           {"wasm", "application/wasm"},
        {"xml", "application/xml"},           {"woff2", "font/woff2"},
        {"mp4", "video/mp4"},                 {"htm", "text/html; charset=utf-8"},
    };
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof types / sizeof *types; i++) {
        if (strcasecmp(dot + 1, types[i][0]) == 0) return types[i][1];
    }
    return "application/octet-stream";
}

static void format_date(char *out, size_t size, time_t date) {
    struct tm parts;
    *out = '\0';
    if (gmtime_r(&date, &parts)) strftime(out, size, "%a, %d %b %Y %H:%M:%S GMT", &parts);
}

/* `out` has room for three times the path, and a NUL. */
static void encode_path(char *out, const char *path) {
    static const char digits[] = "0123456789ABCDEF";
    for (; *path; path++) {
        unsigned char c = (unsigned char)*path;
        bool plain = isalnum(c) || strchr("/-_.~", c);
        if (!plain) *out++ = '%', *out++ = digits[c / 16];
        *out++ = plain ? *path : digits[c % 16];
    }
    *out = '\0';
}

/*--- Files: all of this runs in sch_block_in_place() --------------------------------------------*/

/* Opens what a path names below the root. Links are not followed wherever they stand, so no name
 * leads out of the folder, also not one that is changed meanwhile. O_NONBLOCK: a FIFO must not make
 * us wait for its other end. Returns the descriptor or a negative errno. */
static int open_path(int root, const char *path) {
    for (int at = root;;) {
        char name[NAME_MAX + 1] = "."; /* for the empty segment of "/" and "/folder/" */
        size_t length = strcspn(++path, "/");
        bool last = path[length] == '\0';
        int fd = -ENAMETOOLONG;
        if (length < sizeof name) {
            if (length > 0) memcpy(name, path, length), name[length] = '\0';
            fd = openat(at, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY |
                                      (last ? 0 : O_DIRECTORY));
            if (fd < 0) fd = -sch_errno();
        }
        if (at != root) close(at);
        if (fd < 0 || last) return fd;
        at = fd;
        path += length;
    }
}

static int status_of(int error) {
    switch (-error) {
    case ENOENT: case ENOTDIR: case ENAMETOOLONG: return 404;
    case EACCES: case EPERM: case ELOOP: case EMLINK: case ENXIO: return 403;
    case EMFILE: case ENFILE: case ENOMEM: return 503;
    default: return 500;
    }
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The names in a directory that we would serve, sorted; directories end in a slash. */
static size_t read_names(DIR *stream, char **names) {
    size_t n = 0;
    struct dirent *found;
    while (n < LISTING_MAX && (found = readdir(stream)) != NULL) {
        struct stat info;
        if (found->d_name[0] == '.') continue;
        if (fstatat(dirfd(stream), found->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) continue;
        if (!S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode)) continue;
        size_t length = strlen(found->d_name);
        names[n] = (char *)malloc(length + 2);
        if (!names[n]) break;
        snprintf(names[n++], length + 2, "%s%s", found->d_name, S_ISDIR(info.st_mode) ? "/" : "");
    }
    qsort(names, n, sizeof *names, compare_names);
    return n;
}

static void print_escaped(FILE *out, const char *text) {
    for (; *text; text++) {
        switch (*text) {
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        case '&': fputs("&amp;", out); break;
        case '"': fputs("&quot;", out); break;
        default: putc(*text, out);
        }
    }
}

/* The listing of a directory as a page, in memory of its own. Takes the descriptor. */
static int make_listing(struct reply *reply, int fd, const char *path) {
    size_t size = 0, n = 0;
    DIR *stream = fdopendir(fd);
    FILE *page = open_memstream(&reply->listing, &size);
    char **names = (char **)calloc(LISTING_MAX, sizeof *names);
    if (stream && page && names) {
        n = read_names(stream, names);
        fputs("<!DOCTYPE html>\n<meta charset=\"utf-8\">\n<title>", page);
        print_escaped(page, path);
        fputs("</title>\n<ul>\n", page);
        for (size_t i = 0; i < n; i++) {
            char link[3 * (NAME_MAX + 2)];
            encode_path(link, names[i]);
            fprintf(page, "<li><a href=\"%s\">", link);
            print_escaped(page, names[i]);
            fputs("</a>\n", page);
            free(names[i]);
        }
        fputs("</ul>\n", page);
    }
    bool whole = page && !ferror(page);
    if (page && fclose(page) != 0) whole = false;
    if (stream) closedir(stream);
    if (!stream) close(fd);
    free(names);
    if (!whole || !names || !stream) return 503;
    reply->text = reply->listing;
    reply->size = reply->left = size;
    reply->type = "text/html; charset=utf-8";
    return 200;
}

/* What of a file is sent: nothing if the client has it already, a part, or the whole. */
static int choose_part(const struct request *request, struct reply *reply) {
    struct text range = request->range, etags = request->if_none_match;
    time_t date;
    if (etags.length > 0) {
        if (equals(etags, "*") || memmem(etags.at, etags.length, reply->etag, strlen(reply->etag)))
            return 304;
    } else if (parse_date(request->if_modified_since, &date) && reply->modified <= date) {
        return 304;
    }
    /* If-Range: only if the file is still the one of which the client has the other part. */
    bool same = equals(request->if_range, reply->etag) || equals(request->if_range, reply->date);
    if ((request->if_range.length > 0 && !same) || request->head) range.length = 0;
    return parse_range(range, reply->size, &reply->first, &reply->left);
}

static int find_file(struct connection *c) {
    struct reply *reply = &c->reply;
    const char *path = c->request.path;
    struct stat info;
    int fd = open_path(c->server->root, path);
    if (fd < 0) return status_of(fd);
    int error = fstat(fd, &info) == 0 ? 0 : -sch_errno();
    if (error == 0 && S_ISDIR(info.st_mode)) {
        bool slash = path[strlen(path) - 1] == '/';
        int file = slash ? open_path(fd, "/index.html") : -1;
        if (slash && file == -ENOENT) return make_listing(reply, fd, path);
        close(fd);
        if (!slash) return 301; /* or else the page's relative links would miss the folder */
        if (file < 0) return status_of(file);
        fd = file, path = "index.html";
        error = fstat(fd, &info) == 0 ? 0 : -sch_errno();
    }
    if (error != 0 || !S_ISREG(info.st_mode)) {
        close(fd);
        return error ? status_of(error) : 403;
    }
    reply->fd = fd;
    reply->size = (uint64_t)info.st_size;
    reply->modified = info.st_mtime;
    reply->type = type_of(path);
    format_date(reply->date, sizeof reply->date, info.st_mtime);
    snprintf(reply->etag, sizeof reply->etag, "\"%" PRIx64 "-%" PRIx64 "\"",
             (uint64_t)info.st_mtime, reply->size);
    return choose_part(&c->request, reply);
}

/*--- Answers ------------------------------------------------------------------------------------*/

/* Append to `out`. It is large enough for any head. */
__attribute__((format(printf, 2, 3))) static void put(struct connection *c, const char *format,
                                                      ...) {
    va_list arguments;
    size_t room = sizeof c->out - c->filled;
    va_start(arguments, format);
    int n = vsnprintf(c->out + c->filled, room, format, arguments);
    va_end(arguments);
    if (n > 0) c->filled += (size_t)n < room ? (size_t)n : room - 1;
}

static void put_head(struct connection *c) {
    struct reply *reply = &c->reply;
    char now[32];
    format_date(now, sizeof now, time(NULL));
    put(c, "HTTP/1.1 %d %s\r\nDate: %s\r\nConnection: %s\r\n", reply->status, reason(reply->status),
        now, c->request.keep_alive ? "keep-alive" : "close");
    if (reply->stream) {
        put(c, "Content-Type: %s\r\nCache-Control: no-store\r\n%s%s%s", reply->type,
            "X-Content-Type-Options: nosniff\r\n", reply->fields ? reply->fields : "",
            c->request.minor > 0 ? "Transfer-Encoding: chunked\r\n" : "");
    } else if (reply->status != 304) {
        put(c, "Content-Length: %" PRIu64 "\r\nContent-Type: %s\r\n", reply->left, reply->type);
    }
    if (reply->fd >= 0) {
        put(c, "Last-Modified: %s\r\nETag: %s\r\nAccept-Ranges: bytes\r\n", reply->date,
            reply->etag);
    }
    if (reply->status == 206) {
        put(c, "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64 "\r\n", reply->first,
            reply->first + reply->left - 1, reply->size);
    } else if (reply->status == 416) {
        put(c, "Content-Range: bytes */%" PRIu64 "\r\n", reply->size);
    } else if (reply->status == 301) {
        char location[3 * PATH_SIZE];
        encode_path(location, c->request.path);
        put(c, "Location: %s/\r\n", location);
    } else if (reply->status == 405) {
        put(c, "Allow: GET, HEAD\r\n");
    }
    put(c, "\r\n");
}

/* As much of the body as `out` has room for. */
static void fill(void *arg) {
    struct connection *c = (struct connection *)arg;
    struct reply *reply = &c->reply;
    while (reply->left > 0 && c->filled < sizeof c->out) {
        size_t room = sizeof c->out - c->filled;
        size_t length = reply->left < room ? (size_t)reply->left : room;
        ssize_t n = (ssize_t)length;
        if (reply->text) {
            memcpy(c->out + c->filled, reply->text + reply->first, length);
        } else {
            n = pread(reply->fd, c->out + c->filled, length, (off_t)reply->first);
            if (n < 0 && sch_errno() == EINTR) continue;
        }
        if (n <= 0) { /* it has become shorter than we said: all that is left is to break off */
            reply->status = 0;
            return;
        }
        c->filled += (size_t)n;
        reply->first += (uint64_t)n;
        reply->left -= (uint64_t)n;
    }
}

static void put_log(void *arg) { /* a terminal may be slow, too */
    struct connection *c = (struct connection *)arg;
    char line[128];
    if (c->server->quiet) return;
    snprintf(line, sizeof line, "%.*s", (int)c->request.line.length, c->request.line.at);
    for (char *at = line; *at; at++) *at = isprint((unsigned char)*at) ? *at : '?';
    fprintf(stderr, "%d %" PRIu64 " %s\n", c->reply.status, c->reply.left, line);
}

/* The answer to the request, or to what is wrong with it, up to the first bytes of its body: a
 * small file is read and sent with the head in one piece. */
static void prepare(void *arg) {
    struct connection *c = (struct connection *)arg;
    struct reply *reply = &c->reply;
    c->filled = 0;
    if (reply->status == 200) reply->status = find_file(c);
    if (reply->status >= 301 && reply->status != 304) {
        snprintf(reply->note, sizeof reply->note, "%d %s\n", reply->status, reason(reply->status));
        reply->text = reply->note;
        reply->first = 0, reply->left = strlen(reply->note);
        reply->type = "text/plain";
    }
    if (reply->status == 503) c->request.keep_alive = false; /* gives a descriptor back */
    put_log(c);
    put_head(c);
    if (c->request.head || reply->status == 304) reply->left = 0;
    fill(c);
}

/* Without a thread that could take over the core meanwhile it waits for us. */
static void call_blocking(sch_fn fn, struct connection *c) {
    if (sch_block_in_place(fn, c) != 0) fn(c);
}

/* The shield: an answer that has begun is sent to its end though the server was told to stop. What
 * it has left to send then has the time of one piece more. */
static bool send_out(struct connection *c) {
    uint64_t deadline = sch_now() + c->server->timeout;
    if (sch_cancelled() && c->last == SCH_FOREVER) c->last = deadline;
    if (deadline > c->last) deadline = c->last;
    sch_shield_begin(deadline);
    int error = sch_write_all_until(&c->io, c->out, c->filled, deadline, NULL);
    sch_shield_end();
    c->filled = 0;
    return error == 0;
}

/*--- Live: what the scheduler does, for -m ------------------------------------------------------*/

#define WATCHERS_MAX 100 /* of events at once                               */
#define LONGEST 8        /* waits that are told                             */
#define BUCKETS_MAX 1024 /* of a histogram                                  */
#define LOOK_EVERY (5 * SCH_MILLISECOND)
#define LOOK_IDLE (250 * SCH_MILLISECOND) /* while nobody watches           */
#define SURVEY_EVERY (200 * SCH_MILLISECOND)

enum { RUNNING, SEARCHING, PARKED, STATES };

struct waiting { /* a task that waits, or is ready and has no core */
    uint64_t id, ns;
    const char *name, *file;
    unsigned line;
    bool queued;
    char text[64];
};

struct survey { /* those that have done so for longest */
    size_t n;
    struct waiting tasks[LONGEST];
};

struct live {
    sch_runtime *rt, *observer;
    uint64_t began;
    uint64_t (*looks)[STATES]; /* atomic: how often each worker was found so                */
    unsigned watchers;         /* atomic                                                     */
    bool tracing;              /* atomic                                                     */
    pthread_mutex_t lock;      /* never held while waiting                                   */
    uint64_t surveyed;         /* under lock: when                                           */
    struct survey survey;      /* under lock                                                 */
};

/* A task in a runtime of its own: in the one that is watched it would see itself at work. Which
 * core is searching is not told, only how many are: it is taken to be one that has begun a search
 * since the last look. */
static void look_at_workers(void *arg) {
    struct live *live = (struct live *)arg;
    unsigned workers = (unsigned)sch_num_workers(live->rt);
    uint64_t *searches = (uint64_t *)calloc(workers, sizeof *searches), begin = 0;
    bool watched = true;
    while (searches && sch_sleep(watched ? LOOK_EVERY : LOOK_IDLE) == 0) {
        sch_metrics_snapshot all;
        watched = __atomic_load_n(&live->watchers, __ATOMIC_RELAXED) > 0;
        if (!watched || sch_metrics(live->rt, &all) != 0) continue;
        begin++; /* with another one each time, so that none is preferred */
        for (uint64_t n = 0; n < workers; n++) {
            sch_worker_metrics_snapshot worker;
            unsigned i = (unsigned)((begin + n) % workers);
            int state = RUNNING;
            sch_worker_metrics(live->rt, i, &worker);
            if (worker.park_unpark_count % 2) {
                state = PARKED;
            } else if (all.num_searching > 0 && worker.search_count != searches[i]) {
                state = SEARCHING;
                all.num_searching--;
            }
            searches[i] = worker.search_count;
            __atomic_fetch_add(&live->looks[i][state], 1, __ATOMIC_RELAXED);
        }
    }
    free(searches);
}

/* A stream is sent in pieces, each as large as `out`, each with its length in front. HTTP/1.0 has
 * no pieces: there the end of the connection is the end. */
static void begin_piece(struct connection *c) {
    if (c->request.minor > 0) c->filled += CHUNK_HEAD;
    c->piece = c->filled;
}

static void end_piece(struct connection *c) {
    size_t length = c->filled - c->piece;
    char head[24];
    if (c->request.minor == 0) return;
    if (length == 0) { /* this would be the last one */
        c->filled -= CHUNK_HEAD;
        return;
    }
    snprintf(head, sizeof head, "%04zx\r\n", length);
    memcpy(c->out + c->piece - CHUNK_HEAD, head, CHUNK_HEAD);
    put(c, "\r\n");
}

static void send_piece(struct connection *c) {
    end_piece(c);
    if (!c->reply.broken) c->reply.broken = !send_out(c);
    c->filled = 0;
    begin_piece(c);
}

/* What writes metrics, dumps and traces calls this. */
static int send_text(const char *text, size_t length, void *user) {
    struct connection *c = (struct connection *)user;
    while (length > 0 && !c->reply.broken) {
        size_t room = sizeof c->out - CHUNK_TAIL - c->filled, n = length < room ? length : room;
        memcpy(c->out + c->filled, text, n);
        c->filled += n, text += n, length -= n;
        if (n == room) send_piece(c);
    }
    return c->reply.broken ? -EPIPE : 0;
}

__attribute__((format(printf, 2, 3))) static void say(struct connection *c, const char *format,
                                                      ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (n > 0) send_text(text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1, c);
}

static void say_string(struct connection *c, const char *text) { /* for JSON */
    send_text("\"", 1, c);
    for (; *text; text++) {
        bool control = (unsigned char)*text < ' ';
        if (*text == '"' || *text == '\\') send_text("\\", 1, c);
        send_text(control ? " " : text, 1, c);
    }
    send_text("\"", 1, c);
}

/* Waits until a time. Returns false if the client has gone, or the server stops. What the client
 * has sent meanwhile stays where it is: it is the next request. */
static bool wait_while_there(struct connection *c, uint64_t until) {
    char next;
    sch_io_op op = sch_recvfrom_op(&c->io, &next, 1, MSG_PEEK, NULL, NULL);
    int64_t n = sch_await_until(&op.op, until);
    return n > 0 ? sch_sleep_until(until) == 0 : n == -ETIMEDOUT;
}

/* "a=1&interval=500" */
static uint64_t query_number(struct text query, const char *name, uint64_t normal, uint64_t min,
                             uint64_t max) {
    uint64_t n;
    while (query.length > 0) {
        struct text value = take(&query, "&"), key = take(&value, "=");
        if (!equals(key, name) || !take_number(&value, &n) || value.length > 0) continue;
        return n < min ? min : n > max ? max : n;
    }
    return normal;
}

static int note_wait(const sch_task_info *info, void *user) {
    struct survey *survey = (struct survey *)user;
    struct waiting *tasks = survey->tasks, task;
    size_t i = survey->n;
    task.queued = info->phase == SCH_PHASE_QUEUED;
    if (!task.queued && info->phase != SCH_PHASE_WAITING) return 0;
    if (info->phase_ns == UINT64_MAX || (i == LONGEST && tasks[--i].ns >= info->phase_ns)) return 0;
    for (; i > 0 && tasks[i - 1].ns < info->phase_ns; i--) tasks[i] = tasks[i - 1];
    task.id = info->id, task.ns = info->phase_ns;
    task.name = info->name, task.file = info->file, task.line = info->line;
    snprintf(task.text, sizeof task.text, "%s", task.queued ? "" : info->wait_text);
    tasks[i] = task;
    if (survey->n < LONGEST) survey->n++;
    return 0;
}

/* Watchers share a survey: however many they are, tasks are looked at only so often. */
static void take_survey(struct live *live, struct survey *survey) {
    uint64_t now = sch_now();
    pthread_mutex_lock(&live->lock);
    bool due = now - live->surveyed >= SURVEY_EVERY;
    if (due) live->surveyed = now;
    pthread_mutex_unlock(&live->lock);

    survey->n = 0;
    due = due && sch_each_task(live->rt, note_wait, survey) == 0; /* -EBUSY: there is a dump */
    pthread_mutex_lock(&live->lock);
    if (due) live->survey = *survey;
    *survey = live->survey;
    pthread_mutex_unlock(&live->lock);
}

static void say_histogram(struct connection *c, const char *name, sch_histogram which) {
    uint64_t counts[BUCKETS_MAX];
    const char *comma = "";
    int n = sch_histogram_read(c->server->live->rt, which, SCH_ALL_WORKERS, counts, BUCKETS_MAX);
    say(c, ",\"%s\":[", name);
    for (int i = 0; i < n && i < BUCKETS_MAX; i++) {
        if (counts[i] == 0) continue;
        uint64_t limit = sch_histogram_limit(c->server->live->rt, (size_t)i);
        say(c, "%s[%" PRIu64 ",%" PRIu64 "]", comma, limit, counts[i]);
        comma = ",";
    }
    say(c, "]");
}

static void say_worker(struct connection *c, unsigned i) {
    sch_worker_metrics_snapshot worker;
    sch_worker_metrics(c->server->live->rt, i, &worker);
    say(c, "%s{\"looks\":[", i > 0 ? "," : "");
    for (int state = 0; state < STATES; state++) {
        say(c, "%s%" PRIu64, state > 0 ? "," : "",
            __atomic_load_n(&c->server->live->looks[i][state], __ATOMIC_RELAXED));
    }
    say(c, "],\"queue\":%" PRIu64 ",\"polls\":%" PRIu64, worker.local_queue_depth,
        worker.poll_count);
    say(c, ",\"steals\":%" PRIu64 ",\"parks\":%" PRIu64 "}", worker.steal_count,
        worker.park_count);
}

/* All counters since the start, so that every message stands for itself: who watches compares two
 * of them, and may miss any. */
static void say_event(struct connection *c) {
#define FIELD(name) {#name, offsetof(sch_metrics_snapshot, name)}
    static const struct {
        const char *name;
        size_t at;
    } fields[] = {
        FIELD(num_alive_tasks), FIELD(num_running_tasks), FIELD(num_queued_tasks),
        FIELD(num_waiting_tasks), FIELD(injection_queue_depth), FIELD(num_idle_workers),
        FIELD(num_blocking_threads), FIELD(blocking_queue_depth), FIELD(spawned_tasks_count),
        FIELD(cancelled_tasks_count), FIELD(remote_wake_count), FIELD(standby_rescue_count),
        FIELD(stack_count), FIELD(timer_count), FIELD(io_opened_count), FIELD(io_closed_count),
        FIELD(io_event_count), FIELD(stall_count), FIELD(total.poll_count),
        FIELD(total.lifo_poll_count), FIELD(total.steal_count), FIELD(total.overflow_count),
        FIELD(total.park_count), FIELD(total.wake_count), FIELD(total.handoff_count),
        FIELD(total.lend_count), FIELD(total.forced_yield_count), FIELD(total.timer_fired_count),
        FIELD(total.local_queue_depth),
    };
#undef FIELD
    struct live *live = c->server->live;
    sch_metrics_snapshot all;
    struct survey survey;
    sch_metrics(live->rt, &all);
    say(c, "data: {\"now\":%" PRIu64 ",\"began\":%" PRIu64, sch_now(), live->began);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        uint64_t value;
        memcpy(&value, (const char *)&all + fields[i].at, sizeof value);
        say(c, ",\"%s\":%" PRIu64, fields[i].name, value);
    }
    say(c, ",\"workers\":[");
    for (unsigned i = 0; i < all.num_workers; i++) say_worker(c, i);
    say(c, "]");
    say_histogram(c, "poll", SCH_POLL_TIME);
    say_histogram(c, "schedule", SCH_SCHEDULE_LATENCY);
    take_survey(live, &survey);
    say(c, ",\"waits\":[");
    for (size_t i = 0; i < survey.n; i++) {
        const struct waiting *task = &survey.tasks[i];
        say(c, "%s{\"id\":%" PRIu64 ",\"ns\":%" PRIu64 ",\"queued\":%s,\"line\":%u,\"name\":",
            i > 0 ? "," : "", task->id, task->ns, task->queued ? "true" : "false", task->line);
        say_string(c, task->name);
        say(c, ",\"file\":");
        say_string(c, task->file);
        say(c, ",\"text\":");
        say_string(c, task->text);
        say(c, "}");
    }
    say(c, "]}\n\n");
}

static int begin_events(struct connection *c) {
    unsigned *watchers = &c->server->live->watchers;
    if (c->request.head) return 200;
    if (__atomic_fetch_add(watchers, 1, __ATOMIC_RELAXED) < WATCHERS_MAX) return 200;
    __atomic_fetch_sub(watchers, 1, __ATOMIC_RELAXED);
    return 503;
}

/* One that takes them in slowly gets fewer: a message is made when the one before it is out. */
static void send_events(struct connection *c) {
    uint64_t every = query_number(c->request.query, "interval", 500, 50, 60000) * SCH_MILLISECOND;
    uint64_t next = sch_now();
    say(c, "retry: 1000\n\n");
    do {
        say_event(c);
        send_piece(c);
        next += every;
        if (next < sch_now()) next = sch_now() + every;
    } while (!c->reply.broken && wait_while_there(c, next));
    __atomic_fetch_sub(&c->server->live->watchers, 1, __ATOMIC_RELAXED);
}

static int begin_metrics(struct connection *c) {
    const char *open = "application/openmetrics-text";
    struct text accept = c->request.accept;
    if (accept.length > 0 && memmem(accept.at, accept.length, open, strlen(open))) {
        c->reply.type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    }
    return 200;
}

static void send_metrics(struct connection *c) {
    bool open = strncmp(c->reply.type, "text", 4) != 0;
    int error = sch_metrics_write(c->server->live->rt, open ? SCH_OPENMETRICS : SCH_PROMETHEUS,
                                  send_text, c);
    if (error) c->reply.broken = true;
}

/* One at a time, and not during a survey: so the client has a limit for all of it. */
static void send_dump(struct connection *c) {
    uint64_t give_up = sch_now() + SCH_SECOND;
    int error;
    if (c->last == SCH_FOREVER) c->last = sch_now() + c->server->timeout;
    do {
        error = sch_dump(c->server->live->rt, 0, send_text, c);
    } while (error == -EBUSY && sch_now() < give_up && sch_sleep(10 * SCH_MILLISECOND) == 0);
    if (error && !c->reply.broken) say(c, "no dump: %s\n", sch_strerror(error));
    if (!sch_cancelled()) c->last = SCH_FOREVER;
}

static int begin_trace(struct connection *c) { /* one at a time */
    struct live *live = c->server->live;
    if (c->request.head) return 200;
    if (__atomic_exchange_n(&live->tracing, true, __ATOMIC_ACQUIRE)) return 503;
    if (sch_trace_start(live->rt) == 0) return 200;
    __atomic_store_n(&live->tracing, false, __ATOMIC_RELEASE);
    return 503;
}

static void send_trace(struct connection *c) {
    struct live *live = c->server->live;
    uint64_t seconds = query_number(c->request.query, "seconds", 2, 1, 60);
    bool there = wait_while_there(c, sch_now() + seconds * SCH_SECOND) || sch_cancelled();
    sch_trace_stop(live->rt);
    if (!there || sch_trace_write(live->rt, send_text, c) != 0) c->reply.broken = true;
    __atomic_store_n(&live->tracing, false, __ATOMIC_RELEASE);
}

static void send_page(struct connection *c) {
    for (size_t i = 0; i < sizeof httpd_page / sizeof *httpd_page; i++) {
        send_text(httpd_page[i], strlen(httpd_page[i]), c);
    }
}

struct live_path {
    const char *path, *type, *fields;
    int (*begin)(struct connection *c); /* returns a status; NULL: 200 */
    void (*send)(struct connection *c); /* what begin() began ends here */
};

static const struct live_path live_paths[] = {
    {"/sched", "text/html; charset=utf-8",
     "Content-Security-Policy: default-src 'none'; script-src 'unsafe-inline'; style-src "
     "'unsafe-inline'; img-src data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
     "form-action 'none'\r\n",
     NULL, send_page},
    {"/sched/events", "text/event-stream", NULL, begin_events, send_events},
    {"/sched/dump", "text/plain; charset=utf-8", NULL, NULL, send_dump},
    {"/sched/trace", "application/json",
     "Content-Disposition: attachment; filename=\"sched-trace.json\"\r\n", begin_trace, send_trace},
    {"/metrics", "text/plain; version=0.0.4; charset=utf-8", "Vary: Accept\r\n", begin_metrics,
     send_metrics},
};

static const struct live_path *find_live(const struct connection *c) {
    for (size_t i = 0; c->server->live && i < sizeof live_paths / sizeof *live_paths; i++) {
        if (strcmp(c->request.path, live_paths[i].path) == 0) return &live_paths[i];
    }
    return NULL;
}

/* Returns whether the client has got all of it. */
static bool answer_live(struct connection *c, const struct live_path *to) {
    struct reply *reply = &c->reply;
    reply->stream = true;
    reply->fields = to->fields;
    if (c->request.minor == 0) c->request.keep_alive = false;
    call_blocking(put_log, c);
    put_head(c);
    if (c->request.head) return send_out(c);
    begin_piece(c);
    to->send(c);
    if (reply->broken) return false;
    end_piece(c);
    if (c->request.minor > 0) put(c, "0\r\n\r\n");
    return send_out(c);
}

static void report_stall(const sch_stall *stall, void *user) {
    (void)user;
    fprintf(stderr, "httpd: worker %u has been in task %" PRIu64 " (%s, %s:%u) for %.0f ms; of %zu "
            "tasks behind it %zu are still there\n", stall->worker, stall->task, stall->name,
            stall->file, stall->line, (double)stall->ns / 1e6, stall->queued, stall->left);
}

static int write_error(const char *text, size_t length, void *user) {
    (void)user;
    return fwrite(text, 1, length, stderr) == length ? 0 : -EIO;
}

/* What must be known before the runtime starts. */
static void configure_live(sch_config *config) {
    config->task_times = true; /* for histograms, and how long tasks wait */
    config->stall_ns = 100 * SCH_MILLISECOND;
    config->on_stall = report_stall;
    config->dump_signal = SIGUSR1;
    config->dump_write = write_error;
}

static int start_live(struct live *live, sch_runtime *rt) {
    sch_config config;
    memset(&config, 0, sizeof config);
    config.workers = 1;
    config.no_io = config.no_standby = true;
    config.thread_name = "look";
    pthread_mutex_init(&live->lock, NULL);
    live->rt = rt;
    live->began = sch_now();
    live->looks = (uint64_t(*)[STATES])calloc(sch_num_workers(rt), sizeof *live->looks);
    live->observer = live->looks ? sch_runtime_new(&config) : NULL;
    return live->observer ? sch_go(live->observer, look_at_workers, live) : -ENOMEM;
}

/*--- Connections --------------------------------------------------------------------------------*/

/* Returns whether the client has got all of it. */
static bool answer(struct connection *c, int status) {
    struct reply *reply = &c->reply;
    const struct live_path *live = status == 200 ? find_live(c) : NULL;
    memset(reply, 0, sizeof *reply);
    reply->status = status;
    reply->fd = -1;
    if (sch_cancelled()) c->request.keep_alive = false; /* the server stops: our last word */
    if (live) {
        reply->type = live->type;
        if (live->begin) reply->status = live->begin(c);
        if (reply->status == 200) return answer_live(c, live);
    }
    call_blocking(prepare, c);
    bool sent = send_out(c);
    while (sent && reply->status && reply->left > 0) {
        call_blocking(fill, c);
        sent = send_out(c);
    }
    if (reply->fd >= 0) close(reply->fd);
    free(reply->listing);
    return sent && reply->status;
}

/* Wait for the next request. Returns 200, the status to refuse it with, or 0: none will come. A
 * client may be idle for so long, and then, from its first byte on, may take so long for a head. */
static int receive(struct connection *c) {
    memmove(c->in, c->in + c->request.length, c->used - c->request.length);
    c->used -= c->request.length;
    uint64_t deadline = sch_now() + c->server->timeout;
    for (;;) {
        int status = parse_request(&c->request, c->in, c->used);
        if (status) return status;
        if (c->used == sizeof c->in) return memmem(c->in, c->used, "\r\n", 2) ? 431 : 414;

        sch_io_op op = sch_read_op(&c->io, c->in + c->used, sizeof c->in - c->used);
        int64_t n = sch_await_until(&op.op, deadline);
        if (n == -ETIMEDOUT && c->used > 0) return 408;
        if (n <= 0) return 0; /* it has closed, was idle for too long, or the server stops */
        if (c->used == 0) deadline = sch_now() + c->server->timeout;
        c->used += (size_t)n;
    }
}

/* To close a socket with input in it that nobody has read resets the connection, and the client may
 * lose our answer. So say that we have ended, and listen for a moment until the client has, too. */
static void say_goodbye(struct connection *c) {
    uint64_t deadline = sch_now() + LINGER;
    int64_t n = 1;
    sch_io_shutdown(&c->io, SHUT_WR);
    while (n > 0) {
        sch_io_op op = sch_read_op(&c->io, c->in, sizeof c->in);
        n = sch_now() < deadline ? sch_await_until(&op.op, deadline) : 0;
    }
}

/* The task. */
static void serve(void *arg) {
    struct connection *c = (struct connection *)arg;
    int status;
    while ((status = receive(c)) != 0) {
        if (!answer(c, status)) return;
        if (!c->request.keep_alive) {
            say_goodbye(c);
            return;
        }
    }
}

/* Called however the task has ended, also if it never began. */
static void end_connection(void *arg) {
    struct connection *c = (struct connection *)arg;
    sch_io_close(&c->io);
    free(c);
}

static const sch_spawn_desc connection_desc = {"connection", SCH_HERE, 0, end_connection};
static const sch_spawn_desc listener_desc = {"listener", SCH_HERE, 0, NULL};

static void begin_connection(const struct server *server, sch_io io) {
    int one = 1; /* no piece waits for the client's word about the one before it */
    setsockopt(sch_io_fd(&io), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct connection *c = (struct connection *)malloc(sizeof *c);
    if (!c) {
        sch_io_close(&io);
        return;
    }
    memset(c, 0, offsetof(struct connection, in)); /* the buffers cost nothing until used */
    c->server = server;
    c->io = io;
    c->last = SCH_FOREVER;
    (void)sch_go_with(NULL, &connection_desc, serve, c); /* if it fails, c has been ended */
}

static int fail(const char *what, int error) {
    fprintf(stderr, "httpd: %s: %s\n", what, sch_strerror(error));
    return 1;
}

/* Also a task. Without descriptors or memory sch_accept() has paused, and the client still waits
 * in the system's queue: we try again. */
static void accept_connections(void *arg) {
    struct server *server = (struct server *)arg;
    for (;;) {
        sch_io io;
        int error = sch_accept(&server->listener, &io);
        if (error == 0) {
            begin_connection(server, io);
        } else if (error != -EMFILE && error != -ENFILE && error != -ENOBUFS && error != -ENOMEM) {
            if (error != -ECANCELED && error != -EBADF) fail("accept", error);
            return;
        }
    }
}

/* Begins to listen, and says where: port 0 becomes one that is free. Returns 0 or an error. */
static int start_server(struct server *server, sch_runtime *rt) {
    struct addrinfo hints, *found;
    char host[INET6_ADDRSTRLEN], port[8];
    memset(&hints, 0, sizeof hints);
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    hints.ai_socktype = SOCK_STREAM;
    if (getaddrinfo(server->address, server->port, &hints, &found) != 0) return -EINVAL;
    int error = sch_listen(&server->listener, rt, found->ai_addr, found->ai_addrlen, 0);
    freeaddrinfo(found);
    if (error) return error;

    struct sockaddr *at = (struct sockaddr *)&server->at;
    server->at_length = sizeof server->at;
    if (getsockname(sch_io_fd(&server->listener), at, &server->at_length) != 0) return -errno;
    getnameinfo(at, server->at_length, host, sizeof host, port, sizeof port,
                NI_NUMERICHOST | NI_NUMERICSERV);
    bool v6 = strchr(host, ':') != NULL;
    printf("listening on http://%s%s%s:%s\n", v6 ? "[" : "", host, v6 ? "]" : "", port);
    fflush(stdout);
    return sch_go_with(rt, &listener_desc, accept_connections, server);
}

/*--- Demo: fetches every file of the folder -----------------------------------------------------*/

#define CLIENTS 64
#define DEMO_TIME SCH_SECOND

struct file {
    char url[PATH_SIZE];
    uint64_t size;
};

static struct { /* nftw() has no argument for it */
    struct file *files;
    size_t n, prefix;
    bool failed;
} found;

struct client {
    const struct server *server;
    size_t number;
    uint64_t requests, bytes;
    const char *failure; /* NULL: none */
    size_t used;         /* bytes in `in` */
    char in[HEAD_MAX];
};

static int add_file(const char *path, const struct stat *info, int type, struct FTW *place) {
    (void)place;
    if (type != FTW_F || !S_ISREG(info->st_mode) || strstr(path + found.prefix, "/.")) return 0;
    if ((found.n & (found.n + 1)) == 0) { /* 0, 1, 3, 7: room for twice as many */
        size_t size = 2 * (found.n + 1) * sizeof *found.files;
        void *more = realloc(found.files, size);
        found.failed = !more;
        if (!more) return 1;
        found.files = (struct file *)more;
    }
    if (3 * strlen(path) < PATH_SIZE) {
        encode_path(found.files[found.n].url, path + found.prefix);
        found.files[found.n++].size = (uint64_t)info->st_size;
    }
    return 0;
}

/* Reads the head of an answer; what of the body came with it is in `in` then. Returns the length
 * that it names, or -1. */
static int64_t read_head(struct client *client, sch_io *io) {
    const char *end = NULL;
    client->used = 0;
    while (!end && client->used < sizeof client->in - 1) {
        ssize_t n = sch_read(io, client->in + client->used, sizeof client->in - 1 - client->used);
        if (n <= 0) return -1;
        client->used += (size_t)n;
        client->in[client->used] = '\0';
        end = strstr(client->in, "\r\n\r\n");
    }
    const char *length = strstr(client->in, "\r\nContent-Length: ");
    if (!end || strncmp(client->in, "HTTP/1.1 200 ", 13) != 0 || !length) return -1;
    client->used -= (size_t)(end + 4 - client->in);
    return strtoll(length + 18, NULL, 10);
}

/* One request and its answer. Returns what went wrong, or NULL. */
static const char *fetch(struct client *client, sch_io *io, const struct file *file) {
    char request[PATH_SIZE + 64];
    int length =
        snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: demo\r\n\r\n", file->url);
    if (sch_write_all(io, request, (size_t)length, NULL) != 0) return "cannot send";
    int64_t size = read_head(client, io);
    if (size < 0) return "no good answer";
    if ((uint64_t)size != file->size) return "wrong length";
    uint64_t left = file->size - client->used;
    if (client->used > file->size) return "more than asked for";
    while (left > 0) {
        ssize_t n = sch_read(io, client->in, left < HEAD_MAX ? (size_t)left : HEAD_MAX);
        if (n <= 0) return "body ends early";
        left -= (uint64_t)n;
    }
    client->requests++;
    client->bytes += file->size;
    return NULL;
}

/* A task: every 64th file, at least once, and again until the time is over. */
static void run_client(void *arg) {
    struct client *client = (struct client *)arg;
    uint64_t end = sch_now() + DEMO_TIME;
    sch_io io;
    const struct sockaddr *at = (const struct sockaddr *)&client->server->at;
    if (sch_connect(&io, NULL, at, client->server->at_length) != 0) {
        client->failure = "cannot connect";
        return;
    }
    for (size_t i = client->number; !client->failure; i += CLIENTS) {
        if (i >= found.n + client->number && sch_now() >= end) break;
        client->failure = fetch(client, &io, &found.files[i % found.n]);
        if (client->failure) fprintf(stderr, "httpd: %s\n", found.files[i % found.n].url);
    }
    sch_io_close(&io);
}

static int run_demo(const struct server *server, sch_runtime *rt) {
    const char *folder = server->folder;
    static struct client clients[CLIENTS];
    sch_task *tasks[CLIENTS];
    uint64_t requests = 0, bytes = 0;
    const char *failure = NULL;
    found.prefix = strlen(folder);
    while (found.prefix > 0 && folder[found.prefix - 1] == '/') found.prefix--;
    if (nftw(folder, add_file, 16, FTW_PHYS) != 0 || found.failed || found.n == 0) {
        fprintf(stderr, "httpd: no files in %s\n", folder);
        return 1;
    }
    uint64_t begin = sch_now();
    for (size_t i = 0; i < CLIENTS; i++) {
        clients[i].server = server;
        clients[i].number = i;
        tasks[i] = sch_spawn(rt, run_client, &clients[i]);
        if (!tasks[i]) failure = "cannot start a client";
    }
    for (size_t i = 0; i < CLIENTS; i++) {
        if (tasks[i]) sch_join(tasks[i]);
        requests += clients[i].requests;
        bytes += clients[i].bytes;
        if (clients[i].failure) failure = clients[i].failure;
    }
    double seconds = (double)(sch_now() - begin) / 1e9;
    free(found.files);
    printf("httpd: %zu files, %d clients: %.0f requests/s, %.0f MB/s, %s\n", found.n, CLIENTS,
           (double)requests / seconds, (double)bytes / seconds / 1e6,
           failure ? failure : "every status and length right");
    return failure ? 1 : 0;
}

/*--- Main ---------------------------------------------------------------------------------------*/

static int usage(FILE *out, int status) {
    fputs("usage: httpd [-p port] [-a address] [-w workers] [-t seconds] [-q] [-m] [folder]\n"
          "       httpd -d [folder]\n"
          "Serves the files of a folder (default: the current one) over HTTP/1.1.\n"
          "  -p port      default 8080; 0: one that is free\n"
          "  -a address   IPv4 or IPv6, default 127.0.0.1\n"
          "  -w workers   threads that run tasks; default: one for each CPU\n"
          "  -t seconds   that a client may take for a request, between two, and to take in each\n"
          "               piece of an answer; and that answers may take after a stop; default 10\n"
          "  -q           no line on stderr for each request\n"
          "  -m           also serve what the scheduler does, to everybody who can connect:\n"
          "               /sched, a live page; /metrics, for Prometheus; /sched/dump, all tasks;\n"
          "               /sched/trace?seconds=2, for ui.perfetto.dev. Polls of more than 100 ms\n"
          "               are reported on stderr, and SIGUSR1 writes a dump there\n"
          "  -d           demo: fetch every file with 64 clients for a second, print how it went\n",
          out);
    return status;
}

static bool is_number(const char *text, unsigned min, unsigned max, unsigned *value) {
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    *value = (unsigned)n;
    return end > text && *end == '\0' && *text != '-' && n >= min && n <= max;
}

static int run(struct server *server, bool demo) {
    static const int signals[] = {SIGINT, SIGTERM};
    int status = 0;
    sch_config config;
    sch_io stop;
    memset(&config, 0, sizeof config);
    config.workers = server->workers;
    if (server->live) configure_live(&config);
    server->root = open(server->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (server->root < 0) return fail(server->folder, -errno);
    sch_runtime *rt = sch_runtime_new(&config);
    if (!rt) return fail("cannot start", -errno);
    int error = sch_signals_open(&stop, rt, signals, 2);
    if (!error && server->live) error = start_live(server->live, rt);
    if (!error) error = start_server(server, rt);
    if (error) {
        status = fail(server->address, error);
    } else if (demo) {
        status = run_demo(server, rt);
    } else {
        sch_signal_wait(&stop);
    }
    sch_io_close(&server->listener); /* from here on nobody can connect */
    if (server->live) sch_runtime_free(server->live->observer);
    sch_runtime_free(rt);            /* returns when all that has begun has ended */
    if (server->live) free(server->live->looks);
    close(server->root);
    return status;
}

int main(int argc, char **argv) {
    static struct server server;
    static struct live live;
    unsigned port, seconds = 10;
    bool demo = false, good = true;
    server.address = "127.0.0.1";
    server.port = "8080";
    for (int option; good && (option = getopt(argc, argv, "p:a:w:t:qmdh")) != -1;) {
        switch (option) {
        case 'p': good = is_number(server.port = optarg, 0, 65535, &port); break;
        case 'a': server.address = optarg; break;
        case 'w': good = is_number(optarg, 1, 1024, &server.workers); break;
        case 't': good = is_number(optarg, 1, 86400, &seconds); break;
        case 'q': server.quiet = true; break;
        case 'm': server.live = &live; break;
        case 'd': demo = server.quiet = true; break;
        case 'h': return usage(stdout, 0);
        default: good = false;
        }
    }
    if (!good || argc - optind > 1) return usage(stderr, 2);
    if (demo) server.port = "0";
    server.folder = optind < argc ? argv[optind] : ".";
    server.timeout = seconds * SCH_SECOND;
    return run(&server, demo);
}
