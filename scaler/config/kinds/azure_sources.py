"""Sources on Azure: Azure Monitor and Service Bus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from policies.model.field_metadata import FieldMetadata
from scaler.clouds.azure.account import (
    GROUP,
    RESOURCE,
    AzureAccount,
)
from scaler.config.secret import Secret

Aggregation = Literal["average", "maximum", "minimum", "total", "count"]


@dataclass(frozen=True, kw_only=True)
class AzureMonitor:
    """Metrics of an Azure resource in Azure Monitor."""

    resource: Annotated[
        str,
        FieldMetadata(
            "Id of the resource.",
            pattern=RESOURCE,
            example="/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/llm/providers"
            "/Microsoft.ServiceBus/namespaces/llm-jobs",
        ),
    ]
    region: Annotated[str, FieldMetadata("Region of the resource.", pattern=r"^[a-z0-9]+$", example="eastus")]
    metrics: Annotated[
        Mapping[str, str],
        FieldMetadata(
            "Azure's names of metrics, by the name of the quantity that each gives.",
            example={"visible": "ActiveMessages"},
        ),
    ]
    aggregation: Annotated[
        Aggregation, FieldMetadata("Which of a minute's values; another one for a metric goes into aggregations.")
    ] = "average"
    aggregations: Annotated[
        Mapping[str, Aggregation], FieldMetadata("By the name of the quantity: another one than aggregation.")
    ] = field(default_factory=dict)
    filter: Annotated[
        str | None,
        FieldMetadata(
            "Which of the metrics' series, by their dimensions, in Azure's words.", example="EntityName eq 'prompts'"
        ),
    ] = None
    combine: Annotated[
        Literal["sum", "mean", "max"],
        FieldMetadata("What becomes of several series: one that lacks a sample makes a bound."),
    ] = "sum"
    scale: Annotated[
        Mapping[str, float],
        FieldMetadata("By the name of the quantity: what its value is multiplied by.", example={"utilization": 0.01}),
    ] = field(default_factory=dict)
    account: Annotated[AzureAccount, FieldMetadata("Identity; its subscription is the resource's.")] = field(
        default_factory=AzureAccount
    )
    endpoint_url: Annotated[
        str | None,
        FieldMetadata("Another metrics endpoint (a test server); null: the region's.", pattern=r"^https://[^/@\s?#]+$"),
    ] = None
    max_age_s: Annotated[
        float, FieldMetadata("Older samples are stale; they come some minutes late. Seconds.", gt=60)
    ] = 300.0

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.metrics:
            yield "metrics", "reads nothing: name one at least"
        for quantity in self.metrics:
            if not quantity.isascii() or not quantity.isidentifier():
                yield "metrics", f"{quantity!r} is not a quantity's name: letters, digits and _"
        for key, by_quantity in (("aggregations", self.aggregations), ("scale", self.scale)):
            for quantity in sorted(set(by_quantity) - set(self.metrics)):
                yield key, f"there is no metric {quantity!r}"
        if self.account.subscription_id not in {None, self.subscription}:
            yield "account.subscription_id", f"the resource's id names another one, {self.subscription}"

    @property
    def subscription(self) -> str:
        return self.resource.split("/")[2]

    @property
    def metric_namespace(self) -> str:
        """The resource's type, such as ``Microsoft.ServiceBus/namespaces``."""
        provider, *types_and_names = self.resource.partition("/providers/")[2].split("/")
        return "/".join([provider, *types_and_names[::2]])

    def aggregation_of(self, quantity: str) -> str:
        return self.aggregations.get(quantity, self.aggregation)

    def quantities(self) -> Mapping[str, float]:
        return dict.fromkeys(self.metrics, self.max_age_s)


@dataclass(frozen=True, kw_only=True)
class ServiceBus:
    """A queue, or a topic's subscription, of Azure Service Bus."""

    namespace: Annotated[
        str,
        FieldMetadata(
            "The namespace: its name, or its whole host name, with a port where that is not 443.",
            pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?$",
            example="llm-jobs",
        ),
    ]
    queue: Annotated[
        str | None,
        FieldMetadata("Name of the queue; null: a topic is read.", pattern=r"^[^\s?#]{1,260}$", example="prompts"),
    ] = None
    topic: Annotated[
        str | None, FieldMetadata("Name of the topic; null: a queue is read.", pattern=r"^[^\s?#]{1,260}$")
    ] = None
    subscription: Annotated[
        str | None,
        FieldMetadata(
            "Name of the topic's subscription: only there are messages counted.", pattern=r"^[^\s/?#]{1,50}$"
        ),
    ] = None
    sessions: Annotated[
        int | None,
        FieldMetadata(
            "Where it needs sessions: how many there are; more replicas find no work. Null: no sessions.", ge=1
        ),
    ] = None
    resource_group: Annotated[
        str | None,
        FieldMetadata(
            "The namespace's resource group: Azure Monitor is then asked whether a zero is one; null: it is believed"
            " when reads over 20 s agree.",
            pattern=GROUP,
            example="llm",
        ),
    ] = None
    connection_string: Annotated[
        Secret | None, FieldMetadata("Where a connection string with the Manage right is; null: account's identity.")
    ] = None
    account: Annotated[AzureAccount, FieldMetadata("Identity, and the subscription for Azure Monitor.")] = field(
        default_factory=AzureAccount
    )
    min_interval_s: Annotated[
        float,
        FieldMetadata(
            "Between two reads, however often turns are: counting burdens the broker. Seconds.", ge=0, le=300
        ),
    ] = 10.0
    max_age_s: Annotated[float, FieldMetadata("Older counts are stale. Seconds.", gt=0)] = 60.0

    @property
    def host(self) -> str:
        """The namespace's full host name."""
        if "." in self.namespace:
            return self.namespace
        return f"{self.namespace}.{self.account.endpoints.service_bus}"

    def problems(self) -> Iterator[tuple[str, str]]:
        if (self.queue is None) == (self.topic is None):
            yield "", "give either queue, or topic and subscription"
        elif (self.topic is None) != (self.subscription is None):
            yield "subscription", "goes with topic: messages are counted in a topic's subscriptions"
        if self.resource_group is not None and self.account.subscription_id is None:
            yield "account.subscription_id", "Azure Monitor, asked because of resource_group, needs it"
        if self.max_age_s <= self.min_interval_s:
            yield "max_age_s", f"must be longer than min_interval_s, {self.min_interval_s:g}"

    def quantities(self) -> Mapping[str, float]:
        kinds = ["visible", "dead_letter", "transfer", "transfer_dead_letter"]
        kinds += ["delayed"] if self.queue is not None else []
        kinds += ["groups_in_flight"] if self.sessions is not None else []
        return dict.fromkeys(kinds, self.max_age_s)
