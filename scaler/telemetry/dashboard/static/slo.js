// SLO attainment and error budget: one cell in the list, one card on a workload's page.
import { el, head, setText } from "./dom.js";
import { amount, attainment, burn, duration, known, minute, MISSING, share } from "./format.js";

const LIMITS = { ttft_s: "TTFT", itl_s: "ITL", e2e_s: "end-to-end latency" };
/** Share of the record that is measured; a smaller one is shown. */
const SETTLED = 0.95;

/** Return the attainment of the last hour and its burn rate as text; the reason where there is none. */
export function sloText(slo) {
  if (!slo) return { value: "no SLO", note: "", unknown: true };
  const hour = slo.windows[0];
  if (!known(hour?.attainment)) {
    const idle = hour && hour.measured_s > 0;
    return { value: idle ? "no requests" : "not measured", note: idle ? "" : slo.problem, unknown: true };
  }
  return { value: attainment(hour.attainment), note: known(hour.burn_rate) ? `burn ${burn(hour.burn_rate)}` : "no error budget", unknown: false };
}

export class ErrorBudget {
  constructor() {
    this.objective = el("p", { class: "muted" });
    this.problem = el("p", { class: "problem" });
    this.body = el("tbody");
    this.table = el("table", { class: "budget" },
      head(["Window"], ["Attainment", "n"], ["Burn rate", "n", "Late share over the late share that the SLO allows"], ["Late requests", "n"]), this.body);
    this.root = el("section", { class: "card slo" }, el("h2", {}, "SLO and error budget"), this.objective, this.problem, this.table);
  }

  render({ slo, at }) {
    this.table.hidden = !slo;
    setText(this.problem, slo?.problem ? `Not measured now: ${slo.problem}` : "");
    if (!slo) {
      setText(this.objective, "No SLO: set slo in the workload's file.");
      return;
    }
    const limits = Object.entries(slo.limits).map(([key, s]) => `${LIMITS[key]} up to ${duration(s)}`).join(", ");
    setText(this.objective, `${attainment(slo.share)} of requests: ${limits}. SLO ${slo.state}: ${remaining(slo)}.`);
    const rows = slo.windows.map((w) => [duration(w.window_s), attainment(w.attainment), burn(w.burn_rate),
      known(w.attainment) ? `${amount(w.late)} of ${amount(w.requests)}` : MISSING, record(w, at), known(w.attainment) && w.attainment < slo.share]);
    const text = JSON.stringify(rows);
    if (this.shown === text) return;
    this.shown = text;
    this.body.replaceChildren(...rows.map(([window, met, rate, late, since, over]) => el("tr", {}, el("th", { scope: "row" }, window, el("small", { class: "muted" }, since)),
      el("td", { class: "n" }, met), el("td", { class: over ? "n over" : "n" }, rate), el("td", { class: "n" }, late))));
  }
}

/** Return the remaining or overspent share of the error budget as text. */
function remaining({ remaining: left, window_s }) {
  const budget = `error budget of ${duration(window_s)}`;
  if (!known(left)) return `the ${budget} is unknown`;
  return left < 0 ? `the ${budget} is overspent by ${share(-left)}` : `${share(left)} of the ${budget} remains`;
}

/** Return the recorded part of a window: whole, or since when. */
function record(window, at) {
  if (!known(window.since)) return "no record yet";
  const span_s = Math.min(window.window_s, at - window.since);
  const whole = span_s >= 0.99 * window.window_s;
  const measured = window.measured_s / span_s;
  const gaps = measured < SETTLED ? `, ${Math.floor(100 * measured)}% measured` : "";
  return (whole ? "whole window" : `${duration(span_s)}, since ${minute(window.since, at)}`) + gaps;
}
