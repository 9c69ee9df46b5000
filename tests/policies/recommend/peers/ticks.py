"""A workload with one peer policy, tick by tick, through the whole pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policies.history.ticks import History
from policies.model import Decision, Reading
from policies.pipeline import decide
from tests.factories import NOW, fresh, seen, spec, tick_of


class PeerTicks:
    """One pool with one policy. A decision takes effect at once, and its replicas are ready `start_s` later."""

    def __init__(
        self, policy: Any, size: int = 1, *, step_s: float = 15.0, start_s: float = 0.0, **settings: Any
    ) -> None:
        self.spec = spec({"peer": policy}, **{"max_replicas": 100_000, **settings}, interval_s=step_s)
        self.history = History(7200.0)
        self.at = NOW
        self.step_s = step_s
        self.start_s = start_s
        self.size = size
        self.ready_at = [NOW] * size
        self.decisions: list[Decision] = []

    @property
    def ready(self) -> int:
        return sum(t <= self.at for t in self.ready_at)

    def tick(self, readings: Mapping[str, float | Reading[float]]) -> int:
        """Run one tick with these readings, then advance the time to the next."""
        readings_now = {n: fresh(r, now=self.at) if isinstance(r, int | float) else r for n, r in readings.items()}
        observation = seen(readings_now, self.size, self.ready, at=self.at)
        decision = decide(self.spec, self.history, observation)
        self.history.append(tick_of(observation, decision))
        self.decisions.append(decision)
        assert decision.target is not None
        self.ready_at = self.ready_at[: decision.target]
        self.ready_at += [self.at + self.start_s] * (decision.target - len(self.ready_at))
        self.size = decision.target
        self.at += self.step_s
        return decision.target

    def run(self, ticks: int, readings: Mapping[str, float | Reading[float]]) -> list[int]:
        return [self.tick(readings) for _ in range(ticks)]


def peak_under_backlog(ticks: PeerTicks, signal: str, *, arrivals: float, served: float, minutes: float) -> int:
    """Return the largest size at `arrivals` per second, with replicas that serve `served` per second; others queue."""
    backlog, peak = 0.0, 0
    for _ in range(int(minutes * 60 / ticks.step_s)):
        backlog = max(0.0, backlog + (arrivals - served * ticks.ready) * ticks.step_s)
        peak = max(peak, ticks.tick({signal: backlog}))
    return peak
