// The page of `tripod monitor`: one snapshot a second in, everything on the screen out.
//
// Constraints: read-only; it talks to the server that it came from and to nobody else. A panel that cannot be drawn says so in its place
// and takes no other with it. Nothing is drawn while nobody looks (a hidden tab), but the title and its icon go on: they are
// what a pinned tab shows. Elements stay and only what changed in them is touched, so that focus, selection and the
// place one has scrolled to survive each second.
//
// Operation: link.js hears snapshots -> snapshot.js makes them whole -> headline, panels and charts draw them.

import { nothing, render } from "lit-html";
import { forgetColours } from "./colours.js";
import { clock } from "./format.js";
import { headline, isNews, lostHeadline } from "./headline.js";
import { History } from "./history.js";
import { follow } from "./link.js";
import { alerts, runbookHref, whatToDo } from "./panels/alerts.js";
import { backups, drills } from "./panels/backups.js";
import { charts } from "./panels/charts.js";
import { health } from "./panels/health.js";
import { journal } from "./panels/journal.js";
import { ledger } from "./panels/ledger.js";
import { disks, jobs } from "./panels/machine.js";
import { prices } from "./panels/prices.js";
import { servers } from "./panels/servers.js";
import { sinks } from "./panels/sinks.js";
import { streams } from "./panels/streams.js";
import { tape } from "./panels/tape.js";
import { tokens } from "./panels/tokens.js";
import { readSnapshot } from "./snapshot.js";
import { applyTheme, rememberTheme, theme } from "./theme.js";
import { empty, icon } from "./view.js";

/** @typedef {import("./contract.js").Snapshot} Snapshot */
/** @typedef {import("./headline.js").Headline} Headline */

/** @param {string} id */
function element(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`index.html has no #${id}`);
  return found;
}

/** @type {Record<string, (snapshot: Snapshot, view: import("./view.js").View) => unknown>} */
const PANELS = { alerts, servers, ledger, sinks, tape, streams, prices, tokens, journal, disks, health, backups, jobs, drills };

const history = new History();
const chartPanel = charts(element("charts"));
/** Lists that are shown whole. @type {Set<string>} */
const open = new Set();

/** @type {Snapshot | null} */
let snapshot = null;
/** @type {import("./link.js").LinkState} */
let link = { phase: "connecting", lastAt: null, silentMs: 0 };
let refused = false;
let windowSeconds = 300;
/** The version that served this page. @type {string | null} */
let pageVersion = null;

// The one line, its twin for screen readers, and the tab's title.

/** @returns {Headline} */
function truth() {
  if (link.phase === "lost") return lostHeadline({ ...link, refused });
  if (snapshot === null) return { level: "unknown", lead: "Asking the monitor", detail: "", spoken: "" };
  return headline(snapshot);
}

function drawHeadline() {
  const { level, lead, detail, spoken, runbook } = truth();
  const box = element("headline");
  box.dataset.level = level;
  render([icon(level), lead], element("lead"));
  element("detail").textContent = detail;
  const href = runbookHref(runbook ?? null);
  render(href === null ? nothing : whatToDo(href, lead), element("do"));
  // Only when it says something new: a screen reader reads out whatever is put here.
  const told = element("spoken");
  if (isNews(spoken, told.textContent ?? "")) told.textContent = spoken;
  const title = level === "ok" ? "All well" : lead;
  if (document.title !== `${title} · Tripod`) document.title = `${title} · Tripod`;
  const tab = /** @type {HTMLLinkElement} */ (element("tab-icon"));
  const picture = `assets/icon-${level}.svg`;
  if (tab.getAttribute("href") !== picture) tab.setAttribute("href", picture);
}

function drawLink() {
  document.documentElement.dataset.link = link.phase;
  const words = { connecting: "connecting", live: "live", lost: "not connected" };
  element("link-word").textContent = words[link.phase];
  element("link-at").textContent = link.lastAt === null ? "" : link.phase === "live" ? clock(link.lastAt) : `last data ${clock(link.lastAt)}`;
}

// Panels and charts.

function drawPanels() {
  if (snapshot === null) return;
  const shown = snapshot;
  const view = {
    now: Date.parse(shown.at ?? "") || Date.now(),
    expanded: (/** @type {string} */ list) => open.has(list),
    toggle(/** @type {string} */ list) {
      if (!open.delete(list)) open.add(list);
      drawPanels();
    },
  };
  for (const [name, panel] of Object.entries(PANELS)) {
    const place = element(`panel-${name}`);
    try {
      render(panel(shown, view), place);
    } catch (error) {
      console.error(`panel ${name}`, error);
      render(empty("This panel could not be drawn; the browser's console says why."), place);
    }
  }
  element("alerts-section").dataset.level = shown.alerts.length + shown.troubles.length === 0 ? "ok" : "bad";
  element("version").textContent = shown.version ?? "";
  element("reload").hidden = shown.version === null || shown.version === pageVersion;
  reachable();
}

function drawCharts() {
  chartPanel.draw(history.window(windowSeconds), windowSeconds, snapshot?.servers ?? []);
}

function drawAll() {
  drawHeadline();
  drawLink();
  if (document.hidden) return;
  drawPanels();
  drawCharts();
}

/** A box that scrolls sideways takes the focus, so that the keyboard can scroll it; one that does not needs no stop. */
function reachable() {
  for (const box of document.querySelectorAll(".scroll")) {
    const scrolls = box.scrollWidth > box.clientWidth;
    if (scrolls !== box.hasAttribute("tabindex")) {
      if (scrolls) box.setAttribute("tabindex", "0");
      else box.removeAttribute("tabindex");
    }
  }
}

// The line to the monitor.

async function fetchHistory() {
  try {
    const answer = await fetch("api/history", { cache: "no-store", signal: AbortSignal.timeout(10_000) });
    refused = answer.status === 401 || answer.status === 403;
    if (answer.ok) history.replace(await answer.json());
    if (!document.hidden) drawCharts();
  } catch {
    // The line is down or the answer is none: the watchdog says so, and the next opening asks again.
  }
}

/** A line that was refused says only "error"; whether a token is missing, a plain request tells. */
async function askWhy() {
  try {
    const answer = await fetch("api/snapshot", { cache: "no-store", signal: AbortSignal.timeout(3_000) });
    refused = answer.status === 401 || answer.status === 403;
  } catch {
    refused = false;
  }
}

function startLink() {
  follow({
    open() {
      const source = new EventSource("api/events");
      source.addEventListener("error", () => void askWhy());
      return source;
    },
    onOpen: () => void fetchHistory(),
    onState(state) {
      link = state;
      drawHeadline();
      drawLink();
    },
    onSnapshot(raw) {
      snapshot = readSnapshot(raw);
      pageVersion ??= snapshot.version;
      link = { ...link, lastAt: Date.now() };
      history.push(snapshot);
      drawAll();
    },
  });
}

// What a hand can change.

function startControls() {
  for (const input of document.querySelectorAll("input[name=theme]")) {
    const choice = /** @type {HTMLInputElement} */ (input);
    choice.checked = choice.value === theme();
    choice.addEventListener("change", () => {
      rememberTheme(choice.value);
      applyTheme(choice.value);
      repaint();
    });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  for (const input of document.querySelectorAll("input[name=window]")) {
    const choice = /** @type {HTMLInputElement} */ (input);
    choice.addEventListener("change", () => {
      windowSeconds = Number(choice.value);
      drawCharts();
    });
    if (choice.checked) windowSeconds = Number(choice.value);
  }
  element("reload-now").addEventListener("click", () => location.reload());
  document.addEventListener("visibilitychange", () => !document.hidden && drawAll());
  addEventListener("resize", reachable);
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  element("zone").textContent = zone === "UTC" ? "Times are UTC." : `Times are those of ${zone}; point at one for UTC.`;
}

function repaint() {
  forgetColours();
  chartPanel.redraw();
}

startControls();
drawHeadline();
drawLink();
startLink();
