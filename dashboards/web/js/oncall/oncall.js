// The on-call page: who is on call now and next, where nobody is, and who stands in for whom.

/** @import { OnCall, Override, Policy, Rota, Shift } from "../../types/server" */

import { $, el, glyph } from "../page/dom.js";
import { act, get, keepFresh, mayChange, post } from "../page/collector.js";
import { dayTime, duration, zone } from "../page/format.js";
import { startShell } from "../page/shell.js";

const stripHours = 72;
const refreshEvery = 30000;
const hour = 3600000;
const { live } = startShell();
const said = el("p", { id: "override-said", role: "status" });
/** @type {HTMLFormElement | null} the form, kept while nothing was set with it */
let typed = null;

async function load() {
  build(await get("/api/oncall"));
}

/** @param {OnCall} data */
function build(data) {
  const none = !data.rotas.length && !data.policies.length;
  $("oncall-gaps").replaceChildren(...data.rotas.filter((r) => r.gaps.length).map(gapNote));
  $("oncall-rotas").replaceChildren(...(none ? [el("p", { class: "quiet" }, "There is no oncall.yml: receivers send by themselves, and nothing escalates. docs/oncall.md says how to name people, rotas and policies.")] : data.rotas.map((r) => rota(r, data.now))));
  $("oncall-policies").replaceChildren(...(none ? [] : [el("h2", {}, "Policies", el("small", {}, "who is paged one after the other, until somebody acknowledges")), ...data.policies.map((p) => policy(p, data))]));
  const box = $("oncall-overrides");
  if (!box.contains(document.activeElement) || document.activeElement instanceof HTMLButtonElement) {
    box.replaceChildren(...(data.rotas.length ? overrides(data) : []));
  }
}

/**
 * span names a time from one to another, in the zone of the page.
 * @param {Pick<Shift, "from" | "to">} time
 * @param {string} [between]
 */
const span = ({ from, to }, between = "to") => `${dayTime(from)} ${between} ${dayTime(to)} ${zone(from)}`;

/** @param {Rota} r */
function gapNote(r) {
  const g = r.gaps[0];
  const more = r.gaps.length - 1;
  return el("p", { class: "gap-note", role: "status" }, glyph("warning", "is-warning"), el("span", {}, el("b", {}, `Nobody is on call in ${r.name} from ${span(g)}`), more ? `, and ${more} more ${more === 1 ? "gap" : "gaps"} within 30 days` : "", ". A step that finds nobody goes on to the next at once."));
}

/**
 * @param {Rota} r
 * @param {number} at
 */
function rota(r, at) {
  const [now, next] = r.shifts;
  const until = now.to - at;
  const facts = el("div", {},
    el("p", { class: "dim" }, `${r.name}: on call now, until ${dayTime(now.to)} ${zone(now.to)}`),
    el("p", { class: now.person ? "now" : "now nobody" }, now.person || "Nobody"),
    el("p", { class: "dim" }, next ? `then ${next.person || "nobody"}, in ${duration(until)}` : "no hand-over within 14 days"));
  const list = el("details", { class: "shifts" }, el("summary", {}, "The next 14 days"), el("ul", {}, ...r.shifts.map((s) => el("li", {}, el("time", { class: "num" }, span(s, "–")), el("span", {}, s.person ? el("b", {}, s.person) : el("b", { class: "is-critical" }, "Nobody"), ` ${s.override ? "stands in" : s.layer || ""}`, el("span", { class: "dim" }, ` ${duration(s.to - s.from)}`))))), el("p", { class: "dim" }, `Hand-overs are planned in ${r.zone} time.`));
  return el("article", { class: "rota" }, facts, strip(r, at), list);
}

/**
 * strip draws the next days to scale. Positions are set through the style object: the page's policy
 * allows no inline style.
 * @param {Rota} r
 * @param {number} now
 */
function strip(r, now) {
  const whole = stripHours * hour;
  /**
   * @param {HTMLElement} node
   * @param {number} from
   * @param {number} [to]
   */
  const at = (node, from, to) => {
    node.style.left = `${((from - now) / whole) * 100}%`;
    if (to) node.style.width = `${((to - from) / whole) * 100}%`;
    return node;
  };
  const shown = r.shifts.filter((s) => s.from < now + whole);
  const bars = shown.map((s, i) => at(el("span", { class: [i === 0 && s.person ? "first" : "", s.person ? "" : "nobody", s.override ? "override" : ""].join(" ").trim() || null, title: `${s.person || "nobody"}, ${span(s, "–")}` }, s.person || "nobody"), s.from, Math.min(s.to, now + whole)));
  let last = -Infinity;
  const ends = shown.filter((s) => {
    if (s.to >= now + whole * 0.9 || s.to - last < whole * 0.16) return false;
    last = s.to;
    return true;
  });
  const days = [at(el("span", {}, "now"), now), ...ends.filter((s) => s.to > now + whole * 0.06).map((s) => at(el("span", { class: "num" }, dayTime(s.to).replace(/^(\S+) \S+ \S+ /, "$1 ")), s.to))];
  const text = shown.map((s) => `${s.person || "nobody"} until ${dayTime(s.to)}`).join(", ");
  return el("div", {}, el("div", { class: "strip", role: "img", "aria-label": `The next ${stripHours / 24} days: ${text}` }, ...bars), el("div", { class: "strip-days", "aria-hidden": "true" }, ...days));
}

/**
 * @param {Policy} p
 * @param {OnCall} data
 */
function policy(p, data) {
  let at = 0;
  /** @param {string} name */
  const channels = (name) => {
    const who = data.people.find((x) => x.name === name);
    return who ? who.channels.map((c) => c.receiver + (c.afterSeconds ? ` after ${duration(c.afterSeconds * 1000)}` : "")).join(", ") : "";
  };
  const steps = p.steps.map((s) => {
    const now = s.now || [];
    const row = el("li", {}, el("span", { class: "num dim" }, at ? "+" + duration(at) : "at once"), el("span", {}, el("b", {}, s.notify.join(", ")), now.length ? (now.join() === s.notify.join() ? "" : `, now ${now.join(", ")}`) : el("span", { class: "is-critical" }, ", now nobody"), ...now.map((n) => el("small", {}, `${n}: ${channels(n)}`))));
    at += s.waitSeconds * 1000;
    return row;
  });
  const end = p.fallback ? `then to ${p.fallback}` : "then nobody: there is no fallback";
  steps.push(el("li", {}, el("span", { class: "num dim" }, "+" + duration(at)), el("span", {}, p.repeat ? `from the start, ${p.repeat} more ${p.repeat === 1 ? "time" : "times"}, ${end}` : end)));
  return el("article", { class: "policy" }, el("p", {}, el("b", {}, p.name), el("span", { class: "dim" }, `, for ${p.receivers.join(", ")}`)), el("ol", {}, ...steps));
}

/** @param {OnCall} data */
function overrides(data) {
  const all = data.rotas.flatMap((r) => r.overrides || []);
  /** @param {Override} o */
  const row = (o) => el("li", {}, el("span", { class: "grow" }, el("b", {}, o.person), ` in ${o.rota}, `, el("span", { class: "num" }, span(o, "–")), el("span", { class: "dim" }, o.id ? ` by ${o.by}` : " in oncall.yml")), o.id && mayChange() ? el("button", { "data-end": o.id, onclick: () => change(`/api/oncall/overrides/${o.id}/end`, {}, "The override is over.") }, "End") : "");
  const list = all.length ? el("ul", { class: "override-list" }, ...all.map(row)) : el("p", { class: "quiet" }, "Nobody stands in for anybody.");
  return [el("h2", {}, "Overrides", el("small", {}, `times in ${zone(data.now)}`)), list, mayChange() ? (typed ??= form(data)) : "", said];
}

/** @param {OnCall} data */
function form(data) {
  /**
   * @param {string} name
   * @param {string[]} values
   */
  const pick = (name, values) => el("select", { name, "aria-label": name }, ...values.map((v) => el("option", {}, v)));
  /** @param {number} ms */
  const local = (ms) => new Date(ms - new Date(ms).getTimezoneOffset() * 60000).toISOString().slice(0, 16);
  const who = pick("person", data.people.map((p) => p.name));
  const where = pick("rota", data.rotas.map((r) => r.name));
  const from = el("input", { type: "datetime-local", name: "from", value: local(data.now) });
  const to = el("input", { type: "datetime-local", name: "to", value: local(data.now + 8 * hour) });
  /** @param {Event} e */
  const send = (e) => {
    e.preventDefault();
    change("/api/oncall/overrides", { rota: where.value, person: who.value, from: new Date(from.value).toISOString(), to: new Date(to.value).toISOString() }, "Set.");
  };
  return el("form", { class: "override-form", onsubmit: send }, el("label", {}, "Who", who), el("label", {}, "stands in for", where), el("label", {}, "From", from), el("label", {}, "To", to), el("button", { class: "primary" }, "Set override"));
}

/**
 * @param {string} path
 * @param {object} body
 * @param {string} done
 */
async function change(path, body, done) {
  if (await act(said, () => post(path, body), done)) typed = null;
  if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
  refresh();
}

const refresh = keepFresh(live, [$("oncall-rotas"), $("oncall-policies"), $("oncall-overrides")], load, refreshEvery);
