#!/bin/sh
# httpd.sh [smoke|ci|all] [PROGRAM] - docs/examples/httpd with real clients.
#
#   smoke  curl, hand-written clients, the parser's seeds
#   ci     also wrk, ab, servers under ASan+UBSan and TSan, libFuzzer for 10 s
#   all    the same, each load for BUDGET seconds (60)
#
# PROGRAM: an httpd that is built already. Without a level: LEVEL, or smoke. Variables: CC CXX
# CFLAGS SEED BUDGET; TESTS: words, only groups of tests are run (see the end) whose names hold one.
# Prints a line for each test, then "N passed, N failed, N skipped".
# shellcheck disable=SC2086 # lists of words
set -u
cd "$(dirname "$0")/../.." || exit 1
top=$PWD
: "${CC:=cc}" "${CXX:=c++}" "${CFLAGS=-O2 -g}" "${SEED:=$(date +%s)}" "${BUDGET:=60}" "${TESTS:=}"
LC_ALL=C TZ=UTC
export LC_ALL TZ
level=${LEVEL:-smoke} program=
for argument; do
    case $argument in
    smoke | ci | all) level=$argument ;;
    *) program=$argument ;;
    esac
done
case $level in
smoke) load=1 fuzz=0 ;;
ci) load=2 fuzz=10 ;;
*) load=$BUDGET fuzz=$BUDGET ;;
esac
[ -z "$program" ] || [ -x "$program" ] || { echo "no program $program" >&2; exit 1; }

out=$top/build/httpd-test
mkdir -p "$out" || exit 1
tmp=$(mktemp -d) || exit 1
site=$tmp/site jobs='' pid='' dir=$tmp/main
mkdir "$dir"
cleanup() {
    for job in $jobs; do kill -TERM "$job" 2>/dev/null; done
    rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM
warnings="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror"

have() { command -v "${1%% *}" >/dev/null 2>&1; }
skip() { echo "skip $1: $2"; }
# check NAME COMMAND...: the command succeeds
check() {
    what=$1
    shift
    if "$@" >"$dir/log" 2>&1; then
        echo "ok $what"
    else
        echo "FAIL $what: SEED=$SEED"
        tail -n 30 "$dir/log" | sed 's/^/     /'
    fi
}
limit() { "$@"; }
if have timeout; then limit() { timeout $((120 + load)) "$@"; }; fi
python=
if have python3; then python=python3; fi

wanted() { # wanted GROUP
    [ -n "$TESTS" ] || return 0
    for word in $TESTS; do
        case $1 in *"$word"*) return 0 ;; esac
    done
    return 1
}

# Tests wait more than they work, so groups of them run side by side, each with a server of its own.
# group NAME FUNCTION ARGUMENT... - in the background, with its output in $tmp/NAME/output
groups=
group() {
    wanted "$1" || return
    dir=$tmp/$1
    groups="$groups $1"
    mkdir "$dir"
    shift
    (
        trap '[ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null' EXIT
        trap 'exit 1' HUP INT TERM
        "$@"
    ) >"$dir/output" 2>&1 &
    jobs="$jobs $!" dir=$tmp/main
}
gather() { # wait for all groups, and show what they said
    for job in $jobs; do wait "$job"; done
    for name in $groups; do cat "$tmp/$name/output"; done | tee -a "$tmp/record"
    jobs='' groups=''
}

#--- Building -------------------------------------------------------------------------------------
links() { # links COMPILER FLAGS
    echo 'int main(void) { return 0; }' >"$dir/probe.c"
    have "$1" && $1 "$dir/probe.c" -o "$dir/probe" $2 >/dev/null 2>&1
}
first_of() { # first_of FLAGS COMPILER... - the first that links with them, or nothing
    flags=$1
    shift
    for candidate in "$@"; do
        if links "$candidate" "$flags"; then
            echo "$candidate"
            return
        fi
    done
}
build() { # build NAME SOURCE COMPILER...
    output=$out/$1 from=$2
    shift 2
    "$@" -iquote . -o "$output" "$from" -pthread
}

source=docs/examples/httpd.c fuzzer=tests/examples/httpd_fuzz.c
asan_flags="-g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined \
-fno-sanitize-recover=undefined"
tsan_flags="-g -O1 -fsanitize=thread"

#--- The folder that is served --------------------------------------------------------------------
mkdir -p "$site/sub/deep" "$site/indexed" "$site/bad-index/index.html" "$site/.git" "$tmp/outside"
echo 'a secret' | tee "$tmp/secret" "$tmp/outside/secret" "$site/.htpasswd" >"$site/.git/config"
echo 'hello, world' >"$site/small.txt"
printf '0123456789' >"$site/ten"
: >"$site/empty"
echo '<p>a page' >"$site/page.html"
echo '<p>the index' >"$site/indexed/index.html"
echo 'plain' >"$site/sub/plain.txt"
echo 'deep' >"$site/sub/deep/file.json"
echo 'odd' >"$site/sub/a<b>&\"c\" %41#?é.txt"
head -c 8000000 /dev/urandom >"$site/big.bin"
ln -s "$tmp/secret" "$site/link"
ln -s ../secret "$site/relative-link"
ln -s "$tmp/outside" "$site/folder-link"
mkfifo "$site/pipe"
touch -d '2001-02-03 04:05:06' "$site/ten" 2>/dev/null ||
    touch -t 200102030405.06 "$site/ten"

#--- Server, clients ------------------------------------------------------------------------------
start() { # start PROGRAM ARGUMENT... - sets pid, port and url
    : >"$dir/out"
    "$@" >"$dir/out" 2>"$dir/err" &
    pid=$! port='' tries=0
    while [ -z "$port" ] && [ $tries -lt 300 ] && kill -0 "$pid" 2>/dev/null; do
        port=$(sed -n 's/^listening on http.*:\([0-9]*\)$/\1/p' "$dir/out")
        [ -n "$port" ] || sleep 0.1
        tries=$((tries + 1))
    done
    url=http://127.0.0.1:$port
}
ended() { # the server has ended with status 0, and no sanitizer has said anything
    tries=0
    while kill -0 "$pid" 2>/dev/null && [ $tries -lt 600 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    [ $tries -lt 600 ] || { echo "still runs"; kill -KILL "$pid"; }
    wait "$pid"
    status=$?
    pid=
    cat "$dir/err"
    echo "exit status $status"
    [ $status -eq 0 ] && ! grep -E 'Sanitizer|runtime error' "$dir/err"
}
finish() { # finish NAME
    kill -TERM "$pid"
    check "$1: stops" ended
}
clients() { # clients NAME TEST ARGUMENT...
    client_name=$1 client_test=$2
    shift 2
    if [ -n "$python" ]; then
        check "$client_name" limit $python tests/examples/httpd_clients.py "$client_test" "$port" "$site" \
            "$@"
    else
        skip "$client_name" "python3 not found"
    fi
}
# get WANTED_STATUS PATH OPTION... - by curl, the body in body, the fields in fields
get() {
    wanted=$1 path=$2
    shift 2
    rm -f "$dir/body"
    actual=$(limit curl -sS --path-as-is -D "$dir/fields" -o "$dir/body" -w '%{http_code}' "$@" \
        "$url$path") || return 1
    cat "$dir/fields"
    [ "$actual" = "$wanted" ] || { echo "$path: status $actual, not $wanted"; return 1; }
}
field() { tr -d '\r' <"$dir/fields" | grep -i -x -F -e "$1"; }
body_is() { printf '%s' "$1" | cmp - "$dir/body"; }

#--- One request at a time, by curl ---------------------------------------------------------------
answers() {
    get 200 /small.txt && cmp "$dir/body" "$site/small.txt" && field 'Content-Length: 13' &&
        field 'Content-Type: text/plain; charset=utf-8' && field 'Connection: keep-alive' &&
        get 200 /big.bin && cmp "$dir/body" "$site/big.bin" &&
        field 'Content-Type: application/octet-stream' &&
        get 200 /empty && cmp "$dir/body" "$site/empty" && field 'Content-Length: 0' &&
        get 200 /page.html && field 'Content-Type: text/html; charset=utf-8' &&
        get 200 /sub/deep/file.json && field 'Content-Type: application/json' &&
        get 200 /ten && field 'Last-Modified: Sat, 03 Feb 2001 04:05:06 GMT' &&
        get 404 /missing && get 404 /missing/too && get 405 /small.txt -d x && field 'Allow: GET, HEAD' &&
        get 501 /small.txt -X BREW && get 403 /pipe
}
heads() {
    get 200 /big.bin -I && field 'Content-Length: 8000000' && get 404 /missing -I &&
        get 200 /sub/ -I && get 200 /small.txt -I -H 'Range: bytes=1-2' &&
        get 304 /ten -I -z 'Tue, 01 Jan 2030 00:00:00 GMT'
}
folders() {
    get 301 /sub && field 'Location: /sub/' && get 200 /sub -L && grep plain.txt "$dir/body" &&
        get 301 //sub && field 'Location: /sub/' && # not //sub/, which is another server's
        get 301 "/sub/%2fdeep" && field 'Location: /sub/deep/' &&
        get 200 /indexed/ && cmp "$dir/body" "$site/indexed/index.html" &&
        field 'Content-Type: text/html; charset=utf-8' && get 403 /bad-index/ &&
        get 200 / && grep -F '<a href="sub/">sub/</a>' "$dir/body" &&
        ! grep -E 'git|htpasswd|link|pipe' "$dir/body"
}
listing_is_escaped() {
    get 200 /sub/ || return
    grep -F '>a&lt;b&gt;&amp;&quot;c&quot; %41#?' "$dir/body" || return
    link=$(sed -n 's/.*href="\(a%3C[^"]*\)".*/\1/p' "$dir/body")
    get 200 "/sub/$link" && body_is 'odd
'
}
range() { # range WANTED_STATUS VALUE BODY [CONTENT_RANGE]
    get "$1" /ten -H "Range: $2" || return
    [ "$1" = 416 ] || body_is "$3" || return
    if [ $# -gt 3 ]; then field "Content-Range: bytes $4"; else ! grep Content-Range "$dir/fields"; fi
}
ranges() {
    huge=99999999999999999999999999
    range 206 bytes=0-0 0 0-0/10 && range 206 bytes=2-4 234 2-4/10 &&
        range 206 bytes=7- 789 7-9/10 && range 206 bytes=-3 789 7-9/10 &&
        range 206 bytes=0- 0123456789 0-9/10 && range 206 bytes=9-9 9 9-9/10 &&
        range 206 bytes=5-$huge 56789 5-9/10 && range 206 bytes=-$huge 0123456789 0-9/10 &&
        range 206 bytes=9-10 9 9-9/10 && range 206 Bytes=1-1 1 1-1/10 &&
        range 416 bytes=10- '' '*/10' && range 416 bytes=-0 '' '*/10' &&
        range 416 bytes=$huge- '' '*/10' && range 200 bytes=1-2,4-5 0123456789 &&
        range 200 bytes=4-2 0123456789 && range 200 lines=1-2 0123456789 &&
        range 200 bytes=- 0123456789 && range 200 bytes=1-2x 0123456789 &&
        get 416 /empty -r 0-0 && field 'Content-Range: bytes */0' && get 200 /empty -r -5 &&
        get 206 /big.bin -r 1000000-7999999 &&
        tail -c 7000000 "$site/big.bin" | cmp - "$dir/body"
}
conditions() {
    at='Sat, 03 Feb 2001 04:05:06 GMT' before='Sat, 03 Feb 2001 04:05:05 GMT'
    get 200 /ten && etag=$(tr -d '\r' <"$dir/fields" | sed -n 's/^ETag: //p') && [ -n "$etag" ] &&
        get 304 /ten -H "If-Modified-Since: $at" && [ ! -s "$dir/body" ] && field "ETag: $etag" &&
        get 304 /ten -z 'Tue, 01 Jan 2030 00:00:00 GMT' && get 200 /ten -H "If-Modified-Since: $before" &&
        get 200 /ten -H "If-Modified-Since: yesterday" &&
        get 304 /ten -H "If-None-Match: $etag" && get 304 /ten -H "If-None-Match: \"a\", W/$etag" &&
        get 304 /ten -H 'If-None-Match: *' && get 200 /ten -H 'If-None-Match: "a"' &&
        get 200 /ten -H 'If-None-Match: "a"' -H "If-Modified-Since: $at" &&
        get 206 /ten -r 1-2 -H "If-Range: $etag" && get 206 /ten -r 1-2 -H "If-Range: $at" &&
        get 200 /ten -r 1-2 -H 'If-Range: "a"' && get 200 /ten -r 1-2 -H "If-Range: $before" &&
        get 304 /ten -r 1-2 -H "If-None-Match: $etag"
}
refused() { # what leads out, and what is hidden: no such path may give the secret away
    for path in /../secret /../../../../../../etc/passwd /sub/../../secret /%2e%2e/secret \
        /.%2e/secret /%2E./secret /sub/..%2f..%2fsecret /sub/%2e%2e%2f%2e%2e%2fsecret \
        /..%5csecret /%252e%252e/secret /sub/.. /sub/../small.txt /./small.txt /.. /. \
        /.htpasswd /.git/config /%2egit/config /link /relative-link /folder-link \
        /folder-link/secret /folder-link/ /small.txt%00 /%00/../secret //../secret \
        /sub/./../secret "/..;/secret" "/...//secret" /~root/ "$tmp/secret" "//$tmp/secret" \
        /proc/self/root/etc/passwd; do
        code=$(limit curl -sS --path-as-is -o "$dir/body" -w '%{http_code}' "$url$path") || return 1
        case $code in 400 | 403 | 404) ;; *) echo "$path: status $code" && return 1 ;; esac
        if grep -E 'secret|root:' "$dir/body"; then return 1; fi
    done
    code=$(limit curl -sS --path-as-is -o "$dir/body" -w '%{http_code}' --request-target \
        ../secret "$url")
    [ "$code" = 400 ]
}
sequential() { # all on the first connection
    limit curl -sS "$url/small.txt?[1-10000]" -o /dev/null -w '%{http_code} %{num_connects}\n' |
        sort | uniq -c | tee "$dir/counts"
    awk '$2 == 200 { n += $1; c += $1 * $3 } $2 != 200 { n = -1e9 } END { exit !(n == 10000 && c == 1) }' \
        "$dir/counts"
}

#--- Groups ---------------------------------------------------------------------------------------
requests() { # with so few descriptors that one lost at each request is noticed
    # shellcheck disable=SC2016 # the inner shell expands it
    start sh -c 'ulimit -n 2500 2>/dev/null; exec "$@"' sh "$program" -p 0 "$site"
    if have curl; then
        check "files, types, status codes" answers
        check "HEAD" heads
        check "folders, index.html, listings" folders
        check "a listing's names are escaped" listing_is_escaped
        check "ranges" ranges
        check "If-Modified-Since, If-None-Match, If-Range" conditions
        check "paths that lead out are refused" refused
        check "10,000 requests on one connection" sequential
        check "the log names requests, one a line" grep -x '206 3 GET /ten HTTP/1.1' "$dir/err"
    else
        skip "one request at a time" "curl not found"
    fi
    clients "malformed requests" malformed
    clients "pipelined requests" pipeline "$SEED"
    clients "half-closed clients" half_closed
    clients "clients that reset" reset
    clients "a file that shrinks meanwhile" shrinks
    clients "1,000 idle connections" idle
    finish "after all these"
}

slow_clients() {
    start "$program" -q -m -t 1 -p 0 "$site"
    clients "slow clients are cut off" slow
    finish "after slow clients"
}

few_descriptors() {
    # shellcheck disable=SC2016 # the inner shell expands it
    start sh -c 'ulimit -n 32 && exec "$@"' sh "$program" -q -t 1 -p 0 "$site"
    clients "100 connections, 32 descriptors" descriptors
    finish "after too many connections"
}

stops() {
    start "$program" -q -p 0 "$site"
    kill -INT "$pid"
    check "SIGINT" ended
    [ -n "$python" ] || { skip "SIGTERM" "python3 not found"; return; }
    start "$program" -q -t 60 -p 0 "$site"
    clients "SIGTERM: downloads end first" stop "$pid"
    check "  then it ends" ended
}

stop_limit() {
    [ -n "$python" ] || { skip "SIGTERM, limit" "python3 not found"; return; }
    start "$program" -q -t 2 -p 0 "$site"
    clients "SIGTERM: downloads have a limit" stop_limit "$pid"
    check "  then it ends" ended
}

live_paths='/sched /sched/events /sched/dump /sched/trace /metrics'
hidden() {
    for path in $live_paths; do get 404 "$path" || return; done
}
live_heads() {
    for path in $live_paths; do # on one connection: none of them sends a body
        get 200 "$path" -I && field 'Cache-Control: no-store' && get 405 "$path" -X POST &&
            get 404 "$path/" && get 404 "${path}x" || return
    done
    limit curl -sSI "$url/sched/events" "$url/sched/trace" "$url/metrics" "$url/small.txt" \
        -w 'connections %{num_connects}\n' >"$dir/heads" || return
    [ "$(grep -c '^connections 0' "$dir/heads")" -eq 3 ]
}
live_page() {
    get 200 /sched && cmp "$dir/body" docs/examples/sched.html &&
        field 'Content-Type: text/html; charset=utf-8' && field 'Transfer-Encoding: chunked' &&
        grep -i "^Content-Security-Policy: default-src 'none';" "$dir/fields" &&
        get 200 '/sched?interval=100' --http1.0 && cmp "$dir/body" docs/examples/sched.html &&
        ! grep -i '^Transfer-Encoding' "$dir/fields"
}
live_metrics() {
    get 200 /metrics && field 'Content-Type: text/plain; version=0.0.4; charset=utf-8' &&
        grep -x 'sch_workers 3' "$dir/body" && ! grep -x '# EOF' "$dir/body" &&
        get 200 /metrics -H 'Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5' &&
        field 'Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8' &&
        [ "$(tail -n 1 "$dir/body")" = '# EOF' ] &&
        limit curl -sS "$url/metrics" "$url/metrics" -o /dev/null -o /dev/null \
            -w '%{num_connects}\n' | tail -n 1 | grep -x 0
}
live_dump() {
    tries=0
    until dump_is_whole; do # the listener may be on its way
        tries=$((tries + 1))
        [ $tries -lt 20 ] || return
        sleep 0.1
    done
}
dump_is_whole() {
    get 200 /sched/dump && field 'Content-Type: text/plain; charset=utf-8' &&
        [ "$(grep -c '^worker [012]: ' "$dir/body")" -eq 3 ] &&
        grep -E '^task [0-9]+ "listener" docs/examples/httpd.c:[0-9]+, .*waiting for' "$dir/body" &&
        grep -E '^task [0-9]+ "connection" .*running' "$dir/body"
}
dump_by_signal() {
    kill -USR1 "$pid" || return
    tries=0
    until grep -E '^task [0-9]+ "listener"' "$dir/err"; do
        tries=$((tries + 1))
        [ $tries -lt 300 ] || return
        sleep 0.1
    done
}
live() {
    if have curl; then
        start "$program" -q -p 0 "$site"
        check "live: nothing without -m" hidden
        finish "live: without -m"
    fi
    start "$program" -q -m -t 60 -w 3 -p 0 "$site"
    if have curl; then
        check "live: HEAD, POST, unknown paths" live_heads
        check "live: the page" live_page
        check "live: /metrics, both formats" live_metrics
        check "live: /sched/dump" live_dump
        check "live: files as ever" answers
    else
        skip "live: one request at a time" "curl not found"
    fi
    check "live: a dump by SIGUSR1" dump_by_signal
    clients "live: watchers come and go" watchers
    clients "live: traces" traces
    if [ -n "$python" ]; then
        clients "live: SIGTERM" stop_live "$pid"
    else
        kill -TERM "$pid"
    fi
    check "live: it ends" ended
}

says() { # says STATUS TEXT ARGUMENT...
    wanted=$1 text=$2
    shift 2
    limit "$program" "$@" >"$dir/say" 2>&1
    actual=$?
    cat "$dir/say"
    [ $actual -eq "$wanted" ] && grep -F -e "$text" "$dir/say"
}
options() {
    says 0 usage: -h && says 2 usage: -x && says 2 usage: -p 65536 && says 2 usage: -p x &&
        says 2 usage: -w 0 && says 2 usage: -t 0 && says 2 usage: a b &&
        says 1 "httpd: $site/no: " -p 0 "$site/no" && says 1 "httpd: $site/ten: " "$site/ten" &&
        says 1 'httpd: 1.2.3.x: ' -a 1.2.3.x -p 0 "$site"
}
demo() {
    says 0 'every status and length right' -d docs && says 0 'httpd: 3 files' -d "$site/sub/" &&
        says 1 'no files' -d "$site/bad-index"
}
command_line() {
    check "options" options
    start "$program" -q -w 1 -p 0 "$site"
    check "a port that is taken" says 1 'in use' -p "$port" "$site"
    have curl && check "one worker" answers
    finish "one worker"
    start "$program" -q -a ::1 -p 0 "$site"
    if [ -n "$port" ]; then
        url="http://[::1]:$port"
        check "IPv6" grep -x -F "listening on $url" "$dir/out"
        have curl && check "IPv6: files" answers
        finish "IPv6"
    else
        skip "IPv6" "$(cat "$dir/err")"
    fi
    check "the demo" demo
}

libfuzzer() {
    echo 'int LLVMFuzzerTestOneInput(void); int LLVMFuzzerTestOneInput(void) { return 0; }' \
        >"$dir/probe.c"
    for compiler in clang-19 clang ''; do
        [ -n "$compiler" ] || break
        $compiler -fsanitize=fuzzer -o "$dir/probe" "$dir/probe.c" >/dev/null 2>&1 && break
    done
    if [ -z "$compiler" ]; then
        skip libfuzzer "no clang that links with -fsanitize=fuzzer"
        return
    fi
    check "libfuzzer: builds" build libfuzzer $fuzzer $compiler -std=c11 $asan_flags \
        -fsanitize=fuzzer -DFUZZ_LIBFUZZER
    mkdir -p "$out/seeds" "$out/found"
    check "libfuzzer: seeds" "$out/fuzz" -w "$out/seeds"
    check "libfuzzer, $fuzz s" "$out/libfuzzer" -max_total_time=$fuzz -max_len=2000 \
        -seed="$SEED" -artifact_prefix="$out/" "$out/found" "$out/seeds"
    grep '^Done' "$dir/log"
}

parser() {
    check "the parser's fuzzer builds" build fuzz $fuzzer $CC -std=c11 $CFLAGS $warnings
    check "the parser, made-up requests" env SEED="$SEED" "$out/fuzz" -s $load
    tail -n 1 "$dir/log"
    [ "$level" = smoke ] || libfuzzer
}

loaded() { # the output of a load generator that had no error
    cat "$dir/load"
    ! grep -E 'Socket errors|Non-2xx|^Failed requests: +[1-9]' "$dir/load" &&
        grep -E '^Requests/sec: +[1-9]|^Complete requests: +[1-9]' "$dir/load"
}
wrk_run() { limit wrk -t2 -c32 -d${load}s "$url$1" >"$dir/load" 2>&1 && loaded; }
ab_run() { limit ab -q -t $load -n 1000000 -c 16 "$@" >"$dir/load" 2>&1 && loaded; }
load_generators() {
    start "$program" -q -p 0 "$site"
    if have wrk; then
        check "wrk, small" wrk_run /small.txt
        grep Requests/sec "$dir/load"
        check "wrk, large" wrk_run /big.bin
    else
        skip wrk "wrk not found"
    fi
    if have ab; then
        check "ab -k" ab_run -k "$url/small.txt"
        check "ab" ab_run "$url/page.html"
    else
        skip ab "ab not found (apache2-utils)"
    fi
    finish "after load"
}

sanitized() { # sanitized NAME FLAGS COMPILER...
    name=$1 flags=$2
    shift 2
    compiler=$(first_of "$flags" "$@")
    if [ -z "$compiler" ]; then
        skip "$name" "none of \"$*\" links with $flags"
        return
    fi
    check "$name: builds" build "$name" $source "$compiler" -std=c11 $flags
    start "$out/$name" -q -m -t 60 -p 0 "$site"
    if [ "$name" = asan ]; then
        clients "$name: malformed" malformed
        clients "$name: half-closed" half_closed
        clients "$name: reset" reset
    fi
    clients "$name: watchers" watchers
    clients "$name: everything at once" storm "$SEED" $load
    [ -n "$python" ] && tail -n 1 "$dir/log"
    if [ -n "$python" ]; then clients "$name: SIGTERM" stop "$pid"; else kill -TERM "$pid"; fi
    check "$name: it ends" ended
}

: >"$tmp/record"
{
    if [ -z "$program" ]; then
        check "builds without a warning" build httpd $source $CC -std=c11 $CFLAGS $warnings
    fi
    if ! wanted build; then
        :
    elif have "$CXX"; then
        check "is C++, too" $CXX -x c++ -std=c++17 $warnings -fsyntax-only -iquote . $source
    else
        skip "is C++, too" "$CXX not found"
    fi
} >"$dir/output" 2>&1
tee -a "$tmp/record" <"$dir/output"
: "${program:=$out/httpd}"
[ -x "$program" ] || exit 1

ASAN_OPTIONS=detect_stack_use_after_return=1:detect_leaks=1
UBSAN_OPTIONS=print_stacktrace=1
TSAN_OPTIONS=halt_on_error=1
export ASAN_OPTIONS UBSAN_OPTIONS TSAN_OPTIONS
group parser parser
if [ "$level" != smoke ]; then
    group asan sanitized asan "$asan_flags" clang-19 gcc clang
    group tsan sanitized tsan "$tsan_flags" clang-19 clang-20 clang-21 clang
fi
group slow slow_clients
group descriptors few_descriptors
group stops stops
group live live
group stop_limit stop_limit
group requests requests
group command_line command_line
gather
if [ "$level" != smoke ]; then # these take all cores
    group load load_generators
    gather
fi
awk '/^ok / { p++ } /^FAIL / { f++ } /^skip / { s++ }
    END { printf "%d passed, %d failed, %d skipped\n", p, f, s; exit (f > 0) }' "$tmp/record"
