# The table of bench/run.sh, from its result lines (key=value, see bench.h).
#   awk -v goals_file=bench/goals.txt -f bench/table.awk build/bench/raw.txt
# Medians over the runs of each contender; each run's figure is itself the median of its rounds.

# Sorts the runs of k into v, their median.
function sorted_median(from, k, n,   i, j, t) {
    for (i = 1; i <= n; i++) v[i] = from[k, i]
    for (i = 2; i <= n; i++) {
        t = v[i]
        for (j = i - 1; j > 0 && v[j] > t; j--) v[j + 1] = v[j]
        v[j + 1] = t
    }
    return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
}
function number(x) { return sprintf(x < 100 ? "%.1f" : "%.0f", x) }
function ratio(x) { return sprintf(x < 0.1 ? "%.3f" : "%.2f", x) }

# What a case is about: bytes; p50 of latencies; CPU time, where others share the machine with what
# is measured or where it only waits; wall time else.
function unit_of(case_name, variant) {
    if (case_name == "memory" || variant == "memory") return "bytes"
    if (case_name ~ /^wake_/ || variant == "lateness") return "p50"
    if (case_name ~ /^(echo|http|timers)$/) return "cpu"
    return "wall"
}

# What the figures of a group are compared with, from `from`: medians, or CPU means.
# tokio is the better one of the two allocators; best is the best of all that are not sched.h.
function reference(g, name, from,   i, c, m, best) {
    best = 0
    if (name == "w1") return from[w1_of[g] SUBSEP "sched.h"]
    for (i = 1; i <= contenders[g]; i++) {
        c = contender[g, i]
        m = from[g, c]
        if (m == 0) continue
        if (name == "best" && c ~ /^sched/) continue
        if (name == "tokio" && c !~ /^tokio/) continue
        if (name != "best" && name != "tokio" && c != name) continue
        if (best == 0 || m < best) best = m
    }
    return best
}
function verdict(is, most) { return is <= most ? "met; " : "MISSED; " }

# One goal of sched.h, and whether it is met.
function goal_text(g, k, x,   limit, name, most, r, is, text, of) {
    limit = goal_limit[g, x]
    name = goal_reference[g, x]
    most = goal_ratio[g, x]
    if (name == "late") {
        return sprintf("mean lateness %s us <= %s ", number(late[k] / 1000), limit / 1000) \
            verdict(late[k], limit)
    }
    if (name ~ /^\+/) {
        name = substr(name, 2)
        r = reference(g, name, median)
        text = sprintf("<= %s + %s ", limit, name)
        return r == 0 ? text "(not there); " : text verdict(median[k], limit + r)
    }
    text = limit == "-" ? "" : sprintf("<= %s ", limit) verdict(median[k], limit)
    if (name == "-" || most == "-") return text
    of = name
    if (sub(/:p99$/, "", name)) {
        r = reference(g, name, p99)
        is = p99[k]
    } else {
        r = reference(g, name, median)
        is = median[k]
    }
    text = text sprintf("<= %s x %s ", most, of)
    if (r == 0) return text "(not there); "
    return text sprintf("(%s) ", ratio(is / r)) verdict(is / r, most)
}
BEGIN {
    while ((getline line < goals_file) > 0) {
        if (line ~ /^#/ || split(line, f, " ") < 6) continue
        g = f[1] SUBSEP f[2] SUBSEP f[3]
        n = ++num_goals[g]
        goal_limit[g, n] = f[4]
        goal_reference[g, n] = f[5]
        goal_ratio[g, n] = f[6]
    }
}
{
    delete kv
    for (i = 1; i <= NF; i++) {
        at = index($i, "=")
        kv[substr($i, 1, at - 1)] = substr($i, at + 1)
    }
    g = kv["case"] SUBSEP kv["variant"] SUBSEP kv["workers"]
    w1_of[g] = kv["case"] SUBSEP kv["variant"] SUBSEP 1
    if (!(g in contenders)) group[++groups] = g
    k = g SUBSEP kv["contender"]
    if (!(k in runs)) {
        runs[k] = 0
        contender[g, ++contenders[g]] = kv["contender"]
    }
    if (kv["status"] != "0") {
        failed[k]++
        failed_status[k] = "exit " kv["status"]
        if (kv["status"] == "missing") failed_status[k] = "missing"
        if (kv["status"] == "124") failed_status[k] = "hung" # the exit status of timeout
        if (kv["check"] == "BAD") failed_status[k] = "wrong count"
        next
    }
    n = ++runs[k]
    unit[g] = unit_of(kv["case"], kv["variant"])
    # Whole bytes: the blocks of a slab share its header.
    if (unit[g] == "bytes") value[k, n] = int(kv["bytes_per_op"] + 0.5)
    else value[k, n] = kv[unit[g] == "cpu" ? "cpu_ns_per_op" : "ns_per_op"] + 0
    p99s[k, n] = kv["p99"] + 0
    lates[k, n] = kv["late_mean"] + 0
    wall[k] += kv["ns_per_op"]
    cpu[k] += kv["cpu_ns_per_op"]
    cpus[k] += kv["cpus"]
    send[k] += kv["send_ns"]
    tables[k] += kv["table_bytes_per_op"]
}
END {
    for (i = 1; i <= groups; i++) {
        g = group[i]
        for (j = 1; j <= contenders[g]; j++) {
            k = g SUBSEP contender[g, j]
            if (runs[k] == 0) continue
            median[k] = sorted_median(value, k, runs[k])
            low[k] = v[1]
            high[k] = v[runs[k]]
            p99[k] = sorted_median(p99s, k, runs[k])
            late[k] = sorted_median(lates, k, runs[k])
            cpu_mean[k] = cpu[k] / runs[k]
        }
    }
    for (i = 1; i <= groups; i++) {
        g = group[i]
        split(g, f, SUBSEP)
        u = unit[g]
        best = reference(g, "best", median)
        tokio = reference(g, "tokio", median)
        tokio_cpu = reference(g, "tokio", cpu_mean)
        title = "ns an operation"
        second_title = "CPU ns"
        last_title = "CPU/tok"
        if (u == "bytes") { title = "bytes a task"; second_title = "tables"; last_title = "" }
        if (u == "p50") { title = "ns, p50"; second_title = "send"; last_title = "p99 us" }
        if (u == "cpu") { title = "CPU ns an operation"; second_title = "wall ns" }
        if (u == "cpu") last_title = "p99 us"
        if (f[1] == "echo" || f[1] == "http") title = "CPU ns of the server a request"
        if (f[2] == "self") title = "CPU ns of both sides a request"
        printf "\n%s %s, workers=%s, %s\n", f[1], f[2], f[3], title
        printf "  %-15s %9s %15s %7s %7s %8s %5s %8s  %s\n", "contender", "median", \
            "lowest-highest", "/best", "/tokio", second_title, "CPUs", last_title, "goal"
        for (j = 1; j <= contenders[g]; j++) {
            c = contender[g, j]
            k = g SUBSEP c
            n = runs[k]
            if (n == 0) {
                t = failed_status[k]
                printf "  %-15s %s\n", c, t == "missing" ? t : "FAILED: " t
                continue
            }
            text = ""
            for (x = 1; c == "sched.h" && x <= num_goals[g]; x++) {
                text = text goal_text(g, k, x)
            }
            sub(/; $/, "", text)
            if (failed[k]) {
                text = text sprintf(" FAILED %d times: %s", failed[k], failed_status[k])
            }
            second = u == "bytes" ? tables[k] : u == "p50" ? send[k] : u == "cpu" ? wall[k] : cpu[k]
            last = cpu_mean[k] > 0 && tokio_cpu > 0 ? ratio(cpu_mean[k] / tokio_cpu) : "-"
            if (u != "wall") last = p99[k] > 0 ? number(p99[k] / 1000) : "-"
            # In parentheses: awk would take a bare > for a redirection.
            printf("  %-15s %9s %15s %7s %7s %8s %5s %8s  %s\n", c, number(median[k]), \
                number(low[k]) "-" number(high[k]), best > 0 ? ratio(median[k] / best) : "-", \
                tokio > 0 ? ratio(median[k] / tokio) : "-", number(second / n), \
                cpus[k] > 0 ? sprintf("%.2f", cpus[k] / n) : "-", last, text)
        }
    }
}
