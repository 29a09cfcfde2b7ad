// The events of an incident, past and to come, one line each.

/** @import { Event, Page } from "../../types/server" */
/** @import { Child } from "../page/dom.js" */

import { el, glyph } from "../page/dom.js";
import { dayClock, duration, latency } from "../page/format.js";

/** @type {Record<string, string>} */
const words = {
  opened: "Opened", alerts: "Joined", ended: "Ended", refired: "Fires again", moved: "Moved", step: "Escalation", channel: "Channel", gap: "Gap", held: "On hold",
  repeat: "Again", exhausted: "Nobody acknowledged", acknowledged: "Acknowledged", snoozed: "Snoozed", awake: "Snooze over", resolved: "Resolved", closed: "Closed", timing: "Where the time went",
};
/** @type {Record<string, string>} */
const about = { resolve: "the end", ack: "that somebody has it" };

/**
 * @param {Event[]} events
 * @param {number} now
 */
export function timeline(events, now) {
  return el("ul", { class: "sent" }, ...events.map((e) => el("li", { "data-kind": e.kind, class: e.kind === "next" ? "dim" : null }, el("time", { class: "num" }, dayClock(e.at, now)), mark(e), el("span", {}, ...text(e, now)))));
}

/** @param {Event} e */
function mark(e) {
  if (e.kind === "next") return glyph("next");
  if (e.page) {
    if (e.page.result === "delivered") return glyph("acknowledged", "is-done");
    const failed = e.page.result === "failed" || (e.page.error && e.page.result === "waiting");
    return failed ? glyph("warning", "is-warning") : glyph("bell");
  }
  if (["acknowledged", "snoozed", "resolved", "closed"].includes(e.kind)) return glyph("acknowledged");
  if (["gap", "exhausted", "channel"].includes(e.kind)) return glyph("warning", "is-warning");
  return el("span", { "aria-hidden": "true" }, "•");
}

/**
 * @param {Event} e
 * @param {number} now
 * @returns {Child[]}
 */
function text(e, now) {
  if (e.kind === "next") return [`Next${e.at > now ? ` in ${duration(e.at - now)}` : ""}: ${e.text}`];
  if (e.page) return [el("b", {}, e.page.person || e.page.to || e.page.channel), ` by ${e.page.person ? e.page.to : e.page.channel}${aboutText(e.page)}: ${pageText(e.page)}`];
  const who = e.who ? ` ${e.kind === "timing" ? "to" : "by"} ${e.who}` : "";
  return [el("b", {}, words[e.kind] || e.kind), e.kind === "channel" ? ` of ${e.who}` : who, e.text ? `: ${e.text}` : ""];
}

/** @param {Page} p */
const aboutText = (p) => (p.about && about[p.about] ? `, ${about[p.about]}` : "");

/**
 * pageText says in a few words how a page fared.
 * @param {Page} p
 */
export function pageText(p) {
  const delivered = p.bundle && p.result === "delivered" ? "delivered with others in one message" : p.result;
  const facts = [delivered, p.latencyMs ? `${latency(p.latencyMs)} after it fired` : "", (p.attempt ?? 0) > 1 ? `try ${p.attempt}` : "", p.result === "bundled" ? "waits to leave with others" : p.error];
  return facts.filter(Boolean).join(", ");
}
