#!/bin/sh
# Measure sched.h and its peers in turn, keep every result in one JSON file, write the report.
#
#   sh bench/run.sh [quick] [CASE ...]   all cases, or those named; quick: under 3 minutes
#   sh bench/run.sh build                build the contenders only, say what is missing
#   sh bench/run.sh report               docs/benchmarks.md and docs/bench/*.svg from the JSON alone
#
# hyperfine runs the programs: one call a round, over all contenders (A B C, then B C A, ...), so
# that a change of the machine's mood meets them all. Its times and each program's own figures go
# to build/bench/results.json after each case; a run of some cases replaces these and keeps the
# others. The report is written at the end.
#
# A CPU that is shared with others of its host is slower at times, and not equally so for all
# programs. So before and after each round the case fib's serial program, which schedules nothing, is
# timed: the report says how fast the machine was. QUIET=ns: rounds beside which that took more are
# measured again, until PATIENCE seconds (300) have been lost that way in all.
#
# CC, CFLAGS (default: cc, -O2 -DNDEBUG); ROUNDS=n in place of what bench/plan.txt says; PIN=1: pin
# worker i to the i-th CPU in sched.h and Tokio (the others cannot); PERF_EVENTS: what perf stat
# counts in the case contention. Needs hyperfine, jq, awk and a C compiler, gnuplot for the plots;
# what a contender needs beyond that is named when it is missing.
set -u
cd "$(dirname "$0")/.." || exit 1
out=build/bench
results=$out/results.json
# shellcheck disable=SC2034 # build.sh reads them
cc=${CC:-cc}
# shellcheck disable=SC2034
cflags=${CFLAGS:--O2 -DNDEBUG}
cases=$(awk '!/^#/ && !seen[$1]++ { printf "%s ", $1 }' bench/plan.txt)
mkdir -p "$out" || exit 1
. bench/build.sh

# One program may take this long. The same for all, it adds a millisecond to each whole run.
limit=
has timeout && limit='timeout 60 '

# arguments LABEL: of the row that is being run, for one contender.
arguments() {
    printf '%s' "--variant ${variant#*:} --workers $workers --contender $1 --rounds 3"
    [ "$ops" = 0 ] || printf '%s' " --ops $ops"
    [ "${PIN:-0}" = 1 ] && printf ' --pin'
    [ -z "$extra" ] || printf '%s' " $extra"
}

# The machine's speed just now, ns for a step of a program that schedules nothing; the best of five.
reference() {
    "$out/fib/serial-c" --workers 1 --rounds 5 2>/dev/null | sed -n 's/.* min=\([0-9.]*\) .*/\1/p'
}

# The slower of two; null: the program could not be built or run.
slower() {
    awk -v a="$1" -v b="$2" 'BEGIN { print (a == "" || b == "" ? "null" : a + 0 > b + 0 ? a : b) }'
}

is_quiet() { awk -v ns="$1" -v most="$2" 'BEGIN { exit !(ns != "null" && ns + 0 <= most + 0) }'; }

# one_round [ARGUMENTS]: every contender of contenders.txt once, by one call of hyperfine; what it
# measured and the line of each program become a line of runs.jsonl for each.
one_round() {
    set -- "${1:-}"
    more=$1
    shift
    while read -r label command; do
        set -- "$@" -n "$label" "$limit$command $(arguments "$label")$more"
    done <"$out/contenders.txt"
    rm -f "$out/hyperfine.json"
    hyperfine -N -i --runs 1 --show-output --export-json "$out/hyperfine.json" "$@" \
        >"$out/stdout.txt" 2>"$out/stderr.txt" </dev/null
    grep 'contender=' "$out/stdout.txt" >"$out/lines.txt"
    jq -c --arg case "$case" --arg variant "$variant" --argjson workers "$workers" \
        --rawfile lines "$out/lines.txt" -f bench/round.jq "$out/hyperfine.json" >"$out/round.jsonl"
    # A contender that has not got the variant, or hangs, is not asked again.
    jq -c 'select(.exit_code == 124)' "$out/round.jsonl" >>"$out/runs.jsonl"
    for label in $(jq -r 'select(.exit_code == 77 or .exit_code == 124) | .contender' \
        "$out/round.jsonl"); do
        awk -v label="$label" '$1 != label' "$out/contenders.txt" >"$out/rest.txt"
        mv "$out/rest.txt" "$out/contenders.txt"
    done
    if jq -e -s 'any(.exit_code | . != 0 and . != 77)' "$out/round.jsonl" >/dev/null; then
        echo "$case $variant $workers: a program failed:" >&2
        grep -v -e '^ *$' -e 'Ignoring non-zero exit code' "$out/stderr.txt" >&2
    fi
}

# run_row: the row of plan.txt in case, variant, workers, ops, rounds, extra.
run_row() {
    contenders "$case" "$variant" >"$out/contenders.txt"
    awk -v q='"' -v c="$case" -v v="$variant" -v w="$workers" '$2 == "MISSING" || $2 == "LATER" {
        printf "{%scase%s:%s%s%s,%svariant%s:%s%s%s,%sworkers%s:%d,%scontender%s:%s%s%s," \
            "%sstatus%s:%s%s%s}\n", q, q, q, c, q, q, q, q, v, q, q, q, w, q, q, q, $1, q, \
            q, q, q, tolower($2), q }' "$out/contenders.txt" >>"$out/runs.jsonl"
    awk '$2 != "MISSING" && $2 != "LATER"' "$out/contenders.txt" >"$out/present.txt"
    mv "$out/present.txt" "$out/contenders.txt"
    # The warm-up: the files are in memory, the CPU is awake, who has not got the variant is known.
    [ -n "$extra" ] || one_round ' --rounds 1 --warmup 0'
    while [ "$rounds" -gt 0 ] && [ -s "$out/contenders.txt" ]; do
        begun=$(date +%s) before=$(reference)
        one_round
        speed=$(slower "$before" "$(reference)")
        if [ -n "${QUIET:-}" ] && [ "$patience" -gt 0 ] && ! is_quiet "$speed" "$QUIET"; then
            patience=$((patience - $(date +%s) + begun - 1))
            sleep 1
            continue
        fi
        jq -c --argjson speed "$speed" 'select(.exit_code != 77 and .exit_code != 124)
            | . + {reference_ns: $speed}' "$out/round.jsonl" >>"$out/runs.jsonl"
        # The next round begins with another one.
        { sed 1d "$out/contenders.txt" && sed -n 1p "$out/contenders.txt"; } >"$out/turned.txt"
        mv "$out/turned.txt" "$out/contenders.txt"
        rounds=$((rounds - 1))
    done
}

# What goes over from one CPU's cache to another's, counted by the CPU: a line of hardware.jsonl
# for each event and program, a group of the contention case each.
count_hardware() {
    events=${PERF_EVENTS:-cache-misses,cache-references}
    has perf || { missing 'perf stat' 'no perf (Debian: linux-perf)'; return; }
    if ! perf stat -x, -e "$events" true 2>&1 | grep -q '^[0-9]'; then
        missing 'perf stat' "this machine does not count $events"
        return
    fi
    ops=200000 extra='--warmup 0'
    for row in 'spawn_local detached' 'yield_many stackful' 'ping_pong roundtrip'; do
        case=${row% *} variant=${row#* }
        for workers in 1 2; do
            contenders "$case" "$variant" | grep -v -e MISSING -e LATER >"$out/contenders.txt"
            while read -r label command; do
                for _ in 1 2 3; do
                    # The words of the command are separate arguments.
                    # shellcheck disable=SC2046,SC2086
                    perf stat -x, -e "$events" -o "$out/perf.txt" -- $limit$command \
                        $(arguments "$label") >"$out/lines.txt" 2>/dev/null </dev/null || continue
                    # What perf counted, by the operations that the program says it did.
                    awk -F, -v c="$case" -v v="$variant" -v w="$workers" -v l="$label" '
                        NR == FNR { n = split($0, words, " ")
                            for (i = 1; i <= n; i++) if (split(words[i], p, "=")) own[p[1]] = p[2]
                            next }
                        $1 ~ /^[0-9]/ { printf "%s\t%s\t%d\t%s\t%s\t%.6f\n", c, v, w, l, $3,
                            $1 / (own["ops"] * own["rounds"]) }' "$out/lines.txt" "$out/perf.txt" |
                        jq -c -R 'split("\t") | {case: .[0], variant: .[1],
                            workers: (.[2] | tonumber), contender: .[3], event: .[4],
                            per_op: (.[5] | tonumber)}' >>"$out/hardware.jsonl"
                done
            done <"$out/contenders.txt"
        done
    done
}

# run_case CASE
run_case() {
    : >"$out/runs.jsonl"
    : >"$out/hardware.jsonl"
    while read -r case variant workers full_ops full_rounds quick_ops quick_rounds extra; do
        [ "$case" = "$1" ] || continue
        ops=$full_ops rounds=$full_rounds
        [ "$quick" = 1 ] && ops=$quick_ops rounds=$quick_rounds
        [ "$rounds" = 0 ] && continue
        rounds=${ROUNDS:-$rounds}
        [ -t 2 ] && echo "$case $variant $workers" >&2
        run_row
    done <"$out/plan.txt"
    [ "$1" = contention ] && count_hardware
    cat "$out/runs.jsonl" >>"$out/all_runs.jsonl"
}

# merge CASE: what was run of it into results.json.
merge() {
    [ -s "$results" ] || echo '{"format": 1, "groups": [], "hardware": []}' >"$results"
    environment >"$out/environment.json"
    jq --slurpfile runs "$out/runs.jsonl" --slurpfile environment "$out/environment.json" \
        --slurpfile hardware "$out/hardware.jsonl" --rawfile plan "$out/plan.txt" \
        --rawfile missing "$out/missing.txt" --arg case "$1" \
        --arg mode "$([ "$quick" = 1 ] && echo quick || echo full)" \
        --arg pinned "${PIN:-0}" --arg date "$(date -u +%Y-%m-%dT%H:%MZ)" --arg load "$load" \
        -f bench/merge.jq "$results" >"$out/merged.json" && mv "$out/merged.json" "$results"
}

#---------------------------------------------------------------------------------------------------

quick=0
chosen=
mode=run
case ${1:-} in
quick) quick=1 && shift ;;
build | report) mode=$1 && shift ;;
esac
for name in "$@"; do
    case " $cases" in
    *" $name "*) chosen="$chosen $name" ;;
    *)
        echo "no case '$name'; there are: $cases" >&2
        exit 2
        ;;
    esac
done
chosen=${chosen:-$cases}
patience=${PATIENCE:-300}
case ${QUIET:-0}/$patience in
*[!0-9./]* | */*.* | */) echo "QUIET is ns, such as 0.5, and PATIENCE whole seconds" >&2 && exit 2 ;;
esac
for tool in jq hyperfine; do
    has $tool || { echo "bench needs $tool (Debian: $tool; make setup installs it)" >&2; exit 1; }
done
grep -v '^#' bench/plan.txt >"$out/plan.txt"

if [ "$mode" = report ]; then
    sh bench/report.sh "$results"
    exit
fi
build
sort -u "$out/missing.txt" | sed 's/^/missing: /'
[ "$mode" = build ] && exit 0
load=$(uptime | sed 's/.*load average[s]*: *//; s/[, ].*//')
begin=$(date +%s)
: >"$out/all_runs.jsonl"
for name in $chosen; do
    run_case "$name"
    merge "$name" || exit 1
done
# shellcheck disable=SC2086 # a list of words
sh bench/report.sh "$results" $chosen
echo
echo "$(($(date +%s) - begin)) s; all results are in $results"
jq -e -s 'all(.status == "ok" or .status == "missing" or .status == "later")' \
    "$out/all_runs.jsonl" >/dev/null ||
    { echo "some runs failed, see $out/all_runs.jsonl"; exit 1; }
