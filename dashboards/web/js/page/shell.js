// The frame of every page: live status, clock, incident count, find, suppressed alerts, rejected
// reports, backups, demo bar.

/** @import { Backup, BackupsAnswer, OffReport, Status } from "../../types/server" */
/** @import { State } from "./live.js" */

import { $, el, glyph, part, setText } from "./dom.js";
import { clock, count, counted, dayClock, duration, zone } from "./format.js";
import { get, keepFresh, markFigures } from "./collector.js";
import { Live } from "./live.js";
import { Incidents } from "./incidents.js";
import { Demo } from "./demo.js";
import { startFind } from "./find.js";

/** startShell makes the frame of an operator's page work. demo is null where the boards are real. */
export function startShell() {
  const live = new Live();
  const incidents = new Incidents(live);
  showStatus(live);
  incidents.on("change", () => incidentCount(incidents));
  const demo = document.body.hasAttribute("data-demo") ? new Demo(live, incidents) : null;
  startFind(incidents);
  keepFresh(live, [$("rejected")], rejected, 5000);
  keepFresh(live, [$("backups")], backups, 30000);
  keepFresh(live, [$("off")], suppressed, 10000);
  return { live, incidents, demo };
}

/** startOwnShell makes the frame of a customer's page work: its websocket carries own boards alone. */
export function startOwnShell() {
  const live = new Live("/own/live");
  showStatus(live);
  return live;
}

/** @type {Record<State, string>} */
const words = { connecting: "Connecting", live: "Live", late: "Live, late", unreachable: "Unreachable" };

/** @param {Live} live */
function showStatus(live) {
  live.on("state", () => status(live));
  live.on("tick", () => status(live));
  status(live);
}

/** @param {Live} live */
function status(live) {
  const box = $("live-status");
  box.dataset.state = live.state;
  const late = live.state === "late" ? `${(live.behind / 1000).toFixed(1)} s behind` : words[live.state];
  setText(part(box, "b"), late);
  const shown = live.state === "unreachable" ? live.lastHeard : live.now();
  if (shown) setText($("clock"), clock(shown) + " " + zone(shown));
  document.body.classList.toggle("stale", live.state === "unreachable");
  staleBanner(live);
  markFigures(live);
}

/** @param {Live} live */
function staleBanner(live) {
  const banner = $("stale");
  banner.hidden = live.state !== "unreachable";
  if (banner.hidden) return;
  if (!banner.firstChild) {
    banner.append(
      glyph("warning"),
      el("b", {}, "Collector unreachable"),
      el("span", { class: "since" }),
      el("button", { onclick: () => live.retryNow() }, "Retry ", el("span", { class: "num in" })),
    );
  }
  const since = live.lastHeard ? `showing data from ${clock(live.lastHeard)}` : "no data yet";
  setText(part(banner, ".since"), since);
  setText(part(banner, ".in"), live.retryIn ? `in ${Math.ceil(live.retryIn / 1000)} s` : "now");
}

/** @param {Incidents} incidents */
function incidentCount(incidents) {
  const open = incidents.open();
  const badge = $("incident-count");
  badge.hidden = open.length === 0;
  setText(badge, String(open.length));
  badge.classList.toggle("acknowledged", open.every((i) => i.state === "acknowledged"));
}

// rejected shows the dropped reports: a bad report is counted, never hidden.
async function rejected() {
  /** @type {Status} */
  const s = await get("/api/status");
  const box = $("rejected");
  const summary = part(box, "summary");
  setText(summary, `${counted(s.rejectedTotal, "report")} rejected`);
  summary.classList.toggle("some", s.rejectedTotal > 0);
  const reasons = Object.entries(s.rejected).filter(([, n]) => n > 0);
  const text = reasons.map(([reason, n]) => `${reason.replaceAll("_", " ")} ${count(n)}`).join(" · ") || "none by any reason";
  summary.title = text;
  setText(part(box, ".reasons"), text);
  setText($("totals"), Object.entries(s.counts).map(([k, n]) => `${count(n)} ${k.replaceAll("_", " ")}`).join(" · "));
}

async function backups() {
  /** @type {BackupsAnswer} */
  const b = await get("/api/backups");
  const box = $("backups");
  const { text, bad } = backupLine(b);
  const summary = part(box, "summary");
  setText(summary, text);
  summary.classList.toggle("some", bad);
  setText(part(box, ".reasons"), backupDetail(b));
  box.hidden = !b.target;
}

/**
 * newestGood is the newest backup that is known to restore.
 * @param {BackupsAnswer} b
 * @returns {Backup | undefined}
 */
const newestGood = (b) => b.backups.find((one) => one.good);

/**
 * backupLine says in a few words how the backups stand, and whether that is bad.
 * @param {BackupsAnswer} b
 */
export function backupLine(b) {
  const newest = newestGood(b);
  if (b.running) return { text: "Backup running", bad: false };
  if (b.error) return { text: "Last backup failed", bad: true };
  if (!newest) return { text: b.everySeconds ? "No backup yet" : "No backups configured", bad: b.everySeconds > 0 };
  const old = b.now - (newest.taken ?? 0);
  return { text: `Backup ${duration(old)} old, restored in a test`, bad: b.everySeconds > 0 && old > 1500 * b.everySeconds };
}

/** @param {BackupsAnswer} b */
function backupDetail(b) {
  const lines = [];
  if (b.error) lines.push(b.error);
  const newest = newestGood(b);
  if (newest) {
    lines.push(`${newest.name}: ${count(newest.rows || 0)} rows, ${count(newest.series || 0)} series, ${newest.boards || 0} boards, tested ${dayClock(newest.testedAt ?? 0, b.now)}`);
  }
  lines.push(`${b.backups.length} in ${b.target}` + (b.everySeconds ? `, one every ${duration(b.everySeconds * 1000)}` : ", none scheduled"));
  return lines.join(" · ");
}

async function suppressed() {
  /** @type {OffReport} */
  const r = await get("/api/oncall/off");
  const box = $("off");
  box.hidden = r.items.length === 0;
  box.classList.toggle("everything", r.everything);
  setText(box, suppressedText(r));
}

/**
 * suppressedText counts in a few words which alerts can page nobody now.
 * @param {OffReport} r
 */
export function suppressedText(r) {
  if (r.everything) return "All alerts off";
  const parts = [];
  if (r.boards) parts.push(counted(r.boards, "board"));
  if (r.rules) parts.push(counted(r.rules, "rule"));
  for (const kind of ["receiver", "rota"]) {
    const n = r.items.filter((o) => o.kind === kind).length;
    if (n) parts.push(counted(n, kind));
  }
  if (!parts.length) parts.push(counted(r.items.length, r.items.length === 1 ? "silence" : "thing"));
  return parts.join(", ") + " off";
}
