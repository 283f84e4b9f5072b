// `tripod monitor` and its page on a real stack.
//
// Constraints: asks the servers' own monitor and the page, each for what it says. One absolute time is asserted, for it is a promise: red
// within three seconds of the kill. It is measured from the kill itself by this process's clock, to what the browser shows; where this process stood still
// meanwhile, so did the rest of the machine, and the failure says so.

import assert from "node:assert/strict";
import { loadavg } from "node:os";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { after, before, test } from "node:test";
import { readSnapshot } from "../../src/snapshot.js";
import { axe, inked, openBrowser, overflow, painted, visit } from "../browser/browser.js";
import { RealStack } from "./stack.js";

const SEEN_WITHIN_MS = 3_000;
/** Longer than this between two turns of the event loop, and the machine had no time for this process. */
const STALLED_MS = 100;

/** @type {RealStack} */
let stack;
/** @type {import("playwright-core").Browser} */
let browser;

before(async () => {
  stack = await new RealStack().start();
  browser = await openBrowser();
});
after(async () => {
  await browser?.close();
  await stack?.end();
});

test("the monitor says what the page was promised", async () => {
  const raw = await stack.snapshot();
  const read = readSnapshot(raw);
  /** Every field that the page reads stands in what the monitor says. @param {any} given @param {any} wanted @param {string} path */
  const compare = (given, wanted, path) => {
    for (const [key, value] of Object.entries(wanted)) {
      assert.ok(given !== null && typeof given === "object" && key in given, `${path}${key} is missing`);
      if (Array.isArray(value)) {
        assert.ok(Array.isArray(given[key]), `${path}${key} is no list`);
        value.forEach((item, index) => typeof item === "object" && item !== null && compare(given[key][index], item, `${path}${key}[${index}].`));
      } else if (value !== null && typeof value === "object") {
        // Such as the memory of a server that is no Redis.
        if (given[key] === null) assert.ok(Object.values(value).every((inner) => inner === null), `${path}${key}`);
        else compare(given[key], value, `${path}${key}.`);
      } else {
        assert.equal(value, given[key] === undefined ? null : given[key], `${path}${key} was not read as it was said`);
      }
    }
  };
  compare(raw, read, "");
  assert.ok(read.servers.length >= 4, JSON.stringify(read.servers));
  const history = await (await fetch(`${stack.url}api/history`)).json();
  for (const name of ["recorded_per_s", "visible_per_s", "pending_rows", "visible_p99_ms", "price_oldest_ms", "stream_lag"]) {
    assert.equal(history.series[name]?.length, history.at.length, name);
  }
  for (const [name, up] of Object.entries(history.series.server_up)) assert.equal(up.length, history.at.length, name);
});

test("QuestDB killed under load: red within three seconds, green again, and every row counted", async () => {
  stack.load("2000/s");
  const { page, noProblems, close } = await visit(browser, stack.url);
  await page.locator('.card[data-server="questdb"][data-level="ok"]').waitFor();
  await page.waitForFunction(() => Number(document.querySelector("#panel-ledger .term-first dd")?.textContent?.replace(/\D/g, "") ?? 0) > 2_000);
  const turns = monitorEventLoopDelay({ resolution: 10 });
  turns.enable();
  const killed = await stack.killQuestdb();
  const seen = new AbortController();
  const says = stack.saysDown("questdb", seen.signal);
  const shows = page.locator('.card[data-server="questdb"][data-level="bad"]').waitFor();
  await shows.finally(() => seen.abort());
  const red = performance.now() - killed;
  turns.disable();
  const said = await says;
  assert.match(await page.locator("#lead").innerText(), /QuestDB is down/);
  await page.locator('.card[data-server="questdb"][data-level="ok"]').waitFor({ timeout: 60_000 });
  const green = performance.now() - killed;
  const stalled = turns.max / 1e6;
  const words =
    `red ${red.toFixed(0)} ms after the kill` +
    (said === null ? "" : `, said by the monitor after ${(said - killed).toFixed(0)} ms`) +
    `, green after ${green.toFixed(0)} ms; this process stood still for ${stalled.toFixed(0)} ms at most; load ${loadavg()[0]?.toFixed(1)}`;
  console.log(words);
  assert.ok(red < SEEN_WITHIN_MS, stalled > STALLED_MS ? `${words}: the machine was stalled, and this says little of the page` : words);
  await page.waitForFunction(() => document.querySelector("#panel-ledger .verdict")?.textContent?.includes("adds up"), null, { timeout: 30_000 });
  const spoken = await page.locator('[data-chart="pending"] [role="img"]').getAttribute("aria-label");
  assert.match(spoken ?? "", /QuestDB was down from/);
  // The others have little to draw after some seconds: a line at zero.
  const [rates = 0, pending = 0, , , , servers = 0] = await inked(page);
  assert.ok(Math.min(rates, pending, servers) > 20, `a chart is empty: ${[rates, pending, servers]}`);
  noProblems();
  await close();
});

test("on a phone, in both themes: no wider than the screen, no serious finding of axe", async () => {
  for (const colorScheme of /** @type {const} */ (["dark", "light"])) {
    const { page, noProblems, close } = await visit(browser, stack.url, { viewport: { width: 360, height: 740 }, colorScheme });
    await page.locator('html[data-link="live"]').waitFor();
    await painted(page);
    assert.ok((await overflow(page)) <= 0);
    assert.deepEqual(await axe(page), []);
    noProblems();
    await close();
  }
});

test("the policy lets nothing foreign in", async () => {
  const answer = await fetch(stack.url);
  assert.match(answer.headers.get("content-security-policy") ?? "", /default-src 'self'/);
  assert.doesNotMatch(answer.headers.get("content-security-policy") ?? "", /unsafe/);
});
