#!/bin/sh
# lint.sh [HEADER] - what a compiler does not check about sched.h; `make lint`. Prints each problem,
# then "lint: N problems"; exit status 1 if there are any. Needs sh, awk and a compiler; a check
# whose tool is missing is named and skipped.
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
cd "$top" || exit 1
header=${1:-sched.h}
CC=${CC:-cc}
work=build/lint.$$
mkdir -p "$work"
trap 'rm -rf "$work"' EXIT
LC_ALL=C
export LC_ALL
passed=0 failed=0 skipped=0 problems=0

# check NAME - takes the problems found from the file "found", one a line.
check() {
    found=$(awk 'END { print NR }' "$work/found")
    if [ "$found" -eq 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1)) problems=$((problems + found))
        awk -v name="$1" 'NR <= 20 { print name ": " $0 }
             END { if (NR > 20) print name ": and " NR - 20 " more" }' "$work/found"
    fi
}

skip() {
    skipped=$((skipped + 1))
    echo "skip $1: $2"
}

# The text that the checks of C look at: comments blanked out, strings emptied, every line kept.
awk '{
        out = ""; n = length($0)
        for (i = 1; i <= n; i++) {
            c = substr($0, i, 1); two = substr($0, i, 2)
            if (comment) { if (two == "*/") { comment = 0; i++ } }
            else if (string != "") {
                if (c == "\\") i++
                else if (c == string) { string = ""; out = out c }
            }
            else if (two == "/*") { comment = 1; i++ }
            else if (two == "//") break
            else { if (c == "\"" || c == "\047") string = c; out = out c }
        }
        string = ""
        print out
    }' "$header" >"$work/code"

# --- the index in the manual equals the banners, in order -------------------------------------
awk '/^ \* INDEX/ { on = 1; next } on && /\*\// { exit }
     on && /\[[^]]*\]/ { sub(/^ \* */, ""); gsub(/ +/, " "); sub(/ $/, ""); print }' \
    "$header" >"$work/index"
awk '/MARK: - \[/ { sub(/.*MARK: - /, ""); gsub(/ +/, " "); sub(/ $/, ""); print }' \
    "$header" >"$work/banners"
{
    [ -s "$work/index" ] || echo "the manual has no index"
    awk -v entries="$(awk 'END { print NR }' "$work/index")" -v index_file="$work/index" '
         { entry = ""; if (NR <= entries) getline entry < index_file }
         $0 != entry && !told { told = 1
             print "entry " NR " is \"" entry "\", the banner \"" $0 "\"" }
         END { if (!told && NR != entries) print entries " entries, " NR " banners" }' \
        "$work/banners"
    awk '!/^\[0\]/ && !/ \((public|private)\)$/ {
             print "banner \"" $0 "\": neither (public) nor (private)" }' "$work/banners"
} >"$work/found"
check index

# --- the tests that a section names are there -------------------------------------------------
grep -on 'tests/[a-z]*/[a-z_]*\.c' "$header" | while IFS=: read -r line file; do
    [ -e "$file" ] || echo "$header:$line: $file is not there"
done >"$work/found"
check "named tests"

# --- layout -----------------------------------------------------------------------------------
sources=$(find "$header" tests bench docs/examples -name '*.[ch]' -o -name '*.cpp' | sort)
# shellcheck disable=SC2086 # a list of files
awk 'length($0) > 100 { print FILENAME ":" FNR ": " length($0) " columns" }
     /\t/ { print FILENAME ":" FNR ": tab" }
     /[ \t\r]$/ { print FILENAME ":" FNR ": blank at the end of the line" }' $sources >"$work/found"
check layout

# --- sched_* and SCHED_* belong to the system -------------------------------------------------
awk '{ at = shown ":" FNR ": "; sub(/\{.*\}/, "{}") }
     /^[ \t]*#[ \t]*(define|undef)[ \t]+(sched_|SCHED_)/ { print at $0; next }
     /^[ \t]*#/ { next }
     /^[^ \t](.*[^A-Za-z0-9_])?(sched_|SCHED_)[A-Za-z0-9_]*[ \t]*[(;,=\[{]/ { print at $0; next }
     /(struct|union|enum)[ \t]+sched_[a-z0-9_]*[ \t]*(\{|$)/ { print at $0; next }
     /^[ \t]+(SCHED_|sched_)[A-Za-z0-9_]*[ \t]*(=[^=]|,|$)/ { print at $0 }' \
    shown="$header" "$work/code" >"$work/found"
check "reserved prefix"

# --- symbols that an object with the implementation defines -----------------------------------
if command -v nm >/dev/null 2>&1; then
    # shellcheck disable=SC2086 # CC may be several words
    for mode in "" -DSCH_STATIC; do
        if $CC -std=c11 -w -O1 $mode -DSCHED_IMPLEMENTATION -x c -c "$header" -o "$work/object.o" \
            2>"$work/errors"; then
            nm -g -P "$work/object.o" | awk -v mode="$mode" '
                $2 ~ /^[A-TVWXYZu]$/ {
                    name = $1; sub(/^_/, "", name)
                    if (mode != "") print name " is external although SCH_STATIC is defined"
                    else if (name !~ /^sch_/) print name " is external and does not start with sch_"
                    count++
                }
                END { if (mode == "" && count == 0) print "the implementation defines no symbol" }'
        else
            echo "$header does not compile: $(grep -m 1 error "$work/errors")"
        fi
    done >"$work/found"
    check symbols
else
    skip symbols "nm not found"
fi

# --- reserved identifiers ---------------------------------------------------------------------
clang=
for candidate in clang-19 clang; do
    if [ -z "$clang" ] && command -v $candidate >/dev/null 2>&1; then clang=$candidate; fi
done
if [ -n "$clang" ]; then
    for language in "c -std=c11" "c++ -std=c++17"; do
        # shellcheck disable=SC2086 # two words each
        $clang -x $language -Wno-everything -Wreserved-identifier -DSCHED_IMPLEMENTATION \
            -fsyntax-only "$header" 2>&1 | grep -E 'warning:|error:'
    done | sort -u >"$work/found"
    check "reserved identifier"
else
    skip "reserved identifier" "clang not found"
fi

# --- static prototypes: only in [S], so that the compiler keeps the file bottom-up ------------
awk 'NR == FNR { if (/MARK: - \[/) seams[FNR] = /\[S\]/ ? "on" : "off"; next }
     FNR in seams { in_seams = seams[FNR] == "on" }
     /^[ \t]*#/ || continued { continued = /\\$/; next }
     /^[A-Za-z_]/ && /(^|[ \t)])static[ \t]/ { text = ""; start = FNR; open = 1 }
     open {
         text = text " " $0
         if (text ~ /[{=]/) open = 0
         else if (text ~ /;/) {
             open = 0
             if (text ~ /[A-Za-z0-9_][ \t]*\(.*\)[^()]*;/ && text !~ /\([ \t]*\*[^,)]*\)[ \t]*\(/ &&
                 text !~ /SCHI_(ATOMIC|CELL|ALIGNED)\([^()]*\)[^()]*;/ && !in_seams) {
                 sub(/^ +/, "", text); print shown ":" start ": " text
             }
         }
     }' shown="$header" "$header" "$work/code" >"$work/found"
check "static prototype outside of [S]"

# --- every weak atomic says what its order is for ---------------------------------------------
# A comment that names its order, on its line or in the lines of comment directly above it (of one
# for several lines in a row: above the first of them). [2] defines the operations.
awk 'NR == FNR { text[FNR] = $0; comment[FNR] = inside || /^[ \t]*(\/\*|\/\/)/
         rest = $0
         while (match(rest, inside ? "\\*/" : "/\\*")) {
             rest = substr(rest, RSTART + 2); inside = !inside
         }
         if (/MARK: - \[/) atomics = /\[2\]/
         exempt[FNR] = atomics; next }
     function named(line, order) {
         return match(text[line], /\/\*.*|\/\/.*|^ \*.*|^[ \t]+\*.*/) &&
             substr(text[line], RSTART) ~ ("(^|[^a-z_])" order "[^a-z_]")
     }
     /^[ \t]*#/ || continued { continued = /\\$/; next }
     /schi_[a-z0-9_]*_(rlx|acq|rel|acqrel)\(/ && !exempt[FNR] && !/^[A-Z_ ]*static / {
         match($0, /_(rlx|acqrel|acq|rel)\(/); order = substr($0, RSTART + 1, RLENGTH - 2)
         found = named(FNR, order)
         for (i = FNR - 1; comment[i] || text[i] ~ ("_" order "\\("); i--)
             if (comment[i] && named(i, order)) found = 1
         if (!found) { sub(/^ +/, ""); print shown ":" FNR ": " $0 }
     }' shown="$header" "$header" "$work/code" >"$work/found"
check "no order comment"

# --- long functions ---------------------------------------------------------------------------
if ctags --version 2>/dev/null | grep -q Universal; then
    ctags -x --language-force=C --c-kinds=f --_xformat='%N %n %e' -o - "$header" |
        awk -v shown="$header" '{ lines = $3 - $2 + 1 }
            lines > 70 {
                print (lines > 100 ? "" : "note: ") shown ":" $2 ": " $1 " has " lines " lines"
            }' \
        >"$work/long"
    grep '^note:' "$work/long"
    grep -v '^note:' "$work/long" >"$work/found"
    check "function over 100 lines"
else
    skip "function over 100 lines" "universal-ctags not found"
fi

echo "lint: $problems problems"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$problems" -eq 0 ]
