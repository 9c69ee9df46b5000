"""The rolling back-test: every forecast made is kept until its time has come, then scored.

Two things are asked of each candidate at each horizon: the value at the horizon (`POINT`), and the largest value up to
it (`PEAK`), which is what a start-up time needs. Each has residuals of its own. Origins lie a quarter of a horizon
apart: nearer ones share most of their future and tell little new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from policies.forecast.selection import LEVELS, MEDIAN, USUAL, Selection
from policies.forecast.spread import PRIOR_FADES, PRIOR_SAMPLES, prior, quantiles, scale

if TYPE_CHECKING:
    from numpy.typing import NDArray

POINT, PEAK = 0, 1
ORIGINS_PER_HORIZON: Final = 4
SLOTS: Final = 2 * ORIGINS_PER_HORIZON
"""Forecasts waiting for their time at the most: a horizon of 7 bins has an origin in each of them."""
RESIDUALS: Final = 160
"""Residuals kept for each candidate, horizon and target: in halves of 16 bits, as a quantile of 160 needs no more."""
HALF_LIFE: Final = 160.0
"""Residuals after which one weighs half."""
WEIGHTS: Final = 0.5 ** (np.arange(RESIDUALS) / HALF_LIFE)
LARGEST: Final = 60_000.0
"""The largest residual that 16 bits hold."""
UNSEEN_POWER: Final = 0.5
"""What has not been seen weighs as the root of the overlap: neighbours share less of their extremes."""
TINY: Final = 1e-9
"""Below any error that matters, in units of its scale."""
REFRESH: Final = 8
"""The quantiles that score are drawn anew after so many residuals, and after each while there are few."""


class Backtest:
    """Scores so many `candidates`, the reactive one first, at `horizons` (whole bins, rising) of `step_s` seconds."""

    def __init__(self, candidates: int, horizons: NDArray[np.int64], step_s: float) -> None:
        h = len(horizons)
        self.horizons = horizons
        self.stride = np.maximum(1, horizons // ORIGINS_PER_HORIZON)
        self.overlap = horizons / self.stride
        """How many residuals share a horizon: so many together are worth one independent one."""
        self.selection = Selection(candidates, self.overlap)
        self._every = np.arange(h)
        self._prior = np.stack([prior(n * step_s) for n in horizons])
        self._made = np.full((h, SLOTS, 2, candidates), np.nan)
        self._origin = np.full((h, SLOTS), -1, np.int64)
        self._residuals = np.full((h, 2, candidates, RESIDUALS), np.nan, np.float16)
        self._count = np.zeros(h, np.int64)
        self._drawn = np.zeros((h, 2, candidates, len(LEVELS)))
        self._draw(self._every)

    def promise(self, place: int, means: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Keep the forecasts made at the end of bin `place`: means (2, candidates, H), NaN for none.

        Gives the horizons that have an origin there, and the slots where theirs are kept.
        """
        due = np.flatnonzero(place % self.stride == 0)
        slot = place // self.stride[due] % SLOTS
        self._made[due, slot] = means[:, :, due].transpose(2, 0, 1)
        self._origin[due, slot] = place
        return due, slot

    def mature(self, place: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The forecasts whose time has come with bin `place`: their horizons and slots."""
        origin = place - self.horizons
        slot = origin // self.stride % SLOTS
        due = np.flatnonzero((self._origin[self._every, slot] == origin) & (origin >= 0))
        self._origin[due, slot[due]] = -1
        return due, slot[due]

    def settle(
        self, due: NDArray[np.int64], slot: NDArray[np.int64], came: NDArray[np.float64], typical: float
    ) -> None:
        """Score forecasts by what came (due, 2), the value at the horizon and the largest; NaN where not seen."""
        means = self._made[due, slot]
        measure = scale(means, typical)
        said = np.maximum(means[..., None] + self._drawn[due] * measure[..., None], 0.0)
        over = came[:, :, None, None] - said
        self.selection.note(due, np.maximum(LEVELS * over, (LEVELS - 1.0) * over))
        off = came[:, :, None] - means
        residual = np.divide(off, measure, out=0.0 * off, where=measure > 0.0)
        if due[0] == 0:
            usual = self._drawn[0, POINT]
            self.selection.watch(
                (residual[0, POINT] - usual[:, MEDIAN]) / np.maximum(usual[:, USUAL] - usual[:, MEDIAN], TINY)
            )
        self._residuals[due, :, :, self._count[due] % RESIDUALS] = np.clip(residual, -LARGEST, LARGEST)
        self._count[due] += 1
        count = self._count[due]
        self._draw(due[(count < 4 * REFRESH) | (count % REFRESH == 0)])

    def _draw(self, due: NDArray[np.int64]) -> None:
        if due.size:
            shape = (len(due), *self._drawn.shape[1:3])
            every = np.indices(shape).reshape(3, -1)
            self._drawn[due] = self.offsets(due[every[0]], every[1], every[2], LEVELS).reshape(*shape, len(LEVELS))

    def offsets(
        self, horizon: NDArray[np.int64], target: NDArray[np.int64], row: NDArray[np.int64], levels: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Quantiles of residuals in units of their scale: (n, levels), for n horizons, targets and candidates."""
        nodes = self._prior[horizon, target]
        residuals = np.concatenate((self._residuals[horizon, target, row].astype(float), nodes), axis=1)
        overlap, own = self.overlap[horizon, None], self._weights(horizon)
        seen = np.where(np.isnan(residuals[:, :RESIDUALS]), 0.0, own).sum(axis=1, keepdims=True)
        faded = PRIOR_FADES / (PRIOR_FADES + seen / overlap)
        of_nodes = np.broadcast_to(overlap * faded * (PRIOR_SAMPLES / nodes.shape[1]), nodes.shape)
        weights = np.concatenate((own, of_nodes), axis=1)
        return quantiles(residuals, weights, overlap**UNSEEN_POWER, levels)

    def evidence(self, horizon: int, target: int, row: int) -> float:
        """How many independent residuals a candidate has: overlapping ones share, older ones count less."""
        known = ~np.isnan(self._residuals[horizon, target, row])
        return float(self._weights(np.array([horizon]))[0, known].sum() / self.overlap[horizon])

    def _weights(self, horizon: NDArray[np.int64]) -> NDArray[np.float64]:
        """The weights of the residuals kept, by their places: (n, RESIDUALS), for n horizons."""
        age = (self._count[horizon, None] - 1 - np.arange(RESIDUALS)) % RESIDUALS
        weights: NDArray[np.float64] = WEIGHTS[age]
        return weights
