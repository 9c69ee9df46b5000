"""Whatever shape an answer of AWS's has, an adapter tells what is true or a port error, and no loop ends."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import pytest

from policies.model import PoolName
from scaler.adapters import open_source
from scaler.clouds.aws.account import AwsAccount
from scaler.clouds.aws.events import EventQueueReader
from scaler.clouds.aws.session import service
from scaler.clouds.interruptions import board
from scaler.config.kinds.aws_pools import Asg, AsgWarmPool, Ec2Fleet, Ec2InstantFleet, EksNodeGroup
from scaler.config.kinds.aws_sources import CloudWatch, CloudWatchMetric, Sqs
from scaler.ports import PortError
from scaler.shared_resources import Opening, Resources
from tests.scaler.clouds.aws_place import FLEET, A, B, Place
from tests.servers.aws import KEYS, REGION, aws, isolate
from tests.servers.aws_cloudwatch import cloudwatch
from tests.servers.aws_compute import compute
from tests.servers.aws_events import WARNING
from tests.servers.aws_handlers import finish
from tests.servers.aws_world import Fleet, Flock, Group, NodeGroup, World
from tests.servers.spoiling import (
    STRANGE,
    WRITTEN,
    Ahead,
    Holds,
    Lane,
    anything,
    hasty,
    same_pool,
    same_pool_or_fair,
    same_readings,
    spoil_everything,
    spoiled,
    spots,
)

LANES: Final = 4
Arrange: TypeAlias = Callable[[Place], Awaitable[Callable[[], Awaitable[Any]]]]
"""What fills a place, and gives what is asked there."""
BOUGHT: Final[dict[str, Any]] = {"launch_template": "llm", "subnets": ("subnet-a", "subnet-b"), "market": "spot"}
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
        assert await spoil_everything(*made, strange=[*WRITTEN, [], {}], only="eks:") > 150


@pytest.mark.slow
@pytest.mark.parametrize("launch", ["desired_capacity", "instances"])
async def test_answers_to_the_writes_of_a_group(launch: str) -> None:
    """Whatever a write is answered, no instance more than was asked for comes, also when it is said again."""

    async def arrange(place: Place) -> Callable[[], Awaitable[Any]]:
        its_group = place.world.groups["llm"] = Group("llm", (A, B), desired=2)
        place.world.ready(its_group, 2)

        async def grow() -> None:
            pool = await place.open(Asg, group="llm", launch=launch)
            try:
                await again(pool, 4)
            finally:
                size, its_group.desired = its_group.desired, 2
                place.world.ready(its_group, 2)
                assert size in {2, 4}

        return grow

    async with lanes(arrange, anything) as made:
        assert await spoil_everything(*made, strange=WRITTEN) > 100


@pytest.mark.slow
async def test_answers_to_a_purchase() -> None:
    async def arrange(place: Place) -> Callable[[], Awaitable[Any]]:
        async def buy() -> None:
            pool = await place.open(Ec2InstantFleet, **BOUGHT)
            try:
                await again(pool, 2)
            finally:
                bought = len(place.world.loose)
                place.world.loose.clear()
                assert bought in {0, 2}

        return buy

    async with lanes(arrange, anything) as made:
        assert await spoil_everything(*made, strange=WRITTEN) > 100


@pytest.mark.slow
async def test_answers_to_an_update_and_what_becomes_of_it() -> None:
    async def arrange(place: Place) -> Callable[[], Awaitable[Any]]:
        nodes = NodeGroup("serving", "h100", Group("eks", (A, B), desired=2), desired=2, slow=True)
        place.world.groups["eks"], place.world.nodes["serving", "h100"] = nodes.group, nodes
        place.world.ready(nodes.group, 2)

        async def grow() -> None:
            pool = await place.open(EksNodeGroup, cluster="serving", node_group="h100")
            try:
                await again(pool, 4)
                assert (await pool.status()).value.desired == 4
                finish(nodes, error={"errorCode": "InsufficientFreeAddresses", "errorMessage": "subnet-1 has none"})
                assert (await pool.status()).value.desired in {2, 4}
            finally:
                finish(nodes)
                assert len(nodes.updates) <= 1
                nodes.desired = nodes.group.desired = 2
                nodes.updates.clear()
                nodes.tokens.clear()

        return grow

    async with lanes(arrange, anything) as made:
        assert await spoil_everything(*made, strange=WRITTEN[:4], only=("eks:Up", "eks:DescribeUp")) > 60


async def again(pool: Any, replicas: int) -> None:
    """A resize, and once more in the next turn where it failed."""
    try:
        await pool.resize(replicas, (await pool.status()).value)
    except PortError:
        await pool.resize(replicas, (await pool.status()).value)


@pytest.mark.slow
async def test_answers_about_a_queue() -> None:
    async def arrange(place: Place) -> Callable[[], Awaitable[Any]]:
        url = await place.cloud.queue("prompts")
        spec = Sqs(queue_url=url, account=place.account)
        await place.cloud.drain(url)
        await place.cloud.send(url, 3)
        source = await open_source(spec, place.context)
        return source.sample

    async with lanes(arrange, same_readings) as made:
        assert await spoil_everything(*made) > 40


@pytest.mark.slow
async def test_answers_of_cloudwatch() -> None:
    async with cloudwatch() as server, Resources() as resources:
        clock = Ahead()
        account = AwsAccount(region=REGION, endpoint_url=server.url)
        metric = CloudWatchMetric(namespace="AWS/SageMaker", metric="Concurrency")
        source = await open_source(
            CloudWatch(metrics={"concurrency": metric}, account=account), Opening(hasty(resources), clock, 5.0)
        )

        async def sample() -> Any:
            begun = clock.now() // 60 * 60 - 120
            server.samples.clear()
            server.put("Concurrency", begun - 60, 8.0)
            server.put("Concurrency", begun, 8.0)
            return await source.sample()

        assert await spoil_everything(Lane(server, sample, clock, same_readings)) > 40


async def test_events_of_the_queue_of_notices() -> None:
    """The reader goes on, whatever it hears."""
    async with aws() as cloud, Resources() as resources:
        context = Opening(resources, Ahead(), 5.0)
        sqs = await service(context, "sqs", AwsAccount(region=REGION, endpoint_url=cloud.url))
        events = EventQueueReader(sqs, "http://127.0.0.1/1/notices", await board(context), context.clock)
        said = {"instance-id": "i-1", "instance-action": "terminate"}
        whole = {"detail-type": WARNING, "source": "aws.ec2", "time": "2026-11-27T15:00:00Z", "detail": said}
        for told in (whole, {"Type": "Notification", "Message": json.dumps(whole)}):
            for path in spots(told):
                for strange in STRANGE:
                    events._handle(json.dumps(spoiled(told, path, strange)))


@pytest.mark.slow
async def test_answers_about_what_is_permitted() -> None:
    async def arrange(place: Place) -> Callable[[], Awaitable[Any]]:
        group(place.world)
        pool = await place.open(Asg, group="llm")
        return cast("Callable[[], Awaitable[Any]]", pool.permits)

    async with lanes(arrange, anything) as made:
        assert await spoil_everything(*made, strange=WRITTEN) > 20
