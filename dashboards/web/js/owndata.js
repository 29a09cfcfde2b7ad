// The series of one board of a customer over a range: least and greatest of each step, as the collector puts them together
// from readings of the time in which the board was the customer's.

import { BoardData, lanes } from "./boarddata.js";
import { get } from "./api.js";

const points = 900;
const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];
const rolledFrom = 900; // from this step on a history is asked, in which a step without readings is a gap

export class OwnData extends BoardData {
  async load(start, end, wanted) {
    const step = steps.find((s) => (end - start) / s <= points) || Math.ceil((end - start) / points / 86400) * 86400;
    const shift = step >= rolledFrom ? step : 0; // a step of a history is in force from its begin on
    const ask = (metric, by) => {
      const q = new URLSearchParams({ metric, start: String(Math.floor(start * 1000)), end: String(Math.ceil(end * 1000)), step: String(step) });
      if (by) q.set("by", by);
      return get(`/api/own/boards/${this.board}/history?` + q).then((r) => r.spans);
    };
    const [temperature, clocks, bits, lost] = await Promise.all([ask("pi_soc_temperature_celsius"), ask("pi_cpu_clock_hertz", "source"), ask("pi_throttled", "reason"), ask("pi_cpu_clock_lost_hertz")]);
    if (!wanted()) return;
    this.clear();
    this.step = step;
    this.history = shift;
    const fill = (track, span) => {
      if (!span) return;
      const list = span.at.map((t, i) => ({ at: Math.min(t / 1000 - shift, end), i })).filter((p, n, all) => n === 0 || p.at > all[n - 1].at);
      track.at = list.map((p) => p.at);
      track.min = list.map((p) => span.min[p.i]);
      track.max = list.map((p) => span.max[p.i]);
    };
    fill(this.temperature, temperature[0]);
    fill(this.requested, clocks.find((s) => s.labels.source === "requested"));
    fill(this.measured, clocks.find((s) => s.labels.source === "measured"));
    for (const s of bits) if (lanes.includes(s.labels.reason)) fill(this.throttled[s.labels.reason], s);
    this.#keep(lost[0], shift, end);
  }
  // keep is what was left of the requested clock at the worst moment of each step.
  #keep(lost, shift, end) {
    if (!lost) return;
    const most = new Map(lost.at.map((t, i) => [Math.min(t / 1000 - shift, end), lost.max[i]]));
    this.requested.at.forEach((t, i) => most.has(t) && this.kept.push(t, this.requested.max[i] - most.get(t)));
  }
}
