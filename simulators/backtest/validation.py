"""Error of the method.

The recorded sizes and the policy that ran are simulated and compared with the record.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from simulators.backtest.recorded_run import MAX_GAP_INTERVALS, RecordedRun
from simulators.experiments.run import Timeline
from simulators.reporting.time_bins import Floats

Pair = tuple[float, float]
"""A figure as recorded, and as simulated."""


WITHIN: Final = "within the method's error"


@dataclass(frozen=True, slots=True)
class CheckedDifference:
    """A simulated figure minus that of the baseline, and its error; None if unknown.

    A difference of 300 late requests is within an error of 13,970 ones.
    """

    value: float
    error: float | None

    @property
    def within_error(self) -> bool | None:
        """Whether the method's error explains the difference; None if the error is unknown."""
        return None if self.error is None else abs(self.value) <= self.error

    def as_dict(self) -> dict[str, Any]:
        return {"difference": self.value, "error": self.error, "within_error": self.within_error}


@dataclass(frozen=True, slots=True)
class SizeComparison:
    """The present policy's simulated sizes compared with the decided ones, tick by tick.

    Replicas.

    `mean_off` is the mean absolute difference, `within_one` the share of ticks less than 1.5 replicas apart.
    """

    ticks: int
    recorded: float
    simulated: float
    mean_off: float
    within_one: float

    @property
    def bias(self) -> float:
        """The mean simulated size over the mean recorded one, minus 1: 5.5 over 5.0 gives 0.1."""
        return self.simulated / self.recorded - 1.0 if self.recorded else math.nan

    @property
    def off_share(self) -> float:
        """The mean absolute difference as a share of the mean recorded size."""
        return self.mean_off / self.recorded if self.recorded else math.nan


@dataclass(frozen=True, slots=True)
class MethodError:
    """The method's error.

    `world_usd`, `world_late` and `world_hours` compare the recorded sizes in the rebuilt world, `usd`, `late` and
    `hours` the policy that ran: None if a side is unknown. `sizes` is None if no tick can be compared: all ticks were
    dry runs, with the sizes of another writer, or the period is shorter than `skipped_s`.
    """

    sizes: SizeComparison | None
    skipped_s: float
    dry_run: bool
    world_usd: Pair | None = None
    world_late: Pair | None = None
    usd: Pair | None = None
    late: Pair | None = None
    world_hours: Pair | None = None
    hours: Pair | None = None

    @property
    def usd_off(self) -> float | None:
        """The maximum error in cost; None if unknown. USD."""
        return self._off(self.world_usd, self.usd)

    @property
    def late_off(self) -> float | None:
        """The maximum error in late requests; None if unknown."""
        return self._off(self.world_late, self.late)

    @property
    def hours_off(self) -> float | None:
        """The maximum error in replica-hours; None if unknown."""
        return self._off(self.world_hours, self.hours)

    def _off(self, world: Pair | None, own: Pair | None) -> float | None:
        pairs = [world] if self.dry_run else [world, own]
        return max((abs(b - a) for a, b in filter(None, pairs)), default=None)

    def sentences(self) -> str:
        """Return the error in sentences."""
        texts = ["Error of the method."]
        if world := _comparison_text(self.world_usd, self.world_late):
            texts.append(f"A replay of the recorded sizes {world}.")
        if self.dry_run:
            texts.append("The record is of a dry run, so the error of the policy's simulation is unknown.")
        elif self.sizes is None:
            texts.append(
                "The period is shorter than the first scale-in window: the error of the policy's simulation is unknown."
            )
        else:
            s = self.sizes
            texts.append(
                f"The simulation of the policy that ran has {s.simulated:.2f} replicas on average, the record"
                f" {s.recorded:.2f} ({s.bias:+.1%}). The mean absolute difference per tick is {s.mean_off:.2f} replicas"
                f" ({s.off_share:.0%}); {s.within_one:.0%} of {s.ticks:,} ticks differ by at most one replica."
            )
            if present := _comparison_text(self.usd, self.late):
                texts.append(f"The simulation {present}.")
        unknown = [name for name, off in (("cost", self.usd_off), ("SLO violations", self.late_off)) if off is None]
        if unknown:
            texts.append(f"The error in {' and '.join(unknown)} is unknown, since the record does not have them.")
        return " ".join([*texts, f'Differences up to the error are marked "{WITHIN}".'])

    def as_dict(self) -> dict[str, Any]:
        """Return the error as plain data, None where unknown."""
        s = self.sizes
        return {
            "dry_run": self.dry_run,
            "skipped_s": self.skipped_s,
            "sizes": None if s is None else {
                "ticks": s.ticks,
                "recorded": s.recorded,
                "simulated": s.simulated,
                "bias": s.bias,
                "mean_off": s.mean_off,
                "within_one_share": s.within_one,
            },
            "same_sizes": {"usd": _pair(self.world_usd), "late": _pair(self.world_late)},
            "present": {"usd": _pair(self.usd), "late": _pair(self.late)},
            "usd_off": self.usd_off,
            "late_off": self.late_off,
            "replica_hours_off": self.hours_off,
        }  # fmt: skip


def compare_sizes(recorded: RecordedRun, timeline: Timeline) -> tuple[SizeComparison | None, float, bool]:
    """Return the comparison of simulated and decided sizes.

    Also return the time skipped first, and whether all ticks were dry.
    """
    time_s = np.array(timeline.at_s) + timeline.epoch_s
    simulated: Floats = np.array(timeline.desired, np.float64)
    tick = np.clip(np.searchsorted(recorded.at, time_s, side="right") - 1, 0, len(recorded) - 1)
    # a new controller holds its size for a window, but the recorded one had a history
    skipped_s = recorded.spec.scale_down.window_s + recorded.spec.scale_down.max_evidence_gap_s
    decided = recorded.columns["target"][tick]
    live = recorded.columns["dry_run"] == 0
    comparable = (time_s - recorded.at[tick] <= MAX_GAP_INTERVALS * recorded.interval_s) & (
        time_s < recorded.at[-1] + recorded.interval_s
    )
    comparable &= (time_s >= recorded.at[0] + skipped_s) & np.isfinite(decided) & (simulated >= 0) & live[tick]
    difference = np.abs(simulated[comparable] - decided[comparable])
    if not difference.size:
        return None, skipped_s, not live.any()
    means = (
        float(values.mean()) for values in (decided[comparable], simulated[comparable], difference, difference < 1.5)
    )
    return SizeComparison(int(difference.size), *means), skipped_s, not live.any()


def _comparison_text(usd: Pair | None, late: Pair | None) -> str:
    texts = []
    if usd is not None:
        change = f" ({usd[1] / usd[0] - 1:+.1%})" if usd[0] else ""
        texts.append(f"costs {usd[1]:,.2f} USD, recorded {usd[0]:,.2f} USD{change}")
    if late is not None:
        texts.append(f"has {late[1]:,.0f} SLO violations, recorded {late[0]:,.0f}")
    return ", and ".join(texts)


def _pair(pair: Pair | None) -> dict[str, float] | None:
    return None if pair is None else {"recorded": pair[0], "simulated": pair[1]}
