// The charts: rates, what waits, how long until visible, prices, streams, and when which server was up.
//
// Constraints: the figures and their canvases are built once and stay; each second only data go in. Unlike the other panels this one owns
// its elements: a canvas is no text. All share one time axis and one pointer.

import { laneChart, lineChart } from "../chart.js";
import { UNKNOWN, clock, compact, count, duration, isNumber, listed } from "../format.js";
import { serverTitle } from "../headline.js";
import { downSpans } from "../history.js";
import { summary } from "../runs.js";

/** @typedef {import("../contract.js").SeriesName} SeriesName */
/** @typedef {import("../contract.js").HistoryColumns} HistoryColumns */
/** @typedef {import("../chart.js").Line & { series: SeriesName }} Drawn */
/**
 * @typedef {object} Figure
 * @property {string} id
 * @property {string} title
 * @property {Drawn[]} lines
 * @property {number} least the scale reaches so far at least
 * @property {(value: number) => string} short for the axis
 * @property {(value: number) => string} exact for the figure above the lines
 */

/** @type {Figure[]} */
const FIGURES = [
  {
    id: "rates",
    title: "Rows per second",
    least: 10,
    lines: [
      { label: "recorded", series: "recorded_per_s", colour: "chart-1", filled: true },
      { label: "visible", series: "visible_per_s", colour: "chart-2" },
    ],
    short: compact,
    exact: compact,
  },
  {
    id: "pending",
    title: "Rows pending",
    least: 10,
    lines: [{ label: "pending", series: "pending_rows", colour: "chart-3", filled: true }],
    short: compact,
    exact: count,
  },
  {
    id: "visible",
    title: "Recorded until visible, p99",
    least: 100,
    lines: [{ label: "p99", series: "visible_p99_ms", colour: "chart-2", filled: true }],
    short: duration,
    exact: duration,
  },
  {
    id: "prices",
    title: "Age of the oldest price",
    least: 1_000,
    lines: [{ label: "age", series: "price_oldest_ms", colour: "chart-4", filled: true }],
    short: duration,
    exact: duration,
  },
  {
    id: "streams",
    title: "Events to read, slowest group",
    least: 10,
    lines: [{ label: "largest lag", series: "stream_lag", colour: "chart-5", filled: true }],
    short: compact,
    exact: count,
  },
];

/** @param {HTMLElement} root @param {string} id @param {string} title @param {import("../chart.js").Line[]} lines */
function figure(root, id, title, lines) {
  const box = document.createElement("figure");
  box.className = "chart";
  box.dataset.chart = id;
  const head = document.createElement("figcaption");
  const name = document.createElement("h3");
  name.textContent = title;
  const readout = document.createElement("p");
  readout.className = "readout";
  const values = lines.map((line) => {
    const item = document.createElement("span");
    const swatch = document.createElement("i");
    swatch.className = "swatch";
    swatch.dataset.colour = line.colour;
    const value = document.createElement("b");
    value.textContent = UNKNOWN;
    item.append(swatch, ...(lines.length > 1 ? [`${line.label} `] : []), value);
    readout.append(item);
    return value;
  });
  head.append(name, readout);
  const host = document.createElement("div");
  host.className = "canvas";
  host.setAttribute("role", "img");
  box.append(head, host);
  root.append(box);
  return { host, values, readout };
}

/** @param {HTMLElement} root */
export function charts(root) {
  /** @type {HistoryColumns} */
  let columns = { at: [], series: /** @type {any} */ ({}), serverUp: {} };
  /** @type {number | null} */
  let cursor = null;

  const drawn = FIGURES.map((one) => {
    const parts = figure(root, one.id, one.title, one.lines);
    const chart = lineChart({ host: parts.host, lines: one.lines, format: one.short, least: one.least, onCursor: point });
    return { one, parts, chart };
  });
  const lanes = figure(root, "servers", "Servers", []);
  const when = document.createElement("span");
  lanes.readout.append(when);
  const laneDrawing = laneChart({ host: lanes.host, onCursor: point });

  /** @param {number | null} index */
  function point(index) {
    if (index === cursor) return;
    cursor = index;
    read();
  }

  /** The figures above the lines. */
  function read() {
    const index = cursor ?? columns.at.length - 1;
    for (const { one, parts } of drawn) {
      one.lines.forEach((line, position) => {
        const value = columns.series[line.series]?.[index];
        const target = parts.values[position];
        if (target) target.textContent = isNumber(value) ? one.exact(value) : UNKNOWN;
      });
    }
    const second = columns.at[index];
    when.textContent = second === undefined ? "" : cursor === null ? "now" : `at ${clock(second * 1000)}`;
  }

  return {
    /**
     * @param {HistoryColumns} given
     * @param {number} seconds the window's width
     * @param {import("../contract.js").Server[]} servers
     */
    draw(given, seconds, servers) {
      columns = given;
      const end = columns.at[columns.at.length - 1] ?? 0;
      /** @type {[number, number]} */
      const range = [end - seconds, end];
      const titles = new Map(servers.map((server) => [server.name ?? "", serverTitle(server)]));
      // In the order of the cards; then those that are no more.
      const known = servers.map((server) => server.name ?? "").filter((name) => Object.hasOwn(columns.serverUp, name));
      const names = [...new Set([...known, ...Object.keys(columns.serverUp)])];
      const down = names.flatMap((name) =>
        downSpans(columns.at, columns.serverUp[name] ?? []).map((span) => ({ ...span, title: titles.get(name) ?? name })),
      );
      const downWords = down.map(
        ({ title, from, to }) => `${title} was down from ${clock(from * 1000)} to ${to >= end ? "now" : clock(to * 1000)}`,
      );
      const told = downWords.length > 0 ? ` ${listed(downWords.slice(-4))}.` : "";
      const last = `Last ${duration(seconds * 1000)}. `;
      for (const { one, parts, chart } of drawn) {
        const values = one.lines.map((line) => columns.series[line.series] ?? []);
        chart.draw(columns.at, values, down, range);
        parts.host.setAttribute("aria-label", `${one.title}. ${last}${summary(one.lines, values, one.exact)}${told}`);
      }
      laneDrawing.draw(
        columns.at,
        names.map((name) => ({ title: titles.get(name) ?? name, up: columns.serverUp[name] ?? [] })),
        range,
      );
      lanes.host.setAttribute("aria-label", `Servers. ${last}${told === "" ? "None was down." : told.trim()}`);
      read();
    },
    /** The theme has changed. */
    redraw() {
      for (const { chart } of drawn) chart.redraw();
      laneDrawing.redraw();
    },
  };
}
