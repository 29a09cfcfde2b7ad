// The history of a board: the part of a range that goes further back than the readings, or is looked at
// from so far that a step has many of them. The collector puts least, mean and greatest of each step
// together from its rollups and the newest readings.

/** @import { History, Rollups } from "../../types/server" */
/** @import { Found } from "./data.js" */
/** @import { Steps } from "./series.js" */

import { get, queryRange } from "../page/collector.js";
import { historyStepFor } from "./series.js";

const latestWithin = 600; // s in which the last reading is still the present

/** @type {Promise<Rollups> | null} */
let known = null;

/** @returns {Promise<Rollups>} */
function rollups() {
  known ??= get("/api/rollups");
  return known.catch((e) => {
    known = null; // asked again
    throw e;
  });
}

/**
 * historyStep is the step in which a range is shown from its history, in seconds; 0 where the readings
 * themselves are.
 * @param {number} start
 * @param {number} end
 * @param {number} step that of the readings
 */
export async function historyStep(start, end, step) {
  const r = await rollups();
  const readingsFrom = Date.now() / 1000 - r.rawSeconds;
  if (!r.bucketSeconds || (step < r.bucketSeconds && start >= readingsFrom)) return 0;
  return historyStepFor(end - start, r.bucketSeconds);
}

/**
 * latestOf asks for the reading of the temperature that is the present at a time.
 * @param {string} board
 * @param {number} at
 */
export async function latestOf(board, at) {
  const found = await queryRange(`max(last_over_time(pi_soc_temperature_celsius{board="${board}"}[${latestWithin}s]))`, Math.floor(at), Math.floor(at), 60);
  return found[0]?.values.at(-1);
}

/**
 * readHistory asks for the history of a board at a path; latest is a promise of the present temperature,
 * where somebody knows it. A step of rolled is in force from its begin on, so that is its time; other
 * steps are of readings and end at their time.
 * @param {string} path
 * @param {number} start
 * @param {number} end
 * @param {number} step
 * @param {Promise<number | undefined>} [latest]
 * @param {boolean} [rolled]
 * @returns {Promise<Found>}
 */
export async function readHistory(path, start, end, step, latest, rolled = true) {
  const back = rolled ? step : 0;
  /**
   * @param {string} metric
   * @param {string} [by]
   * @returns {Promise<Steps[]>}
   */
  const ask = async (metric, by) => {
    const q = new URLSearchParams({ metric, start: String(Math.floor(start * 1000)), end: String(Math.ceil(end * 1000)), step: String(step) });
    if (by) q.set("by", by);
    /** @type {History} */
    const { spans } = await get(path + "/history?" + q);
    return spans.map((s) => ({ labels: s.labels, at: s.at.map((t) => t / 1000 - back), min: s.min, max: s.max, mean: rolled ? s.mean : null }));
  };
  const [temperature, clocks, bits, lost, present] = await Promise.all([
    ask("pi_soc_temperature_celsius"), ask("pi_cpu_clock_hertz", "source"), ask("pi_throttled", "reason"), ask("pi_cpu_clock_lost_hertz"), latest,
  ]);
  return { step, history: back, temperature, clocks, bits, lost, latest: present ?? temperature[0]?.mean?.at(-1) };
}
