"""Estimates the load of a tick, from which the late requests at any size follow.

The estimate uses the latency lines that the predictive policy learned, or the measured rate of one replica. It is
unknown, which is not zero, where an SLO, a rate or a reading is missing.
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
from policies.recommend.predictive.engine_load import ENGINE_QUANTITIES, SURGE, engine_load
from policies.recommend.predictive.latency_model import LearnedLatency, recall_latencies, slo_limits_s
from policies.recommend.predictive.policy import Predictive

WINDOW_S: Final = 60.0
"""Window for the growth rate of waiting requests: the difference of two successive readings is noise. Seconds."""
BY_LEARNED_LINES: Final = "the latency lines that the predictive policy learned"
BY_REPLICA_RATE: Final = "the measured rate of one replica"
QUANTITIES: Final = ("running", "waiting", "requests_per_s")


@dataclass(frozen=True, slots=True)
class ServingLoad:
    """One tick's load: the arrivals and the maximum rate of one replica, in requests/s.

    `replica_rps` is a lower bound unless `exact`. A request that waits longer than `max_wait_s` is late. `lines` are
    the learned latencies, each with its SLO limit in seconds; empty where none was learned. `total_load` is the load of
    all replicas in units of one replica's saturation.
    """

    arrivals_rps: float
    replica_rps: float
    max_wait_s: float
    exact: bool = True
    total_load: float = 0.0
    lines: tuple[tuple[LearnedLatency, float], ...] = ()

    def late_share(self, serving: float) -> float:
        """Return the share (0 to 1) of requests that are late although they do not queue."""
        if not self.lines or self.total_load <= 0:
            return 0.0
        load = self.total_load / serving if serving > 0 else math.inf
        return max(latency.late_share(limit_s, load) for latency, limit_s in self.lines)


@dataclass(frozen=True, slots=True)
class LateRequestContext:
    """The input of an estimate: one policy's specification, its history and its tick."""

    spec: WorkloadSpec
    history: History
    tick: Tick


@dataclass(slots=True)
class LateRequestEstimator:
    """Estimates the load of ticks.

    Remembers the rate of one replica, and the requests that waited.
    """

    replica_rps: float = 0.0
    exact: bool = False
    _load_per_rps: float = 0.0
    _waited: deque[tuple[float, float]] = field(default_factory=deque)

    def estimate(self, contexts: Sequence[LateRequestContext]) -> tuple[ServingLoad | None, str]:
        """Return the load by the first context that has the readings, and the method.

        Without a load, return None and the reason.
        """
        max_wait_s = next((wait_s for c in contexts if (wait_s := max_wait_of(c.spec)) is not None), None)
        if max_wait_s is None:
            lacking = "SLO" if all(c.spec.slo is None for c in contexts) else "limit of a wait in its SLO"
            return None, f"the workload has no {lacking}: set slo.ttft_s or slo.e2e_s"
        for context in contexts:
            for name, policy in context.spec.policies.items():
                if isinstance(policy, Predictive):
                    load = self._by_learned_lines(context, name, policy, max_wait_s)
                    return load, BY_LEARNED_LINES if load else "the engines' readings are not fresh"
        loads = (self._by_replica_rate(c, max_wait_s) for c in contexts)
        load = next((load for load in loads if load is not None), None)
        return load, BY_REPLICA_RATE if load else f"no source provides fresh readings of {', '.join(QUANTITIES)}"

    def shift(self, step_s: float) -> None:
        self._waited = deque((at + step_s, n) for at, n in self._waited)

    def _by_learned_lines(
        self, context: LateRequestContext, name: PolicyName, policy: Predictive, max_wait_s: float
    ) -> ServingLoad | None:
        tick, observation = context.tick, context.tick.observation
        used = tuple(SignalName(f"{policy.source}.{quantity}") for quantity in ENGINE_QUANTITIES)
        values = {signal: r.value for signal in used if isinstance(r := observation.readings.get(signal), Fresh)}
        if len(values) < len(used) or tick.decision.ready is None:
            return None
        policy_context = PolicyContext(
            observation.at, observation.readings, tick.decision.ready, tick.decision.current, None, context.history
        )
        load = engine_load(policy_context, used, values, policy.capacity)
        learned = recall_latencies(_policy_memory(tick, name))
        self._load_per_rps = load.work_per_request or self._load_per_rps
        saturation = min(latency.line.saturation for latency in learned.values())
        queue_growth_rps = self._growth_rps(observation, _visible(observation, context.spec))
        arriving_per_completed = load.arriving / load.processed if load.processed > 0 else 1.0
        return ServingLoad(
            arrivals_rps=max(0.0, load.requests_per_s * arriving_per_completed + queue_growth_rps),
            replica_rps=saturation / self._load_per_rps if self._load_per_rps else math.inf,
            max_wait_s=max_wait_s,
            total_load=load.arriving,
            lines=tuple((learned[key], limit_s) for key, limit_s in slo_limits_s(context.spec).items()),
        )

    def _by_replica_rate(self, context: LateRequestContext, max_wait_s: float) -> ServingLoad | None:
        """Return the load by completed requests and the growth of requests in the system.

        The replicas completed these requests.

        The rate of one replica is exact once requests wait. Example: 2 ready replicas complete 10 requests/s, and
        within 30 s the running and waiting requests grow from 10 to 70: one replica completes 5 requests/s, and
        10 + 60 / 30 = 12 requests/s arrive.
        """
        observation, ready = context.tick.observation, context.tick.decision.ready
        rates = next(_rates(observation, context.spec), None)
        if rates is None or ready is None:
            return None
        running, waiting, completed_rps = (rates[quantity] for quantity in QUANTITIES)
        if ready:
            replica_rps = completed_rps / ready
            if waiting > SURGE * ready and replica_rps:
                self.replica_rps, self.exact = replica_rps, True
            else:
                self.replica_rps = max(self.replica_rps, replica_rps)
        growth_rps = self._growth_rps(observation, running + waiting + _visible(observation, context.spec))
        return ServingLoad(max(0.0, completed_rps + growth_rps), self.replica_rps, max_wait_s, self.exact)

    def _growth_rps(self, observation: Observation, waiting: float) -> float:
        """Return the growth of the waiting requests over the last `WINDOW_S`, in requests/s."""
        while self._waited and self._waited[0][0] < observation.at - WINDOW_S:
            self._waited.popleft()
        first = self._waited[0] if self._waited else (observation.at, waiting)
        self._waited.append((observation.at, waiting))
        return (waiting - first[1]) / (observation.at - first[0]) if observation.at > first[0] else 0.0


def max_wait_of(spec: WorkloadSpec) -> float | None:
    """Return how long a request may wait before it is late, in seconds; None without an SLO."""
    deadlines_s = [
        p.queue_deadline_s for p in spec.policies.values() if isinstance(p, Predictive) and p.queue is not None
    ]
    if deadlines_s:
        return float(deadlines_s[0])
    return None if spec.slo is None else spec.slo.ttft_s or spec.slo.e2e_s


def _policy_memory(tick: Tick, name: PolicyName) -> Mapping[str, float]:
    return next((r.memory for r in tick.decision.recommendations if r.policy == name), {})


def _rates(observation: Observation, spec: WorkloadSpec) -> Iterator[dict[str, float]]:
    """Yield the rates of each source that has fresh and complete readings of all of them."""
    for source in spec.sources:
        readings = {quantity: observation.readings.get(SignalName(f"{source}.{quantity}")) for quantity in QUANTITIES}
        values = {q: r.value for q, r in readings.items() if isinstance(r, Fresh) and not r.missing}
        if len(values) == len(QUANTITIES):
            yield values


def _visible(observation: Observation, spec: WorkloadSpec) -> float:
    """Return the messages in queues before the engines, of the sources with a fresh reading."""
    readings = (observation.readings.get(SignalName(f"{source}.visible")) for source in spec.sources)
    return sum(r.value for r in readings if isinstance(r, Fresh))
