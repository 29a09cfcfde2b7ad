// The view of a board's page lives in the URL: relative ranges stay relative, a zoom is absolute.

import { $, el, glyph, setText } from "./dom.js";
import { clock, dayClock, duration, zone } from "./format.js";
import { rangeWords, ranges } from "./boarddata.js";

const standard = "15m";
const pauseMost = 86400000; // ms behind now up to which a view has only stopped, and is not of another time

export class BoardView extends EventTarget {
  constructor(live, lease) {
    super();
    this.live = live;
    this.lease = lease;
    this.#read();
    addEventListener("popstate", () => {
      this.#read();
      this.#moved();
    });
    this.#build();
  }

  #read() {
    const q = new URLSearchParams(location.search);
    const [from, to] = [Number(q.get("from")), Number(q.get("to"))];
    this.range = ranges[q.get("range")] ? q.get("range") : standard;
    this.fixed = from > 0 && to > from ? [from / 1000, to / 1000] : null;
  }
  // words name the range.
  get words() {
    return this.fixed ? "This range" : rangeWords[this.range];
  }
  get seconds() {
    return this.fixed ? this.fixed[1] - this.fixed[0] : ranges[this.range];
  }
  // window is [start, end] in seconds; a relative one ends now.
  window() {
    if (this.fixed) return this.fixed;
    const now = this.live.now() / 1000;
    return [now - ranges[this.range], now];
  }

  #go(params) {
    history.pushState(null, "", "?" + new URLSearchParams(params));
    this.#read();
    this.#moved();
  }
  preset(range) {
    this.#go({ range });
  }
  zoom([from, to]) {
    if (to - from < 10) return;
    this.#go({ range: this.range, from: String(Math.round(from * 1000)), to: String(Math.round(to * 1000)) });
  }
  step(direction) {
    const [from, to] = this.window();
    const by = direction * (to - from) * 0.5;
    if (to + by > this.live.now() / 1000) this.preset(this.range);
    else this.zoom([from + by, to + by]);
  }
  back() {
    if (this.fixed) this.preset(this.range);
  }
  #moved() {
    this.#sync();
    this.tick();
    this.dispatchEvent(new Event("change"));
  }

  #build() {
    const presets = Object.keys(ranges).map((r, i) => el("button", { "data-range": r, title: `key ${i + 1}`, onclick: () => this.preset(r) }, rangeWords[r]));
    this.text = el("b", { class: "range-text num" });
    this.knob = el("button", { id: "live-toggle", class: "live-toggle", "aria-pressed": "false", onclick: () => this.lease.toggle() }, el("span", { class: "knob" }), el("b", {}, "Live"), el("span", { class: "note" }));
    $("view-bar").replaceChildren(el("span", { class: "segment", role: "group", "aria-label": "Range" }, ...presets),
      el("button", { "aria-label": "earlier", onclick: () => this.step(-1) }, "‹"), el("button", { "aria-label": "later", onclick: () => this.step(1) }, "›"),
      el("span", { class: "grow" }), this.knob);
    // The bar has the same height whether the view is paused or not: nothing moves under the pointer that zooms.
    this.state = el("span", {});
    this.now = el("button", { onclick: () => this.back() }, "Back to now");
    this.bar = el("div", { class: "range-bar" }, this.text, el("span", { class: "range-state" }, glyph("warning", "is-warning"), this.state, el("span", { class: "hint" }, " · drag: zoom, double-click: back")), this.now);
    $("graphs").append(this.bar);
    this.lease.addEventListener("change", () => this.#sync());
    this.#sync();
    this.tick();
  }
  #sync() {
    for (const b of $("view-bar").querySelectorAll("[data-range]")) b.setAttribute("aria-pressed", String(!this.fixed && b.dataset.range === this.range));
    this.knob.setAttribute("aria-pressed", String(this.lease.on));
    setText(this.knob.querySelector(".note"), this.lease.note);
    this.bar.classList.toggle("paused", Boolean(this.fixed));
    this.now.disabled = !this.fixed;
  }

  tick() {
    const [from, to] = this.window();
    const now = this.live.now();
    const long = to - from >= 86400;
    const end = long || new Date(to * 1000).toDateString() !== new Date(now).toDateString() ? dayClock(to * 1000, now) : clock(to * 1000);
    setText(this.text, `${dayClock(from * 1000, now)} – ${end} ${zone(now)}`);
    const behind = now - to * 1000;
    setText(this.state, !this.fixed ? "ends now" : behind < pauseMost ? `Live paused, ${duration(behind)} behind` : "A range of the past");
  }
}

const renewEvery = 15000;
const longest = 15 * 60000; // a forgotten tab must not keep a board at 1 Hz

// Lease asks for 1 Hz while somebody looks: it ends when the tab is hidden, left or forgotten.
export class Lease extends EventTarget {
  #timer = 0;
  #until = 0;
  constructor(live, board) {
    super();
    this.live = live;
    this.board = board;
    this.on = false;
    this.note = "1 Hz while you watch";
    live.addEventListener("watching", (e) => e.detail.board === board && this.#granted());
    live.addEventListener("error", (e) => this.on && this.#end(e.detail.error));
    live.addEventListener("hello", () => this.on && this.#ask());
    live.addEventListener("state", (e) => e.detail === "unreachable" && this.on && this.#ask());
    document.addEventListener("visibilitychange", () => document.hidden && this.on && this.#end("ended: the tab was hidden"));
  }
  toggle() {
    if (this.on) {
      this.#end("1 Hz while you watch");
      return;
    }
    this.on = true;
    this.note = "asking…";
    this.#until = Date.now() + longest;
    this.#ask();
    this.#timer = setInterval(() => (Date.now() > this.#until ? this.#end("ended after 15 min") : this.#ask()), renewEvery);
  }
  // ask asks once more with the next hello where the collector is away.
  #ask() {
    const sent = this.live.send({ type: "watch", board: this.board });
    if (!sent) this.note = "Not done: the collector does not answer";
    this.dispatchEvent(new Event("change"));
  }
  #granted() {
    if (!this.on) return;
    this.note = "you are watching: 1 Hz";
    this.dispatchEvent(new Event("change"));
  }
  #end(note) {
    clearInterval(this.#timer);
    this.on = false;
    this.note = note;
    this.dispatchEvent(new Event("change"));
  }
}
