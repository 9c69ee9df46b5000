"""Accuracy and time of forecasts compared with statsforecast's models, on recorded series of rates.

The first part of each series is history; origins are evenly spaced over the rest. At each, the quantiles 0.5, 0.9 and
0.99 of the value at every horizon are scored by their pinball loss; a peer with fewer origins is compared at those. The
ratio of two forecasters is the geometric mean over series, horizons and quantiles of the ratio of their mean losses. No
peer forecasts the quantile of the *largest* value up to the horizon, which policies use: its coverage is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from policies.forecast.quantile_forecast import QuantileForecast
from tests.benchmarks.figure import Figure
from tests.benchmarks.peers.outcome import processor_s
from tests.benchmarks.peers.statsforecast_models import LEVELS, peers

ORIGINS: Final = 80
WARM_UP_DAYS: Final = 15
HORIZONS_S: Final = (120, 300, 600, 1800)
QUANTILES: Final = np.array(list(LEVELS))
SERIES: Final = {
    "servegen_m-small_10min_clean": (600, 8 / 14),
    "servegen_m-mid_10min_clean": (600, 8 / 14),
    "nab_nyc_taxi_30min": (1800, 0.6),
    "nasa95_1min": (60, 0.75),
    "worldcup98_1min": (60, 0.8),
}
"""Step in seconds, and the share of the series that is history."""
FIRST_HOUR: Final = ((90, 0.9), (300, 0.9))
LEARN_S: Final = 900.0
TWO_WEEKS: Final = 20_160


@dataclass(slots=True)
class Result:
    """One series: losses of ours (origins, horizons, quantiles), ratios to each peer, times and coverage."""

    name: str
    losses: NDArray[np.float64]
    update_s: list[float]
    peak_covered: list[bool]
    point_covered: NDArray[np.bool_]
    ratios: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    times_s: dict[str, float] = field(default_factory=dict)


def run(data: Path) -> Iterator[Figure]:
    results = [score_series(data / "rates" / f"{name}.csv.gz", *parameters) for name, parameters in SERIES.items()]
    yield from against_peers(results)
    for result in results:
        ratio = {name: geometric_mean(r) for name, r in result.ratios.items()}
        best = max(ratio, key=lambda name: ratio[name])
        note = ", ".join(f"{name} {value:.3f}" for name, value in ratio.items())
        yield Figure("forecast", f"loss to that of the best peer, {result.name}", ratio[best], "", note=note)
    points = np.concatenate([r.point_covered.reshape(-1, len(QUANTILES)) for r in results])
    for q, covered in zip(QUANTILES, points.mean(axis=0), strict=True):
        yield Figure("forecast", f"coverage of the {q:g} quantile at the horizon", float(covered), "share")
    peaks = float(np.mean([np.mean(r.peak_covered) for r in results]))
    yield Figure("forecast", "coverage of the 0.9 quantile of the largest value", peaks, "share", note="mean of series")
    yield from first_hour(data)
    yield from timings(results)


def score_series(file: Path, step_s: int, history: float) -> Result:
    """Score our forecasts tick by tick over a series, and the peers' at its origins."""
    values = np.loadtxt(file, delimiter=",", skiprows=1, usecols=1)
    horizons = np.array([h // step_s for h in HORIZONS_S if h % step_s == 0])
    origins = np.linspace(history * len(values), len(values) - 1 - horizons.max(), ORIGINS).astype(int)
    actual = np.stack([values[origins + h] for h in horizons], axis=1)[:, :, None]
    first = max(0, origins[0] - WARM_UP_DAYS * 86_400 // step_s)
    result, forecasts = ours(values, first, origins, horizons * step_s, step_s)
    result.name = file.name.removesuffix(".csv.gz")
    result.losses = pinball(actual, forecasts)
    result.point_covered = actual <= forecasts
    for peer in peers(step_s):
        peer_origins = range(0, len(origins), peer.every)
        peer_forecasts = [peer.quantiles(values[: origins[i] + 1], horizons) for i in peer_origins]
        peer_losses = pinball(actual[peer_origins], np.stack([quantiles for quantiles, _ in peer_forecasts])).mean(
            axis=0
        )
        result.ratios[peer.name] = result.losses[peer_origins].mean(axis=0) / peer_losses
        result.times_s[peer.name] = float(np.median([time_s for _, time_s in peer_forecasts]))
    return result


def ours(
    values: NDArray[np.float64], first: int, origins: NDArray[np.int64], horizons_s: NDArray[np.int64], step_s: int
) -> tuple[Result, NDArray[np.float64]]:
    """Return the result of a forecast fed from `first` on, and its forecasts (origins, horizons, quantiles)."""
    outlook = QuantileForecast(step_s)
    result = Result("", np.empty(0), [], [], np.empty(0, bool))
    forecasts = []
    origin_indices = set(origins.tolist())
    for i in range(first, int(origins[-1]) + 1):
        start_s = processor_s()
        outlook.note(float(i * step_s), float(values[i]))
        if i in origin_indices:
            forecasts.append(outlook.at(horizons_s, QUANTILES))
            result.update_s.append(processor_s() - start_s)
            for h in horizons_s:
                peak = outlook.peak(float(h), 0.9).value
                result.peak_covered.append(bool(values[i + 1 : i + 1 + h // step_s].max() <= peak))
    return result, np.stack(forecasts)


def pinball(actual: NDArray[np.float64], forecasts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the pinball loss of quantiles in the last axis (Koenker & Bassett 1978)."""
    error = actual - forecasts
    loss: NDArray[np.float64] = np.maximum(QUANTILES * error, (QUANTILES - 1.0) * error)
    return loss


def geometric_mean(ratios: NDArray[np.float64]) -> float:
    return float(np.exp(np.log(ratios).mean()))


def against_peers(results: list[Result]) -> Iterator[Figure]:
    """Yield loss and time compared with each peer."""
    update_s = float(np.median(np.concatenate([r.update_s for r in results])))
    for name in results[0].ratios:
        ratio = geometric_mean(np.concatenate([r.ratios[name].ravel() for r in results]))
        time_ratio = geometric_mean(np.array([np.median(r.update_s) / r.times_s[name] for r in results]))
        peer_s = float(np.median([r.times_s[name] for r in results]))
        yield Figure("forecast", f"pinball loss to that of {name}", ratio, "", 1.0)
        note = f"update and forecast: {update_s * 1e3:.2f} ms; fit and forecast of the peer: {peer_s * 1e3:.1f} ms"
        yield Figure("forecast", f"time to that of {name}", time_ratio, "", 0.01, note=note)


def first_hour(data: Path) -> Iterator[Figure]:
    """Yield the coverage for a new workload: an hour of conversations in bins of 15 s, after 15 minutes of learning."""
    file = data / "requests" / "azure2023_conv.csv.gz"
    arrival_s = np.loadtxt(file, delimiter=",", skiprows=1, usecols=0)
    rates = np.bincount((arrival_s // 15).astype(int))[:-1] / 15.0
    for horizon_s, q in FIRST_HOUR:
        outlook, bins = QuantileForecast(15.0), horizon_s // 15
        covered, ratios = [], []
        for i, rate in enumerate(rates):
            outlook.note(15.0 * i, float(rate))
            if 15.0 * i >= LEARN_S and i + bins < len(rates):
                peak, actual = outlook.peak(horizon_s, q).value, rates[i + 1 : i + 1 + bins].max()
                covered.append(actual <= peak)
                ratios.append(peak / actual)
        note = f"on average {np.mean(ratios) - 1.0:.0%} above the actual peak"
        yield Figure(
            "forecast", f"first hour: coverage of peak({horizon_s} s, {q})", float(np.mean(covered)), "share", note=note
        )


def timings(results: list[Result]) -> Iterator[Figure]:
    """Yield the time of an update and of a forecast, and of seeding two weeks."""
    day = 86_400 / 60
    values = np.random.default_rng(1).poisson(60 + 40 * np.sin(np.arange(TWO_WEEKS) * 2 * np.pi / day)) / 10.0
    outlook = QuantileForecast(60.0)
    start_s = processor_s()
    outlook.seed((60.0 * np.arange(TWO_WEEKS)).tolist(), values.tolist(), learn_s=0.0)
    yield Figure(
        "forecast", "seasons from a history of two weeks of minutes", (processor_s() - start_s) * 1e3, "ms", 20.0
    )
    outlook = QuantileForecast(60.0)
    start_s = processor_s()
    outlook.seed((60.0 * np.arange(TWO_WEEKS)).tolist(), values.tolist())
    yield Figure("forecast", "the same, with four hours of history", (processor_s() - start_s) * 1e3, "ms")
    times_ms = []
    for i in range(2000):
        start_s = processor_s()
        outlook.note(60.0 * (TWO_WEEKS + i), float(values[i]))
        times_ms.append((processor_s() - start_s) * 1e3)
    yield Figure("forecast", "median update", float(np.median(times_ms)), "ms", 1.0)
    yield Figure("forecast", "longest update in 2000", float(np.max(times_ms)), "ms", 20.0)
    peak_times_ms = []
    for _ in range(500):
        start_s = processor_s()
        outlook.peak(200.0, 0.9)
        peak_times_ms.append((processor_s() - start_s) * 1e3)
    yield Figure("forecast", "median peak()", float(np.median(peak_times_ms)), "ms", 1.0)
