// The page of suppressed alerts and of maintenances: which boards and rules can page nobody now, and why.

/** @import { ConfirmAnswer, Maintenance, Maintenances, Off, OffReport, Suppressed, Suppression } from "../../types/server" */

import { $, choice, el, field, glyph, part, setText } from "../page/dom.js";
import { Refused, act, get, keepFresh, mayChange, post, say } from "../page/collector.js";
import { count, counted, dayClock, duration, localTimes, zone } from "../page/format.js";
import { startShell, suppressedText } from "../page/shell.js";

const { live } = startShell();

/** @param {number} ms */
const when = (ms) => `${dayClock(ms, live.now())} ${zone(ms)}`;

async function load() {
  /** @type {[OffReport, Maintenances]} */
  const [off, list] = await Promise.all([get("/api/oncall/off"), get("/api/oncall/maintenance")]);
  suppressed(off);
  maintenances(list.maintenances);
}

/** @param {OffReport} r */
function suppressed(r) {
  setText($("off-title"), r.items.length ? suppressedText(r) : "Every alert can page somebody");
  $("off-list").replaceChildren(...(r.items.length ? r.items.map((o) => item(o, r.now)) : [el("li", { class: "none dim" }, "No silence, no maintenance, somebody on call, and every receiver takes its pages.")]));
  $("firing").hidden = r.firing.length === 0;
  $("firing-list").replaceChildren(...r.firing.map((a) => firing(a, r.now)));
  setText($("firing-more"), r.firingCount > r.firing.length ? `${count(r.firingCount - r.firing.length)} more` : "");
}

/**
 * @param {Suppressed} a
 * @param {number} now
 */
function firing(a, now) {
  const board = a.labels.board;
  return el("li", {}, glyph("silent"), el("div", {}, el("b", {}, a.labels.alertname ?? "alert", board ? " on " : "", board ? el("a", { href: "/board/" + board }, board) : ""),
    el("span", {}, a.suppressions.map((s) => reason(s, now)).join("; ")), el("span", { class: "dim num" }, `fires since ${when(a.firedAt)}`)));
}

/**
 * reason puts a suppression into words: its kind, its author and its end.
 * @param {Suppression} s
 * @param {number} now
 */
function reason(s, now) {
  /** @type {Record<string, string>} */
  const text = {
    maintenance: `maintenance ${s.id}${s.by ? ` by ${s.by}` : ""}`,
    silence: `silenced${s.by ? ` by ${s.by}` : ""}`,
    still_firing: `“${localTimes(s.by ?? "", now)}” stands for it`,
    representative: s.by ? `“${localTimes(s.by, now)}” stands for it` : "another alert stood for it",
    inhibition: s.by ? `“${localTimes(s.by, now)}” inhibits it` : "another alert inhibits it",
    interval: "its route is outside its hours",
    condition_over: "its condition is over",
  };
  return (text[s.kind] ?? s.kind) + (s.until ? ` until ${when(s.until)}` : "");
}

/**
 * @param {Off} o
 * @param {number} now
 */
function item(o, now) {
  const until = o.until ? `until ${when(o.until)}, ${duration(o.until - now)} left` : "until somebody mends it";
  const boards = o.boards?.length ? el("details", {}, el("summary", {}, counted(o.boards.length, "board")), el("p", { class: "chips" }, ...o.boards.slice(0, 200).map((b) => el("a", { href: "/board/" + b }, b)), o.boards.length > 200 ? el("span", { class: "dim" }, `${count(o.boards.length - 200)} more`) : "")) : "";
  return el("li", { class: o.everything || o.kind === "receiver" || o.kind === "rota" ? "bad" : "" }, glyph(o.kind === "receiver" || o.kind === "rota" ? "warning" : "silent"),
    el("div", {}, el("b", {}, o.what), el("span", {}, localTimes(o.why, now) + (o.by ? `, by ${o.by}` : "")), el("span", { class: "dim num" }, until), boards));
}

const words = { planned: "planned", running: "running", returning: "over, boards may still report", over: "over" };

/** @param {Maintenance[]} list */
function maintenances(list) {
  $("maintenance-list").replaceChildren(...(list.length ? list.map(row) : [el("li", { class: "none dim" }, "None so far.")]));
}
/** @param {Maintenance} m */
function row(m) {
  const state = m.state === "over" && m.notBack?.length ? `over, ${m.notBack.length} did not come back` : m.state === "returning" ? `boards have until ${when(m.returnBy)}` : words[m.state];
  const open = m.state === "running" || m.state === "planned";
  return el("li", { "data-state": m.state, class: m.notBack?.length ? "bad" : "" }, glyph(m.state === "over" ? "acknowledged" : "next"),
    el("div", {}, el("b", {}, `${m.number}: ${m.matchers.join(", ")}`), el("span", {}, `${state}, ${count(m.boards)} boards, by ${m.by}${m.comment ? ` “${m.comment}”` : ""}`), el("span", { class: "dim num" }, `${when(m.startsAt)} to ${when(m.endsAt)}`)),
    open && mayChange() && endButton(m.number));
}
/** @param {number} number */
function endButton(number) {
  const button = el("button", { onclick: () => end(button, number) }, "End now");
  return button;
}
/**
 * @param {HTMLButtonElement} button
 * @param {number} number
 */
async function end(button, number) {
  button.disabled = true;
  if (!(await act(said, () => post(`/api/oncall/maintenance/${number}/end`, {}), `Maintenance ${number} is over.`))) button.disabled = false;
  refresh();
}

const form = $("maintenance-form", HTMLFormElement);
const said = $("maintenance-said");
let confirm = 0; // the number of boards that a second press confirms

/** @typedef {Maintenance | ConfirmAnswer} Started */

/**
 * ask starts a maintenance. One over 5 % of the fleet is answered with a number of boards: a question,
 * and no refusal.
 * @returns {Promise<Started>}
 */
async function ask() {
  const matcher = `${choice(form, "label").value}=${JSON.stringify(field(form, "value").value.trim())}`;
  const body = { matchers: [matcher], for: field(form, "for").value.trim(), comment: field(form, "comment").value.trim(), confirm };
  try {
    return await post("/api/oncall/maintenance", body);
  } catch (e) {
    if (!(e instanceof Refused) || e.status !== 409) throw e;
    return /** @type {ConfirmAnswer} */ (e.answer);
  }
}

/** @param {Started} m */
const startedText = (m) => ("number" in m ? `Maintenance ${m.number} until ${when(m.endsAt)}.` : `This covers ${count(m.boards)} of ${count(m.of)} boards.`);

/** @param {SubmitEvent} e */
async function start(e) {
  e.preventDefault();
  const answer = await act(said, ask, startedText);
  if (!answer) return;
  if (!("number" in answer)) {
    confirm = answer.boards;
    setText($("maintenance-go"), `Yes, page nobody for ${count(answer.boards)} boards`);
    return say(said, startedText(answer), "is-critical");
  }
  unconfirmed();
  form.reset();
  refresh();
}
function unconfirmed() {
  confirm = 0;
  setText($("maintenance-go"), "Start maintenance");
}

form.hidden = !mayChange();
form.addEventListener("submit", start);
form.addEventListener("input", unconfirmed);
const refresh = keepFresh(live, [part(document, "section[aria-labelledby=off-title]"), $("maintenance-list")], load, 5000);
