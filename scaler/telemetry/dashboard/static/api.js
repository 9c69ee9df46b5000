// Incremental requests to the daemon. A response of another generation does not continue the stored data, which is then
// requested again as a whole.

const TIMEOUT_MS = 8000;

export class NotFound extends Error {}

async function get(address) {
  const reply = await fetch(address, { signal: AbortSignal.timeout(TIMEOUT_MS), cache: "no-store" });
  if (reply.status === 404) throw new NotFound((await reply.json()).error);
  if (!reply.ok) throw new Error(`HTTP ${reply.status}`);
  return reply.json();
}

/** All workloads: `lines` by name, updated by each response. */
export class List {
  lines = new Map();
  head = null;

  async refresh() {
    const since = this.head ? `?since=${encodeURIComponent(this.head.revision)}` : "";
    let body = await get(`api/workloads${since}`);
    if (this.head && body.generation !== this.head.generation) body = await get("api/workloads");
    if (body.generation !== this.head?.generation) this.lines = new Map();
    for (const line of body.workloads) this.lines.set(line.workload, line);
    for (const name of body.starting) {
      this.lines.set(name, { workload: name, states: ["starting"], verdict: "no tick yet", spark: null });
    }
    for (const [name, reason] of Object.entries(body.unanswered ?? {})) {
      this.lines.set(name, { workload: name, states: ["unanswered"], verdict: reason, spark: null });
    }
    this.head = body;
    return body;
  }

  /** All lines. A stalled loop has no ticks, so that its state comes from the response. */
  all() {
    const stalled = this.head?.stalled ?? {};
    return [...this.lines.values()].map((line) =>
      Object.hasOwn(stalled, line.workload)
        ? { ...line, states: ["stalled", ...line.states.filter((s) => s !== "ok")], verdict: stalled[line.workload] }
        : line,
    );
  }
}

/** The fleet, and its table of shards. */
export async function getFleet() {
  const [fleet, table] = await Promise.all([get("api/fleet"), get("api/shards")]);
  return { ...fleet, shards: table };
}

/** The ticks of one workload: columns and decisions, extended by each refresh. */
export class WorkloadHistory {
  body = null;

  constructor(name) {
    this.name = name;
  }

  async refresh() {
    const address = `api/workloads/${encodeURIComponent(this.name)}`;
    const last = this.body?.columns.at.at(-1);
    let body = await get(last === undefined ? address : `${address}?since=${last}`);
    const grows = this.body && body.generation === this.body.generation;
    if (this.body && !grows) body = await get(address);
    this.body = grows ? extend(this.body, body) : body;
    return this.body;
  }
}

/** Maximum number of ticks stored by the page. */
const MAX_TICKS = 4000;

function extend(old, now) {
  const before = old.columns.at.length;
  const drop = Math.max(0, before + now.columns.at.length - MAX_TICKS);
  const join = (a, b) => a.concat(b).slice(drop);
  const columns = { signals: {} };
  for (const key of ["at", "demand", "target", "ready", "blind", "usd_per_hour"]) columns[key] = join(old.columns[key], now.columns[key]);
  for (const [signal, { unit, values }] of Object.entries(now.columns.signals)) {
    const past = old.columns.signals[signal]?.values ?? Array(before).fill(null);
    columns.signals[signal] = { unit, values: join(past, values) };
  }
  const fresh = new Set(now.decisions.map((d) => d.since));
  const decisions = [...now.decisions, ...old.decisions.filter((d) => !fresh.has(d.since))].slice(0, 50);
  return { ...now, columns, decisions };
}
