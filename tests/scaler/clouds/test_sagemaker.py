"""SageMaker pools: the endpoint's lock, late failures, refusals, other writers, and the native autoscaler."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from policies.model import PoolName, WorkloadName
from scaler.adapters import open_pool
from scaler.clock import SystemClock
from scaler.clouds.aws.account import AwsAccount
from scaler.clouds.aws.errors import error_of_code
from scaler.config.kinds.sagemaker_pools import SageMakerInferenceComponent, SageMakerVariant
from scaler.ports import Conflict, Misconfigured, OutOfQuota, PortError, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from tests.factories import DEADLINE_S
from tests.fakes import HeldClock
from tests.patience import patience
from tests.scaler.clouds.aws_place import AwsEnvironment, aws_environment, read_status
from tests.servers.aws import KEYS, REGION, aws, isolate
from tests.servers.aws_sagemaker import (
    CAPACITY,
    COMPONENT_BUSY,
    IN_PROGRESS,
    Component,
    Endpoint,
    Scalable,
    Sized,
    activity,
    finish,
    finish_component,
    resize_variant,
)
from tests.servers.aws_wire import Refusal

pytestmark = pytest.mark.slow
WRITE = "sagemaker:UpdateEndpointWeightsAndCapacities"
REGISTER = "application-autoscaling:RegisterScalableTarget"
A_TARGET = "endpoint/chat/variant/a"
HEALTH = "The primary container for production variant a did not pass the ping health check. Check CloudWatch logs."


@pytest.fixture
async def env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[AwsEnvironment]:
    isolate(monkeypatch, tmp_path, **KEYS)
    async with aws_environment() as environment:
        sagemaker = environment.world.sagemaker
        sagemaker.endpoints["chat"] = Endpoint("chat", [Sized("a", 2, 2), Sized("b", 1, 1)])
        for name in ("small", "large"):
            sagemaker.components[name] = Component(name, 2, 2, endpoint="copies")
        yield environment


@pytest.fixture
def chat(env: AwsEnvironment) -> Endpoint:
    return env.world.sagemaker.endpoints["chat"]


async def open_variant(env: AwsEnvironment, variant: str = "a", **keys: Any) -> Any:
    return await env.open(SageMakerVariant, variant, endpoint="chat", variant=variant, **keys)


async def open_component(env: AwsEnvironment, component: str = "small", **keys: Any) -> Any:
    return await env.open(SageMakerInferenceComponent, component, component=component, **keys)


async def resize(pool: Any, replicas: int) -> PortError | None:
    """Resize as one tick does: read, then write. Return the error."""
    try:
        await pool.resize(replicas, await read_status(pool))
    except PortError as e:
        return e
    return None


# --- the lock


async def test_variants_of_one_endpoint_are_written_in_turn(env: AwsEnvironment, chat: Endpoint) -> None:
    a, b = await open_variant(env), await open_variant(env, "b")
    assert await resize(a, 4) is None
    busy = await resize(b, 3)
    assert isinstance(busy, Conflict)
    assert "SageMaker variant chat/b is Updating: SageMaker accepts one change at a time" in str(busy)
    assert isinstance(await resize(a, 5), Conflict)
    finish(chat)
    waits = await resize(a, 5)
    assert str(waits) == "SageMaker endpoint chat: waits for its turn, behind llm/b"
    assert await resize(b, 3) is None
    finish(chat)
    assert await resize(a, 5) is None
    assert env.endpoint.count(WRITE) == 3, "no write was sent in vain"


async def test_writes_to_one_endpoint_never_overlap(env: AwsEnvironment, chat: Endpoint) -> None:
    """The pools' ticks begin at the same moment; the endpoint accepts changes at once."""
    chat.start_s = 0.0
    pools = [await open_variant(env), await open_variant(env, "b")]
    observed = [await read_status(pool) for pool in pools]
    results = await asyncio.gather(
        *(p.resize(3, s) for p, s in zip(pools, observed, strict=True)), return_exceptions=True
    )
    assert [type(r) for r in results] == [type(None), Conflict]
    assert "writes now" in str(results[1])
    assert env.endpoint.count(WRITE) == 1


async def test_pool_that_no_longer_wants_a_size_gives_up_its_place(env: AwsEnvironment, chat: Endpoint) -> None:
    a, b = await open_variant(env), await open_variant(env, "b")
    chat.state = "SystemUpdating"
    assert isinstance(await resize(a, 4), Conflict)
    assert isinstance(await resize(b, 3), Conflict)
    chat.state = "InService"
    for _ in range(2):
        await read_status(a)
    assert await resize(b, 3) is None


async def test_platform_maintenance_serves_and_accepts_no_size(env: AwsEnvironment, chat: Endpoint) -> None:
    pool = await open_variant(env)
    chat.state = "SystemUpdating"
    assert "SystemUpdating" in str(await resize(pool, 4))
    assert (await read_status(pool)).ready == 2
    assert env.endpoint.count(WRITE) == 0


@pytest.mark.parametrize(
    "text",
    [
        IN_PROGRESS.format(arn="arn:aws:sagemaker:us-east-1:1:endpoint/chat"),
        COMPONENT_BUSY.format(arn="arn", state="UPDATE_RC_IN_PROGRESS"),
        COMPONENT_BUSY.format(arn="arn", state="CREATE_IN_PROGRESS"),
    ],
)
def test_validation_error_of_a_busy_object_is_a_conflict(text: str) -> None:
    assert type(error_of_code("ValidationException", text)) is Conflict
    assert type(error_of_code("ValidationException", 'Could not find endpoint "x"')) is Misconfigured


# --- late failures


async def test_return_to_the_old_count_is_a_failed_resize(env: AwsEnvironment, chat: Endpoint) -> None:
    pool, chat.rollback_s = await open_variant(env), 3600.0
    chat.variants[0].capacity = 3
    assert await resize(pool, 5) is None
    pending = await read_status(pool)
    assert (pending.desired, pending.ready, pending.pending, pending.shortfall) == (5, 2, 3, None)
    finish(chat)
    rolling = await read_status(pool)
    assert rolling.shortfall is not None
    assert (rolling.desired, rolling.ready, rolling.failed, rolling.other_writer) == (2, 2, 0, None)
    assert "is RollingBack" in str(await resize(pool, 3)), "the old size is no other writer's"
    assert f"SageMaker variant chat/a rolls back from 5 to 2 replicas: {CAPACITY}" in rolling.shortfall.reason
    chat.rollback_s = 0.0
    back = await read_status(pool)
    assert (back.desired, back.ready, back.failed, back.other_writer) == (2, 2, 0, None)
    assert back.shortfall == rolling.shortfall, "one failure is reported once"
    assert not back.shortfall.quota
    chat.variants[0].capacity = 9
    assert await resize(pool, 5) is None
    assert (await read_status(pool)).shortfall is None


async def test_unhealthy_container_needs_a_person(env: AwsEnvironment, chat: Endpoint) -> None:
    pool = await open_variant(env)
    chat.variants[0].capacity, chat.variants[0].failure = 2, HEALTH
    await resize(pool, 3)
    await read_status(pool)
    finish(chat)
    shortfall = (await read_status(pool)).shortfall
    assert shortfall is not None
    assert shortfall.quota


async def test_resize_whose_response_was_lost_fails_late(env: AwsEnvironment, chat: Endpoint) -> None:
    env.context.deadline_s = 5.0
    pool = await open_variant(env)
    chat.variants[0].capacity = 2
    observed = await read_status(pool)
    env.endpoint.lost = True
    with pytest.raises(Unavailable):
        await pool.resize(4, observed)
    env.endpoint.lost = False
    assert await resize(pool, 4) is None
    assert env.endpoint.count(WRITE) == 1, "the size was read back, not written again"
    finish(chat)
    shortfall = (await read_status(pool)).shortfall
    assert shortfall is not None
    assert "returned to 2 replicas instead of 4" in shortfall.reason


async def test_write_in_force_after_a_lost_response_and_a_refused_repetition_is_followed(
    env: AwsEnvironment, chat: Endpoint
) -> None:
    """The first write reaches SageMaker late: after the next tick's read, and before its write."""
    pool = await open_variant(env)
    chat.variants[0].capacity = 2
    observed = await read_status(pool)
    env.endpoint.faults[WRITE] = Refusal("InternalFailure", "try again", 500)
    with pytest.raises(Unavailable):
        await pool.resize(5, observed)
    env.endpoint.faults[WRITE] = Refusal("ValidationException", IN_PROGRESS.format(arn=chat.arn))
    with pytest.raises(Conflict):
        await pool.resize(4, await read_status(pool))
    env.endpoint.clear()
    resize_variant(chat, chat.variants[0], 5)
    assert (await read_status(pool)).other_writer is None
    finish(chat)
    back = await read_status(pool)
    assert (back.desired, back.other_writer) == (2, None)
    assert back.shortfall is not None


async def test_copies_that_are_not_placed_are_a_shortfall(env: AwsEnvironment) -> None:
    pool, small = await open_component(env), env.world.sagemaker.components["small"]
    small.capacity = 3
    await resize(pool, 6)
    finish_component(small)
    status = await read_status(pool)
    assert status.shortfall is not None
    assert (status.desired, status.ready, status.failed, status.pending) == (6, 3, 3, 0)
    assert "has 3 of 6 replicas" in status.shortfall.reason


# --- refusals


async def test_account_limit_is_a_quota_error(env: AwsEnvironment, chat: Endpoint) -> None:
    pool = await open_variant(env)
    chat.variants[0].quota = 3
    assert isinstance(await resize(pool, 4), OutOfQuota)
    assert (await read_status(pool)).desired == 2


async def test_real_time_variant_does_not_go_to_zero(env: AwsEnvironment, chat: Endpoint) -> None:
    pool = await open_variant(env)
    assert isinstance(await resize(pool, 0), Misconfigured)
    chat.allows_zero = True
    assert await resize(pool, 0) is None
    assert SageMakerVariant(endpoint="e", variant="v").min_replicas == 1


async def test_unknown_names_are_misconfigured_and_the_variants_are_named(env: AwsEnvironment) -> None:
    with pytest.raises(Misconfigured, match="no such variant; it has a, b"):
        await read_status(await open_variant(env, "c"))
    with pytest.raises(Misconfigured, match="Could not find endpoint"):
        await read_status(await env.open(SageMakerVariant, endpoint="none", variant="a"))
    with pytest.raises(Misconfigured, match="Could not find inference component"):
        await read_status(await open_component(env, "none"))


@pytest.mark.parametrize("state", ["Failed", "UpdateRollbackFailed", "OutOfService"])
async def test_broken_endpoint_leaves_the_work_to_other_pools(env: AwsEnvironment, chat: Endpoint, state: str) -> None:
    pool = await open_variant(env)
    chat.state, chat.reason = state, "AlgorithmError"
    status = await read_status(pool)
    assert status.shortfall is not None
    assert (status.shortfall.quota, status.pending) == (True, 0)
    assert status.ready == (2 if state == "UpdateRollbackFailed" else 0)
    assert f"is {state}: AlgorithmError" in status.shortfall.reason
    assert isinstance(await resize(pool, 3), Misconfigured)
    assert any(state in refusal for refusal in await pool.scale_out_refusals())
    chat.state, chat.reason = "InService", ""
    assert (await read_status(pool)).shortfall is None


async def test_variant_of_components_is_left_to_sagemaker(env: AwsEnvironment, chat: Endpoint) -> None:
    chat.managed = True
    pool = await open_variant(env)
    assert "use a sagemaker_inference_component pool" in str((await read_status(pool)).other_writer)
    assert isinstance(await resize(pool, 3), Misconfigured)


async def test_other_writer_is_reported(env: AwsEnvironment, chat: Endpoint) -> None:
    pool = await open_variant(env)
    observed = await read_status(pool)
    chat.variants[0].desired = chat.variants[0].current = 4
    with pytest.raises(Conflict, match="another writer set it"):
        await pool.resize(3, observed)
    assert "another writer set SageMaker variant chat/a to 4" in str((await read_status(pool)).other_writer)


async def test_component_goes_to_zero_and_back_without_holding_back_another(env: AwsEnvironment) -> None:
    small, large = await open_component(env), await open_component(env, "large")
    assert await resize(small, 0) is None
    assert (await read_status(small)).desired == 0
    assert await resize(small, 4) is None
    busy = await resize(small, 5)
    assert isinstance(busy, Conflict)
    assert "is Updating" in str(busy)
    assert await resize(large, 3) is None


# --- Application Auto Scaling


@pytest.fixture
def target(env: AwsEnvironment) -> Scalable:
    target = Scalable(A_TARGET, 1, 6, {"ScheduledScalingSuspended": True})
    env.world.sagemaker.targets[A_TARGET] = target
    return target


async def test_native_autoscaler_is_refused_by_default(env: AwsEnvironment, target: Scalable) -> None:
    pool = await open_variant(env, on_other_writer="take_over")
    writer = (await read_status(pool)).other_writer
    assert "Application Auto Scaling resizes endpoint/chat/variant/a" in str(writer)
    assert isinstance(await resize(pool, 3), Misconfigured)
    assert await pool.scale_out_refusals() == [writer]
    assert env.endpoint.count(WRITE) + env.endpoint.count(REGISTER) == 0
    target.flags = dict.fromkeys(
        ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended"), True
    )
    assert (await read_status(pool)).other_writer is None, "a suspended target resizes nothing"
    assert await resize(pool, 3) is None


async def test_native_autoscaler_is_suspended_before_the_first_write_and_given_back(
    env: AwsEnvironment, target: Scalable
) -> None:
    found = dict(target.flags)
    async with Resources() as resources:
        env.context = AdapterContext(resources, SystemClock(), DEADLINE_S)
        pool = await open_variant(env, native="take_over")
        target.wanted = 4
        await read_status(pool)
        assert (await read_status(pool)).other_writer is None
        assert env.endpoint.count(REGISTER) == 0, "a read suspends nothing"
        finish(env.world.sagemaker.endpoints["chat"])
        assert await resize(pool, 3) is None
        assert all(target.flags.values())
        assert (target.minimum, target.maximum) == (1, 6)
    assert {flag for flag, value in target.flags.items() if value} == set(found)


async def test_native_autoscaler_is_given_back_once_no_pool_uses_it(env: AwsEnvironment, target: Scalable) -> None:
    clock = HeldClock()
    async with Resources() as resources:
        env.context = AdapterContext(resources, clock, DEADLINE_S)
        pool = await open_variant(env, native="take_over")
        assert await resize(pool, 3) is None
        for _ in range(2):
            await read_status(pool)
            clock.due.set()
            await asyncio.sleep(0.05)
            assert all(target.flags.values()), "its pool still reads it"
        async with patience(5.0):
            while all(target.flags.values()):
                clock.due.set()
                await asyncio.sleep(0.05)


async def test_floor_sets_only_the_minimum_capacity(env: AwsEnvironment, chat: Endpoint, target: Scalable) -> None:
    pool, flags = await open_variant(env, native="floor", max_replicas=9), dict(target.flags)
    assert await resize(pool, 5) is None
    assert (target.minimum, target.maximum, target.flags) == (5, 6, flags)
    pending = await read_status(pool)
    assert (pending.desired, pending.ready, pending.other_writer) == (5, 2, None)
    finish(chat)
    assert (await read_status(pool)).ready == 5
    target.wanted = 6
    await read_status(pool)
    finish(chat)
    native = await read_status(pool)
    assert (native.desired, native.other_writer) == (6, None), "the native autoscaler may hold more"
    assert await resize(pool, 2) is None
    assert (target.minimum, chat.variants[0].desired) == (2, 6)
    calls = env.endpoint.count(REGISTER)
    assert await resize(pool, 2) is None
    assert (env.endpoint.count(REGISTER), env.endpoint.count(WRITE)) == (calls, 0)
    assert "MaxCapacity 6" in str(await resize(pool, 7))
    assert any("MaxCapacity 6" in refusal for refusal in await pool.scale_out_refusals())


async def test_unfulfilled_activity_explains_a_floor_that_is_not_reached(
    env: AwsEnvironment, chat: Endpoint, target: Scalable
) -> None:
    pool = await open_variant(env, native="floor")
    activity(target, "Unfulfilled", "an older failure", time.time() - 60)
    assert await resize(pool, 5) is None
    assert (await read_status(pool)).shortfall is None
    activity(target, "Unfulfilled", CAPACITY, time.time() + 1)
    status = await read_status(pool)
    assert status.shortfall is not None
    assert CAPACITY in status.shortfall.reason
    assert status.failed == 3


async def test_floor_needs_a_registered_target(env: AwsEnvironment) -> None:
    assert "native: floor needs" in str(await resize(await open_variant(env, native="floor"), 3))


# --- moto


async def test_variant_of_moto_is_resized(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """moto is independent of this project's fake; its updates take no time."""
    isolate(monkeypatch, tmp_path, **KEYS)
    async with aws() as cloud, Resources() as resources:
        client = await cloud.client("sagemaker")
        role = "arn:aws:iam::123456789012:role/sagemaker"
        await client.create_model(ModelName="llama", ExecutionRoleArn=role, PrimaryContainer={"Image": "llama:1"})
        variant = {
            "VariantName": "a",
            "ModelName": "llama",
            "InitialInstanceCount": 1,
            "InstanceType": "ml.g4dn.xlarge",
        }
        await client.create_endpoint_config(EndpointConfigName="chat", ProductionVariants=[variant])
        await client.create_endpoint(EndpointName="chat", EndpointConfigName="chat")
        account = AwsAccount(region=REGION, endpoint_url=cloud.url)
        context = AdapterContext(resources, SystemClock(), 60.0)
        spec = SageMakerVariant(endpoint="chat", variant="a", account=account)
        pool = await open_pool(spec, context, WorkloadName("llm"), PoolName("gpus"))
        await pool.resize(3, await read_status(pool))
        status = await read_status(pool)
        assert (status.desired, status.ready, status.other_writer) == (3, 3, None)
        for endpoint, missing, words in (("none", "a", "Could not find endpoint"), ("chat", "b", "it has a")):
            spec = SageMakerVariant(endpoint=endpoint, variant=missing, account=account)
            with pytest.raises(Misconfigured, match=words):
                await (await open_pool(spec, context, WorkloadName("llm"), PoolName("x"))).status()
