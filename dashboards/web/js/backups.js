// The footer's line on backups: how old the newest one is that is known to restore.

import { $, setText } from "./dom.js";
import { count, dayClock, duration } from "./format.js";
import { get } from "./api.js";
import { keepFresh } from "./fresh.js";

export const startBackups = (live) => keepFresh(live, [$("backups")], show, 30000);

async function show() {
  const b = await get("/api/backups");
  const box = $("backups");
  const { text, bad } = line(b);
  const summary = box.querySelector("summary");
  setText(summary, text);
  summary.classList.toggle("some", bad);
  setText(box.querySelector(".reasons"), detail(b));
  box.hidden = !b.target;
}

// line says in a few words how the backups stand, and whether that is bad.
export function line(b) {
  const newest = b.backups.find((one) => one.good);
  if (b.running) return { text: "Backup running", bad: false };
  if (b.error) return { text: "Last backup failed", bad: true };
  if (!newest) return { text: b.everySeconds ? "No backup yet" : "No backups configured", bad: b.everySeconds > 0 };
  const old = b.now - newest.taken;
  return { text: `Backup ${duration(old)} old, restored in a test`, bad: b.everySeconds > 0 && old > 1500 * b.everySeconds };
}

function detail(b) {
  const lines = [];
  if (b.error) lines.push(b.error);
  const newest = b.backups.find((one) => one.good);
  if (newest) {
    lines.push(`${newest.name}: ${count(newest.rows || 0)} rows, ${count(newest.series || 0)} series, ${newest.boards || 0} boards, tested ${dayClock(newest.testedAt, b.now)}`);
  }
  lines.push(`${b.backups.length} in ${b.target}` + (b.everySeconds ? `, one every ${duration(b.everySeconds * 1000)}` : ", none scheduled"));
  return lines.join(" · ");
}
