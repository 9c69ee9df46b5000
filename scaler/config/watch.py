"""Looks for changed configuration files by reading them: mounted ConfigMaps are swapped by links that events miss."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scaler.config.files import files_of, read_bytes

SETTLE_S: Final = 1.0
"""Between the two reads that must agree before a change is taken: a file being written is not read half."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one read of the files found: a fingerprint of names and contents, and why they cannot be used."""

    digest: str
    problem: str = ""


def look(paths: Sequence[Path]) -> Look:
    """Read the files once. A file that is no regular one, or too large, is not opened or read."""
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
    return Look(digest.hexdigest(), problem)


class Watcher:
    """Files that are read every `every_s` seconds, and at once after `ring`."""

    def __init__(self, paths: Sequence[Path], every_s: float) -> None:
        self.paths = list(paths)
        self._every_s = every_s
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Have the files read at once, as SIGHUP does."""
        self._rung.set()

    async def wait(self) -> bool:
        """Return when it is time for the next look; whether it was rung."""
        try:
            async with asyncio.timeout(self._every_s):
                await self._rung.wait()
        except TimeoutError:
            return False
        self._rung.clear()
        return True

    async def look(self) -> Look:
        """Read the files once, off the event loop."""
        return await asyncio.to_thread(look, self.paths)

    async def settled(self) -> Look | None:
        """Read the files twice, `SETTLE_S` or the interval apart; None where the reads differ."""
        first = await self.look()
        await asyncio.sleep(min(SETTLE_S, self._every_s))
        second = await self.look()
        return first if first == second else None
