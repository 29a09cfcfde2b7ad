// JSON over our own origin. A lost session leads to the login.

export async function get(path) {
  return answer(await fetch(path, { headers: { Accept: "application/json" } }));
}
export async function post(path, body) {
  const init = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return answer(await fetch(path, init));
}
export async function remove(path) {
  return answer(await fetch(path, { method: "DELETE" }));
}
async function answer(response) {
  if (response.status === 401) {
    location.href = "/login?next=" + encodeURIComponent(location.pathname + location.search);
  }
  const text = await response.text();
  let data = null;
  try {
    data = JSON.parse(text);
  } catch {
    throw new Error(`the collector answered ${response.status} without JSON`);
  }
  if (!response.ok) throw new Error(data.error || `the collector answered ${response.status}`);
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
