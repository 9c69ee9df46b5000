"""What a search came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from simulators.experiments.statistics import Estimate
from simulators.reporting.run_data import RunData
from simulators.tune.objectives import Figures
from simulators.tune.study import CompletedTrial
from simulators.tune.validation import ValidatedPoint


@dataclass(frozen=True, slots=True)
class TrialCounts:
    """Trials by how they ended."""

    finished: int
    cut: int
    refused: int


@dataclass(frozen=True, slots=True)
class Importance:
    """A setting's part in what trials differ by: shares of 1, for cost and for late requests."""

    path: str
    cost: float
    late: float


@dataclass(frozen=True, slots=True)
class TuneResult:
    """All that is told and written.

    `points` is the front from cheap to dear, as far as it was proved and written; `tried` is every trial that ran to
    its end. `searched` and `today` are what runs today, on the search's traffic and on the proof's. `left_out` has, by
    trace, what the others would have chosen, and that trial on this trace. `made` is what identifies the study.
    """

    allowed: float
    tried: tuple[CompletedTrial, ...]
    counts: TrialCounts
    stopped: bool
    points: tuple[CompletedTrial, ...]
    chosen: CompletedTrial | None
    knee: CompletedTrial | None
    searched: Figures | None
    today: Figures | None
    proven: tuple[ValidatedPoint, ...]
    dared: ValidatedPoint | None
    why: str
    proof_said: str
    left_out: tuple[tuple[str, CompletedTrial, CompletedTrial], ...]
    importance: tuple[Importance, ...]
    runs_data: tuple[RunData, ...]
    remarks: tuple[str, ...]
    made: Mapping[str, Any]

    @property
    def known(self) -> Mapping[str, int]:
        """Trials that have a name."""
        named = {
            "recommended": None if self.dared is None else self.dared.tried.number,
            "choice": None if self.chosen is None else self.chosen.number,
            "knee": None if self.knee is None else self.knee.number,
            "today": 0 if self.searched is not None and not self.made["proposal"] else None,
        }
        return {name: number for name, number in named.items() if number is not None}

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain data."""
        proofs = {p.tried.number: p for p in self.proven}
        return {
            **self.made,
            "allowed_late_share": self.allowed,
            "trials": asdict(self.counts),
            "stopped": self.stopped,
            "recommended": None if self.dared is None else self.dared.tried.number,
            "why": self.why,
            "known": dict(self.known),
            "today": {"search": _figures(self.searched), "proof": _figures(self.today)},
            "points": [_point(p, proofs.get(p.number)) for p in self.points],
            "importance": [asdict(one) for one in self.importance],
            "left_out": [
                {"trace": name, "trial": one.number, **_figures(alone.figures)} for name, one, alone in self.left_out
            ],
            "remarks": list(self.remarks),
        }


def _point(one: CompletedTrial, proof: ValidatedPoint | None) -> dict[str, Any]:
    told: dict[str, Any] = {"trial": one.number, "settings": dict(one.settings), "search": _figures(one.figures)}
    if proof is not None:
        told["proof"] = _figures(proof.figures)
        told["against_today"] = {
            "usd_per_month": _estimate(proof.cost.estimate),
            "p": proof.p,
            "late_share": _estimate(proof.late.estimate),
            "late_requests_per_month": proof.late_per_month,
            "saved_share": proof.proven_share,
        }
        told["promise"], told["gain"], told["over_fitted"] = proof.promise, proof.gain, proof.fitted
    return told


def _figures(found: Figures | None) -> dict[str, Any]:
    if found is None:
        return {}
    in_time = found.in_time()
    return {
        "usd_per_month": found.usd_per_month,
        "late_share": found.late_share,
        "late_share_most": 1 - in_time.low,
        "late_requests_per_month": found.late_per_month,
        "requests_per_month": found.requests_per_month,
    }


def _estimate(told: Estimate) -> dict[str, float]:
    return {"mean": told.mean, "half_width": told.half_width}
