// The graphs of one board's page: the stored past, continued live. Operators and customers see the same.

import { $, el, glyph, setAttr } from "./dom.js";
import { Unanswered } from "./api.js";
import { dayClock, zone } from "./format.js";
import { BoardText } from "./boardtext.js";
import { BoardView, Lease } from "./boardview.js";
import { Graphs } from "./graphs.js";

const repaintEvery = 100;
const wordsEvery = 1000;
const refetchEvery = 60000; // so that steps stay whole and readings that come late, after an outage, are seen
const loadingAfter = 300;
const upSeries = "pi_board_up";

export class BoardGraphs {
  latest = new Map(); // series → {at, value}
  #words;
  #wordsAt = 0;
  #dirty = true;
  #loading = null;
  #loadedAt = Date.now();
  #pending = []; // readings that arrive while a range is being read
  #wrong = null; // why the range could not be read
  #follows = false; // nothing of the board was missed since the range was read

  // words is called every second, and after say, to put the present into words.
  constructor(live, board, data, words) {
    this.live = live;
    this.board = board;
    this.data = data;
    this.#words = words;
    this.lease = new Lease(live, board);
    this.view = new BoardView(live, this.lease);
    this.graphs = new Graphs($("graphs"), data, { zoom: (r) => this.view.zoom(r), back: () => this.view.back() });
    this.graphs.start();
    this.text = new BoardText($("graphs"), data);
    this.note = el("span", { class: "loading-note", hidden: true }, "reading the store…");
    this.said = el("div", { class: "graph-state", role: "status", hidden: true });
    $("graphs").prepend(this.note);
    this.graphs.temperature.node.append(this.said);
    this.#follow();
    setInterval(() => this.#paint(), repaintEvery);
    queueMicrotask(() => this.#paint());
  }

  #follow() {
    this.live.subscribe("board", { type: "subscribe", board: this.board });
    // Not before: what comes between the past and the subscription would be nowhere.
    this.live.addEventListener("subscribed", (e) => e.detail.board === this.board && this.load());
    this.live.addEventListener("reading", (e) => e.detail.board === this.board && this.#reading(e.detail));
    this.live.addEventListener("skipped", () => this.load());
    this.live.addEventListener("state", (e) => e.detail === "unreachable" && (this.#follows = false));
    this.view.addEventListener("change", () => {
      this.graphs.view = [0, 0];
      this.load();
    });
    document.addEventListener("visibilitychange", () => document.hidden || this.view.fixed || this.load());
  }

  take(series, at, value) {
    const known = this.latest.get(series);
    if (value === null) this.latest.delete(series);
    else if (!known || at >= known.at) this.latest.set(series, { at, value });
    if (series !== upSeries && value !== null) this.data.reported = true;
  }
  say() {
    this.#wordsAt = 0;
  }

  #reading(m) {
    for (const [series, value] of Object.entries(m.values)) this.take(series, m.at, value);
    if (upSeries in m.values) this.data.stopped = m.values[upSeries] === null;
    if (this.#loading) this.#pending.push(m);
    if (this.data.add(m)) this.#dirty = true;
  }

  // load reads the range; live readings of the meantime follow, so that nothing is missing in between.
  async load() {
    const mine = (this.#loading = {});
    const wanted = () => mine === this.#loading;
    const slow = setTimeout(() => wanted() && this.#noteLoading(), loadingAfter);
    this.#pending = [];
    let wrong = null;
    try {
      await this.data.load(...this.view.window(), wanted);
    } catch (e) {
      wrong = e;
    }
    clearTimeout(slow);
    if (!wanted()) return;
    this.#loading = null;
    this.#loadedAt = Date.now();
    this.note.hidden = true;
    this.#wrong = wrong;
    if (!wrong) this.#follows = !this.view.fixed && this.live.state !== "unreachable";
    this.say();
    for (const m of this.#pending) this.data.add(m);
    this.graphs.view = [0, 0]; // also a view that stands still is drawn again
    this.#dirty = true;
  }
  #noteLoading() {
    this.note.hidden = false;
  }

  // explain says in the graphs why there is nothing in them.
  #explain(window) {
    const state = this.data.state(window);
    setAttr($("graphs"), "data-state", state);
    const look = this.#wrong ? "failed" : state;
    const words = look === "failed" ? this.#failed() : look === "waiting" ? this.#waiting() : look === "empty" ? this.#empty(window) : null;
    this.said.hidden = !words;
    if (!words || this.said.dataset.key === look + words.join("|")) return;
    this.said.dataset.key = look + words.join("|");
    this.said.dataset.look = look;
    const mark = { failed: glyph("critical", "is-critical"), waiting: glyph("next"), empty: "" }[look];
    const again = look === "failed" ? [el("button", { class: "primary", onclick: () => this.load() }, "Try again")] : [];
    this.said.replaceChildren(el("b", {}, mark, words[0]), ...words.slice(1).filter(Boolean).map((w) => el("p", { class: "dim" }, w)), ...again);
  }
  #failed() {
    const away = this.#wrong instanceof Unanswered;
    const rest = away ? "The range is read when it does." : "Live readings and alerts do not depend on the store and go on.";
    return [`${this.view.words} of ${this.board} could not be read`, `${sentence(this.#wrong.message)} ${rest}`];
  }
  #waiting() {
    return ["Waiting for the first reading", this.data.enrolled ? `${this.board} was enrolled ${this.#when(this.data.enrolled)} and has not reported yet.` : `${this.board} has not reported yet.`];
  }
  #empty([, to]) {
    const early = this.data.enrolled && to <= this.data.enrolled;
    return [`No readings in this range`, early ? `It ends before ${this.board} was enrolled, ${this.#when(this.data.enrolled)}.` : ""];
  }
  #when(seconds) {
    return `${dayClock(seconds * 1000, this.live.now())} ${zone(seconds * 1000)}`;
  }

  #paint() {
    if (document.hidden) return;
    if (Date.now() - this.#wordsAt >= wordsEvery) {
      this.#wordsAt = Date.now();
      const now = this.live.now() / 1000;
      if (this.#follows && !this.view.fixed) this.data.read[1] = now;
      this.view.tick();
      this.#words();
      this.#explain(this.view.window());
      this.text.update(this.view.window(), this.live.now(), Boolean(this.#wrong));
      if (!this.view.fixed && this.live.state !== "unreachable") this.#dirty = true; // time goes on without readings
    }
    if (!this.view.fixed && !this.#loading && Date.now() - this.#loadedAt > refetchEvery) this.load();
    const window = this.view.window();
    if (!this.#dirty || window[1] === this.graphs.view[1]) return;
    this.#dirty = false;
    this.data.trim(window[0] - 60);
    this.graphs.draw(window);
  }
}

const sentence = (text) => text[0].toUpperCase() + text.slice(1) + ".";
