"""The Pareto front of cost and late requests, its knee, and the search's choice.

Sources: J. Branke, K. Deb, H. Dierolf and M. Osswald, "Finding knees in multi-objective optimization" (PPSN 2004); V.
Satopää, J. Albrecht, D. Irwin and B. Raghavan, "Finding a Kneedle in a haystack" (ICDCS workshops 2011): the knee is
the point farthest below the line between the ends of the front.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from simulators.tune.objectives import figures
from simulators.tune.study import MAX_VIOLATION_FACTOR, CompletedTrial

MAX_POINTS: Final = 8
"""The maximum number of points that are validated and written."""
MIN_ALLOWED: Final = 1e-3
"""The front reaches at least up to this late share, however strict the SLO."""


def front(completed: Sequence[CompletedTrial], allowed: float) -> list[CompletedTrial]:
    """Return the trials that no other beats in both cost and late share, cheapest first.

    Trials far outside the SLO are dropped; if all are, the one with the lowest late share is returned. `allowed` is the
    share of requests that may be late. With 0.01 allowed, a trial with 0.015 late stays and one with 0.5 is dropped.
    """
    undominated: list[CompletedTrial] = []
    for trial in sorted(completed, key=lambda t: (t.figures.usd_per_month, t.figures.late_share, t.number)):
        if not undominated or trial.figures.late_share < undominated[-1].figures.late_share:
            undominated.append(trial)
    mappable = [t for t in undominated if t.figures.late_share <= max(MAX_VIOLATION_FACTOR * allowed, MIN_ALLOWED)]
    return mappable or undominated[-1:]


def knee(points: Sequence[CompletedTrial]) -> CompletedTrial | None:
    """Return the knee of a front; None if no point is below the line between its ends.

    Points of cost 1, 2 and 10 with 100, 10 and 0 late requests have their knee at cost 2.
    """
    if len(points) < 3:
        return None
    axes = np.array([[p.figures.usd_per_month, p.figures.late_share] for p in points])
    spans = np.ptp(axes, axis=0)
    if not spans.all():
        return None
    below = 1 - ((axes - axes.min(axis=0)) / spans).sum(axis=1)
    best = int(np.argmax(below))
    return points[best] if below[best] > 0 else None


def choice(points: Sequence[CompletedTrial], allowed: float) -> CompletedTrial:
    """Return the cheapest trial that meets the SLO on the tuning traffic.

    If none meets it, return the trial with the lowest late share. The best of hundreds may meet it by chance; the
    validation shows that.
    """
    meeting_slo = [p for p in points if p.figures.late_share <= allowed]
    if meeting_slo:
        return min(meeting_slo, key=lambda p: p.figures.usd_per_month)
    return min(points, key=lambda p: p.figures.late_share)


def pick_points(points: Sequence[CompletedTrial], allowed: float) -> list[CompletedTrial]:
    """Return up to `MAX_POINTS` points of a front.

    They are its ends, its knee, the choice, and others at even steps of cost.
    """
    if len(points) <= MAX_POINTS:
        return list(points)
    picked = {points[0].number, points[-1].number, choice(points, allowed).number}
    if (knee_point := knee(points)) is not None:
        picked.add(knee_point.number)
    costs = np.array([p.figures.usd_per_month for p in points])
    for cost in np.linspace(costs[0], costs[-1], MAX_POINTS):
        if len(picked) < MAX_POINTS:
            picked.add(points[int(np.argmin(np.abs(costs - cost)))].number)
    return [p for p in points if p.number in picked]


def leave_one_out(
    completed: Sequence[CompletedTrial], allowed: float, windows: int
) -> list[tuple[int, CompletedTrial, CompletedTrial]]:
    """Return, for each trace, the choice made without it.

    Each item is the trace number, that trial, and the trial on this trace alone.
    """
    if windows < 2:
        return []
    choices = []
    for window in range(windows):
        front_of_others = front([_restricted_to(t, window, exclude=True) for t in completed], allowed)
        chosen = choice(front_of_others, allowed)
        (trial,) = (t for t in completed if t.number == chosen.number)
        choices.append((window, chosen, _restricted_to(trial, window)))
    return choices


def _restricted_to(trial: CompletedTrial, window: int, *, exclude: bool = False) -> CompletedTrial:
    """Return a trial restricted to one trace, or to all others if `exclude`."""
    results = tuple(p for p in trial.results if (p.window == window) != exclude)
    return CompletedTrial(trial.number, trial.settings, results, figures(results))
