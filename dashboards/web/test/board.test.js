import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { BoardData, lossOf } from "../js/board/data.js";
import { softLimitOf } from "../js/board/graphs.js";
import { lastReportOf, readingName, readingText } from "../js/board/head.js";
import { apart, beside, clockMarks, every, stepWords, timeLabels } from "../js/board/plot.js";
import { inWords } from "../js/board/text.js";
import { spanText, viewOf } from "../js/board/view.js";

process.env.TZ = "Europe/Berlin";

const noon = Date.UTC(2026, 0, 15, 11) / 1000; // 12:00 in Berlin
const clock = (source) => `pi_cpu_clock_hertz{source="${source}"}`;

// followed has read the view, and then readings of temperature and clock, one every ten seconds.
function followed(temperatures, { from = noon, until = noon + 100 } = {}) {
  const d = new BoardData("r1-01");
  d.about({ enrolledAt: (noon - 86400) * 1000, lastReport: noon * 1000 });
  d.read = [from, until];
  temperatures.forEach((t, i) => {
    if (t !== null) d.add({ type: "reading", board: "r1-01", at: (from + 10 * i) * 1000, values: { pi_soc_temperature_celsius: t, [clock("requested")]: 1.5e9, [clock("measured")]: 1.4e9 } });
  });
  return d;
}

describe("the data of a board", () => {
  test("a live reading that belongs to no graph is not used", () => {
    const d = followed([]);
    assert.equal(d.add({ type: "reading", board: "r1-01", at: 1, values: { pi_load1: 1, pi_soc_temperature_celsius: null } }), false);
    assert.equal(d.temperature.at.length, 0);
    assert.equal(d.add({ type: "reading", board: "r1-01", at: 1, values: { 'pi_throttled{reason="throttled"}': 0 } }), true);
  });
  test("how much of a view is known", () => {
    const view = [noon, noon + 100];
    assert.equal(followed([61]).state(view), "shown");
    assert.equal(followed([]).state(view), "empty");
    const unread = followed([]);
    unread.read = null;
    assert.equal(unread.state(view), "unread");
    unread.about({});
    assert.equal(unread.state(view), "waiting");
    assert.equal(followed([], { until: noon + 1 }).state([noon + 1, noon + 2]), "unread");
  });
  test("a gap is longer than three reports, and than three times the usual spacing", () => {
    assert.equal(followed([61, 62, 63]).gapLength, 30);
    const slow = followed([61, null, null, null, null, 62]);
    assert.equal(slow.gapLength, 150);
    slow.history = 900;
    assert.equal(slow.gapLength, 1350);
  });
  test("gaps end with the time that was read, and begin with the enrolment", () => {
    const view = [noon - 1000, noon + 1000];
    const d = followed([61, 62]);
    assert.deepEqual(d.gaps(d.temperature, view), [[noon + 10, noon + 100]]);
    d.read = [noon - 500, noon + 100];
    d.enrolled = noon - 400;
    assert.deepEqual(d.gaps(d.temperature, view), [[noon - 400, noon], [noon + 10, noon + 100]]);
    d.read = null;
    assert.deepEqual(d.gaps(d.temperature, view), []);
  });
  test("imported readings begin before the enrolment", () => {
    const d = followed([61]);
    d.enrolled = noon + 50;
    assert.equal(d.begin(d.temperature, [noon - 10, noon + 60]), noon);
    assert.equal(d.begin(d.temperature, [noon + 20, noon + 60]), noon + 50);
  });
  test("a range that was read is taken by labels, and the latest reading is apart from its step", () => {
    const d = new BoardData("r1-01");
    const steps = (labels, max) => ({ labels, at: [60, 120], min: max, max });
    d.take({
      step: 60, history: 0, temperature: [steps({}, [61, 64])], clocks: [steps({ source: "measured" }, [14, 15]), steps({ source: "requested" }, [15, 15])],
      bits: [steps({ reason: "throttled" }, [1, 0]), steps({ reason: "later" }, [1, 1])], lost: [{ ...steps({}, [1, 0]) }], latest: 62.5, latestAt: 110,
    }, 115);
    assert.deepEqual(d.temperature.last, { at: 110, value: 64, min: 64, latest: 62.5 });
    assert.deepEqual([d.measured.max, d.requested.max, d.kept.max], [[14, 15], [15, 15], [14, 15]]);
    assert.deepEqual(Object.entries(d.throttled).map(([lane, t]) => [lane, t.max]), [["under_voltage", []], ["frequency_capped", []], ["throttled", [1, 0]], ["soft_temperature_limit", []]]);
  });
  test("the question for losses is no finer than a query may be", () => {
    assert.match(lossOf("b", 30, 3600), /\[30s:1s\]\)\)$/);
    assert.match(lossOf("b", 3600, 30 * 86400), /\[3600s:52s\]\)\)$/);
    assert.match(lossOf("b", 10, 86400 * 365), /\[10s:10s\]\)\)$/);
  });
});

describe("a view in words", () => {
  const now = (noon + 100) * 1000;
  test("what the board did", () => {
    const text = inWords(followed([61, 62.4, 60.1, null, null, null, null, 63]), [noon, noon + 100], now, false);
    assert.equal(text, "12:00:00 to 12:01:40: 60.1 to 63.0 °C; up to 100 MHz lost; measured clock 1400 to 1400 MHz; 1 gap without readings, 50 s in all.");
  });
  test("lost clock and throttling", () => {
    const d = followed([61]);
    d.kept.max = [1.2e9];
    d.throttled.throttled.push(noon, 1);
    assert.match(inWords(d, [noon, noon + 30], now, false), /up to 300 MHz lost; .* throttled for 10 s; no gap\.$/);
  });
  test("a view that is not there says why", () => {
    const d = followed([]);
    const view = [noon, noon + 100];
    assert.match(inWords(d, view, now, false), /: no readings\.$/);
    d.read = null;
    assert.match(inWords(d, view, now, false), /: not read yet\.$/);
    assert.match(inWords(d, view, now, true), /: could not be read\.$/);
    d.about({});
    assert.match(inWords(d, view, now, false), /has not reported so far\.$/);
  });
  test("a part that was not read is said so", () => {
    assert.match(inWords(followed([61]), [noon - 3600, noon + 20], now, false), /The rest of this range is not read yet\.$/);
  });
});

describe("the view in the address", () => {
  test("a range, a fixed time, and nonsense", () => {
    assert.deepEqual(viewOf("?range=6h"), { range: "6h", fixed: null });
    assert.deepEqual(viewOf("?range=1h&from=1000&to=5000"), { range: "1h", fixed: [1, 5] });
    for (const bad of ["", "?range=3h", "?range=constructor", "?from=5000&to=1000", "?from=x&to=5000", "?from=0&to=5"]) {
      assert.deepEqual(viewOf(bad), { range: "15m", fixed: null }, bad);
    }
  });
  test("its text has a day only where one is needed", () => {
    const now = (noon + 100) * 1000;
    assert.equal(spanText([noon - 900, noon], now), "11:45:00 – 12:00:00 CET");
    assert.match(spanText([noon - 86400, noon], now), /^Wed,? 14 Jan 12:00 – 12:00:00 CET$/);
    assert.match(spanText([noon - 2 * 86400, noon - 2 * 86400 + 60], now), /^Tue,? 13 Jan 12:00 – Tue,? 13 Jan 12:01 CET$/);
  });
});

describe("axes and labels", () => {
  test("time labels are as fine as their step", () => {
    const midnight = noon - 12 * 3600;
    assert.deepEqual(timeLabels([noon, noon + 30], 30), ["12:00:00", "12:00:30"]);
    assert.deepEqual(timeLabels([noon], 600), ["12:00"]);
    assert.deepEqual(timeLabels([midnight, noon], 12 * 3600), ["15 Jan", "12:00"]);
    assert.deepEqual(timeLabels([midnight], 600), ["00:00"]);
    assert.deepEqual(timeLabels([noon], 31 * 86400), ["Jan 2026"]);
  });
  test("marks of an axis", () => {
    assert.deepEqual(every(41, 70, 10), [50, 60, 70]);
    assert.deepEqual(clockMarks(1.51e9), [0, 3e8, 6e8, 9e8, 12e8, 15e8]);
    assert.deepEqual(clockMarks(2.5e9), [0, 5e8, 1e9, 15e8, 2e9, 25e8]);
    assert.deepEqual(clockMarks(6.5e8), [0, 2e8, 4e8, 6e8]);
  });
  test("steps of a history have names", () => {
    assert.deepEqual([900, 3600, 7200, 86400, 172800].map(stepWords), ["15 minutes", "hour", "2 hours", "day", "2 days"]);
  });
  test("labels of marks make room for the present reading, in their order", () => {
    assert.equal(beside(100, null, 14), 100);
    assert.equal(beside(100, 130, 14), 100);
    assert.deepEqual([beside(100, 105, 14), beside(100, 95, 14)], [91, 109]);
    for (const y of [null, 0, 60, 70, 75, 80, 81, 90, 95, 200]) {
      const [y80, y85] = apart(80, 70, y, 14);
      assert.ok(y80 > y85, `${y}: 85 stands above 80`);
      if (y !== null) assert.ok(Math.abs(y80 - y) >= 14 && Math.abs(y85 - y) >= 14, `${y}: ${y80} and ${y85} are too near`);
    }
  });
  test("models with a soft limit", () => {
    for (const m of ["Raspberry Pi 3 Model B Plus Rev 1.3", "Pi 3B+", "3A+", "Raspberry Pi 3 Model A Plus"]) assert.ok(softLimitOf.test(m), m);
    for (const m of ["", "Raspberry Pi 3 Model B Rev 1.2", "Raspberry Pi 4 Model B", "13B+", "Compute Module 3+"]) assert.ok(!softLimitOf.test(m), m);
  });
});

describe("readings beside the graphs", () => {
  test("names and units", () => {
    const of = (series, value) => `${readingName(series)}: ${readingText(series, value, 7200000)}`;
    assert.equal(of("pi_core_volts", 1.2), "core: 1.2000 V");
    assert.equal(of("pi_memory_available_bytes", 1048576), "memory available: 1.0 MiB");
    assert.equal(of("pi_boot_time_seconds", 3600), "boot time: up 1 h 00 m");
    assert.equal(of("pisensor_cpu_seconds_total", 0.25), "sensor cpu: 250.0 ms");
    assert.equal(of("pi_clock_offset_seconds", -0.00001), "clock offset: 0.0 ms");
    assert.equal(of('pi_network_receive_bytes_total{device="eth0"}', 2097152), "network receive eth0: 2.0 MiB");
    assert.equal(of("pi_fan_rpm", 1234.4), "fan rpm: 1234 rpm");
    assert.equal(of("pi_load1", 0.12345), "load1: 0.123");
  });
  test("the collector's own word on a board is no report of it", () => {
    assert.equal(lastReportOf(undefined, new Map()), 0);
    assert.equal(lastReportOf(5, new Map([["pi_board_up", { at: 9, value: 0 }], ["pi_load1", { at: 7, value: 1 }]])), 7);
  });
});
