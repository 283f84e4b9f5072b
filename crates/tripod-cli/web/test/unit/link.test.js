import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { SILENT_MS, follow } from "../../src/link.js";

/** A line that does what the test says. */
class Line {
  constructor() {
    /** @type {Record<string, (event: any) => void>} */
    this.heard = {};
    this.closed = false;
  }
  /** @param {string} name @param {(event: any) => void} heard */
  addEventListener(name, heard) {
    this.heard[name] = heard;
  }
  close() {
    this.closed = true;
  }
  /** @param {string} name @param {string} [data] */
  fire(name, data = "{}") {
    this.heard[name]?.({ data });
  }
}

let now = 0;
/** @type {Line[]} */
let lines = [];
/** @type {string[]} */
let phases = [];
/** @type {unknown[]} */
let heard = [];
let opened = 0;
let every = 1;
let look = () => {};
/** @type {{ close: () => void }} */
let link;

const last = () => /** @type {Line} */ (lines[lines.length - 1]);

/** @param {number} ms */
function pass(ms) {
  for (let spent = 0; spent < ms; spent += 50) {
    now += 50;
    if (now % every === 0) look();
  }
}

beforeEach(() => {
  [now, lines, phases, heard, opened] = [0, [], [], [], 0];
  link = follow({
    open() {
      lines.push(new Line());
      return last();
    },
    onSnapshot: (raw) => heard.push(raw),
    onState: ({ phase }) => phases.at(-1) !== phase && phases.push(phase),
    onOpen: () => (opened += 1),
    every(given, ms) {
      [look, every] = [given, ms];
      return () => (look = () => {});
    },
    monotonic: () => now,
    wall: () => 1_000_000 + now,
  });
});

afterEach(() => {
  link.close();
});

test("live from the first snapshot on, and lost within three seconds of silence", () => {
  last().fire("open");
  last().fire("snapshot", '{"seq":1}');
  assert.deepEqual([phases, heard, opened], [["live"], [{ seq: 1 }], 1]);
  pass(SILENT_MS);
  assert.deepEqual(phases, ["live"]);
  pass(3_000 - SILENT_MS);
  assert.deepEqual(phases, ["live", "lost"]);
});

test("a line that froze without closing is opened anew, and so is one that closed", () => {
  last().fire("snapshot");
  pass(7_000);
  assert.ok(lines.length >= 2, "frozen");
  assert.ok(lines[0]?.closed);
  const before = lines.length;
  last().fire("error");
  assert.ok(last().closed);
  pass(4_500);
  assert.ok(lines.length > before, "closed");
  last().fire("snapshot");
  assert.equal(phases.at(-1), "live");
});

test("the pause between tries grows, and starts again once data came", () => {
  for (let fails = 0; fails < 6; fails += 1) {
    last().fire("error");
    const count = lines.length;
    while (lines.length === count) pass(50);
  }
  const grown = now;
  last().fire("error");
  let count = lines.length;
  while (lines.length === count) pass(50);
  const slow = now - grown;
  assert.ok(slow >= 3_900 && slow <= 4_600, `${slow} ms at most four seconds`);
  last().fire("snapshot");
  last().fire("error");
  const from = now;
  count = lines.length;
  while (lines.length === count) pass(50);
  assert.ok(now - from < 1_000, `${now - from} ms`);
});

test("an old line that still speaks is not heard", () => {
  const old = last();
  old.fire("error");
  pass(1_000);
  assert.notEqual(last(), old);
  old.fire("snapshot", '{"seq":9}');
  assert.deepEqual(heard, []);
});

test("a word that is no JSON is silence, not a crash", () => {
  last().fire("snapshot", "<html>");
  pass(3_000);
  assert.deepEqual(phases, ["lost"]);
  assert.deepEqual(heard, []);
});
