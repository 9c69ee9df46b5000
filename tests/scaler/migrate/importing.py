"""Writes manifests, imports them, and loads the result as the daemon does."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from policies.model.spec import WorkloadSpec
from scaler.config.load import load
from scaler.migrate.manifests import Imported, read

MANIFESTS = Path(__file__).parent / "manifests"
SERVER = "http://prometheus.monitoring:9090"
HPA: dict[str, Any] = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "vllm", "namespace": "llm"},
    "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "vllm"},
        "maxReplicas": 9,
        "metrics": [
            {
                "type": "External",
                "external": {"metric": {"name": "waiting"}, "target": {"type": "AverageValue", "averageValue": "5"}},
            }
        ],
    },
}
SQS: dict[str, Any] = {
    "type": "aws-sqs-queue",
    "metadata": {
        "queueURL": "https://sqs.us-east-1.amazonaws.com/123456789012/prompts",
        "queueLength": "5",
        "awsRegion": "us-east-1",
    },
}
KEDA: dict[str, Any] = {
    "apiVersion": "keda.sh/v1alpha1",
    "kind": "ScaledObject",
    "metadata": {"name": "workers", "namespace": "llm"},
    "spec": {"scaleTargetRef": {"name": "workers"}, "triggers": [SQS]},
}


def changed(manifest: Mapping[str, Any], /, **changes: Any) -> dict[str, Any]:
    """Return a manifest with other values at these places, as in ``spec__maxReplicas=3``; ... removes a key."""
    copied = copy.deepcopy(dict(manifest))
    for path, value in changes.items():
        *above, last = path.split("__")
        node = copied
        for key in above:
            node = node.setdefault(key, {})
        if value is ...:
            node.pop(last, None)
        else:
            node[last] = value
    return copied


def import_manifests(folder: Path, *manifests: Any, prometheus: str | None = SERVER, native: bool = False) -> Imported:
    """Write these documents to a file, and import it."""
    file = folder / "manifests.yaml"
    file.write_text(yaml.safe_dump_all(manifests, sort_keys=False), encoding="utf-8")
    return read([file], prometheus, native_policies=native)


def load_imported(folder: Path, result: Imported) -> list[WorkloadSpec]:
    """Return the workloads that the daemon loads from the imported file."""
    file = folder / "made.yaml"
    file.write_text(result.text, encoding="utf-8")
    return [workload.spec for workload in load([file]).workloads.values()]


def workload(folder: Path, *manifests: Any, native: bool = False) -> WorkloadSpec:
    """Import these documents, and return their only workload."""
    (spec,) = load_imported(folder, import_manifests(folder, *manifests, native=native))
    return spec
