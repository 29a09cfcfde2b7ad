// The map: racks are columns, switches are rows, and a board keeps its cell.

import { $, el, glyph, setAttr, setText } from "./dom.js";
import { celsius, natural, reasonWords, tenths } from "./format.js";
import { colour, onTheme } from "./scale.js";
import { current, marks, reportedAt, spoken } from "./fleetstate.js";

// narrow windows have room for half as many racks beside each other.
export const narrowWindow = matchMedia("(max-width: 899px)");
const racksPerLine = () => (narrowWindow.matches ? 4 : 8);
const noRack = "no rack";

// size: few boards get room for their numbers, many get a picture.
function size(n) {
  if (n <= 64) return { name: "l", columns: 4 };
  if (n <= 400) return { name: "m", columns: 6 };
  if (n <= 2000) return { name: "s", columns: 6 };
  return { name: "xs", columns: 12 };
}
const place = (b) => b.labels.slot || b.labels.port || b.name;

export class BoardMap {
  #cells = new Map();
  #switches = [];
  #stats = [];

  constructor(box, onFocus) {
    this.box = box;
    this.onFocus = onFocus;
    box.setAttribute("role", "grid");
    box.setAttribute("aria-label", "Boards by rack and switch; arrow keys move, Enter opens");
    box.addEventListener("pointerover", (e) => this.#focus(e.target.closest(".board-cell"), false));
    box.addEventListener("focusin", (e) => this.#focus(e.target.closest(".board-cell"), true));
    box.addEventListener("click", (e) => this.#open(e.target.closest(".board-cell")));
    box.addEventListener("keydown", (e) => this.#key(e));
    onTheme(() => this.update([...this.#cells.values()].map((c) => c.board)));
  }

  build(boards) {
    this.#cells.clear();
    this.#switches = [];
    this.#stats = [];
    const racks = group(boards, (b) => b.labels.rack || noRack);
    const s = size(boards.length);
    this.marksShown = s.name === "l" || s.name === "m" ? 2 : 1;
    this.box.className = "map size-" + s.name;
    const lines = [];
    const most = racksPerLine();
    for (let i = 0; i < racks.length; i += most) lines.push(this.#line(racks.slice(i, i + most), s, Math.min(racks.length, most)));
    this.box.replaceChildren(...lines);
    const first = this.box.querySelector(".board-cell");
    if (first) first.tabIndex = 0;
    this.update(boards);
  }

  #line(racks, s, columns) {
    const perRack = racks.map(([, boards]) => group(boards, (b) => b.labels.switch || ""));
    const rows = Math.max(...perRack.map((p) => p.length));
    const line = el("div", { class: "rack-line" });
    line.style.gridTemplateColumns = `64px repeat(${columns}, minmax(0, ${s.name === "l" && columns < 3 ? "440px" : "1fr"}))`;
    const put = (node, column) => {
      node.style.gridColumn = String(column);
      line.append(node);
    };
    racks.forEach(([name, boards], c) => put(this.#rackHead(name, boards), c + 2));
    for (let r = 0; r < rows; r++) {
      const names = new Set(perRack.map((p) => p[r]?.[0]).filter((n) => n !== undefined));
      const shared = names.size === 1 ? [...names][0] : null;
      put(el("div", { class: "switch-name" }, shared ? shortSwitch(shared) : ""), 1);
      perRack.forEach((p, c) => p[r] && put(this.#block(racks[c][0], p[r], s, shared === null), c + 2));
    }
    this.#statRows(racks, put);
    return line;
  }

  #rackHead(name, boards) {
    const title = /^rack\b|^no rack/i.test(name) ? name : "Rack " + name;
    return el("div", { class: "rack-head" }, el("b", {}, title), el("span", {}, boards.length === 1 ? "1 board" : `${boards.length} boards`));
  }

  #block(rack, [name, boards], s, labelled) {
    const block = el("div", { class: "switch", role: "row" });
    const columns = Math.max(s.columns, s.name === "l" ? 0 : Math.ceil(boards.length / 10));
    block.style.gridTemplateColumns = `repeat(${Math.min(columns, Math.max(2, boards.length))}, minmax(0, 1fr))`;
    if (labelled && name) block.append(el("span", { class: "label" }, shortSwitch(name)));
    for (const b of [...boards].sort((x, y) => natural(place(x), place(y)))) block.append(this.#cell(b));
    this.#switches.push({ block, rack, name, boards: boards.map((b) => b.name) });
    return block;
  }

  #cell(b) {
    const node = el("div", { class: "board-cell", role: "gridcell", tabindex: "-1", "data-board": b.name });
    const name = el("span", { class: "nm" }, b.name);
    const temperature = el("span", { class: "tp" });
    const box = el("span", { class: "marks" });
    node.append(name, " ", temperature, box); // the name of the cell begins with what is seen in it
    this.#cells.set(b.name, { node, temperature, box, board: b, marks: "" });
    return node;
  }

  update(changed) {
    for (const b of changed) {
      const c = this.#cells.get(b.name);
      if (!c) continue;
      c.board = b;
      this.#paint(c, b);
    }
    this.#updateStats();
  }

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
      c.box.replaceChildren(...list.slice(0, this.marksShown).map((m) => glyph(m)));
      setAttr(c.node, "data-state", c.marks || null);
    }
  }

  filter(matches) {
    for (const c of this.#cells.values()) c.node.classList.toggle("out", !matches(c.board));
  }

  // outline marks the switch that an incident names; it ends with the incident.
  outline(incidents) {
    for (const s of this.#switches) {
      const hit = incidents.find((i) => names(i, s) || covers(i, s));
      s.block.classList.toggle("firing", hit?.state === "firing");
      s.block.classList.toggle("acknowledged", hit?.state === "acknowledged");
    }
  }

  #statRows(racks, put) {
    const rows = [["median °C", "median"], ["hottest °C", "hottest"], ["throttled", "throttled"], ["under-volt", "under_voltage"], ["silent", "silent"]];
    rows.forEach(([word, key], i) => {
      const first = i === 0 ? " first" : "";
      put(el("div", { class: "rack-stat head" + first }, word), 1);
      racks.forEach(([, boards], c) => {
        const node = el("div", { class: "rack-stat num" + first });
        this.#stats.push({ node, key, names: boards.map((b) => b.name) });
        put(node, c + 2);
      });
    });
  }

  #updateStats() {
    for (const s of this.#stats) {
      const boards = s.names.map((n) => this.#cells.get(n).board);
      const text = statText(s.key, boards);
      if (s.text === text) continue;
      s.text = text;
      const plain = s.key === "median" || s.key === "hottest";
      s.node.replaceChildren(...(text === "·" ? [el("span", { class: "none" }, text)] : plain ? [text] : [glyph(s.key), " ", el("b", {}, text)]));
    }
  }

  #focus(node, byKey) {
    if (!node || node === this.focused) return;
    if (byKey) for (const c of this.box.querySelectorAll('[tabindex="0"]')) c.tabIndex = -1;
    if (byKey) node.tabIndex = 0;
    this.focused?.classList.remove("focused");
    node.classList.add("focused");
    this.focused = node;
    this.onFocus(this.#cells.get(node.dataset.board).board);
  }
  #open(node) {
    if (node) location.href = "/board/" + node.dataset.board;
  }
  #key(e) {
    if (e.key === "Enter") this.#open(document.activeElement.closest(".board-cell"));
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
    const from = document.activeElement.closest(".board-cell");
    if (!step || !from) return;
    e.preventDefault();
    nearest(from, [...this.#cells.values()].map((c) => c.node), step)?.focus();
  }
}

const names = (i, s) => Boolean(i.labels?.switch) && i.labels.rack === s.rack && i.labels.switch === s.name;
// covers: an incident of several boards that are most of a switch is the switch's.
const covers = (i, s) => s.boards.length > 1 && s.boards.filter((b) => (i.boards || []).includes(b)).length > s.boards.length / 2;

// nearest finds the next cell in a direction, by what is seen and not by the order of elements.
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

function group(list, key) {
  const groups = new Map();
  for (const item of list) {
    const k = key(item);
    if (!groups.has(k)) groups.set(k, []);
    groups.get(k).push(item);
  }
  return [...groups].sort(([a], [b]) => natural(a, b));
}
export const shortSwitch = (name) => (/switch|sw/i.test(name) ? name : "switch " + name);

function statText(key, boards) {
  if (key === "median" || key === "hottest") {
    const t = boards.map((b) => current(b, "temperature")).filter((v) => v !== undefined).sort((a, b) => a - b);
    if (!t.length) return "·";
    return tenths(key === "hottest" ? t[t.length - 1] : t[t.length >> 1]);
  }
  const n = boards.filter((b) => marks(b).includes(key)).length;
  return n ? String(n) : "·";
}

export function readout(b, now, fmt) {
  const box = $("readout");
  box.classList.toggle("on", Boolean(b));
  if (!b) {
    box.replaceChildren(el("span", { class: "dim" }, "Point at a board to read it here"));
    return;
  }
  const t = current(b, "temperature");
  const swatch = el("i", { class: "swatch" });
  if (t !== undefined) swatch.style.backgroundColor = colour(t).fill;
  const heat = t === undefined ? null : el("b", {}, swatch, celsius(t));
  const list = marks(b).map((m) => el("span", {}, glyph(m, "is-" + m), " ", reasonWords[m] ?? m));
  const place = [b.labels.model, b.labels.customer, b.labels.rack && "rack " + b.labels.rack, b.labels.switch && shortSwitch(b.labels.switch)].filter(Boolean).join(" · ");
  const at = reportedAt(b);
  box.replaceChildren(el("b", {}, b.name), ...[heat].filter(Boolean), ...list, el("span", {}, fmt.clockText(b)), el("span", { class: "dim" }, place), el("span", { class: "dim" }, at ? `reported ${fmt.age(now - at)} ago` : "never reported"), el("span", { class: "grow" }), el("span", { class: "dim" }, el("kbd", {}, "↵"), " open"));
}
