"""Sources on AWS: Amazon CloudWatch and SQS."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Final

from policies.model.field_metadata import FieldMetadata
from scaler.clouds.aws.account import AwsAccount

HIGH_RESOLUTION: Final = frozenset({1, 5, 10, 20, 30})
"""Periods below a minute that CloudWatch accepts. Seconds."""
STAT: Final = r"^(Average|Sum|Minimum|Maximum|SampleCount|IQM|(p|tm|wm|tc|ts)[0-9]{1,2}(\.[0-9]{1,10})?)$"
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
    """One metric of CloudWatch."""

    namespace: Annotated[str, FieldMetadata("Its namespace.", pattern=r"^[^:\s][^:]{0,254}$", example="AWS/SageMaker")]
    metric: Annotated[str, FieldMetadata("Its name.", pattern=r"^[ -~]{1,255}$", example="ConcurrentRequestsPerModel")]
    dimensions: Annotated[
        Mapping[str, str],
        FieldMetadata("All its dimensions: CloudWatch adds nothing up.", example={"EndpointName": "llama"}),
    ] = field(default_factory=dict)
    stat: Annotated[str, FieldMetadata("Statistic over the period.", pattern=STAT)] = "Average"
    period_s: Annotated[
        int, FieldMetadata("Period; below 60 for high-resolution metrics only. Seconds.", ge=1, le=86400)
    ] = 60
    divide_by: Annotated[
        float,
        FieldMetadata(
            "The metric's unit per ours: 100 for percent where a share is meant, 1000 for milliseconds.", gt=0
        ),
    ] = 1.0

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.period_s % 60 and self.period_s not in HIGH_RESOLUTION:
            yield "period_s", "CloudWatch knows 1, 5, 10, 20, 30 and multiples of 60"
        if len(self.dimensions) > 30:
            yield "dimensions", "CloudWatch knows at most 30"


@dataclass(frozen=True, kw_only=True)
class CloudWatch:
    """Metrics in Amazon CloudWatch."""

    metrics: Annotated[
        Mapping[str, CloudWatchMetric],
        FieldMetadata(
            "Metrics by the name of the quantity that each gives.",
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
    ]
    account: Annotated[AwsAccount, FieldMetadata("Account and region.")] = field(default_factory=AwsAccount)
    max_age_s: Annotated[
        float,
        FieldMetadata(
            "Older samples are stale; they are a period old when complete, and come some minutes late. Seconds.", gt=0
        ),
    ] = 300.0

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.metrics:
            yield "metrics", "name at least one metric"
        for quantity, metric in self.metrics.items():
            if not quantity.isascii() or not quantity.isidentifier():
                yield "metrics", f"{quantity!r} is not a quantity's name: letters, digits and _"
            if self.max_age_s < 2 * metric.period_s:
                yield "max_age_s", f"a sample of {quantity} is two periods old before the next can be there"

    def quantities(self) -> Mapping[str, float]:
        return dict.fromkeys(self.metrics, self.max_age_s)


@dataclass(frozen=True, kw_only=True)
class Sqs:
    """An Amazon SQS queue, standard or FIFO."""

    queue_url: Annotated[
        str,
        FieldMetadata(
            "URL of the queue.",
            pattern=r"^https?://[^/@\s?#]+/[0-9]+/[A-Za-z0-9_-]{1,80}(\.fifo)?$",
            example="https://sqs.us-east-1.amazonaws.com/123456789012/prompts",
        ),
    ]
    account: Annotated[AwsAccount, FieldMetadata("Account and region.")] = field(default_factory=AwsAccount)
    oldest_age: Annotated[bool, FieldMetadata("Read the oldest message's age too (CloudWatch, billed per metric).")] = (
        False
    )
    groups: Annotated[
        bool, FieldMetadata("FIFO: read the message groups in flight too (CloudWatch, billed per metric).")
    ] = False
    max_age_s: Annotated[float, FieldMetadata("Older counts are stale. Seconds.", gt=0)] = 60.0
    metric_max_age_s: Annotated[
        float,
        FieldMetadata(
            "Older CloudWatch samples are stale; they come a minute apart and some minutes late. Seconds.", gt=0
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
            yield "groups", "only FIFO queues have message groups; this one's name does not end in .fifo"
        match = SQS_REGION.search(self.queue_url)
        if match and self.account.region not in {None, match[1]}:
            yield "account.region", f"the queue's URL names another region, {match[1]}"

    def quantities(self) -> Mapping[str, float]:
        counts = dict.fromkeys(SQS_COUNTS, self.max_age_s)
        return {**counts, **dict.fromkeys(self.metrics(), self.metric_max_age_s)}

    def metrics(self) -> tuple[str, ...]:
        """Return the quantities that are read from CloudWatch."""
        return tuple(q for q, enabled in zip(SQS_METRICS, (self.oldest_age, self.groups), strict=True) if enabled)
