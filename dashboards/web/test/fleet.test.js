import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { passes, without } from "../js/fleet/filter.js";
import { hottest } from "../js/fleet/hottest.js";
import { urgency } from "../js/fleet/incidents.js";
import { bands, bins } from "../js/fleet/legend.js";
import { group, size, statText, touches } from "../js/fleet/map.js";
import { current, hasReported, isSilent, isStopped, isUp, lostShare, marks, spoken } from "../js/fleet/state.js";
import { hottestOf } from "../js/fleet/summary.js";
import { compare } from "../js/fleet/table.js";
import { celsius, reasonWords } from "../js/page/format.js";

const board = (name, r = {}, more = {}) => ({ name, labels: {}, enrolled: true, r, ...more });
const names = (list) => list.map((b) => b.name);

describe("the state of a board", () => {
  const up = board("up", { up: 1, temperature: 61.2, at: 5 });
  const silent = board("silent", { up: 0, temperature: 61.2, throttled: ["throttled"], at: 5 });
  const stopped = board("stopped", { stopped: true, temperature: 61.2 });
  const unknown = board("unknown");

  test("is one of four, and unknown is none of the others", () => {
    const is = (b) => [isUp, isSilent, isStopped].map((f) => f(b));
    assert.deepEqual([up, silent, stopped, unknown].map(is), [[true, false, false], [false, true, false], [false, false, true], [false, false, false]]);
    assert.ok(isStopped(board("b", {}, { stopped: true })), "the registry says so");
    assert.ok(!isStopped(board("b", { up: 1 }, { stopped: true })), "it reports again");
  });
  test("a value of a silent or stopped board is history", () => {
    assert.deepEqual([up, silent, stopped, unknown].map((b) => current(b, "temperature")), [61.2, undefined, undefined, undefined]);
    assert.deepEqual([marks(silent), marks(stopped), marks(unknown)], [["silent"], ["stopped"], []]);
    assert.ok(hasReported(up) && !hasReported(unknown) && hasReported(board("b", {}, { lastReport: 1 })));
  });
  test("in words", () => {
    const say = (b) => spoken(b, celsius, reasonWords);
    assert.deepEqual([up, silent, stopped, unknown].map(say), ["up 61.2 °C", "silent, silent", "stopped, stopped", "unknown, never reported"]);
    assert.equal(say(board("b", { up: 1, at: 1, throttled: ["under_voltage", "throttled"] })), "b, no temperature, under-voltage, throttled");
  });
  test("a clock is lost from a hundredth on, and only where both are known", () => {
    const lost = (requested, measured) => lostShare(board("b", { up: 1, requested, measured }));
    assert.deepEqual([lost(1e9, 75e7), lost(1e9, 995e6), lost(0, 0), lost(1e9, undefined), lost(undefined, 1e9)], [0.25, 0, 0, 0, 0]);
  });
});

describe("filters", () => {
  const all = [
    board("r1-01", { up: 1, temperature: 70, throttled: ["throttled"] }, { labels: { rack: "r1", customer: "Alder" } }),
    board("r1-02", { up: 0 }, { labels: { rack: "r1" } }),
    board("r2-01", { up: 1, temperature: 50, throttled: [] }, { labels: { rack: "r2", customer: "kelp" } }),
  ];
  const shown = (values) => names(all.filter((b) => passes(b, values)));

  test("by state, label and words", () => {
    assert.deepEqual(shown({}), ["r1-01", "r1-02", "r2-01"]);
    assert.deepEqual(shown({ state: "silent" }), ["r1-02"]);
    assert.deepEqual(shown({ state: "hot" }), ["r1-01"]);
    assert.deepEqual(shown({ rack: "r1", state: "up" }), ["r1-01"]);
    assert.deepEqual(shown({ q: "R1 ald" }), ["r1-01"]);
    assert.deepEqual(shown({ q: "r1 kelp" }), []);
  });
  test("a state that is not one lets all pass", () => {
    for (const state of ["melted", "constructor", "toString", "__proto__"]) assert.equal(shown({ state }).length, 3, state);
  });
  test("without says which single filter to drop", () => {
    assert.deepEqual(without(all, { q: "kelp", state: "hot", rack: "", view: "map" }), [{ key: "q", value: "kelp", n: 1 }, { key: "state", value: "60 °C and more", n: 1 }]);
  });
});

describe("the hottest boards", () => {
  const all = [board("a", { up: 1, temperature: 50 }), board("b", { up: 0, temperature: 90 }), board("c", { up: 1, temperature: -10 }), board("d", { up: 1, temperature: 70 }), board("e")];
  test("are in order, without silent ones", () => {
    assert.deepEqual(names(hottest(all)), ["d", "a", "c"]);
    assert.equal(hottestOf(all).name, "d");
    assert.equal(hottestOf([all[1], all[4]]), null);
  });
});

describe("incident rows", () => {
  test("what fires is before what somebody has, critical before the rest, the youngest first", () => {
    const i = (id, state, severity, since) => ({ id, state, severity, since });
    const list = [i(1, "acknowledged", "critical", 9), i(2, "firing", "warning", 1), i(3, "firing", "critical", 1), i(4, "firing", "warning", 5), i(5, "acknowledged", "warning", 10)];
    assert.deepEqual(list.sort(urgency).map((one) => one.id), [3, 4, 2, 1, 5]);
  });
});

describe("the legend", () => {
  test("bins have those beyond the scale at its ends", () => {
    const b = bins([-5, 45, 45.9, 46, 89.9, 90, 120]);
    assert.equal(b.length, 45);
    assert.deepEqual([b[0], b[1], b[44]], [3, 1, 3]);
  });
  test("bands begin at the lines of the firmware", () => {
    assert.deepEqual(bands([-300, 59.9, 60, 79.9, 80, 84.9, 85, 901]).map(([n]) => n), [2, 2, 2, 2]);
  });
});

describe("the map", () => {
  const place = (name, rack, sw) => board(name, {}, { labels: { rack, switch: sw } });

  test("groups are in natural order", () => {
    const groups = group([place("a", "r10"), place("b", "r2"), place("c", "r10")], (b) => b.labels.rack);
    assert.deepEqual(groups.map(([k, list]) => [k, names(list)]), [["r2", ["b"]], ["r10", ["a", "c"]]]);
  });
  test("few boards get room, many a picture", () => {
    assert.deepEqual([0, 64, 65, 400, 401, 2000, 2001].map((n) => size(n).name), ["l", "l", "m", "m", "s", "s", "xs"]);
  });
  test("an incident touches the switch that it names, and one of which it has more than half", () => {
    const s = { rack: "r1", name: "sw-1", boards: ["a", "b", "c", "d"] };
    assert.ok(touches({ labels: { switch: "sw-1", rack: "r1" } }, s));
    assert.ok(!touches({ labels: { switch: "sw-1", rack: "r2" } }, s));
    assert.ok(touches({ boards: ["a", "b", "d"] }, s));
    assert.ok(!touches({ boards: ["a", "b"] }, s));
    assert.ok(!touches({ boards: ["a"] }, { ...s, boards: ["a"] }), "a board alone is no switch");
    assert.ok(!touches({}, { rack: "r1", name: "", boards: [] }));
  });
  test("figures of a rack", () => {
    const rack = [board("a", { up: 1, temperature: 50 }), board("b", { up: 1, temperature: 70.26 }), board("c", { up: 1, temperature: 60 }), board("d", { up: 0 }), board("e", { up: 1, throttled: ["throttled"] })];
    assert.deepEqual(["median", "hottest", "silent", "throttled", "under_voltage"].map((k) => statText(k, rack)), ["60.0", "70.3", "1", "1", "·"]);
    assert.deepEqual([statText("median", []), statText("hottest", [board("x")])], ["·", "·"]);
  });
});

describe("the table", () => {
  test("absent values are last in both directions", () => {
    const sorted = (list, down) => [...list, undefined].reverse().sort((a, b) => compare(a, b, down));
    // Array.sort puts undefined last by itself: compare is asked directly as well.
    assert.deepEqual([compare(undefined, 1, true), compare(1, undefined, true), compare(undefined, undefined, false)], [1, -1, 0]);
    assert.deepEqual(sorted([2, 10, 1], false), [1, 2, 10, undefined]);
    assert.deepEqual(sorted([2, 10, 1], true), [10, 2, 1, undefined]);
    assert.deepEqual(sorted(["r10", "r2"], false), ["r2", "r10", undefined]);
  });
});
