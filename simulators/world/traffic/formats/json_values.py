"""The JSON values of a file: of each line, or of its one document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Final

from simulators.world.traffic.formats.options import ReadOptions
from simulators.world.traffic.formats.stream import Stream
from simulators.world.traffic.trace import TraceError

MAX_BYTES: Final = 1 << 30
"""Maximum length of a line or document, 1 GiB. It takes about ten times the memory."""
SHOWN_BYTES: Final = 200


@dataclass(frozen=True, slots=True)
class UnreadableLine:
    """A line that is no JSON value, or a value of the wrong shape, with the rule broken."""

    text: str
    rule: str


def json_values(path: Path, options: ReadOptions) -> Iterator[tuple[str, Any]]:
    """Yield each value with its place, such as "line 7"; the place of a document is empty.

    A line that is no JSON gives `UnreadableLine`. Raises `TraceError` for an incomplete document.
    """
    with Stream(path, options.progress, forgive_cut=options.skip_bad) as stream:
        lines = numbered_lines(stream, path)
        number, first = next(lines, (1, b""))
        value = _parsed(first)
        if isinstance(value, UnreadableLine) and not (first.startswith(b"{") and first.endswith(b"}")):
            yield "", _document(path, first, lines)
            return
        yield f"line {number}", value
        for number, line in lines:
            yield f"line {number}", _parsed(line)


def numbered_lines(stream: Stream, path: Path, max_bytes: int = MAX_BYTES) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, stripped, with their numbers.

    Raises `TraceError` for one that is too long.
    """
    reader = BufferedReader(stream)
    number = 0
    while line := reader.readline(max_bytes + 1):
        number += 1
        if len(line) > max_bytes:
            raise TraceError(
                f"{path}, line {number}: must have at most {max_bytes:,} bytes; split it into shorter lines"
            )
        if stripped := line.strip():
            yield number, stripped


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return UnreadableLine(line[:SHOWN_BYTES].decode(errors="replace"), "must be a JSON object")


def _document(path: Path, first: bytes, lines: Iterator[tuple[int, bytes]], max_bytes: int = MAX_BYTES) -> Any:
    """Return the document that begins with the line `first`."""
    parts, size = [first], len(first)
    for _, line in lines:
        parts.append(line)
        size += len(line) + 1
        if size > max_bytes:
            rule = f"must have at most {max_bytes:,} bytes"
            raise TraceError(f"{path}: a JSON document {rule}; write one JSON object a line instead")
    try:
        return json.loads(b"\n".join(parts))
    except (ValueError, RecursionError) as e:
        raise TraceError(f"{path}: is not a complete JSON document: {e}; if it is truncated, write it again") from e
