#!/bin/sh
# What docs/examples/callback prints: every answer of cancel, every result, none twice.
#   sh tests/examples/callback.sh PROGRAM
# Prints a line for each failed check, then "N passed, N failed, N skipped".
set -u
passed=0 failed=0
out=$("$1")
status=$?
# check WHAT PATTERN: a line of the output matches it
check() {
    if printf '%s\n' "$out" | grep -Eqx "$2"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $1"
        printf '%s\n' "$out" | sed 's/^/     /'
    fi
}
check "awaited alone" 'alone: 1681'
# On a busy machine the library may have begun later, or have ended sooner, than it should.
check "a result that comes late stands" '5 ms for what takes 50: (1764|not finished by the deadline)'
check "one in a queue is forgotten" '5 ms for one in a queue: (not finished by the deadline|1936)'
check "nothing lost, nothing twice" '[0-9]+ races of two: every answer had, none twice: yes'
check "all three answers of cancel" \
    'cancel answered: removed [1-9][0-9]*, busy [1-9][0-9]*, done [1-9][0-9]*'
if [ "$status" -ne 0 ]; then
    failed=$((failed + 1))
    echo "FAIL exit status $status"
fi
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
