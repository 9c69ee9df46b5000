"""Azure Monitor: any platform metric of one resource; equal queries for up to 50 resources share one call.

Samples come a minute apart and one to three minutes late; each keeps its own time. A missing sample is not zero: Azure
omits minutes in which nothing was sent.
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
    AzureMetricPoint,
    MetricsBatches,
    MetricsQuery,
    batches,
    series,
)
from scaler.clouds.azure.pool_context import check_permissions
from scaler.clouds.azure.session import Arm, arm
from scaler.clouds.rest import Body
from scaler.config.kinds.azure_sources import AzureMonitor
from scaler.ports import Context, Permit, PortError
from scaler.sources.azure_monitor_past import AzureMonitorPast
from scaler.sources.sanitize import sanitize

if TYPE_CHECKING:
    from numpy.typing import NDArray

READ_S: Final = 30.0
"""Time between two reads: there is a sample a minute, and reads are billed. Seconds."""


async def open_azure_monitor(spec: AzureMonitor, context: Context) -> AzureMonitorSource:
    """Open the source without reading it. Raises `Misconfigured`."""
    account = replace(spec.account, subscription_id=spec.subscription)
    client = await batches(context, account, spec.region, spec.endpoint_url)
    return AzureMonitorSource(spec, context, client, await arm(context, account))


class AzureMonitorSource:
    """The source's port. Keeps the last readings for `READ_S`."""

    def __init__(self, spec: AzureMonitor, context: Context, batches: MetricsBatches, arm: Arm) -> None:
        self._spec = spec
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
        metrics = [q for q in quantities if q in self._spec.metrics]
        means = dict(zip(metrics, await asyncio.gather(*(past.read(q) for q in metrics)), strict=True))
        return {q: means[q] if q in means else np.full(past.steps, np.nan) for q in quantities}

    async def permits(self) -> Sequence[Permit]:
        return await check_permissions(self._arm, self._spec.resource, (READ,))

    async def _read_all(self, now: float) -> dict[str, Fresh[float] | Absent]:
        """Return the readings of one query per aggregation.

        Raises a port error where every query fails.
        """
        spec = self._spec
        by_aggregation: defaultdict[str, list[str]] = defaultdict(list)
        for quantity in spec.metrics:
            by_aggregation[spec.aggregation_of(quantity)].append(quantity)
        bodies = await asyncio.gather(
            *(self._read_metrics(a, qs) for a, qs in by_aggregation.items()), return_exceptions=True
        )
        readings: dict[str, Fresh[float] | Absent] = {}
        errors: list[PortError] = []
        for (aggregation, quantities), body in zip(by_aggregation.items(), bodies, strict=True):
            if isinstance(body, PortError):
                errors.append(body)
                readings.update(dict.fromkeys(quantities, Absent(str(body))))
            elif isinstance(body, BaseException):
                raise body
            else:
                readings.update({q: self._reading(q, body, aggregation, now) for q in quantities})
        if len(errors) == len(by_aggregation):
            raise errors[0]
        return readings

    async def _read_metrics(self, aggregation: str, quantities: list[str]) -> Body:
        names = tuple(sorted({self._spec.metrics[q] for q in quantities}))
        query = MetricsQuery(self._spec.metric_namespace, names, aggregation, self._spec.filter)
        return await self._batches.read(query, self._spec.resource)

    def _reading(self, quantity: str, body: Body, aggregation: str, now: float) -> Fresh[float] | Absent:
        name = self._spec.metrics[quantity]
        try:
            points = series(body, name, aggregation, now)
        except PortError as e:
            return Absent(str(e))
        present = [p for p in points if p is not None]
        if not present:
            return Absent(f"Azure Monitor has no {name} in the last {LOOK_BACK_S // 60} minutes")
        missing_series = len(points) - len(present)
        if missing_series and self._spec.combine != "sum":
            return Absent(f"{missing_series} of {len(points)} series of {name} have no sample")
        value = self._combined(present) * self._spec.scale.get(quantity, 1.0)
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
