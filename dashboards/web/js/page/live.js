// One websocket a page: reconnects by itself, and says how late it is.

/** @import { Frame, Frames, Request } from "../../types/server" */

import { Signals } from "./signals.js";

/**
 * State of the connection: late means that it is open, and nothing has come for a while.
 * @typedef {"connecting" | "live" | "late" | "unreachable"} State
 */

/**
 * LiveEvents are the messages of the collector by their type, and two of our own: the state after a
 * change, and a tick twice a second.
 * @typedef {Frames & { state: State, tick: null }} LiveEvents
 */

const retryAfter = [1000, 2000, 4000, 8000, 15000];
const lateAfter = 5000;
const quietTicks = 30; // 15 s; the collector tells its time every 2 s

const reloadKey = "bramble.reloaded";
const reloadEvery = 60000; // a proxy that serves old pages must not make the page reload for ever

/**
 * outdated reloads a page whose files are not those of the collector that answers now.
 * @param {string} web the path under which that one serves its files
 */
function outdated(web) {
  if (new URL(import.meta.url).pathname.startsWith(web)) return false;
  if (Date.now() - Number(sessionStorage.getItem(reloadKey)) < reloadEvery) return false;
  sessionStorage.setItem(reloadKey, String(Date.now()));
  location.reload();
  return true;
}

/**
 * retryWait is how long to wait before a try to connect, in ms: longer after each one that failed, and
 * not the same for all browsers. random is from 0 to 1.
 * @param {number} tries
 * @param {number} random
 */
export const retryWait = (tries, random) => retryAfter[Math.min(tries, retryAfter.length - 1)] * (0.8 + 0.4 * random);

/** @extends {Signals<LiveEvents>} */
export class Live extends Signals {
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {Map<string, Request>} subscriptions, sent again after a reconnect */
  #wanted = new Map();
  #tries = 0;
  #retryAt = 0;
  #timer = 0;
  #lastMessage = 0;
  #quiet = 0; // ticks since something came: while the machine sleeps there are none
  #offset = 0;

  constructor(path = "/live") {
    super();
    this.path = path;
    /** @type {State} */
    this.state = "connecting";
    this.lastHeard = 0;
    setInterval(() => this.#tick(), 500);
    this.#open();
  }

  /**
   * now is the collector's time: ages must not depend on the viewer's clock, and do not grow while the
   * collector is away.
   */
  now() {
    return (this.state === "unreachable" && this.lastHeard ? this.lastHeard : Date.now()) + this.#offset;
  }
  get behind() {
    return Date.now() - this.#lastMessage;
  }
  get retryIn() {
    return Math.max(0, this.#retryAt - Date.now());
  }

  /**
   * subscribe sends a message now and after each reconnect.
   * @param {string} key
   * @param {Request} message
   */
  subscribe(key, message) {
    this.#wanted.set(key, message);
    this.send(message);
  }

  /**
   * send returns whether the message could be sent.
   * @param {Request} message
   */
  send(message) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }
  retryNow() {
    clearTimeout(this.#timer);
    this.#open();
  }

  #open() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}${this.path}`);
    this.#socket = socket;
    this.#retryAt = this.#quiet = 0;
    socket.onmessage = (e) => {
      if (socket === this.#socket) this.#message(JSON.parse(e.data));
    };
    socket.onclose = (e) => {
      if (socket === this.#socket) this.#lost(e.reason);
    };
  }

  /** @param {Frame} m */
  #message(m) {
    this.#lastMessage = this.lastHeard = Date.now();
    this.#quiet = 0;
    if ("now" in m) this.#offset = m.now - Date.now();
    if (m.type === "hello") {
      if (outdated(m.web)) return;
      this.#tries = 0;
      for (const wanted of this.#wanted.values()) this.send(wanted);
      this.#set("live");
    }
    this.emit(m.type, m);
  }

  /** @param {string} reason */
  #lost(reason) {
    this.#socket = null;
    if (reason === "logged out") {
      location.reload();
      return;
    }
    const wait = retryWait(this.#tries++, Math.random());
    this.#retryAt = Date.now() + wait;
    this.#timer = setTimeout(() => this.#open(), wait);
    this.#set("unreachable");
  }

  /** @param {State} state */
  #set(state) {
    if (this.state === state) return;
    this.state = state;
    this.emit("state", state);
  }

  #tick() {
    // A cable that is pulled, or a collector that hangs, closes nothing.
    if (this.#socket && ++this.#quiet > quietTicks) {
      this.#socket.close();
      this.#lost("");
    }
    if (this.state === "live" && this.behind > lateAfter) this.#set("late");
    if (this.state === "late" && this.behind <= lateAfter) this.#set("live");
    this.emit("tick", null);
  }
}
