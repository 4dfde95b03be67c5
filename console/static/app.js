// SPDX-License-Identifier: Apache-2.0
// The page: tabs, theme, token; starts everything else.

import { setToken } from "./api.js";
import { Audit } from "./audit.js";
import { byId } from "./dom.js";
import { Explore } from "./explore.js";
import * as health from "./health.js";
import { Live } from "./live.js";
import { Stream } from "./stream.js";
import { clean } from "./text.js";
import * as theme from "./theme.js";
import * as times from "./times.js";
import { go, link, read, TABS } from "./view.js";

theme.start(byId("theme"));
times.start(byId("zone"));
const live = new Live(new Stream());
const explore = new Explore();
const audit = new Audit();

function update() {
  const view = read();
  for (const tab of TABS) {
    byId(tab).hidden = tab !== view.tab;
    const anchor = byId(`tab-${tab}`);
    anchor.href = link({ ...view, tab });
    if (tab === view.tab) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  document.title = clean(`ayaflow · ${view.tab}${view.tab === "explore" && view.filter ? ` · ${view.filter}` : ""}`);
  live.draw();
  explore.update();
  audit.update();
}

for (const tab of TABS) {
  byId(`tab-${tab}`).addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;     // a new browser tab
    event.preventDefault();
    go({ tab });
  });
}

byId("health").addEventListener("click", () => byId("health-dialog").showModal());
byId("health-close").addEventListener("click", () => byId("health-dialog").close());

addEventListener("token-wanted", () => {
  if (!byId("token-dialog").open) byId("token-dialog").showModal();
});
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(byId("token").value.trim());
  location.reload();
});

addEventListener("keydown", (event) => {
  if (event.key === "/" && read().tab === "explore" && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName ?? "")) {
    event.preventDefault();
    byId("filter").focus();
  }
});
addEventListener("popstate", update);
addEventListener("view", update);
update();
health.start();
