// The graphs of a board: temperature, clock and throttle lanes on one time axis.

/** @import { BoardData, View } from "./data.js" */
/** @import { Track } from "./series.js" */

import { el, setText } from "../page/dom.js";
import { celsius, dayClock, duration, megahertz, reasonWords } from "../page/format.js";
import { colour, onTheme, token } from "../page/theme.js";
import { apart, begin, beside, between, bold, clip, clockMarks, dashed, drawGlyph, every, font, hatch, hatchArea, label, markLabel, scaled, stepWords, timeLabels } from "./plot.js";
import { laneSeconds, laneSpans, lanes, plotColumns } from "./series.js";

const left = 62; // px of the value axis, the same for all graphs so that times line up
const right = 132; // px for the direct labels
const laneHeight = 19;
const laneTokens = { under_voltage: "under-voltage", frequency_capped: "capped", throttled: "throttled", soft_temperature_limit: "soft" };
const laneWords = { ...reasonWords, frequency_capped: "capped" };

// softLimitOf finds the models whose firmware lowers the clock from 60 °C on, the 3A+ and 3B+, as boards
// and people name them.
export const softLimitOf = /(^|\D)3[ -]*(model[ -]*)?[ab][ -]*(\+|plus)/i;

export class Graphs {
  #wasNarrow = false;

  /**
   * @param {HTMLElement} box
   * @param {BoardData} data
   * @param {{ zoom: (range: View) => void, back: () => void }} on
   */
  constructor(box, data, on) {
    this.data = data;
    this.on = on;
    /** @type {View} */
    this.view = [0, 1];
    this.softLimit = false; // whether the board's model has one
    this.box = box;
    this.temperature = this.#panel("temperature", "SoC temperature", "°C");
    this.clock = this.#panel("clock", "CPU clock", "MHz");
    this.clock.note.replaceChildren("MHz · ", el("span", { class: "m" }, "measured"), " by the firmware, ", el("span", { class: "q" }, "requested"), " by the kernel, hatched: lost between them");
    this.lanesBox = el("div", { class: "graph lanes", "data-graph": "lanes" });
    box.append(this.temperature.node, this.clock.node, this.lanesBox);
    this.#wasNarrow = this.#narrow;
    this.plots = this.#make();
    onTheme(() => this.#remake());
    new ResizeObserver(() => this.#resize()).observe(box);
  }

  /**
   * @param {string} id
   * @param {string} title
   * @param {string} unit
   */
  #panel(id, title, unit) {
    const note = el("span", {}, unit);
    const at = el("span", { class: "at num" });
    const body = el("div", { class: "plot", role: "img", "aria-label": title });
    return { node: el("section", { class: "graph", "data-graph": id }, el("header", {}, el("h2", {}, title), note, at), body), note, at, body };
  }

  get #narrow() {
    return this.box.clientWidth < 560;
  }
  /** @param {number} height */
  #size(height) {
    return { width: Math.max(280, this.box.clientWidth - 2), height };
  }
  #pads() {
    return [8, this.#narrow ? 12 : right, 10, 0];
  }

  #make() {
    const ink = token("text-2");
    const grid = { stroke: token("line"), width: 1 };
    const axis = { stroke: ink, font, ticks: { show: false } };
    /** @type {UPlotAxis} */
    const x = { ...axis, grid: { show: false }, values: (_u, times, _axis, _space, step) => timeLabels(times, step), space: 70, show: false };
    const y = { ...axis, grid, size: this.#narrow ? 44 : left, gap: 6 };
    const common = { padding: this.#pads(), legend: { show: false }, cursor: this.#cursor() };
    /** @param {() => View} range */
    const scales = (range) => ({ x: { time: true, range: () => this.view }, y: { range } });
    /**
     * @param {string} stroke
     * @param {number} width
     * @param {UPlotSeries} [extra]
     */
    const line = (stroke, width, extra) => ({ stroke, width, spanGaps: false, points: { show: false }, ...extra });
    const stepped = uPlot.paths.stepped({ align: 1 });

    const temperature = new uPlot({
      ...common, ...this.#size(250), scales: scales(() => this.#temperatureRange()),
      axes: [x, { ...y, splits: (u) => every(u.scales.y.min, u.scales.y.max, 10) }],
      series: [{}, line(token("text"), 1.4), line(token("text"), 1), line(token("accent"), 1.4)],
      bands: [{ series: [1, 2], fill: token("text-3") + "55" }],
      hooks: { drawClear: [(u) => this.#hatchGaps(u, this.data.temperature)], draw: [(u) => this.#temperatureMarks(u)] },
    }, [[], [], [], []], this.temperature.body);

    const hidden = { show: true, stroke: "transparent", points: { show: false } };
    const clock = new uPlot({
      ...common, ...this.#size(240), scales: scales(() => [0, this.#clockTop()]),
      axes: [x, { ...y, values: (_u, s) => s.map(megahertz), splits: (u) => clockMarks(u.scales.y.max) }],
      series: [{}, line(token("requested"), 1.4, { paths: stepped }), hidden, { ...hidden, paths: stepped }, line(token("accent"), 1.8, { paths: stepped })],
      hooks: { drawClear: [(u) => this.#hatchGaps(u, this.data.requested.at.length ? this.data.requested : this.data.kept)], drawAxes: [(u) => this.#lost(u)], draw: [(u) => this.#clockMarks(u)] },
    }, [[], [], [], [], []], this.clock.body);

    const bits = new uPlot({
      ...common, padding: [4, this.#narrow ? 12 : right, 0, 0], ...this.#size(lanes.length * laneHeight + 36), scales: scales(() => [0, lanes.length]),
      axes: [{ ...x, show: true, size: 28, gap: 6 }, { ...y, show: true, values: () => [], splits: () => [0, 1, 2, 3, 4] }],
      series: [{}, { show: false }], hooks: { draw: [(u) => this.#drawLanes(u)] },
    }, [[], []], this.lanesBox);
    for (const p of [temperature, clock, bits]) {
      p.over.addEventListener("dblclick", () => this.on.back());
      p.hooks.setSelect = [(u) => this.#selected(u)];
      p.hooks.setCursor = [(u) => this.#readAt(u)];
    }
    return { temperature, clock, bits };
  }
  get #all() {
    return Object.values(this.plots);
  }

  #cursor() {
    return {
      sync: { key: "board", scales: ["x", null] }, y: false, points: { size: 8 },
      drag: { x: true, y: false, setScale: false },
      bind: { dblclick: () => null },
    };
  }

  #remake() {
    for (const p of this.#all) p.destroy();
    this.plots = this.#make();
    this.draw(this.view);
  }
  #resize() {
    if (this.#wasNarrow !== this.#narrow) {
      this.#wasNarrow = this.#narrow;
      this.#remake();
      return;
    }
    for (const p of this.#all) p.setSize(this.#size(p.height));
  }
  /** @param {uPlot} u */
  #selected(u) {
    if (u.select.width < 8) return;
    /** @type {View} */
    const range = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
    for (const p of this.#all) p.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.on.zoom(range);
  }

  /**
   * setModel draws the lines at which the firmware of this model acts.
   * @param {string | undefined} model
   */
  setModel(model) {
    this.softLimit = softLimitOf.test(model || "");
    const lines = (this.softLimit ? "60 °C soft limit, " : "") + "80 °C ARM throttled, 85 °C ARM and GPU";
    this.temperature.body.setAttribute("aria-label", `SoC temperature, with lines at ${lines}`);
    this.plots.temperature.redraw(false);
  }

  /**
   * draw shows the data in a view.
   * @param {View} view
   */
  draw(view) {
    this.view = view;
    const gap = this.data.gapLength;
    this.plots.temperature.setData(plotColumns([this.data.temperature], gap, ["max", "min", "mean"]));
    const step = this.data.history ? stepWords(this.data.history) : "";
    setText(this.temperature.note, step ? `°C · highest, mean and lowest reading of each ${step}` : "°C");
    this.plots.clock.setData(plotColumns([this.data.requested, this.data.kept], gap));
    this.plots.bits.setData([[this.view[0], this.view[1]], [null, null]]);
    this.box.dataset.points = String(this.data.temperature.at.length);
    this.#readAt(this.plots.temperature);
  }

  /**
   * The scale is fixed, so that 2 °C never look like a fire; a colder board gets more room below.
   * @returns {View}
   */
  #temperatureRange() {
    const lowest = Math.min(...this.data.temperature.min.slice(-5000), 41);
    return [Math.min(40, Math.floor(lowest / 10) * 10), 90];
  }
  #clockTop() {
    let top = 6e8;
    for (const t of [this.data.requested, this.data.measured]) for (const v of t.max) if (v > top) top = v;
    return top * 1.08;
  }

  /**
   * @param {uPlot} u
   * @param {Track} track
   */
  #hatchGaps(u, track) {
    for (const [a, b] of this.data.gaps(track, this.view)) hatch(u, a, b, token("line-strong"), { words: this.data.stopped && b === this.data.read?.[1] ? "sensor stopped" : "no reports" });
    this.#before(u, track);
  }
  /**
   * before says why the begin of a view is blank: the board could not report yet.
   * @param {uPlot} u
   * @param {Track} track
   */
  #before(u, track) {
    const first = this.data.begin(track, this.view);
    if (this.data.enrolled && this.data.read && first > this.view[0] && this.data.state(this.view) === "shown") between(u, this.view[0], first, "not enrolled yet");
  }

  /** @param {uPlot} u */
  #temperatureMarks(u) {
    const g = u.ctx;
    begin(g);
    const last = this.#present(this.data.temperature);
    /** @param {number} t */
    const at = (t) => u.valToPos(t, "y", true);
    const present = last ? at(last.min) : null;
    const room = 14 * devicePixelRatio;
    const [y80, y85] = apart(at(80), at(85), present, room);
    /** @type {[t: number, word: string, y: number][]} */
    const marks = [[80, "80 ARM throttled", y80], [85, "85 ARM and GPU", y85]];
    if (this.softLimit) marks.push([60, "60 soft limit", beside(at(60), present, room)]);
    for (const [t, word, y] of marks) {
      dashed(u, at(t), token(t < 80 ? "soft" : "critical"));
      if (this.#narrow) markLabel(u, word, at(t));
      else label(u, word, y, token("text-2"), font);
    }
    const bar = u.bbox.left - 4 * devicePixelRatio;
    for (let py = 0; py < u.bbox.height; py += 2) {
      g.fillStyle = colour(u.posToVal(py / devicePixelRatio, "y")).fill;
      g.fillRect(bar, u.bbox.top + py, 3 * devicePixelRatio, 2.5);
    }
    this.#end(u, this.data.temperature, celsius, (v) => colour(v).fill, token("text"));
    g.restore();
  }

  /**
   * present is the last reading, while it is the present.
   * @param {Track} track
   */
  #present(track) {
    const last = track.last;
    return last && last.at >= this.view[0] && last.at <= this.view[1] && this.view[1] - last.at <= this.data.gapLength ? last : null;
  }
  /**
   * end draws the present reading as a dot with its number.
   * @param {uPlot} u
   * @param {Track} track
   * @param {(v: number) => string} words
   * @param {(v: number) => string} fill
   * @param {string} ink
   */
  #end(u, track, words, fill, ink) {
    const last = this.#present(track);
    if (!last) return;
    const g = u.ctx;
    const [x, y] = [u.valToPos(last.at, "x", true), u.valToPos(last.latest, "y", true)];
    g.fillStyle = fill(last.latest);
    g.strokeStyle = token("text");
    g.lineWidth = devicePixelRatio;
    g.beginPath();
    g.arc(x, y, 4 * devicePixelRatio, 0, 7);
    g.fill();
    g.stroke();
    label(u, words(last.latest), y, ink, bold);
  }

  /** @param {uPlot} u */
  #lost(u) {
    const [x, q, , , m] = u.data;
    const g = u.ctx;
    begin(g);
    clip(u);
    const path = new Path2D();
    /** @param {number} t */
    const px = (t) => u.valToPos(t, "x", true);
    let some = false;
    /** @type {number | null} */
    let lq = null, lm = null;
    for (let i = 0; i < x.length - 1; i++) {
      const [hereQ, hereM] = [q[i], m[i]];
      if (hereQ !== undefined) lq = hereQ;
      if (hereM !== undefined) lm = hereM;
      if (lq === null || lm === null || lm >= lq * 0.99) continue;
      const [a, b] = [px(x[i]), px(x[i + 1])];
      const [top, bottom] = [u.valToPos(lq, "y", true), u.valToPos(lm, "y", true)];
      path.rect(a, top, b - a, bottom - top);
      some = true;
    }
    if (some) {
      g.clip(path);
      hatchArea(g, u.bbox, token("critical"), 5);
    }
    g.restore();
  }

  /** @param {uPlot} u */
  #clockMarks(u) {
    begin(u.ctx);
    /** @param {Track} track */
    const fresh = ({ last }) => (last && this.view[1] - last.at <= this.data.gapLength && last.at <= this.view[1] ? last : null);
    const [q, m] = [fresh(this.data.requested), fresh(this.data.kept)];
    /** @type {[v: number, text: string, ink: string, font: string][]} */
    const shown = [];
    if (q) shown.push([q.value, megahertz(q.value) + " requested", token("text-2"), font]);
    if (q && m && m.min < q.value * 0.99) shown.push([(q.value + m.min) / 2, megahertz(q.value - m.min) + " lost", token("critical"), bold]);
    if (m) shown.push([m.min, megahertz(m.min) + " measured", token("accent"), bold]);
    let above = -Infinity;
    for (const [v, text, ink, f] of shown) {
      const y = Math.max(u.valToPos(v, "y", true), above + 15 * devicePixelRatio);
      above = y;
      label(u, text, y, ink, f);
    }
    u.ctx.restore();
  }

  /** @param {uPlot} u */
  #drawLanes(u) {
    const g = u.ctx;
    begin(g);
    lanes.forEach((lane, i) => this.#lane(u, g, lane, i));
    g.restore();
  }
  /**
   * @param {uPlot} u
   * @param {CanvasRenderingContext2D} g
   * @param {typeof lanes[number]} lane
   * @param {number} i
   */
  #lane(u, g, lane, i) {
    const r = devicePixelRatio;
    const track = this.data.throttled[lane];
    const y = u.bbox.top + (u.bbox.height / lanes.length) * (i + 0.5);
    const name = laneWords[lane];
    g.fillStyle = token("text-2");
    g.font = scaled(font);
    g.textBaseline = "middle";
    drawGlyph(g, lane, u.bbox.left - (this.#narrow ? 20 : 50) * r, y - 5 * r, r * 0.85, token(laneTokens[lane]));
    const spans = laneSpans(track, this.view, this.data.gapLength);
    g.fillStyle = token(laneTokens[lane]);
    for (const [a, b] of spans) {
      const [x0, x1] = [u.valToPos(a, "x", true), u.valToPos(b, "x", true)];
      g.fillRect(x0, y - 5 * r, Math.max(2 * r, x1 - x0), 10 * r);
    }
    const sum = laneSeconds(track, this.view, this.data.gapLength);
    for (const [a, b] of this.data.gaps(track, this.view)) if (track.at.length) hatch(u, a, b, token("line-strong"), { top: y - 7 * r, height: 14 * r });
    const some = track.at.some((at) => at >= this.view[0] && at <= this.view[1]);
    const text = !some ? name + (this.data.state(this.view) === "unread" ? ": not read" : ": no data") : sum ? `${name} ${duration(sum * 1000)}` : `${name}: none`;
    if (!this.#narrow) label(u, text, y, token(sum ? "text" : "text-2"), sum ? bold.replace("12", "11") : font);
  }

  /** @param {uPlot} u */
  #readAt(u) {
    const pointed = u.cursor.left ?? -1;
    const at = pointed >= 0 ? u.posToVal(pointed, "x") : null;
    const when = at === null ? null : dayClock(at * 1000, Date.now());
    const gap = this.data.gapLength;
    /** @param {Track} track */
    const read = (track) => (at === null ? null : track.before(at, gap));
    const t = read(this.data.temperature);
    show(this.temperature.at, when, t ? celsius(t.value) : null);
    const [q, m] = [read(this.data.requested), read(this.data.kept)];
    const words = [m && megahertz(m.min), q && `${m ? "of " : "requested "}${megahertz(q.value)}`].filter(Boolean).join(" ");
    show(this.clock.at, when, words ? words + " MHz" : null);
  }
}

/**
 * show writes the reading at the pointer into the head of a graph; when is null where none is pointed at.
 * @param {HTMLElement} node
 * @param {string | null} when
 * @param {string | null} text
 */
function show(node, when, text) {
  if (when === null) node.replaceChildren();
  else node.replaceChildren(`at ${when} `, el("b", {}, text || "no reading"));
}
