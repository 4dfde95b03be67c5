// SPDX-License-Identifier: Apache-2.0
// The chart library behind functions that know our themes. plotly.js is loaded when the first chart is drawn.

import { clean } from "./text.js";
import { colour, palette } from "./theme.js";
import { stamp, ticks, zone } from "./times.js";

const CONFIG = { displayModeBar: false, responsive: true, showTips: false, doubleClick: false };
/** @type {Promise<any> | null} */
let loading = null;
const page = /** @type {any} */ (window);   // plotly.js puts itself there

/**
 * plotly.js; throws an Error with a sentence when it cannot be loaded.
 * @returns {Promise<any>}
 */
export function library() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "/static/vendor/plotly.min.js";
    script.addEventListener("load", () => resolve(page.Plotly));
    script.addEventListener("error", () => {
      loading = null;
      script.remove();
      reject(new Error("The chart library did not load; is the package plotly installed? Run make setup."));
    });
    document.head.append(script);
  });
  return loading;
}

/** plotly reads some markup in text: data must not be able to write any, nor to turn it around. */
export const plain = (text) => clean(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

function layout(more) {
  const ink = colour("--ink");
  const axis = { gridcolor: colour("--grid"), linecolor: colour("--line"), zeroline: false, tickcolor: colour("--line") };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 66, r: 10, t: 6, b: 42 },
    font: { family: colour("--font"), size: 12, color: colour("--muted") }, hovermode: "x unified", dragmode: false,
    hoverlabel: {
      bgcolor: colour("--panel"), bordercolor: colour("--line"), font: { color: ink, size: 12 }, namelength: 40,
    },
    showlegend: true,
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12, color: ink }, itemclick: "toggle", traceorder: "normal" },
    xaxis: { ...axis, fixedrange: true, showgrid: false, ...more.xaxis },
    yaxis: { ...axis, fixedrange: true, rangemode: "tozero", nticks: 6, ...more.yaxis },
    ...Object.fromEntries(Object.entries(more).filter(([name]) => !name.endsWith("axis"))),
  };
}

/** An axis of moments in ms. plotly knows no zones: the marks and their text are ours. */
function timeAxis(holder, [from, to]) {
  const marks = ticks(from, to, Math.max(2, Math.floor(holder.clientWidth / 105)));
  return {
    type: "linear", range: [from, to], tickmode: "array", tickvals: marks.map((one) => one.time),
    ticktext: marks.map((one) => one.text), tickangle: 0, unifiedhovertitle: { text: plain(zone()) },
  };
}

/** A trace that is not seen: the first line of what is shown under the pointer. */
const underPointer = (more, x, texts) => ({
  ...more, x, y: x.map(() => 0), customdata: texts, hovertemplate: "%{customdata}<extra></extra>", showlegend: false,
});

/** What an axis of a rate looks like. */
const rateAxis = (unit) => ({
  tickformat: "~s", ticksuffix: unit === "B/s" ? "B/s" : "/s", zeroline: true, zerolinecolor: colour("--line"),
});

/** Legends have no tooltips of their own: `wholes`: the names in full, by what is shown of them. */
function explain(holder, wholes) {
  for (const text of holder.querySelectorAll(".legendtext")) {
    const item = text.closest(".traces");
    const whole = clean(wholes.get(text.dataset.unformatted) ?? "");
    if (!item || item.firstChild?.textContent === whole) continue;
    const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
    title.textContent = whole;
    item.prepend(title);
  }
}

/**
 * Stacked bars, one a step. `steps`: [{from, to}] in ms; `series`: [{name, whole, values (a second; null: nothing is
 * known), colour}]; `unit`: "B/s" or "packets/s"; `range`: [from, to] in ms; `onRange(from, to)`: a span was chosen by dragging.
 * @param {HTMLElement & Record<string, any>} holder
 */
export async function bars(holder, { steps, series, unit, range, onRange }) {
  const plotly = await library();
  const x = steps.map((step) => (step.from + step.to) / 2);
  const shape = { type: "bar", width: steps.map((step) => step.to - step.from) };
  const nothing = (i) => series.every((one) => one.values[i] === null);
  const traces = [
    underPointer({ ...shape, marker: { color: "rgba(0,0,0,0)" } }, x, steps.map((step, i) => (
      `${stamp(step.from)}${nothing(i) ? ": nothing is known" : ""}`))),
    ...series.map((one) => ({
      ...shape, x, y: one.values, name: plain(one.name), marker: { color: one.colour, line: { width: 0 } },
      hovertemplate: `%{y:.3s}${unit}`,
    })),
  ];
  const first = !holder.classList.contains("js-plotly-plot");
  holder.ayaflowRange = onRange;
  await plotly.react(holder, traces, layout({
    dragmode: "zoom", barmode: "stack", bargap: 0, shapes: [...unknown(steps, nothing)].map(shade),
    xaxis: { fixedrange: false, ...timeAxis(holder, range) }, yaxis: rateAxis(unit),
  }), CONFIG);
  explain(holder, new Map(series.map((one) => [plain(one.name), one.whole])));
  if (first) {
    holder.on("plotly_relayout", (event) => {
      const [from, to] = [event["xaxis.range[0]"], event["xaxis.range[1]"]];
      if (from !== undefined && to !== undefined) holder.ayaflowRange(from, to);
    });
  }
}

/** Spans of steps of which nothing is known: {from, to} in ms. */
function* unknown(steps, nothing) {
  for (let i = 0; i < steps.length; i += 1) {
    if (!nothing(i)) continue;
    const { from } = steps[i];
    while (i + 1 < steps.length && nothing(i + 1)) i += 1;
    yield { from, to: steps[i].to };
  }
}

const shade = ({ from, to }) => ({
  type: "rect", xref: "x", yref: "paper", x0: from, x1: to, y0: 0, y1: 1, layer: "below", line: { width: 0 },
  fillcolor: colour("--line"), opacity: 0.45,
});

/** Stretches in which the same series are known and no more than `longest` ms lie between two times: [first, end). */
export function stretches(times, series, longest) {
  const found = [];
  times.forEach((time, i) => {
    const known = series.filter((one) => one.values[i] !== null);
    const last = found.at(-1);
    const same = last && last.known.length === known.length && last.known.every((one, n) => one === known[n]);
    if (same && time - times[i - 1] <= longest) last.end = i + 1;
    else found.push({ first: i, end: i + 1, known });
  });
  return found.filter((one) => one.known.length);
}

/**
 * Stacked areas that mirror at zero. `times`: milliseconds; `series`: [{name, whole, values (a second; null: nothing is
 * known), colour, stack, faint}]; `longest`: ms between two times, beyond which there is a gap.
 */
export async function areas(holder, { times, series, unit, range, longest }) {
  const plotly = await library();
  const traces = stretches(times, series, longest).flatMap(({ first, end, known }) => known.map((one) => ({
    type: "scatter", mode: end - first < 2 ? "markers" : "lines", x: times.slice(first, end), y: one.values.slice(first, end),
    name: plain(one.name), legendgroup: plain(one.name), legendrank: 1 + series.indexOf(one), stackgroup: `${one.stack} ${first}`,
    line: { width: 1.25, color: one.colour }, marker: { size: 4, color: one.colour },
    fillcolor: `${one.colour}${one.faint ? "3d" : "73"}`,
    customdata: one.values.slice(first, end).map(Math.abs), hovertemplate: `%{customdata:.3s}${unit}`,
  })));
  const named = new Set();
  for (const trace of traces) {
    trace.showlegend = !named.has(trace.name);
    named.add(trace.name);
  }
  const pointer = { type: "scatter", mode: "lines", line: { width: 0 } };
  await plotly.react(holder, [underPointer(pointer, times, times.map(stamp)), ...traces], layout({
    xaxis: timeAxis(holder, range), yaxis: rateAxis(unit),
  }), CONFIG);
  explain(holder, new Map(series.map((one) => [plain(one.name), one.whole])));
}

/**
 * A Sankey diagram. `nodes`: [{label, colour}]; `links`: [{source, target, value, text}] by index;
 * `format`: a value as text; `onNode(index)`, `onLink(index)`: one was clicked.
 */
export async function sankey(holder, { nodes, links, format, onNode, onLink }) {
  const plotly = await library();
  const trace = {
    type: "sankey", arrangement: "fixed", valueformat: ".3s", textfont: { color: colour("--ink"), size: 11.5 },
    node: {
      label: nodes.map((node) => plain(node.label)), color: nodes.map((node) => node.colour), pad: 9, thickness: 11,
      line: { width: 0 }, customdata: nodes.map((node) => format(node.value)),
      hovertemplate: "%{label}<br>%{customdata}<extra></extra>",
    },
    link: {
      source: links.map((one) => one.source), target: links.map((one) => one.target),
      value: links.map((one) => one.value), color: links.map((one) => `${nodes[one.colourOf].colour}55`),
      customdata: links.map((one) => `${plain(one.text)}<br>${format(one.value)}`),
      hovertemplate: "%{customdata}<extra></extra>",
    },
  };
  const first = !holder.classList.contains("js-plotly-plot");
  holder.ayaflowClick = { onNode, onLink };
  await plotly.react(holder, [trace], layout({ margin: { l: 4, r: 4, t: 8, b: 8 }, hovermode: "closest" }), CONFIG);
  if (first) {
    holder.on("plotly_click", (event) => {
      const point = event.points[0];
      if (point.sourceLinks) holder.ayaflowClick.onNode(point.pointNumber);
      else holder.ayaflowClick.onLink(point.pointNumber);
    });
  }
}

/** Take a chart away, so that its place can say something else. */
export function clear(holder) {
  if (page.Plotly && holder.classList.contains("js-plotly-plot")) page.Plotly.purge(holder);
}

/** Colours by name: a name keeps its colour while it stays among the names; `other` is grey. */
export function colours(names) {
  const all = palette();
  let next = 0;
  return new Map(names.map((name) => [name, name === "other" ? colour("--series-other") : all[next++ % all.length]]));
}
