"""Pools on Kubernetes.

They are anything with a scale subresource, Karpenter NodePools, and CapacityBuffers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from policies.model.field_metadata import FieldMetadata, Pattern
from policies.model.names import NAME
from policies.model.pool import YIELD_S, HeadroomPool, OtherWriterYield, Pool, Target
from scaler.clouds.kubernetes.cluster import KubeCluster, object_target
from scaler.clouds.kubernetes.drain_settings import Drain

CAPACITY_BUFFER_GROUP: Final = "autoscaling.x-k8s.io"
KNOWN_KINDS: Final = frozenset(
    {
        ("apps", "Deployment"),
        ("apps", "ReplicaSet"),
        ("apps", "StatefulSet"),
        ("leaderworkerset.x-k8s.io", "LeaderWorkerSet"),
    }
)
"""Namespaced kinds whose size is `.spec.replicas`, with a default by the API server, and whose ready replicas are
`.status.readyReplicas` (0 where absent)."""
OBJECT_NAME: Final = Pattern(
    r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", "at most 253 lowercase letters, digits and inner hyphens and dots"
)


@dataclass(frozen=True, kw_only=True)
class PodsPool(Pool):
    """Pods of a namespace, which a pool observes as its replicas."""

    namespace: Annotated[
        str, FieldMetadata("Namespace of the object; ignored for cluster-scoped kinds. Default: default.", pattern=NAME)
    ] = "default"
    cluster: Annotated[
        KubeCluster,
        FieldMetadata(
            "Kubernetes cluster. Default: the cluster of the daemon's pod, or of the current kubeconfig context."
        ),
    ] = field(default_factory=KubeCluster)
    watch_pods: Annotated[
        bool,
        FieldMetadata(
            "Watch the object's pods, their nodes and events, to see interruption notices, zones and unschedulable"
            " pods. Default: true."
        ),
    ] = True
    unscheduled_s: Annotated[
        float,
        FieldMetadata(
            "Count a pod as a capacity shortage if it is unschedulable for this time and no node autoscaler reacted."
            " The default of 300 gives a node autoscaler time to react. Seconds.",
            gt=0,
        ),
    ] = 300.0


@dataclass(frozen=True, kw_only=True)
class KubernetesObject(PodsPool):
    """A Kubernetes object with a scale subresource, whose replicas a pool observes."""

    api_version: Annotated[
        str,
        FieldMetadata(
            "API version of the object. Default: apps/v1, that of a Deployment.",
            pattern=Pattern(
                r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?v[0-9]+((alpha|beta)[0-9]+)?$", "GROUP/VERSION or VERSION"
            ),
        ),
    ] = "apps/v1"
    object_kind: Annotated[
        str,
        FieldMetadata(
            "Kind of the object, such as Deployment, StatefulSet or LeaderWorkerSet. Default: Deployment.",
            pattern=Pattern(r"^[A-Z][A-Za-z0-9]*$", "a kind in CamelCase"),
        ),
    ] = "Deployment"
    name: Annotated[
        str,
        FieldMetadata(
            "Name of the object.",
            pattern=OBJECT_NAME,
            example="llama-chat",
        ),
    ]

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (object_target(self.cluster, self.api_version, self.object_kind, self.namespace, self.name),)


@dataclass(frozen=True, kw_only=True)
class Kubernetes(KubernetesObject):
    """The replicas of a Kubernetes object with a scale subresource."""

    other_writer_yield_s: OtherWriterYield = YIELD_S
    drain: Annotated[
        Drain | None,
        FieldMetadata(
            "Drain replicas before their removal; requires watch_pods. Default: null, replicas are removed without"
            " draining."
        ),
    ] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.drain is not None and self.object_kind == "LeaderWorkerSet":
            yield "drain", "is not supported for a LeaderWorkerSet, which removes groups by index; remove drain"
        if self.drain is not None and not self.watch_pods:
            yield "watch_pods", "must be true because drain needs the pods"


@dataclass(frozen=True, kw_only=True)
class Published(KubernetesObject):
    """The replicas of a Kubernetes object that KEDA or an HPA resizes to the published size."""

    name: Annotated[str, FieldMetadata("Name of the object.", pattern=OBJECT_NAME, example="llama-borrowed")]
    on_other_writer: Annotated[
        Literal["yield"],
        FieldMetadata("Always yield: this pool is resized by the autoscaler that reads its published size."),
    ] = "yield"


@dataclass(frozen=True, kw_only=True)
class KarpenterNodePool(Pool):
    """The nodes of a static Karpenter NodePool."""

    name: Annotated[
        str,
        FieldMetadata(
            "Name of the NodePool, which must set spec.replicas.", pattern=NAME, example="h100-spot-us-east-1a"
        ),
    ]
    cluster: Annotated[
        KubeCluster,
        FieldMetadata(
            "Kubernetes cluster. Default: the cluster of the daemon's pod, or of the current kubeconfig context."
        ),
    ] = field(default_factory=KubeCluster)
    other_writer_yield_s: OtherWriterYield = YIELD_S

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (object_target(self.cluster, "karpenter.sh/v1", "NodePool", "", self.name),)


@dataclass(frozen=True, kw_only=True)
class CapacityBuffer(HeadroomPool):
    """The pods that a CapacityBuffer reserves room for."""

    tier: Annotated[
        Literal["warm_node"],
        FieldMetadata("Role of the pool's replicas. A buffer holds empty capacity, so it is always warm_node."),
    ] = "warm_node"
    name: Annotated[str, FieldMetadata("Name of the CapacityBuffer.", pattern=NAME, example="llama-chat-room")]
    namespace: Annotated[str, FieldMetadata("Namespace of the CapacityBuffer. Default: default.", pattern=NAME)] = (
        "default"
    )
    api_version: Annotated[
        str,
        FieldMetadata(
            "Version of the CapacityBuffer API. Default: v1beta1. Use v1alpha1 with Karpenter before 1.14.",
            pattern=Pattern(r"^v1((alpha|beta)[0-9]+)?$", "v1, or an alpha or beta version of it"),
        ),
    ] = "v1beta1"
    cluster: Annotated[
        KubeCluster,
        FieldMetadata(
            "Kubernetes cluster. Default: the cluster of the daemon's pod, or of the current kubeconfig context."
        ),
    ] = field(default_factory=KubeCluster)
    other_writer_yield_s: OtherWriterYield = YIELD_S

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        group = f"{CAPACITY_BUFFER_GROUP}/{self.api_version}"
        return (object_target(self.cluster, group, "CapacityBuffer", self.namespace, self.name),)
