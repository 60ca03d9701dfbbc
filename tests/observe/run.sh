#!/bin/sh
# run.sh LEVEL - what is seen of a runtime from outside: the text of its metrics, read by the tools
# of the Prometheus project, and scraped by a real Prometheus. LEVEL: smoke, ci, all (`all` also with
# the program under sanitizers). Variables: CC CFLAGS. Run from the top.
set -u
level=${1:-ci}
: "${CC:=cc}" "${CFLAGS=-O2 -g}"
dir=build/observe
mkdir -p $dir
passed=0 failed=0 skipped=0
server=

ok() { echo "ok $1" && passed=$((passed + 1)); }
fail() { echo "FAIL $1: $2" && failed=$((failed + 1)); }
skip() { echo "skip $1: $2" && skipped=$((skipped + 1)); }
have() { command -v "$1" >/dev/null 2>&1; }
trap '[ -z "$server" ] || kill "$server" 2>/dev/null' EXIT

# A Python that has the parsers; on some machines the first one has not.
python=
for candidate in python3 /usr/bin/python3; do
    have "$candidate" || continue
    [ -n "$python" ] || python=$candidate
    if "$candidate" -c "import prometheus_client.openmetrics" 2>/dev/null; then
        python=$candidate
        break
    fi
done

# checked COMMAND... - prints lines of ours; they are shown and counted.
checked() {
    "$@" >$dir/log 2>$dir/errors
    checked_status=$?
    cat $dir/log
    n=$(grep -c '^FAIL ' $dir/log)
    failed=$((failed + n))
    passed=$((passed + $(grep -c '^ok ' $dir/log)))
    skipped=$((skipped + $(grep -c '^skip ' $dir/log)))
    if [ "$n" -eq 0 ] && [ $checked_status -ne 0 ] && [ $checked_status -ne 77 ]; then
        tail -n 5 $dir/errors
        fail "observe" "exit status $checked_status of $*"
    fi
}

# text NAME - what the program writes, by promtool and by the parsers.
text() {
    if ! $dir/observe write $dir >$dir/log 2>&1; then
        tail -n 5 $dir/log
        fail "observe write$1" "see above"
        return
    fi
    if ! have promtool; then
        skip "observe promtool$1" "promtool (Debian: prometheus) is not here"
    elif promtool check metrics <$dir/metrics.prom >$dir/log 2>&1 && [ ! -s $dir/log ]; then
        ok "observe promtool$1"
    else
        fail "observe promtool$1" "$(head -n 3 $dir/log | tr '\n' ' ')"
    fi
    if [ -z "$python" ]; then
        skip "observe text$1" "python3 is not here"
    else
        checked "$python" tests/observe/check.py text $dir sched.h
    fi
}

build() { # build NAME FLAGS...
    name=$1
    shift
    # shellcheck disable=SC2086,SC2068 # lists of words
    if $CC -std=gnu11 -Wall -Wextra $CFLAGS $@ -o $dir/observe tests/observe/observe.c -pthread \
        >$dir/log 2>&1; then
        return 0
    fi
    tail -n 5 $dir/log
    fail "observe$name" "does not build"
    return 1
}

# The server example shows its own runtime, if it can (-m); its port goes to HTTPD.
start_httpd() {
    # shellcheck disable=SC2086
    $CC -std=c11 $CFLAGS -iquote . -o $dir/httpd docs/examples/httpd.c -pthread >$dir/log 2>&1 ||
        return 1
    mkdir -p $dir/empty
    $dir/httpd -q -m -p 0 -w 2 $dir/empty >$dir/httpd.log 2>&1 &
    server=$!
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        HTTPD=$(sed -n 's|.*\(http://127\.0\.0\.1:[0-9]*\).*|\1|p' $dir/httpd.log | head -n 1)
        [ -n "$HTTPD" ] && break
        sleep 0.2
    done
    export HTTPD
    [ -n "$HTTPD" ]
}

scrape() {
    if ! have prometheus || [ -z "$python" ]; then
        skip "observe scrape" "prometheus (Debian) or python3 is not here"
        return
    fi
    HTTPD=
    if [ "$level" = smoke ]; then
        skip "observe scrape httpd" "not at this level"
    elif ! start_httpd; then
        skip "observe scrape httpd" "httpd -m does not come up"
    fi
    rm -rf $dir/tsdb
    checked "$python" tests/observe/check.py scrape prometheus $dir $dir/observe serve
    rm -rf $dir/tsdb
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null
        wait "$server" 2>/dev/null
        server=
    fi
}

if build ""; then
    text ""
    scrape
fi
if [ "$level" = all ]; then
    for sanitizer in address,undefined thread; do
        echo 'int main(void) { return 0; }' >$dir/probe.c
        # shellcheck disable=SC2086
        if ! $CC $CFLAGS -fsanitize=$sanitizer -o $dir/probe $dir/probe.c >/dev/null 2>&1; then
            skip "observe $sanitizer" "$CC does not link with it"
        elif build " $sanitizer" -fsanitize=$sanitizer -fno-omit-frame-pointer; then
            text " $sanitizer"
        fi
    done
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
