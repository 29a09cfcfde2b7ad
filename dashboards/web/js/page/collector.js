// Asking the collector: JSON over our own origin, acts that say how they went, and parts of a page that
// are kept fresh. A lost session leads to the login.

/** @import { QueryAnswer, RangeAnswer, Labels } from "../../types/server" */
/** @import { Live } from "./live.js" */

import { setAttr, setText } from "./dom.js";
import { clock, localTimes } from "./format.js";

const patience = 30000; // ms: longer than any query that the store answers

/** Unanswered is thrown where the collector could not be asked, or gave no answer. */
export class Unanswered extends Error {
  /**
   * @param {string} message
   * @param {boolean} [late] it was asked, and may still do what it was asked for
   */
  constructor(message, late = false) {
    super(message);
    this.late = late;
  }
}

/** Refused is thrown where the collector answered that it does not do it; status is HTTP's. */
export class Refused extends Error {
  /**
   * @param {string} message
   * @param {number} status
   * @param {unknown} [answer] JSON of the refusal
   */
  constructor(message, status, answer) {
    super(message);
    this.status = status;
    this.answer = answer;
  }
}

/**
 * get reads a route. The type of the answer is that of the place where it goes.
 * @template T
 * @param {string} path
 * @returns {Promise<T>}
 */
export const get = (path) => ask(path, { headers: { Accept: "application/json" } });

/**
 * post changes something.
 * @template T
 * @param {string} path
 * @param {unknown} body
 * @returns {Promise<T>}
 */
export const post = (path, body) => ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

/**
 * remove ends something.
 * @template T
 * @param {string} path
 * @returns {Promise<T>}
 */
export const remove = (path) => ask(path, { method: "DELETE" });

/**
 * @param {string} path
 * @param {RequestInit} init
 */
async function ask(path, init) {
  let response, text;
  try {
    response = await fetch(path, { ...init, signal: AbortSignal.timeout(patience) });
    text = await response.text();
  } catch (e) {
    const late = e instanceof DOMException && e.name === "TimeoutError";
    throw new Unanswered(late ? `the collector gave no answer within ${patience / 1000} s` : "the collector does not answer", late);
  }
  if (response.status === 401) {
    location.href = "/login?next=" + encodeURIComponent(location.pathname + location.search);
  }
  let data;
  try {
    data = text ? JSON.parse(text) : {};
  } catch {
    throw new Refused(`the collector answered ${response.status} without JSON`, response.status);
  }
  if (!response.ok) throw new Refused(data.error || `the collector answered ${response.status}`, response.status, data);
  return data;
}

/**
 * @typedef {object} Series
 * @property {Labels} labels
 * @property {number[]} at seconds
 * @property {number[]} values
 */

/**
 * queryRange asks the store for series over a time; start, end and step are in seconds.
 * @param {string} expr
 * @param {number} start
 * @param {number} end
 * @param {number} step
 * @returns {Promise<Series[]>}
 */
export async function queryRange(expr, start, end, step) {
  const q = new URLSearchParams({ query: expr, start: String(start), end: String(end), step: step + "s", nocache: "1" });
  /** @type {RangeAnswer} */
  const r = await get("/api/v1/query_range?" + q);
  return r.data.result.map((s) => ({
    labels: s.metric,
    at: s.values.map((v) => v[0]),
    values: s.values.map((v) => Number(v[1])),
  }));
}

/**
 * query asks the store for the present value of series.
 * @param {string} expr
 */
export async function query(expr) {
  /** @type {QueryAnswer} */
  const r = await get("/api/v1/query?" + new URLSearchParams({ query: expr, nocache: "1" }));
  return r.data.result.map((s) => ({ labels: s.metric, value: Number(s.value[1]) }));
}

/**
 * @template T
 * @typedef {object} Outcome
 * @property {T | null} answer null where it was not done
 * @property {string | null} error why it was not done
 * @property {boolean} again the same act may succeed later without a change: the collector was away or
 *   busy, and refused nothing
 */

/**
 * attempt runs an act once. Each change that a page makes at the collector goes through it, so that each
 * says how it went and why.
 * @template T
 * @param {() => Promise<T>} run
 * @returns {Promise<Outcome<T>>}
 */
export async function attempt(run) {
  try {
    return { answer: await run(), error: null, again: false };
  } catch (e) {
    const again = !(e instanceof Refused) || e.status >= 500 || e.status === 429;
    const how = e instanceof Unanswered && e.late ? "Nobody knows whether it was done" : "Not done";
    return { answer: null, error: `${how}: ${localTimes(reason(e), Date.now())}`, again };
  }
}

/** @param {unknown} e */
const reason = (e) => (e instanceof Error ? e.message : String(e));

/**
 * act runs an act of a person's, and says beside it how it went: done, text or a function of the answer.
 * The buttons of its form rest meanwhile, and can be pressed again afterwards; typed text stays. It
 * returns the answer, null where the act was not done.
 * @template {object} T
 * @param {HTMLElement} said
 * @param {() => Promise<T>} run
 * @param {string | ((answer: T) => string)} [done]
 * @returns {Promise<T | null>}
 */
export async function act(said, run, done = "Done.") {
  const form = said.closest("form") ?? said.parentElement ?? said;
  /** @type {HTMLButtonElement[]} */
  const buttons = [...form.querySelectorAll("button:not(:disabled)")].filter((b) => b instanceof HTMLButtonElement);
  say(said, "Sending…", "dim");
  for (const b of buttons) b.disabled = true;
  const { answer, error } = await attempt(run);
  for (const b of buttons) b.disabled = false;
  if (answer === null) {
    say(said, error ?? "Not done.", "is-critical");
    return null;
  }
  say(said, typeof done === "function" ? done(answer) : done, "is-done");
  return answer;
}

/** mayChange reports whether the user may change anything; the collector refuses the rest in any case. */
export const mayChange = () => document.body.dataset.role !== "viewer";

/**
 * say writes beside an act how it went; look is a class.
 * @param {HTMLElement} said
 * @param {string} text
 * @param {string} look
 */
export function say(said, text, look) {
  setText(said, text);
  said.className = look;
}

/**
 * keepFresh calls load now, every so many ms while the page is looked at, and when the connection
 * changes. While load fails, the parts say as of when they are. It returns a function that loads at once.
 * @param {Live} live
 * @param {Element[]} parts
 * @param {() => Promise<void>} load
 * @param {number} every
 */
export function keepFresh(live, parts, load, every) {
  let loadedAt = 0;
  const refresh = async () => {
    let stale = null;
    try {
      await load();
      loadedAt = Date.now();
    } catch (e) {
      if (!(e instanceof Refused || e instanceof Unanswered)) throw e;
      stale = loadedAt ? `as of ${clock(loadedAt)}: ${e.message}` : `not loaded: ${e.message}`;
    }
    for (const part of parts) setAttr(part, "data-stale", stale);
  };
  refresh();
  setInterval(() => document.hidden || refresh(), every);
  live.on("state", (state) => state !== "late" && refresh());
  return refresh;
}

/**
 * markFigures says of all live figures as of when they are, while the collector is away.
 * @param {Live} live
 */
export function markFigures(live) {
  const stale = live.state !== "unreachable" ? null : live.lastHeard ? "as of " + clock(live.lastHeard) : "not loaded";
  for (const part of document.querySelectorAll("[data-figures]")) setAttr(part, "data-stale", stale);
}
