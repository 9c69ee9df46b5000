"""Routes on Kubernetes.

Each is a rule of an HTTPRoute of the Gateway API, or of an AIGatewayRoute of Envoy AI Gateway.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Final

from policies.model.field_metadata import FieldMetadata, Pattern
from policies.model.names import NAME, BackendName
from policies.model.pool import Target
from policies.model.route_spec import Backend, LatencyTerm, Route
from scaler.clouds.http_access import Access
from scaler.clouds.kubernetes.cluster import KubeCluster, object_target
from scaler.config.kinds.engines import PAGE_URL, page_problems
from scaler.config.kinds.kubernetes import OBJECT_NAME

HTTP_ROUTE: Final = "gateway.networking.k8s.io/v1"
AI_GATEWAY_GROUP: Final = "aigateway.envoyproxy.io"
SPLITS_INFERENCE_POOLS: Final = frozenset({"networking.gke.io/gateway"})
"""Controllers known to split requests among InferencePools by weight: GKE passes the conformance test
GatewayWeightedAcrossTwoInferencePools."""


@dataclass(frozen=True, kw_only=True)
class GatewayMetrics:
    """Metrics pages of the Envoy proxies behind a gateway, with the requests to each backend."""

    urls: Annotated[
        tuple[str, ...],
        FieldMetadata("URLs of the metrics pages, for a fixed set of proxies. Default: empty; set service instead."),
    ] = ()
    service: Annotated[
        str | None,
        FieldMetadata(
            "URL of the metrics page under a name that resolves to every proxy, such as a headless Service. The name is"
            " resolved at each tick. Default: null; set urls instead.",
            pattern=PAGE_URL,
            example="http://gateway-metrics.envoy.svc:19001/stats/prometheus",
        ),
    ] = None
    clusters: Annotated[
        Mapping[BackendName, str],
        FieldMetadata(
            "Name of the Envoy cluster of each backend, as the label envoy_cluster_name has it. Default: none: a"
            " cluster has the name of its backend. Gateway controllers choose other names, so set it.",
            example={"gpus": "kube_llm_vllm_8000"},
        ),
    ] = field(default_factory=dict)
    shared_cluster: Annotated[
        str | None,
        FieldMetadata(
            "Name of the one Envoy cluster of all backends of the rule, as Envoy Gateway and Envoy AI Gateway have it."
            " The demand is then measured, but not which backend fails. Default: null, each backend has its own.",
            example=None,
        ),
    ] = None
    access: Annotated[
        Access, FieldMetadata("Credentials and trusted certificates for the requests. Default: no credentials.")
    ] = field(default_factory=Access)

    def cluster(self, backend: BackendName) -> str:
        """Return the name of a backend's cluster."""
        return self.clusters.get(backend, backend)

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from page_problems(self.urls, self.service, "http://gateway-metrics.envoy.svc:19001/stats/prometheus")
        if self.clusters and self.shared_cluster:
            yield "shared_cluster", "and clusters exclude each other; remove one of the two"


@dataclass(frozen=True, kw_only=True)
class ClusterRoute(Route):
    """A route whose weights are in objects of a Kubernetes cluster."""

    can_reject: ClassVar[bool] = False
    """The objects cannot answer 503 with Retry-After."""

    namespace: Annotated[str, FieldMetadata("Namespace of the objects. Default: default.", pattern=NAME)] = "default"
    traffic: Annotated[
        GatewayMetrics | None,
        FieldMetadata(
            "Metrics of the gateway, by which demand, failures and the duration of whole responses are measured."
            " Default: null: weights follow the ready capacity of the pools alone. Providers need it."
        ),
    ] = None
    cluster: Annotated[
        KubeCluster,
        FieldMetadata(
            "Kubernetes cluster. Default: the cluster of the daemon's pod, or of the current kubeconfig context."
        ),
    ] = field(default_factory=KubeCluster)

    @property
    def latency_term(self) -> LatencyTerm:
        return "e2e_s"

    @property
    def api_version(self) -> str:
        """The API version of the objects."""
        raise NotImplementedError(f"{type(self).__name__} states no API version")

    @property
    def object_kind(self) -> str:
        """The kind of the objects."""
        raise NotImplementedError(f"{type(self).__name__} states no kind of object")

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.zero_replicas == "reject":
            yield "zero_replicas", f"must be hold or overflow: {self.object_kind}s cannot answer 503 with Retry-After"
        if self.traffic is None and self.prefer == "locality":
            yield "traffic", "must be set with prefer: locality, so that the demand is measured"
        if self.traffic is not None:
            yield from unknown_backends("traffic", self.traffic.clusters, self.backends)
            if len({self.traffic.cluster(name) for name in self.backends}) < len(self.backends):
                yield "traffic", "must not give two backends the same cluster"
            if self.prefer == "latency" and self.traffic.shared_cluster:
                yield "prefer", "must not be latency with traffic.shared_cluster, which hides the latency of a backend"


def unknown_backends(
    key: str, names: Mapping[BackendName, str], backends: Mapping[BackendName, Backend]
) -> Iterator[tuple[str, str]]:
    """Yield the backends that a setting names and that do not exist."""
    for name in names:
        if name not in backends:
            yield key, f"names backend {name!r}, which is not in backends"


@dataclass(frozen=True, kw_only=True)
class GatewayRoute(ClusterRoute):
    """A rule of a Kubernetes object that splits requests by the weights of its backendRefs."""

    name: Annotated[str, FieldMetadata("Name of the object.", pattern=OBJECT_NAME, example="llama-chat")]
    rule_index: Annotated[
        int | None,
        FieldMetadata(
            "Number of the rule, counted from 0. Default: null, the only rule of the object. Set it, or rule, where the"
            " object has several.",
            ge=0,
            le=127,
        ),
    ] = None
    refs: Annotated[
        Mapping[BackendName, str],
        FieldMetadata(
            "Name of the backendRef of each backend in the rule. Default: none: a backendRef has the name of its"
            " backend.",
            example={"gpus": "vllm"},
        ),
    ] = field(default_factory=dict)

    @property
    def rule_words(self) -> str:
        """The rule as errors name it."""
        return "its only rule" if self.rule_index is None else f"rule {self.rule_index}"

    def ref(self, backend: BackendName) -> str:
        """Return the name of a backend's backendRef."""
        return self.refs.get(backend, backend)

    def targets(self, workload: str, route: str) -> tuple[Target, ...]:
        target = object_target(self.cluster, self.api_version, self.object_kind, self.namespace, self.name)
        return (target._replace(name=f"{target.name}, {self.rule_words}"),)

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        yield from unknown_backends("refs", self.refs, self.backends)
        if len({self.ref(name) for name in self.backends}) < len(self.backends):
            yield "refs", "must not give two backends the same backendRef"
        if self.needs_demand and self.traffic is None:
            reason = "a workload in backends" if self.workloads else "allow_external: true"
            yield "traffic", f"must be set with {reason}, so that the demand is measured"


@dataclass(frozen=True, kw_only=True)
class HttpRoute(GatewayRoute):
    """A rule of an HTTPRoute of the Gateway API, whose weights the daemon sets."""

    rule: Annotated[
        str | None,
        FieldMetadata(
            "Name of the rule, as in its field name. Default: null, the only rule of the object. A name still selects"
            " the same rule after others were added before it; rule_index does not.",
            pattern=NAME,
            example="llama",
        ),
    ] = None
    splits_inference_pools: Annotated[
        tuple[str, ...],
        FieldMetadata(
            "Gateway controllers, by their controllerName, that you know to split requests among InferencePools by"
            " weight. Default: none. GKE's controller is known already; others are refused, since several send all"
            " requests to one pool.",
            example=["gateway.nginx.org/nginx-gateway-controller"],
        ),
    ] = ()

    @property
    def api_version(self) -> str:
        return HTTP_ROUTE

    @property
    def object_kind(self) -> str:
        return "HTTPRoute"

    @property
    def rule_words(self) -> str:
        return super().rule_words if self.rule is None else f"rule {self.rule!r}"

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.rule is not None and self.rule_index is not None:
            yield "rule", "and rule_index exclude each other; remove one of the two"


@dataclass(frozen=True, kw_only=True)
class AiGatewayRoute(GatewayRoute):
    """A rule of an AIGatewayRoute of Envoy AI Gateway, whose weights the daemon sets."""

    version: Annotated[
        str,
        FieldMetadata(
            "Version of Envoy AI Gateway's API. Default: v1beta1. Set v1alpha1 where the cluster does not serve that.",
            pattern=Pattern(r"^v1((alpha|beta)[0-9]+)?$", "v1, or an alpha or beta version of it"),
        ),
    ] = "v1beta1"

    @property
    def api_version(self) -> str:
        return f"{AI_GATEWAY_GROUP}/{self.version}"

    @property
    def object_kind(self) -> str:
        return "AIGatewayRoute"
