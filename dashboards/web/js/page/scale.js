// The temperature scale, 45–90 °C in equal OKLab steps. Light burns dark, dark glows.

const stops = {
  light: ["#e2e9ed", "#e7d6b4", "#e5bb81", "#e59a53", "#de7937", "#d05827", "#b93c23", "#9b2525", "#7a1927", "#5a1127"],
  dark: ["#21292e", "#423738", "#684131", "#914a30", "#b85627", "#d66c1a", "#e98b19", "#f2af3a", "#f8d075", "#faefad"],
};
export const low = 45;
export const high = 90;
const perDegree = 4; // resolution of the table: finer than one reading's step

/** @typedef {[number, number, number]} Triple red, green, blue from 0 to 1, or OKLab's L, a, b */

/** @param {number} c */
const toLinear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
/** @param {number} c */
const toGamma = (c) => (c <= 0.0031308 ? 12.92 * c : 1.055 * c ** (1 / 2.4) - 0.055);
/** @param {string} hex */
const channel = (hex) => toLinear(parseInt(hex, 16) / 255);
/**
 * @param {string} hex such as #e2e9ed
 * @returns {Triple}
 */
const linear = (hex) => [channel(hex.slice(1, 3)), channel(hex.slice(3, 5)), channel(hex.slice(5, 7))];

/**
 * @param {Triple} rgb
 * @returns {Triple}
 */
function oklab([r, g, b]) {
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [
    0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  ];
}

/**
 * @param {Triple} lab
 * @returns {Triple}
 */
function fromOklab([L, a, b]) {
  const l = (L + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (L - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (L - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ];
}

/** @param {Triple} rgb */
const luminance = ([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b;
const inkDark = luminance(linear("#101214"));

/** @param {Triple} rgb */
function entry(rgb) {
  const y = Math.max(0, luminance(rgb));
  const ink = 1.05 / (y + 0.05) > (y + 0.05) / (inkDark + 0.05) ? "#ffffff" : "#101214";
  const bytes = rgb.map((c) => Math.round(255 * Math.min(1, Math.max(0, toGamma(Math.max(0, c))))));
  return { fill: `rgb(${bytes.join(",")})`, ink };
}

/** @param {string[]} hexes */
function table(hexes) {
  const lab = hexes.map((h) => oklab(linear(h)));
  const n = (high - low) * perDegree;
  return Array.from({ length: n + 1 }, (_, i) => {
    const x = (i / n) * (lab.length - 1);
    const k = Math.min(lab.length - 2, Math.floor(x));
    return entry(fromOklab(between(lab[k], lab[k + 1], x - k)));
  });
}

/**
 * @param {Triple} a
 * @param {Triple} b
 * @param {number} share of b
 * @returns {Triple}
 */
const between = (a, b, share) => [a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share];

const tables = { light: table(stops.light), dark: table(stops.dark) };

/**
 * colours is the fill of a temperature, with the ink that can be read on it.
 * @param {keyof typeof stops} theme
 * @param {number} t °C; below and above the scale its ends are meant
 */
export function colours(theme, t) {
  return tables[theme][Math.round(Math.min(high - low, Math.max(0, t - low)) * perDegree)];
}
