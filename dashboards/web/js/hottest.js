// Hottest now, with the last hour of each on one shared scale.

import { el, glyph, setText } from "./dom.js";
import { queryRange } from "./api.js";
import { celsius } from "./format.js";
import { current, reasons } from "./fleetstate.js";
import { colour, token } from "./scale.js";

const shown = 8;
const refreshEvery = 10000;
const hour = 3600;
const step = 60;

export class Hottest {
  #rows = new Map();
  #at = 0;

  constructor(box) {
    this.list = el("div", {});
    box.append(el("section", { class: "only-wide" }, el("h2", {}, "Hottest now ", el("small", {}, "1 h, dashes at 80 °C")), this.list));
  }

  update(boards, now, force) {
    for (const [name, row] of this.#rows) this.#numbers(row, boards.find((b) => b.name === name));
    const waiting = this.#rows.size === 0; // the first readings are shown at once
    if (document.hidden || (!force && !waiting && (Date.now() - this.#at < refreshEvery || this.list.matches(":hover")))) return;
    this.#at = Date.now();
    const hot = boards.filter((b) => current(b, "temperature") !== undefined);
    hot.sort((a, b) => b.r.temperature - a.r.temperature);
    this.#build(hot.slice(0, shown));
    this.#history(now);
  }

  #build(boards) {
    const before = this.#rows;
    this.#rows = new Map(boards.map((b) => [b.name, before.get(b.name) || this.#row(b)]));
    this.list.replaceChildren(...[...this.#rows.values()].map((r) => r.node));
    if (!boards.length) this.list.replaceChildren(el("p", { class: "quiet" }, "No temperature has been reported yet."));
    for (const b of boards) this.#numbers(this.#rows.get(b.name), b);
  }
  #row(b) {
    const row = { name: el("span", { class: "nm" }), value: el("span", { class: "v" }), canvas: el("canvas", { "aria-hidden": "true" }) };
    const about = [b.labels.model, b.labels.customer].filter(Boolean).join(" · ");
    row.node = el("a", { class: "hot", href: "/board/" + b.name }, el("span", {}, row.name, el("small", {}, about)), row.canvas, row.value);
    return row;
  }
  #numbers(row, b) {
    const t = b && current(b, "temperature");
    setText(row.value, celsius(t));
    const key = b ? b.name + reasons(b).join() : "";
    if (row.key !== key && b) {
      row.key = key;
      row.name.replaceChildren(b.name + " ", ...reasons(b).slice(0, 2).map((r) => glyph(r, "is-" + r)));
    }
  }

  async #history(now) {
    const names = [...this.#rows.keys()];
    if (!names.length) return;
    const end = Math.floor(now / 1000 / step) * step + step;
    const expr = `max(max_over_time(pi_soc_temperature_celsius{board=~"${names.join("|")}"}[${step}s])) by (board)`;
    let result;
    try {
      result = await queryRange(expr, end - hour, end, step);
    } catch {
      return; // the numbers do not depend on the store
    }
    for (const s of result) {
      const row = this.#rows.get(s.labels.board);
      if (row) spark(row.canvas, s, end - hour, end);
    }
  }
}

function spark(canvas, s, from, to) {
  const ratio = devicePixelRatio || 1;
  const [w, h] = [96, 22];
  canvas.width = w * ratio;
  canvas.height = h * ratio;
  const g = canvas.getContext("2d");
  g.scale(ratio, ratio);
  const x = (t) => ((t - from) / (to - from)) * (w - 6) + 1;
  const y = (v) => h - 3 - ((Math.min(90, Math.max(40, v)) - 40) / 50) * (h - 6);
  g.strokeStyle = token("line-strong");
  g.setLineDash([2, 2]);
  g.beginPath();
  g.moveTo(0, y(80));
  g.lineTo(w, y(80));
  g.stroke();
  g.setLineDash([]);
  g.strokeStyle = token("text");
  g.beginPath();
  s.at.forEach((t, i) => (i && t - s.at[i - 1] <= 3 * step ? g.lineTo(x(t), y(s.values[i])) : g.moveTo(x(t), y(s.values[i]))));
  g.stroke();
  const last = s.values.length - 1;
  g.fillStyle = colour(s.values[last]).fill;
  g.beginPath();
  g.arc(x(s.at[last]), y(s.values[last]), 3, 0, 7);
  g.fill();
  g.stroke();
}
