"""A page that needs nothing from elsewhere: plotly once, plots, tables and words, for light and dark screens."""

from __future__ import annotations

import html
import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

GREY: Final = "#7d8794"
"""Reads on white and on black."""
GRID: Final = "rgba(125, 135, 148, 0.22)"
COLOURS: Final = ("#2f6fde", "#d9622b", "#14937f", "#9a4fd0", "#b8860b", "#c43d6b", "#5b8c2a", "#4f7f9c", "#8d6e63")
"""Of equal weight on white and on black, told apart by the colour-blind as far as nine can be."""
CONFIG: Final = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["lasso2d", "select2d"]}
STYLE: Final = """
:root { color-scheme: light dark; --text: light-dark(#171b22, #e4e8ee); --muted: light-dark(#5a6472, #98a3b3);
  --bg: light-dark(#f5f6f8, #0d1015); --surface: light-dark(#fff, #151920); --border: light-dark(#dfe3e8, #272d38);
  --good: light-dark(#16703b, #5fd08c); --bad: light-dark(#b42318, #ff8f85); }
body { margin: 0 auto; padding: 24px 20px 60px; max-width: 1180px; background: var(--bg); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; margin: 0 0 8px; } h2 { font-size: 19px; margin: 34px 0 8px; } h3 { font-size: 15px; margin: 0; }
p { max-width: 78ch; margin: 6px 0; } .lead { font-size: 17px; } .muted { color: var(--muted); font-size: 13px; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 10px; margin: 14px 0; }
.card, .plot, .table { background: var(--surface); border: 1px solid var(--border); border-radius: 8px; }
.card { padding: 10px 14px; } .card b { display: block; font-size: 19px; font-weight: 600; }
.card span { color: var(--muted); font-size: 13px; } .good { color: var(--good); } .bad { color: var(--bad); }
.plot { padding: 12px 8px 4px; margin: 12px 0; } .plot h3, .plot p { margin-left: 10px; }
.table { overflow-x: auto; margin: 12px 0; } table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { padding: 5px 12px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--border); }
th:first-child, td:first-child { text-align: left; } thead th { color: var(--muted); font-weight: 600; }
td { font-variant-numeric: tabular-nums; } .text { text-align: left; white-space: normal; overflow-wrap: anywhere; }
details { margin: 12px 0; } summary { cursor: pointer; } summary h2 { display: inline; }
pre { overflow-x: auto; font-size: 12.5px; }
"""
POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:;"
    " base-uri 'none'; form-action 'none'"
)
"""The page loads nothing and sends nothing. Its scripts and styles stand in it, and plotly writes styles as it draws,
which no hash can name; it saves a picture through `data:` and `blob:`."""
RESIZE: Final = (
    "document.querySelectorAll('details').forEach(d => d.addEventListener('toggle', () =>"
    " d.querySelectorAll('.js-plotly-plot').forEach(p => Plotly.Plots.resize(p))));"
)
"""A plot drawn while it was folded away knows no width."""


def document(title: str, parts: Iterable[str]) -> str:
    """The page. `parts` are HTML already."""
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">',
            f"<title>{text(title)}</title><style>{STYLE}</style>",
            f"<script>{get_plotlyjs()}</script></head><body>",
            *parts,
            f"<script>{RESIZE}</script></body></html>\n",
        ]
    )


def text(value: object) -> str:
    """Anything as text in a page."""
    return html.escape(str(value))


def tag(name: str, content: str, css: str = "") -> str:
    """An element around HTML."""
    return f'<{name} class="{css}">{content}</{name}>' if css else f"<{name}>{content}</{name}>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], prose: Collection[int] = ()) -> str:
    """A table of text; its first column names the rows, and the columns in `prose` hold words to be read."""
    styles = ["text" if k in prose else "" for k in range(len(head))]
    top = "".join(tag("th", text(cell), style) for cell, style in zip(head, styles, strict=True))
    body = "".join(
        tag("tr", "".join(tag("td", text(cell), style) for cell, style in zip(row, styles, strict=True)))
        for row in rows
    )
    return tag("div", tag("table", tag("thead", tag("tr", top)) + tag("tbody", body)), "table")


def cards(figures: Iterable[tuple[str, str, str]]) -> str:
    """Key figures: what, how much, and a class for its colour."""
    found = (tag("div", tag("span", text(what)) + tag("b", text(much), css), "card") for what, much, css in figures)
    return tag("div", "".join(found), "cards")


def figure(**layout: Any) -> Any:
    """An empty plot in the house's looks."""
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


def plot(made: Any, name: str, title: str, said: str = "") -> str:
    """A plot with its title and what there is to know of it. `name` must be the page's only one."""
    data = json.loads(made.to_json())
    arguments = ",".join(_script(part) for part in (name, data["data"], data["layout"], CONFIG))
    words = tag("h3", text(title)) + (tag("p", text(said), "muted") if said else "")
    drawn = f'<div id="{text(name)}"></div><script>Plotly.newPlot({arguments});</script>'
    return tag("div", words + drawn, "plot")


def _script(value: Any) -> str:
    """JSON that can stand inside a script."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
