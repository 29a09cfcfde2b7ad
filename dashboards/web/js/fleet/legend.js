// The legend is the fleet's histogram over the temperature scale, with its marks.

/** @import { Glyph } from "../page/dom.js" */
/** @import { Board } from "./state.js" */

import { el, glyph } from "../page/dom.js";
import { count } from "../page/format.js";
import { high, low } from "../page/scale.js";
import { colour, context, token } from "../page/theme.js";
import { current } from "./state.js";

const pad = 14;
const barTop = 40;

/** @type {[Glyph, string][]} */
const words = [["throttled", "throttled now"], ["under_voltage", "under-voltage"], ["soft_temperature_limit", "soft limit"], ["frequency_capped", "frequency capped"], ["silent", "silent: no colour, no guess"]];

/**
 * bins counts temperatures by whole degrees of the scale; those beyond its ends are in the outermost.
 * @param {number[]} temperatures °C
 */
export function bins(temperatures) {
  const out = new Array(high - low).fill(0);
  for (const t of temperatures) out[Math.min(out.length - 1, Math.max(0, Math.floor(t - low)))]++;
  return out;
}

/**
 * bands counts temperatures between the lines at which firmware acts.
 * @param {number[]} temperatures °C
 * @returns {[n: number, word: string][]}
 */
export function bands(temperatures) {
  /**
   * @param {number} a
   * @param {number} b
   */
  const within = (a, b) => temperatures.filter((t) => t >= a && t < b).length;
  return [[within(-Infinity, 60), "below 60 °C"], [within(60, 80), "60–80 °C: 3B+ soft limit"], [within(80, 85), "80–85 °C: ARM throttled"], [within(85, Infinity), "from 85 °C: ARM and GPU"]];
}

export class Legend {
  /** @param {HTMLElement} box */
  constructor(box) {
    this.canvas = el("canvas", { role: "img", "aria-label": "Histogram of temperatures from 45 to 90 °C" });
    this.bands = el("ul", {});
    const glyphs = el("ul", {}, ...words.map(([g, w]) => el("li", {}, glyph(g), w)));
    box.replaceChildren(this.canvas, this.bands, glyphs);
  }

  /** @param {Board[]} boards */
  update(boards) {
    const temps = boards.map((b) => current(b, "temperature")).filter((t) => t !== undefined);
    this.#draw(temps);
    this.bands.replaceChildren(...bands(temps).map(([n, word]) => el("li", {}, el("b", {}, count(n)), word)));
  }

  /** @param {number[]} temps */
  #draw(temps) {
    const ratio = devicePixelRatio || 1;
    const width = this.canvas.clientWidth;
    if (!width) return;
    this.canvas.width = width * ratio;
    this.canvas.height = 58 * ratio;
    const g = context(this.canvas);
    g.scale(ratio, ratio);
    /** @param {number} t */
    const x = (t) => pad + ((Math.min(high, Math.max(low, t)) - low) / (high - low)) * (width - 2 * pad);
    this.#bars(g, x, temps);
    for (let px = pad; px < width - pad; px++) {
      g.fillStyle = colour(low + ((px - pad) / (width - 2 * pad)) * (high - low)).fill;
      g.fillRect(px, barTop - 6, 1.5, 6);
    }
    this.#marks(g, x);
  }

  /**
   * @param {CanvasRenderingContext2D} g
   * @param {(t: number) => number} x
   * @param {number[]} temps
   */
  #bars(g, x, temps) {
    const counts = bins(temps);
    const top = Math.max(1, ...counts);
    g.fillStyle = token("text-3");
    counts.forEach((n, i) => {
      if (n) g.fillRect(x(low + i) + 0.5, barTop - 8 - Math.max(2, (n / top) * 28), x(low + i + 1) - x(low + i) - 1, Math.max(2, (n / top) * 28));
    });
  }

  /**
   * @param {CanvasRenderingContext2D} g
   * @param {(t: number) => number} x
   */
  #marks(g, x) {
    g.textAlign = "center";
    for (const t of [45, 50, 60, 70, 80, 85, 90]) {
      const line = t === 60 || t === 80 || t === 85;
      g.fillStyle = token(line ? "text" : "text-2");
      if (line) g.fillRect(x(t) - 0.75, barTop - 10, 1.5, 12);
      g.font = (line ? "600 " : "") + "11px Inter, system-ui, sans-serif";
      g.fillText(t === 45 ? "≤ 45" : t === 90 ? "90 °C" : String(t), x(t), barTop + 13);
    }
  }
}
