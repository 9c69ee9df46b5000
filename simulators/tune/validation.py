"""What the proof says of each point: whether its gain is more than noise, and whether it is over-fitted.

The proof is traffic that the search never saw. Every point is compared with what runs today, batch by batch of the same
time; p-values are adjusted (Holm) for there being several points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from simulators.experiments import statistics
from simulators.experiments.statistics import LEVEL, Difference
from simulators.tune.objectives import Figures, dearer, figures, later
from simulators.tune.study import CompletedTrial
from simulators.tune.trial import TrialOutcome

SHRUNK: Final = 0.5
"""A gain of which less than this share is left on other traffic was fitted to the search's, or the traffic differs."""
Promise = Literal["kept", "kept, within noise", "missed, within noise", "missed"]
Gain = Literal["cheaper", "dearer", "noise"]


@dataclass(frozen=True, slots=True)
class Proven:
    """A point on traffic that the search never saw, against what runs there today.

    `cost` is the difference in USD a month, `late` that in the share of late requests; `p` is adjusted for all points.
    `searched_share` and `proven_share` are the shares of the cost saved, on the search's traffic and on the proof's.
    """

    tried: CompletedTrial
    figures: Figures
    cost: Difference
    late: Difference
    p: float
    searched_share: float
    proven_share: float
    promise: Promise
    fitted: str

    @property
    def gain(self) -> Gain:
        """What the difference in cost is, once noise is allowed for."""
        if math.isnan(self.p) or self.p >= 1 - LEVEL:
            return "noise"
        return "cheaper" if self.cost.estimate.mean < 0 else "dearer"

    @property
    def kept(self) -> bool:
        """Whether the promise was kept, by the figure itself."""
        return self.promise.startswith("kept")

    @property
    def late_per_month(self) -> float:
        """How many more requests a month are late than today. Negative: fewer."""
        return self.late.estimate.mean * self.figures.requests_per_month


def proven(
    points: Sequence[CompletedTrial],
    outcomes: Mapping[int, TrialOutcome],
    today: tuple[Figures | None, Figures],
    allowed: float,
) -> list[Proven]:
    """Return each point with its validation. `today` is today's configuration on tuning and on validation traffic.

    A point that could not be proved is left out: `outcomes` by trial.
    """
    told = [(p, figures(outcomes[p.number].played)) for p in points if outcomes[p.number].played]
    costs = [dearer(found, today[1]) for _, found in told]
    adjusted = statistics.holm([c.p for c in costs])
    return [
        _proven(one, found, cost, p, today, allowed)
        for (one, found), cost, p in zip(told, costs, adjusted, strict=True)
    ]


def _proven(  # noqa: PLR0913 - one row of what was found
    one: CompletedTrial,
    found: Figures,
    cost: Difference,
    p: float,
    today: tuple[Figures | None, Figures],
    allowed: float,
) -> Proven:
    before, now = today
    searched = saved(one.figures, before) if before is not None else math.nan
    here = saved(found, now)
    return Proven(
        tried=one,
        figures=found,
        cost=cost,
        late=later(found, now),
        p=p,
        searched_share=searched,
        proven_share=here,
        promise=promise(found, allowed),
        fitted=fitted(one.figures, found, allowed, searched, here),
    )


def saved(a: Figures, b: Figures) -> float:
    """Return the share of `b`'s cost that `a` saves. NaN where `b` costs nothing."""
    return 1 - a.usd_per_month / b.usd_per_month if b.usd_per_month else math.nan


def promise(found: Figures, allowed: float) -> Promise:
    """Whether the promise was kept, and whether the interval leaves doubt."""
    told = found.in_time()
    if math.isnan(told.mean):
        return "missed, within noise"
    doubt = math.nan if math.isnan(told.half_width) else told.half_width
    if found.late_share <= allowed:
        return "kept" if 1 - told.mean + doubt <= allowed else "kept, within noise"
    return "missed" if 1 - told.mean - doubt > allowed else "missed, within noise"


def fitted(searched: Figures, found: Figures, allowed: float, gain: float, left: float) -> str:
    """Why a point is over-fitted to the search's traffic; empty if there is no sign of it.

    `gain` is the share of the cost saved on the search's traffic, `left` that on the proof's.
    """
    if searched.late_share <= allowed < found.late_share:
        return (
            f"kept the promise on the search's traffic ({searched.late_share:.2%} late) and not on the rest"
            f" ({found.late_share:.2%}, {allowed:.2%} allowed)"
        )
    if gain > 0 and left < SHRUNK * gain:
        return f"saves {gain:.1%} on the search's traffic, and {left:.1%} on the rest, or that is of another kind"
    return ""


def dared(found: Sequence[Proven], chosen: int, today: Promise) -> tuple[Proven | None, str]:
    """The point to deploy, and why: the search's own choice if the proof bears it out, else the cheapest safer one.

    `today` is what the proof says of what runs now. None where no point is better than that: then it is to stay.
    """
    kept_today = today.startswith("kept")
    first = next((p for p in found if p.tried.number == chosen), None)
    if first is not None and _better(first, kept_today):
        return first, "the search's own choice, and the proof bears it out"
    if first is not None and first.kept and first.cost.estimate.mean == 0:
        return None, "nothing that keeps the promise on the search's traffic is cheaper than what runs today"
    for other in sorted(found, key=lambda p: p.figures.usd_per_month):
        safer = first is None or other.tried.figures.late_share <= first.tried.figures.late_share
        if safer and _better(other, kept_today):
            said = "the proof does not bear out the search's own choice; this is the cheapest safer point that it does"
            return other, f"{said}: as the proof chose it, prove it on other traffic too"
    if first is not None and first.kept and first.gain == "noise":
        return None, "what the search chose gains nothing beyond noise, and no safer point does"
    if kept_today:
        return None, "no point is both cheaper than what runs today and within the promise on unseen traffic"
    return None, "no point keeps the promise on unseen traffic, and neither does what runs today"


def _better(one: Proven, kept_today: bool) -> bool:
    """Within the promise, and cheaper beyond noise than what keeps it today."""
    return one.kept and (one.gain == "cheaper" or not kept_today)
