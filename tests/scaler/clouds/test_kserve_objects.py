"""KServe's objects: where their size is written, and which of them are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from policies.model import PoolName, WorkloadName
from scaler.actuators.kserve import open_kserve
from scaler.clock import SystemClock
from scaler.clouds.kubernetes import custom_resources, kserve
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.kserve import Child, Component
from scaler.config.kinds.kserve import GROUP, KServe
from scaler.kubernetes_events import Regarding, object_of
from scaler.ports import Misconfigured, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from tests.contracts.actuator import settled
from tests.factories import DEADLINE_S
from tests.servers.kube_fake import kube_fake, write_kubeconfig
from tests.servers.kube_objects import put_deployment

PREDICTOR = Child("apps/v1", "Deployment", "llm-predictor")
DECODE = Child("apps/v1", "Deployment", "llm-kserve")
PREFILL = Child("apps/v1", "Deployment", "llm-kserve-prefill")
GROUPS = Child("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", "llm-kserve-mn")
PREFILL_GROUPS = Child("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", "llm-kserve-mn-prefill")
MINIMUM_AND_MAXIMUM = (("predictor", "minReplicas"), ("predictor", "maxReplicas"))
LLM: dict[str, Any] = {"object_kind": "LLMInferenceService"}


def component(settings: dict[str, Any], spec: dict[str, Any], status: Any = None, **annotations: str) -> Component:
    named = {f"{GROUP}/{key}": value for key, value in annotations.items()}
    metadata = {"name": "llm", "resourceVersion": "7", "annotations": named}
    parent = custom_resources.parse_object({"metadata": metadata, "spec": spec, "status": status or {}}, 0.0)
    return kserve.component_of(KServe(name="llm", **settings), parent)


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({"autoscalerClass": "external"}, Component(PREDICTOR)),
        ({"autoscalerClass": "external", "deploymentMode": "RawDeployment"}, Component(PREDICTOR)),
        ({"autoscalerClass": "none"}, Component(PREDICTOR, MINIMUM_AND_MAXIMUM)),
        ({"autoscalerClass": "external", "stop": "false"}, Component(PREDICTOR)),
    ],
)
def test_size_of_a_predictor_is_where_its_autoscaler_class_says(
    annotations: dict[str, str], expected: Component
) -> None:
    assert component({}, {"predictor": {"minReplicas": 1}}, **annotations) == expected


@pytest.mark.parametrize(
    ("settings", "spec", "expected"),
    [
        ({}, {}, Component(DECODE)),
        ({}, {"replicas": 0}, Component(DECODE, (("replicas",),))),
        ({}, {"worker": {}}, Component(GROUPS)),
        ({"component": "prefill"}, {"prefill": {"template": {}}}, Component(PREFILL)),
        ({"component": "prefill"}, {"prefill": {"replicas": 2}}, Component(PREFILL, (("prefill", "replicas"),))),
        ({"component": "prefill"}, {"replicas": 2, "prefill": {"worker": {}}}, Component(PREFILL_GROUPS)),
    ],
)
def test_size_of_an_llm_service_is_in_its_replicas_or_its_child(
    settings: dict[str, Any], spec: dict[str, Any], expected: Component
) -> None:
    assert component(LLM | settings, spec) == expected


def test_child_in_the_status_counts_before_the_usual_name() -> None:
    workloads = {"primary": {"kind": "LeaderWorkerSet", "name": "a"}, "prefill": {"kind": "Deployment", "name": "b"}}
    status = {"workloads": workloads}
    assert component(LLM, {}, status).child == Child(GROUPS.api_version, "LeaderWorkerSet", "a")
    prefill = component(LLM | {"component": "prefill"}, {"prefill": {"replicas": 1}}, status)
    assert prefill.child == Child("apps/v1", "Deployment", "b")


@pytest.mark.parametrize(
    ("settings", "spec", "annotations", "refusal"),
    [
        ({}, {}, {}, "class hpa sizes it; set its annotation serving.kserve.io/autoscalerClass to external"),
        ({}, {}, {"autoscalerClass": "keda"}, "class keda sizes it"),
        ({}, {}, {"autoscalerClass": "external", "stop": "True"}, "stopped by its annotation serving.kserve.io/stop"),
        (LLM, {"scaling": {"maxReplicas": 4}}, {}, "replace spec.scaling by replicas"),
        (LLM | {"component": "prefill"}, {"prefill": {"scaling": {}}}, {}, "replace spec.prefill.scaling by replicas"),
    ],
)
def test_autoscaler_of_kserve_forbids_a_resize(
    settings: dict[str, Any], spec: dict[str, Any], annotations: dict[str, str], refusal: str
) -> None:
    found = component(settings, spec, **annotations)
    assert refusal in found.refusal
    assert found.stopped == ("stop" in annotations)


@pytest.mark.parametrize("mode", ["Knative", "Serverless", "ModelMesh"])
def test_mode_in_the_status_counts_before_the_annotation(mode: str) -> None:
    with pytest.raises(Misconfigured, match=f"in the deployment mode {mode}, another autoscaler sizes it"):
        component({}, {}, {"deploymentMode": mode}, deploymentMode="Standard", autoscalerClass="external")


def test_events_are_about_the_object_that_has_the_pool() -> None:
    pool = KServe(name="llm", namespace="chat", **LLM)
    assert object_of(pool) == Regarding(f"{GROUP}/v1alpha2", "LLMInferenceService", "chat", "llm")
    pool = KServe(name="llm", version="v1alpha1", **LLM)
    assert object_of(pool) == Regarding(f"{GROUP}/v1alpha1", "LLMInferenceService", "default", "llm")


async def test_size_is_written_once_where_the_response_is_lost(tmp_path: Path) -> None:
    async with kube_fake() as fake, Resources() as resources:
        await put_deployment(fake, "llm-kserve", 2)
        await fake.put("llminferenceservices", "llm", {"spec": {"replicas": 2}})
        cluster = KubeCluster(kubeconfig=str(write_kubeconfig(tmp_path / "kubeconfig", fake.port)))
        spec = KServe(name="llm", cluster=cluster, **LLM)
        pool = await open_kserve(
            spec, AdapterContext(resources, SystemClock(), DEADLINE_S), WorkloadName("chat"), PoolName("gpus")
        )
        observed = await settled(pool, lambda s: s.ready == 2)
        fake.loses = True
        with pytest.raises(Unavailable):
            await pool.resize(5, observed)
        fake.loses = False
        status = await settled(pool, lambda s: s.desired == 5)
        assert (status.other_writer, status.pending) == (None, 3)
        assert fake.calls.count(("patch", "llminferenceservices")) == 1
