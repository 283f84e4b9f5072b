// The prices by age: how many are fresh, and the oldest first, since those are the ones that a bot trades on wrongly.

import { html } from "lit-html";
import { UNKNOWN, ago, count, isNumber, shortened } from "../format.js";
import { bar, empty, firstOf, state, table } from "../view.js";

/** @typedef {import("../contract.js").Price} Price */

const PRICES_MOST = 8;

/** What is not known first, then the oldest. @param {Price} one @param {Price} other */
export const oldestFirst = (one, other) => (other.age_ms ?? Infinity) - (one.age_ms ?? Infinity) || 0;

/** @param {import("../contract.js").Snapshot} snapshot @param {import("../view.js").View} view */
export function prices(snapshot, view) {
  const { tokens, fresh, stale, list } = snapshot.prices;
  if (!tokens && list.length === 0) return empty("No price was written yet.");
  const all = isNumber(tokens) && tokens > 0 ? tokens : list.length;
  const share = (/** @type {number | null} */ part) => (isNumber(part) && all > 0 ? Math.min(100, Math.max(0, (part / all) * 100)) : 0);
  const { shown, more } = firstOf(view, "prices", [...list].sort(oldestFirst), PRICES_MOST);
  return html`
    <dl class="shares">
      <div><dt>${state("ok", "fresh")}</dt><dd>${count(fresh)}</dd></div>
      <div><dt>${state(stale ? "warn" : "unknown", "stale")}</dt><dd>${count(stale)}</dd></div>
      <div><dt>tokens</dt><dd>${count(tokens)}</dd></div>
    </dl>
    ${bar([{ share: share(fresh), name: "ok" }, { share: share(stale), name: "warn" }])}
    ${list.length === 0
      ? empty("No price is in Redis now: each lives a second or two.")
      : table(
          "Prices, the oldest first",
          ["token", ["value", "number"], ["age", "number"], "state", ["slot", "number"]],
          shown.map(
            (price) => html`<tr>
              <th scope="row" title=${price.token ?? ""}>${shortened(price.token)}</th>
              <td class="number" title=${price.value ?? ""}>${shortened(price.value, 24)}</td>
              <td class="number">${ago(price.age_ms)}</td>
              <td>${price.fresh === null ? state("unknown", "not known") : price.fresh ? state("ok", "fresh") : state("warn", "stale")}</td>
              <td class="number muted">${price.slot === null ? UNKNOWN : count(price.slot)}</td>
            </tr>`,
          ),
        )}
    ${more}
  `;
}
