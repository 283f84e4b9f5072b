// The tokens by assessment, and what changed last.

import { html, nothing } from "lit-html";
import { UNKNOWN, count, isNumber, percent, shortened } from "../format.js";
import { bar, empty, firstOf, state, time } from "../view.js";

const CHANGES_MOST = 6;

/** @param {import("../contract.js").Snapshot} snapshot @param {import("../view.js").View} view */
export function tokens(snapshot, view) {
  const { total, tradable, costly, refused, recent_changes: changes } = snapshot.tokens;
  if (!total && changes.length === 0) return empty("No token is known yet: tripod tokens import brings them.");
  const share = (/** @type {number | null} */ part) =>
    isNumber(part) && isNumber(total) && total > 0 ? Math.min(100, Math.max(0, (part / total) * 100)) : 0;
  const part = (/** @type {number | null} */ value, /** @type {string} */ name) => ({ share: share(value), name });
  const judged = [tradable, costly, refused].some(isNumber);
  const { shown, more } = firstOf(view, "changes", changes, CHANGES_MOST);
  return html`
    <dl class="shares">
      ${judged ? html`
        <div><dt>${state("ok", "tradable")}</dt><dd title=${percent(tradable, total)}>${count(tradable)}</dd></div>
        <div><dt>${state("warn", "costly")}</dt><dd title=${percent(costly, total)}>${count(costly)}</dd></div>
        <div><dt>${state("bad", "refused")}</dt><dd title=${percent(refused, total)}>${count(refused)}</dd></div>
      ` : nothing}
      <div><dt>${judged ? "all" : "known"}</dt><dd>${count(total)}</dd></div>
    </dl>
    ${judged ? bar([part(tradable, "ok"), part(costly, "warn"), part(refused, "bad")]) : nothing}
    ${changes.length === 0
      ? empty("Nothing changed lately.")
      : html`<ul class="log" aria-label="Recent changes of tokens">
          ${shown.map(
            (change) => html`<li>
              <span class="log-at">${time(change.at, view.now)}</span>
              <span class="log-what"><b title=${change.mint ?? ""}>${shortened(change.symbol ?? change.mint, 16)}</b> ${change.what ?? UNKNOWN}</span>
            </li>`,
          )}
        </ul>`}
    ${more}
  `;
}
