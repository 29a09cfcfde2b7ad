// The content of the graphs in words, and as a table.

/** @import { BoardData, View } from "./data.js" */
/** @import { Reading, Track } from "./series.js" */

import { el, setText } from "../page/dom.js";
import { clock, counted, dayClock, duration, megahertz, none, reasonWords, tenths } from "../page/format.js";
import { laneSeconds, lanes } from "./series.js";

const tableRows = 60;

/**
 * inWords says what a board did in a view; failed says that it could not be read.
 * @param {BoardData} d
 * @param {View} view
 * @param {number} now Unix ms
 * @param {boolean} failed
 */
export function inWords(d, view, now, failed) {
  const words = [`${dayClock(view[0] * 1000, now)} to ${dayClock(view[1] * 1000, now)}:`];
  const state = d.state(view);
  if (state !== "shown") {
    const nothing = { unread: failed ? "could not be read." : "not read yet.", waiting: "no reading yet: the board has not reported so far.", empty: "no readings." };
    return `${words[0]} ${nothing[state]}`;
  }
  /**
   * @param {Track} t
   * @param {"min" | "max"} key
   */
  const inView = (t, key) => t[key].filter((_, i) => t.at[i] >= view[0] && t.at[i] <= view[1]);
  const t = inView(d.temperature, "min");
  words.push(t.length ? `${tenths(least(t))} to ${tenths(greatest(inView(d.temperature, "max")))} °C;` : "no temperature;");
  const lost = d.kept.at.map((at, i) => (at >= view[0] && at <= view[1] ? (d.requested.before(at, 0)?.value ?? d.kept.max[i]) - d.kept.max[i] : 0));
  if (lost.length) words.push(greatest(lost) > 1e6 ? `up to ${megahertz(greatest(lost))} MHz lost;` : "no clock lost;");
  const m = inView(d.measured, "min");
  const unmeasured = inView(d.requested, "max").length ? "clock requested, but not measured;" : "no clock;";
  words.push(m.length ? `measured clock ${megahertz(least(m))} to ${megahertz(greatest(inView(d.measured, "max")))} MHz;` : unmeasured);
  for (const lane of lanes) {
    const sum = laneSeconds(d.throttled[lane], view, d.gapLength);
    if (sum) words.push(`${reasonWords[lane]} for ${duration(sum * 1000)};`);
  }
  const gaps = d.gaps(d.temperature, view);
  words.push(gaps.length ? `${counted(gaps.length, "gap")} without readings, ${duration(1000 * gaps.reduce((s, [a, b]) => s + b - a, 0))} in all.` : "no gap.");
  if (!d.read || d.read[0] > view[0] + d.gapLength || d.read[1] < view[1] - d.gapLength) words.push("The rest of this range " + (failed ? "could not be read." : "is not read yet."));
  return words.join(" ");
}

/** @param {number[]} list */
const least = (list) => list.reduce((a, b) => Math.min(a, b), Infinity);

/** @param {number[]} list */
const greatest = (list) => list.reduce((a, b) => Math.max(a, b), -Infinity);

export class BoardText {
  /** @type {View | null} */
  #view = null;
  #text = el("p", {});
  #body = el("div", { class: "scroll" });
  #details = el("details", { ontoggle: () => this.#table() }, el("summary", {}, "Data table"), this.#body);

  /**
   * @param {HTMLElement} box
   * @param {BoardData} data
   */
  constructor(box, data) {
    this.data = data;
    box.append(el("section", { class: "summary-text", "aria-label": "Summary of the graphs" }, this.#text, this.#details));
  }

  /**
   * update puts a view into words.
   * @param {View} view
   * @param {number} now Unix ms
   * @param {boolean} failed
   */
  update(view, now, failed) {
    this.#view = view;
    setText(this.#text, inWords(this.data, view, now, failed));
    this.#table();
  }

  #table() {
    if (!this.#details.open || !this.#view) return;
    const [from, to] = this.#view;
    const step = (to - from) / tableRows;
    const rows = [];
    for (let at = from + step; at <= to; at += step) rows.push(this.#row(at, step));
    const heads = ["Time", "°C", "requested MHz", "measured MHz", "throttle state"].map((h) => el("th", { scope: "col" }, h));
    this.#body.replaceChildren(el("table", {}, el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...rows)));
  }
  /**
   * @param {number} at
   * @param {number} step
   */
  #row(at, step) {
    const gap = this.data.gapLength;
    /**
     * @param {Track} t
     * @param {(r: Reading) => string} f
     */
    const read = (t, f) => {
      const r = t.before(at, gap);
      return r ? f(r) : none;
    };
    const bits = lanes.filter((l) => this.data.throttled[l].before(at, gap)?.value).map((l) => reasonWords[l]);
    const cells = [step >= 3600 ? dayClock(at * 1000, Date.now()) : clock(at * 1000), read(this.data.temperature, (r) => tenths(r.value)), read(this.data.requested, (r) => megahertz(r.value)), read(this.data.measured, (r) => megahertz(r.min)), bits.join(", ") || none];
    return el("tr", {}, ...cells.map((c) => el("td", { class: "num" }, c)));
  }
}
