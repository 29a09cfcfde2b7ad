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

// loadHistory fills the tracks of a board. A step is in force from its begin on, so that is its time.
export async function loadHistory(data, start, end, step, wanted) {
  const ask = (metric, by) => {
    const q = new URLSearchParams({ metric, start: String(Math.floor(start * 1000)), end: String(Math.ceil(end * 1000)), step: String(step) });
    if (by) q.set("by", by);
    return get(`/api/boards/${data.board}/history?` + q).then((r) => r.spans);
  };
  const last = `max(last_over_time(pi_soc_temperature_celsius{board="${data.board}"}[${latestWithin}s]))`;
  const [temperature, clocks, bits, lost, latest] = await Promise.all([
    ask("pi_soc_temperature_celsius"), ask("pi_cpu_clock_hertz", "source"), ask("pi_throttled", "reason"),
    ask("pi_cpu_clock_lost_hertz"), queryRange(last, Math.floor(end), Math.floor(end), 60),
  ]);
  if (!wanted()) return;
  data.clear();
  data.step = data.history = step;
  fill(data.temperature, temperature[0], step);
  data.temperature.latest = latest[0]?.values.at(-1) ?? data.temperature.mean?.at(-1);
  fill(data.requested, clocks.find((s) => s.labels.source === "requested"), step);
  fill(data.measured, clocks.find((s) => s.labels.source === "measured"), step);
  keep(data.kept, data.requested, lost[0], step);
  for (const s of bits) if (data.throttled[s.labels.reason]) fill(data.throttled[s.labels.reason], s, step);
}

function fill(track, span, step) {
  if (!span) return;
  track.at = span.at.map((t) => t / 1000 - step);
  track.min = span.min;
  track.max = span.max;
  track.mean = span.mean;
}

// keep takes the greatest loss of a step, both clocks read at one instant, from the highest clock requested in it.
function keep(track, requested, lost, step) {
  if (!lost) return;
  const most = new Map(lost.at.map((t, i) => [t / 1000 - step, lost.max[i]]));
  requested.at.forEach((t, i) => {
    if (most.has(t)) track.push(t, requested.max[i] - most.get(t));
  });
}
