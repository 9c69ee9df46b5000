"""Import of a HorizontalPodAutoscaler: the numbers of the peer policy, and the remarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from policies.model.spec import WorkloadSpec
from policies.recommend.peers.hpa import Hpa, HpaMetric
from policies.recommend.peers.hpa_behavior import Behavior
from scaler.config.kinds.kubernetes import Kubernetes
from scaler.migrate.manifests import read
from tests.scaler.migrate.importing import HPA, MANIFESTS, SERVER, changed, import_manifests, load_imported, workload

PODS = 'namespace="llm",pod=~"vllm-[a-z0-9]+-[a-z0-9]+"'


def hpa_of(spec: WorkloadSpec) -> Hpa:
    (policy,) = spec.policies.values()
    assert isinstance(policy, Hpa)
    return policy


def metric(kind: str, target: dict[str, Any], **inner: Any) -> dict[str, Any]:
    """Return an entry of ``spec.metrics``."""
    return {"type": kind, kind[0].lower() + kind[1:]: {**inner, "target": target}}


def test_kubectl_output_of_an_hpa_imports_the_same_settings(tmp_path: Path) -> None:
    result = read([MANIFESTS / "hpa-vllm.yaml"], SERVER, native_policies=False)
    (spec,) = load_imported(tmp_path, result)
    policy = hpa_of(spec)
    assert (spec.workload, spec.min_replicas, spec.max_replicas, spec.interval_s) == ("vllm-llama", 2, 12, 15)
    assert policy.metrics == (
        HpaMetric(quantities=("vllm_num_requests_waiting",), target=4, type="pods"),
        HpaMetric(quantities=("vllm_num_requests_running",), target=24),
        HpaMetric(quantities=("nginx_ingress_controller_requests_per_second",), target=1.5, target_type="value"),
        HpaMetric(quantities=("memory_share",), target=0.85, type="pods"),
    )
    behavior = policy.behavior
    assert behavior is not None
    up, down = behavior.scale_up, behavior.scale_down
    assert (up.stabilization_window_s, up.select_policy, up.tolerance) == (30, "max", 0.05)
    assert [(p.type, p.value, p.period_s) for p in up.policies] == [("pods", 2, 30), ("percent", 50, 30)]
    assert (down.stabilization_window_s, [p.value for p in down.policies], down.tolerance) == (600, [1], None)
    assert not result.findings.lost, "uid, resourceVersion, status and similar fields do not affect the size"


def pool_of(spec: WorkloadSpec) -> Kubernetes:
    (pool,) = spec.pools.values()
    assert isinstance(pool, Kubernetes)
    return pool


def test_scale_target_becomes_the_pool(tmp_path: Path) -> None:
    pool = pool_of(workload(tmp_path, HPA))
    assert (pool.name, pool.namespace, pool.api_version, pool.object_kind) == ("vllm", "llm", "apps/v1", "Deployment")
    custom = {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "name": "big"}
    pool = pool_of(workload(tmp_path, changed(HPA, spec__scaleTargetRef=custom)))
    assert (pool.name, pool.api_version, pool.object_kind) == ("big", custom["apiVersion"], custom["kind"])


def test_omitted_hpa_fields_have_kubernetes_defaults(tmp_path: Path) -> None:
    spec = workload(tmp_path, HPA)
    assert spec.min_replicas == 1
    assert hpa_of(spec).behavior is None, "without windows and rates, the older code path applies"
    assert hpa_of(workload(tmp_path, changed(HPA, spec__behavior={}))).behavior == Behavior()


def test_hpa_without_metrics_targets_80_percent_cpu(tmp_path: Path) -> None:
    result = workload(tmp_path, changed(HPA, spec__metrics=...))
    assert hpa_of(result).metrics == (HpaMetric(quantities=("cpu_share",), target=0.8, type="pods"),)


@pytest.mark.parametrize(("percent", "target"), [(65, 0.65), (..., 0.8)], ids=["said", "default"])
def test_autoscaling_v1_has_one_cpu_metric(tmp_path: Path, percent: Any, target: float) -> None:
    v1 = changed(HPA, apiVersion="autoscaling/v1", spec__metrics=..., spec__targetCPUUtilizationPercentage=percent)
    assert hpa_of(workload(tmp_path, v1)).metrics[0].target == pytest.approx(target)


def test_autoscaling_v1_annotations_are_reported_as_lost(tmp_path: Path) -> None:
    hidden = {"autoscaling.alpha.kubernetes.io/metrics": "[]", "autoscaling.alpha.kubernetes.io/behavior": "{}"}
    v1 = changed(
        HPA, apiVersion="autoscaling/v1", spec__metrics=..., metadata__annotations=hidden,
        spec__targetCPUUtilizationPercentage=70,
    )  # fmt: skip
    result = import_manifests(tmp_path, v1)
    assert [p.path.rpartition("/")[2] for p in result.findings.lost] == ["metrics", "behavior"]
    assert "kubectl get hpa.v2.autoscaling" in result.findings.lost[0].hint


@pytest.mark.parametrize(
    ("given", "query", "target"),
    [
        pytest.param(
            metric("Resource", {"type": "Utilization", "averageUtilization": 60}, name="cpu"),
            f'sum(rate(container_cpu_usage_seconds_total{{{PODS},container!=""}}[2m]))'
            f' / sum(kube_pod_container_resource_requests{{{PODS},resource="cpu"}})',
            0.6,
            id="share of the CPU requested",
        ),
        pytest.param(
            metric("Resource", {"type": "AverageValue", "averageValue": "500m"}, name="cpu"),
            f'avg(sum by (pod) (rate(container_cpu_usage_seconds_total{{{PODS},container!=""}}[2m])))',
            0.5,
            id="cores of each pod",
        ),
        pytest.param(
            metric(
                "ContainerResource", {"type": "AverageValue", "averageValue": "2Gi"}, name="memory", container="vllm"
            ),
            f'avg(sum by (pod) (container_memory_working_set_bytes{{{PODS},container="vllm"}}))',
            2**31,
            id="memory of one container",
        ),
        pytest.param(
            metric(
                "External",
                {"type": "AverageValue", "averageValue": "30"},
                metric={"name": "sqs_messages", "selector": {"matchLabels": {"queue": 'a"b'}}},
            ),
            'sum(sqs_messages{queue="a\\"b"})',
            30,
            id="external with a label",
        ),
        pytest.param(
            metric(
                "Pods",
                {"type": "AverageValue", "averageValue": "2500m"},
                metric={"name": "prometheus.googleapis.com|requests_total|counter"},
            ),
            f"avg(sum by (pod) (rate(requests_total{{{PODS}}}[2m])))",
            2.5,
            id="counter of GKE's adapter",
        ),
    ],
)
def test_hpa_metric_becomes_a_prometheus_query(
    tmp_path: Path, given: dict[str, Any], query: str, target: float
) -> None:
    spec = workload(tmp_path, changed(HPA, spec__metrics=[given]))
    (source,) = spec.sources.values()
    assert list(source.queries.values()) == [query]
    assert list(source.timestamp_queries) == list(source.queries), "the age is that of the samples"
    assert source.url == SERVER
    assert hpa_of(spec).metrics[0].target == pytest.approx(target)


@pytest.mark.parametrize(
    ("given", "path", "rule"),
    [
        pytest.param(
            metric("Resource", {"type": "Utilization", "averageUtilization": 60}, name="nvidia.com/gpu"),
            "spec.metrics[1].resource.name",
            "its query is not in the manifest",
            id="a resource of an adapter",
        ),
        pytest.param(
            metric("External", {"type": "AverageValue", "averageValue": "1"}, metric={"name": "s0-aws-sqs|x"}),
            "spec.metrics[1].external.metric.name",
            "is a name that only the adapter knows",
            id="a name that is no series",
        ),
        pytest.param(
            metric(
                "External",
                {"type": "AverageValue", "averageValue": "1"},
                metric={"name": "x", "selector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}},
            ),
            "spec.metrics[1].external.metric.selector.matchExpressions",
            "selects series of the metric",
            id="an expression",
        ),
    ],
)
def test_unsupported_hpa_metric_is_reported_as_lost(
    tmp_path: Path, given: dict[str, Any], path: str, rule: str
) -> None:
    result = import_manifests(tmp_path, changed(HPA, spec__metrics=[*HPA["spec"]["metrics"], given]))
    (lost,) = result.findings.lost
    assert lost.path == path
    assert rule in lost.rule
    assert f"NOT CARRIED OVER: {path}" in result.text


def test_unknown_hpa_key_is_lost_with_a_suggestion(tmp_path: Path) -> None:
    result = import_manifests(tmp_path, changed(HPA, spec__minReplica=3))
    (lost,) = result.findings.lost
    assert (lost.path, lost.hint) == ("spec.minReplica", "did you mean 'minReplicas'?")
