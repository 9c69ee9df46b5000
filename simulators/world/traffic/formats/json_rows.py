"""Reader of JSON records: the same layouts as tables, with dotted paths of keys as columns.

A record is a line, or an entry of a list, or of the list ``data`` of an API's response.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from scaler.config.problems import value_text
from simulators.world.traffic.formats.json_values import UnreadableLine
from simulators.world.traffic.formats.layouts import fitting, help_text, layout_of
from simulators.world.traffic.formats.options import ReadOptions
from simulators.world.traffic.formats.tables import Table
from simulators.world.traffic.trace import RequestTrace, TraceError

LIST: Final = "data"
"""Key of the records in the responses of list APIs."""
HEADER_RECORDS: Final = 100
"""Number of first records whose keys determine the layout: some may lack the usage."""
MAX_DEPTH: Final = 5
MAX_COLUMNS: Final = 1000
MAX_COLUMN_LENGTH: Final = 200
"""Maximum length of a dotted path in characters. A longer one holds no token count."""
BATCH_ROWS: Final = 10_000


def read(path: Path, values: Iterable[tuple[str, Any]], options: ReadOptions, name: str) -> RequestTrace:
    """Return a trace of JSON records. Raises `TraceError` with the known layouts."""
    rows = _records(values)
    first = list(islice(rows, HEADER_RECORDS))
    keys = dict.fromkeys(key for _, record in first for key in _columns(record))
    header = list(islice(keys, MAX_COLUMNS))
    if not (options.columns or options.format or fitting(header, options)):
        shown = header or [f"a {type(value).__name__}" for _, value in first] or ["a list"]
        raise TraceError(f"{path}: unknown JSON format with the keys {value_text(shown)}; {_known(header)}")
    table = Table(path, layout_of(path, header, options), header, options)
    fill(table, chain(first, rows))
    return table.trace(name)


def _known(header: list[str]) -> str:
    """Return the known JSON formats."""
    documents = (
        "guidellm has benchmarks; vllm has input_lens; mooncake has lines with input_length; otel has resourceSpans"
    )
    return f"known formats: {documents}; or records with\n{help_text(header)}"


def fill(table: Table, rows: Iterable[tuple[str, Any]]) -> None:
    """Add rows, dicts of columns to values, to a table. Other values are bad rows."""
    total = 0
    remaining = iter(rows)
    while chunk := list(islice(remaining, BATCH_ROWS)):
        good = [(place, row) for place, row in chunk if isinstance(row, dict)]
        for place, row in chunk:
            if isinstance(row, UnreadableLine):
                table.cleaner.bad_row(place, row.rule, row.text)
            elif not isinstance(row, dict):
                table.cleaner.bad_row(place, "must be a JSON object", value_text(row))
        columns = [[_cell(value_at(row, name)) for _, row in good] for name in table.column_names]
        batch = pa.RecordBatch.from_arrays([pa.array(c, pa.string()) for c in columns], names=table.column_names)
        table.add(batch, lambda i, good=good, before=total: good[i - before][0])
        total += len(good)


def value_at(record: dict[str, Any], path: str) -> Any:
    """Return the value at a dotted path, None if there is none. Keys may have dots themselves."""
    if path in record:
        return record[path]
    dot = path.find(".")
    while dot >= 0:
        inner = record.get(path[:dot])
        value = value_at(inner, path[dot + 1 :]) if isinstance(inner, dict) else None
        if value is not None:
            return value
        dot = path.find(".", dot + 1)
    return None


def _records(values: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    for place, value in values:
        listed = value.get(LIST) if isinstance(value, dict) else value
        if isinstance(listed, list):
            yield from ((f"{place}, entry {i}".removeprefix(", "), entry) for i, entry in enumerate(listed, 1))
        else:
            yield place or "the document", value


def _columns(record: Any, place: str = "", depth: int = MAX_DEPTH) -> Iterator[str]:
    """Yield the dotted paths of a record's values."""
    if isinstance(record, dict) and depth:
        for key, value in record.items():
            yield from _columns(value, f"{place}.{key}".removeprefix("."), depth - 1)
    elif 0 < len(place) <= MAX_COLUMN_LENGTH:
        yield place


def _cell(value: Any) -> str | None:
    """Return a value as the text of a table's cell, None for an empty one."""
    if value is None or value == "":
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode(errors="backslashreplace").decode()  # an unpaired surrogate cannot be encoded
