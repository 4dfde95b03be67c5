// SPDX-License-Identifier: Apache-2.0
// The table of the largest by a dimension: shares, both directions, and a click that narrows the filter.

import { el, named, setText } from "./dom.js";
import { amount, bytes, dimension, share, shareOfNames, si, whole } from "./format.js";
import { quote } from "./filter_text.js";
import { cut } from "./text.js";

const NO_DIMENSIONS = ["packets", "bytes", "packets_rev", "bytes_rev", "records", "protocol_name", "reverse"];
const TITLES = {
  src_addr: "source", dst_addr: "destination", dst_port: "service port", src_port: "source port", addr: "address",
  vlan_id: "VLAN", domain_source: "source of the name", ja4: "JA4", alpn: "ALPN",
};

/** The dimensions of a row, in their order. */
export const dimensions = (row) => Object.keys(row).filter((name) => !NO_DIMENSIONS.includes(name));

/** Fill `table`. `hues`: colours of the chart by name; `narrow(term)`: a value was clicked. */
export function drawTop(table, top, view, hues, narrow) {
  const names = top.rows.length ? dimensions(top.rows[0]) : [];
  const { measure } = view;
  const all = top.total[measure] + top.total[`${measure}_rev`];
  const head = el(
    "tr", {},
    ...names.map((name) => el("th", { scope: "col", text: TITLES[name] ?? name.replaceAll("_", " ") })),
    ...["share", measure, "→ sent", "← back", measure === "bytes" ? "packets" : "bytes", "records"]
      .map((text) => el("th", { scope: "col", class: "number", text })),
  );
  const rows = top.rows.map((row) => {
    const both = row[measure] + row[`${measure}_rev`];
    const other = measure === "bytes" ? "packets" : "bytes";
    const bar = el("span", { class: "bar" });
    bar.style.setProperty("inline-size", `${all ? (100 * both) / all : 0}%`);
    const hue = hues.get(names.map((name) => dimension(name, row[name])).join(" · "));
    if (hue) bar.style.setProperty("background", `${hue}59`);
    return el(
      "tr", {},
      ...names.map((name) => el(
        "td", { class: "address" }, cell(name, row, narrow),
        row.reverse?.[name] ? el("span", { class: "reverse", text: cut(row.reverse[name]), title: "by reverse DNS" }) : null,
      )),
      el("td", { class: "number share" }, bar, el("span", { class: "over", text: share(both, all) })),
      ...[
        amount(both, measure), amount(row[measure], measure), amount(row[`${measure}_rev`], measure),
        other === "bytes" ? bytes(row.bytes + row.bytes_rev) : si(row.packets + row.packets_rev), whole(row.records),
      ].map((text) => el("td", { class: "number", text })),
    );
  });
  table.tHead.replaceChildren(head);
  table.tBodies[0].replaceChildren(...rows);
  const listed = top.rows.reduce((sum, row) => sum + row[measure] + row[`${measure}_rev`], 0);
  const said = all && listed <= all * 1.0001
    ? `${whole(top.rows.length)} listed, ${share(listed, all)} of all ${measure}` : `${whole(top.rows.length)} listed`;
  const named = top.total.named_bytes === undefined ? null : shareOfNames(top.total.named_bytes, top.total.bytes + top.total.bytes_rev);
  setText(table.caption, named ? `${said}; ${named.text}` : said);
  table.caption.title = named?.title ?? "";
}

function cell(name, row, narrow) {
  const value = row[name];
  const text = dimension(name, value);
  const term = termOf(name, value, "=");
  if (!term) return el("span", named(text));
  return el("span", { class: "narrow" },
    el("button", {
      class: "cell name", text: Array.isArray(value) ? text : cut(text), title: `Only these: ${term}`, on: { click: () => narrow(term) },
    }),
    el("button", {
      class: "without", text: "≠", title: `Without these: ${termOf(name, value, "!=")}`,
      "aria-label": `Without ${text}`, on: { click: () => narrow(termOf(name, value, "!=")) },
    }));
}

/** A term of the filter language for one value; empty where there is none. */
export function termOf(name, value, operator) {
  if (Array.isArray(value)) {
    const both = value.map((side) => `addr = ${quote(side)}`).join(" and ");
    return operator === "=" ? both : `not (${both})`;
  }
  if (value === null || value === undefined || typeof value === "object") return "";
  if (value === "") return `${name} ${operator} ""`;
  return `${name} ${operator} ${quote(value)}`;
}
