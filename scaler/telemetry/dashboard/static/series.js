// Arranges the columns of one workload into plots, with gaps and blind bands.
import { known, named, quantity } from "./format.js";

const SHADES = ["c1", "c2", "c3", "c4", "c5", "c6"];
/** Number of solid lines; further ones are dashed, for readers who cannot distinguish the colours. */
const SOLID = 3;
const FIXED = { utilization: "c1", kv_cache_usage: "c2", visible: "c1", in_flight: "c2", delayed: "c3" };
const GROUPS = [
  { unit: "messages", title: "Queue depth" },
  { unit: "share", title: "Shares (GPU, KV cache)" },
  { unit: "seconds", title: "Latency and age" },
  { unit: "count", title: "Counts (requests, engines)" },
  { unit: "per second", title: "Rates" },
];

const REPLICAS = {
  title: "Replicas",
  unit: "replicas",
  series: [
    { label: "ready", key: "ready", colour: "ready", shape: "area" },
    { label: "desired", key: "target", colour: "target", shape: "step" },
    { label: "demand", key: "demand", colour: "demand", shape: "line" },
  ],
};

const COST = { title: "Cost (USD per hour)", unit: "usd", series: [{ label: "cost", key: "usd_per_hour", colour: "c5", shape: "step" }] };

/** Return the plots: replicas first, then each unit that has signals, and the cost where it was ever known. */
export function layout({ signals, usd_per_hour: cost }) {
  const names = Object.keys(signals).sort((a, b) => rank(a) - rank(b));
  const groups = GROUPS.map(({ unit, title }) => ({ title, unit, series: lines(names.filter((n) => signals[n].unit === unit)) }));
  return [REPLICAS, ...groups.filter((g) => g.series.length), ...(cost.some(known) ? [COST] : [])];
}

/** Return the position of a signal in the legend: quantities with their own colour come first. */
function rank(name) {
  const at = Object.keys(FIXED).indexOf(quantity(name));
  return at < 0 ? 99 : at;
}

function lines(names) {
  const ambiguous = new Set(names.filter((n) => names.some((m) => m !== n && quantity(m) === quantity(n))));
  const fixedColour = (n) => !ambiguous.size && FIXED[quantity(n)];
  const freeColours = SHADES.filter((s) => !names.some((n) => fixedColour(n) === s));
  return names.map((name, i) => ({
    label: ambiguous.has(name) ? name : named(name),
    key: name,
    signal: true,
    colour: fixedColour(name) || freeColours[i % freeColours.length],
    shape: i < SOLID ? "line" : "dash",
  }));
}

/** Return the ticks with an empty one in each gap: a gap is longer than 2.5 intervals. */
export function withGaps(columns, interval_s) {
  const at = columns.at;
  const allowed_s = 2.5 * (interval_s ?? medianStep(at));
  const order = [];
  const times = [];
  at.forEach((t, i) => {
    if (i && t - at[i - 1] > allowed_s) {
      times.push(at[i - 1] + allowed_s / 2.5);
      order.push(-1);
    }
    times.push(t);
    order.push(i);
  });
  const values = (s) => (s.signal ? columns.signals[s.key]?.values ?? [] : columns[s.key]);
  return { times, pick: (s) => order.map((i) => (i < 0 ? null : values(s)[i] ?? null)) };
}

function medianStep(at) {
  const steps = at.slice(1).map((t, i) => t - at[i]).sort((a, b) => a - b);
  return steps[steps.length >> 1] ?? 15;
}

/** Return [from, until] of each run of ticks without full evidence. */
export function blindBands(columns, interval_s) {
  const { at, blind } = columns;
  const bands = [];
  const max_s = 2.5 * (interval_s ?? medianStep(at));
  at.forEach((t, i) => {
    if (!blind[i]) return;
    const until = Math.min(at[i + 1] ?? t, t + max_s);
    if (bands.length && bands.at(-1)[1] >= t) bands.at(-1)[1] = until;
    else bands.push([t, until]);
  });
  return bands;
}
