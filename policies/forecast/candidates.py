"""The candidates: the mean forecast of each at every horizon."""

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
"""The doubling windows whose means are features of the regression: 1, 2, 4, 16 and 64 bins."""
FEATURES: Final = 1 + len(LOOKBACKS) + 1 + 8 + 2


@dataclass(frozen=True, slots=True)
class CandidateForecasts:
    """The candidates' forecasts, and the inputs of the regression.

    `means` (2, candidates, H) has NaN for no forecast. `inputs` (H, F + 2) are its features in a common unit, and that
    unit in the two columns of the targets.
    """

    means: NDArray[np.float64]
    inputs: NDArray[np.float64]


class Candidates:
    """The candidates over one series.

    Horizons are in seconds. Scored forecasts are `strides_s` apart.
    """

    def __init__(self, series: DemandSeries, horizons_s: NDArray[np.float64], strides_s: NDArray[np.float64]) -> None:
        self._series = series
        self._horizons = len(horizons_s)
        self._damped_s = reactive.damped_s(series.step_s, horizons_s)
        self._earlier_days = seasonal.EarlierDays(series, horizons_s)
        self._regression = Regression(FEATURES, strides_s)
        self._inputs = np.zeros((len(horizons_s), SLOTS, FEATURES + 2))
        """The inputs of forecasts whose horizon has not passed."""

    def means(self, typical: float, season_typical: float) -> CandidateForecasts:
        """Return the current forecasts.

        `typical` is the long-run mean, and `season_typical` that mean at the start of this coarse bin.
        """
        recent = reactive.RecentBins(self._series.fine.window(reactive.WINDOW))
        level, _ = recent.level()
        steady = self._series.fine.mean()
        trend = reactive.trend(recent, self._series.step_s, self._damped_s)
        seasons = self._earlier_days.seasons(season_typical)
        growth = level * seasons[:, DAILY : WEEKLY + 1]
        unit = float(scale(level, typical)) or 1.0
        inputs = np.empty((self._horizons, FEATURES + 2))
        features = inputs[:, :FEATURES]
        features[:, :6] = (level, *[recent.mean(i) for i in LOOKBACKS])
        features[:, 6] = trend
        features[:, 7:13] = seasons[:, :DAILY]
        features[:, 13:15] = growth
        features[:, 15:] = (steady, typical)
        np.copyto(features, level, where=np.isnan(features))
        features /= unit
        inputs[:, FEATURES:] = unit
        means = np.empty((2, len(CANDIDATES), self._horizons))
        point = means[0]
        point[:3] = [[recent.last()], [level], [steady]]
        point[3] = trend
        point[4] = seasons[:, YESTERDAY]
        point[5:7] = growth.T
        np.maximum.accumulate(point[:7], axis=1, out=means[1, :7])
        np.maximum(self._regression.predict(features) * unit, 0.0, out=means[:, 7])
        return CandidateForecasts(means, inputs)

    def retain(self, due: NDArray[np.int64], slot: NDArray[np.int64], forecasts: CandidateForecasts) -> None:
        """Retain the inputs of the forecasts at these horizons and slots."""
        self._inputs[due, slot] = forecasts.inputs[due]

    def learn(self, due: NDArray[np.int64], slot: NDArray[np.int64], actual: NDArray[np.float64]) -> None:
        """Learn from the actual values.

        `actual` (due, 2) has the value at the horizon and the largest up to it, with NaN where unknown.
        """
        known = ~np.isnan(actual).any(axis=1)
        if not known.all():
            due, slot, actual = due[known], slot[known], actual[known]
        if due.size:
            inputs = self._inputs[due, slot]
            inputs[:, FEATURES:] = actual / inputs[:, FEATURES, None]
            self._regression.learn(due, inputs)
