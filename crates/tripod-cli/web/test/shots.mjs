// Pictures of the page: node test/shots.mjs DIR [scene...]; to look at while one works on it.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { headlineIs, openBrowser, painted, visit } from "./browser/browser.js";
import { Fixture, SCENES } from "./fixture/server.js";

const [dir = "shots", ...scenes] = process.argv.slice(2);
await mkdir(dir, { recursive: true });
const browser = await openBrowser();
for (const scene of scenes.length > 0 ? scenes : [...SCENES, "down", "lost"]) {
  const killed = { name: "questdb", from: scene === "down" ? 95 : 220, to: scene === "down" ? 0 : 180 };
  const fixture = await new Fixture({ scene: SCENES.includes(scene) ? scene : "well", past: 1_000, killed }).start();
  for (const colorScheme of /** @type {const} */ (["dark", "light"])) {
    for (const width of [1440, 768, 360]) {
      const { page, close } = await visit(browser, fixture.url, { colorScheme, viewport: { width, height: width < 500 ? 740 : 900 } });
      await page.locator('html[data-link="live"]').waitFor();
      if (scene === "down") await headlineIs(page, "bad");
      if (scene === "lost") {
        fixture.silent = true;
        await page.locator('html[data-link="lost"]').waitFor();
      }
      await painted(page);
      await page.screenshot({ path: join(dir, `${scene}-${width}-${colorScheme}.png`), fullPage: true });
      // Only now: with a word from the monitor it would be found again before the picture.
      fixture.silent = false;
      await close();
    }
  }
  await fixture.stop();
}
await browser.close();
