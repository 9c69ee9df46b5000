"""Amazon SQS: how many messages wait, are in work and are delayed, and how old the oldest is.

Counts come from GetQueueAttributes, which is near real time but approximate: within a minute of the producers' last
message they may still be off. The oldest message's age and a FIFO queue's groups in flight are CloudWatch metrics: a
sample a minute, some minutes late, and none at all while the queue is idle. One GetMetricData call a minute reads both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from policies.model import Absent, Fresh
from policies.rules import Rule
from scaler.clouds.account import AwsAccount
from scaler.ports import Clock, Context, PortError, Unavailable
from scaler.sources.measured import measured

COUNTS: Final = {
    "visible": "ApproximateNumberOfMessages",
    "in_flight": "ApproximateNumberOfMessagesNotVisible",
    "delayed": "ApproximateNumberOfMessagesDelayed",
}
METRICS: Final = {
    "oldest_age_s": "ApproximateAgeOfOldestMessage",
    "groups_in_flight": "ApproximateNumberOfGroupsWithInflightMessages",
}
PERIOD_S: Final = 60
"""SQS sends CloudWatch a sample a minute; asking more often costs and gives nothing."""
LOOK_BACK_S: Final = 900
"""How far back a sample is looked for: an idle queue's metrics resume after up to a quarter of an hour."""


@dataclass(frozen=True, kw_only=True)
class Sqs:
    """An Amazon SQS queue, standard or FIFO."""

    queue_url: Annotated[
        str,
        Rule(
            "URL of the queue.",
            pattern=r"^https?://[^/\s]+/[0-9]+/[A-Za-z0-9_-]{1,80}(\.fifo)?$",
            example="https://sqs.us-east-1.amazonaws.com/123456789012/prompts",
        ),
    ]
    account: Annotated[AwsAccount, Rule("Account and region.")] = field(default_factory=AwsAccount)
    oldest_age: Annotated[bool, Rule("Read the oldest message's age too (CloudWatch, billed per metric).")] = False
    groups: Annotated[bool, Rule("FIFO: read the message groups in flight too (CloudWatch, billed per metric).")] = (
        False
    )
    max_age_s: Annotated[float, Rule("Older counts are stale. Seconds.", gt=0)] = 60.0
    metric_max_age_s: Annotated[
        float,
        Rule("Older CloudWatch samples are stale; they come a minute apart and some minutes late. Seconds.", gt=0),
    ] = 300.0

    @property
    def queue_name(self) -> str:
        return self.queue_url.rsplit("/", 1)[-1]

    def problems(self) -> list[tuple[str, str]]:
        if self.groups and not self.queue_url.endswith(".fifo"):
            return [("groups", "only FIFO queues have message groups; this one's name does not end in .fifo")]
        return []

    def quantities(self) -> Mapping[str, float]:
        counts = dict.fromkeys(COUNTS, self.max_age_s)
        return {**counts, **dict.fromkeys(self.metrics(), self.metric_max_age_s)}

    def metrics(self) -> tuple[str, ...]:
        """The quantities that CloudWatch is asked for."""
        return tuple(q for q, wanted in zip(METRICS, (self.oldest_age, self.groups), strict=True) if wanted)

    async def open(self, context: Context) -> SqsSource:
        from scaler.clouds import aws  # noqa: PLC0415 - a process without SQS does without the SDK

        sqs = await aws.client(context, "sqs", self.account)
        cloudwatch = await aws.client(context, "cloudwatch", self.account) if self.metrics() else None
        return SqsSource(self, context.clock, sqs, cloudwatch)


class SqsSource:
    """The source's port."""

    def __init__(self, spec: Sqs, clock: Clock, sqs: Any, cloudwatch: Any) -> None:
        self._spec = spec
        self._clock = clock
        self._sqs = sqs
        self._cloudwatch = cloudwatch
        self._metrics: dict[str, Fresh[float] | Absent] = {}
        self._metrics_due = float("-inf")

    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        counts = await self._counts()
        if self._cloudwatch is not None and self._clock.now() >= self._metrics_due:
            try:
                self._metrics = await self._read_metrics()
                self._metrics_due = self._clock.now() + PERIOD_S
            except PortError as e:  # the counts stand on their own
                self._metrics = {q: self._metrics.get(q, Absent(str(e))) for q in self._spec.metrics()}
        return {**counts, **self._metrics}

    async def _counts(self) -> dict[str, Fresh[float] | Absent]:
        from scaler.clouds import aws  # noqa: PLC0415

        asked = self._sqs.get_queue_attributes(QueueUrl=self._spec.queue_url, AttributeNames=list(COUNTS.values()))
        answer = await aws.call(f"SQS GetQueueAttributes of {self._spec.queue_name}", asked)
        attributes = answer.get("Attributes")
        if not isinstance(attributes, dict):
            raise Unavailable(f"SQS GetQueueAttributes of {self._spec.queue_name}: an answer without attributes")
        now = self._clock.now()
        return {
            quantity: measured(quantity, attributes[name], now)
            if name in attributes
            else Absent(f"{name} is not in the answer")
            for quantity, name in COUNTS.items()
        }

    async def _read_metrics(self) -> dict[str, Fresh[float] | Absent]:
        from scaler.clouds import aws  # noqa: PLC0415

        end = self._clock.now()
        queries = [
            {
                "Id": quantity,
                "MetricStat": {
                    "Metric": {
                        "Namespace": "AWS/SQS",
                        "MetricName": METRICS[quantity],
                        "Dimensions": [{"Name": "QueueName", "Value": self._spec.queue_name}],
                    },
                    "Period": PERIOD_S,
                    "Stat": "Maximum",
                },
            }
            for quantity in self._spec.metrics()
        ]
        asked = self._cloudwatch.get_metric_data(
            MetricDataQueries=queries,
            StartTime=datetime.fromtimestamp(end - LOOK_BACK_S, UTC),
            EndTime=datetime.fromtimestamp(end, UTC),
            ScanBy="TimestampDescending",
        )
        answer = await aws.call(f"CloudWatch GetMetricData of {self._spec.queue_name}", asked)
        found = {result.get("Id"): result for result in answer.get("MetricDataResults", ())}
        return {q: _newest(q, found.get(q, {})) for q in self._spec.metrics()}


def _newest(quantity: str, result: Mapping[str, Any]) -> Fresh[float] | Absent:
    """The newest sample of a metric. None is no zero: an idle queue sends nothing."""
    samples = sorted(zip(result.get("Timestamps", ()), result.get("Values", ()), strict=False), reverse=True)
    if not samples:
        return Absent(f"CloudWatch has no {METRICS[quantity]} in the last {LOOK_BACK_S // 60} minutes")
    at, value = samples[0]
    return measured(quantity, value, at.timestamp())
