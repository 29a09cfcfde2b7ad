// A customer's first page: which of my boards is in trouble?

/** @import { OwnAlert, OwnAlerts, OwnBoardAnswer, OwnBoards } from "../../types/server" */
/** @import { Glyph } from "../page/dom.js" */

import { $, el, glyph, part } from "../page/dom.js";
import { get, keepFresh } from "../page/collector.js";
import { celsius, dayClock, duration, mhz, none, reasonWords, zone } from "../page/format.js";
import { startOwnShell } from "../page/shell.js";
import { kindName, startSettings } from "./settings.js";

const live = startOwnShell();
const settings = startSettings(live);

async function load() {
  /** @type {[OwnBoards, OwnAlerts]} */
  const [own, past] = await Promise.all([get("/api/own/boards"), get("/api/own/alerts")]);
  $("own-boards").replaceChildren(...(own.boards.length ? own.boards.map((b) => boardRow(b, own.now)) : [el("tr", {}, el("td", { colspan: 5, class: "dim" }, "No board is yours at present."))]));
  settings.boards(own.boards.map((b) => b.name));
  $("own-alerts").replaceChildren(...(past.alerts.length ? past.alerts.map((a) => alertRow(a, past.now)) : [el("li", { class: "none dim" }, "None.")]));
}

/**
 * @param {OwnBoardAnswer} b
 * @param {number} now
 */
function boardRow(b, now) {
  const away = b.up === false || b.stopped;
  return el("tr", { "data-board": b.name }, el("td", {}, el("a", { href: "/own/board/" + b.name }, b.name), b.model ? el("span", { class: "dim" }, " " + b.model) : ""),
    el("td", {}, stateOf(b)), el("td", { class: "num" }, away ? none : celsius(b.temperature)), el("td", { class: "num" }, away ? none : mhz(b.measured ?? b.requested)),
    el("td", { class: "num" }, b.lastReport ? dayClock(b.lastReport, now) : "never"));
}
/** @param {OwnBoardAnswer} b */
function stateOf(b) {
  /**
   * @param {Glyph} g
   * @param {string} text
   * @param {string} [extra]
   */
  const word = (g, text, extra) => el("span", { class: "state" }, glyph(g, extra), text);
  if (b.up === false) return word("silent", "silent");
  if (b.stopped) return word("stopped", "stopped");
  if (b.throttled?.length) return el("span", {}, ...b.throttled.map((r) => word(r, reasonWords[r], "is-" + r)));
  return el("span", { class: "dim" }, b.up ? "reports" : "not known");
}
/**
 * @param {OwnAlert} a
 * @param {number} now
 */
function alertRow(a, now) {
  const until = a.until ? `${dayClock(a.since, now)} to ${dayClock(a.until, now)} ${zone(now)}, ${duration(a.until - a.since)}` : `since ${dayClock(a.since, now)} ${zone(now)}`;
  return el("li", { class: a.until ? "" : "bad" }, glyph(a.until ? "acknowledged" : a.severity === "critical" ? "critical" : "warning"),
    el("div", {}, el("b", {}, `${a.board}: ${a.threshold ? kindName(a.name) : a.name}`), el("span", { class: "dim num" }, until), el("span", { class: "dim" }, a.threshold ? "your threshold" : "the operator's rule")));
}

keepFresh(live, [part(document, "section[aria-labelledby=boards-title]"), $("own-alerts")], load, 10000);
