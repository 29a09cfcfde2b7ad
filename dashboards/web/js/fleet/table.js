// The table: the same boards as rows, with every number in words.

/** @import { Board } from "./state.js" */

import { el, glyph, setAttr, setText } from "../page/dom.js";
import { celsius, dayClock, mhz, natural, none, reasonWords } from "../page/format.js";
import { colour } from "../page/theme.js";
import { current, isSilent, isStopped, isUp, lostShare, reasons, reportedAt } from "./state.js";

const resortEvery = 10000;

/** @typedef {number | string | undefined} SortKey undefined where a board has no value */
/** @typedef {{ key: Key, name: string, right?: boolean, sort: (b: Board) => SortKey }} Column */
/** @typedef {"board" | "temperature" | "requested" | "measured" | "throttled" | "up" | "reported" | "rack" | "customer" | "model"} Key */
/** @typedef {{ node: HTMLElement, cells: Record<Key, HTMLElement>, board: Board, throttled: string | null }} Row */

/** @type {Column[]} */
const columns = [
  { key: "board", name: "Board", sort: (b) => b.name },
  { key: "temperature", name: "Temperature", right: true, sort: (b) => current(b, "temperature") },
  { key: "requested", name: "Clock requested", right: true, sort: (b) => current(b, "requested") },
  { key: "measured", name: "Clock measured", right: true, sort: (b) => current(b, "measured") },
  { key: "throttled", name: "Throttle state", sort: (b) => reasons(b).join() },
  { key: "up", name: "State", sort: (b) => b.r.up },
  { key: "reported", name: "Last report", right: true, sort: reportedAt },
  { key: "rack", name: "Rack", sort: (b) => b.labels.rack },
  { key: "customer", name: "Customer", sort: (b) => b.labels.customer },
  { key: "model", name: "Model", sort: (b) => b.labels.model },
];

export class BoardTable {
  /** @type {Map<string, Row>} */
  #rows = new Map();
  #by = columns[0];
  #down = false;

  /** @param {HTMLElement} box */
  constructor(box) {
    this.heads = columns.map((c) => el("th", { scope: "col", class: c.right ? "r" : null }, el("button", { onclick: () => this.#sortBy(c) }, c.name)));
    this.body = el("tbody", {});
    box.replaceChildren(el("table", { class: "board-table" }, el("thead", {}, el("tr", {}, ...this.heads)), this.body));
    setInterval(() => this.#resort(), resortEvery);
  }

  /**
   * @param {Board[]} boards
   * @param {number} now
   */
  build(boards, now) {
    this.#rows.clear();
    for (const b of boards) this.#rows.set(b.name, this.#row(b));
    this.update(boards, now);
    this.#order();
  }

  /**
   * @param {Board} b
   * @returns {Row}
   */
  #row(b) {
    const cells = /** @type {Record<Key, HTMLElement>} */ ({});
    for (const c of columns) cells[c.key] = el("td", { "data-field": c.key, class: c.right ? "r num" : null });
    cells.board.append(el("a", { href: "/board/" + b.name }, b.name));
    for (const key of /** @type {const} */ (["rack", "customer", "model"])) setText(cells[key], b.labels[key] || none);
    return { node: el("tr", { "data-board": b.name }, ...Object.values(cells)), cells, board: b, throttled: null };
  }

  /**
   * @param {Board[]} changed
   * @param {number} now
   */
  update(changed, now) {
    for (const b of changed) {
      const row = this.#rows.get(b.name);
      if (!row) continue;
      row.board = b;
      this.#paint(row, b, now);
    }
  }

  /**
   * @param {Row} row
   * @param {Board} b
   * @param {number} now
   */
  #paint(row, b, now) {
    const t = current(b, "temperature");
    this.#value(row.cells.temperature, t, celsius(t));
    this.#swatch(row.cells.temperature, t);
    this.#value(row.cells.requested, current(b, "requested"), mhz(current(b, "requested")));
    this.#value(row.cells.measured, current(b, "measured"), mhz(current(b, "measured")));
    row.cells.measured.classList.toggle("lost", lostShare(b) > 0);
    this.#throttled(row, b);
    this.#value(row.cells.up, b.r.up, isSilent(b) ? "silent" : isUp(b) ? "up" : isStopped(b) ? "stopped" : none);
    setAttr(row.node, "data-state", isUp(b) ? "up" : isSilent(b) ? "silent" : isStopped(b) ? "stopped" : null);
    const at = reportedAt(b);
    this.#value(row.cells.reported, at || undefined, at ? dayClock(at, now) : "never");
  }
  /**
   * @param {HTMLElement} cell
   * @param {number | undefined} value
   * @param {string} text
   */
  #value(cell, value, text) {
    setAttr(cell, "data-value", value === undefined ? null : String(value));
    cell.classList.toggle("none", value === undefined);
    const node = cell.lastChild;
    if (node instanceof Text) {
      if (node.data !== text) node.data = text;
    } else cell.append(text);
  }
  /**
   * @param {HTMLElement} cell
   * @param {number | undefined} t
   */
  #swatch(cell, t) {
    /** @type {HTMLElement | null} */
    let s = cell.querySelector(".swatch");
    if (!s) cell.prepend((s = el("i", { class: "swatch" })));
    s.style.backgroundColor = t === undefined ? "" : colour(t).fill;
  }
  /**
   * @param {Row} row
   * @param {Board} b
   */
  #throttled(row, b) {
    const list = current(b, "throttled");
    const key = list ? list.join() : "?";
    if (row.throttled === key) return;
    row.throttled = key;
    const cell = row.cells.throttled;
    setAttr(cell, "data-value", list ? key : null);
    cell.classList.toggle("none", !list?.length);
    if (!list?.length) cell.replaceChildren(list ? "none" : none);
    else cell.replaceChildren(...list.flatMap((r, i) => [i ? ", " : "", glyph(r, "is-" + r), reasonWords[r]]));
  }

  /** @param {(b: Board) => boolean} matches */
  filter(matches) {
    for (const r of this.#rows.values()) r.node.hidden = !matches(r.board);
  }

  /** @param {Column} c */
  #sortBy(c) {
    this.#down = this.#by === c ? !this.#down : Boolean(c.right);
    this.#by = c;
    this.#order();
  }
  // Rows never move under the pointer.
  #resort() {
    if (!this.body.matches(":hover") && !document.hidden) this.#order();
  }
  #order() {
    const rows = [...this.#rows.values()];
    rows.sort((x, y) => compare(this.#by.sort(x.board), this.#by.sort(y.board), this.#down) || natural(x.board.name, y.board.name));
    if (rows.some((r, i) => this.body.children[i] !== r.node)) this.body.replaceChildren(...rows.map((r) => r.node));
    columns.forEach((c, i) => setAttr(this.heads[i], "aria-sort", c === this.#by ? (this.#down ? "descending" : "ascending") : null));
  }
}

/**
 * compare puts absent values last in both directions.
 * @param {SortKey} a
 * @param {SortKey} b
 * @param {boolean} down
 */
export function compare(a, b, down) {
  if (a === undefined || b === undefined) return Number(a === undefined) - Number(b === undefined);
  const order = typeof a === "number" && typeof b === "number" ? a - b : natural(String(a), String(b));
  return down ? -order : order;
}
