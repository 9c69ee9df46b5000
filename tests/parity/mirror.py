"""A simulated world shown on a real platform, so that live adapters see it, and act on it.

A live pool resizes its platform; the platform's size is then asked of the world, and what comes of it there (replicas
that start, serve, are doomed and taken) is shown on the platform before the adapter is asked again. So both kinds of
adapter stand before one world, and a controller over either must come to the same decisions.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from policies.model import Absent, Fresh, PoolStatus
from scaler.ports import Actuator, Clock, OutOfCapacity, Source
from tests.contracts.actuator import ActuatorRig
from tests.contracts.source import SourceRig

SETTLE_S: Final = 6.0
"""The longest that a platform may take to show what it was told; shorter than the deadline of a turn."""
AT_ONCE_S: Final = 5.0
"""A live reading so young was taken in this turn."""


@dataclass
class MirroredPool:
    """The actuator's port: the live adapter, over a platform that follows `world`."""

    world: Actuator
    rig: ActuatorRig
    live: Actuator
    clock: Clock
    shown: PoolStatus = field(default_factory=lambda: PoolStatus(2, 2))

    async def status(self) -> Fresh[PoolStatus]:
        """What the live adapter tells, once it tells of sizes what the world is; fails with both where it does not."""
        truth = (await self.world.status()).value
        await self._show(truth)
        told = await self._settled(truth)
        return Fresh(dataclasses.replace(told, version="", parts=()), self.clock.now())

    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        """Resize the platform, and the world by what the platform was then asked for."""
        current = (await self.live.status()).value
        try:
            await self.world.resize(replicas, observed)
        except OutOfCapacity:
            assert await self.rig.run_out(), "the platform accepts what the world refuses"
            await self.live.resize(replicas, current)
            raise AssertionError("the world has no capacity, and the live adapter did not say so") from None
        await self.live.resize(replicas, current)
        assert await self.rig.size() == replicas
        self.shown = dataclasses.replace(self.shown, desired=replicas)

    async def _show(self, truth: PoolStatus) -> None:
        """Let the platform become what the world is now."""
        shown = self.shown
        if truth.desired != shown.desired:
            await self.rig.set_size(truth.desired)
        taken = truth.interrupted - shown.interrupted
        if taken:
            assert await self.rig.take(taken), "the platform cannot take replicas"
        if truth.interruption_pending > max(0, shown.interruption_pending - taken):
            assert await self.rig.doom(truth.interruption_pending), "the platform announces nothing"
        if truth.ready != shown.ready - taken:
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
            raise AssertionError(f"the world is {truth}, and the live adapter tells {last}") from None
        return last


def sizes(status: PoolStatus) -> tuple[int, ...]:
    """What a decision rests on."""
    return (status.desired, status.ready, status.pending, status.interruption_pending, status.interrupted)


@dataclass
class MirroredSource:
    """The source's port: the live adapter, over a service that tells what `world` tells of the rig's quantity."""

    world: Source
    rig: SourceRig
    live: Source
    wall: Clock

    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        """The live reading, once it is the world's, with its age carried over to the world's time."""
        quantity = self.rig.quantity
        truth = (await self.world.sample())[quantity]
        assert isinstance(truth, Fresh)
        await self.rig.answer(truth.value)
        reading = (await self.live.sample())[quantity]
        assert isinstance(reading, Fresh), f"{quantity}: {reading}"
        assert reading.value == truth.value, f"{quantity} is {truth.value}, and the live adapter tells {reading.value}"
        age_s = self.wall.now() - reading.measured_at
        assert abs(age_s) < AT_ONCE_S, f"{quantity} was set just now, and is told to be {age_s:.0f} s old"
        return {quantity: Fresh(reading.value, truth.measured_at, reading.missing)}


@dataclass
class Only:
    """A simulated source, of one quantity."""

    world: Source
    quantity: str

    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        return {self.quantity: (await self.world.sample())[self.quantity]}
