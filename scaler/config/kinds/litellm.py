"""Routes of a LiteLLM proxy: the deployments of one model group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Final

from policies.model.field_metadata import FieldMetadata, Pattern
from policies.model.names import BackendName
from policies.model.pool import Target
from policies.model.route_spec import Route
from scaler.clouds.http_access import BASE_URL, Access
from scaler.config.kinds.engines import PAGE_URL, page_problems
from scaler.config.kinds.gateway_routes import unknown_backends

MODEL_NAME: Final = Pattern(r"^[^\x00-\x1f]{1,253}$", "a name of at most 253 characters")


@dataclass(frozen=True, kw_only=True)
class LiteLlmMetrics:
    """Metrics pages of the proxies, with the requests to each deployment."""

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
            example="http://litellm-pods.llm.svc:4000/metrics",
        ),
    ] = None
    access: Annotated[
        Access,
        FieldMetadata(
            "Credentials and trusted certificates for the pages, where LiteLLM requires them"
            " (require_auth_for_metrics_endpoint). Default: no credentials."
        ),
    ] = field(default_factory=Access)

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from page_problems(self.urls, self.service, "http://litellm-pods.llm.svc:4000/metrics")


@dataclass(frozen=True, kw_only=True)
class LiteLlm(Route):
    """A model group of a LiteLLM proxy, whose weights of deployments the daemon sets."""

    can_reject: ClassVar[bool] = False
    """A weight cannot answer 503 with Retry-After."""

    url: Annotated[
        str,
        FieldMetadata(
            "URL of the proxy with the admin API. Its models must be stored in its database (store_model_in_db).",
            pattern=BASE_URL,
            example="http://litellm.llm.svc:4000",
        ),
    ]
    model_group: Annotated[
        str,
        FieldMetadata(
            "Name of the model group, which clients request as model (model_name).", pattern=MODEL_NAME, example="llama"
        ),
    ]
    deployments: Annotated[
        Mapping[BackendName, str],
        FieldMetadata(
            "ID of the deployment of each backend (model_info.id). Default: none: a deployment has the name of its"
            " backend as its ID.",
            example={"gpus": "vllm-h100"},
        ),
    ] = field(default_factory=dict)
    access: Annotated[
        Access,
        FieldMetadata(
            "Credentials for the admin API: the key of a proxy admin as bearer_token, by file or environment variable."
            " Default: no credentials."
        ),
    ] = field(default_factory=Access)
    traffic: Annotated[
        LiteLlmMetrics | None,
        FieldMetadata(
            "Metrics of the proxies (callback prometheus), by which demand, failures and the time to first token of"
            " streams are measured. Default: null: weights follow the ready capacity of the pools alone. Providers need"
            " it."
        ),
    ] = None

    def deployment(self, backend: BackendName) -> str:
        """Return the ID of a backend's deployment."""
        return self.deployments.get(backend, backend)

    def targets(self, workload: str, route: str) -> tuple[Target, ...]:
        return (Target("LiteLLM model group", (), f"{self.url.rstrip('/')} {self.model_group}"),)

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.zero_replicas == "reject":
            yield "zero_replicas", "must be hold or overflow: LiteLLM cannot answer 503 with Retry-After by a weight"
        yield from unknown_backends("deployments", self.deployments, self.backends)
        if len({self.deployment(name) for name in self.backends}) < len(self.backends):
            yield "deployments", "must not give two backends the same deployment"
        if self.needs_demand and self.traffic is None:
            reason = "a workload in backends" if self.workloads else "allow_external: true"
            yield "traffic", f"must be set with {reason}, so that the demand is measured"
        if self.prefer == "locality" and self.traffic is None:
            yield "traffic", "must be set with prefer: locality, so that the demand is measured"
