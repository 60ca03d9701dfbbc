#!/bin/sh
# order.sh - our file has the name of a POSIX header that <pthread.h> and others include. Whatever
# is included first, and however our folder is reached, programs must build without a word from the
# compiler, see POSIX's declarations and run. Each job builds smoke.c as two units, with the system
# header before ours in one and after it in the other; `make include`.
#   columns  how sched.h is reached: -I, -isystem, -iquote, a copy beside the source, its parent on
#            -I ("sched/sched.h", as `make install` puts it); SCH_STATIC: both units have an
#            implementation of their own
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/include/jobs.sh
header=${HEADER:-sched.h}
jobs_begin order
mkdir -p "$jobs_dir/away" "$jobs_dir/beside" "$jobs_dir/parent/sched"
cp "$header" "$jobs_dir/away/sched.h"
cp "$header" "$jobs_dir/parent/sched/sched.h"
cp "$header" "$jobs_dir/beside/sched.h"
cp tests/include/smoke.c "$jobs_dir/beside/"
warnings="-Wall -Wextra -Wpedantic -Werror"

# program ROW COLUMN COMPILE FLAGS SOURCE OURS SYSTEM - in the implementation's unit the system
# header comes before ours, then the other way round; that only with -I and with the first standard
# of a compiler unless LEVEL is all.
program() {
    ours="-DOURS='\"$6\"'" before="-DBEFORE='<$7>'" after="-DAFTER='<$7>'"
    implementation=-DSCHED_IMPLEMENTATION second=-DSECOND_UNIT
    if [ "$2" = SCH_STATIC ]; then
        implementation="$implementation -DSCH_STATIC" second="$second $implementation"
    fi
    for orders in "$before|$after" "$after|$before"; do
        case ${LEVEL:-ci}:$first:$2:$orders in
        all:* | *:yes:-I:* | *:"$before|"*) ;;
        *) continue ;;
        esac
        job "$1" "$2" "$3 $warnings $4 $ours ${orders%|*} $implementation -c $5 -o \$dir/1.o &&
            $3 $warnings $4 $ours ${orders#*|} $second -c $5 -o \$dir/2.o &&
            ${3%% *} \$dir/1.o \$dir/2.o -o \$dir/smoke -pthread && \$dir/smoke"
    done
}

# compiler ROW COMPILE HEADER... - all ways to reach ours with each of the system headers
# every: all ways with the first standard of a compiler, the others have -I only unless LEVEL is all
compiler() {
    row=$1 compile=$2 first=yes every=all
    case $row in *c17 | *gnu17 | *-20) first=no every=${LEVEL:-ci} ;; esac
    case $row in clang++* | musl*) every=${LEVEL:-ci} ;; esac
    shift 2
    if ! command -v "${compile%% *}" >/dev/null 2>&1; then
        jobs_skip "$row: ${compile%% *} not found"
        return
    fi
    for system in "$@"; do
        source=tests/include/smoke.c
        # Which way leads to our file matters to what includes <sched.h>; stdio.h does not.
        case $system in
        pthread.h | sched.h) ways=$every ;;
        *) ways=${LEVEL:-ci} ;;
        esac
        program "$row" -I "$compile" "-I$jobs_dir/away" $source sched.h "$system"
        [ "$ways" = all ] || continue
        program "$row" -isystem "$compile" "-isystem $jobs_dir/away" $source sched.h "$system"
        program "$row" -iquote "$compile" "-iquote $jobs_dir/away" $source sched.h "$system"
        program "$row" beside "$compile" "" "$jobs_dir/beside/smoke.c" sched.h "$system"
        program "$row" parent "$compile" "-I$jobs_dir/parent" $source sched/sched.h "$system"
    done
    program "$row" SCH_STATIC "$compile" "-I$jobs_dir/away" "$source" sched.h pthread.h
}

c_headers="pthread.h sched.h stdio.h spawn.h"
for cc in gcc clang musl-gcc; do
    stds=c11 # the strict one hides most; the other with each compiler takes LEVEL=all
    [ "$cc" = gcc ] || [ "${LEVEL:-ci}" = all ] && stds="c11 gnu17"
    for std in $stds; do
        # shellcheck disable=SC2086 # a list
        compiler "$cc-$std" "$cc -std=$std" $c_headers
    done
    compiler "$cc-c17" "$cc -std=c17" pthread.h sched.h
done
for cxx in g++ clang++; do
    # shellcheck disable=SC2086
    compiler "$cxx-17" "$cxx -std=c++17 -x c++" $c_headers thread
    compiler "$cxx-20" "$cxx -std=c++20 -x c++" pthread.h sched.h thread
done
jobs_end
