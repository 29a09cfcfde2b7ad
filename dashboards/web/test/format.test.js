import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as f from "../js/page/format.js";

// at runs a check in a time zone.
function at(zone, check) {
  const before = process.env.TZ;
  process.env.TZ = zone;
  try {
    check();
  } finally {
    if (before === undefined) delete process.env.TZ;
    else process.env.TZ = before;
  }
}

describe("numbers", () => {
  test("count has a thin space before each three digits", () => {
    assert.deepEqual([0, 999, 1000, 10000, 1234567].map(f.count), ["0", "999", "1\u2009000", "10\u2009000", "1\u2009234\u2009567"]);
  });
  test("counted has a noun in the singular for one alone", () => {
    assert.deepEqual([0, 1, 2, 1500].map((n) => f.counted(n, "board")), ["0 boards", "1 board", "2 boards", "1\u2009500 boards"]);
  });
  test("tenths of a number that rounds to zero have no sign", () => {
    assert.deepEqual([-0.04, 0, 0.05, 61.25, -12.34].map(f.tenths), ["0.0", "0.0", "0.1", "61.3", "-12.3"]);
  });
  test("an absent value is a dash, and zero is not absent", () => {
    assert.deepEqual([undefined, null, 0].map(f.celsius), ["—", "—", "0.0 °C"]);
    assert.deepEqual([undefined, null, 0, 1.4e9].map(f.mhz), ["—", "—", "0 MHz", "1400 MHz"]);
  });
  test("capital leaves an empty text empty", () => {
    assert.deepEqual(["", "a", "the fan"].map(f.capital), ["", "A", "The fan"]);
  });
  test("natural order has r2 before r10", () => {
    assert.deepEqual(["r10-01", "r2-11", "r2-9"].sort(f.natural), ["r2-9", "r2-11", "r10-01"]);
  });
});

describe("durations", () => {
  test("duration has two units and never counts back", () => {
    const s = 1000, m = 60 * s, h = 60 * m, d = 24 * h;
    const of = [-5, 0, 499, 59.4 * s, 59.6 * s, 61 * s, h - s, h, 25 * h - 1 * m, 24 * h, 9 * d + 5 * h];
    assert.deepEqual(of.map(f.duration), ["0 s", "0 s", "0 s", "59 s", "1 m 00 s", "1 m 01 s", "59 m 59 s", "1 h 00 m", "1 d 0 h", "1 d 0 h", "9 d 5 h"]);
  });
  test("age has tenths below ten seconds", () => {
    assert.deepEqual([-1, 0, 1240, 9949, 9950, 75000].map(f.age), ["0.0 s", "0.0 s", "1.2 s", "9.9 s", "10 s", "1 m 15 s"]);
  });
  test("latency is in ms below a second", () => {
    assert.deepEqual([0, 999, 1000, 12340].map(f.latency), ["0 ms", "999 ms", "1.0 s", "12.3 s"]);
  });
  test("countdown counts a begun second", () => {
    assert.deepEqual([-1, 0, 1, 1000, 65001, 3600000].map(f.countdown), ["0:00", "0:00", "0:01", "0:01", "1:06", "60:00"]);
  });
});

describe("times in the zone of the page", () => {
  const winter = Date.UTC(2026, 0, 15, 21, 5, 9);
  const summer = Date.UTC(2026, 6, 15, 21, 5, 9);

  test("clock and zone follow summer time", () => {
    at("Europe/Berlin", () => {
      assert.equal(f.clock(winter), "22:05:09");
      assert.equal(f.clock(summer), "23:05:09");
      assert.deepEqual([f.zone(winter), f.zone(summer)], ["CET", "CEST"]);
    });
    at("America/St_Johns", () => assert.equal(f.clock(winter), "17:35:09"));
    at("UTC", () => assert.equal(f.zone(winter), "UTC"));
  });
  test("dayClock names the day where it is another one, and the year where that is", () => {
    const dayClock = (now) => f.dayClock(winter, now).replace(",", ""); // which languages' data differ in
    at("Europe/Berlin", () => {
      assert.equal(dayClock(winter + 3600000), "22:05:09");
      assert.equal(dayClock(winter + 2 * 3600000), "Thu 15 Jan 22:05");
      assert.equal(dayClock(Date.UTC(2027, 0, 1)), "Thu 15 Jan 2026 22:05");
    });
    at("UTC", () => assert.equal(dayClock(winter + 2 * 3600000), "21:05:09"));
  });
  test("dayTime has its day always", () => {
    at("Asia/Kolkata", () => assert.equal(f.dayTime(winter), "Fri 16 Jan 02:35"));
  });
  test("a sentence's times are moved from UTC", () => {
    at("Europe/Berlin", () => {
      assert.equal(f.localTimes("silent since 21:05:09 UTC", winter), "silent since 22:05:09 CET");
      assert.equal(f.localTimes("21:05 UTC to 21:06:10 UTC", summer), "23:05 CEST to 23:06:10 CEST");
      assert.equal(f.localTimes("at 21:05 UTC (22:05 CET)", winter), "at 22:05 CET");
      assert.equal(f.localTimes("nothing at 21:05", winter), "nothing at 21:05");
    });
    at("America/St_Johns", () => assert.equal(f.localTimes("at 01:00 UTC", winter), "at 21:30 " + f.zone(winter)));
  });
});

describe("places", () => {
  test("place names what the labels have", () => {
    assert.deepEqual(f.place({ rack: "r1", switch: "sw-3", port: "7" }), ["rack r1", "sw-3", "port 7"]);
    assert.deepEqual(f.place({ switch: "a" }, "Rack"), ["switch a"]);
    assert.deepEqual(f.place(undefined), []);
  });
  test("stoppedText says when it last reported, if it has", () => {
    assert.equal(f.stoppedText(0, 1), "Stopped");
    at("UTC", () => assert.equal(f.stoppedText(1000, 2000), "Stopped, last report 00:00:01"));
  });
});
