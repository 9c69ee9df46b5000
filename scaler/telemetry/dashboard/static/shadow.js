// A shadow policy, which decides but never acts, compared with the live one.
import { el, setText } from "./dom.js";
import { amount, exact, known, MISSING } from "./format.js";

const signed = (v) => (known(v) ? `${v > 0 ? "+" : ""}${amount(v)}` : MISSING);

export class Shadow {
  constructor() {
    this.root = el("section", { class: "card shadow", hidden: true });
    this.time = el("time");
    this.verdict = el("span");
    this.body = el("tbody");
    this.note = el("p", { class: "muted" });
    const head = ["Quantity", "Live", "Shadow", "Difference"].map((name, i) => el("th", { scope: "col", class: i ? "n" : null }, name));
    this.root.append(el("h2", {}, "Shadow"), el("p", { class: "verdict" }, this.verdict), this.time,
      el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, ...head)), this.body)), this.note);
  }

  render(shadow) {
    this.root.hidden = !shadow;
    if (!shadow) return;
    setText(this.time, known(shadow.at) ? exact(shadow.at) : "");
    setText(this.verdict, shadow.verdict);
    const { first, shadow: own, totals } = shadow;
    const difference = (a, b) => (known(a) && known(b) ? b - a : null);
    const rows = [
      ["Desired", first.requested, own.requested, difference(first.requested, own.requested)],
      ["Serving", first.serving, own.serving, difference(first.serving, own.serving)],
      ["USD per hour", first.usd_per_hour, own.usd_per_hour, difference(first.usd_per_hour, own.usd_per_hour)],
      ["Replica-hours so far", totals.replica_hours.first, totals.replica_hours.shadow, totals.more_replica_hours],
      ["USD so far", totals.usd?.first, totals.usd?.shadow, totals.more_usd],
      ["SLO violations (predicted)", totals.late?.first, totals.late?.shadow, totals.more_late],
    ];
    const splits = Object.keys(own.splits).map((route) => el("tr", {}, el("th", { scope: "row" }, `Route ${route}`),
      ...[first.splits[route] || MISSING, own.splits[route], ""].map((text) => el("td", { class: "n" }, text))));
    this.body.replaceChildren(...rows.map(([name, ...values]) => el("tr", {}, el("th", { scope: "row" }, name),
      ...values.map((v, i) => el("td", { class: "n" }, i === 2 ? signed(v) : amount(v))))), ...splits);
    const held = shadow.open_loop ? "Dry run: both sizes are computed open-loop." : "The shadow's size is computed open-loop: it does not change the load.";
    const late = known(totals.more_late) ? "" : ` SLO violations are unknown: ${shadow.estimated_by || "no tick yet"}.`;
    setText(this.note, `${totals.ticks} ticks, a different size in ${totals.differing}${totals.failed ? `, ${totals.failed} failed` : ""}. ${held}${late}`);
  }
}
