// SPDX-License-Identifier: Apache-2.0
// Who talks to whom by what: source -> service -> destination, as a Sankey diagram.

import { clear, sankey } from "./charts.js";
import { notice, setText } from "./dom.js";
import { amount, share, talk } from "./format.js";
import { colour, palette } from "./theme.js";

const THINNEST = 0.002;       // of what is drawn: thinner ones cannot be seen, and their names overlap

/** Nodes and links of the rows of /api/top?by=src_addr,protocol,dst_port,dst_addr. Pure but for the colours. */
export function model(rows, measure) {
  const nodes = [];
  const links = [];
  const hues = palette();
  const known = new Map();
  const node = (column, label, terms) => {
    const key = `${column} ${label}`;
    if (!known.has(key)) {
      known.set(key, nodes.length);
      nodes.push({ label, terms, value: 0, colour: "" });
    }
    return known.get(key);
  };
  const link = (source, target, value, terms, colourOf) => {
    const same = links.find((one) => one.source === source && one.target === target);
    if (same) same.value += value;
    else links.push({ source, target, value, terms, colourOf, text: `${nodes[source].label} → ${nodes[target].label}` });
  };
  for (const row of rows) {
    const value = row[measure] + row[`${measure}_rev`];
    const from = [`src_addr = ${row.src_addr}`];
    const to = [`dst_addr = ${row.dst_addr}`];
    const by = [`protocol = ${row.protocol}`, ...(row.dst_port ? [`dst_port = ${row.dst_port}`] : [])];
    const source = node("from", row.src_addr, from);
    const what = node("by", talk(row.protocol, row.dst_port), by);
    const target = node("to", row.dst_addr, to);
    for (const one of [source, what, target]) nodes[one].value += value;
    link(source, what, value, [...from, ...by], what);
    link(what, target, value, [...by, ...to], what);
  }
  const services = nodes.filter((one) => one.terms[0].startsWith("protocol"));
  services.sort((a, b) => b.value - a.value).forEach((one, i) => { one.colour = hues[i % hues.length]; });
  for (const one of nodes) one.colour ||= colour("--series-other");
  return { nodes, links };
}

/** Draw it into `holder`, and into `note` how much of everything it shows. */
export function drawPaths(holder, note, paths, view, narrow) {
  const { measure } = view;
  const total = paths.rows.reduce((sum, row) => sum + row[measure] + row[`${measure}_rev`], 0);
  const rows = paths.rows.filter((row) => row[measure] + row[`${measure}_rev`] >= total * THINNEST);
  const { nodes, links } = model(rows, measure);
  const every = (terms) => narrow(terms.join(" and "));
  const longest = Math.max(...["from", "by", "to"].map((_, i) => new Set(rows.map((row) => (
    [row.src_addr, `${row.protocol} ${row.dst_port}`, row.dst_addr][i]))).size));
  holder.style.setProperty("block-size", `${Math.min(640, Math.max(260, 24 * longest))}px`);
  sankey(holder, {
    nodes, links, format: (value) => `${amount(value, measure)}${measure === "packets" ? " packets" : ""}`,
    onNode: (index) => every(nodes[index].terms), onLink: (index) => every(links[index].terms),
  }).catch((error) => {
    clear(holder);
    holder.replaceChildren(notice("error", "No charts", error.message));
  });
  const listed = rows.reduce((sum, row) => sum + row[measure] + row[`${measure}_rev`], 0);
  const all = paths.total[measure] + paths.total[`${measure}_rev`];
  setText(note, `The ${rows.length} largest, ${share(listed, all)} of all ${measure}. Click to narrow the filter.`);
}
