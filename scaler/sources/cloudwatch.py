"""Amazon CloudWatch: any metric that AWS, or an agent on the nodes, sends there.

What several workloads ask in the same moment goes in one GetMetricData, of up to 500 metrics. CloudWatch is billed by
the metric asked for, so each is asked once a period. A sample speaks of a whole period, and is as old as its beginning;
the period under way is left out. No sample is no zero: many metrics are sent only while something happens.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final

from policies.model import Absent, Fresh
from policies.model.field_metadata import FieldMetadata
from scaler.clouds.aws.account import AwsAccount
from scaler.clouds.response_validation import validated
from scaler.ports import Context, PortError, Unavailable
from scaler.sources.sanitize import sanitize

if TYPE_CHECKING:
    from scaler.clouds.aws.metrics import Query, Sample

HIGH_RESOLUTION: Final = frozenset({1, 5, 10, 20, 30})
"""Periods below a minute that CloudWatch knows. Seconds."""
STAT: Final = r"^(Average|Sum|Minimum|Maximum|SampleCount|IQM|(p|tm|wm|tc|ts)[0-9]{1,2}(\.[0-9]{1,10})?)$"


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

    async def open(self, context: Context) -> CloudWatchSource:
        source = CloudWatchSource(self, context)
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
        from scaler.clouds.aws import metrics as aws_metrics  # noqa: PLC0415 - a process without CloudWatch does without the SDK

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
        from scaler.clouds.aws import metrics as aws_metrics  # noqa: PLC0415 - as above

        metric = self._spec.metrics[quantity]
        asked = await aws_metrics.metrics(self._context, self._spec.account, metric.period_s)
        at, sample = await asked.get(_query(metric))
        self._known[quantity] = reading(quantity, sample, metric.divide_by)
        self._due[quantity] = at - at % metric.period_s + metric.period_s


def reading(quantity: str, sample: Sample | None, divide_by: float) -> Fresh[float] | Absent:
    """A sample as a reading, in our unit."""
    if sample is None or sample.problem:
        return Absent(sample.problem if sample is not None else "CloudWatch gave no result")
    found = sanitize("", sample.value, sample.at)
    return sanitize(quantity, found.value / divide_by, sample.at) if isinstance(found, Fresh) else found


def _query(metric: CloudWatchMetric) -> Query:
    from scaler.clouds.aws.metrics import Query  # noqa: PLC0415 - as above

    return Query(
        metric.namespace, metric.metric, tuple(sorted(metric.dimensions.items())), metric.stat, metric.period_s
    )
