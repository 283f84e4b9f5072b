// What somebody has to do: each alert with its severity, since when, and the page that says what to do.
//
// Constraints: a runbook becomes a link only where it names an entry of docs/alerts.md that this page carries with it
// (RUNBOOKS, written in by the build), so the link works offline and cannot lead anywhere else.

import { html, nothing } from "lit-html";
import { duration, parseTime } from "../format.js";
import { levelOf, worstFirst } from "../levels.js";
import { state, time } from "../view.js";

/** @typedef {import("../contract.js").Alert} Alert */

/** The entries of docs/alerts.md. @type {ReadonlySet<string>} */
const KNOWN = new Set(typeof RUNBOOKS === "undefined" ? [] : RUNBOOKS);

/** @param {string | null} runbook "docs/alerts.md#id" @param {ReadonlySet<string>} [known] */
export function runbookHref(runbook, known = KNOWN) {
  const id = /^docs\/alerts\.md#([a-z0-9_-]+)$/.exec(runbook ?? "")?.[1];
  return id !== undefined && known.has(id) ? `assets/runbooks.html#${id}` : null;
}

/** @param {string} href @param {string} about */
export const whatToDo = (href, about) => html`<a href=${href} target="_blank" rel="noopener"
  >What to do<span class="hidden"> about ${about}, opens in a new tab</span></a
>`;

/** Below a second it has only begun. @param {number} ms */
const sinceWords = (ms) => (ms < 1_000 ? "just now" : duration(ms));

/** @param {import("../contract.js").Snapshot} snapshot @param {import("../view.js").View} view */
export function alerts(snapshot, view) {
  if (snapshot.alerts.length === 0) {
    return html`<p class="none">${state("ok", "No alert")}</p>${troubles(snapshot)}`;
  }
  const sorted = [...snapshot.alerts].sort((one, other) => worstFirst(levelOf(one.severity), levelOf(other.severity)));
  return html`<ul class="alerts">
    ${sorted.map((alert) => {
      const [level, since, href] = [levelOf(alert.severity), parseTime(alert.since), runbookHref(alert.runbook)];
      return html`<li class="alert" data-level=${level}>
        ${state(level, alert.severity ?? "alert")}
        <p class="alert-what">${alert.what ?? alert.id ?? "an alert without words"}</p>
        <p class="alert-since">
          since ${time(alert.since, view.now)}
          ${since === null ? nothing : html`<span class="muted">(${sinceWords(view.now - since)})</span>`}
        </p>
        <p class="alert-do">
          ${href !== null
            ? whatToDo(href, alert.id ?? "it")
            : html`<span class="mono muted">${alert.runbook ?? ""}</span>`}
        </p>
      </li>`;
    })}
  </ul>${troubles(snapshot)}`;
}

/** What the monitor could not read itself. @param {import("../contract.js").Snapshot} snapshot */
const troubles = ({ troubles: all }) =>
  all.length === 0
    ? nothing
    : html`<ul class="troubles detail" aria-label="What the monitor could not read">
        ${all.map((words) => html`<li>${words}</li>`)}
      </ul>`;
