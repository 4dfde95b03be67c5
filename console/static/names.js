// SPDX-License-Identifier: Apache-2.0
// Names in the Explore tab: domains, DNS transactions, failures, latencies, clients whose DNS is not seen; and beside all of
// them how much of the traffic has a name.

import { patient } from "./api.js";
import { byId, el, named, notice, place, setText } from "./dom.js";
import { bytes, milliseconds, share, shareOfNames, si, whole } from "./format.js";
import { quote } from "./filter_text.js";
import { stamp } from "./times.js";
import { NAMES } from "./view.js";

const ROWS = 20;
const TITLES = { domains: "domains", queries: "DNS", failures: "failures", latency: "latency", unseen: "unseen" };
const HELP = {
  domains: "Names of flows, by bytes", queries: "DNS transactions, by name and type", failures: "DNS: errors, and questions without an answer",
  latency: "How long DNS servers took to answer", unseen: "Clients whose DNS was not seen",
};
const NOTHING = {
  domains: ["No flow has a name", "What is encrypted or was asked for elsewhere has none."],
  queries: ["No DNS transaction matches", "Take a term out of the filter, or choose a longer range."],
  failures: ["No DNS transaction failed", "Each was answered, and without an error."],
  latency: ["No DNS server was asked", "Take a term out of the filter, or choose a longer range."],
  unseen: ["The DNS of all clients was seen", "So names of their flows can come from it."],
};

const address = (row, side) => [
  el("span", { text: row[side] }), row[`${side}_reverse`] ? el("span", { class: "reverse", text: row[`${side}_reverse`] }) : null,
];
const both = (row) => row.bytes + row.bytes_rev;
const times = ["p50", "p90", "p99", "max"].map((name) => [name, (row) => milliseconds(row[`latency_us_${name}`]), "number"]);
/** Of each view, its columns: title, what stands in it (text or elements), class; and the term of a click on the first. */
const COLUMNS = {
  domains: [
    ["domain", (row) => row.domain, "name"], ["bytes", (row) => bytes(both(row)), "number"],
    ["share", (row, all) => share(both(row), all), "number"], ["from", (row) => row.sources.join(" "), ""],
    ["clients", (row) => whole(row.clients), "number"], ["servers", (row) => whole(row.servers), "number"],
    ["flows", (row) => whole(row.records), "number"], ["packets", (row) => si(row.packets + row.packets_rev), "number"],
  ],
  queries: [
    ["name", (row) => row.name, "name"], ["type", (row) => row.qtype, ""], ["count", (row) => whole(row.transactions), "number"],
    ["failures", (row) => whole(row.failures), "number"], ["no answer", (row) => whole(row.unanswered), "number"],
    ["clients", (row) => whole(row.clients), "number"], ...times, ["last answer", (row) => el("span", named(row.answers.join(" "))), ""],
  ],
  failures: [
    ["name", (row) => row.name, "name"], ["type", (row) => row.qtype, ""], ["result", (row) => row.rcode, "bad"],
    ["count", (row) => whole(row.transactions), "number"], ["clients", (row) => whole(row.clients), "number"],
    ["server", (row) => (row.servers === 1 ? address(row, "server") : `${row.servers} servers`), "address"],
    ["last", (row) => stamp(Date.parse(row.last)), ""],
  ],
  latency: [
    ["server", (row) => address(row, "server"), "address"], ["count", (row) => whole(row.transactions), "number"],
    ["failures", (row) => whole(row.failures), "number"], ["no answer", (row) => whole(row.unanswered), "number"],
    ["clients", (row) => whole(row.clients), "number"], ...times,
  ],
  unseen: [
    ["client", (row) => address(row, "client"), "address"], ["bytes", (row) => bytes(both(row)), "number"],
    ["named", (row) => share(row.named_bytes, both(row)) || "0 %", "number"], ["node", (row) => el("span", named(row.node)), ""],
    ["flows", (row) => whole(row.records), "number"], ["packets", (row) => si(row.packets + row.packets_rev), "number"],
  ],
};
const TERMS = {
  domains: (row) => `domain = ${quote(row.domain)}`, queries: (row) => `domain = ${quote(row.name)}`,
  failures: (row) => `domain = ${quote(row.name)}`, latency: (row) => `dst_addr = ${row.server}`,
  unseen: (row) => `src_addr = ${row.client}`,
};

/** `change(changes)` goes to another view; `narrow(term)` narrows the filter. */
export class Names {
  constructor(change, narrow) {
    this.narrow = narrow;
    this.asking = null;
    this.answer = null;
    byId("names-views").replaceChildren(...NAMES.map((name) => el("button", {
      type: "button", text: TITLES[name], title: HELP[name], data: { name }, on: { click: () => change({ names: name }) },
    })));
  }

  /** Asks for what the view says. What goes wrong here leaves the rest of the page alone. */
  async load({ filter, since, until, names }) {
    this.asking?.abort();
    const asking = new AbortController();
    this.asking = asking;
    for (const button of byId("names-views").children) button.setAttribute("aria-pressed", String(button.dataset.name === names));
    byId("names").setAttribute("aria-busy", "true");
    try {
      this.answer = await patient("/api/names", { filter, since, until, view: names, limit: ROWS }, asking.signal);
      this.draw();
    } catch (error) {
      if (error.name === "AbortError") return;
      this.answer = null;
      this.clear();
      place(byId("names-note"), notice("error", "No names", error.message));
    } finally {
      if (this.asking === asking) byId("names").removeAttribute("aria-busy");
    }
  }

  clear() {
    const table = byId("names");
    table.tHead.replaceChildren();
    table.tBodies[0].replaceChildren();
    setText(table.caption, "");
    setText(byId("names-share"), "");
  }

  draw() {
    if (!this.answer) return;
    const { view, rows, share: { total, named: has, by_source: sources }, read } = this.answer;
    this.clear();
    const said = shareOfNames(has.bytes, total.bytes);
    const parts = Object.entries(sources).sort(([, one], [, other]) => other.bytes - one.bytes)
      .map(([source, { bytes: some }]) => `${source} ${share(some, total.bytes) || "0 %"}`);
    setText(byId("names-share"), said ? `${said.text}${parts.length ? `: ${parts.join(", ")}` : ""}` : "");
    byId("names-share").title = said?.title ?? "";
    const [title, detail] = NOTHING[view];
    place(byId("names-note"), !read ? notice(
      "empty", "No names were read in this range", "Names are read with `ayaflow up --deep-inspect` (capture.inspect), from the moment it is on.",
    ) : rows.length ? null : notice("empty", title, detail));
    if (!rows.length) return;
    const columns = COLUMNS[view];
    const table = byId("names");
    table.tHead.replaceChildren(el("tr", {}, ...columns.map(([text, , kind]) => el("th", { scope: "col", class: kind === "number" ? kind : "", text }))));
    table.tBodies[0].replaceChildren(...rows.map((row) => el("tr", {}, ...columns.map(([, cell, kind], i) => {
      const content = cell(row, total.bytes);
      if (i) return el("td", { class: kind }, content);
      const term = TERMS[view](row);
      return el("td", { class: kind }, el("button", {
        class: "cell", title: `Only these: ${term}`, on: { click: () => this.narrow(term) },
      }, content));
    }))));
    setText(table.caption, `${whole(rows.length)} listed${rows.length === ROWS ? ", the first; ayaflow names has all" : ""}`);
  }
}
