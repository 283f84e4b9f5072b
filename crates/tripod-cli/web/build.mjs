// Makes dist/: what `tripod` carries and `tripod monitor` serves.
//
// Constraints: the page's own files alone, no address of anybody else's; nothing inline, since the page is served with
// `default-src 'self'`; names without hashes, since the monitor answers with an ETag. The licences of what is bundled stay in
// the bundle. dist/ is made aside and moved into place: a build that fails leaves the last one.
//
// Operation: `node build.mjs`, or with `--watch` while one works on it (then into dist/ directly).

import { cp, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";
import { runbookPage } from "./runbooks.mjs";

const web = dirname(fileURLToPath(import.meta.url));
const watch = process.argv.includes("--watch");
const dist = join(web, "dist");
const out = watch ? dist : join(web, "dist.new");

/** docs/alerts.md, if the repository has it: the page links into it and carries it with it. */
const alertsFile = join(web, "../../../docs/alerts.md");
const runbooks = existsSync(alertsFile) ? runbookPage(await readFile(alertsFile, "utf8")) : { html: null, ids: [] };

/** @type {esbuild.BuildOptions} */
const options = {
  absWorkingDir: web,
  entryPoints: { page: "src/page.js", early: "src/early.js", "styles": "styles/page.css" },
  entryNames: "[name]",
  outdir: join(out, "assets"),
  bundle: true,
  minify: !watch,
  format: "esm",
  target: ["chrome123", "firefox121", "safari17.5"],
  legalComments: "eof",
  define: { RUNBOOKS: JSON.stringify(runbooks.ids) },
  logLevel: "warning",
};

await rm(out, { recursive: true, force: true });
await mkdir(join(out, "assets"), { recursive: true });
await cp(join(web, "src/index.html"), join(out, "index.html"));
await cp(join(web, "icons"), join(out, "assets"), { recursive: true });
if (runbooks.html !== null) await writeFile(join(out, "assets/runbooks.html"), runbooks.html);

if (watch) {
  await (await esbuild.context(options)).watch();
} else {
  const { warnings } = await esbuild.build(options);
  if (warnings.length > 0) process.exit(1);
  await rm(dist, { recursive: true, force: true });
  await rename(out, dist);
}
