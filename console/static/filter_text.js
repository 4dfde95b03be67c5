// SPDX-License-Identifier: Apache-2.0
// What a filter's text means to the person who is writing it: where the caret is, what could come next. Pure.

const TOKEN = /\s*("[^"]*"?|'[^']*'?|==|!=|<=|>=|<>|!~|[=<>~(),]|[^\s"'=!<>~(),]+|!)/gy;
const JOINERS = ["and", "or", "not"];

/** [{text, start, end}]; positions from 0. */
export function tokens(text) {
  const found = [];
  TOKEN.lastIndex = 0;
  for (let match = TOKEN.exec(text); match; match = TOKEN.exec(text)) {
    found.push({ text: match[1], start: TOKEN.lastIndex - match[1].length, end: TOKEN.lastIndex });
  }
  return found;
}

/**
 * What can be written at `caret`: {start, end, word, options: [{text, doc}]}; `fields` as /api/fields has them.
 * Options begin with the word before the caret; those that only contain it come after.
 */
export function complete(text, caret, fields) {
  const all = tokens(text.slice(0, caret));
  const last = all.at(-1);
  const open = last && last.end === caret && !/^[(),]$/.test(last.text);
  const word = open ? last.text : "";
  const start = open ? last.start : caret;
  const options = expected(open ? all.slice(0, -1) : all, fields);
  const typed = word.toLowerCase();
  const begins = options.filter((one) => one.text.toLowerCase().startsWith(typed));
  const contains = options.filter((one) => !begins.includes(one) && one.text.toLowerCase().includes(typed));
  return { start, end: caret, word, options: [...begins, ...contains].filter((one) => one.text !== word) };
}

function expected(before, fields) {
  const byName = new Map(fields.map((field) => [field.name, field]));
  let state = "term";
  /** @type {any} */
  let field = null;
  let list = false;
  for (const { text } of before) {
    const word = text.toLowerCase();
    if (state === "term") {
      if (word === "not" || word === "(") continue;
      field = byName.get(word) ?? null;
      state = "operator";
    } else if (state === "operator") {
      state = word === "not" ? "operator" : "value";
    } else if (state === "value") {
      if (word === "(") {
        list = true;
        continue;
      }
      state = list ? "comma" : "joiner";
    } else if (state === "comma") {
      if (word === ",") state = "value";
      if (word === ")") {
        list = false;
        state = "joiner";
      }
    } else if (word === "and" || word === "or") {
      state = "term";
    }
  }
  return {
    term: () => [
      ...fields.map((one) => ({ text: one.name, doc: one.doc ?? "" })), { text: "not", doc: "the opposite of what follows" },
    ],
    operator: () => (field?.operators ?? []).map((one) => ({ text: one, doc: "" })),
    value: () => (field?.values ?? []).map((one) => ({ text: quote(String(one)), doc: "" })),
    comma: () => [],
    joiner: () => [{ text: "and", doc: "both must hold" }, { text: "or", doc: "either may hold" }],
  }[state]();
}

/** A value as a filter can hold it. */
export function quote(value) {
  const text = String(value);
  if (/^[^\s"'=!<>~(),]+$/.test(text) && !JOINERS.includes(text.toLowerCase())) return text;
  return text.includes('"') ? `'${text}'` : `"${text}"`;
}

/** The filter narrowed by one more term; a term that is there already is not put twice. */
export function narrowed(filter, term) {
  const present = filter.trim();
  if (!present) return term;
  const words = tokens(present).map((token) => token.text.toLowerCase());
  if (!words.includes("or") && present.split(/\s+and\s+/i).includes(term)) return present;
  return words.includes("or") && !whole(present) ? `(${present}) and ${term}` : `${present} and ${term}`;
}

/** Whether the text is one pair of parentheses and what is in it. */
function whole(text) {
  let depth = 0;
  const all = tokens(text);
  return all.every((token, i) => {
    depth += token.text === "(" ? 1 : token.text === ")" ? -1 : 0;
    return depth > 0 || i === all.length - 1;
  }) && all[0].text === "(";
}
