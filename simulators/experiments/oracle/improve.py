"""Cost reduction of a plan that meets the SLO.

It removes the idle replicas, then the least used ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from policies.model import PoolName
from simulators.experiments.oracle.apply_plan import BUCKET_PS
from simulators.experiments.oracle.search import PlanSearch
from simulators.experiments.oracle.sizes import Ints, Sizes, Supply, fill_gaps
from simulators.experiments.run import SimulationRun

TRIMS: Final = 3
"""The number of passes that remove idle replicas: each pass leaves fewer."""
PIECE_BUCKETS: Final = 360
"""The longest interval removed at once, in buckets: an hour."""


def trim(search: PlanSearch, pools: list[Supply]) -> None:
    """Remove replicas where a run had fewer requests than replicas.

    Fewer starts draw other nodes with other start-up times. Each pass reads the open requests of the last run, also of
    one that failed: they last longer where a removed replica was needed.
    """
    run = search.best.run if search.best is not None else None
    for _ in range(TRIMS):
        if search.best is None or run is None or search.remaining <= 0:
            return
        sizes = _without_idle(search.best.sizes, run, pools)
        if search.is_known(sizes):
            return
        run = search.try_plan(sizes).run


def _without_idle(sizes: Sizes, run: SimulationRun, pools: list[Supply]) -> Sizes:
    """Return sizes of at most the run's open requests, with gaps shorter than a start-up filled.

    A size of 3, 3, 3 with 2, 2 and 3 open requests becomes 2, 2, 3. Reserved pools keep their size.
    """
    open_requests = _open_requests(run, len(pools[0].load))
    fewer: Sizes = {}
    for pool in pools:
        size = sizes[pool.name]
        if not pool.reserved:
            size = np.minimum(size, fill_gaps(np.minimum(size, open_requests), pool.start_buckets))
        fewer[pool.name] = size
        open_requests = np.maximum(open_requests - size, 0)
    return fewer


def _open_requests(run: SimulationRun, buckets: int) -> Ints:
    """Return the number of requests open at any time of each bucket, from arrival to end."""
    requests = run.world.kernel.arrived_requests
    arrival = requests.arrived_ps // BUCKET_PS
    end = np.where(requests.is_finished, requests.finished_ps // BUCKET_PS, buckets)
    arrived = np.cumsum(np.bincount(np.minimum(arrival, buckets), minlength=buckets + 1))
    ended_count = np.cumsum(np.bincount(np.minimum(end + 1, buckets), minlength=buckets + 1))
    return np.asarray((arrived - ended_count)[:buckets])


@dataclass(frozen=True, slots=True)
class PoolLayer:
    """One layer of a pool between two buckets, and its mean utilization `use`."""

    pool: PoolName
    begin: int
    end: int
    use: float


def remove(search: PlanSearch, pools: list[Supply]) -> None:
    """Remove replica-intervals, least used first, in batches.

    Batches grow on success and shrink on failure. Of 80 intervals the first batch takes 10. If the plan still meets the
    SLO the next takes 20, else 2.
    """
    if search.best is None:
        return
    candidates = sorted(
        _intervals(search.best.sizes, pools), key=lambda interval: (interval.use, interval.begin - interval.end)
    )
    batch = max(1, len(candidates) // 8)
    while search.remaining > 0 and candidates:
        best = search.best
        search.meets(_subtract(best.sizes, candidates[:batch]))
        if search.best is not best:
            candidates, batch = candidates[batch:], batch * 2
        elif batch > 1:
            batch = max(1, batch // 4)
        else:
            candidates = candidates[1:]


def _subtract(sizes: Sizes, intervals: list[PoolLayer]) -> Sizes:
    """Return the plan with one replica less in each of the intervals."""
    fewer = {name: size.copy() for name, size in sizes.items()}
    for interval in intervals:
        fewer[interval.pool][interval.begin : interval.end] -= 1
    return fewer


def _intervals(sizes: Sizes, pools: list[Supply]) -> Iterator[PoolLayer]:
    """Yield the intervals in which a layer of a pool is on.

    They are in pieces of at most an hour. Reserved pools have none.
    """
    below = np.zeros(len(pools[0].load))
    for pool in pools:
        size = sizes[pool.name]
        for layer in range(1, int(size.max()) + 1 if not pool.reserved else 1):
            active = np.concatenate(([0], (size >= layer).astype(np.int8), [0]))
            edges = np.flatnonzero(np.diff(active)).tolist()
            use = np.clip(pool.load - below - (layer - 1), 0.0, 1.0)
            for on, off in zip(edges[::2], edges[1::2], strict=True):
                for begin in range(on, off, PIECE_BUCKETS):
                    end = min(begin + PIECE_BUCKETS, off)
                    yield PoolLayer(pool.name, begin, end, float(np.round(use[begin:end].mean(), 9)))
        below = below + size
