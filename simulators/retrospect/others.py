"""What other policies would have done with the rebuilt requests, and how far the method errs on the one that ran."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from policies.model import Fresh, Tick
from scaler.config.load import Workload
from scaler.config.problems import ConfigError
from simulators.peers.contenders import Contender, contenders
from simulators.report.sheet import Sheet, sheet
from simulators.report.spans import Floats
from simulators.retrospect.happened import HOUR_S, Happened
from simulators.retrospect.record import SILENT, Recorded
from simulators.retrospect.world import World, reads_a_queue, translated
from simulators.run import Run, Timeline, checked, replaying, simulate

PRESENT: Final = "present"
"""What the policy that ran is called beside the others."""
PEERS: Final = {False: ("hpa", "keda"), True: ("hpa", "keda-queue")}
"""Those that everybody is compared with, by whether work waits in a queue."""
WHOLE: Final = 0.98
"""Sums over less of the period are no measure of sums over all of it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One policy over the recorded period, simulated: money, replicas asked for, and requests that broke the promise.

    `usd` is None where a price is not known, `late` where nothing is promised. The time in which the last requests end
    is left out of all but `late`. `size_s` and `size` are the replicas asked for, by time since the beginning.
    """

    name: str
    usd: float | None
    replica_hours: float
    requests: int
    late: int | None
    sheet: Sheet
    size_s: Floats
    size: Floats

    def as_dict(self) -> dict[str, Any]:
        return {
            "usd": self.usd,
            "replica_hours": round(self.replica_hours, 3),
            "requests": self.requests,
            "late": self.late,
            "simulated": self.sheet.summary.as_dict(),
        }


@dataclass(frozen=True, slots=True)
class Error:
    """The simulated present policy against what was recorded: sizes turn by turn after `skipped_s`, in replicas, and
    money and late requests of the whole period, each as recorded and as simulated; None where either is not known.

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
    usd: tuple[float, float] | None = None
    late: tuple[float, float] | None = None

    @property
    def bias(self) -> float:
        """The mean simulated over the mean recorded, less 1."""
        return self.simulated / self.recorded - 1.0 if self.recorded else math.nan

    @property
    def off_share(self) -> float:
        """How far a turn is off, as a share of the mean recorded."""
        return self.mean_off / self.recorded if self.recorded else math.nan

    def words(self) -> str:
        if self.dry_run:
            return "The method's error is not known: the record is of a dry run, whose sizes were not the policy's own."
        if not self.turns:
            return "The method's error is not known: the period is shorter than the first scale-in window."
        said = (
            f"The method's error: simulated, the policy that ran asks for {self.simulated:.2f} replicas in the mean,"
            f" and {self.recorded:.2f} are recorded ({self.bias:+.1%}); a turn is {self.mean_off:.2f} off in the mean"
            f" ({self.off_share:.0%}), {self.within_one:.0%} of {self.turns:,} turns by no more than one replica."
        )
        if self.usd is not None:
            said += f" It costs {self.usd[1]:,.2f} USD for {self.usd[0]:,.2f} recorded."
        if self.late is not None:
            said += f" {self.late[1]:,.0f} requests get late for {self.late[0]:,.0f} read off the record."
        return f"{said} Differences between policies that are smaller than this tell nothing."

    def as_dict(self) -> dict[str, Any]:
        known = self.turns > 0 and not self.dry_run
        pairs = {"usd": self.usd, "late": self.late}
        return {
            "known": known,
            "turns": self.turns,
            "dry_run": self.dry_run,
            "skipped_s": self.skipped_s,
            "replicas": {"recorded": self.recorded, "simulated": self.simulated, "bias": self.bias},
            "mean_off_replicas": self.mean_off,
            "within_one_share": self.within_one,
            **{k: None if pair is None else dict(zip(("recorded", "simulated"), pair, strict=True))
               for k, pair in pairs.items()},
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Others:
    """Everybody's run, the policy that ran first, the method's error, and who could not be simulated and why."""

    outcomes: tuple[Outcome, ...]
    error: Error
    left_out: tuple[str, ...]

    @property
    def sheets(self) -> list[Sheet]:
        return [outcome.sheet for outcome in self.outcomes]


@dataclass(frozen=True, slots=True)
class Asked:
    """Who else is asked for: workload files, read already, and peers' words."""

    files: Sequence[tuple[Path, Workload]] = ()
    words: Sequence[str] = ()


def others(
    found: Happened, world: World, asked: Asked, seed: int, progress: Callable[[float], None] = lambda _: None
) -> Others:
    """Simulate the policy that ran, its peers and those asked for. Raises `ConfigError` and `TraceError`."""
    recorded, trace = found.recorded, checked(world.rebuilt.trace)
    taking_part, left_out = _taking_part(recorded, world, asked)
    outcomes: list[Outcome] = []
    error = None
    for k, contender in enumerate(taking_part):
        found_sizes = Found([], [])
        done = simulate(
            replaying(contender.case, trace),
            seed,
            trace,
            record=[found_sizes.note],
            progress=lambda share, k=k: progress((k + share) / len(taking_part)),  # type: ignore[misc]
        )
        outcomes.append(_outcome(contender.name, done, found_sizes, world, recorded.span_s))
        error = error or _error(found, done.timeline, outcomes[0])
    assert error is not None  # noqa: S101 - the policy that ran takes part
    return Others(tuple(outcomes), error, tuple(left_out))


def _taking_part(recorded: Recorded, world: World, asked: Asked) -> tuple[list[Contender], list[str]]:
    case = world.case
    found, left_out = [Contender(PRESENT, case)], []
    for word in PEERS[reads_a_queue(recorded.spec)]:
        stuck = recorded.spec.min_replicas == 0 and word != "keda-queue"  # engines tell nothing at zero
        try:
            found += contenders(case, [f"{word}:min_replicas=1" if stuck else word], with_self=False)
        except ConfigError as e:
            left_out.append(f"{word}: {'; '.join(p.rule for p in e.problems)}")
    taken = {contender.name for contender in found}
    found += contenders(case, [w for w in asked.words if w not in taken], with_self=False) if asked.words else []
    for path, workload in asked.files:
        name = path.stem if path.stem not in {c.name for c in found} else str(path)
        found.append(Contender(name, case.under(translated(workload, str(path)), str(path))))
    return found, left_out


@dataclass(frozen=True, slots=True)
class Found:
    """What each turn found asked for over all pools, as the record has it too."""

    at: list[float]
    size: list[float]

    def note(self, tick: Tick) -> None:
        pools = tick.observation.pools.values()
        if all(isinstance(status, Fresh) for status in pools):
            self.at.append(tick.at)
            self.size.append(float(sum(status.value.desired for status in pools if isinstance(status, Fresh))))


def _outcome(name: str, done: Run, sizes: Found, world: World, span_s: float) -> Outcome:
    """What a run came to within the recorded period."""
    drawn = sheet(name, done)
    paid = np.sum(list(drawn.paid_usd.values()), axis=0) if drawn.paid_usd else np.zeros(len(drawn.edges_s))
    at_s = np.array(sizes.at, np.float64) - done.timeline.epoch_s
    size = np.array(sizes.size, np.float64)
    known = at_s < span_s
    over_s = np.diff(np.append(at_s[known], span_s))
    summary = drawn.summary
    met = summary.attainment.get("all", math.nan)
    return Outcome(
        name=name,
        usd=float(np.interp(span_s, drawn.edges_s, paid)) if world.priced else None,
        replica_hours=float((size[known] * over_s).sum() / HOUR_S),
        requests=summary.arrived,
        late=round(summary.arrived * (1.0 - met)) if world.promised and not math.isnan(met) else None,
        sheet=drawn,
        size_s=at_s[known],
        size=size[known],
    )


def _error(found: Happened, line: Timeline, present: Outcome) -> Error:
    """The method's error, with the money and the late requests where both are known throughout."""
    usd, late = found.total(found.usd), found.total(found.late)
    whole = found.known(found.usd) > WHOLE
    return dataclasses.replace(
        compared(found.recorded, line),
        usd=(usd, present.usd) if usd is not None and present.usd is not None and whole else None,
        late=(late, float(present.late)) if late is not None and present.late is not None else None,
    )


def compared(recorded: Recorded, line: Timeline) -> Error:
    """How far the simulated sizes are from those recorded."""
    at = np.array(line.at_s) + line.epoch_s
    simulated: Floats = np.array(line.desired, np.float64)
    place = np.searchsorted(recorded.at, at, side="right") - 1
    # a controller that begins anew holds its size for a window: the recorded one had a past
    skipped_s = recorded.spec.scale_down.window_s + recorded.spec.scale_down.max_blind_s
    target = recorded.columns["target"][np.clip(place, 0, len(recorded) - 1)]
    since_s = at - recorded.at[np.clip(place, 0, len(recorded) - 1)]
    good = (place >= 0) & (since_s <= SILENT * recorded.interval_s) & (at <= recorded.at[-1] + recorded.interval_s)
    good &= (at >= recorded.at[0] + skipped_s) & np.isfinite(target) & (simulated >= 0)
    off = np.abs(simulated[good] - target[good])
    dry_run = bool(recorded.columns["dry_run"].any())
    if not off.size:
        return Error(0, math.nan, math.nan, math.nan, math.nan, skipped_s, dry_run)
    return Error(
        turns=int(off.size),
        recorded=float(target[good].mean()),
        simulated=float(simulated[good].mean()),
        mean_off=float(off.mean()),
        within_one=float((off < 1.5).mean()),
        skipped_s=skipped_s,
        dry_run=dry_run,
    )
