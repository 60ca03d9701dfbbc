#!/usr/bin/env python3
"""check.py text DIR SCHED_H | scrape PROMETHEUS DIR COMMAND...

text    The metrics that observe.c wrote to DIR, in both formats, by the parsers of the Prometheus
        project: every number of the snapshots as sched.h declares them is there with its name,
        type, help and value, and nothing else; histograms are cumulative and whole.
scrape  Starts COMMAND (observe serve) and a Prometheus that scrapes it in both formats, and asks
        that for the values; with HTTPD=http://... also that server's /metrics.

Prints one line for each check, as tests/<kind>/run.sh does.
"""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

# A number of a snapshot -> its metric, without prefix; "gauge" after a colon if it is no counter.
WORKER = {
    "thread": None,
    "poll_count": "polls",
    "lifo_poll_count": "lifo_polls",
    "child_poll_count": "child_polls",
    "lifo_schedule_count": "lifo_schedules",
    "lifo_capped_count": "lifo_capped",
    "local_schedule_count": "local_schedules",
    "overflow_count": "overflows",
    "steal_operations": "steal_operations",
    "steal_count": "steals",
    "lifo_steal_count": "lifo_steals",
    "injector_count": "injector_tasks",
    "injector_batch_count": "injector_batches",
    "injector_turn_count": "injector_turns",
    "no_local_work_count": "no_local_work",
    "search_count": "searches",
    "search_spin_count": "search_spins",
    "relay_count": "relays",
    "park_count": "parks",
    "park_unpark_count": "park_unparks",
    "noop_count": "noops",
    "lend_count": "lends",
    "lend_taken_count": "lends_taken",
    "handoff_count": "handoffs",
    "notify_count": "notifies",
    "wake_count": "wakes",
    "forced_yield_count": "forced_yields",
    "maintenance_count": "maintenances",
    "spawned_count": "spawned_tasks",
    "ended_count": "ended_tasks",
    "cancelled_count": "cancelled_tasks",
    "timer_armed_count": "timers_armed",
    "timer_fired_count": "timers_fired",
    "timer_cancelled_count": "timers_cancelled",
    "queue_revoke_count": "queue_revokes",
    "wheel_revoke_count": "wheel_revokes",
    "busy_ns": "busy_seconds",
    "mean_poll_ns": "mean_poll_seconds:gauge",
    "local_queue_depth": "queue_depth:gauge",
    "wait_count": "waits",  # an array, with the label for
}
RUNTIME = {
    "num_workers": "workers:gauge",
    "num_alive_tasks": "alive_tasks:gauge",
    "num_running_tasks": "running_tasks:gauge",
    "num_queued_tasks": "queued_tasks:gauge",
    "num_waiting_tasks": "waiting_tasks:gauge",
    "injection_queue_depth": "injector_depth:gauge",
    "num_worker_threads": "worker_threads:gauge",
    "num_idle_workers": "idle_workers:gauge",
    "num_searching": "searching_workers:gauge",
    "num_blocking_threads": "blocking_threads:gauge",
    "num_idle_blocking_threads": "idle_blocking_threads:gauge",
    "blocking_queue_depth": "blocking_queue_depth:gauge",
    "blocking_spin_count": "blocking_spins",
    "blocking_spin_hit_count": "blocking_spin_hits",
    "spawned_tasks_count": "tasks_spawned",
    "cancelled_tasks_count": "tasks_cancelled",
    "remote_schedule_count": "remote_schedules",
    "remote_wake_count": "remote_wakes",
    "notify_no_core_count": "notifies_without_core",
    "standby_alarm_count": "standby_alarms",
    "standby_look_count": "standby_looks",
    "standby_rescue_count": "standby_rescues",
    "stack_count": "stacks:gauge",
    "stack_free_count": "free_stacks:gauge",
    "timer_count": "armed_timers:gauge",
    "io_opened_count": "descriptors_opened",
    "io_closed_count": "descriptors_closed",
    "io_event_count": "descriptor_events",
    "stall_count": "stalls",
    "stall_ns": "stall_seconds",
}
HISTOGRAMS = {"poll_time": "sch_poll_time_seconds",
              "schedule_latency": "sch_schedule_latency_seconds"}
# What observe.c did must show.
BUSY = ("polls", "local_schedules", "injector_tasks", "parks", "lends", "maintenances",
        "spawned_tasks", "ended_tasks", "timers_armed", "timers_fired", "busy_seconds")

failed = 0


def check(name, problems):
    global failed
    failed += bool(problems)
    print("FAIL %s: %s" % (name, "; ".join(problems[:4])) if problems else "ok %s" % name)


def fields(header, struct):
    """The numbers that a snapshot has, in their order, as the header declares them."""
    body = re.search(r"typedef struct %s \{(.*?)\n\} %s;" % (struct, struct), header, re.S).group(1)
    body = re.sub(r"/\*.*?\*/", "", body, flags=re.S)
    return re.findall(r"uint64_t (\w+)(?:\[\w+\])?;", body)


def seconds(name, value):
    return value / 1e9 if name.endswith("_ns") else float(value)


def expected(header, raw):
    """family -> (type, {labels: value}), and what the tables above lack."""
    families, problems = {}, []
    runtime = fields(header, "sch_metrics_snapshot")
    worker = fields(header, "sch_worker_metrics_snapshot")
    for table, names, prefix in ((RUNTIME, runtime, "sch_"), (WORKER, worker, "sch_worker_")):
        if list(table) != names:
            odd = sorted(set(table) ^ set(names)) or ["their order"]
            problems.append("sched.h and check.py differ in " + ", ".join(odd))
        for i, name in enumerate(names):
            if not table.get(name):
                continue
            family, _, kind = table[name].partition(":")
            samples = {}
            if table is RUNTIME:
                samples[()] = seconds(name, raw["runtime"][i])
            else:
                for w in ("0", "1"):
                    if name == "wait_count":
                        for k, what in enumerate(raw["waits"]):
                            key = (("for", what), ("worker", w))
                            samples[key] = float(raw["worker" + w][i + k])
                    else:
                        samples[(("worker", w),)] = seconds(name, raw["worker" + w][i])
            families[prefix + family] = (kind or "counter", samples)
    return families, problems


def check_family(family, kind, samples, units):
    problems = []
    if family.type != kind:
        problems.append("%s is a %s" % (family.name, family.type))
    if not family.documentation.endswith("."):
        problems.append(family.name + " has no help")
    if units and family.name.endswith("_seconds") != (family.unit == "seconds"):
        problems.append("%s has the unit '%s'" % (family.name, family.unit))
    got = {}
    for s in family.samples:
        key = tuple(sorted(s.labels.items()))
        if s.name != family.name + ("_total" if kind == "counter" else "") or key in got:
            problems.append("odd sample %s%s" % (s.name, key))
        got[key] = s.value
    for key in sorted(set(got) | set(samples)):
        if key not in got or key not in samples:
            problems.append("%s%s is %s" % (family.name, key,
                                            "missing" if key in samples else "unknown"))
        elif abs(got[key] - samples[key]) > 1e-9 * max(1.0, samples[key]):
            problems.append("%s%s is %r, not %r" % (family.name, key, got[key], samples[key]))
    return problems


def check_histogram(family, buckets):
    """Cumulative, whole, and each bound is one of the finer buckets that are in memory."""
    problems, last, count, total, bounds = [], 0.0, None, None, []
    for s in family.samples:
        if s.name.endswith("_count"):
            count = s.value
        elif s.name.endswith("_sum"):
            total = s.value
        elif s.name.endswith("_bucket"):
            bound = float(s.labels["le"])
            below = sum(n for limit, n in buckets if limit <= bound * 1e9 + 0.5)
            if s.value < last or (bounds and bound <= bounds[-1]):
                problems.append("%s is not cumulative at %s" % (family.name, s.labels["le"]))
            if bound != float("inf") and s.value != below:
                problems.append("%s at %s: %r, not %r" % (family.name, s.labels["le"], s.value,
                                                          below))
            last = s.value
            bounds.append(bound)
    everything = sum(n for _, n in buckets)
    if not bounds or bounds[-1] != float("inf") or last != count or count != everything:
        problems.append("%s: +Inf %r, count %r, in memory %r" % (family.name, last, count,
                                                                 everything))
    if family.type != "histogram" or not family.documentation:
        problems.append("%s is a %s" % (family.name, family.type))
    low = sum(n * (0 if i == 0 else buckets[i - 1][0] + 1) for i, (_, n) in enumerate(buckets))
    high = sum(n * limit for limit, n in buckets)
    if total is None or not low <= total * 1e9 + 1 or not total * 1e9 - 1 <= high or count < 100:
        problems.append("%s: sum %r, between %r and %r" % (family.name, total, low / 1e9,
                                                           high / 1e9))
    return problems


def text(directory, header_path):
    try:
        from prometheus_client import parser
        from prometheus_client.openmetrics import parser as openmetrics
    except ImportError:
        print("skip observe text: no prometheus_client (Debian: python3-prometheus-client)")
        return 1
    with open(header_path) as f:
        header = f.read()
    with open(os.path.join(directory, "raw.json")) as f:
        raw = json.load(f)
    families, problems = expected(header, raw)
    check("observe every number has a metric", problems)
    idle = [n for n in BUSY if not any(families["sch_worker_" + n][1].values())]
    check("observe the program was busy", ["nothing in " + n for n in idle])
    for name, parse in (("metrics.prom", parser.text_string_to_metric_families),
                        ("metrics.om", openmetrics.text_string_to_metric_families)):
        with open(os.path.join(directory, name), newline="") as f:
            content = f.read()
        problems, seen = [], set()
        try:
            for family in parse(content):
                if family.name in seen:
                    problems.append(family.name + " twice")
                seen.add(family.name)
                if family.name in families:
                    problems += check_family(family, *families[family.name], name == "metrics.om")
                elif family.name in HISTOGRAMS.values():
                    which = [k for k, v in HISTOGRAMS.items() if v == family.name][0]
                    problems += check_histogram(family, raw[which])
                else:
                    problems.append("unknown: " + family.name)
        except Exception as error:  # what a parser finds wrong
            problems.append("not valid: %s" % error)
        missing = sorted((set(families) | set(HISTOGRAMS.values())) - seen)
        problems += ["missing: " + m for m in missing]
        if content.endswith("# EOF\n") != (name == "metrics.om"):
            problems.append("wrong end")
        check("observe " + name, problems)
    return 0


# Scraping ---------------------------------------------------------------------------------------

def fetch(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def wait_for(what, seconds_left=25.0):
    end = time.monotonic() + seconds_left
    while time.monotonic() < end:
        try:
            result = what()
            if result:
                return result
        except OSError:
            pass
        time.sleep(0.1)
    return None


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def query(port, expression):
    """[(labels, value)] of an instant query."""
    url = "http://127.0.0.1:%d/api/v1/query?%s" % (port, urllib.parse.urlencode(
        {"query": expression}))
    result = json.loads(fetch(url))["data"]["result"]
    return [(r["metric"], float(r["value"][1])) for r in result]


def value(port, expression):
    got = query(port, expression)
    return got[0][1] if len(got) == 1 else None


CONFIG = """global: {scrape_interval: 200ms, scrape_timeout: 200ms}
scrape_configs:
"""
JOB = """- job_name: %s
  metrics_path: %s
  static_configs: [{targets: ['127.0.0.1:%d']}]
"""


def check_job(port, job, path, target):
    if not wait_for(lambda: (value(port, 'count_over_time(sch_workers{job="%s"}[1m])' % job) or 0)
                    >= 3):
        reasons = json.loads(fetch("http://127.0.0.1:%d/api/v1/targets" % port))
        return [t["lastError"] or "no samples" for t in reasons["data"]["activeTargets"]
                if t["labels"]["job"] == job]
    problems = []

    def settled():  # a scrape may time out, and then nothing is there until the next
        problems[:] = problems_of_job(port, job, path, target)
        return not problems

    wait_for(settled)
    return problems


def problems_of_job(port, job, path, target):
    problems = []
    if value(port, 'up{job="%s"}' % job) != 1:
        problems.append("up is not 1")
    # Every sample that the server shows is stored under its name and labels.
    shown = {line.rsplit(" ", 1)[0].split("{")[0]
             for line in fetch("http://127.0.0.1:%d%s" % (target, path)).splitlines()
             if line and line[0] != "#"}
    stored = {m["__name__"] for m, _ in query(port, '{job="%s",__name__=~"sch_.*"}' % job)}
    problems += ["not stored: " + n for n in sorted(shown - stored)]
    workers = value(port, 'sch_workers{job="%s"}' % job)
    for name in ("polls_total", "queue_depth"):
        if value(port, 'count(sch_worker_%s{job="%s"})' % (name, job)) != workers:
            problems.append("not as many of sch_worker_%s as of sch_workers" % name)
    before = value(port, 'sch_tasks_spawned_total{job="%s"}' % job)
    if before is None or before <= 0:
        problems.append("no task was spawned")
    return problems


def scrape(prometheus, directory, command):
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    jobs = []
    scraper = None
    try:
        target = int(server.stdout.readline())
        jobs = [("prometheus", "/prometheus", target), ("openmetrics", "/openmetrics", target)]
        httpd = os.environ.get("HTTPD")
        if httpd:
            jobs.append(("httpd", "/metrics", urllib.parse.urlparse(httpd).port))
        port = free_port()
        config = os.path.join(directory, "prometheus.yml")
        with open(config, "w") as f:
            f.write(CONFIG + "".join(JOB % job for job in jobs))
        with open(os.path.join(directory, "prometheus.log"), "w") as log:
            scraper = subprocess.Popen(
                [prometheus, "--config.file=" + config, "--log.level=warn",
                 "--storage.tsdb.path=" + os.path.join(directory, "tsdb"),
                 "--web.listen-address=127.0.0.1:%d" % port], stdout=log, stderr=log)
        if not wait_for(lambda: "OK" in fetch("http://127.0.0.1:%d/-/ready" % port) or True):
            check("observe scrape", ["Prometheus does not come up"])
            return
        for job, path, at in jobs:
            check("observe scrape " + job, check_job(port, job, path, at))
        problems = []
        for which in HISTOGRAMS.values():
            for job in ("prometheus", "openmetrics"):
                half = value(port, 'histogram_quantile(0.5, sum by (le) (%s_bucket{job="%s"}))'
                             % (which, job))
                if half is None or not 0 < half < 1:
                    problems.append("%s: the median of %s is %r" % (job, which, half))
        if not wait_for(lambda: (value(
                port, 'sum(rate(sch_worker_polls_total{job="prometheus"}[5s]))') or 0) > 0):
            problems.append("no rate of polls")
        check("observe scrape quantiles and rates", problems)
    finally:
        if scraper:
            scraper.send_signal(signal.SIGTERM)
            scraper.wait(20)
        server.stdin.close()
        status = server.wait(20)
    check("observe scrape server ends", ["status %d" % status] if status else [])


def main():
    if sys.argv[1] == "text":
        skipped = text(sys.argv[2], sys.argv[3])
    else:
        skipped = 0
        scrape(sys.argv[2], sys.argv[3], sys.argv[4:])
    return 77 if skipped else bool(failed)


if __name__ == "__main__":
    sys.exit(main())
