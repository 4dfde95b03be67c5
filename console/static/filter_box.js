// SPDX-License-Identifier: Apache-2.0
// The filter's input: a combobox with completion, and the place of an error under it.

import { get } from "./api.js";
import { byId, el } from "./dom.js";
import { complete, tokens } from "./filter_text.js";

const MOST = 12;

/** `run(text)` is called when a filter was entered. */
export class FilterBox {
  constructor(run) {
    this.run = run;
    this.input = byId("filter");
    this.list = byId("filter-options");
    this.error = byId("filter-error");
    this.fields = [];
    this.active = -1;
    /** @type {{start: number, end: number, options: {text: string, doc: string}[]}} */
    this.found = { start: 0, end: 0, options: [] };
    this.input.addEventListener("input", () => this.suggest());
    this.input.addEventListener("click", () => this.suggest());
    this.input.addEventListener("keydown", (event) => this.key(event));
    this.input.addEventListener("blur", () => this.close());
    byId("filter-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.close();
      this.run(this.input.value.trim());
    });
    byId("filter-clear").addEventListener("click", () => {
      this.input.value = "";
      this.run("");
      this.input.focus();
    });
    this.load();
  }

  async load() {
    try {
      this.fields = (await get("/api/fields")).fields;
    } catch {
      setTimeout(() => this.load(), 10_000);      // completion is a help: the filter works without it
    }
  }

  set value(text) {
    if (this.input.value !== text) this.input.value = text;
  }

  suggest() {
    this.clearError();
    this.found = complete(this.input.value, this.input.selectionStart ?? 0, this.fields);
    this.found.options = this.found.options.slice(0, MOST);
    this.active = -1;
    this.list.replaceChildren(...this.found.options.map((option, i) => el(
      "li", {
        role: "option", id: `filter-option-${i}`, "aria-selected": "false",
        on: {
          mousedown: (event) => {
            event.preventDefault();     // the input keeps the focus
            this.take(i);
          },
        },
      }, el("b", { text: option.text }), el("span", { text: option.doc }),
    )));
    this.show(this.found.options.length > 0);
  }

  show(open) {
    this.list.hidden = !open;
    this.input.setAttribute("aria-expanded", String(open));
    if (!open) this.input.removeAttribute("aria-activedescendant");
  }

  close() {
    this.show(false);
    this.active = -1;
  }

  key(event) {
    const open = !this.list.hidden;
    if (event.key === "ArrowDown" && !open) this.suggest();
    else if (event.key === "ArrowDown") this.move(1);
    else if (event.key === "ArrowUp" && open) this.move(-1);
    else if (event.key === "Escape" && open) this.close();
    else if (open && this.active >= 0 && (event.key === "Enter" || event.key === "Tab")) this.take(this.active);
    else return;
    event.preventDefault();
  }

  move(step) {
    const { length } = this.found.options;
    this.active = (this.active + step + length + (this.active < 0 && step < 0 ? 1 : 0)) % length;
    [...this.list.children].forEach((item, i) => item.setAttribute("aria-selected", String(i === this.active)));
    this.list.children[this.active].scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", `filter-option-${this.active}`);
  }

  take(i) {
    const { start, end, options } = this.found;
    const text = this.input.value;
    const inserted = `${options[i].text} `;
    this.input.value = text.slice(0, start) + inserted + text.slice(end).trimStart();
    this.input.setSelectionRange(start + inserted.length, start + inserted.length);
    this.input.focus();
    this.suggest();
  }

  clearError() {
    this.error.hidden = true;
    this.input.removeAttribute("aria-invalid");
  }

  /** Show what is wrong; `column` from 1, or null when it is not about a place. */
  fail(message, column) {
    const text = this.input.value;
    const parts = [];
    if (column) {
      const at = column - 1;
      const end = tokens(text).find((token) => token.start <= at && at < token.end)?.end ?? at + 1;
      parts.push(el(
        "code", { "aria-hidden": "true" }, text.slice(0, at), el("mark", { text: text.slice(at, end) || "␣" }), text.slice(end),
      ));
    }
    this.error.replaceChildren(...parts, el("span", { text: message }));
    this.error.hidden = false;
    this.input.setAttribute("aria-invalid", "true");
  }
}
