// SPDX-License-Identifier: Apache-2.0
// The chart library behind functions that know our themes. plotly.js is loaded when the first chart is drawn.

import { colour, palette } from "./theme.js";

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

/** plotly reads some markup in text: data must not be able to write any. */
export const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

function layout(more) {
  const ink = colour("--ink");
  const axis = { gridcolor: colour("--grid"), linecolor: colour("--line"), zeroline: false, tickcolor: colour("--line") };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 66, r: 10, t: 6, b: 38 },
    font: { family: colour("--font"), size: 12, color: colour("--muted") }, hovermode: "x unified", dragmode: false,
    hoverlabel: {
      bgcolor: colour("--panel"), bordercolor: colour("--line"), font: { color: ink, size: 12 }, namelength: 40,
    },
    showlegend: true,
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12, color: ink }, itemclick: "toggle", traceorder: "normal" },
    xaxis: { ...axis, type: "date", fixedrange: true, showgrid: false, ...more.xaxis },
    yaxis: { ...axis, fixedrange: true, rangemode: "tozero", nticks: 6, ...more.yaxis },
    ...Object.fromEntries(Object.entries(more).filter(([name]) => !name.endsWith("axis"))),
  };
}

/** plotly shows times as they are written: the browser's own time zone, to the millisecond. */
export function localTime(time) {
  const date = new Date(time);
  return new Date(date.getTime() - date.getTimezoneOffset() * 60000).toISOString().slice(0, -1);
}

/** The moment of a local time that plotly gives back, such as "2026-11-22 14:03:07.5". */
export const fromLocalTime = (text) => new Date(String(text).replace(" ", "T"));

/**
 * Stacked areas. `times`: milliseconds; `series`: [{name, values (per second, null: nothing known), colour, stack}];
 * `unit`: "B/s" or "packets/s"; `range`: [from, to] or null; `tickformat`: of the times;
 * `onRange(from, to)`: a span was chosen by dragging.
 * @param {HTMLElement & Record<string, any>} holder
 * @param {{times: number[], series: any[], unit: string, range?: [number, number] | null, tickformat?: string | null,
 *   onRange?: ((from: Date, to: Date) => void) | null}} what
 */
export async function areas(holder, { times, series, unit, range = null, tickformat = null, onRange = null }) {
  const plotly = await library();
  const x = times.map(localTime);
  const few = times.length < 2;
  // where most are near 0, their lines would hide the area under them: only streams that mirror have lines
  const lines = series.some((one) => one.stack);
  const traces = series.map((one) => ({
    type: "scatter", mode: few ? "markers" : "lines", x, y: one.values, name: plain(one.name),
    stackgroup: one.stack ?? "all",
    line: { width: lines ? 1.25 : 0, color: one.colour }, fillcolor: `${one.colour}${one.faint ? "3d" : lines ? "73" : "b8"}`, 
    stackgaps: "infer zero",
    customdata: one.values.map((value) => Math.abs(value ?? 0)), hovertemplate: `%{customdata:.3s}${unit}`,
  }));
  const first = !holder.classList.contains("js-plotly-plot");
  await plotly.react(holder, traces, layout({
    dragmode: onRange ? "zoom" : false,
    xaxis: { fixedrange: !onRange, ...(tickformat ? { tickformat } : {}), ...(range ? { range: range.map(localTime) } : {}) },
    yaxis: { tickformat: "~s", ticksuffix: unit === "B/s" ? "B/s" : "/s", zeroline: true, zerolinecolor: colour("--line") },
  }), CONFIG);
  if (first && onRange) {
    holder.on("plotly_relayout", (event) => {
      const from = event["xaxis.range[0]"];
      const to = event["xaxis.range[1]"];
      if (from && to) onRange(fromLocalTime(from), fromLocalTime(to));
    });
  }
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
