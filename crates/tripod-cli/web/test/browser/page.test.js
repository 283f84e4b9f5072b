// The page in a real browser, on a monitor that plays scenes.
//
// Constraints: tests wait for what they expect, never for time to pass; one browser for all of them. A test that takes something away
// (the server, the monitor) also sees it come back.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { after, afterEach, before, test } from "node:test";
import { Fixture, SCENES } from "../fixture/server.js";
import { axe, headlineIs, inked, openBrowser, overflow, painted, visit } from "./browser.js";

/** @type {import("playwright-core").Browser} */
let browser;
/** @type {(() => Promise<unknown>)[]} */
let ends = [];

before(async () => {
  browser = await openBrowser();
});
after(() => browser?.close());
afterEach(async () => {
  for (const end of ends.reverse()) await end();
  ends = [];
});

/** @param {string} scene @param {import("playwright-core").BrowserContextOptions & { past?: number }} [options] */
async function open(scene, { past = 300, ...options } = {}) {
  const fixture = await new Fixture({ scene, past }).start();
  ends.push(() => fixture.stop());
  const visited = await visit(browser, fixture.url, options);
  ends.push(() => visited.close());
  await visited.page.locator('html[data-link="live"]').waitFor();
  await painted(visited.page);
  return { fixture, ...visited };
}

const LOST = /ERR_CONNECTION|ERR_INCOMPLETE_CHUNKED|ERR_EMPTY_RESPONSE|401/;

test("all is there: the headline, every panel, every chart, and nothing from elsewhere", async () => {
  const { page, noProblems, fixture } = await open("well");
  await headlineIs(page, "ok");
  assert.match(await page.title(), /^All well · Tripod$/);
  assert.equal(await page.locator(".card[data-server]").count(), 4);
  assert.equal(await page.locator("#panel-ledger tbody tr").count(), 3);
  for (const panel of ["alerts", "sinks", "tape", "streams", "prices", "tokens", "journal", "disks", "health", "backups", "jobs", "drills"]) {
    assert.notEqual((await page.locator(`#panel-${panel}`).innerText()).trim(), "", panel);
  }
  const ink = await inked(page);
  assert.equal(ink.length, 6);
  for (const pixels of ink) assert.ok(pixels > 20, `a chart is empty: ${ink}`);
  assert.ok(fixture.asked.includes("/api/history"));
  noProblems();
});

test("figures move each second", async () => {
  const { page, fixture } = await open("well");
  const recorded = page.locator("#panel-ledger .term-first dd");
  const before = await recorded.innerText();
  fixture.step();
  await page.waitForFunction((old) => document.querySelector("#panel-ledger .term-first dd")?.textContent !== old, before);
});

test("a server that goes down turns red, says what it means, and is green again when it is back", async () => {
  const { page, fixture, noProblems } = await open("well");
  await headlineIs(page, "ok");
  fixture.down.add("questdb");
  await headlineIs(page, "bad");
  assert.match(await page.locator("#lead").innerText(), /^QuestDB is down since \d\d:\d\d:\d\d$/);
  assert.match(await page.locator("#detail").innerText(), /rows wait in the journal, nothing is lost: [\d,]+ pending/i);
  const todo = page.locator("#headline").getByRole("link", { name: /^What to do about QuestDB is down/ });
  assert.match((await todo.getAttribute("href")) ?? "", /^assets\/runbooks\.html#tripodserverdown$/);
  const card = page.locator('.card[data-server="questdb"]');
  assert.equal(await card.getAttribute("data-level"), "bad");
  assert.match(await card.innerText(), /down/, "in words, not in colour alone");
  assert.match(await page.title(), /QuestDB is down/);
  assert.match((await page.locator("#tab-icon").getAttribute("href")) ?? "", /icon-bad/);
  assert.equal(await page.locator(".alert").count(), 1);
  fixture.down.clear();
  await headlineIs(page, "ok");
  assert.equal(await todo.count(), 0);
  assert.equal(await card.getAttribute("data-level"), "ok");
  const label = await page.locator('[data-chart="pending"] [role="img"]').getAttribute("aria-label");
  assert.match(label ?? "", /QuestDB was down from/, "the charts keep it, in words too");
  noProblems();
});

test("a screen reader is told news, and not each second's figures", async () => {
  const { page, fixture } = await open("well");
  await headlineIs(page, "ok");
  await page.evaluate(() => {
    /** @type {any} */ (window).told = [];
    new MutationObserver(() => /** @type {any} */ (window).told.push(document.getElementById("spoken")?.textContent)).observe(
      /** @type {Node} */ (document.getElementById("spoken")),
      { childList: true, characterData: true, subtree: true },
    );
  });
  const told = () => page.evaluate(() => /** @type {any} */ (window).told);
  for (let second = 0; second < 5; second += 1) fixture.step();
  await painted(page);
  assert.deepEqual(await told(), []);
  fixture.down.add("redis-prices");
  await headlineIs(page, "bad");
  for (let second = 0; second < 5; second += 1) fixture.step();
  await painted(page);
  const words = await told();
  assert.equal(words.length, 1, words.join(" | "));
  assert.match(words[0], /^Redis prices is down since/);
});

test("what wants to be code stays text", async () => {
  const { page, noProblems } = await open("wild");
  await headlineIs(page, "bad");
  assert.equal(await page.evaluate(() => /** @type {any} */ (window).hacked), undefined);
  assert.equal(await page.locator("main script, main img, main iframe").count(), 0);
  assert.ok((await page.locator("#panel-alerts").innerText()).includes("<script>window.hacked=1</script>"));
  const links = await page.locator("a[href]").evaluateAll((all) => all.map((link) => link.getAttribute("href")));
  for (const href of links) assert.match(href ?? "", /^(#main|assets\/runbooks\.html#)/);
  noProblems();
});

for (const scene of SCENES) {
  test(`${scene}: drawn whole, as wide as the screen and no wider, and no serious finding of axe`, async () => {
    const { page, noProblems } = await open(scene);
    assert.doesNotMatch(await page.locator("main").innerText(), /could not be drawn|undefined|NaN|\[object/);
    for (const width of [1440, 768, 360]) {
      await page.setViewportSize({ width, height: 800 });
      await painted(page);
      assert.ok((await overflow(page)) <= 0, `${scene} at ${width} px is ${await overflow(page)} px too wide`);
    }
    for (const colorScheme of /** @type {const} */ (["dark", "light"])) {
      await page.emulateMedia({ colorScheme });
      await painted(page);
      assert.deepEqual(await axe(page), [], `${scene}, ${colorScheme}`);
    }
    noProblems();
  });
}

test("a monitor that goes away is said to be away, with the time of the last data, and found again", async () => {
  const { page, fixture, noProblems } = await open("well");
  await headlineIs(page, "ok");
  await fixture.stop();
  await page.locator('html[data-link="lost"]').waitFor();
  assert.match(await page.locator("#lead").innerText(), /^No word from the monitor since \d\d:\d\d:\d\d$/);
  assert.match(await page.locator(".link").innerText(), /not connected\s+last data \d\d:\d\d:\d\d/);
  assert.equal(await page.locator(".grid").evaluate((grid) => getComputedStyle(grid).filter), "grayscale(1)");
  assert.equal(await page.locator(".card").count(), 4, "what was known stays");
  await fixture.start();
  await headlineIs(page, "ok");
  noProblems(LOST);
});

test("a monitor that freezes with its line open is noticed too", async () => {
  const { page, fixture, noProblems } = await open("well");
  fixture.silent = true;
  await page.locator('html[data-link="lost"]').waitFor();
  fixture.silent = false;
  await page.locator('html[data-link="live"]').waitFor();
  await headlineIs(page, "ok");
  noProblems(LOST);
});

test("a monitor that wants a token is asked for by name", async () => {
  const fixture = await new Fixture().start();
  ends.push(() => fixture.stop());
  fixture.status = 401;
  const { page, close } = await visit(browser, fixture.url);
  ends.push(close);
  await page.getByText("The monitor wants its token").first().waitFor();
});

test("dark, light, as the system: chosen by hand, remembered, and the charts follow", async () => {
  const { page } = await open("well");
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await ground();
  const ink = () => page.evaluate(() => document.querySelector("canvas")?.toDataURL());
  const darkInk = await ink();
  await page.getByRole("radio", { name: "light" }).check();
  await painted(page);
  const light = await ground();
  assert.notEqual(light, dark);
  assert.notEqual(await ink(), darkInk);
  await page.reload();
  assert.equal(await ground(), light, "remembered");
  assert.ok(await page.getByRole("radio", { name: "light" }).isChecked());
  await page.getByRole("radio", { name: "as the system" }).check();
  assert.equal(await ground(), dark);
});

test("by keyboard alone: the skip link first, a ring on whatever has the focus, lists that open and stay open", async () => {
  const { page, fixture } = await open("well");
  await page.keyboard.press("Tab");
  const focused = () => page.evaluate(() => document.activeElement?.textContent?.trim() ?? "");
  assert.equal(await focused(), "Skip to the state");
  const visible = await page.locator(".skip").boundingBox();
  assert.ok(visible && visible.y >= 0, "the skip link shows itself");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement?.id), "main");
  const more = page.getByRole("button", { name: /^Show all 10/ });
  await more.focus();
  await page.keyboard.press("Enter");
  assert.equal(await page.locator("#panel-prices tbody tr").count(), 10);
  fixture.step();
  fixture.step();
  await painted(page);
  assert.equal(await focused(), "Show 8 of 10", "the focus survives each second");
  assert.equal(await page.locator("#panel-prices tbody tr").count(), 10);
  assert.notEqual(await page.evaluate(() => getComputedStyle(/** @type {Element} */ (document.activeElement)).outlineStyle), "none");
});

test("nothing moves for somebody who does not want movement", async () => {
  const { page } = await open("well", { reducedMotion: "reduce" });
  const moving = await page.evaluate(() => document.getAnimations().length);
  assert.equal(moving, 0);
});

test("two, five, fifteen minutes", async () => {
  const { page } = await open("well", { past: 900 });
  const label = () => page.locator('[data-chart="rates"] [role="img"]').getAttribute("aria-label");
  assert.match((await label()) ?? "", /Last 5\smin\./);
  await page.getByRole("radio", { name: "15 min" }).check();
  assert.match((await label()) ?? "", /Last 15\smin\./);
});

test("a reader at the pointer: all charts show the same second", async () => {
  const { page } = await open("well");
  await page.locator('[data-chart="rates"] .u-over').hover();
  await page.getByText(/^at \d\d:\d\d:\d\d$/).waitFor();
});

test("a monitor of another version asks for its own page", async () => {
  const { page, fixture } = await open("well");
  assert.ok(await page.locator("#reload").isHidden());
  const real = fixture.stack.snapshot.bind(fixture.stack);
  fixture.stack.snapshot = (moment) => ({ ...real(moment), version: "0.2.0" });
  fixture.step();
  await page.locator("#reload").waitFor();
});

const RUNBOOKS = fileURLToPath(new URL("../../dist/assets/runbooks.html", import.meta.url));

test("what to do leads to the entry of docs/alerts.md, without the internet", { skip: existsSync(RUNBOOKS) ? false : "docs/alerts.md is not there" }, async () => {
  const { page, fixture, noProblems } = await open("well");
  fixture.down.add("questdb");
  const link = page.getByRole("link", { name: /^What to do about server-down/ });
  const [runbook] = await Promise.all([page.context().waitForEvent("page"), link.click()]);
  await runbook.waitForLoadState();
  assert.match(runbook.url(), /\/assets\/runbooks\.html#tripodserverdown$/);
  assert.ok(await runbook.locator("#tripodserverdown").isVisible());
  await runbook.setViewportSize({ width: 360, height: 700 });
  assert.ok((await overflow(runbook)) <= 0);
  assert.deepEqual(await axe(runbook), []);
  noProblems();
});
