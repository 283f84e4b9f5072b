// A card per server: what it is, whether it is up and since when, what it says, and its replicas.

import { html, nothing } from "lit-html";
import { UNKNOWN, duration } from "../format.js";
import { serverTitle } from "../headline.js";
import { levelOf, wordFor } from "../levels.js";
import { empty, state, time } from "../view.js";

/** @typedef {import("../contract.js").Server} Server */
/** @typedef {import("../view.js").View} View */

/** @param {import("../contract.js").Snapshot} snapshot @param {View} view */
export function servers(snapshot, view) {
  if (snapshot.servers.length === 0) return empty("The monitor knows of no server. Start the local stack with tripod up.");
  return html`<ul class="cards">
    ${snapshot.servers.map((server) => card(server, view))}
  </ul>`;
}

/** @param {Server} server @param {View} view */
function card(server, view) {
  const level = levelOf(server.state);
  return html`<li class="card" data-level=${level} data-server=${server.name ?? ""}>
    <div class="card-head">
      <h3>${serverTitle(server)}</h3>
      ${state(level, wordFor(server.state))}
    </div>
    <dl class="facts">
      <div><dt>since</dt><dd>${time(server.since, view.now)}</dd></div>
      <div><dt>version</dt><dd>${server.version ?? UNKNOWN}</dd></div>
      <div><dt>at</dt><dd class="mono">${server.address ?? UNKNOWN}</dd></div>
    </dl>
    ${server.detail ? html`<p class="detail">${server.detail}</p>` : nothing}
    ${server.replicas.length === 0
      ? nothing
      : html`<ul class="replicas" aria-label="Replicas of ${serverTitle(server)}">
          ${server.replicas.map(
            (replica) => html`<li>
              <span class="replica-name">${replica.name ?? UNKNOWN}</span>
              <span class="muted">${replica.role ?? ""}</span>
              ${state(levelOf(replica.state), wordFor(replica.state))}
              <span class="muted" title="how far it is behind">${replica.lag_ms === null ? "" : `${duration(replica.lag_ms)} behind`}</span>
            </li>`,
          )}
        </ul>`}
  </li>`;
}
