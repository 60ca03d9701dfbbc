#!/bin/sh
# run.sh smoke|ci|all|minimise - fuzz the public interface; see api_fuzz.c.
#
#   smoke     replay the corpus; programs made up from SEED; SCH_DEBUG 0 with misuse
#   ci        the same, the corpus under ASan and UBSan, libFuzzer 12 s under ASan, 10 s under TSan
#   all       each of these for BUDGET seconds (60)
#   minimise  replace the corpus by the fewest files that cover the edges of it and of
#             build/fuzz/found; files that were written by hand (seed-*) stay
#
# What a run finds grows in build/fuzz/found; the corpus itself is changed by `minimise` only. An
# input that fails is kept in build/fuzz/failed; build/fuzz/replay -d FILE prints it as a program,
# and SEED=n build/fuzz/replay -d -r 1 a made-up one. libFuzzer comes with clang; without, it is
# skipped. Variables: CC CFLAGS SEED BUDGET; FUZZ_CC (clang-19), TIMEOUT (seconds for one input).
# shellcheck disable=SC2086 # lists of words
set -u
cd "$(dirname "$0")/../.." || exit 1
level=${1:-smoke}
: "${CC:=cc}" "${CFLAGS=-O2 -g}" "${FUZZ_CC:=clang-19}" "${BUDGET:=60}"
corpus=tests/fuzz/corpus found=build/fuzz/found more=
log=build/fuzz/log
mkdir -p "$found" build/fuzz/failed
passed=0 failed=0 skipped=0
command -v "${FUZZ_CC%% *}" >/dev/null 2>&1 || FUZZ_CC=clang
ASAN_OPTIONS=detect_stack_use_after_return=1:detect_leaks=1
UBSAN_OPTIONS=print_stacktrace=1
export ASAN_OPTIONS UBSAN_OPTIONS
warnings="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror"
asan="-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined"
tsan="-O1 -g -fno-omit-frame-pointer -fsanitize=thread"

ok() { passed=$((passed + 1)) && echo "ok $1: $2"; }
fail() {
    failed=$((failed + 1))
    echo "FAIL $1: $2"
    tail -n 100 "$log"
}
skip() { skipped=$((skipped + 1)) && echo "skip $1: $2"; }

# build NAME COMPILER FLAGS...
build() {
    name=$1
    shift
    "$@" -std=c11 -o "build/fuzz/$name" tests/fuzz/api_fuzz.c -pthread >"$log" 2>&1 && return 0
    fail "$name" "does not build"
    return 1
}

figures() { grep ' calls of ' "$log" | tail -n 1; }

# replay NAME PROGRAM ARGUMENTS... - the program of its own.
replay() {
    name=$1
    shift
    if "$@" >"$log" 2>&1; then
        ok "$name" "$(figures)$(sed -n 's/^SEED=/, SEED=/p' "$log")"
    else
        fail "$name" "$(sed -n 's/^SEED=/SEED=/p' "$log")"
    fi
}

# can NAME FLAGS - does the compiler link with these?
can() {
    case $2 in
    *fuzzer*) function="LLVMFuzzerTestOneInput" ;;
    *) function=main ;;
    esac
    echo "int $function(void); int $function(void) { return 0; }" >build/fuzz/probe.c
    $FUZZ_CC $2 -o build/fuzz/probe build/fuzz/probe.c >"$log" 2>&1 && return 0
    skip "$1" "$FUZZ_CC does not link with $2"
    return 1
}

# libfuzzer NAME FLAGS SECONDS - build and run; adds what is new to $found. Level ci begins with the
# corpus alone, so that its seconds are not spent on reading what was found before.
libfuzzer() {
    name=$1 new=build/fuzz/new
    rm -rf $new
    mkdir -p $new
    can "$name" "-fsanitize=fuzzer" || return
    build "$name" $FUZZ_CC $2 -fsanitize=fuzzer -DFUZZ_LIBFUZZER || return
    if "build/fuzz/$name" -max_len=600 -len_control=0 -detect_leaks=0 -timeout=300 \
        -rss_limit_mb=4096 -max_total_time="$3" -artifact_prefix=build/fuzz/failed/ \
        ${SEED:+-seed="$SEED"} $new $corpus $more >"$log" 2>&1; then
        edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
        count=$(find $new -type f | wc -l)
        ok "$name" "$(figures), $edges coverage edges, $count new inputs, $3 s"
    else
        fail "$name" "see build/fuzz/failed"
    fi
    find $new -type f -exec mv {} $found \;
}

programs() { # programs SECONDS
    build replay $CC $CFLAGS $warnings && {
        replay corpus build/fuzz/replay $corpus
        replay made_up build/fuzz/replay -r "$1"
    }
    build misuse $CC $CFLAGS $warnings -DFUZZ_MISUSE && {
        replay misuse build/fuzz/misuse -r "$1" $corpus
    }
}

case $level in
smoke) programs 3 ;;
ci)
    programs 4
    can asan "$asan" && build replay-asan $FUZZ_CC $asan && {
        replay corpus_asan build/fuzz/replay-asan $corpus
    }
    libfuzzer fuzz_asan "$asan" 12
    libfuzzer fuzz_tsan "$tsan" 10
    ;;
all)
    more=$found
    programs "$BUDGET"
    can asan "$asan" && build replay-asan $FUZZ_CC $asan && {
        replay corpus_asan build/fuzz/replay-asan -r "$BUDGET" $corpus
    }
    can tsan "$tsan" && build replay-tsan $FUZZ_CC $tsan && {
        replay corpus_tsan build/fuzz/replay-tsan -r "$BUDGET" $corpus
    }
    libfuzzer fuzz_asan "$asan" "$BUDGET"
    libfuzzer fuzz_tsan "$tsan" "$BUDGET"
    libfuzzer fuzz_misuse "$asan -DFUZZ_MISUSE" "$BUDGET"
    ;;
minimise)
    build fuzz_merge $FUZZ_CC -O1 -g -fsanitize=fuzzer -DFUZZ_LIBFUZZER || exit 1
    rm -rf build/fuzz/merged
    mkdir -p build/fuzz/merged
    build/fuzz/fuzz_merge -set_cover_merge=1 -use_counters=0 -max_len=600 -detect_leaks=0 \
        build/fuzz/merged $corpus "$found" >"$log" 2>&1 ||
        { fail minimise "the merge failed"; exit 1; }
    cp $corpus/seed-* build/fuzz/merged/
    rm -rf $corpus "$found"
    mkdir -p "$found"
    mv build/fuzz/merged $corpus
    ok minimise "$(find $corpus -type f | wc -l) files, $(du -sk $corpus | cut -f 1) KiB on disk"
    ;;
*) echo "usage: sh tests/fuzz/run.sh smoke|ci|all|minimise" >&2; exit 2 ;;
esac
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
