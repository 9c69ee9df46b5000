"""The verdict on a search: one recommendation with its evidence and its caveats.

The text, the page, the policy files and the JSON all follow from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from simulators.experiments.slo_outcome import fine_percent
from simulators.reporting.text import percent
from simulators.tune.objectives import Figures
from simulators.tune.stress import Stress
from simulators.tune.validation import ValidatedPoint, recommend, slo_verdict


class VerdictKind(StrEnum):
    """The recommendation in words."""

    DEPLOY = "deploy"
    CAUTION = "deploy with caution"
    DO_NOT_DEPLOY = "do not deploy"
    NOT_TESTED = "not tested under load"
    NOT_VALIDATED = "not validated"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict: its kind, its reason, and the caveats of a point to deploy.

    `point` is the point to deploy, or the one that would be deployed if it had been tested under load. `stresses` are
    those of the tuning and of the validation traffic.
    """

    kind: VerdictKind
    reason: str
    point: ValidatedPoint | None = None
    caveats: tuple[str, ...] = ()
    stresses: tuple[Stress, Stress] = (Stress(), Stress())

    @property
    def deployed(self) -> ValidatedPoint | None:
        """The point to deploy; None if none is recommended."""
        return self.point if self.kind in {VerdictKind.DEPLOY, VerdictKind.CAUTION} else None


@dataclass(frozen=True, slots=True)
class TodayFigures:
    """Today's configuration on the tuning traffic, None if not run there, and on the validation."""

    tuning: Figures | None
    validation: Figures


def judge(
    points: Sequence[ValidatedPoint],
    chosen: int,
    today: TodayFigures,
    allowed: float,
    stresses: tuple[Stress, Stress],
) -> Verdict:
    """Return the verdict on validated points. `chosen` is the trial that the search chose."""
    point, reason = recommend(points, chosen, slo_verdict(today.validation, allowed))
    candidate = _open_choice(points, chosen) if point is None else point
    if candidate is not None and (untested := _untested_reason(points, today, stresses)):
        return Verdict(VerdictKind.NOT_TESTED, untested, candidate, stresses=stresses)
    if point is None:
        return Verdict(VerdictKind.DO_NOT_DEPLOY, reason, stresses=stresses)
    caveats = tuple(_caveats(point, allowed, chosen))
    kind = VerdictKind.CAUTION if caveats else VerdictKind.DEPLOY
    return Verdict(kind, reason, point, caveats, stresses)


def _open_choice(points: Sequence[ValidatedPoint], chosen: int) -> ValidatedPoint | None:
    """Return the search's choice if calm traffic may hide its gain.

    It differs from today's configuration, and the validation does not refute that it keeps the SLO.
    """
    choice = next((p for p in points if p.trial.number == chosen), None)
    return choice if choice is not None and choice.meets_slo and choice.cost.estimate.mean else None


def _untested_reason(points: Sequence[ValidatedPoint], today: TodayFigures, stresses: tuple[Stress, Stress]) -> str:
    """Return why the validation traffic proves nothing about the SLO; empty if it does.

    It is calmer than the tuning traffic, or has no late request under any configuration where the tuning traffic has.
    """
    tuning, validation = stresses
    if not validation.tests(tuning):
        return f"the held-out traffic is calmer ({validation}) than the tuning traffic ({tuning})"
    late = today.validation.late.sum() + sum(p.figures.late.sum() for p in points)
    tuning_late = sum(p.trial.figures.late.sum() for p in points)
    tuning_late += 0.0 if today.tuning is None else today.tuning.late.sum()
    if tuning_late and not late:
        return "no configuration has a late request on the held-out traffic, but they have some on the tuning traffic"
    return ""


def _caveats(point: ValidatedPoint, allowed: float, chosen: int) -> Iterator[str]:
    """Yield the reasons for caution with a point to deploy."""
    if point.overfitting:
        yield f"it may be overfitted: it {point.overfitting}"
    if point.slo_verdict != "kept":
        high = fine_percent(point.figures.max_late_share())
        yield f"on held-out traffic its late share may be up to {high}, {percent(allowed)} allowed"
    tuned = point.trial.figures
    if tuned.max_late_share() > allowed:
        yield (
            f"on the tuning traffic {fine_percent(tuned.late_share)} of its requests are late (to"
            f" {fine_percent(tuned.max_late_share())})"
        )
    if point.trial.number != chosen:
        yield "the validation selected it, so validate it on other traffic too"
