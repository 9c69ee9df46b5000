"""What other policies would have done with the rebuilt requests, and how far the method errs on the one that ran."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from scaler.config.problems import ConfigError
from simulators.peers.contenders import Contender, contenders
from simulators.report.sheet import Sheet, sheet
from simulators.report.spans import Floats
from simulators.retrospect.record import Recorded
from simulators.retrospect.world import World, reads_a_queue, translated
from simulators.run import Timeline, checked, replaying, simulate
from simulators.scenario import load_workload

PRESENT: Final = "present"
"""What the policy that ran is called beside the others."""
PEERS: Final = {False: ("hpa", "keda"), True: ("hpa", "keda-queue")}
"""Those that everybody is compared with, by whether work waits in a queue."""
MAX_REQUESTS: Final = 20_000_000
"""A few minutes' work for each policy; more is a slip of the period's ends."""


@dataclass(frozen=True, slots=True)
class Error:
    """The simulated present policy against what was recorded, turn by turn after `skipped_s`, in replicas.

    `within_one` is the share of turns less than 1.5 replicas apart; `dry_run` says that the recorded sizes were not the
    policy's own, so that they are no measure of the method.
    """

    turns: int
    recorded: float
    simulated: float
    mean_off: float
    within_one: float
    skipped_s: float
    dry_run: bool

    @property
    def bias(self) -> float:
        """The mean simulated over the mean recorded, less 1."""
        return self.simulated / self.recorded - 1.0 if self.recorded else math.nan

    @property
    def off_share(self) -> float:
        """How far a turn is off, as a share of the mean recorded."""
        return self.mean_off / self.recorded if self.recorded else math.nan

    def words(self) -> str:
        if not self.turns:
            return "The method's error is not known: the period is shorter than the first scale-in window."
        if self.dry_run:
            return "The method's error is not known: the record is of a dry run, whose sizes were not the policy's own."
        return (
            f"The method's error: simulated, the policy that ran asks for {self.simulated:.2f} replicas in the mean,"
            f" and {self.recorded:.2f} are recorded ({self.bias:+.1%}); a turn is {self.mean_off:.2f} off in the mean"
            f" ({self.off_share:.0%}), {self.within_one:.0%} of {self.turns:,} turns by no more than one replica."
            " Differences between policies that are smaller than this tell nothing."
        )


@dataclass(frozen=True, slots=True)
class Others:
    """Everybody's run, the policy that ran first, the method's error, and who could not be simulated and why."""

    sheets: tuple[Sheet, ...]
    error: Error
    left_out: tuple[str, ...]


def others(
    recorded: Recorded,
    world: World,
    tuned: Sequence[Path],
    seed: int,
    progress: Callable[[float], None] = lambda _: None,
) -> Others:
    """Simulate the policy that ran, its peers and `tuned` workload files. Raises `ConfigError` and `TraceError`."""
    trace = checked(world.rebuilt.trace)
    taking_part, left_out = _taking_part(recorded, world, tuned)
    sheets: list[Sheet] = []
    error = None
    for k, contender in enumerate(taking_part):
        run = simulate(
            replaying(contender.case, trace),
            seed,
            trace,
            progress=lambda share, k=k: progress((k + share) / len(taking_part)),  # type: ignore[misc]
        )
        error = error or compared(recorded, run.timeline)
        sheets.append(sheet(contender.name, run))
    assert error is not None  # noqa: S101 - the policy that ran takes part
    return Others(tuple(sheets), error, tuple(left_out))


def _taking_part(recorded: Recorded, world: World, tuned: Sequence[Path]) -> tuple[list[Contender], list[str]]:
    case = world.case
    found, left_out = [Contender(PRESENT, case)], []
    spec = recorded.spec
    for word in PEERS[reads_a_queue(spec)]:
        stuck = spec.min_replicas == 0 and word != "keda-queue"  # engines tell nothing at zero
        try:
            found += contenders(case, [f"{word}:min_replicas=1" if stuck else word], with_self=False)
        except ConfigError as e:
            left_out.append(f"{word}: {'; '.join(p.rule for p in e.problems)}")
    for path in tuned:
        workload = translated(load_workload(path), str(path))
        name = path.stem if path.stem not in {c.name for c in found} else f"{path.stem} ({workload.name})"
        found.append(Contender(name, case.under(workload, str(path))))
    return found, left_out


def compared(recorded: Recorded, line: Timeline) -> Error:
    """How far the simulated sizes are from those recorded."""
    at = np.array(line.at_s) + line.epoch_s
    simulated: Floats = np.array(line.desired, np.float64)
    place = np.searchsorted(recorded.at, at, side="right") - 1
    # a controller that begins anew holds its size for a window: the recorded one had a past
    skipped_s = recorded.spec.scale_down.window_s + recorded.spec.scale_down.max_blind_s
    target = recorded.columns["target"][np.clip(place, 0, len(recorded) - 1)]
    since_s = at - recorded.at[np.clip(place, 0, len(recorded) - 1)]
    good = (place >= 0) & (since_s <= 4 * recorded.interval_s) & (at <= recorded.at[-1] + recorded.interval_s)
    good &= (at >= recorded.at[0] + skipped_s) & np.isfinite(target) & (simulated >= 0)
    off = np.abs(simulated[good] - target[good])
    if not off.size:
        return Error(0, math.nan, math.nan, math.nan, math.nan, skipped_s, dry_run=False)
    return Error(
        turns=int(off.size),
        recorded=float(target[good].mean()),
        simulated=float(simulated[good].mean()),
        mean_off=float(off.mean()),
        within_one=float((off < 1.5).mean()),
        skipped_s=skipped_s,
        dry_run=bool(recorded.columns["dry_run"].any()),
    )
