"""Amazon CloudWatch: any metric that AWS, or an agent on the nodes, sends there.

What several workloads ask in the same moment goes in one GetMetricData, of up to 500 metrics. CloudWatch is billed by
the metric asked for, so each is asked once a period. A sample speaks of a whole period, and is as old as its beginning;
the period under way is left out. No sample is no zero: many metrics are sent only while something happens.
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
    with contextlib.suppress(Unavailable):  # what lends credentials is not up yet: every sample tries again
        await source.connect()
    return source


class CloudWatchSource:
    """The source's port. A reading stands until its metric's next period is complete."""

    def __init__(self, spec: CloudWatch, context: Context) -> None:
        self._spec = spec
        self._context = context
        self._clock = context.clock
        self._known: dict[str, Fresh[float] | Absent] = {}
        self._due: dict[str, float] = dict.fromkeys(spec.metrics, float("-inf"))

    async def connect(self) -> None:
        """Open what the samples will use. Raises `Unavailable` or `Misconfigured`."""
        for metric in self._spec.metrics.values():
            await aws_metrics.metrics(self._context, self._spec.account, metric.period_s)

    @validated("AWS")
    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        now = self._clock.now()
        due = [q for q, at in self._due.items() if now >= at or at - now > 2 * self._spec.metrics[q].period_s]
        results = await asyncio.gather(*(self._read(q) for q in due), return_exceptions=True)
        failed = {q: r for q, r in zip(due, results, strict=True) if isinstance(r, BaseException)}
        for quantity, error in failed.items():  # only now: all have ended
            if len(failed) == len(self._due) or not isinstance(error, PortError):
                raise error
            self._known[quantity] = Absent(str(error))  # what one cannot tell must not hide the others
        return dict(self._known)

    async def _read(self, quantity: str) -> None:
        metric = self._spec.metrics[quantity]
        asked = await aws_metrics.metrics(self._context, self._spec.account, metric.period_s)
        at, sample = await asked.get(_query(metric))
        self._known[quantity] = reading(quantity, sample, metric.divide_by)
        self._due[quantity] = at - at % metric.period_s + metric.period_s


def reading(quantity: str, sample: Sample | None, divide_by: float) -> Fresh[float] | Absent:
    """Return a sample as a reading, in our unit."""
    if sample is None or sample.problem:
        return Absent(sample.problem if sample is not None else "CloudWatch gave no result")
    found = sanitize("", sample.value, sample.at)
    return sanitize(quantity, found.value / divide_by, sample.at) if isinstance(found, Fresh) else found


def _query(metric: CloudWatchMetric) -> Query:
    return Query(
        metric.namespace, metric.metric, tuple(sorted(metric.dimensions.items())), metric.stat, metric.period_s
    )
