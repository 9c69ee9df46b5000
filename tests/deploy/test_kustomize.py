"""The Kustomize overlays: the base is the plain manifest, and each overlay changes only the identity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.charts import COMPONENTS, DEPLOY, OVERLAYS, build, container, example, needs_kubectl, one, render
from tests.servers.kube_real import manifests

pytestmark = [pytest.mark.slow, needs_kubectl]
KUSTOMIZE = DEPLOY / "kustomize"
SAME_IDENTITY = {"aws": "eks", "gcp": "gke", "azure": "aks"}
"""Each overlay and the example of the chart with the same identity."""


def by_name(objects: list[dict[str, Any]]) -> dict[tuple[str, str], Any]:
    return {(made["kind"], made["metadata"]["name"]): made for made in objects}


def test_base_and_nodes_are_the_plain_manifests() -> None:
    assert by_name(build(KUSTOMIZE / "base")) == by_name(manifests())
    assert by_name(build(KUSTOMIZE / "nodes")) == by_name(manifests("kubernetes-nodes"))
    workloads = [*manifests("workload-crd"), *manifests("kubernetes-workloads")]
    assert by_name(build(KUSTOMIZE / "workloads")) == by_name(workloads)


@pytest.mark.parametrize("overlay", SAME_IDENTITY)
def test_overlay_changes_the_identity_as_the_chart_does(overlay: str) -> None:
    built, plain = by_name(build(KUSTOMIZE / overlay)), by_name(manifests())
    rendered = render(example(SAME_IDENTITY[overlay]))
    account = built["ServiceAccount", "forescale"]["metadata"]
    assert account.pop("annotations") == one(rendered, "ServiceAccount")["metadata"]["annotations"]
    pod, rendered_pod = (one(o, "Deployment")["spec"]["template"] for o in ([*built.values()], rendered))
    use = pod["metadata"]["labels"].pop("azure.workload.identity/use", None)
    assert use == rendered_pod["metadata"]["labels"].get("azure.workload.identity/use")
    assert built == plain


def test_every_overlay_is_tested() -> None:
    assert {*OVERLAYS} == {*SAME_IDENTITY, "base", "nodes", "workloads", *COMPONENTS}


def overlay(folder: Path, **fields: Any) -> list[dict[str, Any]]:
    """Build an overlay of the user, next to a copy of the shipped folder."""
    (folder / "kustomize").symlink_to(KUSTOMIZE)
    mine = folder / "mine"
    mine.mkdir()
    (mine / "kustomization.yaml").write_text(yaml.safe_dump(fields))
    return build(mine)


def test_own_overlay_sets_namespace_and_journal_volume(tmp_path: Path) -> None:
    components = ["../kustomize/journal-volume"]
    objects = overlay(tmp_path, namespace="llm", resources=["../kustomize/aws"], components=components)
    assert {made["metadata"]["namespace"] for made in objects} == {"llm"}
    assert one(objects, "RoleBinding")["subjects"][0]["namespace"] == "llm"
    claim = one(objects, "PersistentVolumeClaim")["metadata"]["name"]
    volumes = one(objects, "Deployment")["spec"]["template"]["spec"]["volumes"]
    mounted = {mount["name"] for mount in container(objects)["volumeMounts"]}
    assert {"name": "journal", "persistentVolumeClaim": {"claimName": claim}} in volumes
    assert mounted == {volume["name"] for volume in volumes}


def test_components_of_partners_add_what_the_chart_adds(tmp_path: Path) -> None:
    components = ["../kustomize/keda", "../kustomize/external-metrics"]
    built = overlay(tmp_path, namespace="llm", resources=["../kustomize/base"], components=components)
    tls = {"certificate": "/etc/tls/tls.crt", "key": "/etc/tls/tls.key"}
    values = {
        "daemon": {"partners": {"keda": {}, "external_metrics": {"tls": tls}}},
        "secrets": [{"name": "forescale-tls", "path": "/etc/tls"}],
        "partners": {"apiService": {"enabled": True}},
    }
    rendered = render({**example("llama-chat"), **values}, namespace="llm")
    assert one(built, "APIService")["spec"] == one(rendered, "APIService")["spec"]
    ports = [{port["name"]: port for port in one(o, "Service")["spec"]["ports"]} for o in (built, rendered)]
    assert ports[0] == ports[1]
    assert len(ports[0]) == 3
    containers = [container(o) for o in (built, rendered)]
    assert by_port(containers[0]) == by_port(containers[1])
    assert {"/etc/tls"} <= {mount["mountPath"] for mount in containers[0]["volumeMounts"]}


def test_component_of_high_availability_adds_what_the_chart_adds(tmp_path: Path) -> None:
    component = "../kustomize/high-availability"
    built = overlay(tmp_path, namespace="llm", resources=["../kustomize/base"], components=[component])
    rendered = render({**example("llama-chat"), "replicas": 2, "daemon": {"ha": {}}}, namespace="llm")
    for kind, key in (("Role", "rules"), ("RoleBinding", "subjects")):
        assert by_name(built)[kind, "forescale-leases"][key] == by_name(rendered)[kind, "forescale-leases"][key]
    assert by_name(built)["Role", "forescale-leases"]["metadata"]["namespace"] == "llm"
    for objects in (built, rendered):
        spec = one(objects, "Deployment")["spec"]
        assert (spec["replicas"], spec.get("strategy", {}).get("type", "RollingUpdate")) == (2, "RollingUpdate")
        assert container(objects)["env"] == [
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
        ]


def by_port(container: dict[str, Any]) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container["ports"]}
