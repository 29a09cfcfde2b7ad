// Numbers and times as people read them: unit after a space, 24 h, thin space in 10 000.

/** @import { ThrottleReason } from "../../types/server" */

export const none = "—";
const thin = "\u2009";

/** @param {number} n */
export function count(n) {
  return String(n).replace(/\B(?=(\d{3})+(?!\d))/g, thin);
}

/**
 * counted writes a number with its noun in the singular or the plural.
 * @param {number} n
 * @param {string} noun
 */
export const counted = (n, noun) => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;

/**
 * tenths writes a number with one decimal; one that rounds to zero has no sign.
 * @param {number} v
 */
export const tenths = (v) => (Math.round(v * 10) / 10 + 0).toFixed(1);

/** @param {number | null | undefined} t °C */
export const celsius = (t) => (t === undefined || t === null ? none : tenths(t) + " °C");

/** @param {number} hz */
export const megahertz = (hz) => String(Math.round(hz / 1e6));

/** @param {number | null | undefined} hz */
export const mhz = (hz) => (hz === undefined || hz === null ? none : megahertz(hz) + " MHz");

/**
 * capital writes the first letter of a text large.
 * @param {string} text
 */
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** @param {number} n */
const pad = (n) => String(n).padStart(2, "0");

/** @param {number} ms Unix time */
export function clock(ms) {
  const d = new Date(ms);
  return pad(d.getHours()) + ":" + pad(d.getMinutes()) + ":" + pad(d.getSeconds());
}

/**
 * dayClock is a time with its day where that is not the day of now, and its year where that is another.
 * @param {number} ms
 * @param {number} now
 */
export function dayClock(ms, now) {
  const d = new Date(ms);
  const today = new Date(now);
  if (d.toDateString() === today.toDateString()) return clock(ms);
  /** @type {Intl.DateTimeFormatOptions} */
  const year = d.getFullYear() === today.getFullYear() ? {} : { year: "numeric" };
  return d.toLocaleDateString("en-GB", { weekday: "short", day: "numeric", month: "short", ...year }) + " " + clock(ms).slice(0, 5);
}

/**
 * zone names the zone of the page at a time, such as CET or GMT-3.
 * @param {number} ms
 */
export function zone(ms) {
  const parts = new Intl.DateTimeFormat("en-GB", { timeZoneName: "short" }).formatToParts(new Date(ms));
  return parts.find((p) => p.type === "timeZoneName")?.value ?? "";
}

/**
 * dayTime is a time with its day, today's as well.
 * @param {number} ms
 */
export function dayTime(ms) {
  return new Date(ms).toLocaleDateString("en-GB", { weekday: "short", day: "numeric", month: "short" }).replace(",", "") + " " + clock(ms).slice(0, 5);
}

const utcTime = /\b(\d\d):(\d\d)(?::(\d\d))? UTC\b(?: \(\d\d:\d\d [^)\s]+\))?/g;

/**
 * localTimes writes the times in a sentence of the collector's in the zone of the page. The collector
 * names them in UTC, and in places in its own zone behind. near is a time of about that day, which
 * decides on summer time.
 * @param {string} text
 * @param {number} near
 */
export function localTimes(text, near) {
  return text.replace(utcTime, (_, h, m, s) => {
    const at = new Date(near).setUTCHours(Number(h), Number(m), Number(s ?? 0));
    return clock(at).slice(0, s ? 8 : 5) + " " + zone(at);
  });
}

/** @param {number} ms */
export function duration(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return s + " s";
  if (s < 3600) return Math.floor(s / 60) + " m " + pad(s % 60) + " s";
  if (s < 86400) return Math.floor(s / 3600) + " h " + pad(Math.floor((s % 3600) / 60)) + " m";
  return Math.floor(s / 86400) + " d " + Math.floor((s % 86400) / 3600) + " h";
}

/**
 * age is a duration that has tenths while it is short.
 * @param {number} ms
 */
export function age(ms) {
  return ms < 9950 ? (Math.max(0, ms) / 1000).toFixed(1) + " s" : duration(ms);
}

/**
 * latency is a duration in ms while it is below a second, else in seconds.
 * @param {number} ms
 */
export const latency = (ms) => (ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`);

/**
 * countdown is minutes and seconds until something, such as 1:05; a begun second counts.
 * @param {number} ms
 */
export function countdown(ms) {
  const s = Math.max(0, Math.ceil(ms / 1000));
  return Math.floor(s / 60) + ":" + pad(s % 60);
}

/** @type {Record<ThrottleReason, string>} */
export const reasonWords = {
  throttled: "throttled", under_voltage: "under-voltage",
  soft_temperature_limit: "soft limit", frequency_capped: "frequency capped",
};

/** @type {ThrottleReason[]} */
export const reasonOrder = ["throttled", "under_voltage", "soft_temperature_limit", "frequency_capped"];

/**
 * place is where a board hangs: rack, switch and port, as far as its labels say so.
 * @param {import("../../types/server").Labels | undefined} labels
 * @param {string} [rack] the word for it
 */
export function place(labels, rack = "rack") {
  if (!labels) return [];
  return [labels.rack && `${rack} ${labels.rack}`, labels.switch && shortSwitch(labels.switch), labels.port && "port " + labels.port].filter(Boolean);
}

/**
 * shortSwitch names a switch, and says that it is one where its name does not.
 * @param {string} name
 */
export const shortSwitch = (name) => (/switch|sw/i.test(name) ? name : "switch " + name);

/**
 * stoppedText says that a sensor ended properly, and when it last reported.
 * @param {number} last 0 for never
 * @param {number} now
 */
export const stoppedText = (last, now) => "Stopped" + (last ? `, last report ${dayClock(last, now)}` : "");

const collator = new Intl.Collator("en", { numeric: true });

/** natural is the order in which r2 stands before r10. */
export const natural = collator.compare;
