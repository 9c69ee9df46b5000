"""Coverage of the quantiles on synthetic demand, within random variation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from policies.forecast.quantile_forecast import QuantileForecast
from tests.policies.forecast.processes import forecast_of, note, poisson, ramp, walk

pytestmark = pytest.mark.slow

WARM_UP = 240
TICKS = 1440
BINS = 4
"""Ticks in a minute at 15 s: the horizon, and the distance of windows that do not overlap."""


def bursts(seed: int, ticks: int) -> NDArray[np.float64]:
    """Return heavy-tailed demand: log-normal work per tick."""
    return np.asarray(np.random.default_rng(seed).lognormal(1.0, 0.6, ticks))


@pytest.mark.parametrize("made", [poisson, walk, bursts], ids=["steady", "walk", "bursts"])
def test_peak_quantiles_have_their_nominal_coverage(made: object) -> None:
    values = made(12, TICKS)  # type: ignore[operator]
    forecast = forecast_of(values[:WARM_UP])
    below: list[NDArray[np.bool_]] = []
    levels = np.array([0.5, 0.9, 0.99])
    for tick in range(WARM_UP, TICKS - BINS, BINS):
        quantiles = forecast.peaks(15.0 * BINS, levels)
        below.append(values[tick : tick + BINS].max() <= quantiles)
        note(forecast, values[tick : tick + BINS], tick)
    covered, n = np.mean(below, axis=0), len(below)
    for q, share in zip(levels, covered, strict=True):
        assert abs(share - q) < 3.5 * math.sqrt(q * (1 - q) / n) + 1.0 / n, f"{share:.3f} at {q}"


def test_forecast_follows_a_level_shift_within_three_ticks() -> None:
    forecast = forecast_of(poisson(1, 300, 20.0))
    note(forecast, poisson(2, 3, 80.0), 300)
    quantiles = forecast.peak(60, 0.9)
    assert quantiles.value > 8.0
    note(forecast, poisson(3, 60, 20.0), 303)
    assert forecast.peak(60, 0.5).mean < 3.0


def test_outlier_does_not_move_the_median_an_hour_later() -> None:
    values = poisson(4, 480)
    clean = forecast_of(values).peak(300, 0.5).value
    values[240] = 1000.0
    assert forecast_of(values).peak(300, 0.5).value == pytest.approx(clean, rel=0.25)


def test_all_zero_demand_forecasts_zero_until_demand_appears() -> None:
    forecast = forecast_of([0.0] * 200)
    assert forecast.peak(300, 0.99).value == 0.0
    note(forecast, [5.0], 200)
    assert 5.0 <= forecast.peak(60, 0.9).value < 100.0


def test_forecast_of_a_ramp_is_ahead_of_the_growth() -> None:
    """On a ramp the 0.9 quantile of the next five minutes is close to the ramp's value then."""
    values = ramp(5, 420)
    assert QuantileForecast(15.0).peak(300, 0.9).leader == "reactive"
    assert forecast_of(values[:400]).peak(300, 0.9).value == pytest.approx(values[419], rel=0.05)
