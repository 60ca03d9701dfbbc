#!/bin/sh
# run.sh LEVEL - a runtime inside foreign loops. LEVEL: smoke, ci, all (more rounds; `all` also under
# sanitizers). Variables: CC CFLAGS SEED. Run from the top.
set -u
level=${1:-ci}
: "${CC:=cc}" "${CFLAGS=-O2 -g}"
dir=build/embed
mkdir -p $dir
passed=0 failed=0 skipped=0

# builds WHAT FLAGS... - does a program of one line build with these?
builds() {
    echo '#include <uv.h>
int main(void) { return uv_version() == 0; }' >$dir/probe.c
    # shellcheck disable=SC2086,SC2068 # lists of words
    $CC $CFLAGS $@ -o $dir/probe $dir/probe.c $libs >/dev/null 2>&1
}

# uv NAME ROUNDS FLAGS... - one build, run so many rounds.
uv() {
    name=$1 rounds=$2
    shift 2
    # shellcheck disable=SC2086,SC2068
    if ! builds $@; then
        echo "skip embed $name: the compiler, libuv (libuv1-dev) or $* is not here"
        skipped=$((skipped + 1))
        return
    fi
    # shellcheck disable=SC2086,SC2068
    if ! $CC -std=gnu11 -Wall -Wextra $CFLAGS $@ -o $dir/uv tests/embed/uv.c $libs -pthread; then
        echo "FAIL embed $name: does not build"
        failed=$((failed + 1))
        return
    fi
    REPEAT=$rounds $dir/uv >$dir/log 2>&1
    status=$?
    sed '$d' $dir/log | sed "s/^\(ok  *\|FAIL \|skip \)/&$name /"
    counts=$(awk '/^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { print $1, $3, $5 }' $dir/log)
    if [ -z "$counts" ]; then
        tail -n 5 $dir/log
        echo "FAIL embed $name: exit status $status"
        counts="0 1 0"
    fi
    # shellcheck disable=SC2086
    set -- $counts
    passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}

libs=$(pkg-config --libs --cflags libuv 2>/dev/null || echo -luv)
case $level in
smoke) rounds=1 ;;
ci) rounds=5 ;;
*) rounds=50 ;;
esac
uv uv $rounds
if [ "$level" = all ]; then
    uv asan 5 -fsanitize=address,undefined
    uv tsan 5 -fsanitize=thread
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
