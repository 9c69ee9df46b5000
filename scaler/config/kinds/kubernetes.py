"""Pools on Kubernetes: anything with a scale subresource, Karpenter NodePools, CapacityBuffers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Final

from policies.model.field_metadata import FieldMetadata
from policies.model.spec import NAME, Pool, Target
from scaler.clouds.kubernetes.cluster import KubeCluster, object_target
from scaler.clouds.kubernetes.drain_settings import Drain

CAPACITY_BUFFER_GROUP: Final = "autoscaling.x-k8s.io"


@dataclass(frozen=True, kw_only=True)
class Kubernetes(Pool):
    """The replicas of a Kubernetes object with a scale subresource."""

    api_version: Annotated[
        str,
        FieldMetadata(
            "API version of the object.", pattern=r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?v[0-9]+((alpha|beta)[0-9]+)?$"
        ),
    ] = "apps/v1"
    object_kind: Annotated[str, FieldMetadata("Kind of the object.", pattern=r"^[A-Z][A-Za-z0-9]*$")] = "Deployment"
    name: Annotated[
        str,
        FieldMetadata("Name of the object.", pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", example="llama-chat"),
    ]
    namespace: Annotated[
        str, FieldMetadata("Namespace of the object; no matter for kinds without one.", pattern=NAME)
    ] = "default"
    cluster: Annotated[KubeCluster, FieldMetadata("Cluster.")] = field(default_factory=KubeCluster)
    other_writer_yield_s: Annotated[
        float,
        FieldMetadata("How long the size is left alone after somebody else changed it. Seconds.", ge=0, le=86400),
    ] = 600.0
    watch_pods: Annotated[
        bool,
        FieldMetadata(
            "Whether its pods, their nodes and events are watched: notices, zones, and pods that do not come."
        ),
    ] = True
    unscheduled_s: Annotated[
        float,
        FieldMetadata(
            "A pod that is unscheduled for so long, and no autoscaler speaks of it, does not come. Seconds.", gt=0
        ),
    ] = 300.0
    drain: Annotated[Drain | None, FieldMetadata("How replicas are emptied before they go; null: they are not.")] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.drain is not None and self.object_kind == "LeaderWorkerSet":
            yield "drain", "a LeaderWorkerSet's groups go by their index and cannot be chosen: leave drain out"
        if self.drain is not None and not self.watch_pods:
            yield "watch_pods", "drain needs to know the pods"

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (object_target(self.cluster, self.api_version, self.object_kind, self.namespace, self.name),)


@dataclass(frozen=True, kw_only=True)
class KarpenterNodePool(Pool):
    """The nodes of a static NodePool of Karpenter."""

    name: Annotated[str, FieldMetadata("Name of the NodePool.", pattern=NAME, example="h100-spot-us-east-1a")]
    cluster: Annotated[KubeCluster, FieldMetadata("Cluster.")] = field(default_factory=KubeCluster)
    other_writer_yield_s: Annotated[
        float,
        FieldMetadata("How long the size is left alone after somebody else changed it. Seconds.", ge=0, le=86400),
    ] = 600.0

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (object_target(self.cluster, "karpenter.sh/v1", "NodePool", "", self.name),)


@dataclass(frozen=True, kw_only=True)
class CapacityBuffer(Pool):
    """The pods that a CapacityBuffer keeps room for; tier must be warm_node."""

    name: Annotated[str, FieldMetadata("Name of the CapacityBuffer.", pattern=NAME, example="llama-chat-room")]
    namespace: Annotated[str, FieldMetadata("Its namespace.", pattern=NAME)] = "default"
    api_version: Annotated[
        str,
        FieldMetadata("Version of its API; v1alpha1 before Karpenter 1.14.", pattern=r"^v1((alpha|beta)[0-9]+)?$"),
    ] = "v1beta1"
    cluster: Annotated[KubeCluster, FieldMetadata("Cluster.")] = field(default_factory=KubeCluster)
    other_writer_yield_s: Annotated[
        float,
        FieldMetadata("How long the size is left alone after somebody else changed it. Seconds.", ge=0, le=86400),
    ] = 600.0

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        group = f"{CAPACITY_BUFFER_GROUP}/{self.api_version}"
        return (object_target(self.cluster, group, "CapacityBuffer", self.namespace, self.name),)
