"""A real control plane: frozen, killed and restarted; the shipped manifests on it; a pod's credentials."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from policies.model import PoolName, PoolStatus, WorkloadName
from scaler.actuators.kubernetes import KubernetesResizer, open_kubernetes
from scaler.adapters import open_pool
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.credentials import in_pod
from scaler.clouds.kubernetes.drain_settings import Drain
from scaler.clouds.kubernetes.event_writer import open_writer
from scaler.clouds.kubernetes.session import Session
from scaler.config.kinds.kubernetes import CapacityBuffer, KarpenterNodePool, Kubernetes
from scaler.kubernetes_events import Regarding, WorkloadEvent
from scaler.ports import Misconfigured, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from tests.contracts.actuator import settled
from tests.factories import DEADLINE_S
from tests.fakes import ManualClock
from tests.servers.control_plane import SCALER, why_not
from tests.servers.kube_places import RealPlace, real_place
from tests.servers.kube_real import left_out, manifests, path_of, shipped_rules

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is one"),
]
LWS = "leaderworkerset.x-k8s.io/v1"
KARPENTER = "karpenter.sh/v1"
BUFFERS = "autoscaling.x-k8s.io/v1beta1"
Open: TypeAlias = Callable[..., Awaitable[KubernetesResizer]]
Call: TypeAlias = tuple[str, str, str]
"""Verb, API group, resource."""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def place() -> AsyncIterator[RealPlace]:
    async with real_place() as real:
        yield real


@pytest.fixture
async def opened(place: RealPlace, clock: ManualClock) -> AsyncIterator[Open]:
    async with Resources() as resources:

        async def opening(object_kind: str = "Deployment", api_version: str = "apps/v1") -> KubernetesResizer:
            cluster = KubeCluster(kubeconfig=str(place.kubeconfig))
            named = {"api_version": api_version, "object_kind": object_kind, "namespace": place.namespace}
            spec = Kubernetes(name="llm", cluster=cluster, **named)  # type: ignore[arg-type]
            return await open_kubernetes(
                spec, AdapterContext(resources, clock, 2.0), WorkloadName("chat"), PoolName("gpus")
            )

        yield opening


async def test_resize_works_after_the_api_server_restarts(place: RealPlace, opened: Open, clock: ManualClock) -> None:
    actuator = await opened()
    await settled(actuator, lambda s: s.ready == 2)
    place.kube_namespace.plane.kill_apiserver()
    clock.advance(21)
    with pytest.raises(Unavailable):
        await actuator.status()
    place.kube_namespace.plane.start_apiserver()
    await actuator.resize(3, await settled(actuator, lambda s: s.desired == 2))
    assert await place.size() == 3


async def test_size_ages_and_becomes_unavailable_with_a_frozen_api_server(
    place: RealPlace, opened: Open, clock: ManualClock
) -> None:
    actuator = await opened()
    before = await actuator.status()
    place.kube_namespace.plane.freeze()
    try:
        clock.advance(19)
        assert (await actuator.status()).measured_at == before.measured_at
        clock.advance(2)
        with pytest.raises(Unavailable, match=r"no response within 1\.6 s"):
            await actuator.status()
    finally:
        place.kube_namespace.plane.thaw()
    await settled(actuator, lambda s: s.ready == 2)


async def test_resize_with_a_frozen_etcd_is_unavailable(place: RealPlace, opened: Open) -> None:
    actuator = await opened()
    observed = await settled(actuator, lambda s: s.ready == 2)
    place.kube_namespace.plane.freeze("etcd")
    try:
        with pytest.raises(Unavailable):
            await actuator.resize(3, observed)
    finally:
        place.kube_namespace.plane.thaw("etcd")
    assert (await settled(actuator, lambda s: s.desired in {2, 3})).other_writer is None


async def test_a_rotated_service_account_token_is_used_at_once(
    place: RealPlace, clock: ManualClock, tmp_path: Path
) -> None:
    plane = place.kube_namespace.plane
    (tmp_path / "token").write_text("expired")
    (tmp_path / "ca.crt").write_bytes(plane.certificate.read_bytes())
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(plane.port)}
    session = Session(AdapterContext(Resources(), clock, DEADLINE_S), in_pod(environ, tmp_path))
    path = place.kube_namespace.path("deployments", "llm")
    with pytest.raises(Misconfigured, match="rejects the daemon's credentials"):
        await session.call("get", "GET", path, 5.0)
    (tmp_path / "token").write_text(SCALER)
    assert (await session.call("get", "GET", path, 5.0))["metadata"]["name"] == "llm"
    await session.aclose()


async def test_a_server_with_another_certificate_is_misconfigured(
    place: RealPlace, clock: ManualClock, tmp_path: Path
) -> None:
    document = json.loads(place.kubeconfig.read_text())
    del document["clusters"][0]["cluster"]["certificate-authority"]
    (tmp_path / "kubeconfig").write_text(json.dumps(document))
    spec = Kubernetes(name="llm", cluster=KubeCluster(kubeconfig=str(tmp_path / "kubeconfig")))
    async with Resources() as resources:
        actuator = await open_kubernetes(
            spec, AdapterContext(resources, clock, DEADLINE_S), WorkloadName("chat"), PoolName("gpus")
        )
        with pytest.raises(Misconfigured, match="certificate is not trusted"):
            await actuator.status()


# --- shipped manifests


async def test_shipped_roles_permit_exactly_the_calls(place: RealPlace, opened: Open, clock: ManualClock) -> None:
    await place.add_hpa("by-cpu")
    await place.add_scaled_object("by-queue")
    await place.add_stateful_set()
    await arrange(place)
    for kind, version in (("Deployment", "apps/v1"), ("StatefulSet", "apps/v1"), ("LeaderWorkerSet", LWS)):
        actuator = await opened(kind, version)
        observed = await settled(actuator, lambda s: s.desired == 2)
        await actuator.resize(3, observed)
        await actuator.resize(4, PoolStatus(3, 0, version="1"))  # a conflict: it reads and writes again
    async with Resources() as resources:
        for pool in (
            KarpenterNodePool(name=place.namespace, cluster=cluster_of(place)),
            CapacityBuffer(name="room", namespace=place.namespace, tier="warm_node", cluster=cluster_of(place)),
            draining(place),
        ):
            actuator_of_chat: Any = await open_pool(
                pool, AdapterContext(resources, clock, DEADLINE_S), WorkloadName("chat"), PoolName("other")
            )
            await actuator_of_chat.resize(1, await settled(actuator_of_chat, lambda s: s.desired in {2, 4}))
            assert not [permit for permit in await actuator_of_chat.permits() if permit.granted is not True]
        writer = await open_writer(AdapterContext(resources, clock, DEADLINE_S), cluster_of(place))
        notice = WorkloadEvent(
            Regarding("apps/v1", "Deployment", place.namespace, "llm"), "ScaledOut", "2 -> 3 replicas"
        )
        writer.put(notice)
        await asyncio.sleep(1)
        writer.put(notice)  # the second one continues the series of the first one: a patch
        expected = granted()
        until = asyncio.get_running_loop().time() + 30
        while {call for call, _ in calls(place)} < expected and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.5)
            place.proxy.tear_down()  # the log lists a watch once it has ended
    called = calls(place)
    assert {call for call, _ in called} == expected
    assert 403 not in {code for _, code in called}


async def test_a_missing_permission_is_reported_without_a_write(place: RealPlace, opened: Open) -> None:
    actuator = await opened()
    await settled(actuator, lambda s: s.ready == 2)
    await place.kube_namespace.permit([rule for rule in shipped_rules() if "patch" not in rule["verbs"]])
    await place.kube_namespace.permitted("patch", "apps/deployments/scale", granted=False)
    permits = {permit.action: permit.granted for permit in await actuator.permits()}
    where = f"in namespace {place.namespace}"
    assert permits[f"patch deployments/scale.apps {where}"] is False
    assert permits[f"list deployments.apps {where}"] is True
    await place.kube_namespace.permit([])
    await place.kube_namespace.permitted("list", "pods", granted=False)
    permits = {permit.action: permit.granted for permit in await actuator.permits()}
    assert permits[f"list pods {where}"] is None


async def arrange(place: RealPlace) -> None:
    """Create a LeaderWorkerSet, a CapacityBuffer, and a NodePool named as the namespace, each of size 2."""
    kube_namespace = place.kube_namespace
    await kube_namespace.kind("leaderworkersets", "LeaderWorkerSet", LWS, ".spec.replicas")
    await kube_namespace.kind("capacitybuffers", "CapacityBuffer", BUFFERS, None)
    await kube_namespace.kind("nodepools", "NodePool", KARPENTER, ".spec.replicas", "Cluster")
    await kube_namespace.kind("nodeclaims", "NodeClaim", KARPENTER, None, "Cluster")
    for version, kind, name, path in (
        (LWS, "LeaderWorkerSet", "llm", kube_namespace.path("leaderworkersets", api=f"apis/{LWS}")),
        (BUFFERS, "CapacityBuffer", "room", kube_namespace.path("capacitybuffers", api=f"apis/{BUFFERS}")),
        (KARPENTER, "NodePool", kube_namespace.namespace, f"/apis/{KARPENTER}/nodepools"),
    ):
        body = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": {"replicas": 2}}
        await kube_namespace.call("POST", path, body)


def cluster_of(place: RealPlace) -> KubeCluster:
    return KubeCluster(kubeconfig=str(place.kubeconfig))


def draining(place: RealPlace) -> Kubernetes:
    drain = Drain(routing_label="forescale.io/routed", port=1)
    return Kubernetes(name="llm", namespace=place.namespace, cluster=cluster_of(place), drain=drain)


def granted() -> set[Call]:
    """Return every verb on every resource that the shipped Roles grant."""
    shipped = [*manifests(), *manifests("kubernetes-nodes")]
    rules = [rule for m in shipped if m["kind"] in {"Role", "ClusterRole"} for rule in m["rules"]]
    return {(v, g, r) for rule in rules for v in rule["verbs"] for g in rule["apiGroups"] for r in rule["resources"]}


def calls(place: RealPlace) -> list[tuple[Call, int]]:
    """Return the scaler's calls with their response status, from the API server's audit log.

    They are the calls on the namespace, on cluster-wide resources, and on events in `default`.
    """
    logged = []
    for entry in place.kube_namespace.plane.audit_events():
        of = entry.get("objectRef", {})
        namespaces = {None, "", place.namespace, "default"}
        if entry["user"].get("username") == "scaler" and "resource" in of and of.get("namespace") in namespaces:
            resource = "/".join(filter(None, (of["resource"], of.get("subresource"))))
            if resource != "selfsubjectaccessreviews":
                logged.append(((entry["verb"], of.get("apiGroup", ""), resource), entry["responseStatus"]["code"]))
    return logged


FILES = ("kubernetes", "kubernetes-nodes", "kubernetes-kserve", "kubernetes-routes", "placeholders")
SHIPPED = [manifest for file in FILES for manifest in manifests(file)]


@pytest.mark.parametrize("manifest", SHIPPED, ids=lambda m: f"{m['kind']}-{m['metadata']['name']}")
async def test_api_server_keeps_every_field_of_the_shipped_manifests(
    place: RealPlace, manifest: dict[str, Any]
) -> None:
    path = path_of(manifest, place.namespace)
    accepted = await place.kube_namespace.call("POST", f"{path}?dryRun=All", renamed(manifest))
    assert left_out(renamed(manifest), accepted) == []


def renamed(manifest: dict[str, Any]) -> dict[str, Any]:
    return {**manifest, "metadata": {**manifest["metadata"], "name": "shipped"}}
