"""CloudWatch metrics for all workloads of an account: what falls due together goes in one call of up to 500 queries."""

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

MOST_QUERIES: Final = 500
"""That one GetMetricData takes."""
PERIODS_BACK: Final = 5
LEAST_BACK_S: Final = 600.0
"""How far back a sample is looked for: services send theirs up to some minutes late."""


@dataclass(frozen=True, slots=True)
class Query:
    """One metric's statistic over periods of so many seconds."""

    namespace: str
    metric: str
    dimensions: tuple[tuple[str, str], ...]
    stat: str
    period_s: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A period's value. `at` is when the period began, as CloudWatch tells it; `problem` says why there is none."""

    value: object = None
    at: float = 0.0
    problem: str = ""


async def metrics(context: Context, account: AwsAccount, period_s: int) -> Batch[Query, Sample]:
    """Return the newest complete sample of each query of this period.

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
            MetricDataQueries=[_queries(f"q{i}", query) for i, query in enumerate(queries)],
            StartTime=datetime.fromtimestamp(end - max(LEAST_BACK_S, PERIODS_BACK * period_s), UTC),
            EndTime=datetime.fromtimestamp(end, UTC),
            ScanBy="TimestampDescending",
        )
        return {query: _newest(f"q{i}", results, now - period_s) for i, query in enumerate(queries)}

    return await batch(context, ("aws-metrics", account, period_s), fetch, MOST_QUERIES)


def _queries(name: str, query: Query) -> dict[str, Any]:
    dimensions = [{"Name": n, "Value": v} for n, v in query.dimensions]
    metric = {"Namespace": query.namespace, "MetricName": query.metric, "Dimensions": dimensions}
    return {"Id": name, "MetricStat": {"Metric": metric, "Period": query.period_s, "Stat": query.stat}}


def _newest(name: str, results: Sequence[Mapping[str, Any]], until: float) -> Sample:
    """Return the newest sample of a period that began by `until`.

    The sum of a running period is too low.
    """
    mine = [r for r in results if r.get("Id") == name]
    if any(len(r.get("Timestamps", ())) != len(r.get("Values", ())) for r in mine):
        return Sample(problem="CloudWatch told values without their times, or times without values")
    samples = [
        (at.timestamp(), value)
        for r in mine
        for at, value in zip(r.get("Timestamps", ()), r.get("Values", ()), strict=False)
        if isinstance(at, datetime) and at.timestamp() <= until
    ]
    if samples:
        at, value = max(samples, key=lambda sample: sample[0])
        return Sample(value, at)
    statuses = {str(r.get("StatusCode")) for r in mine} - {"Complete", "PartialData"}
    if statuses or not mine:
        return Sample(problem=f"CloudWatch could not tell it: {', '.join(sorted(statuses)) or 'no result'}")
    return Sample(problem="CloudWatch has no sample of a whole period in the last minutes")
