"""Reader of a CSV of observed tokens per minute."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from scaler.commands.explain import parse_time
from scaler.config.files import Unreadable, read_text
from scaler.config.problems import MAX_SHOWN, ConfigError, Problem
from scaler.config.yaml_composer import MAX_PROBLEMS
from scaler.journal.reader import JournalError
from simulators.provisioned.offers import MAX_TOKENS
from simulators.provisioned.samples import HOUR_S, TokenSamples

REQUIRED: Final[Sequence[str]] = ("at", "input_tokens_per_minute", "output_tokens_per_minute")
CACHED: Final = "cached_tokens_per_minute"
UTILIZATION: Final = "utilization"
MAX_UTILIZATION: Final = 5.0
"""A larger value is a percentage."""
MAX_UNIX_S: Final = 1e10
"""Unix time of the year 2286: a larger one is not in seconds."""
MIN_ROWS: Final = 2
Row = Mapping[str, float]


def of_csv(path: Path) -> TokenSamples:
    """Return the samples of a file. Raises `ConfigError` with the problems found.

    A row stands for the time until the next one, at most the median of these times. An empty cell is unknown.
    """
    rows, columns = _checked(path)
    if len(rows) < MIN_ROWS:
        rule = f"must have at least {MIN_ROWS} rows with tokens, not {len(rows)}"
        raise ConfigError([Problem(str(path), 1, "", "", rule, "record at least one week")])
    at = np.array([row["at"] for row in rows])
    steps = np.diff(at)
    interval_s = float(np.median(steps))
    if interval_s > HOUR_S:
        rule = f"rows must be at most one hour apart, not {interval_s:,.0f} s"
        raise ConfigError([Problem(str(path), 2, "at", "", rule, "export tokens per minute or per hour")])
    seconds = np.minimum(np.append(steps, interval_s), interval_s)
    known = np.array([all(math.isfinite(row[name]) for name in columns if name != UTILIZATION) for row in rows])
    if not known.any():
        raise ConfigError([Problem(str(path), 2, "", "", "no row has all token counts", "fill the empty cells")])
    values = {name: np.array([row[name] for row in rows]) for name in columns}
    samples = TokenSamples(
        at,
        seconds,
        values["input_tokens_per_minute"],
        values["output_tokens_per_minute"],
        values.get(CACHED),
        values.get(UTILIZATION),
        f"{path}, {int(known.sum()):,} rows of {interval_s:,.0f} s",
    )
    return samples.taken(known)


def _checked(path: Path) -> tuple[list[Row], tuple[str, ...]]:
    """Return the rows, and the columns that the file has. Raises `ConfigError`."""
    try:
        reader = csv.DictReader(io.StringIO(read_text(path)), strict=True)
        header = tuple(reader.fieldnames or ())
        missing = [name for name in REQUIRED if name not in header]
        if missing:
            rule = f"the columns {', '.join(missing)} are missing"
            hint = f"the first line must name {', '.join(REQUIRED)}, and may name {CACHED} and {UTILIZATION}"
            raise ConfigError([Problem(str(path), 1, "", "", rule, hint)])
        columns = tuple(name for name in (*REQUIRED, CACHED, UTILIZATION) if name in header)
        rows: list[Row] = []
        problems: list[Problem] = []
        for cells in reader:
            row = {name: _number(name, cells.get(name) or "") for name in columns}
            problems += _row_problems(str(path), reader.line_num, cells, row, rows)
            if len(problems) >= MAX_PROBLEMS:
                break
            rows.append(row)
    except Unreadable as e:
        raise ConfigError([Problem(str(path), 1, "", "", e.rule, e.hint)]) from e
    except csv.Error as e:
        raise ConfigError([Problem(str(path), reader.line_num, "", "", f"is not a CSV table: {e}")]) from e
    if problems:
        raise ConfigError(problems)
    return rows, columns[1:]


def _number(column: str, text: str) -> float:
    """Return the number or time in a cell: NaN if it is empty, infinity for any other text."""
    if not text.strip():
        return math.nan
    try:
        value = parse_time(text, column) if column == "at" else float(text)
    except (JournalError, ValueError):
        return math.inf
    return value if math.isfinite(value) else math.inf


def _row_problems(file: str, line: int, cells: Mapping[str, str], row: Row, before: list[Row]) -> Iterator[Problem]:
    """Yield the problems of a row."""
    limits = dict.fromkeys((*REQUIRED[1:], CACHED), MAX_TOKENS) | {UTILIZATION: MAX_UTILIZATION}
    at = row["at"]
    if not 0 <= at <= MAX_UNIX_S:
        rule = "must be ISO 8601 (2026-06-01T08:45:00Z) or Unix seconds"
        yield Problem(file, line, "at", _shown(cells, "at"), rule)
    elif before and at <= before[-1]["at"]:
        yield Problem(file, line, "at", _shown(cells, "at"), "must be after the row before", "sort the rows by time")
    for name, value in row.items():
        if name != "at" and not (math.isnan(value) or 0 <= value <= limits[name]):
            hint = "divide percentages by 100" if name == UTILIZATION else ""
            yield Problem(file, line, name, _shown(cells, name), f"must be a number from 0 to {limits[name]:g}", hint)
    if row.get(CACHED, -math.inf) > row["input_tokens_per_minute"]:
        rule = "must be at most input_tokens_per_minute, which includes cached tokens"
        yield Problem(file, line, CACHED, _shown(cells, CACHED), rule)


def _shown(cells: Mapping[str, str], name: str) -> str:
    """Return the text of a cell, cut to a readable length."""
    text = cells.get(name) or ""
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"
