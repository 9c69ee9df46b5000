"""Engines with a known latency, and a policy that adds replicas while the latency exceeds a limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from policies.history.ticks import History
from policies.model import (
    Decision,
    Evidence,
    Fresh,
    PolicyName,
    Reading,
    Recommendation,
    SignalName,
)
from policies.model.spec import WorkloadSpec
from policies.pipeline import decide
from policies.recommend.context import PolicyContext
from tests.factories import NOW, fresh, seen, tick_of

ITL = SignalName("engines.itl_p95_s")
RETAINED = (ITL, SignalName("engines.running"), SignalName("engines.waiting"))


@dataclass(frozen=True)
class Chaser:
    """Dynamo's SLA mode in short: `more` replicas beyond the desired ones while a latency exceeds its limit.

    Without `reports_latency` it does not report that part as `latency_driven`.
    """

    limit_s: float
    per_replica: float = 8.0
    reports_latency: bool = True
    more: float = 1.0
    post_demand: ClassVar[bool] = False
    can_activate: ClassVar[bool] = True
    owns_stabilization: ClassVar[bool] = False
    lookback_s: ClassVar[float] = 0.0

    def needs(self) -> tuple[str, ...]:
        return ()

    def recommend(self, name: PolicyName, view: PolicyContext) -> Recommendation:
        itl, running = view.readings.get(ITL), view.readings.get(RETAINED[1])
        assert isinstance(running, Fresh)
        load = running.value / self.per_replica
        is_late = isinstance(itl, Fresh) and itl.value > self.limit_s
        replicas = max(load, float(view.desired or 0) + self.more) if is_late else load
        latency_driven = replicas - load if self.reports_latency else None
        return Recommendation(
            name,
            replicas,
            Evidence.FULL,
            True,
            "chases a latency",
            RETAINED,
            retained_signals=RETAINED,
            latency_driven=latency_driven,
        )


@dataclass
class Engines:
    """Replicas that take `start_ticks` to serve; `itl_s` maps requests per ready replica to a latency."""

    spec: WorkloadSpec
    itl_s: Callable[[float], float]
    size: int = 2
    start_ticks: int = 4
    lag_ticks: int = 0
    noise: Callable[[], float] = lambda: 1.0
    now: float = NOW
    history: History = field(default_factory=lambda: History(7200.0))
    sizes: list[int] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)

    def tick(self, running: float, waiting: float = 0.0) -> Decision:
        self.sizes.append(self.size)
        ready = min(self.sizes[-self.start_ticks - 1 :])
        readings: dict[str, Reading[float]] = {
            "engines.running": fresh(running, now=self.now),
            "engines.waiting": fresh(waiting, now=self.now),
            "engines.itl_p95_s": fresh(self._measured((running + waiting) / ready), now=self.now),
        }
        observation = seen(readings, self.size, ready, at=self.now)
        decision = decide(self.spec, self.history, observation)
        self.history.append(tick_of(observation, decision))
        assert decision.target is not None
        self.size = decision.target
        self.now += 15.0
        self.decisions.append(decision)
        return decision

    def _measured(self, load: float) -> float:
        """Return the mean latency of the last ticks, as a source with a window of a minute or two reports it."""
        self.latencies_s.append(self.itl_s(load) * self.noise())
        last = self.latencies_s[-self.lag_ticks - 1 :]
        return sum(last) / len(last)

    def run(self, n: int, running: float) -> list[int]:
        """Return the sizes decided in `n` ticks under one load."""
        for _ in range(n):
            self.tick(running)
        return [d.target or 0 for d in self.decisions[-n:]]
