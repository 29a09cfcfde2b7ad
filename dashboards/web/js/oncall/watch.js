// The page of the watch over the watcher: heartbeats that leave, test pages, heartbeats that arrive.

/** @import { Beats, Heartbeat, Heartbeats, PageTest, PageTests } from "../../types/server" */

import { $, el, field, glyph, setText } from "../page/dom.js";
import { act, get, keepFresh, mayChange, post, remove } from "../page/collector.js";
import { dayClock, duration, latency, zone } from "../page/format.js";
import { startShell } from "../page/shell.js";

const { live } = startShell();

/** @param {number} ms */
const when = (ms) => `${dayClock(ms, live.now())} ${zone(ms)}`;

async function load() {
  /** @type {[Heartbeats, PageTests]} */
  const [h, t] = await Promise.all([get("/api/heartbeats"), get("/api/oncall/test")]);
  beats(h.watchdog, h.now);
  $("heartbeat-list").replaceChildren(...(h.heartbeats.length ? h.heartbeats.map((one) => heartbeat(one, h.now)) : [el("li", { class: "none dim" }, "None yet: the first POST to /api/heartbeats/NAME makes one.")]));
  $("test-list").replaceChildren(...(t.tests.length ? t.tests.slice(0, 10).map(test) : [el("li", { class: "none dim" }, "None was sent yet.")]));
}

/**
 * @param {Beats | undefined} b
 * @param {number} now
 */
function beats(b, now) {
  const box = $("beats");
  if (!b) return setText(box, "Nobody outside would notice if this collector died: the configuration has no watchdog.");
  const sent = b.sentAt ? `The last beat was accepted outside ${duration(now - b.sentAt)} ago, one every ${duration(b.everySeconds * 1000)} is due.` : "No beat was accepted outside since the start.";
  box.className = b.error ? "is-critical" : "dim";
  setText(box, b.error ? `${sent} Not sent: ${b.error}.` : sent);
}

/**
 * @param {Heartbeat} h
 * @param {number} now
 */
function heartbeat(h, now) {
  const left = h.overdue ? `overdue for ${duration(now - h.deadline)}` : `due within ${duration(h.deadline - now)}`;
  return el("li", { class: h.overdue ? "bad" : "" }, glyph(h.overdue ? "critical" : "acknowledged"),
    el("div", {}, el("b", {}, h.name), el("span", {}, left + (h.message ? ` · ${h.message}` : "")), el("span", { class: "dim num" }, `last ${when(h.lastAt)}, by ${h.by}, at least every ${duration(h.withinSeconds * 1000)}${h.board ? `, board ${h.board}` : ""}`)),
    mayChange() && forgetButton(h.name));
}

/** @param {string} name */
function forgetButton(name) {
  const button = el("button", { onclick: () => forget(button, name), title: `Do not wait for ${name} any more` }, "Remove");
  return button;
}

/**
 * @param {HTMLButtonElement} button
 * @param {string} name
 */
async function forget(button, name) {
  button.disabled = true;
  if (!(await act($("heartbeat-said"), () => remove("/api/heartbeats/" + encodeURIComponent(name)), `${name} is not waited for any more.`))) button.disabled = false;
  refresh();
}

/** @param {PageTest} t */
function test(t) {
  const result = { waiting: "on its way", delivered: `delivered in ${latency(t.latencyMs)}`, failed: `failed: ${t.answer}` }[t.state];
  const mark = /** @type {const} */ ({ waiting: "next", delivered: "acknowledged", failed: "critical" })[t.state];
  return el("li", { class: t.state === "failed" ? "bad" : "", "data-state": t.state }, glyph(mark), el("div", {}, el("b", {}, `${t.number}: ${t.receiver}`), el("span", {}, result), el("span", { class: "dim num" }, `${when(t.at)}, ${t.scheduledFor ? "on schedule" : "by " + t.by}`)));
}

const form = $("test-form", HTMLFormElement);
form.hidden = !mayChange();
form.addEventListener("submit", async (e) => {
  e.preventDefault();
  const receiver = field(form, "receiver").value.trim();
  /** @returns {Promise<PageTest>} */
  const send = () => post("/api/oncall/test", { receiver });
  await act($("test-said"), send, (t) => `Test page ${t.number} is on its way to ${t.receiver}.`);
  refresh();
});
const refresh = keepFresh(live, [$("beats"), $("test-list"), $("heartbeat-list")], load, 2000);
