// The view of a board's page lives in the URL: relative ranges stay relative, a zoom is absolute.

/** @import { Live } from "../page/live.js" */
/** @import { View } from "./data.js" */

import { $, el, glyph, setText } from "../page/dom.js";
import { clock, dayClock, duration, zone } from "../page/format.js";
import { Signals } from "../page/signals.js";

/** ranges are those that end now, in seconds. */
export const ranges = { "15m": 900, "1h": 3600, "6h": 21600, "24h": 86400, "7d": 604800, "30d": 2592000, "90d": 7776000, "1y": 31536000, "2y": 63072000 };

/** @typedef {keyof typeof ranges} Range */

export const presets = /** @type {Range[]} */ (Object.keys(ranges));

/** @param {Range} range */
const rangeWords = (range) => range.replace(/(\d)([a-z])/, "$1 $2");

/** @type {Range} */
const standard = "15m";
const pauseMax = 86400000; // ms behind now up to which a view has only stopped, and is not of another time

/**
 * viewOf reads a view from the query of an address: a range that ends now, and a fixed one in its place,
 * in seconds. Parts that make no sense are as if they were not there.
 * @param {string} search
 * @returns {{ range: Range, fixed: View | null }}
 */
export function viewOf(search) {
  const q = new URLSearchParams(search);
  const [from, to] = [Number(q.get("from")), Number(q.get("to"))];
  return { range: presets.find((r) => r === q.get("range")) ?? standard, fixed: from > 0 && to > from ? [from / 1000, to / 1000] : null };
}

/**
 * spanText names the time of a view: its end has a day only where that says more than its begin.
 * @param {View} view
 * @param {number} now Unix ms
 */
export function spanText([from, to], now) {
  const long = to - from >= 86400;
  const end = long || new Date(to * 1000).toDateString() !== new Date(now).toDateString() ? dayClock(to * 1000, now) : clock(to * 1000);
  return `${dayClock(from * 1000, now)} – ${end} ${zone(now)}`;
}

/** @extends {Signals<{ change: null }>} */
export class BoardView extends Signals {
  /** @type {Range} */
  range = standard;
  /** @type {View | null} */
  fixed = null;
  #text = el("b", { class: "range-text num" });
  #knob;
  #note = el("span", { class: "note" });
  // The bar has the same height whether the view is paused or not: nothing moves under the pointer that zooms.
  #state = el("span", {});
  #now = el("button", { onclick: () => this.back() }, "Back to now");
  #bar;

  /**
   * @param {Live} live
   * @param {Lease} lease
   */
  constructor(live, lease) {
    super();
    this.live = live;
    this.lease = lease;
    this.#knob = el("button", { id: "live-toggle", class: "live-toggle", "aria-pressed": "false", onclick: () => this.lease.toggle() }, el("span", { class: "knob" }), el("b", {}, "Live"), this.#note);
    this.#bar = el("div", { class: "range-bar" }, this.#text, el("span", { class: "range-state" }, glyph("warning", "is-warning"), this.#state, el("span", { class: "hint" }, " · drag: zoom, double-click: back")), this.#now);
    this.#read();
    addEventListener("popstate", () => {
      this.#read();
      this.#moved();
    });
    this.#build();
  }

  #read() {
    Object.assign(this, viewOf(location.search));
  }
  /** words name the range. */
  get words() {
    return this.fixed ? "This range" : rangeWords(this.range);
  }
  /**
   * window is the time that is shown; a relative one ends now.
   * @returns {View}
   */
  window() {
    if (this.fixed) return this.fixed;
    const now = this.live.now() / 1000;
    return [now - ranges[this.range], now];
  }

  /** @param {Record<string, string>} params */
  #go(params) {
    history.pushState(null, "", "?" + new URLSearchParams(params));
    this.#read();
    this.#moved();
  }
  /** @param {Range} range */
  preset(range) {
    this.#go({ range });
  }
  /** @param {View} view */
  zoom([from, to]) {
    if (to - from < 10) return;
    this.#go({ range: this.range, from: String(Math.round(from * 1000)), to: String(Math.round(to * 1000)) });
  }
  /** @param {1 | -1} direction */
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
    this.emit("change", null);
  }

  #build() {
    const buttons = presets.map((r, i) => el("button", { "data-range": r, title: `key ${i + 1}`, onclick: () => this.preset(r) }, rangeWords(r)));
    $("view-bar").replaceChildren(el("span", { class: "segment", role: "group", "aria-label": "Range" }, ...buttons),
      el("button", { "aria-label": "earlier", onclick: () => this.step(-1) }, "‹"), el("button", { "aria-label": "later", onclick: () => this.step(1) }, "›"),
      el("span", { class: "grow" }), this.#knob);
    $("graphs").append(this.#bar);
    this.lease.on("change", () => this.#sync());
    this.#sync();
    this.tick();
  }
  #sync() {
    for (const b of $("view-bar").querySelectorAll("[data-range]")) b.setAttribute("aria-pressed", String(!this.fixed && b.getAttribute("data-range") === this.range));
    this.#knob.setAttribute("aria-pressed", String(this.lease.active));
    setText(this.#note, this.lease.note);
    this.#bar.classList.toggle("paused", Boolean(this.fixed));
    this.#now.disabled = !this.fixed;
  }

  tick() {
    const view = this.window();
    const now = this.live.now();
    setText(this.#text, spanText(view, now));
    const behind = now - view[1] * 1000;
    setText(this.#state, !this.fixed ? "ends now" : behind < pauseMax ? `Live paused, ${duration(behind)} behind` : "A range of the past");
  }
}

const renewEvery = 15000;
const longest = 15 * 60000; // a forgotten tab must not keep a board at 1 Hz

/**
 * Lease asks for 1 Hz while somebody looks: it ends when the tab is hidden, left or forgotten.
 * @extends {Signals<{ change: null }>}
 */
export class Lease extends Signals {
  #timer = 0;
  #until = 0;

  /**
   * @param {Live} live
   * @param {string} board
   */
  constructor(live, board) {
    super();
    this.live = live;
    this.board = board;
    this.active = false;
    this.note = "1 Hz while you watch";
    live.on("watching", (m) => m.board === board && this.#granted());
    live.on("error", (m) => this.active && this.#end(m.error));
    live.on("hello", () => this.active && this.#ask());
    live.on("state", (state) => state === "unreachable" && this.active && this.#ask());
    document.addEventListener("visibilitychange", () => document.hidden && this.active && this.#end("ended: the tab was hidden"));
  }
  toggle() {
    if (this.active) {
      this.#end("1 Hz while you watch");
      return;
    }
    this.active = true;
    this.note = "asking…";
    this.#until = Date.now() + longest;
    this.#ask();
    this.#timer = setInterval(() => (Date.now() > this.#until ? this.#end("ended after 15 min") : this.#ask()), renewEvery);
  }
  // The question is asked once more with the next hello where the collector is away.
  #ask() {
    const sent = this.live.send({ type: "watch", board: this.board });
    if (!sent) this.note = "Not done: the collector does not answer";
    this.emit("change", null);
  }
  #granted() {
    if (!this.active) return;
    this.note = "you are watching: 1 Hz";
    this.emit("change", null);
  }
  /** @param {string} note */
  #end(note) {
    clearInterval(this.#timer);
    this.active = false;
    this.note = note;
    this.emit("change", null);
  }
}
