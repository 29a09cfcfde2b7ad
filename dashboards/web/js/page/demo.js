// The demo: where simulated history ends, which fault comes next, and each page as it was received.

/** @import { DemoAnswer, FaultAnswer, Incident, ReceivedAnswer } from "../../types/server" */
/** @import { Incidents } from "./incidents.js" */
/** @import { Live } from "./live.js" */

import { $, el, glyph, part, setText } from "./dom.js";
import { clock, count, countdown, dayClock } from "./format.js";
import { get, keepFresh } from "./collector.js";
import { ackButton, acknowledgedAt } from "./incidents.js";
import { Signals } from "./signals.js";

const askEvery = 2000;
const shownMails = 5;

/**
 * coming is the faults that are still to come, the next first.
 * @param {FaultAnswer[]} faults
 * @param {number} now
 */
export const coming = (faults, now) => faults.filter((f) => !f.done && f.at > now).sort((a, b) => a.at - b.at);

/**
 * Demo is the state of the collector's simulation, shown in the bar below the header.
 * @extends {Signals<{ change: null }>}
 */
export class Demo extends Signals {
  /**
   * @param {Live} live
   * @param {Incidents} incidents
   */
  constructor(live, incidents) {
    super();
    this.live = live;
    this.incidents = incidents;
    /** @type {FaultAnswer[]} */
    this.faults = [];
    /** @type {ReceivedAnswer[]} */
    this.inbox = [];
    this.historyEnds = 0;
    this.loaded = false;
    const ask = keepFresh(live, [$("demo-bar")], () => this.#ask(), askEvery);
    live.on("incidents", ask);
    live.on("tick", () => this.#bar());
  }

  async #ask() {
    /** @type {DemoAnswer} */
    const d = await get("/api/demo");
    this.loaded = true;
    this.faults = d.faults;
    this.inbox = d.inbox;
    this.historyEnds = d.historyEnds || 0;
    this.#bar();
    this.emit("change", null);
  }

  #bar() {
    const bar = $("demo-bar");
    if (!bar.firstChild) bar.append(el("b", {}, "Simulated boards"), el("span", { class: "history" }), el("span", { class: "next" }), el("span", { class: "then dim" }));
    const now = this.live.now();
    const [first, second] = coming(this.faults, now);
    setText(part(bar, ".history"), this.historyEnds ? `history before ${dayClock(this.historyEnds, now)} is simulated too` : "");
    setText(part(bar, ".next"), first ? `in ${countdown(first.at - now)} ${first.what}` : this.loaded ? "no fault is planned" : "");
    setText(part(bar, ".then"), second ? `then in ${countdown(second.at - now)} ${second.what}` : "");
  }
}

/** DemoPanel is the list of faults and the inbox beside the map. */
export class DemoPanel {
  #key = "";

  /**
   * @param {HTMLElement} box
   * @param {Demo} demo
   */
  constructor(box, demo) {
    this.demo = demo;
    this.faults = el("ul", { class: "faults", id: "faults" });
    this.inbox = el("div", { id: "inbox" });
    this.title = el("small", {});
    box.append(
      el("section", {}, el("h2", {}, "Coming faults"), this.faults),
      el("section", {}, el("h2", {}, "Inbox ", this.title), this.inbox),
    );
    demo.on("change", () => this.#mails());
    demo.incidents.on("change", () => this.#mails());
    demo.live.on("tick", () => this.#faultRows());
    this.#mails();
  }

  #faultRows() {
    if (!this.demo.loaded) return;
    const now = this.demo.live.now();
    const rows = [...this.demo.faults].sort((a, b) => a.at - b.at);
    const list = rows.map((f) => {
      const over = f.done || f.at <= now;
      return el("li", { class: over ? "done" : null }, el("time", {}, over ? clock(f.at) : countdown(f.at - now)), f.what);
    });
    this.faults.replaceChildren(...(list.length ? list : [el("li", { class: "quiet" }, "No fault is planned.")]));
  }

  #mails() {
    if (!this.demo.loaded) return;
    const { inbox, incidents } = this.demo;
    const key = JSON.stringify([inbox.map((m) => [m.at, m.id]), incidents.list.map((i) => [i.id, i.state, incidents.pending(i.id)])]);
    if (key === this.#key) return;
    this.#key = key;
    setText(this.title, inbox.length === 1 ? "1 page, as it was received" : `${count(inbox.length)} pages, as they were received`);
    const opened = new Set([...this.inbox.querySelectorAll("details[open]")].map((d) => d.getAttribute("data-mail")));
    const mails = [...inbox].sort((a, b) => b.at - a.at).slice(0, shownMails);
    const rows = mails.map((m) => this.#mail(m, incidents.list.find((i) => i.id === m.incidentId), opened));
    this.inbox.replaceChildren(...(rows.length ? rows : [el("p", { class: "quiet" }, "No page yet. The first fault brings one.")]));
  }

  /**
   * @param {ReceivedAnswer} m
   * @param {Incident | undefined} incident
   * @param {Set<string | null>} opened
   */
  #mail(m, incident, opened) {
    const id = m.id || String(m.at);
    const head = Object.entries(m.headers || {}).map(([k, v]) => `${k}: ${v}`).join("\n");
    const ack = incident && ackButton(this.demo.incidents, incident);
    const has = incident?.acknowledgedBy ? el("span", { class: "dim" }, glyph("acknowledged", "is-done"), ` ${incident.acknowledgedBy} ${acknowledgedAt(incident)}`) : null;
    return el("article", { class: "mail", "data-incident": m.incidentId },
      el("header", {}, el("h3", {}, m.subject), el("time", {}, clock(m.at))),
      el("details", { "data-mail": id, open: opened.has(id) }, el("summary", {}, [m.to && `to ${m.to}`, "as received", m.id && `id ${m.id}`].filter(Boolean).join(", ")), el("pre", {}, (head ? head + "\n\n" : "") + pretty(m.body))),
      el("div", { class: "act" }, has || el("span", { class: "dim" }, incident?.state || ""), ack));
  }
}

/**
 * pretty breaks JSON into lines, and leaves other text as it is.
 * @param {string} body
 */
export function pretty(body) {
  try {
    return JSON.stringify(JSON.parse(body), null, 2);
  } catch {
    return body;
  }
}
