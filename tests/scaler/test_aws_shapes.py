"""Whatever shape an answer of AWS's has, an adapter tells what is true or a port error, and no loop ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest

from policies.model import PoolName
from scaler.actuators.asg import Asg
from scaler.actuators.asg_warm_pool import AsgWarmPool
from scaler.actuators.ec2_fleet import Ec2Fleet
from scaler.actuators.ec2_instant_fleet import Ec2InstantFleet
from scaler.actuators.eks_node_group import EksNodeGroup
from scaler.resources import Opening, Resources
from tests.scaler.aws_place import FLEET, A, B, Place
from tests.servers.aws import KEYS, aws, isolate
from tests.servers.aws_compute import compute
from tests.servers.aws_world import Fleet, Flock, Group, NodeGroup, World
from tests.servers.spoiling import (
    WRITTEN,
    Ahead,
    Holds,
    Lane,
    hasty,
    same_pool,
    same_pool_or_fair,
    spoil_everything,
)

LANES: Final = 4
Arrange: TypeAlias = Callable[[Place], Awaitable[Callable[[], Awaitable[Any]]]]
"""What fills a place, and gives what is asked there."""
BOUGHT: Final = {"launch_template": "llm", "subnets": ("subnet-a", "subnet-b"), "market": "spot"}
RESERVATION: Final = {"CapacityReservationId": "cr-00000001", "State": "active", "TotalInstanceCount": 3}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path, **KEYS)


@contextlib.asynccontextmanager
async def lanes(
    arrange: Arrange, holds: Holds = same_pool, optional: frozenset[str] = frozenset()
) -> AsyncIterator[list[Lane]]:
    async with contextlib.AsyncExitStack() as stack:
        cloud = await stack.enter_async_context(aws())
        made: list[Lane] = []
        for _ in range(LANES):
            endpoint = await stack.enter_async_context(compute(World(), cloud.url))
            resources = hasty(await stack.enter_async_context(Resources()))
            clock = Ahead()
            place = Place(endpoint.world, cloud, endpoint, resources, Opening(resources, clock, 5.0))
            made.append(Lane(endpoint, await arrange(place), clock, holds, optional))
        yield made


async def statuses(place: Place, kind: type, **keys: Any) -> Callable[[], Awaitable[Any]]:
    pool = await place.open(kind, **keys)

    async def ask() -> Any:
        return (await pool.status()).value

    return ask


def group(world: World, **more: Any) -> Group:
    """One of three instances, of which two serve and the last does not come."""
    made = world.groups["llm"] = Group("llm", (A, B), desired=2, **more)
    world.ready(made, 2)
    made.desired = 3
    made.suspended = ("AZRebalance", "Launch")
    made.told = [(time.time(), A, "capacity")]
    return made


@pytest.mark.slow
async def test_answers_about_a_group_that_mixes_its_markets() -> None:
    async def arrange(place: Place) -> Callable[[], Awaitable[Any]]:
        group(place.world, spot_share=0.5)
        place.world.reservations.append(RESERVATION)
        return await statuses(place, Asg, group="llm", reservation=("cr-00000001",))

    async with lanes(arrange) as made:
        assert await spoil_everything(*made, strange=WRITTEN) > 400


@pytest.mark.slow
async def test_answers_about_a_warm_pool() -> None:
    async def arrange(place: Place) -> Callable[[], Awaitable[Any]]:
        its_group = group(place.world)
        its_group.warm, its_group.prepared = Flock("warm", (A,), least=3, told=[(time.time(), A, "quota")]), 3
        place.world.settle()
        place.world.ready(its_group.warm, 2)
        its_group.warm.instances.pop()
        return await statuses(place, AsgWarmPool, group="llm", tier="warm_node", serves=PoolName("gpus"))

    async with lanes(arrange, same_pool_or_fair, frozenset({"WarmPoolConfiguration"})) as made:
        assert await spoil_everything(*made, strange=WRITTEN) > 300


@pytest.mark.slow
async def test_answers_about_a_fleet() -> None:
    async def arrange(place: Place) -> Callable[[], Awaitable[Any]]:
        fleet = place.world.fleets[FLEET] = Fleet(FLEET, (A, B), market="spot", desired=2)
        place.world.ready(fleet, 2)
        place.world.lacks["*", "spot"] = "capacity"
        fleet.desired = 3
        fleet.told = [(time.time() + 1e7, A, "capacity")]
        return await statuses(place, Ec2Fleet, fleet=FLEET, market="spot")

    async with lanes(arrange) as made:
        assert await spoil_everything(*made, strange=WRITTEN) > 200


@pytest.mark.slow
async def test_answers_about_instances_that_were_bought() -> None:
    async def arrange(place: Place) -> Callable[[], Awaitable[Any]]:
        tags = {"forescale:pool": "llm/gpus"}
        place.world.loose += [place.world.instance(zone, "p5.48xlarge", "spot", tags) for zone in (A, B)]
        place.world.loose[0].up = True
        return await statuses(place, Ec2InstantFleet, **BOUGHT)

    async with lanes(arrange, same_pool_or_fair) as made:
        assert await spoil_everything(*made, strange=WRITTEN) > 100


@pytest.mark.slow
async def test_answers_about_a_node_group() -> None:
    async def arrange(place: Place) -> Callable[[], Awaitable[Any]]:
        nodes = place.world.nodes["serving", "h100"] = NodeGroup("serving", "h100", group(place.world), desired=3)
        nodes.group.told = []
        nodes.issues.append({"code": "InstanceLimitExceeded", "message": "no more of these", "resourceIds": []})
        return await statuses(place, EksNodeGroup, cluster="serving", node_group="h100", market="spot")

    async with lanes(arrange) as made:
        assert await spoil_everything(*made, strange=[*WRITTEN, [], {}]) > 400
