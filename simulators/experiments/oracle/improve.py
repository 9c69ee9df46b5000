"""A plan that meets the promise made cheaper: replicas without work given up, then those with the least."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from policies.model import PoolName
from simulators.experiments.oracle.apply_plan import BUCKET_PS
from simulators.experiments.oracle.search import PlanSearch
from simulators.experiments.oracle.sizes import Ints, Sizes, Supply, bridged
from simulators.experiments.run import SimulationRun

TRIMS: Final = 3
"""Times that replicas without work are looked for: each trim leaves less to find."""
PIECE: Final = 360
"""Buckets (an hour) that are taken away as one at most: the requests that may fail are spent where they save most."""


def trim(search: PlanSearch, pools: list[Supply]) -> None:
    """Give up replicas where there are fewer requests than replicas: some have nothing to do.

    Fewer starts are other nodes, with other lives: where that leaves work undone, the run that failed tells for how
    long the replicas are needed after all.
    """
    run = search.best.run if search.best is not None else None
    for _ in range(TRIMS):
        if search.best is None or run is None or search.left <= 0:
            return
        sizes = _busy(search.best.sizes, run, pools)
        if search.known(sizes):
            return
        run = search.tried(sizes).run


def _busy(sizes: Sizes, run: SimulationRun, pools: list[Supply]) -> Sizes:
    """No more replicas than a run had requests, but for gaps that are not worth a start."""
    left = _present(run, len(pools[0].load))
    fewer: Sizes = {}
    for pool in pools:
        size = sizes[pool.name]
        if not pool.reserved:
            size = np.minimum(size, bridged(np.minimum(size, left), pool.start_buckets))
        fewer[pool.name] = size
        left = np.maximum(left - size, 0)
    return fewer


def _present(run: SimulationRun, buckets: int) -> Ints:
    """Return the requests that were in the world at some time of each bucket: from their arrival until they ended."""
    requests = run.world.kernel.arrived_requests
    begin = requests.arrived_ps // BUCKET_PS
    ended = np.where(requests.is_finished, requests.finished_ps // BUCKET_PS, buckets)
    came = np.cumsum(np.bincount(np.minimum(begin, buckets), minlength=buckets + 1))
    left = np.cumsum(np.bincount(np.minimum(ended + 1, buckets), minlength=buckets + 1))
    return np.asarray((came - left)[:buckets])


@dataclass(frozen=True, slots=True)
class Interval:
    """One layer of a pool from a bucket to another, and the share of it that its work fills in the mean."""

    pool: PoolName
    begin: int
    end: int
    use: float


def remove(search: PlanSearch, pools: list[Supply]) -> None:
    """Take away replica-intervals, those used least first: as many at once as go, fewer after a failure."""
    if search.best is None:
        return
    waiting = sorted(_intervals(search.best.sizes, pools), key=lambda found: (found.use, found.begin - found.end))
    many = max(1, len(waiting) // 8)
    while search.left > 0 and waiting:
        before = search.best
        search.meets(_without(before.sizes, waiting[:many]))
        if search.best is not before:
            waiting, many = waiting[many:], many * 2
        elif many > 1:
            many = max(1, many // 4)
        else:
            waiting = waiting[1:]


def _without(sizes: Sizes, intervals: list[Interval]) -> Sizes:
    """Return the plan with a replica less in each of the intervals."""
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
