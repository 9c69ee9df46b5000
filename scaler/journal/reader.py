"""Reads journals, whole or from the end, and skips damaged lines."""

from __future__ import annotations

import itertools
import json
import mmap
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from policies.model import Tick, WorkloadName
from scaler.config.load import Workload, workload_from
from scaler.journal.codec import HISTORY_TYPE, decode_initial_history, decode_tick
from scaler.journal.fields import DAMAGED, text
from scaler.journal.initial_history import InitialHistory
from scaler.journal.schema import READABLE, is_unsupported, refusal, schema_of
from scaler.journal.shadows import TYPE, decode_shadow
from scaler.journal.writer import files
from scaler.shadow.counterfactual import ShadowTick

MAX_TAIL: Final = 60_000
"""Maximum number of ticks read at a start: 30 for each of 2,000 workloads, in a few seconds."""


SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(slots=True)
class Unread:
    """Lines that a start skipped.

    The record has the places of damaged lines, and the number of records by unsupported schema.
    """

    damaged: list[str] = field(default_factory=list)
    schemas: Counter[int] = field(default_factory=Counter)


class JournalError(Exception):
    """A journal cannot be read at all."""


class Journal:
    """A journal that iterates over its ticks, oldest first.

    `specs` and `damaged` are complete after that.

    `records` also yields the starts, in the order of the journal, and `shadows` the ticks of shadows alone.
    `read_bytes` is the number of bytes read so far.
    """

    def __init__(self, path: Path) -> None:
        self.specs: dict[str, Workload] = {}
        self.damaged: list[str] = []
        self.read_bytes = 0
        self.paths = journal_files(path)

    def __iter__(self) -> Iterator[Tick]:
        return (record for record in self.records() if isinstance(record, Tick))

    def records(self) -> Iterator[Tick | InitialHistory]:
        return (record for record in self._read() if not isinstance(record, ShadowTick))

    def shadows(self) -> Iterator[ShadowTick]:
        return (record for record in self._read(shadows=True) if isinstance(record, ShadowTick))

    def _read(self, *, shadows: bool = False) -> Iterator[Tick | InitialHistory | ShadowTick]:
        """Yield ticks and starts, or the ticks of shadows."""
        for path in self.paths:
            try:
                with path.open("rb") as f:
                    for number, line in enumerate(f, 1):
                        self.read_bytes += len(line)
                        record = self._decode(line, f"{path}:{number}", shadows=shadows)
                        if record is not None:
                            yield record
            except OSError as e:
                raise JournalError(f"{path}: {e.strerror}") from e

    def _decode(self, line: bytes, location: str, *, shadows: bool) -> Tick | InitialHistory | ShadowTick | None:
        schema = schema_of(line)
        if schema is not None and is_unsupported(schema):
            raise JournalError(f"{location}: {refusal(schema)}")
        record = parse_record(line)
        if record is None:
            if line.strip():
                self.damaged.append(location)
            return None
        try:
            if record["type"] == "tick":
                return None if shadows else decode_tick(record)
            if record["type"] == HISTORY_TYPE:
                return None if shadows else decode_initial_history(record)
            if record["type"] == TYPE:
                return decode_shadow(record) if shadows else None
            if record["type"] == "spec":
                self.specs[text(record["fingerprint"])] = workload_from(record["document"], location)
        except DAMAGED:
            self.damaged.append(location)
        return None


def journal_files(path: Path) -> list[Path]:
    """Return the files of the journal at `path`, a folder or one file. Raises `JournalError`."""
    if path.is_dir():
        paths = files(path)
        if not paths:
            raise JournalError(f"{path}: the folder contains no journal files (00000001.jsonl and so on)")
        return paths
    if not path.is_file():
        raise JournalError(f"{path}: no such file or directory")
    return [path]


def tail(
    directory: Path, since: float, workloads: Iterable[WorkloadName], unread: Unread | None = None
) -> dict[WorkloadName, list[Tick]]:
    """Return each workload's ticks at or after `since`, oldest first.

    They come from the journal's last `MAX_TAIL` ticks. Lines that cannot be read are added to `unread`. Raises
    `OSError`.
    """
    tails: dict[WorkloadName, list[Tick]] = {name: [] for name in workloads}
    backward = _ticks_backward(directory, Unread() if unread is None else unread)
    recent = itertools.takewhile(lambda tick: tick.at >= since, backward)
    for tick in itertools.islice(recent, MAX_TAIL):
        if tick.workload in tails:
            tails[tick.workload].append(tick)
    return {name: ticks[::-1] for name, ticks in tails.items()}


def _ticks_backward(directory: Path, unread: Unread) -> Iterator[Tick]:
    for path in reversed(files(directory)):
        for start, line in _lines_backward(path):
            schema = schema_of(line)
            if schema is not None and is_unsupported(schema):
                unread.schemas[schema] += 1
                continue
            record = parse_record(line)
            if record is None:
                unread.damaged.append(f"{path} at byte {start}")
            elif record["type"] == "tick":
                try:
                    tick = decode_tick(record)
                except DAMAGED:
                    unread.damaged.append(f"{path} at byte {start}")
                else:
                    yield tick


def parse_record(line: bytes) -> Mapping[str, Any] | None:
    """Return the record of a line; None for a damaged one, and for an unsupported schema."""
    try:
        record = json.loads(line)
        if SURROGATE.search(line):  # an unpaired surrogate cannot be encoded or printed
            json.dumps(record, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    is_known = isinstance(record, dict) and record.get("v") in READABLE and isinstance(record.get("type"), str)
    return record if is_known else None


def _lines_backward(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield each line with the offset of its first byte, the last line first. Raises `OSError`."""
    if path.stat().st_size == 0:
        return
    with path.open("rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as m:
        end = len(m)
        while end > 0:
            start = m.rfind(b"\n", 0, end)
            line = m[start + 1 : end]
            if line.strip():
                yield start + 1, line
            end = max(start, 0)
