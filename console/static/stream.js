// SPDX-License-Identifier: Apache-2.0
// The live stream: one WebSocket, opened again when it closes, and the last five minutes it told of.

import { get, token } from "./api.js";

export const KEPT_SECONDS = 300;
/** What a node said longer ago says nothing about now. */
export const STALE_SECONDS = 10;
const KEPT = "ayaflow-live";
const SILENCE_SECONDS = 8;

/** `listeners`: called with the newest message, or null when the state of the connection changed. */
export class Stream {
  constructor() {
    this.points = [];       // [{time (ms), rates: {"node\ndirection": [bytes/s, packets/s]}}], oldest first
    this.latest = null;
    this.state = "connecting";
    this.retryAt = 0;
    this.lostAt = 0;        // ms, since when there is no stream; 0: there is one, or the first is being opened
    this.heard = 0;         // ms, when a message last came
    this.listeners = new Set();
    this.failures = 0;
    this.recall();
    this.open();
    setInterval(() => this.watch(), 1000);
    addEventListener("pagehide", () => this.keep());
  }

  open() {
    const url = `${location.origin.replace(/^http/, "ws")}/api/stream`;
    let socket;
    try {
      // a browser sends a token with a WebSocket as a protocol, or not at all
      socket = token() ? new WebSocket(url, ["ayaflow", `bearer.${token()}`]) : new WebSocket(url);
    } catch {
      this.wait();      // no protocol's name: then no token, either
      return;
    }
    this.socket = socket;
    this.heard = Date.now();
    socket.addEventListener("message", (event) => {
      if (this.socket === socket) this.take(event.data);
    });
    socket.addEventListener("close", () => {
      if (this.socket === socket) this.wait();
    });
  }

  /** Open again later: 1, 2, 4 … 15 seconds. */
  wait() {
    this.socket = null;
    const seconds = Math.min(15, 2 ** this.failures);
    this.failures += 1;
    this.state = "waiting";
    this.lostAt ||= Date.now();
    this.retryAt = Date.now() + seconds * 1000;
    // a refusal has no reason in a WebSocket; the same question over HTTP has one
    get("/api/stats").then(() => { this.reason = ""; }, (error) => { this.reason = error.message; })
      .finally(() => this.tell(null));
  }

  watch() {
    if (this.state === "waiting") {
      if (Date.now() >= this.retryAt) {
        this.state = "connecting";
        this.open();
      }
      this.tell(null);
    } else if (this.socket && Date.now() - this.heard > SILENCE_SECONDS * 1000) {
      const silent = this.socket;
      this.wait();
      silent.close();
    }
  }

  take(text) {
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return;
    }
    this.heard = Date.now();
    if (message.error) {
      this.reason = message.error;
      this.tell(null);
      return;
    }
    this.failures = 0;
    this.lostAt = 0;
    this.reason = "";
    this.state = "open";
    this.latest = message;
    const rates = {};
    for (const node of message.nodes ?? []) {
      if (node.delay_seconds > STALE_SECONDS) continue;
      for (const one of node.interfaces ?? []) {
        const sum = rates[`${node.node}\n${one.direction}`] ??= [0, 0];
        sum[0] += one.bytes_per_second;
        sum[1] += one.packets_per_second;
      }
    }
    const time = Date.parse(message.time);
    this.points.push({ time, rates });
    this.points = this.points.filter((point) => point.time > time - KEPT_SECONDS * 1000 && point.time <= time);
    this.tell(message);
  }

  tell(message) {
    for (const listener of this.listeners) listener(message);
  }

  /** A reload goes on where it was. */
  keep() {
    try {
      sessionStorage.setItem(KEPT, JSON.stringify(this.points));
    } catch {
      // full: then it begins anew
    }
  }

  recall() {
    try {
      const points = JSON.parse(sessionStorage.getItem(KEPT) ?? "[]");
      this.points = points.filter((point) => point.time > Date.now() - KEPT_SECONDS * 1000);
    } catch {
      this.points = [];
    }
  }
}
