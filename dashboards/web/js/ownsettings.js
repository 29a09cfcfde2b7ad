// A customer's thresholds and contacts: what is set, what may be set, and what the collector says of it.

import { $, el, glyph, setText } from "./dom.js";
import { clock, zone } from "./format.js";
import { act } from "./act.js";
import { get, post, remove } from "./api.js";
import { keepFresh } from "./fresh.js";

export const kindWords = { hot: "SoC temperature", throttled: "clock throttled", under_voltage: "under-voltage", silent: "board silent", memory: "memory low" };
const units = { hot: ["°C", 1], memory: ["MiB", 1 << 20] };
const unitOf = (kind) => units[kind] || ["", 1];
const mailWords = { waiting: "a mail waits for the mail server", delivered: "last mail sent", failed: "the last mail was refused" };

export function startSettings(live) {
  let known = "";
  const threshold = $("threshold-form");
  const contact = $("contact-form");

  function show(s) {
    if (!threshold.kind.options.length) {
      threshold.kind.replaceChildren(...s.kinds.map((k) => el("option", { value: k.name }, kindWords[k.name] ?? k.name)));
      kinds(s);
      threshold.kind.addEventListener("change", () => kinds(s));
    }
    $("threshold-list").replaceChildren(...(s.thresholds.length ? s.thresholds.map(thresholdRow) : [el("li", { class: "none dim" }, "None: you are told of nothing.")]));
    $("contact-list").replaceChildren(...(s.contacts.length ? s.contacts.map(contactRow) : [el("li", { class: "none dim" }, "Nobody: alerts are shown here alone.")]));
    contact.hidden = !s.mail;
    if (!s.mail) setText($("contact-note"), "This collector sends no mail: alerts are shown here alone.");
    const waits = $("own-waiting");
    waits.hidden = !s.waitingUntil;
    if (s.waitingUntil) setText(waits, `${s.waiting} ${s.waiting === 1 ? "alert waits" : "alerts wait"}: ${s.limits.mailsAnHour} mails an hour and ${s.limits.mailsADay} a day are the limit. One mail at ${clock(s.waitingUntil)} ${zone(s.waitingUntil)} tells of all.`);
  }
  function kinds(s) {
    const k = s.kinds.find((one) => one.name === threshold.kind.value);
    const [unit, by] = unitOf(k.name);
    for (const label of threshold.querySelectorAll("[data-for=value]")) label.hidden = k.fixed;
    threshold.value.required = !k.fixed;
    const [from, ends] = threshold.querySelectorAll("[data-for=value] > span");
    setText(from, `${k.name === "memory" ? "Below" : "From"}, ${unit}`);
    setText(ends, `Ends ${k.name === "memory" ? "above" : "below"} it by, ${unit}`);
    threshold.value.placeholder = `${k.min / by}–${k.max / by}`;
  }

  function thresholdRow(t) {
    const [unit, by] = unitOf(t.kind);
    const value = units[t.kind] ? ` ${t.kind === "memory" ? "below" : "from"} ${t.value / by} ${unit}` + (t.hysteresis ? `, ends ${t.hysteresis / by} ${unit} ${t.kind === "memory" ? "above" : "below"}` : "") : "";
    return el("li", {}, glyph("next"), el("div", {}, el("b", {}, `${kindWords[t.kind] ?? t.kind}${value}`), el("span", { class: "dim" }, `${t.board || "all boards"}, for ${t.for}, over after ${t.keepFiringFor}`)),
      el("button", { onclick: () => change("threshold", () => remove(`/api/own/thresholds/${t.kind}?` + new URLSearchParams(t.board ? { board: t.board } : {}))) }, "Remove"));
  }
  function contactRow(c) {
    const state = c.confirmed ? mailWords[c.lastMail] ?? "confirmed" : "not confirmed: a link was sent there";
    return el("li", { class: c.lastMail === "failed" ? "bad" : "" }, glyph(c.confirmed ? "acknowledged" : "next"), el("div", {}, el("b", {}, c.address), el("span", { class: "dim" }, state)),
      el("span", { class: "own-buttons" }, c.confirmed ? "" : el("button", { onclick: () => change("contact", () => post(`/api/own/contacts/${c.id}/ask`, {})) }, "Send the link again"), el("button", { onclick: () => change("contact", () => remove("/api/own/contacts/" + c.id)) }, "Remove")));
  }

  // change does something and shows what is set then.
  const change = (part, run, done) => act($(part + "-said"), async () => show(await run()), done);
  threshold.addEventListener("submit", (e) => {
    e.preventDefault();
    const f = threshold;
    const by = unitOf(f.kind.value)[1];
    const body = { kind: f.kind.value, board: f.board.value, for: f.for.value.trim() || "0s", keepFiringFor: f.keepFiringFor.value.trim() || "2m" };
    const number = (input) => Number(input.value.trim().replace(",", ".")) * by;
    if (f.value.required) Object.assign(body, { value: number(f.value), hysteresis: number(f.hysteresis) });
    change("threshold", () => post("/api/own/thresholds", body), "Set.");
  });
  contact.addEventListener("submit", async (e) => {
    e.preventDefault();
    const address = contact.address.value.trim();
    if (await change("contact", () => post("/api/own/contacts", { address }), `A link to confirm is on its way to ${address}.`)) contact.reset();
  });

  keepFresh(live, [$("threshold-list"), $("contact-list")], async () => show(await get("/api/own/settings")), 30000);
  return {
    // boards fills the choice where it has changed, so that it does not close under the pointer.
    boards(names) {
      if (names.join() === known) return;
      known = names.join();
      const chosen = threshold.board.value;
      threshold.board.replaceChildren(el("option", { value: "" }, "all boards"), ...names.map((n) => el("option", { value: n }, n)));
      threshold.board.value = names.includes(chosen) ? chosen : "";
    },
  };
}
