"""Azure ML deployments: the two-level lock, late failures, refusals, ready instances, and autoscale settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from scaler.clouds.azure.online_deployments import READ_S
from scaler.ports import Conflict, Misconfigured, OutOfCapacity, OutOfQuota, PortError, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from tests.factories import DEADLINE_S
from tests.fakes import HeldClock
from tests.patience import patience
from tests.scaler.clouds.azure_place import AzureEnvironment, azure_environment
from tests.servers.azure_metrics import Monitor, monitor
from tests.servers.azure_ml import OUT_OF_QUOTA, REGION_CAPACITY, Deployment, Setting

CANCELED = ("OperationCanceled", "The operation was canceled by another operation with higher priority.")
SHOWN_S = 31.0


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[AzureEnvironment]:
    async with azure_environment(tmp_path) as environment:
        yield environment


@pytest.fixture
def metrics(env: AzureEnvironment) -> Monitor:
    return monitor(env.cloud)


@pytest.fixture
def h100(env: AzureEnvironment, metrics: Monitor) -> Deployment:
    return Deployment(env.cloud, "h100", capacity=2).register(metrics)


# --- the lock


async def test_deployment_that_is_scaling_waits_and_holds_up_no_other(
    env: AzureEnvironment, h100: Deployment, metrics: Monitor
) -> None:
    h200 = Deployment(env.cloud, "h200", capacity=1).register(metrics)
    first, second = await env.ml_deployment(), await env.ml_deployment("h200")
    assert await env.resize(first, 4) is None
    busy = await env.resize(first, 5)
    assert isinstance(busy, Conflict)
    assert "Azure ML deployment chat/h100: its last change is still in progress" in str(busy)
    assert await env.resize(second, 2) is None
    assert (h100.collisions, h200.collisions) == (0, 0), "no write was sent in vain"


async def test_endpoint_that_is_updated_blocks_its_deployments_in_turn(
    env: AzureEnvironment, h100: Deployment, metrics: Monitor
) -> None:
    h200 = Deployment(env.cloud, "h200", capacity=1).register(metrics)
    first, second = await env.ml_deployment(), await env.ml_deployment("h200")
    h100.endpoint_state = h200.endpoint_state = "Updating"
    assert "its endpoint chat is Updating" in str(await env.resize(first, 4))
    h100.endpoint_state = h200.endpoint_state = "Succeeded"
    assert str(await env.resize(second, 2)) == "Azure ML endpoint chat: waits for its turn, behind llm/h100"
    assert await env.resize(first, 4) is None
    assert await env.resize(second, 2) is None
    assert (h100.writes, h100.collisions, h200.writes) == (1, 0, 1)


async def test_lock_that_azure_takes_between_read_and_write_is_a_conflict(
    env: AzureEnvironment, h100: Deployment
) -> None:
    pool = await env.ml_deployment()
    observed = await env.read_status(pool)
    env.cloud.mangle = _settled
    h100.state = "Updating"
    with pytest.raises(Conflict, match="because it is in Updating provisioning state"):
        await pool.resize(4, observed)
    assert h100.collisions == 1


def _settled(name: str, body: Any) -> Any:
    """Return a read of a moment before: the resource was idle."""
    if name.startswith("GET") and isinstance(body, dict) and "provisioningState" in body.get("properties", {}):
        body["properties"]["provisioningState"] = "Succeeded"
    return body


# --- late failures


@pytest.mark.parametrize("keeps_size", [False, True])
async def test_late_lack_of_capacity_is_a_shortfall_until_the_size_changes(
    env: AzureEnvironment, h100: Deployment, keeps_size: bool
) -> None:
    h100.keeps_size = keeps_size
    pool = await env.ml_deployment()
    await pool.resize(5, await env.read_status(pool))
    h100.end(REGION_CAPACITY)
    status = await env.read_status(pool)
    assert status.shortfall is not None
    assert "did not change from 2 to 5 replicas: OutOfQuota: Region-wide VM capacity" in status.shortfall.reason
    assert not status.shortfall.quota
    assert (status.ready, status.pending) == (2, 0)
    assert (status.desired, status.failed) == ((5, 3) if keeps_size else (2, 0))
    assert (await env.read_status(pool)).shortfall == status.shortfall, "a repeated report is one shortfall"
    assert await env.resize(pool, 3) is None
    h100.end()
    assert (await env.read_status(pool)).shortfall is None


async def test_late_quota_failure_lasts(env: AzureEnvironment, h100: Deployment) -> None:
    pool = await env.ml_deployment()
    await pool.resize(5, await env.read_status(pool))
    h100.end(OUT_OF_QUOTA)
    shortfall = (await env.read_status(pool)).shortfall
    assert shortfall is not None
    assert shortfall.quota


@pytest.mark.parametrize("keeps_size", [False, True])
async def test_late_loss_of_the_lock_is_raised_once_and_repeated(
    env: AzureEnvironment, h100: Deployment, keeps_size: bool
) -> None:
    h100.keeps_size = keeps_size
    pool = await env.ml_deployment()
    await pool.resize(5, await env.read_status(pool))
    h100.end(CANCELED, "Canceled")
    assert (await env.read_status(pool)).shortfall is None, "a lost lock is no lack of capacity"
    failed = await env.resize(pool, 6)
    assert isinstance(failed, Conflict)
    assert "operation with higher priority" in str(failed)
    assert await env.resize(pool, 6) is None
    assert h100.writes == 2


async def test_silent_return_to_the_old_size_is_told(env: AzureEnvironment, h100: Deployment) -> None:
    pool = await env.ml_deployment()
    await pool.resize(5, await env.read_status(pool))
    await env.read_status(pool)
    h100.end()
    h100.capacity = h100.ready = 2
    shortfall = (await env.read_status(pool)).shortfall
    assert shortfall is not None
    assert "returned to 2 replicas instead of 5: Azure reports no reason" in shortfall.reason


async def test_failure_after_a_lost_response_is_found_in_the_resource(env: AzureEnvironment, h100: Deployment) -> None:
    pool = await env.ml_deployment()
    observed = await env.read_status(pool)
    env.cloud.losing = True
    with pytest.raises(Unavailable):
        await pool.resize(5, observed)
    env.cloud.clear()
    assert (await env.read_status(pool)).desired == 5
    h100.end(REGION_CAPACITY)
    shortfall = (await env.read_status(pool)).shortfall
    assert shortfall is not None
    assert "lack of Azure Machine" in shortfall.reason
    assert h100.writes == 1


async def test_failure_of_a_change_from_before_the_restart_is_heard(env: AzureEnvironment, h100: Deployment) -> None:
    before = await env.ml_deployment()
    await before.resize(5, await env.read_status(before))
    after = await env.ml_deployment()
    await env.read_status(after)
    h100.end(REGION_CAPACITY)
    shortfall = (await env.read_status(after)).shortfall
    assert shortfall is not None
    assert "lack of Azure Machine" in shortfall.reason


async def test_write_that_was_not_applied_is_forgotten(env: AzureEnvironment, h100: Deployment) -> None:
    pool = await env.ml_deployment()
    observed = await env.read_status(pool)
    env.cloud.garbled = True
    with pytest.raises(Unavailable):
        await pool.resize(5, observed)
    env.cloud.clear()
    env.clock.ahead_s += SHOWN_S
    status = await env.read_status(pool)
    assert (status.desired, status.shortfall) == (2, None)
    assert await env.resize(pool, 5) is None
    assert h100.writes == 1


# --- refusals


@pytest.mark.parametrize(
    ("limits", "replicas", "error"),
    [({"stock": 3}, 4, OutOfCapacity), ({"quota": 4}, 4, OutOfQuota), ({}, 51, Misconfigured), ({}, 0, Misconfigured)],
)
async def test_refused_sizes(
    env: AzureEnvironment, h100: Deployment, limits: dict[str, float], replicas: int, error: type[PortError]
) -> None:
    """The reserve of 20 % makes a quota of 4 too small for 4."""
    vars(h100).update(limits)
    assert type(await env.resize(await env.ml_deployment(), replicas)) is error
    assert (h100.capacity, h100.writes) == (2, 0)


async def test_other_scale_settings_are_refused(env: AzureEnvironment, h100: Deployment) -> None:
    h100.scale_type = "TargetUtilization"
    refused = await env.resize(await env.ml_deployment(), 3)
    assert isinstance(refused, Misconfigured)
    assert "scaleSettings of type TargetUtilization" in str(refused)


async def test_another_writer_is_reported(env: AzureEnvironment, h100: Deployment) -> None:
    pool = await env.ml_deployment()
    observed = await env.read_status(pool)
    h100.capacity = 7
    with pytest.raises(Conflict, match="changed from 2 to 7: another writer set it"):
        await pool.resize(3, observed)
    assert "another writer set Azure ML deployment chat/h100 to 7" in str((await env.read_status(pool)).other_writer)


# --- ready instances


async def test_unknown_states_are_named_and_are_not_zero(env: AzureEnvironment, h100: Deployment) -> None:
    h100.states = ("Provisioned", "Starting")
    with pytest.raises(Unavailable, match=r"the states are Provisioned\. Add those that serve to ready_states"):
        await env.read_status(await env.ml_deployment())
    pool = await env.ml_deployment(ready_states=("provisioned",))
    env.clock.ahead_s += READ_S
    assert (await env.read_status(pool)).ready == 2


async def test_missing_metric_is_unknown_and_after_growth_a_lower_bound(
    env: AzureEnvironment, h100: Deployment, metrics: Monitor
) -> None:
    pool = await env.ml_deployment()
    metrics.empty = True
    with pytest.raises(Unavailable, match="the ready instances are unknown: Azure Monitor has no sample"):
        await env.read_status(pool)
    metrics.empty = False
    env.clock.ahead_s += READ_S
    await pool.resize(4, await env.read_status(pool))
    metrics.empty = True
    env.clock.ahead_s += READ_S
    fresh = await pool.status()
    assert (fresh.value.ready, fresh.value.pending) == (2, 2)
    assert "instances were added since" in fresh.missing


async def test_instances_without_a_sample_make_the_count_a_lower_bound(env: AzureEnvironment, h100: Deployment) -> None:
    pool = await env.ml_deployment()
    h100.ready = 1
    fresh = await pool.status()
    assert (fresh.value.ready, fresh.missing) == (1, "Azure Monitor has samples of 1 of 2 instances")
    h100.starting = 1
    env.clock.ahead_s += READ_S
    fresh = await pool.status()
    assert (fresh.value.ready, fresh.missing) == (1, ""), "an instance that starts is known"


# --- autoscale settings


async def test_enabled_setting_is_refused(env: AzureEnvironment, h100: Deployment) -> None:
    setting = Setting(env.cloud, h100.path.upper()).register()
    pool = await env.ml_deployment()
    assert "Azure autoscale setting by-rate resizes it" in str((await env.read_status(pool)).other_writer)
    assert isinstance(await env.resize(pool, 4), Misconfigured)
    assert [text.partition(";")[0] for text in await pool.scale_out_refusals()] == [
        "Azure ML deployment chat/h100: Azure autoscale setting by-rate resizes it"
    ]
    assert (h100.writes, setting.written) == (0, [])


async def test_setting_is_taken_over_before_the_first_write_and_given_back(
    env: AzureEnvironment, h100: Deployment
) -> None:
    setting = Setting(env.cloud, h100.path).register()
    pool = await env.ml_deployment(native="take_over")
    assert (await env.read_status(pool)).other_writer is None
    assert setting.enabled, "a read changes nothing"
    assert await env.resize(pool, 4) is None
    assert not setting.enabled
    h100.end()
    await env.resources.__aexit__(None, None, None)
    assert setting.enabled, "the daemon gives it back at its end"


async def test_setting_is_given_back_once_no_pool_uses_it(env: AzureEnvironment, h100: Deployment) -> None:
    setting, clock = Setting(env.cloud, h100.path).register(), HeldClock()
    async with Resources() as resources:
        env.context = AdapterContext(resources, clock, DEADLINE_S)
        pool = await env.ml_deployment(native="take_over")
        assert await env.resize(pool, 3) is None
        for _ in range(2):
            await env.read_status(pool)
            clock.due.set()
            await asyncio.sleep(0.05)
            assert not setting.enabled, "its pool still reads it"
        async with patience(5.0):
            while not setting.enabled:
                clock.due.set()
                await asyncio.sleep(0.05)


async def test_floor_sets_the_minimum_within_the_maximum(env: AzureEnvironment, h100: Deployment) -> None:
    setting = Setting(env.cloud, h100.path, bounds=(1, 6, 2)).register()
    pool = await env.ml_deployment(native="floor", max_replicas=8)
    assert await env.resize(pool, 4) is None
    assert (setting.enabled, setting.bounds, h100.writes) == (True, (4, 6, 4), 0)
    assert (await env.read_status(pool)).desired == 4
    beyond = await env.resize(pool, 7)
    assert isinstance(beyond, Misconfigured)
    assert "the maximum 6 of autoscale setting by-rate does not allow 7 replicas" in str(beyond)
    assert len(await pool.scale_out_refusals()) == 1
    setting.enabled = False
    assert isinstance(await env.resize(pool, 5), Misconfigured)
