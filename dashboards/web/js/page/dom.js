// Element building without markup strings: text can never become script.

/**
 * @typedef {string | number | boolean | null | undefined | ((e: Event) => void)} Attribute
 * @typedef {Node | string | false | null | undefined} Child
 */

/**
 * el makes an element. An attribute "on…" is a listener; one that is false, null or undefined is left
 * out, and so is such a child.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, Attribute>} attrs
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function el(tag, attrs, ...children) {
  const node = document.createElement(tag);
  for (const [k, v] of Object.entries(attrs)) {
    if (v === false || v === null || v === undefined) continue;
    if (typeof v === "function") node.addEventListener(k.slice(2), v);
    else node.setAttribute(k, v === true ? "" : String(v));
  }
  for (const child of children.flat()) if (child !== null && child !== undefined && child !== false) node.append(child);
  return node;
}

/**
 * $ is the element of an id, which the page's template has. It throws where there is none of that type.
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @param {new () => T} [type]
 * @returns {T}
 */
export function $(id, type) {
  return checked(document.getElementById(id), "#" + id, type);
}

/**
 * part is the first element within another that a selector finds. It throws where there is none of that type.
 * @template {HTMLElement} [T=HTMLElement]
 * @param {ParentNode} within
 * @param {string} selector
 * @param {new () => T} [type]
 * @returns {T}
 */
export function part(within, selector, type) {
  return checked(within.querySelector(selector), selector, type);
}

/**
 * @template {HTMLElement} T
 * @param {Element | null} node
 * @param {string} name
 * @param {new () => T} [type]
 */
function checked(node, name, type) {
  if (!(node instanceof (type ?? HTMLElement))) throw new TypeError(`${name}: the page has no such element`);
  return /** @type {T} */ (node);
}

/**
 * field is an input of a form by its name.
 * @param {HTMLFormElement} form
 * @param {string} name
 */
export const field = (form, name) => part(form, `[name="${name}"]`, HTMLInputElement);

/**
 * choice is a select of a form by its name.
 * @param {HTMLFormElement} form
 * @param {string} name
 */
export const choice = (form, name) => part(form, `select[name="${name}"]`, HTMLSelectElement);

/**
 * typing reports whether a key was pressed in a field, where it is text and no shortcut.
 * @param {KeyboardEvent} e
 */
export const typing = (e) => e.target instanceof Element && /^(INPUT|SELECT|TEXTAREA)$/.test(e.target.tagName);

/**
 * setText writes only text that differs, so that nothing is repainted or re-read for nothing.
 * @param {Node} node
 * @param {string} text
 */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * setAttr sets an attribute, or removes it where there is no value.
 * @param {Element} node
 * @param {string} name
 * @param {string | false | null | undefined} value
 */
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

/** @typedef {keyof typeof paths} Glyph */

/** @type {Set<Glyph>} */
const strokes = new Set(["silent", "stopped", "acknowledged", "next"]);

/** @param {Glyph} name */
export const glyphPath = (name) => paths[name];

/** @param {Glyph} name */
export const glyphIsStroke = (name) => strokes.has(name);

const svg = "http://www.w3.org/2000/svg";

/**
 * glyph draws one of the marks that stand beside words; extra are further classes.
 * @param {Glyph} name
 * @param {string} [extra]
 */
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
