// Asking the daemon, incrementally. A reply of another generation does not continue what is held: all is asked anew.

const TIMEOUT_MS = 8000;

export class Gone extends Error {}

async function get(address) {
  const reply = await fetch(address, { signal: AbortSignal.timeout(TIMEOUT_MS), cache: "no-store" });
  if (reply.status === 404) throw new Gone((await reply.json()).error);
  if (!reply.ok) throw new Error(`HTTP ${reply.status}`);
  return reply.json();
}

/** All workloads: `lines` by name, kept up to date by what changed. */
export class List {
  lines = new Map();
  head = null;

  async refresh() {
    const since = this.head ? `?since=${this.head.revision}` : "";
    let body = await get(`api/workloads${since}`);
    if (this.head && body.generation !== this.head.generation) body = await get("api/workloads");
    if (body.generation !== this.head?.generation) this.lines = new Map();
    for (const line of body.workloads) this.lines.set(line.workload, line);
    for (const name of body.starting) {
      this.lines.set(name, { workload: name, states: ["starting"], verdict: "no turn yet", spark: null });
    }
    this.head = body;
    return body;
  }

  /** Every line, stalled ones marked: whether a loop stalls is not told by its ticks. */
  all() {
    const stalled = this.head?.stalled ?? {};
    return [...this.lines.values()].map((line) =>
      Object.hasOwn(stalled, line.workload)
        ? { ...line, states: ["stalled", ...line.states.filter((s) => s !== "ok")], verdict: stalled[line.workload] }
        : line,
    );
  }
}

/** The past of one workload: columns and decisions, grown by each refresh. */
export class Past {
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
    this.body = grows ? extended(this.body, body) : body;
    return this.body;
  }
}

const MOST_TURNS = 4000;
/** Turns held by the page, however long it stays open. */

function extended(old, now) {
  const before = old.columns.at.length;
  const drop = Math.max(0, before + now.columns.at.length - MOST_TURNS);
  const join = (a, b) => a.concat(b).slice(drop);
  const columns = { signals: {} };
  for (const key of ["at", "demand", "target", "ready", "blind"]) columns[key] = join(old.columns[key], now.columns[key]);
  for (const [signal, { unit, values }] of Object.entries(now.columns.signals)) {
    const past = old.columns.signals[signal]?.values ?? Array(before).fill(null);
    columns.signals[signal] = { unit, values: join(past, values) };
  }
  const fresh = new Set(now.decisions.map((d) => d.since));
  const decisions = [...now.decisions, ...old.decisions.filter((d) => !fresh.has(d.since))].slice(0, 50);
  return { ...now, columns, decisions };
}
