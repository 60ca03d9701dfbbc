# compare.awk BUDGETS MEASURED - one line for each path, see run.sh. reason: why instructions were
# not counted; empty: they were.
function fail(text) { print "FAIL " name ": " text; failed = 1 }

# The functions that changed most in the direction that the whole path did, a line each.
function explain(path, up,   key, parts, delta, n, list, best, i) {
    for (key in either) {
        split(key, parts, SUBSEP)
        if (parts[1] != path) continue
        delta = (now[key] - budget[key]) * (up ? 1 : -1)
        if (delta >= 0.5) list[key] = delta
    }
    for (n = 0; n < 5; n++) {
        best = ""
        for (i in list) if (best == "" || list[i] > list[best]) best = i
        if (best == "") break
        split(best, parts, SUBSEP)
        printf "  %s: %.2f, was %.2f\n", parts[2], now[best], budget[best]
        delete list[best]
    }
}

/^#/ || $1 == "with" { next }
{ file = NR == FNR ? "budget" : "measured" }
$1 == "atomics" { paths[$2] = 1; rmws[file, $2] = $3; stores[file, $2] = $4 }
$1 == "path" { paths[$2] = 1; instructions[file, $2] = $3 }
$1 == "in" {
    either[$2, $3] = 1
    if (file == "budget") budget[$2, $3] = $4
    else now[$2, $3] = $4
}

function differ(a, b) { return a - b > 0.015 || b - a > 0.015 }

END {
    record = "; if that is meant: sh tests/budget/run.sh record"
    for (path in paths) order[++count] = path
    for (i = 2; i <= count; i++) {
        for (k = i; k > 1 && order[k - 1] > order[k]; k--) {
            swap = order[k]; order[k] = order[k - 1]; order[k - 1] = swap
        }
    }
    for (i = 1; i <= count; i++) {
        name = order[i]
        failed = 0
        b = "budget" SUBSEP name
        m = "measured" SUBSEP name
        if (!(b in rmws)) { fail("no budget" record); continue }
        if (!(m in rmws)) { fail("has a budget and was not measured"); continue }
        if (differ(rmws[m], rmws[b]) || differ(stores[m], stores[b])) {
            more = rmws[m] + stores[m] > rmws[b] + stores[b]
            fail(sprintf("%.2f read-modify-writes, budget %.2f; %.2f seq_cst stores, budget %.2f%s",
                         rmws[m], rmws[b], stores[m], stores[b], more ? "" : record))
        }
        if (reason == "" && instructions[m] > 1.03 * instructions[b]) {
            fail(sprintf("%.2f instructions, budget %.2f (+%.1f %%)", instructions[m],
                         instructions[b], 100 * (instructions[m] / instructions[b] - 1)))
            explain(name, 1)
        } else if (reason == "" && instructions[m] < 0.90 * instructions[b]) {
            fail(sprintf("%.2f instructions, budget %.2f (%.1f %%)%s", instructions[m],
                         instructions[b], 100 * (instructions[m] / instructions[b] - 1), record))
            explain(name, 0)
        }
        if (failed) continue
        if (reason != "") printf "ok %s: %.2f read-modify-writes\n", name, rmws[m]
        else printf "ok %s: %.2f instructions (%+.1f %%), %.2f read-modify-writes\n", name,
                    instructions[m], 100 * (instructions[m] / instructions[b] - 1), rmws[m]
    }
    if (reason != "") print "skip instructions: " reason
}
