"""Counterfactuals: other policies simulated on the rebuilt requests.

The policy that ran is simulated too, which gives the error of the method.
"""

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
from simulators.backtest.period_summary import HOUR_S, MIN_KNOWN_SHARE, PeriodSummary
from simulators.backtest.recorded_run import RecordedRun
from simulators.backtest.replay_sizes import replay_sizes
from simulators.backtest.validation import CheckedDifference, MethodError, Pair, SizeComparison, compare_sizes
from simulators.backtest.world import RebuiltWorld, reads_a_queue, simulated_workload
from simulators.experiments.contenders.contenders import Contender, contenders
from simulators.experiments.run import SimulationRun, Timeline, checked, replaying, simulate
from simulators.reporting.run_data import RunData, run_data
from simulators.reporting.time_bins import Floats
from simulators.world.traffic.trace import RequestTrace

Progress = Callable[[float], None]
"""A callback that gets the completed share, 0 to 1."""
SAME_SIZES: Final = "same sizes"
"""The name of the recorded sizes in the rebuilt world."""
PRESENT: Final = "present"
"""The name of the policy that ran."""
PEERS: Final = {False: ("hpa", "keda"), True: ("hpa", "keda-queue")}
"""The default peers, by whether work waits in a queue."""


@dataclass(frozen=True, slots=True)
class CounterfactualOutcome:
    """One policy simulated over the recorded period: cost, requested replicas and late requests.

    `usd` is None if a price is unknown, `late` if there is no SLO. All but `late` exclude the time to settle. `size`
    are the requested replicas at `size_s`, in seconds since the start.
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
    """The simulated runs of the recorded sizes, the policy that ran, and other policies.

    The runs are in this order. `error` is the method's error, `left_out` the policies that cannot be simulated, with
    the reason.
    """

    outcomes: tuple[CounterfactualOutcome, ...]
    error: MethodError
    left_out: tuple[str, ...]

    @property
    def runs_data(self) -> list[RunData]:
        return [outcome.run_data for outcome in self.outcomes]

    @property
    def baseline(self) -> CounterfactualOutcome:
        """The run that the others are compared with.

        It is the policy that ran, or the recorded sizes if it was a dry run.
        """
        return self.outcomes[0 if self.error.dry_run else 1]

    def usd_difference(self, outcome: CounterfactualOutcome) -> CheckedDifference | None:
        """Return an outcome's cost minus the baseline's; None if unknown or not compared."""
        return self._difference(outcome, outcome.usd, self.baseline.usd, self.error.usd_off)

    def late_difference(self, outcome: CounterfactualOutcome) -> CheckedDifference | None:
        """Return an outcome's late requests minus the baseline's; None if unknown or not compared."""
        return self._difference(outcome, outcome.late, self.baseline.late, self.error.late_off)

    def is_compared(self, outcome: CounterfactualOutcome) -> bool:
        """Whether an outcome is another policy: not the baseline, and not the recorded sizes."""
        return outcome.name not in {self.baseline.name, SAME_SIZES}

    def _difference(
        self, outcome: CounterfactualOutcome, value: float | None, base: float | None, error: float | None
    ) -> CheckedDifference | None:
        if value is None or base is None or not self.is_compared(outcome):
            return None
        return CheckedDifference(value - base, error)


@dataclass(frozen=True, slots=True)
class RequestedContenders:
    """The requested contenders: workload files with their workloads, and peers' texts."""

    files: Sequence[tuple[Path, Workload]] = ()
    texts: Sequence[str] = ()


def simulate_counterfactuals(
    summary: PeriodSummary,
    world: RebuiltWorld,
    requested: RequestedContenders,
    seed: int,
    progress: Progress = lambda _: None,
) -> Counterfactuals:
    """Simulate the policy that ran, the peers and the requested contenders.

    Raises `ConfigError` and `TraceError`.
    """
    recorded, trace = summary.recorded, checked(world.rebuilt.trace)
    contenders_, left_out = _contenders(recorded, world, requested)
    steps = len(contenders_) + 1
    outcomes = [_replay_recorded_sizes(recorded, world, trace, seed, lambda share: progress(share / steps))]
    compared: list[tuple[SizeComparison | None, float, bool]] = []
    for k, contender in enumerate(contenders_, 1):
        outcome, timeline = _simulate_contender(
            contender,
            recorded,
            world,
            trace,
            seed,
            lambda share, k=k: progress((k + share) / steps),  # type: ignore[misc]
        )
        outcomes.append(outcome)
        compared.append(compare_sizes(recorded, timeline))
    return Counterfactuals(tuple(outcomes), _error(summary, compared[0], outcomes[0], outcomes[1]), tuple(left_out))


def _replay_recorded_sizes(
    recorded: RecordedRun, world: RebuiltWorld, trace: RequestTrace, seed: int, progress: Progress
) -> CounterfactualOutcome:
    run = replay_sizes(recorded, replaying(world.case, trace), seed, trace, progress)
    timeline = run.timeline
    requested = RequestedSizes([at + timeline.epoch_s for at in timeline.at_s], timeline.desired)
    return _outcome(SAME_SIZES, run, requested, world, recorded.span_s)


def _simulate_contender(  # noqa: PLR0913 - the contender and its world
    contender: Contender, recorded: RecordedRun, world: RebuiltWorld, trace: RequestTrace, seed: int, progress: Progress
) -> tuple[CounterfactualOutcome, Timeline]:
    """Simulate one contender. Return its outcome and sizes, not the run, which is large."""
    requested_sizes = RequestedSizes([], [])
    run = simulate(
        replaying(contender.case, trace), seed, trace, record=[requested_sizes.record_tick], progress=progress
    )
    return _outcome(contender.name, run, requested_sizes, world, recorded.span_s), run.timeline


def _contenders(
    recorded: RecordedRun, world: RebuiltWorld, requested: RequestedContenders
) -> tuple[list[Contender], list[str]]:
    case = world.case
    selected, left_out = [Contender(PRESENT, case)], []
    for peer in PEERS[reads_a_queue(recorded.spec)]:
        needs_one = recorded.spec.min_replicas == 0 and peer != "keda-queue"  # engines report nothing at zero
        try:
            selected += contenders(case, [f"{peer}:min_replicas=1" if needs_one else peer], with_self=False)
        except ConfigError as e:
            left_out.append(f"{peer}: {'; '.join(p.rule for p in e.problems)}")
    names = {contender.name for contender in selected}
    if added := [text for text in requested.texts if text not in names]:
        selected += contenders(case, added, with_self=False)
    for path, workload in requested.files:
        name = path.stem if path.stem not in {SAME_SIZES, *(c.name for c in selected)} else str(path)
        selected.append(Contender(name, case.under(simulated_workload(workload, str(path)), str(path))))
    return selected, left_out


@dataclass(frozen=True, slots=True)
class RequestedSizes:
    """The desired replicas over all pools at each tick, as a record has them."""

    time_s: list[float]
    size: list[float]

    def record_tick(self, tick: Tick) -> None:
        pools = tick.observation.pools.values()
        if all(isinstance(status, Fresh) for status in pools):
            self.time_s.append(tick.at)
            self.size.append(float(sum(status.value.desired for status in pools if isinstance(status, Fresh))))


def _outcome(
    name: str, run: SimulationRun, requested: RequestedSizes, world: RebuiltWorld, span_s: float
) -> CounterfactualOutcome:
    """Return a run's figures within the recorded period."""
    data = run_data(name, run)
    paid = np.sum(list(data.paid_usd.values()), axis=0) if data.paid_usd else np.zeros(len(data.edges_s))
    at_s = np.array(requested.time_s, np.float64) - run.timeline.epoch_s
    size = np.array(requested.size, np.float64)
    in_period = at_s < span_s
    held_s = np.diff(np.append(at_s[in_period], span_s))
    summary = data.summary
    met = summary.attainment.get("all", math.nan)
    return CounterfactualOutcome(
        name=name,
        usd=float(np.interp(span_s, data.edges_s, paid)) if world.has_prices else None,
        replica_hours=float((size[in_period] * held_s).sum() / HOUR_S),
        requests=summary.arrived,
        late=round(summary.arrived * (1.0 - met)) if world.has_slo and not math.isnan(met) else None,
        run_data=data,
        size_s=at_s[in_period],
        size=size[in_period],
    )


def _error(
    summary: PeriodSummary,
    comparison: tuple[SizeComparison | None, float, bool],
    replayed: CounterfactualOutcome,
    present: CounterfactualOutcome,
) -> MethodError:
    """Return the method's error.

    It includes cost and late requests if they are known for more than `MIN_KNOWN_SHARE` of the time.
    """
    usd, late = summary.total(summary.usd), summary.total(summary.late)
    usd = usd if summary.known(summary.usd) > MIN_KNOWN_SHARE else None
    late = late if summary.known(summary.late) > MIN_KNOWN_SHARE else None
    hours = summary.replica_hours

    def pair(recorded: float | None, simulated: float | None) -> Pair | None:
        return None if recorded is None or simulated is None else (recorded, float(simulated))

    return MethodError(
        *comparison,
        pair(usd, replayed.usd),
        pair(late, replayed.late),
        pair(usd, present.usd),
        pair(late, present.late),
        pair(hours, replayed.replica_hours),
        pair(hours, present.replica_hours),
    )
