// The page of what watches the watcher: beats that leave, test pages, heartbeats that arrive.

import { $, el, glyph, setText } from "./dom.js";
import { dayClock, duration, zone } from "./format.js";
import { act } from "./act.js";
import { get, post, remove } from "./api.js";
import { keepFresh } from "./fresh.js";
import { startShell } from "./shell.js";

const { live } = startShell();
const mayChange = document.body.dataset.role !== "viewer";
const when = (ms) => `${dayClock(ms, live.now())} ${zone(ms)}`;

async function load() {
  const [h, t] = await Promise.all([get("/api/heartbeats"), get("/api/oncall/test")]);
  beats(h.watchdog, h.now);
  $("heartbeat-list").replaceChildren(...(h.heartbeats.length ? h.heartbeats.map((one) => heartbeat(one, h.now)) : [el("li", { class: "none dim" }, "None yet: the first POST to /api/heartbeats/NAME makes one.")]));
  $("test-list").replaceChildren(...(t.tests.length ? t.tests.slice(0, 10).map(test) : [el("li", { class: "none dim" }, "None was sent yet.")]));
}

function beats(b, now) {
  const box = $("beats");
  if (!b) return setText(box, "Nobody outside would notice if this collector died: the configuration has no watchdog.");
  const sent = b.sentAt ? `The last beat was accepted outside ${duration(now - b.sentAt)} ago, one every ${duration(b.everySeconds * 1000)} is due.` : "No beat was accepted outside since the start.";
  box.className = b.error ? "is-critical" : "dim";
  setText(box, b.error ? `${sent} Not sent: ${b.error}.` : sent);
}

function heartbeat(h, now) {
  const left = h.overdue ? `overdue for ${duration(now - h.deadline)}` : `due within ${duration(h.deadline - now)}`;
  return el("li", { class: h.overdue ? "bad" : "" }, glyph(h.overdue ? "critical" : "acknowledged"),
    el("div", {}, el("b", {}, h.name), el("span", {}, left + (h.message ? ` · ${h.message}` : "")), el("span", { class: "dim num" }, `last ${when(h.lastAt)}, by ${h.by}, at least every ${duration(h.withinSeconds * 1000)}${h.board ? `, board ${h.board}` : ""}`)),
    mayChange ? el("button", { onclick: (e) => forget(e.target, h.name), title: `Do not wait for ${h.name} any more` }, "Remove") : "");
}

async function forget(button, name) {
  button.disabled = true;
  if (!(await act($("heartbeat-said"), () => remove("/api/heartbeats/" + encodeURIComponent(name)), `${name} is not waited for any more.`))) button.disabled = false;
  refresh();
}

function test(t) {
  const result = { waiting: "on its way", delivered: `delivered in ${t.latencyMs < 1000 ? `${t.latencyMs} ms` : `${(t.latencyMs / 1000).toFixed(1)} s`}`, failed: `failed: ${t.answer}` }[t.state];
  const mark = { waiting: "next", delivered: "acknowledged", failed: "critical" }[t.state];
  return el("li", { class: t.state === "failed" ? "bad" : "", "data-state": t.state }, glyph(mark), el("div", {}, el("b", {}, `${t.number}: ${t.receiver}`), el("span", {}, result), el("span", { class: "dim num" }, `${when(t.at)}, ${t.scheduledFor ? "on schedule" : "by " + t.by}`)));
}

const form = $("test-form");
form.hidden = !mayChange;
form.addEventListener("submit", async (e) => {
  e.preventDefault();
  await act($("test-said"), () => post("/api/oncall/test", { receiver: form.receiver.value.trim() }), (t) => `Test page ${t.number} is on its way to ${t.receiver}.`);
  refresh();
});
const refresh = keepFresh(live, [$("beats"), $("test-list"), $("heartbeat-list")], load, 2000);
