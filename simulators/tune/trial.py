"""One trial: a configuration on the tuning traffic.

A trial is pruned as soon as it cannot reach the front.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Final, Literal

import numpy as np

from policies.model import Tick
from scaler.config.problems import ConfigError
from simulators.experiments.contenders.contenders import SELF, contenders
from simulators.experiments.results import CountedRequests, usd
from simulators.experiments.run import SimulationRun, simulate
from simulators.experiments.scenario import Case
from simulators.reporting.cost_series import by_market
from simulators.reporting.run_data import RunData, run_data
from simulators.tune.study_inputs import PRESENT, StudyInputs, TraceWindow
from simulators.world.traffic.trace import RequestTrace

FIRST_SHARE: Final = 1 / 3
"""The share of the first trace before the first check of a trial: a failing setting shows at a third of the cost."""
MAX_OPEN_S: Final = 60.0
"""An open request older than this, and older than the e2e limit, counts as late. Seconds."""
MAX_BATCHES: Final = 12
"""The maximum number of batches of a window. Law (9.5.3) asks for 10 to 30 that are nearly independent."""
MIN_BATCH_S: Final = 60.0
"""The minimum length of a batch: shorter ones are correlated by bursts. Seconds."""
COST_MARGINS: Final = (0.25, 0.05)
"""The margin in cost at which a trial is pruned: after the first part, and after the first replication."""
HOUR_S: Final = 3600.0
StageFigures = tuple[float, float]
"""The figures of a stage: USD per hour, and the share of late requests."""


@dataclass(frozen=True, slots=True)
class PruneLimits:
    """The undominated figures of the other trials at each stage.

    A trial far worse than one of them is pruned. A trial with more than `max_late_share` late requests is pruned after
    the first part.
    """

    stages: tuple[tuple[StageFigures, ...], ...] = ((), ())
    max_late_share: float = math.inf

    def prune_reason(self, stage: int, figures: StageFigures) -> str:
        """Return why a trial with these figures is pruned; empty if it continues.

        With another trial at 10 USD per hour and 1 % late, one at 13 USD and 2 % is pruned after the first part, since
        it costs 30 % more; one at 13 USD and 0.5 % continues.
        """
        cost, late = figures
        if stage == 0 and late > self.max_late_share:
            return f"{late:.1%} of the requests are late in the first part"
        for other_cost, other_late in self.stages[stage]:
            if cost > other_cost * (1 + COST_MARGINS[stage]) and late >= other_late:
                return f"{cost / other_cost - 1:.0%} more expensive than a trial that is no later, in {PARTS[stage]}"
        return ""


PARTS: Final = ("the first part", "the first replication")
Task = Literal["search", "prove", "draw"]
TODAY: Final = -1
"""The job number of today's configuration if it is no trial."""


@dataclass(frozen=True, slots=True)
class TrialJob:
    """One simulation job.

    It is a contender on the tuning traffic, on the validation traffic, or for the page's plots.
    """

    number: int
    contender: str
    task: Task = "search"
    limits: PruneLimits = PruneLimits()


@dataclass(frozen=True, slots=True)
class WindowResult:
    """One window under one seed, after its warm-up.

    `blocks` are batches of time: (USD, requests, late requests).
    """

    window: int
    seed: int
    hours: float
    blocks: tuple[tuple[float, int, int], ...]

    def as_json(self) -> list[Any]:
        return [self.window, self.seed, self.hours, [list(block) for block in self.blocks]]

    @staticmethod
    def of_json(data: Sequence[Any]) -> WindowResult:
        return WindowResult(data[0], data[1], data[2], tuple((b[0], b[1], b[2]) for b in data[3]))


@dataclass(frozen=True, slots=True)
class TrialOutcome:
    """The outcome of a job.

    It has the job's runs, or the reason why it was `pruned` early or `refused` by the workload's rules.
    """

    results: tuple[WindowResult, ...] = ()
    stages: tuple[StageFigures, ...] = ()
    pruned: str = ""
    refused: str = ""
    run_data: RunData | None = None


class WrongVersion(Exception):
    """A worker has another version than the client."""


def run_job(inputs: StudyInputs, job: TrialJob) -> TrialOutcome:
    """Run a job.

    Equal inputs and jobs give equal outcomes anywhere. Raises `WrongVersion`, `InvariantBroken`.
    """
    own_version = version("forescale")
    if inputs.version != own_version:
        raise WrongVersion(
            f"a worker has forescale {own_version}, the client {inputs.version}: install the same version on both"
        )
    try:
        if job.task == "search":
            return _run_trial(inputs, job)
        if job.task == "draw":
            window = inputs.validation[0]
            run = simulate(*_world(inputs, window, next(iter(window.traces)), job.contender))
            return TrialOutcome(run_data=run_data("before" if job.number == TODAY else "after", run))
        seeds = tuple(inputs.validation[0].traces)
        return TrialOutcome(tuple(_simulate_windows(inputs, inputs.validation, seeds, job.contender)))
    except ConfigError as e:
        return TrialOutcome(refused="; ".join(p.rule for p in e.problems))


def _run_trial(inputs: StudyInputs, job: TrialJob) -> TrialOutcome:
    """Run a trial in stages until it is pruned.

    The stages are the start of the first trace, all traces under the first seed, and the other seeds.
    """
    first, *others = inputs.seeds
    early_check = _EarlyCheck(job.limits, FIRST_SHARE * inputs.tuning[0].length_s)
    try:
        results = list(_simulate_windows(inputs, inputs.tuning, (first,), job.contender, early_check))
    except _PrunedError as e:
        return TrialOutcome(stages=(early_check.figures,), pruned=str(e))
    stages = (early_check.figures, stage_figures(results))
    if pruned := job.limits.prune_reason(1, stages[-1]):
        return TrialOutcome(stages=stages, pruned=pruned)
    return TrialOutcome((*results, *_simulate_windows(inputs, inputs.tuning, others, job.contender)), stages)


class _PrunedError(Exception):
    """A trial is pruned. The message is the reason."""


class _EarlyCheck:
    """A check of the first run at `check_s`.

    It prunes the trial if the trial is far worse than others.
    """

    def __init__(self, limits: PruneLimits, check_s: float) -> None:
        self._limits = limits
        self._check_s = check_s
        self._run: SimulationRun | None = None
        self.figures: StageFigures = (math.nan, math.nan)

    def start(self, run: SimulationRun) -> None:
        """Keep the run for the check. Later runs are ignored."""
        if math.isnan(self.figures[0]):
            self._run = run

    def on_tick(self, tick: Tick) -> None:
        """Check the run at the first tick after `check_s`. Raises `_PrunedError`."""
        if self._run is None or tick.decision.at - self._run.case.scenario.epoch_s < self._check_s:
            return
        self.figures, self._run = _figures_so_far(self._run), None
        if pruned := self._limits.prune_reason(0, self.figures):
            raise _PrunedError(pruned)


def _figures_so_far(run: SimulationRun) -> StageFigures:
    """Return the cost and late share so far.

    An open request is late if it is old enough, else not counted.
    """
    requests = CountedRequests(run)
    max_open_s = max(MAX_OPEN_S, run.case.target.e2e_s or 0.0)
    judged = requests.finished | (requests.arrival_s < run.end_s - max_open_s)
    arrived = int(judged.sum())
    late = int((judged & ~requests.met["all"]).sum()) if arrived else 0
    return _bill_usd(run) / (run.end_s / HOUR_S), late / arrived if arrived else math.nan


def _bill_usd(run: SimulationRun) -> float:
    pools = run.world.pools.values()
    return usd(sum(p.bill(run.world.now_ps, run.world.kernel.occupied_ps).total for p in pools))


def stage_figures(results: Sequence[WindowResult]) -> StageFigures:
    """Return USD per hour and the share of late requests over all runs."""
    cost, arrived, late = (sum(b[k] for p in results for b in p.blocks) for k in range(3))
    return cost / sum(p.hours for p in results), late / arrived if arrived else math.nan


def _simulate_windows(
    inputs: StudyInputs,
    windows: Sequence[TraceWindow],
    seeds: Sequence[int],
    contender: str,
    check: _EarlyCheck | None = None,
) -> Iterator[WindowResult]:
    for seed in seeds:
        for number, window in enumerate(windows):
            world = _world(inputs, window, seed, contender)
            run = simulate(*world) if check is None else simulate(*world, record=[check.on_tick], on_start=check.start)
            hours = (window.length_s - run.case.scenario.warm_up_s) / HOUR_S
            yield WindowResult(number, seed, hours, tuple(_batches(run, window.length_s)))


def _world(inputs: StudyInputs, window: TraceWindow, seed: int, contender: str) -> tuple[Case, int, RequestTrace]:
    """Return the window's case under a contender, the seed and the requests.

    Raises `ConfigError`.
    """
    if contender == PRESENT and inputs.present is not None:
        case = window.case.under(inputs.present, PRESENT)
    else:
        case = window.case if contender == SELF else contenders(window.case, [contender], with_self=False)[0].case
    return case, seed, window.traces[seed]


def _batches(run: SimulationRun, length_s: float) -> Iterator[tuple[float, int, int]]:
    """Yield a run's batches as (USD, requests, late requests).

    They cover the time from the end of its warm-up to the end of its traffic. The charges at the end of a node are
    spread over the run: with 110 USD billed and 100 USD of them in the cost series, each batch's cost is multiplied by
    1.1.
    """
    edges_s = _batch_edges(run.case.scenario.warm_up_s, length_s)
    requests = CountedRequests(run)
    bins = np.searchsorted(requests.arrival_s, edges_s[1:-1])
    met = requests.met["all"] if len(requests) else np.zeros(0, np.bool_)
    counts = np.diff(bins, prepend=0, append=len(met))
    met_counts = np.diff(np.concatenate(([0], np.cumsum(met)))[np.concatenate(([0], bins, [len(met)]))])
    all_edges_s = np.concatenate(([0.0], edges_s, [run.end_s]))
    paid_usd = np.diff(np.sum([np.zeros(len(all_edges_s)), *by_market(run, all_edges_s).values()], axis=0))
    traced_usd = float(paid_usd.sum())
    factor = _bill_usd(run) / traced_usd if traced_usd else 0.0
    for cost, count, met_count in zip(paid_usd[1:-1].tolist(), counts.tolist(), met_counts.tolist(), strict=True):
        yield round(cost * factor, 6), count, count - met_count


@lru_cache(maxsize=64)
def _batch_edges(warm_up_s: float, length_s: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    count = max(1, min(MAX_BATCHES, int((length_s - warm_up_s) / MIN_BATCH_S)))
    return np.linspace(warm_up_s, length_s, count + 1)
