// SPDX-License-Identifier: Apache-2.0
// Moments as people read and write them, in the browser's zone or in UTC, always with the offset. A moment is a number
// of milliseconds since 1970; only its text knows a zone.

const KEY = "ayaflow-zone";
const HOME = Intl.DateTimeFormat().resolvedOptions().timeZone || "local time";
const SECOND = 1000;
const MINUTE = 60 * SECOND;
const DAY = 86_400 * SECOND;
const STEPS = [
  ...[1, 2, 5, 10, 15, 30].map((seconds) => seconds * SECOND), ...[1, 2, 5, 10, 15, 30].map((minutes) => minutes * MINUTE),
  ...[1, 2, 3, 6, 12].map((hours) => hours * 60 * MINUTE), ...[1, 2, 7, 14, 28, 91, 364].map((days) => days * DAY),
];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const ISO = /\b\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)/g;
const WRITTEN = /^(?:(\d{4})-(\d\d)-(\d\d))?(?:(?:^|[T ]\s*)(\d\d?):(\d\d)(?::(\d\d)(?:\.\d+)?)?)?$/;

const utc = () => HOME === "UTC" || localStorage.getItem(KEY) === "utc";

/** The name of the zone: "Europe/Berlin" or "UTC". */
export const zone = () => (utc() ? "UTC" : HOME);

/** Let `button` say the zone and change it; the window gets the event "zone". */
export function start(button) {
  const show = () => {
    button.textContent = zone();
    button.title = `Times are in ${zone()}${HOME === "UTC" ? "" : `. Show them in ${utc() ? HOME : "UTC"}`}`;
    button.disabled = HOME === "UTC";
    dispatchEvent(new CustomEvent("zone"));
  };
  button.addEventListener("click", () => {
    localStorage.setItem(KEY, utc() ? "local" : "utc");
    show();
  });
  show();
}

/** How far the zone is ahead of UTC at a moment, in ms. */
const offset = (time) => (utc() ? 0 : -new Date(time).getTimezoneOffset() * MINUTE);

const two = (number) => String(number).padStart(2, "0");

function offsetText(time) {
  if (utc()) return "UTC";
  const minutes = Math.round(offset(time) / MINUTE);
  const size = Math.abs(minutes);
  return `${minutes < 0 ? "-" : "+"}${two(Math.floor(size / 60))}:${two(size % 60)}`;
}

/** The date and time that a clock in the zone shows, as ISO 8601 without an offset: "2026-11-22T14:03:07.000". */
const wall = (time) => new Date(time + offset(time)).toISOString().slice(0, -1);

/** "2026-11-22 14:03:07 +01:00". */
export function stamp(time) {
  return `${wall(time).slice(0, 19).replace("T", " ")} ${offsetText(time)}`;
}

/** An ISO time of the API, as stamp() writes it. */
export function clock(iso) {
  const time = Date.parse(iso);
  return Number.isNaN(time) ? String(iso) : stamp(time);
}

/** A sentence of the API with its times as stamp() writes them. */
export const localised = (text) => String(text).replace(ISO, clock);

/** "2026-11-22T14:03:07+01:00": complete, for an input or a link. */
export function iso(time) {
  return `${wall(time).replace(/\.000$/, "")}${utc() ? "Z" : offsetText(time)}`;
}

/** The end of a range as an input shows it: words as they are, times in the zone. Without an offset it is UTC, as in the API. */
export function shown(text) {
  const time = /^\d{4}-\d\d-\d\dT/.test(text) ? Date.parse(/Z$|[+-]\d\d:?\d\d$/i.test(text) ? text : `${text}Z`) : Number.NaN;
  return Number.isNaN(time) ? text : iso(time);
}

/**
 * What was written into an input, as the API takes it: a date, a time of today, "today" and "yesterday" are those of the
 * zone. Of an hour that the clock shows twice it is the first.
 */
export function asked(text, now = Date.now()) {
  const today = wall(now).slice(0, 10);
  const word = text.trim().toLowerCase();
  if (word === "today") return iso(moment(Date.parse(`${today}T00:00Z`)));
  if (word === "yesterday") return iso(moment(Date.parse(`${today}T00:00Z`) - DAY));
  const found = WRITTEN.exec(text.trim());
  if (!found || !word) return text.trim();
  const [, year, month, day, hour = "0", minute = "00", second = "00"] = found;
  const time = Date.parse(`${year ? `${year}-${month}-${day}` : today}T${hour.padStart(2, "0")}:${minute}:${second}Z`);
  return Number.isNaN(time) ? text.trim() : iso(moment(time));
}

/** The moment at which a clock in the zone shows this; `local`: as if it were UTC. A time that is skipped is moved forward. */
function moment(local) {
  const around = [offset(local - DAY), offset(local + DAY)];
  return around.map((ahead) => local - ahead).sort((a, b) => a - b).find((time) => time + offset(time) === local) ?? local - around[0];
}

/**
 * Marks of an axis over the moments [from, to], `most` at most: [{time, text}]. They are at round times of the zone, an
 * hour that the clock shows twice has two; the text says the day and the offset where they are new.
 */
export function ticks(from, to, most) {
  const step = STEPS.find((one) => (to - from) / one <= most) ?? 10 * 364 * DAY;
  const offsets = new Set([offset(from), offset(to)]);
  for (let time = from; time < to; time += Math.max(DAY, (to - from) / 400)) offsets.add(offset(time));
  const times = new Set();
  for (const ahead of offsets) {
    for (let local = Math.ceil((from + ahead) / step) * step; local <= to + ahead; local += step) {
      if (offset(local - ahead) === ahead) times.add(local - ahead);
    }
  }
  let said = { day: "", offset: "" };
  return [...times].sort((a, b) => a - b).map((time) => {
    const text = wall(time);
    const day = `${MONTHS[Number(text.slice(5, 7)) - 1]} ${Number(text.slice(8, 10))}`;
    const now = { day, offset: offsetText(time) };
    const main = step >= DAY ? day : text.slice(11, step < MINUTE ? 19 : 16);
    const news = [now.day !== said.day && step < DAY ? now.day : "", now.offset === said.offset ? "" : now.offset];
    said = now;
    return { time, text: [main, news.filter(Boolean).join(" ")].filter(Boolean).join("<br>") };
  });
}
