"""Detects changed configuration files by reading them.

File events miss the link swap of a mounted ConfigMap.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scaler.config.files import files_of, read_bytes

SETTLE_S: Final = 1.0
"""Delay between the two reads that must agree before a change is applied: a file may be half written. Seconds."""


@dataclass(frozen=True, slots=True)
class FileSnapshot:
    """One read of the files.

    It has a digest of their names and contents, and the first problem that makes them unusable.
    """

    digest: str
    problem: str = ""


def snapshot(paths: Sequence[Path]) -> FileSnapshot:
    """Read the files once. A file that is not regular, or too large, is not read."""
    files, problems = files_of(list(paths))
    problem = str(problems[0]) if problems else ""
    digest = hashlib.sha256(problem.encode(errors="surrogateescape"))
    for file in files:
        try:
            content = read_bytes(file)
        except OSError as e:
            content = repr(e).encode()
            problem = problem or f"{file}: {e}"
        digest.update(str(file).encode(errors="surrogateescape") + b"\0" + hashlib.sha256(content).digest())
    return FileSnapshot(digest.hexdigest(), problem)


class Watcher:
    """Files that are read every `interval_s` seconds, and at once after `request`."""

    def __init__(self, paths: Sequence[Path], interval_s: float) -> None:
        self.paths = list(paths)
        self._interval_s = interval_s
        self._due = asyncio.Event()
        self._requested = False

    def request(self) -> None:
        """Request a read at once, as SIGHUP does."""
        self._requested = True
        self._due.set()

    def wake(self) -> None:
        """End the present wait, because an object of the cluster changed."""
        self._due.set()

    async def wait(self) -> bool:
        """Wait until the next read is due. Return whether it was requested."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._interval_s):
                await self._due.wait()
        self._due.clear()
        requested, self._requested = self._requested, False
        return requested

    async def snapshot(self) -> FileSnapshot:
        """Read the files once, in a thread."""
        return await asyncio.to_thread(snapshot, self.paths)

    async def settled(self) -> FileSnapshot | None:
        """Read the files twice, and return None where the reads differ.

        The reads are `SETTLE_S` or the interval apart, whichever is shorter.
        """
        first = await self.snapshot()
        await asyncio.sleep(min(SETTLE_S, self._interval_s))
        second = await self.snapshot()
        return first if first == second else None
