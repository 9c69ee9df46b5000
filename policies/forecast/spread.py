"""How far off forecasts were, and what that says of the next one: weighted residual quantiles with an honest tail.

Split-conformal in kind (Vovk et al. 2005; Lei et al., JASA 2018) and exponentially weighted, so that coverage holds
under drift (Barber et al., Ann. Statist. 2023): `n` residuals stand at i/(n+1), and beyond the largest a stated tail
takes over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TAIL_FROM: Final = 0.8
"""The tail's mean excess is taken from the outer fifth on each side: the exponential tail (Pickands 1975, shape 0)."""
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


def scale(mean: NDArray[np.float64], typical: float) -> NDArray[np.float64]:
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
    what has not been seen yet, half beyond each end: one residual's worth of independent evidence. Beyond the
    outermost residual the tail is exponential with the mean excess of the outer fifth. Rows without a residual give
    NaN. Levels rise, and so do the answers.
    """
    order = np.argsort(residuals, axis=1)
    r = np.take_along_axis(residuals, order, 1)
    known = ~np.isnan(r)
    w = np.where(known, np.take_along_axis(weights, order, 1), 0.0)
    r = np.where(known, r, np.fmax.reduce(residuals, axis=1)[:, None])
    reached = np.cumsum(w, axis=1)
    total = reached[:, -1:] + unseen
    p = (reached - 0.5 * w + 0.5 * unseen) / total
    above = np.clip((p[:, :, None] < levels).sum(axis=1), 1, r.shape[1] - 1)
    p0, p1 = np.take_along_axis(p, above - 1, 1), np.take_along_axis(p, above, 1)
    r0, r1 = np.take_along_axis(r, above - 1, 1), np.take_along_axis(r, above, 1)
    share = np.clip((levels - p0) / np.maximum(p1 - p0, 1e-12), 0.0, 1.0)
    inside: NDArray[np.float64] = r0 + share * (r1 - r0)
    last = (known.sum(axis=1) - 1).clip(0)
    top = np.take_along_axis(p, last[:, None], 1)
    over = np.log(np.maximum((1.0 - top) / np.maximum(1.0 - levels, 1e-9), 1.0))
    under = np.log(np.maximum(p[:, :1] / np.maximum(levels, 1e-9), 1.0))
    return inside + over * _excess(r, w, p >= TAIL_FROM) - under * _excess(-r, w, p <= 1.0 - TAIL_FROM)


def _excess(r: NDArray[np.float64], w: NDArray[np.float64], outer: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean excess over the innermost of the outer residuals of each row, shape (rows, 1); 0 where there are none."""
    start = np.where(outer, r, np.inf).min(axis=1, keepdims=True)
    w = np.where(outer, w, 0.0)
    total = w.sum(axis=1, keepdims=True)
    excess: NDArray[np.float64] = (w * np.where(outer, r - start, 0.0)).sum(axis=1, keepdims=True)
    return np.where(total > 0.0, excess / np.maximum(total, 1e-12), 0.0)
