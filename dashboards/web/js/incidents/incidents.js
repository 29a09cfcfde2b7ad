// The incidents page: which incidents fire, who has them, and which pages were sent.

/** @import { Incident, IncidentAnswer, Event } from "../../types/server" */

import { $, el, glyph, setText, typing } from "../page/dom.js";
import { act, get, mayChange, post, Refused } from "../page/collector.js";
import { capital } from "../page/format.js";
import { ackButton, alertsText, inZone, lasted, severityGlyph, shortId, sinceText, whoHas } from "../page/incidents.js";
import { startShell } from "../page/shell.js";
import { timeline } from "./timeline.js";

const shownBoards = 12;
const nowEvery = 10000; // a calm board's newest reading is not younger
const { live, incidents } = startShell();
let chosen = new URLSearchParams(location.search).get("id");
/** @type {{ age: HTMLElement, i: Incident }[]} */
let ages = [];
let comment = "";
/** @type {Incident | undefined} the chosen incident where it is older than the list */
let older;
/** @type {Set<string>} ids that the collector does not keep */
const unknown = new Set();
/** @type {{ id: string, events: Event[] }} the events of the chosen incident */
let story = { id: "", events: [] };
const said = el("p", { id: "incident-said", role: "status" });

/** @param {string} id */
function choose(id) {
  chosen = id;
  history.replaceState(null, "", "?id=" + encodeURIComponent(id));
  comment = "";
  said.textContent = "";
  build();
}
// loadOlder fetches the chosen incident where the list has it not.
async function loadOlder() {
  if (!chosen || !incidents.loaded || listed() || unknown.has(chosen)) return;
  const id = chosen;
  try {
    /** @type {IncidentAnswer} */
    const answer = await get("/api/incidents/" + encodeURIComponent(id));
    const known = older?.id === id && JSON.stringify(older) === JSON.stringify(answer);
    older = answer;
    if (chosen === id && !known) build();
  } catch (e) {
    if (!(e instanceof Refused) || e.status !== 404 || chosen !== id) return; // asked again with the next change
    unknown.add(id);
    build();
  }
}
// loadDetails fetches the events of the chosen incident; the list itself stays small.
async function loadDetails() {
  const i = current();
  if (!i) return;
  try {
    /** @type {IncidentAnswer} */
    const answer = await get("/api/incidents/" + encodeURIComponent(i.id));
    const events = answer.events.map((e) => inZone(e, e.at));
    const same = story.id === i.id && JSON.stringify(story.events) === JSON.stringify(events);
    story = { id: i.id, events };
    i.now = inZone(answer, live.now()).now;
    if (current()?.id !== i.id) return;
    const line = $("incident-detail").querySelector(".now");
    if (same && line) setText(line, capital(i.now ?? "")); // nothing else is touched, a focus least of all
    else detail();
  } catch {
    // Asked again with the next change; the live status tells the fault.
  }
}
/**
 * change does something to an incident.
 * @param {string} path
 * @param {{ comment: string, for?: string }} body
 * @param {string} done
 */
async function change(path, body, done) {
  const from = document.activeElement;
  if (!(await act(said, () => post(path, body), done))) return;
  // Who types on meanwhile keeps the text, and the focus: without it keys are shortcuts.
  if (comment === body.comment) comment = "";
  if (from instanceof HTMLElement && document.activeElement === from) from.blur();
  await incidents.refresh();
}
/** @returns {Incident | undefined} */
const listed = () => incidents.list.find((i) => i.id === chosen);
/** @returns {Incident | undefined} */
function current() {
  if (chosen && incidents.loaded && !listed()) return older?.id === chosen ? older : undefined; // never another one's
  return listed() || incidents.open()[0] || incidents.list[0];
}
const inOrder = () => [...incidents.open(), ...incidents.quiet(), ...incidents.list.filter((i) => i.state === "resolved")];

function build() {
  ages = [];
  const open = incidents.open();
  const quiet = incidents.quiet();
  const over = incidents.list.filter((i) => i.state === "resolved");
  /** @param {string} last */
  const head = (last) => el("div", { class: "inc-head" }, el("span", {}), el("span", {}, "No."), el("span", {}, "What, and why we think so"), el("span", {}, "Since"), el("span", { class: "r" }, "Lasted"), el("span", {}, last));
  /**
   * @param {string} title
   * @param {string} note
   * @param {Incident[]} list
   * @param {string} last
   * @param {string} nothing
   */
  const part = (title, note, list, last, nothing) => [el("h2", {}, title, el("small", {}, note)), ...(list.length ? [head(last), ...list.map(row)] : [el("p", { class: "quiet" }, nothing)])];
  const firing = `${open.length} ${open.length === 1 ? "incident" : "incidents"} from ${alertsText(open)}`;
  $("incident-list").replaceChildren(...part("Firing", open.length ? firing : "", open, "Who has it", incidents.loaded ? "Nothing is firing." : ""), ...(quiet.length ? part("Recorded", "customers' boards, each alone, and rules in the shadow: page nobody", quiet, "", "") : []), ...part("Resolved", "", over, "Acknowledged by", incidents.loaded ? "Nothing has been resolved yet." : ""));
  detail();
  loadDetails();
  loadOlder();
}

/** @param {Incident} i */
function row(i) {
  const age = el("span", { class: "r num" }, lasted(i, live.now()));
  ages.push({ age, i });
  const mark = i.state === "resolved" ? glyph("acknowledged") : severityGlyph(i);
  return el("button", { class: "inc", "data-incident": i.id, "data-state": i.state, "aria-current": i === current() ? "true" : null, onclick: () => choose(i.id) },
    mark, el("span", { class: "id num" }, shortId(i)), el("span", {}, el("b", {}, i.title), el("small", {}, i.reason || i.detail || "")), el("span", { class: "since num" }, sinceText(i, live.now())), age, whoHas(i, live.now()));
}

function detail() {
  const box = $("incident-detail");
  if (document.activeElement instanceof HTMLInputElement && box.contains(document.activeElement)) return; // never under the typing hand
  const i = current();
  if (!i) {
    box.replaceChildren(...(chosen && unknown.has(chosen) ? [el("h2", {}, "No such incident"), el("p", {}, `The collector keeps no incident ${chosen}. Incidents are kept for 13 months.`)] : []));
    return;
  }
  const state = el("p", {}, severityGlyph(i), " ", rank(i), ` ${shortId(i)}, ${i.state} · since ${sinceText(i, live.now())} · `, agesNode(i));
  /** @type {HTMLElement[]} */
  const parts = [state, el("h2", {}, i.title), el("p", { class: "now" }, capital(i.now ?? "")), ackBox(i)];
  if (i.reason) parts.push(el("h3", {}, "Why we think so"), el("p", {}, i.reason));
  if (i.detail) parts.push(el("h3", {}, "Likely cause"), el("p", {}, i.detail));
  if (i.runbook) parts.push(el("h3", {}, "First steps"), el("p", {}, i.runbook));
  if (i.boards?.length) parts.push(el("h3", {}, "Touches"), boards(i.boards));
  if (i.closing) parts.push(el("h3", {}, `What ${i.closedBy} found`), el("p", {}, i.closing));
  parts.push(el("h3", {}, "What happened"), happened(i));
  box.replaceChildren(...parts);
}

/** @param {Incident} i */
function agesNode(i) {
  const age = el("span", { class: "num" }, lasted(i, live.now()));
  ages.push({ age, i });
  return age;
}

/** @param {Incident} i */
function rank(i) {
  if (i.shadow) return el("b", {}, "Shadow");
  if (i.pagesNobody) return el("b", {}, "Recorded");
  return i.severity === "critical" ? el("b", { class: "is-critical" }, "Critical") : el("b", { class: "is-warning" }, "Warning");
}

/** @param {Incident} i */
function ackBox(i) {
  if (!i.pagesNobody && i.state === "firing" && mayChange()) {
    const note = el("input", { type: "text", placeholder: "With a note (optional)", "aria-label": "Note", maxlength: "300", value: comment, oninput: () => (comment = note.value) });
    return el("div", { class: "ack-box firing" }, note, ackButton(incidents, i, () => note.value), ...more(i, false), refusal(i), said);
  }
  return el("div", { class: "ack-box" }, whoHas(i, live.now()), i.comment ? el("span", { class: "dim" }, `“${i.comment}”`) : "", ...(mayChange() && !i.pagesNobody ? more(i, true) : []), said);
}

/**
 * refusal says why an acknowledgement is not done.
 * @param {Incident} i
 */
const refusal = (i) => (incidents.refusal(i.id) ? el("p", { class: "is-critical", role: "alert" }, incidents.refusal(i.id)) : "");

/**
 * more is the other acts: be quiet for a time, or close with a comment, which has a field of its own
 * where withNote is set.
 * @param {Incident} i
 * @param {boolean} withNote
 */
function more(i, withNote) {
  const path = "/api/incidents/" + encodeURIComponent(i.id);
  const note = el("input", { type: "text", placeholder: "What was it? (a closing comment)", "aria-label": "Comment", maxlength: "1000", value: comment, oninput: () => (comment = note.value) });
  const close = el("button", { "data-close": i.id, onclick: () => change(path + "/resolve", { comment }, "Done.") }, i.state === "resolved" ? "Keep comment" : "Resolve");
  if (i.state === "resolved") return i.closing ? [] : [note, close];
  const time = el("select", { "aria-label": "Snooze for" }, ...["30m", "1h", "4h", "12h"].map((d) => el("option", { value: d }, d.replace("m", " min").replace("h", " h"))));
  const snooze = el("button", { "data-snooze": i.id, onclick: () => change(path + "/snooze", { for: time.value, comment }, `Snoozed for ${time.value}.`) }, "Snooze");
  return [...(withNote ? [note] : []), el("span", { class: "snooze" }, time, snooze), close];
}
/** @param {string[]} all */
function boards(all) {
  const rest = all.length - shownBoards;
  return el("p", { class: "chips" }, ...all.slice(0, shownBoards).map((b) => el("a", { href: "/board/" + b }, b)), rest > 0 ? el("span", { class: "dim" }, `${rest} more`) : "");
}
/** @param {Incident} i */
function happened(i) {
  if (i.shadow) return el("p", { class: "dim" }, "Nobody is paged: the rule is being tried out (shadow).");
  if (i.pagesNobody) return el("p", { class: "dim" }, "Nobody is paged: this is a customer's board, alone, and the customer may have done it.");
  const events = story.id === i.id ? story.events : [];
  if (!events.length) return el("p", { class: "dim" }, i.pages?.length ? "…" : "No page has left yet.");
  return timeline(events, live.now());
}

incidents.on("change", build);
setInterval(() => document.hidden || current()?.state === "resolved" || loadDetails(), nowEvery);
live.on("tick", () => {
  for (const { age, i } of ages) setText(age, lasted(i, live.now()));
});
document.addEventListener("keydown", (e) => {
  if (typing(e) || e.ctrlKey || e.metaKey || e.altKey) return;
  const list = inOrder();
  const at = list.findIndex((i) => i === current());
  if (e.key === "j" && list[at + 1]) choose(list[at + 1].id);
  else if (e.key === "k" && list[at - 1]) choose(list[at - 1].id);
  else if (e.key === "a") {
    const button = $("incident-detail").querySelector("button.primary:not(:disabled)");
    if (button instanceof HTMLElement) button.click();
  }
});
