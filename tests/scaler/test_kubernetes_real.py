"""A real control plane that is frozen, killed and started again; the shipped manifests on it; a pod's credentials."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from policies.model import PoolName, PoolStatus, WorkloadName
from scaler.actuators.kubernetes import Kubernetes, KubernetesResizer
from scaler.clouds.cluster import KubeCluster
from scaler.clouds.kube import Session
from scaler.clouds.kube_credentials import in_pod
from scaler.ports import Misconfigured, Unavailable
from scaler.resources import Opening, Resources
from tests.contracts.actuator import settled
from tests.fakes import ManualClock
from tests.servers.control_plane import SCALER, why_not
from tests.servers.kube_places import RealPlace, real_place
from tests.servers.kube_real import manifests

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is one"),
]
LWS = "leaderworkerset.x-k8s.io/v1"
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
            return await spec.open(Opening(resources, clock, 2.0), WorkloadName("chat"), PoolName("gpus"))

        yield opening


async def test_comes_back_after_the_api_server_was_killed_and_started_again(
    place: RealPlace, opened: Open, clock: ManualClock
) -> None:
    actuator = await opened()
    await settled(actuator, lambda s: s.ready == 2)
    place.ground.plane.kill_apiserver()
    clock.advance(21)
    with pytest.raises(Unavailable):
        await actuator.status()
    place.ground.plane.start_apiserver()
    await actuator.resize(3, await settled(actuator, lambda s: s.desired == 2))
    assert await place.size() == 3


async def test_a_frozen_api_server_makes_a_size_old_and_then_unknown(
    place: RealPlace, opened: Open, clock: ManualClock
) -> None:
    actuator = await opened()
    before = await actuator.status()
    place.ground.plane.freeze()
    try:
        clock.advance(19)
        assert (await actuator.status()).measured_at == before.measured_at
        clock.advance(2)
        with pytest.raises(Unavailable, match=r"no answer within 1\.6 s"):
            await actuator.status()
    finally:
        place.ground.plane.thaw()
    await settled(actuator, lambda s: s.ready == 2)


async def test_a_frozen_etcd_is_unavailable(place: RealPlace, opened: Open) -> None:
    actuator = await opened()
    seen = await settled(actuator, lambda s: s.ready == 2)
    place.ground.plane.freeze("etcd")
    try:
        with pytest.raises(Unavailable):
            await actuator.resize(3, seen)
    finally:
        place.ground.plane.thaw("etcd")
    assert (await settled(actuator, lambda s: s.desired in {2, 3})).foreign is None


async def test_a_rotated_service_account_token_is_used_at_once(
    place: RealPlace, clock: ManualClock, tmp_path: Path
) -> None:
    plane = place.ground.plane
    (tmp_path / "token").write_text("expired")
    (tmp_path / "ca.crt").write_bytes(plane.certificate.read_bytes())
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(plane.port)}
    session = Session(Opening(Resources(), clock, 5.0), in_pod(environ, tmp_path))
    path = place.ground.path("deployments", "llm")
    with pytest.raises(Misconfigured, match="does not accept our credentials"):
        await session.call("get", "GET", path, 5.0)
    (tmp_path / "token").write_text(SCALER)
    assert (await session.call("get", "GET", path, 5.0))["metadata"]["name"] == "llm"
    await session.close()


async def test_a_server_with_another_certificate_is_misconfigured(
    place: RealPlace, clock: ManualClock, tmp_path: Path
) -> None:
    document = json.loads(place.kubeconfig.read_text())
    del document["clusters"][0]["cluster"]["certificate-authority"]
    (tmp_path / "kubeconfig").write_text(json.dumps(document))
    spec = Kubernetes(name="llm", cluster=KubeCluster(kubeconfig=str(tmp_path / "kubeconfig")))
    async with Resources() as resources:
        actuator = await spec.open(Opening(resources, clock, 5.0), WorkloadName("chat"), PoolName("gpus"))
        with pytest.raises(Misconfigured, match="certificate is not trusted"):
            await actuator.status()


# --- what is shipped


async def test_the_shipped_role_permits_what_is_called_and_nothing_else(place: RealPlace, opened: Open) -> None:
    await place.add_hpa("by-cpu")
    await place.add_scaled_object("by-queue")
    await place.add_stateful_set()
    ground = place.ground
    await ground.kind("leaderworkersets", "LeaderWorkerSet", LWS, ".spec.replicas")
    body = {"apiVersion": LWS, "kind": "LeaderWorkerSet", "metadata": {"name": "llm"}, "spec": {"replicas": 2}}
    await ground.call("POST", ground.path("leaderworkersets", api=f"apis/{LWS}"), body)
    for kind, version in (("Deployment", "apps/v1"), ("StatefulSet", "apps/v1"), ("LeaderWorkerSet", LWS)):
        actuator = await opened(kind, version)
        seen = await settled(actuator, lambda s: s.desired == 2)
        await actuator.resize(3, seen)
        await actuator.resize(4, PoolStatus(3, 0, version="1"))  # refused: so it looks, and writes again
    wanted = granted()
    async with asyncio.timeout(20):
        while True:
            called = calls(place)
            if {call for call, _ in called} >= wanted:
                break
            await asyncio.sleep(0.5)
            place.proxy.tear_down()  # a watch is in the log when it has ended
    assert {call for call, _ in called} == wanted
    assert 403 not in {code for _, code in called}


def granted() -> set[Call]:
    """Every verb on every resource that the shipped Role grants."""
    rules = next(m["rules"] for m in manifests() if m["kind"] == "Role")
    return {(v, g, r) for rule in rules for v in rule["verbs"] for g in rule["apiGroups"] for r in rule["resources"]}


def calls(place: RealPlace) -> list[tuple[Call, int]]:
    """The scaler's calls in the namespace, with the status of the answer, as the API server's audit log has them."""
    found = []
    for line in place.ground.plane.audit.read_text().splitlines():
        entry: dict[str, Any] = json.loads(line)
        of = entry.get("objectRef", {})
        if entry["user"].get("username") == "scaler" and of.get("namespace") == place.namespace:
            resource = "/".join(filter(None, (of["resource"], of.get("subresource"))))
            found.append(((entry["verb"], of.get("apiGroup", ""), resource), entry["responseStatus"]["code"]))
    return found


@pytest.mark.parametrize("manifest", manifests(), ids=lambda m: m["kind"])
async def test_the_api_server_takes_the_shipped_manifests_whole(place: RealPlace, manifest: dict[str, Any]) -> None:
    api = "api/v1" if manifest["apiVersion"] == "v1" else f"apis/{manifest['apiVersion']}"
    path = place.ground.path(f"{manifest['kind'].lower()}s", api=api)
    taken = await place.ground.call("POST", f"{path}?dryRun=All", renamed(manifest))
    assert left_out(renamed(manifest), taken) == []


def renamed(manifest: dict[str, Any]) -> dict[str, Any]:
    return {**manifest, "metadata": {**manifest["metadata"], "name": "shipped"}}


def left_out(given: Any, taken: Any, where: str = "") -> list[str]:
    """The fields of `given` that the API server dropped or changed."""
    if isinstance(given, dict):
        if not isinstance(taken, dict):
            return [where]
        return [w for k, v in given.items() for w in left_out(v, taken.get(k), f"{where}.{k}")]
    if isinstance(given, list):
        if not isinstance(taken, list) or len(given) != len(taken):
            return [where]
        return [w for i, (g, t) in enumerate(zip(given, taken, strict=True)) for w in left_out(g, t, f"{where}[{i}]")]
    return [] if given == taken else [where]
