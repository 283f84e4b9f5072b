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
      <div><dt>${state(stale ? "warn" : "ok", "stale")}</dt><dd>${count(stale)}</dd></div>
      <div><dt>tokens</dt><dd>${count(tokens)}</dd></div>
    </dl>
    ${bar([{ share: share(fresh), name: "ok" }, { share: share(stale), name: "warn" }])}
    ${list.length === 0
      ? empty("No price is in Redis now: each lives a second or two.")
      : table(
          "Prices, the oldest first",
          ["token", "age", ["value", "number"], ["slot", "number"]],
          shown.map(
            (price) => html`<tr>
              <th scope="row" title=${price.token ?? ""}>${shortened(price.token)}</th>
              <td>${age(price)}</td>
              <td class="number" title=${price.value ?? ""}>${shortened(price.value, 24)}</td>
              <td class="number muted">${price.slot === null ? UNKNOWN : count(price.slot)}</td>
            </tr>`,
          ),
        )}
    ${more}
  `;
}

/** Fresh or stale by icon, colour and hidden word; the age is what is shown. @param {Price} price */
function age({ fresh, age_ms: ms }) {
  const [level, word] = /** @type {[import("../contract.js").Level, string]} */ (
    fresh === null ? ["unknown", "not known whether fresh"] : fresh ? ["ok", "fresh"] : ["warn", "stale"]
  );
  return html`<span title=${word}>${state(level, ago(ms))}<span class="hidden">, ${word}</span></span>`;
}
