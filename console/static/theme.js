// SPDX-License-Identifier: Apache-2.0
// Light, dark, or as the system says. Charts ask here for their colours.

const KEY = "ayaflow-theme";
const CHOICES = ["auto", "light", "dark"];
const system = matchMedia("(prefers-color-scheme: dark)");

/** Apply the stored choice and let `button` change it. */
export function start(button) {
  const show = (choice) => {
    document.documentElement.dataset.theme = choice === "auto" ? (system.matches ? "dark" : "light") : choice;
    button.textContent = { auto: "◐", light: "☀", dark: "☾" }[choice];
    button.setAttribute("aria-label", `Theme: ${choice}. Change it`);
    button.title = `Theme: ${choice}`;
    dispatchEvent(new CustomEvent("theme"));
  };
  const choice = () => {
    const stored = localStorage.getItem(KEY) ?? "";
    return CHOICES.includes(stored) ? stored : "auto";
  };
  button.addEventListener("click", () => {
    localStorage.setItem(KEY, CHOICES[(CHOICES.indexOf(choice()) + 1) % CHOICES.length]);
    show(choice());
  });
  system.addEventListener("change", () => show(choice()));
  show(choice());
}

/** A colour of the style sheet, such as `--ink`. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** The colours of series, in order; beyond them everything is grey. */
export const palette = () => [1, 2, 3, 4, 5, 6, 7, 8].map((number) => colour(`--series-${number}`));
