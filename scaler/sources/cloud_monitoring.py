"""Google Cloud Monitoring as a source.

It reads any metric by filter, GPU and TPU utilization by preset, and PromQL.

Cloud Monitoring aligns and reduces a filter's series to one number, whose time is the beginning of its period. A
missing value is not zero; where a part could not be queried, a sum is a lower bound and a mean is absent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from policies.model import Absent, Fresh
from scaler.clouds.gcp import session, time_series
from scaler.clouds.gcp.time_series import Monitoring
from scaler.clouds.response_validation import validated
from scaler.config.kinds.gcp_sources import CloudMonitoring, GcpMetric
from scaler.ports import Context, Permit, PortError
from scaler.sources.sanitize import sanitize

LOOK_BACK: Final = 10
"""Number of periods in which the newest sample is searched."""
SUMS: Final = frozenset({"sum", "count"})
SETTLE_S: Final = 120.0
"""Time before now at which the period of a sum ends: samples appear up to some minutes late, and a partial period gives
too small a sum. Seconds."""


async def open_cloud_monitoring(spec: CloudMonitoring, context: Context) -> CloudMonitoringSource:
    """Open the source. Raises `Misconfigured`."""
    return CloudMonitoringSource(spec, context, await time_series.monitoring(context, spec.project))


class CloudMonitoringSource:
    """The source's port."""

    def __init__(self, spec: CloudMonitoring, context: Context, monitoring: Monitoring) -> None:
        self._spec = spec
        self._context = context
        self._clock = context.clock
        self._monitoring = monitoring
        self._read_at = float("-inf")
        self._readings: dict[str, Fresh[float] | Absent] = {}

    @validated("GCP")
    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        if 0 <= self._clock.now() - self._read_at < self._spec.read_interval_s:
            return self._readings
        requested_at = self._clock.now()
        reads = {q: self._filtered(q, m) for q, m in self._spec.filters().items()}
        reads |= {q: self._queried(q, promql) for q, promql in self._spec.promql.items()}
        results = await asyncio.gather(*reads.values(), return_exceptions=True)
        errors = [r for r in results if isinstance(r, BaseException)]
        for error in errors:
            if len(errors) == len(results) or not isinstance(error, PortError):
                raise error
        outcomes = dict(zip(reads, results, strict=True))
        self._readings = {q: Absent(str(r)) if isinstance(r, BaseException) else r for q, r in outcomes.items()}
        if all(isinstance(r, Fresh) for r in results):
            self._read_at = requested_at
        return self._readings

    async def _filtered(self, quantity: str, metric: GcpMetric) -> Fresh[float] | Absent:
        is_sum = metric.reducer in SUMS
        until = self._clock.now() - (SETTLE_S if is_sum else 0.0)
        aggregation = {
            "alignmentPeriod": f"{metric.period_s:g}s",
            "perSeriesAligner": f"ALIGN_{metric.aligner.upper()}",
            "crossSeriesReducer": f"REDUCE_{metric.reducer.upper()}",
        }
        since = until - LOOK_BACK * metric.period_s
        page = await self._monitoring.list(quantity, metric.filter, since, until, aggregation)
        if page.partial and not is_sum:
            return Absent(f"partial response: {page.partial}")
        series = [item for item in page.series if item.points]
        if len(series) != 1:
            count = f"{len(series)} series, not one," if series else "no series"
            return Absent(f"Cloud Monitoring has {count} for {metric.filter}")
        point = series[0].points[0]
        value = sanitize("", point.value, point.at - metric.period_s, page.partial)
        if isinstance(value, Absent):
            return value
        return sanitize(quantity, value.value * metric.scale, value.measured_at, value.missing)

    async def _queried(self, quantity: str, promql: str) -> Fresh[float] | Absent:
        body = await self._monitoring.promql(quantity, promql)
        data = body.get("data")
        result = data.get("result") if isinstance(data, Mapping) else None
        if isinstance(data, Mapping) and data.get("resultType") == "scalar":
            result = [{"value": result}]
        if not isinstance(result, list) or len(result) != 1 or not isinstance(result[0], Mapping):
            count = len(result) if isinstance(result, list) else 0
            return Absent(f"the PromQL query returned {count} series; aggregate it to one, as in sum(...)")
        sample: Any = result[0].get("value")
        if not isinstance(sample, list) or len(sample) != 2 or not isinstance(sample[0], int | float):
            return Absent(f"malformed response: {sample!r} is not a sample")
        return sanitize(quantity, sample[1], float(sample[0]))

    @validated("GCP")
    async def permits(self) -> Sequence[Permit]:
        return await session.check_permissions(self._context, self._spec.project, [time_series.LIST])
