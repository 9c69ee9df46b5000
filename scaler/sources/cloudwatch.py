"""Amazon CloudWatch: any metric that AWS or an agent on the nodes sends.

Simultaneous reads of several workloads share one GetMetricData call of up to 500 metrics. CloudWatch bills by metric,
so each is read once a period. A sample covers a whole period, and its time is the period's beginning; the current
period is omitted. A missing sample is not zero: many metrics are sent only on activity.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from policies.model import Absent, Fresh
from scaler.clouds.aws import metrics as aws_metrics
from scaler.clouds.aws.metrics import Query, Sample
from scaler.clouds.response_validation import validated
from scaler.config.kinds.aws_sources import CloudWatch, CloudWatchMetric
from scaler.ports import Context, PortError, Unavailable
from scaler.sources.sanitize import sanitize


async def open_cloudwatch(spec: CloudWatch, context: Context) -> CloudWatchSource:
    """Open the source. Raises `Misconfigured`."""
    source = CloudWatchSource(spec, context)
    with contextlib.suppress(Unavailable):  # the credentials' provider may not be up yet: every sample retries
        await source.connect()
    return source


class CloudWatchSource:
    """The source's port. A reading is valid until its metric's next period is complete."""

    def __init__(self, spec: CloudWatch, context: Context) -> None:
        self._account = spec.account
        self._metrics = spec.all_metrics()
        self._context = context
        self._clock = context.clock
        self._readings: dict[str, Fresh[float] | Absent] = {}
        self._due: dict[str, float] = dict.fromkeys(self._metrics, float("-inf"))

    async def connect(self) -> None:
        """Open the clients. Raises `Unavailable` or `Misconfigured`."""
        for metric in self._metrics.values():
            await aws_metrics.metrics(self._context, self._account, metric.period_s)

    @validated("AWS")
    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        now = self._clock.now()
        due = [q for q, at in self._due.items() if now >= at or at - now > 2 * self._metrics[q].period_s]
        results = await asyncio.gather(*(self._read(q) for q in due), return_exceptions=True)
        failed = {q: r for q, r in zip(due, results, strict=True) if isinstance(r, BaseException)}
        for quantity, error in failed.items():  # after all have ended
            if len(failed) == len(self._due) or not isinstance(error, PortError):
                raise error
            self._readings[quantity] = Absent(str(error))  # a missing metric must not hide the others
        return dict(self._readings)

    async def _read(self, quantity: str) -> None:
        metric = self._metrics[quantity]
        batch = await aws_metrics.metrics(self._context, self._account, metric.period_s)
        requested_at, sample = await batch.get(_query(metric))
        if sample is not None and sample.complete and metric.if_absent == "zero":
            sample = Sample(0.0, requested_at - requested_at % metric.period_s - metric.period_s)
        self._readings[quantity] = reading(quantity, sample, metric.divide_by)
        self._due[quantity] = requested_at - requested_at % metric.period_s + metric.period_s


def reading(quantity: str, sample: Sample | None, divide_by: float) -> Fresh[float] | Absent:
    """Return a sample as a reading, in the quantity's unit."""
    if sample is None or sample.problem:
        return Absent(sample.problem if sample is not None else "CloudWatch returned no result")
    value = sanitize("", sample.value, sample.at)
    return sanitize(quantity, value.value / divide_by, sample.at) if isinstance(value, Fresh) else value


def _query(metric: CloudWatchMetric) -> Query:
    return Query(
        metric.namespace, metric.metric, tuple(sorted(metric.dimensions.items())), metric.stat, metric.period_s
    )
