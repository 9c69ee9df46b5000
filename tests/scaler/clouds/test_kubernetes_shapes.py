"""Objects with every part spoiled: they are read or refused, without a defect."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from policies.model import PoolName, WorkloadName
from scaler.actuators.capacity_buffer import provided_replicas
from scaler.actuators.karpenter_node_pool import nodes_limit
from scaler.adapters import open_pool
from scaler.clouds.kubernetes import custom_resources, events, kserve, node_claims, nodes, objects, pods
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.drain_settings import Drain
from scaler.clouds.kubernetes.objects import ScalableKind
from scaler.clouds.kubernetes.other_autoscalers import targets
from scaler.config.kinds.kserve import KServe
from scaler.config.kinds.kubernetes import CapacityBuffer, KarpenterNodePool, Kubernetes
from scaler.ports import Misconfigured, PortError, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from tests.factories import DEADLINE_S
from tests.fakes import ManualClock
from tests.servers.kube_fake import FakeKube, kube_fake, write_kubeconfig
from tests.servers.kube_objects import claim, event, node, put_deployment, ready_pod

STRANGE = [None, [], {}, "strange", -1, 1.5, True, [None], {"a": None}, 0]
METADATA = {"name": "x", "uid": "u", "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z"}
OWNED = {"ownerReferences": [{"kind": "ReplicaSet", "name": "x-1", "controller": True}]}
FIELDS = {"managedFields": [{"manager": "kubectl", "time": "2026", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]}
FAILING = {"type": "ReplicaFailure", "status": "True", "message": "quota", "lastTransitionTime": "2026-01-01T00:00:00Z"}
SELECTOR = {"matchLabels": {"app": "x"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}
PLACED = {"type": "Provisioning", "status": "False", "reason": "RequiresNewCapacity", "observedGeneration": 1}


def whole(body: Mapping[str, Any], **metadata: Any) -> dict[str, Any]:
    return {**body, "metadata": {**METADATA, **body.get("metadata", {}), **metadata}}


def buffer(body: Mapping[str, Any]) -> object:
    parsed = custom_resources.parse_object(body, 0.0)
    ready, failed, _ = provided_replicas(parsed, 3)
    assert 0 <= ready <= 3
    assert 0 <= failed <= 3
    return nodes_limit(parsed), ready


def kserve_object(spec: KServe, body: Mapping[str, Any]) -> object:
    """Read all that a pool reads of an object; a size or child of another kind is refused."""
    parent = custom_resources.parse_object(body, 0.0)
    failed, _ = kserve.missing_replicas(parent, 3, 2)
    assert failed in {0, 2, 3}
    kserve.reason_not_ready(parent)
    try:
        return kserve.component_of(spec, parent)
    except Misconfigured as e:
        return str(e)


DEPLOYMENT = ScalableKind("apps/v1", "Deployment", "deployments", namespaced=True)
OTHER = ScalableKind("x.io/v1", "Thing", "things", namespaced=True)
COUNTS = {"replicas": 2, "readyReplicas": 2, "conditions": [FAILING]}
SIZED = {"spec": {"replicas": 3, "selector": SELECTOR}, "status": COUNTS}
SCALE = {"spec": {"replicas": 3}, "status": {"replicas": 2, "selector": "app=x"}}
TAINTED = {"taints": [{"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}], "providerID": "aws:///a/i-1"}
CONDITIONS = {"conditions": [{"type": "Ready", "status": "True"}, {"type": "VMEventScheduled", "status": "True"}]}
GROWS = {**PLACED, "message": "1/3 virtual pods required new capacity, 1 failed"}
OF_BUFFER = {"spec": {"replicas": 3, "limits": {"nodes": "5"}}, "status": {"replicas": 2, "conditions": [GROWS]}}
SCALER = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}}

NOT_READY = {
    "type": "Ready",
    "status": "False",
    "reason": "r",
    "message": "m",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}
FAILED = {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": {"reason": "r", "message": "m", "time": "2026"}}
PREDICTOR = {
    "spec": {"predictor": {"minReplicas": 2, "maxReplicas": 2}},
    "status": {"deploymentMode": "Standard", "modelStatus": FAILED, "conditions": [NOT_READY], "observedGeneration": 1},
}
DECODE = {
    "spec": {"replicas": 2, "prefill": {"replicas": 1, "worker": {}}},
    "status": {
        "workloads": {"primary": {"kind": "Deployment", "name": "x-kserve"}},
        "conditions": [NOT_READY],
        "observedGeneration": 1,
    },
}
LLM_SERVICE = KServe(name="x", object_kind="LLMInferenceService")
OF_CLASS = {"generation": 1, "annotations": {"serving.kserve.io/autoscalerClass": "none"}}

CASES: dict[str, tuple[Callable[[Mapping[str, Any]], object], dict[str, Any]]] = {
    "pod": (lambda body: pods.parse(body, 0.0), whole(ready_pod("x", "n"), **OWNED)),
    "node": (nodes.parse, whole({**node("us-a"), "spec": TAINTED, "status": CONDITIONS})),
    "claim": (lambda body: node_claims.parse(body, 0.0), whole(claim("p", "n", "us-a"))),
    "event": (lambda body: events.parse_object_event(body, 0.0), whole(event(whole({}), "FailedScaleUp", "none"))),
    "deployment": (lambda body: objects.parse(DEPLOYMENT, body, 0.0), whole(SIZED, **FIELDS)),
    "custom": (lambda body: objects.parse(OTHER, body, 0.0), whole(SIZED, **FIELDS)),
    "scale": (lambda body: objects.scale_of("get", body), whole(SCALE)),
    "buffer": (buffer, whole(OF_BUFFER, generation=1)),
    "predictor": (partial(kserve_object, KServe(name="x")), whole(PREDICTOR, **OF_CLASS, **FIELDS)),
    "llm service": (partial(kserve_object, LLM_SERVICE), whole(DECODE, generation=1)),
    "prefill": (partial(kserve_object, replace(LLM_SERVICE, component="prefill")), whole(DECODE, generation=1)),
    "autoscaler": (lambda body: targets([dict(body)]), whole({"spec": SCALER})),
}


def spots(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Return the paths of all parts of a value, except itself."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield (*path, key)
        yield from spots(child, (*path, key))


def spoiled(body: Any, path: tuple[Any, ...], strange: Any) -> Any:
    changed = copy.deepcopy(body)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = strange
    return changed


@pytest.mark.parametrize("case", CASES)
def test_object_with_a_malformed_field_raises_only_unavailable(case: str) -> None:
    read, body = CASES[case]
    assert read(body) is not None
    tried = 0
    for path in spots(body):
        for strange in STRANGE:
            tried += 1
            try:
                read(spoiled(body, path, strange))
            except Unavailable:
                continue
            except Exception as e:
                raise AssertionError(f"{'.'.join(map(str, path))} = {strange!r}: {e!r}") from e
    assert tried > 50


@pytest.mark.parametrize("case", CASES)
def test_object_with_an_omitted_field_raises_only_unavailable(case: str) -> None:
    read, body = CASES[case]
    for path in spots(body):
        changed = copy.deepcopy(body)
        inner = changed
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
        try:
            read(changed)
        except Unavailable:
            continue


@pytest.mark.slow
async def test_malformed_response_raises_only_port_errors(tmp_path: Path) -> None:
    async with kube_fake() as fake:
        await arrange(fake)
        kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", fake.port)
        answers: dict[str, Any] = {}
        fake.edit = answers.setdefault
        await ask(kubeconfig)
        assert len(answers) > 10
        for path, answer in answers.items():
            for spot in [(), *(spot for spot in spots(answer) if len(spot) <= 2)]:
                for strange in ("strange", [None])[: 3 - len(spot)]:
                    fake.edit = partial(spoil, path, spot, strange)
                    try:
                        await ask(kubeconfig)
                    except PortError:
                        continue
                    except Exception as e:
                        raise AssertionError(f"{path} {spot} = {strange!r}: {e!r}") from e


def spoil(path: str, spot: tuple[Any, ...], strange: Any, operation: str, answer: Any) -> Any:
    return answer if operation != path else spoiled(answer, spot, strange) if spot else strange


async def arrange(fake: FakeKube) -> None:
    await put_deployment(fake, "llm", 1)
    await fake.put("nodepools", "spot", {"spec": {"replicas": 1}})
    await fake.put("nodeclaims", "spot-0", claim("spot", "node-0", "us-a"))
    await fake.put("capacitybuffers", "room", {"spec": {"replicas": 1}})
    await fake.put("horizontalpodautoscalers", "other", {"spec": {"scaleTargetRef": {"name": "other"}}})
    await fake.put("events", "said", event({"metadata": {"name": "x", "uid": "x"}}, "FailedScaleUp", "none"))


async def ask(kubeconfig: Path) -> None:
    """Read the status and permissions of every kind of pool, newly opened. Raises their errors and the watches'."""
    cluster = KubeCluster(kubeconfig=str(kubeconfig))
    pools = (
        Kubernetes(name="llm", cluster=cluster, drain=Drain(routing_label="routed", port=1)),
        KarpenterNodePool(name="spot", cluster=cluster),
        CapacityBuffer(name="room", tier="warm_node", cluster=cluster),
    )
    async with Resources() as resources:
        context = AdapterContext(resources, ManualClock(), DEADLINE_S)
        for pool in pools:
            opened: Any = await open_pool(pool, context, WorkloadName("chat"), PoolName("pool"))
            with contextlib.suppress(PortError):
                await opened.status()
            with contextlib.suppress(PortError):
                await opened.permits()
        for task in asyncio.all_tasks():
            if task.done():
                task.result()
