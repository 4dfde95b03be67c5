// SPDX-License-Identifier: Apache-2.0
// The Audit tab: whether what is stored is what the kernel saw, in plain words and in numbers.

import { get } from "./api.js";
import { byId, el, named, notice, place, setText } from "./dom.js";
import { bytes, duration, whole } from "./format.js";
import { clock, localised } from "./times.js";
import { read } from "./view.js";

const COLUMNS = ["seen", "non_ip", "malformed", "unknown_link", "ring_full", "emitted", "coalesced", "consumed", "in_flight", "stored"];
const NOTHING = { packets: 0, bytes: 0 };
const BAD = ["dropped", "differing", "never counted"];
const STANDING = { ended: "ended; it ", gone: "has sent nothing for a day; it " };
const TIMES = { "1h": "the last hour", "24h": "the last day", "7d": "the last week", "": "all that is kept" };

/** Asks when the tab is shown and when the range changes. */
export class Audit {
  constructor() {
    this.asking = null;
    /** @type {[any, string] | null} */
    this.drawn = null;
    addEventListener("zone", () => this.drawn && this.draw(...this.drawn));
    byId("audit-range").addEventListener("change", () => this.load());
    byId("audit-again").addEventListener("click", () => this.load());
  }

  /** Called when the view changes. */
  update() {
    if (read().tab === "audit") this.load();
  }

  async load() {
    this.asking?.abort();
    const asking = new AbortController();
    this.asking = asking;
    const since = byId("audit-range").value;
    place(byId("audit-note"), notice("busy", "Comparing …", "Each epoch of the ledger with each window of the table flows."));
    try {
      this.draw(await get("/api/audit", { since }, asking.signal), TIMES[since]);
    } catch (error) {
      if (error.name === "AbortError") return;
      byId("audit-content").hidden = true;
      place(byId("audit-note"), notice("error", "The audit could not be made", error.message));
    }
  }

  draw(report, span) {
    this.drawn = [report, span];
    place(byId("audit-note"), report.empty ? notice("empty", "Nothing to audit yet", report.message) : null);
    byId("audit-content").hidden = report.empty;
    if (report.empty) return;
    const verdict = byId("verdict");
    verdict.dataset.state = report.exact ? "good" : report.differs ? "bad" : "warn";
    setText(verdict.querySelector("strong"), report.exact ? "Exact" : report.differs ? "Not exact" : "Not settled");
    setText(verdict.querySelector("p"), localised(report.message).replace(/^(Exact|Not exact|Not settled): */, ""));
    setText(byId("audit-span"), `Epochs of ${span}, until ${report.until ? clock(report.until) : "now"}.`);
    byId("account").replaceChildren(...account(report.rows));
    byId("audit-rows").replaceChildren(...report.rows.map((row) => el(
      "tr", {},
      el("td", named(row.node)), el("td", named(row.interface)),
      el("td", { text: row.direction === "ingress" ? "↓ in" : "↑ out" }),
      ...COLUMNS.map((name) => el("td", { class: "number", title: bytes(row[`${name}_bytes`]), text: whole(row[`${name}_packets`]) })),
      el("td", { class: `number ${differences(row).length ? "bad" : "good"}`, text: differences(row).join(", ") || "0" }),
    )));
    byId("audit-nodes").replaceChildren(...(report.nodes ?? []).map((node) => el(
      "li", {}, el("b", named(node.node)),
      ` ${STANDING[node.standing] ?? ""}is ${node.settled_until ? `settled until ${clock(node.settled_until)}` : "settled for good"}; `
      + `its ledger reaches ${node.ledger_until ? clock(node.ledger_until) : "– (nothing yet)"}.`,
    )), ...(report.backlog?.partitions ?? []).filter((one) => one.messages).map((one) => el(
      "li", { class: one.late ? "bad" : "" }, el("b", { text: `partition ${one.partition}` }),
      ` of ${report.backlog.topic}: ${whole(one.messages)} messages are not acknowledged${one.read ? "" : ", and nobody has read it"}; `
      + `the oldest is ${duration(one.oldest_age_seconds ?? 0)} old.`,
    )));
  }
}

/** The sum of all places as an account, a line an item: what the kernel saw, and where each packet is now. */
function account(rows) {
  const sum = (name) => rows.reduce((total, row) => plus(total, {
    packets: row[`${name}_packets`] ?? 0, bytes: row[`${name}_bytes`] ?? 0,
  }), NOTHING);
  const net = (pick) => rows.reduce((total, row) => pick(row).reduce((sofar, one) => plus(
    plus(sofar, one?.missing ?? NOTHING), one?.surplus ?? NOTHING, -1,
  ), total), NOTHING);
  const lines = [
    ["", "Seen by the kernel", sum("seen"), "every packet that passed a watched interface"],
    ["+", "never counted", sum("unclosed"), "stored, of a ring whose last counters are lost: what else was seen is not known"],
    ["−", "not IP", sum("non_ip"), "ARP, LLDP and the like: counted, not recorded"],
    ["−", "malformed", sum("malformed"), "headers that are cut short or cannot be: counted, not recorded"],
    ["−", "unknown link", sum("unknown_link"), "of devices whose link header is not known: counted, not recorded"],
    ["−", "dropped", sum("ring_full"), "no room in the ring buffer: lost, and counted"],
    ["−", "in flight", sum("in_flight"), "consumed, and its window is not stored yet"],
    ["+", "stored ahead", sum("ahead_of_ledger"), "of epochs whose ledger rows are still to come"],
    ["−", "differing", net((row) => Object.values(row.differences ?? {})), "missing (or, below 0, too many): see the table below"],
    ["=", "Stored in flows", sum("stored"), "what the table holds"],
  ].filter(([, title, count]) => !["stored ahead", "differing", "never counted", "unknown link"].includes(title) || count.packets || count.bytes);
  return lines.map(([sign, title, count, why]) => el(
    "tr", { class: "−+".includes(sign) && sign ? "" : "sum" },
    el("td", { class: "sign", text: sign }), el("th", { scope: "row", text: title }),
    el("td", { class: `number ${BAD.includes(title) && count.packets ? "bad" : ""}`, text: whole(count.packets) }),
    el("td", { class: "number", text: bytes(count.bytes) }), el("td", { class: "why", text: why }),
  ));
}

function plus(one, other, sign = 1) {
  return { packets: one.packets + sign * other.packets, bytes: one.bytes + sign * other.bytes };
}

/** What differs in a row: "5 missing (kafka)", "400 unseen". */
function differences(row) {
  const words = { missing: "missing", surplus: "too many" };
  const unseen = row.unseen_packets ? [`${whole(row.unseen_packets)} unseen`] : [];
  return unseen.concat(Object.entries(row.differences ?? {}).flatMap(([stage, difference]) => Object.entries(words)
    .filter(([kind]) => difference[kind] && (difference[kind].packets || difference[kind].bytes))
    .map(([kind, word]) => `${whole(difference[kind].packets)} ${word} (${stage})`)));
}
