"""Azure Monitor: the metrics of up to 50 resources in one call, or of one by Resource Manager; points with their times.

A point that carries no value is missing, not zero. The newest bucket is still filling: it counts when it has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from scaler.clouds.api_channel import Channel
from scaler.clouds.azure.account import AzureAccount
from scaler.clouds.azure.errors import refuse, validated
from scaler.clouds.azure.session import APIS, Arm, identity
from scaler.clouds.azure.virtual_machines import moment
from scaler.clouds.rest import Body, Request, Rest, session
from scaler.clouds.singleflight import cancelled
from scaler.ports import Context, PortError, Unavailable

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
GATHER_S: Final = 0.02
"""The first question waits so long for others of the same kind."""


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
            "starttime": stamp(since),
            "endtime": stamp(until),
            "top": str(MOST_SERIES),
        }
        return {**found, "filter": self.filter} if self.filter else found


@dataclass(slots=True)
class _Batch:
    waiting: dict[str, list[asyncio.Future[Body]]] = field(default_factory=dict)


class Batches:
    """Metrics of one region and subscription: questions asked at once go together."""

    def __init__(self, rest: Rest, url: str, context: Context) -> None:
        self._rest = rest
        self._url = url
        self._clock = context.clock
        self._gathering: dict[MetricsQuery, _Batch] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, asked: MetricsQuery, resource: str) -> Body:
        """The answer for one resource. Raises port errors."""
        batch = self._gathering.get(asked)
        if batch is None or (len(batch.waiting) >= MOST_RESOURCES and resource.lower() not in batch.waiting):
            batch = self._gathering[asked] = _Batch()
            task = asyncio.create_task(self._send(asked, batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        future: asyncio.Future[Body] = asyncio.get_running_loop().create_future()
        batch.waiting.setdefault(resource.lower(), []).append(future)
        return await future

    async def _send(self, asked: MetricsQuery, batch: _Batch) -> None:
        await asyncio.sleep(GATHER_S)
        if self._gathering.get(asked) is batch:
            del self._gathering[asked]
        try:
            answers = await self._call(asked, list(batch.waiting))
            for resource, futures in batch.waiting.items():
                for future in _open([futures]):
                    if resource in answers:
                        future.set_result(answers[resource])
                    else:
                        future.set_exception(Unavailable(f"Azure {READ}: the answer lacks {resource}"))
        except PortError as e:
            for future in _open(batch.waiting.values()):
                future.set_exception(e)
        finally:
            for future in _open(batch.waiting.values()):
                future.cancel()

    @validated
    async def _call(self, asked: MetricsQuery, resources: list[str]) -> dict[str, Body]:
        request = Request(
            operation=READ,
            method="POST",
            url=self._url,
            about=f"{len(resources)} resources",
            query=asked.query(self._clock.now()),
            body={"resourceids": resources},
        )
        body = (await self._rest.call(request, repeat=True)).body
        values = body.get("values")
        if not isinstance(values, list):
            raise Unavailable(f"Azure {READ}: an answer without values")
        return {str(v.get("resourceid")).lower(): v for v in values if isinstance(v, dict)}

    async def close(self) -> None:
        await cancelled(*self._tasks)


def _open(many: Iterable[list[asyncio.Future[Body]]]) -> Iterator[asyncio.Future[Body]]:
    """Those whose asker still waits."""
    return (future for futures in many for future in futures if not future.done())


async def batches(context: Context, account: AzureAccount, region: str, url: str | None) -> Batches:
    """What all sources of this region and subscription ask through. Raises `Misconfigured`."""
    host = url or f"https://{region}.{account.endpoints.metrics}"
    http = await session(context, account.ca_file)
    tokens = (await identity(context, account)).tokens(f"https://{account.endpoints.metrics}/.default")
    channel = Channel(context, APIS["metrics"], (account.subscription_id, region))
    rest = Rest(http, tokens, channel, refuse, context.clock)

    @asynccontextmanager
    async def opening() -> AsyncIterator[Batches]:
        made = Batches(rest, f"{host}/subscriptions/{account.subscription_id}/metrics:getBatch", context)
        try:
            yield made
        finally:
            await made.close()

    return await context.shared(("azure-metrics", account, host), opening)


async def single(arm: Arm, action: str, path: str, query: Mapping[str, str], now: float) -> Body:
    """One resource's metrics by Resource Manager. Raises port errors."""
    span = f"{stamp(now - LOOK_BACK_S)}/{stamp(now)}"
    asked = {"api-version": VERSION, "interval": "PT1M", "timespan": span, "top": str(MOST_SERIES), **query}
    return await arm.get(action, f"{path}/providers/Microsoft.Insights/metrics", asked)


def stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def newest(body: Body, name: str, aggregation: str, now: float) -> AzureMetricPoint | None:
    """The newest ended point of a metric with one series; None where there is none. Raises `Unavailable`."""
    found = [p for p in series(body, name, aggregation, now) if p is not None]
    return max(found, key=lambda p: p.at, default=None)


def series(body: Body, name: str, aggregation: str, now: float) -> list[AzureMetricPoint | None]:
    """The newest ended point of each of a metric's series, None where it has none. Raises `Unavailable`."""
    told = metric(body, name).get("timeseries") or ()
    return [_last(one, aggregation, now) for one in told if isinstance(one, Mapping)]


def metric(body: Body, name: str) -> Mapping[str, Any]:
    """A metric of an answer. Raises `Unavailable`."""
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
    """The bucket that fills now is left out. One further ahead is kept: its clock is not ours to mend."""
    last: AzureMetricPoint | None = None
    for point in one.get("data") or ():
        value = point.get(aggregation)
        end = moment(point.get("timeStamp"), float("nan")) + BUCKET_S
        fills = now < end <= now + BUCKET_S
        if value is not None and not fills and (last is None or end > last.at):
            number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")
            last = AzureMetricPoint(number, end)
    return last
