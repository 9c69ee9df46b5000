"""Result of a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from simulators.experiments.statistics import Estimate
from simulators.reporting.run_data import RunData
from simulators.tune.objectives import Figures
from simulators.tune.study import CompletedTrial
from simulators.tune.validation import ValidatedPoint
from simulators.tune.verdict import Verdict


@dataclass(frozen=True, slots=True)
class TrialCounts:
    """Trials by how they ended."""

    finished: int
    pruned: int
    refused: int


@dataclass(frozen=True, slots=True)
class Importance:
    """A setting's importance for cost and for late requests, as shares of 1."""

    path: str
    cost: float
    late: float


@dataclass(frozen=True, slots=True)
class TuneResult:
    """The result of a search.

    `points` are the points of the front for validation, cheapest first. `today_tuning` and `today_validation` are the
    figures of today's configuration. `leave_one_out` has, for each trace, the choice made without it and that trial on
    the trace alone. `study_info` identifies the study.
    """

    allowed: float
    completed: tuple[CompletedTrial, ...]
    counts: TrialCounts
    stopped: bool
    points: tuple[CompletedTrial, ...]
    chosen: CompletedTrial | None
    knee: CompletedTrial | None
    today_tuning: Figures | None
    today_validation: Figures | None
    validated: tuple[ValidatedPoint, ...]
    verdict: Verdict
    validation_text: str
    leave_one_out: tuple[tuple[str, CompletedTrial, CompletedTrial], ...]
    importance: tuple[Importance, ...]
    runs_data: tuple[RunData, ...]
    remarks: tuple[str, ...]
    study_info: Mapping[str, Any]

    @property
    def recommended(self) -> ValidatedPoint | None:
        """The point to deploy; None if none is recommended."""
        return self.verdict.deployed

    @property
    def lost_shares(self) -> Mapping[str, float]:
        """The cost shares of abandoned and failed starts, for each of the page's runs."""
        summaries = {run.name: run.summary for run in self.runs_data}
        return {name: s.cost_by_use_usd.get("lost", 0.0) / s.cost_usd for name, s in summaries.items() if s.cost_usd}

    @property
    def named_points(self) -> Mapping[str, int]:
        """The trial numbers of the points with a name."""
        numbers = {
            "recommended": None if self.recommended is None else self.recommended.trial.number,
            "choice": None if self.chosen is None else self.chosen.number,
            "knee": None if self.knee is None else self.knee.number,
            "today": 0 if self.today_tuning is not None and not self.study_info["proposal"] else None,
        }
        return {name: number for name, number in numbers.items() if number is not None}

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain data."""
        validations = {p.trial.number: p for p in self.validated}
        return {
            **self.study_info,
            "allowed_late_share": self.allowed,
            "trials": {
                "finished": self.counts.finished,
                "cut": self.counts.pruned,
                "refused": self.counts.refused,
            },
            "stopped": self.stopped,
            "recommended": None if self.recommended is None else self.recommended.trial.number,
            "why": self.verdict.reason,
            "verdict": _verdict(self.verdict),
            "known": dict(self.named_points),
            "today": {"search": _figures(self.today_tuning), "proof": _figures(self.today_validation)},
            "lost_share_of_cost": dict(self.lost_shares),
            "points": [_point(p, validations.get(p.number)) for p in self.points],
            "importance": [asdict(setting) for setting in self.importance],
            "left_out": [
                {"trace": name, "trial": trial.number, **_figures(on_trace.figures)}
                for name, trial, on_trace in self.leave_one_out
            ],
            "remarks": list(self.remarks),
        }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    tuning, validation = verdict.stresses
    return {
        "kind": str(verdict.kind),
        "reason": verdict.reason,
        "caveats": list(verdict.caveats),
        "trial": None if verdict.point is None else verdict.point.trial.number,
        "stress": {"search": asdict(tuning), "proof": asdict(validation)},
    }


def _point(trial: CompletedTrial, validation: ValidatedPoint | None) -> dict[str, Any]:
    point: dict[str, Any] = {"trial": trial.number, "settings": dict(trial.settings), "search": _figures(trial.figures)}
    if validation is not None:
        point["proof"] = _figures(validation.figures)
        point["against_today"] = {
            "usd_per_month": _estimate(validation.cost.estimate),
            "p": validation.p,
            "late_share": _estimate(validation.late.estimate),
            "late_requests_per_month": validation.late_per_month,
            "saved_share": validation.validated_share,
        }
        point["promise"], point["gain"] = validation.slo_verdict, validation.cost_verdict
        point["over_fitted"] = validation.overfitting
    return point


def _figures(figures: Figures | None) -> dict[str, Any]:
    if figures is None:
        return {}
    attainment = figures.attainment()
    return {
        "usd_per_month": figures.usd_per_month,
        "late_share": figures.late_share,
        "late_share_most": 1 - attainment.low,
        "late": float(figures.late.sum()),
        "requests": float(figures.arrived.sum()),
        "late_requests_per_month": figures.late_per_month,
        "requests_per_month": figures.requests_per_month,
    }


def _estimate(estimate: Estimate) -> dict[str, float]:
    return {"mean": estimate.mean, "half_width": estimate.half_width}
