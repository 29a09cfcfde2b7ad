// Acts: whatever a page changes at the collector goes through attempt, so that each says how it went and why.

import { setText } from "./dom.js";
import { localTimes } from "./format.js";
import { Refused } from "./api.js";

// attempt runs an act once. error is null where it was done, else says why it was not; again says whether the same act may
// succeed later without a change: the collector was away or busy, and refused nothing.
export async function attempt(run) {
  try {
    return { answer: await run(), error: null, again: false };
  } catch (e) {
    const refused = e instanceof Refused;
    return { answer: refused ? e.answer : null, error: `Not done: ${localTimes(e.message, Date.now())}`, again: !refused || e.status >= 500 || e.status === 429, status: e.status };
  }
}

// act runs an act of a person's, and says beside it how it went: done, text or a function of the answer. The buttons of its
// form rest meanwhile, and can be pressed again afterwards; what was typed stays. It returns whether the act was done.
export async function act(said, run, done = "Done.") {
  const buttons = [...(said.closest("form") ?? said.parentElement ?? said).querySelectorAll("button:not(:disabled)")];
  say(said, "Sending…", "dim");
  for (const b of buttons) b.disabled = true;
  const { answer, error } = await attempt(run);
  for (const b of buttons) b.disabled = false;
  say(said, error ?? (typeof done === "function" ? done(answer) : done), error ? "is-critical" : "is-done");
  return !error;
}

export function say(said, text, look) {
  setText(said, text);
  said.className = look;
}
