"""Snapshots as files of a directory, such as a volume that all daemons mount.

Each file is replaced as a whole: a reader finds the old or the new content. A call that hangs, as on a network volume
whose server is gone, fails at its time limit; until it returns, further calls fail at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from policies.model import WorkloadName
from scaler.config.snapshots import SnapshotSettings
from scaler.ports import Context, Permit, Unavailable
from scaler.snapshots.codec import MAX_CHARS
from scaler.snapshots.store import SUFFIX, Stored, name_of, owner_of
from scaler.supervised_tasks import in_daemon_thread

T = TypeVar("T")
CALL_S: Final = 5.0
"""Time limit of a call. Seconds."""
ACCESS: Final = (("read", os.R_OK | os.X_OK), ("write to", os.W_OK | os.X_OK))


async def open_snapshots(settings: SnapshotSettings, _installation: str, _context: Context) -> SnapshotDirectory:
    """Open the configured directory."""
    return SnapshotDirectory(Path(settings.directory or ""))


class SnapshotDirectory:
    """The store's port."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._turn = asyncio.Lock()
        self._last: asyncio.Future[Any] | None = None

    async def read(self, workloads: Sequence[WorkloadName]) -> Sequence[Stored]:
        wanted = set(workloads)
        return await self._call("read", lambda: list(map(_stored, _files(self._directory, wanted))))

    async def write(self, workload: WorkloadName, writer: str, text: str) -> None:
        await self._call("write to", lambda: _replace(self._file(workload, writer), text))

    async def delete(self, workload: WorkloadName, writer: str) -> None:
        await self._call("delete in", lambda: self._file(workload, writer).unlink(missing_ok=True))

    async def permits(self) -> Sequence[Permit]:
        place = await self._call("read", lambda: _existing(self._directory))
        return [Permit(f"{verb} {place}", os.access(place, mode)) for verb, mode in ACCESS]

    def _file(self, workload: WorkloadName, writer: str) -> Path:
        return self._directory / name_of(workload, writer)

    async def _call(self, verb: str, call: Callable[[], T]) -> T:
        what = f"cannot {verb} {self._directory}"
        try:
            async with self._turn, asyncio.timeout(CALL_S):
                if self._last is not None and not self._last.done():
                    raise Unavailable(f"{what}: an earlier call hangs. Check the volume")
                self._last = running = in_daemon_thread("snapshots", call)
                running.add_done_callback(_retrieve)
                return await asyncio.shield(running)
        except TimeoutError as e:
            raise Unavailable(f"{what}: no response within {CALL_S:g} s. Check the volume") from e
        except OSError as e:
            raise Unavailable(f"{what}: {e.strerror or e}. Check the volume and its permissions") from e


def _retrieve(ended: asyncio.Future[Any]) -> None:
    """Retrieve the exception of a call whose time limit has passed, which asyncio would log."""
    if not ended.cancelled():
        ended.exception()


def _files(directory: Path, workloads: set[WorkloadName]) -> list[Path]:
    """Return the files of snapshots of workloads. Raises `OSError`."""
    if not directory.exists():
        return []
    files = (file for file in directory.iterdir() if file.suffix == SUFFIX)
    return sorted(file for file in files if owner_of(file.name)[0] in workloads)


def _existing(directory: Path) -> Path:
    """Return the directory, or the nearest one above it that exists. Raises `OSError`."""
    return next(path for path in (directory.absolute(), *directory.absolute().parents) if path.is_dir())


def _stored(file: Path) -> Stored:
    """Return a file's snapshot, without content where that is too long or gone."""
    workload, writer = owner_of(file.name)
    content: bytes | None = None
    with contextlib.suppress(FileNotFoundError), file.open("rb") as f:
        content = f.read(MAX_CHARS + 1)
    is_whole = content is not None and len(content) <= MAX_CHARS
    return Stored(workload, writer, content.decode(errors="replace") if content and is_whole else None)


def _replace(file: Path, text: str) -> None:
    """Replace a file's content as a whole. Raises `OSError`."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    opened = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(opened, "w") as f:
        f.write(text)
    part.replace(file)
