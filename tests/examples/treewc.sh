#!/bin/sh
# Compares docs/examples/treewc with find and wc over trees made for the purpose.
#   sh tests/examples/treewc.sh PROGRAM
# Prints a line for each failed or skipped check, then "N passed, N failed, N skipped".
# Exit status: 0 all passed, 1 a check failed, 77 nothing could be tested.
set -u
LC_ALL=C
export LC_ALL

passed=0 failed=0 skipped=0
skip() { skipped=$((skipped + 1)); echo "skip $*"; }
# check WHAT COMMAND...: the command succeeds
check() {
    what=$1
    shift
    if "$@" >"$tmp/log" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $what"
        sed 's/^/     /;10q' "$tmp/log"
    fi
}
finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ] || exit 1
    [ "$passed" -gt 0 ] || exit 77
    exit 0
}

if [ $# -ne 1 ] || [ ! -x "$1" ]; then
    echo "usage: treewc.sh PROGRAM" >&2
    exit 1
fi
tmp=$(mktemp -d) || exit 1
trap 'cd /; chmod -R u+rwx "$tmp"; rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM
# A copy, so that another user can run it wherever the checkout is.
chmod 755 "$tmp" && cp "$1" "$tmp/treewc" && chmod 755 "$tmp/treewc" || exit 1
cd "$tmp" || exit 1

if ! find treewc -print0 2>/dev/null | sort -z 2>/dev/null | xargs -0 true 2>/dev/null; then
    skip "everything: find -print0, sort -z or xargs -0 is missing"
    finish
fi

# Some versions of wc count a run of unprintable bytes as a word. GNU wc 9.1 and busybox do not, nor
# does treewc. If this wc does, such bytes are taken out before it counts words.
unprintable=
[ "$(printf '\001' | wc -w)" -eq 0 ] || unprintable='\000-\010\016-\037\177-\377'
export unprintable

# want_each DIR: what treewc --files DIR shall print, by one wc per file: any name, any content.
cat >each.sh <<'END'
for f do
    words=$(if [ "$unprintable" ]; then tr -d "$unprintable"; else cat; fi <"$f" | wc -w)
    printf '%d %d %d ' "$(wc -l <"$f")" "$words" "$(wc -c <"$f")" | tee -a sums
    printf '%s\n' "$f"
    echo >>sums
done
END
want_each() {
    : >sums
    find "$1" -type f -print0 | sort -z | xargs -0 sh each.sh >want
    awk '{ l += $1; w += $2; b += $3 } END { printf "%.0f %.0f %.0f total\n", l, w, b }' sums >>want
}

# want_many DIR: the same for many files, by few wc. For names without white space and plain text.
want_many() {
    find "$1" -type f -print0 | sort -z | xargs -0 wc /dev/null |
        awk '$4 != "/dev/null" && $4 != "total" { print $1, $2, $3, $4; l += $1; w += $2; b += $3 }
             END { printf "%.0f %.0f %.0f total\n", l, w, b }' >want
}

# run STATUS ARGUMENT...: run treewc, with the output in out and err. True if the status is that.
limit=
timeout 60 true 2>/dev/null && limit="timeout 60"
run() {
    status=$1
    shift
    $limit ./treewc "$@" >out 2>err
    actual=$?
    [ "$actual" -eq "$status" ] || {
        echo "exit status $actual, not $status"
        cat err
        return 1
    }
}
# counts DIR: run treewc over DIR with and without --files, compare with want.
counts() {
    run 0 --files "$1" && diff want out && run 0 "$1" &&
        sed -n '$s/ total$//p' want | diff - out
}
total_is() { [ "$(cat out)" = "$1" ] || { cat out; return 1; }; }
says() { grep -F -e "$1" err || { echo "not on stderr: $1"; cat err; return 1; }; }
silent() { ! grep -F -e "$1" err; }

#--- Contents --------------------------------------------------------------------------------------
mkdir contents
: >contents/empty
printf 'no final newline' >contents/no-newline
printf '\n\n\n' >contents/newlines
printf ' \t\v\f\r\n  ' >contents/white
printf 'a\tb\vc\fd\re f\n' >contents/separators
printf 'a\000b \000 c\000\n\000' >contents/nul
printf '\001\002 \033[0m \177 x\177 \001y\001 z\n' >contents/control
printf '\377 \200\240 a\302\240b \205 \343\200\200 caf\303\251\n' >contents/high
printf ' lead' >contents/leading-space
printf 'trail ' >contents/trailing-space
awk 'BEGIN { for (i = 0; i < 256; i++) printf "%c%c ", i, 255 - i }' >contents/every-byte
if [ -r /dev/urandom ]; then
    head -c 300000 /dev/urandom >contents/random
fi
# Sizes around the buffer's, a word or a gap across each of its ends, and none within several.
for n in 65535 65536 65537 131071 131072 131073; do
    awk -v n="$n" 'BEGIN { for (i = 0; i < n; i++) printf "x" }' >"contents/word-$n"
    awk -v n="$n" 'BEGIN { for (i = 0; i < n - 1; i++) printf "x"; printf " y z" }' \
        >"contents/gap-$n"
    awk -v n="$n" 'BEGIN { for (i = 0; i < n - 1; i++) printf " "; printf "yz" }' \
        >"contents/spaces-$n"
done
awk 'BEGIN { for (i = 0; i < 900000; i++) printf "%d%s", i, i % 11 ? " " : "\n" }' >contents/big
want_each contents
check "contents as wc counts them" counts contents

#--- Names -----------------------------------------------------------------------------------------
mkdir names names/sub "names/sub dir" names/-d
nl='
'
for name in 'with space' ' leading' 'trailing ' "new${nl}line" "${nl}" -dash -- --files 'a*b' \
    'quote"s' "apostrophe's" 'back\slash' '$HOME' total .hidden ... Z a B z; do
    echo "$name" >"names/$name"
    echo "$name $name" >"names/sub dir/$name"
done
printf 'a b c\n' >"names/-d/$(printf 'high\351')" 2>/dev/null || rm -f names/-d/high*
# "sub dir", "sub-", "sub/" and "sub0" sort by the byte after sub.
echo x >names/sub/x
echo x >names/sub-x
echo x >names/sub0
want_each names
check "names with spaces, newlines, dashes" counts names
find names/ -type f -print0 | sort -z | tr '\0' '\n' | sed '$!b' >paths
check "a slash at the end of DIR" eval \
    'run 0 --files names/ && sed "\$d" out | sed "s/^[0-9]* [0-9]* [0-9]* //" | diff paths -'
(cd names && ../treewc -- -d >../out 2>../err)
check "a DIR that begins with a dash" eval 'total_is "1 3 6"'
check "one file below DIR" eval \
    'run 0 --files names/sub && total_is "1 1 2 names/sub/x${nl}1 1 2 total"'

#--- Links and special files -----------------------------------------------------------------------
mkdir links links/dir
echo 'one two' >links/file
ln links/file links/dir/hard
ln -s . links/self
ln -s .. links/dir/up
ln -s file links/to-file
ln -s dir links/to-dir
ln -s nowhere links/dangling
ln -s loop-b links/loop-a
ln -s loop-a links/loop-b
if mkfifo links/fifo 2>/dev/null; then
    check "a FIFO is skipped" eval 'run 0 links && total_is "2 4 16"'
else
    skip "a FIFO is skipped: mkfifo failed"
fi
want_each links
check "links are not followed" counts links
check "  nor named on stderr" silent "links/"
ln -s links link-to-dir
check "DIR itself may be a link" eval 'run 0 link-to-dir && total_is "2 4 16"'

#--- Shapes ----------------------------------------------------------------------------------------
mkdir nothing nothing/at nothing/all nothing/at/all
check "a tree without files" eval 'run 0 nothing && total_is "0 0 0"'
check "  with --files" eval 'run 0 --files nothing && total_is "0 0 0 total"'

mkdir deep
(
    cd deep || exit
    i=0
    while [ $i -lt 200 ]; do
        echo "level $i" >file
        mkdir "d$i"
        cd "d$i" || exit
        i=$((i + 1))
    done
)
want_many deep
check "200 levels" counts deep

# Longer than PATH_MAX: find and wc need not be able to, but we know the answer.
name=$(awk 'BEGIN { for (i = 0; i < 200; i++) printf "n" }')
(
    mkdir far && cd far || exit 1
    i=0
    while [ $i -lt 30 ]; do
        # -P: the shell must not build the path that is too long for the system.
        mkdir "$name" && cd -P "$name" 2>/dev/null && echo "level $i" >file || exit 1
        i=$((i + 1))
    done
) 2>/dev/null
if [ $? -eq 0 ]; then
    check "a path of 6000 bytes" eval 'run 0 far && total_is "30 60 260"'
else
    skip "a path of 6000 bytes: it cannot be made here"
fi
# Not every rm -r can remove it.
while [ -d far ]; do
    rm -f far/file
    [ ! -d "far/$name" ] || mv "far/$name" further
    rmdir far && [ ! -d further ] || mv further far || break
done

mkdir many
awk 'BEGIN { for (i = 0; i < 5000; i++) { f = "many/" i; print i, "words here" > f; close(f) } }'
want_many many
check "5000 files in a directory" counts many

mkdir wide
i=0
while [ $i -lt 400 ]; do
    mkdir "wide/$i" "wide/$i/a" "wide/$i/b"
    echo "$i a" >"wide/$i/a/file"
    echo "$i b c" >"wide/$i/b/file"
    i=$((i + 1))
done
want_many wide
check "1200 directories" counts wide

for i in 1 2 3 4 5 6 7 8 9 10; do
    check "1200 directories again ($i)" counts wide
done

#--- What cannot be read ---------------------------------------------------------------------------
mkdir closed closed/dir closed/open
echo 'one two three' >closed/open/file
echo secret >closed/file
echo secret >closed/dir/file
chmod 0 closed/file closed/dir
as=
if [ "$(id -u)" -eq 0 ]; then
    as="setpriv --reuid=65534 --regid=65534 --clear-groups"
    $as ./treewc -h >/dev/null 2>&1 || as=none
fi
if [ "$as" = none ]; then
    skip "unreadable files: we are root, and setpriv is missing"
else
    $as $limit ./treewc --files closed >out 2>err
    status=$?
    check "unreadable: exit status 1" test $status -eq 1
    check "unreadable: the rest is counted" \
        total_is "1 3 14 closed/open/file${nl}1 3 14 total"
    check "unreadable: the file is named" says "treewc: closed/file: Permission denied"
    check "unreadable: the directory is named" says "treewc: closed/dir: Permission denied"
    check "unreadable: nothing else is" silent closed/open/file
    $as $limit ./treewc closed/dir >out 2>err
    status=$?
    check "unreadable DIR" eval \
        'test $status -eq 1 && total_is "0 0 0" && says "treewc: closed/dir: Permission denied"'
fi
chmod 755 closed/dir

check "missing DIR" eval 'run 1 missing && says "treewc: missing: No such file"'
check "DIR is a file" eval 'run 1 contents/big && says "treewc: contents/big: Not a directory"'
check "empty DIR" eval 'run 1 "" && says "No such file"'

# Files come and go meanwhile. All may happen but a crash, a hang, or the loss of those that stay.
mkdir busy
awk 'BEGIN { for (i = 0; i < 300; i++) { f = "busy/stay" i; print i > f; close(f) } }'
(
    i=0
    while [ ! -e stop ]; do
        i=$(((i + 1) % 50))
        echo "$i" >busy/come$i
        mkdir busy/dir$i
        echo "$i" >busy/dir$i/file
        rm -rf busy/come$i busy/dir$i
        ln -s stay0 busy/come$i
        rm -f busy/come$i
    done
) >/dev/null 2>&1 &
for i in 1 2 3 4 5 6 7 8 9 10; do
    $limit ./treewc --files busy >out 2>err
    status=$?
    check "a tree that changes ($i)" eval \
        'test $status -le 1 && test "$(grep -c busy/stay out)" -eq 300'
done
: >stop
wait

#--- Arguments and output --------------------------------------------------------------------------
check "-h" eval 'run 0 -h && grep "^usage: treewc" out'
check "--help" eval 'run 0 --help && grep "^usage: treewc" out'
check "unknown option" eval 'run 2 --bad && says "--bad" && says usage: && test ! -s out'
check "unknown short option" eval 'run 2 -x && says usage: && test ! -s out'
check "two directories" eval 'run 2 many wide && says usage: && test ! -s out'
check "options after DIR" eval 'run 0 nothing --files && total_is "0 0 0 total"'
check "the scheduler's table is on stderr" eval \
    'run 0 many && says worker && says polls && says steals && says handoffs'
check "no progress line but on a terminal" silent " MB"
if [ "$(script -qec 'tty -s && echo yes' /dev/null 2>/dev/null | tr -d '\r')" = yes ]; then
    script -qec "$limit ./treewc many >out" /dev/null >err 2>&1 </dev/null
    check "stderr is a terminal" eval 'says worker && test "$(wc -l <out)" -eq 1'
else
    skip "stderr is a terminal: no script -qec"
fi
if [ -d /usr/include ]; then
    ./treewc /usr/include >want 2>err
    check "DIR is /usr/include by default" eval 'run 0 && diff want out'
else
    skip "DIR is /usr/include by default: there is none"
fi
if [ -w /dev/full ]; then
    ./treewc many >/dev/full 2>err
    status=$?
    check "output that cannot be written" eval \
        'test $status -eq 1 && says "treewc: standard output: "'
else
    skip "output that cannot be written: no /dev/full"
fi

#--- Bounds ----------------------------------------------------------------------------------------
# 50,000 small files of one directory may take hardly more memory than 5000 take.
mkdir crowd
awk 'BEGIN { for (i = 0; i < 50000; i++) { f = "crowd/" i; print i > f; close(f) } }'
check "200 descriptors are enough" eval \
    '(ulimit -n 200 && run 0 crowd) && total_is "50000 50000 288890"'
# AddressSanitizer would keep what was freed.
ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}quarantine_size_mb=1
export ASAN_OPTIONS
if grep -q __tsan_init treewc; then
    skip "memory is bounded: ThreadSanitizer's own is not"
elif env time -f %M true >/dev/null 2>&1; then
    few=$(env time -f %M ./treewc many 2>&1 >/dev/null | tail -n 1)
    lot=$(env time -f %M ./treewc crowd 2>&1 >/dev/null | tail -n 1)
    check "memory is bounded: $few KiB for 5000 files, $lot KiB for 50000" \
        test "$lot" -lt $((few + few / 2 + 2048))
else
    skip "memory is bounded: no GNU time"
fi
finish
