// Dark or light: as the system says, until somebody chooses.
//
// Constraints: loaded as a classic script in the head, before anything is painted, so that a page never flashes in the
// other colours. The choice is remembered in this browser; where that is forbidden, it holds until the page is left.

const KEY = "tripod-theme";
const THEMES = ["system", "light", "dark"];

/** @returns {string} */
export function theme() {
  try {
    const kept = localStorage.getItem(KEY);
    return kept !== null && THEMES.includes(kept) ? kept : "system";
  } catch {
    return "system";
  }
}

/** @param {string} name */
export function applyTheme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
}

/** @param {string} name */
export function rememberTheme(name) {
  try {
    if (name === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, name);
  } catch {
    // Not remembered; the choice holds for this visit.
  }
}
