# Everything that the report says, from results.json and goals.txt ($goals); called by report.sh.
# The output is one section after the other, each behind a line "@@ NAME": Markdown, but for those
# that begin with plot_, which are data for gnuplot.

# Numbers

def fixed($digits):
    pow(10; $digits) as $unit
    | (. * $unit + 0.5 | floor) as $n
    | ($n / $unit | floor) as $whole
    | if $digits == 0 then "\($n)"
      else "\($whole)." + ("000\($n - $whole * $unit)"[-$digits:]) end;
def figure: if . == null then "–" elif . < 10 then fixed(2) elif . < 100 then fixed(1)
    else fixed(0) end;
def exact: if . == null then "–" else fixed(3) end;
def ratio: if . == null then "–" elif . < 0.1 then fixed(3) else fixed(2) end;
def median:
    map(select(type == "number")) | sort | length as $n
    | if $n == 0 then null elif $n % 2 == 1 then .[($n - 1) / 2]
      else (.[$n / 2 - 1] + .[$n / 2]) / 2 end;
def over($other): if . == null or $other == null or $other == 0 then null else . / $other end;
def scaled($factor): if . == null then null else . * $factor end;

# Groups: a case, a variant, a number of workers, with all who took part

# What a row is about: bytes; the p50 of latencies; CPU time, where others share the machine with
# what is measured or where it only waits; counts; wall time else.
def unit:
    if .case == "contention" then "count"
    elif .case == "memory" or .variant == "memory" then "bytes"
    elif (.case | startswith("wake_")) or .variant == "lateness" or .variant == "rested" then "p50"
    elif .case == "echo" or .case == "http" or .case == "timers" or .case == "idle"
    then "cpu"
    else "wall" end;
def value_of($unit):
    if $unit == "bytes" then (.bytes_per_op | scaled(1) | if . then (. + 0.5 | floor) else . end)
    elif $unit == "cpu" then .cpu_ns_per_op
    else .ns_per_op end;
# Not peers but what the machine itself can do.
def is_floor: . == "pthread" or . == "futex" or . == "epoll" or . == "nanosleep" or . == "serial";
def is_ours: startswith("sched.h");
def rank: {"sched.h": 0, "tokio": 2, "tokio+je": 3, "rayon": 4, "go": 5}[.]
    // (if is_ours then 1 elif is_floor then 7 else 6 end);

def evaluated:
    unit as $unit
    | . + {unit: $unit, contenders: [.contenders[]
        | [.runs[] | value_of($unit) | select(. != null)] as $values
        | {name, status, failed, runs: ($values | length), median: ($values | median),
            low: ($values | min), high: ($values | max),
            steps: [.runs[].reference_ns | select(. != null)]}
          + (.runs as $runs | ["ns_per_op", "cpu_ns_per_op", "cpus", "p99", "late_mean", "send_ns",
              "table_bytes_per_op", "server_rss_kib", "rss_kib", "program_s", "program_cpu_s",
              "ops", "rmw_per_op", "failed_per_op", "barriers_per_op", "locks_per_op",
              "wakes_per_op", "steals_per_op"]
            | map(. as $key | {($key): ([$runs[][$key]] | median)}) | add)]
        | sort_by([(.name | rank), .name])};
def ours: first(.contenders[] | select(.name == "sched.h")) // null;
# The median of what $name stands for among the contenders: of key $key.
def reference($name; $key):
    [.contenders[] | select(
        if $name == "best" then (.name | is_ours or is_floor | not)
        elif $name == "tokio" then (.name | startswith("tokio"))
        else .name == $name end) | .[$key] | select(. != null)] | min;

[.groups[] | evaluated] as $groups
| def find($case; $variant; $workers):
    first($groups[] | select(.case == $case and .variant == $variant and .workers == $workers))
    // null;

# Goals: what goals.txt asks of a group, and what came of it

def goal_rows: $goals | split("\n") | map(select(test("^[a-z]")) | [splits(" +")]);
def verdict: if . then "met" else "**missed**" end;
def suffix: {bytes: " bytes", cpu: " ns CPU", p50: " ns", wall: " ns"}[.unit];
# Each: {goal, got, met}; met is null where something is not there.
def goals_of:
    . as $group | ours as $ours
    | [goal_rows[]
    | select(.[0] == $group.case and .[1] == $group.variant and .[2] == "\($group.workers)")
    | {limit: (.[3] | tonumber? // null), name: .[4], most: (.[5] | tonumber? // null)}
    | . as $goal
    | if .name == "late" then
        {goal: "mean lateness ≤ \(.limit / 1000 | figure) µs", is: $ours.late_mean, limit,
            got: "\($ours.late_mean | scaled(0.001) | figure) µs"}
      elif .name | startswith("+") then
        ($group | reference($goal.name[1:]; "median")) as $other
        | {goal: "≤ \(.limit / 1000 | figure) µs + \(.name[1:])", is: $ours.median,
            limit: (if $other then .limit + $other else null end),
            got: "\($ours.median | scaled(0.001) | figure) µs"}
      else
        (if .limit then {goal: "≤ \(.limit)\($group | suffix)", is: $ours.median, limit,
            got: ($ours.median | figure)} else empty end),
        (if .most then
            (if .name | endswith(":p99") then {key: "p99", of: .name[:-4], show: " p99 of "}
             else {key: "median", of: .name, show: " "} end) as $what
            | (if .name == "w1" then (find($group.case; $group.variant; 1) // {contenders: []}
                    | reference("sched.h"; "median"))
               else $group | reference($what.of; $what.key) end) as $other
            | ($ours[$what.key] | over($other)) as $is
            | {goal: "≤ \(.most) ×\($what.show)\($what.of |
                    {w1: "itself with 1 worker", best: "the best peer"}[.] // .)",
                is: $is, limit: .most, got: "\($is | exact) ×"}
         else empty end)
      end
    | . + {met: (if .is == null or .limit == null then null else .is <= .limit end)}
    | if .is == null then .got = "–" else . end];

# Markdown

def cells: "| " + join(" | ") + " |";
def table($head): [$head | cells],
    [$head | to_entries | map(if .key == 0 then "---" else "--:" end) | cells],
    (.[] | [cells]) | .[0];
def shown: if .name == "sched.h" then "**sched.h**" else .name end;
def state:
    if .status == "missing" then "missing"
    elif .status == "later" then "not in the header yet"
    else "failed: \(.status)" end;
def group_table:
    . as $group
    | ($group | reference("best"; "median")) as $best
    | ($group | reference("tokio"; "median")) as $tokio
    | ([$group.contenders[].ops | select(. != null)] | max) as $ops
    | def rows: [
        ["", {wall: "ns", cpu: "CPU ns", p50: "p50 ns", bytes: "bytes"}[$group.unit],
            "lowest–highest", "× best", "× Tokio",
            "CPU ns", "wall ns", "CPUs", "p99 µs", "late µs", "send ns", "wakes", "tables", "RSS MiB",
            "program s", "its CPU s"],
        (.contenders[] | if .median == null then [shown, state] + [range(14) | "–"] else
            (if .ops != null and .ops < $ops then "\\*" else "" end) as $less
            | [shown + (if (.failed | length) > 0 then " (\(.failed | length) failed:"
                    + " \(.failed[0]))" else "" end),
            (.median | figure),
            (if .runs == 1 then "one run" else "\(.low | figure)–\(.high | figure)" end),
            (.median | over($best) | ratio),
            (.median | over($tokio) | ratio),
            (if $group.unit == "wall" then .cpu_ns_per_op else null end | figure),
            (if $group.unit == "cpu" then .ns_per_op else null end | figure),
            (if .cpus then .cpus | fixed(2) else "–" end),
            (.p99 | scaled(0.001) | figure),
            (.late_mean | scaled(0.001) | figure),
            (.send_ns | figure),
            (if $group.case == "idle" then .wakes_per_op else null end | figure),
            (.table_bytes_per_op | figure),
            ((.server_rss_kib // .rss_kib) | scaled(1 / 1024) | figure),
            (.program_s | if . == null then "–" else fixed(2) + $less end),
            (.program_cpu_s | if . == null then "–" else fixed(2) + $less end)] end)];
      rows as $rows
    | [range(16) | . as $i | select($i < 2 or any($rows[1:][]; .[$i] != "–"))] as $used
    | [$rows[] | [.[$used[]]]] | .[0] as $head | .[1:] | table($head);
def workers_text: if . == 1 then "1 worker" else "\(.) workers" end;
def goal_line:
    (if ours.status == "later" then "" else " (nothing to compare)" end) as $none
    | goals_of | if length == 0 then empty else
        "Goal: " + (map(.goal + (if .met == null then $none
            else ": \(.met | verdict), \(.got)" end)) | join("; ")) + "." end;
def newest: max_by(.date);
def same_environment($other): (.environment | tojson) == ($other.environment | tojson);
def case_groups($case; $max): [$groups[] | select(.case == $case and .workers <= $max)];
# How fast the machine was beside these groups, ns for a step of a program that schedules nothing.
def steps: [.[].contenders[].steps[]];
def step_range: steps | if length == 0 then "unknown" else "\(min) to \(max) ns" end;
def uneven: steps | length > 0 and max > 1.15 * min;
# Where a table was measured otherwise than what stands at the top of the report, or not evenly.
def remarks($newest):
    [(if [.] | uneven
      then "a serial step took \([.] | step_range)" else empty end),
     (if .mode == "quick" then "quick run" else empty end),
     (if .pinned then "workers pinned" else empty end),
     (if same_environment($newest) then empty
      else "measured on \(.date[:10]) with sched.h \(.environment["sched.h"])" end)]
    | if length == 0 then "" else " (\(join(", ")))" end;

# Sections

def machine:
    ($groups | newest) as $newest
    | [$newest.missing[] | select(startswith("perf stat") | not)] as $missing
    | ([$groups[] | .load | select(. != null)]) as $loads
    | "| | |", "|---|---|",
      ($newest.environment | to_entries[] | "| \(.key) | \(.value) |"),
      "| Date | \($newest.date) |",
      "| Load when the runs began | \(if ($loads | length) == 0 then "unknown"
            elif ($loads | min) == ($loads | max) then "\($loads | min)"
            else "\($loads | min) to \($loads | max)" end) |",
      "| A serial step meanwhile (case fib) | \($groups | step_range) |",
      (if ($missing | length) > 0 then "", "Missing:", "", ($missing[] | "- \(.)") else empty end),
      (if any($loads[]; . > 0.7) or ($groups | uneven) then "",
          "**The machine was busy when this was measured:** ratios and CPU ns with one worker are"
          + " worth something, the rest little." else empty end),
      (if any($groups[]; .mode == "quick") then "",
          "**Some or all of this is from `make bench-quick`:** fewer operations and rounds."
          else empty end);

def summary:
    [$groups[] | select(ours.median != null) | . as $group | goals_of[]
        | . + {case: $group.case, variant: $group.variant, workers: $group.workers,
            median: ($group | ours.median | figure), unit: $group.unit}] as $all
    | [$groups[] | select(ours.status == "later") | .case] as $later
    | ([$all[] | select(.met != null)]) as $judged
    | "\([$judged[] | select(.met)] | length) of \($judged | length) goals are met"
        + (if ($all | length) > ($judged | length)
           then ", \(($all | length) - ($judged | length)) lack something to compare with" else ""
           end)
        + (if ($later | length) > 0
           then "; not in the header yet: \($later | unique | join(", "))" else "" end) + ".",
      "",
      ([$all[] | ["\(.case) \(.variant)", "\(.workers)", .median, .goal, .got,
            (if .met == null then "–" else .met | verdict end)]]
        | table(["case", "workers", "sched.h", "goal", "reached", ""]));

def case_section($case):
    case_groups($case; 2) as $of_case
    | ($groups | newest) as $newest
    | $of_case[] | . as $group
        | "**\(.variant), \(.workers | workers_text)**\(remarks($newest))", "", group_table, "",
          (goal_line | ., ""), (select(any(.contenders[]; .ops as $ops
              | $ops != null and any($group.contenders[]; .ops != null and .ops > $ops)))
              | "\\* did fewer operations.", "");

def scaling_variant($case):
    first($groups[] | select(.case == $case and .workers > 2) | .variant) // null;
def scaling_groups($case):
    scaling_variant($case) as $variant
    | [$groups[] | select(.case == $case and .variant == $variant)] | sort_by(.workers);
def contender_names:
    [.[].contenders[] | .name | select(is_floor | not)] | unique | sort_by([rank, .]);
def scaling_section($case):
    scaling_groups($case) as $of_case
    | [$of_case[] | .workers] as $workers
        | [$of_case | contender_names[] | . as $name
            | [$of_case[] | first(.contenders[] | select(.name == $name)) // {}] as $is
            | [$is[0] + {name: $name} | shown]
              + [$is[] | if .status == "missing" then "missing" else .median | figure end]
              + [$is[-1].median | over($is[0].median) | ratio]]
        | table(["\(scaling_variant($case)), ns"] + [$workers[] | workers_text]
            + ["\($workers[-1]) / \($workers[0])"]);

def contention:
    case_groups("contention"; 2) as $of_case
    | if ($of_case | length) == 0 then "Not measured in this run."
      else [$of_case[] | . as $group | ours | ["\($group.variant)", "\($group.workers)"]
          + (if .rmw_per_op == null then [state, "", "", "", "", ""]
             else [.rmw_per_op, .failed_per_op, .barriers_per_op, .locks_per_op, .wakes_per_op,
                .steals_per_op] | map(exact) end)]
        | table(["", "workers", "RMW", "CAS failed", "seq_cst stores", "locks", "wakes", "stolen"])
      end;

def hardware:
    .hardware as $all
    | if ($all | length) == 0 then "This machine counts no such events"
        + ([$groups[] | .missing[] | select(startswith("perf stat"))] | unique
            | if length > 0 then " (\(join("; ")))" else "" end) + "."
      else $all | group_by([.case, .variant, .workers, .event, .contender])
        | map([.[0].case + " " + .[0].variant, "\(.[0].workers)", .[0].contender, .[0].event,
            ([.[].per_op] | median | fixed(3)),
            "\([.[].per_op] | min | fixed(3))–\([.[].per_op] | max | fixed(3))"])
        | table(["case", "workers", "", "event", "an operation", "lowest–highest"])
      end;

# Plots: lines of tab-separated words

def kind: if .name == "sched.h" then 0 elif .name | is_ours then 1 elif .name | is_floor then 3
    else 2 end;
def present: [.contenders[] | select(.median != null and .median > 0)];
# Rows from top to bottom: a heading for each group, then who took part.
# number, median, low, high, kind (-1: heading), label, text
def plot_case($case):
    [case_groups($case; 2)[] | select(present | length > 0)
        | ({kind: -1, label: "\(.variant), \(.workers | workers_text)"}),
          (present[] | . + {kind: kind, label: .name})]
    | to_entries[] | [-.key, (.value | .median // 0, .low // 0, .high // 0, .kind, .label,
        (.median | figure))] | @tsv;
# workers, then the median of each contender; the head names them.
def plot_scaling($case):
    scaling_groups($case) as $of_case
    | ($of_case | contender_names) as $names
    | (["workers"] + $names | @tsv),
      ($of_case[] | . as $group | [.workers, ($names[] | . as $name
          | first($group.contenders[] | select(.name == $name) | .median) // "-")] | @tsv);
# For each group: number, label, then the ratios to sched.h of Tokio, Go, the best of the others,
# and what is the floor; "-": not there.
def plot_overview:
    [$groups[] | select(.workers <= 2 and ours.median != null and ours.median > 0)]
    | to_entries[] | .key as $at | .value | ours.median as $ours
    | [-$at, "\(.case) \(.variant), \(.workers)",
        (reference("tokio"; "median") | over($ours) // "-"),
        (reference("go"; "median") | over($ours) // "-"),
        ([.contenders[] | select(.name | is_ours or is_floor or . == "go"
            or startswith("tokio") | not) | .median | select(. != null)] | min
            | over($ours) // "-"),
        ([.contenders[] | select(.name | is_floor) | .median | select(. != null)] | min
            | over($ours) // "-")] | @tsv;

"@@ machine", machine,
"@@ summary", summary,
"@@ contention", contention,
"@@ hardware", hardware,
"@@ plot_overview", plot_overview,
(([$groups[].case] | unique | .[]) as $name
    | "@@ case-\($name)", case_section($name),
      "@@ plot_case-\($name)", plot_case($name),
      if scaling_variant($name) then
          "@@ scaling-\($name)", scaling_section($name),
          "@@ plot_scaling-\($name)", plot_scaling($name)
      else empty end)
