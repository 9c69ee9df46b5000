// The columns of one workload, arranged into plots; stretches without a turn and blind stretches.
import { named, quantity } from "./format.js";

const SHADES = ["c1", "c2", "c3", "c4", "c5", "c6"];
const SOLID = 3;
/** Lines told apart by colour alone; further ones are dashed as well, for eyes to which hues run together. */
const FIXED = { utilization: "c1", kv_cache_usage: "c2", visible: "c1", in_flight: "c2", delayed: "c3" };
const GROUPS = [
  { unit: "messages", title: "Queue depth" },
  { unit: "share", title: "Shares: GPU and KV cache" },
  { unit: "seconds", title: "Waiting" },
  { unit: "count", title: "Engines and other counts" },
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

/** What to plot: replicas first, then each unit that has signals. */
export function layout(signals) {
  const names = Object.keys(signals).sort((a, b) => rank(a) - rank(b));
  const groups = GROUPS.map(({ unit, title }) => ({ title, unit, series: lines(names.filter((n) => signals[n].unit === unit)) }));
  return [REPLICAS, ...groups.filter((g) => g.series.length)];
}

/** The best known first, so that a legend reads the same everywhere. */
function rank(name) {
  const at = Object.keys(FIXED).indexOf(quantity(name));
  return at < 0 ? 99 : at;
}

function lines(names) {
  const twice = new Set(names.filter((n) => names.some((m) => m !== n && quantity(m) === quantity(n))));
  const fixed = (n) => !twice.size && FIXED[quantity(n)];
  const free = SHADES.filter((s) => !names.some((n) => fixed(n) === s));
  return names.map((name, i) => ({
    label: twice.has(name) ? name : named(name),
    key: name,
    signal: true,
    colour: fixed(name) || free[i % free.length],
    shape: i < SOLID ? "line" : "dash",
  }));
}

/** The turns, with an empty one wherever some must be missing: after `interval_s` of silence nothing is known. */
export function gapped(columns, interval_s) {
  const at = columns.at;
  const allowed_s = 2.5 * (interval_s ?? usual(at));
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

function usual(at) {
  const steps = at.slice(1).map((t, i) => t - at[i]).sort((a, b) => a - b);
  return steps[steps.length >> 1] ?? 15;
}

/** [from, until] of each run of turns without full evidence. */
export function blindBands(columns, interval_s) {
  const { at, blind } = columns;
  const bands = [];
  const longest_s = 2.5 * (interval_s ?? usual(at));
  at.forEach((t, i) => {
    if (!blind[i]) return;
    const until = Math.min(at[i + 1] ?? t, t + longest_s);
    if (bands.length && bands.at(-1)[1] >= t) bands.at(-1)[1] = until;
    else bands.push([t, until]);
  });
  return bands;
}
