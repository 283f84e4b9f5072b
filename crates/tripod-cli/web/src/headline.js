// The one line of truth: what an operator must know before anything else.
//
// Constraints: pure. It never says more than the snapshot does: "nothing is lost" needs a ledger that adds up and no
// dropped row. The worst comes first; what else is wrong follows in few words, for the panels below say the rest.
// `spoken` is what a screen reader is told, once: it is news where it differs by more than its figures (`isNews`).

import { clock, count, counted, detailWords, duration, isNumber, listed, moment, parseTime } from "./format.js";
import { addsUp, total } from "./ledger.js";
import { levelOf, wordFor } from "./levels.js";

/** @typedef {import("./contract.js").Snapshot} Snapshot */
/** @typedef {import("./contract.js").Server} Server */
/** @typedef {import("./contract.js").Level} Level */
/** @typedef {{ level: Level, lead: string, detail: string, spoken: string, runbook?: string | null }} Headline */
/** @typedef {{ level: Level, lead: string, detail?: string, known?: boolean, alert?: string | null }} Problem */
/** @typedef {import("./contract.js").Alert} Alert */

/** Other problems that are named behind the first one. */
const OTHERS_MOST = 3;

/** @type {Record<string, string>} */
const PRODUCTS = { questdb: "QuestDB", postgres: "PostgreSQL", postgresql: "PostgreSQL", redis: "Redis" };

/** "questdb-b" of kind questdb is "QuestDB b". @param {Server} server */
export function serverTitle(server) {
  const kind = server.kind?.toLowerCase() ?? "";
  const product = Object.hasOwn(PRODUCTS, kind) ? PRODUCTS[kind] : undefined;
  const name = server.name ?? "";
  if (!product) return name || server.kind || "a server without a name";
  const rest = name.toLowerCase().startsWith(kind) ? name.slice(kind.length).replace(/^[-_ ]+/, "") : name;
  return rest === "" ? product : `${product} ${rest}`;
}

/** What it means that a server does not answer, for the bot that goes on. @param {Server} server @param {Snapshot} snapshot */
function consequence(server, snapshot) {
  const kind = server.kind?.toLowerCase() ?? "";
  if (kind === "questdb") {
    const pending = total(snapshot.ledger, "pending");
    const waiting = pending === null ? "" : `: ${count(pending)} pending`;
    const dropped = total(snapshot.ledger, "dropped");
    if (addsUp(snapshot.ledger) === true && dropped === 0) {
      return `rows wait in the journal, nothing is lost${waiting}`;
    }
    return `rows wait in the journal${waiting}${dropped ? `; ${count(dropped)} dropped` : ""}`;
  }
  if (kind.startsWith("postgres")) return "tokens and settings in memory go on, with their age; writes fail until it is back";
  if (server.name?.includes("prices")) return "prices are read from memory until their life is over, then they are stale";
  if (server.name?.includes("events")) return "publishing fails or waits by its policy; readers go on when it is back";
  return server.detail ?? "";
}

/**
 * The first alert of one of these kinds that says something of `about`.
 * @param {Snapshot} snapshot @param {string[]} ids @param {(string | null)[]} [about]
 */
function alertOf(snapshot, ids, about = [""]) {
  const said = (/** @type {Alert} */ alert) => about.some((name) => (alert.what ?? "").includes(name ?? ""));
  return snapshot.alerts.find((alert) => ids.includes(alert.id ?? "") && said(alert))?.runbook ?? null;
}

/** @param {Snapshot} snapshot @returns {Problem[]} the worst first */
function problems(snapshot) {
  const now = parseTime(snapshot.at) ?? Date.now();
  /** @type {Problem[]} */
  const found = [];
  const away = snapshot.servers.filter((server) => levelOf(server.state) === "bad");
  // One that is not required holds nothing up: it is a warning, as it is to the monitor.
  const groups = [away.filter((server) => server.required !== false), away.filter((server) => server.required === false)];
  groups.forEach((down, index) => {
    if (down.length === 0) return;
    const since = down.map((server) => parseTime(server.since)).filter(isNumber);
    const from = since.length > 0 ? ` since ${moment(Math.min(...since), now)}` : "";
    const meaning = [...new Set(down.map((server) => consequence(server, snapshot)).filter((words) => words !== ""))];
    found.push({
      level: index === 0 ? "bad" : "warn",
      lead: `${listed(down.map(serverTitle))} ${down.length === 1 ? "is" : "are"} down${from}`,
      detail: index === 0 ? meaning.join("; ") : "not required: nothing waits for its sake",
      alert: alertOf(snapshot, ["server-down", "optional-server-down"], down.map((server) => server.name)),
    });
  });
  if (addsUp(snapshot.ledger) === false) {
    const wrong = snapshot.ledger.filter((row) => row.adds_up === false);
    const names = [...new Set(wrong.map((row) => row.table ?? "a table"))];
    found.push({
      level: "bad",
      lead: "The ledger does not add up",
      detail: `a row of ${listed(names.slice(0, 4))} is missing or counted twice`,
      alert: alertOf(snapshot, ["ledger-wrong"]),
    });
  }
  for (const server of snapshot.servers.filter((server) => levelOf(server.state) === "warn")) {
    const alert = alertOf(snapshot, ["server-degraded"], [server.name]);
    found.push({ level: "warn", lead: `${serverTitle(server)} is ${wordFor(server.state)}`, detail: server.detail ?? "", alert });
  }
  for (const sink of snapshot.sinks.filter((sink) => levelOf(sink.state) === "bad")) {
    // A sink whose server is away is said by the server.
    if (sink.state === "unavailable" && away.some((server) => server.kind === "questdb")) continue;
    const level = sink.required === false ? "warn" : "bad";
    const alert = alertOf(snapshot, ["sink-stopped"], [sink.name]);
    found.push({ level, lead: `Sink ${sink.name ?? ""}: ${wordFor(sink.state)}`, detail: sink.detail ?? "", alert });
  }
  for (const one of snapshot.health.filter((one) => levelOf(one.status) === "bad")) {
    const word = wordFor(one.status);
    const lead = `Component ${one.component ?? ""} ${word === "stale" ? "is silent" : word}`;
    const alert = alertOf(snapshot, ["component-failed", "component-stale"], [one.component]);
    found.push({ level: "bad", lead, detail: detailWords(one.detail), alert });
  }
  // An alert says in its words what mostly stands above already; where nothing does, it leads.
  for (const alert of snapshot.alerts) {
    const level = levelOf(alert.severity) === "bad" ? "bad" : "warn";
    found.push({ level, lead: sentence(alert.what ?? alert.id), known: true, alert: alert.runbook });
  }
  return found.sort((one, other) => Number(one.level !== "bad") - Number(other.level !== "bad"));
}

/** @param {string | null} words */
function sentence(words) {
  if (!words) return "An alert without words";
  return words.charAt(0).toUpperCase() + words.slice(1).replace(/\.$/, "");
}

/** @param {Snapshot} snapshot */
function wellDetail(snapshot) {
  const parts = [`${counted(snapshot.servers.length, "server")} up`];
  const sum = addsUp(snapshot.ledger);
  if (snapshot.ledger.length === 0) parts.push("no row was recorded yet");
  else if (sum === true) parts.push("the ledger adds up");
  const { p50 } = snapshot.visible_ms;
  if (isNumber(p50)) parts.push(`rows visible ${duration(p50)} after they were recorded`);
  const pending = total(snapshot.ledger, "pending");
  if (pending) parts.push(`${count(pending)} pending`);
  return parts.join(", ");
}

/** @param {Snapshot} snapshot @returns {Headline} */
export function headline(snapshot) {
  const found = problems(snapshot);
  const [first] = found;
  if (first) {
    // Alerts mostly say again what the first line says; they have their own place right below.
    const others = found.slice(1).filter((problem) => !problem.known || first.known);
    const also = others.slice(0, OTHERS_MOST).map((problem) => problem.lead);
    if (others.length > OTHERS_MOST) also.push(`${others.length - OTHERS_MOST} more`);
    const parts = [first.detail ?? "", also.length > 0 ? `Also: ${also.join("; ")}` : ""].filter((part) => part !== "");
    return {
      level: first.level,
      lead: first.lead,
      detail: parts.join(". "),
      spoken: [first.lead, ...also].join(". "),
      runbook: first.alert ?? null,
    };
  }
  if (snapshot.servers.length === 0) {
    const lead = "The monitor knows of no server";
    return { level: "unknown", lead, detail: "Start the local stack with tripod up, or name the servers in the config", spoken: lead };
  }
  const silent = snapshot.servers.filter((server) => levelOf(server.state) === "unknown");
  if (silent.length > 0) {
    const lead = `Nothing is known of ${listed(silent.map(serverTitle))} yet`;
    return { level: "unknown", lead, detail: "", spoken: lead };
  }
  if (snapshot.ledger.length > 0 && addsUp(snapshot.ledger) === null) {
    const lead = "Whether the ledger adds up is not known";
    return { level: "unknown", lead, detail: wellDetail(snapshot), spoken: lead };
  }
  if (snapshot.ok === false) {
    const lead = "Something is wrong";
    return { level: "warn", lead, detail: "tripod status names it", spoken: lead };
  }
  return { level: "ok", lead: "All well", detail: wellDetail(snapshot), spoken: `All well, ${snapshot.servers.length} servers up` };
}

/**
 * While the monitor itself is silent.
 * @param {{ lastAt: number | null, silentMs: number, refused: boolean }} link
 * @returns {Headline}
 */
export function lostHeadline({ lastAt, silentMs, refused }) {
  if (refused) {
    const lead = "The monitor wants its token";
    const detail = "Open its address once with /?token=… behind it; the token is the one of [monitor] in its config";
    return { level: "bad", lead, detail, spoken: lead };
  }
  const lead = lastAt === null ? "No word from the monitor yet" : `No word from the monitor since ${clock(lastAt)}`;
  const shown = lastAt === null ? "" : `Silent for ${duration(silentMs)}. What stands below is what was known then. `;
  return { level: "bad", lead, detail: `${shown}Trying again; does tripod monitor still run?`, spoken: lead };
}

/** Whether `spoken` says something else, and not the same with another figure. @param {string} spoken @param {string} told */
export function isNews(spoken, told) {
  const without = (/** @type {string} */ text) => text.replace(/[\d.,:\s]+/g, " ");
  return without(spoken) !== without(told);
}
