#!/bin/sh
# matrix.sh - sched.h compiled by every compiler that is here, as every standard it promises, with
# every option that changes the code, at -O0 and -O2: no warning, no word. `make matrix`.
#   declared   declarations only
#   debug0-3   the implementation with SCH_DEBUG 0, 1, 3
#   late       declarations first, the implementation by a second #include in the same unit
#   static     SCH_STATIC          no_asm  SCH_NO_ASM (ucontext)
#   pic, lto   -fPIC, -flto: two units linked where the compiler can, and run where this machine can
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/include/jobs.sh
header=${HEADER:-sched.h}
jobs_begin matrix
mkdir "$jobs_dir/away"
cp "$header" "$jobs_dir/away/sched.h"
echo '#include "sched.h"' >"$jobs_dir/unit.c"
printf '#include "sched.h"\n#define SCHED_IMPLEMENTATION\n#include "sched.h"\n' >"$jobs_dir/late.c"
warnings="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror"

# objects ROW COLUMN COMPILE FLAGS [SOURCE] - one unit at both levels; most at -O2 only unless LEVEL
# is all. CHECKS=1: only what the compiler says, no code.
objects() {
    levels="-O0 -O2" checks=${CHECKS:-}
    if [ "${LEVEL:-ci}" != all ]; then
        case $2 in declared | debug1) ;; *) levels=-O2 ;; esac
        case $1:$2 in # clang says no more when it makes code, and musl-gcc is gcc
        clang*:debug[03] | clang*:static | musl*:debug[03] | musl*:static) checks=1 ;;
        esac
    fi
    result="-c -o \$dir/1.o"
    [ -n "$checks" ] && result=-fsyntax-only levels=-O2
    for level in $levels; do
        job "$1" "$2" "$3 $warnings $level $4 -iquote $jobs_dir/away \
            $jobs_dir/${5:-unit.c} $result"
    done
}

# program ROW COLUMN COMPILE FLAGS RUNNER - smoke.c as two units; RUNNER "no" does not run it
program() {
    unit="$3 $warnings -O2 $4 -iquote $jobs_dir/away -DOURS='\"sched.h\"'"
    case $5 in
    no) run=: ;;
    *) run="$5 \$dir/smoke" ;;
    esac
    job "$1" "$2" "$unit -DSCHED_IMPLEMENTATION -c tests/include/smoke.c -o \$dir/1.o &&
        $unit -DSECOND_UNIT -c tests/include/smoke.c -o \$dir/2.o &&
        ${3%% *} -O2 $4 \$dir/1.o \$dir/2.o -o \$dir/smoke -pthread && $run"
}

links() { # COMPILER FLAGS - does it make a program with them?
    echo 'int main(void) { return 0; }' >"$jobs_dir/probe.c"
    # shellcheck disable=SC2086 # a list
    $1 $2 "$jobs_dir/probe.c" -o "$jobs_dir/probe" >/dev/null 2>&1
}

# compiler COMMAND LANGUAGE RUNNER LINKFLAGS STANDARD... - one row for each standard
compiler() {
    cc=$1 language=$2 runner=$3 link=$4
    shift 4
    if ! command -v "$cc" >/dev/null 2>&1; then
        jobs_skip "$cc not found"
        return
    fi
    case $cc in
    *clang*) flto=-flto ;;
    *) flto=-flto=auto ;; # else gcc says a word when the program is large enough for two jobs
    esac
    links "$cc" "-O2 $flto $link" && lto=yes || lto=no
    [ "$lto" = yes ] || jobs_skip "$cc does not link with -flto: compiled only"
    first=$1
    for std in "$@"; do
        row=$cc-$std compile="$cc -std=$std -x $language" debugs="0 1 3" CHECKS=
        if [ "$std" != "$first" ] && [ "${LEVEL:-ci}" != all ]; then
            debugs=1 CHECKS=1 # options and code hardly depend on the standard
        fi
        objects "$row" declared "$compile" ""
        for debug in $debugs; do
            objects "$row" "debug$debug" "$compile" "-DSCHED_IMPLEMENTATION -DSCH_DEBUG=$debug"
        done
        [ "$debugs" = 1 ] && continue
        objects "$row" static "$compile" "-DSCHED_IMPLEMENTATION -DSCH_STATIC"
        # musl has no swapcontext; the header says so with an #error.
        [ "$cc" = musl-gcc ] || objects "$row" no_asm "$compile" "-DSCHED_IMPLEMENTATION -DSCH_NO_ASM"
    done
    CHECKS=
    objects "$row" late "$compile" "" late.c
    # Code generation hardly depends on the standard: once is enough.
    program "$row" pic "$compile" "-fPIC $link" "$runner"
    if [ "$lto" = yes ]; then
        program "$row" lto "$compile" "$flto $link" "$runner"
    else
        objects "$row" lto "$compile" "-DSCHED_IMPLEMENTATION $flto"
    fi
}

compiler gcc c "" "" c11 c17 gnu17
compiler g++ c++ "" "" c++17 c++20
compiler clang c "" "" c11 c17 gnu17
compiler clang++ c++ "" "" c++17 c++20
compiler clang-19 c "" "" c11 c17
compiler clang++-19 c++ "" "" c++17 c++20
compiler musl-gcc c "" "" c11 c17
runner=no
command -v qemu-aarch64 >/dev/null 2>&1 && runner=qemu-aarch64
[ $runner = no ] && jobs_skip "qemu-aarch64 not found: programs for AArch64 not run"
compiler aarch64-linux-gnu-gcc c $runner -static c11 c17

# 32 bits, if there is a libc for it: gcc -m32 or the cross compiler.
for cc in "gcc -m32" i686-linux-gnu-gcc; do
    links "$cc" "" && break
    cc=
done
if [ -n "$cc" ]; then
    objects 32-bit-c11 declared "$cc -std=c11" ""
    objects 32-bit-c11 debug1 "$cc -std=c11" -DSCHED_IMPLEMENTATION
else
    jobs_skip "no compiler with a 32-bit libc (gcc -m32, i686-linux-gnu-gcc)"
fi
jobs_end
