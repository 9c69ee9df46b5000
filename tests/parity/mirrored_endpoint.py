"""Managed pools of a simulated world mirrored on a cloud's counterpart, lock, failed updates and all.

The counterpart has one clock with the world: an update ends, or fails, when that of the world does. What a live adapter
reports must equal the world's status. Two differences are by design, and are checked to be no others:

- The text of a shortfall is the cloud's own.
- Its time is that of the read that found it, and the world's is that of the failure, up to a tick earlier. Decisions
  count a report once, whatever its time.
"""

from __future__ import annotations

import dataclasses
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest

from policies.model import Fresh, PoolName, PoolStatus
from scaler.clock import SystemClock
from scaler.ports import Actuator, Clock, Conflict
from scaler.setup import Setup
from scaler.shared_resources import AdapterContext, Resources
from simulators.experiments.scenario import Case
from simulators.world import ports
from simulators.world.infrastructure.pool import FleetPool
from simulators.world.world import World
from tests.parity.controllers import DEADLINE_S, CallsWithLargeBudgets
from tests.parity.endpoints import EndpointRig
from tests.parity.mirror import sizes


class ClockOfWorld(SystemClock):
    """The system clock, ahead by the world's time since its start."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def now(self) -> float:
        return super().now() + self._world.now - self._world.epoch_s

    def step_s(self) -> float:
        return 0.0


@dataclass
class MirroredEndpoint:
    """An actuator: the live adapter of a managed pool whose platform mirrors `world`."""

    world: Actuator
    fleet: FleetPool
    rig: EndpointRig
    live: Actuator
    endpoint: Endpoint
    truth: PoolStatus = field(default_factory=lambda: PoolStatus(1, 1))
    observed: PoolStatus = field(default_factory=lambda: PoolStatus(1, 1))

    async def status(self) -> Fresh[PoolStatus]:
        """Return the live adapter's status, which must equal the world's."""
        await self.endpoint.show()
        self.observed, truth = (await self.live.status()).value, self.truth
        shown = f"the world is {truth}, and the live adapter reports {self.observed}"
        assert sizes(self.observed) == sizes(truth), shown
        assert _is_quota(self.observed) == _is_quota(truth), shown
        assert self.observed.other_writer is None, shown
        status = dataclasses.replace(self.observed, version="", parts=(), shortfall=truth.shortfall)
        return Fresh(status, self.endpoint.clock.now())

    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        """Resize the world and the platform. Where one of them is locked, the other one is too."""
        try:
            await self.world.resize(replicas, observed)
        except Conflict:
            with pytest.raises(Conflict):
                await self.live.resize(replicas, self.observed)
            raise
        await self.live.resize(replicas, self.observed)
        assert self.rig.is_updating, "the platform began no update"

    async def show(self) -> None:
        """Copy the world's present state to the platform."""
        before, self.truth = self.truth, (await self.world.status()).value
        if self.truth.shortfall not in {None, before.shortfall}:
            self.rig.fail(self.truth.desired - self.truth.failed)
        if self.rig.is_updating and not self.fleet.is_updating:
            self.rig.end()
        self.rig.serve(self.truth.ready)


@dataclass
class Endpoint:
    """The pools that share a lock. Their platform shows one moment of the world to all of them."""

    clock: Clock
    pools: list[MirroredEndpoint] = field(default_factory=list)
    shown_at: float = -1.0

    async def show(self) -> None:
        if self.clock.now() != self.shown_at:
            self.shown_at = self.clock.now()
            for pool in self.pools:
                await pool.show()


def _is_quota(status: PoolStatus) -> bool | None:
    """Return whether the shortfall is a lack of quota; None without a shortfall."""
    return None if status.shortfall is None else status.shortfall.quota


def managed_pools(world: World, case: Case) -> list[PoolName]:
    """Return the pools whose updates hold a lock."""
    return [pool for pool, name in case.pools.items() if world.pools[name].offer.updates is not None]


async def mirror_endpoint(
    stack: AsyncExitStack, rigs: list[EndpointRig], world: World, case: Case, simulated: Setup
) -> dict[PoolName, Actuator]:
    """Return the live adapters of the managed pools, on one platform and in one daemon."""
    resources = await stack.enter_async_context(Resources())
    resources.calls = CallsWithLargeBudgets()
    endpoint = Endpoint(ports.SimulatedClock(world))
    mirrored: dict[PoolName, Actuator] = {}
    for pool, rig in zip(managed_pools(world, case), rigs, strict=True):
        live = await rig.open(AdapterContext(resources, ClockOfWorld(world), DEADLINE_S))
        one = MirroredEndpoint(simulated.actuators[pool], world.pools[case.pools[pool]], rig, live, endpoint)
        endpoint.pools.append(one)
        mirrored[pool] = one
    return mirrored
