// The ledger: per sink the sum that must hold, written as a sum; below it each table's line.

import { html, nothing } from "lit-html";
import { UNKNOWN, count } from "../format.js";
import { TERMS, addsUp, bySink, total } from "../ledger.js";
import { empty, folded, state, table, watched } from "../view.js";

/** @typedef {import("../contract.js").LedgerRow} LedgerRow */
/** @typedef {import("../contract.js").Level} Level */

/** More tables than this are folded; so are those that hold no row, as long as nobody asks. */
const ROWS_MOST = 16;

/** Terms that are zero where nothing went wrong. @type {Record<string, Level>} */
const WATCHED = { quarantined: "warn", missed: "warn", dropped: "bad" };

/** @param {boolean | null} sum */
const verdict = (sum) =>
  sum === true ? state("ok", "adds up") : sum === false ? state("bad", "does not add up") : state("unknown", "not known");

/** @param {import("../contract.js").Snapshot} snapshot @param {import("../view.js").View} view */
export function ledger(snapshot, view) {
  if (snapshot.ledger.length === 0) return empty("No bot has recorded a row yet.");
  const sinks = [...bySink(snapshot.ledger)];
  const used = snapshot.ledger.filter((row) => row.recorded !== 0 || row.adds_up !== true);
  // All of them in their own order where somebody unfolds; a stack that has just started shows its tables.
  const first = used.length === 0 ? snapshot.ledger.slice(0, ROWS_MOST) : used.slice(0, ROWS_MOST);
  const { shown, more } = folded(view, "ledger", snapshot.ledger, first);
  return html`
    ${sinks.map(([sink, rows]) => sum(sink, rows, sinks.length > 1))}
    ${table(
      "Ledger per bot, table and sink",
      ["table", "bot", "sink", ["recorded", "number"], .../** @type {[string, "number"][]} */ (TERMS.map((term) => [term, "number"])), "sum"],
      shown.map(
        (row) => html`<tr>
          <th scope="row">${row.table ?? UNKNOWN}</th>
          <td>${row.bot ?? UNKNOWN}</td>
          <td>${row.sink ?? UNKNOWN}</td>
          <td class="number">${count(row.recorded)}</td>
          ${TERMS.map((term) => html`<td class="number">${cell(term, row[term])}</td>`)}
          <td>${verdict(row.adds_up)}</td>
        </tr>`,
      ),
    )}
    ${more}
  `;
}

/** @param {string} term @param {number | null} value */
const cell = (term, value) => {
  const level = WATCHED[term];
  return level ? watched(value, count(value), level) : html`<span class=${value === 0 ? "zero" : "number"}>${count(value)}</span>`;
};

/** recorded = pending + delivered + … @param {string} sink @param {LedgerRow[]} rows @param {boolean} named */
function sum(sink, rows, named) {
  return html`<div class="sum">
    ${named ? html`<h3>${sink === "" ? "a sink without a name" : sink}</h3>` : nothing}
    <dl class="terms">
      <div class="term term-first"><dt>recorded</dt><dd>${count(total(rows, "recorded"))}</dd></div>
      ${TERMS.map((term, index) => {
        const value = total(rows, term);
        const operator = html`<span class="operator" aria-hidden="true">${index === 0 ? "=" : "+"}</span>`;
        return html`<div class="term"><dt>${term}</dt><dd>${operator}${cell(term, value)}</dd></div>`;
      })}
    </dl>
    <p class="verdict">${verdict(addsUp(rows))}</p>
  </div>`;
}
