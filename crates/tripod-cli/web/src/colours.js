// Colours for the canvas: the page's own, as the browser resolved them.
//
// Constraints: a canvas cannot read `var(--x)` nor `light-dark()`. A probe element is given each one as its text colour and asked
// for what came out. Asked again when the theme changes, not at each stroke.

/** @type {Map<string, string>} */
const known = new Map();

/** @param {string} name of a custom property, without the dashes */
export function colour(name) {
  const kept = known.get(name);
  if (kept !== undefined) return kept;
  const probe = document.createElement("span");
  probe.style.color = `var(--${name})`;
  probe.hidden = true;
  document.body.append(probe);
  const resolved = getComputedStyle(probe).color;
  probe.remove();
  known.set(name, resolved);
  return resolved;
}

export const forgetColours = () => known.clear();
