// The sinks: what each one does, and what still waits for it.

import { html, nothing } from "lit-html";
import { UNKNOWN, bytes, count, duration } from "../format.js";
import { levelOf, wordFor } from "../levels.js";
import { empty, state } from "../view.js";

/** @param {import("../contract.js").Snapshot} snapshot */
export function sinks(snapshot) {
  if (snapshot.sinks.length === 0) return empty("No sink has run yet.");
  return html`<ul class="rows">
    ${snapshot.sinks.map(
      (sink) => html`<li class="row">
        <div class="row-head">
          <h3>${sink.name ?? UNKNOWN} <span class="muted">${sink.bot ?? ""}${sink.required === false ? " · optional" : ""}</span></h3>
          ${state(levelOf(sink.state), wordFor(sink.state))}
        </div>
        <dl class="facts facts-wide">
          <div><dt>waiting</dt><dd>${count(sink.backlog_rows)}<span class="unit"> rows</span></dd></div>
          <div><dt>on disk</dt><dd>${bytes(sink.backlog_bytes)}</dd></div>
          <div><dt>oldest</dt><dd>${sink.oldest_pending_ms === 0 ? "none" : duration(sink.oldest_pending_ms)}</dd></div>
        </dl>
        ${sink.detail ? html`<p class="detail">${sink.detail}</p>` : nothing}
      </li>`,
    )}
  </ul>`;
}
