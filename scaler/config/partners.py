"""Settings of the servers that publish decided sizes to other autoscalers: KEDA and HPAs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

from policies.model.field_metadata import FieldMetadata, Pattern
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.config.listen import LISTEN, ServerTls, listen_problem


@dataclass(frozen=True, kw_only=True)
class KedaServer:
    """KEDA external scaler, by gRPC."""

    listen: Annotated[
        str,
        FieldMetadata(
            "Address of the gRPC server, as HOST:PORT. Default: 0.0.0.0:6000, which KEDA's operator reaches in a"
            " cluster.",
            pattern=Pattern(LISTEN, "HOST:PORT"),
        ),
    ] = "0.0.0.0:6000"
    tls: Annotated[
        ServerTls | None,
        FieldMetadata(
            "Certificate of the gRPC server, which KEDA trusts by caCert in a TriggerAuthentication. Default: null, no"
            " encryption."
        ),
    ] = None
    client_ca: Annotated[
        str | None,
        FieldMetadata(
            "PEM file of the authority that signs the clients' certificates; KEDA then needs tlsClientCert and"
            " tlsClientKey. Requires tls. Default: null, every client may read the sizes.",
            example="/etc/tls/ca.crt",
        ),
    ] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        if rule := listen_problem(self.listen):
            yield "listen", rule
        if self.client_ca is not None and self.tls is None:
            yield "client_ca", "needs tls: a client shows its certificate over TLS only"


@dataclass(frozen=True, kw_only=True)
class ExternalMetricsServer:
    """Server of the API external.metrics.k8s.io, which the API server forwards to."""

    listen: Annotated[
        str,
        FieldMetadata(
            "Address of the HTTPS server, as HOST:PORT. Default: 0.0.0.0:6443, which the API server reaches through a"
            " Service.",
            pattern=Pattern(LISTEN, "HOST:PORT"),
        ),
    ] = "0.0.0.0:6443"
    tls: Annotated[
        ServerTls,
        FieldMetadata(
            "Certificate of the HTTPS server, for the name SERVICE.NAMESPACE.svc. The APIService trusts it by caBundle."
        ),
    ]
    cluster: Annotated[
        KubeCluster,
        FieldMetadata(
            "Kubernetes cluster whose API server may connect. Default: the cluster of the daemon's pod, or of the"
            " current kubeconfig context."
        ),
    ] = field(default_factory=KubeCluster)

    def problems(self) -> Iterator[tuple[str, str]]:
        if rule := listen_problem(self.listen):
            yield "listen", rule


@dataclass(frozen=True, kw_only=True)
class Partners:
    """Other autoscalers that apply decided sizes."""

    keda: Annotated[
        KedaServer | None, FieldMetadata("Server for KEDA's external scaler. Default: null, no server.")
    ] = None
    external_metrics: Annotated[
        ExternalMetricsServer | None,
        FieldMetadata(
            "Server of external metrics for HPAs without KEDA, which serves this API itself. Default: null, no server."
        ),
    ] = None
