"""Snapshots as objects of a cloud's object storage, which replaces each object as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol, TypeVar

from policies.model import WorkloadName
from scaler.ports import Misconfigured, Permit
from scaler.snapshots.codec import MAX_CHARS
from scaler.snapshots.store import SUFFIX, Stored, name_of, owner_of

T = TypeVar("T")
CONCURRENT_READS: Final = 32
"""Maximum number of objects read at a time: each has some 30 kB, and the start of 1,000 workloads reads 1,000."""
FEW: Final = 8
"""Maximum number of workloads whose objects are listed one by one; of more, all objects are listed."""


class StoredObjects(Protocol):
    """The objects of an installation, by name. Each method raises port errors."""

    async def sizes(self, beginning: str) -> Mapping[str, int]:
        """Return the size in bytes of each object whose name begins so."""

    async def get(self, name: str) -> bytes:
        """Return an object's content. Raises `Misconfigured` where there is none."""

    async def put(self, name: str, content: bytes) -> None:
        """Create or replace an object."""

    async def delete(self, name: str) -> None:
        """Delete an object. Raises `Misconfigured` where there is none."""

    async def permits(self) -> Sequence[Permit]:
        """Return a permit for each needed action, without a write."""


class SnapshotObjects:
    """The store's port."""

    def __init__(self, objects: StoredObjects) -> None:
        self._objects = objects
        self._reads = asyncio.Semaphore(CONCURRENT_READS)

    async def read(self, workloads: Sequence[WorkloadName]) -> Sequence[Stored]:
        beginnings = [f"{workload}@" for workload in workloads] if len(workloads) <= FEW else [""]
        listed = await asyncio.gather(*map(self._objects.sizes, beginnings))
        wanted = set(workloads)
        sizes = {name: size for part in listed for name, size in part.items() if name.endswith(SUFFIX)}
        reads = [self._stored(name, size) for name, size in sizes.items() if owner_of(name)[0] in wanted]
        return await asyncio.gather(*reads)

    async def _stored(self, name: str, size: int) -> Stored:
        """Return an object's snapshot, without content where that is too long or gone."""
        content: bytes | None = None
        if size <= MAX_CHARS:
            async with self._reads:
                content = await self._if_there(name, self._objects.get)
        return Stored(*owner_of(name), None if content is None else content.decode(errors="replace"))

    async def write(self, workload: WorkloadName, writer: str, text: str) -> None:
        await self._objects.put(name_of(workload, writer), text.encode())

    async def delete(self, workload: WorkloadName, writer: str) -> None:
        await self._if_there(name_of(workload, writer), self._objects.delete)

    async def permits(self) -> Sequence[Permit]:
        return await self._objects.permits()

    async def _if_there(self, name: str, call: Callable[[str], Awaitable[T]]) -> T | None:
        """Return the result of a call for an object; None where another daemon deleted it meanwhile."""
        try:
            return await call(name)
        except Misconfigured:
            if name in await self._objects.sizes(name):
                raise
            return None
