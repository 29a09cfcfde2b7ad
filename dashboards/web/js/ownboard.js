// A customer's board: what did it really run at, since it is mine?

import { $, el, glyph, setText } from "./dom.js";
import { celsius, dayClock, mhz, none, reasonOrder, reasonWords } from "./format.js";
import { get } from "./api.js";
import { OwnData } from "./owndata.js";
import { BoardText } from "./boardtext.js";
import { BoardView, Lease } from "./boardview.js";
import { Graphs } from "./graphs.js";
import { startOwn } from "./ownshell.js";

const refetchEvery = 60000; // so that steps stay whole and readings that come late are seen
const name = document.body.dataset.board;
const live = startOwn();
const data = new OwnData(name);
const view = new BoardView(live, new Lease(live, name));
const graphs = new Graphs($("graphs"), data, { zoom: (r) => view.zoom(r), back: () => view.back() });
graphs.start();
const text = new BoardText($("graphs"), data);
const failure = el("div", { class: "graph-error", role: "alert", hidden: true });
$("graphs").prepend(failure);

const latest = new Map(); // series → {at, value}
let dirty = true;
let loading = null;
let loadedAt = Date.now();
let pending = []; // readings that arrive while a range is being read
let wordsAt = 0;

function take(series, at, value) {
  if (value === null) latest.delete(series);
  else if (!latest.has(series) || at >= latest.get(series).at) latest.set(series, { at, value });
}
async function loadInfo() {
  try {
    for (const l of (await get("/api/own/boards/" + name)).latest || []) take(l.series, l.at, l.value);
  } catch {
    return; // asked again after the next hello
  }
  wordsAt = 0;
}
async function load() {
  const mine = (loading = {});
  pending = [];
  let wrong = "";
  try {
    await data.load(...view.window(), () => mine === loading);
  } catch (e) {
    wrong = e.message;
  }
  if (mine !== loading) return;
  loading = null;
  loadedAt = Date.now();
  failure.hidden = !wrong;
  setText(failure, wrong && "The stored readings could not be read: " + wrong);
  for (const m of pending) data.add(m);
  graphs.view = [0, 0];
  dirty = true;
}
function head() {
  const value = (s) => latest.get(s)?.value;
  const bits = reasonOrder.filter((r) => value(`pi_throttled{reason="${r}"}`));
  const at = Math.max(0, ...[...latest.values()].map((v) => v.at));
  const silent = value("pi_board_up") === 0;
  const figure = (what, number) => el("div", { class: "fig" }, el("span", {}, what), el("b", { class: "num" }, silent ? none : number));
  const state = silent ? [glyph("silent"), "Silent", at ? ", last heard " + dayClock(at, live.now()) : ""] : bits.flatMap((r) => [glyph(r, "is-" + r), reasonWords[r] + " "]);
  $("board-head").replaceChildren(el("div", {}, el("div", { class: "crumbs" }, el("a", { href: "/own" }, "Your boards")), el("h1", {}, name), el("span", { class: "state" }, ...state)), el("span", { class: "grow" }),
    figure("SoC temperature", celsius(value("pi_soc_temperature_celsius"))), figure("clock requested", mhz(value('pi_cpu_clock_hertz{source="requested"}'))), figure("measured", mhz(value('pi_cpu_clock_hertz{source="measured"}'))));
}
function paint() {
  if (document.hidden) return;
  if (Date.now() - wordsAt >= 1000) {
    wordsAt = Date.now();
    view.tick();
    head();
    text.update(view.window(), live.now());
    if (!view.fixed && live.state !== "unreachable") dirty = true; // time goes on without readings
  }
  if (!view.fixed && !loading && Date.now() - loadedAt > refetchEvery) load();
  if (!dirty || view.window()[1] === graphs.view[1]) return;
  dirty = false;
  data.trim(view.window()[0] - 60);
  graphs.draw(view.window());
}

live.subscribe("board", { type: "subscribe", board: name });
live.addEventListener("reading", ({ detail: m }) => {
  if (m.board !== name) return;
  for (const [series, value] of Object.entries(m.values)) take(series, m.at, value);
  if (loading) pending.push(m);
  if (data.add(m)) dirty = true;
});
live.addEventListener("skipped", load);
live.addEventListener("hello", loadInfo);
live.addEventListener("subscribed", (e) => e.detail.board === name && load()); // not before: what comes in between would be nowhere
view.addEventListener("change", () => {
  graphs.view = [0, 0];
  load();
});
document.addEventListener("visibilitychange", () => document.hidden || view.fixed || load());
setInterval(paint, 100);
