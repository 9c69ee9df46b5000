"""CloudWatch metrics for all workloads of an account.

Simultaneous queries share one call of up to 500 queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from scaler.clouds.aws import session
from scaler.clouds.batching import Batch, batch

if TYPE_CHECKING:
    from scaler.clouds.aws.account import AwsAccount
    from scaler.ports import Context

MAX_QUERIES: Final = 500
"""Maximum queries in one GetMetricData call."""
PERIODS_BACK: Final = 5
MIN_LOOK_BACK_S: Final = 600.0
"""Minimum age up to which samples are read: services send them up to some minutes late. Seconds."""


@dataclass(frozen=True, slots=True)
class Query:
    """One metric's statistic over periods of `period_s` seconds.

    `settle_s`: time after the end of a period from which its value is final. Seconds.
    """

    namespace: str
    metric: str
    dimensions: tuple[tuple[str, str], ...]
    stat: str
    period_s: int
    settle_s: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """A period's value.

    `at` is the period's beginning as CloudWatch reports it; `problem` is why there is no value, and `complete` whether
    CloudWatch reported that it has all data.
    """

    value: object = None
    at: float = 0.0
    problem: str = ""
    complete: bool = False


async def metrics(context: Context, account: AwsAccount, period_s: int) -> Batch[Query, Sample]:
    """Return the batch that reads the newest complete sample of queries with this period.

    Raises `Unavailable` or `Misconfigured`.
    """
    cloudwatch = await session.service(context, "cloudwatch", account)

    async def fetch(queries: Sequence[Query], *, urgent: bool) -> dict[Query, Sample]:
        now = context.clock.now()
        end = now - now % period_s + period_s
        results = await cloudwatch.pages(
            "GetMetricData",
            "MetricDataResults",
            f"{len(queries)} metrics",
            urgent=urgent,
            MetricDataQueries=[_metric_query(f"q{i}", query) for i, query in enumerate(queries)],
            StartTime=datetime.fromtimestamp(end - max(MIN_LOOK_BACK_S, PERIODS_BACK * period_s), UTC),
            EndTime=datetime.fromtimestamp(end, UTC),
            ScanBy="TimestampDescending",
        )
        return {query: _newest(f"q{i}", results, now - period_s - query.settle_s) for i, query in enumerate(queries)}

    return await batch(context, ("aws-metrics", account, period_s), fetch, MAX_QUERIES)


def _metric_query(name: str, query: Query) -> dict[str, Any]:
    dimensions = [{"Name": n, "Value": v} for n, v in query.dimensions]
    metric = {"Namespace": query.namespace, "MetricName": query.metric, "Dimensions": dimensions}
    return {"Id": name, "MetricStat": {"Metric": metric, "Period": query.period_s, "Stat": query.stat}}


def _newest(name: str, results: Sequence[Mapping[str, Any]], until: float) -> Sample:
    """Return the newest sample of a period that began by `until`.

    The sum of a running period is too low.
    """
    matching = [r for r in results if r.get("Id") == name]
    if any(len(r.get("Timestamps", ())) != len(r.get("Values", ())) for r in matching):
        return Sample(problem="CloudWatch returned values without timestamps, or timestamps without values")
    samples = [
        (at.timestamp(), value)
        for r in matching
        for at, value in zip(r.get("Timestamps", ()), r.get("Values", ()), strict=False)
        if isinstance(at, datetime) and at.timestamp() <= until
    ]
    if samples:
        at, value = max(samples, key=lambda sample: sample[0])
        return Sample(value, at)
    statuses = {str(r.get("StatusCode")) for r in matching}
    if (failed := statuses - {"Complete", "PartialData"}) or not matching:
        return Sample(problem=f"CloudWatch returned no complete data: {', '.join(sorted(failed)) or 'no result'}")
    problem = "CloudWatch has no sample of a complete period in the last minutes"
    return Sample(problem=problem, complete=statuses == {"Complete"})
