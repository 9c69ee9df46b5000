"""Requests and failures of target groups in the last settled minute, from CloudWatch.

The load balancer sends a count only for a minute with requests. Its number of hosts, which it always sends, shows that
the minute's metrics have arrived: then a missing count is 0. Without it, the minute is unknown.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Final

from policies.model.names import BackendName
from policies.model.route import BackendTraffic
from scaler.clouds.aws import metrics
from scaler.clouds.aws.account import AwsAccount
from scaler.clouds.aws.metrics import Query, Sample
from scaler.ports import Context, Unavailable
from scaler.routes.gateway_traffic import MeasuredTraffic
from scaler.routes.listener_rule import TargetGroup

NAMESPACE: Final = "AWS/ApplicationELB"
PERIOD_S: Final = 60
SETTLE_S: Final = 60
"""Time within which the load balancer's metrics of a minute arrive. Seconds."""
REQUESTS: Final = "RequestCount"
FAILURES: Final = ("HTTPCode_Target_5XX_Count", "TargetConnectionErrorCount")
ALWAYS_SENT: Final = "HealthyHostCount"
LATENCY: Final = "TargetResponseTime"
"""Metric of the time until a target begins its response, with percentiles. Seconds."""
COUNTS: Final = {REQUESTS: "Sum", ALWAYS_SENT: "Average", **dict.fromkeys(FAILURES, "Sum")}


class AlbTraffic:
    """Reader of the traffic. Each minute is read once, since CloudWatch bills each metric read."""

    def __init__(self, context: Context, account: AwsAccount, load_balancer: str, latency_quantile: float) -> None:
        self._context = context
        self._account = account
        self._load_balancer = load_balancer
        self._statistics = {**COUNTS, LATENCY: f"p{100 * latency_quantile:g}"}
        self._minute = -math.inf
        self._last = MeasuredTraffic()

    async def read(self, groups: Mapping[BackendName, TargetGroup]) -> MeasuredTraffic:
        """Return the traffic of the last settled minute; none where it has not arrived.

        Raises port errors.
        """
        minute = (self._context.clock.now() - PERIOD_S - SETTLE_S) // PERIOD_S * PERIOD_S
        if minute == self._minute and self._last.backends:
            return self._last
        queries = {
            (name, metric): self._query(group, metric) for name, group in groups.items() for metric in self._statistics
        }
        batch = await metrics.metrics(self._context, self._account, PERIOD_S)
        results = await asyncio.gather(*map(batch.get, queries.values()))
        values = {key: _value(sample, minute) for key, (_, sample) in zip(queries, results, strict=True)}
        has_arrived = any(math.isfinite(values[name, metric]) for name in groups for metric in (REQUESTS, ALWAYS_SENT))
        self._minute, self._last = minute, MeasuredTraffic()
        if has_arrived:
            self._last = MeasuredTraffic({name: _traffic(values, name) for name in groups}, float(PERIOD_S))
        return self._last

    def _query(self, group: TargetGroup, metric: str) -> Query:
        dimensions = (("LoadBalancer", self._load_balancer), ("TargetGroup", group.dimension))
        return Query(NAMESPACE, metric, dimensions, self._statistics[metric], PERIOD_S, SETTLE_S)


def _traffic(values: Mapping[tuple[BackendName, str], float], name: BackendName) -> BackendTraffic:
    """Return the traffic of a minute whose metrics have arrived.

    A missing count is 0, and a missing latency unknown.
    """
    counts = {metric: value if math.isfinite(value := values[name, metric]) else 0.0 for metric in COUNTS}
    requests, latency_s = counts[REQUESTS], values[name, LATENCY]
    failures = min(requests, sum(counts[metric] for metric in FAILURES))
    return BackendTraffic(requests, failures, latency_s if math.isfinite(latency_s) else None)


def _value(sample: Sample | None, minute: float) -> float:
    """Return the value of a minute; NaN where it has none.

    Raises `Unavailable` where CloudWatch failed.
    """
    if sample is None:
        raise Unavailable("AWS cloudwatch:GetMetricData: no result for a metric of the load balancer")
    if sample.problem:
        if not sample.complete:
            raise Unavailable(f"AWS cloudwatch:GetMetricData: {sample.problem}")
        return math.nan
    if isinstance(sample.value, bool) or not isinstance(sample.value, int | float) or not sample.value >= 0.0:
        raise Unavailable("AWS cloudwatch:GetMetricData: malformed response: a count is not a number of at least 0")
    return float(sample.value) if sample.at == minute else math.nan
