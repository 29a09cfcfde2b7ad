// The demo: where simulated history ends, what will fail next, and each page as it was received.

import { $, el, glyph, setText } from "./dom.js";
import { clock, count, countdown, dayClock } from "./format.js";
import { get } from "./api.js";
import { keepFresh } from "./fresh.js";
import { ackButton } from "./incidentstore.js";

const askEvery = 2000;
const shownMails = 5;

export class Demo extends EventTarget {
  constructor(live, incidents) {
    super();
    this.live = live;
    this.incidents = incidents;
    this.faults = [];
    this.inbox = [];
    this.historyEnds = 0;
    this.loaded = false;
    const ask = keepFresh(live, [$("demo-bar")], () => this.#ask(), askEvery);
    live.addEventListener("incidents", ask);
    live.addEventListener("tick", () => this.#bar());
  }

  async #ask() {
    const d = await get("/api/demo");
    Object.assign(this, { loaded: true, faults: d.faults, inbox: d.inbox, historyEnds: d.historyEnds || 0 });
    this.#bar();
    this.dispatchEvent(new Event("change"));
  }

  next() {
    return this.faults.filter((f) => !f.done && f.at > this.live.now()).sort((a, b) => a.at - b.at);
  }

  #bar() {
    const bar = $("demo-bar");
    if (!bar.firstChild) bar.append(el("b", {}, "Simulated boards"), el("span", { class: "history" }), el("span", { class: "next" }), el("span", { class: "then dim" }));
    const [first, second] = this.next();
    const now = this.live.now();
    setText(bar.querySelector(".history"), this.historyEnds ? `history before ${dayClock(this.historyEnds, now)} is simulated too` : "");
    setText(bar.querySelector(".next"), first ? `in ${countdown(first.at - now)} ${first.what}` : this.loaded ? "no fault is planned" : "");
    setText(bar.querySelector(".then"), second ? `then in ${countdown(second.at - now)} ${second.what}` : "");
  }
}

export const startDemo = (live, incidents) => new Demo(live, incidents);

// DemoPanel is the list of faults and the inbox beside the map.
export class DemoPanel {
  #key = "";
  constructor(box, demo) {
    this.demo = demo;
    this.faults = el("ul", { class: "faults", id: "faults" });
    this.inbox = el("div", { id: "inbox" });
    this.title = el("small", {});
    box.append(
      el("section", {}, el("h2", {}, "Coming faults"), this.faults),
      el("section", {}, el("h2", {}, "Inbox ", this.title), this.inbox),
    );
    demo.addEventListener("change", () => this.#mails());
    demo.incidents.addEventListener("change", () => this.#mails());
    demo.live.addEventListener("tick", () => this.#faultRows());
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
    const state = (m) => incidents.list.find((i) => i.id === m.incidentId);
    const key = JSON.stringify([inbox.map((m) => [m.at, m.id]), incidents.list.map((i) => [i.id, i.state, incidents.pending(i.id)])]);
    if (key === this.#key) return;
    this.#key = key;
    setText(this.title, inbox.length === 1 ? "1 page, as it was received" : `${count(inbox.length)} pages, as they were received`);
    const opened = new Set([...this.inbox.querySelectorAll("details[open]")].map((d) => d.dataset.mail));
    const mails = [...inbox].sort((a, b) => b.at - a.at).slice(0, shownMails);
    this.inbox.replaceChildren(...(mails.length ? mails.map((m) => this.#mail(m, state(m), opened)) : [el("p", { class: "quiet" }, "No page yet. The first fault brings one.")]));
  }

  #mail(m, incident, opened) {
    const id = m.id || String(m.at);
    const head = Object.entries(m.headers || {}).map(([k, v]) => `${k}: ${v}`).join("\n");
    const ack = incident && ackButton(this.demo.incidents, incident);
    const has = incident?.acknowledgedBy ? el("span", { class: "dim" }, glyph("acknowledged", "is-done"), ` ${incident.acknowledgedBy} ${clock(incident.acknowledgedAt).slice(0, 5)}`) : null;
    return el("article", { class: "mail", "data-incident": m.incidentId },
      el("header", {}, el("h3", {}, m.subject), el("time", {}, clock(m.at))),
      el("details", { "data-mail": id, open: opened.has(id) }, el("summary", {}, [m.to && `to ${m.to}`, "as received", m.id && `id ${m.id}`].filter(Boolean).join(", ")), el("pre", {}, (head ? head + "\n\n" : "") + pretty(m.body))),
      el("div", { class: "act" }, has || el("span", { class: "dim" }, incident?.state || ""), ack));
  }
}

function pretty(body) {
  try {
    return JSON.stringify(JSON.parse(body), null, 2);
  } catch {
    return body;
  }
}
