"""Karpenter's NodePools and CapacityBuffers, on the fake API server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from policies.model import PoolName, PoolPart, WorkloadName
from scaler.actuators.capacity_buffer import BufferResizer, open_capacity_buffer
from scaler.actuators.karpenter_node_pool import KarpenterResizer, open_karpenter_node_pool
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.timestamps import text_of
from scaler.config.kinds.kubernetes import CapacityBuffer, KarpenterNodePool
from scaler.ports import Misconfigured
from scaler.shared_resources import AdapterContext, Resources
from tests.contracts.actuator import settled
from tests.factories import DEADLINE_S
from tests.fakes import ManualClock
from tests.servers.kube_fake import FakeKube, kube_fake, write_kubeconfig
from tests.servers.kube_objects import claim, event, node

LEAVING = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}
DISRUPTED = {"spec": {"taints": [{"key": "karpenter.sh/disrupted"}]}}
GONE = {"kind": "NodeClaim", "metadata": {"name": "spot-x7k2p", "uid": "gone"}}


@pytest.fixture
async def fake() -> AsyncIterator[FakeKube]:
    async with kube_fake() as fake_server:
        await fake_server.put("nodepools", "spot", {"spec": {"replicas": 3}})
        for number in range(3):
            zone = f"us-{'ab'[number % 2]}"
            await fake_server.put("nodes", f"node-{number}", node(zone))
            await fake_server.put("nodeclaims", f"spot-{number}", claim("spot", f"node-{number}", zone))
        await fake_server.put("nodeclaims", "other-1", claim("other", "node-9", "us-a"))
        await fake_server.put("capacitybuffers", "room", {"spec": {"replicas": 2}})
        yield fake_server


@pytest.fixture
async def context() -> AsyncIterator[AdapterContext]:
    async with Resources() as resources:
        yield AdapterContext(resources, ManualClock(), DEADLINE_S)


@pytest.fixture
async def pool(fake: FakeKube, context: AdapterContext, tmp_path: Path) -> KarpenterResizer:
    cluster = KubeCluster(kubeconfig=str(write_kubeconfig(tmp_path / "kubeconfig", fake.port)))
    return await open_karpenter_node_pool(
        KarpenterNodePool(name="spot", cluster=cluster), context, WorkloadName("chat"), PoolName("spot")
    )


@pytest.fixture
async def buffer(fake: FakeKube, context: AdapterContext, tmp_path: Path) -> BufferResizer:
    cluster = KubeCluster(kubeconfig=str(write_kubeconfig(tmp_path / "kubeconfig", fake.port)))
    spec = CapacityBuffer(name="room", tier="warm_node", cluster=cluster)
    return await open_capacity_buffer(spec, context, WorkloadName("chat"), PoolName("room"))


async def test_node_pool_reports_its_nodes_by_zone_and_market(pool: KarpenterResizer) -> None:
    status = await settled(pool, lambda s: s.ready == 3)
    assert (status.desired, status.parts) == (3, (PoolPart("us-a", "spot", 2), PoolPart("us-b", "spot", 1)))


async def test_launched_node_claim_is_pending_in_its_zone(fake: FakeKube, pool: KarpenterResizer) -> None:
    body = claim("spot", "", "us-b")
    body["status"]["conditions"] = body["status"]["conditions"][:1]
    await fake.put("nodepools", "spot", {"spec": {"replicas": 4}})
    await fake.put("nodeclaims", "spot-3", body)
    status = await settled(pool, lambda s: s.desired == 4 and len(s.parts) == 2)
    assert (status.ready, status.pending, status.parts[1]) == (3, 1, PoolPart("us-b", "spot", 1, pending=1))


async def test_node_removed_by_a_scale_in_is_neither_pending_nor_interrupted(
    fake: FakeKube, pool: KarpenterResizer
) -> None:
    await pool.resize(2, await settled(pool, lambda s: s.ready == 3))
    await fake.put("nodeclaims", "spot-0", LEAVING)
    await fake.put("nodes", "node-0", DISRUPTED)
    status = await settled(pool, lambda s: s.ready == 2)
    assert (status.desired, status.interruption_pending) == (2, 0)
    await fake.delete("nodeclaims", "spot-0")
    await fake.delete("nodes", "node-0")
    await fake.put("nodeclaims", "spot-1", LEAVING)  # the next one was not returned by this process
    status = await settled(pool, lambda s: s.interruption_pending == 1)
    assert (status.ready, status.interrupted) == (2, 0)
    await fake.delete("nodeclaims", "spot-1")
    assert (await settled(pool, lambda s: s.interrupted == 1)).ready == 1


async def test_on_demand_node_replaced_by_karpenter_is_not_an_interruption(
    fake: FakeKube, pool: KarpenterResizer
) -> None:
    await fake.put("nodeclaims", "spot-0", claim("spot", "node-0", "us-a", market="on-demand"))
    await settled(pool, lambda s: PoolPart("us-a", "on_demand", 1) in s.parts)
    await fake.put("nodeclaims", "spot-0", LEAVING)
    await settled(pool, lambda s: s.interruption_pending == 1)
    await fake.delete("nodeclaims", "spot-0")
    assert (await settled(pool, lambda s: s.ready == 2)).interrupted == 0


async def test_dynamic_node_pool_is_misconfigured(fake: FakeKube, pool: KarpenterResizer) -> None:
    await fake.put("nodepools", "spot", {"spec": {"replicas": None}})
    with pytest.raises(Misconfigured, match=r"nodepools spot has no spec\.replicas.*StaticCapacity"):
        await pool.status()


async def test_replicas_beyond_the_node_pool_limit_are_a_quota_shortfall(
    fake: FakeKube, pool: KarpenterResizer
) -> None:
    await fake.put("nodepools", "spot", {"spec": {"replicas": 7, "limits": {"nodes": "5"}}})
    status = await settled(pool, lambda s: s.desired == 7)
    assert status.shortfall is not None
    assert (status.failed, status.shortfall.quota, status.shortfall.reason) == (
        2,
        True,
        "NodePool spot allows at most 5 nodes (spec.limits.nodes)",
    )


async def test_failed_node_claim_launch_is_reported_with_its_reason(fake: FakeKube, pool: KarpenterResizer) -> None:
    body = claim("spot", "", "us-b")
    trouble = {"type": "Launched", "status": "Unknown", "reason": "LaunchFailed", "message": "no such subnet"}
    body["status"]["conditions"] = [trouble]
    await fake.put("nodepools", "spot", {"spec": {"replicas": 4}})
    await fake.put("nodeclaims", "spot-3", body)
    status = await settled(pool, lambda s: s.shortfall is not None)
    assert status.shortfall is not None
    assert (status.failed, status.shortfall.reason) == (1, "LaunchFailed: no such subnet")


async def test_later_launch_ends_the_capacity_shortfall(
    fake: FakeKube, pool: KarpenterResizer, context: AdapterContext
) -> None:
    await fake.put("nodepools", "spot", {"spec": {"replicas": 5}})
    text = "NodeClaim spot-x7k2p event: InsufficientInstanceCapacity"
    await fake.put("events", "ice", event(GONE, "InsufficientCapacityError", text, at=text_of(context.clock.now())))
    assert (await settled(pool, lambda s: s.shortfall is not None)).failed == 2
    later = claim("spot", "node-8", "us-b")
    for condition in later["status"]["conditions"]:
        condition["lastTransitionTime"] = text_of(context.clock.now() + 9)
    await fake.put("nodeclaims", "spot-8", later)
    status = await settled(pool, lambda s: s.ready == 4)
    assert (status.failed, status.shortfall, status.pending) == (0, None, 1)


async def test_capacity_event_before_the_request_is_ignored(
    fake: FakeKube, pool: KarpenterResizer, context: AdapterContext
) -> None:
    await settled(pool, lambda s: s.ready == 3)
    old = text_of(context.clock.now() - 600)
    await fake.put("events", "ice", event(GONE, "InsufficientCapacityError", "none", at=old))
    await fake.put("nodepools", "spot", {"spec": {"replicas": 5}})
    assert (await settled(pool, lambda s: s.desired == 5)).shortfall is None
    await fake.put("events", "ice", {"lastTimestamp": text_of(context.clock.now())})
    assert (await settled(pool, lambda s: s.shortfall is not None)).failed == 2


async def test_capacity_event_of_another_node_pool_is_ignored(fake: FakeKube, pool: KarpenterResizer) -> None:
    await fake.put("nodepools", "spot", {"spec": {"replicas": 5}})
    foreign_claim = {"kind": "NodeClaim", "metadata": {"name": "other-x7k2p", "uid": "gone"}}
    await fake.put("events", "ice", event(foreign_claim, "InsufficientCapacityError", "none", by="karpenter"))
    await fake.put("nodes", "node-0", DISRUPTED)
    assert (await settled(pool, lambda s: s.interruption_pending == 1 and s.desired == 5)).shortfall is None


async def test_unlistable_node_claims_fail_the_status(fake: FakeKube, pool: KarpenterResizer) -> None:
    fake.forbidden.add(("list", "nodeclaims"))
    with pytest.raises(Exception, match=r"nodeclaims of spot: .*cannot list resource"):
        await pool.status()


async def test_buffer_reports_the_pods_that_fit_as_ready(fake: FakeKube, buffer: BufferResizer) -> None:
    async def report(**condition: Any) -> None:
        status = {"replicas": 2, "conditions": [{"type": "Provisioning", **condition}]}
        await fake.put("capacitybuffers", "room", {"status": status})

    assert (await settled(buffer, lambda s: s.desired == 2)).ready == 0
    grows = "1/2 virtual pods required new capacity, 0 failed"
    await report(status="False", reason="RequiresNewCapacity", message=grows)
    assert (await settled(buffer, lambda s: s.ready == 1)).pending == 1
    await report(status="True", reason="FitsExistingCapacity")
    await settled(buffer, lambda s: s.ready == 2)
    await report(status="True", reason="SomethingNew")
    assert (await settled(buffer, lambda s: s.ready == 0)).pending == 2


async def test_buffer_without_its_pod_template_has_failed_replicas(fake: FakeKube, buffer: BufferResizer) -> None:
    refused = {"type": "ReadyForProvisioning", "status": "False", "reason": "PodTemplateNotFound", "message": "no t"}
    await fake.put("capacitybuffers", "room", {"status": {"conditions": [refused]}})
    status = await settled(buffer, lambda s: s.failed == 2)
    assert status.shortfall is not None
    assert status.shortfall.reason == "PodTemplateNotFound: no t"


async def test_buffer_with_a_percentage_only_is_misconfigured(fake: FakeKube, buffer: BufferResizer) -> None:
    await fake.put("capacitybuffers", "room", {"spec": {"replicas": None, "percentage": 20}})
    with pytest.raises(Misconfigured, match=r"capacitybuffers room has no spec\.replicas.*set spec\.replicas"):
        await buffer.status()


async def test_node_pool_and_buffer_report_their_permissions(
    fake: FakeKube, pool: KarpenterResizer, buffer: BufferResizer
) -> None:
    fake.forbidden |= {("patch", "nodepools/scale"), ("patch", "capacitybuffers"), ("watch", "events")}
    nodes = {permit.action: permit.granted for permit in await pool.permits()}
    assert nodes["patch nodepools/scale.karpenter.sh"] is False
    assert nodes["list nodeclaims.karpenter.sh"] is True
    assert nodes["watch events in namespace default"] is None
    granted = {permit.action: permit.granted for permit in await buffer.permits()}
    assert granted["patch capacitybuffers.autoscaling.x-k8s.io in namespace default"] is False
