"""Two pools that resize the same object: refused across workloads and files, for every kind, with both places."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from policies.model import PoolName
from policies.model.pool import Pool
from scaler.config.load import load, workload_from
from scaler.config.problems import ConfigError, Problem
from scaler.registry import POOLS, resolve
from tests.scaler.migrate.importing import HPA, changed, import_manifests
from tests.scaler.test_daemon import configuration, running
from tests.servers.daemon import until

ROOT = Path(__file__).parents[3]
AZURE = {"subscription_id": "00000000-0000-0000-0000-00000000000a"}
ONLINE = {"resource_group": "llm", "workspace": "llm", "deployment": "h100", "account": AZURE}
PTU = {"resource_group": "llm", "deployment": "gpt", "account": AZURE, "quantum": 1, "min_replicas": 1}
TIER = {"tier": "warm_node", "serves": "first", "lead_time_s": 10}
GCP = {"project": {"id": "my-project"}, "location": "us-central1"}
VERTEX = {"endpoint": "123", "deployed_model": "7", **GCP}
LLM_SERVICE = {"kind": "kserve", "object_kind": "LLMInferenceService", "name": "llm"}
TPU = {"cluster": "c", "slice_zone": "us-west4-a", "machine_type": "ct5lp-hightpu-4t", "topology": "4x4", **GCP}
KUBECONFIG = """\
current-context: prod
contexts:
  - {name: prod, context: {cluster: one, user: me}}
  - {name: again, context: {cluster: one, user: other}}
  - {name: test, context: {cluster: two, user: me}}
clusters:
  - {name: one, cluster: {server: 'https://10.0.0.1:6443/'}}
  - {name: two, cluster: {server: 'https://10.0.0.2:6443'}}
"""

Settings = dict[str, Any]
UNITS: Settings = {
    "name": "claude",
    "model": "claude",
    "offer": "claude",
    "term": "hour",
    "term_h": 1,
    "price_usd_per_hour": 1,
    "max_replicas": 1,
}
SAME: dict[str, tuple[Settings, Settings]] = {
    "bedrock_provisioned": (
        {"kind": "bedrock_provisioned", "parameter": "/a", "account": {"region": "us-east-1"}, **UNITS},
        {"kind": "bedrock_provisioned", "parameter": "/b", **UNITS},
    ),
    "sagemaker_inference_component": (
        {"kind": "sagemaker_inference_component", "component": "c", "account": {"region": "us-east-1"}},
        {"kind": "sagemaker_inference_component", "component": "c", "native": "floor"},
    ),
    "sagemaker_variant": (
        {"kind": "sagemaker_variant", "endpoint": "e", "variant": "v", "account": {"region": "us-east-1"}},
        {"kind": "sagemaker_variant", "endpoint": "e", "variant": "v", "account": {"profile": "default"}},
    ),
    "aks_agent_pool": (
        {"kind": "aks_agent_pool", "resource_group": "LLM", "cluster": "C", "agent_pool": "h100", "account": AZURE},
        {"kind": "aks_agent_pool", "resource_group": "llm", "cluster": "c", "agent_pool": "h100",
         "account": {"subscription_id": AZURE["subscription_id"].upper()}},
    ),
    "asg": ({"kind": "asg", "group": "g", "account": {"region": "us-east-1"}}, {"kind": "asg", "group": "g"}),
    "asg_warm_pool": (
        {"kind": "asg_warm_pool", "group": "g", **TIER},
        {"kind": "asg_warm_pool", "group": "g", "state": "running", "account": {"profile": "default"}, **TIER},
    ),
    "azure_ml_deployment": (
        {"kind": "azure_ml_deployment", **ONLINE, "endpoint": "chat"},
        {"kind": "azure_ml_deployment", **ONLINE, "endpoint": "Chat", "native": "floor"},
    ),
    "azure_openai_ptu": (
        {"kind": "azure_openai_ptu", "resource": "Llm", **PTU},
        {"kind": "azure_openai_ptu", "resource": "llm", "release_capacity": True, **PTU},
    ),
    "capacity_buffer": (
        {"kind": "capacity_buffer", "name": "b", **TIER},
        {"kind": "capacity_buffer", "name": "b", "namespace": "default", "api_version": "v1alpha1", **TIER},
    ),
    "cloud_run_service": (
        {"kind": "cloud_run_service", "name": "s", **GCP},
        {"kind": "cloud_run_service", "name": "s", "sized_by": "minimum", **GCP},
    ),
    "cloud_run_worker_pool": ({"kind": "cloud_run_worker_pool", "name": "w", **GCP},) * 2,
    "ec2_fleet": (
        {"kind": "ec2_fleet", "fleet": "fleet-12345678", "account": {"region": "us-east-1"}},
        {"kind": "ec2_fleet", "fleet": "fleet-12345678", "account": {"profile": "other"}},
    ),
    "eks_node_group": (
        {"kind": "eks_node_group", "cluster": "c", "node_group": "n"},
        {"kind": "eks_node_group", "cluster": "c", "node_group": "n", "market": "spot"},
    ),
    "embedded": ({"kind": "embedded"}, {"kind": "embedded", "world": "demo"}),
    "gce_mig": ({"kind": "gce_mig", "name": "m", **GCP}, {"kind": "gce_mig", "name": "m", "shape": "any", **GCP}),
    "gce_mig_standby": (
        {"kind": "gce_mig_standby", "name": "m", **GCP, **TIER},
        {"kind": "gce_mig_standby", "name": "m", "state": "stopped", **GCP, **TIER},
    ),
    "gke_node_pool": (
        {"kind": "gke_node_pool", "cluster": "c", "name": "n", **GCP},
        {"kind": "gke_node_pool", "cluster": "c", "name": "n", "sized_by": "bounds", **GCP},
    ),
    "gke_tpu_slices": ({"kind": "gke_tpu_slices", "name": "s", **TPU},) * 2,
    "karpenter_node_pool": (
        {"kind": "karpenter_node_pool", "name": "n"},
        {"kind": "kubernetes", "api_version": "karpenter.sh/v1", "object_kind": "NodePool", "name": "n",
         "namespace": "any"},
    ),
    "kserve": ({"kind": "kserve", "name": "llm"}, {"kind": "kubernetes", "name": "llm-predictor"}),
    "kubernetes": (
        {"kind": "kubernetes", "name": "llm"},
        {"kind": "kubernetes", "name": "llm", "namespace": "default", "api_version": "apps/v1beta2",
         "cluster": {"context": "again"}},
    ),
    "vertex_endpoint": (
        {"kind": "vertex_endpoint", **VERTEX},
        {"kind": "vertex_endpoint", "native": "floor", "scale_to_zero": True, "min_replicas": 0, **VERTEX},
    ),
    "modal": (
        {"kind": "modal", "app": "llm", "function": "generate"},
        {"kind": "modal", "app": "llm", "function": "generate", "sized_by": "exact", "min_replicas": 1},
    ),
    "published": ({"kind": "published", "name": "llm"}, {"kind": "kubernetes", "name": "llm"}),
    "vllm_sleep": (
        {"kind": "vllm_sleep", "urls": ["http://vllm-0", "http://vllm-1:8000"]},
        {"kind": "vllm_sleep", "urls": ["http://vllm-2", "http://VLLM-0:80/"]},
    ),
    "vmss": (
        {"kind": "vmss", "resource_group": "llm", "name": "Spot", "account": AZURE},
        {"kind": "vmss", "resource_group": "LLM", "name": "spot", "account": AZURE},
    ),
    "vmss_standby_pool": (
        {"kind": "vmss_standby_pool", "resource_group": "llm", "name": "S", "account": AZURE, **TIER},
        {"kind": "vmss_standby_pool", "resource_group": "LLM", "name": "s", "account": AZURE, **TIER},
    ),
}  # fmt: skip
"""Two spellings of the same object, by kind."""
DIFFERENT: dict[str, tuple[Settings, Settings]] = {
    "a group and its warm pool": (SAME["asg"][0], {**SAME["asg_warm_pool"][0], "account": {"region": "us-east-1"}}),
    "a group and its stopped machines": (SAME["gce_mig"][0], SAME["gce_mig_standby"][0]),
    "stopped and suspended machines": (
        SAME["gce_mig_standby"][0], {**SAME["gce_mig_standby"][1], "state": "suspended"},
    ),
    "a Deployment and its engines that sleep": (SAME["kubernetes"][0], SAME["vllm_sleep"][0]),
    "a Deployment and its placeholders": (
        SAME["kubernetes"][0], {**SAME["kubernetes"][1], "name": "placeholders", **TIER},
    ),
    "two namespaces": (SAME["kubernetes"][0], {"kind": "kubernetes", "name": "llm", "namespace": "other"}),
    "two clusters": (SAME["kubernetes"][0], {"kind": "kubernetes", "name": "llm", "cluster": {"context": "test"}}),
    "a Deployment and a StatefulSet": (
        SAME["kubernetes"][0], {"kind": "kubernetes", "name": "llm", "object_kind": "StatefulSet"},
    ),
    "two regions": (SAME["asg"][0], {"kind": "asg", "group": "g", "account": {"region": "eu-west-1"}}),
    "two profiles": (SAME["asg"][0], {"kind": "asg", "group": "g", "account": {"profile": "other"}}),
    "instant fleets of one launch template": (
        {"kind": "ec2_instant_fleet", "launch_template": "llm", "subnets": ["subnet-0123456789abcdef0"]},
    ) * 2,
    "decode and prefill": (LLM_SERVICE, {**LLM_SERVICE, "component": "prefill"}),
    "two kinds of KServe": (SAME["kserve"][0], LLM_SERVICE),
    "two models of an endpoint": (
        SAME["vertex_endpoint"][0], {**SAME["vertex_endpoint"][1], "deployed_model": "8"},
    ),
    "a service and a worker pool": (SAME["cloud_run_service"][0], {**SAME["cloud_run_worker_pool"][0], "name": "s"}),
    "two worlds": (SAME["embedded"][0], {"kind": "embedded", "world": "other"}),
}  # fmt: skip


@pytest.fixture(autouse=True)
def known_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment's regions and clusters."""
    for name in ("KUBERNETES_SERVICE_HOST", "AWS_PROFILE", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))


def document(name: str, pools: dict[str, Settings]) -> str:
    """Return a workload's document; headroom pools get a serving pool."""
    serving = {"first": {"kind": "kubernetes", "name": f"{name}-serves"}} if "serves" in str(pools) else {}
    sources = {"queue": {"kind": "embedded"}}
    policies = {"depth": {"kind": "queue_depth"}}
    text: str = yaml.safe_dump(
        {"workload": name, "max_replicas": 2, "sources": sources, "policies": policies, "pools": {**serving, **pools}},
        sort_keys=False,
    )
    return text


def problems(folder: Path) -> list[Problem]:
    try:
        load([folder])
    except ConfigError as e:
        return list(e.problems)
    return []


@pytest.mark.parametrize("kind", SAME)
def test_two_workloads_that_resize_one_object_are_rejected(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.yaml").write_text(f"# first\n{document('a', {'gpus': SAME[kind][0]})}")
    (tmp_path / "b.yaml").write_text(document("b", {"gpus": SAME[kind][1]}))
    conflicts = problems(tmp_path)
    assert [(Path(p.file).name, p.path) for p in conflicts] == [("b.yaml", "pools.gpus")], conflicts
    lines = {f: (tmp_path / f).read_text().split("\n").index("  gpus:") + 1 for f in ("a.yaml", "b.yaml")}
    assert conflicts[0].line == lines["b.yaml"]
    assert f"{tmp_path / 'a.yaml'}:{lines['a.yaml']} pools.gpus of workload a" in conflicts[0].rule
    assert "remove one of the two pools" in conflicts[0].hint


@pytest.mark.parametrize("kind", [kind for kind in SAME if kind != "embedded"])
def test_two_pools_of_one_workload_that_resize_one_object_are_rejected(tmp_path: Path, kind: str) -> None:
    one, other = SAME[kind]
    (tmp_path / "a.yaml").write_text(document("a", {"one": one, "other": other}))
    assert [p.path for p in problems(tmp_path)] == ["pools.other"], problems(tmp_path)


@pytest.mark.parametrize("case", DIFFERENT)
def test_pools_that_resize_different_objects_are_accepted(tmp_path: Path, case: str) -> None:
    one, other = DIFFERENT[case]
    (tmp_path / "a.yaml").write_text(document("a", {"one": one}))
    (tmp_path / "b.yaml").write_text(document("b", {"one": other}))
    assert problems(tmp_path) == []


@pytest.mark.parametrize("kind", POOLS)
def test_every_pool_kind_implements_targets(kind: str) -> None:
    assert resolve("pool", kind).targets is not Pool.targets, f"{kind} needs a method targets()"


def test_every_pool_kind_has_a_case() -> None:
    """An instant fleet's instances carry the pool's own name: no other pool can have them."""
    assert SAME.keys() | {"ec2_instant_fleet"} == POOLS.keys()


def test_shipped_examples_have_hashable_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_TOKEN", "a token")
    for file in sorted((ROOT / "config/workloads").glob("*.yaml")):
        for workload in load([file]).workloads.values():
            for name, pool in workload.spec.pools.items():
                assert len({*pool.targets(workload.name, name)}) >= 1


@pytest.mark.parametrize(
    "other",
    [
        {**LLM_SERVICE, "version": "v1alpha1"},
        {"kind": "kubernetes", "name": "llm", "api_version": "serving.kserve.io/v1alpha1",
         "object_kind": "LLMInferenceService"},
        {"kind": "kubernetes", "name": "llm-kserve"},
        {"kind": "kubernetes", "name": "llm-kserve-mn", "api_version": "leaderworkerset.x-k8s.io/v1",
         "object_kind": "LeaderWorkerSet"},
    ],
)  # fmt: skip
def test_llm_service_and_each_of_its_children_are_one_target(tmp_path: Path, other: Settings) -> None:
    (tmp_path / "a.yaml").write_text(document("a", {"one": LLM_SERVICE, "other": other}))
    assert [p.path for p in problems(tmp_path)] == ["pools.other"]


def test_prefill_of_an_inference_service_is_rejected(tmp_path: Path) -> None:
    pool = {**SAME["kserve"][0], "component": "prefill"}
    (tmp_path / "a.yaml").write_text(document("a", {"gpus": pool}))
    (problem,) = problems(tmp_path)
    assert problem.path == "pools.gpus.component"
    assert problem.rule == "must be main for an InferenceService, which has no prefill workload"


def test_cluster_without_kubeconfig_is_identified_by_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    (tmp_path / "a.yaml").write_text(document("a", {"gpus": {"kind": "kubernetes", "name": "llm"}}))
    other = {"kind": "kubernetes", "name": "llm", "cluster": {"context": "east"}}
    (tmp_path / "b.yaml").write_text(document("b", {"gpus": other}))
    assert problems(tmp_path) == []
    same = {**other, "cluster": {"context": "east", "kubeconfig": str(tmp_path / "none")}}
    (tmp_path / "c.yaml").write_text(document("c", {"gpus": same}))
    assert [p.path for p in problems(tmp_path)] == ["pools.gpus"]


def test_duplicate_engine_url_in_a_pool_is_rejected_in_any_spelling(tmp_path: Path) -> None:
    pool = {"kind": "vllm_sleep", "urls": ["http://vllm-0:80", "http://VLLM-0/"]}
    (tmp_path / "a.yaml").write_text(document("a", {"gpus": pool}))
    assert "lists an engine twice; remove the duplicate" in {p.rule for p in problems(tmp_path)}


def test_recorded_workload_with_conflicting_pools_still_loads(tmp_path: Path) -> None:
    """Recorded workloads were accepted when they ran, each by itself."""
    (tmp_path / "a.yaml").write_text(document("a", {"one": SAME["kubernetes"][0]}))
    recorded = json.loads(json.dumps(dict(load([tmp_path]).workloads["a"].document)))  # type: ignore[index]
    recorded["pools"]["other"] = recorded["pools"]["one"]
    assert set(workload_from(recorded).spec.pools) == {"one", "other"}


def test_import_of_two_autoscalers_of_one_object_names_both_places(tmp_path: Path) -> None:
    other = changed(HPA, metadata__name="another", spec__scaleTargetRef__apiVersion="apps/v1beta2")
    with pytest.raises(ConfigError) as caught:
        import_manifests(tmp_path, HPA, other)
    rule = next(p.rule for p in caught.value.problems if p.path == "spec.scaleTargetRef")
    assert rule.startswith("resizes apps/Deployment")
    assert f":1 HorizontalPodAutoscaler {HPA['metadata']['name']}: each would overwrite" in rule


@pytest.mark.slow
async def test_reload_rejects_conflicting_pools_but_shadow_may_share_them(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    shadow = tmp_path / "shadow.yaml"
    shadow.write_text((config / "llm.yaml").read_text())
    async with running(tmp_path, "--shadow", str(shadow)) as d:
        await until(lambda: len(d.ticks()) > 1, d)
        text = (config / "llm.yaml").read_text().replace("workload: llm", "workload: other")
        (config / "other.yaml").write_text(text)
        await until(lambda: any(e["event"] == "reload" and e["level"] == "error" for e in d.events()), d)
        error = next(e["error"] for e in d.events() if e["event"] == "reload")
        assert "other.yaml:" in error
        assert "llm.yaml:" in error
        assert "each would overwrite the other's size" in error
        ticks_before = len(d.ticks())
        await until(lambda: len(d.ticks()) > ticks_before + 2, d)
        assert {t.workload for t in d.ticks()} == {"llm"}


def test_pool_targets_ignore_bounds_and_prices() -> None:
    """The same pool under other bounds and prices resizes the same object."""
    for kind in POOLS:
        cls = resolve("pool", kind)
        assert {f.name for f in dataclasses.fields(cls)} >= {"min_replicas", "price_usd_per_hour"}
    pool = resolve("pool", "asg")(group="g")
    bounded = dataclasses.replace(pool, max_replicas=3, price_usd_per_hour=1.0)
    assert pool.targets("a", PoolName("p")) == bounded.targets("b", PoolName("q"))
