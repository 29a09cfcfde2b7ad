// The series of one board over a range: read from the store, then continued live.
// All times are seconds, as the store and the graphs use them.

import { queryRange } from "./api.js";
import { historyStep, latestOf, readHistory } from "./boardhistory.js";

export const ranges = { "15m": 900, "1h": 3600, "6h": 21600, "24h": 86400, "7d": 604800, "30d": 2592000, "90d": 7776000, "1y": 31536000, "2y": 63072000 };
export const rangeWords = { "15m": "15 m", "1h": "1 h", "6h": "6 h", "24h": "24 h", "7d": "7 d", "30d": "30 d", "90d": "90 d", "1y": "1 y", "2y": "2 y" };
const lossPoints = 50000; // instants that one query may compare
const points = 900; // about one a pixel
const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
const silentAfter = 30; // s without a reading that are no gap yet: three reports at the default rate

export const stepFor = (seconds) => steps.find((s) => seconds / s <= points) || Math.ceil(seconds / points);

// Track is one line: times with the lowest and the highest reading of each step, and with their mean in a history.
export class Track {
  constructor() {
    this.at = [];
    this.min = [];
    this.max = [];
  }
  push(at, value) {
    const last = this.at.length - 1;
    if (last >= 0 && at <= this.at[last]) return;
    this.at.push(at);
    this.min.push(value);
    this.max.push(value);
    this.mean?.push(value);
    this.latest = value;
  }
  // trim drops what has left the view, but for a margin.
  trim(from) {
    let n = 0;
    while (n < this.at.length && this.at[n] < from) n++;
    if (n < 200) return;
    for (const list of [this.at, this.min, this.max, this.mean]) list?.splice(0, n);
  }
  get last() {
    return this.at.length ? { at: this.at[this.at.length - 1], value: this.max[this.max.length - 1], min: this.min[this.min.length - 1], latest: this.latest ?? this.max[this.max.length - 1] } : null;
  }
  // before finds the reading in force at a time, if there is one near enough.
  before(at, gap) {
    let [lo, hi] = [0, this.at.length];
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if (this.at[mid] <= at) lo = mid + 1;
      else hi = mid;
    }
    return lo && at - this.at[lo - 1] <= gap ? { at: this.at[lo - 1], value: this.max[lo - 1], min: this.min[lo - 1] } : null;
  }
}

const lanes = ["under_voltage", "frequency_capped", "throttled", "soft_temperature_limit"];
export { lanes };

export class BoardData {
  constructor(board) {
    this.board = board;
    this.read = null; // [from, to] in seconds: the time of which all readings are here
    this.enrolled = null; // since when the board can report, in seconds; null where that is not known
    this.reported = null; // whether it ever has; null where that is not known
    this.stopped = false; // its sensor ended properly
    this.clear();
  }
  clear() {
    this.temperature = new Track();
    this.requested = new Track();
    this.measured = new Track();
    this.kept = new Track(); // of the highest clock requested in a step, what was left at the worst moment
    this.throttled = Object.fromEntries(lanes.map((l) => [l, new Track()]));
    this.step = 1;
    this.history = 0; // its step, where the tracks are of a history
  }

  // load reads a range, and takes it unless another one is wanted by the time that it is there.
  async load(start, end, wanted) {
    const found = await this.ask(start, end);
    if (!wanted()) return;
    this.take(found, end);
    this.read = [start, end];
  }

  // ask returns the series of a range, each as a list of {labels, at, min, max}, and the step in which they are. In a
  // history a step is in force from its begin on, and has a mean.
  async ask(start, end) {
    const step = stepFor(end - start);
    const coarse = await historyStep(start, end, step, points);
    if (coarse) return readHistory("/api/boards/" + this.board, start, end, coarse, latestOf(this.board, end));
    const from = Math.floor(start / step) * step;
    const to = Math.ceil(end / step) * step;
    const match = `{board="${this.board}"}[${step}s]`;
    const series = (f, name, by) => queryRange(`${f}(${f}_over_time(${name}${match}))${by ? ` by (${by})` : ""}`, from, to, step);
    const [tMax, tMin, cMax, cMin, bits, lost, tLast, tLastAt] = await Promise.all([
      series("max", "pi_soc_temperature_celsius"), series("min", "pi_soc_temperature_celsius"),
      series("max", "pi_cpu_clock_hertz", "source"), series("min", "pi_cpu_clock_hertz", "source"),
      series("max", "pi_throttled", "reason"), queryRange(lossOf(this.board, step, to - from), from, to, step),
      queryRange(`max(last_over_time(pi_soc_temperature_celsius${match}))`, from, to, step),
      queryRange(`max(tlast_over_time(pi_soc_temperature_celsius${match}))`, to, to, step),
    ]);
    return {
      step, history: 0, temperature: spans(tMax, tMin), clocks: spans(cMax, cMin), bits: spans(bits, bits), lost: spans(lost, lost),
      latest: tLast[0]?.values.at(-1), latestAt: tLastAt[0]?.values.at(-1),
    };
  }

  // take fills the tracks with a range that ends at a time.
  take(found, end) {
    this.clear();
    this.step = found.step;
    this.history = found.history;
    const clock = (source) => found.clocks.find((s) => s.labels.source === source);
    fill(this.temperature, found.temperature[0]);
    this.temperature.latest = found.latest;
    fill(this.requested, clock("requested"));
    fill(this.measured, clock("measured"));
    join(this.kept, this.requested, this.measured, found.lost[0], found.step);
    for (const s of found.bits) if (this.throttled[s.labels.reason]) fill(this.throttled[s.labels.reason], s);
    for (const t of this.tracks) present(t, end, found.latestAt ?? end);
  }
  get tracks() {
    return [this.temperature, this.requested, this.measured, this.kept, ...Object.values(this.throttled)];
  }

  // add takes a live reading; true when it belongs to a graph.
  add(m) {
    const at = m.at / 1000;
    const v = m.values;
    let used = false;
    const put = (track, series) => {
      if (v[series] === undefined || v[series] === null) return;
      track.push(at, v[series]);
      used = true;
    };
    put(this.temperature, "pi_soc_temperature_celsius");
    put(this.requested, 'pi_cpu_clock_hertz{source="requested"}');
    put(this.measured, 'pi_cpu_clock_hertz{source="measured"}');
    put(this.kept, 'pi_cpu_clock_hertz{source="measured"}');
    for (const l of lanes) put(this.throttled[l], `pi_throttled{reason="${l}"}`);
    return used;
  }
  trim(from) {
    for (const t of this.tracks) t.trim(from);
  }

  // gapLength is three times the usual spacing, and never less than the time after which a board is silent.
  // In a history it is a step without readings.
  get gapLength() {
    if (this.history) return 1.5 * this.history;
    const at = this.temperature.at.length ? this.temperature.at : this.measured.at.length ? this.measured.at : this.requested.at;
    const spacing = at.slice(1).map((t, i) => t - at[i]).sort((a, b) => a - b);
    return 3 * Math.max(silentAfter / 3, this.step, spacing[spacing.length >> 1] || 0);
  }

  // about takes over when the board was enrolled (Unix ms), before which it can have no reading, whether it has ever
  // reported, and whether its sensor was stopped.
  about({ enrolledAt, lastReport, stopped }) {
    this.enrolled = enrolledAt ? enrolledAt / 1000 : null;
    this.reported = Boolean(lastReport);
    this.stopped = Boolean(stopped);
  }

  // state says how much of a view is known: "unread" before it was read and where that failed, "waiting" before the board's
  // first reading, "empty" where it was read and there is nothing, else "shown".
  state([start, end]) {
    if (this.tracks.some((t) => t.at.some((at) => at >= start && at <= end))) return "shown";
    if (this.reported === false && !this.tracks.some((t) => t.at.length)) return "waiting";
    return this.read && this.read[0] < end && this.read[1] > start ? "empty" : "unread";
  }

  // begin is when a view's readings can begin: with the enrolment, or with readings that are from before it (imported ones).
  begin(track, start, end) {
    const first = track.at.find((t) => t >= start) ?? end;
    return Math.min(this.enrolled ?? first, first);
  }

  // gaps are the times of a view in which the board was to report and a track has nothing. Time that was not read, or in
  // which the board was not enrolled yet, is none: nothing is known of it.
  gaps(track, start, end) {
    if (!this.read || (this.reported === false && !track.at.length)) return [];
    const limit = this.gapLength;
    const from = Math.max(start, this.read[0], this.begin(track, start, end));
    const to = Math.min(end, this.read[1]);
    const out = [];
    let last = from;
    for (const t of track.at) {
      if (t < from) continue;
      if (t > to) break;
      if (t - last > limit) out.push([last > from ? last + this.history : last, t]);
      last = t;
    }
    if (to - last > limit) out.push([last > from ? last + this.history : last, to]);
    return out;
  }
}

// lossOf asks for the greatest loss of each step: requested less measured at the same instant. The highest requested and
// the lowest measured clock of a step may lie minutes apart, and an idle board that changes its clock loses nothing.
function lossOf(board, step, seconds) {
  const clock = (source) => `pi_cpu_clock_hertz{board="${board}",source="${source}"}`;
  const resolution = Math.min(step, Math.max(1, Math.ceil(seconds / lossPoints)));
  return `max(max_over_time((${clock("requested")} - ignoring(source) ${clock("measured")})[${step}s:${resolution}s]))`;
}

// join puts beside the clock that is left at the worst moment of each step: the highest requested one less the greatest
// loss of the step. A step ends at its time, so a loss belongs to the clock that follows it within one step, on whatever
// grid either is. Without a requested clock the measured one is all that is known.
function join(kept, requested, measured, lost, step) {
  if (!requested.at.length) fill(kept, { ...measured, max: measured.min });
  if (!lost) return;
  const here = new Set(measured.at);
  let i = 0;
  requested.at.forEach((t, k) => {
    let most = null;
    for (; i < lost.at.length && lost.at[i] <= t; i++) if (lost.at[i] > t - step) most = Math.max(most ?? 0, lost.max[i]);
    if (most !== null && here.has(t)) kept.push(t, requested.max[k] - most);
  });
}

// spans joins the greatest and the least values of series.
const spans = (greatest, least) => greatest.map((s) => {
  const low = least.find((l) => JSON.stringify(l.labels) === JSON.stringify(s.labels));
  return { labels: s.labels, at: s.at, max: s.values, min: low?.at.length === s.at.length ? low.values : s.values };
});

function fill(track, span) {
  if (!span) return;
  track.at = [...span.at];
  track.max = [...span.max];
  track.min = [...span.min];
  if (span.mean) track.mean = [...span.mean];
}

// present moves the step that has only begun back to its latest reading: it neither hides live readings that follow nor
// stands beside the one that it ends with, when that comes once more.
function present(track, now, latestAt) {
  const last = track.at.length - 1;
  if (last >= 0 && track.at[last] > now) track.at[last] = Math.max(latestAt, last ? track.at[last - 1] + 0.001 : latestAt);
}

// plotColumns joins tracks on one time axis and breaks lines at gaps with a null.
export function plotColumns(tracks, gapLength, keys = ["max", "min"]) {
  const times = new Set();
  for (const t of tracks) for (const at of t.at) times.add(at);
  for (const t of tracks) for (let i = 1; i < t.at.length; i++) if (t.at[i] - t.at[i - 1] > gapLength) times.add((t.at[i] + t.at[i - 1]) / 2);
  const x = [...times].sort((a, b) => a - b);
  const columns = [x];
  for (const t of tracks) {
    for (const key of keys) columns.push(column(t, key, x, gapLength));
  }
  return columns;
}
function column(track, key, x, gapLength) {
  const out = new Array(x.length);
  let i = 0;
  for (let k = 0; k < x.length; k++) {
    while (i < track.at.length && track.at[i] < x[k]) i++;
    const here = track.at[i] === x[k];
    const inGap = i === 0 || i >= track.at.length || track.at[i] - track.at[i - 1] > gapLength;
    out[k] = !track[key] ? null : here ? track[key][i] : inGap ? null : undefined;
  }
  return out;
}
