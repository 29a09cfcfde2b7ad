// What happened to an incident, and what is to come, one line each.

import { el, glyph } from "./dom.js";
import { dayClock, duration } from "./format.js";

const words = {
  opened: "Opened", alerts: "Joined", ended: "Ended", refired: "Fires again", moved: "Moved", step: "Escalation", channel: "Channel", gap: "Gap", held: "On hold",
  repeat: "Again", exhausted: "Nobody acknowledged", acknowledged: "Acknowledged", snoozed: "Snoozed", awake: "Snooze over", resolved: "Resolved", closed: "Closed", timing: "Where the time went",
};
const about = { resolve: "the end", ack: "that somebody has it" };

export function timeline(events, now) {
  return el("ul", { class: "sent" }, ...events.map((e) => el("li", { "data-kind": e.kind, class: e.kind === "next" ? "dim" : null }, el("time", { class: "num" }, dayClock(e.at, now)), mark(e), el("span", {}, ...text(e, now)))));
}

function mark(e) {
  if (e.kind === "next") return glyph("next");
  if (e.kind === "page") return e.page.result === "delivered" ? glyph("acknowledged", "is-done") : e.page.result === "failed" || (e.page.error && e.page.result === "waiting") ? glyph("warning", "is-warning") : glyph("bell");
  if (["acknowledged", "snoozed", "resolved", "closed"].includes(e.kind)) return glyph("acknowledged");
  if (["gap", "exhausted", "channel"].includes(e.kind)) return glyph("warning", "is-warning");
  return el("span", { "aria-hidden": "true" }, "•");
}

function text(e, now) {
  if (e.kind === "next") return [`Next${e.at > now ? ` in ${duration(e.at - now)}` : ""}: ${e.text}`];
  if (e.kind === "page") return page(e.page);
  const who = e.who ? ` ${e.kind === "timing" ? "to" : "by"} ${e.who}` : "";
  return [el("b", {}, words[e.kind] || e.kind), e.kind === "channel" ? ` of ${e.who}` : who, e.text ? `: ${e.text}` : ""];
}

function page(p) {
  const what = about[p.about] ? `, ${about[p.about]}` : "";
  const facts = [p.bundle && p.result === "delivered" ? "delivered with others in one message" : p.result, p.latencyMs ? `${p.latencyMs < 1000 ? p.latencyMs + " ms" : (p.latencyMs / 1000).toFixed(1) + " s"} after it fired` : "", p.attempt > 1 ? `try ${p.attempt}` : "", p.result === "bundled" ? "waits to leave with others" : p.error || ""].filter(Boolean).join(", ");
  return [p.person ? el("b", {}, p.person) : el("b", {}, p.to || p.channel), p.person ? ` by ${p.to}` : ` by ${p.channel}`, `${what}: ${facts}`];
}
