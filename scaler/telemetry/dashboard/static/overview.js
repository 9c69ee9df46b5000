// All workloads, the ones with problems first; searches, sorts and filters them in the browser.
import { arrange, badge, el, setText } from "./dom.js";
import { amount } from "./format.js";
import { drawSpark, sparkline } from "./spark.js";

export const STATES = ["stalled", "refused", "blind", "yielding", "paused", "starting", "scaling", "dry run", "ok"];
const PAGE_ROWS = 100;
const SHORT_LIST = 12;
const severity = (line) => STATES.indexOf(line.states[0]);
const byNumber = (key) => (a, b) => (b[key] ?? -1) - (a[key] ?? -1);
const byName = (a, b) => a.workload.localeCompare(b.workload, undefined, { numeric: true });

const COLUMNS = [
  { key: "workload", title: "Workload", first: "ascending", order: byName },
  { key: "states", title: "State", first: "descending", order: (a, b) => severity(a) - severity(b) },
  { key: "demand", title: "Demand", order: byNumber("demand"), n: true, hint: "Load in replica equivalents" },
  { key: "desired", title: "Desired", order: byNumber("desired"), n: true, hint: "Replicas that the last tick decided" },
  { key: "ready", title: "Ready", order: byNumber("ready"), n: true, hint: "Replicas that serve" },
  { title: "Last ticks" },
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
    this.body = el("tbody");
    this.note = el("p", { class: "empty", role: "status" }, "Loading…");
    this.more = el("button", { type: "button", class: "ghost more", hidden: true, onclick: () => this.#showMore() });
    const table = el("table", { class: "workloads" }, el("thead", {}, el("tr", {}, ...this.heads)), this.body);
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
    const attributes = { scope: "col", class: column.n ? "n" : null, title: column.hint };
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
      const cell = (attributes, ...c) => el("td", attributes, ...c);
      row = el("tr", {}, el("th", { scope: "row" }, link), cell({ class: "state" }, el("span", { class: "states" })), cell({ class: "n demand" }),
        cell({ class: "n desired" }), cell({ class: "n ready" }), cell({ class: "line" }, sparkline()), cell({ class: "why" }, el("span", { class: "problem" }), el("span")));
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
  const [, states, demand, desired, ready, spark, why] = row.children;
  states.firstElementChild.replaceChildren(...line.states.map(badge));
  setText(demand, amount(line.demand));
  setText(desired, amount(line.desired));
  setText(ready, amount(line.ready));
  ready.classList.toggle("short", (line.ready ?? 0) < (line.desired ?? 0));
  drawSpark(spark.firstElementChild, line.spark);
  const [problem, verdict] = why.children;
  setText(problem, line.problem ? `${line.problem}; ` : "");
  setText(verdict, line.verdict);
  why.title = `${problem.textContent}${line.verdict}`;
}

function legend() {
  const key = (kind, text) => el("span", {}, el("i", { class: `swatch ${kind}`, "aria-hidden": "true" }), text);
  return el("div", { class: "legend" }, key("demand", "demand"), key("target", "desired"), key("ready", "ready"));
}
