"""Validation of the front's points.

It decides whether a gain is more than noise, and whether a point is overfitted. The validation traffic is held out from
the search. Each point is compared with today's configuration, paired by batches of time; p-values are adjusted (Holm)
for the number of points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from simulators.experiments import statistics
from simulators.experiments.slo_outcome import fine_percent
from simulators.experiments.statistics import LEVEL, Difference
from simulators.reporting.text import percent
from simulators.tune.objectives import Figures, cost_difference, figures, late_difference
from simulators.tune.study import CompletedTrial
from simulators.tune.trial import TrialOutcome

MIN_GAIN_LEFT: Final = 0.5
"""The minimum share of the tuning gain on the validation traffic: with less the point counts as overfitted."""
SloVerdict = Literal["kept", "kept, within noise", "missed, within noise", "missed"]
CostVerdict = Literal["cheaper", "more expensive", "noise"]


@dataclass(frozen=True, slots=True)
class ValidatedPoint:
    """A point on the validation traffic, compared with today's configuration.

    `cost` is the difference in USD per month, `late` that in the late share; `p` is adjusted for all points.
    `tuning_share` and `validated_share` are the shares of the cost saved on the tuning and the validation traffic.
    """

    trial: CompletedTrial
    figures: Figures
    cost: Difference
    late: Difference
    p: float
    tuning_share: float
    validated_share: float
    slo_verdict: SloVerdict
    overfitting: str

    @property
    def cost_verdict(self) -> CostVerdict:
        """The verdict on the difference in cost."""
        if math.isnan(self.p) or self.p >= 1 - LEVEL:
            return "noise"
        return "cheaper" if self.cost.estimate.mean < 0 else "more expensive"

    @property
    def meets_slo(self) -> bool:
        """Whether the late share is within the SLO, noise ignored."""
        return self.slo_verdict.startswith("kept")

    @property
    def late_per_month(self) -> float:
        """The late requests per month compared with today; negative if fewer."""
        return self.late.estimate.mean * self.figures.requests_per_month


def validate_points(
    points: Sequence[CompletedTrial],
    outcomes: Mapping[int, TrialOutcome],
    today: tuple[Figures | None, Figures],
    allowed: float,
) -> list[ValidatedPoint]:
    """Return the validated points.

    `outcomes` is by trial number; a point without results is left out.

    `today` is today's configuration on the tuning and on the validation traffic.
    """
    validated = [(p, figures(outcomes[p.number].results)) for p in points if outcomes[p.number].results]
    costs = [cost_difference(result, today[1]) for _, result in validated]
    adjusted = statistics.holm([c.p for c in costs])
    return [
        _validated_point(trial, result, cost, p, today, allowed)
        for (trial, result), cost, p in zip(validated, costs, adjusted, strict=True)
    ]


def _validated_point(  # noqa: PLR0913 - the inputs of one row
    trial: CompletedTrial,
    result: Figures,
    cost: Difference,
    p: float,
    today: tuple[Figures | None, Figures],
    allowed: float,
) -> ValidatedPoint:
    today_tuning, today_validation = today
    tuning_share = saved(trial.figures, today_tuning) if today_tuning is not None else math.nan
    validated_share = saved(result, today_validation)
    return ValidatedPoint(
        trial=trial,
        figures=result,
        cost=cost,
        late=late_difference(result, today_validation),
        p=p,
        tuning_share=tuning_share,
        validated_share=validated_share,
        slo_verdict=slo_verdict(result, allowed),
        overfitting=overfitting_reason(trial.figures, result, allowed, tuning_share, validated_share),
    )


def saved(a: Figures, b: Figures) -> float:
    """Return the share of `b`'s cost that `a` saves: 80 against 100 USD saves 0.2.

    NaN if `b` costs nothing.
    """
    return 1 - a.usd_per_month / b.usd_per_month if b.usd_per_month else math.nan


def slo_verdict(result: Figures, allowed: float) -> SloVerdict:
    """Return whether the late share is within `allowed`, and whether its interval crosses it.

    With 1 % allowed, 0.75 % ± 1.65 % late is "kept, within noise".
    """
    attainment = result.attainment()
    if math.isnan(attainment.mean):
        return "missed, within noise"
    if result.late_share <= allowed:
        return "kept" if 1 - attainment.mean + attainment.half_width <= allowed else "kept, within noise"
    return "missed" if 1 - attainment.mean - attainment.half_width > allowed else "missed, within noise"


def overfitting_reason(tuning: Figures, result: Figures, allowed: float, tuning_gain: float, left_gain: float) -> str:
    """Return why a point is overfitted to the tuning traffic; empty if there is no sign of it.

    `tuning_gain` and `left_gain` are the shares of the cost saved on the tuning and on the validation traffic. A gain
    of 20 % that falls to 5 % is overfitted, since 5 < 0.5 * 20; one that falls to 15 % is not.
    """
    if tuning.late_share <= allowed < result.late_share:
        return (
            f"meets the SLO on the tuning traffic ({fine_percent(tuning.late_share)} late) but not on held-out traffic"
            f" ({fine_percent(result.late_share)} late, {percent(allowed)} allowed)"
        )
    if tuning_gain > 0 and left_gain < MIN_GAIN_LEFT * tuning_gain:
        return (
            f"saves {tuning_gain:.1%} on the tuning traffic but {left_gain:.1%} on held-out traffic, or the traffic"
            " differs"
        )
    return ""


def recommend(points: Sequence[ValidatedPoint], chosen: int, today: SloVerdict) -> tuple[ValidatedPoint | None, str]:
    """Return the point to deploy and the reason.

    The point is None if no point is better than today's configuration. Otherwise it is the search's choice if the
    validation confirms it and no surer point costs as little, else the cheapest point that is at most as late on the
    tuning traffic. `today` is the verdict on today's configuration on the validation traffic.
    """
    today_meets_slo = today.startswith("kept")
    misses = "" if today_meets_slo else "; today's configuration misses the SLO there"
    choice = next((p for p in points if p.trial.number == chosen), None)
    if choice is not None and _is_better(choice, today_meets_slo):
        better = [p for p in points if _is_better(p, today_meets_slo)]
        if (surer := _surer_point(better, choice)) is not None:
            reason = "it costs no more than the choice of the search, which keeps the SLO within noise only"
            return surer, f"{reason}{misses}"
        return choice, f"it is the choice of the search, and the validation confirms it{misses}"
    if choice is not None and choice.meets_slo and choice.cost.estimate.mean == 0:
        return None, "no trial that meets the SLO on the tuning traffic is cheaper"
    for point in sorted(points, key=lambda p: p.figures.usd_per_month):
        safer = choice is None or point.trial.figures.late_share <= choice.trial.figures.late_share
        if safer and _is_better(point, today_meets_slo):
            return point, (
                "the validation does not confirm the choice of the search; this is the cheapest safer point that it"
                f" confirms{misses}"
            )
    if choice is not None and choice.meets_slo and choice.cost_verdict == "noise":
        return None, "the saving of the chosen point is within noise, and no safer point saves more"
    if today_meets_slo:
        return None, "no point is both cheaper and within the SLO on held-out traffic"
    return None, "neither any point nor today's configuration meets the SLO on held-out traffic"


def _surer_point(points: Sequence[ValidatedPoint], choice: ValidatedPoint) -> ValidatedPoint | None:
    """Return the cheapest point that surely keeps the SLO and costs no more than the choice.

    It is None if the choice keeps the SLO beyond noise too. The point is at most as late on the tuning traffic.
    """
    if choice.slo_verdict == "kept":
        return None
    surer = [
        p
        for p in points
        if p.slo_verdict == "kept"
        and p.figures.usd_per_month <= choice.figures.usd_per_month
        and p.trial.figures.late_share <= choice.trial.figures.late_share
    ]
    return min(surer, key=lambda p: p.figures.usd_per_month, default=None)


def _is_better(point: ValidatedPoint, today_meets_slo: bool) -> bool:
    """Return whether a point is better than today's configuration.

    It must meet the SLO. If today's configuration meets it too, it must also cost less beyond noise.
    """
    return point.meets_slo and (point.cost_verdict == "cheaper" or not today_meets_slo)
