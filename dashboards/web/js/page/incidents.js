// Incidents and acknowledging them. A pending acknowledgement survives a reload: it is not done until
// the server says so.

/** @import { Incident, IncidentList } from "../../types/server" */
/** @import { Live } from "./live.js" */

import { $, el, glyph } from "./dom.js";
import { attempt, get, mayChange, post } from "./collector.js";
import { clock, counted, dayClock, duration, localTimes } from "./format.js";
import { Signals } from "./signals.js";

const pendingKey = "bramble.pending-acknowledge";
const retryEvery = 3000;

/** @typedef {{ title?: string, reason?: string, detail?: string, now?: string, text?: string }} Sentences */

/**
 * inZone is an incident, or an event of one, whose sentences give their times in the zone of the page.
 * @template {Sentences} T
 * @param {T} said
 * @param {number} near a time of about that day
 * @returns {T}
 */
export function inZone(said, near) {
  const out = { ...said };
  for (const key of /** @type {const} */ (["title", "reason", "detail", "now", "text"])) {
    const text = said[key];
    if (text) out[key] = localTimes(text, near);
  }
  return out;
}

/**
 * @typedef {object} Pending
 * @property {string} comment
 * @property {number} tries
 * @property {boolean} sending a try is under way
 * @property {string} error why the last try was not done
 */

/** @returns {Map<string, Pending>} */
function restored() {
  /** @type {Record<string, Pending>} */
  const kept = JSON.parse(sessionStorage.getItem(pendingKey) || "{}");
  return new Map(Object.entries(kept).map(([id, p]) => [id, { ...p, tries: 0, sending: false, error: "" }]));
}

/** @extends {Signals<{ change: null }>} */
export class Incidents extends Signals {
  #live;
  /** @type {Map<string, string>} id → why an acknowledgement that is not tried again was not done */
  #refused = new Map();
  #pending = restored();

  /** @param {Live} live */
  constructor(live) {
    super();
    this.#live = live;
    /** @type {Incident[]} */
    this.list = [];
    this.loaded = false;
    live.on("hello", () => this.refresh());
    live.on("incidents", (m) => this.#take(m.incidents));
    setInterval(() => this.#retry(), retryEvery);
  }

  /** open is the incidents for which somebody is or may be paged; quiet those that are recorded only. */
  open() {
    return this.list.filter((i) => i.state !== "resolved" && !i.pagesNobody);
  }
  quiet() {
    return this.list.filter((i) => i.state !== "resolved" && i.pagesNobody);
  }
  /** @param {string} id */
  pending(id) {
    return this.#pending.get(id);
  }
  /**
   * refusal says why the acknowledgement of an incident is not done, whether it is tried again or not.
   * @param {string} id
   */
  refusal(id) {
    const p = this.#pending.get(id);
    return p?.error ? `${p.error}. It is tried again every ${retryEvery / 1000} s.` : this.#refused.get(id);
  }
  now() {
    return this.#live.now();
  }

  async refresh() {
    try {
      /** @type {IncidentList} */
      const answer = await get("/api/incidents");
      this.#take(answer.incidents);
    } catch {
      // Tried again after the next hello; the live status tells the fault.
    }
  }

  /** @param {Incident[]} found */
  #take(found) {
    const list = found.map((i) => inZone(i, i.resolvedAt || this.now()));
    const known = new Set(this.list.map((i) => i.id));
    const fresh = list.filter((i) => this.loaded && !known.has(i.id) && i.state === "firing" && i.severity === "critical" && !i.pagesNobody);
    if (fresh.length) $("announce").textContent = fresh.map((i) => i.title).join(". ");
    this.list = list;
    this.loaded = true;
    for (const i of list) if (i.state !== "firing") this.#pending.delete(i.id);
    this.#changed();
  }

  /**
   * @param {string} id
   * @param {string} [comment]
   */
  acknowledge(id, comment) {
    this.#refused.delete(id);
    const p = { comment: comment || "", tries: 0, sending: false, error: "" };
    this.#pending.set(id, p);
    this.#try(id, p);
  }

  /**
   * @param {string} id
   * @param {Pending} p
   */
  async #try(id, p) {
    Object.assign(p, { tries: p.tries + 1, sending: true });
    this.#changed();
    const { error, again } = await attempt(() => post(`/api/incidents/${encodeURIComponent(id)}/ack`, { comment: p.comment }));
    Object.assign(p, { sending: false, error: error ?? "" });
    if (!again) {
      this.#pending.delete(id);
      if (error) this.#refused.set(id, error + ".");
      else await this.refresh();
    }
    this.#changed();
  }

  #retry() {
    for (const [id, p] of this.#pending) if (!p.sending) this.#try(id, p);
  }

  #changed() {
    sessionStorage.setItem(pendingKey, JSON.stringify(Object.fromEntries(this.#pending)));
    this.emit("change", null);
  }
}

/**
 * ackButton is the same everywhere: idle, sending, or failed and retrying; null where nothing is to be
 * acknowledged.
 * @param {Incidents} incidents
 * @param {Incident} i
 * @param {() => string} [comment]
 */
export function ackButton(incidents, i, comment) {
  const p = incidents.pending(i.id);
  if (i.state !== "firing" || !mayChange()) return null;
  if (!p) {
    return el("button", { class: "primary", "data-ack": i.id, onclick: () => incidents.acknowledge(i.id, comment?.()) }, "Acknowledge");
  }
  const text = p.error ? `Not done, try ${p.tries + 1}` : "Sending…";
  return el("button", { class: "primary", disabled: true, title: incidents.refusal(i.id) || "not done until the server says so" }, text);
}

/**
 * whoHas says who has acknowledged an incident, or when it escalates.
 * @param {Incident} i
 * @param {number} now
 */
export function whoHas(i, now) {
  if (i.acknowledgedBy) {
    const until = i.snoozedUntil && i.state === "acknowledged" ? `, snoozed until ${clock(i.snoozedUntil).slice(0, 5)}` : "";
    return el("span", { class: "who-has" }, glyph("acknowledged", "is-done"), ` Acknowledged by ${i.acknowledgedBy} ${acknowledgedAt(i)}${until}`);
  }
  if (i.state === "firing" && i.escalatesAt) {
    return el("span", { class: "who-has" }, `Escalates${i.escalatesTo ? " to " + i.escalatesTo : ""} in `, el("b", {}, duration(i.escalatesAt - now)));
  }
  return el("span", { class: "who-has dim" }, i.shadow ? "Shadow, pages nobody" : i.pagesNobody ? "Pages nobody" : i.state === "firing" ? "Nobody has it yet" : "");
}

/** @param {Incident} i */
export const acknowledgedAt = (i) => (i.acknowledgedAt ? clock(i.acknowledgedAt).slice(0, 5) : "");

/**
 * lasted is how long an incident has lasted, or lasted in all.
 * @param {Incident} i
 * @param {number} now
 */
export const lasted = (i, now) => duration((i.resolvedAt || now) - i.since);

/**
 * @param {Incident} i
 * @param {number} now
 */
export const sinceText = (i, now) => dayClock(i.since, now);

/** @param {Incident[]} list */
export const alertsText = (list) => counted(list.reduce((n, i) => n + (i.alerts || 0), 0), "alert");

/** @param {Incident} i */
export function severityGlyph(i) {
  if (i.pagesNobody) return glyph("silent");
  return i.severity === "critical" ? glyph("critical", "is-critical") : glyph("warning", "is-warning");
}

/**
 * shortId names an incident as people do.
 * @param {Incident} i
 */
export const shortId = (i) => "#" + (i.number || i.id);

/**
 * incidentLink is the address of an incident's page.
 * @param {Pick<Incident, "id">} i
 */
export const incidentLink = (i) => "/incidents?id=" + encodeURIComponent(i.id);
