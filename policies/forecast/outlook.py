"""What demand may come to: quantiles of the largest value before a horizon, and of the value at one.

An `Outlook` belongs to one workload. Everything it says follows from what was noted, in the order in which it was
noted: the same observations give the same answer, bit for bit. Asking changes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from policies.forecast.backtest import PEAK, POINT, Backtest
from policies.forecast.candidates import CANDIDATES, Candidates
from policies.forecast.selection import LEVELS, REACTIVE
from policies.forecast.series import Series
from policies.forecast.spread import scale

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

HORIZONS_S: Final = (30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0)
"""Horizons that are scored: the start-up times of a slept engine up to those of a new node with a large model."""
TYPICAL_S: Final = 86_400.0
"""The long-run mean forgets half in a day."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """A quantile of what may come.

    `value` is the quantile and `mean` what the leader takes for most likely, both in the unit of what was noted;
    `leader` is the candidate that leads, `sure` (0 to 1) how much of the claim is covered by residuals seen: 1 where
    the quantile lies among them, less where it is the tail's extrapolation. NaN values before the first observation.
    """

    value: float
    mean: float
    leader: str
    sure: float
    reason: str


class Outlook:
    """Watches one measured value, noted every `step_s` seconds or so, and says what it may come to."""

    def __init__(self, step_s: float) -> None:
        self.series = Series(step_s)
        horizons = np.unique([math.ceil(h / step_s - 1e-9) for h in HORIZONS_S])
        self._horizons_s = horizons * step_s
        self._backtest = Backtest(len(CANDIDATES), horizons, step_s)
        self._candidates = Candidates(self.series, self._horizons_s, self._backtest.stride * step_s)
        self._typical = 0.0
        self._noted = 0

    def note(self, at: float, value: float | None) -> None:
        """One turn's value, at a time in seconds since the Unix epoch; None or NaN where it was missed.

        Raises ValueError for a value that is infinite or negative: an adapter's fault that must not become a forecast.
        """
        value = _checked(value)
        place = self.series.place(at)
        newest = self.series.fine.last
        if newest is not None:
            if place < newest:
                return
            if place > newest:
                self._close(newest)
        self.series.note(at, value)
        if not math.isnan(value):
            self._noted += 1
            share = max(1.0 / self._noted, 1.0 - 0.5 ** (self.series.step_s / TYPICAL_S))
            self._typical += share * (value - self._typical)

    def seed(self, at: Iterable[float], values: Iterable[float | None]) -> None:
        """Note a past (from a journal, from Prometheus), oldest first."""
        for t, value in zip(at, values, strict=True):
            self.note(t, value)

    def shift(self, step_s: float) -> None:
        """Move the whole past by `step_s`: after the wall clock jumped, ages stay what they were."""
        self.series.shift(step_s)

    def peak(self, horizon_s: float, q: float) -> Forecast:
        """The `q` quantile of the largest value in (now, now + horizon_s]."""
        if not 0.0 < q < 1.0:
            raise ValueError(f"a quantile lies between 0 and 1, not at {q!r}")
        value = float(self._quantiles(PEAK, np.array([horizon_s]), np.array([q]))[0, 0])
        i = int(np.argmin(np.abs(self._horizons_s - horizon_s)))
        level = min(int(np.searchsorted(LEVELS, q)), len(LEVELS) - 1)
        row = int(self._backtest.selection.leader[i, PEAK, level])
        evidence = self._backtest.evidence(i, PEAK, row)
        sure = min(1.0, (1.0 - q) * (evidence + 1.0)) if evidence else 0.0
        return Forecast(value, float(self._means()[PEAK, row, i]), CANDIDATES[row], sure, self._reason(i, row, level))

    def at(self, horizons_s: ArrayLike, qs: ArrayLike) -> NDArray[np.float64]:
        """Quantiles of the value at each of the horizons (seconds from now), shape (horizons, quantiles)."""
        return self._quantiles(
            POINT, np.atleast_1d(np.asarray(horizons_s, float)), np.atleast_1d(np.asarray(qs, float))
        )

    def _close(self, place: int) -> None:
        """The newest bin is complete: score what it brought, and make the forecasts that start from it."""
        fine = self.series.fine
        for horizon, slot in self._backtest.mature(place):
            window = fine.window(int(self._backtest.horizons[horizon]))
            came = self._backtest.settle(horizon, slot, window, self._typical)
            self._candidates.learn(horizon, slot, came)
        due = self._backtest.due(place)
        if due.size and not math.isnan(fine.window(1)[0]):
            said = self._candidates.means(self._typical)
            self._candidates.keep(due, self._backtest.promise(place, due, said.means), said)

    def _means(self) -> NDArray[np.float64]:
        """What each candidate takes for most likely: (2, candidates, horizons)."""
        return self._candidates.means(self._typical).means

    def _quantiles(self, target: int, horizons_s: NDArray[np.float64], qs: NDArray[np.float64]) -> NDArray[np.float64]:
        means = self._means()[target]
        levels, back = np.unique(np.concatenate((LEVELS, qs)), return_inverse=True)
        whose = np.minimum(np.searchsorted(LEVELS, levels), len(LEVELS) - 1)
        middle = means[self._backtest.selection.leader[:, target, 0], np.arange(len(self._horizons_s))]
        values = np.stack([self._of_horizon(i, target, means[:, i], levels, whose) for i in range(len(middle))])
        if target == PEAK:
            values = np.maximum.accumulate(values, axis=0)
        else:
            apart = values - middle[:, None]
            wider = np.where(levels > 0.5, np.maximum.accumulate(apart, 0), apart)
            values = middle[:, None] + np.where(levels < 0.5, np.minimum.accumulate(apart, 0), wider)
        values = np.maximum(values, 0.0)
        grid = self._horizons_s
        found = np.stack([np.interp(horizons_s, grid, values[:, j]) for j in back[len(LEVELS) :]], axis=1)
        beyond = np.sqrt(np.maximum(horizons_s / grid[-1], 1.0))[:, None]
        anchor = np.interp(horizons_s, grid, middle)[:, None]
        answer: NDArray[np.float64] = np.maximum(anchor + beyond * (found - anchor), 0.0)
        return answer

    def _of_horizon(
        self, i: int, target: int, means: NDArray[np.float64], levels: NDArray[np.float64], whose: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        leaders = self._backtest.selection.leader[i, target][whose]
        rows, back = np.unique(leaders, return_inverse=True)
        offsets = self._backtest.offsets(i, target, rows, levels)
        mean = means[rows][back]
        said: NDArray[np.float64] = mean + offsets[back, np.arange(len(levels))] * scale(mean, self._typical)
        return np.maximum.accumulate(said)

    def _reason(self, i: int, row: int, level: int) -> str:
        minutes = self._horizons_s[i] / 60.0
        ratio = self._backtest.selection.ratio(i, PEAK)
        if row == REACTIVE:
            if np.isinf(ratio[1:, level]).all():
                return f"reactive: too little was seen over {minutes:g} min to trust another"
            return f"reactive: none beats the last value over {minutes:g} min"
        gain = 1.0 - float(ratio[row, level])
        return f"{CANDIDATES[row]} has lost {gain:.0%} less than the last value over {minutes:g} min"


def _checked(value: float | None) -> float:
    if value is None or math.isnan(value):
        return math.nan
    if value < 0.0 or math.isinf(value):
        raise ValueError(
            f"a measured demand is finite and not negative, but {value!r} was noted: refuse it at the source"
        )
    return float(value)
