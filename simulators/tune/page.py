"""Page of a search's result.

It shows the recommendation, the front, the importance of settings, and the runs before and after.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from simulators.reporting import html
from simulators.reporting.charts import GREY, Axis, Chart, Series
from simulators.reporting.html import BarPart
from simulators.reporting.page import page_of_runs
from simulators.reporting.plots import level
from simulators.reporting.text import percent
from simulators.tune.objectives import Figures
from simulators.tune.result import TuneResult
from simulators.tune.space import Space, to_yaml
from simulators.tune.text import HEAD, headline, label, notes, over_fitted, rows
from simulators.tune.verdict import VerdictKind

IMPORTANCE_KEYS: Final = (("for cost", "c1"), ("for SLO violations", "c2"))


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
    importance = html.PageBars(
        "tune-importance", "Importance of the settings", importance_note, _importance(result), IMPORTANCE_KEYS
    )
    return {
        "verdict_class": "lead" if result.verdict.kind is VerdictKind.DEPLOY else "lead bad",
        "headline": headline(result),
        "notes": list(notes(result)),
        "front": html.PagePlot("tune-front", "Cost and SLO violations", front_note, _front(result)),
        "head": ["point", *HEAD],
        "points": [(name, *cells) for name, cells in rows(result)],
        "over_fitted": list(over_fitted(result)),
        "settings_head": ["setting", "today", *(f"point {k}" for k, _ in enumerate(result.points, 1))],
        "settings": list(_settings(result, space)),
        "importance": [importance] if result.importance else [],
    }


def _settings(result: TuneResult, space: Space) -> Iterator[Sequence[str]]:
    for path, present in space.present.items():
        yield (path.removeprefix("."), to_yaml(present), *(to_yaml(p.settings[path]) for p in result.points))


def _front(result: TuneResult) -> Chart:
    trials_shown = [t for t in result.completed if t.figures.late_share <= 4 * max(result.allowed, 1e-3)]
    labels = [f"trial {t.number}" for t in trials_shown]
    series = [
        _points("trials", [t.figures for t in trials_shown], GREY, labels=labels, radius=2.5),
        _points("front, tuning traffic", [p.figures for p in result.points], "c1", shape="linked"),
    ]
    validated = [p.figures for p in result.validated]
    labels = [f"point {label(result, p.trial)}" for p in result.validated]
    series.append(
        dataclasses.replace(
            _points("front, validation traffic", validated, "c2", labels=labels, hollow=True),
            error_y=np.array([f.attainment().half_width for f in validated]),
        )
    )
    if result.today_tuning is not None:
        series.append(_points("today, tuning traffic", [result.today_tuning], "c4"))
    if result.today_validation is not None:
        series.append(_points("today, validation traffic", [result.today_validation], "c4", hollow=True))
    return Chart(
        x=Axis(title="USD per month", format="usd"),
        y=Axis(title="SLO violations", format="share", low=0),
        series=[*(s for s in series if len(s.y)), level(f"{percent(result.allowed)} allowed", result.allowed)],
    )


def _points(name: str, figures: Sequence[Figures], colour: str, **options: Any) -> Series:
    """Return the cost and the late share of trials as points."""
    x, y = (np.array([getattr(f, key) for f in figures], np.float64) for key in ("usd_per_month", "late_share"))
    return Series(name=name, x=x, y=y, colour=colour, **{"shape": "points", **options})


def _importance(result: TuneResult) -> list[tuple[str, list[BarPart], str]]:
    """Return two bars for each setting: its importance for the cost and for SLO violations."""
    rows = []
    for setting in result.importance:
        for name, value, colour in (("cost", setting.cost, "c1"), ("SLO violations", setting.late, "c2")):
            if math.isfinite(value):
                title = f"{setting.path.removeprefix('.')}, for {name}"
                rows.append((title, [BarPart(value, f"{value:.0%}", colour)], f"{value:.0%}"))
    return rows
