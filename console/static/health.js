// SPDX-License-Identifier: Apache-2.0
// The state of every stage, in the corner of each tab, and as a sentence when one is not well.

import { address, token } from "./api.js";
import { byId, el, place, setName, setText } from "./dom.js";
import { duration, sentence } from "./format.js";
import { localised } from "./times.js";

const EVERY_MS = 5000;

/** Ask now and again. */
export function start() {
  ask();
  setInterval(() => {
    if (!document.hidden) ask();
  }, EVERY_MS);
}

async function ask() {
  let state;
  try {
    // 503 has the same body as 200: which stages are not well
    /** @type {Record<string, string>} */
    const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
    state = await (await fetch(address("/api/health"), { headers, cache: "no-store" })).json();
  } catch {
    state = null;
  }
  const refused = !state?.stages && typeof state?.error === "string" ? state.error : "";
  const bad = state?.stages ? state.stages.filter((one) => !one.ok) : null;
  const warned = state?.stages ? state.stages.flatMap(warnings).length : 0;
  const button = byId("health");
  button.dataset.state = bad === null ? "bad" : bad.length || warned ? "warn" : "good";
  const well = warned ? `well, ${warned} warning${warned > 1 ? "s" : ""}` : "all well";
  setText(byId("health-text"), refused ? "refused" : bad === null ? "console away" : bad.length ? `${bad.map((one) => one.stage).join(", ")} not well` : well);
  if (state?.node) setName(byId("node-name"), state.node);
  place(byId("banner"), refused ? el("p", { text: localised(sentence(refused)) }) : banner(bad));
  if (state?.stages) {
    byId("stages").replaceChildren(...state.stages.map((one) => el(
      "li", { data: { state: one.ok ? "good" : "bad" } }, el("b", { text: one.stage }),
      el("span", { text: one.ok ? [ofWell(one), ...warnings(one).map(localised)].join("; ") : localised(one.message) }),
    )));
  }
}

/** What is to be set right though a stage is well. */
function warnings(one) {
  return Array.isArray(one.details?.warnings) ? one.details.warnings.map(String) : [];
}

function ofWell(one) {
  if (one.stage === "storing") return `well; the oldest message that is not stored is ${duration(one.age_seconds ?? 0)} old`;
  return typeof one.age_seconds === "number" ? `well; last event ${duration(one.age_seconds)} ago` : "well";
}

function banner(bad) {
  if (bad === null) {
    return el("p", { text: `The console at ${location.host} does not answer. Start it with: ayaflow up (or ayaflow console).` });
  }
  return bad.length ? el("ul", {}, ...bad.map((one) => el("li", { text: localised(sentence(one.message || `${one.stage} is not well`)) }))) : null;
}
