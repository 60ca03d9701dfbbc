#!/bin/sh
# What the stories of docs/observe.md say, from the programs themselves.
#   sh tests/examples/story.sh PROGRAM...     build/story_stuck and so on
# Prints a line for each failed check, then "N passed, N failed, N skipped". What depends on when the
# system runs which thread is tried up to five times.
set -u
LC_ALL=C
export LC_ALL
passed=0 failed=0
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM
limit=
timeout 60 true 2>/dev/null && limit="timeout 60"

# story NAME CHECK - run both forms into files, then the check, until it holds.
story() {
    name=$1
    shift
    for try in 1 2 3 4 5; do
        if $limit "$program" >"$tmp/before" 2>&1 && $limit "$program" --fixed >"$tmp/after" 2>&1 &&
            "$@"; then
            passed=$((passed + 1))
            return
        fi
    done
    failed=$((failed + 1))
    echo "FAIL $name (after $try tries)"
    sed 's/^/     /' "$tmp/before" "$tmp/after"
}

# number FILE PATTERN - the number that the group in this pattern stands for, without decimals
number() { sed -n "s/.*$2.*/\1/p" "$tmp/$1" | head -n 1; }
has() { grep -q -e "$2" "$tmp/$1"; }

# line_of SOURCE NAME - where a task of this name is spawned
line_of() { sed -n "/{\"$2\", SCH_HERE/=" "docs/examples/$1"; }

stuck() {
    line=$(line_of story_stuck.c report)
    has before "^stall: worker [01] is in task [0-9]* \"report\" (docs/examples/story_stuck.c:$line) for 1[0-9][0-9] ms" &&
        has before 'queued behind it: 10, of these still there: 0$' &&
        has before "^worker [01]: busy with task [0-9]* \"report\"" &&
        has before "\"client\" .*waiting for [0-9.]* ms: join of task" &&
        has before '^stalls: 1, ' &&
        has after '^stalls: 0, 0 ms$' && ! has after '^stall:' &&
        has after '"report" .*in blocking code' &&
        [ "$(number before 'began \([0-9]*\)[.0-9]* ms')" -ge 30 ] &&
        [ "$(number after 'began \([0-9]*\)[.0-9]* ms')" -lt 30 ]
}

# The larger of the two workers' shares of the items.
share() {
    sed -n 's/^worker [01]: *\([0-9]*\)% of the items.*/\1/p' "$tmp/$1" | sort -n | tail -n 1
}
polls() { awk '/^worker/ { n += $7 } END { print n }' "$tmp/$1"; }

unbalanced() {
    [ "$(share before)" -ge 72 ] && [ "$(share after)" -lt 65 ] &&
        [ "$(polls before)" -ge 17 ] && [ "$(polls before)" -le 40 ] &&
        [ "$(polls after)" -ge 56 ] &&
        [ "$(number before '99% up to \([0-9]*\)')" -gt "$(number after '99% up to \([0-9]*\)')" ]
}

storm() {
    has before '^200 items taken by 100 consumers$' && has after '^200 items taken by 100 consumers$' &&
        [ "$(number before 'for each item \([0-9]*\)')" -ge 50 ] &&
        [ "$(number after 'for each item \([0-9]*\)')" -le 3 ] &&
        [ "$(number before 'sch_suspend: \([0-9]*\)')" -ge 10000 ] &&
        [ "$(number after 'sch_suspend: \([0-9]*\)')" -le 300 ]
}

trace() {
    $limit "$program" "$tmp/trace.json" >/dev/null &&
        [ "$(head -c 16 "$tmp/trace.json")" = '{"traceEvents":[' ] &&
        [ "$(tail -n 1 "$tmp/trace.json")" = ']}' ]
}

for program in "$@"; do
    case $program in
    *stuck*) story "a stuck worker" stuck ;;
    *unbalanced*) story "an unbalanced load" unbalanced && story "its trace" trace ;;
    *storm*) story "a storm of wake-ups" storm && story "its trace" trace ;;
    *) echo "FAIL no story is called $program"; failed=$((failed + 1)) ;;
    esac
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
