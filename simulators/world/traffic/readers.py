"""Reader of traffic files in all known formats.

The content determines the format, not the file name.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, TypeAlias

from scaler.registry import did_you_mean
from simulators.world.traffic.formats import guidellm, json_rows, mooncake, otel, tables, vllm, vllm_log
from simulators.world.traffic.formats.json_values import UnreadableLine, json_values
from simulators.world.traffic.formats.layouts import LAYOUTS, fitting
from simulators.world.traffic.formats.options import ReadOptions
from simulators.world.traffic.formats.stream import head
from simulators.world.traffic.trace import RequestTrace, TraceError

Documents: TypeAlias = Callable[[Path, Any, ReadOptions, str], RequestTrace]

DOCUMENTS: Final[Mapping[str, tuple[str, Documents]]] = {
    "guidellm": ("benchmarks", guidellm.read),
    "vllm": ("input_lens", vllm.read),
}
"""Formats that are one JSON document: the key that identifies each, and its reader."""
FORMATS: Final = tuple(sorted([*LAYOUTS, *DOCUMENTS, "mooncake", "otel", "vllm-log"]))
"""All formats: layouts of tables and JSON records, JSON documents, Mooncake's JSON lines, spans and logs."""
SUFFIXES: Final = (".gz", ".csv", ".parquet", ".jsonl", ".ndjson", ".json", ".log")
DEFAULT: Final = ReadOptions()


def read(path: Path, options: ReadOptions = DEFAULT) -> RequestTrace:
    """Return the trace in a file. Raises `TraceError` with the actual and the expected content."""
    if options.format is not None and options.format not in FORMATS:
        hint = did_you_mean(options.format, list(FORMATS)) or f"the formats are {', '.join(FORMATS)}"
        raise TraceError(f"--format {options.format!r}: unknown format; {hint}")
    if path.is_dir():
        raise TraceError(f"{path}: is a directory; name one file in it")
    start = head(path)
    if not start.strip():
        raise TraceError(f"{path}: is empty")
    if start.startswith(tables.PARQUET):
        return tables.read_parquet(path, options, name_of(path))
    if start.removeprefix(codecs.BOM_UTF8).lstrip()[:1] in {b"{", b"["}:
        return _json(path, options)
    if options.format == "vllm-log" or (options.format is None and not options.columns and _is_log(start, options)):
        return vllm_log.read(path, options, name_of(path))
    return tables.read_csv(path, _header(path, start), options, name_of(path))


def name_of(path: Path) -> str:
    """Return the name of a file's trace: the file name without format suffixes."""
    name = path.name
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def _header(path: Path, start: bytes) -> list[str]:
    """Return the columns of a CSV file."""
    try:
        line = start.splitlines()[0].decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise TraceError(f"{path}: is neither UTF-8 text (CSV, JSON) nor Parquet, plain or gzipped") from e
    try:
        return next(csv.reader([line]), [])
    except csv.Error as e:
        raise TraceError(f"{path}, line 1: is not a CSV header: {e}") from e


def _is_log(start: bytes, options: ReadOptions) -> bool:
    """Return whether the beginning of a file is a server's log.

    A table with such text in a column is none.
    """
    header = start.split(b"\n", 1)[0].decode(errors="replace").strip().split(",")
    return vllm_log.fits(start) and fitting(header, options) is None


def _json(path: Path, options: ReadOptions) -> RequestTrace:
    values = json_values(path, options)
    name = name_of(path)
    leading: list[tuple[str, Any]] = []
    first: Any = None
    for place, first in values:
        leading.append((place, first))
        if not isinstance(first, UnreadableLine):
            break
    keys = set(first) if isinstance(first, Mapping) else set()
    if _is(options, "mooncake", fits="input_length" in keys):
        _check_complete(path, "mooncake", options)
        return mooncake.read(path, options, name)
    for known, (key, reader) in DOCUMENTS.items():
        if _is(options, known, fits=key in keys):
            _check_complete(path, known, options)
            return reader(path, _only(path, known, leading, values), options, name)
    if _is(options, "otel", fits=otel.fits(first)):
        return otel.read(path, chain(leading, values), options, name)
    return json_rows.read(path, chain(leading, values), options, name)


def _is(options: ReadOptions, name: str, *, fits: bool) -> bool:
    """Return whether a file has a format: the one of the options, else one that fits."""
    return options.format == name or (options.format is None and not options.columns and fits)


def _check_complete(path: Path, name: str, options: ReadOptions) -> None:
    """Raise `TraceError` for options about requests in a format that needs none of them."""
    given = {"--model-name": options.model, "--prompt-tokens": options.prompt, "--output-tokens": options.output}
    for option, value in given.items():
        if value is not None:
            raise TraceError(f"{path}: {option}: the format {name} has one model and all token counts; omit it")


def _only(path: Path, name: str, leading: list[tuple[str, Any]], values: Iterator[tuple[str, Any]]) -> Any:
    """Return the one document of a file. Raises `TraceError` for several lines."""
    if len(leading) + len(list(islice(values, 1))) > 1:
        raise TraceError(f"{path}: is not a complete JSON document: {name} has one document, not several lines")
    data = leading[0][1]
    return data if isinstance(data, Mapping) else {}
