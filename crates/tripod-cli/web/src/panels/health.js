// The components and their heartbeats.

import { html } from "lit-html";
import { UNKNOWN, ago, detailWords } from "../format.js";
import { levelOf, wordFor, worstFirst } from "../levels.js";
import { empty, firstOf, state, table } from "../view.js";

const COMPONENTS_MOST = 12;

/** @param {import("../contract.js").Snapshot} snapshot @param {import("../view.js").View} view */
export function health(snapshot, view) {
  if (snapshot.health.length === 0) return empty("No component has sent a heartbeat yet.");
  const sorted = [...snapshot.health].sort((one, other) => worstFirst(levelOf(one.status), levelOf(other.status)));
  const { shown, more } = firstOf(view, "health", sorted, COMPONENTS_MOST);
  return html`
    ${table(
      "Components and their heartbeats",
      ["component", "status", ["heartbeat", "number"], "detail"],
      shown.map(
        (one) => html`<tr>
          <th scope="row">${one.component ?? UNKNOWN}</th>
          <td>${state(levelOf(one.status), wordFor(one.status))}</td>
          <td class="number">${ago(one.age_ms)}</td>
          <td class="wide muted">${detailWords(one.detail)}</td>
        </tr>`,
      ),
    )}
    ${more}
  `;
}
