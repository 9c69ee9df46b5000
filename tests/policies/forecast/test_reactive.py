"""The level forgets after a shift but not for noise, and the trend is shrunk by its uncertainty."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from policies.forecast import reactive
from tests.policies.forecast.processes import poisson, ramp

NAN = math.nan
AHEAD_S = np.array([60.0, 300.0, 1800.0])


def shifted(before: float, after: float, since: int) -> NDArray[np.float64]:
    """Return a level shift `since` bins ago, with a little noise."""
    noise = np.random.default_rng(1).normal(0.0, 0.05, reactive.WINDOW)
    return np.where(np.arange(reactive.WINDOW) < reactive.WINDOW - since, before, after) + noise


def trend(values: NDArray[np.float64], step_s: float) -> NDArray[np.float64]:
    return reactive.trend(reactive.RecentBins(values), step_s, reactive.damped_s(step_s, AHEAD_S))


@pytest.mark.parametrize(
    ("recent", "level"),
    [
        ([NAN, NAN], NAN),
        ([3.0], 3.0),
        ([NAN, 3.0, NAN], 3.0),
        ([2.0] * 100 + [8.0], 8.0),
        ([8.0] * 100 + [2.0] * 2, 2.0),
        ([5.0, 5.0, NAN, NAN, 5.0], 5.0),
    ],
    ids=["nothing seen", "one value", "between gaps", "up by a step", "down by a step", "through a gap"],
)
def test_level_of_recent_bins(recent: list[float], level: float) -> None:
    assert reactive.RecentBins(np.array(recent)).level()[0] == pytest.approx(level, nan_ok=True)


def test_level_averages_the_whole_window_in_steady_demand() -> None:
    lengths = [reactive.RecentBins(poisson(seed, reactive.WINDOW)).level()[1] for seed in range(40)]
    assert np.median(lengths) == reactive.WINDOW


@pytest.mark.parametrize("since", [1, 2, 4, 8, 16])
@pytest.mark.parametrize(("before", "after"), [(5.0, 9.0), (9.0, 5.0)], ids=["up", "down"])
def test_level_follows_a_shift(before: float, after: float, since: int) -> None:
    assert reactive.RecentBins(shifted(before, after, since)).level()[0] == pytest.approx(after, abs=0.2)


def test_noise_estimate_ignores_trend_and_outliers() -> None:
    values = ramp(2, reactive.WINDOW)
    values[40] = 500.0
    assert reactive.RecentBins(values).noise() == pytest.approx(0.05, rel=0.5)


def test_trend_continues_and_levels_off() -> None:
    values = ramp(3, reactive.WINDOW)
    soon, later, last = trend(values, 15.0)
    assert soon == pytest.approx(values[-1] + 0.2, abs=0.1), "a replica in five minutes"
    assert soon < later < last < values[-1] + 3.0
    assert last - later < 5 * (later - soon)


def test_uncertain_trend_is_shrunk_to_the_level() -> None:
    values = poisson(4, reactive.WINDOW)
    level = reactive.RecentBins(values).level()[0]
    assert trend(values, 15.0) == pytest.approx(level, rel=0.2)


@pytest.mark.parametrize("values", [[1.0, NAN, 2.0, 3.0], [], [NAN] * 9], ids=["three values", "none", "gaps"])
def test_too_few_values_give_no_trend(values: list[float]) -> None:
    assert np.isnan(trend(np.array(values), 15.0)).all()


def test_falling_trend_ends_at_zero() -> None:
    assert (trend(np.linspace(10.0, 0.1, 40), 60.0) >= 0.0).all()
