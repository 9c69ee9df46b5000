"""Tells of changed configuration files, by looking: mounted ConfigMaps are swapped by links that events miss."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from scaler.config.files import files_of, read_bytes


async def changes(paths: list[Path], every_s: float) -> AsyncIterator[list[Path]]:
    """Yield `paths` after each change of what they hold. SIGHUP makes it look at once."""
    look = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, look.set)
    last = await asyncio.to_thread(_digest, paths)
    while True:
        try:
            async with asyncio.timeout(every_s):
                await look.wait()
        except TimeoutError:
            pass
        look.clear()
        present = await asyncio.to_thread(_digest, paths)
        if present != last:
            last = present
            yield paths


def _digest(paths: list[Path]) -> str:
    """A fingerprint of the files' names and contents; one that cannot be read counts as empty."""
    digest = hashlib.sha256()
    for path in files_of(paths)[0]:
        digest.update(str(path).encode())
        try:
            digest.update(hashlib.sha256(read_bytes(path)).digest())
        except OSError:
            digest.update(b"unreadable")
    return digest.hexdigest()
