"""Appends records, one write a line; rotates by size; never more than the files it may keep."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from policies.model import Tick
from scaler.config.daemon import Journal
from scaler.config.load import Workload
from scaler.counterfactual import ShadowTurn
from scaler.journal.codec import SCHEMA, encode_past, encode_tick
from scaler.journal.shadows import encode_shadow
from scaler.past import Past
from scaler.ports import Misconfigured

NAME = "{:08d}.jsonl"


def files(directory: Path) -> list[Path]:
    """A journal's files, oldest first."""
    return sorted(p for p in directory.glob("*.jsonl") if p.stem.isdigit())


class JournalWriter:
    """One daemon's journal. A write that fails is counted in `lost` and told in `error`; it stops nothing."""

    def __init__(self, settings: Journal, at: float, version: str) -> None:
        """Open `settings.directory` for this process alone. Raises `Misconfigured`."""
        assert settings.directory is not None  # noqa: S101 - the caller asks for a journal
        self.lost = 0
        self.error: str | None = None
        self._settings = settings
        self._directory = Path(settings.directory)
        self._start = {"v": SCHEMA, "type": "start", "at": at, "version": version}
        self._described: set[str] = set()
        self._torn = False
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            existing = files(self._directory)
            self._open(existing[-1] if existing else self._directory / NAME.format(1))
        except BlockingIOError as e:
            raise Misconfigured(f"daemon.journal.directory: another daemon writes to {self._directory}") from e
        except OSError as e:
            raise Misconfigured(
                f"daemon.journal.directory: cannot write to {self._directory}: {e.strerror} (name another, or null)"
            ) from e

    def write(self, tick: Tick, workload: Workload) -> None:
        """Add a turn, and the specification it was decided by if this file has not told it yet."""
        with self._counted():
            self._describe(tick, workload)
            self._append(encode_tick(tick))

    def shadow(self, turn: ShadowTurn, workload: Workload) -> None:
        """Add a shadow's turn likewise."""
        with self._counted():
            self._describe(turn.tick, workload)
            self._append(encode_shadow(turn))

    def begin(self, past: Past) -> None:
        """Add what a workload's history begins with."""
        with self._counted():
            self._append(encode_past(past))

    def close(self) -> None:
        os.close(self._file)
        os.close(self._lock)

    def _describe(self, tick: Tick, workload: Workload) -> None:
        if tick.spec not in self._described:
            self._append({"v": SCHEMA, "type": "spec", "fingerprint": tick.spec, "document": workload.document})
            self._described.add(tick.spec)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """Around the writing of a record: rotate after it where that is due, and count it where it is lost."""
        try:
            yield
            self.error = None
            if self._size >= self._settings.max_bytes:
                self._rotate()
        except OSError as e:
            self.lost += 1
            self.error = e.strerror or str(e)

    def _append(self, record: Mapping[str, Any]) -> None:
        text = json.dumps(record, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        line = text.encode(errors="backslashreplace") + b"\n"  # a lone surrogate becomes JSON's own escape of it
        if self._torn:  # end the torn line, so that this one stands alone
            line = b"\n" + line
        written = os.write(self._file, line)
        self._size += written
        self._torn = written < len(line)
        if self._torn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _open(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._path = path
        self._size = path.stat().st_size
        self._described.clear()
        self._torn = self._size > 0 and _last_byte(path) != b"\n"
        self._append(self._start)

    def _rotate(self) -> None:
        old = self._file
        os.fsync(old)
        self._open(self._directory / NAME.format(int(self._path.stem) + 1))
        os.close(old)
        for path in files(self._directory)[: -1 - self._settings.keep]:
            path.unlink(missing_ok=True)


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as f:
        f.seek(-1, os.SEEK_END)
        return f.read(1)
