# The table of bench/run.sh, from its result lines (key=value, see bench.h).
#   awk -v goals_file=bench/goals.txt -f bench/table.awk build/bench/raw.txt
# Medians over the runs of each contender; each run's figure is itself the median of its rounds.

function sorted_median(k, n,   i, j, t, v) {
    for (i = 1; i <= n; i++) v[i] = value[k, i]
    for (i = 2; i <= n; i++) {
        t = v[i]
        for (j = i - 1; j > 0 && v[j] > t; j--) v[j + 1] = v[j]
        v[j + 1] = t
    }
    low[k] = v[1]
    high[k] = v[n]
    return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
}
function number(x) { return sprintf(x < 100 ? "%.1f" : "%.0f", x) }
function ratio(x) { return sprintf(x < 0.1 ? "%.3f" : "%.2f", x) }

# What the figures of a group are compared with, from `from`: medians of wall time, or CPU means.
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
    # Whole bytes: the blocks of a slab share its header.
    value[k, n] = "bytes_per_op" in kv ? int(kv["bytes_per_op"] + 0.5) : kv["ns_per_op"] + 0
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
            median[k] = sorted_median(k, runs[k])
            cpu_mean[k] = cpu[k] / runs[k]
        }
    }
    for (i = 1; i <= groups; i++) {
        g = group[i]
        split(g, f, SUBSEP)
        is_bytes = f[1] == "memory"
        best = reference(g, "best", median)
        tokio = reference(g, "tokio", median)
        tokio_cpu = reference(g, "tokio", cpu_mean)
        printf "\n%s %s, workers=%s, %s\n", f[1], f[2], f[3], \
            is_bytes ? "bytes a task" : f[1] == "wake_parked" ? "ns, p50" : "ns an operation"
        printf "  %-15s %9s %15s %7s %7s %8s %5s %8s  %s\n", "contender", "median", \
            "lowest-highest", "/best", "/tokio", \
            is_bytes ? "tables" : f[1] == "wake_parked" ? "send" : "CPU ns", "CPUs", \
            is_bytes || f[1] == "wake_parked" ? "" : "CPU/tok", "goal"
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
                if (goal_limit[g, x] != "-") {
                    text = text sprintf("<= %s %s; ", goal_limit[g, x], \
                        median[k] <= goal_limit[g, x] ? "met" : "MISSED")
                }
                r = goal_reference[g, x] == "-" ? 0 : reference(g, goal_reference[g, x], median)
                if (goal_ratio[g, x] == "-") continue
                text = text sprintf("<= %s x %s ", goal_ratio[g, x], goal_reference[g, x])
                if (r == 0) text = text "(not there); "
                else text = text sprintf("(%s) %s; ", ratio(median[k] / r), \
                    median[k] / r <= goal_ratio[g, x] ? "met" : "MISSED")
            }
            sub(/; $/, "", text)
            if (failed[k]) {
                text = text sprintf(" FAILED %d times: %s", failed[k], failed_status[k])
            }
            second = is_bytes ? tables[k] : f[1] == "wake_parked" ? send[k] : cpu[k]
            # In parentheses: awk would take a bare > for a redirection.
            printf("  %-15s %9s %15s %7s %7s %8s %5s %8s  %s\n", c, number(median[k]), \
                number(low[k]) "-" number(high[k]), best > 0 ? ratio(median[k] / best) : "-", \
                tokio > 0 ? ratio(median[k] / tokio) : "-", number(second / n), \
                cpus[k] > 0 ? sprintf("%.2f", cpus[k] / n) : "-", \
                cpu_mean[k] > 0 && tokio_cpu > 0 ? ratio(cpu_mean[k] / tokio_cpu) : "-", text)
        }
    }
}
