// Chromium for the tests: headless, the system's own.
//
// Constraints: no download of a browser; $CHROMIUM, else the usual places. A page that is visited keeps account of all
// that must not be: errors in the console, exceptions, requests to anybody else. What a test provokes itself it names.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { cpus } from "node:os";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

/** @typedef {import("playwright-core").Page} Page */
/** @typedef {import("playwright-core").Browser} Browser */

const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** @returns {Promise<Browser>} */
export async function openBrowser() {
  const executablePath = process.env.CHROMIUM ?? PLACES.find((place) => existsSync(place));
  if (executablePath === undefined) throw new Error("no Chromium here; scripts/install-page-tools brings it, or name one in $CHROMIUM");
  // Chromium's sandbox does not start as root; what is opened is our own page alone.
  const sandbox = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  return chromium.launch({ executablePath, args: [...sandbox, "--disable-gpu", "--disable-dev-shm-usage"] });
}

/** How much slower than alone this machine may be now, four times at most: a deadline is multiplied by it. */
export function slack() {
  const load = Number(readFileSync("/proc/loadavg", "utf8").split(" ")[0]);
  return Math.min(4, Math.max(1, load / cpus().length));
}

/**
 * A page on the monitor at `url`.
 * @param {Browser} browser
 * @param {string} url
 * @param {import("playwright-core").BrowserContextOptions} [options]
 */
export async function visit(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme: "dark", timezoneId: "UTC", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(10_000 * slack());
  /** @type {string[]} */
  const problems = [];
  page.on("console", (line) => (line.type() === "error" || line.type() === "warning") && problems.push(`console: ${line.text()} ${line.location().url}`));
  page.on("pageerror", (error) => problems.push(`exception: ${error.message}`));
  page.on("request", (request) => {
    if (new URL(request.url()).origin !== new URL(url).origin) problems.push(`request to ${request.url()}`);
  });
  await page.goto(url);
  return {
    page,
    /** @param {RegExp} [expected] what the test itself has provoked */
    noProblems(expected) {
      assert.deepEqual(problems.filter((problem) => !expected?.test(problem)), []);
    },
    close: () => context.close(),
  };
}

/** Waits until the headline has this level. @param {Page} page @param {string} level */
export const headlineIs = (page, level) => page.locator(`#headline[data-level="${level}"]`).waitFor();

/** Two frames: what was drawn last is on the screen, and what depends on its size too. @param {Page} page */
export const painted = (page) => page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(null)))));

/** By how many pixels the page is wider than the screen. @param {Page} page */
export const overflow = (page) => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

/** How many pixels of each chart have the colour of its lines; axes and grid do not count. @param {Page} page */
export const inked = (page) =>
  page.evaluate(() =>
    [...document.querySelectorAll("figure.chart")].map((figure) => {
      const canvas = figure.querySelector("canvas");
      const context = canvas?.getContext("2d");
      if (!canvas || !context) return 0;
      const swatches = [...figure.querySelectorAll(".swatch")].map((swatch) => getComputedStyle(swatch).backgroundColor);
      const up = getComputedStyle(/** @type {Element} */ (document.querySelector(".state[data-level=ok]"))).color;
      const colours = (swatches.length > 0 ? swatches : [up]).map((colour) => (colour.match(/[\d.]+/g) ?? []).map(Number));
      const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
      let count = 0;
      for (let index = 0; index < data.length; index += 4) {
        const near = (/** @type {number[]} */ colour) => [0, 1, 2].every((part) => Math.abs((data[index + part] ?? 0) - (colour[part] ?? 0)) < 16);
        if ((data[index + 3] ?? 0) > 90 && colours.some(near)) count += 1;
      }
      return count;
    }),
  );

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

/** Serious and critical findings of axe. @param {Page} page */
export async function axe(page) {
  // By the debugger, not by a tag: the page's policy lets no foreign script in.
  await page.evaluate(readFileSync(AXE, "utf8"));
  const found = await page.evaluate(async () => {
    const { violations } = await /** @type {any} */ (window).axe.run(document, { resultTypes: ["violations"] });
    return violations
      .filter((/** @type {any} */ violation) => ["serious", "critical"].includes(violation.impact))
      .map((/** @type {any} */ violation) => `${violation.id}: ${violation.nodes.slice(0, 4).map((/** @type {any} */ node) => `${node.target} ${node.failureSummary}`).join(" | ")}`);
  });
  return /** @type {string[]} */ (found);
}
