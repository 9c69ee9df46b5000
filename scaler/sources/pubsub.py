"""Google Pub/Sub: the unacknowledged messages of a subscription, and the age of the oldest.

The counts come from Cloud Monitoring, a sample a minute, available up to some minutes later. Each reading has its
sample's own time. A subscription without samples is not an empty one. One list serves all subscriptions of a project.

Between samples:

- A count older than `max_age_s` is a lower bound for `stale_bound_s` more: it may raise the size, not lower it.
- An age grows with the clock where it did so between the last two samples: then the oldest message is the same.
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
"""Permissions that the source needs."""
ROOT: Final = "pubsub.googleapis.com/subscription/"
REGIONAL: Final = frozenset({"visible", "oldest_age_s"})
"""Quantities that are also reported by region."""
STUCK_SHARE: Final = 0.9
"""Share of the time between two samples by which the age must have grown for the oldest message to be the same."""
RETRY_S: Final = 2.0
"""Time between two reads while a quantity is missing; workloads with simultaneous ticks share them. Seconds."""
CHECK_S: Final = 600.0
"""Time between two checks of the subscription's settings. Seconds."""
CHECK_RETRY_S: Final = 30.0
"""Time from a failed check to the next one: a silent connection must not delay every tick. Seconds."""
CHECK_SHARE: Final = 0.5
"""Share of the deadline for the check: its timeout must not cost the counts."""


async def open_pubsub(spec: PubSub, context: Context) -> PubSubSource:
    """Open the source. Raises `Misconfigured`."""
    gauges = {q: await time_series.gauge(context, spec.project, metric(spec, q)) for q in spec.quantities()}
    return PubSubSource(spec, context, gauges, await pubsub.subscriber(context, spec.project))


def metric(spec: PubSub, quantity: str) -> str:
    """Return the type of the metric that gives `quantity`."""
    regional = spec.by_region and quantity in REGIONAL
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
        self._problem = ""
        self._has_absent = False
        """Whether the last sample lacked a quantity, so that the next read follows soon."""
        self.notes: tuple[str, ...] = ()
        """Settings of the subscription that matter for scaling."""

    @validated("GCP")
    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        max_age_s, name = RETRY_S if self._has_absent else self._spec.read_interval_s, self._spec.subscription
        reads = [gauge.read(name, max_age_s) for gauge in self._gauges.values()]
        results = await asyncio.gather(self._check(), *reads, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result  # only now: all have ended
        now = self._clock.now()
        pages = {q: page for q, page in zip(self._gauges, results[1:], strict=True) if isinstance(page, SeriesPage)}
        readings = {quantity: self._reading(quantity, page, now) for quantity, page in pages.items()}
        self._has_absent = any(isinstance(reading, Absent) for reading in readings.values())
        return readings

    def _reading(self, quantity: str, page: SeriesPage, now: float) -> Fresh[float] | Absent:
        series = [item for item in page.series if item.points]
        if not series:
            minutes = time_series.LOOK_BACK_S / 60
            partial = f": {page.partial}" if page.partial else ""
            return Absent(
                f"Cloud Monitoring has no {PUBSUB_METRICS[quantity]} in the last {minutes:g} minutes{partial}"
            )
        values = [sanitize(quantity, item.points[0].value, item.points[0].at) for item in series]
        for value in values:
            if isinstance(value, Absent):
                return value
        samples = [value for value in values if isinstance(value, Fresh)]
        oldest_s = min(value.measured_at for value in samples)
        missing = [page.partial] if page.partial else []
        missing += [m for m in (_lagging_regions(series), self._stale_sample(oldest_s, now)) if m]
        if quantity == "oldest_age_s":
            amounts = [
                v.value + age_growth_s(item, now, self._spec.stale_bound_s)
                for v, item in zip(samples, series, strict=True)
            ]
            return Fresh(max(amounts), oldest_s, "; ".join(missing))
        return Fresh(sum(value.value for value in samples), oldest_s, "; ".join(missing))

    def _stale_sample(self, at: float, now: float) -> str:
        age_s = now - at
        return f"the newest sample is {age_s:.0f} s old" if age_s > self._spec.max_age_s else ""

    async def _check(self) -> None:
        """Check at intervals that the subscription exists and can be pulled from.

        Raises `Misconfigured`.
        """
        now = self._clock.now()
        if not now < self._check_at <= now + CHECK_S:
            try:
                limit_s = CHECK_SHARE * self._context.deadline_s
                subscription = await self._subscriber.get(self._spec.subscription, limit_s)
            except Misconfigured:
                raise
            except PortError:
                self._check_at = now + CHECK_RETRY_S
                return  # the counts come from another API
            self._check_at = now + CHECK_S
            self._problem, self.notes = problem_of(subscription), notes(subscription)
        if self._problem:
            raise Misconfigured(f"Pub/Sub subscription {self._spec.subscription}: {self._problem}")

    @validated("GCP")
    async def permits(self) -> Sequence[Permit]:
        await self._check()
        granted = await session.check_permissions(self._context, self._spec.project, PERMISSIONS)
        about = "; ".join(self.notes)
        return [Permit(p.action, p.granted, p.detail or (about if "pubsub" in p.action else "")) for p in granted]


def age_growth_s(series: TimeSeries, now: float, max_s: float) -> float:
    """Return the growth of the oldest message's age since its sample, at most `max_s`; 0 for another message.

    Example: samples of 100 s and 160 s, one minute apart: the age grew by the full 60 s, so 30 s after the last sample
    it is 30 s more. After samples of 100 s and 40 s it is not extended.
    """
    if len(series.points) < 2:
        return 0.0
    newest, previous = series.points[:2]
    try:
        grew_s = float(str(newest.value)) - float(str(previous.value))
    except ValueError:
        return 0.0
    if grew_s <= 0 or grew_s < STUCK_SHARE * (newest.at - previous.at):
        return 0.0
    return min(max(0.0, now - newest.at), max_s)


def _lagging_regions(series: Sequence[TimeSeries]) -> str:
    """Return the regions whose samples lag by more than 1.5 sampling intervals; empty without one."""
    newest = max(item.points[0].at for item in series)
    lagging = [s.labels.get("region", "?") for s in series if newest - s.points[0].at > 1.5 * PUBSUB_SAMPLE_S]
    return f"no recent sample from {', '.join(sorted(lagging))}" if lagging else ""


def problem_of(subscription: Any) -> str:
    """Return why a subscription cannot be pulled from; empty where it can."""
    if subscription.detached:
        return "it is detached from its topic and receives no messages"
    if subscription.topic == "_deleted-topic_":
        return "its topic was deleted, so it receives no messages"
    if subscription.bigquery_config.table or subscription.cloud_storage_config.bucket:
        return "it exports to BigQuery or Cloud Storage, so no worker can pull from it"
    return ""


def notes(subscription: Any) -> tuple[str, ...]:
    """Return the settings of a subscription that matter for scaling."""
    days = subscription.message_retention_duration.total_seconds() / 86400
    texts = [f"ack deadline {subscription.ack_deadline_seconds} s", f"retention {days:g} days"]
    if subscription.dead_letter_policy.dead_letter_topic:
        texts.append(f"dead letter after {subscription.dead_letter_policy.max_delivery_attempts} delivery attempts")
    if subscription.enable_message_ordering:
        texts.append("ordered: at most one replica works per ordering key")
    if subscription.enable_exactly_once_delivery:
        texts.append("exactly once: messages are redelivered only after the ack deadline")
    if subscription.filter:
        texts.append("filtered: messages that do not match are counted until they are dropped")
    return tuple(texts)
