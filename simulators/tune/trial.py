"""One trial: a configuration on the traffic of the search, stopped as soon as it is seen to be hopeless."""

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
from simulators.tune.study_inputs import PRESENT, Bundle, Stretch
from simulators.world.traffic.trace import RequestTrace

FIRST_SHARE: Final = 1 / 3
"""Of the first trace is run before a trial is looked at: long enough to see a setting fail, at a third of the price."""
PATIENCE_S: Final = 60.0
"""A request that is in work for so long, and for longer than is promised for the whole of one, is told late."""
BLOCKS: Final = 12
"""Batches of time that a stretch is told in: Law (9.5.3) asks for 10 to 30, long enough to be nearly independent."""
BLOCK_S: Final = 60.0
"""No batch is shorter: less is a burst, which the next batch goes on with."""
MARGINS: Final = (0.25, 0.05)
"""How much dearer than one that served no worse a trial must be to stop: after the first part, after the first seed."""
HOUR_S: Final = 3600.0
Stage = tuple[float, float]
"""What a stage came to: USD an hour, and the share of requests that were late."""


@dataclass(frozen=True, slots=True)
class Bars:
    """What others came to at each stage, the undominated ones: who is far behind one of them is given up.

    `most_late` is the share of late requests beyond which a trial is given up after the first part.
    """

    stages: tuple[tuple[Stage, ...], ...] = ((), ())
    most_late: float = math.inf

    def hopeless(self, stage: int, found: Stage) -> str:
        """Why a trial that came to `found` need not go on; empty if it may."""
        cost, late = found
        if stage == 0 and late > self.most_late:
            return f"{late:.1%} of the requests late in the first part"
        for other, less_late in self.stages[stage]:
            if cost > other * (1 + MARGINS[stage]) and late >= less_late:
                return f"{cost / other - 1:.0%} dearer than another, and no fewer late, in {PARTS[stage]}"
        return ""


PARTS: Final = ("the first part", "the first replication")
Task = Literal["search", "prove", "draw"]
TODAY: Final = -1
"""The number of what runs today, among jobs that are no trials."""


@dataclass(frozen=True, slots=True)
class TrialJob:
    """Something to simulate: a configuration's words on the search's traffic, on the proof's, or for a picture."""

    number: int
    word: str
    task: Task = "search"
    bars: Bars = Bars()


@dataclass(frozen=True, slots=True)
class PlayedStretch:
    """One stretch under one seed, after its warm-up. `blocks` are batches of time: USD, requests, and how many late."""

    stretch: int
    seed: int
    hours: float
    blocks: tuple[tuple[float, int, int], ...]

    def as_json(self) -> list[Any]:
        return [self.stretch, self.seed, self.hours, [list(block) for block in self.blocks]]

    @staticmethod
    def of_json(data: Sequence[Any]) -> PlayedStretch:
        return PlayedStretch(data[0], data[1], data[2], tuple((b[0], b[1], b[2]) for b in data[3]))


@dataclass(frozen=True, slots=True)
class TrialOutcome:
    """What came of a job: all of its runs, or why it was given up (`cut`) or is impossible (`refused`)."""

    played: tuple[PlayedStretch, ...] = ()
    stages: tuple[Stage, ...] = ()
    cut: str = ""
    refused: str = ""
    run_data: RunData | None = None


class WrongVersion(Exception):
    """A worker has another version than the client: its figures would be of another program."""


def play(bundle: Bundle, job: TrialJob) -> TrialOutcome:
    """Do a job. Equal bundles and jobs give equal outcomes, wherever. Raises `WrongVersion`, `InvariantBroken`."""
    mine = version("forescale")
    if bundle.version != mine:
        raise WrongVersion(f"a worker has forescale {mine}, the client {bundle.version}: install the same on both")
    try:
        if job.task == "search":
            return _searched(bundle, job)
        if job.task == "draw":
            stretch = bundle.proof[0]
            run = simulate(*_world(bundle, stretch, next(iter(stretch.traces)), job.word))
            return TrialOutcome(run_data=run_data("before" if job.number == TODAY else "after", run))
        return TrialOutcome(tuple(_all(bundle, bundle.proof, tuple(bundle.proof[0].traces), job.word)))
    except ConfigError as e:
        return TrialOutcome(refused="; ".join(p.rule for p in e.problems))


def _searched(bundle: Bundle, job: TrialJob) -> TrialOutcome:
    """Run a trial until it is given up.

    The first trace's beginning comes first, then all traces under the first seed, then the other seeds.
    """
    first, *others = bundle.seeds
    look = _Look(job.bars, FIRST_SHARE * bundle.train[0].length_s)
    try:
        played = list(_all(bundle, bundle.train, (first,), job.word, look))
    except _GivenUpError as e:
        return TrialOutcome(stages=(look.found,), cut=str(e))
    stages = (look.found, stage(played))
    if cut := job.bars.hopeless(1, stages[-1]):
        return TrialOutcome(stages=stages, cut=cut)
    return TrialOutcome((*played, *_all(bundle, bundle.train, others, job.word)), stages)


class _GivenUpError(Exception):
    """Why a trial need not go on."""


class _Look:
    """Looks at a run once, while it goes on, and ends it if it is hopeless."""

    def __init__(self, bars: Bars, at_s: float) -> None:
        self._bars = bars
        self._at_s = at_s
        self._run: SimulationRun | None = None
        self.found: Stage = (math.nan, math.nan)

    def begun(self, run: SimulationRun) -> None:
        """Keep the run to look at: the first one only."""
        if math.isnan(self.found[0]):
            self._run = run

    def turn(self, tick: Tick) -> None:
        """After each turn. Raises `_GivenUpError`."""
        if self._run is None or tick.decision.at - self._run.case.scenario.epoch_s < self._at_s:
            return
        self.found, self._run = _so_far(self._run), None
        if cut := self._bars.hopeless(0, self.found):
            raise _GivenUpError(cut)


def _so_far(run: SimulationRun) -> Stage:
    """Return the cost and late share by now; an open request is late if it is old enough, and not counted otherwise."""
    requests = CountedRequests(run)
    patience_s = max(PATIENCE_S, requests.slo.e2e_s or 0.0)
    told = requests.finished | (requests.arrival_s < run.end_s - patience_s)
    arrived = int(told.sum())
    late = int((told & ~requests.met["all"]).sum()) if arrived else 0
    return _bill_usd(run) / (run.end_s / HOUR_S), late / arrived if arrived else math.nan


def _bill_usd(run: SimulationRun) -> float:
    pools = run.world.pools.values()
    return usd(sum(p.bill(run.world.now_ps, run.world.kernel.occupied_ps).total for p in pools))


def stage(played: Sequence[PlayedStretch]) -> Stage:
    """USD an hour, and the share of late requests, over runs."""
    cost, arrived, late = (sum(b[k] for p in played for b in p.blocks) for k in range(3))
    return cost / sum(p.hours for p in played), late / arrived if arrived else math.nan


def _all(
    bundle: Bundle, stretches: Sequence[Stretch], seeds: Sequence[int], word: str, look: _Look | None = None
) -> Iterator[PlayedStretch]:
    for seed in seeds:
        for number, stretch in enumerate(stretches):
            world = _world(bundle, stretch, seed, word)
            run = simulate(*world) if look is None else simulate(*world, record=[look.turn], on_start=look.begun)
            hours = (stretch.length_s - run.case.scenario.warm_up_s) / HOUR_S
            yield PlayedStretch(number, seed, hours, tuple(_blocks(run, stretch.length_s)))


def _world(bundle: Bundle, stretch: Stretch, seed: int, word: str) -> tuple[Case, int, RequestTrace]:
    """Return the stretch's world under a configuration. Raises `ConfigError`."""
    if word == PRESENT and bundle.present is not None:
        case = stretch.case.under(bundle.present, PRESENT)
    else:
        case = stretch.case if word == SELF else contenders(stretch.case, [word], with_self=False)[0].case
    return case, seed, stretch.traces[seed]


def _blocks(run: SimulationRun, length_s: float) -> Iterator[tuple[float, int, int]]:
    """Yield a run in batches of time, from the end of its warm-up to the end of its traffic.

    What a bill adds at the end of a node is shared out over the whole run.
    """
    edges_s = _edges(run.case.scenario.warm_up_s, length_s)
    requests = CountedRequests(run)
    bins = np.searchsorted(requests.arrival_s, edges_s[1:-1])
    met = requests.met["all"] if len(requests) else np.zeros(0, np.bool_)
    counts = np.diff(bins, prepend=0, append=len(met))
    kept = np.diff(np.concatenate(([0], np.cumsum(met)))[np.concatenate(([0], bins, [len(met)]))])
    around_s = np.concatenate(([0.0], edges_s, [run.end_s]))
    paid = np.diff(np.sum([np.zeros(len(around_s)), *by_market(run, around_s).values()], axis=0))
    known_usd = float(paid.sum())
    factor = _bill_usd(run) / known_usd if known_usd else 0.0
    for cost, count, met_count in zip(paid[1:-1].tolist(), counts.tolist(), kept.tolist(), strict=True):
        yield round(cost * factor, 6), count, count - met_count


@lru_cache(maxsize=64)
def _edges(warm_up_s: float, length_s: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    count = max(1, min(BLOCKS, int((length_s - warm_up_s) / BLOCK_S)))
    return np.linspace(warm_up_s, length_s, count + 1)
