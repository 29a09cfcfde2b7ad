// A customer's first page: which of my boards is in trouble?

import { $, el, glyph } from "./dom.js";
import { celsius, dayClock, duration, mhz, none, reasonWords, zone } from "./format.js";
import { get } from "./api.js";
import { keepFresh } from "./fresh.js";
import { startOwn } from "./ownshell.js";
import { kindWords, startSettings } from "./ownsettings.js";

const live = startOwn();
const settings = startSettings(live);

async function load() {
  const [book, past] = await Promise.all([get("/api/own/boards"), get("/api/own/alerts")]);
  $("own-boards").replaceChildren(...(book.boards.length ? book.boards.map((b) => boardRow(b, book.now)) : [el("tr", {}, el("td", { colspan: 5, class: "dim" }, "No board is yours at present."))]));
  settings.boards(book.boards.map((b) => b.name));
  $("own-alerts").replaceChildren(...(past.alerts.length ? past.alerts.map((a) => alertRow(a, past.now)) : [el("li", { class: "none dim" }, "None.")]));
}

function boardRow(b, now) {
  return el("tr", { "data-board": b.name }, el("td", {}, el("a", { href: "/own/board/" + b.name }, b.name), b.model ? el("span", { class: "dim" }, " " + b.model) : ""),
    el("td", {}, stateOf(b)), el("td", { class: "num" }, b.up === false || b.stopped ? none : celsius(b.temperature)), el("td", { class: "num" }, b.up === false || b.stopped ? none : mhz(b.measured ?? b.requested)),
    el("td", { class: "num" }, b.lastReport ? dayClock(b.lastReport, now) : "never"));
}
function stateOf(b) {
  const word = (g, text, extra) => el("span", { class: "state" }, glyph(g, extra), text);
  if (b.up === false) return word("silent", "silent");
  if (b.stopped) return word("stopped", "stopped");
  if (b.throttled?.length) return el("span", {}, ...b.throttled.map((r) => word(r, reasonWords[r], "is-" + r)));
  return el("span", { class: "dim" }, b.up ? "reports" : "not known");
}
function alertRow(a, now) {
  const until = a.until ? `${dayClock(a.since, now)} to ${dayClock(a.until, now)} ${zone(now)}, ${duration(a.until - a.since)}` : `since ${dayClock(a.since, now)} ${zone(now)}`;
  return el("li", { class: a.until ? "" : "bad" }, glyph(a.until ? "acknowledged" : a.severity === "critical" ? "critical" : "warning"),
    el("div", {}, el("b", {}, `${a.board}: ${a.threshold ? kindWords[a.name] ?? a.name : a.name}`), el("span", { class: "dim num" }, until), el("span", { class: "dim" }, a.threshold ? "your threshold" : "the operator's rule")));
}

keepFresh(live, [$("own-boards").closest("section"), $("own-alerts")], load, 10000);
