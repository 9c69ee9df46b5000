"""Conversion of table cells, text or typed, to numbers and times.

Other cells become NaN and are reported by line.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulators.world.traffic.formats.options import PER_SECOND, UNITS, Unit
from simulators.world.traffic.trace import MAX_ARRIVAL_S, Floats, Ints, TraceError

NS_PER_S: Final = 1e9
YEAR_2000_S: Final = 946_684_800.0
YEAR_2286_S: Final = 1e10
"""A Unix time above this is in a smaller unit than seconds."""
NAT: Final = np.iinfo(np.int64).min
MAX_EXACT_NS: Final = 9e18
"""Maximum exact difference of two dates. Dates range from 1678 to 2262, so differences can exceed 64 bits."""
MAX_NAME: Final = 80
"""Maximum length of a name in an error, in characters."""
MAX_CODE: Final = np.iinfo(np.int32).max


def floats(cells: Any) -> Floats:
    """Return numbers as floats; NaN for empty cells and other text."""
    try:
        numbers = pc.cast(cells, pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return np.array([_number(plain(cell)) for cell in cells], np.float64)
    return np.asarray(numbers.to_numpy(zero_copy_only=False), np.float64)


def plain(cell: Any) -> Any:
    """Return an Arrow cell as a Python value, or as text if Python has none.

    Python has none for a time in the year 150,000, for example.
    """
    try:
        return cell.as_py()
    except (OverflowError, ValueError):
        return f"a {cell.type} out of range"


def printable(text: str) -> str:
    """Return a name of a file as it is, or quoted and cut where it is long or not printable."""
    return text if text.isprintable() and len(text) <= MAX_NAME else repr(text[:MAX_NAME])


def _number(cell: Any) -> float:
    try:
        return float(cell) if "_" not in str(cell) else np.nan
    except (TypeError, ValueError, OverflowError):
        return np.nan


class ArrivalClock:
    """Converts arrivals to seconds.

    Times of day (text, or numbers above `MAX_ARRIVAL_S`) count from the first one. Without a unit, numbers are seconds,
    or the unit in which the first is a Unix time of the years 2000 to 2286: 1.7e12 is 2023 in milliseconds.
    """

    def __init__(self, unit: Unit | None) -> None:
        self.time_of_day = False
        self._unit = unit
        self._per_second = 1.0
        self._is_text: bool | None = None
        self._base: float | int | None = None

    def seconds(self, cells: Any) -> Floats:
        if cells.null_count == len(cells):
            return np.full(len(cells), np.nan)  # an empty batch does not determine the type
        if self._is_text is None:
            self._is_text = _has_dates(cells)
        return self._dates(cells) if self._is_text else self._numbers(floats(cells))

    def _numbers(self, numbers: Floats) -> Floats:
        if self._base is None:
            first = next((float(n) for n in numbers if np.isfinite(n)), None)
            if first is None:
                return numbers
            self._per_second = PER_SECOND[self._unit or _unit_of(first)]
            first /= self._per_second
            if first > YEAR_2286_S:
                raise TraceError(
                    f"the first arrival, {first:g} s, is after the year 2286, so the unit is probably not seconds:"
                    " set --unit ms, us or ns"
                )
            self.time_of_day = first > MAX_ARRIVAL_S
            self._base = first if self.time_of_day else 0.0
        return np.asarray(numbers / self._per_second - self._base, np.float64)

    def _dates(self, cells: Any) -> Floats:
        self.time_of_day = True
        nanoseconds = _nanoseconds(cells)
        known = nanoseconds != NAT
        if self._base is None and known.any():
            self._base = int(nanoseconds[known][0])
        return np.where(known, _since_s(nanoseconds, int(self._base or 0)), np.nan)


def _unit_of(first: float) -> Unit:
    """Return the unit in which a number is a Unix time of our days, else seconds."""
    return next((unit for unit in UNITS if YEAR_2000_S <= first / PER_SECOND[unit] <= YEAR_2286_S), "s")


def _since_s(nanoseconds: Any, base: int) -> Floats:
    """Return seconds since `base`.

    They are exact to a microsecond, or rounded if 64 bits do not hold the difference.
    """
    rounded = nanoseconds.astype(np.float64) - base
    with np.errstate(over="ignore"):
        exact = (nanoseconds - base).astype(np.float64)
    return np.asarray(np.where(np.abs(rounded) < MAX_EXACT_NS, exact, rounded) / NS_PER_S, np.float64)


def _has_dates(cells: Any) -> bool:
    """Return whether the first cell that is a date or a number is a date."""
    if pa.types.is_temporal(cells.type):
        return True
    for cell in map(plain, cells):
        if not np.isnan(_number(cell)):
            return False
        if isinstance(cell, str) and _parse_date(cell) != NAT:
            return True
    return False


def _nanoseconds(cells: Any) -> Any:
    """Return nanoseconds since 1970, `NAT` where there is no date.

    Times without an offset are UTC.
    """
    for zone in (None, "UTC"):
        try:
            dates = pc.cast(cells, pa.timestamp("ns", zone))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            continue
        return pc.fill_null(pc.cast(dates, pa.int64()), int(NAT)).to_numpy(zero_copy_only=False)
    return np.array([_parse_date(plain(cell)) for cell in cells], np.int64)


def _parse_date(cell: Any) -> int:
    try:
        date = datetime.fromisoformat(str(cell).strip())
    except ValueError:
        return int(NAT)
    since = (date if date.tzinfo else date.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    nanoseconds = (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000
    return nanoseconds if abs(nanoseconds) < -int(NAT) else int(NAT)


class Clients:
    """Converter of clients to numbers.

    Whole numbers stay. Names become 0, 1, ... in order of first appearance.
    """

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._numbered: bool | None = None

    def numbers(self, cells: Any) -> Ints:
        own = floats(cells)
        if self._numbered is None and len(cells):
            whole = np.isfinite(own) & (own == np.floor(own)) & (own >= 0) & (own <= MAX_CODE)
            self._numbered = bool(whole.all())
        if self._numbered:
            if not (np.isfinite(own) & (own >= 0) & (own <= MAX_CODE) & (own == np.floor(own))).all():
                raise TraceError("the client column mixes numbers and names: use only one of them")
            return own.astype(np.int32)
        names = (str(plain(cell)) for cell in cells)
        return np.array([self._codes.setdefault(name, len(self._codes)) for name in names], np.int32)
