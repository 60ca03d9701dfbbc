#!/bin/sh
# run.sh PART... - build and run parts of the test suite; the Makefile's targets call it. PART+PART
# runs two at once, PART,PART+PART two lists of them.
#
# A part prints what it likes and "N passed, N failed, N skipped" on a line of its own, or nothing
# of the kind, and then its exit status counts: 0 passed, 77 skipped, else failed. A part that could
# not be built has failed. What cannot run for want of a tool is named and counted as skipped. The
# last line here is the sum. Variables: see the Makefile.
# shellcheck disable=SC2030,SC2031 # functions with ( ) keep their variables to themselves
set -u
cd "$(dirname "$0")/.." || exit 1

: "${CC:=cc}" "${CXX:=c++}" "${CFLAGS=-O2 -g}" "${SAN:=}" "${TESTS:=}" "${VALGRIND_TESTS:=}"
[ -n "${SEED:-}" ] || unset SEED
LEVEL=${LEVEL:-ci} # smoke, ci, all: how long the parts of the proof take
[ -n "${BUDGET:-}" ] || unset BUDGET
export CC CXX CFLAGS LEVEL
warnings="-Wall -Wextra"
san=${SAN:+-fsanitize=$SAN -fno-omit-frame-pointer}
[ "$LEVEL" = all ] && part_limit=86400
part_limit=${PART_LIMIT:-${part_limit:-600}} # seconds; the last resort, tests have time-outs of their own
side= # of two parts at once, the first: for names of files
mkdir -p build/log
totals=build/log/totals.$$
: >"$totals"
trap 'rm -f "$totals"' EXIT

have() { command -v "${1%% *}" >/dev/null 2>&1; }

if have timeout; then
    limit() { timeout -k 10 "$part_limit" "$@"; }
else
    limit() { "$@"; }
fi

# part NAME COMMAND... - run it, keep its output in build/log, count it.
part() {
    part_name=$1 part_log=build/log/$(echo "$1" | tr '/ ' '--').log
    part_start=$(date +%s)
    shift
    echo "== $part_name"
    { "$@" 2>&1 && echo 0 >"$part_log.status" || echo $? >"$part_log.status"; } | tee "$part_log"
    awk -v name="$part_name" -v status="$(cat "$part_log.status")" '
        /^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { found = 1; p = $1; f = $3; s = $5 }
        END {
            if (!found) { p = status == 0; s = status == 77; f = !p && !s }
            else if (status != 0 && status != 77 && f == 0) f = 1
            else if (p + f + s == 0) f = 1
            print name, p + 0, f + 0, s + 0
        }' "$part_log" >>"$totals"
    if [ "$(cat "$part_log.status")" -gt 1 ] && [ "$(cat "$part_log.status")" -ne 77 ]; then
        echo "$part_name: exit status $(cat "$part_log.status")"
    fi
    rm -f "$part_log.status"
    echo "-- $part_name: $(($(date +%s) - part_start)) s"
}

skip() { # skip NAME REASON
    echo "== $1"
    echo "skip $1: $2"
    echo "$1 0 0 1" >>"$totals"
}

build() { # build COMMAND... - show it and do it
    echo "$*"
    "$@"
}

# links COMPILER FLAGS... - can it make a program with these flags?
links() {
    have "$1" || return 1
    echo 'int main(void) { return 0; }' >"build/probe$$$side.c"
    # shellcheck disable=SC2086 # CC may be several words
    $1 "build/probe$$$side.c" -o "build/probe$$$side" $2 >/dev/null 2>&1
    probe_status=$?
    rm -f "build/probe$$$side" "build/probe$$$side.c"
    return $probe_status
}

first_of() { # the first of these compilers that links with $flags, or nothing
    for candidate in "$@"; do
        if links "$candidate" "$flags"; then
            echo "$candidate"
            return
        fi
    done
}

# suite NAME COMPILER FLAGS RUNNER WORDS - the unit tests, built and run in one way.
# shellcheck disable=SC2086 # lists of words
suite() {
    build $2 -std=c11 $warnings $3 -o "build/$1" tests/all.c -pthread || return 1
    limit $4 "build/$1" $5
}

unit() { part unit suite unit "$CC" "$CFLAGS $san" "" "$TESTS"; }

# sanitized NAME FLAGS MORE_FLAGS COMPILER... - with the first of them that can; at LEVEL all with
# each of them.
sanitized() {
    name=$1 flags="-fsanitize=$2 -g -fno-omit-frame-pointer $3"
    shift 3
    if [ "$LEVEL" = all ]; then
        for compiler in "$@"; do
            if links "$compiler" "$flags"; then
                part "$name $compiler" suite "$name-$compiler" "$compiler" "$flags" "" "$TESTS"
            else
                skip "$name $compiler" "it does not link with $flags"
            fi
        done
        return
    fi
    compiler=$(first_of "$@")
    if [ -n "$compiler" ]; then
        part "$name $compiler" suite "$name" "$compiler" "$flags" "" "$TESTS"
    else
        skip "$name" "none of \"$*\" links with $flags"
    fi
}

asan() (
    ASAN_OPTIONS=detect_stack_use_after_return=1:detect_leaks=1 TIMEOUT=${TIMEOUT:-180}
    export ASAN_OPTIONS TIMEOUT
    sanitized asan address,undefined "-O1 -fno-sanitize-recover=undefined" gcc clang-19 clang
    [ "$LEVEL" != all ] || # once with locals on the tasks' own stacks, whose memory goes back then
        ASAN_OPTIONS=detect_stack_use_after_return=0 \
            sanitized asan-own address,undefined "-O1 -fno-sanitize-recover=undefined" clang
)

ubsan() (
    UBSAN_OPTIONS=print_stacktrace=1
    export UBSAN_OPTIONS
    sanitized ubsan undefined "-O2 -fno-sanitize-recover=undefined" clang-19 clang gcc
)

# gcc 12's TSan dies at 8,128 live fibers and needs six times the memory: it takes
# valgrind's subset.
tsan() (
    TIMEOUT=${TIMEOUT:-300}
    export TIMEOUT
    if have llvm-symbolizer-19; then # else reports name addresses only
        TSAN_OPTIONS=external_symbolizer_path=$(command -v llvm-symbolizer-19)
        export TSAN_OPTIONS
    fi
    sanitized tsan thread "-O1" clang-19 clang-20 clang-21 clang
    if [ "$LEVEL" = all ] && links gcc -fsanitize=thread; then
        TESTS=${TESTS:-$VALGRIND_TESTS}
        part "tsan gcc" suite tsan-gcc gcc "-fsanitize=thread -g -O1" "" "$TESTS"
    fi
)

memcheck() (
    have valgrind || { skip valgrind "valgrind not found"; return; }
    TIMEOUT=${TIMEOUT:-300} SLOWDOWN=${SLOWDOWN:-50}
    export TIMEOUT SLOWDOWN
    part valgrind suite valgrind "$CC" "-O1 -g -DSCH_VALGRIND" "valgrind -q --fair-sched=yes --error-exitcode=99 \
        --leak-check=full --errors-for-leak-kinds=definite --show-leak-kinds=definite" \
        "${VALGRIND_TESTS:-$TESTS}"
)

# Lines and branches of the header that the unit tests and the fuzzer's corpus reach.
coverage_run() {
    rm -rf build/coverage && mkdir -p build/coverage || return 1
    build "$CC" -std=c11 -O0 --coverage -o build/coverage/unit tests/all.c -pthread || return 1
    build "$CC" -std=c11 -O0 --coverage -I. -o build/coverage/fuzz tests/fuzz/api_fuzz.c \
        -pthread || return 1
    limit build/coverage/unit >build/log/coverage-unit.log || return 1
    limit build/coverage/fuzz tests/fuzz/corpus >build/log/coverage-fuzz.log || return 1
    gcovr --filter sched.h --print-summary --txt build/coverage/lines.txt build/coverage || return 1
    cat build/coverage/lines.txt
}

coverage() {
    if have gcovr; then part coverage coverage_run; else skip coverage "gcovr not found"; fi
}

# The same tests with another libc, another instruction set, another way to switch stacks.
platform() (
    SLOWDOWN=${SLOWDOWN:-10}
    export SLOWDOWN
    case $1 in
    platforms) platform ucontext; platform musl; platform aarch64 ;;
    ucontext) part ucontext suite ucontext "$CC" "$CFLAGS -DSCH_NO_ASM" "" "$TESTS" ;;
    musl)
        if have musl-gcc; then
            part musl suite musl musl-gcc "$CFLAGS -static" "" "$TESTS"
        else
            skip musl "musl-gcc not found"
        fi
        ;;
    aarch64)
        if ! have qemu-aarch64; then
            skip aarch64 "qemu-aarch64 not found"
        elif ! links aarch64-linux-gnu-gcc -static; then
            skip aarch64 "aarch64-linux-gnu-gcc does not link"
        else
            part aarch64 suite aarch64 aarch64-linux-gnu-gcc \
                "$CFLAGS -static -Wl,-u,backtrace" qemu-aarch64 "$TESTS"
        fi
        ;;
    esac
)

# Declarations only, linked to the implementation compiled as C and as C++.
# shellcheck disable=SC2086
api_program() { # NAME COMPILER STANDARD SOURCE OBJECT
    build $2 $3 $warnings $CFLAGS $san -o "build/$1" "$4" "$5" -pthread || return 1
    limit "build/$1"
}

# shellcheck disable=SC2086
api() {
    source=tests/api/implementation.c
    c_object=build/api-c.o cxx_object=build/api-cxx.o
    part api/implementation build $CC -std=c11 $warnings $CFLAGS $san -c $source -o $c_object
    for file in tests/api/*.c; do
        [ "$file" = "$source" ] && continue
        name=api-$(basename "$file" .c)
        part "api/$(basename "$file" .c)" api_program "$name" "$CC" -std=c11 "$file" $c_object
    done
    if have "$CXX"; then
        part api/implementation_cxx build $CXX -x c++ -std=c++17 $warnings $CFLAGS $san \
            -c $source -o $cxx_object
        for file in tests/api/*.cpp; do
            name=api-$(basename "$file" .cpp)
            part "api/$(basename "$file" .cpp)" \
                api_program "$name" "$CXX" -std=c++17 "$file" $c_object
            part "api/$(basename "$file" .cpp), C++ implementation" \
                api_program "$name" "$CXX" -std=c++17 "$file" $cxx_object
        done
    else
        skip api/c++ "$CXX not found"
    fi
    part api/manual snippet manual sched.h
    part api/readme snippet readme README.md
}

# The first whole program in the manual or the README, built with the command line given there.
# shellcheck disable=SC2086
snippet() { # NAME FILE
    case $2 in
    *.h) awk '/^ \* A PROGRAM/ { on = 1; next } /^ \* [A-Z]/ { on = 0 }
              on { sub(/^ \* ? ? ? ? ?/, ""); print }' "$2" >"build/$1.c" ;;
    *) awk '/^```c *$/ && !done { on = 1; text = ""; next }
            /^```/ && on { on = 0; if (text ~ /int main\(/) { done = 1; printf "%s", text } }
            on { text = text $0 "\n" }' "$2" >"build/$1.c" ;;
    esac
    grep -q 'int main(' "build/$1.c" || { echo "$2 shows no whole program"; return 1; }
    build $CC -std=c11 $warnings $CFLAGS $san -iquote . -o "build/$1" "build/$1.c" -pthread &&
        limit "build/$1"
}

# shellcheck disable=SC2086
example() { # NAME
    build $CC -std=c11 $warnings $CFLAGS $san -iquote . -o "build/$1" "docs/examples/$1.c" \
        -pthread && limit sh "tests/examples/${1%%_*}.sh" "build/$1"
}

examples() {
    for file in docs/examples/*.c; do
        part "examples/$(basename "$file" .c)" example "$(basename "$file" .c)"
    done
}

# proof KIND - tests/KIND/run.sh at LEVEL, or smoke if it is one of LIGHT; it knows its tools and
# says what it skips.
proof() { part "$1" limit sh "tests/$1/run.sh" "$(level_of "$1")"; }

level_of() {
    case " ${LIGHT:-} " in
    *" $1 "*) echo smoke ;;
    *) echo "$LEVEL" ;;
    esac
}

[ $# -gt 0 ] || { echo "usage: sh tests/run.sh PART..." >&2; exit 2; }
one() { # the part of this name
    case $1 in
    unit | api | examples | coverage | asan | ubsan | tsan) $1 ;;
    examples/*) part "$1" example "${1#*/}" ;;
    platforms | ucontext | musl | aarch64) platform "$1" ;;
    valgrind) memcheck ;;
    model | fault | stress | fuzz | process | kqueue | embed | observe | trace | page | budget)
        proof "$1"
        ;;
    cross) part cross sh tests/kqueue/cross.sh "$(level_of cross)" ;;
    soak) part soak sh tests/stress/run.sh soak ;;
    include) part include sh tests/include/order.sh ;;
    matrix) part matrix sh tests/include/matrix.sh ;;
    lint) part lint sh tests/lint/lint.sh ;;
    fetch) part fetch sh tests/fetch.sh ;;
    *) echo "run.sh: no part is called $1" >&2; exit 2 ;;
    esac
}

several() { # those in a list with commas
    for name in $(echo "$1" | tr ',' ' '); do one "$name"; done
}

for wanted in "$@"; do
    case $wanted in
    *+*) # two at once: each leaves a core idle at times
        side=first
        several "${wanted%%+*}" >build/log/first.$$ 2>&1 &
        side=
        several "${wanted#*+}" >build/log/second.$$ 2>&1
        wait $!
        cat build/log/first.$$ build/log/second.$$
        rm -f build/log/first.$$ build/log/second.$$
        ;;
    *) several "$wanted" ;;
    esac
done

# What failed again, last: a log that is cut keeps its end.
awk '$(NF - 1) > 0 { sub(/ [0-9]+ [0-9]+ [0-9]+$/, ""); print }' "$totals" | while read -r name; do
    echo "-- failures in $name:"
    grep -nE 'FAIL|[Ff]ailed|WARNING: Thread|SUMMARY|ERROR|[Ee]rror|SEED=| #[0-9]+ ' \
        "build/log/$(echo "$name" | tr '/ ' '--').log" |
        grep -vE ', 0 failed,|^[0-9]+:(ok|skip) ' | head -n 40
done
awk '{
        name = $0; sub(/ [0-9]+ [0-9]+ [0-9]+$/, "", name)
        if ($(NF - 1) > 0) print "FAILED: " name
        else if ($NF > 0) print "skipped in: " name
        p += $(NF - 2); f += $(NF - 1); s += $NF
    }
    END { printf "%d passed, %d failed, %d skipped\n", p, f, s; exit (f > 0) }' "$totals"
