// Lines over time as words and stretches: what charts draw without a canvas.
//
// Constraints: pure.

import { isNumber } from "./format.js";

/**
 * Neighbouring points of one value as one stretch.
 * @param {ArrayLike<number>} at
 * @param {(number | null)[]} values
 */
export function runs(at, values) {
  /** @type {{ from: number, to: number, value: number | null }[]} */
  const found = [];
  for (let index = 0; index < at.length; index += 1) {
    const second = /** @type {number} */ (at[index]);
    const value = values[index] ?? null;
    const last = found[found.length - 1];
    if (last) last.to = second;
    if (!last || last.value !== value) found.push({ from: second, to: second, value });
  }
  return found;
}

/** What is drawn, in words. @param {{ label: string }[]} lines @param {(number | null)[][]} columns @param {(value: number) => string} format */
export function summary(lines, columns, format) {
  const parts = lines.map((line, index) => {
    const known = (columns[index] ?? []).filter(isNumber);
    const last = known[known.length - 1];
    if (last === undefined) return `${line.label}: not known`;
    const [low, high] = [known.reduce((a, b) => Math.min(a, b)), known.reduce((a, b) => Math.max(a, b))];
    return `${line.label}: now ${format(last)}, lowest ${format(low)}, highest ${format(high)}`;
  });
  return `${parts.join(". ")}.`;
}
