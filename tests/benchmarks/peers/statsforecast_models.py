"""The forecasters of statsforecast, each with the season and the window that fit the step of a series.

Peers are refitted at every origin, as by a stateless autoscaler. Windows are as long as their time allows: MSTL takes
seconds over days of one-minute data, a seasonal ARIMA over weeks of half hours.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from statsforecast.models import MSTL, AutoARIMA, AutoETS, SeasonalNaive

from tests.benchmarks.peers.outcome import processor_s

LEVELS = {0.5: "mean", 0.9: "hi-80", 0.99: "hi-98"}
"""Quantiles as statsforecast names them: the upper ends of central intervals; a normal's median is its mean."""
SMALL: dict[str, Any] = {"max_p": 2, "max_q": 1, "max_P": 1, "max_Q": 0, "max_order": 3, "approximation": True}
"""Orders of a seasonal ARIMA that it finds in two seconds; without bounds a fit takes up to a minute."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A model, its bins of history, and the step between the origins at which it forecasts."""

    name: str
    model: Any
    window: int
    every: int = 1

    def quantiles(self, past: NDArray[np.float64], horizons: NDArray[np.int64]) -> tuple[NDArray[np.float64], float]:
        """Return quantiles (horizons, levels) after `past`, at least zero, and the time of fit and forecast."""
        start_s = processor_s()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            prediction = self.model.forecast(past[-self.window :], int(horizons.max()), level=[80, 98])
        time_s = processor_s() - start_s
        quantiles_ = np.stack([np.asarray(prediction[name], float)[horizons - 1] for name in LEVELS.values()], axis=1)
        return np.maximum(quantiles_, 0.0), time_s


def peers(step_s: float) -> tuple[Peer, ...]:
    """Return the peers for a series of this step, with a daily season and a weekly one where it fits."""
    day = round(86_400 / step_s)
    if day <= 48:
        return (
            Peer("seasonal naive", SeasonalNaive(7 * day), 28 * day),
            Peer("AutoETS", AutoETS(season_length=day), 14 * day, 4),
            Peer("AutoARIMA", AutoARIMA(season_length=day, **SMALL), 10 * day, 4),
            Peer("MSTL", MSTL(season_length=[day, 7 * day]), 28 * day, 2),
        )
    if day <= 288:
        return (
            Peer("seasonal naive", SeasonalNaive(day), 7 * day),
            Peer("AutoETS", AutoETS(season_length=1), 3 * day),
            Peer("AutoARIMA", AutoARIMA(season_length=1), 3 * day, 4),
            Peer("MSTL", MSTL(season_length=[day]), 7 * day),
        )
    return (
        Peer("seasonal naive", SeasonalNaive(day), 7 * day),
        Peer("AutoETS", AutoETS(season_length=1), day),
        Peer("AutoARIMA", AutoARIMA(season_length=1), day // 2, 2),
        Peer("MSTL", MSTL(season_length=[day]), 3 * day, 8),
    )
