"""The rolling back-test: every forecast made is kept until its time has come, then scored.

Two things are asked of each candidate at each horizon: the value at the horizon (`POINT`), and the largest value up to
it (`PEAK`), which is what a start-up time needs. Each has residuals of its own. Origins lie a quarter of a horizon
apart: nearer ones share most of their future and tell little new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from policies.forecast.selection import LEVELS, Selection
from policies.forecast.spread import PRIOR_NODES, PRIOR_SAMPLES, prior, quantiles, scale

if TYPE_CHECKING:
    from numpy.typing import NDArray

POINT, PEAK = 0, 1
ORIGINS_PER_HORIZON: Final = 4
SLOTS: Final = 2 * ORIGINS_PER_HORIZON
"""Forecasts waiting for their time at the most: a horizon of 7 bins has an origin in each of them."""
RESIDUALS: Final = 256
"""Residuals kept for each candidate, horizon and target."""
HALF_LIFE: Final = 128.0
"""Residuals after which one weighs half."""
LEAST_SEEN: Final = 0.75
"""Share of a window that was seen, below which its largest value is not known."""
REFRESH: Final = 8
"""The quantiles that score are drawn anew after so many residuals, and after each while there are few."""


class Backtest:
    """Scores `candidates` (names, the reactive one first) at `horizons` (whole bins, rising) of `step_s` seconds."""

    def __init__(self, candidates: int, horizons: NDArray[np.int64], step_s: float) -> None:
        h = len(horizons)
        self.horizons = horizons
        self.stride = np.maximum(1, horizons // ORIGINS_PER_HORIZON)
        self.overlap = horizons / self.stride
        """How many residuals share a horizon: so many together are worth one independent one."""
        self.selection = Selection(candidates, self.overlap)
        self._prior = np.stack([prior(n * step_s) for n in horizons])
        self._made = np.full((h, SLOTS, 2, candidates), np.nan)
        self._origin = np.full((h, SLOTS), -1, np.int64)
        self._residuals = np.full((h, 2, candidates, RESIDUALS), np.nan, np.float32)
        self._count = np.zeros((h, 2), np.int64)
        self._aged = 0.5 ** (np.arange(RESIDUALS - 1, -1, -1.0) / HALF_LIFE)
        self._drawn = np.zeros((h, 2, candidates, len(LEVELS)))
        for i in range(h):
            for target in (POINT, PEAK):
                self._draw(i, target)

    def due(self, place: int) -> NDArray[np.int64]:
        """The horizons (their indices) that have an origin in bin `place`."""
        return np.flatnonzero(place % self.stride == 0)

    def promise(self, place: int, due: NDArray[np.int64], means: NDArray[np.float64]) -> NDArray[np.int64]:
        """Keep the forecasts made at the end of bin `place`: means (2, candidates, H), NaN for none; gives slots."""
        slot = place // self.stride[due] % SLOTS
        self._made[due, slot] = means[:, :, due].transpose(2, 0, 1)
        self._origin[due, slot] = place
        return slot

    def mature(self, place: int) -> list[tuple[int, int]]:
        """The forecasts whose time has come with bin `place`: (horizon's index, slot)."""
        origin = place - self.horizons
        slot = origin // self.stride % SLOTS
        came = self._origin[np.arange(len(slot)), slot] == origin
        return [(int(i), int(slot[i])) for i in np.flatnonzero(came & (origin >= 0))]

    def settle(self, horizon: int, slot: int, window: NDArray[np.float64], typical: float) -> tuple[float, float]:
        """Score a forecast by the bins that came true, the last of them at the horizon (NaN for gaps).

        Gives what came: the value at the horizon and the largest, NaN where not seen.
        """
        self._origin[horizon, slot] = -1
        seen = window[~np.isnan(window)]
        peak = float(seen.max()) if seen.size and seen.size >= LEAST_SEEN * window.size else np.nan
        came = (float(window[-1]), peak)
        for target in (POINT, PEAK):
            if not np.isnan(came[target]):
                self._score(horizon, target, self._made[horizon, slot, target], came[target], typical)
        return came

    def _score(self, horizon: int, target: int, means: NDArray[np.float64], actual: float, typical: float) -> None:
        measure = scale(means, typical)
        said = np.maximum(means[:, None] + self._drawn[horizon, target] * measure[:, None], 0.0)
        over = actual - said
        self.selection.note(horizon, target, np.maximum(LEVELS * over, (LEVELS - 1.0) * over))
        with np.errstate(divide="ignore", invalid="ignore"):
            residual = np.where(measure > 0.0, (actual - means) / measure, np.where(np.isnan(means), np.nan, 0.0))
        count = self._count[horizon, target]
        self._residuals[horizon, target, :, count % RESIDUALS] = residual
        self._count[horizon, target] = count = count + 1
        if count < 4 * REFRESH or count % REFRESH == 0:
            self._draw(horizon, target)

    def _draw(self, horizon: int, target: int) -> None:
        every = np.arange(self._residuals.shape[2])
        self._drawn[horizon, target] = self.offsets(horizon, target, every, LEVELS)

    def offsets(
        self, horizon: int, target: int, rows: NDArray[np.int64], levels: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Quantiles of the residuals of the candidates `rows`, in units of their scale: (rows, levels)."""
        count = int(self._count[horizon, target])
        kept = min(count, RESIDUALS)
        nodes = self._prior[horizon, target]
        residuals = np.empty((len(rows), kept + nodes.size))
        residuals[:, :kept] = self._residuals[horizon, target, rows, :kept]
        residuals[:, kept:] = nodes
        aged = self._weights(count)
        overlap = self.overlap[horizon]
        weights = np.concatenate((aged, np.full(nodes.size, overlap * PRIOR_SAMPLES / PRIOR_NODES.size)))
        return quantiles(residuals, weights, overlap, levels)

    def evidence(self, horizon: int, target: int, row: int) -> float:
        """How many independent residuals a candidate has: overlapping ones share, older ones count less."""
        aged = self._weights(int(self._count[horizon, target]))
        known = ~np.isnan(self._residuals[horizon, target, row, : aged.size])
        return float(aged[known].sum() / self.overlap[horizon])

    def _weights(self, count: int) -> NDArray[np.float64]:
        """The weights of the residuals kept, by their places, after `count` of them."""
        return np.roll(self._aged, count % RESIDUALS) if count > RESIDUALS else self._aged[RESIDUALS - count :]
