#!/bin/sh
# run.sh LEVEL - soak, chaos, start and stop, switches, fairness. From the checkout's top.
#
# smoke (20 s), ci (90 s), all (BUDGET seconds, default 60, for each soak; some more programs), soak
# (BUDGET seconds in all, default 60, only soak and the storms of signals). CC CFLAGS SEED are
# honoured, and CYCLES, MIGRATIONS instead of the level's own. One line for each program and way of
# building it, then figures; logs in build/stress. Exit status 0 if nothing failed.
set -u
level=${1:-ci}
: "${CC:=cc}" "${CFLAGS=-O2 -g}"
[ -n "${SEED:-}" ] && export SEED
[ -n "${SEED:-}" ] || unset SEED
warnings="-std=c11 -Wall -Wextra"
out=build/stress
mkdir -p "$out"
rm -f "$out"/*.result
jobs="$out/jobs.$$"
trap 'rm -f "$jobs" "$jobs".*' EXIT

case $level in
smoke) soak=3 short=2 cycles=1000 migrations=20000 ;;
ci) soak=10 short=5 cycles=10000 migrations=100000 ;;
all) soak=${BUDGET:-60} short=$soak cycles=100000 migrations=10000000 ;;
soak) soak=$((${BUDGET:-60} / 2)) short=$soak cycles=0 migrations=0 ;;
*) echo "usage: sh tests/stress/run.sh smoke|ci|all|soak" >&2; exit 2 ;;
esac
# A program that hangs says so by itself; this is the last resort.
limit=$((soak * 4 + 300))
[ "$level" = all ] && limit=$((limit + 1800))
TIMEOUT=${TIMEOUT:-$((limit / 2))}
export TIMEOUT
ASAN_OPTIONS=detect_stack_use_after_return=1:detect_leaks=1
export ASAN_OPTIONS
unset BUDGET

have() { command -v "${1%% *}" >/dev/null 2>&1; }

# links COMPILER FLAGS - can it make a program with these flags?
links() {
    have "$1" || return 1
    # shellcheck disable=SC2086 # lists of words
    echo 'int main(void) { return 0; }' | $1 $2 -x c - -o "$out/probe$$" >/dev/null 2>&1
    links_status=$?
    rm -f "$out/probe$$"
    return $links_status
}

note() { # note NAME passed|failed|skipped TEXT
    echo "$2" >"$out/$1.result"
    case $2 in
    passed) echo "ok $1: $3" ;;
    failed) echo "FAIL $1: $3" ;;
    skipped) echo "skip $1: $3" ;;
    esac
}

# program NAME SOURCE COMPILER FLAGS RUNNER ARGUMENTS: build it and run it, or say why not. An empty
# SOURCE: the program soak is there already.
# shellcheck disable=SC2086 # lists of words
program() {
    name=$1 source=$2 compiler=$3 flags=$4 runner=$5 arguments=$6
    log=$out/$name.log binary=$out/$name
    [ -n "$source" ] || binary=$out/soak
    : >"$log"
    if [ -n "$source" ]; then
        if ! links "$compiler" "$flags"; then
            note "$name" skipped "$compiler does not link with $flags"
            return
        fi
        echo "$compiler $warnings $flags -o $binary tests/stress/$source -pthread" >>"$log"
        if ! $compiler $warnings $flags -o "$binary" "tests/stress/$source" -pthread >>"$log" 2>&1
        then
            note "$name" failed "does not build"
            sed 's/^/  /' "$log"
            return
        fi
    fi
    if have timeout; then
        timeout "$limit" $runner "$binary" $arguments >>"$log" 2>&1
    else
        $runner "$binary" $arguments >>"$log" 2>&1
    fi
    status=$?
    case $status in
    0) note "$name" passed "$(tail -n 1 "$log" | sed 's/^ok soak: //')" ;;
    77) note "$name" skipped "$(tail -n 1 "$log")" ;;
    *) note "$name" failed "exit status $status; $log" ;;
    esac
    if [ $status -eq 0 ]; then
        grep -E -e '^(SEED=|tasks |steals |blocking calls |sleeps |streams |resident|mappings|stopped |skip )' \
            -e '[0-9] (waits|samples|cycles)' -e 'at most' "$log" | sed 's/^/  /'
    elif [ $status -ne 77 ]; then
        tail -n 60 "$log" | sed 's/^/  /'
    fi
}

# Jobs: one a line, NAME|SOURCE|COMPILER|FLAGS|RUNNER|ARGUMENTS; two at a time, as the machines that
# this runs on have few cores, and two that get in each other's way are better than one.
job() { echo "$1|$2|$3|$4|$5|$6" >>"$jobs"; }

run_jobs() { # every second one
    awk -v which="$1" 'NR % 2 == which' "$jobs" >"$jobs.$1"
    while IFS='|' read -r name source compiler flags runner arguments; do
        program "$name" "$source" "$compiler" "$flags" "$runner" "$arguments" >"$out/$name.out" \
            </dev/null
        cat "$out/$name.out"
    done <"$jobs.$1"
}

both() {
    [ -s "$jobs" ] || return 0
    run_jobs 0 &
    run_jobs 1
    wait
    : >"$jobs"
}

first_of() { # first_of FLAGS COMPILER...: the first that links, else the first
    first_flags=$1
    shift
    for candidate in "$@"; do
        if links "$candidate" "$first_flags"; then
            echo "$candidate"
            return
        fi
    done
    echo "$1"
}

small="-DSCH_DEBUG=3 -DSCH_RUNQ_CAP=4 -DSCH_LIFO_CAP=1 -DSCH_STACK_CACHE=2 -DSCH_SPIN_ROUNDS=1 \
-DSCH_SLAB_SIZE=16384 -DSCH_BUDGET=3 -DSCH_EVENT_INTERVAL=2 -DSCH_WAKE_COST_NS=1 \
-DSCH_MOVE_COST_NS=1"
tsan="-O1 -g -fno-omit-frame-pointer -fsanitize=thread -DSCH_DEBUG=3"
asan="-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined \
-DSCH_DEBUG=3"
: >"$jobs"

# Soak; the small constants make rare things common.
job soak soak.c "$CC" "$CFLAGS" "" "--seconds $soak"
job soak-small soak.c "$CC" "$CFLAGS $small" "" "--seconds $soak"
both
if [ "$level" = ci ] || [ "$level" = all ]; then
    # gcc 12's ThreadSanitizer dies at 8,128 live fibers, so clang goes first.
    job soak-tsan soak.c "$(first_of "$tsan" clang-19 clang "$CC" gcc)" "$tsan" "" \
        "--seconds $soak --tickets 1000 --limit 120"
    job soak-asan soak.c "$(first_of "$asan" "$CC" clang-19 clang gcc)" "$asan" "" \
        "--seconds $soak --limit 120"
    both
fi
if [ "$level" = all ]; then
    job soak-ucontext soak.c "$CC" "$CFLAGS -DSCH_NO_ASM" "" "--seconds $soak"
    job soak-small-tsan soak.c "$(first_of "$tsan" clang-19 clang "$CC" gcc)" "$tsan $small" "" \
        "--seconds $soak --tickets 1000 --limit 120"
    job soak-small-asan soak.c "$(first_of "$asan" "$CC" clang-19 clang gcc)" "$asan $small" "" \
        "--seconds $soak --limit 120"
    job soak-static soak.c musl-gcc "$CFLAGS -static" "" "--seconds $soak"
    both
fi

# Chaos: the same program, stopped, halted, starved.
if [ "$(uname)" != Linux ]; then
    note chaos skipped "needs Linux"
elif [ "$(cat "$out/soak.result")" != passed ] && [ "$(cat "$out/soak.result")" != failed ]; then
    note chaos skipped "soak was not built"
else
    # shellcheck disable=SC2086
    if $CC $warnings $CFLAGS -o "$out/chaos" tests/stress/chaos.c; then
        job chaos-stop "" "" "" "$out/chaos stop" "--seconds $short --limit 60"
        job chaos-threads "" "" "" "$out/chaos threads" "--seconds $short --limit 60"
        if [ "$level" = ci ] || [ "$level" = all ]; then
            job chaos-one-cpu "" "" "" "$out/chaos one-cpu" "--seconds $short --limit 60"
            job chaos-batch "" "" "" "$out/chaos batch" "--seconds $short --limit 60"
            job chaos-quota "" "" "" "$out/chaos quota" "--seconds $short --limit 120"
            job chaos-crowd "" "" "" "" "--seconds $short --workers 64 --limit 60"
        fi
        if [ "$level" = all ]; then # the unit tests, none of which may depend on the time
            job chaos-stall-unit ../all.c "$CC" "$CFLAGS -iquote . -iquote tests" \
                "$out/chaos stall" ""
        fi
        both
    else
        note chaos failed "does not build"
    fi
fi

totals() {
    passed=$(cat "$out"/*.result | grep -c passed)
    failed=$(cat "$out"/*.result | grep -c failed)
    skipped=$(cat "$out"/*.result | grep -c skipped)
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
}
if [ "$level" = soak ]; then
    totals
    exit
fi

# Start and stop; fairness.
CYCLES=${CYCLES:-$cycles} MIGRATIONS=${MIGRATIONS:-$migrations}
export CYCLES MIGRATIONS
job cycles cycles.c "$CC" "$CFLAGS" "" ""
job fairness fairness.c "$CC" "$CFLAGS" "" ""
if [ "$level" = all ]; then
    job fairness-small fairness.c "$CC" "$CFLAGS -DSCH_DEBUG=3 -DSCH_RUNQ_CAP=64" "" ""
    job fairness-clang fairness.c clang "$CFLAGS" "" ""
fi
both
if [ "$level" = all ]; then
    CYCLES=2000
    job cycles-tsan cycles.c "$(first_of "$tsan" clang-19 clang "$CC" gcc)" "$tsan" "" ""
    job cycles-asan cycles.c "$(first_of "$asan" "$CC" clang-19 clang gcc)" "$asan" "" ""
    both
fi

# Switches: each compiler, each way to move code.
switches() { # switches NAME COMPILER FLAGS
    job "switches-$1" switches.c "$2" "$3 -g" "" ""
}
if [ "$level" = smoke ]; then
    switches "cc-O2-fPIC" "$CC" "-O2 -fPIC"
else
    gcc=$(first_of "" gcc-14 gcc-13 gcc-12 gcc) clang=$(first_of "" clang-19 clang)
    for compiler in "$gcc" "$clang"; do
        switches "$compiler-O0" "$compiler" "-O0"
        switches "$compiler-O2" "$compiler" "-O2"
        switches "$compiler-O3" "$compiler" "-O3"
        switches "$compiler-fPIC" "$compiler" "-O2 -fPIC"
        switches "$compiler-flto" "$compiler" "-O2 -flto=auto"
        switches "$compiler-protector" "$compiler" "-O2 -fstack-protector-strong"
    done
fi
if [ "$level" = all ]; then
    switches "$gcc-O3-fPIC-flto" "$gcc" "-O3 -fPIC -flto=auto"
    switches "$gcc-cet" "$gcc" "-O2 -fcf-protection=full"
    switches "$clang-O3-fPIC-flto" "$clang" "-O3 -fPIC -flto=auto"
    switches "$gcc-ucontext" "$gcc" "-O2 -fPIC -DSCH_NO_ASM"
fi
both
if [ "$level" = all ] && have qemu-aarch64; then
    MIGRATIONS=100000
    for flags in "-O2" "-O2 -fPIC" "-O3 -flto=auto"; do
        job "switches-aarch64$(echo "$flags" | tr -d ' ')" switches.c aarch64-linux-gnu-gcc \
            "$flags -static" qemu-aarch64 switches_thread_record # qemu does not fork threads
    done
    both
elif [ "$level" = all ]; then
    note switches-aarch64 skipped "qemu-aarch64 not found"
fi

totals
