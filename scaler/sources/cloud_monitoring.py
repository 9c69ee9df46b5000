"""Google Cloud Monitoring: any metric by filter, GPU and TPU utilization by preset, and PromQL.

A filter's series are aligned and reduced by Cloud Monitoring, so that one number comes of thousands. It counts as
measured at the begin of the period that it stands for. What is not there is no zero; where a part could not be asked,
a sum is a lower bound, and a mean is nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

from policies.model import Absent, Fresh
from policies.model.field_metadata import FieldMetadata
from scaler.clouds.gcp import time_series
from scaler.clouds.gcp.project import GcpProject
from scaler.clouds.gcp.time_series import Monitoring
from scaler.clouds.response_validation import validated
from scaler.ports import Context, Permit, PortError
from scaler.sources.sanitize import sanitize

LOOK_BACK: Final = 10
"""Periods in which the newest sample is looked for."""
SUMS: Final = frozenset({"sum", "count"})
SETTLE_S: Final = 120.0
"""Before now ends the period of a sum: samples are shown up to some minutes late, and a part is a smaller sum."""


@dataclass(frozen=True, kw_only=True)
class GcpMetric:
    """One number made of the series that a filter chooses."""

    filter: Annotated[
        str,
        FieldMetadata(
            "Filter of Cloud Monitoring; names one metric.type.",
            pattern=r"metric\.type\s*=",
            example='metric.type = "kubernetes.io/container/accelerator/duty_cycle"',
        ),
    ]
    aligner: Annotated[
        Literal["mean", "max", "min", "sum", "rate", "delta", "next_older", "percentile_95", "percentile_99"],
        FieldMetadata("What is made of one series' samples in a period."),
    ] = "mean"
    reducer: Annotated[
        Literal["mean", "max", "min", "sum", "count", "percentile_95", "percentile_99"],
        FieldMetadata("What is made of all series."),
    ] = "mean"
    period_s: Annotated[float, FieldMetadata("The period. Seconds.", ge=60, le=3600)] = 60.0
    scale: Annotated[
        float, FieldMetadata("What the number is multiplied by: 0.01 makes a share of a percentage.", gt=0)
    ] = 1.0


def _gpu(metric: str, scale: float = 0.01) -> GcpMetric:
    return GcpMetric(filter=f'metric.type = "{metric}"', scale=scale)


PRESETS: Final[Mapping[str, Mapping[str, GcpMetric]]] = {
    "dcgm": {
        "utilization": _gpu("prometheus.googleapis.com/DCGM_FI_DEV_GPU_UTIL/gauge"),
        "tensor_active": _gpu("prometheus.googleapis.com/DCGM_FI_PROF_PIPE_TENSOR_ACTIVE/gauge", 1.0),
        "memory_active": _gpu("prometheus.googleapis.com/DCGM_FI_PROF_DRAM_ACTIVE/gauge", 1.0),
    },
    "gke_gpu": {"utilization": _gpu("kubernetes.io/container/accelerator/duty_cycle")},
    "gke_tpu": {
        "utilization": _gpu("kubernetes.io/node/accelerator/duty_cycle"),
        "tensor_active": _gpu("kubernetes.io/node/accelerator/tensorcore_utilization"),
        "memory_active": _gpu("kubernetes.io/node/accelerator/memory_bandwidth_utilization"),
    },
}


@dataclass(frozen=True, kw_only=True)
class CloudMonitoring:
    """Metrics in Google Cloud Monitoring."""

    project: Annotated[GcpProject, FieldMetadata("Project, credentials and addresses.", example={"id": "my-project"})]
    preset: Annotated[
        Literal["dcgm", "gke_gpu", "gke_tpu"] | None,
        FieldMetadata("GPU or TPU metrics to read; null: only those below.", example="gke_gpu"),
    ] = None
    match: Annotated[
        Mapping[str, str],
        FieldMetadata(
            "Labels of the resource, or metric (metric.x), that the preset's series must have.",
            example={"cluster_name": "serving", "namespace_name": "llm"},
        ),
    ] = field(default_factory=dict)
    metrics: Annotated[
        Mapping[str, GcpMetric], FieldMetadata("Filters by the name of the quantity that they give.")
    ] = field(default_factory=dict)
    promql: Annotated[
        Mapping[str, str],
        FieldMetadata("PromQL by the name of the quantity that it gives; one number or one series each, as of now."),
    ] = field(default_factory=dict)
    read_interval_s: Annotated[
        float, FieldMetadata("Between two reads: most metrics have a sample a minute. Seconds.", gt=0, le=300)
    ] = 30.0
    max_age_s: Annotated[
        float, FieldMetadata("Older readings are stale; samples are shown two to four minutes late. Seconds.", gt=0)
    ] = 360.0

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.quantities():
            yield "", "reads nothing: name a preset, or give metrics or promql"
        for quantity in (*self.metrics, *self.promql):
            if not quantity.isascii() or not quantity.isidentifier():
                yield "metrics", f"{quantity!r} is not a quantity's name: letters, digits and _"
        for quantity in self.metrics.keys() & self.promql.keys():
            yield "promql", f"{quantity} is among metrics too"
        if self.match and self.preset is None:
            yield "match", "is for a preset's series, and there is no preset"

    def filters(self) -> dict[str, GcpMetric]:
        """All filters by quantity; those given go before the preset's."""
        preset = PRESETS[self.preset] if self.preset is not None else {}
        own = {**self.metrics, **dict.fromkeys(self.promql)}
        return {**{q: self._matched(m) for q, m in preset.items() if q not in own}, **self.metrics}

    def _matched(self, metric: GcpMetric) -> GcpMetric:
        terms = [
            f"{name.replace('metric.', 'metric.labels.') if name.startswith('metric.') else 'resource.labels.' + name}"
            f' = "{value}"'
            for name, value in self.match.items()
        ]
        return GcpMetric(filter=" AND ".join([metric.filter, *terms]), scale=metric.scale)

    def quantities(self) -> Mapping[str, float]:
        return dict.fromkeys([*self.filters(), *self.promql], self.max_age_s)

    async def open(self, context: Context) -> CloudMonitoringSource:
        return CloudMonitoringSource(self, context, await time_series.monitoring(context, self.project))


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
        asked_at = self._clock.now()
        asking = {q: self._filtered(q, m) for q, m in self._spec.filters().items()}
        asking |= {q: self._queried(q, promql) for q, promql in self._spec.promql.items()}
        results = await asyncio.gather(*asking.values(), return_exceptions=True)
        errors = [r for r in results if isinstance(r, BaseException)]
        for error in errors:
            if len(errors) == len(results) or not isinstance(error, PortError):
                raise error
        found = dict(zip(asking, results, strict=True))
        self._readings = {q: Absent(str(r)) if isinstance(r, BaseException) else r for q, r in found.items()}
        if all(isinstance(r, Fresh) for r in results):
            self._read_at = asked_at
        return self._readings

    async def _filtered(self, quantity: str, metric: GcpMetric) -> Fresh[float] | Absent:
        sums = metric.reducer in SUMS
        until = self._clock.now() - (SETTLE_S if sums else 0.0)
        aggregation = {
            "alignmentPeriod": f"{metric.period_s:g}s",
            "perSeriesAligner": f"ALIGN_{metric.aligner.upper()}",
            "crossSeriesReducer": f"REDUCE_{metric.reducer.upper()}",
        }
        since = until - LOOK_BACK * metric.period_s
        listed = await self._monitoring.list(quantity, metric.filter, since, until, aggregation)
        if listed.partial and not sums:
            return Absent(f"a part could not be asked: {listed.partial}")
        series = [one for one in listed.series if one.points]
        if len(series) != 1:
            many = f"{len(series)} series where one was expected" if series else "no series"
            return Absent(f"Cloud Monitoring has {many} for {metric.filter}")
        point = series[0].points[0]
        found = sanitize("", point.value, point.at - metric.period_s, listed.partial)
        if isinstance(found, Absent):
            return found
        return sanitize(quantity, found.value * metric.scale, found.measured_at, found.missing)

    async def _queried(self, quantity: str, promql: str) -> Fresh[float] | Absent:
        body = await self._monitoring.promql(quantity, promql)
        data = body.get("data")
        result = data.get("result") if isinstance(data, Mapping) else None
        if isinstance(data, Mapping) and data.get("resultType") == "scalar":
            result = [{"value": result}]
        if not isinstance(result, list) or len(result) != 1 or not isinstance(result[0], Mapping):
            count = len(result) if isinstance(result, list) else 0
            return Absent(f"PromQL gave {count} series where one was expected")
        sample: Any = result[0].get("value")
        if not isinstance(sample, list) or len(sample) != 2 or not isinstance(sample[0], int | float):
            return Absent(f"{sample!r} is no sample")
        return sanitize(quantity, sample[1], float(sample[0]))

    @validated("GCP")
    async def permits(self) -> Sequence[Permit]:
        from scaler.clouds.gcp import session  # noqa: PLC0415 - no SDK until it is opened

        return await session.check_permissions(self._context, self._spec.project, [time_series.LIST])
