// SPDX-License-Identifier: Apache-2.0
// Text of others: names of nodes and interfaces come from the wire. Pure.

const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/gu;
const SHORT = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };
const NAME = 40;        // an IPv6 address is whole

/** What can be seen; all else, controls and marks that turn text around, as `\x1b`, `\u202e`, like the command line. */
export const clean = (text) => String(text).replace(UNPRINTABLE, (one) => {
  const code = one.codePointAt(0) ?? 0;
  const hex = code.toString(16);
  return SHORT[one] ?? (code < 0x100 ? `\\x${hex.padStart(2, "0")}`
    : code < 0x10000 ? `\\u${hex.padStart(4, "0")}` : `\\U${hex.padStart(8, "0")}`);
});

/** Clean, and not longer than so many characters. */
export function cut(text, most = NAME) {
  const all = [...clean(text)];
  return all.length > most ? `${all.slice(0, most - 1).join("")}…` : all.join("");
}
