"""Amazon SQS: visible, in-flight and delayed messages, and the age of the oldest.

Counts come from GetQueueAttributes, which is near real time but approximate: within a minute after the producers' last
message they may be inaccurate. The oldest message's age and a FIFO queue's groups in flight are CloudWatch metrics,
with a sample a minute, some minutes late, and none while the queue is idle; if all counts are zero, they are zero too.
They are read once a minute, for all queues of an account together.
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
"""Sampling period: SQS sends CloudWatch a sample a minute, so more frequent reads only cost money. Seconds."""
METRICS_SHARE: Final = 0.5
"""Share of the deadline for CloudWatch: its timeout must not cost the counts."""


async def open_sqs(spec: Sqs, context: Context) -> SqsSource:
    """Open the source. Raises `Misconfigured`."""
    source = SqsSource(spec, context)
    with contextlib.suppress(Unavailable):  # the credentials' provider may not be up yet: every sample retries
        await source.connect()
    return source


class SqsSource:
    """The source's port."""

    def __init__(self, spec: Sqs, context: Context) -> None:
        self._spec = spec
        self._context = context
        self._clock = context.clock
        self._sqs: AwsService | None = None
        self._metrics: dict[str, Fresh[float] | Absent] = {}
        self._metrics_due = float("-inf") if spec.metrics() else float("inf")
        self._metrics_failed = False

    async def connect(self) -> None:
        """Open the clients. Raises `Unavailable` or `Misconfigured`."""
        await self._queue()
        if self._spec.metrics():
            await aws_metrics.metrics(self._context, self._spec.located, PERIOD_S)

    @validated("AWS")
    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        readings: dict[str, Fresh[float] | Absent] = {}
        if self._clock.now() < self._metrics_due:
            readings = {**await self._counts(), **self._metrics}
        else:
            for result in await asyncio.gather(self._counts(), self._recent_metrics(), return_exceptions=True):
                if isinstance(result, BaseException):
                    raise result  # after both have ended
                readings.update(result)
        if self._metrics_failed:
            return readings
        return {q: _empty_queue_metric(q, readings) or reading for q, reading in readings.items()}

    async def _counts(self) -> dict[str, Fresh[float] | Absent]:
        sqs = await self._queue()
        requested_at = self._clock.now()  # the counts are no older than this
        request: dict[str, Any] = {"QueueUrl": self._spec.queue_url, "AttributeNames": list(SQS_COUNTS.values())}
        response = await sqs.call("GetQueueAttributes", self._spec.queue_name, **request)
        attributes = response.get("Attributes") if isinstance(response, dict) else None
        if not isinstance(attributes, dict):
            raise Unavailable(f"AWS sqs:GetQueueAttributes of {self._spec.queue_name}: the response has no attributes")
        return {q: _count(q, attributes.get(name), requested_at) for q, name in SQS_COUNTS.items()}

    async def _recent_metrics(self) -> Mapping[str, Fresh[float] | Absent]:
        """Return the metrics, which are due; the last ones are kept while CloudWatch fails."""
        self._metrics_due = self._clock.now() + PERIOD_S
        limit_s = METRICS_SHARE * self._context.deadline_s
        try:
            async with asyncio.timeout(limit_s):
                self._metrics = await self._read_metrics()
            self._metrics_failed = False
        except TimeoutError:
            self._keep_metrics(f"CloudWatch: no response within {limit_s:g} s")
        except PortError as e:
            self._keep_metrics(str(e))
        return self._metrics

    def _keep_metrics(self, error: str) -> None:
        self._metrics_failed = True
        previous = {q: m for q, m in self._metrics.items() if isinstance(m, Fresh)}
        self._metrics = {q: previous.get(q, Absent(error)) for q in self._spec.metrics()}

    async def _read_metrics(self) -> dict[str, Fresh[float] | Absent]:
        shared = await aws_metrics.metrics(self._context, self._spec.located, PERIOD_S)
        name, quantities = self._spec.queue_name, self._spec.metrics()
        samples = await asyncio.gather(
            *(
                shared.get(aws_metrics.Query("AWS/SQS", SQS_METRICS[q], (("QueueName", name),), "Maximum", PERIOD_S))
                for q in quantities
            )
        )
        return {q: _metric_reading(q, sample) for q, (_, sample) in zip(quantities, samples, strict=True)}

    async def _queue(self) -> AwsService:
        """Return the client, opened once."""
        if self._sqs is None:
            self._sqs = await session.service(self._context, "sqs", self._spec.located)
        return self._sqs


def _count(quantity: str, value: object, at: float) -> Fresh[float] | Absent:
    """Return an attribute as a count of messages, or why it is invalid."""
    if value is None:
        return Absent(f"the response has no {SQS_COUNTS[quantity]}")
    reading = sanitize(quantity, value, at)
    if isinstance(reading, Fresh) and not reading.value.is_integer():
        return Absent(f"{value!r} is not a whole number of messages")
    return reading


def _empty_queue_metric(quantity: str, readings: Mapping[str, Fresh[float] | Absent]) -> Fresh[float] | None:
    """Return zero for a metric that an idle queue does not send, if all its counts are zero.

    Otherwise return None.
    """
    if quantity not in SQS_METRICS:
        return None
    counts = [readings[count] for count in SQS_COUNTS]
    empty = all(isinstance(count, Fresh) and count.value == 0 for count in counts)
    return counts[0] if empty and isinstance(counts[0], Fresh) else None


def _metric_reading(quantity: str, sample: Sample | None) -> Fresh[float] | Absent:
    """Return a metric's newest sample. A missing one is not zero: an idle queue sends nothing."""
    if sample is None or sample.problem:
        return Absent(
            f"{SQS_METRICS[quantity]}: {sample.problem if sample is not None else 'CloudWatch returned no result'}"
        )
    return sanitize(quantity, sample.value, sample.at)
