"""Reader of recorded runs of a real engine: arrivals, tokens and times of each request.

A run directory holds ``requests.csv`` (or ``requests.csv.gz``), one row per request, with at least ``arrival_unix`` or
``arrival_s``, ``prompt_tokens``, ``output_tokens``, ``ttft_s`` and ``e2e_s``. A column ``run`` names the run of each
row. Runs whose name begins with ``warm`` warm the engine up and are skipped.
"""

from __future__ import annotations

import csv
import gzip
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scaler.config.problems import ConfigError, Problem
from scaler.registry import did_you_mean

NUMBERS: Final = ("prompt_tokens", "output_tokens", "ttft_s", "e2e_s")
ARRIVALS: Final = ("arrival_unix", "arrival_s")
ONLY_RUN: Final = "requests"
"""The name of the one run in a file without a column ``run``."""
CLOSED_SHARE: Final = 0.9
"""Minimum share of arrivals, after the first ones, that find the same number in flight in a closed loop."""


@dataclass(frozen=True, slots=True, eq=False)
class EngineRun:
    """A recorded run in order of arrival, one array entry per request.

    Seconds; arrivals count from the first one.
    """

    name: str
    arrival_s: NDArray[np.float64]
    prompt: NDArray[np.int32]
    output: NDArray[np.int32]
    ttft_s: NDArray[np.float64]
    e2e_s: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.arrival_s)

    def part(self, first: int, end: int) -> EngineRun:
        """Return the requests `first` to `end` - 1 as a run of their own."""
        return EngineRun(
            self.name,
            self.arrival_s[first:end] - self.arrival_s[first],
            self.prompt[first:end],
            self.output[first:end],
            self.ttft_s[first:end],
            self.e2e_s[first:end],
        )

    def clients(self) -> int:
        """Return the number of clients of a closed loop; 0 for an open loop.

        A client sends its next request when its last one ends. In a closed loop of 8 clients, every arrival after the
        first 8 finds 7 requests in flight.
        """
        ends = np.sort(self.arrival_s + self.e2e_s)
        in_flight = np.arange(len(self)) - np.searchsorted(ends, self.arrival_s)
        clients = int(in_flight.max()) + 1
        later = in_flight[clients:]
        return clients if len(later) and float(np.mean(later == clients - 1)) >= CLOSED_SHARE else 0

    def think_s(self) -> NDArray[np.float64]:
        """Return the time from each request's end to the next arrival in a closed loop.

        The times are in order of ends. Seconds.
        """
        n = self.clients()
        ends = np.sort(self.arrival_s + self.e2e_s)
        return np.maximum(self.arrival_s[n:] - ends[: len(self) - n], 0.0)


def read_runs(folder: Path) -> Mapping[str, EngineRun]:
    """Return the runs recorded in `folder` by name, in the file's order.

    Raises `ConfigError` with every problem found.
    """
    path = next((p for p in (folder / "requests.csv", folder / "requests.csv.gz") if p.is_file()), None)
    if path is None:
        rule = "must contain requests.csv or requests.csv.gz" if folder.is_dir() else "is not a folder"
        raise ConfigError([Problem(str(folder), 1, "", "", rule)])
    problems: list[Problem] = []
    rows: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    try:
        for name, row in _rows(path, problems):
            rows[name].append(row)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as e:
        problems.append(Problem(str(path), 1, "", "", f"cannot be read completely: {e}", "copy the file again"))
    if not rows and not problems:
        problems.append(Problem(str(path), 1, "", "", "contains no request of a run (runs named warm... do not count)"))
    if problems:
        raise ConfigError(problems)
    return {name: _run(name, np.array(table)) for name, table in rows.items()}


def _run(name: str, table: NDArray[np.float64]) -> EngineRun:
    table = table[np.argsort(table[:, 0], kind="stable")]
    arrival, prompt, output, ttft, e2e = table.T
    return EngineRun(name, arrival - arrival[0], prompt.astype(np.int32), output.astype(np.int32), ttft, e2e)


def _rows(path: Path, problems: list[Problem]) -> Iterator[tuple[str, tuple[float, ...]]]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        columns = list(reader.fieldnames or ())
        arrival = next((c for c in ARRIVALS if c in columns), None)
        if missing := [c for c in (arrival or ARRIVALS[0], *NUMBERS) if c not in columns]:
            problems += [_missing_column(path, c, columns) for c in missing]
            return
        for row in reader:
            name = row.get("run") or ONLY_RUN
            if name.startswith("warm"):
                continue
            if values := _values(path, reader.line_num, row, (str(arrival), *NUMBERS), problems):
                yield name, values


def _missing_column(path: Path, column: str, columns: list[str]) -> Problem:
    hint = did_you_mean(column, columns) or f"the columns are {', '.join(columns) or 'empty'}"
    return Problem(str(path), 1, column, "", "is a required column", hint)


def _values(
    path: Path, line: int, row: Mapping[str, str | None], columns: tuple[str, ...], problems: list[Problem]
) -> tuple[float, ...] | None:
    values: list[float] = []
    for column in columns:
        text = row[column]
        minimum = 1.0 if column.endswith("_tokens") else -math.inf if column in ARRIVALS else 0.0
        try:
            value = float(text) if text else math.nan
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= minimum and (minimum != 1.0 or value == int(value))):
            rule = {1.0: "must be a whole number of at least 1", 0.0: "must be a number of seconds, 0 or more"}
            problems.append(Problem(str(path), line, column, str(text), rule.get(minimum, "must be a finite number")))
            return None
        values.append(value)
    if values[-1] < values[-2]:
        problems.append(Problem(str(path), line, "e2e_s", str(row["e2e_s"]), "must not be less than ttft_s"))
        return None
    return tuple(values)
