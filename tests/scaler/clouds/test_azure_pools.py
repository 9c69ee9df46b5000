"""Azure's pools: etags, operations, evictions, events, reservations, other writers, standby."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from policies.model import PoolPart
from scaler.clouds.azure.scheduled_events import notices
from scaler.ports import Conflict, Misconfigured, OutOfCapacity, OutOfQuota, Throttled, Unavailable
from tests.patience import patience, requested
from tests.scaler.clouds.azure_place import AzureEnvironment, agent_pool, azure_environment, serving
from tests.servers.azure_compute import ROOT, Machine, reserve
from tests.servers.azure_managed import StandbyPool
from tests.servers.daemon import until

QUOTA = ("OperationNotAllowed", "Operation could not be completed as it results in exceeding approved Cores quota.")


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[AzureEnvironment]:
    async with azure_environment(tmp_path) as environment:
        yield environment


# Scale sets.


async def test_change_of_an_unrelated_property_is_not_a_conflict(env: AzureEnvironment) -> None:
    its_set = serving(env.cloud, 2)
    pool = await env.vmss()
    observed = await env.read_status(pool)
    its_set.etag += 5
    await pool.resize(4, observed)
    assert its_set.capacity == 4


async def test_size_set_by_another_writer_is_a_conflict(env: AzureEnvironment) -> None:
    its_set = serving(env.cloud, 2)
    pool = await env.vmss()
    observed = await env.read_status(pool)
    its_set.resize(3)
    with pytest.raises(Conflict, match="changed from 2 to 3 VMs: another writer set it"):
        await pool.resize(4, observed)
    assert its_set.capacity == 3


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (("SkuNotAvailable", "not available in zone '1'"), OutOfCapacity),
        (("OverconstrainedZonalAllocationRequest", "try fewer constraints"), OutOfCapacity),
        (("AllocationFailed", "no sufficient capacity"), OutOfCapacity),
        (QUOTA, OutOfQuota),
        (("QuotaExceeded", "family vCPUs"), OutOfQuota),
        (("OperationNotAllowed", "Another operation is in progress."), Conflict),
        (("ScopeLocked", "a lock"), Misconfigured),
        (("Throttled", "slow down"), Throttled),
        (("SomethingNew", "never heard of"), Conflict),  # by its status, 409
    ],
    ids=lambda p: p[0] if isinstance(p, tuple) else p.__name__,
)
async def test_refused_resize_maps_to_a_port_error(
    env: AzureEnvironment, refusal: tuple[str, str], error: type[Exception]
) -> None:
    its_set = serving(env.cloud, 2)
    its_set.capacity_error = refusal
    pool = await env.vmss()
    with pytest.raises(error, match=refusal[0]) as raised:
        await pool.resize(4, await env.read_status(pool))
    if error in {OutOfCapacity, OutOfQuota}:
        assert "[Standard_NC40ads_H100_v5, on demand, zone 1]" in str(raised.value)
    assert (its_set.capacity, its_set.writes) == (2, 0)


async def test_preempted_operation_is_not_a_shortfall(env: AzureEnvironment) -> None:
    its_set = serving(env.cloud, 2)
    pool = await env.vmss()
    await pool.resize(5, await env.read_status(pool))
    its_set.cloud.end(("OperationPreempted", "a more recent operation took its place"))
    status = await env.read_status(pool)
    assert (status.shortfall, status.pending) == (None, 3)


async def test_a_failed_machine_is_reported_with_type_and_zone(env: AzureEnvironment) -> None:
    its_set = serving(env.cloud, 2)
    message = "The requested size Standard_NC40ads_H100_v5 is not available in zone '1'."
    its_set.machines.append(Machine(7, "1", failure=("ZonalAllocationFailed", message)))
    its_set.machines.append(Machine(8, "1"))
    its_set.capacity = 4
    pool = await env.vmss()
    first = await env.read_status(pool)
    assert (first.ready, first.failed, first.pending) == (2, 1, 1)
    assert first.shortfall is not None
    assert message in first.shortfall.reason
    assert (await env.read_status(pool)).shortfall == first.shortfall  # reported once, though Azure gave no time


async def test_resize_works_after_a_failed_operation(env: AzureEnvironment) -> None:
    its_set = serving(env.cloud, 2)
    pool = await env.vmss()
    await pool.resize(5, await env.read_status(pool))
    its_set.fail("AllocationFailed", "none left")
    failed = await env.read_status(pool)
    assert failed.shortfall is not None
    assert failed.shortfall.at == pytest.approx(1_795_791_600.1, abs=1)  # the time that Azure reported
    await pool.resize(3, failed)
    status = await env.read_status(pool)
    assert (status.shortfall, status.desired, status.pending) == (None, 3, 1)


async def test_evicted_spot_machine_counts_as_interrupted(env: AzureEnvironment) -> None:
    its_set = serving(env.cloud, 3, priority="Spot")
    pool = await env.vmss()
    await env.read_status(pool)
    its_set.evict(1)
    status = await env.read_status(pool)
    assert (status.ready, status.interrupted, status.failed, status.pending) == (2, 1, 1, 0)
    its_set.evict(1, "delete")
    status = await env.read_status(pool)
    assert (status.desired, status.ready, status.interrupted) == (2, 1, 2)


@pytest.mark.parametrize("mode", ["Uniform", "Flexible"])
async def test_failed_machine_is_removed_before_a_ready_one(env: AzureEnvironment, mode: str) -> None:
    its_set = serving(env.cloud, 5, priority="Spot", mode=mode)
    its_set.machines[0].state = its_set.machines[1].state = "stopped"
    pool = await env.vmss()
    await pool.resize(2, await env.read_status(pool))
    assert [m.number for m in its_set.machines] == [2, 3, 4], "the two evicted machines are removed first"
    await pool.resize(2, await env.read_status(pool))
    assert its_set.capacity == 2


async def test_failed_machines_stay_if_another_writer_resized_the_set(env: AzureEnvironment) -> None:
    its_set = serving(env.cloud, 3)
    its_set.machines[0].state = "stopped"
    pool = await env.vmss()
    observed = await env.read_status(pool)
    its_set.resize(4)
    with pytest.raises(Conflict, match="changed from 3 to 4 VMs: another writer set it"):
        await pool.resize(2, observed)
    assert its_set.capacity == 4


async def test_requested_removal_is_not_an_interruption(env: AzureEnvironment) -> None:
    serving(env.cloud, 4, priority="Spot")
    pool = await env.vmss()
    await pool.resize(1, await env.read_status(pool))
    assert (await env.read_status(pool)).interrupted == 0


async def test_removed_on_demand_machines_are_not_interrupted(env: AzureEnvironment) -> None:
    its_set = serving(env.cloud, 3)
    pool = await env.vmss()
    await env.read_status(pool)
    its_set.resize(1)
    assert (await env.read_status(pool)).interrupted == 0


async def test_a_flexible_set_s_spot_mix_has_parts_by_market(env: AzureEnvironment) -> None:
    its_set = serving(env.cloud, 3, "mixed", mode="Flexible", zones=("1", "2"))
    its_set.machines[0].priority = its_set.machines[2].priority = "Spot"
    serving(env.cloud, 2, "other", mode="Flexible")
    status = await env.read_status(await env.vmss("mixed"))
    assert status.parts == (PoolPart("1", "spot", 2), PoolPart("2", "on_demand", 1))


async def test_an_autoscale_setting_is_another_writer(env: AzureEnvironment) -> None:
    its_set = serving(env.cloud, 2)
    setting = {"name": "by-cpu", "properties": {"enabled": True, "targetResourceUri": its_set.path.upper()}}
    env.cloud.lists[f"{ROOT}/llm/providers/Microsoft.Insights/autoscaleSettings".lower()] = lambda _: [setting]
    status = await env.read_status(await env.vmss())
    assert status.other_writer == "Azure autoscale setting by-cpu"


async def test_active_reservations_of_the_size_and_zone_are_counted(env: AzureEnvironment) -> None:
    group = reserve(env.cloud, "held", 4)
    reserve(env.cloud, "held", 3, zone="2")
    reserve(env.cloud, "held", 8, sku="Standard_NC24ads_A100_v4")
    reserve(env.cloud, "held", 16, state="Creating")
    serving(env.cloud, 2, reservation_group=group)
    assert (await env.read_status(await env.vmss())).reserved == 4


async def test_unreadable_reservation_is_unknown(env: AzureEnvironment) -> None:
    serving(env.cloud, 2, reservation_group=f"{ROOT}/llm/providers/Microsoft.Compute/capacityReservationGroups/gone")
    status = await env.read_status(await env.vmss())
    assert (status.reserved, status.ready) == (None, 2)


async def test_an_operation_on_another_host_is_not_followed(env: AzureEnvironment) -> None:
    serving(env.cloud, 2)
    pool = await env.vmss()
    with pytest.raises(Unavailable, match="another host"):
        await pool._arm.follow("Microsoft.Compute/locations/operations/read", "https://elsewhere.test/operations/1")


# Scheduled events.


@pytest.mark.slow
async def test_relay_on_each_machine_reports_events_within_two_seconds(env: AzureEnvironment) -> None:
    its_set = serving(env.cloud, 2, priority="Spot")
    pool = await env.vmss(events_url=env.events.relays)
    await env.read_status(pool)
    env.events.announce("Preempt", its_set.machine_name(its_set.machines[1]).upper())
    async with patience(2.0):
        await requested(env.context.wakeup)
    assert (await env.read_status(pool)).interruption_pending == 1
    assert set(env.events.requests) == {"h100000000", "h100000001"}


@pytest.mark.slow
async def test_machines_of_a_closed_pool_are_not_polled(env: AzureEnvironment) -> None:
    serving(env.cloud, 2)
    pool = await env.vmss(events_url=env.events.relays)
    await env.read_status(pool)
    await until(lambda: env.events.requests.total() >= 2)
    listener = pool._events
    del pool
    gc.collect()
    assert listener._urls() == []


@pytest.mark.slow
async def test_a_withdrawn_event_is_not_pending(env: AzureEnvironment) -> None:
    its_set = serving(env.cloud, 2)
    pool = await env.vmss(events_url=env.events.url)
    event = env.events.announce("Redeploy", its_set.machine_name(its_set.machines[0]))

    def has_pending(replicas: int) -> Callable[[], Awaitable[bool]]:
        async def has_replicas() -> bool:
            return (await env.read_status(pool)).interruption_pending == replicas

        return has_replicas

    await until(has_pending(1))
    env.events.withdraw(event)
    await until(has_pending(0))
    assert (await env.read_status(pool)).interrupted == 0


async def test_a_failing_metadata_service_does_not_fail_the_pool(env: AzureEnvironment) -> None:
    env.events.silent = True
    serving(env.cloud, 2)
    pool = await env.vmss(events_url=env.events.url)
    failed = ("azure/scheduled_events", "scheduledevents", "unavailable")
    await until(lambda: env.resources.calls.results[failed] > 0)
    assert (await env.read_status(pool)).ready == 2


@pytest.mark.parametrize(
    ("event", "kinds"),
    [
        ({"EventType": "Preempt", "Resources": ["a_1"]}, ["interruption"]),
        ({"EventType": "Terminate", "EventSource": "Platform", "Resources": ["a_1", "a_2"]}, ["interruption"] * 2),
        ({"EventType": "Terminate", "EventSource": "User", "Resources": ["a_1"]}, []),
        ({"EventType": "Redeploy", "Resources": ["a_1"], "NotBefore": ""}, ["rebalance"]),
        ({"EventType": "Freeze", "Resources": ["a_1"]}, []),
        ({"EventType": "Preempt", "Resources": None}, []),
        ("Preempt", []),
    ],
)
def test_scheduled_event_is_parsed(event: object, kinds: list[str]) -> None:
    assert [n.kind for n in notices(event, 100.0)] == kinds


# AKS.


async def test_resize_writes_back_the_whole_agent_pool_profile(env: AzureEnvironment) -> None:
    pool = agent_pool(env.cloud, 2, more={"maxPods": 30, "spotMaxPrice": -1.0})
    aks = await env.aks()
    await aks.resize(3, await env.read_status(aks))
    written = pool.written[0]
    assert (written["count"], written["nodeTaints"], written["maxPods"]) == (3, ["sku=gpu:NoSchedule"], 30)
    assert not {"eTag", "provisioningState", "nodeImageVersion"} & written.keys()


async def test_broken_nodes_are_removed_first(env: AzureEnvironment) -> None:
    pool = agent_pool(env.cloud, 4)
    pool.nodes.machines[1].state = "stopped"
    aks = await env.aks()
    await aks.resize(2, await env.read_status(aks))
    assert (pool.count, [m.number for m in pool.nodes.machines]) == (3, [0, 2, 3])
    await aks.resize(2, await env.read_status(aks))
    assert (pool.count, len(pool.written)) == (2, 1)


async def test_resize_during_a_running_aks_operation_is_a_conflict(env: AzureEnvironment) -> None:
    pool = agent_pool(env.cloud, 2)
    aks = await env.aks()
    await aks.resize(3, await env.read_status(aks))
    with pytest.raises(Conflict, match="Scaling"):
        await aks.resize(4, await env.read_status(aks))
    assert len(pool.written) == 1


async def test_write_between_the_read_and_the_resize_is_a_conflict(env: AzureEnvironment) -> None:
    pool = agent_pool(env.cloud, 2)
    aks = await env.aks()
    observed = await env.read_status(aks)
    pool.set(5)
    pool.done()
    with pytest.raises(Conflict, match="changed from 2 to 5 nodes: another writer set it"):
        await aks.resize(3, observed)


async def test_failure_reported_by_the_agent_pool_is_one_shortfall(env: AzureEnvironment) -> None:
    pool = agent_pool(env.cloud, 2, more={"scaleSetPriority": "Spot"})
    aks = await env.aks()
    await aks.resize(4, await env.read_status(aks))
    pool.fail("ErrCode_InsufficientVCPUQuota", "Insufficient regional vcpu quota left", lost=True)
    first = await env.read_status(aks)
    assert first.shortfall is not None
    assert (first.shortfall.quota, first.failed) == (True, 2)
    assert "[Standard_NC40ads_H100_v5, spot, zone 1]" in first.shortfall.reason
    assert (await env.read_status(aks)).shortfall == first.shortfall


async def test_agent_pools_of_a_cluster_share_a_read(env: AzureEnvironment) -> None:
    agent_pool(env.cloud, 2, "h100")
    agent_pool(env.cloud, 1, "h100spot")
    one, other = await env.aks("h100"), await env.aks("h100spot")
    first, second = await asyncio.gather(one.status(), other.status())
    assert (first.value.ready, second.value.ready) == (2, 1)
    assert env.cloud.requests["Microsoft.ContainerService/managedClusters/agentPools/read"] == 1


async def test_aks_cluster_autoscaler_is_another_writer(env: AzureEnvironment) -> None:
    agent_pool(env.cloud, 2, more={"enableAutoScaling": True, "minCount": 0, "maxCount": 9})
    assert (await env.read_status(await env.aks())).other_writer == "the AKS cluster autoscaler"


async def test_a_missing_agent_pool_is_reported_with_the_existing_ones(env: AzureEnvironment) -> None:
    agent_pool(env.cloud, 2, "h100")
    aks = await env.aks("h200")
    with pytest.raises(Misconfigured, match="has no agent pool h200; it has h100"):
        await aks.status()


@pytest.mark.slow
async def test_writes_of_an_agent_pool_stay_within_aks_s_limit(env: AzureEnvironment) -> None:
    pool = agent_pool(env.cloud, 0)
    pool.nodes.serving = True
    aks = await env.aks()

    async def grow() -> None:
        for size in range(1, 30):
            await aks.resize(size, await env.read_status(aks))
            env.clock.ahead_s += 2.0

    with pytest.raises(Throttled, match="the daemon's rate limit for azure/aks_put"):
        await grow()
    granted = len(pool.written)
    assert 20 <= granted <= 22
    env.clock.ahead_s += 60.0
    await aks.resize(granted + 1, await env.read_status(aks))
    assert len(pool.written) == granted + 1


# Standby pools.


async def test_standby_pool_drains_on_a_scale_out_and_is_refilled(env: AzureEnvironment) -> None:
    its_set = serving(env.cloud, 2)
    pool = StandbyPool(env.cloud, "warm", its_set, max_ready=5).register()
    pool.set_standby(3)
    warm = await env.standby()
    assert (await env.read_status(warm)).desired == 3
    its_set.resize(4)  # two of the three machines start to serve
    pool.set_standby(1)
    drained = await env.read_status(warm)
    assert (drained.desired, drained.ready) == (1, 1)
    await warm.resize(3, drained)
    assert (pool.max_ready, pool.size) == (7, 3)
    refilling = await env.read_status(warm)
    assert (refilling.desired, refilling.ready, refilling.pending) == (3, 1, 2)


async def test_standby_pool_is_resized_below_its_minimum(env: AzureEnvironment) -> None:
    pool = StandbyPool(env.cloud, "warm", serving(env.cloud, 2), max_ready=5, min_ready=2).register()
    pool.set_standby(3)
    warm = await env.standby()
    await warm.resize(0, await env.read_status(warm))
    assert (pool.size, pool.min_ready) == (0, 0)


async def test_standby_pool_drained_since_the_read_is_a_conflict(env: AzureEnvironment) -> None:
    its_set = serving(env.cloud, 2)
    StandbyPool(env.cloud, "warm", its_set, max_ready=5).register().set_standby(3)
    warm = await env.standby()
    observed = await env.read_status(warm)
    its_set.resize(4)
    with pytest.raises(Conflict, match="changed from 3 to 1 VMs: another writer set it"):
        await warm.resize(2, observed)


async def test_dynamic_sizing_of_a_standby_pool_is_another_writer(env: AzureEnvironment) -> None:
    StandbyPool(env.cloud, "warm", serving(env.cloud, 2), max_ready=5, dynamic=True).register().set_standby(3)
    assert (await env.read_status(await env.standby())).other_writer == "dynamic sizing of the standby pool"
