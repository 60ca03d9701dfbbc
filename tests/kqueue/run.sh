#!/bin/sh
# run.sh LEVEL - sched.h's kqueue back end on Linux: tests/kqueue/kqueue.c's own test, then the unit
# tests with kqueue instead of epoll, futex and timerfd. LEVEL: smoke (the selftest and the unit
# tests once), ci (with AddressSanitizer and with ThreadSanitizer), all (both flavours of kqueue.c
# everywhere, until BUDGET seconds are over). Variables: CC CFLAGS SEED TESTS BUDGET. Run from the top.
set -u
level=${1:-ci}
: "${CC:=cc}" "${CFLAGS=-O2 -g}" "${TESTS:=}" "${BUDGET:=300}"
[ -n "${SEED:-}" ] || unset SEED
dir=build/kqueue here=tests/kqueue
mkdir -p $dir
totals=$dir/totals.$$
: >"$totals"
trap 'rm -f "$totals"' EXIT

sum() { # the last line and the exit status
    awk '{ p += $1; f += $2; s += $3 }
        END { printf "%d passed, %d failed, %d skipped\n", p, f, s; exit (f > 0) }' "$totals"
}

skip() { # skip NAME REASON
    echo "skip $1: $2"
    echo "0 0 1" >>"$totals"
}

if [ "$(uname -s)" != Linux ]; then
    skip kqueue "this is no Linux: the system has a kqueue, or there is no epoll to make one of"
    sum
    exit
fi

# links COMPILER FLAGS... - can it make a program with these flags?
links() {
    command -v "$1" >/dev/null 2>&1 || return 1
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

# build NAME COMPILER FLAGS... - $dir/NAME and $dir/NAME-selftest
# shellcheck disable=SC2086 # lists of words
build() {
    name=$1 compiler=$2
    shift 2
    program="$compiler -std=gnu11 -Wall -Wextra -isystem $here/include -Dclose=kqueue_close"
    # the two at once: there are two cores
    $compiler -std=gnu11 -Wall -Wextra "$@" -isystem $here/include -c $here/kqueue.c \
        -o $dir/$name.o && {
        $program "$@" $here/selftest.c $dir/$name.o -o $dir/$name-selftest -pthread &
        $program "$@" -DSCH_USE_KQUEUE tests/all.c $dir/$name.o -o $dir/$name -pthread && wait $!
    } && return
    echo "FAIL build $name"
    echo "0 1 0" >>"$totals"
    return 1
}

# count NAME COMMAND... - run it, show it, keep its last line.
count() {
    echo "== kqueue $1"
    log=$dir/log.$$ title=$1
    shift
    "$@" >"$log" 2>&1 || echo "$title: exit status $?" >>"$log"
    cat "$log"
    awk '/^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { found = 1; print $1, $3, $5 }
        END { if (!found) print 0, 1, 0 }' "$log" >>"$totals"
    rm -f "$log"
}

# run NAME FLAVOUR... - selftest and unit tests
# shellcheck disable=SC2086
run() {
    name=$1
    shift
    for flavour in "$@"; do
        KQUEUE_FLAVOUR=$flavour count "selftest $name $flavour" $dir/$name-selftest
        KQUEUE_FLAVOUR=$flavour count "unit $name $flavour" $dir/$name $TESTS
    done
}

sanitized() { # sanitized NAME FLAGS COMPILER...
    san=$1 san_flags=$2
    shift 2
    compiler=$(first_of "$san_flags" "$@")
    if [ -z "$compiler" ]; then
        skip "$san" "none of \"$*\" links with $san_flags"
        return 1
    fi
    # shellcheck disable=SC2086
    build "$san" "$compiler" -g -O1 -fno-omit-frame-pointer $san_flags
}

asan() { # asan FLAVOUR...
    ASAN_OPTIONS=detect_stack_use_after_return=1:detect_leaks=1 TIMEOUT=${TIMEOUT:-180}
    UBSAN_OPTIONS=print_stacktrace=1
    export ASAN_OPTIONS UBSAN_OPTIONS TIMEOUT
    sanitized asan "-fsanitize=address,undefined -fno-sanitize-recover=undefined" clang-19 gcc &&
        run asan "$@"
}

tsan() {
    TSAN_OPTIONS=halt_on_error=0 TIMEOUT=${TIMEOUT:-300}
    if command -v llvm-symbolizer-19 >/dev/null 2>&1; then
        TSAN_OPTIONS=$TSAN_OPTIONS:external_symbolizer_path=$(command -v llvm-symbolizer-19)
    fi
    export TSAN_OPTIONS TIMEOUT
    sanitized tsan -fsanitize=thread clang-19 clang-20 clang-21 clang && run tsan "$@"
}

# shellcheck disable=SC2086
plain() { build plain $CC $CFLAGS && run plain "$@"; }

case $level in
smoke) SLOWDOWN=${SLOWDOWN:-10} && export SLOWDOWN && plain "" ;;
ci)
    asan strict
    tsan strict
    ;;
all)
    end=$(($(date +%s) + BUDGET))
    plain "" strict
    asan "" strict
    tsan "" strict
    while [ "$(date +%s)" -lt "$end" ]; do run plain "" strict; done
    ;;
*) echo "usage: sh tests/kqueue/run.sh smoke|ci|all" >&2; exit 2 ;;
esac
sum
