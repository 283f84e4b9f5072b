import assert from "node:assert/strict";
import { test } from "node:test";
import * as format from "../../src/format.js";

/** Spaces that do not break, as plain ones. @param {string} text */
const plain = (text) => text.replaceAll("\u00a0", " ");

/** @param {(value: any) => string} written @param {[unknown, string][]} cases */
function check(written, cases) {
  for (const [value, words] of cases) assert.equal(plain(written(value)), words, `${written.name}(${value})`);
}

test("what is no number is a dash, in every function", () => {
  for (const value of [null, undefined, NaN, Infinity, "7", {}, []]) {
    for (const written of [format.count, format.compact, format.bytes, format.duration, format.ago, format.clock]) {
      assert.equal(written(/** @type {any} */ (value)), format.UNKNOWN, `${written.name}(${String(value)})`);
    }
  }
});

test("counts keep every digit", () => {
  check(format.count, [[0, "0"], [12_345, "12,345"], [-5, "−5"], [1e15, "1,000,000,000,000,000"], [1.6, "2"]]);
  assert.equal(plain(format.counted(1, "row")), "1 row");
  assert.equal(plain(format.counted(2, "row")), "2 rows");
});

test("compact numbers have three digits", () => {
  check(format.compact, [
    [0, "0"], [0.25, "0.3"], [12.4, "12"], [9_999, "9,999"], [10_000, "10 K"], [12_345, "12.3 K"],
    [84_231_907, "84.2 M"], [2e9, "2 B"], [1e15, "1,000 T"], [-84_231_907, "−84.2 M"],
  ]);
});

test("bytes", () => {
  check(format.bytes, [[0, "0 B"], [1_023, "1,023 B"], [1_536, "1.5 KiB"], [1_073_741_824, "1.0 GiB"], [9e15, "8.0 PiB"], [-2_048, "−2.0 KiB"]]);
});

test("durations have two units at most", () => {
  check(format.duration, [
    [0, "0 ms"], [0.4, "0.4 ms"], [140, "140 ms"], [999.4, "999 ms"], [999.6, "1.0 s"], [1_400, "1.4 s"], [9_960, "10 s"],
    [59_400, "59 s"], [59_600, "1 min"], [200_000, "3 min 20 s"], [3_600_000, "1 h"], [18_720_000, "5 h 12 min"],
    [273_600_000, "3 d 4 h"], [-1_400, "−1.4 s"],
  ]);
});

test("an age before now is said to be one", () => {
  check(format.ago, [[140, "140 ms ago"], [-1_400, "1.4 s ahead of the clock"]]);
});

test("times: as short as they can be read without doubt", () => {
  const at = (/** @type {string} */ text) => /** @type {number} */ (format.parseTime(text));
  const now = new Date(2026, 10, 23, 12, 3, 4).getTime();
  assert.equal(format.moment(now, now), "12:03:04");
  assert.equal(plain(format.moment(new Date(2026, 10, 21, 9, 5).getTime(), now)), "21 Nov 09:05");
  assert.equal(plain(format.moment(new Date(2025, 0, 2).getTime(), now)), "2 Jan 2025");
  assert.equal(format.moment(8.7e15, now), format.UNKNOWN, "a time that no date can hold");
  assert.equal(at("2026-11-23T12:03:04.123456789Z"), Date.UTC(2026, 10, 23, 12, 3, 4, 123));
  assert.equal(format.parseTime("yesterday"), null);
  assert.equal(format.utc(Date.UTC(2026, 10, 23, 12, 3, 4)), "2026-11-23 12:03:04 UTC");
  assert.equal(format.utc(8.7e15), "not known");
});

test("a share that is not nothing is not 0 %, and one that is not all is not 100 %", () => {
  const share = (/** @type {number} */ part, /** @type {number} */ all) => plain(format.percent(part, all));
  assert.equal(share(0, 10), "0 %");
  assert.equal(share(1, 100_000), "< 0.1 %");
  assert.equal(share(4, 100), "4.0 %");
  assert.equal(share(99_999, 100_000), "99 %");
  assert.equal(share(10, 10), "100 %");
  assert.equal(share(1, 0), format.UNKNOWN);
});

test("lists and long names", () => {
  assert.equal(format.listed([]), "");
  assert.equal(format.listed(["a", "b", "c"]), "a, b and c");
  assert.equal(format.shortened("So11111111111111111111111111111111111111112", 11), "So111…11112");
  assert.equal(format.shortened("SOL"), "SOL");
  assert.equal(format.shortened(""), format.UNKNOWN);
  assert.equal(format.shortened("💰".repeat(40), 5), "💰💰…💰💰", "whole characters, not halves");
});

test("details that are JSON are read without its signs, and what is none stays as it is", () => {
  assert.equal(format.detailWords('{"left":3,"why":"slow","nodes":[1]}'), "left 3, why slow, nodes [1]");
  assert.equal(format.detailWords("{}"), "");
  for (const words of ["plain words", '{"cut":"sho', "7", "[1]", ""]) assert.equal(format.detailWords(words), words);
  assert.equal(format.detailWords(null), "");
});
