"""What demand may come to: quantiles of the largest value before a horizon, and of the value at one.

A `QuantileForecast` belongs to one workload. Everything it says follows from what was noted, in the order in which it
was noted: the same observations give the same answer, bit for bit. Asking changes nothing.
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

HORIZONS_S: Final = (30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0)
"""Horizons that are scored: the start-up times of a slept engine up to those of a new node with a large model."""
LEARN_S: Final = 4 * 3600.0
"""Of a past taken over, so much is learnt from by default: half a second's work at turns of 15 s."""
TYPICAL_S: Final = 86_400.0
"""The long-run mean forgets half in a day."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """A quantile of what may come.

    `value` is the quantile and `mean` what the leader takes for most likely, both in the unit of what was noted;
    `leader` is the candidate that leads, `sure` (0 to 1) how much of the claim is covered by residuals seen: 1 where
    the quantile lies among them, less where it is the tail's extrapolation. NaN values before the first observation.
    """

    value: float
    mean: float
    leader: str
    sure: float
    reason: str


class QuantileForecast:
    """Watches one measured value, noted every `step_s` seconds or so, and says what it may come to."""

    def __init__(self, step_s: float) -> None:
        self.series = DemandSeries(step_s)
        horizons = np.unique([math.ceil(h / step_s - 1e-9) for h in HORIZONS_S])
        self._horizons_s = horizons * step_s
        self._scored_s = tuple(self._horizons_s.tolist())
        self._backtest = Backtest(len(CANDIDATES), horizons, step_s)
        self._candidates = Candidates(self.series, self._horizons_s, self._backtest.stride * step_s)
        self._said: CandidateForecasts | None = None
        self._leads: dict[int, NDArray[np.int64]] = {}
        self._typical = self._for_seasons = 0.0
        self._noted = 0

    def note(self, at: float, value: float | None) -> None:
        """Record one tick's value at a time in seconds since the Unix epoch; None or NaN where it is missing.

        Raises ValueError for a value that is infinite or negative: an adapter's fault that must not become a forecast.
        """
        value = _checked(value)
        place = self.series.place(at)
        newest = self.series.fine.last
        if newest is not None:
            if place < newest:
                return
            if place > newest:
                self._close(newest)
        self._said = None
        coarse = self.series.coarse.last
        self.series.note(at, value)
        if not math.isnan(value):
            self._noted += 1
            share = max(1.0 / self._noted, 1.0 - 0.5 ** (self.series.step_s / TYPICAL_S))
            self._typical += share * (value - self._typical)
        if self.series.coarse.last != coarse:
            self._for_seasons = self._typical

    def seed(self, at: Iterable[float], values: Iterable[float | None], learn_s: float = LEARN_S) -> None:
        """Take over a past (from a journal, from Prometheus), oldest first, as if it had been noted.

        Its last `learn_s` seconds are noted turn by turn, to learn from; what is older gives the seasons alone, at a
        thousandth of the cost. So a past no longer than that, or one that follows on observations, is as good as
        observed; with a `learn_s` of 0 all of it gives the seasons alone. Raises ValueError as `note` does.
        """
        checked = np.array([_checked(value) for value in values])
        times = np.fromiter(at, float)
        old = 0
        if times.size and self.series.fine.last is None:
            learnt_from = self.series.coarse_start(times[-1] - learn_s) if learn_s > 0.0 else math.inf
            old = int(np.searchsorted(times, learnt_from))
            self._seed_seasons(times[:old], checked[:old])
        for t, value in zip(times[old:].tolist(), checked[old:].tolist(), strict=True):
            self.note(t, value)

    def _seed_seasons(self, at: NDArray[np.float64], values: NDArray[np.float64]) -> None:
        self.series.seed(at, values)
        known = values[~np.isnan(values)]
        if known.size:
            self._noted, self._typical = known.size, float(known.mean())
            self._for_seasons = self._typical

    def shift(self, step_s: float) -> None:
        """Move the whole past by `step_s`: after the wall clock jumped, ages stay what they were."""
        self._said = None
        self.series.shift(step_s)

    def peak(self, horizon_s: float, q: float) -> Forecast:
        """Return the `q` quantile of the largest value in (now, now + horizon_s]."""
        value = float(self._quantiles(PEAK, horizon_s, q)[0, 0])
        i = int(np.argmin(np.abs(self._horizons_s - horizon_s)))
        level = min(int(np.searchsorted(LEVELS, q)), len(LEVELS) - 1)
        row = int(self._leader(PEAK)[i, level])
        evidence = self._backtest.evidence(i, PEAK, row)
        sure = min(1.0, (1.0 - q) * (evidence + 1.0)) if evidence else 0.0
        return Forecast(
            value, float(self._look().means[PEAK, row, i]), CANDIDATES[row], sure, self._reason(i, row, level)
        )

    def peaks(self, horizon_s: float, qs: ArrayLike) -> NDArray[np.float64]:
        """Quantiles of the largest value in (now, now + horizon_s], one for each of `qs`; NaN before the first."""
        found: NDArray[np.float64] = self._quantiles(PEAK, horizon_s, qs)[0]
        return found

    def at(self, horizons_s: ArrayLike, qs: ArrayLike) -> NDArray[np.float64]:
        """Quantiles of the value at each of the horizons (seconds from now), shape (horizons, quantiles)."""
        return self._quantiles(POINT, horizons_s, qs)

    def _close(self, place: int) -> None:
        """Close the newest bin: retain the forecasts made from it, then learn from its values.

        In this order, so that what is scored is what an answer in between has said.
        """
        fine = self.series.fine
        if not math.isnan(fine.newest()):
            said = self._look()
            self._candidates.keep(*self._backtest.promise(place, said.means), said)
        due, slot = self._backtest.mature(place)
        if due.size:
            came = fine.came(self._backtest.horizons[due])
            self._backtest.settle(due, slot, came, self._typical)
            self._candidates.learn(due, slot, came)

    def _look(self) -> CandidateForecasts:
        """Return what the candidates say of the newest bin on, worked out once."""
        if self._said is None:
            self._leads.clear()
            self._said = self._candidates.means(self._typical, self._for_seasons)
        return self._said

    def _quantiles(self, target: int, ahead_s: ArrayLike, at: ArrayLike) -> NDArray[np.float64]:
        """Quantiles (horizons, qs): the leaders' at the scored horizons around, in between on a straight line.

        Beyond the last scored horizon the spread grows with the root of time, as a random walk's.
        """
        asked, where = _requested(_floats(at)), _horizon_index(self._scored_s, _floats(ahead_s))
        means = self._look().means[target, :, : where.grid]
        leader = self._leader(target)[: where.grid]
        middle = means[leader[:, 0], np.arange(where.grid)]
        values = self._leaders_say(target, means, leader[:, asked.ruling], asked.levels)
        values = np.maximum.accumulate(values) if target == PEAK else _never_narrower(values, middle, asked.levels)
        values = np.maximum(values, 0.0)
        found = (where.nearer * values[where.lower] + where.further * values[where.upper])[:, asked.place]
        if where.beyond is not None:
            anchor = where.nearer * middle[where.lower, None] + where.further * middle[where.upper, None]
            found = np.maximum(anchor + where.beyond * (found - anchor), 0.0)
        answer: NDArray[np.float64] = found
        return answer

    def _leader(self, target: int) -> NDArray[np.int64]:
        """Return who speaks at each scored horizon and level.

        Nobody but the reactive one, while nothing was seen lately.
        """
        said = self._look().means[target]
        if target not in self._leads:
            self._leads[target] = self._backtest.selection.ruling(target, ~np.isnan(said + said[REACTIVE]))
        return self._leads[target]

    def _leaders_say(
        self, target: int, means: NDArray[np.float64], leader: NDArray[np.int64], levels: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """At each scored horizon and level, the quantile of the candidate that leads there: (horizons, levels).

        No quantile lies below a lower level's.
        """
        h = len(leader)
        pair = leader + len(CANDIDATES) * np.arange(h)[:, None]
        asked = np.zeros(h * len(CANDIDATES), np.bool_)
        asked[pair] = True
        horizon, row = np.divmod(asked.nonzero()[0], len(CANDIDATES))
        offsets = self._backtest.offsets(horizon, target, row, levels)
        mean = means[row, horizon]
        said = mean[:, None] + offsets * scale(mean, self._typical)[:, None]
        place = (asked.cumsum() - 1)[pair]
        values: NDArray[np.float64] = np.maximum.accumulate(said[place, np.arange(len(levels))], axis=1)
        return values

    def _reason(self, i: int, row: int, level: int) -> str:
        over = f"over {self._horizons_s[i] / 60.0:g} min"
        if self._noted == 0:
            return "reactive: nothing was seen yet"
        if math.isnan(self._look().means[PEAK, REACTIVE, i]):
            return "reactive: nothing was seen lately"
        ratio = self._backtest.selection.ratio(np.array([i]))[0, PEAK, :, level]
        if row != REACTIVE:
            return (
                f"{CANDIDATES[row]}: lost {1.0 - ratio[row]:.0%} less than the last value at {LEVELS[level]:g} {over}"
            )
        if np.isinf(ratio[1:]).all():
            return f"reactive: too little was seen {over} to trust another"
        return f"reactive: none does better than the last value at {LEVELS[level]:g} {over}"


@dataclass(frozen=True, slots=True)
class RequestedQuantiles:
    """Quantiles asked for: with those that are scored in one rising list, and the `place` in it of each one asked.

    A level between two that are scored goes by the higher one's leader: `ruling` is its index.
    """

    levels: NDArray[np.float64]
    place: NDArray[np.int64]
    ruling: NDArray[np.int64]


@lru_cache(maxsize=256)
def _requested(qs: tuple[float, ...]) -> RequestedQuantiles:
    if not all(0.0 < q < 1.0 for q in qs):
        raise ValueError(f"a quantile lies between 0 and 1, not at {qs}")
    levels, place = np.unique((*LEVELS.tolist(), *qs), return_inverse=True)
    return RequestedQuantiles(levels, place[len(LEVELS) :], np.minimum(LEVELS.searchsorted(levels), len(LEVELS) - 1))


@dataclass(frozen=True, slots=True)
class HorizonIndex:
    """Horizons asked for among the scored ones, of which the first `grid` are needed.

    Each lies between `lower` and `upper`, by shares (n, 1) of what is said at either. Beyond the last scored one the
    spread is `beyond` (n, 1) times as wide; None if none lies there.
    """

    grid: int
    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    nearer: NDArray[np.float64]
    further: NDArray[np.float64]
    beyond: NDArray[np.float64] | None


@lru_cache(maxsize=1024)
def _horizon_index(scored_s: tuple[float, ...], ahead_s: tuple[float, ...]) -> HorizonIndex:
    if not all(0.0 < h < math.inf for h in ahead_s):
        raise ValueError(f"a horizon lies ahead by a finite number of seconds, not at {ahead_s}")
    scored, ahead = np.array(scored_s), np.array(ahead_s)
    upper = np.minimum(scored.searchsorted(ahead), len(scored) - 1)
    lower = np.maximum(upper - 1, 0)
    gap_s = np.where(upper > lower, scored[upper] - scored[lower], 1.0)
    further = np.where(upper > lower, np.minimum((ahead - scored[lower]) / gap_s, 1.0), 1.0)[:, None]
    beyond = np.sqrt(np.maximum(ahead / scored[-1], 1.0))[:, None] if ahead.max() > scored[-1] else None
    return HorizonIndex(int(upper.max()) + 1, lower, upper, 1.0 - further, further, beyond)


def _floats(values: ArrayLike) -> tuple[float, ...]:
    if isinstance(values, float):
        return (values,)
    return tuple(np.atleast_1d(np.asarray(values, float)).tolist())


def _never_narrower(
    values: NDArray[np.float64], middle: NDArray[np.float64], levels: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Quantiles (horizons, levels) whose distance from the middle never shrinks with the horizon."""
    apart = values - middle[:, None]
    apart = np.where(levels > 0.5, np.maximum.accumulate(apart), apart)
    return middle[:, None] + np.where(levels < 0.5, np.minimum.accumulate(apart), apart)


def _checked(value: float | None) -> float:
    if value is None or math.isnan(value):
        return math.nan
    if value < 0.0 or math.isinf(value):
        raise ValueError(
            f"a measured demand is finite and not negative, but {value!r} was noted: refuse it at the source"
        )
    return float(value)
