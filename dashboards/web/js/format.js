// Numbers and times as people read them: unit after a space, 24 h, thin space in 10 000.

export const none = "—";
const thin = "\u2009";

export function count(n) {
  return String(n).replace(/\B(?=(\d{3})+(?!\d))/g, thin);
}
// tenths writes a number with one decimal; what rounds to zero has no sign.
export const tenths = (v) => (Math.round(v * 10) / 10 + 0).toFixed(1);
export const celsius = (t) => (t === undefined || t === null ? none : tenths(t) + " °C");
export const mhz = (hz) => (hz === undefined || hz === null ? none : Math.round(hz / 1e6) + " MHz");

const pad = (n) => String(n).padStart(2, "0");
export function clock(ms) {
  const d = new Date(ms);
  return pad(d.getHours()) + ":" + pad(d.getMinutes()) + ":" + pad(d.getSeconds());
}
export function dayClock(ms, now) {
  const d = new Date(ms);
  if (d.toDateString() === new Date(now).toDateString()) return clock(ms);
  const year = d.getFullYear() === new Date(now).getFullYear() ? {} : { year: "numeric" };
  return d.toLocaleDateString("en-GB", { weekday: "short", day: "numeric", month: "short", ...year }) + " " + clock(ms).slice(0, 5);
}
export function zone(ms) {
  const part = new Intl.DateTimeFormat("en-GB", { timeZoneName: "short" }).formatToParts(new Date(ms));
  return part.find((p) => p.type === "timeZoneName").value;
}
// dayTime is a time with its day, today's as well.
export function dayTime(ms) {
  return new Date(ms).toLocaleDateString("en-GB", { weekday: "short", day: "numeric", month: "short" }).replace(",", "") + " " + clock(ms).slice(0, 5);
}

// localTimes writes the times in a sentence of the collector's in the zone of the page. The collector names them in UTC, and
// in places in its own zone behind. near is a time of about that day, which decides on summer time.
const utcTime = /\b(\d\d):(\d\d)(?::(\d\d))? UTC\b(?: \(\d\d:\d\d [^)\s]+\))?/g;
export function localTimes(text, near) {
  return text?.replace(utcTime, (_, h, m, s) => {
    const at = new Date(near).setUTCHours(Number(h), Number(m), Number(s ?? 0));
    return clock(at).slice(0, s ? 8 : 5) + " " + zone(at);
  });
}
export function duration(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return s + " s";
  if (s < 3600) return Math.floor(s / 60) + " m " + pad(s % 60) + " s";
  if (s < 86400) return Math.floor(s / 3600) + " h " + pad(Math.floor((s % 3600) / 60)) + " m";
  return Math.floor(s / 86400) + " d " + Math.floor((s % 86400) / 3600) + " h";
}
export function age(ms) {
  return ms < 9950 ? (Math.max(0, ms) / 1000).toFixed(1) + " s" : duration(ms);
}
export function countdown(ms) {
  const s = Math.max(0, Math.ceil(ms / 1000));
  return Math.floor(s / 60) + ":" + pad(s % 60);
}

export const reasonWords = {
  throttled: "throttled", under_voltage: "under-voltage",
  soft_temperature_limit: "soft limit", frequency_capped: "frequency capped",
};
export const reasonOrder = ["throttled", "under_voltage", "soft_temperature_limit", "frequency_capped"];

// Natural order: r2 before r10.
const collator = new Intl.Collator("en", { numeric: true });
export const natural = collator.compare;
