"""Sources on AWS: Amazon CloudWatch and SQS."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Final, Literal

from policies.model.field_metadata import FieldMetadata, Pattern
from scaler.clouds.aws.account import AwsAccount

HIGH_RESOLUTION: Final = frozenset({1, 5, 10, 20, 30})
"""Periods below a minute that CloudWatch accepts. Seconds."""
STAT: Final = Pattern(
    r"^(Average|Sum|Minimum|Maximum|SampleCount|IQM|(p|tm|wm|tc|ts)[0-9]{1,2}(\.[0-9]{1,10})?)$",
    "a CloudWatch statistic",
)
SQS_COUNTS: Final = {
    "visible": "ApproximateNumberOfMessages",
    "in_flight": "ApproximateNumberOfMessagesNotVisible",
    "delayed": "ApproximateNumberOfMessagesDelayed",
}
SQS_METRICS: Final = {
    "oldest_age_s": "ApproximateAgeOfOldestMessage",
    "groups_in_flight": "ApproximateNumberOfGroupsWithInflightMessages",
}
SQS_REGION: Final = re.compile(r"\bsqs(?:-fips)?\.([a-z]{2}(?:-[a-z]+)+-[0-9])\.(?:vpce\.)?(?:amazonaws\.com|api\.aws)")
"""Matches the region in a queue URL of AWS. A queue exists in its region only."""


@dataclass(frozen=True, kw_only=True)
class CloudWatchMetric:
    """One CloudWatch metric."""

    namespace: Annotated[
        str,
        FieldMetadata(
            "Namespace of the metric.",
            pattern=Pattern(r"^[^:\s][^:]{0,254}$", "at most 255 characters without a colon or a leading space"),
            example="AWS/SageMaker",
        ),
    ]
    metric: Annotated[
        str,
        FieldMetadata(
            "Name of the metric.",
            pattern=Pattern(r"^[ -~]{1,255}$", "at most 255 ASCII characters"),
            example="ConcurrentRequestsPerModel",
        ),
    ]
    dimensions: Annotated[
        Mapping[str, str],
        FieldMetadata(
            "All dimensions of the metric. CloudWatch does not aggregate over missing ones. Default: none.",
            example={"EndpointName": "llama"},
        ),
    ] = field(default_factory=dict)
    stat: Annotated[
        str,
        FieldMetadata(
            "CloudWatch statistic over each period, such as Average, Sum, Maximum or p95. Default: Average.",
            pattern=STAT,
        ),
    ] = "Average"
    period_s: Annotated[
        int,
        FieldMetadata(
            "Length of one sample period. Values below 60 require a high-resolution metric. The default of 60 is"
            " CloudWatch's standard resolution. Seconds.",
            ge=1,
            le=86400,
        ),
    ] = 60
    divide_by: Annotated[
        float,
        FieldMetadata(
            "Divide the metric by this number to get the quantity's unit: 100 turns percent into a share, 1000 turns"
            " milliseconds into seconds. Default: 1, no conversion.",
            gt=0,
        ),
    ] = 1.0
    if_absent: Annotated[
        Literal["absent", "zero"],
        FieldMetadata(
            "Reading where CloudWatch answers completely and has no sample. The default, absent, keeps missing apart"
            " from zero. Set zero only for a count of events that is sent when one happens."
        ),
    ] = "absent"

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.period_s % 60 and self.period_s not in HIGH_RESOLUTION:
            yield "period_s", "must be 1, 5, 10, 20, 30 or a multiple of 60, the periods that CloudWatch supports"
        if len(self.dimensions) > 30:
            yield "dimensions", f"has {len(self.dimensions)} entries, and CloudWatch allows at most 30"


SAGEMAKER: Final = "AWS/SageMaker"


def _bedrock(metric: str, stat: str, divide_by: float) -> CloudWatchMetric:
    return CloudWatchMetric(namespace="AWS/Bedrock", metric=metric, stat=stat, divide_by=divide_by)


PRESETS: Final[Mapping[str, Mapping[str, CloudWatchMetric]]] = {
    "bedrock": {
        "requests_per_s": _bedrock("Invocations", "Sum", 60.0),
        "throttles_per_s": _bedrock("InvocationThrottles", "Sum", 60.0),
        "prompt_tokens_per_s": _bedrock("InputTokenCount", "Sum", 60.0),
        "generation_tokens_per_s": _bedrock("OutputTokenCount", "Sum", 60.0),
        "quota_tokens_per_s": _bedrock("EstimatedTPMQuotaUsage", "Sum", 60.0),
        "ttft_mean_s": _bedrock("TimeToFirstToken", "Average", 1000.0),
        "ttft_p95_s": _bedrock("TimeToFirstToken", "p95", 1000.0),
        "e2e_mean_s": _bedrock("InvocationLatency", "Average", 1000.0),
        "e2e_p95_s": _bedrock("InvocationLatency", "p95", 1000.0),
    },
    "sagemaker_inference_component": {
        "concurrent_requests_per_replica": CloudWatchMetric(
            namespace=SAGEMAKER, metric="ConcurrentRequestsPerCopy", period_s=10
        ),
        "no_capacity_failures": CloudWatchMetric(
            namespace=SAGEMAKER, metric="NoCapacityInvocationFailures", stat="Sum"
        ),
    },
    "sagemaker_variant": {
        "concurrent_requests_per_replica": CloudWatchMetric(
            namespace=SAGEMAKER, metric="ConcurrentRequestsPerModel", period_s=10
        )
    },
}
"""Metrics by preset. SageMaker sends concurrent requests every 10 s; Bedrock sends all of them every minute, a count as
its sum, a latency in milliseconds. AWS documents no zero for any of them."""
DIMENSIONS: Final = {
    "bedrock": ("ModelId",),
    "sagemaker_inference_component": ("InferenceComponentName",),
    "sagemaker_variant": ("EndpointName", "VariantName"),
}
"""The dimensions that each preset's metrics have."""


@dataclass(frozen=True, kw_only=True)
class CloudWatch:
    """Metrics in Amazon CloudWatch."""

    preset: Annotated[
        Literal["bedrock", "sagemaker_inference_component", "sagemaker_variant"] | None,
        FieldMetadata("Set of metrics to read. Default: null, only those in metrics.", example="sagemaker_variant"),
    ] = None
    match: Annotated[
        Mapping[str, str] | None,
        FieldMetadata(
            "Dimensions of the preset's metrics: EndpointName and VariantName, InferenceComponentName, or Bedrock's"
            " ModelId. Default: null, without a preset.",
            example={"EndpointName": "llama", "VariantName": "main"},
        ),
    ] = None
    metrics: Annotated[
        Mapping[str, CloudWatchMetric],
        FieldMetadata(
            "CloudWatch metrics, keyed by the name of the quantity that each provides. They take precedence over the"
            " preset's. Default: none.",
            example={
                "concurrency": {
                    "namespace": "AWS/SageMaker",
                    "metric": "ConcurrentRequestsPerModel",
                    "dimensions": {"EndpointName": "llama", "VariantName": "main"},
                    "stat": "Maximum",
                    "period_s": 10,
                }
            },
        ),
    ] = field(default_factory=dict)
    account: Annotated[
        AwsAccount, FieldMetadata("AWS region, profile and endpoint. Default: those of the AWS SDK's environment.")
    ] = field(default_factory=AwsAccount)
    max_age_s: Annotated[
        float,
        FieldMetadata(
            "Treat older samples as stale. A sample is one period old when complete and is published minutes later,"
            " which the default of 300 covers. Use at least two periods. Seconds.",
            gt=0,
        ),
    ] = 300.0

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.metrics and self.preset is None:
            yield "", "reads no metric; set preset or metrics"
        dimensions = DIMENSIONS[self.preset] if self.preset is not None else ()
        if (self.match or {}).keys() != set(dimensions):
            needed = f"must name exactly {' and '.join(dimensions)}, the dimensions of the preset's metrics"
            yield "match", needed if dimensions else "requires preset: it gives the dimensions of its metrics"
        for quantity, metric in self.all_metrics().items():
            if not quantity.isascii() or not quantity.isidentifier():
                yield (
                    "metrics",
                    f"{quantity!r} is not a valid quantity name: use letters, digits and _, such as queue_depth",
                )
            if self.max_age_s < 2 * metric.period_s:
                yield (
                    "max_age_s",
                    f"must be at least {2 * metric.period_s}, two periods of {quantity}: samples get that old",
                )

    def all_metrics(self) -> dict[str, CloudWatchMetric]:
        """Return the metrics by quantity. `metrics` take precedence over the preset."""
        preset = PRESETS[self.preset] if self.preset is not None else {}
        return {**{q: replace(m, dimensions=self.match or {}) for q, m in preset.items()}, **self.metrics}

    def quantities(self) -> Mapping[str, float]:
        return dict.fromkeys(self.all_metrics(), self.max_age_s)


@dataclass(frozen=True, kw_only=True)
class Sqs:
    """An Amazon SQS queue, standard or FIFO."""

    queue_url: Annotated[
        str,
        FieldMetadata(
            "URL of the queue.",
            pattern=Pattern(r"^https?://[^/@\s?#]+/[0-9]+/[A-Za-z0-9_-]{1,80}(\.fifo)?$", "the URL of an SQS queue"),
            example="https://sqs.us-east-1.amazonaws.com/123456789012/prompts",
        ),
    ]
    account: Annotated[
        AwsAccount, FieldMetadata("AWS region, profile and endpoint. The region defaults to the one in queue_url.")
    ] = field(default_factory=AwsAccount)
    oldest_age: Annotated[
        bool,
        FieldMetadata(
            "Also read the age of the oldest message from CloudWatch, which bills per metric. Default: false, which"
            " avoids that cost."
        ),
    ] = False
    groups: Annotated[
        bool,
        FieldMetadata(
            "Also read the number of message groups in flight from CloudWatch, which bills per metric. FIFO queues"
            " only. Default: false, which avoids that cost."
        ),
    ] = False
    max_age_s: Annotated[
        float,
        FieldMetadata("Treat older message counts as stale. The default of 60 is four ticks of 15 s. Seconds.", gt=0),
    ] = 60.0
    metric_max_age_s: Annotated[
        float,
        FieldMetadata(
            "Treat older CloudWatch samples as stale. Samples are one minute apart and are published minutes later,"
            " which the default of 300 covers. Seconds.",
            gt=0,
        ),
    ] = 300.0

    @property
    def queue_name(self) -> str:
        return self.queue_url.rsplit("/", 1)[-1]

    @property
    def located(self) -> AwsAccount:
        """The account, with the region of the queue's URL if it has none."""
        match = SQS_REGION.search(self.queue_url)
        return replace(self.account, region=match[1]) if match and self.account.region is None else self.account

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.groups and not self.queue_url.endswith(".fifo"):
            yield "groups", "requires a FIFO queue, whose name ends in .fifo; remove groups for a standard queue"
        match = SQS_REGION.search(self.queue_url)
        if match and self.account.region not in {None, match[1]}:
            yield "account.region", f"must match the region in queue_url, {match[1]}; remove it to use that region"

    def quantities(self) -> Mapping[str, float]:
        counts = dict.fromkeys(SQS_COUNTS, self.max_age_s)
        return {**counts, **dict.fromkeys(self.metrics(), self.metric_max_age_s)}

    def metrics(self) -> tuple[str, ...]:
        """Return the quantities that are read from CloudWatch."""
        return tuple(q for q, enabled in zip(SQS_METRICS, (self.oldest_age, self.groups), strict=True) if enabled)
