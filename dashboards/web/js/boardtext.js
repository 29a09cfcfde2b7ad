// What the graphs show, in words and as a table.

import { el } from "./dom.js";
import { clock, dayClock, duration, none, reasonWords, tenths } from "./format.js";
import { lanes } from "./boarddata.js";
import { laneSeconds } from "./graphs.js";

const tableRows = 60;

export class BoardText {
  constructor(box, data) {
    this.data = data;
    this.text = el("p", {});
    this.body = el("div", { class: "scroll" });
    this.details = el("details", { ontoggle: () => this.#table() }, el("summary", {}, "Data table"), this.body);
    box.append(el("section", { class: "summary-text", "aria-label": "Summary of the graphs" }, this.text, this.details));
  }

  // update puts a view into words; failed says that it could not be read.
  update(view, now, failed) {
    this.view = view;
    const d = this.data;
    const inView = (t, key) => t[key].filter((_, i) => t.at[i] >= view[0] && t.at[i] <= view[1]);
    const words = [`${dayClock(view[0] * 1000, now)} to ${dayClock(view[1] * 1000, now)}:`];
    const state = d.state(view);
    if (state !== "shown") {
      const nothing = { unread: failed ? "could not be read." : "not read yet.", waiting: "no reading yet: the board has not reported so far.", empty: "no readings." };
      return this.#show(`${words[0]} ${nothing[state]}`);
    }
    const t = [inView(d.temperature, "min"), inView(d.temperature, "max")];
    words.push(t[0].length ? `${tenths(least(t[0]))} to ${tenths(most(t[1]))} °C;` : "no temperature;");
    const m = [inView(d.measured, "min"), inView(d.measured, "max")];
    const lost = d.kept.at.map((t, i) => (t >= view[0] && t <= view[1] ? (d.requested.before(t, 0)?.value ?? d.kept.max[i]) - d.kept.max[i] : 0));
    if (lost.length) words.push(most(lost) > 1e6 ? `up to ${Math.round(most(lost) / 1e6)} MHz lost;` : "no clock lost;");
    const q = inView(d.requested, "max");
    words.push(m[0].length ? `measured clock ${Math.round(least(m[0]) / 1e6)} to ${Math.round(most(m[1]) / 1e6)} MHz;` : q.length ? "clock requested, but not measured;" : "no clock;");
    for (const lane of lanes) {
      const sum = laneSeconds(d.throttled[lane], view, d.gapLength);
      if (sum) words.push(`${reasonWords[lane]} for ${duration(sum * 1000)};`);
    }
    const gaps = d.gaps(d.temperature, ...view);
    words.push(gaps.length ? `${gaps.length} ${gaps.length === 1 ? "gap" : "gaps"} without readings, ${duration(1000 * gaps.reduce((s, [a, b]) => s + b - a, 0))} in all.` : "no gap.");
    if (!d.read || d.read[0] > view[0] + d.gapLength || d.read[1] < view[1] - d.gapLength) words.push("The rest of this range " + (failed ? "could not be read." : "is not read yet."));
    this.#show(words.join(" "));
  }
  #show(text) {
    if (this.text.textContent !== text) this.text.textContent = text;
    this.#table();
  }

  #table() {
    if (!this.details.open || !this.view) return;
    const [from, to] = this.view;
    const step = (to - from) / tableRows;
    const rows = [];
    for (let at = from + step; at <= to; at += step) rows.push(this.#row(at, step));
    const heads = ["Time", "°C", "requested MHz", "measured MHz", "throttle state"].map((h) => el("th", { scope: "col" }, h));
    this.body.replaceChildren(el("table", {}, el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...rows)));
  }
  #row(at, step) {
    const gap = this.data.gapLength;
    const read = (t, f) => {
      const r = t.before(at, gap);
      return r ? f(r) : none;
    };
    const bits = lanes.filter((l) => this.data.throttled[l].before(at, gap)?.value).map((l) => reasonWords[l]);
    const cells = [step >= 3600 ? dayClock(at * 1000, Date.now()) : clock(at * 1000), read(this.data.temperature, (r) => tenths(r.value)), read(this.data.requested, (r) => Math.round(r.value / 1e6)), read(this.data.measured, (r) => Math.round(r.min / 1e6)), bits.join(", ") || none];
    return el("tr", {}, ...cells.map((c) => el("td", { class: "num" }, String(c))));
  }
}

const least = (list) => list.reduce((a, b) => Math.min(a, b), Infinity);
const most = (list) => list.reduce((a, b) => Math.max(a, b), -Infinity);
