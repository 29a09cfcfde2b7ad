// Find: boards, places, customers and incidents by any part of them, from any page.

/** @import { Boards, BoardAnswer, Incident } from "../../types/server" */
/** @import { Incidents } from "./incidents.js" */

import { $, el, typing } from "./dom.js";
import { natural } from "./format.js";
import { get } from "./collector.js";
import { incidentLink } from "./incidents.js";

const rows = 10; // shown at most
const filters = ["rack", "customer", "model"]; // labels that the fleet filters by; others are searched for as words
const kinds = ["rack", "switch", "nfs", "site", "customer", "model"];

/**
 * @typedef {object} Candidate
 * @property {string} text
 * @property {string} kind
 * @property {string} [more]
 * @property {string} url
 */

/**
 * @param {string} kind
 * @param {string} value
 * @returns {Candidate}
 */
const label = (kind, value) => ({ text: value, kind, url: "/?" + new URLSearchParams(filters.includes(kind) ? { [kind]: value } : { q: value }) });

/**
 * candidates are all that can be found: boards first, then the labels of places, then incidents.
 * @param {Pick<BoardAnswer, "name" | "labels">[]} boards
 * @param {Pick<Incident, "id" | "number" | "title">[]} incidents
 * @returns {Candidate[]}
 */
export function candidates(boards, incidents) {
  /** @type {Map<string, Candidate>} */
  const labels = new Map();
  for (const b of boards) for (const k of kinds) if (b.labels[k]) labels.set(k + "\n" + b.labels[k], label(k, b.labels[k]));
  return [
    ...boards.map((b) => ({ text: b.name, kind: "board", url: "/board/" + encodeURIComponent(b.name) })),
    ...labels.values(),
    ...incidents.map((i) => ({ text: "#" + i.number, kind: "incident", more: i.title, url: incidentLink(i) })),
  ];
}

/**
 * rank is 0 for the whole text, 1 for its beginning, 2 for a part of it, and -1 for none of it.
 * @param {Candidate} c
 * @param {string} typed in lower case
 */
function rank(c, typed) {
  const text = c.text.toLowerCase();
  const word = c.kind === "incident" ? "#" + typed.replace(/^#/, "") : typed;
  if (text === word) return 0;
  return text.startsWith(word) ? 1 : c.kind !== "incident" && text.includes(word) ? 2 : -1;
}

/**
 * matches returns the best rows for a typed text, boards before the rest where they match as well.
 * @param {Candidate[]} all
 * @param {string} typed
 */
export function matches(all, typed) {
  const found = all.map((c, i) => ({ c, i, rank: rank(c, typed.toLowerCase()) })).filter((m) => m.rank >= 0);
  found.sort((a, b) => a.rank - b.rank || (a.c.kind === b.c.kind ? natural(a.c.text, b.c.text) : a.i - b.i));
  return found.map((m) => m.c);
}

/**
 * remark says why rows are missing. The page has the newest incidents only, so an absent number may be
 * an older one.
 * @param {string} typed
 * @param {number} n how many rows match
 * @param {{ failed: boolean, boards: boolean, incidents: boolean }} read which lists are there
 */
export function remark(typed, n, read) {
  if (read.failed) return "The collector does not answer: the boards could not be read.";
  if (n > rows) return `and ${n - rows} more: type on`;
  if (n || !read.boards) return "";
  if (!/^#?\d+$/.test(typed)) return `Nothing is called “${typed}”.`;
  if (!read.incidents) return "The incidents have not been read yet.";
  return `Nothing is called “${typed}”. Incidents older than those on the Incidents page are not searched.`;
}

/**
 * following is the row to mark when an arrow key is pressed at a row; -1 is none.
 * @param {number} at
 * @param {boolean} down
 * @param {number} n how many rows there are
 */
export function following(at, down, n) {
  if (!n) return -1;
  if (at < 0) return down ? 0 : n - 1;
  return (at + (down ? 1 : n - 1)) % n;
}

/**
 * startFind makes the field of the header work.
 * @param {Incidents} incidents
 */
export function startFind(incidents) {
  const input = $("find", HTMLInputElement), list = $("find-list"), note = $("find-note");
  /** @type {BoardAnswer[] | null} */
  let boards = null;
  /** @type {Candidate[]} */
  let found = [];
  let failed = false, at = -1;

  document.addEventListener("keydown", (e) => {
    if (e.key === "/" && !typing(e)) {
      e.preventDefault();
      input.focus();
    }
  });
  input.addEventListener("focus", load);
  input.addEventListener("input", () => show());
  incidents.on("change", () => found.length || show()); // rows stay where they are under the pointer
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (e) => {
    if (e.key === "ArrowDown" || e.key === "ArrowUp") {
      e.preventDefault();
      mark(following(at, e.key === "ArrowDown", found.length));
    } else if (e.key === "Enter") {
      e.preventDefault();
      enter();
    } else if (e.key === "Escape") {
      close();
      input.blur();
    }
  });

  async function load() {
    try {
      /** @type {Boards} */
      const answer = await get("/api/boards");
      boards = answer.boards;
      failed = false;
    } catch {
      failed = boards === null; // boards that were read before are better than none
    }
    show(found[at]?.url);
  }

  // enter opens the marked row, else the first one.
  async function enter() {
    if (!input.value.trim()) return;
    if (boards === null) await load();
    const c = found[Math.max(at, 0)];
    if (c) location.href = c.url;
  }

  /**
   * show draws the rows for the text in the field; the row that leads to marked stays marked.
   * @param {string} [marked]
   */
  function show(marked) {
    const typed = input.value.trim();
    if (!typed || document.activeElement !== input) return close();
    const all = boards ? matches(candidates(boards, incidents.list), typed) : [];
    found = all.slice(0, rows);
    list.replaceChildren(...found.map(row));
    list.hidden = !found.length;
    note.textContent = remark(typed, all.length, { failed, boards: boards !== null, incidents: incidents.loaded });
    input.setAttribute("aria-expanded", String(found.length > 0));
    mark(found.findIndex((c) => c.url === marked));
  }

  /**
   * @param {Candidate} c
   * @param {number} i
   */
  function row(c, i) {
    const open = () => {
      location.href = c.url;
    };
    return el("li", { id: "find-" + i, role: "option", onmousedown: (e) => e.preventDefault(), onclick: open },
      el("b", {}, c.text), el("span", { class: "dim" }, c.more ? `${c.kind}: ${c.more}` : c.kind));
  }

  /** @param {number} i */
  function mark(i) {
    at = i;
    for (const [n, li] of [...list.querySelectorAll("[role=option]")].entries()) li.setAttribute("aria-selected", String(n === at));
    if (at >= 0) input.setAttribute("aria-activedescendant", "find-" + at);
    else input.removeAttribute("aria-activedescendant");
  }

  function close() {
    list.hidden = true;
    note.textContent = "";
    found = [];
    input.setAttribute("aria-expanded", "false");
    mark(-1);
  }
}
