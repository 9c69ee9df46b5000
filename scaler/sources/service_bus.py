"""Azure Service Bus: how many messages of a queue or a topic's subscription wait, by kind.

Counts come from the namespace's management interface. *Active* messages, told as `visible`, include those that
receivers hold locked, so a policy counts ``[visible]``. Two traps:

- A throttled namespace answers with counts of zero, by design. A first zero after messages is therefore not believed:
  it is absent until Azure Monitor tells the same, or, where that is not asked, until reads over some time agree.
- With sessions, no more replicas are of use than sessions have messages: `groups_in_flight` is that bound.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Final

from policies.model import Absent, Fresh
from scaler.clouds.azure.account import path_of
from scaler.clouds.azure.errors import validated
from scaler.clouds.azure.metrics import READ, AzureMetricPoint, newest, single
from scaler.clouds.azure.pool_context import check_permissions
from scaler.clouds.azure.service_bus import OPERATION, OPERATION_OF_TOPICS, Entity, MessageCounts, Namespace, namespace
from scaler.clouds.azure.session import Arm, arm
from scaler.clouds.azure.shared_reads import recent
from scaler.config.kinds.azure_sources import ServiceBus
from scaler.ports import Context, Permit, PortError, Unavailable
from scaler.sources.sanitize import sanitize

AGREE_S: Final = 20.0
"""Over which reads of zero must agree: a throttled namespace recovers within seconds, and half of it is not too long
for the 60 s that a scale-in window may be blind."""
LONG_S: Final = 60.0
"""The same where Azure Monitor should have told and could not."""
MONITOR_S: Final = 30.0
"""Between two questions to Azure Monitor: it has a sample a minute."""


async def open_service_bus(spec: ServiceBus, context: Context) -> ServiceBusSource:
    """Open the source. Raises `Misconfigured`."""
    source = ServiceBusSource(spec, context)
    with contextlib.suppress(Unavailable):  # every sample tries again
        await source.connect()
    return source


class ServiceBusSource:
    """The source's port. Remembers since when it reads zero."""

    def __init__(self, spec: ServiceBus, context: Context) -> None:
        self._spec = spec
        self._context = context
        self._clock = context.clock
        self._entity = Entity(spec.queue or str(spec.topic), spec.subscription)
        self._namespace: Namespace | None = None
        self._arm: Arm | None = None
        self._zero_since: float | None = None
        self._believed = False

    async def connect(self) -> Namespace:
        """Open what the samples will use. Raises `Unavailable` or `Misconfigured`."""
        if self._namespace is None:
            spec = self._spec
            if spec.resource_group is not None:
                self._arm = await arm(self._context, spec.account)
            self._namespace = await namespace(self._context, spec.host, spec.account, spec.connection_string)
        return self._namespace

    @validated
    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        counts, at = await (await self.connect()).counts(self._entity, self._spec.min_interval_s)
        found = {kind: _count(kind, value, at) for kind, value in counts.by_kind.items()}
        doubt = await self._doubt(counts, at)
        if doubt:
            found = {kind: Absent(doubt) for kind in found}
        if self._spec.sessions is not None:
            found["groups_in_flight"] = _sessions(found["visible"], self._spec.sessions)
        return found

    async def permits(self) -> Sequence[Permit]:
        """Return what the role grants on the namespace; a connection string's rights cannot be asked."""
        await self.connect()
        if self._arm is None or self._spec.connection_string is not None:
            return []
        counting = OPERATION if self._entity.subscription is None else OPERATION_OF_TOPICS
        return await check_permissions(self._arm, self._path, (counting, READ))

    @property
    def _path(self) -> str:
        """The namespace's resource id."""
        name = self._spec.host.split(".", maxsplit=1)[0]
        return path_of(self._spec.account, str(self._spec.resource_group), "Microsoft.ServiceBus/namespaces", name)

    async def _doubt(self, counts: MessageCounts, at: float) -> str:
        """Why counts that are all zero are not believed yet; empty where they are."""
        if any(value != 0 for value in counts.by_kind.values()):
            self._zero_since, self._believed = None, False
            return ""
        if self._believed:
            return ""
        if self._zero_since is None or at < self._zero_since:
            self._zero_since = at
        limit_s, doubt = AGREE_S, "Azure Monitor is not asked"
        if self._arm is not None and self._entity.subscription is None:
            active = await self._monitor(self._arm)
            limit_s, doubt = LONG_S, f"Azure Monitor: {active}"
            if isinstance(active, AzureMetricPoint):
                limit_s, doubt = float("inf"), f"Azure Monitor had {active.value:g} messages a minute ago"
                self._believed = active.value == 0
        self._believed = self._believed or at - self._zero_since >= limit_s
        return "" if self._believed else f"0, which a throttled namespace reads too ({doubt})"

    async def _monitor(self, resource_manager: Arm) -> AzureMetricPoint | str:
        """Return the messages that Azure Monitor last told of, a minute or two ago, or why it did not."""
        now, queue = self._clock.now(), self._spec.queue
        asked = {"metricnames": "ActiveMessages", "aggregation": "Minimum", "$filter": f"EntityName eq '{queue}'"}
        try:
            shared = await recent(self._context)
            body, _ = await shared.get(
                (self._path, queue), MONITOR_S, lambda: single(resource_manager, READ, self._path, asked, now)
            )
            return newest(body, "ActiveMessages", "minimum", now) or "no sample"
        except PortError as e:
            return str(e)


def _count(kind: str, value: object, at: float) -> Fresh[float] | Absent:
    if value is None:
        return Absent(f"the count of {kind} messages is not in the answer")
    return sanitize(kind, value, at)


def _sessions(visible: Fresh[float] | Absent, sessions: int) -> Fresh[float] | Absent:
    """Return the most sessions that messages can be in."""
    if isinstance(visible, Absent):
        return visible
    return Fresh(min(visible.value, float(sessions)), visible.measured_at)
