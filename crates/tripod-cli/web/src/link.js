// The line to the monitor: server-sent events, and the certainty that they still come.
//
// Constraints: the monitor speaks once a second. Silent for SILENT_MS, the line counts as lost, whatever the browser
// thinks of the connection: a machine that froze or a cable that was pulled closes nothing. A line that is lost is
// opened anew, with a pause that grows to RETRY_MOST_MS, for ever. Time passes by a monotonic clock; the clock on the wall is only shown.
//
// Operation: connecting -> live on the first snapshot -> lost when silent or closed long enough -> live again.
// Each (re)opening tells `onOpen`, which is where the history is fetched: what was missed while away is in it.

/** Without a word for so long, the operator is told. */
export const SILENT_MS = 2_500;
/** The pause before the first new try, and before all later ones at most. */
const RETRY_FIRST_MS = 500;
const RETRY_MOST_MS = 4_000;
/** A connection that neither opens nor fails is given up after this. */
const OPEN_WITHIN_MS = 5_000;
const LOOK_EVERY_MS = 250;

/**
 * @typedef {{ phase: "connecting" | "live" | "lost", lastAt: number | null, silentMs: number }} LinkState
 * @typedef {{ addEventListener: (name: string, heard: (event: any) => void) => void, close: () => void }} Source
 * @typedef {object} LinkOptions
 * @property {() => Source} open opens a new line
 * @property {(raw: unknown) => void} onSnapshot
 * @property {(state: LinkState) => void} onState on each change of the phase, and while lost at each look
 * @property {() => void} [onOpen] each time a line has opened
 * @property {(look: () => void, ms: number) => () => void} [every] calls again and again; what it returns ends that
 * @property {() => number} [monotonic] milliseconds
 * @property {() => number} [wall] Unix milliseconds
 */

/** @param {() => void} look @param {number} ms */
function timer(look, ms) {
  const id = setInterval(look, ms);
  return () => clearInterval(id);
}

/** @param {LinkOptions} options @returns {{ close: () => void }} */
export function follow(options) {
  const { open, onSnapshot, onState, onOpen = () => {} } = options;
  const { every = timer, monotonic = () => performance.now(), wall = Date.now } = options;
  /** @type {Source | null} */
  let source = null;
  /** @type {LinkState["phase"]} */
  let phase = "connecting";
  /** @type {number | null} */
  let lastAt = null;
  let heardAt = monotonic();
  let openedAt = 0;
  let retryAt = 0;
  let pause = RETRY_FIRST_MS;

  const tell = () => onState({ phase, lastAt, silentMs: monotonic() - heardAt });

  function drop() {
    source?.close();
    source = null;
    retryAt = monotonic() + pause;
    pause = Math.min(pause * 2, RETRY_MOST_MS);
  }

  function start() {
    openedAt = monotonic();
    const mine = open();
    source = mine;
    mine.addEventListener("open", () => mine === source && onOpen());
    mine.addEventListener("error", () => mine === source && drop());
    mine.addEventListener("snapshot", (event) => mine === source && hear(event.data));
  }

  /** @param {string} data */
  function hear(data) {
    let raw;
    try {
      raw = JSON.parse(data);
    } catch {
      return; // Not a word of the monitor's: silence, as far as the page is concerned.
    }
    heardAt = monotonic();
    lastAt = wall();
    pause = RETRY_FIRST_MS;
    if (phase !== "live") {
      phase = "live";
      tell();
    }
    onSnapshot(raw);
  }

  function look() {
    const now = monotonic();
    const silent = now - heardAt;
    if (silent > SILENT_MS) {
      phase = "lost";
      tell();
    }
    if (source === null) {
      if (now >= retryAt) start();
    } else if (silent > OPEN_WITHIN_MS && now - openedAt > OPEN_WITHIN_MS) {
      drop();
    }
  }

  start();
  const stop = every(look, LOOK_EVERY_MS);
  return {
    close() {
      stop();
      source?.close();
      source = null;
    },
  };
}
