"""Azure Service Bus: waiting messages of a queue or a topic's subscription, by kind.

Counts come from the namespace's management interface. *Active* messages, reported as `visible`, include those that
receivers hold locked, so a policy counts ``[visible]``. Two pitfalls:

- A throttled namespace reports counts of zero, by design. So a first zero after messages is absent until Azure Monitor
confirms it, or, where Azure Monitor is not used, until reads over some time agree.
- With sessions, further replicas than sessions with messages are useless: `groups_in_flight` is that bound.
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

ZERO_CONFIRMED_S: Final = 20.0
"""Time over which reads of zero must agree: a throttled namespace recovers within seconds, and a scale-in window may be
blind for 60 s. Seconds."""
UNMONITORED_CONFIRMED_S: Final = 60.0
"""The same time where Azure Monitor failed to report. Seconds."""
MONITOR_S: Final = 30.0
"""Time between two reads of Azure Monitor, which has a sample a minute. Seconds."""


async def open_service_bus(spec: ServiceBus, context: Context) -> ServiceBusSource:
    """Open the source. Raises `Misconfigured`."""
    source = ServiceBusSource(spec, context)
    with contextlib.suppress(Unavailable):  # every sample retries
        await source.connect()
    return source


class ServiceBusSource:
    """The source's port, with a memory of the time since which it reads zero."""

    def __init__(self, spec: ServiceBus, context: Context) -> None:
        self._spec = spec
        self._context = context
        self._clock = context.clock
        self._entity = Entity(spec.queue or str(spec.topic), spec.subscription)
        self._namespace: Namespace | None = None
        self._arm: Arm | None = None
        self._zero_since: float | None = None
        self._zero_confirmed = False

    async def connect(self) -> Namespace:
        """Open the clients. Raises `Unavailable` or `Misconfigured`."""
        if self._namespace is None:
            spec = self._spec
            if spec.resource_group is not None:
                self._arm = await arm(self._context, spec.account)
            self._namespace = await namespace(self._context, spec.host, spec.account, spec.connection_string)
        return self._namespace

    @validated
    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        counts, at = await (await self.connect()).counts(self._entity, self._spec.min_interval_s)
        readings = {kind: _count(kind, value, at) for kind, value in counts.by_kind.items()}
        suspicion = await self._false_zero_suspicion(counts, at)
        if suspicion:
            readings = {kind: Absent(suspicion) for kind in readings}
        if self._spec.sessions is not None:
            readings["groups_in_flight"] = _sessions(readings["visible"], self._spec.sessions)
        return readings

    async def permits(self) -> Sequence[Permit]:
        """Return the role's permissions on the namespace.

        Those of a connection string cannot be read.
        """
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

    async def _false_zero_suspicion(self, counts: MessageCounts, at: float) -> str:
        """Return why counts of zero are suspected to be false zeros; empty where they are not.

        Example without Azure Monitor: zeros at 0 s and 15 s are suspicious, one at 20 s confirms them.
        """
        if any(value != 0 for value in counts.by_kind.values()):
            self._zero_since, self._zero_confirmed = None, False
            return ""
        if self._zero_confirmed:
            return ""
        if self._zero_since is None or at < self._zero_since:
            self._zero_since = at
        limit_s, reason = ZERO_CONFIRMED_S, "not confirmed by Azure Monitor"
        if self._arm is not None and self._entity.subscription is None:
            active = await self._monitor(self._arm)
            limit_s, reason = UNMONITORED_CONFIRMED_S, f"Azure Monitor: {active}"
            if isinstance(active, AzureMetricPoint):
                limit_s, reason = float("inf"), f"Azure Monitor counted {active.value:g} messages a minute ago"
                self._zero_confirmed = active.value == 0
        self._zero_confirmed = self._zero_confirmed or at - self._zero_since >= limit_s
        return "" if self._zero_confirmed else f"suspected false zero: a throttled namespace also reports 0 ({reason})"

    async def _monitor(self, resource_manager: Arm) -> AzureMetricPoint | str:
        """Return Azure Monitor's last count, a minute or two old, or why there is none."""
        now, queue = self._clock.now(), self._spec.queue
        query = {"metricnames": "ActiveMessages", "aggregation": "Minimum", "$filter": f"EntityName eq '{queue}'"}
        try:
            shared = await recent(self._context)
            body, _ = await shared.get(
                (self._path, queue), MONITOR_S, lambda: single(resource_manager, READ, self._path, query, now)
            )
            return newest(body, "ActiveMessages", "minimum", now) or "no sample"
        except PortError as e:
            return str(e)


def _count(kind: str, value: object, at: float) -> Fresh[float] | Absent:
    if value is None:
        return Absent(f"the response has no count of {kind} messages")
    return sanitize(kind, value, at)


def _sessions(visible: Fresh[float] | Absent, sessions: int) -> Fresh[float] | Absent:
    """Return the maximum number of sessions with messages."""
    if isinstance(visible, Absent):
        return visible
    return Fresh(min(visible.value, float(sessions)), visible.measured_at)
