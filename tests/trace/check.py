"""check.py EXPECTED [SEEN] - is a trace what it should be?

EXPECTED is a file of lines of JSON from work.c, each names a trace. SEEN, if given, is what view.js
printed about some of them: then only Perfetto's understanding of these is compared. Prints a line for
each trace, "ok NAME" or "FAIL NAME: why", and what is wrong; exit status 1 if anything is.
"""
import collections
import json
import os
import sys


class Trace:
    """The events of a file; times in integer nanoseconds."""

    def __init__(self, path):
        self.problems = []
        with open(path, encoding="utf-8") as file:
            self.events = json.load(file)["traceEvents"]
        self.slices = collections.defaultdict(list)  # by track, in file order
        self.arrows = collections.defaultdict(dict)  # by id: its ends
        self.instants = []
        self.names = {}  # of tracks
        self.begun = {}  # by track: the slice or instant that began last
        self.process = None
        self.last = 0
        for event in self.events:
            self.read(event)

    def wrong(self, text):
        self.problems.append(text)

    def want(self, good, text):
        if not good:
            self.wrong(text)

    def equal(self, what, got, expected):
        self.want(got == expected, f"{what}: {got}, should be {expected}")

    def read(self, e):
        for key, kind in (("ph", str), ("ts", (int, float)), ("pid", int), ("tid", int), ("name", str)):
            self.want(isinstance(e.get(key), kind), f"no {key} in {e}")
        e["ns"] = round(e["ts"] * 1000)
        self.want(e["ns"] >= 0, f"before the start: {e}")
        if e["ph"] == "M":
            if e["name"] == "thread_name":
                self.want(e["tid"] not in self.names, f"named twice: {e}")
                self.names[e["tid"]] = e["args"]["name"]
            elif e["name"] == "process_name":
                self.process = e["args"]["name"]
            return
        self.want(e["ns"] >= self.last, f"not in the order of time: {e}")
        self.last = max(self.last, e["ns"])
        if e["ph"] == "X":
            e["end_ns"] = e["ns"] + round(e["dur"] * 1000)
            self.want(e["dur"] >= 0, f"negative length: {e}")
            e["arrows"] = []
            self.slices[e["tid"]].append(e)
            self.begun[e["tid"]] = e["name"]
        elif e["ph"] in "sf":
            self.read_arrow(e)
        elif e["ph"] == "i":
            self.want(e.get("s") == "t", f"not an instant of a track: {e}")
            self.instants.append(e)
            self.begun[e["tid"]] = e["name"]
        else:
            self.wrong(f"unknown phase: {e}")

    def read_arrow(self, e):
        ends = self.arrows[e["id"]]
        self.want(e["ph"] not in ends, f"two ends of one kind: {e}")
        ends[e["ph"]] = e
        self.want(e["cat"] == e["name"] and e["cat"] in ("spawn", "wake"), f"what is {e}")
        # The slice that a viewer binds it to: of those before it in the file that enclose it, the
        # one that began last.
        inside = [x for x in self.slices[e["tid"]][-3:] if x["ns"] <= e["ns"] <= x["end_ns"]]
        e["slice"] = inside[-1] if inside else None
        e["bound"] = self.begun.get(e["tid"])
        if not inside:
            self.wrong(f"an arrow's end outside of any slice: {e}")
        elif e["ph"] == "f":
            target = e["slice"]
            self.want(e.get("bp") == "e", f"binds to the next slice: {e}")
            self.want("s" in ends, f"an end without a start before it: {e}")
            if "s" in ends:
                self.want(ends["s"]["ns"] <= e["ns"], f"backwards: {ends}")
                self.want((ends["s"]["cat"], ends["s"]["args"]["task"]) ==
                          (e["cat"], e["args"]["task"]), f"two different ends: {ends}")
            self.want(target["cat"] == "poll" and target["ns"] == e["ns"] and
                      target["args"]["task"] == e["args"]["task"],
                      f"not the poll of the task that was made ready: {e}")
            target["arrows"].append(e)

    def check_tracks(self):
        """Each has a name, and one slice at a time."""
        used = {e["tid"] for e in self.events if e["ph"] != "M"}
        self.want(used <= set(self.names), f"tracks without a name: {used - set(self.names)}")
        self.want(bool(self.process), "the process has no name")
        for track in self.slices.values():
            for a, b in zip(track, track[1:]):
                self.want(a["end_ns"] <= b["ns"], f"at the same time on a track: {a} {b}")

    def find_cut(self, e):
        """From when to when what happened is known of every core: each ring forgets at its own time,
        and those of a trace that goes on are copied one after the other. Outside of that a poll
        may be there whose cause is not."""
        first, last = {}, {}
        count = collections.Counter()
        for event in self.events:
            ring = min(event["tid"], e["workers"] + 1)  # threads without a core share one
            if event["ph"] != "M":
                first.setdefault(ring, event["ns"])
                last[ring] = event["ns"]
                count[ring] += 1
        full = [ring for ring in first if ring <= e["workers"] or count[ring] >= e["events"] / 2]
        self.cut = 0 if e["whole"] else max((first[ring] for ring in full), default=0)
        self.until = self.last if e["whole"] else min(
            (last[ring] for ring in last if ring <= e["workers"]), default=0)

    def check_tasks(self, whole):
        """A task is in one place at a time. It is polled when it was made ready, once each time."""
        self.tasks = collections.defaultdict(list)
        for track in self.slices.values():
            for e in track:
                if e["cat"] in ("poll", "blocking"):
                    self.tasks[e["args"]["task"]].append(e)
                else:
                    self.want(e["cat"] == "sched", f"unknown category: {e}")
        self.resumed = 0
        for slices in self.tasks.values():
            slices.sort(key=lambda e: (e["ns"], e["end_ns"]))
            before = None
            for e in slices:
                self.check_slice(before, e, whole)
                before = e

    def check_slice(self, before, e, whole):
        if before:
            self.want(before["end_ns"] <= e["ns"], f"a task twice at the same time: {before} {e}")
            self.want(before["args"].get("end") != "over", f"after its end: {before} {e}")
            self.want(before["name"] == e["name"] and
                      before["args"].get("at") == e["args"].get("at"), f"two names: {before} {e}")
        self.want(len(e["arrows"]) <= 1, f"made ready twice for one poll: {e}")
        if e["arrows"]:
            kind = e["arrows"][0]["cat"]
            self.want(not before or kind == "wake", f"spawned twice: {e}")
            self.want(before or kind == "spawn" or not whole, f"woken before it was spawned: {e}")
            if before:
                self.want(before["args"].get("end") == "waits", f"woken, but did not wait: {before}")
        elif e["cat"] == "blocking":
            self.want(not whole or (before and before["end_ns"] == e["ns"]),
                      f"blocking code from nowhere: {e}")
        elif before and before["cat"] == "blocking":
            # The same poll goes on; if its core was lost, the task was queued and is polled anew.
            self.resumed += before["end_ns"] == e["ns"]
        elif before:
            self.want(before["args"].get("end") == "yields" or before["ns"] < self.cut or
                      e["ns"] > self.until,
                      f"polled for no reason: {before} {e}")
        else:
            self.want(not whole, f"polled for no reason: {e}")

    def check_counts(self, e):
        """The metrics counted the same."""
        cores = range(1, e["workers"] + 1)
        polls = sum(1 for t in cores for x in self.slices[t] if x["cat"] == "poll")
        named = [x for track in self.slices.values() for x in track if x["cat"] == "sched"]
        instants = collections.Counter()
        for i in self.instants:
            for value in i["args"].values():
                instants[i["name"]] += value
                instants[i["name"], "n"] += 1
        blocking = sum(1 for track in self.slices.values() for x in track if x["cat"] == "blocking")
        self.equal("polls", polls - self.resumed, e["polls"])
        self.equal("steals", instants["steal", "n"], e["steal_operations"])
        self.equal("stolen tasks", instants["steal"], e["steals"])
        self.equal("parked", sum(x["name"] == "parked" for x in named), e["parks"])
        if not e.get("current"):
            # For something that came in that moment a lent core is handed over at once: counted twice.
            self.want(0 <= e["lends"] + e["handoffs"] - blocking <= 1,
                      f"blocking code: {blocking}, {e['lends']} lends, {e['handoffs']} handoffs")
        self.equal("timers", instants["timers"], e["timers"])
        self.equal("descriptors", instants["driver"], e["io_events"])
        spawns = [a for a in self.arrows.values() if a["s"]["cat"] == "spawn"]
        self.equal("spawns", len(spawns), e["spawned"])
        lone = [a["s"] for a in self.arrows.values() if "f" not in a]
        self.want(not lone, f"{len(lone)} arrows lead nowhere: {lone[:3]}")
        yields = sum(x["args"].get("end") == "yields" for t in cores for x in self.slices[t]
                     if x["cat"] == "poll")
        self.equal("yields", yields, e["yields"])

    def check_names(self, e):
        """Names and places: of all tasks if the trace is whole."""
        seen = collections.defaultdict(set)
        for task, slices in self.tasks.items():
            seen[slices[0]["name"]].add(task)
            want = e["tasks"].get(slices[0]["name"])
            if e["tasks"] and self.want_name(slices[0], want):
                self.equal("spawned at", slices[0]["args"]["at"], f"{want['file']}:{want['line']}")
        if e["whole"]:
            for name, want in e["tasks"].items():
                self.equal(f"tasks named {name!r}", len(seen[name]), want["count"])

    def want_name(self, e, want):
        self.want(want is not None, f"a task that was not spawned: {e}")
        return want is not None

    def check(self, e):
        self.check_tracks()
        self.find_cut(e)
        self.check_tasks(e["whole"])
        self.check_names(e)
        self.want(len(self.tasks) > 0 or e["events"] == 2, "no task at all")
        running = [x["end_ns"] - x["ns"] for track in self.slices.values() for x in track
                   if x["cat"] == "poll" and "end" not in x["args"]]
        if e["whole"]:
            self.want(min(running, default=0) >= e["running_ns"] and
                      len(running) == (e["running_ns"] > 0),
                      f"polls that go on: {running} ns, should be one of {e['running_ns']}")
        if e["whole"]:
            self.check_counts(e)
        if e["events"]:
            room = 1
            while room < max(e["events"], 2):
                room *= 2
            for track in range(1, e["workers"] + 1):
                begun = sum(1 for x in self.slices[track]) # at most one slice an event
                self.want(begun <= room, f"{begun} slices from a ring of {room} events")

    def check_seen(self, seen):
        """What Perfetto made of it."""
        self.equal("Perfetto's complaints", seen["complaints"], [])
        self.equal("Perfetto's slices without an end", seen["unfinished"], [])
        mine = collections.Counter()
        for tid, track in self.slices.items():
            for x in track:
                mine[tid, x["name"], "n"] += 1
                mine[tid, x["name"], "ns"] += x["end_ns"] - x["ns"]
        for i in self.instants:
            mine[i["tid"], i["name"], "n"] += 1
        theirs = collections.Counter()
        for row in seen["slices"]:
            theirs[row["tid"], row["name"], "n"] += int(row["n"])
            theirs[row["tid"], row["name"], "ns"] += int(row["ns"])
        for key in mine.keys() | theirs.keys():
            # It reads decimals as floating point: a nanosecond for each may be lost.
            slack = mine[key[0], key[1], "n"] if key[2] == "ns" else 0
            self.want(abs(mine[key] - theirs[key]) <= slack,
                      f"Perfetto has {theirs[key]} {key}, not {mine[key]}")
        # It binds an arrow to what began last on the track, be it an instant.
        flows = collections.Counter((a["s"]["bound"], a["f"]["bound"])
                                    for a in self.arrows.values() if "f" in a)
        self.equal("Perfetto's arrows", {(r["from"], r["to"]): int(r["n"]) for r in seen["flows"]},
                   dict(flows))
        names = {r["tid"]: r["name"] for r in seen["threads"] if r["tid"] in self.names}
        self.equal("Perfetto's names of tracks", names, self.names)


def main():
    failed = False
    with open(sys.argv[1], encoding="utf-8") as file:
        expected = [json.loads(line) for line in file]
    if len(sys.argv) > 2:
        with open(sys.argv[2], encoding="utf-8") as file:
            seen = {s["file"]: s for s in map(json.loads, file)}
        expected = [e for e in expected if e["file"] in seen]
    for e in expected:
        name = os.path.basename(e["file"])[:-len(".json")]
        trace = Trace(e["file"])
        if len(sys.argv) > 2:
            name += " in Perfetto"
            trace.check_seen(seen[e["file"]])
        else:
            trace.check(e)
        if trace.problems:
            failed = True
            print(f"FAIL {name}: {len(trace.problems)} problems, the first are")
            for problem in trace.problems[:6]:
                print(f"     {problem[:600]}")
        else:
            print(f"ok {name}: {len(trace.events)} events")
    sys.exit(1 if failed else 0)


main()
