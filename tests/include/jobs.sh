# jobs.sh - sourced by order.sh and matrix.sh: many small compilations, two or more at a time, and a
# table of them. A job is good if its command succeeds and prints nothing.
# shellcheck shell=sh

# jobs_begin NAME - an empty folder build/NAME
jobs_begin() {
    jobs_dir=build/$1
    rm -rf "$jobs_dir"
    mkdir -p "$jobs_dir"
    jobs_count=0 jobs_skipped=0
    : >"$jobs_dir/list"
}

# job ROW COLUMN COMMAND - $dir in COMMAND is a folder of the job's own. ROW, COLUMN: no blanks.
job() {
    jobs_count=$((jobs_count + 1))
    echo "$jobs_count $1 $2" >>"$jobs_dir/list"
    echo "dir=$jobs_dir/$jobs_count; $3" >"$jobs_dir/$jobs_count.sh"
}

jobs_skip() { # WHAT
    jobs_skipped=$((jobs_skipped + 1))
    echo "skip: $1"
}

# Run them all, print the table, the first failure of each column, and the sum. 0: all passed.
jobs_end() {
    cores=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
    limit= # a program that hangs is a bad job
    command -v timeout >/dev/null 2>&1 && limit="timeout 120"
    # shellcheck disable=SC2016 # expanded by the inner shell
    awk '{ print $1 }' "$jobs_dir/list" |
        JOBS_DIR=$jobs_dir LIMIT=$limit xargs -n 1 -P "${JOBS:-$cores}" sh -c '
        job=$JOBS_DIR/$1
        mkdir "$job"
        $LIMIT sh "$job.sh" >"$job.out" 2>&1 && [ ! -s "$job.out" ] && : >"$job.ok"
        rm -rf "$job"' job
    while read -r number row column; do
        [ -f "$jobs_dir/$number.ok" ] && echo "ok $number $row $column" ||
            echo "bad $number $row $column"
    done <"$jobs_dir/list" >"$jobs_dir/results"
    awk '
        !($3 in row) { row[$3] = ++rows; row_name[rows] = $3 }
        !($4 in column) { column[$4] = ++columns; column_name[columns] = $4 }
        { jobs[$3, $4]++ } $1 == "ok" { good[$3, $4]++ }
        END {
            width = 6
            for (r = 1; r <= rows; r++) if (length(row_name[r]) > width) width = length(row_name[r])
            printf "%-*s", width, ""
            for (c = 1; c <= columns; c++) printf " %9s", column_name[c]
            print ""
            for (r = 1; r <= rows; r++) {
                printf "%-*s", width, row_name[r]
                for (c = 1; c <= columns; c++) {
                    all = jobs[row_name[r], column_name[c]] + 0
                    ok = good[row_name[r], column_name[c]] + 0
                    printf " %9s", all == 0 ? "-" : (ok == all ? ok "" : "BAD " ok "/" all)
                }
                print ""
            }
        }' "$jobs_dir/results"
    awk '$1 == "bad" && !seen[$4]++ { print $2 }' "$jobs_dir/results" | while read -r number; do
        echo "FAILED: $(sed 's/^dir=[^;]*; //' "$jobs_dir/$number.sh")"
        head -n 8 "$jobs_dir/$number.out"
    done
    awk -v skipped="$jobs_skipped" '$1 == "ok" { ok++ } $1 == "bad" { bad++ }
        END {
            printf "%d passed, %d failed, %d skipped\n", ok, bad, skipped
            exit (bad > 0 || ok == 0)
        }' "$jobs_dir/results"
}
