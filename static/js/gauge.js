// Draws the gauge of a PPO run: the judge's score and the reward by step, what else was measured below them, and both
// scores against the square root of KL. All panels point at one measurement; the words beside them are its values.
// What curves.js has set up for one curve serves here, too. Neither smoothing nor the logarithmic axis applies: the
// measurements are few, and scores lie on both sides of 0.
"use strict";

const SCORES_HEIGHT = 200;
const SMALL_HEIGHT = 64;
const SCORES = { "gauge/watcher": "--accent", "gauge/reward": "--warning" };
const DASHES = { "gauge/reward": [7, 4] }; // told apart without colours, too
const RING = 7; // pixels from the best measurement's mark to its middle
const NOWHERE = { left: -10, top: -10 };
const panels = new Map(); // host -> plot
let gauge = null; // what the server last said
let isPointing = false; // one panel tells the others, and they tell nobody

/* By KL, as an axis wants its values; the lines go through the measurements in the order of their steps. */
function byDistance() {
  return [...gauge.rootKl.keys()].sort((one, other) => gauge.rootKl[one] - gauge.rootKl[other]);
}

function isDistance(host) {
  return host.dataset.gaugePanel === "distance";
}

function namesIn(host) {
  const name = host.dataset.gaugePanel;
  return name in gauge.metrics && !(name in SCORES) ? [name] : Object.keys(SCORES);
}

function valuesIn(host) {
  const columns = [isDistance(host) ? gauge.rootKl : gauge.steps, ...namesIn(host).map((name) => gauge.metrics[name].values)];
  const order = isDistance(host) ? byDistance() : [...gauge.steps.keys()];
  return columns.map((column) => order.map((index) => column[index]));
}

function placeOf(plot, host, index) {
  const x = (isDistance(host) ? gauge.rootKl : gauge.steps)[index];
  const y = gauge.metrics[namesIn(host)[0]].values[index];
  return [plot.valToPos(x, "x", true), plot.valToPos(y, "y", true)];
}

/* A line through the measurements as they came: KL may fall again. */
function pathInTime(plot, number) {
  const path = new Path2D();
  const name = Object.keys(SCORES)[number - 1];
  gauge.rootKl.forEach((distance, index) => path.lineTo(plot.valToPos(distance, "x", true), plot.valToPos(gauge.metrics[name].values[index], "y", true)));
  return { stroke: path, fill: null, clip: null, band: null, gaps: null, flags: 1 };
}

function drawBestStep(plot, host, stroke) {
  const { top, height } = plot.bbox;
  const x = Math.round(placeOf(plot, host, gauge.best)[0]);
  plot.ctx.save();
  plot.ctx.setLineDash([]);
  plot.ctx.strokeStyle = stroke;
  plot.ctx.lineWidth = devicePixelRatio;
  plot.ctx.beginPath();
  plot.ctx.moveTo(x, top);
  plot.ctx.lineTo(x, top + height);
  plot.ctx.stroke();
  plot.ctx.restore();
}

function drawRing(plot, host, stroke) {
  const [x, y] = placeOf(plot, host, gauge.best);
  plot.ctx.save();
  plot.ctx.setLineDash([]); // of the line that was drawn last
  plot.ctx.strokeStyle = stroke;
  plot.ctx.lineWidth = 2 * devicePixelRatio;
  plot.ctx.beginPath();
  plot.ctx.arc(x, y, RING * devicePixelRatio, 0, 2 * Math.PI);
  plot.ctx.stroke();
  plot.ctx.restore();
}

/* The words of a measurement, or of the last one where the pointer is on none. */
function tell(index) {
  const shown = index ?? gauge.steps.length - 1;
  for (const place of document.querySelectorAll("[data-gauge-value]")) place.textContent = gauge.metrics[place.dataset.gaugeValue].texts[shown];
  for (const place of document.querySelectorAll("[data-gauge-at]")) place.textContent = index === null ? place.dataset.last : gauge.at[index];
}

function point(from, host) {
  if (isPointing) return;
  isPointing = true;
  const at = from.cursor.left < 0 ? null : (from.cursor.idx ?? null);
  const index = at !== null && isDistance(host) ? byDistance()[at] : at;
  for (const [other, plot] of panels) {
    if (plot === from) continue;
    const x = index !== null && (isDistance(other) ? gauge.rootKl : gauge.steps)[index];
    plot.setCursor(index === null ? NOWHERE : { left: plot.valToPos(x, "x"), top: 0 }, false);
  }
  tell(index);
  isPointing = false;
}

/* A healthy range that is closed stands in its panel as a whole. */
function rangeOf(drawing) {
  return (plot, low, high) => {
    if (low === null || drawing.low === null || drawing.high === null) return verticalRange(plot, low, high);
    return verticalRange(plot, Math.min(low, drawing.low), Math.max(high, drawing.high));
  };
}

function lineOf(host, name) {
  const stroke = colour(host, SCORES[name] || "--accent");
  const isJudge = name !== "gauge/reward";
  const points = { show: isJudge, size: 6, fill: stroke };
  return { stroke, width: 2, dash: DASHES[name], points, ...(isDistance(host) ? { paths: pathInTime } : {}) };
}

function panelOptions(host, height, hasSteps) {
  const drawing = gauge.metrics[namesIn(host)[0]];
  const line = colour(host, "--line");
  const axis = { stroke: colour(host, "--ink-soft"), font: `12px ${getComputedStyle(host).fontFamily}`, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
  const below = isDistance(host) ? {} : { incrs: WHOLE_STEPS, ...(hasSteps ? {} : { values: () => [] }) };
  const [good, edge, ink] = ["--good", "--edge", "--ink"].map((name) => colour(host, name));
  return {
    width: host.clientWidth,
    height,
    padding: [8, 14, 0, 0], // the same in all panels, so that one step has one place
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false } },
    scales: { x: { time: false, ...(isDistance(host) ? { range: (_plot, _low, high) => [0, high * 1.02 || 1] } : {}) }, y: { range: rangeOf(drawing) } },
    axes: [
      { ...axis, ...below, size: hasSteps ? STEPS_HEIGHT : 4 },
      { ...axis, size: 64, space: height < SCORES_HEIGHT ? 16 : 24, values: (_plot, ticks) => ticks.map((tick) => show(drawing, tick)) },
    ],
    series: [{}, ...namesIn(host).map((name) => lineOf(host, name))],
    hooks: {
      drawClear: [(plot) => drawBand(plot, drawing, good), ...(isDistance(host) ? [] : [(plot) => drawBestStep(plot, host, edge)])],
      draw: height === SCORES_HEIGHT ? [(plot) => drawRing(plot, host, ink)] : [],
      setCursor: [(plot) => point(plot, host)],
    },
  };
}

const panelWidths = new ResizeObserver((changes) => {
  for (const { target } of changes) {
    const plot = panels.get(target);
    if (plot && target.clientWidth) plot.setSize({ width: target.clientWidth, height: plot.height });
  }
});

function drawGauge() {
  const said = document.querySelector("#gauge script[type='application/json']");
  if (!said) return; // fewer than two measurements are no curve
  gauge = JSON.parse(said.textContent);
  const hosts = [...document.querySelectorAll("[data-gauge-panel]")];
  const lastByStep = hosts.filter((host) => !isDistance(host)).at(-1);
  for (const host of hosts) {
    const known = panels.get(host);
    if (known) {
      known.setData(valuesIn(host));
      continue;
    }
    const isSmall = namesIn(host).length === 1;
    const hasSteps = !isSmall || host === lastByStep;
    const height = isSmall ? SMALL_HEIGHT + (hasSteps ? STEPS_HEIGHT : 0) : SCORES_HEIGHT;
    panels.set(host, new uPlot(panelOptions(host, height, hasSteps), valuesIn(host), host));
    panelWidths.observe(host);
  }
}

function drawGaugeAnew() {
  for (const plot of panels.values()) plot.destroy();
  panels.clear();
  drawGauge();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawGaugeAnew);
new MutationObserver(drawGaugeAnew).observe(document.documentElement, { attributeFilter: ["data-theme"] });
document.addEventListener("htmx:afterSettle", (event) => {
  if (event.target.id === "curves") drawGauge();
});
drawGauge();
