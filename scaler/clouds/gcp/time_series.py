"""Cloud Monitoring's time series with each sample's own time.

All subscriptions of a project share one list. A metric without a sample is not zero: it is missing.
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
"""Also grants PromQL."""
PAGES: Final = 20
PAGE: Final = 10_000
MAX_SUBSCRIPTIONS: Final = 50
"""Maximum number of subscriptions in one filter, whose length is limited to some thousand characters."""
LOOK_BACK_S: Final = 900.0
"""Age up to which a sample of a subscription is read: samples appear after some minutes, later in outages. Seconds."""
NEVER_READ: Final = (float("-inf"), frozenset[str]())


@dataclass(frozen=True, slots=True)
class GcpMetricPoint:
    """A sample: its time (seconds since the Unix epoch), and the value as sent."""

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
    """The series that a filter selects.

    `partial` names the parts that could not be queried; empty if none.
    """

    series: tuple[TimeSeries, ...]
    partial: str = ""


class Monitoring:
    """The time series of one project."""

    def __init__(self, monitoring: session.GcpService, clock: Clock, project: str) -> None:
        self._monitoring = monitoring
        self._clock = clock
        self._project = project

    async def list(
        self, about: str, series_filter: str, since: float, until: float, aggregation: Mapping[str, str] | None = None
    ) -> SeriesPage:
        """Return all series that `series_filter` selects, with their samples in (since, until].

        Raises port errors.
        """
        query = {
            "filter": series_filter,
            "interval.startTime": _timestamp(since),
            "interval.endTime": _timestamp(until),
            "view": "FULL",
            "pageSize": str(PAGE),
            **{f"aggregation.{key}": value for key, value in (aggregation or {}).items()},
        }
        series: list[TimeSeries] = []
        errors: list[str] = []
        for _ in range(PAGES):
            body = await self._monitoring.call(LIST, f"/v3/projects/{self._project}/timeSeries", about, query=query)
            try:
                series += [_series(item) for item in body.get("timeSeries") or ()]
            except MALFORMED as e:
                raise Unavailable(f"GCP {LIST} of {about}: malformed response: {e!r}") from e
            errors += [str(e.get("message", e)) for e in body.get("executionErrors") or () if isinstance(e, Mapping)]
            if not body.get("nextPageToken"):
                return SeriesPage(tuple(series), one_line("; ".join(errors)))
            query["pageToken"] = str(body["nextPageToken"])
        raise Unavailable(
            f"GCP {LIST} of {about}: more than {PAGES * PAGE} series; narrow the filter, or set a reducer"
        )

    async def promql(self, about: str, promql: str) -> Body:
        """Return the response to an instant query, in Prometheus's format. Raises port errors."""
        path = f"/v1/projects/{self._project}/location/global/prometheus/api/v1/query"
        return await self._monitoring.call(LIST, path, about, query={"query": promql})


class Gauge:
    """A metric of subscriptions, with one list for all that are read here."""

    def __init__(self, monitoring: Monitoring, clock: Clock, metric: str) -> None:
        self._monitoring = monitoring
        self._clock = clock
        self._metric = metric
        self._subscriptions: set[str] = set()
        self._read: tuple[float, frozenset[str]] = NEVER_READ
        self._series: dict[str, list[TimeSeries]] = {}
        self._partial = ""
        self._flights = Singleflight()

    async def aclose(self) -> None:
        await self._flights.aclose()

    async def read(self, subscription: str, max_age_s: float) -> SeriesPage:
        """Return the series of one subscription, read at most `max_age_s` seconds ago.

        Raises port errors.
        """
        self._subscriptions.add(subscription)
        requested_at = self._clock.now()
        while not self._is_recent(subscription, requested_at, max_age_s):
            await self._flights.share("all", self._read_all)
        return SeriesPage(tuple(self._series.get(subscription, ())), self._partial)

    def _is_recent(self, subscription: str, requested_at: float, max_age_s: float) -> bool:
        """Return whether the subscription was read recently enough.

        The read is recent since `requested_at`, or less than `max_age_s` seconds before it.
        """
        read_at, covered = self._read
        return subscription in covered and (read_at >= requested_at or requested_at - read_at < max_age_s)

    @validated("GCP")
    async def _read_all(self) -> None:
        now, names = self._clock.now(), sorted(self._subscriptions)
        series: dict[str, list[TimeSeries]] = {}
        partial = list[str]()
        for first in range(0, len(names), MAX_SUBSCRIPTIONS):
            page = await self._monitoring.list(
                self._metric, _filter(self._metric, names[first : first + MAX_SUBSCRIPTIONS]), now - LOOK_BACK_S, now
            )
            for series_of_one in page.series:
                name = series_of_one.resource.get("subscription_id")
                if name not in names:
                    raise Unavailable(
                        f"GCP {LIST} of {self._metric}: the response has a series of {name!r}, which was not requested"
                    )
                series.setdefault(name, []).append(series_of_one)
            partial += [page.partial] if page.partial else []
        self._series, self._partial = series, "; ".join(partial)
        self._read = now, frozenset(names)


def _filter(metric: str, names: Sequence[str]) -> str:
    listed = ", ".join(f'"{name}"' for name in names)
    condition = f'"{names[0]}"' if len(names) == 1 else f"one_of({listed})"
    return f'metric.type = "{metric}" AND resource.labels.subscription_id = {condition}'


def _series(item: Mapping[str, Any]) -> TimeSeries:
    points = [
        GcpMetricPoint(_seconds(p["interval"]["endTime"]), next(iter(p["value"].values()), None))
        for p in item["points"]
    ]
    if not points:
        raise ValueError(
            "malformed response: a series without points"
        )  # the API lists none; counting one would make a sum too small
    points.sort(key=lambda p: p.at, reverse=True)
    labels, resource = item.get("metric", {}).get("labels", {}), item.get("resource", {}).get("labels", {})
    return TimeSeries(dict(labels), dict(resource), tuple(points))


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _timestamp(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="microseconds")


async def monitoring(context: Context, project: GcpProject) -> Monitoring:
    """Return the time series client of this project. Raises `Misconfigured`."""
    return Monitoring(await session.service(context, project, "monitoring"), context.clock, project.id)


async def gauge(context: Context, project: GcpProject, metric: str) -> Gauge:
    """Return the metric's reader that all sources of this project share. Raises `Misconfigured`."""
    client = await monitoring(context, project)

    return await context.shared(
        ("gcp", "gauge", project, metric), lambda: aclosing(Gauge(client, context.clock, metric))
    )
