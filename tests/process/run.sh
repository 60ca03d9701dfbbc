#!/bin/sh
# run.sh LEVEL - processes that fork, exec and end while runtimes run. LEVEL: smoke, ci, all (FORKS
# and LOADS are then large, and it goes round and round until BUDGET seconds are over).
# Variables: CC CXX CFLAGS TESTS (words: only cases whose names hold one). Run from the top.
set -u
level=${1:-ci}
: "${CC:=cc}" "${CXX:=c++}" "${CFLAGS=-O2 -g}" "${TESTS:=}" "${BUDGET:=600}"
warnings="-Wall -Wextra"
dir=build/process
mkdir -p $dir
totals=$dir/totals.$$
: >"$totals"
trap 'rm -f "$totals"' EXIT

have() { command -v "${1%% *}" >/dev/null 2>&1; }

# count NAME COMMAND... - run it, show it, keep its last line.
count() {
    name=$1
    shift
    echo "== process $name"
    "$@" >"$dir/log.$$" 2>&1 || echo "$name: exit status $?" >>"$dir/log.$$"
    cat "$dir/log.$$"
    awk '/^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { found = 1; print $1, $3, $5 }
        END { if (!found) print 0, 1, 0 }' "$dir/log.$$" >>"$totals"
    rm -f "$dir/log.$$"
}

skip() { # skip NAME REASON
    echo "skip $1: $2"
    echo "0 0 1" >>"$totals"
}

# build OUTPUT SOURCE COMPILER FLAGS...
build() {
    output=$dir/$1 source=tests/process/$2
    shift 2
    # shellcheck disable=SC2086 # lists of words
    if ! "$@" $warnings -o "$output" "$source" -pthread; then
        echo "FAIL build $output"
        echo "0 1 0" >>"$totals"
        return 1
    fi
}

# links COMPILER FLAGS... - can it make a program with these flags?
links() {
    have "$1" || return 1
    echo 'int main(void) { return 0; }' >"$dir/probe$$.c"
    # shellcheck disable=SC2068
    $@ "$dir/probe$$.c" -o "$dir/probe$$" >/dev/null 2>&1
    probe=$?
    rm -f "$dir/probe$$" "$dir/probe$$.c"
    return $probe
}

first_of() { # first_of FLAGS COMPILER... - the first that links with them, or nothing
    flags=$1
    shift
    for candidate in "$@"; do
        # shellcheck disable=SC2086
        if links $candidate $flags; then
            echo "$candidate"
            return
        fi
    done
}

# shellcheck disable=SC2086
plain() {
    build fork fork.c $CC -std=c11 $CFLAGS && count fork $dir/fork $TESTS
    build exit exit.c $CC -std=c11 $CFLAGS && count exit $dir/exit $TESTS
    if have "$CXX"; then
        build static static.cpp $CXX -std=c++17 $CFLAGS && count static $dir/static $TESTS
    else
        skip static "$CXX not found"
    fi
    build plugin.so plugin.c $CC -std=c11 $CFLAGS -fPIC -shared -fvisibility=hidden &&
        build dlopen dlopen.c $CC -std=c11 $CFLAGS -ldl &&
        PLUGIN=$dir/plugin.so count dlopen $dir/dlopen $TESTS
}

# Leaks are not looked for: these processes end with runtimes alive. gcc's AddressSanitizer may hold
# its allocator's lock in the child of a fork, clang's (19) does not. ThreadSanitizer cannot start
# threads in such a child: there only the contract's answers are checked.
# shellcheck disable=SC2086
sanitized() { # sanitized NAME FLAGS COMPILER...
    san=$1 san_flags=$2
    shift 2
    compiler=$(first_of "$san_flags" "$@")
    if [ -z "$compiler" ]; then
        skip "$san" "none of \"$*\" links with $san_flags"
        return
    fi
    ASAN_OPTIONS=detect_stack_use_after_return=1:detect_leaks=0
    TSAN_OPTIONS=die_after_fork=0:halt_on_error=1:report_thread_leaks=0
    UBSAN_OPTIONS=print_stacktrace=1
    export ASAN_OPTIONS TSAN_OPTIONS UBSAN_OPTIONS
    for program in fork exit; do
        build $program-$san $program.c $compiler -std=c11 -g -O1 $san_flags &&
            count $program-$san $dir/$program-$san $TESTS
    done
}

# Every runtime in a child has its own copy of everything: the other libc, the other switch.
# shellcheck disable=SC2086
others() {
    for program in fork exit; do
        build $program-ucontext $program.c $CC -std=c11 $CFLAGS -DSCH_NO_ASM &&
            count $program-ucontext $dir/$program-ucontext $TESTS
    done
    if have musl-gcc; then
        for program in fork exit; do
            build $program-musl $program.c musl-gcc -std=c11 -O2 -g -static &&
                count $program-musl $dir/$program-musl $TESTS
        done
    else
        skip musl "musl-gcc not found"
    fi
}

rounds() { # again and again, with storms, until the time is over
    end=$(($(date +%s) + BUDGET)) round=0
    FORKS=400 LOADS=1000 TIMEOUT=${TIMEOUT:-120}
    export FORKS LOADS TIMEOUT
    while [ "$(date +%s)" -lt "$end" ]; do
        round=$((round + 1))
        for program in fork exit static; do count "$program round $round" $dir/$program; done
        PLUGIN=$dir/plugin.so count "dlopen round $round" $dir/dlopen
    done
    echo "$round rounds"
}

case $level in
smoke) plain ;;
ci | all)
    plain
    sanitized asan "-fsanitize=address,undefined -fno-sanitize-recover=undefined \
-fno-omit-frame-pointer" clang-19 clang-20 clang-21
    sanitized tsan "-fsanitize=thread" clang-19 clang-20 clang-21 clang
    others
    if [ "$level" = all ]; then rounds; fi
    ;;
*) echo "usage: sh tests/process/run.sh smoke|ci|all" >&2; exit 2 ;;
esac

awk '{ p += $1; f += $2; s += $3 }
    END { printf "%d passed, %d failed, %d skipped\n", p, f, s; exit (f > 0) }' "$totals"
