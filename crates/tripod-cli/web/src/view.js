// The few shapes that all panels are made of.
//
// Constraints: text goes in as text, through lit's bindings alone: nothing that a server said is ever parsed as HTML.
// No style attributes (the page's Content-Security-Policy forbids them): widths are attributes of SVG shapes.

import { html, nothing, svg } from "lit-html";
import { ifDefined } from "lit-html/directives/if-defined.js";
import { UNKNOWN, isNumber, moment, parseTime, utc } from "./format.js";

/** @typedef {import("./contract.js").Level} Level */
/** @typedef {import("lit-html").TemplateResult} Template */
/**
 * What a panel is given beside the snapshot.
 * @typedef {object} View
 * @property {number} now the snapshot's own time, Unix milliseconds
 * @property {(list: string) => boolean} expanded whether a long list is shown whole
 * @property {(list: string) => void} toggle
 */

/** The symbols stand in index.html. @param {string} name */
export const icon = (name) => html`<svg class="icon" aria-hidden="true" focusable="false"><use href="#i-${name}"></use></svg>`;

/** Icon and word: never colour alone. @param {Level} level @param {string} word */
export const state = (level, word) => html`<span class="state" data-level=${level}>${icon(level)}<span>${word}</span></span>`;

/** @param {string} words */
export const empty = (words) => html`<p class="empty">${words}</p>`;

/** A time in the browser's zone, UTC in the tooltip. @param {string | null} text RFC 3339 @param {number} now */
export function time(text, now) {
  const ms = parseTime(text);
  if (ms === null) return html`<span class="unknown" title="not known">${UNKNOWN}</span>`;
  return html`<time datetime=${new Date(ms).toISOString()} title=${utc(ms)}>${moment(ms, now)}</time>`;
}

/** A number that is 0 where all is well. @param {number | null} value @param {string} shown @param {Level} level where it is not */
export const watched = (value, shown, level) =>
  html`<span class=${value === 0 ? "zero" : "number"} data-level=${ifDefined(value !== null && value !== 0 ? level : undefined)}
    >${shown}</span
  >`;

/**
 * A table in a box that scrolls sideways by itself, so that the page never does.
 * @param {string} caption
 * @param {(string | [string, "number"])[]} columns
 * @param {unknown} rows templates of `<tr>`
 */
export const table = (caption, columns, rows) => html`
  <div class="scroll" role="group" aria-label=${caption}>
    <table>
      <caption class="hidden">${caption}</caption>
      <thead>
        <tr>
          ${columns.map((column) =>
            typeof column === "string"
              ? html`<th scope="col">${column}</th>`
              : html`<th scope="col" class="number">${column[0]}</th>`,
          )}
        </tr>
      </thead>
      <tbody>${rows}</tbody>
    </table>
  </div>
`;

/**
 * How full something is.
 * @param {number | null} part
 * @param {number | null} all
 * @param {Level} level
 */
export function meter(part, all, level) {
  const filled = isNumber(part) && isNumber(all) && all > 0 ? Math.min(100, Math.max(0, (part / all) * 100)) : 0;
  return bar([{ share: filled, name: level }]);
}

/** Parts of a whole, in percent; told in words beside it. @param {{ share: number, name: string }[]} parts */
export function bar(parts) {
  let from = 0;
  const shapes = parts.map(({ share, name }) => {
    const shape = svg`<rect data-part=${name} x="${from}%" width="${share}%" height="100%"></rect>`;
    from += share;
    return shape;
  });
  return html`<svg class="bar" aria-hidden="true" focusable="false"><rect class="track" width="100%" height="100%"></rect>${shapes}</svg>`;
}

/**
 * Some of a list, and a button for all of it.
 * @template T
 * @param {View} view
 * @param {string} name
 * @param {T[]} all
 * @param {T[]} some
 * @returns {{ shown: T[], more: Template | typeof nothing }}
 */
export function folded(view, name, all, some) {
  if (all.length === some.length) return { shown: all, more: nothing };
  const open = view.expanded(name);
  const more = html`<button type="button" class="more" aria-expanded=${open} @click=${() => view.toggle(name)}>
    ${open ? `Show ${some.length} of ${all.length}` : `Show all ${all.length}`}
  </button>`;
  return { shown: open ? all : some, more };
}

/**
 * The first of a long list, and a button for the others.
 * @template T
 * @param {View} view
 * @param {string} name
 * @param {T[]} items
 * @param {number} most
 */
export const firstOf = (view, name, items, most) => folded(view, name, items, items.slice(0, most));
