// The journals: how much of its budget each class of rows has used up. A full critical one stops trading.

import { html } from "lit-html";
import { UNKNOWN, bytes, isNumber, percent } from "../format.js";
import { empty, meter, time } from "../view.js";

/** @typedef {import("../contract.js").Level} Level */

/** @param {number | null} used @param {number | null} budget @returns {Level} */
export function fillLevel(used, budget) {
  if (!isNumber(used) || !isNumber(budget) || budget <= 0) return "unknown";
  const filled = used / budget;
  return filled >= 0.9 ? "bad" : filled >= 0.7 ? "warn" : "ok";
}

/** @param {import("../contract.js").Snapshot} snapshot @param {import("../view.js").View} view */
export function journal(snapshot, view) {
  if (snapshot.journal.length === 0) return empty("There is no journal yet.");
  return html`<ul class="rows">
    ${snapshot.journal.map((one) => {
      const level = fillLevel(one.used_bytes, one.budget_bytes);
      return html`<li class="row">
        <div class="row-head">
          <h3>${one.class ?? UNKNOWN} <span class="muted">${one.bot ?? ""}</span></h3>
          <span class="number" data-level=${level}>${percent(one.used_bytes, one.budget_bytes)}</span>
        </div>
        ${meter(one.used_bytes, one.budget_bytes, level)}
        <p class="detail">${bytes(one.used_bytes)} of ${bytes(one.budget_bytes)}, oldest row ${time(one.oldest, view.now)}</p>
      </li>`;
    })}
  </ul>`;
}
