"""Manifests that cannot be imported: each error has its line, key, rule and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scaler.config.problems import ConfigError, Problem
from scaler.migrate.manifests import read
from tests.scaler.migrate.importing import HPA, KEDA, SERVER, SQS, changed, import_manifests


def errors(folder: Path, *manifests: Any, prometheus: str | None = SERVER) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        import_manifests(folder, *manifests, prometheus=prometheus)
    return list(caught.value.problems)


def problems_of(folder: Path, text: str) -> list[Problem]:
    file = folder / "given.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read([file], SERVER, native_policies=False)
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("change", "path", "rule"),
    [
        ({"spec__maxReplicas": ...}, "spec.maxReplicas", "is required"),
        ({"spec__maxReplicas": 0}, "spec.maxReplicas", "whole number of at least 1"),
        ({"spec__minReplicas": 12}, "spec", "the minimum, 12, is above the maximum"),
        ({"spec__metrics": []}, "spec", "has no metric or trigger that the import supports"),
        ({"spec__metrics": [{"type": "Extern"}]}, "spec.metrics[0].type", "must be one of Resource,"),
        ({"spec__metrics": "cpu"}, "spec.metrics", "must be a list"),
        ({"spec__scaleTargetRef": ...}, "spec.scaleTargetRef", "is required"),
        ({"spec__behavior": {"scaleDown": {"stabilizationWindowSeconds": 4000}}},
         "spec.behavior.scaleDown.stabilizationWindowSeconds", "at most 3600"),
        ({"spec__behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 1}]}}},
         "spec.behavior.scaleUp.policies[0].periodSeconds", "is required"),
        ({"spec__behavior": {"scaleUp": {"selectPolicy": "max"}}}, "spec.behavior.scaleUp.selectPolicy", "one of Max"),
        ({"apiVersion": "autoscaling/v2beta2"}, "apiVersion", "autoscaling/v1, autoscaling/v2"),
    ],
)  # fmt: skip
def test_invalid_hpa_reports_path_and_rule(tmp_path: Path, change: dict[str, Any], path: str, rule: str) -> None:
    problems = errors(tmp_path, changed(HPA, **change))
    assert any(p.path == path and rule in p.rule for p in problems), problems


@pytest.mark.parametrize(
    ("change", "path", "rule"),
    [
        ({"spec__triggers": []}, "spec.triggers", "must not be empty"),
        ({"spec__triggers": [{"metadata": {}}]}, "spec.triggers[0].type", "is required"),
        ({"spec__idleReplicaCount": 1, "spec__minReplicaCount": 2}, "spec.idleReplicaCount", "must be 0"),
        ({"spec__idleReplicaCount": 0}, "spec.idleReplicaCount", "must be below minReplicaCount, 0"),
        ({"spec__fallback": {"replicas": 3}}, "spec.fallback.failureThreshold", "is required"),
        ({"spec__fallback": {"replicas": 3, "failureThreshold": 1, "behavior": "statik"}},
         "spec.fallback.behavior", "must be one of static"),
        ({"spec__triggers": [{"type": "prometheus", "metadata": {"threshold": "5"}}]},
         "spec.triggers[0].metadata.query", "is required"),
        ({"spec__triggers": [{"type": "rabbitmq", "metadata": {}}]}, "spec",
         "has no metric or trigger that the import supports"),
        ({"spec__triggers": [changed(SQS, metadata__queueURL="prompts")]}, "spec.triggers[0].metadata.queueURL",
         "must be the queue's URL"),
        ({"spec__triggers": [changed(SQS, metadata__queueURL=..., metadata__queueURLFromEnv="QUEUE")]},
         "spec.triggers[0].metadata.queueURLFromEnv", "names a variable of the target's container"),
        ({"spec__pollingInterval": "soon"}, "spec.pollingInterval", "whole number"),
    ],
)  # fmt: skip
def test_invalid_scaled_object_reports_path_and_rule(
    tmp_path: Path, change: dict[str, Any], path: str, rule: str
) -> None:
    problems = errors(tmp_path, changed(KEDA, **change))
    assert any(p.path == path and rule in p.rule for p in problems), problems


def test_error_has_the_line_of_its_key_in_a_multi_document_file(tmp_path: Path) -> None:
    problems = problems_of(
        tmp_path,
        """\
apiVersion: v1
kind: Service
metadata: {name: beside}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: chat, namespace: llm}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: chat}
  minReplicas: -1
  maxReplicas: many
""",
    )
    assert {(p.line, p.path, p.value) for p in problems} >= {
        (10, "spec.minReplicas", "-1"),
        (11, "spec.maxReplicas", '"many"'),
    }
    assert all(p.file.endswith("given.yaml") for p in problems)


def test_two_autoscalers_of_one_target_are_rejected(tmp_path: Path) -> None:
    other = changed(HPA, metadata__name="second")
    (problem,) = errors(tmp_path, HPA, other)
    assert (problem.path, problem.hint) == (
        "spec.scaleTargetRef",
        "import one of the two: --skip llm/vllm or --skip llm/second",
    )
    assert "HorizontalPodAutoscaler vllm" in problem.rule
    assert problem.rule.endswith("neither is imported")


def test_metrics_api_metric_needs_a_prometheus_server(tmp_path: Path) -> None:
    problems = errors(tmp_path, HPA, prometheus=None)
    assert "--prometheus URL" in problems[0].hint
    assert problems[0].path == "spec.metrics[0].external.metric"


def test_keda_generated_hpa_alone_names_its_scaled_object(tmp_path: Path) -> None:
    own = changed(HPA, metadata__labels={"scaledobject.keda.sh/name": "workers"})
    (problem,) = errors(tmp_path, own)
    assert problem.hint == "import that object: kubectl get scaledobject workers -o yaml"


@pytest.mark.parametrize(
    ("text", "rule", "hint"),
    [
        ("kind: [", "", ""),
        ("a: {{ .Values.x }}\n", "", "render the template first: helm template"),
        ("just: text\n", "is not a Kubernetes object", ""),
        ("apiVersion: v1\nkind: Service\n", "holds no HorizontalPodAutoscaler", "kubectl get hpa,scaledobject -o yaml"),
        ("apiVersion: v1\nkind: List\nitems: [3]\n", "must be a mapping", ""),
        ("", "", ""),
    ],
    ids=["no YAML", "a template", "no object", "no autoscaler", "a list of numbers", "empty"],
)
def test_file_without_an_autoscaler_is_rejected(tmp_path: Path, text: str, rule: str, hint: str) -> None:
    problems = problems_of(tmp_path, text)
    assert rule in problems[0].rule
    assert hint in problems[0].hint


def test_missing_file_raises_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read([tmp_path / "none.yaml"], None, native_policies=False)
    assert str(tmp_path / "none.yaml") in str(caught.value)


def test_error_does_not_show_a_secret(tmp_path: Path) -> None:
    wrong = changed(SQS, metadata__queueLength="hunter2")
    problems = errors(tmp_path, changed(KEDA, spec__triggers=[wrong]))
    assert any(p.path == "spec.triggers[0].metadata.queueLength" for p in problems)
    assert "hunter2" not in "".join(map(str, problems))
