"""The share of requests that a size answers late, estimated from measured ticks.

It follows from the line that the predictive policy learned, or from what one replica was seen to answer.

Where a promise, a rate or a reading is missing it is not known, which is not zero.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from policies.history.ticks import History
from policies.model import Fresh, Observation, PolicyName, SignalName, Tick
from policies.model.spec import WorkloadSpec
from policies.recommend.context import PolicyContext
from policies.recommend.predictive.engine_load import ENGINE_QUANTITIES, SURGE, ReplicaCapacity, engine_load
from policies.recommend.predictive.latency_model import LearnedLatency, recall_latencies, slo_limits_s
from policies.recommend.predictive.policy import Predictive

WINDOW_S: Final = 60.0
"""What waits grows or falls over so long: gauges of one turn and the next are noise."""
LEARNT: Final = "the line that the predictive policy learnt"
ANSWERED: Final = "requests that one replica answered"
RATES: Final = ("running", "waiting", "requests_per_s")


@dataclass(frozen=True, slots=True)
class EngineLoadLine:
    """One turn's load. `each_rps` is what one replica answers at the most; a lower bound of that unless `sure`.

    `patience_s` is how long a request may wait, `lines` what was learnt of each latency by load per replica (in
    saturations, `coming` over all) and its promise, empty where none was learnt.
    """

    arrivals_rps: float
    each_rps: float
    patience_s: float
    sure: bool = True
    coming: float = 0.0
    lines: tuple[tuple[LearnedLatency, float], ...] = ()

    def late_share(self, serving: float) -> float:
        """Return the share of requests that come late though they do not queue. A share, 0 to 1."""
        if not self.lines or self.coming <= 0:
            return 0.0
        load = self.coming / serving if serving > 0 else math.inf
        return max(learnt.late_share(limit_s, load) for learnt, limit_s in self.lines)


@dataclass(frozen=True, slots=True)
class LateRequestContext:
    """What one policy's turn knows: its specification, the past that it has, and its tick."""

    spec: WorkloadSpec
    history: History
    tick: Tick


@dataclass(slots=True)
class LateRequestEstimator:
    """Measures turns. It remembers what one replica answered, and how much waited before the engines."""

    each_rps: float = 0.0
    sure: bool = False
    _each: float = 0.0
    _waited: deque[tuple[float, float]] = field(default_factory=deque)

    def measure(self, turns: Sequence[LateRequestContext]) -> tuple[EngineLoadLine | None, str]:
        """Return the load by the first of these turns that tells it, and how; or None and why not."""
        patience_s = next((p for t in turns if (p := patience(t.spec)) is not None), None)
        if patience_s is None:
            return None, "nothing is promised: give slo.ttft_s or slo.e2e_s"
        for turn in turns:
            for name, policy in turn.spec.policies.items():
                if isinstance(policy, Predictive):
                    load = self._learnt(turn, name, policy, patience_s)
                    return load, LEARNT if load else "the engines' readings are not fresh"
        load = next((found for t in turns if (found := self._answered(t, patience_s)) is not None), None)
        return load, ANSWERED if load else f"no source tells {', '.join(RATES)}, fresh"

    def shift(self, step_s: float) -> None:
        self._waited = deque((at + step_s, n) for at, n in self._waited)

    def _learnt(
        self, turn: LateRequestContext, name: PolicyName, policy: Predictive, patience_s: float
    ) -> EngineLoadLine | None:
        seen, said = turn.tick.observation, _reported_latencies(turn.tick, name)
        used = tuple(SignalName(f"{policy.source}.{quantity}") for quantity in ENGINE_QUANTITIES)
        values = {signal: r.value for signal in used if isinstance(r := seen.readings.get(signal), Fresh)}
        if len(values) < len(used) or turn.tick.decision.ready is None:
            return None
        worth = ReplicaCapacity(policy.prompt_tokens_per_s, policy.generation_tokens_per_s, policy.rate_window_s)
        view = PolicyContext(
            seen.at, seen.readings, turn.tick.decision.ready, turn.tick.decision.current, None, turn.history
        )
        load = engine_load(view, used, values, worth)
        learnt = recall_latencies(said)
        self._each = load.work_per_request or self._each
        most = min(known.line.saturation for known in learnt.values())
        before_rps = self._grown_per_s(seen, _visible(seen, turn.spec))
        part = load.arriving / load.processed if load.processed > 0 else 1.0
        return EngineLoadLine(
            arrivals_rps=max(0.0, load.requests_per_s * part + before_rps),
            each_rps=most / self._each if self._each else math.inf,
            patience_s=patience_s,
            coming=load.arriving,
            lines=tuple((learnt[key], limit_s) for key, limit_s in slo_limits_s(turn.spec).items()),
        )

    def _answered(self, turn: LateRequestContext, patience_s: float) -> EngineLoadLine | None:
        seen, ready = turn.tick.observation, turn.tick.decision.ready
        found = next(_rates(seen, turn.spec), None)
        if found is None or ready is None:
            return None
        running, waiting, answered_rps = (found[quantity] for quantity in RATES)
        if ready:
            each_rps = answered_rps / ready
            if waiting > SURGE * ready and each_rps:
                self.each_rps, self.sure = each_rps, True
            else:
                self.each_rps = max(self.each_rps, each_rps)
        grown_per_s = self._grown_per_s(seen, running + waiting + _visible(seen, turn.spec))
        return EngineLoadLine(max(0.0, answered_rps + grown_per_s), self.each_rps, patience_s, self.sure)

    def _grown_per_s(self, seen: Observation, waits: float) -> float:
        """By how much more came than was taken."""
        while self._waited and self._waited[0][0] < seen.at - WINDOW_S:
            self._waited.popleft()
        first = self._waited[0] if self._waited else (seen.at, waits)
        self._waited.append((seen.at, waits))
        return (waits - first[1]) / (seen.at - first[0]) if seen.at > first[0] else 0.0


def patience(spec: WorkloadSpec) -> float | None:
    """Return how long a request may wait before it is late, in seconds; None where nothing is promised."""
    queued = [p.queue_deadline_s for p in spec.policies.values() if isinstance(p, Predictive) and p.queue is not None]
    if queued:
        return float(queued[0])
    return None if spec.slo is None else spec.slo.ttft_s or spec.slo.e2e_s


def _reported_latencies(tick: Tick, name: PolicyName) -> Mapping[str, float]:
    return next((r.memory for r in tick.decision.recommendations if r.policy == name), {})


def _rates(seen: Observation, spec: WorkloadSpec) -> Iterator[dict[str, float]]:
    """Yield each source that tells rates, fresh and whole."""
    for source in spec.sources:
        readings = {quantity: seen.readings.get(SignalName(f"{source}.{quantity}")) for quantity in RATES}
        values = {q: r.value for q, r in readings.items() if isinstance(r, Fresh) and not r.missing}
        if len(values) == len(RATES):
            yield values


def _visible(seen: Observation, spec: WorkloadSpec) -> float:
    """Return what waits in queues before the engines, as far as it is told."""
    readings = (seen.readings.get(SignalName(f"{source}.visible")) for source in spec.sources)
    return sum(r.value for r in readings if isinstance(r, Fresh))
