"""Weighted quantiles of forecast residuals, with an exponential tail.

The method is split-conformal (Vovk et al. 2005; Lei et al., JASA 2018) and exponentially weighted, so that coverage
holds under drift (Barber et al., Ann. Statist. 2023): the i-th of `n` residuals is the i/(n+1) quantile, and an
exponential tail extends beyond the largest.

Example: residuals of 1, 5, 7 and 9 are the 0.2, 0.4, 0.6 and 0.8 quantiles.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TAIL_FROM: Final = 0.8
"""The mean excess of the tail is that of the outer fifth on each side: an exponential tail (Pickands 1975, shape 0)."""
TAIL_AT: Final = 0.9
"""The tail replaces the residuals above this level: the 0.99 quantile of 160 overlapping residuals depends on one or
two of them, and the mean excess of thirty varies less."""
OUTER: Final = (1.0 - TAIL_FROM, TAIL_FROM)
ROW_OFFSET: Final = 2.0**16
"""More than the total weight of a row, so that the weights of consecutive rows rise."""
TINY: Final = 1e-9
MIN_LEVEL: Final = 0.5
"""Share of the long-run mean that is added to the level, so that a quiet hour does not have a spread of zero."""
PRIOR_NODES: Final = (np.arange(5) + 1.0) / 6.0
PRIOR_SAMPLES: Final = 2.0
"""Weight of the prior before the first residual, in independent residuals."""
PRIOR_HALF_LIFE: Final = 2.0
"""The prior has half its weight after this many independent residuals. The 160 residuals of a long horizon are 30
independent ones, and a prior of constant weight would always determine their 0.99 quantile."""
PRIOR_SPREAD: Final = 0.15
PRIOR_SPREAD_AT_S: Final = 300.0
"""The prior: load changes by 15 % in five minutes, and by the root of time, as a random walk does: 30 % in 20 min."""


def scale(mean: NDArray[np.float64] | float, typical: float) -> NDArray[np.float64]:
    """Return the unit of residuals, in the unit of `mean`.

    It grows with the root of the level, as the spread of a Poisson count does: 4 times the requests, twice the spread.
    `typical` is the long-run mean. It replaces the unknown size of a request, and widens the spread of quiet hours,
    since the next hour may be busy.

    Example: with a long-run mean of 2, the unit is sqrt((1 + 0.5 * 2) * 2) = 2.0 at a mean of 1, and 3.2 at a mean of
    4.
    """
    unit: NDArray[np.float64] = np.sqrt((mean + MIN_LEVEL * typical) * typical)
    return unit


def prior(horizon_s: float) -> NDArray[np.float64]:
    """Return prior residuals of the two targets, of shape (2, nodes).

    The targets are the value at the horizon and the largest up to it. They are quantiles of a Laplace and an
    exponential distribution, in units of `scale`. Example: at 300 s, those of the largest value are -0.15 * ln(1 - i /
    6): 0.03, 0.06, 0.10, 0.16 and 0.27.
    """
    spread = PRIOR_SPREAD * np.sqrt(horizon_s / PRIOR_SPREAD_AT_S)
    p = PRIOR_NODES
    point = np.where(p < 0.5, np.log(2.0 * p), -np.log(2.0 * (1.0 - p)))
    nodes: NDArray[np.float64] = spread * np.stack((point, -np.log1p(-p)))
    return nodes


def quantiles(
    residuals: NDArray[np.float64],
    weights: NDArray[np.float64],
    unseen_weight: NDArray[np.float64],
    levels: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return weighted quantiles of each row, shape (rows, levels).

    Levels rise, and so do the quantiles.

    `residuals` and `weights` are (rows, n); a NaN residual does not count, and a row without residuals gives NaN.
    `unseen_weight` (rows, 1) is the weight of values beyond both ends, half at each: one independent residual. In the
    outer tenth, and beyond the outermost residual, the quantiles are those of an exponential tail with the mean excess
    of the outer fifth.

    Example: 1, 5, 7 and 9 with weights of 1 and an unseen weight of 1 stand at 1 to 4 of a total of 5. The 0.5 quantile
    lies halfway between 5 and 7: 6.
    """
    rows, n = residuals.shape
    start, offset = _row_offsets(rows, n)
    order = residuals.argsort(axis=1)
    order += start
    r, w = residuals.ravel()[order], weights.ravel()[order]
    top: NDArray[np.int64] = start + (n - 1)
    if np.isnan(r[:, -1]).any():
        known = ~np.isnan(r)
        w = np.where(known, w, 0.0)
        r = np.where(known, r, np.fmax.reduce(residuals, axis=1)[:, None])
        top = start + (known.sum(axis=1, keepdims=True) - 1).clip(0)
    at = w.cumsum(axis=1)
    total = at[:, -1:] + unseen_weight
    at -= 0.5 * w
    at += 0.5 * unseen_weight
    positions = np.concatenate((levels, OUTER)) * total
    above = (at + offset).ravel().searchsorted(positions + offset)  # one search for all rows, as together they rise
    flat_at, flat_r = at.ravel(), r.ravel()
    upper = np.minimum(np.maximum(above[:, :-2], start + 1), start + (n - 1))
    lower = np.maximum(upper - 1, start)
    at0, r0 = flat_at[lower], flat_r[lower]
    fraction = (positions[:, :-2] - at0) / np.maximum(flat_at[upper] - at0, TINY)
    result: NDArray[np.float64] = r0 + np.minimum(np.maximum(fraction, 0.0), 1.0) * (flat_r[upper] - r0)
    high = positions[:, :-2] > np.minimum(TAIL_AT * total, flat_at[top])
    if high.any():
        tail = _tail(r, w, (total - at) / total, (above - start)[:, -1], 1.0 - levels)
        result = np.maximum.accumulate(np.where(high, tail, result), axis=1)
    low = positions[:, :-2] < np.maximum((1.0 - TAIL_AT) * total, at[:, :1])
    if low.any():
        tail = -_tail(-r[:, ::-1], w[:, ::-1], at[:, ::-1] / total, n - (above - start)[:, -2], levels)
        result = np.minimum.accumulate(np.where(low, tail, result)[:, ::-1], axis=1)[:, ::-1]
    return result


@lru_cache(maxsize=64)
def _row_offsets(rows: int, n: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the start of each row in a flat array, and the offset of its weights.

    Both have the shape (rows, 1).
    """
    row = np.arange(rows, dtype=np.int64)[:, None]
    return n * row, ROW_OFFSET * row.astype(np.float64)


def _tail(
    r: NDArray[np.float64],
    w: NDArray[np.float64],
    beyond: NDArray[np.float64],
    first: NDArray[np.int64],
    shares: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the values that the tail exceeds with these probabilities: (rows, shares).

    The tail begins at the residual `first` of each row, where the residuals rise; `beyond` (rows, n) is the share
    beyond each residual. Without residuals after `first`, the tail is constant.

    Example: the tail begins at 4.0, with 20 % beyond it and a mean excess of 1.0. 1 % exceed 4 + ln(0.2 / 0.01) = 7.0.
    """
    rows, n = r.shape
    row_indices, first = np.arange(rows), np.minimum(first, n - 1)
    first_column = int(first.min())
    tail_start = r[row_indices, first][:, None]
    w = w[:, first_column:] * (np.arange(first_column, n) > first[:, None])
    excess = (w * (r[:, first_column:] - tail_start)).sum(axis=1) / np.maximum(w.sum(axis=1), TINY)
    excesses = np.log(np.maximum(beyond[row_indices, first][:, None] / np.maximum(shares, TINY), 1.0))
    tail: NDArray[np.float64] = tail_start + excess[:, None] * excesses
    return tail
