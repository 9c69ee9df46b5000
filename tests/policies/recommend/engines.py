"""Engines by a formula: the readings of replicas that are ideal shared processors."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from policies.history.ticks import History
from policies.model import (
    Decision,
    ErrorBudget,
    Fresh,
    Observation,
    PoolName,
    PoolStatus,
    Reading,
    Recommendation,
    SignalName,
    WorkloadName,
)
from policies.model.pool import Pool
from policies.model.spec import ScaleDown, Slo, WorkloadSpec
from policies.pipeline import decide
from policies.recommend.predictive.latency_tail import LatencyTail
from policies.recommend.predictive.policy import Predictive
from tests.factories import CHAT_SLO, NOW, spec, tick_of

STEP_S = 15.0
TTFT, ITL = LatencyTail.of(0.7), LatencyTail.of(0.15)
"""The tails of their latencies."""
GPUS = PoolName("main")
MINUTE = ScaleDown(window_s=60.0, max_replicas=10_000)


@dataclass
class Engines:
    """Replicas that each process `saturation_tokens_per_s` prompt tokens, and that slow down as they fill.

    `ttft_s` and `itl_s` are those of an idle engine. Requests have `prompt` and `output` tokens; an output token costs
    as much as `decode_cost` prompt tokens. Work beyond 98 % of the capacity waits.
    """

    saturation_tokens_per_s: float = 40_000.0
    ttft_s: float = 0.1
    itl_s: float = 0.01
    prompt: float = 1000.0
    output: float = 200.0
    decode_cost: float = 40.0 / 9.0
    waiting: float = 0.0
    completed_rates: deque[float] = field(default_factory=lambda: deque(maxlen=4))

    @property
    def tokens_per_request(self) -> float:
        """Work of a request, in prompt tokens."""
        return self.prompt + self.decode_cost * self.output

    def readings(self, rps: float, ready: int) -> dict[str, float]:
        """Return the readings after a tick of `rps` requests per second. Rates are over the last four ticks."""
        max_rate = 0.98 * ready * self.saturation_tokens_per_s / self.tokens_per_request
        completed = min(max_rate, rps + self.waiting / STEP_S)
        self.waiting = max(0.0, self.waiting + (rps - completed) * STEP_S)
        utilization = completed * self.tokens_per_request / (ready * self.saturation_tokens_per_s)
        slowdown = 1.0 / (1.0 - utilization)
        queued_s = self.waiting / max_rate
        self.completed_rates.append(completed)
        rate = sum(self.completed_rates) / len(self.completed_rates)
        return {
            "running": min(128.0 * ready, completed * (self.ttft_s + self.output * self.itl_s) * slowdown),
            "waiting": self.waiting,
            "requests_per_s": rate,
            "prompt_tokens_per_s": rate * self.prompt,
            "generation_tokens_per_s": rate * self.output,
            **_latency_readings("ttft", self.ttft_s * slowdown + queued_s, TTFT, 1.0),
            **_latency_readings("itl", self.itl_s * slowdown, ITL, 0.05),
        }


def _latency_readings(latency: str, mean_s: float, tail: LatencyTail, limit_s: float) -> dict[str, float]:
    """Return the readings of a latency with an exponential tail."""
    return {
        f"{latency}_mean_s": mean_s,
        f"{latency}_late_share": tail.late_share(limit_s, mean_s),
        f"{latency}_p95_s": mean_s * (1.0 + tail.spread * (math.log(20.0) - 1.0)),
    }


@dataclass
class Day:
    """A workload on such engines, tick by tick; a decision takes effect after `lead_ticks` ticks."""

    policy: Predictive = field(default_factory=lambda: Predictive(source="e", rate_window_s=60.0, quantile=0.5))
    slo: Slo = CHAT_SLO
    engines: Engines = field(default_factory=Engines)
    ready: int = 4
    lead_ticks: int = 6
    max_replicas: int = 100
    transform: Callable[[dict[str, float]], dict[str, float]] = lambda values: values
    budget: ErrorBudget | None = None

    def __post_init__(self) -> None:
        self.spec: WorkloadSpec = spec(
            {"predictive": self.policy},
            {"main": Pool(lead_time_s=90.0)},
            slo=self.slo,
            max_replicas=self.max_replicas,
            scale_down=MINUTE,
        )
        self.history = History()
        self.at = NOW
        self.sizes = [self.ready] * (self.lead_ticks + 1)

    def tick(self, rps: float) -> Decision:
        self.at += STEP_S
        self.ready = min(self.sizes[-self.lead_ticks - 1 :])
        values = self.transform(self.engines.readings(rps, self.ready)) if self.ready else {}
        readings: dict[SignalName, Reading[float]] = {
            SignalName(f"e.{name}"): Fresh(value, self.at) for name, value in values.items()
        }
        status = PoolStatus(max(self.sizes[-1], self.ready), self.ready)
        pools = {GPUS: Fresh(status, self.at)}
        observation = Observation(WorkloadName("llm"), self.at, readings, pools, error_budget=self.budget)
        decision = decide(self.spec, self.history, observation)
        self.history.append(tick_of(observation, decision, history_len=len(self.history)))
        self.sizes.append(self.sizes[-1] if decision.target is None else decision.target)
        return decision

    def run(self, rates: Iterator[float] | list[float]) -> list[Decision]:
        return [self.tick(rps) for rps in rates]


def recommendation_of(decision: Decision) -> Recommendation:
    (recommendation,) = decision.recommendations
    return recommendation
