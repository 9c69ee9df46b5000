// One plot: uPlot with our colours, gaps, blind bands, and a legend with the values at the crosshair.
import { el, setText } from "./dom.js";
import { amount, clock, inUnit, known, utc } from "./format.js";

const { uPlot } = window;
const probe = el("span", { hidden: true });
document.body.append(probe);

/** Return a colour of the current theme for the canvas. */
export function colour(name) {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

const MIN_AXIS_PX = 52;
const FONT = '11px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';
const SYNC = "ticks";

/**
 * `series`: [{label, colour, shape: "line" | "dash" | "step" | "area", key}]; `unit` formats its values.
 * Callbacks: `on.zoom(min, max)` on a dragged range, `on.zoom(null)` on a double click, `on.step(by)` on arrow keys.
 */
export class Plot {
  constructor(title, unit, series, on) {
    Object.assign(this, { title, unit, series, on, data: null, bands: [], window: [0, 1], bounds: null });
    this.values = series.map(() => el("b"));
    this.when = el("time", { class: "muted" });
    const keys = series.map((s, i) => el("span", {}, el("i", { class: `swatch ${s.shape} ${s.colour}`, "aria-hidden": "true" }), `${s.label} `, this.values[i]));
    this.legend = el("div", { class: "legend" }, ...keys, this.when);
    this.holder = el("div", { class: "plot", tabindex: "0", role: "img", onkeydown: (e) => this.#key(e) });
    this.root = el("figure", { class: "card figure" }, el("figcaption", {}, el("h2", {}, title), this.legend), this.holder);
    this.observer = new ResizeObserver(() => this.#fit());
    this.observer.observe(this.holder);
  }

  update(data, bands, window, bounds) {
    Object.assign(this, { data, bands, window, bounds });
    if (!this.u) this.#draw();
    else {
      this.u.setData(data, false);
      this.u.setScale("x", { min: window[0], max: window[1] });
    }
    this.#showValues();
  }

  /** Draw again in the colours of the current theme. */
  repaint() {
    this.u?.destroy();
    this.u = null;
    if (this.data) this.#draw();
  }

  setCursor(index) {
    if (!this.u) return;
    if (index === null) this.u.setCursor({ left: -10, top: -10 });
    else this.u.setCursor({ left: this.u.valToPos(this.data[0][index], "x"), top: 8 });
  }

  dispose() {
    this.observer.disconnect();
    this.u?.destroy();
  }

  #size() {
    return { width: Math.max(80, this.holder.clientWidth), height: Math.max(80, this.holder.clientHeight) };
  }

  #fit() {
    if (this.u) this.u.setSize(this.#size());
  }

  #draw() {
    if (!this.holder.clientWidth) return;
    const axis = { stroke: colour("muted"), font: FONT, grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false } };
    this.u = new uPlot({
      ...this.#size(),
      padding: [8, 22, 0, 0],
      tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "UTC"),
      legend: { show: false },
      cursor: {
        sync: { key: SYNC },
        y: false,
        drag: { x: true, y: false, setScale: false },
        bind: { dblclick: () => () => this.on.zoom(null) },
        points: { size: 6 },
      },
      scales: { x: { time: true, auto: false, min: this.window[0], max: this.window[1] }, y: { range: (u, low, high) => this.#range(high) } },
      axes: [
        { ...axis, size: 24, values: (u, splits) => times(splits) },
        { ...axis, size: axisWidth, values: (u, splits) => splits.map((v) => (this.unit === "usd" ? `$${amount(v)}` : inUnit(this.unit, v))), incrs: this.unit === "replicas" ? [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000] : undefined },
      ],
      series: [{}, ...this.series.map(drawn)],
      hooks: {
        drawClear: [(u) => this.#shade(u)],
        setCursor: [() => this.#showValues()],
        setSelect: [(u) => this.#select(u)],
      },
    }, this.data, this.holder);
    this.u.setScale("x", { min: this.window[0], max: this.window[1] });
  }

  #range(high) {
    if (this.unit === "share") return [0, 1];
    const maximum = Math.max(high ?? 0, this.bounds && this.bounds.max <= 1.5 * (high ?? 0) ? this.bounds.max : 0);
    return [0, Math.max(1, maximum * 1.12)];
  }

  #select(u) {
    if (u.select.width < 4) return;
    const [min, max] = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
    u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.on.zoom(min, max);
  }

  /** Draw blind ticks as bands behind the lines, and the bounds of the size. */
  #shade(u) {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    for (const [from, until] of this.bands) {
      const [a, b] = [u.valToPos(from, "x", true), u.valToPos(until, "x", true)];
      ctx.fillStyle = colour("band");
      ctx.fillRect(a, bbox.top, Math.max(2, b - a), bbox.height);
      ctx.fillStyle = colour("band-edge");
      ctx.fillRect(a, bbox.top, Math.max(2, b - a), 3 * devicePixelRatio);
    }
    if (this.bounds) this.#bound(u);
    ctx.restore();
  }

  #bound(u) {
    const { ctx, bbox } = u;
    const [low, high] = [u.valToPos(this.bounds.min, "y", true), u.valToPos(this.bounds.max, "y", true)];
    ctx.fillStyle = colour("bounds");
    ctx.fillRect(bbox.left, high, bbox.width, low - high);
    ctx.strokeStyle = colour("bounds-edge");
    ctx.setLineDash([3 * devicePixelRatio, 4 * devicePixelRatio]);
    ctx.lineWidth = devicePixelRatio;
    ctx.beginPath();
    for (const y of [low, high]) {
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
    }
    ctx.stroke();
  }

  #showValues() {
    const at = this.data[0];
    const cursorIndex = this.u?.cursor.idx;
    const index = cursorIndex ?? at.length - 1;
    this.values.forEach((node, i) => setText(node, inUnit(this.unit, this.data[i + 1][index])));
    setText(this.when, cursorIndex === null || cursorIndex === undefined ? "" : `at ${utc(at[index])}`);
    const values = this.series.map((s, i) => `${s.label} ${inUnit(this.unit, this.data[i + 1].at(-1))}`);
    this.holder.setAttribute("aria-label", `${this.title} over time, now ${values.join(", ")}. Arrow keys move the crosshair.`);
  }

  #key(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1, Escape: null }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    const index = this.u?.cursor.idx ?? this.data[0].length - 1;
    this.on.step(by === null ? null : Math.min(this.data[0].length - 1, Math.max(0, index + by)));
  }
}

function drawn({ colour: name, shape }) {
  const stroke = colour(name);
  return {
    stroke,
    width: shape === "step" ? 2 : 1.75,
    dash: shape === "dash" ? [5, 4] : undefined,
    fill: shape === "area" ? colour(`${name}-fill`) : undefined,
    paths: shape === "line" || shape === "dash" ? uPlot.paths.linear() : uPlot.paths.stepped({ align: 1 }),
    spanGaps: false,
    points: { show: false, size: 5, fill: stroke, stroke, filter: (u, i) => isolated(u.data[i]) },
  };
}

/** Return the indices of known values between unknown ones: a line of one point has no length, so it gets a dot. */
function isolated(values) {
  const indices = [];
  values.forEach((v, i) => {
    if (known(v) && !known(values[i - 1]) && !known(values[i + 1])) indices.push(i);
  });
  return indices.length ? indices : null;
}

/** Return the width of the value axis: its widest label must fit. */
function axisWidth(u, labels) {
  u.ctx.save();
  u.ctx.font = FONT;
  const widest = Math.max(0, ...(labels ?? []).map((label) => u.ctx.measureText(label).width));
  u.ctx.restore();
  return Math.max(MIN_AXIS_PX, Math.ceil(widest) + 14);
}

const days = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", timeZone: "UTC" });

function times(splits) {
  const fine = splits.length > 1 && splits[1] - splits[0] < 60;
  return splits.map((at) => {
    if (fine) return clock(at);
    return at % 86400 === 0 ? days.format(new Date(at * 1000)) : clock(at).slice(0, 5);
  });
}
