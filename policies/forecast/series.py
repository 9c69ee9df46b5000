"""A bounded, evenly spaced record of one measured value: fine for the last hours, coarse for the last two weeks.

Values are means of what was noted in a bin; a bin in which nothing was noted is NaN: missing is never zero. Time never
runs back: what is noted before the newest bin is dropped.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

DAY_S: Final = 86_400.0
COARSE_STEP_S: Final = 300.0
"""Fine enough for the shape of a day, coarse enough that two weeks of it are 17 kB, at seven digits."""
COARSE_SPAN_S: Final = 15 * DAY_S
"""Two whole weeks behind every moment of the last day: what a weekly season is learnt from."""
FINE_SPAN_S: Final = 4 * 3600.0
LEAST_FINE: Final = 256
MOST_FINE: Final = 2048
"""Fine bins kept: four hours, and never so few that no window fits nor so many (turns of 1 s) that memory grows."""
LEAST_SEEN: Final = 0.75
"""Share of a span that was seen, below which its largest value is not known."""


class Ring:
    """The last `size` bins of one step, addressed by their number since the epoch of the series."""

    __slots__ = ("_seen", "_values", "last", "size")

    def __init__(self, size: int, kept: type[np.floating[Any]] = np.float64) -> None:
        self.size = size
        self.last: int | None = None
        self._values: NDArray[np.floating[Any]] = np.full(size, np.nan, kept)
        self._seen = 0

    def put(self, place: int, value: float) -> None:
        """Note `value` (NaN: nothing) in bin `place`; bins that were passed over are gaps. An older bin is dropped."""
        if self.last is None or place - self.last >= self.size:
            self._values[:] = np.nan
        elif place == self.last + 1:
            self._values[place % self.size] = np.nan
        elif place > self.last:
            self._values[np.arange(self.last + 1, place + 1) % self.size] = np.nan
        elif place < self.last:
            return
        if place != self.last:
            self.last, self._seen = place, 0
        if not math.isnan(value):
            self._seen += 1
            i = place % self.size
            before = float(self._values[i]) if self._seen > 1 else 0.0
            self._values[i] = before + (value - before) / self._seen

    def newest(self) -> float:
        """Return the newest bin; NaN while nothing was seen in it."""
        return math.nan if self.last is None else float(self._values[self.last % self.size])

    def window(self, size: int) -> NDArray[np.float64]:
        """Return the newest `size` bins (as many as are kept), oldest first: a copy."""
        size = min(size, self.size)
        if self.last is None:
            return np.full(size, np.nan)
        end = self.last % self.size + 1
        if end >= size:
            return self._values[end - size : end].astype(float)
        return np.concatenate((self._values[end - size :], self._values[:end]), dtype=float)

    def mean(self) -> float:
        """Return the mean of all bins kept; NaN while nothing is."""
        known = self._values[~np.isnan(self._values)]
        return float(known.sum(dtype=float)) / known.size if known.size else math.nan

    def came(self, spans: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return what the newest bins brought, for spans of so many: the newest value and the largest of the span.

        Shape (spans, 2); NaN where the newest bin, or more than a quarter of a span, was not seen.
        """
        backwards = self.window(int(spans.max()))[::-1]
        last = spans - 1
        found = np.empty((len(spans), 2))
        found[:, 0] = backwards[0]
        found[:, 1] = np.fmax.accumulate(backwards)[last]
        missed = np.isnan(backwards)
        if missed.any():
            found[missed.cumsum()[last] > (1.0 - LEAST_SEEN) * spans, 1] = np.nan
        return found

    def at(self, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the bins at `places`; NaN for what is not, or no longer, or not yet known."""
        if self.last is None:
            return np.full(places.shape, np.nan)
        known = (places <= self.last) & (places > self.last - self.size)
        return np.where(known, self._values[places % self.size], np.nan)


class DemandSeries:
    """The record: `fine` has a bin a turn, `coarse` one in five minutes (or in a turn, where turns are longer).

    `step_s` is the time between turns in seconds. The first value noted lies in the middle of its fine bin, so that
    turns that come a little early or late still fall into bins of their own. Coarse bins divide a day evenly: bin
    `i` has the time of day `i % per_day`.
    """

    __slots__ = ("_fine_start_s", "_shift_s", "coarse", "coarse_step_s", "fine", "per_day", "step_s")

    def __init__(self, step_s: float) -> None:
        if not 0.0 < step_s <= DAY_S:
            raise ValueError(f"a series needs a step of more than 0 s and at most a day, not {step_s!r}")
        self.step_s = step_s
        self.per_day = int(DAY_S // max(COARSE_STEP_S, step_s))
        self.coarse_step_s = DAY_S / self.per_day
        self.fine = Ring(min(MOST_FINE, max(LEAST_FINE, math.ceil(FINE_SPAN_S / step_s))))
        self.coarse = Ring(math.ceil(COARSE_SPAN_S / self.coarse_step_s), np.float32)
        self._fine_start_s = 0.0
        self._shift_s = 0.0

    def place(self, at: float) -> int:
        """Return the fine bin of a time (seconds since the Unix epoch)."""
        if self.fine.last is None:
            self._fine_start_s = at - self.step_s / 2
        return math.floor((at - self._fine_start_s) / self.step_s)

    def note(self, at: float, value: float) -> None:
        """Note `value` (NaN: missed) at a time."""
        self.fine.put(self.place(at), value)
        self.coarse.put(self._coarse_place(at), value)

    def seed(self, at: NDArray[np.float64], values: NDArray[np.float64]) -> None:
        """Note a past, oldest first, in the coarse record alone: too old, or too coarse, for the fine one."""
        places = np.floor((at - self._shift_s) / self.coarse_step_s).astype(np.int64)
        known = ~np.isnan(values)
        bins, which = np.unique(places[known], return_inverse=True)
        means = np.bincount(which, values[known]) / np.bincount(which)
        for place, mean in zip(bins[-self.coarse.size :].tolist(), means[-self.coarse.size :].tolist(), strict=True):
            self.coarse.put(place, mean)

    def coarse_start(self, at: float) -> float:
        """Return the start of the coarse bin of a time."""
        return self._coarse_place(at) * self.coarse_step_s + self._shift_s

    def _coarse_place(self, at: float) -> int:
        return math.floor((at - self._shift_s) / self.coarse_step_s)

    def shift(self, step_s: float) -> None:
        """Move the whole past by `step_s`: after the wall clock jumped, ages stay what they were."""
        self._fine_start_s += step_s
        self._shift_s += step_s

    def coarse_places(self, ahead_s: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the coarse bins that lie `ahead_s` seconds after the middle of the newest fine bin."""
        now = self._fine_start_s + ((self.fine.last or 0) + 0.5) * self.step_s
        return np.floor((now + ahead_s - self._shift_s) / self.coarse_step_s).astype(np.int64)
