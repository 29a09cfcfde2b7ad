// The summary row: each figure answers one question and is a filter.

import { $, el, glyph } from "./dom.js";
import { celsius, count } from "./format.js";
import { current, hasReported, isSilent, isStopped, isUp, reasons } from "./fleetstate.js";

const figures = [
  { id: "boards", name: "Boards", filter: "" },
  { id: "up", name: "Up", filter: "up" },
  { id: "silent", name: "Silent", glyph: "silent", filter: "silent" },
  { id: "throttled", name: "Throttled", glyph: "throttled", filter: "throttled" },
  { id: "under_voltage", name: "Under-voltage", glyph: "under_voltage", filter: "under_voltage" },
  { id: "hottest", name: "Hottest" },
  { id: "firing", name: "Firing" },
];

export class Summary {
  #nodes = new Map();
  constructor(filter) {
    this.filter = filter;
    for (const f of figures) {
      const value = el("span", { class: "value", "data-figure": f.id });
      const name = el("span", { class: "name" }, f.glyph && glyph(f.glyph), f.name);
      const button = el("button", { class: "figure", onclick: () => this.#click(f) }, name, value);
      this.#nodes.set(f.id, { value, button, f });
      $("summary").append(button);
    }
    filter.addEventListener("change", () => this.#pressed());
    this.#pressed();
  }

  #click(f) {
    if (f.id === "hottest") {
      if (this.hottest) location.href = "/board/" + this.hottest.name;
    } else if (f.id === "firing") location.href = "/incidents";
    else this.filter.set("state", this.filter.values.state === f.filter ? "" : f.filter);
  }
  #pressed() {
    for (const { button, f } of this.#nodes.values()) {
      if (f.filter) button.setAttribute("aria-pressed", String(this.filter.values.state === f.filter));
    }
  }
  #show(id, text, small) {
    const { value } = this.#nodes.get(id);
    if (value.dataset.text === text + "|" + (small || "")) return;
    value.dataset.text = text + "|" + (small || "");
    value.replaceChildren(text, ...(small ? [el("small", {}, small)] : []));
  }

  update(boards, incidents, stale) {
    const n = (test) => boards.filter(test).length;
    const has = (r) => n((b) => reasons(b).includes(r));
    const soft = has("soft_temperature_limit");
    this.hottest = boards.reduce((top, b) => ((current(b, "temperature") ?? -300) > (top ? current(top, "temperature") : -300) ? b : top), null);
    const [stopped, never] = [n(isStopped), n((b) => !hasReported(b))];
    this.#show("boards", count(boards.length), [stopped && `${count(stopped)} stopped`, never && `${count(never)} never reported`].filter(Boolean).join(", "));
    this.#show("up", count(n(isUp)));
    this.#show("silent", stale ? "?" : count(n(isSilent)));
    this.#show("throttled", count(has("throttled")), soft ? `+${soft} soft` : "");
    this.#show("under_voltage", count(has("under_voltage")));
    this.#show("hottest", celsius(this.hottest?.r.temperature), this.hottest?.name);
    const open = incidents.open();
    const alerts = open.reduce((sum, i) => sum + (i.alerts || 0), 0);
    if (!incidents.loaded) return this.#show("firing", "—");
    this.#show("firing", `${open.length} ${open.length === 1 ? "incident" : "incidents"}`, open.length ? `${alerts} ${alerts === 1 ? "alert" : "alerts"}` : "");
  }
}
