// A board's page answers one question: what did it really run at?

import { $, el, setText } from "./dom.js";
import { get } from "./api.js";
import { BoardData, ranges } from "./boarddata.js";
import { BoardHead, facts, otherReadings } from "./boardhead.js";
import { BoardText } from "./boardtext.js";
import { BoardView, Lease } from "./boardview.js";
import { Graphs } from "./graphs.js";
import { startShell } from "./shell.js";

const repaintEvery = 100;
const wordsEvery = 1000;
const refetchEvery = 60000; // read again, so that steps stay whole and readings that come late, after an outage, are seen
const loadingAfter = 300;

const name = document.body.dataset.board;
const { live, incidents } = startShell();
const data = new BoardData(name);
const lease = new Lease(live, name);
const view = new BoardView(live, lease);
const graphs = new Graphs($("graphs"), data, { zoom: (r) => view.zoom(r), back: () => view.back() });
graphs.start();
const text = new BoardText($("graphs"), data);
const head = new BoardHead(name, incidents);
const note = el("span", { class: "loading-note", hidden: true });
const failure = el("div", { class: "graph-error", hidden: true });
$("graphs").prepend(note, failure);

let info = { name, labels: {} };
let others = null;
let latest = new Map(); // series → {at, value}
let dirty = true;
let loading = null;
let loadedAt = Date.now();
let pendingLive = []; // readings that arrive while a range is being read
let wordsAt = 0;

async function loadInfo() {
  try {
    info = await get("/api/boards/" + name);
  } catch {
    return; // asked again after the next hello
  }
  for (const l of info.latest || []) take(l.series, l.at, l.value);
  others = await facts($("facts"), info);
  wordsAt = 0;
}
function take(series, at, value) {
  const known = latest.get(series);
  if (value === null) latest.delete(series);
  else if (!known || at >= known.at) latest.set(series, { at, value });
}

// load reads the range; live readings of the meantime follow, so that nothing is missing in between.
async function load() {
  const [start, end] = view.window();
  const mine = (loading = {});
  const slow = setTimeout(() => {
    note.hidden = false;
    setText(note, "reading the store…");
  }, loadingAfter);
  pendingLive = [];
  try {
    await data.load(start, end, () => mine === loading);
    if (mine !== loading) return;
    failure.hidden = true;
    for (const m of pendingLive) data.add(m);
  } catch (e) {
    if (mine === loading) showFailure(e);
  } finally {
    clearTimeout(slow);
    if (mine === loading) {
      loading = null;
      note.hidden = true;
      loadedAt = Date.now();
      graphs.view = [0, 0]; // also a view that stands still is drawn again
      dirty = true;
    }
  }
}
function showFailure(e) {
  failure.hidden = false;
  failure.replaceChildren(el("b", {}, "The stored readings could not be read"), el("p", { class: "dim" }, e.message + ". Live readings and alerts do not depend on the store and go on."), el("button", { class: "primary", onclick: load }, "Try again"));
}

function reading(m) {
  if (m.board !== name) return;
  for (const [series, value] of Object.entries(m.values)) take(series, m.at, value);
  if (loading) pendingLive.push(m);
  if (data.add(m)) dirty = true;
}

function paint() {
  if (document.hidden) return;
  const now = Date.now();
  if (now - wordsAt >= wordsEvery) {
    wordsAt = now;
    view.tick();
    head.update(info, latest, live.now());
    if (others) otherReadings(others, latest, live.now());
    text.update(view.window(), live.now());
    if (!view.fixed && live.state !== "unreachable") dirty = true; // time goes on without readings
  }
  if (!view.fixed && !loading && now - loadedAt > refetchEvery) load();
  if (!dirty || view.window()[1] === graphs.view[1]) return;
  dirty = false;
  const window = view.window();
  data.trim(window[0] - 60);
  graphs.draw(window);
}

live.subscribe("board", { type: "subscribe", board: name });
live.addEventListener("reading", (e) => reading(e.detail));
live.addEventListener("skipped", load);
live.addEventListener("hello", loadInfo);
live.addEventListener("subscribed", (e) => e.detail.board === name && load()); // not before: what comes in between would be nowhere
view.addEventListener("change", () => {
  graphs.view = [0, 0];
  load();
});
incidents.addEventListener("change", () => (wordsAt = 0));
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !view.fixed) load();
});
document.addEventListener("keydown", (e) => {
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(e.target.tagName) || e.ctrlKey || e.metaKey || e.altKey) return;
  const preset = Object.keys(ranges)[Number(e.key) - 1];
  if (preset) view.preset(preset);
  else if (e.key === "l") lease.toggle();
  else if (e.key === "Escape") view.fixed ? view.back() : (location.href = "/");
});
setInterval(paint, repaintEvery);
paint();
