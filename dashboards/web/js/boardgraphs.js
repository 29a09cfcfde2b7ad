// The graphs of one board's page: the stored past, continued live. Operators and customers see the same.

import { $, el, setText } from "./dom.js";
import { BoardText } from "./boardtext.js";
import { BoardView, Lease } from "./boardview.js";
import { Graphs } from "./graphs.js";

const repaintEvery = 100;
const wordsEvery = 1000;
const refetchEvery = 60000; // so that steps stay whole and readings that come late, after an outage, are seen
const loadingAfter = 300;

export class BoardGraphs {
  latest = new Map(); // series → {at, value}
  #words;
  #wordsAt = 0;
  #dirty = true;
  #loading = null;
  #loadedAt = Date.now();
  #pending = []; // readings that arrive while a range is being read

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
    this.note = el("span", { class: "loading-note", hidden: true });
    this.failure = el("div", { class: "graph-error", role: "alert", hidden: true });
    $("graphs").prepend(this.note, this.failure);
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
  }
  say() {
    this.#wordsAt = 0;
  }

  #reading(m) {
    for (const [series, value] of Object.entries(m.values)) this.take(series, m.at, value);
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
    this.#showFailure(wrong);
    for (const m of this.#pending) this.data.add(m);
    this.graphs.view = [0, 0]; // also a view that stands still is drawn again
    this.#dirty = true;
  }
  #noteLoading() {
    this.note.hidden = false;
    setText(this.note, "reading the store…");
  }
  #showFailure(e) {
    this.failure.hidden = !e;
    if (e) this.failure.replaceChildren(el("b", {}, "The stored readings could not be read"), el("p", { class: "dim" }, e.message + ". Live readings and alerts do not depend on the store and go on."), el("button", { class: "primary", onclick: () => this.load() }, "Try again"));
  }

  #paint() {
    if (document.hidden) return;
    if (Date.now() - this.#wordsAt >= wordsEvery) {
      this.#wordsAt = Date.now();
      this.view.tick();
      this.#words();
      this.text.update(this.view.window(), this.live.now());
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
