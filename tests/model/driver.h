/* driver.h - the explorer's search, random strategies, replay, shrinking, reports, command line.
 * Included once, after the clients; defines main. */
#ifndef MODEL_DRIVER_H
#define MODEL_DRIVER_H

#include "engine.h"

enum { MODEL_SMOKE, MODEL_CI, MODEL_ALL };

static struct model_command {
    const char *only, *replay, *weaken;
    bool first_failure, list_sites, list_clients, no_reduce, brief, mutant;
    int level, bound;
    long random;
    uint64_t seed;
    double budget;
} C = {.level = MODEL_CI, .bound = -2, .random = -1, .seed = 1};

static double model_seconds(void) {
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts); /* a busy machine must not mean less search */
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Scripts: what an execution did other than the default -----------------------------------------*/

static model_taken model_script[MODEL_LOG], model_trial[MODEL_LOG];

static void model_print_script(const model_taken *script, unsigned n) {
    if (n == 0) printf("-");
    for (unsigned i = 0; i < n; i++) {
        printf("%s%u%c%u", i ? "," : "", script[i].point, script[i].is_thread ? 't' : 'v',
               script[i].taken);
    }
}

static unsigned model_parse_script(const char *text, model_taken *script) {
    unsigned n = 0;
    while (*text && *text != '-' && n < MODEL_LOG) {
        char *end;
        script[n].point = (uint32_t)strtoul(text, &end, 10);
        script[n].is_thread = *end == 't';
        if (*end != 't' && *end != 'v') break;
        script[n++].taken = (uint16_t)strtoul(end + 1, &end, 10);
        text = *end == ',' ? end + 1 : end;
    }
    return n;
}

static void model_run_script(const model_taken *script, unsigned n) {
    uint64_t executions = E.executions, steps = E.all_steps;
    E.script = script;
    E.script_length = n;
    model_run(MODEL_REPLAY);
    E.executions = executions;
    E.all_steps = steps;
}

/* The same kind of failure: the texts agree up to where names and numbers begin. */
static bool model_same_kind(const char *a, const char *b) { return strncmp(a, b, 12) == 0; }

/* Leave out parts of the script as long as the execution still fails; returns its new length. */
static unsigned model_shrink(model_taken *script, unsigned n) {
    char message[sizeof E.message];
    double until = model_seconds() + 5;
    memcpy(message, E.message, sizeof message);
    for (unsigned chunk = n > 1 ? n / 2 : 1; n > 0; chunk = chunk > 1 ? chunk / 2 : 1) {
        bool shorter = false;
        for (unsigned i = 0; i < n && model_seconds() < until;) {
            unsigned cut = i + chunk < n ? chunk : n - i;
            memcpy(model_trial, script, i * sizeof *script);
            memcpy(model_trial + i, script + i + cut, (n - i - cut) * sizeof *script);
            model_run_script(model_trial, n - cut);
            if (E.failed && model_same_kind(E.message, message)) {
                n = E.log_length; /* what it did do: entries that had no effect are gone, too */
                memcpy(script, E.log, n * sizeof *script);
                shorter = true;
            } else {
                i += cut;
            }
        }
        if (chunk == 1 && !shorter) break;
        if (model_seconds() >= until) break;
    }
    model_run_script(script, n);
    return n;
}

/* Reports ---------------------------------------------------------------------------------------*/

static const char *const model_op_names[] = {
    "load", "store", "xchg", "add", "sub", "or", "and", "cas", "cas_weak", "rd", "wr", "lock",
    "unlock", "word_wait", "word_wake", "alarm_set", "alarm_wait", "start", "join", "pause",
    "other"};
static const char *const model_order_names[] = {"rlx", "acq", "rel", "acqrel", "seq"};

static void model_print_trace(void) {
    uint64_t from = E.trace_length > MODEL_TRACE ? E.trace_length - MODEL_TRACE : 0;
    for (uint64_t i = from; i < E.trace_length; i++) {
        const model_step *s = &E.trace[i % MODEL_TRACE];
        bool atomic = s->site->op <= MODEL_CAS_WEAK;
        printf("  %5u T%u %s%s%s %s = %#llx%s", s->step, s->thread, model_op_names[s->site->op],
               atomic ? "_" : "", atomic ? model_order_names[s->order] : "", s->site->what,
               (unsigned long long)s->value, s->failed ? " (failed)" : "");
        if (s->age) printf(" (%u stores old)", s->age);
        printf("  %s [%lx]\n", model_where(s->site), (unsigned long)(s->address & 0xffffff));
    }
    for (unsigned t = 0; t < E.num_threads; t++) {
        printf("  T%u %s, last at %s\n", t, model_state_name(E.threads[t].state),
               model_where(E.threads[t].at));
    }
}

/* The execution that just ran has failed: check that it replays, shorten it, show it. */
static void model_report(const char *program, bool shrink) {
    char message[sizeof E.message];
    unsigned n = E.log_length;
    memcpy(model_script, E.log, n * sizeof *model_script);
    memcpy(message, E.message, sizeof message);
    model_run_script(model_script, n);
    if (!E.failed || strcmp(message, E.message) != 0) {
        printf("FAIL %s: %s\n  engine: the replay differs: %s\n", E.client->name, message,
               E.failed ? E.message : "no failure");
        return;
    }
    if (shrink) n = model_shrink(model_script, n);
    E.tracing = true;
    model_run_script(model_script, n);
    E.tracing = false;
    printf("FAIL %s: %s\n", E.client->name, E.failed ? E.message : message);
    model_print_trace();
    printf("  replay: %s --client =%s --replay ", program, E.client->name);
    model_print_script(model_script, n);
    if (C.weaken) printf(" --weaken '%s'", C.weaken);
    printf("\n");
}

/* Sites -----------------------------------------------------------------------------------------*/

static unsigned model_num_sites(void) {
    return (unsigned)(model_sites_end - model_sites_begin);
}

static void model_site_name(unsigned id, char *out, size_t size) {
    const model_site *site = model_sites_begin[id];
    unsigned same = 1;
    size_t n;
    for (unsigned i = 0; i < id; i++) {
        const model_site *other = model_sites_begin[i];
        same += strcmp(other->func, site->func) == 0 && other->op == site->op &&
                strcmp(other->what, site->what) == 0;
    }
    n = (size_t)snprintf(out, size, "%s:%s(%s)", site->func, model_op_names[site->op], site->what);
    if (same > 1 && n < size) (void)snprintf(out + n, size - n, "#%u", same);
    for (char *to = out, *from = out;; from++) { /* no blanks */
        if (*from != ' ') *to++ = *from;
        if (*from == 0) break;
    }
}

static void model_list_sites(void) {
    for (unsigned i = 0; i < model_num_sites(); i++) {
        const model_site *s = model_sites_begin[i];
        char name[300];
        if (s->is_client || s->op > MODEL_CAS_WEAK) continue;
        model_site_name(i, name, sizeof name);
        printf("site %u %s %s %s:%d hits %llu %s\n", i, model_op_names[s->op],
               model_order_names[s->order], model_base_name(s->file), s->line,
               (unsigned long long)s->hits, name);
    }
}

/* One step weaker: what[:a|:r], by number or name. NULL: there is no such thing. */
static model_site *model_weaken(const char *what) {
    size_t length = strlen(what);
    char half = 0;
    model_site *site = NULL;
    if (length > 2 && what[length - 2] == ':' &&
        (what[length - 1] == 'a' || what[length - 1] == 'r')) {
        half = what[length - 1];
        length -= 2;
    }
    for (unsigned i = 0; i < model_num_sites(); i++) {
        char name[300], number[16];
        model_site_name(i, name, sizeof name);
        (void)snprintf(number, sizeof number, "%u", i);
        if ((strlen(name) == length && strncmp(name, what, length) == 0) ||
            (strlen(number) == length && strncmp(number, what, length) == 0)) {
            site = model_sites_begin[i];
            break;
        }
    }
    if (!site || site->op > MODEL_CAS_WEAK) return NULL;
    switch (site->order) {
    case MODEL_SEQ:
        site->order = site->op == MODEL_LOAD    ? MODEL_ACQ
                      : site->op == MODEL_STORE ? MODEL_REL
                                                : MODEL_ACQREL;
        return site;
    case MODEL_ACQREL: site->order = half == 'r' ? MODEL_REL : MODEL_ACQ; return site;
    case MODEL_ACQ:
    case MODEL_REL: site->order = MODEL_RLX; return site;
    default: return NULL;
    }
}

/* The search ------------------------------------------------------------------------------------*/

typedef struct model_result {
    uint64_t searched, random, steps;
    unsigned restarts;
    int bound;      /* the last one that was begun */
    bool exhausted; /* all of that bound */
    bool complete;  /* no bound left anything out */
    bool failed, unused;
    double seconds;
} model_result;

static bool model_next(void) {
    while (E.num_alternatives > 0) {
        model_alternatives *a = &E.alternatives[E.num_alternatives - 1];
        if (a->taken + 1 < a->n) {
            a->taken++;
            return true;
        }
        E.num_alternatives--;
    }
    return false;
}

static void model_forget_objects(void) {
    memset(E.slots, 0, sizeof E.slots);
    E.num_objects = 0;
}

/* All executions of one bound; false: it failed or the time is up. */
static bool model_search_bound(model_result *r, int bound, double until) {
    unsigned before = 0;
    E.bound = bound;
    E.options.stale = E.client->options.stale < bound ? E.client->options.stale : bound;
    E.num_alternatives = 0;
    E.truncated = false;
    for (;;) {
        if (E.num_objects > MODEL_OBJECTS / 2) {
            model_forget_objects();
            E.reduce = false;
        }
        model_run(MODEL_SEARCH);
        r->searched++;
        if (E.steps > E.length) E.length = E.steps;
        if (E.failed) return false;
        if (E.grown && E.reduce) { /* what was left out before may matter now */
            E.num_alternatives = 0;
            E.truncated = false;
            if (++r->restarts > 1000) E.reduce = false;
        } else if (!model_next()) {
            return true;
        }
        if ((++before & 63) == 0 && model_seconds() > until) return false;
    }
}

static int model_compare_u32(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void model_random_one(uint64_t seed, long i) {
    unsigned n = i % 4 == 2 ? MODEL_CHANGES : i % 4 == 3 ? 0 : 2; /* PCT with d = 3, d = 9; walk */
    model_random_seed(seed * UINT64_C(1000003) + (uint64_t)i);
    E.walk = n == 0 ? 2u << model_random_below(5) : 0;
    for (unsigned c = 0; c < n; c++) E.changes[c] = 1 + model_random_below(E.length + 1);
    qsort(E.changes, n, sizeof *E.changes, model_compare_u32);
    E.changes[n] = UINT32_MAX;
    E.next_change_index = 0;
    E.next_change = E.changes[0];
    E.lowest = 0;
    E.after = n > 0 && model_random() >> 63;
    model_run(MODEL_RANDOM);
    if (E.steps > E.length) E.length = E.steps;
}

/* Does the weakened site run here at all, if it has not without a switch at the wrong moment? */
static bool model_random_hits(const model_site *weak, model_result *r, long random) {
    E.options.stale = E.client->options.stale;
    for (long i = 0; i < 100 && i < random && !E.failed && weak->hits == 0; i++) {
        model_random_one(C.seed + 1, i);
        r->random++;
    }
    return weak->hits > 0;
}

/* quick: no more than a few random executions. */
static model_result model_explore(const model_client *client, model_site *weak, bool quick) {
    model_result r;
    double start = model_seconds(), budget = C.budget;
    int bound = client->options.bound;
    long random = client->options.random;
    memset(&r, 0, sizeof r);
    if (budget <= 0) budget = C.level == MODEL_SMOKE ? 1 : C.level == MODEL_CI ? 10 : 600;
    if (weak) weak->hits = 0;
    if (C.level == MODEL_SMOKE) {
        if (bound > 1 && client->options.outcomes == 0 && !client->options.fails) bound = 1;
        random = (random + 19) / 20;
    } else if (C.level == MODEL_ALL) {
        if (bound >= 0) bound++;
        random *= 100;
    }
    if (C.bound > -2) bound = C.bound;
    if (C.random >= 0 && random > 0) random = C.random;
    E.client = client;
    E.options = client->options;
    E.executions = E.all_steps = 0;
    E.seen_outcomes = 0;
    E.length = 1;
    E.reduce = !C.no_reduce;
    r.bound = -1;
    model_forget_objects();
    for (long i = 0; quick && i < 100 && i < random; i++) {
        model_random_one(C.seed + 1, i);
        r.random++;
        if (E.failed) goto end;
    }
    if (quick) goto end;
    /* One bound after the other: short counterexamples first. Without a bound: at once. */
    for (int b = bound > 8 ? bound : 0; b <= bound; b++) {
        r.bound = b;
        r.exhausted = model_search_bound(&r, b, start + budget * (random > 0 ? 0.7 : 1));
        if (E.failed) goto end;
        r.complete = r.exhausted && !E.truncated;
        if (!r.exhausted || r.complete) break;
        r.unused = weak && weak->hits == 0 && !model_random_hits(weak, &r, random);
        if (r.unused || E.failed) goto end;
    }
    for (long i = 0; i < random; i++) {
        if (E.num_objects > MODEL_OBJECTS / 2) model_forget_objects();
        model_random_one(C.seed, i);
        r.random++;
        if (E.failed) goto end;
        if ((i & 63) == 63 && model_seconds() > start + budget) break;
    }
end:
    r.failed = E.failed;
    r.steps = E.all_steps;
    r.seconds = model_seconds() - start;
    return r;
}

static void model_print_result(const model_client *client, const model_result *r) {
    printf("ok %s: %llu executions", client->name, (unsigned long long)r->searched);
    if (r->complete) {
        printf(", all there are");
    } else if (r->bound >= 0) {
        printf(r->exhausted ? ", all to bound %d" : ", stopped in bound %d", r->bound);
    }
    printf("; %llu random; %.1f M steps, %.1f s\n", (unsigned long long)r->random,
           (double)r->steps / 1e6, r->seconds);
}

/* The same failure after the same steps, a hundred times? */
static bool model_replays(const model_taken *script, unsigned n) {
    char message[sizeof E.message];
    uint32_t steps = E.steps;
    memcpy(message, E.message, sizeof message);
    for (int i = 0; i < 100; i++) {
        model_run_script(script, n);
        if (!E.failed || E.steps != steps || strcmp(E.message, message) != 0) return false;
    }
    return true;
}

/* Returns whether it passed. */
static bool model_judge(const model_client *client, const model_result *r, const char *program) {
    bool whole;
    if (client->options.fails) {
        unsigned n = E.log_length;
        if (!r->failed) {
            printf("FAIL %s: the planted bug was not found in %llu executions\n", client->name,
                   (unsigned long long)(r->searched + r->random));
            return false;
        }
        if (!strstr(E.message, client->options.fails)) {
            model_report(program, true);
            return false;
        }
        memcpy(model_script, E.log, n * sizeof *model_script);
        if (!model_replays(model_script, n)) {
            printf("FAIL %s: replays differ\n", client->name);
            return false;
        }
        printf("ok %s: found in execution %llu: ", client->name,
               (unsigned long long)(r->searched + r->random));
        n = model_shrink(model_script, n);
        printf("%.60s... [", E.message);
        model_print_script(model_script, n);
        printf("]\n");
        return true;
    }
    if (r->failed) {
        if (C.brief) {
            printf("FAIL %s: %s\n", client->name, E.message);
        } else {
            model_report(program, true);
        }
        return false;
    }
    /* Some may be missing for want of time. */
    whole = (r->exhausted && r->bound >= client->options.bound) || r->complete;
    if (client->options.outcomes &&
        (whole ? E.seen_outcomes != client->options.outcomes
                 : (E.seen_outcomes & ~client->options.outcomes) != 0)) {
        printf("FAIL %s: outcomes %#llx instead of %#llx\n", client->name,
               (unsigned long long)E.seen_outcomes, (unsigned long long)client->options.outcomes);
        return false;
    }
    return true;
}

/* Signals: an execution that crashes or hangs without an operation fails like any other ---------*/

static char model_signal_stack[65536];

static void model_on_crash(int number, siginfo_t *info, void *context) {
    (void)context;
    if (!E.in_execution) {
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    model_fail("crash: signal %d at %p, after %s", number, info->si_addr,
               model_where(E.threads[E.current].at));
}

static void model_on_tick(int number, siginfo_t *info, void *context) {
    static uint64_t last;
    uint64_t now = E.heartbeat * 1000003u + E.steps;
    (void)number, (void)info, (void)context;
    if (E.in_execution && now == last) {
        model_fail("hang: nothing happens after %s", model_where(E.threads[E.current].at));
    }
    last = now;
}

static int model_compare_sites(const void *a, const void *b) {
    return (*(model_site *const *)a)->number - (*(model_site *const *)b)->number;
}

static int model_compare_clients(const void *a, const void *b) {
    return (*(const model_client *const *)a)->number - (*(const model_client *const *)b)->number;
}

static void model_set_up(void) {
    struct sigaction action;
    stack_t stack;
    struct itimerval tick = {{2, 0}, {2, 0}};
    char *memory;
    memory = (char *)mmap((void *)MODEL_ARENA_BASE, MODEL_ARENA_SIZE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (memory != (char *)MODEL_ARENA_BASE) {
        fprintf(stderr, "the arena's addresses are taken\n");
        exit(2);
    }
    memory = (char *)mmap((void *)(MODEL_ARENA_BASE + 2 * MODEL_ARENA_SIZE),
                          MODEL_THREADS * (MODEL_STACK_SIZE + 4096), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) exit(2);
    for (unsigned t = 0; t < MODEL_THREADS; t++) {
        (void)mprotect(memory, 4096, PROT_NONE);
        E.threads[t].stack = memory + 4096;
        memory += MODEL_STACK_SIZE + 4096;
    }
    E.objects = (model_object *)calloc(MODEL_OBJECTS, sizeof *E.objects);
    if (!E.objects) exit(2);
    memset(&stack, 0, sizeof stack);
    stack.ss_sp = model_signal_stack;
    stack.ss_size = sizeof model_signal_stack;
    (void)sigaltstack(&stack, NULL);
    memset(&action, 0, sizeof action);
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    action.sa_sigaction = model_on_crash;
    (void)sigaction(SIGSEGV, &action, NULL);
    (void)sigaction(SIGBUS, &action, NULL);
    (void)sigaction(SIGILL, &action, NULL);
    (void)sigaction(SIGFPE, &action, NULL);
    (void)sigaction(SIGTRAP, &action, NULL);
    action.sa_sigaction = model_on_tick;
    action.sa_flags |= SA_RESTART;
    (void)sigaction(SIGVTALRM, &action, NULL);
    (void)setitimer(ITIMER_VIRTUAL, &tick, NULL);
    /* Compilers and linkers have their own order. */
    qsort(model_sites_begin, model_num_sites(), sizeof *model_sites_begin, model_compare_sites);
    qsort(model_clients_begin, (size_t)(model_clients_end - model_clients_begin),
          sizeof *model_clients_begin, model_compare_clients);
    for (unsigned i = 0; i < model_num_sites(); i++) {
        model_sites_begin[i]->is_client =
            strcmp(model_base_name(model_sites_begin[i]->file), "sched.h") != 0;
    }
}

static const char model_usage[] =
    "usage: model [--level smoke|ci|all] [--client WORD|=NAME] [--bound N] [--random N]\n"
    "             [--seed S] [--budget SECONDS-PER-CLIENT] [--replay STRING]\n"
    "             [--weaken SITE[:a|:r]]\n"
    "             [--list] [--list-sites] [--first] [--short] [--mutant] [--no-reduce]\n"
    "--client =NAME is exact. --mutant: without the explorer's own test, the quick tries first.\n";

static bool model_wanted(const model_client *client) {
    /* The explorer's own test does not run the header. */
    if (C.mutant && client->options.fails) return false;
    if (C.mutant && strncmp(client->name, "litmus", 6) == 0) return false;
    if (!C.only) return true;
    if (C.only[0] == '=') return strcmp(client->name, C.only + 1) == 0;
    return strstr(client->name, C.only) != NULL;
}

static void model_parse(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *option = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(option, "--list-sites") == 0) {
            C.list_sites = true;
        } else if (strcmp(option, "--list") == 0) {
            C.list_clients = true;
        } else if (strcmp(option, "--first") == 0) {
            C.first_failure = true;
        } else if (strcmp(option, "--short") == 0) {
            C.brief = true;
        } else if (strcmp(option, "--mutant") == 0) {
            C.mutant = true;
        } else if (strcmp(option, "--no-reduce") == 0) {
            C.no_reduce = true;
        } else if (value && ++i) {
            if (strcmp(option, "--level") == 0) {
                C.level = value[0] == 's' ? MODEL_SMOKE : value[0] == 'a' ? MODEL_ALL : MODEL_CI;
            } else if (strcmp(option, "--client") == 0) {
                C.only = value;
            } else if (strcmp(option, "--bound") == 0) {
                C.bound = atoi(value);
            } else if (strcmp(option, "--random") == 0) {
                C.random = atol(value);
            } else if (strcmp(option, "--seed") == 0) {
                C.seed = strtoull(value, NULL, 0);
            } else if (strcmp(option, "--replay") == 0) {
                C.replay = value;
            } else if (strcmp(option, "--weaken") == 0) {
                C.weaken = value;
            } else if (strcmp(option, "--budget") == 0) {
                C.budget = atof(value);
            } else {
                fputs(model_usage, stderr);
                exit(2);
            }
        } else {
            fputs(model_usage, stderr);
            exit(2);
        }
    }
}

static int model_replay_all(const char *program) {
    int status = 0;
    for (const model_client **c = model_clients_begin; c < model_clients_end; c++) {
        if (!model_wanted(*c)) continue;
        E.client = *c;
        E.options = (*c)->options;
        model_forget_objects();
        model_run_script(model_script, model_parse_script(C.replay, model_script));
        if (E.failed) {
            model_report(program, false);
            status = 1;
        } else {
            printf("ok %s: the replay does not fail\n", (*c)->name);
        }
    }
    return status;
}

int main(int argc, char **argv) {
    unsigned passed = 0, failed = 0, skipped = 0;
    uint64_t all = 0;
    model_site *weak = NULL;
    model_parse(argc, argv);
    model_set_up();
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (C.list_clients) {
        for (const model_client **c = model_clients_begin; c < model_clients_end; c++) {
            if (model_wanted(*c)) printf("%s\n", (*c)->name);
        }
        return 0;
    }
    if (C.weaken) {
        weak = model_weaken(C.weaken);
        if (!weak) {
            fprintf(stderr, "%s: no such site, or it is relaxed\n", C.weaken);
            return 2;
        }
    }
    if (C.replay) return model_replay_all(argv[0]);
    for (int quick = C.mutant; quick >= 0 && !(failed && C.first_failure); quick--) {
        for (const model_client **c = model_clients_begin; c < model_clients_end; c++) {
            model_result r;
            if (!model_wanted(*c)) continue;
            r = model_explore(*c, weak, quick);
            all += r.searched + r.random;
            if (r.unused || (quick && !r.failed)) {
                skipped += !quick;
            } else if (model_judge(*c, &r, argv[0])) {
                passed++;
                if (!(*c)->options.fails) model_print_result(*c, &r);
            } else {
                failed++;
                if (C.first_failure) break;
            }
        }
    }
    if (C.list_sites) model_list_sites();
    printf("%llu interleavings explored, seed %llu\n", (unsigned long long)all,
           (unsigned long long)C.seed);
    printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
    return failed > 0;
}

#endif
