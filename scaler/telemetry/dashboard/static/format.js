// Formats numbers and times. Times are the daemon's, in UTC, and `forescale explain --at` accepts them.

export const MISSING = "–";
export const known = (v) => v !== null && v !== undefined;

/** Format a time: 2026-06-01T08:45:00Z. */
export const utc = (at) => (known(at) ? iso(at).replace(/\.\d+/, "") : MISSING);

/** Format the time of a tick so that `explain --at` finds this tick and not the one before: rounded up to a millisecond. */
export const exact = (at) => (known(at) ? iso(at, Math.ceil).replace(".000", "") : MISSING);

/** Format a time of day: 08:45:00. */
export const clock = (at) => (known(at) ? iso(at).slice(11, 19) : MISSING);

/** Format a time of the last day as 08:45, and an earlier one with its date: 2026-05-31T08:45Z. */
export function minute(at, now) {
  if (!known(at)) return MISSING;
  return now - at < 86400 ? iso(at).slice(11, 16) : `${iso(at).slice(0, 16)}Z`;
}

const iso = (at, round = Math.floor) => new Date(round(Math.round(1e6 * at) / 1e3)).toISOString();

/** Format a count or an amount: 0.25, 12.5, 125, 12.5k, 1.3M. */
export function amount(v) {
  if (!known(v)) return MISSING;
  if (Math.abs(v) >= 1e6) return `${Number((v / 1e6).toFixed(1))}M`;
  if (Math.abs(v) >= 1e4) return `${Number((v / 1e3).toFixed(1))}k`;
  if (Number.isInteger(v)) return String(v);
  return v.toFixed(Math.abs(v) >= 100 ? 0 : Math.abs(v) >= 10 ? 1 : 2);
}

export function duration(s) {
  if (!known(s)) return MISSING;
  if (s > 0 && s < 0.9995) return `${Number((1000 * s).toPrecision(s < 0.01 ? 2 : 3))} ms`;
  if (s < 10) return `${Number(s.toFixed(1))} s`;
  if (s < 180) return `${Math.round(s)} s`;
  if (s < 7200 && s !== 3600) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Number((s / 3600).toFixed(1))} h`;
  return `${Number((s / 86400).toFixed(1))} d`;
}

export const share = (v) => (known(v) ? `${(100 * v).toFixed(v > 0 && v < 0.1 ? 1 : 0)}%` : MISSING);

/** Format an SLO attainment, rounded down: 99.996 % is not 100 %. */
export const attainment = (v) => (known(v) ? `${Number((Math.floor(1e4 * v + 1e-6) / 100).toFixed(2))}%` : MISSING);

/** Format a price or a cost in USD: $0.35, $75.68, $1,240. */
export function usd(v) {
  if (!known(v)) return MISSING;
  const digits = Math.abs(v) >= 1000 ? 0 : 2;
  return `$${v.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })}`;
}

/** Return the cost of the decided size, or the reason why it is unknown. */
export function costText({ usd_per_hour: cost, unpriced }) {
  if (known(cost)) return [usd(cost), "at the decided size"];
  if (unpriced.length) return ["no price", `set price_usd_per_hour: ${unpriced.join(", ")}`];
  return ["unknown", "the size of a pool is unknown"];
}

/** Format a burn rate of the error budget: 1 uses up the budget exactly in its period. */
export const burn = (v) => (known(v) ? `${v >= 100 ? Math.round(v) : v.toFixed(v >= 10 ? 1 : 2)}×` : MISSING);

export const MARKETS = { on_demand: "on-demand", spot: "spot", reserved: "reserved" };

/** Format the replicas by market, one line each: spot 4, on-demand 2. */
export function markets(held) {
  if (!known(held)) return "unknown";
  const shown = Object.entries(held).sort((a, b) => b[1] - a[1]);
  const used = shown.filter(([, n]) => n);
  if (shown.length === 1) return MARKETS[shown[0][0]];
  return (used.length ? used : shown).map(([market, n]) => `${MARKETS[market]} ${n}`).join("\n") || MISSING;
}

const BY_UNIT = { share, seconds: duration, messages: amount, count: amount, usd, "per second": (v) => (known(v) ? `${amount(v)}/s` : MISSING) };

/** Format a value in its unit. */
export const inUnit = (unit, v) => (BY_UNIT[unit] ?? amount)(v);

/** Labels of quantities; the others are shown with spaces for underscores. */
const NAMES = {
  utilization: "GPU utilization",
  kv_cache_usage: "KV-cache usage",
  oldest_age_s: "oldest message",
  in_flight: "in flight",
  tensor_active: "tensor cores active",
  memory_active: "GPU memory active",
  prefix_hit_share: "prefix-cache hits",
  requests_per_s: "requests",
  prompt_tokens_per_s: "prompt tokens",
  generation_tokens_per_s: "generated tokens",
  ttft_mean_s: "TTFT mean",
  ttft_p95_s: "TTFT P95",
  ttft_late_share: "TTFT late",
  itl_mean_s: "ITL mean",
  itl_p95_s: "ITL P95",
  itl_late_share: "ITL late",
  e2e_mean_s: "end-to-end mean",
  e2e_p95_s: "end-to-end P95",
  e2e_late_share: "end-to-end late",
};
export const quantity = (signal) => signal.slice(signal.lastIndexOf(".") + 1);
export const named = (signal) => NAMES[quantity(signal)] ?? quantity(signal).replaceAll("_", " ");
