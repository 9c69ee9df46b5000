"""Rate series: measured or generated request rates, step by step."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from scaler.registry import did_you_mean
from simulators.world.traffic.formats.options import no_progress
from simulators.world.traffic.formats.stream import whole
from simulators.world.traffic.trace import Floats, TraceError

HEADER: Final = ("t_s", "rate_rps")
SERVEGEN: Final = "chunk-*-trace.csv"
"""Files of a ServeGen model, one per client, without header: time, rate, CV of gaps, and the gaps' distribution."""
MAX_RPS: Final = 1e7
"""Maximum plausible rate: a larger one is another column or unit. Requests per second."""


@dataclass(frozen=True, slots=True, eq=False)
class RateSeries:
    """Rates in requests per second.

    Each holds from its `t_s` until the next, the last as long as the one before.
    """

    t_s: Floats
    rate_rps: Floats
    name: str = "rates"

    @property
    def duration_s(self) -> float:
        return float(self.edges_s[-1] - self.t_s[0])

    @property
    def edges_s(self) -> Floats:
        """Start of each step, and the end of the last one."""
        return np.append(self.t_s, self.t_s[-1] + (self.t_s[-1] - self.t_s[-2]))

    def at(self, t_s: Floats) -> Floats:
        """Return the rates at times since the start of the series; 0 outside it."""
        edges = self.edges_s - self.t_s[0]
        step = np.searchsorted(edges, t_s, side="right") - 1
        inside = (step >= 0) & (step < len(self.rate_rps))
        return np.where(inside, self.rate_rps[np.clip(step, 0, len(self.rate_rps) - 1)], 0.0)


def read(path: Path) -> RateSeries:
    """Return a series from a CSV file or a ServeGen folder.

    The file has the columns t_s and rate_rps, or is a ServeGen client's file. The series of a folder is the sum of its
    clients.
    """
    if not path.is_dir():
        return _read_file(path)
    files = sorted(path.glob(SERVEGEN))
    if not files:
        raise TraceError(f"{path}: the folder contains no {SERVEGEN} (ServeGen clients); name a CSV file")
    clients = [_read_file(file) for file in files]
    times = np.unique(np.concatenate([c.t_s for c in clients]))
    return _series(path, times, np.sum([c.at(times - c.t_s[0]) for c in clients], axis=0))


def _read_file(path: Path) -> RateSeries:
    try:
        text = whole(path, no_progress).decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise TraceError(f"{path}: is not UTF-8 text") from e
    rows = csv.reader(io.StringIO(text, newline=""))
    first = next(rows, None)
    if first is None:
        raise TraceError(f"{path}: is empty")
    if _is_number(first[0]):  # ServeGen's files have no header
        return _parsed(path, [(1, first), *_numbered(rows, 2)], (0, 1), ("time", "rate"))
    header = [column.strip() for column in first]
    missing = [column for column in HEADER if column not in header]
    if missing:
        hint = did_you_mean(missing[0], header)
        raise TraceError(
            f"{path}: must have the columns {', '.join(HEADER)}, not {header}" + (f"; {hint}" if hint else "")
        )
    return _parsed(path, list(_numbered(rows, 2)), (header.index(HEADER[0]), header.index(HEADER[1])), HEADER)


def _numbered(rows: Iterator[list[str]], start: int) -> Iterator[tuple[int, list[str]]]:
    return ((number, row) for number, row in enumerate(rows, start) if row)


def _parsed(
    path: Path, rows: Sequence[tuple[int, list[str]]], where: tuple[int, int], names: tuple[str, str]
) -> RateSeries:
    """Return a series from two columns.

    Raises `TraceError` with line, column and value of the first error.
    """
    columns: tuple[list[float], list[float]] = ([], [])
    for number, row in rows:
        for column, i, name in zip(columns, where, names, strict=True):
            cell = row[i] if i < len(row) else ""
            value = float(cell) if _is_number(cell) else np.nan
            if not np.isfinite(value):
                raise TraceError(f"{path}, line {number}, column {name!r} = {cell!r}: must be a finite number")
            column.append(value)
        if not 0 <= columns[1][-1] <= MAX_RPS:
            raise TraceError(
                f"{path}, line {number}, column {names[1]!r} = {row[where[1]]!r}: must be 0 to {MAX_RPS:g}"
            )
        if len(columns[0]) > 1 and columns[0][-1] <= columns[0][-2]:
            raise TraceError(
                f"{path}, line {number}, column {names[0]!r} = {row[where[0]]!r}: must be later than the previous line"
            )
    return _series(path, np.array(columns[0]), np.array(columns[1]))


def _series(path: Path, times: Floats, rates: Floats) -> RateSeries:
    if len(times) < 2:
        raise TraceError(f"{path}: has {len(times)} rates; must have at least two, to set the step length")
    return RateSeries(times, rates, path.name.removesuffix(".gz").removesuffix(".csv"))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell
