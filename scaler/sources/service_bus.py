"""Azure Service Bus: how many messages of a queue or a topic's subscription wait, by kind.

Counts come from the namespace's management interface. *Active* messages, told as `visible`, include those that
receivers hold locked, so a policy counts ``[visible]``. Two traps:

- A throttled namespace answers with counts of zero, by design. A first zero after messages is therefore not believed:
  it is absent until Azure Monitor tells the same, or, where that is not asked, until reads over some time agree.
- With sessions, no more replicas are of use than sessions have messages: `groups_in_flight` is that bound.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from policies.model.field_metadata import FieldMetadata
from scaler.clouds.azure.account import GROUP, AzureAccount
from scaler.config.secret import Secret
from scaler.ports import Context, Unavailable

if TYPE_CHECKING:
    from scaler.sources.service_bus_source import ServiceBusSource


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
        """The namespace's whole host name."""
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

    async def open(self, context: Context) -> ServiceBusSource:
        from scaler.sources import service_bus_source  # noqa: PLC0415 - a process without it does without the SDK

        source = service_bus_source.ServiceBusSource(self, context)
        with contextlib.suppress(Unavailable):  # every sample tries again
            await source.connect()
        return source
