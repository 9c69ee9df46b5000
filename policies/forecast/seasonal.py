"""What earlier days and weeks say of the hours ahead: their values, and by how much they grew from this time of day on.

All of it is looked up in the coarse record when asked; nothing is fitted, so that nothing goes stale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from policies.forecast.series import Series

DAYS: Final = 14
WEEK: Final = 7
LEAST_DAYS: Final = 2
"""A season is believed once it was seen twice: two days for a daily one, two weeks for a weekly one."""
SMOOTH_S: Final = 900.0
"""Values of earlier days are means of so much to each side, where bins are shorter: single bins are mostly noise."""
LEAST_LEVEL: Final = 0.05
"""Growth is counted from no less than this share of the long-run mean: from nothing, it would be without bounds."""


@dataclass(frozen=True, slots=True)
class Seasons:
    """Earlier days at the same times of day. NaN where a season was not yet seen often enough.

    `day_ago` and `week_ago` are the values one season before each horizon (H,), and `usual` the median of the days;
    `..._now` the same before the present moment. `daily` and `weekly` are growth factors from now to each horizon
    (H,): the median over days, and the median of the last two weeks and the days.
    """

    yesterday: NDArray[np.float64]
    day_ago: NDArray[np.float64]
    week_ago: NDArray[np.float64]
    usual: NDArray[np.float64]
    day_ago_now: float
    week_ago_now: float
    usual_now: float
    daily: NDArray[np.float64]
    weekly: NDArray[np.float64]


def look_back(series: Series, horizons_s: NDArray[np.float64], typical: float) -> Seasons:
    """The seasons as seen from the newest bin; `typical` is the long-run mean."""
    now_and_on = series.coarse_places(np.concatenate(([0.0], horizons_s)))
    places = now_and_on - series.per_day * np.arange(1, DAYS + 1)[:, None]
    width = int(SMOOTH_S // series.coarse_step_s)
    taps = series.coarse.at(places[:, :, None] + np.arange(-width, width + 1))
    known = ~np.isnan(taps)
    count = known.sum(axis=2)
    past = np.divide(
        np.where(known, taps, 0.0).sum(axis=2), count, out=np.full(count.shape, np.nan), where=count > width
    )
    days = _masked(past, ~np.isnan(past[:LEAST_DAYS]).any(axis=0))
    weeks = _masked(past[WEEK - 1 :: WEEK], ~np.isnan(past[WEEK - 1 :: WEEK]).any(axis=0))
    floor = LEAST_LEVEL * typical
    with np.errstate(divide="ignore", invalid="ignore"):
        growth_of_days = (days[:, 1:] + floor) / (days[:, :1] + floor)
        growth_of_weeks = (weeks[:, 1:] + floor) / (weeks[:, :1] + floor)
    daily = median(growth_of_days)
    weekly = median(np.vstack((growth_of_weeks, np.where(np.isnan(growth_of_weeks[:1]), np.nan, daily))))
    usual = median(days)
    return Seasons(
        yesterday=np.where(np.isnan(days[0, 1:]), np.nan, taps[0, 1:, width]),
        day_ago=days[0, 1:],
        week_ago=weeks[0, 1:],
        usual=usual[1:],
        day_ago_now=float(days[0, 0]),
        week_ago_now=float(weeks[0, 0]),
        usual_now=float(usual[0]),
        daily=daily,
        weekly=weekly,
    )


def _masked(past: NDArray[np.float64], seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.where(seen, past, np.nan)


def median(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The median of each column without its NaNs, NaN for a column of nothing else: numpy's costs ten times as much."""
    ordered = np.sort(rows, axis=0)
    count = (~np.isnan(ordered)).sum(axis=0)
    every = np.arange(rows.shape[1])
    low, high = ordered[np.maximum(count - 1, 0) // 2, every], ordered[count // 2, every]
    return np.where(count > 0, 0.5 * (low + high), np.nan)
