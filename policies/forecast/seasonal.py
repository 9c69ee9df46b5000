"""What earlier days and weeks say of the hours ahead: their values, and by how much they grew from this time of day on.

All of it is looked up in the coarse record, once in each of its bins; nothing is fitted, so that nothing goes stale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from policies.forecast.series import DemandSeries

DAYS: Final = 14
WEEK: Final = 7
LEAST_DAYS: Final = 2
"""A season is believed once it was seen twice: two days for a daily one, two weeks for a weekly one."""
SMOOTH_S: Final = 900.0
"""Values of earlier days are means of so much to each side, where bins are shorter: single bins are mostly noise."""
LEAST_LEVEL: Final = 0.05
"""Growth is counted from no less than this share of the long-run mean: from nothing, it would be without bounds."""


DAY_AGO, WEEK_AGO, USUAL, DAY_AGO_NOW, WEEK_AGO_NOW, USUAL_NOW, DAILY, WEEKLY, YESTERDAY = range(9)
"""What is known of each time ahead, NaN where a season was not yet seen often enough: the values one season before it
and the median of the days; the same before the present moment; growth factors from now on, the median over days and the
median of the last two weeks and the days; and yesterday's value, as it was (the others are smoothed)."""
COLUMNS: Final = 9


class EarlierDays:
    """What earlier days say of the coarse bins from the present one to the last horizon's: a page of a diary.

    It changes only when the present coarse bin or the long-run mean does: till then it is kept.
    """

    __slots__ = ("_ahead_s", "_fits", "_now", "_page", "_series", "_typical", "_width")

    def __init__(self, series: DemandSeries, horizons_s: NDArray[np.float64]) -> None:
        self._series = series
        self._ahead_s = np.concatenate(([0.0], horizons_s))
        self._width = int(SMOOTH_S // series.coarse_step_s)
        bins = int(horizons_s[-1] // series.coarse_step_s) + 2
        self._page = np.full((bins, COLUMNS), np.nan)
        self._now: int | None = None
        self._typical = 0.0
        self._fits = bins + self._width < series.per_day
        """Whether all that is looked at is over by now, and so will not change."""

    def seasons(self, typical: float) -> NDArray[np.float64]:
        """Return what is known of each horizon: (H, COLUMNS). `typical` is the long-run mean."""
        places = self._series.coarse_places(self._ahead_s)
        now = int(places[0])
        if now != self._now or typical != self._typical or not self._fits:
            self._turn_to(now, typical)
            self._typical = typical
            self._now = now if self._series.fine.last is not None else None
        return self._page[places[1:] - now]

    def _turn_to(self, now: int, typical: float) -> None:
        """Look up what earlier days brought at the coarse bins from `now` on."""
        series, page, width = self._series, self._page, self._width
        places = np.arange(now, now + len(page))[:, None] - series.per_day * np.arange(1, DAYS + 1)
        taps = series.coarse.at(places[:, :, None] + np.arange(-width, width + 1))
        known = ~np.isnan(taps)
        count = known.sum(axis=2)
        past = np.divide(
            np.where(known, taps, 0.0).sum(axis=2), count, out=np.full(count.shape, np.nan), where=count > width
        )
        believed = ~np.isnan(past[:, :LEAST_DAYS]).any(axis=1)
        days = np.where(believed[:, None], past, np.nan)
        weeks = past[:, WEEK - 1 :: WEEK]
        weeks = np.where(np.isnan(weeks).any(axis=1)[:, None], np.nan, weeks)
        page[:, DAY_AGO] = days[:, 0]
        page[:, WEEK_AGO] = weeks[:, 0]
        page[:, USUAL] = median(days)
        page[:, DAY_AGO_NOW : USUAL_NOW + 1] = page[0, DAY_AGO : USUAL + 1]
        page[:, DAILY : WEEKLY + 1] = np.nan
        page[:, YESTERDAY] = np.where(believed, taps[:, 0, width], np.nan)
        floor = LEAST_LEVEL * typical
        if floor > 0.0:
            page[:, DAILY] = daily = median((days + floor) / (days[0] + floor))
            growth = (weeks + floor) / (weeks[0] + floor)
            daily = np.where(np.isnan(growth[:, 0]), np.nan, daily)
            page[:, WEEKLY] = median(np.column_stack((growth, daily)))


def median(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the median of each row without its NaNs, NaN for a row of nothing else.

    Numpy's costs ten times as much.
    """
    ordered = np.sort(rows, axis=1)
    count = rows.shape[1] - np.isnan(ordered).sum(axis=1)
    every = np.arange(len(rows))
    middle: NDArray[np.float64] = 0.5 * (ordered[every, np.maximum(count - 1, 0) // 2] + ordered[every, count // 2])
    return middle
