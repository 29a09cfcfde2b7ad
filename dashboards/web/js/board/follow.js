// The graphs of one board's page: the stored past, continued live. Operators and customers see the same.

/** @import { Frames } from "../../types/server" */
/** @import { Live } from "../page/live.js" */
/** @import { BoardData, View } from "./data.js" */

import { $, el, glyph, setAttr } from "../page/dom.js";
import { Unanswered } from "../page/collector.js";
import { capital, dayClock, zone } from "../page/format.js";
import { Graphs } from "./graphs.js";
import { BoardText } from "./text.js";
import { BoardView, Lease } from "./view.js";

const repaintEvery = 100;
const wordsEvery = 1000;
const refetchEvery = 60000; // so that steps stay whole and readings that come late, after an outage, are seen
const loadingAfter = 300;
const upSeries = "pi_board_up";

/** @typedef {Map<string, { at: number, value: number }>} Latest the newest reading of each series; at is in Unix ms */

export class BoardGraphs {
  /** @type {Latest} */
  latest = new Map();
  #words;
  #wordsAt = 0;
  #dirty = true;
  /** @type {object | null} the load under way; each has one of its own */
  #loading = null;
  #loadedAt = Date.now();
  /** @type {Frames["reading"][]} readings that arrive while a range is being read */
  #pending = [];
  /** @type {unknown} why the range could not be read */
  #wrong = null;
  #follows = false; // nothing of the board was missed since the range was read

  /**
   * words is called every second, and after say, to put the present into words.
   * @param {Live} live
   * @param {string} board
   * @param {BoardData} data
   * @param {() => void} words
   */
  constructor(live, board, data, words) {
    this.live = live;
    this.board = board;
    this.data = data;
    this.#words = words;
    this.lease = new Lease(live, board);
    this.view = new BoardView(live, this.lease);
    this.graphs = new Graphs($("graphs"), data, { zoom: (r) => this.view.zoom(r), back: () => this.view.back() });
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
    // Not before: a reading between the past and the subscription would be nowhere.
    this.live.on("subscribed", (m) => m.board === this.board && this.load());
    this.live.on("reading", (m) => m.board === this.board && this.#reading(m));
    this.live.on("skipped", () => this.load());
    this.live.on("state", (state) => {
      if (state === "unreachable") this.#follows = false;
    });
    this.view.on("change", () => {
      this.graphs.view = [0, 0];
      this.load();
    });
    document.addEventListener("visibilitychange", () => document.hidden || this.view.fixed || this.load());
  }

  /**
   * take notes the newest reading of a series; null: it has none now.
   * @param {string} series
   * @param {number} at
   * @param {number | null} value
   */
  take(series, at, value) {
    const known = this.latest.get(series);
    if (value === null) this.latest.delete(series);
    else if (!known || at >= known.at) this.latest.set(series, { at, value });
    if (series !== upSeries && value !== null) this.data.reported = true;
  }
  say() {
    this.#wordsAt = 0;
  }

  /** @param {Frames["reading"]} m */
  #reading(m) {
    for (const [series, value] of Object.entries(m.values)) this.take(series, m.at, value);
    if (upSeries in m.values) this.data.stopped = m.values[upSeries] === null;
    if (this.#loading) this.#pending.push(m);
    if (this.data.add(m)) this.#dirty = true;
  }

  // The range is read; live readings of the meantime follow, so that nothing is missing in between.
  async load() {
    const mine = {};
    this.#loading = mine;
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

  /**
   * explain says in the graphs why there is nothing in them.
   * @param {View} window
   */
  #explain(window) {
    const state = this.data.state(window);
    setAttr($("graphs"), "data-state", state);
    const look = this.#wrong ? "failed" : state;
    const words = look === "failed" ? this.#failed() : look === "waiting" ? this.#waiting() : look === "empty" ? this.#empty(window) : null;
    this.said.hidden = !words;
    if (!words || this.said.dataset.key === look + words.join("|")) return;
    this.said.dataset.key = look + words.join("|");
    this.said.dataset.look = look;
    const mark = look === "failed" ? glyph("critical", "is-critical") : look === "waiting" ? glyph("next") : "";
    const again = look === "failed" ? [el("button", { class: "primary", onclick: () => this.load() }, "Try again")] : [];
    this.said.replaceChildren(el("b", {}, mark, words[0]), ...words.slice(1).filter(Boolean).map((w) => el("p", { class: "dim" }, w)), ...again);
  }
  #failed() {
    const away = this.#wrong instanceof Unanswered;
    const rest = away ? "The range is read when it does." : "Live readings and alerts do not depend on the store and go on.";
    const why = this.#wrong instanceof Error ? this.#wrong.message : String(this.#wrong);
    return [`${this.view.words} of ${this.board} could not be read`, `${capital(why)}. ${rest}`];
  }
  #waiting() {
    return ["Waiting for the first reading", this.data.enrolled ? `${this.board} was enrolled ${this.#when(this.data.enrolled)} and has not reported yet.` : `${this.board} has not reported yet.`];
  }
  /** @param {View} view */
  #empty([, to]) {
    const { enrolled } = this.data;
    return ["No readings in this range", enrolled && to <= enrolled ? `It ends before ${this.board} was enrolled, ${this.#when(enrolled)}.` : ""];
  }
  /** @param {number} seconds */
  #when(seconds) {
    return `${dayClock(seconds * 1000, this.live.now())} ${zone(seconds * 1000)}`;
  }

  #paint() {
    if (document.hidden) return;
    if (Date.now() - this.#wordsAt >= wordsEvery) {
      this.#wordsAt = Date.now();
      const now = this.live.now() / 1000;
      if (this.#follows && !this.view.fixed && this.data.read) this.data.read[1] = now;
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
