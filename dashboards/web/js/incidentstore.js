// Incidents and acknowledging them. A pending acknowledge survives a reload: it is
// not done until the server says so.

import { el, glyph } from "./dom.js";
import { attempt } from "./act.js";
import { get, post } from "./api.js";
import { clock, count, dayClock, duration, localTimes } from "./format.js";

const pendingKey = "bramble.pending-acknowledge";
const retryEvery = 3000;

// inZone is an incident, or an event of one, whose sentences give their times in the zone of the page.
const sentences = ["title", "reason", "detail", "now", "text"];
export const inZone = (what, near) => ({ ...what, ...Object.fromEntries(sentences.filter((k) => what[k]).map((k) => [k, localTimes(what[k], near)])) });

export class Incidents extends EventTarget {
  #live;
  #refused = new Map(); // id → why an acknowledgement that is not tried again was not done
  #pending = new Map(Object.entries(JSON.parse(sessionStorage.getItem(pendingKey) || "{}")));

  constructor(live) {
    super();
    this.#live = live;
    this.list = [];
    this.loaded = false;
    for (const p of this.#pending.values()) Object.assign(p, { tries: 0, error: "" });
    live.addEventListener("hello", () => this.refresh());
    live.addEventListener("incidents", (e) => this.#take(e.detail.incidents));
    setInterval(() => this.#retry(), retryEvery);
  }

  // open is what somebody is or may be paged for; quiet is recorded only.
  open() {
    return this.list.filter((i) => i.state !== "resolved" && !i.pagesNobody);
  }
  quiet() {
    return this.list.filter((i) => i.state !== "resolved" && i.pagesNobody);
  }
  pending(id) {
    return this.#pending.get(id);
  }
  // refusal says why the acknowledgement of an incident is not done, whether it is tried again or not.
  refusal(id) {
    const p = this.#pending.get(id);
    return p?.error ? `${p.error}. It is tried again every ${retryEvery / 1000} s.` : this.#refused.get(id);
  }
  now() {
    return this.#live.now();
  }

  async refresh() {
    try {
      this.#take((await get("/api/incidents")).incidents);
    } catch {
      // Tried again after the next hello; the live status says what is wrong.
    }
  }

  #take(found) {
    const list = found.map((i) => inZone(i, i.resolvedAt || this.now()));
    const known = new Set(this.list.map((i) => i.id));
    const fresh = list.filter((i) => this.loaded && !known.has(i.id) && i.state === "firing" && i.severity === "critical" && !i.pagesNobody);
    if (fresh.length) document.getElementById("announce").textContent = fresh.map((i) => i.title).join(". ");
    this.list = list;
    this.loaded = true;
    for (const i of list) if (i.state !== "firing") this.#pending.delete(i.id);
    this.#changed();
  }

  acknowledge(id, comment) {
    this.#refused.delete(id);
    this.#pending.set(id, { comment: comment || "", tries: 0, error: "" });
    this.#try(id);
  }

  async #try(id) {
    const p = this.#pending.get(id);
    p.tries++;
    this.#changed();
    const { error, again } = await attempt(() => post(`/api/incidents/${encodeURIComponent(id)}/ack`, { comment: p.comment }));
    if (error && again) p.error = error;
    else {
      this.#pending.delete(id);
      if (error) this.#refused.set(id, error + ".");
      else await this.refresh();
    }
    this.#changed();
  }

  #retry() {
    for (const [id, p] of this.#pending) if (p.error || p.tries === 0) this.#try(id);
  }

  #changed() {
    sessionStorage.setItem(pendingKey, JSON.stringify(Object.fromEntries(this.#pending)));
    this.dispatchEvent(new Event("change"));
  }
}

export const mayAcknowledge = () => document.body.dataset.role !== "viewer";

// ackButton is the same everywhere: idle, sending, failed and retrying, or who has it.
export function ackButton(incidents, i, comment) {
  const p = incidents.pending(i.id);
  if (i.state !== "firing" || !mayAcknowledge()) return null;
  if (!p) {
    return el("button", { class: "primary", "data-ack": i.id, onclick: () => incidents.acknowledge(i.id, comment?.()) }, "Acknowledge");
  }
  const text = p.error ? `Not done, try ${p.tries + 1}` : "Sending…";
  return el("button", { class: "primary", disabled: true, title: incidents.refusal(i.id) || "not done until the server says so" }, text);
}

export function whoHas(i, now) {
  if (i.acknowledgedBy) {
    const until = i.snoozedUntil && i.state === "acknowledged" ? `, snoozed until ${clock(i.snoozedUntil).slice(0, 5)}` : "";
    return el("span", { class: "who-has" }, glyph("acknowledged", "is-done"), ` Acknowledged by ${i.acknowledgedBy} ${clock(i.acknowledgedAt).slice(0, 5)}${until}`);
  }
  if (i.state === "firing" && i.escalatesAt) {
    return el("span", { class: "who-has" }, `Escalates${i.escalatesTo ? " to " + i.escalatesTo : ""} in `, el("b", {}, duration(i.escalatesAt - now)));
  }
  return el("span", { class: "who-has dim" }, i.shadow ? "Shadow, pages nobody" : i.pagesNobody ? "Pages nobody" : i.state === "firing" ? "Nobody has it yet" : "");
}

export const lasted = (i, now) => duration((i.resolvedAt || now) - i.since);
export const sinceText = (i, now) => dayClock(i.since, now);
export const alertsText = (list) => {
  const n = list.reduce((n, i) => n + (i.alerts || 0), 0);
  return `${count(n)} ${n === 1 ? "alert" : "alerts"}`;
};
export const severityGlyph = (i) => i.pagesNobody ? glyph("silent") : glyph(i.severity === "critical" ? "critical" : "warning", i.severity === "critical" ? "is-critical" : "is-warning");

// shortId names an incident as people do.
export const shortId = (i) => "#" + (i.number || i.id);
