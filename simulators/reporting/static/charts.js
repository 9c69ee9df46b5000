// Charts of a page. uPlot draws the axes, the cursor and the zoom; the series are drawn here from the page's JSON.
"use strict";
(() => {
  const FONT = '11px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';
  const PRINT_WIDTH = 660;
  const SYMBOLS = { up: "▲", down: "▼", diamond: "◆", cross: "✕", plus: "✚" };

  class Chart {
    constructor(figure) {
      this.spec = JSON.parse(figure.querySelector("script").textContent);
      this.holder = figure.querySelector(".canvas");
      this.series = this.spec.series.map((s) => ({ ...s, x: this.spec.xs[s.x], shown: true }));
      this.axes = this.spec.right ? ["y", "right"] : ["y"];
      this.scatter = this.series.some((s) => s.shape === "points");
      this.window = this.whole = this.#extent();
      this.tops = {};
      this.#legend(figure.querySelector(".legend"));
      this.holder.addEventListener("keydown", (event) => this.#key(event));
      new ResizeObserver(() => this.fit()).observe(this.holder);
    }

    /** Draw the chart in its holder's width. A closed element has none. */
    fit(width = this.holder.clientWidth) {
      if (!width) return;
      const size = { width, height: this.holder.clientHeight };
      if (this.u) this.u.setSize(size);
      else this.#create(size);
    }

    redraw() {
      this.u?.redraw();
    }

    #extent() {
      const { x } = this.spec;
      const known = this.series.filter((s) => s.shape !== "level").flatMap((s) => s.x.filter((v) => v !== null));
      let [low, high] = [x.low ?? Math.min(...known), x.high ?? Math.max(...known)];
      if (this.scatter && x.kind === "log") [low, high] = [low / 1.3, high * 2];
      else if (this.scatter) [low, high] = [x.low ?? low - 0.06 * (high - low), high + 0.12 * (high - low)];
      return high > low ? [low, high] : [low - 1, high + 1];
    }

    #create(size) {
      const { x, y, right } = this.spec;
      const scale = (axis) => (axis.kind === "log" ? { distr: 3 } : {});
      const scales = { x: { ...scale(x), time: x.kind === "utc", auto: false } };
      for (const key of this.axes) {
        const axis = this.spec[key];
        scales[key] = { auto: false, ...scale(axis) };
        if (axis.knee) Object.assign(scales[key], { distr: 100, fwd: (v) => compress(axis.knee, this.tops[key], v), bwd: (v) => expand(axis.knee, this.tops[key], v) });
      }
      const line = { stroke: () => colour("muted"), font: FONT, ticks: { show: false }, grid: { stroke: () => colour("grid"), width: 1 } };
      const axes = [{ ...line, size: 26, space: 62, values: (u, at) => at.map((v) => (v === null ? "" : x.kind === "utc" ? clock(v) : FORMATS[x.format](v))) }];
      for (const key of this.axes) {
        const axis = this.spec[key];
        axes.push({
          ...line, scale: key, side: key === "right" ? 1 : 3, grid: { ...line.grid, show: key === "y" }, space: 36,
          values: (u, at) => at.map((v) => (v === null ? "" : FORMATS[axis.format](v, 3))),
          size: (u, values) => 14 + 6.4 * Math.max(3, ...(values ?? []).map((v) => v.length)),
          ...(axis.knee ? { splits: () => ticks(axis.knee, this.tops[key]), filter: (u, at) => at } : {}),
        });
      }
      const none = () => null;
      this.u = new uPlot({
        ...size,
        scales, axes,
        padding: [8, right ? 0 : 28, 0, 0],
        tzDate: (at) => uPlot.tzDate(new Date(1000 * at), "Etc/UTC"),
        legend: { show: false },
        series: [{}, ...this.axes.map((key) => ({ scale: key, paths: none, points: { show: false } }))],
        cursor: {
          y: this.scatter,
          points: { show: false },
          drag: { x: true, y: false, setScale: false },
          bind: { dblclick: () => () => this.#zoom(this.whole) },
          ...(this.spec.group ? { sync: { key: this.spec.group } } : {}),
        },
        hooks: { drawClear: [() => this.#shade()], draw: [() => this.#draw()], setCursor: [() => this.#read()], setSelect: [() => this.#select()] },
      }, [this.whole, ...this.axes.map(() => [null, null])], this.holder);
      this.#zoom(this.whole);
    }

    #zoom(window) {
      this.window = window;
      this.u.batch(() => {
        this.u.setScale("x", { min: window[0], max: window[1] });
        for (const key of this.axes) {
          const [min, max] = this.#range(key);
          this.tops[key] = max;
          this.u.setScale(key, { min, max });
        }
      });
      this.u.redraw(false, true);
    }

    #select() {
      const { left, width } = this.u.select;
      if (width < 4) return;
      const window = [this.u.posToVal(left, "x"), this.u.posToVal(left + width, "x")];
      this.u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
      this.#zoom(window);
    }

    /** Return the range of an axis: of the shown series within the window. */
    #range(key) {
      const axis = this.spec[key];
      const values = this.series.filter((s) => s.shown && s.axis === key).flatMap((s) => this.#within(s));
      const known = values.filter((v) => v !== null && (axis.kind !== "log" || v > 0));
      let [low, high] = known.length ? [Math.min(...known), Math.max(...known)] : [axis.kind === "log" ? 0.1 : 0, 1];
      if (axis.kind === "log") return [low / 1.3, high * 1.3];
      const room = 0.08 * (high - low);
      low = this.scatter ? (axis.low ?? low) - room : axis.low ?? low - room;
      return [low, Math.max(axis.high ?? high + room, low + 1e-9)];
    }

    #within(s) {
      if (s.shape === "level") return s.y;
      if (s.shape === "marks") return [];
      const [from, to] = this.window;
      const heights = this.#heights(s);
      if (this.scatter || s.shape === "rects") {
        const inside = s.y.filter((v, i) => s.x[i] >= from && s.x[i] <= to);
        const spread = (s.ey ?? []).flatMap((e, i) => (e === null || s.y[i] === null ? [] : [s.y[i] - Math.min(e, s.y[i]), s.y[i] + e]));
        return [...inside, ...spread];
      }
      return heights.slice(Math.max(0, after(s.x, from) - 1), after(s.x, to));
    }

    /** Return the values of a series, above those of the shown series below it in a stack. */
    #heights(s) {
      if (s.shape !== "stack") return s.y;
      const below = this.series.slice(0, this.series.indexOf(s)).filter((o) => o.shape === "stack" && o.shown);
      return s.y.map((v, i) => (v ?? 0) + below.reduce((sum, o) => sum + (o.y[i] ?? 0), 0));
    }

    #clipped(paint) {
      const { ctx, bbox } = this.u;
      ctx.save();
      ctx.beginPath();
      ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
      ctx.clip();
      paint(ctx, bbox, devicePixelRatio);
      ctx.restore();
    }

    #shade() {
      this.#clipped((ctx, bbox, ratio) => {
        for (const [from, to, name] of this.spec.bands) {
          const [a, b] = [this.u.valToPos(from, "x", true), this.u.valToPos(to, "x", true)];
          ctx.fillStyle = colour(name);
          ctx.fillRect(a, bbox.top, Math.max(ratio, b - a), bbox.height);
        }
        for (const key of this.axes) {
          const { knee } = this.spec[key];
          if (!knee || !isCompressed(knee, this.tops[key])) continue;
          const y = this.u.valToPos(knee, key, true);
          ctx.fillStyle = colour("compressed");
          ctx.fillRect(bbox.left, bbox.top, bbox.width, y - bbox.top);
        }
      });
    }

    #draw() {
      this.names = [];
      this.#clipped((ctx, bbox, ratio) => {
        const shown = this.series.filter((s) => s.shown);
        const stacked = shown.filter((s) => s.shape === "stack").reverse();
        const rest = shown.filter((s) => s.shape !== "stack");
        for (const s of [...stacked, ...rest]) {
          ctx.strokeStyle = ctx.fillStyle = colour(s.colour);
          ctx.lineWidth = (s.shape === "area" || s.shape === "stack" ? 0.8 : 1.7) * ratio;
          ctx.setLineDash(s.dash ? [6 * ratio, 4 * ratio] : []);
          this[`_${s.shape}`](ctx, s, bbox, ratio);
        }
      });
    }

    /** Return the runs of known values as canvas points; a step keeps its value until the next one. */
    #runs(s) {
      const heights = this.#heights(s);
      const steps = s.shape !== "line" && s.shape !== "linked";
      const runs = [];
      let run = null;
      s.x.forEach((at, i) => {
        const x = this.u.valToPos(at, "x", true);
        const unknown = heights[i] === null || (this.spec[s.axis].kind === "log" && heights[i] <= 0);
        if (run && steps) run.push([x, run.at(-1)[1]]);
        if (unknown) run = null;
        else {
          if (!run) runs.push((run = []));
          run.push([x, this.u.valToPos(heights[i], s.axis, true)]);
        }
      });
      return runs;
    }

    #trace(ctx, run) {
      ctx.beginPath();
      run.forEach(([x, y], i) => (i ? ctx.lineTo(x, y) : ctx.moveTo(x, y)));
    }

    _line(ctx, s, bbox, ratio) {
      for (const run of this.#runs(s)) {
        this.#trace(ctx, run);
        if (run.length > 1) ctx.stroke();
        else ctx.fillRect(run[0][0] - ratio, run[0][1] - ratio, 3 * ratio, 3 * ratio);
      }
    }

    _step(ctx, s, bbox, ratio) {
      this._line(ctx, s, bbox, ratio);
    }

    _linked(ctx, s, bbox, ratio) {
      this._line(ctx, s, bbox, ratio);
      for (const [x, y] of this.#runs(s).flat()) this.#dot(ctx, x, y, 4 * ratio, true);
    }

    _area(ctx, s, bbox, ratio, opacity = 0.28) {
      const base = this.u.valToPos(this.spec[s.axis].kind === "log" ? this.u.scales[s.axis].min : 0, s.axis, true);
      for (const run of this.#runs(s)) {
        this.#trace(ctx, run);
        ctx.stroke();
        ctx.lineTo(run.at(-1)[0], base);
        ctx.lineTo(run[0][0], base);
        ctx.globalAlpha = opacity;
        ctx.fill();
        ctx.globalAlpha = 1;
      }
    }

    _stack(ctx, s, bbox, ratio) {
      const paint = ctx.fillStyle;
      ctx.fillStyle = colour("surface");
      this._area(ctx, s, bbox, ratio, 1);
      ctx.fillStyle = paint;
      this._area(ctx, s, bbox, ratio, 0.75);
    }

    _level(ctx, s, bbox) {
      const y = this.u.valToPos(s.y[0], s.axis, true);
      this.#trace(ctx, [[bbox.left, y], [bbox.left + bbox.width, y]]);
      ctx.stroke();
    }

    _vertical(ctx, s, bbox) {
      const x = this.u.valToPos(s.x[0], "x", true);
      this.#trace(ctx, [[x, bbox.top], [x, bbox.top + bbox.height]]);
      ctx.stroke();
    }

    _rects(ctx, s) {
      ctx.globalAlpha = 0.75;
      s.x.forEach((at, i) => {
        const [left, right] = [this.u.valToPos(0, "x", true), this.u.valToPos(at, "x", true)];
        const [top, bottom] = [this.u.valToPos(s.y[i], s.axis, true), this.u.valToPos(s.y[i] - 1, s.axis, true)];
        ctx.fillRect(left, top, right - left, bottom - top);
      });
      ctx.globalAlpha = 1;
    }

    _marks(ctx, s, bbox, ratio) {
      ctx.font = `${11 * ratio}px system-ui, sans-serif`;
      ctx.textAlign = "center";
      ctx.textBaseline = "top";
      for (const at of s.x) ctx.fillText(SYMBOLS[s.symbol], this.u.valToPos(at, "x", true), bbox.top + ratio);
    }

    _points(ctx, s, bbox, ratio) {
      ctx.font = `${12 * ratio}px system-ui, sans-serif`;
      ctx.textBaseline = "middle";
      s.x.forEach((at, i) => {
        if (at === null || s.y[i] === null) return;
        const [x, y] = [this.u.valToPos(at, "x", true), this.u.valToPos(s.y[i], s.axis, true)];
        const [ex, ey] = [s.ex?.[i] ?? 0, s.ey?.[i] ?? 0];
        if (ex) this.#trace(ctx, [[this.u.valToPos(Math.max(at - ex, this.window[0]), "x", true), y], [this.u.valToPos(at + ex, "x", true), y]]), ctx.stroke();
        if (ey) this.#trace(ctx, [[x, this.u.valToPos(s.y[i] - ey, s.axis, true)], [x, this.u.valToPos(s.y[i] + ey, s.axis, true)]]), ctx.stroke();
        this.#dot(ctx, x, y, s.radius * ratio, !s.hollow);
        if (s.named) this.#name(ctx, s.name, x, y, bbox, ratio);
      });
    }

    /** Write a point's name next to it, where it covers no other name; the legend has the others. */
    #name(ctx, name, x, y, bbox, ratio) {
      const [width, height] = [ctx.measureText(name).width, 14 * ratio];
      const left = x + 9 * ratio + width < bbox.left + bbox.width ? x + 9 * ratio : x - 9 * ratio - width;
      for (const middle of [y - 9 * ratio, y + 9 * ratio]) {
        const covers = this.names.some((n) => left < n.left + n.width && n.left < left + width && Math.abs(n.middle - middle) < height);
        if (covers) continue;
        ctx.textAlign = "left";
        ctx.fillText(name, left, middle);
        this.names.push({ left, width, middle });
        return;
      }
    }

    #dot(ctx, x, y, radius, filled) {
      ctx.beginPath();
      ctx.arc(x, y, radius, 0, 2 * Math.PI);
      if (filled) ctx.fill();
      else ctx.stroke();
    }

    #legend(legend) {
      this.when = node("span", "", "when");
      this.values = this.series.map((s) => {
        const key = node("button", "", "key");
        key.type = "button";
        key.title = "Show or hide this series";
        key.setAttribute("aria-pressed", "true");
        const swatch = node("i", s.symbol ? SYMBOLS[s.symbol] : "", `swatch ${s.symbol ? "symbol" : s.dash ? "dashed" : s.shape}`);
        swatch.style.setProperty("--tone", `var(--${s.colour})`);
        swatch.setAttribute("aria-hidden", "true");
        const value = node("b");
        key.append(swatch, node("span", s.name), value);
        key.addEventListener("click", () => {
          s.shown = !s.shown;
          key.setAttribute("aria-pressed", String(s.shown));
          if (this.u) this.#zoom(this.window);
        });
        legend.append(key);
        return value;
      });
      legend.append(this.when);
    }

    #read() {
      const { left, top } = this.u.cursor;
      const off = left === undefined || left < 0;
      if (this.scatter) return this.#readPoint(left, top, off);
      const at = off ? null : this.u.posToVal(left, "x");
      this.series.forEach((s, k) => { this.values[k].textContent = off ? "" : this.#valueAt(s, at, left); });
      this.when.textContent = off ? "" : `at ${FORMATS[this.spec.x.format](at)}${this.spec.x.kind === "utc" ? " UTC" : ""}`;
    }

    #valueAt(s, at, left) {
      const format = FORMATS[this.spec[s.axis].format];
      if (s.shape === "level") return format(s.y[0]);
      if (s.shape === "vertical") return "";
      if (s.shape === "rects") return `${s.x.filter((x) => x >= at).length}`;
      let i = after(s.x, at) - 1;
      if (s.shape === "marks") {
        i += i + 1 < s.x.length && (i < 0 || s.x[i + 1] - at < at - s.x[i]) ? 1 : 0;
        return i >= 0 && Math.abs(this.u.valToPos(s.x[i], "x") - left) < 6 ? `${s.y[i]}` : "";
      }
      if (s.shape === "line" && i + 1 < s.x.length && (i < 0 || s.x[i + 1] - at < at - s.x[i])) i += 1;
      const value = i >= 0 ? s.y[i] : null;
      return value === null || value === undefined ? "–" : format(value);
    }

    #readPoint(left, top, off) {
      let best = null;
      for (const s of off ? [] : this.series.filter((o) => o.shown && (o.shape === "points" || o.shape === "linked"))) {
        s.x.forEach((at, i) => {
          if (at === null || s.y[i] === null) return;
          const distance = Math.hypot(this.u.valToPos(at, "x") - left, this.u.valToPos(s.y[i], s.axis) - top);
          if (distance < 24 && (!best || distance < best.distance)) best = { distance, s, i };
        });
      }
      const { x, y } = this.spec;
      this.when.textContent = best ? `${best.s.labels?.[best.i] ?? best.s.name}: ${FORMATS[x.format](best.s.x[best.i])}, ${FORMATS[y.format](best.s.y[best.i])}` : "";
    }

    #key(event) {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by === undefined || !this.u) return;
      event.preventDefault();
      const { over, cursor } = this.u;
      const left = (cursor.left >= 0 ? cursor.left : over.clientWidth) + (by * over.clientWidth) / 100;
      this.u.setCursor({ left: Math.min(over.clientWidth - 1, Math.max(0, left)), top: over.clientHeight / 2 });
    }
  }

  document.addEventListener("DOMContentLoaded", () => {
    probe.hidden = true;
    document.body.append(probe);
    const charts = [...document.querySelectorAll("figure.chart")].map((figure) => new Chart(figure));
    const redraw = () => charts.forEach((chart) => chart.redraw());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    addEventListener("beforeprint", () => {
      document.documentElement.style.colorScheme = "light";
      charts.forEach((chart) => chart.u && chart.fit(Math.min(PRINT_WIDTH, chart.holder.clientWidth)));
      redraw();
    });
    addEventListener("afterprint", () => {
      document.documentElement.style.colorScheme = "";
      charts.forEach((chart) => chart.u && chart.fit());
      redraw();
    });
  });
})();
