// A real stack with a bot's work on it and `tripod monitor` beside it, for tests and pictures.
//
// Constraints: a directory of its own; what it starts it ends, by process id or by `tripod down --wipe`, in every outcome.
// $TRIPOD names the binary.

import { execFile, spawn } from "node:child_process";
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);
const ROOT = join(dirname(fileURLToPath(import.meta.url)), "../../../../..");
const SAMPLES = [
  "trades/binance_spot_trades_20250325.csv.gz",
  "trades/binance_usdm_trades_20240808.csv.gz",
  "quotes/binance_spot_l1_20250325.csv.gz",
];
const UP_WITHIN_MS = 120_000;
const MONITOR_WITHIN_MS = 60_000;
const END_WITHIN_MS = 20_000;
const SAYS_EVERY_MS = 50;

async function freePort() {
  const server = createServer();
  await new Promise((done) => server.listen(0, "127.0.0.1", () => done(null)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  await new Promise((done) => server.close(done));
  return port;
}

export class RealStack {
  /** @type {import("node:child_process").ChildProcess[]} */
  #children = [];
  /** What the children wrote on stderr, for a failure. */
  words = "";
  dir = "";
  url = "";

  async start() {
    const tripod = process.env.TRIPOD;
    if (!tripod) throw new Error("$TRIPOD names no binary; `make page-test` does");
    this.tripod = tripod;
    this.dir = await mkdtemp(join(tmpdir(), "page-stack-"));
    try {
      await this.#do(["up"]);
      await this.#do(["migrate"]);
      const port = await freePort();
      this.url = `http://127.0.0.1:${port}/`;
      this.#spawn(["monitor"], { TRIPOD__MONITOR__LISTEN: `127.0.0.1:${port}` });
      await this.#answers();
    } catch (error) {
      const words = this.words;
      await this.end();
      throw new Error(`${error instanceof Error ? error.message : error}\n${words}`);
    }
    return this;
  }

  /** A bot's work: recorded trades and quotes at a pace. @param {string} rate */
  load(rate) {
    this.#spawn(["replay", "--rate", rate, ...SAMPLES.map((file) => join(ROOT, "samples", file))]);
  }

  /** What the monitor says now. @returns {Promise<any>} */
  async snapshot() {
    return (await fetch(`${this.url}api/snapshot`, { signal: AbortSignal.timeout(5_000) })).json();
  }

  /** When the monitor first says that a server is down, by `performance.now()`. @param {string} name @param {AbortSignal} until */
  async saysDown(name, until) {
    while (!until.aborted) {
      const { servers } = await this.snapshot();
      if (servers.some((/** @type {any} */ server) => server.name === name && server.state === "down")) return performance.now();
      await new Promise((done) => setTimeout(done, SAYS_EVERY_MS));
    }
    return null;
  }

  /** Runs `tripod` to its end. @param {string[]} words */
  async #do(words) {
    await run(/** @type {string} */ (this.tripod), ["--data", this.dir, ...words], { timeout: UP_WITHIN_MS });
  }

  /** kill -9 on this stack's QuestDB; its supervisor starts it again. @returns {Promise<number>} when, by `performance.now()` */
  async killQuestdb() {
    for (const entry of await readdir("/proc")) {
      if (!/^\d+$/.test(entry)) continue;
      const line = await readFile(`/proc/${entry}/cmdline`, "utf8").catch(() => "");
      if (line.includes("-Dtripod.stack=") && line.includes(this.dir)) {
        const killed = performance.now();
        process.kill(Number(entry), "SIGKILL");
        return killed;
      }
    }
    throw new Error(`no QuestDB of ${this.dir} runs`);
  }

  /** @param {string[]} words @param {Record<string, string>} [environment] */
  #spawn(words, environment = {}) {
    const child = spawn(/** @type {string} */ (this.tripod), ["--data", this.dir, ...words], {
      env: { ...process.env, ...environment },
      stdio: ["ignore", "ignore", "pipe"],
    });
    child.stderr?.on("data", (text) => (this.words = `${this.words}${text}`.slice(-8_000)));
    this.#children.push(child);
  }

  async #answers() {
    const end = performance.now() + MONITOR_WITHIN_MS;
    for (;;) {
      const error = await this.snapshot().then(() => null, (error) => error);
      if (error === null) return;
      if (performance.now() > end) throw new Error(`the monitor does not answer at ${this.url}: ${error}`);
      await new Promise((done) => setTimeout(done, 100));
    }
  }

  async end() {
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const ended = new Promise((done) => child.once("exit", done));
      const timer = setTimeout(() => child.kill("SIGKILL"), END_WITHIN_MS);
      child.kill("SIGTERM");
      await ended;
      clearTimeout(timer);
    }
    this.#children = [];
    await this.#do(["down", "--wipe", "--yes"]).catch((error) => (this.words += String(error)));
    await rm(this.dir, { recursive: true, force: true });
  }
}
