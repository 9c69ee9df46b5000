"""Sources on Google Cloud: Cloud Monitoring and Pub/Sub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Final, Literal, TypeAlias

from policies.model.field_metadata import FieldMetadata, Pattern
from scaler.clouds.gcp.project import GcpProject
from scaler.clouds.gcp.settings import SUBSCRIPTION

PUBSUB_METRICS: Final = {
    "visible": "num_undelivered_messages",
    "oldest_age_s": "oldest_unacked_message_age",
    "in_flight": "num_outstanding_messages",
}
PUBSUB_SAMPLE_S: Final = 60.0
"""Interval of the samples. Seconds."""
Aligner: TypeAlias = Literal[
    "mean", "max", "min", "sum", "rate", "delta", "next_older", "percentile_50", "percentile_95", "percentile_99"
]
Reducer: TypeAlias = Literal["mean", "max", "min", "sum", "count", "percentile_95", "percentile_99"]


@dataclass(frozen=True, kw_only=True)
class GcpMetric:
    """One Cloud Monitoring metric: the series that a filter selects, aggregated to one number."""

    filter: Annotated[
        str,
        FieldMetadata(
            "Cloud Monitoring filter. It must name one metric.type.",
            pattern=Pattern(r"metric\.type\s*=", "a filter that compares metric.type"),
            example='metric.type = "kubernetes.io/container/accelerator/duty_cycle"',
        ),
    ]
    aligner: Annotated[
        Aligner,
        FieldMetadata(
            "Aggregation of one series' samples over period_s. The percentiles are for distributions. Default: mean."
        ),
    ] = "mean"
    reducer: Annotated[
        Reducer,
        FieldMetadata("Aggregation over all series that match. Default: mean."),
    ] = "mean"
    period_s: Annotated[
        float,
        FieldMetadata(
            "Alignment period. The default of 60 is the sampling interval of most metrics. Seconds.", ge=60, le=3600
        ),
    ] = 60.0
    scale: Annotated[
        float,
        FieldMetadata(
            "Multiply the result by this factor: 0.01 turns percent into a share. Default: 1, no conversion.", gt=0
        ),
    ] = 1.0


def _gpu(metric: str, scale: float = 0.01) -> GcpMetric:
    return GcpMetric(filter=f'metric.type = "{metric}"', scale=scale)


def _vertex(name: str, aligner: Aligner = "max", reducer: Reducer = "sum") -> GcpMetric:
    """Return a metric of Vertex AI."""
    return GcpMetric(filter=f'metric.type = "aiplatform.googleapis.com/{name}"', aligner=aligner, reducer=reducer)


def _provisioned(name: str, *request_types: str) -> GcpMetric:
    """Return the rate of a counter of provisioned throughput, for some types of requests."""
    types = ", ".join(f'"{one}"' for one in request_types)
    condition = f"one_of({types})" if len(request_types) > 1 else types
    metric = _vertex(f"publisher/online_serving/{name}", "rate")
    return replace(metric, filter=f"{metric.filter} AND metric.labels.request_type = {condition}")


def _run(name: str, aligner: Aligner = "max", reducer: Reducer = "sum") -> GcpMetric:
    """Return a metric of Cloud Run."""
    return GcpMetric(filter=f'metric.type = "run.googleapis.com/{name}"', aligner=aligner, reducer=reducer)


PRESETS: Final[Mapping[str, Mapping[str, GcpMetric]]] = {
    "cloud_run": {
        "instances": _run("container/instance_count"),
        "native_replicas": _run("scaling/recommended_instances", "max", "max"),
        "concurrency_p95": _run("container/max_request_concurrencies", "percentile_95", "max"),
        "waiting": _run("pending_queue/pending_requests"),
        "requests_per_s": _run("request_count", "rate"),
        "utilization": _run("container/gpu/utilizations", "percentile_50", "mean"),
    },
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
    "vertex": {
        "replicas": _vertex("prediction/online/replicas"),
        "native_replicas": _vertex("prediction/online/target_replicas"),
        "requests_per_s": _vertex("prediction/online/prediction_count", "rate"),
        "errors_per_s": _vertex("prediction/online/error_count", "rate"),
        "utilization": _vertex("prediction/online/accelerator/duty_cycle", "mean", "mean"),
    },
    "vertex_provisioned": {
        "gsu_limit": _vertex("publisher/online_serving/dedicated_gsu_limit"),
        "token_limit_per_s": _vertex("publisher/online_serving/dedicated_token_limit"),
        "dedicated_tokens_per_s": _provisioned("consumed_token_throughput", "dedicated"),
        "dedicated_requests_per_s": _provisioned("model_invocation_count", "dedicated"),
        "spillover_requests_per_s": _provisioned("model_invocation_count", "shared", "spillover"),
    },
}


@dataclass(frozen=True, kw_only=True)
class CloudMonitoring:
    """Metrics in Google Cloud Monitoring."""

    project: Annotated[
        GcpProject, FieldMetadata("Google Cloud project, credentials and endpoints.", example={"id": "my-project"})
    ]
    preset: Annotated[
        Literal["cloud_run", "dcgm", "gke_gpu", "gke_tpu", "vertex", "vertex_provisioned"] | None,
        FieldMetadata("Set of metrics to read. Default: null, only those in metrics and promql.", example="gke_gpu"),
    ] = None
    match: Annotated[
        Mapping[str, str],
        FieldMetadata(
            "Labels that the preset's series must have: resource labels, or metric labels as metric.NAME. Default:"
            " none, all series.",
            example={"cluster_name": "serving", "namespace_name": "llm"},
        ),
    ] = field(default_factory=dict)
    metrics: Annotated[
        Mapping[str, GcpMetric],
        FieldMetadata("Cloud Monitoring filters, keyed by the name of the quantity that each provides. Default: none."),
    ] = field(default_factory=dict)
    promql: Annotated[
        Mapping[str, str],
        FieldMetadata(
            "PromQL queries, keyed by the name of the quantity that each provides. Each must return one number or one"
            " series. Default: none."
        ),
    ] = field(default_factory=dict)
    read_interval_s: Annotated[
        float,
        FieldMetadata(
            "Time between two reads. The default of 30 is half the sampling interval of most metrics. Seconds.",
            gt=0,
            le=300,
        ),
    ] = 30.0
    max_age_s: Annotated[
        float,
        FieldMetadata(
            "Treat older readings as stale. Samples appear two to four minutes late, which the default of 360 covers."
            " Seconds.",
            gt=0,
        ),
    ] = 360.0

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.quantities():
            yield "", "reads no metric; set preset, metrics or promql"
        for quantity in (*self.metrics, *self.promql):
            if not quantity.isascii() or not quantity.isidentifier():
                yield (
                    "metrics",
                    f"{quantity!r} is not a valid quantity name: use letters, digits and _, such as queue_depth",
                )
        for quantity in self.metrics.keys() & self.promql.keys():
            yield "promql", f"defines {quantity}, which metrics also defines; remove one of the two"
        if self.match and self.preset is None:
            yield "match", "requires preset: it filters only the preset's series"

    def filters(self) -> dict[str, GcpMetric]:
        """Return all filters by quantity. `metrics` and `promql` take precedence over the preset."""
        preset = PRESETS[self.preset] if self.preset is not None else {}
        configured = {**self.metrics, **dict.fromkeys(self.promql)}
        return {**{q: self._with_match(m) for q, m in preset.items() if q not in configured}, **self.metrics}

    def _with_match(self, metric: GcpMetric) -> GcpMetric:
        terms = [
            f"{name.replace('metric.', 'metric.labels.') if name.startswith('metric.') else 'resource.labels.' + name}"
            f' = "{value}"'
            for name, value in self.match.items()
        ]
        return replace(metric, filter=" AND ".join([metric.filter, *terms]))

    def quantities(self) -> Mapping[str, float]:
        return dict.fromkeys([*self.filters(), *self.promql], self.max_age_s)


@dataclass(frozen=True, kw_only=True)
class PubSub:
    """A Google Pub/Sub subscription."""

    project: Annotated[
        GcpProject, FieldMetadata("Google Cloud project, credentials and endpoints.", example={"id": "my-project"})
    ]
    subscription: Annotated[
        str,
        FieldMetadata("ID of the subscription.", pattern=SUBSCRIPTION, example="prompts-workers"),
    ]
    by_region: Annotated[
        bool,
        FieldMetadata(
            "Read the metrics per region and add them up. If a region's samples are missing, the sum is a lower"
            " bound. Default: true."
        ),
    ] = True
    in_flight: Annotated[
        bool,
        FieldMetadata(
            "Also read in_flight, which only push subscriptions have. visible already includes messages in work."
            " Default: false."
        ),
    ] = False
    read_interval_s: Annotated[
        float,
        FieldMetadata(
            "Time between two reads of Cloud Monitoring. The default of 30 is half its sampling interval. Seconds.",
            gt=0,
            le=300,
        ),
    ] = 30.0
    max_age_s: Annotated[
        float,
        FieldMetadata(
            "Treat older counts as lower bounds. Samples are one minute apart and appear two minutes late, which the"
            " default of 240 covers. Seconds.",
            gt=0,
        ),
    ] = 240.0
    stale_bound_s: Annotated[
        float,
        FieldMetadata(
            "Keep a count older than max_age_s as a lower bound for this time, then treat it as stale. The default of"
            " 300 covers a short gap in Cloud Monitoring. Seconds.",
            ge=0,
            le=600,
        ),
    ] = 300.0

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.max_age_s < PUBSUB_SAMPLE_S:
            yield (
                "max_age_s",
                f"must be at least {PUBSUB_SAMPLE_S:g}: Cloud Monitoring has one sample in {PUBSUB_SAMPLE_S:g} s",
            )

    def quantities(self) -> Mapping[str, float]:
        quantities = PUBSUB_METRICS if self.in_flight else list(PUBSUB_METRICS)[:2]
        return dict.fromkeys(quantities, self.max_age_s + self.stale_bound_s)
