// A customer's board: what did it really run at, since it is mine?

import { $, el, glyph } from "./dom.js";
import { celsius, dayClock, mhz, none, reasonOrder, reasonWords } from "./format.js";
import { get } from "./api.js";
import { stoppedText } from "./boardhead.js";
import { BoardGraphs } from "./boardgraphs.js";
import { OwnData } from "./owndata.js";
import { startOwn } from "./ownshell.js";

const name = document.body.dataset.board;
const live = startOwn();
const page = new BoardGraphs(live, name, new OwnData(name), head);

let info = null;
async function loadInfo() {
  try {
    info = await get("/api/own/boards/" + name);
  } catch {
    return; // asked again after the next hello
  }
  page.graphs.setModel(info.model);
  page.data.about({ enrolledAt: Math.max(info.since ?? 0, info.enrolledAt ?? 0), lastReport: info.lastReport, stopped: info.stopped });
  for (const l of info.latest || []) page.take(l.series, l.at, l.value);
  page.say();
}

function head() {
  const value = (s) => page.latest.get(s)?.value;
  const bits = reasonOrder.filter((r) => value(`pi_throttled{reason="${r}"}`));
  const { stopped } = page.data;
  const at = Math.max(info?.lastReport ?? 0, ...[...page.latest].filter(([s]) => s !== "pi_board_up").map(([, v]) => v.at));
  const silent = value("pi_board_up") === 0;
  const figure = (what, number) => el("div", { class: "fig" }, el("span", {}, what), el("b", { class: "num" }, silent || stopped ? none : number));
  const state = silent ? [glyph("silent"), "Silent", at ? ", last heard " + dayClock(at, live.now()) : ""] : stopped ? [glyph("stopped"), stoppedText(at, live.now())] : info && !at ? ["Has never reported"] : bits.flatMap((r) => [glyph(r, "is-" + r), reasonWords[r] + " "]);
  $("board-head").replaceChildren(el("div", {}, el("div", { class: "crumbs" }, el("a", { href: "/own" }, "Your boards")), el("h1", {}, name), el("span", { class: "state" }, ...state)), el("span", { class: "grow" }),
    figure("SoC temperature", celsius(value("pi_soc_temperature_celsius"))), figure("clock requested", mhz(value('pi_cpu_clock_hertz{source="requested"}'))), figure("measured", mhz(value('pi_cpu_clock_hertz{source="measured"}'))));
}

live.addEventListener("hello", loadInfo);
