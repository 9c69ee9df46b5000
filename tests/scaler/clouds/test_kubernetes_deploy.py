"""The shipped manifests, checked without an API server."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from scaler.clouds.kubernetes.actions import (
    buffers,
    config_maps,
    custom_resources,
    following,
    karpenter,
    leases,
    sizing,
)
from scaler.clouds.kubernetes.objects import ScalableKind
from scaler.clouds.kubernetes.permissions import Action
from scaler.config.kinds.kubernetes import Kubernetes
from scaler.config.load import load
from tests.servers.kube_real import manifests

CONFIG = Path(__file__).parents[3] / "config"
SHIPPED = {manifest["kind"]: manifest for manifest in manifests()}


def test_shipped_configuration_is_valid_and_resizes_a_deployment(tmp_path: Path) -> None:
    for name, text in SHIPPED["ConfigMap"]["data"].items():
        (tmp_path / name).write_text(text)
    config = load([tmp_path])
    assert config.daemon.listen == "0.0.0.0:8080"
    pools = [pool for workload in config.workloads.values() for pool in workload.spec.pools.values()]
    assert [type(pool) for pool in pools] == [Kubernetes]


def test_shipped_deployment_has_one_replica_and_no_root() -> None:
    spec = SHIPPED["Deployment"]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    pod = spec["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]


def test_shipped_journal_is_on_the_writable_volume() -> None:
    pod = SHIPPED["Deployment"]["spec"]["template"]["spec"]
    mounts = {m["name"]: m for m in pod["containers"][0]["volumeMounts"]}
    writable = next(v["name"] for v in pod["volumes"] if "emptyDir" in v)
    assert "/var/lib/forescale/journal".startswith(mounts[writable]["mountPath"])
    assert mounts["config"]["readOnly"]


def test_shipped_manifests_refer_to_each_other_by_matching_names() -> None:
    pod = SHIPPED["Deployment"]["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == SHIPPED["ServiceAccount"]["metadata"]["name"]
    assert SHIPPED["RoleBinding"]["roleRef"]["name"] == SHIPPED["Role"]["metadata"]["name"]
    assert SHIPPED["RoleBinding"]["subjects"] == [{"kind": "ServiceAccount", "name": pod["serviceAccountName"]}]
    assert (
        next(v for v in pod["volumes"] if "configMap" in v)["configMap"]["name"]
        == SHIPPED["ConfigMap"]["metadata"]["name"]
    )


def test_shipped_roles_grant_exactly_the_needed_actions() -> None:
    kinds = [ScalableKind("apps/v1", "Deployment", "deployments", namespaced=True)]
    kinds.append(ScalableKind("apps/v1", "StatefulSet", "statefulsets", namespaced=True))
    kinds.append(ScalableKind("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", "leaderworkersets", namespaced=True))
    actions = [action for kind in kinds for action in sizing(kind, "default")]
    actions += [*following("default", drain=True), *karpenter("default"), *buffers("default")]
    rules = [
        rule
        for manifest in (*manifests(), *manifests("kubernetes-nodes"))
        if manifest["kind"] in {"Role", "ClusterRole"}
        for rule in manifest["rules"]
    ]
    granted = {(v, g, r) for rule in rules for v in rule["verbs"] for g in rule["apiGroups"] for r in rule["resources"]}
    assert granted == {(action.verb, action.group, action.resource) for action in actions}


@pytest.mark.parametrize(
    ("manifest", "actions"),
    [
        ("kubernetes-workloads", [*custom_resources("llm"), *config_maps("llm")]),
        ("kubernetes-leases", leases("llm")),
    ],
    ids=["workloads", "leases"],
)
def test_shipped_role_of_a_setting_grants_exactly_the_needed_actions(manifest: str, actions: list[Action]) -> None:
    (rules,) = [made["rules"] for made in manifests(manifest) if made["kind"] == "Role"]
    granted = {(v, g, r) for rule in rules for v in rule["verbs"] for g in rule["apiGroups"] for r in rule["resources"]}
    assert granted == {(action.verb, action.group, action.resource) for action in actions}
    assert {action.manifest for action in actions} == {f"{manifest}.yaml"}


def test_shipped_placeholders_are_the_pool_of_the_example() -> None:
    names = {manifest["metadata"]["name"] for manifest in manifests("placeholders")}
    workload = yaml.safe_load((CONFIG / "workloads/kubernetes-placeholders.yaml").read_text(encoding="utf-8"))
    assert workload["pools"]["warm"]["name"] in names
