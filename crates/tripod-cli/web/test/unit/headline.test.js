import assert from "node:assert/strict";
import { test } from "node:test";
import { clock } from "../../src/format.js";
import { headline, isNews, lostHeadline, serverTitle } from "../../src/headline.js";
import { readSnapshot } from "../../src/snapshot.js";
import { Stack, nonsense, nothingYet, nulls, wild } from "../fixture/scenes.js";

const AT = Date.UTC(2026, 10, 23, 12, 0, 0);

/** @param {string[]} down @param {(value: any) => void} [change] */
function shown(down = [], change = () => {}) {
  const value = new Stack().snapshot({ tick: 1, at: AT, down: new Set(down) });
  change(value);
  return headline(readSnapshot(value));
}

test("all well: the servers, the ledger, how long until visible", () => {
  const { level, lead, detail, spoken } = shown();
  assert.equal(level, "ok");
  assert.equal(lead, "All well");
  assert.match(detail, /^4\u00a0servers up, the ledger adds up, rows visible \d+\u00a0ms after they were recorded$/);
  assert.doesNotMatch(spoken, /ms/, "a figure that changes each second is not read out each second");
});

test("QuestDB down: since when, what it means, and what waits", () => {
  const { level, lead, detail } = shown(["questdb"], (value) => {
    value.ledger[0].pending += 12_000;
  });
  assert.equal(level, "bad");
  assert.equal(lead, `QuestDB is down since ${clock(AT)}`);
  assert.match(detail, /^rows wait in the journal, nothing is lost: 1\d,\d{3} pending$/);
});

test("what leads also leads to what to do about it, and where all is well there is nothing to do", () => {
  assert.equal(shown(["questdb"]).runbook, "docs/alerts.md#tripodserverdown");
  assert.equal(shown().runbook ?? null, null);
  const wrong = shown([], (value) => {
    value.ledger[1].adds_up = false;
    value.alerts = [
      { id: "disk-low", severity: "warning", what: "disk", since: null, runbook: "docs/alerts.md#tripoddisklow" },
      { id: "ledger-wrong", severity: "critical", what: "a row", since: null, runbook: "docs/alerts.md#tripodledgerdoesnotaddup" },
    ];
  });
  assert.equal(wrong.runbook, "docs/alerts.md#tripodledgerdoesnotaddup", "its own, and not the first one's");
});

test("it never says that nothing is lost where a row was dropped or the ledger does not add up", () => {
  const dropped = shown(["questdb"], (value) => (value.ledger[1].dropped = 7));
  assert.doesNotMatch(dropped.detail, /nothing is lost/);
  assert.match(dropped.detail, /7 dropped/);
  const wrong = shown(["questdb"], (value) => (value.ledger[1].adds_up = false));
  assert.doesNotMatch(wrong.detail, /nothing is lost/);
  assert.match(wrong.detail, /Also: The ledger does not add up/);
  const unknown = shown(["questdb"], (value) => (value.ledger[1].adds_up = null));
  assert.doesNotMatch(unknown.detail, /nothing is lost/);
});

test("several servers down are one line, each with what it means", () => {
  const { lead, detail } = shown(["postgres", "redis-events"]);
  assert.match(lead, /^PostgreSQL and Redis events are down since /);
  assert.match(detail, /writes fail/);
  assert.match(detail, /publishing fails/);
});

test("a server that is not required is a warning, and hides none that is", () => {
  const optional = (/** @type {any} */ value) => value.servers.push({ ...value.servers[0], name: "questdb-b", state: "down", required: false });
  const alone = shown([], optional);
  assert.deepEqual([alone.level, alone.lead.slice(0, 17)], ["warn", "QuestDB b is down"]);
  const both = shown(["postgres"], optional);
  assert.equal(both.level, "bad");
  assert.match(both.lead, /^PostgreSQL is down/);
  assert.match(both.detail, /Also: QuestDB b is down/);
});

test("a ledger that does not add up is worse than any warning", () => {
  const { level, lead } = shown([], (value) => {
    value.ledger[2].adds_up = false;
    value.alerts = [{ id: "a", severity: "warning", what: "a stream is nearly full", since: null, runbook: null }];
  });
  assert.deepEqual([level, lead], ["bad", "The ledger does not add up"]);
});

test("alerts, sinks, components: each turns the headline from green", () => {
  const alert = (/** @type {string} */ severity) => shown([], (value) => (value.alerts = [{ id: "x", severity, what: "the disk is nearly full." }]));
  assert.deepEqual([alert("critical").level, alert("critical").lead], ["bad", "The disk is nearly full"]);
  assert.equal(alert("warning").level, "warn");
  assert.match(shown([], (value) => (value.sinks[0].state = "disk_full")).lead, /^Sink main: disk full$/);
  const failed = shown([], (value) => (value.health[0].status = "stale"));
  assert.deepEqual([failed.level, failed.lead, failed.detail], ["bad", "Component arbitrage is silent", "mode trading, open 3"]);
  assert.equal(shown([], (value) => (value.servers[0].state = "degraded")).level, "warn");
  assert.equal(shown([], (value) => (value.servers[0].state = "who knows")).level, "unknown");
  assert.equal(shown([], (value) => (value.ok = false)).level, "warn");
});

test("news is what differs by more than its figures", () => {
  assert.equal(isNews("Group archive is 9,200 events behind", "Group archive is 9,304 events behind"), false);
  assert.equal(isNews("QuestDB is down since 12:03:04", "All well, 4 servers up"), true);
});

test("a ledger of which nobody knows whether it adds up is not called well", () => {
  assert.equal(shown([], (value) => (value.ledger[0].adds_up = null)).level, "unknown");
});

test("no strange snapshot throws or is called well", () => {
  for (const scene of [nothingYet, nulls, nonsense, wild]) {
    const { level, lead } = headline(readSnapshot(scene({ tick: 1, at: AT, down: new Set() })));
    assert.notEqual(level, "ok", scene.name);
    assert.notEqual(lead, "", scene.name);
  }
});

test("servers' names as people say them", () => {
  const title = (/** @type {any} */ name, /** @type {any} */ kind) => serverTitle(/** @type {any} */ ({ name, kind }));
  assert.equal(title("questdb", "questdb"), "QuestDB");
  assert.equal(title("questdb-b", "questdb"), "QuestDB b");
  assert.equal(title("redis-prices", "redis"), "Redis prices");
  assert.equal(title("events", "redis"), "Redis events");
  assert.equal(title("thing", "constructor"), "thing");
  assert.equal(title(null, null), "a server without a name");
});

test("a silent monitor: since when, or that its token is missing", () => {
  const silent = lostHeadline({ lastAt: AT, silentMs: 5_200, refused: false });
  assert.equal(silent.lead, `No word from the monitor since ${clock(AT)}`);
  assert.match(silent.detail, /Silent for 5\.2\u00a0s/);
  assert.match(lostHeadline({ lastAt: null, silentMs: 0, refused: true }).lead, /token/);
});
