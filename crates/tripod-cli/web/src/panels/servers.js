// A card per server: what it is, whether it is up and since when, what it says, and its replicas.

import { html, nothing } from "lit-html";
import { UNKNOWN, bytes, duration } from "../format.js";
import { serverTitle } from "../headline.js";
import { levelOf, wordFor } from "../levels.js";
import { empty, state, time } from "../view.js";

/** @typedef {import("../contract.js").Server} Server */
/** @typedef {import("../view.js").View} View */

/** A clock that is less off is as right as anybody needs it. */
const SKEW_SAID_MS = 500;

/** A line that is only there where it says something. @param {string} name @param {string | null} value */
const fact = (name, value) => (value === null ? nothing : html`<div><dt>${name}</dt><dd>${value}</dd></div>`);

/** @param {Server["memory"]} memory */
const memoryWords = ({ used_bytes: used, limit_bytes: limit }) =>
  limit ? `${bytes(used)} of ${bytes(limit)}` : bytes(used);

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
      <h3>${serverTitle(server)}${server.required === false ? html` <span class="muted">optional</span>` : nothing}</h3>
      ${state(level, wordFor(server.state))}
    </div>
    <dl class="facts">
      <div><dt>since</dt><dd>${time(server.since, view.now)}</dd></div>
      <div><dt>version</dt><dd>${server.version ?? UNKNOWN}</dd></div>
      <div><dt>at</dt><dd class="mono">${server.address ?? UNKNOWN}</dd></div>
      ${fact("answers in", server.latency_ms === null ? null : duration(server.latency_ms))}
      ${fact("clock off by", server.clock_skew_ms !== null && server.clock_skew_ms >= SKEW_SAID_MS ? duration(server.clock_skew_ms) : null)}
      ${fact("memory", server.memory.used_bytes === null ? null : memoryWords(server.memory))}
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
