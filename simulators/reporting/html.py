"""Self-contained pages: templates with inlined styles and scripts.

They suit phones, screens and paper, light and dark.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from simulators.reporting.charts import Chart

ENVIRONMENT: Final = Environment(
    loader=PackageLoader("simulators.reporting"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.filters["columns"] = lambda row, start, end: (row[0], *row[1:][start:end])
MAX_BYTES: Final = 1_400_000
"""The size that charts are thinned to. Bytes."""
POINTS: Final = (1600, 800, 400, 200, 100, 50)
"""The points of a series, as many as fit: a screen shows about 1,200."""
STATIC: Final = resources.files("simulators.reporting") / "static"
VENDOR: Final = resources.files("scaler.telemetry.dashboard") / "static" / "vendor"
"""The dashboard's chart library, which the pages share."""


@dataclass(frozen=True, slots=True)
class PagePlot:
    """A chart with its title and a note; `name` is its id, unique on a page."""

    name: str
    title: str
    note: str
    chart: Chart


@dataclass(frozen=True, slots=True)
class BarPart:
    """A part of a bar: its share of the longest bar, text, colour, and known bounds."""

    share: float
    text: str
    colour: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class PageBars:
    """Horizontal bars with their title and a note.

    A row has a name, parts from left to right, and the value as text. `keys` explains the colours, each with its name.
    """

    name: str
    title: str
    note: str
    rows: Sequence[tuple[str, Sequence[BarPart], str]]
    keys: Sequence[tuple[str, str]] = ()


def render(template: str, **data: Any) -> str:
    """Render a template of `templates/`. All text in it is escaped.

    Its charts get fewer points until the page is small enough. Their peaks remain.
    """
    scripts = [_text(VENDOR, "uPlot.iife.min.js"), _text(STATIC, "scales.js"), _text(STATIC, "charts.js")]
    shared = {
        "scripts": [Markup(script) for script in scripts],  # noqa: S704 - files of this package
        "hashes": " ".join(f"'sha256-{_sha256(script)}'" for script in scripts),
        "chart_style": Markup(_text(VENDOR, "uPlot.min.css")),  # noqa: S704 - a file of this package
    }
    page = ""
    for chart_points in POINTS:
        page = ENVIRONMENT.get_template(template).render(chart_points=chart_points, **shared, **data)
        if len(page.encode()) <= MAX_BYTES:
            break
    return page


def _text(folder: Traversable, name: str) -> str:
    return (folder / name).read_text(encoding="utf-8")


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
