# New runs into the results that are there: a row that was run replaces the one of the same case,
# variant and workers. Called by run.sh.
def key: [.case, .variant, .workers];
($plan | split("\n") | map(select(. != "") | [splits(" +")]
    | [.[0], .[1], (.[2] | tonumber)])) as $rows
| ($missing | split("\n") | map(select(. != "")) | unique) as $missing
| ($runs | group_by(key) | map(. as $all | {
    case: .[0].case, variant: .[0].variant, workers: .[0].workers,
    mode: $mode, pinned: ($pinned == "1"), date: $date, load: ($load | tonumber? // null),
    environment: $environment[0], missing: $missing,
    contenders: (map(.contender) | unique | map(. as $name
        | [$all[] | select(.contender == $name)] | {
            name: $name,
            status: (map(.status) | if index("ok") then "ok" else .[0] end),
            failed: (map(select(.status != "ok" and .status != "missing" and .status != "later")
                | .status)),
            runs: map(select(.status == "ok")
                | del(.case, .variant, .workers, .contender, .status, .check, .exit_code))}))
    })) as $new
| .groups = ([.groups[] | select(key as $k | all($new[]; key != $k))] + $new
    | map(select(key as $k | $rows | index([$k])))
    | sort_by(key as $k | $rows | index([$k])))
| if $case == "contention" then .hardware = $hardware else . end
