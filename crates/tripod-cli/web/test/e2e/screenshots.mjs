// The pictures of the README, from a real stack: node test/e2e/screenshots.mjs DIR
//
// Constraints: what they show happened while they were taken: a replay at a pace, QuestDB killed under it, and back.
// pngquant makes them a third as large, where it is installed; the letters are Inter, where that is (fonts-inter).

import { execFileSync } from "node:child_process";
import { mkdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { openBrowser, painted, visit } from "../browser/browser.js";
import { RealStack } from "./stack.js";

const dir = process.argv[2] ?? "shots";
await mkdir(dir, { recursive: true });
const stack = await new RealStack().start();
const browser = await openBrowser();

/** @param {import("playwright-core").Page} page @param {string} name */
async function shoot(page, name) {
  const path = join(dir, `${name}.png`);
  await painted(page);
  await page.screenshot({ path });
  try {
    execFileSync("pngquant", ["--force", "--ext", ".png", "--quality", "70-95", path], { stdio: "ignore" });
  } catch {
    // Not installed, or it could make nothing smaller of it: the picture is good as it is.
  }
  console.log(`${path} ${Math.round((await stat(path)).size / 1024)} KiB`);
}

/** @param {string} name @param {import("playwright-core").BrowserContextOptions} options */
async function shootAnew(name, options) {
  const { page, close } = await visit(browser, stack.url, options);
  await page.getByRole("radio", { name: "2 min" }).check();
  await page.locator('html[data-link="live"]').waitFor();
  await painted(page);
  // A tall screen ends below the charts, not in the midst of something.
  const end = await page.locator("section:has(#charts)").evaluate((charts) => Math.ceil(charts.getBoundingClientRect().bottom + scrollY) + 16);
  const { width = 0, height = 0 } = page.viewportSize() ?? {};
  if (width > 600) await page.setViewportSize({ width, height: Math.max(height, end) });
  await page.evaluate(() => scrollTo(0, 0));
  await shoot(page, name);
  await close();
}

try {
  stack.load("800/s");
  // Charts of nothing show nothing: a minute of work first, with a kill in it.
  const { page, close } = await visit(browser, stack.url, { viewport: { width: 1280, height: 600 } });
  const visible = (/** @type {number} */ rows) =>
    page.waitForFunction((least) => Number(document.querySelector("#panel-ledger .term-first dd")?.textContent?.replace(/\D/g, "") ?? 0) > least, rows, { timeout: 180_000 });
  await visible(35_000);
  await stack.killQuestdb();
  await page.locator('.card[data-server="questdb"][data-level="bad"]').waitFor({ timeout: 30_000 });
  await shoot(page, "monitor-down");
  await page.locator('#headline[data-level="ok"]').waitFor({ timeout: 60_000 });
  await visible(70_000);
  await close();
  for (const colorScheme of /** @type {const} */ (["dark", "light"])) {
    await shootAnew(`monitor-${colorScheme}`, { viewport: { width: 1280, height: 800 }, colorScheme });
  }
  await shootAnew("monitor-phone", { viewport: { width: 390, height: 844 } });
} finally {
  await browser.close();
  await stack.end();
}
