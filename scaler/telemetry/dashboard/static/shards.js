// The daemons of an installation: who holds which shard, in which epoch.
import { el, head, name, scrolling } from "./dom.js";
import { amount, known } from "./format.js";

/** Show the table of shards; nothing for a daemon without peers, whose table is empty. */
export function fillShards(section, table) {
  section.hidden = !table.shards.length;
  if (section.hidden) return;
  const rows = table.shards.map((s) => el("tr", {}, el("th", { scope: "row" }, amount(s.shard)), holder(s.holder, table),
    el("td", { class: "n" }, known(s.epoch) ? amount(s.epoch) : "unknown"), el("td", {}, ...workloads(s.workloads))));
  const columns = head(["Shard", "n"], ["Daemon"], ["Epoch", "n", "Number of handovers of the shard so far"], ["Workloads"]);
  section.replaceChildren(el("h2", {}, "Shards by daemon"), scrolling("Shards by daemon", el("table", {}, columns, el("tbody", {}, ...rows))));
}

function holder(daemon, table) {
  if (!daemon) return el("td", { class: "unknown" }, "no daemon");
  const note = daemon === table.daemon ? " (this one)" : table.daemons[daemon] ? "" : " (publishes no URL)";
  return el("td", {}, name(daemon), note);
}

function workloads(names) {
  if (!names.length) return ["none"];
  const links = names.slice(0, 8).flatMap((n) => [el("a", { href: `#/w/${encodeURIComponent(n)}` }, name(n)), " "]);
  return names.length > 8 ? [...links, `and ${names.length - 8} more`] : links;
}
