"""Engines whose latency is known, and a policy that chases it: a world in which buying for latency can be watched."""

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
KEEPS = (ITL, SignalName("engines.running"), SignalName("engines.waiting"))


@dataclass(frozen=True)
class Chaser:
    """Dynamo's SLA mode in short: while a latency is above its limit, one replica (or `more`) more than there are.

    Without `tells` it does not say that it asks because users wait.
    """

    limit_s: float
    per_replica: float = 8.0
    tells: bool = True
    more: float = 1.0
    post_demand: ClassVar[bool] = False
    can_activate: ClassVar[bool] = True
    owns_stabilization: ClassVar[bool] = False
    lookback_s: ClassVar[float] = 0.0

    def needs(self) -> tuple[str, ...]:
        return ()

    def recommend(self, name: PolicyName, view: PolicyContext) -> Recommendation:
        itl, running = view.readings.get(ITL), view.readings.get(KEEPS[1])
        assert isinstance(running, Fresh)
        load = running.value / self.per_replica
        late = isinstance(itl, Fresh) and itl.value > self.limit_s
        wanted = max(load, float(view.desired or 0) + self.more) if late else load
        because_late = wanted - load if self.tells else None
        return Recommendation(
            name,
            wanted,
            Evidence.FULL,
            True,
            "chases a latency",
            KEEPS,
            retained_signals=KEEPS,
            latency_driven=because_late,
        )


@dataclass
class Engines:
    """Replicas that take `start_turns` to serve; `itl_s` is the latency at so many requests per ready replica."""

    spec: WorkloadSpec
    itl_s: Callable[[float], float]
    size: int = 2
    start_turns: int = 4
    lag_turns: int = 0
    noise: Callable[[], float] = lambda: 1.0
    now: float = NOW
    history: History = field(default_factory=lambda: History(7200.0))
    past: list[int] = field(default_factory=list)
    true: list[float] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)

    def turn(self, running: float, waiting: float = 0.0) -> Decision:
        self.past.append(self.size)
        ready = min(self.past[-self.start_turns - 1 :])
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
        """The mean over the last turns, as a window of a minute or two tells it."""
        self.true.append(self.itl_s(load) * self.noise())
        last = self.true[-self.lag_turns - 1 :]
        return sum(last) / len(last)

    def turns(self, n: int, running: float) -> list[int]:
        """The sizes decided in `n` turns under one load."""
        for _ in range(n):
            self.turn(running)
        return [d.target or 0 for d in self.decisions[-n:]]
