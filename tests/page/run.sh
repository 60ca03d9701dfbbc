#!/bin/sh
# run.sh [LEVEL|screenshots|fetch] - the live page of docs/examples/httpd -m, in headless Chromium
# (Debian package chromium; CHROMIUM names another) driven by playwright-core, with axe-core for what
# makes a page accessible. Both come from npm into build/page at the first run, in the versions of
# package.json; `fetch` does only that, FETCHED=1 says that it has been done.
#   smoke        that httpd_page.h is made from sched.html; what of the page takes a moment
#   ci           all of the page
#   all          also with httpd under ASan+UBSan and under TSan
#   screenshots  a minute of load, and docs/img/live.png and live-dark.png of it
# Variables: CC CFLAGS CHROMIUM. Run from the top.
set -u
cd "$(dirname "$0")/../.." || exit 1
level=${1:-ci}
: "${CC:=cc}" "${CFLAGS=-O2 -g}" "${CHROMIUM:=chromium}"
dir=build/page
mkdir -p $dir || exit 1
passed=0 failed=0 skipped=0
ok() { passed=$((passed + 1)) && echo "ok $1"; }
fail() { failed=$((failed + 1)) && echo "FAIL $1: $2"; }
skip() { skipped=$((skipped + 1)) && echo "skip $1: $2"; }
have() { command -v "$1" >/dev/null 2>&1; }
end() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
    exit
}
limit() { shift && "$@"; } # SECONDS COMMAND...
if have timeout; then limit() { timeout -k 5 "$@"; }; fi

[ "$level" = fetch ] && FETCHED=
if sh tests/examples/page_header.sh | cmp - docs/examples/httpd_page.h; then
    ok "httpd_page.h is made from sched.html"
else
    fail "httpd_page.h" "sh tests/examples/page_header.sh >docs/examples/httpd_page.h"
fi

for tool in node npm "$CHROMIUM"; do
    have "$tool" || { skip page "$tool not found" && end; }
done
installed() {
    cmp -s tests/page/package.json $dir/package.json &&
        node -e 'require("playwright-core"), require.resolve("axe-core")' 2>/dev/null
}
NODE_PATH=$PWD/$dir/node_modules
export NODE_PATH
if ! installed && [ -z "${FETCHED:-}" ]; then
    cp tests/page/package.json $dir/package.json
    limit 150 npm install --no-audit --no-fund --no-package-lock --prefix $dir >$dir/npm.log 2>&1 ||
        tail -n 3 $dir/npm.log
fi
installed || { skip page "npm install has failed" && end; }
[ "$level" = fetch ] && end

# page NAME FLAGS - httpd built with these, and the tests of page.js
# shellcheck disable=SC2086 # lists of words
page() {
    name=$1
    if ! $CC -std=c11 $2 -iquote . -o "$dir/httpd$name" docs/examples/httpd.c -pthread; then
        fail "page$name" "httpd does not build"
        return
    fi
    limit 300 node tests/page/page.js "$dir/httpd$name" "$(command -v "$CHROMIUM")" "$dir" "$level" \
        >$dir/log 2>&1
    status=$?
    sed "\$!s/^\(ok\|FAIL\|skip\) /&page$name: /; /^[0-9]* passed, /d" $dir/log
    counts=$(awk '/^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { print $1, $3, $5 }' $dir/log)
    if [ -z "$counts" ]; then
        fail "page$name" "exit status $status"
        return
    fi
    set -- $counts
    passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}

page "" "$CFLAGS"
if [ "$level" = all ]; then
    ASAN_OPTIONS=detect_stack_use_after_return=1:detect_leaks=1 TSAN_OPTIONS=halt_on_error=1
    export ASAN_OPTIONS TSAN_OPTIONS
    page " asan" "-g -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined"
    if have clang-19; then
        CC=clang-19
        page " tsan" "-g -O1 -fsanitize=thread"
    else
        skip "page tsan" "clang-19 not found"
    fi
fi
if [ "$level" = screenshots ] && [ "$failed" -eq 0 ]; then
    mkdir -p docs/img
    cp $dir/live.png $dir/live-dark.png docs/img/
fi
end
