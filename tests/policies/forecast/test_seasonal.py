"""Earlier days and weeks, with a holiday, an outage and a changed level among them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from policies.forecast.seasonal import DAILY, WEEKLY, YESTERDAY, EarlierDays, median
from policies.forecast.series import DemandSeries
from tests.policies.forecast.processes import START, days

AHEAD_S = np.array([900.0, 1800.0])
PER_DAY = 288
NINE = 9 * 12
"""The bin of 09:00, when the load doubles within the hour."""


def series_of(values: NDArray[np.float64]) -> DemandSeries:
    series = DemandSeries(300.0)
    for i, value in enumerate(values):
        series.note(START + 300.0 * i, value)
    return series


def as_it_was(values: NDArray[np.float64]) -> None:
    """Leave two regular weeks unchanged."""


def holiday(values: NDArray[np.float64]) -> None:
    """Set yesterday to the load of a night."""
    values[-PER_DAY - NINE : -NINE] = 2.0


def outage(values: NDArray[np.float64]) -> None:
    """Remove the values of yesterday morning."""
    values[-PER_DAY - 24 : -PER_DAY + 24] = np.nan


def silence(values: NDArray[np.float64]) -> None:
    """Set the morning of the day before yesterday to zero."""
    values[-2 * PER_DAY - 24 : -2 * PER_DAY + 24] = 0.0


def growth(values: NDArray[np.float64]) -> None:
    """Double the load permanently from three days ago."""
    values[-3 * PER_DAY :] *= 2.0


@pytest.mark.parametrize("event", [as_it_was, holiday, silence, growth])
def test_daily_season_is_robust_to_one_unusual_event(event: Callable[[NDArray[np.float64]], None]) -> None:
    values = days(1, 14 + NINE / PER_DAY, 300.0)
    event(values)
    seasons = EarlierDays(series_of(values), AHEAD_S).seasons(float(np.nanmean(values)))
    clean = days(1, 14, 300.0, noise=0.0)
    expected = clean[NINE + np.array([2, 5])] / clean[NINE - 1]
    assert seasons[:, DAILY] == pytest.approx(expected, rel=0.12)


@pytest.mark.parametrize("step_s", [15.0, 60.0, 900.0, 7200.0, 43_200.0])
def test_cached_seasons_equal_a_fresh_lookup(step_s: float) -> None:
    """Tick by tick, with gaps in the past: the cache is renewed on time at each new bin."""
    series, ahead_s = DemandSeries(step_s), step_s * np.unique(np.ceil(np.array([60.0, 300.0, 1800.0]) / step_s))
    values = np.random.default_rng(4).uniform(1.0, 9.0, 15 * PER_DAY)
    values[::7] = np.nan
    series.seed(START + 300.0 * np.arange(len(values), dtype=np.float64), values)
    past, now = EarlierDays(series, ahead_s), START + 300.0 * len(values)
    for tick in range(90):
        series.note(now + step_s * tick, 5.0 + tick % 3)
        typical = 5.0 if tick < 50 else 6.0
        assert np.array_equal(past.seasons(typical), EarlierDays(series, ahead_s).seasons(typical), equal_nan=True)


@pytest.mark.parametrize(("count", "daily", "weekly"), [(1.9, False, False), (2.3, True, False), (14.3, True, True)])
def test_season_takes_part_after_two_periods(count: float, daily: bool, weekly: bool) -> None:
    seasons = EarlierDays(series_of(days(2, count, 300.0)), AHEAD_S).seasons(5.0)
    assert np.isnan(seasons[:, DAILY]).any() != daily
    assert np.isnan(seasons[:, YESTERDAY]).any() != daily
    assert np.isnan(seasons[:, WEEKLY]).any() != weekly


def test_daily_season_is_unknown_with_a_gap_at_its_last_tick() -> None:
    values = days(3, 5 + NINE / PER_DAY, 300.0)
    outage(values)
    assert np.isnan(EarlierDays(series_of(values), AHEAD_S).seasons(5.0)[:, DAILY]).all()


def test_growth_from_zero_is_bounded() -> None:
    values = np.where(np.arange(5 * PER_DAY + NINE) % PER_DAY < NINE, 0.0, 10.0)
    seasons = EarlierDays(series_of(values), AHEAD_S).seasons(float(values.mean()))
    assert (seasons[:, DAILY] <= 22.0).all()


@pytest.mark.parametrize(
    ("row", "expected"),
    [([3.0, 1.0, 2.0], 2.0), ([np.nan, 4.0, 1.0], 2.5), ([np.nan, np.nan, 7.0], 7.0), ([np.nan] * 3, np.nan)],
)
def test_median_ignores_nan(row: list[float], expected: float) -> None:
    assert median(np.array([row])) == pytest.approx(expected, nan_ok=True)
