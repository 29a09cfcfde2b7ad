// JSON over our own origin. A lost session leads to the login.

const patience = 30000; // ms: longer than any query that the store answers

// Unanswered is thrown where the collector could not be asked, or gave no answer.
export class Unanswered extends Error {}

// Refused is thrown where the collector answered that it does not do it; status is HTTP's.
export class Refused extends Error {
  constructor(message, status, answer) {
    super(message);
    Object.assign(this, { status, answer });
  }
}

export const get = (path) => ask(path, { headers: { Accept: "application/json" } });
export const post = (path, body) => ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
export const remove = (path) => ask(path, { method: "DELETE" });

async function ask(path, init) {
  let response, text;
  try {
    response = await fetch(path, { ...init, signal: AbortSignal.timeout(patience) });
    text = await response.text();
  } catch (e) {
    throw new Unanswered(e.name === "TimeoutError" ? `the collector gave no answer within ${patience / 1000} s` : "the collector does not answer");
  }
  if (response.status === 401) {
    location.href = "/login?next=" + encodeURIComponent(location.pathname + location.search);
  }
  let data = null;
  try {
    data = text ? JSON.parse(text) : {};
  } catch {
    throw new Refused(`the collector answered ${response.status} without JSON`, response.status);
  }
  if (!response.ok) throw new Refused(data.error || `the collector answered ${response.status}`, response.status, data);
  return data;
}

// queryRange returns [{labels, at: [s], values}] in the store's own readings' times.
export async function queryRange(expr, start, end, step) {
  const q = new URLSearchParams({ query: expr, start: String(start), end: String(end), step: step + "s", nocache: "1" });
  const r = await get("/api/v1/query_range?" + q);
  return r.data.result.map((s) => ({
    labels: s.metric,
    at: s.values.map((v) => v[0]),
    values: s.values.map((v) => Number(v[1])),
  }));
}
export async function query(expr) {
  const r = await get("/api/v1/query?" + new URLSearchParams({ query: expr, nocache: "1" }));
  return r.data.result.map((s) => ({ labels: s.metric, value: Number(s.value[1]) }));
}
