// SPDX-License-Identifier: Apache-2.0
// Building elements. Data reaches the page as text nodes and attributes only, never as markup, and as clean text.

import { clean, cut } from "./text.js";
import { localised } from "./times.js";

/**
 * An element. `props`: `class`, `text`, `on` ({event: handler}), `data`, and attributes (false and null leave one out).
 */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") node.className = value;
    else if (name === "text") node.textContent = clean(value);
    else if (name === "title" || name === "aria-label") node.setAttribute(name, clean(value));
    else if (name === "on") for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    else if (name === "data") Object.assign(node.dataset, value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : clean(child))));
  return node;
}

/**
 * The element with this id; what kind of element it is, index.html says.
 * @type {(id: string) => any}
 */
export const byId = (id) => document.getElementById(id);

/** Set text only where it differs: no layout, and a selection stays. */
export function setText(node, text) {
  const wanted = clean(text);
  if (node.textContent !== wanted) node.textContent = wanted;
}

/** Properties of an element for a name that others chose: cut when it is long, with the whole as a tooltip. */
export const named = (name) => ({ class: "name", text: cut(name), title: name });

/** The same for an element that is there. */
export function setName(node, name) {
  setText(node, cut(name));
  node.classList.add("name");
  node.title = clean(name);
}

/** A message in the place of content: what happened, and what to do. `kind`: empty, error or busy. */
export function notice(kind, title, detail = "", ...actions) {
  return el(
    "div", { class: `notice ${kind}`, role: kind === "error" ? "alert" : "status" },
    el("strong", { text: title }), detail ? el("p", { text: localised(detail) }) : null, ...actions,
  );
}

/** Put a message, or with null nothing, into its place. */
export function place(holder, message) {
  holder.replaceChildren(...(message ? [message] : []));
  holder.hidden = !message;
}

/** Run `action` once when calls have stopped for so many ms. */
export function debounce(action, milliseconds) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), milliseconds);
  };
}
