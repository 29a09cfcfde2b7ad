// Series of one board as tracks on a time axis: reading them in, joining them, finding where they have
// gaps. All times are seconds, as the store and the graphs use them.

/** @import { Labels, ThrottleReason } from "../../types/server" */

/** @type {ThrottleReason[]} the rows of the throttle graph from top to bottom */
export const lanes = ["under_voltage", "frequency_capped", "throttled", "soft_temperature_limit"];

const points = 900; // that a graph shows: about one a pixel
const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
const historySteps = [900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 345600, 604800];
const ownSteps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

/**
 * fitting is the shortest of the steps in which a range has no more points than a graph shows; undefined
 * where all are too short.
 * @param {number[]} among
 * @param {number} seconds the range
 */
const fitting = (among, seconds) => among.find((s) => seconds / s <= points);

/** @param {number} seconds */
const wholeDays = (seconds) => Math.ceil(seconds / points / 86400) * 86400;

/**
 * stepFor is the step in which readings of a range are asked for.
 * @param {number} seconds
 */
export const stepFor = (seconds) => fitting(steps, seconds) ?? Math.ceil(seconds / points);

/**
 * historyStepFor is the step in which a history of a range is asked for; shortest is the least that
 * there is.
 * @param {number} seconds
 * @param {number} shortest
 */
export const historyStepFor = (seconds, shortest) => fitting(historySteps.filter((s) => s >= shortest), seconds) ?? wholeDays(seconds);

/**
 * ownStepFor is the step in which a customer's board is asked for: readings and history have one route.
 * @param {number} seconds
 */
export const ownStepFor = (seconds) => fitting(ownSteps, seconds) ?? wholeDays(seconds);

/**
 * Steps is one series of a range, with the extremes of each step.
 * @typedef {object} Steps
 * @property {Labels} labels
 * @property {number[]} at
 * @property {number[]} min
 * @property {number[]} max
 * @property {number[] | null} [mean] of a history
 */

/** @typedef {{ at: number, value: number, min: number }} Reading value is the greatest of its step */

/** Track is one line: times with the lowest and the highest reading of each step, and with their mean in a history. */
export class Track {
  constructor() {
    /** @type {number[]} */
    this.at = [];
    /** @type {number[]} */
    this.min = [];
    /** @type {number[]} */
    this.max = [];
    /** @type {number[] | null} */
    this.mean = null;
    /** @type {number | undefined} the newest reading, where it is known apart from its step */
    this.latest = undefined;
  }

  /**
   * push adds a live reading; one that is not later than the last is left out.
   * @param {number} at
   * @param {number} value
   */
  push(at, value) {
    const last = this.at.at(-1);
    if (last !== undefined && at <= last) return;
    this.at.push(at);
    this.min.push(value);
    this.max.push(value);
    this.mean?.push(value);
    this.latest = value;
  }

  /**
   * fill takes the steps of a range in place of all that was there.
   * @param {Steps | undefined} range
   */
  fill(range) {
    if (!range) return;
    this.at = [...range.at];
    this.max = [...range.max];
    this.min = [...range.min];
    this.mean = range.mean ? [...range.mean] : null;
  }

  /**
   * trim drops readings from before a time, once there are many.
   * @param {number} from
   */
  trim(from) {
    let n = 0;
    while (n < this.at.length && this.at[n] < from) n++;
    if (n < 200) return;
    for (const list of [this.at, this.min, this.max, this.mean]) list?.splice(0, n);
  }

  get last() {
    const i = this.at.length - 1;
    return i < 0 ? null : { at: this.at[i], value: this.max[i], min: this.min[i], latest: this.latest ?? this.max[i] };
  }

  /**
   * before finds the reading in force at a time, if there is one within gap.
   * @param {number} at
   * @param {number} gap
   * @returns {Reading | null}
   */
  before(at, gap) {
    let [lo, hi] = [0, this.at.length];
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if (this.at[mid] <= at) lo = mid + 1;
      else hi = mid;
    }
    return lo && at - this.at[lo - 1] <= gap ? { at: this.at[lo - 1], value: this.max[lo - 1], min: this.min[lo - 1] } : null;
  }

  /**
   * present moves the step that has only begun back to its latest reading: it neither hides live
   * readings that follow nor stands beside the one that it ends with, when that comes once more.
   * @param {number} now
   * @param {number} latestAt
   */
  present(now, latestAt) {
    const last = this.at.length - 1;
    if (last >= 0 && this.at[last] > now) this.at[last] = Math.max(latestAt, last ? this.at[last - 1] + 0.001 : latestAt);
  }

  /**
   * gaps are the times between two others in which the track has no reading for longer than limit.
   * @param {number} from
   * @param {number} to
   * @param {number} limit
   * @param {number} step for which a reading is in force, in a history
   */
  gaps(from, to, limit, step) {
    /** @type {[from: number, to: number][]} */
    const out = [];
    let last = from;
    for (const t of this.at) {
      if (t < from) continue;
      if (t > to) break;
      if (t - last > limit) out.push([last > from ? last + step : last, t]);
      last = t;
    }
    if (to - last > limit) out.push([last > from ? last + step : last, to]);
    return out;
  }

  /** spacing is the usual time between two readings; 0 where there are not two. */
  get spacing() {
    const all = this.at.slice(1).map((t, i) => t - this.at[i]).sort((a, b) => a - b);
    return all[all.length >> 1] ?? 0;
  }
}

/**
 * join fills kept with the clock that is left at the worst moment of each step: the highest requested one
 * less the greatest loss of the step. A step ends at its time, so a loss belongs to the clock that
 * follows it within one step, on whatever grid either is. Without a requested clock the measured one is
 * all that is known.
 * @param {Track} kept
 * @param {Track} requested
 * @param {Track} measured
 * @param {Steps | undefined} lost
 * @param {number} step
 */
export function join(kept, requested, measured, lost, step) {
  if (!requested.at.length) kept.fill({ labels: {}, at: measured.at, min: measured.min, max: measured.min, mean: measured.mean });
  if (!lost) return;
  const here = new Set(measured.at);
  let i = 0;
  requested.at.forEach((t, k) => {
    /** @type {number | null} */
    let max = null;
    for (; i < lost.at.length && lost.at[i] <= t; i++) if (lost.at[i] > t - step) max = Math.max(max ?? 0, lost.max[i]);
    if (max !== null && here.has(t)) kept.push(t, requested.max[k] - max);
  });
}

/**
 * spans joins the greatest and the least values of series that have the same labels.
 * @param {import("../page/collector.js").Series[]} greatest
 * @param {import("../page/collector.js").Series[]} least
 * @returns {Steps[]}
 */
export const spans = (greatest, least) => greatest.map((s) => {
  const low = least.find((l) => JSON.stringify(l.labels) === JSON.stringify(s.labels));
  return { labels: s.labels, at: s.at, max: s.values, min: low?.at.length === s.at.length ? low.values : s.values };
});

/**
 * plotColumns joins tracks on one time axis and breaks lines at gaps with a null: the times first, then a
 * column for each key of each track.
 * @param {Track[]} tracks
 * @param {number} gapLength
 * @param {("max" | "min" | "mean")[]} [keys]
 * @returns {UPlotData}
 */
export function plotColumns(tracks, gapLength, keys = ["max", "min"]) {
  /** @type {Set<number>} */
  const times = new Set();
  for (const t of tracks) for (const at of t.at) times.add(at);
  for (const t of tracks) for (let i = 1; i < t.at.length; i++) if (t.at[i] - t.at[i - 1] > gapLength) times.add((t.at[i] + t.at[i - 1]) / 2);
  const x = [...times].sort((a, b) => a - b);
  return [x, ...tracks.flatMap((t) => keys.map((key) => column(t.at, t[key], x, gapLength)))];
}

/**
 * @param {number[]} at
 * @param {number[] | null} values
 * @param {number[]} x
 * @param {number} gapLength
 */
function column(at, values, x, gapLength) {
  let i = 0;
  return x.map((t) => {
    while (i < at.length && at[i] < t) i++;
    if (!values) return null;
    if (at[i] === t) return values[i];
    return i === 0 || i >= at.length || at[i] - at[i - 1] > gapLength ? null : undefined;
  });
}

/**
 * laneSpans are the times in which a bit was set: each reading holds until the next, and never over a gap.
 * @param {Track} track
 * @param {[from: number, to: number]} view
 * @param {number} gap
 */
export function laneSpans(track, [from, to], gap) {
  /** @type {[from: number, to: number][]} */
  const out = [];
  const [last, alone] = track.mean ? [gap / 1.5, gap / 1.5] : [gap / 3, 1]; // a step of a history is known to its end
  for (let i = 0; i < track.at.length; i++) {
    if (!track.max[i]) continue;
    const next = i + 1 < track.at.length ? track.at[i + 1] : Math.min(to, track.at[i] + last);
    const end = next - track.at[i] > gap ? track.at[i] + alone : next;
    const [a, b] = [Math.max(from, track.at[i]), Math.min(to, end)];
    if (b <= a) continue;
    const before = out.at(-1);
    if (before && a - before[1] < 0.001) before[1] = b;
    else out.push([a, b]);
  }
  return out;
}

/**
 * laneSeconds is how long a bit was set. In a history the mean of a step says which share of its readings
 * had it.
 * @param {Track} track
 * @param {[from: number, to: number]} view
 * @param {number} gap
 */
export function laneSeconds(track, [from, to], gap) {
  const { at, mean } = track;
  if (!mean) return laneSpans(track, [from, to], gap).reduce((s, [a, b]) => s + b - a, 0);
  const step = gap / 1.5;
  return at.reduce((s, t, i) => s + Math.max(0, Math.min(to, t + step, at[i + 1] ?? Infinity) - Math.max(from, t)) * mean[i], 0);
}
