// The header's word on alerts that can page nobody now: it stands there while anything is off.

import { $, setText } from "./dom.js";
import { count } from "./format.js";
import { get } from "./api.js";
import { keepFresh } from "./fresh.js";

export const startOff = (live) => keepFresh(live, [$("off")], show, 10000);

async function show() {
  const r = await get("/api/oncall/off");
  const box = $("off");
  box.hidden = r.items.length === 0;
  box.classList.toggle("everything", r.everything);
  setText(box, offText(r));
}

// offText counts what is off in a few words.
export function offText(r) {
  if (r.everything) return "All alerts off";
  const parts = [];
  if (r.boards) parts.push(`${count(r.boards)} ${r.boards === 1 ? "board" : "boards"}`);
  if (r.rules) parts.push(`${r.rules} ${r.rules === 1 ? "rule" : "rules"}`);
  for (const kind of ["receiver", "rota"]) {
    const n = r.items.filter((o) => o.kind === kind).length;
    if (n) parts.push(`${n} ${kind}${n === 1 ? "" : "s"}`);
  }
  if (!parts.length) parts.push(`${r.items.length} ${r.items.length === 1 ? "silence" : "things"}`);
  return parts.join(", ") + " off";
}
