// Filters live in the URL: a copied link opens the same picture.

import { el } from "./dom.js";
import { count, natural } from "./format.js";
import { current, isSilent, isStopped, isUp, reasons } from "./fleetstate.js";

const states = {
  up: ["up", isUp],
  silent: ["silent", isSilent],
  stopped: ["stopped", isStopped],
  throttled: ["throttled", (b) => reasons(b).includes("throttled")],
  under_voltage: ["under-voltage", (b) => reasons(b).includes("under_voltage")],
  soft: ["soft limit", (b) => reasons(b).includes("soft_temperature_limit")],
  hot: ["60 °C and more", (b) => current(b, "temperature") >= 60],
};
const labels = ["rack", "customer", "model"];

export class Filter extends EventTarget {
  #box;
  constructor(box) {
    super();
    this.#box = box;
    this.#read();
    addEventListener("popstate", () => {
      this.#read();
      this.#sync();
      this.dispatchEvent(new Event("change"));
    });
  }

  #read() {
    this.values = Object.fromEntries(new URLSearchParams(location.search));
  }
  get view() {
    return this.values.view || "map";
  }
  get active() {
    return ["q", "state", ...labels].some((k) => this.values[k]);
  }

  set(key, value, replace) {
    if (value) this.values[key] = value;
    else delete this.values[key];
    const q = new URLSearchParams(this.values).toString();
    history[replace ? "replaceState" : "pushState"](null, "", q ? "?" + q : location.pathname);
    this.#sync();
    this.dispatchEvent(new Event("change"));
  }
  clear() {
    for (const k of ["q", "state", ...labels]) delete this.values[k];
    this.set("q", "");
  }

  matches(b) {
    const v = this.values;
    if (v.state && states[v.state] && !states[v.state][1](b)) return false;
    if (labels.some((l) => v[l] && b.labels[l] !== v[l])) return false;
    if (!v.q) return true;
    const text = (b.name + " " + Object.values(b.labels).join(" ")).toLowerCase();
    return v.q.toLowerCase().split(/\s+/).every((w) => text.includes(w));
  }
  // without tells which single filter to drop, and what that would give.
  without(boards) {
    const one = ["q", "state", ...labels].filter((k) => this.values[k]);
    return one.map((key) => {
      const kept = this.values[key];
      delete this.values[key];
      const n = boards.filter((b) => this.matches(b)).length;
      this.values[key] = kept;
      return { key, value: key === "state" ? states[kept]?.[0] || kept : kept, n };
    });
  }

  build(boards) {
    const text = el("input", { type: "search", id: "filter", placeholder: "Filter boards  f", "aria-label": "Filter boards" });
    text.addEventListener("input", () => this.set("q", text.value.trim(), true));
    const selects = labels.map((l) => this.#select(l, [...new Set(boards.map((b) => b.labels[l]).filter(Boolean))].sort(natural).map((v) => [v, v])));
    const state = this.#select("state", Object.entries(states).map(([k, [word]]) => [k, word]));
    this.shown = el("span", { class: "shown", role: "status" });
    const views = ["map", "table"].map((v) => el("button", { "data-view": v, onclick: () => this.set("view", v === "map" ? "" : v) }, v === "map" ? "Map" : "Table"));
    this.#box.replaceChildren(text, ...selects, state, this.shown, el("span", { class: "grow" }), el("span", { class: "segment only-wide", role: "group", "aria-label": "View" }, ...views));
    this.#sync();
  }
  #select(key, options) {
    const name = key[0].toUpperCase() + key.slice(1);
    const all = el("option", { value: "" }, `${name}: all`);
    const s = el("select", { "data-filter": key, "aria-label": name }, all, ...options.map(([v, word]) => el("option", { value: v }, word)));
    s.addEventListener("change", () => this.set(key, s.value));
    return s;
  }
  #sync() {
    const text = this.#box.querySelector("#filter");
    if (!text) return;
    if (text !== document.activeElement) text.value = this.values.q || "";
    for (const s of this.#box.querySelectorAll("select")) s.value = this.values[s.dataset.filter] || "";
    for (const b of this.#box.querySelectorAll("[data-view]")) b.setAttribute("aria-pressed", String(b.dataset.view === this.view));
  }
  showCount(n, all) {
    const text = `${count(n)} of ${count(all)}`;
    if (this.shown && this.shown.textContent !== text) this.shown.textContent = text;
  }
}
