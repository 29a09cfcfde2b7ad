// A customer's board: what did it really run at, since it is mine?

/** @import { OwnBoardAnswer } from "../../types/server" */

import { BoardData } from "../board/data.js";
import { BoardGraphs } from "../board/follow.js";
import { lastReportOf } from "../board/head.js";
import { readHistory } from "../board/history.js";
import { ownStepFor } from "../board/series.js";
import { $, el, glyph } from "../page/dom.js";
import { get } from "../page/collector.js";
import { celsius, dayClock, mhz, none, reasonOrder, reasonWords, stoppedText } from "../page/format.js";
import { startOwnShell } from "../page/shell.js";

const rolledFrom = 900; // from this step on a history is asked, in which a step without readings is a gap

/** OwnData is the series of a customer's board: the collector leaves out readings of a time in which it was not theirs. */
class OwnData extends BoardData {
  /**
   * @override
   * @param {number} start
   * @param {number} end
   */
  async ask(start, end) {
    const step = ownStepFor(end - start);
    return readHistory("/api/own/boards/" + this.board, start, end, step, undefined, step >= rolledFrom);
  }
}

const name = document.body.dataset.board ?? "";
const live = startOwnShell();
const page = new BoardGraphs(live, name, new OwnData(name), head);

/** @type {OwnBoardAnswer | null} */
let info = null;
async function loadInfo() {
  /** @type {OwnBoardAnswer} */
  let answer;
  try {
    answer = await get("/api/own/boards/" + name);
  } catch {
    return; // asked again after the next hello
  }
  info = answer;
  page.graphs.setModel(answer.model);
  page.data.about({ enrolledAt: Math.max(answer.since ?? 0, answer.enrolledAt ?? 0), lastReport: answer.lastReport, stopped: answer.stopped });
  for (const l of answer.latest || []) page.take(l.series, l.at, l.value);
  page.say();
}

function head() {
  /** @param {string} s */
  const value = (s) => page.latest.get(s)?.value;
  const bits = reasonOrder.filter((r) => value(`pi_throttled{reason="${r}"}`));
  const { stopped } = page.data;
  const at = lastReportOf(info?.lastReport, page.latest);
  const silent = value("pi_board_up") === 0;
  /**
   * @param {string} title
   * @param {string} number
   */
  const figure = (title, number) => el("div", { class: "fig" }, el("span", {}, title), el("b", { class: "num" }, silent || stopped ? none : number));
  const state = silent ? [glyph("silent"), "Silent", at ? ", last heard " + dayClock(at, live.now()) : ""] : stopped ? [glyph("stopped"), stoppedText(at, live.now())] : info && !at ? ["Has never reported"] : bits.flatMap((r) => [glyph(r, "is-" + r), reasonWords[r] + " "]);
  $("board-head").replaceChildren(el("div", {}, el("div", { class: "crumbs" }, el("a", { href: "/own" }, "Your boards")), el("h1", {}, name), el("span", { class: "state" }, ...state)), el("span", { class: "grow" }),
    figure("SoC temperature", celsius(value("pi_soc_temperature_celsius"))), figure("clock requested", mhz(value('pi_cpu_clock_hertz{source="requested"}'))), figure("measured", mhz(value('pi_cpu_clock_hertz{source="measured"}'))));
}

live.on("hello", loadInfo);
