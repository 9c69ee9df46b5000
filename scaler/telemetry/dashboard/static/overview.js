// All workloads, the ones with problems first; searches, sorts and filters them in the browser.
import { arrange, badge, el, setText } from "./dom.js";
import { amount, costText, known, markets } from "./format.js";
import { sloText } from "./slo.js";
import { drawSpark, sparkline } from "./spark.js";

export const STATES = ["stalled", "unanswered", "SLO violated", "SLO at risk", "refused", "blind", "interrupted", "yielding", "paused", "starting", "scaling out", "scaling in", "held", "dry run", "SLO unknown", "ok"];
const PAGE_ROWS = 100;
const SHORT_LIST = 12;
const severity = (line) => STATES.indexOf(line.states[0]);
const burnRate = (line) => line.slo?.windows[0]?.burn_rate ?? -1;
const byNumber = (key) => (a, b) => (b[key] ?? -1) - (a[key] ?? -1);
const byName = (a, b) => a.workload.localeCompare(b.workload, undefined, { numeric: true });

const COLUMNS = [
  { key: "workload", title: "Workload", first: "ascending", order: byName },
  { key: "states", title: "State", first: "descending", order: (a, b) => severity(a) - severity(b) },
  { key: "demand", title: "Demand", order: byNumber("demand"), n: true, hint: "Load in replica equivalents" },
  { key: "desired", title: "Desired", order: byNumber("desired"), n: true, hint: "Replicas that the last tick decided" },
  { key: "ready", title: "Ready", order: byNumber("ready"), n: true, hint: "Replicas that serve" },
  { key: "usd_per_hour", title: "USD/h", order: byNumber("usd_per_hour"), n: true, hint: "Cost of the decided size, USD per hour" },
  { key: "slo", title: "SLO", order: (a, b) => burnRate(b) - burnRate(a), n: true, hint: "SLO attainment of the last hour, and the burn rate of the error budget" },
  { key: "markets", title: "Market", hint: "Replicas by market" },
  { title: "Last ticks (UTC)" },
  { title: "Why" },
];

export class Overview {
  pause_ms = 2000;
  #list;
  #rows = new Map();
  #sort = COLUMNS[1];
  #reversed = false;
  #only = null;
  #limit = PAGE_ROWS;

  constructor(list) {
    this.#list = list;
    this.search = el("input", {
      type: "search", placeholder: "Search workloads", "aria-label": "Search workloads by name", oninput: () => this.#restart(),
    });
    this.chips = el("div", { class: "chips", role: "group", "aria-label": "Show one state only" });
    this.heads = COLUMNS.map((c) => this.#heading(c));
    this.body = el("tbody", { role: "rowgroup" });
    this.note = el("p", { class: "empty", role: "status" }, "Loading…");
    this.more = el("button", { type: "button", class: "ghost more", hidden: true, onclick: () => this.#showMore() });
    // the roles keep the table a table where a narrow screen shows its rows as cards
    const table = el("table", { class: "workloads", role: "table" }, el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...this.heads)), this.body);
    this.card = el("div", { class: "card" }, table);
    this.root = el("section", { class: "overview" }, el("h1", { class: "visually-hidden" }, "All workloads"),
      el("div", { class: "tools" }, this.search, this.chips, legend()), this.card, this.note, this.more);
    if (list.head) this.render();
  }

  refresh() {
    return this.#list.refresh();
  }

  dispose() {}

  showNotFound() {}

  render() {
    const lines = this.#list.all();
    this.#count(lines);
    const text = this.search.value.trim().toLowerCase();
    const matching = lines
      .filter((l) => l.workload.toLowerCase().includes(text) && (!this.#only || l.states.includes(this.#only)))
      .sort((a, b) => (this.#reversed ? -1 : 1) * this.#sort.order(a, b) || byName(a, b));
    const shown = matching.slice(0, this.#limit);
    arrange(this.body, shown.map((line) => this.#row(line)));
    const names = new Set(lines.map((l) => l.workload));
    for (const name of this.#rows.keys()) if (!names.has(name)) this.#rows.delete(name);
    setText(this.note, !lines.length ? "No tick yet. A workload appears here after its first tick."
      : matching.length ? "" : "No workload matches the search.");
    this.card.classList.toggle("few", lines.length <= SHORT_LIST);
    this.note.hidden = matching.length > 0;
    this.card.hidden = !matching.length;
    this.more.hidden = matching.length <= shown.length;
    setText(this.more, `Show more (${shown.length} of ${matching.length})`);
  }

  #restart() {
    this.#limit = PAGE_ROWS;
    this.render();
  }

  #showMore() {
    this.#limit += PAGE_ROWS;
    this.render();
  }

  #heading(column) {
    const attributes = { scope: "col", role: "columnheader", class: [column.n ? "n" : "", `h-${column.key ?? ""}`].join(" ").trim(), title: column.hint };
    if (!column.order) return el("th", attributes, column.title);
    const press = () => {
      this.#reversed = this.#sort === column && !this.#reversed;
      this.#sort = column;
      this.heads.forEach((h, i) => h.setAttribute("aria-sort", COLUMNS[i] === column ? this.#direction() : "none"));
      this.#restart();
    };
    const sorted = column === this.#sort ? "descending" : "none";
    return el("th", { ...attributes, "aria-sort": sorted }, el("button", { type: "button", onclick: press }, column.title));
  }

  #direction() {
    const first = this.#sort.first ?? "descending";
    return !this.#reversed ? first : first === "ascending" ? "descending" : "ascending";
  }

  #count(lines) {
    const counts = STATES.map((state) => [state, lines.filter((l) => l.states.includes(state)).length]);
    const chips = counts.filter(([state, n]) => n || state === this.#only).map(([state, n]) => {
      const press = () => {
        this.#only = this.#only === state ? null : state;
        this.#restart();
      };
      const old = [...this.chips.children].find((c) => c.dataset.state === state);
      const chip = old ?? el("button", { type: "button", class: "chip", "data-state": state, onclick: press },
        badge(state), el("b"));
      setText(chip.lastElementChild, String(n));
      chip.setAttribute("aria-pressed", String(this.#only === state));
      return chip;
    });
    arrange(this.chips, chips);
  }

  #row(line) {
    let row = this.#rows.get(line.workload);
    if (!row) {
      const link = el("a", { href: `#/w/${encodeURIComponent(line.workload)}` }, line.workload);
      const cell = (kind, ...c) => el("td", { class: kind, role: "cell" }, ...c);
      row = el("tr", { role: "row" }, el("th", { scope: "row", role: "rowheader" }, link), cell("state", el("span", { class: "states" })), cell("n demand"), cell("n desired"), cell("n ready"),
        cell("n cost"), cell("n slo", el("span"), el("small", { class: "muted" })), cell("market"), cell("line", sparkline()), cell("why", el("div", {}, el("span", { class: "problem" }), el("span"))));
      row.addEventListener("click", (event) => {
        if (!event.target.closest("a") && !getSelection().toString()) location.hash = link.getAttribute("href");
      });
      this.#rows.set(line.workload, row);
    }
    if (row.line?.at !== line.at || row.line?.verdict !== line.verdict || !row.line) fill(row, line);
    return row;
  }
}

function fill(row, line) {
  row.line = line;
  const [, states, demand, desired, ready, cost, slo, market, spark, why] = row.children;
  states.firstElementChild.replaceChildren(...line.states.map(badge));
  setText(demand, amount(line.demand));
  setText(desired, amount(line.desired));
  setText(ready, amount(line.ready));
  ready.classList.toggle("short", (line.ready ?? 0) < (line.desired ?? 0));
  const [price] = line.spark ? costText(line) : ["–"];
  setText(cost, price);
  cost.classList.toggle("unknown", !known(line.usd_per_hour));
  const { value, note, unknown } = line.spark ? sloText(line.slo) : { value: "–", note: "", unknown: true };
  setText(slo.firstElementChild, value);
  setText(slo.lastElementChild, unknown ? "" : note);
  slo.title = note;
  slo.classList.toggle("unknown", unknown);
  slo.classList.toggle("over", burnRate(line) > 1);
  setText(market, line.spark ? markets(line.markets) : "–");
  drawSpark(spark.firstElementChild, line.spark);
  const [problem, verdict] = why.firstElementChild.children;
  setText(problem, line.problem ? `${line.problem}; ` : "");
  setText(verdict, line.verdict);
  why.title = `${problem.textContent}${line.verdict}`;
}

function legend() {
  const key = (kind, text) => el("span", {}, el("i", { class: `swatch ${kind}`, "aria-hidden": "true" }), text);
  return el("div", { class: "legend" }, key("demand", "demand"), key("target", "desired"), key("ready", "ready"));
}
