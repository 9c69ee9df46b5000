"""What other policies would have done with the rebuilt requests, and how far the method errs on the one that ran."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from policies.model import Fresh, Tick
from scaler.config.load import Workload
from scaler.config.problems import ConfigError
from simulators.backtest.period_summary import HOUR_S, PeriodSummary
from simulators.backtest.recorded_run import RecordedRun
from simulators.backtest.replay_sizes import same_sizes
from simulators.backtest.validation import MethodError, Pair, SizeComparison, sizes
from simulators.backtest.world import RebuiltWorld, reads_a_queue, translated
from simulators.experiments.contenders.contenders import Contender, contenders
from simulators.experiments.run import SimulationRun, Timeline, checked, replaying, simulate
from simulators.reporting.run_data import RunData, run_data
from simulators.reporting.time_bins import Floats
from simulators.world.traffic.trace import RequestTrace

Progress = Callable[[float], None]
"""Is told the share that is done."""
SAME: Final = "same sizes"
"""What the recorded sizes are called, in the rebuilt world."""
PRESENT: Final = "present"
"""What the policy that ran is called beside the others."""
PEERS: Final = {False: ("hpa", "keda"), True: ("hpa", "keda-queue")}
"""Those that everybody is compared with, by whether work waits in a queue."""
WHOLE: Final = 0.97
"""Sums over less of the period are no measure of sums over all of it."""


@dataclass(frozen=True, slots=True)
class CounterfactualOutcome:
    """One policy over the recorded period, simulated: money, replicas asked for, and requests that broke the promise.

    `usd` is None where a price is not known, `late` where nothing is promised. The time in which the last requests end
    is left out of all but `late`. `size_s` and `size` are the replicas asked for, by time since the beginning.
    """

    name: str
    usd: float | None
    replica_hours: float
    requests: int
    late: int | None
    run_data: RunData
    size_s: Floats
    size: Floats

    def as_dict(self) -> dict[str, Any]:
        return {
            "usd": self.usd,
            "replica_hours": round(self.replica_hours, 3),
            "requests": self.requests,
            "late": self.late,
            "simulated": self.run_data.summary.as_dict(),
        }


@dataclass(frozen=True, slots=True)
class Counterfactuals:
    """The simulated runs: the recorded sizes first, then the policy that ran, then other policies.

    `error` is the method's error, `left_out` the policies that could not be simulated and why.
    """

    outcomes: tuple[CounterfactualOutcome, ...]
    error: MethodError
    left_out: tuple[str, ...]

    @property
    def runs_data(self) -> list[RunData]:
        return [outcome.run_data for outcome in self.outcomes]

    @property
    def base(self) -> CounterfactualOutcome:
        """What the others are compared to: the policy that ran; in a dry run the sizes, which were somebody else's."""
        return self.outcomes[0 if self.error.dry_run else 1]


@dataclass(frozen=True, slots=True)
class ContenderRequest:
    """Who else is asked for: workload files, read already, and peers' words."""

    files: Sequence[tuple[Path, Workload]] = ()
    words: Sequence[str] = ()


def others(
    found: PeriodSummary, world: RebuiltWorld, asked: ContenderRequest, seed: int, progress: Progress = lambda _: None
) -> Counterfactuals:
    """Simulate the policy that ran, its peers and those asked for. Raises `ConfigError` and `TraceError`."""
    recorded, trace = found.recorded, checked(world.rebuilt.trace)
    taking_part, left_out = _taking_part(recorded, world, asked)
    steps = len(taking_part) + 1
    outcomes = [_same(recorded, world, trace, seed, lambda share: progress(share / steps))]
    compared: list[tuple[SizeComparison | None, float, bool]] = []
    for k, contender in enumerate(taking_part, 1):
        outcome, line = _simulated(
            contender,
            recorded,
            world,
            trace,
            seed,
            lambda share, k=k: progress((k + share) / steps),  # type: ignore[misc]
        )
        outcomes.append(outcome)
        compared.append(sizes(recorded, line))
    return Counterfactuals(tuple(outcomes), _error(found, compared[0], outcomes[0], outcomes[1]), tuple(left_out))


def _same(
    recorded: RecordedRun, world: RebuiltWorld, trace: RequestTrace, seed: int, progress: Progress
) -> CounterfactualOutcome:
    done = same_sizes(recorded, replaying(world.case, trace), seed, trace, progress)
    line = done.timeline
    known = RequestedSizes([at + line.epoch_s for at in line.at_s], line.desired)
    return _outcome(SAME, done, known, world, recorded.span_s)


def _simulated(  # noqa: PLR0913 - who, where, with what
    contender: Contender, recorded: RecordedRun, world: RebuiltWorld, trace: RequestTrace, seed: int, progress: Progress
) -> tuple[CounterfactualOutcome, Timeline]:
    """Simulate one contender; return its outcome and sizes, not the run, which is large."""
    known = RequestedSizes([], [])
    done = simulate(replaying(contender.case, trace), seed, trace, record=[known.note], progress=progress)
    return _outcome(contender.name, done, known, world, recorded.span_s), done.timeline


def _taking_part(
    recorded: RecordedRun, world: RebuiltWorld, asked: ContenderRequest
) -> tuple[list[Contender], list[str]]:
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
        name = path.stem if path.stem not in {SAME, *(c.name for c in found)} else str(path)
        found.append(Contender(name, case.under(translated(workload, str(path)), str(path))))
    return found, left_out


@dataclass(frozen=True, slots=True)
class RequestedSizes:
    """What each turn found asked for over all pools, as the record has it too."""

    at: list[float]
    size: list[float]

    def note(self, tick: Tick) -> None:
        pools = tick.observation.pools.values()
        if all(isinstance(status, Fresh) for status in pools):
            self.at.append(tick.at)
            self.size.append(float(sum(status.value.desired for status in pools if isinstance(status, Fresh))))


def _outcome(
    name: str, done: SimulationRun, found: RequestedSizes, world: RebuiltWorld, span_s: float
) -> CounterfactualOutcome:
    """Return a run's figures within the recorded period."""
    drawn = run_data(name, done)
    paid = np.sum(list(drawn.paid_usd.values()), axis=0) if drawn.paid_usd else np.zeros(len(drawn.edges_s))
    at_s = np.array(found.at, np.float64) - done.timeline.epoch_s
    size = np.array(found.size, np.float64)
    known = at_s < span_s
    over_s = np.diff(np.append(at_s[known], span_s))
    summary = drawn.summary
    met = summary.attainment.get("all", math.nan)
    return CounterfactualOutcome(
        name=name,
        usd=float(np.interp(span_s, drawn.edges_s, paid)) if world.priced else None,
        replica_hours=float((size[known] * over_s).sum() / HOUR_S),
        requests=summary.arrived,
        late=round(summary.arrived * (1.0 - met)) if world.promised and not math.isnan(met) else None,
        run_data=drawn,
        size_s=at_s[known],
        size=size[known],
    )


def _error(
    found: PeriodSummary,
    told: tuple[SizeComparison | None, float, bool],
    same: CounterfactualOutcome,
    present: CounterfactualOutcome,
) -> MethodError:
    """Return the method's error, with money and late requests where they are known throughout."""
    usd, late = found.total(found.usd), found.total(found.late)
    usd = usd if found.known(found.usd) > WHOLE else None
    late = late if found.known(found.late) > WHOLE else None

    def beside(recorded: float | None, simulated: float | None) -> Pair | None:
        return None if recorded is None or simulated is None else (recorded, float(simulated))

    return MethodError(
        *told,
        beside(usd, same.usd),
        beside(late, same.late),
        beside(usd, present.usd),
        beside(late, present.late),
    )
