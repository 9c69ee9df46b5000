"""The rules for workloads of a namespace that the daemon does not trust."""

from __future__ import annotations

from typing import Any, Final

import pytest

from policies.model import PoolName
from policies.model.names import RouteName
from policies.model.spec import WorkloadSpec
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.config.cluster_workloads import KubernetesWorkloads
from scaler.config.custom_resource import KIND
from scaler.config.definition import Definition, Origin, workload_of
from scaler.config.problems import ConfigError
from scaler.config.tenancy import POOLS, ROUTES, SOURCES
from scaler.registry import REGISTRIES

REFUSED: Final = {
    "pool": {
        *("aks_agent_pool", "vmss", "vmss_standby_pool"),  # the daemon's cloud identity
        *("azure_ml_deployment", "azure_openai_ptu"),
        *("asg", "asg_warm_pool", "ec2_fleet", "bedrock_provisioned", "ec2_instant_fleet", "eks_node_group"),
        *("cloud_run_service", "cloud_run_worker_pool", "gce_mig", "gce_mig_standby", "gke_node_pool"),
        *("gke_tpu_slices", "modal", "sagemaker_inference_component", "sagemaker_variant", "vertex_endpoint"),
        "karpenter_node_pool",  # cluster-scoped
        "vllm_sleep",  # writes to any server that the daemon reaches
        "embedded",  # has no object of a namespace
    },
    "source": {
        *("azure_monitor", "cloud_monitoring", "cloudwatch", "modal", "pubsub", "service_bus", "sqs"),  # the same
        "embedded",
    },
    "route": {"alb", "dns", "envoy", "litellm"},  # the daemon's cloud identity, a file of its machine, an admin's key
}
"""Kinds that a workload of such a namespace may not have."""


@pytest.mark.parametrize(("noun", "accepted"), [("pool", POOLS), ("source", SOURCES), ("route", ROUTES)])
def test_each_registered_kind_is_accepted_or_refused_on_purpose(noun: str, accepted: frozenset[str]) -> None:
    """Add a new kind to `POOLS`, `SOURCES` or `ROUTES` of `scaler.config.tenancy`, or to `REFUSED`."""
    assert not accepted & REFUSED[noun]
    assert accepted | REFUSED[noun] == set(REGISTRIES[noun])


WEST: Final = KubeCluster(context="west")
GPUS: Final = {"kind": "kubernetes", "name": "llama"}


def spec_in_namespace(**settings: Any) -> WorkloadSpec:
    """Return a custom resource's specification in namespace `llm` of cluster `west`. Raises `ConfigError`."""
    content = {
        "max_replicas": 4,
        "sources": {"engines": {"kind": "prometheus", "url": "http://prometheus:9090", "preset": "vllm"}},
        "policies": {"busy": {"kind": "concurrency", "target_per_replica": 4}},
        "pools": {"main": GPUS},
        **settings,
    }
    workloads = KubernetesWorkloads(namespaces=("llm",), cluster=WEST)
    return workload_of(Definition("uid", Origin(KIND, "llm", "chat"), content, "", 1), workloads).spec


def pool_in_namespace(pool: dict[str, Any]) -> Any:
    return spec_in_namespace(pools={"main": GPUS, "checked": pool}).pools[PoolName("checked")]


def route_in_namespace(route: dict[str, Any]) -> Any:
    return spec_in_namespace(routes={"chat": {"backends": {"vllm": {"pool": "main"}}, **route}}).routes[
        RouteName("chat")
    ]


@pytest.mark.parametrize("kind", sorted(POOLS))
def test_a_pool_is_in_the_namespace_and_cluster_of_its_workload(kind: str) -> None:
    serves = {"serves": "main"} if kind == "capacity_buffer" else {}
    pool = {"kind": kind, "name": "room", **serves}
    opened = pool_in_namespace(pool)
    assert (opened.namespace, opened.cluster) == ("llm", WEST)
    with pytest.raises(ConfigError, match=r'pools\.checked\.namespace = "kube-system": must be llm'):
        pool_in_namespace({**pool, "namespace": "kube-system"})
    with pytest.raises(ConfigError, match=r"pools\.checked\.cluster: must be absent in namespace llm"):
        pool_in_namespace({**pool, "cluster": {"context": "east"}})


@pytest.mark.parametrize("kind", sorted(ROUTES))
def test_a_route_is_in_the_namespace_and_cluster_of_its_workload(kind: str) -> None:
    """A workload of one namespace must not send requests of another one elsewhere."""
    key = "group" if kind == "kserve_group" else "name"
    opened = route_in_namespace({"kind": kind, key: "chat"})
    assert (opened.namespace, opened.cluster) == ("llm", WEST)
    with pytest.raises(
        ConfigError, match=r'routes\.chat\.namespace = "prod": must be llm: a workload may set weights only'
    ):
        route_in_namespace({"kind": kind, key: "chat", "namespace": "prod"})
    with pytest.raises(ConfigError, match=r"routes\.chat\.cluster: must be absent in namespace llm"):
        route_in_namespace({"kind": kind, key: "chat", "cluster": {"context": "east"}})
    traffic = {"urls": ["http://envoy:19001/stats"], "access": {"bearer_token": {"env": "TOKEN"}}}
    with pytest.raises(ConfigError, match=r"routes\.chat\.traffic\.access\.bearer_token: must not be set"):
        route_in_namespace({"kind": kind, key: "chat", "traffic": traffic})
    with pytest.raises(ConfigError, match=rf"{key}.*must be at most 253 lowercase"):
        route_in_namespace({"kind": kind, key: "../../prod/httproutes/chat"})


@pytest.mark.parametrize("kind", ["kubernetes", "published"])
def test_a_pool_of_a_kind_that_may_be_cluster_scoped_is_refused(kind: str) -> None:
    """The namespace of a cluster-scoped object is ignored, so that it would be no limit."""
    node_pool = {"kind": kind, "name": "h100", "api_version": "karpenter.sh/v1", "object_kind": "NodePool"}
    with pytest.raises(ConfigError, match=r'pools\.checked\.object_kind = "NodePool": must be one of Deployment'):
        pool_in_namespace(node_pool)
    groups = {"api_version": "leaderworkerset.x-k8s.io/v1", "object_kind": "LeaderWorkerSet"}
    assert pool_in_namespace({**node_pool, **groups}).object_kind == "LeaderWorkerSet"
