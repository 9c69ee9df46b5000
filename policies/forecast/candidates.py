"""The candidates, side by side: what each takes for most likely at every horizon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from policies.forecast import local, seasonal
from policies.forecast.backtest import SLOTS
from policies.forecast.regression import Regression
from policies.forecast.spread import scale

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from policies.forecast.series import Series

CANDIDATES: Final = ("reactive", "level", "steady", "trend", "yesterday", "daily", "weekly", "regression")
LOOKBACKS: Final = np.array([1, 2, 4, 16, 64])
"""Windows, in bins, whose means the regression sees."""
FEATURES: Final = 1 + len(LOOKBACKS) + 1 + 8 + 2


@dataclass(frozen=True, slots=True)
class Said:
    """What the candidates say: means (2, candidates, H), and what the regression went by: (H, F) in `measure`s."""

    means: NDArray[np.float64]
    features: NDArray[np.float64]
    measure: float


class Candidates:
    """The candidates over one series, at horizons in seconds; `strides_s` apart their forecasts are scored."""

    def __init__(self, series: Series, horizons_s: NDArray[np.float64], strides_s: NDArray[np.float64]) -> None:
        self._series = series
        self._horizons_s = horizons_s
        self._regression = Regression(FEATURES, strides_s)
        self._features = np.zeros((len(horizons_s), SLOTS, FEATURES))
        self._measure = np.zeros((len(horizons_s), SLOTS))

    def means(self, typical: float) -> Said:
        """What each says now; `typical` is the long-run mean."""
        recent = self._series.fine.window(local.WINDOW)
        level, _ = local.level(recent)
        steady = self._series.fine.mean()
        trend = local.trend(recent, self._series.step_s, self._horizons_s)
        seasons = seasonal.look_back(self._series, self._horizons_s, typical)
        daily, weekly = level * seasons.daily, level * seasons.weekly
        measure = float(scale(np.array(level), typical)) or 1.0
        features = np.empty((len(self._horizons_s), FEATURES))
        columns = (
            level,
            *local.means(recent, LOOKBACKS),
            trend,
            seasons.day_ago,
            seasons.week_ago,
            seasons.usual,
            seasons.day_ago_now,
            seasons.week_ago_now,
            seasons.usual_now,
            daily,
            weekly,
            steady,
            typical,
        )
        for i, column in enumerate(columns):
            features[:, i] = column
        features = np.where(np.isnan(features), level, features) / measure
        flat = np.ones(len(self._horizons_s))
        point = np.stack(
            (local.last(recent) * flat, level * flat, steady * flat, trend, seasons.yesterday, daily, weekly)
        )
        peak = np.maximum.accumulate(point, axis=1)
        learnt = np.maximum(self._regression.predict(features) * measure, 0.0)
        means = np.concatenate((np.stack((point, peak)), learnt[:, None]), axis=1)
        return Said(means, features, measure)

    def keep(self, due: NDArray[np.int64], slot: NDArray[np.int64], said: Said) -> None:
        """Keep what the forecasts of these horizons and slots went by."""
        self._features[due, slot] = said.features[due]
        self._measure[due, slot] = said.measure

    def learn(self, due: NDArray[np.int64], slot: NDArray[np.int64], came: NDArray[np.float64]) -> None:
        """Learn from what came (due, 2): the value at the horizon and the largest up to it; NaN where not seen."""
        seen = ~np.isnan(came).any(axis=1)
        due, slot = due[seen], slot[seen]
        if due.size:
            self._regression.learn(due, self._features[due, slot], came[seen] / self._measure[due, slot, None])
