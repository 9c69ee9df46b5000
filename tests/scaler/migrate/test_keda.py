"""Import of a ScaledObject."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from policies.model.spec import WorkloadSpec
from policies.recommend.peers.hpa import Hpa
from policies.recommend.peers.keda import Fallback, Keda, Trigger
from policies.recommend.peers.keda_cron import Cron
from policies.recommend.schedule import Schedule
from scaler.migrate.manifests import read
from tests.scaler.migrate.importing import (
    HPA,
    KEDA,
    MANIFESTS,
    SERVER,
    SQS,
    changed,
    import_manifests,
    load_imported,
    workload,
)

PROMETHEUS: dict[str, Any] = {
    "type": "prometheus",
    "metadata": {
        "serverAddress": "http://p:9090",
        "query": "sum(waiting)",
        "threshold": "3",
        "ignoreNullValues": "false",
    },
}


def keda_of(spec: WorkloadSpec) -> Keda:
    (policy,) = spec.policies.values()
    assert isinstance(policy, Keda)
    return policy


def with_trigger(trigger: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """Return the ScaledObject with one changed trigger; ... removes a key."""
    return changed(KEDA, spec__triggers=[changed(trigger, **{f"metadata__{k}": v for k, v in metadata.items()})])


def test_scaled_object_of_a_queue_imports_the_same_settings(tmp_path: Path) -> None:
    result = read([MANIFESTS / "keda-sqs.yaml"], None, native_policies=False)
    (spec,) = load_imported(tmp_path, result)
    policy = keda_of(spec)
    assert (spec.workload, spec.min_replicas, spec.max_replicas) == ("llm-workers", 0, 40)
    assert (policy.polling_interval_s, policy.cooldown_s, policy.initial_cooldown_s) == (10, 600, 120)
    assert policy.active_replicas == 2, (
        "with idleReplicaCount, minReplicaCount applies only while the workload is active"
    )
    assert policy.fallback == Fallback(failure_threshold=3, replicas=6, behavior="current_replicas_if_higher")
    assert policy.triggers == (Trigger(quantities=("visible", "in_flight", "delayed"), target=8, activation=1),)
    (source,) = spec.sources.values()
    assert source.queue_url == "https://sqs.us-east-1.amazonaws.com/123456789012/prompts"
    assert "TriggerAuthentication aws (pod identity aws)" in result.text


def test_triggers_of_several_kinds_share_one_workload(tmp_path: Path) -> None:
    result = read([MANIFESTS / "keda-prometheus.yaml"], SERVER, native_policies=False)
    (spec,) = load_imported(tmp_path, result)
    policy = keda_of(spec)
    assert [(t.quantities, t.target, t.source) for t in policy.triggers] == [
        (("waiting",), 20, "prometheus"),
        (("vllm_gpu_cache_usage_perc",), 0.7, "prometheus"),
        (("cpu_requests",), 0.8, "prometheus-2"),
    ]
    assert policy.crons[0].replicas == 4
    assert policy.crons[0].time_zone == "Europe/Berlin"
    assert policy.behavior is not None
    assert policy.behavior.scale_down.stabilization_window_s == 120
    (lost,) = result.findings.lost
    assert (lost.path, lost.line) == ("items[1].spec.triggers[4].type", 48)
    assert "nats-jetstream" in lost.rule


def test_omitted_scaled_object_fields_have_keda_defaults(tmp_path: Path) -> None:
    spec = workload(tmp_path, with_trigger(SQS, queueLength=...))
    policy = keda_of(spec)
    assert (spec.min_replicas, spec.max_replicas) == (0, 100)
    assert (policy.polling_interval_s, policy.cooldown_s, policy.initial_cooldown_s) == (30, 300, 0)
    assert policy.triggers == (Trigger(quantities=("visible", "in_flight"), target=5, activation=0),)


@pytest.mark.parametrize(
    ("flags", "counted"),
    [
        ({}, ("visible", "in_flight")),
        ({"scaleOnInFlight": "false"}, ("visible",)),
        ({"scaleOnDelayed": True, "scaleOnInFlight": "0"}, ("visible", "delayed")),
    ],
)
def test_sqs_trigger_flags_select_the_counted_messages(
    tmp_path: Path, flags: dict[str, Any], counted: tuple[str, ...]
) -> None:
    assert keda_of(workload(tmp_path, with_trigger(SQS, **flags))).triggers[0].quantities == counted


def test_cpu_trigger_alone_becomes_an_hpa_with_one_minimum_replica(tmp_path: Path) -> None:
    only = changed(KEDA, spec__triggers=[{"type": "cpu", "metricType": "Utilization", "metadata": {"value": "60"}}])
    result = import_manifests(tmp_path, only)
    (spec,) = load_imported(tmp_path, result)
    (policy,) = spec.policies.values()
    assert isinstance(policy, Hpa)
    assert (spec.min_replicas, policy.metrics[0].target) == (1, 0.6)
    assert any(p.path == "spec.minReplicaCount" for p in result.findings.differs)


def test_cron_trigger_alone_is_imported_without_a_source(tmp_path: Path) -> None:
    clock = {
        "type": "cron",
        "metadata": {"timezone": "Asia/Tokyo", "start": "0 9 * * *", "end": "0 17 * * *", "desiredReplicas": "3"},
    }
    only = changed(KEDA, spec__triggers=[clock])
    (spec,) = load_imported(tmp_path, import_manifests(tmp_path, only, prometheus=None))
    policy = keda_of(spec)
    assert not spec.sources
    assert [(c.replicas, c.time_zone) for c in policy.crons] == [(3, "Asia/Tokyo")]
    assert isinstance(policy.crons[0], Cron)
    assert not policy.triggers
    proposed = workload(tmp_path, only, native=True)
    assert not proposed.sources
    assert [type(policy) for policy in proposed.policies.values()] == [Schedule]


def test_imported_file_contains_no_secret(tmp_path: Path) -> None:
    secrets = with_trigger(
        PROMETHEUS,
        serverAddress="https://me:hunter2@p.example/prom",
        customHeaders="X-Api-Key=tr0ub4dor,X-Scope-OrgID=team",
        unsafeSsl="true",
        authModes="basic",
    )
    result = import_manifests(tmp_path, secrets)
    (spec,) = load_imported(tmp_path, result)
    (source,) = spec.sources.values()
    assert source.url == "https://p.example/prom"
    assert source.access.headers == {"X-Scope-OrgID": "team"}
    text = result.text + "".join(map(str, [*result.findings.lost, *result.findings.differs]))
    assert "hunter2" not in text
    assert "tr0ub4dor" not in text
    assert {p.path.rpartition(".")[2] for p in result.findings.lost} == {
        "serverAddress", "customHeaders", "unsafeSsl", "authModes",
    }  # fmt: skip


def test_account_keys_are_reported_but_not_copied(tmp_path: Path) -> None:
    result = import_manifests(tmp_path, with_trigger(SQS, awsAccessKeyID="AKIAEXAMPLE", awsSecretAccessKey="s3cr3t"))
    text = result.text + "".join(map(str, [*result.findings.lost, *result.findings.differs]))
    assert "keys are not copied" in text
    assert "s3cr3t" not in text
    assert "AKIAEXAMPLE" not in text


FORMULA = {"scalingModifiers": {"formula": "a + b", "target": "1"}}
BY_FORMULA = {"failureThreshold": 3, "replicas": 2, "behavior": "scalingModifiers"}
NOT_IN = "autoscaling.keda.sh/paused-scale-in"


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"spec__advanced": FORMULA}, "spec.advanced.scalingModifiers.formula"),
        ({"spec__fallback": BY_FORMULA}, "spec.fallback.behavior"),
        ({"spec__somethingNew": 1}, "spec.somethingNew"),
        ({"spec__triggers": [SQS, {"type": "activemq", "metadata": {"host": "x"}}]}, "spec.triggers[1].type"),
        ({"metadata__annotations": {NOT_IN: "true"}}, f"metadata.annotations.{NOT_IN}"),
    ],
    ids=["formula", "fallback by formula", "unknown key", "trigger", "paused one way"],
)  # fmt: skip
def test_unsupported_scaled_object_field_is_reported_as_lost(tmp_path: Path, change: dict[str, Any], path: str) -> None:
    result = import_manifests(tmp_path, changed(KEDA, **change))
    assert path in [p.path for p in result.findings.lost]
    assert "NOT CARRIED OVER: " in result.text


def test_paused_scaled_object_is_imported_paused(tmp_path: Path) -> None:
    paused = changed(KEDA, metadata__annotations={"autoscaling.keda.sh/paused-replicas": "4"})
    result = import_manifests(tmp_path, paused)
    (spec,) = load_imported(tmp_path, result)
    assert spec.paused
    assert any("but KEDA first sets it to 4" in p.rule for p in result.findings.differs)


def test_keda_generated_hpa_is_skipped_with_its_scaled_object(tmp_path: Path) -> None:
    own = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {
            "name": "keda-hpa-workers",
            "namespace": "llm",
            "labels": {"scaledobject.keda.sh/name": "workers"},
        },
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "workers"},
            "maxReplicas": 9,
        },
    }
    result = import_manifests(tmp_path, KEDA, own)
    assert result.names == ("workers",)
    assert "KEDA's own HPA" in result.findings.differs[0].rule
    result = import_manifests(tmp_path, changed(KEDA, metadata__namespace="elsewhere"), own)
    assert [p.hint for p in result.findings.errors] == ["import that object: kubectl get scaledobject workers -o yaml"]


@pytest.mark.parametrize(
    "metadata",
    [
        {"name": "chosen", "labels": {"scaledobject.keda.sh/name": "workers"}},
        {"name": "chosen", "ownerReferences": [{"kind": "ScaledObject", "name": "workers"}]},
        {"name": "keda-hpa-workers"},
    ],
    ids=["label", "owner", "name"],
)
def test_keda_generated_hpa_is_recognized(tmp_path: Path, metadata: dict[str, Any]) -> None:
    own = {**HPA, "metadata": {"namespace": "llm", **metadata}}
    result = import_manifests(tmp_path, own, KEDA)
    assert (result.names, result.findings.errors) == (("workers",), [])
