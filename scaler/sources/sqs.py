"""Amazon SQS: how many messages wait, are in work and are delayed, and how old the oldest is.

Counts come from GetQueueAttributes, which is near real time but approximate: within a minute of the producers' last
message they may still be off. The oldest message's age and a FIFO queue's groups in flight are CloudWatch metrics: a
sample a minute, some minutes late, and none at all while the queue is idle; of a queue whose counts are all zero they
are zero. They are read once a minute, those of all queues of an account together.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Final

from policies.model import Absent, Fresh
from scaler.clouds.aws import metrics as aws_metrics
from scaler.clouds.aws import session
from scaler.clouds.aws.metrics import Sample
from scaler.clouds.aws.session import AwsService
from scaler.clouds.response_validation import validated
from scaler.config.kinds.aws_sources import SQS_COUNTS, SQS_METRICS, Sqs
from scaler.ports import Context, PortError, Unavailable
from scaler.sources.sanitize import sanitize

PERIOD_S: Final = 60
"""SQS sends CloudWatch a sample a minute; asking more often costs and gives nothing."""
METRICS_SHARE: Final = 0.5
"""Of the deadline, for CloudWatch: the counts must not be lost to its silence."""


async def open_sqs(spec: Sqs, context: Context) -> SqsSource:
    """Open the source. Raises `Misconfigured`."""
    source = SqsSource(spec, context)
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
        asked: dict[str, Any] = {"QueueUrl": self._spec.queue_url, "AttributeNames": list(SQS_COUNTS.values())}
        answer = await sqs.call("GetQueueAttributes", self._spec.queue_name, **asked)
        attributes = answer.get("Attributes") if isinstance(answer, dict) else None
        if not isinstance(attributes, dict):
            raise Unavailable(f"AWS sqs:GetQueueAttributes of {self._spec.queue_name}: an answer without attributes")
        return {q: _count(q, attributes.get(name), asked_at) for q, name in SQS_COUNTS.items()}

    async def _recent_metrics(self) -> Mapping[str, Fresh[float] | Absent]:
        """Return the metrics as last read, read again once a minute; the last ones stand while CloudWatch fails."""
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
        shared = await aws_metrics.metrics(self._context, self._spec.located, PERIOD_S)
        name, wanted = self._spec.queue_name, self._spec.metrics()
        found = await asyncio.gather(
            *(
                shared.get(aws_metrics.Query("AWS/SQS", SQS_METRICS[q], (("QueueName", name),), "Maximum", PERIOD_S))
                for q in wanted
            )
        )
        return {q: _reported(q, sample) for q, (_, sample) in zip(wanted, found, strict=True)}

    async def _service(self, name: str) -> AwsService:
        return await session.service(self._context, name, self._spec.located)


def _count(quantity: str, value: object, at: float) -> Fresh[float] | Absent:
    """Return an attribute as a count of messages."""
    if value is None:
        return Absent(f"{SQS_COUNTS[quantity]} is not in the answer")
    reading = sanitize(quantity, value, at)
    if isinstance(reading, Fresh) and not reading.value.is_integer():
        return Absent(f"{value!r} is not a whole number of messages")
    return reading


def _of_an_empty_queue(quantity: str, found: Mapping[str, Fresh[float] | Absent]) -> Fresh[float] | None:
    """Return a metric that an empty queue does not send, told by its counts.

    Where nothing is, nothing is old or in flight.
    """
    if quantity not in SQS_METRICS:
        return None
    counts = [found[count] for count in SQS_COUNTS]
    empty = all(isinstance(count, Fresh) and count.value == 0 for count in counts)
    return counts[0] if empty and isinstance(counts[0], Fresh) else None


def _reported(quantity: str, sample: Sample | None) -> Fresh[float] | Absent:
    """Return the newest sample of a metric. None is no zero: an idle queue sends nothing."""
    if sample is None or sample.problem:
        return Absent(
            f"{SQS_METRICS[quantity]}: {sample.problem if sample is not None else 'CloudWatch gave no result'}"
        )
    return sanitize(quantity, sample.value, sample.at)
