"""The values of earlier days and weeks at the horizons, and their growth.

The growth is from this time of day on. Both are read from the coarse record, once per coarse bin. Nothing is fitted, so
nothing becomes stale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from policies.forecast.series import DemandSeries

DAYS: Final = 14
WEEK: Final = 7
MIN_SEASONS: Final = 2
"""A season counts once it was observed this often: two days for a daily season, two weeks for a weekly one."""
SMOOTH_S: Final = 900.0
"""Values of earlier days are means over this time to each side, since single bins are mostly noise. Seconds."""
MIN_LEVEL: Final = 0.05
"""Share of the long-run mean that is added to both values of a growth factor, so that growth from zero is bounded."""
DAY_AGO, WEEK_AGO, USUAL, DAY_AGO_NOW, WEEK_AGO_NOW, USUAL_NOW, DAILY, WEEKLY, YESTERDAY = range(9)
"""The columns for each horizon, NaN while a season was not observed often enough: the values one day and one week
before it and the median of the days; the same for the present moment; the growth factors from now to the horizon, the
median over days and the median over the last two weeks and the days; and yesterday's value (the others are
smoothed)."""
COLUMNS: Final = 9


class EarlierDays:
    """The values of earlier days for the coarse bins from now to the last horizon.

    They form a page with one row per bin. The page is cached: it changes only with the present coarse bin or the
    long-run mean.
    """

    __slots__ = ("_ahead_s", "_is_all_past", "_now", "_page", "_series", "_typical", "_width")

    def __init__(self, series: DemandSeries, horizons_s: NDArray[np.float64]) -> None:
        self._series = series
        self._ahead_s = np.concatenate(([0.0], horizons_s))
        self._width = int(SMOOTH_S // series.coarse_step_s)
        bins = int(horizons_s[-1] // series.coarse_step_s) + 2
        self._page = np.full((bins, COLUMNS), np.nan)
        self._now: int | None = None
        self._typical = 0.0
        self._is_all_past = bins + self._width < series.per_day
        """Whether all bins that the page reads are in the past, so that they do not change."""

    def seasons(self, typical: float) -> NDArray[np.float64]:
        """Return the columns of each horizon: (H, COLUMNS). `typical` is the long-run mean."""
        indices = self._series.coarse_indices(self._ahead_s)
        now = int(indices[0])
        if now != self._now or typical != self._typical or not self._is_all_past:
            self._update_page(now, typical)
            self._typical = typical
            self._now = now if self._series.fine.last is not None else None
        return self._page[indices[1:] - now]

    def _update_page(self, now: int, typical: float) -> None:
        """Compute the page from the coarse bin `now` on.

        Example of a growth factor: the long-run mean is 10, and yesterday rose from 10 now to 20 at the horizon. The
        factor is (20 + 0.05 * 10) / (10 + 0.05 * 10) = 1.95.
        """
        series, page, width = self._series, self._page, self._width
        indices = np.arange(now, now + len(page))[:, None] - series.per_day * np.arange(1, DAYS + 1)
        bins = series.coarse.at(indices[:, :, None] + np.arange(-width, width + 1))
        known = ~np.isnan(bins)
        count = known.sum(axis=2)
        smoothed = np.divide(
            np.where(known, bins, 0.0).sum(axis=2), count, out=np.full(count.shape, np.nan), where=count > width
        )
        has_season = ~np.isnan(smoothed[:, :MIN_SEASONS]).any(axis=1)
        days = np.where(has_season[:, None], smoothed, np.nan)
        weeks = smoothed[:, WEEK - 1 :: WEEK]
        weeks = np.where(np.isnan(weeks).any(axis=1)[:, None], np.nan, weeks)
        page[:, DAY_AGO] = days[:, 0]
        page[:, WEEK_AGO] = weeks[:, 0]
        page[:, USUAL] = median(days)
        page[:, DAY_AGO_NOW : USUAL_NOW + 1] = page[0, DAY_AGO : USUAL + 1]
        page[:, DAILY : WEEKLY + 1] = np.nan
        page[:, YESTERDAY] = np.where(has_season, bins[:, 0, width], np.nan)
        floor = MIN_LEVEL * typical
        if floor > 0.0:
            page[:, DAILY] = daily = median((days + floor) / (days[0] + floor))
            growth = (weeks + floor) / (weeks[0] + floor)
            daily = np.where(np.isnan(growth[:, 0]), np.nan, daily)
            page[:, WEEKLY] = median(np.column_stack((growth, daily)))


def median(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the median of each row without its NaNs, NaN for a row of NaNs.

    It is ten times as fast as NumPy's.
    """
    ordered = np.sort(rows, axis=1)
    count = rows.shape[1] - np.isnan(ordered).sum(axis=1)
    row_indices = np.arange(len(rows))
    middle: NDArray[np.float64] = 0.5 * (
        ordered[row_indices, np.maximum(count - 1, 0) // 2] + ordered[row_indices, count // 2]
    )
    return middle
