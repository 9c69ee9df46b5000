"""Amazon SQS: how many messages wait, are in work and are delayed, and how old the oldest is.

Counts come from GetQueueAttributes, which is near real time but approximate: within a minute of the producers' last
message they may still be off. The oldest message's age and a FIFO queue's groups in flight are CloudWatch metrics: a
sample a minute, some minutes late, and none at all while the queue is idle; of a queue whose counts are all zero they
are zero. They are read once a minute, those of all queues of an account together.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Final

from policies.model import Absent, Fresh
from policies.model.field_metadata import FieldMetadata
from scaler.clouds.aws.account import AwsAccount
from scaler.clouds.response_validation import validated
from scaler.ports import Context, PortError, Unavailable
from scaler.sources.sanitize import sanitize

if TYPE_CHECKING:
    from scaler.clouds.aws.metrics import Sample
    from scaler.clouds.aws.session import AwsService

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
METRICS_SHARE: Final = 0.5
"""Of the deadline, for CloudWatch: the counts must not be lost to its silence."""
REGION: Final = re.compile(r"\bsqs(?:-fips)?\.([a-z]{2}(?:-[a-z]+)+-[0-9])\.(?:vpce\.)?(?:amazonaws\.com|api\.aws)")
"""The region in the URL of a queue of AWS's own. A queue is known in its region only."""


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
        """The account, in the queue's region where that isn't given and its URL tells."""
        found = REGION.search(self.queue_url)
        return replace(self.account, region=found[1]) if found and self.account.region is None else self.account

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.groups and not self.queue_url.endswith(".fifo"):
            yield "groups", "only FIFO queues have message groups; this one's name does not end in .fifo"
        found = REGION.search(self.queue_url)
        if found and self.account.region not in {None, found[1]}:
            yield "account.region", f"the queue's URL names another region, {found[1]}"

    def quantities(self) -> Mapping[str, float]:
        counts = dict.fromkeys(COUNTS, self.max_age_s)
        return {**counts, **dict.fromkeys(self.metrics(), self.metric_max_age_s)}

    def metrics(self) -> tuple[str, ...]:
        """The quantities that CloudWatch is asked for."""
        return tuple(q for q, wanted in zip(METRICS, (self.oldest_age, self.groups), strict=True) if wanted)

    async def open(self, context: Context) -> SqsSource:
        source = SqsSource(self, context)
        with contextlib.suppress(Unavailable):  # what lends credentials is not up yet: every sample tries again
            await source.connect()
        return source


class SqsSource:
    """The source's port."""

    def __init__(self, spec: Sqs, context: Context) -> None:
        self._spec = spec
        self._context = context
        self._clock = context.clock
        self._metrics: dict[str, Fresh[float] | Absent] = {}
        self._metrics_due = float("-inf")
        self._metrics_failed = False

    async def connect(self) -> None:
        """Open what the samples will use. Raises `Unavailable` or `Misconfigured`."""
        from scaler.clouds.aws import metrics as aws_metrics  # noqa: PLC0415 - a process without SQS does without the SDK

        await self._service("sqs")
        if self._spec.metrics():
            await aws_metrics.metrics(self._context, self._spec.located, PERIOD_S)

    @validated("AWS")
    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        found: dict[str, Fresh[float] | Absent] = {}
        for result in await asyncio.gather(self._counts(), self._recent_metrics(), return_exceptions=True):
            if isinstance(result, BaseException):
                raise result  # only now: both have ended
            found.update(result)
        if self._metrics_failed:
            return found
        return {q: _of_an_empty_queue(q, found) or reading for q, reading in found.items()}

    async def _counts(self) -> dict[str, Fresh[float] | Absent]:
        sqs = await self._service("sqs")
        asked_at = self._clock.now()  # the counts are no older than this
        asked: dict[str, Any] = {"QueueUrl": self._spec.queue_url, "AttributeNames": list(COUNTS.values())}
        answer = await sqs.call("GetQueueAttributes", self._spec.queue_name, **asked)
        attributes = answer.get("Attributes") if isinstance(answer, dict) else None
        if not isinstance(attributes, dict):
            raise Unavailable(f"AWS sqs:GetQueueAttributes of {self._spec.queue_name}: an answer without attributes")
        return {q: _count(q, attributes.get(name), asked_at) for q, name in COUNTS.items()}

    async def _recent_metrics(self) -> Mapping[str, Fresh[float] | Absent]:
        """The metrics as last read, read again once a minute; the last ones stand while CloudWatch fails."""
        if self._spec.metrics() and self._clock.now() >= self._metrics_due:
            self._metrics_due = self._clock.now() + PERIOD_S
            limit_s = METRICS_SHARE * self._context.deadline_s
            try:
                async with asyncio.timeout(limit_s):
                    self._metrics = await self._read_metrics()
                self._metrics_failed = False
            except TimeoutError:
                self._keep_metrics(f"CloudWatch gave no answer within {limit_s:g} s")
            except PortError as e:
                self._keep_metrics(str(e))
        return self._metrics

    def _keep_metrics(self, error: str) -> None:
        self._metrics_failed = True
        known = {q: m for q, m in self._metrics.items() if isinstance(m, Fresh)}
        self._metrics = {q: known.get(q, Absent(error)) for q in self._spec.metrics()}

    async def _read_metrics(self) -> dict[str, Fresh[float] | Absent]:
        from scaler.clouds.aws import metrics as aws_metrics  # noqa: PLC0415 - a process without SQS does without the SDK

        shared = await aws_metrics.metrics(self._context, self._spec.located, PERIOD_S)
        name, wanted = self._spec.queue_name, self._spec.metrics()
        found = await asyncio.gather(
            *(
                shared.get(aws_metrics.Query("AWS/SQS", METRICS[q], (("QueueName", name),), "Maximum", PERIOD_S))
                for q in wanted
            )
        )
        return {q: _reported(q, sample) for q, (_, sample) in zip(wanted, found, strict=True)}

    async def _service(self, name: str) -> AwsService:
        from scaler.clouds.aws import session  # noqa: PLC0415 - a process without SQS does without the SDK

        return await session.service(self._context, name, self._spec.located)


def _count(quantity: str, value: object, at: float) -> Fresh[float] | Absent:
    """An attribute as a count of messages."""
    if value is None:
        return Absent(f"{COUNTS[quantity]} is not in the answer")
    reading = sanitize(quantity, value, at)
    if isinstance(reading, Fresh) and not reading.value.is_integer():
        return Absent(f"{value!r} is not a whole number of messages")
    return reading


def _of_an_empty_queue(quantity: str, found: Mapping[str, Fresh[float] | Absent]) -> Fresh[float] | None:
    """A metric that an empty queue does not send, told by its counts: where nothing is, nothing is old or in flight."""
    if quantity not in METRICS:
        return None
    counts = [found[count] for count in COUNTS]
    empty = all(isinstance(count, Fresh) and count.value == 0 for count in counts)
    return counts[0] if empty and isinstance(counts[0], Fresh) else None


def _reported(quantity: str, sample: Sample | None) -> Fresh[float] | Absent:
    """The newest sample of a metric. None is no zero: an idle queue sends nothing."""
    if sample is None or sample.problem:
        return Absent(f"{METRICS[quantity]}: {sample.problem if sample is not None else 'CloudWatch gave no result'}")
    return sanitize(quantity, sample.value, sample.at)
