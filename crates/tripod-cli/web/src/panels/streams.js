// The event streams: how full each is, and how far behind each group of readers.

import { html } from "lit-html";
import { UNKNOWN, compact, count, counted } from "../format.js";
import { empty, firstOf, meter, table, watched } from "../view.js";

/** @typedef {import("../contract.js").Group} Group */
/** @typedef {import("../contract.js").Level} Level */

const TOPICS_MOST = 10;

/**
 * A stream is full as a rule: that is its cap. What matters is how much of it a group has not read.
 * @param {number | null} lag
 * @param {number | null} cap
 * @returns {Level}
 */
export function lagLevel(lag, cap) {
  if (lag === null || cap === null || cap <= 0) return "unknown";
  return lag >= cap ? "bad" : lag > cap / 2 ? "warn" : "ok";
}

/** @param {import("../contract.js").Snapshot} snapshot @param {import("../view.js").View} view */
export function streams(snapshot, view) {
  if (snapshot.streams.length === 0) return empty("No event was published yet.");
  const { shown, more } = firstOf(view, "streams", snapshot.streams, TOPICS_MOST);
  const rows = shown.flatMap((stream) => {
    const groups = stream.groups.length === 0 ? [null] : stream.groups;
    return groups.map(
      (group, index) => html`<tr class=${index === 0 ? "first" : "same"}>
        ${index === 0
          ? html`<th scope="rowgroup" rowspan=${groups.length}>
                ${stream.topic ?? UNKNOWN}<span class="below muted">${count(stream.length)} of ${count(stream.cap)}</span>
                ${stream.dead ? html`<span class="below">${watched(stream.dead, counted(stream.dead, "dead letter"), "warn")}</span>` : ""}
              </th>`
          : ""}
        ${group === null ? html`<td colspan="5" class="muted">no group reads it</td>` : groupCells(group, stream.cap)}
      </tr>`,
    );
  });
  return html`
    ${table(
      "Event streams and their groups",
      ["topic", "group", ["unread", "number"], ["pending", "number"], ["trimmed unread", "number"], ["trimmed pending", "number"]],
      rows,
    )}
    ${more}
  `;
}

/** @param {Group} group @param {number | null} cap */
const groupCells = (group, cap) => html`
  <td>${group.name ?? UNKNOWN}</td>
  <td class="number">
    <span title=${count(group.lag)}>${compact(group.lag)}</span>${meter(group.lag, cap, lagLevel(group.lag, cap))}
  </td>
  <td class="number"><span title=${count(group.pending)}>${compact(group.pending)}</span></td>
  <td class="number">${watched(group.trimmed_unread, count(group.trimmed_unread), "warn")}</td>
  <td class="number">${watched(group.trimmed_pending, count(group.trimmed_pending), "warn")}</td>
`;
