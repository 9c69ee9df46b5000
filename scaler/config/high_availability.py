"""Settings of high availability: several daemons share the workloads by leases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from policies.model.field_metadata import FieldMetadata, Pattern
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.config.postgresql_server import TABLE, PostgreSqlServer

NAME: Final = Pattern(r"^[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?$", "a DNS label of at most 42 characters")
DEFAULT_NAME: Final = "forescale"
MAX_RENEW_SHARE: Final = 0.5
"""Maximum `renew_s` as a share of `duration_s`: one failed renewal must not end a lease."""
OF_KIND: Final = {"namespace": "kubernetes", "cluster": "kubernetes", "server": "postgresql", "table": "postgresql"}
"""The kind of lease that each setting belongs to."""


@dataclass(frozen=True, kw_only=True)
class LeaseSettings:
    """Store and timing of the leases."""

    kind: Annotated[
        Literal["kubernetes", "postgresql"],
        FieldMetadata(
            "Store of the leases. Default: kubernetes, Lease objects of a cluster. Set postgresql where no daemon runs"
            " next to a cluster."
        ),
    ] = "kubernetes"
    duration_s: Annotated[
        float,
        FieldMetadata(
            "Time after the last renewal at which another daemon takes a lease. The default of 15 is that of"
            " Kubernetes' own controllers. A longer time tolerates longer outages of the API server, and delays the"
            " takeover after a crash. Seconds.",
            ge=2,
            le=3600,
        ),
    ] = 15.0
    renew_s: Annotated[
        float,
        FieldMetadata(
            "Time between two renewals, at most half of duration_s. The default of 2, that of Kubernetes' controllers,"
            " leaves time for a write of 10 s, the default deadline_s, after a failed renewal too. Seconds.",
            ge=0.5,
            le=1800,
        ),
    ] = 2.0
    namespace: Annotated[
        str | None,
        FieldMetadata(
            "Namespace of the leases, with kind: kubernetes. Default: null, the namespace of the daemon's pod, else"
            " default."
        ),
    ] = None
    cluster: Annotated[
        KubeCluster,
        FieldMetadata(
            "Kubernetes cluster. Default: the cluster of the daemon's pod, or of the current kubeconfig context."
        ),
    ] = field(default_factory=KubeCluster)
    server: Annotated[
        PostgreSqlServer | None,
        FieldMetadata(
            "Database of the leases, required with kind: postgresql: the primary, not a replica. Default: null."
        ),
    ] = None
    table: Annotated[
        str,
        FieldMetadata(
            "Table of the leases, with kind: postgresql. The daemon creates it where its user may. Default:"
            " forescale_leases.",
            pattern=TABLE,
        ),
    ] = "forescale_leases"

    def problems(self) -> Iterator[tuple[str, str]]:
        for key, kind in OF_KIND.items():
            if kind != self.kind and getattr(self, key) != getattr(DEFAULTS, key):
                yield key, f"belongs to kind: {kind}; remove it, or set kind: {kind}"
        if self.kind == "postgresql" and self.server is None:
            yield "server", "is required with kind: postgresql. Set its host, database and username"
        if self.renew_s > MAX_RENEW_SHARE * self.duration_s:
            yield "renew_s", f"must be at most {MAX_RENEW_SHARE * self.duration_s:g}, half of duration_s"


DEFAULTS: Final = LeaseSettings()


@dataclass(frozen=True, kw_only=True)
class HighAvailability:
    """Several daemons with the same configuration share its workloads."""

    name: Annotated[
        str,
        FieldMetadata(
            "Beginning of the leases' names, the same in all daemons that share the workloads. Default: forescale. Set"
            " it if a namespace has two installations.",
            pattern=NAME,
        ),
    ] = DEFAULT_NAME
    shards: Annotated[
        int,
        FieldMetadata(
            "Number of shards, each with a lease. Each daemon holds its share of them. The default of 16 divides the"
            " workloads well among up to 5 daemons. Use at least three for each daemon. Shards.",
            ge=1,
            le=256,
        ),
    ] = 16
    peer_url: Annotated[
        str | None,
        FieldMetadata(
            "URL by which the other daemons reach this daemon's HTTP server: the dashboard of each then shows the"
            " workloads of all. {NAME} stands for an environment variable, such as {POD_IP}. Only the host may differ"
            " between daemons. Default: null, each shows its own.",
            pattern=Pattern(
                r"^https?://[^/@\s?#]+:[0-9]{1,5}$", "an http:// or https:// URL with a port, without user and path"
            ),
            example="http://{POD_IP}:8080",
        ),
    ] = None
    lease: Annotated[LeaseSettings, FieldMetadata("Store and timing of the leases.")] = field(
        default_factory=LeaseSettings
    )
