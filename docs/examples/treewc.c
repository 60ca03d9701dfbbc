/* treewc - lines, words and bytes of every regular file under a directory, counted on all cores.
 *
 *     cc -std=c11 -O2 docs/examples/treewc.c -o build/treewc -pthread
 *     build/treewc [--files] [DIR]
 *
 * The numbers are those of `LC_ALL=C wc`. The example shows how to divide work between what blocks
 * and what computes, within bounds:
 *
 *   walkers   A few blocking jobs read directories and open files. They share one list of the
 *             directories still to be read, last in, first out: going down before going on keeps it
 *             short. Nothing else grows with the tree, but the results that --files has to sort.
 *   counters  Each file is counted by a task of its own. It reads within sch_block_in_place(), so
 *             that the core does other work while the disk is slow, and counts between the reads.
 *   permits   A file is opened only with a `struct job`, which holds the buffer, and the number of
 *             those is fixed. A walker that finds none left waits. So memory, descriptors and tasks
 *             are bounded, be there a million files in one directory.
 */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1 /* openat() and its like in spite of -std=c11 */
#endif

#define SCHED_IMPLEMENTATION
#include "../../sched.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER_SIZE 65536 /* bytes read, then counted, at a time                             */
#define JOBS_MAX 128      /* files open at once, whatever the number of workers              */
#define WALKERS_MAX 8     /* directories open at once                                        */
#define STEP_MAX 1000     /* bytes of a path given to openat(); PATH_MAX is nowhere smaller  */

enum { IN_WORD = 1, IN_SPACE = 2 }; /* what a byte says about its place; 0: nothing */

struct counts {
    uint64_t lines, words, bytes;
};

struct entry { /* a directory to be read, or a file */
    struct entry *next;
    struct counts counts;
    char path[];
};

struct job { /* the permit to open a file, and what counting it takes */
    struct job *next;
    struct tree *tree;
    struct entry *file;
    int fd;           /* -1: everything is read                */
    unsigned in_word; /* 1: the last piece ended within a word */
    size_t used;      /* bytes in the buffer                   */
    unsigned char buffer[BUFFER_SIZE];
};

struct queue { /* tasks that wait: at most all walkers and count_tree() */
    sch_task *task[WALKERS_MAX + 1];
    size_t length;
};

struct tree {
    const char *top;           /* the directory to count; these six are fixed while tasks run  */
    bool keep;                 /* --files                                                      */
    bool progress;             /* stderr is a terminal                                         */
    unsigned char kind[256];   /* IN_WORD, IN_SPACE or 0 for each byte                         */
    size_t num_jobs, num_walkers;

    pthread_mutex_t mutex;     /* for all below; held for moments, never across a wait         */
    struct entry *directories; /* to be read, a stack                                          */
    size_t num_reading;        /* walkers that read one and may push more                      */
    struct queue want_directory;
    struct job *free_jobs;
    size_t num_free_jobs;
    struct queue want_job;
    struct entry *files;       /* counted, with --files                                        */
    struct counts total;
    uint64_t num_files, bytes_read, shown_at;
    bool failed;               /* something was named on stderr: exit status 1                 */
};

/*--- Waiting ------------------------------------------------------------------------------------*/

/* A condition variable for tasks. pthread_cond_wait() would block a worker, and as a task may come
 * back from a wait on another thread, it must not hold a mutex meanwhile. As with any condition
 * variable the caller holds the mutex, and looks again afterwards: others may have been faster.
 * The task is not lost if it is woken before it suspends: that wake counts. */
static void wait_in(struct tree *tree, struct queue *queue) {
    queue->task[queue->length++] = sch_self();
    pthread_mutex_unlock(&tree->mutex);
    sch_suspend(); /* nobody cancels us: it was wake_one(), and we are no longer in the queue */
    pthread_mutex_lock(&tree->mutex);
}

/* The mutex is held: the task cannot look, go on and be gone before sch_wake() has returned. */
static void wake_one(struct queue *queue) {
    if (queue->length > 0) sch_wake(queue->task[--queue->length]);
}

static void wake_all(struct queue *queue) {
    while (queue->length > 0) wake_one(queue);
}

static void report(struct tree *tree, const char *what, int error) {
    flockfile(stderr); /* strerror() may use a static buffer */
    fprintf(stderr, "%streewc: %s: %s\n", tree->progress ? "\r\033[K" : "", what, strerror(error));
    funlockfile(stderr);
    pthread_mutex_lock(&tree->mutex);
    tree->failed = true;
    pthread_mutex_unlock(&tree->mutex);
}

/*--- Counting, on the workers -------------------------------------------------------------------*/

/* Fill the buffer from the file, and close it at its end or an error: a small file takes a single
 * call of sch_block_in_place(). As with wc, what was read before an error counts. */
static void read_piece(void *arg) {
    struct job *job = arg;
    struct tree *tree = job->tree;
    bool end = false;
    for (job->used = 0; !end && job->used < BUFFER_SIZE;) {
        ssize_t n = read(job->fd, job->buffer + job->used, BUFFER_SIZE - job->used);
        if (n > 0) job->used += (size_t)n;
        end = n == 0 || (n < 0 && sch_errno() != EINTR);
        if (n < 0 && end) report(tree, job->file->path, sch_errno());
    }
    if (end) {
        close(job->fd);
        job->fd = -1;
    }

    /* Ten times a second one of us shows how far we are; here, since a terminal may block too. */
    pthread_mutex_lock(&tree->mutex);
    tree->bytes_read += job->used;
    uint64_t files = tree->num_files, megabytes = tree->bytes_read / 1000000, now = sch_now();
    bool show = tree->progress && now - tree->shown_at >= 100 * SCH_MILLISECOND;
    if (show) tree->shown_at = now;
    pthread_mutex_unlock(&tree->mutex);
    if (show) fprintf(stderr, "\r%" PRIu64 " files, %" PRIu64 " MB\033[K", files, megabytes);
}

/* As in GNU wc, printable bytes begin a word and white space ends it. Others, in the C locale all
 * from 0x80 too, do neither. Without branches on the data none is mispredicted. */
static void count_piece(struct job *job) {
    const unsigned char *kinds = job->tree->kind;
    unsigned in_word = job->in_word;
    uint64_t lines = 0, words = 0;
    for (size_t i = 0; i < job->used; i++) {
        unsigned byte = job->buffer[i], kind = kinds[byte];
        lines += byte == '\n';
        words += kind & ~in_word & IN_WORD;
        in_word = (in_word | kind) & ~(kind / IN_SPACE) & IN_WORD;
    }
    job->in_word = in_word;
    job->file->counts.lines += lines;
    job->file->counts.words += words;
    job->file->counts.bytes += job->used;
}

/* Waking a walker costs more than counting a small file, so it is done not for each permit but when
 * half of them are free: walkers begin to wait only when none is. When all are, count_tree() may
 * be waiting for just that. The mutex is held. */
static void give_back(struct job *job) {
    struct tree *tree = job->tree;
    job->next = tree->free_jobs;
    tree->free_jobs = job;
    size_t n = ++tree->num_free_jobs;
    if (n == tree->num_jobs / 2 || n == tree->num_jobs) wake_all(&tree->want_job);
}

/* The task that counts one file. */
static void count_file(void *arg) {
    struct job *job = arg;
    struct tree *tree = job->tree;
    struct entry *file = job->file;
    while (job->fd >= 0) {
        /* It fails if no thread can be made that takes over the core, which then waits for us. */
        if (sch_block_in_place(read_piece, job) != 0) read_piece(job);
        count_piece(job);
    }
    pthread_mutex_lock(&tree->mutex);
    tree->num_files++;
    tree->total.lines += file->counts.lines;
    tree->total.words += file->counts.words;
    tree->total.bytes += file->counts.bytes;
    if (tree->keep) {
        file->next = tree->files;
        tree->files = file;
    }
    give_back(job);
    pthread_mutex_unlock(&tree->mutex);
    if (!tree->keep) free(file);
}

/*--- Walking, on blocking threads ---------------------------------------------------------------*/

static struct entry *new_entry(const char *directory, const char *name) {
    size_t length = strlen(directory), size = strlen(name) + 1;
    bool slash = length > 0 && directory[length - 1] != '/';
    struct entry *entry = malloc(sizeof *entry + length + slash + size);
    if (!entry) return NULL;
    *entry = (struct entry){0};
    memcpy(entry->path, directory, length);
    if (slash) entry->path[length] = '/';
    memcpy(entry->path + length + slash, name, size);
    return entry;
}

/* Opens a directory however deep it lies, with two descriptors at most: a path that is longer than
 * the system takes is gone down in steps. Returns the descriptor or a negative errno. */
static int open_directory(const char *path, int flags) {
    int at = AT_FDCWD;
    for (;;) {
        char step[STEP_MAX];
        size_t length = strnlen(path, STEP_MAX - 1);
        while (length > 0 && path[length] != '\0' && path[length] != '/') length--;
        memcpy(step, path, length);
        step[length] = '\0';
        path += length;
        while (*path == '/') path++;

        bool last = *path == '\0';
        int fd = openat(at, step, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (last ? flags : 0));
        if (fd < 0) fd = -sch_errno();
        if (at >= 0) close(at);
        if (fd < 0 || last) return fd;
        at = fd;
    }
}

static void push_directory(struct tree *tree, struct entry *directory) {
    pthread_mutex_lock(&tree->mutex);
    directory->next = tree->directories;
    tree->directories = directory;
    wake_one(&tree->want_directory);
    pthread_mutex_unlock(&tree->mutex);
}

static void start_file(struct tree *tree, int at, const char *name, struct entry *file) {
    pthread_mutex_lock(&tree->mutex);
    while (!tree->free_jobs) wait_in(tree, &tree->want_job);
    struct job *job = tree->free_jobs;
    tree->free_jobs = job->next;
    tree->num_free_jobs--;
    pthread_mutex_unlock(&tree->mutex);

    /* Something else may have taken the file's place since we looked: neither follow a link now nor
     * wait for the other end of a FIFO. */
    job->fd = openat(at, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (job->fd < 0) {
        report(tree, file->path, sch_errno());
        free(file);
        pthread_mutex_lock(&tree->mutex);
        give_back(job);
        pthread_mutex_unlock(&tree->mutex);
        return;
    }
    job->file = file;
    job->in_word = 0;
    if (sch_go(NULL, count_file, job) != 0) count_file(job); /* no memory for a task: do it here */
}

static void read_directory(struct tree *tree, const char *path) {
    /* Links are not followed, but for the directory that was asked for. */
    int fd = open_directory(path, strcmp(path, tree->top) == 0 ? 0 : O_NOFOLLOW);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    int error = fd < 0 ? -fd : stream ? 0 : sch_errno();
    if (fd >= 0 && !stream) close(fd);
    while (stream) {
        errno = 0; /* tells the end from an error. A blocking job stays on its thread, or else... */
        struct dirent *found = readdir(stream);
        error = sch_errno(); /* ...this, which is right in any task, would be another's */
        if (!found) break;
        if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0) continue;

        struct stat info;
        struct entry *entry = new_entry(path, found->d_name);
        if (!entry) {
            report(tree, path, ENOMEM);
        } else if (fstatat(fd, found->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) {
            report(tree, entry->path, sch_errno());
            free(entry);
        } else if (S_ISDIR(info.st_mode)) {
            push_directory(tree, entry);
        } else if (S_ISREG(info.st_mode)) {
            start_file(tree, fd, found->d_name, entry);
        } else {
            free(entry); /* a link, a FIFO, a socket, a device */
        }
    }
    if (error) report(tree, path, error);
    if (stream) closedir(stream);
}

/* The job of a walker: read directories until there are none and nobody may find more. */
static void walk(void *arg) {
    struct tree *tree = arg;
    pthread_mutex_lock(&tree->mutex);
    for (;;) {
        while (!tree->directories && tree->num_reading > 0) wait_in(tree, &tree->want_directory);
        struct entry *directory = tree->directories;
        if (!directory) break;
        tree->directories = directory->next;
        tree->num_reading++;
        pthread_mutex_unlock(&tree->mutex);
        read_directory(tree, directory->path);
        free(directory);
        pthread_mutex_lock(&tree->mutex);
        tree->num_reading--;
    }
    wake_all(&tree->want_directory); /* for them it is the end too */
    pthread_mutex_unlock(&tree->mutex);
}

/* The first task: starts the walkers, waits for them, then for the files under way. */
static void count_tree(void *arg) {
    struct tree *tree = arg;
    sch_task *walker[WALKERS_MAX];
    size_t started = 0;
    struct entry *top = new_entry("", tree->top);
    if (!top) {
        report(tree, tree->top, ENOMEM);
        return;
    }
    push_directory(tree, top);
    while (started < tree->num_walkers) { /* one is enough, if there are no threads for more */
        walker[started] = sch_spawn_blocking(NULL, walk, tree);
        if (!walker[started]) break;
        started++;
    }
    if (started == 0) report(tree, "cannot walk", sch_errno());
    while (started > 0) sch_join(walker[--started]);

    pthread_mutex_lock(&tree->mutex);
    while (tree->num_free_jobs < tree->num_jobs) wait_in(tree, &tree->want_job);
    pthread_mutex_unlock(&tree->mutex);
}

/*--- Results ------------------------------------------------------------------------------------*/

static void print_counts(const struct counts *counts, const char *space, const char *name) {
    printf("%" PRIu64 " %" PRIu64 " %" PRIu64 "%s%s\n", counts->lines, counts->words, counts->bytes,
           space, name);
}

static int compare_paths(const void *a, const void *b) {
    return strcmp((*(struct entry *const *)a)->path, (*(struct entry *const *)b)->path);
}

/* Paths are written as they are: one with a newline in it takes two lines. */
static void print_files(struct tree *tree) {
    size_t n = 0;
    struct entry **files = malloc(((size_t)tree->num_files + 1) * sizeof *files);
    if (!files) {
        report(tree, "--files", ENOMEM);
        return;
    }
    for (struct entry *file = tree->files; file; file = file->next) files[n++] = file;
    qsort(files, n, sizeof *files, compare_paths);
    for (size_t i = 0; i < n; i++) {
        print_counts(&files[i]->counts, " ", files[i]->path);
        free(files[i]);
    }
    free(files);
}

static void print_scheduler(const struct tree *tree, const sch_runtime *rt, uint64_t ns) {
    fprintf(stderr, "%streewc: %" PRIu64 " files in %" PRIu64 " ms; what each worker did:\n",
            tree->progress ? "\r\033[K" : "", tree->num_files, ns / SCH_MILLISECOND);
    fputs("worker      polls     steals      parks  overflows      lends   handoffs\n", stderr);
    for (unsigned i = 0; i < sch_num_workers(rt); i++) {
        sch_worker_metrics_snapshot m;
        if (sch_worker_metrics(rt, i, &m) != 0) continue;
        const uint64_t columns[] = {m.poll_count,     m.steal_count, m.park_count,
                                    m.overflow_count, m.lend_count,  m.handoff_count};
        fprintf(stderr, "%6u", i);
        for (size_t c = 0; c < sizeof columns / sizeof *columns; c++) {
            fprintf(stderr, " %10" PRIu64, columns[c]);
        }
        fputc('\n', stderr);
    }
}

static int usage(FILE *out, int status) {
    fputs("usage: treewc [--files] [DIR]\n"
          "Counts lines, words and bytes of all regular files under DIR (default /usr/include).\n"
          "  --files   one line for each file, sorted by path, then the total\n"
          "  -h        this text\n",
          out);
    return status;
}

int main(int argc, char **argv) {
    static struct tree tree = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    bool options = true;
    for (int i = 1; i < argc; i++) {
        if (!options || argv[i][0] != '-') {
            if (tree.top) return usage(stderr, 2);
            tree.top = argv[i];
        } else if (strcmp(argv[i], "--") == 0) {
            options = false;
        } else if (strcmp(argv[i], "--files") == 0) {
            tree.keep = true;
        } else if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0) {
            return usage(stdout, 0);
        } else {
            fprintf(stderr, "treewc: unknown option %s\n", argv[i]);
            return usage(stderr, 2);
        }
    }
    if (!tree.top) tree.top = "/usr/include";
    tree.progress = isatty(STDERR_FILENO);
    for (int c = 0; c < 256; c++) { /* without setlocale() it is the C locale that says */
        tree.kind[c] = isspace(c) ? IN_SPACE : isprint(c) ? IN_WORD : 0;
    }

    sch_runtime *rt = sch_runtime_new(NULL);
    if (!rt) {
        fprintf(stderr, "treewc: cannot start: %s\n", sch_strerror(errno));
        return 1;
    }
    size_t workers = sch_num_workers(rt);
    tree.num_walkers = workers < WALKERS_MAX ? workers : WALKERS_MAX;
    tree.num_jobs = tree.num_free_jobs = 16 * workers < JOBS_MAX ? 16 * workers : JOBS_MAX;
    struct job *jobs = calloc(tree.num_jobs, sizeof *jobs);
    for (size_t i = 0; jobs && i < tree.num_jobs; i++) {
        jobs[i].tree = &tree;
        jobs[i].next = tree.free_jobs;
        tree.free_jobs = &jobs[i];
    }

    uint64_t begin = tree.shown_at = sch_now();
    sch_task *first = jobs ? sch_spawn(rt, count_tree, &tree) : NULL;
    int error = first ? sch_join(first) : -ENOMEM;
    if (error) report(&tree, "cannot start", -error);
    uint64_t end = sch_now();

    if (tree.keep) print_files(&tree);
    print_counts(&tree.total, tree.keep ? " " : "", tree.keep ? "total" : "");
    if (fflush(stdout) != 0 || ferror(stdout)) report(&tree, "standard output", errno);
    print_scheduler(&tree, rt, end - begin);
    sch_runtime_free(rt);
    free(jobs);
    return tree.failed ? 1 : 0;
}
