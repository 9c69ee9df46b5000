"""Rows as a file has them to a trace: every rule checked, every repair counted, no bad row let through in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from scaler.config.problems import value_text
from simulators.world.traffic.trace import (
    LEAST,
    MAX_ARRIVAL_S,
    MAX_TOKENS,
    Floats,
    Ints,
    RequestTrace,
    TraceError,
    ordered,
)

MAX_TOLD: Final = 5
"""Bad rows told one by one; the rest are counted."""
GROWTH: Final = 1.25
DROPPED: Final = "bad rows left out"


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows, unchecked. NaN stands where a cell is empty or no number.

    `arrival_s` counts from the trace's start, or from any moment where the file's clock tells the time of day.
    `raw` has the cells as they stand, by field, to be shown; `place` tells a row's line.
    """

    arrival_s: Floats
    tokens: Mapping[str, Floats]
    client: Ints | None
    raw: Mapping[str, Sequence[Any]]
    place: Callable[[int], str]


class Cleaner:
    """Takes rows in, batch by batch, and gives the trace they make."""

    def __init__(self, file: str, columns: Mapping[str, str], *, skip_bad: bool) -> None:
        """`columns` names the file's column for each field, for errors."""
        self.repairs: Counter[str] = Counter()
        self.time_of_day = False
        self._file = file
        self._columns = columns
        self._skip_bad = skip_bad
        self._arrival = _Column(np.float64)
        self._whole: dict[str, _Column] = {}
        self._problems: list[str] = []
        self._bad = 0
        self._latest = -np.inf
        self._late = 0

    def add(self, rows: Rows) -> None:
        good = np.ones(len(rows.arrival_s), bool)
        for field, rule, broken in self._broken(rows):
            for i in np.flatnonzero(broken & good)[: MAX_TOLD - len(self._problems)]:
                self.tell(rows.place(int(i)), field, rows.raw[field][int(i)], rule)
            good &= ~broken
        self._bad += int(len(good) - good.sum())
        self._append(rows.arrival_s[good])
        for field, values in rows.tokens.items():
            self._whole.setdefault(field, _Column(np.int32)).extend(values[good])
        if rows.client is not None:
            self._whole.setdefault("client", _Column(np.int32)).extend(rows.client[good])

    def _append(self, arrival_s: Floats) -> None:
        """Keep arrivals, and count those that come after a later one."""
        latest = np.maximum.accumulate(np.append(self._latest, arrival_s))
        self._late += int((arrival_s < latest[1:]).sum())
        self._latest = float(latest[-1])
        self._arrival.extend(arrival_s)

    def bad_row(self, place: str, rule: str, text: str, lines: int = 1) -> None:
        """Count a row, or some lines that may be rows, that could not be taken apart."""
        self._bad += lines
        if len(self._problems) < MAX_TOLD:
            self._problems.append(f"{self._file}, {place}: {value_text(text)}: {rule}")

    def tell(self, place: str, field: str, value: Any, rule: str) -> None:
        self._problems.append(f"{self._file}, {place}, column {self._columns[field]!r} = {value_text(value)}: {rule}")

    def _broken(self, rows: Rows) -> Iterator[tuple[str, str, npt.NDArray[np.bool_]]]:
        """Each rule with the rows that break it."""
        arrival = rows.arrival_s
        yield "arrival_s", "must be a finite time", ~np.isfinite(arrival)
        if not self.time_of_day:
            yield "arrival_s", "must be 0 or later", arrival < 0
        yield "arrival_s", f"must lie within {MAX_ARRIVAL_S:g} s of the trace's start", np.abs(arrival) > MAX_ARRIVAL_S
        for field, values in rows.tokens.items():
            yield field, "must be a number", ~np.isfinite(values)
            yield field, "must be a whole number", values != np.floor(values)
            yield field, f"must be at least {LEAST[field]}", values < LEAST[field]
            yield field, f"must be at most {MAX_TOKENS}", values > MAX_TOKENS
        if "cached_tokens" in rows.tokens:
            over = rows.tokens["cached_tokens"] >= rows.tokens["prompt_tokens"]
            yield "cached_tokens", "must be below the prompt's tokens", over

    def trace(self, name: str, origin: str) -> RequestTrace:
        """Return the trace of all rows. Raises `TraceError` for bad rows that are not to be skipped, or without any."""
        if self._bad and not self._skip_bad:
            more = f"\n... and {self._bad - len(self._problems)} more" if self._bad > len(self._problems) else ""
            raise TraceError("\n".join(self._problems) + more + "\n(--skip-bad leaves such rows out, and counts them)")
        arrival = self._arrival.taken()
        if not len(arrival):
            left = f": all {self._bad} rows are bad, as in: {self._problems[0]}" if self._bad else ""
            raise TraceError(f"{self._file}: has no request{left}")
        self.repairs[DROPPED] += self._bad
        self.repairs["rows out of order, sorted"] += self._late
        if self.time_of_day:
            arrival -= arrival.min()
        columns = {field: column.taken() for field, column in self._whole.items()}
        return ordered(columns, arrival, name, origin, self.repairs)


class _Column:
    """An array that grows in place: a list of pieces, joined at the end, would take twice the memory."""

    def __init__(self, dtype: type[np.generic]) -> None:
        self._values: npt.NDArray[Any] = np.empty(0, dtype)
        self._size = 0

    def extend(self, values: npt.NDArray[Any]) -> None:
        end = self._size + len(values)
        if end > len(self._values):
            self._values.resize(max(end, int(len(self._values) * GROWTH)), refcheck=False)  # no view of it is out
        self._values[self._size : end] = values
        self._size = end

    def taken(self) -> Any:
        """Return the values, once no more follow."""
        self._values.resize(self._size, refcheck=False)
        return self._values
