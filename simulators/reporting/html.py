"""Self-contained pages: templates with plotly inlined once, for light and dark screens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from simulators.reporting.time_bins import Floats, rounded

GREY: Final = "#7d8794"
"""Readable on white and on black."""
GRID: Final = "rgba(125, 135, 148, 0.22)"
COLOURS: Final = ("#2f6fde", "#d9622b", "#14937f", "#9a4fd0", "#b8860b", "#c43d6b", "#5b8c2a", "#4f7f9c", "#8d6e63")
"""Colours of similar contrast on white and on black, as distinct for colour-blind readers as nine can be."""
ENVIRONMENT: Final = Environment(
    loader=PackageLoader("simulators.reporting"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
CONFIG: Final = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["lasso2d", "select2d"]}


@dataclass(frozen=True, slots=True)
class PagePlot:
    """A plot with its title and a note; `name` is its id, unique on a page."""

    name: str
    title: str
    note: str
    arguments: Markup
    """The arguments of `Plotly.newPlot`, as JSON that is safe inside a script."""


def render(template: str, **data: Any) -> str:
    """Render a template of `templates/`. All text in it is escaped."""
    return ENVIRONMENT.get_template(template).render(plotlyjs=Markup(get_plotlyjs()), **data)  # noqa: S704 - plotly's own


def figure(**layout: Any) -> Any:
    """Return an empty figure in the pages' style."""
    axis = {"gridcolor": GRID, "linecolor": GRID, "zerolinecolor": GRID}
    chart = go.Figure(
        layout={
            "template": "none",
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"color": GREY, "size": 12},
            "colorway": COLOURS,
            "height": 320,
            "margin": {"l": 62, "r": 62, "t": 12, "b": 44},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            "hovermode": "x unified",
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": "#2f6fde"},
            "hoverlabel": {"bgcolor": "#20262f", "font": {"color": "#e4e8ee"}},
        }
    )
    chart.update_layout(**layout)
    chart.update_xaxes(**axis)
    chart.update_yaxes(automargin=True, **axis)
    return chart


def line(name: str, x: Sequence[Any], y: Floats, colour: str, **options: Any) -> Any:
    """Return a line. `options` go to plotly; shape, width and dash go to its line style."""
    style: dict[str, Any] = {"color": colour, "width": 1.6}
    style |= {key: options.pop(key) for key in ("shape", "width", "dash") if key in options}
    return go.Scatter(name=name, x=list(x), y=json_numbers(y), mode="lines", line=style, **options)


def json_numbers(values: Floats) -> list[float | None]:
    """Return rounded values for JSON: None where not finite."""
    return [v if np.isfinite(v) else None for v in rounded(values).tolist()]


def plot(figure_: Any, name: str, title: str, note: str = "") -> PagePlot:
    """Return a plotly figure for a page."""
    data = json.loads(figure_.to_json())
    arguments = ",".join(_script_json(part) for part in (name, data["data"], data["layout"], CONFIG))
    return PagePlot(name, title, note, Markup(arguments))  # noqa: S704 - nothing in it can end the script


def _script_json(value: Any) -> str:
    """Return JSON that is safe inside a script."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
