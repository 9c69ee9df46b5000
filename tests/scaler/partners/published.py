"""A workload `chat` with a published pool on fake ports, and what is published of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from policies.history.ticks import History
from policies.model import PoolName, Tick, WorkloadName
from scaler.config.load import Workload, workload_from
from scaler.controller import Controller
from scaler.partners.publications import Publications
from scaler.setup import Setup
from scaler.telemetry.health import Health
from scaler.telemetry.metrics import Metrics
from tests.fakes import FakeActuator, FakeSource, ManualClock

CHAT = WorkloadName("chat")
GPUS = PoolName("gpus")
PARTNER = "HPA chat"


@dataclass
class FakePublished(FakeActuator):
    """A published pool whose size the test sets as its partner would."""

    name: str | None = PARTNER

    def partner(self) -> str | None:
        return self.name


def workload(name: str = "chat", **settings: Any) -> Workload:
    document = {
        "workload": name,
        "max_replicas": 50,
        "sources": {"queue": {"kind": "embedded"}, "other": {"kind": "embedded"}},
        "policies": {
            "depth": {"kind": "queue_depth", "source": "queue"},
            "second": {"kind": "queue_depth", "source": "other"},
        },
        "pools": {"gpus": {"kind": "published", "name": name, "namespace": "llm"}},
        "scale_up": {"max_replicas": 1000},
        "scale_down": {"window_s": 0, "max_replicas": 1000},
        **settings,
    }
    return workload_from(document)


class Rig:
    """One workload, its ticks, and the publications."""

    def __init__(self, *, dry_run: bool = False, **settings: Any) -> None:
        self.clock = ManualClock()
        self.workload = workload(**settings)
        values = {"visible": 0.0, "in_flight": 0.0, "delayed": 0.0, "oldest_age_s": 0.0}
        self.sources = {name: FakeSource(self.clock, dict(values)) for name in ("queue", "other")}
        self.pools = {name: FakePublished(self.clock) for name in self.workload.spec.pools}
        self.metrics = Metrics("1")
        setup = Setup(self.workload, self.sources, self.pools)
        self.controller = Controller(setup, self.clock, History(), self.metrics.observe, dry_run=dry_run)
        self.controllers = {self.workload.name: self.controller}
        self.health = Health(self.controllers, self.clock)
        self.publications = Publications(self.controllers, self.metrics.last, self.health)

    @property
    def pool(self) -> FakePublished:
        return self.pools[GPUS]

    async def tick(self, need: float, after_s: float = 15.0) -> Tick:
        """Run a tick whose readings need this many replicas."""
        self.sources["queue"].values["visible"] = need * 10
        self.clock.advance(after_s)
        return await self.controller.tick(self.clock.now())

    def size(self, **labels: str) -> int:
        return self.publications.size(self.publications.select("llm", labels or {"workload": "chat"}))
