"""The rolling back-test: every forecast made is kept until its time has come, then scored.

Two things are asked of each candidate at each horizon: the value at the horizon (`POINT`), and the largest value up to
it (`PEAK`), which is what a start-up time needs. Each has residuals of its own. Origins lie a quarter of a horizon
apart: nearer ones share most of their future and tell little new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from policies.forecast.residuals import PRIOR_FADES, PRIOR_NODES, PRIOR_SAMPLES, prior, quantiles, scale
from policies.forecast.selection import LEVELS, MEDIAN, USUAL, Selection

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
WEIGHTS: Final = sliding_window_view(np.tile(0.5 ** (np.arange(RESIDUALS)[::-1] / HALF_LIFE), 2), RESIDUALS)
"""The weights of the residuals by their places in the ring, for each place (modulo `RESIDUALS`) of the newest."""
LARGEST: Final = 60_000.0
"""The largest residual that 16 bits hold."""
UNSEEN_POWER: Final = 0.5
"""What has not been seen weighs as the root of the overlap: neighbours share less of their extremes."""
TINY: Final = 1e-9
"""Below any error that matters, in units of its scale."""
LEAST_TYPICAL: Final = 1e-150
"""A smaller long-run mean is none: its square, which residuals are measured in, is zero."""
BELOW: Final = LEVELS - 1.0
"""What a forecast above what came loses, for each unit."""
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
        self._bins: list[tuple[int, int]] = list(zip(horizons.tolist(), self.stride.tolist(), strict=True))
        self._unseen = self.overlap**UNSEEN_POWER
        self._believed = self.overlap * PRIOR_FADES * PRIOR_SAMPLES / len(PRIOR_NODES)
        """What each prior residual weighs before any was seen, in units of 1 / `PRIOR_FADES`."""
        self._prior = np.stack([prior(n * step_s) for n in horizons])
        self._made = np.full((h, SLOTS, 2, candidates), np.nan)
        self._origin = [[-1] * SLOTS for _ in range(h)]
        self._residuals = np.full((h, 2, candidates, RESIDUALS), np.nan, np.float16)
        self._count = np.zeros(h, np.int64)
        self._drawn = np.zeros((h, 2, candidates, len(LEVELS)))
        self._draw(np.arange(h))

    def promise(self, place: int, means: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Keep the forecasts made at the end of bin `place`: means (2, candidates, H), NaN for none.

        Gives the horizons that have an origin there, and the slots where theirs are kept.
        """
        found = [(i, place // every % SLOTS) for i, (_, every) in enumerate(self._bins) if place % every == 0]
        for i, slot in found:
            self._made[i, slot] = means[:, :, i]
            self._origin[i][slot] = place
        return _pairs(found)

    def mature(self, place: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the forecasts whose time has come with bin `place`: their horizons and slots."""
        found = []
        for i, (ahead, every) in enumerate(self._bins):
            origin = place - ahead
            slot = origin // every % SLOTS
            if origin >= 0 and self._origin[i][slot] == origin:
                self._origin[i][slot] = -1
                found.append((i, slot))
        return _pairs(found)

    def settle(
        self, due: NDArray[np.int64], slot: NDArray[np.int64], came: NDArray[np.float64], typical: float
    ) -> None:
        """Score forecasts by what came (due, 2), the value at the horizon and the largest; NaN where not seen."""
        means = self._made[due, slot]
        measure = scale(means, typical)
        drawn = self._drawn[due]
        over = came[:, :, None, None] - np.maximum(means[..., None] + drawn * measure[..., None], 0.0)
        self.selection.note(due, np.maximum(LEVELS * over, BELOW * over))
        off = came[:, :, None] - means
        residual = off / measure if typical > LEAST_TYPICAL else 0.0 * off
        if due[0] == 0:
            usual = drawn[0, POINT]
            self.selection.watch(
                (residual[0, POINT] - usual[:, MEDIAN]) / np.maximum(usual[:, USUAL] - usual[:, MEDIAN], TINY)
            )
        count = self._count[due]
        self._residuals[due, :, :, count % RESIDUALS] = np.minimum(np.maximum(residual, -LARGEST), LARGEST)
        count += 1
        self._count[due] = count
        stale = [n < 4 * REFRESH or n % REFRESH == 0 for n in count.tolist()]
        if any(stale):
            self._draw(due[stale])

    def _draw(self, due: NDArray[np.int64]) -> None:
        """Draw the quantiles that score the next forecasts of these horizons."""
        targets, candidates = self._drawn.shape[1:3]
        horizon = due.repeat(targets * candidates)
        target, row = np.divmod(np.arange(horizon.size) % (targets * candidates), candidates)
        self._drawn[due] = self.offsets(horizon, target, row, LEVELS).reshape(-1, *self._drawn.shape[1:])

    def offsets(
        self,
        horizon: NDArray[np.int64],
        target: NDArray[np.int64] | int,
        row: NDArray[np.int64],
        levels: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Quantiles of residuals in units of their scale: (n, levels), for n horizons, targets and candidates."""
        residuals = np.empty((len(horizon), RESIDUALS + len(PRIOR_NODES)))
        weights = np.empty_like(residuals)
        residuals[:, :RESIDUALS] = self._residuals[horizon, target, row]
        residuals[:, RESIDUALS:] = self._prior[horizon, target]
        own = weights[:, :RESIDUALS]
        own[:] = WEIGHTS[-self._count[horizon] % RESIDUALS]
        missing = np.isnan(residuals[:, :RESIDUALS])
        if missing.any():
            own[missing] = 0.0
        independent = own.sum(axis=1) / self.overlap[horizon]
        weights[:, RESIDUALS:] = (self._believed[horizon] / (PRIOR_FADES + independent))[:, None]
        return quantiles(residuals, weights, self._unseen[horizon, None], levels)

    def evidence(self, horizon: int, target: int, row: int) -> float:
        """Return how many independent residuals a candidate has: overlapping ones share, older ones count less."""
        known = ~np.isnan(self._residuals[horizon, target, row])
        return float(WEIGHTS[-self._count[horizon] % RESIDUALS][known].sum() / self.overlap[horizon])


def _pairs(found: list[tuple[int, int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.array([i for i, _ in found], np.int64), np.array([slot for _, slot in found], np.int64)
