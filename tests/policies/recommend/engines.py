"""Engines by a formula: what a policy would read of replicas that are ideal shared processors."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from policies.history.ticks import History
from policies.model import (
    Decision,
    Fresh,
    Observation,
    PoolName,
    PoolStatus,
    Reading,
    Recommendation,
    SignalName,
    WorkloadName,
)
from policies.model.spec import Pool, ScaleDown, Slo, WorkloadSpec
from policies.pipeline import decide
from policies.recommend.predictive.latency_tail import LatencyTail
from policies.recommend.predictive.policy import Predictive
from tests.factories import NOW, spec, tick_of

STEP_S = 15.0
TTFT, ITL = LatencyTail.of(0.7), LatencyTail.of(0.15)
"""How far their slowest requests lie beyond the mean."""
GPUS = PoolName("main")
MINUTE = ScaleDown(window_s=60.0, max_replicas=10_000)


@dataclass
class Engines:
    """Replicas of which each takes `saturation_tokens_per_s` of prompts, and that slow down as they fill.

    `ttft_s` and `itl_s` are an idle engine's. Requests have `prompt` and `output` tokens; a generated token costs
    `decode_cost` prompt tokens. Beyond 98 % what is too much waits.
    """

    saturation_tokens_per_s: float = 40_000.0
    ttft_s: float = 0.1
    itl_s: float = 0.01
    prompt: float = 1000.0
    output: float = 200.0
    decode_cost: float = 40.0 / 9.0
    waiting: float = 0.0
    answers: deque[float] = field(default_factory=lambda: deque(maxlen=4))

    @property
    def each(self) -> float:
        """Prompt tokens' worth of work a request."""
        return self.prompt + self.decode_cost * self.output

    def tell(self, rps: float, ready: int) -> dict[str, float]:
        """What they tell at the end of a turn of `rps` requests a second. Rates are over the last four turns."""
        most = 0.98 * ready * self.saturation_tokens_per_s / self.each
        answered = min(most, rps + self.waiting / STEP_S)
        self.waiting = max(0.0, self.waiting + (rps - answered) * STEP_S)
        busy = answered * self.each / (ready * self.saturation_tokens_per_s)
        slow = 1.0 / (1.0 - busy)
        queued_s = self.waiting / most
        self.answers.append(answered)
        rate = sum(self.answers) / len(self.answers)
        return {
            "running": min(128.0 * ready, answered * (self.ttft_s + self.output * self.itl_s) * slow),
            "waiting": self.waiting,
            "requests_per_s": rate,
            "prompt_tokens_per_s": rate * self.prompt,
            "generation_tokens_per_s": rate * self.output,
            **_told("ttft", self.ttft_s * slow + queued_s, TTFT, 1.0),
            **_told("itl", self.itl_s * slow, ITL, 0.05),
        }


def _told(latency: str, mean_s: float, tail: LatencyTail, promise_s: float) -> dict[str, float]:
    """A latency as engines tell it whose slowest lie exponentially beyond the mean."""
    return {
        f"{latency}_mean_s": mean_s,
        f"{latency}_late_share": tail.late_share(promise_s, mean_s),
        f"{latency}_p95_s": mean_s * (1.0 + tail.spread * (math.log(20.0) - 1.0)),
    }


@dataclass
class Day:
    """A workload over such engines, turn by turn; what is decided serves after `lead_turns` turns."""

    policy: Predictive = field(default_factory=lambda: Predictive(source="e", rate_window_s=60.0, quantile=0.5))
    slo: Slo = field(default_factory=Slo)
    engines: Engines = field(default_factory=Engines)
    ready: int = 4
    lead_turns: int = 6
    most: int = 100
    seen: Callable[[dict[str, float]], dict[str, float]] = lambda told: told

    def __post_init__(self) -> None:
        self.spec: WorkloadSpec = spec(
            {"predictive": self.policy},
            {"main": Pool(lead_time_s=90.0)},
            slo=self.slo,
            max_replicas=self.most,
            scale_down=MINUTE,
        )
        self.history = History()
        self.at = NOW
        self.sizes = [self.ready] * (self.lead_turns + 1)

    def turn(self, rps: float) -> Decision:
        self.at += STEP_S
        self.ready = min(self.sizes[-self.lead_turns - 1 :])
        told = self.seen(self.engines.tell(rps, self.ready)) if self.ready else {}
        readings: dict[SignalName, Reading[float]] = {
            SignalName(f"e.{name}"): Fresh(value, self.at) for name, value in told.items()
        }
        status = PoolStatus(max(self.sizes[-1], self.ready), self.ready)
        seen = Observation(WorkloadName("llm"), self.at, readings, {GPUS: Fresh(status, self.at)})
        decision = decide(self.spec, self.history, seen)
        self.history.append(tick_of(seen, decision, history_len=len(self.history)))
        self.sizes.append(self.sizes[-1] if decision.target is None else decision.target)
        return decision

    def run(self, rates: Iterator[float] | list[float]) -> list[Decision]:
        return [self.turn(rps) for rps in rates]


def recommendation_of(decision: Decision) -> Recommendation:
    (recommendation,) = decision.recommendations
    return recommendation
