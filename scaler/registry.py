"""The kinds there are: literal tables, resolved on use, so that a process imports only what its configuration names."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from policies.recommend.registry import POLICIES

SOURCES: Final = {
    "azure_monitor": "scaler.sources.azure_monitor:AzureMonitor",
    "cloud_monitoring": "scaler.sources.cloud_monitoring:CloudMonitoring",
    "cloudwatch": "scaler.sources.cloudwatch:CloudWatch",
    "embedded": "simulators.quickstart.embedded:EmbeddedSource",
    "prometheus": "scaler.sources.prometheus:Prometheus",
    "pubsub": "scaler.sources.pubsub:PubSub",
    "scrape": "scaler.sources.scrape:Scrape",
    "service_bus": "scaler.sources.service_bus:ServiceBus",
    "sqs": "scaler.sources.sqs:Sqs",
}

POOLS: Final = {
    "aks_agent_pool": "scaler.actuators.aks_agent_pool:AksAgentPool",
    "asg": "scaler.actuators.asg:Asg",
    "asg_warm_pool": "scaler.actuators.asg_warm_pool:AsgWarmPool",
    "capacity_buffer": "scaler.actuators.capacity_buffer:CapacityBuffer",
    "ec2_fleet": "scaler.actuators.ec2_fleet:Ec2Fleet",
    "ec2_instant_fleet": "scaler.actuators.ec2_instant_fleet:Ec2InstantFleet",
    "eks_node_group": "scaler.actuators.eks_node_group:EksNodeGroup",
    "embedded": "simulators.quickstart.embedded:EmbeddedPool",
    "gce_mig": "scaler.actuators.gce_mig:GceMig",
    "gce_mig_standby": "scaler.actuators.gce_mig_standby:GceMigStandby",
    "gke_node_pool": "scaler.actuators.gke_node_pool:GkeNodePool",
    "gke_tpu_slices": "scaler.actuators.gke_tpu_slices:GkeTpuSlices",
    "karpenter_node_pool": "scaler.actuators.karpenter_node_pool:KarpenterNodePool",
    "kubernetes": "scaler.actuators.kubernetes:Kubernetes",
    "vllm_sleep": "scaler.actuators.vllm_sleep:VllmSleep",
    "vmss": "scaler.actuators.vmss:Vmss",
    "vmss_standby_pool": "scaler.actuators.vmss_standby:VmssStandbyPool",
}

REGISTRIES: Final[Mapping[str, Mapping[str, str]]] = {"policy": POLICIES, "source": SOURCES, "pool": POOLS}


@cache
def resolve(registry: str, kind: str) -> Any:
    """The parameter class of a kind. Its adapter's SDK is imported only when it is opened."""
    module, _, name = REGISTRIES[registry][kind].partition(":")
    return getattr(importlib.import_module(module), name)


def kind_of(registry: str, spec: object) -> str:
    """The kind under which the class of `spec` is registered."""
    path = f"{type(spec).__module__}:{type(spec).__name__}"
    return next(kind for kind, registered in REGISTRIES[registry].items() if registered == path)


def did_you_mean(word: str, among: list[str]) -> str:
    """A hint for a mistyped word, or the empty string."""
    near = difflib.get_close_matches(word, among, n=1, cutoff=0.6) or [w for w in among if word and w.startswith(word)]
    return f"did you mean {near[0]!r}?" if near else ""
