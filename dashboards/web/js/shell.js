// What every page has: live status, clock, incident count, find, rejected reports, backups, demo bar.

import { $, el, glyph, setText } from "./dom.js";
import { clock, count, zone } from "./format.js";
import { get } from "./api.js";
import { Live } from "./live.js";
import { Incidents } from "./incidentstore.js";
import { startDemo } from "./demo.js";
import { startFind } from "./find.js";
import { startBackups } from "./backups.js";
import { startOff } from "./offcount.js";
import { keepFresh, markFigures } from "./fresh.js";
import "./forms.js";

export function startShell() {
  const live = new Live();
  const incidents = new Incidents(live);
  live.addEventListener("state", () => status(live));
  live.addEventListener("tick", () => status(live));
  incidents.addEventListener("change", () => incidentCount(incidents));
  const demo = document.body.hasAttribute("data-demo") ? startDemo(live, incidents) : null;
  startFind(incidents);
  keepFresh(live, [$("rejected")], rejected, 5000);
  startBackups(live);
  startOff(live);
  status(live);
  return { live, incidents, demo };
}

const words = { connecting: "Connecting", live: "Live", late: "Live, late", unreachable: "Unreachable" };

export function status(live) {
  const box = $("live-status");
  box.dataset.state = live.state;
  const late = live.state === "late" ? `${(live.behind / 1000).toFixed(1)} s behind` : words[live.state];
  setText(box.querySelector("b"), late);
  const shown = live.state === "unreachable" ? live.lastHeard : live.now();
  if (shown) setText($("clock"), clock(shown) + " " + zone(shown));
  document.body.classList.toggle("stale", live.state === "unreachable");
  staleBanner(live);
  markFigures(live);
}

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
  setText(banner.querySelector(".since"), since);
  setText(banner.querySelector(".in"), live.retryIn ? `in ${Math.ceil(live.retryIn / 1000)} s` : "now");
}

function incidentCount(incidents) {
  const n = incidents.open().length;
  const badge = $("incident-count");
  badge.hidden = n === 0;
  setText(badge, String(n));
  badge.classList.toggle("acknowledged", incidents.open().every((i) => i.state === "acknowledged"));
}

// rejected shows the dropped reports: a bad report is counted, never hidden.
async function rejected() {
  const s = await get("/api/status");
  const box = $("rejected");
  const summary = box.querySelector("summary");
  setText(summary, `${count(s.rejectedTotal)} ${s.rejectedTotal === 1 ? "report" : "reports"} rejected`);
  summary.classList.toggle("some", s.rejectedTotal > 0);
  const reasons = Object.entries(s.rejected).filter(([, n]) => n > 0);
  const text = reasons.map(([reason, n]) => `${reason.replaceAll("_", " ")} ${count(n)}`).join(" · ") || "none by any reason";
  summary.title = text;
  setText(box.querySelector(".reasons"), text);
  setText($("totals"), Object.entries(s.counts).map(([k, n]) => `${count(n)} ${k.replaceAll("_", " ")}`).join(" · "));
}
