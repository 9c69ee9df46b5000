// All pools of all workloads: limits, spend, and the replicas by zone and market.
import { el, head, name, scrolling, setText } from "./dom.js";
import { getFleet } from "./api.js";
import { fillShards } from "./shards.js";
import { amount, duration, known, MARKETS, minute, MISSING, usd } from "./format.js";

const PAGE_ROWS = 100;
const UNKNOWN = ["no price", "no limit", "not given", "unknown"];
const cell = (text, kind = "") => el("td", { class: `${kind} ${UNKNOWN.includes(text) ? "unknown" : ""}`.trim() || null }, text);
const number = (text) => cell(text, "n");
const market = (key) => MARKETS[key] ?? key ?? MISSING;

export class Fleet {
  pause_ms = 2000;
  name = "Fleet";
  #limit = PAGE_ROWS;

  constructor() {
    this.figures = el("dl", { class: "figures" });
    this.places = el("section", { class: "card table" });
    this.workloads = el("section", { class: "card table" });
    this.pools = el("section", { class: "card table" });
    this.shards = el("section", { class: "card table", hidden: true });
    this.more = el("button", { type: "button", class: "ghost more", hidden: true, onclick: () => this.#showMore() });
    this.note = el("p", { class: "empty", role: "status" }, "Loading…");
    this.content = el("div", { class: "fleet", hidden: true }, this.figures, this.places, this.workloads, this.pools, this.more);
    this.root = el("section", {}, el("div", { class: "title" }, el("h1", {}, "Fleet")), this.note, this.content, this.shards);
  }

  refresh() {
    return getFleet();
  }

  dispose() {}

  showNotFound() {}

  render(body) {
    this.body = body;
    fillShards(this.shards, body.shards);
    const empty = !body.workloads.length && !Object.keys(body.unanswered ?? {}).length;
    this.note.hidden = !empty;
    this.content.hidden = empty;
    if (empty) {
      setText(this.note, "No tick yet. Limits and pools appear here after the first tick.");
      return;
    }
    const shown = `${body.generation} ${body.at} ${body.workloads.length} ${this.#limit}`;
    if (this.at === shown) return;
    this.at = shown;
    fillFigures(this.figures, body);
    fillPlaces(this.places, body);
    fillWorkloads(this.workloads, body.workloads.slice(0, this.#limit));
    const pools = body.workloads.flatMap((w) => w.pools.map((p) => ({ ...p, workload: w.workload })));
    fillPools(this.pools, pools.slice(0, this.#limit), body);
    this.more.hidden = pools.length <= this.#limit;
    setText(this.more, `Show more (${this.#limit} of ${pools.length} pools)`);
  }

  #showMore() {
    this.#limit += PAGE_ROWS;
    this.render(this.body);
  }
}

function fillFigures(list, body) {
  const { limits, held } = body;
  const unpriced = body.without_cost ? `${plural(body.without_cost, "workload")} without a known cost` : "every pool has a price";
  const unanswered = Object.values(body.unanswered ?? {});
  const unread = body.workloads.filter((w) => w.unknown.length).length + body.starting.length + unanswered.length;
  const gpus = body.workloads.reduce((sum, w) => sum + (w.gpus ?? 0), 0);
  const radius = limits.blast_radius;
  const since = known(body.interruptions_since) && body.at - body.interruptions_since < 86400
    ? `recorded since ${minute(body.interruptions_since, body.at)}` : "last 24 h";
  list.replaceChildren(
    figure("Spend per hour", body.without_cost === body.workloads.length ? unknownCost(body.workloads) : `${body.without_cost || unanswered.length ? "≥ " : ""}${usd(body.usd_per_hour)}`, unpriced),
    limited("Spend under the limit", held.usd_per_hour, limits.usd_per_hour, usd, "daemon.fleet.max_usd_per_hour"),
    known(limits.gpus) ? limited("GPUs held", held.gpus, limits.gpus, amount, "")
      : figure("GPUs held", `${unread ? "≥ " : ""}${amount(gpus)}`, "no limit: daemon.fleet.max_gpus"),
    figure("Interrupted replicas", `${unanswered.length ? "≥ " : ""}${amount(body.interrupted)}`, since),
    figure("Blast radius", radius ? `${Math.round(100 * radius.share)}%` : "no limit", radius ? `of the fleet in ${duration(radius.window_s)}` : "daemon.fleet.blast_radius"),
    unread ? figure("Size unknown", plural(unread, "workload"), ["not included in the sums", ...new Set(unanswered)].join("; ")) : "",
  );
}

const unknownCost = (workloads) => (workloads.length && workloads.every((w) => w.unpriced.length) ? "no price" : "unknown");
const plural = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;

function figure(title, value, note, ...more) {
  return el("div", { class: "card" }, el("dt", {}, title), el("dd", { class: /\d/.test(value) ? null : "unknown" }, value), ...more, el("dd", { class: "note muted" }, note));
}

function limited(title, held, limit, format, none) {
  if (!known(limit)) return figure(title, "no limit", none);
  const used = limit > 0 ? held / limit : 1;
  const bar = el("dd", { class: `meter${used > 1 ? " full" : ""}`, "aria-hidden": "true" }, el("i"));
  bar.firstChild.style.width = `${Math.min(100, 100 * used)}%`;
  return figure(title, format(held), `${Math.round(100 * used)}% of ${format(limit)}`, bar);
}

function fillPlaces(section, { places }) {
  const rows = places.map((p) => el("tr", {}, el("th", { scope: "row", class: p.zone ? null : "unknown" }, p.zone ?? "not given"), el("td", {}, market(p.market)), cell(p.accelerator ?? "not given"),
    number(amount(p.gpus)), number(amount(p.ready)), number(amount(p.pending)), number(amount(p.interruption_pending)), number(known(p.usd_per_hour) ? usd(p.usd_per_hour) : "no price")));
  const table = el("table", {}, head(["Zone"], ["Market"], ["Accelerator"], ["GPUs", "n"], ["Ready", "n"], ["Pending", "n"], ["Interruption pending", "n"], ["USD/h", "n"]), el("tbody", {}, ...rows));
  section.replaceChildren(el("h2", {}, "Capacity by zone and market"), scrolling("Capacity by zone and market", table));
}

function fillWorkloads(section, workloads) {
  const rows = workloads.map((w) => el("tr", {}, el("th", { scope: "row" }, link(w.workload)), number(amount(w.priority)),
    number(known(w.gpus) ? amount(w.gpus) : "unknown"), number(known(w.budget.gpus) ? amount(w.budget.gpus) : "no limit"), number(w.grant && known(w.grant.gpus) ? amount(w.grant.gpus) : "no limit"),
    number(known(w.usd_per_hour) ? usd(w.usd_per_hour) : w.unpriced.length ? "no price" : "unknown"),
    number(known(w.budget.usd_per_hour) ? usd(w.budget.usd_per_hour) : "no limit"), number(w.grant && known(w.grant.usd_per_hour) ? usd(w.grant.usd_per_hour) : "no limit"), number(amount(w.interrupted))));
  const table = el("table", {}, head(["Workload"], ["Priority", "n"], ["GPUs", "n"], ["GPU budget", "n", "budget.gpus of the workload"], ["GPUs granted", "n", "GPUs that the fleet's limit lets the workload hold now"],
    ["USD/h", "n"], ["USD/h budget", "n", "budget.usd_per_hour of the workload"], ["USD/h granted", "n", "USD per hour that the fleet's limit lets the workload hold now"], ["Interrupted", "n", "Replicas interrupted in the last 24 hours"]), el("tbody", {}, ...rows));
  section.replaceChildren(el("h2", {}, "Budgets and quota by workload"), scrolling("Budgets and quota by workload", table));
}

function fillPools(section, pools) {
  const rows = pools.map((p) => el("tr", {}, el("th", { scope: "row" }, link(p.workload, ` / ${p.pool}`)), cell(zones(p)), el("td", {}, market(p.market)), cell(p.accelerator ?? "not given"),
    ...["desired", "ready", "pending"].map((k) => number(known(p[k]) ? amount(p[k]) : "unknown")), number(p.places.length ? amount(sum(p.places, "gpus")) : "unknown"),
    number(!known(p.price_usd_per_hour) ? "no price" : p.places.length ? usd(sum(p.places, "usd_per_hour")) : "unknown"), number(amount(p.interruption_pending)), number(amount(p.interrupted))));
  const table = el("table", {}, head(["Pool"], ["Zone"], ["Market"], ["Accelerator"], ["Desired", "n"], ["Ready", "n"], ["Pending", "n"], ["GPUs", "n"], ["USD/h", "n"],
    ["Notices", "n", "Ready replicas with an interruption pending"], ["Interrupted", "n", "Replicas interrupted in the last 24 hours"]), el("tbody", {}, ...rows));
  section.replaceChildren(el("h2", {}, "Pools"), scrolling("Pools", table));
}

const sum = (rows, key) => rows.reduce((total, row) => total + row[key], 0);
const link = (workload, more = "") => el("a", { href: `#/w/${encodeURIComponent(workload)}` }, name(`${workload}${more}`));

function zones(pool) {
  const found = [...new Set(pool.places.map((p) => p.zone).filter(Boolean))];
  return found.length ? found.join(", ") : pool.zone ?? "not given";
}
