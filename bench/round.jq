# One round: hyperfine's export and the programs' own lines ($lines, key=value) become one object a
# contender. Called by run.sh.
def number: if test("^-?[0-9]+([.][0-9]*)?([eE][-+]?[0-9]+)?$") then tonumber else . end;
($lines | split("\n") | map(select(. != "") | [splits(" +") | select(. != "")
    | index("=") as $at | {key: .[:$at], value: (.[$at + 1:] | number)}] | from_entries)) as $own
| .results[]
| . as $whole
| (first($own[] | select(.contender == $whole.command)) // {}) as $line
| $line + {
    case: $case, variant: $variant, workers: $workers, contender: .command,
    exit_code: .exit_codes[0], program_s: .times[0], program_cpu_s: (.user + .system),
    status: (if .exit_codes[0] == 0 and $line.check == "ok" then "ok"
        elif $line.check == "BAD" then "wrong count"
        elif .exit_codes[0] == 124 then "hung"
        elif .exit_codes[0] == 0 then "no result"
        else "exit \(.exit_codes[0])" end)}
