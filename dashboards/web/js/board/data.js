// The series of one board over a range: read from the store, then continued live. All times are seconds.

/** @import { Frames, Labels } from "../../types/server" */
/** @import { Steps } from "./series.js" */

import { queryRange } from "../page/collector.js";
import { historyStep, latestOf, readHistory } from "./history.js";
import { Track, join, lanes, spans, stepFor } from "./series.js";

const lossPoints = 50000; // instants that one query may compare
const silentAfter = 30; // s without a reading that are no gap yet: three reports at the default rate

/**
 * Found is the series of a range. In a history a step is in force from its begin on, and has a mean.
 * @typedef {object} Found
 * @property {number} step
 * @property {number} history the step in which it is in force, 0 for readings
 * @property {Steps[]} temperature
 * @property {Steps[]} clocks
 * @property {Steps[]} bits
 * @property {Steps[]} lost
 * @property {number | undefined} latest temperature, where it is known
 * @property {number} [latestAt]
 */

/** @typedef {[from: number, to: number]} View */

/** @typedef {"unread" | "waiting" | "empty" | "shown"} ViewState */

export class BoardData {
  /** @param {string} board */
  constructor(board) {
    this.board = board;
    /** @type {View | null} the time of which all readings are here */
    this.read = null;
    /** @type {number | null} since when the board can report; null where that is not known */
    this.enrolled = null;
    /** @type {boolean | null} whether it ever has; null where that is not known */
    this.reported = null;
    this.stopped = false; // its sensor ended properly
    this.step = 1;
    this.history = 0; // its step, where the tracks are of a history
    this.temperature = new Track();
    this.requested = new Track();
    this.measured = new Track();
    this.kept = new Track(); // of the highest clock requested in a step, the part that was left at the worst moment
    this.throttled = emptyLanes();
  }

  /**
   * load reads a range, and takes it unless another one is wanted by the time that it is there.
   * @param {number} start
   * @param {number} end
   * @param {() => boolean} wanted
   */
  async load(start, end, wanted) {
    const found = await this.ask(start, end);
    if (!wanted()) return;
    this.take(found, end);
    this.read = [start, end];
  }

  /**
   * ask returns the series of a range.
   * @param {number} start
   * @param {number} end
   * @returns {Promise<Found>}
   */
  async ask(start, end) {
    const step = stepFor(end - start);
    const coarse = await historyStep(start, end, step);
    if (coarse) return readHistory("/api/boards/" + this.board, start, end, coarse, latestOf(this.board, end));
    const from = Math.floor(start / step) * step;
    const to = Math.ceil(end / step) * step;
    const match = `{board="${this.board}"}[${step}s]`;
    /**
     * @param {"max" | "min"} f
     * @param {string} name
     * @param {string} [by]
     */
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

  /**
   * take fills the tracks with a range that ends at a time.
   * @param {Found} found
   * @param {number} end
   */
  take(found, end) {
    this.step = found.step;
    this.history = found.history;
    /** @param {Steps[]} list @param {keyof Labels} label @param {string} value */
    const of = (list, label, value) => filled(list.find((s) => s.labels[label] === value));
    this.temperature = filled(found.temperature[0]);
    this.temperature.latest = found.latest;
    this.requested = of(found.clocks, "source", "requested");
    this.measured = of(found.clocks, "source", "measured");
    this.kept = new Track();
    join(this.kept, this.requested, this.measured, found.lost[0], found.step);
    for (const l of lanes) this.throttled[l] = of(found.bits, "reason", l);
    for (const t of this.tracks) t.present(end, found.latestAt ?? end);
  }
  get tracks() {
    return [this.temperature, this.requested, this.measured, this.kept, ...lanes.map((l) => this.throttled[l])];
  }

  /**
   * add takes a live reading; true when it belongs to a graph.
   * @param {Frames["reading"]} m
   */
  add(m) {
    let used = false;
    /**
     * @param {Track} track
     * @param {string} series
     */
    const put = (track, series) => {
      const value = m.values[series];
      if (value === undefined || value === null) return;
      track.push(m.at / 1000, value);
      used = true;
    };
    put(this.temperature, "pi_soc_temperature_celsius");
    put(this.requested, 'pi_cpu_clock_hertz{source="requested"}');
    put(this.measured, 'pi_cpu_clock_hertz{source="measured"}');
    put(this.kept, 'pi_cpu_clock_hertz{source="measured"}');
    for (const l of lanes) put(this.throttled[l], `pi_throttled{reason="${l}"}`);
    return used;
  }
  /** @param {number} from */
  trim(from) {
    for (const t of this.tracks) t.trim(from);
  }

  /**
   * gapLength is three times the usual spacing, and never less than the time after which a board is
   * silent. In a history it is a step without readings.
   */
  get gapLength() {
    if (this.history) return 1.5 * this.history;
    const track = [this.temperature, this.measured].find((t) => t.at.length) ?? this.requested;
    return 3 * Math.max(silentAfter / 3, this.step, track.spacing);
  }

  /**
   * about takes over when the board was enrolled, before which it can have no reading, whether it has
   * ever reported, and whether its sensor was stopped. Times are Unix ms.
   * @param {{ enrolledAt?: number, lastReport?: number, stopped?: boolean }} info
   */
  about({ enrolledAt, lastReport, stopped }) {
    this.enrolled = enrolledAt ? enrolledAt / 1000 : null;
    this.reported = Boolean(lastReport);
    this.stopped = Boolean(stopped);
  }

  /**
   * state says how much of a view is known: "unread" before it was read and where that failed, "waiting"
   * before the board's first reading, "empty" where it was read and there is nothing, else "shown".
   * @param {View} view
   * @returns {ViewState}
   */
  state([start, end]) {
    if (this.tracks.some((t) => t.at.some((at) => at >= start && at <= end))) return "shown";
    if (this.reported === false && !this.tracks.some((t) => t.at.length)) return "waiting";
    return this.read && this.read[0] < end && this.read[1] > start ? "empty" : "unread";
  }

  /**
   * begin is when a view's readings can begin: with the enrolment, or with readings that are from before
   * it (imported ones).
   * @param {Track} track
   * @param {View} view
   */
  begin(track, [start, end]) {
    const first = track.at.find((t) => t >= start) ?? end;
    return Math.min(this.enrolled ?? first, first);
  }

  /**
   * gaps are the times of a view in which the board was to report and a track has nothing. Time that was
   * not read, or in which the board was not enrolled yet, is none: nothing is known of it.
   * @param {Track} track
   * @param {View} view
   */
  gaps(track, view) {
    if (!this.read || (this.reported === false && !track.at.length)) return [];
    const from = Math.max(view[0], this.read[0], this.begin(track, view));
    return track.gaps(from, Math.min(view[1], this.read[1]), this.gapLength, this.history);
  }
}

const emptyLanes = () => ({ under_voltage: new Track(), frequency_capped: new Track(), throttled: new Track(), soft_temperature_limit: new Track() });

/** @param {Steps | undefined} steps */
function filled(steps) {
  const t = new Track();
  t.fill(steps);
  return t;
}

/**
 * lossOf asks for the greatest loss of each step: requested less measured at the same instant. The
 * highest requested and the lowest measured clock of a step may lie minutes apart, and an idle board that
 * changes its clock loses nothing.
 * @param {string} board
 * @param {number} step
 * @param {number} seconds
 */
export function lossOf(board, step, seconds) {
  /** @param {string} source */
  const clock = (source) => `pi_cpu_clock_hertz{board="${board}",source="${source}"}`;
  const resolution = Math.min(step, Math.max(1, Math.ceil(seconds / lossPoints)));
  return `max(max_over_time((${clock("requested")} - ignoring(source) ${clock("measured")})[${step}s:${resolution}s]))`;
}
