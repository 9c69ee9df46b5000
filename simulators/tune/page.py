"""What a search found, on a page: what to do, the front, what matters, and the replays of before and after."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

from simulators.reporting import html
from simulators.reporting.page import page_of_runs
from simulators.reporting.text import percent
from simulators.tune.result import TuneResult
from simulators.tune.space import Space, written
from simulators.tune.text import HEAD, headline, label, notes, over_fitted, rows

DIGITS: Final = 6
"""Of a number in a plot: more would only make the page larger."""


def page(result: TuneResult, space: Space) -> str:
    """Return the page as HTML: equal for equal results."""
    data = _view(result, space)
    if result.runs_data:
        return page_of_runs(result.runs_data, "tuning.html.j2", **data)
    title = f"{result.made['scenario']}: what was found"
    return html.render("tuning.html.j2", title=title, heading=title, runs=[], **data)


def _view(result: TuneResult, space: Space) -> dict[str, Any]:
    said = (
        "Each grey dot is a trial on the search's traffic; the line is its front. Circles: the same points on traffic"
        " that the search never saw, with 95 % intervals. Cheaper is left, fewer late is down."
    )
    meant = "Parts of what trials differ by (PED-ANOVA): what matters little is safe to leave as it is."
    importance = html.plot(_importance(result), "tune-importance", "Which settings matter", meant)
    return {
        "headline": headline(result),
        "notes": list(notes(result)),
        "front": html.plot(_front(result), "tune-front", "Cost and late requests", said),
        "head": ["", *HEAD],
        "points": [(name, *cells) for name, cells in rows(result)],
        "over_fitted": list(over_fitted(result)),
        "settings_head": ["", "today", *(f"point {k}" for k, _ in enumerate(result.points, 1))],
        "settings": list(_settings(result, space)),
        "importance": [importance] if result.importance else [],
    }


def _settings(result: TuneResult, space: Space) -> Iterator[Sequence[str]]:
    for path, before in space.present.items():
        yield (path.removeprefix("."), written(before), *(written(p.settings[path]) for p in result.points))


def _front(result: TuneResult) -> Any:
    made = html.figure(
        xaxis={"title": {"text": "USD a month"}},
        yaxis={"title": {"text": "share of requests late"}, "tickformat": ".2%", "rangemode": "tozero"},
        hovermode="closest",
        height=420,
    )
    near = [t for t in result.tried if t.figures.late_share <= 4 * max(result.allowed, 1e-3)]
    made.add_scatter(
        name="trials", mode="markers", x=[_n(t.figures.usd_per_month) for t in near],
        y=[_n(t.figures.late_share) for t in near], text=[f"trial {t.number}" for t in near],
        marker={"size": 5, "color": html.GREY, "opacity": 0.5},
    )  # fmt: skip
    made.add_scatter(
        name="front, search's traffic", mode="lines+markers", x=[_n(p.figures.usd_per_month) for p in result.points],
        y=[_n(p.figures.late_share) for p in result.points], text=[f"point {label(result, p)}" for p in result.points],
        line={"color": html.COLOURS[0], "shape": "vh", "width": 1.6}, marker={"size": 8},
    )  # fmt: skip
    made.add_scatter(
        name="the same, unseen traffic", mode="markers", x=[_n(p.figures.usd_per_month) for p in result.proven],
        y=[_n(p.figures.late_share) for p in result.proven],
        text=[f"point {label(result, p.tried)}" for p in result.proven],
        error_y={
            "array": [_n(p.figures.in_time().half_width) for p in result.proven],
            "arrayminus": [_n(min(p.figures.in_time().half_width, p.figures.late_share)) for p in result.proven],
        },
        marker={"size": 10, "symbol": "circle-open", "color": html.COLOURS[1], "line": {"width": 2}},
    )  # fmt: skip
    now = (("today, search's traffic", result.searched, "x"), ("today, unseen traffic", result.today, "x-open"))
    for name, found, symbol in now:
        if found is not None:
            made.add_scatter(
                name=name, mode="markers", x=[_n(found.usd_per_month)], y=[_n(found.late_share)],
                marker={"size": 11, "symbol": symbol, "color": html.COLOURS[3]},
            )  # fmt: skip
    made.add_hline(y=result.allowed, line={"color": "#b42318", "dash": "dash", "width": 1.4})
    made.add_annotation(
        x=1, xref="paper", y=result.allowed, text=f"{percent(result.allowed)} allowed", showarrow=False, yshift=9
    )
    return made


def _importance(result: TuneResult) -> Any:
    shown = result.importance[::-1]
    made = html.figure(
        xaxis={"title": {"text": "part"}, "tickformat": ".0%", "rangemode": "tozero"}, height=90 + 34 * len(shown)
    )
    names = [one.path.removeprefix(".") for one in shown]
    made.add_bar(name="for cost", y=names, x=[_n(one.cost) for one in shown], orientation="h")
    made.add_bar(name="for late requests", y=names, x=[_n(one.late) for one in shown], orientation="h")
    return made


def _n(value: float) -> float | None:
    """Return a number as a plot has it: few digits, none where there is none."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
