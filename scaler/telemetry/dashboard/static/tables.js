// Signals, pools and routes of the last tick.
import { el, head, name, scrolling } from "./dom.js";
import { amount, duration, inUnit, known, MARKETS, minute, MISSING, share, usd } from "./format.js";

const freshness = (state) => el("span", { class: `fresh f-${state}` }, state);
const number = (...text) => el("td", { class: "n" }, ...text);

export function signalTable(section, now) {
  const rows = now.signals.flatMap((s) => [
    el("tr", {}, el("th", { scope: "row" }, name(s.signal)), number(inUnit(s.unit, s.value)), number(duration(s.age_s)), el("td", {}, freshness(s.state))),
    s.reason ? el("tr", { class: "note" }, el("td", { colspan: 4 }, s.reason)) : null,
  ]);
  const table = el("table", {}, head(["Signal"], ["Value", "n"], ["Age", "n"], ["State"]), el("tbody", {}, ...rows.filter(Boolean)));
  const failed = Object.entries(now.errors).map(([source, why]) => el("p", { class: "error" }, `Reading ${source} failed: ${why}`));
  replace(section, now, el("h2", {}, "Signals"), table, ...failed);
}

export function poolTable(section, now, since) {
  const rows = now.pools.flatMap((p) => [
    el("tr", {}, el("th", { scope: "row" }, name(p.pool), el("small", { class: "muted" }, settings(p))),
      ...["desired", "ready", "pending"].map((k) => number(amount(p[k]))),
      number(p.target === null ? MISSING : amount(p.target)), number(...costOf(p)), number(amount(p.interrupted)), el("td", {}, p.result || freshness(p.state))),
    ...(p.places.length > 1 ? p.places.map(part) : []),
    ...notes(p).map((text) => el("tr", { class: "note" }, el("td", { colspan: 8 }, text))),
  ]);
  const table = el("table", { class: "pools" }, head(["Pool"], ["Desired", "n"], ["Ready", "n"], ["Pending", "n"], ["Target", "n"], ["USD/h", "n"],
    ["Interrupted", "n", "Replicas interrupted in the last 24 hours"], ["Result"]), el("tbody", {}, ...rows));
  const record = known(since) && now.at - since < 86400 ? ` Interruptions are recorded since ${minute(since, now.at)}.` : " Interruptions are those of 24 h.";
  replace(section, now, el("h2", {}, "Pools"), scrolling("Pools", table), el("p", { class: "muted fine" }, record.trim()));
}

/** Show each route with its backends; a workload without routes has no such section. */
export function routeTable(section, now) {
  section.hidden = !now.routes.length;
  if (section.hidden) return;
  const rows = now.routes.flatMap((r) => [
    el("tr", {}, el("th", { scope: "row" }, name(r.route)), number(), number(), number(), number(known(r.usd_per_hour) ? usd(r.usd_per_hour) : MISSING), el("td", {}, r.result)),
    ...r.backends.map((b) => el("tr", { class: "part" }, el("th", { scope: "row" }, b.backend), number(share(b.share)), number(amount(b.requests_per_s)), number(share(b.error_share)), number(), el("td", {}))),
    ...[r.reason, r.error && `read failed: ${r.error}`, r.refusal].filter(Boolean).map((text) => el("tr", { class: "note" }, el("td", { colspan: 6 }, text))),
  ]);
  const table = el("table", { class: "pools" }, head(["Route"], ["Share", "n"], ["Requests/s", "n"], ["Errors", "n"], ["Providers USD/h", "n"], ["Result"]), el("tbody", {}, ...rows));
  replace(section, now, el("h2", {}, "Routes"), scrolling("Routes", table));
}

/** Replace a section once per tick: a new table at each poll would lose the reader's place. */
function replace(section, now, ...children) {
  if (section.at === now.at) return;
  section.at = now.at;
  section.replaceChildren(...children);
}

/** Return the cost of a pool, or why it is unknown. */
function costOf(pool) {
  if (!known(pool.price_usd_per_hour)) return ["no price"];
  return [pool.places.length ? usd(pool.places.reduce((sum, p) => sum + p.usd_per_hour, 0)) : MISSING];
}

function settings(pool) {
  const facts = [pool.zone, MARKETS[pool.market], pool.accelerator];
  if (pool.tier && pool.tier !== "serving") facts.push(pool.tier.replace("_", " "));
  if (pool.gpus_per_replica > 1) facts.push(`${pool.gpus_per_replica} GPUs each`);
  if (known(pool.price_usd_per_hour)) facts.push(`${usd(pool.price_usd_per_hour)} each`);
  return facts.filter(Boolean).join(" · ");
}

function part(place) {
  const pending = place.interruption_pending ? `${place.interruption_pending} interruption pending` : "";
  return el("tr", { class: "part" }, el("th", { scope: "row" }, `${place.zone ?? "no zone"} · ${MARKETS[place.market] ?? place.market}`), number(amount(place.replicas)),
    number(amount(place.ready)), number(amount(place.pending)), number(), number(known(place.usd_per_hour) ? usd(place.usd_per_hour) : "no price"), number(), el("td", { class: "warned" }, pending));
}

function notes(pool) {
  const lines = [...(pool.remarks ?? [])];
  if (pool.interruption_pending) lines.unshift(`interruption pending for ${pool.interruption_pending} ready replicas`);
  if (pool.failed) lines.unshift(`${pool.failed} requested replicas will not arrive`);
  if (pool.state === "stale") lines.push(`size last confirmed ${duration(pool.age_s)} ago`);
  if (pool.why) lines.push(`size unknown: ${pool.why}`);
  else if (pool.error) lines.push(`read failed: ${pool.error}`);
  if (pool.reason) lines.push(pool.reason);
  return lines;
}
