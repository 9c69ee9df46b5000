"""Synthetic demand in replica equivalents, and a forecast that recorded it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from policies.forecast.quantile_forecast import QuantileForecast

START = 1_700_006_400.0
"""A midnight, UTC."""
STEP_S = 15.0
DAY_S = 86_400.0


def forecast_of(values: Sequence[float | None] | NDArray[np.float64], step_s: float = STEP_S) -> QuantileForecast:
    forecast = QuantileForecast(step_s)
    note(forecast, values, 0, step_s)
    return forecast


def note(
    forecast: QuantileForecast, values: Sequence[float | None] | NDArray[np.float64], tick: int, step_s: float = STEP_S
) -> None:
    """Record the values of the ticks from `tick` on."""
    for i, value in enumerate(values):
        forecast.note(START + step_s * (tick + i), value)


def poisson(seed: int, ticks: int, mean: float = 50.0, work: float = 0.1) -> NDArray[np.float64]:
    """Return a Poisson number of requests per tick, each with `work` replicas of work."""
    return np.asarray(np.random.default_rng(seed).poisson(mean, ticks), float) * work


def walk(seed: int, ticks: int, sigma: float = 0.02) -> NDArray[np.float64]:
    """Return a geometric random walk from 10, whose best forecast is its last value."""
    factor: NDArray[np.float64] = np.exp(np.cumsum(np.random.default_rng(seed).normal(0.0, sigma, ticks)))
    return 10.0 * factor


def ramp(seed: int, ticks: int) -> NDArray[np.float64]:
    """Return growth by one replica per five minutes, with noise."""
    return 2.0 + np.arange(ticks) / 20.0 + np.random.default_rng(seed).normal(0.0, 0.05, ticks)


def days(seed: int, count: float, step_s: float, noise: float = 0.03) -> NDArray[np.float64]:
    """Return steep days, 2 replicas at night and 20 at noon, with noise that grows with the level."""
    at = np.arange(int(count * DAY_S / step_s)) * step_s
    level = 2.0 + 18.0 * np.exp(-(((at % DAY_S) / 3600.0 - 12.0) ** 2) / 8.0)
    factor: NDArray[np.float64] = level * np.exp(np.random.default_rng(seed).normal(0.0, noise, at.size))
    return factor
