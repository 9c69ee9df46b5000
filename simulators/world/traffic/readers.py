"""Reader of traffic files in all known formats.

The content determines the format, not the file name.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from scaler.config.problems import value_text
from scaler.registry import did_you_mean
from simulators.world.traffic.formats import guidellm, mooncake, tables, vllm
from simulators.world.traffic.formats.options import ReadOptions
from simulators.world.traffic.formats.records import document
from simulators.world.traffic.formats.stream import head
from simulators.world.traffic.trace import RequestTrace, TraceError

Documents: TypeAlias = Callable[[Path, Any, ReadOptions, str], RequestTrace]

DOCUMENTS: Final[Mapping[str, tuple[str, Documents]]] = {
    "guidellm": ("benchmarks", guidellm.read),
    "vllm": ("input_lens", vllm.read),
}
"""Formats that are one JSON document: the key that identifies each, and its reader."""
FORMATS: Final = ("azure", "burstgpt", "forescale", "guidellm", "mooncake", "runs", "servegen", "vllm")
"""All formats: table layouts, JSON documents, and Mooncake's JSON lines."""
SUFFIXES: Final = (".gz", ".csv", ".parquet", ".jsonl", ".json")
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
    if start.lstrip()[:1] in {b"{", b"["}:
        return _json(path, start, options)
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


def _json(path: Path, start: bytes, options: ReadOptions) -> RequestTrace:
    if options.format == "mooncake" or (options.format is None and _is_lines(start)):
        return mooncake.read(path, options, name_of(path))
    data = document(path, options)
    keys = list(data) if isinstance(data, dict) else [f"a {type(data).__name__}"]
    for name, (key, reader) in DOCUMENTS.items():
        if options.format == name or (options.format is None and key in keys):
            return reader(path, data if isinstance(data, dict) else {}, options, name_of(path))
    known = "; ".join(f"{name} has {key}" for name, (key, _) in DOCUMENTS.items())
    lines = f"mooncake has lines with {', '.join(mooncake.KEYS)}"
    raise TraceError(f"{path}: unknown JSON format with the keys {value_text(keys)}; known formats: {known}; {lines}")


def _is_lines(start: bytes) -> bool:
    """Return whether the first line is a JSON object of one request."""
    try:
        first = json.loads(start.split(b"\n", 1)[0])
    except (ValueError, RecursionError):
        return False
    return isinstance(first, dict) and "input_length" in first
