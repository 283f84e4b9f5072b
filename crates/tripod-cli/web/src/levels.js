// What a word of the monitor means to an operator: as it should be, look at it, act now, not known.
//
// Constraints: a closed list; a word that is not in it is `unknown` and shown as it came, never taken for good news.
// A level is never told by colour alone: each has its icon, and the word stands beside it.

/** @typedef {import("./contract.js").Level} Level */

/** @type {Record<string, Level>} */
const LEVELS = {
  // servers and replicas
  up: "ok",
  running: "ok",
  degraded: "warn",
  wrong: "warn",
  down: "bad",
  unreachable: "bad",
  // sinks
  starting: "warn",
  delivering: "ok",
  unavailable: "bad",
  schema: "bad",
  login: "bad",
  certificate: "bad",
  disk_full: "bad",
  quarantine: "bad",
  journal: "bad",
  detached: "bad",
  suspended: "bad",
  closed: "unknown",
  not_running: "unknown",
  // components
  ok: "ok",
  failed: "bad",
  stale: "bad",
  stopped: "unknown",
  // alerts
  critical: "bad",
  warning: "warn",
};

/** What a sink's state says to somebody who has not read its documentation. @type {Record<string, string>} */
const WORDS = {
  unavailable: "QuestDB away",
  schema: "waits for tripod migrate",
  login: "login refused",
  certificate: "certificate not trusted",
  disk_full: "disk full",
  quarantine: "quarantine full",
  journal: "journal unreadable",
  not_running: "not running",
};

/** @param {string | null} word @returns {Level} */
export function levelOf(word) {
  if (word === null) return "unknown";
  const key = word.toLowerCase();
  return Object.hasOwn(LEVELS, key) ? /** @type {Level} */ (LEVELS[key]) : "unknown";
}

/** @param {string | null} word */
export function wordFor(word) {
  if (word === null || word === "") return "not known";
  return Object.hasOwn(WORDS, word) ? /** @type {string} */ (WORDS[word]) : word;
}

/** @type {Record<Level, number>} */
const RANK = { bad: 0, warn: 1, unknown: 2, ok: 3 };

/** The worst first, for sorting. @param {Level} one @param {Level} other */
export const worstFirst = (one, other) => RANK[one] - RANK[other];
