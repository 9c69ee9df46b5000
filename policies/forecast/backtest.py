"""The rolling back-test: forecasts are retained until their horizon has passed, then scored.

Each candidate forecasts two targets at each horizon: the value at the horizon (`POINT`), and the largest value up to it
(`PEAK`), which is the demand during a lead time. Each target has its own residuals. Origins lie a quarter of a horizon
apart, since closer ones share most of their future. Example: 300 s are 20 bins of 15 s, with an origin in every 5th
bin; 4 residuals overlap and count as one independent residual.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from policies.forecast.residuals import PRIOR_HALF_LIFE, PRIOR_NODES, PRIOR_SAMPLES, prior, quantiles, scale
from policies.forecast.selection import LEVELS, MEDIAN, P90, Selection

if TYPE_CHECKING:
    from numpy.typing import NDArray

POINT, PEAK = 0, 1
ORIGINS_PER_HORIZON: Final = 4
SLOTS: Final = 2 * ORIGINS_PER_HORIZON
"""Maximum number of pending forecasts per horizon: a horizon of 7 bins has an origin in each bin."""
RESIDUALS: Final = 160
"""Residuals retained for each candidate, horizon and target, as 16-bit floats: a quantile of 160 needs no more."""
HALF_LIFE: Final = 160.0
"""A residual has half its weight after this many later ones."""
WEIGHTS: Final = sliding_window_view(np.tile(0.5 ** (np.arange(RESIDUALS)[::-1] / HALF_LIFE), 2), RESIDUALS)
"""The weights of the residuals by their index in the ring, for each index (modulo `RESIDUALS`) of the newest."""
MAX_RESIDUAL: Final = 60_000.0
"""Largest residual, within the range of a 16-bit float."""
UNSEEN_POWER: Final = 0.5
"""The unseen weight is this power of the overlap: neighbors share less of their extremes than of their means."""
TINY: Final = 1e-9
"""Smallest divisor of an error, in units of its scale."""
MIN_TYPICAL: Final = 1e-150
"""A smaller long-run mean counts as zero, since its square, the unit of residuals, underflows."""
LOSS_BELOW: Final = LEVELS - 1.0
"""Pinball loss per unit that a forecast lies above the actual value; a unit below it costs the level."""
REFRESH_EVERY: Final = 8
"""The scoring quantiles are recomputed after this many residuals, and after each one while there are few."""


class Backtest:
    """Scores of the candidates' forecasts at each horizon.

    There are `candidates` candidates, the reactive one first. `horizons` are whole bins of `step_s` seconds, rising.
    """

    def __init__(self, candidates: int, horizons: NDArray[np.int64], step_s: float) -> None:
        h = len(horizons)
        self.horizons = horizons
        self.stride = np.maximum(1, horizons // ORIGINS_PER_HORIZON)
        self.overlap = horizons / self.stride
        """Residuals that overlap at each horizon: together they count as one independent residual."""
        self.selection = Selection(candidates, self.overlap)
        self._horizon_strides: list[tuple[int, int]] = list(zip(horizons.tolist(), self.stride.tolist(), strict=True))
        self._unseen_weight = self.overlap**UNSEEN_POWER
        self._prior_weight = self.overlap * PRIOR_HALF_LIFE * PRIOR_SAMPLES / len(PRIOR_NODES)
        """Weight of each prior residual before the first residual, times `PRIOR_HALF_LIFE`."""
        self._prior = np.stack([prior(n * step_s) for n in horizons])
        self._means = np.full((h, SLOTS, 2, candidates), np.nan)
        self._origins = [[-1] * SLOTS for _ in range(h)]
        self._residuals = np.full((h, 2, candidates, RESIDUALS), np.nan, np.float16)
        self._count = np.zeros(h, np.int64)
        self._scoring_offsets = np.zeros((h, 2, candidates, len(LEVELS)))
        self._update_scoring_offsets(np.arange(h))

    def retain(self, bin_index: int, means: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Retain the forecasts made at the end of bin `bin_index`.

        `means` has the shape (2, candidates, H), with NaN for no forecast. Return the horizons with an origin in this
        bin, and the slots of their forecasts.
        """
        pairs = [
            (i, bin_index // stride % SLOTS)
            for i, (_, stride) in enumerate(self._horizon_strides)
            if bin_index % stride == 0
        ]
        for i, slot in pairs:
            self._means[i, slot] = means[:, :, i]
            self._origins[i][slot] = bin_index
        return _pairs(pairs)

    def take_due(self, bin_index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Remove the forecasts whose horizon ends with bin `bin_index`.

        Return their horizons and slots.
        """
        pairs = []
        for i, (ahead, stride) in enumerate(self._horizon_strides):
            origin = bin_index - ahead
            slot = origin // stride % SLOTS
            if origin >= 0 and self._origins[i][slot] == origin:
                self._origins[i][slot] = -1
                pairs.append((i, slot))
        return _pairs(pairs)

    def score(
        self, due: NDArray[np.int64], slot: NDArray[np.int64], actual: NDArray[np.float64], typical: float
    ) -> None:
        """Score forecasts by the actual values.

        `actual` (due, 2) has the value at the horizon and the largest up to it, with NaN where unknown.

        Example: at level 0.9, a forecast of 5.0 loses 0.9 * (6 - 5) = 0.9 if 6.0 is the actual value, and 0.1 if 4.0
        is.
        """
        means = self._means[due, slot]
        unit = scale(means, typical)
        offsets = self._scoring_offsets[due]
        excess = actual[:, :, None, None] - np.maximum(means[..., None] + offsets * unit[..., None], 0.0)
        self.selection.note(due, np.maximum(LEVELS * excess, LOSS_BELOW * excess))
        error = actual[:, :, None] - means
        residual = error / unit if typical > MIN_TYPICAL else 0.0 * error
        if due[0] == 0:
            median, p90 = offsets[0, POINT, :, MEDIAN], offsets[0, POINT, :, P90]
            self.selection.note_error((residual[0, POINT] - median) / np.maximum(p90 - median, TINY))
        count = self._count[due]
        self._residuals[due, :, :, count % RESIDUALS] = np.minimum(np.maximum(residual, -MAX_RESIDUAL), MAX_RESIDUAL)
        count += 1
        self._count[due] = count
        stale = [n < 4 * REFRESH_EVERY or n % REFRESH_EVERY == 0 for n in count.tolist()]
        if any(stale):
            self._update_scoring_offsets(due[stale])

    def _update_scoring_offsets(self, due: NDArray[np.int64]) -> None:
        """Compute the quantiles that score the next forecasts of these horizons."""
        targets, candidates = self._scoring_offsets.shape[1:3]
        horizon = due.repeat(targets * candidates)
        target, candidate = np.divmod(np.arange(horizon.size) % (targets * candidates), candidates)
        self._scoring_offsets[due] = self.offsets(horizon, target, candidate, LEVELS).reshape(
            -1, *self._scoring_offsets.shape[1:]
        )

    def offsets(
        self,
        horizon: NDArray[np.int64],
        target: NDArray[np.int64] | int,
        candidate: NDArray[np.int64],
        levels: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Return quantiles of residuals, in units of their scale.

        The shape is (n, levels), for n triples of indices (horizon, target, candidate).
        """
        residuals = np.empty((len(horizon), RESIDUALS + len(PRIOR_NODES)))
        weights = np.empty_like(residuals)
        residuals[:, :RESIDUALS] = self._residuals[horizon, target, candidate]
        residuals[:, RESIDUALS:] = self._prior[horizon, target]
        own = weights[:, :RESIDUALS]
        own[:] = WEIGHTS[-self._count[horizon] % RESIDUALS]
        missing = np.isnan(residuals[:, :RESIDUALS])
        if missing.any():
            own[missing] = 0.0
        independent = own.sum(axis=1) / self.overlap[horizon]
        weights[:, RESIDUALS:] = (self._prior_weight[horizon] / (PRIOR_HALF_LIFE + independent))[:, None]
        return quantiles(residuals, weights, self._unseen_weight[horizon, None], levels)

    def evidence(self, horizon: int, target: int, candidate: int) -> float:
        """Return the number of independent residuals of a candidate; older ones count less.

        Example: 40 recent residuals at an overlap of 4 are about 9 independent ones.
        """
        known = ~np.isnan(self._residuals[horizon, target, candidate])
        return float(WEIGHTS[-self._count[horizon] % RESIDUALS][known].sum() / self.overlap[horizon])


def _pairs(pairs: list[tuple[int, int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.array([i for i, _ in pairs], np.int64), np.array([slot for _, slot in pairs], np.int64)
