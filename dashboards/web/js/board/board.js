// A board's page answers one question: what did it really run at?

/** @import { BoardAnswer } from "../../types/server" */
/** @import { Info } from "./head.js" */

import { $, typing } from "../page/dom.js";
import { get } from "../page/collector.js";
import { startShell } from "../page/shell.js";
import { BoardData } from "./data.js";
import { BoardGraphs } from "./follow.js";
import { BoardHead, facts, otherReadings } from "./head.js";
import { presets } from "./view.js";

const name = document.body.dataset.board ?? "";
const { live, incidents } = startShell();
const head = new BoardHead(name, incidents);
const page = new BoardGraphs(live, name, new BoardData(name), words);

/** @type {Info} */
let info = { name, labels: {} };
/** @type {HTMLElement | null} */
let others = null;

function words() {
  head.update({ ...info, stopped: page.data.stopped }, page.latest, live.now());
  if (others) otherReadings(others, page.latest, live.now());
}

async function loadInfo() {
  try {
    /** @type {BoardAnswer} */
    const answer = await get("/api/boards/" + name);
    info = { ...answer, loaded: true };
  } catch {
    return; // asked again after the next hello
  }
  page.graphs.setModel(info.labels?.model);
  page.data.about(info);
  for (const l of info.latest || []) page.take(l.series, l.at, l.value);
  others = await facts($("facts"), info);
  page.say();
}

live.on("hello", loadInfo);
incidents.on("change", () => page.say());
document.addEventListener("keydown", (e) => {
  if (typing(e) || e.ctrlKey || e.metaKey || e.altKey) return;
  const preset = presets[Number(e.key) - 1];
  if (preset) page.view.preset(preset);
  else if (e.key === "l") page.lease.toggle();
  else if (e.key === "Escape" && page.view.fixed) page.view.back();
  else if (e.key === "Escape") location.href = "/";
});
