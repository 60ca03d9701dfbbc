#!/bin/sh
# fetch.sh - what parts of the tests get from npm, all at once. Where one cannot be had, that part
# says so and is skipped. Exit status: 0, or 77 if something is missing. From the top.
set -u
mkdir -p build/log
for part in kqueue/cross page/run trace/run; do
    log=build/log/fetch-${part%/*}.log
    { sh "tests/$part.sh" fetch >"$log" 2>&1 || echo "skip" >>"$log"; } &
done
wait
grep -hv ' passed, ' build/log/fetch-*.log
if grep -q '^skip' build/log/fetch-*.log; then exit 77; fi
