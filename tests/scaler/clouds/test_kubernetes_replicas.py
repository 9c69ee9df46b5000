"""A pool's pods: zones, pending and past interruptions, and missing capacity; on the fake API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from policies.model import PoolName, PoolPart, WorkloadName
from scaler.actuators.kubernetes import KubernetesResizer, open_kubernetes
from scaler.clouds.interruptions import InterruptionNotice, board
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.pods import parse
from scaler.config.kinds.kubernetes import Kubernetes
from scaler.ports import Permit
from scaler.shared_resources import AdapterContext, Resources
from tests.contracts.actuator import NOTICE_S, settled
from tests.factories import DEADLINE_S
from tests.fakes import ManualClock
from tests.patience import patience, requested
from tests.servers.kube_fake import FakeKube, kube_fake, write_kubeconfig
from tests.servers.kube_objects import event, node, put_deployment, ready_pod, waiting_pod

Opened = Callable[..., Awaitable[KubernetesResizer]]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def fake() -> AsyncIterator[FakeKube]:
    async with kube_fake() as fake_server:
        await put_deployment(fake_server, "llm", 2)
        yield fake_server


@pytest.fixture
async def context(clock: ManualClock) -> AsyncIterator[AdapterContext]:
    async with Resources() as resources:
        yield AdapterContext(resources, clock, DEADLINE_S)


@pytest.fixture
def opened(fake: FakeKube, context: AdapterContext, tmp_path: Path) -> Opened:
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", fake.port)

    async def opening(**spec: Any) -> KubernetesResizer:
        pool = Kubernetes(name="llm", cluster=KubeCluster(kubeconfig=str(kubeconfig)), **spec)
        actuator = await open_kubernetes(pool, context, WorkloadName("chat"), PoolName("gpus"))
        await settled(actuator, lambda s: s.desired == 2)
        return actuator

    return opening


# --- pending interruptions


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"spec": {"taints": [{"key": "aws-node-termination-handler/spot-itn"}]}}, id="aws-handler"),
        pytest.param({"spec": {"taints": [{"key": "cloud.google.com/impending-node-termination"}]}}, id="gke"),
        pytest.param({"spec": {"taints": [{"key": "karpenter.sh/disrupted"}]}}, id="karpenter"),
        pytest.param({"spec": {"taints": [{"key": "node.kubernetes.io/out-of-service"}]}}, id="out-of-service"),
        pytest.param({"spec": {"taints": [{"key": "remediator.kubernetes.azure.com/unschedulable"}]}}, id="aks-drain"),
        pytest.param({"spec": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler"}]}}, id="cluster-autoscaler"),
        pytest.param({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, id="being-deleted"),
        pytest.param(
            {"status": {"conditions": [{"type": "VMEventScheduled", "status": "True", "message": "Preempt"}]}},
            id="aks-event",
        ),
    ],
)
async def test_node_notice_marks_its_pods_and_wakes_the_loop(
    fake: FakeKube, opened: Opened, context: AdapterContext, body: dict[str, Any]
) -> None:
    actuator = await opened()
    await settled(actuator, lambda s: len(s.parts) == 2)
    wakeup = asyncio.create_task(requested(context.wakeup))
    await fake.put("nodes", "node-0", body)
    async with patience(NOTICE_S):
        await wakeup
        status = await settled(actuator, lambda s: s.interruption_pending == 1)
    assert status.parts == (PoolPart("us-a", "spot", 1, interruption_pending=1), PoolPart("us-b", "spot", 1))
    assert (status.ready, status.interrupted) == (2, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"spec": {"taints": [{"key": "kubernetes.azure.com/scalesetpriority"}]}}, id="aks-spot-always"),
        pytest.param({"spec": {"taints": [{"key": "DeletionCandidateOfClusterAutoscaler"}]}}, id="a-mere-candidate"),
        pytest.param({"spec": {"taints": [{"key": "nvidia.com/gpu"}]}}, id="another-taint"),
        pytest.param(
            {"status": {"conditions": [{"type": "VMEventScheduled", "status": "True", "message": "Freeze"}]}},
            id="a-freeze",
        ),
        pytest.param(
            {"status": {"conditions": [{"type": "VMEventScheduled", "status": "False", "message": "Preempt"}]}},
            id="an-event-that-is-over",
        ),
    ],
)
async def test_unrelated_taints_and_conditions_are_not_notices(
    fake: FakeKube, opened: Opened, body: dict[str, Any]
) -> None:
    actuator = await opened()
    await fake.put("nodes", "node-0", body)
    await fake.put("nodes", "node-1", {"spec": {"taints": [{"key": "karpenter.sh/disrupted"}]}})
    status = await settled(actuator, lambda s: s.interruption_pending > 0)
    assert status.interruption_pending == 1


async def test_a_withdrawn_notice_is_not_pending(fake: FakeKube, opened: Opened) -> None:
    actuator = await opened()
    await fake.put("nodes", "node-0", {"spec": {"taints": [{"key": "karpenter.sh/disrupted"}]}})
    await settled(actuator, lambda s: s.interruption_pending == 1)
    await fake.put("nodes", "node-0", {"spec": {"taints": []}})
    assert (await settled(actuator, lambda s: s.interruption_pending == 0)).interrupted == 0


async def test_cloud_notice_for_a_machine_applies_to_its_pods(
    fake: FakeKube, opened: Opened, context: AdapterContext, clock: ManualClock
) -> None:
    await fake.put("nodes", "node-1", node("us-b", machine="i-0abc"))
    actuator = await opened()
    (await board(context)).pin(InterruptionNotice("i-0abc", "interruption", clock.now()))
    assert (await settled(actuator, lambda s: s.interruption_pending == 1)).parts[1].interruption_pending == 1


async def test_node_taint_is_published_as_a_notice_for_its_machine(
    fake: FakeKube, opened: Opened, context: AdapterContext
) -> None:
    await fake.put("nodes", "node-1", node("us-b", machine="i-0abc"))
    actuator = await opened()
    taint = {"spec": {"taints": [{"key": "aws-node-termination-handler/rebalance-recommendation"}]}}
    await fake.put("nodes", "node-1", taint)
    await settled(actuator, lambda s: s.interruption_pending == 1)
    notices = (await board(context)).notices_for(["i-0abc"])
    assert [(n.kind, n.source) for n in notices.values()] == [
        ("rebalance", "taint aws-node-termination-handler/rebalance-recommendation")
    ]


async def test_notice_for_a_worker_node_applies_to_its_leader_worker_group(fake: FakeKube, opened: Opened) -> None:
    leader = {"leaderworkerset.sigs.k8s.io/name": "llm", "leaderworkerset.sigs.k8s.io/worker-index": "0"}
    for group in range(2):
        key = {"leaderworkerset.sigs.k8s.io/group-key": f"g{group}"}
        await fake.put("pods", f"llm-{group}", {"metadata": {"labels": {**leader, **key}}})
        worker = {**leader, **key, "leaderworkerset.sigs.k8s.io/worker-index": "1"}
        await fake.put("nodes", f"node-1{group}", node("us-a"))
        await fake.put("pods", f"llm-{group}-1", ready_pod("llm", f"node-1{group}", labels=worker))
    text = ",".join(f"{k}={v}" for k, v in leader.items())
    status = {"readyReplicas": 2, "hpaPodSelector": text}
    await fake.put("leaderworkersets", "llm", {"spec": {"replicas": 2}, "status": status})
    actuator = await opened(api_version="leaderworkerset.x-k8s.io/v1", object_kind="LeaderWorkerSet")
    await fake.put("nodes", "node-11", {"spec": {"taints": [{"key": "karpenter.sh/disrupted"}]}})
    assert (await settled(actuator, lambda s: s.interruption_pending > 0)).interruption_pending == 1


# --- past interruptions


async def test_spot_node_deleted_without_notice_counts_as_interrupted(fake: FakeKube, opened: Opened) -> None:
    actuator = await opened()
    await settled(actuator, lambda s: len(s.parts) == 2)
    await fake.delete("nodes", "node-0")
    await fake.delete("pods", "llm-0")
    assert (await settled(actuator, lambda s: s.interrupted == 1)).parts == (PoolPart("us-b", "spot", 1),)


async def test_removed_on_demand_node_is_not_an_interruption(fake: FakeKube, opened: Opened) -> None:
    for number in range(2):
        labels = {"karpenter.sh/capacity-type": "on-demand"}
        await fake.put("nodes", f"node-{number}", {"metadata": {"labels": labels}})
    actuator = await opened()
    await fake.put("nodes", "node-0", {"spec": {"taints": [{"key": "karpenter.sh/disrupted"}]}})
    await settled(actuator, lambda s: s.interruption_pending == 1)
    await fake.delete("pods", "llm-0")
    await fake.delete("nodes", "node-0")
    status = await settled(actuator, lambda s: s.parts == (PoolPart("us-b", "on_demand", 1),))
    assert (status.interrupted, status.interruption_pending) == (0, 0)


async def test_pod_deleted_on_a_remaining_node_is_not_an_interruption(fake: FakeKube, opened: Opened) -> None:
    actuator = await opened()
    await settled(actuator, lambda s: len(s.parts) == 2)
    await fake.delete("pods", "llm-0")
    assert (await settled(actuator, lambda s: len(s.parts) == 1)).interrupted == 0


# --- missing capacity


async def unscheduled(fake: FakeKube, *events: tuple[str, str, str], at: str = "") -> None:
    """Add a third, unschedulable pod and events about it: reason, message, reporter."""
    await fake.put("deployments", "llm", {"spec": {"replicas": 3}})
    pod = await fake.put("pods", "llm-2", waiting_pod("llm"))
    for number, (reason, text, by) in enumerate(events):
        time = at or f"2026-01-01T00:00:0{number}Z"
        await fake.put("events", f"e{number}", event(pod, reason, text, by, at=time))


IN_BACKOFF = "pod didn't trigger scale-up: 1 in backoff after failed scale-up, 1 max node group size reached"
AT_MOST = "pod didn't trigger scale-up: 2 max node group size reached"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reason", "text", "by", "quota"),
    [
        pytest.param("FailedScaleUp", "scale up in zones us-a: GCE out of resources", "ca", False, id="gke-stockout"),
        pytest.param("FailedScaleUp", "scale up in zones us-a: GCE quota exceeded", "ca", True, id="gke-quota"),
        pytest.param("NotTriggerScaleUp", IN_BACKOFF, "cluster-autoscaler", False, id="backoff"),
        pytest.param("NotTriggerScaleUp", AT_MOST, "cluster-autoscaler", True, id="node-group-at-its-maximum"),
        pytest.param("FailedScheduling", "all types exceed limits of nodepool", "karpenter", True, id="limits"),
        pytest.param("FailedScheduling", "no instance type has an offering", "karpenter", False, id="no-offering"),
    ],
)
async def test_capacity_event_of_the_autoscaler_is_a_shortfall(
    fake: FakeKube, opened: Opened, reason: str, text: str, by: str, quota: bool
) -> None:
    actuator = await opened()
    await unscheduled(fake, ("FailedScheduling", "0/2 nodes are available", "default-scheduler"), (reason, text, by))
    status = await settled(actuator, lambda s: s.shortfall is not None)
    assert status.shortfall is not None
    assert (status.desired, status.failed, status.pending) == (3, 1, 0)
    assert (status.shortfall.reason, status.shortfall.quota) == (f"{reason}: {text}", quota)


@pytest.mark.parametrize("later", ["TriggeredScaleUp", "Nominated"])
async def test_later_scale_up_event_ends_the_shortfall(fake: FakeKube, opened: Opened, later: str) -> None:
    actuator = await opened()
    await unscheduled(fake, ("NotTriggerScaleUp", AT_MOST, "ca"), (later, "on its way", "ca"))
    await fake.put("nodes", "node-0", {"spec": {"taints": [{"key": "karpenter.sh/disrupted"}]}})  # reported after these
    status = await settled(actuator, lambda s: s.interruption_pending == 1 and s.desired == 3)
    assert (status.failed, status.shortfall, status.pending) == (0, None, 1)


async def test_scheduled_pod_ends_the_shortfall(fake: FakeKube, opened: Opened) -> None:
    actuator = await opened()
    await unscheduled(fake, ("NotTriggerScaleUp", AT_MOST, "ca"))
    await settled(actuator, lambda s: s.failed == 1)
    await fake.put("pods", "llm-2", {"spec": {"nodeName": "node-0"}})
    assert (await settled(actuator, lambda s: s.failed == 0)).shortfall is None


async def test_unschedulable_pod_is_a_shortfall_after_unscheduled_s(
    fake: FakeKube, opened: Opened, clock: ManualClock
) -> None:
    actuator = await opened(unscheduled_s=60.0)
    await unscheduled(fake, ("FailedScheduling", "0/2 nodes are available", "default-scheduler"))
    created = {"metadata": {"creationTimestamp": rfc3339(clock.now())}}
    await fake.put("pods", "llm-2", created)
    assert (await settled(actuator, lambda s: s.desired == 3)).failed == 0
    clock.advance(61)
    await confirm(fake)
    assert (await settled(actuator, lambda s: s.failed == 1)).shortfall is not None


async def test_repeated_event_of_one_attempt_is_one_shortfall(fake: FakeKube, opened: Opened) -> None:
    actuator = await opened()
    await unscheduled(fake, ("NotTriggerScaleUp", AT_MOST, "ca"))
    first = (await settled(actuator, lambda s: s.shortfall is not None)).shortfall
    await fake.put("events", "e0", {"lastTimestamp": "2026-01-01T01:00:00Z", "count": 360})
    await asyncio.sleep(0.1)
    assert (await actuator.status()).value.shortfall == first


async def test_pods_rejected_by_a_quota_are_failed(fake: FakeKube, opened: Opened) -> None:
    actuator = await opened()
    text = 'pods "llm-x" is forbidden: exceeded quota: gpus, requested: 1, used: 2, limited: 2'
    condition = {"type": "ReplicaFailure", "status": "True", "message": text}
    await fake.put("deployments", "llm", {"spec": {"replicas": 5}, "status": {"conditions": [condition]}})
    status = await settled(actuator, lambda s: s.failed == 3)
    assert status.shortfall is not None
    assert (status.pending, status.shortfall.quota, status.shortfall.reason) == (0, True, text)


async def confirm(fake: FakeKube) -> None:
    """Change pods and events, so that the watches confirm the present state."""
    await fake.put("pods", "llm-0", {"status": {"touched": "yes"}})
    await fake.put("events", "e0", {"count": 2})


def rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize(
    ("owner", "belongs"),
    [
        (("", ""), True),  # its controller accepts it
        (("ReplicaSet", "llm-5d8f"), True),
        (("ReplicaSet", "llm-spot-5d8f"), False),
        (("StatefulSet", "llm"), False),
    ],
)
def test_pod_belongs_to_its_owner_s_object_only(owner: tuple[str, str], belongs: bool) -> None:
    body = ready_pod("llm", "node-0")
    body["metadata"] |= {"name": "x", "uid": "u", "resourceVersion": "1"}
    body["metadata"]["ownerReferences"] = [{"kind": owner[0], "name": owner[1], "controller": True}] if owner[0] else []
    assert parse(body, 0.0).belongs("Deployment", "llm") is belongs


# --- permissions


async def test_resize_works_without_permission_to_list_nodes(fake: FakeKube, opened: Opened) -> None:
    fake.forbidden |= {(verb, plural) for verb in ("list", "watch") for plural in ("nodes", "events", "pods")}
    actuator = await opened()
    observed = await settled(actuator, lambda s: s.ready == 2)
    assert (observed.parts, observed.interruption_pending, observed.failed) == ((), 0, 0)
    await actuator.resize(3, observed)
    assert fake.get("deployments", "llm")["spec"]["replicas"] == 3


async def test_watch_pods_false_watches_no_pods_nodes_or_events(fake: FakeKube, opened: Opened) -> None:
    actuator = await opened(watch_pods=False)
    await settled(actuator, lambda s: s.ready == 2)
    assert {resource for _, resource in fake.calls}.isdisjoint({"pods", "nodes", "events"})


async def test_permissions_are_reported_without_a_write(fake: FakeKube, opened: Opened) -> None:
    actuator = await opened()
    fake.forbidden |= {("patch", "deployments/scale"), ("watch", "nodes")}
    permits = {permit.action: permit for permit in await actuator.permits()}
    assert permits["patch deployments/scale.apps in namespace default"] == Permit(
        "patch deployments/scale.apps in namespace default",
        False,
        "grant it in a Role with the rules in config/deploy/kubernetes.yaml",
    )
    assert permits["get deployments.apps in namespace default"].granted
    assert permits["watch nodes"].granted is None
    assert "zones, markets and interruption notices" in permits["watch nodes"].detail
    assert ("patch", "deployments/scale") not in fake.calls
