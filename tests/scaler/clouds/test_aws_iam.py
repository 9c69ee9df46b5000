"""The published IAM policy for AWS: it is sufficient for every kind, and has no unused action."""

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
from scaler.config.kinds.sagemaker_pools import SageMakerInferenceComponent, SageMakerVariant
from scaler.ports import Misconfigured, OutOfCapacity
from scaler.shared_resources import AdapterContext, Resources
from tests.contracts.actuator import settled
from tests.factories import DEADLINE_S
from tests.servers.aws import KEYS, REGION, Aws, aws, isolate
from tests.servers.aws_compute import compute
from tests.servers.aws_events import event_queue, warn
from tests.servers.aws_fault import Front, front
from tests.servers.aws_sagemaker import Component, Endpoint, Scalable, Sized
from tests.servers.aws_world import Fleet, Group, NodeGroup, World

FILE: Final = Path(__file__).parents[3] / "config" / "deploy" / "aws-iam.json"
POLICY: Final[dict[str, Any]] = json.loads(FILE.read_text())
CALLED_BY_CREATE_FLEET: Final = frozenset({"ec2:CreateTags", "ec2:RunInstances", "iam:PassRole"})
"""Actions that CreateFleet performs with the caller's permissions: not calls of the daemon."""
NEEDS_NONE: Final = frozenset({"sts:GetCallerIdentity"})
FLEET: Final = "fleet-11111111-2222-3333-4444-555555555555"
RESERVATION: Final = "cr-0123456789abcdef0"


def actions(statement: dict[str, Any]) -> list[str]:
    listed = statement["Action"]
    return [listed] if isinstance(listed, str) else list(listed)


GRANTED: Final = frozenset(action for statement in POLICY["Statement"] for action in actions(statement))
QUEUE_ONLY: Final = ["sqs:GetQueueAttributes", "cloudwatch:GetMetricData"]


@dataclass
class IamEnvironment:
    """An account with a pool of every kind, and the granted actions."""

    world: World
    cloud: Aws
    resources: Resources
    context: AdapterContext
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
            "variant": SageMakerVariant(endpoint="chat", variant="a", account=account, native="take_over"),
            "floor": SageMakerVariant(endpoint="chat", variant="b", account=account, native="floor"),
            "component": SageMakerInferenceComponent(component="copies", account=account),
            "instant": Ec2InstantFleet(launch_template="llm", subnets=("subnet-a",), account=account, market="spot"),
        }

    def called(self) -> set[str]:
        """Return the called operations, by their IAM names."""
        return {operation for _, operation, _ in self.resources.calls.results}


@contextlib.asynccontextmanager
async def iam_environment(granted: frozenset[str]) -> AsyncIterator[IamEnvironment]:
    world = World(granted=granted)
    zones = ("us-east-1a",)
    world.groups["asg"] = Group("asg", zones, desired=1)
    world.groups["launching"] = Group("launching", zones, desired=1)
    world.nodes["serving", "h100"] = NodeGroup("serving", "h100", Group("eks", zones, desired=1), desired=1)
    world.groups["eks"] = world.nodes["serving", "h100"].group
    world.fleets[FLEET] = Fleet(FLEET, zones, desired=1, market="spot")
    variants = [Sized("a", 1, 1), Sized("b", 1, 1, quota=4)]
    world.sagemaker.endpoints["chat"] = Endpoint("chat", variants, start_s=0.0, allows_zero=True)
    world.sagemaker.components["copies"] = Component("copies", 1, 1, endpoint="chat", start_s=0.0)
    for variant in ("a", "b"):
        target = Scalable(f"endpoint/chat/variant/{variant}", minimum=0)
        world.sagemaker.targets[target.resource] = target
    world.reservations.append({"CapacityReservationId": RESERVATION, "State": "active", "TotalInstanceCount": 3})
    async with aws() as cloud, compute(world, cloud.url) as endpoint, Resources() as resources:
        account = AwsAccount(region=REGION, endpoint_url=endpoint.url)
        context = AdapterContext(resources, SystemClock(), 30.0)
        yield IamEnvironment(world, cloud, resources, context, account, await event_queue(cloud))


async def use_everything(env: IamEnvironment) -> None:
    """Exercise every kind in every way that calls a different operation."""
    for name, spec in env.pools().items():
        pool: Any = await open_pool(spec, env.context, WorkloadName("llm"), PoolName(name))
        await pool.resize(3, (await pool.status()).value)
        await pool.status()
        env.world.shortages |= {("*", "on-demand"): "capacity", ("*", "spot"): "capacity"}
        for instance_set in env.world.instance_sets():
            env.world.remove([i.id for i in instance_set.instances])
        observed = (await pool.status()).value
        with contextlib.suppress(OutOfCapacity):
            await pool.resize(5, observed)
        await pool.status()
        env.world.shortages.clear()
        await pool.resize(0, (await pool.status()).value)
        assert all(p.granted for p in await pool.permits()), name
    await receive_notice(env)
    await read(env)


async def receive_notice(env: IamEnvironment) -> None:
    env.world.groups["asg"].desired = 1
    env.world.ready(env.world.groups["asg"], 1)
    pool = await open_pool(env.pools()["asg"], env.context, WorkloadName("llm"), PoolName("asg"))
    await warn(env.cloud, env.world.groups["asg"].instances[0].id)
    await settled(pool, lambda s: s.interruption_pending == 1)


async def read(env: IamEnvironment) -> None:
    queue = await env.cloud.queue("prompts")
    await (await open_source(Sqs(queue_url=queue, account=env.account, oldest_age=True), env.context)).sample()
    metric = CloudWatchMetric(namespace="LLM", metric="Requests")
    await (await open_source(CloudWatch(metrics={"n": metric}, account=env.account), env.context)).sample()


@pytest.mark.slow
async def test_iam_policy_suffices_for_every_kind_and_grants_no_unused_action(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    isolate(monkeypatch, tmp_path, **KEYS)
    async with iam_environment(GRANTED) as env:
        await use_everything(env)
        assert env.called() - NEEDS_NONE == GRANTED - CALLED_BY_CREATE_FLEET
        assert {result for _, _, result in env.resources.calls.results} <= {"ok", "out_of_capacity"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pool", "action"),
    [
        ("asg", "autoscaling:SetDesiredCapacity"),
        ("launching", "autoscaling:LaunchInstances"),
        ("warm", "autoscaling:PutWarmPool"),
        ("eks", "eks:UpdateNodegroupConfig"),
        ("fleet", "ec2:ModifyFleet"),
        ("instant", "ec2:CreateFleet"),
        ("variant", "sagemaker:UpdateEndpointWeightsAndCapacities"),
        ("floor", "application-autoscaling:RegisterScalableTarget"),
        ("component", "sagemaker:UpdateInferenceComponentRuntimeConfig"),
    ],
)
async def test_a_missing_permission_is_reported_before_it_is_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pool: str, action: str
) -> None:
    isolate(monkeypatch, tmp_path, **KEYS)
    async with iam_environment(GRANTED - {action}) as env:
        opened: Any = await open_pool(env.pools()[pool], env.context, WorkloadName("llm"), PoolName(pool))
        observed = (await opened.status()).value
        denied = {p.action: p.detail for p in await opened.permits() if p.granted is False}
        assert list(denied) == [action]
        assert "implicitDeny" in denied[action]
        with pytest.raises(Misconfigured, match="not authorized"):
            await opened.resize(observed.desired + 1, observed)


async def test_permissions_are_unknown_without_permission_to_simulate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    isolate(monkeypatch, tmp_path, **KEYS)
    async with iam_environment(GRANTED - {"iam:SimulatePrincipalPolicy"}) as env:
        opened: Any = await open_pool(env.pools()["asg"], env.context, WorkloadName("llm"), PoolName("asg"))
        permits = await opened.permits()
        assert permits
        assert {p.granted for p in permits} == {None}


async def sample_as(
    monkeypatch: pytest.MonkeyPatch, tmp: Path, allowed: list[str]
) -> tuple[dict[str, Fresh[float] | Absent], Front]:
    """Return a FIFO queue's readings for a user with only these actions, and the recorded calls."""
    async with aws() as cloud, front(cloud.url) as aws_front, Resources() as resources:
        queue = await cloud.queue("ordered.fifo")
        key, secret = await cloud.user(allowed)
        isolate(monkeypatch, tmp, AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret)
        account = AwsAccount(region=REGION, endpoint_url=aws_front.url)
        spec = Sqs(queue_url=queue, account=account, oldest_age=True, groups=True)
        clock = SystemClock()
        for metric in ("ApproximateAgeOfOldestMessage", "ApproximateNumberOfGroupsWithInflightMessages"):
            cloud.metric(queue, metric, 5, clock.now() - 120)
        async with cloud.authentication_enforced():
            source = await open_source(spec, AdapterContext(resources, clock, DEADLINE_S))
            return dict(await source.sample()), aws_front


async def test_iam_policy_suffices_for_all_readings_of_a_queue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    readings, aws_front = await sample_as(monkeypatch, tmp_path, QUEUE_ONLY)
    assert {q for q, reading in readings.items() if isinstance(reading, Fresh)} == {
        "visible",
        "in_flight",
        "delayed",
        "oldest_age_s",
        "groups_in_flight",
    }
    assert sorted({f"{a.service}:{a.operation}" for a in aws_front.requests}) == sorted(QUEUE_ONLY)
    assert set(QUEUE_ONLY) <= GRANTED


async def test_queue_without_permission_to_count_is_misconfigured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(Misconfigured, match="AccessDenied"):
        await sample_as(monkeypatch, tmp_path, ["cloudwatch:GetMetricData"])


async def test_counts_are_read_without_permission_for_metrics(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    readings, _ = await sample_as(monkeypatch, tmp_path, ["sqs:GetQueueAttributes"])
    assert isinstance(readings["visible"], Fresh)
    assert isinstance(age := readings["oldest_age_s"], Absent)
    assert "AccessDenied" in age.reason


def test_iam_policy_grants_writes_only_on_restricted_resources() -> None:
    reads = ("Describe", "Get", "List")
    for statement in POLICY["Statement"]:
        writing = [a for a in actions(statement) if not a.partition(":")[2].startswith(reads)]
        if writing and statement["Resource"] == "*":
            assert statement["Condition"], f"{writing} on everything"
        assert all("*" not in action for action in actions(statement))
