"""A malformed response of AWS gives a true value or a port error, and ends no loop."""

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
from scaler.config.kinds.sagemaker_pools import SageMakerInferenceComponent, SageMakerVariant
from scaler.ports import PortError
from scaler.shared_resources import AdapterContext, Resources
from tests.factories import DEADLINE_S
from tests.scaler.clouds.aws_place import FLEET, A, AwsEnvironment, B
from tests.servers.aws import KEYS, REGION, aws, isolate
from tests.servers.aws_cloudwatch import cloudwatch
from tests.servers.aws_compute import compute
from tests.servers.aws_events import WARNING
from tests.servers.aws_handlers import finish
from tests.servers.aws_sagemaker import Component, Endpoint, Scalable, Sized, activity, finish_component
from tests.servers.aws_world import Fleet, Group, InstanceSet, NodeGroup, World
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
Arrange: TypeAlias = Callable[[AwsEnvironment], Awaitable[Callable[[], Awaitable[Any]]]]
"""Fills an account, and returns the call to test there."""
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
        opened: list[Lane] = []
        for _ in range(LANES):
            endpoint = await stack.enter_async_context(compute(World(), cloud.url))
            resources = hasty(await stack.enter_async_context(Resources()))
            clock = Ahead()
            env = AwsEnvironment(
                endpoint.world, cloud, endpoint, resources, AdapterContext(resources, clock, DEADLINE_S)
            )
            opened.append(Lane(endpoint, await arrange(env), clock, holds, optional))
        yield opened


async def statuses(env: AwsEnvironment, kind: type, **keys: Any) -> Callable[[], Awaitable[Any]]:
    pool = await env.open(kind, **keys)

    async def read_value() -> Any:
        return (await pool.status()).value

    return read_value


def group(world: World, **more: Any) -> Group:
    """Create a group of three instances, of which two serve and the last fails to launch."""
    instance_group = world.groups["llm"] = Group("llm", (A, B), desired=2, **more)
    world.ready(instance_group, 2)
    instance_group.desired = 3
    instance_group.suspended = ("AZRebalance", "Launch")
    instance_group.activities = [(time.time(), A, "capacity")]
    return instance_group


@pytest.mark.slow
async def test_malformed_responses_for_a_mixed_group() -> None:
    async def arrange(env: AwsEnvironment) -> Callable[[], Awaitable[Any]]:
        group(env.world, spot_share=0.5)
        env.world.reservations.append(RESERVATION)
        return await statuses(env, Asg, group="llm", reservation=("cr-00000001",))

    async with lanes(arrange) as opened:
        assert await spoil_everything(*opened, strange=WRITTEN) > 400


@pytest.mark.slow
async def test_malformed_responses_for_a_warm_pool() -> None:
    async def arrange(env: AwsEnvironment) -> Callable[[], Awaitable[Any]]:
        its_group = group(env.world)
        its_group.warm, its_group.prepared = (
            InstanceSet("warm", (A,), min_size=3, activities=[(time.time(), A, "quota")]),
            3,
        )
        env.world.settle()
        env.world.ready(its_group.warm, 2)
        its_group.warm.instances.pop()
        return await statuses(env, AsgWarmPool, group="llm", tier="warm_node", serves=PoolName("gpus"))

    async with lanes(arrange, same_pool_or_fair, frozenset({"WarmPoolConfiguration"})) as opened:
        assert await spoil_everything(*opened, strange=WRITTEN) > 300


@pytest.mark.slow
async def test_malformed_responses_for_a_fleet() -> None:
    async def arrange(env: AwsEnvironment) -> Callable[[], Awaitable[Any]]:
        fleet = env.world.fleets[FLEET] = Fleet(FLEET, (A, B), market="spot", desired=2)
        env.world.ready(fleet, 2)
        env.world.shortages["*", "spot"] = "capacity"
        fleet.desired = 3
        fleet.activities = [(time.time() + 1e7, A, "capacity")]
        return await statuses(env, Ec2Fleet, fleet=FLEET, market="spot")

    async with lanes(arrange) as opened:
        assert await spoil_everything(*opened, strange=WRITTEN) > 200


@pytest.mark.slow
async def test_malformed_responses_for_instances_of_an_instant_fleet() -> None:
    async def arrange(env: AwsEnvironment) -> Callable[[], Awaitable[Any]]:
        tags = {"forescale:pool": "llm/gpus"}
        env.world.standalone += [env.world.instance(zone, "p5.48xlarge", "spot", tags) for zone in (A, B)]
        env.world.standalone[0].up = True
        return await statuses(env, Ec2InstantFleet, **BOUGHT)

    async with lanes(arrange, same_pool_or_fair) as opened:
        assert await spoil_everything(*opened, strange=WRITTEN) > 100


@pytest.mark.slow
async def test_malformed_responses_for_a_node_group() -> None:
    async def arrange(env: AwsEnvironment) -> Callable[[], Awaitable[Any]]:
        nodes = env.world.nodes["serving", "h100"] = NodeGroup("serving", "h100", group(env.world), desired=3)
        nodes.group.activities = []
        nodes.issues.append({"code": "InstanceLimitExceeded", "message": "no more of these", "resourceIds": []})
        return await statuses(env, EksNodeGroup, cluster="serving", node_group="h100", market="spot")

    async with lanes(arrange) as opened:
        assert await spoil_everything(*opened, strange=[*WRITTEN, [], {}], only="eks:") > 150


@pytest.mark.slow
async def test_malformed_responses_for_an_endpoint_and_its_native_autoscaler() -> None:
    async def arrange(env: AwsEnvironment) -> Callable[[], Awaitable[Any]]:
        env.world.sagemaker.endpoints["chat"] = Endpoint("chat", [Sized("a", 2, 2), Sized("b", 1, 1)], managed=False)
        target = env.world.sagemaker.targets["endpoint/chat/variant/a"] = Scalable("endpoint/chat/variant/a", minimum=3)
        env.world.sagemaker.endpoints["chat"].variants[0].quota = 2  # the minimum is not reached
        activity(target, "Unfulfilled", "no capacity", time.time() + 1e6)
        return await statuses(env, SageMakerVariant, endpoint="chat", variant="a", native="floor")

    async with lanes(arrange, same_pool_or_fair) as opened:
        assert await spoil_everything(*opened, strange=[*WRITTEN, [], {}]) > 150


@pytest.mark.slow
async def test_malformed_responses_to_a_resize_of_a_component() -> None:
    async def arrange(env: AwsEnvironment) -> Callable[[], Awaitable[Any]]:
        copies = env.world.sagemaker.components["copies"] = Component("copies", 2, 2, endpoint="chat")

        async def grow() -> None:
            pool = await env.open(SageMakerInferenceComponent, component="copies")
            try:
                await resize_with_retry(pool, 4)
                finish_component(copies)
                assert (await pool.status()).value.desired in {2, 4}
            finally:
                size, copies.desired, copies.current, copies.state = copies.desired, 2, 2, "InService"
                assert size in {2, 4}

        return grow

    async with lanes(arrange, anything) as opened:
        assert await spoil_everything(*opened, strange=WRITTEN) > 60


@pytest.mark.slow
@pytest.mark.parametrize("launch", ["desired_capacity", "instances"])
async def test_malformed_responses_to_writes_launch_no_extra_instance(launch: str) -> None:
    """After any response to a write, even with a retry, no instance beyond the requested ones is launched."""

    async def arrange(env: AwsEnvironment) -> Callable[[], Awaitable[Any]]:
        its_group = env.world.groups["llm"] = Group("llm", (A, B), desired=2)
        env.world.ready(its_group, 2)

        async def grow() -> None:
            pool = await env.open(Asg, group="llm", launch=launch)
            try:
                await resize_with_retry(pool, 4)
            finally:
                size, its_group.desired = its_group.desired, 2
                env.world.ready(its_group, 2)
                assert size in {2, 4}

        return grow

    async with lanes(arrange, anything) as opened:
        assert await spoil_everything(*opened, strange=WRITTEN) > 100


@pytest.mark.slow
async def test_malformed_responses_to_a_launch_request() -> None:
    async def arrange(env: AwsEnvironment) -> Callable[[], Awaitable[Any]]:
        async def buy() -> None:
            pool = await env.open(Ec2InstantFleet, **BOUGHT)
            try:
                await resize_with_retry(pool, 2)
            finally:
                bought = len(env.world.standalone)
                env.world.standalone.clear()
                assert bought in {0, 2}

        return buy

    async with lanes(arrange, anything) as opened:
        assert await spoil_everything(*opened, strange=WRITTEN) > 100


@pytest.mark.slow
async def test_malformed_responses_to_a_node_group_update() -> None:
    async def arrange(env: AwsEnvironment) -> Callable[[], Awaitable[Any]]:
        nodes = NodeGroup("serving", "h100", Group("eks", (A, B), desired=2), desired=2, slow=True)
        env.world.groups["eks"], env.world.nodes["serving", "h100"] = nodes.group, nodes
        env.world.ready(nodes.group, 2)

        async def grow() -> None:
            pool = await env.open(EksNodeGroup, cluster="serving", node_group="h100")
            try:
                await resize_with_retry(pool, 4)
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

    async with lanes(arrange, anything) as opened:
        assert await spoil_everything(*opened, strange=WRITTEN[:4], only=("eks:Up", "eks:DescribeUp")) > 60


async def resize_with_retry(pool: Any, replicas: int) -> None:
    """Resize, and retry once in the next tick after a failure."""
    try:
        await pool.resize(replicas, (await pool.status()).value)
    except PortError:
        await pool.resize(replicas, (await pool.status()).value)


@pytest.mark.slow
async def test_malformed_responses_for_a_queue() -> None:
    async def arrange(env: AwsEnvironment) -> Callable[[], Awaitable[Any]]:
        url = await env.cloud.queue("prompts")
        spec = Sqs(queue_url=url, account=env.account)
        await env.cloud.drain(url)
        await env.cloud.send(url, 3)
        source = await open_source(spec, env.context)
        return source.sample

    async with lanes(arrange, same_readings) as opened:
        assert await spoil_everything(*opened) > 40


@pytest.mark.slow
async def test_malformed_responses_of_cloudwatch() -> None:
    async with cloudwatch() as server, Resources() as resources:
        clock = Ahead()
        account = AwsAccount(region=REGION, endpoint_url=server.url)
        metric = CloudWatchMetric(namespace="AWS/SageMaker", metric="Concurrency")
        source = await open_source(
            CloudWatch(metrics={"concurrency": metric}, account=account),
            AdapterContext(hasty(resources), clock, DEADLINE_S),
        )

        async def sample() -> Any:
            begun = clock.now() // 60 * 60 - 120
            server.samples.clear()
            server.put("Concurrency", begun - 60, 8.0)
            server.put("Concurrency", begun, 8.0)
            return await source.sample()

        assert await spoil_everything(Lane(server, sample, clock, same_readings)) > 40


async def test_malformed_events_of_the_notice_queue() -> None:
    """The reader continues after any event."""
    async with aws() as cloud, Resources() as resources:
        context = AdapterContext(resources, Ahead(), DEADLINE_S)
        sqs = await service(context, "sqs", AwsAccount(region=REGION, endpoint_url=cloud.url))
        events = EventQueueReader(sqs, "http://127.0.0.1/1/notices", await board(context), context.clock)
        detail = {"instance-id": "i-1", "instance-action": "terminate"}
        whole = {"detail-type": WARNING, "source": "aws.ec2", "time": "2026-11-27T15:00:00Z", "detail": detail}
        for event in (whole, {"Type": "Notification", "Message": json.dumps(whole)}):
            for path in spots(event):
                for strange in STRANGE:
                    events._handle(json.dumps(spoiled(event, path, strange)))


@pytest.mark.slow
async def test_malformed_responses_for_permissions() -> None:
    async def arrange(env: AwsEnvironment) -> Callable[[], Awaitable[Any]]:
        group(env.world)
        pool = await env.open(Asg, group="llm")
        return cast("Callable[[], Awaitable[Any]]", pool.permits)

    async with lanes(arrange, anything) as opened:
        assert await spoil_everything(*opened, strange=WRITTEN) > 20
