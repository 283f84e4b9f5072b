// Numbers, times and sizes in words.
//
// Constraints: pure; no function throws, whatever it is given, and what is not known is a dash. English and digits in
// groups of three everywhere, as in the output of `tripod`, whatever the browser's language; times are the browser's
// own, 24 hours, and `utc` gives the other one for a tooltip. Units stand behind a space that does not break.

/** What stands where nothing is known. */
export const UNKNOWN = "–";

const NARROW = "\u00a0";
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const oneDigit = new Intl.NumberFormat("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const threeDigits = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 3 });

/** @param {unknown} value @returns {value is number} */
export function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/** A true minus sign: as wide as a digit. @param {string} text */
const signed = (text) => text.replace(/^-/, "\u2212");

/** Every digit: "12,345". @param {number | null | undefined} value */
export function count(value) {
  return isNumber(value) ? signed(whole.format(value)) : UNKNOWN;
}

/** With its noun: "1 row", "2 rows". @param {number} value @param {string} noun @param {string} [plural] */
export function counted(value, noun, plural = `${noun}s`) {
  return `${count(value)}${NARROW}${value === 1 ? noun : plural}`;
}

/** At most three digits where there are many: "9,999", "12.3 K", "1,000 T". @param {number | null | undefined} value */
export function compact(value) {
  if (!isNumber(value)) return UNKNOWN;
  const size = Math.abs(value);
  if (size < 10_000) return size < 10 && !Number.isInteger(value) ? signed(oneDigit.format(value)) : count(value);
  for (const [unit, name] of /** @type {[number, string][]} */ ([[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "K"]])) {
    if (size < unit) continue;
    const scaled = value / unit;
    return `${signed(Math.abs(scaled) >= 1000 ? whole.format(scaled) : threeDigits.format(scaled))}${NARROW}${name}`;
  }
  return count(value);
}

/** "640 B", "1.5 MiB". @param {number | null | undefined} value */
export function bytes(value) {
  if (!isNumber(value)) return UNKNOWN;
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let scaled = value;
  let unit = 0;
  while (Math.abs(scaled) >= 1024 && unit < units.length - 1) {
    scaled /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || Math.abs(scaled) >= 100 ? whole : oneDigit;
  return `${signed(digits.format(scaled))}${NARROW}${units[unit]}`;
}

/**
 * The two largest units at most: "140 ms", "1.4 s", "3 min 20 s", "5 h 12 min", "3 d 4 h".
 * @param {number | null | undefined} ms
 * @returns {string}
 */
export function duration(ms) {
  if (!isNumber(ms)) return UNKNOWN;
  if (ms < 0) return `\u2212${duration(-ms)}`;
  if (ms < 9.95 && !Number.isInteger(ms)) return `${oneDigit.format(ms)}${NARROW}ms`;
  if (ms < 999.5) return `${whole.format(ms)}${NARROW}ms`;
  if (ms < 9_950) return `${oneDigit.format(ms / 1000)}${NARROW}s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds}${NARROW}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return two(minutes, "min", seconds % 60, "s");
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return two(hours, "h", minutes % 60, "min");
  return two(Math.floor(hours / 24), "d", hours % 24, "h");
}

/** @param {number} large @param {string} largeUnit @param {number} small @param {string} smallUnit */
function two(large, largeUnit, small, smallUnit) {
  const first = `${whole.format(large)}${NARROW}${largeUnit}`;
  return small === 0 ? first : `${first}${NARROW}${small}${NARROW}${smallUnit}`;
}

/** "1.4 s ago"; a time that lies ahead is said to. @param {number | null | undefined} ms */
export function ago(ms) {
  if (!isNumber(ms)) return UNKNOWN;
  return ms < 0 ? `${duration(-ms)} ahead of the clock` : `${duration(ms)} ago`;
}

/** Unix milliseconds of an RFC 3339 time; digits beyond milliseconds are cut. @param {string | null | undefined} text */
export function parseTime(text) {
  if (typeof text !== "string") return null;
  const ms = Date.parse(text.replace(/(\.\d{3})\d+/, "$1"));
  return Number.isFinite(ms) ? ms : null;
}

/** @param {number} value */
const pad = (value) => String(value).padStart(2, "0");

/** "12:03:04". @param {number | null | undefined} ms Unix milliseconds */
export function clock(ms) {
  if (!isNumber(ms)) return UNKNOWN;
  const date = new Date(ms);
  if (Number.isNaN(date.getTime())) return UNKNOWN;
  return `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/**
 * As short as it can be read without doubt: "12:03:04" today, "21 Nov 12:03" this year, "21 Nov 2025" before.
 * @param {number | null | undefined} ms Unix milliseconds
 * @param {number} now the same
 */
export function moment(ms, now) {
  const time = clock(ms);
  if (time === UNKNOWN || !isNumber(ms)) return UNKNOWN;
  const [date, today] = [new Date(ms), new Date(now)];
  const day = `${date.getDate()}${NARROW}${MONTHS[date.getMonth()]}`;
  if (date.getFullYear() !== today.getFullYear()) return `${day}${NARROW}${date.getFullYear()}`;
  if (date.getMonth() === today.getMonth() && date.getDate() === today.getDate()) return time;
  return `${day}${NARROW}${time.slice(0, 5)}`;
}

/** For a tooltip: "2026-11-23 12:03:04 UTC". @param {number | null | undefined} ms Unix milliseconds */
export function utc(ms) {
  if (!isNumber(ms)) return "not known";
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? "not known" : `${date.toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** "0.4 %", "56 %"; a little is never 0 and not quite all is never 100. @param {number | null} part @param {number | null} all */
export function percent(part, all) {
  if (!isNumber(part) || !isNumber(all) || all <= 0) return UNKNOWN;
  const value = (part / all) * 100;
  if (value > 0 && value < 0.1) return `<${NARROW}0.1${NARROW}%`;
  if (value < 10) return `${signed(value === 0 ? "0" : oneDigit.format(value))}${NARROW}%`;
  return `${whole.format(value > 99 && value < 100 ? 99 : value)}${NARROW}%`;
}

/** "a", "a and b", "a, b and c". @param {string[]} words */
export function listed(words) {
  if (words.length < 2) return words[0] ?? "";
  return `${words.slice(0, -1).join(", ")} and ${words[words.length - 1]}`;
}

/** Both ends of a long name: a mint is told by either. @param {string | null} text @param {number} [most] characters */
export function shortened(text, most = 22) {
  if (text === null || text === "") return UNKNOWN;
  const characters = [...text];
  if (characters.length <= most) return text;
  const side = Math.floor((most - 1) / 2);
  return `${characters.slice(0, side).join("")}…${characters.slice(-side).join("")}`;
}

/**
 * Details that were written as JSON, without its signs: {"left":3,"why":"slow"} is "left 3, why slow".
 * @param {string | null} text
 */
export function detailWords(text) {
  if (text === null) return "";
  try {
    const value = JSON.parse(text);
    if (value === null || typeof value !== "object" || Array.isArray(value)) return text;
    const parts = Object.entries(value).map(([key, inner]) => `${key} ${typeof inner === "object" ? JSON.stringify(inner) : String(inner)}`);
    return parts.join(", ");
  } catch {
    return text; // Cut short, or plain words.
  }
}
