// Runs in the head, before the first paint; see theme.js.
import { applyTheme, theme } from "./theme.js";

applyTheme(theme());
