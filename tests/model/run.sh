#!/bin/sh
# The explorer: builds tests/model/all.c and runs every client, two at a time.
#
#   tests/model/run.sh smoke|ci|all      from the top of the checkout
#
# all also runs every client with waitplaces that are locks and the whole of mutate.py; BUDGET is
# the most seconds for one client there (60). SEED is that of the random executions and samples.
# ONE client again: build/model --client NAME --level ci
set -u
level=${1:-ci}
CC=${CC:-cc}
CFLAGS=${CFLAGS:--O2 -g}
SEED=${SEED:-1}
jobs=${JOBS:-2}
flags="-std=c11 $CFLAGS -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror"
log=build/log/model
mkdir -p "$log"
rm -f "$log"/*

if ! echo 'int main(void) { return sizeof(void *) == 8 ? 0 : 1; }' >"$log/probe.c" ||
    ! $CC -o "$log/probe" "$log/probe.c" || ! "$log/probe"; then
    echo "skip model: needs a 64-bit compiler that builds for this machine"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
for variant in model model-locked; do
    define=
    [ $variant = model-locked ] && define=-DMODEL_LOCKED_PLACES
    # shellcheck disable=SC2086
    if ! $CC $flags $define -iquote . -iquote tests/model -o build/$variant tests/model/all.c; then
        echo "FAIL $variant: does not build"
        echo "0 passed, 1 failed, 0 skipped"
        exit 1
    fi
done

# One client in a process of its own: its result as a line, the rest into a log.
cat >"$log/one.sh" <<'END'
log=$1 binary=$2 tag=$3 name=$4
shift 4
"build/$binary" --client "=$name" "$@" >"$log/$tag-$name.out" 2>&1
status=$?
head -1 "$log/$tag-$name.out" | grep -E '^(ok|FAIL) ' | sed "s/ / $tag /" |
    sed 's/ model / /' || :
if [ $status -ne 0 ] && ! grep -q '^FAIL ' "$log/$tag-$name.out"; then
    echo "FAIL $tag $name: exit status $status" | tee -a "$log/$tag-$name.out"
fi
END
# run_clients BINARY TAG OPTION...: all of them
run_clients() {
    binary=$1 tag=$2
    shift 2
    "build/$binary" --list | xargs -P "$jobs" -I NAME \
        sh "$log/one.sh" "$log" "$binary" "$tag" NAME "$@" --seed "$SEED" | tee -a "$log/lines"
}

case $level in
smoke)
    run_clients model model --level smoke --budget 0.15
    ;;
ci)
    run_clients model model --level ci --budget "${BUDGET:-0.35}"
    run_clients model-locked locked --level smoke --budget 0.12
    run_clients model full --level smoke --budget 0.1 --no-reduce
    ;;
all)
    run_clients model model --level all --budget "${BUDGET:-60}"
    run_clients model-locked locked --level all --budget "${BUDGET:-60}"
    run_clients model full --level ci --budget "${BUDGET:-60}" --no-reduce
    ;;
*)
    echo "usage: tests/model/run.sh smoke|ci|all" >&2
    exit 2
    ;;
esac

# What failed, whole: trace and replay.
for out in "$log"/*.out; do
    grep -q '^FAIL ' "$out" && cat "$out"
done
cat "$log"/*.out | awk '/interleavings explored/ { n += $1 }
    END { printf "%.0f interleavings explored\n", n }'

if ! command -v python3 >/dev/null 2>&1; then
    echo "skip mutants: no python3" | tee -a "$log/lines"
else
    case $level in
    smoke) python3 tests/model/mutate.py --check ;;
    ci) python3 tests/model/mutate.py --sample "${SAMPLE:-12}" --seed "$SEED" --jobs "$jobs" ;;
    all) python3 tests/model/mutate.py --jobs "$jobs" --budget 5 ;;
    esac >"$log/mutants" 2>&1
    status=$?
    grep -E '^(FAIL|note|mutants|a sample)' "$log/mutants"
    if [ $status -eq 0 ]; then
        echo "ok mutants: $(tail -1 "$log/mutants")"
    else
        tail -3 "$log/mutants"
        echo "FAIL mutants: see $log/mutants"
    fi | tee -a "$log/lines"
fi

passed=$(grep -c '^ok ' "$log/lines")
failed=$(grep -c '^FAIL ' "$log/lines")
skipped=$(grep -c '^skip ' "$log/lines")
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
