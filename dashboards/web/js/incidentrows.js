// The incident rows of the fleet page: at most three, each with its one next step.

import { el } from "./dom.js";
import { ackButton, lasted, severityGlyph, shortId, whoHas } from "./incidentstore.js";

const shown = 3;
const rank = { firing: 0, acknowledged: 1 };

export class IncidentRows {
  #ages = [];
  constructor(box, incidents) {
    this.box = box;
    this.incidents = incidents;
    incidents.addEventListener("change", () => this.build());
  }
  build() {
    const open = [...this.incidents.open()].sort((a, b) => rank[a.state] - rank[b.state] || (a.severity === "critical" ? -1 : 0) - (b.severity === "critical" ? -1 : 0) || b.since - a.since);
    this.#ages = [];
    const more = open.length - shown;
    this.box.replaceChildren(...open.slice(0, shown).map((i) => this.#row(i)), ...(more > 0 ? [el("div", { class: "incident-more" }, el("a", { href: "/incidents" }, `+${more} more`))] : []));
  }
  #row(i) {
    const now = this.incidents.now();
    const age = el("span", { class: "ago num" }, `${shortId(i)} · ${lasted(i, now)}`);
    this.#ages.push({ age, i });
    const open = el("a", { class: "button", href: "/incidents?id=" + encodeURIComponent(i.id) }, "Open");
    return el("div", { class: `incident-row ${i.state} ${i.severity}`, "data-incident": i.id },
      severityGlyph(i), el("a", { class: "what", href: "/incidents?id=" + encodeURIComponent(i.id) }, i.title), el("span", { class: "why" }, i.reason || i.detail || ""), age, whoHas(i, now), el("span", { class: "act" }, ackButton(this.incidents, i) || open));
  }
  tick(now) {
    for (const { age, i } of this.#ages) {
      const text = `${shortId(i)} · ${lasted(i, now)}`;
      if (age.textContent !== text) age.textContent = text;
    }
  }
}
