// One chart over time: uPlot, dressed as the page is.
//
// Constraints: the scale starts at zero, so that a flat line looks flat; a value that is not known is a gap. The time
// axis is the window that was asked for, also where data are missing in it. Where a server was down, the ground is hatched, in every
// chart alike, under the lines. What the canvas shows is said in words too: `summary` for a screen reader, the figures
// above the lines for everybody, at the pointer where there is one and of the last second otherwise.

import uPlot from "uplot";
import { colour } from "./colours.js";
import { clock, isNumber } from "./format.js";
import { runs } from "./runs.js";

const HEIGHT = 148;
const FONT = '11px Inter, system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif';
const HATCH_STEP = 7;
/** Seconds between two ticks of the time axis: those that people count in. */
const TIME_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400];

/**
 * @typedef {object} Line
 * @property {string} label
 * @property {string} colour name of a custom property
 * @property {number[]} [dash]
 * @property {boolean} [filled]
 */
/** @typedef {{ from: number, to: number }} Span Unix seconds */
/**
 * @typedef {object} ChartOptions
 * @property {HTMLElement} host
 * @property {Line[]} lines none for a chart that `lanes` draws
 * @property {(value: number) => string} format
 * @property {number} least the scale reaches so far at least: noise around nothing fills no chart
 * @property {(index: number | null) => void} onCursor index into the data, null when the pointer has left
 */

/**
 * A time axis by the clock on the wall, 24 hours; seconds only where ticks are closer than a minute.
 * @param {uPlot} _plot
 * @param {number[]} splits
 * @param {number} _axis
 * @param {number} _space
 * @param {number} step
 */
const timeAxis = (_plot, splits, _axis, _space, step) =>
  splits.map((second) => (step < 60 ? clock(second * 1000) : clock(second * 1000).slice(0, 5)));

/** Axes, grid and time scale: the same in all charts. @param {() => [number, number]} range @param {number} left width of the left axis */
function common(range, left) {
  const grid = { stroke: () => colour("chart-grid"), width: 1 };
  return {
    width: 320,
    height: HEIGHT,
    padding: /** @type {uPlot.Padding} */ ([8, 20, 0, 0]),
    legend: { show: false },
    cursor: {
      sync: { key: "time" },
      y: false,
      drag: { x: false, y: false, setScale: false },
      points: { size: 7, width: 0 },
    },
    time: {
      stroke: () => colour("text-soft"),
      grid: { show: false },
      ticks: { show: false },
      font: FONT,
      size: 24,
      gap: 6,
      space: 60,
      incrs: TIME_STEPS,
      values: timeAxis,
    },
    left: { stroke: () => colour("text-soft"), grid, ticks: { show: false }, font: FONT, size: left, gap: 8, space: 36 },
    x: { time: true, range },
  };
}

/** @param {string} name @param {number} alpha */
function faint(name, alpha) {
  const [red, green, blue] = colour(name).match(/[\d.]+/g) ?? ["0", "0", "0"];
  return `rgba(${red}, ${green}, ${blue}, ${alpha})`;
}

/** Hatched ground where a server was down. @param {uPlot} plot @param {Span[]} spans */
function hatch(plot, spans) {
  const { ctx, bbox } = plot;
  for (const span of spans) {
    const left = Math.max(bbox.left, plot.valToPos(span.from, "x", true));
    const right = Math.min(bbox.left + bbox.width, plot.valToPos(span.to, "x", true));
    if (right <= left) continue;
    const width = Math.max(right - left, devicePixelRatio);
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, bbox.top, width, bbox.height);
    ctx.clip();
    ctx.fillStyle = faint("bad", 0.1);
    ctx.fillRect(left, bbox.top, width, bbox.height);
    ctx.strokeStyle = faint("bad", 0.35);
    ctx.lineWidth = devicePixelRatio;
    const step = HATCH_STEP * devicePixelRatio;
    ctx.beginPath();
    // From a grid of the plot, not of the span: the stripes stand still while the span moves.
    for (let x = bbox.left - bbox.height; x < bbox.left + bbox.width; x += step) {
      ctx.moveTo(x, bbox.top + bbox.height);
      ctx.lineTo(x + bbox.height, bbox.top);
    }
    ctx.stroke();
    ctx.restore();
  }
}

/** Follows its host's width. @param {HTMLElement} host @param {uPlot} plot @param {() => number} height */
function fit(host, plot, height) {
  const observer = new ResizeObserver(() => {
    const width = Math.floor(host.clientWidth);
    if (width > 0 && width !== plot.width) plot.setSize({ width, height: height() });
  });
  observer.observe(host);
}

/** Lines over time. @param {ChartOptions} options */
export function lineChart({ host, lines, format, least, onCursor }) {
  /** @type {[number, number]} */
  let range = [0, 1];
  /** @type {Span[]} */
  let spans = [];
  const shared = common(() => range, 56);
  /** @type {uPlot.Options} */
  const options = {
    ...shared,
    axes: [shared.time, { ...shared.left, values: (_plot, splits) => splits.map(format) }],
    scales: {
      x: shared.x,
      y: { range: (_plot, _low, high) => [0, Math.max(least, isNumber(high) ? high * 1.08 : 0)] },
    },
    series: [
      {},
      ...lines.map((line) => ({
        label: line.label,
        width: line.filled ? 1 : 1.75,
        dash: line.dash,
        stroke: () => colour(line.colour),
        fill: line.filled ? () => faint(line.colour, 0.16) : undefined,
        points: { show: false },
        spanGaps: false,
      })),
    ],
    hooks: {
      drawClear: [(plot) => hatch(plot, spans)],
      setCursor: [(plot) => onCursor(plot.cursor.idx ?? null)],
    },
  };
  const plot = new uPlot(options, [[], ...lines.map(() => [])], host);
  fit(host, plot, () => HEIGHT);
  return {
    /** @param {number[]} at @param {(number | null)[][]} columns @param {Span[]} down @param {[number, number]} shown */
    draw(at, columns, down, shown) {
      range = shown;
      spans = down;
      plot.setData([at, ...columns]);
    },
    redraw: () => plot.redraw(false, true),
  };
}

/** A lane per server: up, down, not known. @param {Omit<ChartOptions, "lines" | "format" | "least">} options */
export function laneChart({ host, onCursor }) {
  /** @type {[number, number]} */
  let range = [0, 1];
  /** @type {{ title: string, up: (number | null)[] }[]} */
  let lanes = [];
  const shared = common(() => range, 112);
  /** @param {uPlot} plot */
  function drawLanes(plot) {
    const { ctx, bbox } = plot;
    const at = plot.data[0];
    // uPlot remembers which colours it has set; it must find them as it left them.
    ctx.save();
    const lane = bbox.height / Math.max(lanes.length, 1);
    const thick = Math.min(lane * 0.56, 18 * devicePixelRatio);
    lanes.forEach(({ up }, index) => {
      const top = bbox.top + lane * index + (lane - thick) / 2;
      runs(at, up).forEach(({ from, to, value }) => {
        const left = Math.max(bbox.left, plot.valToPos(from, "x", true));
        const width = Math.min(bbox.left + bbox.width, plot.valToPos(to, "x", true)) - left;
        if (width <= 0) return;
        // Down is thinner as well as of another colour.
        const height = value === 1 ? thick : thick * 0.4;
        ctx.fillStyle = value === 1 ? faint("ok", 0.75) : value === 0 ? colour("bad") : faint("text-soft", 0.3);
        ctx.fillRect(left, top + (thick - height) / 2, width, height);
      });
    });
    ctx.restore();
  }
  /** @type {uPlot.Options} */
  const options = {
    ...shared,
    axes: [
      shared.time,
      {
        ...shared.left,
        grid: { show: false },
        splits: () => lanes.map((_, index) => lanes.length - index - 0.5),
        values: () => lanes.map((lane) => (lane.title.length > 16 ? `${lane.title.slice(0, 15)}…` : lane.title)),
      },
    ],
    scales: { x: shared.x, y: { range: () => [0, Math.max(lanes.length, 1)] } },
    series: [{}, { paths: () => null, points: { show: false } }],
    hooks: { draw: [drawLanes], setCursor: [(plot) => onCursor(plot.cursor.idx ?? null)] },
  };
  const plot = new uPlot(options, [[], []], host);
  fit(host, plot, () => HEIGHT);
  return {
    /** @param {number[]} at @param {{ title: string, up: (number | null)[] }[]} given @param {[number, number]} shown */
    draw(at, given, shown) {
      range = shown;
      lanes = given;
      plot.setData([at, at.map(() => null)]);
    },
    redraw: () => plot.redraw(false, true),
  };
}
