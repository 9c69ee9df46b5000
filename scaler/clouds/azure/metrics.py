"""Azure Monitor: the metrics of up to 50 resources in one call, or of one by Resource Manager; points with their times.

A point that carries no value is missing, not zero. The newest bucket is still filling: it counts when it has ended.
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
"""The finest that Azure Monitor keeps."""
LOOK_BACK_S: Final = 600
"""How far back a sample is looked for: they come some minutes late."""
MOST_RESOURCES: Final = 50
"""That one call may name."""
MOST_SERIES: Final = 1000
"""Of one metric and resource. Left out, Azure gives ten and says nothing of the rest."""


@dataclass(frozen=True, slots=True)
class AzureMetricPoint:
    """A value, and the end of the time that it is of."""

    value: float
    at: float


@dataclass(frozen=True, slots=True)
class MetricsQuery:
    """What is asked alike of many resources: of the last minutes, or of a `span` (seconds since the Unix epoch)."""

    namespace: str
    names: tuple[str, ...]
    aggregation: str
    filter: str | None = None
    span: tuple[float, float] | None = None

    def query(self, now: float) -> dict[str, str]:
        since, until = self.span or (now - LOOK_BACK_S, now)
        found = {
            "api-version": VERSION,
            "metricnamespace": self.namespace,
            "metricnames": ",".join(self.names),
            "aggregation": self.aggregation,
            "interval": "PT1M",
            "starttime": text_of(since),
            "endtime": text_of(until),
            "top": str(MOST_SERIES),
        }
        return {**found, "filter": self.filter} if self.filter else found


class MetricsBatches:
    """Metrics of one region and subscription: equal queries of many resources go in one call."""

    def __init__(self, rest: Rest, url: str, context: Context) -> None:
        self._rest = rest
        self._url = url
        self._clock = context.clock
        self._batch: Batch[tuple[MetricsQuery, str], Body] = Batch(
            context.clock, self._fetch, MOST_RESOURCES, cloud="Azure", group=itemgetter(0), halves=False
        )

    async def ask(self, query: MetricsQuery, resource: str) -> Body:
        """Return the metrics of one resource. Raises port errors."""
        _, found = await self._batch.get((query, resource.lower()))
        if found is None:
            raise Unavailable(f"Azure {READ}: the answer lacks {resource}")
        return found

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
            raise Unavailable(f"Azure {READ}: an answer without values")
        return {(query, str(v.get("resourceid")).lower()): v for v in values if isinstance(v, dict)}


async def batches(context: Context, account: AzureAccount, region: str, url: str | None) -> MetricsBatches:
    """Return what all sources of this region and subscription query through.

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
    """Return one resource's metrics, by Resource Manager. Raises port errors."""
    span = f"{text_of(now - LOOK_BACK_S)}/{text_of(now)}"
    parameters = {"api-version": VERSION, "interval": "PT1M", "timespan": span, "top": str(MOST_SERIES), **query}
    return await arm.get(action, f"{path}/providers/Microsoft.Insights/metrics", parameters)


def newest(body: Body, name: str, aggregation: str, now: float) -> AzureMetricPoint | None:
    """Return the newest ended point of a metric with one series; None where there is none.

    Raises `Unavailable`.
    """
    found = [p for p in series(body, name, aggregation, now) if p is not None]
    return max(found, key=lambda p: p.at, default=None)


def series(body: Body, name: str, aggregation: str, now: float) -> list[AzureMetricPoint | None]:
    """Return the newest ended point of each series of a metric, None where it has none.

    Raises `Unavailable`.
    """
    timeseries = metric(body, name).get("timeseries") or ()
    return [_last(one, aggregation, now) for one in timeseries if isinstance(one, Mapping)]


def metric(body: Body, name: str) -> Mapping[str, Any]:
    """Return one metric of an answer. Raises `Unavailable`."""
    for one in _metrics(body):
        if (one.get("name") or {}).get("value") != name:
            continue
        if one.get("errorCode") not in {None, "Success"}:
            raise Unavailable(f"Azure Monitor: {name}: {one.get('errorCode')}: {one.get('errorMessage')}")
        return one
    raise Unavailable(f"Azure Monitor: the answer lacks {name}")


def _metrics(body: Body) -> list[Mapping[str, Any]]:
    found = body.get("value")
    if not isinstance(found, list):
        raise Unavailable("Azure Monitor: an answer without metrics")
    return [m for m in found if isinstance(m, Mapping)]


def _last(one: Mapping[str, Any], aggregation: str, now: float) -> AzureMetricPoint | None:
    """Return the newest point whose bucket has ended; None where there is none.

    A bucket further ahead is kept: its clock is not ours to correct.
    """
    last: AzureMetricPoint | None = None
    for point in one.get("data") or ():
        value = point.get(aggregation)
        end = seconds_of(point.get("timeStamp"), float("nan")) + BUCKET_S
        fills = now < end <= now + BUCKET_S
        if value is not None and not fills and (last is None or end > last.at):
            number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")
            last = AzureMetricPoint(number, end)
    return last
