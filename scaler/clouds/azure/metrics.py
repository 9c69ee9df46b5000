"""Azure Monitor: metrics of resources, with their times.

One call reads up to 50 resources, or one resource by Resource Manager. A point without a value is missing, not zero.
The newest bucket is still filling, so it counts only once it has ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

from scaler.clouds.api_channel import Channel
from scaler.clouds.azure.account import AzureAccount
from scaler.clouds.azure.errors import refuse
from scaler.clouds.azure.session import APIS, Arm, identity
from scaler.clouds.batching import Batch
from scaler.clouds.rest import Body, Request, Rest, session
from scaler.clouds.timestamps import seconds_of, text_of
from scaler.ports import Context, Unavailable

READ: Final = "Microsoft.Insights/metrics/read"
VERSION: Final = "2023-10-01"
BUCKET_S: Final = 60
"""Smallest interval of Azure Monitor. Seconds."""
LOOK_BACK_S: Final = 600
"""Age up to which samples are read: they come some minutes late. Seconds."""
MAX_RESOURCES: Final = 50
"""Maximum resources in one call."""
MAX_SERIES: Final = 1000
"""Requested series of one metric and resource. Without it Azure returns ten and does not report the truncation."""


@dataclass(frozen=True, slots=True)
class AzureMetricPoint:
    """A value, and the end of its bucket (seconds since the Unix epoch)."""

    value: float
    at: float


@dataclass(frozen=True, slots=True)
class MetricsQuery:
    """A query for many resources.

    It covers the last `LOOK_BACK_S`, or `span` (seconds since the Unix epoch).
    """

    namespace: str
    names: tuple[str, ...]
    aggregation: str
    filter: str | None = None
    span: tuple[float, float] | None = None

    def query(self, now: float) -> dict[str, str]:
        since, until = self.span or (now - LOOK_BACK_S, now)
        parameters = {
            "api-version": VERSION,
            "metricnamespace": self.namespace,
            "metricnames": ",".join(self.names),
            "aggregation": self.aggregation,
            "interval": "PT1M",
            "starttime": text_of(since),
            "endtime": text_of(until),
            "top": str(MAX_SERIES),
        }
        return {**parameters, "filter": self.filter} if self.filter else parameters


class MetricsBatches:
    """Metrics of one region and subscription: equal queries for many resources share one call."""

    def __init__(self, rest: Rest, url: str, context: Context) -> None:
        self._rest = rest
        self._url = url
        self._clock = context.clock
        self._batch: Batch[tuple[MetricsQuery, str], Body] = Batch(
            context.clock, self._fetch, MAX_RESOURCES, cloud="Azure", group=itemgetter(0), split_refused=False
        )

    async def read(self, query: MetricsQuery, resource: str) -> Body:
        """Return the metrics of one resource. Raises port errors."""
        _, metrics = await self._batch.get((query, resource.lower()))
        if metrics is None:
            raise Unavailable(f"Azure {READ}: the response lacks {resource}")
        return metrics

    async def aclose(self) -> None:
        await self._batch.aclose()

    async def _fetch(
        self, keys: Sequence[tuple[MetricsQuery, str]], *, urgent: bool
    ) -> dict[tuple[MetricsQuery, str], Body]:
        query, resources = keys[0][0], [resource for _, resource in keys]
        request = Request(
            operation=READ,
            method="POST",
            url=self._url,
            about=f"{len(resources)} resources",
            query=query.query(self._clock.now()),
            body={"resourceids": resources},
        )
        values = (await self._rest.call(request, write=urgent, repeat=True)).body.get("values")
        if not isinstance(values, list):
            raise Unavailable(f"Azure {READ}: the response has no values")
        return {(query, str(v.get("resourceid")).lower()): v for v in values if isinstance(v, dict)}


async def batches(context: Context, account: AzureAccount, region: str, url: str | None) -> MetricsBatches:
    """Return the metrics client that all sources of this region and subscription share.

    Raises `Misconfigured`.
    """
    host = url or f"https://{region}.{account.endpoints.metrics}"
    http = await session(context, account.ca_file)
    tokens = (await identity(context, account)).tokens(f"https://{account.endpoints.metrics}/.default")
    channel = Channel(context, APIS["metrics"], (account.subscription_id, region))
    rest = Rest(http, tokens, channel, refuse, context.clock)

    return await context.shared(
        ("azure-metrics", account, host),
        lambda: aclosing(
            MetricsBatches(rest, f"{host}/subscriptions/{account.subscription_id}/metrics:getBatch", context)
        ),
    )


async def single(arm: Arm, action: str, path: str, query: Mapping[str, str], now: float) -> Body:
    """Return one resource's metrics from Resource Manager. Raises port errors."""
    span = f"{text_of(now - LOOK_BACK_S)}/{text_of(now)}"
    parameters = {"api-version": VERSION, "interval": "PT1M", "timespan": span, "top": str(MAX_SERIES), **query}
    return await arm.get(action, f"{path}/providers/Microsoft.Insights/metrics", parameters)


def newest(body: Body, name: str, aggregation: str, now: float) -> AzureMetricPoint | None:
    """Return the newest complete point of a metric with one series; None without one.

    Raises `Unavailable`.
    """
    points = [p for p in series(body, name, aggregation, now) if p is not None]
    return max(points, key=lambda p: p.at, default=None)


def series(body: Body, name: str, aggregation: str, now: float) -> list[AzureMetricPoint | None]:
    """Return the newest complete point of each series of a metric; None without one.

    Raises `Unavailable`.
    """
    return [point for _, point in series_by_dimensions(body, name, aggregation, now)]


def series_by_dimensions(
    body: Body, name: str, aggregation: str, now: float
) -> list[tuple[Mapping[str, str], AzureMetricPoint | None]]:
    """Return the same as `series`, each with its dimensions by their names in lower case.

    Raises `Unavailable`.
    """
    timeseries = metric(body, name).get("timeseries") or ()
    return [(_dimensions(item), _last(item, aggregation, now)) for item in timeseries if isinstance(item, Mapping)]


def _dimensions(item: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the dimensions of one series; malformed ones are left out."""
    values = item.get("metadatavalues") or ()
    pairs = [(d.get("name"), d.get("value")) for d in values if isinstance(d, Mapping)]
    return {str(n.get("value")).lower(): v for n, v in pairs if isinstance(n, Mapping) and isinstance(v, str)}


def metric(body: Body, name: str) -> Mapping[str, Any]:
    """Return one metric of a response. Raises `Unavailable`."""
    for metric_body in _metrics(body):
        if (metric_body.get("name") or {}).get("value") != name:
            continue
        if metric_body.get("errorCode") not in {None, "Success"}:
            raise Unavailable(
                f"Azure Monitor: {name}: {metric_body.get('errorCode')}: {metric_body.get('errorMessage')}"
            )
        return metric_body
    raise Unavailable(f"Azure Monitor: the response lacks {name}")


def _metrics(body: Body) -> list[Mapping[str, Any]]:
    metrics = body.get("value")
    if not isinstance(metrics, list):
        raise Unavailable("Azure Monitor: the response has no metrics")
    return [m for m in metrics if isinstance(m, Mapping)]


def _last(item: Mapping[str, Any], aggregation: str, now: float) -> AzureMetricPoint | None:
    """Return the newest point whose bucket has ended; None without one.

    Example: at 12:03:30 the bucket 12:03 ends at 12:04:00 and is still filling; the bucket 12:02 counts. A bucket
    that ends more than 60 s ahead comes from a clock ahead of this one, and counts too.
    """
    last: AzureMetricPoint | None = None
    for point in item.get("data") or ():
        value = point.get(aggregation)
        end = seconds_of(point.get("timeStamp"), float("nan")) + BUCKET_S
        is_filling = now < end <= now + BUCKET_S
        if value is not None and not is_filling and (last is None or end > last.at):
            number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")
            last = AzureMetricPoint(number, end)
    return last
