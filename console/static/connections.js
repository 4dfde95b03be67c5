// SPDX-License-Identifier: Apache-2.0
// The table of the most active connections. Rows stay the same elements while a connection is among them.

import { get } from "./api.js";
import { el, notice, place, setName, setText } from "./dom.js";
import { bytes, duration, endpoint, protocol, rate, service, shareOfNames, si } from "./format.js";
import { clean, cut } from "./text.js";
import { go } from "./view.js";

const CLASSES = [
  "minor", "address", "minor", "address", "minor domain", "minor", "number", "number minor", "number", "number minor",
];
const VALUE = {
  bytes: (one) => one.bytes + one.bytes_rev,
  packets: (one) => one.packets + one.packets_rev,
  rate: (one) => one.bytes_per_second,
};

/** Shows connections in `body` (a tbody), in `note` why there are none, and in `share` how much of them has a name. */
export class Connections {
  constructor(body, note, share) {
    this.body = body;
    this.note = note;
    this.share = share;
    this.rows = new Map();
    this.asking = false;
  }

  /** The stream has the largest by bytes; another order is asked for. */
  async show(message, sort) {
    if (sort === "bytes") {
      this.draw(message.connections ?? [], sort, message.time);
      return;
    }
    if (this.asking) return;
    this.asking = true;
    try {
      const live = await get("/api/live", { sort, limit: 50 });
      this.draw(live.connections, sort, live.time);
    } catch (error) {
      place(this.note, notice("error", "The connections are not up to date", error.message));
    } finally {
      this.asking = false;
    }
  }

  draw(connections, sort, time) {
    place(this.note, connections.length ? null : notice(
      "empty", "No active connections", "Who talks is shown here within a few seconds of the first packet.",
    ));
    const names = connections.some((one) => one.domain);
    this.body.parentElement.classList.toggle("no-names", !names);
    const sum = (rows) => rows.reduce((total, one) => total + one.bytes + one.bytes_rev, 0);
    const named = names ? shareOfNames(sum(connections.filter((one) => one.domain)), sum(connections), "bytes listed") : null;
    setText(this.share, named?.text ?? "");
    this.share.title = named?.title ?? "";
    const ordered = [...connections].sort((a, b) => VALUE[sort](b) - VALUE[sort](a));
    const fastest = Math.max(1, ...ordered.map(VALUE.rate));
    const seen = new Set();
    /** @type {Element | null} */
    let previous = null;
    for (const one of ordered) {
      const key = JSON.stringify([
        one.node, one.interface, one.direction, one.protocol, one.src_addr, one.dst_addr, one.src_port, one.dst_port,
        one.vlan_id, one.icmp_type, one.icmp_code, one.tunnel_type, one.tunnel_id, one.outer_src_addr,
        one.outer_dst_addr,
      ]);
      if (seen.has(key)) continue;
      seen.add(key);
      const row = this.rows.get(key) ?? this.add(key, one);
      this.fill(row, one, VALUE.rate(one) / fastest, time);
      const wanted = previous ? previous.nextSibling : this.body.firstChild;
      if (row !== wanted) this.body.insertBefore(row, wanted);
      previous = row;
    }
    for (const [key, row] of this.rows) {
      if (!seen.has(key)) {
        row.remove();
        this.rows.delete(key);
      }
    }
  }

  add(key, one) {
    const row = el("tr", {}, ...CLASSES.map((name) => el("td", { class: name })));
    const filter = narrow(one);
    const button = el("button", {
      class: "cell", title: `Explore: ${filter}`, on: { click: () => go({ tab: "explore", filter }) },
    });
    row.children[1].append(button);
    setText(button, endpoint(one.src_addr, one.src_port));
    setName(row.children[0], one.node);
    setText(row.children[2], "→");
    row.children[2].title = one.direction === "ingress" ? `into ${one.interface}` : `out of ${one.interface}`;
    row.children[3].append(el("span", { text: endpoint(one.dst_addr, one.dst_port) }), el("span", { class: "below" }));
    row.children[4].append(el("span"), el("small"));
    row.children[5].append(el("span", { class: "tag", text: spoken(one) }));
    row.children[6].append(el("span", { class: "bar" }), el("span", { class: "over" }));
    this.rows.set(key, row);
    return row;
  }

  fill(row, one, part, time) {
    const cells = row.children;
    setText(cells[3].lastChild, cut(one.domain));
    setText(cells[4].firstChild, cut(one.domain));
    setText(cells[4].lastChild, one.domain_source);
    cells[4].title = clean(one.domain);
    cells[6].firstChild.style.setProperty("inline-size", `${(100 * part).toFixed(1)}%`);
    setText(cells[6].lastChild, rate(one.bytes_per_second));
    setText(cells[7], si(one.packets_per_second));
    setText(cells[8], `${bytes(one.bytes)} / ${bytes(one.bytes_rev)}`);
    setText(cells[9], duration((Date.parse(time) - Date.parse(one.first_seen)) / 1000));
  }
}

function spoken(one) {
  if (one.protocol === 1 || one.protocol === 58) {
    return `${protocol(one.protocol)} ${one.icmp_type < 0 ? "-" : `${one.icmp_type}/${one.icmp_code}`}`;
  }
  const name = service(one.dst_port);
  return name ? `${protocol(one.protocol)} ${name}` : protocol(one.protocol);
}

/** The filter of this conversation and nothing else. */
function narrow(one) {
  const terms = [`protocol = ${one.protocol}`, `src_addr = ${one.src_addr}`, `dst_addr = ${one.dst_addr}`];
  if (one.src_port) terms.push(`src_port = ${one.src_port}`);
  if (one.dst_port) terms.push(`dst_port = ${one.dst_port}`);
  if (one.tunnel_type !== "none") {
    terms.push(`tunnel_type = ${one.tunnel_type}`, `tunnel_id = ${one.tunnel_id}`,
      `outer_addr = ${one.outer_src_addr}`, `outer_addr = ${one.outer_dst_addr}`);
  }
  return terms.join(" and ");
}
