// Hottest now, with the last hour of each on one shared scale.

/** @import { Series } from "../page/collector.js" */
/** @import { Board } from "./state.js" */

import { el, glyph, setText } from "../page/dom.js";
import { queryRange } from "../page/collector.js";
import { celsius } from "../page/format.js";
import { colour, context, token } from "../page/theme.js";
import { current, reasons } from "./state.js";

const shown = 8;
const refreshEvery = 10000;
const hour = 3600;
const step = 60;

/** @typedef {{ node: HTMLElement, name: HTMLElement, value: HTMLElement, canvas: HTMLCanvasElement, key: string }} Row */

/**
 * hottest is the boards with the highest present temperatures, the hottest first.
 * @param {Board[]} boards
 */
export function hottest(boards) {
  /** @param {Board} b */
  const t = (b) => current(b, "temperature") ?? -Infinity;
  return boards.filter((b) => current(b, "temperature") !== undefined).sort((a, b) => t(b) - t(a)).slice(0, shown);
}

export class Hottest {
  /** @type {Map<string, Row>} */
  #rows = new Map();
  #at = 0;

  /** @param {HTMLElement} box */
  constructor(box) {
    this.list = el("div", {});
    box.append(el("section", { class: "only-wide" }, el("h2", {}, "Hottest now ", el("small", {}, "1 h, dashes at 80 °C")), this.list));
  }

  /**
   * @param {Board[]} boards
   * @param {number} now
   * @param {boolean} [force]
   */
  update(boards, now, force) {
    for (const [name, row] of this.#rows) this.#numbers(row, boards.find((b) => b.name === name));
    const waiting = this.#rows.size === 0; // the first readings are shown at once
    if (document.hidden || (!force && !waiting && (Date.now() - this.#at < refreshEvery || this.list.matches(":hover")))) return;
    this.#at = Date.now();
    this.#build(hottest(boards));
    this.#history(now);
  }

  /** @param {Board[]} boards */
  #build(boards) {
    const before = this.#rows;
    this.#rows = new Map(boards.map((b) => [b.name, before.get(b.name) || this.#row(b)]));
    this.list.replaceChildren(...[...this.#rows.values()].map((r) => r.node));
    if (!boards.length) this.list.replaceChildren(el("p", { class: "quiet" }, "No temperature has been reported yet."));
    for (const [name, row] of this.#rows) this.#numbers(row, boards.find((b) => b.name === name));
  }
  /**
   * @param {Board} b
   * @returns {Row}
   */
  #row(b) {
    const name = el("span", { class: "nm" }), value = el("span", { class: "v" }), canvas = el("canvas", { "aria-hidden": "true" });
    const about = [b.labels.model, b.labels.customer].filter(Boolean).join(" · ");
    const node = el("a", { class: "hot", href: "/board/" + b.name }, el("span", {}, name, el("small", {}, about)), canvas, value);
    return { node, name, value, canvas, key: "" };
  }
  /**
   * @param {Row} row
   * @param {Board | undefined} b
   */
  #numbers(row, b) {
    setText(row.value, celsius(b && current(b, "temperature")));
    if (!b) return;
    const key = b.name + reasons(b).join();
    if (row.key === key) return;
    row.key = key;
    row.name.replaceChildren(b.name + " ", ...reasons(b).slice(0, 2).map((r) => glyph(r, "is-" + r)));
  }

  /** @param {number} now */
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

/**
 * spark draws a line without axes.
 * @param {HTMLCanvasElement} canvas
 * @param {Series} s
 * @param {number} from
 * @param {number} to
 */
function spark(canvas, s, from, to) {
  const ratio = devicePixelRatio || 1;
  const [w, h] = [96, 22];
  canvas.width = w * ratio;
  canvas.height = h * ratio;
  const g = context(canvas);
  g.scale(ratio, ratio);
  /** @param {number} t */
  const x = (t) => ((t - from) / (to - from)) * (w - 6) + 1;
  /** @param {number} v */
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
