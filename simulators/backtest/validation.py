"""How far the method errs: the world with the recorded sizes, and the policy that ran, each beside the record."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulators.backtest.recorded_run import SILENT, RecordedRun
from simulators.experiments.run import Timeline
from simulators.reporting.time_bins import Floats

Pair = tuple[float, float]
"""As recorded, and as simulated."""


@dataclass(frozen=True, slots=True)
class SizeComparison:
    """The present policy's simulated sizes compared with those decided, tick by tick after `skipped_s`, in replicas.

    `within_one` is the share of ticks less than 1.5 replicas apart.
    """

    turns: int
    recorded: float
    simulated: float
    mean_off: float
    within_one: float

    @property
    def bias(self) -> float:
        """The mean simulated over the mean recorded, less 1."""
        return self.simulated / self.recorded - 1.0 if self.recorded else math.nan

    @property
    def off_share(self) -> float:
        """How far a turn is off, as a share of the mean recorded."""
        return self.mean_off / self.recorded if self.recorded else math.nan


@dataclass(frozen=True, slots=True)
class Error:
    """The method's error.

    `world_usd` and `world_late` are of the recorded sizes in the rebuilt world, `usd` and `late` of the policy that
    ran: None where either side is not known. `sizes` is None where no tick can be compared: all were dry runs, so that
    the sizes were those of another writer, or the period is shorter than `skipped_s`.
    """

    sizes: SizeComparison | None
    skipped_s: float
    dry_run: bool
    world_usd: Pair | None = None
    world_late: Pair | None = None
    usd: Pair | None = None
    late: Pair | None = None

    @property
    def usd_off(self) -> float | None:
        """By how much money is off at the most; None where it is not known. USD."""
        pairs = [self.world_usd] if self.dry_run else [self.world_usd, self.usd]
        return max((abs(b - a) for a, b in filter(None, pairs)), default=None)

    @property
    def late_off(self) -> float | None:
        """By how many late requests it is off at the most; None where that is not known."""
        pairs = [self.world_late] if self.dry_run else [self.world_late, self.late]
        return max((abs(b - a) for a, b in filter(None, pairs)), default=None)

    def words(self) -> str:
        """Return the error in sentences."""
        said = ["The method's error."]
        if world := _compared(self.world_usd, self.world_late):
            said.append(f"With the very sizes recorded, the rebuilt world {world}.")
        if self.dry_run:
            said.append("The record is of a dry run, so how far the policy's simulation errs cannot be told.")
        elif self.sizes is None:
            said.append("The period is shorter than the first scale-in window: the policy's simulation tells no error.")
        else:
            s = self.sizes
            said.append(
                f"The policy that ran, simulated, asks for {s.simulated:.2f} replicas in the mean, and {s.recorded:.2f}"
                f" were decided ({s.bias:+.1%}); a turn is {s.mean_off:.2f} off in the mean ({s.off_share:.0%}),"
                f" {s.within_one:.0%} of {s.turns:,} turns by no more than one replica."
            )
            if present := _compared(self.usd, self.late):
                said.append(f"It {present}.")
        return " ".join([*said, "Differences between policies that are smaller than this tell nothing."])

    def as_dict(self) -> dict[str, Any]:
        """As plain data; null where not known."""
        s = self.sizes
        return {
            "dry_run": self.dry_run,
            "skipped_s": self.skipped_s,
            "sizes": None if s is None else {
                "turns": s.turns,
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
        }  # fmt: skip


def sizes(recorded: RecordedRun, line: Timeline) -> tuple[SizeComparison | None, float, bool]:
    """Return the difference of simulated and decided sizes, the time skipped first, and whether every tick was dry."""
    at = np.array(line.at_s) + line.epoch_s
    simulated: Floats = np.array(line.desired, np.float64)
    place = np.clip(np.searchsorted(recorded.at, at, side="right") - 1, 0, len(recorded) - 1)
    # a controller that begins anew holds its size for a window: the recorded one had a past
    skipped_s = recorded.spec.scale_down.window_s + recorded.spec.scale_down.max_evidence_gap_s
    decided = recorded.columns["target"][place]
    live = recorded.columns["dry_run"] == 0
    good = (at - recorded.at[place] <= SILENT * recorded.interval_s) & (at < recorded.at[-1] + recorded.interval_s)
    good &= (at >= recorded.at[0] + skipped_s) & np.isfinite(decided) & (simulated >= 0) & live[place]
    off = np.abs(simulated[good] - decided[good])
    if not off.size:
        return None, skipped_s, not live.any()
    means = (float(values.mean()) for values in (decided[good], simulated[good], off, off < 1.5))
    return SizeComparison(int(off.size), *means), skipped_s, not live.any()


def _compared(usd: Pair | None, late: Pair | None) -> str:
    said = []
    if usd is not None:
        part = f" ({usd[1] / usd[0] - 1:+.1%})" if usd[0] else ""
        said.append(f"costs {usd[1]:,.2f} USD for {usd[0]:,.2f} recorded{part}")
    if late is not None:
        said.append(f"has {late[1]:,.0f} requests late for {late[0]:,.0f} read off the record")
    return " and ".join(said)


def _pair(pair: Pair | None) -> dict[str, float] | None:
    return None if pair is None else {"recorded": pair[0], "simulated": pair[1]}
