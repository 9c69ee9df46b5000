"""The shipped chart rendered by Helm's SDK, and the shipped overlays built by Kustomize."""

from __future__ import annotations

import functools
import importlib
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

DEPLOY: Final = Path(__file__).parents[2] / "config/deploy"
CHART: Final = DEPLOY / "helm/forescale"
EXAMPLES: Final = DEPLOY / "helm/examples"
OVERLAYS: Final = tuple(sorted(path.parent.name for path in DEPLOY.glob("kustomize/*/kustomization.yaml")))
CLUSTER_EXAMPLES: Final = tuple(sorted(path.parent.name for path in DEPLOY.glob("examples/*/llama-chat.yaml")))
"""The examples of a whole service, each with its workload."""
COMPONENTS: Final = frozenset({"external-metrics", "high-availability", "journal-volume", "keda"})
"""Those that cannot be built by themselves."""
Object = dict[str, Any]
needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="no kubectl on PATH (Debian: apt install kubernetes-client)"
)


def helm() -> Any:
    """Return Helm's SDK. Its native library takes seconds to load: only tests that render pay for it."""
    return importlib.import_module("helm_python")


@functools.cache
def chart(path: Path = CHART) -> Any:
    return helm().Chart.load(path)


@functools.cache
def example(name: str) -> Mapping[str, Any]:
    """Return the values of an example, as Helm reads them."""
    values: Mapping[str, Any] = helm().values_from_yaml((EXAMPLES / f"{name}.yaml").read_text())
    return values


def with_workloads(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values, with the workloads of the smallest example where there are none."""
    return {**({} if "existingConfigMap" in values else example("llama-chat")), **values}


def render(values: Mapping[str, Any], path: Path = CHART, namespace: str = "default") -> list[Object]:
    """Return the rendered objects of a release with the name `forescale`."""
    texts = chart(path).render(dict(values), name="forescale", namespace=namespace)
    manifests = [text for file, text in texts.items() if not file.endswith("NOTES.txt")]
    return [made for text in manifests for made in yaml.safe_load_all(text) if made]


def one(objects: list[Object], kind: str) -> Object:
    """Return the only object of a kind."""
    (found,) = [made for made in objects if made["kind"] == kind]
    return found


def container(objects: list[Object]) -> Object:
    """Return the daemon's container in the Deployment."""
    containers = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    (found,) = [made for made in containers if made["name"] == "forescale"]
    return dict(found)


def build(folder: Path) -> list[Object]:
    """Return the objects that Kustomize builds from a folder."""
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def gateway(folder: Path) -> Path:
    """Return a copy of the example chart with a sidecar, with its dependency as `helm dependency build` copies it."""
    shutil.copytree(EXAMPLES / "gateway", folder / "gateway")
    shutil.copytree(CHART, folder / "gateway/charts/forescale")
    return folder / "gateway"
