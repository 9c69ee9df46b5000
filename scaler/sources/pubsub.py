"""Google Pub/Sub: how many messages of a subscription are not acknowledged, and how old the oldest is.

Pub/Sub itself counts nothing for us: Cloud Monitoring does, a sample a minute, shown up to some minutes later. Each
reading has its sample's own time. A subscription without samples is not an empty one. One list serves all subscriptions
of a project.

Between samples a bounded bridge holds:

- A count older than `max_age_s` stands for `stale_bound_s` more as a lower bound, which may raise and not lower.
- An age grows by the clock where the last two samples say that it did, so that the same message is still the oldest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from policies.model import Absent, Fresh
from scaler.clouds.gcp import pubsub, session, time_series
from scaler.clouds.gcp.pubsub import Subscriber
from scaler.clouds.gcp.time_series import Gauge, SeriesPage, TimeSeries
from scaler.clouds.response_validation import validated
from scaler.config.kinds.gcp_sources import PUBSUB_METRICS, PUBSUB_SAMPLE_S, PubSub
from scaler.ports import Context, Misconfigured, Permit, PortError
from scaler.sources.sanitize import sanitize

PERMISSIONS: Final = (time_series.LIST, "pubsub.subscriptions.get")
"""All that the source calls for."""
ROOT: Final = "pubsub.googleapis.com/subscription/"
BY_REGION: Final = frozenset({"visible", "oldest_age_s"})
"""What is told by region too."""
STUCK_SHARE: Final = 0.9
"""Of the time between two samples by which an age must have grown for its message to be the same."""
AGAIN_S: Final = 2.0
"""Between two reads while something is not told; workloads whose turns come together share them."""
CHECK_S: Final = 600.0
"""Between two looks at how the subscription is set up."""
CHECK_AGAIN_S: Final = 30.0
"""After a look that failed: a silent connection must not cost every turn its wait."""
CHECK_SHARE: Final = 0.5
"""Of the deadline, for that look: the counts must not be lost to its silence."""


async def open_pubsub(spec: PubSub, context: Context) -> PubSubSource:
    """Open the source. Raises `Misconfigured`."""
    gauges = {q: await time_series.gauge(context, spec.project, metric(spec, q)) for q in spec.quantities()}
    return PubSubSource(spec, context, gauges, await pubsub.subscriber(context, spec.project))


def metric(spec: PubSub, quantity: str) -> str:
    """Return the type of the metric that gives `quantity`."""
    regional = spec.by_region and quantity in BY_REGION
    return ROOT + PUBSUB_METRICS[quantity] + ("_by_region" if regional else "")


class PubSubSource:
    """The source's port."""

    def __init__(self, spec: PubSub, context: Context, gauges: Mapping[str, Gauge], subscriber: Subscriber) -> None:
        self._spec = spec
        self._context = context
        self._clock = context.clock
        self._gauges = gauges
        self._subscriber = subscriber
        self._check_at = float("-inf")
        self._wrong = ""
        self._wanting = False
        """Whether something was not told when last asked, so that it is asked for again soon."""
        self.remarks: tuple[str, ...] = ()
        """What in the subscription's set-up matters to who scales on it."""

    @validated("GCP")
    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        every_s, name = AGAIN_S if self._wanting else self._spec.read_interval_s, self._spec.subscription
        reading = [gauge.of(name, every_s) for gauge in self._gauges.values()]
        results = await asyncio.gather(self._check(), *reading, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result  # only now: all have ended
        now = self._clock.now()
        listed = {q: one for q, one in zip(self._gauges, results[1:], strict=True) if isinstance(one, SeriesPage)}
        found = {quantity: self._told(quantity, one, now) for quantity, one in listed.items()}
        self._wanting = any(isinstance(reading, Absent) for reading in found.values())
        return found

    def _told(self, quantity: str, listed: SeriesPage, now: float) -> Fresh[float] | Absent:
        series = [one for one in listed.series if one.points]
        if not series:
            minutes = time_series.LOOK_BACK_S / 60
            partial = f": {listed.partial}" if listed.partial else ""
            return Absent(
                f"Cloud Monitoring has no {PUBSUB_METRICS[quantity]} in the last {minutes:g} minutes{partial}"
            )
        values = [sanitize(quantity, one.points[0].value, one.points[0].at) for one in series]
        for value in values:
            if isinstance(value, Absent):
                return value
        told = [value for value in values if isinstance(value, Fresh)]
        at = min(value.measured_at for value in told)
        missing = [listed.partial] if listed.partial else []
        missing += [m for m in (_behind(series), self._old(at, now)) if m]
        if quantity == "oldest_age_s":
            amounts = [
                v.value + backlog_growth_s(one, now, self._spec.stale_bound_s)
                for v, one in zip(told, series, strict=True)
            ]
            return Fresh(max(amounts), at, "; ".join(missing))
        return Fresh(sum(value.value for value in told), at, "; ".join(missing))

    def _old(self, at: float, now: float) -> str:
        age_s = now - at
        return f"the newest sample is {age_s:.0f} s old" if age_s > self._spec.max_age_s else ""

    async def _check(self) -> None:
        """See now and then that the subscription is there, and to be pulled from. Raises `Misconfigured`."""
        now = self._clock.now()
        if not now < self._check_at <= now + CHECK_S:
            try:
                limit_s = CHECK_SHARE * self._context.deadline_s
                found = await self._subscriber.get(self._spec.subscription, limit_s)
            except Misconfigured:
                raise
            except PortError:
                self._check_at = now + CHECK_AGAIN_S
                return  # its counts come from elsewhere
            self._check_at = now + CHECK_S
            self._wrong, self.remarks = problem_of(found), remarks(found)
        if self._wrong:
            raise Misconfigured(f"Pub/Sub subscription {self._spec.subscription}: {self._wrong}")

    @validated("GCP")
    async def permits(self) -> Sequence[Permit]:
        await self._check()
        asked = await session.check_permissions(self._context, self._spec.project, PERMISSIONS)
        about = "; ".join(self.remarks)
        return [Permit(p.action, p.granted, p.detail or (about if "pubsub" in p.action else "")) for p in asked]


def backlog_growth_s(series: TimeSeries, now: float, most_s: float) -> float:
    """By how much an age has grown since its sample: by the clock, where it did so between the last two samples."""
    if len(series.points) < 2:
        return 0.0
    last, before = series.points[:2]
    try:
        grew_s = float(str(last.value)) - float(str(before.value))
    except ValueError:
        return 0.0
    if grew_s <= 0 or grew_s < STUCK_SHARE * (last.at - before.at):
        return 0.0
    return min(max(0.0, now - last.at), most_s)


def _behind(series: Sequence[TimeSeries]) -> str:
    """Return which regions' samples lag so far behind the others' that they failed."""
    newest = max(one.points[0].at for one in series)
    late = [s.labels.get("region", "?") for s in series if newest - s.points[0].at > 1.5 * PUBSUB_SAMPLE_S]
    return f"no sample of late from {', '.join(sorted(late))}" if late else ""


def problem_of(found: Any) -> str:
    """Return what keeps a subscription from being pulled from; empty where nothing does."""
    if found.detached:
        return "it is detached from its topic: nothing comes any more"
    if found.topic == "_deleted-topic_":
        return "its topic is deleted: nothing comes any more"
    if found.bigquery_config.table or found.cloud_storage_config.bucket:
        return "it writes to BigQuery or Cloud Storage by itself: nobody pulls from it"
    return ""


def remarks(found: Any) -> tuple[str, ...]:
    """Return what in a subscription's set-up matters to who scales on it."""
    days = found.message_retention_duration.total_seconds() / 86400
    told = [f"acknowledge within {found.ack_deadline_seconds} s", f"kept {days:g} days"]
    if found.dead_letter_policy.dead_letter_topic:
        told.append(f"dead letter after {found.dead_letter_policy.max_delivery_attempts} attempts")
    if found.enable_message_ordering:
        told.append("ordered: no more replicas work than there are ordering keys")
    if found.enable_exactly_once_delivery:
        told.append("exactly once: redelivered only after the deadline")
    if found.filter:
        told.append("filtered: messages that do not match count until they are dropped")
    return tuple(told)
