"""Page of a search's result.

It shows the recommendation, the front, the importance of settings, and the runs before and after.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

from simulators.reporting import html
from simulators.reporting.page import page_of_runs
from simulators.reporting.text import percent
from simulators.tune.result import TuneResult
from simulators.tune.space import Space, to_yaml
from simulators.tune.text import HEAD, headline, label, notes, over_fitted, rows
from simulators.tune.verdict import VerdictKind

DIGITS: Final = 6
"""Significant digits of a number in a plot."""


def page(result: TuneResult, space: Space) -> str:
    """Return the page as HTML: equal for equal results."""
    data = _view(result, space)
    if result.runs_data:
        return page_of_runs(result.runs_data, "tuning.html.j2", **data)
    title = f"{result.study_info['scenario']}: tuning result"
    return html.render("tuning.html.j2", title=title, heading=title, runs=[], **data)


def _view(result: TuneResult, space: Space) -> dict[str, Any]:
    front_note = (
        "Grey dots: trials on the tuning traffic. Line: their Pareto front. Circles: the same points on the held-out"
        " validation traffic, with 95 % intervals. Down and to the left is better."
    )
    importance_note = (
        "Share of each setting in the differences between trials (PED-ANOVA). Low: safe to leave unchanged."
    )
    importance = html.plot(_importance(result), "tune-importance", "Importance of the settings", importance_note)
    return {
        "verdict_class": "lead" if result.verdict.kind is VerdictKind.DEPLOY else "lead bad",
        "headline": headline(result),
        "notes": list(notes(result)),
        "front": html.plot(_front(result), "tune-front", "Cost and SLO violations", front_note),
        "head": ["", *HEAD],
        "points": [(name, *cells) for name, cells in rows(result)],
        "over_fitted": list(over_fitted(result)),
        "settings_head": ["", "today", *(f"point {k}" for k, _ in enumerate(result.points, 1))],
        "settings": list(_settings(result, space)),
        "importance": [importance] if result.importance else [],
    }


def _settings(result: TuneResult, space: Space) -> Iterator[Sequence[str]]:
    for path, present in space.present.items():
        yield (path.removeprefix("."), to_yaml(present), *(to_yaml(p.settings[path]) for p in result.points))


def _front(result: TuneResult) -> Any:
    figure = html.figure(
        xaxis={"title": {"text": "USD per month"}},
        yaxis={"title": {"text": "SLO violations"}, "tickformat": ".2%", "rangemode": "tozero"},
        hovermode="closest",
        height=420,
    )
    trials_shown = [t for t in result.completed if t.figures.late_share <= 4 * max(result.allowed, 1e-3)]
    figure.add_scatter(
        name="trials", mode="markers", x=[_number(t.figures.usd_per_month) for t in trials_shown],
        y=[_number(t.figures.late_share) for t in trials_shown], text=[f"trial {t.number}" for t in trials_shown],
        marker={"size": 5, "color": html.GREY, "opacity": 0.5},
    )  # fmt: skip
    figure.add_scatter(
        name="front, tuning traffic", mode="lines+markers",
        x=[_number(p.figures.usd_per_month) for p in result.points],
        y=[_number(p.figures.late_share) for p in result.points],
        text=[f"point {label(result, p)}" for p in result.points],
        line={"color": html.COLOURS[0], "shape": "vh", "width": 1.6}, marker={"size": 8},
    )  # fmt: skip
    validated = [p.figures for p in result.validated]
    half_widths = [f.attainment().half_width for f in validated]
    figure.add_scatter(
        name="front, validation traffic", mode="markers", x=[_number(f.usd_per_month) for f in validated],
        y=[_number(f.late_share) for f in validated],
        text=[f"point {label(result, p.trial)}" for p in result.validated],
        error_y={
            "array": [_number(half_width) for half_width in half_widths],
            "arrayminus": [_number(min(h, f.late_share)) for h, f in zip(half_widths, validated, strict=True)],
        },
        marker={"size": 10, "symbol": "circle-open", "color": html.COLOURS[1], "line": {"width": 2}},
    )  # fmt: skip
    today = (
        ("today, tuning traffic", result.today_tuning, "x"),
        ("today, validation traffic", result.today_validation, "x-open"),
    )
    for name, figures, symbol in today:
        if figures is not None:
            figure.add_scatter(
                name=name, mode="markers", x=[_number(figures.usd_per_month)], y=[_number(figures.late_share)],
                marker={"size": 11, "symbol": symbol, "color": html.COLOURS[3]},
            )  # fmt: skip
    figure.add_hline(y=result.allowed, line={"color": "#b42318", "dash": "dash", "width": 1.4})
    figure.add_annotation(
        x=1, xref="paper", y=result.allowed, text=f"{percent(result.allowed)} allowed", showarrow=False, yshift=9
    )
    return figure


def _importance(result: TuneResult) -> Any:
    settings = result.importance[::-1]
    figure = html.figure(
        xaxis={"title": {"text": "importance"}, "tickformat": ".0%", "rangemode": "tozero"},
        height=90 + 34 * len(settings),
    )
    names = [setting.path.removeprefix(".") for setting in settings]
    figure.add_bar(name="for cost", y=names, x=[_number(setting.cost) for setting in settings], orientation="h")
    figure.add_bar(
        name="for SLO violations", y=names, x=[_number(setting.late) for setting in settings], orientation="h"
    )
    return figure


def _number(value: float) -> float | None:
    """Return a number with few digits for a plot; None if it is not finite."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
