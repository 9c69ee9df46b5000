// Sparkline of a workload's last ticks, with its scale and its times. An unknown value is a gap.
import { setText } from "./dom.js";
import { amount, known, minute } from "./format.js";

const WIDTH = 120;
const HEIGHT = 28;
const PAD = 2;

export function sparkline() {
  return document.getElementById("spark").content.firstElementChild.cloneNode(true);
}

export function drawSpark(root, spark) {
  const part = (name) => root.querySelector(`.${name}`);
  const length = spark?.demand.length ?? 0;
  const values = ["demand", "target", "ready"].flatMap((k) => (spark?.[k] ?? []).filter(known));
  const top = Math.max(1, ...values);
  const x = (i) => (length > 1 ? (i / (length - 1)) * WIDTH : WIDTH / 2).toFixed(1);
  const y = (v) => (HEIGHT - PAD - (v / top) * (HEIGHT - 2 * PAD)).toFixed(1);
  const set = (name, path) => part(name).setAttribute("d", path);
  set("demand", line(spark?.demand ?? [], x, y));
  set("target", steps(spark?.target ?? [], x, y));
  set("ready", steps(spark?.ready ?? [], x, y));
  set("fill", area(spark?.ready ?? [], x, y));
  root.hidden = !length;
  if (!length) return;
  setText(part("scale"), amount(Number.isInteger(top) ? top : Number(top.toFixed(1))));
  setText(part("from"), minute(spark.from, spark.until));
  setText(part("until"), minute(spark.until, spark.until));
}

function line(values, x, y) {
  return values.map((v, i) => (v === null ? "" : `${known(values[i - 1]) ? "L" : "M"}${x(i)} ${y(v)}`)).join("");
}

function steps(values, x, y) {
  return values
    .map((v, i) => (v === null ? "" : known(values[i - 1]) ? `H${x(i)}V${y(v)}` : `M${x(i)} ${y(v)}`))
    .join("");
}

function area(values, x, y) {
  return values
    .map((v, i) => (v === null || i + 1 >= values.length ? "" : `M${x(i)} ${HEIGHT}V${y(v)}H${x(i + 1)}V${HEIGHT}Z`))
    .join("");
}
