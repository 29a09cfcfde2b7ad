// What a customer's pages have in common: one websocket that carries own boards alone, and how late it is.

import { Live } from "./live.js";
import { status } from "./shell.js";

export function startOwn() {
  const live = new Live("/own/live");
  live.addEventListener("state", () => status(live));
  live.addEventListener("tick", () => status(live));
  status(live);
  return live;
}
