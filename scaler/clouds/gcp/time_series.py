"""Cloud Monitoring's time series: lists with each sample's own time, and one list for all subscriptions of a project.

A metric that has no sample is no zero: an answer without a series tells nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from scaler.clouds.gcp import session
from scaler.clouds.gcp.project import GcpProject
from scaler.clouds.response_validation import MALFORMED, one_line, validated
from scaler.clouds.rest import Body
from scaler.clouds.singleflight import Singleflight
from scaler.ports import Clock, Context, Unavailable

LIST: Final = "monitoring.timeSeries.list"
"""Grants PromQL too."""
PAGES: Final = 20
PAGE: Final = 10_000
AT_ONCE: Final = 50
"""Subscriptions in one filter: filters are limited in length, at some thousand characters."""
LOOK_BACK_S: Final = 900.0
"""How far back a sample of a subscription is looked for: some minutes until it is shown, and outages."""
NOTHING: Final = (float("-inf"), frozenset[str]())


@dataclass(frozen=True, slots=True)
class GcpMetricPoint:
    """A sample: when it was taken, and the value as it was sent."""

    at: float
    value: object


@dataclass(frozen=True, slots=True)
class TimeSeries:
    """One series, its newest sample first."""

    labels: Mapping[str, str]
    resource: Mapping[str, str]
    points: tuple[GcpMetricPoint, ...]


@dataclass(frozen=True, slots=True)
class SeriesPage:
    """What a filter gave. `partial` says what could not be asked."""

    series: tuple[TimeSeries, ...]
    partial: str = ""


class Monitoring:
    """The time series of one project."""

    def __init__(self, monitoring: session.GcpService, clock: Clock, project: str) -> None:
        self._monitoring = monitoring
        self._clock = clock
        self._project = project

    async def list(
        self, about: str, chosen: str, since: float, until: float, aggregation: Mapping[str, str] | None = None
    ) -> SeriesPage:
        """Return all series that a filter selects, with their samples in (since, until].

        Raises port errors.
        """
        query = {
            "filter": chosen,
            "interval.startTime": _stamp(since),
            "interval.endTime": _stamp(until),
            "view": "FULL",
            "pageSize": str(PAGE),
            **{f"aggregation.{key}": value for key, value in (aggregation or {}).items()},
        }
        found: list[TimeSeries] = []
        errors: list[str] = []
        for _ in range(PAGES):
            body = await self._monitoring.call(LIST, f"/v3/projects/{self._project}/timeSeries", about, query=query)
            try:
                found += [_series(one) for one in body.get("timeSeries") or ()]
            except MALFORMED as e:
                raise Unavailable(f"GCP {LIST} of {about}: an answer that we do not understand: {e!r}") from e
            errors += [str(e.get("message", e)) for e in body.get("executionErrors") or () if isinstance(e, Mapping)]
            if not body.get("nextPageToken"):
                return SeriesPage(tuple(found), one_line("; ".join(errors)))
            query["pageToken"] = str(body["nextPageToken"])
        raise Unavailable(f"GCP {LIST} of {about}: more than {PAGES * PAGE} series: choose fewer, or reduce them")

    async def promql(self, about: str, promql: str) -> Body:
        """Return the answer of an instant query now, as Prometheus gives it. Raises port errors."""
        path = f"/v1/projects/{self._project}/location/global/prometheus/api/v1/query"
        return await self._monitoring.call(LIST, path, about, query={"query": promql})


class Gauge:
    """A metric of subscriptions: one list for all that are read here."""

    def __init__(self, monitoring: Monitoring, clock: Clock, metric: str) -> None:
        self._monitoring = monitoring
        self._clock = clock
        self._metric = metric
        self._subscriptions: set[str] = set()
        self._read: tuple[float, frozenset[str]] = NOTHING
        self._series: dict[str, list[TimeSeries]] = {}
        self._partial = ""
        self._flights = Singleflight()

    async def aclose(self) -> None:
        await self._flights.aclose()

    async def of(self, subscription: str, every_s: float) -> SeriesPage:
        """Return the series of one subscription, at most `every_s` seconds old. Raises port errors."""
        self._subscriptions.add(subscription)
        asked_at = self._clock.now()
        while not self._is_recent(subscription, asked_at, every_s):
            await self._flights.share("all", self._read_all)
        return SeriesPage(tuple(self._series.get(subscription, ())), self._partial)

    def _is_recent(self, subscription: str, asked_at: float, every_s: float) -> bool:
        """Return whether it was read since `asked_at`, or less than `every_s` seconds before."""
        at, covered = self._read
        return subscription in covered and (at >= asked_at or asked_at - at < every_s)

    @validated("GCP")
    async def _read_all(self) -> None:
        now, names = self._clock.now(), sorted(self._subscriptions)
        series: dict[str, list[TimeSeries]] = {}
        partial = list[str]()
        for first in range(0, len(names), AT_ONCE):
            listed = await self._monitoring.list(
                self._metric, _filter(self._metric, names[first : first + AT_ONCE]), now - LOOK_BACK_S, now
            )
            for one in listed.series:
                name = one.resource.get("subscription_id")
                if name not in names:
                    raise Unavailable(f"GCP {LIST} of {self._metric}: a series of {name!r}, which was not asked for")
                series.setdefault(name, []).append(one)
            partial += [listed.partial] if listed.partial else []
        self._series, self._partial = series, "; ".join(partial)
        self._read = now, frozenset(names)


def _filter(metric: str, names: Sequence[str]) -> str:
    among = ", ".join(f'"{name}"' for name in names)
    chosen = f'"{names[0]}"' if len(names) == 1 else f"one_of({among})"
    return f'metric.type = "{metric}" AND resource.labels.subscription_id = {chosen}'


def _series(one: Mapping[str, Any]) -> TimeSeries:
    points = [
        GcpMetricPoint(_at(p["interval"]["endTime"]), next(iter(p["value"].values()), None)) for p in one["points"]
    ]
    if not points:
        raise ValueError("a series without points")  # none is listed: it would make a sum too small
    points.sort(key=lambda p: p.at, reverse=True)
    labels, resource = one.get("metric", {}).get("labels", {}), one.get("resource", {}).get("labels", {})
    return TimeSeries(dict(labels), dict(resource), tuple(points))


def _at(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")


async def monitoring(context: Context, project: GcpProject) -> Monitoring:
    """Return the time series of this project. Raises `Misconfigured`."""

    return Monitoring(await session.service(context, project, "monitoring"), context.clock, project.id)


async def gauge(context: Context, project: GcpProject, metric: str) -> Gauge:
    """Return the metric, as all sources of this project read it. Raises `Misconfigured`."""
    series = await monitoring(context, project)

    return await context.shared(
        ("gcp", "gauge", project, metric), lambda: aclosing(Gauge(series, context.clock, metric))
    )
