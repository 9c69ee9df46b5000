"""Conversion of a file's rows to a trace.

Every rule is checked, every repair counted, and every bad row reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from scaler.config.problems import value_text
from simulators.world.traffic.trace import (
    MAX_ARRIVAL_S,
    MAX_TOKENS,
    MINIMUM,
    Floats,
    Ints,
    RequestTrace,
    TraceError,
    ordered,
)

MAX_PROBLEMS: Final = 5
"""Maximum number of bad rows that are reported one by one. Further ones are counted."""
GROWTH: Final = 1.25
DROPPED: Final = "malformed rows skipped"


@dataclass(frozen=True, slots=True)
class Rows:
    """A batch of unchecked rows. NaN stands for a cell that is empty or no number.

    `arrival_s` counts from the trace's start, or from any moment if the file has times of day. `raw` has the original
    cells by field, for error messages; ``place(i)`` is the position of row i, such as "line 7".
    """

    arrival_s: Floats
    tokens: Mapping[str, Floats]
    client: Ints | None
    raw: Mapping[str, Sequence[Any]]
    place: Callable[[int], str]


class Cleaner:
    """Collects rows batch by batch, and builds their trace."""

    def __init__(self, file: str, columns: Mapping[str, str], *, skip_bad: bool) -> None:
        """`columns` names the file's column for each field, for errors."""
        self.repairs: Counter[str] = Counter()
        self.time_of_day = False
        self.remedies = ["--skip-bad skips malformed rows and counts them"]
        self._file = file
        self._columns = columns
        self._skip_bad = skip_bad
        self._arrival = _Column(np.float64)
        self._int_columns: dict[str, _Column] = {}
        self._problems: list[str] = []
        self._bad_rows = 0
        self._latest = -np.inf
        self._out_of_order = 0

    def add(self, rows: Rows) -> None:
        good = np.ones(len(rows.arrival_s), bool)
        for field, rule, broken in self._violations(rows):
            for i in np.flatnonzero(broken & good)[: MAX_PROBLEMS - len(self._problems)]:
                self.add_problem(rows.place(int(i)), field, rows.raw[field][int(i)], rule)
            good &= ~broken
        self._bad_rows += int(len(good) - good.sum())
        self._append(rows.arrival_s[good])
        for field, values in rows.tokens.items():
            self._int_columns.setdefault(field, _Column(np.int32)).extend(values[good])
        if rows.client is not None:
            self._int_columns.setdefault("client", _Column(np.int32)).extend(rows.client[good])

    def _append(self, arrival_s: Floats) -> None:
        """Append arrivals, and count those that are earlier than a previous one."""
        latest = np.maximum.accumulate(np.append(self._latest, arrival_s))
        self._out_of_order += int((arrival_s < latest[1:]).sum())
        self._latest = float(latest[-1])
        self._arrival.extend(arrival_s)

    def bad_row(self, place: str, rule: str, text: str, lines: int = 1) -> None:
        """Count a row (or lines that may be rows) that cannot be split into cells."""
        self._bad_rows += lines
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.append(f"{self._file}, {place}: {value_text(text)}: {rule}")

    def add_problem(self, place: str, field: str, value: Any, rule: str) -> None:
        self._problems.append(f"{self._file}, {place}, column {self._columns[field]!r} = {value_text(value)}: {rule}")

    def _violations(self, rows: Rows) -> Iterator[tuple[str, str, npt.NDArray[np.bool_]]]:
        """Yield each rule with the rows that break it."""
        arrival = rows.arrival_s
        yield "arrival_s", "must be a finite time", ~np.isfinite(arrival)
        if not self.time_of_day:
            yield "arrival_s", "must be 0 or later", arrival < 0
        yield "arrival_s", f"must lie within {MAX_ARRIVAL_S:g} s of the trace's start", np.abs(arrival) > MAX_ARRIVAL_S
        for field, values in rows.tokens.items():
            yield field, "must be a number", ~np.isfinite(values)
            yield field, "must be a whole number", values != np.floor(values)
            yield field, f"must be at least {MINIMUM[field]}", values < MINIMUM[field]
            yield field, f"must be at most {MAX_TOKENS}", values > MAX_TOKENS
        if "cached_tokens" in rows.tokens:
            over = rows.tokens["cached_tokens"] >= rows.tokens["prompt_tokens"]
            yield "cached_tokens", "must be below the prompt length", over

    def trace(self, name: str, origin: str) -> RequestTrace:
        """Return the trace of all rows.

        Raises `TraceError` for bad rows that are not to be skipped, or without any.
        """
        if self._bad_rows and not self._skip_bad:
            more = self._bad_rows - len(self._problems)
            omitted = f"\n... and {more} more" if more > 0 else ""
            raise TraceError("\n".join(self._problems) + omitted + f"\n({'; '.join(self.remedies)})")
        arrival = self._arrival.values()
        if not len(arrival):
            raise TraceError(f"{self._file}: has no request{self._left_out()}")
        self.repairs[DROPPED] += self._bad_rows
        self.repairs["unordered rows sorted"] += self._out_of_order
        if self.time_of_day:
            arrival -= arrival.min()
        columns = {field: column.values() for field, column in self._int_columns.items()}
        return ordered(columns, arrival, name, origin, self.repairs)

    def _left_out(self) -> str:
        """Return what became of the rows of a file without a request."""
        repairs = "".join(f"; {what}: {count:,}" for what, count in self.repairs.items() if count)
        if not self._bad_rows:
            return repairs
        example = f": all {self._bad_rows} rows are malformed, as in: {self._problems[0]}"
        return f"{example}\n({'; '.join(self.remedies[1:])})" if self.remedies[1:] else example


class _Column:
    """An array that grows in place.

    A list of pieces, joined at the end, would take twice the memory.
    """

    def __init__(self, dtype: type[np.generic]) -> None:
        self._values: npt.NDArray[Any] = np.empty(0, dtype)
        self._size = 0

    def extend(self, values: npt.NDArray[Any]) -> None:
        end = self._size + len(values)
        if end > len(self._values):
            self._values.resize(max(end, int(len(self._values) * GROWTH)), refcheck=False)  # there is no view of it
        self._values[self._size : end] = values
        self._size = end

    def values(self) -> Any:
        """Return the values. Call it once, after the last `extend`."""
        self._values.resize(self._size, refcheck=False)
        return self._values
