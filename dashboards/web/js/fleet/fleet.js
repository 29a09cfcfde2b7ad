// The fleet page answers one question: where is it hot, and what do I do now?

/** @import { Board } from "./state.js" */

import { $, el, typing } from "../page/dom.js";
import { DemoPanel } from "../page/demo.js";
import { startShell } from "../page/shell.js";
import { onTheme } from "../page/theme.js";
import { Filter } from "./filter.js";
import { Hottest } from "./hottest.js";
import { IncidentRows } from "./incidents.js";
import { Legend } from "./legend.js";
import { BoardMap, readout } from "./map.js";
import { Fleet } from "./state.js";
import { Summary } from "./summary.js";
import { BoardTable } from "./table.js";

const tableBelowMap = 200; // with fewer boards the table fits under the map
const repaintEvery = 100;
const summaryEvery = 1000;

const { live, incidents, demo } = startShell();
const fleet = new Fleet(live);
const filter = new Filter($("filters"));
const summary = new Summary(filter);
const halved = matchMedia("(max-width: 899px)"); // the map has half as many racks beside each other
const map = new BoardMap($("map"), halved, (b) => focus(b.name));
const legend = new Legend($("legend"));
const table = new BoardTable($("table"));
if (demo) new DemoPanel($("side"), demo);
const hottest = new Hottest($("side"));
const rows = new IncidentRows($("incident-rows"), incidents);
const narrow = matchMedia("(max-width: 599px)");

let focused = "";
let tableBuilt = false;
let summaryAt = 0;
/** @type {Set<Board>} */
const changed = new Set();

/** @param {string} name */
function focus(name) {
  focused = name;
  showReadout();
}
function showReadout() {
  readout(fleet.boards.get(focused), fleet.now());
}

const tableShown = () => filter.view === "table" || narrow.matches || fleet.boards.size <= tableBelowMap;

function layout() {
  filter.build(fleet.list());
  map.build(fleet.list());
  tableBuilt = false;
  summaryAt = 0;
  hottest.update(fleet.list(), fleet.now(), true);
  refilter();
}

function refilter() {
  const boards = fleet.list();
  const empty = boards.length === 0;
  const n = boards.filter((b) => filter.matches(b)).length;
  const nothing = !empty && n === 0;
  const mapShown = !empty && !nothing && filter.view === "map";
  for (const id of ["legend", "map", "readout"]) $(id).hidden = !mapShown;
  $("table").hidden = empty || nothing || !tableShown();
  $("filters").hidden = $("side").hidden = empty;
  $("empty").hidden = !empty && !nothing;
  if (empty) showEmpty();
  else if (nothing) showNoMatch(boards);
  if (!$("table").hidden && !tableBuilt) {
    table.build(boards, fleet.now());
    tableBuilt = true;
  }
  applyFilter(boards);
}
/** @param {Board[]} boards */
function applyFilter(boards) {
  map.filter((b) => filter.matches(b));
  map.outline(incidents.open());
  if (tableBuilt) table.filter((b) => filter.matches(b));
  filter.showCount(boards.filter((b) => filter.matches(b)).length, boards.length);
}

function showEmpty() {
  /**
   * @param {string} word
   * @param {string} [code]
   */
  const step = (word, code) => el("li", {}, word, code && el("pre", {}, code));
  $("empty").className = "empty";
  $("empty").replaceChildren(
    el("h2", {}, "No boards yet"), el("p", { class: "dim" }, "Enrol the first one in two commands."),
    el("ol", {}, step("Here, make a token for its place:", "collector board add r1-01 --label rack=r1"), step("On the board, as root:", `pisensor enrol nats://${location.hostname}:${document.body.dataset.boardsPort || "PORT"} TOKEN`), step("It appears here within 10 s of pisensor run.")),
    el("p", { class: "wait" }, "Waiting for a first report…"),
    el("p", { class: "dim" }, "No board at hand? ", el("code", {}, "collector demo --boards 48"), " shows this page with simulated ones."));
}
/** @param {Board[]} boards */
function showNoMatch(boards) {
  $("empty").className = "no-match";
  const drop = filter.without(boards).map((w) => el("p", {}, "Without ", el("button", { class: "plain", onclick: () => filter.set(w.key, "") }, `${w.key === "q" ? "text" : w.key} ${w.value}`), `: ${w.n} boards`));
  $("empty").replaceChildren(el("h2", {}, `None of ${boards.length} boards matches`), ...drop, el("button", { onclick: () => filter.clear() }, "Clear all filters"));
}

// paint runs at most ten times a second, however fast readings arrive.
function paint() {
  if (document.hidden || changed.size === 0) return;
  const list = [...changed];
  changed.clear();
  if (!$("map").hidden) map.update(list);
  if (tableBuilt) table.update(list, fleet.now());
  if (filter.values.state) refilter();
  if (focused) showReadout();
}
function figures() {
  if (document.hidden || !fleet.loaded || Date.now() - summaryAt < summaryEvery) return;
  summaryAt = Date.now();
  summary.update(fleet.list(), incidents, document.body.classList.contains("stale"));
  if (!$("map").hidden) legend.update(fleet.list());
  hottest.update(fleet.list(), fleet.now());
  rows.tick(fleet.now());
  showReadout();
}

fleet.on("layout", layout);
fleet.on("change", (boards) => boards.forEach((b) => changed.add(b)));
filter.on("change", refilter);
incidents.on("change", () => {
  map.outline(incidents.open());
  summaryAt = 0;
});
narrow.addEventListener("change", refilter);
halved.addEventListener("change", layout);
onTheme(() => {
  summaryAt = 0;
  if (tableBuilt) table.update(fleet.list(), fleet.now());
  hottest.update(fleet.list(), fleet.now(), true);
});
document.addEventListener("keydown", (e) => {
  if (typing(e)) {
    if (e.key === "Escape" && e.target instanceof HTMLElement) e.target.blur();
    return;
  }
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  if (e.key === "f") {
    e.preventDefault();
    document.getElementById("filter")?.focus();
  }
  if (e.key === "Escape" && filter.active) filter.clear();
});
setInterval(() => {
  paint();
  figures();
}, repaintEvery);
