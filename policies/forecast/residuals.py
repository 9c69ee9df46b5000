"""How far off forecasts were, and what that says of the next one: weighted residual quantiles with an honest tail.

Split-conformal in kind (Vovk et al. 2005; Lei et al., JASA 2018) and exponentially weighted, so that coverage holds
under drift (Barber et al., Ann. Statist. 2023): `n` residuals stand at i/(n+1), and beyond the largest a stated tail
takes over.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TAIL_FROM: Final = 0.8
"""The tail's mean excess is taken from the outer fifth on each side: the exponential tail (Pickands 1975, shape 0)."""
TAIL_AT: Final = 0.9
"""The tail speaks from here on: the 0.99 quantile of 160 overlapping residuals is one or two of them, and their mean
excess, of thirty, is less a matter of chance."""
OUTER: Final = (1.0 - TAIL_FROM, TAIL_FROM)
APART: Final = 2.0**16
"""More than the residuals of a row can weigh together, each no more than a few."""
TINY: Final = 1e-9
LEAST_LEVEL: Final = 0.5
"""Share of the long-run mean that a quiet hour's spread is taken for, at the least."""
PRIOR_NODES: Final = (np.arange(5) + 1.0) / 6.0
PRIOR_SAMPLES: Final = 2.0
"""What is believed before anything was seen weighs as much as two independent residuals."""
PRIOR_FADES: Final = 2.0
"""After so many independent residuals the belief weighs half as much: 160 residuals of a long horizon are 30
independent ones, and a belief that never faded would be their 0.99 quantile for ever."""
PRIOR_SPREAD: Final = 0.15
PRIOR_SPREAD_AT_S: Final = 300.0
"""Before anything was seen: the load moves by 15 % in five minutes, and with the root of time, as a random walk."""


def scale(mean: NDArray[np.float64] | float, typical: float) -> NDArray[np.float64]:
    """What a residual is measured in, in the unit of `mean`: it grows with the root of the level, as a Poisson count's.

    `typical` is the long-run mean: it stands in for the unknown size of a request, and keeps quiet hours from
    promising that the next busy one is as narrow.
    """
    measure: NDArray[np.float64] = np.sqrt((mean + LEAST_LEVEL * typical) * typical)
    return measure


def prior(horizon_s: float) -> NDArray[np.float64]:
    """Pseudo-residuals before the first, for (the value at the horizon, the largest up to it): shape (2, nodes).

    A Laplace and an exponential distribution at evenly spaced levels, in units of `scale`.
    """
    spread = PRIOR_SPREAD * np.sqrt(horizon_s / PRIOR_SPREAD_AT_S)
    p = PRIOR_NODES
    point = np.where(p < 0.5, np.log(2.0 * p), -np.log(2.0 * (1.0 - p)))
    nodes: NDArray[np.float64] = spread * np.stack((point, -np.log1p(-p)))
    return nodes


def quantiles(
    residuals: NDArray[np.float64],
    weights: NDArray[np.float64],
    unseen: NDArray[np.float64],
    levels: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Weighted quantiles of each row, shape (rows, levels).

    `residuals` (rows, n) may hold NaN for none; `weights` (rows, n) go with them. `unseen` (rows, 1) is the weight of
    what has not been seen yet, half beyond each end: one residual's worth of independent evidence. In the outer tenth,
    and beyond the outermost residual, they are those of an exponential tail with the mean excess of the outer fifth.
    Rows without a residual give NaN. Levels rise, and so do the answers.
    """
    rows, n = residuals.shape
    start, apart = _separate(rows, n)
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
    total = at[:, -1:] + unseen
    at -= 0.5 * w
    at += 0.5 * unseen
    wanted = np.concatenate((levels, OUTER)) * total
    above = (at + apart).ravel().searchsorted(wanted + apart)  # one search for all rows, as together they rise
    flat_at, flat_r = at.ravel(), r.ravel()
    upper = np.minimum(np.maximum(above[:, :-2], start + 1), start + (n - 1))
    lower = np.maximum(upper - 1, start)
    at0, r0 = flat_at[lower], flat_r[lower]
    share = (wanted[:, :-2] - at0) / np.maximum(flat_at[upper] - at0, TINY)
    found: NDArray[np.float64] = r0 + np.minimum(np.maximum(share, 0.0), 1.0) * (flat_r[upper] - r0)
    high = wanted[:, :-2] > np.minimum(TAIL_AT * total, flat_at[top])
    if high.any():
        tail = _tail(r, w, (total - at) / total, (above - start)[:, -1], 1.0 - levels)
        found = np.maximum.accumulate(np.where(high, tail, found), axis=1)
    low = wanted[:, :-2] < np.maximum((1.0 - TAIL_AT) * total, at[:, :1])
    if low.any():
        tail = -_tail(-r[:, ::-1], w[:, ::-1], at[:, ::-1] / total, n - (above - start)[:, -2], levels)
        found = np.minimum.accumulate(np.where(low, tail, found)[:, ::-1], axis=1)[:, ::-1]
    return found


@lru_cache(maxsize=64)
def _separate(rows: int, n: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return where each row starts in a flat array, and what sets rows of weights apart: (rows, 1) both."""
    row = np.arange(rows, dtype=np.int64)[:, None]
    return n * row, APART * row.astype(np.float64)


def _tail(
    r: NDArray[np.float64],
    w: NDArray[np.float64],
    beyond: NDArray[np.float64],
    first: NDArray[np.int64],
    shares: NDArray[np.float64],
) -> NDArray[np.float64]:
    """What the tail exceeds by these shares, (rows, shares): it begins at each row's `first` of the rising residuals.

    `beyond` (rows, n) is the share beyond each residual. Where there are none after `first`, it ends there.
    """
    rows, n = r.shape
    every, first = np.arange(rows), np.minimum(first, n - 1)
    least = int(first.min())
    begin = r[every, first][:, None]
    w = w[:, least:] * (np.arange(least, n) > first[:, None])
    excess = (w * (r[:, least:] - begin)).sum(axis=1) / np.maximum(w.sum(axis=1), TINY)
    further = np.log(np.maximum(beyond[every, first][:, None] / np.maximum(shares, TINY), 1.0))
    tail: NDArray[np.float64] = begin + excess[:, None] * further
    return tail
