// Drawing on the canvas of a graph, which is in device pixels; uPlot leaves no transform on its context.

/** @import { Glyph } from "../page/dom.js" */

import { glyphIsStroke, glyphPath } from "../page/dom.js";
import { clock } from "../page/format.js";
import { token } from "../page/theme.js";

export const font = "11px Inter, system-ui, sans-serif";
export const bold = "600 12px Inter, system-ui, sans-serif";

/**
 * timeLabels words the marks of a time axis; step is the time between two of them. All in seconds.
 * @param {number[]} times
 * @param {number} step
 */
export const timeLabels = (times, step) =>
  times.map((t) => {
    const d = new Date(t * 1000);
    if (step >= 28 * 86400) return d.toLocaleDateString("en-GB", { month: "short", year: "numeric" });
    if (step >= 86400 || (d.getHours() === 0 && d.getMinutes() === 0 && step >= 3600)) return d.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
    return clock(t * 1000).slice(0, step < 60 ? 8 : 5);
  });

/**
 * every is the multiples of a step from min to max.
 * @param {number} min
 * @param {number} max
 * @param {number} step
 */
export function every(min, max, step) {
  const out = [];
  for (let v = Math.ceil(min / step) * step; v <= max; v += step) out.push(v);
  return out;
}

/**
 * clockMarks is the marks of an axis of clocks, in hertz.
 * @param {number} max
 */
export const clockMarks = (max) => every(0, max, max > 1.6e9 ? 5e8 : max > 8e8 ? 3e8 : 2e8);

/**
 * stepWords names the step of a history, after the word "each".
 * @param {number} s seconds
 */
export function stepWords(s) {
  /**
   * @param {number} n
   * @param {string} unit
   */
  const words = (n, unit) => (n === 1 ? unit : `${n} ${unit}s`);
  if (s % 86400 === 0) return words(s / 86400, "day");
  return s % 3600 === 0 ? words(s / 3600, "hour") : s / 60 + " minutes";
}

/**
 * beside moves the label of a mark away from the label of the present reading.
 * @param {number} mark
 * @param {number | null} y of the reading
 * @param {number} room
 */
export const beside = (mark, y, room) => (y === null || Math.abs(mark - y) >= room ? mark : mark < y ? y - room : y + room);

/**
 * apart moves the labels of the marks at 80 and 85 away from the label of the present reading. Positions
 * grow downwards.
 * @param {number} y80
 * @param {number} y85
 * @param {number | null} y of the reading
 * @param {number} room
 * @returns {[y80: number, y85: number]}
 */
export function apart(y80, y85, y, room) {
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

/** @param {string} f */
export const scaled = (f) => f.replace(/(\d+)px/, (_, n) => n * devicePixelRatio + "px");

/** @param {CanvasRenderingContext2D} g */
export function begin(g) {
  g.save();
  g.setLineDash([]);
}

/** @param {uPlot} u */
export function clip(u) {
  u.ctx.beginPath();
  u.ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
  u.ctx.clip();
}

/**
 * @param {uPlot} u
 * @param {number} y
 * @param {string} stroke
 */
export function dashed(u, y, stroke) {
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

/**
 * label writes beside the right edge, where there is room for it.
 * @param {uPlot} u
 * @param {string} text
 * @param {number} y
 * @param {string} ink
 * @param {string} f
 */
export function label(u, text, y, ink, f) {
  const g = u.ctx;
  if (u.width * devicePixelRatio - u.bbox.left - u.bbox.width < 60 * devicePixelRatio) return;
  g.font = scaled(f);
  g.fillStyle = ink;
  g.textBaseline = "middle";
  g.textAlign = "left";
  g.fillText(text, u.bbox.left + u.bbox.width + 9 * devicePixelRatio, y);
}

/**
 * markLabel writes above a line, at its begin.
 * @param {uPlot} u
 * @param {string} text
 * @param {number} y
 */
export function markLabel(u, text, y) {
  const g = u.ctx;
  g.font = scaled(font);
  g.fillStyle = token("text-2");
  g.textBaseline = "bottom";
  g.textAlign = "left";
  g.fillText(text, u.bbox.left + 4 * devicePixelRatio, y - 2 * devicePixelRatio);
}

/**
 * hatch fills a time with lines, over the whole height where none is given, and says why where there is
 * room.
 * @param {uPlot} u
 * @param {number} a
 * @param {number} b
 * @param {string} ink
 * @param {{ top?: number, height?: number, words?: string }} [area]
 */
export function hatch(u, a, b, ink, { top, height, words } = {}) {
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

/**
 * between writes into the middle of a time, on the ground, where there is room for it.
 * @param {uPlot} u
 * @param {number} a
 * @param {number} b
 * @param {string} words
 */
export function between(u, a, b, words) {
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

/**
 * @param {CanvasRenderingContext2D} g
 * @param {UPlotBox} box
 * @param {string} ink
 * @param {number} spacing
 */
export function hatchArea(g, box, ink, spacing) {
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

/**
 * @param {CanvasRenderingContext2D} g
 * @param {Glyph} name
 * @param {number} x
 * @param {number} y
 * @param {number} scale
 * @param {string} ink
 */
export function drawGlyph(g, name, x, y, scale, ink) {
  g.save();
  g.translate(x, y);
  g.scale(scale, scale);
  g.fillStyle = g.strokeStyle = ink;
  const p = new Path2D(glyphPath(name));
  if (glyphIsStroke(name)) g.stroke(p);
  else g.fill(p);
  g.restore();
}
