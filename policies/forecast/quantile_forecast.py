"""Quantile forecasts of demand.

A forecast is of the largest value up to a horizon, or of the value at a horizon.

A `QuantileForecast` belongs to one policy of a workload. It is a function of the recorded values in their order: the
same values give the same forecast, bit for bit, and reading a forecast changes no later one. A decision reads the same
quantiles in every tick, so they are computed when a value is recorded, and not between a reading and a resize.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from policies.forecast.backtest import PEAK, POINT, Backtest
from policies.forecast.candidates import CANDIDATES, CandidateForecasts, Candidates
from policies.forecast.residuals import scale
from policies.forecast.selection import LEVELS, REACTIVE
from policies.forecast.series import DemandSeries

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

    Request = tuple[tuple[float, ...], tuple[float, ...]]

HORIZONS_S: Final = (30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0)
"""Horizons that are scored: from the start-up time of a sleeping engine to that of a new node with a large model."""
LEARN_S: Final = 4 * 3600.0
"""The last part of a seeded history that is learned from by default: half a second of computing at 15 s per tick."""
TYPICAL_S: Final = 86_400.0
"""Half-life of the long-run mean: a tick of 15 s has a weight of 1 - 0.5 ** (15 / 86400) = 0.00012. Seconds."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """A quantile of future demand.

    `value` is the quantile and `mean` the leader's mean forecast, both in the unit of the recorded values (NaN before
    the first one); `leader` is the leading candidate. `confidence` (0 to 1) is the share of the tail that residuals
    cover: 1 if the quantile lies within them, less if it is extrapolated. Example: for the 0.99 quantile, 30
    independent residuals give (1 - 0.99) * (30 + 1) = 0.31.
    """

    value: float
    mean: float
    leader: str
    confidence: float
    reason: str


class QuantileForecast:
    """The forecast of one measured value that is recorded about every `step_s` seconds."""

    def __init__(self, step_s: float) -> None:
        self.series = DemandSeries(step_s)
        horizons = np.unique([math.ceil(h / step_s - 1e-9) for h in HORIZONS_S])
        self._horizons_s = horizons * step_s
        self._scored_s = tuple(self._horizons_s.tolist())
        self._backtest = Backtest(len(CANDIDATES), horizons, step_s)
        self._candidates = Candidates(self.series, self._horizons_s, self._backtest.stride * step_s)
        self._latest: CandidateForecasts | None = None
        self._leaders: dict[int, NDArray[np.int64]] = {}
        self._requests: dict[int, Request] = {}
        """The horizons and quantiles last read of each target since the newest value."""
        self._prepared: dict[int, tuple[Request, NDArray[np.float64]]] = {}
        self._typical = self._season_typical = 0.0
        self._noted = 0

    def note(self, at: float, value: float | None) -> None:
        """Record one tick's value.

        `at` is in seconds since the Unix epoch. A missing value is None or NaN.

        Raises ValueError for a value that is infinite or negative: an adapter's fault that must not become a forecast.
        """
        value = _checked(value)
        position = self.series.fine_index(at)
        newest = self.series.fine.last
        if newest is not None:
            if position < newest:
                return
            if position > newest:
                self._close_bin(newest)
        self._latest = None
        coarse = self.series.coarse.last
        self.series.note(at, value)
        if not math.isnan(value):
            self._noted += 1
            share = max(1.0 / self._noted, 1.0 - 0.5 ** (self.series.step_s / TYPICAL_S))
            self._typical += share * (value - self._typical)
        if self.series.coarse.last != coarse:
            self._season_typical = self._typical
        self._prepare()

    def _prepare(self) -> None:
        """Compute the quantiles that were read of the last value for the newest one."""
        requests, self._requests = self._requests, {}
        self._prepared = {t: (request, self._computed(t, *request)) for t, request in requests.items()}

    def seed(self, at: Iterable[float], values: Iterable[float | None], learn_s: float = LEARN_S) -> None:
        """Add a history, oldest first, as if its values had been recorded.

        It comes from a journal or from Prometheus. Its last `learn_s` seconds are recorded tick by tick and learned
        from. Older values give the seasons only, at a thousandth of the cost; with a `learn_s` of 0, all values do. A
        shorter history, or one that follows recorded values, gives the same forecast as recorded ticks. Raises
        ValueError as `note` does.
        """
        checked = np.array([_checked(value) for value in values])
        times = np.fromiter(at, float)
        first_learned = 0
        if times.size and self.series.fine.last is None:
            learned_from = self.series.coarse_start(times[-1] - learn_s) if learn_s > 0.0 else math.inf
            first_learned = int(np.searchsorted(times, learned_from))
            self._seed_seasons(times[:first_learned], checked[:first_learned])
        for t, value in zip(times[first_learned:].tolist(), checked[first_learned:].tolist(), strict=True):
            self.note(t, value)

    def _seed_seasons(self, at: NDArray[np.float64], values: NDArray[np.float64]) -> None:
        self.series.seed(at, values)
        known = values[~np.isnan(values)]
        if known.size:
            self._noted, self._typical = known.size, float(known.mean())
            self._season_typical = self._typical

    def shift(self, step_s: float) -> None:
        """Move all times by `step_s`, as the wall clock moved, so that ages stay the same."""
        self._latest = None
        self._prepared.clear()
        self.series.shift(step_s)

    def peak(self, horizon_s: float, q: float) -> Forecast:
        """Return the `q` quantile of the largest value in (now, now + horizon_s].

        The forecast names its leader and the reason.
        """
        value = float(self._quantiles(PEAK, horizon_s, q)[0, 0])
        i = int(np.argmin(np.abs(self._horizons_s - horizon_s)))
        level = min(int(np.searchsorted(LEVELS, q)), len(LEVELS) - 1)
        candidate = int(self._leader(PEAK)[i, level])
        evidence = self._backtest.evidence(i, PEAK, candidate)
        confidence = min(1.0, (1.0 - q) * (evidence + 1.0)) if evidence else 0.0
        return Forecast(
            value,
            float(self._current_forecasts().means[PEAK, candidate, i]),
            CANDIDATES[candidate],
            confidence,
            self._reason(i, candidate, level),
        )

    def peaks(self, horizon_s: float, qs: ArrayLike) -> NDArray[np.float64]:
        """Return quantiles `qs` of the largest value in (now, now + horizon_s].

        They are NaN before the first value.
        """
        quantiles: NDArray[np.float64] = self._quantiles(PEAK, horizon_s, qs)[0]
        return quantiles

    def at(self, horizons_s: ArrayLike, qs: ArrayLike) -> NDArray[np.float64]:
        """Return quantiles of the value at each horizon (seconds from now).

        The shape is (horizons, quantiles).
        """
        return self._quantiles(POINT, horizons_s, qs)

    def _close_bin(self, bin_index: int) -> None:
        """Close the newest bin: retain the forecasts made from it, then learn from its value.

        This order retains the forecasts that were returned before the bin closed.
        """
        fine = self.series.fine
        if not math.isnan(fine.newest()):
            forecasts = self._current_forecasts()
            self._candidates.retain(*self._backtest.retain(bin_index, forecasts.means), forecasts)
        due, slot = self._backtest.take_due(bin_index)
        if due.size:
            actual = fine.actual(self._backtest.horizons[due])
            self._backtest.score(due, slot, actual, self._typical)
            self._candidates.learn(due, slot, actual)

    def _current_forecasts(self) -> CandidateForecasts:
        """Return the candidates' forecasts from the newest bin, computed once per value."""
        if self._latest is None:
            self._leaders.clear()
            self._latest = self._candidates.means(self._typical, self._season_typical)
        return self._latest

    def _quantiles(self, target: int, ahead_s: ArrayLike, qs: ArrayLike) -> NDArray[np.float64]:
        """Return quantiles of the leaders' forecasts, of shape (horizons, qs)."""
        request = _floats(ahead_s), _floats(qs)
        prepared = self._prepared.get(target)
        if prepared is None or prepared[0] != request:
            prepared = self._prepared[target] = request, self._computed(target, *request)
        self._requests[target] = request
        return prepared[1].copy()

    def _computed(self, target: int, ahead_s: tuple[float, ...], qs: tuple[float, ...]) -> NDArray[np.float64]:
        """Compute quantiles of the leaders' forecasts, of shape (horizons, qs).

        They are interpolated linearly between the scored horizons. Beyond the last scored horizon the spread grows with
        the root of time, as that of a random walk.

        Example: at 450 s, halfway between 300 and 600 s, quantiles of 4.0 and 5.0 give 4.5. At 3,600 s, twice the last
        scored horizon, the distance from the median forecast is 1.41 times that at 1,800 s.
        """
        requested, horizon = _requested(qs), _horizon_index(self._scored_s, ahead_s)
        means = self._current_forecasts().means[target, :, : horizon.needed]
        leader = self._leader(target)[: horizon.needed]
        center = means[leader[:, 0], np.arange(horizon.needed)]
        values = self._leader_quantiles(target, means, leader[:, requested.leader_level], requested.levels)
        is_peak = target == PEAK
        values = np.maximum.accumulate(values) if is_peak else _never_narrowing(values, center, requested.levels)
        values = np.maximum(values, 0.0)
        between = horizon.lower_weight * values[horizon.lower] + horizon.upper_weight * values[horizon.upper]
        quantiles: NDArray[np.float64] = between[:, requested.position]
        if horizon.spread_factor is not None:
            anchor = (
                horizon.lower_weight * center[horizon.lower, None] + horizon.upper_weight * center[horizon.upper, None]
            )
            quantiles = np.maximum(anchor + horizon.spread_factor * (quantiles - anchor), 0.0)
        return quantiles

    def _leader(self, target: int) -> NDArray[np.int64]:
        """Return the candidate to use at each scored horizon and level.

        Without a recent value it is the reactive one.
        """
        forecasts = self._current_forecasts().means[target]
        if target not in self._leaders:
            self._leaders[target] = self._backtest.selection.leaders(target, ~np.isnan(forecasts + forecasts[REACTIVE]))
        return self._leaders[target]

    def _leader_quantiles(
        self, target: int, means: NDArray[np.float64], leader: NDArray[np.int64], levels: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the leader's quantile at each scored horizon and level.

        The shape is (horizons, levels). The quantiles rise with the level.
        """
        h = len(leader)
        pair = leader + len(CANDIDATES) * np.arange(h)[:, None]
        requested = np.zeros(h * len(CANDIDATES), np.bool_)
        requested[pair] = True
        horizon, candidate = np.divmod(requested.nonzero()[0], len(CANDIDATES))
        offsets = self._backtest.offsets(horizon, target, candidate, levels)
        mean = means[candidate, horizon]
        forecasts = mean[:, None] + offsets * scale(mean, self._typical)[:, None]
        position = (requested.cumsum() - 1)[pair]
        values: NDArray[np.float64] = np.maximum.accumulate(forecasts[position, np.arange(len(levels))], axis=1)
        return values

    def _reason(self, i: int, candidate: int, level: int) -> str:
        over = f"over {self._horizons_s[i] / 60.0:g} min"
        if self._noted == 0:
            return "reactive: no demand was observed yet"
        if math.isnan(self._current_forecasts().means[PEAK, REACTIVE, i]):
            return "reactive: no demand was observed recently"
        ratio = self._backtest.selection.ratio(np.array([i]))[0, PEAK, :, level]
        if candidate != REACTIVE:
            less = f"pinball loss {1.0 - ratio[candidate]:.0%} lower than that of the last value"
            return f"{CANDIDATES[candidate]}: {less} at quantile {LEVELS[level]:g} {over}"
        if np.isinf(ratio[1:]).all():
            return f"reactive: too few past forecasts {over} to select another forecaster"
        return f"reactive: no forecaster beats the last value at quantile {LEVELS[level]:g} {over}"


@dataclass(frozen=True, slots=True)
class RequestedQuantiles:
    """The requested quantiles and the scored levels, in one rising list.

    `position` is the position of each request in the list. A level between two scored ones uses the leader of the
    higher one, whose index is `leader_level`.
    """

    levels: NDArray[np.float64]
    position: NDArray[np.int64]
    leader_level: NDArray[np.int64]


@lru_cache(maxsize=256)
def _requested(qs: tuple[float, ...]) -> RequestedQuantiles:
    if not all(0.0 < q < 1.0 for q in qs):
        raise ValueError(f"quantiles must be between 0 and 1, not {qs}")
    levels, position = np.unique((*LEVELS.tolist(), *qs), return_inverse=True)
    return RequestedQuantiles(levels, position[len(LEVELS) :], np.minimum(LEVELS.searchsorted(levels), len(LEVELS) - 1))


@dataclass(frozen=True, slots=True)
class HorizonIndex:
    """The requested horizons among the scored ones, of which the first `needed` are read.

    Each lies between `lower` and `upper`, with weights (n, 1) of both. Beyond the last scored horizon, the spread is
    `spread_factor` (n, 1) times as wide; None if no horizon lies there.
    """

    needed: int
    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    lower_weight: NDArray[np.float64]
    upper_weight: NDArray[np.float64]
    spread_factor: NDArray[np.float64] | None


@lru_cache(maxsize=1024)
def _horizon_index(scored_s: tuple[float, ...], ahead_s: tuple[float, ...]) -> HorizonIndex:
    if not all(0.0 < h < math.inf for h in ahead_s):
        raise ValueError(f"horizons must be finite and above 0 s, not {ahead_s}")
    scored, ahead = np.array(scored_s), np.array(ahead_s)
    upper = np.minimum(scored.searchsorted(ahead), len(scored) - 1)
    lower = np.maximum(upper - 1, 0)
    gap_s = np.where(upper > lower, scored[upper] - scored[lower], 1.0)
    upper_weight = np.where(upper > lower, np.minimum((ahead - scored[lower]) / gap_s, 1.0), 1.0)[:, None]
    spread_factor = np.sqrt(np.maximum(ahead / scored[-1], 1.0))[:, None] if ahead.max() > scored[-1] else None
    return HorizonIndex(int(upper.max()) + 1, lower, upper, 1.0 - upper_weight, upper_weight, spread_factor)


def _floats(values: ArrayLike) -> tuple[float, ...]:
    if isinstance(values, float):
        return (values,)
    if isinstance(values, tuple):
        return values
    return tuple(np.atleast_1d(np.asarray(values, float)).tolist())


def _never_narrowing(
    values: NDArray[np.float64], center: NDArray[np.float64], levels: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the quantiles with a spread that never shrinks with the horizon.

    The shape is (horizons, levels). The spread is the distance from the center.
    """
    distance = values - center[:, None]
    distance = np.where(levels > 0.5, np.maximum.accumulate(distance), distance)
    return center[:, None] + np.where(levels < 0.5, np.minimum.accumulate(distance), distance)


def _checked(value: float | None) -> float:
    if value is None or math.isnan(value):
        return math.nan
    if value < 0.0 or math.isinf(value):
        raise ValueError(f"a demand must be finite and not negative, not {value!r}: reject it at the source")
    return float(value)
