// The map: racks are columns, switches are rows, and a board keeps its cell.

/** @import { Incident } from "../../types/server" */
/** @import { Board } from "./state.js" */

import { $, el, glyph, setAttr, setText } from "../page/dom.js";
import { age, celsius, megahertz, mhz, natural, reasonWords, shortSwitch, tenths } from "../page/format.js";
import { colour, onTheme } from "../page/theme.js";
import { current, lostShare, marks, reportedAt, spoken } from "./state.js";

/** @typedef {{ node: HTMLElement, temperature: HTMLElement, box: HTMLElement, board: Board, marks: string }} MapCell */
/** @typedef {{ rack: string, name: string, boards: string[] }} Switch the boards of a rack at one switch */
/** @typedef {"median" | "hottest" | "throttled" | "under_voltage" | "silent"} Stat */
/** @typedef {[name: string, boards: Board[]]} Group */
/** @typedef {ReturnType<typeof size>} Size */

const noRack = "no rack";

/**
 * size: few boards get room for their numbers, many get a picture.
 * @param {number} n
 */
export function size(n) {
  if (n <= 64) return { name: "l", columns: 4 };
  if (n <= 400) return { name: "m", columns: 6 };
  if (n <= 2000) return { name: "s", columns: 6 };
  return { name: "xs", columns: 12 };
}

/** @param {Board} b */
const place = (b) => b.labels.slot || b.labels.port || b.name;

export class BoardMap {
  /** @type {Map<string, MapCell>} */
  #cells = new Map();
  /** @type {(Switch & { block: HTMLElement })[]} */
  #switches = [];
  /** @type {{ node: HTMLElement, key: Stat, cells: MapCell[], text: string }[]} */
  #stats = [];
  /** @type {HTMLElement | null} */
  #focused = null;
  #marksShown = 1;

  /**
   * @param {HTMLElement} box
   * @param {MediaQueryList} narrow windows have room for half as many racks beside each other
   * @param {(b: Board) => void} onFocus
   */
  constructor(box, narrow, onFocus) {
    this.box = box;
    this.narrow = narrow;
    this.onFocus = onFocus;
    box.setAttribute("role", "grid");
    box.setAttribute("aria-label", "Boards by rack and switch; arrow keys move, Enter opens");
    box.addEventListener("pointerover", (e) => this.#focus(cellAt(e), false));
    box.addEventListener("focusin", (e) => this.#focus(cellAt(e), true));
    box.addEventListener("click", (e) => this.#open(cellAt(e)));
    box.addEventListener("keydown", (e) => this.#key(e));
    onTheme(() => this.update([...this.#cells.values()].map((c) => c.board)));
  }

  /** @param {Board[]} boards */
  build(boards) {
    this.#cells.clear();
    this.#switches = [];
    this.#stats = [];
    const racks = group(boards, (b) => b.labels.rack || noRack);
    const s = size(boards.length);
    this.#marksShown = s.name === "l" || s.name === "m" ? 2 : 1;
    this.box.className = "map size-" + s.name;
    const lines = [];
    const max = this.narrow.matches ? 4 : 8;
    for (let i = 0; i < racks.length; i += max) lines.push(this.#line(racks.slice(i, i + max), s, Math.min(racks.length, max)));
    this.box.replaceChildren(...lines);
    const [first] = this.#cells.values();
    if (first) first.node.tabIndex = 0;
    this.update(boards);
  }

  /**
   * @param {Group[]} racks
   * @param {Size} s
   * @param {number} columns
   */
  #line(racks, s, columns) {
    const perRack = racks.map(([, boards]) => group(boards, (b) => b.labels.switch || ""));
    const rows = Math.max(...perRack.map((p) => p.length));
    const line = el("div", { class: "rack-line" });
    line.style.gridTemplateColumns = `64px repeat(${columns}, minmax(0, ${s.name === "l" && columns < 3 ? "440px" : "1fr"}))`;
    /**
     * @param {HTMLElement} node
     * @param {number} column
     */
    const put = (node, column) => {
      node.style.gridColumn = String(column);
      line.append(node);
    };
    racks.forEach(([name, boards], c) => put(this.#rackHead(name, boards), c + 2));
    for (let r = 0; r < rows; r++) {
      const names = new Set(perRack.map((p) => p[r]?.[0]).filter((n) => n !== undefined));
      const shared = names.size === 1 ? [...names][0] : null;
      put(el("div", { class: "switch-name" }, shared ? shortSwitch(shared) : ""), 1);
      perRack.forEach((p, c) => {
        if (p[r]) put(this.#block(racks[c][0], p[r], s, shared === null), c + 2);
      });
    }
    this.#statRows(racks, put);
    return line;
  }

  /**
   * @param {string} name
   * @param {Board[]} boards
   */
  #rackHead(name, boards) {
    const title = /^rack\b|^no rack/i.test(name) ? name : "Rack " + name;
    return el("div", { class: "rack-head" }, el("b", {}, title), el("span", {}, boards.length === 1 ? "1 board" : `${boards.length} boards`));
  }

  /**
   * @param {string} rack
   * @param {Group} group
   * @param {Size} s
   * @param {boolean} labelled
   */
  #block(rack, [name, boards], s, labelled) {
    const block = el("div", { class: "switch", role: "row" });
    const columns = Math.max(s.columns, s.name === "l" ? 0 : Math.ceil(boards.length / 10));
    block.style.gridTemplateColumns = `repeat(${Math.min(columns, Math.max(2, boards.length))}, minmax(0, 1fr))`;
    if (labelled && name) block.append(el("span", { class: "label" }, shortSwitch(name)));
    for (const b of [...boards].sort((x, y) => natural(place(x), place(y)))) block.append(this.#cell(b));
    this.#switches.push({ block, rack, name, boards: boards.map((b) => b.name) });
    return block;
  }

  /** @param {Board} b */
  #cell(b) {
    const node = el("div", { class: "board-cell", role: "gridcell", tabindex: "-1", "data-board": b.name });
    const name = el("span", { class: "nm" }, b.name);
    const temperature = el("span", { class: "tp" });
    const box = el("span", { class: "marks" });
    node.append(name, " ", temperature, box); // the name of the cell begins with what is seen in it
    this.#cells.set(b.name, { node, temperature, box, board: b, marks: "" });
    return node;
  }

  /** @param {Board[]} changed */
  update(changed) {
    for (const b of changed) {
      const c = this.#cells.get(b.name);
      if (!c) continue;
      c.board = b;
      this.#paint(c, b);
    }
    this.#updateStats();
  }

  /**
   * @param {MapCell} c
   * @param {Board} b
   */
  #paint(c, b) {
    const t = current(b, "temperature");
    const paint = t === undefined ? null : colour(t);
    c.node.style.backgroundColor = paint ? paint.fill : "";
    c.node.style.color = paint ? paint.ink : "";
    const list = marks(b);
    c.node.classList.toggle("warm", paint !== null);
    c.node.classList.toggle("silent", list[0] === "silent" || list[0] === "stopped");
    c.node.classList.toggle("has-mark", list.length > 0);
    setAttr(c.node, "data-temperature", t === undefined ? null : String(t));
    setText(c.temperature, t === undefined ? "" : tenths(t));
    setAttr(c.node, "aria-label", spoken(b, celsius, reasonWords));
    if (c.marks !== list.join()) {
      c.marks = list.join();
      c.box.replaceChildren(...list.slice(0, this.#marksShown).map((m) => glyph(m)));
      setAttr(c.node, "data-state", c.marks || null);
    }
  }

  /** @param {(b: Board) => boolean} matches */
  filter(matches) {
    for (const c of this.#cells.values()) c.node.classList.toggle("out", !matches(c.board));
  }

  /**
   * outline marks the switch that an incident names; it ends with the incident.
   * @param {Incident[]} incidents
   */
  outline(incidents) {
    for (const s of this.#switches) {
      const hit = incidents.find((i) => touches(i, s));
      s.block.classList.toggle("firing", hit?.state === "firing");
      s.block.classList.toggle("acknowledged", hit?.state === "acknowledged");
    }
  }

  /**
   * @param {Group[]} racks
   * @param {(node: HTMLElement, column: number) => void} put
   */
  #statRows(racks, put) {
    /** @type {[string, Stat][]} */
    const rows = [["median °C", "median"], ["hottest °C", "hottest"], ["throttled", "throttled"], ["under-volt", "under_voltage"], ["silent", "silent"]];
    rows.forEach(([word, key], i) => {
      const first = i === 0 ? " first" : "";
      put(el("div", { class: "rack-stat head" + first }, word), 1);
      racks.forEach(([, boards], c) => {
        const node = el("div", { class: "rack-stat num" + first });
        this.#stats.push({ node, key, cells: boards.flatMap((b) => this.#cells.get(b.name) ?? []), text: "" });
        put(node, c + 2);
      });
    });
  }

  #updateStats() {
    for (const s of this.#stats) {
      const text = statText(s.key, s.cells.map((c) => c.board));
      if (s.text === text) continue;
      s.text = text;
      if (text === nothing) s.node.replaceChildren(el("span", { class: "none" }, text));
      else if (s.key === "median" || s.key === "hottest") s.node.replaceChildren(text);
      else s.node.replaceChildren(glyph(s.key), " ", el("b", {}, text));
    }
  }

  /**
   * @param {HTMLElement | null} node
   * @param {boolean} byKey
   */
  #focus(node, byKey) {
    if (!node || node === this.#focused) return;
    if (byKey) for (const c of this.#cells.values()) if (c.node.tabIndex === 0) c.node.tabIndex = -1;
    if (byKey) node.tabIndex = 0;
    this.#focused?.classList.remove("focused");
    node.classList.add("focused");
    this.#focused = node;
    const cell = this.#cells.get(node.dataset.board ?? "");
    if (cell) this.onFocus(cell.board);
  }
  /** @param {HTMLElement | null} node */
  #open(node) {
    if (node) location.href = "/board/" + node.dataset.board;
  }
  /** @param {KeyboardEvent} e */
  #key(e) {
    const from = cellOf(document.activeElement);
    if (e.key === "Enter") this.#open(from);
    const step = steps.get(e.key);
    if (!step || !from) return;
    e.preventDefault();
    nearest(from, [...this.#cells.values()].map((c) => c.node), step)?.focus();
  }
}

/** @type {Map<string, [dx: number, dy: number]>} */
const steps = new Map([["ArrowLeft", [-1, 0]], ["ArrowRight", [1, 0]], ["ArrowUp", [0, -1]], ["ArrowDown", [0, 1]]]);

/**
 * @param {Element | null} node
 * @returns {HTMLElement | null}
 */
const cellOf = (node) => node?.closest(".board-cell") ?? null;

/** @param {Event} e */
const cellAt = (e) => cellOf(e.target instanceof Element ? e.target : null);

/**
 * touches reports whether an incident is one of a switch: it names it, or it is of several boards that
 * are more than half of it.
 * @param {Pick<Incident, "boards" | "labels">} i
 * @param {Switch} s
 */
export function touches(i, s) {
  if (i.labels?.switch && i.labels.rack === s.rack && i.labels.switch === s.name) return true;
  const hit = new Set(i.boards);
  return s.boards.length > 1 && s.boards.filter((b) => hit.has(b)).length > s.boards.length / 2;
}

/**
 * nearest finds the next cell in a direction, by where cells are on the screen and not by their order.
 * @param {HTMLElement} from
 * @param {HTMLElement[]} nodes
 * @param {[dx: number, dy: number]} step
 */
function nearest(from, nodes, [dx, dy]) {
  const a = from.getBoundingClientRect();
  let best = null;
  let bestCost = Infinity;
  for (const node of nodes) {
    if (node === from) continue;
    const b = node.getBoundingClientRect();
    const x = b.left + b.width / 2 - a.left - a.width / 2;
    const y = b.top + b.height / 2 - a.top - a.height / 2;
    const ahead = x * dx + y * dy;
    const aside = Math.abs(x * dy) + Math.abs(y * dx);
    if (ahead <= 1 || ahead + 4 * aside >= bestCost) continue;
    best = node;
    bestCost = ahead + 4 * aside;
  }
  return best;
}

/**
 * group splits boards by a key, in the natural order of the keys.
 * @param {Board[]} list
 * @param {(b: Board) => string} key
 * @returns {Group[]}
 */
export function group(list, key) {
  /** @type {Map<string, Board[]>} */
  const groups = new Map();
  for (const item of list) {
    const k = key(item);
    const known = groups.get(k);
    if (known) known.push(item);
    else groups.set(k, [item]);
  }
  return [...groups].sort(([a], [b]) => natural(a, b));
}

const nothing = "·";

/**
 * statText is one figure of a rack.
 * @param {Stat} key
 * @param {Board[]} boards
 */
export function statText(key, boards) {
  if (key === "median" || key === "hottest") {
    const t = boards.map((b) => current(b, "temperature")).filter((v) => v !== undefined).sort((a, b) => a - b);
    if (!t.length) return nothing;
    return tenths(key === "hottest" ? t[t.length - 1] : t[t.length >> 1]);
  }
  const n = boards.filter((b) => marks(b).includes(key)).length;
  return n ? String(n) : nothing;
}

/** @param {Board} b */
function clockText(b) {
  const [q, m] = [current(b, "requested"), current(b, "measured")];
  if (m === undefined) return q === undefined ? "" : `${mhz(q)} requested, not measured`;
  const lost = lostShare(b);
  return q === undefined ? mhz(m) : `${megahertz(m)} of ${mhz(q)}${lost ? ` (−${Math.round(lost * 100)} %)` : ""}`;
}

/**
 * readout shows below the map the board that is pointed at.
 * @param {Board | undefined} b
 * @param {number} now
 */
export function readout(b, now) {
  const box = $("readout");
  box.classList.toggle("on", Boolean(b));
  if (!b) {
    box.replaceChildren(el("span", { class: "dim" }, "Point at a board to read it here"));
    return;
  }
  const t = current(b, "temperature");
  const swatch = el("i", { class: "swatch" });
  if (t !== undefined) swatch.style.backgroundColor = colour(t).fill;
  const heat = t === undefined ? [] : [el("b", {}, swatch, celsius(t))];
  const list = marks(b).map((m) => el("span", {}, glyph(m, "is-" + m), " ", m === "silent" || m === "stopped" ? m : reasonWords[m]));
  const where = [b.labels.model, b.labels.customer, b.labels.rack && "rack " + b.labels.rack, b.labels.switch && shortSwitch(b.labels.switch)].filter(Boolean).join(" · ");
  const at = reportedAt(b);
  box.replaceChildren(el("b", {}, b.name), ...heat, ...list, el("span", {}, clockText(b)), el("span", { class: "dim" }, where), el("span", { class: "dim" }, at ? `reported ${age(now - at)} ago` : "never reported"), el("span", { class: "grow" }), el("span", { class: "dim" }, el("kbd", {}, "↵"), " open"));
}
