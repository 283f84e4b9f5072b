// What each QuestDB says of its tables and views: suspended, invalid, behind; a checkpoint that stays open.

import { html, nothing } from "lit-html";
import { UNKNOWN, counted, duration, isNumber } from "../format.js";
import { empty, state } from "../view.js";

/** @typedef {import("../contract.js").Tape} Tape */

/** A view that is further behind is worth a colour; the monitor raises its alert there too. */
const LAG_MOST_MS = 60_000;

/** @param {import("../contract.js").Snapshot} snapshot */
export function tape(snapshot) {
  if (snapshot.tape.length === 0) return empty("No QuestDB answers.");
  return html`<ul class="rows">
    ${snapshot.tape.map(one)}
  </ul>`;
}

/** @param {Tape} tape */
function one(tape) {
  const invalid = tape.views.filter((view) => view.invalid !== null);
  const lags = tape.views.filter((view) => view.invalid === null).map((view) => view.lag_ms).filter(isNumber);
  const lag = lags.length === 0 ? null : Math.max(...lags);
  const wrong = tape.suspended.length + invalid.length > 0;
  return html`<li class="row">
    <div class="row-head">
      <h3>${tape.sink ?? UNKNOWN}</h3>
      ${wrong ? state("bad", "needs somebody") : lag !== null && lag > LAG_MOST_MS ? state("warn", "views behind") : state("ok", "all tables apply")}
    </div>
    <dl class="facts facts-wide">
      <div><dt>views</dt><dd>${tape.views.length === 0 ? "none" : tape.views.length}${lag === null ? "" : `, at most ${duration(lag)} behind`}</dd></div>
      ${tape.checkpoint_open_ms === null ? nothing : html`<div><dt>checkpoint open</dt><dd>${duration(tape.checkpoint_open_ms)}</dd></div>`}
    </dl>
    ${tape.suspended.length === 0
      ? nothing
      : html`<p class="detail">
          ${state("bad", `${counted(tape.suspended.length, "table")} suspended`)}:
          ${tape.suspended.map((table) => `${table.table ?? UNKNOWN} (${table.why || "by hand"})`).join(", ")}
        </p>`}
    ${invalid.length === 0
      ? nothing
      : html`<p class="detail">
          ${state("bad", `${counted(invalid.length, "view")} invalid`)}:
          ${invalid.map((view) => `${view.name ?? UNKNOWN} (${view.invalid})`).join(", ")}
        </p>`}
  </li>`;
}
