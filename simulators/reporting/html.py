"""Pages that load nothing from elsewhere: templates with plotly inlined once, for light and dark screens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

GREY: Final = "#7d8794"
"""Reads on white and on black."""
GRID: Final = "rgba(125, 135, 148, 0.22)"
COLOURS: Final = ("#2f6fde", "#d9622b", "#14937f", "#9a4fd0", "#b8860b", "#c43d6b", "#5b8c2a", "#4f7f9c", "#8d6e63")
"""Of equal weight on white and on black, told apart by the colour-blind as far as nine can be."""
ENVIRONMENT: Final = Environment(
    loader=PackageLoader("simulators.reporting"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
CONFIG: Final = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["lasso2d", "select2d"]}


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot with its title and a sentence about it; `name` is its id, unique in a page."""

    name: str
    title: str
    words: str
    arguments: Markup
    """What `Plotly.newPlot` is called with, as JSON that can stand inside a script."""


def render(template: str, **data: Any) -> str:
    """Return the page that a template of `templates/` makes of data; all text in it is escaped."""
    return ENVIRONMENT.get_template(template).render(plotlyjs=Markup(get_plotlyjs()), **data)  # noqa: S704 - plotly's own


def figure(**layout: Any) -> Any:
    """Return an empty plot in the house's looks."""
    axis = {"gridcolor": GRID, "linecolor": GRID, "zerolinecolor": GRID}
    made = go.Figure(
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
    made.update_layout(**layout)
    made.update_xaxes(**axis)
    made.update_yaxes(automargin=True, **axis)
    return made


def plot(made: Any, name: str, title: str, words: str = "") -> Plot:
    """Return a plotly figure for a page."""
    data = json.loads(made.to_json())
    arguments = ",".join(_script(part) for part in (name, data["data"], data["layout"], CONFIG))
    return Plot(name, title, words, Markup(arguments))  # noqa: S704 - nothing in it can end the script


def _script(value: Any) -> str:
    """JSON that can stand inside a script."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
