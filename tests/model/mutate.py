#!/usr/bin/env python3
"""Does the explorer find mistakes? Weakens each memory order of sched.h by one step, and puts each
mistake of mutants.txt into a copy of sched.h; some client must fail each time.

A mutant that survives must have a reason in survivors.txt. killers.txt remembers which client found
which mutant, so that it is tried first; --update writes it. A sample takes only mutants that have
been found before: they must be found again.

    tests/model/mutate.py [--sample SECONDS] [--seed N] [--only REGEX] [--orders] [--mistakes]
                          [--new] [--check] [--update] [--jobs N] [--budget SECONDS-PER-CLIENT]

--new takes those that have neither been found nor have a reason. --check only looks whether every entry still fits the header. Exit status 0: nothing survives
without a reason.
"""
import argparse
import concurrent.futures
import os
import random
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.relpath(__file__))
BUILD = os.path.join("build", "mutants")
CC = os.environ.get("CC", "cc").split()
FLAGS = ["-std=c11", "-O1", "-w"]  # building takes longer than most searches


def read_mutants():
    mutants, current = [], None
    with open(os.path.join(HERE, "mutants.txt")) as f:
        for number, line in enumerate(f, 1):
            line = line.strip()
            head = re.fullmatch(r"\[([a-z0-9-]+)\] (\w+)", line)
            if head:
                current = {"name": head[1], "function": head[2], "edits": [([], [])]}
                mutants.append(current)
            elif line == "and" and current:
                current["edits"].append(([], []))
            elif line.startswith("-") and current:
                current["edits"][-1][0].append(line[1:].strip())
            elif line.startswith("+") and current:
                current["edits"][-1][1].append(line[1:].strip())
            elif line and not line.startswith("#"):
                sys.exit(f"mutants.txt:{number}: what is this?")
    names = [m["name"] for m in mutants]
    assert len(set(names)) == len(names), "a name is there twice"
    return mutants


def apply(mutant, lines):
    """The header with the mistake; None: it does not fit any more."""
    define = re.compile(r"[\w *]*\b%s\([^;]*$" % mutant["function"])
    start = next((i for i, l in enumerate(lines)
                  if l[:1].strip() and l[0] not in "#/*" and define.match(l)), None)
    if start is None:
        return None
    for find, put in mutant["edits"]:
        for i in range(start, len(lines)):
            if i > start and lines[i].startswith("}"):
                return None
            if all(lines[i + k].strip().startswith(find[k]) for k in range(len(find))):
                lines = lines[:i] + [p + "\n" for p in put] + lines[i + len(find):]
                break
    return lines


def read_notes(name):
    """name: text, or several lines "name:" and a text for all of them; indented lines go on."""
    notes, keys, path = {}, [], os.path.join(HERE, name)
    if not os.path.exists(path):
        return notes
    with open(path) as f:
        for line in f:
            if line.startswith("#") or not line.strip():
                continue
            if line[0].isspace():
                for key in keys:
                    notes[key] = (notes.get(key, "") + " " + line.strip()).strip()
            elif ": " in line:
                key, _, text = line.partition(": ")
                notes[key], keys = text.strip(), [key]
            else:
                if keys and keys[-1] in notes:
                    keys = []
                keys.append(line.strip()[:-1])
    return {key: text for key, text in notes.items() if text}


def run(command, timeout):
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=timeout, text=True, errors="replace")
        return done.returncode, done.stdout
    except subprocess.TimeoutExpired as stopped:
        out = stopped.stdout or b""
        return None, out.decode(errors="replace") if isinstance(out, bytes) else out


def killer(out):
    found = re.search(r"^FAIL (\w+): (.*)", out, re.M)
    return (found[1], found[2][:70]) if found else None


class Score:
    def __init__(self):
        self.killed, self.justified, self.survived, self.broken = [], [], [], []


def try_mutant(mutant, options, hint):
    """(verdict, client, text)"""
    if "site" in mutant:
        command = [os.path.join(BUILD, "plain"), "--weaken", mutant["name"]]
    else:
        folder = os.path.join(BUILD, mutant["name"])
        os.makedirs(folder, exist_ok=True)
        with open("sched.h") as f:
            lines = apply(mutant, f.readlines())
        if lines is None:
            return "broken", "", "it does not fit the header any more"
        with open(os.path.join(folder, "sched.h"), "w") as f:
            f.writelines(lines)
        binary = os.path.join(folder, "model")
        code, out = run(CC + FLAGS + ["-iquote", folder, "-iquote", HERE, "-o",
                              binary, os.path.join(HERE, "all.c")], 300)
        if code != 0:
            return "broken", "", "it does not compile: " + out[-300:]
        command = [binary]
    command += ["--first", "--short", "--mutant"]
    try:
        if hint:
            code, out = run(command + ["--client", "=" + hint, "--budget", "20"], 120)
            if code == 1 and killer(out):
                return ("killed",) + killer(out)
        code, out = run(command + ["--budget", str(options.budget)], 3600)
        if code == 1 and killer(out):
            return ("killed",) + killer(out)
        if code == 0:
            return "survived", "", ""
        return "broken", "", f"exit status {code}: {out[-200:]}"
    finally:
        if "site" not in mutant:
            os.remove(command[0])


def order_mutants():
    code, out = run([os.path.join(BUILD, "plain"), "--list-sites", "--client", "=litmus_sb"], 60)
    mutants = []
    for line in out.splitlines():
        found = re.match(r"site \d+ (\w+) (\w+) (\S+) hits \d+ (\S+)$", line)
        if not found or found[2] == "rlx":
            continue
        for half in ([":a", ":r"] if found[2] == "acqrel" else [""]):
            mutants.append({"name": found[4] + half, "site": True, "where": found[3]})
    return mutants


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sample", type=float, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--orders", action="store_true")
    parser.add_argument("--mistakes", action="store_true")
    parser.add_argument("--new", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--budget", type=float, default=2)
    options = parser.parse_args()
    os.makedirs(BUILD, exist_ok=True)
    mutants = []
    if not options.orders:
        mutants += read_mutants()
    if options.check:
        with open("sched.h") as f:
            lines = f.readlines()
        def code(text):
            return [re.sub(r"/\*.*", "", line).strip() for line in text]
        bad = [m["name"] for m in mutants if code(apply(m, lines) or lines) == code(lines)]
        for name in bad:
            print(f"FAIL {name}: does not fit the header any more, or changes nothing")
        print(f"{len(mutants) - len(bad)} passed, {len(bad)} failed, 0 skipped")
        return len(bad) > 0
    code, out = run(CC + FLAGS + ["-iquote", ".", "-iquote", HERE, "-o",
                          os.path.join(BUILD, "plain"), os.path.join(HERE, "all.c")], 300)
    if code != 0:
        sys.exit(out)
    code, out = run([os.path.join(BUILD, "plain"), "--mutant", "--short", "--budget",
                     "0.05" if options.sample else "0.3"], 3600)
    if code != 0:
        print("FAIL: a client fails without any mistake")
        print(out)
        return 1
    if not options.mistakes:
        mutants += order_mutants()
    mutants = [m for m in mutants if re.search(options.only, m["name"])]
    known = read_notes("killers.txt")
    reasons = read_notes("survivors.txt")
    if options.new:
        mutants = [m for m in mutants if m["name"] not in known and m["name"] not in reasons]
    started = time.time()
    if options.sample:
        random.Random(options.seed).shuffle(mutants)
        mutants = [m for m in mutants if m["name"] in known]
    score = Score()

    def one(mutant):
        if options.sample and time.time() - started > options.sample:
            return mutant, ("left", "", "")
        return mutant, try_mutant(mutant, options, known.get(mutant["name"]))

    tried = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for mutant, (verdict, client, text) in pool.map(one, mutants):
            name = mutant["name"]
            if verdict == "left":
                continue
            tried += 1
            if verdict == "killed":
                score.killed.append(name)
                if known.get(name) != client:
                    known[name] = client
                print(f"ok {name}: {client}: {text}", flush=True)
                if name in reasons:
                    print(f"note {name}: is in survivors.txt, but it is found", flush=True)
            elif verdict == "survived" and name in reasons:
                score.justified.append(name)
                print(f"ok {name}: survives, with a reason", flush=True)
            else:
                (score.survived if verdict == "survived" else score.broken).append(name)
                print(f"FAIL {name}: {verdict} {mutant.get('where', '')} {text}", flush=True)
            if options.update:
                with open(os.path.join(HERE, "killers.txt"), "w") as f:
                    f.write("# Which client found which mutant; written by mutate.py --update.\n")
                    f.writelines(f"{k}: {known[k]}\n" for k in sorted(known))
    if options.sample:
        print(f"a sample of {tried} of {len(mutants)}, seed {options.seed}")
    print(f"mutants: {len(score.killed)} killed, {len(score.justified)} justified, "
          f"{len(score.survived)} survived")
    bad = len(score.survived) + len(score.broken)
    print(f"{len(score.killed) + len(score.justified)} passed, {bad} failed, 0 skipped")
    return bad > 0


sys.exit(main())
