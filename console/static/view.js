// SPDX-License-Identifier: Apache-2.0
// What is shown is in the address: a link reproduces the view, and Back goes back.

export const TABS = ["live", "explore", "audit"];
export const NAMES = ["domains", "queries", "failures", "latency", "unseen"];
const DEFAULTS = {
  tab: "live", since: "1h", until: "now", filter: "", by: "protocol", measure: "bytes", sort: "bytes", names: "domains",
};

/** The view of the address bar; what is not there or not valid has its default. */
export function read() {
  const given = Object.fromEntries(new URLSearchParams(location.search));
  const view = { ...DEFAULTS };
  for (const name of Object.keys(DEFAULTS)) if (typeof given[name] === "string" && given[name]) view[name] = given[name];
  if (!TABS.includes(view.tab)) view.tab = DEFAULTS.tab;
  if (!["bytes", "packets"].includes(view.measure)) view.measure = DEFAULTS.measure;
  if (!["bytes", "packets", "rate"].includes(view.sort)) view.sort = DEFAULTS.sort;
  if (!NAMES.includes(view.names)) view.names = DEFAULTS.names;
  return view;
}

/** The link of a view, without what is default anyway. */
export function link(view) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(view)) {
    if (name in DEFAULTS && value !== DEFAULTS[name]) parameters.set(name, value);
  }
  const query = parameters.toString();
  return query ? `?${query}` : location.pathname;
}

/** Go to the present view with these changes. */
export function go(changes) {
  const target = link({ ...read(), ...changes });
  if (target !== (location.search || location.pathname)) history.pushState(null, "", target);
  dispatchEvent(new CustomEvent("view"));
}
