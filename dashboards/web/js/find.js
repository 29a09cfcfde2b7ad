// Find: boards, places, customers and incidents by any part of them, from any page.

import { $, el } from "./dom.js";
import { natural } from "./format.js";
import { get } from "./api.js";

const rows = 10; // shown at most
const filters = ["rack", "customer", "model"]; // labels that the fleet filters by; others are searched for as words
const kinds = ["rack", "switch", "nfs", "site", "customer", "model"];

const label = (kind, value) => ({
  text: value, kind, url: "/?" + new URLSearchParams(filters.includes(kind) ? { [kind]: value } : { q: value }),
});

// candidates are all that can be found.
function candidates(boards, incidents) {
  const labels = new Map();
  for (const b of boards) for (const k of kinds) if (b.labels[k]) labels.set(k + "\n" + b.labels[k], label(k, b.labels[k]));
  return [
    ...boards.map((b) => ({ text: b.name, kind: "board", url: "/board/" + encodeURIComponent(b.name) })),
    ...labels.values(),
    ...incidents.map((i) => ({ text: "#" + i.number, kind: "incident", more: i.title, url: "/incidents?id=" + encodeURIComponent(i.id) })),
  ];
}

// rank is 0 for the whole text, 1 for its beginning, 2 for a part of it, and -1 for none of it.
function rank(c, typed) {
  const text = c.text.toLowerCase();
  const word = c.kind === "incident" ? "#" + typed.replace(/^#/, "") : typed;
  if (text === word) return 0;
  return text.startsWith(word) ? 1 : c.kind !== "incident" && text.includes(word) ? 2 : -1;
}

// matches returns the best rows for what was typed, boards before the rest where they match as well.
export function matches(all, typed) {
  const found = all.map((c, i) => ({ c, i, rank: rank(c, typed.toLowerCase()) })).filter((m) => m.rank >= 0);
  found.sort((a, b) => a.rank - b.rank || (a.c.kind === b.c.kind ? natural(a.c.text, b.c.text) : a.i - b.i));
  return found.map((m) => m.c);
}

export function startFind(incidents) {
  const input = $("find"), list = $("find-list"), note = $("find-note");
  let boards = null, failed = false, found = [], at = -1;

  document.addEventListener("keydown", (e) => {
    if (e.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(e.target.tagName)) {
      e.preventDefault();
      input.focus();
    }
  });
  input.addEventListener("focus", load);
  input.addEventListener("input", () => show());
  incidents.addEventListener("change", () => found.length || show()); // rows stay where they are under the pointer
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (e) => {
    if (e.key === "ArrowDown" || e.key === "ArrowUp") {
      e.preventDefault();
      mark(found.length ? (at + (e.key === "ArrowDown" ? 1 : found.length + (at < 0 ? 1 : 0) - 1)) % found.length : -1);
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
      ({ boards } = await get("/api/boards"));
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

  // show draws the rows for the text in the field; the row that leads to marked stays marked.
  function show(marked) {
    const typed = input.value.trim();
    if (!typed || document.activeElement !== input) return close();
    const all = boards ? matches(candidates(boards, incidents.list), typed) : [];
    found = all.slice(0, rows);
    list.replaceChildren(...found.map((c, i) =>
      el("li", { id: "find-" + i, role: "option", onmousedown: (e) => e.preventDefault(), onclick: () => { location.href = c.url; } },
        el("b", {}, c.text), el("span", { class: "dim" }, c.more ? `${c.kind}: ${c.more}` : c.kind))));
    list.hidden = !found.length;
    note.textContent = remark(typed, all.length);
    input.setAttribute("aria-expanded", String(found.length > 0));
    mark(found.findIndex((c) => c.url === marked));
  }

  // remark says why rows are missing. The page has the newest incidents only, so an absent number may be an older one.
  function remark(typed, n) {
    if (failed) return "The collector does not answer: the boards could not be read.";
    if (n > rows) return `and ${n - rows} more: type on`;
    if (n || !boards) return "";
    if (!/^#?\d+$/.test(typed)) return `Nothing is called “${typed}”.`;
    if (!incidents.loaded) return "The incidents have not been read yet.";
    return `Nothing is called “${typed}”. Incidents older than those on the Incidents page are not searched.`;
  }

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
