// The summary row: each figure answers one question and is a filter.

/** @import { Incidents } from "../page/incidents.js" */
/** @import { Glyph } from "../page/dom.js" */
/** @import { Filter } from "./filter.js" */
/** @import { Board } from "./state.js" */

import { $, el, glyph } from "../page/dom.js";
import { celsius, count, none } from "../page/format.js";
import { current, hasReported, isSilent, isStopped, isUp, reasons } from "./state.js";

/** @typedef {{ id: string, name: string, glyph?: Glyph, filter?: string }} Figure */

/** @type {Figure[]} */
const figures = [
  { id: "boards", name: "Boards", filter: "" },
  { id: "up", name: "Up", filter: "up" },
  { id: "silent", name: "Silent", glyph: "silent", filter: "silent" },
  { id: "throttled", name: "Throttled", glyph: "throttled", filter: "throttled" },
  { id: "under_voltage", name: "Under-voltage", glyph: "under_voltage", filter: "under_voltage" },
  { id: "hottest", name: "Hottest" },
  { id: "firing", name: "Firing" },
];

/**
 * hottestOf is the board with the highest present temperature, if there is one.
 * @param {Board[]} boards
 */
export function hottestOf(boards) {
  /** @type {Board | null} */
  let top = null;
  let highest = -Infinity;
  for (const b of boards) {
    const t = current(b, "temperature");
    if (t !== undefined && t > highest) [top, highest] = [b, t];
  }
  return top;
}

export class Summary {
  /** @type {Map<string, { value: HTMLElement, button: HTMLElement, f: Figure }>} */
  #nodes = new Map();
  /** @type {Board | null} */
  #hottest = null;

  /** @param {Filter} filter */
  constructor(filter) {
    this.filter = filter;
    for (const f of figures) {
      const value = el("span", { class: "value", "data-figure": f.id });
      const name = el("span", { class: "name" }, f.glyph && glyph(f.glyph), f.name);
      const button = el("button", { class: "figure", onclick: () => this.#click(f) }, name, value);
      this.#nodes.set(f.id, { value, button, f });
      $("summary").append(button);
    }
    filter.on("change", () => this.#pressed());
    this.#pressed();
  }

  /** @param {Figure} f */
  #click(f) {
    if (f.id === "hottest") {
      if (this.#hottest) location.href = "/board/" + this.#hottest.name;
    } else if (f.filter === undefined) location.href = "/incidents";
    else this.filter.set("state", this.filter.values.state === f.filter ? "" : f.filter);
  }
  #pressed() {
    for (const { button, f } of this.#nodes.values()) {
      if (f.filter) button.setAttribute("aria-pressed", String(this.filter.values.state === f.filter));
    }
  }
  /**
   * @param {string} id
   * @param {string} text
   * @param {string} [small]
   */
  #show(id, text, small = "") {
    const value = this.#nodes.get(id)?.value;
    if (!value || value.dataset.text === text + "|" + small) return;
    value.dataset.text = text + "|" + small;
    value.replaceChildren(text, ...(small ? [el("small", {}, small)] : []));
  }

  /**
   * @param {Board[]} boards
   * @param {Incidents} incidents
   * @param {boolean} stale
   */
  update(boards, incidents, stale) {
    /** @param {(b: Board) => boolean} test */
    const n = (test) => boards.filter(test).length;
    /** @param {import("../../types/server").ThrottleReason} r */
    const has = (r) => n((b) => reasons(b).includes(r));
    const soft = has("soft_temperature_limit");
    this.#hottest = hottestOf(boards);
    const [stopped, never] = [n(isStopped), n((b) => !hasReported(b))];
    this.#show("boards", count(boards.length), [stopped && `${count(stopped)} stopped`, never && `${count(never)} never reported`].filter(Boolean).join(", "));
    this.#show("up", count(n(isUp)));
    this.#show("silent", stale ? "?" : count(n(isSilent)));
    this.#show("throttled", count(has("throttled")), soft ? `+${soft} soft` : "");
    this.#show("under_voltage", count(has("under_voltage")));
    this.#show("hottest", celsius(this.#hottest?.r.temperature), this.#hottest?.name);
    const open = incidents.open();
    const alerts = open.reduce((sum, i) => sum + (i.alerts || 0), 0);
    if (!incidents.loaded) return this.#show("firing", none);
    this.#show("firing", `${open.length} ${open.length === 1 ? "incident" : "incidents"}`, open.length ? `${alerts} ${alerts === 1 ? "alert" : "alerts"}` : "");
  }
}
