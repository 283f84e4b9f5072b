// The pictures of the README, from a real stack: node test/e2e/screenshots.mjs DIR
//
// Constraints: what they show happened while they were taken: a replay at a pace, QuestDB killed under it, and back.

import { mkdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { openBrowser, painted, visit } from "../browser/browser.js";
import { RealStack } from "./stack.js";

const dir = process.argv[2] ?? "shots";
await mkdir(dir, { recursive: true });
const stack = await new RealStack().start();
const browser = await openBrowser();

/** @param {string} name @param {import("playwright-core").BrowserContextOptions} options @param {(page: import("playwright-core").Page) => Promise<unknown>} [ready] */
async function shoot(name, options, ready = async () => {}) {
  const { page, close } = await visit(browser, stack.url, options);
  await page.locator('html[data-link="live"]').waitFor();
  await ready(page);
  await painted(page);
  const path = join(dir, `${name}.png`);
  await page.screenshot({ path });
  console.log(`${path} ${Math.round((await stat(path)).size / 1024)} KiB`);
  await close();
}

try {
  stack.load("1500/s");
  // Charts of nothing show nothing: a minute of work first, with a kill in it.
  const { page, close } = await visit(browser, stack.url);
  const visible = (/** @type {number} */ rows) =>
    page.waitForFunction((least) => Number(document.querySelector("#panel-ledger .term-first dd")?.textContent?.replace(/\D/g, "") ?? 0) > least, rows, { timeout: 180_000 });
  await visible(30_000);
  await stack.killQuestdb();
  await page.locator('.card[data-server="questdb"][data-level="bad"]').waitFor({ timeout: 30_000 });
  await painted(page);
  await page.screenshot({ path: join(dir, "monitor-down.png") });
  await page.locator('#headline[data-level="ok"]').waitFor({ timeout: 60_000 });
  await visible(60_000);
  await close();
  await shoot("monitor-dark", { viewport: { width: 1280, height: 960 }, colorScheme: "dark" });
  await shoot("monitor-light", { viewport: { width: 1280, height: 960 }, colorScheme: "light" });
  await shoot("monitor-phone", { viewport: { width: 390, height: 844 }, colorScheme: "dark" });
} finally {
  await browser.close();
  await stack.end();
}
