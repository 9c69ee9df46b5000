"""The notices of one daemon: from ticks to destinations."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from policies.model import Tick, WorkloadName
from policies.model.spec import WorkloadSpec
from scaler.config.notices import NoticesSpec
from scaler.extras import install_command
from scaler.ports import Misconfigured
from scaler.supervised_tasks import Tasks
from scaler.telemetry.health import Health
from scaler.telemetry.notices.delivery import Destination
from scaler.telemetry.notices.tracker import Tracker

EXTRA: Final = "notices"
DRAIN_S: Final = 3.0
"""Time that queued notices get when the daemon stops. Seconds."""


class Notices:
    """Notices of the conditions of all workloads. Without destinations, a tick costs nothing."""

    def __init__(self, spec: NoticesSpec, destinations: list[Destination]) -> None:
        self.destinations = destinations
        self._spec = spec
        self._tracker = Tracker(spec.repeat_s)
        self._running: list[asyncio.Task[None]] = []

    def observe(self, tick: Tick, spec: WorkloadSpec) -> None:
        """Queue the notices that a tick causes."""
        if not self.destinations:
            return
        for notice in self._tracker.observe(tick, spec):
            for destination in self.destinations:
                if notice.condition.event in self._spec.destinations[destination.name].events:
                    destination.offer(notice)

    def restore(self, ticks: Iterable[Tick], spec: WorkloadSpec) -> None:
        """Bring the conditions into the state after recorded ticks. Their notices count as sent."""
        if self.destinations:
            for tick in ticks:
                self._tracker.observe(tick, spec)

    def forget(self, workload: WorkloadName) -> None:
        """Drop the conditions of a workload."""
        self._tracker.forget(workload)

    def start(self, tasks: Tasks) -> None:
        """Start to send, one task for each destination."""
        self._running = [tasks.start(f"notices {d.name}", d.run) for d in self.destinations]

    async def close(self) -> None:
        """Send what is queued, within `DRAIN_S`, and stop."""
        if self._running:
            await asyncio.gather(*(d.drained(DRAIN_S) for d in self.destinations))
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)


class NoticesCollector(Collector):
    """Exports the notices of each destination. It reads the counts when scraped."""

    def __init__(self, notices: Notices) -> None:
        self._notices = notices

    def collect(self) -> Iterator[Metric]:
        if not self._notices.destinations:
            return
        family = CounterMetricFamily(
            "forescale_notices",
            "Notices by result: sent, failed (an attempt, which is repeated) or dropped.",
            labels=("destination", "result"),
        )
        for destination in self._notices.destinations:
            for result, count in destination.counts.items():
                family.add_metric((destination.name, result), count)
        yield family


def open_notices(spec: NoticesSpec, health: Health) -> Notices:
    """Return the notices with their destinations.

    Raises `Misconfigured` for a missing package and for a URL that names no service.
    """
    return Notices(spec, open_destinations(spec, health))


def open_destinations(spec: NoticesSpec, health: Health | None = None) -> list[Destination]:
    """Return the destinations, and report their problems to `health`. Raises `Misconfigured`."""
    if not spec.destinations:
        return []
    try:
        from scaler.telemetry.notices import client  # noqa: PLC0415 - imported only where it is configured
    except ImportError as e:
        remedy = install_command([EXTRA])
        raise Misconfigured(f"daemon.notices.destinations: {e.name} is not installed ({remedy})") from e
    destinations = []
    for name, destination in spec.destinations.items():
        try:
            client.check(destination.url.read())
        except Misconfigured as e:
            raise Misconfigured(f"daemon.notices.destinations.{name}.url: {e}") from e
        report = functools.partial(health.report, f"notices {name}") if health is not None else _ignore
        destinations.append(Destination(name, destination.url, spec.dashboard_url, report, client.send))
    return destinations


def _ignore(_problem: str) -> None:
    """Ignore a problem that the caller shows itself."""
