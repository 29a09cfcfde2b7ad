// A board's page answers one question: what did it really run at?

import { $ } from "./dom.js";
import { get } from "./api.js";
import { BoardData, ranges } from "./boarddata.js";
import { BoardGraphs } from "./boardgraphs.js";
import { BoardHead, facts, otherReadings } from "./boardhead.js";
import { startShell } from "./shell.js";

const name = document.body.dataset.board;
const { live, incidents } = startShell();
const head = new BoardHead(name, incidents);
const page = new BoardGraphs(live, name, new BoardData(name), words);

let info = { name, labels: {} };
let others = null;

function words() {
  head.update({ ...info, stopped: page.data.stopped }, page.latest, live.now());
  if (others) otherReadings(others, page.latest, live.now());
}

async function loadInfo() {
  try {
    info = { ...(await get("/api/boards/" + name)), loaded: true };
  } catch {
    return; // asked again after the next hello
  }
  page.graphs.setModel(info.labels?.model);
  page.data.about(info);
  for (const l of info.latest || []) page.take(l.series, l.at, l.value);
  others = await facts($("facts"), info);
  page.say();
}

live.addEventListener("hello", loadInfo);
incidents.addEventListener("change", () => page.say());
document.addEventListener("keydown", (e) => {
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(e.target.tagName) || e.ctrlKey || e.metaKey || e.altKey) return;
  const preset = Object.keys(ranges)[Number(e.key) - 1];
  if (preset) page.view.preset(preset);
  else if (e.key === "l") page.lease.toggle();
  else if (e.key === "Escape") page.view.fixed ? page.view.back() : (location.href = "/");
});
