// What the charts draw: the monitor's history, and every snapshot since.
//
// Constraints: bounded (POINTS_MOST); times ascend strictly. What the page adds of its own is computed as the monitor
// computes it, so that a line does not jump when the history is fetched again. A second that nobody saw is a gap in the line, not a
// straight stroke across it.

import { isNumber, parseTime } from "./format.js";
import { total } from "./ledger.js";
import { levelOf } from "./levels.js";

/** @typedef {import("./contract.js").Snapshot} Snapshot */
/** @typedef {import("./contract.js").SeriesName} SeriesName */
/** @typedef {import("./contract.js").HistoryColumns} HistoryColumns */

/** A quarter of an hour at one point a second, as the monitor itself keeps. */
const POINTS_MOST = 900;
/** Cut only now and then: cutting costs a copy. */
const SLACK = 60;
/** Seconds back that a clock may step without making all that was seen meaningless. */
const BACK_MOST_S = 2;
/** Steps that may be missing before the line breaks. */
const GAP_STEPS = 3;

/** @type {SeriesName[]} */
export const SERIES = ["recorded_per_s", "visible_per_s", "pending_rows", "visible_p99_ms", "price_oldest_ms", "stream_lag"];

/**
 * By a server's name, which may be any text, "constructor" too: so without a prototype.
 * @template T
 * @param {Iterable<[string, T]>} entries
 * @returns {Record<string, T>}
 */
const byName = (entries) => Object.assign(Object.create(null), Object.fromEntries(entries));

/** @param {(number | null)[]} values */
const largest = (values) => {
  const known = values.filter(isNumber);
  return known.length === 0 ? null : Math.max(...known);
};

/** @param {Snapshot} snapshot @returns {Record<SeriesName, number | null>} */
export function pointOf(snapshot) {
  return {
    recorded_per_s: snapshot.rates.recorded_per_s,
    visible_per_s: snapshot.rates.visible_per_s,
    pending_rows: total(snapshot.ledger, "pending"),
    visible_p99_ms: snapshot.visible_ms.p99,
    price_oldest_ms: largest(snapshot.prices.list.map((price) => price.age_ms)),
    stream_lag: largest(snapshot.streams.flatMap((stream) => stream.groups.map((group) => group.lag))),
  };
}

/** One column per series. @template T @param {(name: SeriesName) => T} make */
const perSeries = (make) => /** @type {Record<SeriesName, T>} */ (Object.fromEntries(SERIES.map((name) => [name, make(name)])));

export class History {
  stepS = 1;
  /** @type {number[]} */
  at = [];
  /** @type {Record<SeriesName, (number | null)[]>} */
  series = perSeries(() => []);
  /** @type {Record<string, (number | null)[]>} */
  serverUp = byName([]);

  clear() {
    this.at = [];
    this.series = perSeries(() => []);
    this.serverUp = byName([]);
  }

  /** Takes over what the monitor remembers; points seen since then stay. @param {unknown} raw the JSON of /api/history */
  replace(raw) {
    const { at, kept: good, series, server_up: serverUp, stepS } = readHistory(raw);
    const later = this.at.findIndex((second) => second > (at[at.length - 1] ?? -Infinity));
    const kept = later === -1 ? [] : this.at.slice(later).map((second, index) => ({ second, point: this.#point(later + index) }));
    this.clear();
    this.stepS = stepS;
    this.at = at;
    for (const name of SERIES) this.series[name] = column(series[name], good);
    for (const [name, values] of Object.entries(serverUp)) this.serverUp[name] = column(values, good);
    for (const { second, point } of kept) this.#add(second, point.values, point.up);
  }

  /** @param {Snapshot} snapshot */
  push(snapshot) {
    const ms = parseTime(snapshot.at);
    if (ms === null) return;
    const up = byName(
      snapshot.servers.map((server) => {
        const level = levelOf(server.state);
        return /** @type {[string, number | null]} */ ([server.name ?? "", level === "unknown" ? null : level === "bad" ? 0 : 1]);
      }),
    );
    this.#add(ms / 1000, pointOf(snapshot), up);
  }

  /** @param {number} index */
  #point(index) {
    const values = perSeries((name) => this.series[name][index] ?? null);
    const up = byName(Object.entries(this.serverUp).map(([name, all]) => [name, all[index] ?? null]));
    return { values, up };
  }

  /** @param {number} second @param {Record<SeriesName, number | null>} values @param {Record<string, number | null>} up */
  #add(second, values, up) {
    const last = this.at[this.at.length - 1];
    if (last !== undefined && second <= last) {
      if (last - second < BACK_MOST_S) return;
      this.clear(); // The monitor's clock went back: what was seen lies in its future.
    } else if (last !== undefined && second - last > GAP_STEPS * this.stepS) {
      this.#append(last + this.stepS, null, byName([]));
    }
    this.#append(second, values, up);
    if (this.at.length > POINTS_MOST + SLACK) this.#cut(this.at.length - POINTS_MOST);
  }

  /** @param {number} second @param {Record<SeriesName, number | null> | null} values @param {Record<string, number | null>} up */
  #append(second, values, up) {
    const length = this.at.push(second);
    for (const name of SERIES) this.series[name].push(values?.[name] ?? null);
    for (const name of Object.keys(up)) this.serverUp[name] ??= new Array(length - 1).fill(null);
    for (const [name, column] of Object.entries(this.serverUp)) column.push(up[name] ?? null);
  }

  /** @param {number} points */
  #cut(points) {
    this.at = this.at.slice(points);
    for (const name of SERIES) this.series[name] = this.series[name].slice(points);
    for (const name of Object.keys(this.serverUp)) this.serverUp[name] = (this.serverUp[name] ?? []).slice(points);
  }

  /** The last so many seconds before the newest point. @param {number} seconds @returns {HistoryColumns} */
  window(seconds) {
    const end = this.at[this.at.length - 1] ?? 0;
    let from = this.at.findIndex((second) => second >= end - seconds);
    if (from === -1) from = this.at.length;
    return {
      at: this.at.slice(from),
      series: perSeries((name) => this.series[name].slice(from)),
      serverUp: byName(Object.entries(this.serverUp).map(([name, values]) => [name, values.slice(from)])),
    };
  }
}

/** The values of the good times; what is no number is a gap. @param {unknown} values @param {number[]} indices */
function column(values, indices) {
  const given = Array.isArray(values) ? values : [];
  return indices.map((index) => (isNumber(given[index]) ? given[index] : null));
}

/** @param {unknown} raw */
function readHistory(raw) {
  const value = /** @type {Record<string, any>} */ (typeof raw === "object" && raw !== null ? raw : {});
  const at = /** @type {unknown[]} */ (Array.isArray(value.at) ? value.at : []);
  let last = -Infinity;
  /** Where the times are good ones: those that ascend. */
  const kept = at.flatMap((second, index) => {
    if (!isNumber(second) || second <= last) return [];
    last = second;
    return [index];
  });
  return {
    at: kept.map((index) => Number(at[index])),
    kept,
    series: /** @type {Record<string, unknown>} */ (value.series ?? {}),
    server_up: /** @type {Record<string, unknown>} */ (value.series?.server_up ?? value.server_up ?? {}),
    stepS: isNumber(value.step_ms) && value.step_ms > 0 ? value.step_ms / 1000 : 1,
  };
}

/**
 * Where a server was down: from the first point that says so to the first that says otherwise.
 * @param {number[]} at
 * @param {(number | null)[]} up
 * @returns {{ from: number, to: number }[]} Unix seconds
 */
export function downSpans(at, up) {
  /** @type {{ from: number, to: number }[]} */
  const spans = [];
  /** @type {number | null} */
  let from = null;
  at.forEach((second, index) => {
    if (up[index] === 0) {
      from ??= second;
    } else if (from !== null) {
      spans.push({ from, to: second });
      from = null;
    }
  });
  const last = at[at.length - 1];
  if (from !== null && last !== undefined) spans.push({ from, to: last });
  return spans;
}
