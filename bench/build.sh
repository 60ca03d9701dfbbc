# build.sh - builds every contender into build/bench/CASE/ and names their commands. Read by run.sh,
# from the checkout's top.
#
# A case is a folder of bench/, a contender a file in it:
#   sched.c          sched.h; none yet: that part is not in the header yet
#   tokio.rs         Tokio, run with glibc's malloc and with jemalloc
#   rayon.rs go.go   rayon, Go
#   tbb.cc           oneTBB
#   omp.c            OpenMP, by gcc (libgomp) and by clang (libomp)
#   libuv.c          libuv
#   NAME.c           bare system calls, or plain C: how far one can go
#   client.c         not a contender: it starts one and loads it
# A program that has not got a variant exits with 77.
# shellcheck shell=sh disable=SC2154 # out, cc, cflags, cases, chosen: run.sh sets them

has() { command -v "$1" >/dev/null 2>&1; }

# missing CONTENDER REASON: remembered for the report.
missing() { echo "$1: $2" >>"$out/missing.txt"; }

# stale TARGET SOURCE...: is the target not there, or older than one of the sources?
stale() {
    target=$1
    shift
    [ ! -x "$target" ] || [ -n "$(find "$@" -newer "$target" 2>/dev/null)" ]
}

# compile TARGET COMMAND... : the binary of an older source is removed, never run.
compile() {
    target=$1
    shift
    rm -f "$target"
    "$@" >"$target.log" 2>&1 && return 0
    rm -f "$target"
    return 1
}

# The programs that count (contention/count.h): [2] and [3] of the header, with every atomic
# operation and lock renamed; locks are mutexes, to be told from other words.
platform_header() {
    awk '/^#include SCH_PLATFORM_HEADER/ { on = 1; getline; next }
         /^#endif .*SCH_PLATFORM_HEADER/ { on = 0 } on' sched.h |
        sed '/define SCHI_WORD_MUTEX/d; s/__atomic_/count_/g; s/pthread_mutex_lock(/count_mutex_lock(/' >"$out/platform.h"
}

# wanted CASE: is it to be run? The case contention looks at programs of others, too.
wanted() {
    case " $chosen " in
    *" $1 "* | *" contention "*) return 0 ;;
    esac
    return 1
}

build_c() {
    if ! has "$cc"; then
        missing "C programs" "no C compiler '$cc'"
        rm -f "$out"/*/*-c
        return
    fi
    if [ "$(cat "$out/flags.txt" 2>/dev/null)" != "$cc $cflags" ]; then
        for case in $cases; do rm -f "$out/$case"/*-c; done
        echo "$cc $cflags" >"$out/flags.txt"
    fi
    for source in bench/*/*.c; do
        case=$(basename "$(dirname "$source")")
        name=$(basename "$source" .c)
        [ "$name" = omp ] && continue
        wanted "$case" || continue
        target=$out/$case/$name-c
        mkdir -p "$out/$case"
        stale "$target" "$source" bench/*.h bench/*/*.h bench/echo/*.c sched.h || continue
        library=
        package=
        if [ "$name" = libuv ]; then
            library=-luv
            package=' (Debian: libuv1-dev)'
        fi
        # $cflags is a list of words.
        # shellcheck disable=SC2086
        compile "$target" "$cc" -std=c11 $cflags -iquote . -iquote bench -o "$target" "$source" \
            -pthread $library ||
            missing "$case/$name" "does not compile, see $target.log$package"
    done
    wanted contention || return
    mkdir -p "$out/contention"
    # shellcheck disable=SC2013 # words
    for case in $(sed -n 's/^contention *\([a-z_]*\):.*/\1/p' bench/plan.txt | sort -u); do
        target=$out/contention/$case-c
        source=bench/$case/sched.c
        stale "$target" "$source" bench/*.h bench/*/*.h sched.h || continue
        platform_header
        # shellcheck disable=SC2086
        compile "$target" "$cc" -std=c11 $cflags -DBENCH_COUNT -iquote . -iquote bench \
            -iquote "$out" -o "$target" "$source" -pthread ||
            missing "contention/$case" "does not compile, see $target.log"
    done
}

# omp LABEL COMPILER PACKAGES
omp() {
    for source in bench/*/omp.c; do
        case=$(basename "$(dirname "$source")")
        wanted "$case" || continue
        target=$out/$case/$1
        mkdir -p "$out/$case"
        stale "$target" "$source" bench/*.h bench/*/*.h || continue
        if ! has "$2"; then
            missing "$1" "no $2 (Debian: $3)"
            return
        fi
        compile "$target" "$2" -std=c11 -O2 -DNDEBUG -fopenmp -iquote bench -o "$target" \
            "$source" || missing "$case/$1" "does not compile, see $target.log (Debian: $3)"
    done
}

build_tbb() {
    for source in bench/*/tbb.cc; do
        case=$(basename "$(dirname "$source")")
        wanted "$case" || continue
        target=$out/$case/tbb
        mkdir -p "$out/$case"
        stale "$target" "$source" bench/bench.h bench/*/*.h || continue
        if ! has c++; then
            missing tbb "no C++ compiler"
            return
        fi
        compile "$target" c++ -std=c++17 -O2 -DNDEBUG -iquote bench -o "$target" "$source" -ltbb \
            -pthread || missing "$case/tbb" "does not compile (Debian: libtbb-dev)"
    done
}

# go_program TARGET SOURCE: offline, as a list of files, since cgo would want the folder's C files.
go_program() {
    (cache=$PWD/$out/gocache && cd bench &&
        GOCACHE=$cache GOPROXY=off GOFLAGS=-mod=mod go build -o "../$1" "$2")
}

build_go() {
    if ! has go; then
        missing go "no go (Debian: golang-go)"
        rm -f "$out"/*/go
        return
    fi
    for source in bench/*/go.go; do
        case=$(basename "$(dirname "$source")")
        wanted "$case" || continue
        target=$out/$case/go
        mkdir -p "$out/$case"
        stale "$target" "$source" bench/bench.go bench/go.mod bench/echo/server || continue
        compile "$target" go_program "$target" "$case/go.go" ||
            missing "$case/go" "does not compile, see $target.log"
    done
}

# Tokio and rayon: one package, a program for each tokio.rs and rayon.rs.
build_rust() {
    registry=/usr/share/cargo/registry
    reason=
    has cargo || reason="no cargo (Debian: cargo)"
    for crate in tokio rayon; do
        [ -n "$(find "$registry" -maxdepth 1 -name "$crate-1.*" 2>/dev/null)" ] ||
            reason="no sources of $crate in $registry (Debian: librust-$crate-dev)"
    done
    if [ -n "$reason" ]; then
        missing "tokio, rayon" "$reason"
        rm -f "$out"/*/tokio "$out"/*/rayon
        return
    fi
    # shellcheck disable=SC2046
    stale "$out/spawn_local/tokio" $(find bench -name '*.rs') bench/Cargo.toml \
        bench/cargo-config.toml || return
    rm -f "$out"/*/tokio "$out"/*/rayon
    echo "building the Rust contenders (half a minute the first time)" >&2
    mkdir -p "$out/rust/.cargo"
    cp -p bench/bench.rs "$out/rust/"
    cp -p bench/cargo-config.toml "$out/rust/.cargo/config.toml"
    cp bench/Cargo.toml "$out/rust/Cargo.toml"
    for source in bench/*/*.rs; do
        case=$(basename "$(dirname "$source")")
        name=$(basename "$source" .rs)
        mkdir -p "$out/rust/$case" "$out/$case"
        cp -p "$source" "$out/rust/$case/"
        case $name in
        tokio | rayon)
            printf '\n[[bin]]\nname = "%s-%s"\npath = "%s/%s.rs"\n' "$case" "$name" "$case" \
                "$name" >>"$out/rust/Cargo.toml"
            ;;
        esac
    done
    if (cd "$out/rust" && cargo build --release --offline) >"$out/rust.log" 2>&1; then
        for source in bench/*/tokio.rs bench/*/rayon.rs; do
            case=$(basename "$(dirname "$source")")
            name=$(basename "$source" .rs)
            cp "$out/rust/target/release/$case-$name" "$out/$case/$name"
        done
    else
        missing "tokio, rayon" "do not compile, see $out/rust.log"
    fi
}

jemalloc=
find_jemalloc() {
    for lib in /usr/lib/*/libjemalloc.so.2 /usr/lib/libjemalloc.so.2; do
        if [ -f "$lib" ]; then
            jemalloc=$lib
            return
        fi
    done
    missing tokio+je "no jemalloc (Debian: libjemalloc2)"
}

nginx=
find_nginx() {
    has nginx && nginx=nginx
    [ -x /usr/sbin/nginx ] && nginx=/usr/sbin/nginx
    [ -n "$nginx" ] || missing nginx "no nginx (Debian: nginx-light)"
    has wrk || missing http "no wrk (Debian: wrk)"
}

build() {
    : >"$out/missing.txt"
    build_c
    omp omp-gcc gcc gcc
    omp omp-clang clang 'clang libomp-dev'
    build_tbb
    build_go
    build_rust
    find_jemalloc
    find_nginx
}

#---------------------------------------------------------------------------------------------------
# Contenders
#---------------------------------------------------------------------------------------------------

# contenders CASE VARIANT: one line each: label, then the command, or MISSING, or LATER.
contenders() {
    dir=$out/$1
    client=
    if [ "$1" = contention ]; then # its variants are CASE:VARIANT
        entry sched.h "$dir/${2%%:*}-c"
        return
    fi
    [ -f "bench/$1/client.c" ] && client=$dir/client-c
    if [ -f "bench/$1/sched.c" ]; then
        entry sched.h "$dir/sched-c"
    else
        echo "sched.h LATER"
    fi
    [ "$1" = ping_pong ] && entry sched.h/no-lifo "$dir/sched-c" --no-lifo
    if [ "$1" = echo ]; then
        entry sched.h/no-stby "$dir/sched-c" --no-standby
        entry sched.h/ev65535 "$dir/sched-c" --event-interval 65535
    fi
    if [ -f "bench/$1/tokio.rs" ]; then
        entry tokio "$dir/tokio"
        if [ -n "$jemalloc" ]; then
            entry tokio "$dir/tokio" | sed "s|^tokio|tokio+je|
                /MISSING/!s| | env LD_PRELOAD=$jemalloc |"
        else
            echo "tokio+je MISSING"
        fi
    fi
    [ -f "bench/$1/rayon.rs" ] && entry rayon "$dir/rayon"
    [ -f "bench/$1/go.go" ] && entry go "$dir/go"
    [ -f "bench/$1/tbb.cc" ] && entry tbb "$dir/tbb"
    if [ -f "bench/$1/omp.c" ]; then
        entry omp-gcc "$dir/omp-gcc"
        entry omp-clang "$dir/omp-clang"
    fi
    if [ -f "bench/$1/nginx.sh" ]; then
        [ -n "$nginx" ] && entry nginx bench/http/nginx.sh || echo "nginx MISSING"
    fi
    for source in "bench/$1"/*.c; do
        name=$(basename "$source" .c)
        case $name in
        sched | client | omp | '*') ;;
        *) entry "$name" "$dir/$name-c" ;;
        esac
    done
}

# entry LABEL PROGRAM ARGUMENTS: where the case has a client, that is what runs; it starts PROGRAM.
entry() {
    if [ ! -x "$2" ] || { [ -n "$client" ] && [ ! -x "$client" ]; } ||
        { [ "$client" = "$out/http/client-c" ] && ! has wrk; }; then
        echo "$1 MISSING"
    elif [ -n "$client" ]; then
        label=$1
        shift
        echo "$label $client $* --"
    else
        echo "$*"
    fi
}

#---------------------------------------------------------------------------------------------------
# The machine and the versions, as JSON
#---------------------------------------------------------------------------------------------------

# line_of KEY TEXT: nothing if there is no text.
line_of() { [ -z "$2" ] || printf '%s\t%s\n' "$1" "$2"; }

environment() {
    {
        model=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo 2>/dev/null | head -n 1)
        line_of CPU "${model:-unknown}$(grep -q '^flags.* hypervisor' /proc/cpuinfo 2>/dev/null &&
            echo ' (virtual machine)')"
        line_of CPUs "$(getconf _NPROCESSORS_ONLN)"
        line_of System "$(uname -srm)"
        line_of libc "$(getconf GNU_LIBC_VERSION 2>/dev/null)"
        line_of sched.h "$(awk '/^#define SCH_VERSION_(MAJOR|MINOR|PATCH) / { v = v "." $3 }
            END { print substr(v, 2) ", " NR " lines" }' sched.h), $(cksum <sched.h |
            sed 's/ .*//') (cksum)"
        line_of "C compiler" "$("$cc" --version 2>/dev/null | head -n 1), $cflags"
        if has cargo && [ -f "$out/rust/Cargo.lock" ]; then
            for crate in tokio rayon; do
                line_of "$crate" "$(awk -v c="$crate" '$0 == "name = \"" c "\"" { getline
                    gsub(/[^0-9.]/, ""); print }' "$out/rust/Cargo.lock")"
            done
            line_of Rust "$(rustc --version 2>/dev/null | cut -d ' ' -f 1-2)"
        fi
        has go && line_of Go "$(go version | cut -d ' ' -f 3)"
        line_of oneTBB "$(sed -n 's/^#define TBB_VERSION_\(MAJOR\|MINOR\) \([0-9]*\)$/\2/p' \
            /usr/include/oneapi/tbb/version.h 2>/dev/null | paste -s -d . -)"
        line_of libuv "$(sed -n 's/^#define UV_VERSION_\(MAJOR\|MINOR\|PATCH\) \([0-9]*\)$/\2/p' \
            /usr/include/uv/version.h 2>/dev/null | paste -s -d . -)"
        has gcc && line_of "OpenMP, gcc" "$(gcc --version | head -n 1)"
        has clang && line_of "OpenMP, clang" "$(clang --version | head -n 1)"
        [ -n "$nginx" ] && line_of nginx "$("$nginx" -v 2>&1 | sed 's|.*/||')"
        has wrk && line_of wrk "$(wrk -v 2>&1 | sed -n 's/^wrk \([^ ]*\).*/\1/p')"
        line_of jemalloc "${jemalloc#/usr/lib/}"
        line_of hyperfine "$(hyperfine --version | cut -d ' ' -f 2)"
    } | jq -R -s 'split("\n") | map(select(. != "") | split("\t") | {(.[0]): .[1]}) | add'
}
