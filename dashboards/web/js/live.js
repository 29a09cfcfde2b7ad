// One websocket a page: reconnects by itself, and says how late it is.

const retryAfter = [1000, 2000, 4000, 8000, 15000];
const lateAfter = 5000;

const reloadKey = "bramble.reloaded";
const reloadEvery = 60000; // a proxy that serves old pages must not make the page reload for ever

// outdated reloads a page whose files are not those of the collector that answers now.
function outdated(web) {
  if (new URL(import.meta.url).pathname.startsWith(web)) return false;
  if (Date.now() - Number(sessionStorage.getItem(reloadKey)) < reloadEvery) return false;
  sessionStorage.setItem(reloadKey, String(Date.now()));
  location.reload();
  return true;
}

export class Live extends EventTarget {
  #socket = null;
  #wanted = new Map(); // subscription key → message, sent again after a reconnect
  #tries = 0;
  #retryAt = 0;
  #timer = 0;
  #lastMessage = 0;
  #offset = 0;

  constructor(path = "/live") {
    super();
    this.path = path;
    this.state = "connecting";
    this.lastHeard = 0;
    setInterval(() => this.#tick(), 500);
    this.#open();
  }

  // now is the collector's time: ages must not depend on the viewer's clock, and do not grow while the collector is away.
  now() {
    return (this.state === "unreachable" && this.lastHeard ? this.lastHeard : Date.now()) + this.#offset;
  }
  get behind() {
    return Date.now() - this.#lastMessage;
  }
  get retryIn() {
    return Math.max(0, this.#retryAt - Date.now());
  }

  subscribe(key, message) {
    this.#wanted.set(key, message);
    this.send(message);
  }
  unsubscribe(key, message) {
    this.#wanted.delete(key);
    this.send(message);
  }
  // send returns whether the message could be sent.
  send(message) {
    const open = this.#socket?.readyState === WebSocket.OPEN;
    if (open) this.#socket.send(JSON.stringify(message));
    return open;
  }
  retryNow() {
    clearTimeout(this.#timer);
    this.#open();
  }

  #open() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}${this.path}`);
    this.#socket = socket;
    this.#retryAt = 0;
    socket.onmessage = (e) => this.#message(JSON.parse(e.data));
    socket.onclose = (e) => {
      if (socket === this.#socket) this.#lost(e);
    };
  }

  #message(m) {
    this.#lastMessage = this.lastHeard = Date.now();
    if (m.now) this.#offset = m.now - Date.now();
    if (m.type === "hello") {
      if (outdated(m.web)) return;
      this.#tries = 0;
      for (const wanted of this.#wanted.values()) this.send(wanted);
      this.#set("live");
    }
    this.dispatchEvent(new CustomEvent(m.type, { detail: m }));
  }

  #lost(e) {
    this.#socket = null;
    if (e.reason === "logged out") {
      location.reload();
      return;
    }
    const base = retryAfter[Math.min(this.#tries++, retryAfter.length - 1)];
    const wait = base * (0.8 + 0.4 * Math.random()); // not all browsers in one instant
    this.#retryAt = Date.now() + wait;
    this.#timer = setTimeout(() => this.#open(), wait);
    this.#set("unreachable");
  }

  #set(state) {
    if (this.state === state) return;
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: state }));
  }

  #tick() {
    if (this.state === "live" && this.behind > lateAfter) this.#set("late");
    if (this.state === "late" && this.behind <= lateAfter) this.#set("live");
    this.dispatchEvent(new Event("tick"));
  }
}
