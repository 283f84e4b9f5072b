// The monitor's own machine: its disks, and what runs there at set times.

import { html, nothing } from "lit-html";
import { UNKNOWN, bytes, isNumber, percent } from "../format.js";
import { empty, meter, state, time } from "../view.js";

/** @typedef {import("../contract.js").Level} Level */
/** @typedef {import("../contract.js").Job} Job */

const LITTLE_BYTES = 512 * 1024 * 1024;

/** As the monitor's alerts: 15 %; 5 % or 512 MiB. @param {number | null} free @param {number | null} total @returns {Level} */
export function diskLevel(free, total) {
  if (!isNumber(free) || !isNumber(total) || total <= 0) return "unknown";
  return free < total * 0.05 || free < LITTLE_BYTES ? "bad" : free < total * 0.15 ? "warn" : "ok";
}

/** @param {import("../contract.js").Snapshot} snapshot */
export function disks(snapshot) {
  if (snapshot.disks.length === 0) return empty("No disk is watched.");
  return html`<ul class="rows">
    ${snapshot.disks.map(({ where, free_bytes: free, total_bytes: total }) => {
      const level = diskLevel(free, total);
      const used = isNumber(free) && isNumber(total) ? total - free : null;
      return html`<li class="row">
        <div class="row-head">
          <h3>${where ?? UNKNOWN}</h3>
          <span class="number" data-level=${level}>${percent(free, total)} <span class="muted">free</span></span>
        </div>
        ${meter(used, total, level)}
        <p class="detail">${bytes(free)} of ${bytes(total)} free</p>
      </li>`;
    })}
  </ul>`;
}

/** @param {Job} job */
const standing = (job) =>
  job.running ? state("ok", "running") : job.ok === null ? state("unknown", "not run yet") : job.ok ? state("ok", "done") : state("bad", "failed");

/** @param {import("../contract.js").Snapshot} snapshot @param {import("../view.js").View} view */
export function jobs(snapshot, view) {
  if (snapshot.jobs.length === 0) return empty("Nothing runs at set times.");
  return html`<ul class="rows">
    ${snapshot.jobs.map(
      (job) => html`<li class="row">
        <div class="row-head"><h3>${job.name ?? UNKNOWN}</h3>${standing(job)}</div>
        <dl class="facts facts-wide">
          <div><dt>last</dt><dd>${time(job.last_at, view.now)}</dd></div>
          <div><dt>next</dt><dd>${job.next_at === null ? "never" : time(job.next_at, view.now)}</dd></div>
        </dl>
        ${job.detail ? html`<p class="detail">${job.detail}</p>` : nothing}
      </li>`,
    )}
  </ul>`;
}
