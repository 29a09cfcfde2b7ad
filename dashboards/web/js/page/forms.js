// Forms that work without script: login, logout, acknowledging from a page, confirming an address. Where
// the collector does not answer, the form stays as it is and says so, instead of giving way to the
// browser's own error page.

import { el } from "./dom.js";

const patience = 10000; // ms

function guardForms() {
  for (const form of document.querySelectorAll("form")) {
    if (form.method === "post") form.addEventListener("submit", (e) => send(e, form));
  }
}

/**
 * send looks whether the collector answers before the browser leaves the page for its answer.
 * @param {SubmitEvent} e
 * @param {HTMLFormElement} form
 */
async function send(e, form) {
  e.preventDefault();
  const pressed = e.submitter;
  const said = form.querySelector(".not-done") ?? el("p", { class: "not-done is-critical", role: "alert" });
  said.remove();
  try {
    await fetch(location.pathname, { method: "HEAD", signal: AbortSignal.timeout(patience) });
  } catch {
    said.textContent = "Not done: the collector does not answer. Try again.";
    form.append(said);
    return;
  }
  if (pressed instanceof HTMLButtonElement && pressed.name) form.append(el("input", { type: "hidden", name: pressed.name, value: pressed.value }));
  form.submit();
}

guardForms();
