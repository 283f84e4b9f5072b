// The journals: how much of its budget what is not delivered takes. A full critical one stops trading.
//
// Constraints: the bar is what the budget is for, undelivered rows; delivered segments that are kept for a while stand beside it in words. Its
// colour changes where the monitor raises its alerts, at 75 and 90 %.

import { html, nothing } from "lit-html";
import { UNKNOWN, bytes, counted, isNumber, percent } from "../format.js";
import { empty, meter, state, time } from "../view.js";

/** @typedef {import("../contract.js").Level} Level */

/** @param {number | null} used @param {number | null} budget @returns {Level} */
export function fillLevel(used, budget) {
  if (!isNumber(used) || !isNumber(budget) || budget <= 0) return "unknown";
  const filled = used / budget;
  return filled > 0.9 ? "bad" : filled > 0.75 ? "warn" : "ok";
}

/** @param {import("../contract.js").Snapshot} snapshot @param {import("../view.js").View} view */
export function journal(snapshot, view) {
  if (snapshot.journal.length === 0) return empty("There is no journal yet.");
  return html`<ul class="rows">
    ${snapshot.journal.map((one) => {
      const waiting = one.undelivered_bytes ?? one.used_bytes;
      const level = fillLevel(waiting, one.budget_bytes);
      return html`<li class="row">
        <div class="row-head">
          <h3>${one.class ?? UNKNOWN} <span class="muted">${one.bot ?? ""}</span></h3>
          <span class="number" data-level=${level}>${percent(waiting, one.budget_bytes)} <span class="muted">of the budget</span></span>
        </div>
        ${meter(waiting, one.budget_bytes, level)}
        <p class="detail">
          ${bytes(waiting)} of ${bytes(one.budget_bytes)} undelivered, ${bytes(one.used_bytes)} on disk, oldest rows ${time(one.oldest, view.now)}
        </p>
        ${one.damaged_segments ? state("bad", `${counted(one.damaged_segments, "segment")} cannot be read`) : nothing}
      </li>`;
    })}
  </ul>`;
}
