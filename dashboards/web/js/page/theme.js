// Colours of the page in its present theme, light or dark.

import { colours } from "./scale.js";

/** @type {MediaQueryList | null} */
let query = null;
const dark = () => (query ??= matchMedia("(prefers-color-scheme: dark)"));

/** @param {() => void} f is called when the theme changes */
export const onTheme = (f) => dark().addEventListener("change", f);

/**
 * colour is that of a temperature, with the ink that can be read on it.
 * @param {number} t °C
 */
export const colour = (t) => colours(dark().matches ? "dark" : "light", t);

/**
 * token is a colour of the style sheet by its name.
 * @param {string} name
 */
export const token = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

/**
 * context is the drawing context of a canvas.
 * @param {HTMLCanvasElement} canvas
 */
export function context(canvas) {
  const g = canvas.getContext("2d");
  if (!g) throw new TypeError("this browser draws on no canvas");
  return g;
}
