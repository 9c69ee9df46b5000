"""A simulated world mirrored on a cloud's test server, so that live adapters read it and resize it.

A live pool resizes its platform, and the same size is requested from the world. The world's replicas (starting, ready,
with a pending interruption, interrupted) are copied to the platform before the adapter reads it again. Both kinds of
adapter thus have the same world, and a controller over either must make the same decisions.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from policies.model import Absent, Fresh, PoolStatus
from scaler.ports import Actuator, Clock, OutOfCapacity, Source
from scaler.shared_resources import AdapterContext
from tests.contracts.actuator import ActuatorRig
from tests.contracts.source import SourceRig

SETTLE_S: Final = 12.0
"""Maximum time until a platform shows a change; shorter than the deadline of a tick. Seconds."""
AT_ONCE_S: Final = 15.0
"""Maximum age of a live reading that was taken in the present tick. Seconds."""


@dataclass
class MirroredPool:
    """An actuator: the live adapter of a platform that mirrors `world`."""

    world: Actuator
    rig: ActuatorRig
    clock: Clock
    live: Actuator = field(init=False)
    shown: PoolStatus = field(default_factory=lambda: PoolStatus(2, 2))

    async def open(self, context: AdapterContext) -> None:
        """Open the live adapter on a platform with the world's size.

        A change after the adapter's first read would be another writer's.
        """
        await self._show((await self.world.status()).value)
        self.live = await self.rig.open(context)

    async def status(self) -> Fresh[PoolStatus]:
        """Return the live adapter's status once its sizes equal the world's; fail with both on a timeout."""
        truth = (await self.world.status()).value
        await self._show(truth)
        status = await self._settled(truth)
        return Fresh(dataclasses.replace(status, version="", parts=()), self.clock.now())

    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        """Resize the world and the platform."""
        current = (await self.live.status()).value
        try:
            await self.world.resize(replicas, observed)
        except OutOfCapacity:
            assert await self.rig.run_out(), "the platform accepts a size that the world refuses"
            await self.live.resize(replicas, current)
            raise AssertionError("the world has no capacity, and the live adapter did not say so") from None
        await self.live.resize(replicas, current)
        assert await self.rig.size() == replicas
        self.shown = dataclasses.replace(self.shown, desired=replicas)

    async def _show(self, truth: PoolStatus) -> None:
        """Copy the world's present state to the platform."""
        shown = self.shown
        if truth.desired != shown.desired:
            await self.rig.set_size(truth.desired)
        interrupted = truth.interrupted - shown.interrupted
        if interrupted:
            assert await self.rig.interrupt(interrupted), "the platform cannot interrupt replicas"
        if truth.interruption_pending > max(0, shown.interruption_pending - interrupted):
            assert await self.rig.announce_interruption(truth.interruption_pending), "the platform has no notices"
        if truth.ready != shown.ready - interrupted:
            await self.rig.set_ready(truth.ready)
        self.shown = truth

    async def _settled(self, truth: PoolStatus) -> PoolStatus:
        last: PoolStatus | None = None
        try:
            async with asyncio.timeout(SETTLE_S):
                while last is None or sizes(last) != sizes(truth):
                    if last is not None:
                        await asyncio.sleep(0.02)
                    last = (await self.live.status()).value
        except TimeoutError:
            raise AssertionError(f"the world is {truth}, and the live adapter reports {last}") from None
        return last


def sizes(status: PoolStatus) -> tuple[int, ...]:
    """Return the counts that decisions depend on."""
    return (status.desired, status.ready, status.pending, status.interruption_pending, status.interrupted)


@dataclass
class MirroredSource:
    """A source: the live adapter of a service that reports the same value of the rig's quantity as `world`."""

    world: Source
    rig: SourceRig
    live: Source
    wall: Clock

    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        """Return the live reading, which must equal the world's, with the world's time."""
        quantity = self.rig.quantity
        truth = (await self.world.sample())[quantity]
        assert isinstance(truth, Fresh)
        await self.rig.answer(truth.value)
        reading = (await self.live.sample())[quantity]
        assert isinstance(reading, Fresh), f"{quantity}: {reading}"
        assert reading.value == truth.value, (
            f"{quantity} is {truth.value}, and the live adapter reports {reading.value}"
        )
        age_s = self.wall.now() - reading.measured_at
        assert abs(age_s) < AT_ONCE_S, f"{quantity} was set just now, and its reading is {age_s:.0f} s old"
        return {quantity: Fresh(reading.value, truth.measured_at, reading.missing)}


@dataclass
class Only:
    """A simulated source restricted to one quantity."""

    world: Source
    quantity: str

    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        return {self.quantity: (await self.world.sample())[self.quantity]}
