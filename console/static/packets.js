// SPDX-License-Identifier: Apache-2.0
// Packets by milliseconds in the Explore tab, where they are kept: of short ranges only, and finer the shorter they are.

import { patient } from "./api.js";
import { bars, clear, colours } from "./charts.js";
import { byId, notice, setText } from "./dom.js";

const LONGEST = 300_000; // ms of a range that is shown
const BARS = 3_000;
const STEPS = [1, 10, 100];
const WAYS = [["received", "ingress"], ["sent", "egress"]];

/** `change(first, last)` goes to another range, in ms. */
export class Packets {
  constructor(change) {
    this.change = change;
    this.asking = null;
    this.answer = null;
  }

  /** Of what the Explore tab shows: its view, and from when to when in ms. */
  async load(view, from, to) {
    this.asking?.abort();
    const asking = new AbortController();
    this.asking = asking;
    const step = STEPS.find((one) => (to - from) / one <= BARS);
    this.answer = null;
    if (to - from <= LONGEST && step) {
      try {
        const since = new Date(from).toISOString();
        const question = { filter: view.filter, since, until: new Date(to).toISOString(), step_ms: step };
        const answer = await patient("/api/packets", question, asking.signal);
        if (answer.kept && answer.steps.length) this.answer = { answer, measure: view.measure };
      } catch (error) {
        if (error.name === "AbortError") return;
        this.answer = { error };
      }
    }
    if (this.asking === asking) this.draw();
  }

  draw() {
    byId("packets-panel").hidden = !this.answer;
    if (!this.answer) return;
    const { answer, measure, error } = this.answer;
    const chart = byId("packets-chart");
    setText(byId("packets-span"), error ? "" : `${answer.step_ms} ms a step; each direction of an interface for itself`);
    if (error) {
      clear(chart);
      chart.replaceChildren(notice("empty", "No packets of this filter", error.message));
      return;
    }
    const [from, to, length] = [Date.parse(answer.since), Date.parse(answer.until), answer.step_ms];
    const first = Math.floor(from / length) * length;
    const count = Math.ceil((to - first) / length);
    const steps = Array.from({ length: count }, (_, i) => ({ from: first + i * length, to: first + (i + 1) * length }));
    const hues = colours(WAYS.map(([name]) => name));
    const series = WAYS.map(([name, way]) => {
      const values = new Array(count).fill(0);
      for (const one of answer.steps) values[Math.round((Date.parse(one.time) - first) / length)] = one[`${way}_${measure}`];
      return { name, whole: name, colour: hues.get(name), values };
    });
    bars(chart, {
      steps, unit: measure === "bytes" ? "B" : "packets", series, range: [from, to], onRange: this.change,
    }).catch((problem) => {
      clear(chart);
      chart.replaceChildren(notice("error", "No charts", problem.message));
    });
  }
}
