"""Azure Monitor: any platform metric of one resource, up to 50 resources in one call for all who ask alike.

Samples come a minute apart and one to three minutes late; each keeps its own time. No sample is no zero: Azure leaves
out minutes in which nothing was sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

from policies.model.field_metadata import FieldMetadata
from scaler.clouds.azure.account import RESOURCE, AzureAccount
from scaler.ports import Context

if TYPE_CHECKING:
    from scaler.sources.azure_monitor_source import AzureMonitorSource

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
        for key, named in (("aggregations", self.aggregations), ("scale", self.scale)):
            for quantity in sorted(set(named) - set(self.metrics)):
                yield key, f"there is no metric {quantity!r}"
        if self.account.subscription_id not in {None, self.subscription}:
            yield "account.subscription_id", f"the resource's id names another one, {self.subscription}"

    @property
    def subscription(self) -> str:
        return self.resource.split("/")[2]

    @property
    def metric_namespace(self) -> str:
        """The resource's type, such as ``Microsoft.ServiceBus/namespaces``."""
        provider, *rest = self.resource.partition("/providers/")[2].split("/")
        return "/".join([provider, *rest[::2]])

    def aggregation_of(self, quantity: str) -> str:
        return self.aggregations.get(quantity, self.aggregation)

    def quantities(self) -> Mapping[str, float]:
        return dict.fromkeys(self.metrics, self.max_age_s)

    async def open(self, context: Context) -> AzureMonitorSource:
        from scaler.sources import azure_monitor_source  # noqa: PLC0415 - a process without it does without the SDK

        return await azure_monitor_source.opened(self, context)
