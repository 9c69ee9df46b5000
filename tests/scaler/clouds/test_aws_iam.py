"""The IAM policy that we publish for AWS: it is enough for every kind, and there is nothing in it to spare."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from policies.model import Absent, Fresh, PoolName, WorkloadName
from scaler.adapters import open_pool, open_source
from scaler.clock import SystemClock
from scaler.clouds.aws.account import AwsAccount, AwsNotices
from scaler.config.kinds.aws_pools import Asg, AsgWarmPool, Ec2Fleet, Ec2InstantFleet, EksNodeGroup
from scaler.config.kinds.aws_sources import CloudWatch, CloudWatchMetric, Sqs
from scaler.ports import Misconfigured, OutOfCapacity
from scaler.shared_resources import Opening, Resources
from tests.contracts.actuator import settled
from tests.servers.aws import KEYS, REGION, Aws, aws, isolate
from tests.servers.aws_compute import compute
from tests.servers.aws_events import event_queue, warn
from tests.servers.aws_fault import Front, front
from tests.servers.aws_world import Fleet, Group, NodeGroup, World

FILE: Final = Path(__file__).parents[3] / "config" / "deploy" / "aws-iam.json"
POLICY: Final[dict[str, Any]] = json.loads(FILE.read_text())
IN_OUR_NAME: Final = frozenset({"ec2:CreateTags", "ec2:RunInstances", "iam:PassRole"})
"""What CreateFleet does with the caller's rights: no call of ours, and refused without them."""
NEEDS_NONE: Final = frozenset({"sts:GetCallerIdentity"})
FLEET: Final = "fleet-11111111-2222-3333-4444-555555555555"
RESERVATION: Final = "cr-0123456789abcdef0"


def actions(statement: dict[str, Any]) -> list[str]:
    named = statement["Action"]
    return [named] if isinstance(named, str) else list(named)


GRANTED: Final = frozenset(action for statement in POLICY["Statement"] for action in actions(statement))
QUEUE_ONLY: Final = ["sqs:GetQueueAttributes", "cloudwatch:GetMetricData"]


@dataclass
class Place:
    """A world with a pool of every kind, and the actions granted in it."""

    world: World
    cloud: Aws
    resources: Resources
    context: Opening
    account: AwsAccount
    queue: str

    def pools(self) -> dict[str, Any]:
        notices = AwsNotices(queue_url=f"{self.account.endpoint_url}{urlsplit(self.queue).path}")
        account = self.account
        return {
            "asg": Asg(group="asg", account=account, notices=notices, reservation=(RESERVATION,)),
            "launching": Asg(group="launching", account=account, launch="instances"),
            "warm": AsgWarmPool(group="asg", account=account, tier="warm_node", serves=PoolName("asg")),
            "eks": EksNodeGroup(cluster="serving", node_group="h100", account=account),
            "fleet": Ec2Fleet(fleet=FLEET, account=account, market="spot"),
            "instant": Ec2InstantFleet(launch_template="llm", subnets=("subnet-a",), account=account, market="spot"),
        }

    def called(self) -> set[str]:
        """The operations that were called, by the names under which IAM grants them."""
        return {operation for _, operation, _ in self.resources.calls.results}


@contextlib.asynccontextmanager
async def place(granted: frozenset[str]) -> AsyncIterator[Place]:
    world = World(granted=granted)
    zones = ("us-east-1a",)
    world.groups["asg"] = Group("asg", zones, desired=1)
    world.groups["launching"] = Group("launching", zones, desired=1)
    world.nodes["serving", "h100"] = NodeGroup("serving", "h100", Group("eks", zones, desired=1), desired=1)
    world.groups["eks"] = world.nodes["serving", "h100"].group
    world.fleets[FLEET] = Fleet(FLEET, zones, desired=1, market="spot")
    world.reservations.append({"CapacityReservationId": RESERVATION, "State": "active", "TotalInstanceCount": 3})
    async with aws() as cloud, compute(world, cloud.url) as endpoint, Resources() as resources:
        account = AwsAccount(region=REGION, endpoint_url=endpoint.url)
        context = Opening(resources, SystemClock(), 5.0)
        yield Place(world, cloud, resources, context, account, await event_queue(cloud))


async def use_everything(there: Place) -> None:
    """Every kind, along every way that calls something of its own."""
    for name, spec in there.pools().items():
        pool: Any = await open_pool(spec, there.context, WorkloadName("llm"), PoolName(name))
        await pool.resize(3, (await pool.status()).value)
        await pool.status()
        there.world.lacks |= {("*", "on-demand"): "capacity", ("*", "spot"): "capacity"}
        for flock in there.world.flocks():
            there.world.take([i.id for i in flock.instances])
        seen = (await pool.status()).value
        with contextlib.suppress(OutOfCapacity):
            await pool.resize(5, seen)
        await pool.status()
        there.world.lacks.clear()
        await pool.resize(0, (await pool.status()).value)
        assert all(p.granted for p in await pool.permits()), name
    await hear(there)
    await read(there)


async def hear(there: Place) -> None:
    there.world.groups["asg"].desired = 1
    there.world.ready(there.world.groups["asg"], 1)
    pool = await open_pool(there.pools()["asg"], there.context, WorkloadName("llm"), PoolName("asg"))
    await warn(there.cloud, there.world.groups["asg"].instances[0].id)
    await settled(pool, lambda s: s.interruption_pending == 1)


async def read(there: Place) -> None:
    queue = await there.cloud.queue("prompts")
    await (await open_source(Sqs(queue_url=queue, account=there.account, oldest_age=True), there.context)).sample()
    metric = CloudWatchMetric(namespace="LLM", metric="Requests")
    await (await open_source(CloudWatch(metrics={"n": metric}, account=there.account), there.context)).sample()


@pytest.mark.slow
async def test_every_kind_does_all_it_can_with_what_is_granted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path, **KEYS)
    async with place(GRANTED) as there:
        await use_everything(there)
        assert there.called() - NEEDS_NONE == GRANTED - IN_OUR_NAME
        assert {result for _, _, result in there.resources.calls.results} <= {"ok", "out_of_capacity"}


@pytest.mark.parametrize(
    ("pool", "action"),
    [
        ("asg", "autoscaling:SetDesiredCapacity"),
        ("launching", "autoscaling:LaunchInstances"),
        ("warm", "autoscaling:PutWarmPool"),
        ("eks", "eks:UpdateNodegroupConfig"),
        ("fleet", "ec2:ModifyFleet"),
        ("instant", "ec2:CreateFleet"),
    ],
)
async def test_what_is_not_granted_is_told_before_it_is_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pool: str, action: str
) -> None:
    isolate(monkeypatch, tmp_path, **KEYS)
    async with place(GRANTED - {action}) as there:
        opened: Any = await open_pool(there.pools()[pool], there.context, WorkloadName("llm"), PoolName(pool))
        seen = (await opened.status()).value
        denied = {p.action: p.detail for p in await opened.permits() if p.granted is False}
        assert list(denied) == [action]
        assert "implicitDeny" in denied[action]
        with pytest.raises(Misconfigured, match="not authorized"):
            await opened.resize(seen.desired + 1, seen)


async def test_without_leave_to_ask_nothing_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path, **KEYS)
    async with place(GRANTED - {"iam:SimulatePrincipalPolicy"}) as there:
        opened: Any = await open_pool(there.pools()["asg"], there.context, WorkloadName("llm"), PoolName("asg"))
        permits = await opened.permits()
        assert permits
        assert {p.granted for p in permits} == {None}


async def sample_as(
    monkeypatch: pytest.MonkeyPatch, tmp: Path, allowed: list[str]
) -> tuple[dict[str, Fresh[float] | Absent], Front]:
    """What a FIFO queue with all that we can read gives to a user with these actions alone, and what was asked."""
    async with aws() as cloud, front(cloud.url) as words, Resources() as resources:
        queue = await cloud.queue("ordered.fifo")
        key, secret = await cloud.user(allowed)
        isolate(monkeypatch, tmp, AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret)
        account = AwsAccount(region=REGION, endpoint_url=words.url)
        spec = Sqs(queue_url=queue, account=account, oldest_age=True, groups=True)
        clock = SystemClock()
        for metric in ("ApproximateAgeOfOldestMessage", "ApproximateNumberOfGroupsWithInflightMessages"):
            cloud.metric(queue, metric, 5, clock.now() - 120)
        async with cloud.strangers_refused():
            source = await open_source(spec, Opening(resources, clock, 5.0))
            return dict(await source.sample()), words


async def test_the_policy_is_enough_for_all_of_a_queue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found, words = await sample_as(monkeypatch, tmp_path, QUEUE_ONLY)
    assert {q for q, reading in found.items() if isinstance(reading, Fresh)} == {
        "visible",
        "in_flight",
        "delayed",
        "oldest_age_s",
        "groups_in_flight",
    }
    assert sorted({f"{a.service}:{a.operation}" for a in words.asked}) == sorted(QUEUE_ONLY)
    assert set(QUEUE_ONLY) <= GRANTED


async def test_without_leave_to_count_it_is_misconfigured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="AccessDenied"):
        await sample_as(monkeypatch, tmp_path, ["cloudwatch:GetMetricData"])


async def test_without_leave_for_metrics_the_counts_still_come(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found, _ = await sample_as(monkeypatch, tmp_path, ["sqs:GetQueueAttributes"])
    assert isinstance(found["visible"], Fresh)
    assert isinstance(age := found["oldest_age_s"], Absent)
    assert "AccessDenied" in age.reason


def test_what_writes_is_granted_for_named_resources_only() -> None:
    reads = ("Describe", "Get", "List")
    for statement in POLICY["Statement"]:
        writing = [a for a in actions(statement) if not a.partition(":")[2].startswith(reads)]
        if writing and statement["Resource"] == "*":
            assert statement["Condition"], f"{writing} on everything"
        assert all("*" not in action for action in actions(statement))
