// SPDX-License-Identifier: Apache-2.0
// The Live tab: what passes now, what is lost, and who talks most.

import { get } from "./api.js";
import { areas, colours } from "./charts.js";
import { Connections } from "./connections.js";
import { byId, el, notice, place, setName, setText } from "./dom.js";
import { bytes, duration, packetRate, rate, sentence, si, whole } from "./format.js";
import { KEPT_SECONDS, STALE_SECONDS } from "./stream.js";
import { cut } from "./text.js";
import { zone } from "./times.js";
import { go, read } from "./view.js";

const STATS_EVERY_MS = 5000;
const LONGEST_MS = 3000;    // between two messages; they come each second
const GRACE_MS = 5000;      // a busy console may close a stream and serve the next; one that is away is said at once

/** Draws each message of `stream` while the tab is shown. */
export class Live {
  constructor(stream) {
    this.stream = stream;
    this.paused = false;
    this.measure = "bytes";
    this.stats = null;
    this.connections = new Connections(byId("connections"), byId("connections-note"), byId("connections-named"));
    this.rows = new Map();
    stream.listeners.add((message) => (message ? this.draw() : this.drawState()));
    byId("live-measure").addEventListener("change", (event) => {
      this.measure = event.target.value;
      this.draw();
    });
    byId("live-sort").addEventListener("change", (event) => go({ sort: event.target.value }));
    byId("pause").addEventListener("click", (event) => {
      this.paused = !this.paused;
      event.currentTarget.setAttribute("aria-pressed", String(this.paused));
      this.draw();
    });
    addEventListener("theme", () => this.draw());
    addEventListener("zone", () => this.draw());
    setInterval(() => this.refreshStats(), STATS_EVERY_MS);
    this.refreshStats();
  }

  get shown() {
    return read().tab === "live" && !document.hidden;
  }

  async refreshStats() {
    if (!this.shown) return;
    try {
      this.stats = await get("/api/stats");
    } catch {
      this.stats = null;      // the stream says what is wrong
    }
  }

  draw() {
    if (!this.shown) return;
    byId("live-sort").value = read().sort;
    this.drawState();
    const message = this.stream.latest;
    if (!message || this.paused) return;
    this.drawTiles(message);
    this.drawNodes(message);
    this.drawChart();
    this.connections.show(message, read().sort);
  }

  /** Whether what is shown is of now, and if not why. */
  drawState() {
    if (!this.shown) return;
    place(byId("live-note"), this.problem());
    byId("live-content").classList.toggle("stale", this.stream.state !== "open");
  }

  problem() {
    const { latest, lostAt, reason, retryAt } = this.stream;
    if (lostAt && !reason && Date.now() - lostAt < GRACE_MS) {
      return notice("busy", "The live stream was closed; it is opened again …");
    }
    if (lostAt) {
      const seconds = Math.max(0, Math.round((retryAt - Date.now()) / 1000));
      return notice("error", "No live data", `${reason || "The console closed the stream."} Trying again in ${seconds} s.`);
    }
    if (reason) return notice("error", "No live data", reason);
    if (!latest) return notice("busy", "Waiting for the first second of live data …");
    if (latest.problem) {
      return notice("error", "Live data stands still", `${sentence(latest.problem)} \`ayaflow doctor\` checks each stage.`);
    }
    if (latest.nodes?.length && latest.nodes.every((node) => node.delay_seconds > STALE_SECONDS)) {
      const seconds = Math.min(...latest.nodes.map((node) => node.delay_seconds));
      return notice(
        "error", "Nothing new from any node",
        `The newest data is ${duration(seconds)} old. Producers or streams may be stopped: \`ayaflow doctor\` checks each stage.`,
      );
    }
    if (!latest.nodes?.length) {
      return notice(
        "empty", "No node has reported yet",
        "Producers report once a second through Kafka. If none appears, ask `ayaflow doctor`: it checks each stage.",
      );
    }
    const quiet = this.stream.points.every((point) => Object.values(point.rates).every(([, packets]) => !packets));
    if (quiet && this.stream.points.length > 3) {
      const names = [...new Set(latest.nodes.flatMap((node) => (node.interfaces ?? []).map((one) => one.interface)))];
      return notice(
        "empty", "No traffic yet",
        `Nothing has passed ${names.length ? names.join(", ") : "the watched interfaces"} so far. If it should have, `
        + "check that it is the right interface: ayaflow up --interface NAME.",
      );
    }
    return null;
  }

  drawTiles(message) {
    const fresh = message.nodes.filter((node) => !(node.delay_seconds > STALE_SECONDS));
    const interfaces = fresh.flatMap((node) => node.interfaces ?? []);
    const sum = (name, direction) => interfaces.filter((one) => !direction || one.direction === direction)
      .reduce((total, one) => total + (one[name] ?? 0), 0);
    const delays = message.nodes.map((node) => node.delay_seconds ?? 0);
    const delay = delays.length ? Math.max(...delays) : 0;
    const lag = message.nodes.reduce((total, node) => total + (node.lag_messages ?? 0), 0);
    const dropped = this.stats?.dropped_packets_total;
    const now = sum("ring_full_packets");
    tile("in", rate(sum("bytes_per_second", "ingress")), packetRate(sum("packets_per_second", "ingress")));
    tile("out", rate(sum("bytes_per_second", "egress")), packetRate(sum("packets_per_second", "egress")));
    tile("active", whole(message.nodes.reduce((total, node) => total + (node.active_flows ?? 0), 0)),
      `${whole(message.nodes.length)} node${message.nodes.length === 1 ? "" : "s"}`);
    tile("total", this.stats ? bytes(this.stats.bytes_total) : "–",
      this.stats ? `${si(this.stats.packets_total)} packets since start` : "");
    tile("dropped", dropped === undefined ? whole(now) : whole(dropped), now ? `${whole(now)} in the last second` : "packets, all counted",
      now || dropped ? "bad" : "good");
    tile("delay", `${delay.toFixed(1)} s`, lag ? `Kafka lag ${whole(lag)} messages` : "Kafka lag 0",
      delay > 15 || lag > 100 ? "warn" : "");
  }

  drawNodes(message) {
    const body = byId("nodes");
    const seen = new Set();
    const many = message.nodes.length > 1;
    byId("nodes-head").classList.toggle("one-node", !many);
    for (const node of message.nodes) {
      for (const one of node.interfaces ?? []) {
        const key = `${node.node}\n${one.interface}\n${one.direction}`;
        seen.add(key);
        if (!this.rows.has(key)) {
          const row = el("tr", {}, ...Array.from({ length: 11 }, (_, i) => el("td", { class: i > 2 ? "number" : "" })));
          this.rows.set(key, row);
          body.append(row);
        }
        this.rows.get(key).classList.toggle("stale", node.delay_seconds > STALE_SECONDS);
        const cells = this.rows.get(key).children;
        setName(cells[0], node.node);
        setName(cells[1], one.interface);
        [
          one.direction === "ingress" ? "↓ in" : "↑ out", rate(one.bytes_per_second),
          si(one.packets_per_second), whole(one.non_ip_packets), whole(one.malformed_packets),
          whole(one.unknown_link_packets), whole(one.ring_full_packets), `${(node.delay_seconds ?? 0).toFixed(1)} s`, whole(node.lag_messages),
        ].forEach((text, i) => setText(cells[i + 2], text));
        cells[8].classList.toggle("bad", one.ring_full_packets > 0);
      }
    }
    for (const [key, row] of this.rows) {
      if (!seen.has(key)) {
        row.remove();
        this.rows.delete(key);
      }
    }
  }

  drawChart() {
    const { points } = this.stream;
    const index = this.measure === "bytes" ? 0 : 1;
    const keys = [...new Set(points.flatMap((point) => Object.keys(point.rates)))].sort((a, b) => {
      const [first, second] = [a.split("\n"), b.split("\n")];
      return first[0].localeCompare(second[0]) || second[1].localeCompare(first[1]);
    });
    const nodes = [...new Set(keys.map((key) => key.split("\n")[0]))];
    const hues = colours(nodes.length > 1 ? nodes : ["ingress", "egress"]);
    const series = keys.map((key) => {
      const [node, direction] = key.split("\n");
      const sign = direction === "ingress" ? 1 : -1;
      return {
        name: `${cut(node)} ${sign > 0 ? "↓ in" : "↑ out"}`, whole: node, stack: direction, faint: sign < 0 && nodes.length > 1,
        colour: hues.get(nodes.length > 1 ? node : direction),
        values: points.map((point) => (point.rates[key] ? sign * point.rates[key][index] : null)),
      };
    });
    const last = points.at(-1)?.time ?? Date.now();
    const seconds = points.length > 1 ? (last - points[0].time) / 1000 : 0;
    const width = Math.min(KEPT_SECONDS, Math.max(60, seconds));
    areas(byId("live-chart"), {
      times: points.map((point) => point.time), series, unit: this.measure === "bytes" ? "B/s" : "packets/s",
      range: [last - width * 1000, last], longest: LONGEST_MS,
    }).catch((error) => place(byId("live-note"), notice("error", "No charts", error.message)));
    const span = seconds < KEPT_SECONDS - 5 ? `${duration(seconds)}, since this page was opened` : "last 5 minutes";
    setText(byId("live-span"), `${span}; ${zone()}`);
  }
}

function tile(name, value, detail, state = "") {
  const node = byId(`tile-${name}`);
  setText(node.querySelector("dd"), value);
  setText(node.querySelector("small"), detail);
  node.dataset.state = state;
}
