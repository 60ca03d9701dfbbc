"use strict";
// page.js HTTPD CHROMIUM OUT LEVEL - the live page in a browser; called by run.sh. Each test prints
// a line; screenshots go to OUT. No time is asserted: eventually() waits for what must come.
const { chromium } = require("playwright-core");
const { spawn, spawnSync } = require("child_process");
const assert = require("assert");
const fs = require("fs");
const http = require("http");
const net = require("net");
const path = require("path");

const [program, browserPath, out, level] = process.argv.slice(2);
const LONGER = ["ci", "all", "screenshots"]; // levels of what takes seconds
const LATE = 30000; // ms that anything may take on a machine that is busy
const pause = ms => new Promise(done => setTimeout(done, ms));
let passed = 0, failed = 0;

async function test(name, body, levels = ["smoke", "ci", "all", "screenshots"]) {
  if (!levels.includes(level)) return;
  try {
    await body();
    passed++;
    console.log("ok " + name);
  } catch (error) {
    failed++;
    console.log("FAIL " + name + ": " + String(error.stack).replace(/\n/g, "\n     "));
  }
}

async function eventually(what, body) {
  const end = Date.now() + LATE;
  for (;;) {
    try {
      return await body();
    } catch (error) {
      if (Date.now() > end) throw new Error(what + ": " + error.message);
    }
    await pause(50);
  }
}

//--- The server and its load -----------------------------------------------------------------
const site = fs.mkdtempSync(path.join(out, "site-"));
fs.writeFileSync(path.join(site, "small.txt"), "hello\n");
fs.writeFileSync(path.join(site, "large.bin"), Buffer.alloc(200000, "x"));

class Server {
  static async start(port = 0, workers = 4) {
    const server = new Server();
    server.port = port;
    server.errors = "";
    server.child = spawn(program, ["-q", "-m", "-t", "90", "-w", workers, "-p", port, site]);
    server.child.stderr.on("data", data => (server.errors += data));
    server.ended = new Promise(done => server.child.on("exit", code => done(code)));
    await new Promise((done, fail) => {
      let text = "";
      server.child.stdout.on("data", data => {
        text += data;
        const match = /listening on http:\/\/.*:(\d+)\n/.exec(text);
        if (match) done(server.port = Number(match[1]));
      });
      server.ended.then(code => fail(new Error("httpd: status " + code + " " + server.errors)));
    });
    server.url = "http://127.0.0.1:" + server.port;
    return server;
  }
  async stop() {
    this.child.kill("SIGTERM");
    assert.strictEqual(await this.ended, 0, "exit status, " + this.errors);
    assert.doesNotMatch(this.errors, /Sanitizer|runtime error/);
  }
}

function get(port, name, agent) {
  return new Promise((done, fail) => {
    http.get({ host: "127.0.0.1", port, path: name, agent }, response => {
      let text = "";
      response.on("data", data => (text += data)).on("end", () => done(text)).on("error", fail);
    }).on("error", fail);
  });
}

// So many requests, each on a connection of its own: each is a task.
async function knownLoad(port, n) {
  let left = n;
  await Promise.all(Array.from({ length: 20 }, async () => {
    while (left-- > 0) await get(port, "/small.txt", false);
  }));
}

// Load that comes and goes, by wrk or by ourselves. Returns a function that stops it.
function load(port) {
  let on = true, child = null;
  const wrk = spawnSync("wrk", ["-v"]).error === undefined;
  const agent = new http.Agent({ keepAlive: true });
  const loops = (async () => {
    for (let round = 0; on; round++) {
      const connections = [48, 8, 24, 4][round % 4], time = 1500 + 700 * (round % 3);
      if (wrk) {
        child = spawn("wrk", ["-t1", "-c" + connections, "-d60s",
          `http://127.0.0.1:${port}/${round % 2 ? "large.bin" : "small.txt"}`]);
        await pause(time);
        child.kill();
      } else {
        const end = Date.now() + time;
        await Promise.all(Array.from({ length: connections }, async () => {
          while (on && Date.now() < end) await get(port, "/small.txt", agent);
        }));
      }
      await pause(on ? 300 : 0);
    }
  })().catch(error => console.log("     load: " + error.message));
  return async () => {
    on = false;
    if (child) child.kill();
    await loops;
    agent.destroy();
  };
}

// "name" -> sum over its labels; name{le="..."} also by itself.
function parseMetrics(text) {
  const values = new Map();
  for (const line of text.split("\n")) {
    const match = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!match) continue;
    values.set(match[1], (values.get(match[1]) || 0) + Number(match[3]));
    if (match[2]) values.set(match[1] + "{" + match[2] + "}", Number(match[3]));
  }
  return values;
}

// Both limits, in seconds, of the bucket that this part of all values does not exceed: /metrics has
// one for each doubling, the page has more.
function percentile(metrics, name, part) {
  const start = name + '_bucket{le="', list = [];
  for (const [key, value] of metrics) {
    if (!key.startsWith(start)) continue;
    const limit = key.slice(start.length, -2);
    list.push([limit === "+Inf" ? Infinity : Number(limit), value]);
  }
  list.sort((a, b) => a[0] - b[0]);
  const all = list[list.length - 1][1];
  const i = list.findIndex(x => x[1] >= all * part - 1e-6);
  return [i > 0 ? list[i - 1][0] : 0, list[i][0]];
}

//--- The browser -----------------------------------------------------------------------------
(async () => {
  let server = await Server.start();
  const port = server.port;
  const browser = await chromium.launch({
    executablePath: browserPath,
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  const complaints = [], requests = [];
  async function open(options, query) {
    const context = await browser.newContext(options);
    const page = await context.newPage();
    page.setDefaultTimeout(LATE);
    page.on("console", m => {
      if (["error", "warning"].includes(m.type())) complaints.push(m.text());
    });
    page.on("pageerror", error => complaints.push(String(error)));
    context.on("request", request => requests.push(request.url()));
    await page.goto(server.url + "/sched" + query);
    await page.waitForSelector("#state[data-state=live]");
    await page.waitForSelector("#workers tr");
    return page;
  }
  const page = await open({ viewport: { width: 1180, height: 900 }, colorScheme: "light" },
    "?interval=100");
  await page.click("summary"); // all counters
  const text = selector => page.locator(selector).first().innerText();
  const counter = async name =>
    Number((await page.locator(`[id="counter-${name}"]`).innerText()).replace(/,/g, ""));
  // On the browser's own connection, so that a look opens none.
  const metrics = async () => parseMetrics(await page.evaluate(async () =>
    (await fetch("metrics")).text()));

  await test("counters agree with /metrics", async () => {
    const names = {
      spawned_tasks_count: "sch_tasks_spawned_total",
      cancelled_tasks_count: "sch_tasks_cancelled_total",
      num_alive_tasks: "sch_alive_tasks",
      stack_count: "sch_stacks",
      io_opened_count: "sch_descriptors_opened_total",
      io_closed_count: "sch_descriptors_closed_total",
      stall_count: "sch_stalls_total",
      "total.overflow_count": "sch_worker_overflows_total",
      "total.forced_yield_count": "sch_worker_forced_yields_total",
    };
    const settled = () => eventually("the page and /metrics", async () => {
      const values = await metrics(), shown = {};
      for (const name in names) {
        shown[name] = await counter(name);
        assert.strictEqual(shown[name], values.get(names[name]), name);
      }
      assert.strictEqual(shown.io_opened_count - shown.io_closed_count >= 2, true);
      return shown;
    });
    const before = await settled();
    await knownLoad(port, 300);
    const after = await settled();
    for (const name of ["spawned_tasks_count", "io_opened_count"]) {
      const more = after[name] - before[name]; // the browser may open a connection at any time
      assert.ok(more >= 300 && more <= 310, `${name}: ${more} more after 300 connections`);
    }
    await eventually("the tile", async () => {
      assert.strictEqual(Number(await text("#tile-alive b")), (await settled()).num_alive_tasks);
    });
  });

  await test("counters that go on lie between two looks at /metrics", async () => {
    const names = {
      "total.poll_count": "sch_worker_polls_total",
      "total.park_count": "sch_worker_parks_total",
      "total.steal_count": "sch_worker_steals_total",
      "total.wake_count": "sch_worker_wakes_total",
      "total.lend_count": "sch_worker_lends_total",
      io_event_count: "sch_descriptor_events_total",
    };
    const first = await metrics();
    const low = first.get(names["total.poll_count"]);
    const shown = {};
    await eventually("a newer message", async () => {
      assert.ok(await counter("total.poll_count") > low);
    });
    await pause(250); // for the rest of what that message brings
    for (const name in names) shown[name] = await counter(name);
    const last = await metrics();
    for (const name in names) {
      const a = first.get(names[name]), b = last.get(names[name]);
      assert.ok(a <= shown[name] && shown[name] <= b, `${name}: ${a} ${shown[name]} ${b}`);
    }
    assert.strictEqual(await page.locator("#workers tr").count(), first.get("sch_workers"));
  });

  await test("percentiles agree with /metrics", async () => {
    await page.click("label[for=whole]");
    const seconds = shown => {
      const [number, unit] = shown.split(" ");
      return Number(number) * { ns: 1e-9, "µs": 1e-6, ms: 1e-3, s: 1 }[unit];
    };
    for (const [id, name] of [["poll", "sch_poll_time_seconds"],
      ["schedule", "sch_schedule_latency_seconds"]]) {
      const values = page.locator(`#histogram-${id} dd`);
      await eventually(id, async () => { // in a moment without a new value at the percentile
        const a = await metrics();
        const shown = await values.allInnerTexts();
        const b = await metrics();
        const count = Number(shown[0].replace(/,/g, ""));
        assert.ok(count > 300 && count <= b.get(name + "_count"), "count " + count);
        [.5, .9, .99].forEach((part, i) => {
          const low = percentile(a, name, part), high = percentile(b, name, part);
          const value = seconds(shown[i + 1]); // three digits of it
          assert.ok(value > low[0] * .995 && value < high[1] * 1.005,
            `${id} ${part}: ${low} ${value} ${high}`);
        });
      });
    }
    await page.click("label[for=recent]");
  });

  await test("messages that are made up", async () => {
    const message = k => { // of every second one
      const m = { now: 1e9 + k * 1e9, began: 1e9, workers: [], waits: [
        { id: 7, ns: 61e9, queued: false, line: 12, name: "<i>name", file: "a/b.c", text: "<b>it" },
        { id: 8, ns: 1234, queued: true, line: 0, name: "", file: "", text: "" }] };
      for (const name of ["num_alive_tasks", "num_running_tasks", "num_queued_tasks",
        "num_waiting_tasks", "injection_queue_depth", "blocking_queue_depth", "stall_count",
        "spawned_tasks_count", "remote_wake_count", "total.poll_count", "total.park_count",
        "total.wake_count", "total.steal_count"]) m[name] = 0;
      m["total.poll_count"] = 50000 * k;
      m["total.wake_count"] = 20 * k, m.remote_wake_count = 3 * k;
      m["total.steal_count"] = 7 * k;
      m.num_queued_tasks = 4, m.num_alive_tasks = 12345;
      m.workers = [{ looks: [50 * k, 30 * k, 20 * k], queue: 9, polls: 300 * k, steals: 2 * k,
        parks: k }, { looks: [0, 0, 100 * k], queue: 0, polls: 0, steals: 0, parks: 0 }];
      m.poll = [[1023, 90 * k], [2047, 9 * k], [1048575, k]];
      m.schedule = k > 1 ? [[511, 10]] : [];
      return "data: " + JSON.stringify(m) + "\n\n";
    };
    const context = await browser.newContext(), made = await context.newPage(), asked = [];
    made.on("pageerror", error => complaints.push(String(error)));
    await made.route("**/sched/events", route => {
      asked.push(0);
      if (asked.length === 1) return route.fulfill({ status: 503, body: "too many" });
      return asked.length > 2 ? route.abort() : route.fulfill({
        contentType: "text/event-stream", body: message(1) + message(2) + message(3) });
    });
    await made.goto(server.url + "/sched");
    await made.waitForSelector("#workers tr"); // after the 503, too
    await eventually("no further message", async () => {
      assert.match(await made.locator("#state").innerText(), /no server/);
      assert.strictEqual(await made.locator("#about").innerText(), "2 workers, up 3 s");
    });
    const texts = selector => made.locator(selector).allInnerTexts();
    assert.deepStrictEqual(await texts("#tiles b"),
      ["50.0 k", "0.5", "12.3 k", "4", "23", "7"]);
    assert.deepStrictEqual(await texts("#workers td:not(.wide)"),
      ["50 %", "9", "300", "2", "1", "0 %", "0", "0", "0", "0"]);
    assert.deepStrictEqual(await texts("#histogram-poll dd"),
      ["200", "1.02 µs", "1.02 µs", "2.05 µs", "1.05 ms", "1.05 ms"]);
    assert.deepStrictEqual(await texts("#histogram-schedule dd"),
      ["10", ...Array(5).fill("511 ns")]);
    await made.click("label[for=whole]");
    await eventually("since the start", async () =>
      assert.strictEqual((await texts("#histogram-poll dd"))[0], "300"));
    assert.deepStrictEqual(await texts("#waits td"), ["1.02 min", "7 <i>name", "<b>it", "b.c:12",
      "1.23 µs", "8", "its turn", ""]);
    assert.strictEqual(await made.locator("canvas.lane").first().getAttribute("aria-label"),
      "worker 0, last minute: 50 % running, 30 % searching, 20 % parked");
    await context.close();
  });

  await test("lanes: at work under load, parked without", async () => {
    const shares = async () => (await page.locator("#workers td:nth-child(3)").allInnerTexts())
      .map(share => parseFloat(share));
    const stop = load(port);
    await eventually("load", async () => {
      const sum = (await shares()).reduce((a, b) => a + b, 0);
      assert.ok(sum >= 40, `${sum} % running`); // of 400
    });
    await stop();
    await eventually("no load", async () => {
      for (const share of await shares()) assert.ok(share <= 20, `${share} % running`);
    });
  }, LONGER);

  await test("the longest waits are those of the dump", async () => {
    const row = page.locator("#waits tr", { hasText: "listener" });
    const [time, task, what] = await eventually("the listener waits", async () => {
      const texts = await row.locator("td").allInnerTexts();
      assert.ok(texts.length >= 3);
      return texts;
    });
    const id = /^(\d+) listener$/.exec(task)[1];
    assert.match(what, /^accept of descriptor \d+$/);
    assert.match(time, /^[\d.]+ (s|ms|µs|min)$/);
    assert.match(await get(port, "/sched/dump", false), new RegExp(`task ${id} "listener"`));
  });

  const focused = () => page.evaluate(() => document.activeElement.id);
  await test("by keyboard: dump, pause, the choice of time", async () => {
    const order = [];
    await page.focus("#pause");
    for (let i = 0; i < 5; i++) {
      await page.keyboard.press("Tab");
      order.push(await focused());
      const outline = await page.evaluate(() => {
        const at = document.activeElement, seen = at.type === "radio" ? at.nextSibling : at;
        return getComputedStyle(seen).outlineStyle;
      });
      assert.notStrictEqual(outline, "none", "no visible focus: " + order[i]);
    }
    assert.deepStrictEqual(order.slice(0, 3), ["dump", "trace", "recent"]);
    await page.focus("#dump");
    await page.keyboard.press("Enter");
    await page.waitForSelector("dialog[open]");
    assert.match(await text("#text"), /\nworker 3: [^]*"listener"/);
    assert.strictEqual(await focused(), "close");
    await page.keyboard.press("Tab"); // the text can be scrolled by keys
    assert.strictEqual(await focused(), "text");
    await page.keyboard.press("Escape");
    await page.waitForSelector("dialog", { state: "hidden" });
    assert.strictEqual(await focused(), "dump");

    await page.focus("#pause");
    await page.keyboard.press("Space");
    assert.strictEqual(await page.getAttribute("#pause", "aria-pressed"), "true");
    await page.evaluate(() => new Promise((done) => // a drawing that was under way
      requestAnimationFrame(() => requestAnimationFrame(done))));
    const polls = await counter("total.poll_count");
    await knownLoad(port, 20);
    await pause(300);
    assert.strictEqual(await counter("total.poll_count"), polls, "goes on though paused");
    await page.keyboard.press("Space");
    await eventually("goes on", async () => assert.ok(await counter("total.poll_count") > polls));

    await page.focus("#recent");
    await page.keyboard.press("ArrowRight");
    assert.ok(await page.isChecked("#whole"));
    await page.keyboard.press("ArrowLeft");
  });

  await test("the dump and the trace are saved", async () => {
    await page.click("#dump");
    let [file] = await Promise.all([page.waitForEvent("download"), page.click("#save")]);
    assert.match(fs.readFileSync(await file.path(), "utf8"), /"listener"/);
    await page.click("#close");
    [file] = await Promise.all([page.waitForEvent("download"), page.click("#trace")]);
    assert.strictEqual(file.suggestedFilename(), "sched-trace.json");
    const trace = JSON.parse(fs.readFileSync(await file.path(), "utf8"));
    assert.ok(trace.traceEvents.some(event => event.ph === "X"), "no poll in it");
    assert.match(await text("#told"), /saved/);
  }, LONGER);

  await test("light and dark", async () => {
    const look = () => page.evaluate(() => {
      const canvas = document.querySelector("#histogram-poll canvas");
      const pen = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
      pen.drawImage(canvas, 0, 0);
      const pixels = pen.getImageData(0, 0, canvas.width, canvas.height).data;
      let sum = 0;
      for (let i = 0; i < pixels.length; i += 4) if (pixels[i + 3] > 250) sum += pixels[i];
      return [getComputedStyle(document.body).backgroundColor, sum];
    });
    const light = await look();
    await page.emulateMedia({ colorScheme: "dark" });
    await eventually("the canvas is drawn anew", async () => {
      const now = await look();
      assert.notStrictEqual(now[0], light[0]);
      assert.ok(now[1] > light[1] * 1.5, "colors of the light page");
    });
    await page.emulateMedia({ colorScheme: "light" });
  });

  await test("accessible, by axe-core", async () => {
    const source = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      await page.evaluate(source);
      const found = await page.evaluate(async () => (await axe.run()).violations);
      const texts = found.map(v => `${colorScheme}: ${v.id}: ` +
        v.nodes.map(node => node.html).join(" ").slice(0, 300));
      assert.deepStrictEqual(texts, []);
    }
    await page.emulateMedia({ colorScheme: "light" });
    const labels = await page.locator("canvas:not([aria-hidden])").evaluateAll(list =>
      list.map(canvas => canvas.getAttribute("role") + " " + canvas.getAttribute("aria-label")));
    assert.strictEqual(labels.length, 6);
    for (const label of labels) {
      assert.match(label, /^img (worker \d, last minute: \d|\w+ \w+: p50)/);
    }
  }, LONGER);

  await test("360 pixels wide", async () => {
    const phone = await open({ viewport: { width: 360, height: 780 } }, "?interval=100");
    await phone.click("summary");
    await pause(300);
    const beyond = await phone.evaluate(() => {
      const list = [];
      for (const element of document.querySelectorAll("body *")) {
        const box = element.getBoundingClientRect();
        if (box.width > 1 && box.right > 360.5) list.push(element.outerHTML.slice(0, 100));
      }
      return [document.documentElement.scrollWidth, ...list];
    });
    assert.deepStrictEqual(beyond, [360]);
    await phone.screenshot({ path: path.join(out, "live-phone.png"), fullPage: true });
    await phone.click("#dump");
    await phone.waitForSelector("dialog[open]");
    assert.ok((await phone.locator("dialog").boundingBox()).width <= 360);
    await phone.context().close();
  });

  await test("no errors, no request elsewhere", async () => {
    assert.deepStrictEqual(complaints, []);
    const elsewhere = requests.filter(url => !url.startsWith(server.url + "/") &&
      !url.startsWith("data:") && !url.startsWith("blob:" + server.url));
    assert.deepStrictEqual(elsewhere, []);
    assert.ok(requests.length > 5);
    assert.ok(!fs.readFileSync("docs/examples/sched.html", "utf8").match(/(src|href)="?https?:/));
  });

  await test("comes back after the server", async () => {
    await knownLoad(port, 50);
    const many = await eventually("counters", async () => {
      const n = await counter("spawned_tasks_count");
      assert.ok(n > 300);
      return n;
    });
    await server.stop();
    await page.waitForSelector("#state[data-state=lost]");
    assert.match(await text("#state"), /no server/);
    server = await Server.start(port, 2);
    await page.waitForSelector("#state[data-state=live]");
    for (let i = 0; i < 10; i++) { // not the difference to what the old one said
      assert.doesNotMatch(await text("#tiles"), /-\d/);
      await pause(50);
    }
    await eventually("a page of the new server", async () => {
      assert.ok(await counter("spawned_tasks_count") < many);
      assert.strictEqual(await page.locator("#workers tr").count(), 2);
      assert.match(await text("#about"), /^2 workers, up /);
    });
    await server.stop();
    // What the browser itself says of connections that fail is all that may be there.
    const others = complaints.filter(line => !/ERR_(CONNECTION|INCOMPLETE|EMPTY)/.test(line));
    assert.deepStrictEqual(others, []);
  });

  await test("screenshots", async () => {
    const long = level === "screenshots";
    server = await Server.start();
    const live = await open({ viewport: { width: 1180, height: 980 }, colorScheme: "light" },
      long ? "" : "?interval=50");
    const stop = load(server.port), idle = [];
    for (let i = 0; i < 5; i++) { // waits of all lengths
      await pause(long ? 12000 : 300);
      idle.push(net.connect(server.port, "127.0.0.1"));
    }
    for (const [colorScheme, name] of [["light", "live.png"], ["dark", "live-dark.png"]]) {
      await live.emulateMedia({ colorScheme });
      await pause(long ? 1200 : 300); // the next message
      await live.screenshot({ path: path.join(out, name), fullPage: true });
      assert.ok(fs.statSync(path.join(out, name)).size > 30000, name);
    }
    idle.forEach(socket => socket.destroy());
    await stop();
    await live.context().close();
    await server.stop();
  }, LONGER);

  await browser.close();
  server.child.kill("SIGKILL");
  fs.rmSync(site, { recursive: true });
  console.log(`${passed} passed, ${failed} failed, 0 skipped`);
  process.exit(failed > 0 ? 1 : 0);
})().catch(error => {
  console.log("FAIL page.js: " + error.stack);
  process.exit(1);
});
