// Sparkline of a workload's last ticks. An unknown value is a gap.

const WIDTH = 120;
const HEIGHT = 28;
const PAD = 2;

export function sparkline() {
  return document.getElementById("spark").content.firstElementChild.cloneNode(true);
}

export function drawSpark(svg, spark) {
  const length = spark?.demand.length ?? 0;
  const top = Math.max(1, ...["demand", "target", "ready"].flatMap((k) => (spark?.[k] ?? []).map((v) => v ?? 0)));
  const x = (i) => (length > 1 ? (i / (length - 1)) * WIDTH : WIDTH / 2).toFixed(1);
  const y = (v) => (HEIGHT - PAD - (v / top) * (HEIGHT - 2 * PAD)).toFixed(1);
  const set = (name, path) => svg.querySelector(`.${name}`).setAttribute("d", path);
  set("demand", line(spark?.demand ?? [], x, y));
  set("target", steps(spark?.target ?? [], x, y));
  set("ready", steps(spark?.ready ?? [], x, y));
  set("fill", area(spark?.ready ?? [], x, y));
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

const known = (v) => v !== null && v !== undefined;
