// Signals and pools of the last tick.
import { el } from "./dom.js";
import { amount, duration, inUnit, MISSING } from "./format.js";

const head = (...names) => el("thead", {}, el("tr", {}, ...names.map(([name, n]) => el("th", { scope: "col", class: n ? "n" : null }, name))));
const freshness = (state) => el("span", { class: `fresh f-${state}` }, state);

export function signalTable(section, now) {
  const rows = now.signals.flatMap((s) => [
    el("tr", {}, el("th", { scope: "row" }, s.signal), el("td", { class: "n" }, inUnit(s.unit, s.value)), el("td", { class: "n" }, duration(s.age_s)), el("td", {}, freshness(s.state))),
    s.reason ? el("tr", { class: "note" }, el("td", { colspan: 4 }, s.reason)) : null,
  ]);
  const table = el("table", {}, head(["Signal"], ["Value", true], ["Age", true], ["State"]), el("tbody", {}, ...rows.filter(Boolean)));
  const failed = Object.entries(now.errors).map(([name, why]) => el("p", { class: "error" }, `Reading ${name} failed: ${why}`));
  section.replaceChildren(el("h2", {}, "Signals"), el("div", { class: "scroll" }, table), ...failed);
}

export function poolTable(section, now) {
  const rows = now.pools.flatMap((p) => [
    el("tr", {}, el("th", { scope: "row" }, p.pool), ...["desired", "ready", "pending"].map((k) => el("td", { class: "n" }, amount(p[k]))),
      el("td", { class: "n" }, p.target === null ? MISSING : amount(p.target)), el("td", {}, p.result || freshness(p.state))),
    ...notes(p).map((text) => el("tr", { class: "note" }, el("td", { colspan: 6 }, text))),
  ]);
  const table = el("table", {}, head(["Pool"], ["Desired", true], ["Ready", true], ["Pending", true], ["Target", true], ["Result"]), el("tbody", {}, ...rows));
  section.replaceChildren(el("h2", {}, "Pools"), el("div", { class: "scroll" }, table));
}

function notes(pool) {
  const found = [...(pool.remarks ?? [])];
  if (pool.interruption_pending) found.unshift(`${pool.interruption_pending} ready replicas have an interruption pending`);
  if (pool.failed) found.unshift(`${pool.failed} requested replicas will not arrive`);
  if (pool.state === "stale") found.push(`size last confirmed ${duration(pool.age_s)} ago`);
  if (pool.why) found.push(`size unknown: ${pool.why}`);
  else if (pool.error) found.push(`read failed: ${pool.error}`);
  if (pool.reason) found.push(pool.reason);
  return found;
}
