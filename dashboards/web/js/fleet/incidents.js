// The incident rows of the fleet page: at most three, each with its one next step.

/** @import { Incident } from "../../types/server" */
/** @import { Incidents } from "../page/incidents.js" */

import { el, setText } from "../page/dom.js";
import { ackButton, incidentLink, lasted, severityGlyph, shortId, whoHas } from "../page/incidents.js";

const shown = 3;

/**
 * urgency orders incidents: those that fire before those that somebody has, critical ones before the
 * rest, the youngest first.
 * @param {Incident} a
 * @param {Incident} b
 */
export function urgency(a, b) {
  /** @param {Incident} i */
  const rank = (i) => (i.state === "firing" ? 0 : 2) + (i.severity === "critical" ? 0 : 1);
  return rank(a) - rank(b) || b.since - a.since;
}

export class IncidentRows {
  /** @type {{ age: HTMLElement, i: Incident }[]} */
  #ages = [];

  /**
   * @param {HTMLElement} box
   * @param {Incidents} incidents
   */
  constructor(box, incidents) {
    this.box = box;
    this.incidents = incidents;
    incidents.on("change", () => this.build());
  }
  build() {
    const open = [...this.incidents.open()].sort(urgency);
    this.#ages = [];
    const more = open.length - shown;
    this.box.replaceChildren(...open.slice(0, shown).map((i) => this.#row(i)), ...(more > 0 ? [el("div", { class: "incident-more" }, el("a", { href: "/incidents" }, `+${more} more`))] : []));
  }
  /** @param {Incident} i */
  #row(i) {
    const now = this.incidents.now();
    const age = el("span", { class: "ago num" }, ageText(i, now));
    this.#ages.push({ age, i });
    const open = el("a", { class: "button", href: incidentLink(i) }, "Open");
    return el("div", { class: `incident-row ${i.state} ${i.severity}`, "data-incident": i.id },
      severityGlyph(i), el("a", { class: "what", href: incidentLink(i) }, i.title), el("span", { class: "why" }, i.reason || i.detail || ""), age, whoHas(i, now), el("span", { class: "act" }, ackButton(this.incidents, i) || open));
  }
  /** @param {number} now */
  tick(now) {
    for (const { age, i } of this.#ages) setText(age, ageText(i, now));
  }
}

/**
 * @param {Incident} i
 * @param {number} now
 */
const ageText = (i, now) => `${shortId(i)} · ${lasted(i, now)}`;
