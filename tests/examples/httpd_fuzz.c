/* httpd_fuzz.c - bytes -> the parser of docs/examples/httpd.c -> what must be true of the result.
 *
 *   with -DFUZZ_LIBFUZZER     a libFuzzer target
 *   otherwise                 httpd_fuzz [-s SECONDS] [FILE...]   the seeds below, the files, then
 *                                                                 inputs made up from SEED
 *                             httpd_fuzz -w FOLDER                writes the seeds as files
 * An input is one buffer as it stands in a connection: anything, cut anywhere. It is copied to
 * memory of just its size, so that AddressSanitizer sees a read beyond. */
#define main httpd_main
#include "../../docs/examples/httpd.c"
#undef main

#define CHECK(condition) \
    do { \
        if (!(condition)) fail_check(#condition, __LINE__); \
    } while (0)

static const char *input; /* for the report */
static size_t input_size;

static void fail_check(const char *condition, int line) {
    fprintf(stderr, "FAIL httpd_fuzz.c:%d: %s\ninput: ", line, condition);
    for (size_t i = 0; i < input_size; i++) {
        fprintf(stderr, isprint((unsigned char)input[i]) && input[i] != '\\' ? "%c" : "\\x%02x",
                (unsigned char)input[i]);
    }
    fprintf(stderr, "\n");
    abort();
}

static bool is_within(struct text text, const char *data, size_t size) {
    return text.length == 0 ||
           (text.at >= data && text.length <= size && text.at <= data + size - text.length);
}

static void check_path(const char *path) {
    size_t length = strnlen(path, PATH_SIZE);
    CHECK(length > 0 && length < PATH_SIZE);
    CHECK(path[0] == '/' && !strstr(path, "//") && !strstr(path, "/."));

    /* As it goes out in a Location or a listing it must mean the same when it comes back. */
    static struct request again;
    static char text[3 * PATH_SIZE + 64];
    memcpy(text, "GET ", 4);
    encode_path(text + 4, path);
    for (const char *at = text + 4; *at; at++) {
        CHECK(isalnum((unsigned char)*at) || strchr("/-_.~%", *at));
    }
    strcat(text, " HTTP/1.0\r\n\r\n");
    CHECK(parse_request(&again, text, strlen(text)) == 200);
    CHECK(strcmp(again.path, path) == 0);
}

static void check_range(struct text range) {
    static const uint64_t sizes[] = {0, 1, 2, 10, 1000, UINT64_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint64_t first = 77, length = 77, size = sizes[i];
        int status = parse_range(range, size, &first, &length);
        CHECK(status == 200 || status == 206 || status == 416);
        if (status == 200) CHECK(first == 0 && length == size);
        if (status == 206) CHECK(first < size && length > 0 && length <= size - first);
    }
}

static void check_date(struct text text) {
    time_t date, again;
    char copy[64];
    if (!parse_date(text, &date)) return;
    format_date(copy, sizeof copy, date);
    struct text written = {copy, strlen(copy)};
    if (written.length == 29) CHECK(parse_date(written, &again) && again == date);
}

static void check_request(const char *data, size_t size) {
    static struct request request, again;
    static const int statuses[] = {0, 200, 400, 403, 405, 413, 414, 501, 505};
    bool known = false;
    memset(&request, 0x55, sizeof request);
    int status = parse_request(&request, data, size);
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) known |= status == statuses[i];
    CHECK(known);
    CHECK(request.length <= size && (status == 0) == (request.length == 0));
    if (status != 200) CHECK(!request.keep_alive); /* the server must not read on */
    if (status == 0) return;

    /* The head is what counts, neither what follows it nor how much of it came before. */
    CHECK(memcmp(data + request.length - 4, "\r\n\r\n", 4) == 0);
    CHECK(parse_request(&again, data, request.length) == status);
    CHECK(again.length == request.length);
    CHECK(parse_request(&again, data, request.length - 1) == 0);
    CHECK(is_within(request.line, data, request.length));
    if (status != 200) return;

    CHECK(is_within(request.query, data, request.length));
    const struct text values[] = {request.range, request.if_range, request.if_none_match,
                                  request.if_modified_since, request.accept};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        CHECK(is_within(values[i], data, request.length));
        for (size_t j = 0; j < values[i].length; j++) {
            CHECK(values[i].at[j] != '\r' && values[i].at[j] != '\n' && values[i].at[j] != '\0');
        }
    }
    CHECK(request.hosts == 1 || (request.hosts == 0 && request.minor == 0));
    CHECK(!memmem(data, request.length, "\r\nTransfer-Encoding:", 20));
    check_path(request.path);
    check_range(request.range);
    check_date(request.if_modified_since);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *copy = (char *)malloc(size ? size : 1);
    if (!copy) return 0;
    if (size > 0) memcpy(copy, data, size);
    input = copy;
    input_size = size;
    check_request(copy, size);
    struct text whole = {copy, size}; /* what is not the head's is reached at once */
    check_range(whole);
    check_date(whole);
    if (size < PATH_SIZE) {
        static char path[PATH_SIZE];
        if (decode_path(path, whole) == 200) check_path(path);
    }
    free(copy);
    return 0;
}

#ifndef FUZZ_LIBFUZZER
#define HEAD(line, fields) line " HTTP/1.1\r\nHost: x\r\n" fields "\r\n"
static const char *const seeds[] = {
    HEAD("GET /", ""),
    HEAD("HEAD /a%20b/c?d=e", "Connection: close, keep-alive\r\n"),
    HEAD("GET //a///%2fb", "Range: bytes=0-\r\n") "GET /next HTTP/1.0\r\n\r\n",
    HEAD("GET /a/%2e%2E/b", ""),
    HEAD("GET /a%00b", ""),
    HEAD("GET http://host/a", "Range: bytes=-5\r\nIf-Range: \"1-2\"\r\n"),
    HEAD("GET /a", "Range:\tbytes=1-18446744073709551616 \r\nIf-None-Match: *, \"1-2\"\r\n"),
    HEAD("GET /a", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n"),
    HEAD("GET /a", "Content-Length: 12\r\n") "Hello world!",
    HEAD("GET /a", "Transfer-Encoding: chunked\r\n"),
    HEAD("POST /a", ""),
    HEAD("BREW /a", ""),
    HEAD("GET /a", "X: a\r\n folded\r\n"),
    HEAD("GET /a", "Host: y\r\n"),
    "\r\n\r\nGET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "GET / HTTP/2.0\r\n\r\n",
    "GET / HTTP/1.1\n\n",
    "bytes=3-4",
    "bytes=-0",
    "Sun, 06 Nov 1994 08:49:37 GMT",
    "/a/%41/.b",
};
#define NUM_SEEDS (sizeof seeds / sizeof *seeds)

static uint64_t random_state;

static size_t below(size_t n) { /* splitmix64 */
    uint64_t z = random_state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return (size_t)((z ^ (z >> 31)) % n);
}

/* A seed in which a few bytes were changed, cut out, or taken from another. */
static void make_up(void) {
    static const char spice[] = "\r\n\r\n :/.%?*-,=\"0129aZ\t\0\x7f\x80\xff";
    char bytes[1024];
    const char *seed = seeds[below(NUM_SEEDS)];
    size_t size = strlen(seed);
    memcpy(bytes, seed, size);
    for (size_t n = below(6); n > 0; n--) {
        size_t at = below(size + 1), length = below(8);
        const char *other = seeds[below(NUM_SEEDS)];
        size_t from = below(strlen(other));
        switch (below(4)) {
        case 0:
            if (at < size) bytes[at] = spice[below(sizeof spice)];
            break;
        case 1: /* cut out */
            if (length > size - at) length = size - at;
            memmove(bytes + at, bytes + at + length, size - at - length);
            size -= length;
            break;
        case 2: /* the rest is another's */
            length = strlen(other) - from;
            if (at + length > sizeof bytes) break;
            memcpy(bytes + at, other + from, length);
            size = at + length;
            break;
        default: /* put in between */
            if (length > strlen(other) - from) length = strlen(other) - from;
            if (size + length > sizeof bytes) break;
            memmove(bytes + at + length, bytes + at, size - at);
            memcpy(bytes + at, other + from, length);
            size += length;
        }
    }
    LLVMFuzzerTestOneInput((const uint8_t *)bytes, size);
}

static int replay(const char *name) {
    static char bytes[1 << 16];
    FILE *file = fopen(name, "rb");
    if (!file) return 1;
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    LLVMFuzzerTestOneInput((const uint8_t *)bytes, size);
    return 0;
}

static int write_seeds(const char *folder) {
    char name[PATH_SIZE];
    for (size_t i = 0; i < NUM_SEEDS; i++) {
        snprintf(name, sizeof name, "%s/seed-%02u", folder, (unsigned)i);
        FILE *file = fopen(name, "wb");
        if (!file || fwrite(seeds[i], 1, strlen(seeds[i]), file) != strlen(seeds[i])) return 1;
        if (fclose(file) != 0) return 1;
    }
    return 0;
}

int main(int argc, char **argv) {
    const char *seed = getenv("SEED");
    uint64_t count = 0, end = sch_now();
    random_state = seed && *seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL);
    fprintf(stderr, "SEED=%" PRIu64 "\n", random_state);
    for (int option; (option = getopt(argc, argv, "s:w:")) != -1;) {
        if (option == 'w') return write_seeds(optarg);
        if (option != 's') return 2;
        end += strtoull(optarg, NULL, 10) * SCH_SECOND;
    }
    for (size_t i = 0; i < NUM_SEEDS; i++) {
        LLVMFuzzerTestOneInput((const uint8_t *)seeds[i], strlen(seeds[i]));
    }
    for (int i = optind; i < argc; i++) {
        if (replay(argv[i]) != 0) return 1;
    }
    for (; count % 256 || sch_now() < end; count++) make_up();
    printf("%u seeds, %d files, %" PRIu64 " made up\n", (unsigned)NUM_SEEDS, argc - optind, count);
    return 0;
}
#endif
