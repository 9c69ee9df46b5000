// Reasons of the last decisions: the daemon's verdict, and its full explanation when opened.
import { arrange, el, setText } from "./dom.js";
import { exact } from "./format.js";

const KIND_LABELS = { refused: "write refused", blind: "blind: scale-in blocked", held: "held by a rule" };
const label = (d) => KIND_LABELS[d.kind] ?? (d.direction < 0 ? "scale-in" : "scale-out");
const mark = (d) => `dot k-${d.kind}${d.kind === "changed" && d.direction < 0 ? " in" : ""}`;

export class Reasons {
  #items = new Map();

  constructor() {
    this.now = [el("time"), el("span"), el("p", { class: "problem" })];
    this.sections = el("div", { class: "sections" });
    this.why = el("details", { class: "why" }, el("summary", {}, "Full explanation"), this.sections);
    this.list = el("ol", { class: "runs" });
    this.only = el("button", { type: "button", class: "ghost", "aria-pressed": "false", onclick: () => this.#toggle() }, "Changes only");
    this.last = el("section", { class: "card last" },
      el("h2", {}, "Why this size"), el("p", { class: "verdict" }, this.now[1]), this.now[0], this.now[2], this.why);
    this.root = el("section", { class: "card reasons" },
      el("div", { class: "row" }, el("h2", {}, "Last decisions"), el("span", { class: "grow" }), this.only), this.list);
  }

  render({ now, decisions, generation }) {
    setText(this.now[0], exact(now.at));
    setText(this.now[1], now.verdict);
    setText(this.now[2], now.problem);
    fillSections(this.sections, now.sections);
    if (generation !== this.generation) this.#items.clear();
    this.generation = generation;
    const items = decisions.map((d) => this.#item(d));
    arrange(this.list, items.length ? items : [el("li", { class: "muted" }, "No size change, refused write or blocked change yet.")]);
    const current = new Set(decisions.map((d) => d.since));
    for (const since of this.#items.keys()) if (!current.has(since)) this.#items.delete(since);
  }

  #toggle() {
    const on = this.list.classList.toggle("changes");
    this.only.setAttribute("aria-pressed", String(on));
  }

  #item(decision) {
    let item = this.#items.get(decision.since);
    if (item?.until === decision.until) return item;
    if (!item) {
      const head = el("summary", {}, el("i", { class: mark(decision), title: label(decision) }), el("span", { class: "kind" }, label(decision)), el("time"),
        el("span", { class: "text" }), el("span", { class: "problem" }), el("small", { class: "muted" }));
      const body = el("div", { class: "sections" });
      const details = el("details", { ontoggle: () => fillSections(body, details.open ? item.decision.sections : []) }, head, body);
      item = el("li", { class: `k-${decision.kind}` }, details);
      this.#items.set(decision.since, item);
    }
    Object.assign(item, { until: decision.until, decision });
    const details = item.firstChild;
    const [, , time, text, problem, times] = details.firstChild.children;
    setText(time, exact(decision.until));
    setText(text, decision.verdict);
    setText(problem, decision.problem);
    setText(times, decision.times > 1 ? `${decision.times} ticks, since ${exact(decision.since)}` : "");
    if (details.open) fillSections(details.lastChild, decision.sections);
    return item;
  }
}

function fillSections(node, sections) {
  const text = JSON.stringify(sections);
  if (node.shown === text) return;
  node.shown = text;
  node.replaceChildren(...sections.map(({ title, lines }) =>
    el("div", {}, el("h3", {}, title), el("ul", {}, ...lines.map((line) => el("li", {}, line))))));
}
