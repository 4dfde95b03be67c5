// SPDX-License-Identifier: Apache-2.0
// The Explore tab: one filter and range, seen as a time series, a table of the largest, and a diagram of who to whom.

import { address, ApiError, ask, patient, token } from "./api.js";
import { bars, clear, colours } from "./charts.js";
import { byId, debounce, el, notice, place, setText } from "./dom.js";
import { FilterBox } from "./filter_box.js";
import { narrowed } from "./filter_text.js";
import { amount, dimension, duration, share, whole } from "./format.js";
import { Names } from "./names.js";
import { Packets } from "./packets.js";
import { drawPaths } from "./paths.js";
import { cut } from "./text.js";
import { asked, iso, shown, stamp, zone } from "./times.js";
import { drawTop } from "./top_table.js";
import { go, link, read } from "./view.js";

const RANGES = ["5m", "15m", "1h", "6h", "24h", "7d"];
const SERIES = 8;
const PATHS = 30;
const PATH = "src_addr,protocol,dst_port,dst_addr";

/** How complete the range is, by the ledger: nobody should read a hole as silence. */
function completeness(found) {
  if (!found?.seen_packets) return "; no ledger of this range";
  const part = (packets) => share(packets, found.seen_packets);
  const parts = [];
  if (found.dropped_packets) parts.push(`${part(found.dropped_packets)} dropped`);
  if (found.unstored_packets) parts.push(`${part(found.unstored_packets)} not stored yet`);
  if (found.coalesced_packets) parts.push(`${part(found.coalesced_packets)} added up by the kernel`);
  if (found.losses) parts.push(`${whole(found.losses)} losses of ${whole(found.lost_packets)} packets or more`);
  if (found.unclosed_epochs) parts.push(`${whole(found.unclosed_epochs)} epochs unclosed`);
  const said = [`; of all packets that nodes saw ${parts.length ? parts.join(", ") : "none was dropped or lost"}`];
  if (found.rollup_missing_records) said.push(`${found.table} lacks ${whole(found.rollup_missing_records)} flow records`);
  if (found.unkept_packets) said.push(`${whole(found.unkept_packets)} packets are not, or no longer, in ${found.table}`);
  const readForNames = found.named_packets + found.unnamed_packets;
  if (readForNames) said.push(`${share(found.named_packets, readForNames)} of what was read for names has one`);
  const settled = Date.parse(found.settled_until);
  if (settled < Date.parse(found.until) - 1000) said.push(`settled until ${stamp(settled)}`);
  return said.join("; ");
}

/** Asks again whenever the view changes. */
export class Explore {
  constructor() {
    this.shown = "";
    this.asking = null;
    this.answer = null;
    this.box = new FilterBox((filter) => this.change({ filter }));
    this.narrow = (term) => this.change({ filter: narrowed(read().filter, term) });
    this.names = new Names(go, this.narrow);
    this.named = "";
    this.packets = new Packets((first, last) => this.between(first, last));
    byId("ranges").replaceChildren(...RANGES.map((range) => el("button", {
      type: "button", text: range, data: { range }, on: { click: () => this.change({ since: range, until: "now" }) },
    })));
    byId("range-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.change({ since: asked(byId("since").value) || "1h", until: asked(byId("until").value) || "now" });
    });
    byId("by").addEventListener("change", (event) => this.change({ by: event.target.value }));
    byId("measure").addEventListener("change", (event) => this.change({ measure: event.target.value }));
    byId("copy-link").addEventListener("click", () => this.copyLink());
    byId("csv").addEventListener("click", (event) => this.download(event));
    addEventListener("theme", () => this.draw());
    addEventListener("zone", () => {
      this.range(read());
      this.draw();
      this.names.draw();
      this.packets.draw();
    });
    addEventListener("resize", debounce(() => {
      this.draw();
      this.packets.draw();
    }, 200));
  }

  /** The same view once more is asked anew: time has gone on. */
  change(changes) {
    this.shown = this.named = "";
    go(changes);
  }

  /** Between two times in ms, to the second. */
  between(first, last) {
    this.change({ since: iso(1000 * Math.floor(first / 1000)), until: iso(1000 * Math.ceil(last / 1000)) });
  }

  /** Show what the address says. */
  update() {
    const view = read();
    if (view.tab !== "explore") return;
    this.range(view);
    byId("measure").value = view.measure;
    const by = byId("by");
    if (![...by.options].some((option) => option.value === view.by)) by.append(el("option", { value: view.by, text: view.by }));
    by.value = view.by;
    this.box.value = view.filter;
    for (const button of byId("ranges").children) {
      button.setAttribute("aria-pressed", String(view.until === "now" && button.dataset.range === view.since));
    }
    byId("csv").href = this.csv(view);
    const named = link({ ...view, tab: "explore", sort: "bytes", by: "", measure: "bytes" });
    const key = link({ ...view, tab: "explore", sort: "bytes", names: "domains" });
    const [again, names] = [key !== this.shown, named !== this.named];
    [this.shown, this.named] = [key, named];
    if (again) this.load(view);
    if (names) this.names.load(view);
  }

  range(view) {
    byId("since").value = shown(view.since);
    byId("until").value = shown(view.until);
  }

  csv(view) {
    return address("/api/flows", {
      filter: view.filter, since: view.since, until: view.until, sort: view.measure, format: "csv",
    }).href;
  }

  async load(view) {
    this.asking?.abort();
    const asking = new AbortController();
    this.asking = asking;
    const { filter, since, until, measure, by } = view;
    const common = { filter, since, until };
    byId("explore-content").setAttribute("aria-busy", "true");
    const began = performance.now();
    try {
      const [series, top, paths, complete] = await Promise.all([
        patient("/api/series", { ...common, by, measure, limit: SERIES, points: 200 }, asking.signal),
        patient("/api/top", { ...common, by, sort: measure, limit: 20 }, asking.signal),
        patient("/api/top", { ...common, by: PATH, sort: measure, limit: PATHS }, asking.signal),
        patient("/api/completeness", { since, until }, asking.signal).catch(() => null),     // the figures stand without it
      ]);
      this.answer = { view, series, top, paths, complete, seconds: (performance.now() - began) / 1000 };
      this.box.clearError();
      this.draw();
      this.packets.load(view, Date.parse(series.since), Date.parse(series.until));
    } catch (error) {
      if (error.name !== "AbortError" && this.asking === asking) this.fail(error);
    } finally {
      if (this.asking === asking) byId("explore-content").removeAttribute("aria-busy");
    }
  }

  fail(error) {
    this.shown = "";
    const mistaken = error instanceof ApiError && error.status === 400;
    if (mistaken && (error.column || /filter/i.test(error.message))) {
      this.box.fail(error.message, error.column);
      place(byId("explore-note"), notice(
        "error", "The filter is not understood", this.answer ? "What is shown below is from before." : "Correct it and run it again.",
      ));
      if (!this.answer) byId("explore-content").hidden = true;
      return;
    }
    byId("explore-content").hidden = !this.answer;
    const again = el("button", { text: "Try again", on: { click: () => this.change({}) } });
    place(byId("explore-note"), notice("error", mistaken ? "This cannot be answered" : "No answer", error.message, again));
  }

  draw() {
    if (!this.answer || read().tab !== "explore") return;
    const { view, series, top, paths, complete, seconds } = this.answer;
    const records = top.total?.records ?? 0;
    const empty = !top.rows.length;
    place(byId("explore-note"), empty ? notice(
      "empty", "No flows in this range",
      view.filter ? "Nothing matches the filter. Take a term out of it, or choose a longer range."
        : "Nothing is stored for it. Choose a longer range; if traffic should be there, `ayaflow doctor` checks each stage.",
    ) : null);
    byId("explore-content").hidden = empty;
    if (empty) return;
    const unit = view.measure === "bytes" ? "B/s" : "packets/s";
    setText(byId("series-title"), `${view.measure === "bytes" ? "Bytes" : "Packets"} a second by ${view.by.replaceAll(",", ", ")}`);
    const [from, to] = [Date.parse(series.since), Date.parse(series.until)];
    const steps = stepsOf(series);
    const unknown = series.series.length > 0 && steps.some((_, i) => series.series.some((one) => one.values[i] === null));
    setText(byId("series-span"), `${stamp(from)} – ${stamp(to)}${zone() === "UTC" ? "" : `, ${zone()}`}; ${duration(series.step_seconds)} a step, from `
      + `${series.table}${unknown ? "; grey: nothing was watched, or it is not stored yet" : ""}`);
    const total = top.total[view.measure] + top.total[`${view.measure}_rev`];
    setText(byId("explore-summary"), `${amount(total, view.measure)}${view.measure === "packets" ? " packets" : ""} in `
      + `${whole(records)} flow records, both directions; answered in ${seconds.toFixed(2)} s${completeness(complete)}`);
    const names = series.series.map((one) => nameOf(one.name));
    const hues = colours(names);
    const chart = byId("series-chart");
    bars(chart, {
      steps, unit,
      series: series.series.map((one, i) => ({
        name: nameOf(one.name, cut), whole: names[i], colour: hues.get(names[i]),
        values: steps.map((step, n) => (one.values[n] === null ? null : one.values[n] / ((step.to - step.from) / 1000))),
      })),
      range: [from, to],
      onRange: (first, last) => this.between(first, last),
    }).catch((error) => {
      clear(chart);
      chart.replaceChildren(notice("error", "No charts", error.message));
    });
    drawTop(byId("top"), top, view, hues, this.narrow);
    drawPaths(byId("paths"), byId("paths-note"), paths, view, this.narrow);
  }

  /** With times that stay: who opens it later sees the same. */
  async copyLink() {
    const pinned = this.answer ? { since: this.answer.series.since, until: this.answer.series.until } : {};
    const url = new URL(link({ ...read(), ...pinned }), location.href).href;
    try {
      await navigator.clipboard.writeText(url);
      setText(byId("copied"), "Link copied");
    } catch {
      history.replaceState(null, "", url);      // no clipboard without https: the address bar has it
      setText(byId("copied"), "The link is in the address bar");
    }
    setTimeout(() => setText(byId("copied"), ""), 4000);
  }

  /** A link cannot carry a token: then the file is fetched, and kept in memory until it is saved. */
  async download(event) {
    if (!token()) return;
    event.preventDefault();
    const view = read();
    try {
      const answer = await ask("/api/flows", {
        filter: view.filter, since: view.since, until: view.until, sort: view.measure, format: "csv",
      });
      const url = URL.createObjectURL(await answer.blob());
      const anchor = el("a", { href: url, download: "flows.csv", hidden: true });
      document.body.append(anchor);
      anchor.click();
      anchor.remove();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
    } catch (error) {
      this.fail(error);
    }
  }
}

/** What each value is the sum of: [{from, to}] in ms, cut by the range. A last step that lasts still is left out. */
function stepsOf(series) {
  const [since, until] = [Date.parse(series.since), Date.parse(series.until)];
  const steps = series.times.map(Date.parse).map((time) => ({
    from: Math.max(since, time), to: Math.min(until, time + series.step_seconds * 1000), end: time + series.step_seconds * 1000,
  }));
  const lasts = Date.now() - until < 60_000;
  return steps.filter((step, i) => i === 0 || !lasts || step.end <= until);
}

/** A series' name: "other", or the values of its dimensions; `shown` is how those look that others chose. */
function nameOf(name, shown = (text) => text) {
  if (typeof name !== "object" || name === null) return String(name ?? "all");
  return Object.entries(name).filter(([key]) => key !== "protocol_name")
    .map(([key, value]) => (Array.isArray(value) ? dimension(key, value) : shown(dimension(key, value)))).join(" · ") || "all";
}
