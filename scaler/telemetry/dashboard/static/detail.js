// One workload: plots over time, reasons of the last decisions, signals and pools.
import { WorkloadHistory } from "./api.js";
import { badge, el, setText } from "./dom.js";
import { Reasons } from "./reasons.js";
import { amount, attainment, costText, duration } from "./format.js";
import { Plot } from "./plots.js";
import { blindBands, withGaps, layout } from "./series.js";
import { Shadow } from "./shadow.js";
import { ErrorBudget, sloText } from "./slo.js";
import { poolTable, routeTable, signalTable } from "./tables.js";

const SPANS = [["15 min", 900], ["1 h", 3600], ["4 h", 14400], ["All", Infinity]];

export class Detail {
  pause_ms = 1000;
  #history;
  #plots = [];
  #shape = "";
  #span_s = 3600;
  #zoom = null;

  constructor(name) {
    this.name = name;
    this.#history = new WorkloadHistory(name);
    this.states = el("span", { class: "states" });
    this.figures = el("dl", { class: "figures" });
    this.spans = el("div", { class: "spans", role: "group", "aria-label": "Time shown" },
      ...SPANS.map(([text, s]) => el("button", { type: "button", "aria-pressed": String(s === this.#span_s), onclick: () => this.#show(s) }, text)));
    this.unzoom = el("button", { type: "button", class: "ghost", hidden: true, onclick: () => this.#zoomTo(null) }, "Back to live");
    this.band = el("span", { class: "legend" }, el("span", {}, el("i", { class: "swatch band", "aria-hidden": "true" }), "blind: scale-in is blocked"));
    this.plots = el("div", { class: "plots" });
    this.reasons = new Reasons();
    this.shadow = new Shadow();
    this.budget = new ErrorBudget();
    this.signals = el("section", { class: "card" });
    this.pools = el("section", { class: "card table pool-card" });
    this.routes = el("section", { class: "card table pool-card", hidden: true });
    this.utc = el("span", { class: "muted fine" }, "Times in UTC");
    this.note = el("p", { class: "empty", role: "status" }, "Loading…");
    this.content = el("div", { class: "detail", hidden: true },
      el("div", { class: "left" }, this.figures,
        el("div", { class: "tools" }, this.spans, this.unzoom, this.utc, el("span", { class: "grow" }), this.band), this.plots, this.pools, this.routes),
      el("div", { class: "right" }, this.reasons.last, this.budget.root, this.reasons.root, this.shadow.root, this.signals));
    this.root = el("section", {},
      el("div", { class: "title" }, el("a", { href: "#/", class: "back" }, "All workloads"), el("span", { class: "muted", "aria-hidden": "true" }, "/"), el("h1", {}, name), this.states),
      this.note, this.content);
    this.repaint = () => this.#plots.forEach((p) => p.repaint());
    addEventListener("themechange", this.repaint);
  }

  refresh() {
    return this.#history.refresh();
  }

  dispose() {
    removeEventListener("themechange", this.repaint);
    this.#plots.forEach((p) => p.dispose());
  }

  showNotFound(why) {
    setText(this.note, `${why[0].toUpperCase()}${why.slice(1)}. It was removed, or is not added yet.`);
    this.note.hidden = false;
  }

  render(body) {
    this.note.hidden = body.now !== null;
    this.content.hidden = body.now === null;
    if (body.now === null) {
      setText(this.note, "No tick yet. Plots and reasons appear here after the first tick.");
      this.states.replaceChildren(badge("starting"));
      return;
    }
    const states = body.stalled ? ["stalled", ...body.now.states.filter((s) => s !== "ok")] : body.now.states;
    this.states.replaceChildren(...states.map(badge));
    figures(this.figures, body);
    this.#plot(body);
    this.reasons.render(body);
    this.shadow.render(body.shadow);
    signalTable(this.signals, body.now);
    this.budget.render(body.now);
    poolTable(this.pools, body.now, body.interruptions_since);
    routeTable(this.routes, body.now);
  }

  #plot(body = this.#history.body) {
    const { columns, facts } = body;
    const plots = layout(columns);
    const shape = JSON.stringify(plots);
    if (shape !== this.#shape) {
      this.#plots.forEach((p) => p.dispose());
      const on = { zoom: (a, b) => this.#zoomTo(a === null ? null : [a, b]), step: (i) => this.#plots.forEach((p) => p.setCursor(i)) };
      this.#plots = plots.map((w) => new Plot(w.title, w.unit, w.series, on));
      this.#shape = shape;
      this.plots.replaceChildren(...this.#plots.map((p) => p.root));
    }
    const { times, pick } = withGaps(columns, facts.interval_s);
    const bands = blindBands(columns, facts.interval_s);
    this.band.hidden = !bands.length;
    const bounds = facts.max_replicas === null ? null : { min: facts.min_replicas, max: facts.max_replicas };
    const window = this.#window(times);
    this.#plots.forEach((p, i) => p.update([times, ...p.series.map(pick)], bands, window, i ? null : bounds));
  }

  #window(times) {
    if (this.#zoom) return this.#zoom;
    const [first, last] = [times[0], times.at(-1)];
    const from = Math.max(last - this.#span_s, first);
    return [from, Math.max(last, from + 60)];
  }

  #show(span_s) {
    this.#span_s = span_s;
    [...this.spans.children].forEach((b, i) => b.setAttribute("aria-pressed", String(SPANS[i][1] === span_s)));
    this.#zoomTo(null);
  }

  #zoomTo(zoom) {
    this.#zoom = zoom;
    this.unzoom.hidden = !zoom;
    this.#plot();
  }
}

function figures(list, { now, facts }) {
  const pending = now.pools.reduce((sum, p) => sum + (p.pending ?? 0), 0);
  const bounds = facts.max_replicas === null ? "" : `${facts.min_replicas} to ${facts.max_replicas} allowed`;
  const lead = facts.lead_p50_s === null ? "no start measured yet" : `P90 ${duration(facts.lead_p90_s)}, ${facts.lead_times} measured`;
  const slo = sloText(now.slo);
  const shown = [
    ["demand", "Demand", amount(now.demand), "replica equivalents"],
    ["target", "Desired", amount(now.desired), bounds],
    ["ready", "Ready", amount(now.ready), pending ? `${pending} pending` : "none pending"],
    ["", "Cost per hour", ...costText(now)],
    ["", "SLO attainment (1 h)", slo.value, slo.unknown ? (now.slo ? slo.note : "set slo in the workload's file") : `of ${attainment(now.slo.share)}, ${slo.note}`],
    ["", "Lead time (P50)", duration(facts.lead_p50_s), lead],
  ];
  if (list.children.length !== shown.length) {
    list.replaceChildren(...shown.map(([kind, title]) => el("div", { class: "card" },
      el("dt", {}, kind ? el("i", { class: `swatch ${kind}`, "aria-hidden": "true" }) : null, title), el("dd"), el("dd", { class: "note muted" }))));
  }
  shown.forEach(([, , value, note], i) => {
    const [, figure, text] = list.children[i].children;
    setText(figure, value);
    figure.classList.toggle("unknown", !/\d/.test(value));
    setText(text, note);
  });
}
