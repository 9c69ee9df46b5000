"""A real API server accepts every rendered and built object, and keeps each field.

The test control plane is Kubernetes 1.20. PodDisruptionBudgets were v1beta1 then, with the same fields; the current
schemas check their version (test_helm.py). The kinds of the Prometheus Operator have the schema of their fields in use.
"""

from __future__ import annotations

import time
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.deploy.charts import (
    CLUSTER_EXAMPLES,
    COMPONENTS,
    DEPLOY,
    EXAMPLES,
    OVERLAYS,
    Object,
    build,
    example,
    gateway,
    needs_kubectl,
    render,
    with_workloads,
)
from tests.servers import karpenter_kinds, prometheus_operator
from tests.servers.control_plane import ControlPlane, started, why_not
from tests.servers.kube_real import left_out, path_of
from tests.servers.prometheus_operator import SPECS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is one"),
]
NAMESPACE: Final = "chart"
ESTABLISHED_S: Final = 30.0
VARIANTS: Final[dict[str, dict[str, Any]]] = {
    "pod monitor over TLS": {
        "daemon": {"server": {"tls": {"certificate": "/etc/tls/tls.crt", "key": "/etc/tls/tls.key"}}},
        "secrets": [{"name": "forescale-tls", "path": "/etc/tls"}],
        "podMonitor": {"enabled": True, "endpoint": {"tlsConfig": {"insecureSkipVerify": True}}},
        "service": {"enabled": False},
    },
    "own objects": {
        "existingConfigMap": "mine",
        "serviceAccount": {"create": False, "name": "mine"},
        "rbac": {"create": False},
        "persistence": {"existingClaim": "mine"},
    },
    "pod settings": {
        "replicas": 0,
        "fullnameOverride": "scaler",
        "image": {"digest": f"sha256:{'0' * 64}", "pullPolicy": "Always", "pullSecrets": [{"name": "registry"}]},
        "env": [{"name": "AWS_REGION", "value": "us-east-1"}],
        "envFrom": [{"secretRef": {"name": "keys"}}],
        "rbac": {
            "routes": ["llama"],
            "extraRules": [{"apiGroups": ["serving.kserve.io"], "resources": ["*"], "verbs": ["get"]}],
        },
        "service": {"type": "LoadBalancer", "port": 80, "annotations": {"a": "b"}},
        "podLabels": {"team": "serving"},
        "podAnnotations": {"a": "b"},
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "control", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}]
                }
            }
        },
        "priorityClassName": "system-cluster-critical",
    },
    "partners": {
        "daemon": {
            "partners": {
                "keda": {"listen": "0.0.0.0:6001"},
                "external_metrics": {"tls": {"certificate": "/etc/tls/tls.crt", "key": "/etc/tls/tls.key"}},
            }
        },
        "partners": {"apiService": {"enabled": True, "caBundle": "QQ==", "annotations": {"a": "b"}}},
        "networkPolicy": {"enabled": True},
    },
    "workloads in the cluster": {
        "crd": {"install": True},
        "daemon": {"kubernetes_workloads": {"namespaces": ["llm"], "config_maps": True}},
        "workloads": {},
    },
    "workloads in every namespace": {"daemon": {"kubernetes_workloads": {"namespaces": ["*"]}}},
    "closed network": {
        "networkPolicy": {
            "enabled": True,
            "egress": [{"ports": [{"port": 53, "protocol": "UDP"}]}, {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
        }
    },
}


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """Yield a control plane of its own: its kinds have schemas that those of other tests lack."""
    with started() as server:
        for name in (NAMESPACE, "llm"):
            server.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        until = time.monotonic() + ESTABLISHED_S
        for definition in (*prometheus_operator.definitions(), *karpenter_kinds.definitions()):
            server.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
            spec = definition["spec"]
            while not _served(server, f"/apis/{spec['group']}/v1/{spec['names']['plural']}"):
                assert time.monotonic() < until, f"{spec['names']['kind']} is not served"
                time.sleep(0.05)
        yield server


def _served(server: ControlPlane, path: str) -> bool:
    try:
        server.call("GET", path)
    except urllib.error.HTTPError:
        return False
    return True


def dry_run(server: ControlPlane, sent: Object) -> Object:
    """Return what the server would store: of a new object, or in place of the one that exists."""
    path, query = path_of(sent, NAMESPACE), "?dryRun=All"
    try:
        stored: Object = server.call("POST", path + query, sent)
    except urllib.error.HTTPError as e:
        if e.code != 409:
            raise
        path = f"{path}/{sent['metadata']['name']}"
        version = server.call("GET", path)["metadata"]["resourceVersion"]
        replacing = {**sent, "metadata": {**sent["metadata"], "resourceVersion": version}}
        stored = server.call("PUT", path + query, replacing)
    return stored


def without_rules(value: Any) -> Any:
    """Return a definition without its CEL rules: Kubernetes 1.20 drops them."""
    if isinstance(value, dict):
        return {key: without_rules(inner) for key, inner in value.items() if key != "x-kubernetes-validations"}
    return [without_rules(inner) for inner in value] if isinstance(value, list) else value


def refusals(server: ControlPlane, objects: list[Object]) -> list[str]:
    """Return the objects that the server refuses, and the fields that it drops or changes."""
    found = []
    for made in objects:
        name = f"{made['kind']}/{made['metadata']['name']}"
        sent = {**made, "apiVersion": made["apiVersion"].replace("policy/v1", "policy/v1beta1")}
        if made["kind"] == "CustomResourceDefinition":
            sent = without_rules(sent)
        try:
            stored = dry_run(server, sent)
        except urllib.error.HTTPError as e:
            found.append(f"{name}: {e.read().decode()}")
        else:
            found += [f"{name}{field}" for field in left_out(sent, stored)]
    return found


RENDERED: Final[dict[str, Callable[[Path], list[Object]]]] = {
    **{
        path.stem: lambda _, name=path.stem: render(with_workloads(example(name)), namespace=NAMESPACE)  # type: ignore[misc]
        for path in sorted(EXAMPLES.glob("*.yaml"))
    },
    **{
        name: lambda _, values=values: render(with_workloads(values), namespace=NAMESPACE)  # type: ignore[misc]
        for name, values in VARIANTS.items()
    },
    "gateway": lambda folder: render({}, gateway(folder), namespace=NAMESPACE),
}


@pytest.mark.parametrize("name", RENDERED)
def test_api_server_accepts_each_rendered_object(plane: ControlPlane, name: str, tmp_path: Path) -> None:
    objects = RENDERED[name](tmp_path)
    assert objects
    assert refusals(plane, objects) == []


@needs_kubectl
@pytest.mark.parametrize("overlay", [name for name in OVERLAYS if name not in COMPONENTS])
def test_api_server_accepts_each_built_object(plane: ControlPlane, overlay: str) -> None:
    objects = build(DEPLOY / "kustomize" / overlay)
    assert objects
    assert refusals(plane, objects) == []


@needs_kubectl
@pytest.mark.parametrize("name", CLUSTER_EXAMPLES)
def test_api_server_accepts_each_object_of_an_example(plane: ControlPlane, name: str) -> None:
    objects = build(DEPLOY / "examples" / name)
    assert objects
    assert refusals(plane, objects) == []


@needs_kubectl
def test_refusals_of_node_pools_are_found(plane: ControlPlane) -> None:
    kinds = [made for made in build(DEPLOY / "examples/eks") if "karpenter" in made["apiVersion"]]
    for made in kinds:
        made["spec"]["misspelled"] = "x"
    assert {text.partition("/")[0] for text in refusals(plane, kinds)} == {"NodePool", "EC2NodeClass"}


def test_refusals_are_found(plane: ControlPlane) -> None:
    """The comparison notices a refused object and a misspelled field of each kind."""
    objects = render(with_workloads({**example("monitored"), "persistence": {"enabled": True}}), namespace=NAMESPACE)
    kinds = [made for made in objects if "spec" in made]
    assert {*SPECS} - {"PodMonitor"} < {made["kind"] for made in kinds}
    for made in kinds:
        made["spec"]["misspelled"] = "x"
    assert {text.partition("/")[0] for text in refusals(plane, kinds)} == {made["kind"] for made in kinds}
