// A customer's thresholds and contacts: which are set, which may be set, and the collector's word on each.

/** @import { OwnBook, OwnContact, OwnThreshold } from "../../types/server" */
/** @import { Live } from "../page/live.js" */

import { $, choice, el, field, glyph, setText } from "../page/dom.js";
import { act, get, keepFresh, post, remove } from "../page/collector.js";
import { clock, counted, zone } from "../page/format.js";

/** @type {Record<string, string>} */
const kindWords = { hot: "SoC temperature", throttled: "clock throttled", under_voltage: "under-voltage", silent: "board silent", memory: "memory low" };

/**
 * kindName names a kind of threshold.
 * @param {string} kind
 */
export const kindName = (kind) => kindWords[kind] ?? kind;

/** @type {Record<string, [unit: string, by: number] | undefined>} units in which people set a value: base units by a number */
const units = { hot: ["°C", 1], memory: ["MiB", 1 << 20] };

/**
 * @param {string} kind
 * @returns {[unit: string, by: number]}
 */
const unitOf = (kind) => units[kind] ?? ["", 1];

/**
 * thresholdText says at which value a threshold fires, and where it ends.
 * @param {Pick<OwnThreshold, "kind" | "value" | "hysteresis">} t
 */
export function thresholdText(t) {
  const [unit, by] = unitOf(t.kind);
  const [from, back] = t.kind === "memory" ? ["below", "above"] : ["from", "below"];
  const value = units[t.kind] ? ` ${from} ${t.value / by} ${unit}` + (t.hysteresis ? `, ends ${t.hysteresis / by} ${unit} ${back}` : "") : "";
  return kindName(t.kind) + value;
}

/**
 * baseValue reads a number as people type it, with a point or a comma, in the unit of a kind.
 * @param {string} typed
 * @param {string} kind
 */
export const baseValue = (typed, kind) => Number(typed.trim().replace(",", ".")) * unitOf(kind)[1];

const mailWords = { waiting: "a mail waits for the mail server", delivered: "last mail sent", failed: "the last mail was refused" };

/**
 * startSettings makes the forms work.
 * @param {Live} live
 */
export function startSettings(live) {
  let known = "";
  const threshold = $("threshold-form", HTMLFormElement);
  const contact = $("contact-form", HTMLFormElement);
  const [kind, board, value] = [choice(threshold, "kind"), choice(threshold, "board"), field(threshold, "value")];

  /** @param {OwnBook} s */
  function show(s) {
    if (!kind.options.length) {
      kind.replaceChildren(...s.kinds.map((k) => el("option", { value: k.name }, kindName(k.name))));
      kinds(s);
      kind.addEventListener("change", () => kinds(s));
    }
    $("threshold-list").replaceChildren(...(s.thresholds.length ? s.thresholds.map(thresholdRow) : [el("li", { class: "none dim" }, "None: you are told of nothing.")]));
    $("contact-list").replaceChildren(...(s.contacts.length ? s.contacts.map(contactRow) : [el("li", { class: "none dim" }, "Nobody: alerts are shown here alone.")]));
    contact.hidden = !s.mail;
    if (!s.mail) setText($("contact-note"), "This collector sends no mail: alerts are shown here alone.");
    const waits = $("own-waiting");
    waits.hidden = !s.waitingUntil;
    if (s.waitingUntil) setText(waits, `${counted(s.waiting, "alert")} ${s.waiting === 1 ? "waits" : "wait"}: ${s.limits.mailsAnHour} mails an hour and ${s.limits.mailsADay} a day are the limit. One mail at ${clock(s.waitingUntil)} ${zone(s.waitingUntil)} tells of all.`);
  }

  /** @param {OwnBook} s */
  function kinds(s) {
    const k = s.kinds.find((one) => one.name === kind.value);
    if (!k) return;
    const [unit, by] = unitOf(k.name);
    const labels = [...threshold.querySelectorAll("label")].filter((label) => label.dataset.for === "value");
    for (const label of labels) label.hidden = k.fixed;
    value.required = !k.fixed;
    const [from, ends] = threshold.querySelectorAll("[data-for=value] > span");
    setText(from, `${k.name === "memory" ? "Below" : "From"}, ${unit}`);
    setText(ends, `Ends ${k.name === "memory" ? "above" : "below"} it by, ${unit}`);
    value.placeholder = `${k.min / by}–${k.max / by}`;
  }

  /** @param {OwnThreshold} t */
  function thresholdRow(t) {
    return el("li", {}, glyph("next"), el("div", {}, el("b", {}, thresholdText(t)), el("span", { class: "dim" }, `${t.board || "all boards"}, for ${t.for}, over after ${t.keepFiringFor}`)),
      el("button", { onclick: () => change("threshold", () => remove(`/api/own/thresholds/${t.kind}?` + new URLSearchParams(t.board ? { board: t.board } : {}))) }, "Remove"));
  }

  /** @param {OwnContact} c */
  function contactRow(c) {
    const state = c.confirmed ? (c.lastMail ? mailWords[c.lastMail] : "confirmed") : "not confirmed: a link was sent there";
    return el("li", { class: c.lastMail === "failed" ? "bad" : "" }, glyph(c.confirmed ? "acknowledged" : "next"), el("div", {}, el("b", {}, c.address), el("span", { class: "dim" }, state)),
      el("span", { class: "own-buttons" }, c.confirmed ? "" : el("button", { onclick: () => change("contact", () => post(`/api/own/contacts/${c.id}/ask`, {})) }, "Send the link again"), el("button", { onclick: () => change("contact", () => remove("/api/own/contacts/" + c.id)) }, "Remove")));
  }

  /**
   * change does something and shows all that is set then.
   * @param {"threshold" | "contact"} form
   * @param {() => Promise<OwnBook>} run
   * @param {string} [done]
   */
  function change(form, run, done) {
    const shown = async () => {
      const book = await run();
      show(book);
      return book;
    };
    return act($(form + "-said"), shown, done);
  }

  threshold.addEventListener("submit", (e) => {
    e.preventDefault();
    const numbers = value.required ? { value: baseValue(value.value, kind.value), hysteresis: baseValue(field(threshold, "hysteresis").value, kind.value) } : {};
    const body = { kind: kind.value, board: board.value, for: field(threshold, "for").value.trim() || "0s", keepFiringFor: field(threshold, "keepFiringFor").value.trim() || "2m", ...numbers };
    change("threshold", () => post("/api/own/thresholds", body), "Set.");
  });
  contact.addEventListener("submit", async (e) => {
    e.preventDefault();
    const address = field(contact, "address").value.trim();
    if (await change("contact", () => post("/api/own/contacts", { address }), `A link to confirm is on its way to ${address}.`)) contact.reset();
  });

  keepFresh(live, [$("threshold-list"), $("contact-list")], async () => show(await get("/api/own/settings")), 30000);
  return {
    /**
     * boards fills the choice where it has changed, so that it does not close under the pointer.
     * @param {string[]} names
     */
    boards(names) {
      if (names.join() === known) return;
      known = names.join();
      const chosen = board.value;
      board.replaceChildren(el("option", { value: "" }, "all boards"), ...names.map((n) => el("option", { value: n }, n)));
      board.value = names.includes(chosen) ? chosen : "";
    },
  };
}
