"""Settings of workloads that are objects of a Kubernetes cluster."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

from policies.model.field_metadata import FieldMetadata
from policies.model.names import NAME
from scaler.clouds.kubernetes.cluster import KubeCluster


@dataclass(frozen=True, kw_only=True)
class KubernetesWorkloads:
    """Workloads that are objects of a Kubernetes cluster, in addition to those in files."""

    namespaces: Annotated[
        tuple[str, ...],
        FieldMetadata(
            'Namespaces whose workloads the daemon runs, or ["*"] for every namespace, which needs a ClusterRole.',
            example=["llm"],
        ),
    ]
    custom_resources: Annotated[
        bool, FieldMetadata("Read objects of kind Workload, whose definition must be installed. Default: true.")
    ] = True
    config_maps: Annotated[
        bool,
        FieldMetadata(
            'Read ConfigMaps with the label forescale.io/workload: "true". Each of their keys holds one workload file.'
            " Default: false. Set it where the definition of Workload cannot be installed."
        ),
    ] = False
    trusted_namespaces: Annotated[
        tuple[str, ...],
        FieldMetadata(
            "Namespaces whose workloads may refer to all that a file may refer to: secrets of the daemon, cloud"
            " accounts, and objects of other namespaces. The default of none limits a workload to its own namespace."
            " Add only namespaces whose users may administer the daemon."
        ),
    ] = ()
    cluster: Annotated[
        KubeCluster,
        FieldMetadata(
            "Kubernetes cluster of the objects, and of their pools. Default: the cluster of the daemon's pod, or of the"
            " current kubeconfig context."
        ),
    ] = field(default_factory=KubeCluster)

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.namespaces:
            yield "namespaces", 'must list at least one namespace, or "*" for all'
        if "*" in self.namespaces and len(self.namespaces) > 1:
            yield "namespaces", 'must have no further entry next to "*", which includes every namespace'
        for key in ("namespaces", "trusted_namespaces"):
            names: tuple[str, ...] = getattr(self, key)
            for name in names:
                if not re.fullmatch(NAME.regex, name) and not (name == "*" and key == "namespaces"):
                    yield key, f"must be names of namespaces: {NAME.words}"
            if len(set(names)) < len(names):
                yield key, "lists a namespace twice; remove the duplicate"
        unread = sorted(set(self.trusted_namespaces) - set(self.namespaces)) if "*" not in self.namespaces else []
        if unread:
            yield "trusted_namespaces", f"must also be in namespaces: {', '.join(unread)}"
        if not self.custom_resources and not self.config_maps:
            yield "custom_resources", "and config_maps are both false, so nothing is read: set one of them to true"
