import assert from "node:assert/strict";
import { test } from "node:test";
import { runbookPage } from "../../runbooks.mjs";
import { addsUp, bySink, total } from "../../src/ledger.js";
import { levelOf, wordFor } from "../../src/levels.js";
import { runbookHref } from "../../src/panels/alerts.js";
import { fillLevel } from "../../src/panels/journal.js";
import { diskLevel } from "../../src/panels/machine.js";
import { oldestFirst } from "../../src/panels/prices.js";
import { lagLevel } from "../../src/panels/streams.js";
import { readSnapshot } from "../../src/snapshot.js";
import { summary } from "../../src/runs.js";

test("a runbook is a link only to an entry that the page carries", () => {
  const known = new Set(["questdb-down"]);
  assert.equal(runbookHref("docs/alerts.md#questdb-down", known), "assets/runbooks.html#questdb-down");
  for (const runbook of [null, "", "docs/alerts.md#other", "javascript:alert(1)", "https://x.example/docs/alerts.md#questdb-down", "docs/alerts.md#questdb-down\njavascript:1"]) {
    assert.equal(runbookHref(runbook, known), null, String(runbook));
  }
});

test("the runbooks' page has GitHub's anchors, and no HTML of a file's", () => {
  const { html, ids } = runbookPage("# What to do\n\n## questdb-down\n\nRun `tripod up`.\n\n## QuestDB is away, again!\n\n<script>bad()</script>\n\n[here](#questdb-down) [there](delivery.md) [code](javascript:1)\n");
  assert.deepEqual(ids, ["what-to-do", "questdb-down", "questdb-is-away-again"]);
  assert.match(html, /<h2 id="questdb-down">/);
  assert.doesNotMatch(html, /<script>bad|javascript:/);
  assert.match(html, /<a href="#questdb-down"[^>]*>here<\/a> there code/);
});

test("a word that nobody agreed on is never good news", () => {
  for (const word of ["", "fine", "constructor", "__proto__", null]) assert.equal(levelOf(word), "unknown", String(word));
  assert.equal(levelOf("UP"), "ok");
  assert.equal(wordFor("disk_full"), "disk full");
  assert.equal(wordFor(null), "not known");
});

test("sums: what is not known is not counted, and nothing known is not zero", () => {
  const rows = readSnapshot({
    ledger: [
      { sink: "a", pending: 1, adds_up: true },
      { sink: "b", pending: null, adds_up: true },
      { sink: "a", pending: 4, adds_up: true },
    ],
  }).ledger;
  assert.equal(total(rows, "pending"), 5);
  assert.equal(total(rows, "dropped"), null);
  assert.equal(addsUp(rows), true);
  assert.equal(addsUp([]), null);
  assert.deepEqual([...bySink(rows)].map(([sink, those]) => [sink, those.length]), [["a", 2], ["b", 1]]);
});

test("when a bar changes its colour", () => {
  assert.deepEqual([fillLevel(75, 100), fillLevel(76, 100), fillLevel(91, 100), fillLevel(1, 0), fillLevel(null, 5)], ["ok", "warn", "bad", "unknown", "unknown"]);
  assert.deepEqual([lagLevel(5_000, 10_000), lagLevel(5_001, 10_000), lagLevel(10_000, 10_000), lagLevel(1, null)], ["ok", "warn", "bad", "unknown"]);
  const GIB = 1024 ** 3;
  assert.deepEqual([diskLevel(15 * GIB, 100 * GIB), diskLevel(14 * GIB, 100 * GIB), diskLevel(4 * GIB, 100 * GIB), diskLevel(GIB / 4, GIB)], ["ok", "warn", "bad", "bad"]);
});

test("prices: what is not known, then the oldest", () => {
  const list = readSnapshot({ prices: { list: [{ age_ms: 5 }, { age_ms: null }, { age_ms: 900 }, { age_ms: -1 }] } }).prices.list;
  assert.deepEqual(list.sort(oldestFirst).map((price) => price.age_ms), [null, 900, 5, -1]);
});

test("a chart in words", () => {
  const words = summary([{ label: "recorded" }, { label: "visible" }], [[1, null, 9, 4], [null]], String);
  assert.equal(words, "recorded: now 4, lowest 1, highest 9. visible: not known.");
});

test("text without end is cut", () => {
  assert.ok((readSnapshot({ version: "x".repeat(1e6) }).version ?? "").length < 3_000);
});
