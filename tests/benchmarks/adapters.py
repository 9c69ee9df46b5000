"""Cost of a cloud's adapters in the daemon: resident memory and import time, each cloud in its own process."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.benchmarks.figure import Figure

RUNS: Final = 5
CLOUDS: Final = {
    "AWS": (
        (
            "scaler.actuators.asg",
            "scaler.actuators.asg_warm_pool",
            "scaler.actuators.bedrock_provisioned",
            "scaler.actuators.ec2_fleet",
            "scaler.actuators.ec2_instant_fleet",
            "scaler.actuators.eks_node_group",
            "scaler.actuators.sagemaker_inference_component",
            "scaler.actuators.sagemaker_variant",
            "scaler.clouds.aws.events",
            "scaler.clouds.aws.metrics",
            "scaler.sources.cloudwatch",
            "scaler.sources.sqs",
            "tests.benchmarks.aws_opened",
        ),
        122.0,
    ),
    "Azure": (
        (
            "scaler.actuators.aks_agent_pool",
            "scaler.actuators.azure_ml_deployment",
            "scaler.actuators.azure_openai_ptu",
            "scaler.actuators.vmss",
            "scaler.actuators.vmss_standby_pool",
            "scaler.sources.azure_monitor",
            "scaler.sources.service_bus",
        ),
        111.0,
    ),
    "GCP": (
        (
            "scaler.actuators.cloud_run_service",
            "scaler.actuators.cloud_run_worker_pool",
            "scaler.actuators.gce_mig",
            "scaler.actuators.gce_mig_standby",
            "scaler.actuators.gke_node_pool",
            "scaler.actuators.gke_tpu_slices",
            "scaler.actuators.vertex_endpoint",
            "scaler.clouds.gcp.session",
            "scaler.clouds.gcp.pubsub",
            "scaler.sources.cloud_monitoring",
            "scaler.sources.pubsub",
        ),
        137.0,
    ),
    "Kubernetes": (
        (
            "scaler.actuators.capacity_buffer",
            "scaler.actuators.karpenter_node_pool",
            "scaler.actuators.kserve",
            "scaler.actuators.kubernetes",
            "scaler.actuators.vllm_sleep",
            "scaler.clouds.kubernetes.session",
            "scaler.clouds.kubernetes.actions",
            "scaler.clouds.kubernetes.node_claims",
            "scaler.clouds.kubernetes.custom_resources",
            "scaler.clouds.kubernetes.drainer",
            "scaler.clouds.kubernetes.replicas",
            "scaler.clouds.kubernetes.watch",
        ),
        120.0,
    ),
}
"""The modules that the kinds of each cloud import, and the maximum memory of a process with them. Megabytes."""
SCRIPT: Final = """
import importlib, json, os, pathlib, sys
from scaler import app
from scaler.clock import stopwatch_s
began = stopwatch_s()
for name in sys.argv[1:]:
    importlib.import_module(name)
pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
print(json.dumps({"took_s": stopwatch_s() - began, "mb": pages * os.sysconf("SC_PAGE_SIZE") / 1e6}))
"""


def run(_data: Path) -> Iterator[Figure]:
    for cloud, (modules, limit_mb) in CLOUDS.items():
        samples = [_imported(modules) for _ in range(RUNS)]
        memory_mb = max(sample["mb"] for sample in samples)
        yield Figure("adapters", f"resident memory of the daemon with {cloud}'s adapters", memory_mb, "MB", limit_mb)
        spread = f"median of {RUNS}, after the daemon's own imports"
        median_s = statistics.median(sample["took_s"] for sample in samples)
        yield Figure("adapters", f"import of {cloud}'s adapters", median_s, "s", 1.0, note=spread)


def _imported(modules: tuple[str, ...]) -> dict[str, float]:
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, *modules],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    measured: dict[str, float] = json.loads(process.stdout)
    return measured
