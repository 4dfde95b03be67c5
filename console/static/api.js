// SPDX-License-Identifier: Apache-2.0
// Asking the console's API. An answer that is not well is an ApiError with the server's sentence.

const TOKEN = "ayaflow-token";

/** What the server said: `status` (0: it did not answer), `column` of the filter (from 1) or null. */
export class ApiError extends Error {
  constructor(message, status, column = null) {
    super(message);
    this.status = status;
    this.column = column;
  }
}

export const token = () => sessionStorage.getItem(TOKEN) ?? "";
export const setToken = (value) => sessionStorage.setItem(TOKEN, value);

/** /api/… with parameters; empty ones are left out. */
export function address(path, parameters = {}) {
  const url = new URL(path, location.origin);
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== "" && value !== null && value !== undefined) url.searchParams.set(name, value);
  }
  return url;
}

/**
 * The answer as it comes. Throws ApiError, and AbortError when `signal` says so.
 * @param {string} path
 * @param {Record<string, any>} parameters
 * @param {AbortSignal | undefined} signal
 */
export async function ask(path, parameters = {}, signal = undefined) {
  /** @type {Record<string, string>} */
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  let answer;
  try {
    answer = await fetch(address(path, parameters), { signal, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(
      `The console at ${location.host} does not answer. Is it running? Start it with: ayaflow up (or ayaflow console).`,
      0,
    );
  }
  if (!answer.ok) throw await explain(answer, path);
  return answer;
}

/**
 * The JSON of an answer; the same errors.
 * @param {string} path
 * @param {Record<string, any>} parameters
 * @param {AbortSignal | undefined} signal
 */
export async function get(path, parameters = {}, signal = undefined) {
  return (await ask(path, parameters, signal)).json();
}

/**
 * Ask, and when others are being served ask again, a little later.
 * @param {[string, Record<string, any>?, AbortSignal?]} question
 */
export async function patient(...question) {
  for (let seconds = 1; ; seconds += 1) {
    try {
      return await get(...question);
    } catch (error) {
      if (error.status !== 429 || seconds > 3) throw error;
      await new Promise((done) => setTimeout(done, seconds * 1000));
    }
  }
}

async function explain(answer, path) {
  let said = {};
  try {
    said = await answer.json();
  } catch {
    // not JSON: a proxy, perhaps
  }
  const message = typeof said?.error === "string" ? said.error : "";
  if (answer.status === 401) dispatchEvent(new CustomEvent("token-wanted"));
  const column = said?.column ?? (/column (\d+)/.exec(message)?.[1] || null);
  return new ApiError(
    message || `${path} answered ${answer.status} ${answer.statusText}`.trim(), answer.status, column && Number(column),
  );
}
