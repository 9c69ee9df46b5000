"""Azure Monitor: any platform metric of one resource.

Equal queries for up to 50 resources share one call. Samples come a minute apart and one to three minutes late; each
keeps its own time. A missing sample is not zero: Azure omits minutes in which nothing was sent.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from policies.model import Absent, Fresh
from scaler.clouds.azure.errors import validated
from scaler.clouds.azure.metrics import (
    LOOK_BACK_S,
    READ,
    VERSION,
    AzureMetricPoint,
    MetricsBatches,
    MetricsQuery,
    batches,
    series,
)
from scaler.clouds.azure.pool_context import check_permissions
from scaler.clouds.azure.session import Arm, arm
from scaler.clouds.azure.shared_reads import RecentAnswers, recent
from scaler.clouds.rest import Body
from scaler.config.kinds.azure_sources import AzureMonitor
from scaler.ports import Context, Permit, PortError
from scaler.sources.azure_monitor_past import AzureMonitorPast
from scaler.sources.sanitize import sanitize

if TYPE_CHECKING:
    from numpy.typing import NDArray

READ_DEFINITIONS: Final = "Microsoft.Insights/metricDefinitions/read"
DEFINITIONS_S: Final = 3600.0
"""Time between two reads of the metrics that a resource has. Seconds."""
READ_S: Final = 30.0
"""Time between two reads: there is a sample a minute, and reads are billed. Seconds."""


async def open_azure_monitor(spec: AzureMonitor, context: Context) -> AzureMonitorSource:
    """Open the source without reading it. Raises `Misconfigured`."""
    account = replace(spec.account, subscription_id=spec.subscription)
    client = await batches(context, account, spec.region, spec.endpoint_url)
    return AzureMonitorSource(spec, context, client, await arm(context, account), await recent(context))


class AzureMonitorSource:
    """The source's port. Keeps the last readings for `READ_S`."""

    def __init__(
        self, spec: AzureMonitor, context: Context, batches: MetricsBatches, arm: Arm, recent: RecentAnswers
    ) -> None:
        self._spec = spec
        self._metrics = spec.all_metrics()
        self._recent = recent
        self._clock = context.clock
        self._batches = batches
        self._arm = arm
        self._read_at = float("-inf")
        self._readings: dict[str, Fresh[float] | Absent] = {}

    @validated
    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        now = self._clock.now()
        if not 0 <= now - self._read_at < READ_S:
            self._readings = await self._read_all(now)
            self._read_at = now
        return self._readings

    @validated
    async def past(
        self, quantities: Collection[str], since: float, until: float, step_s: float
    ) -> Mapping[str, NDArray[np.float64]]:
        past = AzureMonitorPast(self._spec, self._batches, since, until, step_s)
        names = await self._names()
        known = [q for q in quantities if names.get(q)]
        read = (past.read(q, names[q], self._metrics[q]) for q in known)
        means = dict(zip(known, await asyncio.gather(*read), strict=True))
        return {q: means[q] if q in means else np.full(past.steps, np.nan) for q in quantities}

    async def permits(self) -> Sequence[Permit]:
        actions = (READ, READ_DEFINITIONS) if self._has_alternatives else (READ,)
        return await check_permissions(self._arm, self._spec.resource, actions)

    @property
    def _has_alternatives(self) -> bool:
        return any(len(metric.names) > 1 for metric in self._metrics.values())

    async def _names(self) -> dict[str, str]:
        """Return the name of each quantity's metric on this resource; empty where it has none.

        Azure OpenAI and Foundry have different names for the same metric. Raises port errors.
        """
        if not self._has_alternatives:
            return {quantity: metric.names[0] for quantity, metric in self._metrics.items()}
        key = (self._spec.resource.lower(), READ_DEFINITIONS)
        defined, _ = await self._recent.get(key, DEFINITIONS_S, self._definitions)
        return {q: next((n for n in metric.names if n in defined), "") for q, metric in self._metrics.items()}

    async def _definitions(self) -> frozenset[str]:
        path = f"{self._spec.resource}/providers/Microsoft.Insights/metricDefinitions"
        definitions = await self._arm.list_all(READ_DEFINITIONS, path, {"api-version": VERSION})
        return frozenset(str((d.get("name") or {}).get("value")) for d in definitions)

    async def _read_all(self, now: float) -> dict[str, Fresh[float] | Absent]:
        """Return the readings of one query per aggregation and filter.

        Raises a port error where every query fails.
        """
        names = await self._names()
        groups: defaultdict[tuple[str, str | None], list[str]] = defaultdict(list)
        for quantity, metric in self._metrics.items():
            if names[quantity]:
                groups[metric.aggregation, metric.filter].append(quantity)
        queries = (self._read_metrics(group, {names[q] for q in qs}) for group, qs in groups.items())
        bodies = await asyncio.gather(*queries, return_exceptions=True)
        readings: dict[str, Fresh[float] | Absent] = {
            q: Absent(f"the resource has no metric {' or '.join(self._metrics[q].names)}")
            for q, name in names.items()
            if not name
        }
        errors: list[PortError] = []
        for quantities, body in zip(groups.values(), bodies, strict=True):
            if isinstance(body, PortError):
                errors.append(body)
                readings.update(dict.fromkeys(quantities, Absent(str(body))))
            elif isinstance(body, BaseException):
                raise body
            else:
                readings.update({q: self._reading(q, names[q], body, now) for q in quantities})
        if errors and len(errors) == len(groups):
            raise errors[0]
        return readings

    async def _read_metrics(self, group: tuple[str, str | None], names: set[str]) -> Body:
        query = MetricsQuery(self._spec.metric_namespace, tuple(sorted(names)), *group)
        return await self._batches.read(query, self._spec.resource)

    def _reading(self, quantity: str, name: str, body: Body, now: float) -> Fresh[float] | Absent:
        metric = self._metrics[quantity]
        try:
            points = series(body, name, metric.aggregation, now)
        except PortError as e:
            return Absent(str(e))
        present = [p for p in points if p is not None]
        if not present:
            return Absent(f"Azure Monitor has no {name} in the last {LOOK_BACK_S // 60} minutes")
        missing_series = len(points) - len(present)
        if missing_series and self._spec.combine != "sum":
            return Absent(f"{missing_series} of {len(points)} series of {name} have no sample")
        value = self._combined(present) * metric.scale
        missing = f"{missing_series} of {len(points)} series of {name} have no sample" if missing_series else ""
        return sanitize(quantity, value, min(p.at for p in present), missing)

    def _combined(self, points: list[AzureMetricPoint]) -> float:
        values = [p.value for p in points]
        match self._spec.combine:
            case "mean":
                return sum(values) / len(values)
            case "max":
                return max(values)
        return sum(values)
