"""Charts of a page as plain data: the page's own script draws them.

A chart has one x axis, one or two y axes and any number of series. A value that no one knows is NaN: a gap.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from simulators.reporting.time_bins import Floats, rounded

COLOURS: Final = tuple(f"c{k}" for k in range(1, 10))
"""The colours of series, by the names of `style.css`: as distinct for colour-blind readers as nine can be."""
GREY: Final = "c0"
BAD: Final = "bad"
BODY_QUANTILE: Final = 0.98
"""The share of a series' values that counts as its normal range."""
SIMILAR: Final = 4.0
"""Normal ranges within this factor of the smallest common one share the linear part of an axis."""
SPIKE: Final = 3.0
"""Values above this multiple of the linear part compress the axis above it."""
KNEE_ROOM: Final = 1.15
NEGLIGIBLE: Final = 1e-5
"""Normal ranges below this share of the maximum are drawn as 0."""
Format = Literal["number", "share", "usd", "seconds", "utc"]
Shape = Literal["line", "step", "area", "stack", "level", "vertical", "rects", "marks", "points", "linked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """An axis. `low` and `high` fix its ends; `format` shows its values.

    A linear y axis with a spike is compressed above its knee, so that one spike does not flatten everything else.
    """

    title: str
    kind: Literal["linear", "log", "utc"] = "linear"
    format: Format = "number"
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A series of a chart.

    A step keeps its value until the next point. Series of the shape `stack` have the same `x`. A `level` is a
    horizontal line at its one value, a `vertical` one at its one x. `rects` are bars of height 1 below each y, from 0
    to each x. `marks` are symbols at the top, and y their counts. `linked` are points on a line.
    """

    name: str
    x: Floats
    y: Floats
    colour: str
    shape: Shape = "line"
    right: bool = False
    dash: bool = False
    symbol: str = ""
    labels: Sequence[str] = ()
    error_x: Floats | None = None
    error_y: Floats | None = None
    radius: float = 5.0
    hollow: bool = False
    named: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart.

    `bands` are shaded spans: start, end, and the name of a colour. Charts of a `group` share a cursor.
    """

    x: Axis
    y: Axis
    series: Sequence[Series]
    right: Axis | None = None
    bands: Sequence[tuple[float, float, str]] = field(default_factory=tuple)
    group: str = ""

    @property
    def summary(self) -> str:
        """The range of each series as text, for readers who do not see the chart."""
        return "; ".join(_range_text(series) for series in self.series if series.shape not in {"level", "vertical"})

    def script(self, points: int) -> Markup:
        """Return the chart as JSON that is safe inside a script.

        A series has at most about `points` points.
        """
        xs: list[list[float | None]] = []
        series = [_as_dict(one, xs, utc=self.x.kind == "utc") for one in thinned(self.series, points)]
        data = {
            "x": _axis(self.x),
            "y": {**_axis(self.y), "knee": self._knee(right=False)},
            "right": None if self.right is None else {**_axis(self.right), "knee": self._knee(right=True)},
            "xs": xs,
            "series": series,
            "bands": self.bands,
            "group": self.group,
        }
        text = json.dumps(data, separators=(",", ":"), allow_nan=False)
        return Markup(text.replace("<", "\\u003c"))  # noqa: S704 - nothing in it can end the script

    def _knee(self, *, right: bool) -> float | None:
        axis = self.right if right else self.y
        if axis is None or axis.kind != "linear" or axis.high is not None:
            return None
        drawn = [s for s in self.series if s.right == right and s.shape not in {"level", "vertical", "marks", "points"}]
        stacked = [s.y for s in drawn if s.shape == "stack"]
        values = [s.y for s in drawn if s.shape != "stack"] + ([np.nansum(stacked, axis=0)] if stacked else [])
        return knee(values)


def knee(values: Sequence[Floats]) -> float | None:
    """Return the end of the linear part of an axis; None if all of it is linear.

    Each series has a normal range, which its largest 2 % exceed. The linear part covers the normal ranges within a
    factor of 4 of their lower median. With 98 values to 10 and two of 400, it ends at 11.5. None if the maximum is
    within 3 times the linear part, or if all else is negligible.
    """
    known = [v[np.isfinite(v)] for v in values]
    top = max((float(v.max()) for v in known if v.size), default=0.0)
    bodies = sorted(float(np.quantile(v, BODY_QUANTILE, method="lower")) for v in known if v.size)
    bodies = [body for body in bodies if body > NEGLIGIBLE * top]
    if not bodies:
        return None
    middle = bodies[(len(bodies) - 1) // 2]
    linear = KNEE_ROOM * max(body for body in bodies if body <= SIMILAR * middle)
    return float(f"{linear:.4g}") if top > SPIKE * linear else None


def thinned(series: Sequence[Series], points: int) -> Iterator[Series]:
    """Yield series with at most about `points` points each. Their peaks remain."""
    stacked = [s for s in series if s.shape == "stack"]
    in_stack = kept(np.nansum([s.y for s in stacked], axis=0), points) if stacked else np.zeros(0, np.int64)
    for s in series:
        rows = in_stack if s.shape == "stack" else kept(s.y, points)
        yield s if len(rows) == len(s.y) else _at(s, rows)


def kept(values: Floats, points: int) -> NDArray[np.int64]:
    """Return the indices of at most about `points` values that keep the peaks.

    Each of `points` / 2 equal parts keeps its largest and smallest value, and its first gap. The ends remain.
    """
    if len(values) <= points:
        return np.arange(len(values))
    bounds = np.linspace(0, len(values), max(1, points // 2) + 1).astype(np.int64)
    indices = [0, len(values) - 1]
    for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        part = values[start:end]
        gaps = np.flatnonzero(np.isnan(part))
        if len(gaps):
            indices.append(start + int(gaps[0]))
        if len(gaps) < len(part):
            indices += [start + int(np.nanargmax(part)), start + int(np.nanargmin(part))]
    return np.unique(indices)


def _at(s: Series, rows: NDArray[np.int64]) -> Series:
    """Return the series with these rows only."""
    return dataclasses.replace(
        s,
        x=s.x[rows],
        y=s.y[rows],
        labels=[s.labels[k] for k in rows] if s.labels else (),
        error_x=None if s.error_x is None else s.error_x[rows],
        error_y=None if s.error_y is None else s.error_y[rows],
    )


def stepped(edges: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Return the x and y of a step that has each value from its edge to the next one."""
    return edges, np.append(values, values[-1]) if len(values) else np.zeros(0)


def json_numbers(values: Floats) -> list[float | None]:
    """Return rounded values for JSON: None where not finite, and no ``.0``."""
    return [(int(v) if v.is_integer() else v) if np.isfinite(v) else None for v in rounded(values).tolist()]


def _axis(axis: Axis) -> dict[str, Any]:
    return {"kind": axis.kind, "format": axis.format, "low": axis.low, "high": axis.high}


def _as_dict(s: Series, xs: list[list[float | None]], *, utc: bool) -> Mapping[str, Any]:
    """Return a series as plain data. Its x is an index of `xs`, where equal ones are once."""
    x: list[float | None] = [round(v) for v in s.x.tolist()] if utc else json_numbers(s.x)
    if x not in xs:
        xs.append(x)
    data = {
        "name": s.name,
        "x": xs.index(x),
        "y": json_numbers(s.y),
        "colour": s.colour,
        "shape": s.shape,
        "axis": "right" if s.right else "y",
        "dash": s.dash,
        "symbol": s.symbol,
        "labels": list(s.labels),
        "ex": None if s.error_x is None else json_numbers(s.error_x),
        "ey": None if s.error_y is None else json_numbers(s.error_y),
        "radius": s.radius if s.shape == "points" else None,
        "hollow": s.hollow,
        "named": s.named,
    }
    return {key: value for key, value in data.items() if value or key == "x"}


def _range_text(series: Series) -> str:
    known = series.y[np.isfinite(series.y)]
    return f"{series.name}: {known.min():.4g} to {known.max():.4g}" if known.size else f"{series.name}: no value"
