"""Appends records to a journal, one write per line.

It rotates its files by size and number.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from policies.model import Tick, WorkloadName
from scaler.config.daemon import JournalSpec
from scaler.config.load import Workload, without_secrets
from scaler.journal.codec import encode_initial_history, encode_tick
from scaler.journal.initial_history import InitialHistory
from scaler.journal.schema import SCHEMA, file_schema
from scaler.journal.shadows import encode_shadow
from scaler.journal.slo_codec import encode_slo_history
from scaler.ports import Misconfigured
from scaler.shadow.counterfactual import ShadowTick
from scaler.slo_record import SloHistory, SloRecord

NAME: Final = "{:08d}.jsonl"
LOCK: Final = ".lock"
STARTED: Final = ""
"""Marks in `_written_specs` that the current file has its start record; no fingerprint is empty."""
ENCODER: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
TRANSIENT: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ESTALE}
)
"""Errors of a full, failing or absent disk, and not of a wrong setting: the daemon starts in spite of them."""


def files(directory: Path) -> list[Path]:
    """Return a journal's files, oldest first."""
    return sorted(p for p in directory.glob("*.jsonl") if p.stem.isdigit())


class JournalWriter:
    """One daemon's journal.

    A record that cannot be written is counted in `lost`, with the reason in `error`.

    The disk may be full at the start, and the folder or a file may be removed at any time: each write checks that the
    open files still exist, and opens new ones otherwise.
    """

    def __init__(self, settings: JournalSpec, at: float, version: str) -> None:
        """Open and lock `settings.directory`, or leave that to the first write on a transient error.

        Raises `Misconfigured` where another daemon writes there, or on an error that is not transient.
        """
        assert settings.directory is not None  # noqa: S101 - the caller asks for a journal
        self.lost = 0
        self.error: str | None = None
        self._settings = settings
        self._directory = Path(settings.directory)
        self._lock_path = self._directory / LOCK
        self._start = {"v": SCHEMA, "type": "start", "at": at, "version": version}
        self._written_specs: set[str] = set()
        self._written_slos: set[WorkloadName] = set()
        self._lock: int | None = None
        self._file: int | None = None
        self._path = self._directory / NAME.format(1)
        self._size, self._torn = 0, False
        self._records = 0
        try:
            self._open()
        except BlockingIOError as e:
            raise Misconfigured(
                f"daemon.journal.directory: another daemon writes to {self._directory}. Use another folder"
            ) from e
        except OSError as e:
            if e.errno not in TRANSIENT:
                raise Misconfigured(
                    f"daemon.journal.directory: cannot write to {self._directory}: {e.strerror}. Use another, or null"
                ) from e
            self.error = e.strerror

    def write(self, tick: Tick, workload: Workload, slo_record: SloRecord | None = None) -> None:
        """Append a tick, after its specification if this file does not contain that yet.

        The SLO's record follows the workload's first tick in a file.
        """
        with self._count_losses():
            self._ensure_open()
            self._write_spec(tick, workload)
            self._append(encode_tick(tick))
            if slo_record is not None and tick.workload not in self._written_slos:
                self._write_slo_history(slo_record.history(tick.workload))

    def write_shadow(self, shadow_tick: ShadowTick, workload: Workload) -> None:
        """Append a shadow's tick, after its specification if this file does not contain that yet."""
        with self._count_losses():
            self._ensure_open()
            self._write_spec(shadow_tick.tick, workload)
            self._append(encode_shadow(shadow_tick))

    def write_initial_history(self, start: InitialHistory) -> None:
        """Append the record of a workload's start."""
        with self._count_losses():
            self._ensure_open()
            self._append(encode_initial_history(start))

    def close(self) -> None:
        """Close the files and release the lock."""
        for descriptor in (self._file, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._file = self._lock = None

    def _write_spec(self, tick: Tick, workload: Workload) -> None:
        if tick.spec not in self._written_specs:
            document = without_secrets(workload.document)
            self._append({"v": SCHEMA, "type": "spec", "fingerprint": tick.spec, "document": document})
            self._written_specs.add(tick.spec)

    def _write_slo_history(self, history: SloHistory | None) -> None:
        if history is not None:
            self._append(encode_slo_history(history))
            self._written_slos.add(history.workload)

    @contextlib.contextmanager
    def _count_losses(self) -> Iterator[None]:
        """Count a record that the body fails to write as lost.

        Otherwise rotate the file where that is due.
        """
        try:
            yield
        except (OSError, ValueError) as e:  # ValueError: a value that JSON cannot represent, such as NaN
            self.lost += 1
            self.error = (e.strerror if isinstance(e, OSError) else None) or str(e)
            return
        self._records += 1
        self.error = None
        if self._size >= self._settings.max_bytes:
            try:
                self._rotate()
            except OSError as e:  # the current file stays in use, and the next record tries again
                self.error = f"cannot start the next file: {e.strerror}"

    def _append(self, record: Mapping[str, Any]) -> None:
        if record is not self._start and not self._written_specs:
            self._append(self._start)
            self._written_specs.add(STARTED)
        line = record_line(record)
        if self._torn:  # end the torn line, so that this one stands alone
            line = b"\n" + line
        assert self._file is not None  # noqa: S101 - `_ensure_open` comes first
        written = os.write(self._file, line)
        self._size += written
        self._torn = written < len(line)
        if self._torn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _ensure_open(self) -> None:
        """Ensure that the open files are still the ones in the folder, or open new ones.

        Raises `OSError`.

        The records in a removed file are counted as lost.
        """
        if self._file is not None and self._lock is not None:
            if _is_same_file(self._lock, self._lock_path) and _is_same_file(self._file, self._path):
                return
            if os.fstat(self._file).st_nlink == 0:
                self.lost += self._records
            self.close()
        self._open()

    def _open(self) -> None:
        """Lock the folder and open its current file. Raises `OSError`, with no file left open."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _restrict_access(self._directory)
            self._lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._open_file(self._current_path())
        except OSError:
            self.close()
            raise

    def _current_path(self) -> Path:
        """Return the file to append to: the last one, or a new one if the last has another schema.

        Raises `OSError`.
        """
        existing = files(self._directory)
        if not existing:
            return self._directory / NAME.format(1)
        return existing[-1] if file_schema(existing[-1]) in {None, SCHEMA} else _next(existing[-1])

    def _open_file(self, path: Path) -> None:
        """Append to this file from now on, first the start record.

        On `OSError` the current file stays open.
        """
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
        self._written_specs.clear()
        self._written_slos.clear()

    def _rotate(self) -> None:
        assert self._file is not None  # noqa: S101 - a record was just written to it
        os.fsync(self._file)
        self._open_file(_next(self._path))
        for path in files(self._directory)[: -1 - self._settings.keep_files]:
            path.unlink(missing_ok=True)


def record_line(record: Mapping[str, Any]) -> bytes:
    """Return the line of a record. Raises `ValueError` for a value that JSON cannot represent."""
    # A server may send an unpaired surrogate, which UTF-8 lacks.
    return ENCODER.encode(record).encode(errors="replace") + b"\n"


def _next(path: Path) -> Path:
    return path.with_name(NAME.format(int(path.stem) + 1))


def _is_same_file(descriptor: int, path: Path) -> bool:
    """Return whether the path still refers to the open file.

    Raises `OSError` where that cannot be checked.
    """
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _restrict_access(directory: Path) -> None:
    """Remove other users' access to an existing journal's files.

    Remove also their access to a folder with no other file. Raises `OSError`.

    Only files of this user are changed: a volume keeps the owner and mode that the platform gave it.
    """
    paths = list(directory.iterdir())
    ours = [p for p in paths if p.name == LOCK or (p.suffix == ".jsonl" and p.stem.isdigit())]
    for path, mode in [*((p, 0o600) for p in ours), *([(directory, 0o700)] if len(ours) == len(paths) else [])]:
        status = path.lstat()
        if status.st_uid == os.geteuid() and status.st_mode & 0o077 and not path.is_symlink():
            path.chmod(mode)


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as f:
        f.seek(-1, os.SEEK_END)
        return f.read(1)
