"""Azure Monitor: any platform metric of one resource, up to 50 resources in one call for all who ask alike.

Samples come a minute apart and one to three minutes late; each keeps its own time. No sample is no zero: Azure leaves
out minutes in which nothing was sent.
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

ASK_S: Final = 30.0
"""Between two questions: there is a sample a minute, and asking is billed."""


async def open_azure_monitor(spec: AzureMonitor, context: Context) -> AzureMonitorSource:
    """Open the source. Nothing is read yet. Raises `Misconfigured`."""
    account = replace(spec.account, subscription_id=spec.subscription)
    asking = await batches(context, account, spec.region, spec.endpoint_url)
    return AzureMonitorSource(spec, context, asking, await arm(context, account))


class AzureMonitorSource:
    """The source's port. Keeps the last answer for some seconds."""

    def __init__(self, spec: AzureMonitor, context: Context, asking: MetricsBatches, arm: Arm) -> None:
        self._spec = spec
        self._clock = context.clock
        self._batches = asking
        self._arm = arm
        self._asked_at = float("-inf")
        self._found: dict[str, Fresh[float] | Absent] = {}

    @validated
    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        now = self._clock.now()
        if not 0 <= now - self._asked_at < ASK_S:
            self._found = await self._ask(now)
            self._asked_at = now
        return self._found

    @validated
    async def past(
        self, quantities: Collection[str], since: float, until: float, step_s: float
    ) -> Mapping[str, NDArray[np.float64]]:
        past = AzureMonitorPast(self._spec, self._batches, since, until, step_s)
        asked = [q for q in quantities if q in self._spec.metrics]
        found = dict(zip(asked, await asyncio.gather(*(past.read(q) for q in asked)), strict=True))
        return {q: found[q] if q in found else np.full(past.steps, np.nan) for q in quantities}

    async def permits(self) -> Sequence[Permit]:
        return await check_permissions(self._arm, self._spec.resource, (READ,))

    async def _ask(self, now: float) -> dict[str, Fresh[float] | Absent]:
        """One question for each aggregation. Raises port errors where none is answered."""
        spec = self._spec
        alike: defaultdict[str, list[str]] = defaultdict(list)
        for quantity in spec.metrics:
            alike[spec.aggregation_of(quantity)].append(quantity)
        answers = await asyncio.gather(*(self._answer(a, qs) for a, qs in alike.items()), return_exceptions=True)
        found: dict[str, Fresh[float] | Absent] = {}
        errors: list[PortError] = []
        for (aggregation, quantities), answer in zip(alike.items(), answers, strict=True):
            if isinstance(answer, PortError):
                errors.append(answer)
                found.update(dict.fromkeys(quantities, Absent(str(answer))))
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found.update({q: self._reading(q, answer, aggregation, now) for q in quantities})
        if len(errors) == len(alike):
            raise errors[0]
        return found

    async def _answer(self, aggregation: str, quantities: list[str]) -> Body:
        names = tuple(sorted({self._spec.metrics[q] for q in quantities}))
        asked = MetricsQuery(self._spec.metric_namespace, names, aggregation, self._spec.filter)
        return await self._batches.ask(asked, self._spec.resource)

    def _reading(self, quantity: str, answer: Body, aggregation: str, now: float) -> Fresh[float] | Absent:
        name = self._spec.metrics[quantity]
        try:
            points = series(answer, name, aggregation, now)
        except PortError as e:
            return Absent(str(e))
        told = [p for p in points if p is not None]
        if not told:
            return Absent(f"Azure Monitor has no {name} in the last {LOOK_BACK_S // 60} minutes")
        lacking = len(points) - len(told)
        if lacking and self._spec.combine != "sum":
            return Absent(f"{lacking} of {len(points)} series of {name} have no sample")
        value = self._combined(told) * self._spec.scale.get(quantity, 1.0)
        missing = f"{lacking} of {len(points)} series of {name}" if lacking else ""
        return sanitize(quantity, value, min(p.at for p in told), missing)

    def _combined(self, points: list[AzureMetricPoint]) -> float:
        values = [p.value for p in points]
        match self._spec.combine:
            case "mean":
                return sum(values) / len(values)
            case "max":
                return max(values)
        return sum(values)
