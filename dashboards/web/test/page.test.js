import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Refused, Unanswered, attempt } from "../js/page/collector.js";
import { coming, pretty } from "../js/page/demo.js";
import { candidates, following, matches, remark } from "../js/page/find.js";
import { Incidents, alertsText, inZone, incidentLink, lasted, shortId } from "../js/page/incidents.js";
import { Live, retryWait } from "../js/page/live.js";
import { backupLine, suppressedText } from "../js/page/shell.js";
import { pageText } from "../js/incidents/timeline.js";
import { baseValue, thresholdText } from "../js/own/settings.js";

process.env.TZ = "Europe/Berlin";

describe("Find", () => {
  const boards = [{ name: "r10-01", labels: { rack: "r10", customer: "kelp" } }, { name: "r1-01", labels: { rack: "r1", nfs: "nfs-a" } }, { name: "r1-02", labels: { rack: "r1" } }];
  const incidents = [{ id: "x7", number: 7, title: "Switch is down" }, { id: "x71", number: 71, title: "r1-01 is hot" }];
  const all = candidates(boards, incidents);
  const found = (typed) => matches(all, typed).map((c) => `${c.kind} ${c.text}`);

  test("each place is there once, and leads where it can be filtered", () => {
    assert.equal(all.filter((c) => c.kind === "rack").length, 2);
    assert.equal(all.find((c) => c.text === "r1").url, "/?rack=r1");
    assert.equal(all.find((c) => c.text === "nfs-a").url, "/?q=nfs-a");
    assert.equal(all.find((c) => c.text === "#7").url, "/incidents?id=x7");
  });
  test("the whole text is before its beginning, and that before a part", () => {
    assert.deepEqual(found("r1"), ["rack r1", "board r1-01", "board r1-02", "board r10-01", "rack r10"]);
    assert.deepEqual(found("01"), ["board r1-01", "board r10-01"]);
    assert.deepEqual(found("KELP"), ["customer kelp"]);
  });
  test("an incident is found by the beginning of its number, with or without the sign", () => {
    assert.deepEqual(found("7"), ["incident #7", "incident #71"]);
    assert.deepEqual(found("#71"), ["incident #71"]);
    assert.deepEqual(found("1").filter((f) => f.startsWith("incident")), []);
  });
  test("rows that are missing have a reason", () => {
    const read = { failed: false, boards: true, incidents: true };
    assert.match(remark("x", 0, { ...read, failed: true }), /does not answer/);
    assert.equal(remark("r", 10, read), "");
    assert.equal(remark("r", 13, read), "and 3 more: type on");
    assert.equal(remark("x", 0, { ...read, boards: false }), "");
    assert.equal(remark("x", 0, read), "Nothing is called “x”.");
    assert.match(remark("#12", 0, read), /older than those/);
    assert.match(remark("12", 0, { ...read, incidents: false }), /not been read yet/);
  });
  test("arrows go round", () => {
    assert.deepEqual([following(-1, true, 3), following(2, true, 3), following(-1, false, 3), following(0, false, 3), following(1, false, 3), following(4, true, 0)], [0, 0, 2, 2, 0, -1]);
  });
});

describe("acts", () => {
  const failing = (e) => attempt(() => Promise.reject(e));

  test("one that is done has its answer", async () => {
    assert.deepEqual(await attempt(async () => ({ id: 1 })), { answer: { id: 1 }, error: null, again: false });
  });
  test("a refusal is not tried again, but for a collector that is busy or broken", async () => {
    const again = async (status) => (await failing(new Refused("no", status))).again;
    assert.deepEqual([await again(403), await again(409), await again(429), await again(500), await again(503)], [false, false, true, true, true]);
    assert.equal((await failing(new Unanswered("away"))).again, true);
  });
  test("one that was sent and not answered may be done", async () => {
    assert.equal((await failing(new Unanswered("away"))).error, "Not done: away");
    assert.equal((await failing(new Unanswered("no answer", true))).error, "Nobody knows whether it was done: no answer");
  });
  test("the reason is given in the zone of the page", async () => {
    const { answer, error } = await failing(new Refused("over since 11:00 UTC", 409));
    assert.equal(answer, null);
    assert.match(error, /^Not done: over since 1[23]:00 CES?T$/);
  });
});

describe("the connection", () => {
  test("one that is silent is given up and opened anew, but for a page that slept", (t) => {
    globalThis.CustomEvent ??= Event; // Debian 12's node has none
    t.mock.timers.enable({ apis: ["setInterval", "setTimeout"] });
    let now = 1e12;
    t.mock.method(Date, "now", () => now);
    const pass = (ms) => {
      now += ms;
      t.mock.timers.tick(ms);
    };
    const opened = [];
    class Socket {
      static OPEN = 1;
      readyState = 1;
      constructor() {
        opened.push(this);
      }
      send() {}
      close() {
        this.closed = true;
      }
      hears(type) {
        this.onmessage({ data: JSON.stringify({ type, web: "", now: Date.now() }) });
      }
    }
    const had = globalThis.WebSocket;
    globalThis.WebSocket = Socket;
    globalThis.location = { protocol: "http:", host: "localhost" };
    t.after(() => {
      globalThis.WebSocket = had;
      delete globalThis.location;
    });
    const live = new Live();
    opened[0].hears("hello");
    for (let i = 0; i < 20; i++) {
      pass(2000);
      opened[0].hears("time");
    }
    assert.deepEqual([live.state, opened.length], ["live", 1]);
    now += 3600000; // no tick ran
    opened[0].hears("time");
    assert.deepEqual([live.state, opened.length], ["live", 1]);
    const heard = live.lastHeard;
    pass(6000);
    assert.equal(live.state, "late");
    pass(10000);
    assert.deepEqual([live.state, opened[0].closed, live.lastHeard], ["unreachable", true, heard]);
    opened[0].hears("time"); // what was on its way
    assert.equal(live.lastHeard, heard);
    pass(2000);
    assert.equal(opened.length, 2);
    pass(16000); // nobody answers this one either
    assert.equal(opened[1].closed, true);
    pass(3000);
    opened[2].hears("hello");
    assert.equal(live.state, "live");
  });
});

describe("incidents", () => {
  test("an acknowledgement that hangs is not sent beside itself, and is sent again once it failed", async (t) => {
    globalThis.CustomEvent ??= Event; // Debian 12's node has none
    const kept = new Map();
    globalThis.sessionStorage = { getItem: (k) => kept.get(k) ?? null, setItem: (k, v) => kept.set(k, v) };
    t.after(() => delete globalThis.sessionStorage);
    let retry = () => {};
    t.mock.method(globalThis, "setInterval", (f) => {
      retry = f;
    });
    const asked = [];
    t.mock.method(globalThis, "fetch", () => new Promise((_, reject) => {
      asked.push(reject);
    }));

    const incidents = new Incidents({ on() {}, now: () => 0 });
    incidents.acknowledge("7", "mine");
    retry();
    assert.equal(asked.length, 1);
    asked[0](new TypeError("no route"));
    await new Promise((done) => {
      setImmediate(done);
    });
    assert.match(incidents.refusal("7"), /^Not done: the collector does not answer\. It is tried again every 3 s\.$/);
    retry();
    retry();
    assert.equal(asked.length, 2);
    assert.deepEqual([incidents.pending("7").tries, JSON.parse([...kept.values()][0])["7"].comment], [2, "mine"]);
  });
  test("all sentences are moved to the zone of the page, and nothing else", () => {
    const noon = Date.UTC(2026, 0, 15, 11);
    assert.deepEqual(inZone({ id: "11:00 UTC", title: "down since 11:00 UTC", reason: "", now: "61 °C at 11:00:05 UTC" }, noon), { id: "11:00 UTC", title: "down since 12:00 CET", reason: "", now: "61 °C at 12:00:05 CET" });
    assert.deepEqual(inZone({ text: "at 11:00 UTC", at: 1 }, noon), { text: "at 12:00 CET", at: 1 });
  });
  test("one that is over lasts no longer", () => {
    assert.equal(lasted({ since: 1000 }, 62000), "1 m 01 s");
    assert.equal(lasted({ since: 1000, resolvedAt: 11000 }, 62000), "10 s");
  });
  test("alerts are counted over all", () => {
    assert.equal(alertsText([{ alerts: 1 }]), "1 alert");
    assert.equal(alertsText([{ alerts: 700 }, { alerts: 800 }, {}]), "1\u2009500 alerts");
  });
  test("names and addresses", () => {
    assert.deepEqual([shortId({ number: 7, id: "x" }), shortId({ number: 0, id: "x" })], ["#7", "#x"]);
    assert.equal(incidentLink({ id: "a b" }), "/incidents?id=a%20b");
  });
  test("how a page fared", () => {
    assert.equal(pageText({ result: "delivered", latencyMs: 840, attempt: 1 }), "delivered, 840 ms after it fired");
    assert.equal(pageText({ result: "failed", attempt: 3, error: "refused" }), "failed, try 3, refused");
    assert.equal(pageText({ result: "delivered", bundle: "m1" }), "delivered with others in one message");
    assert.equal(pageText({ result: "bundled", bundle: "m1", error: "x" }), "bundled, waits to leave with others");
  });
});

describe("the frame of a page", () => {
  const good = (taken) => ({ name: "b", good: true, taken, result: "ok" });
  const backups = (more) => ({ now: 100 * 3600000, target: "/b", everySeconds: 3600, running: false, backups: [], ...more });

  test("how the backups stand", () => {
    const line = (more) => backupLine(backups(more));
    assert.deepEqual(line({ running: true, error: "x" }), { text: "Backup running", bad: false });
    assert.deepEqual(line({ error: "disk full", backups: [good(1)] }), { text: "Last backup failed", bad: true });
    assert.deepEqual(line({}), { text: "No backup yet", bad: true });
    assert.deepEqual(line({ everySeconds: 0 }), { text: "No backups configured", bad: false });
    assert.deepEqual(line({ backups: [{ ...good(99.5 * 3600000), good: false }, good(99 * 3600000)] }), { text: "Backup 1 h 00 m old, restored in a test", bad: false });
    assert.equal(line({ backups: [good(98.4 * 3600000)] }).bad, true);
    assert.equal(line({ everySeconds: 0, backups: [good(1)] }).bad, false);
  });
  test("which alerts can page nobody", () => {
    const text = (more) => suppressedText({ now: 0, boards: 0, rules: 0, everything: false, items: [], ...more });
    assert.equal(text({ everything: true, boards: 3 }), "All alerts off");
    assert.equal(text({ boards: 1, rules: 2, items: [{ kind: "receiver" }, { kind: "rota" }, { kind: "rota" }] }), "1 board, 2 rules, 1 receiver, 2 rotas off");
    assert.equal(text({ items: [{ kind: "silence" }] }), "1 silence off");
    assert.equal(text({ items: [{ kind: "silence" }, { kind: "silence" }] }), "2 things off");
  });
  test("a reconnect waits longer each time, and not in step with others", () => {
    assert.deepEqual([0, 1, 2, 3, 4, 99].map((n) => retryWait(n, 0.5)), [1000, 2000, 4000, 8000, 15000, 15000]);
    assert.deepEqual([retryWait(0, 0), retryWait(0, 1)].map(Math.round), [800, 1200]);
  });
});

describe("the demo", () => {
  test("coming faults are in order, without those that are done or past", () => {
    const faults = [{ at: 30, what: "c" }, { at: 20, what: "b" }, { at: 10, what: "a" }, { at: 40, what: "d", done: true }];
    assert.deepEqual(coming(faults, 10).map((f) => f.what), ["b", "c"]);
  });
  test("JSON is broken into lines", () => {
    assert.equal(pretty('{"a":1}'), '{\n  "a": 1\n}');
    assert.equal(pretty("Dear Ada"), "Dear Ada");
  });
});

describe("a customer's thresholds", () => {
  test("are worded in the units that people use", () => {
    assert.equal(thresholdText({ kind: "hot", value: 75, hysteresis: 3 }), "SoC temperature from 75 °C, ends 3 °C below");
    assert.equal(thresholdText({ kind: "memory", value: 64 << 20, hysteresis: 0 }), "memory low below 64 MiB");
    assert.equal(thresholdText({ kind: "silent", value: 1, hysteresis: 0 }), "board silent");
    assert.equal(thresholdText({ kind: "later", value: 1, hysteresis: 0 }), "later");
  });
  test("are typed with a point or a comma", () => {
    assert.equal(baseValue(" 72,5 ", "hot"), 72.5);
    assert.equal(baseValue("64", "memory"), 64 * 1048576);
    assert.ok(Number.isNaN(baseValue("warm", "hot")));
  });
});
