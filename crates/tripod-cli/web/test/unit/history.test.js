import assert from "node:assert/strict";
import { test } from "node:test";
import { runs } from "../../src/runs.js";
import { History, SERIES, downSpans } from "../../src/history.js";
import { readSnapshot } from "../../src/snapshot.js";
import { Stack, wild } from "../fixture/scenes.js";

const AT = Date.UTC(2026, 10, 23, 12, 0, 0);

/** @param {number} second @param {string[]} [down] */
const snapshotAt = (second, down = []) =>
  readSnapshot(new Stack().snapshot({ tick: second, at: AT + second * 1000, down: new Set(down) }));

/** @param {number} length @param {number} [from] */
const remembered = (length, from = AT / 1000) => ({
  step_ms: 1000,
  at: Array.from({ length }, (_, index) => from + index),
  series: {
    ...Object.fromEntries(SERIES.map((name) => [name, Array.from({ length }, (_, index) => index)])),
    server_up: { questdb: Array.from({ length }, () => 1) },
  },
});

test("all columns are as long as the times, whatever comes", () => {
  const history = new History();
  history.replace({ step_ms: 1000, at: [1, 2, 3], series: { recorded_per_s: [1, "x"], pending_rows: null, server_up: { a: [1], constructor: [0, 0, 0] } } });
  history.push(snapshotAt(1));
  history.push(readSnapshot(wild({ tick: 2, at: AT + 2_000, down: new Set() })));
  const { at, series, serverUp } = history.window(1e10);
  for (const values of [...Object.values(series), ...Object.values(serverUp)]) assert.equal(values.length, at.length);
  assert.deepEqual(series.recorded_per_s?.slice(0, 3), [1, null, null]);
  assert.deepEqual(serverUp["constructor"]?.slice(0, 3), [0, 0, 0]);
  assert.equal(serverUp.questdb?.at(-2), 1);
});

test("a history that cannot be read is no history", () => {
  for (const raw of [null, 7, {}, { at: ["3", null] }, { at: "all", series: 7 }]) {
    const history = new History();
    history.replace(raw);
    assert.deepEqual(history.window(60).at, []);
  }
});

test("times of a history that do not ascend are left out, with their values", () => {
  const history = new History();
  history.replace({ at: [1, 2, 2, 1, 3], series: { pending_rows: [10, 20, 21, 11, 30], server_up: { a: [1, 1, 0, 0, 1] } } });
  const { at, series, serverUp } = history.window(60);
  assert.deepEqual([at, series.pending_rows, serverUp.a], [[1, 2, 3], [10, 20, 30], [1, 1, 1]]);
});

test("points that came while the history was fetched stay", () => {
  const history = new History();
  for (const second of [8, 9, 10, 11]) history.push(snapshotAt(second));
  history.replace(remembered(10));
  const { at, series } = history.window(3_600);
  assert.deepEqual(at.map((second) => second - AT / 1000), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
  assert.equal(series.recorded_per_s?.[9], 9, "what the monitor remembers is better than what was seen");
});

test("seconds that nobody saw are a gap", () => {
  const history = new History();
  history.push(snapshotAt(1));
  history.push(snapshotAt(2));
  history.push(snapshotAt(60));
  const { at, series } = history.window(3_600);
  assert.equal(at.length, 4);
  assert.equal(series.recorded_per_s?.[2], null);
});

test("times ascend: a doubled second is dropped, a clock that went back starts anew", () => {
  const history = new History();
  for (const second of [10, 10, 11]) history.push(snapshotAt(second));
  assert.equal(history.at.length, 2);
  history.push(snapshotAt(3));
  assert.equal(history.at.length, 1);
});

test("it is bounded", () => {
  const history = new History();
  for (let second = 0; second < 2_000; second += 1) history.push({ ...snapshotAt(0), at: new Date(AT + second * 1000).toISOString() });
  assert.ok(history.at.length <= 960, String(history.at.length));
  assert.equal(history.at.at(-1), AT / 1000 + 1_999);
  assert.equal(history.series.pending_rows.length, history.at.length);
});

test("where a server was down", () => {
  assert.deepEqual(downSpans([1, 2, 3, 4, 5], [1, 0, 0, 1, 1]), [{ from: 2, to: 4 }]);
  assert.deepEqual(downSpans([1, 2, 3], [1, 1, 0]), [{ from: 3, to: 3 }]);
  assert.deepEqual(downSpans([1, 2, 3], [null, null, 1]), []);
  assert.deepEqual(runs([1, 2, 3, 4], [1, 1, 0, 0]), [{ from: 1, to: 3, value: 1 }, { from: 3, to: 4, value: 0 }]);
});
