"""The clairvoyant oracle: the least cost that keeps the scenario's promise, by somebody who knows what is to come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from policies.model import PoolName
from simulators.oracle.drive import drive
from simulators.oracle.sizes import Sizes, Supply, needed, static, supplies
from simulators.oracle.work import bound_usd
from simulators.results import Requests, usd
from simulators.run import Progress, Run, ends_s
from simulators.scenario import Case
from simulators.traffic.trace import Trace

SIMULATIONS: Final = 20
"""A day of one engine's requests takes some seconds: a minute for the whole plan."""
BISECTIONS: Final = 7
"""Halvings of a range of 16 on a logarithmic scale: the utilization comes out to 2 %."""
RANGE: Final = 4.0
"""How far from the smallest fixed size's own utilization at the peak the best one is looked for, either way."""
PIECE: Final = 360
"""Buckets (an hour) that are taken away as one at most: the requests that may fail are spent where they save most."""
FILLED: Final = 0.7
"""Where the search for the smallest fixed size begins: the share of a replica's time at saturation used at the peak."""


class SloUnreachable(Exception):
    """No size meets the promise: the promise, the sizes allowed, or the traffic must change."""


@dataclass(frozen=True, slots=True)
class Oracle:
    """What the oracle found. `bound_usd` is what the promise costs at the very least, whoever keeps it and however."""

    run: Run
    cost_usd: float
    attainment: float
    bound_usd: float
    static_replicas: int
    utilization: float | None
    simulations: int


@dataclass(frozen=True, slots=True)
class _Tried:
    """A plan that has been simulated."""

    sizes: Sizes
    run: Run
    attainment: float
    cost: int


class _Search:
    """Simulates plans, each of them once, and keeps the cheapest one that meets the promise."""

    def __init__(self, case: Case, seed: int, trace: Trace, simulations: int, progress: Progress) -> None:
        self.case, self.seed, self.trace = case, seed, trace
        self.left = self.allowed = simulations
        self.best: _Tried | None = None
        self._progress = progress
        self._known: dict[bytes, tuple[bool, float]] = {}

    @property
    def spent(self) -> int:
        return self.allowed - self.left

    def meets(self, sizes: Sizes) -> tuple[bool, float]:
        """Whether a plan meets the promise, and for what share of the requests."""
        key = b"".join(size.tobytes() for size in sizes.values())
        if key not in self._known:
            self._known[key] = self._simulate(sizes)
        return self._known[key]

    def _simulate(self, sizes: Sizes) -> tuple[bool, float]:
        done = self.spent
        run = drive(
            self.case, self.seed, self.trace, sizes, lambda share: self._progress((done + share) / self.allowed)
        )
        self.left -= 1
        requests = Requests(run)
        attainment = float(requests.met["all"].mean()) if len(requests) else 0.0
        met = attainment >= self.case.scenario.slo.share
        cost = sum(p.bill(run.world.now_ps, run.world.kernel.occupied_ps).total for p in run.world.pools.values())
        if met and (self.best is None or cost < self.best.cost):
            self.best = _Tried(sizes, run, attainment, cost)
        return met, attainment


def plan(
    case: Case, seed: int, trace: Trace, progress: Progress = lambda _: None, *, simulations: int = SIMULATIONS
) -> Oracle:
    """The cheapest run found that meets the scenario's promise, within a number of simulations.

    The workload's sources and policies have no part in it, only how far its pools may grow. Raises `SloUnreachable`.
    """
    end_s = ends_s(case, trace)
    pools = supplies(case, seed, trace, end_s)
    search = _Search(case, seed, trace, simulations, progress)
    replicas = _smallest_fixed(search, pools)
    utilization = _best_utilization(search, pools, replicas)
    _remove(search, pools)
    best = search.best
    assert best is not None, "the smallest fixed size has met the promise"  # noqa: S101 - an invariant
    return Oracle(
        run=best.run,
        cost_usd=usd(best.cost),
        attainment=best.attainment,
        bound_usd=bound_usd(case, seed, trace, end_s),
        static_replicas=replicas,
        utilization=utilization,
        simulations=search.spent,
    )


def _smallest_fixed(search: _Search, pools: list[Supply]) -> int:
    """The smallest number of replicas that meets the promise if it never changes: bracketed, then halved."""
    allowed = search.case.workload.spec.max_replicas
    most = min(allowed, max(1, int(np.sum([pool.limit for pool in pools], axis=0).max())))
    peak = min(float(pool.load.max()) for pool in pools)
    low, high = 0, min(most, max(1, round(peak / FILLED)))
    while True:
        met, attainment = search.meets(static(pools, high))
        if met:
            break
        if high == most:
            scenario = search.case.scenario
            raise SloUnreachable(
                f"{scenario.scenario}: no size meets the promise: {most} replicas from beginning to end, the most that"
                f" may be had, keep it for {attainment:.2%} of requests, {scenario.slo.share:.2%} promised: allow more"
                " replicas, begin with more, or promise less"
            )
        low, high = high, min(most, 2 * high)
    while high - low > 1:
        middle = (low + high) // 2
        if search.meets(static(pools, middle))[0]:
            high = middle
        else:
            low = middle
    return high


def _best_utilization(search: _Search, pools: list[Supply], replicas: int) -> float | None:
    """The highest utilization whose plan meets the promise, by halving on a logarithmic scale; None if none was found.

    At the lower end of the range the plan is nearly the fixed size, which meets it.
    """
    peak = min(float(pool.load.max()) for pool in pools) / replicas
    low, high, found = peak / RANGE, peak * RANGE, None
    for _ in range(BISECTIONS):
        if search.left <= 0:
            break
        middle = float(np.round(np.sqrt(low * high), 6))
        if search.meets(needed(pools, middle, replicas))[0]:
            low = found = middle
        else:
            high = middle
    return found


def _remove(search: _Search, pools: list[Supply]) -> None:
    """Take away replica-intervals, those used least first: as many at once as go, fewer after a failure."""
    if search.best is None:
        return
    waiting = sorted(_intervals(search.best.sizes, pools), key=lambda found: (found.use, -found.length))
    many = max(1, len(waiting) // 8)
    while search.left > 0 and waiting:
        now, best = waiting[:many], search.best
        before = best.cost
        search.meets(without(best.sizes, now))
        if search.best.cost < before:
            waiting, many = waiting[many:], many * 2
        elif many > 1:
            many = max(1, many // 4)
        else:
            waiting = waiting[1:]


@dataclass(frozen=True, slots=True)
class Interval:
    """One layer of a pool from a bucket to another, and the share of it that its work fills in the mean."""

    pool: PoolName
    begin: int
    end: int
    use: float

    @property
    def length(self) -> int:
        return self.end - self.begin


def without(sizes: Sizes, intervals: list[Interval]) -> Sizes:
    """The plan with a replica less in each of the intervals."""
    fewer = {name: size.copy() for name, size in sizes.items()}
    for found in intervals:
        fewer[found.pool][found.begin : found.end] -= 1
    return fewer


def _intervals(sizes: Sizes, pools: list[Supply]) -> Iterator[Interval]:
    """Every interval in which a layer of a pool is on, in pieces, of those pools that are paid by use."""
    below = np.zeros(len(pools[0].load))
    for pool in pools:
        size = sizes[pool.name]
        for layer in range(1, int(size.max()) + 1 if not pool.reserved else 1):
            on = np.concatenate(([0], (size >= layer).astype(np.int8), [0]))
            edges = np.flatnonzero(np.diff(on)).tolist()
            use = np.clip(pool.load - below - (layer - 1), 0.0, 1.0)
            for since, until in zip(edges[::2], edges[1::2], strict=True):
                for begin in range(since, until, PIECE):
                    end = min(begin + PIECE, until)
                    yield Interval(pool.name, begin, end, float(np.round(use[begin:end].mean(), 9)))
        below = below + size
