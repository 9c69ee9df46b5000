"""Appends records, one write a line; rotates by size; never more than the files it may keep."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from policies.model import Tick
from scaler.config.daemon import JournalSpec
from scaler.config.load import Workload, without_secrets
from scaler.journal.codec import encode_initial_history, encode_tick
from scaler.journal.initial_history import InitialHistory
from scaler.journal.schema import SCHEMA, file_schema
from scaler.journal.shadows import encode_shadow
from scaler.ports import Misconfigured
from scaler.shadow.counterfactual import ShadowTurn

NAME: Final = "{:08d}.jsonl"
LOCK: Final = ".lock"
STARTED: Final = ""
"""Stands among the described specifications once the present file has its start record; no fingerprint is empty."""
PASSING: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ESTALE}
)
"""Errors of a disk that is full, ill or not there now, and not of a wrong setting: the daemon starts all the same."""


def files(directory: Path) -> list[Path]:
    """Return a journal's files, oldest first."""
    return sorted(p for p in directory.glob("*.jsonl") if p.stem.isdigit())


class JournalWriter:
    """One daemon's journal. A record that cannot be written is counted in `lost`; `error` says why. It stops nothing.

    The disk may be full at the start, and the folder or a file may be removed at any time: each record is written to
    files that are still there, or opens them anew.
    """

    def __init__(self, settings: JournalSpec, at: float, version: str) -> None:
        """Open `settings.directory` for this process alone, or later where its disk has no room now.

        Raises `Misconfigured` where another daemon writes there, or where waiting would not help.
        """
        assert settings.directory is not None  # noqa: S101 - the caller asks for a journal
        self.lost = 0
        self.error: str | None = None
        self._settings = settings
        self._directory = Path(settings.directory)
        self._start = {"v": SCHEMA, "type": "start", "at": at, "version": version}
        self._described: set[str] = set()
        self._lock: int | None = None
        self._file: int | None = None
        self._path = self._directory / NAME.format(1)
        self._size, self._torn = 0, False
        self._records = 0
        try:
            self._open()
        except BlockingIOError as e:
            raise Misconfigured(f"daemon.journal.directory: another daemon writes to {self._directory}") from e
        except OSError as e:
            if e.errno not in PASSING:
                raise Misconfigured(
                    f"daemon.journal.directory: cannot write to {self._directory}: {e.strerror} (name another, or null)"
                ) from e
            self.error = e.strerror

    def write(self, tick: Tick, workload: Workload) -> None:
        """Add a turn, and the specification it was decided by if this file has not told it yet."""
        with self._counted():
            self._ensure_open()
            self._describe(tick, workload)
            self._append(encode_tick(tick))

    def shadow(self, turn: ShadowTurn, workload: Workload) -> None:
        """Add a shadow's turn likewise."""
        with self._counted():
            self._ensure_open()
            self._describe(turn.tick, workload)
            self._append(encode_shadow(turn))

    def begin(self, past: InitialHistory) -> None:
        """Add what a workload's history begins with."""
        with self._counted():
            self._ensure_open()
            self._append(encode_initial_history(past))

    def close(self) -> None:
        """Close the files and give the lock away."""
        for descriptor in (self._file, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._file = self._lock = None

    def _describe(self, tick: Tick, workload: Workload) -> None:
        if tick.spec not in self._described:
            document = without_secrets(workload.document)
            self._append({"v": SCHEMA, "type": "spec", "fingerprint": tick.spec, "document": document})
            self._described.add(tick.spec)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """Around the writing of a record: rotate after it where that is due, and count it where it is lost."""
        try:
            yield
        except (OSError, ValueError) as e:  # ValueError: what JSON cannot say, such as NaN
            self.lost += 1
            self.error = (e.strerror if isinstance(e, OSError) else None) or str(e)
            return
        self._records += 1
        self.error = None
        if self._size >= self._settings.max_bytes:
            try:
                self._rotate()
            except OSError as e:  # the present file goes on, and the next record tries again
                self.error = f"cannot begin another file: {e.strerror}"

    def _append(self, record: Mapping[str, Any]) -> None:
        if record is not self._start and not self._described:
            self._append(self._start)
            self._described.add(STARTED)
        text = json.dumps(record, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        line = text.encode(errors="replace") + b"\n"  # half a surrogate pair, as a server may send it, is no text
        if self._torn:  # end the torn line, so that this one stands alone
            line = b"\n" + line
        assert self._file is not None  # noqa: S101 - `_ensure_open` comes first
        written = os.write(self._file, line)
        self._size += written
        self._torn = written < len(line)
        if self._torn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _ensure_open(self) -> None:
        """Have the journal's files open, and be the ones in the folder. Raises `OSError`.

        The records in a file that was removed are counted as lost.
        """
        if self._file is not None and self._lock is not None:
            if _is_at(self._lock, self._directory / LOCK) and _is_at(self._file, self._path):
                return
            if os.fstat(self._file).st_nlink == 0:
                self.lost += self._records
            self.close()
        self._open()

    def _open(self) -> None:
        """Take the folder's lock and its last file. Raises `OSError`; then nothing is open."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _tighten(self._directory)
            self._lock = os.open(self._directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._open_file(self._last())
        except OSError:
            self.close()
            raise

    def _last(self) -> Path:
        """Return the file to go on with: the last one, or the next where that has another schema. Raises `OSError`."""
        existing = files(self._directory)
        if not existing:
            return self._directory / NAME.format(1)
        return existing[-1] if file_schema(existing[-1]) in {None, SCHEMA} else _next(existing[-1])

    def _open_file(self, path: Path) -> None:
        """Go on with this file; its first record here is the start. Raises `OSError`; then the present one stays."""
        opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(opened).st_size
            torn = size > 0 and _last_byte(path) != b"\n"
        except OSError:
            os.close(opened)
            raise
        if self._file is not None:
            os.close(self._file)
        self._file, self._path, self._size, self._torn, self._records = opened, path, size, torn, 0
        self._described.clear()

    def _rotate(self) -> None:
        assert self._file is not None  # noqa: S101 - a record was just written to it
        os.fsync(self._file)
        self._open_file(_next(self._path))
        for path in files(self._directory)[: -1 - self._settings.keep_files]:
            path.unlink(missing_ok=True)


def _next(path: Path) -> Path:
    return path.with_name(NAME.format(int(path.stem) + 1))


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether a path still names the open file. Raises `OSError` where that cannot be found out."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _tighten(directory: Path) -> None:
    """Close a journal of before to others: its files, and the folder if it holds nothing else. Raises `OSError`.

    Only what this user owns is touched: a volume keeps the owner and mode that the platform gave it.
    """
    present = list(directory.iterdir())
    ours = [p for p in present if p.name == LOCK or (p.suffix == ".jsonl" and p.stem.isdigit())]
    for path, mode in [*((p, 0o600) for p in ours), *([(directory, 0o700)] if len(ours) == len(present) else [])]:
        seen = path.lstat()
        if seen.st_uid == os.geteuid() and seen.st_mode & 0o077 and not path.is_symlink():
            path.chmod(mode)


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as f:
        f.seek(-1, os.SEEK_END)
        return f.read(1)
