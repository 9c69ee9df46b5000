"""Settings that are refused for safety: by the schema in an editor where it can, and always by ``check``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from scaler.config.load import load
from scaler.config.problems import ConfigError, Problem

ROOT = Path(__file__).parents[3]
GCP = {"project": {"id": "my-project"}, "location": "us-central1"}
AZURE = {"subscription_id": "00000000-0000-0000-0000-00000000000a"}
SERVING = {"kind": "kubernetes", "name": "llm"}
WINDOWS = [{"start": "08:00", "end": "18:00", "replicas": 3}]
POOLS: dict[str, dict[str, Any]] = {
    "asg_warm_pool": {"kind": "asg_warm_pool", "group": "g", "account": {"region": "us-east-1"}},
    "capacity_buffer": {"kind": "capacity_buffer", "name": "b"},
    "gce_mig": {"kind": "gce_mig", "name": "m", **GCP},
    "gce_mig_standby": {"kind": "gce_mig_standby", "name": "m", **GCP},
    "vllm_sleep": {"kind": "vllm_sleep", "urls": ["http://vllm-0:8000"]},
}
TIERS: dict[str, tuple[str, ...]] = {
    "asg_warm_pool": ("serving",),
    "capacity_buffer": ("serving", "awake_spare", "slept"),
    "gce_mig": ("slept", "warm_node"),
    "gce_mig_standby": ("serving", "awake_spare"),
    "vllm_sleep": ("awake_spare", "slept", "warm_node"),
}
"""Tiers that a kind cannot have."""


def workload(pools: dict[str, Any], **settings: Any) -> dict[str, Any]:
    policies = {"hours": {"kind": "schedule", "windows": WINDOWS}}
    return {"workload": "chat", "max_replicas": 9, "policies": policies, "pools": pools, **settings}


def tiered(kind: str, tier: str) -> dict[str, Any]:
    serves = {} if tier == "serving" else {"serves": "first", "lead_time_s": 10}
    return workload({"first": SERVING, "other": {**POOLS[kind], "tier": tier, **serves}})


def problems(folder: Path, document: dict[str, Any]) -> list[Problem]:
    file = folder / "chat.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    try:
        load([file])
    except ConfigError as e:
        return list(e.problems)
    return []


def is_valid_in_editor(document: dict[str, Any]) -> bool:
    schema = json.loads((ROOT / "config/schema.json").read_text())
    return bool(jsonschema.Draft202012Validator(schema).is_valid(document))


@pytest.mark.parametrize(("kind", "tier"), [(kind, tier) for kind, tiers in TIERS.items() for tier in tiers])
def test_tier_that_a_kind_cannot_have_is_refused_by_schema_and_check(tmp_path: Path, kind: str, tier: str) -> None:
    document = tiered(kind, tier)
    assert not is_valid_in_editor(document)
    (problem,) = problems(tmp_path, document)
    assert (problem.path, problem.value) == ("pools.other.tier", f'"{tier}"')
    assert problem.rule.startswith("must be ")


@pytest.mark.parametrize("kind", POOLS)
def test_other_tiers_of_a_kind_are_accepted(tmp_path: Path, kind: str) -> None:
    for tier in {"serving", "awake_spare", "slept", "warm_node"} - set(TIERS[kind]):
        document = tiered(kind, tier)
        assert is_valid_in_editor(document)
        assert problems(tmp_path, document) == []


@pytest.mark.parametrize(
    "pool",
    [
        {"kind": "aks_agent_pool", "resource_group": "llm", "cluster": "c", "agent_pool": "h100"},
        {"kind": "vmss", "resource_group": "llm", "name": "spot"},
        {"kind": "vmss_standby_pool", "resource_group": "llm", "name": "s"},
    ],
    ids=lambda pool: str(pool["kind"]),
)
def test_azure_pool_without_a_subscription_is_refused_by_check(tmp_path: Path, pool: dict[str, Any]) -> None:
    (problem,) = problems(tmp_path, workload({"gpus": pool}))
    assert problem.path == "pools.gpus.account"
    assert problem.rule.startswith("requires subscription_id")
    assert problems(tmp_path, workload({"gpus": {**pool, "account": AZURE}})) == []


@pytest.mark.parametrize(
    ("record", "key", "sentence"),
    [
        ("WorkloadSpec", "pools", "No two pools, of one or several workloads, may resize the same object."),
        ("WorkloadSpec", "policies", "A policy with its own stabilization, such as hpa or keda, must be the only one."),
        ("WorkloadSpec", "min_replicas", "which needs a policy that detects load at zero replicas."),
        ("WorkloadSpec", "deadline_s", "to less than interval_s."),
        ("Override", "replicas", "within min_replicas and max_replicas unless beyond_bounds is set."),
        ("Budget", "gpus", "It must cover min_replicas."),
        ("Budget", "usd_per_hour", "It must cover min_replicas, and every other pool then needs price_usd_per_hour."),
        ("FleetLimits", "max_gpus", "which must cover their min_replicas"),
        ("Kubernetes", "tier", "at least one pool must."),
        ("Kubernetes", "lead_time_s", "that of a headroom tier must be below that of the pool in serves."),
        ("Vmss", "account", "subscription_id is required."),
    ],
)
def test_schema_describes_a_rule_that_it_cannot_express(record: str, key: str, sentence: str) -> None:
    """An editor shows the description of a key."""
    schema = json.loads((ROOT / "config/schema.json").read_text())
    assert sentence in schema["$defs"][record]["properties"][key]["description"]


def test_workload_of_schedules_needs_no_source(tmp_path: Path) -> None:
    document = workload({"gpus": SERVING})
    assert is_valid_in_editor(document)
    assert problems(tmp_path, document) == []


def test_policy_without_any_source_is_told_to_add_one(tmp_path: Path) -> None:
    document = workload({"gpus": SERVING}, policies={"depth": {"kind": "queue_depth"}})
    (problem,) = problems(tmp_path, document)
    assert problem.path == "policies.depth.source"
    assert problem.hint == "add a source under sources; config/example lists every kind"
