// Draws the curves of a run from the JSON beside each of them. The canvases outlive the fragments that htmx swaps in, so
// that a zoom stays where it was; what is drawn is always what the server last said.
"use strict";

const HEIGHT = 150;
const STEPS_HEIGHT = 26; // of the axis below
const BAND_ALPHA = 0.12;
const WHOLE_STEPS = [1, 2, 5].flatMap((digit) => [...Array(10).keys()].map((zeros) => digit * 10 ** zeros)).sort((a, b) => a - b);
const HEADROOM = 0.1; // of the span of the values, above and below
const plots = new Map(); // host -> { plot, drawing }
const controls = document.querySelector("[data-curve-controls]");

/* What is folded away has no width: it is drawn to its own once it is opened. */
const widths = new ResizeObserver((changes) => {
  for (const { target } of changes) {
    if (target.clientWidth) plots.get(target)?.plot.setSize({ width: target.clientWidth, height: HEIGHT });
  }
});

/* The page's own colours: a canvas knows no custom properties. */
function colour(host, name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  host.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function smoothing() {
  return Number(controls.querySelector("[data-smoothing]").value);
}

function isLog() {
  return controls.querySelector("[data-log-axis]").checked;
}

function smooth(values, weight) {
  let mean = null;
  return values.map((value) => {
    if (value !== null) mean = mean === null ? value : weight * mean + (1 - weight) * value;
    return mean;
  });
}

function series(drawing) {
  const values = isLog() ? drawing.values.map((value) => (value > 0 ? value : null)) : drawing.values;
  const weight = smoothing();
  return weight ? [drawing.steps, values, smooth(values, weight)] : [drawing.steps, values];
}

/* Whole where it is large; with an exponent only where the ticks of an axis could not be told apart without one. */
function written(number) {
  const size = Math.abs(number);
  if (size >= 1000) return String(Math.round(number));
  return size && size < 1e-4 ? number.toExponential(1) : String(Number(number.toPrecision(4)));
}

function show(drawing, value) {
  if (value === null || value === undefined) return "–";
  const number = drawing.isShare ? value * 100 : value;
  return drawing.isShare ? `${written(number)}%` : written(number);
}

/* Where the healthy band lies; an open end reaches to the plot's edge. */
function drawBand(plot, drawing, fill) {
  if (drawing.low === null && drawing.high === null) return;
  const { left, top, width, height } = plot.bbox;
  const at = (value, edge) => {
    if (value === null || (isLog() && value <= 0)) return edge;
    return Math.min(top + height, Math.max(top, plot.valToPos(value, "y", true)));
  };
  const upper = at(drawing.high, top);
  const lower = at(drawing.low, top + height);
  plot.ctx.save();
  plot.ctx.globalAlpha = BAND_ALPHA;
  plot.ctx.fillStyle = fill;
  plot.ctx.fillRect(left, upper, width, Math.max(lower - upper, 2));
  plot.ctx.restore();
}

function lines(host, drawing) {
  const accent = colour(host, "--accent");
  const value = (_plot, number) => show(drawing, number);
  const isFew = drawing.steps.length < 2;
  const raw = { label: host.dataset.measuredWord, stroke: smoothing() ? colour(host, "--edge") : accent, width: smoothing() ? 1 : 2, value, points: { show: isFew } };
  const smoothed = { label: host.dataset.smoothedWord, stroke: accent, width: 2, value, points: { show: false } };
  return [{ label: host.dataset.stepWord }, raw, ...(smoothing() ? [smoothed] : [])];
}

/* The values with some room around them; where nothing but 0 was measured, 0 to 1. */
function verticalRange(_plot, low, high) {
  if (low === null) return [null, null];
  return low === 0 && high === 0 ? [0, 1] : uPlot.rangeNum(low, high, HEADROOM, true);
}

function options(host, drawing) {
  const ink = colour(host, "--ink-soft");
  const line = colour(host, "--line");
  const good = colour(host, "--good");
  const font = `12px ${getComputedStyle(host).fontFamily}`;
  const axis = { stroke: ink, font, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
  return {
    width: host.clientWidth,
    height: HEIGHT,
    scales: { x: { time: false }, y: isLog() ? { distr: 3 } : { range: verticalRange } },
    axes: [{ ...axis, size: STEPS_HEIGHT, incrs: WHOLE_STEPS }, { ...axis, size: 64, values: (_plot, ticks) => ticks.map((tick) => (tick === null ? "" : show(drawing, tick))) }],
    series: lines(host, drawing),
    hooks: { drawClear: [(plot) => drawBand(plot, drawing, good)] },
  };
}

function draw(figure) {
  const host = figure.querySelector(".plot");
  if (!host) return; // measured once
  const drawing = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
  const known = plots.get(host);
  if (known) {
    Object.assign(known.drawing, drawing); // the band is drawn from it
    const isZoomed = known.isZoomed();
    known.plot.setData(series(known.drawing), !isZoomed);
    if (isZoomed) known.plot.redraw();
    return;
  }
  const plot = new uPlot(options(host, drawing), series(drawing), host);
  const isZoomed = () => {
    const { min, max } = plot.scales.x;
    const steps = plot.data[0];
    return min > steps[0] || max < steps[steps.length - 1];
  };
  plots.set(host, { plot, drawing, isZoomed });
  widths.observe(host);
}

function drawAll() {
  for (const figure of document.querySelectorAll("[data-curve]")) draw(figure);
}

function startOver() {
  for (const { plot } of plots.values()) plot.destroy();
  plots.clear();
  drawAll();
}

for (const part of document.querySelectorAll("[data-curve-controls]")) part.hidden = false;
controls.addEventListener("input", startOver);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", startOver);
new MutationObserver(startOver).observe(document.documentElement, { attributeFilter: ["data-theme"] });
document.addEventListener("htmx:afterSettle", (event) => {
  if (event.target.id === "curves") drawAll();
});
drawAll();
