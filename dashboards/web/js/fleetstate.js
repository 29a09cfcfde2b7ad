// All boards: what the registry says, and what the live hub says now.

import { get } from "./api.js";
import { natural } from "./format.js";

const refreshEvery = 60000;
const unknownWait = 2000; // a board that the registry did not know yet

export class Fleet extends EventTarget {
  #live;
  #readings = new Map();
  #asked = 0;

  constructor(live) {
    super();
    this.#live = live;
    this.boards = new Map();
    this.loaded = false;
    live.addEventListener("hello", () => this.refresh());
    live.addEventListener("fleet", (e) => this.#take(e.detail));
    live.subscribe("fleet", { type: "subscribe", fleet: true });
    setInterval(() => this.refresh(), refreshEvery);
  }

  now() {
    return this.#live.now();
  }
  list() {
    return [...this.boards.values()];
  }

  async refresh() {
    this.#asked = Date.now();
    let answer;
    try {
      answer = await get("/api/boards");
    } catch {
      return; // asked again after the next hello
    }
    const next = new Map();
    for (const b of answer.boards.sort((x, y) => natural(x.name, y.name))) {
      next.set(b.name, { name: b.name, labels: b.labels, enrolled: b.enrolled, stopped: b.stopped, lastReport: b.lastReport, r: this.#readings.get(b.name) || {} });
    }
    const before = layoutKey(this.boards);
    this.boards = next;
    const first = !this.loaded;
    this.loaded = true;
    const event = first || before !== layoutKey(next) ? "layout" : "change";
    this.dispatchEvent(new CustomEvent(event, { detail: this.list() }));
  }

  #take(m) {
    if (m.full) this.#readings.clear();
    const changed = [];
    let unknown = false;
    for (const r of m.boards) {
      this.#readings.set(r.board, r);
      const b = this.boards.get(r.board);
      if (b) {
        b.r = r;
        changed.push(b);
      } else unknown = true;
    }
    if (m.full) for (const b of this.boards.values()) b.r = this.#readings.get(b.name) || {};
    if (unknown && this.loaded && Date.now() - this.#asked > unknownWait) this.refresh();
    if (this.loaded) this.dispatchEvent(new CustomEvent("change", { detail: m.full ? this.list() : changed }));
  }
}

const layoutKey = (boards) => [...boards.values()].map((b) => b.name + JSON.stringify(b.labels)).join();

// isSilent: the collector said so. A board without a word from the collector is unknown.
export const isSilent = (b) => b.r.up === 0;
export const isUp = (b) => b.r.up === 1;
// isStopped: the sensor ended properly, so that the board neither reports nor is silent.
export const isStopped = (b) => b.r.stopped ?? (b.r.up === undefined && Boolean(b.stopped));
export const hasReported = (b) => reportedAt(b) > 0;
// current returns a reading only while the board reports: the last value of a silent or stopped board is history.
export const current = (b, key) => (isSilent(b) || isStopped(b) ? undefined : b.r[key]);
export const reasons = (b) => current(b, "throttled") || [];
export const reportedAt = (b) => b.r.at || b.lastReport || 0;
export const lostShare = (b) => {
  const q = current(b, "requested");
  const m = current(b, "measured");
  return q > 0 && m !== undefined && m < q * 0.99 ? 1 - m / q : 0;
};
export const marks = (b) => (isSilent(b) ? ["silent"] : isStopped(b) ? ["stopped"] : reasons(b));

export function spoken(b, celsius, words) {
  if (isSilent(b)) return `${b.name}, silent`;
  if (isStopped(b)) return `${b.name}, stopped`;
  if (!hasReported(b)) return `${b.name}, never reported`;
  const t = current(b, "temperature");
  return [t === undefined ? `${b.name}, no temperature` : `${b.name} ${celsius(t)}`, ...reasons(b).map((r) => words[r])].join(", ");
}
