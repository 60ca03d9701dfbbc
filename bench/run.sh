#!/bin/sh
# Build all contenders into build/bench/, run them in turn (A B C A B C ...), print a table.
#
#   sh bench/run.sh [quick] [CASE ...]             all cases, or those named; quick: under a minute
#   sh bench/run.sh build                          build only, say what is missing
#   sh bench/run.sh hyperfine CASE [VARIANT]       whole-program time; JSON under build/bench/
#
# CC, CFLAGS (default: cc, -O2 -DNDEBUG), ROUNDS (7; quick 3), WORKERS (hyperfine: 1), PIN=1 (pin
# worker i to the i-th CPU in sched.h and Tokio; Go and oneTBB cannot). Needs sh, awk and a C
# compiler; what a contender needs beyond that is named when it is missing.
set -u
cd "$(dirname "$0")/.." || exit 1
out=build/bench
cc=${CC:-cc}
cflags=${CFLAGS:--O2 -DNDEBUG}
cases='spawn_local spawn_remote yield_many ping_pong chained_spawn block_in_place wake_parked'
cases="$cases memory timers wake_socket echo http"
mkdir -p "$out" || exit 1

has() { command -v "$1" >/dev/null 2>&1; }

# case variant workers, operations of a quick round; 0: the program's default in both modes.
plan() {
    cat <<'END'
spawn_local detached 1 200000
spawn_local detached 2 200000
spawn_local detached_10k 1 200000
spawn_local detached_10k 2 200000
spawn_local joined 1 200000
spawn_local joined 2 200000
spawn_local joined_10k 1 200000
spawn_local joined_10k 2 200000
spawn_remote idle 1 50000
spawn_remote idle 2 50000
spawn_remote busy 1 50000
spawn_remote busy 2 50000
yield_many stackful 1 0
yield_many stackful 2 0
yield_many poll 1 0
yield_many poll 2 0
ping_pong pair 1 50000
ping_pong pair 2 50000
ping_pong roundtrip 1 50000
ping_pong roundtrip 2 50000
chained_spawn chain 1 200000
chained_spawn chain 2 200000
block_in_place alone 1 200000
block_in_place alone 2 200000
block_in_place yield 1 2000
block_in_place yield 2 2000
wake_parked cross 1 300
wake_parked free 1 300
memory poll 1 300000
memory poll32 1 300000
memory stackful 1 30000
timers cancel 1 100000
timers ring 1 50000
timers ring 2 50000
timers fire 1 200000
timers fire 2 200000
timers lateness 1 100
timers memory 1 300000
wake_socket cross 1 300
wake_socket free 1 300
echo c64 1 10000
echo c64 2 10000
echo c1 1 1000
echo c1000 1 10000
echo big 1 5000
echo self 1 10000
echo self 2 10000
http c64 1 0
http c64 2 0
http c256 1 0
END
}

#---------------------------------------------------------------------------------------------------
# Build
#---------------------------------------------------------------------------------------------------

# missing CONTENDER REASON: remembered for the head of the table.
missing() { echo "missing: $1: $2" >>"$out/missing.txt"; }

# stale TARGET SOURCE...: is the target not there, or older than one of the sources?
stale() {
    target=$1
    shift
    [ ! -x "$target" ] || [ -n "$(find "$@" -newer "$target" 2>/dev/null)" ]
}

# compile TARGET LANGUAGE-COMMAND... : the binary of an older source is removed, never run.
compile() {
    target=$1
    shift
    rm -f "$target"
    "$@" >"$target.log" 2>&1 && return 0
    rm -f "$target"
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
        target=$out/$case/$name-c
        mkdir -p "$out/$case"
        stale "$target" "$source" bench/*.h bench/echo/*.[ch] sched.h || continue
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
}

build_tbb() {
    for source in bench/*/tbb.cc; do
        case=$(basename "$(dirname "$source")")
        target=$out/$case/tbb
        mkdir -p "$out/$case"
        stale "$target" "$source" bench/bench.h || continue
        if ! has c++; then
            missing tbb "no C++ compiler"
        else
            compile "$target" c++ -std=c++17 -O2 -iquote bench -o "$target" "$source" -ltbb \
                -pthread || missing tbb "does not compile (Debian: libtbb-dev)"
        fi
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
        target=$out/$case/go
        mkdir -p "$out/$case"
        stale "$target" "$source" bench/bench.go bench/go.mod bench/echo/server || continue
        compile "$target" go_program "$target" "$case/go.go" ||
            missing "$case/go" "does not compile, see $target.log"
    done
}

build_rust() {
    registry=/usr/share/cargo/registry
    if ! has cargo; then
        missing tokio "no cargo (Debian: cargo)"
    elif [ -z "$(find "$registry" -maxdepth 1 -name 'tokio-1.*' 2>/dev/null)" ]; then
        missing tokio "no Tokio sources in $registry (Debian: librust-tokio-dev)"
    else
        newest=$out/spawn_local/tokio
        # shellcheck disable=SC2046
        if ! stale "$newest" $(find bench -name '*.rs') bench/Cargo.toml bench/cargo-config.toml
        then
            return
        fi
        rm -f "$out"/*/tokio
        echo "building the Rust contenders (half a minute the first time)" >&2
        mkdir -p "$out/rust/.cargo"
        cp -p bench/Cargo.toml bench/bench.rs "$out/rust/"
        cp -p bench/cargo-config.toml "$out/rust/.cargo/config.toml"
        for source in bench/*/*.rs; do
            case=$(basename "$(dirname "$source")")
            mkdir -p "$out/rust/$case" "$out/$case"
            cp -p "$source" "$out/rust/$case/"
        done
        if (cd "$out/rust" && cargo build --release --offline) >"$out/rust.log" 2>&1; then
            for source in bench/*/tokio.rs; do
                case=$(basename "$(dirname "$source")")
                cp "$out/rust/target/release/$case" "$out/$case/tokio"
            done
            return
        fi
        missing tokio "does not compile, see $out/rust.log"
    fi
    rm -f "$out"/*/tokio
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

build() {
    : >"$out/missing.txt"
    build_c
    build_tbb
    build_go
    build_rust
    find_jemalloc
    has nginx || [ -x /usr/sbin/nginx ] || missing nginx "no nginx (Debian: nginx-light)"
    has wrk || missing http "no wrk (Debian: wrk)"
}

#---------------------------------------------------------------------------------------------------
# Contenders
#---------------------------------------------------------------------------------------------------

# contenders CASE: one line each: label, then the command, or MISSING. A program that has not got
# the variant exits with 77.
contenders() {
    dir=$out/$1
    client=
    [ -f "bench/$1/client.c" ] && client=$dir/client-c
    entry sched.h "$dir/sched-c"
    [ "$1" = ping_pong ] && entry sched.h/no-lifo "$dir/sched-c" --no-lifo
    if [ "$1" = echo ]; then
        entry sched.h/no-stby "$dir/sched-c" --no-standby
        entry sched.h/ev65535 "$dir/sched-c" --event-interval 65535
    fi
    if [ -f "bench/$1/tokio.rs" ]; then
        entry tokio "$dir/tokio"
        if [ -n "$jemalloc" ]; then
            entry tokio+je "$dir/tokio" | sed "/MISSING/!s| | env LD_PRELOAD=$jemalloc |"
        fi
    fi
    [ -f "bench/$1/go.go" ] && entry go "$dir/go"
    [ -f "bench/$1/nginx.sh" ] && nginx_entry
    [ -f "bench/$1/tbb.cc" ] && entry tbb "$dir/tbb"
    for source in "bench/$1"/*.c; do
        name=$(basename "$source" .c)
        [ "$name" = sched ] || [ "$name" = client ] || entry "$name" "$dir/$name-c"
    done
}

# entry LABEL PROGRAM ARGUMENTS: where the case has a client, that is what runs; it starts PROGRAM.
entry() {
    if [ ! -x "$2" ] || { [ -n "$client" ] && [ ! -x "$client" ]; }; then
        echo "$1 MISSING"
    elif [ -n "$client" ]; then
        label=$1
        shift
        echo "$label $client $* --"
    else
        echo "$*"
    fi
}

# A script; it starts the server that is installed.
nginx_entry() {
    if has nginx || [ -x /usr/sbin/nginx ]; then
        entry nginx bench/http/nginx.sh
    else
        echo nginx MISSING
    fi
}

limit=
has timeout && limit='timeout 120'

# run_one CASE VARIANT WORKERS ARGUMENTS LABEL COMMAND...: one line into raw.txt.
run_one() {
    r_case=$1 r_variant=$2 r_workers=$3 r_args=$4 r_label=$5
    shift 5
    r_key="case=$r_case variant=$r_variant contender=$r_label workers=$r_workers"
    if [ "$*" = MISSING ]; then
        echo "$r_key status=missing" >>"$out/raw.txt"
        return
    fi
    # The words of $limit and $r_args are separate arguments.
    # shellcheck disable=SC2086
    line=$($limit "$@" --variant "$r_variant" --workers "$r_workers" --contender "$r_label" \
        $r_args 2>"$out/stderr.txt")
    status=$?
    [ "$status" -eq 77 ] && return
    [ "$status" -ne 0 ] && cat "$out/stderr.txt" >&2
    [ -n "$line" ] || line=$r_key
    echo "$line status=$status" >>"$out/raw.txt"
}

run_all() {
    : >"$out/raw.txt"
    plan | while read -r case variant workers quick_ops; do
        case " $chosen " in *" $case "*) ;; *) continue ;; esac
        rounds=$ROUNDS
        args=
        if [ "$quick" = 1 ]; then
            args='--rounds 3'
            [ "$quick_ops" = 0 ] || args="$args --ops $quick_ops"
            [ "$case" = memory ] && rounds=1
        fi
        [ "${PIN:-0}" = 1 ] && args="$args --pin"
        [ -t 2 ] && echo "$case $variant $workers" >&2
        # A round takes two seconds, and the warm-up is what the figure is about.
        [ "$case $variant" = "timers fire" ] && args="$args --rounds 1 --warmup 0"
        contenders "$case" >"$out/contenders.txt"
        while [ "$rounds" -gt 0 ]; do
            while read -r label command; do
                # shellcheck disable=SC2086
                run_one "$case" "$variant" "$workers" "$args" "$label" $command </dev/null
            done <"$out/contenders.txt"
            rounds=$((rounds - 1))
        done
    done
}

#---------------------------------------------------------------------------------------------------
# Output
#---------------------------------------------------------------------------------------------------

machine() {
    cpu=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo 2>/dev/null | sort | uniq -c |
        sed 's/^ *\([0-9]*\) /\1 x /')
    echo "machine   ${cpu:-$(getconf _NPROCESSORS_ONLN) CPUs}, $(uname -srm)"
    load=$(uptime | sed 's/.*load average[s]*: *//')
    echo "load      $load$(echo "$load" | awk '$1 + 0 > 0.7 {
        print " (the machine is busy: trust CPU ns with one worker, little else)" }')"
    echo "C         $("$cc" --version 2>/dev/null | head -n 1), $cflags"
    libc=$(getconf GNU_LIBC_VERSION 2>/dev/null) && echo "libc      $libc"
    echo "sched.h   $(awk '/^#define SCH_VERSION_(MAJOR|MINOR|PATCH) / { v = v "." $3 }
        END { print substr(v, 2) }' sched.h), $(wc -l <sched.h | tr -d ' ') lines"
    if has cargo && [ -f "$out/rust/Cargo.lock" ]; then
        echo "Tokio     $(awk '/^name = "tokio"$/ { getline; gsub(/[^0-9.]/, ""); print }' \
            "$out/rust/Cargo.lock"), $(rustc --version 2>/dev/null | cut -d ' ' -f 1-2)"
    fi
    has go && echo "Go        $(go version | cut -d ' ' -f 3)"
    tbb=$(sed -n 's/^#define TBB_VERSION_\(MAJOR\|MINOR\) \([0-9]*\)$/\2/p' \
        /usr/include/oneapi/tbb/version.h 2>/dev/null | paste -s -d . -)
    [ -z "$tbb" ] || echo "oneTBB    $tbb"
    [ "${PIN:-0}" = 1 ] && echo "pinned    worker i to the i-th CPU (sched.h, Tokio)"
    sort -u "$out/missing.txt"
}

hyperfine_case() {
    has hyperfine || { echo "missing: hyperfine (Debian: hyperfine)" >&2; exit 1; }
    h_case=$1
    h_variant=${2:-$(plan | awk -v c="$1" '$1 == c { print $2; exit }')}
    h_workers=${WORKERS:-1}
    h_args="--variant $h_variant --workers $h_workers --warmup 0 --rounds 1"
    json=$out/hyperfine-$h_case-$h_variant-w$h_workers.json
    contenders "$h_case" >"$out/contenders.txt"
    set --
    while read -r label command; do
        [ "$command" = MISSING ] && echo "missing: $label" && continue
        # shellcheck disable=SC2086
        $command $h_args --ops 1 >/dev/null 2>&1 </dev/null
        [ $? -eq 77 ] || set -- "$@" -n "$label" "$command $h_args"
    done <"$out/contenders.txt"
    [ $# -gt 0 ] || { echo "no contender for $h_case $h_variant" >&2; exit 1; }
    hyperfine -N --warmup 1 --runs "${RUNS:-10}" --export-json "$json" "$@" && echo "$json"
}

#---------------------------------------------------------------------------------------------------

mode=run
quick=0
chosen=
case ${1:-} in
quick) quick=1 && shift ;;
build) mode=build && shift ;;
hyperfine) mode=hyperfine && shift ;;
esac
if [ "$mode" = hyperfine ] && [ $# -eq 0 ]; then
    echo "usage: sh bench/run.sh hyperfine CASE [VARIANT]" >&2
    exit 2
fi
for name in "$@"; do
    [ "$mode" = hyperfine ] && [ -n "$chosen" ] && break # the second word is a variant
    case " $cases " in
    *" $name "*) chosen="$chosen $name" ;;
    *)
        echo "no case '$name'; there are: $cases" >&2
        exit 2
        ;;
    esac
done
chosen=${chosen:-$cases}
ROUNDS=${ROUNDS:-$([ "$quick" = 1 ] && echo 3 || echo 7)}

build
machine
[ "$mode" = build ] && exit 0
if [ "$mode" = hyperfine ]; then
    hyperfine_case "$@"
    exit
fi
run_all
awk -v goals_file=bench/goals.txt -f bench/table.awk "$out/raw.txt"
if grep -q -v -e 'status=0$' -e 'status=missing$' "$out/raw.txt"; then
    echo
    echo "some runs failed; every line is in $out/raw.txt"
    exit 1
fi
