// Formats numbers and times. Times are the daemon's, in the browser's time zone.

export const MISSING = "–";

const known = (v) => v !== null && v !== undefined;
const hms = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const dayOf = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
const zoneName = new Intl.DateTimeFormat(undefined, { timeZoneName: "short" });

export const clock = (at) => (known(at) ? hms.format(new Date(at * 1000)) : MISSING);
export const day = (at) => dayOf.format(new Date(at * 1000));
export const zone = () => zoneName.formatToParts(new Date()).find((p) => p.type === "timeZoneName")?.value ?? "";

/** Format a count or an amount: 0.25, 12.5, 125, 12.5k, 1.3M. */
export function amount(v) {
  if (!known(v)) return MISSING;
  if (Math.abs(v) >= 1e6) return `${(v / 1e6).toFixed(1)}M`;
  if (Math.abs(v) >= 1e4) return `${(v / 1e3).toFixed(1)}k`;
  if (Number.isInteger(v)) return String(v);
  return v.toFixed(Math.abs(v) >= 100 ? 0 : Math.abs(v) >= 10 ? 1 : 2);
}

export function duration(s) {
  if (!known(s)) return MISSING;
  if (s < 10) return `${Number(s.toFixed(1))} s`;
  if (s < 180) return `${Math.round(s)} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  return `${(s / 3600).toFixed(1)} h`;
}

export const share = (v) => (known(v) ? `${(100 * v).toFixed(v > 0 && v < 0.1 ? 1 : 0)}%` : MISSING);

const BY_UNIT = { share, seconds: duration, messages: amount, count: amount, "per second": (v) => (known(v) ? `${amount(v)}/s` : MISSING) };

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
};
export const quantity = (signal) => signal.slice(signal.lastIndexOf(".") + 1);
export const named = (signal) => NAMES[quantity(signal)] ?? quantity(signal).replaceAll("_", " ");
