// The legend is the fleet's histogram over the temperature scale, with its marks.

import { el, glyph } from "./dom.js";
import { count } from "./format.js";
import { colour, high, low, token } from "./scale.js";
import { current } from "./fleetstate.js";

const pad = 14;
const barTop = 40;

export class Legend {
  constructor(box) {
    this.canvas = el("canvas", { role: "img", "aria-label": "Histogram of temperatures from 45 to 90 °C" });
    this.bands = el("ul", {});
    const words = [["throttled", "throttled now"], ["under_voltage", "under-voltage"], ["soft_temperature_limit", "soft limit"], ["frequency_capped", "frequency capped"], ["silent", "silent: no colour, no guess"]];
    const glyphs = el("ul", {}, ...words.map(([g, w]) => el("li", {}, glyph(g), w)));
    box.replaceChildren(this.canvas, this.bands, glyphs);
  }

  update(boards) {
    const temps = boards.map((b) => current(b, "temperature")).filter((t) => t !== undefined);
    this.#draw(temps);
    const within = (a, b) => temps.filter((t) => t >= a && t < b).length;
    const rows = [[within(-300, 60), "below 60 °C"], [within(60, 80), "60–80 °C: 3B+ soft limit"], [within(80, 85), "80–85 °C: ARM throttled"], [within(85, 900), "from 85 °C: ARM and GPU"]];
    this.bands.replaceChildren(...rows.map(([n, word]) => el("li", {}, el("b", {}, count(n)), word)));
  }

  #draw(temps) {
    const ratio = devicePixelRatio || 1;
    const width = this.canvas.clientWidth;
    if (!width) return;
    this.canvas.width = width * ratio;
    this.canvas.height = 58 * ratio;
    const g = this.canvas.getContext("2d");
    g.scale(ratio, ratio);
    const x = (t) => pad + ((Math.min(high, Math.max(low, t)) - low) / (high - low)) * (width - 2 * pad);
    this.#bars(g, x, temps);
    for (let px = pad; px < width - pad; px++) {
      g.fillStyle = colour(low + ((px - pad) / (width - 2 * pad)) * (high - low)).fill;
      g.fillRect(px, barTop - 6, 1.5, 6);
    }
    this.#marks(g, x);
  }

  #bars(g, x, temps) {
    const bins = new Array(high - low).fill(0);
    for (const t of temps) bins[Math.min(bins.length - 1, Math.max(0, Math.floor(t - low)))]++;
    const top = Math.max(1, ...bins);
    g.fillStyle = token("text-3");
    bins.forEach((n, i) => {
      if (n) g.fillRect(x(low + i) + 0.5, barTop - 8 - Math.max(2, (n / top) * 28), x(low + i + 1) - x(low + i) - 1, Math.max(2, (n / top) * 28));
    });
  }

  #marks(g, x) {
    g.font = "11px Inter, system-ui, sans-serif";
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
