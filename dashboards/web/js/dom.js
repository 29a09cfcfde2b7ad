// Element building without markup strings: text can never become script.

export function el(tag, attrs, ...children) {
  const node = document.createElement(tag);
  for (const [k, v] of Object.entries(attrs || {})) {
    if (v === false || v === null || v === undefined) continue;
    if (k.startsWith("on")) node.addEventListener(k.slice(2), v);
    else node.setAttribute(k, v === true ? "" : v);
  }
  node.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

export const $ = (id) => document.getElementById(id);

// setText writes only what differs, so that nothing is repainted or re-read for nothing.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttr(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

const paths = {
  throttled: "M1.2 2.6h9.6L6 10.4z",
  under_voltage: "M7.4.6 2.4 7h2.9L4.5 11.4 9.6 5H6.5z",
  soft_temperature_limit: "M1.2 8.2h9.6v2H1.2z",
  frequency_capped: "M1.2 1.2h9.6v1.7H1.2zM6 3.8l3.6 3.7H7V11H5V7.5H2.4z",
  silent: "M2.4 2.4l7.2 7.2M9.6 2.4 2.4 9.6",
  stopped: "M2.4 2.4h7.2v7.2H2.4z",
  critical: "M6 .8 11.6 11H.4z",
  warning: "M6 .6 11.4 6 6 11.4.6 6z",
  acknowledged: "M1.6 6.4l3.1 3.1 5.8-6.8",
  next: "M6 2.2a3.8 3.8 0 1 0 0 7.6 3.8 3.8 0 0 0 0-7.6z",
  bell: "M6 .8c2 0 3.2 1.5 3.2 3.6 0 2.6 1 3.4 1 4.1H1.8c0-.7 1-1.5 1-4.1C2.8 2.3 4 .8 6 .8zM4.6 9.4h2.8a1.4 1.4 0 0 1-2.8 0z",
};
const strokes = new Set(["silent", "stopped", "acknowledged", "next"]);
export const glyphPath = (name) => paths[name];
export const glyphIsStroke = (name) => strokes.has(name);

const svg = "http://www.w3.org/2000/svg";
export function glyph(name, extra) {
  const s = document.createElementNS(svg, "svg");
  s.setAttribute("viewBox", "0 0 12 12");
  s.setAttribute("class", "glyph" + (strokes.has(name) ? " stroke" : "") + (extra ? " " + extra : ""));
  s.setAttribute("aria-hidden", "true");
  const p = document.createElementNS(svg, "path");
  p.setAttribute("d", paths[name]);
  s.append(p);
  return s;
}
