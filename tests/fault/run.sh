#!/bin/sh
# run.sh [smoke|ci|all] - fault injection: nth.c in every variant of the header, limits.c, strace.
#
# smoke: one variant, the first places and ever fewer after them, one error each. ci: every place
# and error in the default build, in the others and under AddressSanitizer as in smoke. all: every
# place in every build, ThreadSanitizer and clang too, and BUDGET seconds of random faults for each
# build. Variables: CC CFLAGS SEED BUDGET TESTS; SAN: only one build, with these sanitizers.
# Last line: N passed, N failed, N skipped.
# shellcheck disable=SC2086 # lists of words
set -u
cd "$(dirname "$0")/../.." || exit 1
level=${1:-ci}
: "${CC:=cc}" "${CFLAGS=-O1 -g}" "${SAN:=}" "${TESTS:=}"
[ -n "${SEED:-}" ] || unset SEED
log=build/log/fault
rm -rf "$log"
mkdir -p "$log"
: >"$log/totals"

wraps="malloc free aligned_alloc mmap munmap mprotect madvise open read close pipe poll sysconf syscall
pthread_create pthread_attr_init pthread_attr_destroy pthread_attr_setstacksize pthread_mutex_init
pthread_mutex_destroy pthread_cond_init pthread_cond_destroy pthread_condattr_init
pthread_condattr_destroy pthread_condattr_setclock pthread_cond_wait pthread_cond_timedwait
epoll_create1 epoll_ctl epoll_wait fcntl fstat getsockopt getsockname getpeername socket bind listen
connect recv recvfrom readv send sendto sendmsg writev waitpid"
flags="-std=c11 -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror -U_FORTIFY_SOURCE -pthread"
for name in $wraps; do flags="$flags -Wl,--wrap=$name"; done

case $level in
smoke) sparse=2 others=2 waits=1 errors=1 random=1 ;;
ci) sparse=0 others=1 waits=3 errors=9 random=1 ;;
all) sparse=0 others=0 waits=0 errors=9 random=${BUDGET:-60} ;;
*) echo "usage: sh tests/fault/run.sh [smoke|ci|all]" >&2; exit 2 ;;
esac

have() { command -v "${1%% *}" >/dev/null 2>&1; }

skip() { # skip NAME REASON
    echo "skip $1: $2"
    echo "0 0 1" >>"$log/totals"
}

# Can this compiler make such a program, and does it run?
links() { # links COMPILER FLAGS
    have "$1" || return 1
    echo '#include <stdlib.h>
extern void *real_malloc(size_t size) __asm__("__real_malloc");
extern void *fault_malloc(size_t size) __asm__("__wrap_malloc");
void *fault_malloc(size_t size) { return real_malloc(size); }
int main(void) { free(malloc(1)); return 0; }' >build/fault-probe.c
    $1 -Wl,--wrap=malloc build/fault-probe.c -o build/fault-probe $2 >/dev/null 2>&1 &&
        build/fault-probe
}

# run NAME PROGRAM - its output, and its last line into the totals
run() {
    echo "== $1"
    nice -n 19 timeout "${PART_LIMIT:-3000}" "$2" $TESTS >"$log/$1" 2>&1
    status=$?
    cat "$log/$1"
    awk -v status=$status '
        /^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { p = $1; f = $3; s = $5; found = 1 }
        END {
            if (!found || (status != 0 && status != 77 && f == 0)) f++
            print p + 0, f + 0, s + 0
        }
    ' "$log/$1" >>"$log/totals"
}

# build NAME SOURCE COMPILER FLAGS
build() {
    echo "$3 $4 tests/fault/$2.c -o build/fault-$1"
    $3 $flags $CFLAGS $4 "tests/fault/$2.c" -o "build/fault-$1" && return
    echo "FAIL fault-$1: it does not build"
    echo "0 1 0" >>"$log/totals"
    return 1
}

# variant NAME SPARSE COMPILER FLAGS - nth.c
variant() {
    build "$1" nth "$3" "$4" || return
    tours=3 # of times and descriptors
    most=$errors
    [ "$level" = all ] || [ "$1" = default ] || tours=1 most=1
    [ "$level" = smoke ] && tours=1
    BUDGET=$random FAULT_SPARSE=$2 FAULT_SPARSE_WAITS=$waits FAULT_WAITS=$tours \
        FAULT_ERRORS=$most TIMEOUT=${TIMEOUT:-60} \
        run "$1" "build/fault-$1"
}

# sanitized NAME SPARSE SANITIZERS COMPILER...
# The sanitizer's run-time must be a library of its own: what is linked in would be wrapped, too.
sanitized() {
    name=$1 by=$2 sanitizers=$3
    shift 3
    for compiler in "$@"; do
        own="-fsanitize=$sanitizers -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
        have "$compiler" || continue
        folder=$($compiler -print-resource-dir 2>/dev/null)/lib/linux
        if [ -d "$folder" ]; then own="$own -shared-libsan -Wl,-rpath,$folder"; fi
        links "$compiler" "$own" || continue
        variant "$name" "$by" "$compiler" "$own"
        return
    done
    skip "$name" "none of \"$*\" can -fsanitize=$sanitizers in a shared library"
}

# One call of the whole process fails, libc's own included: what the linker cannot reach. Only such
# as a kernel may refuse: a futex wake or a close that was not made loses something by right.
traced() {
    have strace || { skip strace "strace not found"; return; }
    strace -o /dev/null true 2>/dev/null || { skip strace "strace may not trace here"; return; }
    case $level in smoke) most=1 ;; ci) most=3 ;; *) most=100 ;; esac
    passed=0 failed=0 injected=0
    for fault in clone3:EAGAIN mmap:ENOMEM mprotect:ENOMEM madvise:EINVAL ppoll:EINTR \
        eventfd2:EMFILE eventfd2:ENFILE timerfd_create:EMFILE timerfd_create:ENFILE \
        epoll_create1:EMFILE epoll_ctl:ENOMEM epoll_pwait2:ENOSYS epoll_wait:EINTR; do
        call=${fault%:*} nth=0 started=0
        while [ $started -lt $most ]; do
            nth=$((nth + 1))
            TIMEOUT=60 timeout 120 strace -f -o "$log/strace" -e "trace=$call" \
                -e "inject=$call:error=${fault#*:}:when=$nth" build/fault-limits traced \
                >"$log/traced" 2>&1
            status=$?
            hits=$(grep -c INJECTED "$log/strace")
            [ "$hits" -gt 0 ] || break
            grep -q '^SEED=' "$log/traced" || continue # it hit the loader or the harness
            started=$((started + 1)) injected=$((injected + hits))
            if [ $status -eq 0 ]; then
                passed=$((passed + 1))
            else
                failed=$((failed + 1))
                echo "FAIL strace $call number $nth gives ${fault#*:}"
                cat "$log/traced"
            fi
        done
    done
    [ $failed -gt 0 ] || [ $passed -eq 0 ] || echo "ok   strace"
    echo "strace: $injected faults in $((passed + failed)) runs"
    echo "$((passed > 0 && failed == 0)) $((failed > 0 || passed == 0)) 0" >>"$log/totals"
}

if [ "$(uname)" != Linux ] || [ ! -d /proc/self/task ]; then
    skip fault "it needs Linux and /proc"
elif ! links "$CC" ""; then
    skip fault "$CC does not link with --wrap"
elif [ -n "$SAN" ]; then
    sanitized san "$others" "$SAN" "$CC" clang-19 clang
else
    variant default "$sparse" "$CC" ""
    if [ "$level" != smoke ]; then
        variant ucontext "$others" "$CC" -DSCH_NO_ASM
        variant posix "$others" "$CC" -DFAULT_POSIX
        variant condvar "$others" "$CC" -DFAULT_CONDVAR
    fi
    if build limits limits "$CC" ""; then
        BUDGET=$random TIMEOUT=${TIMEOUT:-60} run limits build/fault-limits
        traced
    fi
    if [ "$level" != smoke ]; then
        ASAN_OPTIONS=detect_stack_use_after_return=1:detect_leaks=1
        export ASAN_OPTIONS
        sanitized asan "$others" address,undefined gcc clang-19 clang
    fi
    if [ "$level" = all ]; then
        sanitized tsan 0 thread clang-19 clang
        if have clang-19; then
            variant clang 0 clang-19 -O3
        else
            skip clang "clang-19 not found"
        fi
    fi
fi

cat "$log"/* 2>/dev/null | awk '
    /^injected:/ { for (i = 1; i < NF; i++) if ($i == "together") { n += $(i + 1); t += $(i + 3) } }
    END { printf "injected in all builds: %d faults in %d tours\n", n, t }'
awk '{ p += $1; f += $2; s += $3 }
    END { printf "%d passed, %d failed, %d skipped\n", p, f, s; exit (f > 0) }' "$log/totals"
