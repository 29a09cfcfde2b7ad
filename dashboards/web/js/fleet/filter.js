// Filters live in the URL: a copied link opens the same picture.

/** @import { Board } from "./state.js" */

import { el, setText } from "../page/dom.js";
import { capital, count, natural } from "../page/format.js";
import { Signals } from "../page/signals.js";
import { current, isSilent, isStopped, isUp, reasons } from "./state.js";

/** @type {Map<string, { word: string, test: (b: Board) => boolean }>} */
const states = new Map([
  ["up", { word: "up", test: isUp }],
  ["silent", { word: "silent", test: isSilent }],
  ["stopped", { word: "stopped", test: isStopped }],
  ["throttled", { word: "throttled", test: (b) => reasons(b).includes("throttled") }],
  ["under_voltage", { word: "under-voltage", test: (b) => reasons(b).includes("under_voltage") }],
  ["soft", { word: "soft limit", test: (b) => reasons(b).includes("soft_temperature_limit") }],
  ["hot", { word: "60 °C and more", test: (b) => (current(b, "temperature") ?? -Infinity) >= 60 }],
]);
const labels = ["rack", "customer", "model"];
const keys = ["q", "state", ...labels];

/** @typedef {Record<string, string>} Values of the filters by key; q is the text, state one of states, the rest are labels */

/**
 * passes reports whether a board passes all filters. A state that is not known lets all pass.
 * @param {Board} b
 * @param {Values} values
 */
export function passes(b, values) {
  const state = states.get(values.state ?? "");
  if (state && !state.test(b)) return false;
  if (labels.some((l) => values[l] && b.labels[l] !== values[l])) return false;
  if (!values.q) return true;
  const text = (b.name + " " + Object.values(b.labels).join(" ")).toLowerCase();
  return values.q.toLowerCase().split(/\s+/).every((w) => text.includes(w));
}

/**
 * without says for each filter how many boards there were if it alone were dropped.
 * @param {Board[]} boards
 * @param {Values} values
 */
export function without(boards, values) {
  return keys.filter((k) => values[k]).map((key) => {
    const kept = values[key];
    const n = boards.filter((b) => passes(b, { ...values, [key]: "" })).length;
    return { key, value: key === "state" ? states.get(kept)?.word || kept : kept, n };
  });
}

/** @extends {Signals<{ change: null }>} */
export class Filter extends Signals {
  #box;
  #shown = el("span", { class: "shown", role: "status" });

  /** @param {HTMLElement} box */
  constructor(box) {
    super();
    this.#box = box;
    /** @type {Values} */
    this.values = {};
    this.#read();
    addEventListener("popstate", () => {
      this.#read();
      this.#sync();
      this.emit("change", null);
    });
  }

  #read() {
    this.values = Object.fromEntries(new URLSearchParams(location.search));
  }
  get view() {
    return this.values.view || "map";
  }
  get active() {
    return keys.some((k) => this.values[k]);
  }

  /**
   * set changes one filter; replace makes no new entry in the history.
   * @param {string} key
   * @param {string} value
   * @param {boolean} [replace]
   */
  set(key, value, replace) {
    if (value) this.values[key] = value;
    else delete this.values[key];
    const q = new URLSearchParams(this.values).toString();
    history[replace ? "replaceState" : "pushState"](null, "", q ? "?" + q : location.pathname);
    this.#sync();
    this.emit("change", null);
  }
  clear() {
    for (const k of keys) delete this.values[k];
    this.set("q", "");
  }

  /** @param {Board} b */
  matches(b) {
    return passes(b, this.values);
  }
  /** @param {Board[]} boards */
  without(boards) {
    return without(boards, this.values);
  }

  /** @param {Board[]} boards */
  build(boards) {
    const text = el("input", { type: "search", id: "filter", placeholder: "Filter boards  f", "aria-label": "Filter boards" });
    text.addEventListener("input", () => this.set("q", text.value.trim(), true));
    const selects = labels.map((l) => this.#select(l, [...new Set(boards.map((b) => b.labels[l]).filter(Boolean))].sort(natural).map((v) => [v, v])));
    const state = this.#select("state", [...states].map(([k, { word }]) => [k, word]));
    const views = ["map", "table"].map((v) => el("button", { "data-view": v, onclick: () => this.set("view", v === "map" ? "" : v) }, capital(v)));
    this.#box.replaceChildren(text, ...selects, state, this.#shown, el("span", { class: "grow" }), el("span", { class: "segment only-wide", role: "group", "aria-label": "View" }, ...views));
    this.#sync();
  }
  /**
   * @param {string} key
   * @param {[value: string, word: string][]} options
   */
  #select(key, options) {
    const name = capital(key);
    const all = el("option", { value: "" }, `${name}: all`);
    const s = el("select", { "data-filter": key, "aria-label": name }, all, ...options.map(([v, word]) => el("option", { value: v }, word)));
    s.addEventListener("change", () => this.set(key, s.value));
    return s;
  }
  #sync() {
    const text = this.#box.querySelector("input");
    if (!text) return;
    if (text !== document.activeElement) text.value = this.values.q || "";
    for (const s of this.#box.querySelectorAll("select")) s.value = this.values[s.dataset.filter ?? ""] || "";
    for (const b of this.#box.querySelectorAll("[data-view]")) b.setAttribute("aria-pressed", String(b.getAttribute("data-view") === this.view));
  }
  /**
   * showCount says how many boards are shown.
   * @param {number} n
   * @param {number} all
   */
  showCount(n, all) {
    setText(this.#shown, `${count(n)} of ${count(all)}`);
  }
}
