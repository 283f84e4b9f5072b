// The last backup and when it was last proven by a restore; the drills and what they found.

import { html, nothing } from "lit-html";
import { UNKNOWN, ago, count, parseTime } from "../format.js";
import { empty, firstOf, state, time } from "../view.js";

const DRILLS_MOST = 6;

/** @param {import("../contract.js").Snapshot} snapshot @param {import("../view.js").View} view */
export function backups(snapshot, view) {
  const { last_id: id, last_at: at, last_proven_at: provenAt, running } = snapshot.backup;
  const proven = parseTime(provenAt);
  return html`
    ${id === null && at === null
      ? html`<p class="none">${state("warn", "No backup yet")} <span class="muted">tripod backup create makes one</span></p>`
      : html`<div class="row-head">
          <h3 class="mono">${id ?? UNKNOWN}</h3>
          ${proven === null ? state("warn", "never proven") : state("ok", "proven")}
        </div>
        <dl class="facts facts-wide">
          <div><dt>made</dt><dd>${time(at, view.now)}</dd></div>
          <div>
            <dt>last proven</dt>
            <dd>${time(provenAt, view.now)} ${proven === null ? nothing : html`<span class="muted">${ago(view.now - proven)}</span>`}</dd>
          </div>
        </dl>`}
    ${running ? html`<p class="detail">${typeof running === "string" ? running : "A backup"} is running now.</p>` : nothing}
  `;
}

/** @param {import("../contract.js").Snapshot} snapshot @param {import("../view.js").View} view */
export function drills(snapshot, view) {
  if (snapshot.drills.length === 0) return empty("No drill was run yet: tripod drill ls names them.");
  const { shown, more } = firstOf(view, "drills", snapshot.drills, DRILLS_MOST);
  return html`<ul class="log" aria-label="Drills">
      ${shown.map(
        (drill) => html`<li>
          <span class="log-at">${time(drill.at, view.now)}</span>
          <span class="log-what">
            <b>${drill.drill ?? UNKNOWN}</b>
            ${drill.ok === null ? state("unknown", "not known") : drill.ok ? state("ok", "kept its promise") : state("bad", "broke its promise")}
            <span class="muted">lost ${count(drill.lost)}, doubled ${count(drill.doubled)}</span>
          </span>
        </li>`,
      )}
    </ul>
    ${more}`;
}
