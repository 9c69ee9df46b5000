"""The candidates, side by side: what each takes for most likely at every horizon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from policies.forecast import reactive, seasonal
from policies.forecast.backtest import SLOTS
from policies.forecast.regression import Regression
from policies.forecast.residuals import scale
from policies.forecast.seasonal import DAILY, WEEKLY, YESTERDAY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from policies.forecast.series import DemandSeries

CANDIDATES: Final = ("reactive", "level", "steady", "trend", "yesterday", "daily", "weekly", "regression")
LOOKBACKS: Final = (0, 1, 2, 4, 6)
"""Which of the doubling windows' means the regression sees: over 1, 2, 4, 16 and 64 bins."""
FEATURES: Final = 1 + len(LOOKBACKS) + 1 + 8 + 2


@dataclass(frozen=True, slots=True)
class CandidateForecasts:
    """What the candidates say: means (2, candidates, H), and what the regression went by.

    `known` (H, F + 2) are its features in units of a measure, that measure, and room for another target.
    """

    means: NDArray[np.float64]
    known: NDArray[np.float64]


class Candidates:
    """The candidates over one series, at horizons in seconds; `strides_s` apart their forecasts are scored."""

    def __init__(self, series: DemandSeries, horizons_s: NDArray[np.float64], strides_s: NDArray[np.float64]) -> None:
        self._series = series
        self._horizons = len(horizons_s)
        self._onward_s = reactive.onward_s(series.step_s, horizons_s)
        self._past = seasonal.EarlierDays(series, horizons_s)
        self._regression = Regression(FEATURES, strides_s)
        self._known = np.zeros((len(horizons_s), SLOTS, FEATURES + 2))
        """What forecasts whose time has not come went by."""

    def means(self, typical: float, for_seasons: float) -> CandidateForecasts:
        """Return what each says now.

        `typical` is the long-run mean, and `for_seasons` what it was in this coarse bin.
        """
        recent = reactive.RecentBins(self._series.fine.window(reactive.WINDOW))
        level, _ = recent.level()
        steady = self._series.fine.mean()
        trend = reactive.trend(recent, self._series.step_s, self._onward_s)
        seasons = self._past.seasons(for_seasons)
        growth = level * seasons[:, DAILY : WEEKLY + 1]
        measure = float(scale(level, typical)) or 1.0
        known = np.empty((self._horizons, FEATURES + 2))
        features = known[:, :FEATURES]
        features[:, :6] = (level, *[recent.mean(i) for i in LOOKBACKS])
        features[:, 6] = trend
        features[:, 7:13] = seasons[:, :DAILY]
        features[:, 13:15] = growth
        features[:, 15:] = (steady, typical)
        np.copyto(features, level, where=np.isnan(features))
        features /= measure
        known[:, FEATURES:] = measure
        means = np.empty((2, len(CANDIDATES), self._horizons))
        point = means[0]
        point[:3] = [[recent.last()], [level], [steady]]
        point[3] = trend
        point[4] = seasons[:, YESTERDAY]
        point[5:7] = growth.T
        np.maximum.accumulate(point[:7], axis=1, out=means[1, :7])
        np.maximum(self._regression.predict(features) * measure, 0.0, out=means[:, 7])
        return CandidateForecasts(means, known)

    def keep(self, due: NDArray[np.int64], slot: NDArray[np.int64], said: CandidateForecasts) -> None:
        """Keep what the forecasts of these horizons and slots went by."""
        self._known[due, slot] = said.known[due]

    def learn(self, due: NDArray[np.int64], slot: NDArray[np.int64], came: NDArray[np.float64]) -> None:
        """Learn from what came (due, 2): the value at the horizon and the largest up to it; NaN where not seen."""
        seen = ~np.isnan(came).any(axis=1)
        if not seen.all():
            due, slot, came = due[seen], slot[seen], came[seen]
        if due.size:
            known = self._known[due, slot]
            known[:, FEATURES:] = came / known[:, FEATURES, None]
            self._regression.learn(due, known)
