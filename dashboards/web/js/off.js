// The page of what pages nobody now, and of maintenances.

import { $, el, glyph, setText } from "./dom.js";
import { count, dayClock, duration, localTimes, zone } from "./format.js";
import { act, say } from "./act.js";
import { get, post } from "./api.js";
import { keepFresh } from "./fresh.js";
import { offText } from "./offcount.js";
import { startShell } from "./shell.js";

const { live } = startShell();
const mayChange = document.body.dataset.role !== "viewer";
const when = (ms) => `${dayClock(ms, live.now())} ${zone(ms)}`;

async function load() {
  const [off, book] = await Promise.all([get("/api/oncall/off"), get("/api/oncall/maintenance")]);
  build(off);
  maintenances(book);
}

function build(r) {
  setText($("off-title"), r.items.length ? offText(r) : "Every alert can page somebody");
  $("off-list").replaceChildren(...(r.items.length ? r.items.map((o) => item(o, r.now)) : [el("li", { class: "none dim" }, "No silence, no maintenance, somebody on call, and every receiver takes its pages.")]));
}

function item(o, now) {
  const until = o.until ? `until ${when(o.until)}, ${duration(o.until - now)} left` : "until somebody mends it";
  const boards = o.boards?.length ? el("details", {}, el("summary", {}, `${count(o.boards.length)} ${o.boards.length === 1 ? "board" : "boards"}`), el("p", { class: "chips" }, ...o.boards.slice(0, 200).map((b) => el("a", { href: "/board/" + b }, b)), o.boards.length > 200 ? el("span", { class: "dim" }, `${count(o.boards.length - 200)} more`) : "")) : "";
  return el("li", { class: o.everything || o.kind === "receiver" || o.kind === "rota" ? "bad" : "" }, glyph(o.kind === "receiver" || o.kind === "rota" ? "warning" : "silent"),
    el("div", {}, el("b", {}, o.what), el("span", {}, localTimes(o.why, now) + (o.by ? `, by ${o.by}` : "")), el("span", { class: "dim num" }, until), boards));
}

const words = { planned: "planned", running: "running", returning: "over, boards may still report", over: "over" };

function maintenances(book) {
  const list = book.maintenances;
  $("maintenance-list").replaceChildren(...(list.length ? list.map(row) : [el("li", { class: "none dim" }, "None so far.")]));
}
function row(m) {
  const state = m.state === "over" && m.notBack?.length ? `over, ${m.notBack.length} did not come back` : m.state === "returning" ? `boards have until ${when(m.returnBy)}` : words[m.state];
  const open = m.state === "running" || m.state === "planned";
  return el("li", { "data-state": m.state, class: m.notBack?.length ? "bad" : "" }, glyph(m.state === "over" ? "acknowledged" : "next"),
    el("div", {}, el("b", {}, `${m.number}: ${m.matchers.join(", ")}`), el("span", {}, `${state}, ${count(m.boards)} boards, by ${m.by}${m.comment ? ` “${m.comment}”` : ""}`), el("span", { class: "dim num" }, `${when(m.startsAt)} to ${when(m.endsAt)}`)),
    open && mayChange ? el("button", { onclick: (e) => end(e.target, m.number) }, "End now") : "");
}
async function end(button, number) {
  button.disabled = true;
  if (!(await act(said, () => post(`/api/oncall/maintenance/${number}/end`, {}), `Maintenance ${number} is over.`))) button.disabled = false;
  refresh();
}

// start asks for a maintenance; one over 5 % of the fleet comes back with a number, which a second press confirms.
let confirm = 0;
const said = $("maintenance-said");
async function start(e) {
  e.preventDefault();
  const f = e.target;
  const matcher = `${f.label.value}=${JSON.stringify(f.value.value.trim())}`;
  const body = { matchers: [matcher], for: f.for.value.trim(), comment: f.comment.value.trim(), confirm };
  const ask = async () => {
    try {
      return await post("/api/oncall/maintenance", body);
    } catch (e) {
      if (e.status !== 409) throw e;
      return e.answer; // a question, and no refusal
    }
  };
  let answer;
  const words = (m) => (m.number ? `Maintenance ${m.number} until ${when(m.endsAt)}.` : `This covers ${count(m.boards)} of ${count(m.of)} boards.`);
  if (!(await act(said, async () => (answer = await ask()), words))) return;
  if (!answer.number) {
    confirm = answer.boards;
    setText($("maintenance-go"), `Yes, page nobody for ${count(answer.boards)} boards`);
    return say(said, words(answer), "is-critical");
  }
  unconfirmed();
  f.reset();
  refresh();
}
function unconfirmed() {
  confirm = 0;
  setText($("maintenance-go"), "Start maintenance");
}

const form = $("maintenance-form");
form.hidden = !mayChange;
form.addEventListener("submit", start);
form.addEventListener("input", unconfirmed);
const refresh = keepFresh(live, [$("off-title").parentElement, $("maintenance-list")], load, 5000);
