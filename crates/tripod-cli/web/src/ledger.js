// Sums over the ledger's rows.
//
// Constraints: pure. What is not known is not counted, and a sum of nothing but unknowns is not known. Each sink has
// its own copy of every row, so recorded rows are summed per sink and never over sinks.

import { isNumber } from "./format.js";

/** @typedef {import("./contract.js").LedgerRow} LedgerRow */
/** @typedef {"recorded" | "pending" | "delivered" | "visible" | "quarantined" | "missed" | "dropped"} Term */

/** What recorded rows became, in the order of the sum. @type {Term[]} */
export const TERMS = ["pending", "delivered", "visible", "quarantined", "missed", "dropped"];

/** @param {LedgerRow[]} rows @param {Term} term @returns {number | null} */
export function total(rows, term) {
  const known = rows.map((row) => row[term]).filter(isNumber);
  return known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0);
}

/** @param {LedgerRow[]} rows @returns {boolean | null} false where one row says so, null where none says anything */
export function addsUp(rows) {
  if (rows.some((row) => row.adds_up === false)) return false;
  return rows.length > 0 && rows.every((row) => row.adds_up === true) ? true : null;
}

/** The rows of each sink, sinks in the order in which they come. @param {LedgerRow[]} rows */
export function bySink(rows) {
  /** @type {Map<string, LedgerRow[]>} */
  const sinks = new Map();
  for (const row of rows) {
    const name = row.sink ?? "";
    const those = sinks.get(name);
    if (those) those.push(row);
    else sinks.set(name, [row]);
  }
  return sinks;
}
