// Parts of a page that are asked for again and again, and say so where they could not be.

import { setAttr } from "./dom.js";
import { clock } from "./format.js";
import { Refused, Unanswered } from "./api.js";

// keepFresh calls load now, every so many ms while the page is looked at, and when the connection changes. While load fails,
// the parts say as of when they are. It returns a function that loads at once.
export function keepFresh(live, parts, load, every) {
  let loadedAt = 0;
  const refresh = async () => {
    let stale = null;
    try {
      await load();
      loadedAt = Date.now();
    } catch (e) {
      if (!(e instanceof Refused || e instanceof Unanswered)) throw e;
      stale = loadedAt ? `as of ${clock(loadedAt)}: ${e.message}` : `not loaded: ${e.message}`;
    }
    for (const part of parts) setAttr(part, "data-stale", stale);
  };
  refresh();
  setInterval(() => document.hidden || refresh(), every);
  live.addEventListener("state", (e) => e.detail !== "late" && refresh());
  return refresh;
}

// markFigures says of all live figures as of when they are, while the collector is away.
export function markFigures(live) {
  const stale = live.state !== "unreachable" ? null : live.lastHeard ? "as of " + clock(live.lastHeard) : "not loaded";
  for (const part of document.querySelectorAll("[data-figures]")) setAttr(part, "data-stale", stale);
}
