"""A bounded, evenly spaced record of one measured value.

It is fine for the last hours and coarse for the last two weeks. A bin holds the mean of its values, and NaN without a
value: missing is not zero. A value before the newest bin is dropped.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

DAY_S: Final = 86_400.0
COARSE_STEP_S: Final = 300.0
"""Length of a coarse bin: fine enough for the shape of a day. 15 days are 4,320 bins of 4 bytes, 17 kB. Seconds."""
COARSE_SPAN_S: Final = 15 * DAY_S
"""Two whole weeks before every moment of the last day, for a weekly season. Seconds."""
FINE_SPAN_S: Final = 4 * 3600.0
MIN_FINE_BINS: Final = 256
MAX_FINE_BINS: Final = 2048
"""Bounds of the number of fine bins: 960 for four hours at 15 s. Windows fit in 256, and 2,048 bound the memory."""
MIN_KNOWN_SHARE: Final = 0.75
"""Share of a span that must be known for its largest value to be known."""


class Ring:
    """The last `size` bins, addressed by their number since the start of the series.

    `last` is the newest.
    """

    __slots__ = ("_count", "_values", "last", "size")

    def __init__(self, size: int, dtype: type[np.floating[Any]] = np.float64) -> None:
        self.size = size
        self.last: int | None = None
        self._values: NDArray[np.floating[Any]] = np.full(size, np.nan, dtype)
        self._count = 0

    def put(self, index: int, value: float) -> None:
        """Add `value` (NaN for none) to bin `index`: 2 and 4 are a mean of 3. Skipped bins are gaps.

        A value for an older bin is dropped.
        """
        if self.last is None or index - self.last >= self.size:
            self._values[:] = np.nan
        elif index == self.last + 1:
            self._values[index % self.size] = np.nan
        elif index > self.last:
            self._values[np.arange(self.last + 1, index + 1) % self.size] = np.nan
        elif index < self.last:
            return
        if index != self.last:
            self.last, self._count = index, 0
        if not math.isnan(value):
            self._count += 1
            i = index % self.size
            mean_before = float(self._values[i]) if self._count > 1 else 0.0
            self._values[i] = mean_before + (value - mean_before) / self._count

    def newest(self) -> float:
        """Return the newest bin; NaN while it has no value."""
        return math.nan if self.last is None else float(self._values[self.last % self.size])

    def window(self, size: int) -> NDArray[np.float64]:
        """Return a copy of the newest `size` bins (or all of them), oldest first."""
        size = min(size, self.size)
        if self.last is None:
            return np.full(size, np.nan)
        end = self.last % self.size + 1
        if end >= size:
            return self._values[end - size : end].astype(float)
        return np.concatenate((self._values[end - size :], self._values[:end]), dtype=float)

    def mean(self) -> float:
        """Return the mean of all bins; NaN without a value."""
        known = self._values[~np.isnan(self._values)]
        return float(known.sum(dtype=float)) / known.size if known.size else math.nan

    def actual(self, spans: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the newest value and the largest value of the newest bins.

        The shape is (spans, 2), for spans of bins. The newest value is NaN if it is unknown. The largest value is
        NaN if more than a quarter of the span is unknown.

        Example: the newest bins are 1, 4, 2. A span of 1 gives (2, 2), a span of 3 gives (2, 4).
        """
        backwards = self.window(int(spans.max()))[::-1]
        last = spans - 1
        actual = np.empty((len(spans), 2))
        actual[:, 0] = backwards[0]
        actual[:, 1] = np.fmax.accumulate(backwards)[last]
        missing = np.isnan(backwards)
        if missing.any():
            actual[missing.cumsum()[last] > (1.0 - MIN_KNOWN_SHARE) * spans, 1] = np.nan
        return actual

    def at(self, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the bins at `indices`.

        A gap, a bin that is too old, and a bin in the future are NaN.
        """
        if self.last is None:
            return np.full(indices.shape, np.nan)
        known = (indices <= self.last) & (indices > self.last - self.size)
        return np.where(known, self._values[indices % self.size], np.nan)


class DemandSeries:
    """The record of one value, in fine and coarse bins.

    `fine` has a bin per tick. `coarse` has one per five minutes, or per tick if ticks are longer. `step_s` is the time
    between ticks in seconds. The first value lies in the middle of its fine bin, so that ticks that are a little early
    or late fall into separate bins. Coarse bins divide a day evenly: bin `i` has the time of day `i % per_day`, of 288
    at five minutes.
    """

    __slots__ = ("_fine_start_s", "_shift_s", "coarse", "coarse_step_s", "fine", "per_day", "step_s")

    def __init__(self, step_s: float) -> None:
        if not 0.0 < step_s <= DAY_S:
            raise ValueError(f"the step of a series must be above 0 s and at most one day, not {step_s!r} s")
        self.step_s = step_s
        self.per_day = int(DAY_S // max(COARSE_STEP_S, step_s))
        self.coarse_step_s = DAY_S / self.per_day
        self.fine = Ring(min(MAX_FINE_BINS, max(MIN_FINE_BINS, math.ceil(FINE_SPAN_S / step_s))))
        self.coarse = Ring(math.ceil(COARSE_SPAN_S / self.coarse_step_s), np.float32)
        self._fine_start_s = 0.0
        self._shift_s = 0.0

    def fine_index(self, at: float) -> int:
        """Return the fine bin of a time (seconds since the Unix epoch)."""
        if self.fine.last is None:
            self._fine_start_s = at - self.step_s / 2
        return math.floor((at - self._fine_start_s) / self.step_s)

    def note(self, at: float, value: float) -> None:
        """Add `value` (NaN if missing) at a time."""
        self.fine.put(self.fine_index(at), value)
        self.coarse.put(self._coarse_index(at), value)

    def seed(self, at: NDArray[np.float64], values: NDArray[np.float64]) -> None:
        """Add a history, oldest first, to the coarse record only."""
        indices = np.floor((at - self._shift_s) / self.coarse_step_s).astype(np.int64)
        known = ~np.isnan(values)
        bins, inverse = np.unique(indices[known], return_inverse=True)
        means = np.bincount(inverse, values[known]) / np.bincount(inverse)
        for index, mean in zip(bins[-self.coarse.size :].tolist(), means[-self.coarse.size :].tolist(), strict=True):
            self.coarse.put(index, mean)

    def coarse_start(self, at: float) -> float:
        """Return the start of the coarse bin of a time."""
        return self._coarse_index(at) * self.coarse_step_s + self._shift_s

    def _coarse_index(self, at: float) -> int:
        return math.floor((at - self._shift_s) / self.coarse_step_s)

    def shift(self, step_s: float) -> None:
        """Move all times by `step_s`, as the wall clock moved, so that ages stay the same."""
        self._fine_start_s += step_s
        self._shift_s += step_s

    def coarse_indices(self, ahead_s: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the coarse bins that lie `ahead_s` seconds after the middle of the newest fine bin."""
        now = self._fine_start_s + ((self.fine.last or 0) + 0.5) * self.step_s
        return np.floor((now + ahead_s - self._shift_s) / self.coarse_step_s).astype(np.int64)
