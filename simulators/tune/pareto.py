"""The front: configurations that no other undercuts in both cost and late requests, its knee, and which one to take.

Sources: J. Branke, K. Deb, H. Dierolf and M. Osswald, "Finding knees in multi-objective optimization" (PPSN 2004); V.
Satopää, J. Albrecht, D. Irwin and B. Raghavan, "Finding a Kneedle in a haystack" (ICDCS workshops 2011): the knee is
where the front is farthest below the line between its ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from simulators.tune.objectives import figures
from simulators.tune.study import FAR, CompletedTrial

POINTS: Final = 8
"""Of a front are proved and written: more would be a list, and not a choice."""
LEAST_PROMISE: Final = 1e-3
"""A front is drawn up to this share of late requests at the least, however strict the promise."""


def front(tried: Sequence[CompletedTrial], allowed: float) -> list[CompletedTrial]:
    """Those that none undercuts in both, from cheap to dear; of those far outside the promise only the nearest to it.

    `allowed` is the share of requests that may be late.
    """
    found: list[CompletedTrial] = []
    for one in sorted(tried, key=lambda t: (t.figures.usd_per_month, t.figures.late_share, t.number)):
        if not found or one.figures.late_share < found[-1].figures.late_share:
            found.append(one)
    near = [t for t in found if t.figures.late_share <= max(FAR * allowed, LEAST_PROMISE)]
    return near or found[-1:]


def knee(points: Sequence[CompletedTrial]) -> CompletedTrial | None:
    """Where a little less cost begins to take many more late requests; None where a front has no inside."""
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
    """Return the cheapest that keeps the promise on the search's traffic; where none does the one with the fewest late.

    The best of hundreds may keep it by luck: the proof is there to tell.
    """
    kept = [p for p in points if p.figures.late_share <= allowed]
    if kept:
        return min(kept, key=lambda p: p.figures.usd_per_month)
    return min(points, key=lambda p: p.figures.late_share)


def picked(points: Sequence[CompletedTrial], allowed: float) -> list[CompletedTrial]:
    """Up to `POINTS` of a front: its ends, its knee, the choice, and others at even steps of cost."""
    if len(points) <= POINTS:
        return list(points)
    kept = {points[0].number, points[-1].number, choice(points, allowed).number}
    if (bend := knee(points)) is not None:
        kept.add(bend.number)
    costs = np.array([p.figures.usd_per_month for p in points])
    for cost in np.linspace(costs[0], costs[-1], POINTS):
        if len(kept) < POINTS:
            kept.add(points[int(np.argmin(np.abs(costs - cost)))].number)
    return [p for p in points if p.number in kept]


def left_out(
    tried: Sequence[CompletedTrial], allowed: float, stretches: int
) -> list[tuple[int, CompletedTrial, CompletedTrial]]:
    """For each trace, what the others would have chosen: (its number, that trial, the trial on this trace alone)."""
    if stretches < 2:
        return []
    found = []
    for number in range(stretches):
        others = front([_only(t, number, without=True) for t in tried], allowed)
        chosen = choice(others, allowed)
        (whole,) = (t for t in tried if t.number == chosen.number)
        found.append((number, chosen, _only(whole, number)))
    return found


def _only(one: CompletedTrial, stretch: int, *, without: bool = False) -> CompletedTrial:
    """Return a trial by one trace alone, or by all but that."""
    played = tuple(p for p in one.played if (p.stretch == stretch) != without)
    return CompletedTrial(one.number, one.settings, played, figures(played))
