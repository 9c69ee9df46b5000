"""Cheapest plan for a target with all future capacity known, as a linear program.

Time is divided into steps. A requested replica serves `delay` steps later and is paid from its request; starting and
serving replicas stay within the zone's capacity in every step, so that no start is lost. The optimum is a lower bound
of every plan on this grid, with whole or fractional replicas.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_array

Floats = NDArray[np.float64]


def cheapest_usd(
    prices: Sequence[float],
    limits: Sequence[Floats | None],
    target: Floats,
    first: Sequence[float],
    delay: int,
    step_h: float,
) -> float:
    """Return the minimum cost of `target` ready replicas in every step, with `first` serving at the start. USD.

    `prices` are USD per hour, `limits` the capacity in each step; None: without limit.
    """
    steps, pools = len(target), len(prices)
    serving = np.arange(pools * steps).reshape(pools, steps)
    starts = serving + pools * steps
    stops = starts + pools * steps
    rows: list[NDArray[np.int64]] = []
    columns: list[NDArray[np.int64]] = []
    values: list[Floats] = []

    def add_entries(row: NDArray[np.int64], column: NDArray[np.int64], value: float) -> None:
        rows.append(row)
        columns.append(column)
        values.append(np.full(row.size, value))

    # serving[t] - serving[t-1] - starts[t-delay] + stops[t] = 0
    for pool in range(pools):
        row = np.arange(steps) + pool * steps
        add_entries(row, serving[pool], 1.0)
        add_entries(row[1:], serving[pool, :-1], -1.0)
        add_entries(row[delay:], starts[pool, : steps - delay], -1.0)
        add_entries(row, stops[pool], 1.0)
    flow = _matrix(rows, columns, values, (pools * steps, 3 * pools * steps))
    rows, columns, values = [], [], []

    # starting and serving within the limit; the target met
    bounds: list[Floats] = []
    count = 0
    for pool, limit in enumerate(limits):
        if limit is None:
            continue
        row = np.arange(steps) + count
        add_entries(row, serving[pool], 1.0)
        for age in range(delay):
            add_entries(row[age:], starts[pool, : steps - age], 1.0)
        bounds.append(limit)
        count += steps
    row = np.arange(steps) + count
    for pool in range(pools):
        add_entries(row, serving[pool], -1.0)
    bounds.append(-target)
    within = _matrix(rows, columns, values, (count + steps, 3 * pools * steps))

    cost = np.zeros(3 * pools * steps)
    for pool, price in enumerate(prices):
        cost[serving[pool]] = price * step_h
        paid = np.minimum(delay, steps - np.arange(steps))
        cost[starts[pool]] = price * step_h * paid
    initial = np.zeros((pools, steps))
    initial[:, 0] = first
    solution = linprog(cost, A_ub=within, b_ub=np.concatenate(bounds), A_eq=flow, b_eq=initial.ravel(), method="highs")
    if solution.status != 0:
        raise ValueError(f"no plan meets the target: {solution.message}")
    return float(solution.fun)


def _matrix(
    rows: list[NDArray[np.int64]], columns: list[NDArray[np.int64]], values: list[Floats], shape: tuple[int, int]
) -> coo_array:
    return coo_array((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=shape)
