// The graphs of a board: temperature, clock and throttle lanes on one time axis.

import { $, el, glyphIsStroke, glyphPath, setText } from "./dom.js";
import { celsius, clock, dayClock, duration, reasonWords } from "./format.js";
import { colour, onTheme, token } from "./scale.js";
import { lanes, plotColumns } from "./boarddata.js";

const left = 62; // px of the value axis, the same for all graphs so that times line up
const right = 132; // px for the direct labels
const laneHeight = 19;
const laneTokens = { under_voltage: "under-voltage", frequency_capped: "capped", throttled: "throttled", soft_temperature_limit: "soft" };
const laneWords = { ...reasonWords, frequency_capped: "capped" };
const font = "11px Inter, system-ui, sans-serif";
const bold = "600 12px Inter, system-ui, sans-serif";

const timeFormat = (u, splits, axis, space, incr) =>
  splits.map((t) => {
    const d = new Date(t * 1000);
    if (incr >= 28 * 86400) return d.toLocaleDateString("en-GB", { month: "short", year: "numeric" });
    if (incr >= 86400 || (d.getHours() === 0 && d.getMinutes() === 0 && incr >= 3600)) return d.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
    return clock(t * 1000).slice(0, incr < 60 ? 8 : 5);
  });

// softLimitOf finds the models whose firmware lowers the clock from 60 °C on, the 3A+ and 3B+, as boards and people name them.
const softLimitOf = /(^|\D)3[ -]*(model[ -]*)?[ab][ -]*(\+|plus)/i;

export class Graphs {
  constructor(box, data, on) {
    this.data = data;
    this.on = on;
    this.view = [0, 1];
    this.softLimit = false; // whether the board's model has one
    this.box = box;
    this.temperature = this.#panel("temperature", "SoC temperature", "°C");
    this.clock = this.#panel("clock", "CPU clock", "MHz");
    this.clockNote = this.clock.note;
    this.clockNote.replaceChildren("MHz · ", el("span", { class: "m" }, "measured"), " by the firmware, ", el("span", { class: "q" }, "requested"), " by the kernel, hatched: lost between them");
    this.lanesBox = el("div", { class: "graph lanes", "data-graph": "lanes" });
    box.append(this.temperature.node, this.clock.node, this.lanesBox);
    this.#make();
    onTheme(() => this.#remake());
    new ResizeObserver(() => this.#resize()).observe(box);
  }

  #panel(id, title, unit) {
    const note = el("span", {}, unit);
    const at = el("span", { class: "at num" });
    const body = el("div", { class: "plot", role: "img", "aria-label": title });
    return { node: el("section", { class: "graph", "data-graph": id }, el("header", {}, el("h2", {}, title), note, at), body), note, at, body };
  }

  get #narrow() {
    return this.box.clientWidth < 560;
  }
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
    const x = { ...axis, grid: { show: false }, values: timeFormat, space: 70, show: false };
    const y = { ...axis, grid, size: this.#narrow ? 44 : left, gap: 6 };
    const common = { padding: this.#pads(), legend: { show: false }, cursor: this.#cursor() };
    const scales = (range) => ({ x: { time: true, range: () => this.view }, y: { range } });
    const line = (stroke, width, extra) => ({ stroke, width, spanGaps: false, points: { show: false }, ...extra });
    const stepped = uPlot.paths.stepped({ align: 1 });

    this.tPlot = new uPlot({
      ...common, ...this.#size(250), scales: scales(() => this.#temperatureRange()),
      axes: [x, { ...y, splits: (u) => every(u.scales.y.min, u.scales.y.max, 10) }],
      series: [{}, line(token("text"), 1.4), line(token("text"), 1), line(token("accent"), 1.4)],
      bands: [{ series: [1, 2], fill: token("text-3") + "55" }],
      hooks: { drawClear: [(u) => this.#hatchGaps(u, this.data.temperature)], draw: [(u) => this.#temperatureMarks(u)] },
    }, [[], [], [], []], this.temperature.body);

    const hidden = { show: true, stroke: "transparent", points: { show: false } };
    this.cPlot = new uPlot({
      ...common, ...this.#size(240), scales: scales((u, min, max) => [0, this.#clockTop()]),
      axes: [x, { ...y, values: (u, s) => s.map((v) => String(Math.round(v / 1e6))), splits: (u) => clockSplits(u.scales.y.max) }],
      series: [{}, line(token("requested"), 1.4, { paths: stepped }), hidden, { ...hidden, paths: stepped }, line(token("accent"), 1.8, { paths: stepped })],
      hooks: { drawClear: [(u) => this.#hatchGaps(u, this.data.requested.at.length ? this.data.requested : this.data.kept)], drawAxes: [(u) => this.#lost(u)], draw: [(u) => this.#clockMarks(u)] },
    }, [[], [], [], [], []], this.clock.body);

    this.lPlot = new uPlot({
      ...common, padding: [4, this.#narrow ? 12 : right, 0, 0], ...this.#size(lanes.length * laneHeight + 36), scales: scales(() => [0, lanes.length]),
      axes: [{ ...x, show: true, size: 28, gap: 6 }, { ...y, show: true, values: () => [], splits: () => [0, 1, 2, 3, 4] }],
      series: [{}, { show: false }], hooks: { draw: [(u) => this.#drawLanes(u)] },
    }, [[], []], this.lanesBox);
    this.plots = [this.tPlot, this.cPlot, this.lPlot];
    for (const p of this.plots) p.over.addEventListener("dblclick", () => this.on.back());
  }

  #cursor() {
    return {
      sync: { key: "board", scales: ["x", null] }, y: false, points: { size: 8 },
      drag: { x: true, y: false, setScale: false },
      bind: { dblclick: () => null },
    };
  }

  #remake() {
    for (const p of this.plots) p.destroy();
    this.#make();
    this.#hooks();
    this.draw();
  }
  #resize() {
    const narrow = this.#narrow;
    if (this.wasNarrow !== undefined && this.wasNarrow !== narrow) {
      this.wasNarrow = narrow;
      this.#remake();
      return;
    }
    this.wasNarrow = narrow;
    for (const p of this.plots) p.setSize(this.#size(p.height));
  }
  start() {
    this.#hooks();
  }
  #hooks() {
    for (const p of this.plots) {
      p.hooks.setSelect = [(u) => this.#selected(u)];
      p.hooks.setCursor = [(u) => this.#readAt(u)];
    }
  }
  #selected(u) {
    if (u.select.width < 8) return;
    const range = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
    for (const p of this.plots) p.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.on.zoom(range);
  }

  // setModel draws the lines at which the firmware of this model acts.
  setModel(model) {
    this.softLimit = softLimitOf.test(model || "");
    const lines = (this.softLimit ? "60 °C soft limit, " : "") + "80 °C ARM throttled, 85 °C ARM and GPU";
    this.temperature.body.setAttribute("aria-label", `SoC temperature, with lines at ${lines}`);
    this.tPlot.redraw(false);
  }

  // draw shows the data in a view of [start, end] seconds.
  draw(view) {
    if (view) this.view = view;
    const gap = this.data.gapLength;
    this.tPlot.setData(plotColumns([this.data.temperature], gap, ["max", "min", "mean"]));
    const step = this.data.history && stepWords(this.data.history);
    setText(this.temperature.note, step ? `°C · highest, mean and lowest reading of each ${step}` : "°C");
    this.cPlot.setData(plotColumns([this.data.requested, this.data.kept], gap));
    this.lPlot.setData([[this.view[0], this.view[1]], [null, null]]);
    this.box.dataset.points = String(this.data.temperature.at.length);
    this.#readAt(this.tPlot);
  }

  // The scale is fixed, so that 2 °C never look like a fire; a colder board gets more room below.
  #temperatureRange() {
    const lowest = Math.min(...this.data.temperature.min.slice(-5000), 41);
    return [Math.min(40, Math.floor(lowest / 10) * 10), 90];
  }
  #clockTop() {
    let top = 6e8;
    for (const t of [this.data.requested, this.data.measured]) for (const v of t.max) if (v > top) top = v;
    return top * 1.08;
  }

  #hatchGaps(u, track) {
    for (const [a, b] of this.data.gaps(track, ...this.view)) hatch(u, a, b, token("line-strong"), { words: this.data.stopped && b === this.data.read[1] ? "sensor stopped" : "no reports" });
    this.#before(u, track);
  }
  // before says why the begin of a view is blank: the board could not report yet.
  #before(u, track) {
    const begin = this.data.begin(track, ...this.view);
    if (this.data.enrolled && this.data.read && begin > this.view[0] && this.data.state(this.view) === "shown") between(u, this.view[0], begin, "not enrolled yet");
  }

  #temperatureMarks(u) {
    const g = u.ctx;
    begin(g);
    const last = this.#present(this.data.temperature);
    const at = (t) => u.valToPos(t, "y", true);
    const [y80, y85] = apart(at(80), at(85), last ? at(last.min) : null, 14 * devicePixelRatio);
    const marks = [[80, "80 ARM throttled", y80], [85, "85 ARM and GPU", y85]];
    if (this.softLimit) marks.push([60, "60 soft limit", last ? beside(at(60), at(last.min), 14 * devicePixelRatio) : at(60)]);
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

  // present is the last reading, while it is the present.
  #present(track) {
    const last = track.last;
    return last && last.at >= this.view[0] && last.at <= this.view[1] && this.view[1] - last.at <= this.data.gapLength ? last : null;
  }
  // end draws the present reading as a dot with its number.
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

  #lost(u) {
    const [x, q, , , m] = u.data;
    const g = u.ctx;
    begin(g);
    clip(u);
    const path = new Path2D();
    const px = (t) => u.valToPos(t, "x", true);
    let some = false;
    let [lq, lm] = [null, null];
    for (let i = 0; i < x.length - 1; i++) {
      if (q[i] !== undefined) lq = q[i];
      if (m[i] !== undefined) lm = m[i];
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

  #clockMarks(u) {
    begin(u.ctx);
    const [q, m] = [this.data.requested.last, this.data.kept.last];
    const fresh = (l) => l && this.view[1] - l.at <= this.data.gapLength && l.at <= this.view[1];
    const word = (v) => String(Math.round(v / 1e6));
    const shown = [];
    if (fresh(q)) shown.push([q.value, word(q.value) + " requested", token("text-2"), font]);
    if (fresh(q) && fresh(m) && m.min < q.value * 0.99) shown.push([(q.value + m.min) / 2, word(q.value - m.min) + " lost", token("critical"), bold]);
    if (fresh(m)) shown.push([m.min, word(m.min) + " measured", token("accent"), bold]);
    let above = -Infinity;
    for (const [v, text, ink, f] of shown) {
      const y = Math.max(u.valToPos(v, "y", true), above + 15 * devicePixelRatio);
      above = y;
      label(u, text, y, ink, f);
    }
    u.ctx.restore();
  }

  #drawLanes(u) {
    const g = u.ctx;
    begin(g);
    lanes.forEach((lane, i) => this.#lane(u, g, lane, i));
    g.restore();
  }
  #lane(u, g, lane, i) {
    const r = devicePixelRatio;
    const track = this.data.throttled[lane];
    const y = u.bbox.top + (u.bbox.height / lanes.length) * (i + 0.5);
    const name = laneWords[lane];
    g.fillStyle = token("text-2");
    g.font = scaled(font);
    g.textBaseline = "middle";
    if (!this.#narrow) {
      drawGlyph(g, lane, u.bbox.left - 50 * r, y - 5 * r, r * 0.85, token(laneTokens[lane]));
    } else drawGlyph(g, lane, u.bbox.left - 20 * r, y - 5 * r, r * 0.85, token(laneTokens[lane]));
    const spans = laneSpans(track, this.view, this.data.gapLength);
    g.fillStyle = token(laneTokens[lane]);
    for (const [a, b] of spans) {
      const [x0, x1] = [u.valToPos(a, "x", true), u.valToPos(b, "x", true)];
      g.fillRect(x0, y - 5 * r, Math.max(2 * r, x1 - x0), 10 * r);
    }
    const sum = laneSeconds(track, this.view, this.data.gapLength);
    for (const [a, b] of this.data.gaps(track, ...this.view)) if (track.at.length) hatch(u, a, b, token("line-strong"), { top: y - 7 * r, height: 14 * r });
    const some = track.at.some((at) => at >= this.view[0] && at <= this.view[1]);
    const text = !some ? name + (this.data.state(this.view) === "unread" ? ": not read" : ": no data") : sum ? `${name} ${duration(sum * 1000)}` : `${name}: none`;
    if (!this.#narrow) label(u, text, y, token(sum ? "text" : "text-2"), sum ? bold.replace("12", "11") : font);
  }

  #readAt(u) {
    const at = u.cursor.left >= 0 && u.cursor.left !== null && u.cursor.left !== undefined ? u.posToVal(u.cursor.left, "x") : null;
    const when = at === null ? null : dayClock(at * 1000, Date.now());
    const gap = this.data.gapLength;
    const read = (track) => (at === null ? null : track.before(at, gap));
    const t = read(this.data.temperature);
    show(this.temperature.at, when, t ? celsius(t.value) : null);
    const [q, m] = [read(this.data.requested), read(this.data.kept)];
    const words = [m && Math.round(m.min / 1e6), q && `${m ? "of " : "requested "}${Math.round(q.value / 1e6)}`].filter(Boolean).join(" ");
    show(this.clock.at, when, words ? words + " MHz" : null);
  }
}

const stepWords = (s) => (s % 86400 === 0 ? (s === 86400 ? "day" : s / 86400 + " days") : s % 3600 === 0 ? (s === 3600 ? "hour" : s / 3600 + " hours") : s / 60 + " minutes");

function show(node, when, text) {
  if (when === null) node.replaceChildren();
  else node.replaceChildren(`at ${when} `, el("b", {}, text || "no reading"));
}

function every(min, max, step) {
  const out = [];
  for (let v = Math.ceil(min / step) * step; v <= max; v += step) out.push(v);
  return out;
}
function clockSplits(max) {
  const step = max > 1.6e9 ? 5e8 : max > 8e8 ? 3e8 : 2e8;
  return every(0, max, step);
}

// laneSpans are the times in which a bit was set: each reading holds until the next, and never over a gap.
function laneSpans(track, [from, to], gap) {
  const out = [];
  const [last, alone] = track.mean ? [gap / 1.5, gap / 1.5] : [gap / 3, 1]; // a step of a history is known to its end
  for (let i = 0; i < track.at.length; i++) {
    if (!track.max[i]) continue;
    const next = i + 1 < track.at.length ? track.at[i + 1] : Math.min(to, track.at[i] + last);
    const end = next - track.at[i] > gap ? track.at[i] + alone : next;
    const [a, b] = [Math.max(from, track.at[i]), Math.min(to, end)];
    if (b <= a) continue;
    const before = out[out.length - 1];
    if (before && a - before[1] < 0.001) before[1] = b;
    else out.push([a, b]);
  }
  return out;
}

// laneSeconds is how long a bit was set. In a history the mean of a step says which share of its readings had it.
function laneSeconds(track, [from, to], gap) {
  if (!track.mean) return laneSpans(track, [from, to], gap).reduce((s, [a, b]) => s + b - a, 0);
  const step = gap / 1.5;
  return track.at.reduce((s, t, i) => s + Math.max(0, Math.min(to, t + step, track.at[i + 1] ?? Infinity) - Math.max(from, t)) * track.mean[i], 0);
}
export { laneSeconds };

// Canvas drawing is in device pixels; uPlot leaves no transform on its context.
const scaled = (f) => f.replace(/(\d+)px/, (_, n) => n * devicePixelRatio + "px");
function begin(g) {
  g.save();
  g.setLineDash([]);
}
function clip(u) {
  u.ctx.beginPath();
  u.ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
  u.ctx.clip();
}
function dashed(u, y, stroke) {
  const g = u.ctx;
  g.strokeStyle = stroke;
  g.lineWidth = devicePixelRatio;
  g.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
  const sharp = Math.round(y) + (Math.round(devicePixelRatio) % 2) / 2; // on whole pixels, else it pales into the grid
  g.beginPath();
  g.moveTo(u.bbox.left, sharp);
  g.lineTo(u.bbox.left + u.bbox.width, sharp);
  g.stroke();
  g.setLineDash([]);
}
// label writes beside the right edge, where there is room for it.
function label(u, text, y, ink, f) {
  const g = u.ctx;
  if (u.width * devicePixelRatio - u.bbox.left - u.bbox.width < 60 * devicePixelRatio) return;
  g.font = scaled(f);
  g.fillStyle = ink;
  g.textBaseline = "middle";
  g.textAlign = "left";
  g.fillText(text, u.bbox.left + u.bbox.width + 9 * devicePixelRatio, y);
}
function markLabel(u, text, y) {
  const g = u.ctx;
  g.font = scaled(font);
  g.fillStyle = token("text-2");
  g.textBaseline = "bottom";
  g.textAlign = "left";
  g.fillText(text, u.bbox.left + 4 * devicePixelRatio, y - 2 * devicePixelRatio);
}
// beside moves the label of a mark away from the label of the present reading.
const beside = (mark, y, room) => (Math.abs(mark - y) >= room ? mark : mark < y ? y - room : y + room);

// apart moves the labels of the marks at 80 and 85 away from the label of the present reading.
function apart(y80, y85, y, room) {
  if (y === null) return [y80, y85];
  if (y > y80) {
    const low = Math.min(y80, y - room);
    return [low, Math.min(y85, low - room)];
  }
  if (y < y85) {
    const high = Math.max(y85, y + room);
    return [Math.max(y80, high + room), high];
  }
  return [Math.max(y80, y + room), Math.min(y85, y - room)];
}
// hatch fills a time with lines, over the whole height where none is given, and says why where there is room.
function hatch(u, a, b, ink, { top, height, words } = {}) {
  const g = u.ctx;
  const [x0, x1] = [u.valToPos(a, "x", true), u.valToPos(b, "x", true)];
  g.save();
  clip(u);
  g.beginPath();
  g.rect(x0, top ?? u.bbox.top, x1 - x0, height ?? u.bbox.height);
  g.clip();
  hatchArea(g, { left: x0, top: top ?? u.bbox.top, width: x1 - x0, height: height ?? u.bbox.height }, ink, 6);
  g.restore();
  if (words) between(u, a, b, words);
}
// between writes into the middle of a time, on the ground, where there is room for it.
function between(u, a, b, words) {
  const g = u.ctx;
  const [x0, x1] = [Math.max(u.bbox.left, u.valToPos(a, "x", true)), Math.min(u.bbox.left + u.bbox.width, u.valToPos(b, "x", true))];
  g.save();
  g.font = scaled(bold);
  const room = g.measureText(words).width + 12 * devicePixelRatio;
  if (room < x1 - x0) {
    const [x, y] = [(x0 + x1) / 2, u.bbox.top + u.bbox.height * 0.45];
    g.fillStyle = token("surface");
    g.fillRect(x - room / 2, y - 10 * devicePixelRatio, room, 20 * devicePixelRatio);
    g.fillStyle = token("text-2");
    g.textBaseline = "middle";
    g.textAlign = "center";
    g.fillText(words, x, y);
  }
  g.restore();
}
function hatchArea(g, box, ink, spacing) {
  const d = spacing * devicePixelRatio;
  g.strokeStyle = ink;
  g.lineWidth = devicePixelRatio;
  g.beginPath();
  const first = Math.floor((box.left - box.height) / d) * d; // the same lattice wherever the area lies
  for (let x = first; x < box.left + box.width; x += d) {
    g.moveTo(x, box.top + box.height);
    g.lineTo(x + box.height, box.top);
  }
  g.stroke();
}
function drawGlyph(g, name, x, y, scale, ink) {
  g.save();
  g.translate(x, y);
  g.scale(scale, scale);
  g.fillStyle = g.strokeStyle = ink;
  const p = new Path2D(glyphPath(name));
  if (glyphIsStroke(name)) g.stroke(p);
  else g.fill(p);
  g.restore();
}
