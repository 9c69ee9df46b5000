"""Sources on Google Cloud: Cloud Monitoring and Pub/Sub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from policies.model.field_metadata import FieldMetadata
from scaler.clouds.gcp.project import GcpProject

PUBSUB_METRICS: Final = {
    "visible": "num_undelivered_messages",
    "oldest_age_s": "oldest_unacked_message_age",
    "in_flight": "num_outstanding_messages",
}
PUBSUB_SAMPLE_S: Final = 60.0
"""Interval of the samples. Seconds."""


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


GPU_PRESETS: Final[Mapping[str, Mapping[str, GcpMetric]]] = {
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
        """Return all filters by quantity. `metrics` and `promql` take precedence over the preset."""
        preset = GPU_PRESETS[self.preset] if self.preset is not None else {}
        configured = {**self.metrics, **dict.fromkeys(self.promql)}
        return {**{q: self._with_match(m) for q, m in preset.items() if q not in configured}, **self.metrics}

    def _with_match(self, metric: GcpMetric) -> GcpMetric:
        terms = [
            f"{name.replace('metric.', 'metric.labels.') if name.startswith('metric.') else 'resource.labels.' + name}"
            f' = "{value}"'
            for name, value in self.match.items()
        ]
        return GcpMetric(filter=" AND ".join([metric.filter, *terms]), scale=metric.scale)

    def quantities(self) -> Mapping[str, float]:
        return dict.fromkeys([*self.filters(), *self.promql], self.max_age_s)


@dataclass(frozen=True, kw_only=True)
class PubSub:
    """A subscription of Google Pub/Sub."""

    project: Annotated[GcpProject, FieldMetadata("Project, credentials and addresses.", example={"id": "my-project"})]
    subscription: Annotated[
        str,
        FieldMetadata(
            "The subscription's id.", pattern=r"^[A-Za-z][A-Za-z0-9._~+%-]{2,254}$", example="prompts-workers"
        ),
    ]
    by_region: Annotated[
        bool,
        FieldMetadata(
            "Read the metrics by region, and add them up: where a region's samples fail, the sum is a lower bound."
        ),
    ] = True
    in_flight: Annotated[
        bool,
        FieldMetadata(
            "Read in_flight too, which only a push subscription has; visible counts messages in work already."
        ),
    ] = False
    read_interval_s: Annotated[
        float,
        FieldMetadata("Between two reads of Cloud Monitoring, which has a sample a minute. Seconds.", gt=0, le=300),
    ] = 30.0
    max_age_s: Annotated[
        float,
        FieldMetadata(
            "Older counts are lower bounds: a minute between samples, two until they are shown. Seconds.", gt=0
        ),
    ] = 240.0
    stale_bound_s: Annotated[
        float,
        FieldMetadata("How much longer a count stands as a lower bound before it is stale. Seconds.", ge=0, le=600),
    ] = 300.0

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.max_age_s < PUBSUB_SAMPLE_S:
            yield "max_age_s", f"{self.max_age_s:g} s is less than the {PUBSUB_SAMPLE_S:g} s between two samples"

    def quantities(self) -> Mapping[str, float]:
        quantities = PUBSUB_METRICS if self.in_flight else list(PUBSUB_METRICS)[:2]
        return dict.fromkeys(quantities, self.max_age_s + self.stale_bound_s)
