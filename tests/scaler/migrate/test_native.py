"""Import by this daemon's own policies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from policies.model import PolicyName
from policies.model.spec import WorkloadSpec
from scaler.migrate.manifests import read
from scaler.migrate.metric_detection import recognize
from scaler.registry import kind_of
from tests.scaler.migrate.importing import (
    HPA,
    KEDA,
    MANIFESTS,
    SERVER,
    changed,
    import_manifests,
    load_imported,
    workload,
)


def kinds(spec: WorkloadSpec) -> dict[str, str]:
    return {str(name): kind_of("policy", policy) for name, policy in spec.policies.items()}


def test_preset_queries_become_preset_quantities(tmp_path: Path) -> None:
    result = read([MANIFESTS / "keda-prometheus.yaml"], SERVER, native_policies=True)
    (spec,) = load_imported(tmp_path, result)
    assert kinds(spec) == {
        "concurrency": "concurrency", "kv-cache": "kv_cache_usage", "cpu-share": "metric", "schedule": "schedule",
    }  # fmt: skip
    source = spec.sources["prometheus"]
    assert (source.preset, source.match, source.read) == (
        "vllm", {"namespace": "llm"}, ("waiting", "running", "kv_cache_usage"),
    )  # fmt: skip
    assert spec.policies[PolicyName("concurrency")].target_per_replica == 20
    assert (spec.cooldown_s, spec.scale_down.window_s, spec.scale_down.max_share) == (300, 120, 0.2)


def test_queue_trigger_becomes_a_queue_depth_policy(tmp_path: Path) -> None:
    spec = workload(tmp_path, KEDA, native=True)
    assert kinds(spec) == {"queue-depth": "queue_depth"}
    policy = spec.policies[PolicyName("queue-depth")]
    assert (policy.target_per_replica, policy.count) == (5, ("visible", "in_flight"))
    assert spec.min_replicas == 0


def test_policy_that_measures_replicas_gets_min_replicas_one(tmp_path: Path) -> None:
    mean = {
        "type": "prometheus",
        "metadata": {"serverAddress": SERVER, "threshold": "0.7", "query": "avg(vllm:kv_cache_usage_perc)"},
    }
    result = import_manifests(tmp_path, changed(KEDA, spec__triggers=[mean]), native=True)
    (spec,) = load_imported(tmp_path, result)
    assert spec.min_replicas == 1
    assert any("0 needs a policy that measures work at zero replicas" in p.rule for p in result.findings.lost)


TWO = [{"type": "Pods", "value": 2, "periodSeconds": 30}]


@pytest.mark.parametrize(
    ("behavior", "up", "down", "lost"),
    [
        (None, (0, 15, 3, 1.0), (300, 15, 4, 1.0), 0),
        ({}, (0, 15, 4, 1.0), (300, 15, 1, 1.0), 0),
        ({"scaleDown": {"stabilizationWindowSeconds": 60, "policies": TWO}},
         (0, 15, 4, 1.0), (60, 30, 2, 0.0), 0),
        ({"scaleUp": {"policies": [{"type": "Pods", "value": 2, "periodSeconds": 30},
                                   {"type": "Percent", "value": 50, "periodSeconds": 60}]}},
         (0, 30, 2, 0.0), (300, 15, 1, 1.0), 1),
        ({"scaleDown": {"selectPolicy": "Disabled"}}, (0, 15, 4, 1.0), (300, 3600, 1, 0.0), 1),
    ],
    ids=["none", "empty", "one step", "two periods", "disabled"],
)  # fmt: skip
def test_behavior_becomes_windows_and_steps_where_expressible(
    tmp_path: Path, behavior: dict[str, Any] | None, up: tuple[float, ...], down: tuple[float, ...], lost: int
) -> None:
    manifest = HPA if behavior is None else changed(HPA, spec__behavior=behavior)
    result = import_manifests(tmp_path, manifest, native=True)
    (spec,) = load_imported(tmp_path, result)
    sides = [(s.window_s, s.period_s, s.max_replicas, s.max_share) for s in (spec.scale_up, spec.scale_down)]
    assert sides == [up, down]
    assert len(result.findings.lost) == lost


@pytest.mark.parametrize(
    ("query", "quantities", "match"),
    [
        ('sum(vllm:num_requests_waiting{namespace="a"})', ("waiting",), {"namespace": "a"}),
        ("sum(vllm:num_requests_waiting) + sum(vllm:num_requests_running)", ("waiting", "running"), {}),
        ("sum(vllm:num_requests_waiting + vllm:num_requests_running)", ("waiting", "running"), {}),
        ('avg(DCGM_FI_DEV_GPU_UTIL{pod="x"})', ("utilization",), {"pod": "x"}),
    ],
)
def test_query_equal_to_a_preset_query_is_recognized(
    query: str, quantities: tuple[str, ...], match: dict[str, str]
) -> None:
    result = recognize(query)
    assert result is not None
    assert (result.quantities, dict(result.match)) == (quantities, match)


@pytest.mark.parametrize(
    "query",
    [
        "max(vllm:num_requests_waiting)",
        "avg(vllm:num_requests_waiting)",
        'sum(vllm:num_requests_waiting{namespace=~"a|b"})',
        'sum(vllm:num_requests_waiting{a="1"}) + sum(vllm:num_requests_running{a="2"})',
        "sum(rate(vllm:num_requests_waiting[1m]))",
        "sum(vllm:num_requests_waiting) / 2",
        "sum(somebody_elses)",
        "avg(vllm:kv_cache_usage_perc) + avg(vllm:gpu_cache_usage_perc)",
    ],
)
def test_query_unlike_any_preset_is_not_recognized(query: str) -> None:
    assert recognize(query) is None
