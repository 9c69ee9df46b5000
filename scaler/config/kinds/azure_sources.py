"""Sources on Azure: Azure Monitor and Service Bus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Final, Literal

from policies.model.field_metadata import FieldMetadata, Pattern
from scaler.clouds.azure.account import (
    GROUP,
    ORIGIN,
    RESOURCE,
    AzureAccount,
)
from scaler.config.secret import Secret

Aggregation = Literal["average", "maximum", "minimum", "total", "count"]

ENTITY: Final = Pattern(r"^[^\s?#]{1,260}$", "at most 260 characters without spaces, ? and #")
"""Name of a Service Bus queue or topic."""


@dataclass(frozen=True, slots=True)
class AzureMetric:
    """One metric: the first of `names` that the resource has. `filter` selects series."""

    names: tuple[str, ...]
    aggregation: Aggregation
    scale: float = 1.0
    filter: str | None = None


MINUTE: Final = 1 / 60
"""Factor from a count in a minute to a rate per second."""
PRESETS: Final[Mapping[str, Mapping[str, AzureMetric]]] = {
    "azure_ml_deployment": {
        "utilization": AzureMetric(("GpuUtilizationPercentage",), "average", 0.01),
        "memory_utilization": AzureMetric(("GpuMemoryUtilizationPercentage",), "average", 0.01),
        "requests_per_s": AzureMetric(("RequestsPerMinute",), "average", MINUTE),
        "latency_p95_s": AzureMetric(("RequestLatency_P95",), "average", 0.001),
    },
    "azure_openai": {
        "provisioned_utilization": AzureMetric(
            ("AzureOpenAIProvisionedManagedUtilizationV2", "ProvisionedUtilization"), "average", 0.01
        ),
        "requests_per_s": AzureMetric(("AzureOpenAIRequests", "ModelRequests"), "total", MINUTE),
        "spillover_requests_per_s": AzureMetric(
            ("AzureOpenAIRequests", "ModelRequests"), "total", MINUTE, "IsSpillover eq 'True'"
        ),
        "prompt_tokens_per_s": AzureMetric(("ProcessedPromptTokens", "InputTokens"), "total", MINUTE),
        "generation_tokens_per_s": AzureMetric(("GeneratedTokens", "OutputTokens"), "total", MINUTE),
    },
}
"""Metrics by preset. Resources of kind OpenAI have the first names, those of kind AIServices perhaps the second."""
DIMENSIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "azure_ml_deployment": (),
    "azure_openai": ("ModelDeploymentName",),
}
"""The dimensions by which `match` selects a preset's series."""
TYPES: Final[Mapping[str, str]] = {
    "azure_ml_deployment": "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/deployments",
    "azure_openai": "Microsoft.CognitiveServices/accounts",
}
"""The type of resource that has a preset's metrics."""


@dataclass(frozen=True, kw_only=True)
class AzureMonitor:
    """Metrics of an Azure resource in Azure Monitor."""

    resource: Annotated[
        str,
        FieldMetadata(
            "Resource ID, as shown in the Azure portal under JSON View.",
            pattern=RESOURCE,
            example="/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/llm/providers"
            "/Microsoft.MachineLearningServices/workspaces/llm/onlineEndpoints/llama-chat/deployments/h100",
        ),
    ]
    region: Annotated[
        str,
        FieldMetadata(
            "Region of the resource, which selects the metrics endpoint.",
            pattern=Pattern(r"^[a-z0-9]+$", "an Azure region in lowercase without spaces"),
            example="eastus",
        ),
    ]
    preset: Annotated[
        Literal["azure_ml_deployment", "azure_openai"] | None,
        FieldMetadata(
            "Set of metrics to read. The source looks up once which of their names the resource has. Default: null,"
            " only those in metrics.",
            example="azure_ml_deployment",
        ),
    ] = None
    match: Annotated[
        Mapping[str, str],
        FieldMetadata(
            "Dimensions of the preset's series: ModelDeploymentName for azure_openai. Default: none.",
        ),
    ] = field(default_factory=dict)
    metrics: Annotated[
        Mapping[str, str],
        FieldMetadata(
            "Azure metric names, keyed by the name of the quantity that each provides. They take precedence over the"
            " preset's. Default: none.",
            example={"visible": "ActiveMessages"},
        ),
    ] = field(default_factory=dict)
    aggregation: Annotated[
        Aggregation,
        FieldMetadata(
            "Aggregation of each one-minute sample, for all metrics without an entry in aggregations. Default: average."
        ),
    ] = "average"
    aggregations: Annotated[
        Mapping[str, Aggregation],
        FieldMetadata("Aggregation of single metrics, keyed by quantity. Overrides aggregation. Default: none."),
    ] = field(default_factory=dict)
    filter: Annotated[
        str | None,
        FieldMetadata(
            "OData filter on the dimensions of metrics, in Azure's syntax. Presets do not use it. Default: null, no"
            " filter.",
        ),
    ] = None
    combine: Annotated[
        Literal["sum", "mean", "max"],
        FieldMetadata(
            "Combine several series of one metric by sum, mean or max. If a series lacks a sample, a sum becomes a"
            " lower bound, and a mean or maximum is absent. Default: sum."
        ),
    ] = "sum"
    scale: Annotated[
        Mapping[str, float],
        FieldMetadata(
            "Factors, keyed by quantity, that each value is multiplied by: 0.01 turns percent into a share. Default:"
            " none, no conversion.",
            example={"utilization": 0.01},
        ),
    ] = field(default_factory=dict)
    account: Annotated[
        AzureAccount, FieldMetadata("Azure identity and endpoints. The subscription is that of resource.")
    ] = field(default_factory=AzureAccount)
    endpoint_url: Annotated[
        str | None,
        FieldMetadata(
            "Metrics endpoint to use instead of the region's, such as a test server. Default: null, the region's"
            " endpoint.",
            pattern=ORIGIN,
        ),
    ] = None
    max_age_s: Annotated[
        float,
        FieldMetadata(
            "Treat older samples as stale. Samples are one minute apart and are published minutes later, which the"
            " default of 300 covers. Seconds.",
            gt=60,
        ),
    ] = 300.0

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.metrics and self.preset is None:
            yield "metrics", "must name at least one metric, such as visible: ActiveMessages, or set preset"
        yield from self._preset_problems()
        for quantity in self.metrics:
            if not quantity.isascii() or not quantity.isidentifier():
                yield (
                    "metrics",
                    f"{quantity!r} is not a valid quantity name: use letters, digits and _, such as queue_depth",
                )
        for key, by_quantity in (("aggregations", self.aggregations), ("scale", self.scale)):
            for quantity in sorted(set(by_quantity) - set(self.metrics)):
                yield key, f"names {quantity!r}, which is not in metrics"
        if self.account.subscription_id not in {None, self.subscription}:
            yield (
                "account.subscription_id",
                f"must match the subscription in resource, {self.subscription}; remove it to use that one",
            )

    def _preset_problems(self) -> Iterator[tuple[str, str]]:
        dimensions = DIMENSIONS[self.preset] if self.preset is not None else ()
        if self.match.keys() != set(dimensions):
            needed = f"must name exactly {' and '.join(dimensions)}, the dimension of the preset's series"
            yield "match", needed if dimensions else "must be empty: only presets with dimensions use it"
        if any("'" in value for value in self.match.values()):
            yield "match", "must have no quotation mark in a value"
        if self.preset is not None and self.metric_namespace.lower() != TYPES[self.preset].lower():
            yield "resource", f"must be of type {TYPES[self.preset]}, which has the metrics of preset {self.preset}"

    @property
    def subscription(self) -> str:
        return self.resource.split("/")[2]

    @property
    def metric_namespace(self) -> str:
        """The resource's type, such as ``Microsoft.ServiceBus/namespaces``."""
        provider, *types_and_names = self.resource.partition("/providers/")[2].split("/")
        return "/".join([provider, *types_and_names[::2]])

    def all_metrics(self) -> dict[str, AzureMetric]:
        """Return the metrics by quantity. `metrics` take precedence over the preset."""
        preset = PRESETS[self.preset] if self.preset is not None else {}
        matched = " and ".join(f"{name} eq '{value}'" for name, value in self.match.items())
        filters = {q: " and ".join(f for f in (matched, m.filter) if f) or None for q, m in preset.items()}
        own = {
            q: AzureMetric((name,), self.aggregations.get(q, self.aggregation), self.scale.get(q, 1.0), self.filter)
            for q, name in self.metrics.items()
        }
        return {**{q: replace(m, filter=filters[q]) for q, m in preset.items()}, **own}

    def quantities(self) -> Mapping[str, float]:
        return dict.fromkeys(self.all_metrics(), self.max_age_s)


@dataclass(frozen=True, kw_only=True)
class ServiceBus:
    """An Azure Service Bus queue or topic subscription."""

    namespace: Annotated[
        str,
        FieldMetadata(
            "Name of the Service Bus namespace, or its full host name. Append a port if it is not 443.",
            pattern=Pattern(
                r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?$", "a namespace or host name, or HOST:PORT"
            ),
            example="llm-jobs",
        ),
    ]
    queue: Annotated[
        str | None,
        FieldMetadata(
            "Name of the queue. Default: null; set topic and subscription instead.",
            pattern=ENTITY,
            example="prompts",
        ),
    ] = None
    topic: Annotated[
        str | None,
        FieldMetadata("Name of the topic; requires subscription. Default: null; set queue instead.", pattern=ENTITY),
    ] = None
    subscription: Annotated[
        str | None,
        FieldMetadata(
            "Name of the topic's subscription, whose messages are counted. Default: null, only with queue.",
            pattern=Pattern(r"^[^\s/?#]{1,50}$", "at most 50 characters without spaces, /, ? and #"),
        ),
    ] = None
    sessions: Annotated[
        int | None,
        FieldMetadata(
            "Number of sessions, if the queue or subscription requires sessions. More replicas than sessions find no"
            " work. Default: null, no sessions.",
            ge=1,
        ),
    ] = None
    resource_group: Annotated[
        str | None,
        FieldMetadata(
            "Resource group of the namespace. If set, Azure Monitor confirms counts of zero, which a throttled"
            " namespace also returns. Default: null; zeros count once reads over 20 s agree.",
            pattern=GROUP,
            example="llm",
        ),
    ] = None
    connection_string: Annotated[
        Secret | None,
        FieldMetadata(
            "Reference to a connection string with the Manage right. Default: null, the identity of account."
        ),
    ] = None
    account: Annotated[AzureAccount, FieldMetadata("Azure identity, and the subscription for Azure Monitor.")] = field(
        default_factory=AzureAccount
    )
    min_interval_s: Annotated[
        float,
        FieldMetadata(
            "Minimum time between two reads, however short the tick interval. The default of 10 limits the load that"
            " counting puts on the broker. Seconds.",
            ge=0,
            le=300,
        ),
    ] = 10.0
    max_age_s: Annotated[
        float,
        FieldMetadata(
            "Treat older counts as stale. The default of 60 is four ticks of 15 s. Must exceed min_interval_s."
            " Seconds.",
            gt=0,
        ),
    ] = 60.0

    @property
    def host(self) -> str:
        """The namespace's full host name."""
        if "." in self.namespace:
            return self.namespace
        return f"{self.namespace}.{self.account.endpoints.service_bus}"

    def problems(self) -> Iterator[tuple[str, str]]:
        if (self.queue is None) == (self.topic is None):
            yield "", "requires either queue, or topic and subscription"
        elif (self.topic is None) != (self.subscription is None):
            yield "subscription", "and topic must be set together: messages are counted per subscription"
        if self.resource_group is not None and self.account.subscription_id is None:
            yield "account.subscription_id", "is required because resource_group enables Azure Monitor"
        if self.max_age_s <= self.min_interval_s:
            yield "max_age_s", f"must be above min_interval_s, {self.min_interval_s:g} s"

    def quantities(self) -> Mapping[str, float]:
        kinds = ["visible", "dead_letter", "transfer", "transfer_dead_letter"]
        kinds += ["delayed"] if self.queue is not None else []
        kinds += ["groups_in_flight"] if self.sessions is not None else []
        return dict.fromkeys(kinds, self.max_age_s)
