import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Track, historyStepFor, join, laneSeconds, laneSpans, ownStepFor, plotColumns, spans, stepFor } from "../js/board/series.js";

function track(...readings) {
  const t = new Track();
  for (const [at, value] of readings) t.push(at, value);
  return t;
}
function rolled(at, max, mean) {
  const t = new Track();
  t.fill({ labels: {}, at, min: max, max, mean });
  return t;
}

describe("steps", () => {
  test("a range of readings has at most 900 points", () => {
    assert.deepEqual([900, 901, 3600, 21600, 86400, 3240000, 3240001].map(stepFor), [1, 2, 5, 30, 120, 3600, 3601]);
  });
  test("a history has no shorter step than its rollups, and whole days beyond the longest", () => {
    assert.equal(historyStepFor(86400, 900), 900);
    assert.equal(historyStepFor(86400, 3600), 3600);
    assert.equal(historyStepFor(90 * 86400, 900), 10800);
    assert.equal(historyStepFor(900 * 604800 + 1, 900), 8 * 86400);
  });
  test("a customer's range goes on from readings to history", () => {
    assert.deepEqual([900, 86400, 7 * 86400, 730 * 86400, 901 * 86400].map(ownStepFor), [1, 120, 900, 86400, 2 * 86400]);
  });
});

describe("a track", () => {
  test("takes no reading that is not later than the last", () => {
    const t = track([10, 1], [10, 2], [9, 3], [11, 4]);
    assert.deepEqual(t.at, [10, 11]);
    assert.deepEqual(t.last, { at: 11, value: 4, min: 4, latest: 4 });
  });
  test("finds the reading in force, within a gap", () => {
    const t = track([10, 1], [20, 2], [30, 3]);
    assert.equal(t.before(9, 100), null);
    assert.equal(t.before(10, 100).value, 1);
    assert.equal(t.before(29.9, 100).value, 2);
    assert.equal(t.before(60, 30).value, 3);
    assert.equal(t.before(60.1, 30), null);
    assert.equal(new Track().before(1, 10), null);
  });
  test("drops what left the view once it is much", () => {
    const t = new Track();
    for (let i = 0; i < 300; i++) t.push(i, i);
    t.trim(150);
    assert.equal(t.at[0], 0);
    t.trim(250);
    assert.deepEqual([t.at[0], t.max[0], t.min[0], t.at.length], [250, 250, 250, 50]);
  });
  test("a step that has only begun is moved to its latest reading, never before the step before", () => {
    const t = rolled([60, 120], [1, 2]);
    t.present(100, 95);
    assert.deepEqual(t.at, [60, 95]);
    const early = rolled([60, 120], [1, 2]);
    early.present(100, 50);
    assert.deepEqual(early.at, [60, 60.001]);
    const whole = rolled([60, 100], [1, 2]);
    whole.present(100, 95);
    assert.deepEqual(whole.at, [60, 100]);
  });
  test("has gaps before, between and after its readings", () => {
    const t = track([100, 1], [110, 1], [200, 1]);
    assert.deepEqual(t.gaps(0, 300, 30, 0), [[0, 100], [110, 200], [200, 300]]);
    assert.deepEqual(t.gaps(0, 300, 90, 0), [[0, 100], [200, 300]]);
    assert.deepEqual(t.gaps(100, 200, 90, 0), []);
    assert.deepEqual(new Track().gaps(0, 300, 30, 0), [[0, 300]]);
  });
  test("in a history a gap begins at the end of the step before", () => {
    assert.deepEqual(rolled([0, 900, 3600], [1, 1, 1]).gaps(0, 4500, 1350, 900), [[1800, 3600]]);
  });
  test("knows its usual spacing", () => {
    assert.equal(track([0, 1], [10, 1], [20, 1], [90, 1]).spacing, 10);
    assert.equal(track([0, 1]).spacing, 0);
  });
});

describe("joining series", () => {
  test("spans pairs the extremes of series with the same labels", () => {
    const max = [{ labels: { source: "a" }, at: [1, 2], values: [5, 6] }, { labels: { source: "b" }, at: [1], values: [9] }];
    const min = [{ labels: { source: "b" }, at: [1, 2], values: [1, 2] }, { labels: { source: "a" }, at: [1, 2], values: [3, 4] }];
    assert.deepEqual(spans(max, min), [
      { labels: { source: "a" }, at: [1, 2], max: [5, 6], min: [3, 4] },
      { labels: { source: "b" }, at: [1], max: [9], min: [9] }, // of another length: not its own
    ]);
  });
  test("the kept clock is the requested one less the greatest loss of its step", () => {
    const kept = new Track();
    join(kept, track([60, 1500], [120, 1500], [180, 600]), track([60, 1200], [120, 1500], [180, 600]), { at: [50, 60, 110, 180], max: [100, 300, 0, 0], min: [], labels: {} }, 60);
    assert.deepEqual(kept.at, [60, 120, 180]);
    assert.deepEqual(kept.max, [1200, 1500, 600]);
  });
  test("a loss belongs to a clock that follows within one step, and a step without a measured clock has none", () => {
    const kept = new Track();
    join(kept, track([60, 1500], [240, 1500]), track([60, 1400]), { at: [60, 100, 230], max: [100, 900, 50], min: [], labels: {} }, 60);
    assert.deepEqual([kept.at, kept.max], [[60], [1400]]);
  });
  test("without a requested clock the measured one is all that is known", () => {
    const kept = new Track();
    join(kept, new Track(), rolled([1, 2], [1500, 1400]), undefined, 1);
    assert.deepEqual([kept.at, kept.max], [[1, 2], [1500, 1400]]);
  });
  test("columns share one time axis: null breaks a line, undefined goes on", () => {
    const [x, a, b] = plotColumns([track([0, 1], [10, 2], [100, 3]), track([5, 7], [10, 8])], 30, ["max"]);
    assert.deepEqual(x, [0, 5, 10, 55, 100]);
    assert.deepEqual(a, [1, undefined, 2, null, 3]);
    assert.deepEqual(b, [null, 7, 8, null, null]);
  });
  test("a column of means is empty where there is no history", () => {
    assert.deepEqual(plotColumns([track([0, 1])], 30, ["max", "mean"]), [[0], [1], [null]]);
    assert.deepEqual(plotColumns([rolled([0], [4], [3])], 30, ["max", "mean"]), [[0], [4], [3]]);
  });
});

describe("times in which a bit was set", () => {
  test("a reading holds until the next and never over a gap", () => {
    const t = track([0, 0], [10, 1], [20, 1], [30, 0], [40, 1], [200, 1]);
    assert.deepEqual(laneSpans(t, [0, 210], 30), [[10, 30], [40, 41], [200, 210]]);
    assert.equal(laneSeconds(t, [0, 210], 30), 31);
  });
  test("the view cuts them", () => {
    assert.deepEqual(laneSpans(track([0, 1], [10, 1], [20, 0]), [5, 15], 30), [[5, 15]]);
    assert.deepEqual(laneSpans(track([0, 1], [10, 0]), [50, 60], 30), []);
  });
  test("in a history the mean says which share of a step", () => {
    const t = rolled([0, 900, 1800], [1, 1, 0], [0.5, 0.1, 0]);
    assert.equal(laneSeconds(t, [0, 2700], 1350), 540);
    assert.equal(laneSeconds(t, [450, 2700], 1350), 315);
    assert.deepEqual(laneSpans(t, [0, 2700], 1350), [[0, 1800]]);
  });
});
