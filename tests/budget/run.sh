#!/bin/sh
# run.sh LEVEL - instructions and atomic operations of the hot paths, against tests/budget/budgets.txt.
# From the checkout's top.
#
#   sh tests/budget/run.sh smoke|ci|all   compare; ci and all also see whether counts repeat
#   sh tests/budget/run.sh record         write budgets.txt anew: look at the difference
#   sh tests/budget/run.sh show           print what was measured, by path and function
#
# Instructions are counted by valgrind's callgrind, in user space, all functions, libc's too; with
# another compiler, libc or instruction set than the budgets were recorded with, that part is
# skipped. Atomic operations are counted by a copy of the header whose builtins are wrapped. More
# than 3 % above a budget fails, and names the functions that grew; so does more than 10 % below it,
# until it is recorded, and any change in the number of atomic operations. CC is honoured, CFLAGS is
# not: counts are those of -O2 without assertions. One line for each path; the last line is
# "N passed, N failed, N skipped".
set -u
cd "$(dirname "$0")/../.." || exit 1
level=${1:-ci}
here=tests/budget budgets=tests/budget/budgets.txt out=build/budget
: "${CC:=cc}"
flags="-std=c11 -O2 -DNDEBUG -DSCH_DEBUG=0 -Wall -Wextra"
case $level in
smoke | ci | all | record | show) ;;
*) echo "usage: sh tests/budget/run.sh smoke|ci|all|record|show" >&2; exit 2 ;;
esac
rm -rf "$out"
mkdir -p "$out/counted" || exit 1

# shellcheck disable=SC2086 # lists of words
build() { # build NAME FLAGS...
    build_name=$1
    shift
    $CC $flags "$@" -o "$out/$build_name" $here/paths.c $here/header.c -pthread \
        >"$out/$build_name.log" 2>&1
}

give_up() { # give_up REASON [LOG]
    echo "FAIL budget: $1"
    [ $# -eq 1 ] || sed 's/^/  /' "$2"
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
}

# "gcc 12 x86_64 glibc 2.36", whatever the compiler calls itself.
compiler() {
    printf '#include <stdlib.h>\nMADE __clang_major__ __GNUC__ __GLIBC__ . __GLIBC_MINOR__\n' |
        $CC -E -P - 2>/dev/null | awk -v arch="$(uname -m)" '$1 == "MADE" {
            libc = $4 ~ /^[0-9]/ ? "glibc " $4 $5 $6 : "libc of another kind"
            print ($2 ~ /^[0-9]/ ? "clang " $2 : "gcc " $3) " " arch " " libc
        }'
}

# callgrind FOLDER PROGRAM: lines "path PATH INSTRUCTIONS" and "in PATH FUNCTION INSTRUCTIONS", for
# one operation. Its files list, for each function, lines of "POSITION COUNT", and after each line
# "calls=" one of what was called, which is counted there already. What libc does to find a variant
# of memset for this processor is turned off.
callgrind() {
    mkdir -p "$1" || return 1
    GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2,-AVX2_Usable,-AVX512F,-AVX512VL,-ERMS,-FSRM \
        valgrind -q --tool=callgrind --compress-strings=no --compress-pos=no \
        --callgrind-out-file="$1/out" "$2" >"$1/stdout" 2>"$1/stderr" || return 1
    cat "$1"/out.* | awk -v operations="$(awk '{ print $3; exit }' "$1/stdout")" '
        /^desc: Trigger: Client Request: / { path = $NF }
        /^fn=/ { name = substr($0, 4); sub(/\047[0-9]+$/, "", name); gsub(/ /, "_", name); next }
        /^calls=/ { getline; next }
        /^[0-9]/ && path != "" { sum[path] += $2; self[path " " name] += $2 }
        END {
            for (p in sum) printf "path %s %.2f\n", p, sum[p] / operations
            for (f in self) {
                if (self[f] / operations >= 1) printf "in %s %.2f\n", f, self[f] / operations
            }
        }' | sort
}

# Lines "atomics PATH RMWS STORES", for one operation.
sed 's/__atomic_\(exchange_n\|compare_exchange_n\|fetch_[a-z]*\|store_n\)(/budget_\1(/' sched.h \
    >"$out/counted/sched.h"
build atomics -iquote "$out/counted" || give_up "does not build" "$out/atomics.log"
"$out/atomics" >"$out/atomics.out" 2>&1 || give_up "a path failed" "$out/atomics.out"
awk '$1 == "path" { printf "atomics %s %.2f %.2f\n", $2, $4 / $3, $5 / $3 }' "$out/atomics.out" \
    >"$out/measured.txt"

made=$(compiler) recorded=
[ -f "$budgets" ] && recorded=$(sed -n 's/^with //p' "$budgets")
reason=
if ! command -v valgrind >/dev/null 2>&1; then
    reason="valgrind not found"
elif ! build paths -DBUDGET_CALLGRIND -iquote .; then
    reason="callgrind's header not found, see $out/paths.log"
    grep -q 'valgrind/callgrind.h' "$out/paths.log" || give_up "does not build" "$out/paths.log"
elif [ "$level" != record ] && [ "$level" != show ] && [ "$made" != "$recorded" ]; then
    reason="budgets are for $recorded, this is $made"
else
    callgrind "$out/first" "$out/paths" >"$out/first.txt"
    grep -q '^path' "$out/first.txt" || give_up "callgrind failed" "$out/first/stderr"
    cat "$out/first.txt" >>"$out/measured.txt"
fi

if [ "$level" = show ]; then
    cat "$out/measured.txt"
    exit
elif [ "$level" = record ]; then
    [ -z "$reason" ] || give_up "$reason"
    {
        echo "# Written by sh tests/budget/run.sh record. For one operation: atomics PATH RMWS STORES"
        echo "# (sequentially consistent stores), path PATH INSTRUCTIONS, in PATH FUNCTION INSTRUCTIONS."
        echo "with $made"
        sort "$out/measured.txt"
    } >"$budgets"
    echo "$budgets written"
    exit
fi

# The same program elsewhere, under another name, with more environment, counts the same.
repeats() {
    mkdir -p "$out/elsewhere/with a long name" || return 1
    cp "$out/paths" "$out/elsewhere/with a long name/the same program" || return 1
    BUDGET_PADDING=$(awk 'BEGIN { while (i++ < 999) printf "%s", "padding " }') \
        callgrind "$out/second" "$out/elsewhere/with a long name/the same program" \
        >"$out/second.txt"
    awk '$1 != "path" { next }
        NR == FNR { first[$2] = $3; next }
        { seen++; d = ($3 - first[$2]) / $3; if (d < 0) d = -d; if (d > most) most = d
          if (d > 0.001) print "FAIL repeats: " $2 " " first[$2] ", then " $3 }
        END { if (!seen) print "FAIL repeats: nothing was measured"
              else if (most <= 0.001) printf "ok repeats: within %.4f %%\n", 100 * most }' \
        "$out/first.txt" "$out/second.txt"
}

{
    awk -f $here/compare.awk -v reason="$reason" "$budgets" "$out/measured.txt" ||
        echo "FAIL compare: no comparison"
    if [ -z "$reason" ] && [ "$level" != smoke ]; then repeats; fi
} >"$out/result.txt"
cat "$out/result.txt"
awk '/^ok / { ok++ } /^FAIL / { fail++ } /^skip / { skip++ }
     END { printf "%d passed, %d failed, %d skipped\n", ok, fail, skip; exit fail > 0 || ok == 0 }' \
    "$out/result.txt"
