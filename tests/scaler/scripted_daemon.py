"""A daemon that a test starts and stops on the same engines and journal, and runs tick by tick."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.model import Absent, Tick, WorkloadName
from scaler.app import App, RunOptions
from scaler.config.daemon import DaemonSpec, JournalSpec
from scaler.config.load import Config, Workload, workload_from
from scaler.controller import Controller
from scaler.ports import PortError
from scaler.setup import Setup
from scaler.shared_resources import Resources
from tests.fakes import FakeActuator, FakeSource, ManualClock
from tests.policies.recommend.engines import Engines
from tests.scaler.test_controller import MAIN

NAME = WorkloadName("llm")
INTERVAL_S = 30.0
READ = ["running", "waiting", "requests_per_s", "prompt_tokens_per_s", "generation_tokens_per_s"]


def workload(**settings: Any) -> Workload:
    engines = {"kind": "prometheus", "url": "http://127.0.0.1:9", "preset": "vllm", "read": [*READ, "ttft_p95_s"]}
    document = {
        "workload": NAME,
        "max_replicas": 50,
        "interval_s": INTERVAL_S,
        "slo": {"ttft_s": 1.0, "itl_s": 0.05},
        "slo_feasibility": {"window_s": 300, "settle_s": 60},
        "sources": {"engines": engines},
        "policies": {"predictive": {"kind": "predictive"}},
        "pools": {"main": {"kind": "embedded"}},
        **settings,
    }
    return workload_from(document)


@dataclass
class EngineSource(FakeSource):
    """Engines that can also return past values, or fail to."""

    before: Mapping[str, float] = field(default_factory=dict)
    past_error: PortError | None = None
    requests: list[tuple[float, float, float]] = field(default_factory=list)

    async def past(
        self, quantities: Collection[str], since: float, until: float, step_s: float
    ) -> Mapping[str, NDArray[np.float64]]:
        self.requests.append((since, until, step_s))
        if self.past_error is not None:
            raise self.past_error
        return {q: np.full(round((until - since) / step_s), self.before.get(q, np.nan)) for q in quantities}


class Scripted(App):
    """The daemon on a clock, a source and a pool that a test drives."""

    def __init__(self, config: Config, resources: Resources, clock: ManualClock, source: FakeSource) -> None:
        super().__init__(config, RunOptions([]), resources)
        self.clock = clock
        self._source = source
        self._actuator = FakeActuator(clock, 4)

    async def open(self, workload: Workload) -> Setup:
        return Setup(workload, {"engines": self._source}, {MAIN: self._actuator}, ledger=self.ledger)

    @property
    def controller(self) -> Controller:
        return self.controllers[NAME]


@dataclass
class World:
    """The parts that outlive each daemon."""

    directory: Path
    clock: ManualClock = field(default_factory=ManualClock)
    engines: Engines = field(default_factory=Engines)
    daemon: Mapping[str, Any] = field(default_factory=dict)
    tick_count: int = 0

    def __post_init__(self) -> None:
        self.source: EngineSource = EngineSource(self.clock)

    @asynccontextmanager
    async def started(self, **settings: Any) -> AsyncIterator[Scripted]:
        """Run a daemon from its start to its end."""
        configured = workload(**settings)
        daemon = DaemonSpec(journal=JournalSpec(directory=str(self.directory)), history_s=600.0, **self.daemon)
        async with Resources() as resources:
            app = Scripted(Config(daemon, {NAME: configured}), resources, self.clock, self.source)
            try:
                await app.prepare()
                yield app
            finally:
                await app.close()

    async def run_ticks(self, app: Scripted, count: int, blind: bool = False) -> list[Tick]:
        return [await self.tick(app, blind) for _ in range(count)]

    async def tick(self, app: Scripted, blind: bool = False) -> Tick:
        self.clock.advance(INTERVAL_S)
        self.tick_count += 1
        rps = 60.0 + 40.0 * math.sin(self.tick_count / 11.0) + 7.0 * math.sin(self.tick_count * 1.7)
        values = self.engines.readings(rps, 12)
        self.source.values = dict[str, float | Absent](values) if not blind else dict.fromkeys(values, Absent("gone"))
        return await app.controller.tick(self.clock.now())
