"""KServe's objects: where their size is written, and which of them are refused."""

from __future__ import annotations

from typing import Any

import pytest

from scaler.clouds.kubernetes import custom_resources, kserve
from scaler.clouds.kubernetes.kserve import Child, Component
from scaler.config.kinds.kserve import GROUP, KServe
from scaler.ports import Misconfigured

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
