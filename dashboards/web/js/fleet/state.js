// All boards: the registry's list of them, and the newest readings of each.

/** @import { BoardAnswer, Boards, Cell, Frames, ThrottleReason } from "../../types/server" */
/** @import { Live } from "../page/live.js" */

import { get } from "../page/collector.js";
import { natural } from "../page/format.js";
import { Signals } from "../page/signals.js";

const refreshEvery = 60000;
const unknownWait = 2000; // a board that the registry did not know yet

/**
 * Board is a board of the registry with its newest readings, r.
 * @typedef {Pick<BoardAnswer, "name" | "labels" | "enrolled" | "stopped" | "lastReport"> & { r: Partial<Cell> }} Board
 */

/**
 * Fleet emits layout with all boards after some came, went or moved, and change with those that have
 * other readings.
 * @extends {Signals<{ layout: Board[], change: Board[] }>}
 */
export class Fleet extends Signals {
  #live;
  /** @type {Map<string, Cell>} */
  #readings = new Map();
  #asked = 0;

  /** @param {Live} live */
  constructor(live) {
    super();
    this.#live = live;
    /** @type {Map<string, Board>} */
    this.boards = new Map();
    this.loaded = false;
    live.on("hello", () => this.refresh());
    live.on("fleet", (m) => this.#take(m));
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
    /** @type {Boards} */
    let answer;
    try {
      answer = await get("/api/boards");
    } catch {
      return; // asked again after the next hello
    }
    /** @type {Map<string, Board>} */
    const next = new Map();
    for (const b of answer.boards.sort((x, y) => natural(x.name, y.name))) {
      next.set(b.name, { name: b.name, labels: b.labels, enrolled: b.enrolled, stopped: b.stopped, lastReport: b.lastReport, r: this.#readings.get(b.name) || {} });
    }
    const before = layoutKey(this.boards);
    this.boards = next;
    const first = !this.loaded;
    this.loaded = true;
    this.emit(first || before !== layoutKey(next) ? "layout" : "change", this.list());
  }

  /** @param {Frames["fleet"]} m */
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
    if (this.loaded) this.emit("change", m.full ? this.list() : changed);
  }
}

/** @param {Map<string, Board>} boards */
const layoutKey = (boards) => [...boards.values()].map((b) => b.name + JSON.stringify(b.labels)).join();

/**
 * isSilent: the collector said so. A board without a word from the collector is unknown.
 * @param {Board} b
 */
export const isSilent = (b) => b.r.up === 0;

/** @param {Board} b */
export const isUp = (b) => b.r.up === 1;

/**
 * isStopped: the sensor ended properly, so that the board neither reports nor is silent.
 * @param {Board} b
 */
export const isStopped = (b) => b.r.stopped ?? (b.r.up === undefined && Boolean(b.stopped));

/** @param {Board} b */
export const hasReported = (b) => reportedAt(b) > 0;

/**
 * current returns a reading only while the board reports: the last value of a silent or stopped board is
 * history.
 * @template {keyof Cell} K
 * @param {Board} b
 * @param {K} key
 */
export const current = (b, key) => (isSilent(b) || isStopped(b) ? undefined : b.r[key]);

/**
 * @param {Board} b
 * @returns {ThrottleReason[]}
 */
export const reasons = (b) => current(b, "throttled") || [];

/** @param {Board} b */
export const reportedAt = (b) => b.r.at || b.lastReport || 0;

/**
 * lostShare is the part of the requested clock that the firmware takes away, from 0 to 1; less than a
 * hundredth is none.
 * @param {Board} b
 */
export function lostShare(b) {
  const q = current(b, "requested");
  const m = current(b, "measured");
  return q !== undefined && q > 0 && m !== undefined && m < q * 0.99 ? 1 - m / q : 0;
}

/**
 * marks are the glyphs of a board's state.
 * @param {Board} b
 * @returns {(ThrottleReason | "silent" | "stopped")[]}
 */
export const marks = (b) => (isSilent(b) ? ["silent"] : isStopped(b) ? ["stopped"] : reasons(b));

/**
 * spoken is a board's state in words.
 * @param {Board} b
 * @param {(t: number) => string} celsius
 * @param {Record<ThrottleReason, string>} words
 */
export function spoken(b, celsius, words) {
  if (isSilent(b)) return `${b.name}, silent`;
  if (isStopped(b)) return `${b.name}, stopped`;
  if (!hasReported(b)) return `${b.name}, never reported`;
  const t = current(b, "temperature");
  return [t === undefined ? `${b.name}, no temperature` : `${b.name} ${celsius(t)}`, ...reasons(b).map((r) => words[r])].join(", ");
}
