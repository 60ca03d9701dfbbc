#!/bin/sh
# report.sh RESULTS [CASE ...] - docs/benchmarks.md and docs/bench/*.svg from the results in JSON
# and bench/benchmarks.md.in, nothing else; then the tables of these cases on the terminal. Needs
# jq and awk; without gnuplot the plots stay as they are. `sh bench/run.sh report` calls it.
set -u
cd "$(dirname "$0")/.." || exit 1
results=$1
shift
work=build/bench/report
mkdir -p "$work" docs/bench || exit 1
[ -s "$results" ] || { echo "no $results: run the benchmarks first" >&2; exit 1; }

# $work/NAME.txt for each section.
rm -f "$work"/*.txt
jq -r --rawfile goals bench/goals.txt -f bench/report.jq "$results" >"$work/all.out" || exit 1
awk -v work="$work" '/^@@ / { file = work "/" $2 ".txt"; printf "" >file; next }
    { print >file }' "$work/all.out"

# Columns of a Markdown table under each other. Other lines as they are.
align() {
    awk 'function width(s) { gsub(/[\200-\277]/, "", s); return length(s) }
        function flush_table(   i, j, cell, line) {
            for (i = 1; i <= rows; i++) {
                line = "|"
                for (j = 1; j <= columns; j++) {
                    cell = text[i, j]
                    if (i == 2) {
                        right[j] = cell ~ /:$/
                        cell = ""
                        while (length(cell) < widest[j] - right[j]) cell = cell "-"
                        if (right[j]) cell = cell ":"
                    }
                    while (width(cell) < widest[j])
                        cell = i > 2 && right[j] ? " " cell : cell " "
                    line = line " " cell " |"
                }
                print line
            }
            rows = 0
            split("", widest)
        }
        /^\|/ {
            rows++
            columns = split(substr($0, 2), cells, "|") - 1
            for (j = 1; j <= columns; j++) {
                gsub(/^ +| +$/, "", cells[j])
                text[rows, j] = cells[j]
                w = rows == 2 ? 3 : width(cells[j])
                if (w > widest[j]) widest[j] = w
            }
            next
        }
        { if (rows) flush_table(); print }
        END { if (rows) flush_table() }'
}

LC_ALL=C
export LC_ALL
cases=$(jq -r '[.groups[].case] | unique | .[]' "$results")

# --- the plots ----------------------------------------------------------------------------------
# plot NAME TYPE DATA TITLE: docs/bench/NAME.svg.
plot() {
    data=$work/$3.txt
    [ -s "$data" ] || return
    LC_ALL=C.UTF-8 gnuplot -e "data='$data'; type='$2'; heading='$4'; cpus=$cpus; \
rows=$(awk 'END { print NR }' "$data")" bench/plot.gp >"$work/$1.svg" 2>"$work/gnuplot.out" ||
        { echo "gnuplot: $1:" && cat "$work/gnuplot.out"; return; } >&2
    sed 's/ *$//' "$work/$1.svg" >"docs/bench/$1.svg"
}
unit_of() {
    case $1 in
    memory) echo 'bytes a task' ;;
    wake_*) echo 'ns, p50' ;;
    echo | http) echo 'CPU ns of the server a request' ;;
    idle) echo 'CPU ns a second' ;;
    timers) echo 'CPU ns an operation; lateness: ns; memory: bytes' ;;
    *) echo 'ns an operation' ;;
    esac
}
if command -v gnuplot >/dev/null 2>&1; then
    cpus=$(jq -r '.groups | max_by(.date) | .environment.CPUs' "$results")
    for case in $cases; do
        [ "$case" = contention ] && continue
        plot "$case" case "plot_case-$case" "$case: $(unit_of "$case")"
        plot "scaling-$case" scaling "plot_scaling-$case" "$case: ns an operation"
    done
    plot overview overview plot_overview \
        'Figures of the peers divided by that of sched.h (right of 1: sched.h takes less)'
else
    echo 'no gnuplot (Debian: gnuplot-nox): docs/bench stays as it is' >&2
fi

# --- docs/benchmarks.md -------------------------------------------------------------------------
# A line @NAME@ of the template is that section. The first line, about the template, is not
# for the reader.
sed 1d bench/benchmarks.md.in | while IFS= read -r line; do
    case $line in
    @*@)
        line=${line#@}
        cat "$work/${line%@}.txt" 2>/dev/null || echo "Not measured yet."
        ;;
    *) printf '%s\n' "$line" ;;
    esac
done | align >"$work/benchmarks.md" || exit 1
mv "$work/benchmarks.md" docs/benchmarks.md

# --- the terminal -------------------------------------------------------------------------------
for case in "$@"; do
    if [ "$case" = contention ]; then
        printf '\ncontention (an operation)\n\n'
        cat "$work/contention.txt"
        echo
        cat "$work/hardware.txt"
        continue
    fi
    [ -f "$work/case-$case.txt" ] || continue
    printf '\n%s (%s)\n\n' "$case" "$(unit_of "$case")"
    cat "$work/case-$case.txt"
    if [ -f "$work/scaling-$case.txt" ]; then
        printf 'More workers\n\n'
        cat "$work/scaling-$case.txt"
    fi
done | align
echo
echo "written: docs/benchmarks.md and docs/bench/*.svg"
