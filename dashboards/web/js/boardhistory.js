// What goes further back than the readings, or is looked at from so far that a step has many of them: least, mean and
// greatest of each step, which the collector puts together from its rollups and the newest readings.

import { get, queryRange } from "./api.js";

const longest = [900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 345600, 604800];
const latestWithin = 600; // s in which the last reading is still the present

let known = null;
const rollups = () => (known ??= get("/api/rollups").catch((e) => ((known = null), Promise.reject(e))));

// historyStep is the step in which a range is shown from its history, in seconds; 0 where the readings themselves are.
export async function historyStep(start, end, step, points) {
  const r = await rollups();
  const readingsFrom = Date.now() / 1000 - r.rawSeconds;
  if (!r.bucketSeconds || (step < r.bucketSeconds && start >= readingsFrom)) return 0;
  return longest.find((s) => s >= r.bucketSeconds && (end - start) / s <= points) || Math.ceil((end - start) / points / 86400) * 86400;
}

// latestOf asks for the reading of the temperature that is the present at a time.
export async function latestOf(board, at) {
  const found = await queryRange(`max(last_over_time(pi_soc_temperature_celsius{board="${board}"}[${latestWithin}s]))`, Math.floor(at), Math.floor(at), 60);
  return found[0]?.values.at(-1);
}

// readHistory asks for the history of a board at a path, in the form that BoardData.take understands; latest is a promise of
// the present temperature, where somebody knows it. A step of rolled is in force from its begin on, so that is its time;
// other steps are of readings and end at their time.
export async function readHistory(path, start, end, step, latest, rolled = true) {
  const back = rolled ? step : 0;
  const ask = async (metric, by) => {
    const q = new URLSearchParams({ metric, start: String(Math.floor(start * 1000)), end: String(Math.ceil(end * 1000)), step: String(step) });
    if (by) q.set("by", by);
    const { spans } = await get(path + "/history?" + q);
    return spans.map((s) => ({ labels: s.labels, at: s.at.map((t) => t / 1000 - back), min: s.min, max: s.max, mean: rolled ? s.mean : null }));
  };
  const [temperature, clocks, bits, lost, present] = await Promise.all([
    ask("pi_soc_temperature_celsius"), ask("pi_cpu_clock_hertz", "source"), ask("pi_throttled", "reason"), ask("pi_cpu_clock_lost_hertz"), latest,
  ]);
  return { step, history: back, temperature, clocks, bits, lost, latest: present ?? temperature[0]?.mean?.at(-1) };
}
