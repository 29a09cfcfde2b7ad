// The top of a board's page: its state in words, and the three numbers.

/** @import { BoardAnswer, Incident } from "../../types/server" */
/** @import { Incidents } from "../page/incidents.js" */
/** @import { Latest } from "./follow.js" */

import { $, el, glyph } from "../page/dom.js";
import { capital, celsius, dayClock, duration, megahertz, none, place, reasonOrder, reasonWords, stoppedText, tenths } from "../page/format.js";
import { query } from "../page/collector.js";
import { incidentLink } from "../page/incidents.js";

/** Info is an answer about a board, or the little that is known of it before; loaded says that it came. */
/** @typedef {Partial<BoardAnswer> & { name: string, loaded?: boolean }} Info */

/** @typedef {{ t?: number, q?: number, m?: number }} Figures temperature, clock requested and measured */

/**
 * lastReportOf is the time of the newest reading that the board itself sent; 0 where there is none.
 * @param {number | undefined} lastReport
 * @param {Latest} latest
 */
export const lastReportOf = (lastReport, latest) => Math.max(lastReport || 0, ...[...latest].filter(([s]) => s !== "pi_board_up").map(([, v]) => v.at));

export class BoardHead {
  #key = "";

  /**
   * @param {string} board
   * @param {Incidents} incidents
   */
  constructor(board, incidents) {
    this.board = board;
    this.incidents = incidents;
  }

  /**
   * update takes the current readings.
   * @param {Info} info
   * @param {Latest} latest
   * @param {number} now
   */
  update(info, latest, now) {
    /** @param {string} s */
    const value = (s) => latest.get(s)?.value;
    const up = value("pi_board_up");
    const { stopped } = info;
    const bits = stopped ? [] : reasonOrder.filter((r) => value(`pi_throttled{reason="${r}"}`));
    const [t, q, m] = [value("pi_soc_temperature_celsius"), value('pi_cpu_clock_hertz{source="requested"}'), value('pi_cpu_clock_hertz{source="measured"}')];
    const last = lastReportOf(info.lastReport, latest);
    const incident = [...this.incidents.open(), ...this.incidents.quiet()].find((i) => (i.boards || []).includes(this.board) || i.labels?.board === this.board);
    const silentFor = up === 0 && last ? duration(now - last) : "";
    const key = JSON.stringify([up, stopped, info.loaded, bits, t, q, m, incident?.id, incident?.state, silentFor]);
    if (key === this.#key) return;
    this.#key = key;
    $("board-head").replaceChildren(this.#name(info, up, bits, incident, last, silentFor, now), el("span", { class: "grow" }), ...figures(up === 0 || stopped ? {} : { t, q, m }));
  }

  /**
   * @param {Info} info
   * @param {number | undefined} up
   * @param {typeof reasonOrder} bits
   * @param {Incident | undefined} incident
   * @param {number} last
   * @param {string} silentFor
   * @param {number} now
   */
  #name(info, up, bits, incident, last, silentFor, now) {
    const crumbs = el("div", { class: "crumbs" }, el("a", { href: "/" }, "Fleet"), ...place(info.labels, "Rack").flatMap((p, i) => [" › ", i === 0 && info.labels?.rack ? el("a", { href: "/?rack=" + encodeURIComponent(info.labels.rack) }, p) : p]));
    let state = null;
    if (up === 0) state = el("span", { class: "state", "data-field": "state" }, glyph("silent"), `Silent for ${silentFor || "some time"}`, last ? el("span", { class: "dim" }, `, last report ${dayClock(last, now)}`) : "");
    else if (bits.length) state = el("span", { class: "state", "data-field": "state" }, ...bits.flatMap((r, i) => [i ? ", " : "", glyph(r, "is-" + r), el("span", { class: "is-" + r }, reasonWords[r])]));
    else if (info.stopped) state = el("span", { class: "state dim", "data-field": "state" }, glyph("stopped"), stoppedText(last, now));
    else if (info.loaded && !last) state = el("span", { class: "state dim", "data-field": "state" }, "has never reported");
    const part = incident && el("span", { class: "dim" }, " part of ", el("a", { href: incidentLink(incident) }, incident.title), incident.acknowledgedBy ? `, acknowledged by ${incident.acknowledgedBy}` : "");
    return el("div", {}, crumbs, el("h1", {}, this.board), state, part);
  }
}

/** @param {Figures} now */
function figures({ t, q, m }) {
  const temperature = el("div", { class: "fig" }, el("span", {}, "SoC temperature"), el("b", { class: "num", "data-field": "temperature" }, celsius(t)));
  const lost = q !== undefined && q > 0 && m !== undefined && m < q * 0.99 ? el("b", { class: "lost" }, ` −${Math.round((1 - m / q) * 100)} %`) : null;
  /** @param {number | undefined} hz */
  const word = (hz) => (hz === undefined ? none : megahertz(hz));
  const clock = el("div", { class: "fig" }, el("span", {}, "Clock, measured of requested"),
    el("b", { class: "num", "data-field": "measured" }, word(m)), el("small", {}, " of ", el("span", { class: "num inline", "data-field": "requested" }, word(q)), " MHz"), lost);
  return [temperature, clock];
}

/**
 * facts fills the side column; facts that the board does not report are left out, never guessed. It
 * returns the place for otherReadings.
 * @param {HTMLElement} box
 * @param {Info} info
 */
export async function facts(box, info) {
  /** @type {[name: string, text: string | undefined][]} */
  const rows = [["Model", info.labels?.model], ["Place", place(info.labels).join(", ")], ["Customer", info.labels?.customer]];
  const shown = new Set(["model", "rack", "switch", "port", "customer"]);
  for (const [k, v] of Object.entries(info.labels || {})) if (!shown.has(k)) rows.push([k, v]);
  const rejected = Object.entries(info.rejected || {}).sort((a, b) => b[1] - a[1]);
  if (rejected.length) rows.push(["Not taken", rejected.map(([why, n]) => n.toLocaleString("en") + " " + why.replaceAll("_", " ")).join(", ")]);
  // The live numbers do not depend on the store.
  const list = await query(`last_over_time(pi_info{board="${info.name}"}[1d])`).catch(() => []);
  const about = list.at(-1)?.labels ?? {};
  for (const k of ["model", "revision", "kernel", "firmware", "os", "sensor"]) if (about[k] && !(k === "model" && info.labels?.model)) rows.push([capital(k), about[k]]);
  rows.push(["Enrolled", info.enrolled ? "yes" : "not yet"]);
  const dl = el("dl", {}, ...rows.filter(([, v]) => v).flatMap(([k, v]) => [el("dt", {}, k), el("dd", {}, v)]));
  const now = el("div", { id: "latest" });
  box.replaceChildren(el("section", {}, el("h2", {}, "Board"), dl), el("section", {}, el("h2", {}, "Also reported ", el("small", {}, "latest reading")), now));
  return now;
}

/** @type {[series: RegExp, text: (value: number, now: number) => string][]} */
const units = [
  [/_celsius$/, celsius], [/^pi_core_volts/, (v) => v.toFixed(4) + " V"], [/_hertz/, (v) => Math.round(v / 1e6) + " MHz"],
  [/_bytes(_total)?(\{|$)/, (v) => (v / 1048576).toFixed(1) + " MiB"], [/boot_time_seconds/, (v, now) => "up " + duration(now - v * 1000)],
  [/_seconds(_total)?(\{|$)/, (v) => (Math.abs(v) < 1 ? tenths(v * 1000) + " ms" : v.toFixed(1) + " s")], [/_rpm$/, (v) => Math.round(v) + " rpm"],
];
const onGraphs = /^pi_(soc_temperature_celsius|cpu_clock_hertz\{source="(requested|measured)"\}|throttled|board_up|info)/;

/**
 * readingText writes a value of a series with its unit.
 * @param {string} series
 * @param {number} value
 * @param {number} now Unix ms
 */
export function readingText(series, value, now) {
  const unit = units.find(([of]) => of.test(series));
  return unit ? unit[1](value, now) : String(Math.round(value * 1000) / 1000);
}

/**
 * readingName names a series as people do: without its prefix and unit, with its labels' values.
 * @param {string} series
 */
export const readingName = (series) =>
  series.replace(/^pi_/, "").replace(/^pisensor_/, "sensor ").replace(/_(seconds|bytes|celsius|volts|hertz)?(_total)?(?=\{|$)/, "").replaceAll("_", " ").replace(/\{.*?="(.*?)"\}/, " $1");

/**
 * otherReadings lists the newest readings that no graph shows.
 * @param {HTMLElement} box
 * @param {Latest} latest
 * @param {number} now Unix ms
 */
export function otherReadings(box, latest, now) {
  const rows = [...latest].filter(([s]) => !onGraphs.test(s)).sort(([a], [b]) => (a < b ? -1 : 1));
  const key = rows.map(([s, r]) => s + readingText(s, r.value, now)).join();
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  box.replaceChildren(rows.length ? el("dl", {}, ...rows.flatMap(([s, r]) => [el("dt", { title: s }, readingName(s)), el("dd", { class: "num" }, readingText(s, r.value, now))])) : el("p", { class: "none" }, "nothing else"));
}
